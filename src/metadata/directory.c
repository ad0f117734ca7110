/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names over a metadata store: which keys there are, what their values mean, and how a name is looked up. The keys and
 * values are Mooncake's, so that its engines and ours find each other; docs/protocol.md, "Metadata stores". Read
 * publisher.c next.
 */
#include <metadata/directory.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <util/resolve.h>
#include <util/thread.h>

#define ADDRESSES_MAX 8

/* ----------------------------------------------------------------------------------------------- keys */

/* What a key may be made of: everything printable but the space. */
static int fits_key(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return 0;
	return 1;
}

int cw__directory_key(const struct cw__directory *directory, enum cw__entry_kind kind, const char *name,
		      char key_out[CW_METADATA_KEY_MAX])
{
	const char *folder = kind == CW__ENTRY_LISTENER ? "rpc_meta/" : strchr(name, '/') ? "" : "ram/";
	int length = snprintf(key_out, CW_METADATA_KEY_MAX, "%s%s%s", directory->prefix, folder, name);

	if (!*name || !fits_key(name) || length < 0 || (size_t)length >= CW_METADATA_KEY_MAX)
		return directory->host->ops->fail(CW_ERR_ADDRESS,
						  "'%.100s' cannot be a name in a metadata store: it is empty, too "
						  "long, or has spaces or characters other than ASCII",
						  name);
	return CW_OK;
}

/* --------------------------------------------------------------------------------------------- reading */

uint64_t cw__directory_left(uint64_t until)
{
	uint64_t now = cw__now();

	return until > now + CW__MS ? until - now : CW__MS;
}

int cw__directory_is_down(int status)
{
	return status && status != CW_ERR_NOT_FOUND && status != CW_ERR_ADDRESS && status != CW_ERR_PROTOCOL &&
	       status != CW_ERR_LIMIT;
}

/* Fetches the value of one entry, with a NUL behind it. */
static int get(struct cw__directory *directory, enum cw__entry_kind kind, const char *name, uint64_t until,
	       char key_out[CW_METADATA_KEY_MAX], struct cw_blob *value_out)
{
	const struct cw_host_ops *host = directory->host->ops;
	int status = cw__directory_key(directory, kind, name, key_out);
	char text[200];

	if (status)
		return status;
	status = directory->ops->get(directory->store, key_out, cw__directory_left(until), value_out);
	if (status == CW_ERR_NOT_FOUND)
		return host->fail(status, "nobody is known as '%.60s': %s has no key %.90s", name, directory->where,
				  key_out);
	if (status) {
		snprintf(text, sizeof(text), "%s", cw_last_error());
		return host->fail(status, "cannot look '%.60s' up: %s", name, *text ? text : cw_strerror(status));
	}
	return CW_OK;
}

static int junk(struct cw__directory *directory, const char *key, const char *why)
{
	return directory->host->ops->fail(CW_ERR_PROTOCOL, "%s: what it holds as %.90s is not an engine's: %s",
					  directory->where, key, why);
}

int cw__directory_get_listener(struct cw__directory *directory, const char *name, uint64_t until,
			       struct cw__rpc_meta *listener_out)
{
	struct cw_blob value = { 0 };
	char key[CW_METADATA_KEY_MAX], why[100];
	int status = get(directory, CW__ENTRY_LISTENER, name, until, key, &value);

	if (!status && cw__rpc_meta_decode((const char *)value.data, value.length, listener_out, why, sizeof(why)))
		status = junk(directory, key, why);
	directory->host->ops->blob_free(&value);
	return status;
}

static int get_descriptor(struct cw__directory *directory, const char *name, uint64_t until,
			  struct cw__descriptor *descriptor_out)
{
	struct cw_blob value = { 0 };
	char key[CW_METADATA_KEY_MAX], why[100] = "";
	int status = get(directory, CW__ENTRY_DESCRIPTOR, name, until, key, &value);

