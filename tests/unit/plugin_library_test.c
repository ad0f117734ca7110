/* SPDX-License-Identifier: Apache-2.0 */
/* Plug-in libraries, as a user loads them: one that works (tests/plugin/memcopy.c) and what is wrong with others. */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Needs what is above. */
#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define LENGTH (1u << 20)

static int open_with(const char *libraries, struct cw_engine **engine_out)
{
	const struct cw_setting settings[] = {
		{ "plugins/load", libraries },
		{ "plugin/memcopy/bytes_per_second", "123000000000" },
		{ "transports/shm/enable", "off" },
	};
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;

	options.settings = settings;
	options.setting_count = sizeof(settings) / sizeof(settings[0]);
	return cw_engine_open(&options, engine_out);
}

struct seen {
	const char *name;
	int found, on;
	char why[200];
};

static void see(void *arg, const char *name, int on, const char *why)
{
	struct seen *seen = arg;

	if (strcmp(name, seen->name) != 0)
		return;
	seen->found++;
	seen->on = on;
	snprintf(seen->why, sizeof(seen->why), "%s", why);
}

static struct seen look_for(struct cw_engine *engine, const char *name)
{
	struct seen seen = { .name = name };

	assert_int_equal(cw_engine_transports(engine, see, &seen), CW_OK);
	return seen;
}

struct world {
	struct cw_engine *near, *far;
	struct cw_segment *segment;
	struct cw_region *near_region, *far_region;
	unsigned char *here, *there;
};

static int set_up(void **state)
{
	static struct world world;
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;

	if (open_with(PLUGINS "/memcopy.so", &world.near) || open_with(PLUGINS "/memcopy.so", &world.far))
		fail_msg("%s", cw_last_error());
	world.here = malloc(LENGTH);
	world.there = calloc(1, LENGTH);
	assert_int_equal(cw_region_register(world.near, world.here, LENGTH, NULL, &world.near_region), CW_OK);
	assert_int_equal(cw_region_register(world.far, world.there, LENGTH, NULL, &world.far_region), CW_OK);
	options.transports = "memcopy,tcp";
	if (cw_segment_open(world.near, cw_engine_name(world.far), &options, &world.segment))
		fail_msg("%s", cw_last_error());
	*state = &world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;

	cw_segment_close(world->segment);
	cw_engine_close(world->near);
	cw_engine_close(world->far);
	free(world->here);
	free(world->there);
	return 0;
}

static struct cw_batch_result move(struct world *world, enum cw_op op, uint64_t length)
{
	const struct cw_request request = {
		.segment = world->segment,
		.op = op,
		.local = { .base = (uintptr_t)world->here, .page_size = length, .count = 1 },
		.remote = { .base = (uintptr_t)world->there, .page_size = length, .count = 1 },
	};
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch;

	if (cw_batch_submit(world->near, &request, 1, NULL, &batch))
		fail_msg("%s", cw_last_error());
	assert_int_equal(cw_batch_wait(batch, 20 * SECOND), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	cw_batch_release(batch);
	return result;
}

static const char *way_of(struct world *world, double *speed_out)
{
	static struct cw_path_step steps[8];
	size_t count = 0;

	if (cw_path_explain(world->segment, world->here, (uintptr_t)world->there, 4096, CW_OP_WRITE, steps, 8, &count))
		fail_msg("%s", cw_last_error());
	assert_true(count > 0 && steps[0].chosen);
	if (speed_out)
		*speed_out = steps[0].gigabytes_per_second;
	return steps[0].transport;
}

static void is_listed_and_moves_bytes(void **state)
{
	struct world *world = *state;
	struct seen seen = look_for(world->near, "memcopy");
	double speed;

	assert_int_equal(seen.found, 1);
	assert_int_equal(seen.on, 1);
	assert_string_equal(seen.why, "copies between engines of one process");
	assert_string_equal(way_of(world, &speed), "memcopy");
	assert_true(speed > 122.9 && speed < 123.1); /* its own setting arrived */
	for (size_t i = 0; i < LENGTH; i++)
		world->here[i] = (unsigned char)(i * 2654435761u >> 11);
	assert_int_equal(move(world, CW_OP_WRITE, LENGTH).state, CW_BATCH_COMPLETED);
	assert_memory_equal(world->here, world->there, LENGTH);
	memset(world->here, 0, LENGTH);
	assert_int_equal(move(world, CW_OP_READ, LENGTH).state, CW_BATCH_COMPLETED);
	assert_memory_equal(world->here, world->there, LENGTH);
}

static void revocation_is_the_plugins_too(void **state)
{
	struct world *world = *state;
	struct cw_batch_result result;

	assert_int_equal(move(world, CW_OP_WRITE, 4096).state, CW_BATCH_COMPLETED);
	assert_int_equal(cw_region_revoke(world->far_region, LENGTH / 2, 0, 5 * SECOND), CW_OK);
	/* It gives up all of the region; the rest of it goes by the next transport. */
	memset(world->here, 0x5a, 4096);
	result = move(world, CW_OP_WRITE, 4096);
	if (result.state != CW_BATCH_COMPLETED)
		fail_msg("%s", result.text);
	assert_string_equal(way_of(world, NULL), "tcp");
	assert_memory_equal(world->here, world->there, 4096);
	assert_int_equal(cw_region_revoke(world->far_region, 0, 0, 5 * SECOND), CW_OK);
	memset(world->there, 0x77, LENGTH);
	assert_int_equal(move(world, CW_OP_WRITE, 4096).state, CW_BATCH_FAILED);
	for (size_t i = 0; i < LENGTH; i++)
		assert_int_equal(world->there[i], 0x77);
}

static void a_transport_that_lacks_a_hook_is_off(void **state)
{
	struct cw_engine *engine;
	struct seen seen;

	(void)state;
	if (open_with(PLUGINS "/no_hook.so," PLUGINS "/memcopy.so", &engine))
		fail_msg("%s", cw_last_error());
	seen = look_for(engine, "no_hook");
	assert_int_equal(seen.found, 1);
	assert_int_equal(seen.on, 0);
	assert_string_equal(seen.why, "lacks a required hook");
	assert_int_equal(look_for(engine, "memcopy").on, 1);
	cw_engine_close(engine);
}

static void bad_libraries_are_refused(void **state)
{
	static const struct {
		const char *path, *why;
	} rows[] = {
		{ PLUGINS "/wrong_abi.so", "it was built for another version of the plug-in contract" },
		{ PLUGINS "/wrong_table.so", "a transport in it has no name or was built for another version" },
		{ PLUGINS "/no_symbol.so", "it has no symbol cw_plugin" },
		{ PLUGINS "/no_such_file.so", "cannot open shared object file" },
		{ PLUGINS "/memcopy.so," PLUGINS "/memcopy.so", "it is named twice" },
		{ PLUGINS "/memcopy.so,", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw_engine *engine = NULL;
		int status = open_with(rows[i].path, &engine);

		if (!rows[i].why) {
			assert_int_equal(status, CW_OK);
			cw_engine_close(engine);
			continue;
		}
		assert_int_equal(status, CW_ERR_CONFIG);
		assert_null(engine);
		if (!strstr(cw_last_error(), rows[i].why) || strncmp(cw_last_error(), "plug-in /", 9) != 0)
			fail_msg("%s: %s", rows[i].path, cw_last_error());
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_listed_and_moves_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(revocation_is_the_plugins_too, set_up, tear_down),
		cmocka_unit_test(a_transport_that_lacks_a_hook_is_off),
		cmocka_unit_test(bad_libraries_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
