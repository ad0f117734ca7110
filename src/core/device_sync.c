/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where batches and the work of devices wait for each other: device prerequisites, for which a platform is asked to say
 * when a stream or an event has come, and fences, which make a stream wait for a batch. A runtime may call back on any
 * thread, late, and after the engine is gone, so what it is given is a small object of its own, counted, that forgets
 * its batch in time.
 */
#include <core/device.h>
#include <stdlib.h>

#define WATCHES_MAX 64u

static int find_platform(struct cw_engine *engine, const struct cw_device_sync *sync,
			 const struct cw__platform_part **part_out)
{
	for (unsigned i = 0; sync->location && i < engine->platform_count; i++) {
		const struct cw__platform_part *part = &engine->platforms[i];

		if (part->on && !part->ops->location(part->state, sync->location, NULL)) {
			*part_out = part;
			return CW_OK;
		}
	}
	return cw__fail(CW_ERR_INVALID, "no platform knows the location '%s'", sync->location ? sync->location : "");
}

/* -------------------------------------------------------------------------------- device prerequisites */

/* refs: the batch's, the platform's until it called ready(), that of the task on its way. */
struct cw__watch {
	_Atomic int32_t refs;
	pthread_mutex_t lock;   /* the rest */
	struct cw_batch *batch; /* that waits; NULL = none, or not any more */
	struct cw_batch *told;  /* referenced, by the task */
	int came, status;
	struct cw_task task;
};

