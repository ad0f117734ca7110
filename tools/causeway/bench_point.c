/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The measuring part of `causeway bench`. Each thread has its own window of the buffers on both sides, cut into pages;
 * a slot is the pages of one request. They lie anywhere in the window, in a fixed random order that differs between the
 * sides, and never beside each other when a request has several. Batches go round and round the slots.
 */
#include "bench_point.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/pattern.h"
#include "lib/stop.h"
#include "lib/units.h"

#define PAGE 4096ull
#define WAIT_NS (NANOSECONDS / 10)
#define WARM_UP 0.1
#define LAP_REQUESTS 256 /* requests in a batch when all slots are moved once */
#define TOUCH_BYTES (4ull << 20)
#define PLACES_MAX (4u << 20) /* pages of a window that are used, at most: their order takes memory too */

struct flight {
	struct cw_batch *batch;
	uint64_t began;
};

struct worker {
	const struct bench_place *place;
	const struct bench_point *point;
	pthread_t thread;
	pthread_barrier_t *gate; /* of all workers and bench_point_run() */
	unsigned char *local;
	uint64_t window, offset; /* of its part of the buffers */
	uint64_t slots, key;
	uint64_t slot, lap, reached; /* what comes next; how many slots were moved since set_up_content() */
	struct cw_request *requests;
	struct flight *flights;               /* of depth batches, a ring */
	uint32_t *local_pages, *remote_pages; /* slots * pages entries */
	struct histogram latency;
	uint64_t bytes, began_ns, ended_ns;
	int verified;
	char error[256];
};

/* Places 0, spacing, 2 * spacing ... in random order. */
static void shuffle(uint32_t *indices, uint64_t count, uint32_t spacing, uint64_t seed)
{
	for (uint64_t i = 0; i < count; i++)
		indices[i] = (uint32_t)i * spacing;
	for (uint64_t i = count; i > 1; i--) {
		uint64_t other = pattern_mix(seed + i) % i;
		uint32_t kept = indices[i - 1];

		indices[i - 1] = indices[other];
		indices[other] = kept;
	}
}

static struct cw_vec vector(const struct worker *worker, uint64_t base, const uint32_t *pages, uint64_t slot)
{
	const struct bench_point *point = worker->point;
	struct cw_vec vec = { .base = base, .page_size = point->page_size, .count = point->pages };

	if (point->pages > 1) {
		vec.indices = pages + slot * point->pages;
		vec.index_bits = 32;
	} else {
		vec.base += pages[slot] * point->page_size;
	}
	return vec;
}

/* Pages that must not touch have a gap of a page between them. */
static uint32_t spacing(const struct bench_point *point)
{
	return point->pages > 1 ? 2 : 1;
}

/* Allocates and fills what the worker needs; 0 or -1. */
static int prepare(struct worker *worker)
{
	const struct bench_point *point = worker->point;
	uint64_t requests = point->batch > LAP_REQUESTS ? point->batch : LAP_REQUESTS, total;

	total = worker->window / point->page_size / spacing(point);
	worker->slots = (total < PLACES_MAX ? total : PLACES_MAX) / point->pages;
	if (worker->slots == 0) {
		snprintf(worker->error, sizeof(worker->error), "the buffers are too small for one request (--buffer)");
		return -1;
	}
	total = worker->slots * point->pages;
	worker->requests = calloc(requests, sizeof(*worker->requests));
	worker->flights = calloc(point->depth, sizeof(*worker->flights));
	worker->local_pages = malloc(total * sizeof(uint32_t));
	worker->remote_pages = malloc(total * sizeof(uint32_t));
	if (!worker->requests || !worker->flights || !worker->local_pages || !worker->remote_pages) {
		snprintf(worker->error, sizeof(worker->error), "out of memory");
		return -1;
	}
	shuffle(worker->local_pages, total, spacing(point), worker->key);
	shuffle(worker->remote_pages, total, spacing(point), ~worker->key);
	return 0;
}

