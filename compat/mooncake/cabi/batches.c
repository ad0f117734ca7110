/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches by number. A batch of the interfaces takes several submissions until its capacity is reached; each becomes a
 * batch of the engine, or one for each transfer where they can be canceled alone. A message is a batch of its own that
 * has nothing to move and comes after everything that was submitted before it.
 */
#include <stdlib.h>
#include <string.h>

#include "face.h"
#include "slots.h"

#define NOTHING UINT32_MAX /* a transfer without bytes: complete from the start */
#define GIB (1ull << 30)
#define EASE_NS 50000u
#define TAKE_BACK_NS (2 * FACE_SECOND) /* for all of a submission that failed halfway */
#define NOBODY SIZE_MAX                /* asked for a task yet */
#define ALL (SIZE_MAX - 1)

struct group {
	struct cw_batch *batch;
	struct cw_batch *message; /* borrowed from messages; NULL = none */
	uint64_t bytes;
	int told; /* why it failed, in the log */
};

struct task {
	uint32_t group, place;
};

struct face_batch {
	struct face *face;
	uint64_t number;
	struct face_batch *previous, *next; /* face->lock */
	size_t capacity;

	pthread_mutex_t lock; /* what follows; only ever grows */
	struct task *tasks;
	size_t count;
	struct group *groups;
	size_t group_count;
	struct cw_batch **messages;
	size_t message_count;
	uint64_t bytes;
	size_t asked; /* the task that was asked for last */
};

/* Of all engines; never 0 and never INVALID_BATCH. */
static struct slots batches = SLOTS_INIT(20, 32, 0, 1);

/* --------------------------------------------------------------------------------- opening and closing */

int face_batch_open(struct face *face, size_t capacity, uint64_t *number_out)
{
	struct face_batch *batch;

	if (capacity > FACE_BATCH_MAX)
		return CW_ERR_LIMIT;
	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return CW_ERR_NO_MEMORY;
	batch->face = face;
	batch->capacity = capacity;
	batch->asked = NOBODY;
	pthread_mutex_init(&batch->lock, NULL);
	/* Locked, so that whoever guesses the number finds it in the list. */
	pthread_mutex_lock(&face->lock);
	if (slots_add(&batches, batch, &batch->number)) {
		*number_out = batch->number;
		batch->next = face->batches;
		if (batch->next)
			batch->next->previous = batch;
		face->batches = batch;
		pthread_mutex_unlock(&face->lock);
		return CW_OK;
	}
	pthread_mutex_unlock(&face->lock);
	pthread_mutex_destroy(&batch->lock);
	free(batch);
	return CW_ERR_LIMIT;
}

struct face_batch *face_batch_get(struct face *face, uint64_t number)
{
	struct face_batch *batch = slots_get(&batches, number);

	if (batch && batch->face != face) {
		face_batch_put(batch);
		return NULL;
	}
	return batch;
}

static void batch_delete(struct face_batch *batch)
{
	for (size_t i = 0; i < batch->group_count; i++)
		cw_batch_release(batch->groups[i].batch);
	for (size_t i = 0; i < batch->message_count; i++)
		cw_batch_release(batch->messages[i]);
	pthread_mutex_destroy(&batch->lock);
	free(batch->tasks);
	free(batch->groups);
	free(batch->messages);
	free(batch);
}

void face_batch_put(struct face_batch *batch)
{
	if (slots_put(&batches, batch->number))
		batch_delete(batch);
}

static void unlink_batch(struct face_batch *batch)
{
	struct face *face = batch->face;

	pthread_mutex_lock(&face->lock);
	if (batch->previous)
		batch->previous->next = batch->next;
	else
		face->batches = batch->next;
	if (batch->next)
		batch->next->previous = batch->previous;
	pthread_mutex_unlock(&face->lock);
}

/* No call is under way any more. */
void face_batches_close(struct face *face)
{
	while (face->batches) {
		struct face_batch *batch = slots_get(&batches, face->batches->number);

		slots_retire(&batches, batch->number);
		unlink_batch(batch);
		face_batch_put(batch);
	}
}

/* ---------------------------------------------------------------------------------------- how it stands */

static int is_terminal(const struct cw_batch *batch)
{
	return cw_batch_poll(batch) >= CW_BATCH_COMPLETED;
}

