/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initiator's side of a region in another engine: ATTACH, so that the owner knows of us, then the handle is opened
 * by the keeper; in the end the keeper closes it, then DETACH. Engines of one process use each other's addresses, but
 * ask all the same, so that revocation works. All on the peer's loop, but for what the keeper does.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <transports/peer_copy/inside.h>
#include <unistd.h>

#define LEAVE_FIRST (100 * CW__MS) /* until DETACH is tried again when the peer could not be told */
#define LEAVE_LAST (2 * CW__SECOND)
#define ORPHANS_MAX 4096u /* most of their owners are dead */

static const struct cw_host_ops *ops_of(const struct cw__pc_import *import)
{
	return import->pc->host->ops;
}

static void say_why(struct cw__pc_peer *peer, const char *why)
{
	if (peer)
		atomic_store_explicit(&peer->why, why, memory_order_release);
}

/* ------------------------------------------------------------------------------------------ beginning, end */

/* Nobody else can guess it, and so end the grant. */
static uint64_t new_number(void)
{
	static _Atomic uint64_t last;
	uint64_t number = 0;

	while (!number)
		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			number = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
	return number;
}

static struct cw__pc_import *import_new(struct cw__pc_peer *peer, const struct cw_remote_view *remote)
{
	struct cw__peer_copy *pc = peer->pc;
	struct cw__pc_import *import = calloc(1, sizeof(*import));

	if (!import)
		return NULL;
	import->pc = pc;
	import->loop = peer->core->loop;
	import->peer = peer;
	import->state = CW__PC_ASKING;
	import->number = new_number();
	memcpy(import->instance, peer->core->instance, sizeof(import->instance));
	import->region = remote->id;
	import->key = remote->key;
	import->address = remote->address;
	import->length = remote->length;
	cw__list_init(&import->peer_node);
	cw__list_init(&import->keeper_node);
	pthread_mutex_lock(&pc->lock);
	cw__list_push_back(&pc->imports, &import->node);
	pthread_mutex_unlock(&pc->lock);
	cw__list_push_back(&peer->imports, &import->peer_node);
	return import;
}

static void release_if_over(struct cw__pc_import *import)
{
	struct cw__peer_copy *pc = import->pc;

	if (!import->over || import->asked || import->task_posted)
		return;
	pthread_mutex_lock(&pc->lock);
	cw__list_remove(&import->node);
	pthread_mutex_unlock(&pc->lock);
	free(import);
}

/* Nobody needs it any more; it goes as soon as nobody can call back about it. */
static void import_end(struct cw__pc_import *import)
{
	cw__list_remove(&import->peer_node);
	import->peer = NULL;
	import->over = 1;
	release_if_over(import);
}

void cw__pc_imports_free(struct cw__peer_copy *pc)
{
	struct cw__list *node;

	while ((node = cw__list_pop(&pc->imports))) {
		struct cw__pc_import *import = cw__container(node, struct cw__pc_import, node);

		if (import->mapping)
			cw__pc_mapping_close(import->mapping);
		free(import);
	}
}

/* --------------------------------------------------------------------------------------------- leaving */

/* Was the question lost, so that nobody knows whether the owner heard it? */
static int is_lost(int status)
{
	return status == CW_ERR_TIMED_OUT || status == CW_ERR_CLOSED || status == CW_ERR_CONNECT ||
	       cw_status_scope(status) == CW_SCOPE_PEER;
}

static void leave_later(struct cw__pc_peer *peer)
{
	const struct cw_host_ops *ops = peer->pc->host->ops;

	if (peer->leave_timer.heap_slot)
		return;
	peer->leave_pause = !peer->leave_pause                   ? LEAVE_FIRST
			    : peer->leave_pause < LEAVE_LAST / 2 ? 2 * peer->leave_pause
								 : LEAVE_LAST;
	ops->timer_set(peer->core->loop, &peer->leave_timer, cw__after(ops->now(), peer->leave_pause));
}

/* Its peer is closed. When no answer and no keeper can come back to it, it waits for another opening of that peer. */
static void orphan(struct cw__pc_import *import)
{
	struct cw__peer_copy *pc = import->pc;

	if (import->asked || import->task_posted)
		return;
	if (atomic_load_explicit(&pc->orphans, memory_order_relaxed) >= ORPHANS_MAX) {
		import_end(import);
		return;
	}
	pthread_mutex_lock(&pc->lock);
	import->orphan = 1;
	atomic_fetch_add_explicit(&pc->orphans, 1, memory_order_relaxed);
	cw__list_each(node, &pc->peers)
	{
		struct cw__pc_peer *peer = cw__container(node, struct cw__pc_peer, node);

		if (!memcmp(peer->core->instance, import->instance, sizeof(import->instance)))
			cw__pc_peer_wake(peer);
	}
	pthread_mutex_unlock(&pc->lock);
}

