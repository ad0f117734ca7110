/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and events that are used again and again; see track.h. */
#include <platforms/gpu/track.h>
#include <util/clock.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define OUT_OF_MEMORY 2 /* what every vendor calls it */

#define CLOSE_WITHIN CW__SECOND /* then closing tracks is left to itself */
#define DRAIN_NS CW__SECOND
#define DRAIN_PAUSE_NS 1000000

static struct {
	pthread_mutex_t lock;
	unsigned keepers[CW__GPU_VENDORS];
	struct cw__gpu_track *idle[CW__GPU_VENDORS][CW__GPU_DEVICES_MAX];
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int open_track(const struct cw__gpu *gpu, int device, struct cw__gpu_track **track_out)
{
	struct cw__gpu_track *track = calloc(1, sizeof(*track));
	int result;

	if (!track)
		return OUT_OF_MEMORY;
	track->gpu = gpu;
	track->device = device;
	result = gpu->stream_open(&track->stream);
	if (result)
		goto no_stream;
	result = gpu->event_open(&track->event);
	if (result)
		goto no_event;
	*track_out = track;
	return 0;
no_event:
	gpu->stream_close(track->stream);
no_stream:
	free(track);
	return result;
}

static void close_track(struct cw__gpu_track *track)
{
	const struct cw__gpu *gpu = track->gpu;
	struct cw__gpu_scope scope;

	if (!gpu->enter(track->device, &scope)) {
		gpu->event_close(track->event);
		gpu->stream_close(track->stream);
		gpu->leave(&scope);
	}
	free(track);
}

int cw__gpu_track_take(const struct cw__gpu *gpu, int device, struct cw__gpu_track **track_out)
{
	struct cw__gpu_track **idle = &pool.idle[gpu->vendor][device], *track;

	pthread_mutex_lock(&pool.lock);
	track = *idle;
	if (track)
		*idle = track->next;
	pthread_mutex_unlock(&pool.lock);
	if (!track)
		return open_track(gpu, device, track_out);
	*track_out = track;
	return 0;
}

void cw__gpu_track_give(struct cw__gpu_track *track, int result)
{
	struct cw__gpu_track **idle = &pool.idle[track->gpu->vendor][track->device];
	int kept;

	pthread_mutex_lock(&pool.lock);
	kept = !result && pool.keepers[track->gpu->vendor] != 0;
	if (kept) {
		track->next = *idle;
		*idle = track;
	}
	pthread_mutex_unlock(&pool.lock);
	if (!kept)
		close_track(track);
}

void cw__gpu_tracks_keep(const struct cw__gpu *gpu)
{
	pthread_mutex_lock(&pool.lock);
	pool.keepers[gpu->vendor]++;
	pthread_mutex_unlock(&pool.lock);
}

struct closing {
	struct cw__gpu_errand errand; /* first */
	struct cw__gpu_track *tracks;
};

static int close_all(struct cw__gpu_errand *errand)
{
	struct closing *closing = (struct closing *)errand;
	struct cw__gpu_track *track;

	while ((track = closing->tracks) != NULL) {
		closing->tracks = track->next;
		close_track(track);
	}
	return 0;
}

/* Of one device, because one that does not come back keeps its thread. */
static void close_idle(struct cw__gpu_track *tracks)
{
	struct closing *closing = calloc(1, sizeof(*closing));

	if (!closing)
		return; /* they stay open */
	*closing = (struct closing){ .errand = { .run = close_all, .gpu = tracks->gpu, .device = tracks->device },
				     .tracks = tracks };
	if (cw__gpu_aside(&closing->errand, CLOSE_WITHIN) != CW__GPU_NO_ANSWER)
		free(closing);
}

void cw__gpu_tracks_let_go(const struct cw__gpu *gpu)
{
	struct cw__gpu_track *dropped[CW__GPU_DEVICES_MAX] = { NULL };

	pthread_mutex_lock(&pool.lock);
	if (--pool.keepers[gpu->vendor] == 0)
		for (unsigned i = 0; i < CW__GPU_DEVICES_MAX; i++) {
			dropped[i] = pool.idle[gpu->vendor][i];
			pool.idle[gpu->vendor][i] = NULL;
		}
	pthread_mutex_unlock(&pool.lock);
	for (unsigned i = 0; i < CW__GPU_DEVICES_MAX; i++)
		if (dropped[i])
			close_idle(dropped[i]);
}

/* ------------------------------------------------------------------------------------------- last resorts */

/* By an event that nobody has used before. */
static int finish_by_event(const struct cw__gpu *gpu, void *stream)
{
	void *event = NULL;
	int result = gpu->event_open(&event);

	if (result)
		return result;
	result = gpu->event_record(event, stream);
	if (!result)
		result = gpu->event_wait(event);
	gpu->event_close(event);
	return result;
}

int cw__gpu_drain(const struct cw__gpu *gpu, void *stream)
{
	const struct timespec pause = { 0, DRAIN_PAUSE_NS };
	uint64_t until = cw__now() + DRAIN_NS;

	for (;;) {
		int first = gpu->stream_finish ? gpu->stream_finish(stream) : CW__GPU_NOT_READY;
		int second = first ? finish_by_event(gpu, stream) : 0;

		if (!second || (gpu->is_fatal(second) && (!gpu->stream_finish || gpu->is_fatal(first))))
			return 1;
		if (cw__now() >= until)
			return 0;
		nanosleep(&pause, NULL);
	}
}
