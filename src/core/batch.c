/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a batch: prerequisites, start, deadline and cancellation, and the one terminal state. Its acceptance is
 * in batch_accept.c, what happens to a single request in schedule.c, notifications that follow the data in notify.c.
 */
#include <core/device.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void timer_fired(struct cw_timer *timer);

/* ------------------------------------------------------------------------------------- the end of all */

void cw__batch_explain(struct cw_batch *batch, int status, const char *format, ...)
{
	va_list arguments;

	if (batch->status)
		return; /* the first failure is the one to tell */
	batch->status = status;
	va_start(arguments, format);
	vsnprintf(batch->text, sizeof(batch->text), format, arguments);
	va_end(arguments);
}

static enum cw_batch_state final_state(const struct cw_batch *batch)
{
	if (!batch->local_quiet || batch->status == CW_ERR_TIMED_OUT)
		return CW_BATCH_TIMED_OUT;
	if (batch->status == CW_ERR_CANCELED)
		return CW_BATCH_CANCELED;
	return batch->status ? CW_BATCH_FAILED : CW_BATCH_COMPLETED;
}

static void count_end(struct cw_batch *batch, enum cw_batch_state state)
{
	struct cw_engine *engine = batch->engine;

	if (state == CW_BATCH_COMPLETED)
		cw__count(engine, batches_completed, 1);
	else if (state == CW_BATCH_FAILED)
		cw__count(engine, batches_failed, 1);
	else if (state == CW_BATCH_CANCELED)
		cw__count(engine, batches_canceled, 1);
	else
		cw__count(engine, batches_timed_out, 1);
}

/* Those that waited for a batch or counter may go, or fail. One that ends at once releases others in turn: they queue
 * up here rather than on the stack, as chains may be long. */
void cw__dependents_release(struct cw__list *dependents, int ok)
{
	static _Thread_local struct cw__list *releasing;
	struct cw__list queue, *node;

	cw__list_each(each, dependents) cw__container(each, struct cw__dependency, node)->ok = ok;
	if (releasing) {
		cw__list_splice(releasing, dependents);
		return;
	}
	cw__list_init(&queue);
	cw__list_splice(&queue, dependents);
	releasing = &queue;
	while ((node = cw__list_pop(&queue))) {
		struct cw__dependency *dependency = cw__container(node, struct cw__dependency, node);

		cw__prerequisite_came(dependency->batch, dependency->ok);
	}
	releasing = NULL;
}

/* On the home loop: brings the timer in line with what the batch needs now. */
static void update_timer(struct cw_batch *batch)
{
	if (atomic_load_explicit(&batch->word, memory_order_acquire) & CW__BATCH_TERMINAL) {
		cw__timer_stop(batch->loop, &batch->timer);
	} else if (atomic_load_explicit(&batch->ending, memory_order_acquire)) {
		if (!batch->timer_in_grace) {
			batch->timer_in_grace = 1;
			cw__timer_set(batch->loop, &batch->timer, cw__after(cw__now(), batch->engine->grace));
		}
	} else if (!batch->timer.heap_slot) {
		cw__timer_set(batch->loop, &batch->timer, batch->deadline);
	}
}

static void timer_task(struct cw_task *task)
{
	struct cw_batch *batch = cw__container(task, struct cw_batch, timer_task);

	atomic_store_explicit(&batch->timer_posted, 0, memory_order_release);
	update_timer(batch);
	cw__batch_put(batch);
}

/* Any thread. */
static void touch_timer(struct cw_batch *batch)
{
	atomic_store_explicit(&batch->timer_used, 1, memory_order_relaxed);
	if (cw__loop_current() == batch->loop) {
		update_timer(batch);
	} else if (cw__loop_trylock(batch->loop)) {
		update_timer(batch);
		cw__loop_unlock(batch->loop);
	} else if (!atomic_exchange_explicit(&batch->timer_posted, 1, memory_order_acq_rel)) {
		atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
		batch->timer_task.run = timer_task;
		cw__task_post(batch->loop, &batch->timer_task);
	}
}

