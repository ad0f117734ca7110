/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core's own structures: what an engine, a loop, a region, a segment, a request and a batch are made of, who owns
 * them and which lock guards them. Only files in src/core include this. docs/architecture.md tells the story.
 *
 * Locks, outermost first: engine->lock, loop->lock, segment->lock, engine->sender_lock, queue->lock, batch->lock. A
 * thread holds at most one loop lock.
 */
#ifndef CW_CORE_CORE_H
#define CW_CORE_CORE_H

#include <causeway/plugin.h>
#include <core/config.h>
#include <core/control_ops.h>
#include <core/directory_ops.h>
#include <core/range_index.h>
#include <core/shard.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <util/clock.h>
#include <util/list.h>

#define CW__PARTS_MAX 16            /* transports, and platforms, in one engine */
#define CW__RAILS_MAX 256           /* of one transport to one peer */
#define CW__QUEUED_MIXED UINT32_MAX /* requests in queues go by different rails */
#define CW__LOOPS_MAX 64
#define CW__CLASSES 3
#define CW__KEYS 32                    /* of regions, asked for at once */
#define CW__REVOKED_MAX 64             /* partial revocations of one region */
#define CW__INLINE_BYTES (256u * 1024) /* copied by cw_batch_submit() itself */

/* -------------------------------------------------------------------------------------- errors and log */

/* Sets cw_last_error() of this thread and returns status. */
int cw__fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct cw__log {
	cw_log_fn fn; /* NULL = stderr */
	void *arg;
	int level; /* -1 = silent */
	pthread_mutex_t lock;
	uint64_t window; /* start of the current second; guarded by lock */
	unsigned lines, dropped;
};

void cw__log_init(struct cw__log *log, cw_log_fn fn, void *arg, const char *level);
void cw__log_write(struct cw__log *log, enum cw_log_level level, const char *format, va_list arguments);
void cw__log(struct cw_engine *engine, enum cw_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ----------------------------------------------------------------------------------------------- loop */

struct cw__slice;

/* Host memory where bytes of a device are for a moment while a peer touches them. Belongs to one thread, or to a loop.
 */
struct cw__arena {
	struct cw__arena_block *block; /* NULL before it is first needed */
};

/* How long it pays to spin; learned, a guess, so nobody waits for anybody to read or write it. */
struct cw__patience {
	_Atomic uint64_t ns;
	_Atomic unsigned doubts; /* grows when spinning was in vain */
	_Atomic unsigned owed;   /* short sleeps still to be seen before it is tried again */
};

/* Where a share of the peers is handled. Everything is guarded by lock unless it says otherwise. */
struct cw_loop {
	struct cw_engine *engine;
	pthread_mutex_t lock;
	int epoll_fd, wake_fd, timer_fd;
	struct cw_io wake_io, timer_io;
	struct cw_timer *timers; /* the earliest; see timers.c */
	uint64_t armed_at;       /* what timer_fd is set to; CW_FOREVER = nothing */
	struct epoll_event events[64];
	int event_count, event_next;
	struct cw__list segments; /* cw_segment.loop_node */
	struct cw__list busy;     /* cw_segment.busy_node: copies left to do */
	struct cw__list free_slices;
	struct cw__list slabs;
	struct cw__list ended;       /* cw_batch.ended_node: callbacks to run without the lock */
	struct cw__arena arena;      /* for device memory that peers touch */
	struct cw_task staging_task; /* buffers for device memory came back */
	_Atomic int staging_posted;
	_Atomic(struct cw_task *) inbox; /* any thread pushes, the driver takes all */
	unsigned slice_count;
	uint64_t id_next, id_end; /* of slices */
	int starved;              /* a segment found no free slice */
	_Atomic int sleeping;     /* somebody blocks in epoll_wait */
	_Atomic int wake_pending; /* wake_fd was written and not read yet */
	_Atomic int scan_wanted;  /* some batch is ending or some region is revoked */
	_Atomic unsigned drivers; /* callers that wait and drive */
	_Atomic uint32_t drive_epoch;
	_Atomic int blocking_driver;    /* one of them may block in epoll_wait */
	_Atomic uint32_t park;          /* futex: not 0 = the progress thread is parked because a caller drives */
	_Atomic unsigned futex_waiters; /* callers that wait on a batch without driving */
	pthread_t thread;
	int has_thread;
	struct cw__patience patience, callers_patience; /* of the progress thread; of callers that drive */
	struct cw_io *hot;                              /* brought something last and can be polled; NULL = none */
	unsigned polls;                                 /* of it, since ever */
};

/* The loop whose lock this thread holds, or NULL. */
struct cw_loop *cw__loop_current(void);
int cw__loop_open(struct cw_loop *loop, struct cw_engine *engine);
void cw__loop_close(struct cw_loop *loop);
int cw__loop_start(struct cw_loop *loop); /* its progress thread */
void cw__loop_stop(struct cw_loop *loop);
void cw__loop_lock(struct cw_loop *loop);
int cw__loop_trylock(struct cw_loop *loop);
void cw__loop_unlock(struct cw_loop *loop); /* also runs callbacks of ended batches, after the lock is free */
/* Turns every loop that is free, for a caller that must not run callbacks itself; they are left to others. */
void cw__engine_help(struct cw_engine *engine);
/* With the lock held: handles what is ready. 1 = something was. */
int cw__loop_turn(struct cw_loop *loop);
/* Makes sure that somebody looks at the loop soon. Any thread. */
void cw__loop_kick(struct cw_loop *loop);
void cw__loop_scan(struct cw_loop *loop); /* asks for a scan; any thread */
/* Waits until *word & mask is not 0, driving the loop; word is a futex. ERR_AGAIN at `until`. */
int cw__loop_wait(struct cw_loop *loop, _Atomic uint32_t *word, uint32_t mask, uint64_t until);
/* After *word changed from `before`: wakes those who wait for it, however they do. */
void cw__loop_signal(struct cw_loop *loop, _Atomic uint32_t *word, uint32_t before);
void cw__futex_wake_all(_Atomic uint32_t *word);
int cw__futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t until);

