/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mooncake's configuration files: strict JSON whose keys are the rows of keys.def. Nested objects and keys with slashes
 * mean the same, so a key's path is what counts; a path that is given twice in two ways is refused like a repeated key.
 */
#include "rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/json.h"

#define FILE_MAX (1u << 20)
#define PATH_BYTES 96
#define ROWS_MAX 256
#define LIST_BYTES SETUP_TEXT_MAX

/* One file while it is walked. */
struct walk {
	struct setup *setup;
	const char *label; /* the file, as lines call it */
	const struct notices *notices;
	unsigned char seen[ROWS_MAX];
};

/* ---------------------------------------------------------------------------------------------- keys */

/* The row of a path, or of the object that swallows all that is in it. */
static const struct row *find(const char *path)
{
	const struct row *row = setup__row(setup__keys, setup__key_count, path);
	char parent[PATH_BYTES];
	char *slash;

	snprintf(parent, sizeof(parent), "%s", path);
	while (!row && (slash = strrchr(parent, '/')) != NULL) {
		*slash = '\0';
		row = setup__row(setup__keys, setup__key_count, parent);
		if (row && row->type != ROW_OBJECT && row->type != ROW_ANY)
			row = NULL;
	}
	return row;
}

static int is_parent(const char *path)
{
	size_t length = strlen(path);

	for (size_t i = 0; i < setup__key_count; i++)
		if (!strncmp(setup__keys[i].name, path, length) && setup__keys[i].name[length] == '/')
			return 1;
	return 0;
}

static int refuse_unknown(struct setup *setup, const char *label, const char *path)
{
	struct nearest nearest;

	setup__nearest(setup__keys, setup__key_count, path, &nearest);
	return setup__fail(setup, "%.200s%sunknown key '%s'; did you mean '%s'?", label, label[0] ? ": " : "", path,
			   nearest.name);
}

/* ------------------------------------------------------------------------------------------- values */

/* "a,b" of ["a", "b"]; -1 when something in it is no text, or it is too long. */
static int join(struct json_object *list, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *one = json_object_array_get_idx(list, i);
		int length;

		if (!json_object_is_type(one, json_type_string))
			return -1;
		length = snprintf(out + used, size - used, "%s%s", i ? "," : "", json_object_get_string(one));
		if (length < 0 || (size_t)length >= size - used)
			return -1;
		used += (size_t)length;
	}
	return 0;
}

/* The value as text, or NULL when it is of another type than the row's. */
static const char *text_of(const struct row *row, struct json_object *value, char *buffer, size_t size)
{
	enum json_type type = json_object_get_type(value);

	switch (row->type) {
	case ROW_ANY:
		return "";
	case ROW_TEXT:
		return type == json_type_string ? json_object_get_string(value) : NULL;
	case ROW_NUMBER:
		return type == json_type_int ? json_object_get_string(value) : NULL;
	case ROW_REAL:
		return type == json_type_int || type == json_type_double ? json_object_get_string(value) : NULL;
	case ROW_BOOL:
	case ROW_SWITCH:
		return type != json_type_boolean ? NULL : json_object_get_boolean(value) ? "on" : "off";
	case ROW_LIST:
		return type == json_type_array ? "" : NULL;
	case ROW_OBJECT:
		return type == json_type_object ? "" : NULL;
	case ROW_TEXTS:
		if (type == json_type_string)
			return json_object_get_string(value);
		return type == json_type_array && !join(value, buffer, size) ? buffer : NULL;
	}
	return NULL;
}

static int take(struct walk *walk, const struct row *row, const char *path, struct json_object *value)
{
	static const char *const wanted[] = {
		[ROW_ANY] = "anything",  [ROW_TEXT] = "a text",        [ROW_NUMBER] = "a whole number",
		[ROW_REAL] = "a number", [ROW_BOOL] = "true or false", [ROW_SWITCH] = "true or false",
		[ROW_LIST] = "a list",   [ROW_OBJECT] = "an object",   [ROW_TEXTS] = "a text or a short list of texts",
	};
	size_t index = (size_t)(row - setup__keys);
	char buffer[LIST_BYTES], label[PATH_BYTES + 210];
	const char *text = text_of(row, value, buffer, sizeof(buffer));

	if (!text)
		return setup__fail(walk->setup, "%.200s: %s must be %s", walk->label, path, wanted[row->type]);
	if (!strcmp(row->name, path)) {
		if (walk->seen[index])
			return setup__fail(walk->setup, "%.200s: %s is given twice", walk->label, path);
		walk->seen[index] = 1;
	}
	snprintf(label, sizeof(label), "%.200s: %s", walk->label, path);
	return setup__apply(walk->setup, row, label, text, 0, walk->notices);
}

