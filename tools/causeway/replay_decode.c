/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decode side of `causeway replay`: owns the paged cache and its page table, says which blocks it lacks, and
 * verifies every page that arrives before it counts. One thread, driven by the engine's queue. Messages:
 * replay_protocol.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block_table.h"
#include "lib/child.h"
#include "lib/stop.h"
#include "lib/units.h"
#include "replay.h"
#include "replay_protocol.h"

#define EVENTS 16
#define WAIT_NS (NANOSECONDS / 5)
#define ANSWER_NS (10 * NANOSECONDS)

enum round_state { ROUND_UNUSED = 0, ROUND_WAITING, ROUND_OPEN };

struct round {
	enum round_state state;
	uint32_t count;
	uint64_t hashes[REPLAY_ROUND_BLOCKS_MAX];
	uint32_t slots[REPLAY_ROUND_BLOCKS_MAX];
	unsigned char fresh[REPLAY_ROUND_BLOCKS_MAX]; /* 1 = it arrives with this round */
};

/* Everything from hello to bye. */
struct session {
	struct cw_segment *prefill;
	struct kv_geometry geometry;
	struct engine_memory memory;
	struct block_table *table;
	uint32_t capacity;
	unsigned char *arrived; /* for each slot: its pages were verified */
	struct replay_totals totals;
	uint32_t waiting[REPLAY_ROUNDS_MAX], waiting_first, waiting_count; /* rounds without slots, a ring */
	struct round rounds[REPLAY_ROUNDS_MAX];
};

struct decode {
	struct cw_engine *engine;
	uint64_t memory_limit;
	struct session *session; /* NULL between prefills */
};

static int answer(struct decode *decode, struct cw_segment *to, const char *name, const void *data, size_t length)
{
	struct cw_notify notify = { .segment = to, .name = name, .data = data, .length = length };
	int status = cw_notify_send(decode->engine, &notify, ANSWER_NS);

	if (status != CW_OK)
		engine_report(REPLAY_COMMAND, "cannot answer the prefill", status);
	return status == CW_OK ? 0 : -1;
}

static void session_end(struct decode *decode)
{
	struct session *session = decode->session;

	if (!session)
		return;
	engine_memory_close(&session->memory);
	block_table_close(session->table);
	cw_segment_close(session->prefill);
	free(session->arrived);
	free(session);
	decode->session = NULL;
}

/* Allocates what hello asks for; NULL, or why it cannot. */
static const char *session_fill(struct decode *decode, struct session *session, const struct replay_hello *hello)
{
	const char *wrong = kv_geometry_check(&hello->geometry);
	uint64_t bytes;

	if (hello->version != REPLAY_VERSION)
		return "the prefill is another version of this program";
	if (wrong)
		return wrong;
	if (hello->capacity_blocks == 0 || hello->capacity_blocks > UINT32_MAX / kv_planes(&hello->geometry))
		return "the capacity is out of range";
	bytes = kv_block_bytes(&hello->geometry) * hello->capacity_blocks;
	if (decode->memory_limit && bytes > decode->memory_limit)
		return "the cache would be larger than this side's --memory";
	session->geometry = hello->geometry;
	session->capacity = hello->capacity_blocks;
	session->table = block_table_open(hello->capacity_blocks);
	session->arrived = calloc(hello->capacity_blocks, 1);
	if (!session->table || !session->arrived ||
	    engine_memory_open(REPLAY_COMMAND, decode->engine, bytes, hello->ordinary != 0, &session->memory) != 0)
		return "there is no memory for the cache";
	return NULL;
}

static void on_hello(struct decode *decode, const void *data, size_t length)
{
	struct replay_ready ready = { .ok = 0 };
	struct replay_hello hello;
	struct session *session;
	const char *wrong;

	if (length != sizeof(hello))
		return;
	memcpy(&hello, data, sizeof(hello));
	hello.name[sizeof(hello.name) - 1] = '\0';
	session = calloc(1, sizeof(*session));
	if (!session || engine_segment_open(REPLAY_COMMAND, decode->engine, hello.name, NULL, &session->prefill) != 0) {
		free(session);
		return;
	}
	if (decode->session) {
		snprintf(ready.text, sizeof(ready.text), "it serves another prefill");
		answer(decode, session->prefill, REPLAY_READY, &ready, sizeof(ready));
		cw_segment_close(session->prefill);
		free(session);
		return;
	}
	decode->session = session;
	wrong = session_fill(decode, session, &hello);
	if (wrong) {
		snprintf(ready.text, sizeof(ready.text), "%s", wrong);
	} else {
		ready.ok = 1;
		ready.base = (uint64_t)(uintptr_t)session->memory.address;
	}
	if (answer(decode, session->prefill, REPLAY_READY, &ready, sizeof(ready)) != 0 || wrong)
		session_end(decode);
}

