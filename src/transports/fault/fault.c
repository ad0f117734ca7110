/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport `fault`, for tests: wraps another transport and, by a seeded random generator, loses slices, delays,
 * duplicates, reorders and fails them, refuses them for a while and takes rails down. It keeps the contract of plugin.h
 * to the letter and only claims what is true, so whatever goes wrong above it is a fault of the core. Off by default.
 *
 * The wrapped ("inner") transport gets a host of its own, in which five services are ours, and slices of our own: what
 * the core posted (the "outer" slice) stays untouched but for scratch[0], which leads to ours.
 */
#include "luck.h"

#include <causeway/plugin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <util/clock.h>
#include <util/list.h>

#define SLICES 64u /* of ours for each rail */
#define GROUP 16u  /* posted at once */
#define RAILS_MAX 256u

/* One for each engine. Constant after open, except peers. */
struct fault {
	struct cw_host host; /* first: the inner transport's */
	struct cw_host_ops host_ops;
	struct cw_host *outer;
	const struct cw_transport_ops *ops; /* of the inner transport */
	void *inner;
	struct cw__luck luck;
	unsigned spread;  /* our rails for each inner one */
	uint64_t longest; /* delay, ns */
	uint64_t stick;   /* ns */
	unsigned lose;    /* of 1000 messages */
	pthread_mutex_t lock;
	struct cw__list peers; /* fault_peer.node; lock */
};

enum stage {
	FREE = 0,
	HELD = 1,    /* its timer, or the next slice, releases it */
	QUEUED = 2,  /* the inner transport had no room */
	OFFERED = 3, /* the inner transport is asked whether it takes it */
	POSTED = 4,  /* the inner transport has it */
	OWED = 5     /* it has ended; its timer reports it */
};

/* Guarded by the peer's loop, like all that follows. */
struct fault_slice {
	struct cw_slice inner; /* first: comes back in slice_done() */
	const struct cw_host_ops *outer_ops;
	struct cw_slice *outer;
	struct fault_peer *peer;
	struct cw__list node; /* of the free ones, of its rail's held ones or of an inner rail's queue */
	struct cw_timer timer;
	enum stage stage;
	unsigned misfortunes; /* yet to come */
	int arrived;          /* a duplicate's first copy did */
	int canceled;
	int status; /* OWED */
	enum cw_remote_state remote;
};

struct fault_rail {
	struct fault_peer *peer;
	struct cw__list held;  /* overtaken by the next one */
	struct cw_timer timer; /* ends what `down` and `refused` began */
	int down, refused;
	int inner_status;
};

struct inner_rail {
	struct cw__list queue; /* fault_slice.node */
	int full;
};

struct fault_peer {
	struct cw__list node;
	struct fault *fault;
	struct cw_peer *core;
	void *inner;
	unsigned inner_count, rail_count;
	struct cw_rail_info infos[RAILS_MAX]; /* of the inner rails */
	struct inner_rail *inner_rails;
	struct fault_rail *rails;
	struct fault_slice *slices;
	struct cw__list free_slices;
	struct cw_timer pump_timer;
	int lost; /* closing, or why it cannot be used: nothing is started any more */
};

/* ---------------------------------------------------------------------------------------------- chance */

static uint64_t draw_delay(struct fault *fault)
{
	return 1 + cw__luck_draw(&fault->luck) % fault->longest;
}

static void set_timer(const struct fault_peer *peer, struct cw_timer *timer, uint64_t delay)
{
	const struct cw_host_ops *ops = peer->fault->outer->ops;

	ops->timer_set(peer->core->loop, timer, ops->now() + delay);
}

/* ------------------------------------------------------------------------------------- ends of slices */

