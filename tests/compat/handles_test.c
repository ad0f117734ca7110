/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers: those that are stale, of another engine, of the other interface or of nobody are refused by every function
 * with its own code, and engines may go away while others are in a call.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include <tent/transfer_engine.h>

#include "world.h"

#define THREADS 8

/* Everything that takes an engine, given one that is none. */
static void refuse_engine(transfer_engine_t engine)
{
	struct transfer_request request = { .opcode = OPCODE_WRITE };
	struct transfer_status status;
	buffer_entry_t buffer = { &status, sizeof(status) };
	notify_msg_t message = { (char *)"a", (char *)"b" };
	nic_load_stat_t load;
	char text[64] = "kept";
	void *addresses[] = { &status };
	size_t rows = 1;
	int count = 7;

	assert_int_equal(discoverTopology(engine), -1);
	assert_int_equal(getLocalIpAndPort(engine, text, sizeof(text)), -1);
	assert_string_equal(text, "kept");
	assert_null(installTransport(engine, "tcp", NULL));
	assert_int_equal(uninstallTransport(engine, "tcp"), -1);
	assert_int_equal(openSegment(engine, "127.0.0.1:1"), -1);
	assert_int_equal(openSegmentNoCache(engine, "127.0.0.1:1"), -1);
	assert_int_equal(closeSegment(engine, 1), -1);
	assert_int_equal(warmupEfaSegment(engine, "a"), -1);
	assert_int_equal(removeLocalSegment(engine, "a"), -1);
	assert_int_equal(syncSegmentCache(engine), -1);
	assert_int_equal(registerLocalMemory(engine, &status, sizeof(status), "*", 1), -1);
	assert_int_equal(unregisterLocalMemory(engine, &status), -1);
	assert_int_equal(registerLocalMemoryBatch(engine, &buffer, 1, "*"), -1);
	assert_int_equal(unregisterLocalMemoryBatch(engine, addresses, 1), -1);
	assert_true(allocateBatchID(engine, 1) == INVALID_BATCH);
	assert_int_equal(submitTransfer(engine, 1, &request, 1), 1);
	assert_int_equal(submitTransferWithNotify(engine, 1, &request, 1, message), 1);
	assert_int_equal(getTransferStatus(engine, 1, 0, &status), 1);
	assert_int_equal(freeBatchID(engine, 1), 1);
	assert_null(getNotifsFromEngine(engine, &count));
	assert_int_equal(count, 0);
	assert_int_equal(genNotifyInEngine(engine, 0, message), -1);
	assert_int_equal(getNicLoadStats(engine, &load, &rows), -1);
	assert_int_equal(showLinks(engine, text, sizeof(text), 0), -1);
	enableGracefulShutdown(engine);
	destroyTransferEngine(engine);
}

static void refuse_tent_engine(tent_engine_t engine)
{
	tent_request_t request = { .opcode = OPCODE_WRITE };
	tent_memory_options_t options = { .location = "*" };
	tent_segment_info_t info;
	tent_notifi_info notes;
	tent_nic_load_stat_t load;
	tent_status_t status;
	char text[64];
	void *address = &status, *addresses[] = { &status };
	size_t sizes[] = { sizeof(status) }, rows = 1;
	uint64_t handle;
	uint16_t port;

	assert_int_equal(tent_available(engine), 0);
	assert_int_equal(tent_segment_name(engine, text, sizeof(text)), -1);
	assert_int_equal(tent_rpc_server_addr_port(engine, text, sizeof(text), &port), -1);
	assert_int_equal(tent_open_segment(engine, &handle, "127.0.0.1:1"), -1);
	assert_int_equal(tent_close_segment(engine, 1), -1);
	assert_int_equal(tent_get_segment_info(engine, 0, &info), -1);
	tent_free_segment_info(&info);
	assert_int_equal(tent_allocate_memory(engine, &address, 4096, NULL), -1);
	assert_int_equal(tent_allocate_memory_ex(engine, &address, 4096, &options), -1);
	assert_int_equal(tent_free_memory(engine, &status), -1);
	assert_int_equal(tent_register_memory(engine, &status, sizeof(status)), -1);
	assert_int_equal(tent_register_memory_with_perm(engine, &status, sizeof(status), 0), -1);
	assert_int_equal(tent_register_memory_ex(engine, &status, sizeof(status), &options), -1);
	assert_int_equal(tent_register_memory_batch(engine, addresses, sizes, 1, 0), -1);
	assert_int_equal(tent_register_memory_batch_ex(engine, addresses, sizes, 1, &options), -1);
	assert_int_equal(tent_unregister_memory(engine, &status, 0), -1);
	assert_int_equal(tent_unregister_memory_batch(engine, addresses, sizes, 1), -1);
	assert_int_equal(tent_allocate_batch(engine, 1), 0);
	assert_int_equal(tent_free_batch(engine, 1), -1);
	assert_int_equal(tent_submit(engine, 1, &request, 1), -1);
	assert_int_equal(tent_submit_notif(engine, 1, &request, 1, "a", "b"), -1);
	assert_int_equal(tent_send_notifs(engine, 0, "a", "b"), -1);
	assert_int_equal(tent_recv_notifs(engine, &notes), -1);
	tent_free_notifs(&notes);
	assert_int_equal(tent_task_status(engine, 1, 0, &status), -1);
	assert_int_equal(tent_overall_status(engine, 1, &status), -1);
	assert_int_equal(tent_task_status_list(engine, 1, &status, &rows), -1);
	assert_int_equal(tent_cancel_task(engine, 1, 0), -1);
	assert_int_equal(tent_get_nic_load_stats(engine, &load, &rows), -1);
	tent_destroy_engine(engine);
}

