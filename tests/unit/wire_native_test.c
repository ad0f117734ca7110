/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native protocol's codecs: what is encoded comes back, every truncation is refused, and every rule of
 * docs/protocol.md has a row that breaks it by one byte.
 */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/crc32c.h"
#include "wire/native.h"

static_assert(CW__CONTROL_HEADER_BYTES == 2 + 2 + 4 + 8 + 4 + 4, "control header without padding");
static_assert(CW__DATA_HEADER_BYTES % 16 == 0 && CW__DATA_PIECE_BYTES == 16, "pieces follow the header aligned");
static_assert(CW__DATA_PIECES_MAX * CW__DATA_PIECE_BYTES + CW__DATA_HEADER_BYTES < 65536, "a frame's head is small");

#define TEXT(literal)                                                                                                  \
	{                                                                                                              \
		literal, sizeof(literal) - 1                                                                           \
	}

/* A decoder as the tables see it: does it take these bytes? */
typedef int decoder(const void *data, size_t length);

static int take_hello(const void *data, size_t length)
{
	struct cw__hello hello;

	return cw__hello_decode(data, length, &hello);
}

static int take_welcome(const void *data, size_t length)
{
	struct cw__welcome welcome;

	return cw__welcome_decode(data, length, &welcome);
}

static int take_control_header(const void *data, size_t length)
{
	struct cw__control_header header;

	assert_int_equal(length, CW__CONTROL_HEADER_BYTES);
	return cw__control_header_decode(data, &header);
}

static int take_data_header(const void *data, size_t length)
{
	struct cw__data_header header;

	assert_int_equal(length, CW__DATA_HEADER_BYTES);
	return cw__data_header_decode(data, &header);
}

static int take_resolve(const void *data, size_t length)
{
	struct cw__resolve resolve;

	return cw__resolve_decode(data, length, &resolve);
}

static int take_region_record(const void *data, size_t length)
{
	struct cw__region_record record;

	return cw__region_record_decode(data, length, &record, NULL);
}

static int take_notify(const void *data, size_t length)
{
	struct cw__notify notify;

	return cw__notify_decode(data, length, &notify);
}

static int take_message(const void *data, size_t length)
{
	struct cw__message message;

	return cw__message_decode(data, length, &message);
}

static int take_cancel(const void *data, size_t length)
{
	struct cw__cancel cancel;

	return cw__cancel_decode(data, length, &cancel);
}

/* Decodes from a block of exactly this size, so that a sanitizer sees each byte read beyond it. */
static int decode_exactly(decoder *decode, const unsigned char *data, size_t length)
{
	unsigned char *copy = malloc(length ? length : 1);
	int status;

	assert_non_null(copy);
	memcpy(copy, data, length);
	status = decode(copy, length);
	free(copy);
	return status;
}

/* The whole is taken; each shorter and the next longer one are refused. */
static void check_lengths(decoder *decode, const unsigned char *data, size_t length)
{
	unsigned char *longer = calloc(1, length + 1);

	assert_non_null(longer);
	memcpy(longer, data, length);
	assert_int_equal(decode_exactly(decode, data, length), CW_OK);
	for (size_t shorter = 0; shorter < length; shorter++)
		assert_int_equal(decode_exactly(decode, data, shorter), CW_ERR_PROTOCOL);
	assert_int_equal(decode_exactly(decode, longer, length + 1), CW_ERR_PROTOCOL);
	free(longer);
}

/* A greeting's own length field is changed along, so that only the decoder's fields can notice. */
static void check_greeting_lengths(decoder *decode, const unsigned char *data, size_t length)
{
	unsigned char *copy = calloc(1, length + 1);

	assert_non_null(copy);
	memcpy(copy, data, length);
	for (size_t other = CW__PREFIX_BYTES; other <= length + 1; other++) {
		copy[8] = (unsigned char)(other - CW__PREFIX_BYTES);
		copy[9] = (unsigned char)((other - CW__PREFIX_BYTES) >> 8);
		assert_int_equal(decode_exactly(decode, copy, other), other == length ? CW_OK : CW_ERR_PROTOCOL);
	}
	free(copy);
}

/* One change to a valid message, and what the decoder says to it. */
struct change {
	const char *name;
	size_t offset;
	unsigned char value;
	int expected;
};

