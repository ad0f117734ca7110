/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: what a peer offers. Opening, the peer's state as its control link comes and goes, and what transports are
 * opened to it. The peer's regions are in remote.c.
 */
#include <core/naming.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_FIRST (100 * CW__MS)
#define RETRY_LAST (5 * CW__SECOND)

void cw__segment_set_state(struct cw_segment *segment, enum cw_peer_state state)
{
	uint32_t before = atomic_exchange_explicit(&segment->state, state, memory_order_seq_cst);

	if (before != state && !(before & CW__SEGMENT_OPENING))
		cw__queue_push_peer(&segment->engine->queue, segment, state);
}

/* ---------------------------------------------------------------------------------------------- lanes */

static void lane_open(struct cw_segment *segment, unsigned part, const void *description, size_t length)
{
	const struct cw_transport_ops *ops = segment->engine->parts[part].ops;
	struct cw__lane *lane = &segment->lanes[part];
	struct cw_rail_info *infos;

	if (ops->peer_open(segment->engine->parts[part].state, &segment->peer, description, length, &lane->state))
		return;
	infos = calloc(CW__RAILS_MAX, sizeof(*infos));
	if (infos)
		lane->rail_count = ops->rails(segment->engine->parts[part].state, lane->state, infos, CW__RAILS_MAX);
	lane->rails = infos ? calloc(lane->rail_count ? lane->rail_count : 1, sizeof(*lane->rails)) : NULL;
	if (!lane->rails) {
		free(infos);
		ops->peer_close(segment->engine->parts[part].state, lane->state);
		return;
	}
	for (unsigned i = 0; i < lane->rail_count; i++) {
		lane->rails[i].info = infos[i];
		lane->rails[i].bytes_per_second = infos[i].bytes_per_second;
	}
	free(infos);
	atomic_store_explicit(&lane->on, 1, memory_order_release);
}

static const struct cw__transport_offer *find_offer(const struct cw__welcome *welcome, const char *name)
{
	for (uint32_t i = 0; i < welcome->transport_count; i++)
		if (welcome->transports[i].name.length == strlen(name) &&
		    !memcmp(welcome->transports[i].name.data, name, strlen(name)))
			return &welcome->transports[i];
	return NULL;
}

static void note_offer(struct cw_segment *segment, const char *name, size_t length)
{
	size_t used = strlen(segment->offers);

	snprintf(segment->offers + used, sizeof(segment->offers) - used, "%s%.*s", used ? "," : "", (int)length, name);
}

static void lanes_open_self(struct cw_segment *segment)
{
	struct cw_engine *engine = segment->engine;
	int found = 0;

	for (unsigned i = 0; i < segment->order_count; i++) {
		unsigned part = segment->order[i];
		int for_devices = (engine->parts[part].flags & CW_TRANSPORT_DEVICE) != 0;

		/* To oneself the first way is the best, for host memory and for devices; a caller who named several
		 * gets them all. */
		if (found && !for_devices && !segment->order_fixed)
			continue;
		lane_open(segment, part, engine->parts[part].description.data, engine->parts[part].description.length);
		if (!atomic_load_explicit(&segment->lanes[part].on, memory_order_relaxed))
			continue;
		note_offer(segment, engine->parts[part].ops->name, strlen(engine->parts[part].ops->name));
		found |= !for_devices;
	}
	segment->lanes_open = 1;
}

static void lanes_open(struct cw_segment *segment, const struct cw__link_info *info)
{
	struct cw_engine *engine = segment->engine;

	for (uint32_t i = 0; info->welcome && i < info->welcome->transport_count; i++)
		note_offer(segment, info->welcome->transports[i].name.data, info->welcome->transports[i].name.length);
	if (info->classic)
		note_offer(segment, info->descriptor->protocol, strlen(info->descriptor->protocol));
	for (unsigned i = 0; i < segment->order_count; i++) {
		unsigned part = segment->order[i];
		const struct cw__transport_offer *offer = NULL;

		if (info->classic && !(engine->parts[part].ops->flags & CW_TRANSPORT_CLASSIC))
			continue;
		if (!info->classic)
			offer = find_offer(info->welcome, engine->parts[part].ops->name);
		if (info->classic || offer)
			lane_open(segment, part, offer ? offer->blob : NULL, offer ? offer->length : 0);
	}
	segment->lanes_open = 1;
}

