/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For requests whose local memory is a device's and whose transport touches host memory only: a bounded pool of buffers
 * ("landings"), each standing for the local memory of one slice, and threads ("stagers") that copy between devices and
 * buffers, one for each device that is used so, and another one for what peers touch there. A copy on a device may
 * never end. Then its stager and its slice are lost until it does, and nothing else: loops, other devices and the
 * engine's close go on.
 */
#include <core/device.h>
#include <errno.h>
#include <stdlib.h>
#include <util/thread.h>

#define ALIGNMENT 4096u
#define LAND_NS CW__SECOND /* a loop waits so long for the copy of a chunk */

struct buffer {
	struct cw__landing landing; /* first */
	struct buffer *next;        /* all of them */
	unsigned char *memory;
};

struct stager {
	struct cw__list node; /* cw__staging.stagers */
	struct cw_engine *engine;
	unsigned platform; /* whose device; CW__PARTS_MAX: a peer's */
	int device;
	int lands; /* for loops: what peers touch */
	pthread_t thread;
	pthread_cond_t work;
	struct cw__list queue; /* cw__slice.job; cw__land.node */
	struct cw__slice *running;
	struct cw__land *landing;
	int lost;                  /* nobody waits for what it is at any more */
	int left;                  /* the engine was closed while a device held it */
	struct cw__remote *orphan; /* what its slice held then */
	struct cw__arena arena;    /* the stager's own */
};

/* One for each engine; the lock guards everything. It is taken last, and nothing blocks under it. */
struct cw__staging {
	pthread_mutex_t lock;
	pthread_cond_t ended; /* a stager has nothing to do */
	struct cw__list free; /* cw__landing.node */
	struct buffer *buffers;
	uint64_t count, limit;
	uint64_t starved; /* bits of loops that found no buffer */
	struct cw__list stagers;
	_Atomic int stopped; /* nothing begins any more */
	int abandoned;       /* what still runs touches nothing but this when it comes back */
	unsigned stuck;      /* stagers that were left behind */
	void (*last)(struct cw_engine *engine);
};

int cw__staging_stopped(struct cw_engine *engine)
{
	return atomic_load_explicit(&engine->staging->stopped, memory_order_seq_cst);
}

/* ------------------------------------------------------------------------------------------- buffers */

/* With the lock. */
static struct buffer *make_buffer(struct cw__staging *staging)
{
	struct buffer *buffer = calloc(1, sizeof(*buffer));

	if (buffer)
		buffer->memory = aligned_alloc(ALIGNMENT, CW_CHUNK_MAX);
	if (!buffer || !buffer->memory) {
		free(buffer);
		return NULL;
	}
	buffer->landing.view = (struct cw_region_view){
		.address = (uintptr_t)buffer->memory,
		.length = CW_CHUNK_MAX,
		.kind = CW_MEMORY_HOST,
		.device = -1,
		.numa_node = -1,
		.share_fd = -1,
	};
	buffer->next = staging->buffers;
	staging->buffers = buffer;
	staging->count++;
	return buffer;
}

struct cw__landing *cw__landing_take(struct cw_loop *loop)
{
	struct cw__staging *staging = loop->engine->staging;
	struct cw__landing *landing = NULL;
	struct cw__list *node;

	pthread_mutex_lock(&staging->lock);
	node = cw__list_pop(&staging->free);
	if (node) {
		landing = cw__container(node, struct cw__landing, node);
	} else if (staging->count < staging->limit) {
		struct buffer *buffer = make_buffer(staging);

		landing = buffer ? &buffer->landing : NULL;
	}
	if (!landing)
		staging->starved |= UINT64_C(1) << (loop - loop->engine->loops);
	pthread_mutex_unlock(&staging->lock);
	return landing;
}

static void buffers_came(struct cw_task *task)
{
	struct cw_loop *loop = cw__container(task, struct cw_loop, staging_task);

	atomic_store_explicit(&loop->staging_posted, 0, memory_order_release);
	cw__loop_make_busy(loop);
}