void cw__batch_run_callback(struct cw_batch *batch)
{
	batch->callback(batch->arg, batch);
	cw__batch_put(batch);
}

static void tell_quiet(struct cw_batch *batch)
{
	cw__queue_push_quiet(batch->queue ? batch->queue : &batch->engine->queue, batch);
}

/* Tells everybody. Called once per batch, by whoever made it TELLING. That it is quiet is said after that it ended. */
static void publish(struct cw_batch *batch)
{
	struct cw__list dependents, fences;
	enum cw_batch_state state;
	uint32_t before;
	int quiet_owed;

	cw__list_init(&dependents);
	cw__list_init(&fences);
	pthread_mutex_lock(&batch->lock);
	state = final_state(batch);
	batch->ended = cw__now();
	cw__list_splice(&dependents, &batch->dependents);
	cw__list_splice(&fences, &batch->fences);
	pthread_mutex_unlock(&batch->lock);
	count_end(batch, state);
	before = batch->queue ? cw__queue_push_end(batch->queue, batch, (uint32_t)state | CW__BATCH_TERMINAL)
			      : atomic_exchange_explicit(&batch->word, (uint32_t)state | CW__BATCH_TERMINAL,
							 memory_order_seq_cst);
	cw__loop_signal(batch->loop, &batch->word, before);
	cw__fences_release(&fences);
	if (atomic_load_explicit(&batch->timer_used, memory_order_relaxed))
		touch_timer(batch);
	if (batch->callback) {
		atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
		cw__list_push_back(&cw__loop_current()->ended, &batch->ended_node);
	}
	cw__dependents_release(&dependents, state == CW_BATCH_COMPLETED);
	pthread_mutex_lock(&batch->lock);
	batch->published = CW__BATCH_TOLD;
	quiet_owed = batch->quiet_owed;
	pthread_mutex_unlock(&batch->lock);
	if (quiet_owed)
		tell_quiet(batch);
}

/* All requests have ended and, if there are any, all notifications. Gives the engine's reference back. */
static void finish(struct cw_batch *batch)
{
	struct cw_engine *engine = batch->engine;
	int before;

	pthread_mutex_lock(&batch->lock);
	before = (int)batch->published;
	if (before == CW__BATCH_UNTOLD)
		batch->published = CW__BATCH_TELLING;
	batch->quiet_owed = before == CW__BATCH_TELLING;
	batch->finished = 1;
	batch->local_quiet = 1;
	pthread_mutex_unlock(&batch->lock);
	if (before == CW__BATCH_UNTOLD)
		publish(batch);
	else if (before == CW__BATCH_TOLD)
		tell_quiet(batch);
	atomic_fetch_sub_explicit(&engine->batches_unfinished, 1, memory_order_release);
	cw__batch_put(batch);
}

static void finish_task(struct cw_task *task)
{
	finish(cw__container(task, struct cw_batch, start_task));
}

/* A callback needs the loop that will run it. */
static void finish_on_loop(struct cw_batch *batch)
{
	if (!batch->callback || cw__loop_current()) {
		finish(batch);
		return;
	}
	batch->start_task.run = finish_task;
	cw__task_post(batch->loop, &batch->start_task);
}

void cw__batch_notified(struct cw_batch *batch)
{
	if (atomic_fetch_sub_explicit(&batch->sendings_open, 1, memory_order_acq_rel) == 1)
		finish_on_loop(batch);
}

/* The last request ended: notifications go out when everything is visible, then the batch is over. */
static void requests_ended(struct cw_batch *batch)
{
	int failed;

	pthread_mutex_lock(&batch->lock);
	failed = batch->status != CW_OK || batch->published;
	pthread_mutex_unlock(&batch->lock);
	if (failed || !batch->sending_count)
		finish_on_loop(batch);
	else
		cw__notify_send_all(batch);
}

