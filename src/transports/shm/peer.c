/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initiator's side of a session with one peer: connecting, the proof of who is there, imports, and writes that the
 * peer pulls. Everything is on the peer's loop, but for `why`. The order that matters is at the end of a session:
 * imports are taken from the core and unmapped first, then the socket is closed, because its end tells the owner that
 * we hold nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <transports/shm/shm.h>
#include <unistd.h>
#include <util/clock.h>

#define MEETING_NS CW__SECOND     /* a peer that does not answer a hello for so long is stopped */
#define GIVE_UP_NS (200 * CW__MS) /* and a pull that is to end is given up after this */
#define TRIES_MAX 3
#define MESSAGES_PER_TURN 64

enum peer_state {
	OFF,     /* for good */
	DOWN,    /* no session; connects when there is need */
	MEETING, /* HELLO was sent */
	UP,
	DRAINING /* the session is over; imports are coming back, then the socket is closed */
};

struct cw__shm_peer {
	struct cw__shm *shm;
	struct cw_peer *core;
	enum peer_state state;
	_Atomic(const char *) why; /* what is missing; any thread reads it */
	unsigned char name[CW__SHM_NAME_MAX];
	size_t name_length;
	uint64_t link;
	struct cw__shm_channel channel;
	struct cw_io life; /* pidfd; fd -1 = none */
	struct cw_timer timer;
	int can_read, can_pull;
	struct cw__shm_process process;
	uint64_t imports_made;
	struct cw__list asking, ready, revoking;   /* cw__shm_import.node */
	struct cw_slice *pulls[CW__SHM_PULLS_MAX]; /* scratch[PULL_ID], by its low bits */
	unsigned pull_count;
	uint64_t pulls_made;
	int want_room;  /* post() took fewer */
	unsigned tries; /* sessions since one was good for anything */
};

/* What the scratch words of a posted slice hold. */
enum { PULL_ID, PULL_GIVE_UP /* when, or 0 */, PULL_STATUS /* what it becomes then, negated */ };

static void drained(struct cw__shm_peer *peer);
static void peer_break(struct cw__shm_peer *peer, const char *why);

static const struct cw_host_ops *ops_of(const struct cw__shm_peer *peer)
{
	return peer->shm->host->ops;
}

static void say_why(struct cw__shm_peer *peer, const char *why)
{
	atomic_store_explicit(&peer->why, why, memory_order_release);
}

const char *cw__shm_peer_why(void *peer)
{
	return atomic_load_explicit(&((struct cw__shm_peer *)peer)->why, memory_order_acquire);
}

/* -------------------------------------------------------------------------------------------- imports */

static void send_import(struct cw__shm_peer *peer, const struct cw__shm_import *import)
{
	struct cw__shm_message ask = { .type = CW__SHM_IMPORT, .id = import->number };

	ask.import.region = import->region;
	ask.import.key = import->key;
	cw__shm_channel_put(&peer->channel, &ask, -1);
}

static void send_about(struct cw__shm_peer *peer, uint16_t type, uint64_t id)
{
	struct cw__shm_message message = { .type = type, .id = id };

	if (peer->state == UP)
		cw__shm_channel_put(&peer->channel, &message, -1);
}

static struct cw__shm_import *import_find(struct cw__list *list, uint64_t number)
{
	cw__list_each(node, list)
	{
		struct cw__shm_import *import = cw__container(node, struct cw__shm_import, node);

		if (import->number == number)
			return import;
	}
	return NULL;
}

static void import_free(struct cw__shm_import *import)
{
	cw__list_remove(&import->node);
	cw__shm_unmap(&import->mapping);
	free(import);
}

/* Ends an import that was asked for; the core has not seen it yet. */
static void import_fail(struct cw__shm_peer *peer, struct cw__shm_import *import, int status)
{
	struct cw_import *token = import->token;

	import_free(import);
	ops_of(peer)->import_done(token, status, NULL);
}

static void imports_fail(struct cw__shm_peer *peer, int status)
{
	struct cw__list failed, *node;

	cw__list_init(&failed);
	cw__list_splice(&failed, &peer->asking); /* import_done may ask for more */
	while ((node = cw__list_pop(&failed)))
		import_fail(peer, cw__container(node, struct cw__shm_import, node), status);
}

