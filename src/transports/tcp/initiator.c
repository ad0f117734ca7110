/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initiator's side of native data connections: each rail is one connection, frames are pipelined and answered by
 * id, payload goes between the socket and user memory without a copy of ours.
 *
 * What a slice's end may claim is the point of this file. Local memory is quiet as soon as no socket call uses it. The
 * target's memory is quiet when the target says so: by its answer, by the reply to a cancel, or by the welcome to a
 * connection that replaces a broken one (the target ends the old one first). Until then a written slice of a broken
 * connection is a suspect. When the target cannot be asked, the not-after time in the frame fences it.
 */
#include "rail.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <util/clock.h>

#define CANCEL_PATIENCE (200 * CW__MS) /* for the target's reply to a cancel */
#define LOST_PATIENCE (500 * CW__MS)   /* for a peer that is said to be dead */
#define INPUT_BYTES 8192u
#define WELCOME_MAX 4096u

/* A cancel that was sent. The reply may come after the peer was closed: then rail is NULL. */
struct cancel {
	struct cw__list link;
	struct cw__tcp_rail *rail;
	uint64_t id;
};

static atomic_uint_fast64_t connection_numbers;

static enum cw_remote_state quiet(const struct cw__tcp_frame *frame)
{
	(void)frame;
	return CW_REMOTE_QUIET;
}

/* What can be said when the target did not say it. */
static enum cw_remote_state unproved(const struct cw__tcp_frame *frame)
{
	return frame->fenced ? CW_REMOTE_FENCED : CW_REMOTE_UNKNOWN;
}

/* ----------------------------------------------------------------------------------------------- timer */

static void rail_arm(struct cw__tcp_rail *rail)
{
	uint64_t at = rail->stage == RAIL_UP ? CW_FOREVER : rail->deadline;

	for (unsigned i = 0; i < CW__TCP_FRAMES; i++) {
		const struct cw__tcp_frame *frame = &rail->frames[i];

		if (frame->stage != FRAME_FREE && frame->give_up && frame->give_up < at)
			at = frame->give_up;
	}
	if (at == CW_FOREVER)
		cw__tcp_rail_host(rail)->timer_stop(rail->rails->peer->loop, &rail->timer);
	else
		cw__tcp_rail_host(rail)->timer_set(rail->rails->peer->loop, &rail->timer, at);
}

/* --------------------------------------------------------------------------- connecting and breaking */

static void set_events(struct cw__tcp_rail *rail, uint32_t events)
{
	if (rail->io.events != events)
		(void)cw__tcp_rail_host(rail)->io_modify(&rail->io, events);
}

/* Tells the core whether to use this rail. It may be used also when it is not connected: the next post() tries again.
 */
static void report(struct cw__tcp_rail *rail, int status)
{
	struct cw__tcp_rails *rails = rail->rails;

	if ((status != CW_OK) == rail->reported_down)
		return;
	rail->reported_down = status != CW_OK;
	rails->tcp->host->ops->rail_state(rails->tcp->host, rails->peer, rail->index, status);
}

static void close_connection(struct cw__tcp_rail *rail)
{
	if (rail->io.loop) {
		cw__tcp_rail_host(rail)->io_remove(&rail->io);
		rail->io.loop = NULL;
	}
	cw__tcp_stream_close(&rail->stream);
	cw__tcp_input_reset(&rail->input);
	rail->stage = RAIL_DOWN;
	rail->blocked = 0;
	rail->sending = NULL;
	rail->receiving = NULL;
}

/* Ends the suspects, or all other frames. */
static void end_frames(struct cw__tcp_rail *rail, int status, int suspects,
		       enum cw_remote_state (*remote)(const struct cw__tcp_frame *frame))
{
	uint64_t ids[CW__TCP_FRAMES];
	unsigned count = 0;

	/* slice_done() may cancel some of these and post new ones: only those that are here now are meant. */
	for (unsigned i = 0; i < CW__TCP_FRAMES; i++) {
		const struct cw__tcp_frame *frame = &rail->frames[i];

		if (frame->stage != FRAME_FREE && (frame->stage == FRAME_SUSPECT) == suspects)
			ids[count++] = frame->id;
	}
	for (unsigned i = 0; i < count; i++) {
		struct cw__tcp_frame *frame = cw__tcp_frame_find(rail, ids[i]);

		if (frame)
			cw__tcp_frame_end(rail, frame, frame->give_up ? CW_ERR_CANCELED : status, remote(frame));
	}
}

