/* SPDX-License-Identifier: Apache-2.0 */
/* A Mooncake engine that speaks tcp to device memory: sockets of the test's own on one side, an engine on the other. */
#include <arpa/inet.h>
#include <causeway/causeway.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/fake.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <wire/classic.h>

#include <cmocka.h>

#define LENGTH (3u << 20)

static struct fake_world w;

static int dial(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				       .sin_port = htons(port) };
	struct timeval limit = { 20, 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void send_all(int fd, const void *data, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t moved = send(fd, (const char *)data + done, length - done, MSG_NOSIGNAL);

		assert_true(moved > 0);
		done += (size_t)moved;
	}
}

/* 0 = the other side ended the connection before. */
static int receive_all(int fd, void *data, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t moved = recv(fd, (char *)data + done, length - done, 0);

		if (moved <= 0)
			return 0;
		done += (size_t)moved;
	}
	return 1;
}

/* Asks the engine what it has, as a classic peer does. */
static uint16_t data_port(char *text, size_t size)
{
	unsigned char bytes[64];
	size_t length = cw__classic_encode(CW__CLASSIC_METADATA, "{}\n", 3, bytes, sizeof(bytes));
	struct cw__descriptor descriptor;
	char why[100];
	uint16_t port;
	int fd = dial((uint16_t)atoi(strrchr(cw_engine_name(w.far), ':') + 1));

	send_all(fd, bytes, length);
	assert_true(receive_all(fd, bytes, CW__CLASSIC_LENGTH_BYTES));
	assert_int_equal(cw__classic_length_decode(bytes, size - 1, &length), CW_OK);
	assert_true(receive_all(fd, text, length));
	close(fd);
	text[length] = 0;
	assert_int_equal(cw__descriptor_decode(text + 1, length - 1, &descriptor, why, sizeof(why)), CW_OK);
	assert_int_equal(descriptor.buffer_count, 1);
	assert_int_equal(descriptor.buffers[0].address, (uint64_t)(uintptr_t)w.there.address);
	assert_int_equal(descriptor.buffers[0].length, LENGTH);
	port = descriptor.tcp_data_port;
	cw__descriptor_free(&descriptor);
	return port;
}

static void send_header(int fd, int write, int acknowledged, size_t offset, size_t length)
{
	struct cw__classic_header header = { .length = length,
					     .address = (uint64_t)(uintptr_t)w.there.address + offset,
					     .write = (uint8_t)write,
					     .acknowledged = (uint8_t)acknowledged };
	unsigned char bytes[CW__CLASSIC_HEADER_BYTES];

	cw__classic_header_encode(&header, bytes);
	send_all(fd, bytes, sizeof(bytes));
}

/* The status of a request of version 2; -1 = the connection ended instead. */
static int status_of(int fd)
{
	unsigned char bytes[CW__CLASSIC_STATUS_BYTES];
	uint32_t code;

	if (!receive_all(fd, bytes, sizeof(bytes)))
		return -1;
	assert_int_equal(cw__classic_status_decode(bytes, &code), CW_OK);
	return (int)code;
}

static void classic_peers_reach_devices(void **state)
{
	static unsigned char bytes[2000000], back[2000000];
	char text[4096];
	int fd;

	(void)state;
	fake_world_open(&w, PLUGINS, "tcp", -1, 1, LENGTH, NULL, 0);
	fd = dial(data_port(text, sizeof(text)));
	assert_non_null(strstr(text, "\"name\":\"fake:1\""));
	fake_fill(bytes, sizeof(bytes), 1);
	send_header(fd, 1, 1, 12345, sizeof(bytes));
	send_all(fd, bytes, sizeof(bytes));
	assert_int_equal(status_of(fd), CW__CLASSIC_STATUS_OK);
	assert_memory_equal(w.there.bytes + 12345, bytes, sizeof(bytes));
	send_header(fd, 0, 1, 12345, sizeof(back));
	assert_int_equal(status_of(fd), CW__CLASSIC_STATUS_OK);
	assert_true(receive_all(fd, back, sizeof(back)));
	assert_memory_equal(back, bytes, sizeof(bytes));
	/* Version 1: a write, and its last byte back. */
	send_header(fd, 1, 0, 1, 5000);
	send_all(fd, bytes, 5000);
	send_header(fd, 0, 0, 5000, 1);
	assert_true(receive_all(fd, back, 1));
	assert_int_equal(back[0], bytes[4999]);
	assert_memory_equal(w.there.bytes + 1, bytes, 5000);
	close(fd);
	fake_world_close(&w);
}

static void what_does_not_arrive_is_not_acknowledged(void **state)
{
	static unsigned char bytes[600000];
	char text[4096];
	uint16_t port;
	int fd;

	(void)state;
	fake_world_open(&w, PLUGINS, "tcp", -1, 1, LENGTH, NULL, 0);
	port = data_port(text, sizeof(text));
	fd = dial(port);
	w.devices->spoil(FAKE_IN, 1, UINT64_MAX / 2);
	send_header(fd, 1, 1, 0, 1000);
	send_all(fd, bytes, 1000);
	assert_int_equal(status_of(fd), CW__CLASSIC_STATUS_REJECTED);
	assert_false(receive_all(fd, bytes, 1));
	close(fd);
	fd = dial(port);
	send_header(fd, 1, 0, 0, 1000);
	send_all(fd, bytes, 1000);
	assert_false(receive_all(fd, bytes, 1)); /* version 1 has only the end */
	close(fd);
	fd = dial(port);
	w.devices->spoil(FAKE_OUT, 1, UINT64_MAX / 2);
	send_header(fd, 0, 1, 0, 1000);
	(void)status_of(fd); /* the bounds are right */
	assert_false(receive_all(fd, bytes, 1));
	close(fd);
	fake_world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classic_peers_reach_devices),
		cmocka_unit_test(what_does_not_arrive_is_not_acknowledged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
