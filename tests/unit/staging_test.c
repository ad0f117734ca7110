/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory over transports that touch host memory only: every pair of kinds, both operations, every size and
 * shape; devices that fail, are slow or never answer; buffers that run out. The devices are those of
 * tests/plugin/fake_device.c, whose memory nobody can touch at its address.
 */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/fake.h>
#include <support/pair.h>
#include <support/sanitizers.h>

#include <cmocka.h>

#define CHUNK (256u * 1024)
#define LENGTH (6u << 20)

static struct fake_world w;

static struct cw_batch *submit(const struct cw_request *requests, size_t count, const struct cw_batch_options *options)
{
	struct cw_batch *batch;

	if (cw_batch_submit(w.near, requests, count, options, &batch))
		fail_msg("%s", cw_last_error());
	return batch;
}

static struct cw_batch_result result_of(struct cw_batch *batch)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	assert_int_equal(cw_batch_wait(batch, 20 * SECOND), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	/* The thread sanitizer dates what sendmsg() reads after what it releases: an answer more puts that right. */
	if (THREAD_SANITIZED && w.far != w.near)
		assert_int_equal(cw_segment_probe(w.segment, 20 * SECOND, NULL), CW_OK);
	return result;
}

static struct cw_batch_result run(const struct cw_request *requests, size_t count,
				  const struct cw_batch_options *options)
{
	struct cw_batch *batch = submit(requests, count, options);
	struct cw_batch_result result = result_of(batch);

	cw_batch_release(batch);
	return result;
}

static void until(unsigned (*count)(void), unsigned wanted)
{
	uint64_t end = now_ns() + 20 * SECOND;

	while (count() != wanted) {
		if (now_ns() > end)
			fail_msg("still %u instead of %u", count(), wanted);
		cw_engine_progress(w.near);
	}
}

/* ------------------------------------------------------------------------------------------- the matrix */

static const struct {
	const char *transports;
	int reads_devices; /* of the peer */
} ways[] = { { "local", 1 }, { "tcp", 1 }, { "shm", 0 }, { "shm,tcp", 1 } };

/* Moves [here, here + length) and looks at every byte of both memories. */
static void move(enum cw_op op, size_t here, size_t there, size_t length)
{
	struct cw_request request = fake_request(&w, op, here, there, length);
	unsigned char *want_here = malloc(w.length), *want_there = malloc(w.length);
	struct cw_batch_result result;

	fake_fill(w.here.bytes, w.length, 1);
	fake_fill(w.there.bytes, w.length, 2);
	memcpy(want_here, w.here.bytes, w.length);
	memcpy(want_there, w.there.bytes, w.length);
	if (op == CW_OP_WRITE)
		memcpy(want_there + there, want_here + here, length);
	else
		memcpy(want_here + here, want_there + there, length);
	result = run(&request, 1, NULL);
	if (result.status)
		fail_msg("%zu bytes: %s", length, result.text);
	assert_int_equal(result.state, CW_BATCH_COMPLETED);
	assert_int_equal(result.bytes_completed, length);
	if (memcmp(want_here, w.here.bytes, w.length) || memcmp(want_there, w.there.bytes, w.length))
		fail_msg("%zu bytes from %zu to %zu: wrong bytes", length, here, there);
	free(want_here);
	free(want_there);
}

static void paged(enum cw_op op)
{
	static const uint32_t near_pages[] = { 9, 3, 4, 5, 100, 0, 60, 61 };
	static const uint64_t far_pages[] = { 7, 1, 30, 31, 32, 33, 2, 90 };
	struct cw_request request = fake_request(&w, op, 11, 1023, 5000);

	request.local.count = request.remote.count = 8;
	request.local.indices = near_pages;
	request.local.index_bits = 32;
	request.local.stride = 7000;
	request.remote.indices = far_pages;
	request.remote.index_bits = 64;
	fake_fill(w.here.bytes, w.length, 3);
	fake_fill(w.there.bytes, w.length, 4);
	assert_int_equal(run(&request, 1, NULL).state, CW_BATCH_COMPLETED);
	for (int i = 0; i < 8; i++)
		assert_memory_equal(w.here.bytes + 11 + near_pages[i] * 7000,
				    w.there.bytes + 1023 + far_pages[i] * 5000, 5000);
}