static void watch_put(struct cw__watch *watch)
{
	if (atomic_fetch_sub_explicit(&watch->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}

static void tell(struct cw_task *task)
{
	struct cw__watch *watch = cw__container(task, struct cw__watch, task);

	cw__prerequisite_came(watch->told, !watch->status);
	watch_put(watch);
}

/* For the platform. Whoever forgets the batch holds the lock, so batch and loop are there as long as we do. */
static void ready(void *arg, int status)
{
	struct cw__watch *watch = arg;
	int last;

	pthread_mutex_lock(&watch->lock);
	last = !watch->came; /* once is the contract */
	if (last) {
		watch->came = 1;
		watch->status = status;
		watch->told = watch->batch;
		watch->batch = NULL;
	}
	if (last && watch->told) {
		atomic_fetch_add_explicit(&watch->refs, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&watch->told->refs, 1, memory_order_relaxed);
		watch->task.run = tell;
		cw__task_post(watch->told->loop, &watch->task);
	}
	pthread_mutex_unlock(&watch->lock);
	if (last)
		watch_put(watch);
}

/* Asks for the next watch of a batch. */
static int make_watch(struct cw_batch *batch, size_t number, const struct cw_device_sync *sync)
{
	const struct cw__platform_part *part = NULL;
	struct cw__watch *watch;
	int status = find_platform(batch->engine, sync, &part);

	if (status)
		return status;
	if (sync->kind != CW_DEVICE_STREAM && sync->kind != CW_DEVICE_EVENT)
		return cw__fail(CW_ERR_INVALID, "device prerequisite %zu is neither a stream nor an event", number);
	if (!part->ops->watch)
		return cw__fail(CW_ERR_UNSUPPORTED, "device prerequisite %zu: nothing can be waited for at '%s'",
				number, sync->location);
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory for device prerequisites");
	atomic_store_explicit(&watch->refs, 2, memory_order_relaxed);
	pthread_mutex_init(&watch->lock, NULL);
	status = part->ops->watch(part->state, sync, ready, watch);
	if (status) {
		watch_put(watch); /* the platform's */
		watch_put(watch);
		return cw__fail(status, "device prerequisite %zu at '%s': %s", number, sync->location,
				status == CW_ERR_INVALID ? "there is no such device, stream or event"
							 : cw_strerror(status));
	}
	batch->watches[batch->watch_count++] = watch;
	return CW_OK;
}

int cw__watches_make(struct cw_batch *batch, const struct cw_batch_options *options)
{
	int status = CW_OK;

	if (!options->device_after_count)
		return CW_OK;
	if (!options->device_after || options->device_after_count > WATCHES_MAX)
		return cw__fail(CW_ERR_INVALID, "batch options: %zu device prerequisites; at most %u are possible",
				options->device_after ? options->device_after_count : 0, WATCHES_MAX);
	batch->watches = calloc(options->device_after_count, sizeof(*batch->watches));
	if (!batch->watches)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory for device prerequisites");
	for (size_t i = 0; !status && i < options->device_after_count; i++)
		status = make_watch(batch, i, &options->device_after[i]);
	return status;
}

void cw__watches_arm(struct cw_batch *batch)
{
	for (size_t i = 0; i < batch->watch_count; i++) {
		struct cw__watch *watch = batch->watches[i];
		int came, status;

		atomic_fetch_add_explicit(&batch->prerequisites, 1, memory_order_relaxed);
		pthread_mutex_lock(&watch->lock);
		came = watch->came;
		status = watch->status;
		if (!came)
			watch->batch = batch;
		pthread_mutex_unlock(&watch->lock);
		if (!came)
			continue;
		atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
		cw__prerequisite_came(batch, !status);
	}
}

void cw__watches_forget(struct cw_batch *batch)
{
	for (size_t i = 0; i < batch->watch_count; i++) {
		pthread_mutex_lock(&batch->watches[i]->lock);
		batch->watches[i]->batch = NULL;
		pthread_mutex_unlock(&batch->watches[i]->lock);
	}
}

void cw__watches_free(struct cw_batch *batch)
{
	for (size_t i = 0; i < batch->watch_count; i++)
		watch_put(batch->watches[i]);
	free(batch->watches);
	batch->watches = NULL;
	batch->watch_count = 0;
}

/* -------------------------------------------------------------------------------------------- fences */

/* refs: that of the batch's list, and that of block(). */
struct fence {
	struct cw__list node;  /* cw_batch.fences; its lock */
	_Atomic uint32_t over; /* futex */
	_Atomic int32_t refs;
};

static void fence_put(struct fence *fence)
{
	if (atomic_fetch_sub_explicit(&fence->refs, 1, memory_order_acq_rel) == 1)
		free(fence);
}

void cw__fences_release(struct cw__list *fences)
{
	struct cw__list *node;

	while ((node = cw__list_pop(fences))) {
		struct fence *fence = cw__container(node, struct fence, node);

		atomic_store_explicit(&fence->over, 1, memory_order_release);
		cw__futex_wake_all(&fence->over);
		fence_put(fence);
	}
}

/* On a thread of the runtime. It only waits: driving the engine might need the runtime, which waits for this thread. */
static void block(void *arg)
{
	struct fence *fence = arg;

	while (!atomic_load_explicit(&fence->over, memory_order_acquire))
		cw__futex_wait(&fence->over, 0, CW_FOREVER);
	fence_put(fence);
}

/* A new fence in the batch's list; *fence_out is NULL when the batch is over. */
static int fence_make(struct cw_batch *batch, struct fence **fence_out)
{
	struct fence *fence = calloc(1, sizeof(*fence));

	if (!fence)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	atomic_store_explicit(&fence->refs, 2, memory_order_relaxed);
	cw__list_init(&fence->node);
	pthread_mutex_lock(&batch->lock);
	if (batch->ended) {
		free(fence);
		fence = NULL;
	} else {
		cw__list_push_back(&batch->fences, &fence->node);
	}
	pthread_mutex_unlock(&batch->lock);
	*fence_out = fence;
	return CW_OK;
}

/* The platform did not take it. */
static void fence_undo(struct cw_batch *batch, struct fence *fence)
{
	int listed;

	pthread_mutex_lock(&batch->lock);
	listed = !cw__list_empty(&fence->node);
	cw__list_remove(&fence->node);
	pthread_mutex_unlock(&batch->lock);
	if (listed)
		fence_put(fence);
	fence_put(fence);
}

int cw_batch_fence(struct cw_batch *batch, const struct cw_device_sync *stream)
{
	const struct cw__platform_part *part = NULL;
	struct fence *fence = NULL;
	int status = batch ? CW_OK : cw__fail(CW_ERR_INVALID, "no batch");

	if (!status && (!stream || stream->kind != CW_DEVICE_STREAM))
		status = cw__fail(CW_ERR_INVALID, "a fence needs a stream");
	if (status || !batch->engine) /* an engine that is closed has ended everything */
		return status;
	status = cw__engine_check(batch->engine);
	if (!status)
		status = find_platform(batch->engine, stream, &part);
	if (!status && !part->ops->fence)
		status = cw__fail(CW_ERR_UNSUPPORTED, "'%s' has no streams that can wait", stream->location);
	if (!status)
		status = fence_make(batch, &fence);
	if (status || !fence)
		return status;
	status = part->ops->fence(part->state, stream, block, fence);
	if (!status)
		return CW_OK;
	fence_undo(batch, fence);
	return cw__fail(status == CW_ERR_INVALID || status == CW_ERR_UNSUPPORTED ? status : CW_ERR_IO,
			"the stream of '%s' cannot wait: %s", stream->location, cw_strerror(status));
}
