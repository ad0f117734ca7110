/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's side of native data connections. Control hands over a connection with its hello; each frame is checked
 * whole at its header (rights, key, bounds, generation), then again for each chunk: still granted, not too late by our
 * clock, not given up by the initiator. At most one WRITE comes in while one READ goes out, so a connection's memory is
 * bounded; while answers cannot be sent no more frames are read.
 *
 * A connection lives on one loop. Two things come from other loops: `discarded` (guarded by `landing`, which is held
 * while bytes land, so that a cancel is exact) and the order to end because a new connection replaces it (guarded by
 * tcp->lock).
 */
#include "serve.h"
#include "tcp.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CREDITS 64u /* frames an initiator may have unanswered */
#define CREDIT_BYTES (64ull * 1024 * 1024)
#define DISCARDED_MAX 128u /* more than credits: an id that is still to come is never overwritten */
#define INPUT_BYTES (CW__DATA_HEADER_BYTES + CW__DATA_PIECES_MAX * CW__DATA_PIECE_BYTES)
#define ANSWERS_BYTES (CREDITS * CW__DATA_HEADER_BYTES)
#define STALL_BYTES (64u * 1024) /* less payload than this within tcp/stall_timeout is no progress */

enum incoming { IN_HEADER, IN_LANDING, IN_DROPPING };
enum outgoing { OUT_IDLE, OUT_HASHING, OUT_READY, OUT_STARTED };

/* Of frames: the last ones. */
struct frame_ids {
	uint64_t ids[DISCARDED_MAX];
	unsigned count;
};

struct served {
	struct cw__tcp *tcp;
	struct cw_loop *loop;
	struct cw_io io;
	struct cw_timer stall;
	struct cw__tcp_stream stream;
	struct cw__tcp_input input;

	unsigned char instance[CW__INSTANCE_BYTES]; /* of the initiator */
	uint64_t number;                            /* its number for this connection */

	/* Guarded by tcp->lock. */
	struct cw__list link;
	int gone;             /* ended; freed by the task that is on its way */
	int ordered;          /* end_task is on its way */
	int waiting;          /* it is an heir that has not answered its hello yet */
	struct served *heirs; /* connections that answer when this one has ended, linked by next_heir */
	struct served *next_heir;
	struct cw_task end_task, welcome_task;

	pthread_mutex_t landing; /* held while bytes land; guards the next two */
	struct frame_ids discarded;
	struct frame_ids left; /* a device has not come back with a chunk of theirs */

	enum incoming incoming;
	struct cw__data_header frame; /* the one that comes in */
	int frame_status;
	struct cw__tcp_serving in;

	enum outgoing outgoing;
	struct cw__data_header answer; /* the READ that goes out */
	unsigned char head[CW__DATA_HEADER_BYTES];
	size_t head_sent;
	struct cw__tcp_serving out;

	unsigned char answers[ANSWERS_BYTES]; /* whole answers without payload, [sent, end) */
	size_t answers_sent, answers_end;
	int blocked; /* the socket takes no more for now */
	uint64_t moved, moved_at_alarm;
};

/* --------------------------------------------------------------------------------------- the registry */

static struct served *find(struct cw__tcp *tcp, const unsigned char *instance, uint64_t number)
{
	cw__list_each(node, &tcp->served)
	{
		struct served *served = cw__container(node, struct served, link);

		if (!served->gone && served->number == number &&
		    memcmp(served->instance, instance, CW__INSTANCE_BYTES) == 0)
			return served;
	}
	return NULL;
}

static void free_served(struct served *served)
{
	cw__tcp_serving_free(&served->in);
	cw__tcp_serving_free(&served->out);
	cw__tcp_input_free(&served->input);
	pthread_mutex_destroy(&served->landing);
	free(served);
}

/* Ends a connection on its loop: nothing of it lands any more, and its heirs may answer. */
static void end(struct served *served)
{
	struct cw__tcp *tcp = served->tcp;
	const struct cw_host_ops *host = tcp->host->ops;
	struct served *heir;
	int ordered;

	if (served->io.loop) {
		host->io_remove(&served->io);
		served->io.loop = NULL;
	}
	host->timer_stop(served->loop, &served->stall);
	cw__tcp_stream_close(&served->stream);
	atomic_fetch_sub_explicit(&tcp->accepted, 1, memory_order_relaxed);

	pthread_mutex_lock(&tcp->lock);
	heir = served->heirs;
	served->heirs = NULL;
	served->gone = 1;
	ordered = served->ordered;
	if (!ordered)
		cw__list_remove(&served->link);
	while (heir) {
		struct served *next = heir->next_heir;

		host->task_post(heir->loop, &heir->welcome_task);
		heir = next;
	}
	pthread_mutex_unlock(&tcp->lock);
	if (!ordered)
		free_served(served);
}

