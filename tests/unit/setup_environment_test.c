/* SPDX-License-Identifier: Apache-2.0 */
/* What variables mean that are more than a setting: alone, together, misspelt, and with values that nobody meant. */
#include "setup_world.h"

#define VARIABLES 5
#define SETTINGS 4

/* Texts of a line end with a NULL or with their array. */
struct line {
	const char *variables[VARIABLES]; /* "NAME=value" */
	const char *settings[SETTINGS];   /* "key=value" that come of it */
	const char *notice;               /* in one of the lines; NULL = not looked at */
	const char *refused;              /* in setup.text; NULL = taken */
};

static void put(const char *const *variables)
{
	clearenv();
	for (size_t i = 0; i < VARIABLES && variables[i]; i++) {
		char *copy = strdup(variables[i]), *equals = strchr(copy, '=');

		*equals = '\0';
		setenv(copy, equals + 1, 1);
		free(copy);
	}
}

static void run(const struct line *line, struct setup *setup_out, struct lines *lines_out)
{
	int status;

	memset(setup_out, 0, sizeof(*setup_out));
	memset(lines_out, 0, sizeof(*lines_out));
	put(line->variables);
	status = setup_environment(setup_out, collect, lines_out);
	if (line->refused) {
		assert_int_equal(status, -1);
		assert_holds(setup_out->text, line->refused);
	} else if (status) {
		fail_msg("%s: %s", line->variables[0], setup_out->text);
	}
	assert_holds(lines_out->text, line->notice);
	assert_settings(setup_out, line->settings, SETTINGS);
}

