/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Learns which of a few ways to do the same work is the fastest now: every so many bytes each way is tried for some,
 * and the best one is used until the next trial. Times are taken during trials only. A way is measured after it
 * was in use for a while, so that it meets the caches as it leaves them itself.
 */
#ifndef CW_UTIL_CHOICE_H
#define CW_UTIL_CHOICE_H

#include <stdatomic.h>
#include <stdint.h>

#define CW__WAYS_MAX 4u

struct cw__choice {
	_Atomic uint32_t way;      /* to be used now */
	_Atomic uint32_t trial;    /* 1 = a trial is on: times are wanted */
	_Atomic int64_t left;      /* bytes until the next trial */
	_Atomic uint32_t held;     /* guards what follows; nobody waits for it */
	uint32_t best, ways;       /* ways: bit set of those that take part in this trial */
	uint64_t period;           /* bytes between trials */
	uint64_t seen, timed;      /* bytes of the way being tried: all, and those that count */
	double spent;              /* nanoseconds for `timed` */
	double cost[CW__WAYS_MAX]; /* nanoseconds for a byte */
};

/* A way beyond the first two takes more of the machine: it must be faster by a part in CW__CHOICE_GAIN. */
#define CW__CHOICE_GAIN 7

void cw__choice_init(struct cw__choice *choice, uint32_t way);

/* The way to move so many bytes, from 0 on. *timed_out: the caller should tell how long it took. `ways` is asked which
 * ways there are, as a bit set, when a trial begins. Threads: any, several at once. */
uint32_t cw__choice_take(struct cw__choice *choice, uint64_t bytes, uint32_t (*ways)(void *arg), void *arg,
			 int *timed_out);
void cw__choice_tell(struct cw__choice *choice, uint32_t way, uint64_t bytes, uint64_t nanoseconds);
/* This way turned out badly: not before the next trial. */
void cw__choice_drop(struct cw__choice *choice, uint32_t way, uint32_t instead);

#endif