static void release(struct worker *worker)
{
	free(worker->requests);
	free(worker->flights);
	free(worker->local_pages);
	free(worker->remote_pages);
}

/*
 * Aims the first `count` requests at the next slots, round and round the window: like a KV cache, what is moved has not
 * been touched for a while. Mixed alternates between slots and, so that each slot sees both, between laps.
 */
static void aim(struct worker *worker, enum bench_op op, uint64_t count)
{
	const struct bench_place *place = worker->place;

	for (uint64_t i = 0; i < count; i++) {
		const struct bench_peer *peer =
			&place->peers[place->peer_count > 1 ? worker->slot % place->peer_count : 0];
		struct cw_request *request = &worker->requests[i];
		uint64_t writes = op == BENCH_MIXED ? (worker->slot + worker->lap) & 1 : op == BENCH_WRITE;

		request->segment = peer->segment;
		request->local = vector(worker, (uint64_t)(uintptr_t)worker->local, worker->local_pages, worker->slot);
		request->remote = vector(worker, peer->remote + worker->offset, worker->remote_pages, worker->slot);
		request->flags = CW_REQUEST_BORROW_INDICES;
		request->op = writes ? CW_OP_WRITE : CW_OP_READ;
		request->tag = i;
		if (++worker->slot == worker->slots) {
			worker->slot = 0;
			worker->lap++;
		}
	}
	worker->reached = worker->lap ? worker->slots : worker->slot;
}

static int submit(struct worker *worker, uint64_t count, struct cw_batch **batch_out)
{
	int status = cw_batch_submit(worker->place->engine, worker->requests, count, NULL, batch_out);

	if (status != CW_OK)
		snprintf(worker->error, sizeof(worker->error), "submit: %s", cw_last_error());
	return status == CW_OK ? 0 : -1;
}

/* Waits for the end of a batch and gives it back. 0, or -1 with worker->error set. */
static int finish(struct worker *worker, struct cw_batch *batch, struct cw_batch_result *result)
{
	while (cw_batch_wait(batch, WAIT_NS) == CW_ERR_AGAIN)
		if (stop_requested())
			cw_batch_cancel(batch);
	result->size = sizeof(*result);
	cw_batch_result_get(batch, result);
	cw_batch_release(batch);
	if (result->state == CW_BATCH_COMPLETED)
		return 0;
	snprintf(worker->error, sizeof(worker->error), "%s", result->text);
	return -1;
}

/* One batch of the first `count` requests, to its end. 0, or -1 with worker->error set. */
static int run_batch(struct worker *worker, uint64_t count)
{
	struct cw_batch_result result;
	struct cw_batch *batch;

	return submit(worker, count, &batch) == 0 ? finish(worker, batch, &result) : -1;
}

static unsigned char *local_page(const struct worker *worker, uint64_t page)
{
	return worker->local + worker->local_pages[page] * worker->point->page_size;
}

/* The content of a page follows from where it lies at the target. */
static uint64_t page_key(const struct worker *worker, uint64_t page)
{
	return pattern_mix(worker->key + worker->remote_pages[page] * worker->point->page_size);
}

static void fill_local(struct worker *worker)
{
	for (uint64_t page = 0; page < worker->slots * worker->point->pages; page++)
		pattern_fill(local_page(worker, page), worker->point->page_size, page_key(worker, page));
}

static void clear_local(struct worker *worker)
{
	memset(worker->local, 0,
	       worker->slots * worker->point->pages * spacing(worker->point) * worker->point->page_size);
}

static int check_local(struct worker *worker, const char *side)
{
	for (uint64_t page = 0; page < worker->reached * worker->point->pages; page++) {
		if (pattern_matches(local_page(worker, page), worker->point->page_size, page_key(worker, page)))
			continue;
		snprintf(worker->error, sizeof(worker->error),
			 "verification failed: wrong bytes in page %llu at the %s", (unsigned long long)page, side);
		return -1;
	}
	return 0;
}

