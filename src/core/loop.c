/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A loop: one epoll set, its timers and tasks, and whoever drives it. Its lock is the right to drive. Normally its
 * progress thread sleeps in epoll_wait without the lock; a caller that waits for a batch drives instead, so that a
 * synchronous caller pays no thread switch, and the progress thread parks as long as callers keep coming.
 */
#include <core/device.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <util/thread.h>

#define PARK_NS (500 * 1000ull) /* how long the progress thread stays away after a caller drove */
#define PARK_MOST (8 * PARK_NS) /* and when callers come again and again: each look costs them about 40 us */
#define LOOKS 8u                /* so often it sees the same caller drive before it trusts it to wake us */
#define PARKED 1u               /* loop->park: for PARK_NS */
#define PARKED_LONG 2u          /* until the caller that drives goes */
#define VISITS_PER_TURN 64      /* segments that are looked at in a turn */
#define COPIES_PER_TURN 4       /* chunks of synchronous work between two looks at the descriptors */
#define POLLS_PER_TURN 8u       /* looks at the busiest descriptor alone for one at all of them */
#define DOUBTS_MAX 63u
#define CROWD_NS (20 * 1000ull) /* a caller that finds others driving spins no longer than this */

/* ------------------------------------------------------------------------------------------- futexes */

static long futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, FUTEX_BITSET_MATCH_ANY);
}

void cw__futex_wake_all(_Atomic uint32_t *word)
{
	futex(word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
}

/* CW_OK when woken, changed or interrupted; ERR_AGAIN at `until` (CLOCK_MONOTONIC). */
int cw__futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t until)
{
	struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };

	if (futex(word, FUTEX_WAIT_BITSET_PRIVATE, value, until == CW_FOREVER ? NULL : &at) == 0)
		return CW_OK;
	return errno == ETIMEDOUT ? CW_ERR_AGAIN : CW_OK;
}

/* -------------------------------------------------------------------------------------- descriptors */

int cw__io_add(struct cw_loop *loop, struct cw_io *io)
{
	struct epoll_event event = { .events = io->events, .data.ptr = io };

	io->loop = loop;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, io->fd, &event)) {
		io->loop = NULL;
		return errno == ENOMEM || errno == ENOSPC ? CW_ERR_NO_MEMORY : CW_ERR_IO;
	}
	return CW_OK;
}

int cw__io_modify(struct cw_io *io, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = io };

	if (io->events == events)
		return CW_OK;
	io->events = events;
	return epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &event) ? CW_ERR_IO : CW_OK;
}

void cw__io_remove(struct cw_io *io)
{
	struct cw_loop *loop = io->loop;

	if (!loop)
		return;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
	for (int i = loop->event_next; i < loop->event_count; i++)
		if (loop->events[i].data.ptr == io)
			loop->events[i].data.ptr = NULL;
	if (loop->hot == io)
		loop->hot = NULL;
	io->loop = NULL;
}

/* ---------------------------------------------------------------------------------- being woken up */

/* One caller waits, in epoll_wait or spinning: it handles whatever comes. */
static int is_driven_by_one(struct cw_loop *loop)
{
	return atomic_load_explicit(&loop->drivers, memory_order_seq_cst) == 1 &&
	       !atomic_load_explicit(&loop->futex_waiters, memory_order_seq_cst);
}

static void unpark(struct cw_loop *loop)
{
	if (atomic_exchange_explicit(&loop->park, 0, memory_order_acq_rel))
		cw__futex_wake_all(&loop->park);
}

static void wake_sleeper(struct cw_loop *loop)
{
	uint64_t one = 1;

	if (!atomic_load_explicit(&loop->sleeping, memory_order_relaxed))
		return;
	if (atomic_exchange_explicit(&loop->wake_pending, 1, memory_order_acq_rel))
		return;
	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		return; /* full means readable: the sleeper wakes anyway */
}

void cw__loop_kick(struct cw_loop *loop)
{
	/* Pairs with the fence in prepare_sleep(): either we see the sleeper, or it sees our work. */
	atomic_thread_fence(memory_order_seq_cst);
	unpark(loop);
	wake_sleeper(loop);
}

