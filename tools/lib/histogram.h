/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Percentiles of durations in constant memory: buckets that grow with the value, 128 in each power of two, so a
 * percentile is right within 0.8 %. Adding is a few instructions; each thread has its own and they are merged
 * afterwards.
 */
#ifndef TOOLS_HISTOGRAM_H
#define TOOLS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 7
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS)

/* All zero is empty. */
struct histogram {
	uint64_t count, sum, maximum;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value that `percent` of all values do not exceed; 0 when it is empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

#endif
