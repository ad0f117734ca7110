/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a region, or of a part of it: nobody may touch it any more, whoever still does is waited for, peers give
 * back what they were granted, and then it is unregistered. See region.c.
 */
#include <core/naming.h>
#include <stdlib.h>
#include <time.h>

/* With the revoke lock: marks the range, so that no new pin succeeds. */
static int mark_revoked(struct cw_region *region, uint64_t from, uint64_t to)
{
	uint32_t count = atomic_load_explicit(&region->revoked_count, memory_order_relaxed);

	if (from == region->view.address && to == from + region->view.length) {
		if (atomic_exchange_explicit(&region->state, CW__REGION_REVOKED, memory_order_seq_cst) !=
		    CW__REGION_REVOKED)
			cw__region_index(region);
		return CW_OK;
	}
	if (!region->revoked)
		region->revoked = calloc(CW__REVOKED_MAX, sizeof(*region->revoked));
	if (!region->revoked)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory for a revoked range");
	for (uint32_t i = 0; i < count; i++)
		if (from >= atomic_load_explicit(&region->revoked[i].from, memory_order_relaxed) &&
		    to <= atomic_load_explicit(&region->revoked[i].to, memory_order_relaxed))
			return CW_OK;
	if (count == CW__REVOKED_MAX)
		return cw__fail(CW_ERR_LIMIT, "a region has at most %d revoked ranges; revoke all of it",
				CW__REVOKED_MAX);
	atomic_store_explicit(&region->revoked[count].from, from, memory_order_relaxed);
	atomic_store_explicit(&region->revoked[count].to, to, memory_order_relaxed);
	atomic_store_explicit(&region->revoked_count, count + 1, memory_order_seq_cst);
	return CW_OK;
}

/* Waits until every pin that may be older than the mark is gone. Both counters are drained in turn, new pins go to the
 * other one meanwhile, so steady traffic on the rest of the region does not hold us up. */
static int drain_pins(struct cw_region *region, uint64_t until)
{
	for (int round = 0; round < 2; round++) {
		uint32_t epoch = atomic_fetch_add_explicit(&region->epoch, 1, memory_order_seq_cst);
		unsigned looks = 0;

		while (atomic_load_explicit(&region->pins[epoch & 1], memory_order_seq_cst) > 0) {
			struct timespec pause = { 0, looks++ < 100 ? 10000 : 200000 };

			if (cw__now() >= until)
				return CW_ERR_BUSY;
			cw__engine_help(region->engine); /* perhaps we are the thread that everybody waits for */
			nanosleep(&pause, NULL);
		}
	}
	return CW_OK;
}

/* And until every submitter that may have found the range before is done. */
static int drain_shards(struct cw_engine *engine, uint64_t until)
{
	const struct timespec pause = { 0, 10000 };
	struct cw__shard_mark mark;

	cw__shards_mark(engine, &mark);
	while (!cw__shards_passed(engine, &mark)) {
		if (cw__now() >= until)
			return CW_ERR_BUSY;
		nanosleep(&pause, NULL);
	}
	return CW_OK;
}

static void round_put(struct cw__revocation_round *round)
{
	if (atomic_fetch_sub_explicit(&round->refs, 1, memory_order_acq_rel) == 1)
		free(round);
}

void cw__host_revoke_done(struct cw_revocation *token)
{
	struct cw__revocation_round *round = token->round;

	free(token);
	atomic_fetch_sub_explicit(&round->left, 1, memory_order_seq_cst);
	cw__futex_wake_all(&round->left);
	round_put(round);
}

static int await_round(struct cw_engine *engine, struct cw__revocation_round *round, uint64_t until)
{
	uint32_t left;

	while ((left = atomic_load_explicit(&round->left, memory_order_seq_cst)) != 0) {
		uint64_t now = cw__now();

		if (now >= until)
			return CW_ERR_BUSY;
		cw__engine_help(engine);
		cw__futex_wait(&round->left, left, now + CW__MS < until ? now + CW__MS : until);
	}
	return CW_OK;
}

/* Asks each transport to end what peers were given, and waits for that. */
static int revoke_grants(struct cw_region *region, uint64_t from, uint64_t to, uint64_t until)
{
	struct cw_engine *engine = region->engine;
	struct cw__revocation_round *round = calloc(1, sizeof(*round));
	int status = round ? CW_OK : CW_ERR_NO_MEMORY;

	if (status)
		return status;
	atomic_store_explicit(&round->refs, 1, memory_order_relaxed);
	for (unsigned i = 0; !status && i < engine->part_count; i++) {
		struct cw__part *part = &engine->parts[i];
		struct cw_revocation *token;

		if (!region->attached[i] || !part->ops->revoke)
			continue;
		token = malloc(sizeof(*token));
		if (!token) {
			status = CW_ERR_NO_MEMORY;
			break;
		}
		token->round = round;
		atomic_fetch_add_explicit(&round->refs, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&round->left, 1, memory_order_seq_cst);
		if (part->ops->revoke(part->state, &region->view, region->attachments[i], from, to - from, token) !=
		    CW_ERR_AGAIN)
			cw__host_revoke_done(token);
	}
	if (!status)
		status = await_round(engine, round, until);
	round_put(round);
	return status;
}

