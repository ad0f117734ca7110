/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request to slices on rails and back: finding its remote region and path, cutting it as rails have room, and
 * ending it when everything of it is quiet. What becomes of slices that failed is in retry.c. All on the loop of its
 * segment, except cw__request_inline(), which copies in the caller's thread.
 */
#include <core/device.h>

#define GROUP 16u               /* slices offered to post() at once */
#define COPY_COSTS 4096u        /* bytes that could be moved while a copy is begun and ended */
#define STAGING_MAX (2 * GROUP) /* slices of one rail that are with a stager before they are posted */

/* -------------------------------------------------------------------------------------------- the end */

static void request_end(struct cw__request *request)
{
	int status = request->failure;

	while (!cw__list_empty(&request->again))
		cw__slice_give(request->segment->loop, cw__container(request->again.next, struct cw__slice, node));
	cw__list_remove(&request->node);
	cw__list_remove(&request->active_node);
	if (request->target)
		cw__remote_put(request->target);
	request->target = NULL;
	request->stopped_in = request->state;
	request->state = CW__REQUEST_ENDED;
	atomic_store_explicit(&request->status, status, memory_order_release);
	cw__batch_request_ended(request);
}

static void end_if_quiet(struct cw__request *request)
{
	if (request->state == CW__REQUEST_ENDED || request->inflight)
		return;
	if (!request->failure &&
	    (request->next != request->end || !cw__list_empty(&request->again) || request->done != request->end))
		return;
	if (request->failure || request->end == request->length)
		request_end(request);
	else
		cw__window_next(request);
}

void cw__request_stop(struct cw__request *request, int status)
{
	struct cw_segment *segment = request->segment;
	struct cw__list *node;
	int unstaged = 0;

	if (request->state == CW__REQUEST_ENDED)
		return;
	/* It was there before we asked anew: it went away, rather than never was. */
	if (status == CW_ERR_NOT_REGISTERED && request->refreshed)
		status = CW_ERR_STALE_REGION;
	if (!request->failure)
		request->failure = status;
	cw__list_remove(&request->node);
	request->inflight++; /* so that a slice that ends at once does not end the request under us */
	for (node = request->flying.next; node != &request->flying;) {
		struct cw__slice *slice = cw__container(node, struct cw__slice, node);

		node = node->next;
		if (slice->posted == CW__SLICE_STAGING) {
			unstaged |= cw__slice_unstage(slice);
			continue;
		}
		if (slice->canceled || slice->posted == CW__SLICE_OFFERED)
			continue; /* what is only offered is looked at when post() has returned */
		slice->canceled = 1;
		segment->engine->parts[slice->part].ops->cancel(segment->engine->parts[slice->part].state,
								segment->lanes[slice->part].state, &slice->base);
		node = request->flying.next; /* anything may have ended */
	}
	request->inflight--;
	if (unstaged) /* others may use what these had */
		cw__loop_make_busy(segment->loop);
	end_if_quiet(request);
}

void cw__segment_visit(struct cw_segment *segment, void (*visit)(struct cw__request *request, int status), int status)
{
	struct cw__list left, *node;

	cw__list_init(&left); /* ending one may end others, which leave whichever list they are in */
	cw__list_splice(&left, &segment->active);
	while ((node = cw__list_pop(&left))) {
		cw__list_push_back(&segment->active, node);
		visit(cw__container(node, struct cw__request, active_node), status);
	}
}

/* ------------------------------------------------------------------------------------------ beginning */

void cw__segment_make_busy(struct cw_segment *segment)
{
	if (cw__list_empty(&segment->busy_node))
		cw__list_push_back(&segment->loop->busy, &segment->busy_node);
}

void cw__loop_make_busy(struct cw_loop *loop)
{
	cw__list_each(node, &loop->segments) cw__segment_make_busy(cw__container(node, struct cw_segment, loop_node));
}

static int is_synchronous(const struct cw__request *request)
{
	const struct cw__lane *lane = &request->segment->lanes[request->part];

	return lane->rails[request->reach.rail_first].info.flags & CW_RAIL_SYNC;
}