int cw__io_add(struct cw_loop *loop, struct cw_io *io);
int cw__io_modify(struct cw_io *io, uint32_t events);
void cw__io_remove(struct cw_io *io);
void cw__timer_set(struct cw_loop *loop, struct cw_timer *timer, uint64_t at);
void cw__timer_stop(struct cw_loop *loop, struct cw_timer *timer);
void cw__task_post(struct cw_loop *loop, struct cw_task *task);

/* --------------------------------------------------------------------------------------------- regions */

enum cw__region_state {
	CW__REGION_FREE = 0,
	CW__REGION_REGISTERING = 1,
	CW__REGION_LIVE = 2,
	CW__REGION_REVOKED = 3, /* all of it */
	CW__REGION_FAILED = 4
};

struct cw__range {
	_Atomic uint64_t from, to;
};

/* A registered range. The struct lives as long as the engine (slots are used again with another id), so that a stale
 * pointer can always be checked. view is constant while the state is LIVE. What each transfer touches comes first, in
 * two cache lines. */
struct cw_region {
	_Alignas(64) _Atomic uint32_t state; /* enum cw__region_state */
	_Atomic uint32_t epoch;              /* which of the two pin counters new users take */
	_Atomic int32_t pins[2];             /* chunks and slices that touch it now */
	_Atomic uint32_t revoked_count;      /* partial revocations */
	unsigned platform;
	struct cw_engine *engine;
	struct cw_region_view view;
	struct cw__range *revoked; /* CW__REVOKED_MAX; NULL before the first */
	uint32_t slot, generation;
	unsigned registrations; /* engine->region_lock */
	unsigned freeing;       /* engine->region_lock: an unregister is at work */
	uint8_t attached[CW__PARTS_MAX];
	void *attachments[CW__PARTS_MAX]; /* by transport */
	struct cw_memory_info memory;
	struct cw_allocation allocation; /* address NULL when the memory is the caller's */
	pthread_mutex_t revoke_lock;     /* one revocation at a time */
	_Atomic uint32_t progress;       /* asynchronous registration: 0..100; futex on state */
	_Atomic uint32_t settling;       /* callers that wait for that */
	_Atomic uint64_t seen_at;        /* when its memory was mapped for sure */
	_Atomic uint64_t ticket;         /* of the directory: when it is published; 0 = not asked for yet */
	int failure;                     /* why the registration failed */
	int has_worker;
	char *failure_text; /* NULL when there was no memory for it */
	pthread_t worker;
	struct cw_region *next_free; /* engine->region_lock */
};

/* One round of asking the transports to end what peers were given. Freed by the last who holds it: a peer that never
 * answers holds on to the round that asked it, not to a later one. */
struct cw__revocation_round {
	_Atomic uint32_t left; /* answers to come; futex */
	_Atomic uint32_t refs;
};

struct cw_revocation {
	struct cw__revocation_round *round;
};

struct cw_region *cw__region_at(struct cw_engine *engine, uint32_t slot);
struct cw_region *cw__region_by_id(struct cw_engine *engine, uint64_t id);
/* The live region that holds the range, with its id; NULL when there is none. Not pinned. */
struct cw_region *cw__region_lookup(struct cw_engine *engine, uint64_t address, uint64_t length, uint64_t *id_out);
/* Pins it for touching [from, to); returns 0 or 1 (the counter, for unpin) or a negative status. */
int cw__region_pin(struct cw_region *region, uint64_t id, uint64_t from, uint64_t to);
/* With a pin, before its memory is touched: 0 = the program freed it although it is registered, as far as the setting
 * memory/verify has that looked at. */
