/* SPDX-License-Identifier: Apache-2.0 */
/* Classic batches: capacity, what a task tells, when a batch can be freed, and messages that follow everything. */
#include <causeway/causeway.h>

#include "../support/sanitizers.h"
#include "world.h"

#define PIECE 4096u
#define SUBMISSIONS (SANITIZED ? 8000u : 80000u)

static void several_submissions(void **state)
{
	struct world *world = *state;
	batch_id_t batch = allocateBatchID(world->near.engine, 4);
	struct transfer_request requests[3];
	struct transfer_status status;

	memset(world->near.memory, 0x5a, WORLD_LENGTH);
	for (size_t i = 0; i < 3; i++)
		requests[i] = world_write(world, i * PIECE, PIECE);
	assert_int_equal(submitTransfer(world->near.engine, batch, requests, 2), 0);
	assert_int_equal(submitTransfer(world->near.engine, batch, requests, 3), 2); /* 5 of 4 */
	assert_int_equal(getTransferStatus(world->near.engine, batch, 2, &status), 1);
	assert_int_equal(submitTransfer(world->near.engine, batch, requests + 2, 1), 0);
	assert_int_equal(submitTransfer(world->near.engine, batch, NULL, 0), 0);
	for (size_t task = 0; task < 3; task++) {
		status = world_wait(world->near.engine, batch, task);
		assert_int_equal(status.status, STATUS_COMPLETED);
		assert_int_equal(status.transferred_bytes, PIECE);
	}
	assert_int_equal(getTransferStatus(world->near.engine, batch, 3, &status), 1);
	assert_memory_equal(world->far.memory, world->near.memory, 3 * PIECE);
	assert_int_equal(world->far.memory[3 * PIECE], 0);
	assert_int_equal(freeBatchID(world->near.engine, batch), 0);
	assert_int_equal(freeBatchID(world->near.engine, batch), 1);
}

/* Freeing does not ask for tasks to have been looked at. */
static void free_without_polling(void **state)
{
	struct world *world = *state;
	struct transfer_request request = world_write(world, 0, WORLD_LENGTH);
	batch_id_t batch = allocateBatchID(world->near.engine, 1);

	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 0);
	assert_int_equal(world_free(world->near.engine, batch), 0);
}

static void nothing_to_move(void **state)
{
	struct world *world = *state;
	struct transfer_request requests[3] = { world_write(world, 0, 0), world_write(world, 0, 1),
						world_write(world, 0, 0) };
	static const size_t lengths[] = { 0, 1, 0 };
	batch_id_t batch = allocateBatchID(world->near.engine, 6), empty = allocateBatchID(world->near.engine, 0);

	requests[0].source = NULL;
	assert_int_equal(submitTransfer(world->near.engine, batch, requests, 3), 0);
	assert_int_equal(submitTransfer(world->near.engine, batch, requests, 1), 0);
	for (size_t task = 0; task < 4; task++) {
		struct transfer_status status = world_wait(world->near.engine, batch, task);

		assert_int_equal(status.status, STATUS_COMPLETED);
		assert_int_equal(status.transferred_bytes, lengths[task % 3]);
	}
	assert_int_equal(freeBatchID(world->near.engine, batch), 0);
	assert_int_equal(submitTransfer(world->near.engine, empty, requests, 1), 2);
	assert_int_equal(freeBatchID(world->near.engine, empty), 0);
}

/* A bad address at the target fails its own task, and looks like every other failure here. */
static void one_fails(void **state)
{
	struct world *world = *state;
	struct transfer_request requests[2] = { world_write(world, 0, PIECE), world_write(world, PIECE, PIECE) };
	batch_id_t batch = allocateBatchID(world->near.engine, 2);
	notify_msg_t message = { (char *)"never", (char *)"sent" };
	int count = -1;

	requests[1].target_offset = 4096; /* no memory of anybody */
	assert_int_equal(submitTransferWithNotify(world->near.engine, batch, requests, 2, message), 0);
	assert_int_equal(world_wait(world->near.engine, batch, 1).status, STATUS_FAILED);
	assert_int_equal(world_wait(world->near.engine, batch, 0).status, STATUS_COMPLETED);
	assert_int_equal(world_free(world->near.engine, batch), 0);
	assert_null(getNotifsFromEngine(world->far.engine, &count));
	assert_int_equal(count, 0);
}

