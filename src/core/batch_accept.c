/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches as objects: their pool, and the acceptance of what a caller hands in, which is checked and copied as a whole
 * or refused as a whole. Their life is in batch.c.
 */
#include <core/device.h>
#include <stdlib.h>
#include <string.h>

#define POOL_MAX 256u /* free batches that no shard has */
#define SHARD_MAX 32u /* and of one shard */

/* ------------------------------------------------------------------------------------------- lifetime */

static struct cw_batch *take_of_shard(struct cw__shard *shard)
{
	struct cw_batch *batch = shard->free_batches;

	if (batch) {
		shard->free_batches = batch->next_free;
		cw__shard_free_count(shard, -1u);
	}
	return batch;
}

static struct cw_batch *take_of_engine(struct cw_engine *engine)
{
	struct cw_batch *batch;

	if (!atomic_load_explicit(&engine->free_batch_count, memory_order_relaxed))
		return NULL;
	pthread_mutex_lock(&engine->batch_lock);
	batch = engine->free_batches;
	if (batch) {
		engine->free_batches = batch->next_free;
		atomic_fetch_sub_explicit(&engine->free_batch_count, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&engine->batch_lock);
	return batch;
}

/* Of threads that have none to do now, or are gone. */
static struct cw_batch *take_of_others(struct cw_engine *engine)
{
	struct cw_batch *batch = NULL;

	for (unsigned i = 0; i < CW__SHARDS && !batch; i++) {
		struct cw__shard *shard = NULL;

		if (atomic_load_explicit(&engine->shards[i].free_count, memory_order_relaxed))
			shard = cw__shard_try(engine, i);
		if (!shard)
			continue;
		batch = take_of_shard(shard);
		cw__shard_leave(shard);
	}
	return batch;
}

static struct cw_batch *batch_new(struct cw_engine *engine)
{
	struct cw_batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return NULL;
	batch->engine = engine;
	batch->slice.embedded = 1;
	pthread_mutex_init(&batch->lock, NULL);
	pthread_mutex_lock(&engine->batch_lock);
	cw__list_push_back(&engine->batches, &batch->node);
	pthread_mutex_unlock(&engine->batch_lock);
	return batch;
}

static void count_alive(struct cw_engine *engine, struct cw__shard *shard, uint64_t n)
{
	if (shard)
		cw__shard_count(&shard->batches_alive, n);
	else
		atomic_fetch_add_explicit(&engine->batches_alive, n, memory_order_relaxed);
}

static struct cw_batch *batch_take(struct cw_engine *engine, struct cw__shard *shard)
{
	struct cw_batch *batch = shard ? take_of_shard(shard) : NULL;

	if (!batch)
		batch = take_of_engine(engine);
	if (!batch)
		batch = take_of_others(engine);
	if (!batch)
		batch = batch_new(engine);
	if (batch)
		count_alive(engine, shard, 1);
	return batch;
}

static void sendings_free(struct cw_batch *batch)
{
	for (size_t i = 0; i < batch->sending_count; i++) {
		free(batch->sendings[i].data);
		if (batch->sendings[i].segment)
			cw__segment_put(batch->sendings[i].segment);
	}
	free(batch->sendings);
	batch->sendings = NULL;
	batch->sending_count = 0;
}

/* No list has it any more. */
static void batch_destroy(struct cw_batch *batch)
{
	pthread_mutex_destroy(&batch->lock);
	free(batch->requests);
	free(batch->indices);
	free(batch);
}

/* Is there another segment at request i than at the one before? */
static int is_change(const struct cw_batch *batch, size_t i)
{
	return !i || batch->requests[i].segment != batch->requests[i - 1].segment;
}

static void segments_put(struct cw_batch *batch)
{
	if (!batch->keeps_segments)
		return;
	batch->keeps_segments = 0;
	for (size_t i = 0; i < batch->count; i++)
		if (is_change(batch, i))
			cw__segment_put(batch->requests[i].segment);
}

static void give_to_engine(struct cw_engine *engine, struct cw_batch *batch)
{
	int keep;

	pthread_mutex_lock(&engine->batch_lock);
	keep = atomic_load_explicit(&engine->free_batch_count, memory_order_relaxed) < POOL_MAX;
	if (keep) {
		batch->next_free = engine->free_batches;
		engine->free_batches = batch;
		atomic_fetch_add_explicit(&engine->free_batch_count, 1, memory_order_relaxed);
	} else {
		cw__list_remove(&batch->node);
	}
	pthread_mutex_unlock(&engine->batch_lock);
	if (!keep)
		batch_destroy(batch);
}

/* The parts that a batch grew are kept: the next one of its size needs no memory. */
static void batch_give(struct cw_batch *batch, struct cw__shard *shard)
{
	struct cw_engine *engine = batch->engine;

	if (engine)
		segments_put(batch);
	sendings_free(batch);
	cw__watches_free(batch);
	free(batch->dependencies);
	batch->dependencies = NULL;
	batch->count = 0;
	if (!engine) { /* the engine is closed */
		batch_destroy(batch);
		return;
	}
	count_alive(engine, shard, UINT64_MAX);
	if (!shard || atomic_load_explicit(&shard->free_count, memory_order_relaxed) >= SHARD_MAX) {
		give_to_engine(engine, batch);
		return;
	}
	batch->next_free = shard->free_batches;
	shard->free_batches = batch;
	cw__shard_free_count(shard, 1);
}

void cw__batch_put(struct cw_batch *batch)
{
	struct cw__shard *shard;

	if (atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) != 1)
		return;
	shard = batch->engine ? cw__shard_enter(batch->engine) : NULL;
	batch_give(batch, shard);
	if (shard)
		cw__shard_leave(shard);
}

