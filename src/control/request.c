/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of an established link. Native ones share its connection, are numbered and may be answered in any order;
 * classic ones have a connection each. Every accepted request is answered exactly once: by the peer, by its timer, or
 * by the end of the connection.
 */
#include <control/control.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <util/cursor.h>

#define AHEAD_BYTES (16u * 1024)
#define FRAMES_PER_TURN 64
#define SPARE_MAX 64

/* A native request that waits for its answer. */
struct cw__pending {
	struct cw__list node; /* a bucket of the link, or its spare list */
	struct cw__link *link;
	struct cw_timer timer;
	uint64_t sequence;
	uint16_t type;
	cw__answer_fn answer;
	void *arg;
};

/* A classic request on its own connection. */
struct cw__exchange {
	struct cw__dial dial;
	struct cw__link *link;
	struct cw_timer timer;
	enum cw__classic_type type;
	cw__answer_fn answer;
	void *arg;
};

void cw__requests_init(struct cw__link *link)
{
	for (unsigned i = 0; i < CW__PENDING_BUCKETS; i++)
		cw__list_init(&link->pending[i]);
	cw__list_init(&link->spare);
	cw__list_init(&link->exchanges);
}

void cw__requests_free(struct cw__link *link)
{
	struct cw__list *at;

	while ((at = cw__list_pop(&link->spare)))
		free(cw__container(at, struct cw__pending, node));
}

/* ------------------------------------------------------------------------------------ native answers */

/* Takes it off its list first: the callback may send, or close the link. */
static void pending_answer(struct cw__pending *pending, int status, const void *body, size_t length)
{
	struct cw__link *link = pending->link;
	cw__answer_fn answer = pending->answer;
	void *arg = pending->arg;

	link->host->ops->timer_stop(link->loop, &pending->timer);
	cw__list_remove(&pending->node);
	if (link->spare_count < SPARE_MAX) {
		link->spare_count++;
		cw__list_push_front(&link->spare, &pending->node);
	} else {
		free(pending);
	}
	answer(arg, status, body, length);
}

static void pending_late(struct cw_timer *timer)
{
	struct cw__pending *pending = cw__container(timer, struct cw__pending, timer);
	struct cw__link *link = pending->link;

	cw__link_enter(link);
	pending_answer(pending, CW_ERR_TIMED_OUT, NULL, 0);
	cw__link_leave(link);
}

static struct cw__pending *pending_find(struct cw__link *link, uint64_t sequence)
{
	cw__list_each(node, &link->pending[sequence % CW__PENDING_BUCKETS])
	{
		struct cw__pending *pending = cw__container(node, struct cw__pending, node);

		if (pending->sequence == sequence)
			return pending;
	}
	return NULL;
}

void cw__requests_end(struct cw__link *link, int status)
{
	for (unsigned i = 0; i < CW__PENDING_BUCKETS; i++)
		while (!cw__list_empty(&link->pending[i]))
			pending_answer(cw__container(link->pending[i].next, struct cw__pending, node), status, NULL, 0);
}

/* NULL = fine, else what is wrong. An answer that comes after its request timed out is dropped. */
static const char *reply_take(struct cw__link *link, const struct cw__control_header *header, const void *body)
{
	struct cw__pending *pending = pending_find(link, header->sequence);

	if (header->status > 0 || header->sequence == 0 || header->sequence > link->sequence)
		return "malformed reply";
	if (!pending)
		return NULL;
	if ((pending->type | CW__CONTROL_REPLY) != header->type)
		return "a reply of another type than its request";
	pending_answer(pending, header->status, body, header->length);
	return NULL;
}

static const char *push_take(struct cw__link *link, const struct cw__control_header *header, const void *body)
{
	struct cw__reader reader = cw__reader_init(body, header->length);
	uint64_t id = cw__get_u64(&reader);

	if (header->type != CW__CONTROL_REGION_GONE || header->sequence || reader.bad || cw__reader_left(&reader))
		return "malformed push";
	cw__core_region_gone(link->segment, id);
	return NULL;
}

static int link_bad(struct cw__link *link, const char *what)
{
	link->host->ops->protocol_error(link->host, link->target.text, what);
	cw__link_lost(link, CW_ERR_PROTOCOL, what);
	return CW_ERR_PROTOCOL;
}

