/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as people write them: sizes with a suffix, times in nanoseconds. */
#ifndef TOOLS_UNITS_H
#define TOOLS_UNITS_H

#include <stddef.h>
#include <stdint.h>

#define NANOSECONDS 1000000000ull

/* "123", "4k", "1.5g": k, m, g, t are powers of 1024; a trailing "b", "ib" and case do not matter. 0, or -1 when it is
 * no number or does not fit. */
int units_parse(const char *text, uint64_t *value_out);

/* Writes bytes as "4 KiB", exactly where possible, else with two decimals. Returns buffer. */
char *units_bytes(uint64_t bytes, char *buffer, size_t length);

/* CLOCK_MONOTONIC. */
uint64_t units_now(void);

#endif
