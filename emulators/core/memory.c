/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of devices and memory of the host that devices see: making, freeing, asking about it. Device memory is a
 * memory file of its own, which the emulator maps a second time to copy; the address that the application gets cannot
 * be touched (option strict).
 */
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* Every allocation needs a descriptor; a runtime for devices is not expected to run out of them. */
static int memory_file(uint64_t serial)
{
	struct rlimit limit;
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "causeway-device-%llu", (unsigned long long)serial);
	fd = memfd_create(name, MFD_CLOEXEC);
	if (fd >= 0 || errno != EMFILE || getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
		return fd;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		return -1;
	return memfd_create(name, MFD_CLOEXEC);
}

/* What all processes of the world have on the device. What the dead left in their seats counts until these are free. */
static uint64_t used_on(int device)
{
	uint64_t used = 0;

	for (int i = 0; i < CW__WORLD_PROCESSES; i++) {
		const struct cw__world_seat *seat = &cw__emu.world->seats[i];

		if (atomic_load_explicit(&seat->pid, memory_order_acquire))
			used += atomic_load_explicit(&seat->used[device], memory_order_relaxed);
	}
	return used;
}

/* Books the bytes on the device; 0 when it has that much left. */
static int book(int device, size_t size)
{
	atomic_fetch_add(&cw__emu.seat->used[device], size);
	if (used_on(device) <= cw__emu.world->devices[device].memory)
		return 0;
	atomic_fetch_sub(&cw__emu.seat->used[device], size);
	return -1;
}

int cw__emu_memory_info(size_t *free_out, size_t *total_out)
{
	const int device = cw__emu_current();
	const uint64_t total = cw__emu.world->devices[device].memory, used = used_on(device);

	*free_out = used < total ? total - used : 0;
	*total_out = total;
	return CW__EMU_OK;
}

