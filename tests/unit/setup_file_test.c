/* SPDX-License-Identifier: Apache-2.0 */
/* Mooncake's configuration files: the examples of its documentation, both ways to nest keys, and hostile ones. */
#include "setup_world.h"

#include <stdlib.h>
#include <unistd.h>

#define SETTINGS 4

static void taken(void **state)
{
	static const struct {
		const char *text, *settings[SETTINGS], *notice;
	} rows[] = {
		{ "{}", { NULL }, NULL },
		{ " \t\r\n{}\n", { NULL }, NULL },
		{ "{\"local_hostname\": \"localhost\", \"metadata_server\": \"localhost:8080\", \"protocol\": \"tcp\", "
		  "\"device_name\": \"\", \"master_server_address\": \"localhost:8081\"}",
		  { NULL },
		  "master_server_address belongs to Mooncake Store" },
		{ "{\"local_hostname\": \"node1\", \"metadata_server\": \"etcd://10.0.0.1:2379\", "
		  "\"global_segment_size\": \"3GB\", \"local_buffer_size\": \"1GB\", \"protocol\": \"rdma\", "
		  "\"device_name\": \"mlx5_0\", \"master_server_address\": \"10.0.0.1:8081\"}",
		  { NULL },
		  "protocol: rdma is not built yet, tcp is used instead" },
		{ "{\"transports\": {\"tcp\": {\"enable\": true}, \"shm\": {\"enable\": false}}}",
		  { "transports/tcp/enable=on", "transports/shm/enable=off" },
		  NULL },
		{ "{\"transports/tcp/enable\": true, \"transports\": {\"shm/enable\": false}}",
		  { "transports/tcp/enable=on", "transports/shm/enable=off" },
		  NULL },
		{ "{\"transports\": {\"sunrise_link\": {\"enable\": true, \"async_memcpy_threshold\": 4, "
		  "\"enable_port_striping\": true}}}",
		  { "transports/sunrise_link/async_memcpy_threshold=4",
		    "transports/sunrise_link/enable_port_striping=on" },
		  NULL },
		{ "{\"rpc_server_port\": 0, \"log_level\": \"debug\", \"max_failover_attempts\": 3}",
		  { "control/port=0", "log/level=debug", "batch/retries=3" },
		  NULL },
		{ "{\"transports/rdma/device/gid_index\": -1}", { NULL }, "RDMA is not built yet" },
		{ "{\"qos\": {\"any\": [{\"thing\": 1.5e3}]}}", { NULL }, "qos has no effect" },
		{ "{\"qos/any/thing\": {}}", { NULL }, NULL },
		{ "{\"topology\": {\"priority_matrix\": {\"cpu:0\": [[\"mlx5_0\"], []]}}}",
		  { NULL },
		  "priority_matrix" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct setup setup = { .setting_count = 0 };
		struct lines lines = { .count = 0 };
		int status = setup_file(&setup, rows[i].text, collect, &lines);

		if (!strcmp(rows[i].text, "{\"qos/any/thing\": {}}")) {
			assert_int_equal(status, 0);
		} else if (status) {
			fail_msg("%s: %s", rows[i].text, setup.text);
		}
		assert_settings(&setup, rows[i].settings, SETTINGS);
		assert_holds(lines.text, rows[i].notice);
		setup_free(&setup);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		/* Keys. */
		{ "{\"protocl\": \"tcp\"}", "unknown key 'protocl'; did you mean 'protocol'?" },
		{ "{\"transport\": {}}", "unknown key 'transport'; did you mean 'transports'?" },
		{ "{\"transports\": {\"rmda\": {\"enable\": true}}}",
		  "'transports/rmda'; did you mean 'transports/rdma'?" },
		{ "{\"transports\": {\"tcp\": {\"enabel\": true}}}", "did you mean 'transports/tcp/enable'?" },
		{ "{\"transports/tcp/enabel\": true}", "did you mean 'transports/tcp/enable'?" },
		{ "{\"\": 1}", "unknown key ''" },
		{ "{\"/\": 1}", "unknown key" },
		{ "{\"transports/\": 1}", "unknown key" },
		{ "{\"transports\": 1}", "transports must be an object" },
		{ "{\"transports\": [1]}", "transports must be an object" },
		{ "{\"transports\": {\"rdma\": null}}", "transports/rdma must be an object" },
		{ "{\"metrics\": {\"enabled\": {\"x\": 1}}}", "metrics/enabled must be true or false" },
		{ "{\"protocol\": \"tcp\", \"protocol\": \"tcp\"}", "a member appears twice" },
		{ "{\"protocol\": \"tcp\", \"proto\\u0063ol\": \"tcp\"}", "a member appears twice" },
		{ "{\"transports/tcp/enable\": true, \"transports\": {\"tcp\": {\"enable\": true}}}",
		  "is given twice" },
		/* Values. */
		{ "{\"protocol\": \"xgmi\"}", "there is no protocol 'xgmi'" },
		{ "{\"protocol\": 1}", "protocol must be a text" },
		{ "{\"protocol\": null}", "protocol must be a text" },
		{ "{\"local_hostname\": {}}", "local_hostname must be a text" },
		{ "{\"rpc_server_port\": \"15000\"}", "rpc_server_port must be a whole number" },
		{ "{\"rpc_server_port\": 1.5}", "rpc_server_port must be a whole number" },
		{ "{\"rpc_server_port\": 1e3}", "rpc_server_port must be a whole number" },
		{ "{\"rpc_server_port\": 65536}", "65536 is not from 0 to 65535" },
		{ "{\"rpc_server_port\": -1}", "-1 is not from 0 to 65535" },
		{ "{\"rpc_server_port\": 18446744073709551615}", "is not from 0 to 65535" },
		{ "{\"rpc_server_threads\": 1025}", "1025 is not from 1 to 1024" },
		{ "{\"merge_requests\": 1}", "merge_requests must be true or false" },
		{ "{\"merge_requests\": \"true\"}", "merge_requests must be true or false" },
		{ "{\"metadata_servers\": [1]}", "a short list of texts" },
		{ "{\"metadata_servers\": {}}", "a short list of texts" },
		{ "{\"log_level\": \"loud\"}", "'loud' is not trace" },
		/* What is no JSON. */
		{ "{", "not the JSON we accept" },
		{ "{}{}", "not the JSON we accept" },
		{ "{} x", "not the JSON we accept" },
		{ "{\"a\": 1,}", "not the JSON we accept" },
		{ "{'protocol': 'tcp'}", "not the JSON we accept" },
		{ "{\"protocol\": tcp}", "not the JSON we accept" },
		{ "{\"protocol\": \"a\nb\"}", "not the JSON we accept" },
		{ "{\"protocol\": \"\\u0000\"}", "not the JSON we accept" },
		{ "{\"protocol\": \"\xff\"}", "not the JSON we accept" },
		{ "{// comment\n}", "not the JSON we accept" },
		{ "{\"rpc_server_port\": 99999999999999999999}", "not the JSON we accept" },
		{ "{\"rpc_server_port\": NaN}", "not the JSON we accept" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct setup setup = { .setting_count = 0 };

		if (!setup_file(&setup, rows[i].text, NULL, NULL))
			fail_msg("taken: %s", rows[i].text);
		assert_holds(setup.text, rows[i].why);
		assert_null(strchr(setup.text, '\n'));
		setup_free(&setup);
	}
}

/* Texts too long to write down. */
static void long_ones(void **state)
{
	struct setup setup = { .setting_count = 0 };
	char *text = malloc(400000);

	(void)state;
	memset(text, '{', 1000);
	for (size_t i = 0; i < 200; i++)
		memcpy(text + 5 * i, "{\"a\":", 5);
	text[1000] = '\0';
	assert_int_equal(setup_file(&setup, text, NULL, NULL), -1);
	memcpy(text, "{\"", 2);
	memset(text + 2, 'k', 390000);
	memcpy(text + 390002, "\": 1}", 6);
	assert_int_equal(setup_file(&setup, text, NULL, NULL), -1);
	assert_holds(setup.text, "too long");
	memcpy(text, "{\"local_hostname\": \"", 20);
	memcpy(text + 390002, "\"}", 3);
	assert_int_equal(setup_file(&setup, text, NULL, NULL), -1);
	assert_holds(setup.text, "longer than 255 bytes");
	memcpy(text, "{\"metadata_servers\": [\"", 23);
	memcpy(text + 390002, "\"]}", 4);
	assert_int_equal(setup_file(&setup, text, NULL, NULL), -1);
	setup_free(&setup);
	free(text);
}

static void write_file(const char *path, const char *text, size_t padding)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fputs(text, file);
	while (padding--)
		fputc(' ', file);
	assert_int_equal(fclose(file), 0);
}

static void from_disk(void **state)
{
	struct setup setup = { .setting_count = 0 };
	char path[] = "/tmp/causeway_setup_XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	write_file(path, "{\"transports/shm/enable\": false}", 0);
	assert_int_equal(setup_file(&setup, path, NULL, NULL), 0);
	assert_string_equal(setting_of(&setup, "transports/shm/enable"), "off");
	write_file(path, "{\"shm\": false}", 0);
	assert_int_equal(setup_file(&setup, path, NULL, NULL), -1);
	assert_holds(setup.text, path);
	write_file(path, "{}", 1u << 20);
	assert_int_equal(setup_file(&setup, path, NULL, NULL), -1);
	assert_holds(setup.text, "larger than 1 MiB");
	write_file(path, "", 0);
	assert_int_equal(setup_file(&setup, path, NULL, NULL), -1);
	unlink(path);
	assert_int_equal(setup_file(&setup, path, NULL, NULL), -1);
	assert_holds(setup.text, "No such file or directory");
	assert_int_equal(setup_file(&setup, "/tmp", NULL, NULL), -1);
	assert_holds(setup.text, "cannot be read");
	assert_int_equal(setup_file(&setup, "", NULL, NULL), -1);
	assert_int_equal(setup_file(&setup, NULL, NULL, NULL), -1);
	setup_free(&setup);
}

/* tent_set_config(): one key at a time; values are texts. */
static void keys(void **state)
{
	static const struct {
		const char *key, *value, *setting, *why;
	} rows[] = {
		{ "transports/tcp/enable", "false", "transports/tcp/enable=off", NULL },
		{ "transports/shm/enable", "1", "transports/shm/enable=on", NULL },
		{ "rpc_server_port", "17001", "control/port=17001", NULL },
		{ "log_level", "warning", "log/level=warn", NULL },
		{ "metadata_type", "p2p", NULL, NULL },
		{ "topology/rdma_whitelist", "[\"mlx5_0\"]", NULL, NULL },
		{ "rpc_server_port", "70000", NULL, "not from 0 to 65535" },
		{ "rpc_server_port", "", NULL, "not a whole number" },
		{ "merge_requests", "maybe", NULL, "neither on nor off" },
		{ "transports/tcp/enabled", "1", NULL, "did you mean 'transports/tcp/enable'?" },
		{ NULL, "1", NULL, "NULL" },
		{ "log_level", NULL, NULL, "NULL" },
	};
	struct setup setup = { .setting_count = 0 };

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		int status = setup_key(&setup, rows[i].key, rows[i].value, NULL, NULL);

		assert_int_equal(status, rows[i].why ? -1 : 0);
		assert_holds(setup.text, rows[i].why);
		assert_settings(&setup, &rows[i].setting, 1);
	}
	setup_free(&setup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken),     cmocka_unit_test(refused), cmocka_unit_test(long_ones),
		cmocka_unit_test(from_disk), cmocka_unit_test(keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
