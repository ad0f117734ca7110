/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fabric memory in the four steps of the driver: make it, reserve addresses, map it there, let devices use it. Layouts
 * and values are those of cuda.h 12.4 and later, the first with fabric handles.
 */
#include <mooncake/allocator/fabric.h>
#include <platforms/gpu/abi/cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#define CU_MEM_PINNED 1
#define CU_MEM_HANDLE_FABRIC 8
#define CU_MEM_ON_DEVICE 1
#define CU_MEM_READ_WRITE 3
#define CU_MEM_GRANULARITY_MINIMUM 0

struct cu_mem_location {
	int type, id;
};

struct cu_mem_properties { /* CUmemAllocationProp */
	int type, handle_types;
	struct cu_mem_location location;
	void *win32;
	unsigned char compression, gpu_direct_rdma;
	unsigned short usage;
	unsigned char reserved[4];
};
_Static_assert(sizeof(struct cu_mem_properties) == 32, "CUmemAllocationProp");

struct cu_mem_access { /* CUmemAccessDesc */
	struct cu_mem_location location;
	int flags;
};
_Static_assert(sizeof(struct cu_mem_access) == 12, "CUmemAccessDesc");

static struct {
	int (*DeviceGetAttribute)(int *value_out, int attribute, int device);
	int (*DeviceGet)(int *device_out, int ordinal);
	int (*MemGetAllocationGranularity)(size_t *granularity_out, const struct cu_mem_properties *properties,
					   int option);
	int (*MemCreate)(uint64_t *handle_out, size_t size, const struct cu_mem_properties *properties, uint64_t flags);
	int (*MemRelease)(uint64_t handle);
	int (*MemAddressReserve)(uint64_t *address_out, size_t size, size_t alignment, uint64_t wanted, uint64_t flags);
	int (*MemAddressFree)(uint64_t address, size_t size);
	int (*MemMap)(uint64_t address, size_t size, size_t offset, uint64_t handle, uint64_t flags);
	int (*MemUnmap)(uint64_t address, size_t size);
	int (*MemSetAccess)(uint64_t address, size_t size, const struct cu_mem_access *access, size_t count);
} cu;

static const struct {
	const char *name;
	void *where;
} symbols[] = {
	{ "cuDeviceGetAttribute", &cu.DeviceGetAttribute },
	{ "cuDeviceGet", &cu.DeviceGet },
	{ "cuMemGetAllocationGranularity", &cu.MemGetAllocationGranularity },
	{ "cuMemCreate", &cu.MemCreate },
	{ "cuMemRelease", &cu.MemRelease },
	{ "cuMemAddressReserve", &cu.MemAddressReserve },
	{ "cuMemAddressFree", &cu.MemAddressFree },
	{ "cuMemMap", &cu.MemMap },
	{ "cuMemUnmap", &cu.MemUnmap },
	{ "cuMemSetAccess", &cu.MemSetAccess },
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the two below, and cu until it is bound */
static int is_bound, has_all;

/* The library is loaded already and stays so. */
static int bind_symbols(const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);

	for (size_t i = 0; library && i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *address = dlsym(library, symbols[i].name);

		if (!address)
			return 0;
		memcpy(symbols[i].where, &address, sizeof(address));
	}
	return library != NULL;
}

static int is_usable(const struct cw__gpu *gpu)
{
	int usable;

	if (gpu->vendor != CW__GPU_CUDA)
		return 0;
	pthread_mutex_lock(&lock);
	if (!is_bound)
		has_all = bind_symbols(gpu->library);
	is_bound = 1;
	usable = has_all;
	pthread_mutex_unlock(&lock);
	return usable;
}

static struct cu_mem_properties properties_of(int device)
{
	return (struct cu_mem_properties){ .type = CU_MEM_PINNED,
					   .handle_types = CU_MEM_HANDLE_FABRIC,
					   .location = { CU_MEM_ON_DEVICE, device },
					   .gpu_direct_rdma = 1 };
}

int fabric_is_supported(const struct cw__gpu *gpu, int device)
{
	struct cw__gpu_scope scope;
	struct fabric_block block;
	int cu_device = 0, yes = 0;

	if (!is_usable(gpu) || cu.DeviceGet(&cu_device, device) ||
	    cu.DeviceGetAttribute(&yes, CW__CU_DEVICE_FABRIC_HANDLES, cu_device) || !yes || gpu->enter(device, &scope))
		return 0;
	yes = !fabric_allocate(gpu, device, 1, &block);
	if (yes)
		fabric_release(gpu, &block);
	gpu->leave(&scope);
	return yes;
}

/* Every device of this process that can reach the memory's may use it. */
static int let_devices_use(const struct cw__gpu *gpu, int device, const struct fabric_block *block)
{
	struct cu_mem_access access[CW__GPU_DEVICES_MAX];
	size_t count = 0;

	for (int i = 0; i < (int)gpu->device_count; i++) {
		int yes = i == device, cu_device;

		if ((!yes && (gpu->can_reach(i, device, &yes) || !yes)) || cu.DeviceGet(&cu_device, i))
			continue;
		access[count++] = (struct cu_mem_access){ { CU_MEM_ON_DEVICE, cu_device }, CU_MEM_READ_WRITE };
	}
	return cu.MemSetAccess(block->address, block->length, access, count);
}

int fabric_allocate(const struct cw__gpu *gpu, int device, size_t size, struct fabric_block *block_out)
{
	struct fabric_block block = { 0 };
	struct cu_mem_properties properties;
	size_t granularity = 0;
	int cu_device = 0, result;

	if (!is_usable(gpu))
		return CW__CU_NOT_SUPPORTED;
	result = cu.DeviceGet(&cu_device, device);
	properties = properties_of(cu_device);
	if (!result)
		result = cu.MemGetAllocationGranularity(&granularity, &properties, CU_MEM_GRANULARITY_MINIMUM);
	if (result)
		return result;
	if (!granularity || size > SIZE_MAX - granularity)
		return CW__CU_INVALID_VALUE;
	block.length = (size + granularity - 1) / granularity * granularity;
	result = cu.MemCreate(&block.handle, block.length, &properties, 0);
	if (result)
		return result;
	result = cu.MemAddressReserve(&block.address, block.length, granularity, 0, 0);
	if (result)
		goto release;
	result = cu.MemMap(block.address, block.length, 0, block.handle, 0);
	if (result)
		goto free_address;
	result = let_devices_use(gpu, device, &block);
	if (result)
		goto unmap;
	*block_out = block;
	return 0;
unmap:
	cu.MemUnmap(block.address, block.length);
free_address:
	cu.MemAddressFree(block.address, block.length);
release:
	cu.MemRelease(block.handle);
	return result;
}

int fabric_release(const struct cw__gpu *gpu, const struct fabric_block *block)
{
	int result = is_usable(gpu) ? cu.MemUnmap(block->address, block->length) : CW__CU_NOT_SUPPORTED, later;

	/* What is still mapped must keep its addresses. */
	if (result)
		return result;
	result = cu.MemAddressFree(block->address, block->length);
	later = cu.MemRelease(block->handle);
	return result ? result : later;
}