static void leave_peer(struct cw__pc_import *import)
{
	import->state = CW__PC_LEAVING;
	cw__list_remove(&import->peer_node);
	import->peer = NULL;
	import->left = 1;
	orphan(import);
}

static void detach_answered(void *arg, int status, const void *reply, size_t length)
{
	struct cw__pc_import *import = arg;

	(void)reply;
	(void)length;
	import->asked--;
	if (is_lost(status) && import->peer) {
		leave_later(import->peer);
		return;
	}
	if (is_lost(status) && import->left) {
		orphan(import);
		return;
	}
	import->left = 0;
	if (import->peer)
		import->peer->leave_pause = 0;
	import_end(import);
}

static int send_detach(struct cw__pc_import *import)
{
	struct cw__pc_message message = { .type = CW__PC_DETACH, .number = import->number };
	unsigned char data[CW__PC_DETACH_BYTES];
	size_t length = cw__pc_message_encode(&message, data, sizeof(data));
	int status =
		ops_of(import)->message(import->pc->host, import->peer->core, data, length, detach_answered, import);

	import->asked += !status;
	return status;
}

static void leave(struct cw__pc_import *import)
{
	import->state = CW__PC_LEAVING;
	if (send_detach(import))
		leave_later(import->peer);
}

void cw__pc_leave_again(struct cw_timer *timer)
{
	struct cw__pc_peer *peer = cw__container(timer, struct cw__pc_peer, leave_timer);
	int failed = 0;

	cw__list_each(node, &peer->imports)
	{
		struct cw__pc_import *import = cw__container(node, struct cw__pc_import, peer_node);

		if (import->state == CW__PC_LEAVING && !import->asked && !failed)
			failed = send_detach(import) != CW_OK;
	}
	if (failed)
		leave_later(peer);
}

/* An earlier opening of this peer closed while it could not be told; now it can. */
void cw__pc_imports_adopt(struct cw__pc_peer *peer)
{
	struct cw__peer_copy *pc = peer->pc;
	int any = 0;

	pthread_mutex_lock(&pc->lock);
	cw__list_each(node, &pc->imports)
	{
		struct cw__pc_import *import = cw__container(node, struct cw__pc_import, node);

		if (!import->orphan || memcmp(import->instance, peer->core->instance, CW__PC_INSTANCE_BYTES))
			continue;
		import->orphan = import->left = 0;
		atomic_fetch_sub_explicit(&pc->orphans, 1, memory_order_relaxed);
		import->peer = peer;
		import->loop = peer->core->loop;
		cw__list_push_back(&peer->imports, &import->peer_node);
		any = 1;
	}
	pthread_mutex_unlock(&pc->lock);
	if (any)
		leave_later(peer);
}

/* -------------------------------------------------------------------------------------------- importing */

/* Tells the core, which may do anything with the import from then on. */
static void done(struct cw__pc_import *import, int status)
{
	struct cw_import *token = import->token;

	import->token = NULL;
	ops_of(import)->import_done(token, status, status ? NULL : import);
}

static void give_up(struct cw__pc_import *import, int status, const char *why, int leaves)
{
	struct cw_import *token = import->token;
	const struct cw_host_ops *ops = ops_of(import);

	say_why(import->peer, why);
	import->token = NULL;
	if (leaves)
		leave(import);
	else
		import_end(import);
	ops->import_done(token, status, NULL);
}

static int device_by_pci(const struct cw__gpu *gpu, const struct cw__pc_envelope *envelope)
{
	for (unsigned i = 0; *envelope->pci && i < gpu->device_count; i++)
		if (!strncmp(gpu->pci[i], envelope->pci, sizeof(envelope->pci)))
			return (int)i;
	/* Without PCI ids the numbers must do, where both sides see all devices. */
	if (!*envelope->pci && envelope->device < (int)gpu->device_count && !*gpu->pci[envelope->device])
		return envelope->device;
	return -1;
}

