/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large copies in the fastest way that this machine has now: plain or streamed (copy.h), by one core or two (crew.h),
 * which is learnt (choice.h). One copier serves any number of threads.
 */
#ifndef CW_UTIL_COPIER_H
#define CW_UTIL_COPIER_H

#include <util/choice.h>
#include <util/copy.h>
#include <util/crew.h>

#define CW__COPIER_SMALL (16u * 1024) /* what is shorter is copied plainly, and teaches nothing */
#define CW__COPIER_PARTS 64u          /* at once */

struct cw__copier {
	struct cw__crew crew;
	struct cw__choice middle, large; /* by the length of what is copied at once */
	struct cw__choice calls;         /* of cw__copier_run() */
};

void cw__copier_init(struct cw__copier *copier);
void cw__copier_close(struct cw__copier *copier);

/* Copies count parts (at most CW__COPIER_PARTS) of `total` bytes together. None overlaps another's destination. On
 * return nothing touches them any more. */
void cw__copier_copy(struct cw__copier *copier, const struct cw__copy_part *parts, unsigned count, size_t total);

/* Work that moves `total` bytes in count units by other means than a copy: by one core or two. */
void cw__copier_run(struct cw__copier *copier, cw__crew_fn run, void *arg, unsigned count, size_t total);

#endif