/* The core may cancel other slices in here, so callers look afresh at what they were at. */
static void report(struct fault_slice *slice, int status, enum cw_remote_state remote)
{
	struct fault_peer *peer = slice->peer;
	struct cw_slice *outer = slice->outer;
	struct fault_rail *rail = &peer->rails[outer->rail];
	const struct cw_host_ops *ops = slice->outer_ops;

	ops->timer_stop(peer->core->loop, &slice->timer);
	slice->stage = FREE;
	cw__list_remove(&slice->node);
	cw__list_push_front(&peer->free_slices, &slice->node);
	ops->slice_done(outer, status, remote);
	if (rail->refused && !rail->down && !peer->lost)
		set_timer(peer, &rail->timer, 0); /* there is room */
}

/* Of a slice that the inner transport does not have: nothing of it can land any more. */
static void end_idle(struct fault_slice *slice, int status)
{
	if (slice->stage == OWED)
		report(slice, slice->status, slice->remote);
	else
		report(slice, slice->arrived ? CW_OK : status, CW_REMOTE_QUIET);
}

static void owe(struct fault_slice *slice, int status, enum cw_remote_state remote)
{
	struct fault *fault = slice->peer->fault;

	slice->stage = OWED;
	slice->status = status;
	slice->remote = remote;
	set_timer(slice->peer, &slice->timer, slice->misfortunes & STICK ? fault->stick : draw_delay(fault));
}

/* Ends what the inner transport does not have; rails: the first, and how many. */
static void end_all_idle(struct fault_peer *peer, unsigned first, unsigned count, int status)
{
	for (unsigned i = 0; i < peer->rail_count * SLICES; i++) {
		struct fault_slice *slice = &peer->slices[i];

		if ((slice->stage == HELD || slice->stage == QUEUED || (slice->stage == OWED && peer->lost)) &&
		    slice->outer->rail - first < count)
			end_idle(slice, status);
	}
}

/* ------------------------------------------------------------------------- to the inner transport */

static void cancel(struct fault_slice *slice)
{
	struct fault_peer *peer = slice->peer;

	slice->canceled = 1;
	if (slice->stage == POSTED)
		peer->fault->ops->cancel(peer->fault->inner, peer->inner, &slice->inner);
	else if (slice->stage != OFFERED && slice->stage != FREE &&
		 !(slice->stage == OWED && slice->misfortunes & STICK))
		end_idle(slice, CW_ERR_CANCELED);
}

static void post_inner(struct fault_peer *peer, unsigned number)
{
	struct inner_rail *rail = &peer->inner_rails[number];

	while (!rail->full && !peer->lost && !cw__list_empty(&rail->queue)) {
		struct fault_slice *slices[GROUP];
		struct cw_slice *inner[GROUP];
		unsigned count = 0, taken;

		while (count < GROUP && !cw__list_empty(&rail->queue)) {
			slices[count] = cw__container(cw__list_pop(&rail->queue), struct fault_slice, node);
			inner[count] = &slices[count]->inner;
			slices[count++]->stage = OFFERED;
		}
		taken = peer->fault->ops->post(peer->fault->inner, peer->inner, number, inner, count);
		for (unsigned i = count; i > taken; i--) {
			rail->full = 1;
			slices[i - 1]->stage = QUEUED;
			cw__list_push_front(&rail->queue, &slices[i - 1]->node);
		}
		for (unsigned i = 0; i < taken; i++)
			if (slices[i]->stage == OFFERED) /* not ended meanwhile */
				slices[i]->stage = POSTED;
		for (unsigned i = 0; i < count; i++)
			if (slices[i]->canceled)
				cancel(slices[i]);
	}
}

static void enqueue(struct fault_slice *slice)
{
	struct fault_peer *peer = slice->peer;
	struct fault_rail *rail = &peer->rails[slice->outer->rail];
	struct cw__list *queue = &peer->inner_rails[slice->inner.rail].queue;

	slice->stage = QUEUED;
	cw__list_remove(&slice->node);
	cw__list_push_back(queue, &slice->node);
	while (!cw__list_empty(&rail->held)) { /* overtaken */
		struct fault_slice *held = cw__container(cw__list_pop(&rail->held), struct fault_slice, node);

		peer->fault->outer->ops->timer_stop(peer->core->loop, &held->timer);
		held->stage = QUEUED;
		cw__list_push_back(queue, &held->node);
	}
}