/* A courtesy that saves a round trip, and the same answer on every way; the target checks by itself. */
static int has_right(const struct cw__request *request)
{
	return (request->target->view.access &
		(request->op == CW_OP_WRITE ? CW_ACCESS_REMOTE_WRITE : CW_ACCESS_REMOTE_READ)) != 0;
}

static int is_gone(const struct cw__remote *remote)
{
	return atomic_load_explicit(&remote->state, memory_order_acquire) == CW__REMOTE_GONE;
}

int cw__request_choose(struct cw__request *request, uint32_t skip, struct cw__path *path_out)
{
	const struct cw__need need = { request->op, skip, request->length, cw__request_run(request) };

	return cw__path_choose(request->segment, request->region, request->target, &need, path_out);
}

static int choose_way(struct cw__request *request)
{
	struct cw__path path;
	int status = has_right(request) ? cw__request_choose(request, request->skip, &path) : CW_ERR_ACCESS;

	if (status)
		return status;
	request->part = path.part;
	request->reach = path.reach;
	request->staged = (uint8_t)path.staged;
	request->handed = (path.staged || path.lands) && is_synchronous(request);
	return CW_OK;
}

/* Any thread. Both regions are held meanwhile: what transports made of them goes with them. */
static int find_path(struct cw__request *request)
{
	int status, pin = cw__remote_pin(request->target);

	if (pin)
		return pin;
	pin = cw__region_pin(request->region, request->region_id, request->local_from, request->local_to);
	status = pin < 0 ? pin : choose_way(request);
	if (pin >= 0)
		cw__region_unpin(request->region, pin);
	cw__remote_unpin(request->target);
	return status;
}

/* Which rails a request goes by, as one number. */
static uint32_t rails_of(const struct cw__request *request)
{
	_Static_assert(CW__PARTS_MAX < 256 && CW__RAILS_MAX < 4096, "it fits, and is neither 0 nor CW__QUEUED_MIXED");
	return (request->part + 1u) << 24 | request->reach.rail_first << 12 | request->reach.rail_count;
}

/* Requests in the queues that all go by the same rails wait together. */
static void note_rails(const struct cw__request *request)
{
	struct cw_segment *segment = request->segment;
	uint32_t rails = rails_of(request);

	segment->queued = !segment->queued || segment->queued == rails ? rails : CW__QUEUED_MIXED;
}

void cw__request_enqueue(struct cw__request *request)
{
	struct cw_segment *segment = request->segment;
	int status = find_path(request);

	if (status == CW_ERR_STALE_REGION && is_gone(request->target) && cw__request_refresh(request))
		return;
	if (status) {
		cw__path_refused(request, status);
		cw__request_stop(request, status);
		return;
	}
	request->have_path = 1;
	request->state = CW__REQUEST_QUEUED;
	cw__list_remove(&request->node);
	if (is_synchronous(request) && !request->handed) {
		cw__list_push_back(&segment->copies, &request->node);
		cw__segment_make_busy(segment);
	} else {
		cw__list_push_back(&segment->queues[request->batch->priority], &request->node);
		note_rails(request);
	}
}