/* NULL = fine, else what speaks against using what the owner sent. */
static const char *take_envelope(struct cw__pc_import *import, const void *data, size_t length)
{
	struct cw__pc_envelope *envelope = &import->envelope;
	const struct cw_peer *core = import->peer->core;
	const struct cw__gpu *gpu = import->pc->gpu;

	if (cw__pc_envelope_decode(data, length, envelope))
		return "off: the peer's handle came in an envelope that cannot be read";
	if (envelope->vendor != gpu->vendor)
		return "off: the peer's device is of another vendor";
	if (memcmp(envelope->instance, core->instance, sizeof(envelope->instance)) != 0 ||
	    envelope->length != import->length)
		return "off: the peer's handle is for something else";
	import->side.device = device_by_pci(gpu, envelope);
	if (import->side.device < 0)
		return "off: this process does not see the peer's device (is it among the visible ones?)";
	if (core->same_process)
		return NULL;
	if (envelope->mode != CW__PC_IPC)
		return "off: the peer's memory cannot be exported to other processes";
	return NULL;
}

/* The runtime does not come back with the mapping: the core is to go another way. */
static void opening_lasts(struct cw_timer *timer)
{
	struct cw__pc_import *import = cw__container(timer, struct cw__pc_import, timer);
	struct cw_import *token = import->token;

	if (import->state != CW__PC_OPENING || !import->peer)
		return;
	import->pc->host->ops->log(import->pc->host, CW_LOG_ERROR,
				   "%s: opening memory of %s on device %d: the runtime does not come back",
				   import->pc->kind.name, import->peer->core->name, import->side.device);
	say_why(import->peer, "off: the runtime does not come back from opening the peer's handle");
	import->state = CW__PC_LATE;
	import->token = NULL;
	ops_of(import)->import_done(token, CW_ERR_UNSUPPORTED, NULL);
}

static void attach_answered(void *arg, int status, const void *reply, size_t length)
{
	struct cw__pc_import *import = arg;
	const char *why;

	import->asked--;
	if (import->over) {
		release_if_over(import);
		return;
	}
	if (import->left) { /* what came of it is for the owner to hear, if it knows of it */
		if (status && !is_lost(status) && !import->asked)
			import_end(import);
		else
			orphan(import);
		return;
	}
	if (status) {
		give_up(import, status == CW_ERR_STALE_REGION ? status : CW_ERR_UNSUPPORTED,
			status == CW_ERR_PERMISSION || status == CW_ERR_UNSUPPORTED
				? "off: the peer cannot see this process (another pid namespace?)"
				: "off: the peer did not hand out its memory's handle",
			is_lost(status));
		return;
	}
	why = take_envelope(import, reply, length);
	if (why) {
		give_up(import, CW_ERR_UNSUPPORTED, why, 1);
		return;
	}
	if (import->peer->core->same_process) {
		import->state = CW__PC_READY;
		import->side.shift = import->envelope.base + import->envelope.offset - import->address;
		done(import, CW_OK);
		return;
	}
	import->state = CW__PC_OPENING;
	import->side.mapped = 1;
	if (cw__pc_keeper_give(import)) {
		give_up(import, CW_ERR_UNSUPPORTED, "off: out of memory", 1);
		return;
	}
	import->timer.fire = opening_lasts;
	ops_of(import)->timer_set(import->loop, &import->timer, cw__after(cw__now(), import->pc->timeout));
}

static void opened(struct cw__pc_import *import)
{
	struct cw__peer_copy *pc = import->pc;

	if (import->keeper_result) {
		pc->host->ops->log(pc->host, CW_LOG_WARN, "%s: memory of %s on device %d cannot be opened: %s (%d)",
				   pc->kind.name, import->peer->core->name, import->side.device,
				   import->keeper_result == CW__PC_TOO_SHORT
					   ? "it is shorter than the peer said"
					   : pc->gpu->error_text(import->keeper_result),
				   import->keeper_result);
		give_up(import, CW_ERR_UNSUPPORTED, "off: the peer's handle cannot be opened here", 1);
		return;
	}
	import->state = CW__PC_READY;
	import->side.shift = cw__pc_mapping_base(import->mapping) + import->envelope.offset - import->address;
	done(import, CW_OK);
}

/* 0 = the keeper is at it, else there is nothing to close, or it stays open because there is no thread to do it. */
static int close_mapping(struct cw__pc_import *import)
{
	import->state = CW__PC_CLOSING;
	return !import->mapping || cw__pc_keeper_give(import);
}

/* The keeper has opened or closed the mapping. */
static void keeper_done(struct cw_task *task)
{
	struct cw__pc_import *import = cw__container(task, struct cw__pc_import, task);

	import->task_posted = cw__pc_keeper_is_busy(import);
	if (import->task_posted)
		return; /* it was given back to the keeper meanwhile */
	ops_of(import)->timer_stop(import->loop, &import->timer);
	if (import->over)
		release_if_over(import);
	else if (import->left)
		orphan(import);
	else if (import->state == CW__PC_OPENING)
		opened(import);
	else if (import->state == CW__PC_LATE && close_mapping(import))
		leave(import);
	else if (import->state == CW__PC_CLOSING)
		leave(import);
}

