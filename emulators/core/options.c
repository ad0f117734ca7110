/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CAUSEWAY_EMULATE_OPTIONS: a comma list of NAME=WORD, NAME=NUMBER, NAME, and visible=INDEX:INDEX...; see options.def.
 */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct option {
	const char *name, *words; /* words NULL: a number */
	size_t field;
	int initial;
};

static const struct option table[] = {
#define CW__EMU_OPTION(field, words, initial, text) { #field, words, offsetof(struct cw__emu_options, field), initial },
#define CW__EMU_NUMBER(field, initial, text) { #field, NULL, offsetof(struct cw__emu_options, field), initial },
#include "options.def"
#undef CW__EMU_OPTION
#undef CW__EMU_NUMBER
};

#define OPTIONS (sizeof(table) / sizeof(table[0]))

static int *field_of(const struct option *option)
{
	return (int *)((char *)&cw__emu.options + option->field);
}

/* The position of a word in "a|b|c", -1 when it is not there. */
static int position(const char *words, const char *word, size_t length)
{
	for (int i = 0;; i++) {
		const size_t n = strcspn(words, "|");

		if (n == length && !memcmp(words, word, n))
			return i;
		if (!words[n])
			return -1;
		words += n + 1;
	}
}

static int read_number(const char *text, size_t length, int *number_out)
{
	char copy[16], *end;
	long number;

	if (!length || length >= sizeof(copy))
		return -1;
	memcpy(copy, text, length);
	copy[length] = '\0';
	number = strtol(copy, &end, 10);
	if (*end || number < 0 || number > 1 << 20)
		return -1;
	*number_out = (int)number;
	return 0;
}

/* visible=2:0: the application's device 0 is the world's device 2, and so on. */
static int read_visible(const char *text, size_t length)
{
	int count = 0;

	while (length) {
		const char *colon = memchr(text, ':', length);
		const size_t n = colon ? (size_t)(colon - text) : length;
		int device;

		if (count == CW__WORLD_DEVICES || read_number(text, n, &device) ||
		    (uint32_t)device >= cw__emu.world->device_count)
			return -1;
		cw__emu.visible[count++] = device;
		text += n + (colon != NULL);
		length -= n + (colon != NULL);
	}
	cw__emu.device_count = count;
	return 0;
}

static int read_one(const char *text, size_t length)
{
	const char *equals = memchr(text, '=', length);
	const size_t name = equals ? (size_t)(equals - text) : length;
	const char *value = equals ? equals + 1 : "";
	const size_t rest = equals ? length - name - 1 : 0;

	if (name == strlen("visible") && !memcmp(text, "visible", name))
		return equals ? read_visible(value, rest) : -1;
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *option = &table[i];

		if (strlen(option->name) != name || memcmp(option->name, text, name))
			continue;
		if (!option->words)
			return read_number(value, rest, field_of(option));

		const int chosen = equals ? position(option->words, value, rest) : 1;

		if (chosen < 0)
			return -1;
		*field_of(option) = chosen;
		return 0;
	}
	return -1;
}

int cw__emu_options_read(const char *text)
{
	for (size_t i = 0; i < OPTIONS; i++)
		*field_of(&table[i]) = table[i].initial;
	while (text && *text) {
		const size_t n = strcspn(text, ",");

		if (n && read_one(text, n)) {
			snprintf(cw__emu.why, sizeof(cw__emu.why), "CAUSEWAY_EMULATE_OPTIONS: \"%.*s\" means nothing",
				 (int)n, text);
			return -1;
		}
		text += n + (text[n] == ',');
	}
	return 0;
}
