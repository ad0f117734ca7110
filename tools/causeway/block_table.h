/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decode side's page table: which block (hash) is in which slot of the cache. A block in use is pinned; of the
 * others the least recently used one is evicted when a slot is wanted. All memory is allocated at the start; one thread
 * uses it.
 */
#ifndef CAUSEWAY_BLOCK_TABLE_H
#define CAUSEWAY_BLOCK_TABLE_H

#include <stdint.h>

#define BLOCK_NONE UINT32_MAX

struct block_table;

/* NULL when there is no memory. */
struct block_table *block_table_open(uint32_t capacity);
void block_table_close(struct block_table *table);

/* The slot of hash, or BLOCK_NONE. */
uint32_t block_table_find(const struct block_table *table, uint64_t hash);

/* How many slots could be taken now: empty ones and blocks that nobody has pinned. */
uint32_t block_table_available(const struct block_table *table);

/* A slot for a hash that is not in the table, pinned once; BLOCK_NONE when none is available. */
uint32_t block_table_take(struct block_table *table, uint64_t hash);

void block_table_pin(struct block_table *table, uint32_t slot);

/* The last unpin makes the block the most recently used one, or an empty slot when it was forgotten. */
void block_table_unpin(struct block_table *table, uint32_t slot);

/* The pinned slot does not hold its block after all. */
void block_table_forget(struct block_table *table, uint32_t slot);

uint64_t block_table_evictions(const struct block_table *table);

#endif
