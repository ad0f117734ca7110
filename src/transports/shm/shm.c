/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between processes on one machine, in two ways. Granted memory: engine-owned memory is a sealed memfd that the peer
 * maps, so a transfer is one memcpy by the initiator. Any other host memory: cross-memory attach, which only ever
 * reads: the initiator reads for a READ, the target for a WRITE, after its own check. Start with message.h for what is
 * said between the two engines, then peer.c (initiator) and serve.c (target).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <transports/shm/shm.h>
#include <unistd.h>
#include <util/clock.h>

#define COST_GRANTED 4000
#define COST_ATTACH 9000
#define PULL_SLICE (1024u * 1024)

/* ------------------------------------------------------------------------------------------ open, close */

static int shm_open_transport(struct cw_host *host, void **transport_out, const char **why_out)
{
	struct cw__shm *shm = calloc(1, sizeof(*shm));
	int status;

	if (!shm) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	shm->host = host;
	shm->uid = geteuid();
	shm->grant = host->ops->setting_number(host, "shm/grant", 1) != 0;
	shm->attach = host->ops->setting_number(host, "shm/attach", 1) != 0;
	memcpy(shm->proof, host->ops->instance(host), sizeof(shm->proof));
	for (size_t i = 0, used = (size_t)snprintf(shm->name, sizeof(shm->name), "causeway-"); i < sizeof(shm->proof);
	     i++, used += 2)
		snprintf(shm->name + used, sizeof(shm->name) - used, "%02x", shm->proof[i]);
	pthread_mutex_init(&shm->lock, NULL);
	cw__copier_init(&shm->copier);
	cw__list_init(&shm->sessions);
	for (size_t i = 0; i < sizeof(shm->regions) / sizeof(shm->regions[0]); i++)
		cw__list_init(&shm->regions[i]);
	if (!shm->grant && !shm->attach) {
		*why_out = "shm/grant and shm/attach are both off";
		status = CW_ERR_CONFIG;
	} else {
		status = cw__shm_listen(shm, why_out);
	}
	if (status) {
		cw__copier_close(&shm->copier);
		pthread_mutex_destroy(&shm->lock);
		free(shm);
		return status;
	}
	*transport_out = shm;
	return CW_OK;
}

static void shm_close_transport(void *transport)
{
	struct cw__shm *shm = transport;

	cw__shm_serve_close(shm);
	cw__copier_close(&shm->copier);
	/* Whoever still means to read our memory must find somebody else there, in memory that is freed too. */
	explicit_bzero(shm->proof, sizeof(shm->proof));
	pthread_mutex_destroy(&shm->lock);
	free(shm);
}

static int shm_describe(void *transport, struct cw_blob *out)
{
	struct cw__shm *shm = transport;
	struct cw__shm_description description = { .version = CW__SHM_VERSION };
	unsigned char data[CW__SHM_DESCRIPTION_MAX];

	description.flags = (uint16_t)((shm->grant ? CW__SHM_GRANT : 0) | (shm->attach ? CW__SHM_ATTACH : 0));
	description.name = (const unsigned char *)shm->name;
	description.name_length = (uint8_t)strlen(shm->name);
	return shm->host->ops->blob_append(out, data, cw__shm_description_encode(&description, data, sizeof(data)));
}

/* ---------------------------------------------------------------------------------------------- regions */

struct cw__shm_region *cw__shm_region_find(struct cw__shm *shm, uint64_t id)
{
	cw__list_each(node, &shm->regions[id & 255])
	{
		struct cw__shm_region *region = cw__container(node, struct cw__shm_region, node);

		if (region->id == id)
			return region;
	}
	return NULL;
}

void cw__shm_grant_end(struct cw__shm_grant *grant, struct cw__list *done)
{
	cw__list_remove(&grant->session_node);
	cw__list_remove(&grant->region_node);
	if (grant->region && cw__list_empty(&grant->region->grants))
		cw__list_splice(done, &grant->region->waiters);
	free(grant);
}

void cw__shm_waiters_report(struct cw__shm *shm, struct cw__list *done)
{
	struct cw__list *node;

	while ((node = cw__list_pop(done))) {
		struct cw__shm_waiter *waiter = cw__container(node, struct cw__shm_waiter, node);

		shm->host->ops->revoke_done(waiter->token);
		free(waiter);
	}
}

