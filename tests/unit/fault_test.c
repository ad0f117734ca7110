/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random batches over a transport that loses, delays, duplicates, reorders, refuses and fails what it can, with random
 * cancels and deadlines, by two threads to two peers. Whatever happens: each batch ends exactly once and in time,
 * completed bytes are right, and after an end that says "quiet" nothing lands any more. Arguments, for the
 * patient: the number of batches of a row, the row, a seed.
 */
#include <causeway/causeway.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Needs what is above. */
#include <cmocka.h>

#include "support/devices.h"

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define GRACE (100 * MS)
#define LATE (3 * SECOND) /* what a busy machine adds */
#define PEERS 2
#define THREADS 2
#define SLOTS 16 /* of each thread: batches in flight */
#define REQUESTS 4
#define AREA (2304u * 1024) /* of one slot: room for REQUESTS of them, spread out */
#define PAGES 32
#define MEMORY ((uint64_t)THREADS * SLOTS * AREA)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BATCHES 2500
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BATCHES 2500
#endif
#endif
#ifndef BATCHES
#define BATCHES 20000 /* for each row */
#endif
#define ROW_TIME (4 * SECOND) /* then the rest of a row is left out */

static const struct row {
	const char *name, *wrapped;
	const char *shm, *tcp; /* are they on by themselves? */
	const char *threads;
	int same_engine, engine_memory;
	int retries; /* what fails is tried again; a synchronous copy is not */
	enum { LIGHT, HARSH, ONCE } luck;
	const char *near, *far; /* device memory, the engines' own; NULL = host memory */
} rows[] = {
	{ "tcp", "tcp", "off", "off", "1", 0, 0, 1, LIGHT, NULL, NULL },
	{ "tcp beside tcp", "tcp", "off", "on", "2", 0, 0, 1, LIGHT, NULL, NULL },
	{ "tcp, harsh", "tcp", "off", "off", "2", 0, 0, 1, HARSH, NULL, NULL },
	{ "tcp, no second attempt", "tcp", "off", "off", "1", 0, 0, 0, ONCE, NULL, NULL },
	{ "shm granted", "shm", "off", "on", "1", 0, 1, 0, LIGHT, NULL, NULL },
	{ "shm attached", "shm", "off", "on", "1", 0, 0, 0, LIGHT, NULL, NULL },
	{ "local", "local", "on", "on", "1", 1, 0, 0, LIGHT, NULL, NULL },
	{ "sunrise_link", "sunrise_link", "off", "on", "1", 0, 1, 0, LIGHT, "sunrise:0", "sunrise:1" },
	{ "sunrise_link, harsh", "sunrise_link", "off", "on", "2", 0, 1, 0, HARSH, "sunrise:1", "sunrise:1" },
	{ "tcp, staged", "tcp", "off", "on", "1", 0, 1, 1, LIGHT, "sunrise:0", "sunrise:1" },
};

struct counts {
	uint64_t ended, states[6], fenced, unknown, not_quiet;
};

/* One request and the bytes it moves. */
struct job {
	struct cw_request request;
	unsigned char *source_base, *target_base;
	uint32_t local_pages[PAGES], remote_pages[PAGES];
	uint64_t length;
	unsigned char mark; /* the target's bytes when it was given up */
	int guarded;
};

struct slot {
	struct job jobs[REQUESTS];
	size_t count;
	struct cw_batch *batch; /* in flight */
	uint64_t deadline, usable_at;
	int canceled, fail_fast, patient;
	int doubtful; /* the target may still write */
	unsigned events;
	unsigned char *near, *far[PEERS];
};

struct worker {
	pthread_t thread;
	struct world *world;
	struct slot slots[SLOTS];
	struct cw_queue *queue;
	uint64_t random, left;
	struct counts counts;
	char failure[200]; /* the first, for the eye */
	char wrong[400];   /* the first thing that was */
};

static struct world {
	const struct row *row;
	struct cw_engine *near, *far[PEERS];
	struct cw_segment *segments[PEERS];
	unsigned char *here, *there[PEERS];
	uint64_t until;
	struct worker workers[THREADS];
	_Atomic int failed;
} w;

static uint64_t batches_per_row = BATCHES;
static const char *seed = "1";

