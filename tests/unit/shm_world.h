/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the shm transport share: engines, memory, transfers that must complete, and what /proc tells. */
#ifndef CW_TESTS_SHM_WORLD_H
#define CW_TESTS_SHM_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <causeway/causeway.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <util/clock.h>

#define MIB (1024u * 1024)
#define LIMIT (20 * CW__SECOND) /* no step of a test takes longer */

static inline struct cw_engine *engine_open(void)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine = NULL;

	if (cw_engine_open(&options, &engine))
		fail_msg("engine: %s", cw_last_error());
	return engine;
}

static inline struct cw_segment *segment_open(struct cw_engine *engine, const char *name)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_segment *segment = NULL;

	options.transports = "shm";
	if (cw_segment_open(engine, name, &options, &segment))
		fail_msg("segment: %s", cw_last_error());
	return segment;
}

static inline void *memory(size_t length)
{
	void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(address, MAP_FAILED);
	return address;
}

static inline struct cw_region *region_register(struct cw_engine *engine, void *address, size_t length, uint32_t access)
{
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct cw_region *region = NULL;

	options.access = access;
	if (cw_region_register(engine, address, length, &options, &region))
		fail_msg("register: %s", cw_last_error());
	return region;
}

static inline void *allocate(struct cw_engine *engine, size_t length, uint32_t access, struct cw_region **region_out)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	void *address = NULL;

	options.access = access;
	if (cw_memory_allocate(engine, length, &options, &address, region_out))
		fail_msg("allocate: %s", cw_last_error());
	return address;
}

static inline struct cw_vec range(uint64_t base, uint64_t length)
{
	return (struct cw_vec){ .base = base, .page_size = length, .count = 1 };
}

static inline struct cw_batch_result run(struct cw_engine *engine, const struct cw_request *request, uint64_t deadline)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch = NULL;

	options.deadline_ns = deadline;
	if (cw_batch_submit(engine, request, 1, &options, &batch))
		fail_msg("submit: %s", cw_last_error());
	assert_int_equal(cw_batch_wait(batch, LIMIT), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	cw_batch_release(batch);
	return result;
}

static inline struct cw_batch_result move(struct cw_engine *engine, struct cw_segment *segment, enum cw_op op,
					  void *local, uint64_t remote, uint64_t length)
{
	struct cw_request request = { .segment = segment, .op = op };

	request.local = range((uintptr_t)local, length);
	request.remote = range(remote, length);
	return run(engine, &request, 0);
}

static inline void expect_completed(struct cw_batch_result result)
{
	if (result.state != CW_BATCH_COMPLETED)
		fail_msg("state %d: %s (%s)", result.state, result.text, cw_status_name(result.status));
}

static inline void fill(void *memory_to_fill, size_t length, unsigned seed)
{
	unsigned char *bytes = memory_to_fill;

	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)(seed + i * 31 + (i >> 8) * 7 + (i >> 16));
}

static inline void expect_filled(const void *filled, size_t length, unsigned seed)
{
	const unsigned char *bytes = filled;

	for (size_t i = 0; i < length; i++)
		if (bytes[i] != (unsigned char)(seed + i * 31 + (i >> 8) * 7 + (i >> 16)))
			fail_msg("byte %zu of %zu is wrong", i, length);
}

static inline struct cw_path_step path(struct cw_segment *segment, const void *local, uint64_t remote, enum cw_op op)
{
	struct cw_path_step steps[16];
	size_t count = 0;

	if (cw_path_explain(segment, local, remote, 1, op, steps, 16, &count))
		fail_msg("path: %s", cw_last_error());
	for (size_t i = 0; i < count; i++)
		if (!strcmp(steps[i].transport, "shm"))
			return steps[i];
	fail_msg("the path report does not mention shm");
	return steps[0];
}

/* How often a word occurs in a file of /proc/self; "" counts lines. */
static inline unsigned count_lines(const char *file, const char *word)
{
	FILE *stream = fopen(file, "r");
	char line[512];
	unsigned count = 0;

	assert_non_null(stream);
	while (fgets(line, sizeof(line), stream))
		count += strstr(line, word) != NULL;
	fclose(stream);
	return count;
}

static inline unsigned count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* Two engines in this process. */
struct pair {
	struct cw_engine *initiator, *target;
	struct cw_segment *segment;
	unsigned char *local;
	size_t length;
};

static inline struct pair pair_open(size_t length)
{
	struct pair pair = { engine_open(), engine_open(), NULL, memory(length), length };

	pair.segment = segment_open(pair.initiator, cw_engine_name(pair.target));
	region_register(pair.initiator, pair.local, length, CW_ACCESS_LOCAL);
	return pair;
}

static inline void pair_close(struct pair *pair)
{
	cw_segment_close(pair->segment);
	cw_engine_close(pair->initiator);
	cw_engine_close(pair->target);
	munmap(pair->local, pair->length);
}

#endif