/* Once for each group: numbers say that something failed, not what. */
static void tell_failure(struct face_batch *batch, struct group *group, struct cw_batch *failed)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	if (group->told || cw_batch_result_get(failed, &result) != CW_OK)
		return;
	group->told = 1;
	face_log(batch->face, CW_LOG_WARN, "a transfer failed: %s", result.text);
}

/* A message that was not sent because something before it failed says nothing new about its transfers. */
static int message_status(struct face_batch *batch, struct group *group)
{
	struct cw_batch_result result = { .size = sizeof(result) };

	if (!is_terminal(group->message))
		return CW_ERR_AGAIN;
	if (cw_batch_result_get(group->message, &result) != CW_OK || result.state == CW_BATCH_COMPLETED ||
	    result.status == CW_ERR_PREREQUISITE)
		return CW_OK;
	tell_failure(batch, group, group->message);
	return result.status == CW_OK ? CW_ERR_NOTIFY_UNKNOWN : result.status;
}

/* With the lock. */
static struct face_progress task_progress(struct face_batch *batch, size_t number)
{
	struct face_progress progress = { .status = CW_OK };
	struct task task = batch->tasks[number];
	struct group *group = &batch->groups[task.group];

	if (task.place != NOTHING) {
		int ended = is_terminal(group->batch); /* asked first: between the two it may end */

		progress.status = cw_batch_request_status(group->batch, task.place, &progress.bytes);
		if (progress.status == CW_ERR_AGAIN && ended) /* it could not be proved quiet in time */
			progress.status = CW_ERR_TIMED_OUT;
	}
	if (progress.status == CW_OK && group->message)
		progress.status = message_status(batch, group);
	else if (progress.status != CW_OK && progress.status != CW_ERR_AGAIN && is_terminal(group->batch))
		tell_failure(batch, group, group->batch);
	return progress;
}

size_t face_batch_count(struct face_batch *batch)
{
	size_t count;

	pthread_mutex_lock(&batch->lock);
	count = batch->count;
	pthread_mutex_unlock(&batch->lock);
	return count;
}

size_t face_batch_room(struct face_batch *batch)
{
	return batch->capacity - face_batch_count(batch);
}

/* With the lock: what runs of a task, once somebody has asked for it twice in a row; NULL = nothing, or the first time.
 */
static struct cw_batch *to_wait_for(struct face_batch *batch, size_t number, size_t asked)
{
	struct group *group = &batch->groups[batch->tasks[number].group];
	int again = batch->asked == asked;

	batch->asked = asked;
	if (!again)
		return NULL;
	return group->batch && !is_terminal(group->batch) ? group->batch : group->message;
}

/* Programs ask in a loop until something is over. Instead of only looking, the caller does the engine's work for a
 * moment, or sleeps when another one does it: many of them on few processors would keep the engine's thread from its.
 * What is waited for belongs to tasks, and those stay while the batch is held. */
static int ease(struct cw_batch *running)
{
	return running ? cw_batch_wait(running, EASE_NS) : CW_ERR_AGAIN;
}

int face_batch_task(struct face_batch *batch, size_t task, struct face_progress *progress_out)
{
	struct cw_batch *running = NULL;
	int status = CW_OK;

	pthread_mutex_lock(&batch->lock);
	if (task < batch->count)
		*progress_out = task_progress(batch, task);
	else
		status = CW_ERR_INVALID;
	if (status == CW_OK && progress_out->status == CW_ERR_AGAIN)
		running = to_wait_for(batch, task, task);
	pthread_mutex_unlock(&batch->lock);
	if (ease(running) == CW_OK) {
		pthread_mutex_lock(&batch->lock);
		*progress_out = task_progress(batch, task);
		pthread_mutex_unlock(&batch->lock);
	}
	return status;
}

/* What is worse wins: running, failed, timed out, canceled, complete. */
static int rank(int status)
{
	static const int ranks[] = { CW_OK, CW_ERR_CANCELED, CW_ERR_TIMED_OUT };

	for (int i = 0; i < 3; i++)
		if (status == ranks[i])
			return i;
	return status == CW_ERR_AGAIN ? 4 : 3;
}

