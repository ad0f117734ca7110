/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ordered index of registered ranges: sorted chunks of up to ENTRIES ranges below one sorted directory. One writer
 * at a time (the caller's lock); readers take no lock but check a sequence number and look again when a writer was
 * busy, and wait for it only when that happens many times. Memory is only given back when the index closes, so a reader
 * that is overtaken reads old but valid words.
 */
#include <core/core.h>
#include <stdlib.h>

#define ENTRIES 256u
#define DIRECTORY_FIRST 64u
#define TRIES 100 /* of a reader without the lock */

struct entry {
	_Atomic uint64_t from, to;
	_Atomic uint32_t slot;
};

struct chunk {
	_Atomic uint32_t count;
	struct chunk *next; /* every chunk ever made, for closing */
	struct chunk *next_free;
	struct entry entries[ENTRIES];
};

struct directory {
	struct directory *older; /* retired, for closing */
	uint32_t capacity;
	_Atomic uint32_t count;
	_Atomic(struct chunk *) chunks[];
};

struct cw__index {
	_Atomic uint32_t sequence; /* odd while a writer is at work */
	pthread_mutex_t writer;    /* held meanwhile */
	_Atomic(struct directory *) directory;
	struct chunk *all, *unused;
};

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define put(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

static void write_begin(struct cw__index *index)
{
	pthread_mutex_lock(&index->writer);
	put(index->sequence, get(index->sequence) + 1);
	atomic_thread_fence(memory_order_release); /* pairs with the acquire fence of cw__index_find() */
}

static void write_end(struct cw__index *index)
{
	atomic_store_explicit(&index->sequence, get(index->sequence) + 1, memory_order_release);
	pthread_mutex_unlock(&index->writer);
}

static struct directory *directory_new(uint32_t capacity)
{
	struct directory *directory = calloc(1, sizeof(*directory) + capacity * sizeof(directory->chunks[0]));

	if (directory)
		directory->capacity = capacity;
	return directory;
}

static struct chunk *chunk_new(struct cw__index *index)
{
	struct chunk *chunk = index->unused;

	if (chunk) {
		index->unused = chunk->next_free;
		return chunk;
	}
	chunk = calloc(1, sizeof(*chunk));
	if (chunk) {
		chunk->next = index->all;
		index->all = chunk;
	}
	return chunk;
}

struct cw__index *cw__index_open(void)
{
	struct cw__index *index = calloc(1, sizeof(*index));

	if (index)
		put(index->directory, directory_new(DIRECTORY_FIRST));
	if (index && !get(index->directory)) {
		free(index);
		return NULL;
	}
	if (index)
		pthread_mutex_init(&index->writer, NULL);
	return index;
}

void cw__index_close(struct cw__index *index)
{
	struct directory *directory = index ? get(index->directory) : NULL;

	while (directory) {
		struct directory *older = directory->older;

		free(directory);
		directory = older;
	}
	while (index && index->all) {
		struct chunk *next = index->all->next;

		free(index->all);
		index->all = next;
	}
	if (index)
		pthread_mutex_destroy(&index->writer);
	free(index);
}

/* The last chunk whose first range begins at or before address; 0 when none does. */
static uint32_t directory_search(struct directory *directory, uint32_t count, uint64_t address)
{
	uint32_t low = 0, high = count;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		struct chunk *chunk = get(directory->chunks[middle]);

		if (chunk && get(chunk->entries[0].from) <= address)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* How many ranges of the chunk begin at or before address. */
static uint32_t chunk_search(struct chunk *chunk, uint64_t address)
{
	uint32_t low = 0, high = get(chunk->count);

	if (high > ENTRIES)
		high = ENTRIES;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (get(chunk->entries[middle].from) <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint32_t find(struct cw__index *index, uint64_t address)
{
	struct directory *directory = atomic_load_explicit(&index->directory, memory_order_acquire);
	uint32_t count = get(directory->count), at;
	struct chunk *chunk;

	if (count > directory->capacity)
		count = directory->capacity;
	if (!count)
		return UINT32_MAX;
	chunk = get(directory->chunks[directory_search(directory, count, address)]);
	at = chunk ? chunk_search(chunk, address) : 0;
	if (!at || address >= get(chunk->entries[at - 1].to))
		return UINT32_MAX;
	return get(chunk->entries[at - 1].slot);
}

uint32_t cw__index_find(struct cw__index *index, uint64_t address)
{
	uint32_t slot;

	for (int i = 0; i < TRIES; i++) {
		uint32_t before = atomic_load_explicit(&index->sequence, memory_order_acquire);

		if (before & 1)
			continue;
		slot = find(index, address);
		atomic_thread_fence(memory_order_acquire);
		if (get(index->sequence) == before)
			return slot;
	}
	/* A writer lost its processor in the middle: sleep until it is done, rather than keep it from getting one back.
	 */
	pthread_mutex_lock(&index->writer);
	slot = find(index, address);
	pthread_mutex_unlock(&index->writer);
	return slot;
}

uint32_t cw__index_meet(struct cw__index *index, uint64_t from, uint64_t to)
{
	struct directory *directory = get(index->directory);
	uint32_t count = get(directory->count), which, at;
	struct chunk *chunk;

	if (!count)
		return UINT32_MAX;
	which = directory_search(directory, count, from);
	chunk = get(directory->chunks[which]);
	at = chunk_search(chunk, from);
	if (at && get(chunk->entries[at - 1].to) > from)
		return get(chunk->entries[at - 1].slot);
	if (at == get(chunk->count)) {
		if (++which == count)
			return UINT32_MAX;
		chunk = get(directory->chunks[which]);
		at = 0;
	}
	return get(chunk->entries[at].from) < to ? get(chunk->entries[at].slot) : UINT32_MAX;
}

static void entry_copy(struct entry *to, struct entry *from)
{
	put(to->from, get(from->from));
	put(to->to, get(from->to));
	put(to->slot, get(from->slot));
}

/* Puts chunk at position `at` of the directory, in a larger one when it is full. Writer at work. */
static int directory_insert(struct cw__index *index, uint32_t at, struct chunk *chunk)
{
	struct directory *directory = get(index->directory);
	uint32_t count = get(directory->count);

	if (count == directory->capacity) {
		struct directory *larger = directory_new(2 * directory->capacity);

		if (!larger)
			return CW_ERR_NO_MEMORY;
		for (uint32_t i = 0; i < count; i++)
			put(larger->chunks[i], get(directory->chunks[i]));
		put(larger->count, count);
		larger->older = directory;
		atomic_store_explicit(&index->directory, larger, memory_order_release);
		directory = larger;
	}
	for (uint32_t i = count; i > at; i--)
		put(directory->chunks[i], get(directory->chunks[i - 1]));
	put(directory->chunks[at], chunk);
	put(directory->count, count + 1);
	return CW_OK;
}

/* The chunk for a range that begins at from, split when it is full. Writer at work. */
static struct chunk *chunk_for(struct cw__index *index, uint64_t from)
{
	struct directory *directory = get(index->directory);
	uint32_t count = get(directory->count), at;
	struct chunk *chunk, *upper;

	if (!count) {
		chunk = chunk_new(index);
		return chunk && !directory_insert(index, 0, chunk) ? chunk : NULL;
	}
	at = directory_search(directory, count, from);
	chunk = get(directory->chunks[at]);
	if (get(chunk->count) < ENTRIES)
		return chunk;
	upper = chunk_new(index);
	if (!upper)
		return NULL;
	for (uint32_t i = ENTRIES / 2; i < ENTRIES; i++)
		entry_copy(&upper->entries[i - ENTRIES / 2], &chunk->entries[i]);
	put(upper->count, ENTRIES / 2);
	if (directory_insert(index, at + 1, upper)) {
		put(upper->count, 0);
		upper->next_free = index->unused;
		index->unused = upper;
		return NULL;
	}
	put(chunk->count, ENTRIES / 2);
	return from < get(upper->entries[0].from) ? chunk : upper;
}

int cw__index_insert(struct cw__index *index, uint64_t from, uint64_t to, uint32_t slot)
{
	struct chunk *chunk;

	write_begin(index);
	chunk = chunk_for(index, from);
	if (chunk) {
		uint32_t at = chunk_search(chunk, from), count = get(chunk->count);

		for (uint32_t i = count; i > at; i--)
			entry_copy(&chunk->entries[i], &chunk->entries[i - 1]);
		put(chunk->entries[at].from, from);
		put(chunk->entries[at].to, to);
		put(chunk->entries[at].slot, slot);
		put(chunk->count, count + 1);
	}
	write_end(index);
	return chunk ? CW_OK : CW_ERR_NO_MEMORY;
}

void cw__index_remove(struct cw__index *index, uint64_t from)
{
	struct directory *directory = get(index->directory);
	uint32_t count = get(directory->count), which = directory_search(directory, count, from), at, left;
	struct chunk *chunk = get(directory->chunks[which]);

	at = chunk_search(chunk, from);
	if (!at || get(chunk->entries[at - 1].from) != from)
		return;
	write_begin(index);
	left = get(chunk->count) - 1;
	for (uint32_t i = at - 1; i < left; i++)
		entry_copy(&chunk->entries[i], &chunk->entries[i + 1]);
	put(chunk->count, left);
	if (!left) {
		for (uint32_t i = which; i + 1 < count; i++)
			put(directory->chunks[i], get(directory->chunks[i + 1]));
		put(directory->count, count - 1);
		chunk->next_free = index->unused;
		index->unused = chunk;
	}
	write_end(index);
}
