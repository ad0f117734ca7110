/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A track: a stream of our own that does not wait for the default stream, and an event. Whoever takes one has it alone.
 * Idle ones are kept for each device while somebody keeps them; else they are closed when they are given back.
 */
#ifndef CW_PLATFORMS_GPU_TRACK_H
#define CW_PLATFORMS_GPU_TRACK_H

#include <platforms/gpu/gpu.h>

struct cw__gpu_track {
	const struct cw__gpu *gpu;
	int device;
	void *stream, *event;
	struct cw__gpu_track *next; /* of the idle ones; the taker's while it is taken */
	/* While it is watched; see watch.c. */
	const void *owner;
	cw_device_ready_fn ready;
	void *arg;
	int status;
};

/* Needs enter(device). A vendor's result. */
int cw__gpu_track_take(const struct cw__gpu *gpu, int device, struct cw__gpu_track **track_out);
/* result: of the last call for it; after a failure, or with work under way (CW__GPU_NOT_READY), it is closed rather
 * than used again. Needs no enter(). */
void cw__gpu_track_give(struct cw__gpu_track *track, int result);

/* Idle tracks of this runtime are kept from the first keep() to the last let_go(). */
void cw__gpu_tracks_keep(const struct cw__gpu *gpu);
void cw__gpu_tracks_let_go(const struct cw__gpu *gpu);

#endif
