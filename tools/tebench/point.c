/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures one point. Thread t has its own window of a buffer on each side, at t * block * batch, and sends batch after
 * batch between them. With a check it fills local memory before a write and clears it before a read, so that what it
 * compares can only have come from the target. Only transfers are timed, but filling and comparing is in the duration.
 */
#include "point.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/content.h"
#include "lib/pattern.h"
#include "lib/stop.h"
#include "lib/units.h"

#define WAIT_NS (NANOSECONDS / 10)
#define QUIET_NS (60 * NANOSECONDS)
#define FIRST_SAMPLES 4096u

enum outcome { DONE = 0, MISSED = 1, FAILED = -1 };

/* Where the threads of a point wait for each other between warm-up and measuring. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t open;
	uint64_t waiting, expected;
	atomic_int stop; /* one of the threads failed */
};

struct worker {
	const struct initiator *initiator;
	const struct point *point;
	uint64_t index;
	pthread_t thread;
	struct gate *gate;
	struct content content;
	struct cw_queue *queue; /* for batches with a deadline: says when a late one is quiet; else NULL */
	unsigned char *local;
	uint64_t remote;
	struct cw_request *requests;
	char address[24]; /* what a notification says */
	uint64_t key;     /* of the bytes on the target, unless they follow from their address */
	uint64_t round;
	int measuring;
	uint64_t *times_ns;
	size_t count, capacity;
	uint64_t missed;
	double seconds;
	char error[320];
};

static int stopped(const struct worker *worker)
{
	return stop_requested() || atomic_load_explicit(&worker->gate->stop, memory_order_relaxed);
}

/* ------------------------------------------------------------------------------------------- transfers */

/* Until a batch that ended late leaves local memory alone. */
static enum outcome wait_quiet(struct worker *worker)
{
	uint64_t end = units_now() + QUIET_NS;

	while (units_now() < end) {
		struct cw_event event;

		if (cw_queue_wait(worker->queue, &event, 1, WAIT_NS) != 1)
			continue;
		if (event.kind == CW_EVENT_QUIET)
			return MISSED;
		cw_event_clear(&event);
	}
	snprintf(worker->error, sizeof(worker->error), "a late batch does not leave local memory alone");
	return FAILED;
}

static enum outcome judge(struct worker *worker, const struct cw_batch_result *result)
{
	struct cw_event events[4];

	if (result->state == CW_BATCH_TIMED_OUT && worker->queue && !result->local_quiet)
		return wait_quiet(worker);
	if (worker->queue)
		cw_queue_poll(worker->queue, events, 4); /* the end, which is known already */
	if (result->state == CW_BATCH_COMPLETED)
		return DONE;
	if (result->state == CW_BATCH_TIMED_OUT && worker->queue)
		return MISSED;
	if (!stop_requested())
		snprintf(worker->error, sizeof(worker->error), "%s", result->text);
	return FAILED;
}

static int keep_time(struct worker *worker, uint64_t time)
{
	if (worker->count == worker->capacity) {
		size_t capacity = worker->capacity ? 2 * worker->capacity : FIRST_SAMPLES;
		uint64_t *times = realloc(worker->times_ns, capacity * sizeof(*times));

		if (!times) {
			snprintf(worker->error, sizeof(worker->error), "no memory for more than %zu times",
				 worker->count);
			return -1;
		}
		worker->times_ns = times;
		worker->capacity = capacity;
	}
	worker->times_ns[worker->count++] = time;
	return 0;
}

static void pause_between(const struct worker *worker)
{
	uint64_t interval = worker->initiator->options->request_interval_us * 1000;
	const struct timespec time = { .tv_sec = (time_t)(interval / NANOSECONDS),
				       .tv_nsec = (long)(interval % NANOSECONDS) };

	if (interval)
		nanosleep(&time, NULL); /* a signal may cut it short: then it is the end */
}

