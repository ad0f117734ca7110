/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and values of `causeway metadata-server`. A tree (tsearch(3), so that no choice of keys makes it slow) finds
 * them; a list in the order of their last put says which expires next. See metadata_server.h.
 */
#include <pthread.h>
#include <search.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "metadata_server.h"

struct pair {
	TAILQ_ENTRY(pair) link;
	struct metadata_record record;
};

TAILQ_HEAD(pairs, pair);

/* What a pair costs beside its bytes: the struct, a node of the tree, and malloc's own. */
#define PAIR_COST (sizeof(struct pair) + 96)

struct metadata_store {
	struct metadata_limits limits;
	struct metadata_file *file; /* NULL = nothing is kept; append and rewrite under the lock */
	pthread_rwlock_t lock;      /* guards tree, by_age, keys, live_bytes */
	void *tree;
	struct pairs by_age; /* the oldest put first */
	uint64_t keys, live_bytes;
	_Atomic uint64_t used; /* against limits.memory */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int compare(const void *left, const void *right)
{
	const struct metadata_bytes *a = &((const struct pair *)left)->record.key;
	const struct metadata_bytes *b = &((const struct pair *)right)->record.key;
	int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);

	if (order)
		return order;
	return a->length < b->length ? -1 : a->length > b->length;
}

static struct pair *find(struct metadata_store *store, const struct metadata_bytes *key)
{
	struct pair wanted = { .record.key = *key };
	void *node = tfind(&wanted, &store->tree, compare);

	return node ? *(struct pair **)node : NULL;
}

static int expired(const struct metadata_store *store, const struct pair *pair, uint64_t now)
{
	/* A clock that was set back makes nothing older. */
	return store->limits.expire_ms && now > pair->record.put_ms &&
	       now - pair->record.put_ms >= store->limits.expire_ms;
}

static size_t cost(const struct metadata_record *record)
{
	return PAIR_COST + record->key.length + record->value.length;
}

static void drop(struct metadata_store *store, struct pair *pair)
{
	tdelete(pair, &store->tree, compare);
	TAILQ_REMOVE(&store->by_age, pair, link);
	store->keys--;
	store->live_bytes -= pair->record.key.length + pair->record.value.length;
	metadata_store_unreserve(store, cost(&pair->record));
	free(pair->record.key.bytes);
	free(pair->record.value.bytes);
	free(pair);
}

/* Under the lock, for writing. The file needs no record of it: the time of the put is in there. */
static void drop_expired(struct metadata_store *store)
{
	uint64_t now = now_ms();
	struct pair *oldest;

	while ((oldest = TAILQ_FIRST(&store->by_age)) && expired(store, oldest, now))
		drop(store, oldest);
}

/* The store takes over the bytes, and what was reserved for the value; the rest is charged without a question. 0, or -1
 * without memory. */
static int add(struct metadata_store *store, const struct metadata_record *record)
{
	struct pair *pair = malloc(sizeof(*pair));

	if (!pair)
		return -1;
	pair->record = *record;
	if (!tsearch(pair, &store->tree, compare)) {
		free(pair);
		return -1;
	}
	TAILQ_INSERT_TAIL(&store->by_age, pair, link);
	store->keys++;
	store->live_bytes += record->key.length + record->value.length;
	atomic_fetch_add_explicit(&store->used, cost(record) - record->value.length, memory_order_relaxed);
	return 0;
}

/* A record of the file: what was there before may exceed limits that were lowered since. */
static void found_in_file(void *arg, struct metadata_record *record)
{
	struct metadata_store *store = arg;
	struct pair *old = find(store, &record->key);

	if (old)
		drop(store, old);
	if (record->value.bytes) {
		atomic_fetch_add_explicit(&store->used, record->value.length, memory_order_relaxed);
		if (add(store, record) == 0)
			return;
		metadata_store_unreserve(store, record->value.length);
		fprintf(stderr, "causeway metadata-server: no memory for a pair of the file\n");
	}
	free(record->key.bytes);
	free(record->value.bytes);
}

static int next_pair(void *arg, struct metadata_record *record_out)
{
	struct pair **at = arg;

	if (!*at)
		return 0;
	*record_out = (*at)->record;
	*at = TAILQ_NEXT(*at, link);
	return 1;
}

/* Under the lock, for writing. */
static int rewrite(struct metadata_store *store, char *text)
{
	struct pair *at = TAILQ_FIRST(&store->by_age);

	return metadata_file_rewrite(store->file, next_pair, &at, text);
}

struct metadata_store *metadata_store_open(const struct metadata_limits *limits, const char *file_path, char *text)
{
	struct metadata_store *store = calloc(1, sizeof(*store));
	int damaged = 0;

	if (!store) {
		snprintf(text, METADATA_TEXT_MAX, "no memory");
		return NULL;
	}
	store->limits = *limits;
	TAILQ_INIT(&store->by_age);
	pthread_rwlock_init(&store->lock, NULL);
	if (!file_path)
		return store;
	store->file = metadata_file_open(file_path, found_in_file, store, &damaged, text);
	if (!store->file)
		goto fail;
	drop_expired(store);
	if (damaged && rewrite(store, text) != 0)
		goto fail;
	return store;
fail:
	metadata_store_close(store);
	return NULL;
}

void metadata_store_close(struct metadata_store *store)
{
	while (!TAILQ_EMPTY(&store->by_age))
		drop(store, TAILQ_FIRST(&store->by_age));
	if (store->file)
		metadata_file_close(store->file);
	pthread_rwlock_destroy(&store->lock);
	free(store);
}