/* The message comes when the whole batch is there, though nobody looks at the batch. */
static void message_follows_all(void **state)
{
	struct world *world = *state;
	struct transfer_request requests[2] = { world_write(world, 0, WORLD_LENGTH / 2),
						world_write(world, WORLD_LENGTH / 2, WORLD_LENGTH / 2) };
	batch_id_t batch = allocateBatchID(world->near.engine, 2);
	notify_msg_t message = { (char *)"name", (char *)"text" }, nothing = { NULL, NULL }, *list;
	int count;

	memset(world->near.memory, 0xc3, WORLD_LENGTH);
	assert_int_equal(submitTransfer(world->near.engine, batch, requests, 1), 0);
	assert_int_equal(submitTransferWithNotify(world->near.engine, batch, requests + 1, 1, message), 0);
	list = world_note(world->far.engine, &count);
	assert_int_equal(count, 1);
	assert_string_equal(list[0].name, "name");
	assert_string_equal(list[0].msg, "text");
	assert_memory_equal(world->far.memory, world->near.memory, WORLD_LENGTH);
	assert_int_equal(freeNotifsMsgBuf(list, count), 0);
	assert_int_equal(world_free(world->near.engine, batch), 0);

	batch = allocateBatchID(world->near.engine, 1);
	assert_int_equal(submitTransferWithNotify(world->near.engine, batch, requests, 1, nothing), 0);
	assert_int_equal(world_wait(world->near.engine, batch, 0).status, STATUS_COMPLETED);
	list = world_note(world->far.engine, &count);
	assert_string_equal(list[0].name, "");
	assert_string_equal(list[0].msg, "");
	assert_int_equal(freeNotifsMsgBuf(list, 1000000), 0); /* a wrong size does no harm */
	assert_int_equal(world_free(world->near.engine, batch), 0);
}

/* Both ends of the transfer are the same engine. */
static void to_itself(void **state)
{
	struct world *world = *state;
	struct transfer_request request = world_write(world, 0, PIECE);
	batch_id_t batch = allocateBatchID(world->near.engine, 1);
	notify_msg_t message = { (char *)"me", (char *)"too" }, *list;
	int count;

	request.target_id = LOCAL_SEGMENT;
	request.target_offset = address_of(world->near.memory + WORLD_LENGTH / 2);
	memset(world->near.memory, 0, WORLD_LENGTH);
	memset(world->near.memory, 0x77, PIECE);
	assert_int_equal(openSegment(world->near.engine, world->near.name), LOCAL_SEGMENT);
	assert_int_equal(submitTransferWithNotify(world->near.engine, batch, &request, 1, message), 0);
	assert_int_equal(world_wait(world->near.engine, batch, 0).status, STATUS_COMPLETED);
	assert_memory_equal(world->near.memory + WORLD_LENGTH / 2, world->near.memory, PIECE);
	list = world_note(world->near.engine, &count);
	assert_string_equal(list[0].name, "me");
	assert_int_equal(freeNotifsMsgBuf(list, count), 0);
	assert_int_equal(genNotifyInEngine(world->near.engine, LOCAL_SEGMENT, message), 0);
	list = world_note(world->near.engine, &count);
	assert_string_equal(list[0].msg, "too");
	assert_int_equal(freeNotifsMsgBuf(list, count), 0);
	assert_int_equal(freeBatchID(world->near.engine, batch), 0);
}

/* What other programs send may have NUL bytes inside. Here it comes from one that uses causeway.h beside this. */
static void text_with_nul(void **state)
{
	struct world *world = *state;
	struct cw_notify notify = { .name = "n", .data = "a\0b\0", .length = 4 };
	struct cw_engine *engine;
	notify_msg_t *list;
	int count;

	assert_int_equal(cw_engine_open(NULL, &engine), CW_OK);
	assert_int_equal(cw_segment_open(engine, world->far.name, NULL, &notify.segment), CW_OK);
	assert_int_equal(cw_notify_send(engine, &notify, WORLD_SECONDS * 1000000000ull), CW_OK);
	list = world_note(world->far.engine, &count);
	assert_string_equal(list[0].msg, "a?b?");
	assert_int_equal(freeNotifsMsgBuf(list, count), 0);
	cw_engine_close(engine);
}

