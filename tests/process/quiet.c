/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clean run from end to end: two engines in one process, memory, a segment, a write and a read with a notification,
 * and everything given back. It must print nothing, neither from here nor from the library; `./do check quiet` looks.
 */
#include <causeway/causeway.h>

#include <string.h>

#define LENGTH (1u << 20)

/* Moves the whole of local to or from remote; 0 when it completed. */
static int move(struct cw_engine *engine, struct cw_segment *segment, enum cw_op op, void *local, void *remote)
{
	struct cw_request request = {
		.segment = segment,
		.op = op,
		.local = { .base = (uint64_t)(uintptr_t)local, .page_size = LENGTH, .count = 1 },
		.remote = { .base = (uint64_t)(uintptr_t)remote, .page_size = LENGTH, .count = 1 },
	};
	struct cw_notify notify = { .name = "quiet", .data = "done", .length = 4 };
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch *batch;
	int moved;

	options.notify = &notify;
	options.notify_count = 1;
	if (cw_batch_submit(engine, &request, 1, &options, &batch) != CW_OK)
		return 1;
	moved = cw_batch_wait(batch, CW_FOREVER) == CW_OK && cw_batch_poll(batch) == CW_BATCH_COMPLETED;
	cw_batch_release(batch);
	return !moved;
}

int main(void)
{
	struct cw_engine *initiator, *target;
	struct cw_region *here, *there;
	struct cw_segment *segment;
	void *local, *remote;

	if (cw_engine_open(NULL, &target) != CW_OK || cw_engine_open(NULL, &initiator) != CW_OK)
		return 1;
	if (cw_memory_allocate(target, LENGTH, NULL, &remote, &there) != CW_OK ||
	    cw_memory_allocate(initiator, LENGTH, NULL, &local, &here) != CW_OK)
		return 2;
	if (cw_segment_open(initiator, cw_engine_name(target), NULL, &segment) != CW_OK)
		return 3;
	memset(local, 0x5a, LENGTH);
	if (move(initiator, segment, CW_OP_WRITE, local, remote) != 0)
		return 4;
	memset(local, 0, LENGTH);
	if (move(initiator, segment, CW_OP_READ, local, remote) != 0 || memcmp(local, remote, LENGTH) != 0)
		return 5;
	cw_segment_close(segment);
	if (cw_memory_free(here) != CW_OK)
		return 6;
	cw_engine_close(initiator);
	cw_engine_close(target);
	return 0;
}
