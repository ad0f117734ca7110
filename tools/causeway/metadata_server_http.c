/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and answers of `causeway metadata-server`. libmicrohttpd calls answer() with the head of a request, then for
 * each piece of its body, then once more for the answer, and finished() at its end. See metadata_server.h.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "metadata_server.h"

/* Of one connection: a head with the longest key, percent-escaped, fits. */
#define CONNECTION_MEMORY (32u << 10)
/* Seconds without a byte after which a connection is closed. */
#define IDLE_SECONDS 30u
/* A thread waits for the disk at each put, so there are some even on a small machine. */
#define THREADS_MIN 4
#define THREADS_MAX 16
#define BODY_STEP (16u << 10)
/* Of a body that is not wanted, so much beyond --max-value is read. */
#define DROPPED_MAX (1u << 20)

#define TEXT_TYPE "text/plain; charset=utf-8"
#define JSON_TYPE "application/json; charset=utf-8"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

static const char *const methods[] = { "GET", "PUT", "DELETE", "other" };
enum { METHOD_GET, METHOD_PUT, METHOD_DELETE, METHOD_OTHER, METHODS };

static const unsigned statuses[] = { 200, 400, 404, 405, 413, 500, 507 };
#define STATUSES (sizeof(statuses) / sizeof(statuses[0]))

struct metadata_http {
	const struct metadata_library *library;
	struct metadata_store *store;
	struct metadata_http_options options;
	struct MHD_Daemon *daemon;
	uint64_t started; /* seconds of CLOCK_MONOTONIC */
	_Atomic uint64_t answers[METHODS][STATUSES];
};

/* One request, from its head to its end. */
struct request {
	int method;
	unsigned refused;           /* the status to answer when the body is over; 0 = none so far */
	struct metadata_bytes body; /* size bytes are allocated and reserved in the store */
	size_t size;
	uint64_t dropped; /* bytes of a refused body */
};

static uint64_t monotonic_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

static int method_of(const char *name)
{
	int method = 0;

	while (method < METHOD_OTHER && strcmp(name, methods[method]) != 0)
		method++;
	return method;
}