static void check_changes(decoder *decode, const unsigned char *data, size_t length, const struct change *changes,
			  size_t count)
{
	for (size_t i = 0; i < count; i++) {
		unsigned char *copy = malloc(length);
		int status;

		assert_non_null(copy);
		memcpy(copy, data, length);
		assert_true(changes[i].offset < length);
		copy[changes[i].offset] = changes[i].value;
		status = decode(copy, length);
		if (status != changes[i].expected)
			fail_msg("%s: %d instead of %d", changes[i].name, status, changes[i].expected);
		free(copy);
	}
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---------------------------------------------------------------------------------- hello and welcome */

static struct cw__hello sample_hello(int data_connection)
{
	struct cw__hello hello = {
		.data_connection = data_connection,
		.version = CW__NATIVE_VERSION,
		.features = 0x1122334455667788u,
		.instance = "instance 1234567",
		.expected = "expected 1234567",
		.machine = "machine 12345678",
		.clock_ns = UINT64_MAX,
		.pid = 4711,
		.name = TEXT("127.0.0.1:15000"),
	};

	if (data_connection) {
		hello.connection = 7;
		hello.replaces = 6;
		hello.transport = (struct cw__text)TEXT("tcp");
	}
	return hello;
}

static void assert_text(struct cw__text text, const char *expected)
{
	assert_int_equal(text.length, strlen(expected));
	assert_memory_equal(text.data, expected, text.length);
}

static void hello_round_trip(void **state)
{
	(void)state;
	for (int data = 0; data < 2; data++) {
		struct cw__hello hello = sample_hello(data), back;
		unsigned char bytes[CW__HELLO_MAX];
		size_t length = cw__hello_encode(&hello, bytes, sizeof(bytes)), rest;

		assert_int_equal(length, 140 + 15 + (data ? 3 : 0));
		assert_int_equal(cw__prefix_decode(bytes, CW__HELLO_MAX, &rest), CW_OK);
		assert_int_equal(rest, length - CW__PREFIX_BYTES);
		assert_int_equal(cw__hello_decode(bytes, length, &back), CW_OK);
		assert_int_equal(back.data_connection, data);
		assert_int_equal(back.version, hello.version);
		assert_int_equal(back.features, hello.features);
		assert_memory_equal(back.instance, hello.instance, sizeof(hello.instance));
		assert_memory_equal(back.expected, hello.expected, sizeof(hello.expected));
		assert_memory_equal(back.machine, hello.machine, sizeof(hello.machine));
		assert_true(back.clock_ns == hello.clock_ns);
		assert_int_equal(back.pid, hello.pid);
		assert_int_equal(back.connection, hello.connection);
		assert_int_equal(back.replaces, hello.replaces);
		assert_text(back.name, "127.0.0.1:15000");
		assert_text(back.transport, data ? "tcp" : "");
		check_lengths(take_hello, bytes, length);
		check_greeting_lengths(take_hello, bytes, length);
		for (size_t capacity = 0; capacity < length; capacity++)
			assert_int_equal(cw__hello_encode(&hello, bytes, capacity), 0);
	}
}

static void hello_rules(void **state)
{
	static const struct change control[] = {
		{ "magic", 0, 'X', CW_ERR_PROTOCOL },
		{ "magic's last byte", 7, 1, CW_ERR_PROTOCOL },
		{ "huge length", 11, 0x80, CW_ERR_PROTOCOL },
		{ "version 0", 12, 0, CW_ERR_PROTOCOL },
		{ "version 2", 12, 2, CW_OK },
		{ "reserved", 14, 1, CW_ERR_PROTOCOL },
		{ "unknown feature", 23, 0x80, CW_OK },
		{ "unknown authentication", 84, 1, CW_OK },
		{ "control with a connection number", 88, 1, CW_ERR_PROTOCOL },
		{ "control that replaces", 96, 1, CW_ERR_PROTOCOL },
		{ "name too long", 137, 1, CW_ERR_PROTOCOL },
		{ "NUL in the name", 138, 0, CW_ERR_PROTOCOL },
		{ "newline in the name", 138, '\n', CW_ERR_PROTOCOL },
	};
	static const struct change data[] = {
		{ "data without a number", 88, 0, CW_ERR_PROTOCOL },
		{ "data that replaces itself", 96, 7, CW_ERR_PROTOCOL },
		{ "data that replaces none", 96, 0, CW_OK },
	};
	struct cw__hello hello = sample_hello(0);
	unsigned char bytes[CW__HELLO_MAX];
	size_t length = cw__hello_encode(&hello, bytes, sizeof(bytes));

	(void)state;
	check_changes(take_hello, bytes, length, control, COUNT(control));
	hello = sample_hello(1);
	length = cw__hello_encode(&hello, bytes, sizeof(bytes));
	check_changes(take_hello, bytes, length, data, COUNT(data));
	hello.transport.length = 0;
	length = cw__hello_encode(&hello, bytes, sizeof(bytes));
	assert_int_equal(take_hello(bytes, length), CW_ERR_PROTOCOL);
	hello.name.length = CW__NAME_MAX + 1;
	assert_int_equal(cw__hello_encode(&hello, bytes, sizeof(bytes)), 0);
}

/* A later version may say more; what this version knows is read, so that the answer can name our version. */
static void hello_of_a_later_version(void **state)
{
	struct cw__hello hello = sample_hello(0), back;
	unsigned char bytes[CW__HELLO_MAX] = { 0 };
	size_t length;

	(void)state;
	hello.version = CW__NATIVE_VERSION + 1;
	length = cw__hello_encode(&hello, bytes, sizeof(bytes));
	bytes[8] = (unsigned char)(bytes[8] + 5);
	assert_int_equal(cw__hello_decode(bytes, length + 5, &back), CW_OK);
	assert_int_equal(back.version, CW__NATIVE_VERSION + 1);
	assert_int_equal(cw__hello_decode(bytes, length + 6, &back), CW_ERR_PROTOCOL);
	assert_int_equal(cw__hello_decode(bytes, length + 4, &back), CW_ERR_PROTOCOL);
}

/* A name of 256 bytes that are all there, which no encoder of ours writes. */
static void hello_with_a_long_name(void **state)
{
	struct cw__hello hello = sample_hello(0), back;
	unsigned char bytes[CW__HELLO_MAX] = { 0 };
	size_t length;

	(void)state;
	hello.name.length = 0;
	length = cw__hello_encode(&hello, bytes, sizeof(bytes)) + 255;
	for (unsigned name = 255; name <= 256; name++, length++) {
		bytes[8] = (unsigned char)(length - CW__PREFIX_BYTES);
		bytes[9] = (unsigned char)((length - CW__PREFIX_BYTES) >> 8);
		bytes[136] = (unsigned char)name;
		bytes[137] = (unsigned char)(name >> 8);
		memset(bytes + 138, 'n', name);
		memset(bytes + 138 + name, 0, 2);
		assert_int_equal(cw__hello_decode(bytes, length, &back), name > 255 ? CW_ERR_PROTOCOL : CW_OK);
	}
}

static void prefix_limits(void **state)
{
	static const struct {
		const char *name;
		unsigned char bytes[CW__PREFIX_BYTES + 1];
		size_t max;
		int expected;
	} rows[] = {
		{ "control", CW__MAGIC_CONTROL "\x10\0\0\0", 28, CW_OK },
		{ "data", CW__MAGIC_DATA "\x10\0\0\0", 28, CW_OK },
		{ "one too long", CW__MAGIC_DATA "\x11\0\0\0", 28, CW_ERR_PROTOCOL },
		{ "wraps", CW__MAGIC_DATA "\xff\xff\xff\xff", 28, CW_ERR_PROTOCOL },
		{ "classic length", "\x10\0\0\0\0\0\0\0\0\0\0\0", 28, CW_ERR_PROTOCOL },
		{ "limit below the prefix", CW__MAGIC_DATA "\0\0\0\0", 11, CW_ERR_PROTOCOL },
	};
	size_t rest;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (cw__prefix_decode(rows[i].bytes, rows[i].max, &rest) != rows[i].expected)
			fail_msg("%s", rows[i].name);
	}
}

