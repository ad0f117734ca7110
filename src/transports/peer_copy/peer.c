/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer: slices that the core posts become jobs of lanes, and jobs that lanes have finished end as slices on the loop.
 * Small ones come by cw__peer_copy_copy(), in any thread, which waits a moment for the lane: no call of the runtime is
 * made by a thread that is not ours.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <transports/peer_copy/inside.h>

#define LEAD_NS 80000ull       /* before the expected end of a long job its loop is awake, and so long after it */
#define QUICK_NS 200000ull     /* who asked for a small copy waits for it for so long */
#define QUICK_ALONE_NS 5000ull /* and after that others get its processor in between */

static const struct cw_host_ops *ops_of(const struct cw__pc_peer *peer)
{
	return peer->pc->host->ops;
}

/* A region of our own that we do not know is none of ours, or it is gone: that is found out, and said, by
 * access_begin().
 */
static int gone_side(const struct cw__pc_peer *peer, const struct cw_remote_view *remote, struct cw__pc_side *side_out)
{
	const struct cw_region_view *view = ops_of(peer)->region_get(peer->pc->host, remote->id, remote->key);

	if (view) {
		ops_of(peer)->region_put(peer->pc->host, view);
		return CW_ERR_UNSUPPORTED;
	}
	if (!cw__pc_is_end(peer->pc, remote->device))
		return CW_ERR_UNSUPPORTED;
	*side_out = (struct cw__pc_side){ .device = remote->kind == CW_MEMORY_HOST ? -1 : remote->device };
	return CW_OK;
}

int cw__pc_remote_side(const struct cw__pc_peer *peer, const struct cw_remote_view *remote,
		       const struct cw__pc_import *import, struct cw__pc_side *side_out)
{
	struct cw__peer_copy *pc = peer->pc;
	const struct cw__pc_region *region;

	if (!peer->self) {
		if (import)
			*side_out = import->side;
		return import ? CW_OK : CW_ERR_UNSUPPORTED;
	}
	pthread_mutex_lock(&pc->lock);
	region = cw__pc_region_find(pc, remote->id);
	if (region)
		*side_out = region->side;
	pthread_mutex_unlock(&pc->lock);
	return region ? CW_OK : gone_side(peer, remote, side_out);
}

/* --------------------------------------------------------------------------------------- from the lanes */

static void job_give(struct cw__pc_peer *peer, struct cw__pc_job *job)
{
	job->lane = NULL;
	job->slice = NULL;
	if (job->way.quick) {
		atomic_store_explicit(&job->wait, CW__PC_FREE, memory_order_release);
		return;
	}
	job->next = peer->free_jobs;
	peer->free_jobs = job;
}

/* The core may post or cancel others in here. */
static void job_end(struct cw__pc_peer *peer, struct cw__pc_job *job, int status, enum cw_remote_state remote)
{
	struct cw_slice *slice = job->slice;

	job_give(peer, job);
	ops_of(peer)->slice_done(slice, status, remote);
}

void cw__pc_job_finished(struct cw__pc_job *job)
{
	struct cw__pc_peer *peer = job->peer;
	struct cw__pc_job *head = atomic_load_explicit(&peer->finished, memory_order_relaxed);

	/* The peer stays as long as it has reporters. */
	atomic_fetch_add_explicit(&peer->reporters, 1, memory_order_acq_rel);
	do
		job->next = head;
	while (!atomic_compare_exchange_weak_explicit(&peer->finished, &head, job, memory_order_seq_cst,
						      memory_order_relaxed));
	cw__pc_peer_wake(peer);
	atomic_fetch_sub_explicit(&peer->reporters, 1, memory_order_release);
}

void cw__pc_peer_wake(struct cw__pc_peer *peer)
{
	if (!atomic_exchange_explicit(&peer->posted, 1, memory_order_seq_cst))
		ops_of(peer)->task_post(peer->core->loop, &peer->task);
}

static void collect(struct cw__pc_peer *peer)
{
	struct cw__pc_job *job = atomic_exchange_explicit(&peer->finished, NULL, memory_order_seq_cst), *ordered = NULL;

	while (job) { /* finished last comes first: turn it round */
		struct cw__pc_job *next = job->next;

		job->next = ordered;
		ordered = job;
		job = next;
	}
	while (ordered) {
		job = ordered;
		ordered = job->next;
		job_end(peer, job, job->status, job->remote);
	}
}

static void tell_links(struct cw__pc_peer *peer)
{
	struct cw__peer_copy *pc = peer->pc;

	for (unsigned i = 0; i < pc->link_count; i++) {
		unsigned char down = atomic_load_explicit(&pc->links[i].down, memory_order_acquire) != 0;

		if (down == peer->told_down[i])
			continue;
		peer->told_down[i] = down;
		ops_of(peer)->rail_state(pc->host, peer->core, CW__PC_RAIL_LINKS + i, down ? CW_ERR_IO : CW_OK);
	}
}

