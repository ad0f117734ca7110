/* SPDX-License-Identifier: Apache-2.0 */
/* Names of hosts by a deadline: a name server that does not answer holds up nobody for longer. */
#include <util/resolve.h>
#include <arpa/inet.h>
#include <causeway/causeway.h>
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <util/clock.h>

#include <cmocka.h>

#define STUCK_MAX 64

/* ------------------------------------------------------------------------------------- a name server */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int silent;                  /* does not answer */
static unsigned asked, most, going; /* questions so far, and at once */

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");

	memcpy(&next, &symbol, sizeof(next));
	if (hints->ai_flags & (AI_NUMERICHOST | AI_PASSIVE))
		return next(host, service, hints, found);
	pthread_mutex_lock(&lock);
	asked++;
	going++;
	most = going > most ? going : most;
	pthread_cond_broadcast(&changed);
	while (silent)
		pthread_cond_wait(&changed, &lock);
	going--;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return strcmp(host, "known") != 0 ? EAI_NONAME : next("127.0.0.1", service, hints, found);
}

static unsigned count_of(const unsigned *count)
{
	unsigned value;

	pthread_mutex_lock(&lock);
	value = *count;
	pthread_mutex_unlock(&lock);
	return value;
}

static void set_silent(int value)
{
	pthread_mutex_lock(&lock);
	silent = value;
	pthread_cond_broadcast(&changed);
	while (!silent && going)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

/* ----------------------------------------------------------------------------------------------- tests */

static void addresses_and_names(void **state)
{
	struct addrinfo *found = NULL;

	(void)state;
	assert_int_equal(cw__resolve("127.0.0.1", "80", 0, &found), 0);
	assert_int_equal(ntohs(((struct sockaddr_in *)(void *)found->ai_addr)->sin_port), 80);
	freeaddrinfo(found);
	assert_int_equal(cw__resolve("known", NULL, 0, &found), EAI_NONAME);
	assert_int_equal(count_of(&asked), 0);
	assert_int_equal(cw__resolve("known", NULL, cw__now() + 10 * CW__SECOND, &found), 0);
	freeaddrinfo(found);
	assert_int_equal(cw__resolve("unknown", NULL, cw__now() + 10 * CW__SECOND, &found), EAI_NONAME);
	assert_int_equal(count_of(&asked), 2);
}

static void a_silent_server(void **state)
{
	uint64_t start = cw__now();
	struct addrinfo *found = NULL;

	(void)state;
	set_silent(1);
	for (int i = 0; i < STUCK_MAX; i++)
		assert_int_equal(cw__resolve("known", NULL, cw__now() + CW__MS, &found), CW__RESOLVE_LATE);
	assert_null(found);
	assert_true(cw__now() - start < 20 * CW__SECOND);
	assert_true(count_of(&most) < STUCK_MAX); /* whoever calls again and again does not make threads without end */
	set_silent(0);
	assert_int_equal(cw__resolve("known", NULL, cw__now() + 10 * CW__SECOND, &found), 0);
	freeaddrinfo(found);
}

static void opening_a_peer_ends_in_time(void **state)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_segment *segment;
	struct cw_engine *engine;

	(void)state;
	options.timeout = 50 * CW__MS;
	assert_int_equal(cw_engine_open(NULL, &engine), CW_OK);
	set_silent(1);
	assert_int_equal(cw_segment_open(engine, "known:1", &options, &segment), CW_ERR_ADDRESS);
	assert_non_null(strstr(cw_last_error(), "known:1"));
	cw_engine_close(engine);
	set_silent(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_and_names),
		cmocka_unit_test(a_silent_server),
		cmocka_unit_test(opening_a_peer_ends_in_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