void cw__task_post(struct cw_loop *loop, struct cw_task *task)
{
	struct cw_task *head = atomic_load_explicit(&loop->inbox, memory_order_relaxed);

	do
		task->next = head;
	while (!atomic_compare_exchange_weak_explicit(&loop->inbox, &head, task, memory_order_release,
						      memory_order_relaxed));
	atomic_thread_fence(memory_order_seq_cst);
	/* A caller that waits alone sees the inbox, or kicks when it goes: no need for the progress thread. */
	if (!is_driven_by_one(loop))
		unpark(loop);
	wake_sleeper(loop);
}

void cw__loop_scan(struct cw_loop *loop)
{
	atomic_store_explicit(&loop->scan_wanted, 1, memory_order_release);
	cw__loop_kick(loop);
}

static void wake_ready(struct cw_io *io, uint32_t events)
{
	struct cw_loop *loop = cw__container(io, struct cw_loop, wake_io);
	uint64_t count;

	(void)events;
	/* As long as anybody sleeps it stays readable: a kick may be meant for that one, not for us. A loop without a
	 * thread counts one sleeper that is none. */
	if (atomic_load_explicit(&loop->sleeping, memory_order_acquire) > !loop->engine->thread_count)
		return;
	/* Emptied before it is marked so: the other way round, a kick between the two would be the last one ever. One
	 * that is not written because of that is seen by whoever wants to sleep next. */
	if (read(io->fd, &count, sizeof(count)) < 0)
		count = 0;
	atomic_exchange_explicit(&loop->wake_pending, 0, memory_order_acq_rel);
}

static void timer_ready(struct cw_io *io, uint32_t events)
{
	struct cw_loop *loop = cw__container(io, struct cw_loop, timer_io);
	uint64_t count;

	(void)events;
	loop->armed_at = CW_FOREVER;
	if (read(io->fd, &count, sizeof(count)) < 0)
		return;
}

/* ------------------------------------------------------------------------------------------- a turn */

static int run_tasks(struct cw_loop *loop)
{
	struct cw_task *task, *ordered = NULL;

	if (!atomic_load_explicit(&loop->inbox, memory_order_relaxed))
		return 0;
	task = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire);
	while (task) { /* pushed last comes first: turn it round */
		struct cw_task *next = task->next;

		task->next = ordered;
		ordered = task;
		task = next;
	}
	while (ordered) {
		task = ordered;
		ordered = task->next;
		task->run(task);
	}
	return 1;
}

static int run_timers(struct cw_loop *loop)
{
	uint64_t now;
	int any = 0;

	if (!loop->timers)
		return 0;
	now = cw__now();
	while (loop->timers && loop->timers->at <= now) {
		struct cw_timer *timer = loop->timers;

		cw__timer_stop(loop, timer);
		timer->fire(timer);
		any = 1;
	}
	return any;
}

static int run_events(struct cw_loop *loop)
{
	int count = epoll_wait(loop->epoll_fd, loop->events, 64, 0), any = 0;

	loop->event_count = count > 0 ? count : 0;
	for (loop->event_next = 0; loop->event_next < loop->event_count;) {
		struct epoll_event *event = &loop->events[loop->event_next++];
		struct cw_io *io = event->data.ptr;

		if (!io)
			continue;
		any |= io != &loop->wake_io && io != &loop->timer_io;
		if (io->poll)
			loop->hot = io;
		io->ready(io, event->events);
	}
	loop->event_count = 0;
	return any;
}

/* Ends a request whose batch was canceled or timed out, or whose region was revoked. */
static void end_if_due(struct cw__request *request, int ignored)
{
	int ending = atomic_load_explicit(&request->batch->ending, memory_order_acquire), pin;

	(void)ignored;
	if (ending) {
		cw__request_stop(request, ending);
		return;
	}
	pin = cw__region_pin(request->region, request->region_id, request->local_from, request->local_to);
	if (pin < 0)
		cw__request_stop(request, pin);
	else
		cw__region_unpin(request->region, pin);
}

