/* SPDX-License-Identifier: Apache-2.0 */
/* The two processes of `causeway replay` and what a run reports. The command itself is in replay.c. */
#ifndef CAUSEWAY_REPLAY_H
#define CAUSEWAY_REPLAY_H

#include <stdint.h>

#include "kv_model.h"
#include "lib/engine.h"
#include "lib/histogram.h"
#include "trace.h"

#define REPLAY_COMMAND "causeway replay"

/* What a prefill run needs to know. */
struct replay_plan {
	const struct trace *trace;
	struct kv_geometry geometry;
	uint32_t capacity_blocks; /* of the decode side */
	uint32_t staging_blocks;  /* of the prefill side: blocks that are made or under way */
	uint32_t in_flight;       /* rounds at once */
	double speed;             /* 0 = as fast as it goes, 1 = as recorded */
	int ordinary;             /* memory that is not the engine's */
	const char *transport;    /* comma list; NULL = any */
};

struct replay_report {
	uint64_t requests, blocks, blocks_sent, blocks_evicted, reused_checked;
	uint64_t bytes, pages, pages_verified, pages_wrong, rounds_failed;
	uint64_t wall_ns, transfer_ns; /* transfer: while any round was under way */
	uint64_t generate_ns, verify_ns;
	struct histogram request_transfer; /* of requests that sent something: nanoseconds under way */
	char path[64];
	char error[256]; /* the first one; "" = none */
};

/* Runs the trace against the decode process of this name. 0 when all went well, else -1 and report_out->error says why.
 */
int replay_prefill(struct cw_engine *engine, const char *decode, const struct replay_plan *plan,
		   struct replay_report *report_out);

/* Serves prefill processes, one after the other, until a signal. memory_limit 0 = none. Returns the exit status. */
int replay_decode(struct cw_engine *engine, uint64_t memory_limit);

#endif
