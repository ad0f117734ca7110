/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sunrise's Tang runtime (libtangrt_shared.so) as far as Causeway calls it: our own declarations, so that no vendor
 * file is needed to build. Functions bear the vendor's names; types and constants are ours, with the vendor's values.
 *
 * Stands on the public headers of Tang runtime 0.13.0 (FlagTree, tag 0.4.0+sunrise3.4, 2026-01), compiled to measure
 * sizes. Shipped runtimes are newer (1.2.0); what this file says beyond 0.13 is marked ASSUMED. The emulated runtime in
 * emulators/tang defines exactly these functions; the row in src/platforms/gpu looks them up by name.
 */
#ifndef CW_PLATFORMS_GPU_ABI_TANG_H
#define CW_PLATFORMS_GPU_ABI_TANG_H

#include <stddef.h>
#include <stdint.h>

/* tangError_t, a 4-byte enum; functions here return it as int. */
enum cw__tang_result {
	CW__TANG_SUCCESS = 0,
	CW__TANG_INVALID_VALUE = 1,
	CW__TANG_MEMORY_ALLOCATION = 2,
	CW__TANG_INITIALIZATION_ERROR = 3,
	CW__TANG_DEINITIALIZED = 4,
	CW__TANG_DEVICE_REMOVED = 5,
	CW__TANG_DEVICE_RESET = 6,
	CW__TANG_NOT_PERMITTED = 7,
	CW__TANG_NO_SUCH_FILE = 8,
	CW__TANG_INVALID_CONFIGURATION = 9,
	CW__TANG_NULL_POINTER = 10,
	CW__TANG_OUT_OF_RESOURCES = 11,
	CW__TANG_INVALID_SYMBOL = 13,
	CW__TANG_INVALID_DEVICE_POINTER = 17,
	CW__TANG_INVALID_MEMCPY_DIRECTION = 21,
	CW__TANG_INSUFFICIENT_DRIVER = 35,
	CW__TANG_NOT_IMPLEMENTED = 99,
	CW__TANG_NO_DEVICE = 100,
	CW__TANG_INVALID_DEVICE = 101,
	CW__TANG_INVALID_CONTEXT = 201,
	CW__TANG_OPERATING_SYSTEM = 304,
	CW__TANG_ILLEGAL_STATE = 305,
	CW__TANG_INVALID_RESOURCE_HANDLE = 400,
	CW__TANG_SYMBOL_NOT_FOUND = 500,
	CW__TANG_NOT_READY = 600,
	CW__TANG_ILLEGAL_ADDRESS = 700,
	CW__TANG_LAUNCH_OUT_OF_RESOURCES = 701,
	CW__TANG_LAUNCH_TIMEOUT = 702,
	CW__TANG_PEER_ACCESS_ALREADY_ENABLED = 704,
	CW__TANG_PEER_ACCESS_NOT_ENABLED = 705,
	CW__TANG_HOST_MEMORY_ALREADY_REGISTERED = 712,
	CW__TANG_HOST_MEMORY_NOT_REGISTERED = 713,
	CW__TANG_LAUNCH_FAILURE = 719,
	CW__TANG_NOT_SUPPORTED = 801,
	CW__TANG_UNKNOWN = 999,
	CW__TANG_CONTEXT_IS_DESTROYED = 3000,
	CW__TANG_CONTEXT_INVALID = 3001,
	CW__TANG_STREAM_IS_DESTROYED = 3002,
	CW__TANG_STREAM_INVALID = 3003,
	CW__TANG_EVENT_IS_DESTROYED = 3004,
	CW__TANG_EVENT_INVALID = 3005,
	CW__TANG_DEVICE_OUT_OF_MEMORY = 3006,
	CW__TANG_DEVICE_MEMORY_NOT_FOUND = 3007,
	CW__TANG_PCIE_FATAL = 3012,
	CW__TANG_DRIVER_IOCTL_FAILED = 10000
};

/* tangMemcpyKind. There is no value that lets the runtime find out. */
enum cw__tang_copy_kind {
	CW__TANG_HOST_TO_HOST = 0,
	CW__TANG_HOST_TO_DEVICE = 1,
	CW__TANG_DEVICE_TO_HOST = 2,
	CW__TANG_DEVICE_TO_DEVICE = 3
};

enum cw__tang_memory_type {
	CW__TANG_MEMORY_UNREGISTERED = 0,
	CW__TANG_MEMORY_HOST = 1,
	CW__TANG_MEMORY_DEVICE = 2,
	CW__TANG_MEMORY_MANAGED = 3
};

/* Flags of tangHostAlloc. The vendor's text: mapped and write-combined memory fails without an IOMMU. */
enum cw__tang_host_alloc {
	CW__TANG_HOST_ALLOC_DEFAULT = 0,
	CW__TANG_HOST_ALLOC_PORTABLE = 1,
	CW__TANG_HOST_ALLOC_MAPPED = 2,
	CW__TANG_HOST_ALLOC_WRITE_COMBINED = 4,
	CW__TANG_HOST_ALLOC_MAP_DEVICE_MEMORY = 0x100
};

enum cw__tang_host_register {
	CW__TANG_HOST_REGISTER_DEFAULT = 0,
	CW__TANG_HOST_REGISTER_PORTABLE = 1,
	CW__TANG_HOST_REGISTER_MAPPED = 2,
	CW__TANG_HOST_REGISTER_IO_MEMORY = 4,
	CW__TANG_HOST_REGISTER_READ_ONLY = 8
};

