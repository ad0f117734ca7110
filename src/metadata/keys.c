/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array: engines put few keys. */
#include <metadata/keys.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cw__key {
	char *name;
	unsigned pending; /* puts on their way */
	int stored;
};

void cw__keys_init(struct cw__keys *keys)
{
	memset(keys, 0, sizeof(*keys));
	pthread_mutex_init(&keys->lock, NULL);
}

void cw__keys_free(struct cw__keys *keys)
{
	for (size_t i = 0; i < keys->count; i++)
		free(keys->entries[i].name);
	free(keys->entries);
	pthread_mutex_destroy(&keys->lock);
}

/* The place of a key, or where it would be. */
static size_t place_of(const struct cw__keys *keys, const char *key, int *found_out)
{
	size_t low = 0, high = keys->count;

	*found_out = 0;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(key, keys->entries[middle].name);

		if (order == 0) {
			*found_out = 1;
			return middle;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static int insert(struct cw__keys *keys, size_t place, const char *key)
{
	char *name;

	if (keys->count == keys->capacity) {
		size_t capacity = keys->capacity ? 2 * keys->capacity : 8;
		struct cw__key *grown = realloc(keys->entries, capacity * sizeof(*grown));

		if (!grown)
			return CW_ERR_NO_MEMORY;
		keys->entries = grown;
		keys->capacity = capacity;
	}
	name = strdup(key);
	if (!name)
		return CW_ERR_NO_MEMORY;
	memmove(&keys->entries[place + 1], &keys->entries[place], (keys->count - place) * sizeof(*keys->entries));
	keys->entries[place] = (struct cw__key){ .name = name };
	keys->count++;
	return CW_OK;
}

static void forget_unused(struct cw__keys *keys, size_t place)
{
	struct cw__key *entry = &keys->entries[place];

	if (entry->pending || entry->stored)
		return;
	free(entry->name);
	keys->count--;
	memmove(entry, entry + 1, (keys->count - place) * sizeof(*entry));
}

int cw__keys_begin(struct cw__keys *keys, const char *key)
{
	int found, status = CW_OK;
	size_t place;

	pthread_mutex_lock(&keys->lock);
	place = place_of(keys, key, &found);
	if (!found)
		status = insert(keys, place, key);
	if (!status)
		keys->entries[place].pending++;
	pthread_mutex_unlock(&keys->lock);
	return status;
}

void cw__keys_end(struct cw__keys *keys, const char *key, int stored)
{
	size_t place;
	int found;

	pthread_mutex_lock(&keys->lock);
	place = place_of(keys, key, &found);
	if (found) {
		keys->entries[place].pending--;
		keys->entries[place].stored |= stored;
		forget_unused(keys, place);
	}
	pthread_mutex_unlock(&keys->lock);
}

void cw__keys_remove(struct cw__keys *keys, const char *key)
{
	size_t place;
	int found;

	pthread_mutex_lock(&keys->lock);
	place = place_of(keys, key, &found);
	if (found) {
		keys->entries[place].stored = 0;
		forget_unused(keys, place);
	}
	pthread_mutex_unlock(&keys->lock);
}

int cw__keys_are_none(struct cw__keys *keys)
{
	int none;

	pthread_mutex_lock(&keys->lock);
	none = keys->count == 0;
	pthread_mutex_unlock(&keys->lock);
	return none;
}

int cw__keys_next(struct cw__keys *keys, const char *after, char key_out[CW_METADATA_KEY_MAX + 1])
{
	size_t place;
	int found;

	pthread_mutex_lock(&keys->lock);
	place = place_of(keys, after, &found);
	if (found)
		place++;
	while (place < keys->count && !keys->entries[place].stored)
		place++;
	found = place < keys->count;
	if (found)
		snprintf(key_out, CW_METADATA_KEY_MAX + 1, "%s", keys->entries[place].name);
	pthread_mutex_unlock(&keys->lock);
	return found;
}
