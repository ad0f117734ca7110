/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways of a peer copy, on emulated Sunrise devices, between two engines of this process: blocking, on streams, over
 * all links; many at once, canceled, closed in the middle; and what happens when a device is lost.
 */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/devices.h"
#include "support/pair.h"

#define MIB ((size_t)1 << 20)
#define LENGTH (32 * MIB)
#define LOSES (28 * MIB) /* a call of so many bytes between devices finds device 1 gone */
#define ENDS 3

static const char *const locations[ENDS] = { NULL, "sunrise:0", "sunrise:1" };

static const struct way {
	const char *name, *threshold, *striping;
	const char *why; /* of 8 MiB between two devices */
} ways[] = {
	{ "blocking", "0", "off", "calls of the runtime on a thread of their own" },
	{ "streams", "1", "off", "asynchronous calls of the runtime, on streams" },
	{ "links", "0", "on", "divided among the links between the two devices" },
};

static const struct way *way;

static struct world {
	struct cw_engine *near, *far;
	struct cw_segment *segment;
	unsigned char *here[ENDS], *there[ENDS];
	struct cw_region *here_regions[ENDS], *there_regions[ENDS];
} w;

static void allocate(struct cw_engine *engine, unsigned char **memory_out, struct cw_region **regions_out)
{
	for (int i = 0; i < ENDS; i++) {
		struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
		void *memory;

		options.location = locations[i];
		if (cw_memory_allocate(engine, LENGTH, &options, &memory, &regions_out[i]))
			fail_msg("%s", cw_last_error());
		memory_out[i] = memory;
	}
}

static int set_up(void **state)
{
	const struct cw_setting settings[] = {
		{ "transports/sunrise_link/async_memcpy_threshold", way->threshold },
		{ "transports/sunrise_link/enable_port_striping", way->striping },
	};

	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;

	(void)state;
	options.transports = "sunrise_link"; /* nothing shall be saved by another way */
	w.near = engine_open(settings, 2);
	w.far = engine_open(settings, 2);
	allocate(w.near, w.here, w.here_regions);
	allocate(w.far, w.there, w.there_regions);
	if (cw_segment_open(w.near, cw_engine_name(w.far), &options, &w.segment))
		fail_msg("%s", cw_last_error());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cw_segment_close(w.segment);
	cw_engine_close(w.near);
	cw_engine_close(w.far);
	return 0;
}

static struct cw_request request(int local, int remote, enum cw_op op, size_t offset, size_t length)
{
	return (struct cw_request){
		.segment = w.segment,
		.local = { .base = (uintptr_t)w.here[local] + offset, .page_size = length, .count = 1 },
		.remote = { .base = (uintptr_t)w.there[remote] + offset, .page_size = length, .count = 1 },
		.op = op,
	};
}

static struct cw_batch *submit(const struct cw_request *requests, size_t count)
{
	struct cw_batch *batch;

	if (cw_batch_submit(w.near, requests, count, NULL, &batch))
		fail_msg("%s", cw_last_error());
	return batch;
}

static struct cw_batch_result end_of(struct cw_batch *batch)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	assert_int_equal(cw_batch_wait(batch, 30 * SECOND), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	cw_batch_release(batch);
	return result;
}

static void fill(unsigned char *memory, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		memory[i] = (unsigned char)(i * 31 + (i >> 11) + seed);
}

static void every_pair(void **state)
{
	(void)state;
	for (int local = 0; local < ENDS; local++) {
		for (int remote = 1; remote < ENDS; remote++) {
			for (enum cw_op op = CW_OP_READ; op <= CW_OP_WRITE; op++) {
				const size_t offset = 12345, length = 9 * MIB + 1;
				struct cw_request one = request(local, remote, op, offset, length);
				unsigned char *from = op == CW_OP_WRITE ? w.here[local] : w.there[remote];
				unsigned char *to = op == CW_OP_WRITE ? w.there[remote] : w.here[local];

				fill(from, LENGTH / 2, (unsigned)(local * 8 + remote * 2) + op);
				memset(to, 0, LENGTH / 2);
				assert_int_equal(end_of(submit(&one, 1)).state, CW_BATCH_COMPLETED);
				assert_memory_equal(to + offset, from + offset, length);
				assert_int_equal(to[offset - 1], 0);
				assert_int_equal(to[offset + length], 0);
			}
		}
	}
}

static void the_way_is_told(void **state)
{
	struct cw_path_step steps[16];
	struct cw_request one = request(1, 2, CW_OP_WRITE, 0, 4096);
	size_t count;

	(void)state;
	assert_int_equal(end_of(submit(&one, 1)).state, CW_BATCH_COMPLETED);
	assert_int_equal(
		cw_path_explain(w.segment, w.here[1], (uintptr_t)w.there[2], 8 * MIB, CW_OP_WRITE, steps, 16, &count),
		CW_OK);
	assert_string_equal(steps[0].transport, "sunrise_link");
	assert_true(steps[0].chosen);
	assert_string_equal(steps[0].why, way->why);
	assert_false(steps[0].staged);
}

