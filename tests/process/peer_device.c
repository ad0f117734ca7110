/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cwpeer's devices: what a program that computes on them does by itself, through the vendor's runtime and not through
 * the engine: memory, streams with work that is done later, events, its current device. So what the engine did
 * can be looked at from outside. The runtime is loaded by the first of these commands, from MC_TANGRT_LIB_DIR.
 */
#include "peer_device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct device_calls tang;

static const struct {
	const char *name;
	void *slot;
} symbols[] = {
	{ "tangGetDeviceCount", &tang.get_device_count },
	{ "tangGetDevice", &tang.get_device },
	{ "tangSetDevice", &tang.set_device },
	{ "tangMalloc", &tang.allocate },
	{ "tangFree", &tang.release },
	{ "tangHostAlloc", &tang.host_allocate },
	{ "tangFreeHost", &tang.host_release },
	{ "tangMemcpy", &tang.copy },
	{ "tangMemcpyAsync", &tang.copy_async },
	{ "tangMemsetAsync", &tang.set_async },
	{ "tangStreamCreateWithFlags", &tang.stream_create },
	{ "tangStreamSynchronize", &tang.stream_synchronize },
	{ "tangStreamWaitEvent", &tang.stream_wait_event },
	{ "tangStreamDestroy", &tang.stream_destroy },
	{ "tangEventCreateWithFlags", &tang.event_create },
	{ "tangEventRecord", &tang.event_record },
	{ "tangEventDestroy", &tang.event_destroy },
};

static int loaded;

/* A stream or an event under a name. */
struct place {
	char id[NAME_MAX_BYTES];
	char location[16];
	int device;
	void *handle; /* NULL = the default stream */
};

static struct place streams[SLOTS], events[SLOTS];

/* Host memory that copies in a stream may still read; freed with the streams. */
static void *sources[SLOTS * 16];
static size_t source_count;

/* --------------------------------------------------------------------------------------------- runtime */

int load(void)
{
	static char why[512];
	const char *folder = getenv("MC_TANGRT_LIB_DIR");
	void *library;

	if (loaded)
		return CW_OK;
	if (!folder)
		return refuse("MC_TANGRT_LIB_DIR is not set");
	snprintf(why, sizeof(why), "%s/libtangrt_shared.so", folder);
	library = dlopen(why, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		snprintf(why, sizeof(why), "%s", dlerror());
		return refuse(why);
	}
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(library, symbols[i].name);

		if (!symbol) {
			snprintf(why, sizeof(why), "the runtime lacks %s", symbols[i].name);
			return refuse(why);
		}
		memcpy(symbols[i].slot, &symbol, sizeof(symbol));
	}
	loaded = 1;
	return CW_OK;
}

int done(int result, const char *call)
{
	static char why[64];

	if (result == 0)
		return CW_OK;
	snprintf(why, sizeof(why), "%s: result %d", call, result);
	complaint = why;
	return CW_ERR_IO;
}

int device_current(void)
{
	int device;

	return loaded && tang.get_device(&device) == 0 ? device : -1;
}

int enter(int device)
{
	int before = device_current();

	if (before != device)
		(void)tang.set_device(device);
	return before;
}

void leave(int before)
{
	if (before != device_current())
		(void)tang.set_device(before);
}

int device_copy_in(int device, void *to, const void *from, size_t length)
{
	int status = load(), before;

	if (status != CW_OK)
		return status;
	before = enter(device);
	status = done(tang.copy(to, from, length, KIND_H2D), "tangMemcpy to the device");
	leave(before);
	return status;
}

int device_copy_out(int device, void *to, const void *from, size_t length)
{
	int status = load(), before;

	if (status != CW_OK)
		return status;
	before = enter(device);
	status = done(tang.copy(to, from, length, KIND_D2H), "tangMemcpy from the device");
	leave(before);
	return status;
}

int do_device(struct json_object *in, struct json_object *out)
{
	int status = load(), count = 0;

	(void)in;
	if (status == CW_OK)
		status = done(tang.get_device_count(&count), "tangGetDeviceCount");
	put_number(out, "count", (uint64_t)count);
	return status;
}

/* The one command that may change the current device; peer.py sees that no other does. */
int do_set_device(struct json_object *in, struct json_object *out)
{
	int status = load();

	put_bool(out, "moves", 1);
	return status == CW_OK ? done(tang.set_device((int)number_of(in, "device", 0)), "tangSetDevice") : status;
}

