/* SPDX-License-Identifier: Apache-2.0 */
/* What engines say to each other about device memory: it survives encoding and decoding, with each byte where
 * docs/peer-copy.md says; whatever a correct peer never sends is refused. */
#include <causeway/causeway.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <transports/peer_copy/envelope.h>

#include <cmocka.h>

static struct cw__pc_envelope sample(void)
{
	struct cw__pc_envelope envelope = {
		.vendor = 1,
		.mode = CW__PC_IPC,
		.device = 3,
		.pci = "0000:3b:00.0",
		.pid = 4711,
		.base = 0x7f0000000000,
		.size = 1u << 20,
		.offset = 4096,
		.length = 8192,
	};

	memset(envelope.instance, 0xa1, sizeof(envelope.instance));
	memset(envelope.handle, 0xb2, sizeof(envelope.handle));
	return envelope;
}

static void offer_survives(void **state)
{
	const struct cw__pc_offer offer = { .vendor = 1, .flags = CW__PC_EXPORTED };
	const unsigned char expected[] = { 1, 0, 1, 0, 1, 0, 0, 0 };
	unsigned char data[CW__PC_OFFER_BYTES + 4] = { 0 };
	struct cw__pc_offer got;

	(void)state;
	assert_int_equal(cw__pc_offer_encode(&offer, data, sizeof(data)), CW__PC_OFFER_BYTES);
	assert_memory_equal(data, expected, sizeof(expected));
	assert_int_equal(cw__pc_offer_decode(data, CW__PC_OFFER_BYTES, &got), CW_OK);
	assert_int_equal(got.vendor, 1);
	assert_int_equal(got.flags, CW__PC_EXPORTED);
	assert_int_equal(cw__pc_offer_decode(data, sizeof(data), &got), CW_OK); /* of a later version */
	for (size_t length = 0; length < CW__PC_OFFER_BYTES; length++)
		assert_int_equal(cw__pc_offer_decode(data, length, &got), CW_ERR_PROTOCOL);
	data[0] = 0;
	assert_int_equal(cw__pc_offer_decode(data, CW__PC_OFFER_BYTES, &got), CW_ERR_PROTOCOL);
	assert_int_equal(cw__pc_offer_encode(&offer, data, CW__PC_OFFER_BYTES - 1), 0);
}

static void attach_survives(void **state)
{
	const struct cw__pc_message attach = {
		.type = CW__PC_ATTACH, .number = 0x1122, .region = 2, .key = 3, .pid = 0x7fffffff, .start = 5
	};
	const unsigned char head[] = { 'C', 'W', 'P', 'C', 1, 0, 1, 0, 0x22, 0x11, 0, 0, 0, 0, 0, 0 };
	unsigned char data[64];
	struct cw__pc_message got;

	(void)state;
	assert_int_equal(cw__pc_message_encode(&attach, data, sizeof(data)), CW__PC_ATTACH_BYTES);
	assert_memory_equal(data, head, sizeof(head));
	assert_int_equal(cw__pc_message_decode(data, CW__PC_ATTACH_BYTES, &got), CW_OK);
	assert_int_equal(got.type, attach.type);
	assert_int_equal(got.number, attach.number);
	assert_int_equal(got.region, attach.region);
	assert_int_equal(got.key, attach.key);
	assert_int_equal(got.pid, attach.pid);
	assert_int_equal(got.start, attach.start);
}

static void detach_survives(void **state)
{
	const struct cw__pc_message detach = { .type = CW__PC_DETACH, .number = UINT64_MAX };
	unsigned char data[64];
	struct cw__pc_message got;

	(void)state;
	assert_int_equal(cw__pc_message_encode(&detach, data, sizeof(data)), CW__PC_DETACH_BYTES);
	assert_int_equal(cw__pc_message_decode(data, CW__PC_DETACH_BYTES, &got), CW_OK);
	assert_int_equal(got.type, CW__PC_DETACH);
	assert_int_equal(got.number, UINT64_MAX);
	assert_int_equal(cw__pc_message_encode(&detach, data, CW__PC_DETACH_BYTES - 1), 0);
}

