/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prefill side of `causeway replay`: takes the requests in their order, cut into rounds that fit the staging
 * memory, asks the decode side which blocks of a round it lacks, makes those, writes them to the slots that it was
 * told, one vector request for each plane of the cache, and is finished with a round when the decode side has verified
 * it. One thread, several rounds under way. Messages: replay_protocol.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/progress_bar.h"
#include "lib/stop.h"
#include "lib/units.h"
#include "replay.h"
#include "replay_protocol.h"

#define EVENTS 16
#define WAIT_NS (NANOSECONDS / 10)
#define READY_NS (120 * NANOSECONDS)
#define ANSWER_NS (10 * NANOSECONDS)
#define STALL_NS (60 * NANOSECONDS)

enum round_state { ROUND_UNUSED = 0, ROUND_ASKED, ROUND_TOLD, ROUND_SENT };

struct round {
	enum round_state state;
	uint64_t number; /* in the order in which rounds began */
	size_t request;
	const uint64_t *hashes;
	uint32_t count, fresh; /* blocks of the round, and those that have to be sent */
	struct replay_slot slots[REPLAY_ROUND_BLOCKS_MAX];
	uint32_t local_indices[REPLAY_ROUND_BLOCKS_MAX], remote_indices[REPLAY_ROUND_BLOCKS_MAX];
	struct cw_batch *batch;
	int arrived, verified; /* the batch ended; the decode side answered */
};

struct interval {
	uint64_t begin, end;
};

/* What is still to be done for a request, and what it took so far. */
struct request_progress {
	size_t rounds_left;
	uint64_t transfer_ns;
};

struct prefill {
	const struct replay_plan *plan;
	struct replay_report *report;
	struct cw_engine *engine;
	struct cw_segment *decode;
	uint64_t remote; /* of the decode side's cache */
	struct engine_memory staging;
	uint32_t *free_slots, free_count; /* of the staging memory */
	uint32_t round_blocks;            /* at most */
	struct cw_request *requests;      /* one for each plane, used again for each round */
	struct round *rounds;             /* plan->in_flight */
	uint32_t busy_rounds;
	uint64_t round_number;
	size_t next_request, next_block; /* where the next round begins */
	struct request_progress *progress;
	struct interval *intervals; /* when transfers were under way, one for each round */
	size_t interval_count;
	uint64_t start_ns, news_ns; /* begin of the run; the last time something happened */
	int failed;                 /* nothing more is begun */
};

static void __attribute__((format(printf, 2, 3))) fail(struct prefill *prefill, const char *format, ...)
{
	va_list list;

	prefill->failed = 1;
	if (prefill->report->error[0])
		return;
	va_start(list, format);
	vsnprintf(prefill->report->error, sizeof(prefill->report->error), format, list);
	va_end(list);
}

static int tell(struct prefill *prefill, const char *name, const void *data, size_t length)
{
	struct cw_notify notify = { .segment = prefill->decode, .name = name, .data = data, .length = length };
	int status = cw_notify_send(prefill->engine, &notify, ANSWER_NS);

	if (status != CW_OK)
		fail(prefill, "cannot reach the decode process: %s", cw_last_error());
	return status == CW_OK ? 0 : -1;
}

static size_t rounds_of(const struct prefill *prefill, size_t blocks)
{
	return (blocks + prefill->round_blocks - 1) / prefill->round_blocks;
}

static int allocate(struct prefill *prefill)
{
	const struct replay_plan *plan = prefill->plan;
	size_t rounds = 0;

	prefill->round_blocks =
		plan->staging_blocks < plan->capacity_blocks ? plan->staging_blocks : plan->capacity_blocks;
	if (prefill->round_blocks > REPLAY_ROUND_BLOCKS_MAX)
		prefill->round_blocks = REPLAY_ROUND_BLOCKS_MAX;
	prefill->progress = calloc(plan->trace->request_count + 1, sizeof(*prefill->progress));
	for (size_t i = 0; prefill->progress && i < plan->trace->request_count; i++) {
		prefill->progress[i].rounds_left = rounds_of(prefill, plan->trace->requests[i].count);
		rounds += prefill->progress[i].rounds_left;
	}
	prefill->free_slots = malloc(plan->staging_blocks * sizeof(*prefill->free_slots));
	prefill->requests = calloc(kv_planes(&plan->geometry), sizeof(*prefill->requests));
	prefill->rounds = calloc(plan->in_flight, sizeof(*prefill->rounds));
	prefill->intervals = malloc((rounds + 1) * sizeof(*prefill->intervals));
	if (!prefill->progress || !prefill->free_slots || !prefill->requests || !prefill->rounds ||
	    !prefill->intervals) {
		fail(prefill, "out of memory");
		return -1;
	}
	for (uint32_t i = 0; i < plan->staging_blocks; i++)
		prefill->free_slots[prefill->free_count++] = i;
	return 0;
}