/* The thread sanitizer does not see that a message through the kernel orders what one engine did to a payload before
 * what the other one's owner does. Everything but the payload is watched. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:^visit$\n";
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static uint64_t draw(struct worker *worker, uint64_t below)
{
	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	return (worker->random * UINT64_C(0x2545f4914f6cdd1d) >> 20) % below;
}

static void wrong(struct worker *worker, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void wrong(struct worker *worker, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (!*worker->wrong)
		vsnprintf(worker->wrong, sizeof(worker->wrong), format, arguments);
	va_end(arguments);
	atomic_store(&w.failed, 1);
}

/* ---------------------------------------------------------------------------------- what is moved where */

/* The address of a byte of a vector, and in *run_out how many follow. */
static unsigned char *at(const struct cw_vec *vec, const uint32_t *pages, uint64_t offset, uint64_t *run_out)
{
	uint64_t page = offset / vec->page_size, inside = offset % vec->page_size;
	uint64_t index = vec->indices ? pages[page] : page;

	*run_out = vec->page_size - inside;
	return (unsigned char *)(uintptr_t)(vec->base + index * (vec->stride ? vec->stride : vec->page_size) + inside);
}

static unsigned char pattern(const struct job *job, uint64_t i)
{
	return (unsigned char)((i + job->request.tag) * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

enum what { FILL_SOURCE, FILL_TARGET, CHECK_ARRIVED, CHECK_GUARD };

/* Visits every byte of one side. Returns where a check failed, or UINT64_MAX. */
static uint64_t visit(struct job *job, enum what what)
{
	int local = (job->request.op == CW_OP_WRITE) == (what == FILL_SOURCE);
	const struct cw_vec *vec = local ? &job->request.local : &job->request.remote;
	const uint32_t *pages = local ? job->local_pages : job->remote_pages;

	for (uint64_t done = 0; done < job->length;) {
		uint64_t run;
		unsigned char *bytes = at(vec, pages, done, &run);

		if (what == FILL_TARGET)
			memset(bytes, job->mark, run);
		for (uint64_t i = 0; i < run && what != FILL_TARGET; i++) {
			if (what == FILL_SOURCE)
				bytes[i] = pattern(job, done + i);
			else if (bytes[i] != (what == CHECK_GUARD ? job->mark : pattern(job, done + i)))
				return done + i;
		}
		done += run;
	}
	return UINT64_MAX;
}

static void shuffle(struct worker *worker, uint32_t *pages, uint64_t count)
{
	for (uint32_t i = 0; i < count; i++)
		pages[i] = i;
	for (uint64_t i = count; i > 1; i--) {
		uint64_t other = draw(worker, i);
		uint32_t page = pages[other];

		pages[other] = pages[i - 1];
		pages[i - 1] = page;
	}
}

/* One side: a plain range, or shuffled pages with gaps. */
static struct cw_vec make_side(struct worker *worker, unsigned char *base, uint64_t page, uint64_t count,
			       uint32_t *pages)
{
	struct cw_vec vec = { .base = (uintptr_t)base, .page_size = page, .count = count };

	if (count == 1 || draw(worker, 3) == 0) {
		vec.page_size = page * count;
		vec.count = 1;
		return vec;
	}
	shuffle(worker, pages, count);
	vec.indices = pages;
	vec.index_bits = 32;
	vec.stride = page + draw(worker, 3) * 8;
	return vec;
}

static uint64_t draw_length(struct worker *worker)
{
	uint64_t kind = draw(worker, 100);

	if (kind < 75)
		return 1 + draw(worker, 4096);
	if (kind < 97)
		return 1 + draw(worker, 64 * 1024);
	return 1 + draw(worker, 512 * 1024) + draw(worker, 2) * 512 * 1024;
}

/* Jobs of a slot lie one behind the other on all sides; pages with gaps need at most a third more than their bytes. */
static void make_jobs(struct worker *worker, struct slot *slot)
{
	uint64_t place = 0;

	slot->count = 0;
	for (size_t n = 1 + draw(worker, REQUESTS); slot->count < n;) {
		struct job *job = &slot->jobs[slot->count];
		uint64_t peer = draw(worker, w.row->same_engine ? 1 : PEERS), length = draw_length(worker), pages = 1;
		uint64_t room;

		if (draw(worker, 2) && length >= 256)
			pages = 2 + draw(worker, length / 64 < PAGES ? length / 64 - 2 : PAGES - 2);
		length -= length % pages;
		room = length + pages * 16 + 64;
		if (place + room > AREA)
			break;
		*job = (struct job){ .length = length, .mark = (unsigned char)(0xa0 + draw(worker, 64)) };
		job->request = (struct cw_request){
			.segment = w.segments[peer],
			.op = draw(worker, 2) ? CW_OP_WRITE : CW_OP_READ,
			.tag = draw(worker, UINT32_MAX),
		};
		job->request.local = make_side(worker, slot->near + place + draw(worker, 32), length / pages, pages,
					       job->local_pages);
		job->request.remote = make_side(worker, slot->far[peer] + place + draw(worker, 32), length / pages,
						pages, job->remote_pages);
		visit(job, FILL_SOURCE);
		visit(job, FILL_TARGET);
		place += room;
		slot->count++;
	}
}

/* ------------------------------------------------------------------------------------- life of a batch */

static void submit(struct worker *worker, struct slot *slot)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_request requests[REQUESTS];
	uint64_t now;

	make_jobs(worker, slot);
	for (size_t i = 0; i < slot->count; i++)
		requests[i] = slot->jobs[i].request;
	slot->fail_fast = draw(worker, 4) == 0;
	slot->canceled = 0;
	slot->events = 0;
	now = now_ns();
	slot->patient = draw(worker, 20) != 0;
	slot->deadline = now + (slot->patient ? 4 * SECOND : draw(worker, 3 * MS));
	options.deadline_ns = slot->deadline;
	options.flags = (slot->fail_fast ? CW_BATCH_FAIL_FAST : 0) | (draw(worker, 8) ? 0 : CW_BATCH_CHECKSUM);
	options.priority = (uint32_t)draw(worker, 3);
	options.queue = worker->queue;
	options.arg = slot;
	if (cw_batch_submit(w.near, requests, slot->count, &options, &slot->batch)) {
		wrong(worker, "submit: %s", cw_last_error());
		return;
	}
	if (draw(worker, 20) == 0) {
		slot->canceled = 1;
		cw_batch_cancel(slot->batch);
	}
}

static void check_state(struct worker *worker, const struct slot *slot, const struct cw_batch_result *result)
{
	worker->counts.states[result->state]++;
	worker->counts.ended++;
	worker->counts.fenced += result->remote == CW_REMOTE_FENCED;
	worker->counts.unknown += result->remote == CW_REMOTE_UNKNOWN;
	worker->counts.not_quiet += !result->local_quiet;
	if (result->state == CW_BATCH_FAILED && !*worker->failure)
		snprintf(worker->failure, sizeof(worker->failure), "%s", result->text);
	if (result->state < CW_BATCH_COMPLETED)
		wrong(worker, "an event for a batch that runs");
	if (result->state == CW_BATCH_FAILED && w.row->retries && result->ended_ns < slot->deadline)
		wrong(worker, "failed although there was time to try again: %s", result->text);
	if (result->state == CW_BATCH_FAILED && w.row->luck == ONCE && result->ended_ns >= slot->deadline &&
	    slot->patient)
		wrong(worker, "failed, but nobody noticed before the deadline: %s", result->text);
	if (result->ended_ns > slot->deadline + GRACE + LATE)
		wrong(worker, "ended %.3f s after its deadline: %s", (double)(result->ended_ns - slot->deadline) / 1e9,
		      result->text);
	if (result->state == CW_BATCH_CANCELED && !slot->canceled && !slot->fail_fast)
		wrong(worker, "canceled by nobody: %s", result->text);
	/* A cancel that was not answered within the grace; its batch may have become quiet since. */
	if (result->state == CW_BATCH_TIMED_OUT && result->ended_ns < slot->deadline &&
	    ((!slot->canceled && !slot->fail_fast) || result->ended_ns - result->submitted_ns < GRACE))
		wrong(worker, "timed out before its deadline: %s", result->text);
	if (result->requests_completed + result->requests_failed != slot->count && result->local_quiet)
		wrong(worker, "%llu completed, %llu failed of %zu", (unsigned long long)result->requests_completed,
		      (unsigned long long)result->requests_failed, slot->count);
}

/* The bytes of each request that completed are right; the others' targets must stay as we leave them now. */
static void check_jobs(struct worker *worker, struct slot *slot, const struct cw_batch_result *result)
{
	for (size_t i = 0; i < slot->count; i++) {
		struct job *job = &slot->jobs[i];
		uint64_t moved = 0, bad;
		int status = cw_batch_request_status(slot->batch, i, &moved);

		if (status == CW_OK) {
			bad = visit(job, CHECK_ARRIVED);
			if (bad != UINT64_MAX)
				wrong(worker, "%s of %llu bytes completed, but byte %llu is wrong",
				      job->request.op == CW_OP_WRITE ? "write" : "read",
				      (unsigned long long)job->length, (unsigned long long)bad);
			if (moved != job->length)
				wrong(worker, "%llu of %llu bytes completed", (unsigned long long)moved,
				      (unsigned long long)job->length);
		} else if (result->state == CW_BATCH_COMPLETED) {
			wrong(worker, "a completed batch has a request that ended with %s", cw_strerror(status));
		}
		job->mark = (unsigned char)~job->mark;
		visit(job, FILL_TARGET);
		job->guarded = 1;
	}
}

static void check_guards(struct worker *worker, struct slot *slot)
{
	for (size_t i = 0; i < slot->count; i++) {
		struct job *job = &slot->jobs[i];
		uint64_t bad = job->guarded ? visit(job, CHECK_GUARD) : UINT64_MAX;

		job->guarded = 0;
		if (bad != UINT64_MAX)
			wrong(worker, "byte %llu of a %s of %llu bytes changed after its end", (unsigned long long)bad,
			      job->request.op == CW_OP_WRITE ? "write" : "read", (unsigned long long)job->length);
	}
}

/* Local memory is quiet. The target's may be written until its fence and a chunk later, or for ever. */
static void settle(struct worker *worker, struct slot *slot, const struct cw_batch_result *result)
{
	slot->usable_at = 0;
	if (result->remote == CW_REMOTE_UNKNOWN)
		slot->usable_at = UINT64_MAX;
	else if (result->remote == CW_REMOTE_FENCED)
		slot->usable_at = result->fence_ns + LATE;
	slot->doubtful = slot->usable_at > now_ns();
	if (!slot->doubtful)
		check_jobs(worker, slot, result);
}

static void ended(struct worker *worker, struct slot *slot)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	if (!slot->batch || slot->events++) {
		wrong(worker, "a second event for one batch");
		return;
	}
	cw_batch_result_get(slot->batch, &result);
	check_state(worker, slot, &result);
	if (result.local_quiet)
		settle(worker, slot, &result);
	else
		slot->usable_at = UINT64_MAX; /* QUIET says when */
}