void cw__request_begin(struct cw__request *request)
{
	struct cw_segment *segment = request->segment;
	int ending = atomic_load_explicit(&request->batch->ending, memory_order_acquire);
	int status = ending ? ending : cw__segment_usable(segment);
	uint64_t from, to;

	if (cw__list_empty(&request->active_node))
		cw__list_push_back(&segment->active, &request->active_node);
	if (request->inflight && request->next == request->end && cw__list_empty(&request->again) && !ending) {
		request->state = CW__REQUEST_DRAINING; /* a copy that the submitter began has not ended yet */
		request->have_path = 1;
		return;
	}
	request->state = CW__REQUEST_NEW;
	if (status == CW_ERR_AGAIN)
		return; /* link_up or link_down looks at it again */
	if (status) {
		cw__request_stop(request, status);
		return;
	}
	if (!segment->self && !segment->linked)
		return; /* the link is being renewed: as above */
	if (request->target && is_gone(request->target) && !request->refreshed) {
		cw__remote_put(request->target);
		request->target = NULL;
		request->refreshed = 1;
		cw__window_again(request);
	}
	if (!request->target) {
		cw__window_wanted(request, &from, &to);
		request->target = cw__remote_ask(segment, request->remote.space, from, to);
	}
	if (!request->target) {
		cw__request_stop(request, CW_ERR_NO_MEMORY);
		return;
	}
	switch (atomic_load_explicit(&request->target->state, memory_order_acquire)) {
	case CW__REMOTE_ASKING:
		request->state = CW__REQUEST_RESOLVING;
		cw__list_remove(&request->node);
		cw__list_push_back(&request->target->waiting, &request->node);
		break;
	case CW__REMOTE_READY:
		cw__window_open(request);
		cw__request_enqueue(request);
		break;
	default: /* it could not even be asked, or went since it was found */
		if (request->target->failure || !cw__request_refresh(request))
			cw__request_stop(request,
					 request->target->failure ? request->target->failure : CW_ERR_STALE_REGION);
		break;
	}
}

int cw__request_refresh(struct cw__request *request)
{
	struct cw__remote *old = request->target;

	if (request->refreshed || request->failure)
		return 0;
	request->refreshed = 1;
	request->target = NULL;
	cw__window_again(request);
	cw__remote_gone(old);
	cw__list_remove(&request->node);
	cw__request_begin(request);
	cw__remote_put(old);
	return 1;
}

/* -------------------------------------------------------------------------------- the ends of slices */

void cw__slice_done(struct cw_slice *base, int status, enum cw_remote_state remote)
{
	struct cw__slice *slice = (struct cw__slice *)base;
	struct cw_segment *segment = slice->request->segment;
	struct cw__rail *rail = &segment->lanes[slice->part].rails[base->rail];

	if (slice->posted == CW__SLICE_COPYING) {
		slice->posted = CW__SLICE_OURS;
	} else if (slice->posted) {
		uint64_t took = cw__now() - slice->posted_at;

		/* Bytes in flight over the time one took: the rail's throughput by Little's law. */
		if (!status && took)
			rail->bytes_per_second +=
				((double)rail->inflight_bytes * 1e9 / (double)took - rail->bytes_per_second) / 8;
		rail->inflight--;
		rail->inflight_bytes -= base->length;
		slice->posted = CW__SLICE_OURS;
	}
	if (!slice->landing || status || base->op == CW_OP_WRITE) {
		cw__slice_over(slice, status, remote);
	} else if (slice->request->failure) { /* what was read is wanted no more */
		cw__slice_over(slice, CW_ERR_CANCELED, CW_REMOTE_QUIET);
	} else {
		rail->failures = 0;
		cw__slice_bring_in(slice);
		cw__segment_make_busy(segment);
	}
}

void cw__slice_over(struct cw__slice *slice, int status, enum cw_remote_state remote)
{
	struct cw__request *request = slice->request;
	struct cw_segment *segment = request->segment;
	struct cw_loop *loop = segment->loop;
	struct cw__rail *rail = &segment->lanes[slice->part].rails[slice->base.rail];
	int path_failed =
		status && (cw_status_scope(status) == CW_SCOPE_PATH || cw_status_scope(status) == CW_SCOPE_PEER);

	cw__slice_unpin(slice);
	request->inflight--;
	if (!status) {
		rail->failures = 0;
		request->done += slice->base.length;
		cw__slice_unland(slice);
		cw__slice_give(loop, slice);
		end_if_quiet(request);
	} else {
		if (path_failed)
			cw__rail_pause(segment, rail);
		cw__slice_failed(slice, status, remote); /* the request may be gone then */
	}
	/* The transport may be in the middle of its own work: pump when the loop comes round. */
	cw__segment_make_busy(segment);
	if (loop->starved) {
		loop->starved = 0;
		cw__loop_make_busy(loop);
	}
}

