/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two dialects share: a loaded library with its symbols, and the operations that each dialect implements for
 * the table in gpu.h. Functions in that table know no self, so load.c makes one small function for each vendor and
 * operation that calls cw__<dialect>_<operation>(library, ...).
 *
 * A dialect's prototypes are those of the first vendor that speaks it (abi/tang.h, abi/cuda.h); others differ in names
 * and constants only.
 */
#ifndef CW_PLATFORMS_GPU_DIALECT_H
#define CW_PLATFORMS_GPU_DIALECT_H

#include <platforms/gpu/abi/cuda.h>
#include <platforms/gpu/abi/tang.h>
#include <platforms/gpu/row.h>
#include <pthread.h>
#include <stdatomic.h>

/* Symbols of the runtime dialect, X(required, name); their names are prefix + name. */
#define CW__RUNTIME_SYMBOLS(X)                                                                                         \
	X(1, GetDeviceCount)                                                                                           \
	X(1, GetDevice)                                                                                                \
	X(1, SetDevice)                                                                                                \
	X(1, DeviceGetPCIBusId)                                                                                        \
	X(1, DeviceCanAccessPeer)                                                                                      \
	X(1, PointerGetAttributes)                                                                                     \
	X(1, GetErrorString)                                                                                           \
	X(1, GetLastError)                                                                                             \
	X(1, Malloc)                                                                                                   \
	X(1, Free)                                                                                                     \
	X(1, HostAlloc)                                                                                                \
	X(1, FreeHost)                                                                                                 \
	X(1, Memcpy)                                                                                                   \
	X(1, MemcpyAsync)                                                                                              \
	X(1, MemcpyPeer)                                                                                               \
	X(1, StreamCreateWithFlags)                                                                                    \
	X(1, StreamDestroy)                                                                                            \
	X(1, StreamWaitEvent)                                                                                          \
	X(1, EventCreateWithFlags)                                                                                     \
	X(1, EventRecord)                                                                                              \
	X(1, EventQuery)                                                                                               \
	X(1, EventSynchronize)                                                                                         \
	X(1, EventDestroy)                                                                                             \
	X(0, StreamSynchronize)                                                                                        \
	X(0, HostGetDevicePointer)                                                                                     \
	X(0, MemGetAddressRange)                                                                                       \
	X(0, MemsetAsync)                                                                                              \
	X(0, MemcpyPeer_v2)                                                                                            \
	X(0, MemcpyPeerAsync)                                                                                          \
	X(0, MemcpyPeerAsync_v2)                                                                                       \
	X(0, DeviceGetPeerPointer)                                                                                     \
	X(0, LaunchHostFunc)                                                                                           \
	X(0, IpcGetMemHandle)                                                                                          \
	X(0, IpcOpenMemHandle)                                                                                         \
	X(0, IpcCloseMemHandle)

/* Symbols of the driver dialect. */
#define CW__DRIVER_SYMBOLS(X)                                                                                          \
	X(1, Init)                                                                                                     \
	X(1, GetErrorString)                                                                                           \
	X(1, DeviceGetCount)                                                                                           \
	X(1, DeviceGet)                                                                                                \
	X(1, DeviceGetPCIBusId)                                                                                        \
	X(1, DeviceCanAccessPeer)                                                                                      \
	X(1, DevicePrimaryCtxRetain)                                                                                   \
	X(1, CtxGetCurrent)                                                                                            \
	X(1, CtxPushCurrent_v2)                                                                                        \
	X(1, CtxPopCurrent_v2)                                                                                         \
	X(1, PointerGetAttributes)                                                                                     \
	X(1, MemGetAddressRange_v2)                                                                                    \
	X(1, MemAlloc_v2)                                                                                              \
	X(1, MemFree_v2)                                                                                               \
	X(1, MemHostAlloc)                                                                                             \
	X(1, MemFreeHost)                                                                                              \
	X(1, MemcpyAsync)                                                                                              \
	X(1, MemcpyPeerAsync)                                                                                          \
	X(1, StreamCreate)                                                                                             \
	X(1, StreamDestroy_v2)                                                                                         \
	X(1, StreamSynchronize)                                                                                        \
	X(1, StreamWaitEvent)                                                                                          \
	X(1, EventCreate)                                                                                              \
	X(1, EventRecord)                                                                                              \
	X(1, EventQuery)                                                                                               \
	X(1, EventSynchronize)                                                                                         \
	X(1, EventDestroy_v2)                                                                                          \
	X(0, MemsetD8Async)                                                                                            \
	X(0, LaunchHostFunc)                                                                                           \
	X(0, IpcGetMemHandle)                                                                                          \
	X(0, IpcOpenMemHandle_v2)                                                                                      \
	X(0, IpcCloseMemHandle)

/* Not one of Tang's; HIP and others have it, and where it is nothing needs to be searched for. */
int tangMemGetAddressRange(void **base_out, size_t *size_out, void *address);

struct cw__runtime_symbols {
#define CW__FIELD(required, name) __typeof__(tang##name) *name;
	CW__RUNTIME_SYMBOLS(CW__FIELD)
#undef CW__FIELD
};

struct cw__driver_symbols {
#define CW__FIELD(required, name) __typeof__(cu##name) *name;
	CW__DRIVER_SYMBOLS(CW__FIELD)
#undef CW__FIELD
};

/* One vendor in this process; lives as long as the process. Constant once loaded, but for
 * contexts and counts. */
