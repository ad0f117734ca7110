/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer_engine_validator: writes a pattern to the target, reads it back and compares, with the flags and output
 * that users of Mooncake's program of that name know. The first batch and every 64th are compared; the others only
 * load the path.
 */
#include <string.h>

#include "lib/pattern.h"
#include "lib/transfer_engine.h"

#define COMPARE_EVERY 64u

static unsigned char *block(const struct transfer_worker *worker, uint64_t index)
{
	return worker->local + index * worker->stride;
}

static uint64_t block_key(const struct transfer_worker *worker, uint64_t index)
{
	return pattern_mix((worker->index << 32) + index) + worker->batches;
}

static void fill(struct transfer_worker *worker)
{
	for (uint64_t i = 0; i < transfer_flags_of(worker)->batch_size; i++)
		pattern_fill(block(worker, i), transfer_flags_of(worker)->block_size, block_key(worker, i));
}

static void clear(struct transfer_worker *worker)
{
	for (uint64_t i = 0; i < transfer_flags_of(worker)->batch_size; i++)
		memset(block(worker, i), 0, transfer_flags_of(worker)->block_size);
}

static int compare(struct transfer_worker *worker)
{
	for (uint64_t i = 0; i < transfer_flags_of(worker)->batch_size; i++)
		if (!pattern_matches(block(worker, i), transfer_flags_of(worker)->block_size, block_key(worker, i)))
			return -1;
	return 0;
}

/* 0, or -1 after a message. */
static int round_trip(struct transfer_worker *worker)
{
	int compared = worker->batches % COMPARE_EVERY == 0;

	if (compared)
		fill(worker);
	if (transfer_batch(worker, CW_OP_WRITE) != 0)
		return -1;
	if (compared)
		clear(worker);
	if (transfer_batch(worker, CW_OP_READ) != 0)
		return -1;
	if (compared && compare(worker) != 0) {
		transfer_log('E', "Detect data integrity problem");
		return -1;
	}
	return 0;
}

static void validate_worker(struct transfer_worker *worker)
{
	do {
		if (round_trip(worker) != 0) {
			worker->failed = 1;
			transfer_log('E', "Worker %llu stopped!", (unsigned long long)worker->index);
			return;
		}
		worker->batches++;
	} while (!transfer_stopped(worker));
	transfer_log('I', "Worker %llu stopped! Data validation passed", (unsigned long long)worker->index);
}

int main(int argc, char **argv)
{
	struct transfer_flags flags = TRANSFER_FLAGS_INIT;
	const struct argument arguments[] = {
		TRANSFER_ARGUMENTS(&flags),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = "transfer_engine_validator",
		.operands = "",
		.summary = "Writes to a target, reads back and compares; the target may be Mooncake's.\n"
			   "First --mode=target, then --mode=initiator with the name that it printed as --segment_id.",
		.arguments = arguments,
	};

	return transfer_main(argc, argv, &line, &flags, validate_worker);
}