/* The core has stopped using it and closed it: unmap, then let the owner know. */
static void import_finish(struct cw__shm_import *import)
{
	struct cw__shm_peer *peer = import->peer;
	uint64_t number = import->number;

	if (!import->returned || !import->closed)
		return;
	import_free(import);
	if (!peer)
		return;
	send_about(peer, CW__SHM_REVOKED, number);
	if (peer->state == DRAINING && cw__list_empty(&peer->ready) && cw__list_empty(&peer->revoking))
		drained(peer);
}

static void import_returned(void *arg)
{
	struct cw__shm_import *import = arg;

	import->returned = 1;
	import_finish(import);
}

static void import_revoke(struct cw__shm_peer *peer, struct cw__shm_import *import)
{
	cw__list_remove(&import->node);
	cw__list_push_back(&peer->revoking, &import->node);
	import->state = CW__SHM_REVOKING;
	ops_of(peer)->import_revoked(peer->shm->host, peer->core, import->region, import_returned, import);
}

static void on_revoke(struct cw__shm_peer *peer, uint64_t number)
{
	struct cw__shm_import *import = import_find(&peer->ready, number);

	if (import)
		import_revoke(peer, import);
	else if (!import_find(&peer->revoking, number))
		send_about(peer, CW__SHM_REVOKED, number); /* given back already */
}

/* Keeps what the answer allows. Granted memory that cannot be mapped may still be read. */
static int import_use(struct cw__shm_peer *peer, struct cw__shm_import *import, const struct cw__shm_message *answer,
		      int fd)
{
	int granted = (answer->imported.flags & CW__SHM_GRANTED) && fd >= 0 && peer->shm->grant;

	if (granted && answer->imported.length == import->length &&
	    cw__shm_map(fd, answer->imported.offset, import->length, import->access & CW_ACCESS_REMOTE_WRITE,
			&import->mapping))
		ops_of(peer)->log(peer->shm->host, CW_LOG_WARN,
				  "shm: %s granted memory that cannot be mapped safely; not used", peer->core->name);
	import->can_read = peer->can_read && (answer->imported.flags & CW__SHM_READABLE);
	import->can_pull = peer->can_pull;
	import->process = peer->process;
	return import->mapping.start || import->can_read || import->can_pull ? CW_OK : CW_ERR_UNSUPPORTED;
}

static void on_imported(struct cw__shm_peer *peer, const struct cw__shm_message *answer, int fd)
{
	struct cw__shm_import *import = import_find(&peer->asking, answer->id);
	int status = answer->status;

	if (!import) {
		peer_break(peer, "off: the peer broke the protocol");
		return;
	}
	if (!status) {
		status = import_use(peer, import, answer, fd);
		if (status)
			send_about(peer, CW__SHM_DROP, answer->id);
	}
	if (status) {
		import_fail(peer, import, status);
		return;
	}
	cw__list_remove(&import->node);
	cw__list_push_back(&peer->ready, &import->node);
	import->state = CW__SHM_READY;
	peer->tries = 0;
	ops_of(peer)->import_done(import->token, CW_OK, import);
}

/* ---------------------------------------------------------------------------------------------- pulls */

static struct cw_slice *pull_take(struct cw__shm_peer *peer, uint64_t id)
{
	struct cw_slice **slot = &peer->pulls[id & (CW__SHM_PULLS_MAX - 1)], *slice = *slot;

	if (!slice || slice->scratch[PULL_ID] != id)
		return NULL; /* given up before */
	*slot = NULL;
	peer->pull_count--;
	return slice;
}

static void pull_done(struct cw__shm_peer *peer, uint64_t id, int status, enum cw_remote_state remote)
{
	struct cw_slice *slice = pull_take(peer, id);

	if (slice)
		ops_of(peer)->slice_done(slice, status, remote);
}

