/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second core for work that comes in units. The caller runs units from the first on, a worker from the last on, until
 * they meet; a worker that is late finds nothing left and costs nothing. The worker is started when first wanted,
 * looks for work for some microseconds after it had some, and then sleeps without waking up.
 */
#ifndef CW_UTIL_CREW_H
#define CW_UTIL_CREW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define CW__CREW_UNITS_MAX 65535u

/* Runs `count` units from `first` on. Must not block. */
typedef void (*cw__crew_fn)(void *arg, unsigned first, unsigned count);

struct cw__crew {
	pthread_mutex_t lock;   /* starting and ending */
	_Atomic int state;      /* enum in crew.c; written under the lock */
	pthread_t worker;       /* lock; while there is one */
	_Atomic uint32_t taken; /* 1 = somebody's work is being done; who set it may write run, arg */
	cw__crew_fn run;
	void *arg;
	char apart[64];        /* lines that two cores write are not the others' */
	_Atomic uint64_t open; /* generation << 32 | end << 16 | begin of the units nobody has taken */
	char apart_too[64];
	_Atomic uint32_t done;   /* units that the worker has run */
	_Atomic uint32_t asleep; /* futex: 1 = the worker sleeps, or is about to */
	_Atomic int stop;
};

void cw__crew_init(struct cw__crew *crew);
/* Nobody is in cw__crew_run(). */
void cw__crew_close(struct cw__crew *crew);

/* May a worker be had? Starts it when there is none; 0 when this thread may use one core only. Threads: any. */
int cw__crew_ready(struct cw__crew *crew);

/* Runs all units below count, each once, and returns when that is done: one by one with the worker if it is ready and
 * not busy, else all at once in this thread. Returns for how many nanoseconds this thread had to wait in the end.
 * Threads: any, several at once. */
uint64_t cw__crew_run(struct cw__crew *crew, cw__crew_fn run, void *arg, unsigned count);

#endif
