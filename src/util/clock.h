/* SPDX-License-Identifier: Apache-2.0 */
/* Time: one clock, CLOCK_MONOTONIC in nanoseconds, read through the vDSO (no system call). */
#ifndef CW_UTIL_CLOCK_H
#define CW_UTIL_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CW__MS 1000000ull
#define CW__SECOND 1000000000ull

static inline uint64_t cw__now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * CW__SECOND + (uint64_t)ts.tv_nsec;
}

/* now + duration, stopping at the end of time. */
static inline uint64_t cw__after(uint64_t now, uint64_t duration)
{
	return duration > UINT64_MAX - now ? UINT64_MAX : now + duration;
}

#endif