struct description {
	char text[384];
};

/* "write of 4096 bytes to peer by tcp". whole: on its loop, so that more of it may be looked at. */
static struct description describe(const struct cw__request *request, int whole)
{
	struct description description;
	const char *by = "", *way = "";

	if (whole && (request->have_path || request->done)) {
		by = " by ";
		way = request->batch->engine->parts[request->part].ops->name;
	} else if (whole && request->stopped_in == CW__REQUEST_RESOLVING) {
		way = ", whose region was still being asked for";
	} else if (whole && request->stopped_in == CW__REQUEST_NEW) {
		way = ", which was still being connected to";
	}
	snprintf(description.text, sizeof(description.text), "%s of %llu bytes %s %s%s%s",
		 request->op == CW_OP_WRITE ? "write" : "read", (unsigned long long)request->length,
		 request->op == CW_OP_WRITE ? "to" : "from", request->segment->name, by, way);
	return description;
}

void cw__batch_request_ended(struct cw__request *request)
{
	struct cw_batch *batch = request->batch;
	struct cw_engine *engine = batch->engine;
	int status = request->failure, fail_fast;

	if (!status) {
		cw__count(engine, requests_completed, 1);
		if (request->op == CW_OP_WRITE)
			cw__count(engine, bytes_written, request->length);
		else
			cw__count(engine, bytes_read, request->length);
	}
	pthread_mutex_lock(&batch->lock);
	if (status) {
		batch->requests_failed++;
		cw__batch_explain(batch, status, "%s: %s", describe(request, 1).text, cw_strerror(status));
		if (request->remote_quiet > (uint32_t)batch->remote)
			batch->remote = (enum cw_remote_state)request->remote_quiet;
		if (request->fence > batch->fence)
			batch->fence = request->fence;
	} else {
		batch->requests_completed++;
	}
	batch->bytes_completed += request->done;
	fail_fast = status && batch->flags & CW_BATCH_FAIL_FAST;
	pthread_mutex_unlock(&batch->lock);
	if (fail_fast)
		cw__batch_end_soon(batch, CW_ERR_CANCELED);
	if (atomic_fetch_sub_explicit(&batch->remaining, 1, memory_order_acq_rel) == 1)
		requests_ended(batch);
}

/* ------------------------------------------------------------------------- deadline and cancellation */

static void scan_loops(struct cw_batch *batch)
{
	struct cw_engine *engine = batch->engine;

	for (unsigned i = 0; i < engine->loop_count; i++)
		cw__loop_scan(&engine->loops[i]);
}

/* Ends a batch that has not started: nobody else works on its requests. */
static void end_unstarted(struct cw_batch *batch, int status)
{
	cw__watches_forget(batch);
	pthread_mutex_lock(&batch->lock);
	cw__batch_explain(batch, status, "%s%s%s before it started",
			  batch->count ? describe(&batch->requests[0], 0).text : "", batch->count ? ": " : "",
			  cw_strerror(status));
	batch->requests_failed = batch->count;
	pthread_mutex_unlock(&batch->lock);
	for (size_t i = 0; i < batch->count; i++)
		atomic_store_explicit(&batch->requests[i].status, status, memory_order_release);
	atomic_store_explicit(&batch->remaining, 0, memory_order_relaxed);
	requests_ended(batch);
}

void cw__batch_end_soon(struct cw_batch *batch, int status)
{
	int none = 0, unstarted = 0;

	if (!atomic_compare_exchange_strong_explicit(&batch->ending, &none, status, memory_order_acq_rel,
						     memory_order_relaxed))
		return;
	if (atomic_compare_exchange_strong_explicit(&batch->started, &unstarted, 1, memory_order_acq_rel,
						    memory_order_relaxed)) {
		end_unstarted(batch, status);
		return;
	}
	scan_loops(batch);
	touch_timer(batch); /* the grace time begins */
}