/* -------------------------------------------------------------------------------------------- pumping */

static int has_room(const struct cw__rail *rail, uint64_t now, unsigned reserve)
{
	return !rail->status && !rail->full && rail->paused_until <= now && rail->staging < STAGING_MAX &&
	       (!rail->info.max_inflight || rail->inflight + rail->staging + reserve < rail->info.max_inflight) &&
	       (!rail->info.max_inflight_bytes ||
		rail->inflight_bytes + rail->staging_bytes < rail->info.max_inflight_bytes);
}

/* The rail where one more slice would be finished first; -1 when none has room. */
static int pick_rail(const struct cw__lane *lane, const struct cw_reach *reach, uint64_t now, unsigned reserve)
{
	double best = 0;
	int found = -1;

	for (unsigned i = reach->rail_first; i < reach->rail_first + reach->rail_count; i++) {
		const struct cw__rail *rail = &lane->rails[i];
		double finish;

		if (!has_room(rail, now, reserve))
			continue;
		finish = ((double)(rail->inflight_bytes + rail->staging_bytes) + (double)rail->info.max_slice) /
			 (rail->bytes_per_second > 1 ? rail->bytes_per_second : 1);
		if (found < 0 || finish < best) {
			best = finish;
			found = (int)i;
		}
	}
	return found;
}

/* A slice that failed elsewhere, cut down to what this rail takes; the rest of it stays to be tried again. */
static struct cw__slice *cut_again(struct cw__request *request, unsigned rail_number, uint64_t limit)
{
	struct cw_loop *loop = request->segment->loop;
	struct cw__slice *slice = cw__container(request->again.next, struct cw__slice, node);
	unsigned attempt = slice->base.attempt;

	if (slice->base.length > limit) {
		struct cw__slice *rest = slice, *first = cw__slice_take(loop);

		if (!first) {
			loop->starved = 1;
			return NULL;
		}
		cw__slice_fill(first, request, rail_number, rest->offset, limit);
		rest->offset += limit;
		rest->base.length -= limit;
		slice = first;
	} else {
		cw__slice_fill(slice, request, rail_number, slice->offset, slice->base.length);
	}
	cw__list_remove(&slice->node);
	slice->base.attempt = attempt;
	return slice;
}

/* The next slice of a request for a rail; NULL when there is none left or no memory. */
static struct cw__slice *cut_bare(struct cw__request *request, unsigned rail_number)
{
	struct cw_loop *loop = request->segment->loop;
	const struct cw_rail_info *info = &request->segment->lanes[request->part].rails[rail_number].info;
	uint64_t length = request->end - request->next, limit = info->max_slice ? info->max_slice : UINT64_MAX;
	struct cw__slice *slice;

	if ((request->staged || request->handed) && limit > CW_CHUNK_MAX)
		limit = CW_CHUNK_MAX;
	if (!cw__list_empty(&request->again))
		return cut_again(request, rail_number, cw__slice_limit(request, limit, info->max_pieces));
	if (!length)
		return NULL;
	slice = cw__slice_take(loop);
	if (!slice) {
		loop->starved = 1;
		return NULL;
	}
	if (length > limit)
		length = limit;
	length = cw__slice_limit(request, length, info->max_pieces);
	cw__slice_fill(slice, request, rail_number, request->next, length);
	request->next += length;
	return slice;
}

/* With a buffer, if its bytes have to go through one; without, the request waits until one comes back. */
static struct cw__slice *cut(struct cw__request *request, unsigned rail_number)
{
	struct cw_loop *loop = request->segment->loop;
	struct cw__landing *landing;
	struct cw__slice *slice;

	if (!request->staged || (request->next == request->end && cw__list_empty(&request->again)))
		return cut_bare(request, rail_number);
	landing = cw__landing_take(loop);
	slice = landing ? cut_bare(request, rail_number) : NULL;
	if (slice) {
		slice->landing = landing;
		slice->base.local = &landing->view;
	} else if (landing) {
		cw__landing_give(loop, landing);
	}
	return slice;
}

