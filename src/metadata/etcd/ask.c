/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request to etcd: which of the endpoints, with which token, and what a refusal means. The calls of the store are
 * in etcd.c.
 */
#include <metadata/etcd/etcd.h>
#include <stdio.h>
#include <string.h>
#include <util/clock.h>

/* Base64 and what stands around the value. */
#define ANSWER_MAX (CW_METADATA_VALUE_MAX / 3 * 4 + 65536)

enum grpc { GRPC_DEADLINE = 4, GRPC_FORBIDDEN = 7, GRPC_EXHAUSTED = 8, GRPC_UNAVAILABLE = 14, GRPC_NOBODY = 16 };

/* What etcd says and what that means. The first row that fits counts; a code of 0 fits any. */
static const struct {
	int code;
	const char *words; /* part of etcd's; "" fits any */
	int status;
	const char *line; /* NULL = etcd's own words */
} meanings[] = {
	{ 0, "user name is empty", CW_ERR_PERMISSION, "it wants a user: set metadata/user and metadata/password" },
	{ 0, "authentication failed", CW_ERR_PERMISSION, "metadata/user or metadata/password is wrong" },
	{ 0, "authentication is not enabled", CW_ERR_PERMISSION,
	  "it has no users: leave metadata/user and metadata/password empty" },
	{ 0, "request is too large", CW_ERR_LIMIT, "the value is too long for it (its option --max-request-bytes)" },
	{ 0, "received message larger than max", CW_ERR_LIMIT,
	  "the value is too long for it (its option --max-request-bytes)" },
	{ GRPC_FORBIDDEN, "", CW_ERR_PERMISSION, "the user may not touch these keys" },
	{ GRPC_NOBODY, "", CW_ERR_PERMISSION, NULL },
	{ GRPC_EXHAUSTED, "", CW_ERR_LIMIT, NULL },
	{ GRPC_DEADLINE, "", CW_ERR_TIMED_OUT, NULL },
	{ GRPC_UNAVAILABLE, "", CW_ERR_IO, NULL },
};

struct attempt {
	const char *path;
	const struct cw__etcd_writer *body;
	struct cw_blob *answer;
	const char *token; /* "" = none */
	char why[256];
	unsigned endpoint;
	struct cw__etcd_refusal refusal;
};

static int explain_refusal(struct attempt *attempt, long http_code)
{
	const struct cw__etcd_refusal *refusal = &attempt->refusal;

	if (refusal->code < 0 && http_code == 404) {
		snprintf(attempt->why, sizeof(attempt->why), "it has no /v3 gateway: etcd 3.4 or newer is needed");
		return CW_ERR_PROTOCOL;
	}
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
		if ((meanings[i].code && meanings[i].code != refusal->code) ||
		    !strstr(refusal->text, meanings[i].words))
			continue;
		snprintf(attempt->why, sizeof(attempt->why), "%s", meanings[i].line ? meanings[i].line : refusal->text);
		return meanings[i].status;
	}
	snprintf(attempt->why, sizeof(attempt->why), "answered %ld%s%s", http_code, *refusal->text ? ": " : "",
		 refusal->text);
	return http_code >= 500 ? CW_ERR_IO : CW_ERR_PROTOCOL;
}

static int ask_endpoint(struct cw__etcd *etcd, struct attempt *attempt, uint64_t timeout)
{
	char url[400], authorization[CW__ETCD_TOKEN_BYTES + 32];
	size_t before = attempt->answer->length;
	struct cw__curl_request request = {
		.method = "POST",
		.url = url,
		.body = attempt->body->blob.data,
		.body_length = attempt->body->blob.length,
		.authorization = *attempt->token ? authorization : NULL,
		.timeout = timeout,
		.answer = attempt->answer,
		.limit = ANSWER_MAX,
	};
	int status;

	snprintf(url, sizeof(url), "http://%s/v3/%s", etcd->endpoints.addresses[attempt->endpoint], attempt->path);
	snprintf(authorization, sizeof(authorization), "Authorization: %s", attempt->token);
	attempt->refusal = (struct cw__etcd_refusal){ .code = 0 };
	status = cw__curl_perform(&etcd->client, &request);
	if (status) {
		snprintf(attempt->why, sizeof(attempt->why), "%s", request.why);
		return status;
	}
	if (request.code == 200)
		return CW_OK;
	cw__etcd_read_refusal(attempt->answer->data ? attempt->answer->data + before : NULL,
			      attempt->answer->length - before, &attempt->refusal);
	attempt->answer->length = before;
	return explain_refusal(attempt, request.code);
}

/* Would another member perhaps do better? */
static int try_another(const struct attempt *attempt, int status)
{
	int code = attempt->refusal.code;

	if (code == 0)
		return status == CW_ERR_CONNECT || status == CW_ERR_TIMED_OUT || status == CW_ERR_IO ||
		       status == CW_ERR_PROTOCOL;
	return code < 0 || code == GRPC_UNAVAILABLE || code == GRPC_DEADLINE;
}