static void became_quiet(struct worker *worker, struct slot *slot)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	cw_batch_result_get(slot->batch, &result);
	if (!result.local_quiet)
		wrong(worker, "an event says that a batch is quiet, the batch does not");
	else if (slot->usable_at == UINT64_MAX && !slot->doubtful)
		settle(worker, slot, &result);
}

/* Takes a slot whose batch has ended; 0 = it cannot be used yet. */
static int reclaim(struct worker *worker, struct slot *slot)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	if (!slot->batch)
		return 1;
	if (!slot->events || slot->usable_at > now_ns())
		return 0;
	cw_batch_result_get(slot->batch, &result);
	if (slot->doubtful)
		check_jobs(worker, slot, &result);
	slot->doubtful = 0;
	slot->usable_at = 0;
	check_guards(worker, slot);
	cw_batch_release(slot->batch);
	slot->batch = NULL;
	return 1;
}

static void harvest(struct worker *worker, uint64_t timeout)
{
	struct cw_event events[8];
	int count = cw_queue_wait(worker->queue, events, 8, timeout);

	for (int i = 0; i < count; i++) {
		struct slot *slot = events[i].arg;

		if (events[i].kind == CW_EVENT_BATCH)
			ended(worker, slot);
		else if (events[i].kind == CW_EVENT_QUIET && slot->batch && slot->batch == events[i].batch)
			became_quiet(worker, slot);
		cw_event_clear(&events[i]);
	}
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	uint64_t stuck;

	while (worker->left && !atomic_load(&w.failed) && now_ns() < w.until) {
		struct slot *slot = &worker->slots[draw(worker, SLOTS)];

		if (reclaim(worker, slot)) {
			submit(worker, slot);
			worker->left--;
		} else if (!slot->events && draw(worker, 30) == 0) {
			slot->canceled = 1;
			cw_batch_cancel(slot->batch);
		} else if (!slot->events && draw(worker, 8) == 0) {
			(void)cw_batch_wait(slot->batch, 5 * MS);
		}
		harvest(worker, 0);
	}
	stuck = now_ns() + 4 * SECOND + GRACE + LATE;
	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *slot = &worker->slots[i];

		while (slot->batch && !slot->events && now_ns() < stuck)
			harvest(worker, 10 * MS);
		if (slot->batch && !slot->events)
			wrong(worker, "a batch has not ended %.1f s after its deadline",
			      (double)(now_ns() - slot->deadline) / 1e9);
		while (!reclaim(worker, slot) && !slot->doubtful && now_ns() < stuck)
			harvest(worker, 10 * MS);
		if (slot->batch && slot->events && !slot->doubtful)
			wrong(worker, "a batch has ended, but nothing says that it became quiet");
		if (slot->doubtful) /* not worth waiting for */
			cw_batch_release(slot->batch);
		if (slot->doubtful)
			slot->batch = NULL;
	}
	harvest(worker, 0); /* an event too many would be here */
	return NULL;
}

