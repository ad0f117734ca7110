/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hello, welcome and control frames of the native protocol. Each message has one encoder and one decoder, side by side
 * and in the order of docs/protocol.md. Decoders fill a local struct and copy it out only when all of it was right.
 */
#include "wire/native.h"

#include <assert.h>

#include "util/cursor.h"

/* Bytes of each message without its texts and blobs; the tables of docs/protocol.md give the same numbers. */
#define HELLO_FIXED_BYTES 140
#define WELCOME_FIXED_BYTES 90
#define REGION_GONE_BYTES 8

static_assert(sizeof(CW__MAGIC_CONTROL) - 1 == CW__MAGIC_BYTES, "control magic");
static_assert(sizeof(CW__MAGIC_DATA) - 1 == CW__MAGIC_BYTES, "data magic");
static_assert(HELLO_FIXED_BYTES + 2 * CW__NAME_MAX <= CW__HELLO_MAX, "a hello with the longest texts fits");
static_assert(WELCOME_FIXED_BYTES + CW__NAME_MAX <= CW__WELCOME_MAX, "a welcome with the longest name fits");

/* -------------------------------------------------------------------------------------- shared pieces */

static void get_fixed(struct cw__reader *reader, unsigned char *out, size_t length)
{
	const unsigned char *at = cw__get_bytes(reader, length);

	if (at)
		memcpy(out, at, length);
}

static int32_t get_i32(struct cw__reader *reader)
{
	return (int32_t)cw__get_u32(reader);
}

static void put_i32(struct cw__writer *writer, int32_t value)
{
	cw__put_u32(writer, (uint32_t)value);
}

/* Any text ends up in a C string some day, so a NUL inside it is refused at the door. */
static struct cw__text get_text(struct cw__reader *reader)
{
	struct cw__text text;

	text.length = cw__get_u16(reader);
	if (text.length > CW__NAME_MAX)
		reader->bad = 1;
	text.data = (const char *)cw__get_bytes(reader, text.length);
	if (text.data && memchr(text.data, 0, text.length))
		reader->bad = 1;
	return text;
}

/* Names of engines, transports and locations appear in logs: they have no control characters either. */
static struct cw__text get_name(struct cw__reader *reader)
{
	struct cw__text name = get_text(reader);

	for (size_t i = 0; name.data && i < name.length; i++) {
		unsigned char c = (unsigned char)name.data[i];

		if (c < 0x20 || c == 0x7f)
			reader->bad = 1;
	}
	return name;
}

static void put_text(struct cw__writer *writer, const struct cw__text *text)
{
	if (text->length > CW__NAME_MAX)
		writer->bad = 1;
	cw__put_u16(writer, text->length);
	cw__put_bytes(writer, text->data, text->length);
}

static void get_offers(struct cw__reader *reader, uint32_t count, struct cw__transport_offer *offers)
{
	if (count > CW__TRANSPORTS_MAX) {
		reader->bad = 1;
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		offers[i].name = get_name(reader);
		offers[i].length = cw__get_u16(reader);
		offers[i].blob = cw__get_bytes(reader, offers[i].length);
		if (offers[i].name.length == 0 || offers[i].length > CW__BLOB_MAX)
			reader->bad = 1;
	}
}

static void put_offers(struct cw__writer *writer, uint32_t count, const struct cw__transport_offer *offers)
{
	if (count > CW__TRANSPORTS_MAX) {
		writer->bad = 1;
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		put_text(writer, &offers[i].name);
		cw__put_u16(writer, offers[i].length);
		cw__put_bytes(writer, offers[i].blob, offers[i].length);
		if (offers[i].length > CW__BLOB_MAX)
			writer->bad = 1;
	}
}

/* For decoders of messages that must fill their frame to the last byte. */
static int all_read(const struct cw__reader *reader)
{
	return !reader->bad && reader->at == reader->end;
}

static size_t all_written(const struct cw__writer *writer)
{
	return writer->bad ? 0 : cw__writer_used(writer);
}

