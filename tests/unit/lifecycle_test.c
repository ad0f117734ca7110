/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engines come and go without a trace: 1,000 one after another, 64 at once, openings that fail at every step, and an
 * allocator that fails the n-th call for each n.
 */
#include <causeway/causeway.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/pair.h>
#include <support/sanitizers.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ------------------------------------------------------------------------------------ a failing allocator */

static _Atomic long fail_at = -1; /* the call that fails, counted down; negative = none */
static _Atomic long live;         /* blocks that are not freed yet */

#if !SANITIZED
void *__libc_malloc(size_t length);
void *__libc_calloc(size_t count, size_t length);
void *__libc_realloc(void *old, size_t length);
void __libc_free(void *block);

static int fails(void)
{
	if (atomic_load(&fail_at) < 0 || atomic_fetch_sub(&fail_at, 1) != 0)
		return 0;
	errno = ENOMEM;
	return 1;
}

static void *counted(void *block)
{
	if (block)
		atomic_fetch_add(&live, 1);
	return block;
}

void *malloc(size_t length)
{
	return fails() ? NULL : counted(__libc_malloc(length));
}

void *calloc(size_t count, size_t length)
{
	return fails() ? NULL : counted(__libc_calloc(count, length));
}

void *realloc(void *old, size_t length)
{
	void *block = fails() ? NULL : __libc_realloc(old, length);

	return old ? block : counted(block);
}

void free(void *block)
{
	if (block)
		atomic_fetch_sub(&live, 1);
	__libc_free(block);
}
#endif

/* ------------------------------------------------------------------------------------------- footprints */

struct footprint {
	unsigned fds, threads, maps;
	long resident; /* KiB */
	long blocks;
};