static void slice_fires(struct cw_timer *timer)
{
	struct fault_slice *slice = cw__container(timer, struct fault_slice, timer);
	struct fault_peer *peer = slice->peer;

	if (slice->stage == OWED) {
		end_idle(slice, CW_OK);
	} else if (slice->inner.not_after <= peer->fault->outer->ops->now()) {
		end_idle(slice, CW_ERR_TIMED_OUT);
	} else {
		unsigned number = slice->inner.rail;

		enqueue(slice);
		post_inner(peer, number);
	}
}

static void pump_fires(struct cw_timer *timer)
{
	struct fault_peer *peer = cw__container(timer, struct fault_peer, pump_timer);

	for (unsigned i = 0; i < peer->inner_count; i++)
		post_inner(peer, i);
}

/* ------------------------------------------------------------ services that the inner transport sees */

static unsigned inner_pieces(const struct cw_slice *base, uint64_t offset, struct cw_piece *pieces_out, unsigned max)
{
	const struct fault_slice *slice = (const struct fault_slice *)base;

	return slice->outer_ops->slice_pieces(slice->outer, offset, pieces_out, max);
}

/* Never posts: the inner transport is in the middle of something. */
static void inner_done(struct cw_slice *base, int status, enum cw_remote_state remote)
{
	struct fault_slice *slice = (struct fault_slice *)base;
	int free_to_play = !slice->canceled && !slice->peer->lost;

	if (!status && slice->misfortunes & DUPLICATE && free_to_play) {
		slice->misfortunes &= ~(unsigned)DUPLICATE;
		slice->arrived = 1;
		slice->stage = HELD;
		memset(slice->inner.scratch, 0, sizeof(slice->inner.scratch));
		set_timer(slice->peer, &slice->timer, 0);
		return;
	}
	if (!status && slice->misfortunes & FAIL_LAST) {
		status = CW_ERR_IO;
		remote = CW_REMOTE_QUIET;
	}
	if ((slice->misfortunes & END_LATE && free_to_play) || (slice->misfortunes & STICK && !slice->peer->lost))
		owe(slice, status, remote);
	else
		report(slice, status, remote);
}

static struct fault_peer *find_peer(struct fault *fault, const struct cw_peer *core)
{
	struct fault_peer *found = NULL;

	pthread_mutex_lock(&fault->lock);
	cw__list_each(node, &fault->peers)
	{
		struct fault_peer *peer = cw__container(node, struct fault_peer, node);

		if (peer->core == core)
			found = peer;
	}
	pthread_mutex_unlock(&fault->lock);
	return found;
}

static void tell_state(struct fault_peer *peer, unsigned number)
{
	const struct fault_rail *rail = &peer->rails[number];
	struct cw_host *outer = peer->fault->outer;

	outer->ops->rail_state(outer, peer->core, number, rail->down ? CW_ERR_IO : rail->inner_status);
}

static void inner_ready(struct cw_host *host, struct cw_peer *core, unsigned number)
{
	struct fault_peer *peer = find_peer((struct fault *)host, core);

	if (!peer || number >= peer->inner_count)
		return;
	peer->inner_rails[number].full = 0;
	set_timer(peer, &peer->pump_timer, 0);
}

static void inner_state(struct cw_host *host, struct cw_peer *core, unsigned number, int status)
{
	struct fault_peer *peer = find_peer((struct fault *)host, core);
	unsigned spread = ((struct fault *)host)->spread;

	if (!peer || number >= peer->inner_count)
		return;
	for (unsigned i = number * spread; i < (number + 1) * spread; i++) {
		peer->rails[i].inner_status = status;
		tell_state(peer, i);
	}
	if (status)
		end_all_idle(peer, number * spread, spread, status);
	else
		inner_ready(host, core, number);
}

