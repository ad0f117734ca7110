/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated Tang runtime: names and numbers, errors, versions and devices. Memory and copies are in memory.c,
 * streams and events in streams.c. Behaviour is in emulators/core; our reading of the vendor's documents is in
 * src/platforms/gpu/abi/tang.h.
 */
#include "face.h"

#include <stdio.h>

#define VERSION 13000 /* the encoding is not documented; 0.13.0 is what the declarations stand on */

static const int codes[CW__EMU_STATUSES] = {
	[-CW__EMU_BAD_VALUE] = CW__TANG_INVALID_VALUE,
	[-CW__EMU_NO_MEMORY] = CW__TANG_MEMORY_ALLOCATION,
	[-CW__EMU_NOT_INITIALIZED] = CW__TANG_INITIALIZATION_ERROR,
	[-CW__EMU_REMOVED] = CW__TANG_DEVICE_REMOVED,
	[-CW__EMU_BAD_POINTER] = CW__TANG_INVALID_DEVICE_POINTER,
	[-CW__EMU_BAD_KIND] = CW__TANG_INVALID_MEMCPY_DIRECTION,
	[-CW__EMU_NO_DEVICE] = CW__TANG_NO_DEVICE,
	[-CW__EMU_BAD_DEVICE] = CW__TANG_INVALID_DEVICE,
	[-CW__EMU_BAD_HANDLE] = CW__TANG_INVALID_RESOURCE_HANDLE,
	[-CW__EMU_NOT_READY] = CW__TANG_NOT_READY,
	[-CW__EMU_ILLEGAL_ADDRESS] = CW__TANG_ILLEGAL_ADDRESS,
	[-CW__EMU_PEER_ON] = CW__TANG_PEER_ACCESS_ALREADY_ENABLED,
	[-CW__EMU_PEER_OFF] = CW__TANG_PEER_ACCESS_NOT_ENABLED,
	[-CW__EMU_HOST_REGISTERED] = CW__TANG_HOST_MEMORY_ALREADY_REGISTERED,
	[-CW__EMU_HOST_NOT_REGISTERED] = CW__TANG_HOST_MEMORY_NOT_REGISTERED,
	[-CW__EMU_NOT_SUPPORTED] = CW__TANG_NOT_SUPPORTED,
	[-CW__EMU_UNLINKED] = CW__TANG_NOT_SUPPORTED,
	[-CW__EMU_LINK_DOWN] = CW__TANG_UNKNOWN,
	[-CW__EMU_GONE] = CW__TANG_DEVICE_MEMORY_NOT_FOUND,
	[-CW__EMU_NOT_PERMITTED] = CW__TANG_NOT_PERMITTED,
	[-CW__EMU_SYSTEM] = CW__TANG_OPERATING_SYSTEM,
};

static struct cw__emu_symbol symbols[CW__TANG_SYMBOLS] = {
#define TANG(symbol, what) { .name = #symbol, .flags = what },
#include "symbols.def"
#undef TANG
};

struct cw__emu_face cw__tang_face = {
	.name = "tang",
	.vendor = CW__WORLD_SUNRISE,
	.codes = codes,
	.symbols = symbols,
	.symbol_count = CW__TANG_SYMBOLS,
};

