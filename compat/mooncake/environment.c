/* SPDX-License-Identifier: Apache-2.0 */
/* The variables of the process, row by row of variables.def, and then those that look like Mooncake's but are not. */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

extern char **environ;

/* A row that stands for many names: each variable of the process that begins so. */
static int take_prefix(struct setup *setup, const struct row *row, const struct notices *notices)
{
	size_t length = strlen(row->name) - 1;
	char name[128];

	for (char **at = environ; at && *at; at++) {
		size_t end = strcspn(*at, "=");

		if (strncmp(*at, row->name, length) || end >= sizeof(name) || !(*at)[end])
			continue;
		memcpy(name, *at, end);
		name[end] = '\0';
		if (setup__apply(setup, row, name, *at + end + 1, 1, notices))
			return -1;
	}
	return 0;
}

/* A name nobody knows is probably a slip of the pen; MOONCAKE_ ones, which frameworks invent, only when it is near. */
static void name_strangers(const struct notices *notices)
{
	struct nearest nearest;
	char name[128];

	for (char **at = environ; at && *at; at++) {
		size_t end = strcspn(*at, "=");
		int ours = !strncmp(*at, "MC_", 3);

		if ((!ours && strncmp(*at, "MOONCAKE_", 9)) || end >= sizeof(name) || !(*at)[end])
			continue;
		memcpy(name, *at, end);
		name[end] = '\0';
		if (setup__row(setup__variables, setup__variable_count, name))
			continue;
		setup__nearest(setup__variables, setup__variable_count, name, &nearest);
		if ((ours || nearest.distance <= 2) && setup__first(notices, name))
			setup__notice(notices,
				      "%s is no variable that Mooncake's engine has, it is ignored; did you mean %s?",
				      name, nearest.name);
	}
}

int setup_environment(struct setup *setup, setup_notice_fn notice, void *arg)
{
	const struct notices notices = { .fn = notice, .arg = arg, .once = 1 };

	for (size_t i = 0; i < setup__variable_count; i++) {
		const struct row *row = &setup__variables[i];
		const char *value = getenv(row->name);

		if (row->name[strlen(row->name) - 1] == '*') {
			if (take_prefix(setup, row, &notices))
				return -1;
		} else if (value && *value && setup__apply(setup, row, row->name, value, 1, &notices)) {
			return -1;
		}
	}
	name_strangers(&notices);
	return setup__conclude(setup, &notices);
}
