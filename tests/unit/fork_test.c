/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() in the middle of work, while other threads hold the engine's locks: the child gets CW_ERR_FORKED from every
 * call, can open an engine of its own and end; the parent's transfers complete.
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
#include <support/sanitizers.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LENGTH (16u << 20)
#define FORKS 20

static struct pair pair;
static _Atomic int stop, wrong;

static void *transfer(void *arg)
{
	size_t share = LENGTH / 4, at = share * (size_t)(uintptr_t)arg;
	struct cw_request request = pair_request(&pair, CW_OP_WRITE, at, at, share);

	while (!atomic_load(&stop)) {
		struct cw_batch_result result = pair_run(&pair, &request, 1, NULL);

		if (result.state != CW_BATCH_COMPLETED) {
			fprintf(stderr, "%s\n", result.text);
			atomic_store(&wrong, 1);
		}
	}
	return NULL;
}

/* In the child: 0, or the number of the first call that did not say CW_ERR_FORKED. No stdio, no asserts: locks may be
 * held. */
static int every_call(struct cw_batch *batch, struct cw_counter *counter, struct cw_queue *queue)
{
	struct cw_engine_stats stats = { .size = sizeof(stats) };
	struct cw_region_info region_info = { .size = sizeof(region_info) };
	struct cw_segment_info segment_info = { .size = sizeof(segment_info) };
	struct cw_memory_capabilities capabilities = { .size = sizeof(capabilities) };
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_request request = pair_request(&pair, CW_OP_READ, 0, 0, 100);
	struct cw_notify notify = { .segment = pair.segment, .name = "no" };
	struct cw_path_step steps[4];
	struct cw_event event;
	struct cw_region *region;
	struct cw_segment *segment;
	struct cw_batch *another;
	struct cw_queue *own;
	struct cw_counter *more;
	void *memory;
	size_t count;
	const int statuses[] = {
		cw_engine_progress(pair.near),
		cw_engine_stats_get(pair.near, &stats),
		cw_engine_settings(pair.near, (cw_setting_fn)NULL, NULL),
		cw_engine_transports(pair.near, (cw_transport_fn)NULL, NULL),
		cw_engine_platforms(pair.near, (cw_transport_fn)NULL, NULL),
		cw_region_register(pair.near, &stats, sizeof(stats), NULL, &region),
		cw_region_register_async(pair.near, &stats, sizeof(stats), NULL, &region),
		cw_region_ready(pair.here_region, 0, NULL),
		cw_region_revoke(pair.here_region, 0, 0, 0),
		cw_region_unregister(pair.here_region),
		cw_region_info_get(pair.here_region, &region_info),
		cw_region_find(pair.near, pair.here, 1, &region),
		cw_memory_query(pair.near, NULL, &capabilities),
		cw_memory_allocate(pair.near, 4096, NULL, &memory, &region),
		cw_memory_free(pair.here_region),
		cw_segment_open(pair.near, cw_engine_name(pair.far), NULL, &segment),
		cw_segment_info_get(pair.segment, &segment_info),
		cw_segment_regions(pair.segment, NULL, 0, &count),
		cw_segment_probe(pair.segment, SECOND, NULL),
		cw_batch_submit(pair.near, &request, 1, NULL, &another),
		cw_batch_wait(batch, SECOND),
		cw_batch_result_get(batch, &result),
		cw_batch_request_status(batch, 0, NULL),
		cw_batch_cancel(batch),
		cw_counter_open(pair.near, 0, &more),
		cw_counter_add(counter, 1),
		cw_queue_open(pair.near, &own),
		cw_queue_poll(queue, &event, 1),
		cw_queue_wait(queue, &event, 1, SECOND),
		cw_queue_arm(queue),
		cw_notify_send(pair.near, &notify, SECOND),
		cw_path_explain(pair.segment, pair.here, (uint64_t)(uintptr_t)pair.there, 1, CW_OP_READ, steps, 4,
				&count),
	};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i] != CW_ERR_FORKED)
			return (int)i + 1;
	return cw_engine_queue(pair.near) ? 100 : 0;
}

static int child(struct cw_batch *batch, struct cw_counter *counter, struct cw_queue *queue, int open_own)
{
	struct pair own;
	struct cw_request request;
	int wrong_call;

	alarm(20); /* a lock that the parent held must not keep us */
	wrong_call = every_call(batch, counter, queue);
	if (wrong_call)
		return wrong_call;
	cw_batch_release(batch);
	cw_counter_close(counter);
	cw_queue_close(queue);
	cw_segment_close(pair.segment);
	cw_engine_close(pair.near);
	cw_engine_close(pair.far);
	if (!open_own)
		return 0;
	pair_open(&own, "tcp", 65536);
	request = pair_request(&own, CW_OP_WRITE, 0, 0, 65536);
	if (pair_run(&own, &request, 1, NULL).state != CW_BATCH_COMPLETED)
		return 101;
	pair_close(&own);
	return 0;
}

static void fork_while(const char *transports)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_counter *counter;
	struct cw_request request;
	struct cw_queue *queue;
	struct cw_batch *batch;
	pthread_t threads[4];

	pair_open(&pair, transports, LENGTH);
	atomic_store(&stop, 0);
	assert_int_equal(cw_counter_open(pair.near, 0, &counter), CW_OK);
	assert_int_equal(cw_queue_open(pair.near, &queue), CW_OK);
	options.counter = counter;
	options.counter_value = 1;
	request = pair_request(&pair, CW_OP_READ, 0, 0, 100);
	assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batch), CW_OK);
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, transfer, (void *)i), 0);
	for (int i = 0; i < FORKS; i++) {
		pid_t pid = fork();
		int status;

		if (!pid)
			/* The sanitizers of clang 14 do not survive a fork beside threads that allocate. */
			_exit(child(batch, counter, queue, i < 2 && !SANITIZED));
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status)
			fail_msg("the child ended with %#x", (unsigned)status);
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(wrong, 0);
	assert_int_equal(cw_counter_add(counter, 1), CW_OK);
	assert_int_equal(cw_batch_wait(batch, 5 * SECOND), CW_OK);
	assert_int_equal(cw_batch_poll(batch), CW_BATCH_COMPLETED);
	cw_batch_release(batch);
	cw_counter_close(counter);
	cw_queue_close(queue);
	pair_close(&pair);
}

static void while_tcp_moves(void **state)
{
	(void)state;
	fork_while("tcp");
}

static void while_shared_memory_moves(void **state)
{
	(void)state;
	fork_while("shm");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(while_tcp_moves),
		cmocka_unit_test(while_shared_memory_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
