/* SPDX-License-Identifier: Apache-2.0 */
/* Loading PTML, and its records of ports put together to links between devices of the Tang runtime's numbering. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <transports/sunrise_link/ptml.h>

#define SONAME "libptml_shared.so"
#define GIGA 1e9 /* bandwidths in port records are taken as GB/s: no public text states their unit */

/* Guarded by lock after loading: nobody says that the library may be called from several threads at once. */
static struct {
	pthread_once_t once;
	pthread_mutex_t lock;
	char why[512];
	int ready;
	_Atomic int away; /* loading has not come back once: it is not used */
	int (*init)(void);
	int (*enable)(void);
	int (*count)(int *count_out);
	int (*detect)(int device, uint32_t size, void *ports_out);
	int (*status)(int device, int port, int *status_out); /* optional, as those below */
	int (*remote_pci)(int device, int port, struct cw__ptml_pci *info_out);
	int (*pci)(int device, struct cw__ptml_pci *info_out);
	const char *(*text)(int result);
} ptml = { .once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---------------------------------------------------------------------------------------------- loading */

static const char *result_text(int result)
{
	const char *text = ptml.text ? ptml.text(result) : NULL;

	return text ? text : "no description";
}

static int bind(void *library)
{
	const struct {
		const char *name;
		void *slot;
		int required;
	} symbols[] = {
		{ "ptmlInit", &ptml.init, 1 },
		{ "ptmlPtlinkEnableAll", &ptml.enable, 1 },
		{ "ptmlDeviceGetCount", &ptml.count, 1 },
		{ "ptmlPtlinkPhytopoDetect", &ptml.detect, 1 },
		{ "ptmlGetPtlinkStatus", &ptml.status, 0 },
		{ "ptmlGetPtlinkRemoteDevicePciInfo", &ptml.remote_pci, 0 },
		{ "ptmlDeviceGetPciInfo", &ptml.pci, 0 },
		{ "ptmlGetErrorCodeToDescription", &ptml.text, 0 },
	};

	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(library, symbols[i].name);

		if (!symbol && symbols[i].required) {
			snprintf(ptml.why, sizeof(ptml.why), "%s lacks the symbol %s", SONAME, symbols[i].name);
			return 0;
		}
		memcpy(symbols[i].slot, &symbol, sizeof(symbol));
	}
	return 1;
}

static void load(void)
{
	void *library = cw__gpu_open_library(CW__GPU_TANG, SONAME, ptml.why, sizeof(ptml.why));
	int result;

	if (!library || !bind(library))
		return;
	result = ptml.init();
	if (result && result != CW__PTML_ALREADY_INITIALIZED) {
		snprintf(ptml.why, sizeof(ptml.why), "ptmlInit: %s (%d)", result_text(result), result);
		return;
	}
	ptml.ready = 1;
	result = ptml.enable();
	if (result)
		snprintf(ptml.why, sizeof(ptml.why), "ptmlPtlinkEnableAll: %s (%d); links are as they were",
			 result_text(result), result);
	else
		ptml.why[0] = 0;
}

static int run_load(struct cw__gpu_errand *errand)
{
	(void)errand;
	pthread_once(&ptml.once, load);
	return 0;
}

const char *cw__ptml_load(uint64_t within)
{
	struct cw__gpu_errand *errand = calloc(1, sizeof(*errand));

	if (!errand)
		return "out of memory";
	errand->run = run_load;
	errand->device = -1;
	if (cw__gpu_aside(errand, within) == CW__GPU_NO_ANSWER) {
		atomic_store_explicit(&ptml.away, 1, memory_order_relaxed);
		return "libptml_shared.so does not come back from being loaded";
	}
	free(errand);
	return *ptml.why ? ptml.why : NULL;
}

/* ---------------------------------------------------------------------------------------------- devices */

/* Bus ids are written with and without a domain, of four digits or eight, in either case. */
static int parse_pci(const char *text, unsigned numbers_out[4])
{
	char rest;

	if (sscanf(text, "%8x:%2x:%2x.%1x%c", &numbers_out[0], &numbers_out[1], &numbers_out[2], &numbers_out[3],
		   &rest) == 4)
		return 1;
	numbers_out[0] = 0;
	return sscanf(text, "%2x:%2x.%1x%c", &numbers_out[1], &numbers_out[2], &numbers_out[3], &rest) == 3;
}

