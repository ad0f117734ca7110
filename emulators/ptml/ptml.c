/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated PTML: devices of the world and the links between them. Its device numbers are those of the world, which
 * the Tang runtime may number otherwise (option visible). Chip ids and ports are what the world's topology says.
 */
#include "core/core.h"
#include "platforms/gpu/abi/ptml.h"

#include <stdio.h>
#include <string.h>

#define VENDOR 0x1ee0 /* of no real device */
#define NO_CHIP 0xff  /* behind a port that nothing is connected to */
#define BYTES_PER_GB 1000000000ULL

enum symbol {
#define PTML(name) name##_,
#include "symbols.def"
#undef PTML
	SYMBOLS
};

static const int codes[CW__EMU_STATUSES] = {
	[-CW__EMU_BAD_VALUE] = CW__PTML_INVALID_ARGUMENT,
	[-CW__EMU_NO_MEMORY] = CW__PTML_INSUFFICIENT_SIZE,
	[-CW__EMU_NOT_INITIALIZED] = CW__PTML_DRIVER_NOT_LOADED,
	[-CW__EMU_REMOVED] = CW__PTML_DEVICE_NOT_FOUND,
	[-CW__EMU_BAD_POINTER] = CW__PTML_INVALID_ARGUMENT,
	[-CW__EMU_BAD_KIND] = CW__PTML_INVALID_ARGUMENT,
	[-CW__EMU_NO_DEVICE] = CW__PTML_DEVICE_NOT_FOUND,
	[-CW__EMU_BAD_DEVICE] = CW__PTML_DEVICE_NOT_FOUND,
	[-CW__EMU_BAD_HANDLE] = CW__PTML_INVALID_ARGUMENT,
	[-CW__EMU_NOT_READY] = CW__PTML_UNKNOWN,
	[-CW__EMU_ILLEGAL_ADDRESS] = CW__PTML_UNKNOWN,
	[-CW__EMU_PEER_ON] = CW__PTML_UNKNOWN,
	[-CW__EMU_PEER_OFF] = CW__PTML_UNKNOWN,
	[-CW__EMU_HOST_REGISTERED] = CW__PTML_UNKNOWN,
	[-CW__EMU_HOST_NOT_REGISTERED] = CW__PTML_UNKNOWN,
	[-CW__EMU_NOT_SUPPORTED] = CW__PTML_UNKNOWN,
	[-CW__EMU_UNLINKED] = CW__PTML_UNKNOWN,
	[-CW__EMU_LINK_DOWN] = CW__PTML_UNKNOWN,
	[-CW__EMU_GONE] = CW__PTML_UNKNOWN,
	[-CW__EMU_NOT_PERMITTED] = CW__PTML_UNKNOWN,
	[-CW__EMU_SYSTEM] = CW__PTML_UNKNOWN,
};

static struct cw__emu_symbol symbols[SYMBOLS] = {
#define PTML(symbol) { .name = #symbol, .flags = CW__EMU_ANY_TIME },
#include "symbols.def"
#undef PTML
};

static struct cw__emu_face face = {
	.name = "ptml",
	.vendor = CW__WORLD_SUNRISE,
	.codes = codes,
	.symbols = symbols,
	.symbol_count = SYMBOLS,
};

static _Atomic int initialized, links_enabled;

/* What a call needs before it. */
enum need { NOTHING, INIT, LINKS };

/* Begins a call about a device of the world (or none, -1). 0 or the result. */
static int begin(struct cw__emu_call *call, enum symbol symbol, enum need need, int device)
{
	int status;

	*call = (struct cw__emu_call){
		.face = &face, .symbol = &symbols[symbol], .device = device, .peer = -1, .port = -1
	};
	status = cw__emu_begin(call);
	if (device >= 0)
		cw__emu_argument(call, "of", (uint64_t)device);
	if (status)
		return status;
	if ((need >= INIT && !atomic_load(&initialized)) || (need == LINKS && !atomic_load(&links_enabled)))
		return CW__PTML_UNINITIALIZED;
	return CW__EMU_OK;
}