/* All requests as one batch. kept: its time belongs to the result. */
static enum outcome transfer(struct worker *worker, enum cw_op op, int kept)
{
	const struct tebench_options *options = worker->initiator->options;
	struct cw_notify notify = { .name = COMMAND, .data = worker->address, .length = strlen(worker->address) };
	struct cw_batch_options batch_options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch_result result = { .size = sizeof(result) };
	uint64_t begin = units_now(), end;
	enum outcome outcome;
	struct cw_batch *batch;

	for (uint64_t i = 0; i < worker->point->batch; i++)
		worker->requests[i].op = op;
	batch_options.notify_count = options->notifi != 0;
	batch_options.notify = &notify;
	batch_options.queue = worker->queue;
	if (worker->queue)
		batch_options.deadline_ns = begin + options->deadline_us * 1000;
	if (cw_batch_submit(worker->initiator->engine, worker->requests, worker->point->batch, &batch_options,
			    &batch) != CW_OK) {
		snprintf(worker->error, sizeof(worker->error), "%s", cw_last_error());
		return FAILED;
	}
	while (cw_batch_wait(batch, WAIT_NS) == CW_ERR_AGAIN)
		if (stop_requested())
			cw_batch_cancel(batch);
	end = units_now();
	cw_batch_result_get(batch, &result);
	outcome = judge(worker, &result);
	cw_batch_release(batch);
	if (worker->measuring && kept) {
		if (outcome == DONE && keep_time(worker, end - begin) != 0)
			return FAILED;
		worker->missed += outcome == MISSED;
	}
	pause_between(worker);
	return outcome;
}

/* -------------------------------------------------------------------------------------------- contents */

/* Blocks that are checked in another run have bytes that follow from their address on the target, whatever the size of
 * the blocks; others have new bytes in each round. */
static uint64_t block_key(const struct worker *worker, uint64_t index)
{
	enum op_type type = (enum op_type)worker->initiator->options->op_type;

	if (type == OP_WRITE_SEED || type == OP_READ_VERIFY)
		return pattern_mix(1) + (worker->remote + index * worker->point->block) / 8;
	return pattern_mix(worker->key + index);
}

static enum outcome fill(struct worker *worker)
{
	uint64_t block = worker->point->block;

	worker->key = pattern_mix(((uint64_t)getpid() << 32 ^ worker->index << 54) + units_now()) + worker->round++;
	for (uint64_t i = 0; i < worker->point->batch; i++)
		if (content_fill(&worker->content, worker->local + i * block, block, block_key(worker, i)) != 0)
			return FAILED;
	return DONE;
}

static enum outcome clear(struct worker *worker)
{
	uint64_t length = worker->point->block * worker->point->batch;

	return content_clear(&worker->content, worker->local, length) == 0 ? DONE : FAILED;
}

static enum outcome compare(struct worker *worker)
{
	uint64_t block = worker->point->block;

	for (uint64_t i = 0; i < worker->point->batch; i++) {
		int same = content_matches(&worker->content, worker->local + i * block, block, block_key(worker, i));

		if (same == 1)
			continue;
		if (same == 0)
			snprintf(worker->error, sizeof(worker->error),
				 "the data is wrong in the block at %#llx of the target (thread %llu); does another "
				 "initiator use the same range?",
				 (unsigned long long)(worker->remote + i * block), (unsigned long long)worker->index);
		return FAILED;
	}
	return DONE;
}

/* Reads into memory that was cleared, and compares. */
static enum outcome read_back(struct worker *worker, int kept)
{
	enum outcome outcome = clear(worker);

	if (outcome == DONE)
		outcome = transfer(worker, CW_OP_READ, kept);
	return outcome == DONE ? compare(worker) : outcome;
}

static enum outcome write_and_check(struct worker *worker, int read_is_kept)
{
	enum outcome outcome = fill(worker);

	if (outcome == DONE)
		outcome = transfer(worker, CW_OP_WRITE, 1);
	return outcome == DONE ? read_back(worker, read_is_kept) : outcome;
}

static enum outcome one_round(struct worker *worker)
{
	int check = worker->initiator->options->check_consistency;
	enum outcome outcome;

