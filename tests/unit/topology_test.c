/* SPDX-License-Identifier: Apache-2.0 */
/* Topology through the public function: who says it is filled in by the core, an off transport is not asked, a failure
 * is reported. The transport is one of the engine's with a hook added to a copy of its table. */
#include <core/core.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Needs what is above. */
#include <cmocka.h>

static int answer; /* of the hook */

static int tell(void *transport, cw_topology_fn visit, void *arg)
{
	const struct cw_topology_device device = { .location = "sunrise:1", .device = 1, .chip = 6, .ports = 10 };
	const struct cw_topology_link link = { .device = { 0, 1 }, .port = { 2, 3 }, .up = 1, .maximum = 25 };

	(void)transport;
	visit(arg, &device, NULL);
	visit(arg, NULL, &link);
	return answer;
}

struct seen {
	struct cw_topology_device device;
	struct cw_topology_link link;
	int devices, links;
};

static void see(void *arg, const struct cw_topology_device *device, const struct cw_topology_link *link)
{
	struct seen *seen = arg;

	assert_true((device == NULL) != (link == NULL));
	if (device) {
		seen->device = *device;
		seen->devices++;
	} else {
		seen->link = *link;
		seen->links++;
	}
}

/* Gives the engine's first transport the hook; the caller puts back what is returned. */
static const struct cw_transport_ops *add_hook(struct cw_engine *engine, struct cw_transport_ops *copy)
{
	const struct cw_transport_ops *ops = engine->parts[0].ops;

	*copy = *ops;
	copy->topology = tell;
	engine->parts[0].ops = copy;
	return ops;
}

/* Without a thread of its own, because its parts are changed under it. */
static struct cw_engine *open_engine(void)
{
	static const struct cw_setting settings[] = { { "progress/threads", "0" } };
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine;

	options.settings = settings;
	options.setting_count = 1;
	assert_int_equal(cw_engine_open(&options, &engine), CW_OK);
	return engine;
}

static void what_a_transport_tells_arrives(void **state)
{
	struct cw_transport_ops copy;
	const struct cw_transport_ops *ops;
	struct cw_engine *engine;
	struct seen seen = { .devices = 0 };

	(void)state;
	answer = CW_OK;
	engine = open_engine();
	ops = add_hook(engine, &copy);
	assert_int_equal(cw_engine_topology(engine, see, &seen), CW_OK);
	assert_int_equal(seen.devices, 1);
	assert_int_equal(seen.links, 1);
	assert_int_equal(seen.device.size, sizeof(seen.device));
	assert_string_equal(seen.device.transport, ops->name);
	assert_string_equal(seen.device.location, "sunrise:1");
	assert_int_equal(seen.device.chip, 6);
	assert_int_equal(seen.link.size, sizeof(seen.link));
	assert_string_equal(seen.link.transport, ops->name);
	assert_int_equal(seen.link.port[1], 3);
	assert_true(seen.link.maximum == 25);
	engine->parts[0].ops = ops;
	cw_engine_close(engine);
}

static void a_failure_is_reported(void **state)
{
	struct cw_transport_ops copy;
	const struct cw_transport_ops *ops;
	struct cw_engine *engine;
	struct seen seen = { .devices = 0 };

	(void)state;
	answer = CW_ERR_IO;
	engine = open_engine();
	ops = add_hook(engine, &copy);
	assert_int_equal(cw_engine_topology(engine, see, &seen), CW_ERR_IO);
	assert_non_null(strstr(cw_last_error(), ops->name));
	engine->parts[0].on = 0;
	seen.devices = 0;
	assert_int_equal(cw_engine_topology(engine, see, &seen), CW_OK);
	assert_int_equal(seen.devices, 0);
	engine->parts[0].on = 1;
	engine->parts[0].ops = ops;
	cw_engine_close(engine);
}

static void wrong_arguments_are_refused(void **state)
{
	struct cw_engine *engine;

	(void)state;
	assert_int_equal(cw_engine_topology(NULL, see, NULL), CW_ERR_INVALID);
	assert_int_equal(cw_engine_open(NULL, &engine), CW_OK);
	assert_int_equal(cw_engine_topology(engine, NULL, NULL), CW_ERR_INVALID);
	cw_engine_close(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_transport_tells_arrives),
		cmocka_unit_test(a_failure_is_reported),
		cmocka_unit_test(wrong_arguments_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