static void messages_have_one_length_only(void **state)
{
	struct cw__pc_message message = { .type = CW__PC_ATTACH, .pid = 1 }, got;
	unsigned char data[64] = { 0 };

	(void)state;
	for (; message.type <= CW__PC_DETACH; message.type++) {
		size_t used = cw__pc_message_encode(&message, data, sizeof(data));

		for (size_t length = 0; length <= sizeof(data); length++)
			assert_int_equal(cw__pc_message_decode(data, length, &got),
					 length == used ? CW_OK : CW_ERR_PROTOCOL);
	}
}

static void wrong_messages_are_refused(void **state)
{
	static const struct {
		size_t at;
		unsigned char byte;
	} rows[] = {
		{ 0, 0xca },  /* another magic: a cancel of the core's */
		{ 4, 2 },     /* another version */
		{ 6, 0 },     /* no such type */
		{ 6, 3 },     /* nor this */
		{ 35, 0x80 }, /* a process id beyond any */
		{ 36, 1 },    /* reserved */
	};
	const struct cw__pc_message attach = { .type = CW__PC_ATTACH, .number = 1, .pid = 9 };
	struct cw__pc_message got, nobody = attach;
	unsigned char data[CW__PC_ATTACH_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cw__pc_message_encode(&attach, data, sizeof(data));
		data[rows[i].at] = rows[i].byte;
		assert_int_equal(cw__pc_message_decode(data, sizeof(data), &got), CW_ERR_PROTOCOL);
	}
	nobody.pid = 0;
	cw__pc_message_encode(&nobody, data, sizeof(data));
	assert_int_equal(cw__pc_message_decode(data, sizeof(data), &got), CW_ERR_PROTOCOL);
}

static void envelope_survives(void **state)
{
	const struct cw__pc_envelope envelope = sample();
	unsigned char data[CW__PC_ENVELOPE_BYTES + 1];
	struct cw__pc_envelope got;

	(void)state;
	assert_int_equal(cw__pc_envelope_encode(&envelope, data, sizeof(data)), CW__PC_ENVELOPE_BYTES);
	assert_memory_equal(data, "CWGH", 4);
	assert_memory_equal(data + 16, "0000:3b:00.0", 13);
	assert_int_equal(data[48], 0xa1);
	assert_int_equal(data[104], 0xb2);
	assert_int_equal(cw__pc_envelope_decode(data, CW__PC_ENVELOPE_BYTES, &got), CW_OK);
	assert_int_equal(got.vendor, envelope.vendor);
	assert_int_equal(got.mode, CW__PC_IPC);
	assert_int_equal(got.device, 3);
	assert_string_equal(got.pci, envelope.pci);
	assert_memory_equal(got.instance, envelope.instance, sizeof(got.instance));
	assert_int_equal(got.pid, 4711);
	assert_int_equal(got.base, envelope.base);
	assert_int_equal(got.size, envelope.size);
	assert_int_equal(got.offset, envelope.offset);
	assert_int_equal(got.length, envelope.length);
	assert_memory_equal(got.handle, envelope.handle, sizeof(got.handle));
	for (size_t length = 0; length <= sizeof(data); length++)
		if (length != CW__PC_ENVELOPE_BYTES)
			assert_int_equal(cw__pc_envelope_decode(data, length, &got), CW_ERR_PROTOCOL);
	assert_int_equal(cw__pc_envelope_encode(&envelope, data, CW__PC_ENVELOPE_BYTES - 1), 0);
}

/* The result of decoding what it encodes to. */
static int again(const struct cw__pc_envelope *envelope)
{
	unsigned char data[CW__PC_ENVELOPE_BYTES];
	struct cw__pc_envelope got;

	cw__pc_envelope_encode(envelope, data, sizeof(data));
	return cw__pc_envelope_decode(data, sizeof(data), &got);
}

