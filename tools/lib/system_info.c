/* SPDX-License-Identifier: Apache-2.0 */
/* See system_info.h. */
#include "lib/system_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t system_meminfo(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "re");
	size_t length = strlen(name);
	uint64_t value = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, length) != 0 || line[length] != ':')
			continue;
		value = strtoull(line + length + 1, NULL, 10) * (strstr(line, " kB") ? 1024 : 1);
		break;
	}
	if (file)
		fclose(file);
	return value;
}

int system_read_line(const char *path, char *line, size_t length)
{
	FILE *file = fopen(path, "re");
	char *got;

	if (!file)
		return -1;
	got = fgets(line, (int)length, file);
	fclose(file);
	if (!got)
		return -1;
	line[strcspn(line, "\n")] = '\0';
	return 0;
}
