/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches that wait for streams and events of devices, and streams that wait for batches. The devices are those of
 * tests/plugin/fake_device.c: the test says when an event happens, and each fence blocks a thread of its own.
 */
#include <causeway/causeway.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/fake.h>
#include <support/pair.h>

#include <cmocka.h>

#define LENGTH (1u << 20)

static struct fake_world w;

static int set_up(void **state)
{
	(void)state;
	fake_world_open(&w, PLUGINS, "tcp", -1, -1, LENGTH, NULL, 0);
	fake_fill(w.here.bytes, LENGTH, 1);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_world_close(&w);
	return 0;
}

static struct cw_device_sync at(uint32_t kind, uintptr_t handle)
{
	return (struct cw_device_sync){ .location = "fake:1", .kind = kind, .handle = (void *)handle };
}

static int try_submit(const struct cw_device_sync *syncs, size_t count, struct cw_batch_options *options,
		      struct cw_batch **batch_out)
{
	struct cw_batch_options plain = CW_BATCH_OPTIONS_INIT;
	struct cw_request request = fake_request(&w, CW_OP_WRITE, 0, 0, 4096);

	options = options ? options : &plain;
	options->device_after = syncs;
	options->device_after_count = count;
	return cw_batch_submit(w.near, &request, 1, options, batch_out);
}

static struct cw_batch *submit(const struct cw_device_sync *syncs, size_t count, struct cw_batch_options *options)
{
	struct cw_batch *batch = NULL;

	if (try_submit(syncs, count, options, &batch))
		fail_msg("%s", cw_last_error());
	return batch;
}

static struct cw_batch_result end_of(struct cw_batch *batch)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	assert_int_equal(cw_batch_wait(batch, 20 * SECOND), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	cw_batch_release(batch);
	return result;
}

static void all_must_come(void **state)
{
	struct cw_device_sync syncs[64];
	struct cw_batch *batch;

	(void)state;
	for (uintptr_t i = 0; i < 64; i++)
		syncs[i] = at(i & 1 ? CW_DEVICE_EVENT : CW_DEVICE_STREAM, i + 1);
	batch = submit(syncs, 64, NULL);
	memset(syncs, 0, sizeof(syncs)); /* used during the call only */
	for (uintptr_t i = 64; i > 0; i--) {
		assert_int_equal(cw_batch_wait(batch, 0), CW_ERR_AGAIN);
		assert_int_equal(cw_batch_poll(batch), CW_BATCH_WAITING);
		assert_int_equal(w.there.bytes[0], 0);
		w.devices->fire(i, CW_OK);
	}
	assert_int_equal(end_of(batch).state, CW_BATCH_COMPLETED);
	assert_memory_equal(w.here.bytes, w.there.bytes, 4096);
}

static void some_came_before(void **state)
{
	struct cw_device_sync syncs[] = { at(CW_DEVICE_EVENT, 1), at(CW_DEVICE_EVENT, 2) };
	struct cw_batch *batch;

	(void)state;
	w.devices->fire(1, CW_OK);
	batch = submit(syncs, 2, NULL);
	assert_int_equal(cw_batch_poll(batch), CW_BATCH_WAITING);
	w.devices->fire(2, CW_OK);
	assert_int_equal(end_of(batch).state, CW_BATCH_COMPLETED);
	assert_int_equal(end_of(submit(syncs, 2, NULL)).state, CW_BATCH_COMPLETED);
	assert_int_equal(w.devices->watching(), 0);
}

static void with_other_prerequisites(void **state)
{
	struct cw_device_sync sync = at(CW_DEVICE_EVENT, 1);
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch *first, *second;
	struct cw_counter *counter;

	(void)state;
	assert_int_equal(cw_counter_open(w.near, 0, &counter), CW_OK);
	first = submit(&sync, 1, NULL);
	options.after = &first;
	options.after_count = 1;
	options.counter = counter;
	options.counter_value = 1;
	sync = at(CW_DEVICE_EVENT, 2);
	second = submit(&sync, 1, &options);
	w.devices->fire(2, CW_OK);
	assert_int_equal(cw_counter_add(counter, 1), CW_OK);
	assert_int_equal(cw_batch_poll(second), CW_BATCH_WAITING);
	w.devices->fire(1, CW_OK);
	assert_int_equal(end_of(second).state, CW_BATCH_COMPLETED);
	assert_int_equal(end_of(first).state, CW_BATCH_COMPLETED);
	cw_counter_close(counter);
}

static void a_failed_one_ends_it(void **state)
{
	struct cw_device_sync syncs[] = { at(CW_DEVICE_EVENT, 1), at(CW_DEVICE_STREAM, 2) };
	struct cw_batch_result result;
	struct cw_batch *batch;

	(void)state;
	batch = submit(syncs, 2, NULL);
	w.devices->fire(2, CW_ERR_IO);
	result = end_of(batch);
	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_int_equal(result.status, CW_ERR_PREREQUISITE);
	assert_int_equal(result.local_quiet, 1);
	w.devices->fire(1, CW_OK); /* nobody is there */
	result = end_of(submit(syncs, 2, NULL));
	assert_int_equal(result.status, CW_ERR_PREREQUISITE);
}

