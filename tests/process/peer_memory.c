/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cwpeer's memory: allocating, mapping, registering and revoking it, and what is in it. Contents are patterns that
 * depend on a seed and a position, so that a test can say which bytes must be where; peer.py computes the same.
 */
#include "peer.h"

#include <string.h>
#include <sys/mman.h>

#define WINDOW (1u << 20) /* of device memory looked at through host memory at once */

static struct memory memories[SLOTS];

struct memory *memory_named(const char *id)
{
	for (int i = 0; id && i < SLOTS; i++)
		if (memories[i].id[0] && strcmp(memories[i].id, id) == 0)
			return &memories[i];
	return NULL;
}

struct memory *memory_of(struct json_object *in)
{
	return memory_named(text_of(in, "memory"));
}

struct memory *memory_new(struct json_object *in)
{
	const char *id = text_of(in, "memory");

	if (!id || !id[0] || strlen(id) >= NAME_MAX_BYTES || memory_of(in))
		return NULL;
	for (int i = 0; i < SLOTS; i++) {
		if (!memories[i].id[0]) {
			strcpy(memories[i].id, id);
			memories[i].device = -1;
			return &memories[i];
		}
	}
	return NULL;
}

/* Gives the memory itself back, if it is ours. */
static void give_back(struct memory *memory)
{
	if (memory->mapping && memory->owner == MAPPED)
		munmap(memory->mapping, memory->mapping_length);
	else if (memory->mapping)
		device_give_back(memory);
	memory->mapping = NULL;
}

void memory_reset(void)
{
	for (int i = 0; i < SLOTS; i++) {
		give_back(&memories[i]);
		memories[i] = (struct memory){ 0 };
	}
}

/* ---------------------------------------------------------------------------------------------- memory */

/* Engine-owned memory, registered; "location" as in the library. */
int do_allocate(struct json_object *in, struct json_object *out)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw_region_info info = { .size = sizeof(info) };
	struct memory *memory = memory_new(in);
	void *address;
	int status;

	if (!memory)
		return refuse("no name, or it is taken");
	options.access = (uint32_t)number_of(in, "access", CW_ACCESS_REMOTE);
	options.location = text_of(in, "location");
	memory->length = number_of(in, "length", 0);
	status = cw_memory_allocate(engine, memory->length, &options, &address, &memory->region);
	if (status != CW_OK) {
		memory->id[0] = 0;
		return status;
	}
	memory->address = address;
	memory->owner = ENGINE_OWNS;
	if (cw_region_info_get(memory->region, &info) == CW_OK && info.kind == CW_MEMORY_DEVICE)
		memory->device = info.device;
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
	memory->owner = MAPPED;
	memory->mapping = mapping;
	memory->address = (unsigned char *)mapping + skew;
	put_number(out, "address", (uint64_t)(uintptr_t)memory->address);
	return CW_OK;
}

