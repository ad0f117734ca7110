/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mooncake's configuration files: whatever they say, it is taken or refused with one line, and what is taken becomes
 * settings that are not empty names.
 */
#include "fuzz.h"

#include <stdio.h>

#include "mooncake/setup.h"

static void look(void *arg, const char *line)
{
	(void)arg;
	require(line[0] != '\0' && strlen(line) < SETUP_TEXT_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct setup setup = { .setting_count = 0 };
	char *text = malloc(size + 2), name[300];

	require(text != NULL);
	/* Anything else would be the name of a file. */
	text[0] = '{';
	memcpy(text + 1, data, size);
	text[size + 1] = '\0';
	if (setup_file(&setup, text, look, NULL)) {
		require(setup.text[0] != '\0' && strlen(setup.text) < sizeof(setup.text));
	} else {
		for (size_t i = 0; i < setup.setting_count; i++)
			require(setup.settings[i].key[0] && setup.settings[i].value);
		if (setup_identity(&setup, NULL, NULL, name, sizeof(name)) == 0)
			require(name[0] != '\0');
	}
	setup_free(&setup);
	free(text);
	return 0;
}
