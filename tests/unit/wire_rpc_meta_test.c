/* SPDX-License-Identifier: Apache-2.0 */
/* The document of a metadata store that says where an engine listens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/classic.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void decodes(void **state)
{
	static const struct {
		const char *json, *host;
		uint16_t port;
	} rows[] = {
		{ "{\"ip_or_host_name\":\"192.0.2.2\",\"rpc_port\":15040}\n", "192.0.2.2", 15040 },
		{ "{\"rpc_port\":1,\"ip_or_host_name\":\"node-3.rack_7\"}", "node-3.rack_7", 1 },
		{ "{\"ip_or_host_name\":\"fe80::1%eth0\",\"rpc_port\":65535}", "fe80::1%eth0", 65535 },
		{ "{\"ip_or_host_name\":\"[2001:db8::1]\",\"rpc_port\":2}", "2001:db8::1", 2 },
		{ "{\"ip_or_host_name\":\"h\",\"rpc_port\":2,\"more\":[{}]}", "h", 2 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct cw__rpc_meta meta;
		char why[100] = "";

		if (cw__rpc_meta_decode(rows[i].json, strlen(rows[i].json), &meta, why, sizeof(why)))
			fail_msg("%s: %s", rows[i].json, why);
		assert_string_equal(meta.host, rows[i].host);
		assert_int_equal(meta.port, rows[i].port);
	}
}

static void refuses(void **state)
{
	static const char *const rows[] = {
		"",
		"null",
		"[]",
		"{}",
		"{\"ip_or_host_name\":\"h\"}",
		"{\"rpc_port\":1}",
		"{\"ip_or_host_name\":\"\",\"rpc_port\":1}",
		"{\"ip_or_host_name\":\"h:1\",\"rpc_port\":1}",
		"{\"ip_or_host_name\":\"[::1]:5\",\"rpc_port\":1}",
		"{\"ip_or_host_name\":\"/h\",\"rpc_port\":1}",
		"{\"ip_or_host_name\":\"h i\",\"rpc_port\":1}",
		"{\"ip_or_host_name\":1,\"rpc_port\":1}",
		"{\"ip_or_host_name\":\"h\",\"rpc_port\":0}",
		"{\"ip_or_host_name\":\"h\",\"rpc_port\":-1}",
		"{\"ip_or_host_name\":\"h\",\"rpc_port\":65536}",
		"{\"ip_or_host_name\":\"h\",\"rpc_port\":\"1\"}",
		"{\"ip_or_host_name\":\"h\",\"rpc_port\":1.5}",
		"{\"ip_or_host_name\":\"h\",\"rpc_port\":1,\"rpc_port\":2}",
		"{\"ip_or_host_name\":\"h\",\"rpc_port\":1}x",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct cw__rpc_meta meta = { "untouched", 9 };
		char why[100] = "";

		if (cw__rpc_meta_decode(rows[i], strlen(rows[i]), &meta, why, sizeof(why)) != CW_ERR_PROTOCOL || !*why)
			fail_msg("%s", rows[i]);
		assert_string_equal(meta.host, "untouched");
	}
}

static void encodes(void **state)
{
	static const struct {
		struct cw__rpc_meta meta;
		const char *json;
	} rows[] = {
		{ { "10.0.0.2", 15000 }, "{\"ip_or_host_name\":\"10.0.0.2\",\"rpc_port\":15000}\n" },
		{ { "[::1]", 1 }, "{\"ip_or_host_name\":\"::1\",\"rpc_port\":1}\n" },
		{ { "node", 65535 }, "{\"ip_or_host_name\":\"node\",\"rpc_port\":65535}\n" },
		{ { "", 1 }, NULL },
		{ { "node", 0 }, NULL },
		{ { "no de", 1 }, NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t length = 0;
		char *json = cw__rpc_meta_encode(&rows[i].meta, &length);

		assert_int_equal(json != NULL, rows[i].json != NULL);
		if (json) {
			assert_string_equal(json, rows[i].json);
			assert_int_equal(length, strlen(json));
		}
		free(json);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes),
		cmocka_unit_test(refuses),
		cmocka_unit_test(encodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