static int shm_attach(void *transport, const struct cw_region_view *view, void **attachment_out)
{
	struct cw__shm *shm = transport;
	struct cw__shm_region *region;

	region = calloc(1, sizeof(*region));
	if (!region)
		return CW_ERR_NO_MEMORY;
	region->id = view->id;
	cw__list_init(&region->grants);
	cw__list_init(&region->waiters);
	pthread_mutex_lock(&shm->lock);
	cw__list_push_back(&shm->regions[view->id & 255], &region->node);
	pthread_mutex_unlock(&shm->lock);
	*attachment_out = region;
	return CW_OK;
}

/* Grants are left only when the engine closes without waiting for its peers. */
static void shm_detach(void *transport, void *attachment)
{
	struct cw__shm *shm = transport;
	struct cw__shm_region *region = attachment;
	struct cw__list done;
	struct cw__list *node;

	cw__list_init(&done);
	pthread_mutex_lock(&shm->lock);
	cw__list_remove(&region->node);
	while ((node = cw__list_pop(&region->grants)))
		cw__container(node, struct cw__shm_grant, region_node)->region = NULL;
	cw__list_splice(&done, &region->waiters);
	pthread_mutex_unlock(&shm->lock);
	cw__shm_waiters_report(shm, &done);
	free(region);
}

static int shm_export_region(void *transport, const struct cw_region_view *view, void *attachment, struct cw_blob *out)
{
	struct cw__shm *shm = transport;
	unsigned char data[CW__SHM_REGION_BYTES];
	uint16_t flags = 0;

	(void)attachment;
	if (shm->grant && view->share_fd >= 0 && view->kind == CW_MEMORY_HOST)
		flags |= CW__SHM_GRANTED;
	if (shm->attach && view->kind == CW_MEMORY_HOST)
		flags |= CW__SHM_READABLE;
	return shm->host->ops->blob_append(out, data, cw__shm_region_encode(flags, data, sizeof(data)));
}

/* A range that is taken back ends the grant of its whole region: a mapping has no holes. What is left of the region
 * goes by a transport that asks us about each access. */
static int shm_revoke(void *transport, const struct cw_region_view *view, void *attachment, uint64_t address,
		      uint64_t length, struct cw_revocation *token)
{
	struct cw__shm *shm = transport;
	struct cw__shm_region *region = attachment;
	struct cw__shm_waiter *waiter;
	int granted;

	(void)view;
	(void)address;
	(void)length;
	waiter = calloc(1, sizeof(*waiter));
	pthread_mutex_lock(&shm->lock);
	region->revoked = 1;
	granted = !cw__list_empty(&region->grants);
	cw__list_each(node, &region->grants)
	{
		struct cw__shm_grant *grant = cw__container(node, struct cw__shm_grant, region_node);

		grant->wanted = 1;
		if (!grant->told)
			cw__shm_session_wake(grant->session);
	}
	if (granted && waiter) {
		waiter->token = token;
		cw__list_push_back(&region->waiters, &waiter->node);
		waiter = NULL;
	}
	pthread_mutex_unlock(&shm->lock);
	free(waiter);
	/* Out of memory for the waiter: never done is a late answer, done would be a wrong one. */
	return granted ? CW_ERR_AGAIN : CW_OK;
}

/* -------------------------------------------------------------------------------------------------- peers */

static unsigned shm_rails(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	static const struct cw_rail_info rails[] = {
		[CW__SHM_RAIL_COPY] = {
			.flags = CW_RAIL_SYNC,
			.max_slice = CW_CHUNK_MAX,
			.bytes_per_second = 15e9,
		},
		[CW__SHM_RAIL_PULL] = {
			.max_pieces = CW__SHM_PIECES_MAX,
			.max_slice = PULL_SLICE,
			.max_inflight = CW__SHM_PULLS_MAX,
			.max_inflight_bytes = 16 * PULL_SLICE,
			.bytes_per_second = 7e9,
		},
	};
	unsigned count = sizeof(rails) / sizeof(rails[0]);

	(void)transport;
	(void)peer;
	if (count > max)
		count = max;
	memcpy(rails_out, rails, count * sizeof(rails[0]));
	return count;
}

static int refuse(struct cw_reach *reach_out, const char *why)
{
	reach_out->why = why;
	return CW_ERR_UNSUPPORTED;
}

