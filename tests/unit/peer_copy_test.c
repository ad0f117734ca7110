/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's side of peer copies, on emulated Sunrise devices: what a peer must say to be given a handle, what the
 * envelope holds, and what ends a grant; and engines of one process that use each other's device memory.
 */
#include <core/core.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <transports/peer_copy/inside.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/devices.h"
#include "support/pair.h"

#define LENGTH (1u << 20)
#define MINE 4096u /* where a part of an allocation begins */

extern char **environ;

static struct world {
	struct cw_engine *engine;
	struct cw__part *part; /* sunrise_link in it */
	unsigned char *memory; /* of device 1 */
	struct cw_region *region;
	pid_t child; /* somebody who may hold memory */
} w;

static struct cw__part *part_of(struct cw_engine *engine)
{
	for (unsigned i = 0; i < engine->part_count; i++)
		if (!strcmp(engine->parts[i].ops->name, "sunrise_link"))
			return &engine->parts[i];
	return NULL;
}

static void allocate(struct cw_engine *engine, const char *location, void *address_out, struct cw_region **region_out)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	void *address;

	options.location = location;
	if (cw_memory_allocate(engine, LENGTH, &options, &address, region_out))
		fail_msg("%s", cw_last_error());
	memcpy(address_out, &address, sizeof(address));
}

static int set_up(void **state)
{
	static const struct cw_setting settings[] = { { "batch/grace", "100" } };
	char *const arguments[] = { "sleep", "300", NULL };

	(void)state;
	w.engine = engine_open(settings, 1);
	w.part = part_of(w.engine);
	assert_non_null(w.part);
	assert_true(w.part->on);
	allocate(w.engine, "sunrise:1", &w.memory, &w.region);
	assert_int_equal(posix_spawnp(&w.child, "sleep", NULL, NULL, arguments, environ), 0);
	return 0;
}

static void end_child(void)
{
	if (w.child) {
		kill(w.child, SIGKILL);
		waitpid(w.child, NULL, 0);
	}
	w.child = 0;
}

static int tear_down(void **state)
{
	(void)state;
	end_child();
	cw_engine_close(w.engine);
	return 0;
}

/* What a peer in the child's process would say. */
static struct cw__pc_message attach_of(const struct cw_region *region, uint64_t number)
{
	return (struct cw__pc_message){
		.type = CW__PC_ATTACH,
		.number = number,
		.region = region->view.id,
		.key = region->view.key,
		.pid = (uint32_t)w.child,
		.start = cw__pc_process_start(w.child),
	};
}

static int say(struct cw__part *part, const struct cw__pc_message *message, struct cw__pc_envelope *envelope_out)
{
	static const unsigned char instance[16] = { 7 };
	unsigned char data[64];
	struct cw_blob reply = { 0 };
	int status = part->ops->message(part->state, instance, data, cw__pc_message_encode(message, data, sizeof(data)),
					&reply);

	if (!status && envelope_out)
		assert_int_equal(cw__pc_envelope_decode(reply.data, reply.length, envelope_out), CW_OK);
	cw__host_ops.blob_free(&reply);
	return status;
}

static int detach(uint64_t number)
{
	const struct cw__pc_message message = { .type = CW__PC_DETACH, .number = number };

	return say(w.part, &message, NULL);
}

/* --------------------------------------------------------------------------------------------- messages */

static void the_envelope_tells_where_the_region_is(void **state)
{
	struct cw__pc_message attach = attach_of(w.region, 1);
	struct cw__pc_envelope envelope;

	(void)state;
	assert_int_equal(say(w.part, &attach, &envelope), CW_OK);
	assert_int_equal(envelope.vendor, CW__GPU_TANG);
	assert_int_equal(envelope.mode, CW__PC_IPC);
	assert_int_equal(envelope.device, 1);
	assert_true(*envelope.pci);
	assert_memory_equal(envelope.instance, w.engine->instance, sizeof(envelope.instance));
	assert_int_equal(envelope.pid, getpid());
	assert_int_equal(envelope.base + envelope.offset, (uintptr_t)w.memory);
	assert_int_equal(envelope.length, LENGTH);
	assert_int_equal(detach(1), CW_OK);
}

