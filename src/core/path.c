/* SPDX-License-Identifier: Apache-2.0 */
/* Which way a request goes: the cheapest transport that can carry its pair of regions; and telling a user why. */
#include <core/device.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGE_COST 25000u /* ns for 64 KiB: a copy between a device and host memory, and a change of threads */

static int ask(struct cw_segment *segment, unsigned part, const struct cw_reach_query *query,
	       struct cw_reach *reach_out)
{
	struct cw__part *transport = &segment->engine->parts[part];

	memset(reach_out, 0, sizeof(*reach_out));
	return transport->ops->reach(transport->state, segment->lanes[part].state, query, reach_out);
}

/* Can the transport carry the pair as it is, or, if the local side is no host memory, through buffers that are? */
static int reach(struct cw_segment *segment, unsigned part, const struct cw_region *local,
		 const struct cw__remote *remote, const struct cw__need *need, struct cw__path *path)
{
	struct cw_reach_query query = { &local->view,  local->attachments[part],
					&remote->view, remote->imports[part],
					need->op,      need->length,
					need->page };
	int status = CW_ERR_NO_PATH;

	*path = (struct cw__path){ .part = part };
	if (!atomic_load_explicit(&segment->lanes[part].on, memory_order_acquire)) {
		path->reach.why = "not opened to this peer";
		return status;
	}
	if (local->attached[part])
		status = ask(segment, part, &query, &path->reach);
	else
		path->reach.why = "cannot use the local memory";
	if (status && local->view.kind != CW_MEMORY_HOST && cw__device_reachable(segment->engine, local)) {
		struct cw_region_view view = local->view;
		struct cw_reach staged;

		view.kind = CW_MEMORY_HOST;
		view.device = view.numa_node = -1;
		view.share_fd = -1;
		query.local = &view;
		query.attachment = NULL;
		status = ask(segment, part, &query, &staged);
		/* One that knows devices has the better reason not to carry this one. */
		if (!status || !(segment->engine->parts[part].flags & CW_TRANSPORT_DEVICE))
			path->reach = staged;
		path->staged = !status;
		path->reach.cost += path->staged ? STAGE_COST : 0;
	}
	path->lands = !status && remote->view.kind != CW_MEMORY_HOST &&
		      !(segment->engine->parts[part].flags & CW_TRANSPORT_DEVICE);
	path->reach.cost += path->lands ? STAGE_COST : 0;
	return status;
}

int cw__path_choose(struct cw_segment *segment, const struct cw_region *local, const struct cw__remote *remote,
		    const struct cw__need *need, struct cw__path *path_out)
{
	int found = 0;

	for (unsigned i = 0; i < segment->order_count; i++) {
		unsigned part = segment->order[i];
		struct cw__path candidate;

		if (need->skip & 1u << part || reach(segment, part, local, remote, need, &candidate) ||
		    !candidate.reach.rail_count)
			continue;
		if (found && candidate.reach.cost >= path_out->reach.cost)
			continue;
		*path_out = candidate;
		found = 1;
		if (segment->order_fixed)
			break;
	}
	return found ? CW_OK : CW_ERR_NO_PATH;
}

/* Why each transport that the segment may use cannot carry the request: those that are open to the peer first, because
 * they have more to say. */
static void list_refusals(struct cw__request *request, char *text, size_t size)
{
	const struct cw_segment *segment = request->segment;
	const struct cw__need need = { request->op, 0, request->length, cw__request_run(request) };
	struct cw__path path;
	size_t used = 0;

	for (unsigned i = 0; i < 2 * segment->order_count && used < size; i++) {
		unsigned part = segment->order[i % segment->order_count];
		int open = atomic_load_explicit(&segment->lanes[part].on, memory_order_acquire);
		const char *why = "it failed";

		if (open != (i < segment->order_count))
			continue;
		if (!(request->skip & 1u << part)) {
			if (!reach(request->segment, part, request->region, request->target, &need, &path))
				continue;
			why = path.reach.why ? path.reach.why : "it cannot";
		}
		used += (size_t)snprintf(text + used, size - used, "%s%s: %s", used ? "; " : "",
					 segment->engine->parts[part].ops->name, why);
	}
}