/* --------------------------------------------------------------------------------------------- the row */

static struct cw_engine *open_engine(void)
{
	/* light, harsh, once */
	static const char *const lucks[][3] = {
		{ "fault/drop", "10", "100" },      { "fault/fail", "10", "100" },    { "fault/delay", "20", "200" },
		{ "fault/duplicate", "20", "200" }, { "fault/reorder", "20", "200" }, { "fault/refuse", "5", "100" },
		{ "fault/down", "2", "20" },        { "fault/stick", "0", "1" },      { "fault/lose", "0", "50" },
		{ "batch/retries", "8", "1000" },
	};
	struct cw_setting settings[32] = {
		{ "transports/shm/enable", w.row->shm },
		{ "transports/tcp/enable", w.row->tcp },
		{ "transports/fault/enable", "on" },
		{ "fault/wrap", w.row->wrapped },
		{ "fault/seed", seed },
		{ "fault/rails", "2" },
		{ "fault/delay_us", "300" },
		{ "fault/stick_ms", "300" },
		{ "batch/grace", "100" },
		{ "progress/threads", w.row->threads },
		{ "tcp/slice", w.row->luck == ONCE ? "4096" : "1m" },
	};
	size_t count = 11;
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine = NULL;

	options.settings = settings;
	for (size_t i = 0; i < sizeof(lucks) / sizeof(lucks[0]); i++)
		settings[count++] = (struct cw_setting){ lucks[i][0], lucks[i][w.row->luck == HARSH ? 2 : 1] };
	if (w.row->luck == ONCE)
		settings[count++] = (struct cw_setting){ "batch/retries", "0" };
	options.setting_count = count;
	if (cw_engine_open(&options, &engine))
		fail_msg("%s", cw_last_error());
	return engine;
}