/* Two tensors in one allocation: one handle, two places. */
static void parts_of_an_allocation_share_its_handle(void **state)
{
	struct cw__pc_envelope whole, one, other;
	struct cw_region *first, *second;
	struct cw__pc_message attach = attach_of(w.region, 1);
	const char *reason;
	const struct cw__gpu *gpu = cw__gpu_load(CW__GPU_TANG, &reason);
	struct cw__gpu_scope scope;
	void *mine;

	(void)state;
	assert_int_equal(say(w.part, &attach, &whole), CW_OK);
	assert_int_equal(gpu->enter(0, &scope), 0);
	assert_int_equal(gpu->allocate(&mine, LENGTH), 0);
	gpu->leave(&scope);
	assert_int_equal(cw_region_register(w.engine, (char *)mine + MINE, 1000, NULL, &first), CW_OK);
	assert_int_equal(cw_region_register(w.engine, (char *)mine + 3 * MINE + 1, 77, NULL, &second), CW_OK);
	attach = attach_of(first, 2);
	assert_int_equal(say(w.part, &attach, &one), CW_OK);
	attach = attach_of(second, 3);
	assert_int_equal(say(w.part, &attach, &other), CW_OK);
	assert_memory_equal(one.handle, other.handle, sizeof(one.handle));
	assert_memory_not_equal(one.handle, whole.handle, sizeof(one.handle));
	assert_int_equal(one.base, (uintptr_t)mine);
	assert_int_equal(one.offset, MINE);
	assert_int_equal(one.length, 1000);
	assert_int_equal(other.base, (uintptr_t)mine);
	assert_int_equal(other.offset, 3 * MINE + 1);
	for (uint64_t number = 1; number <= 3; number++)
		assert_int_equal(detach(number), CW_OK);
	assert_int_equal(cw_region_unregister(first), CW_OK);
	assert_int_equal(cw_region_unregister(second), CW_OK);
	assert_int_equal(gpu->enter(0, &scope), 0);
	assert_int_equal(gpu->release(mine), 0);
	gpu->leave(&scope);
}

static void who_may_not_have_a_handle_gets_none(void **state)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw__pc_message attach = attach_of(w.region, 1);
	struct cw_region *private;
	void *address;

	(void)state;
	attach.key++;
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_STALE_REGION);
	attach = attach_of(w.region, 1);
	attach.region += UINT64_C(1) << 32; /* a later generation */
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_STALE_REGION);
	attach = attach_of(w.region, 1);
	attach.start++; /* another process had this id */
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_PERMISSION);
	attach = attach_of(w.region, 1);
	attach.pid = (uint32_t)getpid(); /* it is no engine of ours */
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_PERMISSION);
	/* Host memory has no handle, nor a device whose PCI id could be told. */
	assert_int_equal(cw_memory_allocate(w.engine, LENGTH, NULL, &address, &private), CW_OK);
	attach = attach_of(private, 1);
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_UNSUPPORTED);
	assert_int_equal(cw_memory_free(private), CW_OK);
	options.access = 0;
	options.location = "sunrise:0";
	assert_int_equal(cw_memory_allocate(w.engine, LENGTH, &options, &address, &private), CW_OK);
	attach = attach_of(private, 1);
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_ACCESS);
	attach = attach_of(w.region, 1);
	end_child();
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_UNSUPPORTED);
	/* None of them left anything behind. */
	assert_int_equal(cw_memory_free(private), CW_OK);
	assert_int_equal(cw_memory_free(w.region), CW_OK);
}

static void malformed_messages_are_counted(void **state)
{
	static const unsigned char instance[16] = { 7 };
	struct cw_engine_stats before = { .size = sizeof(before) }, after = before;
	struct cw_blob reply = { 0 };

	(void)state;
	assert_int_equal(cw_engine_stats_get(w.engine, &before), CW_OK);
	assert_int_equal(w.part->ops->message(w.part->state, instance, "CWPC", 4, &reply), CW_ERR_PROTOCOL);
	assert_int_equal(w.part->ops->message(w.part->state, instance, "", 0, &reply), CW_ERR_PROTOCOL);
	assert_int_equal(w.part->ops->message(w.part->state, instance, "\xca ", 2, &reply), CW_ERR_PROTOCOL);
	assert_int_equal(reply.length, 0);
	assert_int_equal(cw_engine_stats_get(w.engine, &after), CW_OK);
	assert_int_equal(after.protocol_errors - before.protocol_errors, 2); /* a cancel is not malformed */
}

/* ----------------------------------------------------------------------------------------------- grants */

