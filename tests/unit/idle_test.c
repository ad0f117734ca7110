/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An idle engine sleeps: no wake-ups, by its own count and by the kernel's (voluntary context switches of its threads),
 * with 1,000 batches that wait for prerequisites, with open peers, and while a caller waits for a batch.
 */
#include <causeway/causeway.h>
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/pair.h>
#include <support/sanitizers.h>
#include <unistd.h>

#include <cmocka.h>

#define BATCHES 1000

static uint64_t wakeups(struct cw_engine *engine)
{
	struct cw_engine_stats stats = { .size = sizeof(stats) };

	assert_int_equal(cw_engine_stats_get(engine, &stats), CW_OK);
	return stats.wakeups;
}

/* Voluntary context switches of every thread but this one: each is a sleep that ended. */
static uint64_t switches(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	uint64_t sum = 0;

	assert_non_null(tasks);
	while ((task = readdir(tasks))) {
		char path[300], line[200];
		unsigned long long count;
		FILE *status;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		status = atoi(task->d_name) && atoi(task->d_name) != getpid() ? fopen(path, "r") : NULL;
		while (status && fgets(line, sizeof(line), status))
			if (sscanf(line, "voluntary_ctxt_switches: %llu", &count) == 1)
				sum += count;
		if (status)
			fclose(status);
	}
	closedir(tasks);
	return sum;
}

/* Sleeping is the subject here, not a way to wait for something. */
static void expect_sleep(struct cw_engine **engines, size_t count, unsigned seconds)
{
	uint64_t before[8], before_all;

	assert_true(count <= 8);
	usleep(500000); /* what was going on before may end */
	before_all = switches();
	for (size_t i = 0; i < count; i++)
		before[i] = wakeups(engines[i]);
	sleep(seconds);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(wakeups(engines[i]) - before[i], 0);
	if (!SANITIZED) /* their own threads wake up as they like */
		assert_int_equal(switches() - before_all, 0);
}

static void a_thousand_waiting_batches(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	static struct cw_batch *batches[BATCHES];
	struct cw_counter *counter;
	struct cw_request request;
	struct pair pair;

	(void)state;
	pair_open(&pair, "local", 1u << 20);
	request = pair_request(&pair, CW_OP_WRITE, 0, 4096, 1000);
	assert_int_equal(cw_counter_open(pair.near, 0, &counter), CW_OK);
	options.counter = counter;
	options.counter_value = 1;
	for (int i = 0; i < BATCHES; i++) {
		assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batches[i]), CW_OK);
		if (i % 2) /* every other one waits for its neighbour too */
			continue;
		options.after = &batches[i];
		options.after_count = 1;
	}
	expect_sleep(&pair.near, 1, 5);
	assert_int_equal(cw_batch_poll(batches[BATCHES - 1]), CW_BATCH_WAITING);
	assert_int_equal(cw_counter_add(counter, 1), CW_OK);
	for (int i = 0; i < BATCHES; i++) {
		assert_int_equal(cw_batch_wait(batches[i], 20 * SECOND), CW_OK);
		assert_int_equal(cw_batch_poll(batches[i]), CW_BATCH_COMPLETED);
		cw_batch_release(batches[i]);
	}
	cw_counter_close(counter);
	pair_close(&pair);
}

static void three_open_peers(void **state)
{
	static const char *const ways[] = { "shm", "tcp", NULL };
	struct cw_engine *engines[4];
	struct cw_segment *segments[3];
	struct cw_region *here, *there;
	void *from, *to;

	(void)state;
	for (int i = 0; i < 4; i++)
		engines[i] = engine_open(NULL, 0);
	assert_int_equal(cw_memory_allocate(engines[0], 65536, NULL, &from, &here), CW_OK);
	for (int i = 0; i < 3; i++) {
		struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
		struct pair pair = { .near = engines[0], .far = engines[i + 1], .here = from };
		struct cw_request request;

		options.transports = ways[i];
		assert_int_equal(cw_memory_allocate(engines[i + 1], 65536, NULL, &to, &there), CW_OK);
		assert_int_equal(cw_segment_open(engines[0], cw_engine_name(engines[i + 1]), &options, &segments[i]),
				 CW_OK);
		pair.segment = segments[i];
		pair.there = to;
		request = pair_request(&pair, CW_OP_WRITE, 0, 0, 65536);
		assert_int_equal(pair_run(&pair, &request, 1, NULL).state, CW_BATCH_COMPLETED);
		assert_int_equal(cw_segment_probe(segments[i], 5 * SECOND, NULL), CW_OK);
	}
	expect_sleep(engines, 4, 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(cw_segment_probe(segments[i], 5 * SECOND, NULL), CW_OK);
	for (int i = 0; i < 4; i++)
		cw_engine_close(engines[i]);
}

static void *wait_for(void *batch)
{
	return (void *)(intptr_t)cw_batch_wait(batch, 60 * SECOND);
}

static void a_waiting_caller(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_counter *counter;
	struct cw_batch *batch;
	struct pair pair;
	pthread_t thread;
	void *status;

	(void)state;
	pair_open(&pair, "local", 4096);
	assert_int_equal(cw_counter_open(pair.near, 0, &counter), CW_OK);
	options.counter = counter;
	options.counter_value = 1;
	assert_int_equal(cw_batch_submit(pair.near, NULL, 0, &options, &batch), CW_OK);
	assert_int_equal(pthread_create(&thread, NULL, wait_for, batch), 0);
	expect_sleep(&pair.near, 1, 1);
	assert_int_equal(cw_counter_add(counter, 1), CW_OK);
	pthread_join(thread, &status);
	assert_int_equal((intptr_t)status, CW_OK);
	assert_int_equal(cw_batch_poll(batch), CW_BATCH_COMPLETED);
	cw_batch_release(batch);
	cw_counter_close(counter);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thousand_waiting_batches),
		cmocka_unit_test(three_open_peers),
		cmocka_unit_test(a_waiting_caller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
