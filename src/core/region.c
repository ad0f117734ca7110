/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions: registration, the pins that protect their memory while it is touched, revocation and its end. A region's
 * struct lives as long as the engine; its slot is used again under another id, so a stale id is always recognised.
 */
#include <core/naming.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <util/thread.h>

#define BLOCK 256u          /* regions made at once */
#define BLOCKS_MAX 65536u   /* so at most 16 M regions in one engine */
#define NOT_LIVE (1u << 31) /* beside an id in the index: slots are less than that */
#define SEEN_FOR 20000u     /* ns in which memory that was mapped is taken to be so; far less than freeing it takes */

/* ------------------------------------------------------------------------------------------- look-up */

struct cw_region *cw__region_at(struct cw_engine *engine, uint32_t slot)
{
	if (slot >= atomic_load_explicit(&engine->slot_count, memory_order_acquire))
		return NULL;
	return atomic_load_explicit(&engine->slots[slot / BLOCK], memory_order_acquire) + slot % BLOCK;
}

struct cw_region *cw__region_by_id(struct cw_engine *engine, uint64_t id)
{
	return cw__region_at(engine, (uint32_t)id);
}

/* ---------------------------------------------------------------------------------------------- pins */

static int is_revoked(struct cw_region *region, uint64_t from, uint64_t to)
{
	uint32_t count = atomic_load_explicit(&region->revoked_count, memory_order_seq_cst);

	for (uint32_t i = 0; i < count; i++)
		if (from < atomic_load_explicit(&region->revoked[i].to, memory_order_relaxed) &&
		    to > atomic_load_explicit(&region->revoked[i].from, memory_order_relaxed))
			return 1;
	return 0;
}

/* Holds the region's struct still, whatever it is now; undone with cw__region_unpin(). */
static int pin_any(struct cw_region *region)
{
	int counter = (int)(atomic_load_explicit(&region->epoch, memory_order_seq_cst) & 1);

	atomic_fetch_add_explicit(&region->pins[counter], 1, memory_order_seq_cst);
	return counter;
}

int cw__region_is_live(struct cw_region *region, uint64_t id, uint64_t from, uint64_t to)
{
	return atomic_load_explicit(&region->state, memory_order_seq_cst) == CW__REGION_LIVE && region->view.id == id &&
	       !is_revoked(region, from, to);
}

/* The counter is raised before the state is looked at, and revoke() changes the state before it reads the counters: one
 * of the two sees the other. While a pin on a LIVE region is held its view does not change. */
int cw__region_pin(struct cw_region *region, uint64_t id, uint64_t from, uint64_t to)
{
	int counter = pin_any(region);

	if (cw__region_is_live(region, id, from, to))
		return counter;
	cw__region_unpin(region, counter);
	return CW_ERR_STALE_REGION;
}

int cw__region_is_there(struct cw_region *region)
{
	uint64_t page = region->memory.page_size, now, from;

	if (!region->engine->verify_memory || region->allocation.address || region->view.device >= 0 || !page)
		return 1;
	now = cw__now();
	if (now - atomic_load_explicit(&region->seen_at, memory_order_relaxed) < SEEN_FOR)
		return 1;
	/* Writes nothing back any more, but still looks for holes: the cheapest question there is. */
	from = region->view.address - region->view.address % page;
	if (msync((void *)(uintptr_t)from, region->view.address + region->view.length - from, MS_ASYNC) &&
	    errno == ENOMEM)
		return 0;
	atomic_store_explicit(&region->seen_at, now, memory_order_relaxed);
	return 1;
}

int cw__region_pin_any(struct cw_region *region)
{
	int counter = pin_any(region);

	if (atomic_load_explicit(&region->state, memory_order_seq_cst) == CW__REGION_LIVE)
		return counter;
	cw__region_unpin(region, counter);
	return CW_ERR_STALE_REGION;
}

/* The index alone knows: the region itself is not touched. */
struct cw_region *cw__region_lookup(struct cw_engine *engine, uint64_t address, uint64_t length, uint64_t *id_out)
{
	struct cw__indexed found;

	if (!cw__index_find(engine->index, address, &found) || found.value & NOT_LIVE || length > found.to - address)
		return NULL;
	*id_out = found.value;
	return cw__region_by_id(engine, found.value);
}

void cw__region_unpin(struct cw_region *region, int counter)
{
	atomic_fetch_sub_explicit(&region->pins[counter], 1, memory_order_release);
}

/* ------------------------------------------------------------------------------------------- slots */

