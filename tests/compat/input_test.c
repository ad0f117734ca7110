/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments that are wrong: each gives the code that programs know, in bounded time, and changes nothing. */
#include "world.h"

static char overlong[400];

static void creation(void **state)
{
	static const char *const bad_names[] = {
		"", "[::1", "::1]:5", "host:port", "a b", "127.0.0.1:99999", overlong
	};
	static const char *const bad_stores[] = { "", "ftp://a", "http://", "etcd://", overlong };

	(void)state;
	memset(overlong, 'a', sizeof(overlong) - 1);
	assert_null(createTransferEngine(NULL, "127.0.0.1", "", 0, 1));
	assert_null(createTransferEngine("P2PHANDSHAKE", NULL, "", 0, 1));
	for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++)
		assert_null(createTransferEngine("P2PHANDSHAKE", bad_names[i], NULL, UINT64_MAX, 1));
	for (size_t i = 0; i < sizeof(bad_stores) / sizeof(bad_stores[0]) - 1; i++)
		assert_null(createTransferEngine(bad_stores[i], "127.0.0.1", "", 0, 1));
}

/* The port in a name is not this engine's own in peer-to-peer mode. */
static void names(void **state)
{
	static const struct {
		const char *given, *starts;
	} rows[] = {
		{ "127.0.0.1", "127.0.0.1:" }, { "127.0.0.1:12345", "127.0.0.1:" },
		{ "localhost", "localhost:" }, { "[::1]:12345", "[::1]:" },
		{ "::1", "[::1]:" },
	};
	char name[64];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", rows[i].given, NULL, 0, 0);
		unsigned long port;
		size_t length;

		if (!engine && strchr(rows[i].starts, '['))
			continue; /* no IPv6 here */
		assert_non_null(engine);
		assert_int_equal(getLocalIpAndPort(engine, name, sizeof(name)), 0);
		length = strlen(name);
		assert_memory_equal(name, rows[i].starts, strlen(rows[i].starts));
		port = strtoul(strrchr(name, ':') + 1, NULL, 10);
		assert_in_range(port, 15000, 17000);
		assert_int_equal(getLocalIpAndPort(engine, name, length), -1); /* no room for its end */
		assert_int_equal(getLocalIpAndPort(engine, name, length + 1), 0);
		assert_int_equal(getLocalIpAndPort(engine, name, 0), -1);
		assert_int_equal(getLocalIpAndPort(engine, NULL, 64), -1);
		assert_int_equal(openSegment(engine, name), LOCAL_SEGMENT);
		destroyTransferEngine(engine);
	}
}

static void segments(void **state)
{
	static const char *const bad[] = {
		"",     "/",   "127.0.0.1:0",     "127.0.0.1:1", "host:port",
		"[::1", ":::", "127.0.0.1:99999", overlong,      "no.such.host.invalid:15000"
	};
	struct world *world = *state;

	assert_int_equal(openSegment(world->near.engine, NULL), -1);
	assert_true(openSegmentNoCache(world->near.engine, NULL) < 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		double begin = world_seconds();

		assert_int_equal(openSegment(world->near.engine, bad[i]), -1);
		assert_true(openSegmentNoCache(world->near.engine, bad[i]) < 0);
		assert_true(world_seconds() - begin < 15);
	}
	assert_int_equal(closeSegment(world->near.engine, -1), -1);
	assert_int_equal(closeSegment(world->near.engine, 12345), -1);
	assert_int_equal(closeSegment(world->near.engine, INT32_MAX), -1);
	assert_int_equal(closeSegment(world->near.engine, INT32_MIN), -1);
	assert_int_equal(warmupEfaSegment(world->near.engine, NULL), -1);
	assert_int_equal(warmupEfaSegment(world->near.engine, world->far.name), 0);
	assert_int_equal(removeLocalSegment(world->near.engine, NULL), -1);
	assert_int_equal(removeLocalSegment(world->near.engine, world->near.name), 0);
}