void cw_batch_release(struct cw_batch *batch)
{
	if (batch && (!batch->engine || !cw__engine_check(batch->engine)))
		cw__batch_put(batch);
}

/* ----------------------------------------------------------------------------------------- acceptance */

/* The range that a vector touches, or why it is malformed. */
static const char *bounds(struct cw_vec *vec, uint64_t *from_out, uint64_t *to_out)
{
	uint64_t low = UINT64_MAX, high = 0, reach;

	if (!vec->stride)
		vec->stride = vec->page_size;
	if (!vec->page_size || !vec->count)
		return "a vector is empty";
	if ((vec->indices != NULL) != (vec->index_bits != 0) ||
	    (vec->index_bits && vec->index_bits != 32 && vec->index_bits != 64))
		return "index_bits must be 32 or 64 with indices, 0 without";
	if (!vec->indices) {
		low = 0;
		high = vec->count - 1;
	} else if (vec->index_bits == 32) {
		const uint32_t *indices = vec->indices;

		for (uint64_t i = 0; i < vec->count; i++) {
			low = indices[i] < low ? indices[i] : low;
			high = indices[i] > high ? indices[i] : high;
		}
	} else {
		const uint64_t *indices = vec->indices;

		for (uint64_t i = 0; i < vec->count; i++) {
			low = indices[i] < low ? indices[i] : low;
			high = indices[i] > high ? indices[i] : high;
		}
	}
	if (__builtin_mul_overflow(high, vec->stride, &reach) || __builtin_add_overflow(reach, vec->base, &reach) ||
	    __builtin_add_overflow(reach, vec->page_size, to_out))
		return "a vector wraps around the address space";
	*from_out = vec->base + low * vec->stride;
	return NULL;
}

static int accept_request(struct cw_batch *batch, size_t number, const struct cw_request *given)
{
	struct cw_engine *engine = batch->engine;
	struct cw__request *request = &batch->requests[number];
	uint64_t length = 0, other = 1;
	const char *wrong = NULL;

	request->local = given->local;
	request->remote = given->remote;
	if (!given->segment || given->segment->engine != engine)
		wrong = "its segment is not one of this engine";
	else if (given->op != CW_OP_READ && given->op != CW_OP_WRITE)
		wrong = "unknown operation";
	else if (given->flags & ~(uint32_t)CW_REQUEST_BORROW_INDICES || given->local.space)
		wrong = "unknown flags, or a space on the local side";
	if (!wrong)
		wrong = bounds(&request->local, &request->local_from, &request->local_to);
	if (!wrong)
		wrong = bounds(&request->remote, &request->remote_from, &request->remote_to);
	if (!wrong &&
	    (__builtin_mul_overflow(request->local.page_size, request->local.count, &length) ||
	     __builtin_mul_overflow(request->remote.page_size, request->remote.count, &other) || length != other))
		wrong = "its two sides differ in length";
	if (wrong)
		return cw__fail(CW_ERR_INVALID, "request %zu: %s", number, wrong);
	request->region = cw__region_lookup(engine, request->local_from, request->local_to - request->local_from,
					    &request->region_id);
	if (!request->region)
		return cw__fail(CW_ERR_NOT_REGISTERED,
				"request %zu: local 0x%llx to 0x%llx is not inside a registered "
				"region; register it first",
				number, (unsigned long long)request->local_from, (unsigned long long)request->local_to);
	request->batch = batch;
	request->segment = given->segment;
	request->length = length;
	request->op = (uint8_t)given->op;
	request->state = CW__REQUEST_NEW;
	atomic_store_explicit(&request->status, CW_ERR_AGAIN, memory_order_relaxed);
	batch->bytes += length;
	return CW_OK;
}

