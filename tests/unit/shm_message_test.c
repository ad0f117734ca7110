/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of the shm transport: each survives encoding and decoding; whatever a correct peer never sends is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <causeway/causeway.h>
#include <string.h>
#include <transports/shm/message.h>

#include <cmocka.h>

static size_t encode_pull(unsigned char *out, size_t capacity, const struct cw__shm_piece *pieces, uint32_t count,
			  uint64_t length)
{
	struct cw__shm_message pull = { .type = CW__SHM_PULL, .id = 9 };
	size_t used;

	pull.pull.region = 1;
	pull.pull.key = 2;
	pull.pull.not_after = 3;
	pull.pull.length = length;
	pull.pull.count = count;
	used = cw__shm_message_encode(&pull, out, capacity);
	for (uint32_t i = 0; i < count && i < CW__SHM_PIECES_MAX + 1; i++)
		used += cw__shm_piece_encode(&pieces[i], out + used, capacity - used);
	return used;
}

static void hello_survives(void **state)
{
	struct cw__shm_message hello = { .type = CW__SHM_HELLO, .id = 7 }, got;
	unsigned char data[128];
	size_t used;

	(void)state;
	hello.hello.version = CW__SHM_VERSION;
	hello.hello.flags = CW__SHM_GRANT | CW__SHM_ATTACH;
	memset(hello.hello.instance, 0xa1, sizeof(hello.hello.instance));
	memset(hello.hello.expected, 0xb2, sizeof(hello.hello.expected));
	hello.hello.proof = 0x1122334455667788;
	hello.hello.link = 5;
	used = cw__shm_message_encode(&hello, data, sizeof(data));
	assert_int_equal(used, 80);
	assert_int_equal(cw__shm_message_decode(data, used, &got), CW_OK);
	assert_int_equal(got.type, CW__SHM_HELLO);
	assert_int_equal(got.id, 7);
	assert_int_equal(got.hello.version, CW__SHM_VERSION);
	assert_int_equal(got.hello.flags, CW__SHM_GRANT | CW__SHM_ATTACH);
	assert_memory_equal(got.hello.instance, hello.hello.instance, sizeof(got.hello.instance));
	assert_memory_equal(got.hello.expected, hello.hello.expected, sizeof(got.hello.expected));
	assert_int_equal(got.hello.proof, hello.hello.proof);
	assert_int_equal(got.hello.link, 5);
}

static void every_type_survives_whole_and_no_other_length(void **state)
{
	static const struct {
		uint16_t type;
		size_t bytes;
	} rows[] = {
		{ CW__SHM_WELCOME, 80 }, { CW__SHM_IMPORT, 40 },  { CW__SHM_IMPORTED, 48 }, { CW__SHM_DROP, 24 },
		{ CW__SHM_REVOKE, 24 },  { CW__SHM_REVOKED, 24 }, { CW__SHM_PULLED, 24 },   { CW__SHM_CANCEL, 24 }
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw__shm_message message = { .type = rows[i].type, .status = -9, .id = 1 }, got;
		unsigned char data[128] = { 0 };

		message.hello.version = 1; /* the first word of every body */
		if (rows[i].type == CW__SHM_IMPORTED)
			message.imported.length = 4096;
		assert_int_equal(cw__shm_message_encode(&message, data, sizeof(data)), rows[i].bytes);
		assert_int_equal(cw__shm_message_decode(data, rows[i].bytes, &got), CW_OK);
		assert_int_equal(got.status, -9);
		for (size_t length = 0; length < sizeof(data); length++) {
			if (length == rows[i].bytes)
				continue;
			assert_int_equal(cw__shm_message_decode(data, length, &got), CW_ERR_PROTOCOL);
			data[0] = (unsigned char)length; /* and when the length is stated as it is */
			assert_int_equal(cw__shm_message_decode(data, length, &got), CW_ERR_PROTOCOL);
			data[0] = (unsigned char)rows[i].bytes;
		}
		assert_int_equal(cw__shm_message_encode(&message, data, rows[i].bytes - 1), 0);
	}
}

static void pull_survives(void **state)
{
	static const struct cw__shm_piece pieces[] = { { 100, 200, 4096 }, { UINT64_MAX - 8, 300, 8 } };
	unsigned char data[CW__SHM_MESSAGE_MAX];
	size_t used = encode_pull(data, sizeof(data), pieces, 2, 4104);
	struct cw__shm_message got;

	(void)state;
	assert_int_equal(cw__shm_message_decode(data, used, &got), CW_OK);
	assert_int_equal(got.pull.count, 2);
	assert_int_equal(got.pull.length, 4104);
	assert_int_equal(cw__shm_piece_at(got.pull.pieces, 0).target, 200);
	assert_int_equal(cw__shm_piece_at(got.pull.pieces, 1).source, UINT64_MAX - 8);
}

