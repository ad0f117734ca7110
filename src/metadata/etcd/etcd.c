/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata store in etcd, version 3, through its JSON gateway. Keys are put under one lease, which keep() prolongs;
 * a new one is made at the first put after it ended. Requests are sent in ask.c, written and read in codec.c.
 */
#include <metadata/etcd/etcd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <util/clock.h>

#define COMPARES_MAX 64 /* in one transaction; etcd takes 128 unless told otherwise */

/* What a call carries: the request, the answer and how etcd refused it. */
struct call {
	struct cw__etcd *etcd;
	struct cw__etcd_writer body;
	struct cw_blob answer;
	struct cw__etcd_refusal refusal;
	uint64_t deadline;
	char why[160];
};

static struct call call_begin(struct cw__etcd *etcd, uint64_t deadline)
{
	struct call call = { .etcd = etcd, .body = { .ops = etcd->host->ops }, .deadline = deadline };

	return call;
}

static void call_end(struct call *call)
{
	call->etcd->host->ops->blob_free(&call->body.blob);
	call->etcd->host->ops->blob_free(&call->answer);
}

static int call_send(struct call *call, const char *path)
{
	return cw__etcd_ask(call->etcd, path, &call->body, call->deadline, &call->answer, &call->refusal);
}

/* {"name":"base64" */
static void write_bytes(struct cw__etcd_writer *body, const char *name, const void *data, size_t length)
{
	cw__etcd_write(body, name);
	cw__etcd_write(body, ":\"");
	cw__etcd_write_base64(body, data, length);
	cw__etcd_write(body, "\"");
}

static int check_lengths(struct cw__etcd *etcd, const char *key, size_t length)
{
	char why[160];

	if (*key && strlen(key) <= CW_METADATA_KEY_MAX && length <= CW_METADATA_VALUE_MAX)
		return CW_OK;
	snprintf(why, sizeof(why), "the key '%.40s' or its value is too long, or the key is empty", key);
	return cw__etcd_fail(etcd, CW_ERR_LIMIT, why);
}

/* ---------------------------------------------------------------------------------------------- leases */

static int grant_lease(struct cw__etcd *etcd, uint64_t deadline, char lease_out[CW__ETCD_LEASE_BYTES])
{
	struct call call = call_begin(etcd, deadline);
	char text[64];
	int status;

	snprintf(text, sizeof(text), "{\"TTL\":\"%llu\"}", (unsigned long long)etcd->lease_seconds);
	cw__etcd_write(&call.body, text);
	status = call_send(&call, "lease/grant");
	if (!status) {
		status = cw__etcd_read_grant(call.answer.data, call.answer.length, lease_out, call.why,
					     sizeof(call.why));
		if (status)
			cw__etcd_fail(etcd, status, call.why);
	}
	call_end(&call);
	return status;
}

static void revoke_lease(struct cw__etcd *etcd, uint64_t deadline, const char *lease)
{
	struct call call = call_begin(etcd, deadline);

	cw__etcd_write(&call.body, "{\"ID\":\"");
	cw__etcd_write(&call.body, lease);
	cw__etcd_write(&call.body, "\"}");
	if (call_send(&call, "lease/revoke")) /* it ends by itself then */
		etcd->host->ops->log(etcd->host, CW_LOG_DEBUG, "etcd: the empty lease %s could not be revoked", lease);
	call_end(&call);
}

/* Announces a key and finds the lease for it. Both under one lock: a lease without keys is revoked. */
static int begin_put(struct cw__etcd *etcd, const char *key, char lease_out[CW__ETCD_LEASE_BYTES])
{
	int status;

	pthread_mutex_lock(&etcd->lock);
	status = cw__keys_begin(&etcd->keys, key);
	memcpy(lease_out, etcd->lease, CW__ETCD_LEASE_BYTES);
	pthread_mutex_unlock(&etcd->lock);
	return status ? etcd->host->ops->fail(status, "out of memory") : CW_OK;
}

/* Threads that come here at once each ask for a lease; all use the one that came first, the others end by themselves.
 */
static int need_lease(struct cw__etcd *etcd, uint64_t deadline, char lease[CW__ETCD_LEASE_BYTES])
{
	char made[CW__ETCD_LEASE_BYTES];
	int status;

	if (!etcd->lease_seconds || *lease)
		return CW_OK;
	status = grant_lease(etcd, deadline, made);
	if (status)
		return status;
	pthread_mutex_lock(&etcd->lock);
	if (!*etcd->lease)
		memcpy(etcd->lease, made, sizeof(made));
	memcpy(lease, etcd->lease, sizeof(made));
	pthread_mutex_unlock(&etcd->lock);
	return CW_OK;
}

