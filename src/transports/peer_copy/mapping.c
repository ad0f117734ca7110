/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of other processes, opened once for each handle in this process, whichever engines want it: what a second
 * opening of the same handle would do differs between runtimes. Called by keepers only, which may wait here for each
 * other.
 */
#include <stdlib.h>
#include <string.h>
#include <transports/peer_copy/inside.h>

struct cw__pc_mapping {
	struct cw__list node; /* guarded by maps_lock, as all below but what is constant */
	const struct cw__gpu *gpu;
	int device;    /* that it was opened on */
	uint64_t base; /* constant when open */
	uint64_t owner_base;
	uint32_t owner_pid;
	unsigned char handle[CW__PC_HANDLE_BYTES];
	unsigned refs;
	enum { OPENING, OPEN, CLOSING } state;
};

static pthread_mutex_t maps_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t maps_changed = PTHREAD_COND_INITIALIZER;
static struct cw__list maps = { &maps, &maps };

static struct cw__pc_mapping *find(const struct cw__gpu *gpu, int device, const struct cw__pc_envelope *envelope)
{
	cw__list_each(node, &maps)
	{
		struct cw__pc_mapping *mapping = cw__container(node, struct cw__pc_mapping, node);

		if (mapping->gpu == gpu && mapping->device == device && mapping->owner_pid == envelope->pid &&
		    mapping->owner_base == envelope->base &&
		    !memcmp(mapping->handle, envelope->handle, sizeof(mapping->handle)))
			return mapping;
	}
	return NULL;
}

/* In the device's context, but without its lock: a copy that does not end must not keep other memory mapped. */
static int call(const struct cw__gpu *gpu, int device, const struct cw__gpu_handle *handle, void **base)
{
	struct cw__gpu_scope scope;
	int result = gpu->enter(device, &scope);

	if (!result) {
		result = handle ? gpu->open_memory(handle, base) : gpu->close_memory(*base);
		gpu->leave(&scope);
	}
	return result;
}

static void drop(struct cw__pc_mapping *mapping)
{
	cw__list_remove(&mapping->node);
	free(mapping);
	pthread_cond_broadcast(&maps_changed);
}

int cw__pc_mapping_open(const struct cw__gpu *gpu, int device, const struct cw__pc_envelope *envelope,
			struct cw__pc_mapping **mapping_out)
{
	struct cw__pc_mapping *mapping, *fresh = calloc(1, sizeof(*fresh));
	struct cw__gpu_handle handle;
	void *base = NULL;
	int result;

	if (!fresh)
		return -1;
	pthread_mutex_lock(&maps_lock);
	while ((mapping = find(gpu, device, envelope)) && mapping->state != OPEN)
		pthread_cond_wait(&maps_changed, &maps_lock);
	if (mapping) {
		mapping->refs++;
		pthread_mutex_unlock(&maps_lock);
		free(fresh);
		*mapping_out = mapping;
		return 0;
	}
	*fresh = (struct cw__pc_mapping){ .gpu = gpu,
					  .device = device,
					  .owner_base = envelope->base,
					  .owner_pid = envelope->pid,
					  .refs = 1,
					  .state = OPENING };
	memcpy(fresh->handle, envelope->handle, sizeof(fresh->handle));
	memcpy(handle.bytes, envelope->handle, sizeof(handle.bytes));
	cw__list_push_back(&maps, &fresh->node);
	pthread_mutex_unlock(&maps_lock);
	result = call(gpu, device, &handle, &base);
	pthread_mutex_lock(&maps_lock);
	if (result) {
		drop(fresh);
	} else {
		fresh->base = (uint64_t)(uintptr_t)base;
		fresh->state = OPEN;
		pthread_cond_broadcast(&maps_changed);
		*mapping_out = fresh;
	}
	pthread_mutex_unlock(&maps_lock);
	return result;
}

void cw__pc_mapping_close(struct cw__pc_mapping *mapping)
{
	void *base = (void *)(uintptr_t)mapping->base;
	int last;

	pthread_mutex_lock(&maps_lock);
	last = --mapping->refs == 0;
	if (last)
		mapping->state = CLOSING;
	pthread_mutex_unlock(&maps_lock);
	if (!last)
		return;
	/* What a failure would mean is not stated anywhere; the handle is not used again either way. */
	(void)call(mapping->gpu, mapping->device, NULL, &base);
	pthread_mutex_lock(&maps_lock);
	drop(mapping);
	pthread_mutex_unlock(&maps_lock);
}

uint64_t cw__pc_mapping_base(const struct cw__pc_mapping *mapping)
{
	return mapping->base;
}
