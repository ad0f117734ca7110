/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same table of cases on every transport: two engines in this process (one for `local`), memory of both kinds,
 * requests of every shape, refusals, notifications, revocation, cancellation. A new transport joins with one line in
 * `ways`.
 */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "support/devices.h"

#define SECOND UINT64_C(1000000000)
#define LENGTH (72u << 20)

/* One row = one way to move bytes. */
struct way {
	const char *name;
	const char *transports; /* for the segment */
	int same_engine;
	int engine_memory;      /* of the target; else ordinary memory */
	const char *expected;   /* in the path report */
	const char *near, *far; /* device memory, the engines' own; NULL = host memory */
};

static const struct way ways[] = {
	{ "local", NULL, 1, 1, "local", NULL, NULL },
	{ "shm granted", "shm", 0, 1, "shm", NULL, NULL },
	{ "shm attached", "shm", 0, 0, "shm", NULL, NULL },
	{ "tcp", "tcp", 0, 0, "tcp", NULL, NULL },
	{ "best", NULL, 0, 1, "shm", NULL, NULL },
	{ "sunrise_link", "sunrise_link", 0, 1, "sunrise_link", "sunrise:0", "sunrise:1" },
	{ "sunrise_link same device", "sunrise_link", 0, 1, "sunrise_link", "sunrise:1", "sunrise:1" },
	{ "sunrise_link from host", "sunrise_link", 0, 1, "sunrise_link", NULL, "sunrise:0" },
	{ "sunrise_link one engine", "sunrise_link", 1, 1, "sunrise_link", "sunrise:1", "sunrise:0" },
	{ "nvlink_intra", "nvlink_intra", 0, 1, "nvlink_intra", "cuda:0", "cuda:1" },
	{ "nvlink_intra same device", "nvlink_intra", 0, 1, "nvlink_intra", "cuda:1", "cuda:1" },
	{ "best to device", NULL, 0, 1, "sunrise_link", "sunrise:0", "sunrise:1" },
	{ "tcp device", "tcp", 0, 1, "tcp", "sunrise:0", "sunrise:1" },
	{ "shm from device", "shm", 0, 1, "shm", "sunrise:0", NULL },
};

static const struct way *way;

static struct world {
	struct cw_engine *near, *far;
	struct cw_segment *segment;
	unsigned char *here, *there;
	struct cw_region *here_region, *there_region;
} w;

static void map_region(struct cw_engine *engine, int owned, const char *location, unsigned char **memory_out,
		       struct cw_region **region_out)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	void *memory;

	options.location = location;
	if (owned || location) {
		if (cw_memory_allocate(engine, LENGTH, &options, &memory, region_out))
			fail_msg("%s", cw_last_error());
	} else {
		memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(memory != MAP_FAILED);
		assert_int_equal(cw_region_register(engine, memory, LENGTH, NULL, region_out), CW_OK);
	}
	*memory_out = memory;
}

static int set_up(void **state)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;

	(void)state;
	memset(&w, 0, sizeof(w));
	assert_int_equal(cw_engine_open(NULL, &w.near), CW_OK);
	if (way->same_engine)
		w.far = w.near;
	else
		assert_int_equal(cw_engine_open(NULL, &w.far), CW_OK);
	map_region(w.near, 0, way->near, &w.here, &w.here_region);
	map_region(w.far, way->engine_memory, way->far, &w.there, &w.there_region);
	options.transports = way->transports;
	if (cw_segment_open(w.near, cw_engine_name(w.far), &options, &w.segment))
		fail_msg("%s", cw_last_error());
	return 0;
}

static void unmap_region(int owned, unsigned char *memory, struct cw_region *region)
{
	if (owned) {
		assert_int_equal(cw_memory_free(region), CW_OK);
	} else {
		assert_int_equal(cw_region_unregister(region), CW_OK);
		munmap(memory, LENGTH);
	}
}

static int tear_down(void **state)
{
	(void)state;
	unmap_region(way->engine_memory, w.there, w.there_region);
	unmap_region(way->near != NULL, w.here, w.here_region);
	cw_segment_close(w.segment);
	cw_engine_close(w.near);
	if (!way->same_engine)
		cw_engine_close(w.far);
	return 0;
}

