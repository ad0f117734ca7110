/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of compat/mooncake/setup.h share: an empty environment, collected lines, settings by name. */
#ifndef CW_TESTS_SETUP_WORLD_H
#define CW_TESTS_SETUP_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mooncake/setup.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The lines of one call. */
struct lines {
	char text[8192];
	unsigned count;
};

static inline void collect(void *arg, const char *line)
{
	struct lines *lines = arg;
	size_t used = strlen(lines->text);

	assert_null(strchr(line, '\n'));
	snprintf(lines->text + used, sizeof(lines->text) - used, "%s\n", line);
	lines->count++;
}

static inline const char *setting_of(const struct setup *setup, const char *key)
{
	for (size_t i = 0; i < setup->setting_count; i++)
		if (!strcmp(setup->settings[i].key, key))
			return setup->settings[i].value;
	return NULL;
}

/* Fails with both texts when part is not in text. NULL = nothing is wanted. */
static inline void assert_holds(const char *text, const char *part)
{
	if (part && !strstr(text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, text);
}

/* "key=value" for each of a list that ends with NULL or is full. */
static inline void assert_settings(const struct setup *setup, const char *const *wanted, size_t count)
{
	for (size_t i = 0; i < count && wanted[i]; i++) {
		size_t length = strcspn(wanted[i], "=");
		char key[96];
		const char *value;

		snprintf(key, sizeof(key), "%.*s", (int)length, wanted[i]);
		value = setting_of(setup, key);
		if (!value || strcmp(value, wanted[i] + length + 1) != 0)
			fail_msg("%s: it is '%s'", wanted[i], value ? value : "not set");
	}
}

#endif