/* With the lock. */
static struct face_progress overall(struct face_batch *batch, size_t *running_out)
{
	struct face_progress all = { .status = CW_OK };

	for (size_t i = 0; i < batch->count; i++) {
		struct face_progress one = task_progress(batch, i);

		all.bytes += one.bytes;
		if (one.status == CW_ERR_AGAIN && all.status != CW_ERR_AGAIN)
			*running_out = i;
		if (rank(one.status) > rank(all.status))
			all.status = one.status;
	}
	return all;
}

int face_batch_overall(struct face_batch *batch, struct face_progress *progress_out)
{
	struct cw_batch *running = NULL;
	size_t first = 0;

	pthread_mutex_lock(&batch->lock);
	*progress_out = overall(batch, &first);
	if (progress_out->status == CW_ERR_AGAIN)
		running = to_wait_for(batch, first, ALL);
	pthread_mutex_unlock(&batch->lock);
	if (ease(running) == CW_OK) {
		pthread_mutex_lock(&batch->lock);
		*progress_out = overall(batch, &first);
		pthread_mutex_unlock(&batch->lock);
	}
	return CW_OK;
}

int face_batch_close(struct face_batch *batch)
{
	struct face_progress all;
	int busy, won = 0;

	face_batch_overall(batch, &all);
	busy = all.status == CW_ERR_AGAIN;
	if (!busy)
		won = slots_retire(&batches, batch->number);
	if (won)
		unlink_batch(batch);
	return busy ? CW_ERR_BUSY : won ? CW_OK : CW_ERR_NOT_FOUND;
}

int face_batch_cancel(struct face_batch *batch, size_t task)
{
	struct cw_batch *canceled = NULL;
	int status = CW_ERR_INVALID;

	pthread_mutex_lock(&batch->lock);
	if (task < batch->count) {
		canceled = batch->groups[batch->tasks[task].group].batch;
		status = canceled ? cw_batch_cancel(canceled) : CW_OK;
	}
	pthread_mutex_unlock(&batch->lock);
	return status;
}

/* ------------------------------------------------------------------------------------------ submitting */

/* A submission on its way: its requests, and the segments that are held for it. */
struct plan {
	struct face_batch *batch;
	const struct face_transfer *transfers;
	size_t count, held;
	struct cw_request *requests; /* without those that have no bytes */
	struct face_segment **segments;
	struct cw_notify *notify; /* the message, once for each of its addressees */
	uint32_t notify_count;
	uint64_t bytes;
	size_t request_count;
};

static void plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->held; i++)
		face_segment_put(plan->segments[i]);
	free(plan->requests);
	free(plan->segments);
	free(plan->notify);
}

/* Most submissions have one target: it is looked up once. */
static struct face_segment *plan_segment(struct plan *plan, uint64_t number)
{
	struct face_segment *segment = plan->held ? plan->segments[plan->held - 1] : NULL;

	if (segment && segment->number == number)
		return segment;
	segment = face_segment_get(plan->batch->face, number);
	if (segment)
		plan->segments[plan->held++] = segment;
	return segment;
}

static int plan_transfer(struct plan *plan, const struct face_transfer *transfer)
{
	struct face_segment *segment = plan_segment(plan, transfer->target);
	uint64_t end;

	if (!segment || (transfer->opcode != CW_OP_READ && transfer->opcode != CW_OP_WRITE))
		return CW_ERR_INVALID;
	if (__builtin_add_overflow(transfer->offset, transfer->length, &end) ||
	    __builtin_add_overflow((uint64_t)(uintptr_t)transfer->source, transfer->length, &end) ||
	    __builtin_add_overflow(plan->bytes, transfer->length, &plan->bytes))
		return CW_ERR_INVALID;
	if (!transfer->length)
		return CW_OK;
	plan->requests[plan->request_count++] = (struct cw_request){
		.segment = face_segment_link(segment, transfer->hint),
		.op = (uint32_t)transfer->opcode,
		.local = { .base = (uint64_t)(uintptr_t)transfer->source, .page_size = transfer->length, .count = 1 },
		.remote = { .base = transfer->offset, .page_size = transfer->length, .count = 1 },
	};
	return CW_OK;
}