	switch ((enum op_type)worker->initiator->options->op_type) {
	case OP_READ:
		return check ? read_back(worker, 1) : transfer(worker, CW_OP_READ, 1);
	case OP_WRITE:
		return check ? write_and_check(worker, 0) : transfer(worker, CW_OP_WRITE, 1);
	case OP_MIX:
		if (check)
			return write_and_check(worker, 1);
		outcome = transfer(worker, CW_OP_WRITE, 1);
		return outcome == DONE ? transfer(worker, CW_OP_READ, 1) : outcome;
	case OP_WRITE_SEED:
		return transfer(worker, CW_OP_WRITE, 1);
	case OP_READ_VERIFY:
		return read_back(worker, 1);
	}
	return FAILED;
}

/* What has to be there before the first round. */
static enum outcome set_up_content(struct worker *worker)
{
	const struct tebench_options *options = worker->initiator->options;
	enum outcome outcome = DONE;

	if (options->op_type == OP_WRITE_SEED || (options->op_type == OP_READ && options->check_consistency))
		outcome = fill(worker);
	if (outcome == DONE && options->op_type == OP_READ && options->check_consistency)
		do
			outcome = transfer(worker, CW_OP_WRITE, 0);
		while (outcome == MISSED && !stopped(worker));
	return outcome;
}

/* --------------------------------------------------------------------------------------------- threads */

/* Rounds for so many seconds. The duration is what it really took. */
static enum outcome run_for(struct worker *worker, double seconds, double *took_out)
{
	uint64_t begin = units_now(), end = begin + (uint64_t)(seconds * (double)NANOSECONDS);
	enum outcome outcome = DONE;

	do
		outcome = one_round(worker);
	while (outcome != FAILED && !stopped(worker) && units_now() < end);
	if (took_out)
		*took_out = (double)(units_now() - begin) / 1e9;
	return outcome;
}

