/* SPDX-License-Identifier: Apache-2.0 */
/* Engines by number: opening, closing while others may be in a call, and what is said about protocols. See face.h. */
#include "face.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slots.h"

#define PROTOCOLS_MAX 32
#define CLOSE_AT_EXIT (2 * FACE_SECOND)

/* The tag makes the number an address that no process has, should a program follow it after all. */
static struct slots engines = SLOTS_INIT(12, 32, 0x0ce0ull << 48, 1);

_Static_assert(sizeof(void *) == sizeof(uint64_t), "numbers of engines are handed out as pointers");

static struct face *face_new(enum face_kind kind, const struct setup *setup)
{
	struct face *face = calloc(1, sizeof(*face));

	if (!face)
		return NULL;
	face->kind = kind;
	face->pid = getpid();
	face->log_level = face_log_level(setup);
	face->transfer_timeout_ns = setup->transfer_timeout_ns;
	pthread_mutex_init(&face->lock, NULL);
	pthread_mutex_init(&face->memory_lock, NULL);
	face->local.face = face;
	face->local.opens = 1;
	return face;
}

static void face_delete(struct face *face)
{
	face_segments_close(face);
	face_memory_close(face);
	pthread_mutex_destroy(&face->lock);
	pthread_mutex_destroy(&face->memory_lock);
	free(face);
}

/* "host", "host:port", "[v6]" or "[v6]:port" */
static void split(const char *text, char host_out[FACE_NAME_MAX], uint16_t *port_out)
{
	const char *bracket = strrchr(text, ']'), *colon = strrchr(bracket ? bracket : text, ':');
	size_t length = colon ? (size_t)(colon - text) : strlen(text);

	if (bracket) {
		text++;
		length = (size_t)(bracket - text);
	}
	snprintf(host_out, FACE_NAME_MAX, "%.*s", (int)length, text);
	*port_out = colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
}

/* The host is the one that the engine was opened for; it listens perhaps on every address. */
static void find_address(struct face *face, const char *name)
{
	struct cw_segment_info info = { .size = sizeof(info) };
	char unused[FACE_NAME_MAX];
	uint16_t port;

	split(name && *name ? name : face->name, face->host, &port);
	if (cw_segment_info_get(face->local.links->segment, &info) == CW_OK)
		split(info.address, unused, &face->port);
}

static int open_local(struct face *face)
{
	int status;

	face->local.links = calloc(1, sizeof(*face->local.links));
	if (!face->local.links)
		return CW_ERR_NO_MEMORY;
	snprintf(face->local.name, sizeof(face->local.name), "%s", face->name);
	status = cw_segment_open(face->engine, face->name, NULL, &face->local.links->segment);
	if (status != CW_OK) {
		free(face->local.links);
		face->local.links = NULL;
	}
	return status;
}

static int open_engine(struct face *face, const struct setup *setup, const char *name)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	int status;

	options.name = name && *name ? name : NULL;
	options.settings = setup->settings;
	options.setting_count = setup->setting_count;
	options.use_environment = 1;
	status = cw_engine_open(&options, &face->engine);
	if (status != CW_OK) {
		face_log(face, CW_LOG_ERROR, "the engine cannot be opened: %s", cw_last_error());
		return status;
	}
	snprintf(face->name, sizeof(face->name), "%s", cw_engine_name(face->engine));
	status = open_local(face);
	if (status == CW_OK)
		find_address(face, name);
	if (status == CW_OK && setup->metric_interval > 0)
		status = face_metric_start(face, setup->metric_interval);
	return status;
}

int face_open(enum face_kind kind, const struct setup *setup, const char *name, struct face **face_out)
{
	struct face *face = face_new(kind, setup);
	int status = face ? open_engine(face, setup, name) : CW_ERR_NO_MEMORY;

	if (status == CW_OK && setup->protocol[0])
		face_protocol(face, setup->protocol, 1);
	if (status == CW_OK && !slots_add(&engines, face, &face->number))
		status = CW_ERR_NO_MEMORY;
	if (status == CW_OK) {
		*face_out = face;
		return CW_OK;
	}
	if (face) {
		face_metric_stop(face);
		cw_engine_close(face->engine);
		face_delete(face);
	}
	return status;
}

