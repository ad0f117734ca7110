/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory between processes. A handle names the owner's descriptor of the memory file; who opens it goes through
 * /proc/<owner>/fd, which asks for the same user, and checks that the owner is the one that made the handle and that
 * the descriptor still is that allocation. So nothing has a name that could be left behind.
 */
#include "state.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDLE_MAGIC 0x48454d45U /* "EMEH" */
#define HANDLE_VERSION 1

/* One opening or closing at a time, so that opening the same twice at once gives one mapping. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct handle {
	uint32_t magic;
	uint8_t version, device; /* of the world */
	uint16_t reserved;
	uint32_t world;
	int32_t pid, fd;
	uint32_t checksum; /* of all else */
	uint64_t start;    /* of the owner, as in /proc */
	uint64_t serial;
	uint64_t size, base;
	uint64_t offset; /* from the start of the allocation to what opening gives */
};

_Static_assert(sizeof(struct handle) == 64, "the vendors' handles have 64 bytes");

/* FNV-1a, with the field itself as zero. */
static uint32_t checksum(struct handle handle)
{
	const unsigned char *bytes = (const unsigned char *)&handle;
	uint32_t sum = 2166136261U;

	handle.checksum = 0;
	for (size_t i = 0; i < sizeof(handle); i++)
		sum = (sum ^ bytes[i]) * 16777619U;
	return sum;
}

int cw__emu_export(unsigned char handle_out[64], void *address)
{
	struct cw__emu_memory *memory;
	struct handle handle;
	uint64_t offset;
	int status = CW__EMU_OK;

	if (!handle_out || !address)
		return CW__EMU_BAD_VALUE;
	memory = cw__emu_memory_find(address);
	if (!memory)
		return CW__EMU_BAD_POINTER;
	offset = (uint64_t)(uintptr_t)address - memory->address;
	if (memory->kind != CW__EMU_OWN || (offset && cw__emu.options.ipc_interior == 1))
		status = CW__EMU_BAD_POINTER;
	else if (cw__emu.options.context_sensitive && cw__emu_current() != memory->home)
		status = CW__EMU_BAD_VALUE;
	if (!status) {
		memset(&handle, 0, sizeof(handle));
		handle.magic = HANDLE_MAGIC;
		handle.version = HANDLE_VERSION;
		handle.device = (uint8_t)memory->home;
		handle.world = cw__emu.world_mark;
		handle.pid = (int32_t)getpid();
		handle.fd = memory->fd;
		handle.start = cw__emu.start;
		handle.serial = memory->serial;
		handle.size = memory->size;
		handle.base = memory->address;
		handle.offset = cw__emu.options.ipc_interior == 2 ? offset : 0;
		handle.checksum = checksum(handle);
		memcpy(handle_out, &handle, sizeof(handle));
	}
	cw__emu_memory_drop(memory);
	return status;
}

struct opening {
	const struct handle *handle;
	int device;
};

/* Counts one opening more of memory that is open here already. */
static int is_open_again(struct cw__emu_memory *memory, const void *arg)
{
	const struct opening *opening = arg;

	if (memory->kind != CW__EMU_OPENED || memory->owner != opening->handle->pid ||
	    memory->owner_start != opening->handle->start || memory->serial != opening->handle->serial ||
	    memory->device != opening->device || memory->offset != opening->handle->offset)
		return 0;
	if (cw__emu.options.reopen == 0)
		memory->opens++;
	return 1;
}

