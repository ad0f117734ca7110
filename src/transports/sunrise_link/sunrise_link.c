/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport `sunrise_link`: Sunrise devices of one machine, over PTLink and the Tang runtime. It is peer_copy with what
 * is Sunrise's own: PTML's topology, each link a rail, and the ladder of calls between two devices, of which some do
 * not work on some runtimes: peer copy, its second version, and a plain copy from an address that a port maps.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <transports/sunrise_link/ptml.h>
#include <util/clock.h>

#define MIB (1024u * 1024)
#define STRIPE_FROM (4u * MIB)
#define PROBE_AGAIN (30 * CW__SECOND)

enum step { PEER_COPY, PEER_COPY_2, PORT, STEPS };

static const char *const step_names[] = { "tangMemcpyPeer", "tangMemcpyPeer_v2", "tangDeviceGetPeerPointer" };

/* Between one device and another: the step that worked, and when those before it are tried again. */
struct pair {
	_Atomic unsigned char step;
	_Atomic uint64_t probe_at;
};

struct sunrise {
	struct cw_host *host;
	const struct cw__gpu *gpu;
	struct cw__ptlink_map map;                        /* as it was when the transport was opened */
	struct cw__peer_copy_link links[CW__PTLINKS_MAX]; /* those between devices that we see */
	unsigned link_count;
	struct pair pairs[2][CW__GPU_DEVICES_MAX][CW__GPU_DEVICES_MAX]; /* by mapped, from, to */
};

/* --------------------------------------------------------------------------------------------- the ladder */

/* The target as the source's port sees it. */
static int from_source(const struct sunrise *sunrise, int port, const struct cw__peer_copy_run *run)
{
	const struct cw__gpu *gpu = sunrise->gpu;
	void *seen = NULL;
	int result = gpu->peer_address(run->from_device, port, run->to, &seen);

	if (result)
		return result;
	return run->stream ? gpu->copy_async(seen, run->from, run->length, CW__GPU_D2D, run->stream)
			   : gpu->copy(seen, run->from, run->length, CW__GPU_D2D);
}

/* The source as the target's port sees it, in the target's context. The run's stream is not at home there: it blocks.
 */
static int from_target(const struct sunrise *sunrise, int port, const struct cw__peer_copy_run *run)
{
	const struct cw__gpu *gpu = sunrise->gpu;
	struct cw__gpu_scope scope;
	void *seen = NULL;
	int result = gpu->enter(run->to_device, &scope);

	if (result)
		return result;
	result = gpu->peer_address(run->to_device, port, run->from, &seen);
	if (!result)
		result = gpu->copy(run->to, seen, run->length, CW__GPU_D2D);
	gpu->leave(&scope);
	return result;
}

/* By whichever end of the link is known and works. */
static int by_link(const struct sunrise *sunrise, const struct cw__peer_copy_link *link,
		   const struct cw__peer_copy_run *run)
{
	int end = link->device[1] == run->from_device, first = 0, result;

	if (link->port[end] >= 0) {
		first = from_source(sunrise, link->port[end], run);
		if (!first || link->port[!end] < 0 || sunrise->gpu->is_fatal(first))
			return first;
	}
	result = from_target(sunrise, link->port[!end], run);
	return result && first ? first : result;
}

static int joins(const struct cw__peer_copy_link *link, const struct cw__peer_copy_run *run)
{
	int low = run->from_device < run->to_device ? run->from_device : run->to_device;
	int high = run->from_device < run->to_device ? run->to_device : run->from_device;

	return link->device[0] == low && link->device[1] == high;
}

/* By whichever link works. `otherwise` is the result when there is none. */
static int by_any_link(const struct sunrise *sunrise, const struct cw__peer_copy_run *run, int otherwise)
{
	int result = otherwise;

	for (unsigned i = 0; i < sunrise->link_count && result && sunrise->gpu->peer_address; i++)
		if (joins(&sunrise->links[i], run))
			result = by_link(sunrise, &sunrise->links[i], run);
	return result;
}