static void scan(struct cw_loop *loop)
{
	cw__list_each(node, &loop->segments)
		cw__segment_visit(cw__container(node, struct cw_segment, loop_node), end_if_due, CW_OK);
}

static int run_copies(struct cw_loop *loop)
{
	int any = 0;

	/* Segments that only have slices to post cost little: they do not count, but the turn ends. */
	for (unsigned copies = 0, visits = 0; copies < COPIES_PER_TURN && visits < VISITS_PER_TURN; visits++) {
		struct cw__list *node = cw__list_pop(&loop->busy);
		struct cw_segment *segment;

		if (!node)
			break;
		segment = cw__container(node, struct cw_segment, busy_node);
		any = 1;
		copies += !cw__list_empty(&segment->copies);
		if (cw__segment_copy_some(segment) && cw__list_empty(&segment->busy_node))
			cw__list_push_back(&loop->busy, &segment->busy_node);
	}
	return any;
}

static int run_transports(struct cw_loop *loop)
{
	struct cw_engine *engine = loop->engine;
	int any = 0;

	for (unsigned i = 0; i < engine->part_count; i++)
		if (engine->parts[i].on && engine->parts[i].ops->progress)
			any |= engine->parts[i].ops->progress(engine->parts[i].state, loop) > 0;
	return any;
}

int cw__loop_turn(struct cw_loop *loop)
{
	int any = run_tasks(loop);

	any |= run_events(loop);
	any |= run_timers(loop);
	any |= run_transports(loop);
	if (atomic_exchange_explicit(&loop->scan_wanted, 0, memory_order_acq_rel))
		scan(loop);
	any |= run_copies(loop);
	return any;
}

/* A turn of somebody who spins. In a busy exchange the next bytes come where the last ones came, and a socket that is
 * read at once is one system call instead of two. */
static int spin_turn(struct cw_loop *loop)
{
	int any;

	if (!loop->hot || ++loop->polls % POLLS_PER_TURN == 0)
		return cw__loop_turn(loop);
	any = run_tasks(loop);
	if (loop->hot)
		any |= loop->hot->poll(loop->hot);
	any |= run_transports(loop);
	any |= run_copies(loop);
	return any;
}

/* ------------------------------------------------------------------------------------------ sleeping */

static void arm_timer(struct cw_loop *loop)
{
	uint64_t at = loop->timers ? loop->timers->at : CW_FOREVER;
	struct itimerspec when = { 0 };

	/* Later than armed is left alone: an early wake-up costs less than a system call for each batch. */
	if (at == loop->armed_at || (at > loop->armed_at && at != CW_FOREVER))
		return;
	if (at != CW_FOREVER) {
		when.it_value.tv_sec = (time_t)(at / CW__SECOND);
		when.it_value.tv_nsec = (long)(at % CW__SECOND) + (at == 0);
	}
	if (!timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL))
		loop->armed_at = at;
}

/* Transports without descriptors: how long may we sleep? ERR_BUSY = not at all. */
static int arm_transports(struct cw_loop *loop, uint64_t *until)
{
	struct cw_engine *engine = loop->engine;

	for (unsigned i = 0; i < engine->part_count; i++) {
		uint64_t poll_in = CW_FOREVER;

		if (!engine->parts[i].on || !engine->parts[i].ops->arm)
			continue;
		if (engine->parts[i].ops->arm(engine->parts[i].state, loop, &poll_in) == CW_ERR_BUSY)
			return CW_ERR_BUSY;
		if (poll_in != CW_FOREVER && cw__after(cw__now(), poll_in) < *until)
			*until = cw__after(cw__now(), poll_in);
	}
	return CW_OK;
}

/* With the lock: 1 = the caller may block in epoll_wait now (until *until at the latest). */
static int prepare_sleep(struct cw_loop *loop, uint64_t *until)
{
	if (arm_transports(loop, until))
		return 0;
	arm_timer(loop);
	atomic_fetch_add_explicit(&loop->sleeping, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst); /* pairs with cw__loop_kick() */
	if (atomic_load_explicit(&loop->inbox, memory_order_relaxed) ||
	    atomic_load_explicit(&loop->scan_wanted, memory_order_relaxed) || !cw__list_empty(&loop->busy) ||
	    !cw__list_empty(&loop->ended) || /* nobody counts as sleeping in a callback */
	    atomic_load_explicit(&loop->engine->stopping, memory_order_relaxed)) {
		atomic_fetch_sub_explicit(&loop->sleeping, 1, memory_order_relaxed);
		return 0;
	}
	return 1;
}

