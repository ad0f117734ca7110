/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that ask recorded events whether they have happened; see watch.h. */
#include <platforms/gpu/watch.h>
#include <util/clock.h>
#include <util/thread.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>

/* After this many rounds without an end the thread pauses between rounds, longer each time. */
#define EAGER_ROUNDS 50u
#define PAUSE_FIRST 5000u /* ns */
#define PAUSE_LONGEST 200000u
#define CLOSE_WITHIN CW__SECOND /* then a thread is stuck in a call of a runtime */
#define WATCHERS (CW__GPU_VENDORS * CW__GPU_DEVICES_MAX)

/* Of one device. */
struct watcher {
	pthread_cond_t wake;
	pthread_t thread;
	int running, stop, exited;
	int stuck; /* it did not answer when it was asked last: nobody waits for its end */
	struct cw__gpu_track *incoming;
	const void *closing; /* the owner whose watches the thread is asked to drop */
};

static struct {
	pthread_mutex_t life; /* outermost: of owners, and of ending threads */
	pthread_mutex_t lock; /* of all others */
	pthread_cond_t closed;
	int ready; /* closed is made */
	unsigned owners;
	struct watcher watchers[CW__GPU_VENDORS][CW__GPU_DEVICES_MAX];
} all = {
	.life = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

/* What the thread alone knows. */
struct rounds {
	struct watcher *watcher;
	struct cw__gpu_track *pending, *ended;
	unsigned idle; /* rounds since something ended */
	uint64_t pause;
};

static int query(const struct cw__gpu_track *track)
{
	struct cw__gpu_scope scope;
	int result = track->gpu->enter(track->device, &scope);

	if (result)
		return result;
	result = track->gpu->event_query(track->event);
	track->gpu->leave(&scope);
	return result;
}

static void finish(struct cw__gpu_track *track, int result)
{
	cw_device_ready_fn ready = track->ready;
	void *arg = track->arg;

	cw__gpu_track_give(track, result);
	ready(arg, result ? CW_ERR_IO : CW_OK);
}

/* Moves what has ended to the other list. The lock is not held. */
static void ask_all(struct rounds *rounds)
{
	for (struct cw__gpu_track **at = &rounds->pending, *track; (track = *at) != NULL;) {
		track->status = query(track);
		if (track->status == CW__GPU_NOT_READY) {
			at = &track->next;
			continue;
		}
		*at = track->next;
		track->next = rounds->ended;
		rounds->ended = track;
	}
}

static void finish_all(struct rounds *rounds)
{
	struct cw__gpu_track *track;

	rounds->idle = rounds->ended ? 0 : rounds->idle + 1;
	while ((track = rounds->ended) != NULL) {
		rounds->ended = track->next;
		finish(track, track->status);
	}
}

/* Under the lock: takes what is new, drops what belongs to who closes. */
static void collect(struct rounds *rounds)
{
	struct watcher *watcher = rounds->watcher;
	struct cw__gpu_track *track;

	if (watcher->incoming)
		rounds->idle = 0;
	while ((track = watcher->incoming) != NULL) {
		watcher->incoming = track->next;
		track->next = rounds->pending;
		rounds->pending = track;
	}
	for (struct cw__gpu_track **at = &rounds->pending; watcher->closing && (track = *at) != NULL;) {
		if (track->owner != watcher->closing) {
			at = &track->next;
			continue;
		}
		*at = track->next;
		track->status = CW__GPU_NOT_READY;
		track->next = rounds->ended;
		rounds->ended = track;
	}
}

/* What is left at the end are watches of owners that did not wait for the answer. */
static void drop_rest(struct rounds *rounds)
{
	struct cw__gpu_track *track;

	while ((track = rounds->pending) != NULL) {
		rounds->pending = track->next;
		finish(track, CW__GPU_NOT_READY);
	}
}

/* Under the lock, which is let go meanwhile. A new watch ends the pause. */
static void pause_round(struct rounds *rounds)
{
	struct timespec until;
	uint64_t at;

	if (rounds->idle < EAGER_ROUNDS) {
		rounds->pause = PAUSE_FIRST;
		pthread_mutex_unlock(&all.lock);
		sched_yield();
		pthread_mutex_lock(&all.lock);
		return;
	}
	at = cw__now() + rounds->pause;
	until.tv_sec = (time_t)(at / CW__SECOND);
	until.tv_nsec = (long)(at % CW__SECOND);
	pthread_cond_timedwait(&rounds->watcher->wake, &all.lock, &until);
	if (rounds->pause < PAUSE_LONGEST)
		rounds->pause *= 2;
}

static void *run(void *arg)
{
	struct watcher *watcher = arg;
	struct rounds rounds = { .watcher = watcher, .pause = PAUSE_FIRST };

	pthread_mutex_lock(&all.lock);
	while (!watcher->stop) {
		const void *closing = watcher->closing;

		collect(&rounds);
		if (!rounds.pending && !rounds.ended && !closing) {
			pthread_cond_wait(&watcher->wake, &all.lock);
			continue;
		}
		pthread_mutex_unlock(&all.lock);
		ask_all(&rounds);
		finish_all(&rounds);
		pthread_mutex_lock(&all.lock);
		if (closing && watcher->closing == closing) {
			watcher->closing = NULL;
			pthread_cond_broadcast(&all.closed);
		} else if (rounds.pending && !watcher->incoming && !watcher->closing) {
			pause_round(&rounds);
		}
	}
	pthread_mutex_unlock(&all.lock);
	drop_rest(&rounds);
	pthread_mutex_lock(&all.lock);
	watcher->exited = 1;
	pthread_cond_broadcast(&all.closed);
	pthread_mutex_unlock(&all.lock);
	return NULL;
}

static void condition(pthread_cond_t *condition_out)
{
	pthread_condattr_t clock;

	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(condition_out, &clock);
	pthread_condattr_destroy(&clock);
}

/* After it said that it exits. */
static void bury(struct watcher *watcher)
{
	pthread_join(watcher->thread, NULL);
	pthread_cond_destroy(&watcher->wake);
	watcher->running = 0;
	watcher->exited = 0;
}

/* Under the lock. No signal of the application is ever handled by our threads. */
static int start_thread(struct watcher *watcher)
{
	if (watcher->exited) /* late */
		bury(watcher);
	if (watcher->running)
		return CW_OK;
	if (!all.ready)
		condition(&all.closed);
	all.ready = 1;
	condition(&watcher->wake);
	if (cw__thread_start(&watcher->thread, NULL, run, watcher)) {
		pthread_cond_destroy(&watcher->wake);
		return CW_ERR_NO_MEMORY;
	}
	pthread_setname_np(watcher->thread, "cw-watch");
	watcher->running = 1;
	return CW_OK;
}

int cw__gpu_watch_add(const void *owner, struct cw__gpu_track *track, cw_device_ready_fn ready, void *arg)
{
	struct watcher *watcher = &all.watchers[track->gpu->vendor][track->device];
	int status, result = track->gpu->event_query(track->event);

	track->owner = owner;
	track->ready = ready;
	track->arg = arg;
	if (result != CW__GPU_NOT_READY) {
		finish(track, result);
		return CW_OK;
	}
	pthread_mutex_lock(&all.lock);
	status = start_thread(watcher);
	if (!status) {
		track->next = watcher->incoming;
		watcher->incoming = track;
		pthread_cond_signal(&watcher->wake);
	}
	pthread_mutex_unlock(&all.lock);
	return status;
}

void cw__gpu_watch_open(void)
{
	pthread_mutex_lock(&all.life);
	all.owners++;
	pthread_mutex_unlock(&all.life);
}

static struct watcher *watcher_at(unsigned i)
{
	return &all.watchers[i / CW__GPU_DEVICES_MAX][i % CW__GPU_DEVICES_MAX];
}

/* Under the lock: has one of them not dropped yet what it was asked to drop? */
static int any_closing(void)
{
	for (unsigned i = 0; i < WATCHERS; i++)
		if (watcher_at(i)->closing)
			return 1;
	return 0;
}

/* Under the lock. A thread that does not answer is left to itself: it tells of the owner's watches when it can. */
static void drop(const void *owner, uint64_t until)
{
	const struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };

	for (unsigned i = 0; i < WATCHERS; i++) {
		struct watcher *watcher = watcher_at(i);

		if (!watcher->running)
			continue;
		watcher->closing = owner;
		pthread_cond_signal(&watcher->wake);
	}
	while (any_closing() && cw__now() < until)
		pthread_cond_timedwait(&all.closed, &all.lock, &at);
	for (unsigned i = 0; i < WATCHERS; i++) {
		struct watcher *watcher = watcher_at(i);

		watcher->stuck = watcher->closing != NULL;
		watcher->closing = NULL;
	}
}

/* With `life`: nobody starts it meanwhile. */
static void end_thread(struct watcher *watcher, uint64_t until)
{
	const struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };
	int ended;

	pthread_mutex_lock(&all.lock);
	watcher->stop = watcher->running && !watcher->stuck;
	if (watcher->stop)
		pthread_cond_signal(&watcher->wake);
	while (watcher->stop && !watcher->exited && cw__now() < until)
		pthread_cond_timedwait(&all.closed, &all.lock, &at);
	ended = watcher->exited;
	watcher->stuck = watcher->running && !ended;
	watcher->stop = 0; /* one that is stuck may be needed again */
	pthread_mutex_unlock(&all.lock);
	if (!ended)
		return;
	bury(watcher);
}

void cw__gpu_watch_close(const void *owner)
{
	uint64_t until = cw__now() + CLOSE_WITHIN;

	pthread_mutex_lock(&all.life);
	pthread_mutex_lock(&all.lock);
	drop(owner, until);
	pthread_mutex_unlock(&all.lock);
	for (unsigned i = 0; all.owners == 1 && i < WATCHERS; i++)
		end_thread(watcher_at(i), until);
	all.owners--;
	pthread_mutex_unlock(&all.life);
}