/* Hands slices of a request to the transport; what it does not take goes back. Some may end before post() returns, and
 * that may end the request. */
static void post(struct cw__request *request, unsigned rail_number, struct cw__slice **slices, unsigned count)
{
	struct cw_segment *segment = request->segment;
	unsigned part = slices[0]->part; /* the request may have left for another one while they were staged */
	struct cw__rail *rail = &segment->lanes[part].rails[rail_number];
	struct cw_slice *bases[GROUP];
	uint64_t now = cw__now();
	unsigned taken;

	for (unsigned i = 0; i < count; i++) {
		bases[i] = &slices[i]->base;
		slices[i]->posted = CW__SLICE_OFFERED;
		slices[i]->posted_at = now;
		rail->inflight++;
		rail->inflight_bytes += bases[i]->length;
		cw__list_push_back(&request->flying, &slices[i]->node);
	}
	taken = segment->engine->parts[part].ops->post(segment->engine->parts[part].state, segment->lanes[part].state,
						       rail_number, bases, count);
	for (unsigned i = 0; i < taken; i++)
		if (slices[i]->posted == CW__SLICE_OFFERED)
			slices[i]->posted = CW__SLICE_POSTED;
	for (unsigned i = taken; i < count; i++) { /* still ours: back to their requests, whole */
		struct cw__slice *slice = slices[i];

		rail->full = 1;
		rail->inflight--;
		rail->inflight_bytes -= slice->base.length;
		slice->posted = CW__SLICE_OURS;
		cw__slice_unpin(slice);
		cw__slice_unland(slice);
		request->inflight--;
		cw__list_remove(&slice->node);
		cw__list_push_back(&request->again, &slice->node);
	}
	if (request->failure) /* it was stopped while they were offered */
		cw__request_stop(request, request->failure);
}

/* Cuts up to GROUP slices of a request for the best rail and posts them. Returns how many; -1 when no rail has room. */
static int serve(struct cw__request *request, uint64_t now, unsigned reserve)
{
	struct cw_segment *segment = request->segment;
	struct cw__lane *lane = &segment->lanes[request->part];
	int number = pick_rail(lane, &request->reach, now, reserve);
	struct cw__rail *rail = number < 0 ? NULL : &lane->rails[number];
	struct cw__slice *slices[GROUP];
	unsigned count = 0, room;
	uint64_t bytes;

	if (!rail)
		return -1;
	room = rail->info.max_inflight ? rail->info.max_inflight - rail->inflight - rail->staging : GROUP;
	bytes = rail->inflight_bytes + rail->staging_bytes;
	while (count < GROUP && count < room &&
	       (!rail->info.max_inflight_bytes || bytes < rail->info.max_inflight_bytes)) {
		struct cw__slice *slice = cut(request, (unsigned)number);
		int status = slice ? cw__slice_pin(slice) : CW_OK;

		if (!slice)
			break;
		if (status) {
			cw__slice_unland(slice);
			cw__list_push_front(&request->again, &slice->node);
			if (status == CW_ERR_STALE_REGION && cw__request_refresh(request))
				break;
			cw__request_stop(request, CW_ERR_STALE_REGION);
			break;
		}
		request->inflight++;
		bytes += slice->base.length;
		slices[count++] = slice;
	}
	if (request->state == CW__REQUEST_QUEUED && request->next == request->end && cw__list_empty(&request->again)) {
		request->state = CW__REQUEST_DRAINING;
		cw__list_remove(&request->node);
	}
	if (count && (request->handed || (request->staged && request->op == CW_OP_WRITE)))
		cw__slices_stage(request, slices, count);
	else if (count)
		post(request, (unsigned)number, slices, count);
	return (int)count;
}

/* When no rail has room for this request: has none for any other in the queues either? */
static int all_full(const struct cw__request *request)
{
	return request->segment->queued == rails_of(request);
}

