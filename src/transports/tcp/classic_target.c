/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's side of Mooncake's data protocol, on a listener of its own: versions 1 and 2 by request, pipelined and
 * mixed on one connection, served strictly in order. The protocol knows no key, so bounds and rights are all that is
 * checked. A refused version 2 request is told so before the connection ends; version 1 has only the end.
 */
#include "serve.h"
#include "tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <util/clock.h>
#include <wire/classic.h>

#define INPUT_BYTES (16u * 1024)
#define STALL_BYTES (64u * 1024)    /* less payload than this within tcp/stall_timeout is no progress */
#define LINGER_TIME (CW__SECOND)    /* how long a refused peer may go on sending before the connection ends */
#define ACCEPT_PAUSE (100 * CW__MS) /* after the process ran out of descriptors */
#define ACCEPTS_PER_VISIT 64
#define CLASSIC_PORT_TRIES 64u
#define STATUSES_MAX 64u /* acknowledgements that wait to be sent */

enum stage { STAGE_HEADER, STAGE_LANDING, STAGE_SENDING, STAGE_REFUSED };

struct classic_served {
	struct cw__tcp *tcp;
	struct cw__list link; /* guarded by tcp->lock */
	struct cw_loop *loop;
	struct cw_task start;
	struct cw_io io;
	struct cw_timer timer; /* stalled, idle, or refused long enough */
	struct cw__tcp_stream stream;
	struct cw__tcp_input input;
	enum stage stage;
	struct cw__classic_header request;
	struct cw__tcp_serving serving;
	unsigned char statuses[STATUSES_MAX * CW__CLASSIC_STATUS_BYTES]; /* [sent, end) */
	size_t statuses_sent, statuses_end;
	int blocked;
	uint64_t moved, moved_at_alarm;
};

struct cw__tcp_listener {
	struct cw__tcp *tcp;
	struct cw_loop *loop;
	struct cw_task start;
	struct cw_io io;
	struct cw_timer pause;
};

/* ------------------------------------------------------------------------------------------ one peer */

static void free_served(struct classic_served *served)
{
	cw__tcp_serving_free(&served->serving);
	cw__tcp_input_free(&served->input);
	free(served);
}

static void end(struct classic_served *served)
{
	struct cw__tcp *tcp = served->tcp;

	if (served->io.loop)
		tcp->host->ops->io_remove(&served->io);
	tcp->host->ops->timer_stop(served->loop, &served->timer);
	cw__tcp_stream_close(&served->stream);
	atomic_fetch_sub_explicit(&tcp->accepted, 1, memory_order_relaxed);
	pthread_mutex_lock(&tcp->lock);
	cw__list_remove(&served->link);
	pthread_mutex_unlock(&tcp->lock);
	free_served(served);
}

/* There is room: requests are taken only while there is. */
static void add_status(struct classic_served *served, uint32_t code)
{
	cw__classic_status_encode(code, served->statuses + served->statuses_end);
	served->statuses_end += CW__CLASSIC_STATUS_BYTES;
}

/* Sends the waiting statuses. CW_OK also when the socket is full. */
static int send_statuses(struct classic_served *served)
{
	while (served->statuses_sent < served->statuses_end && !served->blocked) {
		struct iovec place = { served->statuses + served->statuses_sent,
				       served->statuses_end - served->statuses_sent };
		int64_t moved = cw__tcp_stream_writev(&served->stream, &place, 1);

		if (moved == CW_ERR_AGAIN)
			served->blocked = 1;
		else if (moved < 0)
			return CW_ERR_IO;
		else
			served->statuses_sent += (size_t)moved;
	}
	if (served->statuses_sent == served->statuses_end) {
		served->statuses_sent = 0;
		served->statuses_end = 0;
	}
	return CW_OK;
}

/* Says no. CW_OK: the peer gets some time to read that; else the connection ends at once. */
static int refuse(struct classic_served *served)
{
	if (!served->request.acknowledged)
		return CW_ERR_ACCESS;
	add_status(served, CW__CLASSIC_STATUS_REJECTED);
	served->stage = STAGE_REFUSED;
	served->tcp->host->ops->timer_set(served->loop, &served->timer, served->tcp->host->ops->now() + LINGER_TIME);
	return CW_OK;
}