void cw__landing_give(struct cw_loop *loop, struct cw__landing *landing)
{
	struct cw_engine *engine = loop->engine;
	uint64_t starved;

	pthread_mutex_lock(&engine->staging->lock);
	cw__list_push_front(&engine->staging->free, &landing->node);
	starved = engine->staging->starved;
	engine->staging->starved = 0;
	pthread_mutex_unlock(&engine->staging->lock);
	for (unsigned i = 0; starved; i++, starved >>= 1) {
		struct cw_loop *other = &engine->loops[i];

		if (!(starved & 1) || atomic_exchange_explicit(&other->staging_posted, 1, memory_order_acq_rel))
			continue;
		other->staging_task.run = buffers_came;
		cw__task_post(other, &other->staging_task);
	}
}

/* ---------------------------------------------------------------------------------------- one slice */

/* The next run of a slice, if it is still there to be asked. */
static int next_run(struct cw__staging *staging, const struct cw__slice *slice, uint64_t at, uint64_t *address_out,
		    uint64_t *length_out)
{
	int status = CW_ERR_CLOSED;

	pthread_mutex_lock(&staging->lock);
	if (!staging->abandoned) {
		*length_out = at < slice->base.length ? cw__slice_local_run(slice, at, address_out) : 0;
		status = CW_OK;
	}
	pthread_mutex_unlock(&staging->lock);
	return status;
}

static int bring(struct cw_engine *engine, const struct cw__slice *slice, const struct cw_region *region, int to_device)
{
	unsigned char *memory = (unsigned char *)(uintptr_t)slice->landing->view.address;
	uint64_t at = 0, address = 0, length = 0;
	int status;

	while (!(status = next_run(engine->staging, slice, at, &address, &length)) && length) {
		if (cw__device_copy(engine, region, to_device, address, memory + at, length)) {
			status = CW_ERR_IO;
			break;
		}
		at += length;
	}
	return status;
}

unsigned cw__staging_pieces(const struct cw__slice *slice, uint64_t offset, struct cw_piece *pieces_out, unsigned max)
{
	struct cw__staging *staging = slice->engine->staging;
	unsigned count = 0;

	pthread_mutex_lock(&staging->lock);
	if (!staging->abandoned)
		count = cw__slice_walk(slice, offset, pieces_out, max);
	pthread_mutex_unlock(&staging->lock);
	return count;
}

/* What is to be done with a slice depends on where it is: bytes are brought out before it is posted, and in when its
 * transport is done; one that is handed goes all the way here. */
static int carry(struct cw_engine *engine, struct cw__slice *slice)
{
	const struct cw_transport_ops *ops = engine->parts[slice->part].ops;
	const struct cw_region *region = slice->request->region; /* the request may be gone after copy() */
	int write = slice->base.op == CW_OP_WRITE, status = CW_OK;

	slice->device_failed = 0;
	if (slice->landing && write) {
		status = bring(engine, slice, region, 0);
		slice->device_failed = status != CW_OK;
	}
	if (!status && slice->handed)
		status = ops->copy(engine->parts[slice->part].state, slice->request->segment->lanes[slice->part].state,
				   &slice->base);
	if (!status && slice->landing && !write) {
		status = bring(engine, slice, region, 1);
		slice->device_failed = status != CW_OK;
	}
	return status;
}

/* ------------------------------------------------------------------------------------------- stagers */

/* With the lock: what the stager was at is over. Returns 1 when the stager was left behind. */
static int come_back(struct stager *stager, int status)
{
	struct cw__staging *staging = stager->engine->staging;
	struct cw__slice *slice = stager->running;

	stager->running = NULL;
	pthread_cond_signal(&staging->ended);
	if (staging->abandoned)
		return 1;
	slice->job_status = status;
	cw__task_post(slice->request->segment->loop, &slice->job_task);
	return 0;
}