static int shm_reach(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	const struct cw__shm_import *import = query->import;
	struct cw_reach reach = { .rail_first = CW__SHM_RAIL_COPY, .rail_count = 1, .cost = COST_ATTACH };
	uint32_t right = query->op == CW_OP_WRITE ? CW_ACCESS_REMOTE_WRITE : CW_ACCESS_REMOTE_READ;

	(void)transport;
	if (query->local->kind != CW_MEMORY_HOST || query->remote->space)
		return refuse(reach_out, "only host memory is shared between processes");
	if (!import)
		return refuse(reach_out, cw__shm_peer_why(peer));
	if (!(import->access & right))
		return refuse(reach_out, "the region's access rights forbid this");
	if (import->mapping.start) {
		reach.cost = COST_GRANTED;
		reach.checks = "page protection";
		reach.why = "one copy; the peer granted its memory";
	} else if (query->op == CW_OP_READ && import->can_read) {
		reach.checks = "kernel ptrace rules, own bounds check";
		reach.why = "read from the peer's memory by cross-memory attach";
	} else if (query->op == CW_OP_WRITE && import->can_pull) {
		reach.rail_first = CW__SHM_RAIL_PULL;
		reach.checks = "target cpu: bounds, rights, key, generation";
		reach.why = "the peer fetches it by cross-memory attach";
	} else if (query->op == CW_OP_READ && query->remote->kind != CW_MEMORY_HOST) {
		return refuse(reach_out, "cross-memory attach does not reach the memory of a peer's device");
	} else {
		return refuse(reach_out, cw__shm_peer_why(peer));
	}
	*reach_out = reach;
	return CW_OK;
}

/* ------------------------------------------------------------------------------------------------- copy */

static int copy_granted(struct cw__shm *shm, const struct cw_slice *slice, const struct cw_piece *pieces,
			unsigned count, uint64_t total)
{
	const struct cw__shm_import *import = slice->import;
	struct cw__copy_part parts[CW__SHM_BATCH];

	for (unsigned i = 0; i < count; i++) {
		unsigned char *shared = import->mapping.base + (pieces[i].remote - import->address);

		if (slice->op == CW_OP_WRITE)
			parts[i] = (struct cw__copy_part){ shared, pieces[i].local, pieces[i].length };
		else
			parts[i] = (struct cw__copy_part){ pieces[i].local, shared, pieces[i].length };
	}
	cw__copier_copy(&shm->copier, parts, count, total);
	return CW_OK;
}

static int copy_attached(const struct cw__shm_import *import, const struct cw_piece *pieces, unsigned count)
{
	struct iovec local[CW__SHM_BATCH], remote[CW__SHM_BATCH];
	uint64_t moved;

	for (unsigned i = 0; i < count; i++) {
		local[i] = (struct iovec){ pieces[i].local, pieces[i].length };
		remote[i] = (struct iovec){ (void *)(uintptr_t)pieces[i].remote, pieces[i].length };
	}
	return cw__shm_read(&import->process, local, remote, count, &moved);
}

static int inside(const struct cw__shm_import *import, const struct cw_piece *piece)
{
	return piece->remote >= import->address && piece->length <= import->length &&
	       piece->remote - import->address <= import->length - piece->length;
}

static int shm_copy(void *transport, void *peer, struct cw_slice *slice)
{
	struct cw__shm *shm = transport;
	const struct cw__shm_import *import = slice->import;
	struct cw_piece pieces[CW__SHM_BATCH];
	uint64_t offset = 0;
	int status = CW_OK;

	(void)peer;
	if (slice->op == CW_OP_WRITE && !import->mapping.start)
		return CW_ERR_INTERNAL; /* never by process id; such a slice belongs to the other rail */
	while (!status && offset < slice->length) {
		unsigned count = shm->host->ops->slice_pieces(slice, offset, pieces, CW__SHM_BATCH);
		uint64_t before = offset;

		if (!count)
			return CW_ERR_INTERNAL;
		for (unsigned i = 0; i < count; i++) {
			if (!inside(import, &pieces[i]))
				return CW_ERR_STALE_REGION;
			offset += pieces[i].length;
		}
		status = import->mapping.start ? copy_granted(shm, slice, pieces, count, offset - before)
					       : copy_attached(import, pieces, count);
	}
	return status;
}

const struct cw_transport_ops cw_transport_shm = {
	.abi = CW_PLUGIN_ABI,
	.name = "shm",
	.summary = "shared memory and cross-memory attach between processes of one machine",
	.flags = CW_TRANSPORT_REVOCABLE,
	.open = shm_open_transport,
	.close = shm_close_transport,
	.describe = shm_describe,
	.attach = shm_attach,
	.detach = shm_detach,
	.export_region = shm_export_region,
	.revoke = shm_revoke,
	.peer_open = cw__shm_peer_open,
	.peer_close = cw__shm_peer_close,
	.peer_lost = cw__shm_peer_lost,
	.rails = shm_rails,
	.import_region = cw__shm_import_region,
	.import_close = cw__shm_import_close,
	.reach = shm_reach,
	.post = cw__shm_post,
	.copy = shm_copy,
	.cancel = cw__shm_cancel,
};