static const struct cw__world_device *device_of(int index)
{
	const struct cw__world *world = cw__emu_world();

	return index >= 0 && (uint32_t)index < world->device_count ? &world->devices[index] : NULL;
}

static const struct cw__world_port *port_of(int device, int port)
{
	return device_of(device) && port >= 0 && port < CW__WORLD_PORTS ? &device_of(device)->ports[port] : NULL;
}

int ptmlInit(void)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlInit_, NOTHING, -1);

	if (!status && atomic_exchange(&initialized, 1) && cw__emu_option_init_again())
		status = CW__PTML_ALREADY_INITIALIZED;
	return cw__emu_end(&call, status);
}

void ptmlUninit(void)
{
	atomic_store(&initialized, 0);
	atomic_store(&links_enabled, 0);
}

int ptmlDeviceGetCount(int *count_out)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlDeviceGetCount_, INIT, -1);

	if (!status && !count_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*count_out = (int)cw__emu_world()->device_count;
	return cw__emu_end(&call, status);
}

static uint32_t megabytes(const struct cw__world_lane *lane)
{
	return (uint32_t)(lane->bandwidth / 1000000);
}

static void fill_pci(struct cw__ptml_pci *info_out, const struct cw__world_device *device)
{
	*info_out = (struct cw__ptml_pci){
		.domain = (int32_t)device->pci_domain,
		.bus = (int32_t)device->pci_bus,
		.device = (int32_t)(device->pci_device << 3 | device->pci_function),
		.vendor = VENDOR,
		.max_link_speed = 32000,
		.max_link_width = 16,
		.max_bandwidth = megabytes(&device->from_host),
		.current_link_speed = 32000,
		.current_link_width = 16,
		.current_bandwidth = megabytes(&device->from_host),
	};
	snprintf(info_out->bus_id, sizeof(info_out->bus_id), "%04x:%02x:%02x.%x", device->pci_domain, device->pci_bus,
		 device->pci_device, device->pci_function);
}

int ptmlDeviceGetPciInfo(int device, struct cw__ptml_pci *info_out)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlDeviceGetPciInfo_, INIT, device);

	if (!status && !device_of(device))
		status = CW__EMU_BAD_DEVICE;
	else if (!status && !info_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		fill_pci(info_out, device_of(device));
	return cw__emu_end(&call, status);
}

int ptmlDeviceGetUUID(int device, char *text, unsigned size)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlDeviceGetUUID_, INIT, device);

	if (!status && !device_of(device))
		status = CW__EMU_BAD_DEVICE;
	else if (!status && !text)
		status = CW__EMU_BAD_VALUE;
	else if (!status && size < 33)
		status = CW__PTML_INSUFFICIENT_SIZE;
	for (unsigned i = 0; !status && i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", device_of(device)->uuid[i]);
	return cw__emu_end(&call, status);
}

int ptmlPtlinkEnableAll(void)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlPtlinkEnableAll_, INIT, -1);

	if (!status)
		atomic_store(&links_enabled, 1);
	return cw__emu_end(&call, status);
}

int ptmlPtlinkDisableAll(void)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlPtlinkDisableAll_, INIT, -1);

	if (!status)
		atomic_store(&links_enabled, 0);
	return cw__emu_end(&call, status);
}

/* Whole GB/s in one byte: what is too much for it is all that it can say. */
static uint8_t gigabytes(const struct cw__world_lane *lane)
{
	const uint64_t whole = (lane->bandwidth + BYTES_PER_GB / 2) / BYTES_PER_GB;

	if (lane->bandwidth && !whole)
		return 1;
	return (uint8_t)(whole < 255 ? whole : 255);
}

static void fill_port(struct cw__ptml_port *record, const struct cw__world_device *device, int number)
{
	const struct cw__world *world = cw__emu_world();
	const struct cw__world_port *port = &device->ports[number];
	const struct cw__world_link *link;

	*record = (struct cw__ptml_port){ .local_chip = (uint8_t)device->chip,
					  .local_port = (uint8_t)number,
					  .remote_chip = NO_CHIP,
					  .remote_port = NO_CHIP };
	if (port->link < 0)
		return;
	link = &world->links[port->link];
	record->remote_chip = (uint8_t)world->devices[port->peer].chip;
	record->remote_port = (uint8_t)port->peer_port;
	record->link_status = atomic_load(&link->up) != 0;
	record->max_speed = record->current_speed = (uint8_t)(link->speed < 255 ? link->speed : 255);
	record->max_bandwidth = gigabytes(&link->lane[port->end]);
	record->current_bandwidth = record->link_status ? record->max_bandwidth : 0;
}