static const unsigned char *page_at(const struct session *session, uint32_t plane, uint32_t slot)
{
	return session->memory.address +
	       ((uint64_t)plane * session->capacity + slot) * kv_page_bytes(&session->geometry);
}

static void count_page(struct session *session, int right)
{
	session->totals.pages_verified++;
	session->totals.pages_wrong += !right;
}

/* 1 when all pages of the block are right. */
static int verify_block(struct session *session, uint64_t hash, uint32_t slot)
{
	int all = 1;

	for (uint32_t plane = 0; plane < kv_planes(&session->geometry); plane++) {
		int right = kv_page_matches(page_at(session, plane, slot), &session->geometry, hash, plane);

		count_page(session, right);
		all &= right;
	}
	return all;
}

/* A block that is used again must still be what it was: one of its pages is looked at, another one for each hash. */
static void check_reused(struct session *session, uint64_t hash, uint32_t slot)
{
	uint32_t plane = (uint32_t)(hash % kv_planes(&session->geometry));

	if (!session->arrived[slot])
		return;
	session->totals.reused_checked++;
	count_page(session, kv_page_matches(page_at(session, plane, slot), &session->geometry, hash, plane));
}

static void unpin_all(struct session *session, struct round *round)
{
	for (uint32_t i = 0; i < round->count; i++)
		if (round->slots[i] != BLOCK_NONE)
			block_table_unpin(session->table, round->slots[i]);
}

/* Pins what is there and takes slots for the rest; the number of fresh blocks, or -1 when too many slots are pinned
 * now. */
static int64_t place_round(struct session *session, struct round *round)
{
	struct block_table *table = session->table;
	uint32_t missing = 0, fresh = 0;

	for (uint32_t i = 0; i < round->count; i++) {
		round->slots[i] = block_table_find(table, round->hashes[i]);
		if (round->slots[i] == BLOCK_NONE)
			missing++;
		else
			block_table_pin(table, round->slots[i]);
	}
	if (missing > block_table_available(table)) {
		unpin_all(session, round);
		return -1;
	}
	for (uint32_t i = 0; i < round->count; i++) {
		if (round->slots[i] != BLOCK_NONE) {
			round->fresh[i] = 0;
			check_reused(session, round->hashes[i], round->slots[i]);
			continue;
		}
		/* It may be there by now: the same hash twice in one request. */
		round->slots[i] = block_table_find(table, round->hashes[i]);
		round->fresh[i] = round->slots[i] == BLOCK_NONE;
		if (round->fresh[i]) {
			round->slots[i] = block_table_take(table, round->hashes[i]);
			session->arrived[round->slots[i]] = 0;
			fresh++;
		} else {
			block_table_pin(table, round->slots[i]);
		}
	}
	return fresh;
}

static int send_slots(struct decode *decode, uint32_t index)
{
	static unsigned char
		message[sizeof(struct replay_slots) + REPLAY_ROUND_BLOCKS_MAX * sizeof(struct replay_slot)];
	struct session *session = decode->session;
	struct round *round = &session->rounds[index];
	struct replay_slots head = { .round = index };
	unsigned char *at = message + sizeof(head);

	for (uint32_t i = 0; i < round->count; i++) {
		struct replay_slot slot = { .position = i, .slot = round->slots[i] };

		if (!round->fresh[i])
			continue;
		memcpy(at, &slot, sizeof(slot));
		at += sizeof(slot);
		head.count++;
	}
	session->totals.evicted = block_table_evictions(session->table);
	head.totals = session->totals;
	memcpy(message, &head, sizeof(head));
	return answer(decode, session->prefill, REPLAY_SLOTS, message, (size_t)(at - message));
}

/* In the order in which they came, as long as there are slots. */
static int serve_waiting(struct decode *decode)
{
	struct session *session = decode->session;

	while (session->waiting_count) {
		uint32_t index = session->waiting[session->waiting_first];
		struct round *round = &session->rounds[index];
		uint64_t begin = units_now();
		int64_t fresh = place_round(session, round);

		session->totals.verify_ns += units_now() - begin;
		if (fresh < 0)
			return 0;
		session->waiting_first = (session->waiting_first + 1) % REPLAY_ROUNDS_MAX;
		session->waiting_count--;
		round->state = ROUND_OPEN;
		if (fresh == 0) {
			unpin_all(session, round);
			round->state = ROUND_UNUSED;
		}
		if (send_slots(decode, index) != 0)
			return -1;
	}
	return 0;
}