/* The engine was closed while a device held this thread. */
static void finish_alone(struct stager *stager)
{
	struct cw_engine *engine = stager->engine;
	struct cw__staging *staging = engine->staging;
	void (*last)(struct cw_engine * engine);

	if (stager->orphan)
		cw__remote_put_late(stager->orphan);
	pthread_mutex_lock(&staging->lock);
	last = --staging->stuck ? NULL : staging->last;
	pthread_mutex_unlock(&staging->lock);
	if (last)
		last(engine);
}

static void *stager_main(void *arg)
{
	struct stager *stager = arg;
	struct cw__staging *staging = stager->engine->staging;

	cw__arena_own(&stager->arena);
	pthread_mutex_lock(&staging->lock);
	for (;;) {
		int status, left_behind;

		while (cw__list_empty(&stager->queue) && !staging->stopped)
			pthread_cond_wait(&stager->work, &staging->lock);
		if (staging->stopped)
			break;
		stager->running = cw__container(cw__list_pop(&stager->queue), struct cw__slice, job);
		pthread_mutex_unlock(&staging->lock);
		status = carry(stager->engine, stager->running);
		pthread_mutex_lock(&staging->lock);
		left_behind = come_back(stager, status);
		if (left_behind) {
			pthread_mutex_unlock(&staging->lock);
			finish_alone(stager);
			return NULL;
		}
	}
	pthread_mutex_unlock(&staging->lock);
	return NULL;
}

/* ------------------------------------------------------------------------------------------- for loops */

enum { LAND_WAITED = 0, LAND_ENDED = 1, LAND_LEFT = 2 };

static int has_landed(const struct cw__land *land)
{
	return atomic_load_explicit(&land->state, memory_order_acquire) == LAND_ENDED;
}

/* Tells the loop, or what stands in for it when that has gone on. */
static void land_end(struct cw__land *land, int status)
{
	uint32_t waited = LAND_WAITED;

	land->status = status;
	if (!atomic_compare_exchange_strong_explicit(&land->state, &waited, LAND_ENDED, memory_order_acq_rel,
						     memory_order_acquire)) {
		land->left(land);
		return;
	}
	cw__futex_wake_all(&land->state);
}

/* Sleeps at once when there is nothing to do, as the loop does that waits for it: either of them awake would keep the
 * other one from its processor where others want that too. */
static void *lander_main(void *arg)
{
	struct stager *stager = arg;
	struct cw__staging *staging = stager->engine->staging;
	int alone = 0;

	pthread_mutex_lock(&staging->lock);
	while (!alone) {
		struct cw__land *land;
		int status;

		while (cw__list_empty(&stager->queue) && !staging->stopped)
			pthread_cond_wait(&stager->work, &staging->lock);
		if (cw__list_empty(&stager->queue))
			break;
		land = cw__container(cw__list_pop(&stager->queue), struct cw__land, node);
		stager->landing = land;
		pthread_mutex_unlock(&staging->lock);
		status = cw__device_copy(stager->engine, land->region, land->to_device, land->address, land->buffer,
					 land->length);
		land_end(land, status);
		pthread_mutex_lock(&staging->lock);
		stager->landing = NULL;
		stager->lost = 0;
		pthread_cond_signal(&staging->ended);
		alone = staging->abandoned;
	}
	alone = stager->left;
	pthread_mutex_unlock(&staging->lock);
	if (alone)
		finish_alone(stager);
	return NULL;
}

static int start_thread(struct stager *stager)
{
	return cw__thread_start(&stager->thread, NULL, stager->lands ? lander_main : stager_main, stager);
}

/* With the lock. */
static struct stager *find_stager(struct cw_engine *engine, unsigned platform, int device, int lands)
{
	struct cw__staging *staging = engine->staging;
	struct stager *stager;