int cw__region_is_there(struct cw_region *region);
/* Pins all of it, whatever its id, if it is live. */
int cw__region_pin_any(struct cw_region *region);
void cw__region_unpin(struct cw_region *region, int counter);
/* Is it LIVE, and is nothing of [from, to) revoked? With a pin or a shard it stays so until that is given up, or the
 * owner waits for it. */
int cw__region_is_live(struct cw_region *region, uint64_t id, uint64_t from, uint64_t to);
/* Counts an identical registration, or makes a new one: with *fresh_out = 1 the caller must establish it. */
int cw__region_admit(struct cw_engine *engine, const void *address, size_t length, uint32_t access, int *fresh_out,
		     struct cw_region **region_out);
/* Finds out what the memory is and tells the transports; then the region is LIVE or FAILED. */
int cw__region_establish(struct cw_region *region, const char *location);
/* Waits until it is what it will be for this process; peers may not find it yet. */
int cw__region_settle(struct cw_region *region, uint64_t timeout, unsigned *progress_out);
void cw__region_index(struct cw_region *region);  /* look-ups find it when it is LIVE; its range stays taken anyway */
void cw__region_detach(struct cw_region *region); /* from every transport */
/* Takes back one registration; *last_out = 1 when it was the last and nothing touches the region any more. */
int cw__region_take_back(struct cw_region *region, int freeing, int *last_out);
/* Gives its slot back. */
void cw__region_drop(struct cw_region *region);
/* Drops it, and frees the memory if the engine allocated it. */
void cw__region_release_memory(struct cw_region *region);
void cw__regions_close(struct cw_engine *engine);

/* --------------------------------------------------------------------------------- segments and paths */

enum cw__remote_state { CW__REMOTE_ASKING = 0, CW__REMOTE_READY = 1, CW__REMOTE_GONE = 2, CW__REMOTE_FAILED = 3 };

/* A region of a peer. refs: requests and the segment's list; pins: copies at work. The struct lives as long as the
 * segment and is used again for another region, so that any thread may pin what the index told it and then look whether
 * it is still that. view is constant while the state is READY. */
struct cw__remote {
	struct cw__list node; /* cw_segment.remotes, loose, leaving or spare; segment->lock */
	int indexed;          /* segment->lock */
	struct cw_segment *segment;
	struct cw_remote_view view;
	_Atomic uint32_t state;
	_Atomic int32_t refs;
	_Atomic int32_t pins;
	int failure;             /* FAILED: why; loop */
	struct cw__list waiting; /* cw__request.node: asked for it; loop */
	void *imports[CW__PARTS_MAX];
	uint8_t import_state[CW__PARTS_MAX]; /* enum below; loop */
	unsigned importing;                  /* loop */
	int import_stale;                    /* loop */
	uint64_t want_from, want_to;         /* the range that was asked for */
	_Atomic int closing;                 /* the last pin or ref goes: close_task was posted */
	struct cw_task close_task;
	struct cw_timer close_timer; /* loop: somebody may still have found it */
	struct cw__shard_mark mark;  /* of the moment when it went */
	struct cw__list revokers;    /* cw__revoker.node; loop */
};
enum { CW__IMPORT_NONE = 0, CW__IMPORT_ASKING = 1, CW__IMPORT_READY = 2, CW__IMPORT_FAILED = 3 };

struct cw_import {
	struct cw__remote *remote;
	unsigned part;
};

struct cw__revoker {
	struct cw__list node;
	void (*done)(void *arg);
	void *arg;
};

struct cw__rail {
	struct cw_rail_info info;
	unsigned inflight;
	uint64_t inflight_bytes;
	unsigned staging; /* slices that are to be posted when their bytes have come from the device */
	uint64_t staging_bytes;
	double bytes_per_second; /* measured; starts with the estimate */
	int status;              /* CW_OK = up */
	int full;                /* post took fewer than offered */
	unsigned failures;       /* in a row */
	uint64_t paused_until;
};

/* One transport to one peer. Guarded by the loop's lock; `on` and `state` are constant once the segment is up. */
struct cw__lane {
	_Atomic int on;
	void *state; /* from peer_open */
	unsigned rail_count;
	struct cw__rail *rails;
};

