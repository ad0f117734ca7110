/* SPDX-License-Identifier: Apache-2.0 */
/* One request whose pages lie in several regions of the peer, in any order, over each transport. */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <support/pair.h>

#include <cmocka.h>

#define PAGE 4096u
#define REGIONS 5u
#define PAGES 24u /* in each region */
#define ALL (REGIONS * PAGES)

static const char *const ways[] = { "local", "shm", "tcp" };

struct far_memory {
	void *address[REGIONS];
	struct cw_region *region[REGIONS];
};

/* Every region has a gap behind it that is registered nowhere. */
static void allocate(struct cw_engine *engine, struct far_memory *memory)
{
	for (unsigned i = 0; i < REGIONS; i++)
		assert_int_equal(
			cw_memory_allocate(engine, PAGES * PAGE, NULL, &memory->address[i], &memory->region[i]), CW_OK);
}

static uint64_t page_of(const struct far_memory *memory, unsigned number)
{
	return (uint64_t)(uintptr_t)memory->address[number / PAGES] + (uint64_t)(number % PAGES) * PAGE;
}

/* Absolute addresses are index arrays with a stride of one byte. */
static struct cw_request request_of(const struct pair *pair, enum cw_op op, const uint64_t *remote, uint64_t count)
{
	return (struct cw_request){
		.segment = pair->segment,
		.op = op,
		.local = { .base = (uint64_t)(uintptr_t)pair->here, .page_size = PAGE, .count = count },
		.remote = { .page_size = PAGE, .stride = 1, .count = count, .indices = remote, .index_bits = 64 },
	};
}

static void fill(struct pair *pair)
{
	for (unsigned i = 0; i < ALL; i++)
		memset(pair->here + (size_t)i * PAGE, (int)(1 + i), PAGE);
}

/* step: 1 = region after region; 2 * PAGES + 1 = another region with each page. */
static void all_orders(void **state)
{
	static const unsigned steps[] = { 1, 7, 2 * PAGES + 1 };

	(void)state;
	for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
		struct far_memory memory;
		struct pair pair;

		pair_open(&pair, ways[way], (size_t)ALL * PAGE);
		allocate(pair.far, &memory);
		for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
			uint64_t remote[ALL];
			struct cw_batch_result result;
			struct cw_request request;

			for (unsigned i = 0; i < ALL; i++)
				remote[i] = page_of(&memory, i * steps[s] % ALL);
			fill(&pair);
			request = request_of(&pair, CW_OP_WRITE, remote, ALL);
			result = pair_run(&pair, &request, 1, NULL);
			assert_int_equal(result.state, CW_BATCH_COMPLETED);
			assert_int_equal(result.bytes_completed, (uint64_t)ALL * PAGE);
			memset(pair.here, 0, (size_t)ALL * PAGE);
			request.op = CW_OP_READ;
			result = pair_run(&pair, &request, 1, NULL);
			assert_int_equal(result.state, CW_BATCH_COMPLETED);
			for (unsigned i = 0; i < ALL; i++) {
				const unsigned char *there = (const unsigned char *)(uintptr_t)remote[i];

				assert_int_equal(there[0], 1 + i);
				assert_int_equal(there[PAGE - 1], 1 + i);
				assert_int_equal(pair.here[(size_t)i * PAGE], 1 + i);
			}
		}
		pair_close(&pair);
	}
}

/* A page that lies nowhere ends the request, and its batch says why. */
static void page_outside(void **state)
{
	(void)state;
	for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
		struct far_memory memory;
		struct cw_batch_result result;
		struct cw_request request;
		uint64_t remote[ALL];
		struct pair pair;

		pair_open(&pair, ways[way], (size_t)ALL * PAGE);
		allocate(pair.far, &memory);
		for (unsigned i = 0; i < ALL; i++)
			remote[i] = page_of(&memory, i);
		remote[ALL / 2 + 3] = 0x10000;
		request = request_of(&pair, CW_OP_WRITE, remote, ALL);
		result = pair_run(&pair, &request, 1, NULL);
		assert_int_equal(result.state, CW_BATCH_FAILED);
		assert_int_equal(result.status, CW_ERR_NOT_REGISTERED);
		assert_int_equal(result.requests_failed, 1);
		pair_close(&pair);
	}
}

/* Regions that went away and came back elsewhere cut differently are asked for anew. */
static void cut_differently(void **state)
{
	(void)state;
	for (size_t way = 1; way < sizeof(ways) / sizeof(ways[0]); way++) {
		unsigned char *there = aligned_alloc(PAGE, (size_t)ALL * PAGE);
		struct cw_region *whole, *half[2];
		struct cw_batch_result result;
		struct cw_request request;
		uint64_t remote[ALL];
		struct pair pair;

		assert_non_null(there);
		memset(there, 0, (size_t)ALL * PAGE);
		pair_open(&pair, ways[way], (size_t)ALL * PAGE);
		assert_int_equal(cw_region_register(pair.far, there, (size_t)ALL * PAGE, NULL, &whole), CW_OK);
		for (unsigned i = 0; i < ALL; i++)
			remote[i] = (uint64_t)(uintptr_t)there + (uint64_t)(i * 7 % ALL) * PAGE;
		fill(&pair);
		request = request_of(&pair, CW_OP_WRITE, remote, ALL);
		result = pair_run(&pair, &request, 1, NULL);
		assert_int_equal(result.state, CW_BATCH_COMPLETED);
		assert_int_equal(cw_region_unregister(whole), CW_OK);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(cw_region_register(pair.far, there + (size_t)i * (ALL / 2) * PAGE,
							    (size_t)(ALL / 2) * PAGE, NULL, &half[i]),
					 CW_OK);
		memset(there, 0, (size_t)ALL * PAGE);
		result = pair_run(&pair, &request, 1, NULL);
		assert_int_equal(result.state, CW_BATCH_COMPLETED);
		for (unsigned i = 0; i < ALL; i++)
			assert_int_equal(*(const unsigned char *)(uintptr_t)remote[i], 1 + i);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(cw_region_unregister(half[i]), CW_OK);
		pair_close(&pair);
		free(there);
	}
}

/* More requests than rails have room for: each is looked at when its turn comes, not all whenever something ends. */
static void many_requests(void **state)
{
	enum { MANY = 30000, SMALL = 64 };
	struct cw_request *requests = calloc(MANY, sizeof(*requests));
	struct cw_batch_result result;
	struct pair pair;

	(void)state;
	assert_non_null(requests);
	pair_open(&pair, "tcp", (size_t)MANY * SMALL);
	for (size_t i = 0; i < MANY; i++) {
		memset(pair.here + i * SMALL, (int)(1 + i % 255), SMALL);
		requests[i] = pair_request(&pair, CW_OP_WRITE, i * SMALL, (i * 7919 % MANY) * SMALL, SMALL);
	}
	result = pair_run(&pair, requests, MANY, NULL);
	assert_int_equal(result.state, CW_BATCH_COMPLETED);
	assert_int_equal(result.requests_completed, MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(pair.there[(i * 7919 % MANY) * SMALL], 1 + i % 255);
	pair_close(&pair);
	free(requests);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_orders),
		cmocka_unit_test(page_outside),
		cmocka_unit_test(cut_differently),
		cmocka_unit_test(many_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
