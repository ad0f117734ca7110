/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of ours take none of the program's signals: its own threads handle them, and wait for them. */
#ifndef CW_UTIL_THREAD_H
#define CW_UTIL_THREAD_H

#include <pthread.h>
#include <signal.h>

/* pthread_create() with every signal blocked. Returns 0 or an errno. */
static inline int cw__thread_start(pthread_t *thread_out, const pthread_attr_t *attributes, void *(*main)(void *arg),
				   void *arg)
{
	sigset_t all, before;
	int failed;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(thread_out, attributes, main, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return failed;
}

#endif