static void sleep_until(struct cw_loop *loop, uint64_t until)
{
	struct epoll_event ignored;
	uint64_t now = until == CW_FOREVER ? 0 : cw__now();
	int timeout = -1;

	if (until != CW_FOREVER)
		timeout = until <= now ? 0
				       : (int)((until - now) / CW__MS >= INT_MAX ? INT_MAX
										 : (until - now + CW__MS - 1) / CW__MS);
	epoll_wait(loop->epoll_fd, &ignored, 1, timeout);
	atomic_fetch_sub_explicit(&loop->sleeping, 1, memory_order_relaxed);
}

/* ----------------------------------------------------------------------------------------- the lock */

static _Thread_local struct cw_loop *current;

struct cw_loop *cw__loop_current(void)
{
	return current;
}

void cw__loop_lock(struct cw_loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	current = loop;
}

/* A thread that holds a loop already gets no other: two loops could wait for each other. */
int cw__loop_trylock(struct cw_loop *loop)
{
	if (current || pthread_mutex_trylock(&loop->lock))
		return 0;
	current = loop;
	return 1;
}

static void unlock(struct cw_loop *loop, int kick)
{
	kick |= !cw__list_empty(&loop->busy);
	if (atomic_load_explicit(&loop->sleeping, memory_order_relaxed))
		arm_timer(loop); /* the sleeper armed what was earliest before us */
	current = NULL;
	pthread_mutex_unlock(&loop->lock);
	if (kick)
		cw__loop_kick(loop);
}

static void run_callbacks(struct cw__list *ended)
{
	while (!cw__list_empty(ended))
		cw__batch_run_callback(cw__container(cw__list_pop(ended), struct cw_batch, ended_node));
}

void cw__loop_unlock(struct cw_loop *loop)
{
	struct cw__list ended;

	cw__list_init(&ended);
	cw__list_splice(&ended, &loop->ended);
	unlock(loop, 0);
	run_callbacks(&ended);
}

void cw__engine_help(struct cw_engine *engine)
{
	for (unsigned i = 0; i < engine->loop_count; i++) {
		struct cw_loop *loop = &engine->loops[i];

		if (!cw__loop_trylock(loop))
			continue;
		cw__loop_turn(loop);
		unlock(loop, !cw__list_empty(&loop->ended));
	}
}

/* ------------------------------------------------------------------------------------------- patience */

/* How long to spin is learned from how long it took until something came. Spinning that was in vain is believed at
 * once; that it would have paid, where somebody slept for a short time only, the less the more often it did not. */
static uint64_t patience_of(const struct cw__patience *patience)
{
	return atomic_load_explicit(&patience->ns, memory_order_relaxed);
}

static void patience_paid(struct cw__patience *patience, uint64_t most)
{
	if (patience_of(patience) != most)
		atomic_store_explicit(&patience->ns, most, memory_order_relaxed);
	if (atomic_load_explicit(&patience->doubts, memory_order_relaxed))
		atomic_store_explicit(&patience->doubts, 0, memory_order_relaxed);
}

static void patience_failed(struct cw__patience *patience, uint64_t least)
{
	unsigned doubts = atomic_load_explicit(&patience->doubts, memory_order_relaxed) * 2 + 1;
	uint64_t ns = patience_of(patience) / 2;

	atomic_store_explicit(&patience->ns, ns < least ? least : ns, memory_order_relaxed);
	atomic_store_explicit(&patience->doubts, doubts < DOUBTS_MAX ? doubts : DOUBTS_MAX, memory_order_relaxed);
	atomic_store_explicit(&patience->owed, doubts < DOUBTS_MAX ? doubts : DOUBTS_MAX, memory_order_relaxed);
}