/* Thousands of small pages, of unequal size on both sides. */
static void many_pages(enum cw_op op)
{
	struct cw_request request = fake_request(&w, op, 1, 5, 96);

	request.local.count = 9000;
	request.local.stride = 128;
	request.remote.page_size = 36;
	request.remote.count = 24000;
	request.remote.stride = 200;
	fake_fill(w.here.bytes, w.length, 5);
	fake_fill(w.there.bytes, w.length, 6);
	assert_int_equal(run(&request, 1, NULL).state, CW_BATCH_COMPLETED);
	for (size_t i = 0; i < 9000 * 96; i++)
		if (w.here.bytes[1 + i / 96 * 128 + i % 96] != w.there.bytes[5 + i / 36 * 200 + i % 36])
			fail_msg("byte %zu is wrong", i);
}

static void refused(enum cw_op op)
{
	struct cw_request request = fake_request(&w, op, 0, 0, 100);
	struct cw_batch_result result = run(&request, 1, NULL);

	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_int_equal(result.status, CW_ERR_NO_PATH);
}

static void every_pair(int here, int there, const char *transports, int reads_devices)
{
	static const size_t sizes[] = { 1, 100, 4095, 65537, CHUNK, CHUNK + 1, (1u << 20) + 3, (5u << 20) + 7 };

	fake_world_open(&w, PLUGINS, transports, here, there, LENGTH, NULL, 0);
	for (int op = CW_OP_READ; op <= CW_OP_WRITE; op++) {
		if (op == CW_OP_READ && there >= 0 && !reads_devices) {
			refused(op);
			continue;
		}
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			move(op, 3 + 2 * i, 70001 - 5 * i, sizes[i]);
		paged(op);
		many_pages(op);
	}
	assert_true(w.devices->longest() <= CHUNK);
	if (here >= 0)
		assert_true(w.devices->copies(FAKE_OUT) > 0);
	if (there >= 0)
		assert_true(w.devices->copies(FAKE_IN) > 0);
	fake_world_close(&w);
}

static void all_pairs(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		for (int kind = 0; kind < 4; kind++)
			every_pair(kind & 1 ? 1 : -1, kind & 2 ? 2 : -1, ways[i].transports, ways[i].reads_devices);
}

static void large(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		fake_world_open(&w, PLUGINS, ways[i].transports, 0, 0, (64u << 20) + 4096, NULL, 0);
		move(CW_OP_WRITE, 13, 4000, 64u << 20);
		if (ways[i].reads_devices)
			move(CW_OP_READ, 13, 4000, 64u << 20);
		fake_world_close(&w);
	}
}

static void checksums(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_request requests[2];

	(void)state;
	options.flags = CW_BATCH_CHECKSUM;
	fake_world_open(&w, PLUGINS, "tcp", 0, 1, LENGTH, NULL, 0);
	fake_fill(w.here.bytes, LENGTH, 7);
	fake_fill(w.there.bytes, LENGTH, 8);
	requests[0] = fake_request(&w, CW_OP_WRITE, 1, 2, 2000000);
	requests[1] = fake_request(&w, CW_OP_READ, 3000000, 3000001, 2000000);
	assert_int_equal(run(requests, 2, &options).state, CW_BATCH_COMPLETED);
	assert_memory_equal(w.here.bytes + 1, w.there.bytes + 2, 2000000);
	assert_memory_equal(w.here.bytes + 3000000, w.there.bytes + 3000001, 2000000);
	fake_world_close(&w);
}

/* -------------------------------------------------------------------------------------------- the path */