struct cw__gpu_library {
	struct cw__gpu gpu;
	const struct cw__gpu_row *row;
	union {
		struct cw__runtime_symbols runtime;
		struct cw__driver_symbols driver;
	};
	/* Driver dialect: the primary context of each device, retained when it is first entered and never let go. */
	int devices[CW__GPU_DEVICES_MAX];
	_Atomic(struct cw__cu_context *) contexts[CW__GPU_DEVICES_MAX];
	/* Runtime dialect: host functions of ours that streams stand still for, blocking calls in the default stream.
	 */
	_Atomic unsigned held, in_default;
	/* Loading; see load.c. */
	pthread_mutex_t loading;
	int away; /* loading has not come back */
	_Atomic int process, state;
	char path[CW__GPU_PATH_BYTES], why[CW__GPU_WHY_BYTES];
};

/* A symbol and where its address goes, as an offset in struct cw__gpu_library. */
struct cw__gpu_symbol {
	const char *name;
	size_t offset;
	int required;
};

/* Looks all symbols up; -1 when a required one is missing, with its name in why. */
int cw__gpu_bind(struct cw__gpu_library *library, void *handle, const struct cw__gpu_symbol *symbols, size_t count,
		 char *why, size_t why_size);

/* The operations of gpu.h that both dialects implement: X(context, result, name, (arguments), parameters...); and those
 * of each. */
#define CW__GPU_OPERATIONS(X, context)                                                                                 \
	X(context, int, enter, (device, scope_out), int device, struct cw__gpu_scope *scope_out)                       \
	X(context, int, query, (address, memory_out), const void *address, struct cw__gpu_memory *memory_out)          \
	X(context, int, can_reach, (device, peer, yes_out), int device, int peer, int *yes_out)                        \
	X(context, const char *, error_text, (result), int result)                                                     \
	X(context, int, allocate, (address_out, size), void **address_out, size_t size)                                \
	X(context, int, release, (address), void *address)                                                             \
	X(context, int, host_allocate, (address_out, size), void **address_out, size_t size)                           \
	X(context, int, host_release, (address), void *address)                                                        \
	X(context, int, copy, (to, from, size, kind), void *to, const void *from, size_t size,                         \
	  enum cw__gpu_copy_kind kind)                                                                                 \
	X(context, int, copy_async, (to, from, size, kind, stream), void *to, const void *from, size_t size,           \
	  enum cw__gpu_copy_kind kind, void *stream)                                                                   \
	X(context, int, fill_async, (address, byte, size, stream), void *address, int byte, size_t size, void *stream) \
	X(context, int, peer_copy, (to, to_device, from, from_device, size), void *to, int to_device,                  \
	  const void *from, int from_device, size_t size)                                                              \
	X(context, int, peer_copy_async, (to, to_device, from, from_device, size, stream), void *to, int to_device,    \
	  const void *from, int from_device, size_t size, void *stream)                                                \
	X(context, int, stream_open, (stream_out), void **stream_out)                                                  \
	X(context, int, stream_close, (stream), void *stream)                                                          \
	X(context, int, stream_finish, (stream), void *stream)                                                         \
	X(context, int, stream_wait, (stream, event), void *stream, void *event)                                       \
	X(context, int, event_open, (event_out), void **event_out)                                                     \
	X(context, int, event_close, (event), void *event)                                                             \
	X(context, int, event_record, (event, stream), void *event, void *stream)                                      \
	X(context, int, event_query, (event), void *event)                                                             \
	X(context, int, event_wait, (event), void *event)                                                              \
	X(context, int, call_host, (stream, fn, arg), void *stream, void (*fn)(void *), void *arg)                     \
	X(context, int, export_memory, (address, handle_out), void *address, struct cw__gpu_handle *handle_out)        \
	X(context, int, open_memory, (handle, base_out), const struct cw__gpu_handle *handle, void **base_out)         \
	X(context, int, close_memory, (base), void *base)

#define CW__GPU_OPERATIONS_OF_driver(X, context) CW__GPU_OPERATIONS(X, context)
#define CW__GPU_OPERATIONS_OF_runtime(X, context)                                                                      \
	CW__GPU_OPERATIONS(X, context)                                                                                 \
	X(context, int, peer_copy_2, (to, to_device, from, from_device, size), void *to, int to_device,                \
	  const void *from, int from_device, size_t size)                                                              \
	X(context, int, peer_copy_async_2, (to, to_device, from, from_device, size, stream), void *to, int to_device,  \
	  const void *from, int from_device, size_t size, void *stream)                                                \
	X(context, int, peer_address, (device, port, address, seen_out), int device, int port, const void *address,    \
	  void **seen_out)

#define CW__DECLARE(dialect, result, name, arguments, ...)                                                             \
	result cw__##dialect##_##name(struct cw__gpu_library *library, __VA_ARGS__);
CW__GPU_OPERATIONS_OF_runtime(CW__DECLARE, runtime) CW__GPU_OPERATIONS_OF_driver(CW__DECLARE, driver)
#undef CW__DECLARE

	/* leave() of gpu.h, and the start: binds the symbols, finds the devices, clears what the library cannot do. */
	void cw__runtime_leave(struct cw__gpu_library *library, const struct cw__gpu_scope *scope);
void cw__driver_leave(struct cw__gpu_library *library, const struct cw__gpu_scope *scope);
enum cw__gpu_verdict cw__runtime_start(struct cw__gpu_library *library, void *handle, char *why, size_t why_size);
enum cw__gpu_verdict cw__driver_start(struct cw__gpu_library *library, void *handle, char *why, size_t why_size);

#endif