/* Begins a hello or welcome in a buffer of which at most max bytes count; the length is filled in by prefix_end(). */
static struct cw__writer prefix_begin(int data_connection, void *out, size_t capacity, size_t max)
{
	struct cw__writer writer = cw__writer_init(out, capacity < max ? capacity : max);

	cw__put_bytes(&writer, data_connection ? CW__MAGIC_DATA : CW__MAGIC_CONTROL, CW__MAGIC_BYTES);
	cw__put_u32(&writer, 0);
	return writer;
}

static size_t prefix_end(struct cw__writer *writer)
{
	struct cw__writer length = cw__writer_init(writer->start + CW__MAGIC_BYTES, 4);

	if (writer->bad)
		return 0;
	cw__put_u32(&length, (uint32_t)(cw__writer_used(writer) - CW__PREFIX_BYTES));
	return cw__writer_used(writer);
}

/* Reads magic and length of a message that is complete in memory; 0 when they are right for it. */
static int prefix_read(struct cw__reader *reader, size_t max, int *data_connection_out)
{
	size_t whole = cw__reader_left(reader), rest;
	const unsigned char *prefix = cw__get_bytes(reader, CW__PREFIX_BYTES);

	if (!prefix || cw__prefix_decode(prefix, max, &rest) || rest != whole - CW__PREFIX_BYTES)
		return CW_ERR_PROTOCOL;
	*data_connection_out = memcmp(prefix, CW__MAGIC_DATA, CW__MAGIC_BYTES) == 0;
	return CW_OK;
}

int cw__prefix_decode(const void *data, size_t max, size_t *rest_out)
{
	struct cw__reader reader = cw__reader_init(data, CW__PREFIX_BYTES);
	const unsigned char *magic = cw__get_bytes(&reader, CW__MAGIC_BYTES);
	uint32_t rest = cw__get_u32(&reader);

	if (memcmp(magic, CW__MAGIC_CONTROL, CW__MAGIC_BYTES) != 0 &&
	    memcmp(magic, CW__MAGIC_DATA, CW__MAGIC_BYTES) != 0)
		return CW_ERR_PROTOCOL;
	if (max < CW__PREFIX_BYTES || rest > max - CW__PREFIX_BYTES)
		return CW_ERR_PROTOCOL;
	*rest_out = rest;
	return CW_OK;
}

/* A later version may add to the end of a hello or welcome; version 1 ends where we think it ends. */
static int greeting_ends(const struct cw__reader *reader, uint16_t version)
{
	return version > CW__NATIVE_VERSION ? !reader->bad : version != 0 && all_read(reader);
}

/* ---------------------------------------------------------------------------------- hello and welcome */

size_t cw__hello_encode(const struct cw__hello *hello, void *out, size_t capacity)
{
	struct cw__writer writer = prefix_begin(hello->data_connection, out, capacity, CW__HELLO_MAX);

	cw__put_u16(&writer, hello->version);
	cw__put_u16(&writer, 0);
	cw__put_u64(&writer, hello->features);
	cw__put_bytes(&writer, hello->instance, sizeof(hello->instance));
	cw__put_bytes(&writer, hello->expected, sizeof(hello->expected));
	cw__put_bytes(&writer, hello->machine, sizeof(hello->machine));
	cw__put_u64(&writer, hello->clock_ns);
	cw__put_u32(&writer, hello->pid);
	cw__put_u32(&writer, hello->auth_method);
	cw__put_u64(&writer, hello->connection);
	cw__put_u64(&writer, hello->replaces);
	cw__put_bytes(&writer, hello->channel_binding, sizeof(hello->channel_binding));
	put_text(&writer, &hello->name);
	put_text(&writer, &hello->transport);
	return prefix_end(&writer);
}

/* Connection numbers and the transport belong to data connections, and only to them. */
static int hello_coherent(const struct cw__hello *hello)
{
	if (hello->data_connection)
		return hello->connection != 0 && hello->replaces != hello->connection && hello->transport.length != 0;
	return hello->connection == 0 && hello->replaces == 0 && hello->transport.length == 0;
}