static void regions_stay_inside_their_allocation(void **state)
{
	static const struct {
		uint64_t base, size, offset, length;
		int expected;
	} rows[] = {
		{ 4096, 8192, 0, 8192, CW_OK },
		{ 4096, 8192, 8191, 1, CW_OK },
		{ 4096, 8192, 0, 8193, CW_ERR_PROTOCOL },
		{ 4096, 8192, 8192, 1, CW_ERR_PROTOCOL },
		{ 4096, 8192, UINT64_MAX, 2, CW_ERR_PROTOCOL },
		{ 4096, 8192, 0, 0, CW_ERR_PROTOCOL },
		{ 4096, 0, 1u << 30, 1u << 30, CW_OK }, /* the size is not known */
		{ 4096, 0, 0, UINT64_MAX - 4096, CW_OK },
		{ 4096, 0, 1, UINT64_MAX - 4096, CW_ERR_PROTOCOL },
		{ UINT64_MAX, 1, 0, 1, CW_ERR_PROTOCOL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw__pc_envelope envelope = sample();

		envelope.base = rows[i].base;
		envelope.size = rows[i].size;
		envelope.offset = rows[i].offset;
		envelope.length = rows[i].length;
		assert_int_equal(again(&envelope), rows[i].expected);
	}
}

static void wrong_envelopes_are_refused(void **state)
{
	struct cw__pc_envelope envelope = sample();
	unsigned char data[CW__PC_ENVELOPE_BYTES];

	(void)state;
	envelope.mode = CW__PC_IPC + 1;
	assert_int_equal(again(&envelope), CW_ERR_PROTOCOL);
	envelope = sample();
	envelope.mode = CW__PC_NONE; /* but a handle */
	assert_int_equal(again(&envelope), CW_ERR_PROTOCOL);
	memset(envelope.handle, 0, sizeof(envelope.handle));
	assert_int_equal(again(&envelope), CW_OK);
	envelope = sample();
	envelope.device = -1;
	assert_int_equal(again(&envelope), CW_ERR_PROTOCOL);
	envelope = sample();
	memset(envelope.pci, 'x', sizeof(envelope.pci)); /* without an end */
	assert_int_equal(again(&envelope), CW_ERR_PROTOCOL);
	envelope = sample();
	envelope.pci[30] = 'x'; /* behind its end */
	assert_int_equal(again(&envelope), CW_ERR_PROTOCOL);
	envelope = sample();
	envelope.pci[2] = '\n';
	assert_int_equal(again(&envelope), CW_ERR_PROTOCOL);
	envelope = sample();
	memset(envelope.pci, 0, sizeof(envelope.pci)); /* not known */
	assert_int_equal(again(&envelope), CW_OK);
	for (size_t at = 0; at < sizeof(data); at++) {
		static const struct {
			size_t from, to;
		} fixed[] = { { 0, 6 }, { 10, 12 }, { 68, 72 } }; /* magic, version, reserved */

		for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
			struct cw__pc_envelope got;

			if (at < fixed[i].from || at >= fixed[i].to)
				continue;
			envelope = sample();
			cw__pc_envelope_encode(&envelope, data, sizeof(data));
			data[at] ^= 0x40;
			assert_int_equal(cw__pc_envelope_decode(data, sizeof(data), &got), CW_ERR_PROTOCOL);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offer_survives),
		cmocka_unit_test(attach_survives),
		cmocka_unit_test(detach_survives),
		cmocka_unit_test(messages_have_one_length_only),
		cmocka_unit_test(wrong_messages_are_refused),
		cmocka_unit_test(envelope_survives),
		cmocka_unit_test(regions_stay_inside_their_allocation),
		cmocka_unit_test(wrong_envelopes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