/* A part of the memory "of", such as a tensor in a larger allocation, to be registered by itself. */
int do_view(struct json_object *in, struct json_object *out)
{
	const struct memory *whole = memory_named(text_of(in, "of"));
	uint64_t offset = number_of(in, "offset", 0), length = number_of(in, "length", 0);
	struct memory *memory;

	if (!whole || offset > whole->length || length > whole->length - offset)
		return refuse("no such range");
	memory = memory_new(in);
	if (!memory)
		return refuse("no name, or it is taken");
	memory->owner = VIEW;
	memory->address = whole->address + offset;
	memory->length = length;
	memory->device = whole->device;
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

/* Gives the memory back to whom it came from: the system, the device's runtime, the engine. What is registered still
 * has to be unregistered then. */
int do_release_memory(struct json_object *in, struct json_object *out)
{
	struct memory *memory = memory_of(in);
	int status = CW_OK;

	(void)out;
	if (!memory)
		return refuse("no such memory");
	if (memory->owner == ENGINE_OWNS)
		status = cw_memory_free(memory->region);
	else
		give_back(memory);
	if (status == CW_OK && (memory->owner == ENGINE_OWNS || !memory->region))
		*memory = (struct memory){ 0 };
	return status;
}

/* Registers and unregisters "count" times. */
int do_cycle(struct json_object *in, struct json_object *out)
{
	struct memory *memory = memory_of(in);
	int status = CW_OK;

	(void)out;
	if (!memory)
		return refuse("no such memory");
	for (uint64_t i = number_of(in, "count", 1); i > 0 && status == CW_OK; i--) {
		status = cw_region_register(engine, memory->address, memory->length, NULL, &memory->region);
		if (status == CW_OK)
			status = cw_region_unregister(memory->region);
	}
	if (status == CW_OK)
		memory->region = NULL;
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

void pattern_table(uint64_t seed, unsigned char *table)
{
	uint32_t state = (uint32_t)seed * 2654435761u + 1;

	for (unsigned i = 0; i < PATTERN_PERIOD; i++) {
		state = state * 1664525u + 1013904223u;
		table[i] = (unsigned char)(state >> 24);
	}
}

/* What "fill" writes and "compare" expects: the pattern of "seed", "position" being that of the first byte; or the one
 * value "byte"; or one value for each "step" bytes: 1, 2, ... STEP_VALUES, 1, ... */
struct content {
	unsigned char table[STEP_VALUES * STEP_MAX];
	uint64_t period, position;
};

static const struct content *content_of(struct json_object *in)
{
	static struct content content;
	uint64_t step = number_of(in, "step", 0);

	content.period = PATTERN_PERIOD;
	content.position = number_of(in, "position", 0);
	if (step > 0 && step <= STEP_MAX) {
		content.period = step * STEP_VALUES;
		for (uint64_t i = 0; i < content.period; i++)
			content.table[i] = (unsigned char)(1 + i / step);
	} else if (text_of(in, "byte")) {
		memset(content.table, (int)number_of(in, "byte", 0), PATTERN_PERIOD);
	} else {
		pattern_table(number_of(in, "seed", 0), content.table);
	}
	return &content;
}

/* The bytes of the content from offset on; *length becomes how many of that many follow there. */
static const unsigned char *content_run(const struct content *content, size_t offset, size_t *length)
{
	size_t place = (content->position + offset) % content->period;

	if (*length > content->period - place)
		*length = content->period - place;
	return content->table + place;
}

/* The range that a command names; NULL when it is not inside the memory. */
static unsigned char *range_of(struct json_object *in, size_t *length_out, int *device_out)
{
	struct memory *memory = memory_of(in);
	uint64_t offset = number_of(in, "offset", 0);

	if (!memory || offset > memory->length)
		return NULL;
	*device_out = memory->device;
	*length_out = number_of(in, "length", memory->length - offset);
	return *length_out <= memory->length - offset ? memory->address + offset : NULL;
}

/* A window on a range: the bytes of device memory come to and go from here by copies of the device's runtime. */
static unsigned char window[WINDOW];

int do_fill(struct json_object *in, struct json_object *out)
{
	const struct content *content = content_of(in);
	size_t length, run, part;
	int device, status = CW_OK;
	unsigned char *data = range_of(in, &length, &device);

	(void)out;
	if (!data)
		return refuse("no such range");
	for (size_t at = 0; at < length && status == CW_OK; at += part) {
		unsigned char *to = device < 0 ? data + at : window;

		part = device < 0 || length - at < WINDOW ? length - at : WINDOW;
		for (size_t i = 0; i < part; i += run) {
			const unsigned char *from;

			run = part - i;
			from = content_run(content, at + i, &run);
			memcpy(to + i, from, run);
		}
		if (device >= 0)
			status = device_copy_in(device, data + at, window, part);
	}
	return status;
}

/* How many bytes differ, and the first that does. */
int do_compare(struct json_object *in, struct json_object *out)
{
	const struct content *content = content_of(in);
	uint64_t different = 0, first = 0;
	size_t length, run, part;
	int device;
	const unsigned char *data = range_of(in, &length, &device);

	if (!data)
		return refuse("no such range");
	for (size_t at = 0; at < length; at += part) {
		const unsigned char *is = device < 0 ? data + at : window;

		part = device < 0 || length - at < WINDOW ? length - at : WINDOW;
		if (device >= 0 && device_copy_out(device, window, data + at, part))
			return CW_ERR_IO;
		for (size_t i = 0; i < part; i += run) {
			const unsigned char *wanted;

			run = part - i;
			wanted = content_run(content, at + i, &run);
			if (memcmp(is + i, wanted, run) == 0)
				continue;
			for (size_t j = 0; j < run; j++)
				if (is[i + j] != wanted[j] && different++ == 0)
					first = at + i + j;
		}
	}
	put_number(out, "different", different);
	put_number(out, "first", first);
	return CW_OK;
}

/* FNV-1a, to see whether anything changed between two looks. */
int do_checksum(struct json_object *in, struct json_object *out)
{
	uint64_t hash = 14695981039346656037u;
	size_t length, part;
	int device;
	const unsigned char *data = range_of(in, &length, &device);

	if (!data)
		return refuse("no such range");
	for (size_t at = 0; at < length; at += part) {
		const unsigned char *is = device < 0 ? data + at : window;

		part = device < 0 || length - at < WINDOW ? length - at : WINDOW;
		if (device >= 0 && device_copy_out(device, window, data + at, part))
			return CW_ERR_IO;
		for (size_t i = 0; i < part; i++)
			hash = (hash ^ is[i]) * 1099511628211u;
	}
	put_number(out, "checksum", hash);
	return CW_OK;
}
