/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cwpeer: an engine that a test drives from outside. Each line on stdin is a JSON object whose member "do" names a
 * command of the table at the end (those about memory are in peer_memory.c, about devices in peer_device.c, those that
 * do much at once in peer_load.c). Each is answered by one line of JSON with at least "status" (0 = success), its
 * "name" and a "text". Uses the public interface only. tests/process/peer.py is the other end.
 */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUESTS_MAX 65536
#define EVENTS_MAX 256
#define ENGINES 4

struct handle {
	char id[NAME_MAX_BYTES];
	void *pointer;
};

/* The thread sanitizer does not see that another process orders what we do to a payload before what an engine's thread
 * does; and some tests leave out a fence to see bytes go wrong. Everything but payloads (move() is the emulated
 * device's copy) is watched. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:^do_fill$\nrace:^do_compare$\nrace:^do_checksum$\nrace:^move$\n";
}

struct cw_engine *engine;
const char *complaint;

static struct cw_engine *engines[ENGINES]; /* a command's member "engine" is an index; usually there is one */
static struct cw_engine **chosen = &engines[0];

static struct handle segments[SLOTS];
static struct handle batches[SLOTS];

/* ------------------------------------------------------------------------------------------ arguments */

int refuse(const char *why)
{
	complaint = why;
	return CW_ERR_INVALID;
}

const char *text_of(struct json_object *in, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(in, key, &value) && value ? json_object_get_string(value) : NULL;
}

uint64_t number_of(struct json_object *in, const char *key, uint64_t fallback)
{
	struct json_object *value;

	return json_object_object_get_ex(in, key, &value) && value ? json_object_get_uint64(value) : fallback;
}

uint64_t timeout_of(struct json_object *in)
{
	uint64_t ms = number_of(in, "timeout_ms", UINT64_MAX);

	return ms == UINT64_MAX ? CW_FOREVER : ms * 1000000u;
}

void put_number(struct json_object *out, const char *key, uint64_t value)
{
	json_object_object_add(out, key, json_object_new_uint64(value));
}

void put_text(struct json_object *out, const char *key, const char *value)
{
	json_object_object_add(out, key, json_object_new_string(value ? value : ""));
}

void put_bool(struct json_object *out, const char *key, int value)
{
	json_object_object_add(out, key, json_object_new_boolean(value));
}

static struct handle *handle_of(struct handle *table, const char *id)
{
	for (int i = 0; id && i < SLOTS; i++)
		if (table[i].id[0] && strcmp(table[i].id, id) == 0)
			return &table[i];
	return NULL;
}

/* The slot of that id, or a free one under that id. */
static struct handle *handle_new(struct handle *table, const char *id)
{
	if (!id || !id[0] || strlen(id) >= NAME_MAX_BYTES || handle_of(table, id))
		return NULL;
	for (int i = 0; i < SLOTS; i++) {
		if (!table[i].id[0]) {
			strcpy(table[i].id, id);
			return &table[i];
		}
	}
	return NULL;
}

struct cw_segment *segment_of(struct json_object *in)
{
	struct handle *handle = handle_of(segments, text_of(in, "segment"));

	return handle ? handle->pointer : NULL;
}

struct cw_batch *batch_of(struct json_object *in)
{
	struct handle *handle = handle_of(batches, text_of(in, "batch"));

	return handle ? handle->pointer : NULL;
}

/* ---------------------------------------------------------------------------------------------- engine */

static int do_open(struct json_object *in, struct json_object *out)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_setting settings[SLOTS];
	struct json_object *object;
	int status;

	if (engine)
		return refuse("the engine is open already");
	options.name = text_of(in, "name");
	options.use_environment = (int)number_of(in, "use_environment", 0);
	if (json_object_object_get_ex(in, "settings", &object)) {
		json_object_object_foreach(object, key, value)
		{
			if (options.setting_count == SLOTS)
				return refuse("too many settings");
			settings[options.setting_count].key = key;
			settings[options.setting_count].value = json_object_get_string(value);
			options.setting_count++;
		}
		options.settings = settings;
	}
	status = cw_engine_open(&options, chosen);
	if (status == CW_OK) {
		engine = *chosen;
		put_text(out, "engine", cw_engine_name(engine));
		put_number(out, "pid", (uint64_t)getpid());
	}
	return status;
}

