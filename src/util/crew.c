/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See crew.h. Units are taken by compare-and-swap on one word, which holds the generation of the work too: who has
 * taken a unit knows that the work it belongs to is not over, and only then looks at what the work is.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <util/clock.h>
#include <util/crew.h>
#include <util/thread.h>

#define LINGER_NS 100000u /* how long the worker looks for more before it sleeps */
#define LOOKS 64u         /* between two looks at the clock */
#define STACK (256u * 1024)

enum { NONE, RUNNING, IMPOSSIBLE };

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* Takes the first unit, or the last for the worker; -1 when there is none. */
static int take(struct cw__crew *crew, int last)
{
	uint64_t open = atomic_load_explicit(&crew->open, memory_order_acquire);

	for (;;) {
		unsigned begin = (unsigned)(open & 0xffff), end = (unsigned)(open >> 16 & 0xffff);

		if (begin >= end)
			return -1;
		if (atomic_compare_exchange_weak_explicit(&crew->open, &open, last ? open - 0x10000 : open + 1,
							  memory_order_acq_rel, memory_order_acquire))
			return (int)(last ? end - 1 : begin);
	}
}

/* ----------------------------------------------------------------------------------------- the worker */

static int work(struct cw__crew *crew)
{
	int unit = take(crew, 1);

	if (unit < 0)
		return 0;
	crew->run(crew->arg, (unsigned)unit, 1);
	atomic_fetch_add_explicit(&crew->done, 1, memory_order_release);
	return 1;
}

static int has_work(const struct cw__crew *crew)
{
	uint64_t open = atomic_load_explicit(&crew->open, memory_order_seq_cst);

	return (open & 0xffff) < (open >> 16 & 0xffff);
}

/* Says that it sleeps before it looks for the last time: cw__crew_run() looks in the other order. */
static void sleep_until_called(struct cw__crew *crew)
{
	atomic_store_explicit(&crew->asleep, 1, memory_order_seq_cst);
	while (!has_work(crew) && !atomic_load_explicit(&crew->stop, memory_order_seq_cst) &&
	       atomic_load_explicit(&crew->asleep, memory_order_relaxed))
		futex(&crew->asleep, FUTEX_WAIT, 1);
	atomic_store_explicit(&crew->asleep, 0, memory_order_relaxed);
}

static void *worker_main(void *arg)
{
	struct cw__crew *crew = arg;
	uint64_t until = 0;
	unsigned looks = 0;

	while (!atomic_load_explicit(&crew->stop, memory_order_acquire)) {
		if (work(crew)) {
			until = 0;
			continue;
		}
		relax();
		if (++looks % LOOKS)
			continue;
		if (!until)
			until = cw__now() + LINGER_NS;
		else if (cw__now() >= until) {
			sleep_until_called(crew);
			until = 0;
		}
	}
	return NULL;
}

static void call(struct cw__crew *crew)
{
	if (atomic_load_explicit(&crew->asleep, memory_order_seq_cst) &&
	    atomic_exchange_explicit(&crew->asleep, 0, memory_order_acq_rel))
		futex(&crew->asleep, FUTEX_WAKE, 1);
}

/* ------------------------------------------------------------------------------------------- the caller */

void cw__crew_init(struct cw__crew *crew)
{
	pthread_mutex_init(&crew->lock, NULL);
	atomic_init(&crew->state, NONE);
	atomic_init(&crew->taken, 0);
	atomic_init(&crew->open, 0);
	atomic_init(&crew->done, 0);
	atomic_init(&crew->asleep, 0);
	atomic_init(&crew->stop, 0);
}

void cw__crew_close(struct cw__crew *crew)
{
	if (atomic_load_explicit(&crew->state, memory_order_acquire) == RUNNING) {
		atomic_store_explicit(&crew->stop, 1, memory_order_seq_cst);
		call(crew);
		pthread_join(crew->worker, NULL);
	}
	pthread_mutex_destroy(&crew->lock);
}

/* Cores that this thread may use. */
static int cores(void)
{
	cpu_set_t set;

	/* Fails on machines with more processors than the set has room for. */
	return sched_getaffinity(0, sizeof(set), &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
}

static void start(struct cw__crew *crew)
{
	pthread_attr_t attributes;
	int failed = pthread_attr_init(&attributes);

	if (!failed) {
		pthread_attr_setstacksize(&attributes, STACK);
		failed = cw__thread_start(&crew->worker, &attributes, worker_main, crew);
		pthread_attr_destroy(&attributes);
	}
	atomic_store_explicit(&crew->state, failed ? IMPOSSIBLE : RUNNING, memory_order_release);
}

int cw__crew_ready(struct cw__crew *crew)
{
	if (cores() < 2)
		return 0;
	if (atomic_load_explicit(&crew->state, memory_order_acquire) == NONE) {
		pthread_mutex_lock(&crew->lock);
		if (atomic_load_explicit(&crew->state, memory_order_relaxed) == NONE)
			start(crew);
		pthread_mutex_unlock(&crew->lock);
	}
	return atomic_load_explicit(&crew->state, memory_order_acquire) == RUNNING;
}

/* Everything has been taken: waits for what the worker has taken. Usually it is almost there; when the system has
 * stopped it in the middle, it gets this core. */
static uint64_t await_worker(struct cw__crew *crew, uint32_t taken)
{
	uint64_t began = 0;

	for (unsigned looks = 0; atomic_load_explicit(&crew->done, memory_order_acquire) != taken; looks++) {
		if (!began)
			began = cw__now();
		if (looks > 4096)
			sched_yield();
		else
			relax();
	}
	return began ? cw__now() - began : 0;
}

uint64_t cw__crew_run(struct cw__crew *crew, cw__crew_fn run, void *arg, unsigned count)
{
	uint64_t waited, open;
	uint32_t idle = 0;
	int unit;

	if (count < 2 || count > CW__CREW_UNITS_MAX ||
	    atomic_load_explicit(&crew->state, memory_order_acquire) != RUNNING ||
	    !atomic_compare_exchange_strong_explicit(&crew->taken, &idle, 1, memory_order_acquire,
						     memory_order_relaxed)) {
		run(arg, 0, count);
		return 0;
	}
	crew->run = run;
	crew->arg = arg;
	atomic_store_explicit(&crew->done, 0, memory_order_relaxed);
	open = atomic_load_explicit(&crew->open, memory_order_relaxed);
	atomic_store_explicit(&crew->open, ((open >> 32) + 1) << 32 | (uint64_t)count << 16, memory_order_seq_cst);
	call(crew);
	while ((unit = take(crew, 0)) >= 0)
		run(arg, (unsigned)unit, 1);
	open = atomic_load_explicit(&crew->open, memory_order_relaxed);
	waited = await_worker(crew, count - (uint32_t)(open >> 16 & 0xffff));
	atomic_store_explicit(&crew->taken, 0, memory_order_release);
	return waited;
}
