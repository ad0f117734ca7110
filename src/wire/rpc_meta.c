/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document that says where the engine of a name listens, as Mooncake engines keep it in their metadata stores.
 * docs/protocol.md, "Metadata stores".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/classic.h"
#include "wire/json.h"

/* A host alone: a name, an IPv4 literal, or an IPv6 literal with or without brackets. */
static int parse_host(const char *text, char *out, size_t size)
{
	uint16_t port;

	return *text != '/' && cw__address_parse(text, 0, out, size, &port) == CW_OK && port == 0;
}

char *cw__rpc_meta_encode(const struct cw__rpc_meta *meta, size_t *length_out)
{
	struct json_object *root, *host, *port;
	char *text = NULL, checked[sizeof(meta->host)];
	const char *json;
	size_t length;

	if (!meta->port || !parse_host(meta->host, checked, sizeof(checked))) {
		errno = EINVAL;
		return NULL;
	}
	root = json_object_new_object();
	host = json_object_new_string(checked);
	port = json_object_new_int(meta->port);
	if (!root || !host || !port || json_object_object_add(root, "ip_or_host_name", host))
		goto fail;
	host = NULL;
	if (json_object_object_add(root, "rpc_port", port))
		goto fail;
	port = NULL;
	json = json_object_to_json_string_length(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
						 &length);
	text = json ? malloc(length + 2) : NULL;
	if (!text)
		goto fail;
	memcpy(text, json, length);
	memcpy(text + length, "\n", 2);
	*length_out = length + 1;
	json_object_put(root);
	return text;
fail:
	json_object_put(host);
	json_object_put(port);
	json_object_put(root);
	errno = ENOMEM;
	return NULL;
}

static int decode(struct json_object *root, struct cw__rpc_meta *meta, const struct cw__why *why)
{
	char host[sizeof(meta->host)];
	uint64_t port = 0;

	if (cw__json_get_text(root, "ip_or_host_name", CW__JSON_REQUIRED, host, sizeof(host), why) ||
	    cw__json_get_number(root, "rpc_port", UINT16_MAX, CW__JSON_REQUIRED, &port, why))
		return CW_ERR_PROTOCOL;
	if (!port)
		return cw__json_refuse(why, "member \"rpc_port\" is 0");
	if (!parse_host(host, meta->host, sizeof(meta->host)))
		return cw__json_refuse(why, "member \"ip_or_host_name\" is not a host");
	meta->port = (uint16_t)port;
	return CW_OK;
}

int cw__rpc_meta_decode(const char *json, size_t length, struct cw__rpc_meta *meta_out, char *why_text, size_t why_size)
{
	const struct cw__why why = { why_text, why_size, "" };
	struct cw__rpc_meta meta = { .port = 0 };
	struct json_object *root;
	int status = cw__json_parse(json, length, 0, &root, &why);

	if (status)
		return status;
	status = decode(root, &meta, &why);
	json_object_put(root);
	if (!status)
		*meta_out = meta;
	return status;
}