static void deadline_and_cancel(void **state)
{
	struct cw_device_sync syncs[] = { at(CW_DEVICE_EVENT, 1), at(CW_DEVICE_EVENT, 2) };
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch *batch;

	(void)state;
	options.deadline_ns = now_ns() + 20 * MS;
	batch = submit(syncs, 2, &options);
	w.devices->fire(1, CW_OK);
	assert_int_equal(end_of(batch).state, CW_BATCH_TIMED_OUT);
	batch = submit(syncs, 2, NULL);
	assert_int_equal(cw_batch_cancel(batch), CW_OK);
	assert_int_equal(end_of(batch).state, CW_BATCH_CANCELED);
	assert_int_equal(w.devices->watching(), 2);
	w.devices->fire(2, CW_OK);
	assert_int_equal(w.there.bytes[0], 0);
}

static void refusals(void **state)
{
	struct cw_device_sync syncs[65];
	struct cw_batch *batch = NULL;

	(void)state;
	for (uintptr_t i = 0; i < 65; i++)
		syncs[i] = at(CW_DEVICE_EVENT, i + 1);
	assert_int_equal(try_submit(syncs, 65, NULL, &batch), CW_ERR_INVALID);
	assert_int_equal(w.devices->watching(), 0);
	assert_int_equal(try_submit(NULL, 1, NULL, &batch), CW_ERR_INVALID);
	/* The third is wrong: the first two stay without effect. */
	syncs[2].handle = (void *)(uintptr_t)w.devices->bad_handle;
	assert_int_equal(try_submit(syncs, 4, NULL, &batch), CW_ERR_INVALID);
	assert_int_equal(w.devices->watching(), 2);
	syncs[2] = at(2, 3);
	assert_int_equal(try_submit(syncs, 4, NULL, &batch), CW_ERR_INVALID);
	syncs[2] = at(CW_DEVICE_EVENT, 3);
	syncs[2].location = "fake:9";
	assert_int_equal(try_submit(syncs, 4, NULL, &batch), CW_ERR_INVALID);
	assert_non_null(strstr(cw_last_error(), "fake:9"));
	syncs[2].location = NULL;
	assert_int_equal(try_submit(syncs, 4, NULL, &batch), CW_ERR_INVALID);
	syncs[2].location = "cpu:0";
	assert_int_equal(try_submit(syncs, 4, NULL, &batch), CW_ERR_UNSUPPORTED);
	assert_null(batch);
	w.devices->fire(1, CW_OK);
	w.devices->fire(2, CW_ERR_IO);
}

/* A runtime may come back to a batch that is over and to an engine that is closed. */
static void late_ones_are_harmless(void **state)
{
	struct cw_device_sync syncs[] = { at(CW_DEVICE_EVENT, 1), at(CW_DEVICE_EVENT, 2) };
	struct cw_batch *kept, *released;

	(void)state;
	fake_world_open(&w, PLUGINS, "tcp", -1, -1, LENGTH, NULL, 0);
	kept = submit(syncs, 2, NULL);
	released = submit(syncs, 2, NULL);
	cw_batch_release(released);
	fake_world_close(&w);
	assert_int_equal(cw_batch_poll(kept), CW_BATCH_CANCELED);
	w.devices->fire(1, CW_OK);
	cw_batch_release(kept);
	w.devices->fire(2, CW_ERR_IO);
	assert_int_equal(w.devices->watching(), 0);
}

static _Atomic int stop;

static void *fire_for_ever(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop))
		for (uintptr_t i = 1; i <= 8; i++)
			w.devices->fire(i, CW_OK);
	return NULL;
}

/* Events of another thread meet cancels and the end of the engine. */
static void races(void **state)
{
	pthread_t thread;

	(void)state;
	for (int round = 0; round < 10; round++) {
		struct cw_batch *batches[64];

		fake_world_open(&w, PLUGINS, "tcp", -1, -1, LENGTH, NULL, 0);
		atomic_store(&stop, 0);
		assert_int_equal(pthread_create(&thread, NULL, fire_for_ever, NULL), 0);
		for (uintptr_t i = 0; i < 64; i++) {
			struct cw_device_sync syncs[] = { at(CW_DEVICE_EVENT, i % 8 + 1),
							  at(CW_DEVICE_STREAM, (i + 1) % 8 + 1),
							  at(CW_DEVICE_STREAM, i % 3 ? i % 7 + 1 : 9) };

			batches[i] = submit(syncs, 3, NULL);
			if (i & 1)
				assert_int_equal(cw_batch_cancel(batches[i]), CW_OK);
		}
		fake_world_close(&w);
		for (int i = 0; i < 64; i++)
			cw_batch_release(batches[i]);
		atomic_store(&stop, 1);
		assert_int_equal(pthread_join(thread, NULL), 0);
		for (uintptr_t i = 1; i <= 9; i++)
			w.devices->fire(i, CW_OK);
	}
}

