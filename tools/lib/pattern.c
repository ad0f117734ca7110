/* SPDX-License-Identifier: Apache-2.0 */
/* See pattern.h. */
#include "lib/pattern.h"

#include <string.h>

uint64_t pattern_mix(uint64_t value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

static inline uint64_t word_at(uint64_t key, uint64_t index)
{
	uint64_t word = (key + index) * 0x9e3779b97f4a7c15ull;

	return word ^ word >> 32;
}

void pattern_fill(void *data, size_t length, uint64_t key)
{
	unsigned char *at = data;
	size_t words = length / 8;
	uint64_t word;

	for (size_t i = 0; i < words; i++, at += 8) {
		word = word_at(key, i);
		memcpy(at, &word, 8);
	}
	word = word_at(key, words);
	memcpy(at, &word, length % 8);
}

int pattern_matches(const void *data, size_t length, uint64_t key)
{
	const unsigned char *at = data;
	size_t words = length / 8;
	uint64_t word, difference = 0, expected = word_at(key, words);

	for (size_t i = 0; i < words; i++, at += 8) {
		memcpy(&word, at, 8);
		difference |= word ^ word_at(key, i);
	}
	return difference == 0 && memcmp(at, &expected, length % 8) == 0;
}