static void scan_all(struct cw_engine *engine)
{
	for (unsigned i = 0; i < engine->loop_count; i++)
		cw__loop_scan(&engine->loops[i]);
}

static int revoke_range(struct cw_region *region, uint64_t from, uint64_t to, uint64_t until)
{
	struct cw_engine *engine = region->engine;
	int status;

	pthread_mutex_lock(&region->revoke_lock);
	status = mark_revoked(region, from, to);
	if (!status) {
		if (engine->control)
			cw__control.region_gone(engine->control, region->view.id);
		scan_all(engine);
		status = drain_shards(engine, until);
	}
	if (!status)
		status = drain_pins(region, until);
	if (!status)
		status = revoke_grants(region, from, to, until);
	pthread_mutex_unlock(&region->revoke_lock);
	if (status == CW_ERR_BUSY)
		cw__fail(status,
			 "0x%llx + %llu is still in use by a request or by a peer that does not answer; it stays "
			 "revoked, "
			 "try again",
			 (unsigned long long)from, (unsigned long long)(to - from));
	return status;
}

int cw_region_revoke(struct cw_region *region, uint64_t offset, uint64_t length, uint64_t timeout)
{
	int status = region ? cw__engine_check(region->engine) : cw__fail(CW_ERR_INVALID, "no region");
	uint64_t from;

	if (!status)
		status = cw__region_settle(region, CW_FOREVER, NULL);
	if (status == CW_ERR_STALE_REGION)
		status = CW_OK; /* revoked before: wait on */
	if (status)
		return status;
	if (offset >= region->view.length || length > region->view.length - offset)
		return cw__fail(CW_ERR_INVALID, "the range to revoke is not inside the region");
	from = region->view.address + offset;
	status = revoke_range(region, from, from + (length ? length : region->view.length - offset),
			      cw__after(cw__now(), timeout));
	cw__region_changed(region);
	return status;
}

/* Revokes and detaches; then the caller may free the memory. BUSY leaves everything as it was, but revoked. */
static int retire(struct cw_region *region)
{
	struct cw_engine *engine = region->engine;
	uint32_t state = atomic_load_explicit(&region->state, memory_order_acquire);
	int status = CW_OK;

	if (state != CW__REGION_FAILED)
		status = revoke_range(region, region->view.address, region->view.address + region->view.length,
				      cw__after(cw__now(), engine->grace));
	if (status)
		return status;
	cw__region_detach(region);
	return CW_OK;
}

/* Takes back one registration; *last_out = 1 when it was the last and the region is retired. freeing: the memory goes
 * too. */
int cw__region_take_back(struct cw_region *region, int freeing, int *last_out)
{
	struct cw_engine *engine = region->engine;
	int status = CW_OK;

	*last_out = 0;
	/* FAILED and STALE_REGION are no reasons to keep it. */
	cw__region_settle(region, CW_FOREVER, NULL);
	pthread_mutex_lock(&engine->region_lock);
	if (!region->registrations)
		status = cw__fail(CW_ERR_NOT_FOUND, "the region is not registered");
	else if (freeing && !region->allocation.address)
		status = cw__fail(CW_ERR_INVALID, "this memory is the caller's; use cw_region_unregister()");
	else if (!freeing && region->allocation.address && region->registrations == 1)
		status = cw__fail(CW_ERR_INVALID, "this memory was allocated by the engine; use cw_memory_free()");
	else if (region->freeing)
		status = cw__fail(CW_ERR_BUSY, "another thread is unregistering this region");
	else if (region->registrations > 1)
		region->registrations--;
	else
		*last_out = 1;
	if (*last_out)
		region->freeing = 1;
	pthread_mutex_unlock(&engine->region_lock);
	if (status || !*last_out)
		return status;
	if (region->has_worker) {
		pthread_join(region->worker, NULL);
		region->has_worker = 0;
	}
	status = retire(region);
	if (!status)
		cw__region_gone_publish(region);
	pthread_mutex_lock(&engine->region_lock);
	region->freeing = 0;
	if (!status)
		region->registrations = 0;
	pthread_mutex_unlock(&engine->region_lock);
	*last_out = !status;
	return status;
}

int cw_region_unregister(struct cw_region *region)
{
	int last, status = region ? cw__engine_check(region->engine) : cw__fail(CW_ERR_INVALID, "no region");

	if (!status)
		status = cw__region_take_back(region, 0, &last);
	if (!status && last)
		cw__region_drop(region);
	return status;
}
