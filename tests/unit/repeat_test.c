/* SPDX-License-Identifier: Apache-2.0 */
/* A synchronous copy that fails by bad luck is repeated, as often as the setting batch/retries says. */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define WRITES 500
#define LENGTH 1000u

/* How many of WRITES writes to ourselves fail when every tenth copy does. */
static unsigned failures(const char *retries)
{
	const struct cw_setting settings[] = {
		{ "transports/fault/enable", "on" },
		{ "fault/wrap", "local" },
		{ "fault/fail", "100" },
		{ "fault/seed", "7" },
		{ "batch/retries", retries },
	};
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_segment_options way = CW_SEGMENT_OPTIONS_INIT;
	struct cw_engine *engine;
	struct cw_segment *self;
	struct cw_region *region;
	unsigned char *bytes;
	void *memory;
	unsigned failed = 0;

	options.settings = settings;
	options.setting_count = sizeof(settings) / sizeof(settings[0]);
	way.transports = "fault";
	assert_int_equal(cw_engine_open(&options, &engine), CW_OK);
	assert_int_equal(cw_memory_allocate(engine, (size_t)2 * LENGTH, NULL, &memory, &region), CW_OK);
	assert_int_equal(cw_segment_open(engine, cw_engine_name(engine), &way, &self), CW_OK);
	bytes = memory;
	for (int i = 0; i < WRITES; i++) {
		struct cw_request request = {
			.segment = self,
			.op = CW_OP_WRITE,
			.local = { .base = (uint64_t)(uintptr_t)memory, .page_size = LENGTH, .count = 1 },
			.remote = { .base = (uint64_t)(uintptr_t)memory + LENGTH, .page_size = LENGTH, .count = 1 },
		};
		struct cw_batch *batch;

		memset(bytes, i + 1, LENGTH);
		assert_int_equal(cw_batch_submit(engine, &request, 1, NULL, &batch), CW_OK);
		assert_int_equal(cw_batch_wait(batch, 10 * SECOND), CW_OK);
		if (cw_batch_poll(batch) == CW_BATCH_COMPLETED)
			assert_memory_equal(bytes, bytes + LENGTH, LENGTH);
		else
			failed++;
		cw_batch_release(batch);
	}
	cw_segment_close(self);
	assert_int_equal(cw_memory_free(region), CW_OK);
	cw_engine_close(engine);
	return failed;
}

static void bad_luck_is_survived(void **state)
{
	(void)state;
	assert_int_equal(failures("8"), 0);
	assert_true(failures("0") > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(bad_luck_is_survived) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