static void lanes_close(struct cw_segment *segment)
{
	for (unsigned part = 0; part < segment->engine->part_count; part++) {
		struct cw__lane *lane = &segment->lanes[part];

		if (!atomic_exchange_explicit(&lane->on, 0, memory_order_acq_rel))
			continue;
		segment->engine->parts[part].ops->peer_close(segment->engine->parts[part].state, lane->state);
		free(lane->rails);
		lane->rails = NULL;
	}
}

static void lanes_lost(struct cw_segment *segment, int status)
{
	for (unsigned part = 0; part < segment->engine->part_count; part++)
		if (atomic_load_explicit(&segment->lanes[part].on, memory_order_relaxed))
			segment->engine->parts[part].ops->peer_lost(segment->engine->parts[part].state,
								    segment->lanes[part].state, status);
}

/* ---------------------------------------------------------------------------------- the link's story */

static void opening_ended(struct cw_segment *segment, int status, const char *text)
{
	segment->open_status = status;
	snprintf(segment->open_text, sizeof(segment->open_text), "%s", text ? text : "");
	cw__loop_signal(segment->loop, &segment->opened,
			atomic_fetch_or_explicit(&segment->opened, 1, memory_order_seq_cst));
}

static void fill_peer(struct cw_segment *segment, const struct cw__link_info *info)
{
	struct cw_peer *peer = &segment->peer;
	struct cw_engine *engine = segment->engine;

	snprintf(peer->address, sizeof(peer->address), "%s", info->address);
	peer->port = info->port;
	peer->classic = info->classic;
	if (info->welcome) {
		memcpy(peer->instance, info->welcome->instance, sizeof(peer->instance));
		peer->same_host = !memcmp(info->welcome->machine, engine->machine, sizeof(engine->machine));
		peer->pid = peer->same_host ? info->welcome->pid : 0;
		peer->same_process = peer->same_host && (uint32_t)getpid() == info->welcome->pid;
	} else {
		snprintf(peer->classic_host, sizeof(peer->classic_host), "%s", info->descriptor->tcp_data_host);
		peer->classic_port = info->descriptor->tcp_data_port;
		peer->classic_version = info->descriptor->tcp_proto_version;
	}
}

/* The link's copy lives as long as the link is up; ours is for look-ups of a classic peer's buffers. */
static void keep_descriptor(struct cw_segment *segment, const struct cw__descriptor *descriptor)
{
	struct cw__classic_buffer *buffers = NULL;

	if (descriptor->buffer_count) {
		buffers = malloc(descriptor->buffer_count * sizeof(*buffers));
		if (!buffers)
			return;
		memcpy(buffers, descriptor->buffers, descriptor->buffer_count * sizeof(*buffers));
	}
	free(segment->descriptor.buffers);
	segment->descriptor = *descriptor;
	segment->descriptor.buffers = buffers;
}

static void begin_new(struct cw__request *request, int status)
{
	(void)status;
	if (request->state == CW__REQUEST_NEW)
		cw__request_begin(request);
}

static void begin_waiting(struct cw_segment *segment)
{
	cw__segment_visit(segment, begin_new, CW_OK);
	cw__segment_pump(segment);
}

void cw__core_link_up(void *arg, const struct cw__link_info *info)
{
	struct cw_segment *segment = arg;

	segment->linked = 1;
	segment->retrying = 0;
	segment->retry_failures = 0;
	keep_descriptor(segment, info->descriptor);
	if (!segment->lanes_open || info->classic) /* a classic peer may be another process, with another data port */
		fill_peer(segment, info);
	if (!segment->lanes_open)
		lanes_open(segment, info);
	cw__segment_set_state(segment, CW_PEER_UP);
	opening_ended(segment, CW_OK, NULL);
	begin_waiting(segment);
}

