/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staged slices on their loop: from a stager to their rail or from their rail to a stager, and out of the queue when
 * their request stops. The buffers and the stagers are in staging.c. While a slice is with a stager it counts as in
 * flight: its request does not end before it has come back.
 */
#include <core/device.h>

static struct cw__rail *rail_of(const struct cw__slice *slice)
{
	return &slice->request->segment->lanes[slice->part].rails[slice->base.rail];
}

/* It keeps its place on the rail, so that there is room when the bytes have come. */
static void keep_place(struct cw__slice *slice, int on)
{
	struct cw__rail *rail = rail_of(slice);

	if (on) {
		rail->staging++;
		rail->staging_bytes += slice->base.length;
	} else {
		rail->staging--;
		rail->staging_bytes -= slice->base.length;
	}
}

/* Our own device failed (or is lost), so no other way and no other try helps. */
static void fail_request(struct cw__slice *slice, int status)
{
	struct cw__request *request = slice->request;
	struct cw_batch *batch = request->batch;

	if (!request->failure) {
		pthread_mutex_lock(&batch->lock);
		cw__batch_explain(batch, status, "%s of %llu bytes %s %s by %s: the copy %s %s failed: %s",
				  request->op == CW_OP_WRITE ? "write" : "read", (unsigned long long)request->length,
				  request->op == CW_OP_WRITE ? "to" : "from", request->segment->name,
				  batch->engine->parts[request->part].ops->name,
				  request->op == CW_OP_WRITE ? "from" : "to", request->region->memory.location,
				  cw_strerror(status));
		pthread_mutex_unlock(&batch->lock);
	}
	cw__slice_unpin(slice);
	cw__slice_unland(slice);
	request->inflight--;
	cw__slice_give(request->segment->loop, slice);
	cw__request_stop(request, status);
}

/* The task of a slice that comes back. */
static void came_back(struct cw_task *task)
{
	struct cw__slice *slice = cw__container(task, struct cw__slice, job_task);
	struct cw__request *request = slice->request;
	struct cw_batch *batch = request->batch;
	struct cw_segment *segment = request->segment;
	int to_post = slice->base.op == CW_OP_WRITE && !slice->handed, status = slice->job_status;

	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed); /* posting may end it, and its request too */
	if (to_post || slice->handed)
		keep_place(slice, 0);
	cw__list_remove(&slice->node);
	slice->posted = CW__SLICE_OURS;
	if (status && slice->device_failed)
		fail_request(slice, status);
	else if (status || !to_post)
		cw__slice_over(slice, status, CW_REMOTE_QUIET);
	else if (request->failure)
		cw__slice_over(slice, CW_ERR_CANCELED, CW_REMOTE_QUIET);
	else
		cw__slices_post(request, slice->base.rail, &slice, 1);
	cw__segment_pump(segment);
	cw__batch_put(batch);
}

static void submit(struct cw__slice *slice)
{
	int status;

	slice->posted = CW__SLICE_STAGING;
	slice->device_failed = 0;
	slice->job_task.run = came_back;
	cw__list_init(&slice->job);
	cw__list_push_back(&slice->request->flying, &slice->node);
	status = cw__staging_submit(slice);
	if (status) { /* as if a stager had said so: nothing ends in here */
		slice->job_status = status;
		cw__task_post(slice->request->segment->loop, &slice->job_task);
	}
}

void cw__slices_stage(struct cw__request *request, struct cw__slice **slices, unsigned count)
{
	(void)request;
	for (unsigned i = 0; i < count; i++) {
		keep_place(slices[i], 1);
		submit(slices[i]);
	}
}

void cw__slice_bring_in(struct cw__slice *slice)
{
	cw__list_remove(&slice->node);
	submit(slice);
}

int cw__slice_unstage(struct cw__slice *slice)
{
	struct cw__request *request = slice->request;

	if (!cw__staging_withdraw(slice))
		return 0;
	if (slice->base.op == CW_OP_WRITE || slice->handed)
		keep_place(slice, 0);
	cw__slice_unpin(slice);
	cw__slice_unland(slice);
	request->inflight--;
	cw__slice_give(request->segment->loop, slice);
	return 1;
}
