/* SPDX-License-Identifier: Apache-2.0 */
/* What a program can ask about the library itself: statuses, version, settings; and the descriptor of a queue. */
#include <causeway/causeway.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void statuses_are_described(void **state)
{
	static const struct {
		int status;
		const char *name;
		enum cw_scope scope;
		int retryable;
	} rows[] = {
		{ CW_OK, "OK", CW_SCOPE_REQUEST, 0 },
		{ CW_ERR_BUSY, "ERR_BUSY", CW_SCOPE_REQUEST, 1 },
		{ CW_ERR_NO_PATH, "ERR_NO_PATH", CW_SCOPE_PATH, 0 },
		{ CW_ERR_PEER_DOWN, "ERR_PEER_DOWN", CW_SCOPE_PEER, 1 },
		{ CW_ERR_INTERNAL, "ERR_INTERNAL", CW_SCOPE_ENGINE, 0 },
		{ CW_ERR_INTERNAL - 1, "UNKNOWN", CW_SCOPE_ENGINE, 0 },
		{ 1, "UNKNOWN", CW_SCOPE_ENGINE, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_string_equal(cw_status_name(rows[i].status), rows[i].name);
		assert_int_equal(cw_status_scope(rows[i].status), rows[i].scope);
		assert_int_equal(cw_status_retryable(rows[i].status), rows[i].retryable);
		assert_true(strlen(cw_strerror(rows[i].status)) > 0);
	}
}

static void the_version_is_that_of_the_header(void **state)
{
	char expected[32];

	(void)state;
	snprintf(expected, sizeof(expected), "%d.%d.%d", CW_VERSION_MAJOR, CW_VERSION_MINOR, CW_VERSION_PATCH);
	assert_string_equal(cw_version(), expected);
}

static void take_setting(void *arg, const char *key, const char *value, const char *origin, const char *help)
{
	char *text = arg;

	assert_true(strlen(help) > 0);
	if (!strcmp(key, "tcp/connections"))
		snprintf(text, 64, "%s %s", value, origin);
}

static void settings_tell_where_they_came_from(void **state)
{
	const struct cw_setting setting = { "tcp/connections", "3" };
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine;
	char text[64] = "";

	(void)state;
	assert_int_equal(cw_engine_settings(NULL, take_setting, text), CW_OK);
	assert_string_equal(text, "2 default");
	options.settings = &setting;
	options.setting_count = 1;
	assert_int_equal(cw_engine_open(&options, &engine), CW_OK);
	assert_int_equal(cw_engine_settings(engine, take_setting, text), CW_OK);
	assert_string_equal(text, "3 options");
	cw_engine_close(engine);
}

static void take_secret(void *arg, const char *key, const char *value, const char *origin, const char *help)
{
	char *text = arg;

	(void)help;
	assert_null(strstr(value, "hunter2"));
	if (!strcmp(key, "metadata/password"))
		snprintf(text, 64, "%s %s", value, origin);
}

static void secrets_are_not_told(void **state)
{
	const struct cw_setting setting = { "metadata/password", "hunter2" };
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine;
	char text[64] = "";

	(void)state;
	assert_int_equal(cw_engine_settings(NULL, take_secret, text), CW_OK);
	assert_string_equal(text, " default");
	options.settings = &setting;
	options.setting_count = 1;
	assert_int_equal(cw_engine_open(&options, &engine), CW_OK);
	assert_int_equal(cw_engine_settings(engine, take_secret, text), CW_OK);
	assert_string_equal(text, "*** options");
	cw_engine_close(engine);
}

static void an_unknown_store_is_named_without_its_password(void **state)
{
	struct cw_setting setting = { "metadata/url", "htttp://me:hunter2@host/x" };
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine;

	(void)state;
	options.settings = &setting;
	options.setting_count = 1;
	assert_int_equal(cw_engine_open(&options, &engine), CW_ERR_CONFIG);
	assert_non_null(strstr(cw_last_error(), "no store is named 'htttp'; there are p2p"));
	assert_null(strstr(cw_last_error(), "hunter2"));
}

static void memory_is_described_before_it_is_allocated(void **state)
{
	struct cw_memory_capabilities can = { .size = sizeof(can) };
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw_engine *engine;

	(void)state;
	assert_int_equal(cw_engine_open(NULL, &engine), CW_OK);
	assert_int_equal(cw_memory_query(engine, &options, &can), CW_OK);
	assert_int_equal(can.can_allocate, 1);
	options.location = "nowhere:0";
	assert_int_equal(cw_memory_query(engine, &options, &can), CW_OK);
	assert_int_equal(can.can_allocate, 0);
	assert_non_null(strstr(can.why_not, "nowhere:0"));
	cw_engine_close(engine);
}

static int is_readable(int fd, int timeout_ms)
{
	struct pollfd wanted = { .fd = fd, .events = POLLIN };

	return poll(&wanted, 1, timeout_ms) == 1;
}

static void notify_self(struct cw_engine *engine, struct cw_segment *segment)
{
	struct cw_notify notify = { .segment = segment, .name = "n" };

	assert_int_equal(cw_notify_send(engine, &notify, UINT64_C(10000000000)), CW_OK);
}

/* Readable only when it is armed, and until the queue is found empty. */
static void the_descriptor_of_a_queue_tells_when_it_is_armed(void **state)
{
	struct cw_engine *engine;
	struct cw_segment *segment;
	struct cw_queue *queue;
	struct cw_event event;
	int fd;

	(void)state;
	assert_int_equal(cw_engine_open(NULL, &engine), CW_OK);
	assert_int_equal(cw_segment_open(engine, cw_engine_name(engine), NULL, &segment), CW_OK);
	queue = cw_engine_queue(engine);
	fd = cw_queue_fd(queue);
	assert_true(fd >= 0);
	assert_int_equal(cw_queue_fd(NULL), -1);

	notify_self(engine, segment);
	assert_false(is_readable(fd, 0)); /* not armed */
	assert_int_equal(cw_queue_arm(queue), CW_ERR_BUSY);
	assert_int_equal(cw_queue_poll(queue, &event, 1), 1);
	cw_event_clear(&event);

	assert_int_equal(cw_queue_arm(queue), CW_OK);
	assert_false(is_readable(fd, 0)); /* empty */
	notify_self(engine, segment);
	assert_true(is_readable(fd, 10000));
	assert_int_equal(cw_queue_poll(queue, &event, 1), 1);
	cw_event_clear(&event);
	assert_false(is_readable(fd, 0));

	cw_segment_close(segment);
	cw_engine_close(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(statuses_are_described),
		cmocka_unit_test(the_version_is_that_of_the_header),
		cmocka_unit_test(settings_tell_where_they_came_from),
		cmocka_unit_test(secrets_are_not_told),
		cmocka_unit_test(an_unknown_store_is_named_without_its_password),
		cmocka_unit_test(memory_is_described_before_it_is_allocated),
		cmocka_unit_test(the_descriptor_of_a_queue_tells_when_it_is_armed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
