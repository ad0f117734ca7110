/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names inside the core: naming.c publishes what this engine is called and asks the directory for peers; segment_seek.c
 * asks again once a segment is open.
 */
#ifndef CW_CORE_NAMING_H
#define CW_CORE_NAMING_H

#include <core/core.h>

/* segment_seek.c; on the loop */
/* Asks the store where the peer is now, and goes there if that is somewhere else. hold: requests wait for what it says.
 * 0 = there is nobody to ask. */
int cw__segment_seek(struct cw_segment *segment, int hold);
/* Fetches a classic peer's descriptor again, from it or from the store; answered(arg, CW_OK) finds it in the segment.
 * The caller holds the segment. */
int cw__segment_refetch(struct cw_segment *segment, uint64_t timeout, void (*answered)(void *arg, int status),
			void *arg);

/* naming.c */
#define CW__FOUND_MAX 8 /* addresses */
struct cw__finding {
	struct cw_task task;
	struct cw_segment *segment; /* referenced until answered() returned */
	int status;
	char text[240];
	struct cw__found found; /* answered() may take its buffers */
	void (*answered)(struct cw__finding *finding, void *arg);
	void *arg;
};
/* Is there a store that knows names? */
int cw__in_store(const struct cw_engine *engine);
/* Names the engine as peers call it. Parts that listen have done so at the address in its first name; nothing runs yet
 * that could read it meanwhile. */
int cw__naming_choose(struct cw_engine *engine);
/* The region's range may not be used by peers any more: publishes that, soon or before it returns. */
void cw__region_changed(struct cw_region *region);
void cw__region_gone_publish(struct cw_region *region);
/* Publishes a new region and waits for that; ERR_AGAIN at `until`. */
int cw__region_publish(struct cw_region *region, uint64_t until);
/* Asks the directory for the segment's name; answered() runs on its loop. Errors: then it does not. */
int cw__segment_find(struct cw_segment *segment, void (*answered)(struct cw__finding *finding, void *arg), void *arg);
/* Looks its name up and starts to connect; blocks while it looks. */
int cw__segment_connect(struct cw_segment *segment, uint64_t timeout);
/* What was found as options of a link; addresses has room for CW__FOUND_MAX. Both are borrowed from found. */
void cw__found_options(struct cw__found *found, struct cw__link_options *options, const char **addresses);

#endif
