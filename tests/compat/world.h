/* SPDX-License-Identifier: Apache-2.0 */
/* Two engines of the classic interface in one process, with memory each; what most tests of it begin with. */
#ifndef TESTS_COMPAT_WORLD_H
#define TESTS_COMPAT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <transfer_engine_c.h>

#define WORLD_LENGTH (1u << 20)
#define WORLD_SECONDS 30

struct end {
	transfer_engine_t engine;
	char name[64];
	unsigned char *memory;
};

/* near has the segment of far; both have registered their memory. */
struct world {
	struct end near, far;
	segment_id_t segment;
};

static inline double world_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void end_open(struct end *end)
{
	end->engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "", 0, 1);
	assert_non_null(end->engine);
	assert_int_equal(getLocalIpAndPort(end->engine, end->name, sizeof(end->name)), 0);
	end->memory = calloc(1, WORLD_LENGTH);
	assert_non_null(end->memory);
	assert_int_equal(registerLocalMemory(end->engine, end->memory, WORLD_LENGTH, "*", 1), 0);
}

static inline void end_close(struct end *end)
{
	destroyTransferEngine(end->engine);
	free(end->memory);
}

static inline int world_open(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	end_open(&world->near);
	end_open(&world->far);
	world->segment = openSegment(world->near.engine, world->far.name);
	assert_true(world->segment > 0);
	*state = world;
	return 0;
}

static inline int world_close(void **state)
{
	struct world *world = *state;

	end_close(&world->near);
	end_close(&world->far);
	free(world);
	return 0;
}

static inline uint64_t address_of(const void *memory)
{
	return (uint64_t)(uintptr_t)memory;
}

static inline struct transfer_request world_write(const struct world *world, size_t at, size_t length)
{
	return (struct transfer_request){ .opcode = OPCODE_WRITE,
					  .source = world->near.memory + at,
					  .target_id = world->segment,
					  .target_offset = address_of(world->far.memory + at),
					  .length = length };
}

/* The status of a task when it does not run any more. */
static inline struct transfer_status world_wait(transfer_engine_t engine, batch_id_t batch, size_t task)
{
	double end = world_seconds() + WORLD_SECONDS;
	struct transfer_status status = { .status = -1 };

	do {
		assert_int_equal(getTransferStatus(engine, batch, task, &status), 0);
		assert_true(world_seconds() < end);
	} while (status.status == STATUS_WAITING);
	return status;
}

/* freeBatchID() until it is not busy; its last answer. */
static inline int world_free(transfer_engine_t engine, batch_id_t batch)
{
	double end = world_seconds() + WORLD_SECONDS;
	int code;

	while ((code = freeBatchID(engine, batch)) == 4)
		assert_true(world_seconds() < end);
	return code;
}

/* Waits for one notification; the caller frees it. */
static inline notify_msg_t *world_note(transfer_engine_t engine, int *count)
{
	double end = world_seconds() + WORLD_SECONDS;
	notify_msg_t *list;

	while (!(list = getNotifsFromEngine(engine, count)))
		assert_true(world_seconds() < end);
	return list;
}

#endif