static struct footprint footprint(void)
{
	struct footprint now = { .fds = own_entries("fd"),
				 .threads = own_entries("task"),
				 .blocks = atomic_load(&live) };
	FILE *file = fopen("/proc/self/maps", "r");
	long pages = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		now.maps++;
	if (file)
		fclose(file);
	file = fopen("/proc/self/statm", "r");
	if (file && fscanf(file, "%*d %ld", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	now.resident = pages * sysconf(_SC_PAGESIZE) / 1024;
	return now;
}

/* Joined threads stay in /proc for a moment. blocks: the C library keeps some for the stacks of threads that it caches.
 */
static void expect_footprint(const struct footprint *before, long blocks)
{
	uint64_t until = now_ns() + 2 * SECOND;
	struct footprint now;

	do
		now = footprint();
	while (now.threads != before->threads && now_ns() < until);
	assert_int_equal(now.fds, before->fds);
	assert_int_equal(now.threads, before->threads);
	assert_true(now.blocks <= before->blocks + blocks);
}

/* ----------------------------------------------------------------------------------------------- tests */

static void one_life(void)
{
	struct cw_request request;
	struct pair pair;

	pair_open(&pair, "local", 65536);
	request = pair_request(&pair, CW_OP_WRITE, 0, 32768, 32768);
	assert_int_equal(pair_run(&pair, &request, 1, NULL).state, CW_BATCH_COMPLETED);
	pair_close(&pair);
}

static void a_thousand_one_after_another(void **state)
{
	struct footprint before, after;

	(void)state;
	for (int i = 0; i < 20; i++)
		one_life();
	malloc_trim(0);
	before = footprint();
	for (int i = 0; i < 1000; i++)
		one_life();
	malloc_trim(0);
	expect_footprint(&before, 8);
	after = footprint();
	if (!SANITIZED) { /* whose own memory comes and goes */
		/* A stack in the C library's cache may come or go. */
		assert_in_range(after.maps, 1, before.maps + 8);
		assert_true(after.resident < before.resident + 1024);
	}
}

static void sixty_four_at_once(void **state)
{
	enum { COUNT = 64 };
	struct cw_engine *engines[COUNT];
	struct cw_segment *segments[COUNT];
	struct footprint before;
	struct cw_event event;

	(void)state;
	one_life();
	before = footprint();
	for (int i = 0; i < COUNT; i++)
		engines[i] = engine_open(NULL, 0);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(
			cw_segment_open(engines[i], cw_engine_name(engines[(i + 1) % COUNT]), NULL, &segments[i]),
			CW_OK);
	for (int i = 0; i < COUNT; i++) {
		struct cw_notify notify = {
			.segment = segments[i], .name = "to the next", .data = &i, .length = sizeof(i)
		};

		assert_int_equal(cw_notify_send(engines[i], &notify, 10 * SECOND), CW_OK);
	}
	for (int i = 0; i < COUNT; i++) {
		do
			assert_int_equal(
				cw_queue_wait(cw_engine_queue(engines[(i + 1) % COUNT]), &event, 1, 10 * SECOND), 1);
		while (event.kind != CW_EVENT_NOTIFY);
		assert_string_equal(event.sender, cw_engine_name(engines[i]));
		assert_memory_equal(event.data, &i, sizeof(i));
		cw_event_clear(&event);
	}
	for (int i = 0; i < COUNT; i++)
		cw_engine_close(engines[i]);
	expect_footprint(&before, 8);
}

static void no_descriptors_left(void **state)
{
	static const struct cw_setting settings[] = { { "progress/threads", "3" } };
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct rlimit limit, few;
	struct footprint before;
	int opened = 0, failed = 0;

	(void)state;
	options.settings = settings;
	options.setting_count = 1;
	options.log = NULL;
	one_life();
	before = footprint();
	getrlimit(RLIMIT_NOFILE, &limit);
	few = limit;
	for (unsigned room = 0; room < 40 && !opened; room++) {
		struct cw_engine *engine = NULL;
		int status;

		few.rlim_cur = before.fds + room - 3; /* own_entries() counts ".", ".." and the directory itself */
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		status = cw_engine_open(&options, &engine);
		setrlimit(RLIMIT_NOFILE, &limit);
		failed += status != CW_OK;
		opened = status == CW_OK;
		if (status) {
			assert_null(engine);
			assert_true(*cw_last_error());
			assert_true(status == CW_ERR_LIMIT || status == CW_ERR_IO || status == CW_ERR_CONFIG);
		}
		cw_engine_close(engine);
		expect_footprint(&before, 8);
	}
	assert_true(opened && failed > 5);
}

static void openings_that_are_refused(void **state)
{
	static const struct {
		const char *name;
		struct cw_setting setting;
		int status;
		const char *text;
	} rows[] = {
		{ "127.0.0.1", { "tcp/conections", "2" }, CW_ERR_CONFIG, "tcp/connections" },
		{ "127.0.0.1", { "tcp/connections", "many" }, CW_ERR_CONFIG, "tcp/connections" },
		{ "127.0.0.1", { "tcp/connections", "65" }, CW_ERR_CONFIG, "64" },
		{ "127.0.0.1", { "progress/threads", "" }, CW_ERR_CONFIG, "progress/threads" },
		{ "127.0.0.1", { "metadata/url", "carrier-pigeon" }, CW_ERR_CONFIG, "carrier-pigeon" },
		{ "127.0.0.1", { "plugins/load", "/nowhere/plugin.so" }, CW_ERR_CONFIG, "/nowhere/plugin.so" },
		{ "127.0.0.1:99999", { "log/level", "warn" }, CW_ERR_ADDRESS, "99999" },
		{ "not a name at all", { "log/level", "warn" }, CW_ERR_ADDRESS, "not a name" },
	};
	struct footprint before;

	(void)state;
	one_life();
	before = footprint();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
		struct cw_engine *engine = NULL;
		int status;

		options.name = rows[i].name;
		options.settings = &rows[i].setting;
		options.setting_count = 1;
		status = cw_engine_open(&options, &engine);
		if (status != rows[i].status || !strstr(cw_last_error(), rows[i].text))
			fail_msg("row %zu: %s: %s", i, cw_status_name(status), cw_last_error());
		assert_null(engine);
		expect_footprint(&before, 8);
	}
}

static void a_port_that_is_taken(void **state)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *first = engine_open(NULL, 0), *second = NULL;
	struct footprint before;

	(void)state;
	options.name = cw_engine_name(first);
	before = footprint();
	assert_int_equal(cw_engine_open(&options, &second), CW_ERR_IO);
	assert_null(second);
	assert_non_null(strstr(cw_last_error(), strrchr(cw_engine_name(first), ':') + 1));
	expect_footprint(&before, 8);
	cw_engine_close(first);
}

/* ------------------------------------------------------------------------------------- out of memory */

static unsigned char memory[8192];

/* One page over the segment, with a queue and a notification: each way that submit can allocate. */
static int one_transfer(struct cw_engine *engine, struct cw_segment *segment)
{
	struct cw_notify notify = { .name = "n", .data = "data", .length = 4 };
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch;
	uint32_t page = 1;
	struct cw_request request = {
		.segment = segment,
		.op = CW_OP_WRITE,
		.local = { .base = (uint64_t)(uintptr_t)memory,
			   .page_size = 100,
			   .count = 1,
			   .indices = &page,
			   .index_bits = 32 },
		.remote = { .base = (uint64_t)(uintptr_t)memory + 4096, .page_size = 100, .count = 1 },
	};
	int status;

	options.notify = &notify;
	options.notify_count = 1;
	options.queue = cw_engine_queue(engine);
	options.deadline_ns = now_ns() + 300 * MS;
	status = cw_batch_submit(engine, &request, 1, &options, &batch);
	if (status)
		return status;
	if (cw_batch_wait(batch, 10 * SECOND) || cw_batch_result_get(batch, &result))
		fail_msg("a batch did not end");
	cw_batch_release(batch);
	return result.status;
}