static void unsound_pulls_are_refused(void **state)
{
	static const struct {
		const char *what;
		struct cw__shm_piece pieces[2];
		uint32_t count;
		uint64_t length;
	} rows[] = {
		{ "no pieces", { { 0, 0, 0 } }, 0, 0 },
		{ "an empty piece", { { 1, 1, 8 }, { 1, 1, 0 } }, 2, 8 },
		{ "less than stated", { { 1, 1, 8 } }, 1, 9 },
		{ "more than stated", { { 1, 1, 8 } }, 1, 7 },
		{ "a source that wraps", { { UINT64_MAX - 3, 1, 8 } }, 1, 8 },
		{ "a target that wraps", { { 1, UINT64_MAX - 3, 8 } }, 1, 8 },
		{ "a sum that wraps", { { 0, 0, UINT64_MAX }, { 0, 0, 9 } }, 2, 8 },
	};
	unsigned char data[CW__SHM_MESSAGE_MAX];
	struct cw__shm_message got;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t used = encode_pull(data, sizeof(data), rows[i].pieces, rows[i].count, rows[i].length);

		if (cw__shm_message_decode(data, used, &got) != CW_ERR_PROTOCOL)
			fail_msg("accepted: %s", rows[i].what);
	}
}

static void too_many_pieces_are_refused(void **state)
{
	static struct cw__shm_piece pieces[CW__SHM_PIECES_MAX + 1];
	static unsigned char data[CW__SHM_MESSAGE_MAX + CW__SHM_PIECE_BYTES];
	struct cw__shm_message got;
	size_t used;

	(void)state;
	for (size_t i = 0; i < CW__SHM_PIECES_MAX + 1; i++)
		pieces[i].length = 1;
	used = encode_pull(data, sizeof(data), pieces, CW__SHM_PIECES_MAX, CW__SHM_PIECES_MAX);
	assert_int_equal(used, CW__SHM_MESSAGE_MAX);
	assert_int_equal(cw__shm_message_decode(data, used, &got), CW_OK);
	used = encode_pull(data, sizeof(data), pieces, CW__SHM_PIECES_MAX + 1, CW__SHM_PIECES_MAX + 1);
	assert_int_equal(cw__shm_message_decode(data, used, &got), CW_ERR_PROTOCOL);
}

static void wrong_headers_are_refused(void **state)
{
	static const struct {
		const char *what;
		size_t at;
		unsigned char value;
	} rows[] = { { "type 0", 4, 0 },        { "an unknown type", 4, 99 }, { "reserved bits", 6, 1 },
		     { "more of them", 12, 1 }, { "a wrong length", 0, 25 },  { "a positive status", 8, 1 } };
	struct cw__shm_message drop = { .type = CW__SHM_DROP, .id = 3 }, got;
	unsigned char data[CW__SHM_HEADER_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cw__shm_message_encode(&drop, data, sizeof(data));
		data[rows[i].at] = rows[i].value;
		if (cw__shm_message_decode(data, sizeof(data), &got) != CW_ERR_PROTOCOL)
			fail_msg("accepted: %s", rows[i].what);
	}
}

static void a_grant_that_wraps_is_refused(void **state)
{
	struct cw__shm_message imported = { .type = CW__SHM_IMPORTED }, got;
	unsigned char data[64];
	size_t used;

	(void)state;
	imported.imported.offset = UINT64_MAX;
	imported.imported.length = 2;
	used = cw__shm_message_encode(&imported, data, sizeof(data));
	assert_int_equal(cw__shm_message_decode(data, used, &got), CW_ERR_PROTOCOL);
}

static void description_survives_and_may_grow(void **state)
{
	static const unsigned char name[] = "causeway-x";
	struct cw__shm_description sent = { 1, CW__SHM_ATTACH, sizeof(name) - 1, name }, got;
	unsigned char data[CW__SHM_DESCRIPTION_MAX] = { 0 };
	size_t used = cw__shm_description_encode(&sent, data, sizeof(data));

	(void)state;
	assert_int_equal(cw__shm_description_decode(data, used, &got), CW_OK);
	assert_int_equal(got.flags, CW__SHM_ATTACH);
	assert_memory_equal(got.name, name, sizeof(name) - 1);
	assert_int_equal(cw__shm_description_decode(data, used + 4, &got), CW_OK);
	for (size_t length = 0; length < used; length++)
		assert_int_equal(cw__shm_description_decode(data, length, &got), CW_ERR_PROTOCOL);
	data[4] = 0;
	assert_int_equal(cw__shm_description_decode(data, used, &got), CW_ERR_PROTOCOL);
}

static void region_blob_survives(void **state)
{
	unsigned char data[CW__SHM_REGION_BYTES];
	uint16_t flags = 0;

	(void)state;
	assert_int_equal(cw__shm_region_encode(CW__SHM_READABLE, data, sizeof(data)), sizeof(data));
	assert_int_equal(cw__shm_region_decode(data, sizeof(data), &flags), CW_OK);
	assert_int_equal(flags, CW__SHM_READABLE);
	assert_int_equal(cw__shm_region_decode(data, 3, &flags), CW_ERR_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_survives),
		cmocka_unit_test(every_type_survives_whole_and_no_other_length),
		cmocka_unit_test(pull_survives),
		cmocka_unit_test(unsound_pulls_are_refused),
		cmocka_unit_test(too_many_pieces_are_refused),
		cmocka_unit_test(wrong_headers_are_refused),
		cmocka_unit_test(a_grant_that_wraps_is_refused),
		cmocka_unit_test(description_survives_and_may_grow),
		cmocka_unit_test(region_blob_survives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