/* The target will not be asked any more. */
static void give_up_suspects(struct cw__tcp_rail *rail)
{
	end_frames(rail, CW_ERR_PEER_DOWN, 1, unproved);
	rail->replaces = 0;
}

/* The connection is gone. What cannot land any more ends now; what may waits for the next connection's welcome. */
static void rail_break(struct cw__tcp_rail *rail, int status)
{
	uint64_t delay;

	if (rail->stage == RAIL_UP)
		rail->replaces = rail->number;
	for (unsigned i = 0; i < CW__TCP_FRAMES; i++) {
		struct cw__tcp_frame *frame = &rail->frames[i];

		if (frame->write && frame->slice && (frame->stage == FRAME_SENDING || frame->stage == FRAME_SENT)) {
			frame->stage = FRAME_SUSPECT;
			rail->unanswered--;
			rail->unanswered_bytes -= frame->length;
		}
	}
	close_connection(rail);
	delay = rail->last_try ? CW_FOREVER : cw__tcp_backoff(rail->tries++);
	rail->deadline = delay == CW_FOREVER ? CW_FOREVER : cw__tcp_rail_host(rail)->now() + delay;
	rail_arm(rail);
	report(rail, status);
	end_frames(rail, status, 0, quiet);
	if (delay == CW_FOREVER) {
		give_up_suspects(rail);
		report(rail, CW_OK);
	}
}

static void rail_start(struct cw__tcp_rail *rail)
{
	struct cw__tcp_rails *rails = rail->rails;
	int fd;
	int status = cw__tcp_dial(rails->tcp, rails->peer->address, rails->peer->port, &fd);

	if (!status) {
		rail->stream = cw__tcp_stream_plain(fd);
		rail->number = atomic_fetch_add_explicit(&connection_numbers, 1, memory_order_relaxed) + 1;
		rail->io.fd = fd;
		rail->io.events = EPOLLOUT;
		rail->stage = RAIL_CONNECTING;
		rail->deadline = cw__tcp_rail_host(rail)->now() + rails->tcp->settings.connect_timeout;
		status = cw__tcp_rail_host(rail)->io_add(rails->peer->loop, &rail->io);
	}
	if (status)
		rail_break(rail, CW_ERR_CONNECT);
	else
		rail_arm(rail);
}

/* Another process answers at the peer's address: the one we knew is gone, and its memory with it. */
static void peer_restarted(struct cw__tcp_rails *rails)
{
	if (rails->dead)
		return;
	rails->dead = CW_ERR_PEER_RESTARTED;
	for (unsigned i = 0; i < rails->count; i++) {
		close_connection(&rails->rails[i]);
		rails->rails[i].deadline = CW_FOREVER;
		rails->rails[i].replaces = 0;
		cw__tcp_rail_host(&rails->rails[i])->timer_stop(rails->peer->loop, &rails->rails[i].timer);
	}
	for (unsigned i = 0; i < rails->count; i++) {
		end_frames(&rails->rails[i], CW_ERR_PEER_RESTARTED, 1, quiet);
		end_frames(&rails->rails[i], CW_ERR_PEER_RESTARTED, 0, quiet);
	}
}

static int send_hello(struct cw__tcp_rail *rail)
{
	struct cw__tcp_rails *rails = rail->rails;
	const struct cw_host_ops *host = cw__tcp_rail_host(rail);
	const char *name = host->engine_name(rails->tcp->host);
	struct cw__hello hello = {
		.data_connection = 1,
		.version = CW__NATIVE_VERSION,
		.clock_ns = host->now(),
		.pid = (uint32_t)getpid(),
		.connection = rail->number,
		.replaces = rail->replaces,
		.name = { name, (uint16_t)strlen(name) },
		.transport = { "tcp", 3 },
	};
	unsigned char bytes[CW__HELLO_MAX];
	struct iovec place = { bytes, 0 };

	memcpy(hello.instance, host->instance(rails->tcp->host), CW__INSTANCE_BYTES);
	memcpy(hello.expected, rails->peer->instance, CW__INSTANCE_BYTES);
	place.iov_len = cw__hello_encode(&hello, bytes, sizeof(bytes));
	if (!place.iov_len)
		return CW_ERR_INTERNAL;
	/* The buffer of a new socket holds more than a hello. */
	return cw__tcp_stream_writev(&rail->stream, &place, 1) == (int64_t)place.iov_len ? CW_OK : CW_ERR_IO;
}