/* With the lock, on the home loop: names the first request that has not ended. */
static void explain_unquiet(struct cw_batch *batch)
{
	const struct cw__request *request = NULL;

	for (size_t i = 0; i < batch->count && !request; i++)
		if (atomic_load_explicit(&batch->requests[i].status, memory_order_acquire) == CW_ERR_AGAIN)
			request = &batch->requests[i];
	cw__batch_explain(
		batch, CW_ERR_TIMED_OUT, "%s%slocal memory could not be proved quiet in time, an event will tell",
		request ? describe(request, request->segment->loop == batch->loop).text : "", request ? ": " : "");
}

/* The grace time is over and something still touches local memory, or a notification is unanswered: say so. */
static void force_end(struct cw_batch *batch)
{
	int first, quiet = atomic_load_explicit(&batch->remaining, memory_order_acquire) == 0;

	pthread_mutex_lock(&batch->lock);
	first = batch->published == CW__BATCH_UNTOLD;
	if (first) {
		batch->published = CW__BATCH_TELLING;
		batch->local_quiet = quiet;
		if (quiet)
			cw__batch_explain(batch, CW_ERR_NOTIFY_UNKNOWN, "%s", cw_strerror(CW_ERR_NOTIFY_UNKNOWN));
		else
			explain_unquiet(batch);
	}
	pthread_mutex_unlock(&batch->lock);
	if (first)
		publish(batch);
}

static void timer_fired(struct cw_timer *timer)
{
	struct cw_batch *batch = cw__container(timer, struct cw_batch, timer);

	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
	if (batch->timer_in_grace) {
		force_end(batch);
	} else {
		cw__batch_end_soon(batch, CW_ERR_TIMED_OUT);
		update_timer(batch); /* it may have been ending before, for another reason */
	}
	cw__batch_put(batch);
}

/* A batch whose engine is closed may still be asked. */
static int check_batch(const struct cw_batch *batch)
{
	if (!batch)
		return cw__fail(CW_ERR_INVALID, "no batch");
	return batch->engine ? cw__engine_check(batch->engine) : CW_OK;
}

int cw_batch_cancel(struct cw_batch *batch)
{
	int status = check_batch(batch);

	if (status)
		return status;
	if (!batch->engine || atomic_load_explicit(&batch->word, memory_order_acquire) & CW__BATCH_TERMINAL)
		return CW_OK;
	cw__batch_end_soon(batch, CW_ERR_CANCELED);
	return CW_OK;
}

/* -------------------------------------------------------------------------------------------- starting */

static void begin_task(struct cw_task *task)
{
	struct cw__request *request = cw__container(task, struct cw__request, task);
	struct cw_batch *batch = request->batch;
	struct cw_segment *segment = request->segment;

	cw__request_begin(request);
	cw__segment_pump(segment);
	cw__batch_put(batch);
}

/* On the home loop: hands every request that is not over yet to its loop. */
static void begin_requests(struct cw_batch *batch)
{
	struct cw_segment *last = NULL;
	size_t count = batch->count;

	touch_timer(batch);
	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed); /* the last request may end in here */
	for (size_t i = 0; i < count; i++) {
		struct cw__request *request = &batch->requests[i];

		if (request->state == CW__REQUEST_ENDED)
			continue;
		if (request->segment->loop != batch->loop) {
			atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
			request->task.run = begin_task;
			cw__task_post(request->segment->loop, &request->task);
			continue;
		}
		if (last && last != request->segment)
			cw__segment_pump(last);
		last = request->segment;
		cw__request_begin(request);
	}
	if (last)
		cw__segment_pump(last);
	cw__batch_put(batch);
}

static void start_task(struct cw_task *task)
{
	struct cw_batch *batch = cw__container(task, struct cw_batch, start_task);

	begin_requests(batch);
	cw__batch_put(batch);
}

