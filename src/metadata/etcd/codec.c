/* SPDX-License-Identifier: Apache-2.0 */
/* See codec.h. */
#include <metadata/etcd/codec.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wire/classic.h>
#include <wire/json.h>

#define DEFAULT_PORT 2379

/* --------------------------------------------------------------------------------------------- the url */

const char *cw__etcd_url_parse(const char *text, struct cw__etcd_endpoints *endpoints_out)
{
	const char *at = strstr(text, "://");
	char one[300], host[256];
	uint16_t port;

	endpoints_out->count = 0;
	at = at ? at + 3 : "";
	if (strchr(at, '@'))
		return "the url names a user; use the settings metadata/user and metadata/password";
	while (*at) {
		size_t length = strcspn(at, ",;");

		if (endpoints_out->count == CW__ETCD_ENDPOINTS_MAX)
			return "the url has too many endpoints";
		if (length >= sizeof(one))
			return "the url has an endpoint that is too long";
		snprintf(one, sizeof(one), "%.*s", (int)length, at);
		if (*one == '/' || cw__address_parse(one, DEFAULT_PORT, host, sizeof(host), &port) ||
		    !cw__address_format(host, port, endpoints_out->addresses[endpoints_out->count],
					sizeof(endpoints_out->addresses[0])))
			return "the url is not etcd://HOST:PORT[,HOST:PORT...]";
		endpoints_out->count++;
		at += length + (at[length] != '\0');
	}
	return endpoints_out->count ? NULL : "the url has no host: etcd://HOST:PORT[,HOST:PORT...]";
}

/* --------------------------------------------------------------------------------------------- base64 */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void append(struct cw__etcd_writer *writer, const void *data, size_t length)
{
	if (!writer->bad && writer->ops->blob_append(&writer->blob, data, length))
		writer->bad = 1;
}

void cw__etcd_write_base64(struct cw__etcd_writer *writer, const void *data, size_t length)
{
	const unsigned char *from = data;
	char chunk[4096];
	size_t used = 0;

	for (size_t i = 0; i < length; i += 3) {
		size_t left = length - i;
		uint32_t bits = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
				(left > 2 ? from[i + 2] : 0);

		chunk[used++] = alphabet[bits >> 18];
		chunk[used++] = alphabet[bits >> 12 & 63];
		chunk[used++] = left > 1 ? alphabet[bits >> 6 & 63] : '=';
		chunk[used++] = left > 2 ? alphabet[bits & 63] : '=';
		if (used == sizeof(chunk)) {
			append(writer, chunk, used);
			used = 0;
		}
	}
	append(writer, chunk, used);
}

static int digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Padded standard base64, and nothing else. The bytes are appended. CW_OK, PROTOCOL or NO_MEMORY. */
static int read_base64(const struct cw_host_ops *ops, const char *text, size_t length, struct cw_blob *out)
{
	unsigned char chunk[3072];
	size_t used = 0;
	int status = CW_OK;

	if (length % 4)
		return CW_ERR_PROTOCOL;
	for (size_t i = 0; i < length && !status; i += 4) {
		int last = i + 4 == length;
		unsigned bytes = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 1 : 2) : 3;
		int a = digit_of(text[i]), b = digit_of(text[i + 1]);
		int c = bytes > 1 ? digit_of(text[i + 2]) : 0, d = bytes > 2 ? digit_of(text[i + 3]) : 0;
		uint32_t bits;

		if (a < 0 || b < 0 || c < 0 || d < 0)
			return CW_ERR_PROTOCOL;
		bits = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | (uint32_t)d;
		for (unsigned j = 0; j < bytes; j++)
			chunk[used++] = (unsigned char)(bits >> (16 - 8 * j));
		if (used + 3 > sizeof(chunk) || last) {
			status = ops->blob_append(out, chunk, used);
			used = 0;
		}
	}
	return status;
}

/* -------------------------------------------------------------------------------------------- requests */

