/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVIDIA's CUDA driver API (libcuda.so.1) as far as Causeway calls it: our own declarations, so that no toolkit is
 * needed to build. Functions bear the exact names to ask dlsym for (plain names without their suffix may be older
 * ABIs); types and constants are ours, with the vendor's values.
 *
 * Stands on cuda.h of CUDA 13.0 and the version history in its cudaTypedefs.h, compiled to measure sizes. Nothing here
 * is assumed; what is not there before a certain CUDA version says so. The emulated driver in emulators/cuda defines
 * these.
 */
#ifndef CW_PLATFORMS_GPU_ABI_CUDA_H
#define CW_PLATFORMS_GPU_ABI_CUDA_H

#include <stddef.h>
#include <stdint.h>

/* CUresult. */
enum cw__cu_result {
	CW__CU_SUCCESS = 0,
	CW__CU_INVALID_VALUE = 1,
	CW__CU_OUT_OF_MEMORY = 2,
	CW__CU_NOT_INITIALIZED = 3,
	CW__CU_DEINITIALIZED = 4,
	CW__CU_STUB_LIBRARY = 34,
	CW__CU_DEVICE_UNAVAILABLE = 46,
	CW__CU_NO_DEVICE = 100,
	CW__CU_INVALID_DEVICE = 101,
	CW__CU_INVALID_CONTEXT = 201,
	CW__CU_MAP_FAILED = 205,
	CW__CU_UNMAP_FAILED = 206,
	CW__CU_ALREADY_MAPPED = 208,
	CW__CU_ECC_UNCORRECTABLE = 214,
	CW__CU_PEER_ACCESS_UNSUPPORTED = 217,
	CW__CU_NVLINK_UNCORRECTABLE = 220,
	CW__CU_OPERATING_SYSTEM = 304,
	CW__CU_INVALID_HANDLE = 400,
	CW__CU_NOT_FOUND = 500,
	CW__CU_NOT_READY = 600,
	CW__CU_ILLEGAL_ADDRESS = 700,
	CW__CU_PEER_ACCESS_ALREADY_ENABLED = 704,
	CW__CU_PEER_ACCESS_NOT_ENABLED = 705,
	CW__CU_PRIMARY_CONTEXT_ACTIVE = 708,
	CW__CU_CONTEXT_IS_DESTROYED = 709,
	CW__CU_HOST_MEMORY_ALREADY_REGISTERED = 712,
	CW__CU_HOST_MEMORY_NOT_REGISTERED = 713,
	CW__CU_LAUNCH_FAILED = 719,
	CW__CU_NOT_PERMITTED = 800,
	CW__CU_NOT_SUPPORTED = 801,
	CW__CU_SYSTEM_NOT_READY = 802,
	CW__CU_SYSTEM_DRIVER_MISMATCH = 803,
	CW__CU_INVALID_RESOURCE_TYPE = 914,
	CW__CU_UNKNOWN = 999
};

enum cw__cu_pointer_attribute {
	CW__CU_POINTER_CONTEXT = 1,
	CW__CU_POINTER_MEMORY_TYPE = 2,
	CW__CU_POINTER_DEVICE_POINTER = 3,
	CW__CU_POINTER_HOST_POINTER = 4,
	CW__CU_POINTER_SYNC_MEMOPS = 6,
	CW__CU_POINTER_BUFFER_ID = 7,
	CW__CU_POINTER_IS_MANAGED = 8,
	CW__CU_POINTER_DEVICE_ORDINAL = 9,
	CW__CU_POINTER_IS_LEGACY_IPC_CAPABLE = 10,
	CW__CU_POINTER_RANGE_START = 11,
	CW__CU_POINTER_RANGE_SIZE = 12,
	CW__CU_POINTER_MAPPED = 13,
	CW__CU_POINTER_ALLOWED_HANDLE_TYPES = 14
};

enum cw__cu_memory_type { CW__CU_MEMORY_HOST = 1, CW__CU_MEMORY_DEVICE = 2, CW__CU_MEMORY_UNIFIED = 4 };

enum cw__cu_device_attribute {
	CW__CU_DEVICE_PCI_BUS = 33,
	CW__CU_DEVICE_PCI_DEVICE = 34,
	CW__CU_DEVICE_ASYNC_ENGINES = 40,
	CW__CU_DEVICE_UNIFIED_ADDRESSING = 41,
	CW__CU_DEVICE_PCI_DOMAIN = 50,
	CW__CU_DEVICE_VMM = 102,
	CW__CU_DEVICE_POSIX_FD_HANDLES = 103,
	CW__CU_DEVICE_DMA_BUF = 124,
	CW__CU_DEVICE_FABRIC_HANDLES = 128
};

enum cw__cu_flags {
	CW__CU_STREAM_NON_BLOCKING = 1,
	CW__CU_EVENT_BLOCKING_SYNC = 1,
	CW__CU_EVENT_DISABLE_TIMING = 2,
	CW__CU_EVENT_INTERPROCESS = 4,
	CW__CU_IPC_LAZY_ENABLE_PEER_ACCESS = 1,
	CW__CU_HOST_PORTABLE = 1,
	CW__CU_HOST_DEVICE_MAP = 2
};

/* Contexts, streams and events are handles; streams 0 and 1 are the default stream, 2 that of the thread. Devices are
 * int, device addresses 64-bit numbers. */
