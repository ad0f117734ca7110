/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated CUDA driver: calls, devices and contexts. The core knows a current device for each thread; here there is
 * a stack of contexts instead, so each call makes its context's device current in the core and puts back what was
 * there.
 */
#include "face.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DEPTH 64 /* of the stack of contexts */
#define NAME "Causeway emulated device"

enum needs { NOTHING, INIT, CONTEXT };

static struct cw__emu_symbol symbols[CW__CUDA_SYMBOLS] = {
#define CW__CUDA_SYMBOL(name, suffix, since, needs, copies)                                                            \
	{ #name #suffix, (needs == NOTHING ? CW__EMU_ANY_TIME : 0) | (copies ? CW__EMU_COPIES : 0), 0, NULL },
#include "symbols.def"
#undef CW__CUDA_SYMBOL
};

static const unsigned char needs_of[CW__CUDA_SYMBOLS] = {
#define CW__CUDA_SYMBOL(name, suffix, since, needs, copies) needs,
#include "symbols.def"
#undef CW__CUDA_SYMBOL
};

static const int codes[CW__EMU_STATUSES] = {
	[-CW__EMU_BAD_VALUE] = CW__CU_INVALID_VALUE,
	[-CW__EMU_NO_MEMORY] = CW__CU_OUT_OF_MEMORY,
	[-CW__EMU_NOT_INITIALIZED] = CW__CU_NOT_INITIALIZED,
	[-CW__EMU_REMOVED] = CW__CU_DEVICE_UNAVAILABLE,
	[-CW__EMU_BAD_POINTER] = CW__CU_INVALID_VALUE,
	[-CW__EMU_BAD_KIND] = CW__CU_INVALID_VALUE,
	[-CW__EMU_NO_DEVICE] = CW__CU_NO_DEVICE,
	[-CW__EMU_BAD_DEVICE] = CW__CU_INVALID_DEVICE,
	[-CW__EMU_BAD_HANDLE] = CW__CU_INVALID_HANDLE,
	[-CW__EMU_NOT_READY] = CW__CU_NOT_READY,
	[-CW__EMU_ILLEGAL_ADDRESS] = CW__CU_ILLEGAL_ADDRESS,
	[-CW__EMU_PEER_ON] = CW__CU_PEER_ACCESS_ALREADY_ENABLED,
	[-CW__EMU_PEER_OFF] = CW__CU_PEER_ACCESS_NOT_ENABLED,
	[-CW__EMU_HOST_REGISTERED] = CW__CU_HOST_MEMORY_ALREADY_REGISTERED,
	[-CW__EMU_HOST_NOT_REGISTERED] = CW__CU_HOST_MEMORY_NOT_REGISTERED,
	[-CW__EMU_NOT_SUPPORTED] = CW__CU_NOT_SUPPORTED,
	[-CW__EMU_UNLINKED] = CW__CU_PEER_ACCESS_UNSUPPORTED,
	[-CW__EMU_LINK_DOWN] = CW__CU_NVLINK_UNCORRECTABLE,
	[-CW__EMU_GONE] = CW__CU_MAP_FAILED,
	[-CW__EMU_NOT_PERMITTED] = CW__CU_NOT_PERMITTED,
	[-CW__EMU_SYSTEM] = CW__CU_OPERATING_SYSTEM,
};

static struct cw__emu_face face = {
	.name = "cuda", .vendor = CW__WORLD_CUDA, .codes = codes, .symbols = symbols, .symbol_count = CW__CUDA_SYMBOLS
};
static _Atomic int initialized;
static struct cw__cu_context contexts[CW__WORLD_DEVICES];
static _Thread_local struct cw__cu_context *stack[DEPTH];
static _Thread_local unsigned depth;

/* -------------------------------------------------------------------------------------------- calls */

struct cw__cu_context *cw__cuda_current(void)
{
	return depth ? stack[depth - 1] : NULL;
}

struct cw__cu_context *cw__cuda_live(const struct cw__cu_context *context)
{
	for (int i = 0; i < CW__WORLD_DEVICES; i++)
		if (context == &contexts[i])
			return atomic_load_explicit(&contexts[i].users, memory_order_acquire) ? &contexts[i] : NULL;
	return NULL;
}

struct cw__cu_context *cw__cuda_context(int device)
{
	if (!cw__emu_device(device))
		return NULL;
	contexts[device].device = device;
	return &contexts[device];
}

int cw__cuda_begin(struct cw__cuda_call *call, enum cw__cuda_symbol symbol)
{
	struct cw__cu_context *current = cw__cuda_current();
	int status;

	*call = (struct cw__cuda_call){
		.call = { .face = &face, .symbol = &symbols[symbol], .device = -1, .peer = -1, .port = -1 }
	};
	call->before = cw__emu_device_get();
	if (current && current->device != call->before && cw__emu_world())
		cw__emu_device_set(current->device);
	status = cw__emu_begin(&call->call);
	if (status || needs_of[symbol] == NOTHING)
		return status;
	if (!atomic_load_explicit(&initialized, memory_order_acquire))
		return CW__CU_NOT_INITIALIZED;
	if (needs_of[symbol] < CONTEXT)
		return 0;
	if (!current)
		return CW__CU_INVALID_CONTEXT;
	return cw__cuda_live(current) ? 0 : CW__CU_CONTEXT_IS_DESTROYED;
}

int cw__cuda_end(struct cw__cuda_call *call, int status)
{
	int result = cw__emu_end(&call->call, status);

	if (cw__emu_device_get() != call->before)
		cw__emu_device_set(call->before);
	return result;
}

int cuInit(unsigned flags)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuInit);

	if (!status)
		status = flags ? CW__EMU_BAD_VALUE : CW__EMU_OK;
	if (!status)
		atomic_store_explicit(&initialized, 1, memory_order_release);
	return cw__cuda_end(&call, status);
}