static void fill(unsigned char *memory, uint64_t length, uint64_t seed)
{
	for (uint64_t i = 0; i < length; i++)
		memory[i] = (unsigned char)(((i + seed) * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static struct cw_request plain(enum cw_op op, uint64_t here, uint64_t there, uint64_t length)
{
	return (struct cw_request){
		.segment = w.segment,
		.op = op,
		.local = { .base = (uint64_t)(uintptr_t)w.here + here, .page_size = length, .count = 1 },
		.remote = { .base = (uint64_t)(uintptr_t)w.there + there, .page_size = length, .count = 1 },
	};
}

static struct cw_batch *submit(const struct cw_request *requests, size_t count, const struct cw_batch_options *options)
{
	struct cw_batch *batch;

	if (cw_batch_submit(w.near, requests, count, options, &batch))
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

static void complete(const struct cw_request *requests, size_t count)
{
	struct cw_batch_result result = end_of(submit(requests, count, NULL));

	if (result.status)
		fail_msg("%s: %s", way->name, result.text);
	assert_int_equal(result.state, CW_BATCH_COMPLETED);
}

static void plain_ranges(void **state)
{
	static const struct {
		uint64_t here, there, length;
	} rows[] = {
		{ 0, 0, 1 },        { 1, 2, 3 },        { 4095, 7, 4097 },
		{ 0, 4096, 65536 }, { 13, 1, 1000003 }, { 5, 3, 64u << 20 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw_request request = plain(CW_OP_WRITE, rows[i].here, rows[i].there, rows[i].length);

		fill(w.here + rows[i].here, rows[i].length, i);
		w.there[rows[i].there + rows[i].length] = 0xee;
		complete(&request, 1);
		assert_memory_equal(w.here + rows[i].here, w.there + rows[i].there, rows[i].length);
		assert_int_equal(w.there[rows[i].there + rows[i].length], 0xee);
		fill(w.there + rows[i].there, rows[i].length, 99 + i);
		w.here[rows[i].here + rows[i].length] = 0xdd;
		request.op = CW_OP_READ;
		complete(&request, 1);
		assert_memory_equal(w.here + rows[i].here, w.there + rows[i].there, rows[i].length);
		assert_int_equal(w.here[rows[i].here + rows[i].length], 0xdd);
	}
}

static void pages(void **state)
{
	enum { COUNT = 2000, PAGE = 4096 };
	static uint32_t near_pages[COUNT];
	static uint64_t far_pages[COUNT];
	struct cw_request request = plain(CW_OP_WRITE, 0, 0, 1);

	(void)state;
	for (uint32_t i = 0; i < COUNT; i++) { /* 7 and 11 are prime to 4000: no two neighbours meet */
		near_pages[i] = i * 7 % (2 * COUNT);
		far_pages[i] = i * 11 % (2 * COUNT);
	}
	request.local = (struct cw_vec){ .base = (uint64_t)(uintptr_t)w.here + 3,
					 .page_size = PAGE,
					 .count = COUNT,
					 .indices = near_pages,
					 .index_bits = 32 };
	request.remote = (struct cw_vec){ .base = (uint64_t)(uintptr_t)w.there + 5,
					  .page_size = PAGE,
					  .stride = PAGE + 64,
					  .count = COUNT,
					  .indices = far_pages,
					  .index_bits = 64 };
	fill(w.here, 3 + 2 * COUNT * PAGE, 5);
	complete(&request, 1);
	for (size_t i = 0; i < COUNT; i++)
		assert_memory_equal(w.here + 3 + near_pages[i] * (size_t)PAGE, w.there + 5 + far_pages[i] * (PAGE + 64),
				    PAGE);
	fill(w.there, LENGTH / 2, 6);
	request.op = CW_OP_READ;
	complete(&request, 1);
	for (size_t i = 0; i < COUNT; i++)
		assert_memory_equal(w.here + 3 + near_pages[i] * (size_t)PAGE, w.there + 5 + far_pages[i] * (PAGE + 64),
				    PAGE);
}

static void many_small_in_one_batch(void **state)
{
	enum { COUNT = 5000 };
	struct cw_request *requests = calloc(COUNT, sizeof(*requests));

	(void)state;
	fill(w.here, COUNT * 100, 3);
	for (size_t i = 0; i < COUNT; i++)
		requests[i] = plain(CW_OP_WRITE, i * 100, (COUNT - 1 - i) * 128, 100);
	complete(requests, COUNT);
	for (size_t i = 0; i < COUNT; i++)
		assert_memory_equal(w.here + i * 100, w.there + (COUNT - 1 - i) * 128, 100);
	free(requests);
}

static void refusals_fail_one_request_only(void **state)
{
	struct cw_request requests[3] = { plain(CW_OP_WRITE, 0, 0, 1000), plain(CW_OP_WRITE, 0, LENGTH - 999, 1000),
					  plain(CW_OP_WRITE, 0, 4096, 1000) };
	struct cw_batch *batch;
	struct cw_batch_result result = { .size = sizeof(result) };
	uint64_t bytes;

	(void)state;
	fill(w.here, 1000, 77);
	batch = submit(requests, 3, NULL);
	assert_int_equal(cw_batch_wait(batch, 20 * SECOND), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_int_equal(result.status, CW_ERR_NOT_REGISTERED);
	assert_true(strstr(result.text, cw_engine_name(w.far)) != NULL);
	assert_int_equal(cw_batch_request_status(batch, 0, &bytes), CW_OK);
	assert_int_equal(bytes, 1000);
	assert_int_equal(cw_batch_request_status(batch, 1, &bytes), CW_ERR_NOT_REGISTERED);
	assert_int_equal(cw_batch_request_status(batch, 2, &bytes), CW_OK);
	assert_int_equal(cw_batch_request_status(batch, 3, &bytes), CW_ERR_INVALID);
	cw_batch_release(batch);
	assert_memory_equal(w.here, w.there, 1000);
	assert_memory_equal(w.here, w.there + 4096, 1000);
}

static void access_rights(void **state)
{
	static unsigned char host[8192];
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct cw_memory_options device_options = CW_MEMORY_OPTIONS_INIT;
	struct cw_request request = plain(CW_OP_WRITE, 0, 0, 100);
	struct cw_batch_result result;
	struct cw_region *region;
	void *memory = host;

	(void)state;
	options.access = device_options.access = CW_ACCESS_REMOTE_READ;
	device_options.location = way->far;
	if (way->far)
		assert_int_equal(cw_memory_allocate(w.far, sizeof(host), &device_options, &memory, &region), CW_OK);
	else
		assert_int_equal(cw_region_register(w.far, host, sizeof(host), &options, &region), CW_OK);
	request.remote.base = (uint64_t)(uintptr_t)memory;
	result = end_of(submit(&request, 1, NULL));
	assert_int_equal(result.status, CW_ERR_ACCESS);
	request.op = CW_OP_READ;
	complete(&request, 1);
	assert_int_equal(way->far ? cw_memory_free(region) : cw_region_unregister(region), CW_OK);
	result = end_of(submit(&request, 1, NULL));
	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_true(result.status == CW_ERR_NOT_REGISTERED || result.status == CW_ERR_STALE_REGION);
}

static void notification_follows_data(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_notify notify = { .name = "page table", .data = "\0\1\2", .length = 3 };
	struct cw_event event;

	(void)state;
	options.notify = &notify;
	options.notify_count = 1;
	for (unsigned round = 0; round < 20; round++) {
		struct cw_request request = plain(CW_OP_WRITE, round, 4096 * round, 300000);
		struct cw_batch *batch;

		fill(w.here, 400000, round);
		batch = submit(&request, 1, &options);
		do /* peer events may come first */
			assert_int_equal(cw_queue_wait(cw_engine_queue(w.far), &event, 1, 10 * SECOND), 1);
		while (event.kind != CW_EVENT_NOTIFY);
		assert_memory_equal(w.here + round, w.there + 4096 * round, 300000);
		assert_int_equal(event.length, 3);
		assert_memory_equal(event.data, "\0\1\2", 3);
		assert_string_equal(event.name, "page table");
		assert_string_equal(event.sender, cw_engine_name(w.near));
		cw_event_clear(&event);
		assert_int_equal(end_of(batch).state, CW_BATCH_COMPLETED);
	}
}

static void a_failed_batch_notifies_nobody(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_notify notify = { .name = "never" }, last = { .segment = w.segment, .name = "last" };
	struct cw_request request = plain(CW_OP_WRITE, 0, LENGTH - 5, 10);
	struct cw_event event;

	(void)state;
	options.notify = &notify;
	options.notify_count = 1;
	assert_int_equal(end_of(submit(&request, 1, &options)).state, CW_BATCH_FAILED);
	assert_int_equal(cw_notify_send(w.near, &last, 5 * SECOND), CW_OK);
	do
		assert_int_equal(cw_queue_wait(cw_engine_queue(w.far), &event, 1, 10 * SECOND), 1);
	while (event.kind != CW_EVENT_NOTIFY);
	assert_string_equal(event.name, "last");
	cw_event_clear(&event);
}

static void cancel_is_quiet(void **state)
{
	struct cw_request requests[32];
	struct cw_batch_result result;
	struct cw_batch *batch;

	(void)state;
	for (size_t i = 0; i < 32; i++)
		requests[i] = plain(CW_OP_WRITE, 0, i << 20, 32u << 20);
	batch = submit(requests, 32, NULL);
	assert_int_equal(cw_batch_cancel(batch), CW_OK);
	result = end_of(batch);
	assert_int_equal(result.local_quiet, 1);
	assert_int_equal(result.remote, CW_REMOTE_QUIET);
	assert_int_equal(result.state, CW_BATCH_CANCELED);
	memset(w.there, 0x55, 1u << 20);
	requests[0] = plain(CW_OP_WRITE, 1, 1u << 20, 100); /* the way works on */
	complete(requests, 1);
	for (size_t i = 0; i < 1u << 20; i++)
		assert_int_equal(w.there[i], 0x55);
}

static void revoked_memory_stays_untouched(void **state)
{
	struct cw_request requests[32];
	struct cw_batch_result result;
	struct cw_batch *batch;

	(void)state;
	fill(w.here, 32u << 20, 1);
	for (size_t i = 0; i < 32; i++)
		requests[i] = plain(CW_OP_WRITE, 0, i << 20, 32u << 20);
	batch = submit(requests, 32, NULL);
	if (cw_region_revoke(w.there_region, 0, 0, 10 * SECOND))
		fail_msg("%s", cw_last_error());
	memset(w.there, 0x77, LENGTH);
	result = end_of(batch);
	if (result.state != CW_BATCH_FAILED ||
	    (result.status != CW_ERR_STALE_REGION && result.status != CW_ERR_NOT_REGISTERED))
		fail_msg("%s: ended in state %d: %s", way->name, (int)result.state, result.text);
	for (size_t i = 0; i < LENGTH; i++)
		if (w.there[i] != 0x77)
			fail_msg("%s: byte %zu changed after the revocation", way->name, i);
}

static void path_report(void **state)
{
	struct cw_path_step steps[8];
	size_t count;

	(void)state;
	if (cw_path_explain(w.segment, w.here, (uint64_t)(uintptr_t)w.there, 4096, CW_OP_WRITE, steps, 8, &count))
		fail_msg("%s", cw_last_error());
	assert_string_equal(steps[0].transport, way->expected);
	assert_true(steps[0].chosen && steps[0].usable && *steps[0].checks && *steps[0].why);
	for (size_t i = 1; i < count; i++)
		assert_true(!steps[i].chosen && *steps[i].why);
}

static void probe_and_list(void **state)
{
	struct cw_remote_region regions[8];
	uint64_t nanoseconds;
	size_t count, found = 0;

	(void)state;
	assert_int_equal(cw_segment_probe(w.segment, 5 * SECOND, &nanoseconds), CW_OK);
	assert_int_equal(cw_segment_regions(w.segment, regions, 8, &count), CW_OK);
	for (size_t i = 0; i < count; i++)
		found += regions[i].address == (uint64_t)(uintptr_t)w.there && regions[i].length == LENGTH;
	assert_int_equal(found, 1);
}

static int is_cuda(const struct way *row)
{
	return row->near && !strncmp(row->near, "cuda", 4);
}

/* The rows of one vendor, or the one that was named; how many tests failed. */
static int run_rows(int cuda, int devices, const char *only)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(plain_ranges, set_up, tear_down),
		cmocka_unit_test_setup_teardown(pages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_small_in_one_batch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refusals_fail_one_request_only, set_up, tear_down),
		cmocka_unit_test_setup_teardown(access_rights, set_up, tear_down),
		cmocka_unit_test_setup_teardown(notification_follows_data, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_failed_batch_notifies_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cancel_is_quiet, set_up, tear_down),
		cmocka_unit_test_setup_teardown(revoked_memory_stays_untouched, set_up, tear_down),
		cmocka_unit_test_setup_teardown(path_report, set_up, tear_down),
		cmocka_unit_test_setup_teardown(probe_and_list, set_up, tear_down),
	};
	int failed = 0;

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		way = &ways[i];
		if (is_cuda(way) != cuda || (only && strcmp(only, way->name)))
			continue;
		if ((way->near || way->far) && !devices) {
			print_message("%s: skipped, the emulated devices were not built\n", way->name);
			continue;
		}
		failed += cmocka_run_group_tests_name(way->name, tests, NULL, NULL);
	}
	return failed;
}

/* Each vendor has a process, because emulated devices are claimed by any of their runtimes. */
int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	pid_t child;
	int status, failed;

	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	child = fork();
	if (child < 0)
		return 1;
	if (!child)
		_exit(run_rows(1, emulated_cuda_devices(), only) != 0);
	failed = run_rows(0, emulated_devices(), only);
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status))
		failed++;
	return failed;
}
