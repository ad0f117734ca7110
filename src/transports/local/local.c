/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport `local`: copies between two regions of the same engine. It is the example to read first: the whole
 * contract of plugin.h in one file. It has nothing to connect and nothing to poll, so its one rail is synchronous: the
 * core calls copy() with chunks of at most CW_CHUNK_MAX, from any thread, several at once.
 * Next: docs/adding-a-transport.md.
 */
#include <causeway/plugin.h>
#include <stdlib.h>
#include <string.h>
#include <util/copier.h>

struct local {
	struct cw_host *host;
	struct cw__copier copier;
};

static int local_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	struct local *local = malloc(sizeof(*local));

	if (!local) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	local->host = host;
	cw__copier_init(&local->copier);
	*transport_out = local;
	return CW_OK;
}

static void local_close(void *transport)
{
	struct local *local = transport;

	cw__copier_close(&local->copier);
	free(local);
}

/* Whether a peer is ourselves is decided by its instance, never by an address. There is nothing to keep for it. */
static int local_peer_open(void *transport, struct cw_peer *peer, const void *description, size_t length,
			   void **peer_out)
{
	const struct local *local = transport;

	(void)description;
	(void)length;
	if (memcmp(peer->instance, local->host->ops->instance(local->host), sizeof(peer->instance)))
		return CW_ERR_UNSUPPORTED;
	*peer_out = peer;
	return CW_OK;
}

static void local_peer_close(void *transport, void *peer)
{
	(void)transport;
	(void)peer;
}

static void local_peer_lost(void *transport, void *peer, int status)
{
	(void)transport;
	(void)peer;
	(void)status;
}

static unsigned local_rails(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	(void)transport;
	(void)peer;
	if (max < 1)
		return 0;
	rails_out[0] =
		(struct cw_rail_info){ .flags = CW_RAIL_SYNC, .max_slice = CW_CHUNK_MAX, .bytes_per_second = 20e9 };
	return 1;
}

static int local_reach(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	(void)transport;
	(void)peer;
	if (query->local->kind != CW_MEMORY_HOST) {
		reach_out->why = "copies from and to host memory only";
		return CW_ERR_UNSUPPORTED;
	}
	*reach_out = (struct cw_reach){
		.cost = 3000,
		.rail_count = 1,
		.checks = "own cpu: bounds, rights, key, generation",
		.why = "one copy by the calling thread",
	};
	return CW_OK;
}

/* Pieces that are copied together, each with its destination and source pinned. */
struct window {
	struct cw_grant grants[CW__COPIER_PARTS];
	struct cw__copy_part parts[CW__COPIER_PARTS];
	unsigned count;
	size_t total;
};

/* Copies what was gathered and lets go of it. */
static int window_copy(struct local *local, struct window *window)
{
	int status = CW_OK;

	cw__copier_copy(&local->copier, window->parts, window->count, window->total);
	for (unsigned i = 0; i < window->count; i++) {
		int ended = local->host->ops->access_end(local->host, &window->grants[i], window->parts[i].length);

		if (!status || ended == CW_ERR_BUSY)
			status = ended;
	}
	window->count = 0;
	window->total = 0;
	return status;
}

static int overlap(const unsigned char *a, const unsigned char *b, size_t length)
{
	return a < b ? (size_t)(b - a) < length : (size_t)(a - b) < length;
}

/* The remote side is ours too, but it is checked as any peer's access would be, and pinned while it is touched. What a
 * device has comes as host memory, perhaps bit by bit, and perhaps only when this thread holds nothing else. */
static int gather_piece(struct local *local, struct window *window, const struct cw_slice *slice,
			const struct cw_piece *piece)
{
	const struct cw_host_ops *ops = local->host->ops;
	struct cw_claim claim = { .region_id = slice->remote->id, .key = slice->remote->key, .op = slice->op };
	int status = CW_OK;

	for (uint64_t done = 0; !status && done < piece->length;) {
		struct cw_grant *grant = &window->grants[window->count];
		unsigned char *near = piece->local + done;
		struct cw__copy_part *part;

		claim.address = piece->remote + done;
		claim.length = piece->length - done;
		status = ops->access_begin(local->host, &claim, grant);
		if (status == CW_ERR_AGAIN && window->count) {
			status = window_copy(local, window);
			continue;
		}
		if (status)
			break;
		part = &window->parts[window->count];
		*part = slice->op == CW_OP_WRITE ? (struct cw__copy_part){ grant->pointer, near, grant->length }
						 : (struct cw__copy_part){ near, grant->pointer, grant->length };
		done += part->length;
		if (overlap(near, grant->pointer, part->length)) {
			memmove(part->to, part->from, part->length);
			status = ops->access_end(local->host, grant, part->length);
			continue;
		}
		window->total += part->length;
		if (++window->count == CW__COPIER_PARTS)
			status = window_copy(local, window);
	}
	return status;
}

static int local_copy(void *transport, void *peer, struct cw_slice *slice)
{
	struct local *local = transport;
	struct window window;
	uint64_t done = 0;
	int status = CW_OK, left;

	(void)peer;
	window.count = 0;
	window.total = 0;
	while (!status && done < slice->length) {
		struct cw_piece pieces[CW__COPIER_PARTS];
		unsigned count = local->host->ops->slice_pieces(slice, done, pieces, CW__COPIER_PARTS);

		if (!count)
			status = CW_ERR_INTERNAL;
		for (unsigned i = 0; i < count && !status; i++) {
			status = gather_piece(local, &window, slice, &pieces[i]);
			done += pieces[i].length;
		}
	}
	left = window_copy(local, &window);
	return status ? status : left;
}

extern const struct cw_transport_ops cw_transport_local;
const struct cw_transport_ops cw_transport_local = {
	.abi = CW_PLUGIN_ABI,
	.name = "local",
	.summary = "copies inside this engine",
	.flags = CW_TRANSPORT_REVOCABLE,
	.open = local_open,
	.close = local_close,
	.peer_open = local_peer_open,
	.peer_close = local_peer_close,
	.peer_lost = local_peer_lost,
	.rails = local_rails,
	.reach = local_reach,
	.copy = local_copy,
};
