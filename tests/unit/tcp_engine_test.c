/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two engines in one process that have nothing but TCP: what the public interface promises, over real sockets and
 * progress threads. tcp_rail_test.c has the failures that need a stopped clock.
 */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Needs what is above. */
#include <cmocka.h>

#define MEMORY (64ull * 1024 * 1024 + 4096)
#define WAIT (20ull * 1000 * 1000 * 1000)

struct pair {
	struct cw_engine *near, *far;
	unsigned char *local, *remote;
	struct cw_region *local_region, *remote_region;
	struct cw_segment *segment, *far_self;
};

static struct cw_engine *open_engine(const char *name, const char *threads)
{
	const struct cw_setting only_tcp[] = {
		{ "transports/shm/enable", "off" },
		{ "transports/local/enable", "off" },
		{ "log/level", "error" },
		{ "progress/threads", threads },
	};
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine = NULL;

	options.name = name;
	options.settings = only_tcp;
	options.setting_count = sizeof(only_tcp) / sizeof(only_tcp[0]);
	if (cw_engine_open(&options, &engine))
		fail_msg("engine: %s", cw_last_error());
	return engine;
}

static void fill(unsigned char *memory)
{
	for (size_t i = 0; i < MEMORY; i++)
		memory[i] = (unsigned char)((i * 2654435761u) >> 11);
}

static int all_bytes_are(const unsigned char *memory, unsigned char value)
{
	return memory[0] == value && memcmp(memory, memory + 1, MEMORY - 1) == 0;
}

static struct pair pair_open(const char *name, uint32_t access, const char *threads)
{
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct pair pair = { .near = open_engine(name, threads), .far = open_engine(name, threads) };

	pair.local = malloc(MEMORY);
	pair.remote = malloc(MEMORY);
	fill(pair.local);
	memset(pair.remote, 0, MEMORY);
	assert_int_equal(cw_region_register(pair.near, pair.local, MEMORY, &options, &pair.local_region), CW_OK);
	options.access = access;
	assert_int_equal(cw_region_register(pair.far, pair.remote, MEMORY, &options, &pair.remote_region), CW_OK);
	if (cw_segment_open(pair.near, cw_engine_name(pair.far), NULL, &pair.segment))
		fail_msg("segment: %s", cw_last_error());
	assert_int_equal(cw_segment_open(pair.far, cw_engine_name(pair.far), NULL, &pair.far_self), CW_OK);
	return pair;
}

static void pair_close(struct pair *pair)
{
	cw_segment_close(pair->segment);
	cw_segment_close(pair->far_self);
	cw_engine_close(pair->near);
	cw_engine_close(pair->far);
	free(pair->local);
	free(pair->remote);
}

/* Before the target's memory is written by the test itself: puts that after everything the target's only loop has done,
 * also for a thread sanitizer, which sees no order through sockets. */
static void settle(struct pair *pair)
{
	struct cw_segment_info info = { .size = sizeof(info) };

	assert_int_equal(cw_segment_info_get(pair->far_self, &info), CW_OK);
}

static struct cw_request plain(struct pair *pair, enum cw_op op, uint64_t offset, uint64_t length)
{
	return (struct cw_request){
		.segment = pair->segment,
		.local = { .base = (uintptr_t)pair->local + offset, .page_size = length, .count = 1 },
		.remote = { .base = (uintptr_t)pair->remote + offset, .page_size = length, .count = 1 },
		.op = op,
	};
}

static struct cw_batch_result do_batch(struct pair *pair, const struct cw_request *requests, size_t count,
				       uint32_t flags)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch;

	options.flags = flags;
	if (cw_batch_submit(pair->near, requests, count, &options, &batch))
		fail_msg("submit: %s", cw_last_error());
	assert_int_equal(cw_batch_wait(batch, WAIT), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	cw_batch_release(batch);
	return result;
}

