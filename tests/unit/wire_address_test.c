/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How addresses may be written, and what we write ourselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/classic.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void parsing(void **state)
{
	static const struct {
		const char *text, *host; /* host NULL = refused */
		uint16_t port;
	} rows[] = {
		{ "127.0.0.1:15000", "127.0.0.1", 15000 },
		{ "127.0.0.1", "127.0.0.1", 12001 },
		{ "node-7.cluster_a:1", "node-7.cluster_a", 1 },
		{ "/node:65535", "node", 65535 },
		{ "[::1]:80", "::1", 80 },
		{ "[::1]", "::1", 12001 },
		{ "::1", "::1", 12001 },
		{ "::", "::", 12001 },
		{ "fe80::1%eth0", "fe80::1%eth0", 12001 },
		{ "[fe80::1%eth0.5]:9", "fe80::1%eth0.5", 9 },
		{ "::ffff:10.0.0.1", "::ffff:10.0.0.1", 12001 },
		{ "", NULL, 0 },
		{ "/", NULL, 0 },
		{ "//node", NULL, 0 },
		{ ":80", NULL, 0 },
		{ "node:", NULL, 0 },
		{ "node:0", NULL, 0 },
		{ "node:080", NULL, 0 },
		{ "node:65536", NULL, 0 },
		{ "node:123456", NULL, 0 },
		{ "node:-1", NULL, 0 },
		{ "node:+1", NULL, 0 },
		{ "node: 1", NULL, 0 },
		{ "node:8o", NULL, 0 },
		{ "no de:1", NULL, 0 },
		{ "node\n:1", NULL, 0 },
		{ "node%eth0:1", NULL, 0 },
		{ "a:b:c", NULL, 0 },
		{ "[::1", NULL, 0 },
		{ "[::1]80", NULL, 0 },
		{ "[::1]:", NULL, 0 },
		{ "[::1]:0", NULL, 0 },
		{ "[node]:1", NULL, 0 },
		{ "[]:1", NULL, 0 },
		{ "[::1%]:1", NULL, 0 },
		{ "[::1]]:1", NULL, 0 },
		{ "::1]:80", NULL, 0 },
		{ "[1:2:3:4:5:6:7:8:9:1:2:3:4:5:6:7:8:9:1:2:3:4:5:6]", NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char host[64] = "before";
		uint16_t port = 1;
		int status = cw__address_parse(rows[i].text, 12001, host, sizeof(host), &port);

		if (status != (rows[i].host ? CW_OK : CW_ERR_ADDRESS))
			fail_msg("\"%s\": %d", rows[i].text, status);
		assert_string_equal(host, rows[i].host ? rows[i].host : "before");
		assert_int_equal(port, rows[i].host ? rows[i].port : 1);
	}
	assert_int_equal(cw__address_parse(NULL, 1, NULL, 0, NULL), CW_ERR_ADDRESS);
}

static void host_size(void **state)
{
	char host[5];
	uint16_t port;

	(void)state;
	assert_int_equal(cw__address_parse("node:1", 0, host, 5, &port), CW_OK);
	assert_int_equal(cw__address_parse("node:1", 0, host, 4, &port), CW_ERR_ADDRESS);
	assert_int_equal(cw__address_parse("node:1", 0, host, 0, &port), CW_ERR_ADDRESS);
}

static void formatting(void **state)
{
	static const struct {
		const char *host;
		uint16_t port;
		const char *text;
	} rows[] = {
		{ "127.0.0.1", 15000, "127.0.0.1:15000" },
		{ "node", 1, "node:1" },
		{ "::1", 65535, "[::1]:65535" },
		{ "fe80::1%eth0", 9, "[fe80::1%eth0]:9" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t length = strlen(rows[i].text);
		char text[64], host[64];
		uint16_t port;

		assert_int_equal(cw__address_format(rows[i].host, rows[i].port, text, length + 1), length);
		assert_string_equal(text, rows[i].text);
		assert_int_equal(cw__address_parse(text, 0, host, sizeof(host), &port), CW_OK);
		assert_string_equal(host, rows[i].host);
		assert_int_equal(port, rows[i].port);
		for (size_t size = 0; size <= length; size++)
			assert_int_equal(cw__address_format(rows[i].host, rows[i].port, text, size), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parsing),
		cmocka_unit_test(host_size),
		cmocka_unit_test(formatting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