/* The scan has bounded the depth of this recursion by CW__JSON_DEPTH. */
static int walk_object(struct walk *walk, struct json_object *object, const char *prefix)
{
	json_object_object_foreach(object, name, value)
	{
		const struct row *row;
		char path[PATH_BYTES];
		int length = snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "", name);
		int status;

		if (length < 0 || (size_t)length >= sizeof(path))
			return setup__fail(walk->setup, "%.200s: unknown key '%.60s...', it is too long", walk->label,
					   path);
		row = find(path);
		if (row)
			status = take(walk, row, path, value);
		else if (is_parent(path) && json_object_is_type(value, json_type_object))
			status = walk_object(walk, value, path);
		else if (is_parent(path))
			status = setup__fail(walk->setup, "%.200s: %s must be an object", walk->label, path);
		else
			status = refuse_unknown(walk->setup, walk->label, path);
		if (status)
			return status;
	}
	return 0;
}

/* -------------------------------------------------------------------------------------------- files */

static int load_text(struct setup *setup, const char *text, size_t length, const char *label,
		     const struct notices *notices)
{
	struct walk walk = { .setup = setup, .label = label, .notices = notices };
	struct json_object *root = NULL;
	char line[200] = "";
	const struct cw__why why = { .text = line, .size = sizeof(line), .where = "" };
	int status;

	_Static_assert(ROWS_MAX >= 200, "walk.seen has room for the rows of keys.def");
	if (setup__key_count > ROWS_MAX)
		return setup__fail(setup, "too many rows");
	if (cw__json_parse(text, length, 0, &root, &why))
		return setup__fail(setup, "%.200s: %s", label, line);
	status = walk_object(&walk, root, "");
	json_object_put(root);
	return status;
}

static int load_file(struct setup *setup, const char *path, const char *label, const struct notices *notices)
{
	FILE *file = fopen(path, "re");
	char *text = file ? malloc(FILE_MAX + 1) : NULL;
	size_t length;
	int status;

	errno = file ? ENOMEM : errno;
	if (!text) {
		status = setup__fail(setup, "%.200s: cannot be read: %s", label, strerror(errno));
		if (file)
			fclose(file);
		return status;
	}
	errno = 0;
	length = fread(text, 1, FILE_MAX + 1, file);
	if (ferror(file))
		status = setup__fail(setup, "%.200s: cannot be read: %s", label, strerror(errno));
	else if (length > FILE_MAX)
		status = setup__fail(setup, "%.200s: larger than 1 MiB, this is no configuration", label);
	else
		status = load_text(setup, text, length, label, notices);
	fclose(file);
	free(text);
	return status;
}

int setup__load(struct setup *setup, const char *path_or_text, const char *label, const struct notices *notices)
{
	char named[220];

	if (path_or_text[strspn(path_or_text, " \t\r\n")] == '{')
		return load_text(setup, path_or_text, strlen(path_or_text), label ? label : "configuration", notices);
	if (label)
		snprintf(named, sizeof(named), "%.40s: %.160s", label, path_or_text);
	else
		snprintf(named, sizeof(named), "%.200s", path_or_text);
	return load_file(setup, path_or_text, named, notices);
}

int setup_file(struct setup *setup, const char *path_or_text, setup_notice_fn notice, void *arg)
{
	const struct notices notices = { .fn = notice, .arg = arg };

	if (!path_or_text || !*path_or_text)
		return setup__fail(setup, "no configuration file is named");
	if (setup__load(setup, path_or_text, NULL, &notices))
		return -1;
	return setup__conclude(setup, &notices);
}

int setup_key(struct setup *setup, const char *key, const char *value, setup_notice_fn notice, void *arg)
{
	const struct notices notices = { .fn = notice, .arg = arg };
	const struct row *row;

	if (!key || !value)
		return setup__fail(setup, "a key and a value are needed, one of them is NULL");
	if (strlen(key) >= PATH_BYTES)
		return setup__fail(setup, "unknown key '%.60s...', it is too long", key);
	row = find(key);
	if (!row)
		return refuse_unknown(setup, "", key);
	if (setup__apply(setup, row, key, value, 0, &notices))
		return -1;
	return setup__conclude(setup, &notices);
}