/* Takes the next request from the buffer. CW_OK, ERR_AGAIN (not all there), ERR_BUSY (statuses must be sent first), or
 * the end. */
static int take_request(struct classic_served *served)
{
	struct cw__classic_header *request = &served->request;

	if (cw__tcp_input_have(&served->input) < CW__CLASSIC_HEADER_BYTES)
		return CW_ERR_AGAIN;
	if (served->statuses_end == sizeof(served->statuses))
		return CW_ERR_BUSY;
	cw__classic_header_decode(cw__tcp_input_bytes(&served->input), request);
	cw__tcp_input_consume(&served->input, CW__CLASSIC_HEADER_BYTES);
	served->moved += STALL_BYTES; /* a whole header is progress */
	served->serving.claim = (struct cw_claim){
		.op = request->write ? CW_OP_WRITE : CW_OP_READ,
		.classic = 1,
	};
	served->serving.pieces[0] = (struct cw__data_piece){ request->address, request->length };
	served->serving.count = 1;
	cw__tcp_serving_rewind(&served->serving, request->length);
	if (cw__tcp_serving_check(served->tcp->host, &served->serving))
		return refuse(served);
	served->stage = request->write ? STAGE_LANDING : STAGE_SENDING;
	if (!request->write && request->acknowledged)
		add_status(served, CW__CLASSIC_STATUS_OK);
	return CW_OK;
}

static int64_t take_payload(struct classic_served *served)
{
	int refused;
	int64_t moved =
		cw__tcp_serving_receive(served->tcp->host, &served->serving, &served->input, &served->stream, &refused);

	if (refused)
		return refuse(served);
	if (moved > 0 && served->serving.left == 0) {
		if (served->request.acknowledged)
			add_status(served, CW__CLASSIC_STATUS_OK);
		served->stage = STAGE_HEADER;
	}
	return moved;
}

static int64_t send_payload(struct classic_served *served)
{
	int refused;
	int64_t moved = cw__tcp_serving_send(served->tcp->host, &served->serving, &served->stream, NULL, 0, &refused);

	if (refused) /* in the middle of an answer there is no other way to say so */
		return CW_ERR_IO;
	if (moved > 0 && served->serving.left == 0)
		served->stage = STAGE_HEADER;
	return moved;
}

/* One step of what the connection does now. Bytes moved; 0 = something else comes next; ERR_AGAIN (also for lack of
 * budget), ERR_BUSY or the end. */
static int64_t step(struct classic_served *served, int64_t budget)
{
	int status;

	switch (served->stage) {
	case STAGE_HEADER:
		status = take_request(served);
		if (status == CW_ERR_AGAIN && budget > 0)
			return cw__tcp_input_fill(&served->input, &served->stream);
		return status;
	case STAGE_LANDING:
		/* The buffer is always emptied: no event would come for what is in it. */
		return budget > 0 || cw__tcp_input_have(&served->input) ? take_payload(served) : CW_ERR_AGAIN;
	case STAGE_SENDING:
		if (send_statuses(served))
			return CW_ERR_IO;
		return served->blocked || budget <= 0 ? CW_ERR_AGAIN : send_payload(served);
	case STAGE_REFUSED:
	default:
		return budget > 0 ? cw__tcp_input_drop(&served->input, &served->stream, UINT64_MAX) : CW_ERR_AGAIN;
	}
}

static void update(struct classic_served *served)
{
	const struct cw_host_ops *host = served->tcp->host->ops;
	int sending = served->stage == STAGE_SENDING || served->statuses_end > 0;
	int receiving = served->stage != STAGE_SENDING && served->statuses_end < sizeof(served->statuses);
	uint32_t events = (receiving ? (uint32_t)EPOLLIN : 0u) | (sending ? (uint32_t)EPOLLOUT : 0u);
	int idle = served->stage == STAGE_HEADER && !cw__tcp_input_have(&served->input) && !sending;
	uint64_t limit = idle ? served->tcp->settings.idle_timeout : served->tcp->settings.stall_timeout;

	if (events != served->io.events)
		(void)host->io_modify(&served->io, events);
	if (served->stage == STAGE_REFUSED)
		return;
	if (!limit) {
		host->timer_stop(served->loop, &served->timer);
	} else if (idle || !served->timer.heap_slot) {
		served->moved_at_alarm = served->moved;
		host->timer_set(served->loop, &served->timer, host->now() + limit);
	}
}