void cw__segment_down(struct cw_segment *segment)
{
	segment->retrying = 0;
	segment->retry_failures++;
	segment->retry_after = cw__now() + (RETRY_FIRST << (segment->retry_failures < 6 ? segment->retry_failures : 6));
	if (segment->retry_after > cw__now() + RETRY_LAST)
		segment->retry_after = cw__now() + RETRY_LAST;
	cw__segment_set_state(segment, CW_PEER_DOWN);
	lanes_lost(segment, CW_ERR_PEER_DOWN);
	cw__segment_visit(segment, cw__request_stop, CW_ERR_PEER_DOWN);
}

void cw__core_link_down(void *arg, int status, const char *text)
{
	struct cw_segment *segment = arg;
	int was_linked = segment->linked;

	segment->linked = 0;
	/* The word also says whether somebody waits for it. */
	if (!(atomic_load_explicit(&segment->opened, memory_order_acquire) & 1)) {
		opening_ended(segment, status, text);
		return;
	}
	snprintf(segment->open_text, sizeof(segment->open_text), "%s", text ? text : "");
	if (status == CW_ERR_PEER_RESTARTED) {
		cw__segment_set_state(segment, CW_PEER_RESTARTED);
		lanes_lost(segment, status);
		cw__segment_visit(segment, cw__request_stop, status);
		return;
	}
	if (was_linked) { /* perhaps only this connection: ask again before it counts as down */
		cw__segment_set_state(segment, CW_PEER_SUSPECT);
		segment->retrying = 1;
		cw__control.link_retry(segment->link);
		return;
	}
	/* A store may know better where it is. Those who came while it was down wait for that; others are told now. */
	if (atomic_load_explicit(&segment->state, memory_order_acquire) == CW_PEER_DOWN && cw__segment_seek(segment, 1))
		return;
	cw__segment_down(segment);
	cw__segment_seek(segment, 0);
}

int cw__segment_usable(struct cw_segment *segment)
{
	switch (atomic_load_explicit(&segment->state, memory_order_acquire)) {
	case CW_PEER_UP:
	case CW_PEER_SUSPECT:
		return CW_OK;
	case CW_PEER_RESTARTED:
		return CW_ERR_PEER_RESTARTED;
	default:
		break;
	}
	if (segment->retrying)
		return CW_ERR_AGAIN;
	if (!segment->link || cw__now() < segment->retry_after) /* without one it was dropped: the engine closes */
		return CW_ERR_PEER_DOWN;
	segment->retrying = 1;
	cw__control.link_retry(segment->link);
	return CW_ERR_AGAIN;
}

static void peer_failed(struct cw_segment *segment, int status, const char *text)
{
	if (status == CW_ERR_PEER_RESTARTED) {
		cw__core_link_down(segment, status, text);
	} else if (segment->linked && !segment->retrying) {
		/* The control link still stands: let the kernel's timeouts decide about the peer. */
		cw__log(segment->engine, CW_LOG_DEBUG, "peer %s: %s", segment->name, text);
	}
}

void cw__host_peer_failed(struct cw_host *host, struct cw_peer *peer, int status, const char *text)
{
	(void)host;
	peer_failed((struct cw_segment *)peer, status, text);
}

void cw__host_rail_ready(struct cw_host *host, struct cw_peer *peer, unsigned rail)
{
	struct cw_segment *segment = (struct cw_segment *)peer;

	(void)host;
	for (unsigned part = 0; part < segment->engine->part_count; part++)
		if (atomic_load_explicit(&segment->lanes[part].on, memory_order_relaxed) &&
		    rail < segment->lanes[part].rail_count)
			segment->lanes[part].rails[rail].full = 0;
	cw__segment_make_busy(segment);
}

void cw__host_rail_state(struct cw_host *host, struct cw_peer *peer, unsigned rail, int status)
{
	struct cw_segment *segment = (struct cw_segment *)peer;

	/* A classic peer that was started anew under its name has other ports now, and only a store could tell. */
	if (status && peer->classic)
		cw__segment_seek(segment, 0);
	for (unsigned part = 0; part < segment->engine->part_count; part++) {
		struct cw__lane *lane = &segment->lanes[part];

		if (&segment->engine->parts[part].host.base != host->real || rail >= lane->rail_count || !lane->rails)
			continue;
		lane->rails[rail].status = status;
		if (!status) {
			lane->rails[rail].full = 0;
			lane->rails[rail].failures = 0;
			lane->rails[rail].paused_until = 0;
		}
	}
	cw__segment_make_busy(segment);
}

