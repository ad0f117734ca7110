/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies by the initiator's own threads, between its memory and memory that both processes map, or within one process.
 * One batch may be split over several threads; those beside the first spin until there is something to do. A copy is
 * done when its call returns, so it makes no difference how many may be in flight.
 */
#include "bare.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

struct crew;

struct hand {
	struct crew *crew;
	size_t lane;
	pthread_t thread;
	uint64_t calls;
	_Alignas(64) _Atomic uint64_t done; /* batches */
};

/* The threads beside the first one. */
struct crew {
	struct bare_run *run;
	bare_mover *move;
	size_t channel;
	struct hand hands[LANES_MAX];
	_Alignas(64) _Atomic uint64_t wanted; /* batches; UINT64_MAX = no more */
};

void bare_sleep(_Atomic uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

void bare_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void *hand_work(void *argument)
{
	struct hand *hand = argument;
	struct crew *crew = hand->crew;

	for (uint64_t batch = 0;; batch++) {
		uint64_t wanted;

		while ((wanted = atomic_load_explicit(&crew->wanted, memory_order_acquire)) <= batch)
			bare_relax();
		if (wanted == UINT64_MAX)
			return NULL;
		hand->calls += crew->move(crew->run, crew->channel, hand->lane, batch);
		atomic_store_explicit(&hand->done, batch + 1, memory_order_release);
	}
}

void copy_batches(struct bare_run *run, size_t thread, bare_mover *move)
{
	struct crew crew = { .run = run, .move = move, .channel = thread };
	size_t lanes = run->options->lanes;
	uint64_t calls = 0, before;

	for (size_t i = 1; i < lanes; i++) {
		crew.hands[i].crew = &crew;
		crew.hands[i].lane = i;
		if (pthread_create(&crew.hands[i].thread, NULL, hand_work, &crew.hands[i]))
			bare_fail("pthread_create");
	}
	before = bare_now();
	for (uint64_t batch = 0; !bare_time_is_up(run, before); batch++) {
		uint64_t now;

		atomic_store_explicit(&crew.wanted, batch + 1, memory_order_release);
		calls += move(run, thread, 0, batch);
		for (size_t i = 1; i < lanes; i++)
			while (atomic_load_explicit(&crew.hands[i].done, memory_order_acquire) <= batch)
				bare_relax();
		now = bare_now();
		bare_record(run, thread, thread, now - before, now);
		before = now;
	}
	atomic_store_explicit(&crew.wanted, UINT64_MAX, memory_order_release);
	for (size_t i = 1; i < lanes; i++) {
		pthread_join(crew.hands[i].thread, NULL);
		calls += crew.hands[i].calls;
	}
	bare_count_calls(run, thread, calls);
}

static uint64_t copy_part(struct bare_run *run, size_t channel, size_t lane, uint64_t batch)
{
	const struct bare_layout *from = run->options->write ? &run->near : &run->far;
	const struct bare_layout *to = run->options->write ? &run->far : &run->near;
	size_t first = batch % from->batches * from->per_part;
	const struct iovec *source = layout_ring(from, run->options, channel, lane) + first;
	const struct iovec *sink = layout_ring(to, run->options, channel, lane) + first;
	bare_kernel *copy = bare_kernels[run->mode->variant].copy;

	for (size_t i = 0; i < from->per_part; i++)
		copy(sink[i].iov_base, source[i].iov_base, source[i].iov_len);
	bare_fence();
	return 0;
}

static void copy_work(struct bare_run *run, size_t thread)
{
	copy_batches(run, thread, copy_part);
}

void copy_serve(struct bare_run *run)
{
	while (!atomic_load(&run->shared->stop))
		bare_sleep(&run->shared->stop, 0);
}

void copy_close(struct bare_run *run)
{
	atomic_store(&run->shared->stop, 1);
	bare_wake(&run->shared->stop);
}

const char *copy_refuses(const struct bare_options *options)
{
	if (options->peers > 1)
		return "a copy has no connections to peers";
	if (options->lanes > 1 && options->threads > 1)
		return "one thread splits its copies, or several copy";
	return NULL;
}

#define COPY(number, mode_name, text)                                                                                  \
	{ .name = mode_name,                                                                                           \
	  .what = text ", into or out of memory that both processes map",                                              \
	  .via = VIA_SHM,                                                                                              \
	  .group = GENERAL,                                                                                            \
	  .has_target = 1,                                                                                             \
	  .lanes_max = LANES_MAX,                                                                                      \
	  .refuses = copy_refuses,                                                                                     \
	  .serve = copy_serve,                                                                                         \
	  .work = copy_work,                                                                                           \
	  .close = copy_close,                                                                                         \
	  .kernel = number + 1,                                                                                        \
	  .variant = number },                                                                                         \
	{                                                                                                              \
		.name = mode_name, .what = text ", within one process", .via = VIA_LOCAL, .group = GENERAL,            \
		.lanes_max = LANES_MAX, .refuses = copy_refuses, .work = copy_work, .kernel = number + 1,              \
		.variant = number                                                                                      \
	}

/* In the order of bare_kernels. */
const struct bare_mode bare_copy_modes[] = {
	COPY(0, "memcpy", "the C library's memcpy"),
	COPY(1, "erms", "rep movsb"),
	COPY(2, "avx2", "32-byte stores"),
	COPY(3, "nt-avx2", "32-byte streamed stores"),
	COPY(4, "nt-avx2-four", "32-byte streamed stores, four pages side by side"),
	COPY(5, "nt-avx512", "64-byte streamed stores"),
	{ .name = NULL },
};