/* 1 = the runtime has this step; *result_io is what came of it. */
static int take_step(const struct sunrise *sunrise, unsigned step, const struct cw__peer_copy_run *run, int *result_io)
{
	const struct cw__gpu *gpu = sunrise->gpu;
	int (*copy)(void *, int, const void *, int, size_t) = step == PEER_COPY ? gpu->peer_copy : gpu->peer_copy_2;
	int (*start)(void *, int, const void *, int, size_t, void *) =
		step == PEER_COPY ? gpu->peer_copy_async : gpu->peer_copy_async_2;

	if (step == PORT)
		*result_io = by_any_link(sunrise, run, *result_io);
	else if (run->stream && start)
		*result_io = start(run->to, run->to_device, run->from, run->from_device, run->length, run->stream);
	else if (copy)
		*result_io = copy(run->to, run->to_device, run->from, run->from_device, run->length);
	else
		return 0;
	return 1;
}

static void moved_on(const struct sunrise *sunrise, struct pair *pair, const struct cw__peer_copy_run *run,
		     unsigned step, int first)
{
	unsigned before = atomic_exchange_explicit(&pair->step, (unsigned char)step, memory_order_relaxed);

	atomic_store_explicit(&pair->probe_at, cw__now() + PROBE_AGAIN, memory_order_relaxed);
	if (before != step && step)
		sunrise->host->ops->log(sunrise->host, CW_LOG_INFO,
					"sunrise_link: from device %d to device %d%s %s is used: %s gave %d, %s",
					run->from_device, run->to_device, run->mapped ? " of another process" : "",
					step_names[step], step_names[before < step ? before : 0], first,
					sunrise->gpu->error_text(first));
}

/* Between two different devices; the source's is current. */
static int sunrise_across(void *own, const struct cw__peer_copy_run *run)
{
	struct sunrise *sunrise = own;
	struct pair *pair = &sunrise->pairs[run->mapped != 0][run->from_device][run->to_device];
	unsigned known = atomic_load_explicit(&pair->step, memory_order_relaxed), step = known;
	int result = CW__GPU_NOT_READY, first = 0;

	if (run->link >= 0)
		return by_link(sunrise, &sunrise->links[run->link], run);
	if (known && cw__now() >= atomic_load_explicit(&pair->probe_at, memory_order_relaxed))
		step = 0;
	for (unsigned tried = 0; tried < STEPS; tried++, step = (step + 1) % STEPS) {
		if (!take_step(sunrise, step, run, &result))
			continue;
		if (!result)
			break;
		if (!first)
			first = result;
		if (sunrise->gpu->is_fatal(result))
			return result;
	}
	if (result)
		return first ? first : result;
	if (first || step != known)
		moved_on(sunrise, pair, run, step, first);
	return 0;
}

static int sunrise_link_is_up(void *own, unsigned number)
{
	const struct sunrise *sunrise = own;
	const struct cw__peer_copy_link *link = &sunrise->links[number];
	int up = 1;

	for (unsigned end = 0; end < 2; end++)
		up &= cw__ptml_port_is_up(sunrise->map.devices[link->device[end]].index, link->port[end]);
	return up;
}

/* ---------------------------------------------------------------------------------------- open, topology */

static void take_links(struct sunrise *sunrise)
{
	for (unsigned i = 0; i < sunrise->map.link_count; i++) {
		const struct cw__peer_copy_link *link = &sunrise->map.links[i].link;

		if (link->device[0] >= 0 && link->device[1] >= 0 && sunrise->gpu->peer_address)
			sunrise->links[sunrise->link_count++] = *link;
	}
}

static void sunrise_free(void *own)
{
	free(own);
}

