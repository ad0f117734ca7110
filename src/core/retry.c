/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a slice failed: is it tried again, on which rail and by which transport, or does its request end? Synchronous
 * copies too. On the loop of the request's segment.
 */
#include <core/core.h>

#define FIRST_PAUSE (1 * CW__MS)
#define GIVE_UP_AFTER 3u /* failures in a row on one transport before another one is tried */

/* The rail rests a little longer after each failure in a row. */
void cw__rail_pause(struct cw_segment *segment, struct cw__rail *rail)
{
	unsigned shift = rail->failures < 10 ? rail->failures : 10;

	rail->failures++;
	rail->paused_until = cw__now() + (FIRST_PAUSE << shift);
	if (!segment->retry_timer.heap_slot || segment->retry_timer.at > rail->paused_until)
		cw__timer_set(segment->loop, &segment->retry_timer, rail->paused_until);
}

static int is_strict(const struct cw__request *request)
{
	return request->segment->strict || request->batch->flags & CW_BATCH_STRICT;
}

static void skip_part(struct cw__request *request, unsigned part)
{
	request->skip |= 1u << part;
	request->have_path = 0;
}

/* Another transport for a request whose own keeps failing, unless the caller forbade that. */
static void leave_transport(struct cw__request *request)
{
	struct cw__path other;

	if (!is_strict(request) && !cw__request_choose(request, request->skip | 1u << request->part, &other))
		skip_part(request, request->part);
}

/* One rail that works is enough to stay with a transport. */
static int rails_fail(const struct cw__request *request)
{
	const struct cw__rail *rails = &request->segment->lanes[request->part].rails[request->reach.rail_first];

	for (unsigned i = 0; i < request->reach.rail_count; i++)
		if (!rails[i].status && rails[i].failures < GIVE_UP_AFTER)
			return 0;
	return 1;
}

/* May this failure be answered by trying again? */
static int can_retry(const struct cw__slice *slice, int status, enum cw_remote_state remote)
{
	const struct cw__request *request = slice->request;

	if (request->failure || remote != CW_REMOTE_QUIET || !cw_status_retryable(status))
		return 0;
	if (status == CW_ERR_TIMED_OUT || status == CW_ERR_PEER_RESTARTED || status == CW_ERR_STALE_REGION)
		return 0;
	return slice->base.attempt <= request->batch->engine->retries && cw__now() < request->batch->deadline;
}

static int is_stale(int status)
{
	return status == CW_ERR_STALE_REGION || status == CW_ERR_NOT_REGISTERED;
}

void cw__slice_failed(struct cw__slice *slice, int status, enum cw_remote_state remote)
{
	struct cw__request *request = slice->request;
	struct cw_segment *segment = request->segment;

	if ((uint32_t)remote > request->remote_quiet)
		request->remote_quiet = (uint32_t)remote;
	if (remote == CW_REMOTE_FENCED && slice->base.not_after > request->fence)
		request->fence = slice->base.not_after;
	if (remote == CW_REMOTE_QUIET && !request->failure &&
	    (can_retry(slice, status, remote) || (is_stale(status) && !request->refreshed) ||
	     (status == CW_ERR_UNSUPPORTED && !is_strict(request)))) {
		cw__count(segment->engine, slices_retried, 1);
		slice->base.attempt++;
		cw__slice_unland(slice);
		cw__list_remove(&slice->node);
		cw__list_push_back(&request->again, &slice->node);
		if (is_stale(status)) {
			cw__request_refresh(request);
			return;
		}
		if (status == CW_ERR_UNSUPPORTED)
			skip_part(request, slice->part);
		else if (slice->part == request->part && rails_fail(request))
			leave_transport(request);
		if (!request->have_path || request->state == CW__REQUEST_DRAINING)
			cw__request_enqueue(request);
		return;
	}
	cw__slice_unland(slice);
	cw__slice_give(segment->loop, slice);
	cw__request_stop(request, status);
}

/* ------------------------------------------------------------------------------- synchronous copies */

/* A copy is over when it returns, so it may be repeated at once; but only what is a matter of luck is worth it. */
static int can_repeat(struct cw__request *request, int status)
{
	if (cw_status_scope(status) != CW_SCOPE_PATH || !cw_status_retryable(status) ||
	    request->repeats >= request->batch->engine->retries || cw__now() >= request->batch->deadline)
		return 0;
	request->repeats++;
	cw__count(request->batch->engine, slices_retried, 1);
	return 1;
}

void cw__copy_failed(struct cw__request *request, int status)
{
	if (status == CW_ERR_CANCELED) { /* cw__slice_pin(): our own region */
		cw__request_stop(request, CW_ERR_STALE_REGION);
		return;
	}
	if (is_stale(status) && cw__request_refresh(request))
		return;
	if (status == CW_ERR_BUSY) {
		cw__request_enqueue(request);
		return;
	}
	if (!is_stale(status) && cw_status_scope(status) >= CW_SCOPE_PATH)
		leave_transport(request);
	if (status == CW_ERR_UNSUPPORTED && !is_strict(request))
		skip_part(request, request->part);
	if (!request->have_path)
		cw__request_enqueue(request);
	else if (!can_repeat(request, status))
		cw__request_stop(request, status);
}