/* The order to end, given by a connection of another loop. */
static void run_end(struct cw_task *task)
{
	struct served *served = cw__container(task, struct served, end_task);
	struct cw__tcp *tcp = served->tcp;
	int gone;

	pthread_mutex_lock(&tcp->lock);
	served->ordered = 0;
	gone = served->gone;
	if (gone)
		cw__list_remove(&served->link);
	pthread_mutex_unlock(&tcp->lock);
	if (gone)
		free_served(served);
	else
		end(served);
}

static void ids_add(struct frame_ids *list, uint64_t id)
{
	list->ids[list->count++ % DISCARDED_MAX] = id;
}

static int ids_have(const struct frame_ids *list, uint64_t id)
{
	for (unsigned i = 0; i < list->count && i < DISCARDED_MAX; i++)
		if (list->ids[i] == id)
			return 1;
	return 0;
}

int cw__tcp_discard(struct cw__tcp *tcp, const unsigned char *instance, const struct cw__cancel *cancel)
{
	struct served *served;
	int left = 0;

	pthread_mutex_lock(&tcp->lock);
	served = find(tcp, instance, cancel->connection);
	if (served) {
		pthread_mutex_lock(&served->landing);
		for (uint32_t i = 0; i < cancel->count; i++) {
			ids_add(&served->discarded, cancel->frames[i]);
			left |= ids_have(&served->left, cancel->frames[i]);
		}
		pthread_mutex_unlock(&served->landing);
	}
	pthread_mutex_unlock(&tcp->lock);
	/* A connection that is not there any more lands nothing either. */
	return left ? CW_ERR_BUSY : CW_OK;
}

/* ------------------------------------------------------------------------------------------- answers */

static size_t answers_room(const struct served *served)
{
	return ANSWERS_BYTES - served->answers_end;
}

/* An answer without payload. There is room: frames are taken only while there is. */
static void answer(struct served *served, const struct cw__data_header *frame, int status)
{
	struct cw__data_header header = {
		.type = frame->type == CW__DATA_WRITE ? CW__DATA_DONE : CW__DATA_DATA,
		.attempt = frame->attempt,
		.id = frame->id,
		.status = status,
		.clock_ns = served->tcp->host->ops->now(),
	};

	cw__data_header_encode(&header, served->answers + served->answers_end);
	served->answers_end += CW__DATA_HEADER_BYTES;
}

/* What is left of the answers. CW_OK also when the socket is full. */
static int send_answers(struct served *served, int64_t *budget)
{
	while (served->answers_sent < served->answers_end && !served->blocked) {
		struct iovec place = { served->answers + served->answers_sent,
				       served->answers_end - served->answers_sent };
		int64_t moved = cw__tcp_stream_writev(&served->stream, &place, 1);

		if (moved == CW_ERR_AGAIN)
			served->blocked = 1;
		else if (moved < 0)
			return CW_ERR_IO;
		else {
			served->answers_sent += (size_t)moved;
			served->moved += (uint64_t)moved;
			*budget -= moved;
		}
	}
	if (served->answers_sent == served->answers_end) {
		served->answers_sent = 0;
		served->answers_end = 0;
	}
	return CW_OK;
}

static void begin_data(struct served *served)
{
	struct cw__data_header header = {
		.type = CW__DATA_DATA,
		.flags = served->answer.flags,
		.attempt = served->answer.attempt,
		.id = served->answer.id,
		.length = served->answer.length,
		.checksum = served->out.crc,
		.clock_ns = served->tcp->host->ops->now(),
	};

	cw__data_header_encode(&header, served->head);
	served->head_sent = 0;
	served->out.checksum = 0;
	cw__tcp_serving_rewind(&served->out, served->answer.length);
}