static const struct cw_path_step *explain(enum cw_op op, const char *transport)
{
	static struct cw_path_step steps[8];
	size_t count = 0;

	if (cw_path_explain(w.segment, w.here.address, (uintptr_t)w.there.address, 4096, op, steps, 8, &count))
		fail_msg("%s", cw_last_error());
	for (size_t i = 0; i < count; i++)
		if (!strcmp(steps[i].transport, transport))
			return &steps[i];
	fail_msg("%s is not listed", transport);
	return NULL;
}

static void the_path_says_staged(void **state)
{
	(void)state;
	fake_world_open(&w, PLUGINS, "shm,tcp", 0, 1, LENGTH, NULL, 0);
	assert_int_equal(explain(CW_OP_WRITE, "tcp")->staged, 1);
	assert_int_equal(explain(CW_OP_WRITE, "shm")->staged, 1);
	assert_int_equal(explain(CW_OP_WRITE, "shm")->chosen, 1);
	assert_int_equal(explain(CW_OP_READ, "shm")->usable, 0);
	assert_non_null(strstr(explain(CW_OP_READ, "shm")->why, "device"));
	assert_int_equal(explain(CW_OP_READ, "tcp")->chosen, 1);
	assert_int_equal(explain(CW_OP_READ, "tcp")->rails_down, 0);
	fake_world_close(&w);
	fake_world_open(&w, PLUGINS, "tcp", -1, -1, LENGTH, NULL, 0);
	assert_int_equal(explain(CW_OP_WRITE, "tcp")->staged, 0);
	fake_world_close(&w);
}

static void rails_that_are_down_are_counted(void **state)
{
	static const struct cw_setting settings[] = {
		{ "transports/tcp/enable", "off" },
		{ "transports/fault/enable", "on" },
		{ "fault/down", "1000" },
		{ "fault/delay_us", "10000000" }, /* they stay down for up to 10 s */
	};
	struct cw_request request;
	struct cw_batch *batch;
	uint64_t end = now_ns() + 20 * SECOND;

	(void)state;
	fake_world_open(&w, PLUGINS, "fault", -1, -1, LENGTH, settings, 4);
	assert_int_equal(explain(CW_OP_WRITE, "fault")->rails_down, 0);
	request = fake_request(&w, CW_OP_WRITE, 0, 0, 100);
	batch = submit(&request, 1, NULL);
	while (!explain(CW_OP_WRITE, "fault")->rails_down)
		assert_true(now_ns() < end);
	assert_true(explain(CW_OP_WRITE, "fault")->rails_down <= explain(CW_OP_WRITE, "fault")->rails);
	assert_int_equal(cw_batch_cancel(batch), CW_OK);
	assert_int_equal(result_of(batch).state, CW_BATCH_CANCELED);
	cw_batch_release(batch);
	fake_world_close(&w);
}

/* -------------------------------------------------------------------------------------- devices that fail */

static void our_device_fails(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (int op = CW_OP_READ; op <= CW_OP_WRITE; op++) {
			struct cw_request requests[2];
			struct cw_batch_result result;

			fake_world_open(&w, PLUGINS, ways[i].transports, 1, -1, LENGTH, NULL, 0);
			requests[0] = fake_request(&w, op, 0, 0, 3000000);
			w.devices->spoil(op == CW_OP_WRITE ? FAKE_OUT : FAKE_IN, 3, 1);
			result = run(requests, 1, NULL);
			assert_int_equal(result.state, CW_BATCH_FAILED);
			assert_int_equal(result.status, CW_ERR_IO);
			assert_int_equal(result.local_quiet, 1);
			assert_int_equal(result.remote, CW_REMOTE_QUIET);
			assert_non_null(strstr(result.text, "fake:1"));
			assert_true(result.bytes_completed < 3000000);
			/* And the next one works. */
			requests[1] = fake_request(&w, op, 3000000, 3000000, 3000000);
			assert_int_equal(run(requests + 1, 1, NULL).state, CW_BATCH_COMPLETED);
			assert_int_equal(cw_region_unregister(w.here.region), CW_OK);
			fake_world_close(&w);
		}
	}
}