static void memory_that_is_held_is_not_given_up(void **state)
{
	struct cw__pc_message attach = attach_of(w.region, 1);

	(void)state;
	assert_int_equal(say(w.part, &attach, NULL), CW_OK);
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_INVALID); /* the same number again */
	attach.number = 2;
	assert_int_equal(say(w.part, &attach, NULL), CW_OK);
	assert_int_equal(cw_memory_free(w.region), CW_ERR_BUSY);
	attach.number = 3;
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_STALE_REGION);
	assert_int_equal(detach(1), CW_OK);
	assert_int_equal(detach(1), CW_OK);
	assert_int_equal(detach(99), CW_OK);
	assert_int_equal(cw_memory_free(w.region), CW_ERR_BUSY);
	assert_int_equal(detach(2), CW_OK);
	assert_int_equal(cw_memory_free(w.region), CW_OK);
}

static void the_end_of_a_process_ends_its_grants(void **state)
{
	struct cw__pc_message attach = attach_of(w.region, 1);

	(void)state;
	assert_int_equal(say(w.part, &attach, NULL), CW_OK);
	assert_int_equal(cw_memory_free(w.region), CW_ERR_BUSY);
	end_child();
	assert_int_equal(cw_region_revoke(w.region, 0, 0, 20 * SECOND), CW_OK);
	assert_int_equal(cw_memory_free(w.region), CW_OK);
}

static void a_range_that_is_taken_back_ends_the_whole_grant(void **state)
{
	struct cw__pc_message attach = attach_of(w.region, 1);

	(void)state;
	assert_int_equal(say(w.part, &attach, NULL), CW_OK);
	assert_int_equal(cw_region_revoke(w.region, 0, 4096, 10 * MS), CW_ERR_BUSY);
	assert_int_equal(detach(1), CW_OK);
	assert_int_equal(cw_region_revoke(w.region, 0, 4096, 20 * SECOND), CW_OK);
	attach.number = 2;
	assert_int_equal(say(w.part, &attach, NULL), CW_ERR_STALE_REGION);
}

static void an_engine_closes_whoever_holds_its_memory(void **state)
{
	struct cw__pc_message attach = attach_of(w.region, 1);

	(void)state;
	assert_int_equal(say(w.part, &attach, NULL), CW_OK);
	/* tear_down closes it. */
}

/* ---------------------------------------------------------------------------------- engines of one process */

static struct cw_batch_result move(struct cw_engine *engine, struct cw_segment *segment, void *local, uint64_t remote,
				   uint64_t length, enum cw_op op)
{
	const struct cw_request request = {
		.segment = segment,
		.local = { .base = (uintptr_t)local, .page_size = length, .count = 1 },
		.remote = { .base = remote, .page_size = length, .count = 1 },
		.op = op,
	};
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch;

	assert_int_equal(cw_batch_submit(engine, &request, 1, NULL, &batch), CW_OK);
	assert_int_equal(cw_batch_wait(batch, 20 * SECOND), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	cw_batch_release(batch);
	return result;
}

/* The chosen way, or "". */
static const char *why(struct cw_segment *segment, void *local, uint64_t remote, uint64_t length)
{
	static struct cw_path_step steps[16];
	size_t count = 0;

	if (cw_path_explain(segment, local, remote, length, CW_OP_WRITE, steps, 16, &count))
		fail_msg("%s", cw_last_error());
	return count && steps[0].chosen && !strcmp(steps[0].transport, "sunrise_link") ? steps[0].why : "";
}

static void neighbours_use_each_others_memory(void **state)
{
	struct cw_engine *other = engine_open(NULL, 0);
	struct cw_segment *segment;
	struct cw_region *region;
	unsigned char *memory;

	(void)state;
	allocate(other, "sunrise:0", &memory, &region);
	assert_int_equal(cw_segment_open(other, cw_engine_name(w.engine), NULL, &segment), CW_OK);
	memset(memory, 0x5a, LENGTH);
	memset(w.memory, 0, LENGTH);
	assert_int_equal(move(other, segment, memory, (uintptr_t)w.memory, LENGTH - 1, CW_OP_WRITE).state,
			 CW_BATCH_COMPLETED);
	assert_memory_equal(w.memory, memory, LENGTH - 1);
	assert_int_equal(w.memory[LENGTH - 1], 0);
	assert_string_equal(why(segment, memory, (uintptr_t)w.memory, 100),
			    "one call of the runtime, waited for at once");
	assert_string_equal(why(segment, memory, (uintptr_t)w.memory, LENGTH),
			    "calls of the runtime on a thread of their own");
	/* It is told, lets go and says so: without that the answer would be BUSY. */
	assert_int_equal(cw_memory_free(w.region), CW_OK);
	assert_int_equal(move(other, segment, memory, (uintptr_t)w.memory, 100, CW_OP_WRITE).state, CW_BATCH_FAILED);
	cw_segment_close(segment);
	assert_int_equal(cw_memory_free(region), CW_OK);
	cw_engine_close(other);
}

/* A part of it is taken back: the grant ends, what lies beside goes another way. */
static void neighbours_reach_what_is_left_of_a_region(void **state)
{
	struct cw_engine *other = engine_open(NULL, 0);
	struct cw_segment *segment;
	struct cw_region *region;
	unsigned char *memory;

	(void)state;
	allocate(other, "sunrise:0", &memory, &region);
	assert_int_equal(cw_segment_open(other, cw_engine_name(w.engine), NULL, &segment), CW_OK);
	memset(memory, 0x41, LENGTH);
	assert_int_equal(move(other, segment, memory, (uintptr_t)w.memory, LENGTH, CW_OP_WRITE).state,
			 CW_BATCH_COMPLETED);
	assert_int_equal(cw_region_revoke(w.region, 0, 4096, 20 * SECOND), CW_OK);
	memset(memory, 0x42, LENGTH);
	assert_int_equal(move(other, segment, memory, (uintptr_t)w.memory + 4096, LENGTH - 4096, CW_OP_WRITE).state,
			 CW_BATCH_COMPLETED);
	assert_memory_equal(w.memory + 4096, memory, LENGTH - 4096);
	assert_int_equal(w.memory[4095], 0x41);
	assert_int_equal(move(other, segment, memory, (uintptr_t)w.memory, 100, CW_OP_WRITE).status,
			 CW_ERR_STALE_REGION);
	cw_segment_close(segment);
	assert_int_equal(cw_memory_free(region), CW_OK);
	cw_engine_close(other);
}

static void a_segment_that_closes_gives_back(void **state)
{
	struct cw_engine *other = engine_open(NULL, 0);
	struct cw_segment *segment;
	struct cw_region *region;
	unsigned char *memory;

	(void)state;
	allocate(other, "sunrise:0", &memory, &region);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(cw_segment_open(other, cw_engine_name(w.engine), NULL, &segment), CW_OK);
		assert_int_equal(move(other, segment, memory, (uintptr_t)w.memory, 4096, CW_OP_READ).state,
				 CW_BATCH_COMPLETED);
		cw_segment_close(segment);
	}
	cw_engine_close(other);
	assert_int_equal(cw_memory_free(w.region), CW_OK);
}

