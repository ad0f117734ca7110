/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over plain sockets, and the read buffer of a connection. See stream.h. */
#include "stream.h"

#include <causeway/causeway.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int64_t moved_or_status(ssize_t moved)
{
	if (moved > 0)
		return moved;
	if (moved == 0)
		return CW_ERR_CLOSED;
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? CW_ERR_AGAIN : CW_ERR_IO;
}

static int64_t plain_readv(struct cw__tcp_stream *stream, const struct iovec *places, int count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)places, .msg_iovlen = (size_t)count };

	if (count == 1) /* the kernel has less to look at */
		return moved_or_status(recv(stream->fd, places->iov_base, places->iov_len, MSG_DONTWAIT));
	return moved_or_status(recvmsg(stream->fd, &message, MSG_DONTWAIT));
}

static int64_t plain_writev(struct cw__tcp_stream *stream, const struct iovec *places, int count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)places, .msg_iovlen = (size_t)count };

	if (count == 1)
		return moved_or_status(
			send(stream->fd, places->iov_base, places->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL));
	return moved_or_status(sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static void plain_finish(struct cw__tcp_stream *stream)
{
	(void)shutdown(stream->fd, SHUT_WR);
}

static void plain_close(struct cw__tcp_stream *stream)
{
	close(stream->fd);
}

static const struct cw__tcp_stream_ops plain = {
	.readv = plain_readv,
	.writev = plain_writev,
	.finish = plain_finish,
	.close = plain_close,
};

struct cw__tcp_stream cw__tcp_stream_plain(int fd)
{
	return (struct cw__tcp_stream){ .ops = &plain, .fd = fd };
}

void cw__tcp_stream_close(struct cw__tcp_stream *stream)
{
	if (stream->fd < 0)
		return;
	stream->ops->close(stream);
	stream->fd = -1;
}

int cw__tcp_input_init(struct cw__tcp_input *input, size_t capacity)
{
	*input = (struct cw__tcp_input){ .data = malloc(capacity), .capacity = capacity };
	return input->data ? CW_OK : CW_ERR_NO_MEMORY;
}

void cw__tcp_input_free(struct cw__tcp_input *input)
{
	free(input->data);
	*input = (struct cw__tcp_input){ 0 };
}

void cw__tcp_input_reset(struct cw__tcp_input *input)
{
	input->at = 0;
	input->end = 0;
	input->dry = 0;
	input->likely = 0;
}

/* How much to read behind what is there. */
static size_t wanted_more(const struct cw__tcp_input *input)
{
	size_t have = cw__tcp_input_have(input);

	return input->likely > have ? input->likely - have : input->capacity - have;
}

void cw__tcp_input_consume(struct cw__tcp_input *input, size_t length)
{
	input->at += length;
	if (input->at == input->end) {
		input->at = 0;
		input->end = 0;
	}
}

int64_t cw__tcp_input_fill(struct cw__tcp_input *input, struct cw__tcp_stream *stream)
{
	struct iovec place;
	int64_t moved;

	if (input->dry)
		return CW_ERR_AGAIN;
	if (input->at) {
		memmove(input->data, input->data + input->at, input->end - input->at);
		input->end -= input->at;
		input->at = 0;
	}
	place = (struct iovec){ input->data + input->end, wanted_more(input) };
	moved = cw__tcp_stream_readv(stream, &place, 1);
	if (moved > 0) {
		input->end += (size_t)moved;
		input->dry = (size_t)moved < place.iov_len;
	} else {
		input->dry = moved == CW_ERR_AGAIN;
	}
	return moved;
}

/* Copies what the buffer holds to the places. */
static int64_t place_buffered(struct cw__tcp_input *input, const struct iovec *places, int count)
{
	int64_t placed = 0;

	for (int i = 0; i < count && cw__tcp_input_have(input); i++) {
		size_t length = places[i].iov_len;

		if (length > cw__tcp_input_have(input))
			length = cw__tcp_input_have(input);
		memcpy(places[i].iov_base, cw__tcp_input_bytes(input), length);
		cw__tcp_input_consume(input, length);
		placed += (int64_t)length;
	}
	return placed;
}

int64_t cw__tcp_input_place(struct cw__tcp_input *input, struct cw__tcp_stream *stream, const struct iovec *places,
			    int count)
{
	struct iovec all[CW__TCP_PLACES_MAX + 1];
	size_t wanted = 0;
	int64_t moved;

	if (cw__tcp_input_have(input))
		return place_buffered(input, places, count);
	if (input->dry)
		return CW_ERR_AGAIN;
	for (int i = 0; i < count; i++) {
		all[i] = places[i];
		wanted += places[i].iov_len;
	}
	/* One call reads the rest of the payload and the header that follows it. */
	all[count] = (struct iovec){ input->data, wanted_more(input) };
	moved = cw__tcp_stream_readv(stream, all, count + 1);
	input->dry = moved == CW_ERR_AGAIN;
	if (moved <= 0)
		return moved;
	input->dry = (size_t)moved < wanted + all[count].iov_len;
	if ((size_t)moved <= wanted)
		return moved;
	input->end = (size_t)moved - wanted;
	return (int64_t)wanted;
}

int64_t cw__tcp_input_drop(struct cw__tcp_input *input, struct cw__tcp_stream *stream, uint64_t length)
{
	size_t dropped;

	if (!cw__tcp_input_have(input)) {
		int64_t moved = cw__tcp_input_fill(input, stream);

		if (moved <= 0)
			return moved;
	}
	dropped = cw__tcp_input_have(input) < length ? cw__tcp_input_have(input) : (size_t)length;
	cw__tcp_input_consume(input, dropped);
	return (int64_t)dropped;
}
