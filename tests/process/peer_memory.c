/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cwpeer's memory: allocating, mapping, registering and revoking it, and what is in it. Contents are patterns that
 * depend on a seed and a position, so that a test can say which bytes must be where; peer.py computes the same.
 */
#include "peer.h"

#include <string.h>
#include <sys/mman.h>

#define PATTERN_PERIOD 65521u /* prime: a page that landed at a wrong place does not look right by chance */

static struct memory memories[SLOTS];

struct memory *memory_of(struct json_object *in)
{
	const char *id = text_of(in, "memory");

	for (int i = 0; id && i < SLOTS; i++)
		if (memories[i].id[0] && strcmp(memories[i].id, id) == 0)
			return &memories[i];
	return NULL;
}

static struct memory *memory_new(struct json_object *in)
{
	const char *id = text_of(in, "memory");

	if (!id || !id[0] || strlen(id) >= NAME_MAX_BYTES || memory_of(in))
		return NULL;
	for (int i = 0; i < SLOTS; i++) {
		if (!memories[i].id[0]) {
			strcpy(memories[i].id, id);
			return &memories[i];
		}
	}
	return NULL;
}

void memory_reset(void)
{
	for (int i = 0; i < SLOTS; i++) {
		if (memories[i].mapping)
			munmap(memories[i].mapping, memories[i].mapping_length);
		memories[i] = (struct memory){ 0 };
	}
}

/* ---------------------------------------------------------------------------------------------- memory */

/* Engine-owned memory, registered. */
int do_allocate(struct json_object *in, struct json_object *out)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct memory *memory = memory_new(in);
	void *address;
	int status;

	if (!memory)
		return refuse("no name, or it is taken");
	options.access = (uint32_t)number_of(in, "access", CW_ACCESS_REMOTE);
	memory->length = number_of(in, "length", 0);
	status = cw_memory_allocate(engine, memory->length, &options, &address, &memory->region);
	if (status != CW_OK) {
		memory->id[0] = 0;
		return status;
	}
	memory->address = address;
	put_number(out, "address", (uint64_t)(uintptr_t)address);
	return CW_OK;
}

/* Ordinary anonymous memory, not registered; "skew" moves its start to an odd place. */
int do_map(struct json_object *in, struct json_object *out)
{
	struct memory *memory = memory_new(in);
	size_t skew = number_of(in, "skew", 0);
	void *mapping;

	if (!memory)
		return refuse("no name, or it is taken");
	memory->length = number_of(in, "length", 0);
	memory->mapping_length = memory->length + skew;
	mapping = mmap(NULL, memory->mapping_length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapping == MAP_FAILED) {
		*memory = (struct memory){ 0 };
		return CW_ERR_NO_MEMORY;
	}
	memory->mapping = mapping;
	memory->address = (unsigned char *)mapping + skew;
	put_number(out, "address", (uint64_t)(uintptr_t)memory->address);
	return CW_OK;
}

int do_register(struct json_object *in, struct json_object *out)
{
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct memory *memory = memory_of(in);

	(void)out;
	if (!memory)
		return refuse("no such memory");
	options.access = (uint32_t)number_of(in, "access", CW_ACCESS_REMOTE);
	options.location = text_of(in, "location");
	return cw_region_register(engine, memory->address, memory->length, &options, &memory->region);
}

int do_unregister(struct json_object *in, struct json_object *out)
{
	struct memory *memory = memory_of(in);
	int status;

	(void)out;
	if (!memory || !memory->region)
		return refuse("no such region");
	status = cw_region_unregister(memory->region);
	if (status == CW_OK)
		memory->region = NULL;
	return status;
}

int do_revoke(struct json_object *in, struct json_object *out)
{
	struct memory *memory = memory_of(in);

	(void)out;
	if (!memory || !memory->region)
		return refuse("no such region");
	return cw_region_revoke(memory->region, number_of(in, "offset", 0), number_of(in, "length", 0), timeout_of(in));
}