static void pulls_end(struct cw__shm_peer *peer, int status, enum cw_remote_state remote)
{
	for (unsigned i = 0; i < CW__SHM_PULLS_MAX; i++)
		if (peer->pulls[i])
			pull_done(peer, peer->pulls[i]->scratch[PULL_ID], status, remote);
}

/* Gives up those whose time has come; the timer is set for the next. A peer that does not answer may read our memory
 * later and discards what it reads when not_after has passed: nothing of ours is touched. */
static void pulls_give_up(struct cw__shm_peer *peer, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < CW__SHM_PULLS_MAX; i++) {
		struct cw_slice *slice = peer->pulls[i];
		uint64_t at = slice ? slice->scratch[PULL_GIVE_UP] : 0;

		if (at && at <= now)
			pull_done(peer, slice->scratch[PULL_ID], -(int)slice->scratch[PULL_STATUS], CW_REMOTE_FENCED);
		else if (at && at < next)
			next = at;
	}
	if (next != UINT64_MAX)
		ops_of(peer)->timer_set(peer->core->loop, &peer->timer, next);
}

/* Limits how long the slice waits for an answer. */
static void pull_hurry(struct cw_slice *slice, int status, uint64_t now)
{
	if (slice->scratch[PULL_GIVE_UP])
		return;
	slice->scratch[PULL_GIVE_UP] = cw__after(now, GIVE_UP_NS);
	slice->scratch[PULL_STATUS] = (uint64_t)-status;
}

static size_t encode_pull(const struct cw__shm_peer *peer, const struct cw_slice *slice, uint64_t id,
			  unsigned char *out)
{
	struct cw__shm_message pull = { .type = CW__SHM_PULL, .id = id };
	struct cw_piece pieces[CW__SHM_PIECES_MAX];
	uint64_t total = 0;
	size_t used;

	pull.pull.region = slice->remote->id;
	pull.pull.key = slice->remote->key;
	pull.pull.not_after = slice->not_after;
	pull.pull.length = slice->length;
	pull.pull.count = ops_of(peer)->slice_pieces(slice, 0, pieces, CW__SHM_PIECES_MAX);
	used = cw__shm_message_encode(&pull, out, CW__SHM_HEADER_BYTES + 40);
	if (!used) /* the body counts its pieces, so encode reports only too small a buffer */
		return 0;
	for (uint32_t i = 0; i < pull.pull.count; i++) {
		struct cw__shm_piece piece = { (uintptr_t)pieces[i].local, pieces[i].remote, pieces[i].length };

		total += piece.length;
		used += cw__shm_piece_encode(&piece, out + used, CW__SHM_PIECE_BYTES);
	}
	return total == slice->length ? used : 0;
}

static uint64_t pull_id(struct cw__shm_peer *peer)
{
	while (peer->pulls[++peer->pulls_made & (CW__SHM_PULLS_MAX - 1)])
		;
	return peer->pulls_made;
}

/* ERR_AGAIN: no room now. */
static int post_one(struct cw__shm_peer *peer, struct cw_slice *slice)
{
	unsigned char data[CW__SHM_MESSAGE_MAX];
	uint64_t id;
	size_t length;
	int status;

	if (peer->state != UP)
		return CW_ERR_IO;
	if (peer->pull_count == CW__SHM_PULLS_MAX)
		return CW_ERR_AGAIN;
	id = pull_id(peer);
	length = encode_pull(peer, slice, id, data);
	if (!length)
		return CW_ERR_INTERNAL;
	status = cw__shm_channel_try(&peer->channel, data, length);
	if (status)
		return status;
	slice->scratch[PULL_ID] = id;
	slice->scratch[PULL_GIVE_UP] = 0;
	peer->pulls[id & (CW__SHM_PULLS_MAX - 1)] = slice;
	peer->pull_count++;
	return CW_OK;
}

unsigned cw__shm_post(void *transport, void *opened, unsigned rail, struct cw_slice **slices, unsigned count)
{
	struct cw__shm_peer *peer = opened;

	(void)transport;
	(void)rail; /* the other one is synchronous */
	for (unsigned i = 0; i < count; i++) {
		int status = post_one(peer, slices[i]);

		if (status == CW_ERR_AGAIN) {
			peer->want_room = 1;
			return i;
		}
		if (status)
			ops_of(peer)->slice_done(slices[i], status, CW_REMOTE_QUIET);
	}
	return count;
}