void cw__path_refused(struct cw__request *request, int status)
{
	struct cw_batch *batch = request->batch;
	char why[sizeof(batch->text)] = "";
	int pin;

	if (status != CW_ERR_NO_PATH || cw__remote_pin(request->target))
		return;
	pin = cw__region_pin(request->region, request->region_id, request->local_from, request->local_to);
	if (pin >= 0) {
		list_refusals(request, why, sizeof(why));
		cw__region_unpin(request->region, pin);
	}
	cw__remote_unpin(request->target);
	pthread_mutex_lock(&batch->lock);
	cw__batch_explain(batch, CW_ERR_NO_PATH, "%s of %llu bytes %s %s by no transport: %s",
			  request->op == CW_OP_WRITE ? "write" : "read", (unsigned long long)request->length,
			  request->op == CW_OP_WRITE ? "to" : "from", request->segment->name,
			  *why ? why : "it may use none");
	pthread_mutex_unlock(&batch->lock);
}

/* -------------------------------------------------------------------------------------------- explain */

struct question {
	struct cw_segment *segment;
	struct cw_region *local;
	uint64_t local_id, remote, length;
	enum cw_op op;
	struct cw_path_step *steps;
	size_t max, count;
	int status;
	_Atomic uint32_t answered; /* futex */
	_Atomic int refs;
	struct cw_task task;
	struct cw_timer timer;
	struct cw__remote *target;
	uint64_t until;
	struct cw_path_step found[CW__PARTS_MAX];
};

static void describe_step(struct question *question, unsigned part, int status, const struct cw__path *path)
{
	const struct cw_reach *found = &path->reach;
	struct cw_path_step *step = &question->found[question->count++];
	struct cw__lane *lane = &question->segment->lanes[part];
	double speed = 0;

	memset(step, 0, sizeof(*step));
	snprintf(step->transport, sizeof(step->transport), "%s", question->segment->engine->parts[part].ops->name);
	step->usable = !status;
	step->rails = status ? 0 : found->rail_count;
	for (unsigned i = 0; !status && i < found->rail_count; i++) {
		speed += lane->rails[found->rail_first + i].bytes_per_second;
		step->rails_down += lane->rails[found->rail_first + i].status != CW_OK;
	}
	step->staged = !status && (path->staged || path->lands);
	step->gigabytes_per_second = speed / 1e9;
	snprintf(step->checks, sizeof(step->checks), "%s", found->checks ? found->checks : "");
	snprintf(step->why, sizeof(step->why), "%s", found->why ? found->why : cw_strerror(status));
}

static void explain_all(struct question *question)
{
	struct cw_segment *segment = question->segment;
	struct cw_engine *engine = segment->engine;
	const struct cw__need need = { question->op, 0, question->length, question->length };
	struct cw__path chosen, found;
	unsigned best = CW__PARTS_MAX;
	int pin = cw__region_pin(question->local, question->local_id, question->local->view.address,
				 question->local->view.address + 1);

	question->status = pin < 0 ? pin : CW_OK;
	if (pin < 0)
		return;
	if (!cw__path_choose(segment, question->local, question->target, &need, &chosen)) {
		best = chosen.part;
		describe_step(question, best, CW_OK, &chosen);
		question->found[0].chosen = 1;
	}
	for (unsigned part = 0; part < engine->part_count; part++) {
		int status, allowed = 0;

		for (unsigned i = 0; i < segment->order_count; i++)
			allowed |= segment->order[i] == part;
		if (part == best)
			continue;
		memset(&found, 0, sizeof(found));
		if (!engine->parts[part].on) {
			status = CW_ERR_NO_PATH;
			found.reach.why = engine->parts[part].why;
		} else if (!allowed) {
			status = CW_ERR_NO_PATH;
			found.reach.why = "not among the transports this segment was opened with";
		} else {
			status = reach(segment, part, question->local, question->target, &need, &found);
		}
		describe_step(question, part, status, &found);
	}
	cw__region_unpin(question->local, pin);
}