/* One whole frame. CW_OK: go on. ERR_AGAIN: more bytes are needed. Else the link is lost or closed. */
static int frame_take(struct cw__link *link)
{
	struct cw__control_stream *stream = &link->stream;
	struct cw__control_header header;
	const unsigned char *body;
	const char *bad;

	if (cw__control_stream_held(stream) < CW__CONTROL_HEADER_BYTES)
		return CW_ERR_AGAIN;
	if (cw__control_header_decode(cw__control_stream_data(stream), &header))
		return link_bad(link, "malformed header of a control frame");
	if (cw__control_stream_held(stream) < CW__CONTROL_HEADER_BYTES + (size_t)header.length)
		return CW_ERR_AGAIN;
	if (header.type == CW__CONTROL_BYE) {
		cw__link_lost(link, CW_ERR_PEER_DOWN, "it said goodbye");
		return CW_ERR_PEER_DOWN;
	}
	body = cw__control_stream_data(stream) + CW__CONTROL_HEADER_BYTES;
	bad = header.type & CW__CONTROL_REPLY ? reply_take(link, &header, body) : push_take(link, &header, body);
	if (link->closed)
		return CW_ERR_CLOSED;
	if (bad)
		return link_bad(link, bad);
	cw__control_stream_consume(stream, CW__CONTROL_HEADER_BYTES + (size_t)header.length);
	return CW_OK;
}

/* How much to read: the frame that has begun, or ahead. */
static size_t frame_until(const struct cw__control_stream *stream)
{
	struct cw__control_header header;
	size_t whole;

	if (cw__control_stream_held(stream) < CW__CONTROL_HEADER_BYTES ||
	    cw__control_header_decode(cw__control_stream_data(stream), &header))
		return AHEAD_BYTES;
	whole = CW__CONTROL_HEADER_BYTES + (size_t)header.length;
	return whole > AHEAD_BYTES ? whole : AHEAD_BYTES;
}

static void link_serve(struct cw__link *link)
{
	struct cw__control_stream *stream = &link->stream;
	int status = cw__control_stream_flush(stream);
	char why[120], cause[80];

	stream->again = 0;
	if (!status)
		status = cw__control_stream_fill(stream, frame_until(stream));
	if (status) {
		const char *text = status == CW_ERR_IO       ? strerror_r(errno, cause, sizeof(cause))
				   : status == CW_ERR_CLOSED ? "it closed the connection"
							     : cw_strerror(status);

		snprintf(why, sizeof(why), "connection lost: %s", text);
		cw__link_lost(link, CW_ERR_PEER_DOWN, why);
		return;
	}
	for (unsigned i = 0; i < FRAMES_PER_TURN; i++) {
		status = frame_take(link);
		if (status == CW_ERR_AGAIN)
			break;
		if (status)
			return;
	}
	stream->again = !status;
	if (cw__control_stream_update(stream))
		cw__link_lost(link, CW_ERR_PEER_DOWN, "the connection cannot be watched");
}

static void link_ready(struct cw_io *io, uint32_t events)
{
	struct cw__link *link = cw__container(io, struct cw__link, stream.io);

	(void)events;
	cw__link_enter(link);
	link_serve(link);
	cw__link_leave(link);
}

int cw__link_adopt(struct cw__link *link, int fd)
{
	cw__control_stream_free(&link->stream);
	link->stream = (struct cw__control_stream){ .reading = 1 };
	cw__control_socket_keepalive(fd, link->control->peer_timeout);
	return cw__control_stream_open(&link->stream, link->host, link->loop, fd, link_ready);
}

/* ----------------------------------------------------------------------------------- native requests */

static int frame_write(struct cw__link *link, uint16_t type, uint64_t sequence, const void *body, size_t length)
{
	struct cw__control_header header = { .type = type, .length = (uint32_t)length, .sequence = sequence };
	unsigned char *room = cw__control_stream_room(&link->stream, CW__CONTROL_HEADER_BYTES + length);

	if (!room)
		return CW_ERR_NO_MEMORY;
	cw__control_header_encode(&header, room);
	if (length)
		memcpy(room + CW__CONTROL_HEADER_BYTES, body, length);
	return CW_OK;
}

static struct cw__pending *pending_new(struct cw__link *link)
{
	struct cw__list *at = cw__list_pop(&link->spare);

	if (!at)
		return calloc(1, sizeof(struct cw__pending));
	link->spare_count--;
	return cw__container(at, struct cw__pending, node);
}

