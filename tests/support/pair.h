/* SPDX-License-Identifier: Apache-2.0 */
/* Two engines of one process with memory on both sides and a segment from one to the other: what many tests start from.
 */
#ifndef CW_TESTS_SUPPORT_PAIR_H
#define CW_TESTS_SUPPORT_PAIR_H

#include <causeway/causeway.h>

#define SECOND UINT64_C(1000000000)
#define MS UINT64_C(1000000)

struct pair {
	struct cw_engine *near, *far; /* the same one for "local" */
	struct cw_segment *segment;   /* from near to far */
	unsigned char *here, *there;  /* engine-owned memory of near and far */
	struct cw_region *here_region, *there_region;
	size_t length;
};

/* transports: "local" (one engine), or the list that the segment may use. Ends the program with a text when it fails.
 */
void pair_open(struct pair *pair, const char *transports, size_t length);
void pair_close(struct pair *pair);
/* Engines without anything, silent; name NULL = 127.0.0.1. */
struct cw_engine *engine_open(const struct cw_setting *settings, size_t count);
/* One plain range, offsets into here and there. */
struct cw_request pair_request(const struct pair *pair, enum cw_op op, size_t here, size_t there, size_t length);
/* Submits, waits at most 20 s, releases; returns the result. */
struct cw_batch_result pair_run(const struct pair *pair, const struct cw_request *requests, size_t count,
				const struct cw_batch_options *options);
uint64_t now_ns(void);
/* Entries of a directory of /proc/self, such as "fd" or "task". */
unsigned own_entries(const char *directory);

#endif