static void lose_lease(struct cw__etcd *etcd, char lease[CW__ETCD_LEASE_BYTES], int lost)
{
	pthread_mutex_lock(&etcd->lock);
	if (!strcmp(etcd->lease, lease)) {
		etcd->lease[0] = '\0';
		etcd->lost |= lost;
	}
	memcpy(lease, etcd->lease, CW__ETCD_LEASE_BYTES);
	pthread_mutex_unlock(&etcd->lock);
}

static void revoke_when_unused(struct cw__etcd *etcd, uint64_t deadline)
{
	char lease[CW__ETCD_LEASE_BYTES] = "";

	pthread_mutex_lock(&etcd->lock);
	if (cw__keys_are_none(&etcd->keys)) {
		memcpy(lease, etcd->lease, sizeof(lease));
		etcd->lease[0] = '\0';
	}
	pthread_mutex_unlock(&etcd->lock);
	if (*lease)
		revoke_lease(etcd, deadline, lease);
}

/* ----------------------------------------------------------------------------------------------- calls */

static int etcd_get(void *store, const char *key, uint64_t timeout, struct cw_blob *value_out)
{
	struct cw__etcd *etcd = store;
	struct call call = call_begin(etcd, cw__after(cw__now(), timeout));
	int status = check_lengths(etcd, key, 0);

	if (!status) {
		write_bytes(&call.body, "{\"key\"", key, strlen(key));
		cw__etcd_write(&call.body, "}");
		status = call_send(&call, "kv/range");
	}
	if (!status) {
		snprintf(call.why, sizeof(call.why), "it has no key '%.120s'", key);
		status = cw__etcd_read_range(etcd->host->ops, call.answer.data, call.answer.length, key, value_out,
					     call.why, sizeof(call.why));
		if (status)
			cw__etcd_fail(etcd, status, call.why);
	}
	call_end(&call);
	return status;
}

static int put_once(struct cw__etcd *etcd, const char *key, const void *value, size_t length, uint64_t deadline,
		    const char *lease, int *lease_is_gone_out)
{
	struct call call = call_begin(etcd, deadline);
	int status;

	write_bytes(&call.body, "{\"key\"", key, strlen(key));
	write_bytes(&call.body, ",\"value\"", value, length);
	if (*lease) {
		cw__etcd_write(&call.body, ",\"lease\":\"");
		cw__etcd_write(&call.body, lease);
		cw__etcd_write(&call.body, "\"");
	}
	cw__etcd_write(&call.body, "}");
	status = call_send(&call, "kv/put");
	*lease_is_gone_out = status && *lease && strstr(call.refusal.text, "lease not found") != NULL;
	call_end(&call);
	return status;
}

static int etcd_put(void *store, const char *key, const void *value, size_t length, uint64_t timeout)
{
	struct cw__etcd *etcd = store;
	uint64_t deadline = cw__after(cw__now(), timeout);
	char lease[CW__ETCD_LEASE_BYTES];
	int status = check_lengths(etcd, key, length), gone = 0;

	if (!status)
		status = begin_put(etcd, key, lease);
	if (status)
		return status;
	status = need_lease(etcd, deadline, lease);
	if (!status)
		status = put_once(etcd, key, value, length, deadline, lease, &gone);
	if (gone) {
		lose_lease(etcd, lease, 1);
		status = need_lease(etcd, deadline, lease);
		if (!status)
			status = put_once(etcd, key, value, length, deadline, lease, &gone);
	}
	cw__keys_end(&etcd->keys, key, !status);
	return status;
}

static int etcd_del(void *store, const char *key, uint64_t timeout)
{
	struct cw__etcd *etcd = store;
	struct call call = call_begin(etcd, cw__after(cw__now(), timeout));
	int status = check_lengths(etcd, key, 0);

	if (!status) {
		write_bytes(&call.body, "{\"key\"", key, strlen(key));
		cw__etcd_write(&call.body, "}");
		status = call_send(&call, "kv/deleterange");
	}
	call_end(&call);
	if (status)
		return status;
	cw__keys_remove(&etcd->keys, key);
	revoke_when_unused(etcd, call.deadline);
	return CW_OK;
}

/* ------------------------------------------------------------------------------------------------ keep */

static int renew_lease(struct cw__etcd *etcd, uint64_t deadline, char lease[CW__ETCD_LEASE_BYTES])
{
	struct call call = call_begin(etcd, deadline);
	int status;

	cw__etcd_write(&call.body, "{\"ID\":\"");
	cw__etcd_write(&call.body, lease);
	cw__etcd_write(&call.body, "\"}");
	status = call_send(&call, "lease/keepalive");
	if (!status) {
		status = cw__etcd_read_keepalive(call.answer.data, call.answer.length, call.why, sizeof(call.why));
		if (status == CW_ERR_NOT_FOUND)
			lose_lease(etcd, lease, 0);
		else if (status)
			cw__etcd_fail(etcd, status, call.why);
	}
	call_end(&call);
	return status;
}

