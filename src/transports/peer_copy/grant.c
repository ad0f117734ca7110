/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's side: who holds our memory. A peer asks by ATTACH before it opens a handle, gets the handle in the
 * answer, and says DETACH when it has closed it. Between the two stands a grant, which a revocation waits for. Grants
 * also end when the process of their holder does; its end is seen by a pidfd.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <transports/peer_copy/inside.h>
#include <unistd.h>

#define HOLDERS_MAX 4096u
#define GRANTS_MAX 1048576u /* of one holder */

/* An engine of another process, or of ours, that holds regions. Guarded by the transport's lock. */
struct cw__pc_holder {
	struct cw__list node; /* cw__peer_copy.holders */
	struct cw__peer_copy *pc;
	unsigned char instance[CW__PC_INSTANCE_BYTES];
	pid_t pid;
	struct cw__list grants; /* cw__pc_grant.holder_node */
	unsigned grant_count;
	struct cw_io life;   /* pidfd, -1 for our own process; watched on pc->loop, and used there only */
	struct cw_task task; /* watches it, or lets it go when it holds nothing */
	int task_posted;
};

/* Transports that are open in this process: who claims to be in our process must be one of them. */
static pthread_mutex_t opened_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cw__list opened = { &opened, &opened };

/* ------------------------------------------------------------------------------------------- processes */