/* Slept, and something came `gap` after what came before. */
static void patience_slept(struct cw__patience *patience, uint64_t gap, uint64_t most)
{
	unsigned owed = atomic_load_explicit(&patience->owed, memory_order_relaxed);

	if (gap >= most)
		return;
	if (owed)
		atomic_store_explicit(&patience->owed, owed - 1, memory_order_relaxed);
	else
		atomic_store_explicit(&patience->ns, most, memory_order_relaxed);
}

/* ---------------------------------------------------------------------------------- progress thread */

/* Awake a little longer than there is work. 1 = something came, or a caller that drives in our place. */
static int spin(struct cw_loop *loop, uint64_t *last)
{
	uint64_t now = cw__now(), begin = now, budget = patience_of(&loop->patience);
	int any = 0;

	if (!budget)
		return 0;
	do {
		if (atomic_load_explicit(&loop->drivers, memory_order_relaxed) ||
		    atomic_load_explicit(&loop->engine->stopping, memory_order_relaxed))
			return 1;
		if (!cw__loop_trylock(loop))
			continue;
		any = spin_turn(loop);
		cw__loop_unlock(loop);
		now = cw__now();
		if (any) {
			patience_paid(&loop->patience, loop->engine->spin);
			begin = *last = now;
		}
	} while (now - begin < budget);
	patience_failed(&loop->patience, 0);
	return 0;
}

/* What the progress thread knows of those who drive in its place. */
struct absence {
	uint32_t epoch;
	unsigned looks; /* at the same caller */
	uint64_t pause;
};

/* 1 = a caller drives, or did a moment ago; we stayed away meanwhile, the longer the more often we find that callers
 * came in between. A caller that has been waiting for a while is left alone until it goes; it wakes us then. */
static int stay_away(struct cw_loop *loop, struct absence *absence)
{
	uint32_t epoch = atomic_load_explicit(&loop->drive_epoch, memory_order_acquire), parked;
	int driven = atomic_load_explicit(&loop->drivers, memory_order_acquire) != 0, moved = epoch != absence->epoch;

	if (!driven && !moved) {
		absence->pause = PARK_NS;
		return 0;
	}
	absence->epoch = epoch;
	absence->looks = moved ? 0 : absence->looks + 1;
	absence->pause = moved && absence->pause < PARK_MOST ? 2 * absence->pause : absence->pause;
	parked = absence->looks >= LOOKS ? PARKED_LONG : PARKED;
	/* Pairs with cw__loop_kick() and the end of cw__loop_wait(): either we see why not, or they see us. */
	atomic_store_explicit(&loop->park, parked, memory_order_seq_cst);
	if (!atomic_load_explicit(&loop->inbox, memory_order_seq_cst) &&
	    !atomic_load_explicit(&loop->engine->stopping, memory_order_seq_cst) &&
	    (parked == PARKED || atomic_load_explicit(&loop->drivers, memory_order_seq_cst)))
		cw__futex_wait(&loop->park, parked, parked == PARKED ? cw__now() + absence->pause : CW_FOREVER);
	/* Kicked, and the caller that did it does not wait for what it wanted: drive at once. */
	return atomic_exchange_explicit(&loop->park, 0, memory_order_acq_rel) != 0 ||
	       (is_driven_by_one(loop) && !atomic_load_explicit(&loop->scan_wanted, memory_order_seq_cst) &&
		!atomic_load_explicit(&loop->engine->stopping, memory_order_seq_cst));
}

static void *progress_main(void *arg)
{
	struct cw_loop *loop = arg;
	struct absence absence = { 0, 0, PARK_NS };
	uint64_t last = 0; /* when something came */
	int slept = 0;

	while (!atomic_load_explicit(&loop->engine->stopping, memory_order_acquire)) {
		uint64_t until = CW_FOREVER, now;
		int any, asleep = 0;

		if (stay_away(loop, &absence))
			continue;
		cw__loop_lock(loop);
		/* Most likely what woke us, and one system call less until it is served. */
		any = slept && loop->hot && loop->hot->poll(loop->hot);
		any |= cw__loop_turn(loop);
		cw__loop_unlock(loop);
		if (any) {
			now = cw__now();
			if (slept)
				patience_slept(&loop->patience, now - last, loop->engine->spin);
			last = now;
			slept = 0;
			if (patience_of(&loop->patience))
				continue; /* else whether there is more is found out by going to sleep */
		}
		if (spin(loop, &last))
			continue;
		cw__loop_lock(loop);
		asleep = prepare_sleep(loop, &until);
		cw__loop_unlock(loop);
		if (!asleep)
			continue;
		sleep_until(loop, until);
		slept = 1;
		cw__count(loop->engine, wakeups, 1);
	}
	return NULL;
}

