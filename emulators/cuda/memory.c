/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated CUDA driver: memory, what a pointer is, and memory between processes. */
#include "face.h"

#include <string.h>

static void *pointer(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

static uint64_t number(const void *address)
{
	return (uint64_t)(uintptr_t)address;
}

/* ---------------------------------------------------------------------------------------- allocation */

int cuMemAlloc_v2(uint64_t *address_out, size_t size)
{
	struct cw__cuda_call call;
	void *address = NULL;
	int status = cw__cuda_begin(&call, CW__CUDA_cuMemAlloc);

	if (!status)
		status = address_out && size ? cw__emu_allocate(&address, size) : CW__EMU_BAD_VALUE;
	if (!status)
		*address_out = number(address);
	cw__emu_argument(&call.call, "address", number(address));
	cw__emu_argument(&call.call, "size", size);
	return cw__cuda_end(&call, status);
}

int cuMemFree_v2(uint64_t address)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuMemFree);

	if (!status)
		status = cw__emu_free(pointer(address));
	cw__emu_argument(&call.call, "address", address);
	return cw__cuda_end(&call, status);
}

/* With unified addressing devices see pinned memory where the host does. */
static int host_allocate(enum cw__cuda_symbol symbol, void **address_out, size_t size, unsigned flags)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, symbol);

	if (!status)
		status = address_out && size && flags <= 7 ? cw__emu_host_allocate(address_out, size, 0)
							   : CW__EMU_BAD_VALUE;
	cw__emu_argument(&call.call, "size", size);
	return cw__cuda_end(&call, status);
}

int cuMemHostAlloc(void **address_out, size_t size, unsigned flags)
{
	return host_allocate(CW__CUDA_cuMemHostAlloc, address_out, size, flags);
}

int cuMemAllocHost_v2(void **address_out, size_t size)
{
	return host_allocate(CW__CUDA_cuMemAllocHost, address_out, size, 0);
}

int cuMemFreeHost(void *address)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuMemFreeHost);

	if (!status)
		status = address ? cw__emu_host_free(address) : CW__EMU_BAD_VALUE;
	return cw__cuda_end(&call, status);
}

int cuMemHostGetDevicePointer_v2(uint64_t *address_out, void *host, unsigned flags)
{
	struct cw__cuda_call call;
	struct cw__emu_attributes attributes;
	int status = cw__cuda_begin(&call, CW__CUDA_cuMemHostGetDevicePointer);

	if (!status && (!address_out || flags))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		status = cw__emu_attributes(host, &attributes);
	if (!status && (attributes.type != CW__EMU_HOST || !attributes.base))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		*address_out = number(host);
	return cw__cuda_end(&call, status);
}

int cuMemHostRegister_v2(void *address, size_t size, unsigned flags)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuMemHostRegister);

	if (!status && (flags > 15 || !address || !size))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		status = cw__emu_option_host_register() ? cw__emu_host_register(address, size, 0)
							: CW__EMU_NOT_SUPPORTED;
	cw__emu_argument(&call.call, "address", number(address));
	cw__emu_argument(&call.call, "size", size);
	return cw__cuda_end(&call, status);
}

int cuMemHostUnregister(void *address)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuMemHostUnregister);

	if (!status)
		status = address ? cw__emu_host_unregister(address) : CW__EMU_BAD_VALUE;
	cw__emu_argument(&call.call, "address", number(address));
	return cw__cuda_end(&call, status);
}

int cuMemGetInfo_v2(size_t *free_out, size_t *total_out)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuMemGetInfo);

	if (!status)
		status = free_out && total_out ? cw__emu_memory_info(free_out, total_out) : CW__EMU_BAD_VALUE;
	return cw__cuda_end(&call, status);
}

/* ------------------------------------------------------------------------------------------ pointers */

/* What is at an address: device memory or host memory that was pinned or registered, else NOT_FOUND. */
static int look_up(uint64_t address, struct cw__emu_attributes *attributes_out)
{
	if (cw__emu_attributes(pointer(address), attributes_out) || !attributes_out->base)
		return CW__CU_NOT_FOUND;
	return 0;
}

int cuMemGetAddressRange_v2(uint64_t *base_out, size_t *size_out, uint64_t address)
{
	struct cw__cuda_call call;
	struct cw__emu_attributes attributes;
	int status = cw__cuda_begin(&call, CW__CUDA_cuMemGetAddressRange);

	if (!status)
		status = look_up(address, &attributes);
	if (!status && base_out)
		*base_out = number(attributes.base);
	if (!status && size_out)
		*size_out = attributes.size;
	cw__emu_argument(&call.call, "address", address);
	return cw__cuda_end(&call, status);
}