static void gate_pass(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	if (++gate->waiting >= gate->expected)
		pthread_cond_broadcast(&gate->open);
	while (gate->waiting < gate->expected)
		pthread_cond_wait(&gate->open, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

/* Fewer come than were expected: those that do shall not wait, and stop. */
static void gate_give_up(struct gate *gate, uint64_t started)
{
	atomic_store_explicit(&gate->stop, 1, memory_order_relaxed);
	pthread_mutex_lock(&gate->lock);
	gate->expected = started;
	pthread_cond_broadcast(&gate->open);
	pthread_mutex_unlock(&gate->lock);
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	const struct tebench_options *options = worker->initiator->options;
	enum outcome outcome = set_up_content(worker);

	if (outcome != FAILED && options->warmup > 0)
		outcome = run_for(worker, options->warmup, NULL);
	if (outcome == FAILED)
		atomic_store_explicit(&worker->gate->stop, 1, memory_order_relaxed);
	gate_pass(worker->gate);
	worker->measuring = 1;
	if (!stopped(worker) && run_for(worker, options->duration, &worker->seconds) == FAILED)
		atomic_store_explicit(&worker->gate->stop, 1, memory_order_relaxed);
	return NULL;
}

static int has_deadline(const struct tebench_options *options, uint64_t index)
{
	return options->deadline_us && (!options->deadline_tight_threads || index < options->deadline_tight_threads);
}

/* 0, or -1 with worker->error. release() is needed in either case. */
static int prepare(struct worker *worker)
{
	const struct initiator *initiator = worker->initiator;
	const struct point *point = worker->point;
	uint64_t offset = worker->index * point->block * point->batch;
	size_t local = worker->index % initiator->local.count;

	worker->local = initiator->local.list[local].address + offset;
	worker->remote = initiator->remotes[worker->index % initiator->remote_count] + offset;
	snprintf(worker->address, sizeof(worker->address), "%llu", (unsigned long long)worker->remote);
	worker->requests = calloc(point->batch, sizeof(*worker->requests));
	if (!worker->requests) {
		snprintf(worker->error, sizeof(worker->error), "out of memory");
		return -1;
	}
	for (uint64_t i = 0; i < point->batch; i++) {
		uint64_t at = i * point->block;

		worker->requests[i] = (struct cw_request){
			.segment = initiator->segment,
			.local = { .base = (uintptr_t)worker->local + at, .page_size = point->block, .count = 1 },
			.remote = { .base = worker->remote + at, .page_size = point->block, .count = 1 },
		};
	}
	if (content_open(COMMAND, initiator->engine, initiator->local.list[local].device >= 0, &worker->content) != 0)
		return -1;
	if (has_deadline(initiator->options, worker->index) &&
	    cw_queue_open(initiator->engine, &worker->queue) != CW_OK) {
		snprintf(worker->error, sizeof(worker->error), "%s", cw_last_error());
		return -1;
	}
	return 0;
}

static void release(struct worker *worker)
{
	cw_queue_close(worker->queue);
	content_close(&worker->content);
	free(worker->requests);
	free(worker->times_ns);
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void collect(struct point_result *result, const struct worker *workers, uint64_t threads)
{
	size_t total = 0;

	for (uint64_t i = 0; i < threads; i++) {
		const struct worker *worker = &workers[i];
		struct group *group = worker->queue ? &result->tight : &result->loose;

		total += worker->count;
		result->thread_seconds += worker->seconds;
		group->threads++;
		group->operations += worker->count;
		group->missed += worker->missed;
		group->seconds += worker->seconds;
	}
	result->times_ns = total ? malloc(total * sizeof(uint64_t)) : NULL;
	if (!result->times_ns) {
		snprintf(result->error, sizeof(result->error), "%s",
			 total              ? "out of memory"
			 : stop_requested() ? ""
					    : "not one batch ended in time");
		return;
	}
	for (uint64_t i = 0; i < threads; i++) {
		if (workers[i].count)
			memcpy(result->times_ns + result->count, workers[i].times_ns,
			       workers[i].count * sizeof(uint64_t));
		result->count += workers[i].count;
	}
	qsort(result->times_ns, result->count, sizeof(uint64_t), by_time);
}

/* Runs the threads that were prepared. 0, or -1 when one failed or could not be started. */
static int run_threads(struct worker *workers, uint64_t threads, struct point_result *result)
{
	struct gate gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .open = PTHREAD_COND_INITIALIZER, .expected = threads };
	uint64_t started = 0;

	for (; started < threads; started++) {
		workers[started].gate = &gate;
		if (pthread_create(&workers[started].thread, NULL, work, &workers[started]) != 0)
			break;
	}
	if (started < threads) {
		snprintf(result->error, sizeof(result->error), "only %llu threads could be started",
			 (unsigned long long)started);
		gate_give_up(&gate, started);
	}
	for (uint64_t i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	for (uint64_t i = 0; i < threads && !result->error[0]; i++)
		snprintf(result->error, sizeof(result->error), "%s", workers[i].error);
	return atomic_load_explicit(&gate.stop, memory_order_relaxed) ? -1 : 0;
}

int point_run(const struct initiator *initiator, const struct point *point, struct point_result *result)
{
	struct worker *workers = calloc(point->threads, sizeof(*workers));
	uint64_t prepared = 0;
	int status = 0;

	*result = (struct point_result){ 0 };
	if (!workers) {
		snprintf(result->error, sizeof(result->error), "out of memory");
		return -1;
	}
	while (status == 0 && prepared < point->threads) {
		struct worker *worker = &workers[prepared];

		*worker = (struct worker){ .initiator = initiator, .point = point, .index = prepared++ };
		status = prepare(worker);
		if (status != 0)
			snprintf(result->error, sizeof(result->error), "%s", worker->error);
	}
	if (status == 0)
		status = run_threads(workers, point->threads, result);
	if (status == 0)
		collect(result, workers, point->threads);
	for (uint64_t i = 0; i < prepared; i++)
		release(&workers[i]);
	free(workers);
	return status == 0 && result->error[0] ? -1 : status;
}

void point_free(struct point_result *result)
{
	free(result->times_ns);
	result->times_ns = NULL;
}
