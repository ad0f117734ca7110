/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime dialect: a current device for each thread, copies with a kind, pointers asked about by one struct (Tang;
 * HIP, MUSA and MACA are alike). What an address is, is found out in runtime_query.c.
 *
 * The application must not find errors of ours: after each call that failed the thread's last error is cleared.
 */
#include <platforms/gpu/runtime.h>
#include <platforms/gpu/track.h>
#include <stdio.h>
#include <string.h>

#define SYMBOL(required, name) { #name, offsetof(struct cw__gpu_library, runtime.name), required },
static const struct cw__gpu_symbol symbols[] = { CW__RUNTIME_SYMBOLS(SYMBOL) };
#undef SYMBOL

int cw__runtime_settle(struct cw__gpu_library *library, int result)
{
	if (!result)
		return 0;
	library->runtime.GetLastError();
	return result == library->row->not_ready ? CW__GPU_NOT_READY : result;
}

/* Clears operations whose symbols are missing. */
static void switch_off(struct cw__gpu_library *library)
{
	const struct cw__runtime_symbols *has = &library->runtime;
	struct cw__gpu *gpu = &library->gpu;

	if (!has->MemsetAsync)
		gpu->fill_async = NULL;
	if (!has->MemcpyPeer_v2)
		gpu->peer_copy_2 = NULL;
	if (!has->MemcpyPeerAsync)
		gpu->peer_copy_async = NULL;
	if (!has->MemcpyPeerAsync_v2)
		gpu->peer_copy_async_2 = NULL;
	if (!has->DeviceGetPeerPointer)
		gpu->peer_address = NULL;
	if (!has->LaunchHostFunc)
		gpu->call_host = NULL;
	if (!has->IpcGetMemHandle || !has->IpcOpenMemHandle || !has->IpcCloseMemHandle) {
		gpu->export_memory = NULL;
		gpu->open_memory = NULL;
		gpu->close_memory = NULL;
	}
}

enum cw__gpu_verdict cw__runtime_start(struct cw__gpu_library *library, void *handle, char *why, size_t why_size)
{
	struct cw__gpu *gpu = &library->gpu;
	int count = 0, result;

	if (cw__gpu_bind(library, handle, symbols, sizeof(symbols) / sizeof(symbols[0]), why, why_size))
		return CW__GPU_LOOK_FURTHER;
	switch_off(library);
	result = cw__runtime_settle(library, library->runtime.GetDeviceCount(&count));
	if (result || count <= 0) {
		snprintf(why, why_size, "finds no device (%d: %s)", result, cw__runtime_error_text(library, result));
		return cw__gpu_code_in(library->row->is_stub, result) ? CW__GPU_LOOK_FURTHER : CW__GPU_GIVE_UP;
	}
	gpu->device_count = count < CW__GPU_DEVICES_MAX ? (unsigned)count : CW__GPU_DEVICES_MAX;
	for (unsigned i = 0; i < gpu->device_count; i++) {
		result = library->runtime.DeviceGetPCIBusId(gpu->pci[i], CW__GPU_PCI_BYTES, (int)i);
		gpu->pci[i][cw__runtime_settle(library, result) ? 0 : CW__GPU_PCI_BYTES - 1] = '\0';
	}
	return CW__GPU_TAKE;
}

const char *cw__runtime_error_text(struct cw__gpu_library *library, int result)
{
	const char *text =
		library->runtime.GetErrorString(result == CW__GPU_NOT_READY ? library->row->not_ready : result);

	return text ? text : "unknown error";
}

/* ----------------------------------------------------------------------------------------- devices */