/* inline_budget: bytes that the calling thread, which holds the shard, copies itself; 0 when it is not the submitter's.
 */
static void start(struct cw_batch *batch, struct cw__shard *shard, uint64_t inline_budget)
{
	int unstarted = 0;
	size_t count = batch->count, left = atomic_load_explicit(&batch->remaining, memory_order_relaxed);

	if (!atomic_compare_exchange_strong_explicit(&batch->started, &unstarted, 1, memory_order_acq_rel,
						     memory_order_relaxed)) {
		if (shard)
			cw__shard_leave(shard);
		return; /* it was canceled while it waited */
	}
	/* WAITING is 0, so this keeps the mark of a caller that waits already. */
	atomic_fetch_or_explicit(&batch->word, CW_BATCH_ACTIVE, memory_order_release);
	if (!left) {
		requests_ended(batch);
		return;
	}
	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
	for (size_t i = 0; shard && inline_budget && i < count; i++)
		if (batch->requests[i].state != CW__REQUEST_ENDED)
			left -= (size_t)cw__request_inline(&batch->requests[i], &inline_budget);
	if (shard)
		cw__shard_leave(shard);
	if (!left) {
		cw__batch_put(batch);
		return;
	}
	if (cw__loop_trylock(batch->loop)) {
		begin_requests(batch);
		cw__loop_unlock(batch->loop);
		cw__batch_put(batch);
	} else {
		batch->start_task.run = start_task;
		cw__task_post(batch->loop, &batch->start_task);
	}
}

void cw__prerequisite_came(struct cw_batch *batch, int ok)
{
	if (!ok)
		cw__batch_end_soon(batch, CW_ERR_PREREQUISITE);
	if (atomic_fetch_sub_explicit(&batch->prerequisites, 1, memory_order_acq_rel) == 1)
		start(batch, NULL, 0);
	cw__batch_put(batch);
}

/* Joins the list of what it waits for; 1 = it must wait, 0 = it has come already, negative = it failed. */
static int depend_on_batch(struct cw__dependency *dependency, struct cw_batch *on)
{
	int status;

	pthread_mutex_lock(&on->lock);
	if (on->ended) {
		status = final_state(on) == CW_BATCH_COMPLETED ? 0 : CW_ERR_PREREQUISITE;
	} else {
		cw__list_push_back(&on->dependents, &dependency->node);
		status = 1;
	}
	pthread_mutex_unlock(&on->lock);
	return status;
}

static int depend_on_counter(struct cw__dependency *dependency, struct cw_counter *on)
{
	int waits;

	pthread_mutex_lock(&on->lock);
	waits = on->value < dependency->value;
	if (waits)
		cw__list_push_back(&on->dependents, &dependency->node);
	pthread_mutex_unlock(&on->lock);
	return waits;
}

static void depend(struct cw_batch *batch, const struct cw_batch_options *options)
{
	for (size_t i = 0; i < batch->dependency_count; i++) {
		struct cw__dependency *dependency = &batch->dependencies[i];
		int waits;

		dependency->batch = batch;
		dependency->value = options->counter_value;
		cw__list_init(&dependency->node);
		atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&batch->prerequisites, 1, memory_order_relaxed);
		waits = i < options->after_count ? depend_on_batch(dependency, options->after[i])
						 : depend_on_counter(dependency, options->counter);
		if (waits != 1)
			cw__prerequisite_came(batch, waits == 0);
	}
}

static void count_submitted(struct cw_batch *batch, struct cw__shard *shard)
{
	if (shard) {
		cw__shard_count(&shard->counters.batches_submitted, 1);
		cw__shard_count(&shard->counters.requests_submitted, batch->count);
	} else {
		cw__count(batch->engine, batches_submitted, 1);
		cw__count(batch->engine, requests_submitted, batch->count);
	}
}