static void expect_completed(struct pair *pair, const struct cw_request *requests, size_t count, uint32_t flags)
{
	struct cw_batch_result result = do_batch(pair, requests, count, flags);

	if (result.state != CW_BATCH_COMPLETED)
		fail_msg("batch: %s", result.text);
}

static uint64_t bytes_served(struct pair *pair)
{
	struct cw_engine_stats stats = { .size = sizeof(stats) };

	assert_int_equal(cw_engine_stats_get(pair->far, &stats), CW_OK);
	return stats.bytes_served;
}

/* Until the target has moved something more. */
static void wait_for_bytes(struct pair *pair, uint64_t before)
{
	while (bytes_served(pair) == before)
		;
}

static void test_sizes(void **state)
{
	static const uint64_t sizes[] = { 1, 3, 4095, 4096, 4097, 65537, 1048576, 1048577, 16777213, 67108864 };
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE, "1");

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct cw_request request = plain(&pair, CW_OP_WRITE, 13 + i, sizes[i]);

		settle(&pair);
		memset(pair.remote, 0, MEMORY);
		expect_completed(&pair, &request, 1, i % 2 ? CW_BATCH_CHECKSUM : 0);
		assert_memory_equal(pair.remote + 13 + i, pair.local + 13 + i, sizes[i]);
		assert_int_equal(pair.remote[12 + i], 0);
		assert_int_equal(pair.remote[13 + i + sizes[i]], 0);
		memset(pair.local + 13 + i, 0, sizes[i]);
		request.op = CW_OP_READ;
		expect_completed(&pair, &request, 1, i % 2 ? CW_BATCH_CHECKSUM : 0);
		assert_memory_equal(pair.remote + 13 + i, pair.local + 13 + i, sizes[i]);
	}
	pair_close(&pair);
}

static void test_ipv6(void **state)
{
	struct pair pair = pair_open("[::1]", CW_ACCESS_REMOTE, "2");
	struct cw_request request = plain(&pair, CW_OP_WRITE, 0, 3000000);

	(void)state;
	expect_completed(&pair, &request, 1, 0);
	assert_memory_equal(pair.remote, pair.local, 3000000);
	pair_close(&pair);
}

static void test_pages(void **state)
{
	enum { PAGES = 4096, PAGE = 4000 };
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE, "2");
	uint32_t *local = malloc(PAGES * sizeof(*local)), *remote = malloc(PAGES * sizeof(*remote));

	(void)state;
	for (uint32_t i = 0; i < PAGES; i++) {
		local[i] = (i * 2477u) % PAGES;
		remote[i] = (i * 1091u + 5) % PAGES;
	}
	for (int op = 1; op >= 0; op--) {
		struct cw_request request = {
			.segment = pair.segment,
			.local = { (uintptr_t)pair.local, PAGE, 4096, PAGES, local, 32, 0 },
			.remote = { (uintptr_t)pair.remote, PAGE, 8192, PAGES, remote, 32, 0 },
			.op = (uint32_t)op,
		};

		expect_completed(&pair, &request, 1, 0);
		for (uint32_t i = 0; i < PAGES; i++)
			assert_memory_equal(pair.local + local[i] * 4096ull, pair.remote + remote[i] * 8192ull, PAGE);
		memset(pair.local, 0, MEMORY);
	}
	free(local);
	free(remote);
	pair_close(&pair);
}

static void test_many_small(void **state)
{
	enum { COUNT = 20000, LENGTH = 100 };
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE, "2");
	struct cw_request *requests = calloc(COUNT, sizeof(*requests));

	(void)state;
	for (uint64_t i = 0; i < COUNT; i++)
		requests[i] = plain(&pair, CW_OP_WRITE, i * 128, LENGTH);
	expect_completed(&pair, requests, COUNT, 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_memory_equal(pair.remote + i * 128, pair.local + i * 128, LENGTH);
	free(requests);
	pair_close(&pair);
}