/* One step of the READ that goes out: hashes a chunk or sends one. CW_OK also when the socket is full. */
static int send_data(struct served *served, int64_t *budget)
{
	struct cw_host *host = served->tcp->host;
	size_t head_left;
	int64_t moved;
	int refused;

	if (served->outgoing == OUT_HASHING) {
		moved = cw__tcp_serving_hash(host, &served->out, &refused);
		if (moved > 0 && served->out.left == 0)
			served->outgoing = OUT_READY;
	} else {
		if (served->outgoing == OUT_READY) {
			begin_data(served);
			served->outgoing = OUT_STARTED;
		}
		head_left = CW__DATA_HEADER_BYTES - served->head_sent;
		moved = cw__tcp_serving_send(host, &served->out, &served->stream, served->head + served->head_sent,
					     head_left, &refused);
		if (moved > 0)
			served->head_sent += moved < (int64_t)head_left ? (size_t)moved : head_left;
		if (moved > 0 && served->out.left == 0)
			served->outgoing = OUT_IDLE;
	}
	if (moved > 0) {
		served->moved += (uint64_t)moved;
		*budget -= moved;
		return CW_OK;
	}
	if (!refused && moved == CW_ERR_AGAIN) {
		served->blocked = 1;
		return CW_OK;
	}
	/* Memory that goes away in the middle of an answer leaves only one way to say so: the connection ends. */
	if (!refused || (served->outgoing == OUT_STARTED && served->head_sent))
		return CW_ERR_IO;
	answer(served, &served->answer, refused);
	served->outgoing = OUT_IDLE;
	return CW_OK;
}

static int send_all(struct served *served, int64_t *budget)
{
	while (!served->blocked && *budget > 0) {
		if (served->outgoing != OUT_STARTED) {
			int status = send_answers(served, budget);

			if (status || served->blocked)
				return status;
			if (served->outgoing == OUT_IDLE)
				return CW_OK;
		}
		if (send_data(served, budget))
			return CW_ERR_IO;
	}
	return CW_OK;
}

static int output_pending(const struct served *served)
{
	return served->outgoing != OUT_IDLE || served->answers_end > 0;
}

/* -------------------------------------------------------------------------------------------- frames */

/* May more of this frame land now? With the lock `landing` held. */
static int frame_alive(const struct served *served, const struct cw__data_header *frame)
{
	if (ids_have(&served->discarded, frame->id))
		return CW_ERR_CANCELED;
	if (frame->not_after && served->tcp->host->ops->now() > frame->not_after)
		return CW_ERR_TIMED_OUT;
	return CW_OK;
}

static void claim_frame(struct cw__tcp_serving *serving, const struct cw__data_header *frame)
{
	serving->claim = (struct cw_claim){
		.region_id = frame->region,
		.key = frame->key,
		.space = frame->space,
		.op = frame->type == CW__DATA_WRITE ? CW_OP_WRITE : CW_OP_READ,
	};
	serving->count = frame->piece_count;
	serving->checksum = (frame->flags & CW__DATA_CHECKSUM) != 0;
	cw__tcp_serving_rewind(serving, frame->length);
}

static int check_frame(struct served *served, struct cw__tcp_serving *serving, const struct cw__data_header *frame)
{
	int status;

	pthread_mutex_lock(&served->landing);
	status = frame_alive(served, frame);
	pthread_mutex_unlock(&served->landing);
	return status ? status : cw__tcp_serving_check(served->tcp->host, serving);
}

/* Takes header and pieces of the next frame from the buffer. CW_OK; ERR_AGAIN: not all there yet; ERR_BUSY: output must
 * drain first; else the connection ends. */