static unsigned char *map_region(struct cw_engine *engine, int owned, const char *location)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw_region *region;
	void *memory;

	options.location = location;
	if (owned || location) {
		if (cw_memory_allocate(engine, MEMORY, &options, &memory, &region))
			fail_msg("%s", cw_last_error());
	} else {
		memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(memory != MAP_FAILED);
		assert_int_equal(cw_region_register(engine, memory, MEMORY, NULL, &region), CW_OK);
	}
	return memory;
}

static void world_open(const struct row *row)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;

	memset(&w, 0, sizeof(w));
	w.row = row;
	w.near = open_engine();
	w.here = map_region(w.near, 0, row->near);
	options.transports = "fault";
	for (unsigned i = 0; i < (row->same_engine ? 1 : PEERS); i++) {
		w.far[i] = row->same_engine ? w.near : open_engine();
		w.there[i] = map_region(w.far[i], row->engine_memory, row->far);
		if (cw_segment_open(w.near, cw_engine_name(w.far[i]), &options, &w.segments[i]))
			fail_msg("%s", cw_last_error());
	}
	for (unsigned i = 0; i < THREADS; i++) {
		struct worker *worker = &w.workers[i];

		worker->random = 88172645463325252u + 1000003 * strtoull(seed, NULL, 10) + i;
		worker->left = batches_per_row / THREADS;
		assert_int_equal(cw_queue_open(w.near, &worker->queue), CW_OK);
		for (unsigned j = 0; j < SLOTS; j++) {
			uint64_t place = ((uint64_t)i * SLOTS + j) * AREA;

			worker->slots[j].near = w.here + place;
			for (unsigned k = 0; k < PEERS; k++)
				worker->slots[j].far[k] = w.there[k] ? w.there[k] + place : NULL;
		}
	}
}

