/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plug-in with two transports that move nothing, so that what is measured is the engine itself: `nothing_copy` has a
 * synchronous rail (the submitter's thread does all the work), `nothing_post` one that takes slices and ends them at
 * once (everything goes through the loop). To the engine itself only. See engine_costs.c.
 */
#include <causeway/plugin.h>
#include <stdlib.h>
#include <string.h>

struct nothing {
	struct cw_host *host;
};

static int nothing_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	struct nothing *nothing = malloc(sizeof(*nothing));

	if (!nothing) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	nothing->host = host;
	*transport_out = nothing;
	return CW_OK;
}

static void nothing_close(void *transport)
{
	free(transport);
}

static int nothing_peer_open(void *transport, struct cw_peer *peer, const void *description, size_t length,
			     void **peer_out)
{
	const struct nothing *nothing = transport;

	(void)description;
	(void)length;
	if (memcmp(peer->instance, nothing->host->ops->instance(nothing->host), sizeof(peer->instance)))
		return CW_ERR_UNSUPPORTED;
	*peer_out = peer;
	return CW_OK;
}

static void nothing_peer_close(void *transport, void *peer)
{
	(void)transport;
	(void)peer;
}

static void nothing_peer_lost(void *transport, void *peer, int status)
{
	(void)transport;
	(void)peer;
	(void)status;
}

static unsigned rails(struct cw_rail_info *rails_out, unsigned max, uint32_t flags)
{
	if (max < 1)
		return 0;
	rails_out[0] = (struct cw_rail_info){ .flags = flags, .max_slice = CW_CHUNK_MAX, .bytes_per_second = 100e9 };
	return 1;
}

static unsigned rails_copy(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	(void)transport;
	(void)peer;
	return rails(rails_out, max, CW_RAIL_SYNC);
}

static unsigned rails_post(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	(void)transport;
	(void)peer;
	return rails(rails_out, max, 0);
}

static int nothing_reach(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	(void)transport;
	(void)peer;
	(void)query;
	*reach_out = (struct cw_reach){ .cost = 1, .rail_count = 1, .checks = "none", .why = "moves nothing" };
	return CW_OK;
}

static int nothing_copy(void *transport, void *peer, struct cw_slice *slice)
{
	(void)transport;
	(void)peer;
	(void)slice;
	return CW_OK;
}

static unsigned nothing_post(void *transport, void *peer, unsigned rail, struct cw_slice **slices, unsigned count)
{
	const struct nothing *nothing = transport;

	(void)peer;
	(void)rail;
	for (unsigned i = 0; i < count; i++)
		nothing->host->ops->slice_done(slices[i], CW_OK, CW_REMOTE_QUIET);
	return count;
}

static void nothing_cancel(void *transport, void *peer, struct cw_slice *slice)
{
	(void)transport;
	(void)peer;
	(void)slice; /* none is ever under way */
}

#define BOTH                                                                                                           \
	.abi = CW_PLUGIN_ABI, .open = nothing_open, .close = nothing_close, .peer_open = nothing_peer_open,            \
	.peer_close = nothing_peer_close, .peer_lost = nothing_peer_lost, .reach = nothing_reach

static const struct cw_transport_ops transport_copy = {
	BOTH,
	.name = "nothing_copy",
	.summary = "moves nothing, in the caller's thread",
	.rails = rails_copy,
	.copy = nothing_copy,
};

static const struct cw_transport_ops transport_post = {
	BOTH,
	.name = "nothing_post",
	.summary = "moves nothing, on the loop",
	.rails = rails_post,
	.post = nothing_post,
	.cancel = nothing_cancel,
};

static const struct cw_transport_ops *const transports[] = { &transport_copy, &transport_post, NULL };

__attribute__((visibility("default"))) extern const struct cw_plugin cw_plugin;
const struct cw_plugin cw_plugin = { .abi = CW_PLUGIN_ABI, .name = "nothing", .transports = transports };
