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
#define PATTERN_PERIOD 65521u /* prime: a page that landed at a wrong place does not look right by chance */

enum memory_owner {
	ENGINE_OWNS, /* cw_memory_allocate() */
	MAPPED,      /* anonymous memory */
	DEVICE,      /* tangMalloc() */
	PINNED,      /* tangHostAlloc() */
	VIEW         /* a part of another memory */
};

struct memory {
	char id[NAME_MAX_BYTES];
	enum memory_owner owner;
	void *mapping; /* NULL when it was given back, and for ENGINE_OWNS and VIEW */
	size_t mapping_length;
	unsigned char *address;
	size_t length;
	int device;               /* -1: the CPU may touch it */
	struct cw_region *region; /* NULL while not registered */
};

/* The engine that the command is for; NULL until "open". */
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

/* The segment and the batch that the members of that name name, or NULL. */
struct cw_segment *segment_of(struct json_object *in);
struct cw_batch *batch_of(struct json_object *in);
/* The requests of the member "requests", "repeat" times. The array is the caller's, to free with requests_free(). */
int requests_from(struct json_object *in, struct cw_request **requests_out, size_t *count_out);
void requests_free(struct cw_request *requests, size_t count);

/* The memory that the member "memory" names, or NULL; that of any name. */
struct memory *memory_of(struct json_object *in);
struct memory *memory_named(const char *id);
/* A new one under the name of the member "memory", or NULL. */
struct memory *memory_new(struct json_object *in);
#define STEP_VALUES 251u
#define STEP_MAX 4096u
/* The table that pattern bytes come from: byte p of a pattern is table[p % PATTERN_PERIOD]. peer.py has the same. */
void pattern_table(uint64_t seed, unsigned char *table);
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
int do_view(struct json_object *in, struct json_object *out);
int do_cycle(struct json_object *in, struct json_object *out);

/* ------------------------------------------------------------- devices, through the vendor's runtime itself */

/* The current device of this thread; -1 while the runtime was not asked for anything. */
int device_current(void);
/* Copies between host memory and memory of a device. */
int device_copy_in(int device, void *to, const void *from, size_t length);
int device_copy_out(int device, void *to, const void *from, size_t length);
/* Gives back what do_device_allocate() and do_host_allocate() made. */
void device_give_back(struct memory *memory);
void device_reset(void);
/* Reads the member "after", an array of {"stream": ...} and {"event": ...}, into at most max entries. */
int device_after_from(struct json_object *in, struct cw_device_sync *after, size_t max, size_t *count_out);
/* The stream of that name. */
int stream_named(const char *id, struct cw_device_sync *sync_out);

int do_device_allocate(struct json_object *in, struct json_object *out);
int do_host_allocate(struct json_object *in, struct json_object *out);
int do_device(struct json_object *in, struct json_object *out);
int do_set_device(struct json_object *in, struct json_object *out);
int do_stream(struct json_object *in, struct json_object *out);
int do_stream_fill(struct json_object *in, struct json_object *out);
int do_stream_wait(struct json_object *in, struct json_object *out);
int do_event(struct json_object *in, struct json_object *out);
int do_fence(struct json_object *in, struct json_object *out);

/* -------------------------------------------------------------------- many transfers at once (peer_load.c) */

int do_order(struct json_object *in, struct json_object *out);
int do_storm(struct json_object *in, struct json_object *out);

#endif
