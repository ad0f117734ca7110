/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated Tang runtime: memory of devices and of the host, copies, memory between processes.
 */
#include "face.h"

#include <string.h>

static int allocate(enum cw__tang_symbol symbol, void **address_out, size_t size, int host, unsigned flags)
{
	struct cw__emu_call call = cw__tang_call(symbol, size);
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "size", size);
	if (host)
		cw__emu_argument(&call, "flags", flags);
	if (!status && !host)
		status = cw__emu_allocate(address_out, size);
	else if (!status)
		status = cw__emu_host_allocate(address_out, size, (flags & CW__TANG_HOST_ALLOC_MAPPED) != 0);
	if (!status)
		cw__emu_argument(&call, "address", cw__tang_number(*address_out));
	return cw__emu_end(&call, status);
}

static int release(enum cw__tang_symbol symbol, void *address, int (*fn)(void *address))
{
	struct cw__emu_call call = cw__tang_call(symbol, 0);
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "address", cw__tang_number(address));
	if (!status)
		status = fn(address);
	return cw__emu_end(&call, status);
}

int tangMalloc(void **address_out, size_t size)
{
	return allocate(CW__TANG_tangMalloc, address_out, size, 0, 0);
}

int tangFree(void *address)
{
	return release(CW__TANG_tangFree, address, cw__emu_free);
}

int tangMallocHost(void **address_out, size_t size)
{
	return allocate(CW__TANG_tangMallocHost, address_out, size, 1, 0);
}

int tangHostAlloc(void **address_out, size_t size, unsigned flags)
{
	const unsigned known =
		CW__TANG_HOST_ALLOC_PORTABLE | CW__TANG_HOST_ALLOC_MAPPED | CW__TANG_HOST_ALLOC_WRITE_COMBINED;
	struct cw__emu_call call;
	int refused = CW__EMU_OK;

	if (flags & ~known)
		refused = flags & CW__TANG_HOST_ALLOC_MAP_DEVICE_MEMORY ? CW__EMU_NOT_SUPPORTED : CW__EMU_BAD_VALUE;
	else if (flags & (CW__TANG_HOST_ALLOC_MAPPED | CW__TANG_HOST_ALLOC_WRITE_COMBINED) && cw__emu_world() &&
		 !cw__emu_option_mapped_host())
		refused = CW__EMU_NOT_SUPPORTED;
	if (!refused)
		return allocate(CW__TANG_tangHostAlloc, address_out, size, 1, flags);
	call = cw__tang_call(CW__TANG_tangHostAlloc, size);

	const int status = cw__emu_begin(&call);

	return cw__emu_end(&call, status ? status : refused);
}

int tangFreeHost(void *address)
{
	return release(CW__TANG_tangFreeHost, address, cw__emu_host_free);
}

int tangHostGetDevicePointer(void **address_out, void *host, unsigned flags)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangHostGetDevicePointer, 0);
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "host", cw__tang_number(host));
	if (!status)
		status = flags ? CW__EMU_BAD_VALUE : cw__emu_host_device_pointer(address_out, host);
	return cw__emu_end(&call, status);
}

int tangHostRegister(void *address, size_t size, unsigned flags)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangHostRegister, size);
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "address", cw__tang_number(address));
	cw__emu_argument(&call, "size", size);
	if (!status && !cw__emu_option_host_register())
		status = CW__EMU_NOT_SUPPORTED;
	if (!status)
		status = cw__emu_host_register(address, size, (flags & CW__TANG_HOST_REGISTER_MAPPED) != 0);
	return cw__emu_end(&call, status);
}

int tangHostUnregister(void *address)
{
	return release(CW__TANG_tangHostUnregister, address, cw__emu_host_unregister);
}

int tangMemGetInfo(size_t *free_out, size_t *total_out)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangMemGetInfo, 0);
	int status = cw__emu_begin(&call);

	if (!status)
		status = free_out && total_out ? cw__emu_memory_info(free_out, total_out) : CW__EMU_BAD_VALUE;
	return cw__emu_end(&call, status);
}

int tangPointerGetAttributes(struct cw__tang_pointer_attributes *attributes_out, const void *address)
{
	static const int types[] = {
		[CW__EMU_UNREGISTERED] = CW__TANG_MEMORY_UNREGISTERED,
		[CW__EMU_HOST] = CW__TANG_MEMORY_HOST,
		[CW__EMU_DEVICE] = CW__TANG_MEMORY_DEVICE,
	};
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangPointerGetAttributes, 0);
	struct cw__emu_attributes attributes;
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "address", cw__tang_number(address));
	if (!status)
		status = attributes_out ? cw__emu_attributes(address, &attributes) : CW__EMU_BAD_VALUE;
	if (!status) {
		attributes_out->type = types[attributes.type];
		attributes_out->device = attributes.device;
		attributes_out->device_pointer = attributes.device_pointer;
		attributes_out->host_pointer = attributes.host_pointer;
		cw__emu_argument(&call, "type", (uint64_t)attributes_out->type);
	}
	return cw__emu_end(&call, status);
}

