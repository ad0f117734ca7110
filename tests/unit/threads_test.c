/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 24 threads do everything at once on three engines: submit, wait, cancel and release batches over every way, register,
 * revoke and unregister, open and close segments, probe, notify and empty queues. Each batch ends once, each COMPLETED
 * byte is right. Meant above all for the thread sanitizer.
 */
#include <causeway/causeway.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/pair.h>

#include <cmocka.h>

#define THREADS 24
#define WAYS 4
#define SHARE 65536u /* bytes of each thread in each memory */

static struct cw_engine *engines[3];
static unsigned char *memories[3];
static struct cw_segment *ways[WAYS]; /* from engine 0 */
static const int way_target[WAYS] = { 0, 1, 2, 1 };
static _Atomic int failures;
static _Atomic uint64_t ended, ops;
static uint64_t stop_at;

struct worker {
	pthread_t thread;
	unsigned number;
	uint64_t state;     /* of its random numbers */
	unsigned char *own; /* memory that it registers and unregisters */
};

static void expect(int good, const char *what, int value)
{
	if (good)
		return;
	atomic_fetch_add(&failures, 1);
	fprintf(stderr, "%s: %d: %s\n", what, value, cw_last_error());
}

static uint64_t draw(struct worker *worker, uint64_t bound)
{
	worker->state = worker->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (worker->state >> 33) % bound;
}

static struct cw_request request_of(struct worker *worker, unsigned way, const unsigned char *there, size_t offset,
				    size_t length)
{
	return (struct cw_request){
		.segment = ways[way],
		.op = CW_OP_WRITE,
		.local = { .base = (uint64_t)(uintptr_t)memories[0] + worker->number * SHARE + offset,
			   .page_size = length,
			   .count = 1 },
		.remote = { .base = (uint64_t)(uintptr_t)there, .page_size = length, .count = 1 },
	};
}

static int is_terminal(enum cw_batch_state state)
{
	return state >= CW_BATCH_COMPLETED && state <= CW_BATCH_TIMED_OUT;
}

/* Writes from the thread's share of the first memory to its share of the target's, and looks at the bytes. */
static void transfer(struct worker *worker)
{
	unsigned way = (unsigned)draw(worker, WAYS);
	size_t length = 1 + draw(worker, draw(worker, 4) ? 4000 : SHARE / 2 - 1);
	unsigned char *here = memories[0] + worker->number * SHARE;
	unsigned char *there = memories[way_target[way]] + worker->number * SHARE + SHARE / 2;
	struct cw_request request = request_of(worker, way, there, 0, length);
	struct cw_batch_result result = { .size = sizeof(result) };
	int canceled = draw(worker, 4) == 0, status;
	struct cw_batch *batch;

	memset(here, (int)draw(worker, 256), length);
	status = cw_batch_submit(engines[0], &request, 1, NULL, &batch);
	expect(status == CW_OK, "submit", status);
	if (status)
		return;
	if (canceled)
		cw_batch_cancel(batch);
	status = cw_batch_wait(batch, 60 * SECOND);
	expect(status == CW_OK, "wait", status);
	cw_batch_result_get(batch, &result);
	expect(is_terminal(result.state), "state", (int)result.state);
	if (!canceled && result.state != CW_BATCH_COMPLETED) {
		expect(0, result.text, result.status);
	} else if (result.state == CW_BATCH_COMPLETED && way_target[way] == 0) {
		expect(!memcmp(here, there, length), "bytes", (int)way);
	}
	cw_batch_release(batch);
	atomic_fetch_add(&ended, 1);
}

static void let_go(struct worker *worker)
{
	struct cw_request request = request_of(worker, (unsigned)draw(worker, WAYS), memories[0], 0, 100);
	struct cw_batch *batch;

	request.segment = ways[0];
	request.remote.base += worker->number * SHARE + SHARE / 2;
	if (!cw_batch_submit(engines[0], &request, 1, NULL, &batch))
		cw_batch_release(batch);
	else
		expect(0, "submit", 0);
}

