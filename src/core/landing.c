/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory that a peer touches through a transport which touches host memory only: between access_begin() and
 * access_end() its bytes are in a piece of host memory. Those pairs are short and stay in one thread, so each loop (and
 * each stager) has one arena of a chunk, in which grants lie one behind the other until the last of them has ended.
 */
#include <core/device.h>
#include <stdlib.h>

#define ALIGNMENT 64u
#define GRANTS_MAX 64u /* that fit when they add up to a chunk */
#define ARENA_BYTES (CW_CHUNK_MAX + GRANTS_MAX * 2 * ALIGNMENT)

/* In front of the bytes of a grant. */
struct granted {
	struct cw__arena *arena; /* NULL = memory of its own */
	uint64_t address;
	uint8_t op;
};
_Static_assert(sizeof(struct granted) <= ALIGNMENT, "bytes keep their alignment");

static _Thread_local struct cw__arena *own_arena;

void cw__arena_own(struct cw__arena *arena)
{
	own_arena = arena;
}

void cw__arena_free(struct cw__arena *arena)
{
	free(arena->memory);
	arena->memory = NULL;
}

int cw__device_reachable(const struct cw_engine *engine, const struct cw_region *region)
{
	const struct cw_platform_ops *ops = engine->platforms[region->platform].ops;

	return ops->copy_in && ops->copy_out;
}

int cw__device_copy(struct cw_engine *engine, const struct cw_region *region, int to_device, uint64_t address,
		    void *buffer, uint64_t length)
{
	const struct cw__platform_part *platform = &engine->platforms[region->platform];
	void *there = (void *)(uintptr_t)address;
	int status;

	if (to_device)
		status = platform->ops->copy_in(platform->state, region->view.device, there, buffer, length);
	else
		status = platform->ops->copy_out(platform->state, region->view.device, buffer, there, length);
	return !status || status == CW_ERR_UNSUPPORTED ? status : CW_ERR_IO;
}

/* Room for at most *length bytes, which may become less, behind a header. */
static int take(struct cw__arena *arena, uint64_t *length, struct granted **granted_out)
{
	size_t room;

	if (!arena) { /* a thread of a part's own */
		*granted_out = aligned_alloc(ALIGNMENT, ARENA_BYTES);
		return *granted_out ? CW_OK : CW_ERR_NO_MEMORY;
	}
	if (!arena->memory)
		arena->memory = aligned_alloc(ALIGNMENT, ARENA_BYTES);
	if (!arena->memory)
		return CW_ERR_NO_MEMORY;
	room = ARENA_BYTES - arena->used;
	if (room <= ALIGNMENT)
		return CW_ERR_AGAIN;
	if (*length > room - ALIGNMENT)
		*length = room - ALIGNMENT;
	*granted_out = (struct granted *)(void *)(arena->memory + arena->used);
	arena->used += ALIGNMENT + (((size_t)*length + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1));
	arena->grants++;
	return CW_OK;
}

static void give(struct granted *granted)
{
	struct cw__arena *arena = granted->arena;

	if (!arena)
		free(granted);
	else if (--arena->grants == 0)
		arena->used = 0;
}

int cw__landing_begin(struct cw_engine *engine, const struct cw_region *region, const struct cw_claim *claim,
		      struct cw_grant *grant)
{
	struct cw_loop *loop = cw__loop_current();
	struct cw__arena *arena = own_arena ? own_arena : loop ? &loop->arena : NULL;
	uint64_t length = claim->length < CW_CHUNK_MAX ? claim->length : CW_CHUNK_MAX;
	struct granted *granted;
	int status;

	if (!cw__device_reachable(engine, region))
		return CW_ERR_UNSUPPORTED;
	if (cw__staging_stopped(engine))
		return CW_ERR_CLOSED;
	status = take(arena, &length, &granted);
	if (status)
		return status;
	*granted = (struct granted){ arena, claim->address, claim->op };
	grant->pointer = (unsigned char *)granted + ALIGNMENT;
	grant->length = length;
	grant->landing = granted;
	if (claim->op == CW_OP_READ)
		status = cw__device_copy(engine, region, 0, claim->address, grant->pointer, length);
	/* A device that held us up for long: whoever waits for these bytes may be gone. */
	if (!status && cw__staging_stopped(engine))
		status = CW_ERR_CLOSED;
	if (status)
		give(granted);
	return status;
}

int cw__landing_end(struct cw_engine *engine, const struct cw_region *region, struct cw_grant *grant, uint64_t moved)
{
	struct granted *granted = grant->landing;
	int status = CW_OK;

	if (granted->op == CW_OP_WRITE && moved)
		status = cw__device_copy(engine, region, 1, granted->address, grant->pointer, moved);
	give(granted);
	grant->landing = NULL;
	return status;
}