static void release(struct prefill *prefill)
{
	for (uint32_t i = 0; prefill->rounds && i < prefill->plan->in_flight; i++)
		cw_batch_release(prefill->rounds[i].batch);
	engine_memory_close(&prefill->staging);
	free(prefill->progress);
	free(prefill->free_slots);
	free(prefill->requests);
	free(prefill->rounds);
	free(prefill->intervals);
}

static void on_ready(struct prefill *prefill, const struct cw_event *event)
{
	struct replay_ready ready;

	if (event->length != sizeof(ready)) {
		fail(prefill, "the decode process sent a malformed answer");
		return;
	}
	memcpy(&ready, event->data, sizeof(ready));
	ready.text[sizeof(ready.text) - 1] = '\0';
	if (!ready.ok)
		fail(prefill, "the decode process refused: %.200s", ready.text);
	else
		prefill->remote = ready.base;
}

/* Says hello and waits until the cache is there. */
static int greet(struct prefill *prefill)
{
	const struct replay_plan *plan = prefill->plan;
	struct replay_hello hello = { .version = REPLAY_VERSION,
				      .capacity_blocks = plan->capacity_blocks,
				      .geometry = plan->geometry,
				      .ordinary = (uint32_t)plan->ordinary };
	uint64_t end = units_now() + READY_NS;
	struct cw_event event;

	snprintf(hello.name, sizeof(hello.name), "%s", cw_engine_name(prefill->engine));
	if (tell(prefill, REPLAY_HELLO, &hello, sizeof(hello)) != 0)
		return -1;
	while (!prefill->remote && !prefill->failed) {
		int count = cw_queue_wait(cw_engine_queue(prefill->engine), &event, 1, WAIT_NS);

		if (count < 0 || stop_requested() || units_now() > end)
			fail(prefill, "the decode process did not get ready");
		else if (count == 1 && event.kind == CW_EVENT_NOTIFY && event.name &&
			 strcmp(event.name, REPLAY_READY) == 0)
			on_ready(prefill, &event);
		else if (count == 1 && event.kind == CW_EVENT_PEER && event.state >= CW_PEER_DOWN)
			fail(prefill, "the decode process went away");
		if (count == 1)
			cw_event_clear(&event);
	}
	return prefill->failed ? -1 : 0;
}

static unsigned char *staged_page(const struct prefill *prefill, uint32_t plane, uint32_t slot)
{
	return prefill->staging.address +
	       ((uint64_t)plane * prefill->plan->staging_blocks + slot) * kv_page_bytes(&prefill->plan->geometry);
}

static void end_request_round(struct prefill *prefill, size_t request)
{
	struct request_progress *progress = &prefill->progress[request];

	if (--progress->rounds_left)
		return;
	prefill->report->requests++;
	if (progress->transfer_ns)
		histogram_add(&prefill->report->request_transfer, progress->transfer_ns);
}

/* The round is over; its staging slots are free again. */
static void end_round(struct prefill *prefill, struct round *round)
{
	if (round->batch) {
		for (uint32_t i = 0; i < round->fresh; i++)
			prefill->free_slots[prefill->free_count++] = round->local_indices[i];
		cw_batch_release(round->batch);
		round->batch = NULL;
	}
	round->state = ROUND_UNUSED;
	prefill->busy_rounds--;
	end_request_round(prefill, round->request);
}

static void begin_round(struct prefill *prefill, struct round *round)
{
	static unsigned char message[sizeof(struct replay_need) + REPLAY_ROUND_BLOCKS_MAX * sizeof(uint64_t)];
	const struct trace_request *request = &prefill->plan->trace->requests[prefill->next_request];
	size_t left = request->count - prefill->next_block;
	struct replay_need need = { .round = (uint32_t)(round - prefill->rounds) };

	need.count = left < prefill->round_blocks ? (uint32_t)left : prefill->round_blocks;
	round->state = ROUND_ASKED;
	round->number = prefill->round_number++;
	round->request = prefill->next_request;
	round->hashes = prefill->plan->trace->hashes + request->first + prefill->next_block;
	round->count = need.count;
	round->arrived = round->verified = 0;
	prefill->busy_rounds++;
	prefill->next_block += need.count;
	if (prefill->next_block == request->count) {
		prefill->next_request++;
		prefill->next_block = 0;
	}
	memcpy(message, &need, sizeof(need));
	memcpy(message + sizeof(need), round->hashes, need.count * sizeof(uint64_t));
	prefill->report->blocks += need.count;
	tell(prefill, REPLAY_NEED, message, sizeof(need) + need.count * sizeof(uint64_t));
}

