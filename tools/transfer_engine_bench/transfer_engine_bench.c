/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer_engine_bench: the throughput of reads or writes of one block size, with the flags and output that users of
 * Mooncake's program of that name know. `causeway bench` measures more.
 */
#include "lib/transfer_engine.h"

static void bench_worker(struct transfer_worker *worker)
{
	enum cw_op op = transfer_flags_of(worker)->operation ? CW_OP_WRITE : CW_OP_READ;

	while (!transfer_stopped(worker)) {
		if (transfer_batch(worker, op) != 0) {
			worker->failed = 1;
			break;
		}
		worker->batches++;
	}
	transfer_log('I', "Worker %llu stopped!", (unsigned long long)worker->index);
}

int main(int argc, char **argv)
{
	struct transfer_flags flags = TRANSFER_FLAGS_INIT;
	const struct argument arguments[] = {
		TRANSFER_ARGUMENTS(&flags),
		{ "operation", ARGUMENT_CHOICE, &flags.operation, TRANSFER_OPERATIONS, "what to measure (read)" },
		{ "backend", ARGUMENT_TEXT, &flags.backend, "classic|tent", "accepted; there is one engine here" },
		{ "init_mem", ARGUMENT_FLAG, &flags.init_mem, NULL, "fill device memory first (yes)" },
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = "transfer_engine_bench",
		.operands = "",
		.summary = "Measures transfers between two engines; the other one may be Mooncake's.\n"
			   "First --mode=target, then --mode=initiator with the name that it printed as --segment_id.",
		.arguments = arguments,
	};

	return transfer_main(argc, argv, &line, &flags, bench_worker);
}
