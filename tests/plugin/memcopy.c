/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plug-in, built outside the tree's rules with nothing but causeway/plugin.h: transport `memcopy` copies between
 * engines of one process. Regions of all engines are in one table; a copy holds it for reading, revoke() and detach()
 * for writing, so that what they end has ended when they return. Load it with the setting plugins/load.
 */
#include <causeway/plugin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	struct entry *next;
	unsigned char instance[16]; /* of the engine that owns it */
	const struct cw_region_view *view;
	int revoked;
};

/* Of this process; the loader gives every engine the same copy of the plug-in. */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct entry *entries;

struct memcopy {
	struct cw_host *host;
	double bytes_per_second;
};

static int memcopy_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	struct memcopy *memcopy = malloc(sizeof(*memcopy));

	if (!memcopy) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	memcopy->host = host;
	/* Settings of plug-ins begin with "plugin/"; the core keeps them as they are. */
	memcopy->bytes_per_second =
		(double)host->ops->setting_number(host, "plugin/memcopy/bytes_per_second", 10000000000);
	*transport_out = memcopy;
	return CW_OK;
}

static void memcopy_close(void *transport)
{
	free(transport);
}

static int memcopy_attach(void *transport, const struct cw_region_view *region, void **attachment_out)
{
	struct memcopy *memcopy = transport;
	struct entry *entry;

	if (region->kind != CW_MEMORY_HOST)
		return CW_ERR_UNSUPPORTED;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return CW_ERR_NO_MEMORY;
	memcpy(entry->instance, memcopy->host->ops->instance(memcopy->host), sizeof(entry->instance));
	entry->view = region;
	pthread_rwlock_wrlock(&lock);
	entry->next = entries;
	entries = entry;
	pthread_rwlock_unlock(&lock);
	*attachment_out = entry;
	return CW_OK;
}

static void memcopy_detach(void *transport, void *attachment)
{
	struct entry **at = &entries;

	(void)transport;
	pthread_rwlock_wrlock(&lock);
	while (*at != attachment)
		at = &(*at)->next;
	*at = (*at)->next;
	pthread_rwlock_unlock(&lock);
	free(attachment);
}

/* All of the region, whatever the range: what is left of it goes by another transport. */
static int memcopy_revoke(void *transport, const struct cw_region_view *region, void *attachment, uint64_t address,
			  uint64_t length, struct cw_revocation *token)
{
	struct entry *entry = attachment;

	(void)transport;
	(void)region;
	(void)address;
	(void)length;
	(void)token; /* for those who need time */
	pthread_rwlock_wrlock(&lock);
	entry->revoked = 1;
	pthread_rwlock_unlock(&lock);
	return CW_OK;
}

static int memcopy_peer_open(void *transport, struct cw_peer *peer, const void *description, size_t length,
			     void **peer_out)
{
	(void)transport;
	(void)description;
	(void)length;
	if (!peer->same_process)
		return CW_ERR_UNSUPPORTED;
	*peer_out = peer;
	return CW_OK;
}

static void memcopy_peer_close(void *transport, void *peer)
{
	(void)transport;
	(void)peer;
}

static void memcopy_peer_lost(void *transport, void *peer, int status)
{
	(void)transport;
	(void)peer;
	(void)status;
}

static unsigned memcopy_rails(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	const struct memcopy *memcopy = transport;

	(void)peer;
	if (max < 1)
		return 0;
	rails_out[0] = (struct cw_rail_info){
		.flags = CW_RAIL_SYNC,
		.max_slice = CW_CHUNK_MAX,
		.bytes_per_second = memcopy->bytes_per_second,
	};
	return 1;
}

/* With the lock. */
static const struct entry *find(const struct cw_peer *peer, const struct cw_remote_view *remote)
{
	for (const struct entry *entry = entries; entry; entry = entry->next)
		if (entry->view->id == remote->id && entry->view->key == remote->key &&
		    !memcmp(entry->instance, peer->instance, sizeof(entry->instance)))
			return entry;
	return NULL;
}

static int memcopy_reach(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	const struct entry *entry;
	int usable;

	(void)transport;
	pthread_rwlock_rdlock(&lock);
	entry = find(peer, query->remote);
	usable = entry && !entry->revoked;
	pthread_rwlock_unlock(&lock);
	if (!usable || query->local->kind != CW_MEMORY_HOST) {
		reach_out->why = "not memory of this process, or revoked";
		return CW_ERR_UNSUPPORTED;
	}
	*reach_out = (struct cw_reach){
		.cost = 3500,
		.rail_count = 1,
		.checks = "own cpu: bounds, rights, key, revocation",
		.why = "one copy inside the process",
	};
	return CW_OK;
}

/* With the lock: one piece, checked as the target would. */
static int copy_piece(const struct cw_slice *slice, const struct entry *entry, const struct cw_piece *piece)
{
	const struct cw_region_view *view = entry->view;
	unsigned need = slice->op == CW_OP_WRITE ? CW_ACCESS_REMOTE_WRITE : CW_ACCESS_REMOTE_READ;
	unsigned char *remote = (unsigned char *)(uintptr_t)piece->remote;

	if (piece->remote < view->address || piece->remote - view->address > view->length ||
	    piece->length > view->length - (piece->remote - view->address))
		return CW_ERR_NOT_REGISTERED;
	if (!(view->access & need))
		return CW_ERR_ACCESS;
	if (slice->op == CW_OP_WRITE)
		memmove(remote, piece->local, piece->length);
	else
		memmove(piece->local, remote, piece->length);
	return CW_OK;
}

static int memcopy_copy(void *transport, void *peer, struct cw_slice *slice)
{
	struct memcopy *memcopy = transport;
	const struct entry *entry;
	int status;

	pthread_rwlock_rdlock(&lock);
	entry = find(peer, slice->remote);
	status = entry && !entry->revoked ? CW_OK : CW_ERR_STALE_REGION;
	for (uint64_t done = 0; !status && done < slice->length;) {
		struct cw_piece pieces[16];
		unsigned count = memcopy->host->ops->slice_pieces(slice, done, pieces, 16);

		for (unsigned i = 0; !status && i < count; i++) {
			status = copy_piece(slice, entry, &pieces[i]);
			done += pieces[i].length;
		}
	}
	pthread_rwlock_unlock(&lock);
	return status;
}

static const struct cw_transport_ops transport_memcopy = {
	.abi = CW_PLUGIN_ABI,
	.name = "memcopy",
	.summary = "copies between engines of one process",
	.flags = CW_TRANSPORT_REVOCABLE,
	.open = memcopy_open,
	.close = memcopy_close,
	.attach = memcopy_attach,
	.detach = memcopy_detach,
	.revoke = memcopy_revoke,
	.peer_open = memcopy_peer_open,
	.peer_close = memcopy_peer_close,
	.peer_lost = memcopy_peer_lost,
	.rails = memcopy_rails,
	.reach = memcopy_reach,
	.copy = memcopy_copy,
};

static const struct cw_transport_ops *const transports[] = { &transport_memcopy, NULL };

extern const struct cw_plugin cw_plugin;
__attribute__((visibility("default"))) const struct cw_plugin cw_plugin = {
	.abi = CW_PLUGIN_ABI,
	.name = "memcopy",
	.transports = transports,
};
