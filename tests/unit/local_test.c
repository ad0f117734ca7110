/* SPDX-License-Identifier: Apache-2.0 */
/* One engine and itself: registration, requests of every shape over `local`, batches, queues, prerequisites, ends. */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

struct fixture {
	struct cw_engine *engine;
	struct cw_segment *self;
	unsigned char *memory;
	struct cw_region *region;
};

#define LENGTH (1u << 20)

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	void *memory;

	assert_non_null(f);
	assert_int_equal(cw_engine_open(NULL, &f->engine), CW_OK);
	assert_int_equal(cw_memory_allocate(f->engine, LENGTH, NULL, &memory, &f->region), CW_OK);
	f->memory = memory;
	for (size_t i = 0; i < LENGTH; i++)
		f->memory[i] = (unsigned char)(i * 7 + i / 251);
	assert_int_equal(cw_segment_open(f->engine, cw_engine_name(f->engine), NULL, &f->self), CW_OK);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	cw_segment_close(f->self);
	assert_int_equal(cw_memory_free(f->region), CW_OK);
	cw_engine_close(f->engine);
	free(f);
	return 0;
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static struct cw_request plain(struct fixture *f, enum cw_op op, uint64_t local, uint64_t remote, uint64_t length)
{
	return (struct cw_request){
		.segment = f->self,
		.op = op,
		.local = { .base = (uint64_t)(uintptr_t)f->memory + local, .page_size = length, .count = 1 },
		.remote = { .base = (uint64_t)(uintptr_t)f->memory + remote, .page_size = length, .count = 1 },
	};
}

static void expect_end(struct cw_batch *batch, enum cw_batch_state state, int status)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	assert_int_equal(cw_batch_wait(batch, 5 * SECOND), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	if (result.status != status)
		print_message("%s\n", result.text);
	assert_int_equal(result.status, status);
	assert_int_equal(result.state, state);
	assert_int_equal(result.local_quiet, 1);
	cw_batch_release(batch);
}

static void run(struct fixture *f, const struct cw_request *request, enum cw_batch_state state, int status)
{
	struct cw_batch *batch;

	assert_int_equal(cw_batch_submit(f->engine, request, 1, NULL, &batch), CW_OK);
	expect_end(batch, state, status);
}

static void plain_ranges(void **state)
{
	static const struct {
		enum cw_op op;
		uint64_t local, remote, length;
	} rows[] = {
		{ CW_OP_WRITE, 0, 500000, 1 },    { CW_OP_READ, 1, 500001, 1 },       { CW_OP_WRITE, 3, 600001, 4095 },
		{ CW_OP_READ, 5, 700003, 65537 }, { CW_OP_WRITE, 0, 524288, 524288 }, { CW_OP_READ, 0, 524288, 524288 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw_request request = plain(f, rows[i].op, rows[i].local, rows[i].remote, rows[i].length);

		for (size_t j = 0; j < rows[i].length; j++)
			f->memory[(rows[i].op == CW_OP_WRITE ? rows[i].local : rows[i].remote) + j] =
				(unsigned char)(i + j);
		run(f, &request, CW_BATCH_COMPLETED, CW_OK);
		assert_memory_equal(f->memory + rows[i].local, f->memory + rows[i].remote, rows[i].length);
	}
}

static void paged_vectors(void **state)
{
	static const uint32_t from[] = { 7, 3, 4, 5, 100, 1 };
	static const uint64_t to[] = { 2, 9, 10, 11, 50, 60 };
	struct fixture *f = *state;
	struct cw_request request = plain(f, CW_OP_WRITE, 0, 524288, 4096);

	request.local = (struct cw_vec){ .base = request.local.base,
					 .page_size = 1000,
					 .stride = 1024,
					 .count = 6,
					 .indices = from,
					 .index_bits = 32 };
	request.remote = (struct cw_vec){ .base = request.remote.base,
					  .page_size = 1000,
					  .stride = 4096,
					  .count = 6,
					  .indices = to,
					  .index_bits = 64 };
	run(f, &request, CW_BATCH_COMPLETED, CW_OK);
	for (size_t i = 0; i < 6; i++)
		assert_memory_equal(f->memory + from[i] * 1024, f->memory + 524288 + to[i] * 4096, 1000);
	/* Unequal pages: 3 of 2000 bytes on one side, 6 of 1000 on the other. */
	request.local = (struct cw_vec){
		.base = (uint64_t)(uintptr_t)f->memory, .page_size = 2000, .stride = 3000, .count = 3
	};
	run(f, &request, CW_BATCH_COMPLETED, CW_OK);
	for (size_t i = 0; i < 6; i++)
		assert_memory_equal(f->memory + i / 2 * 3000 + i % 2 * 1000, f->memory + 524288 + to[i] * 4096, 1000);
}

static void refused_before_acceptance(void **state)
{
	struct fixture *f = *state;
	struct cw_request good = plain(f, CW_OP_WRITE, 0, 500000, 100);
	struct {
		const char *name;
		struct cw_request request;
		int status;
	} rows[] = {
		{ "no segment", good, CW_ERR_INVALID },
		{ "unknown operation", good, CW_ERR_INVALID },
		{ "empty", good, CW_ERR_INVALID },
		{ "unequal", good, CW_ERR_INVALID },
		{ "wraps", good, CW_ERR_INVALID },
		{ "index bits", good, CW_ERR_INVALID },
		{ "local not registered", good, CW_ERR_NOT_REGISTERED },
	};
	struct cw_batch *batch = NULL;

	rows[0].request.segment = NULL;
	rows[1].request.op = 2;
	rows[2].request.local.page_size = rows[2].request.remote.page_size = 0;
	rows[3].request.remote.page_size = 101;
	rows[4].request.remote.base = UINT64_MAX - 50;
	rows[5].request.local.index_bits = 32;
	rows[6].request.local.base += LENGTH - 99;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int status = cw_batch_submit(f->engine, &rows[i].request, 1, NULL, &batch);

		if (status != rows[i].status)
			print_message("%s\n", rows[i].name);
		assert_int_equal(status, rows[i].status);
		assert_null(batch);
		assert_true(*cw_last_error());
	}
}