static void test_rights_and_bounds(void **state)
{
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE_READ, "1");
	struct cw_request request = plain(&pair, CW_OP_WRITE, 0, 4096);
	struct cw_batch_result result;

	(void)state;
	result = do_batch(&pair, &request, 1, 0);
	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_int_equal(result.status, CW_ERR_ACCESS);
	assert_int_equal(result.remote, CW_REMOTE_QUIET);
	request.op = CW_OP_READ;
	expect_completed(&pair, &request, 1, 0);
	request.remote.base = (uintptr_t)pair.remote + MEMORY - 4095;
	result = do_batch(&pair, &request, 1, 0);
	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_int_equal(result.status, CW_ERR_NOT_REGISTERED);
	assert_true(all_bytes_are(pair.remote, 0));
	pair_close(&pair);
}

static void test_revoke_while_written(void **state)
{
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE, "1");
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_request requests[16];
	struct cw_batch *batch;
	uint64_t served = bytes_served(&pair);

	(void)state;
	for (size_t i = 0; i < 16; i++)
		requests[i] = plain(&pair, CW_OP_WRITE, 0, MEMORY);
	assert_int_equal(cw_batch_submit(pair.near, requests, 16, &options, &batch), CW_OK);
	wait_for_bytes(&pair, served);
	assert_int_equal(cw_region_revoke(pair.remote_region, 0, 0, WAIT), CW_OK);
	settle(&pair);
	memset(pair.remote, 0x5a, MEMORY);
	assert_int_equal(cw_batch_wait(batch, WAIT), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_true(result.status == CW_ERR_STALE_REGION || result.status == CW_ERR_NOT_REGISTERED);
	assert_true(all_bytes_are(pair.remote, 0x5a));
	cw_batch_release(batch);
	pair_close(&pair);
}

static void test_cancel_large_write(void **state)
{
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE, "1");

	(void)state;
	for (int round = 0; round < 10; round++) {
		struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
		struct cw_batch_result result = { .size = sizeof(result) };
		struct cw_request request = plain(&pair, CW_OP_WRITE, 0, MEMORY);
		uint64_t served = bytes_served(&pair);
		struct cw_batch *batch;

		settle(&pair);
		memset(pair.remote, 0, MEMORY);
		assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batch), CW_OK);
		if (round % 2)
			wait_for_bytes(&pair, served);
		assert_int_equal(cw_batch_cancel(batch), CW_OK);
		assert_int_equal(cw_batch_wait(batch, WAIT), CW_OK);
		assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
		assert_int_equal(result.local_quiet, 1);
		assert_int_equal(result.state, CW_BATCH_CANCELED);
		assert_int_equal(result.remote, CW_REMOTE_QUIET); /* the target was there to say so */
		settle(&pair);
		memset(pair.remote, 0x5a, MEMORY);
		request.op = CW_OP_READ;
		expect_completed(&pair, &request, 1, 0);
		assert_true(all_bytes_are(pair.remote, 0x5a));
		fill(pair.local);
		cw_batch_release(batch);
	}
	pair_close(&pair);
}

/* Breaks one of the process's TCP connections, control or data, at random. */
static void break_a_connection(unsigned *seed)
{
	int fds[256], count = 0;

	for (int fd = 3; fd < 256; fd++) {
		struct sockaddr_storage peer;
		socklen_t length = sizeof(peer);

		if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.ss_family == AF_INET)
			fds[count++] = fd;
	}
	if (count)
		shutdown(fds[(unsigned)rand_r(seed) % (unsigned)count], SHUT_RDWR);
}