int metadata_store_reserve(struct metadata_store *store, size_t bytes)
{
	uint64_t used = atomic_load_explicit(&store->used, memory_order_relaxed);

	do {
		if (used > store->limits.memory || bytes > store->limits.memory - used)
			return -1;
	} while (!atomic_compare_exchange_weak_explicit(&store->used, &used, used + bytes, memory_order_relaxed,
							memory_order_relaxed));
	return 0;
}

void metadata_store_unreserve(struct metadata_store *store, size_t bytes)
{
	atomic_fetch_sub_explicit(&store->used, bytes, memory_order_relaxed);
}

static int is_rpc_meta(const struct metadata_bytes *key)
{
	return memmem(key->bytes, key->length, "rpc_meta", 8) != NULL;
}

/* May this be put? Under the lock, for writing. */
static enum metadata_result check_put(struct metadata_store *store, const struct metadata_bytes *key,
				      const struct pair *old, char *text)
{
	if (old && !store->limits.allow_duplicate && is_rpc_meta(key))
		return METADATA_DUPLICATE;
	if (!old && store->keys >= store->limits.keys) {
		snprintf(text, METADATA_TEXT_MAX, "full: there are %llu keys, see --max-keys",
			 (unsigned long long)store->keys);
		return METADATA_FULL;
	}
	if (!old &&
	    atomic_load_explicit(&store->used, memory_order_relaxed) + PAIR_COST + key->length > store->limits.memory) {
		snprintf(text, METADATA_TEXT_MAX, "full: %llu bytes are used, see --max-memory",
			 (unsigned long long)store->limits.memory);
		return METADATA_FULL;
	}
	return METADATA_OK;
}

/* Under the lock, for writing: into the file, then into memory. */
static enum metadata_result put(struct metadata_store *store, const struct metadata_record *record,
				uint64_t *position_out, char *text)
{
	struct pair *old = find(store, &record->key);
	enum metadata_result result = check_put(store, &record->key, old, text);

	if (result != METADATA_OK)
		return result;
	if (store->file && metadata_file_append(store->file, record, position_out, text) != 0)
		return METADATA_UNWRITTEN;
	if (old)
		drop(store, old);
	if (add(store, record) != 0) {
		/* The file has it; after a restart it is there. */
		snprintf(text, METADATA_TEXT_MAX, "no memory");
		return METADATA_UNWRITTEN;
	}
	return METADATA_OK;
}

/* Under the lock, for writing, after a change. A log that cannot be made shorter still works. */
static void shorten(struct metadata_store *store)
{
	char text[METADATA_TEXT_MAX];

	if (store->file && metadata_file_is_long(store->file, store->live_bytes, store->keys) &&
	    rewrite(store, text) != 0)
		fprintf(stderr, "causeway metadata-server: %s\n", text);
}

enum metadata_result metadata_store_put(struct metadata_store *store, const struct metadata_bytes *key,
					struct metadata_bytes *value, char *text)
{
	struct metadata_record record = { .value = *value, .put_ms = now_ms() };
	enum metadata_result result;
	uint64_t position = 0;

	record.key.length = key->length;
	record.key.bytes = malloc(key->length + 1);
	if (!record.key.bytes) {
		snprintf(text, METADATA_TEXT_MAX, "no memory");
		return METADATA_UNWRITTEN;
	}
	memcpy(record.key.bytes, key->bytes, key->length);

	pthread_rwlock_wrlock(&store->lock);
	drop_expired(store);
	result = put(store, &record, &position, text);
	if (result == METADATA_OK)
		shorten(store);
	pthread_rwlock_unlock(&store->lock);

	if (result != METADATA_OK) {
		free(record.key.bytes);
		return result;
	}
	*value = (struct metadata_bytes){ NULL, 0 };
	if (store->file && metadata_file_sync(store->file, position, text) != 0)
		return METADATA_UNWRITTEN;
	return METADATA_OK;
}

enum metadata_result metadata_store_get(struct metadata_store *store, const struct metadata_bytes *key,
					struct metadata_bytes *value_out)
{
	enum metadata_result result = METADATA_MISSING;
	struct pair *pair;

	pthread_rwlock_rdlock(&store->lock);
	pair = find(store, key);
	if (pair && !expired(store, pair, now_ms())) {
		value_out->length = pair->record.value.length;
		value_out->bytes = malloc(value_out->length + 1);
		result = value_out->bytes ? METADATA_OK : METADATA_UNWRITTEN;
		if (value_out->bytes)
			memcpy(value_out->bytes, pair->record.value.bytes, value_out->length);
	}
	pthread_rwlock_unlock(&store->lock);
	return result;
}

enum metadata_result metadata_store_delete(struct metadata_store *store, const struct metadata_bytes *key, char *text)
{
	struct metadata_record record = { .key = *key };
	enum metadata_result result = METADATA_OK;
	uint64_t position = 0;
	struct pair *pair;

	pthread_rwlock_wrlock(&store->lock);
	drop_expired(store);
	pair = find(store, key);
	if (!pair) {
		result = METADATA_MISSING;
	} else if (store->file && metadata_file_append(store->file, &record, &position, text) != 0) {
		result = METADATA_UNWRITTEN;
	} else {
		drop(store, pair);
		shorten(store);
	}
	pthread_rwlock_unlock(&store->lock);
	if (result == METADATA_OK && store->file && metadata_file_sync(store->file, position, text) != 0)
		return METADATA_UNWRITTEN;
	return result;
}

void metadata_store_count(struct metadata_store *store, struct metadata_counts *counts_out)
{
	pthread_rwlock_wrlock(&store->lock);
	drop_expired(store);
	counts_out->keys = store->keys;
	counts_out->bytes = atomic_load_explicit(&store->used, memory_order_relaxed);
	counts_out->file_bytes = store->file ? metadata_file_bytes(store->file) : 0;
	pthread_rwlock_unlock(&store->lock);
}
