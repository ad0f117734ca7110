/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every row of the tables of Mooncake's variables and keys: it does what it says, settings that it names exist and take
 * every value of its range, and what has no effect is named once.
 */
#include "setup_world.h"

#include "core/core.h"
#include "mooncake/rows.h"

static const struct row variables[] = {
#define MOONCAKE_VARIABLE(name, type, minimum, maximum, effect, target, note)                                          \
	{ name, ROW_##type, minimum, maximum, ROW_##effect, target, note },
#include "mooncake/variables.def"
#undef MOONCAKE_VARIABLE
};
static const struct row keys[] = {
#define MOONCAKE_KEY(name, type, minimum, maximum, effect, target, note)                                               \
	{ name, ROW_##type, minimum, maximum, ROW_##effect, target, note },
#include "mooncake/keys.def"
#undef MOONCAKE_KEY
};

/* A value of the row's type; for numbers the smallest or largest there is. */
static void sample(const struct row *row, int largest, char *out, size_t size)
{
	double most = row->maximum > 0 ? row->maximum : row->minimum + 1000000;

	if (row->type == ROW_NUMBER || row->type == ROW_REAL)
		snprintf(out, size, "%.15g", largest ? most : row->minimum);
	else if (row->type == ROW_BOOL || row->type == ROW_SWITCH)
		snprintf(out, size, "%s", largest ? "on" : "off");
	else if (!strcmp(row->target, "log_level"))
		snprintf(out, size, "%s", largest ? "TRACE" : "Error");
	else if (!strcmp(row->target, "protocol"))
		snprintf(out, size, "%s", largest ? "rdma" : "tcp");
	else if (!strcmp(row->target, "file"))
		snprintf(out, size, "%s", "{}");
	else
		snprintf(out, size, "%s", largest ? "word" : "w");
}

static void no_such_row_twice(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(variables); i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(variables[i].name, variables[j].name);
	for (size_t i = 0; i < COUNT(keys); i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(keys[i].name, keys[j].name);
}

/* A setting is there, and takes the smallest and the largest value that the row lets through. */
static void takes(const struct setup *setup)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw__config config;

	options.settings = setup->settings;
	options.setting_count = setup->setting_count;
	assert_int_equal(cw__config_init(&config), CW_OK);
	if (cw__config_load(&config, &options))
		fail_msg("%s", cw_last_error());
	cw__config_free(&config);
}

static void settings_exist(const struct row *row)
{
	if (row->effect != ROW_SETTING && row->effect != ROW_SECONDS)
		return;
	for (int largest = 0; largest < 2; largest++) {
		const struct notices notices = { .fn = NULL };
		struct setup setup = { .setting_count = 0 };
		char value[64];

		sample(row, largest, value, sizeof(value));
		assert_int_equal(setup__apply(&setup, row, row->name, value, 0, &notices), 0);
		assert_int_equal(setup.setting_count, 1);
		assert_string_equal(setup.settings[0].key, row->target);
		takes(&setup);
		setup_free(&setup);
	}
}

static void settings_of_rows_exist(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(variables); i++)
		settings_exist(&variables[i]);
	for (size_t i = 0; i < COUNT(keys); i++)
		settings_exist(&keys[i]);
}

static unsigned notices_of(const struct row *row)
{
	return row->effect == ROW_NONE || row->effect == ROW_STORE || row->effect == ROW_ABSENT;
}

/* One variable alone: what it has to say is said at the first call only. */
static void one_variable(const struct row *row)
{
	struct setup setup = { .setting_count = 0 }, again = { .setting_count = 0 };
	struct lines lines = { .count = 0 }, more = { .count = 0 };
	char name[64], value[64];
	size_t length = strlen(row->name);

	snprintf(name, sizeof(name), "%s", row->name);
	if (name[length - 1] == '*')
		memcpy(name + length - 1, "X", 2);
	sample(row, 1, value, sizeof(value));
	setenv(name, value, 1);
	if (setup_environment(&setup, collect, &lines))
		fail_msg("%s=%s: %s", name, value, setup.text);
	assert_int_equal(setup_environment(&again, collect, &more), 0);
	if (more.count)
		fail_msg("said again: %s", more.text);
	if (row->effect != ROW_FIELD)
		assert_int_equal(lines.count, notices_of(row));
	if (lines.count && row->effect != ROW_FIELD)
		assert_int_equal(strncmp(lines.text, name, strlen(name)), 0);
	if (row->effect == ROW_NONE)
		assert_holds(lines.text, row->note);
	if (row->effect == ROW_STORE)
		assert_holds(lines.text, "Mooncake Store");
	if (row->effect == ROW_SETTING || row->effect == ROW_SECONDS)
		assert_non_null(setting_of(&setup, row->target));
	unsetenv(name);
	setup_free(&setup);
	setup_free(&again);
}

static void every_variable(void **state)
{
	(void)state;
	clearenv();
	for (size_t i = 0; i < COUNT(variables); i++)
		one_variable(&variables[i]);
}

/* A key with its value in JSON, flat or nested. */
static void document(const struct row *row, const char *value, int nested, char *out, size_t size)
{
	static const char *const texts[] = {
		[ROW_ANY] = "[{\"a\": 1}, null]",
		[ROW_LIST] = "[\"mlx5_0\"]",
		[ROW_OBJECT] = "{\"a\": {\"b\": 1}}",
		[ROW_TEXTS] = "[\"a:2379\", \"b:2379\"]",
	};
	const char *json = row->type < COUNT(texts) ? texts[row->type] : NULL;
	char path[128], text[96];
	size_t used = 0, depth = 1;

	snprintf(path, sizeof(path), "%s", row->name);
	if (row->type == ROW_BOOL)
		json = !strcmp(value, "on") ? "true" : "false";
	else if (row->type == ROW_TEXT)
		snprintf(text, sizeof(text), "\"%s\"", value);
	else
		snprintf(text, sizeof(text), "%s", value);
	used = (size_t)snprintf(out, size, "{\"");
	for (const char *c = path; *c; c++) {
		if (*c == '/' && nested) {
			used += (size_t)snprintf(out + used, size - used, "\": {\"");
			depth++;
		} else {
			out[used++] = *c;
		}
	}
	used += (size_t)snprintf(out + used, size - used, "\": %s", json ? json : text);
	while (depth--)
		out[used++] = '}';
	out[used] = '\0';
}

static void one_key(const struct row *row, int nested)
{
	struct setup setup = { .setting_count = 0 };
	struct lines lines = { .count = 0 };
	char value[64], text[512];

	sample(row, 1, value, sizeof(value));
	document(row, value, nested, text, sizeof(text));
	if (setup_file(&setup, text, collect, &lines))
		fail_msg("%s: %s", text, setup.text);
	if (row->effect != ROW_FIELD)
		assert_int_equal(lines.count, notices_of(row));
	if (lines.count)
		assert_holds(lines.text, row->name);
	if (row->effect == ROW_NONE)
		assert_holds(lines.text, row->note);
	if (row->effect == ROW_SETTING)
		assert_non_null(setting_of(&setup, row->target));
	setup_free(&setup);
}

static void every_key(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(keys); i++)
		for (int nested = 0; nested < 2; nested++)
			one_key(&keys[i], nested);
}