	if (!status) {
		status =
			cw__descriptor_decode((const char *)value.data, value.length, descriptor_out, why, sizeof(why));
		if (status == CW_ERR_PROTOCOL)
			status = junk(directory, key, why);
	}
	directory->host->ops->blob_free(&value);
	return status;
}

/* ---------------------------------------------------------------------------------------- looking up */

/* Numeric addresses, so that nobody who connects later has to wait for a name server. */
static int resolve(struct cw__directory *directory, const char *name, const struct cw__rpc_meta *listener,
		   uint64_t until, struct cw_blob *addresses)
{
	const struct cw_host_ops *host = directory->host->ops;
	struct addrinfo *found = NULL;
	int failed = cw__resolve(listener->host, NULL, until, &found), status = CW_OK;
	unsigned count = 0;

	if (failed)
		return host->fail(CW_ERR_ADDRESS, "%s says that '%.60s' is on host '%.60s': %s", directory->where, name,
				  listener->host, cw__resolve_why(failed));
	for (struct addrinfo *at = found; at && !status && count < ADDRESSES_MAX; at = at->ai_next) {
		char numeric[64], line[80];
		size_t length;

		if (getnameinfo(at->ai_addr, at->ai_addrlen, numeric, sizeof(numeric), NULL, 0, NI_NUMERICHOST))
			continue;
		length = cw__address_format(numeric, listener->port, line, sizeof(line) - 1);
		if (!length)
			continue;
		line[length] = '\n';
		status = host->blob_append(addresses, line, length + 1);
		count++;
	}
	freeaddrinfo(found);
	if (!status && !count)
		status = host->fail(CW_ERR_ADDRESS, "%s says that '%.60s' is on host '%.60s', which has no address",
				    directory->where, name, listener->host);
	return status;
}

static int find_in_store(struct cw__directory *directory, const char *name, uint64_t until, struct cw__found *found)
{
	struct cw__rpc_meta listener;
	int status = get_descriptor(directory, name, until, &found->descriptor);

	if (status)
		return status;
	found->described = 1;
	status = cw__directory_get_listener(directory, name, until, &listener);
	return status ? status : resolve(directory, name, &listener, until, &found->addresses);
}

/* Where names are addresses. */
static int find_by_address(struct cw__directory *directory, const char *name, uint64_t timeout, struct cw__found *found)
{
	int status = directory->ops->addresses(directory->store, name, timeout, &found->addresses);

	if (status == CW_ERR_ADDRESS || (!status && !found->addresses.length))
		return directory->host->ops->fail(
			CW_ERR_ADDRESS, "'%.100s' cannot be parsed or resolved; names look like host:port or [v6]:port",
			name);
	return status;
}

int cw__directory_find(struct cw__directory *directory, const char *name, uint64_t timeout, struct cw__found *found_out)
{
	struct cw__found found = { .described = 0 };
	int status;

	if (directory->ops->addresses)
		status = find_by_address(directory, name, timeout, &found);
	else
		status = find_in_store(
			directory, name,
			cw__after(cw__now(), timeout < directory->timeout ? timeout : directory->timeout), &found);
	if (!status)
		status = directory->host->ops->blob_append(&found.addresses, "", 1);
	if (!status) {
		*found_out = found;
		return CW_OK;
	}
	directory->host->ops->blob_free(&found.addresses);
	cw__descriptor_free(&found.descriptor);
	return status;
}

/* ------------------------------------------------------------------------------------ open and close */

void cw__directory_wait(struct cw__directory *directory, pthread_cond_t *condition, uint64_t until)
{
	struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };

	if (until == CW_FOREVER)
		pthread_cond_wait(condition, &directory->lock);
	else
		pthread_cond_timedwait(condition, &directory->lock, &at);
}

int cw__directory_thread(pthread_t *thread_out, void *(*main)(void *), void *arg)
{
	return cw__thread_start(thread_out, NULL, main, arg) ? CW_ERR_NO_MEMORY : CW_OK;
}

