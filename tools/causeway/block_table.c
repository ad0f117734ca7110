/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See block_table.h. Slots are numbered; lists are links between numbers, with the number `capacity` as the head of the
 * one list of unpinned slots: empty ones first, then blocks, least recently used first.
 */
#include "block_table.h"

#include <stdlib.h>

#include "lib/pattern.h"

struct slot {
	uint64_t hash;
	uint32_t prev, next; /* in the list of unpinned slots */
	uint32_t chain;      /* next slot of the same bucket */
	uint32_t pins;
	int known; /* the hash is valid and in its bucket */
};

struct block_table {
	struct slot *slots; /* capacity + 1; the last is the head of the list */
	uint32_t *buckets;
	uint32_t capacity, bucket_mask, available;
	uint64_t evictions;
};

static void link_after(struct block_table *table, uint32_t at, uint32_t slot)
{
	struct slot *slots = table->slots;

	slots[slot].prev = at;
	slots[slot].next = slots[at].next;
	slots[slots[at].next].prev = slot;
	slots[at].next = slot;
	table->available++;
}

static void unlink_slot(struct block_table *table, uint32_t slot)
{
	struct slot *slots = table->slots;

	slots[slots[slot].prev].next = slots[slot].next;
	slots[slots[slot].next].prev = slots[slot].prev;
	table->available--;
}

static uint32_t *bucket_of(const struct block_table *table, uint64_t hash)
{
	return &table->buckets[pattern_mix(hash) & table->bucket_mask];
}

struct block_table *block_table_open(uint32_t capacity)
{
	struct block_table *table = calloc(1, sizeof(*table));
	uint32_t buckets = 16;

	if (!table || capacity > UINT32_MAX / 4)
		goto fail;
	while (buckets < capacity)
		buckets *= 2;
	table->capacity = capacity;
	table->bucket_mask = buckets - 1;
	table->slots = calloc((size_t)capacity + 1, sizeof(*table->slots));
	table->buckets = malloc(buckets * sizeof(*table->buckets));
	if (!table->slots || !table->buckets)
		goto fail;
	for (uint32_t i = 0; i < buckets; i++)
		table->buckets[i] = BLOCK_NONE;
	table->slots[capacity].prev = table->slots[capacity].next = capacity;
	for (uint32_t slot = capacity; slot-- > 0;)
		link_after(table, capacity, slot);
	return table;
fail:
	block_table_close(table);
	return NULL;
}

void block_table_close(struct block_table *table)
{
	if (!table)
		return;
	free(table->slots);
	free(table->buckets);
	free(table);
}

uint32_t block_table_find(const struct block_table *table, uint64_t hash)
{
	uint32_t slot = *bucket_of(table, hash);

	while (slot != BLOCK_NONE && table->slots[slot].hash != hash)
		slot = table->slots[slot].chain;
	return slot;
}

uint32_t block_table_available(const struct block_table *table)
{
	return table->available;
}

static void remove_hash(struct block_table *table, uint32_t slot)
{
	uint32_t *at = bucket_of(table, table->slots[slot].hash);

	while (*at != slot)
		at = &table->slots[*at].chain;
	*at = table->slots[slot].chain;
	table->slots[slot].known = 0;
}

uint32_t block_table_take(struct block_table *table, uint64_t hash)
{
	uint32_t slot = table->slots[table->capacity].next, *bucket = bucket_of(table, hash);

	if (slot == table->capacity)
		return BLOCK_NONE;
	unlink_slot(table, slot);
	if (table->slots[slot].known) {
		remove_hash(table, slot);
		table->evictions++;
	}
	table->slots[slot].hash = hash;
	table->slots[slot].known = 1;
	table->slots[slot].pins = 1;
	table->slots[slot].chain = *bucket;
	*bucket = slot;
	return slot;
}

void block_table_pin(struct block_table *table, uint32_t slot)
{
	if (table->slots[slot].pins++ == 0)
		unlink_slot(table, slot);
}

void block_table_unpin(struct block_table *table, uint32_t slot)
{
	struct slot *entry = &table->slots[slot];

	if (--entry->pins == 0)
		link_after(table, entry->known ? table->slots[table->capacity].prev : table->capacity, slot);
}

void block_table_forget(struct block_table *table, uint32_t slot)
{
	if (table->slots[slot].known)
		remove_hash(table, slot);
}

uint64_t block_table_evictions(const struct block_table *table)
{
	return table->evictions;
}