static void strange_engines(void **state)
{
	struct world *world = *state;
	uintptr_t near = (uintptr_t)world->near.engine;
	int local = 0;
	void *const strange[] = { NULL,
				  &local,
				  world,
				  (void *)1,
				  (void *)UINTPTR_MAX,
				  (void *)(near + 2),
				  (void *)(near ^ 1ull << 60),
				  (void *)(near + (1ull << 12)) };
	char name[64];

	for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
		refuse_engine(strange[i]);
		refuse_tent_engine(strange[i]);
	}
	refuse_tent_engine(world->near.engine);
	assert_int_equal(getLocalIpAndPort(world->near.engine, name, sizeof(name)), 0); /* it is still there */
}

static void stale_engine(void **state)
{
	struct end end;
	tent_engine_t tent;

	(void)state;
	end_open(&end);
	end_close(&end);
	refuse_engine(end.engine);
	setenv("MOONCAKE_LOCAL_HOSTNAME", "127.0.0.1", 1);
	tent = tent_create_engine();
	unsetenv("MOONCAKE_LOCAL_HOSTNAME");
	assert_non_null(tent);
	refuse_engine(tent);
	tent_destroy_engine(tent);
	refuse_tent_engine(tent);
}

static void stale_and_foreign_batches(void **state)
{
	struct world *world = *state;
	struct transfer_request request = world_write(world, 0, 64);
	batch_id_t batch = allocateBatchID(world->near.engine, 1), next;
	struct transfer_status status;

	assert_true(batch != INVALID_BATCH && batch != 0);
	assert_int_equal(submitTransfer(world->far.engine, batch, &request, 1), 1);
	assert_int_equal(getTransferStatus(world->far.engine, batch, 0, &status), 1);
	assert_int_equal(freeBatchID(world->far.engine, batch), 1);
	assert_int_equal(freeBatchID(world->near.engine, batch), 0);
	next = allocateBatchID(world->near.engine, 1);
	assert_true(next != batch);
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	assert_int_equal(submitTransfer(world->near.engine, 0, &request, 1), 1);
	assert_int_equal(submitTransfer(world->near.engine, INVALID_BATCH, &request, 1), 1);
	assert_int_equal(submitTransfer(world->near.engine, address_of(world), &request, 1), 1);
	assert_int_equal(freeBatchID(world->near.engine, next), 0);
}

/* A name is counted; a number of another engine, or one that was given back, is none. */
static void segments(void **state)
{
	struct world *world = *state;
	segment_id_t again = openSegment(world->near.engine, world->far.name), back;
	struct transfer_request request = world_write(world, 0, 64);
	batch_id_t batch = allocateBatchID(world->near.engine, 4);

	assert_int_equal(again, world->segment);
	assert_int_equal(openSegmentNoCache(world->near.engine, world->far.name), again);
	assert_int_equal(syncSegmentCache(world->near.engine), 0);
	back = openSegment(world->far.engine, world->near.name);
	assert_true(back > 0 && back != again);
	request.target_id = back;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	assert_int_equal(closeSegment(world->near.engine, back), -1);
	request.target_id = -1;
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	request.target_id = again;
	for (int opens = 3; opens > 0; opens--) {
		assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 0);
		assert_int_equal(closeSegment(world->near.engine, again), 0);
	}
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 1);
	assert_int_equal(closeSegment(world->near.engine, again), -1);
	assert_int_equal(closeSegment(world->near.engine, LOCAL_SEGMENT), 0);
	for (size_t task = 0; task < 3; task++)
		assert_int_equal(world_wait(world->near.engine, batch, task).status, STATUS_COMPLETED);
	again = openSegment(world->near.engine, world->far.name);
	assert_true(again > 0 && again != world->segment);
	assert_int_equal(freeBatchID(world->near.engine, batch), 0);
}