/* With the region lock: a region to fill in. */
static struct cw_region *slot_take(struct cw_engine *engine)
{
	struct cw_region *region = engine->free_regions, *block;
	uint32_t count = atomic_load_explicit(&engine->slot_count, memory_order_relaxed);

	if (region) {
		engine->free_regions = region->next_free;
		return region;
	}
	if (count / BLOCK == BLOCKS_MAX)
		return NULL;
	block = aligned_alloc(_Alignof(struct cw_region), BLOCK * sizeof(*block));
	if (!block)
		return NULL;
	memset(block, 0, BLOCK * sizeof(*block));
	for (uint32_t i = BLOCK; i > 0; i--) {
		region = &block[i - 1];
		region->engine = engine;
		region->slot = count + i - 1;
		pthread_mutex_init(&region->revoke_lock, NULL);
		region->next_free = engine->free_regions;
		engine->free_regions = region;
	}
	atomic_store_explicit(&engine->slots[count / BLOCK], block, memory_order_release);
	atomic_store_explicit(&engine->slot_count, count + BLOCK, memory_order_release);
	return slot_take(engine);
}

static void slot_give(struct cw_engine *engine, struct cw_region *region)
{
	atomic_store_explicit(&region->state, CW__REGION_FREE, memory_order_seq_cst);
	region->next_free = engine->free_regions;
	engine->free_regions = region;
	atomic_fetch_sub_explicit(&engine->regions_alive, 1, memory_order_relaxed);
}

/* -------------------------------------------------------------------------------------- registration */

static const char *claim_text(int status)
{
	switch (status) {
	case CW_ERR_INVALID:
		return "it is not mapped; map it before registering";
	case CW_ERR_UNSUPPORTED:
		return "the CPU cannot read it, and no platform knows it; see `causeway transports`";
	case CW_ERR_TIMED_OUT:
		return "the runtime of some devices was asked whether it is theirs and does not come back";
	default:
		return cw_strerror(status);
	}
}

/* Asks the platforms whose memory it is and whether the stated location agrees. */
static int identify(struct cw_engine *engine, struct cw_region *region, const char *location)
{
	for (unsigned i = 0; i < engine->platform_count; i++) {
		struct cw__platform_part *platform = &engine->platforms[i];
		int status;

		/* Of what the engine has allocated it is known whose it is. */
		if (!platform->on || (region->allocation.address && i != region->platform))
			continue;
		status = platform->ops->claim(platform->state, (void *)(uintptr_t)region->view.address,
					      region->view.length, &region->memory);
		if (status == CW_ERR_NOT_FOUND)
			continue;
		if (status)
			return cw__fail(status, "memory 0x%llx + %llu: %s", (unsigned long long)region->view.address,
					(unsigned long long)region->view.length, claim_text(status));
		region->platform = i;
		region->view.platform = platform->ops->name;
		region->view.allocation_base = region->memory.allocation_base;
		region->view.allocation_length = region->memory.allocation_length;
		if (!location || !strcmp(location, "*"))
			return CW_OK;
		status = platform->ops->location(platform->state, location, &region->memory);
		if (!status)
			return CW_OK;
		return cw__fail(CW_ERR_LOCATION,
				"location '%s' was stated, but this memory is %s; state \"*\" to have it "
				"found",
				location, region->memory.location);
	}
	return cw__fail(CW_ERR_UNSUPPORTED, "no platform knows the memory at 0x%llx",
			(unsigned long long)region->view.address);
}

static void attach(struct cw_region *region)
{
	struct cw_engine *engine = region->engine;

	for (unsigned i = 0; i < engine->part_count; i++) {
		struct cw__part *part = &engine->parts[i];

		region->attachments[i] = NULL;
		region->attached[i] = 0;
		if (part->on)
			region->attached[i] = !part->ops->attach ||
					      !part->ops->attach(part->state, &region->view, &region->attachments[i]);
		atomic_store_explicit(&region->progress, 100 * (i + 1) / engine->part_count, memory_order_relaxed);
	}
}

void cw__region_detach(struct cw_region *region)
{
	struct cw_engine *engine = region->engine;

	for (unsigned i = 0; i < engine->part_count; i++)
		if (region->attached[i] && engine->parts[i].ops->detach)
			engine->parts[i].ops->detach(engine->parts[i].state, region->attachments[i]);
	memset(region->attached, 0, sizeof(region->attached));
}