/* A failure of the peer's device is a failure of the path: it is tried again, in the end another way or not at all. */
static void the_peers_device_fails(void **state)
{
	static const struct cw_setting settings[] = { { "batch/retries", "2" } };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (int op = CW_OP_READ; op <= CW_OP_WRITE; op++) {
			struct cw_request request;
			struct cw_batch_result result;

			if (op == CW_OP_READ && !ways[i].reads_devices)
				continue;
			fake_world_open(&w, PLUGINS, ways[i].transports, -1, 1, LENGTH, settings, 1);
			request = fake_request(&w, op, 0, 0, 600000);
			fake_fill(w.here.bytes, LENGTH, 9);
			fake_fill(w.there.bytes, LENGTH, 10);
			w.devices->spoil(op == CW_OP_WRITE ? FAKE_IN : FAKE_OUT, 2, 1);
			result = run(&request, 1, NULL);
			if (result.status)
				fail_msg("%s: %s", ways[i].transports, result.text);
			assert_memory_equal(w.here.bytes, w.there.bytes, 600000);
			w.devices->spoil(op == CW_OP_WRITE ? FAKE_IN : FAKE_OUT, 1, UINT64_MAX / 2);
			result = run(&request, 1, NULL);
			assert_int_equal(result.state, CW_BATCH_FAILED);
			assert_int_equal(result.status, CW_ERR_IO);
			assert_int_equal(result.local_quiet, 1);
			fake_world_close(&w);
		}
	}
}

/* ------------------------------------------------------------------------------------- devices that hang */

static void take_quiet(const struct cw_batch *batch)
{
	struct cw_event event;

	assert_int_equal(cw_queue_wait(cw_engine_queue(w.near), &event, 1, 20 * SECOND), 1);
	assert_int_equal(event.kind, CW_EVENT_QUIET);
	assert_ptr_equal(event.batch, batch);
	cw_event_clear(&event);
}

static const struct cw_setting short_grace[] = { { "batch/grace", "100" }, { "progress/threads", "2" } };

static void a_hang_times_out(const char *transports, enum cw_op op)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_request request;
	struct cw_batch_result result;
	struct cw_batch *batch;
	void *other;
	struct cw_region *other_region;

	fake_world_open(&w, PLUGINS, transports, 1, -1, LENGTH, short_grace, 2);
	fake_fill(w.here.bytes, LENGTH, 11);
	fake_fill(w.there.bytes, LENGTH, 12);
	request = fake_request(&w, op, 0, 0, 3000000);
	options.deadline_ns = now_ns() + 200 * MS;
	w.devices->hang(1, 1);
	batch = submit(&request, 1, &options);
	until(w.devices->hanging, 1);
	result = result_of(batch);
	assert_int_equal(result.state, CW_BATCH_TIMED_OUT);
	assert_int_equal(result.local_quiet, 0);
	assert_int_equal(result.remote, CW_REMOTE_UNKNOWN);
	assert_true(result.ended_ns - options.deadline_ns < 5 * SECOND);
	assert_int_equal(cw_region_unregister(w.here.region), CW_ERR_BUSY); /* quarantined */
	/* Another device, and host memory, are served as before. */
	other = w.devices->allocate(2, LENGTH);
	assert_int_equal(cw_region_register(w.near, other, LENGTH, NULL, &other_region), CW_OK);
	request.local.base = (uintptr_t)other;
	assert_int_equal(run(&request, 1, NULL).state, CW_BATCH_COMPLETED);
	w.devices->hang(1, 0);
	take_quiet(batch);
	result = result_of(batch);
	assert_int_equal(result.state, CW_BATCH_TIMED_OUT);
	assert_int_equal(result.local_quiet, 1);
	assert_int_equal(result.remote, CW_REMOTE_QUIET);
	cw_batch_release(batch);
	assert_int_equal(cw_region_unregister(w.here.region), CW_OK);
	assert_int_equal(cw_region_unregister(other_region), CW_OK);
	w.devices->release(other);
	fake_world_close(&w);
}

