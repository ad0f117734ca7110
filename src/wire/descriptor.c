/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON documents of the classic protocol: segment descriptor, notification, connection request. Members are added
 * in alphabetical order, because that is how the original writes them. docs/protocol.md, "Classic".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/classic.h"
#include "wire/json.h"

#define ADDRESSES_MAX (sizeof(((struct cw__descriptor *)NULL)->addresses) / sizeof(char[80]))
#define INSTANCE_BYTES sizeof(((struct cw__descriptor *)NULL)->instance)

/* Classic peers pass over members that they do not know, so this one tells ours that more than classic is spoken here.
 */
static const char announcement_name[] = "x_causeway";

/* ------------------------------------------------------------------------------ rules of both directions */

/* Not empty, not at 0, and not past the last address. */
static int buffer_is_usable(const struct cw__classic_buffer *buffer)
{
	return buffer->address != 0 && buffer->length != 0 && buffer->length - 1 <= UINT64_MAX - buffer->address;
}

/* An address with its port. */
static int is_dialable(const char *address)
{
	char host[sizeof(((struct cw__descriptor *)NULL)->addresses[0])];
	uint16_t port;

	return cw__address_parse(address, 0, host, sizeof(host), &port) == CW_OK && port != 0;
}

/* -------------------------------------------------------------------------------------------- writing */

/* Adds a new value; it and everything added later counts for nothing once memory ran out. */
static void add(struct json_object *object, const char *name, struct json_object *value, int *failed)
{
	if (!object || !value || json_object_object_add(object, name, value)) {
		json_object_put(value);
		*failed = 1;
	}
}

static void append(struct json_object *array, struct json_object *value, int *failed)
{
	if (!array || !value || json_object_array_add(array, value)) {
		json_object_put(value);
		*failed = 1;
	}
}

/* Turns a tree into the text to send and frees it. */
static char *finish(struct json_object *root, int failed, size_t *length_out)
{
	const char *json = NULL;
	char *text = NULL;
	size_t length = 0;

	if (!failed)
		json = json_object_to_json_string_length(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
							 &length);
	if (json)
		text = malloc(length + 2);
	if (text) {
		memcpy(text, json, length);
		memcpy(text + length, "\n", 2);
		*length_out = length + 1;
	} else {
		errno = ENOMEM;
	}
	json_object_put(root);
	return text;
}

static char *refuse_to_write(void)
{
	errno = EINVAL;
	return NULL;
}

static int is_utf8(const char *text)
{
	return cw__utf8_check(text, strlen(text));
}

static int announcement_can_be_sent(const struct cw__descriptor *descriptor)
{
	static const unsigned char nobody[INSTANCE_BYTES];

	if (descriptor->native_version == 0 || descriptor->native_version > UINT16_MAX ||
	    memcmp(descriptor->instance, nobody, INSTANCE_BYTES) == 0 || descriptor->address_count > ADDRESSES_MAX)
		return 0;
	for (unsigned i = 0; i < descriptor->address_count; i++) {
		if (!is_dialable(descriptor->addresses[i]))
			return 0;
	}
	return 1;
}

/* What a peer would refuse is not sent. */
static int descriptor_can_be_sent(const struct cw__descriptor *descriptor)
{
	if (strcmp(descriptor->protocol, "tcp") != 0 || descriptor->name[0] == '\0' || !is_utf8(descriptor->name) ||
	    descriptor->buffer_count > CW__DESCRIPTOR_BUFFERS_MAX ||
	    (descriptor->native && !announcement_can_be_sent(descriptor)))
		return 0;
	for (size_t i = 0; i < descriptor->buffer_count; i++) {
		if (!buffer_is_usable(&descriptor->buffers[i]) || !is_utf8(descriptor->buffers[i].location))
			return 0;
	}
	return 1;
}

static struct json_object *buffers_to_json(const struct cw__descriptor *descriptor, int *failed)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < descriptor->buffer_count && !*failed; i++) {
		struct json_object *buffer = json_object_new_object();

		add(buffer, "addr", json_object_new_uint64(descriptor->buffers[i].address), failed);
		add(buffer, "length", json_object_new_uint64(descriptor->buffers[i].length), failed);
		add(buffer, "name",
		    json_object_new_string(descriptor->buffers[i].location[0] ? descriptor->buffers[i].location
									      : descriptor->name),
		    failed);
		append(array, buffer, failed);
	}
	return array;
}