static void the_target_decides(void **state)
{
	static unsigned char read_only[8192], private[4096];
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct fixture *f = *state;
	struct cw_region *one, *two;
	struct cw_request request = plain(f, CW_OP_WRITE, 0, 0, 100);

	options.access = CW_ACCESS_REMOTE_READ;
	assert_int_equal(cw_region_register(f->engine, read_only, sizeof(read_only), &options, &one), CW_OK);
	options.access = CW_ACCESS_LOCAL;
	assert_int_equal(cw_region_register(f->engine, private, sizeof(private), &options, &two), CW_OK);
	request.remote.base = (uint64_t)(uintptr_t)read_only;
	run(f, &request, CW_BATCH_FAILED, CW_ERR_ACCESS);
	request.op = CW_OP_READ;
	run(f, &request, CW_BATCH_COMPLETED, CW_OK);
	request.remote.base = (uint64_t)(uintptr_t) private;
	run(f, &request, CW_BATCH_FAILED, CW_ERR_ACCESS);
	request.remote.base = (uint64_t)(uintptr_t)read_only + sizeof(read_only) - 99;
	run(f, &request, CW_BATCH_FAILED, CW_ERR_NOT_REGISTERED);
	assert_int_equal(cw_region_unregister(one), CW_OK);
	request.remote.base = (uint64_t)(uintptr_t)read_only;
	run(f, &request, CW_BATCH_FAILED, CW_ERR_STALE_REGION); /* it was there: asked for once more, and gone */
	run(f, &request, CW_BATCH_FAILED, CW_ERR_NOT_REGISTERED);
	assert_int_equal(cw_region_unregister(two), CW_OK);
}