static void room(struct cw__shm_peer *peer)
{
	if (!peer->want_room || peer->pull_count == CW__SHM_PULLS_MAX || peer->state != UP)
		return;
	peer->want_room = 0;
	ops_of(peer)->rail_ready(peer->shm->host, peer->core, CW__SHM_RAIL_PULL);
}

void cw__shm_cancel(void *transport, void *opened, struct cw_slice *slice)
{
	struct cw__shm_peer *peer = opened;
	uint64_t id = slice->scratch[PULL_ID], now = ops_of(peer)->now();

	(void)transport;
	if (peer->pulls[id & (CW__SHM_PULLS_MAX - 1)] != slice || slice->scratch[PULL_GIVE_UP])
		return;
	pull_hurry(slice, CW_ERR_CANCELED, now);
	send_about(peer, CW__SHM_CANCEL, id);
	if (peer->state != MEETING) /* then the timer is the meeting's, and ends the pulls too */
		pulls_give_up(peer, now);
}

/* ------------------------------------------------------------------------------ the end of a session */

static int process_ended(const struct cw__shm_peer *peer)
{
	return cw__shm_pidfd_ended(peer->life.fd);
}

static void disconnect(struct cw__shm_peer *peer)
{
	cw__shm_channel_close(&peer->channel);
	if (peer->life.fd >= 0) {
		if (peer->life.loop)
			ops_of(peer)->io_remove(&peer->life);
		close(peer->life.fd);
	}
	peer->life.fd = -1;
}

/* No way to ask the peer any more: what can be said about pulls it was told to do? */
static void pulls_orphaned(struct cw__shm_peer *peer, int ended)
{
	pulls_end(peer, ended ? CW_ERR_PEER_DOWN : CW_ERR_IO, ended ? CW_REMOTE_QUIET : CW_REMOTE_FENCED);
}

static void give_up(struct cw__shm_peer *peer, enum peer_state state, const char *why)
{
	int ended = process_ended(peer);

	disconnect(peer);
	ops_of(peer)->timer_stop(peer->core->loop, &peer->timer);
	peer->state = state;
	say_why(peer, why);
	pulls_orphaned(peer, ended);
	imports_fail(peer, CW_ERR_UNSUPPORTED);
}

static void connect_now(struct cw__shm_peer *peer);

/* After a session ended: is a new one needed, for imports that wait or for the word that sent pulls have ended? */
static void connect_again(struct cw__shm_peer *peer)
{
	if (!peer->pull_count && cw__list_empty(&peer->asking))
		return;
	if (++peer->tries > TRIES_MAX)
		give_up(peer, DOWN, cw__shm_peer_why(peer));
	else
		connect_now(peer);
}

/* All imports are back: nothing of the peer is mapped, and closing says so. A new session ends what the old one left.
 */
static void drained(struct cw__shm_peer *peer)
{
	int ended = process_ended(peer);

	disconnect(peer);
	peer->state = DOWN;
	if (ended)
		pulls_orphaned(peer, 1);
	connect_again(peer);
	if (ended)
		ops_of(peer)->peer_failed(peer->shm->host, peer->core, CW_ERR_PEER_DOWN, "the peer's process ended");
}

static void peer_break(struct cw__shm_peer *peer, const char *why)
{
	if (peer->state == DRAINING || peer->state == DOWN || peer->state == OFF)
		return;
	say_why(peer, why);
	if (peer->state == MEETING) {
		ops_of(peer)->timer_stop(peer->core->loop, &peer->timer);
		disconnect(peer);
		peer->state = DOWN;
		connect_again(peer);
		return;
	}
	peer->state = DRAINING;
	cw__shm_channel_stop(&peer->channel);
	if (peer->life.loop)
		ops_of(peer)->io_remove(&peer->life);
	ops_of(peer)->rail_state(peer->shm->host, peer->core, CW__SHM_RAIL_PULL, CW_ERR_IO);
	for (unsigned i = 0; i < CW__SHM_PULLS_MAX; i++)
		if (peer->pulls[i])
			pull_hurry(peer->pulls[i], CW_ERR_IO, ops_of(peer)->now());
	pulls_give_up(peer, 0); /* sets the timer */
	if (cw__list_empty(&peer->ready) && cw__list_empty(&peer->revoking)) {
		drained(peer);
		return;
	}
	/* The last one to come back drains, perhaps before this loop ends. */
	while (peer->state == DRAINING && !cw__list_empty(&peer->ready))
		import_revoke(peer, cw__container(peer->ready.next, struct cw__shm_import, node));
}