/* With the last engine everything else goes. What belonged to another one must not be used any more. */
static int do_close(struct json_object *in, struct json_object *out)
{
	(void)in;
	(void)out;
	cw_engine_close(engine);
	*chosen = engine = NULL;
	for (int i = 0; i < ENGINES; i++)
		if (engines[i])
			return CW_OK;
	for (int i = 0; i < SLOTS; i++) {
		cw_batch_release(batches[i].pointer);
		batches[i] = (struct handle){ 0 };
		segments[i] = (struct handle){ 0 };
	}
	memory_reset();
	device_reset();
	return CW_OK;
}

static int do_stats(struct json_object *in, struct json_object *out)
{
	struct cw_engine_stats stats = { .size = sizeof(stats) };
	int status = cw_engine_stats_get(engine, &stats);

	(void)in;
	put_number(out, "batches_submitted", stats.batches_submitted);
	put_number(out, "batches_completed", stats.batches_completed);
	put_number(out, "batches_failed", stats.batches_failed);
	put_number(out, "batches_canceled", stats.batches_canceled);
	put_number(out, "batches_timed_out", stats.batches_timed_out);
	put_number(out, "bytes_written", stats.bytes_written);
	put_number(out, "bytes_read", stats.bytes_read);
	put_number(out, "bytes_served", stats.bytes_served);
	put_number(out, "slices_retried", stats.slices_retried);
	put_number(out, "notifications_sent", stats.notifications_sent);
	put_number(out, "notifications_received", stats.notifications_received);
	put_number(out, "requests_refused", stats.requests_refused);
	put_number(out, "protocol_errors", stats.protocol_errors);
	put_number(out, "regions", stats.regions);
	put_number(out, "segments", stats.segments);
	put_number(out, "batches", stats.batches);
	put_number(out, "wakeups", stats.wakeups);
	return status;
}

static void add_transport(void *arg, const char *name, int on, const char *why)
{
	struct json_object *row = json_object_new_object();

	put_text(row, "name", name);
	put_bool(row, "on", on);
	put_text(row, "why", why);
	json_object_array_add(arg, row);
}

static int do_transports(struct json_object *in, struct json_object *out)
{
	struct json_object *rows = json_object_new_array();

	(void)in;
	json_object_object_add(out, "transports", rows);
	return cw_engine_transports(engine, add_transport, rows);
}

/* --------------------------------------------------------------------------------------------- segments */

static int do_segment(struct json_object *in, struct json_object *out)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct handle *handle = handle_new(segments, text_of(in, "segment"));
	struct cw_segment *segment;
	int status;

	(void)out;
	if (!handle)
		return refuse("no name, or it is taken");
	options.timeout = number_of(in, "timeout_ms", 0) * 1000000u;
	options.strict = (int)number_of(in, "strict", 0);
	options.transports = text_of(in, "transports");
	status = cw_segment_open(engine, text_of(in, "peer"), &options, &segment);
	if (status == CW_OK)
		handle->pointer = segment;
	else
		handle->id[0] = 0;
	return status;
}

static int do_segment_close(struct json_object *in, struct json_object *out)
{
	struct handle *handle = handle_of(segments, text_of(in, "segment"));

	(void)out;
	if (!handle)
		return refuse("no such segment");
	cw_segment_close(handle->pointer);
	*handle = (struct handle){ 0 };
	return CW_OK;
}

static int do_segment_info(struct json_object *in, struct json_object *out)
{
	struct cw_segment_info info = { .size = sizeof(info) };
	struct cw_remote_region regions[SLOTS];
	struct json_object *rows = json_object_new_array();
	size_t count = 0;
	int status = cw_segment_regions(segment_of(in), regions, SLOTS, &count);

	json_object_object_add(out, "regions", rows);
	if (status != CW_OK)
		return status;
	status = cw_segment_info_get(segment_of(in), &info);
	put_text(out, "peer", info.name);
	put_text(out, "address", info.address);
	put_bool(out, "classic", info.classic);
	put_bool(out, "same_host", info.same_host);
	put_bool(out, "same_process", info.same_process);
	put_number(out, "state", (uint64_t)info.state);
	put_text(out, "transports", info.transports);
	for (size_t i = 0; i < count && i < SLOTS; i++) {
		struct json_object *row = json_object_new_object();

		put_number(row, "address", regions[i].address);
		put_number(row, "length", regions[i].length);
		put_number(row, "access", regions[i].access);
		put_text(row, "location", regions[i].location);
		json_object_array_add(rows, row);
	}
	return status;
}

static int do_probe(struct json_object *in, struct json_object *out)
{
	uint64_t round_trip = 0;
	int status = cw_segment_probe(segment_of(in), timeout_of(in), &round_trip);

	put_number(out, "round_trip_ns", round_trip);
	return status;
}