/* -------------------------------------------------------------------------------------------- fences */

static void until_blocked(unsigned wanted)
{
	uint64_t end = now_ns() + 20 * SECOND;

	while (w.devices->blocked() != wanted)
		if (now_ns() > end)
			fail_msg("still %u streams blocked instead of %u", w.devices->blocked(), wanted);
}

static void streams_wait(void **state)
{
	struct cw_device_sync event = at(CW_DEVICE_EVENT, 1),
			      streams[] = { at(CW_DEVICE_STREAM, 0), at(CW_DEVICE_STREAM, 5) };
	struct cw_batch *batch;

	(void)state;
	batch = submit(&event, 1, NULL);
	assert_int_equal(cw_batch_fence(batch, &streams[0]), CW_OK);
	assert_int_equal(cw_batch_fence(batch, &streams[1]), CW_OK);
	assert_int_equal(cw_batch_fence(batch, &streams[1]), CW_OK);
	until_blocked(3);
	w.devices->fire(1, CW_OK);
	assert_int_equal(cw_batch_wait(batch, 20 * SECOND), CW_OK);
	until_blocked(0);
	/* One that is over needs no fence. */
	assert_int_equal(w.devices->fences(), 3);
	assert_int_equal(cw_batch_fence(batch, &streams[0]), CW_OK);
	assert_int_equal(w.devices->fences(), 3);
	cw_batch_release(batch);
}

static void streams_wait_for_released_and_failed_ones(void **state)
{
	struct cw_device_sync event = at(CW_DEVICE_EVENT, 1), stream = at(CW_DEVICE_STREAM, 7);
	struct cw_batch *released, *canceled;

	(void)state;
	released = submit(&event, 1, NULL);
	canceled = submit(&event, 1, NULL);
	assert_int_equal(cw_batch_fence(released, &stream), CW_OK);
	assert_int_equal(cw_batch_fence(canceled, &stream), CW_OK);
	cw_batch_release(released);
	until_blocked(2);
	assert_int_equal(cw_batch_cancel(canceled), CW_OK);
	until_blocked(1);
	assert_int_equal(end_of(canceled).state, CW_BATCH_CANCELED);
	w.devices->fire(1, CW_OK);
	until_blocked(0);
}

static void fences_end_with_the_engine(void **state)
{
	struct cw_device_sync event = at(CW_DEVICE_EVENT, 1), stream = at(CW_DEVICE_STREAM, 7);
	struct cw_batch *batch;

	(void)state;
	fake_world_open(&w, PLUGINS, "tcp", -1, -1, LENGTH, NULL, 0);
	batch = submit(&event, 1, NULL);
	assert_int_equal(cw_batch_fence(batch, &stream), CW_OK);
	until_blocked(1);
	fake_world_close(&w);
	until_blocked(0);
	assert_int_equal(cw_batch_fence(batch, &stream), CW_OK);
	assert_int_equal(w.devices->fences(), 1);
	cw_batch_release(batch);
	w.devices->fire(1, CW_OK);
}

static void fences_refused(void **state)
{
	struct cw_device_sync event = at(CW_DEVICE_EVENT, 1), stream = at(CW_DEVICE_STREAM, 7);
	struct cw_batch *batch;

	(void)state;
	batch = submit(&event, 1, NULL);
	assert_int_equal(cw_batch_fence(NULL, &stream), CW_ERR_INVALID);
	assert_int_equal(cw_batch_fence(batch, NULL), CW_ERR_INVALID);
	assert_int_equal(cw_batch_fence(batch, &event), CW_ERR_INVALID);
	stream.handle = (void *)(uintptr_t)w.devices->bad_handle;
	assert_int_equal(cw_batch_fence(batch, &stream), CW_ERR_INVALID);
	stream.location = "nobody:1";
	assert_int_equal(cw_batch_fence(batch, &stream), CW_ERR_INVALID);
	stream.location = "cpu:0";
	assert_int_equal(cw_batch_fence(batch, &stream), CW_ERR_UNSUPPORTED);
	assert_int_equal(w.devices->fences(), 0);
	w.devices->fire(1, CW_OK);
	assert_int_equal(end_of(batch).state, CW_BATCH_COMPLETED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_must_come, set_up, tear_down),
		cmocka_unit_test_setup_teardown(some_came_before, set_up, tear_down),
		cmocka_unit_test_setup_teardown(with_other_prerequisites, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_failed_one_ends_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(deadline_and_cancel, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refusals, set_up, tear_down),
		cmocka_unit_test(late_ones_are_harmless),
		cmocka_unit_test(races),
		cmocka_unit_test_setup_teardown(streams_wait, set_up, tear_down),
		cmocka_unit_test_setup_teardown(streams_wait_for_released_and_failed_ones, set_up, tear_down),
		cmocka_unit_test(fences_end_with_the_engine),
		cmocka_unit_test_setup_teardown(fences_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