static int inner_message(struct cw_host *host, struct cw_peer *core, const void *data, size_t length,
			 void (*answered)(void *arg, int status, const void *reply, size_t reply_length), void *arg)
{
	struct fault *fault = (struct fault *)host;

	if (fault->lose && cw__luck_draw(&fault->luck) % 1000 < fault->lose)
		return CW_ERR_IO;
	return fault->outer->ops->message(fault->outer, core, data, length, answered, arg);
}

/* ------------------------------------------------------------------------------------------ posting */

/* What a rail refused or was down for is over. */
static void rail_fires(struct cw_timer *timer)
{
	struct fault_rail *rail = cw__container(timer, struct fault_rail, timer);
	struct fault_peer *peer = rail->peer;
	unsigned number = (unsigned)(rail - peer->rails);
	int was_down = rail->down;

	rail->down = 0;
	rail->refused = 0;
	if (was_down)
		tell_state(peer, number);
	peer->fault->outer->ops->rail_ready(peer->fault->outer, peer->core, number);
}

static void start(struct fault_peer *peer, struct cw_slice *outer, unsigned misfortunes)
{
	struct fault_slice *slice = cw__container(cw__list_pop(&peer->free_slices), struct fault_slice, node);

	slice->outer = outer;
	slice->inner = *outer;
	slice->inner.rail = (uint16_t)(outer->rail / peer->fault->spread);
	slice->inner.link = NULL;
	memset(slice->inner.scratch, 0, sizeof(slice->inner.scratch));
	slice->misfortunes = misfortunes;
	slice->arrived = slice->canceled = 0;
	outer->scratch[0] = (uintptr_t)slice;
	if (misfortunes & DROP) {
		owe(slice, CW_ERR_IO, CW_REMOTE_QUIET);
	} else if (misfortunes & FAIL_FIRST) {
		report(slice, CW_ERR_IO, CW_REMOTE_QUIET);
	} else if (misfortunes & (START_LATE | REORDER)) {
		slice->stage = HELD;
		if (misfortunes & REORDER)
			cw__list_push_back(&peer->rails[outer->rail].held, &slice->node);
		set_timer(peer, &slice->timer, draw_delay(peer->fault));
	} else {
		enqueue(slice);
	}
}

/* What waits on a rail that goes down must go another way; what is under way runs on. */
static void take_down(struct fault_peer *peer, unsigned number)
{
	peer->rails[number].down = 1;
	tell_state(peer, number);
	end_all_idle(peer, number, 1, CW_ERR_IO);
}

static unsigned fault_post(void *transport, void *opened, unsigned number, struct cw_slice **slices, unsigned count)
{
	struct fault *fault = transport;
	struct fault_peer *peer = opened;
	struct fault_rail *rail = &peer->rails[number];
	unsigned taken = 0, misfortunes = 0;

	for (; taken < count && !peer->lost; taken++) {
		misfortunes = cw__luck_misfortunes(&fault->luck);
		if (misfortunes & (REFUSE | DOWN) || cw__list_empty(&peer->free_slices))
			break;
		start(peer, slices[taken], misfortunes);
	}
	for (; taken < count && peer->lost; taken++)
		fault->outer->ops->slice_done(slices[taken], peer->lost, CW_REMOTE_QUIET);
	post_inner(peer, number / fault->spread);
	if (taken < count) {
		rail->refused = 1;
		if (misfortunes & DOWN)
			take_down(peer, number);
		set_timer(peer, &rail->timer, draw_delay(fault));
	}
	return taken;
}

static void fault_cancel(void *transport, void *opened, struct cw_slice *outer)
{
	(void)transport;
	(void)opened;
	cancel((struct fault_slice *)(uintptr_t)outer->scratch[0]);
}