/* Each endpoint gets its share of the time that is left, so that a silent one leaves some for the others. */
static int ask_in_turn(struct cw__etcd *etcd, struct attempt *attempt, uint64_t deadline)
{
	unsigned count = etcd->endpoints.count, first;
	int status = CW_ERR_CONNECT;

	pthread_mutex_lock(&etcd->lock);
	first = etcd->preferred;
	pthread_mutex_unlock(&etcd->lock);
	for (unsigned i = 0; i < count; i++) {
		uint64_t now = cw__now();

		if (i > 0 && now >= deadline)
			break;
		attempt->endpoint = (first + i) % count;
		status = ask_endpoint(etcd, attempt, now < deadline ? (deadline - now) / (count - i) : 1);
		if (status && try_another(attempt, status))
			continue;
		pthread_mutex_lock(&etcd->lock);
		etcd->preferred = attempt->endpoint;
		pthread_mutex_unlock(&etcd->lock);
		break;
	}
	return status;
}

static int fail(struct cw__etcd *etcd, int status, const struct attempt *attempt)
{
	return etcd->host->ops->fail(status, "etcd %s: %s", etcd->endpoints.addresses[attempt->endpoint], attempt->why);
}

int cw__etcd_fail(struct cw__etcd *etcd, int status, const char *why)
{
	struct attempt attempt = { .refusal = { .code = 0 } };

	pthread_mutex_lock(&etcd->lock);
	attempt.endpoint = etcd->preferred;
	pthread_mutex_unlock(&etcd->lock);
	snprintf(attempt.why, sizeof(attempt.why), "%s", why);
	return fail(etcd, status, &attempt);
}

/* A new token. What etcd says about a failure stays unsaid unless it is in our table: it may repeat the password. */
static int log_in(struct cw__etcd *etcd, uint64_t deadline, char token_out[CW__ETCD_TOKEN_BYTES])
{
	struct cw__etcd_writer body = { .ops = etcd->host->ops };
	struct cw_blob answer = { NULL, 0, 0 };
	struct attempt attempt = { .path = "auth/authenticate", .body = &body, .answer = &answer, .token = "" };
	int status = CW_ERR_NO_MEMORY;

	cw__etcd_write(&body, "{\"name\":");
	cw__etcd_write_string(&body, etcd->user);
	cw__etcd_write(&body, ",\"password\":");
	cw__etcd_write_string(&body, etcd->password);
	cw__etcd_write(&body, "}");
	snprintf(attempt.why, sizeof(attempt.why), "out of memory");
	if (!body.bad)
		status = ask_in_turn(etcd, &attempt, deadline);
	if (!status)
		status = cw__etcd_read_token(answer.data, answer.length, token_out, attempt.why, sizeof(attempt.why));
	else if (attempt.refusal.code != 0 && strstr(attempt.why, etcd->password))
		snprintf(attempt.why, sizeof(attempt.why), "it refused metadata/user and metadata/password");
	if (body.blob.data)
		memset(body.blob.data, 0, body.blob.length);
	etcd->host->ops->blob_free(&body.blob);
	etcd->host->ops->blob_free(&answer);
	if (status)
		return fail(etcd, status, &attempt);
	pthread_mutex_lock(&etcd->lock);
	memcpy(etcd->token, token_out, CW__ETCD_TOKEN_BYTES);
	pthread_mutex_unlock(&etcd->lock);
	return CW_OK;
}

/* A token ends after a while, and when users are changed. */
static int token_is_over(const struct attempt *attempt)
{
	return attempt->refusal.code == GRPC_NOBODY || strstr(attempt->refusal.text, "invalid auth token") ||
	       strstr(attempt->refusal.text, "revision of auth store is old");
}

int cw__etcd_ask(struct cw__etcd *etcd, const char *path, struct cw__etcd_writer *body, uint64_t deadline,
		 struct cw_blob *answer, struct cw__etcd_refusal *refusal_out)
{
	char token[CW__ETCD_TOKEN_BYTES] = "";
	struct attempt attempt = { .path = path, .body = body, .answer = answer, .token = token };
	int status = CW_OK, had_token;

	*refusal_out = attempt.refusal;
	if (body->bad)
		return etcd->host->ops->fail(CW_ERR_NO_MEMORY, "out of memory");
	pthread_mutex_lock(&etcd->lock);
	memcpy(token, etcd->token, sizeof(token));
	pthread_mutex_unlock(&etcd->lock);
	had_token = *token != '\0';
	if (etcd->user && !had_token)
		status = log_in(etcd, deadline, token);
	if (status)
		return status;
	status = ask_in_turn(etcd, &attempt, deadline);
	if (status && had_token && token_is_over(&attempt)) {
		status = log_in(etcd, deadline, token);
		if (status)
			return status;
		status = ask_in_turn(etcd, &attempt, deadline);
	}
	*refusal_out = attempt.refusal;
	return status ? fail(etcd, status, &attempt) : CW_OK;
}
