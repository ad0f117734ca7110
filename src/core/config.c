/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings: one table (settings.def), filled from defaults, a JSON file, the environment and the caller's options, in
 * that order. The environment is read here and nowhere else.
 */
#include <core/core.h>
#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <util/nearest.h>

struct row {
	const char *key;
	enum cw__setting_type type;
	const char *fallback;
	uint64_t minimum, maximum;
	const char *help;
};

static const struct row rows[] = {
#define CW_SETTING(key, type, fallback, minimum, maximum, help)                                                        \
	{ key, CW__SETTING_##type, fallback, minimum, maximum, help },
#include <core/settings.def>
#undef CW_SETTING
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

size_t cw__config_count(void)
{
	return ROWS;
}

void cw__config_describe(size_t row, const char **key_out, const char **fallback_out, const char **help_out)
{
	*key_out = rows[row].key;
	*fallback_out = rows[row].fallback;
	*help_out = rows[row].help;
}

static size_t find(const char *key)
{
	for (size_t i = 0; i < ROWS; i++)
		if (!strcmp(rows[i].key, key))
			return i;
	return ROWS;
}

static const char *nearest(const char *key)
{
	const char *best = rows[0].key;
	size_t least = SIZE_MAX;

	for (size_t i = 0; i < ROWS; i++) {
		size_t d = cw__edit_distance(key, rows[i].key);

		if (d < least) {
			least = d;
			best = rows[i].key;
		}
	}
	return best;
}

static int parse_bool(const char *text, uint64_t *number_out)
{
	static const char *const words[] = { "off", "on", "false", "true", "no", "yes", "0", "1" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!strcmp(text, words[i])) {
			*number_out = i & 1;
			return CW_OK;
		}
	}
	return CW_ERR_CONFIG;
}

static int parse_number(const char *text, int suffix, uint64_t *number_out)
{
	unsigned long long value;
	unsigned shift = 0;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return CW_ERR_CONFIG;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return CW_ERR_CONFIG;
	if (suffix && *end) {
		const char *at = strchr("kmg", tolower((unsigned char)*end));

		if (!at)
			return CW_ERR_CONFIG;
		shift = 10 * (unsigned)(at - "kmg" + 1);
		end++;
	}
	if (*end || value > (UINT64_MAX >> shift))
		return CW_ERR_CONFIG;
	*number_out = (uint64_t)value << shift;
	return CW_OK;
}

static int parse(const struct row *row, const char *text, uint64_t *number_out)
{
	int status = CW_OK;

	*number_out = 0;
	if (row->type == CW__SETTING_BOOL)
		status = parse_bool(text, number_out);
	else if (row->type != CW__SETTING_TEXT && row->type != CW__SETTING_SECRET)
		status = parse_number(text, row->type == CW__SETTING_BYTES, number_out);
	if (status)
		return cw__fail(CW_ERR_CONFIG, "setting %s: '%s' is not %s", row->key, text,
				row->type == CW__SETTING_BOOL ? "on or off" : "a number");
	if (row->maximum && (*number_out < row->minimum || *number_out > row->maximum))
		return cw__fail(CW_ERR_CONFIG, "setting %s: %s is outside %llu to %llu", row->key, text,
				(unsigned long long)row->minimum, (unsigned long long)row->maximum);
	if (row->type == CW__SETTING_MS)
		*number_out *= CW__MS;
	return CW_OK;
}

static int keep_extra(struct cw__config *config, const char *key, const char *text)
{
	char **grown = realloc(config->extra, (config->extra_count + 1) * sizeof(*grown));
	size_t length = strlen(key) + strlen(text) + 2;

	if (!grown)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	config->extra = grown;
	grown[config->extra_count] = malloc(length);
	if (!grown[config->extra_count])
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	snprintf(grown[config->extra_count++], length, "%s=%s", key, text);
	return CW_OK;
}

/* Settings that only a plug-in can know: its own, and the switch of a transport it brings. */
static int is_of_plugin(const char *key)
{
	size_t length = strlen(key);

	return !strncmp(key, "plugin/", 7) ||
	       (!strncmp(key, "transports/", 11) && length > 18 && !strcmp(key + length - 7, "/enable"));
}

static int set(struct cw__config *config, const char *key, const char *text, const char *origin)
{
	size_t row = find(key);
	uint64_t number;
	char *copy;
	int status;

	if (row == ROWS && is_of_plugin(key))
		return keep_extra(config, key, text);
	if (row == ROWS)
		return cw__fail(CW_ERR_CONFIG, "unknown setting '%s' (%s); did you mean '%s'?", key, origin,
				nearest(key));
	status = parse(&rows[row], text, &number);
	if (status)
		return status;
	copy = strdup(text);
	if (!copy)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	free(config->values[row].text);
	config->values[row] = (struct cw__setting){ copy, number, origin };
	return CW_OK;
}

int cw__config_init(struct cw__config *config)
{
	memset(config, 0, sizeof(*config));
	config->values = calloc(ROWS, sizeof(*config->values));
	if (!config->values)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	for (size_t i = 0; i < ROWS; i++) {
		int status = set(config, rows[i].key, rows[i].fallback, "default");

		if (status) {
			cw__config_free(config);
			return status;
		}
	}
	return CW_OK;
}

void cw__config_free(struct cw__config *config)
{
	for (size_t i = 0; config->values && i < ROWS; i++)
		free(config->values[i].text);
	free(config->values);
	for (size_t i = 0; i < config->extra_count; i++)
		free(config->extra[i]);
	free(config->extra);
	memset(config, 0, sizeof(*config));
}

/* Nested objects and keys with slashes mean the same: {"tcp": {"slice": "1m"}} is "tcp/slice". */
static int load_object(struct cw__config *config, json_object *object, const char *prefix)
{
	json_object_object_foreach(object, name, value)
	{
		char key[128];
		int status;

		if ((size_t)snprintf(key, sizeof(key), "%s%s%s", prefix, *prefix ? "/" : "", name) >= sizeof(key))
			return cw__fail(CW_ERR_CONFIG, "configuration file: the key '%.40s...' is too long", name);
		switch (json_object_get_type(value)) {
		case json_type_object:
			status = load_object(config, value, key);
			break;
		case json_type_boolean:
			status = set(config, key, json_object_get_boolean(value) ? "on" : "off", "file");
			break;
		case json_type_int:
		case json_type_string:
			status = set(config, key, json_object_get_string(value), "file");
			break;
		default:
			status = cw__fail(CW_ERR_CONFIG, "configuration file: %s must be a text, number or true/false",
					  key);
		}
		if (status)
			return status;
	}
	return CW_OK;
}

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "re");
	size_t length = 0, capacity = 1u << 20;
	char *text = malloc(capacity + 1);

	if (file && text) {
		length = fread(text, 1, capacity, file);
		text[length] = 0;
	}
	if (!file || !text || ferror(file) || length == capacity) {
		cw__fail(CW_ERR_CONFIG, "configuration file %s: %s", path,
			 file && text && length == capacity ? "larger than 1 MiB" : strerror(errno));
		free(text);
		text = NULL;
	}
	if (file)
		fclose(file);
	return text;
}

