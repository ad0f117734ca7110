/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing can hurry getaddrinfo(): a thread waits for it, and what comes too late is thrown away. See resolve.h.
 */
#include <util/resolve.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <util/clock.h>
#include <util/thread.h>

#define LOOKUPS_MAX 16 /* threads that wait for a name server at once; who comes then waits for one of them to end */

struct lookup {
	/* Guarded by lock. */
	int holders; /* the thread and the caller; the last one frees it */
	int done, error;
	struct addrinfo *found;
	char host[256], service[8];
	int has_service;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_cond_t changed; /* a look-up ended */
static unsigned lookups;       /* guarded by lock */

static void prepare(void)
{
	pthread_condattr_t clock;

	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &clock);
	pthread_condattr_destroy(&clock);
}

static int resolve(const char *host, const char *service, int flags, struct addrinfo **found_out)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags };
	struct addrinfo *found = NULL;
	int error = getaddrinfo(host, service, &hints, &found);

	if (!error)
		*found_out = found;
	return error;
}

/* With the lock. */
static void leave(struct lookup *lookup)
{
	if (--lookup->holders)
		return;
	if (lookup->found)
		freeaddrinfo(lookup->found);
	free(lookup);
}

static void *look(void *arg)
{
	struct lookup *lookup = arg;
	struct addrinfo *found = NULL;
	int error = resolve(lookup->host, lookup->has_service ? lookup->service : NULL, 0, &found);

	pthread_mutex_lock(&lock);
	lookup->error = error;
	lookup->found = found;
	lookup->done = 1;
	lookups--;
	pthread_cond_broadcast(&changed);
	leave(lookup);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* With the lock. NULL = out of memory. */
static struct lookup *begin(const char *host, const char *service)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	pthread_attr_t detached;
	pthread_t thread;
	int failed;

	if (!lookup)
		return NULL;
	snprintf(lookup->host, sizeof(lookup->host), "%s", host);
	snprintf(lookup->service, sizeof(lookup->service), "%s", service ? service : "");
	lookup->has_service = service != NULL;
	lookup->holders = 2;
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	failed = cw__thread_start(&thread, &detached, look, lookup);
	pthread_attr_destroy(&detached);
	if (failed) {
		free(lookup);
		return NULL;
	}
	lookups++;
	return lookup;
}

/* With the lock. Waits until a look-up ended; 0 when it is too late. */
static int wait_for_change(uint64_t until)
{
	struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };

	return pthread_cond_timedwait(&changed, &lock, &at) != ETIMEDOUT;
}

static int resolve_name(const char *host, const char *service, uint64_t until, struct addrinfo **found_out)
{
	struct lookup *lookup;
	int failure = EAI_MEMORY, in_time = 1;

	pthread_once(&once, prepare);
	pthread_mutex_lock(&lock);
	while (lookups >= LOOKUPS_MAX && in_time)
		in_time = wait_for_change(until);
	lookup = in_time ? begin(host, service) : NULL;
	while (lookup && !lookup->done && in_time)
		in_time = wait_for_change(until);
	if (lookup && lookup->done) {
		failure = lookup->error;
		if (!failure)
			*found_out = lookup->found;
		lookup->found = NULL;
	} else if (!in_time) {
		failure = CW__RESOLVE_LATE;
	}
	if (lookup)
		leave(lookup);
	pthread_mutex_unlock(&lock);
	return failure;
}

int cw__resolve(const char *host, const char *service, uint64_t until, struct addrinfo **found_out)
{
	int failure = resolve(host, service, AI_NUMERICHOST, found_out);

	if (!failure || !until)
		return failure;
	return strlen(host) < sizeof(((struct lookup *)0)->host) ? resolve_name(host, service, until, found_out)
								 : EAI_NONAME;
}

const char *cw__resolve_why(int failure)
{
	return failure == CW__RESOLVE_LATE ? "no name server answered in time" : gai_strerror(failure);
}
