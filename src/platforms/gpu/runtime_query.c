/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runtime dialect: what an address is. Tang has no call for the allocation around an address, and a pointer
 * is sometimes known only while its device is current. Without such a call the bounds of an allocation are found by
 * exporting it: the handles of all its addresses are the same bytes, those of other allocations are not. That costs
 * some tens of exports; it is done at registration, never for a request.
 */
#include <platforms/gpu/runtime.h>
#include <string.h>

#define STEP 256u /* allocations start on multiples of it */
#define ATTRIBUTES_MAX 256u

struct facts {
	int type, device;
	uint64_t device_pointer;
};

/* An allocation, by one address of it. */
struct probe {
	struct cw__gpu_library *library;
	int device;
	struct cw__gpu_handle handle;
};

/* What the runtime says of an address while the current device is what it is. */
static int look(struct cw__gpu_library *library, const void *address, struct facts *facts_out)
{
	const struct cw__gpu_attributes *row = &library->row->attributes;
	_Alignas(16) unsigned char raw[ATTRIBUTES_MAX] = { 0 };
	void *pointer;
	int result = cw__runtime_settle(library, library->runtime.PointerGetAttributes((void *)raw, address));

	if (result)
		return result;
	memcpy(&facts_out->type, raw + row->type, sizeof(int));
	memcpy(&facts_out->device, raw + row->device, sizeof(int));
	memcpy(&pointer, raw + row->device_pointer, sizeof(pointer));
	facts_out->device_pointer = (uint64_t)(uintptr_t)pointer;
	return 0;
}

static int is_same(const struct probe *probe, uint64_t at)
{
	struct facts facts;
	struct cw__gpu_handle handle;

	return at && !look(probe->library, (void *)(uintptr_t)at, &facts) &&
	       facts.type == probe->library->row->memory_device && facts.device == probe->device &&
	       !cw__runtime_export_memory(probe->library, (void *)(uintptr_t)at, &handle) &&
	       !memcmp(handle.bytes, probe->handle.bytes, sizeof(handle.bytes));
}

/* The lowest address of the allocation that holds address: doubling steps down, then halving. */
static uint64_t find_base(const struct probe *probe, uint64_t address)
{
	uint64_t inside = address - address % STEP, outside = 0;

	if (inside != address && !is_same(probe, inside))
		return address;
	for (uint64_t step = STEP; step < inside; step *= 2) {
		if (!is_same(probe, inside - step)) {
			outside = inside - step;
			break;
		}
		inside -= step;
	}
	while (inside - outside > STEP) {
		uint64_t middle = outside + (inside - outside) / 2;

		middle -= middle % STEP;
		if (is_same(probe, middle))
			inside = middle;
		else
			outside = middle;
	}
	return inside;
}

/* How long the allocation that starts at base is. 0 = not known, because addresses inside it have no handle, or one of
 * their own. */
static uint64_t find_length(const struct probe *probe, uint64_t base)
{
	uint64_t inside = base + 1, outside = UINT64_MAX;

	if (!is_same(probe, inside))
		return 0;
	for (uint64_t step = STEP; step < UINT64_MAX - inside; step *= 2) {
		if (!is_same(probe, inside + step)) {
			outside = inside + step;
			break;
		}
		inside += step;
	}
	while (outside - inside > 1) {
		uint64_t middle = inside + (outside - inside) / 2;

		if (is_same(probe, middle))
			inside = middle;
		else
			outside = middle;
	}
	return outside - base;
}

/* By the runtime's own call. 0 when it has none, or its answer makes no sense. */
static int ask_range(struct cw__gpu_library *library, uint64_t address, struct cw__gpu_memory *memory)
{
	void *base = NULL;
	size_t size = 0;

	if (!library->runtime.MemGetAddressRange ||
	    cw__runtime_settle(library,
			       library->runtime.MemGetAddressRange(&base, &size, (void *)(uintptr_t)address)) ||
	    (uint64_t)(uintptr_t)base > address || address - (uint64_t)(uintptr_t)base >= size)
		return 0;
	memory->allocation_base = (uint64_t)(uintptr_t)base;
	memory->allocation_length = size;
	return 1;
}

/* The current device is that of the memory. When handles cannot be compared the address itself is what can be exported.
 */
static void find_range(struct cw__gpu_library *library, uint64_t address, const struct facts *facts,
		       struct cw__gpu_memory *memory)
{
	struct probe probe = { .library = library, .device = facts->device };

	if (ask_range(library, address, memory))
		return;
	memory->allocation_base = address;
	if (facts->device_pointer && facts->device_pointer < address)
		memory->allocation_base = facts->device_pointer;
	if (!library->gpu.export_memory ||
	    cw__runtime_export_memory(library, (void *)(uintptr_t)memory->allocation_base, &probe.handle) ||
	    !is_same(&probe, memory->allocation_base))
		return;
	if (memory->allocation_base == address)
		memory->allocation_base = find_base(&probe, address);
	memory->allocation_length = find_length(&probe, memory->allocation_base);
}

/* Where devices see pinned host memory; NULL when the runtime says so of none. */
static void *device_view(struct cw__gpu_library *library, const void *address)
{
	struct facts facts;
	void *seen = NULL;

	if (!library->runtime.HostGetDevicePointer ||
	    cw__runtime_settle(library, library->runtime.HostGetDevicePointer(&seen, (void *)(uintptr_t)address, 0)))
		return NULL;
	return !look(library, seen, &facts) && facts.type == library->row->memory_device ? seen : NULL;
}

/* 1 when the current device knows the address. */
static int ask_here(struct cw__gpu_library *library, const void *address, struct cw__gpu_memory *memory)
{
	struct facts facts;

	if (look(library, address, &facts))
		return 0;
	if (facts.type == library->row->memory_host) {
		memory->device_address = device_view(library, address);
		return 1;
	}
	if (facts.type != library->row->memory_device || facts.device < 0 ||
	    facts.device >= (int)library->gpu.device_count)
		return 0;
	memory->is_device = 1;
	memory->device = facts.device;
	return 1;
}

int cw__runtime_query(struct cw__gpu_library *library, const void *address, struct cw__gpu_memory *memory_out)
{
	struct cw__gpu_memory memory = { .device = -1 };
	struct cw__gpu_scope scope;
	struct facts facts;
	int result = 0, current, known = ask_here(library, address, &memory);

	result = cw__runtime_settle(library, library->runtime.GetDevice(&current));
	for (int i = 0; !result && !known && library->row->attributes_by_device && i < (int)library->gpu.device_count;
	     i++) {
		if (i == current)
			continue;
		result = cw__runtime_enter(library, i, &scope);
		if (result)
			break;
		known = ask_here(library, address, &memory);
		cw__runtime_leave(library, &scope);
	}
	if (!result && memory.is_device) {
		result = cw__runtime_enter(library, memory.device, &scope);
		if (result)
			return result;
		if (!look(library, address, &facts))
			find_range(library, (uint64_t)(uintptr_t)address, &facts, &memory);
		cw__runtime_leave(library, &scope);
	}
	if (!result)
		*memory_out = memory;
	return result;
}