struct cw_segment {
	struct cw_peer peer; /* first: transports hand it back */
	struct cw_engine *engine;
	struct cw_loop *loop;
	char name[256];
	struct cw__list node;      /* engine->segments; engine->lock */
	struct cw__list loop_node; /* loop->segments */
	struct cw__list busy_node; /* loop->busy; loop */
	unsigned opens;            /* engine->lock */
	_Atomic int32_t refs;      /* opens, requests, remotes */
	int self;                  /* this engine itself */
	int strict;
	uint8_t order[CW__PARTS_MAX]; /* transports allowed, preferred first when the caller named them */
	unsigned order_count;
	int order_fixed;
	_Atomic uint32_t state;  /* enum cw_peer_state, | CW__SEGMENT_OPENING; futex */
	_Atomic uint32_t opened; /* futex: 1 when the opening ended */
	int open_status;
	char open_text[200];
	struct cw__link *link; /* NULL for self */
	int linked;            /* the link is up; loop */
	int retrying;          /* loop */
	uint64_t retry_after;  /* loop: growing pause */
	unsigned retry_failures;
	int seeking;    /* the directory is being asked where the peer is; loop */
	int seek_holds; /* and requests wait for what it says; loop */
	struct cw_timer retry_timer;
	int lanes_open;                   /* loop */
	struct cw__descriptor descriptor; /* classic peers: buffers; loop */
	char offers[160];
	struct cw__lane lanes[CW__PARTS_MAX]; /* by transport */
	struct cw__list queues[CW__CLASSES];  /* cw__request.node, ready to be cut; loop */
	uint32_t queued;                      /* the rails of all that is in queues, 0 = none; loop */
	struct cw__list copies;               /* cw__request.node: to be copied by the CPU, synchronously; loop */
	struct cw__list active;               /* cw__request.active_node: everything of this peer; loop */
	pthread_mutex_t lock;                 /* the lists of remotes, and changes of their index */
	struct cw__list remotes, leaving;     /* leaving: gone, but perhaps still copied from or to */
	struct cw__list loose, spare;         /* loose: not in the index; spare: to be used again */
	_Atomic(struct cw__index *) index;    /* remotes of space 0, values are pointers; NULL before the first */
	struct cw__remote *asking;            /* the region that the peer is being asked for, borrowed; loop */
	struct cw_task close_task;
};
#define CW__SEGMENT_OPENING 0x100u

int cw__segments_close(struct cw_engine *engine);
/* On the loop, at close: ends every transport and request of it now. */
void cw__segment_drop(struct cw_segment *segment);
/* 1 = the segment stays until cw__segment_put(); 0 = it is about to be closed. */
int cw__segment_hold(struct cw_segment *segment);
void cw__segment_put(struct cw_segment *segment);
/* The remote region that holds the range, referenced; NULL when it is not known. Any thread. */
struct cw__remote *cw__remote_find(struct cw_segment *segment, uint32_t space, uint64_t from, uint64_t to);
/* The same, not referenced, without a lock and only if that is easy. With a shard: it stays as it is as long as that
 * is held. */
struct cw__remote *cw__remote_look(struct cw_segment *segment, uint32_t space, uint64_t from, uint64_t to);
int cw__remote_covers(const struct cw__remote *remote, uint32_t space, uint64_t from, uint64_t to);
/* On the loop, referenced: one that is READY and holds the range; or one, for this range or another, that the peer is
 * being asked for: wait for it and look again. NULL = out of memory. */
struct cw__remote *cw__remote_ask(struct cw_segment *segment, uint32_t space, uint64_t from, uint64_t to);
void cw__remote_put(struct cw__remote *remote);
/* The same by who stayed behind: the segment may be freed by now, and what it knew of the remote with it. */
void cw__remote_put_late(struct cw__remote *remote);
void cw__remotes_close(struct cw_segment *segment);
void cw__remotes_free(struct cw_segment *segment); /* nobody has the segment any more */
int cw__remote_pin(struct cw__remote *remote);
void cw__remote_unpin(struct cw__remote *remote);
void cw__remote_gone(struct cw__remote *remote);
/* Why the peer cannot be used now, or CW_OK; on the loop it also starts to connect again. */
int cw__segment_usable(struct cw_segment *segment);
void cw__segment_set_state(struct cw_segment *segment, enum cw_peer_state state);
/* On the loop: the peer cannot be reached; its requests end. */
void cw__segment_down(struct cw_segment *segment);

/* What a request needs of a path. */
struct cw__need {
	enum cw_op op;
	uint32_t skip; /* bits of transports not to use */
	uint64_t length, page;
};

struct cw__path {
	struct cw_reach reach;
	unsigned part;
	int staged; /* the local side goes through buffers of the core */
	int lands;  /* the remote side goes through buffers of its engine */
};

