/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of one request may lie in several regions of the peer. They are taken in their order: those from one on
 * that lie in the same region are a window, and the next window opens when everything of this one is quiet. A request
 * whose remote side lies in one region has one window. On the loop of its segment.
 */
#include <core/core.h>

static uint64_t page_at(const struct cw__request *request, uint64_t page)
{
	const struct cw_vec *vec = &request->remote;
	uint64_t index = page;

	if (vec->index_bits == 32)
		index = ((const uint32_t *)vec->indices)[page];
	else if (vec->index_bits == 64)
		index = ((const uint64_t *)vec->indices)[page];
	return vec->base + index * vec->stride;
}

static int is_open(const struct cw__request *request)
{
	return request->end > request->window;
}

void cw__window_wanted(const struct cw__request *request, uint64_t *from_out, uint64_t *to_out)
{
	uint64_t size = request->remote.page_size, first = request->window / size;
	uint64_t last = is_open(request) ? (request->end - 1) / size : first;

	if (request->remote.count == 1 || (!request->window && request->end == request->length)) {
		*from_out = request->remote_from;
		*to_out = request->remote_to;
		return;
	}
	*from_out = UINT64_MAX;
	*to_out = 0;
	for (uint64_t page = first; page <= last; page++) {
		uint64_t from = page_at(request, page);

		*from_out = from < *from_out ? from : *from_out;
		*to_out = from + size > *to_out ? from + size : *to_out;
	}
}

void cw__window_open(struct cw__request *request)
{
	const struct cw_vec *vec = &request->remote;
	uint64_t page = request->window / vec->page_size;

	if (is_open(request))
		return;
	if (cw__remote_covers(request->target, vec->space, request->remote_from, request->remote_to)) {
		request->end = request->length;
		return;
	}
	while (page < vec->count) {
		uint64_t from = page_at(request, page);

		if (!cw__remote_covers(request->target, vec->space, from, from + vec->page_size))
			break;
		page++;
	}
	request->end = page * vec->page_size;
}

void cw__window_again(struct cw__request *request)
{
	if (request->inflight)
		return; /* what is left of the window must be found where it was */
	while (!cw__list_empty(&request->again))
		cw__slice_give(request->segment->loop, cw__container(request->again.next, struct cw__slice, node));
	request->next = request->done = request->end = request->window;
}

void cw__window_next(struct cw__request *request)
{
	struct cw__remote *old = request->target;

	request->window = request->end;
	request->target = NULL;
	request->refreshed = 0;
	cw__list_remove(&request->node);
	cw__request_begin(request);
	cw__remote_put(old);
}