static void question_put(struct question *question)
{
	if (atomic_fetch_sub_explicit(&question->refs, 1, memory_order_acq_rel) == 1) {
		cw__segment_put(question->segment);
		free(question);
	}
}

static void finish(struct question *question)
{
	if (question->target)
		cw__remote_put(question->target);
	question->target = NULL;
	cw__loop_signal(question->segment->loop, &question->answered,
			atomic_fetch_or_explicit(&question->answered, 1, memory_order_seq_cst));
	question_put(question);
}

/* On the loop: looks whether the remote region is known by now. */
static void look(struct question *question)
{
	struct cw_segment *segment = question->segment;
	int status = cw__segment_usable(segment), known = 0;
	uint64_t from = question->remote, to = from + question->length;

	if (!status) {
		struct cw__remote *last = question->target;

		if (last && last->failure && last->want_from == from && last->want_to == to)
			status = last->failure;
		else
			question->target = cw__remote_ask(segment, 0, from, to);
		if (!status && last)
			cw__remote_put(last);
		if (!status && !question->target)
			status = CW_ERR_NO_MEMORY;
		known = !status &&
			atomic_load_explicit(&question->target->state, memory_order_acquire) == CW__REMOTE_READY &&
			cw__remote_covers(question->target, 0, from, to);
	}
	if (known) {
		explain_all(question);
	} else if ((!status || status == CW_ERR_AGAIN) && cw__now() < question->until) {
		cw__timer_set(segment->loop, &question->timer, cw__now() + CW__MS);
		return;
	} else {
		question->status = status && status != CW_ERR_AGAIN ? status : CW_ERR_TIMED_OUT;
	}
	finish(question);
}

static void look_by_timer(struct cw_timer *timer)
{
	look(cw__container(timer, struct question, timer));
}

static void look_by_task(struct cw_task *task)
{
	look(cw__container(task, struct question, task));
}

int cw_path_explain(struct cw_segment *segment, const void *local, uint64_t remote, uint64_t length, enum cw_op op,
		    struct cw_path_step *steps_out, size_t max, size_t *count_out)
{
	int status = segment ? cw__engine_check(segment->engine) : cw__fail(CW_ERR_INVALID, "no segment");
	struct question *question;

	if (!status && (!length || remote > UINT64_MAX - length || (op != CW_OP_READ && op != CW_OP_WRITE)))
		status = cw__fail(CW_ERR_INVALID, "path: the range is empty or wraps, or the operation is unknown");
	if (status)
		return status;
	question = calloc(1, sizeof(*question));
	if (!question)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	question->local = cw__region_lookup(segment->engine, (uint64_t)(uintptr_t)local, length, &question->local_id);
	if (!question->local) {
		free(question);
		return cw__fail(CW_ERR_NOT_REGISTERED, "%p is not inside a registered region", local);
	}
	question->segment = segment;
	question->remote = remote;
	question->length = length;
	question->op = op;
	question->until = cw__now() + cw__config_number(&segment->engine->config, "control/connect_timeout", 0);
	atomic_store_explicit(&question->refs, 2, memory_order_relaxed);
	atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
	question->task.run = look_by_task;
	question->timer.fire = look_by_timer;
	cw__task_post(segment->loop, &question->task);
	if (cw__loop_wait(segment->loop, &question->answered, 1, question->until + CW__SECOND)) {
		question_put(question);
		return cw__fail(CW_ERR_TIMED_OUT, "%s does not answer", segment->name);
	}
	status = question->status;
	for (size_t i = 0; !status && i < question->count && i < max; i++)
		steps_out[i] = question->found[i];
	if (!status)
		*count_out = question->count;
	question_put(question);
	return status ? cw__fail(status, "%s at 0x%llx: %s", segment->name, (unsigned long long)remote,
				 cw_strerror(status))
		      : CW_OK;
}
