/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one listener of an engine. Accepts, gives every connection a deadline, and lets its first 8 bytes decide who
 * parses the rest: classic_server.c or native_server.c. No connection can hold up another: nothing here waits, every
 * buffer is bounded, and what does not say what it wants in time is closed.
 */
#include <control/control.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64
#define PARSES_PER_TURN 64
#define ACCEPT_PAUSE (100 * CW__MS)

static struct cw__connection *connection_of(struct cw_io *io)
{
	return cw__container(io, struct cw__connection, stream.io);
}

/* ---------------------------------------------------------------------------------- connections */

void cw__connection_identified(struct cw__connection *connection)
{
	if (cw__list_empty(&connection->unidentified_node))
		return;
	cw__list_remove(&connection->unidentified_node);
	connection->control->unidentified_count--;
	connection->control->host->ops->timer_stop(connection->control->loop, &connection->deadline);
}

void cw__connection_close(struct cw__connection *connection)
{
	struct cw__control *control = connection->control;

	cw__connection_identified(connection);
	control->host->ops->timer_stop(control->loop, &connection->deadline);
	if (!cw__list_empty(&connection->initiator_node)) {
		pthread_mutex_lock(&control->lock);
		cw__list_remove(&connection->initiator_node);
		pthread_mutex_unlock(&control->lock);
	}
	cw__list_remove(&connection->node);
	control->connection_count--;
	cw__control_stream_free(&connection->stream);
	free(connection);
}

int cw__connection_bad(struct cw__connection *connection, const char *what)
{
	struct cw_host *host = connection->control->host;
	char who[80];

	cw__control_socket_peer(connection->stream.io.fd, who, sizeof(who));
	host->ops->protocol_error(host, who, what);
	return CW_ERR_PROTOCOL;
}

void cw__connection_finish(struct cw__connection *connection)
{
	struct cw__control *control = connection->control;
	size_t unsent = cw__control_stream_unsent(&connection->stream);

	/* A large answer gets a second for each MiB on top: a slow network is no offence. */
	cw__connection_identified(connection);
	control->host->ops->timer_set(control->loop, &connection->deadline,
				      control->host->ops->now() + control->idle_timeout + unsent * 1000u);
	connection->finishing = 1;
}

static void connection_late(struct cw_timer *timer)
{
	cw__connection_close(cw__container(timer, struct cw__connection, deadline));
}

/* Parses what is there; `again` stays set when more could be parsed than one turn's share. */
static int connection_parse(struct cw__connection *connection)
{
	struct cw__control_stream *stream = &connection->stream;
	int status;

	stream->again = 0;
	for (unsigned i = 0; i < PARSES_PER_TURN; i++) {
		if (connection->finishing || cw__control_stream_held(stream) < connection->wanted)
			return CW_OK;
		if (cw__control_stream_unsent(stream) > CW__REPLIES_MAX)
			return CW_OK;
		status = connection->parse(connection);
		if (status || connection->handed_over)
			return status;
	}
	stream->again = 1;
	return CW_OK;
}

static int connection_input(struct cw__connection *connection)
{
	struct cw__control_stream *stream = &connection->stream;
	size_t until = connection->wanted > connection->ahead ? connection->wanted : connection->ahead;

	if (connection->half_closed)
		return cw__control_stream_drain(stream);
	if (connection->finishing || !stream->reading)
		return CW_OK;
	return cw__control_stream_fill(stream, until);
}

/* Sends, shuts down when all is said, and asks for the events needed next. */
static int connection_output(struct cw__connection *connection)
{
	struct cw__control_stream *stream = &connection->stream;
	int crowded = cw__control_stream_unsent(stream) > CW__REPLIES_MAX, status = cw__control_stream_flush(stream);

	if (status)
		return status;
	if (connection->finishing && !cw__control_stream_unsent(stream) && !connection->half_closed) {
		if (shutdown(stream->io.fd, SHUT_WR))
			return CW_ERR_IO;
		connection->half_closed = 1;
	}
	/* Whole requests may wait in the input since the output was full: no event of the socket tells of them. */
	if (crowded && cw__control_stream_unsent(stream) <= CW__REPLIES_MAX)
		stream->again = 1;
	stream->reading =
		connection->finishing ? connection->half_closed : cw__control_stream_unsent(stream) <= CW__REPLIES_MAX;
	return cw__control_stream_update(stream);
}

static void connection_ready(struct cw_io *io, uint32_t events)
{
	struct cw__connection *connection = connection_of(io);
	int status = CW_OK;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		status = connection_input(connection);
	if (!status && (events & (EPOLLHUP | EPOLLERR)) && !connection->stream.reading)
		status = CW_ERR_CLOSED;
	if (!status)
		status = connection_parse(connection);
	if (!status && !connection->handed_over)
		status = connection_output(connection);
	if (status || connection->handed_over)
		cw__connection_close(connection);
}

void cw__connection_push(struct cw__connection *connection)
{
	if (connection_output(connection))
		cw__connection_close(connection);
}

/* The first 8 bytes are here. */
static int connection_identify(struct cw__connection *connection)
{
	const unsigned char *first = cw__control_stream_data(&connection->stream);

	if (!memcmp(first, CW__MAGIC_CONTROL, CW__MAGIC_BYTES) || !memcmp(first, CW__MAGIC_DATA, CW__MAGIC_BYTES))
		return cw__native_begin(connection);
	return connection->control->classic ? cw__classic_begin(connection) : CW_ERR_UNSUPPORTED;
}

/* ------------------------------------------------------------------------------------ accepting */

