/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cw_batch_submit() copies itself: requests between host memories whose region at the peer is known and whose
 * transport copies in the calling thread. Nothing of such a request is seen by other threads, and while the submitter
 * holds its shard no region goes away, so there is nothing to pin, to count in common or to lock. Everything else is
 * left to cw__request_inline() and to the loops.
 */
#include <core/core.h>

/* How the last pair of regions was joined: pages of one pair come in runs. */
struct pair {
	const struct cw_region *region;
	const struct cw__remote *target;
	uint64_t length, run;
	unsigned op;
	int status;
	struct cw__path path;
};

static int is_host(const struct cw_region *region, const struct cw__remote *target)
{
	return region->view.kind == CW_MEMORY_HOST && target->view.kind == CW_MEMORY_HOST;
}

/* The way of the pair, if it is one that the submitter takes by itself. */
static int choose(struct cw_segment *segment, const struct cw__request *request, const struct cw__remote *target,
		  struct pair *pair)
{
	const struct cw__need need = { request->op, 0, request->length, cw__request_run(request) };
	const struct cw__part *part;

	if (pair->region == request->region && pair->target == target && pair->op == need.op &&
	    pair->length == need.length && pair->run == need.page)
		return pair->status;
	pair->region = request->region;
	pair->target = target;
	pair->op = need.op;
	pair->length = need.length;
	pair->run = need.page;
	pair->status = cw__path_choose(segment, request->region, target, &need, &pair->path);
	if (pair->status)
		return pair->status;
	part = &segment->engine->parts[pair->path.part];
	if (!(segment->lanes[pair->path.part].rails[pair->path.reach.rail_first].info.flags & CW_RAIL_SYNC) ||
	    part->flags & (CW_TRANSPORT_BLOCKING | CW_TRANSPORT_DEVICE) || part->wraps)
		pair->status = CW_ERR_UNSUPPORTED;
	return pair->status;
}

/* Both ends are as the request found them; they stay so until the shard is left. */
static int is_allowed(const struct cw__request *request, const struct cw__remote *target)
{
	uint32_t right = request->op == CW_OP_WRITE ? CW_ACCESS_REMOTE_WRITE : CW_ACCESS_REMOTE_READ;

	return is_host(request->region, target) && target->view.access & right &&
	       cw__region_is_live(request->region, request->region_id, request->local_from, request->local_to);
}

static int copy(struct cw__request *request, struct cw__remote *target, struct cw__shard *shard, struct pair *pair)
{
	struct cw_segment *segment = request->segment;
	struct cw_engine *engine = shard->engine;
	struct cw__slice *slice = &request->batch->slice;
	unsigned part;

	if (choose(segment, request, target, pair))
		return CW_ERR_UNSUPPORTED;
	part = pair->path.part;
	request->part = part;
	request->handed = 0;
	request->target = target;
	cw__slice_fill(slice, request, pair->path.reach.rail_first, 0, request->length);
	slice->base.attachment = request->region->attachments[part];
	slice->base.import = target->imports[part];
	return engine->parts[part].ops->copy(engine->parts[part].state, segment->lanes[part].state, &slice->base);
}

size_t cw__batch_copy_inline(struct cw_batch *batch, struct cw__shard *shard, uint64_t *budget)
{
	struct pair pair = { 0 };
	uint64_t written = 0, read = 0;
	size_t complete = 0;

	if (shard->engine->verify_memory)
		return 0;
	for (size_t i = 0; i < batch->count; i++) {
		struct cw__request *request = &batch->requests[i];
		struct cw_segment *segment = request->segment;
		struct cw__remote *target;

		if (request->length > *budget ||
		    atomic_load_explicit(&segment->state, memory_order_acquire) != CW_PEER_UP)
			continue;
		target = cw__remote_look(segment, request->remote.space, request->remote_from, request->remote_to);
		if (!target || !is_allowed(request, target) || copy(request, target, shard, &pair))
			continue;
		*budget -= request->length;
		*(request->op == CW_OP_WRITE ? &written : &read) += request->length;
		request->done = request->length;
		request->state = CW__REQUEST_ENDED;
		atomic_store_explicit(&request->status, CW_OK, memory_order_release);
		complete++;
	}
	batch->requests_completed += complete;
	batch->bytes_completed += written + read;
	cw__shard_count(&shard->counters.requests_completed, complete);
	cw__shard_count(&shard->counters.bytes_written, written);
	cw__shard_count(&shard->counters.bytes_read, read);
	return complete;
}