static const struct {
	int code;
	const char *name, *text;
} results[] = {
	{ CW__TANG_SUCCESS, "tangSuccess", "no error" },
	{ CW__TANG_INVALID_VALUE, "tangErrorInvalidValue", "invalid argument" },
	{ CW__TANG_MEMORY_ALLOCATION, "tangErrorMemoryAllocation", "out of memory" },
	{ CW__TANG_INITIALIZATION_ERROR, "tangErrorInitializationError", "initialization error" },
	{ CW__TANG_DEVICE_REMOVED, "tangErrorDeviceRemoved", "the device was removed" },
	{ CW__TANG_NOT_PERMITTED, "tangErrorNotPermitted", "operation not permitted" },
	{ CW__TANG_INVALID_DEVICE_POINTER, "tangErrorInvalidDevicePointer", "invalid device pointer" },
	{ CW__TANG_INVALID_MEMCPY_DIRECTION, "tangErrorInvalidMemcpyDirection", "invalid copy direction" },
	{ CW__TANG_NOT_IMPLEMENTED, "tangErrorNotImplemented", "not implemented" },
	{ CW__TANG_NO_DEVICE, "tangErrorNoDevice", "no device" },
	{ CW__TANG_INVALID_DEVICE, "tangErrorInvalidDevice", "invalid device ordinal" },
	{ CW__TANG_INVALID_CONTEXT, "tangErrorInvalidContext", "invalid context" },
	{ CW__TANG_OPERATING_SYSTEM, "tangErrorOperatingSystem", "the operating system refused" },
	{ CW__TANG_INVALID_RESOURCE_HANDLE, "tangErrorInvalidResourceHandle", "invalid resource handle" },
	{ CW__TANG_NOT_READY, "tangErrorNotReady", "not ready" },
	{ CW__TANG_ILLEGAL_ADDRESS, "tangErrorIllegalAddress", "illegal address" },
	{ CW__TANG_PEER_ACCESS_ALREADY_ENABLED, "tangErrorPeerAccessAlreadyEnabled", "peer access is already enabled" },
	{ CW__TANG_PEER_ACCESS_NOT_ENABLED, "tangErrorPeerAccessNotEnabled", "peer access is not enabled" },
	{ CW__TANG_HOST_MEMORY_ALREADY_REGISTERED, "tangErrorHostMemoryAlreadyRegistered",
	  "host memory is already registered" },
	{ CW__TANG_HOST_MEMORY_NOT_REGISTERED, "tangErrorHostMemoryNotRegistered", "host memory is not registered" },
	{ CW__TANG_NOT_SUPPORTED, "tangErrorNotSupported", "not supported" },
	{ CW__TANG_UNKNOWN, "tangErrorUnknown", "unknown error" },
	{ CW__TANG_DEVICE_OUT_OF_MEMORY, "tangErrorDeviceOutOfMemory", "the device is out of memory" },
	{ CW__TANG_DEVICE_MEMORY_NOT_FOUND, "tangErrorDeviceMemoryNotFound", "the device memory was not found" },
};

/* Errors and versions have no result of their own, so no fault applies; they are counted as all calls are. */
static void count(enum cw__tang_symbol symbol)
{
	struct cw__emu_call call = cw__tang_call(symbol, 0);

	cw__emu_begin(&call);
	if (call.traced)
		cw__emu_end(&call, CW__EMU_OK);
}

const char *tangGetErrorString(int result)
{
	count(CW__TANG_tangGetErrorString);
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		if (results[i].code == result)
			return results[i].text;
	}
	return "unrecognized error code";
}

const char *tangGetErrorName(int result)
{
	count(CW__TANG_tangGetErrorName);
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		if (results[i].code == result)
			return results[i].name;
	}
	return "tangErrorUnrecognized";
}

int tangGetLastError(void)
{
	count(CW__TANG_tangGetLastError);
	return cw__emu_last_error(1);
}

int tangPeekAtLastError(void)
{
	count(CW__TANG_tangPeekAtLastError);
	return cw__emu_last_error(0);
}

static int version(enum cw__tang_symbol symbol, int *version_out)
{
	struct cw__emu_call call = cw__tang_call(symbol, 0);
	int status = cw__emu_begin(&call);

	if (!status && !version_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*version_out = VERSION;
	return cw__emu_end(&call, status);
}

int tangRuntimeGetVersion(int *version_out)
{
	return version(CW__TANG_tangRuntimeGetVersion, version_out);
}

int tangDriverGetVersion(int *version_out)
{
	return version(CW__TANG_tangDriverGetVersion, version_out);
}

int tangGetDeviceCount(int *count_out)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangGetDeviceCount, 0);
	int status = cw__emu_begin(&call);

	if (!status && !count_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*count_out = cw__emu_device_count();
	return cw__emu_end(&call, status);
}

int tangSetDevice(int device)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangSetDevice, 0);
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "to_device", (uint64_t)device);
	if (!status)
		status = cw__emu_device_set(device);
	return cw__emu_end(&call, status);
}