static struct cw__welcome sample_welcome(int data_connection)
{
	struct cw__welcome welcome = {
		.data_connection = data_connection,
		.version = CW__NATIVE_VERSION,
		.features = 3,
		.instance = "instance 1234567",
		.machine = "machine 12345678",
		.clock_ns = 123456789012345u,
		.pid = 4712,
		.credits = 64,
		.credit_bytes = 1u << 30,
		.name = TEXT("[::1]:15000"),
	};

	if (!data_connection) {
		welcome.transport_count = 2;
		welcome.transports[0] = (struct cw__transport_offer){ TEXT("shm"), (const unsigned char *)"\0\1\2", 3 };
		welcome.transports[1] = (struct cw__transport_offer){ TEXT("tcp"), NULL, 0 };
	}
	return welcome;
}

static void welcome_round_trip(void **state)
{
	(void)state;
	for (int data = 0; data < 2; data++) {
		struct cw__welcome welcome = sample_welcome(data), back;
		unsigned char bytes[512];
		size_t length = cw__welcome_encode(&welcome, bytes, sizeof(bytes));

		assert_int_equal(length, 90 + 11 + (data ? 0 : 10 + 7));
		assert_int_equal(cw__welcome_decode(bytes, length, &back), CW_OK);
		assert_int_equal(back.data_connection, data);
		assert_int_equal(back.status, 0);
		assert_int_equal(back.version, welcome.version);
		assert_int_equal(back.features, welcome.features);
		assert_memory_equal(back.instance, welcome.instance, sizeof(welcome.instance));
		assert_memory_equal(back.machine, welcome.machine, sizeof(welcome.machine));
		assert_int_equal(back.clock_ns, welcome.clock_ns);
		assert_int_equal(back.pid, welcome.pid);
		assert_int_equal(back.credits, welcome.credits);
		assert_int_equal(back.credit_bytes, welcome.credit_bytes);
		assert_text(back.name, "[::1]:15000");
		assert_int_equal(back.transport_count, welcome.transport_count);
		if (!data) {
			assert_text(back.transports[0].name, "shm");
			assert_int_equal(back.transports[0].length, 3);
			assert_memory_equal(back.transports[0].blob, "\0\1\2", 3);
			assert_text(back.transports[1].name, "tcp");
			assert_int_equal(back.transports[1].length, 0);
		}
		check_lengths(take_welcome, bytes, length);
		check_greeting_lengths(take_welcome, bytes, length);
		for (size_t capacity = 0; capacity < length; capacity++)
			assert_int_equal(cw__welcome_encode(&welcome, bytes, capacity), 0);
	}
}