static void tell_room(struct cw__pc_peer *peer)
{
	uint64_t full = peer->full;

	if (!peer->free_jobs)
		return;
	peer->full = 0;
	for (unsigned rail = 0; full; rail++, full >>= 1)
		if (full & 1)
			ops_of(peer)->rail_ready(peer->pc->host, peer->core, rail);
}

static void look(struct cw__pc_peer *peer)
{
	atomic_store_explicit(&peer->posted, 0, memory_order_seq_cst);
	collect(peer);
	if (atomic_load_explicit(&peer->pc->orphans, memory_order_relaxed))
		cw__pc_imports_adopt(peer);
	tell_links(peer);
	tell_room(peer);
}

static void peer_turn(struct cw_task *task)
{
	struct cw__pc_peer *peer = cw__container(task, struct cw__pc_peer, task);
	struct cw__peer_copy *pc = peer->pc;

	if (!peer->closed) {
		look(peer);
		return;
	}
	atomic_store_explicit(&peer->posted, 0, memory_order_seq_cst);
	if (peer->abandoned)
		return;
	pthread_mutex_lock(&pc->lock);
	cw__list_remove(&peer->node);
	pthread_mutex_unlock(&pc->lock);
	cw__pc_peer_free(peer);
}

/* To be woken by the lane costs tens of microseconds on both sides. So the loop wakes itself shortly before a long job
 * is expected to end, and waits for it here. Our task counts as posted meanwhile: the lane need not wake anybody. */
static void await_end(struct cw_timer *timer)
{
	struct cw__pc_peer *peer = cw__container(timer, struct cw__pc_peer, end_timer);
	const struct cw__pc_lane *lane = peer->ending;

	peer->ending = NULL;
	if (atomic_exchange_explicit(&peer->posted, 1, memory_order_seq_cst))
		return;
	/* Where the lane shares our processor it needs it, and wakes us soon enough. */
	while (!atomic_load_explicit(&peer->finished, memory_order_relaxed) && cw__now() < peer->end_until &&
	       cw__pc_lane_processor(lane) != sched_getcpu())
		cw__pc_relax();
	look(peer);
}

static void expect_end(struct cw__pc_peer *peer, const struct cw__pc_job *job)
{
	uint64_t now;

	if (job->expected < 2 * LEAD_NS || peer->ending)
		return;
	now = cw__now();
	peer->ending = job->lane;
	peer->end_until = now + job->expected + LEAD_NS;
	ops_of(peer)->timer_set(peer->core->loop, &peer->end_timer, now + job->expected - LEAD_NS);
}

/* ---------------------------------------------------------------------------------------- to the lanes */

/* CW_OK: the lane has it. */
static int post_one(struct cw__pc_peer *peer, unsigned rail, struct cw_slice *slice, struct cw__pc_job *job)
{
	struct cw__peer_copy *pc = peer->pc;
	const struct cw__pc_region *local = slice->attachment;
	struct cw__pc_side remote;
	const char *why;

	if (!local || cw__pc_remote_side(peer, slice->remote, slice->import, &remote))
		return CW_ERR_UNSUPPORTED;
	job->way = cw__pc_way((enum cw_op)slice->op, &local->side, &remote);
	if (cw__pc_way_check(pc, &job->way, &why))
		return CW_ERR_UNSUPPORTED;
	job->way.quick = rail == CW__PC_RAIL_SYNC;
	if (rail >= CW__PC_RAIL_LINKS) {
		job->way.link = (int)(rail - CW__PC_RAIL_LINKS);
		if (atomic_load_explicit(&pc->links[job->way.link].down, memory_order_acquire))
			return CW_ERR_IO;
	}
	job->peer = peer;
	job->slice = slice;
	job->local_shift = local->side.shift;
	job->remote_shift = remote.shift;
	job->async = rail >= CW__PC_RAIL_ASYNC && !cw__pc_is_doubtful(pc, &job->way);
	atomic_store_explicit(&job->canceled, 0, memory_order_relaxed);
	job->ending = 0;
	job->offset = 0;
	job->status = CW_OK;
	job->remote = CW_REMOTE_QUIET;
	job->pinned = 0;
	slice->scratch[0] = (uint64_t)(uintptr_t)job;
	job->claim = (struct cw_claim){
		.region_id = slice->remote->id, .key = slice->remote->key, .op = slice->op, .direct = 1
	};
	if (job->way.quick) /* so that the lane need not ask for them */
		job->piece_count = ops_of(peer)->slice_pieces(slice, 0, job->pieces, CW__PC_SYNC_PIECES);
	return cw__pc_lane_post(pc, job);
}