int cuDriverGetVersion(int *version_out)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuDriverGetVersion);

	if (!status && !version_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*version_out = CW__CUDA_VERSION;
	return cw__cuda_end(&call, status);
}

/* ------------------------------------------------------------------------------------------ devices */

int cuDeviceGetCount(int *count_out)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuDeviceGetCount);

	if (!status && !count_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*count_out = cw__emu_device_count();
	return cw__cuda_end(&call, status);
}

/* The begin of a call that gives something about one device. */
static int begin_on(struct cw__cuda_call *call, enum cw__cuda_symbol symbol, int device, const void *out)
{
	int status = cw__cuda_begin(call, symbol);

	if (!status && !cw__emu_device(device))
		status = CW__EMU_BAD_DEVICE;
	if (!status && !out)
		status = CW__EMU_BAD_VALUE;
	cw__emu_argument(&call->call, "of", (uint64_t)(int64_t)device);
	return status;
}

int cuDeviceGet(int *device_out, int ordinal)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDeviceGet, ordinal, device_out);

	if (!status)
		*device_out = ordinal;
	return cw__cuda_end(&call, status);
}

int cuDeviceGetName(char *name, int size, int device)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDeviceGetName, device, name);

	if (!status && size <= 0)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		snprintf(name, (size_t)size, NAME);
	return cw__cuda_end(&call, status);
}

int cuDeviceTotalMem_v2(size_t *bytes_out, int device)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDeviceTotalMem, device, bytes_out);

	if (!status)
		*bytes_out = (size_t)cw__emu_device(device)->memory;
	return cw__cuda_end(&call, status);
}

int cuDeviceGetAttribute(int *value_out, int attribute, int device)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDeviceGetAttribute, device, value_out);
	const struct cw__world_device *at = status ? NULL : cw__emu_device(device);

	if (at) {
		const int known[][2] = {
			{ CW__CU_DEVICE_PCI_BUS, (int)at->pci_bus },
			{ CW__CU_DEVICE_PCI_DEVICE, (int)at->pci_device },
			{ CW__CU_DEVICE_PCI_DOMAIN, (int)at->pci_domain },
			{ CW__CU_DEVICE_ASYNC_ENGINES, 2 },
			{ CW__CU_DEVICE_UNIFIED_ADDRESSING, 1 },
			{ CW__CU_DEVICE_VMM, 0 },
			{ CW__CU_DEVICE_POSIX_FD_HANDLES, 0 },
			{ CW__CU_DEVICE_DMA_BUF, 0 },
			{ CW__CU_DEVICE_FABRIC_HANDLES, 0 },
		};

		status = CW__EMU_BAD_VALUE;
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
			if (known[i][0] == attribute) {
				*value_out = known[i][1];
				status = 0;
			}
		}
	}
	return cw__cuda_end(&call, status);
}

static int write_pci(const struct cw__world_device *device, char *text, size_t size)
{
	int length = snprintf(text, size, "%04X:%02X:%02X.%X", device->pci_domain, device->pci_bus, device->pci_device,
			      device->pci_function);

	return length > 0 && (size_t)length < size ? 0 : CW__EMU_BAD_VALUE;
}

int cuDeviceGetPCIBusId(char *text, int size, int device)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDeviceGetPCIBusId, device, text);

	if (!status)
		status = size > 0 ? write_pci(cw__emu_device(device), text, (size_t)size) : CW__EMU_BAD_VALUE;
	return cw__cuda_end(&call, status);
}