	cw__list_each(node, &staging->stagers)
	{
		stager = cw__container(node, struct stager, node);
		if (stager->platform == platform && stager->device == device && stager->lands == lands)
			return stager;
	}
	stager = calloc(1, sizeof(*stager));
	if (!stager)
		return NULL;
	stager->engine = engine;
	stager->platform = platform;
	stager->device = device;
	stager->lands = lands;
	cw__list_init(&stager->queue);
	pthread_cond_init(&stager->work, NULL);
	if (start_thread(stager)) {
		pthread_cond_destroy(&stager->work);
		free(stager);
		return NULL;
	}
	cw__list_push_back(&staging->stagers, &stager->node);
	return stager;
}

int cw__staging_submit(struct cw__slice *slice)
{
	const struct cw__request *request = slice->request;
	struct cw_engine *engine = slice->engine;
	const struct cw_region_view *local = &request->region->view;
	struct stager *stager;
	int status = CW_OK;

	pthread_mutex_lock(&engine->staging->lock);
	if (engine->staging->stopped) {
		status = CW_ERR_CLOSED;
	} else {
		stager = local->kind != CW_MEMORY_HOST
				 ? find_stager(engine, request->region->platform, local->device, 0)
				 : find_stager(engine, CW__PARTS_MAX, request->target->view.device, 0);
		if (stager) {
			cw__list_push_back(&stager->queue, &slice->job);
			pthread_cond_signal(&stager->work);
		} else {
			status = CW_ERR_NO_MEMORY;
		}
	}
	pthread_mutex_unlock(&engine->staging->lock);
	return status;
}

/* Gives the copy to its stager. ERR_IO: that one does not come back from an earlier one. */
static int land_begin(struct cw_engine *engine, struct cw__land *land, struct stager **stager_out)
{
	struct cw__staging *staging = engine->staging;
	struct stager *stager;
	int status = CW_OK;

	pthread_mutex_lock(&staging->lock);
	stager = staging->stopped ? NULL : find_stager(engine, land->region->platform, land->region->view.device, 1);
	if (!stager)
		status = staging->stopped ? CW_ERR_CLOSED : CW_ERR_NO_MEMORY;
	else if (stager->lost)
		status = CW_ERR_IO;
	if (!status) {
		cw__list_push_back(&stager->queue, &land->node);
		pthread_cond_signal(&stager->work);
	}
	pthread_mutex_unlock(&staging->lock);
	*stager_out = stager;
	return status;
}

/* It takes too long. One that has not begun never does; else it is left to itself, if it has not ended just now. */
static int land_leave(struct cw_engine *engine, struct cw__land *land, struct stager *stager)
{
	struct cw__staging *staging = engine->staging;
	uint32_t waited = LAND_WAITED;
	int status = CW_ERR_BUSY;

	pthread_mutex_lock(&staging->lock);
	if (!cw__list_empty(&land->node)) {
		cw__list_remove(&land->node);
		status = CW_ERR_IO;
	} else if (atomic_compare_exchange_strong_explicit(&land->state, &waited, LAND_LEFT, memory_order_acq_rel,
							   memory_order_acquire)) {
		stager->lost = stager->landing == land;
	} else {
		status = land->status;
	}
	pthread_mutex_unlock(&staging->lock);
	return status;
}

int cw__staging_land(struct cw_engine *engine, struct cw__land *land)
{
	uint64_t until = cw__now() + LAND_NS;
	struct stager *stager;
	int status;

	cw__list_init(&land->node);
	atomic_store_explicit(&land->state, LAND_WAITED, memory_order_relaxed);
	status = land_begin(engine, land, &stager);
	if (status)
		return status;
	while (!has_landed(land))
		if (cw__futex_wait(&land->state, LAND_WAITED, until) == CW_ERR_AGAIN && !has_landed(land))
			return land_leave(engine, land, stager);
	return land->status;
}