/* Are the next keys there? `key` is the last one that was looked at; "" afterwards when there are no more. */
static int look_for_some(struct cw__etcd *etcd, uint64_t deadline, char key[CW_METADATA_KEY_MAX + 1])
{
	struct call call = call_begin(etcd, deadline);
	unsigned count = 0;
	int status = CW_OK, succeeded = 1, more = 1;

	cw__etcd_write(&call.body, "{\"compare\":[");
	while (count < COMPARES_MAX && more) {
		more = cw__keys_next(&etcd->keys, key, key);
		if (!more)
			break;
		cw__etcd_write(&call.body, count++ ? ",{" : "{");
		write_bytes(&call.body, "\"key\"", key, strlen(key));
		cw__etcd_write(&call.body, ",\"target\":\"VERSION\",\"result\":\"GREATER\",\"version\":\"0\"}");
	}
	cw__etcd_write(&call.body, "]}");
	if (count)
		status = call_send(&call, "kv/txn");
	if (count && !status) {
		status = cw__etcd_read_succeeded(call.answer.data, call.answer.length, &succeeded, call.why,
						 sizeof(call.why));
		if (status)
			cw__etcd_fail(etcd, status, call.why);
		else if (!succeeded)
			status = CW_ERR_NOT_FOUND;
	}
	if (!more)
		key[0] = '\0';
	call_end(&call);
	return status;
}

static int etcd_keep(void *store, uint64_t timeout)
{
	struct cw__etcd *etcd = store;
	uint64_t deadline = cw__after(cw__now(), timeout);
	char lease[CW__ETCD_LEASE_BYTES], key[CW_METADATA_KEY_MAX + 1] = "";
	int status = CW_OK, lost;

	if (!cw__keys_next(&etcd->keys, "", key))
		return CW_OK;
	key[0] = '\0';
	pthread_mutex_lock(&etcd->lock);
	memcpy(lease, etcd->lease, sizeof(lease));
	lost = etcd->lost || (etcd->lease_seconds && !*lease);
	etcd->lost = 0;
	pthread_mutex_unlock(&etcd->lock);
	if (lost)
		status = CW_ERR_NOT_FOUND;
	else if (*lease)
		status = renew_lease(etcd, deadline, lease);
	if (!status)
		do
			status = look_for_some(etcd, deadline, key);
		while (!status && *key);
	if (status == CW_ERR_NOT_FOUND)
		cw__etcd_fail(etcd, status, "it has lost keys, all have to be put again");
	return status;
}

/* --------------------------------------------------------------------------------------- open and close */

static int etcd_open(struct cw_host *host, const char *url, void **store_out, const char **why_out)
{
	static _Thread_local char line[256];
	struct cw__etcd *etcd = calloc(1, sizeof(*etcd));
	const char *user = host->ops->setting(host, "metadata/user");
	const char *password = host->ops->setting(host, "metadata/password");
	int status = CW_ERR_CONFIG;

	*why_out = "out of memory";
	if (!etcd)
		return CW_ERR_NO_MEMORY;
	etcd->host = host;
	etcd->user = user && *user ? user : NULL;
	etcd->password = password ? password : "";
	/* The setting is in nanoseconds here; etcd counts seconds. */
	etcd->lease_seconds = (host->ops->setting_number(host, "metadata/lease", 0) + CW__SECOND - 1) / CW__SECOND;
	*why_out = cw__etcd_url_parse(url, &etcd->endpoints);
	if (!*why_out && !etcd->user && *etcd->password)
		*why_out = "metadata/password is set without metadata/user";
	if (!*why_out) {
		status = cw__curl_init(&etcd->client, host, line, sizeof(line));
		*why_out = line;
	}
	if (status) {
		free(etcd);
		return status;
	}
	cw__keys_init(&etcd->keys);
	pthread_mutex_init(&etcd->lock, NULL);
	*store_out = etcd;
	return CW_OK;
}

static void etcd_close(void *store)
{
	struct cw__etcd *etcd = store;

	cw__curl_free(&etcd->client);
	cw__keys_free(&etcd->keys);
	pthread_mutex_destroy(&etcd->lock);
	free(etcd);
}

const struct cw_metadata_ops cw_metadata_etcd = {
	.abi = CW_PLUGIN_ABI,
	.name = "etcd",
	.summary = "etcd 3.4 or newer, one or several members; needs libcurl",
	.open = etcd_open,
	.close = etcd_close,
	.get = etcd_get,
	.put = etcd_put,
	.del = etcd_del,
	.keep = etcd_keep,
};