void *face_handle(const struct face *face)
{
	return (void *)(uintptr_t)face->number;
}

struct face *face_get(enum face_kind kind, void *handle)
{
	struct face *face = slots_get(&engines, (uint64_t)(uintptr_t)handle);

	if (face && face->kind != kind) {
		face_put(face);
		return NULL;
	}
	return face;
}

/* Who retires an engine waits for all others, so the last user is never anybody else. */
void face_put(struct face *face)
{
	slots_put(&engines, face->number);
}

void face_close(enum face_kind kind, void *handle, uint64_t timeout)
{
	struct face *face = face_get(kind, handle);
	uint64_t number;

	if (!face)
		return;
	number = face->number;
	if (face->pid != getpid() || !slots_retire(&engines, number)) { /* a child leaves the parent's as it is */
		slots_put(&engines, number);
		return;
	}
	if (slots_wait_alone(&engines, number, timeout) != 0) {
		face_log(face, CW_LOG_WARN, "%s is left open: a call is still under way", face->name);
		slots_put(&engines, number); /* memory stays with that call */
		return;
	}
	face_metric_stop(face);
	face_batches_close(face);
	cw_engine_close(face->engine);
	face_delete(face);
	slots_put(&engines, number);
}

static void close_graceful(void *arg, uint64_t number)
{
	struct face *face = slots_get(&engines, number);
	int graceful = face && __atomic_load_n(&face->graceful, __ATOMIC_ACQUIRE);
	enum face_kind kind = face ? face->kind : FACE_CLASSIC;

	(void)arg;
	if (face)
		face_put(face);
	if (graceful)
		face_close(kind, (void *)(uintptr_t)number, CLOSE_AT_EXIT);
}

void face_close_graceful(void)
{
	slots_each(&engines, close_graceful, NULL);
}

/* ----------------------------------------------------------------------------------------- protocols */

struct wanted {
	const char *list; /* comma list of transports */
	int on;
	char why[160]; /* of the first that is off */
	char instead[160];
};

int face_is_listed(const char *list, const char *name)
{
	size_t length = strlen(name);

	while (list && (strncmp(list, name, length) != 0 || (list[length] && list[length] != ','))) {
		list = strchr(list, ',');
		list = list ? list + 1 : NULL;
	}
	return list != NULL;
}

static void look_at_transport(void *arg, const char *name, int on, const char *why)
{
	struct wanted *wanted = arg;

	if (face_is_listed(wanted->list, name)) {
		wanted->on |= on;
		if (!on && !wanted->why[0])
			snprintf(wanted->why, sizeof(wanted->why), "%s", why);
	} else if (on && strcmp(name, "local") != 0) {
		size_t used = strlen(wanted->instead);

		snprintf(wanted->instead + used, sizeof(wanted->instead) - used, "%s%s", used ? ", " : "", name);
	}
}

/* 1 for the first who says something about a protocol in this process. */
static int first_about(const char *protocol)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static char told[PROTOCOLS_MAX][32];
	static int count;
	int first = 1;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < count; i++)
		if (strcmp(told[i], protocol) == 0)
			first = 0;
	if (first && count < PROTOCOLS_MAX)
		snprintf(told[count++], sizeof(told[0]), "%s", protocol);
	pthread_mutex_unlock(&lock);
	return first;
}

int face_protocol(struct face *face, const char *protocol, int named)
{
	const char *used = "";
	struct wanted wanted = { .list = setup_protocol(protocol, &used) };
	int status;

	if (!wanted.list)
		return CW_ERR_NOT_FOUND;
	if (used && *used) {
		if (!named && first_about(protocol))
			face_log(face, CW_LOG_WARN, "the protocol %s is not available: %s is used", protocol, used);
		return CW_OK;
	}
	status = cw_engine_transports(face->engine, look_at_transport, &wanted);
	if (status == CW_OK && !wanted.on && first_about(protocol))
		face_log(face, CW_LOG_WARN, "the protocol %s is not available (%s): %s is used", protocol,
			 wanted.why[0] ? wanted.why : "no such transport in this build", wanted.instead);
	return status;
}