/* Any thread: what does not need a timer. */
static int fault_copy(void *transport, void *opened, struct cw_slice *outer)
{
	struct fault *fault = transport;
	struct fault_peer *peer = opened;
	struct fault_slice slice = { .inner = *outer, .outer_ops = fault->outer->ops, .outer = outer, .peer = peer };
	unsigned misfortunes = cw__luck_misfortunes(&fault->luck);
	int status;

	slice.inner.rail = (uint16_t)(outer->rail / fault->spread);
	slice.inner.flags &= ~CW_SLICE_STAYS; /* ours does not */
	if (misfortunes & (START_LATE | END_LATE)) {
		struct timespec pause = { .tv_nsec = (long)(draw_delay(fault) % CW__MS) };

		nanosleep(&pause, NULL);
	}
	if (misfortunes & (DROP | FAIL_FIRST))
		return CW_ERR_IO;
	status = fault->ops->copy(fault->inner, peer->inner, &slice.inner);
	if (!status && misfortunes & DUPLICATE)
		status = fault->ops->copy(fault->inner, peer->inner, &slice.inner);
	return !status && misfortunes & FAIL_LAST ? CW_ERR_IO : status;
}

/* --------------------------------------------------------------------------------------------- peers */

static int make_rails(struct fault_peer *peer)
{
	struct fault *fault = peer->fault;

	peer->inner_count = fault->ops->rails(fault->inner, peer->inner, peer->infos, RAILS_MAX / fault->spread);
	peer->rail_count = peer->inner_count * fault->spread;
	peer->inner_rails = calloc(peer->inner_count + 1u, sizeof(*peer->inner_rails));
	peer->rails = calloc(peer->rail_count + 1u, sizeof(*peer->rails));
	peer->slices = calloc(peer->rail_count * SLICES + 1u, sizeof(*peer->slices));
	if (!peer->inner_rails || !peer->rails || !peer->slices)
		return CW_ERR_NO_MEMORY;
	for (unsigned i = 0; i < peer->inner_count; i++)
		cw__list_init(&peer->inner_rails[i].queue);
	for (unsigned i = 0; i < peer->rail_count; i++) {
		peer->rails[i].peer = peer;
		peer->rails[i].timer.fire = rail_fires;
		cw__list_init(&peer->rails[i].held);
	}
	for (unsigned i = 0; i < peer->rail_count * SLICES; i++) {
		peer->slices[i].outer_ops = fault->outer->ops;
		peer->slices[i].peer = peer;
		peer->slices[i].timer.fire = slice_fires;
		cw__list_push_back(&peer->free_slices, &peer->slices[i].node);
	}
	return CW_OK;
}

static void peer_free(struct fault_peer *peer)
{
	free(peer->inner_rails);
	free(peer->rails);
	free(peer->slices);
	free(peer);
}

static int fault_peer_open(void *transport, struct cw_peer *core, const void *description, size_t length,
			   void **peer_out)
{
	struct fault *fault = transport;
	struct fault_peer *peer = calloc(1, sizeof(*peer));
	int status;

	if (!peer)
		return CW_ERR_NO_MEMORY;
	peer->fault = fault;
	peer->core = core;
	peer->pump_timer.fire = pump_fires;
	cw__list_init(&peer->free_slices);
	status = fault->ops->peer_open(fault->inner, core, description, length, &peer->inner);
	if (!status) {
		status = make_rails(peer);
		if (status)
			fault->ops->peer_close(fault->inner, peer->inner);
	}
	if (status) {
		peer_free(peer);
		return status;
	}
	pthread_mutex_lock(&fault->lock);
	cw__list_push_back(&fault->peers, &peer->node);
	pthread_mutex_unlock(&fault->lock);
	*peer_out = peer;
	return CW_OK;
}

