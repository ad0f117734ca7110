/* SPDX-License-Identifier: Apache-2.0 */
/* See pair.h. Failures here end the program: no test can go on without what it starts from. */
#include "pair.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void need(int status, const char *what)
{
	if (!status)
		return;
	fprintf(stderr, "%s: %s: %s\n", what, cw_status_name(status), cw_last_error());
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

struct cw_engine *engine_open(const struct cw_setting *settings, size_t count)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine = NULL;

	options.settings = settings;
	options.setting_count = count;
	need(cw_engine_open(&options, &engine), "opening an engine");
	return engine;
}

void pair_open(struct pair *pair, const char *transports, size_t length)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	void *memory;

	memset(pair, 0, sizeof(*pair));
	pair->length = length;
	pair->near = engine_open(NULL, 0);
	pair->far = strcmp(transports, "local") ? engine_open(NULL, 0) : pair->near;
	need(cw_memory_allocate(pair->near, length, NULL, &memory, &pair->here_region), "allocating here");
	pair->here = memory;
	need(cw_memory_allocate(pair->far, length, NULL, &memory, &pair->there_region), "allocating there");
	pair->there = memory;
	options.transports = transports;
	need(cw_segment_open(pair->near, cw_engine_name(pair->far), &options, &pair->segment), "opening a segment");
}

void pair_close(struct pair *pair)
{
	cw_segment_close(pair->segment);
	cw_engine_close(pair->near);
	if (pair->far != pair->near)
		cw_engine_close(pair->far);
}

struct cw_request pair_request(const struct pair *pair, enum cw_op op, size_t here, size_t there, size_t length)
{
	return (struct cw_request){
		.segment = pair->segment,
		.op = op,
		.local = { .base = (uint64_t)(uintptr_t)pair->here + here, .page_size = length, .count = 1 },
		.remote = { .base = (uint64_t)(uintptr_t)pair->there + there, .page_size = length, .count = 1 },
	};
}

struct cw_batch_result pair_run(const struct pair *pair, const struct cw_request *requests, size_t count,
				const struct cw_batch_options *options)
{
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch = NULL;

	need(cw_batch_submit(pair->near, requests, count, options, &batch), "submitting");
	need(cw_batch_wait(batch, 20 * SECOND), "waiting for a batch");
	need(cw_batch_result_get(batch, &result), "asking for a result");
	cw_batch_release(batch);
	return result;
}

unsigned own_entries(const char *directory)
{
	char path[64];
	unsigned count = 0;
	DIR *open;

	snprintf(path, sizeof(path), "/proc/self/%s", directory);
	open = opendir(path);
	while (open && readdir(open))
		count++;
	if (open)
		closedir(open);
	return count;
}