static void hangs_time_out(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		a_hang_times_out(ways[i].transports, CW_OP_WRITE);
		a_hang_times_out(ways[i].transports, CW_OP_READ);
	}
}

/* Inside one engine the peer's device is ours too, and holds up nobody either. */
static void a_hang_of_the_other_side(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_request request;
	struct cw_batch_result result;
	struct cw_batch *batch;

	(void)state;
	fake_world_open(&w, PLUGINS, "local", -1, 1, LENGTH, short_grace, 2);
	request = fake_request(&w, CW_OP_WRITE, 0, 0, 3000000);
	options.deadline_ns = now_ns() + 100 * MS;
	w.devices->hang(1, 1);
	batch = submit(&request, 1, &options);
	until(w.devices->hanging, 1);
	result = result_of(batch);
	assert_int_equal(result.state, CW_BATCH_TIMED_OUT);
	assert_int_equal(result.local_quiet, 0);
	w.devices->hang(1, 0);
	take_quiet(batch);
	cw_batch_release(batch);
	fake_world_close(&w);
}

/* Of two ranges that land together the first fails and the second hangs, and so may be written yet. */
static void a_hang_behind_a_failure(void **state)
{
	static const struct cw_setting settings[] = { { "batch/retries", "0" } };

	(void)state;
	for (size_t i = 1; i < 3; i++) {
		struct cw_request request;
		struct cw_batch_result result;

		fake_world_open(&w, PLUGINS, ways[i].transports, -1, 1, LENGTH, settings, 1);
		request = fake_request(&w, CW_OP_WRITE, 0, 0, 1000);
		request.local.count = request.remote.count = 2;
		request.remote.stride = 5000;
		w.devices->spoil(FAKE_IN, 1, 1);
		w.devices->hang(1, 1);
		result = run(&request, 1, NULL);
		assert_int_equal(w.devices->hanging(), 1);
		assert_int_equal(result.state, CW_BATCH_FAILED);
		assert_int_equal(result.status, CW_ERR_IO);
		assert_int_equal(result.local_quiet, 1);
		assert_int_equal(result.remote, CW_REMOTE_UNKNOWN);
		w.devices->hang(1, 0);
		fake_world_close(&w);
	}
}

static void cancel_in_a_hang(void **state)
{
	struct cw_request request;
	struct cw_batch_result result;
	struct cw_batch *batches[2];

	(void)state;
	fake_world_open(&w, PLUGINS, "tcp", 1, -1, LENGTH, NULL, 0);
	request = fake_request(&w, CW_OP_WRITE, 0, 0, 100000);
	w.devices->hang(1, 1);
	batches[0] = submit(&request, 1, NULL);
	until(w.devices->hanging, 1);
	batches[1] = submit(&request, 1, NULL);
	/* What the device has not begun with is quiet at once. */
	assert_int_equal(cw_batch_cancel(batches[1]), CW_OK);
	result = result_of(batches[1]);
	assert_int_equal(result.state, CW_BATCH_CANCELED);
	assert_int_equal(result.local_quiet, 1);
	assert_int_equal(cw_batch_cancel(batches[0]), CW_OK);
	w.devices->hang(1, 0);
	result = result_of(batches[0]); /* or what it was about to be */
	assert_true(result.state == CW_BATCH_CANCELED || result.state == CW_BATCH_COMPLETED);
	assert_int_equal(result.local_quiet, 1);
	cw_batch_release(batches[0]);
	cw_batch_release(batches[1]);
	fake_world_close(&w);
}