void cw__etcd_write(struct cw__etcd_writer *writer, const char *text)
{
	append(writer, text, strlen(text));
}

void cw__etcd_write_string(struct cw__etcd_writer *writer, const char *text)
{
	struct json_object *string = json_object_new_string(text);
	const char *quoted = string ? json_object_to_json_string_ext(string, JSON_C_TO_STRING_PLAIN) : NULL;

	if (quoted)
		cw__etcd_write(writer, quoted);
	else
		writer->bad = 1;
	json_object_put(string);
}

/* --------------------------------------------------------------------------------------------- answers */

/* The answer as a tree whose root is an object. */
static int parse(const void *text, size_t length, struct json_object **root_out, const struct cw__why *why)
{
	if (!length)
		return cw__json_refuse(why, "it is empty");
	return cw__json_parse(text, length, 0, root_out, why);
}

static int read_value(const struct cw_host_ops *ops, struct json_object *entry, const char *key,
		      struct cw_blob *value_out, const struct cw__why *why)
{
	struct cw__etcd_writer wanted = { .ops = ops };
	struct json_object *name = NULL, *value = NULL;
	size_t length;
	int status, other;

	if (json_object_get_type(entry) != json_type_object)
		return cw__json_refuse(why, "kvs[] is not an object");
	status = cw__json_get(entry, "key", json_type_string, CW__JSON_REQUIRED, &name, why);
	if (!status)
		status = cw__json_get(entry, "value", json_type_string, CW__JSON_OPTIONAL, &value, why);
	if (status)
		return status;
	cw__etcd_write_base64(&wanted, key, strlen(key));
	other = wanted.bad || (size_t)json_object_get_string_len(name) != wanted.blob.length ||
		memcmp(json_object_get_string(name), wanted.blob.data, wanted.blob.length) != 0;
	ops->blob_free(&wanted.blob);
	if (wanted.bad)
		return CW_ERR_NO_MEMORY;
	if (other)
		return cw__json_refuse(why, "it is about another key");
	if (!value) /* an empty one */
		return CW_OK;
	length = (size_t)json_object_get_string_len(value);
	if (length / 4 * 3 > CW_METADATA_VALUE_MAX + 2)
		return CW_ERR_LIMIT;
	status = read_base64(ops, json_object_get_string(value), length, value_out);
	return status == CW_ERR_PROTOCOL ? cw__json_refuse(why, "kvs[].value is not base64") : status;
}

int cw__etcd_read_range(const struct cw_host_ops *ops, const void *text, size_t length, const char *key,
			struct cw_blob *value_out, char *why_out, size_t why_size)
{
	const struct cw__why why = { why_out, why_size, "" };
	struct json_object *root = NULL, *entries = NULL;
	size_t before = value_out->length;
	int status = parse(text, length, &root, &why);

	if (!status)
		status = cw__json_get(root, "kvs", json_type_array, CW__JSON_OPTIONAL, &entries, &why);
	if (!status && (!entries || json_object_array_length(entries) == 0))
		status = CW_ERR_NOT_FOUND;
	else if (!status && json_object_array_length(entries) != 1)
		status = cw__json_refuse(&why, "it has more than one key");
	if (!status)
		status = read_value(ops, json_object_array_get_idx(entries, 0), key, value_out, &why);
	if (status)
		value_out->length = before;
	json_object_put(root);
	return status;
}

/* A lease's number, as the text it came in. */
static int is_lease(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits > 0 && !text[digits] && strcmp(text, "0") != 0;
}

int cw__etcd_read_grant(const void *text, size_t length, char lease_out[CW__ETCD_LEASE_BYTES], char *why_out,
			size_t why_size)
{
	const struct cw__why why = { why_out, why_size, "" };
	struct json_object *root = NULL;
	char lease[CW__ETCD_LEASE_BYTES];
	int status = parse(text, length, &root, &why);

	if (!status)
		status = cw__json_get_text(root, "ID", CW__JSON_REQUIRED, lease, sizeof(lease), &why);
	if (!status && !is_lease(lease))
		status = cw__json_refuse(&why, "ID is not a number");
	if (!status)
		memcpy(lease_out, lease, sizeof(lease));
	json_object_put(root);
	return status;
}