static const struct line rows[] = {
	{ { NULL }, { NULL }, NULL, NULL },
	/* Which way bytes go. */
	{ { "MC_FORCE_TCP=1" },
	  { "transports/shm/enable=off", "transports/sunrise_link/enable=off", "transports/nvlink_intra/enable=off" },
	  NULL,
	  NULL },
	{ { "MC_FORCE_TCP=anything" }, { "transports/shm/enable=off" }, NULL, NULL },
	{ { "MC_FORCE_TCP=0" }, { NULL }, "MC_FORCE_TCP=0 is taken as off; Mooncake takes any value as on", NULL },
	{ { "MC_INTRANODE_NVLINK=true" }, { "transports/nvlink_intra/enable=on" }, NULL, NULL },
	{ { "MC_INTRA_NVLINK=true" }, { "transports/nvlink_intra/enable=on" }, "MC_INTRANODE_NVLINK", NULL },
	{ { "MC_FORCE_MNNVL=true" }, { NULL }, "tcp between machines", NULL },
	{ { "MC_FORCE_MNNVL=true", "MC_INTRANODE_NVLINK=true" }, { NULL }, NULL, "exclude each other" },
	{ { "MC_FORCE_MNNVL=true", "MC_INTRA_NVLINK=1" }, { NULL }, NULL, "exclude each other" },
	{ { "MC_FORCE_MNNVL=true", "MC_INTRANODE_NVLINK=0" }, { NULL }, NULL, NULL },
	{ { "MC_FORCE_TCP=1", "MC_INTRANODE_NVLINK=1" },
	  { "transports/nvlink_intra/enable=off" },
	  "MC_FORCE_TCP is set",
	  NULL },
	/* Ports. */
	{ { "MC_MIN_RPC_PORT=20000", "MC_MAX_RPC_PORT=21000" },
	  { "control/port_min=20000", "control/port_max=21000" },
	  NULL,
	  NULL },
	{ { "MC_MIN_RPC_PORT=16000" }, { "control/port_min=16000", "control/port_max=17000" }, NULL, NULL },
	{ { "MC_MIN_PRC_PORT=20000", "MC_MAX_PRC_PORT=21000" },
	  { "control/port_min=20000", "control/port_max=21000" },
	  NULL,
	  NULL },
	{ { "MC_MIN_PRC_PORT=16500", "MC_MIN_RPC_PORT=16000" }, { "control/port_min=16000" }, NULL, NULL },
	{ { "MC_MIN_RPC_PORT=80", "MC_MAX_RPC_PORT=90" },
	  { "control/port_min=15000", "control/port_max=17000" },
	  "below 1024",
	  NULL },
	{ { "MC_MAX_RPC_PORT=40000" }, { "control/port_max=17000" }, NULL, NULL },
	{ { "MC_MIN_RPC_PORT=17000", "MC_MAX_RPC_PORT=16000" }, { "control/port_max=17000" }, NULL, NULL },
	{ { "MC_MIN_RPC_PORT=61000", "MC_MAX_RPC_PORT=65535" },
	  { "control/port_min=61000", "control/port_max=65535" },
	  NULL,
	  NULL },
	{ { "MC_MIN_RPC_PORT=70000" }, { NULL }, "MC_MIN_RPC_PORT is ignored", NULL },
	{ { "MC_MIN_RPC_PORT=0" }, { "control/port_min=15000" }, NULL, NULL },
	{ { "MC_MIN_RPC_PORT=a" }, { NULL }, NULL, "MC_MIN_RPC_PORT: 'a' is not a whole number" },
	/* Settings with a conversion. */
	{ { "MC_HANDSHAKE_CONNECT_TIMEOUT=7" }, { "control/connect_timeout=7000" }, NULL, NULL },
	{ { "MC_HANDSHAKE_CONNECT_TIMEOUT=1.5" }, { NULL }, NULL, "whole number" },
	{ { "MC_HANDSHAKE_MAX_LENGTH=2097152" }, { "control/classic_max_length=2097152" }, NULL, NULL },
	{ { "MC_HANDSHAKE_MAX_LENGTH=5" }, { NULL }, "from 1048576 to 134217728", NULL },
	{ { "MC_TCP_PROTO=1" }, { "tcp/classic_protocol=1" }, NULL, NULL },
	{ { "MC_TCP_MAX_CONNECTIONS_PER_PEER=3", "MC_TCP_LANES_PER_PEER=5" }, { "tcp/connections=5" }, NULL, NULL },
	{ { "MC_RETRY_CNT=0" }, { "batch/retries=0" }, NULL, NULL },
	{ { "MC_RETRY_CNT= 7" }, { NULL }, NULL, "MC_RETRY_CNT" },
	{ { "MC_RETRY_CNT=" }, { NULL }, NULL, NULL },
	{ { "MC_METADATA_CLUSTER_ID=a/b", "MC_REDIS_USERNAME=u", "MC_REDIS_PASSWORD=p w", "MC_REDIS_DB_INDEX=3" },
	  { "metadata/cluster=a/b", "metadata/user=u", "metadata/password=p w", "metadata/database=3" },
	  NULL,
	  NULL },
	{ { "MC_LOG_LEVEL=WARNING" }, { "log/level=warn" }, NULL, NULL },
	{ { "MC_LOG_LEVEL=trace" }, { "log/level=trace" }, NULL, NULL },
	{ { "MC_LOG_LEVEL=loud" }, { NULL }, NULL, "MC_LOG_LEVEL: 'loud' is not trace" },
	/* Names of nobody. */
	{ { "MC_FORCETCP=1" }, { NULL }, "MC_FORCETCP is no variable", NULL },
	{ { "MC_FORCE_TPC=1" }, { NULL }, "did you mean MC_FORCE_TCP?", NULL },
	{ { "MC_=1" }, { NULL }, "MC_ is no variable", NULL },
	{ { "MOONCAKE_PROTOCL=tcp" }, { NULL }, "did you mean MOONCAKE_PROTOCOL?", NULL },
	/* Values for what the program would say. */
	{ { "MOONCAKE_PROTOCOL=rdma" },
	  { NULL },
	  "MOONCAKE_PROTOCOL: rdma is not built yet, tcp is used instead",
	  NULL },
	{ { "MOONCAKE_PROTOCOL=xgmi" }, { NULL }, NULL, NULL },
	{ { "MC_TENT_CONF={\"protocol\": \"xgmi\"}" }, { NULL }, "there is no protocol 'xgmi'", NULL },
	{ { "MOONCAKE_DEVICE=mlx5_0" }, { NULL }, "MOONCAKE_DEVICE has no effect", NULL },
	/* Files. */
	{ { "MC_TENT_CONF={\"transports/shm/enable\": false}" }, { "transports/shm/enable=off" }, NULL, NULL },
	{ { "MC_TENT_CONF={\"log_level\": \"info\"}", "MC_LOG_LEVEL=ERROR" }, { "log/level=error" }, NULL, NULL },
	{ { "MC_TENT_CONF={\"rdma\": 1}" }, { NULL }, NULL, "MC_TENT_CONF: unknown key 'rdma'" },
	{ { "MOONCAKE_CONFIG_PATH=/nowhere/mooncake.json" }, { NULL }, NULL, "/nowhere/mooncake.json: cannot be read" },
};

