/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata store in redis: GET, SET with an expiry, DEL; keep() is PEXPIRE of all keys. A few connections are kept
 * for the next calls; each call has one for itself.
 */
#include <metadata/redis/redis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <util/clock.h>
#include <wire/classic.h>

#define DEFAULT_PORT 6379
#define IDLE_MAX 16

struct store {
	struct cw_host *host;
	char name[256], address[300];
	uint16_t port;
	const char *user, *password; /* the engine's; "" = none */
	uint64_t database;
	uint64_t lease_ms; /* 0 = keys stay */
	struct cw__keys keys;
	pthread_mutex_t lock;
	int idle[IDLE_MAX]; /* connections; guarded by lock, as the next one */
	unsigned idle_count;
};

static int fail(struct store *store, int status, const char *why)
{
	return store->host->ops->fail(status, "redis %s: %s", store->address, why);
}

/* --------------------------------------------------------------------------------------------- refusals */

/* How the server's words begin and what they mean. NULL = its own words are shown. */
static const struct {
	const char *words;
	int status;
	const char *line;
} refusals[] = {
	{ "NOAUTH", CW_ERR_PERMISSION, "NOAUTH: set metadata/password" },
	{ "WRONGPASS", CW_ERR_PERMISSION, "WRONGPASS: metadata/user or metadata/password is wrong" },
	{ "ERR invalid password", CW_ERR_PERMISSION, "metadata/password is wrong" },
	{ "ERR AUTH <password> called without any password", CW_ERR_PERMISSION,
	  "it has no password: leave metadata/password empty" },
	{ "ERR Client sent AUTH, but no password", CW_ERR_PERMISSION,
	  "it has no password: leave metadata/password empty" },
	{ "NOPERM", CW_ERR_PERMISSION, NULL },
	{ "DENIED", CW_ERR_PERMISSION, "DENIED: it is in protected mode, give it a password" },
	{ "ERR DB index", CW_ERR_PERMISSION, "it has no database of that number: see metadata/database" },
	{ "ERR invalid DB index", CW_ERR_PERMISSION, "it has no database of that number: see metadata/database" },
	{ "ERR SELECT is not allowed", CW_ERR_PERMISSION, "it has one database only: set metadata/database to 0" },
	{ "READONLY", CW_ERR_PERMISSION, "READONLY: this is a replica, name the master in metadata/url" },
	{ "MOVED", CW_ERR_PERMISSION, "MOVED: a redis cluster is not supported, name a single server" },
	{ "CROSSSLOT", CW_ERR_PERMISSION, "a redis cluster is not supported, name a single server" },
	{ "OOM", CW_ERR_LIMIT, "OOM: it has no memory left" },
	{ "WRONGTYPE", CW_ERR_PROTOCOL, "WRONGTYPE: the key holds something else than a text" },
	{ "ERR max number of clients", CW_ERR_CONNECT, NULL },
	{ "LOADING", CW_ERR_CONNECT, "LOADING: it is still reading its data" },
	{ "BUSY", CW_ERR_IO, NULL },
	{ "MASTERDOWN", CW_ERR_IO, NULL },
	{ "MISCONF", CW_ERR_IO, NULL },
	{ "TRYAGAIN", CW_ERR_IO, NULL },
};

/* A server may repeat what it was sent: words that hold the password are not shown. */
static int refuse(struct store *store, const struct cw__redis_reply *reply)
{
	char words[120];
	size_t used = 0;
	const char *line = words;
	int status = CW_ERR_PROTOCOL;

	while (used < reply->length && used + 1 < sizeof(words) && reply->text[used] >= ' ' &&
	       reply->text[used] <= '~') {
		words[used] = reply->text[used];
		used++;
	}
	words[used] = '\0';
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (!strncmp(words, refusals[i].words, strlen(refusals[i].words))) {
			status = refusals[i].status;
			line = refusals[i].line ? refusals[i].line : words;
			break;
		}
	if (line == words && *store->password &&
	    memmem(reply->text, reply->length, store->password, strlen(store->password)))
		line = "it refused the command";
	return fail(store, status, line);
}

/* ------------------------------------------------------------------------------------------ connections */

struct request {
	const char *words[6];
	size_t lengths[6];
	int count;
};

static void add_word(struct request *request, const void *data, size_t length)
{
	request->words[request->count] = data;
	request->lengths[request->count++] = length;
}

static void add_text(struct request *request, const char *text)
{
	add_word(request, text, strlen(text));
}

static int exchange(int fd, const struct request *request, uint64_t deadline, struct cw__redis_reply *reply_out,
		    char *why, size_t why_size)
{
	const char *words[6];

	memcpy(words, request->words, sizeof(words));
	return cw__redis_exchange(fd, request->count, words, request->lengths, deadline, reply_out, why, why_size);
}