/* Directions and sizes mixed, more than all lanes take at once. */
static void many_at_once(void **state)
{
	struct cw_request requests[96];
	struct cw_batch *batches[4];

	(void)state;
	for (int end = 0; end < ENDS; end++) {
		fill(w.here[end], LENGTH, 7);
		memset(w.there[end], 0, LENGTH);
	}
	for (size_t i = 0; i < 96; i++) {
		size_t part = LENGTH / 96, length = i % 3 ? part : part / 50;
		int pair = (int)(i % 4);

		requests[i] = request(pair & 1 ? 2 : 1, pair & 2 ? 2 : 1, CW_OP_WRITE, i * part, length);
	}
	for (size_t i = 0; i < 4; i++)
		batches[i] = submit(requests + 24 * i, 24);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(end_of(batches[i]).state, CW_BATCH_COMPLETED);
	for (size_t i = 0; i < 96; i++)
		assert_memory_equal((void *)(uintptr_t)requests[i].remote.base,
				    (void *)(uintptr_t)requests[i].local.base, requests[i].local.page_size);
}

static void pages(void **state)
{
	enum { PAGES = 400, PAGE = 20011 };
	static uint32_t here[PAGES], there[PAGES];
	struct cw_request one = {
		.segment = w.segment,
		.local = { .base = (uintptr_t)w.here[1] + 1, .page_size = PAGE, .count = PAGES, .stride = PAGE + 9 },
		.remote = { .base = (uintptr_t)w.there[2] + 3, .page_size = PAGE, .count = PAGES, .stride = PAGE + 2 },
		.op = CW_OP_WRITE,
	};

	(void)state;
	for (uint32_t i = 0; i < PAGES; i++) {
		here[i] = i * 7 % PAGES;
		there[i] = (i * 3 + 1) % PAGES;
	}
	one.local.indices = here;
	one.remote.indices = there;
	one.local.index_bits = one.remote.index_bits = 32;
	fill(w.here[1], LENGTH, 3);
	memset(w.there[2], 0, LENGTH);
	assert_int_equal(end_of(submit(&one, 1)).state, CW_BATCH_COMPLETED);
	for (uint32_t i = 0; i < PAGES; i++)
		assert_memory_equal(w.there[2] + 3 + there[i] * (size_t)(PAGE + 2),
				    w.here[1] + 1 + here[i] * (size_t)(PAGE + 9), PAGE);
}

static void canceled_in_the_middle(void **state)
{
	struct cw_request requests[4];
	struct cw_batch_result result;
	struct cw_batch *batch;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		requests[i] = request(1, 2, CW_OP_WRITE, i * LENGTH / 4, LENGTH / 4);
	batch = submit(requests, 4);
	assert_int_equal(cw_batch_cancel(batch), CW_OK);
	result = end_of(batch);
	assert_true(result.local_quiet);
	assert_true(result.state == CW_BATCH_CANCELED || result.state == CW_BATCH_COMPLETED);
	assert_int_equal(end_of(submit(requests, 1)).state, CW_BATCH_COMPLETED);
}

/* tear_down closes under traffic. */
static void closed_in_the_middle(void **state)
{
	struct cw_request requests[4];
	struct cw_batch *batch;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		requests[i] = request(1, 2, i & 1 ? CW_OP_WRITE : CW_OP_READ, i * LENGTH / 4, LENGTH / 4);
	batch = submit(requests, 4);
	cw_batch_release(batch);
}

/* The last test of each way: the world has one device less afterwards. */
static void a_lost_device_ends_what_needs_it(void **state)
{
	struct cw_request one = request(1, 2, CW_OP_WRITE, 0, LOSES);
	struct cw_batch_result result;

	(void)state;
	result = end_of(submit(&one, 1));
	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_true(result.local_quiet);
	one = request(1, 2, CW_OP_WRITE, 0, 4096);
	assert_int_equal(end_of(submit(&one, 1)).state, CW_BATCH_FAILED);
	one = request(1, 1, CW_OP_WRITE, 0, 8 * MIB); /* the other device is well */
	fill(w.here[1], LENGTH, 9);
	assert_int_equal(end_of(submit(&one, 1)).state, CW_BATCH_COMPLETED);
	assert_memory_equal(w.there[1], w.here[1], 8 * MIB);
}

static int run(const char *name)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_pair, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_way_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(pages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(canceled_in_the_middle, set_up, tear_down),
		cmocka_unit_test_setup_teardown(closed_in_the_middle, set_up, tear_down),
	};
	const struct CMUnitTest last[] = {
		cmocka_unit_test_setup_teardown(a_lost_device_ends_what_needs_it, set_up, tear_down),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL) +
	       (way == &ways[1] ? cmocka_run_group_tests_name(name, last, NULL, NULL) : 0);
}

int main(void)
{
	char faults[] = "/tmp/causeway-test-XXXXXX";
	int failed = 0, fd;

	if (!emulated_devices()) {
		print_message("skipped: the emulated Tang runtime is not built\n");
		return 77;
	}
	fd = mkstemp(faults);
	if (fd < 0 || dprintf(fd, "tangMemcpyPeer* bytes=%zu times=1 removed 1\n", LOSES) < 0)
		return 1;
	close(fd);
	setenv("CAUSEWAY_EMULATE_FAULTS", faults, 1);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		way = &ways[(i + 2) % 3]; /* the one that loses a device is the last */
		failed += run(way->name);
	}
	unlink(faults);
	return failed;
}
