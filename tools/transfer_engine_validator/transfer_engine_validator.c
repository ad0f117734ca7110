/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer_engine_validator: writes a pattern to the target, reads it back and compares, with the flags and output
 * that users of Mooncake's program of that name know. The first batch and every 64th are compared; the others only
 * load the path.
 */
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

static int fill(struct transfer_worker *worker)
{
	const struct transfer_flags *flags = transfer_flags_of(worker);
	int status = 0;

	for (uint64_t i = 0; i < flags->batch_size && status == 0; i++)
		status = content_fill(&worker->content, block(worker, i), flags->block_size, block_key(worker, i));
	return status;
}

static int clear(struct transfer_worker *worker)
{
	const struct transfer_flags *flags = transfer_flags_of(worker);
	int status = 0;

	for (uint64_t i = 0; i < flags->batch_size && status == 0; i++)
		status = content_clear(&worker->content, block(worker, i), flags->block_size);
	return status;
}

/* 1 when all blocks are right, 0 when one is not, -1 when they cannot be read. */
static int compare(struct transfer_worker *worker)
{
	const struct transfer_flags *flags = transfer_flags_of(worker);
	int same = 1;

	for (uint64_t i = 0; i < flags->batch_size && same == 1; i++)
		same = content_matches(&worker->content, block(worker, i), flags->block_size, block_key(worker, i));
	return same;
}

/* 0, or -1 after a message. */
static int round_trip(struct transfer_worker *worker)
{
	int compared = worker->batches % COMPARE_EVERY == 0;

	int same;

	if (compared && fill(worker) != 0)
		return -1;
	if (transfer_batch(worker, CW_OP_WRITE) != 0)
		return -1;
	if (compared && clear(worker) != 0)
		return -1;
	if (transfer_batch(worker, CW_OP_READ) != 0)
		return -1;
	same = compared ? compare(worker) : 1;
	if (same == 0)
		transfer_log('E', "Detect data integrity problem");
	return same == 1 ? 0 : -1;
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

	flags.compares = 1;
	flags.init_mem = 0;
	return transfer_main(argc, argv, &line, &flags, validate_worker);
}
