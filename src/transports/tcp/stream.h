/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every byte of the tcp transport goes through a stream: readv, writev, finish, close. Today there is one kind, a plain
 * socket; TLS would be a second table. struct cw__tcp_input is the read buffer of a connection: small things (headers,
 * tables) are parsed from it, payload goes past it, straight to where it belongs.
 */
#ifndef CW_TCP_STREAM_H
#define CW_TCP_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct cw__tcp_stream;

struct cw__tcp_stream_ops {
	/* Never block. Bytes moved (> 0), CW_ERR_AGAIN, CW_ERR_CLOSED (the other end is done; readv only) or CW_ERR_IO.
	 */
	int64_t (*readv)(struct cw__tcp_stream *stream, const struct iovec *places, int count);
	int64_t (*writev)(struct cw__tcp_stream *stream, const struct iovec *places, int count);
	/* Nothing more will be written; reading goes on. */
	void (*finish)(struct cw__tcp_stream *stream);
	void (*close)(struct cw__tcp_stream *stream);
};

struct cw__tcp_stream {
	const struct cw__tcp_stream_ops *ops;
	int fd; /* -1 = closed */
};

/* A stream over a connected, non-blocking socket; owns fd from now on. */
struct cw__tcp_stream cw__tcp_stream_plain(int fd);

static inline int64_t cw__tcp_stream_readv(struct cw__tcp_stream *stream, const struct iovec *places, int count)
{
	return stream->ops->readv(stream, places, count);
}

static inline int64_t cw__tcp_stream_writev(struct cw__tcp_stream *stream, const struct iovec *places, int count)
{
	return stream->ops->writev(stream, places, count);
}

static inline void cw__tcp_stream_finish(struct cw__tcp_stream *stream)
{
	stream->ops->finish(stream);
}

/* Does nothing when it is closed already. */
void cw__tcp_stream_close(struct cw__tcp_stream *stream);

/* The read buffer of a connection. Bytes [at, end) wait to be parsed. */
struct cw__tcp_input {
	unsigned char *data;
	size_t capacity, at, end;
	int dry; /* the last read took all there was: no use asking again before the next event */
	/* What comes next is probably a header of this length, and a payload that is better read to where it belongs
	 * than copied from here. 0 = small things, as many as there are. */
	size_t likely;
};

/* A payload of this length is not worth copying. */
#define CW__TCP_DIRECT_BYTES (32u * 1024)

int cw__tcp_input_init(struct cw__tcp_input *input, size_t capacity);
void cw__tcp_input_free(struct cw__tcp_input *input);
/* Forgets everything, for a new connection. */
void cw__tcp_input_reset(struct cw__tcp_input *input);

static inline size_t cw__tcp_input_have(const struct cw__tcp_input *input)
{
	return input->end - input->at;
}

static inline const unsigned char *cw__tcp_input_bytes(const struct cw__tcp_input *input)
{
	return input->data + input->at;
}

/* Drops the first length bytes, which must be there. */
void cw__tcp_input_consume(struct cw__tcp_input *input, size_t length);

/* Reads more into the buffer: bytes added, or a status as for readv. CW_ERR_AGAIN without a system call when dry. */
int64_t cw__tcp_input_fill(struct cw__tcp_input *input, struct cw__tcp_stream *stream);

/* What one call sends at most. The receiver takes it in as it comes, so that a longer call is no longer pause for it;
 * but each end of one costs a short segment and a turn of both sides: 256 KiB a call are 6 % slower. */
#define CW__TCP_SEND_MAX (1024u * 1024)

/* Reads payload into count places (at most CW__TCP_PLACES_MAX): from the buffer if it holds any, else from the stream,
 * with what comes behind the payload going to the buffer. Returns the bytes placed (> 0) or a status as for readv. */
#define CW__TCP_PLACES_MAX 256
int64_t cw__tcp_input_place(struct cw__tcp_input *input, struct cw__tcp_stream *stream, const struct iovec *places,
			    int count);

/* Reads and drops up to length bytes: bytes dropped (> 0) or a status. */
int64_t cw__tcp_input_drop(struct cw__tcp_input *input, struct cw__tcp_stream *stream, uint64_t length);

#endif