/* scope_out->context is not NULL when leave() has to put the device back. */
int cw__runtime_enter(struct cw__gpu_library *library, int device, struct cw__gpu_scope *scope_out)
{
	struct cw__gpu_scope scope = { 0, NULL };
	int result;

	if (device < 0 || device >= (int)library->gpu.device_count)
		return library->row->invalid_device;
	result = library->runtime.GetDevice(&scope.device);
	if (!result && scope.device != device) {
		result = library->runtime.SetDevice(device);
		scope.context = library;
	}
	if (!result)
		*scope_out = scope;
	return cw__runtime_settle(library, result);
}

void cw__runtime_leave(struct cw__gpu_library *library, const struct cw__gpu_scope *scope)
{
	if (scope->context)
		cw__runtime_settle(library, library->runtime.SetDevice(scope->device));
}

int cw__runtime_can_reach(struct cw__gpu_library *library, int device, int peer, int *yes_out)
{
	return cw__runtime_settle(library, library->runtime.DeviceCanAccessPeer(yes_out, device, peer));
}

/* ------------------------------------------------------------------------------------------ memory */

int cw__runtime_allocate(struct cw__gpu_library *library, void **address_out, size_t size)
{
	return cw__runtime_settle(library, library->runtime.Malloc(address_out, size));
}

int cw__runtime_release(struct cw__gpu_library *library, void *address)
{
	return cw__runtime_settle(library, library->runtime.Free(address));
}

int cw__runtime_host_allocate(struct cw__gpu_library *library, void **address_out, size_t size)
{
	return cw__runtime_settle(library, library->runtime.HostAlloc(address_out, size, library->row->host_flags));
}

int cw__runtime_host_release(struct cw__gpu_library *library, void *address)
{
	return cw__runtime_settle(library, library->runtime.FreeHost(address));
}

/* Nobody says that a blocking copy has arrived on a device when the call returns: on other runtimes of this kind it may
 * only be in the default stream. An event behind it tells. */
static int arrived(struct cw__gpu_library *library, int result)
{
	struct cw__gpu_track *track;
	int device = 0;

	if (result || !library->row->copies_return_early)
		return cw__runtime_settle(library, result);
	result = cw__runtime_settle(library, library->runtime.GetDevice(&device));
	if (!result)
		result = cw__gpu_track_take(&library->gpu, device, &track);
	if (result)
		return result;
	result = library->runtime.EventRecord(track->event, NULL);
	if (!result)
		result = library->runtime.EventSynchronize(track->event);
	cw__gpu_track_give(track, result);
	return cw__runtime_settle(library, result);
}

int cw__runtime_copy(struct cw__gpu_library *library, void *to, const void *from, size_t size,
		     enum cw__gpu_copy_kind kind)
{
	int result = library->runtime.Memcpy(to, from, size, library->row->kinds[kind]);

	return kind == CW__GPU_H2D || kind == CW__GPU_D2D ? arrived(library, result)
							  : cw__runtime_settle(library, result);
}

int cw__runtime_copy_async(struct cw__gpu_library *library, void *to, const void *from, size_t size,
			   enum cw__gpu_copy_kind kind, void *stream)
{
	return cw__runtime_settle(library,
				  library->runtime.MemcpyAsync(to, from, size, library->row->kinds[kind], stream));
}

int cw__runtime_fill_async(struct cw__gpu_library *library, void *address, int byte, size_t size, void *stream)
{
	return cw__runtime_settle(library, library->runtime.MemsetAsync(address, byte, size, stream));
}

int cw__runtime_peer_copy(struct cw__gpu_library *library, void *to, int to_device, const void *from, int from_device,
			  size_t size)
{
	return arrived(library, library->runtime.MemcpyPeer(to, to_device, from, from_device, size));
}

int cw__runtime_peer_copy_2(struct cw__gpu_library *library, void *to, int to_device, const void *from, int from_device,
			    size_t size)
{
	return arrived(library, library->runtime.MemcpyPeer_v2(to, to_device, from, from_device, size));
}

