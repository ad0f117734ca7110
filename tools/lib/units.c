/* SPDX-License-Identifier: Apache-2.0 */
/* See units.h. */
#include "lib/units.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static int suffix_shift(const char *suffix)
{
	static const char letters[] = "kmgt";
	const char *letter;

	if (!*suffix)
		return 0;
	letter = strchr(letters, tolower((unsigned char)*suffix));
	if (!letter || (suffix[1] && strcasecmp(suffix + 1, "b") != 0 && strcasecmp(suffix + 1, "ib") != 0))
		return -1;
	return 10 * (int)(letter - letters + 1);
}

int units_parse(const char *text, uint64_t *value_out)
{
	char *end;
	int shift;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	if (strchr(text, '.')) {
		double value = strtod(text, &end);

		shift = suffix_shift(end);
		if (errno || shift < 0 || value * (double)(1ull << shift) >= 9.2e18)
			return -1;
		*value_out = (uint64_t)(value * (double)(1ull << shift));
	} else {
		unsigned long long value = strtoull(text, &end, 10);

		shift = suffix_shift(end);
		if (errno || shift < 0 || value > UINT64_MAX >> shift)
			return -1;
		*value_out = (uint64_t)value << shift;
	}
	return 0;
}

char *units_bytes(uint64_t bytes, char *buffer, size_t length)
{
	static const char *const names[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;

	while (unit + 1 < sizeof(names) / sizeof(names[0]) && bytes >> (10 * (unit + 1)))
		unit++;
	if (bytes % (1ull << (10 * unit)) == 0)
		snprintf(buffer, length, "%llu %s", (unsigned long long)(bytes >> (10 * unit)), names[unit]);
	else
		snprintf(buffer, length, "%.2f %s", (double)bytes / (double)(1ull << (10 * unit)), names[unit]);
	return buffer;
}

uint64_t units_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NANOSECONDS + (uint64_t)now.tv_nsec;
}
