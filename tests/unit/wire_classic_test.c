/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary part of the classic protocol, against bytes as real engines send them.
 */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/classic.h"

static_assert(CW__CLASSIC_HEADER_BYTES == 8 + 8 + 1 + 7, "classic data header");

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void lengths(void **state)
{
	static const struct {
		const char *name;
		unsigned char bytes[CW__CLASSIC_LENGTH_BYTES + 1];
		uint64_t max;
		int expected;
		size_t length;
	} rows[] = {
		{ "one", "\1\0\0\0\0\0\0\0", 100, CW_OK, 1 },
		{ "limit", "\0\0\x10\0\0\0\0\0", CW__CLASSIC_MAX, CW_OK, CW__CLASSIC_MAX },
		{ "zero", "\0\0\0\0\0\0\0\0", 100, CW_ERR_PROTOCOL, 0 },
		{ "limit and one", "\1\0\x10\0\0\0\0\0", CW__CLASSIC_MAX, CW_ERR_PROTOCOL, 0 },
		{ "top bit", "\1\0\0\0\0\0\0\x80", UINT64_MAX, CW_ERR_PROTOCOL, 0 },
		{ "minus one", "\xff\xff\xff\xff\xff\xff\xff\xff", UINT64_MAX, CW_ERR_PROTOCOL, 0 },
		{ "hard limit", "\0\0\0\x08\0\0\0\0", UINT64_MAX, CW_OK, CW__CLASSIC_MAX_HARD },
		{ "hard limit and one", "\1\0\0\x08\0\0\0\0", UINT64_MAX, CW_ERR_PROTOCOL, 0 },
		{ "native magic", "CWCTRL1\0", UINT64_MAX, CW_ERR_PROTOCOL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t length = 0;

		if (cw__classic_length_decode(rows[i].bytes, rows[i].max, &length) != rows[i].expected)
			fail_msg("%s", rows[i].name);
		assert_int_equal(length, rows[i].length);
	}
}

static void bodies(void **state)
{
	static const struct {
		const char *name, *body;
		size_t length;
		int expected;
		enum cw__classic_type type;
		const char *json;
	} rows[] = {
		{ "connection", "\0{}", 3, CW_OK, CW__CLASSIC_CONNECTION, "{}" },
		{ "metadata", "\1{}", 3, CW_OK, CW__CLASSIC_METADATA, "{}" },
		{ "notify", "\2{}\n", 4, CW_OK, CW__CLASSIC_NOTIFY, "{}\n" },
		{ "probe", "\3{}", 3, CW_OK, CW__CLASSIC_PROBE, "{}" },
		{ "type alone", "\1", 1, CW_OK, CW__CLASSIC_METADATA, "" },
		{ "old style", "{}", 2, CW_OK, CW__CLASSIC_OLD, "{}" },
		{ "old style after a tab", "\t{}", 3, CW_OK, CW__CLASSIC_OLD, "\t{}" },
		{ "type 4 is old style", "\4{}", 3, CW_OK, CW__CLASSIC_OLD, "\4{}" },
		{ "type 128", "\x80{}", 3, CW_ERR_PROTOCOL, 0, NULL },
		{ "type 255", "\xff{}", 3, CW_ERR_PROTOCOL, 0, NULL },
		{ "empty", "", 0, CW_ERR_PROTOCOL, 0, NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct cw__classic_frame frame;

		if (cw__classic_body_decode(rows[i].body, rows[i].length, &frame) != rows[i].expected)
			fail_msg("%s", rows[i].name);
		if (rows[i].expected != CW_OK)
			continue;
		assert_int_equal(frame.type, rows[i].type);
		assert_int_equal(frame.json_length, strlen(rows[i].json));
		assert_memory_equal(frame.json, rows[i].json, frame.json_length);
	}
}

static void frames(void **state)
{
	static const struct {
		enum cw__classic_type type;
		const char *json, *bytes;
		size_t length;
	} rows[] = {
		{ CW__CLASSIC_METADATA, "{}\n", "\4\0\0\0\0\0\0\0\1{}\n", 12 },
		{ CW__CLASSIC_CONNECTION, "{}", "\3\0\0\0\0\0\0\0\0{}", 11 },
		{ CW__CLASSIC_OLD, "{}", "\2\0\0\0\0\0\0\0{}", 10 },
	};
	unsigned char bytes[64];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t json_length = strlen(rows[i].json), length;
		struct cw__classic_frame frame;

		assert_int_equal(cw__classic_encode(rows[i].type, rows[i].json, json_length, NULL, 0), rows[i].length);
		for (size_t capacity = 0; capacity < rows[i].length; capacity++)
			assert_int_equal(cw__classic_encode(rows[i].type, rows[i].json, json_length, bytes, capacity),
					 0);
		length = cw__classic_encode(rows[i].type, rows[i].json, json_length, bytes, sizeof(bytes));
		assert_int_equal(length, rows[i].length);
		assert_memory_equal(bytes, rows[i].bytes, length);
		assert_int_equal(cw__classic_length_decode(bytes, sizeof(bytes), &length), CW_OK);
		assert_int_equal(length, rows[i].length - CW__CLASSIC_LENGTH_BYTES);
		assert_int_equal(cw__classic_body_decode(bytes + CW__CLASSIC_LENGTH_BYTES, length, &frame), CW_OK);
		assert_int_equal(frame.type, rows[i].type);
	}
	assert_int_equal(cw__classic_encode(CW__CLASSIC_NOTIFY, "", SIZE_MAX, NULL, 0), 0);
	assert_int_equal(cw__classic_encode(CW__CLASSIC_NOTIFY, "", CW__CLASSIC_MAX_HARD, NULL, 0), 0);
}

static void data_headers(void **state)
{
	static const struct {
		const char *name;
		unsigned char opcode;
		uint8_t write, acknowledged;
		int ours; /* the opcode that we send for this */
	} rows[] = {
		{ "v1 read", 0x00, 0, 0, 1 },
		{ "v1 write", 0x01, 1, 0, 1 },
		{ "v2 read", 0x80, 0, 1, 1 },
		{ "v2 write", 0x81, 1, 1, 1 },
		{ "v1 unknown is a read", 0x02, 0, 0, 0 },
		{ "v2 unknown is a read", 0x82, 0, 1, 0 },
		{ "v2 highest is a read", 0xff, 0, 1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		unsigned char bytes[CW__CLASSIC_HEADER_BYTES + 1] =
			"\x08\x07\x06\x05\x04\x03\x02\x01\x00\x10\x84\x42\xa7\x7f\0\0?padding";
		struct cw__classic_header header;
		unsigned char again[CW__CLASSIC_HEADER_BYTES];

		bytes[16] = rows[i].opcode;
		cw__classic_header_decode(bytes, &header);
		assert_true(header.length == 0x0102030405060708u);
		assert_true(header.address == 0x7fa742841000u);
		if (header.write != rows[i].write || header.acknowledged != rows[i].acknowledged)
			fail_msg("%s", rows[i].name);
		cw__classic_header_encode(&header, again);
		assert_memory_equal(again, bytes, 16);
		assert_int_equal(again[16] == rows[i].opcode, rows[i].ours);
		assert_memory_equal(again + 17, "\0\0\0\0\0\0\0", 7);
	}
}

static void statuses(void **state)
{
	unsigned char bytes[CW__CLASSIC_STATUS_BYTES];
	uint32_t code = 7;

	(void)state;
	cw__classic_status_encode(CW__CLASSIC_STATUS_OK, bytes);
	assert_memory_equal(bytes, "\0\0\0\0VTCM", sizeof(bytes));
	assert_int_equal(cw__classic_status_decode(bytes, &code), CW_OK);
	assert_int_equal(code, CW__CLASSIC_STATUS_OK);
	cw__classic_status_encode(CW__CLASSIC_STATUS_REJECTED, bytes);
	assert_memory_equal(bytes, "\1\0\0\0VTCM", sizeof(bytes));
	assert_int_equal(cw__classic_status_decode(bytes, &code), CW_OK);
	assert_int_equal(code, CW__CLASSIC_STATUS_REJECTED);
	for (size_t i = 4; i < sizeof(bytes); i++) {
		bytes[i] ^= 1;
		assert_int_equal(cw__classic_status_decode(bytes, &code), CW_ERR_PROTOCOL);
		bytes[i] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths),      cmocka_unit_test(bodies),   cmocka_unit_test(frames),
		cmocka_unit_test(data_headers), cmocka_unit_test(statuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
