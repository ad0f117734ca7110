/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw sockets against the tcp transport's two doors: malformed, lying, truncated and slow peers get a clean refusal,
 * touch nothing that they may not touch, leave nothing behind, and hold up nobody.
 */
#include "tcp_host.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <wire/classic.h>

#define MEMORY 65536u

struct target {
	struct side side;
	unsigned char *memory;
	uint16_t classic_port;
};

static struct target *target_open(void)
{
	struct target *target = calloc(1, sizeof(*target));
	struct cw_blob blob = { 0 };

	side_open(&target->side, 0xbb);
	target->memory = calloc(1, MEMORY);
	target->side.regions[0] = (struct held_region){
		.id = 7, .key = 77, .address = (uintptr_t)target->memory, .length = MEMORY, .access = CW_ACCESS_REMOTE
	};
	assert_int_equal(cw_transport_tcp.describe(target->side.transport, &blob), CW_OK);
	target->classic_port = (uint16_t)(blob.data[0] | blob.data[1] << 8);
	host_blob_free(&blob);
	return target;
}

static void run(struct target *target, int turns)
{
	for (int i = 0; i < turns; i++)
		loop_turn(&target->side.loop, 0);
}

static unsigned ios(const struct target *target)
{
	unsigned count = 0;

	for (int i = 0; i < IOS_MAX; i++)
		count += target->side.loop.ios[i] != NULL;
	return count;
}

/* Everything a test did must be over: two listeners are left, and the memory is as it was. */
static void target_close(struct target *target)
{
	uint64_t until = cw__now() + 5 * CW__SECOND;

	while (ios(target) > 2 && cw__now() < until)
		loop_turn(&target->side.loop, 1);
	assert_int_equal(ios(target), 2);
	for (unsigned i = 0; i < MEMORY; i++)
		assert_int_equal(target->memory[i], 0);
	side_close(&target->side);
	free(target->memory);
	free(target);
}

