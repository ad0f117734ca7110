/* SPDX-License-Identifier: Apache-2.0 */
/* One point of the sweep: threads that send batches of one shape for a while, and what was measured. */
#ifndef TEBENCH_POINT_H
#define TEBENCH_POINT_H

#include <stddef.h>
#include <stdint.h>

#include "tebench.h"

struct point {
	uint64_t block, batch, threads;
};

/* What a group of threads did: those with a deadline, or those without. */
struct group {
	uint64_t threads, operations, missed;
	double seconds; /* all threads' durations together */
};

struct point_result {
	uint64_t *times_ns; /* of every transfer, sorted */
	size_t count;
	double thread_seconds;     /* all threads' durations together */
	struct group tight, loose; /* with a deadline and without */
	char error[320];           /* why it failed */
};

/* Measures. 0 with a result that point_free() frees, or -1 with result->error ("" = stopped by a signal). */
int point_run(const struct initiator *initiator, const struct point *point, struct point_result *result);
void point_free(struct point_result *result);

#endif