/* ---------------------------------------------------------------------------------------------- memory */

/* "skew" moves the start to an odd place. */
static int new_memory(struct json_object *in, struct json_object *out, enum memory_owner owner, int device)
{
	struct memory *memory;
	size_t skew = number_of(in, "skew", 0);
	int status = load(), before;

	if (status != CW_OK)
		return status;
	memory = memory_new(in);
	if (!memory)
		return refuse("no name, or it is taken");
	memory->owner = owner;
	memory->device = device;
	memory->length = number_of(in, "length", 0);
	memory->mapping_length = memory->length + skew;
	before = enter(device < 0 ? 0 : device);
	status = owner == DEVICE ? done(tang.allocate(&memory->mapping, memory->mapping_length), "tangMalloc")
				 : done(tang.host_allocate(&memory->mapping, memory->mapping_length, HOST_ALLOC_MAPPED),
					"tangHostAlloc");
	leave(before);
	if (status != CW_OK) {
		*memory = (struct memory){ 0 };
		return status;
	}
	memory->address = (unsigned char *)memory->mapping + skew;
	put_number(out, "address", (uint64_t)(uintptr_t)memory->address);
	return CW_OK;
}

int do_device_allocate(struct json_object *in, struct json_object *out)
{
	return new_memory(in, out, DEVICE, (int)number_of(in, "device", 0));
}

/* Host memory that devices see. */
int do_host_allocate(struct json_object *in, struct json_object *out)
{
	return new_memory(in, out, PINNED, -1);
}

void device_give_back(struct memory *memory)
{
	int before = enter(memory->device < 0 ? 0 : memory->device);

	if (memory->owner == DEVICE)
		(void)tang.release(memory->mapping);
	else
		(void)tang.host_release(memory->mapping);
	leave(before);
}

/* ---------------------------------------------------------------------------------------------- streams */

static struct place *place_of(struct place *table, const char *id)
{
	for (int i = 0; id && i < SLOTS; i++)
		if (table[i].id[0] && strcmp(table[i].id, id) == 0)
			return &table[i];
	return NULL;
}

static struct place *place_new(struct place *table, const char *id, int device)
{
	if (!id || !id[0] || strlen(id) >= NAME_MAX_BYTES || place_of(table, id))
		return NULL;
	for (int i = 0; i < SLOTS; i++) {
		if (table[i].id[0])
			continue;
		strcpy(table[i].id, id);
		table[i].device = device;
		snprintf(table[i].location, sizeof(table[i].location), "sunrise:%d", device);
		return &table[i];
	}
	return NULL;
}

static struct cw_device_sync sync_of(const struct place *place, enum cw_device_sync_kind kind)
{
	return (struct cw_device_sync){ .location = place->location, .kind = kind, .handle = place->handle };
}

int stream_named(const char *id, struct cw_device_sync *sync_out)
{
	const struct place *stream = place_of(streams, id);

	if (!stream)
		return refuse("no such stream");
	*sync_out = sync_of(stream, CW_DEVICE_STREAM);
	return CW_OK;
}

int device_after_from(struct json_object *in, struct cw_device_sync *after, size_t max, size_t *count_out)
{
	struct json_object *array;

	*count_out = 0;
	if (!json_object_object_get_ex(in, "after", &array))
		return CW_OK;
	for (size_t i = 0; i < json_object_array_length(array) && i < max; i++) {
		struct json_object *row = json_object_array_get_idx(array, i);
		const struct place *stream = place_of(streams, text_of(row, "stream"));
		const struct place *event = place_of(events, text_of(row, "event"));

		if (!stream && !event)
			return refuse("no such stream or event");
		after[i] = stream ? sync_of(stream, CW_DEVICE_STREAM) : sync_of(event, CW_DEVICE_EVENT);
		if (text_of(row, "location")) /* wrong ones, to be refused */
			after[i].location = text_of(row, "location");
		after[i].kind = (uint32_t)number_of(row, "kind", after[i].kind);
		(*count_out)++;
	}
	return CW_OK;
}

