/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bare limits that `./do bench` compares with: the same work as a workload of Causeway, done by the simplest
 * program that can do it. main.c reads the options and has the table of modes, layout.c says which bytes are moved,
 * each of the other files moves them in one way, report.c prints the figures.
 *
 * An operation moves one batch: `pages` blocks of `size` bytes. Batches belong to channels, which work independently of
 * each other: one for each thread and, over TCP, for each of its peers. `depth` batches of a channel are in flight at
 * once. Each batch of a channel is split over its lanes: connections over TCP, threads for copies.
 */
#ifndef BARE_H
#define BARE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define THREADS_MAX 256
#define CHANNELS_MAX 4096
#define LANES_MAX 16
#define CANNOT 3 /* the exit status of what is refused */

enum bare_via { VIA_TCP, VIA_SHM, VIA_LOCAL };
enum bare_wait { WAIT_ANY, WAIT_SPIN, WAIT_TARGET_PARKED, WAIT_PARKED };
enum bare_group { NAMED_ONLY, GENERAL = 1, ORDINARY = 2 };

struct bare_options {
	const char *mode, *workload, *congestion;
	enum bare_via via;
	enum bare_wait wait;
	size_t size, pages, buffer, depth, threads, lanes, peers;
	size_t vectors;       /* pieces named in one system call, at most */
	size_t socket_buffer; /* 0 = the system's choice */
	double seconds;
	int write, huge, ordinary, verify, spoil, all;
};

/* One side's pieces in the order in which they are moved: lane after lane of channel after channel, each a ring. */
struct bare_layout {
	unsigned char *memory;
	size_t length;
	int shared, touched;
	struct iovec *pieces;
	size_t per_part; /* pieces of one batch in one lane */
	size_t batches;  /* batches in a ring */
};

/* In memory that both processes share. */
struct bare_shared {
	_Atomic uint64_t target_calls;
	_Atomic uint64_t completed[CHANNELS_MAX];
	_Alignas(64) _Atomic uint32_t request; /* pingpong and pull: a count, also a futex */
	_Alignas(64) _Atomic uint32_t reply;
	_Alignas(64) _Atomic uint32_t stop;
};

struct bare_figures {
	uint64_t operations, initiator_calls, target_calls;
	double seconds, initiator_cpu, target_cpu, resident_mib;
	double p50_us, p99_us, p999_us;
	int has_target;
};

struct bare_recorder; /* report.c */

struct bare_mode;

/* One measurement of one mode. */
struct bare_run {
	const struct bare_options *options;
	const struct bare_mode *mode;
	struct bare_layout near, far; /* the initiator's and the target's */
	struct bare_shared *shared;
	struct bare_recorder *recorder; /* in the initiator */
	size_t channels;
	pid_t target; /* 0 in the target itself, -1 without one */
	int initiator;
	void *state; /* the mode's */
};

/*
 * A way to do the work. open() runs in the initiator's process before the target is forked, so the target inherits what
 * it opens. forked() gives up there what is the target's alone. serve() runs in the target until the initiator has
 * closed or, where there is nothing to close, has set shared->stop. work() runs on each of the initiator's threads,
 * moves batches until bare_time_is_up and calls bare_record for each. close() runs in the initiator when its threads
 * have ended.
 */
struct bare_mode {
	const char *name, *what;
	enum bare_via via;
	enum bare_wait wait; /* the manner of waiting that it has, or WAIT_ANY */
	unsigned group;      /* whether it takes part where no mode is named */
	int has_target;
	int ordinary; /* each side's memory is its own; elsewhere both processes map both sides' */
	size_t lanes_max;
	/* NULL, or why it cannot do this; may be NULL itself. */
	const char *(*refuses)(const struct bare_options *options);
	void (*open)(struct bare_run *run);   /* may be NULL */
	void (*forked)(struct bare_run *run); /* in the initiator; may be NULL */
	void (*serve)(struct bare_run *run);
	void (*work)(struct bare_run *run, size_t thread);
	void (*close)(struct bare_run *run); /* may be NULL */
	size_t kernel;                       /* 1 + the row of bare_kernels that it needs; 0 = none */
	uintptr_t variant;                   /* what the functions above want to know */
};

/* What this program is called, has, and sets where it opens connections itself ("" = nothing). */
extern const char bare_program[], bare_congestion[];
extern const struct bare_mode *const bare_tables[]; /* ends with NULL, each table with a NULL name */
extern const struct bare_mode bare_tcp_modes[], bare_setup_modes[], bare_copy_modes[], bare_process_modes[];

/* ---------------------------------------------------------------------------------------- main.c */

_Noreturn void bare_fail(const char *what);

/* ---------------------------------------------------------------------------------------- copy.c */

/* Moves one lane's part of a batch; returns how many system calls that took. */
typedef uint64_t bare_mover(struct bare_run *run, size_t channel, size_t lane, uint64_t batch);

/* The work() of modes in which the initiator's threads move the bytes themselves, by this mover. */
void copy_batches(struct bare_run *run, size_t thread, bare_mover *move);
/* The target only owns memory: sleeps until the initiator says stop. */
void copy_serve(struct bare_run *run);
void copy_close(struct bare_run *run);
const char *copy_refuses(const struct bare_options *options);
/* Sleeps while the word has this value; wakes those who sleep. */
void bare_sleep(_Atomic uint32_t *word, uint32_t value);
void bare_wake(_Atomic uint32_t *word);

/* ---------------------------------------------------------------------------------------- layout.c */

/* Lays the pieces out in an order that the seed decides, and maps the memory unless it is there from the last mode. */
void layout_provide(struct bare_layout *layout, const struct bare_options *options, size_t channels, uint64_t seed,
		    int shared);
/* Touches all of the memory, in the process that is going to use it, unless that was done. To be verified, the source's
 * bytes tell their place. */
void layout_fill(struct bare_layout *layout, int source, int verify);
/* Whether the bytes of the batches that `completed` counts have arrived and nothing else was changed; clears them. */
int layout_arrived(struct bare_layout *to, const struct bare_layout *from, const struct bare_options *options,
		   const _Atomic uint64_t *completed, size_t channels);
/* The ring of one lane. */
struct iovec *layout_ring(const struct bare_layout *layout, const struct bare_options *options, size_t channel,
			  size_t lane);

/* ---------------------------------------------------------------------------------------- report.c */

uint64_t bare_now(void);
struct bare_recorder *recorder_new(size_t threads, double seconds);
void recorder_free(struct bare_recorder *recorder);
/* Starts the clock that bare_time_is_up looks at. */
uint64_t recorder_start(struct bare_recorder *recorder);
int bare_time_is_up(const struct bare_run *run, uint64_t now);
/* A batch of this channel ended after this time. `last` is its end. */
void bare_record(struct bare_run *run, size_t thread, size_t channel, uint64_t nanoseconds, uint64_t last);
/* System calls made for the transfers by this thread. */
void bare_count_calls(struct bare_run *run, size_t thread, uint64_t calls);
void recorder_figures(struct bare_recorder *recorder, struct bare_figures *figures);
void bare_print(const struct bare_options *options, const struct bare_mode *mode, const struct bare_figures *figures);

/* ---------------------------------------------------------------------------------------- kernels.c */

typedef void bare_kernel(void *to, const void *from, size_t length);

struct bare_kernel_row {
	const char *name;
	bare_kernel *copy;
	int (*runs_here)(void);
};

extern const struct bare_kernel_row bare_kernels[];
/* Makes streamed stores visible before what comes next. */
void bare_fence(void);

static inline void bare_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

#endif