/* A slice that post() gave back needs its request in a queue again. */
static void requeue(struct cw__request *request)
{
	if (request->state == CW__REQUEST_DRAINING && !cw__list_empty(&request->again) && !request->failure)
		cw__request_enqueue(request);
}

void cw__slices_post(struct cw__request *request, unsigned rail, struct cw__slice **slices, unsigned count)
{
	post(request, rail, slices, count);
	requeue(request);
}

/* One round over a class: every request gets one group. Returns 1 when another round may help. */
static int pump_class(struct cw_segment *segment, unsigned class, unsigned reserve)
{
	struct cw__list round;
	uint64_t now = cw__now();
	int any = 0;

	cw__list_init(&round);
	cw__list_splice(&round, &segment->queues[class]);
	while (!cw__list_empty(&round)) {
		struct cw__request *request = cw__container(cw__list_pop(&round), struct cw__request, node);
		int count;

		cw__list_push_back(&segment->queues[class], &request->node);
		/* Held, because posting may end it and the batch with it. */
		atomic_fetch_add_explicit(&request->batch->refs, 1, memory_order_relaxed);
		count = serve(request, now, reserve);
		if (count > 0)
			requeue(request);
		if (count < 0 && all_full(request)) { /* thousands may be behind it */
			cw__list_remove(&request->node);
			cw__list_push_front(&round, &request->node);
			cw__batch_put(request->batch);
			break;
		}
		cw__batch_put(request->batch);
		any |= count > 0;
		if (count <= 0 && segment->loop->starved)
			break;
	}
	if (!cw__list_empty(&round)) { /* those that were not looked at come first next time */
		cw__list_splice(&round, &segment->queues[class]);
		cw__list_splice(&segment->queues[class], &round);
	}
	return any;
}

void cw__segment_pump(struct cw_segment *segment)
{
	unsigned lower = 0;
	int empty = 1;

	if (cw__segment_usable(segment))
		return;
	for (unsigned class = CW__CLASSES; class > 0; class --) {
		lower += class > 1 && !cw__list_empty(&segment->queues[class - 1]);
		empty &= cw__list_empty(&segment->queues[class - 1]);
	}
	if (empty)
		segment->queued = 0;
	for (unsigned class = 0; class < CW__CLASSES; class ++) {
		while (!cw__list_empty(&segment->queues[class]) && pump_class(segment, class, lower))
			;
		if (class + 1 < CW__CLASSES && !cw__list_empty(&segment->queues[class + 1]))
			lower--; /* room for one slice is kept for each lower class, so that none starves */
	}
}

/* ------------------------------------------------------------------------------- synchronous copies */

/* ERR_AGAIN: the slice counts as posted, and what becomes of the request is the loop's business. */
static int copy_range(struct cw__request *request, struct cw__slice *slice, uint64_t offset, uint64_t length)
{
	struct cw_engine *engine = request->batch->engine;
	struct cw_segment *segment = request->segment;
	int status;

	cw__slice_fill(slice, request, request->reach.rail_first, offset, length);
	slice->base.flags |= CW_SLICE_STAYS;
	status = cw__slice_pin(slice);
	if (status)
		return status;
	slice->posted = CW__SLICE_COPYING;
	request->inflight++;
	cw__list_push_back(&request->flying, &slice->node);
	status = engine->parts[request->part].ops->copy(engine->parts[request->part].state,
							segment->lanes[request->part].state, &slice->base);
	if (status == CW_ERR_AGAIN)
		return status;
	cw__list_remove(&slice->node);
	request->inflight--;
	slice->posted = CW__SLICE_OURS;
	cw__slice_unpin(slice);
	if (!status)
		request->done += length;
	return status;
}

/* One chunk of a request that nobody has begun yet, in the submitter's thread. */
static int copy_first(struct cw__request *request, uint64_t length)
{
	uint64_t offset = request->next;
	int status;

	if (length > CW_CHUNK_MAX)
		length = CW_CHUNK_MAX;
	request->next += length; /* what is under way has been cut */
	status = copy_range(request, &request->batch->slice, offset, length);
	if (status && status != CW_ERR_AGAIN)
		request->next = offset;
	return status;
}