/* A new stream of "device"; with "default" that device's default one. */
int do_stream(struct json_object *in, struct json_object *out)
{
	int status = load(), device = (int)number_of(in, "device", 0), before;
	struct place *stream;

	(void)out;
	if (status != CW_OK)
		return status;
	stream = place_new(streams, text_of(in, "stream"), device);
	if (!stream)
		return refuse("no name, or it is taken");
	if (number_of(in, "default", 0))
		return CW_OK;
	before = enter(device);
	status = done(tang.stream_create(&stream->handle, STREAM_NON_BLOCKING), "tangStreamCreateWithFlags");
	leave(before);
	if (status != CW_OK)
		stream->id[0] = 0;
	return status;
}

/* Fills a range with "byte", or with the pattern of "seed" from host memory, when the stream comes to it. */
int do_stream_fill(struct json_object *in, struct json_object *out)
{
	const struct place *stream = place_of(streams, text_of(in, "stream"));
	const struct memory *memory = memory_of(in);
	uint64_t offset = number_of(in, "offset", 0), length;
	static unsigned char table[PATTERN_PERIOD];
	unsigned char *source;
	int before, status;

	(void)out;
	if (!stream || !memory || memory->device != stream->device || offset > memory->length)
		return refuse("no such stream, or it is not of the memory's device");
	length = number_of(in, "length", memory->length - offset);
	if (length > memory->length - offset)
		return refuse("no such range");
	before = enter(stream->device);
	if (text_of(in, "byte")) {
		status = done(
			tang.set_async(memory->address + offset, (int)number_of(in, "byte", 0), length, stream->handle),
			"tangMemsetAsync");
		leave(before);
		return status;
	}
	source = source_count < sizeof(sources) / sizeof(sources[0]) ? malloc(length + 1) : NULL;
	status = source ? CW_OK : CW_ERR_NO_MEMORY;
	if (source) {
		sources[source_count++] = source;
		pattern_table(number_of(in, "seed", 0), table);
		for (uint64_t i = 0; i < length; i++)
			source[i] = table[i % PATTERN_PERIOD];
		status = done(tang.copy_async(memory->address + offset, source, length, KIND_H2D, stream->handle),
			      "tangMemcpyAsync");
	}
	leave(before);
	return status;
}

/* Waits until everything in the stream is done; or, with "event", makes the stream wait for that event. */
int do_stream_wait(struct json_object *in, struct json_object *out)
{
	const struct place *stream = place_of(streams, text_of(in, "stream"));
	const struct place *event = place_of(events, text_of(in, "event"));
	int before, status;

	(void)out;
	if (!stream || (text_of(in, "event") && !event))
		return refuse("no such stream or event");
	before = enter(stream->device);
	if (event)
		status = done(tang.stream_wait_event(stream->handle, event->handle, 0), "tangStreamWaitEvent");
	else
		status = done(tang.stream_synchronize(stream->handle), "tangStreamSynchronize");
	leave(before);
	return status;
}

/* Records the event of that name in the stream; makes it if there is none. */
int do_event(struct json_object *in, struct json_object *out)
{
	const struct place *stream = place_of(streams, text_of(in, "stream"));
	struct place *event = place_of(events, text_of(in, "event"));
	int status = CW_OK, before;

	(void)out;
	if (!stream)
		return refuse("no such stream");
	before = enter(stream->device);
	if (!event) {
		event = place_new(events, text_of(in, "event"), stream->device);
		status = event ? done(tang.event_create(&event->handle, EVENT_NO_TIMING), "tangEventCreateWithFlags")
			       : refuse("no name, or too many events");
		if (event && status != CW_OK)
			event->id[0] = 0;
	}
	if (status == CW_OK)
		status = done(tang.event_record(event->handle, stream->handle), "tangEventRecord");
	leave(before);
	return status;
}

/* Makes the stream wait for the batch. */
int do_fence(struct json_object *in, struct json_object *out)
{
	struct cw_batch *batch = batch_of(in);
	struct cw_device_sync stream;
	int status = stream_named(text_of(in, "stream"), &stream);

	(void)out;
	if (status != CW_OK)
		return status;
	return batch ? cw_batch_fence(batch, &stream) : refuse("no such batch");
}

void device_reset(void)
{
	for (int i = 0; i < SLOTS; i++) {
		if (streams[i].handle)
			(void)tang.stream_synchronize(streams[i].handle);
		if (streams[i].handle)
			(void)tang.stream_destroy(streams[i].handle);
		if (events[i].handle)
			(void)tang.event_destroy(events[i].handle);
		streams[i] = events[i] = (struct place){ 0 };
	}
	while (source_count > 0)
		free(sources[--source_count]);
}
