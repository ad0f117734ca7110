/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two threads copy to a region, and from one, again and again, by their own hands; meanwhile it is revoked by its
 * owner. When cw_region_revoke() has returned nobody touches it any more: a byte that lands later is seen, and memory
 * that was unregistered is taken away, so that a touch would end the test.
 */
#include <causeway/causeway.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <support/pair.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#define LENGTH (256u * 1024)
#define ROUNDS 150
#define SUBMITTERS 2

static struct pair pair;
static _Atomic(unsigned char *) target; /* in `there`'s engine; NULL = none now */
static _Atomic int stop;
static _Atomic uint64_t completed;

static void pause_for(long nanoseconds)
{
	const struct timespec pause = { 0, nanoseconds };

	nanosleep(&pause, NULL);
}

static void copy_once(unsigned char *there, size_t offset)
{
	struct cw_request request = pair_request(&pair, CW_OP_WRITE, offset, 0, LENGTH / 2);
	struct cw_batch *batch;

	request.remote.base = (uint64_t)(uintptr_t)there + offset;
	if (cw_batch_submit(pair.near, &request, 1, NULL, &batch))
		return; /* its local side may be what was revoked */
	cw_batch_wait(batch, 20 * SECOND);
	if (cw_batch_poll(batch) == CW_BATCH_COMPLETED)
		atomic_fetch_add(&completed, 1);
	cw_batch_release(batch);
}

static void *submit(void *arg)
{
	size_t offset = *(const size_t *)arg;

	while (!atomic_load(&stop)) {
		unsigned char *there = atomic_load(&target);

		if (there)
			copy_once(there, offset);
		else
			pause_for(10000);
	}
	return NULL;
}

/* Some copies are made to the region before it goes. */
static void let_copy(unsigned char *there)
{
	uint64_t before = atomic_load(&completed), until = now_ns() + 10 * SECOND;

	atomic_store(&target, there);
	while (atomic_load(&completed) < before + 3 && now_ns() < until)
		pause_for(20000);
	assert_true(atomic_load(&completed) >= before + 3);
}

static void see_that_nothing_lands(unsigned char *there)
{
	for (int i = 0; i < 3; i++) {
		memset(there, 0x5a, LENGTH);
		pause_for(30000);
		for (size_t at = 0; at < LENGTH; at++)
			if (there[at] != 0x5a)
				fail_msg("byte %zu was written after the end", at);
	}
}

/* Memory of the program: gone when it was unregistered. */
static void round_of_own_memory(void)
{
	struct cw_region *region;
	unsigned char *there =
		mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	assert_true(there != MAP_FAILED);
	assert_int_equal(cw_region_register(pair.far, there, LENGTH, NULL, &region), CW_OK);
	let_copy(there);
	assert_int_equal(cw_region_unregister(region), CW_OK);
	assert_int_equal(mprotect(there, LENGTH, PROT_NONE), 0);
	atomic_store(&target, NULL);
	pause_for(50000);
	munmap(there, LENGTH);
}

/* Memory of the engine, which a peer may have mapped. */
static void round_of_allocated_memory(void)
{
	struct cw_region *region;
	void *there;

	assert_int_equal(cw_memory_allocate(pair.far, LENGTH, NULL, &there, &region), CW_OK);
	let_copy(there);
	assert_int_equal(cw_region_revoke(region, 0, 0, 20 * SECOND), CW_OK);
	see_that_nothing_lands(there);
	atomic_store(&target, NULL);
	assert_int_equal(cw_memory_free(region), CW_OK);
}

/* The local side of the copies: the region that `here` is a part of. */
static void round_of_local_memory(void)
{
	struct cw_region *region = pair.here_region;
	uint64_t before;

	let_copy(pair.there);
	assert_int_equal(cw_region_revoke(region, 0, 0, 20 * SECOND), CW_OK);
	before = atomic_load(&completed);
	pause_for(200000);
	assert_int_equal(atomic_load(&completed), before);
	atomic_store(&target, NULL);
}

static void race(const char *transports, void (*round)(void), int rounds)
{
	size_t offsets[SUBMITTERS] = { 0, LENGTH / 2 };
	pthread_t threads[SUBMITTERS];

	pair_open(&pair, transports, LENGTH);
	atomic_store(&stop, 0);
	for (int i = 0; i < SUBMITTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submit, &offsets[i]), 0);
	for (int i = 0; i < rounds; i++)
		round();
	atomic_store(&stop, 1);
	for (int i = 0; i < SUBMITTERS; i++)
		pthread_join(threads[i], NULL);
	pair_close(&pair);
}

static void own_memory_by_local(void **state)
{
	(void)state;
	race("local", round_of_own_memory, ROUNDS);
}

static void allocated_memory_by_local(void **state)
{
	(void)state;
	race("local", round_of_allocated_memory, ROUNDS);
}

static void allocated_memory_by_shm(void **state)
{
	(void)state;
	race("shm", round_of_allocated_memory, ROUNDS);
}

static void local_side(void **state)
{
	(void)state;
	race("local", round_of_local_memory, 1);
	race("shm", round_of_local_memory, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_memory_by_local),
		cmocka_unit_test(allocated_memory_by_local),
		cmocka_unit_test(allocated_memory_by_shm),
		cmocka_unit_test(local_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