static int is_same_pci(const char *one, const char *other)
{
	unsigned a[4], b[4];

	return parse_pci(one, a) && parse_pci(other, b) && !memcmp(a, b, sizeof(a));
}

static int device_by_pci(const struct cw__gpu *gpu, struct cw__ptml_pci *info)
{
	info->bus_id[sizeof(info->bus_id) - 1] = 0;
	for (unsigned i = 0; i < gpu->device_count; i++)
		if (is_same_pci(gpu->pci[i], info->bus_id))
			return (int)i;
	return -1;
}

/* PTML numbers all devices of the machine, the runtime those that are visible to the process. */
static void match_devices(const struct cw__gpu *gpu, struct cw__ptlink_map *map)
{
	struct cw__ptml_pci info;
	int count = 0;

	if (ptml.count(&count))
		return;
	for (int index = 0; index < count; index++) {
		int device = index;

		memset(&info, 0, sizeof(info));
		if (ptml.pci && !ptml.pci(index, &info))
			device = device_by_pci(gpu, &info);
		if (device < 0 || device >= (int)gpu->device_count)
			continue;
		map->devices[device].known = 1;
		map->devices[device].index = index;
	}
}

/* ------------------------------------------------------------------------------------------------ ports */

/* One end of a link, as its device tells it. */
struct end {
	int device, port, chip;
	int to_device, to_port, to_chip; /* to_device -1 = not visible here */
	int up, used;
	double speed, most;
};

static int device_by_chip(const struct cw__ptlink_map *map, int chip)
{
	for (unsigned i = 0; i < map->device_count; i++)
		if (map->devices[i].known && map->devices[i].chip == chip)
			return (int)i;
	return -1;
}

static int find_remote(const struct cw__gpu *gpu, const struct cw__ptlink_map *map, int device,
		       const struct cw__ptml_port *port)
{
	struct cw__ptml_pci info;

	memset(&info, 0, sizeof(info));
	if (ptml.remote_pci && !ptml.remote_pci(map->devices[device].index, port->local_port, &info) && *info.bus_id)
		return device_by_pci(gpu, &info);
	return device_by_chip(map, port->remote_chip);
}

static int leads_back(const struct end *one, const struct end *other)
{
	return other->device == one->to_device && other->port == one->to_port && other->to_device == one->device &&
	       other->to_port == one->port;
}

static void add_link(struct cw__ptlink_map *map, const struct end *one, const struct end *other)
{
	struct cw__ptlink *link = &map->links[map->link_count++];
	int turned = one->to_device >= 0 && one->to_device < one->device;

	*link = (struct cw__ptlink){
		.link = { .device = { one->device, one->to_device },
			  .port = { one->port, other ? other->port : -1 },
			  .up = one->up && (!other || other->up),
			  .bytes_per_second = one->speed },
		.chip = { one->chip, one->to_chip },
		.remote_port = one->to_port,
		.bytes_per_second = one->speed,
		.most_per_second = one->most,
	};
	if (!turned)
		return;
	for (unsigned i = 0; i < 2; i++) {
		link->link.device[i] = i ? one->device : one->to_device;
		link->link.port[i] = i ? one->port : other ? other->port : -1;
		link->chip[i] = i ? one->chip : one->to_chip;
	}
	link->remote_port = one->port;
}

static int compare(const void *left, const void *right)
{
	const struct cw__peer_copy_link *a = &((const struct cw__ptlink *)left)->link;
	const struct cw__peer_copy_link *b = &((const struct cw__ptlink *)right)->link;

	if (a->device[0] != b->device[0])
		return a->device[0] - b->device[0];
	if (a->device[1] != b->device[1])
		return a->device[1] - b->device[1];
	return a->port[0] != b->port[0] ? a->port[0] - b->port[0] : a->port[1] - b->port[1];
}

/* Both ends of a link are one link. An end that is down and that nobody else knows of is a port with nothing behind. */
static void join_ends(struct cw__ptlink_map *map, struct end *ends, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct end *other = NULL;

		if (ends[i].used)
			continue;
		for (unsigned j = 0; j < count && !other; j++)
			if (j != i && !ends[j].used && leads_back(&ends[i], &ends[j]))
				other = &ends[j];
		ends[i].used = 1;
		if (other)
			other->used = 1;
		else if (!ends[i].up)
			continue;
		add_link(map, &ends[i], other);
	}
	qsort(map->links, map->link_count, sizeof(map->links[0]), compare);
}