/* Moves every slot once. */
static int transfer_all(struct worker *worker, enum bench_op op)
{
	uint64_t left, count;

	worker->slot = worker->lap = 0;
	for (left = worker->slots; left; left -= count) {
		count = left < LAP_REQUESTS ? left : LAP_REQUESTS;
		aim(worker, op, count);
		if (run_batch(worker, count) != 0)
			return -1;
	}
	worker->slot = worker->lap = 0;
	return 0;
}

/*
 * Before a point: a read must find the pattern at the target and replace zeros here; a write must find zeros there.
 * Both sides of a mixed point hold the pattern already, so there only corruption shows, not a missing transfer.
 */
static int set_up_content(struct worker *worker)
{
	enum bench_op op = worker->point->op;

	if (op == BENCH_WRITE)
		clear_local(worker);
	else
		fill_local(worker);
	if (transfer_all(worker, BENCH_WRITE) != 0)
		return -1;
	if (op == BENCH_WRITE)
		fill_local(worker);
	else if (op == BENCH_READ)
		clear_local(worker);
	return 0;
}

static int check_content(struct worker *worker)
{
	uint64_t reached = worker->reached;

	if (check_local(worker, "initiator") != 0)
		return -1;
	if (worker->point->op == BENCH_READ)
		return 0;
	clear_local(worker);
	if (transfer_all(worker, BENCH_READ) != 0)
		return -1;
	worker->reached = reached; /* the rest of the window was never written */
	return check_local(worker, "target");
}

/* Moves the whole window in large pieces: it takes the page faults of memory that was never touched. */
static int touch(struct worker *worker)
{
	const struct bench_place *place = worker->place;
	uint64_t length = worker->slots * worker->point->pages * spacing(worker->point) * worker->point->page_size;

	for (uint64_t at = 0; at < length; at += TOUCH_BYTES)
		for (size_t i = 0; i < place->peer_count; i++) {
			uint64_t piece = length - at < TOUCH_BYTES ? length - at : TOUCH_BYTES;
			uint64_t remote = place->peers[i].remote + worker->offset + at;

			worker->requests[0] = (struct cw_request){
				.segment = place->peers[i].segment,
				.local = { .base = (uint64_t)(uintptr_t)worker->local + at,
					   .page_size = piece,
					   .count = 1 },
				.remote = { .base = remote, .page_size = piece, .count = 1 },
				.op = CW_OP_WRITE,
			};
			if (run_batch(worker, 1) != 0)
				return -1;
		}
	return 0;
}

/*
 * With one batch in flight a batch takes from the end of the one before, as its caller sees it, to its own: all the
 * time is some batch's. With several it takes from before its submission to the end that its result tells.
 */
static int measure(struct worker *worker, double seconds)
{
	const struct bench_point *point = worker->point;
	uint64_t bytes = point->batch * point->pages * point->page_size, depth = point->depth;
	uint64_t begin = units_now(), now = begin, end = begin + (uint64_t)(seconds * (double)NANOSECONDS);
	uint64_t first = 0, last = 0; /* batches that ended, and were submitted */
	int failed = 0;

	worker->began_ns = begin;
	worker->bytes = 0;
	memset(&worker->latency, 0, sizeof(worker->latency));
	do {
		while (!failed && last - first < depth && (last == first || (now < end && !stop_requested()))) {
			struct flight *flight = &worker->flights[last % depth];

			flight->began = depth > 1 ? units_now() : now;
			aim(worker, point->op, point->batch);
			failed = submit(worker, point->batch, &flight->batch) != 0;
			last += !failed;
		}
		if (first < last) {
			struct flight *flight = &worker->flights[first++ % depth];
			struct cw_batch_result result;

			/* Also after a failure: what is in flight uses memory that will be freed. */
			failed |= finish(worker, flight->batch, &result) != 0;
			now = units_now();
			histogram_add(&worker->latency, (depth > 1 ? result.ended_ns : now) - flight->began);
			worker->bytes += bytes;
		}
	} while (first < last || (!failed && now < end && !stop_requested()));
	worker->ended_ns = now;
	return failed ? -1 : 0;
}