static int take_frame(struct served *served)
{
	struct cw__data_header frame;
	struct cw__tcp_serving *serving;
	size_t table;
	int status;

	if (cw__tcp_input_have(&served->input) < CW__DATA_HEADER_BYTES)
		return CW_ERR_AGAIN;
	status = cw__data_header_decode(cw__tcp_input_bytes(&served->input), &frame);
	if (status || (frame.type != CW__DATA_WRITE && frame.type != CW__DATA_READ))
		return CW_ERR_PROTOCOL;
	/* One answer for this frame, and one for a READ under way that may yet be refused. */
	if (answers_room(served) < 2u * CW__DATA_HEADER_BYTES)
		return CW_ERR_BUSY;
	if (frame.type == CW__DATA_READ && served->outgoing != OUT_IDLE)
		return CW_ERR_BUSY;
	table = (size_t)frame.piece_count * CW__DATA_PIECE_BYTES;
	if (cw__tcp_input_have(&served->input) < CW__DATA_HEADER_BYTES + table)
		return CW_ERR_AGAIN;

	serving = frame.type == CW__DATA_WRITE ? &served->in : &served->out;
	status = cw__tcp_serving_reserve(serving, frame.piece_count);
	if (status)
		return status;
	status = cw__data_pieces_decode(cw__tcp_input_bytes(&served->input) + CW__DATA_HEADER_BYTES, frame.piece_count,
					frame.length, serving->pieces);
	if (status)
		return CW_ERR_PROTOCOL;
	cw__tcp_input_consume(&served->input, CW__DATA_HEADER_BYTES + table);
	served->input.likely = frame.type == CW__DATA_WRITE && frame.length >= CW__TCP_DIRECT_BYTES
				       ? CW__DATA_HEADER_BYTES + table
				       : 0;
	claim_frame(serving, &frame);
	served->moved += STALL_BYTES; /* a whole header is progress */

	status = check_frame(served, serving, &frame);
	if (frame.type == CW__DATA_WRITE) {
		served->frame = frame;
		served->frame_status = status;
		served->incoming = status ? IN_DROPPING : IN_LANDING;
	} else if (status) {
		answer(served, &frame, status);
	} else {
		served->answer = frame;
		served->outgoing = serving->checksum ? OUT_HASHING : OUT_READY;
	}
	return CW_OK;
}

/* One chunk of a WRITE. Bytes moved, or a status of the stream. */
static int64_t land(struct served *served)
{
	int refused;
	int64_t moved = 0;

	pthread_mutex_lock(&served->landing);
	refused = frame_alive(served, &served->frame);
	if (!refused)
		moved = cw__tcp_serving_receive(served->tcp->host, &served->in, &served->input, &served->stream,
						&refused);
	if (refused == CW_ERR_BUSY)
		ids_add(&served->left, served->frame.id);
	pthread_mutex_unlock(&served->landing);
	if (refused) {
		served->frame_status = refused;
		served->incoming = IN_DROPPING;
	}
	return moved;
}

/* The same of one that was refused. */
static int64_t drop(struct served *served)
{
	int64_t moved = cw__tcp_input_drop(&served->input, &served->stream, served->in.left);

	if (moved > 0)
		served->in.left -= (uint64_t)moved;
	return moved;
}

static int64_t take_payload(struct served *served)
{
	int64_t moved = served->incoming == IN_LANDING ? land(served) : 0;

	if (!moved && served->incoming == IN_DROPPING)
		moved = drop(served);
	if (moved <= 0)
		return moved;
	served->moved += (uint64_t)moved;
	if (served->in.left == 0) {
		if (!served->frame_status && served->in.checksum && served->in.crc != served->frame.checksum)
			served->frame_status = CW_ERR_CHECKSUM;
		answer(served, &served->frame, served->frame_status);
		served->incoming = IN_HEADER;
	}
	return moved;
}

/* Takes what has arrived. CW_OK: it waits for more, for output to drain, or for the next turn. */
static int take_input(struct served *served, int64_t *budget)
{
	for (;;) {
		int64_t moved;

		if (served->incoming == IN_HEADER) {
			int status = take_frame(served);

			if (status == CW_ERR_BUSY)
				return CW_OK;
			if (status && status != CW_ERR_AGAIN)
				return status;
			if (status == CW_OK)
				continue;
		}
		/* The buffer is always emptied: no event would come for what is in it. */
		if (*budget <= 0 && (served->incoming == IN_HEADER || !cw__tcp_input_have(&served->input)))
			return CW_OK;
		moved = served->incoming == IN_HEADER ? cw__tcp_input_fill(&served->input, &served->stream)
						      : take_payload(served);
		if (moved == CW_ERR_AGAIN)
			return CW_OK;
		if (moved < 0)
			return (int)moved;
		*budget -= moved;
	}
}

/* --------------------------------------------------------------------------------------------- events */

/* Is a frame or an answer under way, so that silence means a stall? */
static int under_way(const struct served *served)
{
	return served->incoming != IN_HEADER || cw__tcp_input_have(&served->input) || output_pending(served);
}

