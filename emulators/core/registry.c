/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry of memory: which addresses are what. A sorted array under a lock for readers and writers; looking up is
 * a binary search and a count of references, so that memory which is freed during a copy stays until its end.
 *
 * Addresses that devices use come from one arena that is reserved at the start, without access: a slice for each
 * device, in which the lowest gap that fits is taken. So a stray address is known for what it is, a program that
 * allocates the same things gets the same addresses, and freed addresses come back soon, as with real devices.
 */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SANITIZED_THREADS 0
#if defined(__SANITIZE_THREAD__)
#undef SANITIZED_THREADS
#define SANITIZED_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef SANITIZED_THREADS
#define SANITIZED_THREADS 1
#endif
#endif

/* The thread sanitizer knows few places for an application's memory: there the kernel chooses. */
#if SANITIZED_THREADS
#define ARENA ((void *)0)
#define SLICE ((uint64_t)64 << 30)
#else
#define ARENA ((void *)0x200000000000)
#define SLICE ((uint64_t)512 << 30)
#endif

struct slot {
	uint64_t start, end;
	struct cw__emu_memory *memory;
};

const size_t cw__emu_page = 4096;

static pthread_rwlock_t lock;
static struct slot *slots; /* ascending */
static size_t count, room;
static uint64_t arena, arena_end;