/* The owner's memory file, or -1 when it is not there any more. */
static int owners_file(const struct handle *handle, size_t span)
{
	char path[64], name[64], wanted[64];
	struct stat st;
	ssize_t n;
	int fd;

	if (cw__world_start_time(handle->pid) != handle->start)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", handle->pid, handle->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;

	/* The number may stand for another file by now; the name of a memory file has its serial number. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name) - 1);
	name[n > 0 ? n : 0] = '\0';
	snprintf(wanted, sizeof(wanted), "/memfd:causeway-device-%llu (deleted)", (unsigned long long)handle->serial);
	if (strcmp(name, wanted) || fstat(fd, &st) || (size_t)st.st_size != span) {
		close(fd);
		return -1;
	}
	return fd;
}

static int map_opened(const struct handle *handle, void **base_out)
{
	struct cw__emu_memory *memory = cw__emu_memory_new(CW__EMU_OPENED, handle->size, cw__emu_current());
	int status = CW__EMU_NO_MEMORY;
	void *alias;

	if (!memory)
		return CW__EMU_NO_MEMORY;
	memory->fd = owners_file(handle, memory->span);
	if (memory->fd < 0) {
		status = CW__EMU_GONE;
		goto failed;
	}
	alias = mmap(NULL, memory->span, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	if (alias == MAP_FAILED)
		goto failed;
	memory->alias = alias;
	memory->home = handle->device;
	memory->serial = handle->serial;
	memory->owner = handle->pid;
	memory->owner_start = handle->start;
	memory->offset = handle->offset;
	memory->opens = 1;
	if (cw__emu_memory_add(memory))
		goto failed;
	close(memory->fd);
	memory->fd = -1;
	cw__emu_gauge(CW__EMU_OPEN_MAPPINGS, 1);
	*base_out = (void *)(uintptr_t)(memory->address + memory->offset);
	return CW__EMU_OK;
failed:
	cw__emu_memory_drop(memory);
	return status;
}

static int open_checked(const struct handle *handle, void **base_out)
{
	const struct opening opening = { handle, cw__emu_current() };
	struct cw__emu_memory *memory;
	int end;

	if (handle->pid == (int32_t)getpid() && handle->start == cw__emu.start && !cw__emu.options.ipc_self)
		return CW__EMU_BAD_VALUE;
	if (cw__emu_removed(handle->device))
		return CW__EMU_REMOVED;
	if (cw__emu.index[handle->device] < 0)
		return CW__EMU_BAD_DEVICE;
	if (opening.device != handle->device && cw__emu_link_between(opening.device, handle->device, &end) == -2)
		return CW__EMU_UNLINKED;
	if (cw__emu.options.reopen == 1)
		return map_opened(handle, base_out);

	memory = cw__emu_memory_first(is_open_again, &opening);
	if (!memory)
		return map_opened(handle, base_out);
	if (!cw__emu.options.reopen) {
		cw__emu_gauge(CW__EMU_OPEN_MAPPINGS, 1);
		*base_out = (void *)(uintptr_t)(memory->address + memory->offset);
	}
	cw__emu_memory_drop(memory);
	return cw__emu.options.reopen ? CW__EMU_BAD_VALUE : CW__EMU_OK;
}

int cw__emu_open(const unsigned char bytes[64], void **base_out)
{
	struct handle handle;
	int status;

	memcpy(&handle, bytes, sizeof(handle));
	if (!base_out || handle.magic != HANDLE_MAGIC || handle.version != HANDLE_VERSION ||
	    handle.checksum != checksum(handle) || handle.world != cw__emu.world_mark ||
	    handle.device >= cw__emu.world->device_count || !handle.size || handle.offset >= handle.size)
		return CW__EMU_BAD_VALUE;
	pthread_mutex_lock(&lock);
	status = open_checked(&handle, base_out);
	pthread_mutex_unlock(&lock);
	return status;
}

static int close_checked(struct cw__emu_memory *memory, const void *base)
{
	if (memory->kind != CW__EMU_OPENED || memory->address + memory->offset != (uint64_t)(uintptr_t)base)
		return CW__EMU_BAD_POINTER;
	if (cw__emu.options.context_sensitive && cw__emu_current() != memory->device)
		return CW__EMU_BAD_VALUE;
	if (!cw__emu_memory_unopen(memory) && !cw__emu_memory_remove(memory))
		return CW__EMU_BAD_POINTER;
	cw__emu_gauge(CW__EMU_OPEN_MAPPINGS, -1);
	return CW__EMU_OK;
}

int cw__emu_close(void *base)
{
	struct cw__emu_memory *memory;
	int status = CW__EMU_BAD_POINTER;

	pthread_mutex_lock(&lock);
	memory = cw__emu_memory_find(base);
	if (memory)
		status = close_checked(memory, base);
	pthread_mutex_unlock(&lock);
	cw__emu_memory_drop(memory);
	return status;
}
