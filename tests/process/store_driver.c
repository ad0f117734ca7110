/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One metadata store without an engine, driven by lines of JSON as cwpeer is (peer.py): {"do": NAME, ...} is answered
 * by one line with status, name, text and ms, the time that the call took. Values are in hexadecimal.
 *
 *     attach url [settings]        detach
 *     get key [timeout_ms]         put key value [timeout_ms]         del key [timeout_ms]         keep [timeout_ms]
 *     load threads [timeout_ms]    threads put, get and delete keys of their own until "rest"
 *     rest                         ends them: calls, failed, wrong (values that differ), slowest_ms
 */
#include <core/core.h>
#include <json-c/json.h>
#include <metadata/etcd/etcd.h>
#include <metadata/http/http.h>
#include <metadata/redis/redis.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <util/clock.h>

#define THREADS_MAX 64

static const struct cw_metadata_ops *const stores[] = { &cw_metadata_http, &cw_metadata_etcd, &cw_metadata_redis };

/* ---------------------------------------------------------------------------------------------- the host */

static struct json_object *settings; /* of the open store */

static void host_log(struct cw_host *host, enum cw_log_level level, const char *format, ...)
{
	(void)host;
	(void)level;
	(void)format;
}

static const char *host_setting(struct cw_host *host, const char *key)
{
	struct json_object *value;

	(void)host;
	return json_object_object_get_ex(settings, key, &value) ? json_object_get_string(value) : "";
}

/* Times are given in milliseconds, as settings are. */
static uint64_t host_setting_number(struct cw_host *host, const char *key, uint64_t fallback)
{
	struct json_object *value;
	uint64_t unit = strcmp(key, "metadata/lease") ? 1 : CW__MS;

	(void)host;
	return json_object_object_get_ex(settings, key, &value) ? json_object_get_uint64(value) * unit : fallback;
}

static struct cw_host_ops host_ops; /* the engine's, but for what an engine would be needed for */
static struct cw_host host = { &host_ops, &host };

static void host_open(void)
{
	host_ops = cw__host_ops;
	host_ops.log = host_log;
	host_ops.setting = host_setting;
	host_ops.setting_number = host_setting_number;
}

/* --------------------------------------------------------------------------------------------- the store */

static const struct cw_metadata_ops *ops;
static void *store;

static const struct cw_metadata_ops *find(const char *url)
{
	size_t length = strcspn(url, ":");

	for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]); i++)
		if ((strlen(stores[i]->name) == length && !strncmp(stores[i]->name, url, length)) ||
		    (stores[i]->also && strlen(stores[i]->also) == length && !strncmp(stores[i]->also, url, length)))
			return stores[i];
	return NULL;
}

static int attach(const char *url)
{
	const char *why = NULL;
	int status;

	ops = find(url);
	if (!ops)
		return cw__fail(CW_ERR_CONFIG, "no such store");
	status = ops->open(&host, url, &store, &why);
	if (status) {
		ops = NULL;
		cw__fail(status, "%s", why ? why : "no reason given");
	}
	return status;
}

static void detach(void)
{
	if (ops)
		ops->close(store);
	ops = NULL;
}

/* ----------------------------------------------------------------------------------------------- load */

struct worker {
	pthread_t thread;
	unsigned number;
	uint64_t timeout;
	unsigned calls, failed, wrong;
	uint64_t slowest;
	char text[512]; /* of the last failure */
};

static struct worker workers[THREADS_MAX];
static unsigned worker_count;
static atomic_int stopping;

static void note(struct worker *worker, uint64_t start, int status)
{
	uint64_t took = cw__now() - start;

	worker->calls++;
	worker->slowest = took > worker->slowest ? took : worker->slowest;
	if (status) {
		worker->failed++;
		snprintf(worker->text, sizeof(worker->text), "%s", cw_last_error());
	}
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	char key[64], value[64];

	snprintf(key, sizeof(key), "mooncake/load/%u", worker->number);
	for (unsigned round = 0; !atomic_load(&stopping); round++) {
		struct cw_blob got = { NULL, 0, 0 };
		uint64_t start = cw__now();
		int length = snprintf(value, sizeof(value), "%u of %u", round, worker->number), put, status;

		put = ops->put(store, key, value, (size_t)length, worker->timeout);
		note(worker, start, put);
		start = cw__now();
		status = ops->get(store, key, worker->timeout, &got);
		note(worker, start, status);
		if (!put && !status && (got.length != (size_t)length || memcmp(got.data, value, got.length) != 0))
			worker->wrong++;
		host_ops.blob_free(&got);
		if (round % 8 == 7) {
			start = cw__now();
			note(worker, start, ops->del(store, key, worker->timeout));
		}
	}
	return NULL;
}

static void load(unsigned count, uint64_t timeout)
{
	atomic_store(&stopping, 0);
	worker_count = count < THREADS_MAX ? count : THREADS_MAX;
	for (unsigned i = 0; i < worker_count; i++) {
		workers[i] = (struct worker){ .number = i, .timeout = timeout };
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			abort();
	}
}