static const struct cw_setting quick[] = { { "log/level", "silent" }, { "batch/grace", "50" } };

/* Every step on one engine, until the first that fails. */
static int life_of_one(long n)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine = NULL;
	struct cw_segment *self = NULL;
	struct cw_region *region;
	struct cw_queue *queue;
	int status;

	options.settings = quick;
	options.setting_count = 2;
	atomic_store(&fail_at, n);
	status = cw_engine_open(&options, &engine);
	if (!status)
		status = cw_region_register(engine, memory, sizeof(memory), NULL, &region);
	if (!status)
		status = cw_queue_open(engine, &queue);
	if (!status)
		status = cw_segment_open(engine, cw_engine_name(engine), NULL, &self);
	if (!status)
		status = one_transfer(engine, self);
	cw_engine_close(engine);
	return status;
}

/* Registration and transfer between two engines whose segment is open: json-c, which opening needs, does not survive.
 */
static int transfer_of_two(long n)
{
	struct cw_engine *near = engine_open(quick, 2), *far = engine_open(quick, 2);
	struct cw_segment *segment;
	struct cw_region *region;
	int status;

	assert_int_equal(cw_segment_open(near, cw_engine_name(far), NULL, &segment), CW_OK);
	atomic_store(&fail_at, n);
	status = cw_region_register(near, memory, 4096, NULL, &region);
	if (!status)
		status = cw_region_register(far, memory + 4096, 4096, NULL, &region);
	if (!status)
		status = one_transfer(near, segment);
	cw_engine_close(near);
	cw_engine_close(far);
	return status;
}

static void fail_each(int (*live_once)(long n), long least)
{
	int status = CW_ERR_NO_MEMORY, failures = 0;
	long n;

	if (SANITIZED)
		skip();
	live_once(-1); /* what the C library allocates once and keeps */
	for (n = 0; n < 2000; n++) {
		struct footprint before = footprint();
		uint64_t began = now_ns();

		status = live_once(n);
		if (atomic_exchange(&fail_at, -1) >= 0)
			break; /* there are not as many */
		failures += status != CW_OK;
		if (now_ns() - began > 3 * SECOND)
			fail_msg("with allocation %ld failing it took too long: %d", n, status);
		if (status && !strcmp(cw_status_name(status), cw_status_name(12345)))
			fail_msg("allocation %ld: status %d", n, status);
		expect_footprint(&before, 0);
	}
	print_message("%ld allocations, %d of them needed\n", n, failures);
	assert_int_equal(status, CW_OK);
	assert_true(n >= least && failures >= least / 2);
}

static void the_nth_allocation_of_an_engine_fails(void **state)
{
	(void)state;
	fail_each(life_of_one, 40);
}

static void the_nth_allocation_of_a_transfer_fails(void **state)
{
	(void)state;
	fail_each(transfer_of_two, 10);
}

/* The mask of blocked signals of each thread but this one. */
static unsigned look_at_threads(void)
{
	DIR *folder = opendir("/proc/self/task");
	unsigned count = 0;
	struct dirent *entry;

	assert_non_null(folder);
	while ((entry = readdir(folder))) {
		unsigned long long blocked = 0;
		char path[300], line[256];
		FILE *file;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		file = fopen(path, "re");
		assert_non_null(file);
		while (fgets(line, sizeof(line), file))
			if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
				break;
		fclose(file);
		assert_true(blocked & 1ull << (SIGTERM - 1));
		assert_true(blocked & 1ull << (SIGUSR1 - 1));
		count++;
	}
	closedir(folder);
	return count;
}

static void threads_leave_signals_to_the_program(void **state)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine;

	(void)state;
	if (SANITIZED) /* which has a thread of its own */
		skip();
	assert_int_equal(cw_engine_open(&options, &engine), CW_OK);
	assert_true(look_at_threads() >= 1);
	cw_engine_close(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thousand_one_after_another),
		cmocka_unit_test(sixty_four_at_once),
		cmocka_unit_test(no_descriptors_left),
		cmocka_unit_test(openings_that_are_refused),
		cmocka_unit_test(a_port_that_is_taken),
		cmocka_unit_test(threads_leave_signals_to_the_program),
		cmocka_unit_test(the_nth_allocation_of_an_engine_fails),
		cmocka_unit_test(the_nth_allocation_of_a_transfer_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