/* Closing does not wait for a device that never answers; what is left goes when it does. */
static void closing_in_a_hang(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		for (int here = 0; here < 2; here++) {
			struct cw_request request;
			struct cw_batch *batch;
			uint64_t began;

			if (!here && strcmp(ways[i].transports, "local")) /* there it is the peer's loop that hangs */
				continue;
			fake_world_open(&w, PLUGINS, ways[i].transports, here ? 1 : -1, here ? -1 : 1, LENGTH,
					short_grace, 2);
			request = fake_request(&w, CW_OP_WRITE, 0, 0, 3000000);
			w.devices->hang(1, 1);
			batch = submit(&request, 1, NULL);
			until(w.devices->hanging, 1);
			cw_segment_close(w.segment);
			began = now_ns();
			cw_engine_close(w.near);
			assert_true(now_ns() - began < 15 * SECOND);
			cw_batch_release(batch);
			w.devices->hang(1, 0);
			if (w.far != w.near)
				cw_engine_close(w.far);
			while (w.devices->hanging())
				;
			w.segment = NULL;
			/* The memory stays: the copy may be under way. */
		}
	}
}

/* ------------------------------------------------------------------------------------------ few buffers */

static void few_buffers(void **state)
{
	static const struct cw_setting settings[] = { { "staging/memory", "1m" }, { "progress/threads", "2" } };
	enum { COUNT = 1000 };
	struct cw_request *requests = calloc(COUNT, sizeof(*requests));

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		fake_world_open(&w, PLUGINS, ways[i].transports, 0, ways[i].reads_devices ? 1 : -1, LENGTH, settings,
				2);
		fake_fill(w.here.bytes, LENGTH, 13);
		fake_fill(w.there.bytes, LENGTH, 14);
		for (size_t j = 0; j < COUNT; j++)
			requests[j] = fake_request(&w, j & 1 ? CW_OP_WRITE : CW_OP_READ, j * 5000 + 1, j * 5000 + 7,
						   j % 4999 + 1);
		assert_int_equal(run(requests, COUNT, NULL).state, CW_BATCH_COMPLETED);
		for (size_t j = 0; j < COUNT; j++)
			assert_memory_equal(w.here.bytes + j * 5000 + 1, w.there.bytes + j * 5000 + 7, j % 4999 + 1);
		fake_world_close(&w);
	}
	free(requests);
}

/* Whoever waits drives, also what comes back from devices. */
static void without_progress_threads(void **state)
{
	static const struct cw_setting settings[] = { { "progress/threads", "0" }, { "staging/memory", "1m" } };
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_request request;
	struct cw_event event;

	(void)state;
	fake_world_open(&w, PLUGINS, "local", 0, 1, LENGTH, settings, 2);
	move(CW_OP_WRITE, 1, 2, 4000000);
	move(CW_OP_READ, 3, 4, 4000000);
	request = fake_request(&w, CW_OP_WRITE, 0, 0, LENGTH);
	options.queue = cw_engine_queue(w.near);
	cw_batch_release(submit(&request, 1, &options));
	assert_int_equal(cw_queue_wait(options.queue, &event, 1, 20 * SECOND), 1);
	assert_int_equal(event.kind, CW_EVENT_BATCH);
	assert_memory_equal(w.here.bytes, w.there.bytes, LENGTH);
	fake_world_close(&w);
}

/* Many requests, devices that take their time, cancels in between: everything ends, and every byte of what completed is
 * right. */
static void slow_devices(void **state)
{
	enum { COUNT = 24 };
	static const struct cw_setting settings[] = { { "staging/memory", "2m" } };
	struct cw_request requests[COUNT];
	struct cw_batch *batches[COUNT];

	(void)state;
	fake_world_open(&w, PLUGINS, "tcp", 0, 1, LENGTH, settings, 1);
	fake_fill(w.here.bytes, LENGTH, 15);
	fake_fill(w.there.bytes, LENGTH, 16);
	w.devices->delay(200000);
	for (int i = 0; i < COUNT; i++) {
		requests[i] = fake_request(&w, i & 1 ? CW_OP_READ : CW_OP_WRITE, (size_t)i * 250000,
					   (size_t)i * 250000 + 17, 200000);
		batches[i] = submit(&requests[i], 1, NULL);
	}
	for (int i = 0; i < COUNT; i += 5)
		assert_int_equal(cw_batch_cancel(batches[i]), CW_OK);
	for (int i = 0; i < COUNT; i++) {
		struct cw_batch_result result = result_of(batches[i]);

		assert_int_equal(result.local_quiet, 1);
		if (i % 5)
			assert_int_equal(result.state, CW_BATCH_COMPLETED);
		if (result.state == CW_BATCH_COMPLETED)
			assert_memory_equal(w.here.bytes + (size_t)i * 250000, w.there.bytes + (size_t)i * 250000 + 17,
					    200000);
		cw_batch_release(batches[i]);
	}
	fake_world_close(&w);
}