int cw__staging_withdraw(struct cw__slice *slice)
{
	struct cw__staging *staging = slice->engine->staging;
	int waits;

	pthread_mutex_lock(&staging->lock);
	waits = !cw__list_empty(&slice->job);
	if (waits)
		cw__list_remove(&slice->job);
	pthread_mutex_unlock(&staging->lock);
	return waits;
}

/* --------------------------------------------------------------------------------------- open, close */

int cw__staging_open(struct cw_engine *engine)
{
	struct cw__staging *staging = calloc(1, sizeof(*staging));
	pthread_condattr_t monotonic;

	if (!staging)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	staging->limit = cw__config_number(&engine->config, "staging/memory", 0) / CW_CHUNK_MAX;
	cw__list_init(&staging->free);
	cw__list_init(&staging->stagers);
	pthread_mutex_init(&staging->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&staging->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	engine->staging = staging;
	return CW_OK;
}

static unsigned count_running(const struct cw__staging *staging)
{
	unsigned count = 0;

	cw__list_each(node, &staging->stagers)
	{
		const struct stager *stager = cw__container(node, struct stager, node);

		count += stager->running != NULL || stager->landing != NULL;
	}
	return count;
}

/* With the lock: what no stager has begun with ends on its loop. */
static void refuse_queued(struct stager *stager)
{
	while (!stager->lands && !cw__list_empty(&stager->queue)) {
		struct cw__slice *slice = cw__container(cw__list_pop(&stager->queue), struct cw__slice, job);

		slice->device_failed = 0;
		slice->job_status = CW_ERR_CLOSED;
		cw__task_post(slice->request->segment->loop, &slice->job_task);
	}
}

void cw__staging_stop(struct cw_engine *engine, uint64_t until)
{
	struct cw__staging *staging = engine->staging;
	struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };

	pthread_mutex_lock(&staging->lock);
	atomic_store_explicit(&staging->stopped, 1, memory_order_seq_cst);
	cw__list_each(node, &staging->stagers)
	{
		struct stager *stager = cw__container(node, struct stager, node);

		refuse_queued(stager);
		pthread_cond_signal(&stager->work);
	}
	while (count_running(staging) && pthread_cond_timedwait(&staging->ended, &staging->lock, &at) != ETIMEDOUT)
		;
	staging->abandoned = 1;
	cw__list_each(node, &staging->stagers)
	{
		struct stager *stager = cw__container(node, struct stager, node);

		if (!stager->running && !stager->landing)
			continue;
		staging->stuck++;
		stager->left = 1;
		stager->orphan = stager->running ? stager->running->request->target : NULL;
		pthread_detach(stager->thread);
	}
	pthread_mutex_unlock(&staging->lock);
}

int cw__staging_leave(struct cw_engine *engine, void (*fn)(struct cw_engine *engine))
{
	struct cw__staging *staging = engine->staging;
	int stuck;

	if (!staging)
		return 0;
	pthread_mutex_lock(&staging->lock);
	staging->last = fn;
	stuck = staging->stuck > 0;
	pthread_mutex_unlock(&staging->lock);
	return stuck;
}

void cw__staging_close(struct cw_engine *engine)
{
	struct cw__staging *staging = engine->staging;
	struct cw__list *node;

	if (!staging)
		return;
	while ((node = cw__list_pop(&staging->stagers))) {
		struct stager *stager = cw__container(node, struct stager, node);

		if (!stager->left)
			pthread_join(stager->thread, NULL);
		cw__arena_free(&stager->arena);
		pthread_cond_destroy(&stager->work);
		free(stager);
	}
	while (staging->buffers) {
		struct buffer *buffer = staging->buffers;

		staging->buffers = buffer->next;
		free(buffer->memory);
		free(buffer);
	}
	pthread_cond_destroy(&staging->ended);
	pthread_mutex_destroy(&staging->lock);
	free(staging);
	engine->staging = NULL;
}