/* Reads the welcome. CW_OK; ERR_AGAIN: not all there; else the connection is of no use. */
static int take_welcome(struct cw__tcp_rail *rail)
{
	struct cw__tcp_rails *rails = rail->rails;
	struct cw__welcome welcome;
	int64_t moved = cw__tcp_input_fill(&rail->input, &rail->stream);
	size_t rest;

	if (moved < 0)
		return (int)moved;
	if (cw__tcp_input_have(&rail->input) < CW__PREFIX_BYTES)
		return CW_ERR_AGAIN;
	if (cw__prefix_decode(cw__tcp_input_bytes(&rail->input), WELCOME_MAX, &rest))
		return CW_ERR_PROTOCOL;
	if (cw__tcp_input_have(&rail->input) < CW__PREFIX_BYTES + rest)
		return CW_ERR_AGAIN;
	if (cw__welcome_decode(cw__tcp_input_bytes(&rail->input), CW__PREFIX_BYTES + rest, &welcome))
		return CW_ERR_PROTOCOL;
	cw__tcp_input_consume(&rail->input, CW__PREFIX_BYTES + rest);
	if (welcome.status)
		return welcome.status < 0 && welcome.status != CW_ERR_AGAIN ? welcome.status : CW_ERR_PROTOCOL;
	if (memcmp(welcome.instance, rails->peer->instance, CW__INSTANCE_BYTES) != 0)
		return CW_ERR_PEER_RESTARTED;
	if (!welcome.data_connection || !welcome.credits)
		return CW_ERR_PROTOCOL;
	cw__tcp_clock_sample(&rails->offset, welcome.clock_ns, cw__tcp_rail_host(rail)->now());
	rail->credits = welcome.credits;
	rail->credit_bytes = welcome.credit_bytes;
	return CW_OK;
}

/* The connection works: the target has ended the one it replaces. */
static void rail_up(struct cw__tcp_rail *rail)
{
	rail->stage = RAIL_UP;
	rail->replaces = 0;
	rail->last_try = 0;
	rail_arm(rail);
	set_events(rail, EPOLLIN);
	end_frames(rail, CW_ERR_IO, 1, quiet);
	report(rail, CW_OK);
}

/* ---------------------------------------------------------------------------------------------- events */

/* Moves what can be moved now. 1 = something has come. */
static int rail_move(struct cw__tcp_rail *rail)
{
	struct cw__tcp_rails *rails = rail->rails;
	int64_t budget = CW__TCP_VISIT;
	int status = cw__tcp_rail_receive(rail, &budget), any = status || budget < CW__TCP_VISIT;

	if (!status && rail->stage == RAIL_UP) {
		budget = CW__TCP_VISIT;
		status = cw__tcp_rail_send(rail, &budget);
	}
	if (status == CW_ERR_PROTOCOL)
		rails->tcp->host->ops->protocol_error(rails->tcp->host, rails->peer->name, "malformed data answer");
	if (status && rail->stage == RAIL_UP)
		rail_break(rail, status);
	return any;
}

/* After everything else of an event: room is told, and what that brings is sent. */
static void rail_settle(struct cw__tcp_rail *rail)
{
	struct cw__tcp_rails *rails = rail->rails;

	if (rail->hungry && rail->stage == RAIL_UP && rail->inflight < CW__TCP_FRAMES) {
		rail->hungry = 0;
		rails->tcp->host->ops->rail_ready(rails->tcp->host, rails->peer, rail->index);
		if (rail->stage == RAIL_UP) {
			int64_t budget = CW__TCP_VISIT;

			if (cw__tcp_rail_send(rail, &budget))
				rail_break(rail, CW_ERR_IO);
		}
	}
	if (rail->stage != RAIL_UP)
		return;
	set_events(rail, EPOLLIN | (cw__tcp_rail_wants_to_send(rail) ? (uint32_t)EPOLLOUT : 0u));
}