/* When the next request is due; 0 = now. */
static uint64_t due_ns(const struct prefill *prefill)
{
	const struct trace_request *request = &prefill->plan->trace->requests[prefill->next_request];

	if (prefill->plan->speed <= 0)
		return 0;
	return prefill->start_ns + (uint64_t)((double)request->timestamp_ms * 1e6 / prefill->plan->speed);
}

static struct round *unused_round(struct prefill *prefill)
{
	for (uint32_t i = 0; i < prefill->plan->in_flight; i++)
		if (prefill->rounds[i].state == ROUND_UNUSED)
			return &prefill->rounds[i];
	return NULL;
}

static void begin_rounds(struct prefill *prefill)
{
	const struct trace *trace = prefill->plan->trace;
	struct round *round;

	while (!prefill->failed && prefill->next_request < trace->request_count && due_ns(prefill) <= units_now()) {
		if (trace->requests[prefill->next_request].count == 0) {
			prefill->report->requests++;
			prefill->next_request++;
			continue;
		}
		round = unused_round(prefill);
		if (!round)
			return;
		begin_round(prefill, round);
	}
}

/* Makes the blocks that have to be sent, in staging slots. */
static void generate(struct prefill *prefill, struct round *round)
{
	uint64_t begin = units_now();

	for (uint32_t i = 0; i < round->fresh; i++) {
		round->local_indices[i] = prefill->free_slots[--prefill->free_count];
		round->remote_indices[i] = round->slots[i].slot;
		for (uint32_t plane = 0; plane < kv_planes(&prefill->plan->geometry); plane++)
			kv_page_fill(staged_page(prefill, plane, round->local_indices[i]), &prefill->plan->geometry,
				     round->hashes[round->slots[i].position], plane);
	}
	prefill->report->generate_ns += units_now() - begin;
}

/* One request for each plane; all share the two arrays of slots. */
static void describe(struct prefill *prefill, const struct round *round)
{
	uint64_t page = kv_page_bytes(&prefill->plan->geometry);

	for (uint32_t plane = 0; plane < kv_planes(&prefill->plan->geometry); plane++)
		prefill->requests[plane] = (struct cw_request){
			.segment = prefill->decode,
			.op = CW_OP_WRITE,
			.flags = CW_REQUEST_BORROW_INDICES,
			.tag = plane,
			.local = { .base = (uint64_t)(uintptr_t)staged_page(prefill, plane, 0),
				   .page_size = page,
				   .count = round->fresh,
				   .indices = round->local_indices,
				   .index_bits = 32 },
			.remote = { .base = prefill->remote + (uint64_t)plane * prefill->plan->capacity_blocks * page,
				    .page_size = page,
				    .count = round->fresh,
				    .indices = round->remote_indices,
				    .index_bits = 32 },
		};
}

static void send_round(struct prefill *prefill, struct round *round)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct replay_done done = { .round = (uint32_t)(round - prefill->rounds) };
	struct cw_notify notify = {
		.segment = prefill->decode, .name = REPLAY_DONE, .data = &done, .length = sizeof(done)
	};
	int status;

	generate(prefill, round);
	describe(prefill, round);
	options.priority = CW_CLASS_BULK;
	options.notify = &notify;
	options.notify_count = 1;
	options.queue = cw_engine_queue(prefill->engine);
	options.arg = round;
	round->state = ROUND_SENT;
	status = cw_batch_submit(prefill->engine, prefill->requests, kv_planes(&prefill->plan->geometry), &options,
				 &round->batch);
	if (status != CW_OK) {
		round->batch = NULL;
		fail(prefill, "a batch was refused: %s", cw_last_error());
	}
}

/* The oldest round that knows its slots, as soon as there is staging memory for it. */
static void send_rounds(struct prefill *prefill)
{
	while (!prefill->failed) {
		struct round *oldest = NULL;

		for (uint32_t i = 0; i < prefill->plan->in_flight; i++) {
			struct round *round = &prefill->rounds[i];

			if (round->state == ROUND_TOLD && (!oldest || round->number < oldest->number))
				oldest = round;
		}
		if (!oldest || oldest->fresh > prefill->free_count)
			return;
		send_round(prefill, oldest);
	}
}

