/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cwpeer under load: thousands of small transfers between the producers and consumers of device streams, and several
 * threads that move bytes at once. Too many for a command each.
 */
#include "peer_device.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define WINDOW 64u /* batches in flight */
#define RING_MAX 64u
#define GARBAGE 0xee
#define THREADS_MAX 16

/* What went wrong, for the answer. */
struct tally {
	uint64_t ended, failed, moved;
	char text[200]; /* of the first failure */
};

static void put_tally(struct json_object *out, const struct tally *tally)
{
	put_number(out, "ended", tally->ended);
	put_number(out, "failed", tally->failed);
	put_number(out, "moved", tally->moved);
	put_text(out, "why", tally->text);
}

/* Waits for a batch and gives it back. */
static void end_of(struct cw_batch *batch, struct tally *tally)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	if (!batch)
		return;
	tally->ended++;
	if (cw_batch_wait(batch, 60 * SECOND) != CW_OK || cw_batch_result_get(batch, &result) != CW_OK ||
	    result.state != CW_BATCH_COMPLETED) {
		if (tally->failed++ == 0)
			snprintf(tally->text, sizeof(tally->text), "%s", *result.text ? result.text : "it did not end");
	}
	cw_batch_release(batch);
}

/* ----------------------------------------------------------------------------------------------- order */

/*
 * A pipeline over the slots of a small ring of device memory. Slot contents are one byte value for each transfer.
 *
 * write: the stream "producer" fills the slot; the batch sends it to its own place of the remote memory; the stream
 * "consumer" fills the slot with garbage. read: the batch brings the remote bytes into the slot; "consumer" copies
 * them to their own place of the memory "results". Only the prerequisite keeps the batch from running before what the
 * slot needs, only the fence keeps the consumer from running before the batch.
 */
struct order {
	struct cw_device_sync producer, consumer;
	const struct memory *ring, *results;
	struct cw_segment *segment;
	uint64_t remote, length, slots;
	enum cw_op op;
	int by_event, by_stream, fence;
	void *ready[RING_MAX], *reuse[RING_MAX]; /* events: the slot may be sent; it may be filled again */
	struct cw_batch *batches[WINDOW];
	struct tally tally;
};

/* As filled by "step" in peer_memory.c. */
static int value_of(uint64_t i)
{
	return (int)(1 + i % STEP_VALUES);
}

static int prepare(struct order *order, uint64_t i, struct cw_device_sync *after, size_t *after_count)
{
	uint64_t slot = i % order->slots;
	unsigned char *place = order->ring->address + slot * order->length;
	int status = CW_OK;

	*after_count = order->by_event || order->by_stream;
	if (order->op == CW_OP_READ) {
		*after = order->consumer;
		after->kind = order->by_event ? CW_DEVICE_EVENT : CW_DEVICE_STREAM;
		after->handle = order->by_event ? order->reuse[slot] : order->consumer.handle;
		if (i < order->slots) /* nobody needs the slot yet */
			*after_count = 0;
		return CW_OK;
	}
	if (i >= order->slots)
		status = done(tang.stream_wait_event(order->producer.handle, order->reuse[slot], 0),
			      "tangStreamWaitEvent");
	if (status == CW_OK)
		status = done(tang.set_async(place, value_of(i), order->length, order->producer.handle),
			      "tangMemsetAsync");
	if (status == CW_OK && order->by_event)
		status = done(tang.event_record(order->ready[slot], order->producer.handle), "tangEventRecord");
	*after = order->producer;
	after->kind = order->by_event ? CW_DEVICE_EVENT : CW_DEVICE_STREAM;
	after->handle = order->by_event ? order->ready[slot] : order->producer.handle;
	return status;
}

static int consume(struct order *order, uint64_t i)
{
	uint64_t slot = i % order->slots;
	unsigned char *place = order->ring->address + slot * order->length;
	int status;

	if (order->op == CW_OP_READ)
		status = done(tang.copy_async(order->results->address + i * order->length, place, order->length,
					      KIND_D2D, order->consumer.handle),
			      "tangMemcpyAsync");
	else
		status = done(tang.set_async(place, GARBAGE, order->length, order->consumer.handle), "tangMemsetAsync");
	if (status == CW_OK)
		status = done(tang.event_record(order->reuse[slot], order->consumer.handle), "tangEventRecord");
	return status;
}

static int one_transfer(struct order *order, uint64_t i)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch **batch = &order->batches[i % WINDOW];
	struct cw_device_sync after;
	struct cw_request request = {
		.segment = order->segment,
		.op = order->op,
		.local = { .base = (uint64_t)(uintptr_t)order->ring->address + i % order->slots * order->length,
			   .page_size = order->length,
			   .count = 1 },
		.remote = { .base = order->remote + i * order->length, .page_size = order->length, .count = 1 },
	};
	int status;

	end_of(*batch, &order->tally);
	*batch = NULL;
	status = prepare(order, i, &after, &options.device_after_count);
	options.device_after = &after;
	if (status == CW_OK)
		status = cw_batch_submit(engine, &request, 1, &options, batch);
	if (status == CW_OK && order->fence)
		status = cw_batch_fence(*batch, &order->consumer);
	return status == CW_OK ? consume(order, i) : status;
}