static void fault_peer_close(void *transport, void *opened)
{
	struct fault *fault = transport;
	struct fault_peer *peer = opened;
	const struct cw_host_ops *ops = fault->outer->ops;

	peer->lost = CW_ERR_CLOSED;
	fault->ops->peer_close(fault->inner, peer->inner);
	end_all_idle(peer, 0, peer->rail_count, CW_ERR_CLOSED);
	ops->timer_stop(peer->core->loop, &peer->pump_timer);
	for (unsigned i = 0; i < peer->rail_count; i++)
		ops->timer_stop(peer->core->loop, &peer->rails[i].timer);
	pthread_mutex_lock(&fault->lock);
	cw__list_remove(&peer->node);
	pthread_mutex_unlock(&fault->lock);
	peer_free(peer);
}

static void fault_peer_lost(void *transport, void *opened, int status)
{
	struct fault *fault = transport;
	struct fault_peer *peer = opened;

	fault->ops->peer_lost(fault->inner, peer->inner, status);
	end_all_idle(peer, 0, peer->rail_count, status);
}

static unsigned fault_rails(void *transport, void *opened, struct cw_rail_info *rails_out, unsigned max)
{
	const struct fault *fault = transport;
	const struct fault_peer *peer = opened;
	unsigned count = peer->rail_count < max ? peer->rail_count : max;

	for (unsigned i = 0; i < count; i++) {
		rails_out[i] = peer->infos[i / fault->spread];
		if (!rails_out[i].max_inflight || rails_out[i].max_inflight > SLICES)
			rails_out[i].max_inflight = SLICES;
	}
	return count;
}

static int fault_reach(void *transport, void *opened, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	struct fault *fault = transport;
	const struct fault_peer *peer = opened;
	int status = fault->ops->reach(fault->inner, peer->inner, query, reach_out);

	reach_out->rail_first *= fault->spread;
	reach_out->rail_count *= fault->spread;
	return status;
}

/* ------------------------------------------------------------------- what the inner transport does alone */

static int fault_describe(void *transport, struct cw_blob *out)
{
	struct fault *fault = transport;

	return fault->ops->describe ? fault->ops->describe(fault->inner, out) : CW_OK;
}

static int fault_attach(void *transport, const struct cw_region_view *region, void **attachment_out)
{
	struct fault *fault = transport;

	return fault->ops->attach ? fault->ops->attach(fault->inner, region, attachment_out) : CW_OK;
}

static void fault_detach(void *transport, void *attachment)
{
	struct fault *fault = transport;

	if (fault->ops->detach)
		fault->ops->detach(fault->inner, attachment);
}

static int fault_export_region(void *transport, const struct cw_region_view *region, void *attachment,
			       struct cw_blob *out)
{
	struct fault *fault = transport;

	return fault->ops->export_region ? fault->ops->export_region(fault->inner, region, attachment, out) : CW_OK;
}

static int fault_revoke(void *transport, const struct cw_region_view *region, void *attachment, uint64_t address,
			uint64_t length, struct cw_revocation *token)
{
	struct fault *fault = transport;

	if (!fault->ops->revoke)
		return CW_OK;
	return fault->ops->revoke(fault->inner, region, attachment, address, length, token);
}

static int fault_import_region(void *transport, void *opened, const struct cw_remote_view *remote, const void *blob,
			       size_t length, struct cw_import *token, void **import_out)
{
	struct fault *fault = transport;
	struct fault_peer *peer = opened;

	if (!fault->ops->import_region)
		return CW_OK;
	return fault->ops->import_region(fault->inner, peer->inner, remote, blob, length, token, import_out);
}

static void fault_import_close(void *transport, void *opened, void *import)
{
	struct fault *fault = transport;
	struct fault_peer *peer = opened;

	if (fault->ops->import_close)
		fault->ops->import_close(fault->inner, peer->inner, import);
}

static int fault_message(void *transport, const unsigned char *instance, const void *data, size_t length,
			 struct cw_blob *reply)
{
	struct fault *fault = transport;