/* One command of the greeting; a refusal of it is final. */
static int greet_with(struct store *store, int fd, const struct request *request, uint64_t deadline)
{
	struct cw__redis_reply reply = { .raw = NULL };
	char why[200];
	int status = exchange(fd, request, deadline, &reply, why, sizeof(why));

	if (status)
		return fail(store, status, why);
	if (reply.kind == CW__REDIS_ERROR)
		status = refuse(store, &reply);
	else if (reply.kind != CW__REDIS_STATUS)
		status = fail(store, CW_ERR_PROTOCOL, "gave a reply of an unexpected kind");
	cw__hiredis_reply_free(&reply);
	return status;
}

static int greet(struct store *store, int fd, uint64_t deadline)
{
	struct request login = { .count = 0 }, select = { .count = 0 };
	char number[24];
	int status = CW_OK;

	add_text(&login, "AUTH");
	if (*store->user)
		add_text(&login, store->user);
	add_text(&login, store->password);
	if (*store->password)
		status = greet_with(store, fd, &login, deadline);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)store->database);
	add_text(&select, "SELECT");
	add_text(&select, number);
	if (!status && store->database)
		status = greet_with(store, fd, &select, deadline);
	return status;
}

static int connect_new(struct store *store, uint64_t deadline, int *fd_out)
{
	char why[200];
	int status = cw__redis_dial(store->name, store->port, deadline, fd_out, why, sizeof(why));

	if (status)
		return fail(store, status, why);
	status = greet(store, *fd_out, deadline);
	if (status)
		close(*fd_out);
	return status;
}

/* A connection that was used before and seems to be alive, or -1. */
static int take_idle(struct store *store)
{
	int fd;

	do {
		pthread_mutex_lock(&store->lock);
		fd = store->idle_count ? store->idle[--store->idle_count] : -1;
		pthread_mutex_unlock(&store->lock);
		if (fd < 0 || !cw__redis_is_stale(fd))
			return fd;
		close(fd);
	} while (1);
}

static void give_back(struct store *store, int fd)
{
	int kept = 0;

	pthread_mutex_lock(&store->lock);
	if (store->idle_count < IDLE_MAX) {
		store->idle[store->idle_count++] = fd;
		kept = 1;
	}
	pthread_mutex_unlock(&store->lock);
	if (!kept)
		close(fd);
}

/* Sends a command. A connection that was idle may turn out to be dead: then the next one or a new one is tried, which
 * does no harm because every command of ours may run twice. CW_OK with a reply that is not an error. */
static int command(struct store *store, const struct request *request, uint64_t deadline,
		   struct cw__redis_reply *reply_out)
{
	char why[200];
	int status, fd, was_idle;

	do {
		fd = take_idle(store);
		was_idle = fd >= 0;
		status = was_idle ? CW_OK : connect_new(store, deadline, &fd);
		if (status)
			return status;
		status = exchange(fd, request, deadline, reply_out, why, sizeof(why));
		if (status)
			close(fd);
	} while (status == CW_ERR_CONNECT && was_idle);
	if (status)
		return fail(store, status, why);
	give_back(store, fd);
	if (reply_out->kind != CW__REDIS_ERROR)
		return CW_OK;
	status = refuse(store, reply_out);
	cw__hiredis_reply_free(reply_out);
	return status;
}

static int check(struct store *store, const char *key, size_t length)
{
	char why[120];

	if (*key && strlen(key) <= CW_METADATA_KEY_MAX && length <= CW_METADATA_VALUE_MAX)
		return CW_OK;
	snprintf(why, sizeof(why), "the key '%.40s' or its value is too long, or the key is empty", key);
	return fail(store, CW_ERR_LIMIT, why);
}

/* ------------------------------------------------------------------------------------------------- hooks */

static int redis_get(void *arg, const char *key, uint64_t timeout, struct cw_blob *value_out)
{
	struct store *store = arg;
	struct request request = { .count = 0 };
	struct cw__redis_reply reply = { .raw = NULL };
	char why[180];
	int status = check(store, key, 0);

	add_text(&request, "GET");
	add_text(&request, key);
	if (!status)
		status = command(store, &request, cw__after(cw__now(), timeout), &reply);
	if (status)
		return status;
	snprintf(why, sizeof(why), "it has no key '%.120s'", key);
	if (reply.kind == CW__REDIS_NIL)
		status = fail(store, CW_ERR_NOT_FOUND, why);
	else if (reply.kind != CW__REDIS_TEXT)
		status = fail(store, CW_ERR_PROTOCOL, "gave a reply of an unexpected kind");
	else if (reply.length > CW_METADATA_VALUE_MAX)
		status = fail(store, CW_ERR_LIMIT, "the value is too long");
	else if (reply.length && store->host->ops->blob_append(value_out, reply.text, reply.length))
		status = fail(store, CW_ERR_NO_MEMORY, "out of memory");
	cw__hiredis_reply_free(&reply);
	return status;
}