/* Look-ups find it when it is LIVE. Its range stays taken anyway. */
void cw__region_index(struct cw_region *region)
{
	struct cw_engine *engine = region->engine;
	int live;

	pthread_mutex_lock(&engine->region_lock);
	live = atomic_load_explicit(&region->state, memory_order_seq_cst) == CW__REGION_LIVE;
	cw__index_set(engine->index, region->view.address, region->view.id | (live ? 0 : NOT_LIVE));
	pthread_mutex_unlock(&engine->region_lock);
}

/* Finds out what the memory is and tells the transports; then the region is LIVE or FAILED. No lock held. */
int cw__region_establish(struct cw_region *region, const char *location)
{
	int status = identify(region->engine, region, location);

	if (!status) {
		region->view.kind = region->memory.kind;
		region->view.device = region->memory.device;
		region->view.numa_node = region->memory.numa_node;
		attach(region);
	} else {
		region->failure = status;
		region->failure_text = strdup(cw_last_error());
	}
	atomic_store_explicit(&region->progress, 100, memory_order_relaxed);
	atomic_store_explicit(&region->state, status ? CW__REGION_FAILED : CW__REGION_LIVE, memory_order_seq_cst);
	if (!status)
		cw__region_index(region);
	if (atomic_load_explicit(&region->settling, memory_order_seq_cst))
		cw__futex_wake_all(&region->state);
	return status;
}

static int check_options(struct cw_engine *engine, const void *address, size_t length,
			 const struct cw_region_options *options, struct cw_region_options *known_out)
{
	static const struct cw_region_options defaults = CW_REGION_OPTIONS_INIT;
	int status = cw__engine_check(engine);

	if (status)
		return status;
	*known_out = options ? *options : defaults;
	if (known_out->size != sizeof(*known_out))
		return cw__fail(CW_ERR_INVALID, "region options: wrong size; use CW_REGION_OPTIONS_INIT");
	if (known_out->access > CW_ACCESS_REMOTE || known_out->flags)
		return cw__fail(CW_ERR_INVALID, "region options: unknown access rights or flags");
	if (!address || !length || (uintptr_t)address > UINTPTR_MAX - length)
		return cw__fail(CW_ERR_INVALID, "cannot register %zu bytes at %p: empty or wraps", length, address);
	return CW_OK;
}

/* With the region lock. An identical live registration is counted; CW_ERR_AGAIN = none, make a new one. */
static int count_identical(struct cw_engine *engine, uint64_t from, uint64_t length, uint32_t access,
			   struct cw_region **region_out)
{
	struct cw__indexed found;
	struct cw_region *region;

	if (!cw__index_meet(engine->index, from, from + length, &found))
		return CW_ERR_AGAIN;
	region = cw__region_by_id(engine, found.value & ~(uint64_t)NOT_LIVE);
	if (region->view.address != from || region->view.length != length)
		return cw__fail(CW_ERR_OVERLAP,
				"0x%llx + %llu overlaps the region 0x%llx + %llu; unregister that one first",
				(unsigned long long)from, (unsigned long long)length,
				(unsigned long long)region->view.address, (unsigned long long)region->view.length);
	if (region->view.access != access)
		return cw__fail(CW_ERR_OVERLAP, "0x%llx + %llu is registered with other access rights",
				(unsigned long long)from, (unsigned long long)length);
	if (atomic_load_explicit(&region->state, memory_order_acquire) >= CW__REGION_REVOKED || region->freeing)
		return cw__fail(CW_ERR_OVERLAP, "0x%llx + %llu is revoked but not unregistered yet",
				(unsigned long long)from, (unsigned long long)length);
	region->registrations++;
	*region_out = region;
	return CW_OK;
}

/* With the region lock. */
static int random_key(struct cw_engine *engine, uint64_t *key_out)
{
	if (!engine->keys_left) {
		if (getrandom(engine->keys, sizeof(engine->keys), 0) != sizeof(engine->keys))
			return cw__fail(CW_ERR_INTERNAL, "no random numbers: %s", strerror(errno));
		engine->keys_left = CW__KEYS;
	}
	*key_out = engine->keys[--engine->keys_left];
	engine->keys[engine->keys_left] = 0; /* known to its region alone */
	return CW_OK;
}

/* With the region lock: a new region in state REGISTERING, in the index. */
static int region_new(struct cw_engine *engine, uint64_t from, uint64_t length, uint32_t access,
		      struct cw_region **region_out)
{
	struct cw_region *region = slot_take(engine);
	uint64_t key = 0, id;

