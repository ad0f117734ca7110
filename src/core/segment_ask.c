/* SPDX-License-Identifier: Apache-2.0 */
/* Questions that a user asks a peer and waits for: is it alive, and which regions does it offer. */
#include <core/naming.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <util/cursor.h>

/* Shared by the asking thread and the loop; freed by whoever is last. */
struct question {
	struct cw_segment *segment;
	struct cw_task task;
	struct cw_timer timer; /* looks again while the peer is being connected */
	uint64_t until, asked, answered_at;
	_Atomic uint32_t answered; /* futex */
	_Atomic int refs;
	int status;
	int wants_regions;
	uint64_t first;
	struct cw_remote_region *regions;
	size_t count, capacity;
};

static void question_put(struct question *question)
{
	if (atomic_fetch_sub_explicit(&question->refs, 1, memory_order_acq_rel) != 1)
		return;
	cw__segment_put(question->segment);
	free(question->regions);
	free(question);
}

static void finish(struct question *question, int status)
{
	question->status = status;
	question->answered_at = cw__now();
	cw__loop_signal(question->segment->loop, &question->answered,
			atomic_fetch_or_explicit(&question->answered, 1, memory_order_seq_cst));
	question_put(question);
}

static int add_region(struct question *question, const struct cw_remote_region *region)
{
	if (question->count == question->capacity) {
		size_t capacity = question->capacity ? 2 * question->capacity : 64;
		struct cw_remote_region *grown = realloc(question->regions, capacity * sizeof(*grown));

		if (!grown)
			return CW_ERR_NO_MEMORY;
		question->regions = grown;
		question->capacity = capacity;
	}
	question->regions[question->count++] = *region;
	return CW_OK;
}

/* ---------------------------------------------------------------------------------------------- lists */

static int take_list(struct question *question, const void *body, size_t length)
{
	struct cw__reader reader = cw__reader_init(body, length);
	uint32_t count = cw__get_u32(&reader);
	int status = CW_OK;

	question->first = cw__get_u64(&reader);
	for (uint32_t i = 0; i < count && !reader.bad && !status; i++) {
		struct cw__region_record record;
		struct cw_remote_region region = { 0 };
		size_t used;

		status = cw__region_record_decode(reader.at, cw__reader_left(&reader), &record, &used);
		if (status)
			break;
		cw__get_bytes(&reader, used);
		region.address = record.address;
		region.length = record.length;
		region.access = record.access;
		region.kind = (enum cw_memory_kind)record.kind;
		region.device = record.device;
		snprintf(region.location, sizeof(region.location), "%.*s", (int)record.location.length,
			 record.location.data);
		status = add_region(question, &region);
	}
	return status ? status : reader.bad ? CW_ERR_PROTOCOL : CW_OK;
}

static int list_self(struct question *question)
{
	struct cw_blob blob = { 0 };
	int status;

	do {
		blob.length = 0;
		status = cw__core_list(&question->segment->engine->host.base, question->first, &blob);
		if (!status)
			status = take_list(question, blob.data, blob.length);
	} while (!status && question->first);
	cw__host_ops.blob_free(&blob);
	return status;
}

/* What a classic peer's list, fetched just now, says. */
static void listed(void *arg, int status)
{
	struct question *question = arg;
	const struct cw__descriptor *descriptor = &question->segment->descriptor;

	for (size_t i = 0; !status && i < descriptor->buffer_count; i++) {
		struct cw_remote_region region = { .address = descriptor->buffers[i].address,
						   .length = descriptor->buffers[i].length,
						   .access = CW_ACCESS_REMOTE,
						   .device = -1 };

		snprintf(region.location, sizeof(region.location), "*");
		status = add_region(question, &region);
	}
	finish(question, status);
}

/* -------------------------------------------------------------------------------------------- asking */

static void ask(struct question *question);

static void answered(void *arg, int status, const void *body, size_t length)
{
	struct question *question = arg;

	if (!status && question->wants_regions)
		status = take_list(question, body, length);
	if (!status && question->wants_regions && question->first) {
		ask(question); /* the next page */
		return;
	}
	finish(question, status);
}