static void welcome_rules(void **state)
{
	static const struct change control[] = {
		{ "positive status", 12, 1, CW_ERR_PROTOCOL },
		{ "version 0", 16, 0, CW_ERR_PROTOCOL },
		{ "reserved", 18, 1, CW_ERR_PROTOCOL },
		{ "control without credit", 72, 0, CW_OK },
		{ "one transport too few", 76, 1, CW_ERR_PROTOCOL },
		{ "one transport too many", 76, 3, CW_ERR_PROTOCOL },
		{ "more transports than allowed", 76, 33, CW_ERR_PROTOCOL },
		{ "very many transports", 79, 0xff, CW_ERR_PROTOCOL },
		{ "transport without a name", 101, 0, CW_ERR_PROTOCOL },
		{ "blob longer than the rest", 107, 0x10, CW_ERR_PROTOCOL },
	};
	static const struct change data[] = {
		{ "data without credit", 72, 0, CW_ERR_PROTOCOL },
		{ "data without credit bytes", 83, 0, CW_ERR_PROTOCOL },
		{ "data with transports", 76, 1, CW_ERR_PROTOCOL },
	};
	struct cw__welcome welcome = sample_welcome(0);
	static const unsigned char blob[CW__BLOB_MAX + 1];
	unsigned char bytes[CW__WELCOME_MAX];
	size_t length = cw__welcome_encode(&welcome, bytes, sizeof(bytes));

	(void)state;
	check_changes(take_welcome, bytes, length, control, COUNT(control));
	welcome.transports[0].blob = blob;
	welcome.transports[0].length = CW__BLOB_MAX;
	assert_int_not_equal(cw__welcome_encode(&welcome, bytes, sizeof(bytes)), 0);
	welcome.transports[0].length = CW__BLOB_MAX + 1;
	assert_int_equal(cw__welcome_encode(&welcome, bytes, sizeof(bytes)), 0);
	welcome.transport_count = CW__TRANSPORTS_MAX + 1;
	assert_int_equal(cw__welcome_encode(&welcome, bytes, sizeof(bytes)), 0);
	welcome = sample_welcome(1);
	length = cw__welcome_encode(&welcome, bytes, sizeof(bytes));
	check_changes(take_welcome, bytes, length, data, COUNT(data));
	welcome.status = CW_ERR_PEER_RESTARTED;
	welcome.credits = 0;
	length = cw__welcome_encode(&welcome, bytes, sizeof(bytes));
	assert_int_equal(take_welcome(bytes, length), CW_OK);
}

/* -------------------------------------------------------------------------------------- control frames */