int cw__etcd_read_keepalive(const void *text, size_t length, char *why_out, size_t why_size)
{
	const struct cw__why why = { why_out, why_size, "" };
	struct json_object *root = NULL, *result = NULL;
	char seconds[24] = "0";
	int status = parse(text, length, &root, &why);

	if (!status)
		status = cw__json_get(root, "result", json_type_object, CW__JSON_REQUIRED, &result, &why);
	if (!status)
		status = cw__json_get_text(result, "TTL", CW__JSON_OPTIONAL, seconds, sizeof(seconds), &why);
	if (!status && !is_lease(seconds))
		status = CW_ERR_NOT_FOUND;
	json_object_put(root);
	return status;
}

int cw__etcd_read_token(const void *text, size_t length, char token_out[CW__ETCD_TOKEN_BYTES], char *why_out,
			size_t why_size)
{
	const struct cw__why why = { why_out, why_size, "" };
	struct json_object *root = NULL;
	char token[CW__ETCD_TOKEN_BYTES];
	int status = parse(text, length, &root, &why);

	if (!status)
		status = cw__json_get_text(root, "token", CW__JSON_REQUIRED, token, sizeof(token), &why);
	/* It becomes a header line. */
	for (const char *at = token; !status && *at; at++)
		if (*at <= ' ' || *at > '~')
			status = cw__json_refuse(&why, "token has a strange character");
	if (!status)
		memcpy(token_out, token, strlen(token) + 1);
	json_object_put(root);
	return status;
}

int cw__etcd_read_succeeded(const void *text, size_t length, int *succeeded_out, char *why_out, size_t why_size)
{
	const struct cw__why why = { why_out, why_size, "" };
	struct json_object *root = NULL, *succeeded = NULL;
	int status = parse(text, length, &root, &why);

	if (!status)
		status = cw__json_get(root, "succeeded", json_type_boolean, CW__JSON_OPTIONAL, &succeeded, &why);
	if (!status)
		*succeeded_out = succeeded && json_object_get_boolean(succeeded);
	json_object_put(root);
	return status;
}

void cw__etcd_read_refusal(const void *text, size_t length, struct cw__etcd_refusal *refusal_out)
{
	const struct cw__why why = { NULL, 0, "" };
	struct json_object *root = NULL, *from, *member;
	const char *words = "";

	refusal_out->code = -1;
	refusal_out->text[0] = '\0';
	if (parse(text, length, &root, &why))
		return;
	/* 3.4 has "error", 3.6 only "message"; a stream wraps both into an object. */
	from = root;
	if (json_object_object_get_ex(root, "error", &member) && json_object_get_type(member) == json_type_object)
		from = member;
	if (json_object_object_get_ex(from, "message", &member) && json_object_get_type(member) == json_type_string)
		words = json_object_get_string(member);
	else if (json_object_object_get_ex(from, "error", &member) && json_object_get_type(member) == json_type_string)
		words = json_object_get_string(member);
	for (size_t i = 0; i + 1 < sizeof(refusal_out->text) && words[i] >= ' ' && words[i] <= '~'; i++) {
		refusal_out->text[i] = words[i];
		refusal_out->text[i + 1] = '\0';
	}
	if ((json_object_object_get_ex(from, "code", &member) ||
	     json_object_object_get_ex(from, "grpc_code", &member)) &&
	    json_object_get_type(member) == json_type_int && json_object_get_int64(member) > 0 &&
	    json_object_get_int64(member) < 1000)
		refusal_out->code = json_object_get_int(member);
	json_object_put(root);
}