static struct json_object *announcement_to_json(const struct cw__descriptor *descriptor, int *failed)
{
	struct json_object *object = json_object_new_object(), *addresses = json_object_new_array();
	char hex[2 * INSTANCE_BYTES + 1];

	for (size_t i = 0; i < INSTANCE_BYTES; i++) {
		hex[2 * i] = "0123456789abcdef"[descriptor->instance[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[descriptor->instance[i] & 15];
	}
	hex[2 * INSTANCE_BYTES] = '\0';
	for (unsigned i = 0; i < descriptor->address_count; i++)
		append(addresses, json_object_new_string(descriptor->addresses[i]), failed);
	add(object, "addresses", addresses, failed);
	add(object, "instance", json_object_new_string(hex), failed);
	add(object, "version", json_object_new_uint64(descriptor->native_version), failed);
	return object;
}

char *cw__descriptor_encode(const struct cw__descriptor *descriptor, const char *timestamp, size_t *length_out)
{
	struct json_object *root;
	int failed = 0;

	if (!descriptor_can_be_sent(descriptor) || !is_utf8(timestamp))
		return refuse_to_write();
	root = json_object_new_object();
	add(root, "buffers", buffers_to_json(descriptor, &failed), &failed);
	add(root, "name", json_object_new_string(descriptor->name), &failed);
	add(root, "protocol", json_object_new_string(descriptor->protocol), &failed);
	add(root, "tcp_data_port", json_object_new_uint64(descriptor->tcp_data_port), &failed);
	add(root, "tcp_proto_version", json_object_new_uint64(descriptor->tcp_proto_version), &failed);
	add(root, "timestamp", json_object_new_string(timestamp), &failed);
	if (descriptor->native)
		add(root, announcement_name, announcement_to_json(descriptor, &failed), &failed);
	return finish(root, failed, length_out);
}

int cw__classic_is_text(const char *text, size_t length)
{
	return cw__utf8_check(text, length);
}

char *cw__classic_notify_encode(const char *name, const char *message, size_t *length_out)
{
	struct json_object *root;
	int failed = 0;

	if (!is_utf8(name) || !is_utf8(message))
		return refuse_to_write();
	root = json_object_new_object();
	add(root, "name", json_object_new_string(name), &failed);
	add(root, "notify_msg", json_object_new_string(message), &failed);
	return finish(root, failed, length_out);
}

char *cw__classic_connection_reply(const char *reply_message, size_t *length_out)
{
	struct json_object *root;
	int failed = 0;

	if (!is_utf8(reply_message))
		return refuse_to_write();
	root = json_object_new_object();
	add(root, "local_gid", json_object_new_string(""), &failed);
	add(root, "local_lid", json_object_new_uint64(0), &failed);
	add(root, "local_nic_path", json_object_new_string(""), &failed);
	add(root, "payload", json_object_new_string(""), &failed);
	add(root, "peer_nic_path", json_object_new_string(""), &failed);
	add(root, "qp_num", json_object_new_array(), &failed);
	add(root, "reply_msg", json_object_new_string(reply_message), &failed);
	return finish(root, failed, length_out);
}

/* -------------------------------------------------------------------------------- reading a descriptor */

/* An engine built for several protocols at once gives an array of them, and names one in each buffer. */
static int decode_protocol(struct json_object *root, struct cw__descriptor *descriptor, int *mixed_out,
			   const struct cw__why *why)
{
	struct json_object *array = json_object_object_get(root, "protocol");

	*mixed_out = json_object_is_type(array, json_type_array);
	if (!*mixed_out) {
		if (cw__json_get_text(root, "protocol", CW__JSON_REQUIRED, descriptor->protocol,
				      sizeof(descriptor->protocol), why))
			return CW_ERR_PROTOCOL;
		return descriptor->protocol[0] ? CW_OK : cw__json_refuse(why, "member \"protocol\" is empty");
	}
	if (json_object_array_length(array) == 0)
		return cw__json_refuse(why, "member \"protocol\" is empty");
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		struct json_object *entry = json_object_array_get_idx(array, i);
		const char *protocol = json_object_get_string(entry);

		if (!json_object_is_type(entry, json_type_string) || protocol[0] == '\0' ||
		    strlen(protocol) >= sizeof(descriptor->protocol))
			return cw__json_refuse(why, "member \"protocol\" does not list names of protocols");
		if (i == 0 || strcmp(protocol, "tcp") == 0)
			strcpy(descriptor->protocol, protocol);
	}
	return CW_OK;
}

static int decode_tcp_buffer(struct json_object *object, struct cw__classic_buffer *buffer, const struct cw__why *why)
{
	struct json_object *name = NULL;

	if (cw__json_get(object, "name", json_type_string, CW__JSON_REQUIRED, &name, why) ||
	    cw__json_get_number(object, "addr", UINT64_MAX, CW__JSON_REQUIRED, &buffer->address, why) ||
	    cw__json_get_number(object, "length", UINT64_MAX, CW__JSON_REQUIRED, &buffer->length, why))
		return CW_ERR_PROTOCOL;
	if (json_object_get_string_len(name) == 0)
		return cw__json_refuse(why, "member \"%sname\" is empty", why->where);
	if (!buffer_is_usable(buffer))
		return cw__json_refuse(why,
				       "member \"%saddr\" is 0, or \"%slength\" is 0 or leads past the last address",
				       why->where, why->where);
	return CW_OK;
}

static int decode_buffers(struct json_object *root, int mixed, struct cw__descriptor *descriptor,
			  const struct cw__why *outer_why)
{
	const struct cw__why why = { outer_why->text, outer_why->size, "buffers[]." };
	struct json_object *array = NULL;
	size_t count;

	if (cw__json_get(root, "buffers", json_type_array, CW__JSON_OPTIONAL, &array, outer_why))
		return CW_ERR_PROTOCOL;
	count = array ? json_object_array_length(array) : 0;
	if (count == 0)
		return CW_OK;
	if (count > CW__DESCRIPTOR_BUFFERS_MAX)
		return cw__json_refuse(&why, "member \"buffers\" has more than %u entries", CW__DESCRIPTOR_BUFFERS_MAX);
	descriptor->buffers = calloc(count, sizeof(*descriptor->buffers));
	if (!descriptor->buffers)
		return CW_ERR_NO_MEMORY;
	for (size_t i = 0; i < count; i++) {
		struct json_object *object = json_object_array_get_idx(array, i);
		struct json_object *protocol = NULL;
		const char *carried_by = descriptor->protocol;

		if (!json_object_is_type(object, json_type_object))
			return cw__json_refuse(&why, "member \"buffers\" does not list objects only");
		if (mixed) {
			if (cw__json_get(object, "protocol", json_type_string, CW__JSON_REQUIRED, &protocol, &why))
				return CW_ERR_PROTOCOL;
			carried_by = json_object_get_string(protocol);
		}
		if (strcmp(carried_by, "tcp") != 0)
			continue;
		if (decode_tcp_buffer(object, &descriptor->buffers[descriptor->buffer_count], &why))
			return CW_ERR_PROTOCOL;
		descriptor->buffer_count++;
	}
	return CW_OK;
}

static int hex_value(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* An instance is 16 bytes in lower-case hexadecimal; zero means "any" elsewhere and so is nobody's. */
static int decode_instance(struct json_object *object, struct cw__descriptor *descriptor, const struct cw__why *why)
{
	char hex[2 * INSTANCE_BYTES + 1];
	int any = 0;

	if (cw__json_get_text(object, "instance", CW__JSON_REQUIRED, hex, sizeof(hex), why))
		return CW_ERR_PROTOCOL;
	for (size_t i = 0; i < INSTANCE_BYTES; i++) {
		int high = hex_value(hex[2 * i]), low = high < 0 ? -1 : hex_value(hex[2 * i + 1]);

		if (low < 0)
			return cw__json_refuse(why, "member \"%sinstance\" is not %zu hexadecimal digits", why->where,
					       2 * INSTANCE_BYTES);
		descriptor->instance[i] = (unsigned char)(high << 4 | low);
		any |= descriptor->instance[i];
	}
	return any ? CW_OK : cw__json_refuse(why, "member \"%sinstance\" is zero", why->where);
}

/* Addresses beyond those that we have room for are the least preferred ones and are passed over. */
static int decode_addresses(struct json_object *object, struct cw__descriptor *descriptor, const struct cw__why *why)
{
	struct json_object *array = NULL;

	if (cw__json_get(object, "addresses", json_type_array, CW__JSON_REQUIRED, &array, why))
		return CW_ERR_PROTOCOL;
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		struct json_object *entry = json_object_array_get_idx(array, i);
		const char *address = json_object_get_string(entry);

		if (!json_object_is_type(entry, json_type_string) || !is_dialable(address) ||
		    strlen(address) >= sizeof(descriptor->addresses[0]))
			return cw__json_refuse(why, "member \"%saddresses\" does not list addresses with ports",
					       why->where);
		if (descriptor->address_count < ADDRESSES_MAX)
			strcpy(descriptor->addresses[descriptor->address_count++], address);
	}
	return CW_OK;
}

static int decode_announcement(struct json_object *root, struct cw__descriptor *descriptor,
			       const struct cw__why *outer_why)
{
	const struct cw__why why = { outer_why->text, outer_why->size, "x_causeway." };
	struct json_object *object = NULL;
	uint64_t version = 0;

	if (cw__json_get(root, announcement_name, json_type_object, CW__JSON_OPTIONAL, &object, outer_why))
		return CW_ERR_PROTOCOL;
	if (!object)
		return CW_OK;
	if (cw__json_get_number(object, "version", UINT16_MAX, CW__JSON_REQUIRED, &version, &why))
		return CW_ERR_PROTOCOL;
	if (version == 0)
		return cw__json_refuse(&why, "member \"x_causeway.version\" is 0");
	descriptor->native = 1;
	descriptor->native_version = (unsigned)version;
	if (decode_instance(object, descriptor, &why))
		return CW_ERR_PROTOCOL;
	return decode_addresses(object, descriptor, &why);
}

/* Newer engines say where their data port is. Names are not taken: who connects must not wait for a name server. */
static int decode_data_host(struct json_object *root, struct cw__descriptor *descriptor, const struct cw__why *why)
{
	unsigned char number[sizeof(struct in6_addr)];
	char host[256] = "";

	if (cw__json_get_text(root, "tcp_data_host", CW__JSON_OPTIONAL, host, sizeof(host), why))
		return CW_ERR_PROTOCOL;
	if (strlen(host) >= sizeof(descriptor->tcp_data_host) ||
	    (inet_pton(AF_INET, host, number) != 1 && inet_pton(AF_INET6, host, number) != 1) ||
	    !strcmp(host, "0.0.0.0") || !strcmp(host, "::"))
		return CW_OK;
	strcpy(descriptor->tcp_data_host, host);
	return CW_OK;
}

static int decode_descriptor(struct json_object *root, struct cw__descriptor *descriptor, const struct cw__why *why)
{
	uint64_t port = 0, version = 1;
	int mixed, status;

	if (cw__json_get_text(root, "name", CW__JSON_REQUIRED, descriptor->name, sizeof(descriptor->name), why))
		return CW_ERR_PROTOCOL;
	if (descriptor->name[0] == '\0')
		return cw__json_refuse(why, "member \"name\" is empty");
	if (decode_protocol(root, descriptor, &mixed, why) || decode_data_host(root, descriptor, why) ||
	    cw__json_get_number(root, "tcp_data_port", UINT16_MAX, CW__JSON_OPTIONAL, &port, why) ||
	    cw__json_get_number(root, "tcp_proto_version", INT32_MAX, CW__JSON_OPTIONAL, &version, why))
		return CW_ERR_PROTOCOL;
	descriptor->tcp_data_port = (uint16_t)port;
	descriptor->tcp_proto_version = (unsigned)version;
	status = decode_buffers(root, mixed, descriptor, why);
	return status ? status : decode_announcement(root, descriptor, why);
}

int cw__descriptor_decode(const char *json, size_t length, struct cw__descriptor *descriptor_out, char *why_text,
			  size_t why_size)
{
	const struct cw__why why = { why_text, why_size, "" };
	struct cw__descriptor descriptor = { 0 };
	struct json_object *root;
	int status;

	status = cw__json_parse(json, length, 0, &root, &why);
	if (status)
		return status;
	status = decode_descriptor(root, &descriptor, &why);
	json_object_put(root);
	if (status)
		cw__descriptor_free(&descriptor);
	else
		*descriptor_out = descriptor;
	return status;
}

void cw__descriptor_free(struct cw__descriptor *descriptor)
{
	free(descriptor->buffers);
	descriptor->buffers = NULL;
	descriptor->buffer_count = 0;
}

/* -------------------------------------------------------------------------------- the other documents */

/* A member that must be there and a string, as a C string of its own. */
static int copy_text(struct json_object *root, const char *name, char **text_out, const struct cw__why *why)
{
	struct json_object *member = NULL;

	if (cw__json_get(root, name, json_type_string, CW__JSON_REQUIRED, &member, why))
		return CW_ERR_PROTOCOL;
	*text_out = strdup(json_object_get_string(member));
	return *text_out ? CW_OK : CW_ERR_NO_MEMORY;
}

int cw__classic_notify_decode(const char *json, size_t length, struct cw__classic_notify *notify_out, char *why_text,
			      size_t why_size)
{
	const struct cw__why why = { why_text, why_size, "" };
	struct cw__classic_notify notify = { NULL, NULL };
	struct json_object *root;
	int status;

	status = cw__json_parse(json, length, 0, &root, &why);
	if (status)
		return status;
	status = copy_text(root, "name", &notify.name, &why);
	if (!status)
		status = copy_text(root, "notify_msg", &notify.message, &why);
	json_object_put(root);
	if (status)
		cw__classic_notify_free(&notify);
	else
		*notify_out = notify;
	return status;
}

void cw__classic_notify_free(struct cw__classic_notify *notify)
{
	free(notify->name);
	free(notify->message);
	notify->name = NULL;
	notify->message = NULL;
}

int cw__classic_is_native_request(const char *json, size_t length)
{
	const struct cw__why why = { NULL, 0, "" };
	struct json_object *root = NULL, *announcement = NULL;
	int native;

	if (cw__json_parse(json, length, 1, &root, &why))
		return 0;
	native = root &&
		 !cw__json_get(root, announcement_name, json_type_object, CW__JSON_REQUIRED, &announcement, &why);
	json_object_put(root);
	return native;
}

int cw__classic_object_check(const char *json, size_t length, int null_allowed, char *why_text, size_t why_size)
{
	const struct cw__why why = { why_text, why_size, "" };
	struct json_object *root;
	int status = cw__json_parse(json, length, null_allowed, &root, &why);

	if (!status)
		json_object_put(root);
	return status;
}

/* Nothing in it is used: an engine without RDMA only has to answer, but not to what is no connection request. */
static int check_connection(struct json_object *root, const struct cw__why *why)
{
	static const char *const texts[] = { "payload", "local_nic_path", "peer_nic_path", "local_gid", "reply_msg" };
	struct json_object *member = NULL, *numbers = NULL;
	uint64_t lid;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (cw__json_get(root, texts[i], json_type_string, CW__JSON_OPTIONAL, &member, why))
			return CW_ERR_PROTOCOL;
	}
	if (cw__json_get_number(root, "local_lid", UINT16_MAX, CW__JSON_OPTIONAL, &lid, why) ||
	    cw__json_get(root, "ready_ack", json_type_boolean, CW__JSON_OPTIONAL, &member, why) ||
	    cw__json_get(root, "qp_num", json_type_array, CW__JSON_OPTIONAL, &numbers, why))
		return CW_ERR_PROTOCOL;
	for (size_t i = 0; numbers && i < json_object_array_length(numbers); i++) {
		struct json_object *number = json_object_array_get_idx(numbers, i);

		if (!json_object_is_type(number, json_type_int) || json_object_get_int64(number) < 0 ||
		    json_object_get_int64(number) > UINT32_MAX)
			return cw__json_refuse(why, "member \"qp_num\" does not list numbers of 32 bits");
	}
	return CW_OK;
}

int cw__classic_connection_check(const char *json, size_t length, char *why_text, size_t why_size)
{
	const struct cw__why why = { why_text, why_size, "" };
	struct json_object *root;
	int status = cw__json_parse(json, length, 0, &root, &why);

	if (status)
		return status;
	status = check_connection(root, &why);
	json_object_put(root);
	return status;
}