/* ------------------------------------------------------------------------------------------- meeting */

/* After the target's welcome: can its memory be read, and is it who we think? */
static void prove(struct cw__shm_peer *peer, const struct cw__shm_message *welcome)
{
	int status = CW_ERR_UNSUPPORTED;

	memcpy(peer->process.instance, peer->core->instance, CW__SHM_INSTANCE_BYTES);
	peer->process.proof = welcome->hello.proof;
	peer->can_read = 0;
	peer->can_pull = peer->shm->attach && (welcome->hello.flags & CW__SHM_ATTACHED);
	if (!peer->shm->attach)
		say_why(peer, "not granted, and cross-memory attach is off here (shm/attach)");
	else if (!(welcome->hello.flags & CW__SHM_ATTACH))
		say_why(peer, "not granted, and cross-memory attach is off at the peer (shm/attach)");
	else
		status = cw__shm_prove(&peer->process);
	peer->can_read = !status;
	if (status == CW_ERR_PERMISSION)
		say_why(peer, "not granted, and the kernel forbids cross-memory attach (EPERM: ptrace rules)");
	else if (status == CW_ERR_PEER_DOWN)
		say_why(peer, "not granted, and the peer's process cannot be seen from here (another pid namespace?)");
	else if (status == CW_ERR_PEER_RESTARTED)
		say_why(peer, "not granted, and cross-memory attach meets another process");
	else if (!status && !peer->can_pull)
		say_why(peer, "not granted, and the kernel forbids the peer to fetch from here (EPERM: ptrace rules)");
	else if (!status)
		say_why(peer, "the region was not granted");
}

static void on_welcome(struct cw__shm_peer *peer, const struct cw__shm_message *welcome)
{
	if (welcome->status == CW_ERR_PERMISSION) {
		give_up(peer, OFF, "off: the peer runs as another user");
		return;
	}
	if (welcome->status || memcmp(welcome->hello.instance, peer->core->instance, CW__SHM_INSTANCE_BYTES) != 0) {
		give_up(peer, DOWN, "off: the peer's socket belongs to another engine");
		return;
	}
	ops_of(peer)->timer_stop(peer->core->loop, &peer->timer);
	prove(peer, welcome);
	peer->state = UP;
	/* Our older session, if any, was ended before the welcome was sent: its pulls are quiet. */
	pulls_end(peer, CW_ERR_IO, CW_REMOTE_QUIET);
	cw__list_each(node, &peer->asking) send_import(peer, cw__container(node, struct cw__shm_import, node));
	ops_of(peer)->rail_state(peer->shm->host, peer->core, CW__SHM_RAIL_PULL, CW_OK);
}

static void dispatch(struct cw__shm_peer *peer, const struct cw__shm_message *message, int fd)
{
	if (message->type == CW__SHM_WELCOME && peer->state == MEETING)
		on_welcome(peer, message);
	else if (peer->state != UP)
		peer_break(peer, "off: the peer broke the protocol");
	else if (message->type == CW__SHM_IMPORTED)
		on_imported(peer, message, fd);
	else if (message->type == CW__SHM_REVOKE)
		on_revoke(peer, message->id);
	else if (message->type == CW__SHM_PULLED && message->status == CW_ERR_BUSY) /* a device does not come back */
		pull_done(peer, message->id, CW_ERR_IO, CW_REMOTE_UNKNOWN);
	else if (message->type == CW__SHM_PULLED)
		pull_done(peer, message->id, message->status, CW_REMOTE_QUIET);
	else
		peer_break(peer, "off: the peer broke the protocol");
}