static void ready(struct cw_io *io, uint32_t events)
{
	struct classic_served *served = cw__container(io, struct classic_served, io);
	int64_t budget = CW__TCP_VISIT;
	int64_t moved;

	if (events & ~(uint32_t)EPOLLIN)
		served->blocked = 0;
	if (events & ~(uint32_t)EPOLLOUT)
		served->input.dry = 0;
	do {
		moved = step(served, budget);
		if (moved > 0) {
			budget -= moved;
			served->moved += (uint64_t)moved;
		}
		if (moved == CW_ERR_BUSY && !send_statuses(served) && !served->blocked)
			moved = 0;
	} while (moved >= 0);
	if ((moved != CW_ERR_AGAIN && moved != CW_ERR_BUSY) ||
	    (served->stage != STAGE_SENDING && send_statuses(served))) {
		end(served);
		return;
	}
	/* Our half is closed when the refusal is out, so that the peer sees it before it sees a reset. */
	if (served->stage == STAGE_REFUSED && !served->statuses_end)
		cw__tcp_stream_finish(&served->stream);
	update(served);
}

static void timed_out(struct cw_timer *timer)
{
	struct classic_served *served = cw__container(timer, struct classic_served, timer);
	const struct cw_host_ops *host = served->tcp->host->ops;
	int idle = served->stage == STAGE_HEADER && !cw__tcp_input_have(&served->input);

	if (served->stage == STAGE_REFUSED || idle || served->moved - served->moved_at_alarm < STALL_BYTES) {
		end(served);
		return;
	}
	served->moved_at_alarm = served->moved;
	host->timer_set(served->loop, &served->timer, host->now() + served->tcp->settings.stall_timeout);
}

static void run_start(struct cw_task *task)
{
	struct classic_served *served = cw__container(task, struct classic_served, start);

	served->io.events = EPOLLIN;
	if (served->tcp->host->ops->io_add(served->loop, &served->io))
		end(served);
	else
		ready(&served->io, EPOLLIN);
}

/* ------------------------------------------------------------------------------------------ listener */

static void accept_one(struct cw__tcp *tcp, int fd)
{
	struct classic_served *served = calloc(1, sizeof(*served));

	if (!served) {
		close(fd);
		return;
	}
	if (cw__tcp_input_init(&served->input, INPUT_BYTES) || cw__tcp_serving_reserve(&served->serving, 1)) {
		free_served(served);
		close(fd);
		return;
	}
	cw__tcp_tune(tcp, fd);
	served->tcp = tcp;
	served->loop = tcp->host->ops->loop_pick(tcp->host);
	served->start.run = run_start;
	served->io.fd = fd;
	served->io.ready = ready;
	served->timer.fire = timed_out;
	served->stream = cw__tcp_stream_plain(fd);
	atomic_fetch_add_explicit(&tcp->accepted, 1, memory_order_relaxed);
	pthread_mutex_lock(&tcp->lock);
	cw__list_push_back(&tcp->classic_served, &served->link);
	pthread_mutex_unlock(&tcp->lock);
	tcp->host->ops->task_post(served->loop, &served->start);
}

static void listener_ready(struct cw_io *io, uint32_t events)
{
	struct cw__tcp_listener *listener = cw__container(io, struct cw__tcp_listener, io);
	struct cw__tcp *tcp = listener->tcp;
	const struct cw_host_ops *host = tcp->host->ops;

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_VISIT; i++) {
		int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
			/* The backlog would wake us for ever. */
			host->log(tcp->host, CW_LOG_WARN, "tcp: cannot accept classic connections: %s",
				  strerror(errno));
			(void)host->io_modify(io, 0);
			host->timer_set(listener->loop, &listener->pause, host->now() + ACCEPT_PAUSE);
			return;
		}
		if (fd < 0)
			return;
		if (atomic_load_explicit(&tcp->accepted, memory_order_relaxed) >= tcp->settings.max_connections)
			close(fd);
		else
			accept_one(tcp, fd);
	}
}