/* A region of its own at a target: used, revoked while it is used, unregistered; then nothing may touch it. */
static void come_and_go(struct worker *worker)
{
	unsigned way = (unsigned)draw(worker, WAYS);
	struct cw_request request = request_of(worker, way, worker->own, 0, SHARE / 2);
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_region *region = NULL;
	struct cw_batch *batch = NULL;
	int status = cw_region_register(engines[way_target[way]], worker->own, SHARE, NULL, &region);

	expect(status == CW_OK, "register", status);
	if (status)
		return;
	status = cw_batch_submit(engines[0], &request, 1, NULL, &batch);
	expect(status == CW_OK, "submit", status);
	if (draw(worker, 2))
		cw_batch_wait(batch, 60 * SECOND);
	if (draw(worker, 2)) {
		status = cw_region_revoke(region, 0, draw(worker, 2) ? 4096 : 0, 30 * SECOND);
		expect(status == CW_OK, "revoke", status);
	}
	do
		status = cw_region_unregister(region);
	while (status == CW_ERR_BUSY);
	expect(status == CW_OK, "unregister", status);
	memset(worker->own, 0x5a, SHARE);
	expect(cw_batch_wait(batch, 60 * SECOND) == CW_OK, "wait", 0);
	cw_batch_result_get(batch, &result);
	expect(is_terminal(result.state), "state", (int)result.state);
	for (size_t i = 0; i < SHARE; i++)
		if (worker->own[i] != 0x5a) {
			expect(0, "a byte landed after unregister", (int)i);
			break;
		}
	cw_batch_release(batch);
}

static void look_around(struct worker *worker)
{
	struct cw_segment_info info = { .size = sizeof(info) };
	struct cw_engine_stats stats = { .size = sizeof(stats) };
	struct cw_region_info about = { .size = sizeof(about) };
	struct cw_segment *segment;
	struct cw_region *region;
	unsigned to = (unsigned)draw(worker, 3);
	int status = cw_segment_open(engines[draw(worker, 3)], cw_engine_name(engines[to]), NULL, &segment);

	expect(status == CW_OK, "segment", status);
	if (status)
		return;
	status = cw_segment_probe(segment, 30 * SECOND, NULL);
	expect(status == CW_OK, "probe", status);
	cw_segment_info_get(segment, &info);
	cw_segment_close(segment);
	cw_engine_stats_get(engines[to], &stats);
	if (!cw_region_find(engines[to], memories[to], 100, &region))
		cw_region_info_get(region, &about);
}

static void notify(struct worker *worker)
{
	struct cw_notify message = {
		.segment = ways[draw(worker, WAYS)], .name = "hello", .data = "12345", .length = 5
	};
	int status = cw_notify_send(engines[0], &message, 30 * SECOND);

	expect(status == CW_OK, "notify", status);
}

static void take_events(struct worker *worker)
{
	struct cw_event events[16];
	int count = cw_queue_wait(cw_engine_queue(engines[draw(worker, 3)]), events, 16, MS);

	expect(count >= 0, "queue", count);
	for (int i = 0; i < count; i++)
		cw_event_clear(&events[i]);
}

static void *work(void *arg)
{
	struct worker *worker = arg;

	while (now_ns() < stop_at && !atomic_load(&failures)) {
		switch (draw(worker, 10)) {
		case 0:
		case 1:
			come_and_go(worker);
			break;
		case 2:
			look_around(worker);
			break;
		case 3:
			notify(worker);
			break;
		case 4:
			take_events(worker);
			break;
		case 5:
			let_go(worker);
			break;
		default:
			transfer(worker);
			break;
		}
		atomic_fetch_add(&ops, 1);
	}
	return NULL;
}

static void open_world(const char *progress_threads)
{
	static const char *const lists[WAYS] = { NULL, "shm", "tcp", NULL };
	struct cw_setting setting = { "progress/threads", progress_threads };
	struct cw_region *region;
	void *memory;

	for (int i = 0; i < 3; i++) {
		engines[i] = engine_open(&setting, 1);
		assert_int_equal(cw_memory_allocate(engines[i], THREADS * SHARE, NULL, &memory, &region), CW_OK);
		memories[i] = memory;
	}
	for (int i = 0; i < WAYS; i++) {
		struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;

		options.transports = lists[i];
		assert_int_equal(
			cw_segment_open(engines[0], cw_engine_name(engines[way_target[i]]), &options, &ways[i]), CW_OK);
	}
}

static void everything_at_once(const char *progress_threads, uint64_t duration)
{
	static struct worker workers[THREADS];

	open_world(progress_threads);
	stop_at = now_ns() + duration;
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .number = i, .state = i * 7919 + 1, .own = malloc(SHARE) };
		assert_non_null(workers[i].own);
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int i = 0; i < 3; i++)
		cw_engine_close(engines[i]);
	for (unsigned i = 0; i < THREADS; i++)
		free(workers[i].own);
	assert_int_equal(failures, 0);
	assert_true(ended > THREADS);
	print_message("%llu operations, %llu batches\n", (unsigned long long)ops, (unsigned long long)ended);
}

static void one_progress_thread(void **state)
{
	(void)state;
	everything_at_once("1", 3 * SECOND);
}

static void several_progress_threads(void **state)
{
	(void)state;
	everything_at_once("3", 3 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_progress_thread),
		cmocka_unit_test(several_progress_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
