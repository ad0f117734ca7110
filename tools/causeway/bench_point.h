/* SPDX-License-Identifier: Apache-2.0 */
/* One point of a benchmark: so many threads, each with so many batches in flight, for so long. */
#ifndef CAUSEWAY_BENCH_POINT_H
#define CAUSEWAY_BENCH_POINT_H

#include <stddef.h>
#include <stdint.h>

#include <causeway/causeway.h>

#include "bench_usage.h"
#include "lib/histogram.h"

#define BENCH_OPS "read|write|mixed"
enum bench_op { BENCH_READ = 0, BENCH_WRITE = 1, BENCH_MIXED = 2 };

/* One target. */
struct bench_peer {
	struct cw_segment *segment;
	uint64_t remote;
};

/* What all points of a run share. Slot n of the buffers is moved to or from target n modulo their number. */
struct bench_place {
	struct cw_engine *engine;
	struct bench_peer *peers;
	size_t peer_count;
	unsigned char *local;
	uint64_t length; /* of the part that is used, on all sides */
	double seconds;
	int verify;
	struct bench_meter own, theirs; /* theirs.count is 0 where the targets' processes are not known */
};

struct bench_point {
	enum bench_op op;
	uint64_t page_size, pages; /* of each request; one page is a plain range */
	uint64_t batch, depth, threads;
};

struct bench_result {
	struct histogram latency; /* of a batch: submit to terminal, nanoseconds */
	uint64_t bytes, elapsed_ns;
	struct bench_usage own, theirs; /* what this process and the targets used */
	int verified;                   /* 1 = every byte was checked and right */
	char error[256];                /* "" = none */
};

/* Runs the point. 0, or -1 with the reason in result_out->error. A signal ends it early and cleanly. */
int bench_point_run(struct bench_place *place, const struct bench_point *point, struct bench_result *result_out);

#endif