/* Every slice ends only after this time: what is submitted runs for as long. */
static int slow_open(void **state)
{
	static const char *const settings[][2] = {
		{ "CW_TRANSPORTS_FAULT_ENABLE", "on" }, { "CW_TRANSPORTS_SHM_ENABLE", "off" },
		{ "CW_TRANSPORTS_TCP_ENABLE", "off" },  { "CW_FAULT_STICK", "1000" },
		{ "CW_FAULT_STICK_MS", "700" },         { "CW_BATCH_GRACE", "100" }
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		setenv(settings[i][0], settings[i][1], 1);
	world_open(state);
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		unsetenv(settings[i][0]);
	return 0;
}

static void busy_while_it_runs(void **state)
{
	struct world *world = *state;
	struct transfer_request request = world_write(world, 0, 4096);
	batch_id_t batch = allocateBatchID(world->near.engine, 1), left = allocateBatchID(world->near.engine, 1);
	struct transfer_status status;
	nic_load_stat_t load;
	size_t rows = 1;

	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 0);
	assert_int_equal(getTransferStatus(world->near.engine, batch, 0, &status), 0);
	assert_int_equal(status.status, STATUS_WAITING);
	assert_int_equal(status.transferred_bytes, 0);
	assert_int_equal(freeBatchID(world->near.engine, batch), 4);
	assert_int_equal(getNicLoadStats(world->near.engine, &load, &rows), 0);
	assert_int_equal(load.inflight_bytes, 4096);
	assert_int_equal(world_wait(world->near.engine, batch, 0).status, STATUS_COMPLETED);
	assert_int_equal(freeBatchID(world->near.engine, batch), 0);
	assert_int_equal(submitTransfer(world->near.engine, left, &request, 1), 0); /* runs when the engine goes */
}

/* Memory cannot be taken back while something may still touch it, and can be afterwards. */
static void memory_in_use(void **state)
{
	struct world *world = *state;
	struct transfer_request request = world_write(world, 0, 4096);
	batch_id_t batch = allocateBatchID(world->near.engine, 2);
	nic_load_stat_t load;
	size_t rows = 1;

	assert_int_equal(getNicLoadStats(world->far.engine, &load, &rows), 0);
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 0);
	do /* the bytes are there, but not their end */
		assert_int_equal(getNicLoadStats(world->far.engine, &load, &rows), 0);
	while (load.ewma_bandwidth_bps <= 0);
	assert_int_equal(unregisterLocalMemory(world->near.engine, world->near.memory), -4);
	assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 3); /* nobody new gets at it */
	assert_int_equal(world_wait(world->near.engine, batch, 0).status, STATUS_FAILED);
	while (unregisterLocalMemory(world->near.engine, world->near.memory) == -4)
		continue;
	assert_int_equal(unregisterLocalMemory(world->near.engine, world->near.memory), -3);
	assert_int_equal(registerLocalMemory(world->near.engine, world->near.memory, 4096, "*", 1), 0);
	assert_int_equal(world_free(world->near.engine, batch), 0);
}

/* Each submission is a batch of the engine; those that wait must not cost time whenever another one ends. */
static void many_submissions(void **state)
{
	struct world *world = *state;
	struct transfer_request request = world_write(world, 0, 64);
	batch_id_t batch = allocateBatchID(world->near.engine, SUBMISSIONS);
	double end = world_seconds() + WORLD_SECONDS;

	for (size_t i = 0; i < SUBMISSIONS; i++)
		assert_int_equal(submitTransfer(world->near.engine, batch, &request, 1), 0);
	for (size_t i = 0; i < SUBMISSIONS; i++) {
		assert_int_equal(world_wait(world->near.engine, batch, i).status, STATUS_COMPLETED);
		assert_true(world_seconds() < end);
	}
	assert_int_equal(freeBatchID(world->near.engine, batch), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(several_submissions, world_open, world_close),
		cmocka_unit_test_setup_teardown(free_without_polling, world_open, world_close),
		cmocka_unit_test_setup_teardown(nothing_to_move, world_open, world_close),
		cmocka_unit_test_setup_teardown(one_fails, world_open, world_close),
		cmocka_unit_test_setup_teardown(message_follows_all, world_open, world_close),
		cmocka_unit_test_setup_teardown(to_itself, world_open, world_close),
		cmocka_unit_test_setup_teardown(text_with_nul, world_open, world_close),
		cmocka_unit_test_setup_teardown(many_submissions, world_open, world_close),
		cmocka_unit_test_setup_teardown(memory_in_use, slow_open, world_close),
		cmocka_unit_test_setup_teardown(busy_while_it_runs, slow_open, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
