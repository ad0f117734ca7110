/* SPDX-License-Identifier: Apache-2.0 */
/* See histogram.h. */
#include "lib/histogram.h"

#include <stddef.h>

#define STEPS (1u << HISTOGRAM_STEP_BITS)

/* Values below STEPS have a bucket each; above, the leading one and the bits behind it name the bucket. */
static size_t bucket_of(uint64_t value)
{
	unsigned shift;

	if (value < STEPS)
		return (size_t)value;
	shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
	return ((size_t)(shift + 1) << HISTOGRAM_STEP_BITS) + (size_t)((value >> shift) - STEPS);
}

static uint64_t bucket_top(size_t bucket)
{
	unsigned shift;

	if (bucket < STEPS)
		return bucket;
	shift = (unsigned)(bucket >> HISTOGRAM_STEP_BITS) - 1;
	return (((uint64_t)STEPS + (bucket & (STEPS - 1))) << shift) + ((1ull << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->count++;
	histogram->sum += value;
	if (value > histogram->maximum)
		histogram->maximum = value;
	histogram->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	into->count += from->count;
	into->sum += from->sum;
	if (from->maximum > into->maximum)
		into->maximum = from->maximum;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
	uint64_t rank = (uint64_t)((double)histogram->count * percent / 100.0), seen = 0;

	if (histogram->count == 0)
		return 0;
	if (rank >= histogram->count)
		return histogram->maximum;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->buckets[i];
		if (seen > rank)
			return bucket_top(i) < histogram->maximum ? bucket_top(i) : histogram->maximum;
	}
	return histogram->maximum;
}