static void world_close(void)
{
	for (unsigned i = 0; i < PEERS; i++)
		if (w.segments[i])
			cw_segment_close(w.segments[i]);
	for (unsigned i = 0; i < THREADS; i++)
		cw_queue_close(w.workers[i].queue);
	cw_engine_close(w.near);
	for (unsigned i = 0; i < PEERS; i++) {
		if (w.far[i] && w.far[i] != w.near)
			cw_engine_close(w.far[i]);
		if (w.there[i] && !w.row->engine_memory)
			munmap(w.there[i], MEMORY);
	}
	if (!w.row->near)
		munmap(w.here, MEMORY);
}

static void random_batches(void **state)
{
	struct cw_engine_stats stats = { .size = sizeof(stats) };
	struct counts sum = { 0 };

	world_open(*state);
	w.until = now_ns() + ROW_TIME;
	for (unsigned i = 0; i < THREADS; i++) {
		w.workers[i].world = &w;
		assert_int_equal(pthread_create(&w.workers[i].thread, NULL, work, &w.workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(w.workers[i].thread, NULL);
	cw_engine_stats_get(w.near, &stats);
	for (unsigned i = 0; i < THREADS; i++) {
		const struct counts *counts = &w.workers[i].counts;

		sum.ended += counts->ended;
		for (unsigned j = 0; j < 6; j++)
			sum.states[j] += counts->states[j];
		sum.fenced += counts->fenced;
		sum.unknown += counts->unknown;
		sum.not_quiet += counts->not_quiet;
	}
	print_message("%s: %llu batches: %llu completed, %llu failed, %llu canceled, %llu timed out; %llu fenced, "
		      "%llu unknown, %llu not quiet; %llu slices tried again\n",
		      w.row->name, (unsigned long long)sum.ended, (unsigned long long)sum.states[CW_BATCH_COMPLETED],
		      (unsigned long long)sum.states[CW_BATCH_FAILED],
		      (unsigned long long)sum.states[CW_BATCH_CANCELED],
		      (unsigned long long)sum.states[CW_BATCH_TIMED_OUT], (unsigned long long)sum.fenced,
		      (unsigned long long)sum.unknown, (unsigned long long)sum.not_quiet,
		      (unsigned long long)stats.slices_retried);
	for (unsigned i = 0; i < THREADS; i++)
		if (*w.workers[i].failure)
			print_message("%s\n", w.workers[i].failure);
	for (unsigned i = 0; i < THREADS; i++)
		if (*w.workers[i].wrong)
			fail_msg("%s: %s", w.row->name, w.workers[i].wrong);
	assert_true(sum.states[CW_BATCH_COMPLETED] > sum.ended / 2);
	world_close();
}

int main(int argc, char **argv)
{
	int failed = 0, devices = emulated_devices();

	if (argc > 1)
		batches_per_row = strtoull(argv[1], NULL, 10);
	if (argc > 3)
		seed = argv[3];
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct CMUnitTest test = { .name = rows[i].name,
						 .test_func = random_batches,
						 .initial_state = (void *)(uintptr_t)&rows[i] };

		if (argc > 2 && strcmp(argv[2], rows[i].name) != 0)
			continue;
		if ((rows[i].near || rows[i].far) && !devices) {
			print_message("%s: skipped, the emulated devices were not built\n", rows[i].name);
			continue;
		}
		failed += _cmocka_run_group_tests("fault", &test, 1, NULL, NULL);
	}
	return failed;
}
