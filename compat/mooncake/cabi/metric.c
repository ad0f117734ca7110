/* SPDX-License-Identifier: Apache-2.0 */
/* MC_TE_METRIC: a thread, only where it was asked for, that prints what an engine moved since the last line. */
#include <stdio.h>
#include <stdlib.h>

#include "face.h"
#include "util/thread.h"

struct face_metric {
	struct face *face;
	double interval;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int stop;
};

struct amounts {
	uint64_t written, read, served, failed, at;
};

static struct amounts look(const struct face *face)
{
	struct cw_engine_stats stats = { .size = sizeof(stats) };

	if (cw_engine_stats_get(face->engine, &stats) != CW_OK)
		return (struct amounts){ .at = face_now() };
	return (struct amounts){ .written = stats.bytes_written,
				 .read = stats.bytes_read,
				 .served = stats.bytes_served,
				 .failed = stats.batches_failed + stats.batches_timed_out,
				 .at = face_now() };
}

static void print(const struct face *face, const struct amounts *before, const struct amounts *now)
{
	double seconds = (double)(now->at - before->at) / 1e9;

	fprintf(stderr,
		"causeway: metric: %s: %.2f MB/s written, %.2f MB/s read, %.2f MB/s served, %llu batches failed, in "
		"%.1f s\n",
		face->name, (double)(now->written - before->written) / 1e6 / seconds,
		(double)(now->read - before->read) / 1e6 / seconds,
		(double)(now->served - before->served) / 1e6 / seconds,
		(unsigned long long)(now->failed - before->failed), seconds);
}

static void *run(void *argument)
{
	struct face_metric *metric = argument;
	struct amounts before = look(metric->face);
	uint64_t every = (uint64_t)(metric->interval * 1e9), next = before.at + every;

	pthread_mutex_lock(&metric->lock);
	while (!metric->stop) {
		struct timespec until = { .tv_sec = (time_t)(next / FACE_SECOND),
					  .tv_nsec = (long)(next % FACE_SECOND) };
		struct amounts now;

		if (face_now() < next) {
			pthread_cond_timedwait(&metric->wake, &metric->lock, &until);
			continue;
		}
		now = look(metric->face);
		print(metric->face, &before, &now);
		before = now;
		next = now.at + every;
	}
	pthread_mutex_unlock(&metric->lock);
	return NULL;
}

int face_metric_start(struct face *face, double interval)
{
	struct face_metric *metric = calloc(1, sizeof(*metric));
	pthread_condattr_t monotonic;

	if (!metric)
		return CW_ERR_NO_MEMORY;
	metric->face = face;
	metric->interval = interval;
	pthread_mutex_init(&metric->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&metric->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (cw__thread_start(&metric->thread, NULL, run, metric) == 0) {
		face->metric = metric;
		return CW_OK;
	}
	pthread_cond_destroy(&metric->wake);
	pthread_mutex_destroy(&metric->lock);
	free(metric);
	return CW_ERR_NO_MEMORY;
}

void face_metric_stop(struct face *face)
{
	struct face_metric *metric = face->metric;

	if (!metric)
		return;
	pthread_mutex_lock(&metric->lock);
	metric->stop = 1;
	pthread_cond_signal(&metric->wake);
	pthread_mutex_unlock(&metric->lock);
	pthread_join(metric->thread, NULL);
	pthread_cond_destroy(&metric->wake);
	pthread_mutex_destroy(&metric->lock);
	free(metric);
	face->metric = NULL;
}
