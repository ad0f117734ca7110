/* SPDX-License-Identifier: Apache-2.0 */
/* Peers by number. Opening a name again counts; a peer that was restarted gets a new link under the same number. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "face.h"
#include "slots.h"

#define PROBE_TIMEOUT (5 * FACE_SECOND)
#define LOOK_EVERY (FACE_SECOND / 10)

/* Of all engines, so that a number of another engine is known to be one. Fits into 31 bits and begins with 1. */
static struct slots segments = SLOTS_INIT(16, 15, 0, 0);

/* ------------------------------------------------------------------------------------------- look-ups */

static void segment_delete(struct face_segment *segment)
{
	struct face_link *link = segment->links;

	while (link) {
		struct face_link *next = link->next;

		cw_segment_close(link->segment);
		free(link);
		link = next;
	}
	if (segment->number)
		free(segment);
}

struct face_segment *face_segment_get(struct face *face, uint64_t number)
{
	struct face_segment *segment;

	if (number == 0)
		return &face->local;
	segment = slots_get(&segments, number);
	if (segment && segment->face != face) {
		face_segment_put(segment);
		return NULL;
	}
	return segment;
}

void face_segment_put(struct face_segment *segment)
{
	if (segment->number && slots_put(&segments, segment->number))
		segment_delete(segment);
}

/* With face->lock. */
static struct face_segment *find_name(struct face *face, const char *name)
{
	for (struct face_segment *at = face->segments; at; at = at->next)
		if (strcmp(at->name, name) == 0)
			return at;
	return NULL;
}

uint64_t face_segment_number(struct face *face, const char *name)
{
	struct face_segment *segment;
	uint64_t number;

	pthread_mutex_lock(&face->lock);
	segment = find_name(face, name);
	number = segment ? segment->number : 0;
	pthread_mutex_unlock(&face->lock);
	return number;
}

/* With face->lock: the newest link for a hint. */
static struct face_link *find_link(const struct face_segment *segment, int hint)
{
	struct face_link *link = segment->links;

	while (link && link->hint != hint)
		link = link->next;
	return link;
}

static struct cw_segment *newest(struct face_segment *segment)
{
	struct face_link *link;

	pthread_mutex_lock(&segment->face->lock);
	link = find_link(segment, 0);
	pthread_mutex_unlock(&segment->face->lock);
	return link->segment;
}

static int add_link(struct face_segment *segment, struct cw_segment *opened, int hint)
{
	struct face_link *link = malloc(sizeof(*link));

	if (!link)
		return CW_ERR_NO_MEMORY;
	link->segment = opened;
	link->hint = hint;
	pthread_mutex_lock(&segment->face->lock);
	link->next = segment->links;
	segment->links = link;
	pthread_mutex_unlock(&segment->face->lock);
	return CW_OK;
}

/* ---------------------------------------------------------------------------------- lists of transports */

struct order {
	const char *first;
	char list[256];
	int found;
};

static void append(struct order *order, const char *name)
{
	size_t used = strlen(order->list);

	snprintf(order->list + used, sizeof(order->list) - used, "%s%s", used ? "," : "", name);
}

static void add_wanted(void *arg, const char *name, int on, const char *why)
{
	struct order *order = arg;

	(void)why;
	if (!on || !face_is_listed(order->first, name))
		return;
	append(order, name);
	order->found = 1;
}

static void add_others(void *arg, const char *name, int on, const char *why)
{
	struct order *order = arg;

	(void)why;
	if (on && !face_is_listed(order->first, name))
		append(order, name);
}

/* ------------------------------------------------------------------------------------ opening, closing */

/* What is known about a peer may be old. */
static enum cw_peer_state state_of(struct cw_segment *segment)
{
	struct cw_segment_info info = { .size = sizeof(info) };

	return cw_segment_info_get(segment, &info) == CW_OK ? info.state : CW_PEER_DOWN;
}

static int is_restarted(struct cw_segment *segment)
{
	return state_of(segment) == CW_PEER_RESTARTED;
}

static int looks_lost(struct cw_segment *segment)
{
	return state_of(segment) != CW_PEER_UP;
}