static void memory(void **state)
{
	struct world *world = *state;
	unsigned char *own = calloc(1, 65536);
	const struct {
		void *address;
		size_t length;
		const char *location;
		int remote, expected;
	} rows[] = {
		{ NULL, 4096, "*", 1, -1 },
		{ own, 0, "*", 1, -1 },
		{ own, SIZE_MAX, "*", 1, -1 },
		{ own, SIZE_MAX - (size_t)(uintptr_t)own + 1, "*", 1, -1 },
		{ own, 4096, overlong, 1, -1 },
		{ own, 4096, "segments:", 1, -1 },
		{ own, 4096, "segments:4096:", 1, -1 },
		{ own, 4096, "segments:4096:0,,1", 1, -1 },
		{ own, 4096, "segments:4096:0,1x", 1, -1 },
		{ own, 4096, "segments:4096:0,1", 1, 0 }, /* the first that is taken */
		{ own, 4096, "*", 1, 0 },                 /* the same again */
		{ own, 4096, NULL, 1, 0 },
		{ own, 4096, "*", 0, -7 }, /* with other rights */
		{ own, 8192, "*", 1, -7 },
		{ own + 1, 1, "*", 1, -7 },
		{ own + 4095, 2, "*", 1, -7 },
		{ own + 4096, 1, "cpu:0", 0, 0 },
		{ own + 4097, 1, "", 1, 0 },
		{ own + 4098, 1, "cuda:0", 1, 0 }, /* advice that is wrong */
		{ own + 4099, 1, "somewhere", 1, 0 },
	};
	static const int removals[] = { 0, 0, 0, -3 };

	assert_non_null(own);
	memset(overlong, 'a', sizeof(overlong) - 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int found = registerLocalMemory(world->near.engine, rows[i].address, rows[i].length, rows[i].location,
						rows[i].remote);

		if (found != rows[i].expected)
			fail_msg("row %zu: %d, expected %d", i, found, rows[i].expected);
	}
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(unregisterLocalMemory(world->near.engine, own), removals[i]);
	assert_int_equal(unregisterLocalMemory(world->near.engine, NULL), -1);
	assert_int_equal(unregisterLocalMemory(world->near.engine, world), -3);
	assert_int_equal(unregisterLocalMemory(world->near.engine, world->near.memory + 1), -3);
	for (size_t at = 4096; at < 4100; at++)
		assert_int_equal(unregisterLocalMemory(world->near.engine, own + at), 0);
	free(own);
}

/* All of a list is registered, or nothing. */
static void memory_lists(void **state)
{
	struct world *world = *state;
	unsigned char *own = calloc(3, 4096);
	buffer_entry_t good[] = { { own, 4096 }, { own + 4096, 4096 }, { own, 4096 } };
	buffer_entry_t bad[] = { { own, 4096 }, { own + 4096, 4096 }, { own + 4097, 1 } };
	void *addresses[] = { own, own + 4096, own };

	assert_non_null(own);
	assert_int_equal(registerLocalMemoryBatch(world->near.engine, NULL, 1, "*"), -1);
	assert_int_equal(registerLocalMemoryBatch(world->near.engine, NULL, 0, "*"), 0);
	assert_int_equal(unregisterLocalMemoryBatch(world->near.engine, NULL, 1), -1);
	assert_int_equal(unregisterLocalMemoryBatch(world->near.engine, NULL, 0), 0);
	assert_int_equal(registerLocalMemoryBatch(world->near.engine, bad, 3, "*"), -7);
	assert_int_equal(unregisterLocalMemory(world->near.engine, own), -3);
	assert_int_equal(unregisterLocalMemory(world->near.engine, own + 4096), -3);
	assert_int_equal(registerLocalMemoryBatch(world->near.engine, good, 3, "*"), 0);
	assert_int_equal(unregisterLocalMemoryBatch(world->near.engine, addresses, 3), 0);
	assert_int_equal(unregisterLocalMemoryBatch(world->near.engine, addresses, 3), -3);
	free(own);
}