/* The bytes are from malloc() and are taken over. */
static enum MHD_Result send_bytes(struct metadata_http *http, struct MHD_Connection *connection, int method,
				  unsigned status, const char *type, struct metadata_bytes bytes)
{
	const struct metadata_library *library = http->library;
	struct MHD_Response *response = library->create_response(bytes.length, bytes.bytes, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	if (!response) {
		free(bytes.bytes);
		return MHD_NO;
	}
	library->add_header(response, "Content-Type", type);
	if (status == 405)
		library->add_header(response, "Allow", "GET, PUT, DELETE");
	result = library->queue_response(connection, status, response);
	library->destroy_response(response);
	for (size_t i = 0; i < STATUSES; i++)
		if (statuses[i] == status)
			atomic_fetch_add_explicit(&http->answers[method][i], 1, memory_order_relaxed);
	return result;
}

static enum MHD_Result send_text(struct metadata_http *http, struct MHD_Connection *connection, int method,
				 unsigned status, const char *text)
{
	struct metadata_bytes bytes = { strdup(text), strlen(text) };

	return bytes.bytes ? send_bytes(http, connection, method, status, TEXT_TYPE, bytes) : MHD_NO;
}

static void print_metrics(struct metadata_http *http, FILE *out)
{
	struct metadata_counts counts;

	metadata_store_count(http->store, &counts);
	const struct {
		const char *name, *help;
		uint64_t value;
	} gauges[] = {
		{ "keys", "keys in the store", counts.keys },
		{ "bytes", "memory used by keys, values and bodies that are arriving", counts.bytes },
		{ "file_bytes", "length of the file that keeps them; 0 = none", counts.file_bytes },
		{ "uptime_seconds", "since the server was started", monotonic_seconds() - http->started },
	};

	for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
		fprintf(out,
			"# HELP causeway_metadata_%s %s\n# TYPE causeway_metadata_%s gauge\ncauseway_metadata_%s "
			"%" PRIu64 "\n",
			gauges[i].name, gauges[i].help, gauges[i].name, gauges[i].name, gauges[i].value);
	fprintf(out, "# HELP causeway_metadata_requests_total answered requests\n"
		     "# TYPE causeway_metadata_requests_total counter\n");
	for (int method = 0; method < METHODS; method++)
		for (size_t i = 0; i < STATUSES; i++) {
			uint64_t count = atomic_load_explicit(&http->answers[method][i], memory_order_relaxed);

			if (count)
				fprintf(out,
					"causeway_metadata_requests_total{method=\"%s\",status=\"%u\"} %" PRIu64 "\n",
					methods[method], statuses[i], count);
		}
}

static enum MHD_Result send_metrics(struct metadata_http *http, struct MHD_Connection *connection)
{
	struct metadata_bytes text = { NULL, 0 };
	FILE *out = open_memstream(&text.bytes, &text.length);

	if (!out)
		return send_text(http, connection, METHOD_GET, 500, "no memory");
	print_metrics(http, out);
	if (fclose(out) != 0) {
		free(text.bytes);
		return send_text(http, connection, METHOD_GET, 500, "no memory");
	}
	return send_bytes(http, connection, METHOD_GET, 200, METRICS_TYPE, text);
}

/* The argument "key", borrowed from the connection. NULL, or what is wrong with it. */
static const char *find_key(struct metadata_http *http, struct MHD_Connection *connection,
			    struct metadata_bytes *key_out)
{
	const struct metadata_library *library = http->library;
	const char *key = NULL;
	size_t length = 0;

	if (library->lookup_value_n) {
		if (library->lookup_value_n(connection, MHD_GET_ARGUMENT_KIND, "key", 3, &key, &length) != MHD_YES)
			key = NULL;
	} else {
		key = library->lookup_value(connection, MHD_GET_ARGUMENT_KIND, "key");
		length = key ? strlen(key) : 0;
	}
	if (!key || length == 0)
		return "metadata key is required";
	if (length > METADATA_KEY_MAX)
		return "metadata key is too long";
	if (memchr(key, '\0', length))
		return "metadata key must not contain a NUL byte";
	*key_out = (struct metadata_bytes){ (char *)(uintptr_t)key, length };
	return NULL;
}

static enum MHD_Result answer_get(struct metadata_http *http, struct MHD_Connection *connection,
				  const struct metadata_bytes *key)
{
	struct metadata_bytes value;

	switch (metadata_store_get(http->store, key, &value)) {
	case METADATA_OK:
		return send_bytes(http, connection, METHOD_GET, 200, JSON_TYPE, value);
	case METADATA_MISSING:
		return send_text(http, connection, METHOD_GET, 404, "metadata not found");
	default:
		return send_text(http, connection, METHOD_GET, 500, "no memory");
	}
}

static enum MHD_Result answer_put(struct metadata_http *http, struct MHD_Connection *connection,
				  const struct metadata_bytes *key, struct request *request)
{
	char text[METADATA_TEXT_MAX] = "full: no memory for the value, see --max-memory", *fitting;
	enum metadata_result result = METADATA_FULL;

	/* An empty value is a value; and what was reserved in advance is not part of it. */
	fitting = realloc(request->body.bytes, request->body.length ? request->body.length : 1);
	if (fitting)
		request->body.bytes = fitting;
	metadata_store_unreserve(http->store, request->size - request->body.length);
	request->size = request->body.length;
	if (request->body.bytes)
		result = metadata_store_put(http->store, key, &request->body, text);
	if (!request->body.bytes)
		request->size = 0;
	switch (result) {
	case METADATA_OK:
		return send_text(http, connection, METHOD_PUT, 200, "metadata updated");
	case METADATA_DUPLICATE:
		return send_text(http, connection, METHOD_PUT, 400, "Duplicate rpc_meta key not allowed");
	case METADATA_FULL:
		return send_text(http, connection, METHOD_PUT, 507, text);
	default:
		return send_text(http, connection, METHOD_PUT, 500, text);
	}
}

static enum MHD_Result answer_delete(struct metadata_http *http, struct MHD_Connection *connection,
				     const struct metadata_bytes *key)
{
	char text[METADATA_TEXT_MAX];

	switch (metadata_store_delete(http->store, key, text)) {
	case METADATA_OK:
		return send_text(http, connection, METHOD_DELETE, 200, "metadata deleted");
	case METADATA_MISSING:
		return send_text(http, connection, METHOD_DELETE, 404, "metadata not found");
	default:
		return send_text(http, connection, METHOD_DELETE, 500, text);
	}
}

static enum MHD_Result answer_refused(struct metadata_http *http, struct MHD_Connection *connection,
				      const struct request *request)
{
	char text[METADATA_TEXT_MAX];

	switch (request->refused) {
	case 404:
		return send_text(http, connection, request->method, 404, "no such path");
	case 405:
		return send_text(http, connection, request->method, 405, "method not allowed");
	case 413:
		snprintf(text, sizeof(text), "the value is larger than %" PRIu64 " bytes, see --max-value",
			 http->options.value_max);
		return send_text(http, connection, request->method, 413, text);
	default:
		return send_text(http, connection, request->method, 507,
				 "full: no memory for the value, see --max-memory");
	}
}

/* A piece of the body. MHD_NO closes the connection. */
static enum MHD_Result take_piece(struct metadata_http *http, struct request *request, const char *piece, size_t length)
{
	struct metadata_bytes *body = &request->body;

	if (request->method == METHOD_PUT && !request->refused && length > http->options.value_max - body->length)
		request->refused = 413;
	/* The rest is read, so that the client gets its answer, but not for ever. */
	if (request->method != METHOD_PUT || request->refused) {
		request->dropped += length;
		return request->dropped > http->options.value_max + DROPPED_MAX ? MHD_NO : MHD_YES;
	}
	if (length > request->size - body->length) {
		size_t more = length > BODY_STEP ? length : BODY_STEP;
		char *larger;

		/* Grows by half, so that a long value is not copied for each piece. */
		more = more > request->size / 2 ? more : request->size / 2;
		if (metadata_store_reserve(http->store, more) != 0) {
			request->refused = 507;
			return MHD_YES;
		}
		request->size += more;
		larger = realloc(body->bytes, request->size);
		if (!larger) {
			request->refused = 507;
			return MHD_YES;
		}
		body->bytes = larger;
	}
	memcpy(body->bytes + body->length, piece, length);
	body->length += length;
	return MHD_YES;
}

/* Does the client announce a body that is too large, and wait for our word before it sends it? */
static int asks_for_too_much(struct metadata_http *http, struct MHD_Connection *connection)
{
	const char *length = http->library->lookup_value(connection, MHD_HEADER_KIND, "Content-Length");

	return length && strtoull(length, NULL, 10) > http->options.value_max &&
	       http->library->lookup_value(connection, MHD_HEADER_KIND, "Expect");
}

static enum MHD_Result begin(struct metadata_http *http, struct MHD_Connection *connection, const char *path,
			     const char *method, void **state)
{
	struct request *request = calloc(1, sizeof(*request));
	int read_only = strcmp(path, "/metrics") == 0 || strcmp(path, "/health") == 0;

	if (!request)
		return MHD_NO;
	*state = request;
	request->method = method_of(method);
	if (strcmp(path, http->options.path) != 0 && !read_only)
		request->refused = 404;
	else if (request->method == METHOD_OTHER || (read_only && request->method != METHOD_GET))
		request->refused = 405;
	if (!asks_for_too_much(http, connection))
		return MHD_YES;
	if (!request->refused)
		request->refused = 413;
	return answer_refused(http, connection, request);
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
			      const char *version, const char *piece, size_t *piece_length, void **state)
{
	struct metadata_http *http = arg;
	struct request *request = *state;
	struct metadata_bytes key;
	const char *wrong;

	(void)version;
	if (!request)
		return begin(http, connection, path, method, state);
	if (*piece_length) {
		size_t length = *piece_length;

		*piece_length = 0;
		return take_piece(http, request, piece, length);
	}
	if (request->refused)
		return answer_refused(http, connection, request);
	if (strcmp(path, "/metrics") == 0)
		return send_metrics(http, connection);
	if (strcmp(path, "/health") == 0)
		return send_text(http, connection, METHOD_GET, 200, "ok");
	wrong = find_key(http, connection, &key);
	if (wrong)
		return send_text(http, connection, request->method, 400, wrong);
	if (request->method == METHOD_GET)
		return answer_get(http, connection, &key);
	return request->method == METHOD_PUT ? answer_put(http, connection, &key, request)
					     : answer_delete(http, connection, &key);
}

static void finished(void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode why)
{
	struct metadata_http *http = arg;
	struct request *request = *state;

	(void)connection;
	(void)why;
	if (!request)
		return;
	metadata_store_unreserve(http->store, request->size);
	free(request->body.bytes);
	free(request);
	*state = NULL;
}

struct metadata_http *metadata_http_start(const struct metadata_http_options *options, struct metadata_store *store,
					  char *text)
{
	struct metadata_http *http = calloc(1, sizeof(*http));
	long threads = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned connections = options->connections > INT32_MAX ? INT32_MAX : (unsigned)options->connections;

	if (!http) {
		snprintf(text, METADATA_TEXT_MAX, "no memory");
		return NULL;
	}
	threads = threads < THREADS_MIN ? THREADS_MIN : threads > THREADS_MAX ? THREADS_MAX : threads;
	http->store = store;
	http->options = *options;
	http->started = monotonic_seconds();
	http->library = metadata_library(text);
	if (!http->library)
		goto fail;
	/* Each thread of the pool has its share of the connections. With epoll the library does not notice that a
	 * client has gone when that comes together with its last bytes; without ITC a thread that is full does not
	 * notice the end. */
	http->daemon = http->library->start_daemon(
		MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, answer, http, MHD_OPTION_LISTEN_SOCKET,
		options->listen_fd, MHD_OPTION_NOTIFY_COMPLETED, finished, http, MHD_OPTION_CONNECTION_LIMIT,
		connections < (unsigned)threads ? (unsigned)threads : connections, MHD_OPTION_CONNECTION_TIMEOUT,
		IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_THREAD_POOL_SIZE, (unsigned)threads, MHD_OPTION_END);
	if (!http->daemon) {
		snprintf(text, METADATA_TEXT_MAX, "libmicrohttpd cannot start its threads");
		goto fail;
	}
	return http;
fail:
	close(options->listen_fd);
	free(http);
	return NULL;
}

void metadata_http_stop(struct metadata_http *http)
{
	http->library->stop_daemon(http->daemon);
	free(http);
}
