/* SPDX-License-Identifier: Apache-2.0 */
/* Reads traces, see trace.h. Every line is checked: types, signs, sizes; members it does not know are left alone. */
#include "trace.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES (16u << 20)
#define JSON_DEPTH 8

struct reader {
	struct trace trace;
	size_t request_room, hash_room;
	const char *problem; /* with the current line */
};

/* Makes room for one more in an array that doubles. */
static void *grow(void *array, size_t count, size_t *room, size_t size)
{
	size_t wanted = *room ? *room * 2 : 1024;
	void *larger;

	if (count < *room)
		return array;
	larger = reallocarray(array, wanted, size);
	if (larger)
		*room = wanted;
	return larger;
}

static int get_integer(struct json_object *object, int64_t *value_out)
{
	if (!json_object_is_type(object, json_type_int))
		return -1;
	*value_out = json_object_get_int64(object);
	/* json-c clamps what does not fit. */
	return *value_out < 0 || *value_out == INT64_MAX ? -1 : 0;
}

static int member_integer(struct json_object *line, const char *name, int64_t *value_out)
{
	struct json_object *member;

	return json_object_object_get_ex(line, name, &member) ? get_integer(member, value_out) : -1;
}

static int add_hash(struct reader *reader, struct json_object *element)
{
	struct trace *trace = &reader->trace;
	uint64_t *hashes = grow(trace->hashes, trace->hash_count, &reader->hash_room, sizeof(*hashes));
	int64_t value;

	if (!hashes) {
		reader->problem = "out of memory";
		return -1;
	}
	trace->hashes = hashes;
	if (get_integer(element, &value) != 0) {
		reader->problem = "hash_ids must hold non-negative integers";
		return -1;
	}
	hashes[trace->hash_count++] = (uint64_t)value;
	return 0;
}

static int add_request(struct reader *reader, struct json_object *line)
{
	struct trace *trace = &reader->trace;
	struct trace_request *requests =
		grow(trace->requests, trace->request_count, &reader->request_room, sizeof(*requests));
	struct json_object *hashes;
	int64_t timestamp, input, output;
	struct trace_request *request;

	if (!requests) {
		reader->problem = "out of memory";
		return -1;
	}
	trace->requests = requests;
	if (!json_object_is_type(line, json_type_object)) {
		reader->problem = "not a JSON object";
		return -1;
	}
	if (member_integer(line, "timestamp", &timestamp) != 0 || member_integer(line, "input_length", &input) != 0 ||
	    member_integer(line, "output_length", &output) != 0) {
		reader->problem = "timestamp, input_length and output_length must be non-negative integers";
		return -1;
	}
	if (!json_object_object_get_ex(line, "hash_ids", &hashes) || !json_object_is_type(hashes, json_type_array)) {
		reader->problem = "hash_ids must be an array";
		return -1;
	}
	request = &requests[trace->request_count++];
	*request = (struct trace_request){ .timestamp_ms = (uint64_t)timestamp, .first = trace->hash_count };
	request->count = json_object_array_length(hashes);
	for (size_t i = 0; i < request->count; i++)
		if (add_hash(reader, json_object_array_get_idx(hashes, i)) != 0)
			return -1;
	return 0;
}

static int parse_line(struct reader *reader, struct json_tokener *tokener, const char *line, size_t length)
{
	struct json_object *object;
	int status;

	if (length > LINE_MAX_BYTES) {
		reader->problem = "the line is longer than 16 MiB";
		return -1;
	}
	json_tokener_reset(tokener);
	object = json_tokener_parse_ex(tokener, line, (int)length);
	if (json_tokener_get_error(tokener) != json_tokener_success) {
		enum json_tokener_error error = json_tokener_get_error(tokener);

		reader->problem = error == json_tokener_continue ? "the JSON object does not end"
								 : json_tokener_error_desc(error);
		json_object_put(object);
		return -1;
	}
	status = add_request(reader, object);
	json_object_put(object);
	return status;
}

static int read_lines(struct reader *reader, FILE *file, struct json_tokener *tokener, size_t limit, size_t *line_out)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t length;
	int status = 0;

	while (status == 0 && (limit == 0 || reader->trace.request_count < limit) &&
	       (length = getline(&line, &room, file)) >= 0) {
		size_t used = (size_t)length;

		(*line_out)++;
		while (used && (line[used - 1] == '\n' || line[used - 1] == '\r'))
			used--;
		/* The end of the text tells the parser that nothing follows. */
		line[used] = '\0';
		if (used)
			status = parse_line(reader, tokener, line, used + 1);
	}
	if (status == 0 && ferror(file)) {
		reader->problem = strerror(errno);
		status = -1;
	}
	free(line);
	return status;
}

int trace_read(FILE *file, const char *name, size_t limit, struct trace *trace_out, char *error, size_t error_length)
{
	struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH);
	struct reader reader = { .problem = NULL };
	size_t line = 0;

	if (!tokener) {
		snprintf(error, error_length, "out of memory");
		return -1;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	if (read_lines(&reader, file, tokener, limit, &line) != 0) {
		snprintf(error, error_length, "%s:%zu: %s", name, line, reader.problem);
		trace_free(&reader.trace);
		json_tokener_free(tokener);
		return -1;
	}
	json_tokener_free(tokener);
	*trace_out = reader.trace;
	return 0;
}

void trace_free(struct trace *trace)
{
	free(trace->requests);
	free(trace->hashes);
	*trace = (struct trace){ .requests = NULL };
}
