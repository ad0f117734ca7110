/* SPDX-License-Identifier: Apache-2.0 */
/* A thread for each errand; see gpu.h. */
#include <platforms/gpu/gpu.h>
#include <util/clock.h>
#include <util/thread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define OUT_OF_MEMORY 2             /* what every vendor calls it */
#define WITHOUT_HOPE (100 * CW__MS) /* how long an errand may take while another one has not come back */

/* Errands that have not come back; [][0]: of no certain device. */
static _Atomic unsigned lost[CW__GPU_VENDORS + 1][CW__GPU_DEVICES_MAX + 1];

static _Atomic unsigned *lost_of(const struct cw__gpu_errand *errand)
{
	return &lost[errand->gpu ? errand->gpu->vendor : CW__GPU_VENDORS][errand->device + 1];
}

static void errand_free(struct cw__gpu_errand *errand)
{
	pthread_cond_destroy(&errand->over);
	pthread_mutex_destroy(&errand->lock);
	free(errand);
}

static void *go(void *arg)
{
	struct cw__gpu_errand *errand = arg;
	int result = errand->run(errand), left;

	pthread_mutex_lock(&errand->lock);
	errand->result = result;
	errand->ended = 1;
	left = errand->left;
	pthread_cond_signal(&errand->over);
	pthread_mutex_unlock(&errand->lock);
	if (!left)
		return NULL;
	atomic_fetch_sub_explicit(lost_of(errand), 1, memory_order_relaxed);
	if (errand->undo)
		errand->undo(errand);
	errand_free(errand);
	return NULL;
}

static void prepare(struct cw__gpu_errand *errand)
{
	pthread_condattr_t clock;

	pthread_mutex_init(&errand->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&errand->over, &clock);
	pthread_condattr_destroy(&clock);
	errand->ended = 0;
	errand->left = 0;
}

int cw__gpu_aside(struct cw__gpu_errand *errand, uint64_t within)
{
	uint64_t until;
	struct timespec at;
	pthread_t thread;
	int ended;

	if (atomic_load_explicit(lost_of(errand), memory_order_relaxed) && within > WITHOUT_HOPE)
		within = WITHOUT_HOPE;
	until = cw__after(cw__now(), within);
	at = (struct timespec){ (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };
	prepare(errand);
	if (cw__thread_start(&thread, NULL, go, errand)) {
		pthread_cond_destroy(&errand->over);
		pthread_mutex_destroy(&errand->lock);
		return OUT_OF_MEMORY;
	}
	pthread_mutex_lock(&errand->lock);
	while (!errand->ended && cw__now() < until)
		pthread_cond_timedwait(&errand->over, &errand->lock, &at);
	ended = errand->ended;
	errand->left = !ended;
	if (!ended)
		atomic_fetch_add_explicit(lost_of(errand), 1, memory_order_relaxed);
	pthread_mutex_unlock(&errand->lock);
	if (!ended) {
		pthread_detach(thread);
		return CW__GPU_NO_ANSWER;
	}
	pthread_join(thread, NULL);
	pthread_cond_destroy(&errand->over);
	pthread_mutex_destroy(&errand->lock);
	return errand->result;
}

/* ------------------------------------------------------------------------------------------- questions */

struct question {
	struct cw__gpu_errand errand; /* first */
	const void *address;
	struct cw__gpu_memory memory;
};

static int ask(struct cw__gpu_errand *errand)
{
	struct question *question = (struct question *)errand;

	return errand->gpu->query(question->address, &question->memory);
}

int cw__gpu_query_aside(const struct cw__gpu *gpu, const void *address, uint64_t within,
			struct cw__gpu_memory *memory_out)
{
	struct question *question = calloc(1, sizeof(*question));
	int result;

	if (!question)
		return OUT_OF_MEMORY;
	*question = (struct question){ .errand = { .run = ask, .gpu = gpu, .device = -1 }, .address = address };
	result = cw__gpu_aside(&question->errand, within);
	if (result == CW__GPU_NO_ANSWER)
		return result;
	if (!result)
		*memory_out = question->memory;
	free(question);
	return result;
}