/* As memory of a device is where its runtime is not there: mapped, and deadly to touch. */
static void untouchable_memory(void **state)
{
	struct fixture *f = *state;
	struct cw_region *region = NULL;
	unsigned char *memory = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(mprotect(memory + 4096, 4096, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(cw_region_register(f->engine, memory, 8192, NULL, &region), CW_ERR_UNSUPPORTED);
	assert_int_equal(cw_region_register(f->engine, memory + 4096, 8192, NULL, &region), CW_ERR_UNSUPPORTED);
	assert_non_null(strstr(cw_last_error(), "the CPU cannot read it"));
	assert_null(region);
	assert_int_equal(cw_region_register(f->engine, memory + 4096, 4096, NULL, &region), CW_OK);
	assert_int_equal(cw_region_unregister(region), CW_OK);
	assert_int_equal(munmap(memory, 3 * 4096), 0);
}

static void registration_rules(void **state)
{
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct fixture *f = *state;
	static unsigned char memory[3 * 4096];
	struct cw_region *one, *two, *three = NULL;
	struct cw_region_info info = { .size = sizeof(info) };

	assert_int_equal(cw_region_register(f->engine, memory, 8192, NULL, &one), CW_OK);
	assert_int_equal(cw_region_register(f->engine, memory, 8192, NULL, &two), CW_OK);
	assert_ptr_equal(one, two);
	assert_int_equal(cw_region_info_get(one, &info), CW_OK);
	assert_int_equal(info.registrations, 2);
	assert_int_equal(info.kind, CW_MEMORY_HOST);
	assert_int_equal(cw_region_register(f->engine, memory + 4096, 8192, NULL, &three), CW_ERR_OVERLAP);
	assert_int_equal(cw_region_register(f->engine, memory, 4096, NULL, &three), CW_ERR_OVERLAP);
	assert_null(strstr(cw_last_error(), "cw__"));
	assert_int_equal(cw_region_register(f->engine, memory, 0, NULL, &three), CW_ERR_INVALID);
	assert_int_equal(cw_region_register(f->engine, (void *)(uintptr_t)(1u << 20), 4096, NULL, &three),
			 CW_ERR_INVALID);
	options.location = "cuda:0";
	assert_int_equal(cw_region_register(f->engine, memory + 8192, 4096, &options, &three), CW_ERR_LOCATION);
	options.location = "cpu:7";
	memory[8192] = 1;
	assert_int_equal(cw_region_register(f->engine, memory + 8192, 4096, &options, &three), CW_ERR_LOCATION);
	assert_null(three);
	assert_int_equal(cw_region_unregister(one), CW_OK);
	assert_int_equal(cw_region_find(f->engine, memory + 5, 100, &two), CW_OK);
	assert_ptr_equal(one, two);
	assert_int_equal(cw_region_unregister(one), CW_OK);
	assert_int_equal(cw_region_find(f->engine, memory + 5, 100, &two), CW_ERR_NOT_REGISTERED);
	assert_int_equal(cw_region_unregister(one), CW_ERR_NOT_FOUND);
	assert_int_equal(cw_region_register_async(f->engine, memory, 4096, NULL, &one), CW_OK);
	assert_int_equal(cw_region_ready(one, 5 * SECOND, NULL), CW_OK);
	assert_int_equal(cw_region_unregister(one), CW_OK);
}

/* Refused before the machine is asked to fill it: the system would kill a process for that. */
static void more_memory_than_there_is(void **state)
{
	static const size_t lengths[] = { (size_t)1 << 50, (size_t)1 << 62, (size_t)1 << 61 };
	struct fixture *f = *state;
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw_region *region = NULL;
	void *memory = NULL;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		options.flags = i % 2 ? CW_MEMORY_SHAREABLE : CW_MEMORY_SHAREABLE | CW_MEMORY_HUGE;
		assert_int_equal(cw_memory_allocate(f->engine, lengths[i], &options, &memory, &region),
				 CW_ERR_NO_MEMORY);
	}
	assert_null(region);
}

static void revoked_ranges(void **state)
{
	struct fixture *f = *state;
	static unsigned char memory[16384];
	struct cw_request request = plain(f, CW_OP_WRITE, 0, 0, 100);
	struct cw_region *region;

	assert_int_equal(cw_region_register(f->engine, memory, sizeof(memory), NULL, &region), CW_OK);
	request.remote.base = (uint64_t)(uintptr_t)memory;
	run(f, &request, CW_BATCH_COMPLETED, CW_OK);
	assert_int_equal(cw_region_revoke(region, 4096, 4096, SECOND), CW_OK);
	run(f, &request, CW_BATCH_COMPLETED, CW_OK);
	request.remote.base += 4095;
	run(f, &request, CW_BATCH_FAILED, CW_ERR_STALE_REGION);
	request.remote.base += 4097;
	run(f, &request, CW_BATCH_COMPLETED, CW_OK);
	assert_int_equal(cw_region_revoke(region, 0, 0, SECOND), CW_OK);
	run(f, &request, CW_BATCH_FAILED, CW_ERR_STALE_REGION);
	run(f, &request, CW_BATCH_FAILED, CW_ERR_NOT_REGISTERED);
	assert_int_equal(cw_region_unregister(region), CW_OK);
}

static void batches_wait_for_what_they_name(void **state)
{
	struct fixture *f = *state;
	struct cw_request request = plain(f, CW_OP_WRITE, 0, 500000, 1000);
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch *first, *second, *third;
	struct cw_counter *counter;

	assert_int_equal(cw_counter_open(f->engine, 0, &counter), CW_OK);
	options.counter = counter;
	options.counter_value = 3;
	assert_int_equal(cw_batch_submit(f->engine, &request, 1, &options, &first), CW_OK);
	options = (struct cw_batch_options)CW_BATCH_OPTIONS_INIT;
	options.after = &first;
	options.after_count = 1;
	assert_int_equal(cw_batch_submit(f->engine, &request, 1, &options, &second), CW_OK);
	assert_int_equal(cw_batch_poll(first), CW_BATCH_WAITING);
	assert_int_equal(cw_counter_add(counter, 2), CW_OK);
	assert_int_equal(cw_batch_wait(second, SECOND / 100), CW_ERR_AGAIN);
	assert_int_equal(cw_batch_poll(second), CW_BATCH_WAITING);
	assert_int_equal(cw_counter_add(counter, 1), CW_OK);
	expect_end(second, CW_BATCH_COMPLETED, CW_OK);
	expect_end(first, CW_BATCH_COMPLETED, CW_OK);
	options = (struct cw_batch_options)CW_BATCH_OPTIONS_INIT;
	options.counter = counter;
	options.counter_value = 100;
	assert_int_equal(cw_batch_submit(f->engine, &request, 1, &options, &first), CW_OK);
	options.deadline_ns = now() + SECOND / 50;
	assert_int_equal(cw_batch_submit(f->engine, &request, 1, &options, &second), CW_OK);
	options = (struct cw_batch_options)CW_BATCH_OPTIONS_INIT;
	options.after = &first;
	options.after_count = 1;
	assert_int_equal(cw_batch_submit(f->engine, &request, 1, &options, &third), CW_OK);
	expect_end(second, CW_BATCH_TIMED_OUT, CW_ERR_TIMED_OUT);
	assert_int_equal(cw_batch_cancel(first), CW_OK);
	expect_end(first, CW_BATCH_CANCELED, CW_ERR_CANCELED);
	expect_end(third, CW_BATCH_FAILED, CW_ERR_PREREQUISITE);
	cw_counter_close(counter);
}

static void ended(void *arg, struct cw_batch *batch)
{
	(void)batch;
	++*(int *)arg;
}

static void queues_and_callbacks(void **state)
{
	struct fixture *f = *state;
	struct cw_request request = plain(f, CW_OP_WRITE, 0, 500000, 1000);
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_notify notify = { .segment = f->self, .name = "done", .data = "a\0b", .length = 3 };
	struct cw_event events[4];
	struct cw_queue *queue;
	struct cw_batch *batch;
	int calls = 0;

	assert_int_equal(cw_queue_open(f->engine, &queue), CW_OK);
	assert_int_equal(cw_queue_arm(queue), CW_OK);
	options.queue = queue;
	options.callback = ended;
	options.arg = &calls;
	options.notify = &notify;
	options.notify_count = 1;
	assert_int_equal(cw_batch_submit(f->engine, &request, 1, &options, &batch), CW_OK);
	assert_int_equal(cw_queue_wait(queue, events, 4, 5 * SECOND), 1);
	assert_int_equal(events[0].kind, CW_EVENT_BATCH);
	assert_ptr_equal(events[0].batch, batch);
	assert_ptr_equal(events[0].arg, &calls);
	while (!*(volatile int *)&calls)
		cw_queue_wait(queue, events, 4, SECOND / 1000);
	assert_int_equal(calls, 1);
	assert_int_equal(cw_queue_wait(cw_engine_queue(f->engine), events, 4, 5 * SECOND), 1);
	assert_int_equal(events[0].kind, CW_EVENT_NOTIFY);
	assert_string_equal(events[0].name, "done");
	assert_string_equal(events[0].sender, cw_engine_name(f->engine));
	assert_int_equal(events[0].length, 3);
	assert_memory_equal(events[0].data, "a\0b", 3);
	cw_event_clear(&events[0]);
	cw_batch_release(batch);
	assert_int_equal(cw_queue_poll(queue, events, 4), 0);
	cw_queue_close(queue);
}

static void paths_and_regions(void **state)
{
	struct fixture *f = *state;
	struct cw_path_step steps[8];
	struct cw_remote_region regions[4];
	size_t count = 0;

	assert_int_equal(
		cw_path_explain(f->self, f->memory, (uint64_t)(uintptr_t)f->memory, 100, CW_OP_READ, steps, 8, &count),
		CW_OK);
	assert_true(count >= 1);
	assert_string_equal(steps[0].transport, "local");
	assert_int_equal(steps[0].chosen, 1);
	assert_int_equal(cw_segment_regions(f->self, regions, 4, &count), CW_OK);
	assert_int_equal(count, 1);
	assert_int_equal(regions[0].address, (uint64_t)(uintptr_t)f->memory);
	assert_int_equal(cw_segment_probe(f->self, SECOND, NULL), CW_OK);
}

static void many_engines(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++) {
		struct cw_engine *engine;

		assert_int_equal(cw_engine_open(NULL, &engine), CW_OK);
		cw_engine_close(engine);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(plain_ranges, set_up, tear_down),
		cmocka_unit_test_setup_teardown(paged_vectors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refused_before_acceptance, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_target_decides, set_up, tear_down),
		cmocka_unit_test_setup_teardown(registration_rules, set_up, tear_down),
		cmocka_unit_test_setup_teardown(untouchable_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(more_memory_than_there_is, set_up, tear_down),
		cmocka_unit_test_setup_teardown(revoked_ranges, set_up, tear_down),
		cmocka_unit_test_setup_teardown(batches_wait_for_what_they_name, set_up, tear_down),
		cmocka_unit_test_setup_teardown(queues_and_callbacks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(paths_and_regions, set_up, tear_down),
		cmocka_unit_test(many_engines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
