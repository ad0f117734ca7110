/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's side: a listener on an abstract unix socket and one session for each connected initiator. A session
 * hands out granted memory, tells its peer when a region is taken back, and pulls what the peer wants written. It lives
 * on one loop; only its grants are shared with other threads, under the transport's lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <transports/shm/shm.h>
#include <unistd.h>
#include <util/clock.h>

#define SESSIONS_MAX 1024u
#define GRANTS_MAX 65536u
#define MESSAGES_PER_TURN 16
#define ACCEPTS_PER_TURN 16
#define ACCEPT_PAUSE (100 * CW__MS) /* after descriptors ran out */

/* A write that we fetch from its initiator. */
struct pull {
	struct cw__list node; /* session->pulls or session->spare */
	uint64_t id, region, key, not_after;
	uint32_t count, at; /* pieces, and the first unfinished one */
	uint64_t offset;    /* in that piece */
	struct cw__shm_piece pieces[CW__SHM_PIECES_MAX];
};

enum session_state {
	MEETING, /* HELLO has not come */
	MOVING,  /* on its way to its loop */
	SERVING,
	LEAVING /* we said goodbye and wait until the peer closes: only then is its mapping gone */
};

struct cw__shm_session {
	struct cw__list node; /* shm->sessions; lock */
	struct cw__shm *shm;
	struct cw_loop *loop;
	struct cw__shm_channel channel;
	struct cw_io life;   /* pidfd of the peer's process; fd -1 = none */
	struct cw_task task; /* posted at most once: */
	_Atomic int posted;
	struct cw_timer timer; /* MEETING: until when */
	enum session_state state;
	int refused; /* another user: told so when its HELLO comes */
	int held;    /* its messages are being handled */
	int dead;    /* ended; freed when it is neither posted nor held */
	uint64_t link;
	struct cw__shm_process process;
	int can_pull, can_map;  /* the peer's memory; ours by the peer */
	struct cw__list grants; /* cw__shm_grant.session_node; lock */
	unsigned grant_count;   /* lock */
	struct cw__list pulls, spare;
	unsigned pull_count;
};

static void session_ready(struct cw_io *io, uint32_t events);

/* ------------------------------------------------------------------------------------- end of a session */

static void session_free(struct cw__shm_session *session)
{
	struct cw__list *node;

	while ((node = cw__list_pop(&session->pulls)) || (node = cw__list_pop(&session->spare)))
		free(cw__container(node, struct pull, node));
	free(session);
}

/* The peer's process ended or closed its socket, which it does after unmapping: whatever it was given is back. */
static void session_end(struct cw__shm_session *session)
{
	struct cw__shm *shm = session->shm;
	const struct cw_host_ops *ops = shm->host->ops;
	struct cw__list done;

	cw__list_init(&done);
	if (session->loop)
		ops->timer_stop(session->loop, &session->timer);
	cw__shm_channel_close(&session->channel);
	if (session->life.fd >= 0) {
		if (session->life.loop)
			ops->io_remove(&session->life);
		close(session->life.fd);
	}
	pthread_mutex_lock(&shm->lock);
	cw__list_remove(&session->node);
	shm->session_count--;
	while (!cw__list_empty(&session->grants))
		cw__shm_grant_end(cw__container(session->grants.next, struct cw__shm_grant, session_node), &done);
	pthread_mutex_unlock(&shm->lock);
	cw__shm_waiters_report(shm, &done);
	session->dead = 1;
	if (!session->held && !atomic_load_explicit(&session->posted, memory_order_acquire))
		session_free(session);
}

/* We end it, but the peer may still map what we granted: it closes when it has unmapped. */
static void session_leave(struct cw__shm_session *session)
{
	struct cw__list *node;
	int granted;

	pthread_mutex_lock(&session->shm->lock);
	granted = !cw__list_empty(&session->grants);
	if (granted)
		session->state = LEAVING;
	pthread_mutex_unlock(&session->shm->lock);
	if (!granted) {
		session_end(session);
		return;
	}
	while ((node = cw__list_pop(&session->pulls)))
		cw__list_push_back(&session->spare, node);
	session->pull_count = 0;
	shutdown(session->channel.io.fd, SHUT_WR);
}