static int order_events(struct order *order)
{
	int status = CW_OK;

	for (uint64_t i = 0; i < order->slots && status == CW_OK; i++) {
		status = done(tang.event_create(&order->ready[i], EVENT_NO_TIMING), "tangEventCreateWithFlags");
		if (status == CW_OK)
			status = done(tang.event_create(&order->reuse[i], EVENT_NO_TIMING), "tangEventCreateWithFlags");
	}
	return status;
}

static int order_from(struct json_object *in, struct order *order)
{
	const char *after = text_of(in, "prerequisite");

	*order = (struct order){
		.ring = memory_of(in),
		.results = memory_named(text_of(in, "results")),
		.segment = segment_of(in),
		.remote = number_of(in, "remote", 0),
		.length = number_of(in, "length", 256),
		.op = (enum cw_op)number_of(in, "op", CW_OP_WRITE),
		.by_event = after && strcmp(after, "event") == 0,
		.by_stream = after && strcmp(after, "stream") == 0,
		.fence = (int)number_of(in, "fence", 1),
	};
	if (!order->ring || !order->length || !order->segment || (order->op == CW_OP_READ && !order->results))
		return refuse("memory, segment or results are missing");
	order->slots = order->ring->length / order->length;
	if (order->slots == 0 || order->slots > RING_MAX)
		return refuse("the ring must have 1 to 64 slots");
	if (stream_named(text_of(in, "producer"), &order->producer) ||
	    stream_named(text_of(in, "consumer"), &order->consumer))
		return refuse("no such stream");
	return CW_OK;
}

int do_order(struct json_object *in, struct json_object *out)
{
	static struct order order;
	int status = order_from(in, &order), before;

	if (status != CW_OK)
		return status;
	before = enter(order.ring->device);
	status = order_events(&order);
	for (uint64_t i = 0, count = number_of(in, "count", 1); i < count && status == CW_OK; i++)
		status = one_transfer(&order, i);
	for (unsigned i = 0; i < WINDOW; i++)
		end_of(order.batches[i], &order.tally);
	(void)tang.stream_synchronize(order.producer.handle);
	(void)tang.stream_synchronize(order.consumer.handle);
	for (unsigned i = 0; i < RING_MAX; i++) {
		if (order.ready[i])
			(void)tang.event_destroy(order.ready[i]);
		if (order.reuse[i])
			(void)tang.event_destroy(order.reuse[i]);
	}
	leave(before);
	put_tally(out, &order.tally);
	return status;
}

/* ----------------------------------------------------------------------------------------------- storm */

struct thread {
	pthread_t thread;
	struct cw_request *requests;
	size_t count;
	uint64_t repeat;
	int device;
	struct tally tally;
};

/* Each call of the library must leave this thread's current device as it is. */
static void *run_thread(void *arg)
{
	struct thread *thread = arg;
	struct cw_batch *batch;

	(void)tang.set_device(thread->device);
	for (uint64_t i = 0; i < thread->repeat; i++) {
		int status = cw_batch_submit(engine, thread->requests, thread->count, NULL, &batch);

		thread->tally.moved += device_current() != thread->device;
		if (status != CW_OK) {
			if (thread->tally.failed++ == 0)
				snprintf(thread->tally.text, sizeof(thread->tally.text), "%s", cw_last_error());
			continue;
		}
		end_of(batch, &thread->tally);
		thread->tally.moved += device_current() != thread->device;
	}
	return NULL;
}

/* A thread for each element of "lists": it submits its "requests" and waits for them, "turns" times. */
int do_storm(struct json_object *in, struct json_object *out)
{
	static struct thread threads[THREADS_MAX];
	struct tally sum = { 0 };
	struct json_object *lists;
	size_t count = 0, started = 0;
	int status = load(), devices = 1;

	if (status != CW_OK)
		return status;
	(void)tang.get_device_count(&devices);
	memset(threads, 0, sizeof(threads));
	if (json_object_object_get_ex(in, "lists", &lists))
		count = json_object_array_length(lists);
	if (count == 0 || count > THREADS_MAX || devices < 1)
		return refuse("1 to 16 lists");
	for (size_t i = 0; i < count && status == CW_OK; i++) {
		threads[i].repeat = number_of(in, "turns", 1);
		threads[i].device = (int)i % devices;
		status = requests_from(json_object_array_get_idx(lists, i), &threads[i].requests, &threads[i].count);
	}
	for (; started < count && status == CW_OK; started++)
		if (pthread_create(&threads[started].thread, NULL, run_thread, &threads[started]))
			status = CW_ERR_NO_MEMORY;
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i].thread, NULL);
	for (size_t i = 0; i < count; i++) {
		const struct tally *tally = &threads[i].tally;

		sum.ended += tally->ended;
		sum.failed += tally->failed;
		sum.moved += tally->moved;
		if (!*sum.text)
			memcpy(sum.text, tally->text, sizeof(sum.text));
		if (threads[i].requests)
			requests_free(threads[i].requests, threads[i].count);
	}
	put_tally(out, &sum);
	return status;
}
