/* SPDX-License-Identifier: Apache-2.0 */
/* The ordered index of ranges that look-ups of regions, an engine's own and its peers', go through. */
#ifndef CW_CORE_RANGE_INDEX_H
#define CW_CORE_RANGE_INDEX_H

#include <stdint.h>

/* An ordered index of ranges that do not meet, each with a value: look-ups take no lock. One writer at a time, by a
 * lock of the caller. */
struct cw__index;
struct cw__indexed {
	uint64_t from, to, value;
};
struct cw__index *cw__index_open(void);
void cw__index_close(struct cw__index *index);
int cw__index_insert(struct cw__index *index, uint64_t from, uint64_t to, uint64_t value);
void cw__index_remove(struct cw__index *index, uint64_t from);
/* Another value for the range that begins at from. */
void cw__index_set(struct cw__index *index, uint64_t from, uint64_t value);
/* The range that holds address; 0 = none does. */
int cw__index_find(struct cw__index *index, uint64_t address, struct cw__indexed *found_out);
/* A range that meets [from, to); 0 = none does. Writer's lock held. */
int cw__index_meet(struct cw__index *index, uint64_t from, uint64_t to, struct cw__indexed *found_out);

#endif