int cw__hello_decode(const void *data, size_t length, struct cw__hello *hello_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__hello hello = { 0 };
	uint16_t reserved;

	if (prefix_read(&reader, CW__HELLO_MAX, &hello.data_connection))
		return CW_ERR_PROTOCOL;
	hello.version = cw__get_u16(&reader);
	reserved = cw__get_u16(&reader);
	hello.features = cw__get_u64(&reader);
	get_fixed(&reader, hello.instance, sizeof(hello.instance));
	get_fixed(&reader, hello.expected, sizeof(hello.expected));
	get_fixed(&reader, hello.machine, sizeof(hello.machine));
	hello.clock_ns = cw__get_u64(&reader);
	hello.pid = cw__get_u32(&reader);
	hello.auth_method = cw__get_u32(&reader);
	hello.connection = cw__get_u64(&reader);
	hello.replaces = cw__get_u64(&reader);
	get_fixed(&reader, hello.channel_binding, sizeof(hello.channel_binding));
	hello.name = get_name(&reader);
	hello.transport = get_name(&reader);
	if (!greeting_ends(&reader, hello.version) || reserved != 0 || !hello_coherent(&hello))
		return CW_ERR_PROTOCOL;
	*hello_out = hello;
	return CW_OK;
}

size_t cw__welcome_encode(const struct cw__welcome *welcome, void *out, size_t capacity)
{
	struct cw__writer writer = prefix_begin(welcome->data_connection, out, capacity, CW__WELCOME_MAX);

	put_i32(&writer, welcome->status);
	cw__put_u16(&writer, welcome->version);
	cw__put_u16(&writer, 0);
	cw__put_u32(&writer, welcome->pid);
	cw__put_u64(&writer, welcome->features);
	cw__put_bytes(&writer, welcome->instance, sizeof(welcome->instance));
	cw__put_bytes(&writer, welcome->machine, sizeof(welcome->machine));
	cw__put_u64(&writer, welcome->clock_ns);
	cw__put_u32(&writer, welcome->credits);
	cw__put_u32(&writer, welcome->transport_count);
	cw__put_u64(&writer, welcome->credit_bytes);
	put_text(&writer, &welcome->name);
	put_offers(&writer, welcome->transport_count, welcome->transports);
	return prefix_end(&writer);
}

/* An accepted data connection without credit could never carry a frame. Only control connections list transports. */
static int welcome_coherent(const struct cw__welcome *welcome)
{
	if (welcome->status > 0 || (welcome->data_connection && welcome->transport_count != 0))
		return 0;
	return !welcome->data_connection || welcome->status != CW_OK ||
	       (welcome->credits != 0 && welcome->credit_bytes != 0);
}

int cw__welcome_decode(const void *data, size_t length, struct cw__welcome *welcome_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__welcome welcome = { 0 };
	uint16_t reserved;

	if (prefix_read(&reader, CW__WELCOME_MAX, &welcome.data_connection))
		return CW_ERR_PROTOCOL;
	welcome.status = get_i32(&reader);
	welcome.version = cw__get_u16(&reader);
	reserved = cw__get_u16(&reader);
	welcome.pid = cw__get_u32(&reader);
	welcome.features = cw__get_u64(&reader);
	get_fixed(&reader, welcome.instance, sizeof(welcome.instance));
	get_fixed(&reader, welcome.machine, sizeof(welcome.machine));
	welcome.clock_ns = cw__get_u64(&reader);
	welcome.credits = cw__get_u32(&reader);
	welcome.transport_count = cw__get_u32(&reader);
	welcome.credit_bytes = cw__get_u64(&reader);
	welcome.name = get_name(&reader);
	get_offers(&reader, welcome.transport_count, welcome.transports);
	if (!greeting_ends(&reader, welcome.version) || reserved != 0 || !welcome_coherent(&welcome))
		return CW_ERR_PROTOCOL;
	*welcome_out = welcome;
	return CW_OK;
}

