/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvlink_allocator.so: device memory behind the symbols that Mooncake's allocator has, for torch's pluggable allocator
 * and for whoever calls them. It takes the first vendor whose runtime is present, in the order of vendors.def.
 *
 * Memory is what the runtime's own allocation gives, which other processes of this machine can open, unless
 * MC_FORCE_MNNVL asks for fabric memory and the device has it. Every block is remembered, so that only what came from
 * here is freed here, whatever device and size the caller names. The caller's current device stays what it was.
 */
#include <mooncake/allocator/fabric.h>
#include <platforms/gpu/gpu.h>
#include <pthread.h>
#include <search.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#define EXPORTED __attribute__((visibility("default")))

/* Of mc_allocator_probe(). */
enum backend { PLAIN = 0, FABRIC = 1, UNKNOWN = -1, UNSUPPORTED = -2 };

EXPORTED void *mc_allocator_malloc(ssize_t size, int device, void *stream);
EXPORTED void mc_allocator_free(void *address, ssize_t size, int device, void *stream);
EXPORTED void *mc_nvlink_malloc(ssize_t size, int device, void *stream);
EXPORTED void mc_nvlink_free(void *address, ssize_t size, int device, void *stream);
EXPORTED int mc_allocator_probe(int device);
EXPORTED int mc_probe_fabric_support(int device);

struct block { /* in the tree until it is freed */
	void *address;
	int device, is_fabric;
	struct fabric_block fabric;
};

static void *blocks; /* of tsearch(3), by address */
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;

#define SAY(...) fprintf(stderr, "nvlink_allocator: " __VA_ARGS__)

/* ----------------------------------------------------------------------------------------- devices */

/* The vendor of this process, or NULL when it has no device. */
static const struct cw__gpu *find_gpu(const char **why_out)
{
	const struct cw__gpu *gpu = NULL;

	for (unsigned i = 0; !gpu && i < CW__GPU_VENDORS; i++)
		gpu = cw__gpu_load(i, why_out);
	return gpu;
}

static int has_device(const struct cw__gpu *gpu, int device)
{
	return device >= 0 && device < (int)gpu->device_count;
}

/* Asked once for each device: 0 = not asked yet, 1 = no, 2 = yes. */
static int can_fabric(const struct cw__gpu *gpu, int device)
{
	static _Atomic int answers[CW__GPU_DEVICES_MAX];
	int answer = atomic_load_explicit(&answers[device], memory_order_relaxed);

	if (!answer) {
		answer = 1 + fabric_is_supported(gpu, device);
		atomic_store_explicit(&answers[device], answer, memory_order_relaxed);
	}
	return answer == 2;
}

static int wants_fabric(const struct cw__gpu *gpu, int device)
{
	return getenv("MC_FORCE_MNNVL") && can_fabric(gpu, device);
}

int mc_probe_fabric_support(int device)
{
	const char *why;
	const struct cw__gpu *gpu = find_gpu(&why);

	return gpu && has_device(gpu, device) && can_fabric(gpu, device);
}

int mc_allocator_probe(int device)
{
	const char *why;
	const struct cw__gpu *gpu = find_gpu(&why);

	if (!gpu)
		return UNSUPPORTED;
	if (!has_device(gpu, device))
		return UNKNOWN;
	return wants_fabric(gpu, device) ? FABRIC : PLAIN;
}

/* ------------------------------------------------------------------------------------------ blocks */

static int compare(const void *left, const void *right)
{
	const struct block *a = left, *b = right;

	return (a->address > b->address) - (a->address < b->address);
}

static int remember(struct block *block)
{
	void *node;

	pthread_mutex_lock(&blocks_lock);
	node = tsearch(block, &blocks, compare);
	pthread_mutex_unlock(&blocks_lock);
	return node ? 0 : -1;
}

/* Takes the block of an address out of the tree; NULL when it is none of ours, or was freed before. */
static struct block *forget(void *address)
{
	const struct block wanted = { .address = address };
	struct block *block = NULL;
	void *node;

	pthread_mutex_lock(&blocks_lock);
	node = tfind(&wanted, &blocks, compare);
	if (node) {
		block = *(struct block **)node;
		tdelete(&wanted, &blocks, compare);
	}
	pthread_mutex_unlock(&blocks_lock);
	return block;
}

/* --------------------------------------------------------------------------------- allocate and free */

/* On the device that was entered. */
static int allocate(const struct cw__gpu *gpu, struct block *block, size_t size)
{
	int result;

	if (!block->is_fabric)
		return gpu->allocate(&block->address, size);
	result = fabric_allocate(gpu, block->device, size, &block->fabric);
	if (!result)
		block->address = (void *)(uintptr_t)block->fabric.address;
	return result;
}

static int release(const struct cw__gpu *gpu, const struct block *block, void *stream)
{
	if (!block->is_fabric)
		return gpu->release(block->address);
	/* To unmap does not wait for the device, as the runtime's own call does. */
	if (gpu->stream_finish)
		gpu->stream_finish(stream);
	return fabric_release(gpu, &block->fabric);
}

void *mc_allocator_malloc(ssize_t size, int device, void *stream)
{
	const char *why = "";
	const struct cw__gpu *gpu;
	struct cw__gpu_scope scope;
	struct block *block;
	int result;

	(void)stream;
	if (size <= 0)
		return SAY("cannot allocate %zd bytes\n", size), NULL;
	gpu = find_gpu(&why);
	if (!gpu)
		return SAY("no device runtime is present: %s\n", why), NULL;
	if (!has_device(gpu, device))
		return SAY("there is no device %d; %s has %u\n", device, gpu->name, gpu->device_count), NULL;
	block = calloc(1, sizeof(*block));
	if (!block)
		return SAY("out of memory\n"), NULL;
	block->device = device;
	block->is_fabric = wants_fabric(gpu, device);
	result = gpu->enter(device, &scope);
	if (result)
		goto fail;
	result = allocate(gpu, block, (size_t)size);
	if (!result && block->address && remember(block)) {
		release(gpu, block, NULL);
		block->address = NULL;
	}
	gpu->leave(&scope);
	if (result || !block->address)
		goto fail;
	return block->address;
fail:
	SAY("%zd bytes on %s:%d: %d, %s\n", size, gpu->name, device, result,
	    result ? gpu->error_text(result) : "out of memory");
	free(block);
	return NULL;
}

void mc_allocator_free(void *address, ssize_t size, int device, void *stream)
{
	const char *why = "";
	const struct cw__gpu *gpu;
	struct cw__gpu_scope scope;
	struct block *block;
	int result;

	(void)size;
	(void)device;
	if (!address)
		return;
	block = forget(address);
	gpu = block ? find_gpu(&why) : NULL;
	if (!gpu) {
		SAY("%p was not allocated here, or is free already%s%s\n", address, *why ? ": " : "", why);
		free(block);
		return;
	}
	result = gpu->enter(block->device, &scope);
	if (!result) {
		result = release(gpu, block, stream);
		gpu->leave(&scope);
	}
	if (result)
		SAY("freeing %p on %s:%d: %d, %s\n", address, gpu->name, block->device, result,
		    gpu->error_text(result));
	free(block);
}

void *mc_nvlink_malloc(ssize_t size, int device, void *stream)
{
	return mc_allocator_malloc(size, device, stream);
}

void mc_nvlink_free(void *address, ssize_t size, int device, void *stream)
{
	mc_allocator_free(address, size, device, stream);
}