/* Gives the memory back to the system: munmap of a mapping, cw_memory_free() of what the engine owns. */
int do_release_memory(struct json_object *in, struct json_object *out)
{
	struct memory *memory = memory_of(in);
	int status = CW_OK;

	(void)out;
	if (!memory)
		return refuse("no such memory");
	if (memory->mapping)
		munmap(memory->mapping, memory->mapping_length);
	else
		status = cw_memory_free(memory->region);
	if (status == CW_OK && !(memory->mapping && memory->region))
		*memory = (struct memory){ 0 };
	else if (memory->mapping)
		memory->mapping = NULL; /* the region is still to be unregistered */
	return status;
}

int do_region(struct json_object *in, struct json_object *out)
{
	struct cw_region_info info = { .size = sizeof(info) };
	struct memory *memory = memory_of(in);
	int status;

	if (!memory || !memory->region)
		return refuse("no such region");
	status = cw_region_info_get(memory->region, &info);
	put_number(out, "address", info.address);
	put_number(out, "length", info.length);
	put_number(out, "page_size", info.page_size);
	put_text(out, "location", info.location);
	put_number(out, "registrations", info.registrations);
	put_bool(out, "engine_owned", info.engine_owned);
	return status;
}

/* --------------------------------------------------------------------------------------------- contents */

/* The table that pattern bytes come from: byte p of a pattern is table[p % PATTERN_PERIOD]. peer.py has the same. */
static void pattern_table(uint64_t seed, unsigned char *table)
{
	uint32_t state = (uint32_t)seed * 2654435761u + 1;

	for (unsigned i = 0; i < PATTERN_PERIOD; i++) {
		state = state * 1664525u + 1013904223u;
		table[i] = (unsigned char)(state >> 24);
	}
}

/* The range that a command names; NULL when it is not inside the memory. */
static unsigned char *range_of(struct json_object *in, size_t *length_out)
{
	struct memory *memory = memory_of(in);
	uint64_t offset = number_of(in, "offset", 0);

	if (!memory || offset > memory->length)
		return NULL;
	*length_out = number_of(in, "length", memory->length - offset);
	return *length_out <= memory->length - offset ? memory->address + offset : NULL;
}

/* Writes the pattern of "seed", or the one value "byte". "position" is the pattern's position of the first byte. */
int do_fill(struct json_object *in, struct json_object *out)
{
	static unsigned char table[PATTERN_PERIOD];
	uint64_t position = number_of(in, "position", 0);
	size_t length;
	unsigned char *data = range_of(in, &length);

	(void)out;
	if (!data)
		return refuse("no such range");
	if (text_of(in, "byte")) {
		memset(data, (int)number_of(in, "byte", 0), length);
		return CW_OK;
	}
	pattern_table(number_of(in, "seed", 0), table);
	for (size_t i = 0; i < length; i++)
		data[i] = table[(position + i) % PATTERN_PERIOD];
	return CW_OK;
}

/* Compares with the pattern of "seed" (or with "byte"): how many bytes differ, and the first that does. */
int do_compare(struct json_object *in, struct json_object *out)
{
	static unsigned char table[PATTERN_PERIOD];
	uint64_t position = number_of(in, "position", 0);
	int constant = text_of(in, "byte") != NULL;
	unsigned char byte = (unsigned char)number_of(in, "byte", 0);
	uint64_t different = 0, first = 0;
	size_t length;
	const unsigned char *data = range_of(in, &length);

	if (!data)
		return refuse("no such range");
	pattern_table(number_of(in, "seed", 0), table);
	for (size_t i = 0; i < length; i++) {
		if (data[i] == (constant ? byte : table[(position + i) % PATTERN_PERIOD]))
			continue;
		if (different++ == 0)
			first = i;
	}
	put_number(out, "different", different);
	put_number(out, "first", first);
	return CW_OK;
}

/* FNV-1a, to see whether anything changed between two looks. */
int do_checksum(struct json_object *in, struct json_object *out)
{
	uint64_t hash = 14695981039346656037u;
	size_t length;
	const unsigned char *data = range_of(in, &length);

	if (!data)
		return refuse("no such range");
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ data[i]) * 1099511628211u;
	put_number(out, "checksum", hash);
	return CW_OK;
}
