/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callers that wait drive their loop in place of its progress thread. These tests look at moments when that could go
 * wrong: the caller that drives sits in a callback, or goes just when something comes.
 */
#include <core/core.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "support/pair.h"

#define LENGTH (8u << 20)
#define ROUNDS 2000u
#define PARKED_LONG 2u /* as in loop.c: the progress thread sleeps until the caller that drives goes */

/* A caller that waits for a batch which only ends when the counter says so. */
struct waiter {
	pthread_t thread;
	struct cw_counter *counter;
	struct cw_batch *batch;
	int status;
};

static void *wait_for_it(void *arg)
{
	struct waiter *waiter = arg;

	waiter->status = cw_batch_wait(waiter->batch, 20 * SECOND);
	return NULL;
}

static void waiter_start(struct waiter *waiter, struct cw_engine *engine)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;

	assert_int_equal(cw_counter_open(engine, 0, &waiter->counter), CW_OK);
	options.counter = waiter->counter;
	options.counter_value = 1;
	assert_int_equal(cw_batch_submit(engine, NULL, 0, &options, &waiter->batch), CW_OK);
	assert_int_equal(pthread_create(&waiter->thread, NULL, wait_for_it, waiter), 0);
}

static void waiter_end(struct waiter *waiter)
{
	assert_int_equal(cw_counter_add(waiter->counter, 1), CW_OK);
	pthread_join(waiter->thread, NULL);
	assert_int_equal(waiter->status, CW_OK);
	cw_batch_release(waiter->batch);
	cw_counter_close(waiter->counter);
}

static int comes(_Atomic int *word, uint64_t timeout)
{
	uint64_t until = now_ns() + timeout;

	while (!atomic_load(word) && now_ns() < until)
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	return atomic_load(word);
}

/* Until the progress thread has left everything to the caller that waits. Where it sleeps it must be woken to see that
 * there is one. */
static void await_parking(struct cw_loop *loop)
{
	uint64_t until = now_ns() + 10 * SECOND;

	for (unsigned i = 0; atomic_load(&loop->park) != PARKED_LONG && now_ns() < until; i++) {
		if (i % 500 == 0)
			cw__loop_kick(loop);
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	}
	assert_int_equal(atomic_load(&loop->park), PARKED_LONG);
}

/* --------------------------------------------------------------------------------- a callback that takes long */

static struct {
	_Atomic int inside, leave;
	pthread_t thread;
} callback;

static void stay(void *arg, struct cw_batch *batch)
{
	(void)arg;
	(void)batch;
	callback.thread = pthread_self();
	atomic_store(&callback.inside, 1);
	comes(&callback.leave, 15 * SECOND);
}

/* Brings the waiter, which is the only one that drives, into the callback: by the end of a batch that nobody else can
 * see. */
static struct cw_batch *occupy(struct waiter *waiter, struct pair *pair)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch *batch;

	memset(&callback, 0, sizeof(callback));
	await_parking(&pair->near->loops[0]);
	options.counter = waiter->counter;
	options.counter_value = 2; /* never */
	options.deadline_ns = now_ns() + 20 * MS;
	options.callback = stay;
	assert_int_equal(cw_batch_submit(pair->near, NULL, 0, &options, &batch), CW_OK);
	assert_true(comes(&callback.inside, 10 * SECOND));
	assert_true(pthread_equal(callback.thread, waiter->thread));
	return batch;
}

static int ends(struct cw_batch *batch)
{
	uint64_t until = now_ns() + 5 * SECOND;

	while (cw_batch_poll(batch) < CW_BATCH_COMPLETED && now_ns() < until)
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	return cw_batch_poll(batch) >= CW_BATCH_COMPLETED;
}

/* Others submit, and look now and then: the engine goes on without them. */
static void a_callback_that_takes_long_holds_nobody_up(void **state)
{
	struct cw_batch *occupied, *moved;
	struct cw_request request;
	struct waiter waiter;
	struct pair pair;
	int ended;

	(void)state;
	pair_open(&pair, "local", LENGTH);
	waiter_start(&waiter, pair.near);
	occupied = occupy(&waiter, &pair);
	request = pair_request(&pair, CW_OP_WRITE, 0, 0, LENGTH);
	assert_int_equal(cw_batch_submit(pair.near, &request, 1, NULL, &moved), CW_OK);
	ended = ends(moved);
	atomic_store(&callback.leave, 1);
	assert_true(ended);
	cw_batch_release(moved);
	cw_batch_release(occupied);
	waiter_end(&waiter);
	pair_close(&pair);
}

static void deadlines_pass_during_a_callback(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch *occupied, *late;
	struct waiter waiter;
	struct pair pair;
	int ended;

	(void)state;
	pair_open(&pair, "local", LENGTH);
	waiter_start(&waiter, pair.near);
	occupied = occupy(&waiter, &pair);
	options.counter = waiter.counter;
	options.counter_value = 2;
	options.deadline_ns = now_ns() + 20 * MS;
	assert_int_equal(cw_batch_submit(pair.near, NULL, 0, &options, &late), CW_OK);
	ended = ends(late);
	atomic_store(&callback.leave, 1);
	assert_true(ended);
	cw_batch_release(late);
	cw_batch_release(occupied);
	waiter_end(&waiter);
	pair_close(&pair);
}

/* ------------------------------------------------------------------------------- callers that come and go */

static _Atomic int over;

/* Waits for so short that it goes all the time. */
static void *come_and_go(void *arg)
{
	struct cw_batch *batch = arg;

	for (unsigned i = 0; !atomic_load(&over); i++)
		cw_batch_wait(batch, 1 + i % 97 * 1000);
	return NULL;
}

static struct errand {
	struct cw_task task;
	_Atomic int done;
} errand;

static void errand_run(struct cw_task *task)
{
	atomic_store(&cw__container(task, struct errand, task)->done, 1);
}

/* What is posted while the only caller that drives goes, or while one takes over from another, is done at once. */
static void nothing_posted_is_left_behind(void **state)
{
	static const unsigned callers[] = { 1, 2, 4 };

	(void)state;
	for (size_t row = 0; row < sizeof(callers) / sizeof(callers[0]); row++) {
		struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
		struct cw_engine *engine = engine_open(NULL, 0);
		struct cw_counter *counter;
		struct cw_batch *batch;
		pthread_t threads[4];

		assert_int_equal(cw_counter_open(engine, 0, &counter), CW_OK);
		options.counter = counter;
		options.counter_value = 1;
		assert_int_equal(cw_batch_submit(engine, NULL, 0, &options, &batch), CW_OK);
		atomic_store(&over, 0);
		for (unsigned i = 0; i < callers[row]; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, batch), 0);
		errand.task.run = errand_run;
		for (unsigned i = 0; i < ROUNDS; i++) {
			atomic_store(&errand.done, 0);
			cw__task_post(&engine->loops[0], &errand.task);
			assert_true(comes(&errand.done, 10 * SECOND));
		}
		atomic_store(&over, 1);
		for (unsigned i = 0; i < callers[row]; i++)
			pthread_join(threads[i], NULL);
		cw_batch_release(batch);
		cw_counter_close(counter);
		cw_engine_close(engine);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_callback_that_takes_long_holds_nobody_up),
		cmocka_unit_test(deadlines_pass_during_a_callback),
		cmocka_unit_test(nothing_posted_is_left_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