	if (!fault->ops->message)
		return CW_ERR_UNSUPPORTED;
	return fault->ops->message(fault->inner, instance, data, length, reply);
}

static void fault_accept(void *transport, struct cw_loop *loop, int fd, const void *first, size_t length)
{
	struct fault *fault = transport;

	if (fault->ops->accept)
		fault->ops->accept(fault->inner, loop, fd, first, length);
	else
		close(fd);
}

static unsigned fault_progress(void *transport, struct cw_loop *loop)
{
	struct fault *fault = transport;

	return fault->ops->progress ? fault->ops->progress(fault->inner, loop) : 0;
}

static int fault_arm(void *transport, struct cw_loop *loop, uint64_t *poll_in_ns_out)
{
	struct fault *fault = transport;

	if (fault->ops->arm)
		return fault->ops->arm(fault->inner, loop, poll_in_ns_out);
	*poll_in_ns_out = CW_FOREVER;
	return CW_OK;
}

/* ---------------------------------------------------------------------------------------- open, close */

static void make_host(struct fault *fault, struct cw_host *outer)
{
	fault->outer = outer;
	fault->host_ops = *outer->ops;
	fault->host_ops.slice_pieces = inner_pieces;
	fault->host_ops.slice_done = inner_done;
	fault->host_ops.rail_ready = inner_ready;
	fault->host_ops.rail_state = inner_state;
	fault->host_ops.message = inner_message;
	fault->host = (struct cw_host){ &fault->host_ops, outer->real };
}

static int fault_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	struct fault *fault = calloc(1, sizeof(*fault));
	int status;

	if (!fault) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	make_host(fault, host);
	cw__luck_open(&fault->luck, host);
	fault->spread = (unsigned)host->ops->setting_number(host, "fault/rails", 1);
	fault->longest = host->ops->setting_number(host, "fault/delay_us", 1000) * 1000;
	fault->stick = host->ops->setting_number(host, "fault/stick_ms", 2000 * CW__MS);
	fault->lose = (unsigned)host->ops->setting_number(host, "fault/lose", 0);
	pthread_mutex_init(&fault->lock, NULL);
	cw__list_init(&fault->peers);
	fault->ops = host->ops->wrap(host, host->ops->setting(host, "fault/wrap"));
	status = fault->ops ? fault->ops->open(&fault->host, &fault->inner, why_out) : CW_ERR_CONFIG;
	if (!fault->ops)
		*why_out = "the setting fault/wrap names no other transport";
	if (status) {
		pthread_mutex_destroy(&fault->lock);
		free(fault);
		return status;
	}
	*transport_out = fault;
	return CW_OK;
}

static void fault_close(void *transport)
{
	struct fault *fault = transport;

	fault->ops->close(fault->inner);
	pthread_mutex_destroy(&fault->lock);
	free(fault);
}

extern const struct cw_transport_ops cw_transport_fault;
const struct cw_transport_ops cw_transport_fault = {
	.abi = CW_PLUGIN_ABI,
	.name = "fault",
	.summary = "another transport with bad luck, for tests",
	.flags = CW_TRANSPORT_REVOCABLE,
	.open = fault_open,
	.close = fault_close,
	.describe = fault_describe,
	.attach = fault_attach,
	.detach = fault_detach,
	.export_region = fault_export_region,
	.revoke = fault_revoke,
	.peer_open = fault_peer_open,
	.peer_close = fault_peer_close,
	.peer_lost = fault_peer_lost,
	.rails = fault_rails,
	.import_region = fault_import_region,
	.import_close = fault_import_close,
	.reach = fault_reach,
	.post = fault_post,
	.copy = fault_copy,
	.cancel = fault_cancel,
	.message = fault_message,
	.accept = fault_accept,
	.progress = fault_progress,
	.arm = fault_arm,
};
