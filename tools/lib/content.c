/* SPDX-License-Identifier: Apache-2.0 */
/* See content.h. */
#include "lib/content.h"

#include <stdio.h>
#include <string.h>

#include "lib/pattern.h"

#define PIECE (4ull << 20) /* a multiple of 8, so that the pattern of a piece follows from that of the whole */

int content_open(const char *command, struct cw_engine *engine, int on_device, struct content *content_out)
{
	struct content content = { .command = command, .engine = engine, .on_device = on_device };
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	void *address;
	int status;

	if (on_device) {
		if (engine_segment_open(command, engine, cw_engine_name(engine), NULL, &content.self) != 0)
			return -1;
		options.access = CW_ACCESS_LOCAL; /* peers shall not take it for a buffer */
		status = cw_memory_allocate(engine, PIECE, &options, &address, &content.region);
		if (status != CW_OK) {
			engine_report(command, "cannot get memory", status);
			cw_segment_close(content.self);
			return -1;
		}
		content.bounce = address;
	}
	*content_out = content;
	return 0;
}

void content_close(struct content *content)
{
	cw_memory_free(content->region);
	cw_segment_close(content->self);
	*content = (struct content){ 0 };
}

/* Between the bounce buffer and device memory of this process. */
static int move(struct content *content, enum cw_op op, const unsigned char *address, uint64_t length)
{
	const struct cw_request request = {
		.segment = content->self,
		.local = { .base = (uint64_t)(uintptr_t)content->bounce, .page_size = length, .count = 1 },
		.remote = { .base = (uint64_t)(uintptr_t)address, .page_size = length, .count = 1 },
		.op = op,
	};
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch;
	int status = cw_batch_submit(content->engine, &request, 1, NULL, &batch);

	if (status != CW_OK) {
		engine_report(content->command, "device memory cannot be reached", status);
		return -1;
	}
	cw_batch_wait(batch, CW_FOREVER);
	cw_batch_result_get(batch, &result);
	cw_batch_release(batch);
	if (result.state == CW_BATCH_COMPLETED)
		return 0;
	fprintf(stderr, "%s: device memory cannot be reached: %s\n", content->command, result.text);
	return -1;
}

static uint64_t piece_at(uint64_t done, uint64_t length)
{
	return length - done < PIECE ? length - done : PIECE;
}

int content_fill(struct content *content, unsigned char *address, uint64_t length, uint64_t key)
{
	if (!content->on_device) {
		pattern_fill(address, length, key);
		return 0;
	}
	for (uint64_t done = 0; done < length; done += PIECE) {
		uint64_t piece = piece_at(done, length);

		pattern_fill(content->bounce, piece, key + done / 8);
		if (move(content, CW_OP_WRITE, address + done, piece) != 0)
			return -1;
	}
	return 0;
}

int content_clear(struct content *content, unsigned char *address, uint64_t length)
{
	if (!content->on_device) {
		memset(address, 0, length);
		return 0;
	}
	memset(content->bounce, 0, piece_at(0, length));
	for (uint64_t done = 0; done < length; done += PIECE)
		if (move(content, CW_OP_WRITE, address + done, piece_at(done, length)) != 0)
			return -1;
	return 0;
}

int content_matches(struct content *content, const unsigned char *address, uint64_t length, uint64_t key)
{
	if (!content->on_device)
		return pattern_matches(address, length, key);
	for (uint64_t done = 0; done < length; done += PIECE) {
		uint64_t piece = piece_at(done, length);

		/* What a read that moved nothing would leave there must not match. */
		memset(content->bounce, 0, piece);
		if (move(content, CW_OP_READ, address + done, piece) != 0)
			return -1;
		if (!pattern_matches(content->bounce, piece, key + done / 8))
			return 0;
	}
	return 1;
}
