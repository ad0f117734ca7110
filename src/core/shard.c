/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shards: what threads that submit at the same time do not share. A thread holds one shard while it accepts a batch and
 * copies what it can copy itself, mostly the same one each time, so that its counters and its free batches stay in its
 * own cache. Holding a shard also keeps regions, own and remote ones, as they are found: who takes one away waits until
 * all who were at work when it was marked have let their shards go.
 */
#include <core/core.h>
#include <stdlib.h>

static _Atomic unsigned threads;
static _Thread_local unsigned mine;
static _Thread_local struct cw__shard *held;

int cw__shards_open(struct cw_engine *engine)
{
	engine->shards = aligned_alloc(_Alignof(struct cw__shard), CW__SHARDS * sizeof(*engine->shards));
	if (!engine->shards)
		return CW_ERR_NO_MEMORY;
	for (unsigned i = 0; i < CW__SHARDS; i++)
		engine->shards[i] = (struct cw__shard){ .engine = engine };
	return CW_OK;
}

struct cw__shard *cw__shard_try(struct cw_engine *engine, unsigned number)
{
	struct cw__shard *shard = &engine->shards[number % CW__SHARDS];
	uint32_t turn = atomic_load_explicit(&shard->turn, memory_order_relaxed);

	/* Before we look at any region: pairs with cw__shards_mark(). */
	if (turn & 1 || !atomic_compare_exchange_strong_explicit(&shard->turn, &turn, turn + 1, memory_order_seq_cst,
								 memory_order_relaxed))
		return NULL;
	shard->outer = held;
	held = shard;
	return shard;
}

struct cw__shard *cw__shard_enter(struct cw_engine *engine)
{
	struct cw__shard *shard = NULL;

	if (!mine)
		mine = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % CW__SHARDS;
	for (unsigned i = 0; i < CW__SHARDS && !shard; i++)
		shard = cw__shard_try(engine, mine + i);
	return shard;
}

void cw__shard_leave(struct cw__shard *shard)
{
	held = shard->outer;
	atomic_store_explicit(&shard->turn, atomic_load_explicit(&shard->turn, memory_order_relaxed) + 1,
			      memory_order_release);
}

struct cw__shard *cw__shard_held(const struct cw_engine *engine)
{
	struct cw__shard *shard = held;

	return shard && shard->engine == engine ? shard : NULL;
}

void cw__shards_mark(struct cw_engine *engine, struct cw__shard_mark *mark_out)
{
	mark_out->left = 0;
	for (unsigned i = 0; i < CW__SHARDS; i++) {
		/* Written, though not changed: who enters from now on sees all that we did before. */
		mark_out->turns[i] = atomic_fetch_add_explicit(&engine->shards[i].turn, 0, memory_order_seq_cst);
		mark_out->left |= (mark_out->turns[i] & 1) << i;
	}
}

int cw__shards_passed(struct cw_engine *engine, struct cw__shard_mark *mark)
{
	for (unsigned i = 0; mark->left && i < CW__SHARDS; i++)
		if (mark->left & 1u << i &&
		    atomic_load_explicit(&engine->shards[i].turn, memory_order_acquire) != mark->turns[i])
			mark->left &= ~(1u << i);
	return !mark->left;
}