static void session_wrong(struct cw__shm_session *session, const char *what)
{
	char who[48];

	snprintf(who, sizeof(who), "process %d", (int)session->process.pid);
	session->shm->host->ops->protocol_error(session->shm->host, who, what);
	session_leave(session);
}

static void life_ready(struct cw_io *io, uint32_t events)
{
	(void)events;
	session_end(cw__container(io, struct cw__shm_session, life));
}

static void meeting_over(struct cw_timer *timer)
{
	session_end(cw__container(timer, struct cw__shm_session, timer));
}

/* ----------------------------------------------------------------------------------------------- grants */

void cw__shm_session_wake(struct cw__shm_session *session)
{
	if (!atomic_exchange_explicit(&session->posted, 1, memory_order_acq_rel))
		session->shm->host->ops->task_post(session->loop, &session->task);
}

static struct cw__shm_grant *grant_find(struct cw__shm_session *session, uint64_t number)
{
	cw__list_each(node, &session->grants)
	{
		struct cw__shm_grant *grant = cw__container(node, struct cw__shm_grant, session_node);

		if (grant->number == number)
			return grant;
	}
	return NULL;
}

/* DROP or REVOKED: the peer does not map or read it any more. */
static void grant_return(struct cw__shm_session *session, uint64_t number)
{
	struct cw__shm_grant *grant;
	struct cw__list done;

	cw__list_init(&done);
	pthread_mutex_lock(&session->shm->lock);
	grant = grant_find(session, number);
	if (grant) {
		session->grant_count--;
		cw__shm_grant_end(grant, &done);
	}
	pthread_mutex_unlock(&session->shm->lock);
	cw__shm_waiters_report(session->shm, &done);
}

static void send_revokes(struct cw__shm_session *session)
{
	struct cw__shm_message revoke = { .type = CW__SHM_REVOKE };

	pthread_mutex_lock(&session->shm->lock);
	cw__list_each(node, &session->grants)
	{
		struct cw__shm_grant *grant = cw__container(node, struct cw__shm_grant, session_node);

		if (!grant->wanted || grant->told)
			continue;
		grant->told = 1;
		revoke.id = grant->number;
		cw__shm_channel_put(&session->channel, &revoke, -1);
	}
	pthread_mutex_unlock(&session->shm->lock);
}

/* Enters the grant before the peer hears of it, so that a revocation from now on waits for the peer. */
static int grant_enter(struct cw__shm_session *session, uint64_t number, uint64_t region_id)
{
	struct cw__shm_grant *grant = calloc(1, sizeof(*grant));
	struct cw__shm_region *region;
	int status = CW_OK;

	if (!grant)
		return CW_ERR_NO_MEMORY;
	pthread_mutex_lock(&session->shm->lock);
	region = cw__shm_region_find(session->shm, region_id);
	if (!region)
		status = CW_ERR_UNSUPPORTED;
	else if (region->revoked)
		status = CW_ERR_STALE_REGION;
	else if (session->grant_count >= GRANTS_MAX)
		status = CW_ERR_LIMIT;
	if (!status) {
		grant->session = session;
		grant->region = region;
		grant->number = number;
		cw__list_push_back(&session->grants, &grant->session_node);
		cw__list_push_back(&region->grants, &grant->region_node);
		session->grant_count++;
	}
	pthread_mutex_unlock(&session->shm->lock);
	if (status)
		free(grant);
	return status;
}

/* A descriptor for the peer that allows what the region allows, or -1: for a read-only region the kernel itself shall
 * refuse a writable mapping. */
