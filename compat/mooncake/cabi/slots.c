/* SPDX-License-Identifier: Apache-2.0 */
/* See slots.h. Slots are never freed: a look-up may read the word of any of them at any time. */
#include "slots.h"

#include <stdlib.h>
#include <time.h>

#define LIVE (1ull << 31)
#define USERS (LIVE - 1)
#define FOREVER UINT64_MAX

static struct slot *slot_at(struct slots *slots, uint32_t place)
{
	struct slot *block;

	if (place / SLOTS_BLOCK >= SLOTS_BLOCKS)
		return NULL;
	block = atomic_load_explicit(&slots->blocks[place / SLOTS_BLOCK], memory_order_acquire);
	return block ? &block[place % SLOTS_BLOCK] : NULL;
}

static uint64_t generation_mask(const struct slots *slots)
{
	return (1ull << slots->generation_bits) - 1;
}

static uint64_t number_of(const struct slots *slots, uint32_t place, uint64_t word)
{
	return slots->tag | (word >> 32) << slots->slot_bits | place;
}

/* The slot that a number names, and the generation that it must have. */
static struct slot *parse(struct slots *slots, uint64_t number, uint64_t *generation_out)
{
	uint32_t place = (uint32_t)(number & ((1ull << slots->slot_bits) - 1));
	unsigned used = slots->slot_bits + slots->generation_bits;

	if (!place || (used < 64 && number >> used << used != slots->tag))
		return NULL;
	*generation_out = number >> slots->slot_bits & generation_mask(slots);
	return slot_at(slots, place);
}

/* With the lock: a place that nobody uses. */
static uint32_t take_place(struct slots *slots)
{
	uint32_t place = slots->free_head, room = (1u << slots->slot_bits) - 1;
	struct slot *block;

	if (place) {
		slots->free_head = slot_at(slots, place)->next;
		if (!slots->free_head)
			slots->free_tail = 0;
		return place;
	}
	place = slots->made + 1;
	if (place > room || place / SLOTS_BLOCK >= SLOTS_BLOCKS)
		return 0;
	if (!slot_at(slots, place)) {
		block = calloc(SLOTS_BLOCK, sizeof(*block));
		if (!block)
			return 0;
		for (uint32_t i = 0; i < SLOTS_BLOCK; i++)
			atomic_init(&block[i].word, (uint64_t)slots->first << 32);
		atomic_store_explicit(&slots->blocks[place / SLOTS_BLOCK], block, memory_order_release);
	}
	slots->made = place;
	return place;
}

int slots_add(struct slots *slots, void *object, uint64_t *number_out)
{
	uint32_t place;
	uint64_t word;

	pthread_mutex_lock(&slots->lock);
	place = take_place(slots);
	if (place) {
		struct slot *slot = slot_at(slots, place);

		slot->object = object;
		word = atomic_load_explicit(&slot->word, memory_order_relaxed);
		*number_out = number_of(slots, place, word);
		/* Pairs with the look-up's acquire: who sees LIVE sees the object, which knows its number. */
		atomic_store_explicit(&slot->word, word | LIVE, memory_order_release);
	}
	pthread_mutex_unlock(&slots->lock);
	return place != 0;
}

void *slots_get(struct slots *slots, uint64_t number)
{
	uint64_t generation, word;
	struct slot *slot = parse(slots, number, &generation);

	if (!slot)
		return NULL;
	word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	do {
		if (word >> 32 != generation || !(word & LIVE) || (word & USERS) == USERS)
			return NULL;
	} while (!atomic_compare_exchange_weak_explicit(&slot->word, &word, word + 1, memory_order_acquire,
							memory_order_relaxed));
	return slot->object;
}

/* With the lock: the slot waits for its next thing at the end of the list, so that old numbers stay strange for long.
 */
static void give_place(struct slots *slots, uint32_t place, uint64_t word)
{
	struct slot *slot = slot_at(slots, place);

	slot->object = NULL;
	slot->next = 0;
	if (slots->free_tail)
		slot_at(slots, slots->free_tail)->next = place;
	else
		slots->free_head = place;
	slots->free_tail = place;
	atomic_store_explicit(&slot->word, (((word >> 32) + 1) & generation_mask(slots)) << 32, memory_order_release);
}

int slots_put(struct slots *slots, uint64_t number)
{
	uint64_t generation, word;
	struct slot *slot = parse(slots, number, &generation);
	int last;

	if (!slot)
		return 0;
	word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	while (word & LIVE)
		if (atomic_compare_exchange_weak_explicit(&slot->word, &word, word - 1, memory_order_release,
							  memory_order_relaxed))
			return 0;
	/* Retired. The lock makes the wake-up sure, and orders what the users did before the end. */
	pthread_mutex_lock(&slots->lock);
	word = atomic_fetch_sub_explicit(&slot->word, 1, memory_order_acq_rel) - 1;
	last = (word & USERS) == 0;
	if (last)
		give_place(slots, (uint32_t)(number & ((1ull << slots->slot_bits) - 1)), word);
	pthread_cond_broadcast(&slots->ended);
	pthread_mutex_unlock(&slots->lock);
	return last;
}

int slots_retire(struct slots *slots, uint64_t number)
{
	uint64_t generation;
	struct slot *slot = parse(slots, number, &generation);

	return slot && (atomic_fetch_and_explicit(&slot->word, ~LIVE, memory_order_acq_rel) & LIVE) != 0;
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A while by the clock that conditions know. It may jump, so what ends a wait is the other one. */
static struct timespec soon(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_nsec += 50000000;
	if (time.tv_nsec >= 1000000000) {
		time.tv_nsec -= 1000000000;
		time.tv_sec++;
	}
	return time;
}

int slots_wait_alone(struct slots *slots, uint64_t number, uint64_t timeout)
{
	uint64_t generation, begin = now();
	struct slot *slot = parse(slots, number, &generation);
	int alone;

	pthread_mutex_lock(&slots->lock);
	while (!(alone = (atomic_load_explicit(&slot->word, memory_order_acquire) & USERS) == 1)) {
		struct timespec until = soon();

		if (timeout == FOREVER)
			pthread_cond_wait(&slots->ended, &slots->lock);
		else if (now() - begin < timeout)
			pthread_cond_timedwait(&slots->ended, &slots->lock, &until);
		else
			break;
	}
	pthread_mutex_unlock(&slots->lock);
	return alone ? 0 : -1;
}

void slots_each(struct slots *slots, void (*fn)(void *arg, uint64_t number), void *arg)
{
	uint32_t made;

	pthread_mutex_lock(&slots->lock);
	made = slots->made;
	pthread_mutex_unlock(&slots->lock);
	for (uint32_t place = 1; place <= made; place++) {
		uint64_t word = atomic_load_explicit(&slot_at(slots, place)->word, memory_order_acquire);

		if (word & LIVE)
			fn(arg, number_of(slots, place, word));
	}
}