int cw__loop_start(struct cw_loop *loop)
{
	int failed = cw__thread_start(&loop->thread, NULL, progress_main, loop);

	if (failed)
		return cw__fail(CW_ERR_NO_MEMORY, "cannot start a progress thread: %s", strerror(failed));
	loop->has_thread = 1;
	return CW_OK;
}

void cw__loop_stop(struct cw_loop *loop)
{
	if (!loop->has_thread)
		return;
	atomic_fetch_add_explicit(&loop->sleeping, 1, memory_order_relaxed); /* force the write */
	cw__loop_kick(loop);
	pthread_join(loop->thread, NULL);
	atomic_fetch_sub_explicit(&loop->sleeping, 1, memory_order_relaxed);
	loop->has_thread = 0;
}

/* --------------------------------------------------------------------------------- waiting callers */

static void start_driving(struct cw_loop *loop)
{
	atomic_fetch_add_explicit(&loop->drivers, 1, memory_order_acq_rel);
}

/* What others left to us because we were there is for the progress thread now. */
static void stop_driving(struct cw_loop *loop)
{
	atomic_fetch_add_explicit(&loop->drive_epoch, 1, memory_order_release);
	if (atomic_fetch_sub_explicit(&loop->drivers, 1, memory_order_seq_cst) == 1 &&
	    (atomic_load_explicit(&loop->inbox, memory_order_seq_cst) ||
	     atomic_load_explicit(&loop->park, memory_order_seq_cst) == PARKED_LONG))
		cw__loop_kick(loop);
}

/* A caller that drives does not while it is in callbacks, which may take long. */
static void unlock_driven(struct cw_loop *loop)
{
	struct cw__list ended;

	cw__list_init(&ended);
	cw__list_splice(&ended, &loop->ended);
	unlock(loop, 0);
	if (cw__list_empty(&ended))
		return;
	stop_driving(loop);
	run_callbacks(&ended);
	start_driving(loop);
}

/* Drives as long as something comes in time. *last is when it last did. 1 = the word has changed. */
static int drive_spinning(struct cw_loop *loop, _Atomic uint32_t *word, uint32_t mask, uint64_t until, uint64_t *last)
{
	uint64_t now = *last, budget = patience_of(&loop->callers_patience);

	while (!(atomic_load_explicit(word, memory_order_acquire) & mask)) {
		int any = 0, crowd = 1;

		if (cw__loop_trylock(loop)) {
			any = spin_turn(loop);
			unlock_driven(loop);
			crowd = 0;
		}
		now = cw__now();
		if (any) {
			patience_paid(&loop->callers_patience, loop->engine->spin);
			*last = now;
		}
		if (now >= until || (crowd && now - *last >= CROWD_NS))
			break;
		if (now - *last >= budget) {
			patience_failed(&loop->callers_patience, loop->engine->spin / 32);
			break;
		}
	}
	return (atomic_load_explicit(word, memory_order_acquire) & mask) != 0;
}