/* The best transport for a pair. Any thread. ERR_NO_PATH. */
int cw__path_choose(struct cw_segment *segment, const struct cw_region *local, const struct cw__remote *remote,
		    const struct cw__need *need, struct cw__path *path_out);

/* ------------------------------------------------------------------------------- requests and batches */

struct cw__slice {
	struct cw_slice base; /* first: transports hand it back */
	struct cw__list node;
	struct cw_engine *engine;
	struct cw__request *request;
	uint64_t offset; /* in the request */
	uint64_t posted_at;
	unsigned part;
	int pin;
	int canceled; /* the transport was asked */
	enum {
		CW__SLICE_OURS = 0,
		CW__SLICE_OFFERED = 1,
		CW__SLICE_POSTED = 2,
		CW__SLICE_STAGING = 3,
		CW__SLICE_COPYING = 4 /* with copy(), which may have returned */
	} posted;
	struct cw__landing *landing; /* stands for the device memory; NULL = the local memory itself is used */
	int handed;                  /* a stager calls copy() */
	int embedded;                /* in its batch, not from a pool */
	/* STAGING: */
	struct cw__list job; /* the stager's queue; staging lock */
	struct cw_task job_task;
	int job_status;
	int device_failed; /* not the transport */
};

enum cw__request_state {
	CW__REQUEST_NEW = 0,
	CW__REQUEST_RESOLVING = 1, /* waits for its remote region */
	CW__REQUEST_QUEUED = 2,    /* has bytes to cut */
	CW__REQUEST_DRAINING = 3,  /* everything is cut */
	CW__REQUEST_ENDED = 4
};

/* Guarded by the loop of its segment; before it is handed over and after ENDED, by the batch's owner. */
struct cw__request {
	struct cw__list node; /* a queue of the segment, or remote->waiting */
	struct cw__list active_node;
	struct cw_batch *batch;
	struct cw_segment *segment;
	struct cw_vec local, remote; /* indices point into batch->indices or at the caller's */
	uint64_t length;
	uint64_t local_from, local_to, remote_from, remote_to; /* bounding ranges */
	struct cw_region *region;
	uint64_t region_id;
	struct cw__remote *target;
	uint64_t next;        /* first byte not yet cut */
	uint64_t window, end; /* the bytes from window to end lie in target; none yet when they are equal */
	uint64_t done;        /* bytes that arrived */
	unsigned inflight;
	struct cw__list again;  /* cw__slice.node: failed, to be posted once more */
	struct cw__list flying; /* cw__slice.node: posted */
	struct cw_task task;    /* hands it to its loop */
	unsigned part;
	struct cw_reach reach;
	uint32_t skip;  /* transports that failed it */
	uint8_t staged; /* its slices need buffers */
	uint8_t handed; /* its slices are copied by a stager, because a device may make that take long */
	uint8_t op;
	uint8_t state;
	uint8_t stopped_in; /* the state before ENDED */
	uint8_t refreshed;  /* its remote region was asked for twice */
	uint32_t repeats;   /* copies that were tried again */
	uint8_t have_path;
	_Atomic int status;    /* ERR_AGAIN while it runs */
	int failure;           /* what it will end with */
	uint32_t remote_quiet; /* enum cw_remote_state, the worst so far */
	uint64_t fence;
};

struct cw__sending { /* one notification of a batch */
	struct cw_batch *batch;
	struct cw_segment *segment;
	struct cw_task task;
	char name[256];
	void *data;
	size_t length;
	int status;
};

struct cw_batch {
	struct cw_engine *engine;
	_Atomic int32_t refs;
	_Atomic uint32_t word; /* enum cw_batch_state in the low byte, | CW__BATCH_TERMINAL, | CW__BATCH_WAITED; futex
				*/
	struct cw__list node;  /* engine->batches, also while it is free; engine->batch_lock */
	struct cw_batch *next_free;
	struct cw__list queue_node;
	struct cw__list ended_node;
	struct cw_loop *loop; /* home: deadline, notifications */
	struct cw__request *requests;
	size_t count, capacity;
	int keeps_segments;       /* it holds its segments, once for each run of requests */
	struct cw__slice slice;   /* for what the submitter copies itself */
	uint64_t id_next, id_end; /* of that one, as it is used again and again */
	unsigned char *indices;   /* copies of index arrays */
	size_t index_bytes;
	_Atomic uint64_t remaining;    /* requests not ended */
	_Atomic int32_t prerequisites; /* that have not come yet */
	_Atomic int ending;            /* 0, or why everything should end: a cw_status */
	_Atomic int started;
	uint64_t deadline;
	uint32_t flags, priority, delivery;
	uint64_t bytes;
	uint64_t submitted, ended;
	struct cw__sending *sendings;
	size_t sending_count;
	_Atomic uint32_t sendings_open;
	struct cw_queue *queue;
	cw_batch_fn callback;
	void *arg;
	struct cw_timer timer; /* deadline, then grace; home loop */
	int timer_in_grace;    /* home loop */
	_Atomic int timer_used, timer_posted;
	struct cw_task start_task, timer_task;
	pthread_mutex_t lock;       /* the rest */
	struct cw__list dependents; /* cw__dependency.node */
	struct cw__dependency *dependencies;
	size_t dependency_count;
	struct cw__watch **watches; /* device prerequisites; see device_sync.c */
	size_t watch_count;
	struct cw__list fences; /* streams that wait for it */
	int status;             /* of the first failure */
	enum cw_remote_state remote;
	uint64_t fence;
	uint64_t requests_completed, requests_failed, bytes_completed;
	int local_quiet;
	enum { CW__BATCH_UNTOLD = 0, CW__BATCH_TELLING = 1, CW__BATCH_TOLD = 2 } published;
	int quiet_owed; /* it became quiet while its end was being told */
	int finished;   /* the engine has given its reference back, or will in a moment */
	char text[200];
};
#define CW__BATCH_STATE 0xffu
#define CW__BATCH_TERMINAL 0x100u
#define CW__BATCH_WAITED 0x200u