	if (!region)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory for another region");
	atomic_fetch_add_explicit(&engine->regions_alive, 1, memory_order_relaxed);
	id = (uint64_t)++region->generation << 32 | region->slot;
	if (random_key(engine, &key) || cw__index_insert(engine->index, from, from + length, id | NOT_LIVE)) {
		slot_give(engine, region);
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory for another region");
	}
	region->view = (struct cw_region_view){
		.id = id,
		.key = key,
		.address = from,
		.length = length,
		.access = access,
		.device = -1,
		.numa_node = -1,
		.share_fd = -1,
	};
	atomic_store_explicit(&region->revoked_count, 0, memory_order_relaxed);
	atomic_store_explicit(&region->ticket, 0, memory_order_relaxed);
	atomic_store_explicit(&region->seen_at, 0, memory_order_relaxed);
	memset(&region->allocation, 0, sizeof(region->allocation));
	region->registrations = 1;
	region->freeing = 0;
	region->failure = CW_OK;
	free(region->failure_text);
	region->failure_text = NULL;
	region->has_worker = 0;
	atomic_store_explicit(&region->progress, 0, memory_order_relaxed);
	atomic_store_explicit(&region->state, CW__REGION_REGISTERING, memory_order_seq_cst);
	*region_out = region;
	return CW_OK;
}

void cw__region_drop(struct cw_region *region)
{
	struct cw_engine *engine = region->engine;

	pthread_mutex_lock(&engine->region_lock);
	cw__index_remove(engine->index, region->view.address);
	slot_give(engine, region);
	pthread_mutex_unlock(&engine->region_lock);
}

/* CW_OK with *fresh_out = 1: the caller must cw__region_establish() it. */
int cw__region_admit(struct cw_engine *engine, const void *address, size_t length, uint32_t access, int *fresh_out,
		     struct cw_region **region_out)
{
	uint64_t from = (uint64_t)(uintptr_t)address;
	int status;

	pthread_mutex_lock(&engine->region_lock);
	status = count_identical(engine, from, length, access, region_out);
	*fresh_out = status == CW_ERR_AGAIN;
	if (*fresh_out)
		status = region_new(engine, from, length, access, region_out);
	pthread_mutex_unlock(&engine->region_lock);
	return status;
}

int cw_region_register(struct cw_engine *engine, void *address, size_t length, const struct cw_region_options *options,
		       struct cw_region **region_out)
{
	struct cw_region_options known;
	struct cw_region *region = NULL;
	int fresh = 0, status = check_options(engine, address, length, options, &known);

	if (!status)
		status = cw__region_admit(engine, address, length, known.access, &fresh, &region);
	if (status)
		return status;
	if (fresh) {
		status = cw__region_establish(region, known.location);
		if (status) {
			cw__region_drop(region);
			return status;
		}
		cw__region_publish(region, CW_FOREVER);
	} else {
		status = cw_region_ready(region, CW_FOREVER, NULL);
		if (status)
			return status;
	}
	*region_out = region;
	return CW_OK;
}

struct async_job {
	struct cw_region *region;
	char location[64];
	int has_location;
};

static void *async_main(void *arg)
{
	struct async_job job = *(struct async_job *)arg;

	free(arg);
	if (!cw__region_establish(job.region, job.has_location ? job.location : NULL))
		cw__region_publish(job.region, CW_FOREVER);
	return NULL;
}

int cw_region_register_async(struct cw_engine *engine, void *address, size_t length,
			     const struct cw_region_options *options, struct cw_region **region_out)
{
	struct cw_region_options known;
	struct cw_region *region = NULL;
	struct async_job *job;
	int fresh = 0, status = check_options(engine, address, length, options, &known);

	if (!status)
		status = cw__region_admit(engine, address, length, known.access, &fresh, &region);
	if (status || !fresh) {
		if (!status)
			*region_out = region;
		return status;
	}
	job = calloc(1, sizeof(*job));
	if (job) {
		job->region = region;
		job->has_location = known.location != NULL;
		snprintf(job->location, sizeof(job->location), "%s", known.location ? known.location : "");
		region->has_worker = !cw__thread_start(&region->worker, NULL, async_main, job);
	}
	if (!job || !region->has_worker) {
		free(job);
		cw__region_drop(region);
		return cw__fail(CW_ERR_NO_MEMORY, "cannot start a thread for the registration");
	}
	*region_out = region;
	return CW_OK;
}