/* What only those need that do not end at once. */
static void make_ready(struct cw__request *request)
{
	cw__list_init(&request->node);
	cw__list_init(&request->active_node);
	cw__list_init(&request->again);
	cw__list_init(&request->flying);
	request->target = NULL;
	request->next = request->window = request->end = request->done = 0;
	request->inflight = 0;
	request->part = 0;
	request->reach = (struct cw_reach){ 0 };
	request->skip = request->repeats = request->remote_quiet = 0;
	request->staged = request->handed = request->stopped_in = request->refreshed = request->have_path = 0;
	request->failure = CW_OK;
	request->fence = 0;
}

void cw__batch_keep(struct cw_batch *batch)
{
	for (size_t i = 0; i < batch->count; i++) {
		if (batch->requests[i].state != CW__REQUEST_ENDED)
			make_ready(&batch->requests[i]);
		if (is_change(batch, i))
			atomic_fetch_add_explicit(&batch->requests[i].segment->refs, 1, memory_order_relaxed);
	}
	batch->keeps_segments = 1;
}

static size_t index_bytes(const struct cw_vec *vec)
{
	return vec->indices ? (size_t)vec->count * (vec->index_bits / 8) : 0;
}

/* Copies the index arrays that the caller does not lend. */
static int copy_indices(struct cw_batch *batch, const struct cw_request *given, size_t count)
{
	size_t total = 0, at = 0;

	for (size_t i = 0; i < count; i++)
		if (!(given[i].flags & CW_REQUEST_BORROW_INDICES))
			total += ((index_bytes(&given[i].local) + 7) & ~(size_t)7) +
				 ((index_bytes(&given[i].remote) + 7) & ~(size_t)7);
	if (total > batch->index_bytes) {
		unsigned char *grown = realloc(batch->indices, total);

		if (!grown)
			return cw__fail(CW_ERR_NO_MEMORY, "out of memory for page indices");
		batch->indices = grown;
		batch->index_bytes = total;
	}
	for (size_t i = 0; i < count && total; i++) {
		struct cw_vec *sides[2] = { &batch->requests[i].local, &batch->requests[i].remote };

		for (int side = 0; side < 2; side++) {
			size_t bytes = index_bytes(sides[side]);

			if (!bytes || given[i].flags & CW_REQUEST_BORROW_INDICES)
				continue;
			memcpy(batch->indices + at, sides[side]->indices, bytes);
			sides[side]->indices = batch->indices + at;
			at += (bytes + 7) & ~(size_t)7;
		}
	}
	return CW_OK;
}

static int accept_requests(struct cw_batch *batch, const struct cw_request *given, size_t count)
{
	int status;

	if (count > batch->capacity) {
		struct cw__request *grown = realloc(batch->requests, count * sizeof(*grown));

		if (!grown)
			return cw__fail(CW_ERR_NO_MEMORY, "out of memory for %zu requests", count);
		batch->requests = grown;
		batch->capacity = count;
	}
	for (size_t i = 0; i < count; i++) {
		status = accept_request(batch, i, &given[i]);
		if (status)
			return status;
	}
	status = copy_indices(batch, given, count);
	if (status)
		return status;
	batch->count = count;
	return CW_OK;
}

