/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver whose two devices have fabric memory and nothing else that works. Steps of making and freeing it are
 * counted, so that tests see each of them undone: fake_alive() says how many are not. FAKE_FAIL=n lets the n-th step of
 * the process fail.
 */
#include <platforms/gpu/abi/cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define GRANULE (2u << 20)
#define FABRIC 8

struct properties {
	int type, handle_types, place, device;
};

struct access {
	int place, device, flags;
};

static int created, reserved, mapped, steps, peers;
static int current = -1; /* device of the current context; one thread only */

int fake_alive(void);
int fake_peers(void);
int cuMemGetAllocationGranularity(size_t *granularity_out, const struct properties *properties, int option);
int cuMemCreate(uint64_t *handle_out, size_t size, const struct properties *properties, uint64_t flags);
int cuMemRelease(uint64_t handle);
int cuMemAddressReserve(uint64_t *address_out, size_t size, size_t alignment, uint64_t wanted, uint64_t flags);
int cuMemAddressFree(uint64_t address, size_t size);
int cuMemMap(uint64_t address, size_t size, size_t offset, uint64_t handle, uint64_t flags);
int cuMemUnmap(uint64_t address, size_t size);
int cuMemSetAccess(uint64_t address, size_t size, const struct access *access, size_t count);

int fake_alive(void)
{
	return created + reserved + mapped;
}

/* Devices that were let use the newest memory. */
int fake_peers(void)
{
	return peers;
}

static int fails(void)
{
	const char *text = getenv("FAKE_FAIL");

	return text && ++steps == atoi(text) ? CW__CU_NOT_PERMITTED : 0;
}

/* ------------------------------------------------------------------------------- devices and contexts */

int cuInit(unsigned flags)
{
	return (int)flags;
}

int cuGetErrorString(int result, const char **text_out)
{
	*text_out = result == CW__CU_NOT_PERMITTED ? "not permitted" : "fake";
	return 0;
}

int cuDeviceGetCount(int *count_out)
{
	*count_out = 2;
	return 0;
}

int cuDeviceGet(int *device_out, int ordinal)
{
	*device_out = ordinal + 100;
	return 0;
}

int cuDeviceGetPCIBusId(char *text, int size, int device)
{
	snprintf(text, (size_t)size, "0000:%02X:00.0", (unsigned)device & 0xff);
	return 0;
}

int cuDeviceGetAttribute(int *value_out, int attribute, int device)
{
	*value_out = attribute == CW__CU_DEVICE_FABRIC_HANDLES && device >= 100;
	return 0;
}

int cuDeviceCanAccessPeer(int *yes_out, int device, int peer)
{
	*yes_out = device != peer;
	return 0;
}

int cuDevicePrimaryCtxRetain(struct cw__cu_context **context_out, int device)
{
	*context_out = (struct cw__cu_context *)(uintptr_t)device;
	return 0;
}

int cuCtxPushCurrent_v2(struct cw__cu_context *context)
{
	current = (int)(uintptr_t)context;
	return 0;
}

int cuCtxPopCurrent_v2(struct cw__cu_context **context_out)
{
	*context_out = (struct cw__cu_context *)(uintptr_t)current;
	current = -1;
	return 0;
}

/* --------------------------------------------------------------------------------------------- memory */

int cuMemGetAllocationGranularity(size_t *granularity_out, const struct properties *properties, int option)
{
	(void)option;
	*granularity_out = GRANULE;
	return properties->handle_types == FABRIC ? fails() : CW__CU_INVALID_VALUE;
}

int cuMemCreate(uint64_t *handle_out, size_t size, const struct properties *properties, uint64_t flags)
{
	int result = size && !(size % GRANULE) && !flags && properties->type == 1 && properties->device == current
			     ? fails()
			     : CW__CU_INVALID_VALUE;

	if (!result)
		*handle_out = size;
	created += !result;
	return result;
}

int cuMemRelease(uint64_t handle)
{
	(void)handle;
	created--;
	return 0;
}

int cuMemAddressReserve(uint64_t *address_out, size_t size, size_t alignment, uint64_t wanted, uint64_t flags)
{
	int result = !wanted && !flags && alignment ? fails() : CW__CU_INVALID_VALUE;
	void *place;

	if (result)
		return result;
	place = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*address_out = (uint64_t)(uintptr_t)place;
	reserved++;
	return 0;
}

int cuMemAddressFree(uint64_t address, size_t size)
{
	reserved--;
	return munmap((void *)(uintptr_t)address, size) ? CW__CU_INVALID_VALUE : 0;
}

int cuMemMap(uint64_t address, size_t size, size_t offset, uint64_t handle, uint64_t flags)
{
	int result = address && size == handle && !offset && !flags ? fails() : CW__CU_INVALID_VALUE;

	mapped += !result;
	return result;
}

int cuMemUnmap(uint64_t address, size_t size)
{
	(void)address;
	(void)size;
	mapped--;
	return 0;
}

int cuMemSetAccess(uint64_t address, size_t size, const struct access *access, size_t count)
{
	int result = fails();

	(void)size;
	peers = 0;
	for (size_t i = 0; i < count; i++)
		peers += access[i].place == 1 && access[i].flags == 3 && access[i].device >= 100;
	if (!result && mprotect((void *)(uintptr_t)address, size, PROT_READ | PROT_WRITE))
		result = CW__CU_INVALID_VALUE;
	return result;
}

/* -------------------------------------------------------------------------------- what does not work */

#define NOTHING(name)                                                                                                  \
	int nothing_##name(void) __asm__("cu" #name);                                                                  \
	int nothing_##name(void)                                                                                       \
	{                                                                                                              \
		return CW__CU_NOT_SUPPORTED;                                                                           \
	}
NOTHING(CtxGetCurrent)
NOTHING(PointerGetAttributes)
NOTHING(MemGetAddressRange_v2)
NOTHING(MemAlloc_v2)
NOTHING(MemFree_v2)
NOTHING(MemHostAlloc)
NOTHING(MemFreeHost)
NOTHING(MemcpyAsync)
NOTHING(MemcpyPeerAsync)
NOTHING(StreamCreate)
NOTHING(StreamDestroy_v2)
NOTHING(StreamSynchronize)
NOTHING(StreamWaitEvent)
NOTHING(EventCreate)
NOTHING(EventRecord)
NOTHING(EventQuery)
NOTHING(EventSynchronize)
NOTHING(EventDestroy_v2)