static void accept_again(struct cw_timer *timer)
{
	struct cw__tcp_listener *listener = cw__container(timer, struct cw__tcp_listener, pause);

	(void)listener->tcp->host->ops->io_modify(&listener->io, EPOLLIN);
}

static void start_listener(struct cw_task *task)
{
	struct cw__tcp_listener *listener = cw__container(task, struct cw__tcp_listener, start);
	struct cw__tcp *tcp = listener->tcp;

	if (tcp->host->ops->io_add(listener->loop, &listener->io))
		tcp->host->ops->log(tcp->host, CW_LOG_ERROR, "tcp: cannot watch the classic listener");
}

/* The port that was asked for; else one of the range that the control port comes from, because firewalls let those
 * through; else any free one. */
static int listen_somewhere(struct cw__tcp *tcp, const char *address, int *fd_out)
{
	struct cw_host *host = tcp->host;
	uint16_t port = (uint16_t)host->ops->setting_number(host, "tcp/classic_port", 0);
	uint64_t least = host->ops->setting_number(host, "control/port_min", 0);
	uint64_t most = host->ops->setting_number(host, "control/port_max", 0), start = cw__now();

	for (uint64_t i = 0; !port && least && least <= most && i <= most - least && i < CLASSIC_PORT_TRIES; i++) {
		uint16_t one = (uint16_t)(least + (start + i) % (most - least + 1));

		if (!cw__tcp_listen(address, one, fd_out, &tcp->classic_port))
			return CW_OK;
	}
	return cw__tcp_listen(address, port, fd_out, &tcp->classic_port);
}

int cw__tcp_classic_listen(struct cw__tcp *tcp, const char **why_out)
{
	struct cw_host *host = tcp->host;
	const char *bind_to = host->ops->setting(host, "control/bind");
	struct cw__tcp_listener *listener;
	char address[256];
	uint16_t ignored;
	int status;
	int fd;

	if (!bind_to || !*bind_to)
		bind_to = host->ops->engine_name(host);
	if (cw__address_parse(bind_to, 1, address, sizeof(address), &ignored)) {
		*why_out = "the address in control/bind or in the engine's name cannot be parsed";
		return CW_ERR_ADDRESS;
	}
	status = listen_somewhere(tcp, address, &fd);
	if (status) {
		*why_out = "cannot listen for classic connections: see tcp/classic_port, or set tcp/classic = off";
		return status;
	}
	listener = calloc(1, sizeof(*listener));
	if (!listener) {
		close(fd);
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	listener->tcp = tcp;
	listener->loop = host->ops->loop_pick(host);
	listener->start.run = start_listener;
	listener->io.fd = fd;
	listener->io.events = EPOLLIN;
	listener->io.ready = listener_ready;
	listener->pause.fire = accept_again;
	tcp->listener = listener;
	host->ops->task_post(listener->loop, &listener->start);
	return CW_OK;
}

void cw__tcp_classic_serve_close(struct cw__tcp *tcp)
{
	const struct cw_host_ops *host = tcp->host->ops;
	struct cw__tcp_listener *listener = tcp->listener;
	struct cw__list *node;

	if (listener) {
		if (listener->io.loop)
			host->io_remove(&listener->io);
		host->timer_stop(listener->loop, &listener->pause);
		close(listener->io.fd);
		free(listener);
	}
	while ((node = cw__list_pop(&tcp->classic_served))) {
		struct classic_served *served = cw__container(node, struct classic_served, link);

		if (served->io.loop)
			host->io_remove(&served->io);
		host->timer_stop(served->loop, &served->timer);
		cw__tcp_stream_close(&served->stream);
		free_served(served);
	}
}
