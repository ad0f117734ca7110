/* SPDX-License-Identifier: Apache-2.0 */
/* One connection outwards that sends one message and collects one reply; link.c races several of them. */
#include <control/control.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

void cw__dial_stop(struct cw__dial *dial)
{
	cw__control_stream_free(&dial->stream);
}

const char *cw__dial_reason(const struct cw__dial *dial, int status)
{
	static _Thread_local char text[80];

	if (dial->error)
		return strerror_r(dial->error, text, sizeof(text));
	if (status == CW_ERR_PROTOCOL)
		return "the reply has an impossible length";
	if (status == CW_ERR_PEER_DOWN)
		return "it closed the connection without an answer";
	return cw_strerror(status);
}

/* A connection to a free port of this machine can meet itself: both ends are then one. */
static int dial_met_itself(int fd)
{
	struct sockaddr_storage here, there;
	socklen_t here_length = sizeof(here), there_length = sizeof(there);

	memset(&here, 0, sizeof(here));
	memset(&there, 0, sizeof(there));
	if (getsockname(fd, (struct sockaddr *)&here, &here_length) ||
	    getpeername(fd, (struct sockaddr *)&there, &there_length))
		return 0;
	return here_length == there_length && !memcmp(&here, &there, here_length);
}

static int dial_connected(struct cw__dial *dial)
{
	socklen_t length = sizeof(dial->error);

	if (getsockopt(dial->stream.io.fd, SOL_SOCKET, SO_ERROR, &dial->error, &length))
		dial->error = errno;
	if (!dial->error && dial_met_itself(dial->stream.io.fd))
		dial->error = ECONNREFUSED;
	if (dial->error)
		return CW_ERR_CONNECT;
	dial->connected = 1;
	dial->stream.reading = 1;
	return CW_OK;
}

/* The prefix is here: how long is the whole? */
static int dial_measure(struct cw__dial *dial)
{
	const unsigned char *prefix = cw__control_stream_data(&dial->stream);
	size_t rest;
	int status;

	if (dial->native)
		status = cw__prefix_decode(prefix, dial->reply_max, &rest);
	else
		status = cw__classic_length_decode(prefix, dial->reply_max, &rest);
	if (!status)
		dial->wanted += rest;
	return status;
}

/* ERR_AGAIN: not the whole reply yet. */
static int dial_read(struct cw__dial *dial)
{
	size_t prefix = dial->native ? CW__PREFIX_BYTES : CW__CLASSIC_LENGTH_BYTES;
	int status = cw__control_stream_fill(&dial->stream, dial->wanted);

	if (status == CW_ERR_IO)
		dial->error = errno;
	if (status)
		return status == CW_ERR_NO_MEMORY ? status : CW_ERR_PEER_DOWN;
	if (cw__control_stream_held(&dial->stream) < dial->wanted)
		return CW_ERR_AGAIN;
	if (dial->wanted > prefix)
		return CW_OK;
	status = dial_measure(dial);
	return status ? status : dial_read(dial);
}

static void dial_ready(struct cw_io *io, uint32_t events)
{
	struct cw__dial *dial = cw__container(io, struct cw__dial, stream.io);
	int status = CW_OK;

	(void)events;
	if (!dial->connected)
		status = dial_connected(dial);
	if (!status && cw__control_stream_flush(&dial->stream)) {
		dial->error = errno;
		status = CW_ERR_PEER_DOWN;
	}
	if (!status)
		status = dial_read(dial);
	if (status == CW_ERR_AGAIN) {
		status = cw__control_stream_update(&dial->stream);
		if (!status)
			return;
		dial->error = errno;
	}
	dial->done(dial, status);
}

int cw__dial_start(struct cw__dial *dial, struct cw_host *host, struct cw_loop *loop, const void *request,
		   size_t length)
{
	const struct cw__target *target = &dial->target;
	int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), status;

	if (fd < 0) {
		dial->error = errno;
		return CW_ERR_CONNECT;
	}
	cw__control_socket_nodelay(fd);
	if (connect(fd, (const struct sockaddr *)&target->address, target->length) && errno != EINPROGRESS) {
		dial->error = errno;
		close(fd);
		return CW_ERR_CONNECT;
	}
	dial->wanted = dial->native ? CW__PREFIX_BYTES : CW__CLASSIC_LENGTH_BYTES;
	status = cw__control_stream_open(&dial->stream, host, loop, fd, dial_ready);
	if (!status)
		status = cw__control_stream_write(&dial->stream, request, length);
	if (status)
		cw__dial_stop(dial);
	return status;
}

int cw__dial_classic_reply(const struct cw__dial *dial, enum cw__classic_type type, const char **json_out,
			   size_t *length_out)
{
	const unsigned char *body = cw__control_stream_data(&dial->stream) + CW__CLASSIC_LENGTH_BYTES;
	struct cw__classic_frame frame;

	if (cw__classic_body_decode(body, dial->wanted - CW__CLASSIC_LENGTH_BYTES, &frame) || frame.type != type)
		return CW_ERR_PROTOCOL;
	*json_out = frame.json;
	*length_out = frame.json_length;
	return CW_OK;
}
