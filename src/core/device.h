/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the core does for memory of devices and for their work: host memory that stands for theirs (landing.c,
 * staging.c, staged.c) and batches that wait for streams and events, or the other way round (device_sync.c).
 */
#ifndef CW_CORE_DEVICE_H
#define CW_CORE_DEVICE_H

#include <core/core.h>

/* landing.c: device memory that a peer touches. The region is pinned by `counter`; on failure *keeps_out tells whether
 * the pin has to stay, because the device is still at it: then it is taken over. */
int cw__landing_begin(struct cw_engine *engine, struct cw_region *region, int counter, const struct cw_claim *claim,
		      struct cw_grant *grant, int *keeps_out);
int cw__landing_end(struct cw_engine *engine, struct cw_grant *grant, uint64_t moved, int *keeps_out);
void cw__arena_free(struct cw__arena *arena);
void cw__arena_own(struct cw__arena *arena); /* the one that this thread uses from now on */
/* Can bytes be brought from and to the memory of this region? */
int cw__device_reachable(const struct cw_engine *engine, const struct cw_region *region);
int cw__device_copy(struct cw_engine *engine, const struct cw_region *region, int to_device, uint64_t address,
		    void *buffer, uint64_t length);

/* staging.c: buffers that stand for device memory, and the threads ("stagers") that copy between them. */
struct cw__landing {
	struct cw__list node;
	struct cw_region_view view; /* what transports take for the local region */
};

/* A copy between a device and the memory of a grant, for a loop. */
struct cw__land {
	struct cw__list node; /* the stager's queue; staging lock */
	struct cw_region *region;
	uint64_t address, length;
	void *buffer;
	int to_device;
	_Atomic uint32_t state; /* futex */
	int status;
	void (*left)(struct cw__land *land); /* it has ended, but nobody waited for that any more */
};

/* On a loop: a stager makes the copy. ERR_BUSY: it lasts too long and goes on without us, left() follows when it has
 * ended; ERR_IO: not done, also because an earlier one on the device does not end. */
int cw__staging_land(struct cw_engine *engine, struct cw__land *land);

int cw__staging_open(struct cw_engine *engine);
/* On the loop. NULL = none is left: the loop's segments become busy when one comes back. */
struct cw__landing *cw__landing_take(struct cw_loop *loop);
void cw__landing_give(struct cw_loop *loop, struct cw__landing *landing);
/* On the loop: a stager does the slice's next step, then job_task runs on the loop with job_status. ERR_NO_MEMORY. */
int cw__staging_submit(struct cw__slice *slice);
/* On the loop: takes a slice back that no stager has begun with; 0 = it has. */
int cw__staging_withdraw(struct cw__slice *slice);
/* No loop runs. Nothing begins any more; waits up to `until` for what runs. */
void cw__staging_stop(struct cw_engine *engine, uint64_t until);
/* Does a device still hold a stager? Then the last one to come back calls fn(engine), and 1 is returned. */
int cw__staging_leave(struct cw_engine *engine, void (*fn)(struct cw_engine *engine));
void cw__staging_close(struct cw_engine *engine);
/* May copies for a device begin? Any thread. */
int cw__staging_stopped(struct cw_engine *engine);
/* As cw__slice_pieces(), for slices that stagers copy. */
unsigned cw__staging_pieces(const struct cw__slice *slice, uint64_t offset, struct cw_piece *pieces_out, unsigned max);

/* staged.c: what becomes of staged slices on their loop. */
/* Gives count slices of a request, which are cut and pinned, to a stager. */
void cw__slices_stage(struct cw__request *request, struct cw__slice **slices, unsigned count);
/* The transport read into the slice's buffer: brings the bytes to the device. */
void cw__slice_bring_in(struct cw__slice *slice);
/* Ends a slice that a stager has not begun with; 0 = one has. The request does not end in here. */
int cw__slice_unstage(struct cw__slice *slice);

/* device_sync.c */
/* Asks platforms to say when what the batch waits for on devices has come. What was asked stays without effect until it
 * is armed, also after a failure. */
int cw__watches_make(struct cw_batch *batch, const struct cw_batch_options *options);
void cw__watches_arm(struct cw_batch *batch);    /* they are prerequisites from now on */
void cw__watches_forget(struct cw_batch *batch); /* whatever comes later finds nobody */
void cw__watches_free(struct cw_batch *batch);
void cw__fences_release(struct cw__list *fences);

#endif
