/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between two processes of one machine, beyond copies into shared memory: cross-memory attach for memory of any kind,
 * and a ping-pong over words in shared memory, for what it costs to have the other side do something.
 */
#include "bare.h"

#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ASK_SPIN, ASK_TARGET_PARKED, ASK_PARKED };

#define PULL 16u /* added to the manner of asking: the target fetches the bytes itself */

/* ---------------------------------------------------------------------------------------- attach */

static uint64_t attach_part(struct bare_run *run, const struct bare_layout *mine, const struct bare_layout *others,
			    pid_t pid, int write, size_t channel, size_t lane, uint64_t batch)
{
	size_t first = batch % mine->batches * mine->per_part, left = mine->per_part;
	struct iovec *here = layout_ring(mine, run->options, channel, lane) + first;
	struct iovec *there = layout_ring(others, run->options, channel, lane) + first;
	uint64_t calls = 0;

	for (; left; calls++) {
		size_t count = left < run->options->vectors ? left : run->options->vectors, bytes = 0;
		ssize_t moved = write ? process_vm_writev(pid, here, count, there, count, 0)
				      : process_vm_readv(pid, here, count, there, count, 0);

		for (size_t i = 0; i < count; i++)
			bytes += here[i].iov_len;
		if (moved < 0 || (size_t)moved != bytes)
			bare_fail(write ? "process_vm_writev" : "process_vm_readv");
		left -= count, here += count, there += count;
	}
	return calls;
}

static uint64_t attach_move(struct bare_run *run, size_t channel, size_t lane, uint64_t batch)
{
	return attach_part(run, &run->near, &run->far, run->target, run->options->write, channel, lane, batch);
}

static void attach_work(struct bare_run *run, size_t thread)
{
	copy_batches(run, thread, attach_move);
}

/* ---------------------------------------------------------------------------------------- ping-pong */

static void await(_Atomic uint32_t *word, uint32_t old, int parked, uint64_t *calls)
{
	while (atomic_load_explicit(word, memory_order_acquire) == old) {
		if (parked) {
			bare_sleep(word, old);
			++*calls;
		} else {
			bare_relax();
		}
	}
}

static void tell(_Atomic uint32_t *word, uint32_t value, int parked, uint64_t *calls)
{
	atomic_store_explicit(word, value, memory_order_release);
	if (parked) {
		bare_wake(word);
		++*calls;
	}
}

static void ask_serve(struct bare_run *run)
{
	struct bare_shared *shared = run->shared;
	uintptr_t manner = run->mode->variant & (PULL - 1);

	for (uint32_t request = 0;; request++) {
		uint64_t calls = 0;

		await(&shared->request, request, manner != ASK_SPIN, &calls);
		if (atomic_load(&shared->stop))
			return;
		if (run->mode->variant & PULL)
			calls += attach_part(run, &run->far, &run->near, getppid(), 0, 0, 0, request);
		tell(&shared->reply, request + 1, manner == ASK_PARKED, &calls);
		atomic_fetch_add_explicit(&shared->target_calls, calls, memory_order_relaxed);
	}
}

static void ask_work(struct bare_run *run, size_t thread)
{
	struct bare_shared *shared = run->shared;
	uintptr_t manner = run->mode->variant & (PULL - 1);
	struct iovec *near = layout_ring(&run->near, run->options, 0, 0),
		     *far = layout_ring(&run->far, run->options, 0, 0);
	size_t per_part = run->near.per_part, ring = run->near.batches * per_part;
	uint64_t calls = 0, before = bare_now();
	int copies = !(run->mode->variant & PULL), write = run->options->write;

	for (uint32_t request = 0; !bare_time_is_up(run, before); request++) {
		size_t first = (size_t)request * per_part % ring;
		uint64_t now;

		for (size_t i = first; copies && write && i < first + per_part; i++)
			memcpy(far[i].iov_base, near[i].iov_base, near[i].iov_len);
		tell(&shared->request, request + 1, manner != ASK_SPIN, &calls);
		await(&shared->reply, request, manner == ASK_PARKED, &calls);
		for (size_t i = first; copies && !write && i < first + per_part; i++)
			memcpy(near[i].iov_base, far[i].iov_base, near[i].iov_len);
		now = bare_now();
		bare_record(run, thread, 0, now - before, now);
		before = now;
	}
	bare_count_calls(run, thread, calls);
}

static void ask_close(struct bare_run *run)
{
	uint64_t calls = 0;

	atomic_store(&run->shared->stop, 1);
	tell(&run->shared->request, atomic_load(&run->shared->request) + 1, 1, &calls);
}

static const char *ask_refuses(const struct bare_options *options)
{
	if (options->threads > 1)
		return "one thread asks";
	return copy_refuses(options);
}

static const char *pull_refuses(const struct bare_options *options)
{
	if (!options->write)
		return "the target fetches what is written to it";
	return ask_refuses(options);
}

#define ATTACH                                                                                                         \
	.via = VIA_SHM, .group = ORDINARY, .ordinary = 1, .has_target = 1, .lanes_max = LANES_MAX,                     \
	.refuses = copy_refuses, .serve = copy_serve, .work = attach_work, .close = copy_close
#define ASK .via = VIA_SHM, .has_target = 1, .lanes_max = 1, .serve = ask_serve, .work = ask_work, .close = ask_close

const struct bare_mode bare_process_modes[] = {
	{ .name = "attach", .what = "process_vm_readv or process_vm_writev of ordinary memory", ATTACH },
	{ .name = "pull",
	  .what = "the target, spinning, fetches by process_vm_readv",
	  ASK,
	  .group = ORDINARY,
	  .ordinary = 1,
	  .wait = WAIT_SPIN,
	  .refuses = pull_refuses,
	  .variant = ASK_SPIN | PULL },
	{ .name = "pull-target-parked",
	  .what = "the target sleeps, then fetches by process_vm_readv",
	  ASK,
	  .group = ORDINARY,
	  .ordinary = 1,
	  .wait = WAIT_TARGET_PARKED,
	  .refuses = pull_refuses,
	  .variant = ASK_TARGET_PARKED | PULL },
	{ .name = "ping-pong",
	  .what = "memcpy, then both sides spin on a word",
	  ASK,
	  .wait = WAIT_SPIN,
	  .refuses = ask_refuses,
	  .variant = ASK_SPIN },
	{ .name = "ping-pong-target-parked",
	  .what = "memcpy, then the target is woken and answers",
	  ASK,
	  .wait = WAIT_TARGET_PARKED,
	  .refuses = ask_refuses,
	  .variant = ASK_TARGET_PARKED },
	{ .name = "ping-pong-parked",
	  .what = "memcpy, then both sides sleep in turn",
	  ASK,
	  .wait = WAIT_PARKED,
	  .refuses = ask_refuses,
	  .variant = ASK_PARKED },
	{ .name = NULL },
};
