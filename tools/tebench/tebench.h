/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of tebench share: the options, and what an initiator works with. */
#ifndef TEBENCH_TEBENCH_H
#define TEBENCH_TEBENCH_H

#include <causeway/causeway.h>
#include <stdint.h>

#include "lib/buffers.h"

#define COMMAND "tebench"

enum seg_type { SEG_DRAM, SEG_VRAM };
#define SEG_TYPES "DRAM|VRAM"

enum op_type { OP_READ, OP_WRITE, OP_MIX, OP_WRITE_SEED, OP_READ_VERIFY };
#define OP_TYPES "read|write|mix|write_seed|read_verify"

struct tebench_options {
	const char *seg_name, *target_seg_name;
	int seg_type; /* enum seg_type */
	int op_type;  /* enum op_type */
	int check_consistency, notifi;
	uint64_t total_buffer_size;
	uint64_t start_block_size, max_block_size;
	uint64_t start_batch_size, max_batch_size;
	uint64_t start_num_threads, max_num_threads;
	uint64_t target_offset, target_range_size;
	uint64_t request_interval_us, deadline_us, deadline_tight_threads;
	double duration, warmup;
	int local_gpu_id, target_gpu_id;
	int backend, metadata_type;
	uint64_t rpc_server_port;
	const char *xport_type, *metadata_url_list;
	/* Known, and refused unless they have their default: */
	const char *seg_type_mix, *qos_classes, *qos_classes_json, *workload_classes_json, *qos_output_jsonl;
	const char *tent_transport_hint, *tent_intent_type;
	double qos_link_capacity_gbps;
	int deadline_bw_arbitration;
};

/* An initiator: thread t uses place t % count on either side. */
struct initiator {
	const struct tebench_options *options;
	struct cw_engine *engine;
	struct cw_segment *segment;
	struct buffers local;
	uint64_t remotes[BUFFERS_MAX]; /* where the range starts in the target's buffers, in the order of the threads */
	size_t remote_count;
	uint64_t window; /* bytes that can be used in every buffer of both sides */
};

/* The initiator's run: opens everything, goes through the sweep, prints the table. Returns the exit status. */
int tebench_initiate(const struct tebench_options *options);

/* Opens the engine under the name that the options ask for. 0, or -1 after a message. */
int tebench_open_engine(const struct tebench_options *options, struct cw_engine **engine_out);

/* Opens the buffers of this side. 0, or -1 after a message. */
int tebench_open_buffers(const struct tebench_options *options, struct cw_engine *engine, struct buffers *buffers_out);

#endif
