/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that asks recorded events whether they have happened; see watch.h. */
#include <platforms/gpu/watch.h>
#include <util/clock.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>

/* After this many rounds without an end the thread pauses between rounds, longer each time. */
#define EAGER_ROUNDS 50u
#define PAUSE_FIRST 5000u /* ns */
#define PAUSE_LONGEST 200000u
#define CLOSE_WITHIN CW__SECOND /* then the thread is stuck in a call of a runtime */

static struct {
	pthread_mutex_t life; /* outermost: of owners, running */
	pthread_mutex_t lock; /* of all others */
	pthread_cond_t wake, closed;
	pthread_t thread;
	unsigned owners;
	int running, stop;
	int stuck; /* it did not answer when it was asked last: nobody waits for its end */
	struct cw__gpu_track *incoming;
	const void *closing; /* the owner whose watches the thread is asked to drop */
} watcher = {
	.life = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

/* What the thread alone knows. */
struct rounds {
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
	struct cw__gpu_track *track;

	if (watcher.incoming)
		rounds->idle = 0;
	while ((track = watcher.incoming) != NULL) {
		watcher.incoming = track->next;
		track->next = rounds->pending;
		rounds->pending = track;
	}
	for (struct cw__gpu_track **at = &rounds->pending; watcher.closing && (track = *at) != NULL;) {
		if (track->owner != watcher.closing) {
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
		pthread_mutex_unlock(&watcher.lock);
		sched_yield();
		pthread_mutex_lock(&watcher.lock);
		return;
	}
	at = cw__now() + rounds->pause;
	until.tv_sec = (time_t)(at / CW__SECOND);
	until.tv_nsec = (long)(at % CW__SECOND);
	pthread_cond_timedwait(&watcher.wake, &watcher.lock, &until);
	if (rounds->pause < PAUSE_LONGEST)
		rounds->pause *= 2;
}

static void *run(void *arg)
{
	struct rounds rounds = { .pause = PAUSE_FIRST };

	(void)arg;
	pthread_mutex_lock(&watcher.lock);
	while (!watcher.stop) {
		const void *closing = watcher.closing;

		collect(&rounds);
		if (!rounds.pending && !rounds.ended && !closing) {
			pthread_cond_wait(&watcher.wake, &watcher.lock);
			continue;
		}
		pthread_mutex_unlock(&watcher.lock);
		ask_all(&rounds);
		finish_all(&rounds);
		pthread_mutex_lock(&watcher.lock);
		if (closing && watcher.closing == closing) {
			watcher.closing = NULL;
			pthread_cond_broadcast(&watcher.closed);
		} else if (rounds.pending && !watcher.incoming && !watcher.closing) {
			pause_round(&rounds);
		}
	}
	pthread_mutex_unlock(&watcher.lock);
	drop_rest(&rounds);
	return NULL;
}

/* Under the lock. No signal of the application is ever handled by our thread. */
static int start_thread(void)
{
	pthread_condattr_t clock;
	sigset_t all, before;
	int failed;

	if (watcher.running)
		return CW_OK;
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&watcher.wake, &clock);
	pthread_cond_init(&watcher.closed, &clock);
	pthread_condattr_destroy(&clock);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&watcher.thread, NULL, run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
		return CW_ERR_NO_MEMORY;
	pthread_setname_np(watcher.thread, "cw-watch");
	watcher.running = 1;
	return CW_OK;
}

int cw__gpu_watch_add(const void *owner, struct cw__gpu_track *track, cw_device_ready_fn ready, void *arg)
{
	int status, result = track->gpu->event_query(track->event);

	track->owner = owner;
	track->ready = ready;
	track->arg = arg;
	if (result != CW__GPU_NOT_READY) {
		finish(track, result);
		return CW_OK;
	}
	pthread_mutex_lock(&watcher.lock);
	status = start_thread();
	if (!status) {
		track->next = watcher.incoming;
		watcher.incoming = track;
		pthread_cond_signal(&watcher.wake);
	}
	pthread_mutex_unlock(&watcher.lock);
	return status;
}

void cw__gpu_watch_open(void)
{
	pthread_mutex_lock(&watcher.life);
	watcher.owners++;
	pthread_mutex_unlock(&watcher.life);
}

/* Under the lock. A thread that does not answer is left to itself: it tells of the owner's watches when it can. */
static void drop(const void *owner)
{
	uint64_t until = cw__now() + CLOSE_WITHIN;
	const struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };

	watcher.closing = owner;
	pthread_cond_signal(&watcher.wake);
	while (watcher.closing == owner && cw__now() < until)
		pthread_cond_timedwait(&watcher.closed, &watcher.lock, &at);
	watcher.stuck = watcher.closing == owner;
	if (watcher.stuck)
		watcher.closing = NULL;
}

void cw__gpu_watch_close(const void *owner)
{
	pthread_mutex_lock(&watcher.life);
	pthread_mutex_lock(&watcher.lock);
	if (watcher.running)
		drop(owner);
	watcher.stop = --watcher.owners == 0 && watcher.running && !watcher.stuck;
	if (watcher.stop)
		pthread_cond_signal(&watcher.wake);
	pthread_mutex_unlock(&watcher.lock);
	if (watcher.stop) {
		pthread_join(watcher.thread, NULL);
		pthread_cond_destroy(&watcher.wake);
		pthread_cond_destroy(&watcher.closed);
		watcher.running = 0;
		watcher.stop = 0;
	}
	pthread_mutex_unlock(&watcher.life);
}