static int on_need(struct decode *decode, const void *data, size_t length)
{
	struct session *session = decode->session;
	struct replay_need need;
	struct round *round;

	if (length < sizeof(need))
		return -1;
	memcpy(&need, data, sizeof(need));
	if (need.round >= REPLAY_ROUNDS_MAX || need.count == 0 || need.count > REPLAY_ROUND_BLOCKS_MAX ||
	    need.count > session->capacity || length != sizeof(need) + need.count * sizeof(uint64_t))
		return -1;
	round = &session->rounds[need.round];
	if (round->state != ROUND_UNUSED)
		return -1;
	round->state = ROUND_WAITING;
	round->count = need.count;
	memcpy(round->hashes, (const unsigned char *)data + sizeof(need), need.count * sizeof(uint64_t));
	session->waiting[(session->waiting_first + session->waiting_count++) % REPLAY_ROUNDS_MAX] = need.round;
	return serve_waiting(decode);
}

/* The round that done or drop names; NULL when it names none. */
static struct round *open_round(struct session *session, const void *data, size_t length, uint32_t *index_out)
{
	struct replay_done done;

	if (length != sizeof(done))
		return NULL;
	memcpy(&done, data, sizeof(done));
	if (done.round >= REPLAY_ROUNDS_MAX || session->rounds[done.round].state != ROUND_OPEN)
		return NULL;
	*index_out = done.round;
	return &session->rounds[done.round];
}

static int on_done(struct decode *decode, const void *data, size_t length)
{
	struct session *session = decode->session;
	struct replay_ok ok = { .round = 0 };
	struct round *round = open_round(session, data, length, &ok.round);
	uint64_t begin = units_now(), wrong = session->totals.pages_wrong;

	if (!round)
		return -1;
	for (uint32_t i = 0; i < round->count; i++) {
		if (!round->fresh[i])
			continue;
		if (verify_block(session, round->hashes[i], round->slots[i]))
			session->arrived[round->slots[i]] = 1;
		else
			block_table_forget(session->table, round->slots[i]);
	}
	session->totals.verify_ns += units_now() - begin;
	unpin_all(session, round);
	round->state = ROUND_UNUSED;
	ok.pages_wrong = (uint32_t)(session->totals.pages_wrong - wrong);
	ok.totals = session->totals;
	if (answer(decode, session->prefill, REPLAY_OK, &ok, sizeof(ok)) != 0)
		return -1;
	return serve_waiting(decode);
}

static int on_drop(struct decode *decode, const void *data, size_t length)
{
	struct session *session = decode->session;
	uint32_t index;
	struct round *round = open_round(session, data, length, &index);

	if (!round)
		return -1;
	for (uint32_t i = 0; i < round->count; i++)
		if (round->fresh[i])
			block_table_forget(session->table, round->slots[i]);
	unpin_all(session, round);
	round->state = ROUND_UNUSED;
	return serve_waiting(decode);
}

static void on_notify(struct decode *decode, const struct cw_event *event)
{
	const char *name = event->name ? event->name : "";
	int status = 0;

	if (strcmp(name, REPLAY_HELLO) == 0)
		on_hello(decode, event->data, event->length);
	else if (!decode->session)
		fprintf(stderr, "%s: '%s' from %s, which has not said hello\n", REPLAY_COMMAND, name, event->sender);
	else if (strcmp(name, REPLAY_NEED) == 0)
		status = on_need(decode, event->data, event->length);
	else if (strcmp(name, REPLAY_DONE) == 0)
		status = on_done(decode, event->data, event->length);
	else if (strcmp(name, REPLAY_DROP) == 0)
		status = on_drop(decode, event->data, event->length);
	else if (strcmp(name, REPLAY_BYE) == 0)
		session_end(decode);
	else
		status = -1;
	if (status != 0) {
		fprintf(stderr, "%s: ended the session with %s: it did not follow '%s'\n", REPLAY_COMMAND,
			event->sender, name);
		/* So that it need not wait for an answer. */
		answer(decode, decode->session->prefill, REPLAY_BYE, NULL, 0);
		session_end(decode);
	}
}

int replay_decode(struct cw_engine *engine, uint64_t memory_limit)
{
	struct decode decode = { .engine = engine, .memory_limit = memory_limit };
	struct cw_event events[EVENTS];

	printf("%s: " CHILD_READY "%s\n", REPLAY_COMMAND, cw_engine_name(engine));
	fflush(stdout);
	while (!stop_requested()) {
		int count = cw_queue_wait(cw_engine_queue(engine), events, EVENTS, WAIT_NS);

		if (count < 0) {
			engine_report(REPLAY_COMMAND, "the queue failed", count);
			session_end(&decode);
			return 1;
		}
		for (int i = 0; i < count; i++) {
			if (events[i].kind == CW_EVENT_NOTIFY)
				on_notify(&decode, &events[i]);
			else if (events[i].kind == CW_EVENT_PEER && decode.session &&
				 events[i].segment == decode.session->prefill && events[i].state >= CW_PEER_DOWN)
				session_end(&decode);
			cw_event_clear(&events[i]);
		}
	}
	session_end(&decode);
	return 0;
}