static void reset(struct cw_batch *batch, const struct cw_batch_options *options)
{
	atomic_store_explicit(&batch->refs, 2, memory_order_relaxed); /* the caller's and the engine's */
	atomic_store_explicit(&batch->word, CW_BATCH_WAITING, memory_order_relaxed);
	atomic_store_explicit(&batch->prerequisites, 1, memory_order_relaxed); /* the submitting call itself */
	atomic_store_explicit(&batch->ending, 0, memory_order_relaxed);
	atomic_store_explicit(&batch->started, 0, memory_order_relaxed);
	atomic_store_explicit(&batch->sendings_open, 0, memory_order_relaxed);
	cw__list_init(&batch->queue_node);
	cw__list_init(&batch->ended_node);
	cw__list_init(&batch->dependents);
	cw__list_init(&batch->fences);
	batch->flags = options->flags;
	batch->priority = options->priority;
	batch->delivery = options->delivery;
	batch->queue = options->queue;
	batch->callback = options->callback;
	batch->arg = options->arg;
	batch->bytes = 0;
	batch->count = 0;
	batch->ended = 0;
	memset(&batch->timer, 0, sizeof(batch->timer));
	batch->timer_in_grace = 0;
	atomic_store_explicit(&batch->timer_used, 0, memory_order_relaxed);
	atomic_store_explicit(&batch->timer_posted, 0, memory_order_relaxed);
	batch->dependency_count = 0;
	batch->status = CW_OK;
	batch->remote = CW_REMOTE_QUIET;
	batch->fence = 0;
	batch->requests_completed = batch->requests_failed = batch->bytes_completed = 0;
	batch->local_quiet = 1;
	batch->published = CW__BATCH_UNTOLD;
	batch->quiet_owed = 0;
	batch->finished = 0;
	batch->text[0] = 0;
	batch->submitted = cw__now();
}

static int check_options(struct cw_engine *engine, const struct cw_batch_options *options)
{
	if (options->size != sizeof(*options))
		return cw__fail(CW_ERR_INVALID, "batch options: wrong size; use CW_BATCH_OPTIONS_INIT");
	if (options->flags & ~(uint32_t)(CW_BATCH_FAIL_FAST | CW_BATCH_STRICT | CW_BATCH_CHECKSUM) ||
	    options->priority >= CW__CLASSES || options->delivery > CW_DELIVERY_LOCAL)
		return cw__fail(CW_ERR_INVALID, "batch options: unknown flags, class or delivery level");
	if ((options->notify_count && !options->notify) || (options->after_count && !options->after))
		return cw__fail(CW_ERR_INVALID, "batch options: a count without its array");
	if ((options->queue && options->queue->engine != engine) ||
	    (options->counter && options->counter->engine != engine))
		return cw__fail(CW_ERR_INVALID, "batch options: a queue or counter of another engine");
	for (size_t i = 0; i < options->after_count; i++)
		if (!options->after[i] || options->after[i]->engine != engine)
			return cw__fail(CW_ERR_INVALID, "batch options: prerequisite %zu is not a batch of this engine",
					i);
	return CW_OK;
}

static int make_dependencies(struct cw_batch *batch, const struct cw_batch_options *options)
{
	size_t count = options->after_count + (options->counter != NULL);

	if (!count)
		return CW_OK;
	batch->dependencies = calloc(count, sizeof(*batch->dependencies));
	if (!batch->dependencies)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory for prerequisites");
	batch->dependency_count = count;
	return CW_OK;
}

int cw__batch_make(struct cw_engine *engine, struct cw__shard *shard, const struct cw_request *requests, size_t count,
		   const struct cw_batch_options *options, struct cw_batch **batch_out)
{
	struct cw_batch *batch;
	int status = check_options(engine, options);

	if (status)
		return status;
	batch = batch_take(engine, shard);
	if (!batch)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	reset(batch, options);
	status = accept_requests(batch, requests, count);
	if (!status)
		status = make_dependencies(batch, options);
	if (!status && options->notify_count)
		status = cw__notify_accept(batch, options);
	if (!status)
		status = cw__watches_make(batch, options);
	if (status) {
		atomic_store_explicit(&batch->refs, 0, memory_order_relaxed);
		batch_give(batch, shard);
		return status;
	}
	*batch_out = batch;
	return CW_OK;
}

void cw__batches_close(struct cw_engine *engine)
{
	struct cw__list *node;

	while ((node = cw__list_pop(&engine->batches))) {
		struct cw_batch *batch = cw__container(node, struct cw_batch, node);

		if (!atomic_load_explicit(&batch->refs, memory_order_acquire)) { /* a free one */
			batch_destroy(batch);
			continue;
		}
		segments_put(batch);
		sendings_free(batch);
		cw__fences_release(&batch->fences); /* of one that could not be ended */
		batch->engine = NULL;
		if (!batch->finished) { /* nobody will come back to it */
			cw__timer_stop(batch->loop, &batch->timer);
			cw__batch_put(batch);
		}
	}
}