int cw__link_request(struct cw__link *link, uint16_t type, const void *body, size_t length, uint64_t timeout,
		     cw__answer_fn answer, void *arg)
{
	struct cw_host *host = link->host;
	struct cw__pending *pending;

	if (link->phase != CW__LINK_UP)
		return CW_ERR_PEER_DOWN;
	if (link->info.classic)
		return CW_ERR_UNSUPPORTED;
	if (length > CW__CONTROL_BODY_MAX)
		return CW_ERR_LIMIT;
	if (cw__control_stream_unsent(&link->stream) > CW__REQUESTS_MAX)
		return CW_ERR_NO_MEMORY;
	pending = pending_new(link);
	if (!pending)
		return CW_ERR_NO_MEMORY;
	if (frame_write(link, type, link->sequence + 1, body, length)) {
		free(pending);
		return CW_ERR_NO_MEMORY;
	}
	pending->link = link;
	pending->sequence = ++link->sequence;
	pending->type = type;
	pending->answer = answer;
	pending->arg = arg;
	pending->timer.fire = pending_late;
	cw__list_push_back(&link->pending[pending->sequence % CW__PENDING_BUCKETS], &pending->node);
	host->ops->timer_set(link->loop, &pending->timer, cw__after(host->ops->now(), timeout));
	/* Of a broken connection the loop hears at once, and that answers this request: the caller must not be called
	 * back from here. */
	if (!cw__control_stream_flush(&link->stream))
		cw__control_stream_update(&link->stream);
	return CW_OK;
}

void cw__link_goodbye(struct cw__link *link)
{
	if (link->stream.host && link->stream.io.fd >= 0 && !frame_write(link, CW__CONTROL_BYE, 0, NULL, 0))
		cw__control_stream_flush(&link->stream);
	cw__control_stream_close(&link->stream);
}

/* ---------------------------------------------------------------------------------- classic requests */

static void exchange_answer(struct cw__exchange *exchange, int status, const char *json, size_t length)
{
	exchange->link->host->ops->timer_stop(exchange->link->loop, &exchange->timer);
	cw__list_remove(&exchange->dial.node);
	exchange->answer(exchange->arg, status, json, length);
	cw__dial_stop(&exchange->dial);
	free(exchange);
}

void cw__exchanges_end(struct cw__link *link, int status)
{
	while (!cw__list_empty(&link->exchanges))
		exchange_answer(cw__container(link->exchanges.next, struct cw__exchange, dial.node), status, NULL, 0);
}

static void exchange_late(struct cw_timer *timer)
{
	struct cw__exchange *exchange = cw__container(timer, struct cw__exchange, timer);
	struct cw__link *link = exchange->link;

	cw__link_enter(link);
	exchange_answer(exchange, CW_ERR_TIMED_OUT, NULL, 0);
	cw__link_leave(link);
}

/* Documents are decoded by who asked for them; of the short answers only the form counts. */
static int exchange_check(const struct cw__exchange *exchange, const char *json, size_t length)
{
	char why[120];

	if (exchange->type == CW__CLASSIC_METADATA)
		return CW_OK;
	return cw__classic_object_check(json, length, 1, why, sizeof(why));
}

static void exchange_done(struct cw__dial *dial, int status)
{
	struct cw__exchange *exchange = cw__container(dial, struct cw__exchange, dial);
	struct cw__link *link = exchange->link;
	const char *json = NULL;
	size_t length = 0;

	cw__link_enter(link);
	if (!status)
		status = cw__dial_classic_reply(dial, exchange->type, &json, &length);
	if (!status)
		status = exchange_check(exchange, json, length);
	if (status == CW_ERR_PROTOCOL)
		link->host->ops->protocol_error(link->host, dial->target.text, "malformed classic reply");
	exchange_answer(exchange, status, status ? NULL : json, status ? 0 : length);
	cw__link_leave(link);
}

/* Answers: CONNECT (nothing was sent), PEER_DOWN (sent, no reply), TIMED_OUT, PROTOCOL. */
int cw__link_classic_request(struct cw__link *link, enum cw__classic_type type, const char *json, size_t length,
			     uint64_t timeout, cw__answer_fn answer, void *arg)
{
	struct cw_host *host = link->host;
	struct cw__exchange *exchange;
	unsigned char *message;
	size_t size;
	int status;

	if (!link->was_up)
		return CW_ERR_PEER_DOWN;
	size = cw__classic_encode(type, json, length, NULL, 0);
	exchange = calloc(1, sizeof(*exchange));
	message = malloc(size ? size : 1);
	if (!exchange || !message) {
		status = CW_ERR_NO_MEMORY;
		goto fail;
	}
	cw__classic_encode(type, json, length, message, size);
	exchange->link = link;
	exchange->type = type;
	exchange->answer = answer;
	exchange->arg = arg;
	exchange->timer.fire = exchange_late;
	exchange->dial.target = link->target;
	exchange->dial.reply_max = link->control->classic_max;
	exchange->dial.done = exchange_done;
	status = cw__dial_start(&exchange->dial, host, link->loop, message, size);
	if (status)
		goto fail;
	free(message);
	cw__list_push_back(&link->exchanges, &exchange->dial.node);
	host->ops->timer_set(link->loop, &exchange->timer, cw__after(host->ops->now(), timeout));
	return CW_OK;
fail:
	free(message);
	free(exchange);
	return status;
}
