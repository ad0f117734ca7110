/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata store behind a plain HTTP server: GET, PUT and DELETE of URL?key=KEY, as Mooncake's engines use it. The
 * server has no leases: keys stay until somebody removes them. Requests are made in src/metadata/curl.c.
 */
#include <metadata/curl.h>
#include <metadata/http/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <util/clock.h>
#include <wire/classic.h>

struct store {
	struct cw_host *host;
	struct cw__curl_client client;
	struct cw__http_url url;
	const char *user, *password; /* the engine's; NULL = none */
};

/* --------------------------------------------------------------------------------------------- the url */

const char *cw__http_url_parse(const char *text, struct cw__http_url *url_out)
{
	const char *host = strstr(text, "://"), *end, *query = strchr(text, '?');
	char authority[sizeof(url_out->address)], name[256];
	uint16_t port;

	if (!host || host[3] == '\0')
		return "the url has no host: http://HOST:PORT/PATH";
	host += 3;
	end = host + strcspn(host, "/?#");
	for (const char *at = text; *at; at++)
		if (*at <= ' ' || *at > '~')
			return "the url has a character that must be written as %XX";
	if (memchr(host, '@', (size_t)(end - host)))
		return "the url names a user; use the settings metadata/user and metadata/password";
	if (strchr(end, '#'))
		return "the url has a fragment ('#...')";
	if ((size_t)(end - host) >= sizeof(authority) || strlen(text) > CW__HTTP_URL_MAX)
		return "the url is too long";
	snprintf(authority, sizeof(authority), "%.*s", (int)(end - host), host);
	if (cw__address_parse(authority, 1, name, sizeof(name), &port) || strchr(name, '%'))
		return "the url has no valid HOST:PORT";
	snprintf(url_out->address, sizeof(url_out->address), "%s", authority);
	snprintf(url_out->scheme, sizeof(url_out->scheme), "%.*s", (int)strcspn(text, ":"), text);
	snprintf(url_out->before_key, sizeof(url_out->before_key), "%s%ckey=", text, query ? '&' : '?');
	return NULL;
}

/* --------------------------------------------------------------------------------------------- requests */

static const struct {
	long code;
	int status;
	const char *advice;
} refusals[] = {
	{ 401, CW_ERR_PERMISSION, ": set metadata/user and metadata/password" },
	{ 403, CW_ERR_PERMISSION, "" },
	{ 407, CW_ERR_PERMISSION, ": the proxy wants a password" },
	{ 413, CW_ERR_LIMIT, ": the value is too long for it" },
	{ 414, CW_ERR_LIMIT, ": the key is too long for it" },
};

/* What an answer that is neither expected nor good means. The body begins at `from`. */
static int refuse(struct store *store, const struct cw__curl_request *request, size_t from)
{
	int status = request->code >= 500 ? CW_ERR_IO : CW_ERR_PROTOCOL;
	const char *advice = "";
	char line[100];

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].code == request->code) {
			status = refusals[i].status;
			advice = refusals[i].advice;
		}
	*line = '\0';
	if (request->answer->length > from)
		cw__curl_first_line(request->answer->data + from, request->answer->length - from, line, sizeof(line));
	return store->host->ops->fail(status, "%s %s: answered %s with %ld%s%s%s%s", store->url.scheme,
				      store->url.address, request->method, request->code, *line ? " (" : "", line,
				      *line ? ")" : "", advice);
}

/* CW_OK when there was an answer; its code is in the request. */
static int ask(struct store *store, struct cw__curl_request *request, const char *key, uint64_t deadline)
{
	char escaped[3 * CW_METADATA_KEY_MAX + 4], url[sizeof(store->url.before_key) + sizeof(escaped)];
	uint64_t now = cw__now();
	int status;

	if (strlen(key) > CW_METADATA_KEY_MAX || !cw__curl_escape(key, escaped, sizeof(escaped)))
		return store->host->ops->fail(CW_ERR_LIMIT, "%s %s: the key '%.40s' is empty or too long",
					      store->url.scheme, store->url.address, key);
	snprintf(url, sizeof(url), "%s%s", store->url.before_key, escaped);
	request->url = url;
	request->user = store->user;
	request->password = store->password;
	request->timeout = deadline > now ? deadline - now : 1;
	status = cw__curl_perform(&store->client, request);
	request->url = NULL;
	if (status)
		store->host->ops->fail(status, "%s %s: %s", store->url.scheme, store->url.address, request->why);
	return status;
}