static int dial(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				       .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void say(int fd, const void *data, size_t length)
{
	assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

/* Up to length bytes that the target says within patience_ms; fewer when it ends the connection (*ended_out). */
static size_t hear(struct target *target, int fd, void *data, size_t length, unsigned patience_ms, int *ended_out)
{
	uint64_t until = cw__now() + patience_ms * CW__MS;
	size_t heard = 0;

	*ended_out = 0;
	while (heard < length && cw__now() < until && !*ended_out) {
		ssize_t got;

		loop_turn(&target->side.loop, 0);
		got = recv(fd, (unsigned char *)data + heard, length - heard, MSG_DONTWAIT);
		if (got > 0)
			heard += (size_t)got;
		else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
			*ended_out = 1;
	}
	return heard;
}

static void expect_end(struct target *target, int fd, unsigned patience_ms)
{
	char byte;
	int ended;

	assert_int_equal(hear(target, fd, &byte, 1, patience_ms, &ended), 0);
	assert_true(ended);
	close(fd);
}

/* ---------------------------------------------------------------------------------------------- native */

static size_t encode_hello(struct cw__hello hello, unsigned char *bytes)
{
	size_t length = cw__hello_encode(&hello, bytes, CW__HELLO_MAX);

	assert_int_not_equal(length, 0);
	return length;
}

static struct cw__hello good_hello(uint64_t connection)
{
	struct cw__hello hello = { .data_connection = 1,
				   .version = CW__NATIVE_VERSION,
				   .connection = connection,
				   .name = { "raw", 3 },
				   .transport = { "tcp", 3 } };

	memset(hello.instance, 0xcc, sizeof(hello.instance));
	return hello;
}

/* Says hello; the status of the welcome. */
static int greet(struct target *target, int fd, struct cw__hello hello)
{
	unsigned char bytes[CW__HELLO_MAX];
	struct cw__welcome welcome;
	size_t rest;
	int ended;

	say(fd, bytes, encode_hello(hello, bytes));
	assert_int_equal(hear(target, fd, bytes, CW__PREFIX_BYTES, 1000, &ended), CW__PREFIX_BYTES);
	assert_int_equal(cw__prefix_decode(bytes, sizeof(bytes), &rest), CW_OK);
	assert_int_equal(hear(target, fd, bytes + CW__PREFIX_BYTES, rest, 1000, &ended), rest);
	assert_int_equal(cw__welcome_decode(bytes, CW__PREFIX_BYTES + rest, &welcome), CW_OK);
	return welcome.status;
}

static int dial_native(struct target *target, uint64_t connection)
{
	int fd = dial(target->side.port);

	assert_int_equal(greet(target, fd, good_hello(connection)), CW_OK);
	return fd;
}

static struct cw__data_header good_header(struct target *target, enum cw__data_type type, uint64_t length)
{
	(void)target;
	return (struct cw__data_header){
		.type = (uint8_t)type, .attempt = 1, .piece_count = 1, .id = 5, .length = length, .region = 7, .key = 77
	};
}

static void say_frame(int fd, struct cw__data_header header, uint64_t address, uint64_t length)
{
	unsigned char bytes[CW__DATA_HEADER_BYTES + CW__DATA_PIECE_BYTES];
	struct cw__data_piece piece = { address, length };

	cw__data_header_encode(&header, bytes);
	cw__data_piece_encode(&piece, bytes + CW__DATA_HEADER_BYTES);
	say(fd, bytes, sizeof(bytes));
}

static struct cw__data_header hear_answer(struct target *target, int fd)
{
	unsigned char bytes[CW__DATA_HEADER_BYTES];
	struct cw__data_header answer;
	int ended;

	assert_int_equal(hear(target, fd, bytes, sizeof(bytes), 1000, &ended), sizeof(bytes));
	assert_int_equal(cw__data_header_decode(bytes, &answer), CW_OK);
	return answer;
}

static void test_hellos_that_are_refused(void **state)
{
	struct target *target = target_open();
	struct cw__hello hello;
	int fd, first;

	(void)state;
	hello = good_hello(1);
	memset(hello.expected, 0xdd, sizeof(hello.expected));
	fd = dial(target->side.port);
	assert_int_equal(greet(target, fd, hello), CW_ERR_PEER_RESTARTED);
	expect_end(target, fd, 1000);

	fd = dial(target->side.port);
	assert_int_equal(greet(target, fd, good_hello(0)), CW_ERR_PROTOCOL);
	expect_end(target, fd, 1000);

	first = dial_native(target, 2);
	fd = dial(target->side.port);
	assert_int_equal(greet(target, fd, good_hello(2)), CW_ERR_PROTOCOL);
	expect_end(target, fd, 1000);

	/* The connection that is replaced has ended before the welcome comes. */
	hello = good_hello(3);
	hello.replaces = 2;
	fd = dial(target->side.port);
	assert_int_equal(greet(target, fd, hello), CW_OK);
	expect_end(target, first, 1000);

	fd = (close(fd), dial(target->side.port));
	say(fd, "CWDATA1\0garbage that is no hello", 32);
	run(target, 20);
	close(fd);
	target_close(target);
}

/* Rows of frames whose answer is a status, after which the connection still works. */
static void test_frames_that_are_refused(void **state)
{
	struct target *target = target_open();
	uint64_t base = (uintptr_t)target->memory;
	const struct {
		uint64_t region, key, address, length;
		int status;
	} rows[] = {
		{ 7, 78, base, 16, CW_ERR_NOT_REGISTERED },
		{ 8, 77, base, 16, CW_ERR_NOT_REGISTERED },
		{ 7, 77, base - 1, 16, CW_ERR_NOT_REGISTERED },
		{ 7, 77, base + MEMORY - 15, 16, CW_ERR_NOT_REGISTERED },
		{ 7, 77, base, MEMORY + 1, CW_ERR_NOT_REGISTERED },
		{ 7, 77, 16, 16, CW_ERR_NOT_REGISTERED },
	};
	int fd = dial_native(target, 1);
	unsigned char *junk = malloc(MEMORY + 1);

	(void)state;
	memset(junk, 0x77, MEMORY + 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int type = CW__DATA_WRITE; type <= CW__DATA_READ; type++) {
			struct cw__data_header header = good_header(target, (enum cw__data_type)type, rows[i].length);
			struct cw__data_header answer;

			header.region = rows[i].region;
			header.key = rows[i].key;
			header.id = i + 1;
			say_frame(fd, header, rows[i].address, rows[i].length);
			if (type == CW__DATA_WRITE)
				say(fd, junk, rows[i].length);
			answer = hear_answer(target, fd);
			assert_int_equal(answer.id, i + 1);
			assert_int_equal(answer.status, rows[i].status);
			assert_int_equal(answer.length, 0);
			assert_int_equal(answer.type, type == CW__DATA_WRITE ? CW__DATA_DONE : CW__DATA_DATA);
		}
	}
	/* A wrong checksum is told, and a right one is right. */
	for (int wrong = 1; wrong >= 0; wrong--) {
		struct cw__data_header header = good_header(target, CW__DATA_WRITE, 9);
		unsigned char zeros[9] = { 0 };

		header.flags = CW__DATA_CHECKSUM;
		header.checksum = cw__crc32c(0, zeros, sizeof(zeros)) ^ (uint32_t)wrong;
		say_frame(fd, header, base, 9);
		say(fd, zeros, sizeof(zeros));
		assert_int_equal(hear_answer(target, fd).status, wrong ? CW_ERR_CHECKSUM : CW_OK);
	}
	free(junk);
	close(fd);
	target_close(target);
}

/* Frames after which nothing can be believed any more. */
static void test_frames_that_end_the_connection(void **state)
{
	struct target *target = target_open();
	uint64_t base = (uintptr_t)target->memory;

	(void)state;
	for (int row = 0; row < 9; row++) {
		struct cw__data_header header = good_header(target, CW__DATA_WRITE, 16);
		unsigned char bytes[CW__DATA_HEADER_BYTES + CW__DATA_PIECE_BYTES];
		struct cw__data_piece piece = { base, 16 };
		uint64_t errors = target->side.protocol_errors;
		int fd = dial_native(target, (uint64_t)row + 1);

		header.type = row == 1 ? 9 : row == 2 ? CW__DATA_DONE : CW__DATA_WRITE;
		header.piece_count = row == 3 ? 0 : row == 4 ? UINT32_MAX : 1;
		header.length = row == 5 ? UINT64_MAX : row == 6 ? 17 : 16;
		piece.address = row == 7 ? UINT64_MAX - 7 : base;
		piece.length = row == 8 ? 0 : 16;
		cw__data_header_encode(&header, bytes);
		cw__data_piece_encode(&piece, bytes + CW__DATA_HEADER_BYTES);
		if (row == 0)
			bytes[0] ^= 1;
		say(fd, bytes, sizeof(bytes));
		expect_end(target, fd, 1000);
		assert_int_equal(target->side.protocol_errors, errors + 1);
	}
	target_close(target);
}

static void test_truncated_and_silent_peers(void **state)
{
	struct target *target = target_open();
	uint64_t base = (uintptr_t)target->memory;
	unsigned char bytes[CW__DATA_HEADER_BYTES];
	struct cw__data_header header = good_header(target, CW__DATA_WRITE, 4096);
	unsigned char zeros[100] = { 0 };
	int half, cut, slow;

	(void)state;
	cw__data_header_encode(&header, bytes);
	/* Half a header, then silence: the stall timeout ends it. */
	half = dial_native(target, 1);
	say(half, bytes, 40);
	/* A part of the payload, then gone. */
	cut = dial_native(target, 2);
	say_frame(cut, header, base, 4096);
	say(cut, zeros, sizeof(zeros));
	run(target, 10);
	close(cut);
	/* A byte now and then is no progress either. */
	slow = dial_native(target, 3);
	say_frame(slow, header, base, 4096);
	for (int i = 0; i < 100; i++) {
		uint64_t until = cw__now() + 10 * CW__MS;

		if (send(slow, zeros, 1, MSG_NOSIGNAL) < 0)
			break;
		while (cw__now() < until)
			run(target, 1);
	}
	expect_end(target, slow, 10);
	expect_end(target, half, 10);
	target_close(target);
}

/* An initiator that asks and never listens costs a bounded buffer; others are served meanwhile. */
static void test_a_peer_that_does_not_read(void **state)
{
	struct target *target = target_open();
	uint64_t base = (uintptr_t)target->memory;
	int deaf = dial_native(target, 1), good = dial_native(target, 2);
	struct cw__data_header header = good_header(target, CW__DATA_READ, MEMORY);
	unsigned char bytes[CW__DATA_HEADER_BYTES + CW__DATA_PIECE_BYTES];
	struct cw__data_piece piece = { base, MEMORY };
	uint64_t start;

	(void)state;
	cw__data_header_encode(&header, bytes);
	cw__data_piece_encode(&piece, bytes + CW__DATA_HEADER_BYTES);
	for (int i = 0; i < 2000; i++) {
		if (send(deaf, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		run(target, 1);
	}
	start = cw__now();
	say_frame(good, good_header(target, CW__DATA_WRITE, 1), base, 1);
	say(good, "", 1);
	assert_int_equal(hear_answer(target, good).status, CW_OK);
	assert_true(cw__now() - start < 100 * CW__MS);
	close(good);
	start = cw__now();
	while (ios(target) > 2 && cw__now() - start < 3 * CW__SECOND) /* its answers make no progress */
		loop_turn(&target->side.loop, 1);
	assert_int_equal(ios(target), 2);
	close(deaf);
	target_close(target);
}

static void test_cancel_messages_of_strangers(void **state)
{
	struct target *target = target_open();
	struct cw__cancel cancel = { .connection = 1, .count = 1, .frames = { 5 } };
	unsigned char bytes[128] = { 0xCA };
	size_t length = cw__cancel_encode(&cancel, bytes + 1, sizeof(bytes) - 1);
	unsigned char stranger[16] = { 1 }, self[16];
	struct cw_blob reply = { 0 };
	int fd = dial_native(target, 1);
	uint64_t base = (uintptr_t)target->memory;
	unsigned char payload[64];

	(void)state;
	memset(self, 0xcc, sizeof(self));
	memset(payload, 0x77, sizeof(payload));
	assert_int_equal(cw_transport_tcp.message(target->side.transport, self, "", 0, &reply), CW_ERR_PROTOCOL);
	assert_int_equal(cw_transport_tcp.message(target->side.transport, self, "x", 1, &reply), CW_ERR_PROTOCOL);
	assert_int_equal(cw_transport_tcp.message(target->side.transport, self, bytes, 5, &reply), CW_ERR_PROTOCOL);
	/* Nobody cancels another initiator's frames. */
	assert_int_equal(cw_transport_tcp.message(target->side.transport, stranger, bytes, length + 1, &reply), CW_OK);
	memset(payload, 0, sizeof(payload));
	say_frame(fd, good_header(target, CW__DATA_WRITE, sizeof(payload)), base, sizeof(payload));
	say(fd, payload, sizeof(payload));
	assert_int_equal(hear_answer(target, fd).status, CW_OK);
	/* One's own: what was said before it came does not land. */
	cancel.frames[0] = 6;
	length = cw__cancel_encode(&cancel, bytes + 1, sizeof(bytes) - 1);
	assert_int_equal(cw_transport_tcp.message(target->side.transport, self, bytes, length + 1, &reply), CW_OK);
	memset(payload, 0x77, sizeof(payload));
	{
		struct cw__data_header header = good_header(target, CW__DATA_WRITE, sizeof(payload));

		header.id = 6;
		say_frame(fd, header, base, sizeof(payload));
	}
	say(fd, payload, sizeof(payload));
	assert_int_equal(hear_answer(target, fd).status, CW_ERR_CANCELED);
	close(fd);
	target_close(target);
}

/* --------------------------------------------------------------------------------------------- classic */

static void say_request(int fd, uint64_t length, uint64_t address, uint8_t opcode)
{
	unsigned char bytes[CW__CLASSIC_HEADER_BYTES] = { 0 };

	for (int i = 0; i < 8; i++) {
		bytes[i] = (unsigned char)(length >> (8 * i));
		bytes[8 + i] = (unsigned char)(address >> (8 * i));
	}
	bytes[16] = opcode;
	memset(bytes + 17, 0xee, 7); /* what real peers leave there */
	say(fd, bytes, sizeof(bytes));
}

static uint32_t hear_status(struct target *target, int fd)
{
	unsigned char bytes[CW__CLASSIC_STATUS_BYTES];
	uint32_t code;
	int ended;

	assert_int_equal(hear(target, fd, bytes, sizeof(bytes), 1000, &ended), sizeof(bytes));
	assert_int_equal(cw__classic_status_decode(bytes, &code), CW_OK);
	return code;
}

static void test_classic_addresses_that_are_refused(void **state)
{
	struct target *target = target_open();
	uint64_t base = (uintptr_t)target->memory;
	const struct {
		uint64_t length, address;
	} rows[] = {
		{ 0, base },
		{ 1, base - 1 },
		{ 1, base + MEMORY },
		{ 2, base + MEMORY - 1 },
		{ MEMORY + 1, base },
		{ UINT64_MAX, base },
		{ 16, UINT64_MAX - 7 },
		{ UINT64_MAX - base + 1, base },
		{ 1, 0 },
	};
	static const uint8_t opcodes[] = { 0x00, 0x01, 0x80, 0x81, 0x02, 0x82 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t k = 0; k < sizeof(opcodes); k++) {
			int fd = dial(target->classic_port);

			say_request(fd, rows[i].length, rows[i].address, opcodes[k]);
			say(fd, "some bytes of payload", 21);
			if (opcodes[k] & 0x80)
				assert_int_equal(hear_status(target, fd), CW__CLASSIC_STATUS_REJECTED);
			expect_end(target, fd, 1000);
		}
	}
	target_close(target);
}

static void test_classic_versions_mixed_and_pipelined(void **state)
{
	struct target *target = target_open();
	uint64_t base = (uintptr_t)target->memory;
	int fd = dial(target->classic_port);
	unsigned char data[24];
	int ended;

	(void)state;
	say_request(fd, 4, base, 0x01);
	say(fd, "abcd", 4);
	say_request(fd, 4, base, 0x00);
	say_request(fd, 4, base + 2, 0x81);
	say(fd, "wxyz", 4);
	say_request(fd, 6, base, 0x80);
	say_request(fd, 2, base + 4, 0x02); /* unknown opcodes read, as in the original */
	assert_int_equal(hear(target, fd, data, 4, 1000, &ended), 4);
	assert_memory_equal(data, "abcd", 4);
	assert_int_equal(hear_status(target, fd), CW__CLASSIC_STATUS_OK);
	assert_memory_equal(target->memory, "abwxyz", 6);
	assert_int_equal(hear_status(target, fd), CW__CLASSIC_STATUS_OK);
	assert_int_equal(hear(target, fd, data, 8, 1000, &ended), 8);
	assert_memory_equal(data, "abwxyzyz", 8);
	memset(target->memory, 0, 6);
	/* Far more requests in one go than acknowledgements that fit anywhere. */
	for (int i = 0; i < 300; i++) {
		say_request(fd, 1, base, 0x81);
		say(fd, "", 1);
	}
	for (int i = 0; i < 300; i++)
		assert_int_equal(hear_status(target, fd), CW__CLASSIC_STATUS_OK);
	close(fd);
	target_close(target);
}

static void test_classic_region_that_goes_away(void **state)
{
	struct target *target = target_open();
	uint64_t base = (uintptr_t)target->memory;
	int fd = dial(target->classic_port);
	unsigned char zeros[MEMORY / 2] = { 0 };

	(void)state;
	say_request(fd, MEMORY, base, 0x81);
	say(fd, zeros, sizeof(zeros));
	run(target, 50);
	target->side.regions[0].gone = 1;
	memset(zeros, 0x77, sizeof(zeros));
	say(fd, zeros, sizeof(zeros));
	assert_int_equal(hear_status(target, fd), CW__CLASSIC_STATUS_REJECTED);
	expect_end(target, fd, 3000);
	target_close(target);
}

static void test_classic_slow_and_many(void **state)
{
	struct target *target = target_open();
	uint64_t base = (uintptr_t)target->memory;
	int silent[20], slow = dial(target->classic_port), good;
	uint64_t start;

	(void)state;
	for (int i = 0; i < 20; i++)
		silent[i] = dial(target->classic_port);
	say(slow, "\x10\0\0\0\0", 5);
	run(target, 100);
	good = dial(target->classic_port);
	start = cw__now();
	say_request(good, 1, base, 0x81);
	say(good, "", 1);
	assert_int_equal(hear_status(target, good), CW__CLASSIC_STATUS_OK);
	assert_true(cw__now() - start < 100 * CW__MS);
	close(good);
	expect_end(target, slow, 1000);
	for (int i = 0; i < 20; i++)
		close(silent[i]);
	target_close(target);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hellos_that_are_refused),
		cmocka_unit_test(test_frames_that_are_refused),
		cmocka_unit_test(test_frames_that_end_the_connection),
		cmocka_unit_test(test_truncated_and_silent_peers),
		cmocka_unit_test(test_a_peer_that_does_not_read),
		cmocka_unit_test(test_cancel_messages_of_strangers),
		cmocka_unit_test(test_classic_addresses_that_are_refused),
		cmocka_unit_test(test_classic_versions_mixed_and_pipelined),
		cmocka_unit_test(test_classic_region_that_goes_away),
		cmocka_unit_test(test_classic_slow_and_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
