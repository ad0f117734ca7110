/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated CUDA driver: copies, streams and events. */
#include "face.h"

/* Streams 0 and 1 are the default stream; so is 2, that of the thread, which is near enough. */
static struct cw__emu_stream *core_stream(struct cw__cu_stream *stream)
{
	return (uintptr_t)stream <= 2 ? NULL : (struct cw__emu_stream *)stream;
}

static struct cw__emu_event *core_event(struct cw__cu_event *event)
{
	return (struct cw__emu_event *)event;
}

/* -------------------------------------------------------------------------------------------- copies */

static void trace_copy(struct cw__cuda_call *call, const struct cw__emu_order *order)
{
	cw__emu_argument(&call->call, "to", (uint64_t)(uintptr_t)order->to);
	cw__emu_argument(&call->call, "from", (uint64_t)(uintptr_t)order->from);
	cw__emu_argument(&call->call, "size", order->size);
	if (order->peer) {
		cw__emu_argument(&call->call, "to_device", (uint64_t)order->to_device);
		cw__emu_argument(&call->call, "from_device", (uint64_t)order->from_device);
	}
	if (order->later)
		cw__emu_stream_argument(&call->call, order->stream);
}

/* The device of an address, -1 when it is not on one. */
static int device_of(const void *address)
{
	struct cw__emu_attributes attributes;

	return cw__emu_attributes(address, &attributes) || attributes.type != CW__EMU_DEVICE ? -1 : attributes.device;
}

/* With unified addressing the driver finds out itself what is copied where; between devices it goes through the host
 * when there is no other way. */
static int copy(enum cw__cuda_symbol symbol, struct cw__emu_order *order)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, symbol);

	order->kind = CW__EMU_ANY;
	if (!status && !order->fill) {
		int to = device_of(order->to), from = device_of(order->from);

		if (to >= 0 && from >= 0 && to != from) {
			order->peer = order->staged = 1;
			order->to_device = to;
			order->from_device = from;
			call.call.peer = to;
			call.call.device = from;
		}
	}
	call.call.bytes = order->size;
	if (!status)
		status = cw__emu_copy(&call.call, order);
	trace_copy(&call, order);
	return cw__cuda_end(&call, status);
}

int cuMemcpy(uint64_t to, uint64_t from, size_t size)
{
	struct cw__emu_order order = { .to = (void *)(uintptr_t)to, .from = (void *)(uintptr_t)from, .size = size };

	return copy(CW__CUDA_cuMemcpy, &order);
}

int cuMemcpyAsync(uint64_t to, uint64_t from, size_t size, struct cw__cu_stream *stream)
{
	struct cw__emu_order order = { .to = (void *)(uintptr_t)to,
				       .from = (void *)(uintptr_t)from,
				       .size = size,
				       .later = 1,
				       .stream = core_stream(stream) };

	return copy(CW__CUDA_cuMemcpyAsync, &order);
}

int cuMemsetD8_v2(uint64_t to, unsigned char value, size_t count)
{
	struct cw__emu_order order = { .to = (void *)(uintptr_t)to, .size = count, .fill = 1, .value = value };

	return copy(CW__CUDA_cuMemsetD8, &order);
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t count, struct cw__cu_stream *stream)
{
	struct cw__emu_order order = { .to = (void *)(uintptr_t)to,
				       .size = count,
				       .fill = 1,
				       .value = value,
				       .later = 1,
				       .stream = core_stream(stream) };

	return copy(CW__CUDA_cuMemsetD8Async, &order);
}

/* The contexts say which devices are meant; both of the same device are an ordinary copy. */
static int peer_copy(enum cw__cuda_symbol symbol, struct cw__emu_order *order, struct cw__cu_context *to_context,
		     struct cw__cu_context *from_context)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, symbol);

	order->kind = CW__EMU_ANY;
	if (!status && (!cw__cuda_live(to_context) || !cw__cuda_live(from_context)))
		status = CW__CU_INVALID_CONTEXT;
	if (!status) {
		order->peer = order->staged = to_context != from_context;
		order->to_device = call.call.peer = to_context->device;
		order->from_device = call.call.device = from_context->device;
		call.call.bytes = order->size;
		status = cw__emu_copy(&call.call, order);
	}
	trace_copy(&call, order);
	return cw__cuda_end(&call, status);
}

int cuMemcpyPeer(uint64_t to, struct cw__cu_context *to_context, uint64_t from, struct cw__cu_context *from_context,
		 size_t size)
{
	struct cw__emu_order order = { .to = (void *)(uintptr_t)to, .from = (void *)(uintptr_t)from, .size = size };

	return peer_copy(CW__CUDA_cuMemcpyPeer, &order, to_context, from_context);
}

int cuMemcpyPeerAsync(uint64_t to, struct cw__cu_context *to_context, uint64_t from,
		      struct cw__cu_context *from_context, size_t size, struct cw__cu_stream *stream)
{
	struct cw__emu_order order = { .to = (void *)(uintptr_t)to,
				       .from = (void *)(uintptr_t)from,
				       .size = size,
				       .later = 1,
				       .stream = core_stream(stream) };