static int copy(struct cw__emu_call *call, const struct cw__emu_order *order)
{
	int status = cw__emu_begin(call);

	if (call->traced) {
		cw__emu_argument(call, "to", cw__tang_number(order->to));
		cw__emu_argument(call, "from", cw__tang_number(order->from));
		cw__emu_argument(call, "size", order->size);
		if (order->peer) {
			cw__emu_argument(call, "to_device", (uint64_t)order->to_device);
			cw__emu_argument(call, "from_device", (uint64_t)order->from_device);
		} else {
			cw__emu_argument(call, "kind", (uint64_t)order->kind);
		}
		if (order->later && !status)
			cw__emu_stream_argument(call, order->stream);
	}
	if (!status)
		status = cw__emu_copy(call, order);
	return cw__emu_end(call, status);
}

/* The runtime has no kind that lets it find out. */
static int check_kind(int kind)
{
	return kind < CW__EMU_H2H || kind > CW__EMU_D2D ? -1 : kind;
}

int tangMemcpy(void *to, const void *from, size_t size, int kind)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangMemcpy, size);
	const struct cw__emu_order order = { .to = to, .from = from, .size = size, .kind = check_kind(kind) };

	return copy(&call, &order);
}

int tangMemcpyAsync(void *to, const void *from, size_t size, int kind, struct cw__tang_stream *stream)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangMemcpyAsync, size);
	const struct cw__emu_order order = {
		.to = to,
		.from = from,
		.size = size,
		.kind = check_kind(kind),
		.later = 1,
		.stream = (struct cw__emu_stream *)stream,
	};

	return copy(&call, &order);
}

static int peer_copy(enum cw__tang_symbol symbol, struct cw__emu_order order)
{
	struct cw__emu_call call = cw__tang_call(symbol, order.size);

	order.kind = CW__EMU_D2D;
	order.peer = 1;
	call.device = order.from_device;
	call.peer = order.to_device;
	return copy(&call, &order);
}

int tangMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t size)
{
	return peer_copy(
		CW__TANG_tangMemcpyPeer,
		(struct cw__emu_order){
			.to = to, .from = from, .size = size, .to_device = to_device, .from_device = from_device });
}

int tangMemcpyPeer_v2(void *to, int to_device, const void *from, int from_device, size_t size)
{
	return peer_copy(
		CW__TANG_tangMemcpyPeer_v2,
		(struct cw__emu_order){
			.to = to, .from = from, .size = size, .to_device = to_device, .from_device = from_device });
}

static int peer_copy_async(enum cw__tang_symbol symbol, struct cw__emu_order order, struct cw__tang_stream *stream)
{
	order.later = 1;
	order.stream = (struct cw__emu_stream *)stream;
	return peer_copy(symbol, order);
}

int tangMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t size,
			struct cw__tang_stream *stream)
{
	return peer_copy_async(
		CW__TANG_tangMemcpyPeerAsync,
		(struct cw__emu_order){
			.to = to, .from = from, .size = size, .to_device = to_device, .from_device = from_device },
		stream);
}

int tangMemcpyPeerAsync_v2(void *to, int to_device, const void *from, int from_device, size_t size,
			   struct cw__tang_stream *stream)
{
	return peer_copy_async(
		CW__TANG_tangMemcpyPeerAsync_v2,
		(struct cw__emu_order){
			.to = to, .from = from, .size = size, .to_device = to_device, .from_device = from_device },
		stream);
}

int tangMemset(void *to, int value, size_t size)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangMemset, size);
	const struct cw__emu_order order = { .to = to, .size = size, .kind = CW__EMU_H2D, .fill = 1, .value = value };

	return copy(&call, &order);
}

int tangMemsetAsync(void *to, int value, size_t size, struct cw__tang_stream *stream)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangMemsetAsync, size);
	const struct cw__emu_order order = {
		.to = to,
		.size = size,
		.kind = CW__EMU_H2D,
		.fill = 1,
		.value = value,
		.later = 1,
		.stream = (struct cw__emu_stream *)stream,
	};

	return copy(&call, &order);
}

int tangIpcGetMemHandle(struct cw__tang_ipc_handle *handle_out, void *address)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangIpcGetMemHandle, 0);
	unsigned char bytes[sizeof(*handle_out)];
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "address", cw__tang_number(address));
	if (!status)
		status = handle_out ? cw__emu_export(bytes, address) : CW__EMU_BAD_VALUE;
	if (!status)
		memcpy(handle_out, bytes, sizeof(bytes));
	return cw__emu_end(&call, status);
}

int tangIpcOpenMemHandle(void **base_out, struct cw__tang_ipc_handle handle, unsigned flags)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangIpcOpenMemHandle, 0);
	unsigned char bytes[sizeof(handle)];
	int status = cw__emu_begin(&call);

	memcpy(bytes, &handle, sizeof(bytes));
	if (!status && flags != CW__TANG_IPC_LAZY_ENABLE_PEER_ACCESS)
		status = CW__EMU_BAD_VALUE;
	if (!status)
		status = cw__emu_open(bytes, base_out);
	if (!status)
		cw__emu_argument(&call, "base", cw__tang_number(*base_out));
	return cw__emu_end(&call, status);
}

int tangIpcCloseMemHandle(void *base)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangIpcCloseMemHandle, 0);
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "base", cw__tang_number(base));
	if (!status)
		status = cw__emu_close(base);
	return cw__emu_end(&call, status);
}