static int do_path(struct json_object *in, struct json_object *out)
{
	struct cw_path_step steps[SLOTS];
	struct json_object *rows = json_object_new_array();
	struct memory *memory = memory_of(in);
	size_t count = 0;
	int status;

	json_object_object_add(out, "steps", rows);
	if (!memory)
		return refuse("no such memory");
	status =
		cw_path_explain(segment_of(in), memory->address, number_of(in, "remote", 0), number_of(in, "length", 1),
				(enum cw_op)number_of(in, "op", CW_OP_WRITE), steps, SLOTS, &count);
	for (size_t i = 0; status == CW_OK && i < count && i < SLOTS; i++) {
		struct json_object *row = json_object_new_object();

		put_text(row, "transport", steps[i].transport);
		put_bool(row, "chosen", steps[i].chosen);
		put_bool(row, "usable", steps[i].usable);
		put_number(row, "rails", steps[i].rails);
		put_number(row, "rails_down", steps[i].rails_down);
		put_bool(row, "staged", steps[i].staged);
		put_text(row, "checks", steps[i].checks);
		put_text(row, "why", steps[i].why);
		json_object_array_add(rows, row);
	}
	return status;
}

/* ---------------------------------------------------------------------------------------------- batches */

/* Copies a JSON array of numbers; NULL and count 0 when it is absent. */
static uint64_t *indices_of(struct json_object *in, const char *key, uint64_t *count_out)
{
	struct json_object *array;
	uint64_t *indices;

	*count_out = 0;
	if (!json_object_object_get_ex(in, key, &array) || !json_object_is_type(array, json_type_array))
		return NULL;
	*count_out = json_object_array_length(array);
	indices = calloc(*count_out + 1, sizeof(*indices));
	for (size_t i = 0; indices && i < *count_out; i++)
		indices[i] = json_object_get_uint64(json_object_array_get_idx(array, i));
	return indices;
}

/* Without "page_size" one plain range of "length" bytes; with it, the pages that "local_pages" and "remote_pages" name.
 * The index arrays are the caller's to free through the vectors. */
static int request_from(struct json_object *in, struct cw_request *request)
{
	struct memory *memory = memory_of(in);
	const char *op = text_of(in, "op");
	uint64_t page_size = number_of(in, "page_size", 0);

	if (!memory)
		return refuse("no such memory");
	if (!op || (strcmp(op, "read") != 0 && strcmp(op, "write") != 0))
		return refuse("op must be read or write");
	request->segment = segment_of(in);
	request->op = strcmp(op, "read") == 0 ? CW_OP_READ : CW_OP_WRITE;
	request->local.base = (uint64_t)(uintptr_t)memory->address + number_of(in, "offset", 0);
	request->remote.base = number_of(in, "remote", 0);
	if (page_size == 0) {
		request->local.page_size = request->remote.page_size = number_of(in, "length", memory->length);
		request->local.count = request->remote.count = 1;
		return CW_OK;
	}
	request->local.page_size = request->remote.page_size = page_size;
	request->local.stride = number_of(in, "local_stride", 0);
	request->remote.stride = number_of(in, "remote_stride", 0);
	request->local.indices = indices_of(in, "local_pages", &request->local.count);
	request->remote.indices = indices_of(in, "remote_pages", &request->remote.count);
	request->local.index_bits = request->local.indices ? 64 : 0;
	request->remote.index_bits = request->remote.indices ? 64 : 0;
	return CW_OK;
}

void requests_free(struct cw_request *requests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free((void *)(uintptr_t)requests[i].local.indices);
		free((void *)(uintptr_t)requests[i].remote.indices);
	}
	free(requests);
}

/* "repeat" submits the whole of "requests" so many times in one batch, to keep a peer busy with little memory. */
int requests_from(struct json_object *in, struct cw_request **requests_out, size_t *count_out)
{
	uint64_t repeat = number_of(in, "repeat", 1), rows;
	struct json_object *array;
	struct cw_request *requests;
	size_t count = 0;
	int status = CW_OK;

	rows = json_object_object_get_ex(in, "requests", &array) ? json_object_array_length(array) : 0;
	if (repeat > REQUESTS_MAX || rows > REQUESTS_MAX || rows * repeat > REQUESTS_MAX)
		return refuse("too many requests");
	requests = calloc(rows * repeat + 1, sizeof(*requests));
	if (!requests)
		return CW_ERR_NO_MEMORY;
	for (uint64_t turn = 0; turn < repeat; turn++)
		for (size_t i = 0; i < rows && status == CW_OK; i++)
			status = request_from(json_object_array_get_idx(array, i), &requests[count++]);
	if (status != CW_OK) {
		requests_free(requests, count);
		return status;
	}
	*requests_out = requests;
	*count_out = count;
	return CW_OK;
}

