/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request traces in the format that the Mooncake project publishes: a JSON object on each line with timestamp (ms),
 * input_length, output_length (tokens) and hash_ids, one number for each block of 512 prompt tokens; equal numbers are
 * equal blocks.
 */
#ifndef CAUSEWAY_TRACE_H
#define CAUSEWAY_TRACE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct trace_request {
	uint64_t timestamp_ms;
	size_t first, count; /* in trace.hashes */
};

struct trace {
	struct trace_request *requests;
	size_t request_count;
	uint64_t *hashes;
	size_t hash_count;
};

/* Reads up to limit requests (0 = all). name stands in messages. 0, or -1 with a line for people in error. */
int trace_read(FILE *file, const char *name, size_t limit, struct trace *trace_out, char *error, size_t error_length);
void trace_free(struct trace *trace);

/* Writes a trace of so many requests: conversations that go on, a few shared prompts, random arrivals. The same seed
 * gives the same trace. 0 or -1. */
int trace_generate(FILE *out, uint64_t requests, uint64_t seed);

#endif