/* Two engines register the same memory and work apart; one of them goes. */
static void two_engines(void **state)
{
	struct world *world = *state;
	struct transfer_request request = world_write(world, 0, 64);
	struct end other;
	batch_id_t batch;

	end_open(&other);
	assert_int_equal(registerLocalMemory(other.engine, world->near.memory, WORLD_LENGTH, "*", 1), 0);
	request.target_id = openSegment(other.engine, world->far.name);
	batch = allocateBatchID(other.engine, 1);
	assert_int_equal(submitTransfer(other.engine, batch, &request, 1), 0);
	assert_int_equal(world_wait(other.engine, batch, 0).status, STATUS_COMPLETED);
	end_close(&world->near);
	batch = allocateBatchID(other.engine, 1);
	request.source = other.memory;
	assert_int_equal(submitTransfer(other.engine, batch, &request, 1), 0);
	assert_int_equal(world_wait(other.engine, batch, 0).status, STATUS_COMPLETED);
	end_close(&other); /* with two batches that nobody freed */
	end_open(&world->near);
}

/* An engine at a certain address, so that its successor has the same one. */
static void open_at(struct end *end, const char *name)
{
	setenv("MC_LEGACY_RPC_PORT_BINDING", "1", 1);
	end->engine = createTransferEngine("P2PHANDSHAKE", name, "", 0, 1);
	unsetenv("MC_LEGACY_RPC_PORT_BINDING");
	assert_non_null(end->engine);
	assert_int_equal(registerLocalMemory(end->engine, end->memory, WORLD_LENGTH, "*", 1), 0);
}

static int try_write(struct world *world)
{
	struct transfer_request request = world_write(world, 0, 4096);
	batch_id_t batch = allocateBatchID(world->near.engine, 1);
	int status;

	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 0);
	status = world_wait(world->near.engine, batch, 0).status;
	assert_int_equal(world_free(world->near.engine, batch), 0);
	return status;
}

/* The number of a peer that was restarted stays, once the caller had it looked at. */
static void restarted_peer(void **state)
{
	struct world *world = *state;
	double end = world_seconds() + WORLD_SECONDS;

	for (int way = 0; way < 3; way++) {
		destroyTransferEngine(world->far.engine);
		assert_true(openSegmentNoCache(world->near.engine, world->far.name) < 0);
		assert_true(syncSegmentCache(world->near.engine) < 0);
		assert_int_equal(try_write(world), STATUS_FAILED);
		open_at(&world->far, world->far.name);
		if (way == 0)
			assert_int_equal(openSegmentNoCache(world->near.engine, world->far.name), world->segment);
		if (way == 1)
			assert_int_equal(syncSegmentCache(world->near.engine), 0);
		while (way == 2 && try_write(world) != STATUS_COMPLETED) { /* an ordinary opening looks now and then */
			assert_int_equal(openSegment(world->near.engine, world->far.name), world->segment);
			assert_true(world_seconds() < end);
		}
		assert_int_equal(try_write(world), STATUS_COMPLETED);
	}
}

struct racer {
	struct world *world;
	_Atomic int *stop;
};

static void *race(void *argument)
{
	struct racer *racer = argument;
	struct world *world = racer->world;
	transfer_engine_t engine = world->near.engine;
	struct transfer_status status;

	while (!atomic_load(racer->stop)) {
		struct transfer_request request = world_write(world, 0, 4096);
		batch_id_t batch = allocateBatchID(engine, 4);
		segment_id_t segment = openSegment(engine, world->far.name);

		request.target_id = segment;
		submitTransfer(engine, batch, &request, 1);
		getTransferStatus(engine, batch, 0, &status);
		closeSegment(engine, segment);
		while (freeBatchID(engine, batch) == 4)
			continue;
	}
	return NULL;
}

/* The engine is destroyed while threads use it; they get refusals from then on. */
static void destroyed_under_use(void **state)
{
	struct world *world = *state;
	struct racer racers[THREADS];
	pthread_t threads[THREADS];
	_Atomic int stop = 0;

	for (int i = 0; i < THREADS; i++) {
		racers[i] = (struct racer){ .world = world, .stop = &stop };
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (int i = 0; i < 50; i++) {
		struct transfer_request request = world_write(world, 0, WORLD_LENGTH);
		batch_id_t batch = allocateBatchID(world->near.engine, 1);

		assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 0);
		assert_int_equal(world_free(world->near.engine, batch), 0);
	}
	destroyTransferEngine(world->near.engine);
	refuse_engine(world->near.engine);
	atomic_store(&stop, 1);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	free(world->near.memory);
	end_open(&world->near);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(strange_engines, world_open, world_close),
		cmocka_unit_test(stale_engine),
		cmocka_unit_test_setup_teardown(stale_and_foreign_batches, world_open, world_close),
		cmocka_unit_test_setup_teardown(segments, world_open, world_close),
		cmocka_unit_test_setup_teardown(restarted_peer, world_open, world_close),
		cmocka_unit_test_setup_teardown(two_engines, world_open, world_close),
		cmocka_unit_test_setup_teardown(destroyed_under_use, world_open, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