static void channel_ready(struct cw_io *io, uint32_t events)
{
	struct cw__shm_peer *peer =
		cw__container(cw__container(io, struct cw__shm_channel, io), struct cw__shm_peer, channel);
	unsigned char buffer[CW__SHM_MESSAGE_MAX];
	struct cw__shm_message message;

	if (events & EPOLLOUT)
		cw__shm_channel_flush(&peer->channel);
	for (int i = 0; i < MESSAGES_PER_TURN && (peer->state == MEETING || peer->state == UP); i++) {
		int fd = -1, status = cw__shm_channel_receive(&peer->channel, buffer, &message, &fd);

		if (status == CW_ERR_AGAIN)
			break;
		if (status == CW_OK)
			dispatch(peer, &message, fd);
		else if (status == CW_ERR_CLOSED)
			peer_break(peer, "off: the peer closed the session");
		else
			peer_break(peer, "off: the peer broke the protocol");
		if (fd >= 0)
			close(fd);
	}
	room(peer);
}

static void life_ready(struct cw_io *io, uint32_t events)
{
	(void)events;
	peer_break(cw__container(io, struct cw__shm_peer, life), "off: the peer's process ended");
}

static void timer_fire(struct cw_timer *timer)
{
	struct cw__shm_peer *peer = cw__container(timer, struct cw__shm_peer, timer);

	if (peer->state == MEETING)
		give_up(peer, DOWN, "off: the peer does not answer on its unix socket");
	else
		pulls_give_up(peer, ops_of(peer)->now());
}

/* 0 = gave up, with the reason said. */
static int connect_socket(struct cw__shm_peer *peer)
{
	struct sockaddr_un address;
	socklen_t length = cw__shm_socket_address(peer->name, peer->name_length, &address, sizeof(address));
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	uid_t uid = 0;

	cw__shm_channel_init(&peer->channel, peer->shm->host, fd, SHUT_RD);
	peer->channel.io.ready = channel_ready;
	if (fd < 0)
		give_up(peer, DOWN, "off: no unix socket can be opened (limit of open files?)");
	else if (connect(fd, (struct sockaddr *)&address, length))
		give_up(peer, DOWN,
			errno == EAGAIN ? "off: the peer's unix socket is busy"
					: "off: the peer's unix socket is not here (another network namespace?)");
	else if (cw__shm_channel_who(fd, &peer->process.pid, &uid) || uid != peer->shm->uid)
		give_up(peer, OFF, "off: the peer runs as another user");
	else
		return 1;
	return 0;
}

static void connect_now(struct cw__shm_peer *peer)
{
	const struct cw_host_ops *ops = ops_of(peer);
	struct cw__shm_message hello = { .type = CW__SHM_HELLO };

	if (!connect_socket(peer))
		return;
	peer->life = (struct cw_io){ .fd = cw__shm_pidfd(peer->process.pid), .events = EPOLLIN, .ready = life_ready };
	if (ops->io_add(peer->core->loop, &peer->channel.io) ||
	    (peer->life.fd >= 0 && ops->io_add(peer->core->loop, &peer->life))) {
		give_up(peer, DOWN, "off: out of memory for its descriptors");
		return;
	}
	hello.hello.version = CW__SHM_VERSION;
	hello.hello.flags =
		(uint16_t)((peer->shm->grant ? CW__SHM_GRANT : 0) | (peer->shm->attach ? CW__SHM_ATTACH : 0));
	memcpy(hello.hello.instance, peer->shm->proof, CW__SHM_INSTANCE_BYTES);
	memcpy(hello.hello.expected, peer->core->instance, CW__SHM_INSTANCE_BYTES);
	hello.hello.proof = (uintptr_t)peer->shm->proof;
	hello.hello.link = peer->link;
	peer->state = MEETING;
	cw__shm_channel_put(&peer->channel, &hello, -1);
	ops->timer_set(peer->core->loop, &peer->timer, cw__after(ops->now(), MEETING_NS));
}

/* ------------------------------------------------------------------------------------ the core's calls */