static void rail_greeting(struct cw__tcp_rail *rail, uint32_t events)
{
	struct cw__tcp_rails *rails = rail->rails;
	int status;

	if (rail->stage == RAIL_CONNECTING) {
		status = cw__tcp_dial_result(rails->tcp, rail->io.fd);
		if (!status && !(events & EPOLLOUT))
			return;
		if (!status)
			status = send_hello(rail);
		if (!status) {
			rail->stage = RAIL_GREETING;
			set_events(rail, EPOLLIN);
			return;
		}
	} else {
		status = take_welcome(rail);
		if (status == CW_ERR_AGAIN)
			return;
	}
	if (status == CW_ERR_PEER_RESTARTED) {
		peer_restarted(rails);
		rails->tcp->host->ops->peer_failed(rails->tcp->host, rails->peer, status,
						   "the process behind the address is another one");
	} else if (status) {
		rail_break(rail, status == CW_ERR_CLOSED || status == CW_ERR_IO ? CW_ERR_CONNECT : status);
	} else {
		rail_up(rail);
	}
}

static void rail_io(struct cw_io *io, uint32_t events)
{
	struct cw__tcp_rail *rail = cw__container(io, struct cw__tcp_rail, io);

	if (events & ~(uint32_t)EPOLLIN)
		rail->blocked = 0;
	rail->input.dry = 0;
	rail->busy++;
	if (rail->stage == RAIL_CONNECTING || rail->stage == RAIL_GREETING)
		rail_greeting(rail, events);
	if (rail->stage == RAIL_UP)
		(void)rail_move(rail);
	rail_settle(rail);
	rail->busy--;
}

static int rail_poll(struct cw_io *io)
{
	struct cw__tcp_rail *rail = cw__container(io, struct cw__tcp_rail, io);
	int any;

	if (rail->stage != RAIL_UP)
		return 0;
	rail->input.dry = 0;
	rail->busy++;
	any = rail_move(rail);
	rail_settle(rail);
	rail->busy--;
	return any;
}

/* The target did not reply to a cancel in time. */
static void give_up(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame)
{
	int in_part = frame->stage == FRAME_SENDING;

	if (frame->stage == FRAME_SUSPECT)
		cw__tcp_frame_end(rail, frame, CW_ERR_CANCELED, unproved(frame));
	else
		cw__tcp_frame_orphan(rail, frame, CW_ERR_CANCELED, unproved(frame));
	/* Without the target's consent nothing but the frame's own bytes may follow, and they are not ours to read any
	 * more. */
	if (in_part && rail->stage == RAIL_UP && rail->sending == frame)
		rail_break(rail, CW_ERR_TIMED_OUT);
}

static void rail_timer(struct cw_timer *timer)
{
	struct cw__tcp_rail *rail = cw__container(timer, struct cw__tcp_rail, timer);
	uint64_t now = cw__tcp_rail_host(rail)->now();

	rail->busy++;
	for (unsigned i = 0; i < CW__TCP_FRAMES; i++) {
		struct cw__tcp_frame *frame = &rail->frames[i];

		if (frame->stage != FRAME_FREE && frame->give_up && frame->give_up <= now)
			give_up(rail, frame);
	}
	if (rail->stage == RAIL_DOWN && rail->deadline <= now)
		rail_start(rail);
	else if (rail->stage != RAIL_UP && rail->deadline <= now)
		rail_break(rail, CW_ERR_CONNECT);
	rail_arm(rail);
	rail_settle(rail);
	rail->busy--;
}

/* ------------------------------------------------------------------------------------------------ hooks */