/* ------------------------------------------------------------------------------------ opening, closing */

static int part_by_name(struct cw_engine *engine, const char *name, size_t length)
{
	for (unsigned i = 0; i < engine->part_count; i++)
		if (strlen(engine->parts[i].ops->name) == length && !memcmp(engine->parts[i].ops->name, name, length))
			return (int)i;
	return -1;
}

/* The transports this segment may use, in order. */
static int fill_order(struct cw_segment *segment, const char *list)
{
	struct cw_engine *engine = segment->engine;

	for (unsigned i = 0; !list && i < engine->part_count; i++)
		if (engine->parts[i].on)
			segment->order[segment->order_count++] = (uint8_t)i;
	segment->order_fixed = list != NULL;
	while (list && *list) {
		size_t length = strcspn(list, ",");
		int part = part_by_name(engine, list, length);

		if (part < 0)
			return cw__fail(CW_ERR_INVALID, "there is no transport '%.*s'; see `causeway transports`",
					(int)length, list);
		if (!engine->parts[part].on)
			return cw__fail(CW_ERR_NO_PATH, "transport %.*s is off: %s", (int)length, list,
					engine->parts[part].why);
		if (segment->order_count < CW__PARTS_MAX)
			segment->order[segment->order_count++] = (uint8_t)part;
		list += length + (list[length] == ',');
	}
	return CW_OK;
}

static void segment_free(struct cw_segment *segment)
{
	atomic_fetch_sub_explicit(&segment->engine->segments_alive, 1, memory_order_relaxed);
	free(segment->descriptor.buffers);
	cw__remotes_free(segment);
	pthread_mutex_destroy(&segment->lock);
	free(segment);
}

/* A rail that rested may be tried again. Others, or the same after more failures, rest a little longer. */
static void retry(struct cw_timer *timer)
{
	struct cw_segment *segment = cw__container(timer, struct cw_segment, retry_timer);
	uint64_t now = cw__now(), next = CW_FOREVER;

	cw__segment_pump(segment);
	for (unsigned part = 0; part < segment->engine->part_count; part++) {
		const struct cw__lane *lane = &segment->lanes[part];

		for (unsigned i = 0; lane->rails && i < lane->rail_count; i++)
			if (lane->rails[i].paused_until > now && lane->rails[i].paused_until < next)
				next = lane->rails[i].paused_until;
	}
	if (next != CW_FOREVER)
		cw__timer_set(segment->loop, timer, next);
}

static struct cw_segment *segment_new(struct cw_engine *engine, const char *name)
{
	struct cw_segment *segment = calloc(1, sizeof(*segment));

	if (!segment)
		return NULL;
	segment->engine = engine;
	segment->loop = cw__loop_choose(engine);
	segment->peer.loop = segment->loop;
	snprintf(segment->name, sizeof(segment->name), "%s", name);
	segment->peer.name = segment->name;
	segment->retry_timer.fire = retry;
	cw__list_init(&segment->node);
	cw__list_init(&segment->loop_node);
	cw__list_init(&segment->busy_node);
	cw__list_init(&segment->copies);
	cw__list_init(&segment->active);
	cw__list_init(&segment->remotes);
	cw__list_init(&segment->leaving);
	cw__list_init(&segment->loose);
	cw__list_init(&segment->spare);
	for (int i = 0; i < CW__CLASSES; i++)
		cw__list_init(&segment->queues[i]);
	pthread_mutex_init(&segment->lock, NULL);
	segment->opens = 1;
	atomic_store_explicit(&segment->refs, 1, memory_order_relaxed);
	atomic_store_explicit(&segment->state, CW_PEER_UP | CW__SEGMENT_OPENING, memory_order_relaxed);
	atomic_fetch_add_explicit(&engine->segments_alive, 1, memory_order_relaxed);
	return segment;
}

