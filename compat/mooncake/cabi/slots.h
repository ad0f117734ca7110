/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of things that callers know by a number. A number carries the slot and its generation, so one that was given
 * back is not mistaken for a later one, and no number is ever followed as a pointer. Looking up takes no lock; who
 * looked something up is counted as its user until slots_put(), and the last user of a retired thing destroys it.
 */
#ifndef COMPAT_MOONCAKE_CABI_SLOTS_H
#define COMPAT_MOONCAKE_CABI_SLOTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define SLOTS_BLOCK 1024u
#define SLOTS_BLOCKS 1024u

struct slot {
	_Atomic uint64_t word; /* generation << 32, LIVE, users */
	void *object;          /* written before the slot is LIVE */
	uint32_t next;         /* in the list of free ones; lock */
};

/* The number: tag | generation << slot_bits | place, where place begins with 1. */
struct slots {
	unsigned slot_bits, generation_bits;
	uint64_t tag;         /* bits above both */
	uint32_t first;       /* generation of new slots */
	pthread_mutex_t lock; /* the two lists, and ends of retired things */
	pthread_cond_t ended;
	uint32_t made, free_head, free_tail; /* places; 0 = none */
	struct slot *_Atomic blocks[SLOTS_BLOCKS];
};
#define SLOTS_INIT(slot_bits_, generation_bits_, tag_, first_)                                                         \
	{                                                                                                              \
		.slot_bits = (slot_bits_), .generation_bits = (generation_bits_), .tag = (tag_), .first = (first_),    \
		.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER                                   \
	}

/* Writes the number, which may be part of the object, before anybody can look it up: then the object must be ready. 0 =
 * no memory, or the table is full. The caller is not counted as a user. */
int slots_add(struct slots *slots, void *object, uint64_t *number_out);

/* The thing behind a number, with one more user; NULL when the number is not or no longer in use. */
void *slots_get(struct slots *slots, uint64_t number);

/* Ends a use. 1 = the thing was retired and this was its last user: the caller destroys it. */
int slots_put(struct slots *slots, uint64_t number);

/* By a user: nobody finds the thing any more. 1 for the one who did it, 0 when somebody else was first. */
int slots_retire(struct slots *slots, uint64_t number);

/* By the one who retired: waits until it is the only user, at most so many nanoseconds. 0, or -1 when others are left.
 */
int slots_wait_alone(struct slots *slots, uint64_t number, uint64_t timeout);

/* Calls fn for each number in use at the time of the call. */
void slots_each(struct slots *slots, void (*fn)(void *arg, uint64_t number), void *arg);

#endif