static void one_engine_reaches_itself(void **state)
{
	struct cw_segment *segment;
	struct cw_region *region;
	unsigned char *memory;

	(void)state;
	allocate(w.engine, "sunrise:0", &memory, &region);
	assert_int_equal(cw_segment_open(w.engine, cw_engine_name(w.engine), NULL, &segment), CW_OK);
	memset(memory, 0x33, LENGTH);
	assert_int_equal(move(w.engine, segment, memory, (uintptr_t)w.memory, LENGTH, CW_OP_WRITE).state,
			 CW_BATCH_COMPLETED);
	assert_memory_equal(w.memory, memory, LENGTH);
	/* A part of it is taken back: what lies beside goes on. */
	assert_int_equal(cw_region_revoke(w.region, 0, 4096, 20 * SECOND), CW_OK);
	assert_int_equal(move(w.engine, segment, memory, (uintptr_t)w.memory + 4096, LENGTH - 4096, CW_OP_WRITE).state,
			 CW_BATCH_COMPLETED);
	assert_int_equal(move(w.engine, segment, memory, (uintptr_t)w.memory, 100, CW_OP_WRITE).status,
			 CW_ERR_STALE_REGION);
	assert_int_equal(move(w.engine, segment, memory, (uintptr_t)w.memory, LENGTH, CW_OP_WRITE).status,
			 CW_ERR_STALE_REGION);
	cw_segment_close(segment);
	assert_int_equal(cw_memory_free(region), CW_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_envelope_tells_where_the_region_is, set_up, tear_down),
		cmocka_unit_test_setup_teardown(parts_of_an_allocation_share_its_handle, set_up, tear_down),
		cmocka_unit_test_setup_teardown(who_may_not_have_a_handle_gets_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(malformed_messages_are_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(memory_that_is_held_is_not_given_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_end_of_a_process_ends_its_grants, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_range_that_is_taken_back_ends_the_whole_grant, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_engine_closes_whoever_holds_its_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(neighbours_use_each_others_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(neighbours_reach_what_is_left_of_a_region, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_segment_that_closes_gives_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_engine_reaches_itself, set_up, tear_down),
	};

	if (!emulated_devices()) {
		print_message("skipped: the emulated Tang runtime is not built\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