static void close_oldest(struct cw__control *control)
{
	struct cw__list *oldest = control->unidentified.next;

	if (oldest != &control->unidentified)
		cw__connection_close(cw__container(oldest, struct cw__connection, unidentified_node));
}

static void connection_start(struct cw__control *control, int fd)
{
	struct cw__connection *connection;

	if (control->unidentified_count >= control->unidentified_max ||
	    control->connection_count >= control->connections_max)
		close_oldest(control);
	connection = control->connection_count < control->connections_max ? calloc(1, sizeof(*connection)) : NULL;
	if (!connection) {
		control->host->ops->log(control->host, CW_LOG_WARN, "control: connection refused: %s",
					control->connection_count < control->connections_max
						? "out of memory"
						: "control/max_connections are open");
		close(fd);
		return;
	}
	connection->control = control;
	connection->parse = connection_identify;
	connection->wanted = CW__MAGIC_BYTES;
	connection->deadline.fire = connection_late;
	cw__list_init(&connection->initiator_node);
	cw__list_push_back(&control->connections, &connection->node);
	cw__list_push_back(&control->unidentified, &connection->unidentified_node);
	control->connection_count++;
	control->unidentified_count++;
	connection->stream.reading = 1;
	cw__control_socket_nodelay(fd);
	if (cw__control_stream_open(&connection->stream, control->host, control->loop, fd, connection_ready)) {
		cw__connection_close(connection);
		return;
	}
	control->host->ops->timer_set(control->loop, &connection->deadline,
				      control->host->ops->now() + control->idle_timeout);
}

/* Out of descriptors or memory: a level-triggered listener would spin, so it rests. */
static void accept_pause(struct cw__control *control, int cause)
{
	struct cw_host *host = control->host;
	char text[80];

	host->ops->log(host, CW_LOG_WARN, "control: cannot accept connections now: %s",
		       strerror_r(cause, text, sizeof(text)));
	close_oldest(control);
	host->ops->io_modify(&control->listener, 0);
	host->ops->timer_set(control->loop, &control->pause, host->ops->now() + ACCEPT_PAUSE);
}

static void accept_again(struct cw_timer *timer)
{
	struct cw__control *control = cw__container(timer, struct cw__control, pause);

	control->host->ops->io_modify(&control->listener, EPOLLIN);
}

static void accept_ready(struct cw_io *io, uint32_t events)
{
	struct cw__control *control = cw__container(io, struct cw__control, listener);

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			connection_start(control, fd);
			continue;
		}
		switch (errno) {
		case EAGAIN:
			return;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			accept_pause(control, errno);
			return;
		default: /* EINTR, or an error of the one connection that was next */
			continue;
		}
	}
}

static void listener_start(struct cw_task *task)
{
	struct cw__control *control = cw__container(task, struct cw__control, start);
	struct cw_host *host = control->host;

	if (host->ops->io_add(control->loop, &control->listener))
		host->ops->log(host, CW_LOG_ERROR,
			       "control: the listener cannot be watched: nobody can reach this engine");
	else
		control->listening = 1;
}

/* -------------------------------------------------------------------------------- open and close */

static int control_open(struct cw_host *host, struct cw__control **control_out, uint16_t *port_out,
			const char **why_out)
{
	struct cw__control *control = calloc(1, sizeof(*control));
	int status;

	if (!control) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	status = cw__control_socket_listen(host, &control->listener.fd, port_out, why_out);
	if (status) {
		free(control);
		return status;
	}
	control->host = host;
	control->loop = host->ops->loop_pick(host);
	control->connections_max = host->ops->setting_number(host, "control/max_connections", 4096);
	control->unidentified_max = host->ops->setting_number(host, "control/max_unidentified", 256);
	control->classic_max = host->ops->setting_number(host, "control/classic_max_length", CW__CLASSIC_MAX);
	control->idle_timeout = host->ops->setting_number(host, "control/idle_timeout", 5 * CW__SECOND);
	control->peer_timeout = host->ops->setting_number(host, "control/peer_timeout", 5 * CW__SECOND);
	control->classic = host->ops->setting_number(host, "control/classic", 1) != 0;
	cw__list_init(&control->connections);
	cw__list_init(&control->unidentified);
	cw__list_init(&control->initiators);
	cw__list_init(&control->gone);
	cw__list_init(&control->handovers);
	cw__list_init(&control->links);
	pthread_mutex_init(&control->lock, NULL);
	control->listener.events = EPOLLIN;
	control->listener.ready = accept_ready;
	control->pause.fire = accept_again;
	control->gone_task.run = cw__native_gone;
	control->start.run = listener_start;
	host->ops->task_post(control->loop, &control->start);
	*control_out = control;
	return CW_OK;
}

static void control_close(struct cw__control *control)
{
	struct cw_host *host = control->host;

	if (control->listening)
		host->ops->io_remove(&control->listener);
	host->ops->timer_stop(control->loop, &control->pause);
	close(control->listener.fd);
	cw__native_forget(control);
	while (!cw__list_empty(&control->connections))
		cw__connection_close(cw__container(control->connections.next, struct cw__connection, node));
	cw__links_free(control);
	pthread_mutex_destroy(&control->lock);
	free(control);
}

const struct cw__control_ops cw__control = {
	.open = control_open,
	.close = control_close,
	.link_open = cw__link_open,
	.link_close = cw__link_close,
	.link_retry = cw__link_retry,
	.link_move = cw__link_move,
	.request = cw__link_request,
	.classic_request = cw__link_classic_request,
	.region_gone = cw__region_gone,
	.initiator_alive = cw__initiator_alive,
};
