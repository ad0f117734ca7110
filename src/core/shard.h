/* SPDX-License-Identifier: Apache-2.0 */
/* What threads that submit at the same time do not share, and what an engine counts. See shard.c. */
#ifndef CW_CORE_SHARD_H
#define CW_CORE_SHARD_H

#include <stdatomic.h>
#include <stdint.h>

#define CW__SHARDS 32u

struct cw_batch;
struct cw_engine;

/* clang-format off */
#define CW__COUNTERS(X) \
	X(batches_submitted) \
	X(batches_completed) \
	X(batches_failed) \
	X(batches_canceled) \
	X(batches_timed_out) \
	X(requests_submitted) \
	X(requests_completed) \
	X(bytes_written) \
	X(bytes_read) \
	X(bytes_served) \
	X(slices_retried) \
	X(notifications_sent) \
	X(notifications_received) \
	X(notifications_dropped) \
	X(requests_refused) \
	X(protocol_errors) \
	X(wakeups)
/* clang-format on */

struct cw__counters {
#define CW__COUNTER_FIELD(name) _Atomic uint64_t name;
	CW__COUNTERS(CW__COUNTER_FIELD)
#undef CW__COUNTER_FIELD
};

/* In common; what a thread with a shard counts is in its shard. */
#define cw__count(engine, counter, n)                                                                                  \
	atomic_fetch_add_explicit(&(engine)->counters.counter, (uint64_t)(n), memory_order_relaxed)

/* What one thread at a time holds while it submits. Only the holder writes, except `turn`. */
struct cw__shard {
	_Alignas(128) _Atomic uint32_t turn; /* odd = held */
	_Atomic uint32_t free_count;
	struct cw_engine *engine;
	struct cw__shard *outer;        /* which the holder's thread holds too */
	struct cw_batch *free_batches;  /* by next_free */
	_Atomic uint64_t batches_alive; /* taken here less given back here: may wrap */
	struct cw__counters counters;
};

/* The shards that were held at some moment. */
struct cw__shard_mark {
	uint32_t left;
	uint32_t turns[CW__SHARDS];
};

int cw__shards_open(struct cw_engine *engine); /* ERR_NO_MEMORY */
/* A shard for the calling thread; NULL = all are held. It must not wait for others before it leaves. */
struct cw__shard *cw__shard_enter(struct cw_engine *engine);
struct cw__shard *cw__shard_try(struct cw_engine *engine, unsigned number);
void cw__shard_leave(struct cw__shard *shard);
/* The one of this engine that the calling thread holds, or NULL. */
struct cw__shard *cw__shard_held(const struct cw_engine *engine);
/* Who enters after the mark sees what the caller did before it. passed: 1 = all who were in then have left. */
void cw__shards_mark(struct cw_engine *engine, struct cw__shard_mark *mark_out);
int cw__shards_passed(struct cw_engine *engine, struct cw__shard_mark *mark);

static inline void cw__shard_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void cw__shard_free_count(struct cw__shard *shard, uint32_t n)
{
	atomic_store_explicit(&shard->free_count, atomic_load_explicit(&shard->free_count, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

#endif