/* "mooncake/", or "mooncake/CLUSTER/". */
static int make_prefix(struct cw__directory *directory)
{
	const char *cluster = directory->host->ops->setting(directory->host, "metadata/cluster");
	size_t length = cluster ? strlen(cluster) : 0;

	if (!length) {
		strcpy(directory->prefix, "mooncake/");
		return CW_OK;
	}
	if (!fits_key(cluster) || length > 200)
		return directory->host->ops->fail(CW_ERR_CONFIG, "metadata/cluster: it is too long, or has spaces or "
								 "characters other than ASCII");
	snprintf(directory->prefix, sizeof(directory->prefix), "mooncake/%s%s", cluster,
		 cluster[length - 1] == '/' ? "" : "/");
	return CW_OK;
}

/* The url as it may be shown. */
static void describe_store(struct cw__directory *directory)
{
	const char *url = directory->host->ops->setting(directory->host, "metadata/url");
	const char *rest = url ? strstr(url, "://") : NULL, *end, *at;

	if (!url)
		url = directory->ops->name;
	if (!rest) {
		snprintf(directory->where, sizeof(directory->where), "%.100s", url);
		return;
	}
	rest += 3;
	end = rest + strcspn(rest, "/?");
	at = memchr(rest, '@', (size_t)(end - rest));
	for (const char *more = at; more; more = memchr(more + 1, '@', (size_t)(end - more - 1)))
		at = more;
	snprintf(directory->where, sizeof(directory->where), "%.*s%.80s", (int)(rest - url), url, at ? at + 1 : rest);
}

static int directory_open(struct cw_host *host, const struct cw_metadata_ops *ops, void *store,
			  struct cw__directory **directory_out)
{
	struct cw__directory *directory = calloc(1, sizeof(*directory));
	pthread_condattr_t clock;
	int status;

	if (!directory)
		return host->ops->fail(CW_ERR_NO_MEMORY, "out of memory");
	directory->host = host;
	directory->ops = ops;
	directory->store = store;
	directory->timeout = host->ops->setting_number(host, "metadata/timeout", 3 * CW__SECOND);
	directory->interval = host->ops->setting_number(host, "metadata/refresh", 10 * CW__SECOND);
	describe_store(directory);
	status = make_prefix(directory);
	if (status) {
		free(directory);
		return status;
	}
	pthread_mutex_init(&directory->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&directory->work, &clock);
	pthread_cond_init(&directory->done, &clock);
	pthread_condattr_destroy(&clock);
	cw__list_init(&directory->questions);
	*directory_out = directory;
	return CW_OK;
}

static void directory_stop(struct cw__directory *directory)
{
	int has_publisher, has_finder;

	pthread_mutex_lock(&directory->lock);
	directory->stopping = 1;
	directory->stop_by = cw__after(cw__now(), directory->timeout);
	pthread_cond_broadcast(&directory->work);
	pthread_cond_broadcast(&directory->done);
	has_publisher = directory->has_publisher;
	has_finder = directory->has_finder;
	directory->has_publisher = directory->has_finder = 0;
	pthread_mutex_unlock(&directory->lock);
	if (has_publisher)
		pthread_join(directory->publisher, NULL);
	if (has_finder)
		pthread_join(directory->finder, NULL);
}

static void directory_close(struct cw__directory *directory)
{
	pthread_cond_destroy(&directory->work);
	pthread_cond_destroy(&directory->done);
	pthread_mutex_destroy(&directory->lock);
	free(directory);
}

const struct cw__directory_ops cw__directory = {
	.open = directory_open,
	.start = cw__publisher_start,
	.stop = directory_stop,
	.close = directory_close,
	.find = cw__directory_find,
	.ask = cw__finder_ask,
	.changed = cw__publisher_changed,
	.await = cw__publisher_await,
};
