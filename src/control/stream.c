/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffered bytes over a non-blocking socket. Memory follows what really arrived: a buffer at most doubles, so a length
 * that a peer only announces costs nothing.
 */
#include <control/control.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define TURN_BYTES (256u * 1024) /* read or sent before other connections get their turn */
#define FIRST_BYTES 1024u
#define KEEP_BYTES (16u * 1024) /* an empty buffer above this is given back */

static void buffer_free(struct cw__buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct cw__buffer){ 0 };
}

/* Makes room for length bytes after end. */
static int buffer_reserve(struct cw__buffer *buffer, size_t length)
{
	size_t held = buffer->end - buffer->start, capacity = buffer->capacity;
	unsigned char *data;

	if (length <= capacity - buffer->end)
		return CW_OK;
	if (buffer->start) {
		memmove(buffer->data, buffer->data + buffer->start, held);
		buffer->start = 0;
		buffer->end = held;
	}
	if (length <= capacity - held)
		return CW_OK;
	if (length > SIZE_MAX / 2 - held)
		return CW_ERR_NO_MEMORY;
	capacity = capacity ? capacity : FIRST_BYTES;
	while (capacity < held + length)
		capacity *= 2;
	data = realloc(buffer->data, capacity);
	if (!data)
		return CW_ERR_NO_MEMORY;
	buffer->data = data;
	buffer->capacity = capacity;
	return CW_OK;
}

static void buffer_consume(struct cw__buffer *buffer, size_t length)
{
	buffer->start += length;
	if (buffer->start < buffer->end)
		return;
	buffer->start = 0;
	buffer->end = 0;
	if (buffer->capacity > KEEP_BYTES)
		buffer_free(buffer);
}

int cw__control_stream_open(struct cw__control_stream *stream, struct cw_host *host, struct cw_loop *loop, int fd,
			    void (*ready)(struct cw_io *io, uint32_t events))
{
	int status;

	stream->host = host;
	stream->io = (struct cw_io){ .fd = fd, .ready = ready };
	stream->io.events = stream->reading ? EPOLLIN : EPOLLOUT;
	status = host->ops->io_add(loop, &stream->io);
	if (status) {
		close(fd);
		stream->io.fd = -1;
	}
	return status;
}

int cw__control_stream_release(struct cw__control_stream *stream)
{
	int fd = stream->io.fd;

	if (fd >= 0)
		stream->host->ops->io_remove(&stream->io);
	stream->io.fd = -1;
	return fd;
}

void cw__control_stream_close(struct cw__control_stream *stream)
{
	int fd = stream->host ? cw__control_stream_release(stream) : -1;

	if (fd >= 0)
		close(fd);
}

void cw__control_stream_free(struct cw__control_stream *stream)
{
	cw__control_stream_close(stream);
	buffer_free(&stream->in);
	buffer_free(&stream->out);
}

/* How much to ask for: all that is wanted, but at most as much again as is already there. */
static size_t fill_step(const struct cw__control_stream *stream, size_t until)
{
	size_t held = cw__control_stream_held(stream), step = until - held;
	size_t most = held < FIRST_BYTES ? FIRST_BYTES : held;

	if (most > TURN_BYTES)
		most = TURN_BYTES;
	return step < most ? step : most;
}

int cw__control_stream_fill(struct cw__control_stream *stream, size_t until)
{
	size_t total = 0;

	while (cw__control_stream_held(stream) < until && total < TURN_BYTES) {
		size_t step = fill_step(stream, until);
		ssize_t count;

		if (buffer_reserve(&stream->in, step))
			return CW_ERR_NO_MEMORY;
		count = recv(stream->io.fd, stream->in.data + stream->in.end, step, MSG_DONTWAIT);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return CW_OK;
		if (count <= 0) {
			if (total)
				return CW_OK;
			return count == 0 ? CW_ERR_CLOSED : CW_ERR_IO;
		}
		stream->in.end += (size_t)count;
		total += (size_t)count;
		if ((size_t)count < step)
			return CW_OK;
	}
	return CW_OK;
}

void cw__control_stream_consume(struct cw__control_stream *stream, size_t length)
{
	buffer_consume(&stream->in, length);
}

int cw__control_stream_drain(struct cw__control_stream *stream)
{
	unsigned char dropped[4096];

	for (size_t total = 0; total < TURN_BYTES;) {
		ssize_t count = recv(stream->io.fd, dropped, sizeof(dropped), MSG_DONTWAIT);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return CW_OK;
		if (count <= 0)
			return count == 0 ? CW_ERR_CLOSED : CW_ERR_IO;
		total += (size_t)count;
	}
	return CW_OK;
}

unsigned char *cw__control_stream_room(struct cw__control_stream *stream, size_t length)
{
	unsigned char *room;

	if (buffer_reserve(&stream->out, length))
		return NULL;
	room = stream->out.data + stream->out.end;
	stream->out.end += length;
	return room;
}

int cw__control_stream_write(struct cw__control_stream *stream, const void *data, size_t length)
{
	unsigned char *room = cw__control_stream_room(stream, length);

	if (!room)
		return CW_ERR_NO_MEMORY;
	if (length)
		memcpy(room, data, length);
	return CW_OK;
}

void cw__control_stream_unwrite(struct cw__control_stream *stream, size_t length)
{
	stream->out.end -= length;
}

int cw__control_stream_flush(struct cw__control_stream *stream)
{
	size_t total = 0;

	while (cw__control_stream_unsent(stream) && total < TURN_BYTES) {
		size_t step = cw__control_stream_unsent(stream);
		ssize_t count;

		step = step < TURN_BYTES ? step : TURN_BYTES;
		count = send(stream->io.fd, stream->out.data + stream->out.start, step, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? CW_OK : CW_ERR_IO;
		buffer_consume(&stream->out, (size_t)count);
		total += (size_t)count;
	}
	return CW_OK;
}

int cw__control_stream_update(struct cw__control_stream *stream)
{
	uint32_t events = stream->reading ? EPOLLIN : 0;

	if (cw__control_stream_unsent(stream) || stream->again)
		events |= EPOLLOUT;
	return events == stream->io.events ? CW_OK : stream->host->ops->io_modify(&stream->io, events);
}