/* Whom a message goes to: the target of the first transfer, or each target once. */
static int plan_message(struct plan *plan, const struct face_message *message)
{
	plan->notify = calloc(plan->held + 1, sizeof(*plan->notify));
	if (!plan->notify)
		return CW_ERR_NO_MEMORY;
	for (size_t i = 0; i < plan->held; i++) {
		struct cw_segment *segment = face_segment_link(plan->segments[i], 0);
		uint32_t known = 0;

		while (known < plan->notify_count && plan->notify[known].segment != segment)
			known++;
		if (known < plan->notify_count)
			continue;
		plan->notify[plan->notify_count++] = (struct cw_notify){ .segment = segment,
									 .name = message->name,
									 .data = message->text,
									 .length = strlen(message->text) };
		if (!message->all_targets)
			break;
	}
	return CW_OK;
}

/* Before the batch is locked: looking segments up takes the engine's lock, which comes first. */
static int plan_make(struct plan *plan, int separate, const struct face_message *message)
{
	int status = CW_OK;

	plan->requests = calloc(plan->count + 1, sizeof(*plan->requests));
	plan->segments = calloc(plan->count + 1, sizeof(struct face_segment *));
	if (!plan->requests || !plan->segments)
		return CW_ERR_NO_MEMORY;
	for (size_t i = 0; i < plan->count && status == CW_OK; i++)
		status = plan_transfer(plan, &plan->transfers[i]);
	/* What goes to the engine one by one is looked at before the first is on its way. */
	for (size_t i = 0; i < plan->request_count && separate && status == CW_OK; i++) {
		const struct cw_vec *local = &plan->requests[i].local;
		struct cw_region *region;

		status = cw_region_find(plan->batch->face->engine, (void *)(uintptr_t)local->base, local->page_size,
					&region);
	}
	return status == CW_OK && message ? plan_message(plan, message) : status;
}

/* What an array of so many elements has room for: a power of two, so that it is not copied for each one. */
static size_t room_of(size_t count)
{
	size_t room = 1;

	while (room < count)
		room *= 2;
	return room;
}

static int grow(void *array, size_t count, size_t more, size_t size)
{
	void **place = array, *grown;

	if (*place && room_of(count + more) == room_of(count))
		return CW_OK;
	grown = realloc(*place, room_of(count + more) * size);
	if (!grown)
		return CW_ERR_NO_MEMORY;
	*place = grown;
	return CW_OK;
}

/* With the lock: room for everything that the submission will add. */
static int make_room(struct face_batch *batch, const struct plan *plan)
{
	if (grow(&batch->tasks, batch->count, plan->count, sizeof(*batch->tasks)) != CW_OK ||
	    grow(&batch->groups, batch->group_count, plan->count + 1, sizeof(*batch->groups)) != CW_OK ||
	    grow(&batch->messages, batch->message_count, 1, sizeof(struct cw_batch *)) != CW_OK)
		return CW_ERR_NO_MEMORY;
	return CW_OK;
}

static uint64_t deadline(const struct face *face, uint64_t bytes)
{
	return face->transfer_timeout_ns ? face_now() + face->transfer_timeout_ns + bytes / GIB * FACE_SECOND : 0;
}

/* Adds one group with the next requests. */
static int submit_group(struct plan *plan, size_t first, size_t count, uint32_t priority)
{
	struct face_batch *batch = plan->batch;
	struct group *group = &batch->groups[batch->group_count];
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	int status = CW_OK;

	*group = (struct group){ 0 };
	for (size_t i = first; i < first + count; i++)
		group->bytes += plan->requests[i].local.page_size;
	options.priority = priority;
	options.deadline_ns = deadline(batch->face, plan->bytes);
	if (count)
		status = cw_batch_submit(batch->face->engine, plan->requests + first, count, &options, &group->batch);
	if (status == CW_OK)
		batch->group_count++;
	return status;
}