unsigned cw__peer_copy_post(void *transport, void *opened, unsigned rail, struct cw_slice **slices, unsigned count)
{
	struct cw__pc_peer *peer = opened;

	(void)transport;
	for (unsigned i = 0; i < count; i++) {
		struct cw__pc_job *job = peer->free_jobs;
		int status;

		if (!job) {
			peer->full |= UINT64_C(1) << rail;
			return i;
		}
		peer->free_jobs = job->next;
		status = post_one(peer, rail, slices[i], job);
		if (!status) {
			expect_end(peer, job);
			continue;
		}
		job_give(peer, job);
		ops_of(peer)->slice_done(slices[i], status, CW_REMOTE_QUIET);
	}
	return count;
}

void cw__peer_copy_cancel(void *transport, void *opened, struct cw_slice *slice)
{
	struct cw__pc_peer *peer = opened;
	struct cw__pc_job *job = (struct cw__pc_job *)(uintptr_t)slice->scratch[0];

	(void)transport;
	if (cw__pc_lane_cancel(job))
		job_end(peer, job, CW_ERR_CANCELED, CW_REMOTE_QUIET);
}

/* Is it with a lane, and ours to end? Those that somebody waits for are that one's. */
static int is_out(const struct cw__pc_peer *peer, const struct cw__pc_job *job)
{
	if (job >= peer->quick_jobs && atomic_load_explicit(&job->wait, memory_order_acquire) != CW__PC_ADRIFT)
		return 0;
	return job->lane && job->slice;
}

static int any_out(const struct cw__pc_peer *peer)
{
	for (unsigned i = 0; i < peer->job_count; i++)
		if (is_out(peer, &peer->jobs[i]))
			return 1;
	return 0;
}

static void cancel_all(struct cw__pc_peer *peer, int status)
{
	for (unsigned i = 0; i < peer->job_count; i++)
		if (is_out(peer, &peer->jobs[i]) && cw__pc_lane_cancel(&peer->jobs[i]))
			job_end(peer, &peer->jobs[i], status, CW_REMOTE_QUIET);
}

void cw__peer_copy_peer_lost(void *transport, void *opened, int status)
{
	struct cw__pc_peer *peer = opened;

	(void)transport;
	cancel_all(peer, status);
	cw__pc_imports_lost(peer, status == CW_ERR_PEER_RESTARTED);
}

/* ---------------------------------------------------------------------------------------- small copies */

/* One that nobody uses; a thread mostly finds its own again. */
static struct cw__pc_job *quick_take(struct cw__pc_peer *peer)
{
	static _Thread_local unsigned last;

	for (unsigned i = 0; i < CW__PC_QUICK_JOBS; i++) {
		unsigned at = (last + i) % CW__PC_QUICK_JOBS;
		int expected = CW__PC_FREE;

		if (atomic_load_explicit(&peer->quick_jobs[at].wait, memory_order_relaxed) != CW__PC_FREE ||
		    !atomic_compare_exchange_strong_explicit(&peer->quick_jobs[at].wait, &expected, CW__PC_WAITED,
							     memory_order_acquire, memory_order_relaxed))
			continue;
		last = at;
		return &peer->quick_jobs[at];
	}
	return NULL;
}

/* 1 = the job has ended; 0 = it goes on without us. Who may not go waits on. */
static int quick_await(struct cw__pc_job *job, int may_go)
{
	uint64_t began = cw__now(), waited = 0;

	while (atomic_load_explicit(&job->wait, memory_order_acquire) != CW__PC_ENDED) {
		int expected = CW__PC_WAITED;

		if (waited > QUICK_NS && may_go &&
		    atomic_compare_exchange_strong_explicit(&job->wait, &expected, CW__PC_ADRIFT, memory_order_release,
							    memory_order_relaxed))
			return 0;
		if (waited > QUICK_ALONE_NS) /* the lane may wait for this processor */
			sched_yield();
		waited = cw__now() - began;
	}
	return 1;
}

int cw__peer_copy_copy(void *transport, void *opened, struct cw_slice *slice)
{
	struct cw__pc_peer *peer = opened;
	struct cw__pc_job *job = quick_take(peer);
	int status;

	(void)transport;
	if (!job)
		return CW_ERR_BUSY;
	status = post_one(peer, CW__PC_RAIL_SYNC, slice, job);
	if (!status && !quick_await(job, (slice->flags & CW_SLICE_STAYS) != 0))
		return CW_ERR_AGAIN;
	if (!status)
		status = job->status;
	atomic_store_explicit(&job->wait, CW__PC_FREE, memory_order_release);
	return status;
}

