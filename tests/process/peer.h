/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of cwpeer share: reading a command's members, writing those of its answer, and the memory it moves.
 * Not for anything else; start at peer.c.
 */
#ifndef TESTS_PROCESS_PEER_H
#define TESTS_PROCESS_PEER_H

#include <causeway/causeway.h>

#include <json-c/json.h>

#define SLOTS 64
#define NAME_MAX_BYTES 32

struct memory {
	char id[NAME_MAX_BYTES];
	void *mapping; /* NULL when the engine owns it */
	size_t mapping_length;
	unsigned char *address;
	size_t length;
	struct cw_region *region; /* NULL while not registered */
};

/* The one engine of this process; NULL until "open". */
extern struct cw_engine *engine;

/* What a command failed with when it was not the library that refused; else NULL. */
extern const char *complaint;

/* Fails the command with these words. */
int refuse(const char *why);

/* A member as text; NULL when it is absent. */
const char *text_of(struct json_object *in, const char *key);
uint64_t number_of(struct json_object *in, const char *key, uint64_t fallback);
/* "timeout_ms" in nanoseconds; absent = for ever. */
uint64_t timeout_of(struct json_object *in);

void put_number(struct json_object *out, const char *key, uint64_t value);
void put_text(struct json_object *out, const char *key, const char *value);
void put_bool(struct json_object *out, const char *key, int value);

/* The memory that the member "memory" names, or NULL. */
struct memory *memory_of(struct json_object *in);
/* Forgets all memory, after the engine was closed. */
void memory_reset(void);

int do_allocate(struct json_object *in, struct json_object *out);
int do_map(struct json_object *in, struct json_object *out);
int do_register(struct json_object *in, struct json_object *out);
int do_unregister(struct json_object *in, struct json_object *out);
int do_revoke(struct json_object *in, struct json_object *out);
int do_release_memory(struct json_object *in, struct json_object *out);
int do_region(struct json_object *in, struct json_object *out);
int do_fill(struct json_object *in, struct json_object *out);
int do_compare(struct json_object *in, struct json_object *out);
int do_checksum(struct json_object *in, struct json_object *out);

#endif