	return peer_copy(CW__CUDA_cuMemcpyPeerAsync, &order, to_context, from_context);
}

/* ------------------------------------------------------------------------------------------- streams */

int cuStreamCreate(struct cw__cu_stream **stream_out, unsigned flags)
{
	struct cw__cuda_call call;
	struct cw__emu_stream *stream = NULL;
	int status = cw__cuda_begin(&call, CW__CUDA_cuStreamCreate);

	if (!status)
		status = stream_out && flags <= CW__CU_STREAM_NON_BLOCKING ? cw__emu_stream_open(&stream, flags != 0)
									   : CW__EMU_BAD_VALUE;
	if (!status) {
		*stream_out = (struct cw__cu_stream *)stream;
		cw__emu_stream_argument(&call.call, stream);
	}
	return cw__cuda_end(&call, status);
}

static int on_stream(enum cw__cuda_symbol symbol, struct cw__cu_stream *stream,
		     int (*work)(struct cw__emu_stream *stream))
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, symbol);

	if (!status)
		status = work(core_stream(stream));
	if (status != CW__EMU_BAD_HANDLE && symbol != CW__CUDA_cuStreamDestroy)
		cw__emu_stream_argument(&call.call, core_stream(stream));
	return cw__cuda_end(&call, status);
}

int cuStreamDestroy_v2(struct cw__cu_stream *stream)
{
	if (!core_stream(stream))
		return CW__CU_INVALID_HANDLE;
	return on_stream(CW__CUDA_cuStreamDestroy, stream, cw__emu_stream_close);
}

int cuStreamQuery(struct cw__cu_stream *stream)
{
	return on_stream(CW__CUDA_cuStreamQuery, stream, cw__emu_stream_query);
}

int cuStreamSynchronize(struct cw__cu_stream *stream)
{
	return on_stream(CW__CUDA_cuStreamSynchronize, stream, cw__emu_stream_wait);
}

int cuStreamWaitEvent(struct cw__cu_stream *stream, struct cw__cu_event *event, unsigned flags)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuStreamWaitEvent);

	if (!status)
		status = flags ? CW__EMU_BAD_VALUE : cw__emu_stream_wait_event(core_stream(stream), core_event(event));
	if (status != CW__EMU_BAD_HANDLE)
		cw__emu_stream_argument(&call.call, core_stream(stream));
	return cw__cuda_end(&call, status);
}

int cuLaunchHostFunc(struct cw__cu_stream *stream, void (*fn)(void *arg), void *arg)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuLaunchHostFunc);

	if (!status)
		status = fn ? cw__emu_stream_call(&call.call, core_stream(stream), fn, arg) : CW__EMU_BAD_VALUE;
	if (status != CW__EMU_BAD_HANDLE)
		cw__emu_stream_argument(&call.call, core_stream(stream));
	return cw__cuda_end(&call, status);
}

/* -------------------------------------------------------------------------------------------- events */

int cuEventCreate(struct cw__cu_event **event_out, unsigned flags)
{
	struct cw__cuda_call call;
	struct cw__emu_event *event = NULL;
	int status = cw__cuda_begin(&call, CW__CUDA_cuEventCreate);

	if (!status && (!event_out || flags > 7))
		status = CW__EMU_BAD_VALUE;
	/* An event for other processes must not measure time. */
	if (!status && flags & CW__CU_EVENT_INTERPROCESS)
		status = flags & CW__CU_EVENT_DISABLE_TIMING ? CW__EMU_NOT_SUPPORTED : CW__EMU_BAD_VALUE;
	if (!status)
		status = cw__emu_event_open(&event);
	if (!status)
		*event_out = (struct cw__cu_event *)event;
	return cw__cuda_end(&call, status);
}

int cuEventRecord(struct cw__cu_event *event, struct cw__cu_stream *stream)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuEventRecord);

	if (!status)
		status = cw__emu_event_record(core_event(event), core_stream(stream));
	if (status != CW__EMU_BAD_HANDLE)
		cw__emu_stream_argument(&call.call, core_stream(stream));
	return cw__cuda_end(&call, status);
}

static int on_event(enum cw__cuda_symbol symbol, struct cw__cu_event *event, int (*work)(struct cw__emu_event *event))
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, symbol);

	if (!status)
		status = event ? work(core_event(event)) : CW__EMU_BAD_HANDLE;
	return cw__cuda_end(&call, status);
}

int cuEventQuery(struct cw__cu_event *event)
{
	return on_event(CW__CUDA_cuEventQuery, event, cw__emu_event_query);
}

int cuEventSynchronize(struct cw__cu_event *event)
{
	return on_event(CW__CUDA_cuEventSynchronize, event, cw__emu_event_wait);
}

int cuEventDestroy_v2(struct cw__cu_event *event)
{
	return on_event(CW__CUDA_cuEventDestroy, event, cw__emu_event_close);
}