/* Whatever breaks: each batch ends once, what is COMPLETED is right, and afterwards everything works again. */
static void test_connections_that_break(void **state)
{
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE, "2");
	unsigned seed = 1, completed = 0;

	(void)state;
	for (unsigned round = 0; round < 60; round++) {
		struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
		struct cw_batch_result result = { .size = sizeof(result) };
		struct cw_request request = plain(&pair, round % 3 ? CW_OP_WRITE : CW_OP_READ, 0, MEMORY / 2);
		struct cw_batch *batch;

		pair.local[round]++;
		assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batch), CW_OK);
		for (unsigned i = 0; i < 1 + round % 3; i++) {
			break_a_connection(&seed);
			assert_true(cw_batch_wait(batch, 1000 * 1000 * (uint64_t)(round % 7)) <= 0);
		}
		assert_int_equal(cw_batch_wait(batch, WAIT), CW_OK);
		assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
		assert_int_equal(result.local_quiet, 1);
		if (result.state == CW_BATCH_COMPLETED) {
			assert_memory_equal(pair.local, pair.remote, MEMORY / 2);
			completed++;
		} else {
			assert_int_equal(result.state, CW_BATCH_FAILED);
			assert_true(result.retryable);
		}
		cw_batch_release(batch);
	}
	assert_true(completed > 0);
	for (unsigned tries = 0;; tries++) { /* a peer that was found dead is looked for again after a pause */
		struct cw_request request = plain(&pair, CW_OP_WRITE, 0, MEMORY);
		struct cw_batch_result result = do_batch(&pair, &request, 1, 0);

		if (result.state == CW_BATCH_COMPLETED)
			break;
		assert_true(tries < 100);
		usleep(50 * 1000);
	}
	assert_memory_equal(pair.local, pair.remote, MEMORY);
	pair_close(&pair);
}

static void test_path_report(void **state)
{
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE, "1");
	struct cw_path_step steps[8];
	size_t count = 0, found = 8;

	(void)state;
	assert_int_equal(
		cw_path_explain(pair.segment, pair.local, (uintptr_t)pair.remote, 4096, CW_OP_WRITE, steps, 8, &count),
		CW_OK);
	for (size_t i = 0; i < count && i < 8; i++)
		if (steps[i].chosen)
			found = i;
	assert_true(found < 8);
	assert_string_equal(steps[found].transport, "tcp");
	assert_string_equal(steps[found].checks, "target cpu: bounds, rights, key, generation");
	assert_int_equal(steps[found].rails, 2);
	pair_close(&pair);
}

/* Pages around a revoked one can still be moved, in one request; a request with the revoked one in it cannot. */
static void test_pages_around_revoked(void **state)
{
	enum { SIZE = 4096, COUNT = 64, GONE = 20 };
	struct pair pair = pair_open("127.0.0.1", CW_ACCESS_REMOTE, "1");
	struct cw_request request = plain(&pair, CW_OP_WRITE, 0, SIZE);
	struct cw_batch_result result;
	uint32_t pages[COUNT - 1], all[COUNT];

	(void)state;
	for (uint32_t i = 0, n = 0; i < COUNT; i++) {
		all[i] = COUNT - 1 - i;
		if (i != GONE)
			pages[n++] = i;
	}
	memset(pair.local, 7, (size_t)COUNT * SIZE);
	assert_int_equal(cw_region_revoke(pair.remote_region, GONE * SIZE, SIZE, WAIT), CW_OK);
	request.local.count = request.remote.count = COUNT - 1;
	request.local.indices = request.remote.indices = pages;
	request.local.index_bits = request.remote.index_bits = 32;
	result = do_batch(&pair, &request, 1, 0);
	assert_int_equal(result.state, CW_BATCH_COMPLETED);
	settle(&pair);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(pair.remote[i * SIZE + SIZE / 2], i == GONE ? 0 : 7);

	request.local.count = request.remote.count = COUNT;
	request.local.indices = request.remote.indices = all;
	result = do_batch(&pair, &request, 1, 0);
	assert_int_equal(result.state, CW_BATCH_FAILED);
	for (uint32_t i = 0; i < SIZE; i++)
		assert_int_equal(pair.remote[GONE * SIZE + i], 0);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_many_small),
		cmocka_unit_test(test_rights_and_bounds),
		cmocka_unit_test(test_revoke_while_written),
		cmocka_unit_test(test_pages_around_revoked),
		cmocka_unit_test(test_cancel_large_write),
		cmocka_unit_test(test_connections_that_break),
		cmocka_unit_test(test_path_report),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