static int load_file(struct cw__config *config, const char *path)
{
	char *text = read_file(path);
	json_tokener *tokener = NULL;
	json_object *root = NULL;
	int status = CW_ERR_CONFIG;

	if (!text)
		return CW_ERR_CONFIG;
	tokener = json_tokener_new_ex(8);
	if (tokener) {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
		root = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
	}
	if (!root || json_object_get_type(root) != json_type_object)
		cw__fail(CW_ERR_CONFIG, "configuration file %s: %s", path,
			 tokener && !root ? json_tokener_error_desc(json_tokener_get_error(tokener))
					  : "must be one JSON object");
	else
		status = load_object(config, root, "");
	json_object_put(root);
	if (tokener)
		json_tokener_free(tokener);
	free(text);
	return status;
}

static int load_environment(struct cw__config *config)
{
	for (size_t i = 0; i < ROWS; i++) {
		char name[128] = "CW_";
		const char *value;
		int status;

		for (size_t j = 0; rows[i].key[j] && j < sizeof(name) - 4; j++)
			name[j + 3] = rows[i].key[j] == '/' ? '_' : (char)toupper((unsigned char)rows[i].key[j]);
		value = getenv(name);
		status = value ? set(config, rows[i].key, value, "environment") : CW_OK;
		if (status)
			return status;
	}
	return CW_OK;
}

int cw__config_load(struct cw__config *config, const struct cw_engine_options *options)
{
	int status = CW_OK;

	if (options->config_file)
		status = load_file(config, options->config_file);
	if (!status && options->use_environment)
		status = load_environment(config);
	for (size_t i = 0; !status && i < options->setting_count; i++) {
		if (!options->settings[i].key || !options->settings[i].value)
			return cw__fail(CW_ERR_INVALID, "setting %zu of the options has no key or no value", i);
		status = set(config, options->settings[i].key, options->settings[i].value, "options");
	}
	return status;
}

const char *cw__config_text(const struct cw__config *config, const char *key)
{
	size_t row = find(key), length = strlen(key);

	if (row < ROWS)
		return config->values[row].text;
	for (size_t i = config->extra_count; i > 0; i--)
		if (!strncmp(config->extra[i - 1], key, length) && config->extra[i - 1][length] == '=')
			return config->extra[i - 1] + length + 1;
	return NULL;
}

const char *cw__config_shown(const struct cw__config *config, size_t row)
{
	const char *text = config->values[row].text;

	return rows[row].type == CW__SETTING_SECRET && *text ? "***" : text;
}

uint64_t cw__config_number(const struct cw__config *config, const char *key, uint64_t fallback)
{
	size_t row = find(key);
	const char *text;
	uint64_t number;

	if (row < ROWS)
		return config->values[row].number;
	text = cw__config_text(config, key);
	return text && (!parse_number(text, 1, &number) || !parse_bool(text, &number)) ? number : fallback;
}
