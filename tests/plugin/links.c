/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plug-in whose transport `links` carries nothing but knows devices and links: those that its setting
 * plugin/links/list says, a comma list of "D CHIP NUMA" (a device) and "A PORT B PORT UP SPEED" (a link; device 99 is
 * one that is not visible here).
 */
#include <causeway/plugin.h>
#include <stdio.h>
#include <string.h>

#define UNSEEN 99

static int links_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	(void)why_out;
	*transport_out = host;
	return CW_OK;
}

static void links_close(void *transport)
{
	(void)transport;
}

static int links_peer_open(void *transport, struct cw_peer *peer, const void *description, size_t length,
			   void **peer_out)
{
	(void)transport;
	(void)description;
	(void)length;
	*peer_out = peer;
	return CW_OK;
}

static void links_peer_close(void *transport, void *peer)
{
	(void)transport;
	(void)peer;
}

static void links_peer_lost(void *transport, void *peer, int status)
{
	(void)transport;
	(void)peer;
	(void)status;
}

static unsigned links_rails(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	(void)transport;
	(void)peer;
	(void)rails_out;
	(void)max;
	return 0;
}

static int links_reach(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	(void)transport;
	(void)peer;
	(void)query;
	reach_out->why = "carries nothing";
	return CW_ERR_NO_PATH;
}

static int links_copy(void *transport, void *peer, struct cw_slice *slice)
{
	(void)transport;
	(void)peer;
	(void)slice;
	return CW_ERR_UNSUPPORTED;
}

static int links_topology(void *transport, cw_topology_fn visit, void *arg)
{
	struct cw_host *host = transport;
	const char *list = host->ops->setting(host, "plugin/links/list");

	for (; list && *list; list += strcspn(list, ","), list += *list == ',') {
		int device[2], chip, port[2], numa, up;
		double speed;

		if (sscanf(list, "%d %d %d %d %d %lf", &device[0], &port[0], &device[1], &port[1], &up, &speed) == 6) {
			struct cw_topology_link link = { .port = { port[0], port[1] }, .up = up };

			for (int end = 0; end < 2; end++) {
				link.device[end] = device[end] == UNSEEN ? -1 : device[end];
				link.chip[end] = device[end];
			}
			link.gigabytes_per_second = speed;
			link.maximum = speed;
			visit(arg, NULL, &link);
		} else if (sscanf(list, "%d %d %d", &device[0], &chip, &numa) == 3) {
			struct cw_topology_device known = { .device = device[0], .chip = chip, .numa_node = numa };

			known.ports = 10;
			snprintf(known.location, sizeof(known.location), "gpu:%d", device[0]);
			snprintf(known.pci, sizeof(known.pci), "0000:%02x:00.0", (unsigned)device[0] % 256);
			visit(arg, &known, NULL);
		} else {
			return CW_ERR_IO;
		}
	}
	return CW_OK;
}

static const struct cw_transport_ops transport_links = {
	.abi = CW_PLUGIN_ABI,
	.name = "links",
	.summary = "knows links",
	.open = links_open,
	.close = links_close,
	.peer_open = links_peer_open,
	.peer_close = links_peer_close,
	.peer_lost = links_peer_lost,
	.rails = links_rails,
	.reach = links_reach,
	.copy = links_copy,
	.topology = links_topology,
};

static const struct cw_transport_ops *const transports[] = { &transport_links, NULL };

extern const struct cw_plugin cw_plugin;
__attribute__((visibility("default"))) const struct cw_plugin cw_plugin = {
	.abi = CW_PLUGIN_ABI,
	.name = "links",
	.transports = transports,
};