struct cw__cu_context;
struct cw__cu_stream;
struct cw__cu_event;

struct cw__cu_ipc_handle { /* CUipcMemHandle, passed by value; opaque */
	unsigned char bytes[64];
};

struct cw__cu_uuid {
	unsigned char bytes[16];
};

_Static_assert(sizeof(struct cw__cu_ipc_handle) == 64, "CUipcMemHandle");
_Static_assert(sizeof(struct cw__cu_uuid) == 16, "CUuuid");
_Static_assert(sizeof(enum cw__cu_result) == 4, "CUresult");

int cuInit(unsigned flags);
int cuDriverGetVersion(int *version_out); /* 1000 major + 10 minor */
int cuGetErrorString(int result, const char **text_out);
int cuGetErrorName(int result, const char **text_out);

int cuDeviceGetCount(int *count_out);
int cuDeviceGet(int *device_out, int ordinal);
int cuDeviceGetAttribute(int *value_out, int attribute, int device);
int cuDeviceGetPCIBusId(char *text, int size, int device); /* upper-case hexadecimal */
int cuDeviceGetByPCIBusId(int *device_out, const char *text);
int cuDeviceGetUuid_v2(struct cw__cu_uuid *uuid_out, int device); /* CUDA 11.4 */
int cuDeviceCanAccessPeer(int *yes_out, int device, int peer);
int cuDevicePrimaryCtxRetain(struct cw__cu_context **context_out, int device);
int cuDevicePrimaryCtxRelease_v2(int device); /* CUDA 11.0 */
int cuDevicePrimaryCtxGetState(int device, unsigned *flags_out, int *active_out);

/* The calling thread's current context. */
int cuCtxGetCurrent(struct cw__cu_context **context_out);
int cuCtxSetCurrent(struct cw__cu_context *context);
int cuCtxPushCurrent_v2(struct cw__cu_context *context);
int cuCtxPopCurrent_v2(struct cw__cu_context **context_out);
int cuCtxGetDevice(int *device_out);
int cuCtxSynchronize(void);
int cuCtxEnablePeerAccess(struct cw__cu_context *peer, unsigned flags); /* 704 when it is on already */

int cuMemAlloc_v2(uint64_t *address_out, size_t size);
int cuMemFree_v2(uint64_t address);
int cuMemHostAlloc(void **address_out, size_t size, unsigned flags);
int cuMemAllocHost_v2(void **address_out, size_t size);
int cuMemFreeHost(void *address);
int cuMemHostGetDevicePointer_v2(uint64_t *address_out, void *host, unsigned flags);
int cuMemHostRegister_v2(void *address, size_t size, unsigned flags);
int cuMemHostUnregister(void *address);
int cuMemGetInfo_v2(size_t *free_out, size_t *total_out);
int cuMemGetAddressRange_v2(uint64_t *base_out, size_t *size_out, uint64_t address);
int cuPointerGetAttribute(void *value_out, int attribute, uint64_t address); /* 1 for an unknown pointer */
/* Success with zeros for an unknown pointer. */
int cuPointerGetAttributes(unsigned count, int *attributes, void **values_out, uint64_t address);

/* Directions follow from the addresses. Peer copies work without peer access, staged by the driver. */
int cuMemcpy(uint64_t to, uint64_t from, size_t size);
int cuMemcpyAsync(uint64_t to, uint64_t from, size_t size, struct cw__cu_stream *stream);
int cuMemcpyPeer(uint64_t to, struct cw__cu_context *to_context, uint64_t from, struct cw__cu_context *from_context,
		 size_t size);
int cuMemcpyPeerAsync(uint64_t to, struct cw__cu_context *to_context, uint64_t from,
		      struct cw__cu_context *from_context, size_t size, struct cw__cu_stream *stream);
int cuMemsetD8_v2(uint64_t to, unsigned char value, size_t count);
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t count, struct cw__cu_stream *stream);

int cuStreamCreate(struct cw__cu_stream **stream_out, unsigned flags);
int cuStreamDestroy_v2(struct cw__cu_stream *stream);
int cuStreamQuery(struct cw__cu_stream *stream); /* 0 or 600 */
int cuStreamSynchronize(struct cw__cu_stream *stream);
int cuStreamWaitEvent(struct cw__cu_stream *stream, struct cw__cu_event *event, unsigned flags);
int cuLaunchHostFunc(struct cw__cu_stream *stream, void (*fn)(void *arg), void *arg); /* CUDA 10.0 */
int cuEventCreate(struct cw__cu_event **event_out, unsigned flags);
int cuEventRecord(struct cw__cu_event *event, struct cw__cu_stream *stream);
int cuEventQuery(struct cw__cu_event *event); /* 0 or 600 */
int cuEventSynchronize(struct cw__cu_event *event);
int cuEventDestroy_v2(struct cw__cu_event *event);

/* Memory between processes: allocations of cuMemAlloc_v2 only. Not in the process that exported; opening a handle again
 * gives the same address and counts. */
int cuIpcGetMemHandle(struct cw__cu_ipc_handle *handle_out, uint64_t address);
int cuIpcOpenMemHandle_v2(uint64_t *base_out, struct cw__cu_ipc_handle handle, unsigned flags); /* CUDA 11.0 */
int cuIpcCloseMemHandle(uint64_t base);

#endif