static int do_submit(struct json_object *in, struct json_object *out)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_notify notify = { 0 };
	struct handle *handle = handle_new(batches, text_of(in, "batch"));
	struct cw_device_sync after[SLOTS];
	struct cw_request *requests;
	struct json_object *object;
	struct cw_batch *batch;
	size_t count;
	int status;

	(void)out;
	if (!handle)
		return refuse("no name, or it is taken");
	status = device_after_from(in, after, SLOTS, &options.device_after_count);
	if (status == CW_OK)
		status = requests_from(in, &requests, &count);
	if (status != CW_OK) {
		handle->id[0] = 0;
		return status;
	}
	options.device_after = after;
	options.deadline_ns = number_of(in, "deadline_ns", 0);
	options.flags = (uint32_t)number_of(in, "flags", 0);
	if (json_object_object_get_ex(in, "notify", &object)) {
		notify.segment = segment_of(object);
		notify.name = text_of(object, "name");
		notify.data = text_of(object, "data");
		notify.length = notify.data ? strlen(notify.data) : 0;
		options.notify = &notify;
		options.notify_count = 1;
	}
	status = cw_batch_submit(engine, requests, count, &options, &batch);
	requests_free(requests, count);
	if (status == CW_OK)
		handle->pointer = batch;
	else
		handle->id[0] = 0;
	return status;
}

static int do_result(struct json_object *in, struct json_object *out)
{
	static const char *const states[] = { "WAITING", "ACTIVE", "COMPLETED", "FAILED", "CANCELED", "TIMED_OUT" };
	static const char *const remotes[] = { "QUIET", "FENCED", "UNKNOWN" };
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch = batch_of(in);
	int status;

	if (!batch)
		return refuse("no such batch");
	status = cw_batch_result_get(batch, &result);
	if (status != CW_OK)
		return status;
	put_text(out, "state", states[result.state]);
	put_text(out, "cause", cw_status_name(result.status));
	put_text(out, "remote", remotes[result.remote]);
	put_text(out, "why", result.text);
	put_bool(out, "local_quiet", result.local_quiet);
	put_bool(out, "retryable", result.retryable);
	put_number(out, "scope", (uint64_t)result.scope);
	put_number(out, "fence_ns", result.fence_ns);
	put_number(out, "requests_completed", result.requests_completed);
	put_number(out, "requests_failed", result.requests_failed);
	put_number(out, "bytes_completed", result.bytes_completed);
	put_number(out, "submitted_ns", result.submitted_ns);
	put_number(out, "ended_ns", result.ended_ns);
	return CW_OK;
}

/* Waits, then answers with the result as it is: a batch that has not ended says ACTIVE. */
static int do_wait(struct json_object *in, struct json_object *out)
{
	struct cw_batch *batch = batch_of(in);
	int status;

	if (!batch)
		return refuse("no such batch");
	status = cw_batch_wait(batch, timeout_of(in));
	return status == CW_OK || status == CW_ERR_AGAIN ? do_result(in, out) : status;
}

static int do_cancel(struct json_object *in, struct json_object *out)
{
	struct cw_batch *batch = batch_of(in);

	(void)out;
	return batch ? cw_batch_cancel(batch) : refuse("no such batch");
}

static int do_release(struct json_object *in, struct json_object *out)
{
	struct handle *handle = handle_of(batches, text_of(in, "batch"));

	(void)out;
	if (!handle)
		return refuse("no such batch");
	cw_batch_release(handle->pointer);
	*handle = (struct handle){ 0 };
	return CW_OK;
}

/* ---------------------------------------------------------------------------------------- notifications */

static int do_notify(struct json_object *in, struct json_object *out)
{
	struct cw_notify notify = { .segment = segment_of(in),
				    .name = text_of(in, "name"),
				    .data = text_of(in, "data") };

	(void)out;
	notify.length = notify.data ? strlen(notify.data) : 0;
	return cw_notify_send(engine, &notify, timeout_of(in));
}

static struct json_object *event_row(const struct cw_event *event)
{
	static const char *const kinds[] = { "BATCH", "NOTIFY", "PEER", "QUIET" };
	static const char *const states[] = { "UP", "SUSPECT", "DOWN", "RESTARTED" };
	struct json_object *row = json_object_new_object();