/* A batch that waits for another batch or for a counter. */
struct cw__dependency {
	struct cw__list node; /* in the batch's or counter's list */
	struct cw_batch *batch;
	uint64_t value; /* counter */
	int ok;         /* how it came; set when it left that list */
};

struct cw_counter {
	struct cw_engine *engine;
	pid_t process; /* that opened it */
	pthread_mutex_t lock;
	uint64_t value;
	struct cw__list dependents;
};

/* slice.c; on the loop, except that any thread may fill and pin a slice of its own */
struct cw__slice *cw__slice_take(struct cw_loop *loop); /* NULL = none is left */
void cw__slice_give(struct cw_loop *loop, struct cw__slice *slice);
/* How long a slice of at most `length` bytes may be so that it has at most `pieces` pieces. */
uint64_t cw__slice_limit(const struct cw__request *request, uint64_t length, uint32_t pieces);
void cw__slice_fill(struct cw__slice *slice, struct cw__request *request, unsigned rail, uint64_t offset,
		    uint64_t length);
/* Both ends stay as they are while the slice is under way. */
int cw__slice_pin(struct cw__slice *slice);
void cw__slice_unpin(struct cw__slice *slice);
/* The shortest run that is contiguous on both sides. */
uint64_t cw__request_run(const struct cw__request *request);
/* On the loop, when the request has found no way: for ERR_NO_PATH the batch's text says what each transport lacks. */
void cw__path_refused(struct cw__request *request, int status);
/* Gives its buffer back, if it has one. */
void cw__slice_unland(struct cw__slice *slice);
/* The contiguous run of local memory that byte `at` of a slice begins. */
uint64_t cw__slice_local_run(const struct cw__slice *slice, uint64_t at, uint64_t *address_out);
unsigned cw__slice_walk(const struct cw__slice *slice, uint64_t offset, struct cw_piece *pieces_out, unsigned max);

/* window.c; on the loop: which part of a request is worked on now */
/* The range that the peer has to be asked for. */
void cw__window_wanted(const struct cw__request *request, uint64_t *from_out, uint64_t *to_out);
void cw__window_open(struct cw__request *request); /* its target is READY */
/* Its target went away: what replaces it may be cut differently. The window is begun again if nothing of it is in
 * flight. */
void cw__window_again(struct cw__request *request);
void cw__window_next(struct cw__request *request); /* everything so far is quiet */

/* schedule.c */
void cw__segment_make_busy(struct cw_segment *segment); /* on the loop: it pumps soon */
void cw__loop_make_busy(struct cw_loop *loop);          /* every segment of it does */
/* On the loop: the end of a slice that nobody works on any more. The request may be gone then. */
void cw__slice_over(struct cw__slice *slice, int status, enum cw_remote_state remote);
/* On the loop: posts slices of one request and one rail; what is not taken goes back to their request. */
void cw__slices_post(struct cw__request *request, unsigned rail, struct cw__slice **slices, unsigned count);
void cw__request_begin(struct cw__request *request); /* on the loop */
void cw__segment_pump(struct cw_segment *segment);   /* on the loop */
/* On the loop: calls visit for each request under way there, which may end it and others. */
void cw__segment_visit(struct cw_segment *segment, void (*visit)(struct cw__request *request, int status), int status);
int cw__segment_copy_some(struct cw_segment *segment); /* on the loop: a bounded piece of synchronous work; 1 = more */
void cw__request_stop(struct cw__request *request, int status); /* on the loop: end it as soon as it is quiet */
void cw__slice_done(struct cw_slice *slice, int status, enum cw_remote_state remote);
unsigned cw__slice_pieces(const struct cw_slice *slice, uint64_t offset, struct cw_piece *pieces_out, unsigned max);
/* Copies up to budget bytes of a request with a synchronous path in the calling thread. 1 = it ended. */
int cw__request_inline(struct cw__request *request, uint64_t *budget);
/* On the loop: finds the way and queues the request; the caller pumps. */
void cw__request_enqueue(struct cw__request *request);
/* On the loop: asks for the remote region anew, once. 1 = it was started again. */
int cw__request_refresh(struct cw__request *request);
/* The best way that does without the transports in skip. */
int cw__request_choose(struct cw__request *request, uint32_t skip, struct cw__path *path_out);