static void submissions(void **state)
{
	struct world *world = *state;
	struct transfer_request good = world_write(world, 0, 64), request;
	batch_id_t batch = allocateBatchID(world->near.engine, 8);
	struct transfer_status status = { .status = 77, .transferred_bytes = 77 };
	notify_msg_t message = { overlong, (char *)"text" };
	unsigned char stranger[64];

	memset(overlong, 'a', sizeof(overlong) - 1);
	assert_int_equal(submitTransfer(world->near.engine, batch, NULL, 1), 1);
	assert_int_equal(submitTransfer(world->near.engine, batch, &good, 9), 2);
	assert_int_equal(submitTransfer(world->near.engine, batch, &good, SIZE_MAX), 2);
	request = good, request.opcode = 2;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	request = good, request.opcode = -1;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	request = good, request.target_id = 4711;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	request = good, request.source = stranger;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 3);
	request = good, request.source = NULL;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 3);
	request = good, request.length = WORLD_LENGTH + 1;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 3);
	request = good, request.length = UINT64_MAX;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	request = good, request.target_offset = UINT64_MAX - 10;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	assert_int_equal(submitTransferWithNotify(world->near.engine, batch, &good, 1, message), 2);
	assert_int_equal(getTransferStatus(world->near.engine, batch, 0, &status), 1); /* nothing was taken */
	assert_int_equal(status.status, 77);
	assert_int_equal(submitTransfer(world->near.engine, batch, &good, 1), 0);
	assert_int_equal(getTransferStatus(world->near.engine, batch, 0, NULL), 1);
	assert_int_equal(getTransferStatus(world->near.engine, batch, SIZE_MAX, &status), 1);
	assert_int_equal(world_wait(world->near.engine, batch, 0).status, STATUS_COMPLETED);
	assert_int_equal(freeBatchID(world->near.engine, batch), 0);
	assert_true(allocateBatchID(world->near.engine, SIZE_MAX) == INVALID_BATCH);
}

static void the_rest(void **state)
{
	struct world *world = *state;
	notify_msg_t message = { NULL, NULL }, large = { (char *)"large", calloc(1, 70000) };
	nic_load_stat_t load[2];
	size_t rows = 0;
	char text[16], *room = malloc(65536);

	assert_true(large.msg && room);
	memset(large.msg, 'x', 69999);
	assert_null(getNotifsFromEngine(world->near.engine, NULL));
	assert_int_equal(freeNotifsMsgBuf(NULL, 0), 0);
	assert_int_equal(freeNotifsMsgBuf(NULL, 5), 0);
	assert_int_equal(freeNotifsMsgBuf(NULL, -1), -1);
	assert_int_equal(genNotifyInEngine(world->near.engine, 4711, message), -1);
	assert_int_equal(genNotifyInEngine(world->near.engine, UINT64_MAX, message), -1);
	assert_int_equal(genNotifyInEngine(world->near.engine, (uint64_t)world->segment, large), -2);
	assert_int_equal(genNotifyInEngine(world->near.engine, (uint64_t)world->segment, message), 0);
	assert_int_equal(getNicLoadStats(world->near.engine, NULL, &rows), -1);
	assert_int_equal(getNicLoadStats(world->near.engine, load, NULL), -1);
	assert_int_equal(getNicLoadStats(world->near.engine, load, &rows), 0);
	assert_int_equal(rows, 1);
	assert_int_equal(getNicLoadStats(world->near.engine, load, &rows), 0);
	assert_string_equal(load[0].device_name, "lo");
	assert_int_equal(showLinks(world->near.engine, NULL, 16, 0), -1);
	assert_int_equal(showLinks(world->near.engine, text, 0, 0), -1);
	assert_int_equal(showLinks(world->near.engine, text, sizeof(text), 0), 0);
	assert_string_equal(text, "=== Local NICs ");
	assert_int_equal(showLinks(world->near.engine, text, sizeof(text), 1), -1);
	assert_string_equal(text, "");
	assert_int_equal(showLinks(world->near.engine, room, 65536, 0), 0);
	assert_non_null(strstr(room, "=== Topology (NIC Selection) ==="));
	assert_non_null(strstr(room, world->far.name));
	assert_int_equal(showLinks(world->near.engine, room, 65536, 1), 0);
	assert_memory_equal(room, "{\"local_nics\":[{\"device\":", 25);
	assert_null(installTransport(world->near.engine, NULL, NULL));
	assert_null(installTransport(world->near.engine, "carrier pigeon", NULL));
	assert_non_null(installTransport(world->near.engine, "rdma", NULL));
	assert_int_equal(uninstallTransport(world->near.engine, "rdma"), 0);
	assert_int_equal(uninstallTransport(world->near.engine, NULL), -1);
	free(large.msg);
	free(room);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(creation),
		cmocka_unit_test(names),
		cmocka_unit_test_setup_teardown(segments, world_open, world_close),
		cmocka_unit_test_setup_teardown(memory, world_open, world_close),
		cmocka_unit_test_setup_teardown(memory_lists, world_open, world_close),
		cmocka_unit_test_setup_teardown(submissions, world_open, world_close),
		cmocka_unit_test_setup_teardown(the_rest, world_open, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