int cw__shm_peer_open(void *transport, struct cw_peer *core, const void *description, size_t length, void **peer_out)
{
	struct cw__shm *shm = transport;
	struct cw__shm_description about;
	struct cw__shm_peer *peer = calloc(1, sizeof(*peer));

	if (!peer)
		return CW_ERR_NO_MEMORY;
	peer->shm = shm;
	peer->core = core;
	peer->link = atomic_fetch_add_explicit(&shm->links, 1, memory_order_relaxed) + 1;
	peer->life.fd = -1;
	peer->timer.fire = timer_fire;
	cw__shm_channel_init(&peer->channel, shm->host, -1, SHUT_RD);
	cw__list_init(&peer->asking);
	cw__list_init(&peer->ready);
	cw__list_init(&peer->revoking);
	*peer_out = peer;
	if (cw__shm_description_decode(description, length, &about)) {
		say_why(peer, "off: the peer's description cannot be read");
		return CW_OK;
	}
	memcpy(peer->name, about.name, about.name_length);
	peer->name_length = about.name_length;
	if (!core->same_host) {
		say_why(peer, "off: the peer is on another machine");
		return CW_OK;
	}
	say_why(peer, "off: not connected yet");
	peer->state = DOWN;
	connect_now(peer);
	return CW_OK;
}

void cw__shm_peer_lost(void *transport, void *opened, int status)
{
	(void)transport;
	(void)status;
	peer_break(opened, "off: the control connection to the peer was lost");
}

/* The core has closed the imports; one that is still being revoked is freed when the core says done. */
void cw__shm_peer_close(void *transport, void *opened)
{
	struct cw__shm_peer *peer = opened;
	struct cw__list *node;
	int ended = process_ended(peer);

	(void)transport;
	while ((node = cw__list_pop(&peer->ready)))
		import_free(cw__container(node, struct cw__shm_import, node));
	while ((node = cw__list_pop(&peer->revoking))) {
		struct cw__shm_import *import = cw__container(node, struct cw__shm_import, node);

		cw__shm_unmap(&import->mapping);
		import->peer = NULL;
		import->closed = 1;
		import_finish(import);
	}
	peer->state = OFF;
	imports_fail(peer, CW_ERR_CLOSED);
	disconnect(peer);
	ops_of(peer)->timer_stop(peer->core->loop, &peer->timer);
	pulls_orphaned(peer, ended);
	free(peer);
}

int cw__shm_import_region(void *transport, void *opened, const struct cw_remote_view *remote, const void *blob,
			  size_t length, struct cw_import *token, void **import_out)
{
	struct cw__shm_peer *peer = opened;
	struct cw__shm_import *import;
	uint16_t flags;

	(void)transport;
	(void)import_out; /* always asynchronous */
	if (peer->state == OFF || cw__shm_region_decode(blob, length, &flags))
		return CW_ERR_UNSUPPORTED;
	import = calloc(1, sizeof(*import));
	if (!import)
		return CW_ERR_NO_MEMORY;
	import->peer = peer;
	import->token = token;
	import->number = ++peer->imports_made;
	import->region = remote->id;
	import->key = remote->key;
	import->address = remote->address;
	import->length = remote->length;
	import->access = remote->access;
	import->state = CW__SHM_ASKING;
	cw__list_init(&import->node);
	if (peer->state == DOWN) {
		peer->tries = 0;
		connect_now(peer); /* fails at once, or the welcome sends it */
	}
	if (peer->state == OFF || peer->state == DOWN) {
		free(import);
		return CW_ERR_UNSUPPORTED;
	}
	cw__list_push_back(&peer->asking, &import->node);
	if (peer->state == UP)
		send_import(peer, import);
	return CW_ERR_AGAIN;
}

void cw__shm_import_close(void *transport, void *opened, void *imported)
{
	struct cw__shm_peer *peer = opened;
	struct cw__shm_import *import = imported;

	(void)transport;
	if (import->state == CW__SHM_REVOKING) {
		import->closed = 1;
		import_finish(import);
		return;
	}
	cw__shm_unmap(&import->mapping);
	send_about(peer, CW__SHM_DROP, import->number);
	import_free(import);
}