int cw__runtime_peer_copy_async(struct cw__gpu_library *library, void *to, int to_device, const void *from,
				int from_device, size_t size, void *stream)
{
	return cw__runtime_settle(library,
				  library->runtime.MemcpyPeerAsync(to, to_device, from, from_device, size, stream));
}

int cw__runtime_peer_copy_async_2(struct cw__gpu_library *library, void *to, int to_device, const void *from,
				  int from_device, size_t size, void *stream)
{
	return cw__runtime_settle(library,
				  library->runtime.MemcpyPeerAsync_v2(to, to_device, from, from_device, size, stream));
}

int cw__runtime_peer_address(struct cw__gpu_library *library, int device, int port, const void *address,
			     void **seen_out)
{
	return cw__runtime_settle(
		library, library->runtime.DeviceGetPeerPointer(device, port, (void *)(uintptr_t)address, seen_out));
}

/* ------------------------------------------------------------------------------- streams and events */

int cw__runtime_stream_open(struct cw__gpu_library *library, void **stream_out)
{
	struct cw__tang_stream *stream = NULL;
	int result = cw__runtime_settle(library,
					library->runtime.StreamCreateWithFlags(&stream, library->row->stream_flags));

	if (!result)
		*stream_out = stream;
	return result;
}

int cw__runtime_stream_close(struct cw__gpu_library *library, void *stream)
{
	return cw__runtime_settle(library, library->runtime.StreamDestroy(stream));
}

int cw__runtime_stream_wait(struct cw__gpu_library *library, void *stream, void *event)
{
	return cw__runtime_settle(library, library->runtime.StreamWaitEvent(stream, event, 0));
}

int cw__runtime_event_open(struct cw__gpu_library *library, void **event_out)
{
	struct cw__tang_event *event = NULL;
	int result =
		cw__runtime_settle(library, library->runtime.EventCreateWithFlags(&event, library->row->event_flags));

	if (!result)
		*event_out = event;
	return result;
}

int cw__runtime_event_close(struct cw__gpu_library *library, void *event)
{
	return cw__runtime_settle(library, library->runtime.EventDestroy(event));
}

int cw__runtime_event_record(struct cw__gpu_library *library, void *event, void *stream)
{
	return cw__runtime_settle(library, library->runtime.EventRecord(event, stream));
}

int cw__runtime_event_query(struct cw__gpu_library *library, void *event)
{
	return cw__runtime_settle(library, library->runtime.EventQuery(event));
}

int cw__runtime_event_wait(struct cw__gpu_library *library, void *event)
{
	return cw__runtime_settle(library, library->runtime.EventSynchronize(event));
}

int cw__runtime_call_host(struct cw__gpu_library *library, void *stream, void (*fn)(void *arg), void *arg)
{
	return cw__runtime_settle(library, library->runtime.LaunchHostFunc(stream, fn, arg));
}

/* --------------------------------------------------------------------------- memory between processes */

int cw__runtime_export_memory(struct cw__gpu_library *library, void *address, struct cw__gpu_handle *handle_out)
{
	struct cw__tang_ipc_handle handle;
	int result;

	_Static_assert(sizeof(handle) == sizeof(*handle_out), "handles of the runtime dialect");
	memset(&handle, 0, sizeof(handle));
	result = cw__runtime_settle(library, library->runtime.IpcGetMemHandle(&handle, address));
	if (!result)
		memcpy(handle_out->bytes, &handle, sizeof(handle));
	return result;
}

int cw__runtime_open_memory(struct cw__gpu_library *library, const struct cw__gpu_handle *handle, void **base_out)
{
	struct cw__tang_ipc_handle copy;

	memcpy(&copy, handle->bytes, sizeof(copy));
	return cw__runtime_settle(library, library->runtime.IpcOpenMemHandle(base_out, copy, library->row->ipc_flags));
}

int cw__runtime_close_memory(struct cw__gpu_library *library, void *base)
{
	return cw__runtime_settle(library, library->runtime.IpcCloseMemHandle(base));
}