static void update(struct served *served)
{
	const struct cw_host_ops *host = served->tcp->host->ops;
	int pending = output_pending(served);
	/* Frames that wait in the buffer are taken when output has drained. */
	int starved =
		pending && served->incoming == IN_HEADER && cw__tcp_input_have(&served->input) >= CW__DATA_HEADER_BYTES;
	uint32_t events = (starved ? 0u : (uint32_t)EPOLLIN) | (pending ? (uint32_t)EPOLLOUT : 0u);

	if (events != served->io.events)
		(void)host->io_modify(&served->io, events);
	if (!under_way(served)) {
		host->timer_stop(served->loop, &served->stall);
	} else if (!served->stall.heap_slot) {
		served->moved_at_alarm = served->moved;
		host->timer_set(served->loop, &served->stall, host->now() + served->tcp->settings.stall_timeout);
	}
}

/* Moves what can be moved now. 1 = something was; the connection may be gone then. */
static int move(struct served *served)
{
	int64_t budget = CW__TCP_VISIT;
	int64_t before;

	do {
		int status = send_all(served, &budget);

		before = budget;
		if (!status)
			status = take_input(served, &budget);
		if (status == CW_ERR_PROTOCOL)
			served->tcp->host->ops->protocol_error(served->tcp->host, "tcp", "malformed data frame");
		if (status) {
			end(served);
			return 1;
		}
	} while (budget > 0 && (budget != before || (output_pending(served) && !served->blocked)));
	update(served);
	return budget < CW__TCP_VISIT;
}

static void ready(struct cw_io *io, uint32_t events)
{
	struct served *served = cw__container(io, struct served, io);

	if (events & ~(uint32_t)EPOLLIN)
		served->blocked = 0;
	if (events & ~(uint32_t)EPOLLOUT)
		served->input.dry = 0;
	(void)move(served);
}

static int poll_input(struct cw_io *io)
{
	struct served *served = cw__container(io, struct served, io);

	if (!(io->events & EPOLLIN)) /* output must drain first */
		return 0;
	served->input.dry = 0;
	return move(served);
}

static void stalled(struct cw_timer *timer)
{
	struct served *served = cw__container(timer, struct served, stall);
	const struct cw_host_ops *host = served->tcp->host->ops;

	if (served->moved - served->moved_at_alarm < STALL_BYTES) {
		host->log(served->tcp->host, CW_LOG_DEBUG, "tcp: a peer's frame made no progress, connection closed");
		end(served);
		return;
	}
	served->moved_at_alarm = served->moved;
	host->timer_set(served->loop, &served->stall, host->now() + served->tcp->settings.stall_timeout);
}

/* --------------------------------------------------------------------------------------------- greeting */

static size_t encode_welcome(struct cw__tcp *tcp, int status, void *out, size_t capacity)
{
	const struct cw_host_ops *host = tcp->host->ops;
	const char *name = host->engine_name(tcp->host);
	struct cw__welcome welcome = {
		.data_connection = 1,
		.status = status,
		.version = CW__NATIVE_VERSION,
		.clock_ns = host->now(),
		.pid = (uint32_t)getpid(),
		.credits = CREDITS,
		.credit_bytes = CREDIT_BYTES,
		.name = { name, (uint16_t)strlen(name) },
	};

	memcpy(welcome.instance, host->instance(tcp->host), CW__INSTANCE_BYTES);
	return cw__welcome_encode(&welcome, out, capacity);
}

/* Says why and closes. A welcome fits into any socket buffer. */
static void refuse(struct cw__tcp *tcp, int fd, int status)
{
	unsigned char bytes[1024];
	struct cw__tcp_stream stream = cw__tcp_stream_plain(fd);
	struct iovec place = { bytes, encode_welcome(tcp, status, bytes, sizeof(bytes)) };

	if (place.iov_len)
		(void)cw__tcp_stream_writev(&stream, &place, 1);
	cw__tcp_stream_close(&stream);
}

/* The connection it replaces has ended: answers the hello and serves. */
static void welcome(struct served *served)
{
	served->answers_end = encode_welcome(served->tcp, CW_OK, served->answers, sizeof(served->answers));
	served->io.events = EPOLLIN;
	if (!served->answers_end || served->tcp->host->ops->io_add(served->loop, &served->io)) {
		end(served);
		return;
	}
	ready(&served->io, EPOLLIN | EPOLLOUT);
}

static void run_welcome(struct cw_task *task)
{
	struct served *served = cw__container(task, struct served, welcome_task);

	pthread_mutex_lock(&served->tcp->lock);
	served->waiting = 0;
	pthread_mutex_unlock(&served->tcp->lock);
	welcome(served);
}

