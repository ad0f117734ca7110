/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that can be recomputed: each 8-byte word follows from a key and its position, so a byte at a wrong place, from
 * a wrong page or from an earlier run shows. One multiplication a word: fast enough to fill and check at memory speed.
 */
#ifndef TOOLS_PATTERN_H
#define TOOLS_PATTERN_H

#include <stddef.h>
#include <stdint.h>

/* Every bit of the result depends on every bit of value (a bijection). */
uint64_t pattern_mix(uint64_t value);

/* Fills length bytes; the content depends on key and on the distance from the start. */
void pattern_fill(void *data, size_t length, uint64_t key);

/* 1 when the bytes are what pattern_fill() writes. */
int pattern_matches(const void *data, size_t length, uint64_t key);

#endif