/* Opening a name again and again must not disturb the engine's work each time. */
static int is_time_to_look(struct face_segment *segment)
{
	uint64_t now = face_now();
	int yes;

	pthread_mutex_lock(&segment->face->lock);
	yes = now - segment->looked_at > LOOK_EVERY;
	if (yes)
		segment->looked_at = now;
	pthread_mutex_unlock(&segment->face->lock);
	return yes;
}

/* A connection of its own: what an open segment knows about a peer that does not answer, and how long it waits before
 * it tries again, does not count for it. Such an opening has to name transports; it names all. */
static int open_apart(struct face_segment *segment, struct cw_segment **opened_out)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct order order = { .first = "" };

	cw_engine_transports(segment->face->engine, add_others, &order);
	options.transports = order.list;
	return cw_segment_open(segment->face->engine, segment->name, &options, opened_out);
}

/* Makes sure that somebody is behind a segment, which the caller holds. */
static int renew(struct face_segment *segment)
{
	struct cw_segment *opened, *known = newest(segment);
	int status = cw_segment_probe(known, PROBE_TIMEOUT, NULL);

	if (status == CW_ERR_PEER_RESTARTED)
		status = cw_segment_open(segment->face->engine, segment->name, NULL, &opened);
	else if (status == CW_ERR_PEER_DOWN)
		status = open_apart(segment, &opened);
	else
		return status;
	if (status == CW_OK && (opened == known || add_link(segment, opened, 0) != CW_OK)) {
		cw_segment_close(opened); /* somebody else was first */
		status = opened == known ? CW_OK : CW_ERR_NO_MEMORY;
	}
	return status;
}

static struct face_segment *segment_new(struct face *face, const char *name, struct cw_segment *opened)
{
	struct face_segment *segment = calloc(1, sizeof(*segment));

	if (!segment)
		return NULL;
	segment->face = face;
	segment->opens = 1;
	segment->looked_at = face_now();
	segment->links = calloc(1, sizeof(*segment->links));
	snprintf(segment->name, sizeof(segment->name), "%s", name);
	if (segment->links) {
		segment->links->segment = opened;
		if (slots_add(&segments, segment, &segment->number))
			return segment;
	}
	free(segment->links);
	free(segment);
	return NULL;
}

/* One more opening of a name that is open: with a use; NULL = it is not. */
static struct face_segment *open_known(struct face *face, const char *name)
{
	struct face_segment *segment;

	pthread_mutex_lock(&face->lock);
	segment = find_name(face, name);
	if (segment) {
		segment->opens++;
		slots_get(&segments, segment->number);
	}
	pthread_mutex_unlock(&face->lock);
	return segment;
}

static int open_new(struct face *face, const char *name, uint64_t *number_out)
{
	struct face_segment *segment;
	struct cw_segment *opened;
	int status = cw_segment_open(face->engine, name, NULL, &opened), used;

	if (status != CW_OK)
		return status;
	pthread_mutex_lock(&face->lock); /* who guesses its number finds the segment in the list */
	segment = find_name(face, name); /* two threads may open the same name at once */
	if (segment) {
		segment->opens++;
		used = 0;
	} else {
		segment = segment_new(face, name, opened);
		used = segment != NULL;
	}
	if (used) {
		segment->next = face->segments;
		face->segments = segment;
	}
	if (segment)
		*number_out = segment->number;
	pthread_mutex_unlock(&face->lock);
	if (!used)
		cw_segment_close(opened);
	return segment ? CW_OK : CW_ERR_NO_MEMORY;
}

int face_segment_open(struct face *face, const char *name, int fresh, uint64_t *number_out)
{
	struct face_segment *segment;
	int status = CW_OK;

	if (*name == '/')
		name++;
	if (strcmp(name, face->name) == 0) {
		*number_out = 0;
		return CW_OK;
	}
	segment = open_known(face, name);
	if (!segment)
		return open_new(face, name, number_out);
	if (fresh || (is_time_to_look(segment) && looks_lost(newest(segment))))
		status = renew(segment);
	*number_out = segment->number;
	if (status != CW_OK)
		face_segment_close(face, segment->number);
	face_segment_put(segment);
	return status;
}

