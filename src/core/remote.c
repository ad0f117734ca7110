/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The regions of a peer, asked for when a request first needs one: a native peer resolves an address, a classic peer
 * sent one list, our own segment looks into our own table. A region that went away is dropped and asked for once more.
 */
#include <core/naming.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_AGAIN 50000u /* ns, for submitters that found a region before it went */

int cw__remote_covers(const struct cw__remote *remote, uint32_t space, uint64_t from, uint64_t to)
{
	const struct cw_remote_view *view = &remote->view;

	return view->space == space && view->address <= from && to - view->address <= view->length;
}

static int is_ready_for(struct cw__remote *remote, uint32_t space, uint64_t from, uint64_t to)
{
	return atomic_load_explicit(&remote->state, memory_order_seq_cst) == CW__REMOTE_READY &&
	       cw__remote_covers(remote, space, from, to);
}

static struct cw__remote *look_up(struct cw_segment *segment, uint64_t address)
{
	struct cw__index *index = atomic_load_explicit(&segment->index, memory_order_acquire);
	struct cw__indexed found;

	return index && cw__index_find(index, address, &found) ? (struct cw__remote *)(uintptr_t)found.value : NULL;
}

struct cw__remote *cw__remote_look(struct cw_segment *segment, uint32_t space, uint64_t from, uint64_t to)
{
	struct cw__remote *remote = space ? NULL : look_up(segment, from);

	return remote && is_ready_for(remote, space, from, to) ? remote : NULL;
}

/* With segment->lock. */
static struct cw__remote *search(struct cw_segment *segment, uint32_t space, uint64_t from, uint64_t to)
{
	struct cw__remote *remote = space ? NULL : look_up(segment, from);

	if (remote && is_ready_for(remote, space, from, to))
		return remote;
	cw__list_each(node, &segment->loose)
	{
		remote = cw__container(node, struct cw__remote, node);
		if (is_ready_for(remote, space, from, to))
			return remote;
	}
	return NULL;
}

struct cw__remote *cw__remote_find(struct cw_segment *segment, uint32_t space, uint64_t from, uint64_t to)
{
	struct cw__remote *remote;

	pthread_mutex_lock(&segment->lock);
	remote = search(segment, space, from, to);
	if (remote)
		atomic_fetch_add_explicit(&remote->refs, 1, memory_order_relaxed);
	pthread_mutex_unlock(&segment->lock);
	return remote;
}

/* With segment->lock: puts it into a list. */
static void unindex(struct cw__remote *remote, struct cw__list *list)
{
	struct cw_segment *segment = remote->segment;

	if (remote->indexed)
		cw__index_remove(atomic_load_explicit(&segment->index, memory_order_relaxed), remote->view.address);
	remote->indexed = 0;
	cw__list_remove(&remote->node);
	cw__list_push_front(list, &remote->node);
}

/* The newest answer about a range counts: what the peer said before is found only where this one is not. Without memory
 * it stays loose. */
static void make_known(struct cw__remote *remote)
{
	struct cw_segment *segment = remote->segment;
	uint64_t from = remote->view.address, to = from + remote->view.length;
	struct cw__index *index;
	struct cw__indexed other;

	pthread_mutex_lock(&segment->lock);
	index = atomic_load_explicit(&segment->index, memory_order_relaxed);
	if (!index)
		index = cw__index_open();
	atomic_store_explicit(&segment->index, index, memory_order_release);
	if (index && !remote->view.space && from < to) {
		while (cw__index_meet(index, from, to, &other))
			unindex((struct cw__remote *)(uintptr_t)other.value, &segment->loose);
		remote->indexed = !cw__index_insert(index, from, to, (uint64_t)(uintptr_t)remote);
	}
	if (remote->indexed) {
		cw__list_remove(&remote->node);
		cw__list_push_front(&segment->remotes, &remote->node);
	}
	pthread_mutex_unlock(&segment->lock);
}

/* ----------------------------------------------------------------------------------------- lifetimes */

