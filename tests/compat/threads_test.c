/* SPDX-License-Identifier: Apache-2.0 */
/* Threads on one engine: sixteen with memory, batches and openings of the same peer each, and some that get in each
 * other's way. */
#include <pthread.h>
#include <stdio.h>

#include "world.h"

#define THREADS 16
#define ROUNDS 20
#define SIZE 65536u
#define MESSAGES 500
#define LOOKS 20000
#define GUESSES 2000

struct worker {
	struct world *world;
	pthread_t thread;
	int number;
	const char *wrong; /* the first thing that was; cmocka's checks are for the main thread */
};

static int finish(struct worker *worker, batch_id_t batch)
{
	transfer_engine_t engine = worker->world->near.engine;
	double end = world_seconds() + WORLD_SECONDS;
	struct transfer_status status;

	do
		if (getTransferStatus(engine, batch, 0, &status) != 0 || world_seconds() > end)
			return 0;
	while (status.status == STATUS_WAITING);
	return status.status == STATUS_COMPLETED && freeBatchID(engine, batch) == 0;
}

static const char *move(struct worker *worker, unsigned char *local, unsigned char *remote, int round)
{
	transfer_engine_t engine = worker->world->near.engine;
	segment_id_t segment = openSegment(engine, worker->world->far.name);
	struct transfer_request request = { OPCODE_WRITE, local, segment, address_of(remote), SIZE };
	batch_id_t there = allocateBatchID(engine, 1), back = allocateBatchID(engine, 1);
	char text[32];
	notify_msg_t message = { (char *)"round", text };

	if (segment <= 0 || there == INVALID_BATCH || back == INVALID_BATCH)
		return "opening";
	snprintf(text, sizeof(text), "%d.%d", worker->number, round);
	memset(local, worker->number * ROUNDS + round, SIZE);
	if (submitTransferWithNotify(engine, there, &request, 1, message) != 0 || !finish(worker, there))
		return "writing";
	if (memcmp(local, remote, SIZE) != 0)
		return "what was written";
	memset(local, 0, SIZE);
	request.opcode = OPCODE_READ;
	if (submitTransfer(engine, back, &request, 1) != 0 || !finish(worker, back))
		return "reading";
	if (memcmp(local, remote, SIZE) != 0)
		return "what was read";
	return closeSegment(engine, segment) == 0 ? NULL : "closing";
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	unsigned char *local = calloc(1, SIZE), *remote = calloc(1, SIZE);

	for (int round = 0; round < ROUNDS && !worker->wrong; round++) {
		if (registerLocalMemory(worker->world->near.engine, local, SIZE, "*", 0) != 0 ||
		    registerLocalMemory(worker->world->far.engine, remote, SIZE, "*", 1) != 0)
			worker->wrong = "registering";
		else
			worker->wrong = move(worker, local, remote, round);
		if (!worker->wrong && (unregisterLocalMemory(worker->world->near.engine, local) != 0 ||
				       unregisterLocalMemory(worker->world->far.engine, remote) != 0))
			worker->wrong = "unregistering";
	}
	free(local);
	free(remote);
	return NULL;
}

/* Each message of each thread comes once. */
static void count_messages(struct world *world)
{
	static unsigned char seen[THREADS][ROUNDS];
	int left = THREADS * ROUNDS, count, thread, round;

	while (left > 0) {
		notify_msg_t *list = world_note(world->far.engine, &count);

		for (int i = 0; i < count; i++) {
			assert_int_equal(sscanf(list[i].msg, "%d.%d", &thread, &round), 2);
			assert_int_equal(seen[thread][round]++, 0);
		}
		left -= count;
		freeNotifsMsgBuf(list, count);
	}
}

static void sixteen(void **state)
{
	struct worker workers[THREADS];

	for (int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .world = *state, .number = i };
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int i = 0; i < THREADS; i++)
		if (workers[i].wrong)
			fail_msg("thread %d: %s", i, workers[i].wrong);
	count_messages(*state);
}

static void *look_at_load(void *argument)
{
	const struct world *world = argument;
	const char *wrong = NULL;
	nic_load_stat_t load;
	size_t count;

	for (int i = 0; i < LOOKS && !wrong; i++) {
		count = 1;
		if (getNicLoadStats(world->near.engine, &load, &count) != 0 || count != 1)
			wrong = "the load";
	}
	return (void *)(uintptr_t)wrong;
}

/* Both need the engine's tables and each batch. */
static void load_while_messages_are_sent(void **state)
{
	struct world *world = *state;
	pthread_t threads[2];
	void *wrong;
	int count;

	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, look_at_load, world), 0);
	for (int i = 0; i < MESSAGES; i++) {
		struct transfer_request request = world_write(world, 0, 64);
		batch_id_t batch = allocateBatchID(world->near.engine, 1);
		notify_msg_t message = { (char *)"n", (char *)"text" };

		assert_int_equal(submitTransferWithNotify(world->near.engine, batch, &request, 1, message), 0);
		assert_int_equal(world_wait(world->near.engine, batch, 0).status, STATUS_COMPLETED);
		assert_int_equal(freeBatchID(world->near.engine, batch), 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &wrong);
		if (wrong)
			fail_msg("%s", (const char *)wrong);
	}
	for (int left = MESSAGES; left > 0; left -= count)
		freeNotifsMsgBuf(world_note(world->far.engine, &count), count);
}

/* Numbers of things that are just being made: all are refused or mean a whole thing. */
static void *guess_numbers(void *argument)
{
	const struct world *world = argument;
	struct transfer_status status;

	for (uint64_t generation = 1; generation <= GUESSES; generation++)
		for (uint64_t place = 1; place < 8; place++) {
			batch_id_t batch = generation << 20 | place;

			getTransferStatus(world->near.engine, batch, 0, &status);
			freeBatchID(world->near.engine, batch);
			closeSegment(world->near.engine, (segment_id_t)((generation & 0x7fff) << 16 | place));
		}
	return NULL;
}

static void numbers_that_are_guessed(void **state)
{
	struct world *world = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, guess_numbers, world), 0);
	for (int i = 0; i < GUESSES; i++) {
		batch_id_t batch = allocateBatchID(world->near.engine, 1);
		segment_id_t segment = openSegment(world->near.engine, world->far.name);

		assert_true(batch != INVALID_BATCH && segment > 0);
		freeBatchID(world->near.engine, batch);
		closeSegment(world->near.engine, segment);
	}
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sixteen, world_open, world_close),
		cmocka_unit_test_setup_teardown(load_while_messages_are_sent, world_open, world_close),
		cmocka_unit_test_setup_teardown(numbers_that_are_guessed, world_open, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