/* Keys of another type, and numbers on the wrong side of each end of the range. */
static void every_key_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(keys); i++) {
		struct setup setup = { .setting_count = 0 };
		char text[256];
		int number = keys[i].type == ROW_NUMBER || keys[i].type == ROW_REAL;

		if (keys[i].type == ROW_ANY)
			continue;
		snprintf(text, sizeof(text), "{\"%s\": %s}", keys[i].name, number ? "\"1\"" : "1");
		assert_int_equal(setup_file(&setup, text, NULL, NULL), -1);
		assert_holds(setup.text, keys[i].name);
		assert_holds(setup.text, "must be");
		for (int end = 0; number && end < 2; end++) {
			double beyond = end ? keys[i].maximum + 1 : keys[i].minimum - 1;

			if (end && keys[i].maximum <= 0)
				continue;
			snprintf(text, sizeof(text), "{\"%s\": %.15g}", keys[i].name, beyond);
			assert_int_equal(setup_file(&setup, text, NULL, NULL), -1);
			assert_holds(setup.text, keys[i].name);
			assert_holds(setup.text, end ? "from" : "is not");
		}
		snprintf(text, sizeof(text), "{\"%s\": null}", keys[i].name);
		assert_int_equal(setup_file(&setup, text, NULL, NULL), -1);
		setup_free(&setup);
	}
}

/* A switch of what is not built is nothing to talk about when it is off. */
static void absent_and_off(void **state)
{
	struct lines lines = { .count = 0 };
	struct setup setup = { .setting_count = 0 };

	(void)state;
	for (size_t i = 0; i < COUNT(keys); i++) {
		char text[128];

		if (keys[i].effect != ROW_ABSENT)
			continue;
		snprintf(text, sizeof(text), "{\"%s\": false}", keys[i].name);
		assert_int_equal(setup_file(&setup, text, collect, &lines), 0);
	}
	assert_int_equal(lines.count, 0);
	setup_free(&setup);
}

/* codes.def has every status, in order, and its numbers are Mooncake's. */
static void every_code(void **state)
{
	static const int statuses[] = {
#define CW_STATUS(name, value, scope, retryable, text) CW_##name,
#include "core/status.def"
#undef CW_STATUS
	};
	static const struct {
		int status, error, code, tent;
	} codes[] = {
#define MOONCAKE_CODE(status, error, error_name, code, code_name, tent, tent_name) { CW_##status, error, code, tent },
#include "mooncake/codes.def"
#undef MOONCAKE_CODE
	};

	(void)state;
	assert_int_equal(COUNT(codes), COUNT(statuses));
	for (size_t i = 0; i < COUNT(codes); i++) {
		assert_int_equal(codes[i].status, statuses[i]);
		assert_int_equal(!statuses[i], !codes[i].error);
		assert_int_equal(!statuses[i], !codes[i].tent);
		assert_true(codes[i].error <= 0 && codes[i].tent >= 0);
		/* Two families with the same numbers, but for a transport that is missing, which only one has. */
		if (codes[i].status == CW_ERR_NO_PATH)
			assert_int_equal(codes[i].code, 8);
		else if (codes[i].status == CW_ERR_UNSUPPORTED)
			assert_int_equal(codes[i].code, 999);
		else
			assert_int_equal(codes[i].code, -codes[i].error);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_such_row_twice), cmocka_unit_test(settings_of_rows_exist),
		cmocka_unit_test(every_variable),    cmocka_unit_test(every_key),
		cmocka_unit_test(every_key_wrong),   cmocka_unit_test(absent_and_off),
		cmocka_unit_test(every_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