static void take_totals(struct prefill *prefill, const struct replay_totals *totals)
{
	struct replay_report *report = prefill->report;

	report->blocks_evicted = totals->evicted;
	report->reused_checked = totals->reused_checked;
	report->pages_verified = totals->pages_verified;
	report->pages_wrong = totals->pages_wrong;
	report->verify_ns = totals->verify_ns;
	if (totals->pages_wrong)
		fail(prefill, "%llu pages were wrong", (unsigned long long)totals->pages_wrong);
}

/* Checked like anything from a peer; NULL when the message does not fit the round that it names. */
static struct round *answered_round(struct prefill *prefill, uint32_t index, enum round_state state)
{
	if (index >= prefill->plan->in_flight || prefill->rounds[index].state != state) {
		fail(prefill, "the decode process sent an answer to no question");
		return NULL;
	}
	return &prefill->rounds[index];
}

static void on_slots(struct prefill *prefill, const struct cw_event *event)
{
	struct replay_slots slots;
	struct round *round;

	if (event->length < sizeof(slots)) {
		fail(prefill, "the decode process sent a malformed answer");
		return;
	}
	memcpy(&slots, event->data, sizeof(slots));
	round = answered_round(prefill, slots.round, ROUND_ASKED);
	if (!round)
		return;
	if (slots.count > round->count || event->length != sizeof(slots) + slots.count * sizeof(struct replay_slot)) {
		fail(prefill, "the decode process sent a malformed answer");
		return;
	}
	memcpy(round->slots, (const unsigned char *)event->data + sizeof(slots),
	       slots.count * sizeof(struct replay_slot));
	for (uint32_t i = 0; i < slots.count; i++)
		if (round->slots[i].position >= round->count ||
		    round->slots[i].slot >= prefill->plan->capacity_blocks) {
			fail(prefill, "the decode process named a slot that does not exist");
			return;
		}
	round->fresh = slots.count;
	round->state = ROUND_TOLD;
	take_totals(prefill, &slots.totals);
	if (slots.count == 0)
		end_round(prefill, round);
}

static void on_ok(struct prefill *prefill, const struct cw_event *event)
{
	struct replay_ok ok;
	struct round *round;

	if (event->length != sizeof(ok)) {
		fail(prefill, "the decode process sent a malformed answer");
		return;
	}
	memcpy(&ok, event->data, sizeof(ok));
	round = answered_round(prefill, ok.round, ROUND_SENT);
	if (!round)
		return;
	take_totals(prefill, &ok.totals);
	round->verified = 1;
	if (round->arrived)
		end_round(prefill, round);
}

/* The batch of a round is terminal. The decode side's answer may have come before or comes later. */
static void on_batch(struct prefill *prefill, struct round *round)
{
	struct cw_batch_result result = { .size = sizeof(result) };
	struct replay_done drop = { .round = (uint32_t)(round - prefill->rounds) };
	struct replay_report *report = prefill->report;

	cw_batch_result_get(round->batch, &result);
	if (result.state != CW_BATCH_COMPLETED) {
		report->rounds_failed++;
		if (result.scope < CW_SCOPE_PEER)
			tell(prefill, REPLAY_DROP, &drop, sizeof(drop));
		fail(prefill, "a transfer failed: %s", result.text);
		end_round(prefill, round);
		return;
	}
	prefill->intervals[prefill->interval_count++] = (struct interval){ result.submitted_ns, result.ended_ns };
	prefill->progress[round->request].transfer_ns += result.ended_ns - result.submitted_ns;
	report->blocks_sent += round->fresh;
	report->pages += (uint64_t)round->fresh * kv_planes(&prefill->plan->geometry);
	report->bytes += round->fresh * kv_block_bytes(&prefill->plan->geometry);
	round->arrived = 1;
	if (round->verified)
		end_round(prefill, round);
}

static void on_event(struct prefill *prefill, struct cw_event *event)
{
	const char *name = event->kind == CW_EVENT_NOTIFY && event->name ? event->name : "";

	if (event->kind == CW_EVENT_BATCH)
		on_batch(prefill, event->arg);
	else if (event->kind == CW_EVENT_PEER && event->state >= CW_PEER_DOWN)
		fail(prefill, "the decode process went away");
	else if (strcmp(name, REPLAY_SLOTS) == 0)
		on_slots(prefill, event);
	else if (strcmp(name, REPLAY_OK) == 0)
		on_ok(prefill, event);
	else if (strcmp(name, REPLAY_BYE) == 0)
		fail(prefill, "the decode process ended the session");
	cw_event_clear(event);
}