int cw__emu_allocate(void **address_out, size_t size)
{
	const int device = cw__emu_current();
	struct cw__emu_memory *memory;
	void *alias;

	if (!address_out)
		return CW__EMU_BAD_VALUE;
	if (!size) {
		*address_out = NULL;
		return CW__EMU_OK;
	}
	if (size > cw__emu.world->devices[device].memory)
		return CW__EMU_NO_MEMORY;
	memory = cw__emu_memory_new(CW__EMU_OWN, size, device);
	if (!memory)
		return CW__EMU_NO_MEMORY;
	/* What dead processes have left counts no more. */
	if (book(device, memory->span)) {
		cw__world_sweep(cw__emu.world);
		if (book(device, memory->span))
			goto failed;
	}
	memory->serial = atomic_fetch_add(&cw__emu.world->serial, 1) + 1;
	memory->fd = memory_file(memory->serial);
	if (memory->fd < 0 || ftruncate(memory->fd, (off_t)memory->span))
		goto failed_booked;
	alias = mmap(NULL, memory->span, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	if (alias == MAP_FAILED)
		goto failed_booked;
	memory->alias = alias;
	if (cw__emu_memory_add(memory))
		goto failed_booked;
	cw__emu_gauge(CW__EMU_LIVE_ALLOCATIONS, 1);
	*address_out = (void *)(uintptr_t)memory->address;
	return CW__EMU_OK;

failed_booked:
	atomic_fetch_sub(&cw__emu.seat->used[device], memory->span);
failed:
	cw__emu_memory_drop(memory);
	return CW__EMU_NO_MEMORY;
}

/* The memory that starts at the address and is of the kind, held. */
static struct cw__emu_memory *find_start(const void *address, int kind)
{
	struct cw__emu_memory *memory = cw__emu_memory_find(address);

	if (memory && (memory->kind != kind || memory->address != (uint64_t)(uintptr_t)address)) {
		cw__emu_memory_drop(memory);
		return NULL;
	}
	return memory;
}

int cw__emu_free(void *address)
{
	struct cw__emu_memory *memory;
	int status = CW__EMU_OK;

	if (!address)
		return CW__EMU_OK;
	memory = find_start(address, CW__EMU_OWN);
	if (!memory)
		return CW__EMU_BAD_POINTER;
	cw__emu_stream_wait_device(memory->home);
	if (cw__emu_memory_remove(memory)) {
		atomic_fetch_sub(&cw__emu.seat->used[memory->home], memory->span);
		cw__emu_gauge(CW__EMU_LIVE_ALLOCATIONS, -1);
	} else {
		status = CW__EMU_BAD_POINTER; /* another thread was first */
	}
	cw__emu_memory_drop(memory);
	return status;
}

/* Registers host memory and, when it is mapped, the addresses at which devices see it. */
static int add_host(struct cw__emu_memory *memory, int mapped)
{
	struct cw__emu_memory *view;
	int status;

	memory->mapped = mapped;
	status = cw__emu_memory_add(memory);
	if (status || !mapped || cw__emu.options.mapped_address)
		return status;

	view = cw__emu_memory_new(CW__EMU_HOST_SEEN, memory->size, cw__emu_current());
	if (!view) {
		status = CW__EMU_NO_MEMORY;
	} else {
		view->alias = memory->alias;
		view->home = -1;
		view->origin = memory;
		cw__emu_memory_hold(memory);
		status = cw__emu_memory_add(view);
	}
	if (!status)
		return CW__EMU_OK;
	cw__emu_memory_drop(view);
	cw__emu_memory_hold(memory); /* for the caller, who drops what could not be added */
	cw__emu_memory_remove(memory);
	return status;
}

int cw__emu_host_allocate(void **address_out, size_t size, int mapped)
{
	struct cw__emu_memory *memory;
	void *alias;

	if (!address_out)
		return CW__EMU_BAD_VALUE;
	if (!size) {
		*address_out = NULL;
		return CW__EMU_OK;
	}
	memory = cw__emu_memory_new(CW__EMU_HOST_OWN, size, cw__emu_current());
	if (!memory)
		return CW__EMU_NO_MEMORY;
	memory->home = -1;
	alias = mmap(NULL, memory->span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (alias == MAP_FAILED)
		goto failed;
	memory->alias = alias;
	memory->address = (uint64_t)(uintptr_t)alias;
	if (add_host(memory, mapped))
		goto failed;
	cw__emu_gauge(CW__EMU_LIVE_HOST_ALLOCATIONS, 1);
	*address_out = alias;
	return CW__EMU_OK;
failed:
	cw__emu_memory_drop(memory);
	return CW__EMU_NO_MEMORY;
}

int cw__emu_host_free(void *address)
{
	struct cw__emu_memory *memory;
	int status = CW__EMU_OK;

	if (!address)
		return CW__EMU_OK;
	memory = find_start(address, CW__EMU_HOST_OWN);
	if (!memory)
		return CW__EMU_BAD_POINTER;
	if (cw__emu_memory_remove(memory))
		cw__emu_gauge(CW__EMU_LIVE_HOST_ALLOCATIONS, -1);
	else
		status = CW__EMU_BAD_POINTER;
	cw__emu_memory_drop(memory);
	return status;
}

int cw__emu_host_register(void *address, size_t size, int mapped)
{
	struct cw__emu_memory *memory;
	int status;

	if (!address || !size || cw__emu_memory_is_device(address))
		return CW__EMU_BAD_VALUE;
	memory = cw__emu_memory_new(CW__EMU_HOST_LENT, size, cw__emu_current());
	if (!memory)
		return CW__EMU_NO_MEMORY;
	memory->home = -1;
	memory->alias = address;
	memory->address = (uint64_t)(uintptr_t)address;
	memory->span = size;
	status = add_host(memory, mapped);
	if (status)
		cw__emu_memory_drop(memory);
	return status;
}

int cw__emu_host_unregister(void *address)
{
	struct cw__emu_memory *memory = find_start(address, CW__EMU_HOST_LENT);
	int status;

	if (!memory)
		return CW__EMU_HOST_NOT_REGISTERED;
	status = cw__emu_memory_remove(memory) ? CW__EMU_OK : CW__EMU_HOST_NOT_REGISTERED;
	cw__emu_memory_drop(memory);
	return status;
}

static int is_view_of(struct cw__emu_memory *memory, const void *arg)
{
	return memory->kind == CW__EMU_HOST_SEEN && memory->origin == arg;
}

/* Where devices see an address of pinned host memory; NULL when they do not. */
static void *seen_at(struct cw__emu_memory *memory, const void *host)
{
	const uint64_t offset = (uint64_t)(uintptr_t)host - memory->address;
	struct cw__emu_memory *view;
	uint64_t seen;

	if (!memory->mapped)
		return NULL;
	if (cw__emu.options.mapped_address)
		return (void *)(uintptr_t)(memory->address + offset);
	view = cw__emu_memory_first(is_view_of, memory);
	if (!view)
		return NULL;
	seen = view->address + offset;
	cw__emu_memory_drop(view);
	return (void *)(uintptr_t)seen;
}

int cw__emu_host_device_pointer(void **address_out, void *host)
{
	struct cw__emu_memory *memory = cw__emu_memory_find(host);
	int status = CW__EMU_BAD_VALUE;

	if (address_out && memory && !cw__emu_memory_for_devices(memory)) {
		void *seen = seen_at(memory, host);

		if (seen) {
			*address_out = seen;
			status = CW__EMU_OK;
		}
	}
	cw__emu_memory_drop(memory);
	return status;
}

static void device_attributes(struct cw__emu_memory *memory, const void *address,
			      struct cw__emu_attributes *attributes_out)
{
	const uint64_t offset = (uint64_t)(uintptr_t)address - memory->address;

	*attributes_out = (struct cw__emu_attributes){
		.type = CW__EMU_DEVICE,
		.device = cw__emu.index[memory->device],
		.device_pointer = (void *)(uintptr_t)(memory->address + (cw__emu.options.attribute_base ? 0 : offset)),
		.base = (void *)(uintptr_t)memory->address,
		.size = memory->size,
		.exportable = memory->kind == CW__EMU_OWN,
	};
	if (memory->kind == CW__EMU_HOST_SEEN)
		attributes_out->host_pointer = memory->alias + offset;
}

int cw__emu_attributes(const void *address, struct cw__emu_attributes *attributes_out)
{
	struct cw__emu_memory *memory;
	int status = CW__EMU_OK;

	if (!address || !attributes_out)
		return CW__EMU_BAD_VALUE;
	memory = cw__emu_memory_find(address);
	if (!memory) {
		if (cw__emu_memory_is_device(address) || cw__emu.options.host_query == 2)
			return CW__EMU_BAD_VALUE;
		*attributes_out = (struct cw__emu_attributes){
			.type = cw__emu.options.host_query ? CW__EMU_HOST : CW__EMU_UNREGISTERED,
			.device = -1,
			.host_pointer = (void *)(uintptr_t)address,
		};
		return CW__EMU_OK;
	}
	if (!cw__emu_memory_for_devices(memory)) {
		*attributes_out = (struct cw__emu_attributes){
			.type = CW__EMU_HOST,
			.device = cw__emu.index[memory->device],
			.device_pointer = seen_at(memory, address),
			.host_pointer = (void *)(uintptr_t)address,
			.base = (void *)(uintptr_t)memory->address,
			.size = memory->size,
		};
	} else if (cw__emu.options.context_sensitive && cw__emu_current() != memory->device) {
		status = CW__EMU_BAD_VALUE;
	} else {
		device_attributes(memory, address, attributes_out);
	}
	cw__emu_memory_drop(memory);
	return status;
}

struct wanted_view {
	struct cw__emu_memory *origin;
	int device, port;
};

static int is_wanted_view(struct cw__emu_memory *memory, const void *arg)
{
	const struct wanted_view *wanted = arg;

	return memory->kind == CW__EMU_THROUGH_PORT && memory->origin == wanted->origin &&
	       memory->device == wanted->device && memory->port == wanted->port;
}

/* The addresses of the memory as `device` reaches it through its port, made at the first call, held. */
static struct cw__emu_memory *view_through(struct cw__emu_memory *memory, int device, int port)
{
	const struct wanted_view wanted = { memory, device, port };
	const struct cw__world_port *end = &cw__emu.world->devices[device].ports[port];
	struct cw__emu_memory *view = memory->views ? cw__emu_memory_first(is_wanted_view, &wanted) : NULL;

	if (view)
		return view;
	view = cw__emu_memory_new(CW__EMU_THROUGH_PORT, memory->size, device);
	if (!view)
		return NULL;
	view->alias = memory->alias;
	view->home = memory->home;
	view->link = end->link;
	view->end = end->end;
	view->port = port;
	view->origin = memory;
	cw__emu_memory_hold(memory);
	cw__emu_memory_hold(view); /* for the caller */
	if (!cw__emu_memory_add(view))
		return view;
	cw__emu_memory_drop(view);
	cw__emu_memory_drop(view);
	return NULL;
}

int cw__emu_peer_pointer(int device, int port, void *address, void **seen_out)
{
	struct cw__emu_memory *memory = NULL, *view;
	const struct cw__world_port *end;
	int status = CW__EMU_BAD_VALUE;

	if (!cw__emu_device(device))
		return CW__EMU_BAD_DEVICE;
	if (!seen_out || !address || port < 0 || port >= CW__WORLD_PORTS)
		return CW__EMU_BAD_VALUE;
	device = cw__emu.visible[device];
	end = &cw__emu.world->devices[device].ports[port];
	if (end->link < 0 || (cw__emu.options.context_sensitive && cw__emu_current() != device))
		return CW__EMU_BAD_VALUE;
	if (!atomic_load(&cw__emu.world->links[end->link].up))
		return CW__EMU_LINK_DOWN;
	memory = cw__emu_memory_find(address);
	if (memory && (memory->kind == CW__EMU_OWN || memory->kind == CW__EMU_OPENED) && memory->home == end->peer) {
		view = view_through(memory, device, port);
		status = view ? CW__EMU_OK : CW__EMU_NO_MEMORY;
		if (view)
			*seen_out =
				(void *)(uintptr_t)(view->address + ((uint64_t)(uintptr_t)address - memory->address));
		cw__emu_memory_drop(view);
	}
	cw__emu_memory_drop(memory);
	return status;
}
