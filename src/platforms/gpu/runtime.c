/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime dialect: a current device for each thread, copies with a kind, pointers asked about by one struct (Tang;
 * HIP, MUSA and MACA are alike). What an address is, is found out in runtime_query.c.
 *
 * The application must not find errors of ours: after each call that failed the thread's last error is cleared.
 */
#include <platforms/gpu/runtime.h>
#include <platforms/gpu/track.h>
#include <util/clock.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPIES_IN_NS (50 * CW__MS)

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

	if (!has->StreamSynchronize)
		gpu->stream_finish = NULL;
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
		return cw__gpu_code_in(library->row->link_only, result) ? CW__GPU_LOOK_FURTHER : CW__GPU_GIVE_UP;
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

/*
 * Blocking copies. Where they run in the default stream, they wait for every other stream of the device, one that a
 * fence of ours holds among them, and that fence may wait for this very copy. So while there is a fence they run in a
 * stream of our own. Nor does anybody say that such a copy has arrived on a device when the call returns: an event
 * behind it tells.
 */
struct blocking {
	enum { PLAIN, PEER, PEER_2 } form;
	void *to;
	const void *from;
	size_t size;
	int kind, to_device, from_device;
};

static int put(struct cw__gpu_library *library, const struct blocking *copy)
{
	const struct cw__runtime_symbols *call = &library->runtime;

	switch (copy->form) {
	case PEER:
		return call->MemcpyPeer(copy->to, copy->to_device, copy->from, copy->from_device, copy->size);
	case PEER_2:
		return call->MemcpyPeer_v2(copy->to, copy->to_device, copy->from, copy->from_device, copy->size);
	default:
		return call->Memcpy(copy->to, copy->from, copy->size, library->row->kinds[copy->kind]);
	}
}

/* 0 when the runtime has no such form. */
static int can_put_aside(const struct cw__gpu_library *library, const struct blocking *copy)
{
	return copy->form == PLAIN || (copy->form == PEER && library->runtime.MemcpyPeerAsync) ||
	       (copy->form == PEER_2 && library->runtime.MemcpyPeerAsync_v2);
}

static int put_aside(struct cw__gpu_library *library, const struct blocking *copy, struct cw__tang_stream *stream)
{
	const struct cw__runtime_symbols *call = &library->runtime;

	switch (copy->form) {
	case PEER:
		return call->MemcpyPeerAsync(copy->to, copy->to_device, copy->from, copy->from_device, copy->size,
					     stream);
	case PEER_2:
		return call->MemcpyPeerAsync_v2(copy->to, copy->to_device, copy->from, copy->from_device, copy->size,
						stream);
	default:
		return call->MemcpyAsync(copy->to, copy->from, copy->size, library->row->kinds[copy->kind], stream);
	}
}

static int run_blocking(struct cw__gpu_library *library, const struct blocking *copy)
{
	struct cw__tang_stream *stream = NULL;
	struct cw__gpu_track *track;
	int device = 0, result, aside;

	if (!library->row->copies_in_default)
		return cw__runtime_settle(library, put(library, copy));
	result = cw__runtime_settle(library, library->runtime.GetDevice(&device));
	if (!result)
		result = cw__gpu_track_take(&library->gpu, device, &track);
	if (result)
		return result;
	/* Pairs with call_host(): either it sees this copy, or this copy sees it. */
	atomic_fetch_add_explicit(&library->in_default, 1, memory_order_seq_cst);
	aside = atomic_load_explicit(&library->held, memory_order_seq_cst) && can_put_aside(library, copy);
	if (aside) {
		atomic_fetch_sub_explicit(&library->in_default, 1, memory_order_release);
		stream = track->stream;
	}
	result = aside ? put_aside(library, copy, stream) : put(library, copy);
	if (!result && (aside || copy->kind != CW__GPU_D2H)) {
		result = library->runtime.EventRecord(track->event, stream);
		if (!result)
			result = library->runtime.EventSynchronize(track->event);
		if (result)
			cw__gpu_drain(&library->gpu, stream);
	}
	if (!aside)
		atomic_fetch_sub_explicit(&library->in_default, 1, memory_order_release);
	cw__gpu_track_give(track, result);
	return cw__runtime_settle(library, result);
}

int cw__runtime_copy(struct cw__gpu_library *library, void *to, const void *from, size_t size,
		     enum cw__gpu_copy_kind kind)
{
	const struct blocking copy = { .form = PLAIN, .to = to, .from = from, .size = size, .kind = (int)kind };

	return run_blocking(library, &copy);
}

int cw__runtime_peer_copy(struct cw__gpu_library *library, void *to, int to_device, const void *from, int from_device,
			  size_t size)
{
	const struct blocking copy = { PEER, to, from, size, CW__GPU_D2D, to_device, from_device };

	return run_blocking(library, &copy);
}

int cw__runtime_peer_copy_2(struct cw__gpu_library *library, void *to, int to_device, const void *from, int from_device,
			    size_t size)
{
	const struct blocking copy = { PEER_2, to, from, size, CW__GPU_D2D, to_device, from_device };

	return run_blocking(library, &copy);
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

int cw__runtime_stream_finish(struct cw__gpu_library *library, void *stream)
{
	return cw__runtime_settle(library, library->runtime.StreamSynchronize(stream));
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

struct host_call {
	struct cw__gpu_library *library;
	void (*fn)(void *arg);
	void *arg;
};

static void run_host_call(void *arg)
{
	struct host_call call = *(struct host_call *)arg;

	free(arg);
	call.fn(call.arg);
	atomic_fetch_sub_explicit(&call.library->held, 1, memory_order_release);
}

/* A blocking copy that had looked for fences before must be in the default stream before this one is. What is still
 * running after so long is there. */
static void let_copies_in(struct cw__gpu_library *library)
{
	uint64_t until = cw__now() + COPIES_IN_NS;

	while (atomic_load_explicit(&library->in_default, memory_order_seq_cst) && cw__now() < until)
		sched_yield();
}

int cw__runtime_call_host(struct cw__gpu_library *library, void *stream, void (*fn)(void *arg), void *arg)
{
	struct host_call *call = malloc(sizeof(*call));
	int result;

	if (!call)
		return library->row->no_memory[0].first;
	*call = (struct host_call){ library, fn, arg };
	atomic_fetch_add_explicit(&library->held, 1, memory_order_seq_cst);
	let_copies_in(library);
	result = library->runtime.LaunchHostFunc(stream, run_host_call, call);
	if (result) {
		atomic_fetch_sub_explicit(&library->held, 1, memory_order_release);
		free(call);
	}
	return cw__runtime_settle(library, result);
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