/* A transport with bad luck between devices: slices that were staged are lost, refused, doubled, late. */
static void bad_luck(void **state)
{
	enum { COUNT = 300 };
	static const struct cw_setting settings[] = {
		{ "transports/tcp/enable", "off" },
		{ "transports/fault/enable", "on" },
		{ "fault/fail", "50" },
		{ "fault/delay", "50" },
		{ "fault/duplicate", "50" },
		{ "fault/reorder", "50" },
		{ "fault/refuse", "50" },
		{ "staging/memory", "2m" },
	};
	struct cw_request requests[COUNT];

	(void)state;
	fake_world_open(&w, PLUGINS, "fault", 0, 1, LENGTH, settings, 8);
	fake_fill(w.here.bytes, LENGTH, 17);
	fake_fill(w.there.bytes, LENGTH, 18);
	for (size_t i = 0; i < COUNT; i++)
		requests[i] = fake_request(&w, i & 1 ? CW_OP_READ : CW_OP_WRITE, i * 20000, i * 20000 + 17, 18000);
	assert_int_equal(run(requests, COUNT, NULL).state, CW_BATCH_COMPLETED);
	for (size_t i = 0; i < COUNT; i++)
		assert_memory_equal(w.here.bytes + i * 20000, w.there.bytes + i * 20000 + 17, 18000);
	fake_world_close(&w);
}

/* --------------------------------------------------------------------------------------- registration */

static void locations(void **state)
{
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct cw_region_info info = { .size = sizeof(info) };
	struct cw_remote_region remote;
	struct cw_region *region;
	size_t count;

	(void)state;
	fake_world_open(&w, PLUGINS, "tcp", 2, 3, LENGTH, NULL, 0);
	assert_int_equal(cw_region_info_get(w.here.region, &info), CW_OK);
	assert_int_equal(info.kind, CW_MEMORY_DEVICE);
	assert_int_equal(info.device, 2);
	assert_string_equal(info.location, "fake:2");
	assert_int_equal(cw_segment_regions(w.segment, &remote, 1, &count), CW_OK);
	assert_int_equal(count, 1);
	assert_int_equal(remote.kind, CW_MEMORY_DEVICE);
	assert_string_equal(remote.location, "fake:3");
	assert_int_equal(cw_region_unregister(w.here.region), CW_OK);
	options.location = "fake:1";
	assert_int_equal(cw_region_register(w.near, w.here.address, LENGTH, &options, &region), CW_ERR_LOCATION);
	fake_world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_pairs),
		cmocka_unit_test(large),
		cmocka_unit_test(checksums),
		cmocka_unit_test(the_path_says_staged),
		cmocka_unit_test(rails_that_are_down_are_counted),
		cmocka_unit_test(our_device_fails),
		cmocka_unit_test(the_peers_device_fails),
		cmocka_unit_test(hangs_time_out),
		cmocka_unit_test(a_hang_of_the_other_side),
		cmocka_unit_test(a_hang_behind_a_failure),
		cmocka_unit_test(cancel_in_a_hang),
		cmocka_unit_test(closing_in_a_hang),
		cmocka_unit_test(few_buffers),
		cmocka_unit_test(slow_devices),
		cmocka_unit_test(without_progress_threads),
		cmocka_unit_test(bad_luck),
		cmocka_unit_test(locations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