static void lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct setup setup;
		struct lines said;

		run(&rows[i], &setup, &said);
		setup_free(&setup);
	}
}

/* Values that go into the struct, not into settings. */
static void fields(void **state)
{
	static const struct line local = { .variables = { "LOCAL_HOSTNAME=b", "MOONCAKE_LOCAL_HOSTNAME=a",
							  "MOONCAKE_TE_META_DATA_SERVER=P2PHANDSHAKE",
							  "MOONCAKE_PROTOCOL=tcp", "MOONCAKE_DEVICE=Auto-discovery" } };
	static const struct line time = { .variables = { "MC_TRANSFER_TIMEOUT=40", "MC_TE_METRIC=true" } };
	static const struct line least = { .variables = { "MC_TRANSFER_TIMEOUT=2", "MC_TE_METRIC=1",
							  "MC_TE_METRIC_INTERVAL_SECONDS=0.5" },
					   .notice = "raised to the least there is, 5 s" };
	static const struct line network = { .variables = { "MC_TCP_BIND_ADDRESS=10.0.0.7", "MC_USE_IPV6=1",
							    "MC_LEGACY_RPC_PORT_BINDING=1",
							    "MC_TE_METRIC_INTERVAL_SECONDS=7" } };
	struct setup setup;
	struct lines said;

	(void)state;
	run(&local, &setup, &said);
	assert_string_equal(setup.local_hostname, "a");
	assert_string_equal(setup.metadata_server, "P2PHANDSHAKE");
	assert_string_equal(setup.protocol, "tcp");
	assert_string_equal(setup.device_name, "");
	assert_int_equal(said.count, 0);
	setup_free(&setup);

	run(&time, &setup, &said);
	assert_int_equal(setup.transfer_timeout_ns, 40000000000u);
	assert_true(setup.metric_interval == 5);
	setup_free(&setup);

	run(&least, &setup, &said);
	assert_int_equal(setup.transfer_timeout_ns, 5000000000u);
	assert_true(setup.metric_interval == 0.5);
	setup_free(&setup);

	run(&network, &setup, &said);
	assert_string_equal(setup.bind_address, "10.0.0.7");
	assert_int_equal(setup.use_ipv6, 1);
	assert_int_equal(setup.legacy_binding, 1);
	assert_true(setup.metric_interval == 0);
	setup_free(&setup);
}

/* No name may be longer than its field, and nobody has to listen to lines. */
static void limits(void **state)
{
	struct setup setup = { .setting_count = 0 };
	char text[300];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	clearenv();
	setenv("MOONCAKE_LOCAL_HOSTNAME", text, 1);
	assert_int_equal(setup_environment(&setup, NULL, NULL), -1);
	assert_string_equal(setup.text, "MOONCAKE_LOCAL_HOSTNAME: longer than 255 bytes");
	assert_string_equal(setup.local_hostname, "");
	clearenv();
	setenv("MC_GID_INDEX", "3", 1);
	setenv(text, "1", 1);
	memcpy(text, "MC_", 3);
	setenv(text, "1", 1);
	assert_int_equal(setup_environment(&setup, NULL, NULL), 0);
	for (int i = 0; i < SETUP_SETTINGS_MAX; i++) {
		snprintf(text, sizeof(text), "key/%d", i);
		assert_int_equal(setup_set(&setup, text, "1"), 0);
	}
	assert_int_equal(setup_set(&setup, "key/0", "2"), 0);
	assert_string_equal(setting_of(&setup, "key/0"), "2");
	assert_int_equal(setup_set(&setup, "one more", "1"), -1);
	assert_holds(setup.text, "more than 96 settings");
	setup_free(&setup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(fields),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