static int sunrise_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	uint64_t within = cw__gpu_patience(host);
	const char *no_links = cw__ptml_load(within); /* first: links are enabled before the runtime starts */
	const struct cw__gpu *gpu = cw__gpu_load_within(CW__GPU_TANG, within, why_out);
	struct cw__peer_copy_kind kind = { .name = "sunrise_link", .gpu = gpu };
	struct sunrise *sunrise;
	int result;

	if (!gpu)
		return CW_ERR_UNSUPPORTED;
	sunrise = calloc(1, sizeof(*sunrise));
	if (!sunrise) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	sunrise->host = host;
	sunrise->gpu = gpu;
	if (no_links)
		host->ops->log(host, CW_LOG_WARN, "sunrise_link: links between devices: %s", no_links);
	result = cw__ptml_map(gpu, within, &sunrise->map);
	if (result)
		host->ops->log(host, CW_LOG_WARN, "sunrise_link: ptmlPtlinkPhytopoDetect gave %d: links are not known",
			       result);
	take_links(sunrise);
	kind.across = sunrise_across;
	kind.link_is_up = sunrise_link_is_up;
	kind.close = sunrise_free;
	kind.own = sunrise;
	kind.async_threshold =
		host->ops->setting_number(host, "transports/sunrise_link/async_memcpy_threshold", 0) * MIB;
	kind.stripe = host->ops->setting_number(host, "transports/sunrise_link/enable_port_striping", 0) != 0;
	kind.stripe_from = STRIPE_FROM;
	kind.links = sunrise->links;
	kind.link_count = sunrise->link_count;
	return cw__peer_copy_open(host, &kind, transport_out, why_out);
}

static void tell_devices(const struct sunrise *sunrise, const struct cw__ptlink_map *map, cw_topology_fn visit,
			 void *arg)
{
	for (unsigned i = 0; i < sunrise->gpu->device_count; i++) {
		struct cw_topology_device device = {
			.device = (int)i,
			.chip = map->devices[i].known ? map->devices[i].chip : -1,
			.numa_node = cw__gpu_numa_node(sunrise->host, sunrise->gpu->pci[i]),
			.ports = map->devices[i].known ? CW__PTML_PORTS : 0,
		};

		snprintf(device.location, sizeof(device.location), "%s:%u", sunrise->gpu->name, i);
		snprintf(device.pci, sizeof(device.pci), "%s", sunrise->gpu->pci[i]);
		visit(arg, &device, NULL);
	}
}

/* 0 = a copy over the link failed, and it has not been asked after since. */
static int is_in_use(void *transport, const struct cw__peer_copy_link *link)
{
	const struct sunrise *sunrise = cw__peer_copy_own(transport);

	for (unsigned i = 0; i < sunrise->link_count; i++)
		if (!memcmp(sunrise->links[i].device, link->device, sizeof(link->device)) &&
		    !memcmp(sunrise->links[i].port, link->port, sizeof(link->port)))
			return cw__peer_copy_link_is_up(transport, i);
	return 1;
}

static int sunrise_topology(void *transport, cw_topology_fn visit, void *arg)
{
	struct sunrise *sunrise = cw__peer_copy_own(transport);
	struct cw__ptlink_map *map = malloc(sizeof(*map));
	int result;

	if (!map)
		return CW_ERR_NO_MEMORY;
	result = cw__ptml_map(sunrise->gpu, cw__gpu_patience(sunrise->host), map);
	if (!result)
		tell_devices(sunrise, map, visit, arg);
	for (unsigned i = 0; !result && i < map->link_count; i++) {
		const struct cw__ptlink *found = &map->links[i];
		struct cw_topology_link link = {
			.device = { found->link.device[0], found->link.device[1] },
			.chip = { found->chip[0], found->chip[1] },
			.port = { found->link.port[0], found->link.port[1] },
			.up = found->link.up && is_in_use(transport, &found->link),
			.gigabytes_per_second = found->bytes_per_second / 1e9,
			.maximum = found->most_per_second / 1e9,
		};

		if (link.port[1] < 0 && link.device[1] < 0)
			link.port[1] = found->remote_port;
		visit(arg, NULL, &link);
	}
	free(map);
	return result ? CW_ERR_IO : CW_OK;
}

extern const struct cw_transport_ops cw_transport_sunrise_link;
const struct cw_transport_ops cw_transport_sunrise_link = {
	.abi = CW_PLUGIN_ABI,
	.name = "sunrise_link",
	.summary = "Sunrise devices of one machine, over PTLink and the Tang runtime",
	.flags = CW_TRANSPORT_DEVICE | CW_TRANSPORT_REVOCABLE,
	.open = sunrise_open,
	CW__PEER_COPY_HOOKS,
	.topology = sunrise_topology,
};
