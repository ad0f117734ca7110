/* SPDX-License-Identifier: Apache-2.0 */
/* Sixteen threads on one engine, each with its own memory, batches and openings of the same peer. */
#include <pthread.h>
#include <stdio.h>

#include "world.h"

#define THREADS 16
#define ROUNDS 20
#define SIZE 65536u

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sixteen, world_open, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