void cw__remote_put(struct cw__remote *remote)
{
	struct cw_segment *segment = remote->segment;

	if (atomic_fetch_sub_explicit(&remote->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_lock(&segment->lock);
	cw__list_remove(&remote->node);
	cw__list_push_front(&segment->spare, &remote->node);
	pthread_mutex_unlock(&segment->lock);
}

void cw__remote_put_late(struct cw__remote *remote)
{
	if (atomic_fetch_sub_explicit(&remote->refs, 1, memory_order_acq_rel) == 1)
		free(remote);
}

/* Only the pins of a spare one mean something: somebody may be looking whether it is still what the index said. */
static struct cw__remote *remote_new(struct cw_segment *segment, uint32_t space, uint64_t from, uint64_t to)
{
	struct cw__remote *remote;
	struct cw__list *node;

	pthread_mutex_lock(&segment->lock);
	node = cw__list_pop(&segment->spare);
	pthread_mutex_unlock(&segment->lock);
	remote = node ? cw__container(node, struct cw__remote, node) : calloc(1, sizeof(*remote));
	if (!remote)
		return NULL;
	remote->segment = segment;
	remote->view = (struct cw_remote_view){ .space = space };
	remote->failure = CW_OK;
	memset(remote->imports, 0, sizeof(remote->imports));
	memset(remote->import_state, 0, sizeof(remote->import_state));
	remote->importing = 0;
	remote->import_stale = 0;
	remote->want_from = from;
	remote->want_to = to;
	cw__list_init(&remote->node);
	cw__list_init(&remote->waiting);
	cw__list_init(&remote->revokers);
	atomic_store_explicit(&remote->closing, 0, memory_order_relaxed);
	atomic_store_explicit(&remote->refs, 2, memory_order_relaxed); /* the list's and the caller's */
	atomic_store_explicit(&remote->state, CW__REMOTE_ASKING, memory_order_seq_cst);
	return remote;
}

void cw__remotes_free(struct cw_segment *segment)
{
	struct cw__list *node;

	while ((node = cw__list_pop(&segment->spare)))
		free(cw__container(node, struct cw__remote, node));
	cw__index_close(atomic_load_explicit(&segment->index, memory_order_relaxed));
}

/* For questions and imports under way: the segment stays too (a request holds its segment by itself). */
static void hold(struct cw__remote *remote)
{
	atomic_fetch_add_explicit(&remote->refs, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&remote->segment->refs, 1, memory_order_relaxed);
}

static void let_go(struct cw__remote *remote)
{
	struct cw_segment *segment = remote->segment;

	cw__remote_put(remote);
	cw__segment_put(segment);
}

/* Nothing touches it any more and nothing will: tell its owner, give the imports back. */
static void close_remote(struct cw__remote *remote)
{
	struct cw_segment *segment = remote->segment;

	for (unsigned part = 0; part < segment->engine->part_count; part++) {
		if (remote->import_state[part] != CW__IMPORT_READY)
			continue;
		remote->import_state[part] = CW__IMPORT_NONE;
		if (atomic_load_explicit(&segment->lanes[part].on, memory_order_relaxed))
			segment->engine->parts[part].ops->import_close(
				segment->engine->parts[part].state, segment->lanes[part].state, remote->imports[part]);
	}
	while (!cw__list_empty(&remote->revokers)) {
		struct cw__revoker *revoker = cw__container(cw__list_pop(&remote->revokers), struct cw__revoker, node);

		revoker->done(revoker->arg);
		free(revoker);
	}
}

static void close_when_passed(struct cw_timer *timer)
{
	struct cw__remote *remote = cw__container(timer, struct cw__remote, close_timer);

	if (!cw__shards_passed(remote->segment->engine, &remote->mark)) {
		cw__timer_set(remote->segment->loop, timer, cw__now() + LOOK_AGAIN);
		return;
	}
	pthread_mutex_lock(&remote->segment->lock);
	cw__list_remove(&remote->node);
	pthread_mutex_unlock(&remote->segment->lock);
	close_remote(remote);
	let_go(remote); /* the list's reference, and what close_soon() took of the segment */
}

static void close_on_loop(struct cw_task *task)
{
	struct cw__remote *remote = cw__container(task, struct cw__remote, close_task);

	memset(&remote->close_timer, 0, sizeof(remote->close_timer));
	remote->close_timer.fire = close_when_passed;
	cw__shards_mark(remote->segment->engine, &remote->mark);
	close_when_passed(&remote->close_timer);
}

/* A segment that is about to be closed finds the remote among those that leave. */
static void close_soon(struct cw__remote *remote)
{
	struct cw_segment *segment = remote->segment;

	if (atomic_exchange_explicit(&remote->closing, 1, memory_order_acq_rel) || !cw__segment_hold(segment))
		return;
	remote->close_task.run = close_on_loop;
	cw__task_post(segment->loop, &remote->close_task);
}

int cw__remote_pin(struct cw__remote *remote)
{
	atomic_fetch_add_explicit(&remote->pins, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&remote->state, memory_order_seq_cst) == CW__REMOTE_READY)
		return CW_OK;
	cw__remote_unpin(remote);
	return CW_ERR_STALE_REGION;
}

void cw__remote_unpin(struct cw__remote *remote)
{
	if (atomic_fetch_sub_explicit(&remote->pins, 1, memory_order_seq_cst) == 1 &&
	    atomic_load_explicit(&remote->state, memory_order_seq_cst) == CW__REMOTE_GONE)
		close_soon(remote);
}

void cw__remote_gone(struct cw__remote *remote)
{
	struct cw_segment *segment = remote->segment;
	int was_there =
		atomic_exchange_explicit(&remote->state, CW__REMOTE_GONE, memory_order_seq_cst) != CW__REMOTE_GONE;

	if (!was_there)
		return;
	pthread_mutex_lock(&segment->lock);
	unindex(remote, &segment->leaving);
	pthread_mutex_unlock(&segment->lock);
	if (atomic_load_explicit(&remote->pins, memory_order_seq_cst) == 0)
		close_soon(remote);
}

/* On the loop, with no request left. */
void cw__remotes_close(struct cw_segment *segment)
{
	cw__list_splice(&segment->leaving, &segment->remotes);
	cw__list_splice(&segment->leaving, &segment->loose);
	while (!cw__list_empty(&segment->leaving)) {
		struct cw__remote *remote = cw__container(cw__list_pop(&segment->leaving), struct cw__remote, node);

		close_remote(remote);
		cw__remote_put(remote);
	}
}

/* --------------------------------------------------------------------------------------------- asking */

/* The answer is here. Requests that only waited for their turn to ask look again; so do all when it was a good one. */
static void resolved(struct cw__remote *remote, int status)
{
	struct cw_segment *segment = remote->segment;
	struct cw__list waiting;

	cw__list_init(&waiting);
	cw__list_splice(&waiting, &remote->waiting);
	atomic_fetch_add_explicit(&remote->refs, 1, memory_order_relaxed);
	remote->failure = status;
	if (segment->asking == remote)
		segment->asking = NULL;
	if (status)
		cw__remote_gone(remote);
	else if (atomic_load_explicit(&remote->state, memory_order_relaxed) == CW__REMOTE_ASKING) {
		atomic_store_explicit(&remote->state, CW__REMOTE_READY, memory_order_seq_cst);
		make_known(remote);
	}
	while (!cw__list_empty(&waiting)) {
		struct cw__request *request = cw__container(cw__list_pop(&waiting), struct cw__request, node);
		uint64_t from, to;
		int mine;

		cw__window_wanted(request, &from, &to);
		mine = request->remote.space == remote->view.space && from >= remote->want_from &&
		       to <= remote->want_to;
		if (status && mine) {
			cw__request_stop(request, status);
			continue;
		}
		cw__remote_put(request->target);
		request->target = NULL;
		cw__request_begin(request);
	}
	cw__segment_pump(segment);
	cw__remote_put(remote);
}

/* With the last import the region can be used, or, if it went meanwhile, be closed with all that was imported. */
static void one_less(struct cw__remote *remote)
{
	if (--remote->importing)
		return;
	atomic_fetch_add_explicit(&remote->refs, 1, memory_order_relaxed);
	resolved(remote, remote->import_stale ? CW_ERR_STALE_REGION : CW_OK);
	cw__remote_unpin(remote);
	cw__remote_put(remote);
}

static void import_ended(struct cw__remote *remote, unsigned part, int status, void *import)
{
	remote->import_state[part] = status ? CW__IMPORT_FAILED : CW__IMPORT_READY;
	remote->imports[part] = status ? NULL : import;
	if (status == CW_ERR_STALE_REGION) /* it went between the answer and the import: no way is left */
		remote->import_stale = 1;
	one_less(remote);
}

void cw__host_import_done(struct cw_import *token, int status, void *import)
{
	struct cw__remote *remote = token->remote;
	unsigned part = token->part;

	free(token);
	import_ended(remote, part, status, import);
	let_go(remote);
}

static void import_one(struct cw__remote *remote, unsigned part, const void *blob, size_t length)
{
	struct cw_segment *segment = remote->segment;
	const struct cw_transport_ops *ops = segment->engine->parts[part].ops;
	struct cw_import *token = malloc(sizeof(*token));
	void *import = NULL;
	int status = CW_ERR_NO_MEMORY;

	remote->import_state[part] = CW__IMPORT_ASKING;
	remote->importing++;
	if (token) {
		*token = (struct cw_import){ remote, part };
		hold(remote);
		status = ops->import_region(segment->engine->parts[part].state, segment->lanes[part].state,
					    &remote->view, blob, length, token, &import);
		if (status == CW_ERR_AGAIN)
			return;
		free(token);
		let_go(remote);
	}
	import_ended(remote, part, status, import);
}

static void import_all(struct cw__remote *remote, const struct cw__region_record *record)
{
	struct cw_segment *segment = remote->segment;

	remote->importing = 1; /* ourselves, so that it cannot end before all have begun */
	atomic_fetch_add_explicit(&remote->pins, 1, memory_order_seq_cst); /* closed only when every import is known */
	for (unsigned part = 0; part < segment->engine->part_count; part++) {
		const char *name = segment->engine->parts[part].ops->name;

		if (!atomic_load_explicit(&segment->lanes[part].on, memory_order_relaxed) ||
		    !segment->engine->parts[part].ops->import_region)
			continue;
		for (uint32_t i = 0; record && i < record->transport_count; i++)
			if (record->transports[i].name.length == strlen(name) &&
			    !memcmp(record->transports[i].name.data, name, strlen(name)))
				import_one(remote, part, record->transports[i].blob, record->transports[i].length);
	}
	one_less(remote);
}

static void answered(void *arg, int status, const void *body, size_t length)
{
	struct cw__remote *remote = arg;
	struct cw__region_record record;

	if (!status)
		status = cw__region_record_decode(body, length, &record, NULL);
	if (!status && (record.space != remote->view.space || record.address > remote->want_from ||
			remote->want_to - record.address > record.length))
		status = CW_ERR_PROTOCOL;
	if (status) {
		resolved(remote, status);
	} else {
		pthread_mutex_lock(&remote->segment->lock);
		remote->view = (struct cw_remote_view){
			.id = record.id,
			.key = record.key,
			.address = record.address,
			.length = record.length,
			.access = record.access,
			.space = record.space,
			.kind = (enum cw_memory_kind)record.kind,
			.device = record.device,
			.numa_node = record.numa_node,
		};
		pthread_mutex_unlock(&remote->segment->lock);
		import_all(remote, &record);
	}
	let_go(remote);
}

static int ask_self(struct cw__remote *remote)
{
	struct cw_engine *engine = remote->segment->engine;
	uint64_t id = 0;
	struct cw_region *region =
		cw__region_lookup(engine, remote->want_from, remote->want_to - remote->want_from, &id);
	int pin = region ? cw__region_pin(region, id, remote->want_from, remote->want_to) : CW_ERR_NOT_REGISTERED;

	if (pin < 0)
		return pin;
	remote->view = (struct cw_remote_view){
		.id = id,
		.key = region->view.key,
		.address = region->view.address,
		.length = region->view.length,
		.access = region->view.access,
		.kind = region->view.kind,
		.device = region->view.device,
		.numa_node = region->view.numa_node,
	};
	cw__region_unpin(region, pin);
	return CW_OK;
}

static int ask_classic(struct cw__remote *remote)
{
	const struct cw__descriptor *descriptor = &remote->segment->descriptor;

	for (size_t i = 0; i < descriptor->buffer_count; i++) {
		const struct cw__classic_buffer *buffer = &descriptor->buffers[i];

		if (buffer->address <= remote->want_from && remote->want_to - buffer->address <= buffer->length) {
			remote->view = (struct cw_remote_view){ .address = buffer->address,
								.length = buffer->length,
								.access = CW_ACCESS_REMOTE,
								.device = -1,
								.numa_node = -1 };
			return CW_OK;
		}
	}
	return CW_ERR_NOT_REGISTERED;
}

/* The peer may have registered more since: its whole list once more. */
static void classic_answered(void *arg, int status)
{
	struct cw__remote *remote = arg;

	if (!status)
		status = ask_classic(remote);
	if (status)
		resolved(remote, status);
	else
		import_all(remote, NULL);
	let_go(remote);
}

static int ask_native(struct cw__remote *remote, uint64_t timeout)
{
	struct cw__resolve resolve = { remote->view.space, remote->want_from, remote->want_to - remote->want_from };
	unsigned char body[64];
	size_t length = cw__resolve_encode(&resolve, body, sizeof(body));

	return cw__control.request(remote->segment->link, CW__CONTROL_RESOLVE, body, length, timeout, answered, remote);
}

static void ask(struct cw__remote *remote)
{
	struct cw_segment *segment = remote->segment;
	uint64_t timeout = cw__config_number(&segment->engine->config, "control/connect_timeout", 0);
	int status;

	if (segment->self) {
		status = ask_self(remote);
	} else if (segment->peer.classic) {
		status = ask_classic(remote);
		if (status) {
			hold(remote);
			status = cw__segment_refetch(segment, timeout, classic_answered, remote);
			if (!status)
				return;
			let_go(remote);
		}
	} else {
		hold(remote);
		status = ask_native(remote, timeout);
		if (!status)
			return;
		let_go(remote);
	}
	if (status)
		resolved(remote, status);
	else
		import_all(remote, NULL);
}

struct cw__remote *cw__remote_ask(struct cw_segment *segment, uint32_t space, uint64_t from, uint64_t to)
{
	struct cw__remote *remote;

	remote = cw__remote_find(segment, space, from, to);
	if (remote)
		return remote;
	if (segment->asking) { /* one question at a time: the next requests are mostly for the same region */
		atomic_fetch_add_explicit(&segment->asking->refs, 1, memory_order_relaxed);
		return segment->asking;
	}
	remote = remote_new(segment, space, from, to);
	if (!remote)
		return NULL;
	pthread_mutex_lock(&segment->lock);
	cw__list_push_front(&segment->loose, &remote->node);
	pthread_mutex_unlock(&segment->lock);
	segment->asking = remote;
	ask(remote);
	return remote;
}

/* ------------------------------------------------------------------------------- the peer's revocations */

/* With segment->lock. */
static struct cw__remote *find_in(struct cw__list *list, uint64_t id)
{
	cw__list_each(node, list)
	{
		struct cw__remote *remote = cw__container(node, struct cw__remote, node);

		if (remote->view.id == id)
			return remote;
	}
	return NULL;
}

/* On the loop, which alone takes a region off the lists: what is found stays until the caller returns. */
static struct cw__remote *find_id(struct cw_segment *segment, uint64_t id)
{
	struct cw__remote *found;

	pthread_mutex_lock(&segment->lock);
	found = find_in(&segment->remotes, id);
	if (!found)
		found = find_in(&segment->loose, id);
	pthread_mutex_unlock(&segment->lock);
	return found;
}

void cw__core_region_gone(void *arg, uint64_t region_id)
{
	struct cw_segment *segment = arg;
	struct cw__remote *remote = find_id(segment, region_id);

	if (remote)
		cw__remote_gone(remote);
}

/* Counts down the remotes that stand for one revoked region. */
struct revocation {
	unsigned left;
	void (*done)(void *arg);
	void *arg;
};

static void count_down(void *arg)
{
	struct revocation *revocation = arg;

	if (--revocation->left)
		return;
	revocation->done(revocation->arg);
	free(revocation);
}

static void await_end(struct cw__remote *remote, struct revocation *revocation)
{
	struct cw__revoker *revoker = malloc(sizeof(*revoker));

	if (!revoker) {
		cw__log(remote->segment->engine, CW_LOG_ERROR,
			"out of memory: %s will not learn that we let a region go", remote->segment->name);
		return;
	}
	*revoker = (struct cw__revoker){ .done = count_down, .arg = revocation };
	revocation->left++;
	cw__list_push_back(&remote->revokers, &revoker->node);
}

/* Also those count that left already but are still being copied from or to. */
void cw__host_import_revoked(struct cw_host *host, struct cw_peer *peer, uint64_t region_id, void (*done)(void *arg),
			     void *arg)
{
	struct cw_segment *segment = (struct cw_segment *)peer;
	struct revocation *revocation = malloc(sizeof(*revocation));
	struct cw__remote *remote;

	(void)host;
	if (!revocation) {
		cw__log(segment->engine, CW_LOG_ERROR, "out of memory: %s will not learn that we let a region go",
			segment->name);
		return;
	}
	*revocation = (struct revocation){ 1, done, arg };
	cw__list_each(node, &segment->leaving)
	{
		remote = cw__container(node, struct cw__remote, node);
		if (remote->view.id == region_id)
			await_end(remote, revocation);
	}
	while ((remote = find_id(segment, region_id))) {
		await_end(remote, revocation);
		cw__remote_gone(remote);
	}
	count_down(revocation);
}
