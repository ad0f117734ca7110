/* SPDX-License-Identifier: Apache-2.0 */
/* Tens of thousands of regions: a peer can still be opened, finds each of them, and lists them all. */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define REGIONS 30000u
#define PAGE 4096u
#define STRIDE (2 * PAGE)

static void found_and_listed(void **state)
{
	struct cw_remote_region *list = calloc(REGIONS + 1, sizeof(*list));
	struct cw_region **regions = calloc(REGIONS, sizeof(*regions));
	unsigned char *there = mmap(NULL, (size_t)REGIONS * STRIDE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	static const struct cw_setting patient[] = { { "control/connect_timeout", "40000" } };
	static unsigned char here[PAGE];
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *near, *far;
	struct cw_segment *segment;
	struct cw_region *region;
	size_t count = 0;

	(void)state;
	assert_true(list && regions && there != MAP_FAILED);
	options.settings = patient; /* a sanitizer on a busy machine takes long */
	options.setting_count = 1;
	assert_int_equal(cw_engine_open(&options, &near), CW_OK);
	assert_int_equal(cw_engine_open(NULL, &far), CW_OK);
	assert_int_equal(cw_region_register(near, here, sizeof(here), NULL, &region), CW_OK);
	for (size_t i = 0; i < REGIONS; i++)
		assert_int_equal(
			cw_region_register(far, there + (i * 7919 % REGIONS) * STRIDE, PAGE, NULL, &regions[i]), CW_OK);
	if (cw_segment_open(near, cw_engine_name(far), NULL, &segment))
		fail_msg("%s", cw_last_error());
	assert_int_equal(cw_segment_regions(segment, list, REGIONS + 1, &count), CW_OK);
	assert_int_equal(count, REGIONS);
	for (size_t i = 0; i < REGIONS; i += 1009) {
		struct cw_request request = {
			.segment = segment,
			.op = CW_OP_WRITE,
			.local = { .base = (uint64_t)(uintptr_t)here, .page_size = PAGE, .count = 1 },
			.remote = { .base = (uint64_t)(uintptr_t)there + i * STRIDE, .page_size = PAGE, .count = 1 },
		};
		struct cw_batch *batch;

		memset(here, (int)(1 + i % 255), PAGE);
		assert_int_equal(cw_batch_submit(near, &request, 1, NULL, &batch), CW_OK);
		assert_int_equal(cw_batch_wait(batch, 10 * SECOND), CW_OK);
		assert_int_equal(cw_batch_poll(batch), CW_BATCH_COMPLETED);
		cw_batch_release(batch);
		assert_memory_equal(there + i * STRIDE, here, PAGE);
		assert_int_equal(there[i * STRIDE + PAGE], 0);
	}
	for (size_t i = 0; i < REGIONS; i += 3) /* some by hand, the rest by the engine's end */
		assert_int_equal(cw_region_unregister(regions[i]), CW_OK);
	assert_int_equal(cw_segment_regions(segment, list, REGIONS + 1, &count), CW_OK);
	assert_int_equal(count, REGIONS - REGIONS / 3);
	cw_segment_close(segment);
	cw_engine_close(near);
	cw_engine_close(far);
	munmap(there, (size_t)REGIONS * STRIDE);
	free(list);
	free(regions);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(found_and_listed) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