/* -------------------------------------------------------------------------------------- control frames */

void cw__control_header_encode(const struct cw__control_header *header, unsigned char out[CW__CONTROL_HEADER_BYTES])
{
	struct cw__writer writer = cw__writer_init(out, CW__CONTROL_HEADER_BYTES);

	cw__put_u16(&writer, header->type);
	cw__put_u16(&writer, header->flags);
	cw__put_u32(&writer, header->length);
	cw__put_u64(&writer, header->sequence);
	put_i32(&writer, header->status);
	cw__put_u32(&writer, header->reserved);
	assert(cw__writer_used(&writer) == CW__CONTROL_HEADER_BYTES);
}

/* What each kind of frame may say: a push asks for nothing and has a fixed body, only replies have a status. */
static int control_coherent(const struct cw__control_header *header)
{
	unsigned type = header->type & ~CW__CONTROL_REPLY;
	int push = type == CW__CONTROL_REGION_GONE || type == CW__CONTROL_BYE;

	if (type < CW__CONTROL_PROBE || type > CW__CONTROL_BYE)
		return 0;
	if (header->type & CW__CONTROL_REPLY)
		return !push && header->status <= 0;
	if (push && (header->sequence != 0 || header->length != (type == CW__CONTROL_BYE ? 0 : REGION_GONE_BYTES)))
		return 0;
	return header->status == 0;
}

int cw__control_header_decode(const unsigned char data[CW__CONTROL_HEADER_BYTES], struct cw__control_header *header_out)
{
	struct cw__reader reader = cw__reader_init(data, CW__CONTROL_HEADER_BYTES);
	struct cw__control_header header;

	header.type = cw__get_u16(&reader);
	header.flags = cw__get_u16(&reader);
	header.length = cw__get_u32(&reader);
	header.sequence = cw__get_u64(&reader);
	header.status = get_i32(&reader);
	header.reserved = cw__get_u32(&reader);
	if (header.flags != 0 || header.reserved != 0 || header.length > CW__CONTROL_BODY_MAX ||
	    !control_coherent(&header))
		return CW_ERR_PROTOCOL;
	*header_out = header;
	return CW_OK;
}

size_t cw__resolve_encode(const struct cw__resolve *resolve, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u32(&writer, resolve->space);
	cw__put_u32(&writer, 0);
	cw__put_u64(&writer, resolve->address);
	cw__put_u64(&writer, resolve->length);
	return all_written(&writer);
}

/* Which range it names is the caller's affair, even one that wraps: the target answers that no region holds it. */
int cw__resolve_decode(const void *data, size_t length, struct cw__resolve *resolve_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__resolve resolve;
	uint32_t reserved;

	resolve.space = cw__get_u32(&reader);
	reserved = cw__get_u32(&reader);
	resolve.address = cw__get_u64(&reader);
	resolve.length = cw__get_u64(&reader);
	if (!all_read(&reader) || reserved != 0)
		return CW_ERR_PROTOCOL;
	*resolve_out = resolve;
	return CW_OK;
}

size_t cw__region_record_encode(const struct cw__region_record *record, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u64(&writer, record->id);
	cw__put_u64(&writer, record->key);
	cw__put_u64(&writer, record->address);
	cw__put_u64(&writer, record->length);
	cw__put_u32(&writer, record->access);
	cw__put_u32(&writer, record->space);
	cw__put_u32(&writer, record->kind);
	put_i32(&writer, record->device);
	put_i32(&writer, record->numa_node);
	cw__put_u32(&writer, record->transport_count);
	put_text(&writer, &record->location);
	put_offers(&writer, record->transport_count, record->transports);
	return all_written(&writer);
}

static int region_record_coherent(const struct cw__region_record *record)
{
	if (record->length == 0 || record->length - 1 > UINT64_MAX - record->address)
		return 0;
	return record->access <= CW_ACCESS_REMOTE && record->kind <= CW_MEMORY_POOL && record->device >= -1 &&
	       record->numa_node >= -1;
}

