/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver dialect: contexts instead of a current device, copies without a kind (CUDA). Each device is used by its
 * primary context, the one that the application's runtime uses too; it is retained when somebody first enters the
 * device.
 *
 * Nothing here touches the default stream: a copy there waits for every other stream, one that waits for that very copy
 * among them. Blocking copies run on a stream of their own.
 */
#include <platforms/gpu/dialect.h>
#include <platforms/gpu/track.h>
#include <stdio.h>
#include <string.h>

#define SYMBOL(required, name) { #name, offsetof(struct cw__gpu_library, driver.name), required },
static const struct cw__gpu_symbol symbols[] = { CW__DRIVER_SYMBOLS(SYMBOL) };
#undef SYMBOL

static int settle(struct cw__gpu_library *library, int result)
{
	return result == library->row->not_ready ? CW__GPU_NOT_READY : result;
}

static uint64_t number(const void *address)
{
	return (uint64_t)(uintptr_t)address;
}

static void switch_off(struct cw__gpu_library *library)
{
	const struct cw__driver_symbols *has = &library->driver;
	struct cw__gpu *gpu = &library->gpu;

	if (!has->MemsetD8Async)
		gpu->fill_async = NULL;
	if (!has->LaunchHostFunc)
		gpu->call_host = NULL;
	if (!has->IpcGetMemHandle || !has->IpcOpenMemHandle_v2 || !has->IpcCloseMemHandle) {
		gpu->export_memory = NULL;
		gpu->open_memory = NULL;
		gpu->close_memory = NULL;
	}
}

enum cw__gpu_verdict cw__driver_start(struct cw__gpu_library *library, void *handle, char *why, size_t why_size)
{
	struct cw__gpu *gpu = &library->gpu;
	int count = 0, result;

	if (cw__gpu_bind(library, handle, symbols, sizeof(symbols) / sizeof(symbols[0]), why, why_size))
		return CW__GPU_LOOK_FURTHER;
	switch_off(library);
	result = library->driver.Init(0);
	if (cw__gpu_code_in(library->row->link_only, result)) {
		snprintf(why, why_size, "is only for linking, not the driver");
		return CW__GPU_LOOK_FURTHER;
	}
	if (!result)
		result = library->driver.DeviceGetCount(&count);
	if (result || count <= 0) {
		snprintf(why, why_size, "finds no device (%d: %s)", result, cw__driver_error_text(library, result));
		return CW__GPU_GIVE_UP;
	}
	gpu->device_count = count < CW__GPU_DEVICES_MAX ? (unsigned)count : CW__GPU_DEVICES_MAX;
	for (unsigned i = 0; i < gpu->device_count; i++) {
		result = library->driver.DeviceGet(&library->devices[i], (int)i);
		if (result) {
			snprintf(why, why_size, "lacks device %u (%d: %s)", i, result,
				 cw__driver_error_text(library, result));
			return CW__GPU_GIVE_UP;
		}
		result = library->driver.DeviceGetPCIBusId(gpu->pci[i], CW__GPU_PCI_BYTES, library->devices[i]);
		gpu->pci[i][result ? 0 : CW__GPU_PCI_BYTES - 1] = '\0';
	}
	return CW__GPU_TAKE;
}

const char *cw__driver_error_text(struct cw__gpu_library *library, int result)
{
	const char *text = NULL;

	if (result == CW__GPU_NOT_READY)
		result = library->row->not_ready;
	return library->driver.GetErrorString(result, &text) || !text ? "unknown error" : text;
}

/* ---------------------------------------------------------------------------------------- contexts */

static int context_of(struct cw__gpu_library *library, int device, struct cw__cu_context **context_out)
{
	struct cw__cu_context *context = NULL;
	int result = 0;

	if (device < 0 || device >= (int)library->gpu.device_count)
		return library->row->invalid_device;
	context = atomic_load_explicit(&library->contexts[device], memory_order_acquire);
	/* Two threads may retain it, which is as good as once: a lock could be held for ever. */
	if (!context) {
		result = library->driver.DevicePrimaryCtxRetain(&context, library->devices[device]);
		if (!result)
			atomic_store_explicit(&library->contexts[device], context, memory_order_release);
	}
	if (!result)
		*context_out = context;
	return result;
}

int cw__driver_enter(struct cw__gpu_library *library, int device, struct cw__gpu_scope *scope_out)
{
	struct cw__cu_context *context = NULL;
	int result = context_of(library, device, &context);

	if (!result)
		result = library->driver.CtxPushCurrent_v2(context);
	if (!result)
		*scope_out = (struct cw__gpu_scope){ device, context };
	return result;
}