static void *worker_main(void *argument)
{
	struct worker *worker = argument;
	const struct bench_place *place = worker->place;
	int ok = (place->verify ? set_up_content(worker) : touch(worker)) == 0 &&
		 measure(worker, WARM_UP * place->seconds) == 0;

	/* All come to each of these gates, also one that failed, so that nobody waits for ever. */
	pthread_barrier_wait(worker->gate); /* all are ready */
	pthread_barrier_wait(worker->gate); /* the meters run */
	ok = ok && measure(worker, place->seconds) == 0;
	pthread_barrier_wait(worker->gate); /* all have measured */
	pthread_barrier_wait(worker->gate); /* the meters have stopped */
	if (ok && place->verify)
		worker->verified = check_content(worker) == 0;
	return NULL;
}

/* What the workers and the targets use between the gates. */
static void meter(struct bench_place *place, pthread_barrier_t *gate, struct bench_result *result)
{
	pthread_barrier_wait(gate);
	bench_meter_start(&place->own);
	bench_meter_start(&place->theirs);
	pthread_barrier_wait(gate);
	pthread_barrier_wait(gate);
	bench_meter_stop(&place->own, &result->own);
	bench_meter_stop(&place->theirs, &result->theirs);
	pthread_barrier_wait(gate);
}

static void collect(const struct worker *workers, uint64_t count, int verify, struct bench_result *result)
{
	uint64_t began = UINT64_MAX, ended = 0;

	result->verified = verify;
	for (uint64_t i = 0; i < count; i++) {
		const struct worker *worker = &workers[i];

		histogram_merge(&result->latency, &worker->latency);
		result->bytes += worker->bytes;
		began = worker->began_ns < began ? worker->began_ns : began;
		ended = worker->ended_ns > ended ? worker->ended_ns : ended;
		if (!worker->verified)
			result->verified = 0;
		if (worker->error[0] && !result->error[0])
			memcpy(result->error, worker->error, sizeof(result->error));
	}
	result->elapsed_ns = ended > began ? ended - began : 1;
}

int bench_point_run(struct bench_place *place, const struct bench_point *point, struct bench_result *result_out)
{
	struct worker *workers = calloc(point->threads, sizeof(*workers));
	uint64_t window = place->length / point->threads / PAGE * PAGE, started = 0;
	pthread_barrier_t gate;
	int failed = 0;

	memset(result_out, 0, sizeof(*result_out));
	if (!workers || pthread_barrier_init(&gate, NULL, (unsigned)point->threads + 1) != 0) {
		snprintf(result_out->error, sizeof(result_out->error), "out of memory");
		free(workers);
		return -1;
	}
	for (uint64_t i = 0; i < point->threads; i++) {
		struct worker *worker = &workers[i];

		worker->place = place;
		worker->point = point;
		worker->gate = &gate;
		worker->offset = i * window;
		worker->window = window;
		worker->local = place->local + worker->offset;
		worker->key = pattern_mix(units_now() + i);
		failed = failed || prepare(worker) != 0;
	}
	/* A thread that cannot be started leaves the barrier short: the others could never go on. */
	for (; !failed && started < point->threads; started++)
		if (pthread_create(&workers[started].thread, NULL, worker_main, &workers[started]) != 0) {
			fprintf(stderr, "causeway bench: cannot start a thread\n");
			exit(1);
		}
	if (started)
		meter(place, &gate, result_out);
	for (uint64_t i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	collect(workers, point->threads, place->verify, result_out);
	for (uint64_t i = 0; i < point->threads; i++)
		release(&workers[i]);
	pthread_barrier_destroy(&gate);
	free(workers);
	return result_out->error[0] ? -1 : 0;
}