int tangGetDevice(int *device_out)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangGetDevice, 0);
	int status = cw__emu_begin(&call);

	if (!status && !device_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*device_out = cw__emu_device_get();
	return cw__emu_end(&call, status);
}

int tangDeviceSynchronize(void)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangDeviceSynchronize, 0);
	int status = cw__emu_begin(&call);

	if (!status)
		status = cw__emu_device_wait();
	return cw__emu_end(&call, status);
}

static int write_pci(char *text, int size, const struct cw__world_device *device)
{
	const int n = snprintf(text, (size_t)size, "%04x:%02x:%02x.%x", device->pci_domain, device->pci_bus,
			       device->pci_device, device->pci_function);

	return n < size ? CW__EMU_OK : CW__EMU_BAD_VALUE;
}

int tangDeviceGetPCIBusId(char *text, int size, int device)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangDeviceGetPCIBusId, 0);
	int status = cw__emu_begin(&call);

	if (!status && !cw__emu_device(device))
		status = CW__EMU_BAD_DEVICE;
	else if (!status && (!text || size <= 0))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		status = write_pci(text, size, cw__emu_device(device));
	return cw__emu_end(&call, status);
}

int tangDeviceGetByPCIBusId(int *device_out, const char *text)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangDeviceGetByPCIBusId, 0);
	unsigned domain = 0, bus, device, function = 0;
	int status = cw__emu_begin(&call);

	if (!status && (!device_out || !text ||
			(sscanf(text, "%x:%x:%x.%x", &domain, &bus, &device, &function) < 3 &&
			 sscanf(text, "%x:%x.%x", &bus, &device, &function) < 2)))
		status = CW__EMU_BAD_VALUE;
	for (int i = 0; !status; i++) {
		const struct cw__world_device *candidate = cw__emu_device(i);

		if (!candidate) {
			status = CW__EMU_BAD_DEVICE;
		} else if (candidate->pci_domain == domain && candidate->pci_bus == bus &&
			   candidate->pci_device == device && candidate->pci_function == function) {
			*device_out = i;
			break;
		}
	}
	return cw__emu_end(&call, status);
}

int tangDeviceCanAccessPeer(int *yes_out, int device, int peer)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangDeviceCanAccessPeer, 0);
	int status = cw__emu_begin(&call);

	if (!status && !yes_out)
		status = CW__EMU_BAD_VALUE;
	else if (!status && (!cw__emu_device(device) || !cw__emu_device(peer)))
		status = CW__EMU_BAD_DEVICE;
	if (!status)
		*yes_out = cw__emu_can_access(device, peer);
	return cw__emu_end(&call, status);
}

int tangDeviceEnablePeerAccess(int peer, unsigned flags)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangDeviceEnablePeerAccess, 0);
	int status;

	call.peer = peer;
	status = cw__emu_begin(&call);
	cw__emu_argument(&call, "peer", (uint64_t)peer);
	if (!status)
		status = flags ? CW__EMU_BAD_VALUE : cw__emu_peer_access(peer, 1);
	return cw__emu_end(&call, status);
}

int tangDeviceDisablePeerAccess(int peer)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangDeviceDisablePeerAccess, 0);
	int status;

	call.peer = peer;
	status = cw__emu_begin(&call);
	cw__emu_argument(&call, "peer", (uint64_t)peer);
	if (!status)
		status = cw__emu_peer_access(peer, 0);
	return cw__emu_end(&call, status);
}

int tangDeviceGetPeerPointer(int source_device, int port, void *address, void **seen_out)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangDeviceGetPeerPointer, 0);
	int status;

	call.device = source_device;
	call.port = port;
	status = cw__emu_begin(&call);
	cw__emu_argument(&call, "source_device", (uint64_t)source_device);
	cw__emu_argument(&call, "port", (uint64_t)port);
	cw__emu_argument(&call, "address", cw__tang_number(address));
	if (!status)
		status = cw__emu_peer_pointer(source_device, port, address, seen_out);
	if (!status)
		cw__emu_argument(&call, "seen", cw__tang_number(*seen_out));
	return cw__emu_end(&call, status);
}