static int batches_running(const struct prefill *prefill)
{
	for (uint32_t i = 0; i < prefill->plan->in_flight; i++)
		if (prefill->rounds[i].batch && !prefill->rounds[i].arrived)
			return 1;
	return 0;
}

static void wait_for_news(struct prefill *prefill)
{
	struct cw_event events[EVENTS];
	uint64_t now = units_now(), wait = WAIT_NS;
	int count;

	if (prefill->next_request < prefill->plan->trace->request_count &&
	    prefill->busy_rounds < prefill->plan->in_flight) {
		uint64_t due = due_ns(prefill);

		if (due > now && due - now < wait)
			wait = due - now;
	}
	count = cw_queue_wait(cw_engine_queue(prefill->engine), events, EVENTS, wait);
	if (count < 0)
		fail(prefill, "the queue failed: %s", cw_strerror(count));
	for (int i = 0; i < count; i++)
		on_event(prefill, &events[i]);
	if (count > 0 || prefill->busy_rounds == 0)
		prefill->news_ns = units_now();
	else if (units_now() - prefill->news_ns > STALL_NS)
		fail(prefill, "nothing happened for a minute");
}

/* After a failure: no round's memory may be freed while its batch runs. */
static void drain(struct prefill *prefill)
{
	struct cw_event events[EVENTS];

	for (uint32_t i = 0; i < prefill->plan->in_flight; i++)
		if (prefill->rounds[i].batch)
			cw_batch_cancel(prefill->rounds[i].batch);
	while (batches_running(prefill)) {
		int count = cw_queue_wait(cw_engine_queue(prefill->engine), events, EVENTS, WAIT_NS);

		for (int i = 0; i < count; i++)
			on_event(prefill, &events[i]);
		if (count < 0)
			return;
	}
}

static void run(struct prefill *prefill)
{
	size_t total = prefill->plan->trace->request_count;
	struct progress_bar bar;

	progress_bar_begin(&bar);
	prefill->start_ns = prefill->news_ns = units_now();
	while (!prefill->failed && (prefill->next_request < total || prefill->busy_rounds)) {
		begin_rounds(prefill);
		send_rounds(prefill);
		if (prefill->failed || (prefill->next_request == total && prefill->busy_rounds == 0))
			break;
		wait_for_news(prefill);
		progress_bar_update(&bar, "of the requests", (double)prefill->report->requests / (double)total);
		if (stop_requested())
			fail(prefill, "interrupted");
	}
	prefill->report->wall_ns = units_now() - prefill->start_ns;
	progress_bar_clear(&bar);
	drain(prefill);
}

static int by_begin(const void *a, const void *b)
{
	const struct interval *left = a, *right = b;

	return (left->begin > right->begin) - (left->begin < right->begin);
}

/* How long at least one transfer was under way. */
static uint64_t covered_ns(struct interval *intervals, size_t count)
{
	uint64_t covered = 0, until = 0;

	qsort(intervals, count, sizeof(*intervals), by_begin);
	for (size_t i = 0; i < count; i++) {
		uint64_t begin = intervals[i].begin > until ? intervals[i].begin : until;

		if (intervals[i].end <= begin)
			continue;
		covered += intervals[i].end - begin;
		until = intervals[i].end;
	}
	return covered;
}

int replay_prefill(struct cw_engine *engine, const char *decode, const struct replay_plan *plan,
		   struct replay_report *report_out)
{
	struct prefill prefill = { .plan = plan, .report = report_out, .engine = engine };
	uint64_t page = kv_page_bytes(&plan->geometry);

	memset(report_out, 0, sizeof(*report_out));
	if (allocate(&prefill) == 0 &&
	    engine_segment_open(REPLAY_COMMAND, engine, decode, plan->transport, &prefill.decode) != 0)
		fail(&prefill, "cannot open the decode process %s", decode);
	if (!prefill.failed &&
	    engine_memory_open(REPLAY_COMMAND, engine, kv_block_bytes(&plan->geometry) * plan->staging_blocks,
			       plan->ordinary, &prefill.staging) != 0)
		fail(&prefill, "cannot get staging memory");
	if (!prefill.failed && greet(&prefill) == 0) {
		run(&prefill);
		engine_path_name(prefill.decode, prefill.staging.address, prefill.remote, page, CW_OP_WRITE,
				 report_out->path, sizeof(report_out->path));
		report_out->transfer_ns = covered_ns(prefill.intervals, prefill.interval_count);
		tell(&prefill, REPLAY_BYE, NULL, 0);
	}
	if (prefill.decode)
		cw_segment_close(prefill.decode);
	release(&prefill);
	return prefill.failed ? -1 : 0;
}
