/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the submitter's own thread copies, before anything of a batch goes to a loop: requests by synchronous rails,
 * whose remote region is known, up to a number of bytes. What several requests share is held from one to the next, and
 * what all of them count is counted once.
 */
#include <core/core.h>

#define HELD_MOST 64u /* requests for which regions are held: who wants to revoke one waits so long */

/* Both regions of the request at hand, pinned. They may serve the next one too. */
struct hold {
	struct cw__remote *target;
	struct cw_region *region;
	uint64_t region_id;
	int pin;
	unsigned uses;
};

struct tally {
	uint64_t requests, written, read;
};

static void release(struct hold *hold)
{
	if (hold->target)
		cw__remote_unpin(hold->target);
	if (hold->region)
		cw__region_unpin(hold->region, hold->pin);
	*hold = (struct hold){ 0 };
}

static int hold_target(struct hold *hold, const struct cw__request *request)
{
	if (hold->target && hold->target->segment == request->segment &&
	    cw__remote_covers(hold->target, request->remote.space, request->remote_from, request->remote_to))
		return 1;
	if (hold->target)
		cw__remote_unpin(hold->target);
	hold->target = cw__remote_find_pinned(request->segment, request->remote.space, request->remote_from,
					      request->remote_to);
	return hold->target != NULL;
}

static int hold_region(struct hold *hold, const struct cw__request *request)
{
	if (hold->region == request->region && hold->region_id == request->region_id)
		return !cw__region_is_revoked(hold->region, request->local_from, request->local_to);
	if (hold->region)
		cw__region_unpin(hold->region, hold->pin);
	hold->pin = cw__region_pin(request->region, request->region_id, request->local_from, request->local_to);
	hold->region = hold->pin < 0 ? NULL : request->region;
	hold->region_id = request->region_id;
	return hold->region != NULL;
}

/* One that may leave its slice behind (CW_SLICE_STAYS) needs pins that belong to the slice. */
static int copies_at_once(const struct cw__request *request)
{
	return !(request->segment->engine->parts[request->part].flags & (CW_TRANSPORT_BLOCKING | CW_TRANSPORT_DEVICE));
}

static int copy(struct cw__request *request, struct cw__slice *slice, uint64_t *budget)
{
	struct cw__part *part = &request->segment->engine->parts[request->part];
	void *peer = request->segment->lanes[request->part].state;

	while (request->next < request->length && *budget) {
		uint64_t length = request->length - request->next;

		if (length > CW_CHUNK_MAX)
			length = CW_CHUNK_MAX;
		cw__slice_fill(slice, request, request->reach.rail_first, request->next, length);
		slice->base.attachment = request->region->attachments[request->part];
		slice->base.import = request->target->imports[request->part];
		if (part->ops->copy(part->state, peer, &slice->base))
			return 0; /* the loop finds out what to do about it */
		request->next += length;
		request->done += length;
		*budget = length > *budget ? 0 : *budget - length;
	}
	return request->next == request->length;
}

static void end(struct cw__request *request, struct tally *tally)
{
	request->stopped_in = request->state;
	request->state = CW__REQUEST_ENDED;
	atomic_store_explicit(&request->status, CW_OK, memory_order_release);
	tally->requests++;
	if (request->op == CW_OP_WRITE)
		tally->written += request->length;
	else
		tally->read += request->length;
}

/* 1 = it is completed; 0 = the loop sees to it. */
static int transfer(struct cw__request *request, struct hold *hold, uint64_t *budget, struct tally *tally)
{
	int done;

	if (atomic_load_explicit(&request->segment->state, memory_order_acquire) != CW_PEER_UP)
		return 0;
	if (hold->uses++ == HELD_MOST)
		release(hold);
	if (!hold_target(hold, request) || !hold_region(hold, request) || !cw__region_is_there(hold->region))
		return 0;
	request->target = hold->target;
	request->end = request->length;
	if (cw__request_way(request) || !cw__request_is_synchronous(request) || request->handed) {
		request->target = NULL;
		return 0;
	}
	if (!copies_at_once(request)) {
		request->target = NULL;
		release(hold);
		return cw__request_inline(request, budget);
	}
	done = copy(request, &request->batch->slice, budget);
	request->target = NULL; /* it was the hold's */
	if (done)
		end(request, tally);
	return done;
}

size_t cw__batch_copy_inline(struct cw_batch *batch, uint64_t budget)
{
	struct hold hold = { 0 };
	struct tally tally = { 0 };
	size_t left = batch->count;

	for (size_t i = 0; i < batch->count && budget; i++)
		left -= (size_t)transfer(&batch->requests[i], &hold, &budget, &tally);
	release(&hold);
	if (tally.requests)
		cw__batch_requests_completed(batch, tally.requests, tally.written, tally.read);
	return left;
}