static int read_ports(struct cw__ptlink_map *map, int device, struct cw__ptml_port *ports)
{
	int result = ptml.detect(map->devices[device].index, CW__PTML_PORTS * sizeof(*ports), ports);

	map->devices[device].known = !result;
	map->devices[device].chip = result ? -1 : ports[0].local_chip;
	return result;
}

static unsigned read_ends(const struct cw__gpu *gpu, const struct cw__ptlink_map *map, int device,
			  const struct cw__ptml_port *ports, struct end *ends_out)
{
	unsigned count = 0;

	for (unsigned i = 0; i < CW__PTML_PORTS; i++) {
		int to = find_remote(gpu, map, device, &ports[i]);

		if (to == device)
			continue;
		ends_out[count++] = (struct end){
			.device = device,
			.port = ports[i].local_port,
			.chip = ports[i].local_chip,
			.to_device = to,
			.to_port = ports[i].remote_port,
			.to_chip = ports[i].remote_chip,
			.up = ports[i].link_status != 0,
			.speed = ports[i].current_bandwidth * GIGA,
			.most = ports[i].max_bandwidth * GIGA,
		};
	}
	return count;
}

static int read_map(const struct cw__gpu *gpu, struct cw__ptlink_map *map_out)
{
	struct cw__ptml_port(*ports)[CW__PTML_PORTS] = calloc(CW__GPU_DEVICES_MAX, sizeof(*ports));
	struct end *ends = calloc(CW__PTLINKS_MAX, sizeof(*ends));
	unsigned count = 0;
	int result = 0, any = 0;

	memset(map_out, 0, sizeof(*map_out));
	map_out->device_count = gpu->device_count;
	if (ports && ends && ptml.ready) {
		pthread_mutex_lock(&ptml.lock);
		match_devices(gpu, map_out);
		for (unsigned i = 0; i < gpu->device_count; i++)
			if (map_out->devices[i].known) {
				int failed = read_ports(map_out, (int)i, ports[i]);

				any |= !failed;
				result = failed ? failed : result;
			}
		for (unsigned i = 0; i < gpu->device_count; i++)
			if (map_out->devices[i].known)
				count += read_ends(gpu, map_out, (int)i, ports[i], ends + count);
		pthread_mutex_unlock(&ptml.lock);
		join_ends(map_out, ends, count);
	}
	free(ports);
	free(ends);
	return any ? 0 : result;
}

struct reading {
	struct cw__gpu_errand errand; /* first */
	struct cw__ptlink_map map;
};

static int run_reading(struct cw__gpu_errand *errand)
{
	struct reading *reading = (struct reading *)errand;

	return read_map(errand->gpu, &reading->map);
}

int cw__ptml_map(const struct cw__gpu *gpu, uint64_t within, struct cw__ptlink_map *map_out)
{
	struct reading *reading;
	int result;

	memset(map_out, 0, sizeof(*map_out));
	if (atomic_load_explicit(&ptml.away, memory_order_relaxed))
		return CW__GPU_NO_ANSWER;
	reading = calloc(1, sizeof(*reading));
	if (!reading)
		return CW__GPU_NO_ANSWER;
	reading->errand = (struct cw__gpu_errand){ .run = run_reading, .gpu = gpu, .device = -1 };
	result = cw__gpu_aside(&reading->errand, within);
	if (result == CW__GPU_NO_ANSWER)
		return result;
	*map_out = reading->map;
	free(reading);
	return result;
}

int cw__ptml_port_is_up(int index, int port)
{
	struct cw__ptml_port ports[CW__PTML_PORTS];
	int up = 1, status = 0;

	if (!ptml.ready || port < 0)
		return 1;
	pthread_mutex_lock(&ptml.lock);
	if (ptml.status && !ptml.status(index, port, &status)) {
		up = status != 0;
	} else if (!ptml.detect(index, sizeof(ports), ports)) {
		for (unsigned i = 0; i < CW__PTML_PORTS; i++)
			if (ports[i].local_port == port)
				up = ports[i].link_status != 0;
	}
	pthread_mutex_unlock(&ptml.lock);
	return up;
}