/* inline.c: copies up to budget bytes of a batch that nobody else knows yet, in the submitter's thread; returns how
 * many requests are complete. What it left may be tried with cw__request_inline(). */
size_t cw__batch_copy_inline(struct cw_batch *batch, struct cw__shard *shard, uint64_t *budget);

/* retry.c; on the loop */
void cw__rail_pause(struct cw_segment *segment, struct cw__rail *rail); /* longer after each failure in a row */
void cw__slice_failed(struct cw__slice *slice, int status, enum cw_remote_state remote); /* may end the request */
void cw__copy_failed(struct cw__request *request, int status);

/* batch_accept.c */
/* A checked copy of what the caller asks for, referenced by the caller and the engine; not started. shard: held by the
 * caller, or NULL. */
int cw__batch_make(struct cw_engine *engine, struct cw__shard *shard, const struct cw_request *requests, size_t count,
		   const struct cw_batch_options *options, struct cw_batch **batch_out);
/* Makes what has not ended ready for the loops, which may come to it after the submitter's call has returned. */
void cw__batch_keep(struct cw_batch *batch);

/* batch.c */
/* What the batches in a list of cw__dependency waited for has come (ok), or never will. */
void cw__dependents_release(struct cw__list *dependents, int ok);
/* One prerequisite came, or failed; takes a reference of the batch. */
void cw__prerequisite_came(struct cw_batch *batch, int ok);
void cw__batch_request_ended(struct cw__request *request);
void cw__batch_end_soon(struct cw_batch *batch, int status);
void cw__batch_put(struct cw_batch *batch);
void cw__batch_explain(struct cw_batch *batch, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void cw__batches_cancel(struct cw_engine *engine);
/* No loop runs any more. What users still hold stays theirs, but has no engine. */
void cw__batches_close(struct cw_engine *engine);
void cw__batch_run_callback(struct cw_batch *batch);

/* notify.c */
int cw__notify_accept(struct cw_batch *batch, const struct cw_batch_options *options);
void cw__notify_send_all(struct cw_batch *batch);
void cw__batch_notified(struct cw_batch *batch);

/* ---------------------------------------------------------------------------------------------- queues */

struct cw__entry { /* a notification or peer event */
	struct cw__list node;
	enum cw_event_kind kind;
	struct cw_segment *segment;
	enum cw_peer_state state;
	struct cw_batch *batch;
	char *sender, *name;
	void *data;
	size_t length;
};

struct cw_queue {
	struct cw_engine *engine;
	struct cw__list node;    /* engine->queues; engine->lock */
	pthread_mutex_t lock;    /* the rest */
	struct cw__list batches; /* cw_batch.queue_node */
	struct cw__list entries; /* cw__entry.node */
	size_t notifications;
	_Atomic uint32_t pending; /* how many; futex: low bit set when not empty */
	int event_fd, fd;         /* fd is what users see */
	int armed, signaled;
};

int cw__queue_init(struct cw_queue *queue, struct cw_engine *engine);
void cw__queue_destroy(struct cw_queue *queue);
/* Publishes the batch's last word and its event together; returns the word before. */
uint32_t cw__queue_push_end(struct cw_queue *queue, struct cw_batch *batch, uint32_t word);
int cw__queue_push_notify(struct cw_queue *queue, struct cw__text sender, struct cw__text name, const void *data,
			  size_t length, size_t limit);
void cw__queue_push_peer(struct cw_queue *queue, struct cw_segment *segment, enum cw_peer_state state);
void cw__queue_push_quiet(struct cw_queue *queue, struct cw_batch *batch);
void cw__queue_forget(struct cw_queue *queue, struct cw_segment *segment);

/* ---------------------------------------------------------------------------------------------- engine */

struct cw__host { /* what parts get */
	struct cw_host base;
	struct cw_engine *engine;
};

static inline struct cw_engine *cw__engine_of(const struct cw_host *host)
{
	return ((const struct cw__host *)host->real)->engine;
}

struct cw__part {
	struct cw__host host; /* what this part gets: tells parts apart */
	const struct cw_transport_ops *ops;
	uint32_t flags;    /* enum cw_transport_flags: its own and those of what it wraps */
	const char *wraps; /* the transport that it wraps, or NULL */
	void *state;
	int on;
	char why[512];
	struct cw_blob description; /* what describe() gave */
};

struct cw__platform_part {
	const struct cw_platform_ops *ops;
	void *state;
	int on;
	char why[512];
};

struct cw__sender { /* the newest notifications of one instance, to drop duplicates */
	unsigned char instance[CW__INSTANCE_BYTES];
	uint64_t newest, seen; /* seen: bit i = newest - i arrived */
};
#define CW__SENDERS 1024

struct cw_engine {
	struct cw__host host;
	struct cw__config config;
	struct cw__log log;
	char name[256]; /* what peers open; constant once parts are open */
	char bind_host[80];
	uint16_t port;
	unsigned char instance[CW__INSTANCE_BYTES];
	unsigned char machine[CW__INSTANCE_BYTES];
	unsigned char *alive; /* one page that a forked child sees as zero */
	pthread_mutex_t lock; /* segments, queues */
	struct cw__list segments, queues;
	struct cw_loop *loops;
	unsigned loop_count, thread_count;
	_Atomic unsigned loop_next;
	_Atomic int stopping;
	struct cw__part parts[CW__PARTS_MAX];
	unsigned part_count;
	struct cw__platform_part platforms[CW__PARTS_MAX];
	unsigned platform_count;
	const struct cw_metadata_ops *metadata_ops;
	void *metadata;
	struct cw__directory *directory;
	struct cw__control *control;
	void *libraries[CW__PARTS_MAX]; /* of plug-ins */
	const struct cw_plugin *plugins[CW__PARTS_MAX];
	unsigned library_count;
	pthread_mutex_t region_lock; /* index changes, slots, registrations, keys */
	uint64_t keys[CW__KEYS];     /* random, for regions to come */
	unsigned keys_left;
	struct cw__index *index;
	_Atomic(struct cw_region *) *slots; /* array of blocks; see region.c */
	_Atomic uint32_t slot_count;
	struct cw_region *free_regions;
	_Atomic uint64_t regions_alive;
	_Atomic uint64_t segments_alive, batches_alive, batches_unfinished;
	struct cw__shard *shards;   /* CW__SHARDS */
	pthread_mutex_t batch_lock; /* batches, free_batches */
	struct cw__list batches;    /* all there are */
	struct cw_batch *free_batches;
	_Atomic unsigned free_batch_count;
	struct cw_queue queue;
	struct cw__counters counters;
	_Atomic uint64_t next_slice, next_notify;
	pthread_mutex_t sender_lock;
	struct cw__sender *senders; /* CW__SENDERS, or NULL before the first notification */
	uint64_t grace, spin, retries, max_slices;
	int verify_memory;
	struct cw__staging *staging;
	int kept; /* a part left threads behind that may come back to it; closing */
};

/* CW_OK, or ERR_INVALID / ERR_FORKED with the thread's error text. */
int cw__engine_check(const struct cw_engine *engine);
struct cw_loop *cw__loop_choose(struct cw_engine *engine);
extern const struct cw_host_ops cw__host_ops;
void cw__host_import_done(struct cw_import *token, int status, void *import);
void cw__host_import_revoked(struct cw_host *host, struct cw_peer *peer, uint64_t region_id, void (*done)(void *arg),
			     void *arg);
void cw__host_peer_failed(struct cw_host *host, struct cw_peer *peer, int status, const char *text);
void cw__host_rail_ready(struct cw_host *host, struct cw_peer *peer, unsigned rail);
void cw__host_rail_state(struct cw_host *host, struct cw_peer *peer, unsigned rail, int status);
int cw__host_access_check(struct cw_host *host, const struct cw_claim *claim);
int cw__host_access_begin(struct cw_host *host, const struct cw_claim *claim, struct cw_grant *grant_out);
int cw__host_access_end(struct cw_host *host, struct cw_grant *grant, uint64_t moved);
const struct cw_region_view *cw__host_region_get(struct cw_host *host, uint64_t id, uint64_t key);
void cw__host_region_put(struct cw_host *host, const struct cw_region_view *view);
void cw__host_revoke_done(struct cw_revocation *token);
const struct cw_transport_ops *cw__host_wrap(struct cw_host *host, const char *name);
int cw__parts_open(struct cw_engine *engine);
void cw__parts_close(struct cw_engine *engine);
void cw__platforms_close(struct cw_engine *engine);

#endif
