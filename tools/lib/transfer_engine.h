/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What transfer_engine_bench and transfer_engine_validator have in common: the flags, target mode, buffers on both
 * sides, worker threads and the last line. Names, defaults and lines are those that scripts for Mooncake's programs
 * know; the peer may be one of those programs.
 */
#ifndef TOOLS_TRANSFER_ENGINE_H
#define TOOLS_TRANSFER_ENGINE_H

#include <stdint.h>

#include "lib/arguments.h"
#include "lib/content.h"
#include "lib/engine.h"

#define TRANSFER_OPERATIONS "read|write"

struct transfer_flags {
	const char *local_server_name, *metadata_server, *protocol, *device_name, *nic_priority_matrix, *segment_id;
	const char *backend;
	uint64_t buffer_size, batch_size, block_size, threads, report_precision;
	double duration;
	int mode, operation, auto_discovery, report_unit;
	int use_vram; /* -1 = as the protocol wants it */
	int init_mem, gpu_id;
	int compares; /* the program's: it looks at the content of its blocks */
};

#define TRANSFER_FLAGS_INIT                                                                                            \
	{                                                                                                              \
		.metadata_server = "192.168.3.77:2379", .protocol = "rdma", .device_name = "mlx5_2",                   \
		.nic_priority_matrix = "", .segment_id = "192.168.3.76", .backend = "classic",                         \
		.buffer_size = 1u << 30, .batch_size = 128, .block_size = 65536, .threads = 12, .report_precision = 2, \
		.duration = 10, .use_vram = -1, .init_mem = 1                                                          \
	}

/* Rows for the flags that both programs have. */
#define TRANSFER_ARGUMENTS(flags)                                                                                      \
	{ "local_server_name", ARGUMENT_TEXT, &(flags)->local_server_name, "HOST",                                     \
	  "own address or name (the host name)" },                                                                     \
		{ "metadata_server", ARGUMENT_TEXT, &(flags)->metadata_server, "URL",                                  \
		  "P2PHANDSHAKE, or etcd://, http:// or redis:// and a server" },                                      \
		{ "mode", ARGUMENT_CHOICE, &(flags)->mode, "initiator|target", "which side this is (initiator)" },     \
		{ "protocol", ARGUMENT_TEXT, &(flags)->protocol, "tcp|shm|local|sunrise_link|nvlink_intra",            \
		  "transport; tcp to a Mooncake peer" },                                                               \
		{ "device_name", ARGUMENT_TEXT, &(flags)->device_name, "LIST", "RDMA devices; not used" },             \
		{ "nic_priority_matrix", ARGUMENT_TEXT, &(flags)->nic_priority_matrix, "FILE", "for RDMA; not used" }, \
		{ "segment_id", ARGUMENT_TEXT, &(flags)->segment_id, "HOST:PORT", "the target, as it names itself" },  \
		{ "buffer_size", ARGUMENT_NUMBER, &(flags)->buffer_size, "BYTES",                                      \
		  "on each NUMA node or device (1g)" },                                                                \
		{ "batch_size", ARGUMENT_NUMBER, &(flags)->batch_size, "N", "requests a batch (128)" },                \
		{ "block_size", ARGUMENT_NUMBER, &(flags)->block_size, "BYTES", "of each request (64k)" },             \
		{ "duration", ARGUMENT_DECIMAL, &(flags)->duration, "SECONDS", "how long to run (10)" },               \
		{ "threads", ARGUMENT_NUMBER, &(flags)->threads, "N", "worker threads (12)" },                         \
		{ "auto_discovery", ARGUMENT_FLAG, &(flags)->auto_discovery, NULL, "of RDMA devices; not used" },      \
		{ "report_unit", ARGUMENT_CHOICE, &(flags)->report_unit, "GB|GiB|Gb|MB|MiB|Mb|KB|KiB|Kb",              \
		  "of the throughput (GB)" },                                                                          \
		{ "report_precision", ARGUMENT_NUMBER, &(flags)->report_precision, "N",                                \
		  "decimals of the throughput (2)" },                                                                  \
		{ "use_vram", ARGUMENT_FLAG, &(flags)->use_vram, NULL,                                                 \
		  "device memory (where the protocol is for it)" },                                                    \
	{                                                                                                              \
		"gpu_id", ARGUMENT_INTEGER, &(flags)->gpu_id, "N", "device of the memory; -1 = one buffer on each (0)" \
	}

struct transfer_run;

/* One thread: its own blocks, at the same places on both sides while the target has room. */
struct transfer_worker {
	struct transfer_run *run;
	uint64_t index;
	unsigned char *local;        /* of its first block */
	uint64_t stride;             /* from one of its blocks to the next */
	struct content content;      /* when the program compares */
	struct cw_request *requests; /* batch_size of them, without their op */
	uint64_t batches;
	int failed;
};

/* The work of a thread, until transfer_stopped(). A failure sets worker->failed and is logged by the function. */
typedef void (*transfer_worker_fn)(struct transfer_worker *worker);

/* Parses the flags, checks them, and is target or initiator. Returns the exit status. */
int transfer_main(int argc, char **argv, const struct command_line *line, struct transfer_flags *flags,
		  transfer_worker_fn work);

const struct transfer_flags *transfer_flags_of(const struct transfer_worker *worker);

/* The time is over, or a signal came. */
int transfer_stopped(const struct transfer_worker *worker);

/* Sends all the worker's requests as one batch and waits for its end. 0, or -1 after a message. */
int transfer_batch(struct transfer_worker *worker, enum cw_op op);

/* One line on stderr, headed like those of the programs that scripts know: level is 'I', 'W' or 'E'. */
void transfer_log(char level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