static int check_hello(struct cw__tcp *tcp, const struct cw__hello *hello)
{
	static const unsigned char any[CW__INSTANCE_BYTES];
	const unsigned char *own = tcp->host->ops->instance(tcp->host);

	if (!hello->data_connection || !hello->connection || hello->auth_method)
		return CW_ERR_PROTOCOL;
	if (memcmp(hello->expected, any, sizeof(any)) != 0 && memcmp(hello->expected, own, sizeof(any)) != 0)
		return CW_ERR_PEER_RESTARTED;
	return CW_OK;
}

static struct served *new_served(struct cw__tcp *tcp, struct cw_loop *loop, int fd, const struct cw__hello *hello)
{
	struct served *served = calloc(1, sizeof(*served));

	if (!served)
		return NULL;
	if (cw__tcp_input_init(&served->input, INPUT_BYTES)) {
		free(served);
		return NULL;
	}
	served->tcp = tcp;
	served->loop = loop;
	served->io.fd = fd;
	served->io.ready = ready;
	served->io.poll = poll_input;
	served->stall.fire = stalled;
	served->stream = cw__tcp_stream_plain(fd);
	served->number = hello->connection;
	memcpy(served->instance, hello->instance, CW__INSTANCE_BYTES);
	served->end_task.run = run_end;
	served->welcome_task.run = run_welcome;
	pthread_mutex_init(&served->landing, NULL);
	cw__list_init(&served->link);
	return served;
}

/* Enters the connection. *old_out: one on this loop that must end first. Returns 1 when it has to wait for one on
 * another loop, 0 when not, or CW_ERR_PROTOCOL: its number is taken, or it replaces one that carried nothing yet. */
static int enter(struct served *served, uint64_t replaces, struct served **old_out)
{
	struct cw__tcp *tcp = served->tcp;
	struct served *old;
	int result = 0;

	*old_out = NULL;
	pthread_mutex_lock(&tcp->lock);
	old = replaces ? find(tcp, served->instance, replaces) : NULL;
	if (find(tcp, served->instance, served->number) || (old && old->waiting)) {
		pthread_mutex_unlock(&tcp->lock);
		return CW_ERR_PROTOCOL;
	}
	cw__list_push_back(&tcp->served, &served->link);
	if (old && old->loop == served->loop) {
		*old_out = old;
	} else if (old) {
		served->next_heir = old->heirs;
		old->heirs = served;
		served->waiting = 1;
		result = 1;
		if (!old->ordered) {
			old->ordered = 1;
			tcp->host->ops->task_post(old->loop, &old->end_task);
		}
	}
	pthread_mutex_unlock(&tcp->lock);
	return result;
}

void cw__tcp_serve(struct cw__tcp *tcp, struct cw_loop *loop, int fd, const void *first, size_t length)
{
	struct cw__hello hello;
	struct served *served, *old;
	int status = cw__hello_decode(first, length, &hello);

	if (!status)
		status = check_hello(tcp, &hello);
	if (!status && atomic_load_explicit(&tcp->accepted, memory_order_relaxed) >= tcp->settings.max_connections)
		status = CW_ERR_LIMIT;
	if (status) {
		if (status == CW_ERR_PROTOCOL)
			tcp->host->ops->protocol_error(tcp->host, "tcp", "malformed hello");
		refuse(tcp, fd, status);
		return;
	}
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	cw__tcp_tune(tcp, fd);
	served = new_served(tcp, loop, fd, &hello);
	if (!served) {
		refuse(tcp, fd, CW_ERR_NO_MEMORY);
		return;
	}
	status = enter(served, hello.replaces, &old);
	if (status < 0) {
		tcp->host->ops->protocol_error(tcp->host, "tcp", "bad data connection number");
		refuse(tcp, fd, status);
		free_served(served);
		return;
	}
	atomic_fetch_add_explicit(&tcp->accepted, 1, memory_order_relaxed);
	if (old)
		end(old);
	if (status == 0)
		welcome(served);
}

void cw__tcp_serve_close(struct cw__tcp *tcp)
{
	struct cw__list *node;

	while ((node = cw__list_pop(&tcp->served))) {
		struct served *served = cw__container(node, struct served, link);

		if (!served->gone) {
			if (served->io.loop)
				tcp->host->ops->io_remove(&served->io);
			tcp->host->ops->timer_stop(served->loop, &served->stall);
			cw__tcp_stream_close(&served->stream);
		}
		free_served(served);
	}
}