int face_segment_close(struct face *face, uint64_t number)
{
	struct face_segment *segment = face_segment_get(face, number);
	int last;

	if (!segment)
		return CW_ERR_NOT_FOUND;
	if (!number)
		return CW_OK;
	pthread_mutex_lock(&face->lock);
	last = segment->opens == 1;
	if (segment->opens)
		segment->opens--;
	for (struct face_segment **at = &face->segments; last && *at; at = &(*at)->next)
		if (*at == segment) {
			*at = segment->next;
			break;
		}
	pthread_mutex_unlock(&face->lock);
	if (last)
		slots_retire(&segments, number);
	face_segment_put(segment);
	return CW_OK;
}

int face_segments_refresh(struct face *face)
{
	uint64_t after = 0;
	int first = CW_OK;

	for (;;) {
		struct face_segment *next = NULL;
		int status = CW_OK;

		pthread_mutex_lock(&face->lock);
		for (struct face_segment *at = face->segments; at; at = at->next)
			if (at->number > after && (!next || at->number < next->number))
				next = at;
		if (next)
			slots_get(&segments, next->number);
		pthread_mutex_unlock(&face->lock);
		if (!next)
			return first;
		after = next->number;
		if (looks_lost(newest(next)))
			status = renew(next);
		if (first == CW_OK)
			first = status;
		face_segment_put(next);
	}
}

void face_segments_each(struct face *face, void (*fn)(void *arg, const char *name, struct cw_segment *segment),
			void *arg)
{
	pthread_mutex_lock(&face->lock);
	for (const struct face_segment *at = face->segments; at; at = at->next)
		fn(arg, at->name, find_link(at, 0)->segment);
	pthread_mutex_unlock(&face->lock);
}

/* No call is under way any more. The engine is closed, and with it all segments. */
void face_segments_close(struct face *face)
{
	struct face_segment *next = face->segments;

	for (struct face_link *link = face->local.links; link;) {
		struct face_link *gone = link;

		link = link->next;
		free(gone);
	}
	while (next) {
		struct face_segment *segment = next;

		next = segment->next;
		for (struct face_link *link = segment->links; link;) {
			struct face_link *gone = link;

			link = link->next;
			free(gone);
		}
		segment->links = NULL;
		slots_get(&segments, segment->number);
		slots_retire(&segments, segment->number);
		face_segment_put(segment);
	}
}

/* ---------------------------------------------------------------------------------------------- hints */

/* TRANSPORT_* in the words of installTransport(). */
static const char *const hint_protocols[FACE_HINTS] = { "",    "rdma",     "mnnvl", "shm",           "nvlink_intra",
							"gds", "io_uring", "tcp",   "ascend_direct", "sunrise_link",
							"tpu", "ub",       "mpcomm" };

/* A link that prefers the transport of a hint and may use every other; NULL = the hint cannot be followed. */
static struct cw_segment *open_hinted(struct face_segment *segment, int hint)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct face *face = segment->face;
	const char *instead;
	struct order order = { .first = setup_protocol(hint_protocols[hint], &instead) };
	struct cw_segment *opened;

	if (!order.first || (instead && *instead))
		return NULL;
	cw_engine_transports(face->engine, add_wanted, &order);
	cw_engine_transports(face->engine, add_others, &order);
	options.transports = order.list;
	if (!order.found || cw_segment_open(face->engine, segment->name, &options, &opened) != CW_OK)
		return NULL;
	return opened;
}

/* What was opened for a hint is kept, also that it could not be: a submission must not wait for it each time. */
struct cw_segment *face_segment_link(struct face_segment *segment, int hint)
{
	static _Atomic unsigned told;
	struct cw_segment *opened;
	struct face_link *link, *ordinary;

	pthread_mutex_lock(&segment->face->lock);
	ordinary = find_link(segment, 0);
	link = hint > 0 && hint < FACE_HINTS ? find_link(segment, hint) : ordinary;
	pthread_mutex_unlock(&segment->face->lock);
	if (link && !(link->segment && link != ordinary && is_restarted(link->segment)))
		return link->segment ? link->segment : ordinary->segment;
	opened = open_hinted(segment, hint);
	if (!opened && !(atomic_fetch_or_explicit(&told, 1u << hint, memory_order_relaxed) & 1u << hint))
		face_log(segment->face, CW_LOG_WARN, "transport_hint %d (%s) cannot be followed: the engine chooses",
			 hint, hint_protocols[hint]);
	if (add_link(segment, opened, hint) != CW_OK) {
		cw_segment_close(opened);
		opened = NULL;
	}
	return opened ? opened : ordinary->segment;
}