static void ask(struct question *question)
{
	struct cw_segment *segment = question->segment;
	uint64_t now = cw__now(), timeout = question->until > now ? question->until - now : 1;
	unsigned char first[8];
	struct cw__writer writer = cw__writer_init(first, sizeof(first));
	int status;

	question->asked = now;
	if (segment->self) {
		finish(question, question->wants_regions ? list_self(question) : CW_OK);
		return;
	}
	cw__put_u64(&writer, question->first);
	if (segment->peer.classic && question->wants_regions)
		status = cw__segment_refetch(segment, timeout, listed, question);
	else if (segment->peer.classic)
		status = cw__control.classic_request(segment->link, CW__CLASSIC_PROBE, "{}\n", 3, timeout, answered,
						     question);
	else if (question->wants_regions)
		status = cw__control.request(segment->link, CW__CONTROL_LIST, first, sizeof(first), timeout, answered,
					     question);
	else
		status = cw__control.request(segment->link, CW__CONTROL_PROBE, NULL, 0, timeout, answered, question);
	if (status)
		finish(question, status);
}

/* On the loop: asks when the peer can be asked. */
static void look(struct question *question)
{
	int status = cw__segment_usable(question->segment);

	if (status == CW_OK)
		ask(question);
	else if (status == CW_ERR_AGAIN && cw__now() < question->until)
		cw__timer_set(question->segment->loop, &question->timer, cw__now() + CW__MS);
	else
		finish(question, status == CW_ERR_AGAIN ? CW_ERR_PEER_DOWN : status);
}

static void look_by_task(struct cw_task *task)
{
	look(cw__container(task, struct question, task));
}

static void look_by_timer(struct cw_timer *timer)
{
	look(cw__container(timer, struct question, timer));
}

/* Asks and waits; the caller puts *question_out back when this returns CW_OK. */
static int ask_and_wait(struct cw_segment *segment, uint64_t timeout, int wants_regions, struct question **question_out)
{
	int status = segment ? cw__engine_check(segment->engine) : cw__fail(CW_ERR_INVALID, "no segment");
	struct question *question;

	if (status)
		return status;
	question = calloc(1, sizeof(*question));
	if (!question)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	question->segment = segment;
	question->wants_regions = wants_regions;
	question->until = cw__after(cw__now(), timeout);
	question->task.run = look_by_task;
	question->timer.fire = look_by_timer;
	atomic_store_explicit(&question->refs, 2, memory_order_relaxed);
	atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
	cw__task_post(segment->loop, &question->task);
	status = cw__loop_wait(segment->loop, &question->answered, 1, question->until);
	if (status)
		status = CW_ERR_TIMED_OUT;
	else
		status = question->status;
	if (status) {
		question_put(question);
		return cw__fail(status, "%s: %s", segment->name, cw_strerror(status));
	}
	*question_out = question;
	return CW_OK;
}

int cw_segment_probe(struct cw_segment *segment, uint64_t timeout, uint64_t *round_trip_out)
{
	struct question *question;
	int status = ask_and_wait(segment, timeout, 0, &question);

	if (status)
		return status;
	if (round_trip_out)
		*round_trip_out = question->answered_at - question->asked;
	question_put(question);
	return CW_OK;
}

int cw_segment_regions(struct cw_segment *segment, struct cw_remote_region *regions_out, size_t max, size_t *count_out)
{
	uint64_t timeout;
	struct question *question;
	int status;

	if (!segment || !count_out || (max && !regions_out))
		return cw__fail(CW_ERR_INVALID, "no segment, or nowhere to put the regions");
	timeout = cw__config_number(&segment->engine->config, "control/connect_timeout", 0);
	status = ask_and_wait(segment, timeout, 1, &question);
	if (status)
		return status;
	for (size_t i = 0; i < question->count && i < max; i++)
		regions_out[i] = question->regions[i];
	*count_out = question->count;
	question_put(question);
	return CW_OK;
}
