/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first program: two processes, one message. Start `hello` in one terminal; it prints its name. Start `hello NAME`
 * in another: it writes into the memory of the first and notifies it.
 */
#include <causeway/causeway.h>

#include <stdio.h>
#include <string.h>

#define LENGTH 64

static int fail(const char *what, int status)
{
	fprintf(stderr, "hello: %s: %s: %s\n", what, cw_strerror(status), cw_last_error());
	return 1;
}

/* Offers memory and waits for someone to write into it. */
static int receive(struct cw_engine *engine, const char *memory)
{
	struct cw_event event;

	printf("%s\n", cw_engine_name(engine));
	fflush(stdout);
	do {
		int count = cw_queue_wait(cw_engine_queue(engine), &event, 1, CW_FOREVER);

		if (count < 0)
			return fail("cw_queue_wait", count);
	} while (event.kind != CW_EVENT_NOTIFY);
	/* The notification came after its data. */
	printf("%s says: %.*s\n", event.sender, LENGTH, memory);
	cw_event_clear(&event);
	return 0;
}

/* Writes into the first region that the peer offers, and tells it. */
static int greet(struct cw_engine *engine, char *memory, const char *peer)
{
	struct cw_segment *segment;
	struct cw_remote_region region;
	struct cw_batch *batch;
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_notify notify = { .name = "hello" };
	size_t count;
	int status;

	status = cw_segment_open(engine, peer, NULL, &segment);
	if (status != CW_OK)
		return fail("cw_segment_open", status);
	status = cw_segment_regions(segment, &region, 1, &count);
	if (status != CW_OK || count == 0)
		return fail("cw_segment_regions", status);

	strcpy(memory, "bytes from another process");
	struct cw_request request = {
		.segment = segment,
		.op = CW_OP_WRITE,
		.local = { .base = (uint64_t)(uintptr_t)memory, .page_size = LENGTH, .count = 1 },
		.remote = { .base = region.address, .page_size = LENGTH, .count = 1 },
	};
	options.notify = &notify;
	options.notify_count = 1;
	status = cw_batch_submit(engine, &request, 1, &options, &batch);
	if (status != CW_OK)
		return fail("cw_batch_submit", status);
	cw_batch_wait(batch, CW_FOREVER);
	cw_batch_result_get(batch, &result);
	cw_batch_release(batch);
	if (result.state != CW_BATCH_COMPLETED)
		fprintf(stderr, "hello: %s\n", result.text);
	return result.state != CW_BATCH_COMPLETED;
}

int main(int argc, char **argv)
{
	struct cw_engine *engine;
	struct cw_region *region;
	void *memory;
	int status = cw_engine_open(NULL, &engine);

	if (status != CW_OK)
		return fail("cw_engine_open", status);
	status = cw_memory_allocate(engine, LENGTH, NULL, &memory, &region);
	if (status != CW_OK)
		return fail("cw_memory_allocate", status);
	status = argc > 1 ? greet(engine, memory, argv[1]) : receive(engine, memory);
	cw_engine_close(engine);
	return status;
}