int cw__peer_copy_import(void *transport, void *opened_peer, const struct cw_remote_view *remote, const void *blob,
			 size_t length, struct cw_import *token, void **import_out)
{
	struct cw__peer_copy *pc = transport;
	struct cw__pc_peer *peer = opened_peer;
	unsigned char data[CW__PC_ATTACH_BYTES];
	struct cw__pc_message message = { .type = CW__PC_ATTACH, .region = remote->id, .key = remote->key };
	struct cw__pc_import *import;
	struct cw__pc_offer offer;

	(void)import_out; /* always asynchronous */
	if (!peer->usable || cw__pc_offer_decode(blob, length, &offer) || offer.vendor != pc->gpu->vendor)
		return CW_ERR_UNSUPPORTED;
	if (!peer->core->same_process && (!(offer.flags & CW__PC_EXPORTED) || !pc->gpu->open_memory)) {
		say_why(peer, "off: the peer's memory cannot be exported to other processes");
		return CW_ERR_UNSUPPORTED;
	}
	import = import_new(peer, remote);
	if (!import)
		return CW_ERR_NO_MEMORY;
	import->task.run = keeper_done;
	import->token = token;
	message.number = import->number;
	message.pid = (uint32_t)getpid();
	message.start = pc->start;
	import->asked =
		!pc->host->ops->message(pc->host, peer->core, data, cw__pc_message_encode(&message, data, sizeof(data)),
					attach_answered, import);
	if (import->asked)
		return CW_ERR_AGAIN;
	say_why(peer, "off: the peer could not be asked");
	import_end(import);
	return CW_ERR_UNSUPPORTED;
}

/* ---------------------------------------------------------------------------------------------- closing */

void cw__peer_copy_import_close(void *transport, void *peer, void *imported)
{
	struct cw__pc_import *import = imported;

	(void)transport;
	(void)peer;
	if (!close_mapping(import))
		return;
	if (!import->mapping)
		leave(import);
	else
		import_end(import); /* the owner keeps waiting for us, with reason */
}

static void nothing(void *arg)
{
	(void)arg;
}

void cw__pc_imports_lost(struct cw__pc_peer *peer, int restarted)
{
	int again = 1;

	/* Each call may change the list. */
	while (again) {
		again = 0;
		cw__list_each(node, &peer->imports)
		{
			struct cw__pc_import *import = cw__container(node, struct cw__pc_import, peer_node);

			if (restarted && import->state == CW__PC_LEAVING && !import->asked) {
				import_end(import); /* there is nobody to tell */
			} else if (import->state == CW__PC_READY && !import->taken_back) {
				import->taken_back = 1;
				again = 1;
				ops_of(import)->import_revoked(peer->pc->host, peer->core, import->region, nothing,
							       NULL);
				break;
			}
		}
	}
}

/* One import of a peer that closes: when this returns nothing of it is mapped, or it is said to be in use for good. */
static void close_now(struct cw__pc_import *import, int leak, uint64_t until)
{
	struct cw_import *token = import->token;
	const struct cw_host_ops *ops = ops_of(import);
	int opening;

	import->token = NULL;
	ops->timer_stop(import->loop, &import->timer);
	opening = import->state == CW__PC_OPENING || import->state == CW__PC_LATE;
	if (opening || import->state == CW__PC_CLOSING)
		leak |= cw__pc_keeper_await(import, until) != CW_OK;
	if (!leak && import->mapping && import->state != CW__PC_LEAVING)
		leak = close_mapping(import) || cw__pc_keeper_await(import, until);
	if (leak && (import->mapping || opening)) {
		import_end(import);
	} else {
		/* Asked again when the peer is opened again, if nobody hears it now. */
		if (import->state != CW__PC_LEAVING || !import->asked)
			(void)send_detach(import);
		leave_peer(import);
	}
	if (token)
		ops->import_done(token, CW_ERR_CLOSED, NULL);
}

void cw__pc_imports_close(struct cw__pc_peer *peer, int leak, uint64_t until)
{
	peer->pc->host->ops->timer_stop(peer->core->loop, &peer->leave_timer);
	/* All at once, then one after the other. */
	cw__list_each(node, &peer->imports)
	{
		struct cw__pc_import *import = cw__container(node, struct cw__pc_import, peer_node);

		if (!leak && import->state == CW__PC_READY)
			close_mapping(import);
	}
	while (!cw__list_empty(&peer->imports))
		close_now(cw__container(peer->imports.next, struct cw__pc_import, peer_node), leak, until);
}