static int granted_fd(const struct cw_region_view *view)
{
	int writable = (view->access & CW_ACCESS_REMOTE_WRITE) != 0;
	char path[40];

	if (view->share_fd < 0 || view->kind != CW_MEMORY_HOST)
		return -1;
	if (writable)
		return fcntl(view->share_fd, F_DUPFD_CLOEXEC, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", view->share_fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void serve_import(struct cw__shm_session *session, const struct cw__shm_message *import)
{
	struct cw__shm *shm = session->shm;
	const struct cw_host_ops *ops = shm->host->ops;
	struct cw__shm_message answer = { .type = CW__SHM_IMPORTED, .id = import->id };
	const struct cw_region_view *view = ops->region_get(shm->host, import->import.region, import->import.key);
	int fd = -1;

	if (!view)
		answer.status = CW_ERR_STALE_REGION;
	else if (!(view->access & CW_ACCESS_REMOTE))
		answer.status = CW_ERR_ACCESS;
	else
		answer.status = grant_enter(session, import->id, view->id);
	if (!answer.status) {
		fd = session->can_map ? granted_fd(view) : -1;
		if (fd >= 0)
			answer.imported.flags |= CW__SHM_GRANTED;
		if (shm->attach && view->kind == CW_MEMORY_HOST)
			answer.imported.flags |= CW__SHM_READABLE;
		answer.imported.offset = view->share_offset;
		answer.imported.length = view->length;
	}
	if (view)
		ops->region_put(shm->host, view);
	cw__shm_channel_put(&session->channel, &answer, fd);
	if (fd >= 0)
		close(fd);
}

/* ------------------------------------------------------------------------------------------------ pulls */

static void pull_end(struct cw__shm_session *session, struct pull *pull, int status)
{
	struct cw__shm_message pulled = { .type = CW__SHM_PULLED, .id = pull->id, .status = status };

	cw__list_remove(&pull->node);
	cw__list_push_front(&session->spare, &pull->node);
	session->pull_count--;
	cw__shm_channel_put(&session->channel, &pulled, -1);
}

static void serve_pull(struct cw__shm_session *session, const struct cw__shm_message *message)
{
	struct cw__shm_message refused = { .type = CW__SHM_PULLED, .id = message->id };
	struct cw__list *node;
	struct pull *pull;

	if (session->pull_count >= CW__SHM_PULLS_MAX) {
		session_wrong(session, "more pulls at once than allowed");
		return;
	}
	node = cw__list_pop(&session->spare);
	pull = node ? cw__container(node, struct pull, node) : malloc(sizeof(*pull));
	if (!pull || !session->can_pull) {
		refused.status = pull ? CW_ERR_UNSUPPORTED : CW_ERR_NO_MEMORY;
		cw__shm_channel_put(&session->channel, &refused, -1);
		if (pull)
			cw__list_push_front(&session->spare, &pull->node);
		return;
	}
	pull->id = message->id;
	pull->region = message->pull.region;
	pull->key = message->pull.key;
	pull->not_after = message->pull.not_after;
	pull->count = message->pull.count;
	pull->at = 0;
	pull->offset = 0;
	for (uint32_t i = 0; i < pull->count; i++)
		pull->pieces[i] = cw__shm_piece_at(message->pull.pieces, i);
	session->pull_count++;
	cw__list_push_back(&session->pulls, &pull->node);
}

static void serve_cancel(struct cw__shm_session *session, uint64_t id)
{
	cw__list_each(node, &session->pulls)
	{
		struct pull *pull = cw__container(node, struct pull, node);

		if (pull->id == id) {
			pull_end(session, pull, CW_ERR_CANCELED);
			return;
		}
	}
}

/* One cross-memory read: the next ranges of a pull, checked and pinned. */
struct gather {
	struct iovec local[CW__SHM_BATCH], remote[CW__SHM_BATCH];
	struct cw_grant grants[CW__SHM_BATCH];
	unsigned count;
	uint64_t length;
};

/* Pins ranges of at most `budget` bytes together, or as many of them as can be had; moves nothing in the pull. */
static int gather(struct cw__shm_session *session, const struct pull *pull, uint64_t budget, struct gather *gather)
{
	struct cw_host *host = session->shm->host;
	uint64_t offset = pull->offset;

	gather->count = 0;
	gather->length = 0;
	for (uint32_t i = pull->at; i < pull->count && gather->count < CW__SHM_BATCH && budget; i++) {
		const struct cw__shm_piece *piece = &pull->pieces[i];
		uint64_t length = piece->length - offset < budget ? piece->length - offset : budget;
		struct cw_claim claim = { .region_id = pull->region,
					  .key = pull->key,
					  .address = piece->target + offset,
					  .length = length,
					  .op = CW_OP_WRITE };
		struct cw_grant *grant = &gather->grants[gather->count];
		int status = host->ops->access_begin(host, &claim, grant);

		if (status)
			return status == CW_ERR_AGAIN && gather->count ? CW_OK : status;
		gather->local[gather->count] = (struct iovec){ grant->pointer, grant->length };
		gather->remote[gather->count] =
			(struct iovec){ (void *)(uintptr_t)(piece->source + offset), grant->length };
		gather->count++;
		gather->length += grant->length;
		budget -= grant->length;
		if (grant->length < length)
			break;
		offset = 0;
	}
	return CW_OK;
}

/* CW_OK, or the first failure to bring bytes where they belong; but ERR_BUSY, some may land yet, outweighs the others.
 */
static int release(struct cw__shm_session *session, struct gather *gather, uint64_t moved)
{
	struct cw_host *host = session->shm->host;
	int failure = CW_OK;

	for (unsigned i = 0; i < gather->count; i++) {
		uint64_t length = gather->local[i].iov_len < moved ? gather->local[i].iov_len : moved;

		int status = host->ops->access_end(host, &gather->grants[i], length);

		if (!failure || status == CW_ERR_BUSY)
			failure = status;
		moved -= length;
	}
	return failure;
}

static void advance(struct pull *pull, uint64_t moved)
{
	while (moved) {
		uint64_t left = pull->pieces[pull->at].length - pull->offset;

		if (moved < left) {
			pull->offset += moved;
			return;
		}
		moved -= left;
		pull->offset = 0;
		pull->at++;
	}
}

/* Moves the first pull on by at most budget bytes; returns how many. */
static uint64_t pull_some(struct cw__shm_session *session, uint64_t budget)
{
	struct pull *pull = cw__container(session->pulls.next, struct pull, node);
	struct gather ranges;
	uint64_t moved = 0;
	int status, landed;

	if (pull->not_after && session->shm->host->ops->now() > pull->not_after) {
		pull_end(session, pull, CW_ERR_TIMED_OUT);
		return 0;
	}
	status = gather(session, pull, budget, &ranges);
	/* The initiator's memory is its own business: that it cannot be read is no statement about our region. */
	if (!status && cw__shm_read_fast(&session->shm->copier, &session->process, ranges.local, ranges.remote,
					 ranges.count, &moved))
		status = CW_ERR_IO;
	landed = release(session, &ranges, moved);
	if (!status || landed == CW_ERR_BUSY)
		status = landed;
	if (status) {
		pull_end(session, pull, status);
		return moved;
	}
	advance(pull, moved);
	if (pull->at == pull->count)
		pull_end(session, pull, CW_OK);
	return moved;
}

/* One chunk, then the other connections of the loop have their turn. */
static void pull_turn(struct cw__shm_session *session)
{
	uint64_t budget = CW_CHUNK_MAX;

	while (budget && !cw__list_empty(&session->pulls)) {
		uint64_t moved = pull_some(session, budget);

		budget -= moved < budget ? moved : budget;
	}
	if (!cw__list_empty(&session->pulls))
		cw__shm_session_wake(session);
}

/* --------------------------------------------------------------------------------------------- meeting */

static void say_welcome(struct cw__shm_session *session, int status)
{
	struct cw__shm *shm = session->shm;
	struct cw__shm_message welcome = { .type = CW__SHM_WELCOME, .status = status };

	welcome.hello.version = CW__SHM_VERSION;
	welcome.hello.flags = (uint16_t)((shm->grant ? CW__SHM_GRANT : 0) | (shm->attach ? CW__SHM_ATTACH : 0) |
					 (session->can_pull ? CW__SHM_ATTACHED : 0));
	memcpy(welcome.hello.instance, shm->proof, sizeof(shm->proof));
	welcome.hello.proof = (uintptr_t)shm->proof;
	cw__shm_channel_put(&session->channel, &welcome, -1);
}

static struct cw__shm_session *session_before(struct cw__shm_session *session)
{
	cw__list_each(node, &session->shm->sessions)
	{
		struct cw__shm_session *other = cw__container(node, struct cw__shm_session, node);

		/* Its state first: who it is may be read only once it serves. */
		if (other != session && (other->state == SERVING || other->state == LEAVING) &&
		    other->link == session->link &&
		    !memcmp(other->process.instance, session->process.instance, CW__SHM_INSTANCE_BYTES))
			return other;
	}
	return NULL;
}

/* On the loop where the session stays. What the same link had before ends first: when the initiator reads our welcome,
 * nothing that it asked for earlier can land any more. */
static void session_start(struct cw__shm_session *session)
{
	struct cw__shm *shm = session->shm;
	const struct cw_host_ops *ops = shm->host->ops;
	struct cw__shm_session *before;

	for (;;) {
		pthread_mutex_lock(&shm->lock);
		before = session_before(session);
		if (!before)
			session->state = SERVING;
		pthread_mutex_unlock(&shm->lock);
		if (!before)
			break;
		session_end(before);
	}
	session->channel.io.ready = session_ready;
	session->life.ready = life_ready;
	session->life.events = EPOLLIN;
	if ((!session->channel.io.loop && ops->io_add(session->loop, &session->channel.io)) ||
	    (session->life.fd >= 0 && ops->io_add(session->loop, &session->life))) {
		session_end(session);
		return;
	}
	say_welcome(session, CW_OK);
}

static void serve_hello(struct cw__shm_session *session, const struct cw__shm_message *hello)
{
	struct cw__shm *shm = session->shm;
	const struct cw_host_ops *ops = shm->host->ops;
	struct cw__shm_session *before;
	struct cw_loop *here = session->loop;
	int status = CW_OK;

	if (session->refused)
		status = CW_ERR_PERMISSION;
	else if (memcmp(hello->hello.expected, shm->proof, sizeof(shm->proof)) != 0)
		status = CW_ERR_PEER_RESTARTED;
	if (status) {
		say_welcome(session, status);
		session_end(session);
		return;
	}
	ops->timer_stop(here, &session->timer);
	memcpy(session->process.instance, hello->hello.instance, CW__SHM_INSTANCE_BYTES);
	session->process.proof = hello->hello.proof;
	session->link = hello->hello.link;
	session->can_map = shm->grant && (hello->hello.flags & CW__SHM_GRANT);
	session->can_pull =
		shm->attach && (hello->hello.flags & CW__SHM_ATTACH) && cw__shm_prove(&session->process) == CW_OK;
	pthread_mutex_lock(&shm->lock);
	session->state = MOVING;
	before = session_before(session);
	session->loop = before ? before->loop : NULL;
	pthread_mutex_unlock(&shm->lock);
	if (!session->loop)
		session->loop = ops->loop_pick(shm->host);
	if (session->loop == here) {
		session_start(session);
		return;
	}
	ops->io_remove(&session->channel.io);
	cw__shm_session_wake(session); /* nobody else knows the session yet */
}

/* The first message, on the listener's loop. Nothing may touch the session afterwards: it may be gone or elsewhere. */
static void meeting_ready(struct cw_io *io, uint32_t events)
{
	struct cw__shm_session *session =
		cw__container(cw__container(io, struct cw__shm_channel, io), struct cw__shm_session, channel);
	unsigned char buffer[CW__SHM_MESSAGE_MAX];
	struct cw__shm_message message;
	int fd = -1, status;

	(void)events;
	status = cw__shm_channel_receive(&session->channel, buffer, &message, &fd);
	if (fd >= 0)
		close(fd);
	if (status == CW_ERR_AGAIN)
		return;
	if (status == CW_ERR_CLOSED)
		session_end(session);
	else if (status || message.type != CW__SHM_HELLO)
		session_wrong(session, "shm: the first message is no hello");
	else
		serve_hello(session, &message);
}

/* ------------------------------------------------------------------------------------------ a session */

static void dispatch(struct cw__shm_session *session, const struct cw__shm_message *message)
{
	switch (message->type) {
	case CW__SHM_IMPORT:
		serve_import(session, message);
		break;
	case CW__SHM_DROP:
	case CW__SHM_REVOKED:
		grant_return(session, message->id);
		break;
	case CW__SHM_PULL:
		serve_pull(session, message);
		break;
	case CW__SHM_CANCEL:
		serve_cancel(session, message->id);
		break;
	default:
		session_wrong(session, "shm: a message of this type does not come from an initiator");
		break;
	}
}

/* 1 = there may be more. */
static int receive_one(struct cw__shm_session *session)
{
	unsigned char buffer[CW__SHM_MESSAGE_MAX];
	struct cw__shm_message message;
	int fd = -1, status = cw__shm_channel_receive(&session->channel, buffer, &message, &fd);

	if (fd >= 0)
		close(fd); /* initiators have nothing to give */
	if (status == CW_ERR_AGAIN)
		return 0;
	if (status == CW_ERR_CLOSED)
		session_end(session);
	else if (session->state == LEAVING)
		return 1;
	else if (status)
		session_wrong(session, "shm: malformed message");
	else
		dispatch(session, &message);
	return !session->dead;
}

static void session_unhold(struct cw__shm_session *session)
{
	session->held = 0;
	if (session->dead && !atomic_load_explicit(&session->posted, memory_order_acquire))
		session_free(session);
}

static void session_ready(struct cw_io *io, uint32_t events)
{
	struct cw__shm_session *session =
		cw__container(cw__container(io, struct cw__shm_channel, io), struct cw__shm_session, channel);
	int more = MESSAGES_PER_TURN;

	session->held = 1;
	if (events & EPOLLOUT)
		cw__shm_channel_flush(&session->channel);
	while (more && receive_one(session))
		more--;
	if (!session->dead && session->state == SERVING && !cw__list_empty(&session->pulls) &&
	    !atomic_load_explicit(&session->posted, memory_order_relaxed))
		pull_turn(session);
	session_unhold(session);
}

static void session_run(struct cw_task *task)
{
	struct cw__shm_session *session = cw__container(task, struct cw__shm_session, task);

	session->held = 1;
	atomic_store_explicit(&session->posted, 0, memory_order_release);
	if (!session->dead && session->state == MOVING)
		session_start(session);
	if (!session->dead && session->state == SERVING) {
		send_revokes(session);
		pull_turn(session);
	}
	session_unhold(session);
}

/* -------------------------------------------------------------------------------------------- listener */

static void session_open(struct cw__shm *shm, int fd)
{
	const struct cw_host_ops *ops = shm->host->ops;
	struct cw__shm_session *session = calloc(1, sizeof(*session));
	uid_t uid;

	if (!session || cw__shm_channel_who(fd, &session->process.pid, &uid)) {
		free(session);
		close(fd);
		return;
	}
	session->shm = shm;
	session->loop = shm->loop;
	session->refused = uid != shm->uid;
	session->task.run = session_run;
	session->timer.fire = meeting_over;
	session->life.fd = cw__shm_pidfd(session->process.pid);
	cw__list_init(&session->grants);
	cw__list_init(&session->pulls);
	cw__list_init(&session->spare);
	cw__shm_channel_init(&session->channel, shm->host, fd, SHUT_WR);
	session->channel.io.ready = meeting_ready;
	pthread_mutex_lock(&shm->lock);
	cw__list_push_back(&shm->sessions, &session->node);
	shm->session_count++;
	pthread_mutex_unlock(&shm->lock);
	if (ops->io_add(shm->loop, &session->channel.io)) {
		session_end(session);
		return;
	}
	ops->timer_set(shm->loop, &session->timer,
		       cw__after(ops->now(), ops->setting_number(shm->host, "control/idle_timeout", 5 * CW__SECOND)));
}

static void accept_ready(struct cw_io *io, uint32_t events)
{
	struct cw__shm *shm = cw__container(io, struct cw__shm, listener);

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), full;

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
				shm->host->ops->io_modify(io, 0);
				shm->host->ops->timer_set(shm->loop, &shm->accept_timer,
							  cw__after(shm->host->ops->now(), ACCEPT_PAUSE));
			}
			return;
		}
		pthread_mutex_lock(&shm->lock);
		full = shm->session_count >= SESSIONS_MAX;
		pthread_mutex_unlock(&shm->lock);
		if (full)
			close(fd);
		else
			session_open(shm, fd);
	}
}