/* A request whose answer's body does not matter unless it is a refusal. `also` is a code that is as good as 200. */
static int command(struct store *store, const char *method, const char *key, const void *value, size_t length,
		   uint64_t deadline, long also, long *code_out)
{
	struct cw_blob answer = { NULL, 0, 0 };
	struct cw__curl_request request = {
		.method = method, .body = value, .body_length = length, .answer = &answer, .limit = 65536
	};
	int status = ask(store, &request, key, deadline);

	if (!status && request.code != 200 && request.code != also)
		status = refuse(store, &request, 0);
	if (code_out)
		*code_out = request.code;
	store->host->ops->blob_free(&answer);
	return status;
}

/* --------------------------------------------------------------------------------------------- the hooks */

static int http_open(struct cw_host *host, const char *url, void **store_out, const char **why_out)
{
	static _Thread_local char line[256];
	struct store *store = calloc(1, sizeof(*store));
	const char *user = host->ops->setting(host, "metadata/user");
	const char *password = host->ops->setting(host, "metadata/password");
	int status = CW_ERR_CONFIG;

	*why_out = "out of memory";
	if (!store)
		return CW_ERR_NO_MEMORY;
	store->host = host;
	store->user = user && *user ? user : NULL;
	store->password = password && *password ? password : NULL;
	*why_out = cw__http_url_parse(url, &store->url);
	if (!*why_out) {
		status = cw__curl_init(&store->client, host, line, sizeof(line));
		*why_out = line;
	}
	if (status) {
		free(store);
		return status;
	}
	*store_out = store;
	return CW_OK;
}

static void http_close(void *arg)
{
	struct store *store = arg;

	cw__curl_free(&store->client);
	free(store);
}

static int http_get(void *arg, const char *key, uint64_t timeout, struct cw_blob *value_out)
{
	struct store *store = arg;
	struct cw__curl_request request = { .method = "GET", .answer = value_out, .limit = CW_METADATA_VALUE_MAX };
	size_t before = value_out->length;
	int status = ask(store, &request, key, cw__after(cw__now(), timeout));

	if (!status && request.code == 404)
		status = store->host->ops->fail(CW_ERR_NOT_FOUND, "%s %s: it has no key '%.200s'", store->url.scheme,
						store->url.address, key);
	else if (!status && request.code != 200)
		status = refuse(store, &request, before);
	if (status)
		value_out->length = before;
	return status;
}

static int http_del(void *arg, const char *key, uint64_t timeout)
{
	return command(arg, "DELETE", key, NULL, 0, cw__after(cw__now(), timeout), 404, NULL);
}

/* Some servers refuse to replace an address of a server ("Duplicate rpc_meta key not allowed"): what a crashed engine
 * left behind would keep its successor out. */
static int http_put(void *arg, const char *key, const void *value, size_t length, uint64_t timeout)
{
	struct store *store = arg;
	uint64_t deadline = cw__after(cw__now(), timeout);
	const void *body = length ? value : "";
	long code = 0;
	int status;

	if (length > CW_METADATA_VALUE_MAX)
		return store->host->ops->fail(CW_ERR_LIMIT, "%s %s: a value is longer than %u bytes", store->url.scheme,
					      store->url.address, CW_METADATA_VALUE_MAX);
	status = command(store, "PUT", key, body, length, deadline, 200, &code);
	if (code != 400 || !strstr(key, "rpc_meta"))
		return status;
	status = command(store, "DELETE", key, NULL, 0, deadline, 404, NULL);
	return status ? status : command(store, "PUT", key, body, length, deadline, 200, NULL);
}

const struct cw_metadata_ops cw_metadata_http = {
	.abi = CW_PLUGIN_ABI,
	.name = "http",
	.also = "https",
	.summary = "a web server that keeps values under ?key=; needs libcurl",
	.open = http_open,
	.close = http_close,
	.get = http_get,
	.put = http_put,
	.del = http_del,
};