	put_text(row, "kind", kinds[event->kind]);
	if (event->kind == CW_EVENT_NOTIFY) {
		put_text(row, "sender", event->sender);
		put_text(row, "name", event->name);
		json_object_object_add(row, "data", json_object_new_string_len(event->data, (int)event->length));
	} else if (event->kind == CW_EVENT_PEER) {
		put_text(row, "state", states[event->state]);
		for (int i = 0; i < SLOTS; i++)
			if (segments[i].id[0] && segments[i].pointer == event->segment)
				put_text(row, "segment", segments[i].id);
	}
	return row;
}

/* The events of the default queue; waits for the first one up to the timeout. */
static int do_events(struct json_object *in, struct json_object *out)
{
	struct json_object *rows = json_object_new_array();
	struct cw_event events[EVENTS_MAX];
	int count = cw_queue_wait(cw_engine_queue(engine), events, EVENTS_MAX, timeout_of(in));

	json_object_object_add(out, "events", rows);
	for (int i = 0; i < count; i++) {
		json_object_array_add(rows, event_row(&events[i]));
		cw_event_clear(&events[i]);
	}
	return count < 0 ? count : CW_OK;
}

/* ---------------------------------------------------------------------------------------------- driving */

static const struct command {
	const char *name;
	int (*run)(struct json_object *in, struct json_object *out);
} commands[] = {
	{ "allocate", do_allocate },
	{ "cancel", do_cancel },
	{ "checksum", do_checksum },
	{ "close", do_close },
	{ "compare", do_compare },
	{ "cycle", do_cycle },
	{ "device", do_device },
	{ "device_allocate", do_device_allocate },
	{ "event", do_event },
	{ "events", do_events },
	{ "fence", do_fence },
	{ "fill", do_fill },
	{ "host_allocate", do_host_allocate },
	{ "map", do_map },
	{ "notify", do_notify },
	{ "open", do_open },
	{ "order", do_order },
	{ "path", do_path },
	{ "probe", do_probe },
	{ "region", do_region },
	{ "register", do_register },
	{ "release", do_release },
	{ "release_memory", do_release_memory },
	{ "result", do_result },
	{ "revoke", do_revoke },
	{ "segment", do_segment },
	{ "segment_close", do_segment_close },
	{ "segment_info", do_segment_info },
	{ "set_device", do_set_device },
	{ "stats", do_stats },
	{ "storm", do_storm },
	{ "stream", do_stream },
	{ "stream_fill", do_stream_fill },
	{ "stream_wait", do_stream_wait },
	{ "submit", do_submit },
	{ "transports", do_transports },
	{ "unregister", do_unregister },
	{ "view", do_view },
	{ "wait", do_wait },
};

/* Those that need no engine. */
static int (*const early[])(struct json_object *in, struct json_object *out) = {
	do_open, do_device, do_device_allocate, do_host_allocate, do_set_device, do_fill, do_compare, do_release_memory,
};

static int runs_now(const struct command *command)
{
	for (size_t i = 0; i < sizeof(early) / sizeof(early[0]); i++)
		if (early[i] == command->run)
			return 1;
	return engine != NULL;
}

static int run(struct json_object *in, struct json_object *out)
{
	const char *name = json_object_is_type(in, json_type_object) ? text_of(in, "do") : NULL;
	uint64_t index = name ? number_of(in, "engine", 0) : 0;

	if (index >= ENGINES)
		return refuse("no such engine");
	chosen = &engines[index];
	engine = *chosen;
	for (size_t i = 0; name && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return runs_now(&commands[i]) ? commands[i].run(in, out) : refuse("the engine is not open");
	return refuse("no such command");
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, stdin) > 0) {
		struct json_object *in = json_tokener_parse(line);
		struct json_object *out = json_object_new_object();
		int device = device_current(), status;

		complaint = NULL;
		status = run(in, out);
		if (device >= 0 && device_current() != device)
			put_number(out, "moved_from", (uint64_t)device);
		json_object_object_add(out, "status", json_object_new_int(status));
		put_text(out, "name", cw_status_name(status));
		put_text(out, "text", status == CW_OK ? "" : complaint ? complaint : cw_last_error());
		printf("%s\n", json_object_to_json_string_ext(out, JSON_C_TO_STRING_PLAIN));
		fflush(stdout);
		json_object_put(in);
		json_object_put(out);
	}
	free(line);
	for (int i = 0; i < ENGINES; i++)
		cw_engine_close(engines[i]);
	return 0;
}