static int native_open(struct cw__tcp *tcp, struct cw_peer *peer, void **rails_out)
{
	unsigned count = tcp->settings.connections;
	struct cw__tcp_rails *rails = calloc(1, sizeof(*rails) + count * sizeof(rails->rails[0]));

	if (!rails)
		return CW_ERR_NO_MEMORY;
	rails->tcp = tcp;
	rails->peer = peer;
	rails->count = count;
	cw__list_init(&rails->cancels);
	for (unsigned i = 0; i < count; i++) {
		struct cw__tcp_rail *rail = &rails->rails[i];

		rail->rails = rails;
		rail->index = i;
		rail->stream.fd = -1;
		rail->io.ready = rail_io;
		rail->io.poll = rail_poll;
		rail->timer.fire = rail_timer;
		rail->deadline = CW_FOREVER;
		cw__list_init(&rail->queue);
		for (unsigned k = 0; k < CW__TCP_FRAMES; k++)
			cw__list_init(&rail->frames[k].link);
		if (cw__tcp_input_init(&rail->input, INPUT_BYTES)) {
			while (i--)
				cw__tcp_input_free(&rails->rails[i].input);
			free(rails);
			return CW_ERR_NO_MEMORY;
		}
	}
	*rails_out = rails;
	/* The first attempt is due at once, but not before the core knows this peer. */
	for (unsigned i = 0; i < count; i++) {
		rails->rails[i].deadline = tcp->host->ops->now();
		rail_arm(&rails->rails[i]);
	}
	return CW_OK;
}

static void native_close(void *opened)
{
	struct cw__tcp_rails *rails = opened;
	struct cw__list *node;

	rails->dead = CW_ERR_CLOSED;
	for (unsigned i = 0; i < rails->count; i++) {
		struct cw__tcp_rail *rail = &rails->rails[i];

		for (unsigned k = 0; k < CW__TCP_FRAMES; k++) {
			struct cw__tcp_frame *frame = &rail->frames[k];

			if (frame->stage == FRAME_FREE)
				continue;
			cw__tcp_frame_end(rail, frame, CW_ERR_CANCELED,
					  frame->write && frame->stage != FRAME_QUEUED ? unproved(frame)
										       : CW_REMOTE_QUIET);
		}
		close_connection(rail);
		cw__tcp_rail_host(rail)->timer_stop(rails->peer->loop, &rail->timer);
		cw__tcp_input_free(&rail->input);
	}
	while ((node = cw__list_pop(&rails->cancels)))
		cw__container(node, struct cancel, link)->rail = NULL;
	free(rails);
}

static void native_lost(void *opened, int status)
{
	struct cw__tcp_rails *rails = opened;

	if (status == CW_ERR_PEER_RESTARTED) {
		peer_restarted(rails);
		return;
	}
	/* One quick attempt to reach it tells whether it is really gone, and lets it end what may still land. */
	for (unsigned i = 0; i < rails->count; i++) {
		struct cw__tcp_rail *rail = &rails->rails[i];

		rail->busy++;
		if (rail->stage == RAIL_UP)
			rail_break(rail, CW_ERR_PEER_DOWN);
		rail->last_try = 1;
		if (rail->stage == RAIL_DOWN)
			rail_start(rail);
		if (rail->stage == RAIL_CONNECTING) {
			rail->deadline = cw__tcp_rail_host(rail)->now() + LOST_PATIENCE;
			rail_arm(rail);
		}
		rail->busy--;
	}
}

static unsigned native_post(void *opened, unsigned index, struct cw_slice **slices, unsigned count)
{
	struct cw__tcp_rails *rails = opened;
	struct cw__tcp_rail *rail = &rails->rails[index];
	int64_t budget = CW__TCP_VISIT;
	unsigned taken = 0;

	if (rails->dead) {
		for (; taken < count; taken++)
			cw__tcp_rail_host(rail)->slice_done(slices[taken], rails->dead, CW_REMOTE_QUIET);
		return taken;
	}
	while (taken < count && cw__tcp_frame_new(rail, slices[taken]))
		taken++;
	rail->hungry = taken < count;
	if (rail->stage == RAIL_DOWN && taken) {
		rail->deadline = cw__tcp_rail_host(rail)->now();
		rail_arm(rail);
	}
	if (rail->busy || rail->stage != RAIL_UP)
		return taken;
	rail->busy++;
	if (cw__tcp_rail_send(rail, &budget))
		rail_break(rail, CW_ERR_IO);
	else
		set_events(rail, EPOLLIN | (cw__tcp_rail_wants_to_send(rail) ? (uint32_t)EPOLLOUT : 0u));
	rail->busy--;
	return taken;
}