enum cw__tang_flags {
	CW__TANG_STREAM_DEFAULT = 0,
	CW__TANG_STREAM_NON_BLOCKING = 1,
	CW__TANG_EVENT_DEFAULT = 0,
	CW__TANG_EVENT_BLOCKING_SYNC = 1,
	CW__TANG_EVENT_DISABLE_TIMING = 2,
	CW__TANG_EVENT_INTERPROCESS = 4, /* the vendor's text: not supported now */
	CW__TANG_IPC_LAZY_ENABLE_PEER_ACCESS = 1
};

/* Streams and events are handles; NULL and 1 are the default stream, 2 the default stream of the thread. */
struct cw__tang_stream;
struct cw__tang_event;

struct cw__tang_pointer_attributes { /* tangPointerAttributes */
	int type;                    /* enum cw__tang_memory_type */
	int device;
	void *device_pointer;
	void *host_pointer;
};

struct cw__tang_ipc_handle { /* tangIpcMemHandle_t, passed by value; opaque */
	uint64_t word[8];
};

_Static_assert(sizeof(struct cw__tang_pointer_attributes) == 24, "tangPointerAttributes");
_Static_assert(offsetof(struct cw__tang_pointer_attributes, type) == 0, "tangPointerAttributes");
_Static_assert(offsetof(struct cw__tang_pointer_attributes, device) == 4, "tangPointerAttributes");
_Static_assert(offsetof(struct cw__tang_pointer_attributes, device_pointer) == 8, "tangPointerAttributes");
_Static_assert(offsetof(struct cw__tang_pointer_attributes, host_pointer) == 16, "tangPointerAttributes");
_Static_assert(sizeof(struct cw__tang_ipc_handle) == 64, "tangIpcMemHandle_t");
_Static_assert(sizeof(enum cw__tang_result) == 4, "tangError_t");

/* Devices. The current device is the calling thread's (ASSUMED), 0 at first. */
int tangGetDeviceCount(int *count_out);
int tangSetDevice(int device);
int tangGetDevice(int *device_out);
int tangDeviceSynchronize(void);
int tangDeviceGetPCIBusId(char *text, int size, int device);
int tangDeviceGetByPCIBusId(int *device_out, const char *text);
int tangDeviceCanAccessPeer(int *yes_out, int device, int peer);
int tangDeviceEnablePeerAccess(int peer, unsigned flags); /* 704 when it is on already */
int tangDeviceDisablePeerAccess(int peer);                /* 705 when it is not */
/* By which address source_device reaches memory of another device through its PTLink port. Optional. */
int tangDeviceGetPeerPointer(int source_device, int port, void *address, void **seen_out);

/* Memory. tangFree waits for the device, takes NULL, and gives 17 for what it does not know. */
int tangMalloc(void **address_out, size_t size);
int tangFree(void *address);
int tangMallocHost(void **address_out, size_t size);
int tangHostAlloc(void **address_out, size_t size, unsigned flags);
int tangFreeHost(void *address);
int tangHostGetDevicePointer(void **address_out, void *host, unsigned flags);
int tangHostRegister(void *address, size_t size, unsigned flags); /* one public user reports it as unsupported */
int tangHostUnregister(void *address);
int tangMemGetInfo(size_t *free_out, size_t *total_out);
int tangPointerGetAttributes(struct cw__tang_pointer_attributes *attributes_out, const void *address);

/* Copies. Peer copies need two different devices. The _v2 forms (newer runtimes, optional) use another copy engine;
 * that their parameters are those of the first form is ASSUMED. */
int tangMemcpy(void *to, const void *from, size_t size, int kind);
int tangMemcpyAsync(void *to, const void *from, size_t size, int kind, struct cw__tang_stream *stream);
int tangMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t size);
int tangMemcpyPeer_v2(void *to, int to_device, const void *from, int from_device, size_t size);
int tangMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t size,
			struct cw__tang_stream *stream);
int tangMemcpyPeerAsync_v2(void *to, int to_device, const void *from, int from_device, size_t size,
			   struct cw__tang_stream *stream);
int tangMemset(void *to, int value, size_t size);
int tangMemsetAsync(void *to, int value, size_t size, struct cw__tang_stream *stream);

/* Streams and events. Queries give 0 or 600. */
int tangStreamCreate(struct cw__tang_stream **stream_out);
int tangStreamCreateWithFlags(struct cw__tang_stream **stream_out, unsigned flags);
int tangStreamDestroy(struct cw__tang_stream *stream);
int tangStreamQuery(struct cw__tang_stream *stream);
int tangStreamSynchronize(struct cw__tang_stream *stream);
int tangStreamWaitEvent(struct cw__tang_stream *stream, struct cw__tang_event *event, unsigned flags);
int tangLaunchHostFunc(struct cw__tang_stream *stream, void (*fn)(void *arg), void *arg);
int tangEventCreate(struct cw__tang_event **event_out);
int tangEventCreateWithFlags(struct cw__tang_event **event_out, unsigned flags);
int tangEventRecord(struct cw__tang_event *event, struct cw__tang_stream *stream);
int tangEventQuery(struct cw__tang_event *event);
int tangEventSynchronize(struct cw__tang_event *event);
int tangEventDestroy(struct cw__tang_event *event);

/* Memory between processes. That a handle stands for the whole allocation, and what opening it twice or in the process
 * that exported it does, is ASSUMED to be as with CUDA. */
int tangIpcGetMemHandle(struct cw__tang_ipc_handle *handle_out, void *address);
int tangIpcOpenMemHandle(void **base_out, struct cw__tang_ipc_handle handle, unsigned flags);
int tangIpcCloseMemHandle(void *base);

const char *tangGetErrorString(int result);
const char *tangGetErrorName(int result);
int tangGetLastError(void); /* of this thread; forgets it */
int tangPeekAtLastError(void);
int tangRuntimeGetVersion(int *version_out); /* the encoding is not documented */
int tangDriverGetVersion(int *version_out);

#endif