int cw__emu_memory_start(void)
{
	const size_t size = (size_t)(SLICE * cw__emu.world->device_count);
	pthread_rwlockattr_t attributes;
	long address;

	/* Readers come all the time; a writer must not wait for a moment without any. */
	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	if (!size)
		return 0;

	/* Not through mmap(): sanitizers would keep notes about all of it. */
	address = syscall(SYS_mmap, ARENA, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (address == -1) {
		snprintf(cw__emu.why, sizeof(cw__emu.why), "no room for the addresses of %u devices",
			 cw__emu.world->device_count);
		return -1;
	}
	arena = (uint64_t)address;
	arena_end = arena + size;
	return 0;
}

int cw__emu_memory_is_device(const void *address)
{
	return (uint64_t)(uintptr_t)address - arena < arena_end - arena;
}

/* The first slot that ends above the address. */
static size_t above(uint64_t address)
{
	size_t low = 0, high = count;

	while (low < high) {
		const size_t middle = (low + high) / 2;

		if (slots[middle].end > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

void cw__emu_memory_hold(struct cw__emu_memory *memory)
{
	atomic_fetch_add_explicit(&memory->refs, 1, memory_order_relaxed);
}

static struct cw__emu_memory *find_locked(const void *address)
{
	const uint64_t wanted = (uint64_t)(uintptr_t)address;
	const size_t i = above(wanted);

	if (i == count || slots[i].start > wanted)
		return NULL;
	cw__emu_memory_hold(slots[i].memory);
	return slots[i].memory;
}

struct cw__emu_memory *cw__emu_memory_find(const void *address)
{
	struct cw__emu_memory *memory;

	pthread_rwlock_rdlock(&lock);
	memory = find_locked(address);
	pthread_rwlock_unlock(&lock);
	return memory;
}

void cw__emu_memory_find_two(const void *a, const void *b, struct cw__emu_memory **a_out, struct cw__emu_memory **b_out)
{
	pthread_rwlock_rdlock(&lock);
	*a_out = find_locked(a);
	*b_out = b ? find_locked(b) : NULL;
	pthread_rwlock_unlock(&lock);
}

struct cw__emu_memory *cw__emu_memory_new(int kind, size_t size, int device)
{
	struct cw__emu_memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return NULL;
	memory->kind = kind;
	memory->size = size;
	memory->span = (size + cw__emu_page - 1) / cw__emu_page * cw__emu_page;
	memory->device = memory->home = device;
	memory->fd = memory->link = memory->port = -1;
	atomic_init(&memory->refs, 1);
	return memory;
}

void cw__emu_memory_drop(struct cw__emu_memory *memory)
{
	/* Pairs with the other droppers: the last one sees all that they did with the memory. */
	if (!memory || atomic_fetch_sub_explicit(&memory->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (memory->alias &&
	    (memory->kind == CW__EMU_OWN || memory->kind == CW__EMU_OPENED || memory->kind == CW__EMU_HOST_OWN))
		munmap(memory->alias, memory->span);
	if (memory->fd >= 0)
		close(memory->fd);
	cw__emu_memory_drop(memory->origin);
	free(memory);
}

/* The lowest gap of the device's slice that fits, with a page on either side that stays free; 0 = none. */
static uint64_t place(const struct cw__emu_memory *memory)
{
	const uint64_t start = arena + SLICE * (uint64_t)memory->device, end = start + SLICE;
	uint64_t candidate = start + cw__emu_page;

	for (size_t i = above(start); i < count && slots[i].start < end; i++) {
		if (slots[i].start >= candidate + memory->span + cw__emu_page)
			break;
		candidate = slots[i].end + cw__emu_page;
	}
	return candidate + memory->span + cw__emu_page <= end ? candidate : 0;
}

/* Not strict: the application reaches the bytes at the device's addresses. */
static int show(const struct cw__emu_memory *memory, int fd)
{
	void *address = (void *)(uintptr_t)memory->address;

	return mmap(address, memory->span, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED;
}

static void hide(const struct cw__emu_memory *memory)
{
	mmap((void *)(uintptr_t)memory->address, memory->span, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static int add_locked(struct cw__emu_memory *memory)
{
	size_t i;

	if (count == room) {
		const size_t more = room ? 2 * room : 64;
		struct slot *moved = realloc(slots, more * sizeof(*moved));

		if (!moved)
			return CW__EMU_NO_MEMORY;
		slots = moved;
		room = more;
	}
	if (cw__emu_memory_for_devices(memory)) {
		memory->address = place(memory);
		if (!memory->address)
			return CW__EMU_NO_MEMORY;
	}
	i = above(memory->address);
	if (i < count && slots[i].start < memory->address + memory->span)
		return CW__EMU_HOST_REGISTERED; /* only the application's own addresses can overlap */
	if (!cw__emu.options.strict && memory->fd >= 0 && show(memory, memory->fd))
		return CW__EMU_NO_MEMORY;
	memmove(slots + i + 1, slots + i, (count - i) * sizeof(*slots));
	slots[i] = (struct slot){ memory->address, memory->address + memory->span, memory };
	count++;
	if (memory->origin)
		memory->origin->views++;
	return CW__EMU_OK;
}

int cw__emu_memory_add(struct cw__emu_memory *memory)
{
	int status;

	pthread_rwlock_wrlock(&lock);
	status = add_locked(memory);
	pthread_rwlock_unlock(&lock);
	return status;
}

static void take_out(size_t i)
{
	struct cw__emu_memory *memory = slots[i].memory;

	memmove(slots + i, slots + i + 1, (count - i - 1) * sizeof(*slots));
	count--;
	if (!cw__emu.options.strict && cw__emu_memory_for_devices(memory))
		hide(memory);
	if (memory->origin)
		memory->origin->views--;
	/* From now on its handle opens nothing; who has opened it keeps the bytes. */
	if (memory->fd >= 0) {
		close(memory->fd);
		memory->fd = -1;
	}
	cw__emu_memory_drop(memory);
}

int cw__emu_memory_remove(struct cw__emu_memory *memory)
{
	size_t i;
	int found = 0;

	pthread_rwlock_wrlock(&lock);
	i = above(memory->address);
	if (i < count && slots[i].memory == memory) {
		found = 1;
		for (size_t v = count; memory->views && v-- > 0;) {
			if (slots[v].memory->origin == memory)
				take_out(v);
		}
		take_out(above(memory->address));
	}
	pthread_rwlock_unlock(&lock);
	return found;
}

struct cw__emu_memory *cw__emu_memory_first(int (*fn)(struct cw__emu_memory *memory, const void *arg), const void *arg)
{
	struct cw__emu_memory *found = NULL;

	pthread_rwlock_wrlock(&lock);
	for (size_t i = 0; i < count && !found; i++) {
		if (fn(slots[i].memory, arg))
			found = slots[i].memory;
	}
	if (found)
		cw__emu_memory_hold(found);
	pthread_rwlock_unlock(&lock);
	return found;
}

unsigned cw__emu_memory_unopen(struct cw__emu_memory *memory)
{
	unsigned left = 0;

	pthread_rwlock_wrlock(&lock);
	if (memory->opens)
		left = --memory->opens;
	pthread_rwlock_unlock(&lock);
	return left;
}