void cw__segment_drop(struct cw_segment *segment)
{
	lanes_close(segment);
	cw__segment_visit(segment, cw__request_stop, CW_ERR_CLOSED);
	segment->linked = 0;
	if (segment->link) /* answers everything that still waits for the peer, and lets go of what holds the segment */
		cw__control.link_close(segment->link);
	segment->link = NULL;
}

/* On the loop, when the last reference goes: everything that belongs to the peer ends. */
static void close_on_loop(struct cw_task *task)
{
	struct cw_segment *segment = cw__container(task, struct cw_segment, close_task);

	cw__list_remove(&segment->loop_node);
	cw__list_remove(&segment->busy_node);
	cw__timer_stop(segment->loop, &segment->retry_timer);
	cw__remotes_close(segment);
	lanes_close(segment);
	if (segment->link)
		cw__control.link_close(segment->link);
	cw__queue_forget(&segment->engine->queue, segment);
	segment_free(segment);
}

int cw__segment_hold(struct cw_segment *segment)
{
	int32_t refs = atomic_load_explicit(&segment->refs, memory_order_relaxed);

	while (refs > 0)
		if (atomic_compare_exchange_weak_explicit(&segment->refs, &refs, refs + 1, memory_order_relaxed,
							  memory_order_relaxed))
			return 1;
	return 0;
}

void cw__segment_put(struct cw_segment *segment)
{
	if (atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_acq_rel) != 1)
		return;
	segment->close_task.run = close_on_loop;
	cw__task_post(segment->loop, &segment->close_task);
}

static int connect_segment(struct cw_segment *segment, uint64_t timeout)
{
	struct cw_loop *loop = segment->loop;
	int status = CW_OK;

	cw__loop_lock(loop);
	cw__list_push_back(&loop->segments, &segment->loop_node);
	if (segment->self) {
		memcpy(segment->peer.instance, segment->engine->instance, CW__INSTANCE_BYTES);
		segment->peer.same_host = segment->peer.same_process = 1;
		segment->peer.pid = (uint32_t)getpid();
		snprintf(segment->peer.address, sizeof(segment->peer.address), "%.63s", segment->engine->bind_host);
		segment->peer.port = segment->engine->port;
		lanes_open_self(segment);
		cw__segment_set_state(segment, CW_PEER_UP);
		atomic_fetch_or_explicit(&segment->opened, 1, memory_order_release);
	}
	cw__loop_unlock(loop);
	if (segment->self)
		return CW_OK;
	status = cw__segment_connect(segment, timeout);
	if (status)
		return status;
	/* The link's own timer ends the opening; we wait a little longer than it. */
	if (cw__loop_wait(loop, &segment->opened, 1, cw__after(cw__now(), timeout + CW__SECOND)))
		return cw__fail(CW_ERR_TIMED_OUT, "opening %s took too long", segment->name);
	if (segment->open_status)
		return cw__fail(segment->open_status, "%s",
				*segment->open_text ? segment->open_text : cw_strerror(segment->open_status));
	return CW_OK;
}

/* Where a store knows names, a peer that is down may be found elsewhere by now. */
static int can_be_shared(const struct cw_segment *segment)
{
	uint32_t state = atomic_load_explicit(&segment->state, memory_order_acquire);

	return state != CW_PEER_RESTARTED && !(state == CW_PEER_DOWN && cw__in_store(segment->engine));
}

/* With engine->lock: an open segment of that name that can be shared. */
static struct cw_segment *find_open(struct cw_engine *engine, const char *name,
				    const struct cw_segment_options *options)
{
	cw__list_each(node, &engine->segments)
	{
		struct cw_segment *segment = cw__container(node, struct cw_segment, node);

		if (!strcmp(segment->name, name) && !segment->order_fixed && !options->transports &&
		    segment->strict == options->strict && can_be_shared(segment))
			return segment;
	}
	return NULL;
}

int cw_segment_open(struct cw_engine *engine, const char *name, const struct cw_segment_options *options,
		    struct cw_segment **segment_out)
{
	struct cw_segment_options known = CW_SEGMENT_OPTIONS_INIT;
	struct cw_segment *segment;
	int status = cw__engine_check(engine);

