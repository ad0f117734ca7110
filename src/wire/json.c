/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree behind strict JSON reading, and typed access to its members. Documents of peers come through here only.
 */
#include "wire/json.h"

#include <causeway/causeway.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int cw__json_refuse(const struct cw__why *why, const char *format, ...)
{
	va_list arguments;

	if (why->size > 0) {
		va_start(arguments, format);
		vsnprintf(why->text, why->size, format, arguments);
		va_end(arguments);
	}
	return CW_ERR_PROTOCOL;
}

/* The members of all objects below value. The scan has bounded the depth of this recursion by CW__JSON_DEPTH. */
static uint64_t count_members(struct json_object *value)
{
	uint64_t count = 0;

	if (json_object_is_type(value, json_type_object)) {
		count = (uint64_t)json_object_object_length(value);
		json_object_object_foreach(value, key, member)
		{
			(void)key;
			count += count_members(member);
		}
	} else if (json_object_is_type(value, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(value); i++)
			count += count_members(json_object_array_get_idx(value, i));
	}
	return count;
}

/* A level for each container, one for the innermost scalar, and json-c wants to stay below its limit. */
static struct json_object *build_tree(const char *text, size_t length)
{
	struct json_tokener *tokener = json_tokener_new_ex(CW__JSON_DEPTH + 2);
	struct json_object *root;

	if (!tokener)
		return NULL;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, text, (int)length);
	json_tokener_free(tokener);
	return root;
}

/*
 * A repeated member replaces the earlier one in json-c's tree, wherever it stands and however its name is escaped. So a
 * document has repeated members exactly when its tree has fewer members than its text.
 */
int cw__json_parse(const char *text, size_t length, int null_allowed, struct json_object **root_out,
		   const struct cw__why *why)
{
	struct json_object *root;
	struct cw__json_scan scan;
	const char *fault;

	if (length > INT_MAX)
		return cw__json_refuse(why, "document too long");
	fault = cw__json_scan(text, length, &scan);
	if (fault)
		return cw__json_refuse(why, "not the JSON we accept: %s", fault);
	if (null_allowed && scan.first == 'n') {
		*root_out = NULL;
		return CW_OK;
	}
	if (scan.first != '{')
		return cw__json_refuse(why, "the document is not an object");
	root = build_tree(text, length);
	if (!root)
		return cw__json_refuse(why, "the document cannot be parsed");
	if (count_members(root) != scan.members) {
		json_object_put(root);
		return cw__json_refuse(why, "a member appears twice in an object");
	}
	*root_out = root;
	return CW_OK;
}

int cw__json_get(struct json_object *object, const char *name, enum json_type type, enum cw__json_presence presence,
		 struct json_object **member_out, const struct cw__why *why)
{
	struct json_object *member;

	if (!json_object_object_get_ex(object, name, &member)) {
		if (presence == CW__JSON_REQUIRED)
			return cw__json_refuse(why, "member \"%s%s\" is missing", why->where, name);
		return CW_OK;
	}
	if (!json_object_is_type(member, type))
		return cw__json_refuse(why, "member \"%s%s\" is %s, wanted is %s", why->where, name,
				       json_type_to_name(json_object_get_type(member)), json_type_to_name(type));
	*member_out = member;
	return CW_OK;
}

int cw__json_get_number(struct json_object *object, const char *name, uint64_t max, enum cw__json_presence presence,
			uint64_t *number_out, const struct cw__why *why)
{
	struct json_object *member = NULL;
	uint64_t number;

	if (cw__json_get(object, name, json_type_int, presence, &member, why))
		return CW_ERR_PROTOCOL;
	if (!member)
		return CW_OK;
	/* json-c gives 0 for a negative number read as unsigned, and caps a large one read as signed. */
	number = json_object_get_uint64(member);
	if (json_object_get_int64(member) < 0 || number > max)
		return cw__json_refuse(why, "member \"%s%s\" is not from 0 to %llu", why->where, name,
				       (unsigned long long)max);
	*number_out = number;
	return CW_OK;
}

int cw__json_get_text(struct json_object *object, const char *name, enum cw__json_presence presence, char *out,
		      size_t size, const struct cw__why *why)
{
	struct json_object *member = NULL;
	size_t length;

	if (cw__json_get(object, name, json_type_string, presence, &member, why))
		return CW_ERR_PROTOCOL;
	if (!member)
		return CW_OK;
	length = (size_t)json_object_get_string_len(member);
	if (length >= size)
		return cw__json_refuse(why, "member \"%s%s\" is longer than %zu bytes", why->where, name, size - 1);
	memcpy(out, json_object_get_string(member), length);
	out[length] = '\0';
	return CW_OK;
}
