/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys that a store has put and nobody removed, sorted: what a lease has to keep alive. Any thread.
 */
#ifndef CW_METADATA_KEYS_H
#define CW_METADATA_KEYS_H

#include <causeway/plugin.h>
#include <pthread.h>

struct cw__keys {
	pthread_mutex_t lock;
	struct cw__key *entries; /* guarded by lock, as the next ones */
	size_t count, capacity;
};

void cw__keys_init(struct cw__keys *keys);
void cw__keys_free(struct cw__keys *keys);

/* Before a put is sent; cw__keys_end() follows, with whether it succeeded. NO_MEMORY. */
int cw__keys_begin(struct cw__keys *keys, const char *key);
void cw__keys_end(struct cw__keys *keys, const char *key, int stored);
/* After a key was removed from the store. */
void cw__keys_remove(struct cw__keys *keys, const char *key);

/* No key is stored or on its way. */
int cw__keys_are_none(struct cw__keys *keys);
/* The first stored key after the given one ("" = the first of all), copied. 0 when there is none. */
int cw__keys_next(struct cw__keys *keys, const char *after, char key_out[CW_METADATA_KEY_MAX + 1]);

#endif