/* One chunk of a request on the loop, where slices may be left that another transport failed. */
static int copy_chunk(struct cw__request *request, struct cw__slice *slice)
{
	struct cw__slice *again = NULL;
	uint64_t length = request->end - request->next, offset = request->next;
	int status;

	if (!cw__list_empty(&request->again)) {
		again = cw__container(request->again.next, struct cw__slice, node);
		length = again->base.length;
		offset = again->offset;
	}
	if (length > CW_CHUNK_MAX)
		length = CW_CHUNK_MAX;
	status = copy_range(request, slice, offset, length);
	if (status && status != CW_ERR_AGAIN)
		return status;
	if (!again) {
		request->next += length;
		return status;
	}
	again->offset += length;
	again->base.length -= length;
	if (!again->base.length)
		cw__slice_give(request->segment->loop, again);
	return status;
}

/* A piece of the first request in the list of copies; the others get their turn. 0 = there is no slice left for it. */
static int copy_one(struct cw_segment *segment, struct cw__request *request)
{
	struct cw__slice *slice = cw__slice_take(segment->loop);
	int status;

	if (!slice) {
		segment->loop->starved = 1;
		return 0;
	}
	cw__list_init(&slice->node);
	status = copy_chunk(request, slice);
	if (status != CW_ERR_AGAIN)
		cw__slice_give(segment->loop, slice);
	if (status && status != CW_ERR_AGAIN) {
		cw__copy_failed(request, status);
		return 1;
	}
	cw__list_remove(&request->node);
	if (request->next < request->end || !cw__list_empty(&request->again))
		cw__list_push_back(&segment->copies, &request->node);
	else
		request->state = CW__REQUEST_DRAINING;
	end_if_quiet(request);
	return 1;
}

/* How much the next copy of a request keeps the loop from other work, in bytes. */
static uint64_t weight(const struct cw__request *request)
{
	const struct cw__part *part = &request->segment->engine->parts[request->part];
	uint64_t length = request->end - request->next + COPY_COSTS;

	if (part->flags & (CW_TRANSPORT_BLOCKING | CW_TRANSPORT_DEVICE) || part->wraps)
		return CW_CHUNK_MAX;
	return length < CW_CHUNK_MAX ? length : CW_CHUNK_MAX;
}

int cw__segment_copy_some(struct cw_segment *segment)
{
	uint64_t weighed = 0;

	cw__segment_pump(segment);
	while (!cw__list_empty(&segment->copies) && weighed < CW_CHUNK_MAX) {
		struct cw__request *request = cw__container(segment->copies.next, struct cw__request, node);
		int status = atomic_load_explicit(&request->batch->ending, memory_order_acquire);

		weighed += weight(request);
		if (status)
			cw__request_stop(request, status);
		else if (!copy_one(segment, request))
			return 0; /* busy again when slices come back */
	}
	return !cw__list_empty(&segment->copies);
}

int cw__request_inline(struct cw__request *request, uint64_t *budget)
{
	struct cw_segment *segment = request->segment;

	if (atomic_load_explicit(&segment->state, memory_order_acquire) != CW_PEER_UP || !*budget)
		return 0;
	request->target = cw__remote_find(segment, request->remote.space, request->remote_from, request->remote_to);
	if (!request->target)
		return 0;
	request->end = request->length;
	if (find_path(request) || !is_synchronous(request) || request->handed)
		return 0;
	while (request->next < request->length && *budget) {
		uint64_t before = request->next;
		int status = copy_first(request, request->length - before);

		if (status == CW_ERR_AGAIN)
			*budget = 0; /* the batch's slice is in use, and the request the loop's */
		if (status)
			return 0; /* the loop finds out what to do about it */
		*budget = request->next - before > *budget ? 0 : *budget - (request->next - before);
	}
	if (request->next < request->length)
		return 0;
	request_end(request);
	return 1;
}
