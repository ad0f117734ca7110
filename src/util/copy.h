/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying memory by the CPU, in two ways. Plain: memcpy. Streamed: past the caches, which saves reading what is only
 * overwritten, and several pages side by side, so that as many of the processor's prefetchers work at once. Which of
 * them is faster depends on what the caches hold already: copier.c finds out.
 */
#ifndef CW_UTIL_COPY_H
#define CW_UTIL_COPY_H

#include <stddef.h>

/* Source and destination do not overlap. */
struct cw__copy_part {
	void *to;
	const void *from;
	size_t length;
};

/* Does this processor have a way to stream? Otherwise cw__copy_streamed() is cw__copy_plain(). */
int cw__copy_can_stream(void);
/* Threads: any. No part may overlap another one's destination. On return other threads see the bytes as after memcpy
 * (what is published afterwards is seen after them). */
void cw__copy_plain(const struct cw__copy_part *parts, unsigned count);
void cw__copy_streamed(const struct cw__copy_part *parts, unsigned count);

#endif