	if (status)
		return status;
	if (options)
		known = *options;
	if (known.size != sizeof(known))
		return cw__fail(CW_ERR_INVALID, "segment options: wrong size; use CW_SEGMENT_OPTIONS_INIT");
	if (!name || !*name)
		return cw__fail(CW_ERR_INVALID, "the name is empty; names look like host:port");
	if (strlen(name) >= sizeof(segment->name))
		return cw__fail(CW_ERR_INVALID, "the name '%.60s...' is longer than %zu bytes", name,
				sizeof(segment->name) - 1);
	if (cw__in_store(engine)) /* where it is an address, the slash goes when that is parsed */
		name += *name == '/';
	pthread_mutex_lock(&engine->lock);
	segment = find_open(engine, name, &known);
	if (segment)
		segment->opens++;
	pthread_mutex_unlock(&engine->lock);
	if (segment) {
		*segment_out = segment;
		return CW_OK;
	}
	segment = segment_new(engine, name);
	if (!segment)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	segment->strict = known.strict;
	segment->self = !strcmp(name, engine->name);
	status = fill_order(segment, known.transports);
	if (!status)
		status = connect_segment(
			segment, known.timeout ? known.timeout
					       : cw__config_number(&engine->config, "control/connect_timeout", 0));
	if (status) {
		char text[256];

		snprintf(text, sizeof(text), "%s", cw_last_error());
		cw__segment_put(segment);
		return cw__fail(status, "%s", text);
	}
	pthread_mutex_lock(&engine->lock);
	cw__list_push_back(&engine->segments, &segment->node);
	pthread_mutex_unlock(&engine->lock);
	*segment_out = segment;
	return CW_OK;
}

void cw_segment_close(struct cw_segment *segment)
{
	struct cw_engine *engine = segment ? segment->engine : NULL;
	int last;

	if (!segment || cw__engine_check(engine))
		return;
	pthread_mutex_lock(&engine->lock);
	last = segment->opens && --segment->opens == 0;
	if (last)
		cw__list_remove(&segment->node);
	pthread_mutex_unlock(&engine->lock);
	if (last)
		cw__segment_put(segment);
}

/* ----------------------------------------------------------------------------------------- inspection */

int cw_segment_info_get(struct cw_segment *segment, struct cw_segment_info *info_out)
{
	int status = segment ? cw__engine_check(segment->engine) : cw__fail(CW_ERR_INVALID, "no segment");

	if (!status && (!info_out || info_out->size != sizeof(*info_out)))
		status = cw__fail(CW_ERR_INVALID, "segment info: set its size");
	if (status)
		return status;
	cw__loop_lock(segment->loop);
	*info_out = (struct cw_segment_info){
		.size = sizeof(*info_out),
		.classic = segment->peer.classic,
		.same_host = segment->peer.same_host,
		.same_process = segment->peer.same_process,
		.state = (enum cw_peer_state)(atomic_load_explicit(&segment->state, memory_order_acquire) & 0xff),
		.region_count = segment->self
					? atomic_load_explicit(&segment->engine->regions_alive, memory_order_relaxed)
					: segment->descriptor.buffer_count,
	};
	memcpy(info_out->name, segment->name, sizeof(info_out->name));
	memcpy(info_out->instance, segment->peer.instance, sizeof(info_out->instance));
	memcpy(info_out->transports, segment->offers, sizeof(info_out->transports));
	cw__address_format(segment->peer.address, segment->peer.port, info_out->address, sizeof(info_out->address));
	cw__loop_unlock(segment->loop);
	return CW_OK;
}

int cw__segments_close(struct cw_engine *engine)
{
	for (;;) {
		struct cw_segment *segment = NULL;

		pthread_mutex_lock(&engine->lock);
		if (!cw__list_empty(&engine->segments))
			segment = cw__container(cw__list_pop(&engine->segments), struct cw_segment, node);
		pthread_mutex_unlock(&engine->lock);
		if (!segment)
			return CW_OK;
		cw__segment_put(segment);
	}
}
