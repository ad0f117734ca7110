/* SPDX-License-Identifier: Apache-2.0 */
/* Connection strings, server names and protocols: every form that programs give, and what an engine is told. */
#include "setup_world.h"

static void names(void **state)
{
	static const struct {
		const char *name, *engine, *bind; /* engine NULL = refused, with bind in the text */
	} rows[] = {
		{ "127.0.0.1", "127.0.0.1", "" },
		{ "127.0.0.1:15000", "127.0.0.1", "" },
		{ "127.0.0.1:0", "127.0.0.1", "" },
		{ "127.0.0.1:15000:npu_0", "127.0.0.1", "" },
		{ "localhost", "localhost", "" },
		{ "localhost:12345", "localhost", "" },
		{ "node1", "node1", "0.0.0.0" },
		{ "node-1.cluster_2:80:npu_15", "node-1.cluster_2", "0.0.0.0" },
		{ "203.0.113.9", "203.0.113.9", "0.0.0.0" },
		{ "[2001:db8::9]", "[2001:db8::9]", "::" },
		{ "[2001:db8::9]:80", "[2001:db8::9]", "::" },
		{ "[2001:db8::9]:0", "[2001:db8::9]", "::" },
		{ "[2001:db8::9]:80:npu_3", "[2001:db8::9]", "::" },
		{ "2001:db8::9", "[2001:db8::9]", "::" },
		{ "2001:db8::", "[2001:db8::]", "::" },
		{ "2001:db8::1:0", "[2001:db8::1:0]", "::" },
		{ "fe80::1%eth7", "[fe80::1%eth7]", "::" },
		{ "[fe80::1%eth7]:1", "[fe80::1%eth7]", "::" },
		{ "node1:", NULL, "neither HOST" },
		{ ":80", NULL, "neither HOST" },
		{ ":", NULL, "neither HOST" },
		{ "node1:65536", NULL, "neither HOST" },
		{ "node1:-1", NULL, "neither HOST" },
		{ "node1:http", NULL, "neither HOST" },
		{ "node1:80:90", NULL, "neither HOST" },
		{ "node1:80:npu_", NULL, "neither HOST" },
		{ "[::1", NULL, "neither HOST" },
		{ "[::1]]", NULL, "neither HOST" },
		{ "[]", NULL, "neither HOST" },
		{ "two words", NULL, "neither HOST" },
		{ "line\nbreak", NULL, "neither HOST" },
		{ "", NULL, "the engine has no name" },
		{ NULL, NULL, "the engine has no name" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct setup setup = { .setting_count = 0 };
		char name[300] = "";
		int status = setup_identity(&setup, "P2PHANDSHAKE", rows[i].name, name, sizeof(name));

		if (!rows[i].engine) {
			assert_int_equal(status, -1);
			assert_holds(setup.text, rows[i].bind);
			assert_string_equal(name, "");
			continue;
		}
		if (status)
			fail_msg("%s: %s", rows[i].name, setup.text);
		assert_string_equal(name, rows[i].engine);
		assert_string_equal(setting_of(&setup, "control/bind"), rows[i].bind);
		assert_string_equal(setting_of(&setup, "metadata/url"), "p2p");
		assert_string_equal(setting_of(&setup, "control/port_min"), "15000");
		assert_string_equal(setting_of(&setup, "control/port_max"), "17000");
		assert_null(setting_of(&setup, "metadata/name"));
		setup_free(&setup);
	}
}

static void long_names(void **state)
{
	struct setup setup = { .setting_count = 0 };
	char text[2000], name[300], small[5];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(setup_identity(&setup, "P2PHANDSHAKE", text, name, sizeof(name)), -1);
	text[254] = '\0';
	assert_int_equal(setup_identity(&setup, "P2PHANDSHAKE", text, name, sizeof(name)), -1);
	assert_holds(setup.text, "longer than 253 characters");
	text[253] = '\0';
	assert_int_equal(setup_identity(&setup, "P2PHANDSHAKE", text, name, sizeof(name)), 0);
	assert_int_equal(setup_identity(&setup, "P2PHANDSHAKE", "localhost", small, sizeof(small)), -1);
	assert_holds(setup.text, "longer than its buffer");
	assert_int_equal(setup_identity(&setup, "P2PHANDSHAKE", "localhost", NULL, 0), -1);
	memset(text, 'a', sizeof(text) - 1);
	memcpy(text, "http://", 7);
	assert_int_equal(setup_identity(&setup, text, "localhost", name, sizeof(name)), -1);
	assert_holds(setup.text, "longer than");
	setup_free(&setup);
}

static void stores(void **state)
{
	static const struct {
		const char *backend, *server, *url; /* url NULL = refused */
	} rows[] = {
		{ "", "P2PHANDSHAKE", "p2p" },
		{ "", "p2phandshake", "p2p" },
		{ "", "p2p", "p2p" },
		{ "", "etcd://10.0.0.1:2379", "etcd://10.0.0.1:2379" },
		{ "", "etcd://a:2379;b:2379,c:2379", "etcd://a:2379,b:2379,c:2379" },
		{ "", "localhost:8080", "etcd://localhost:8080" },
		{ "", "10.0.0.1", "etcd://10.0.0.1" },
		{ "", "[::1]:2379", "etcd://[::1]:2379" },
		{ "", "http://node:8080/metadata", "http://node:8080/metadata" },
		{ "", "http://node:8080/a;b?c=d&e=%20", "http://node:8080/a;b?c=d&e=%20" },
		{ "", "https://node/metadata", "https://node/metadata" },
		{ "", "redis://node:6379", "redis://node:6379" },
		{ "redis", "node:6379", "redis://node:6379" },
		{ "http", "node:8080/metadata", "http://node:8080/metadata" },
		{ "etcd", "http://node:8080/metadata", "http://node:8080/metadata" },
		{ "p2p", "anything", "p2p" },
		{ "p2p", NULL, "p2p" },
		{ "p2p", "", "p2p" },
		{ "zookeeper", "node:2181", NULL },
		{ "", "zookeeper://node:2181", NULL },
		{ "", "ETCD://node:2379", NULL },
		{ "", "etcds://node:2379", NULL },
		{ "", "etc://node", NULL },
		{ "", "http://", NULL },
		{ "", "://node", NULL },
		{ "", "http://no de", NULL },
		{ "", "http://node\n", NULL },
		{ "",
		  "http://n\xc3\xb6"
		  "de",
		  NULL },
		{ "", "", NULL },
		{ "", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct setup setup = { .setting_count = 0 };
		char name[300];
		int status;

		snprintf(setup.metadata_backend, sizeof(setup.metadata_backend), "%s", rows[i].backend);
		status = setup_identity(&setup, rows[i].server, "localhost", name, sizeof(name));
		assert_int_equal(status, rows[i].url ? 0 : -1);
		if (!rows[i].url)
			assert_holds(setup.text, "metadata server");
		else
			assert_string_equal(setting_of(&setup, "metadata/url"), rows[i].url);
		setup_free(&setup);
	}
}

/* With a store a name is a name, and the address is this machine's. */
static void names_in_stores(void **state)
{
	struct setup setup = { .setting_count = 0 };
	char name[300];

	(void)state;
	assert_int_equal(setup_identity(&setup, "http://s/", "localhost:8080", name, sizeof(name)), 0);
	assert_string_equal(setting_of(&setup, "metadata/name"), "localhost:8080");
	assert_string_equal(name, "localhost");
	assert_int_equal(setup_identity(&setup, "http://s/", "127.0.0.1:17:npu_0", name, sizeof(name)), 0);
	assert_string_equal(setting_of(&setup, "metadata/name"), "127.0.0.1:17:npu_0");
	assert_string_equal(name, "127.0.0.1");
	/* Which address that is depends on the machine; it is not the name. */
	assert_int_equal(setup_identity(&setup, "http://s/", "prefill_0", name, sizeof(name)), 0);
	assert_string_equal(setting_of(&setup, "metadata/name"), "prefill_0");
	assert_string_not_equal(name, "prefill_0");
	assert_string_equal(setting_of(&setup, "control/bind"), "");
	setup.use_ipv6 = 1;
	assert_int_equal(setup_identity(&setup, "http://s/", "prefill_0", name, sizeof(name)), 0);
	assert_int_equal(name[0], '[');
	setup_free(&setup);
}

/* What variables add to a name. */
static void with_variables(void **state)
{
	static const struct {
		const char *server, *name, *bind_address;
		int use_ipv6, legacy_binding;
		const char *engine, *settings[4];
	} rows[] = {
		{ "P2PHANDSHAKE", "node1", "", 1, 0, "node1", { "control/bind=::" } },
		{ "P2PHANDSHAKE", "localhost:77", "", 0, 1, "localhost:77", { "control/bind=" } },
		{ "P2PHANDSHAKE", "[2001:db8::9]:77", "", 0, 1, "[2001:db8::9]:77", { "control/bind=::" } },
		{ "P2PHANDSHAKE",
		  "127.0.0.1",
		  "127.0.0.1",
		  0,
		  0,
		  "127.0.0.1",
		  { "control/bind=", "engine/advertise=127.0.0.1" } },
		{ "P2PHANDSHAKE",
		  "127.0.0.1",
		  "127.0.0.2",
		  0,
		  0,
		  "127.0.0.1",
		  { "control/bind=0.0.0.0", "engine/advertise=127.0.0.2" } },
		{ "http://s/",
		  "prefill_0",
		  "127.0.0.2",
		  0,
		  0,
		  "127.0.0.2",
		  { "control/bind=", "engine/advertise=127.0.0.2", "metadata/name=prefill_0",
		    "metadata/required=on" } },
		{ "http://s/",
		  "prefill_0",
		  "2001:db8::9",
		  0,
		  0,
		  "[2001:db8::9]",
		  { "control/bind=::", "engine/advertise=2001:db8::9" } },
		{ "http://s/", "localhost:8080", "", 0, 1, "localhost:8080", { "metadata/name=localhost:8080" } },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct setup setup = { .use_ipv6 = rows[i].use_ipv6, .legacy_binding = rows[i].legacy_binding };
		char name[300];

		snprintf(setup.bind_address, sizeof(setup.bind_address), "%s", rows[i].bind_address);
		if (setup_identity(&setup, rows[i].server, rows[i].name, name, sizeof(name)))
			fail_msg("%s: %s", rows[i].name, setup.text);
		assert_string_equal(name, rows[i].engine);
		assert_settings(&setup, rows[i].settings, COUNT(rows[i].settings));
		setup_free(&setup);
	}
}

/* What a file or variable said stands in for what the program leaves out. */
static void left_out(void **state)
{
	struct setup setup = { .setting_count = 0 };
	char name[300];

	(void)state;
	assert_int_equal(setup_file(&setup,
				    "{\"local_hostname\": \"localhost\", \"metadata_type\": \"redis\", "
				    "\"metadata_servers\": [\"a:1\", \"b:2\"]}",
				    NULL, NULL),
			 0);
	assert_int_equal(setup_identity(&setup, NULL, NULL, name, sizeof(name)), 0);
	assert_string_equal(name, "localhost");
	assert_string_equal(setting_of(&setup, "metadata/url"), "redis://a:1,b:2");
	assert_int_equal(setup_identity(&setup, "P2PHANDSHAKE", "127.0.0.1", name, sizeof(name)), 0);
	assert_string_equal(name, "127.0.0.1");
	assert_string_equal(setting_of(&setup, "metadata/url"), "p2p");
	setup_free(&setup);
}

static void protocols(void **state)
{
	static const struct {
		const char *name, *transports, *used;
	} rows[] = {
		{ "tcp", "tcp", "" },
		{ "sunrise_link", "sunrise_link", "" },
		{ "nvlink_intra", "nvlink_intra", "" },
		{ "rdma", "shm,tcp", "tcp" },
		{ "nvlink", "nvlink_intra,tcp", "nvlink_intra inside a machine, tcp between machines" },
		{ "xgmi", NULL, NULL },
		{ "", NULL, NULL },
		{ "TCP", NULL, NULL },
		{ NULL, NULL, NULL },
	};
	/* All that Mooncake's sources and pages name. */
	static const char *const known[] = { "rdma",  "barex", "tcp",     "nvmeof", "nccl",         "ascend",
					     "hip",   "maca",  "musa",    "nvlink", "cxl",          "nvlink_intra",
					     "efa",   "cxi",   "ubshmem", "ub",     "sunrise_link", "ascend_direct",
					     "mnnvl", "shm",   "gds",     "tpu",    "io_uring",     "mpcomm" };
	const char *used;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		const char *transports = setup_protocol(rows[i].name, &used);

		assert_int_equal(!transports, !rows[i].transports);
		if (transports) {
			assert_string_equal(transports, rows[i].transports);
			assert_string_equal(used, rows[i].used);
		}
	}
	for (size_t i = 0; i < COUNT(known); i++)
		assert_non_null(setup_protocol(known[i], NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),           cmocka_unit_test(long_names),     cmocka_unit_test(stores),
		cmocka_unit_test(names_in_stores), cmocka_unit_test(with_variables), cmocka_unit_test(left_out),
		cmocka_unit_test(protocols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
