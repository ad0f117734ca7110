/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open transport of the family: our regions as the runtime sees them, the rails of a peer, and which of them carries
 * a pair of regions. No hook that a request passes through asks the runtime about a pointer: that is done in attach.
 */
#include <stdlib.h>
#include <string.h>
#include <transports/peer_copy/inside.h>
#include <unistd.h>

#define COST_SAME_DEVICE 1000
#define COST_ACROSS 1500
#define COST_HOST 2000
#define SPEED 10e9 /* until it is measured */
#define SLICE (32u * 1024 * 1024)
#define LINK_SLICE (1024u * 1024)
#define PIECES 4096u

/* -------------------------------------------------------------------------------------- open and close */

static void lists_init(struct cw__peer_copy *pc)
{
	for (size_t i = 0; i < sizeof(pc->regions) / sizeof(pc->regions[0]); i++)
		cw__list_init(&pc->regions[i]);
	cw__list_init(&pc->opened);
	cw__list_init(&pc->exports);
	cw__list_init(&pc->peers);
	cw__list_init(&pc->zombies);
	cw__list_init(&pc->imports);
	cw__list_init(&pc->lanes);
}

int cw__peer_copy_open(struct cw_host *host, const struct cw__peer_copy_kind *kind, void **transport_out,
		       const char **why_out)
{
	struct cw__peer_copy *pc = calloc(1, sizeof(*pc));

	if (!pc || cw__pc_keepers_open(pc)) {
		free(pc);
		if (kind->close)
			kind->close(kind->own);
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	pc->host = host;
	pc->kind = *kind;
	pc->gpu = kind->gpu;
	pc->grace = host->ops->setting_number(host, "batch/grace", CW__SECOND);
	pc->timeout = host->ops->setting_number(host, "engine/device_timeout", 10 * CW__SECOND);
	pc->start = cw__pc_process_start(getpid());
	pc->link_count = kind->link_count < CW__PC_LINKS_MAX ? kind->link_count : CW__PC_LINKS_MAX;
	pthread_mutex_init(&pc->lock, NULL);
	lists_init(pc);
	cw__pc_owner_open(pc);
	for (unsigned i = 0; i < pc->link_count; i++) {
		if (kind->links[i].up)
			continue;
		atomic_store_explicit(&pc->links[i].down, 1, memory_order_relaxed);
		cw__pc_keeper_watch(pc, i);
	}
	*transport_out = pc;
	return CW_OK;
}

/* What never ended may still be written to by the runtime, so it stays where it is. */
void cw__peer_copy_close(void *transport)
{
	struct cw__peer_copy *pc = transport;
	unsigned left = cw__pc_lanes_close(pc, cw__after(cw__now(), pc->grace));
	struct cw__list *node;

	left += cw__pc_keepers_close(pc);
	cw__pc_owner_close(pc);
	left += atomic_load_explicit(&pc->leaked, memory_order_relaxed);
	if (left) {
		pc->host->ops->log(pc->host, CW_LOG_ERROR,
				   "%s: %u threads are left in calls of the runtime that do not end, with their memory",
				   pc->kind.name, left);
		pc->host->ops->keep(pc->host);
		return;
	}
	cw__pc_imports_free(pc);
	while ((node = cw__list_pop(&pc->zombies)))
		cw__pc_peer_free(cw__container(node, struct cw__pc_peer, node));
	while ((node = cw__list_pop(&pc->exports)))
		free(cw__container(node, struct cw__pc_export, node));
	if (pc->kind.close)
		pc->kind.close(pc->kind.own);
	pthread_mutex_destroy(&pc->lock);
	free(pc);
}

void *cw__peer_copy_own(void *transport)
{
	return ((struct cw__peer_copy *)transport)->kind.own;
}

int cw__peer_copy_describe(void *transport, struct cw_blob *out)
{
	struct cw__peer_copy *pc = transport;
	struct cw__pc_offer offer = { .vendor = (uint16_t)pc->gpu->vendor };
	unsigned char data[CW__PC_OFFER_BYTES];

	return pc->host->ops->blob_append(out, data, cw__pc_offer_encode(&offer, data, sizeof(data)));
}

/* ---------------------------------------------------------------------------------------------- regions */

struct cw__pc_region *cw__pc_region_find(struct cw__peer_copy *pc, uint64_t id)
{
	cw__list_each(node, &pc->regions[id & 255])
	{
		struct cw__pc_region *region = cw__container(node, struct cw__pc_region, node);

		if (region->id == id)
			return region;
	}
	return NULL;
}

/* Not all runtimes can tell where an allocation begins, and one that does not know how long it is has guessed. A region
 * does begin one when what lies before it is none; else its place in its allocation counts as unknown. */
static void find_base(const struct cw__peer_copy *pc, const struct cw_region_view *view, struct cw__pc_region *region)
{
	struct cw__gpu_memory before;
	uint64_t skip;

	if (!region->base && view->allocation_base) {
		region->base = view->allocation_base;
		region->size = view->allocation_length;
	}
	if ((!region->base || (region->base == region->address && !region->size)) &&
	    (cw__gpu_query_aside(pc->gpu, (const void *)(uintptr_t)(region->address - 1), pc->timeout, &before) ||
	     !before.is_device))
		region->base = region->address;
	else if (!region->size)
		region->base = 0;
	skip = region->address - region->base;
	if (region->base > region->address ||
	    (region->size && (skip > region->size || region->length > region->size - skip)))
		region->base = 0;
}

/* What the memory is to the runtime. ERR_UNSUPPORTED: none of ours. Host memory is host memory, whether devices see it
 * or not: with the direction stated, copies take the host's own address, at any alignment. */
static int identify(struct cw__peer_copy *pc, const struct cw_region_view *view, struct cw__pc_region *region)
{
	struct cw__gpu_memory memory = { .device = -1 };

	region->side.device = -1;
	if (view->kind == CW_MEMORY_HOST)
		return CW_OK;
	if (!view->platform || strcmp(view->platform, pc->gpu->name) != 0 ||
	    cw__gpu_query_aside(pc->gpu, (const void *)(uintptr_t)view->address, pc->timeout, &memory) ||
	    !memory.is_device || memory.device < 0 || !cw__pc_is_end(pc, memory.device))
		return CW_ERR_UNSUPPORTED;
	region->side.device = memory.device;
	region->base = memory.allocation_base;
	region->size = memory.allocation_length;
	find_base(pc, view, region);
	return CW_OK;
}

/* With the lock. */
static struct cw__pc_export *export_find(struct cw__peer_copy *pc, int device, uint64_t base)
{
	cw__list_each(node, &pc->exports)
	{
		struct cw__pc_export *export = cw__container(node, struct cw__pc_export, node);

		if (export->device == device && export->base == base)
			return export;
	}
	return NULL;
}

struct export_errand {
	struct cw__gpu_errand errand; /* first */
	uint64_t base;
	struct cw__gpu_handle handle;
};

/* Without the device's lock: nobody who registers memory is to wait for a copy. */
static int run_export(struct cw__gpu_errand *errand)
{
	struct export_errand *work = (struct export_errand *)errand;
	struct cw__gpu_scope scope;
	int result = errand->gpu->enter(errand->device, &scope);

	if (!result) {
		result = errand->gpu->export_memory((void *)(uintptr_t)work->base, &work->handle);
		errand->gpu->leave(&scope);
	}
	return result;
}

static int call_export(const struct cw__peer_copy *pc, int device, uint64_t base, struct cw__gpu_handle *handle_out)
{
	struct export_errand *work = calloc(1, sizeof(*work));
	int result;

	if (!work)
		return CW__GPU_NO_ANSWER;
	*work = (struct export_errand){ .errand = { .run = run_export, .gpu = pc->gpu, .device = device },
					.base = base };
	result = cw__gpu_aside(&work->errand, pc->timeout);
	if (result == CW__GPU_NO_ANSWER)
		return result;
	*handle_out = work->handle;
	free(work);
	return result;
}

/* The handle of the region's allocation, made now or for an earlier region; NULL when other processes cannot get it. */
static struct cw__pc_export *export_get(struct cw__peer_copy *pc, const struct cw__pc_region *region)
{
	const struct cw__gpu *gpu = pc->gpu;
	struct cw__pc_export *export, *fresh;
	int result;

	if (!region->base || !gpu->export_memory || !gpu->open_memory || !gpu->close_memory)
		return NULL;
	pthread_mutex_lock(&pc->lock);
	export = export_find(pc, region->side.device, region->base);
	if (export)
		export->refs++;
	pthread_mutex_unlock(&pc->lock);
	fresh = export ? NULL : calloc(1, sizeof(*fresh));
	if (!fresh)
		return export;
	fresh->refs = 1;
	fresh->device = region->side.device;
	fresh->base = region->base;
	result = call_export(pc, fresh->device, fresh->base, &fresh->handle);
	if (result) {
		pc->host->ops->log(pc->host, CW_LOG_INFO,
				   "%s: memory of device %d at 0x%llx cannot be exported: %s (%d); other processes "
				   "reach it through host memory",
				   pc->kind.name, fresh->device, (unsigned long long)fresh->base,
				   result == CW__GPU_NO_ANSWER ? "the runtime does not come back"
							       : gpu->error_text(result),
				   result);
		free(fresh);
		return NULL;
	}
	pthread_mutex_lock(&pc->lock);
	cw__list_push_back(&pc->exports, &fresh->node);
	pthread_mutex_unlock(&pc->lock);
	return fresh;
}

int cw__peer_copy_attach(void *transport, const struct cw_region_view *view, void **attachment_out)
{
	struct cw__peer_copy *pc = transport;
	struct cw__pc_region *region = calloc(1, sizeof(*region));
	int status;

	if (!region)
		return CW_ERR_NO_MEMORY;
	region->id = view->id;
	region->address = view->address;
	region->length = view->length;
	cw__list_init(&region->grants);
	cw__list_init(&region->waiters);
	status = identify(pc, view, region);
	if (status) {
		free(region);
		return status;
	}
	if (region->side.device >= 0 && view->access & CW_ACCESS_REMOTE)
		region->export = export_get(pc, region);
	pthread_mutex_lock(&pc->lock);
	cw__list_push_back(&pc->regions[view->id & 255], &region->node);
	pthread_mutex_unlock(&pc->lock);
	*attachment_out = region;
	return CW_OK;
}

/* Grants are left only when the engine closes without waiting for its peers. */
void cw__peer_copy_detach(void *transport, void *attachment)
{
	struct cw__peer_copy *pc = transport;
	struct cw__pc_region *region = attachment;
	struct cw__pc_export *export = region->export;
	struct cw__list done, *node;

	cw__list_init(&done);
	pthread_mutex_lock(&pc->lock);
	cw__list_remove(&region->node);
	while ((node = cw__list_pop(&region->grants)))
		cw__container(node, struct cw__pc_grant, region_node)->region = NULL;
	cw__list_splice(&done, &region->waiters);
	if (export && --export->refs == 0)
		cw__list_remove(&export->node);
	else
		export = NULL;
	pthread_mutex_unlock(&pc->lock);
	cw__pc_waiters_report(pc, &done);
	free(export);
	free(region);
}

/* Only that there is something to ask for: the handle itself is given to who asks, see grant.c. */
int cw__peer_copy_export(void *transport, const struct cw_region_view *view, void *attachment, struct cw_blob *out)
{
	struct cw__peer_copy *pc = transport;
	const struct cw__pc_region *region = attachment;
	struct cw__pc_offer offer = { .vendor = (uint16_t)pc->gpu->vendor };
	unsigned char data[CW__PC_OFFER_BYTES];

	(void)view;
	if (region->side.device < 0)
		return CW_ERR_UNSUPPORTED;
	offer.flags = region->export ? CW__PC_EXPORTED : 0;
	return pc->host->ops->blob_append(out, data, cw__pc_offer_encode(&offer, data, sizeof(data)));
}

/* A range that is taken back ends the grants of its whole region: a mapping has no holes. Its holders hear of it from
 * the core, let go, and say DETACH. */
int cw__peer_copy_revoke(void *transport, const struct cw_region_view *view, void *attachment, uint64_t address,
			 uint64_t length, struct cw_revocation *token)
{
	struct cw__peer_copy *pc = transport;
	struct cw__pc_region *region = attachment;
	struct cw__pc_waiter *waiter = calloc(1, sizeof(*waiter));
	int granted;

	(void)view;
	(void)address;
	(void)length;
	pthread_mutex_lock(&pc->lock);
	region->revoked = 1;
	granted = !cw__list_empty(&region->grants);
	if (granted && waiter) {
		waiter->token = token;
		cw__list_push_back(&region->waiters, &waiter->node);
		waiter = NULL;
	}
	pthread_mutex_unlock(&pc->lock);
	free(waiter);
	/* Out of memory for the waiter: never done is a late answer, done would be a wrong one. */
	return granted ? CW_ERR_AGAIN : CW_OK;
}

/* ------------------------------------------------------------------------------------- rails and reach */

unsigned cw__peer_copy_rails(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	const struct cw__peer_copy *pc = transport;
	static const struct cw_rail_info first[] = {
		[CW__PC_RAIL_SYNC] = {
			.flags = CW_RAIL_SYNC,
			.max_pieces = CW__PC_SYNC_PIECES,
			.max_slice = CW_CHUNK_MAX,
			.bytes_per_second = SPEED,
		},
		[CW__PC_RAIL_BLOCKING] = {
			.max_pieces = PIECES,
			.max_slice = SLICE,
			.max_inflight = CW__PC_JOBS,
			.max_inflight_bytes = 8ull * SLICE,
			.bytes_per_second = SPEED,
		},
		[CW__PC_RAIL_ASYNC] = {
			.max_pieces = PIECES,
			.max_slice = SLICE,
			.max_inflight = CW__PC_JOBS,
			.max_inflight_bytes = 8ull * SLICE,
			.bytes_per_second = SPEED,
		},
	};
	unsigned count = CW__PC_RAIL_LINKS + pc->link_count;

	(void)peer;
	if (count > max)
		count = max;
	for (unsigned i = 0; i < count; i++) {
		const struct cw__peer_copy_link *link;

		if (i < CW__PC_RAIL_LINKS) {
			rails_out[i] = first[i];
			continue;
		}
		link = &pc->kind.links[i - CW__PC_RAIL_LINKS];
		rails_out[i] = (struct cw_rail_info){
			.max_pieces = PIECES,
			.max_slice = LINK_SLICE,
			.max_inflight = CW__PC_LINK_JOBS,
			.max_inflight_bytes = CW__PC_LINK_JOBS * (uint64_t)LINK_SLICE,
			.bytes_per_second = link->bytes_per_second > 0 ? link->bytes_per_second : SPEED,
			.resource = i,
		};
	}
	return count;
}

static int refuse(struct cw_reach *reach_out, const char *why)
{
	reach_out->why = why;
	return CW_ERR_UNSUPPORTED;
}

/* The rails of the links between two devices. 1 = there are some, and one at least works. */
static int find_links(const struct cw__peer_copy *pc, const struct cw__pc_way *way, struct cw_reach *reach)
{
	int low = way->to < way->from ? way->to : way->from, high = way->to < way->from ? way->from : way->to;
	unsigned first = 0, count = 0, up = 0;

	for (unsigned i = 0; i < pc->link_count; i++) {
		if (pc->kind.links[i].device[0] != low || pc->kind.links[i].device[1] != high)
			continue;
		first = count ? first : i;
		count++;
		up += !atomic_load_explicit(&pc->links[i].down, memory_order_relaxed);
	}
	if (!up)
		return 0;
	reach->rail_first = CW__PC_RAIL_LINKS + first;
	reach->rail_count = count;
	return 1;
}

/* Small, and neither its devices nor its lane are at something that takes long. */
static int is_quick(struct cw__peer_copy *pc, const struct cw__pc_way *way, const struct cw_reach_query *query)
{
	struct cw__pc_way quick = *way;

	quick.quick = 1;
	return query->length && query->length <= CW_CHUNK_MAX &&
	       (query->length - 1) / CW__PC_SYNC_PIECES < query->page &&
	       !cw__pc_is_held(pc->gpu->vendor, way->to, way->from) && !cw__pc_lane_is_slow(pc, &quick);
}

static void choose_rails(struct cw__peer_copy *pc, const struct cw__pc_way *way, const struct cw_reach_query *query,
			 struct cw_reach *reach)
{
	const struct cw__peer_copy_kind *kind = &pc->kind;
	int across = way->to >= 0 && way->from >= 0 && way->to != way->from;

	reach->rail_count = 1;
	if (is_quick(pc, way, query)) {
		reach->rail_first = CW__PC_RAIL_SYNC;
		reach->why = "one call of the runtime, waited for at once";
	} else if (across && kind->stripe && query->length > kind->stripe_from && find_links(pc, way, reach)) {
		reach->why = "divided among the links between the two devices";
	} else if (kind->async_threshold && query->length > kind->async_threshold) {
		reach->rail_first = CW__PC_RAIL_ASYNC;
		reach->why = "asynchronous calls of the runtime, on streams";
	} else {
		reach->rail_first = CW__PC_RAIL_BLOCKING;
		reach->why = "calls of the runtime on a thread of their own";
	}
}

int cw__peer_copy_reach(void *transport, void *opened, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	struct cw__peer_copy *pc = transport;
	const struct cw__pc_peer *peer = opened;
	const struct cw__pc_region *local = query->attachment;
	struct cw__pc_side remote;
	struct cw__pc_way way;
	struct cw_reach reach = { 0 };

	if (!peer->usable || query->remote->space || !local)
		return refuse(reach_out, atomic_load_explicit(&peer->why, memory_order_acquire));
	if (cw__pc_remote_side(peer, query->remote, query->import, &remote))
		return refuse(reach_out, peer->self || query->remote->kind != CW_MEMORY_HOST
						 ? atomic_load_explicit(&peer->why, memory_order_acquire)
						 : "host memory of another process");
	if (local->side.device < 0 && remote.device < 0)
		return refuse(reach_out, "neither side is memory of a device of this vendor");
	way = cw__pc_way(query->op, &local->side, &remote);
	if (cw__pc_way_check(pc, &way, &reach_out->why))
		return CW_ERR_UNSUPPORTED;
	reach.cost = way.to < 0 || way.from < 0 ? COST_HOST : way.to == way.from ? COST_SAME_DEVICE : COST_ACROSS;
	reach.checks = peer->self      ? "own cpu: bounds, rights, key, generation"
		       : remote.mapped ? "the vendor's mapping of the allocation; own check of bounds and rights"
				       : "same process: own check of bounds and rights";
	choose_rails(pc, &way, query, &reach);
	*reach_out = reach;
	return CW_OK;
}

int cw__peer_copy_link_is_up(void *transport, unsigned link)
{
	const struct cw__peer_copy *pc = transport;

	return link < pc->link_count ? !atomic_load_explicit(&pc->links[link].down, memory_order_acquire)
				     : link < pc->kind.link_count && pc->kind.links[link].up;
}