/* -------------------------------------------------------------------------------------- open and close */

static void make_jobs(struct cw__pc_peer *peer)
{
	unsigned count = 2 * CW__PC_JOBS + CW__PC_LINK_JOBS * peer->pc->link_count;

	peer->jobs = calloc(count + CW__PC_QUICK_JOBS, sizeof(*peer->jobs));
	peer->job_count = peer->jobs ? count + CW__PC_QUICK_JOBS : 0;
	peer->quick_jobs = peer->jobs + count;
	for (unsigned i = 0; peer->jobs && i < count; i++) {
		peer->jobs[i].next = peer->free_jobs;
		peer->free_jobs = &peer->jobs[i];
	}
}

int cw__peer_copy_peer_open(void *transport, struct cw_peer *core, const void *description, size_t length,
			    void **peer_out)
{
	struct cw__peer_copy *pc = transport;
	struct cw__pc_peer *peer = calloc(1, sizeof(*peer));
	struct cw__pc_offer offer;
	const char *why = "off: not asked for yet";

	if (!peer)
		return CW_ERR_NO_MEMORY;
	peer->pc = pc;
	peer->core = core;
	peer->self = !memcmp(core->instance, ops_of(peer)->instance(pc->host), sizeof(core->instance));
	cw__list_init(&peer->imports);
	peer->leave_timer.fire = cw__pc_leave_again;
	peer->end_timer.fire = await_end;
	peer->task.run = peer_turn;
	make_jobs(peer);
	if (cw__pc_offer_decode(description, length, &offer) || offer.vendor != pc->gpu->vendor)
		why = "off: the peer's description cannot be read";
	else if (!core->same_host)
		why = "off: the peer is on another machine";
	else if (!peer->jobs)
		why = "off: out of memory";
	else
		peer->usable = 1;
	atomic_store_explicit(&peer->why, why, memory_order_release);
	pthread_mutex_lock(&pc->lock);
	cw__list_push_back(&pc->peers, &peer->node);
	pthread_mutex_unlock(&pc->lock);
	*peer_out = peer;
	if (peer->usable) {
		cw__pc_imports_adopt(peer);
		cw__pc_peer_wake(peer); /* links that are down */
	}
	return CW_OK;
}

void cw__pc_peer_free(struct cw__pc_peer *peer)
{
	free(peer->jobs);
	free(peer);
}

/* Waits for what is in lanes, then takes away from them what does not end. */
static void end_jobs(struct cw__pc_peer *peer, uint64_t until)
{
	const struct timespec pause = { 0, 50000 };

	cancel_all(peer, CW_ERR_CLOSED);
	while (collect(peer), any_out(peer) && cw__now() < until)
		nanosleep(&pause, NULL);
	for (unsigned i = 0; i < peer->job_count; i++) {
		struct cw__pc_job *job = &peer->jobs[i];
		struct cw_slice *slice;

		if (!is_out(peer, job))
			continue;
		slice = job->slice;
		if (!cw__pc_lane_abandon(job))
			continue;
		peer->abandoned++;
		ops_of(peer)->slice_done(slice, CW_ERR_TIMED_OUT, CW_REMOTE_UNKNOWN);
	}
	while (collect(peer), any_out(peer)) /* these are just being handed over */
		nanosleep(&pause, NULL);
}

void cw__peer_copy_peer_close(void *transport, void *opened)
{
	struct cw__peer_copy *pc = transport;
	struct cw__pc_peer *peer = opened;
	uint64_t until = cw__after(cw__now(), pc->grace);
	int pending;

	end_jobs(peer, until);
	ops_of(peer)->timer_stop(peer->core->loop, &peer->end_timer); /* nothing is posted from here on */
	cw__pc_imports_close(peer, peer->abandoned != 0, until);
	if (peer->abandoned) {
		pc->host->ops->keep(pc->host);
		pc->host->ops->log(pc->host, CW_LOG_ERROR,
				   "%s: %u copies to or from %s do not end; what they touch must stay as it is",
				   pc->kind.name, peer->abandoned, peer->core->name);
	}
	pthread_mutex_lock(&pc->lock);
	cw__list_remove(&peer->node);
	pthread_mutex_unlock(&pc->lock);
	peer->closed = 1;
	while (atomic_load_explicit(&peer->reporters, memory_order_acquire))
		;
	pending = atomic_load_explicit(&peer->posted, memory_order_acquire);
	if (pending || peer->abandoned) { /* its task, or a lane, still comes back to it */
		pthread_mutex_lock(&pc->lock);
		cw__list_push_back(&pc->zombies, &peer->node);
		pthread_mutex_unlock(&pc->lock);
	} else {
		cw__pc_peer_free(peer);
	}
}
