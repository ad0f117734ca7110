/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a transfer costs once everything is warm: from submit to complete no allocation by any thread and no system call
 * by the submitting one, over `local` and over memory that another engine granted. System calls are counted by the
 * kernel (syscall user dispatch, Linux 5.11): each one raises SIGSYS while the selector says so.
 */
#include <causeway/causeway.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <support/pair.h>
#include <support/sanitizers.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#define DISPATCH_ON 1
#define ALLOW 0
#define BLOCK 1

#define ROUNDS 1000
#define LENGTH (1u << 20)

/* ------------------------------------------------------------------------------------------ allocations */

static _Atomic long allocations;

/* The sanitizers have allocators of their own and make system calls; there both counts stay 0. */
#if !SANITIZED
void *__libc_malloc(size_t length);
void *__libc_calloc(size_t count, size_t length);
void *__libc_realloc(void *old, size_t length);

/* In the executable, so that they come before libc's in every call of this process. */
void *malloc(size_t length)
{
	atomic_fetch_add(&allocations, 1);
	return __libc_malloc(length);
}

void *calloc(size_t count, size_t length)
{
	atomic_fetch_add(&allocations, 1);
	return __libc_calloc(count, length);
}

void *realloc(void *old, size_t length)
{
	atomic_fetch_add(&allocations, 1);
	return __libc_realloc(old, length);
}
#endif

/* ----------------------------------------------------------------------------------------- system calls */

static _Thread_local volatile char selector;
static volatile long calls, last_call;

/* Counts, lets system calls through again, and makes this one. It blocks no further ones: one is enough to know. */
static void on_system_call(int number, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	long result;

	(void)number;
	selector = ALLOW;
	calls++;
	last_call = info->si_syscall;
	result = syscall(info->si_syscall, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
			 registers[REG_R10], registers[REG_R8], registers[REG_R9]);
	registers[REG_RAX] = result == -1 ? -errno : result;
}

static void count_calls(int on)
{
	selector = on ? BLOCK : ALLOW;
}

static int can_count_calls(void)
{
	struct sigaction action = { .sa_sigaction = on_system_call, .sa_flags = SA_SIGINFO };

	if (SANITIZED || sigaction(SIGSYS, &action, NULL))
		return 0;
	return !prctl(PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_ON, 0, 0, &selector);
}

/* ------------------------------------------------------------------------------------------- the tests */

static void transfer(struct pair *pair, const struct cw_request *requests, size_t count)
{
	struct cw_batch *batch = NULL;

	if (cw_batch_submit(pair->near, requests, count, NULL, &batch) || cw_batch_wait(batch, 20 * SECOND) ||
	    cw_batch_poll(batch) != CW_BATCH_COMPLETED)
		abort();
	cw_batch_release(batch);
}

static void costs_nothing(const char *transports)
{
	static const uint32_t pages[] = { 3, 1, 7, 5 };
	struct cw_request requests[4];
	struct pair pair;
	long before, spent = 0, called = 0;

	pair_open(&pair, transports, LENGTH);
	requests[0] = pair_request(&pair, CW_OP_WRITE, 0, 0, 4096);
	requests[1] = pair_request(&pair, CW_OP_READ, 8192, 4096, 1);
	requests[2] = pair_request(&pair, CW_OP_WRITE, 1, 65536, 100000);
	requests[3] = pair_request(&pair, CW_OP_WRITE, 0, 262144, 4096);
	requests[3].local.count = requests[3].remote.count = 4;
	requests[3].local.indices = requests[3].remote.indices = pages;
	requests[3].local.index_bits = requests[3].remote.index_bits = 32;
	for (int i = 0; i < 100; i++)
		transfer(&pair, requests, 4);
	/* The progress threads have gone to sleep when they had nothing to do for so long. */
	usleep(20000);
	before = atomic_load(&allocations);
	for (int i = 0; i < ROUNDS; i++) {
		calls = 0;
		count_calls(1);
		transfer(&pair, requests, 4);
		count_calls(0);
		called += calls;
	}
	spent = atomic_load(&allocations) - before;
	pair_close(&pair);
	if (called)
		print_message("%ld system calls in %d batches, the last one is number %ld\n", called, ROUNDS,
			      last_call);
	assert_int_equal(spent, 0);
	assert_int_equal(called, 0);
}

static void local_costs_nothing(void **state)
{
	(void)state;
	costs_nothing("local");
}

static void granted_memory_costs_nothing(void **state)
{
	(void)state;
	costs_nothing("shm");
}

static void the_counters_count(void **state)
{
	long before = atomic_load(&allocations);
	void *volatile memory;

	(void)state;
	if (!can_count_calls())
		skip();
	calls = 0;
	count_calls(1);
	getppid();
	count_calls(0);
	assert_int_equal(calls, 1);
	assert_int_equal(last_call, SYS_getppid);
	memory = malloc(10);
	free(memory);
	assert_int_equal(atomic_load(&allocations) - before, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_counters_count),
		cmocka_unit_test(local_costs_nothing),
		cmocka_unit_test(granted_memory_costs_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