static void rest(struct json_object *answer)
{
	struct worker sum = { .text = "" };

	atomic_store(&stopping, 1);
	for (unsigned i = 0; i < worker_count; i++) {
		pthread_join(workers[i].thread, NULL);
		sum.calls += workers[i].calls;
		sum.failed += workers[i].failed;
		sum.wrong += workers[i].wrong;
		sum.slowest = workers[i].slowest > sum.slowest ? workers[i].slowest : sum.slowest;
		if (*workers[i].text)
			memcpy(sum.text, workers[i].text, sizeof(sum.text));
	}
	worker_count = 0;
	json_object_object_add(answer, "calls", json_object_new_int64(sum.calls));
	json_object_object_add(answer, "failed", json_object_new_int64(sum.failed));
	json_object_object_add(answer, "wrong", json_object_new_int64(sum.wrong));
	json_object_object_add(answer, "slowest_ms", json_object_new_double((double)sum.slowest / (double)CW__MS));
	json_object_object_add(answer, "failure", json_object_new_string(sum.text));
}

/* -------------------------------------------------------------------------------------------- commands */

static const char *text_of(struct json_object *line, const char *name)
{
	struct json_object *member;

	return json_object_object_get_ex(line, name, &member) ? json_object_get_string(member) : "";
}

static uint64_t number_of(struct json_object *line, const char *name, uint64_t fallback)
{
	struct json_object *member;

	return json_object_object_get_ex(line, name, &member) ? json_object_get_uint64(member) : fallback;
}

static unsigned nibble(char c)
{
	return (unsigned)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

static int put_hex(const char *key, const char *hex, uint64_t timeout)
{
	size_t length = strlen(hex) / 2;
	unsigned char *value = malloc(length + 1);
	int status;

	if (!value)
		return CW_ERR_NO_MEMORY;
	for (size_t i = 0; i < length; i++)
		value[i] = (unsigned char)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
	status = ops->put(store, key, value, length, timeout);
	free(value);
	return status;
}

static int get_hex(const char *key, uint64_t timeout, struct json_object *answer)
{
	static const char digits[] = "0123456789abcdef";
	struct cw_blob value = { NULL, 0, 0 };
	int status = ops->get(store, key, timeout, &value);
	char *hex = malloc(2 * value.length + 1);

	for (size_t i = 0; hex && i < value.length; i++) {
		hex[2 * i] = digits[value.data[i] >> 4];
		hex[2 * i + 1] = digits[value.data[i] & 15];
	}
	if (!hex)
		abort();
	hex[2 * value.length] = '\0';
	json_object_object_add(answer, "value", json_object_new_string(hex));
	free(hex);
	host_ops.blob_free(&value);
	return status;
}

static int obey(struct json_object *line, struct json_object *answer)
{
	const char *what = text_of(line, "do"), *key = text_of(line, "key");
	uint64_t timeout = number_of(line, "timeout_ms", 3000) * CW__MS;
	struct json_object *given = NULL;

	if (!strcmp(what, "attach")) {
		json_object_put(settings);
		json_object_object_get_ex(line, "settings", &given);
		settings = given ? json_object_get(given) : json_object_new_object();
		return attach(text_of(line, "url"));
	}
	if (!ops)
		return cw__fail(CW_ERR_INVALID, "no store is attached");
	if (!strcmp(what, "get"))
		return get_hex(key, timeout, answer);
	if (!strcmp(what, "put"))
		return put_hex(key, text_of(line, "value"), timeout);
	if (!strcmp(what, "del"))
		return ops->del(store, key, timeout);
	if (!strcmp(what, "keep"))
		return ops->keep ? ops->keep(store, timeout) : cw__fail(CW_ERR_UNSUPPORTED, "it has no leases");
	if (!strcmp(what, "load"))
		load((unsigned)number_of(line, "threads", 4), timeout);
	else if (!strcmp(what, "rest"))
		rest(answer);
	else if (!strcmp(what, "detach"))
		detach();
	else
		return cw__fail(CW_ERR_INVALID, "unknown command");
	return CW_OK;
}

int main(void)
{
	char *line = NULL;
	size_t capacity = 0;

	host_open();
	while (getline(&line, &capacity, stdin) > 0) {
		struct json_object *given = json_tokener_parse(line), *answer = json_object_new_object();
		uint64_t start = cw__now();
		int status;

		cw__fail(CW_OK, "%s", "");
		status = given ? obey(given, answer) : cw__fail(CW_ERR_INVALID, "not JSON");
		json_object_object_add(answer, "ms",
				       json_object_new_double((double)(cw__now() - start) / (double)CW__MS));
		json_object_object_add(answer, "status", json_object_new_int(status));
		json_object_object_add(answer, "name", json_object_new_string(cw_status_name(status)));
		json_object_object_add(answer, "text", json_object_new_string(status ? cw_last_error() : ""));
		printf("%s\n", json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN));
		fflush(stdout);
		json_object_put(answer);
		json_object_put(given);
	}
	detach();
	json_object_put(settings);
	free(line);
	return 0;
}