uint64_t cw__pc_process_start(pid_t pid)
{
	char path[32], text[1024], *at;
	size_t length;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = 0;
	at = strrchr(text, ')'); /* the name before it may hold anything */
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

static int is_ours(const unsigned char *instance)
{
	int found = 0;

	pthread_mutex_lock(&opened_lock);
	cw__list_each(node, &opened)
	{
		const struct cw__peer_copy *pc = cw__container(node, struct cw__peer_copy, opened);

		found |= !memcmp(pc->host->ops->instance(pc->host), instance, CW__PC_INSTANCE_BYTES);
	}
	pthread_mutex_unlock(&opened_lock);
	return found;
}

/* A descriptor that tells the end of the process that sent the message, -1 for our own; or an error. */
static int process_open(const unsigned char *instance, const struct cw__pc_message *attach, int *fd_out)
{
	pid_t pid = (pid_t)attach->pid;

	*fd_out = -1;
	if (pid == getpid())
		return is_ours(instance) ? CW_OK : CW_ERR_PERMISSION;
	*fd_out = (int)syscall(SYS_pidfd_open, pid, 0);
	if (*fd_out < 0)
		return CW_ERR_UNSUPPORTED;
	/* Looked at when the descriptor is there: the id means one process only from now on. */
	if (cw__pc_process_start(pid) == attach->start)
		return CW_OK;
	close(*fd_out);
	*fd_out = -1;
	return CW_ERR_PERMISSION;
}

/* ---------------------------------------------------------------------------------------------- grants */

void cw__pc_waiters_report(struct cw__peer_copy *pc, struct cw__list *done)
{
	struct cw__list *node;

	while ((node = cw__list_pop(done))) {
		struct cw__pc_waiter *waiter = cw__container(node, struct cw__pc_waiter, node);

		pc->host->ops->revoke_done(waiter->token);
		free(waiter);
	}
}

/* With the lock. Revocations that have nothing to wait for any more go to `done`. */
static void grant_end(struct cw__pc_holder *holder, struct cw__pc_grant *grant, struct cw__list *done)
{
	cw__list_remove(&grant->holder_node);
	cw__list_remove(&grant->region_node);
	holder->grant_count--;
	if (grant->region && cw__list_empty(&grant->region->grants))
		cw__list_splice(done, &grant->region->waiters);
	free(grant);
}

/* With the lock. */
static struct cw__pc_holder *holder_find(struct cw__peer_copy *pc, const unsigned char *instance)
{
	cw__list_each(node, &pc->holders)
	{
		struct cw__pc_holder *holder = cw__container(node, struct cw__pc_holder, node);

		if (!memcmp(holder->instance, instance, sizeof(holder->instance)))
			return holder;
	}
	return NULL;
}

/* With the lock. */
static void holder_wake(struct cw__pc_holder *holder)
{
	if (holder->task_posted)
		return;
	holder->task_posted = 1;
	holder->pc->host->ops->task_post(holder->pc->loop, &holder->task);
}

/* On pc->loop, or when no loop runs; off the list. */
static void holder_free(struct cw__pc_holder *holder)
{
	if (holder->life.loop)
		holder->pc->host->ops->io_remove(&holder->life);
	if (holder->life.fd >= 0)
		close(holder->life.fd);
	free(holder);
}

/* The process is gone, and what it held with it. */
static void holder_died(struct cw_io *io, uint32_t events)
{
	struct cw__pc_holder *holder = cw__container(io, struct cw__pc_holder, life);
	struct cw__peer_copy *pc = holder->pc;
	struct cw__list done;
	int posted;

	(void)events;
	cw__list_init(&done);
	pc->host->ops->io_remove(io);
	pthread_mutex_lock(&pc->lock);
	while (!cw__list_empty(&holder->grants))
		grant_end(holder, cw__container(holder->grants.next, struct cw__pc_grant, holder_node), &done);
	posted = holder->task_posted; /* then that lets it go */
	if (!posted) {
		cw__list_remove(&holder->node);
		pc->holder_count--;
	}
	pthread_mutex_unlock(&pc->lock);
	if (!posted)
		holder_free(holder);
	cw__pc_waiters_report(pc, &done);
}

static void holder_turn(struct cw_task *task)
{
	struct cw__pc_holder *holder = cw__container(task, struct cw__pc_holder, task);
	struct cw__peer_copy *pc = holder->pc;
	int idle;

	pthread_mutex_lock(&pc->lock);
	holder->task_posted = 0;
	idle = cw__list_empty(&holder->grants);
	if (idle) {
		cw__list_remove(&holder->node);
		pc->holder_count--;
	}
	pthread_mutex_unlock(&pc->lock);
	if (idle)
		holder_free(holder);
	else if (holder->life.fd >= 0 && !holder->life.loop && pc->host->ops->io_add(pc->loop, &holder->life))
		pc->host->ops->log(pc->host, CW_LOG_ERROR,
				   "%s: cannot watch process %d: if it dies, the memory that it holds stays in use",
				   pc->kind.name, (int)holder->pid);
}

/* With the lock. Takes the descriptor over when it makes a new holder, and sets it to -1. */
static struct cw__pc_holder *holder_get(struct cw__peer_copy *pc, const unsigned char *instance, pid_t pid, int *fd)
{
	struct cw__pc_holder *holder = holder_find(pc, instance);

	if (holder)
		return holder->pid == pid ? holder : NULL;
	if (pc->holder_count >= HOLDERS_MAX)
		return NULL;
	holder = calloc(1, sizeof(*holder));
	if (!holder)
		return NULL;
	holder->pc = pc;
	memcpy(holder->instance, instance, sizeof(holder->instance));
	holder->pid = pid;
	holder->life = (struct cw_io){ .fd = *fd, .events = EPOLLIN, .ready = holder_died };
	holder->task.run = holder_turn;
	cw__list_init(&holder->grants);
	cw__list_push_back(&pc->holders, &holder->node);
	pc->holder_count++;
	*fd = -1;
	return holder;
}

static struct cw__pc_grant *grant_find(struct cw__pc_holder *holder, uint64_t number)
{
	cw__list_each(node, &holder->grants)
	{
		struct cw__pc_grant *grant = cw__container(node, struct cw__pc_grant, holder_node);

		if (grant->number == number)
			return grant;
	}
	return NULL;
}

/* With the lock. */
static int grant_enter(struct cw__peer_copy *pc, const unsigned char *instance, const struct cw__pc_message *attach,
		       int *fd)
{
	struct cw__pc_region *region = cw__pc_region_find(pc, attach->region);
	struct cw__pc_holder *holder;
	struct cw__pc_grant *grant;

	/* Of host memory nobody was told that it can be had from us. */
	if (!region || region->side.device < 0)
		return CW_ERR_UNSUPPORTED;
	if (region->revoked)
		return CW_ERR_STALE_REGION;
	holder = holder_get(pc, instance, (pid_t)attach->pid, fd);
	if (!holder || holder->grant_count >= GRANTS_MAX)
		return CW_ERR_LIMIT;
	if (grant_find(holder, attach->number))
		return CW_ERR_INVALID;
	grant = calloc(1, sizeof(*grant));
	if (!grant) {
		holder_wake(holder);
		return CW_ERR_NO_MEMORY;
	}
	grant->region = region;
	grant->number = attach->number;
	/* The latest is the next to be given back, mostly. */
	cw__list_push_front(&holder->grants, &grant->holder_node);
	cw__list_push_back(&region->grants, &grant->region_node);
	holder->grant_count++;
	if (holder->life.fd >= 0 && holder->grant_count == 1)
		holder_wake(holder);
	return CW_OK;
}

static void grant_return(struct cw__peer_copy *pc, const unsigned char *instance, uint64_t number)
{
	struct cw__pc_holder *holder;
	struct cw__pc_grant *grant;
	struct cw__list done;

	cw__list_init(&done);
	pthread_mutex_lock(&pc->lock);
	holder = holder_find(pc, instance);
	grant = holder ? grant_find(holder, number) : NULL;
	if (grant) {
		grant_end(holder, grant, &done);
		if (!holder->grant_count)
			holder_wake(holder);
	}
	pthread_mutex_unlock(&pc->lock);
	cw__pc_waiters_report(pc, &done);
}

/* -------------------------------------------------------------------------------------------- messages */

/* With the lock: the answer to ATTACH. */
static void fill_envelope(struct cw__peer_copy *pc, const struct cw__pc_region *region, struct cw__pc_envelope *out)
{
	const struct cw__pc_export *export = region->export;
	uint64_t address = region->address;

	*out = (struct cw__pc_envelope){
		.vendor = (uint16_t)pc->gpu->vendor,
		.mode = export ? CW__PC_IPC : CW__PC_NONE,
		.device = region->side.device,
		.pid = (uint32_t)getpid(),
		.base = region->base ? region->base : address,
		.size = region->base ? region->size : 0,
		.offset = region->base ? address - region->base : 0,
		.length = region->length,
	};
	memcpy(out->instance, pc->host->ops->instance(pc->host), sizeof(out->instance));
	memcpy(out->pci, pc->gpu->pci[region->side.device], sizeof(out->pci));
	if (export)
		memcpy(out->handle, export->handle.bytes, sizeof(out->handle));
}

static int serve_attach(struct cw__peer_copy *pc, const unsigned char *instance, const struct cw__pc_message *attach,
			struct cw_blob *reply)
{
	const struct cw_host_ops *ops = pc->host->ops;
	const struct cw_region_view *view = ops->region_get(pc->host, attach->region, attach->key);
	unsigned char data[CW__PC_ENVELOPE_BYTES];
	struct cw__pc_envelope envelope;
	int fd = -1, status;

	if (!view)
		return CW_ERR_STALE_REGION;
	status = view->access & CW_ACCESS_REMOTE ? process_open(instance, attach, &fd) : CW_ERR_ACCESS;
	if (!status) {
		pthread_mutex_lock(&pc->lock);
		status = grant_enter(pc, instance, attach, &fd);
		if (!status)
			fill_envelope(pc, cw__pc_region_find(pc, attach->region), &envelope);
		pthread_mutex_unlock(&pc->lock);
	}
	ops->region_put(pc->host, view);
	if (fd >= 0)
		close(fd);
	if (!status)
		status = ops->blob_append(reply, data, cw__pc_envelope_encode(&envelope, data, sizeof(data)));
	if (status == CW_ERR_NO_MEMORY)
		grant_return(pc, instance, attach->number);
	return status;
}

int cw__peer_copy_message(void *transport, const unsigned char *instance, const void *data, size_t length,
			  struct cw_blob *reply)
{
	struct cw__peer_copy *pc = transport;
	struct cw__pc_message message;

	if (cw__pc_message_decode(data, length, &message)) {
		/* The core tells every transport of cancels that others understand; those begin with 0xca. */
		if (!length || *(const unsigned char *)data != 0xca)
			pc->host->ops->protocol_error(pc->host, pc->kind.name, "a malformed message");
		return CW_ERR_PROTOCOL;
	}
	if (message.type == CW__PC_ATTACH)
		return serve_attach(pc, instance, &message, reply);
	grant_return(pc, instance, message.number);
	return CW_OK;
}

/* ---------------------------------------------------------------------------------------- open and close */

void cw__pc_owner_open(struct cw__peer_copy *pc)
{
	cw__list_init(&pc->holders);
	pc->loop = pc->host->ops->loop_pick(pc->host);
	pthread_mutex_lock(&opened_lock);
	cw__list_push_back(&opened, &pc->opened);
	pthread_mutex_unlock(&opened_lock);
}

void cw__pc_owner_close(struct cw__peer_copy *pc)
{
	struct cw__list done, *node;

	pthread_mutex_lock(&opened_lock);
	cw__list_remove(&pc->opened);
	pthread_mutex_unlock(&opened_lock);
	cw__list_init(&done);
	while ((node = cw__list_pop(&pc->holders))) {
		struct cw__pc_holder *holder = cw__container(node, struct cw__pc_holder, node);

		while (!cw__list_empty(&holder->grants))
			grant_end(holder, cw__container(holder->grants.next, struct cw__pc_grant, holder_node), &done);
		holder_free(holder);
	}
	cw__pc_waiters_report(pc, &done);
}