static void accept_again(struct cw_timer *timer)
{
	struct cw__shm *shm = cw__container(timer, struct cw__shm, accept_timer);

	shm->host->ops->io_modify(&shm->listener, EPOLLIN);
}

static void listen_start(struct cw_task *task)
{
	struct cw__shm *shm = cw__container(task, struct cw__shm, listen_task);

	if (shm->host->ops->io_add(shm->loop, &shm->listener))
		shm->host->ops->log(shm->host, CW_LOG_ERROR, "shm: cannot watch the listener; peers will use tcp");
}

int cw__shm_listen(struct cw__shm *shm, const char **why_out)
{
	struct sockaddr_un address;
	socklen_t length = cw__shm_socket_address(shm->name, strlen(shm->name), &address, sizeof(address));

	shm->listener.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (shm->listener.fd < 0) {
		*why_out = "cannot open a unix socket; raise the limit of open files";
		return CW_ERR_LIMIT;
	}
	if (bind(shm->listener.fd, (struct sockaddr *)&address, length) || listen(shm->listener.fd, 128)) {
		close(shm->listener.fd);
		*why_out = "cannot listen on an abstract unix socket; is there a sandbox?";
		return CW_ERR_IO;
	}
	shm->listener.events = EPOLLIN;
	shm->listener.ready = accept_ready;
	shm->accept_timer.fire = accept_again;
	shm->listen_task.run = listen_start;
	shm->loop = shm->host->ops->loop_pick(shm->host);
	shm->host->ops->task_post(shm->loop, &shm->listen_task);
	return CW_OK;
}

/* No loop runs any more. */
void cw__shm_serve_close(struct cw__shm *shm)
{
	if (shm->listener.loop)
		shm->host->ops->io_remove(&shm->listener);
	shm->host->ops->timer_stop(shm->loop, &shm->accept_timer);
	shutdown(shm->listener.fd, SHUT_RDWR); /* a forked child may hold it too, and would never answer */
	close(shm->listener.fd);
	while (!cw__list_empty(&shm->sessions)) {
		struct cw__shm_session *session = cw__container(shm->sessions.next, struct cw__shm_session, node);

		atomic_store_explicit(&session->posted, 0, memory_order_relaxed); /* the task will not run */
		session_end(session);
	}
}