/* The submitter has done everything, and nobody else knows the batch yet: there is nobody to wake and nothing to undo.
 */
static void finish_directly(struct cw_batch *batch, struct cw__shard *shard)
{
	const uint32_t word = CW_BATCH_COMPLETED | CW__BATCH_TERMINAL;

	cw__shard_count(&shard->counters.batches_completed, 1);
	atomic_store_explicit(&batch->started, 1, memory_order_relaxed);
	atomic_store_explicit(&batch->remaining, 0, memory_order_relaxed);
	batch->ended = cw__now();
	batch->published = CW__BATCH_TOLD;
	batch->finished = 1;
	if (batch->queue) {
		cw__queue_push_end(batch->queue, batch, word);
		cw__shard_leave(shard);
		cw__batch_put(batch);
		return;
	}
	atomic_store_explicit(&batch->refs, 1, memory_order_relaxed); /* the caller's */
	atomic_store_explicit(&batch->word, word, memory_order_release);
	cw__shard_leave(shard);
}

/* Hands the batch to those who will come back to it. */
static void enlist(struct cw_batch *batch, size_t complete)
{
	cw__batch_keep(batch);
	atomic_store_explicit(&batch->remaining, batch->count - complete, memory_order_relaxed);
	atomic_fetch_add_explicit(&batch->engine->batches_unfinished, 1, memory_order_relaxed);
}

/* May the submitter begin at once, in its own call? Callbacks run elsewhere. */
static int is_immediate(const struct cw_batch *batch)
{
	return !batch->callback && !batch->dependency_count && !batch->watch_count &&
	       batch->deadline > batch->submitted;
}

int cw_batch_submit(struct cw_engine *engine, const struct cw_request *requests, size_t count,
		    const struct cw_batch_options *options, struct cw_batch **batch_out)
{
	static const struct cw_batch_options defaults = CW_BATCH_OPTIONS_INIT;
	struct cw__shard *shard = NULL;
	struct cw_batch *batch;
	uint64_t budget = 0;
	size_t complete = 0;
	int status = cw__engine_check(engine);

	if (!options)
		options = &defaults;
	if (!status && ((count && !requests) || !batch_out))
		status = cw__fail(CW_ERR_INVALID, "no requests, or nowhere to put the batch");
	if (status)
		return status;
	if (!options->device_after_count) /* drivers are asked about those, which may take long */
		shard = cw__shard_enter(engine);
	status = cw__batch_make(engine, shard, requests, count, options, &batch);
	if (status) {
		if (shard)
			cw__shard_leave(shard);
		return status;
	}
	batch->timer.fire = timer_fired;
	batch->loop = count ? batch->requests[0].segment->loop : cw__loop_choose(engine);
	batch->deadline = options->deadline_ns ? options->deadline_ns
					       : batch->submitted + 30 * CW__SECOND + (batch->bytes >> 30) * CW__SECOND;
	*batch_out = batch;
	count_submitted(batch, shard);
	if (shard && count && is_immediate(batch)) {
		budget = CW__INLINE_BYTES;
		complete = cw__batch_copy_inline(batch, shard, &budget);
		if (complete == count && !batch->sending_count) {
			finish_directly(batch, shard);
			return CW_OK;
		}
	}
	enlist(batch, complete);
	if (shard && (!budget || complete == count)) {
		cw__shard_leave(shard);
		shard = NULL;
	}
	if (batch->dependency_count || batch->watch_count) {
		touch_timer(batch); /* a batch that waits has a deadline too */
		depend(batch, options);
		cw__watches_arm(batch);
	} else if (batch->deadline <= batch->submitted) {
		cw__batch_end_soon(batch, CW_ERR_TIMED_OUT);
	}
	if (atomic_fetch_sub_explicit(&batch->prerequisites, 1, memory_order_acq_rel) == 1)
		start(batch, shard, budget);
	return CW_OK;
}