int ptmlPtlinkPhytopoDetect(int device, uint32_t size, void *ports_out)
{
	struct cw__ptml_port records[CW__PTML_PORTS];
	struct cw__emu_call call;
	int status = begin(&call, ptmlPtlinkPhytopoDetect_, LINKS, device);

	_Static_assert(CW__PTML_PORTS == CW__WORLD_PORTS, "a record for each port of the world");
	if (!status && !device_of(device))
		status = CW__EMU_BAD_DEVICE;
	else if (!status && !ports_out)
		status = CW__EMU_BAD_VALUE;
	else if (!status && size < sizeof(records))
		status = CW__PTML_INSUFFICIENT_SIZE;
	if (!status) {
		for (int i = 0; i < CW__PTML_PORTS; i++)
			fill_port(&records[i], device_of(device), i);
		memcpy(ports_out, records, sizeof(records));
	}
	return cw__emu_end(&call, status);
}

static int is_up(const struct cw__world_port *port)
{
	return port->link >= 0 && atomic_load(&cw__emu_world()->links[port->link].up);
}

int ptmlGetPtlinkStatus(int device, int port, int *status_out)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlGetPtlinkStatus_, LINKS, device);

	if (!status && (!status_out || !port_of(device, port)))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*status_out = is_up(port_of(device, port));
	return cw__emu_end(&call, status);
}

int ptmlGetPtlinkRemoteDevicePciInfo(int device, int port, struct cw__ptml_pci *info_out)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlGetPtlinkRemoteDevicePciInfo_, LINKS, device);

	if (!status && (!info_out || !port_of(device, port)))
		status = CW__EMU_BAD_VALUE;
	else if (!status && port_of(device, port)->link < 0)
		status = CW__EMU_BAD_DEVICE;
	if (!status)
		fill_pci(info_out, device_of(port_of(device, port)->peer));
	return cw__emu_end(&call, status);
}

/* What the status means is not documented; here it is the number of links between the two that are up (ASSUMED). */
int ptmlPtlinkGetConnectRelation(int device, int peer, int *status_out)
{
	struct cw__emu_call call;
	int status = begin(&call, ptmlPtlinkGetConnectRelation_, LINKS, device);
	int links = 0;

	if (!status && (!device_of(device) || !device_of(peer)))
		status = CW__EMU_BAD_DEVICE;
	else if (!status && !status_out)
		status = CW__EMU_BAD_VALUE;
	for (int i = 0; !status && i < CW__WORLD_PORTS; i++)
		links += device_of(device)->ports[i].peer == peer && is_up(&device_of(device)->ports[i]);
	if (!status)
		*status_out = links;
	return cw__emu_end(&call, status);
}

const char *ptmlGetErrorCodeToDescription(int result)
{
	static const char *const texts[] = {
		[CW__PTML_SUCCESS] = "success",
		[CW__PTML_UNINITIALIZED] = "not initialized",
		[CW__PTML_INVALID_ARGUMENT] = "invalid argument",
		[CW__PTML_ALREADY_INITIALIZED] = "already initialized",
		[CW__PTML_INSUFFICIENT_SIZE] = "insufficient size",
		[CW__PTML_IN_USE] = "in use",
		[CW__PTML_DRIVER_NOT_LOADED] = "the driver is not loaded",
		[CW__PTML_DEVICE_NOT_FOUND] = "the device was not found",
		[CW__PTML_EVENT_TIMEOUT] = "timed out",
		[CW__PTML_UNKNOWN] = "unknown error",
	};

	if (result < 0 || (size_t)result >= sizeof(texts) / sizeof(texts[0]))
		return "unrecognized error code";
	return texts[result];
}
