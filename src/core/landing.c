/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory that a peer touches through a transport which touches host memory only: between access_begin() and
 * access_end() its bytes are in a piece of host memory. Those pairs are short and stay in one thread, so each loop (and
 * each stager) has one arena of a chunk, in which grants lie one behind the other until the last of them has ended. A
 * loop has stagers make the copies and waits for them, but not for ever.
 */
#include <core/device.h>
#include <stdlib.h>

#define ALIGNMENT 64u
#define HEADER 128u
#define GRANTS_MAX 64u /* that fit when they add up to a chunk */
#define ARENA_BYTES (CW_CHUNK_MAX + GRANTS_MAX * (HEADER + ALIGNMENT))

/* refs: the arena's, and that of each grant that lies in it. Only the arena's thread adds some. */
struct cw__arena_block {
	_Atomic int refs;
	size_t used;
};

/* In front of the bytes of a grant. */
struct granted {
	struct cw__land land; /* first */
	struct cw__arena_block *block;
	int counter; /* of the region's pin, when it is ours */
	uint8_t op;
};
_Static_assert(sizeof(struct granted) <= HEADER && HEADER % ALIGNMENT == 0, "bytes keep their alignment");
_Static_assert(sizeof(struct cw__arena_block) <= ALIGNMENT, "so do grants");

static _Thread_local struct cw__arena *own_arena;

void cw__arena_own(struct cw__arena *arena)
{
	own_arena = arena;
}

static void block_put(struct cw__arena_block *block)
{
	if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1)
		free(block);
}

void cw__arena_free(struct cw__arena *arena)
{
	if (arena->block)
		block_put(arena->block);
	arena->block = NULL;
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

static struct cw__arena_block *block_new(void)
{
	struct cw__arena_block *block = aligned_alloc(ALIGNMENT, ALIGNMENT + ARENA_BYTES);

	if (block)
		*block = (struct cw__arena_block){ .refs = 1 };
	return block;
}

/* Room for at most *length bytes, which may become less, behind a header. */
static int take(struct cw__arena *arena, uint64_t *length, struct granted **granted_out)
{
	struct cw__arena_block *block = arena && arena->block ? arena->block : block_new();
	struct granted *granted;
	size_t room;

	if (!block)
		return CW_ERR_NO_MEMORY;
	if (arena) {
		arena->block = block;
		if (atomic_load_explicit(&block->refs, memory_order_acquire) == 1)
			block->used = 0;
		atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
	} /* else a thread of a part's own: the grant is the only one who has it */
	room = ARENA_BYTES - block->used;
	if (room <= HEADER) {
		block_put(block);
		return CW_ERR_AGAIN;
	}
	if (*length > room - HEADER)
		*length = room - HEADER;
	granted = (struct granted *)(void *)((unsigned char *)block + ALIGNMENT + block->used);
	block->used += HEADER + (((size_t)*length + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1));
	*granted = (struct granted){ .block = block };
	*granted_out = granted;
	return CW_OK;
}

/* The device has come back to what nobody waited for any more. */
static void left(struct cw__land *land)
{
	struct granted *granted = (struct granted *)land;

	cw__region_unpin(land->region, granted->counter);
	block_put(granted->block);
}

/* The bytes of a grant, to the device or from there. A loop does not wait long for that; then the device has the
 * region's pin, and the block, in which nothing else is put any more. */
static int bring(struct cw_engine *engine, struct granted *granted, uint64_t length, int *keeps_out)
{
	struct cw__land *land = &granted->land;
	struct cw_loop *loop = cw__loop_current();
	int status;

	land->length = length;
	land->to_device = granted->op == CW_OP_WRITE;
	if (own_arena || !loop)
		return cw__device_copy(engine, land->region, land->to_device, land->address, land->buffer, length);
	land->left = left;
	status = cw__staging_land(engine, land);
	if (status != CW_ERR_BUSY)
		return status;
	*keeps_out = 1;
	if (loop->arena.block == granted->block)
		cw__arena_free(&loop->arena);
	return status;
}

int cw__landing_begin(struct cw_engine *engine, struct cw_region *region, int counter, const struct cw_claim *claim,
		      struct cw_grant *grant, int *keeps_out)
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
	granted->op = claim->op;
	granted->counter = counter;
	granted->land.region = region;
	granted->land.address = claim->address;
	granted->land.buffer = (unsigned char *)granted + HEADER;
	grant->pointer = granted->land.buffer;
	grant->length = length;
	grant->landing = granted;
	if (claim->op == CW_OP_READ)
		status = bring(engine, granted, length, keeps_out);
	if (*keeps_out)
		return CW_ERR_IO; /* reading leaves nothing behind */
	/* A device that held us up for long: whoever waits for these bytes may be gone. */
	if (!status && cw__staging_stopped(engine))
		status = CW_ERR_CLOSED;
	if (status)
		block_put(granted->block);
	return status;
}

int cw__landing_end(struct cw_engine *engine, struct cw_grant *grant, uint64_t moved, int *keeps_out)
{
	struct granted *granted = grant->landing;
	int status = CW_OK;

	grant->landing = NULL;
	if (granted->op == CW_OP_WRITE && moved)
		status = bring(engine, granted, moved, keeps_out);
	if (!*keeps_out)
		block_put(granted->block);
	return status;
}
