/* SPDX-License-Identifier: Apache-2.0 */
/* How far two names are from each other, for "did you mean". */
#ifndef CW_UTIL_NEAREST_H
#define CW_UTIL_NEAREST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CW__NEAREST_MAX 96 /* bytes of the second text; a longer one is near to nothing */

/* Edit distance; SIZE_MAX when b is too long. */
static inline size_t cw__edit_distance(const char *a, const char *b)
{
	size_t row[CW__NEAREST_MAX], length = strlen(b);

	if (length >= CW__NEAREST_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= length; j++) {
			size_t cost = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j - 1] + 1 < cost)
				cost = row[j - 1] + 1;
			if (row[j] + 1 < cost)
				cost = row[j] + 1;
			row[j] = cost;
		}
	}
	return row[length];
}

#endif