int cuDeviceGetByPCIBusId(int *device_out, const char *text)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuDeviceGetByPCIBusId);
	char found[32];

	if (!status) {
		status = device_out && text ? CW__EMU_BAD_DEVICE : CW__EMU_BAD_VALUE;
		for (int i = 0; status == CW__EMU_BAD_DEVICE && cw__emu_device(i); i++) {
			if (!write_pci(cw__emu_device(i), found, sizeof(found)) && !strcasecmp(found, text)) {
				*device_out = i;
				status = 0;
			}
		}
	}
	return cw__cuda_end(&call, status);
}

int cuDeviceGetUuid_v2(struct cw__cu_uuid *uuid_out, int device)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDeviceGetUuid, device, uuid_out);

	if (!status)
		memcpy(uuid_out->bytes, cw__emu_device(device)->uuid, sizeof(uuid_out->bytes));
	return cw__cuda_end(&call, status);
}

int cuDeviceCanAccessPeer(int *yes_out, int device, int peer)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDeviceCanAccessPeer, device, yes_out);

	if (!status && !cw__emu_device(peer))
		status = CW__EMU_BAD_DEVICE;
	if (!status)
		*yes_out = cw__emu_can_access(device, peer);
	return cw__cuda_end(&call, status);
}

/* ----------------------------------------------------------------------------------------- contexts */

int cuDevicePrimaryCtxRetain(struct cw__cu_context **context_out, int device)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDevicePrimaryCtxRetain, device, context_out);

	if (!status) {
		*context_out = cw__cuda_context(device);
		atomic_fetch_add_explicit(&(*context_out)->users, 1, memory_order_acq_rel);
	}
	return cw__cuda_end(&call, status);
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDevicePrimaryCtxRelease, device, contexts);
	unsigned users = status ? 0 : atomic_load_explicit(&contexts[device].users, memory_order_acquire);

	if (!status) {
		while (users && !atomic_compare_exchange_weak_explicit(&contexts[device].users, &users, users - 1,
								       memory_order_acq_rel, memory_order_acquire))
			;
		status = users ? 0 : CW__CU_INVALID_CONTEXT;
	}
	return cw__cuda_end(&call, status);
}

int cuDevicePrimaryCtxGetState(int device, unsigned *flags_out, int *active_out)
{
	struct cw__cuda_call call;
	int status = begin_on(&call, CW__CUDA_cuDevicePrimaryCtxGetState, device, active_out);

	if (!status && !flags_out)
		status = CW__EMU_BAD_VALUE;
	if (!status) {
		*flags_out = 0;
		*active_out = atomic_load_explicit(&contexts[device].users, memory_order_acquire) != 0;
	}
	return cw__cuda_end(&call, status);
}

int cuCtxGetCurrent(struct cw__cu_context **context_out)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuCtxGetCurrent);

	if (!status && !context_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*context_out = cw__cuda_current();
	return cw__cuda_end(&call, status);
}

int cuCtxSetCurrent(struct cw__cu_context *context)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuCtxSetCurrent);

	if (!status && context && !cw__cuda_live(context))
		status = CW__CU_INVALID_CONTEXT;
	if (!status && context) {
		depth += !depth;
		stack[depth - 1] = context;
	} else if (!status && depth) {
		depth--;
	}
	return cw__cuda_end(&call, status);
}

int cuCtxPushCurrent_v2(struct cw__cu_context *context)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuCtxPushCurrent);

	if (!status && (!cw__cuda_live(context) || depth == DEPTH))
		status = CW__CU_INVALID_CONTEXT;
	if (!status)
		stack[depth++] = context;
	return cw__cuda_end(&call, status);
}

int cuCtxPopCurrent_v2(struct cw__cu_context **context_out)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuCtxPopCurrent);

	if (!status && !depth)
		status = CW__CU_INVALID_CONTEXT;
	if (!status) {
		depth--;
		if (context_out)
			*context_out = stack[depth];
	}
	return cw__cuda_end(&call, status);
}

int cuCtxGetDevice(int *device_out)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuCtxGetDevice);

	if (!status && !device_out)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*device_out = cw__cuda_current()->device;
	return cw__cuda_end(&call, status);
}

int cuCtxSynchronize(void)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuCtxSynchronize);

	if (!status)
		status = cw__emu_device_wait();
	return cw__cuda_end(&call, status);
}

static int peer_access(enum cw__cuda_symbol symbol, struct cw__cu_context *peer, int on)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, symbol);

	if (!status && !cw__cuda_live(peer))
		status = CW__CU_INVALID_CONTEXT;
	if (!status)
		status = cw__emu_peer_access(peer->device, on);
	return cw__cuda_end(&call, status);
}

int cuCtxEnablePeerAccess(struct cw__cu_context *peer, unsigned flags)
{
	return flags ? CW__CU_INVALID_VALUE : peer_access(CW__CUDA_cuCtxEnablePeerAccess, peer, 1);
}

int cuCtxDisablePeerAccess(struct cw__cu_context *peer)
{
	return peer_access(CW__CUDA_cuCtxDisablePeerAccess, peer, 0);
}