/* Writes one attribute; of an unknown pointer (attributes NULL) the default, which is zero. */
static int write_attribute(const struct cw__emu_attributes *attributes, uint64_t address, int attribute, void *out)
{
	static const struct cw__emu_attributes unknown = { .type = CW__EMU_UNREGISTERED };
	const struct cw__emu_attributes *at = attributes ? attributes : &unknown;
	int is_device = at->type == CW__EMU_DEVICE;
	const struct {
		int attribute;
		size_t size;
		uint64_t value;
	} known[] = {
		{ CW__CU_POINTER_CONTEXT, 8, attributes && at->device >= 0 ? number(cw__cuda_context(at->device)) : 0 },
		{ CW__CU_POINTER_MEMORY_TYPE, 4,
		  !attributes ? 0
		  : is_device ? CW__CU_MEMORY_DEVICE
			      : CW__CU_MEMORY_HOST },
		{ CW__CU_POINTER_DEVICE_POINTER, 8, attributes ? address : 0 },
		{ CW__CU_POINTER_HOST_POINTER, 8, attributes && !is_device ? address : 0 },
		{ CW__CU_POINTER_SYNC_MEMOPS, 4, 0 },
		{ CW__CU_POINTER_BUFFER_ID, 8, number(at->base) },
		{ CW__CU_POINTER_IS_MANAGED, 4, 0 },
		{ CW__CU_POINTER_DEVICE_ORDINAL, 4, attributes ? (uint32_t)at->device : 0 },
		{ CW__CU_POINTER_IS_LEGACY_IPC_CAPABLE, 4, (uint64_t)at->exportable },
		{ CW__CU_POINTER_RANGE_START, 8, number(at->base) },
		{ CW__CU_POINTER_RANGE_SIZE, 8, at->size },
		{ CW__CU_POINTER_MAPPED, 4, attributes != NULL },
		{ CW__CU_POINTER_ALLOWED_HANDLE_TYPES, 8, 0 },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].attribute != attribute)
			continue;
		/* Little-endian, as is every machine that this runs on. */
		memcpy(out, &known[i].value, known[i].size);
		return 0;
	}
	return CW__EMU_BAD_VALUE;
}

int cuPointerGetAttribute(void *value_out, int attribute, uint64_t address)
{
	struct cw__cuda_call call;
	struct cw__emu_attributes attributes;
	int status = cw__cuda_begin(&call, CW__CUDA_cuPointerGetAttribute);

	if (!status && (!value_out || look_up(address, &attributes)))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		status = write_attribute(&attributes, address, attribute, value_out);
	cw__emu_argument(&call.call, "address", address);
	return cw__cuda_end(&call, status);
}

int cuPointerGetAttributes(unsigned count, int *wanted, void **values_out, uint64_t address)
{
	struct cw__cuda_call call;
	struct cw__emu_attributes attributes;
	int status = cw__cuda_begin(&call, CW__CUDA_cuPointerGetAttributes), known;

	if (!status && (!count || !wanted || !values_out))
		status = CW__EMU_BAD_VALUE;
	known = !status && !look_up(address, &attributes);
	for (unsigned i = 0; !status && i < count; i++)
		status = values_out[i] ? write_attribute(known ? &attributes : NULL, address, wanted[i], values_out[i])
				       : CW__EMU_BAD_VALUE;
	cw__emu_argument(&call.call, "address", address);
	return cw__cuda_end(&call, status);
}

/* ---------------------------------------------------------------------------------- between processes */

int cuIpcGetMemHandle(struct cw__cu_ipc_handle *handle_out, uint64_t address)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuIpcGetMemHandle);

	if (!status)
		status = handle_out ? cw__emu_export(handle_out->bytes, pointer(address)) : CW__EMU_BAD_VALUE;
	cw__emu_argument(&call.call, "address", address);
	return cw__cuda_end(&call, status);
}

int cuIpcOpenMemHandle_v2(uint64_t *base_out, struct cw__cu_ipc_handle handle, unsigned flags)
{
	struct cw__cuda_call call;
	void *base = NULL;
	int status = cw__cuda_begin(&call, CW__CUDA_cuIpcOpenMemHandle);

	if (!status && (!base_out || flags > CW__CU_IPC_LAZY_ENABLE_PEER_ACCESS))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		status = cw__emu_open(handle.bytes, &base);
	if (!status)
		*base_out = number(base);
	cw__emu_argument(&call.call, "address", number(base));
	return cw__cuda_end(&call, status);
}

int cuIpcCloseMemHandle(uint64_t base)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuIpcCloseMemHandle);

	if (!status)
		status = cw__emu_close(pointer(base));
	cw__emu_argument(&call.call, "address", base);
	return cw__cuda_end(&call, status);
}