int cw__region_record_decode(const void *data, size_t length, struct cw__region_record *record_out, size_t *used_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__region_record record = { 0 };

	record.id = cw__get_u64(&reader);
	record.key = cw__get_u64(&reader);
	record.address = cw__get_u64(&reader);
	record.length = cw__get_u64(&reader);
	record.access = cw__get_u32(&reader);
	record.space = cw__get_u32(&reader);
	record.kind = cw__get_u32(&reader);
	record.device = get_i32(&reader);
	record.numa_node = get_i32(&reader);
	record.transport_count = cw__get_u32(&reader);
	record.location = get_name(&reader);
	get_offers(&reader, record.transport_count, record.transports);
	if (reader.bad || (!used_out && !all_read(&reader)) || !region_record_coherent(&record))
		return CW_ERR_PROTOCOL;
	*record_out = record;
	if (used_out)
		*used_out = length - cw__reader_left(&reader);
	return CW_OK;
}

size_t cw__notify_encode(const struct cw__notify *notify, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u64(&writer, notify->sequence);
	put_text(&writer, &notify->sender);
	put_text(&writer, &notify->name);
	cw__put_u32(&writer, notify->length);
	cw__put_bytes(&writer, notify->data, notify->length);
	return notify->length > CW_NOTIFY_MAX ? 0 : all_written(&writer);
}

int cw__notify_decode(const void *data, size_t length, struct cw__notify *notify_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__notify notify;

	notify.sequence = cw__get_u64(&reader);
	notify.sender = get_name(&reader);
	notify.name = get_text(&reader);
	notify.length = cw__get_u32(&reader);
	notify.data = cw__get_bytes(&reader, notify.length);
	if (!all_read(&reader) || notify.length > CW_NOTIFY_MAX)
		return CW_ERR_PROTOCOL;
	*notify_out = notify;
	return CW_OK;
}

size_t cw__message_encode(const struct cw__message *message, void *out, size_t capacity)
{
	struct cw__writer writer =
		cw__writer_init(out, capacity < CW__CONTROL_BODY_MAX ? capacity : CW__CONTROL_BODY_MAX);

	put_text(&writer, &message->transport);
	cw__put_u32(&writer, message->length);
	cw__put_bytes(&writer, message->data, message->length);
	return all_written(&writer);
}

int cw__message_decode(const void *data, size_t length, struct cw__message *message_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__message message;

	message.transport = get_name(&reader);
	message.length = cw__get_u32(&reader);
	message.data = cw__get_bytes(&reader, message.length);
	if (!all_read(&reader) || message.transport.length == 0 || length > CW__CONTROL_BODY_MAX)
		return CW_ERR_PROTOCOL;
	*message_out = message;
	return CW_OK;
}

size_t cw__cancel_encode(const struct cw__cancel *cancel, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	if (cancel->count > CW__CANCEL_MAX)
		return 0;
	cw__put_u64(&writer, cancel->connection);
	cw__put_u32(&writer, cancel->count);
	cw__put_u32(&writer, 0);
	for (uint32_t i = 0; i < cancel->count; i++)
		cw__put_u64(&writer, cancel->frames[i]);
	return all_written(&writer);
}

int cw__cancel_decode(const void *data, size_t length, struct cw__cancel *cancel_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__cancel cancel = { 0 };
	uint32_t reserved;

	cancel.connection = cw__get_u64(&reader);
	cancel.count = cw__get_u32(&reader);
	reserved = cw__get_u32(&reader);
	if (reader.bad || reserved != 0 || cancel.connection == 0 || cancel.count > CW__CANCEL_MAX)
		return CW_ERR_PROTOCOL;
	for (uint32_t i = 0; i < cancel.count; i++)
		cancel.frames[i] = cw__get_u64(&reader);
	if (!all_read(&reader))
		return CW_ERR_PROTOCOL;
	*cancel_out = cancel;
	return CW_OK;
}
