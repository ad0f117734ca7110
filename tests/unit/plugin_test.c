/* SPDX-License-Identifier: Apache-2.0 */
/* Plug-in libraries: the example (tests/plugin) is loaded, carries a request, and gets its setting; wrong ones are
 * refused. */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH 4096u

static int open_with(const char *libraries, struct cw_engine **engine_out)
{
	const struct cw_setting settings[] = {
		{ "plugins/load", libraries },
		{ "plugin/inside/cost", "7" },
	};
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;

	options.settings = settings;
	options.setting_count = 2;
	return cw_engine_open(&options, engine_out);
}

static void seen(void *arg, const char *name, int on, const char *why)
{
	(void)why;
	if (!strcmp(name, "inside"))
		*(int *)arg += on;
}

/* By our own name, so that the plug-in's transport and `local` both can. */
static void carries_a_request(void **state)
{
	const char *library = getenv("CAUSEWAY_EXAMPLE_PLUGIN");
	struct cw_engine *engine;
	struct cw_segment *segment;
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_region *region;
	struct cw_batch *batch;
	struct cw_path_step step;
	void *memory;
	unsigned char *bytes;
	size_t count;
	int on = 0;

	(void)state;
	if (!library)
		skip();
	assert_int_equal(open_with(library, &engine), CW_OK);
	assert_int_equal(cw_engine_transports(engine, seen, &on), CW_OK);
	assert_int_equal(on, 1);

	assert_int_equal(cw_memory_allocate(engine, 2 * LENGTH, NULL, &memory, &region), CW_OK);
	bytes = memory;
	memset(bytes, 0x5a, LENGTH);
	options.transports = "inside";
	assert_int_equal(cw_segment_open(engine, cw_engine_name(engine), &options, &segment), CW_OK);
	struct cw_request request = {
		.segment = segment,
		.op = CW_OP_WRITE,
		.local = { .base = (uintptr_t)bytes, .page_size = LENGTH, .count = 1 },
		.remote = { .base = (uintptr_t)bytes + LENGTH, .page_size = LENGTH, .count = 1 },
	};
	assert_int_equal(cw_batch_submit(engine, &request, 1, NULL, &batch), CW_OK);
	assert_int_equal(cw_batch_wait(batch, CW_FOREVER), CW_OK);
	assert_int_equal(cw_batch_poll(batch), CW_BATCH_COMPLETED);
	cw_batch_release(batch);
	assert_memory_equal(bytes, bytes + LENGTH, LENGTH);

	assert_int_equal(cw_path_explain(segment, bytes, (uintptr_t)bytes, 1, CW_OP_READ, &step, 1, &count), CW_OK);
	assert_string_equal(step.transport, "inside");
	assert_int_equal(step.chosen, 1);
	cw_segment_close(segment);
	cw_engine_close(engine);
}

static void two_engines_share_it(void **state)
{
	const char *library = getenv("CAUSEWAY_EXAMPLE_PLUGIN");
	struct cw_engine *first, *second;
	int on = 0;

	(void)state;
	if (!library)
		skip();
	assert_int_equal(open_with(library, &first), CW_OK);
	assert_int_equal(open_with(library, &second), CW_OK);
	cw_engine_close(first);
	assert_int_equal(cw_engine_transports(second, seen, &on), CW_OK);
	assert_int_equal(on, 1);
	cw_engine_close(second);
}

static void wrong_libraries_are_refused(void **state)
{
	static const char *const wrong[] = { "/nonexistent/plugin.so", "libc.so.6" };
	struct cw_engine *engine = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(open_with(wrong[i], &engine), CW_ERR_CONFIG);
		assert_non_null(strstr(cw_last_error(), wrong[i]));
		assert_null(engine);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carries_a_request),
		cmocka_unit_test(two_engines_share_it),
		cmocka_unit_test(wrong_libraries_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