/* -------------------------------------------------------------------------------------- what users ask */

int cw_batch_wait(struct cw_batch *batch, uint64_t timeout)
{
	int status = check_batch(batch);

	if (status)
		return status;
	if (atomic_load_explicit(&batch->word, memory_order_acquire) & CW__BATCH_TERMINAL)
		return CW_OK;
	if (!batch->engine)
		return cw__fail(CW_ERR_CLOSED, "the engine of this batch is closed");
	return cw__loop_wait(batch->loop, &batch->word, CW__BATCH_TERMINAL,
			     timeout ? cw__after(cw__now(), timeout) : 0);
}

enum cw_batch_state cw_batch_poll(const struct cw_batch *batch)
{
	return (enum cw_batch_state)(atomic_load_explicit(&batch->word, memory_order_acquire) & CW__BATCH_STATE);
}

int cw_batch_result_get(struct cw_batch *batch, struct cw_batch_result *result_out)
{
	int status = check_batch(batch);

	if (!status && (!result_out || result_out->size != sizeof(*result_out)))
		status = cw__fail(CW_ERR_INVALID, "batch result: its size is not set");
	if (status)
		return status;
	pthread_mutex_lock(&batch->lock);
	*result_out = (struct cw_batch_result){
		.size = sizeof(*result_out),
		.state = cw_batch_poll(batch),
		.status = batch->status,
		.scope = cw_status_scope(batch->status),
		.retryable = cw_status_retryable(batch->status),
		.local_quiet = batch->local_quiet,
		/* What runs on is accounted for when it has ended. */
		.remote = batch->local_quiet ? batch->remote : CW_REMOTE_UNKNOWN,
		.fence_ns = batch->fence,
		.requests_completed = batch->requests_completed,
		.requests_failed = batch->requests_failed,
		.bytes_completed = batch->bytes_completed,
		.submitted_ns = batch->submitted,
		.ended_ns = batch->ended,
	};
	memcpy(result_out->text, batch->text, sizeof(result_out->text));
	pthread_mutex_unlock(&batch->lock);
	return CW_OK;
}

int cw_batch_request_status(struct cw_batch *batch, size_t index, uint64_t *bytes_out)
{
	int status = check_batch(batch);

	if (!status && index >= batch->count)
		status = cw__fail(CW_ERR_INVALID, "there is no request %zu", index);
	if (status)
		return status;
	status = atomic_load_explicit(&batch->requests[index].status, memory_order_acquire);
	if (bytes_out)
		*bytes_out = status == CW_ERR_AGAIN ? 0 : batch->requests[index].done;
	return status;
}

static int hold(struct cw_batch *batch)
{
	int32_t refs = atomic_load_explicit(&batch->refs, memory_order_relaxed);

	while (refs > 0)
		if (atomic_compare_exchange_weak_explicit(&batch->refs, &refs, refs + 1, memory_order_acquire,
							  memory_order_relaxed))
			return 1;
	return 0;
}

void cw__batches_cancel(struct cw_engine *engine)
{
	struct cw__list left, *node;

	cw__list_init(&left); /* each is looked at once; those that end meanwhile leave whichever list they are in */
	pthread_mutex_lock(&engine->batch_lock);
	cw__list_splice(&left, &engine->batches);
	while ((node = cw__list_pop(&left))) {
		struct cw_batch *batch = cw__container(node, struct cw_batch, node);

		cw__list_push_back(&engine->batches, node);
		if (!hold(batch))
			continue; /* a free one */
		pthread_mutex_unlock(&engine->batch_lock);
		if (!(atomic_load_explicit(&batch->word, memory_order_acquire) & CW__BATCH_TERMINAL))
			cw__batch_end_soon(batch, CW_ERR_CANCELED);
		cw__batch_put(batch);
		pthread_mutex_lock(&engine->batch_lock);
	}
	pthread_mutex_unlock(&engine->batch_lock);
}