/* Blocks in epoll_wait as the loop's driver, or on the word when another caller already does. */
static void block(struct cw_loop *loop, _Atomic uint32_t *word, uint32_t mask, uint64_t until)
{
	uint64_t wake_at = until;
	uint32_t value;

	if (!atomic_exchange_explicit(&loop->blocking_driver, 1, memory_order_seq_cst)) {
		int asleep;

		cw__loop_lock(loop);
		asleep = prepare_sleep(loop, &wake_at);
		/* Marked and looked at after we count as sleeping: who changes it later kicks us. */
		if (asleep && atomic_fetch_or_explicit(word, CW__BATCH_WAITED, memory_order_seq_cst) & mask) {
			atomic_fetch_sub_explicit(&loop->sleeping, 1, memory_order_relaxed);
			asleep = 0;
		}
		unlock_driven(loop);
		if (asleep)
			sleep_until(loop, wake_at);
		atomic_store_explicit(&loop->blocking_driver, 0, memory_order_release);
		return;
	}
	atomic_fetch_add_explicit(&loop->futex_waiters, 1, memory_order_seq_cst);
	value = atomic_fetch_or_explicit(word, CW__BATCH_WAITED, memory_order_seq_cst) | CW__BATCH_WAITED;
	/* The driver may have left since; never sleep so long that nobody takes over. */
	if (wake_at > cw__now() + 2 * CW__MS)
		wake_at = cw__now() + 2 * CW__MS;
	if (!(value & mask))
		cw__futex_wait(word, value, wake_at);
	atomic_fetch_sub_explicit(&loop->futex_waiters, 1, memory_order_seq_cst);
}

void cw__loop_signal(struct cw_loop *loop, _Atomic uint32_t *word, uint32_t before)
{
	if (!(before & CW__BATCH_WAITED))
		return;
	cw__futex_wake_all(word);
	atomic_thread_fence(memory_order_seq_cst);
	/* Whoever waits may instead sleep in epoll_wait, where only an event wakes it; also while we have its turn. */
	if (atomic_load_explicit(&loop->blocking_driver, memory_order_relaxed))
		cw__loop_kick(loop);
}

int cw__loop_wait(struct cw_loop *loop, _Atomic uint32_t *word, uint32_t mask, uint64_t until)
{
	int done = (atomic_load_explicit(word, memory_order_acquire) & mask) != 0;
	uint64_t last;

	if (done || until == 0)
		return done ? CW_OK : CW_ERR_AGAIN;
	start_driving(loop);
	last = cw__now();
	for (;;) {
		uint64_t now;

		done = drive_spinning(loop, word, mask, until, &last);
		if (done || cw__now() >= until)
			break;
		block(loop, word, mask, until);
		now = cw__now();
		patience_slept(&loop->callers_patience, now - last, loop->engine->spin);
		last = now;
		atomic_fetch_add_explicit(&loop->drive_epoch, 1, memory_order_relaxed);
	}
	stop_driving(loop);
	return done ? CW_OK : CW_ERR_AGAIN;
}

/* ---------------------------------------------------------------------------------------- open, close */

int cw__loop_open(struct cw_loop *loop, struct cw_engine *engine)
{
	memset(loop, 0, sizeof(*loop));
	loop->engine = engine;
	loop->armed_at = CW_FOREVER;
	atomic_init(&loop->callers_patience.ns, engine->spin);
	pthread_mutex_init(&loop->lock, NULL);
	cw__list_init(&loop->segments);
	cw__list_init(&loop->busy);
	cw__list_init(&loop->free_slices);
	cw__list_init(&loop->slabs);
	cw__list_init(&loop->ended);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	loop->wake_io = (struct cw_io){ .fd = loop->wake_fd, .events = EPOLLIN, .ready = wake_ready };
	loop->timer_io = (struct cw_io){ .fd = loop->timer_fd, .events = EPOLLIN, .ready = timer_ready };
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 || loop->timer_fd < 0 || cw__io_add(loop, &loop->wake_io) ||
	    cw__io_add(loop, &loop->timer_io)) {
		int status = cw__fail(CW_ERR_LIMIT, "cannot open an event loop: %s; raise the limit of open files",
				      strerror(errno));

		cw__loop_close(loop);
		return status;
	}
	return CW_OK;
}

void cw__loop_close(struct cw_loop *loop)
{
	int fds[] = { loop->epoll_fd, loop->wake_fd, loop->timer_fd };

	for (size_t i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	while (!cw__list_empty(&loop->slabs))
		free(cw__list_pop(&loop->slabs));
	cw__arena_free(&loop->arena);
	pthread_mutex_destroy(&loop->lock);
}