static void control_headers(void **state)
{
	static const struct {
		const char *name;
		struct cw__control_header header;
		int expected;
	} rows[] = {
		{ "probe", { .type = CW__CONTROL_PROBE, .sequence = 1 }, CW_OK },
		{ "reply", { .type = CW__CONTROL_LIST | CW__CONTROL_REPLY, .length = 12, .sequence = 9 }, CW_OK },
		{ "failed reply", { .type = CW__CONTROL_NOTIFY | CW__CONTROL_REPLY, .status = CW_ERR_LIMIT }, CW_OK },
		{ "longest", { .type = CW__CONTROL_MESSAGE, .length = CW__CONTROL_BODY_MAX }, CW_OK },
		{ "too long", { .type = CW__CONTROL_MESSAGE, .length = CW__CONTROL_BODY_MAX + 1 }, CW_ERR_PROTOCOL },
		{ "region gone", { .type = CW__CONTROL_REGION_GONE, .length = 8 }, CW_OK },
		{ "region gone, short", { .type = CW__CONTROL_REGION_GONE, .length = 7 }, CW_ERR_PROTOCOL },
		{ "push with sequence", { .type = CW__CONTROL_BYE, .sequence = 1 }, CW_ERR_PROTOCOL },
		{ "push as reply", { .type = CW__CONTROL_BYE | CW__CONTROL_REPLY }, CW_ERR_PROTOCOL },
		{ "bye", { .type = CW__CONTROL_BYE }, CW_OK },
		{ "bye with a body", { .type = CW__CONTROL_BYE, .length = 1 }, CW_ERR_PROTOCOL },
		{ "type 0", { .type = 0 }, CW_ERR_PROTOCOL },
		{ "type 9", { .type = 9 }, CW_ERR_PROTOCOL },
		{ "type 0x4001", { .type = 0x4001 }, CW_ERR_PROTOCOL },
		{ "flags", { .type = CW__CONTROL_PROBE, .flags = 1 }, CW_ERR_PROTOCOL },
		{ "reserved", { .type = CW__CONTROL_PROBE, .reserved = 1 }, CW_ERR_PROTOCOL },
		{ "request with a status", { .type = CW__CONTROL_PROBE, .status = -1 }, CW_ERR_PROTOCOL },
		{ "positive status", { .type = CW__CONTROL_PROBE | CW__CONTROL_REPLY, .status = 1 }, CW_ERR_PROTOCOL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		unsigned char bytes[CW__CONTROL_HEADER_BYTES];
		struct cw__control_header back;

		cw__control_header_encode(&rows[i].header, bytes);
		if (cw__control_header_decode(bytes, &back) != rows[i].expected)
			fail_msg("%s", rows[i].name);
		if (rows[i].expected == CW_OK)
			assert_memory_equal(&back, &rows[i].header, sizeof(back));
	}
	assert_int_equal(take_control_header("\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24), CW_OK);
}

static void resolve_round_trip(void **state)
{
	struct cw__resolve resolve = { 1, UINT64_MAX, 4096 }, back;
	unsigned char bytes[64];
	size_t length = cw__resolve_encode(&resolve, bytes, sizeof(bytes));

	(void)state;
	assert_int_equal(length, 24);
	assert_int_equal(cw__resolve_decode(bytes, length, &back), CW_OK);
	assert_int_equal(back.space, 1);
	assert_true(back.address == UINT64_MAX);
	assert_int_equal(back.length, 4096);
	check_lengths(take_resolve, bytes, length);
	assert_int_equal(cw__resolve_encode(&resolve, bytes, 23), 0);
	bytes[4] = 1;
	assert_int_equal(take_resolve(bytes, length), CW_ERR_PROTOCOL);
}

static struct cw__region_record sample_record(void)
{
	struct cw__region_record record = {
		.id = 0x100000001u,
		.key = 0xfeedfacecafebeefu,
		.address = 0x7f0000000000u,
		.length = 1u << 21,
		.access = CW_ACCESS_REMOTE,
		.kind = CW_MEMORY_HOST,
		.device = -1,
		.numa_node = 1,
		.location = TEXT("cpu:1"),
		.transport_count = 1,
		.transports = { { TEXT("shm"), (const unsigned char *)"blob", 4 } },
	};

	return record;
}

static void region_record_round_trip(void **state)
{
	struct cw__region_record record = sample_record(), back;
	unsigned char bytes[256];
	size_t length = cw__region_record_encode(&record, bytes, sizeof(bytes)), used;

	(void)state;
	assert_int_equal(length, 58 + 5 + 5 + 2 + 4);
	assert_int_equal(cw__region_record_decode(bytes, sizeof(bytes), &back, &used), CW_OK);
	assert_int_equal(used, length);
	assert_int_equal(cw__region_record_decode(bytes, length, &back, NULL), CW_OK);
	assert_int_equal(back.id, record.id);
	assert_true(back.key == record.key);
	assert_int_equal(back.address, record.address);
	assert_int_equal(back.length, record.length);
	assert_int_equal(back.access, record.access);
	assert_int_equal(back.kind, record.kind);
	assert_int_equal(back.device, -1);
	assert_int_equal(back.numa_node, 1);
	assert_text(back.location, "cpu:1");
	assert_int_equal(back.transport_count, 1);
	assert_memory_equal(back.transports[0].blob, "blob", 4);
	check_lengths(take_region_record, bytes, length);
	for (size_t capacity = 0; capacity < length; capacity++)
		assert_int_equal(cw__region_record_encode(&record, bytes, capacity), 0);
}

static void region_record_rules(void **state)
{
	static const struct change changes[] = {
		{ "length 0", 26, 0, CW_ERR_PROTOCOL },
		{ "unknown right", 32, 4, CW_ERR_PROTOCOL },
		{ "unknown kind", 40, 4, CW_ERR_PROTOCOL },
		{ "device -2", 44, 0xfe, CW_ERR_PROTOCOL },
		{ "huge node", 51, 0x80, CW_ERR_PROTOCOL },
		{ "no transports, then bytes", 52, 0, CW_ERR_PROTOCOL },
		{ "too many transports", 55, 1, CW_ERR_PROTOCOL },
		{ "escape in the location", 58, 0x1b, CW_ERR_PROTOCOL },
	};
	struct cw__region_record record = sample_record();
	unsigned char bytes[256];
	size_t length = cw__region_record_encode(&record, bytes, sizeof(bytes));

	(void)state;
	check_changes(take_region_record, bytes, length, changes, COUNT(changes));
	record.address = UINT64_MAX - 4095;
	record.length = 4096;
	length = cw__region_record_encode(&record, bytes, sizeof(bytes));
	assert_int_equal(take_region_record(bytes, length), CW_OK);
	record.length = 4097;
	length = cw__region_record_encode(&record, bytes, sizeof(bytes));
	assert_int_equal(take_region_record(bytes, length), CW_ERR_PROTOCOL);
}

static void notify_round_trip(void **state)
{
	struct cw__notify notify = { 42, TEXT("host:1"), TEXT("done\n"), (const unsigned char *)"a\0b", 3 }, back;
	static unsigned char large[CW_NOTIFY_MAX + 64], data[CW_NOTIFY_MAX + 1];
	unsigned char bytes[64];
	size_t length = cw__notify_encode(&notify, bytes, sizeof(bytes));

	(void)state;
	assert_int_equal(cw__notify_decode(bytes, length, &back), CW_OK);
	assert_int_equal(back.sequence, 42);
	assert_text(back.sender, "host:1");
	assert_text(back.name, "done\n");
	assert_int_equal(back.length, 3);
	assert_memory_equal(back.data, "a\0b", 3);
	check_lengths(take_notify, bytes, length);
	bytes[19] = 0; /* in the name, which may hold a newline but no NUL */
	assert_int_equal(take_notify(bytes, length), CW_ERR_PROTOCOL);
	for (size_t capacity = 0; capacity < length; capacity++)
		assert_int_equal(cw__notify_encode(&notify, bytes, capacity), 0);
	notify.data = data;
	notify.length = CW_NOTIFY_MAX;
	length = cw__notify_encode(&notify, large, sizeof(large));
	assert_int_equal(take_notify(large, length), CW_OK);
	notify.length = CW_NOTIFY_MAX + 1;
	assert_int_equal(cw__notify_encode(&notify, large, sizeof(large)), 0);
	large[8 + 2 + 6 + 2 + 5] = 1; /* the longest one with a length field of one more, and that byte */
	assert_int_equal(take_notify(large, length + 1), CW_ERR_PROTOCOL);
}

static void message_round_trip(void **state)
{
	struct cw__message message = { TEXT("shm"), (const unsigned char *)"attach", 6 }, back;
	unsigned char bytes[64];
	size_t length = cw__message_encode(&message, bytes, sizeof(bytes));

	(void)state;
	assert_int_equal(length, 2 + 3 + 4 + 6);
	assert_int_equal(cw__message_decode(bytes, length, &back), CW_OK);
	assert_text(back.transport, "shm");
	assert_memory_equal(back.data, "attach", 6);
	check_lengths(take_message, bytes, length);
	for (size_t capacity = 0; capacity < length; capacity++)
		assert_int_equal(cw__message_encode(&message, bytes, capacity), 0);
	message.transport.length = 0;
	length = cw__message_encode(&message, bytes, sizeof(bytes));
	assert_int_equal(take_message(bytes, length), CW_ERR_PROTOCOL);
}

static void cancel_round_trip(void **state)
{
	struct cw__cancel cancel = { .connection = 3, .count = CW__CANCEL_MAX }, back;
	unsigned char bytes[16 + 8 * CW__CANCEL_MAX + 8];
	size_t length;

	(void)state;
	for (uint32_t i = 0; i < CW__CANCEL_MAX; i++)
		cancel.frames[i] = UINT64_MAX - i;
	length = cw__cancel_encode(&cancel, bytes, sizeof(bytes));
	assert_int_equal(length, 16 + 8 * CW__CANCEL_MAX);
	assert_int_equal(cw__cancel_decode(bytes, length, &back), CW_OK);
	assert_memory_equal(&back, &cancel, sizeof(cancel));
	cancel.count = 2;
	length = cw__cancel_encode(&cancel, bytes, sizeof(bytes));
	check_lengths(take_cancel, bytes, length);
	bytes[12] = 1;
	assert_int_equal(take_cancel(bytes, length), CW_ERR_PROTOCOL);
	cancel.connection = 0;
	length = cw__cancel_encode(&cancel, bytes, sizeof(bytes));
	assert_int_equal(take_cancel(bytes, length), CW_ERR_PROTOCOL);
	cancel.count = CW__CANCEL_MAX + 1;
	assert_int_equal(cw__cancel_encode(&cancel, bytes, sizeof(bytes)), 0);
	assert_int_equal(take_cancel("\1\0\0\0\0\0\0\0\0\0\0\x80\0\0\0\0", 16), CW_ERR_PROTOCOL);
}

/* ------------------------------------------------------------------------------------------ data frames */

#define WRITE_HEADER .type = CW__DATA_WRITE, .piece_count = 1, .length = 1

static void data_headers(void **state)
{
	static const struct {
		const char *name;
		struct cw__data_header header;
		int expected;
	} rows[] = {
		{ "write",
		  { .type = CW__DATA_WRITE,
		    .flags = CW__DATA_CHECKSUM,
		    .attempt = 2,
		    .piece_count = CW__DATA_PIECES_MAX,
		    .id = UINT64_MAX,
		    .length = CW__DATA_PAYLOAD_MAX,
		    .checksum = 0xe3069283u,
		    .region = 5,
		    .key = 6,
		    .not_after = 7,
		    .clock_ns = 8,
		    .space = 9 },
		  CW_OK },
		{ "read", { .type = CW__DATA_READ, .piece_count = 1, .length = 1 }, CW_OK },
		{ "done", { .type = CW__DATA_DONE, .id = 1 }, CW_OK },
		{ "failed", { .type = CW__DATA_DONE, .status = CW_ERR_STALE_REGION }, CW_OK },
		{ "data", { .type = CW__DATA_DATA, .length = CW__DATA_PAYLOAD_MAX }, CW_OK },
		{ "failed read", { .type = CW__DATA_DATA, .status = CW_ERR_ACCESS }, CW_OK },
		{ "type 0", { .type = 0 }, CW_ERR_PROTOCOL },
		{ "type 5", { .type = 5 }, CW_ERR_PROTOCOL },
		{ "flag", { WRITE_HEADER, .flags = 2 }, CW_ERR_PROTOCOL },
		{ "reserved", { WRITE_HEADER, .reserved = 1 }, CW_ERR_PROTOCOL },
		{ "no pieces", { .type = CW__DATA_WRITE, .length = 1 }, CW_ERR_PROTOCOL },
		{ "1025 pieces", { .type = CW__DATA_READ, .piece_count = 1025, .length = 1 }, CW_ERR_PROTOCOL },
		{ "no bytes", { .type = CW__DATA_WRITE, .piece_count = 1 }, CW_ERR_PROTOCOL },
		{ "too long",
		  { .type = CW__DATA_READ, .piece_count = 1, .length = CW__DATA_PAYLOAD_MAX + 1 },
		  CW_ERR_PROTOCOL },
		{ "huge", { .type = CW__DATA_WRITE, .piece_count = 1, .length = UINT64_MAX }, CW_ERR_PROTOCOL },
		{ "write with a status", { WRITE_HEADER, .status = -1 }, CW_ERR_PROTOCOL },
		{ "done with payload", { .type = CW__DATA_DONE, .length = 1 }, CW_ERR_PROTOCOL },
		{ "done with pieces", { .type = CW__DATA_DONE, .piece_count = 1 }, CW_ERR_PROTOCOL },
		{ "done, positive", { .type = CW__DATA_DONE, .status = 1 }, CW_ERR_PROTOCOL },
		{ "data of nothing", { .type = CW__DATA_DATA }, CW_ERR_PROTOCOL },
		{ "data, too long", { .type = CW__DATA_DATA, .length = CW__DATA_PAYLOAD_MAX + 1 }, CW_ERR_PROTOCOL },
		{ "failed data with payload", { .type = CW__DATA_DATA, .status = -1, .length = 1 }, CW_ERR_PROTOCOL },
		{ "data with pieces", { .type = CW__DATA_DATA, .piece_count = 1, .length = 1 }, CW_ERR_PROTOCOL },
		{ "data, positive", { .type = CW__DATA_DATA, .status = 1 }, CW_ERR_PROTOCOL },
	};
	unsigned char bytes[CW__DATA_HEADER_BYTES];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct cw__data_header back;

		memset(&back, 0, sizeof(back));
		cw__data_header_encode(&rows[i].header, bytes);
		if (cw__data_header_decode(bytes, &back) != rows[i].expected)
			fail_msg("%s", rows[i].name);
		if (rows[i].expected == CW_OK) {
			unsigned char again[CW__DATA_HEADER_BYTES];

			assert_int_equal(back.id, rows[i].header.id);
			assert_int_equal(back.space, rows[i].header.space);
			assert_int_equal(back.status, rows[i].header.status);
			cw__data_header_encode(&back, again);
			assert_memory_equal(again, bytes, sizeof(bytes));
		}
	}
	cw__data_header_encode(&rows[0].header, bytes);
	bytes[0] ^= 1;
	assert_int_equal(take_data_header(bytes, sizeof(bytes)), CW_ERR_PROTOCOL);
	bytes[0] ^= 1;
	bytes[79] = 1;
	assert_int_equal(take_data_header(bytes, sizeof(bytes)), CW_ERR_PROTOCOL);
}

static void data_pieces(void **state)
{
	static const struct {
		const char *name;
		struct cw__data_piece pieces[2];
		uint32_t count;
		uint64_t total;
		int expected;
	} rows[] = {
		{ "two", { { 100, 10 }, { 300, 20 } }, 2, 30, CW_OK },
		{ "up to the last address", { { UINT64_MAX - 9, 10 } }, 1, 10, CW_OK },
		{ "past the last address", { { UINT64_MAX - 9, 11 } }, 1, 11, CW_ERR_PROTOCOL },
		{ "empty piece", { { 100, 0 }, { 300, 20 } }, 2, 20, CW_ERR_PROTOCOL },
		{ "too little", { { 100, 10 }, { 300, 19 } }, 2, 30, CW_ERR_PROTOCOL },
		{ "too much", { { 100, 10 }, { 300, 21 } }, 2, 30, CW_ERR_PROTOCOL },
		{ "sum wraps", { { 0, UINT64_MAX }, { 0, 31 } }, 2, 30, CW_ERR_PROTOCOL },
		{ "none", { { 0, 0 } }, 0, 0, CW_ERR_PROTOCOL },
		{ "too many", { { 0, 0 } }, CW__DATA_PIECES_MAX + 1, 0, CW_ERR_PROTOCOL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		unsigned char bytes[2 * CW__DATA_PIECE_BYTES];
		struct cw__data_piece back[2];

		cw__data_piece_encode(&rows[i].pieces[0], bytes);
		cw__data_piece_encode(&rows[i].pieces[1], bytes + CW__DATA_PIECE_BYTES);
		if (cw__data_pieces_decode(bytes, rows[i].count, rows[i].total, back) != rows[i].expected)
			fail_msg("%s", rows[i].name);
		if (rows[i].expected == CW_OK)
			assert_memory_equal(back, rows[i].pieces, rows[i].count * sizeof(back[0]));
	}
}

/* The check value of CRC-32C, and both ways against the definition, byte by byte and in parts. */
static void crc32c(void **state)
{
	unsigned char data[300];

	(void)state;
	assert_int_equal(cw__crc32c(0, "123456789", 9), 0xe3069283u);
	assert_int_equal(cw__crc32c_table(0, "123456789", 9), 0xe3069283u);
	assert_int_equal(cw__crc32c(0, data, 0), 0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(i * 7 + i / 256);
	for (size_t length = 0; length <= sizeof(data); length++) {
		uint32_t expected = UINT32_MAX;

		for (size_t i = 0; i < length; i++) {
			expected ^= data[i];
			for (int bit = 0; bit < 8; bit++)
				expected = (expected >> 1) ^ (expected & 1 ? 0x82f63b78u : 0);
		}
		expected = ~expected;
		assert_int_equal(cw__crc32c_table(0, data, length), expected);
		assert_int_equal(cw__crc32c(0, data, length), expected);
		assert_int_equal(cw__crc32c(cw__crc32c(0, data, length / 3), data + length / 3, length - length / 3),
				 expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_round_trip),
		cmocka_unit_test(hello_rules),
		cmocka_unit_test(hello_of_a_later_version),
		cmocka_unit_test(hello_with_a_long_name),
		cmocka_unit_test(prefix_limits),
		cmocka_unit_test(welcome_round_trip),
		cmocka_unit_test(welcome_rules),
		cmocka_unit_test(control_headers),
		cmocka_unit_test(resolve_round_trip),
		cmocka_unit_test(region_record_round_trip),
		cmocka_unit_test(region_record_rules),
		cmocka_unit_test(notify_round_trip),
		cmocka_unit_test(message_round_trip),
		cmocka_unit_test(cancel_round_trip),
		cmocka_unit_test(data_headers),
		cmocka_unit_test(data_pieces),
		cmocka_unit_test(crc32c),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