void cw__driver_leave(struct cw__gpu_library *library, const struct cw__gpu_scope *scope)
{
	struct cw__cu_context *popped;

	(void)scope;
	library->driver.CtxPopCurrent_v2(&popped);
}

/* The device that was entered. */
static int current_device(struct cw__gpu_library *library, int *device_out)
{
	struct cw__cu_context *current = NULL;
	int result = library->driver.CtxGetCurrent(&current);

	for (unsigned i = 0; !result && current && i < library->gpu.device_count; i++)
		if (atomic_load_explicit(&library->contexts[i], memory_order_acquire) == current) {
			*device_out = (int)i;
			return 0;
		}
	return result ? result : library->row->invalid_device;
}

int cw__driver_can_reach(struct cw__gpu_library *library, int device, int peer, int *yes_out)
{
	unsigned count = library->gpu.device_count;

	if (device < 0 || peer < 0 || (unsigned)device >= count || (unsigned)peer >= count)
		return library->row->invalid_device;
	return library->driver.DeviceCanAccessPeer(yes_out, library->devices[device], library->devices[peer]);
}

/* Managed memory is the host's: the CPU may touch it, and no other process can open it. */
int cw__driver_query(struct cw__gpu_library *library, const void *address, struct cw__gpu_memory *memory_out)
{
	struct cw__gpu_memory memory = { .device = -1 };
	struct cw__gpu_scope scope;
	unsigned type = 0, managed = 0;
	int device = -1, result;
	uint64_t seen = 0, base = 0;
	size_t length = 0;
	int names[] = { CW__CU_POINTER_MEMORY_TYPE, CW__CU_POINTER_IS_MANAGED, CW__CU_POINTER_DEVICE_ORDINAL,
			CW__CU_POINTER_DEVICE_POINTER };
	void *values[] = { &type, &managed, &device, &seen };

	result = library->driver.PointerGetAttributes(4, names, values, number(address));
	if (result == CW__CU_INVALID_VALUE || (!result && managed)) {
		*memory_out = memory;
		return 0;
	}
	if (result)
		return result;
	if (type == CW__CU_MEMORY_HOST)
		memory.device_address = (void *)(uintptr_t)seen;
	for (unsigned i = 0; type == CW__CU_MEMORY_DEVICE && i < library->gpu.device_count; i++)
		if (library->devices[i] == device) {
			memory.is_device = 1;
			memory.device = (int)i;
		}
	if (memory.is_device && !cw__driver_enter(library, memory.device, &scope)) {
		if (!library->driver.MemGetAddressRange_v2(&base, &length, number(address))) {
			memory.allocation_base = base;
			memory.allocation_length = length;
		}
		cw__driver_leave(library, &scope);
	}
	*memory_out = memory;
	return 0;
}

/* ------------------------------------------------------------------------------------------ memory */

int cw__driver_allocate(struct cw__gpu_library *library, void **address_out, size_t size)
{
	uint64_t address = 0;
	int result = library->driver.MemAlloc_v2(&address, size);

	if (!result)
		*address_out = (void *)(uintptr_t)address;
	return result;
}

int cw__driver_release(struct cw__gpu_library *library, void *address)
{
	return library->driver.MemFree_v2(number(address));
}

int cw__driver_host_allocate(struct cw__gpu_library *library, void **address_out, size_t size)
{
	return library->driver.MemHostAlloc(address_out, size, library->row->host_flags);
}

int cw__driver_host_release(struct cw__gpu_library *library, void *address)
{
	return library->driver.MemFreeHost(address);
}

int cw__driver_copy_async(struct cw__gpu_library *library, void *to, const void *from, size_t size,
			  enum cw__gpu_copy_kind kind, void *stream)
{
	(void)kind;
	return library->driver.MemcpyAsync(number(to), number(from), size, stream);
}

int cw__driver_fill_async(struct cw__gpu_library *library, void *address, int byte, size_t size, void *stream)
{
	return library->driver.MemsetD8Async(number(address), (unsigned char)byte, size, stream);
}

int cw__driver_peer_copy_async(struct cw__gpu_library *library, void *to, int to_device, const void *from,
			       int from_device, size_t size, void *stream)
{
	struct cw__cu_context *to_context = NULL, *from_context = NULL;
	int result = context_of(library, to_device, &to_context);

	if (!result)
		result = context_of(library, from_device, &from_context);
	if (!result)
		result = library->driver.MemcpyPeerAsync(number(to), to_context, number(from), from_context, size,
							 stream);
	return result;
}