/* The target's reply: from now on nothing of that frame lands, or (ERR_BUSY) nobody knows. */
static void cancel_answered(void *arg, int status, const void *reply, size_t reply_length)
{
	struct cancel *cancel = arg;
	struct cw__tcp_rail *rail = cancel->rail;
	struct cw__tcp_frame *frame = rail ? cw__tcp_frame_find(rail, cancel->id) : NULL;
	enum cw_remote_state remote = status == CW_ERR_BUSY ? CW_REMOTE_UNKNOWN : CW_REMOTE_QUIET;

	(void)reply;
	(void)reply_length;
	cw__list_remove(&cancel->link);
	free(cancel);
	/* Without a reply the frame's give_up time decides. */
	if ((status && status != CW_ERR_BUSY) || !frame || !frame->slice)
		return;
	rail->busy++;
	if (frame->stage == FRAME_SUSPECT)
		cw__tcp_frame_end(rail, frame, CW_ERR_CANCELED, remote);
	else
		cw__tcp_frame_orphan(rail, frame, CW_ERR_CANCELED, remote);
	if (rail->stage == RAIL_UP) {
		int64_t budget = CW__TCP_VISIT;

		if (cw__tcp_rail_send(rail, &budget))
			rail_break(rail, CW_ERR_IO);
	}
	rail_arm(rail);
	rail_settle(rail);
	rail->busy--;
}

/* Asks the target to let nothing more of the frame land. */
static void ask_to_discard(struct cw__tcp_rail *rail, const struct cw__tcp_frame *frame)
{
	struct cw__tcp_rails *rails = rail->rails;
	struct cw__cancel body = {
		.connection = frame->stage == FRAME_SUSPECT ? rail->replaces : rail->number,
		.count = 1,
		.frames = { frame->id },
	};
	unsigned char bytes[64];
	struct cancel *cancel = malloc(sizeof(*cancel));
	size_t length;

	if (!cancel)
		return;
	bytes[0] = CW__TCP_CANCEL_RAIL;
	length = cw__cancel_encode(&body, bytes + 1, sizeof(bytes) - 1);
	*cancel = (struct cancel){ .rail = rail, .id = frame->id };
	cw__list_init(&cancel->link);
	cw__list_push_back(&rails->cancels, &cancel->link);
	if (!length ||
	    rails->tcp->host->ops->message(rails->tcp->host, rails->peer, bytes, length + 1, cancel_answered, cancel)) {
		cw__list_remove(&cancel->link);
		free(cancel);
	}
}

static void native_cancel(void *rails, struct cw_slice *slice)
{
	struct cw__tcp_rail *rail = (struct cw__tcp_rail *)(uintptr_t)slice->scratch[1];
	struct cw__tcp_frame *frame = cw__tcp_frame_find(rail, slice->scratch[0]);

	(void)rails;
	if (!frame || frame->slice != slice || frame->give_up)
		return;
	if (frame->stage == FRAME_QUEUED) {
		cw__tcp_frame_end(rail, frame, CW_ERR_CANCELED, CW_REMOTE_QUIET);
	} else if (!frame->write) {
		/* Its late payload is dropped; a READ changes nothing over there. */
		cw__tcp_frame_orphan(rail, frame, CW_ERR_CANCELED, CW_REMOTE_QUIET);
	} else {
		frame->give_up = cw__tcp_rail_host(rail)->now() + CANCEL_PATIENCE;
		ask_to_discard(rail, frame);
		rail_arm(rail);
	}
}

const struct cw__tcp_language cw__tcp_native = {
	.open = native_open,
	.close = native_close,
	.lost = native_lost,
	.post = native_post,
	.cancel = native_cancel,
	.checks = "target cpu: bounds, rights, key, generation",
	.why = "sockets, native protocol",
};