static int redis_put(void *arg, const char *key, const void *value, size_t length, uint64_t timeout)
{
	struct store *store = arg;
	struct request request = { .count = 0 };
	struct cw__redis_reply reply = { .raw = NULL };
	char lease[24];
	int status = check(store, key, length);

	snprintf(lease, sizeof(lease), "%llu", (unsigned long long)store->lease_ms);
	add_text(&request, "SET");
	add_text(&request, key);
	add_word(&request, length ? value : "", length);
	if (store->lease_ms) {
		add_text(&request, "PX");
		add_text(&request, lease);
	}
	if (status)
		return status;
	if (cw__keys_begin(&store->keys, key))
		return fail(store, CW_ERR_NO_MEMORY, "out of memory");
	status = command(store, &request, cw__after(cw__now(), timeout), &reply);
	if (!status && reply.kind != CW__REDIS_STATUS)
		status = fail(store, CW_ERR_PROTOCOL, "gave a reply of an unexpected kind");
	cw__hiredis_reply_free(&reply);
	cw__keys_end(&store->keys, key, !status);
	return status;
}

/* A command whose reply is a number. */
static int count(struct store *store, const struct request *request, uint64_t deadline, long long *number_out)
{
	struct cw__redis_reply reply = { .raw = NULL };
	int status = command(store, request, deadline, &reply);

	if (status)
		return status;
	if (reply.kind != CW__REDIS_NUMBER)
		status = fail(store, CW_ERR_PROTOCOL, "gave a reply of an unexpected kind");
	*number_out = reply.number;
	cw__hiredis_reply_free(&reply);
	return status;
}

static int redis_del(void *arg, const char *key, uint64_t timeout)
{
	struct store *store = arg;
	struct request request = { .count = 0 };
	long long removed;
	int status = check(store, key, 0);

	add_text(&request, "DEL");
	add_text(&request, key);
	if (!status)
		status = count(store, &request, cw__after(cw__now(), timeout), &removed);
	if (!status)
		cw__keys_remove(&store->keys, key);
	return status;
}

static int redis_keep(void *arg, uint64_t timeout)
{
	struct store *store = arg;
	uint64_t deadline = cw__after(cw__now(), timeout);
	char key[CW_METADATA_KEY_MAX + 1] = "", lease[24];
	int status = CW_OK, lost = 0;

	snprintf(lease, sizeof(lease), "%llu", (unsigned long long)store->lease_ms);
	while (!status && cw__keys_next(&store->keys, key, key)) {
		struct request request = { .count = 0 };
		long long found = 0;

		add_text(&request, store->lease_ms ? "PEXPIRE" : "EXISTS");
		add_text(&request, key);
		if (store->lease_ms)
			add_text(&request, lease);
		status = count(store, &request, deadline, &found);
		lost |= !status && found == 0;
	}
	if (status || !lost)
		return status;
	return fail(store, CW_ERR_NOT_FOUND, "it has lost keys, all have to be put again");
}

/* --------------------------------------------------------------------------------------- open and close */

static const char *parse(struct store *store, const char *url)
{
	const char *at = strstr(url, "://");

	if (!at || !at[3])
		return "the url has no host: redis://HOST:PORT";
	at += 3;
	if (strchr(at, '@'))
		return "the url names a user; use the settings metadata/user and metadata/password";
	if (strchr(at, '/') || cw__address_parse(at, DEFAULT_PORT, store->name, sizeof(store->name), &store->port) ||
	    !cw__address_format(store->name, store->port, store->address, sizeof(store->address)))
		return "the url is not redis://HOST:PORT (the database is the setting metadata/database)";
	if (*store->user && !*store->password)
		return "metadata/user is set without metadata/password";
	return NULL;
}

static int redis_open(struct cw_host *host, const char *url, void **store_out, const char **why_out)
{
	static _Thread_local char line[256];
	struct store *store = calloc(1, sizeof(*store));
	const char *user = host->ops->setting(host, "metadata/user");
	const char *password = host->ops->setting(host, "metadata/password");

	*why_out = "out of memory";
	if (!store)
		return CW_ERR_NO_MEMORY;
	store->host = host;
	store->user = user ? user : "";
	store->password = password ? password : "";
	store->database = host->ops->setting_number(host, "metadata/database", 0);
	/* The setting is in nanoseconds here. */
	store->lease_ms = (host->ops->setting_number(host, "metadata/lease", 0) + CW__MS - 1) / CW__MS;
	*why_out = parse(store, url);
	if (!*why_out && cw__hiredis_load(line, sizeof(line)))
		*why_out = line;
	if (*why_out) {
		free(store);
		return CW_ERR_CONFIG;
	}
	cw__keys_init(&store->keys);
	pthread_mutex_init(&store->lock, NULL);
	*store_out = store;
	return CW_OK;
}

static void redis_close(void *arg)
{
	struct store *store = arg;

	for (unsigned i = 0; i < store->idle_count; i++)
		close(store->idle[i]);
	cw__keys_free(&store->keys);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

const struct cw_metadata_ops cw_metadata_redis = {
	.abi = CW_PLUGIN_ABI,
	.name = "redis",
	.summary = "one redis server; needs libhiredis",
	.open = redis_open,
	.close = redis_close,
	.get = redis_get,
	.put = redis_put,
	.del = redis_del,
	.keep = redis_keep,
};