/* Submits everything as one group, or as one for each transfer. */
static int submit_groups(struct plan *plan, int separate)
{
	struct face_batch *batch = plan->batch;
	size_t place = 0;
	int status = CW_OK;

	if (!separate)
		status = submit_group(plan, 0, plan->request_count, CW_CLASS_LATENCY);
	for (size_t i = 0; i < plan->count && status == CW_OK; i++) {
		const struct face_transfer *transfer = &plan->transfers[i];
		struct task *task = &batch->tasks[batch->count + i];
		int moves = transfer->length != 0;

		if (separate)
			status = submit_group(plan, place, (size_t)moves, (uint32_t)transfer->priority);
		*task = (struct task){ .group = (uint32_t)batch->group_count - 1,
				       .place = !moves     ? NOTHING
						: separate ? 0
							   : (uint32_t)place };
		place += (size_t)moves;
	}
	return status;
}

/* After a failure: what was submitted so far ends, and does not become part of the batch. */
static void take_back(struct face_batch *batch, size_t groups)
{
	uint64_t until = face_now() + TAKE_BACK_NS;

	for (size_t i = groups; i < batch->group_count; i++)
		if (batch->groups[i].batch)
			cw_batch_cancel(batch->groups[i].batch);
	while (batch->group_count > groups) {
		struct cw_batch *begun = batch->groups[--batch->group_count].batch;
		uint64_t now = face_now();

		if (begun) {
			cw_batch_wait(begun, now < until ? until - now : 0);
			cw_batch_release(begun);
		}
	}
}

/* Follows all that the batch has, and is the last of this submission. */
static int submit_message(struct plan *plan, size_t first_group)
{
	struct face_batch *batch = plan->batch;
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch **after = calloc(batch->group_count + 1, sizeof(struct cw_batch *)), *made;
	int status = after ? CW_OK : CW_ERR_NO_MEMORY;

	for (size_t i = 0; i < batch->group_count && status == CW_OK; i++)
		if (batch->groups[i].batch)
			after[options.after_count++] = batch->groups[i].batch;
	if (status == CW_OK) {
		options.after = after;
		options.notify = plan->notify;
		options.notify_count = plan->notify_count;
		options.deadline_ns = face_now() + 60 * FACE_SECOND + batch->face->transfer_timeout_ns +
				      (batch->bytes + plan->bytes) / GIB * FACE_SECOND;
		status = cw_batch_submit(batch->face->engine, NULL, 0, &options, &made);
	}
	if (status == CW_OK) {
		batch->messages[batch->message_count++] = made;
		for (size_t i = first_group; i < batch->group_count; i++)
			batch->groups[i].message = made;
	}
	free(after);
	return status;
}

/* With the lock. */
static int submit(struct plan *plan, int separate)
{
	struct face_batch *batch = plan->batch;
	size_t groups = batch->group_count;
	int status = make_room(batch, plan);

	if (status == CW_OK)
		status = submit_groups(plan, separate);
	if (status == CW_OK && plan->notify && plan->count)
		status = submit_message(plan, groups);
	if (status != CW_OK) {
		take_back(batch, groups);
		return status;
	}
	batch->count += plan->count;
	batch->bytes += plan->bytes;
	return CW_OK;
}

int face_batch_submit(struct face_batch *batch, const struct face_transfer *transfers, size_t count, int separate,
		      const struct face_message *message)
{
	struct plan plan = { .batch = batch, .transfers = transfers, .count = count };
	int status = plan_make(&plan, separate, message);

	if (status == CW_OK) {
		pthread_mutex_lock(&batch->lock);
		/* Again: another thread may submit to the same batch. */
		status = count <= batch->capacity - batch->count ? submit(&plan, separate) : CW_ERR_LIMIT;
		pthread_mutex_unlock(&batch->lock);
	}
	plan_free(&plan);
	return status;
}

/* With face->lock, so that no batch goes meanwhile. */
uint64_t face_batches_inflight(struct face *face)
{
	uint64_t bytes = 0;

	for (struct face_batch *batch = face->batches; batch; batch = batch->next) {
		pthread_mutex_lock(&batch->lock);
		for (size_t i = 0; i < batch->group_count; i++) {
			struct cw_batch_result result = { .size = sizeof(result) };
			const struct group *group = &batch->groups[i];

			if (group->batch && !is_terminal(group->batch) &&
			    cw_batch_result_get(group->batch, &result) == CW_OK &&
			    result.bytes_completed < group->bytes)
				bytes += group->bytes - result.bytes_completed;
		}
		pthread_mutex_unlock(&batch->lock);
	}
	return bytes;
}
