/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The example plug-in: a transport `inside` that copies inside one engine, built against the installed headers alone.
 * It is src/transports/local/local.c with a setting of its own, plugin/inside/cost, and the symbol that makes a shared
 * object a plug-in. docs/adding-a-transport.md explains both.
 */
#include <causeway/plugin.h>
#include <stdlib.h>
#include <string.h>

struct inside {
	struct cw_host *host;
	uint32_t cost;
};

static int inside_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	struct inside *inside = malloc(sizeof(*inside));

	if (!inside) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	inside->host = host;
	inside->cost = (uint32_t)host->ops->setting_number(host, "plugin/inside/cost", 100);
	*transport_out = inside;
	return CW_OK;
}

static void inside_close(void *transport)
{
	free(transport);
}

static int inside_peer_open(void *transport, struct cw_peer *peer, const void *description, size_t length,
			    void **peer_out)
{
	const struct inside *inside = transport;

	(void)description;
	(void)length;
	if (memcmp(peer->instance, inside->host->ops->instance(inside->host), sizeof(peer->instance)))
		return CW_ERR_UNSUPPORTED;
	*peer_out = peer;
	return CW_OK;
}

static void inside_peer_close(void *transport, void *peer)
{
	(void)transport;
	(void)peer;
}

static void inside_peer_lost(void *transport, void *peer, int status)
{
	(void)transport;
	(void)peer;
	(void)status;
}

static unsigned inside_rails(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	(void)transport;
	(void)peer;
	if (max < 1)
		return 0;
	rails_out[0] =
		(struct cw_rail_info){ .flags = CW_RAIL_SYNC, .max_slice = CW_CHUNK_MAX, .bytes_per_second = 1e9 };
	return 1;
}

static int inside_reach(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	const struct inside *inside = transport;

	(void)peer;
	if (query->local->kind != CW_MEMORY_HOST || query->remote->kind != CW_MEMORY_HOST) {
		reach_out->why = "copies host memory only";
		return CW_ERR_UNSUPPORTED;
	}
	*reach_out = (struct cw_reach){
		.cost = inside->cost,
		.rail_count = 1,
		.checks = "own cpu: bounds, rights, key, generation",
		.why = "one copy by a plug-in",
	};
	return CW_OK;
}

static int inside_copy(void *transport, void *peer, struct cw_slice *slice)
{
	struct inside *inside = transport;
	const struct cw_host_ops *ops = inside->host->ops;
	struct cw_claim claim = { .region_id = slice->remote->id, .key = slice->remote->key, .op = slice->op };
	uint64_t done = 0;

	(void)peer;
	while (done < slice->length) {
		struct cw_piece piece;
		struct cw_grant grant;
		int status;

		ops->slice_pieces(slice, done, &piece, 1);
		claim.address = piece.remote;
		claim.length = piece.length;
		status = ops->access_begin(inside->host, &claim, &grant);
		if (status)
			return status;
		if (slice->op == CW_OP_WRITE)
			memmove(grant.pointer, piece.local, piece.length);
		else
			memmove(piece.local, grant.pointer, piece.length);
		ops->access_end(inside->host, &grant, piece.length);
		done += piece.length;
	}
	return CW_OK;
}

static const struct cw_transport_ops inside_ops = {
	.abi = CW_PLUGIN_ABI,
	.name = "inside",
	.summary = "copies inside this engine, as a plug-in",
	.open = inside_open,
	.close = inside_close,
	.peer_open = inside_peer_open,
	.peer_close = inside_peer_close,
	.peer_lost = inside_peer_lost,
	.rails = inside_rails,
	.reach = inside_reach,
	.copy = inside_copy,
};

static const struct cw_transport_ops *const transports[] = { &inside_ops, NULL };

extern const struct cw_plugin cw_plugin;
__attribute__((visibility("default"))) const struct cw_plugin cw_plugin = {
	.abi = CW_PLUGIN_ABI,
	.name = "inside",
	.transports = transports,
};