int cw__driver_copy(struct cw__gpu_library *library, void *to, const void *from, size_t size,
		    enum cw__gpu_copy_kind kind)
{
	struct cw__gpu_track *track;
	int device = 0, result = current_device(library, &device);

	if (!result)
		result = cw__gpu_track_take(&library->gpu, device, &track);
	if (result)
		return result;
	result = cw__driver_copy_async(library, to, from, size, kind, track->stream);
	if (!result)
		result = library->driver.StreamSynchronize(track->stream);
	if (result)
		cw__gpu_drain(&library->gpu, track->stream);
	cw__gpu_track_give(track, result);
	return result;
}

int cw__driver_peer_copy(struct cw__gpu_library *library, void *to, int to_device, const void *from, int from_device,
			 size_t size)
{
	struct cw__gpu_track *track;
	int device = 0, result = current_device(library, &device);

	if (!result)
		result = cw__gpu_track_take(&library->gpu, device, &track);
	if (result)
		return result;
	result = cw__driver_peer_copy_async(library, to, to_device, from, from_device, size, track->stream);
	if (!result)
		result = library->driver.StreamSynchronize(track->stream);
	if (result)
		cw__gpu_drain(&library->gpu, track->stream);
	cw__gpu_track_give(track, result);
	return result;
}

/* ------------------------------------------------------------------------------- streams and events */

int cw__driver_stream_open(struct cw__gpu_library *library, void **stream_out)
{
	struct cw__cu_stream *stream = NULL;
	int result = library->driver.StreamCreate(&stream, library->row->stream_flags);

	if (!result)
		*stream_out = stream;
	return result;
}

int cw__driver_stream_close(struct cw__gpu_library *library, void *stream)
{
	return library->driver.StreamDestroy_v2(stream);
}

int cw__driver_stream_finish(struct cw__gpu_library *library, void *stream)
{
	return library->driver.StreamSynchronize(stream);
}

int cw__driver_stream_wait(struct cw__gpu_library *library, void *stream, void *event)
{
	return library->driver.StreamWaitEvent(stream, event, 0);
}

int cw__driver_event_open(struct cw__gpu_library *library, void **event_out)
{
	struct cw__cu_event *event = NULL;
	int result = library->driver.EventCreate(&event, library->row->event_flags);

	if (!result)
		*event_out = event;
	return result;
}

int cw__driver_event_close(struct cw__gpu_library *library, void *event)
{
	return library->driver.EventDestroy_v2(event);
}

int cw__driver_event_record(struct cw__gpu_library *library, void *event, void *stream)
{
	return library->driver.EventRecord(event, stream);
}

int cw__driver_event_query(struct cw__gpu_library *library, void *event)
{
	return settle(library, library->driver.EventQuery(event));
}

int cw__driver_event_wait(struct cw__gpu_library *library, void *event)
{
	return library->driver.EventSynchronize(event);
}

int cw__driver_call_host(struct cw__gpu_library *library, void *stream, void (*fn)(void *arg), void *arg)
{
	return library->driver.LaunchHostFunc(stream, fn, arg);
}

/* --------------------------------------------------------------------------- memory between processes */

int cw__driver_export_memory(struct cw__gpu_library *library, void *address, struct cw__gpu_handle *handle_out)
{
	struct cw__cu_ipc_handle handle;
	int result;

	_Static_assert(sizeof(handle) == sizeof(*handle_out), "handles of the driver dialect");
	memset(&handle, 0, sizeof(handle));
	result = library->driver.IpcGetMemHandle(&handle, number(address));
	if (!result)
		memcpy(handle_out->bytes, handle.bytes, sizeof(handle));
	return result;
}

int cw__driver_open_memory(struct cw__gpu_library *library, const struct cw__gpu_handle *handle, void **base_out)
{
	struct cw__cu_ipc_handle copy;
	uint64_t base = 0;
	int result;

	memcpy(copy.bytes, handle->bytes, sizeof(copy));
	result = library->driver.IpcOpenMemHandle_v2(&base, copy, library->row->ipc_flags);
	if (!result)
		*base_out = (void *)(uintptr_t)base;
	return result;
}

int cw__driver_close_memory(struct cw__gpu_library *library, void *base)
{
	return library->driver.IpcCloseMemHandle(number(base));
}