/* Waits until it is what it will be for this process; peers may not find it yet. */
int cw__region_settle(struct cw_region *region, uint64_t timeout, unsigned *progress_out)
{
	uint64_t until;
	int status = region ? cw__engine_check(region->engine) : cw__fail(CW_ERR_INVALID, "no region");

	if (status)
		return status;
	if (atomic_load_explicit(&region->state, memory_order_acquire) == CW__REGION_REGISTERING && timeout) {
		until = cw__after(cw__now(), timeout);
		atomic_fetch_add_explicit(&region->settling, 1, memory_order_seq_cst);
		while (atomic_load_explicit(&region->state, memory_order_seq_cst) == CW__REGION_REGISTERING &&
		       cw__futex_wait(&region->state, CW__REGION_REGISTERING, until) == CW_OK)
			;
		atomic_fetch_sub_explicit(&region->settling, 1, memory_order_relaxed);
	}
	if (progress_out)
		*progress_out = atomic_load_explicit(&region->progress, memory_order_relaxed);
	switch (atomic_load_explicit(&region->state, memory_order_acquire)) {
	case CW__REGION_REGISTERING:
		return CW_ERR_AGAIN;
	case CW__REGION_LIVE:
		return CW_OK;
	case CW__REGION_FAILED:
		return cw__fail(region->failure, "%s",
				region->failure_text ? region->failure_text : cw_strerror(region->failure));
	default:
		return cw__fail(CW_ERR_STALE_REGION, "the region was revoked");
	}
}

int cw_region_ready(struct cw_region *region, uint64_t timeout, unsigned *progress_out)
{
	uint64_t until = cw__after(cw__now(), timeout);
	int status = cw__region_settle(region, timeout, progress_out);

	return status ? status : cw__region_publish(region, until);
}

/* -------------------------------------------------------------------------------------- what users ask */

int cw_region_info_get(struct cw_region *region, struct cw_region_info *info_out)
{
	int status = region ? cw__engine_check(region->engine) : cw__fail(CW_ERR_INVALID, "no region");

	if (!status && (!info_out || info_out->size != sizeof(*info_out)))
		status = cw__fail(CW_ERR_INVALID, "region info: set its size");
	if (!status)
		status = cw__region_settle(region, CW_FOREVER, NULL);
	if (status)
		return status;
	pthread_mutex_lock(&region->engine->region_lock); /* against another registration, or the end, of the same range
							   */
	*info_out = (struct cw_region_info){
		.size = sizeof(*info_out),
		.address = region->view.address,
		.length = region->view.length,
		.allocation_base = region->memory.allocation_base,
		.allocation_length = region->memory.allocation_length,
		.kind = region->memory.kind,
		.device = region->memory.device,
		.numa_node = region->memory.numa_node,
		.access = region->view.access,
		.page_size = region->memory.page_size,
		.registrations = region->registrations,
		.engine_owned = region->allocation.address != NULL,
	};
	memcpy(info_out->location, region->memory.location, sizeof(info_out->location));
	pthread_mutex_unlock(&region->engine->region_lock);
	return CW_OK;
}

int cw_region_find(struct cw_engine *engine, const void *address, size_t length, struct cw_region **region_out)
{
	int status = cw__engine_check(engine);
	struct cw_region *region;
	uint64_t id;

	if (status)
		return status;
	region = cw__region_lookup(engine, (uint64_t)(uintptr_t)address, length, &id);
	if (!region)
		return cw__fail(CW_ERR_NOT_REGISTERED, "%p + %zu is not inside a registered region", address, length);
	*region_out = region;
	return CW_OK;
}

/* At close: no loop runs and no peer is left. */
void cw__regions_close(struct cw_engine *engine)
{
	uint32_t count = atomic_load_explicit(&engine->slot_count, memory_order_relaxed);

	for (uint32_t slot = 0; slot < count; slot++) {
		struct cw_region *region = cw__region_at(engine, slot);

		if (atomic_load_explicit(&region->state, memory_order_acquire) == CW__REGION_FREE)
			continue;
		if (region->has_worker)
			pthread_join(region->worker, NULL);
		cw__region_detach(region);
		if (engine->kept) /* some of it may still be copied from or to */
			region->allocation.address = NULL;
		cw__region_release_memory(region);
	}
	if (engine->kept)
		return;
	for (uint32_t block = 0; block < count / BLOCK; block++) {
		struct cw_region *regions = atomic_load_explicit(&engine->slots[block], memory_order_relaxed);

		for (uint32_t i = 0; i < BLOCK; i++) {
			pthread_mutex_destroy(&regions[i].revoke_lock);
			free(regions[i].failure_text);
			free(regions[i].revoked);
		}
		free(regions);
	}
	free(engine->slots);
	cw__index_close(engine->index);
}
