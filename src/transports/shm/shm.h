/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the shm transport share. shm.c: the operations table and regions; peer.c: the initiator's side of a
 * session; serve.c: the target's; channel.c: packets on a unix socket; memory.c: mapping and cross-memory attach.
 */
#ifndef CW_TRANSPORTS_SHM_SHM_H
#define CW_TRANSPORTS_SHM_SHM_H

#include <causeway/plugin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <transports/shm/message.h>
#include <util/copier.h>
#include <util/list.h>

#define CW__SHM_RAIL_COPY 0u  /* copied by the initiator: granted memory, cross-memory reads */
#define CW__SHM_RAIL_PULL 1u  /* pulled by the target */
#define CW__SHM_PULLS_MAX 64u /* of one session at once; a power of two */
#define CW__SHM_BATCH 64u     /* pieces in one cross-memory read */

struct cw__shm {
	struct cw_host *host;
	int grant, attach; /* settings */
	uid_t uid;
	unsigned char proof[CW__SHM_INSTANCE_BYTES]; /* our instance id, for peers to read; cleared in close */
	struct cw__copier copier;
	char name[CW__SHM_NAME_MAX]; /* of our socket */
	_Atomic uint64_t links;      /* numbers for HELLO */
	struct cw_loop *loop;        /* of the listener */
	struct cw_io listener;
	struct cw_task listen_task;
	struct cw_timer accept_timer; /* after descriptors ran out; listener's loop */
	pthread_mutex_t lock;         /* guards all below; no service of the host that locks is called under it */
	struct cw__list sessions;     /* cw__shm_session.node */
	unsigned session_count;
	struct cw__list regions[256]; /* cw__shm_region.node, by id */
};

/* ------------------------------------------------------------------------------------------ channel.c */

/*
 * One connected SOCK_SEQPACKET socket on a loop. Errors of sending are not reported: the socket is shut down in one
 * direction, and the end is seen by whoever receives. Which direction decides the order in which both sides let go: it
 * is the initiator that sees the end first, whoever caused it, and the target only when the initiator has unmapped and
 * closed. All on the loop.
 */
struct cw__shm_channel {
	struct cw_host *host;
	struct cw_io io;
	int cut;             /* SHUT_RD in the initiator, SHUT_WR in the target */
	struct cw__list out; /* packets that the socket did not take */
	unsigned queued;
};

void cw__shm_channel_init(struct cw__shm_channel *channel, struct cw_host *host, int fd, int cut);
/* Sends now or queues; message_fd (or -1) is borrowed and goes along. */
void cw__shm_channel_send(struct cw__shm_channel *channel, const void *data, size_t length, int message_fd);
void cw__shm_channel_put(struct cw__shm_channel *channel, const struct cw__shm_message *message, int message_fd);
/* Sends now or returns ERR_AGAIN; the channel then watches for EPOLLOUT. */
int cw__shm_channel_try(struct cw__shm_channel *channel, const void *data, size_t length);
/* After EPOLLOUT: sends what waits. */
void cw__shm_channel_flush(struct cw__shm_channel *channel);
/* Receives and decodes one packet into buffer (CW__SHM_MESSAGE_MAX bytes). CW_OK, ERR_AGAIN (none there), ERR_CLOSED
 * (end) or ERR_PROTOCOL. *fd_out: a descriptor that came along, the caller's, or -1. */
int cw__shm_channel_receive(struct cw__shm_channel *channel, unsigned char *buffer, struct cw__shm_message *message_out,
			    int *fd_out);
/* Takes it off its loop; what is queued is dropped. The descriptor stays open. */
void cw__shm_channel_stop(struct cw__shm_channel *channel);
void cw__shm_channel_close(struct cw__shm_channel *channel);

/* The process at the other end of a connected socket, as the kernel knows it. ERR_IO when it does not. */
int cw__shm_channel_who(int fd, pid_t *pid_out, uid_t *uid_out);
/* A descriptor that becomes readable when the process ends; -1 when there is no such process or call. */
int cw__shm_pidfd(pid_t pid);
int cw__shm_pidfd_ended(int pidfd);
socklen_t cw__shm_socket_address(const void *name, size_t length, void *address_out, size_t capacity);

/* ------------------------------------------------------------------------------------------- memory.c */

/* A process whose memory we read, and how we know that it is still the one we mean: each read fetches its instance id
 * too. */
struct cw__shm_process {
	pid_t pid;
	uint64_t proof;
	unsigned char instance[CW__SHM_INSTANCE_BYTES];
};

/* Reads count ranges (at most CW__SHM_BATCH) that are as long on both sides. Errors: STALE_REGION (memory is not mapped
 * there), PEER_DOWN (no such process), PEER_RESTARTED (another process), PERMISSION, UNSUPPORTED. *moved_out is always
 * written. */
int cw__shm_read(const struct cw__shm_process *process, const struct iovec *local, const struct iovec *remote,
		 unsigned count, uint64_t *moved_out);
/* The same by two cores, where that is faster. */
int cw__shm_read_fast(struct cw__copier *copier, const struct cw__shm_process *process, const struct iovec *local,
		      const struct iovec *remote, unsigned count, uint64_t *moved_out);
/* Does the process prove its identity? As cw__shm_read() of nothing. */
int cw__shm_prove(const struct cw__shm_process *process);

struct cw__shm_mapping {
	void *start;
	size_t length;
	unsigned char *base; /* of the granted range */
};
/* Maps [offset, offset + length) of a memfd after checking that it cannot shrink and is long enough. Errors: PROTOCOL,
 * NO_MEMORY. */
int cw__shm_map(int fd, uint64_t offset, uint64_t length, int writable, struct cw__shm_mapping *mapping_out);
void cw__shm_unmap(struct cw__shm_mapping *mapping);

/* -------------------------------------------------------------------------------------- regions, shm.c */

/* One of our regions, as attached. Guarded by the transport's lock; freed by detach. */
struct cw__shm_region {
	struct cw__list node;    /* cw__shm.regions */
	struct cw__list grants;  /* cw__shm_grant.region_node */
	struct cw__list waiters; /* cw__shm_waiter.node: revocations that wait for the last grant */
	uint64_t id;
	int revoked; /* in part or whole: it is granted to nobody any more */
};

/* A peer may map or read a region. Guarded by the transport's lock. */
struct cw__shm_grant {
	struct cw__list session_node; /* cw__shm_session.grants */
	struct cw__list region_node;
	struct cw__shm_session *session;
	struct cw__shm_region *region; /* NULL when detached */
	uint64_t number;               /* the peer's for its import */
	int wanted, told;              /* REVOKE is to be sent, was sent */
};

struct cw__shm_waiter {
	struct cw__list node;
	struct cw_revocation *token;
};

/* With the lock: */
struct cw__shm_region *cw__shm_region_find(struct cw__shm *shm, uint64_t id);
/* Takes a grant out and frees it; waiters that have nothing to wait for any more go to `done`. */
void cw__shm_grant_end(struct cw__shm_grant *grant, struct cw__list *done);
/* Without the lock: reports and frees them. */
void cw__shm_waiters_report(struct cw__shm *shm, struct cw__list *done);

/* -------------------------------------------------------------------------------------------- serve.c */

int cw__shm_listen(struct cw__shm *shm, const char **why_out);
void cw__shm_serve_close(struct cw__shm *shm);
/* With the lock, any thread: the session's loop shall look at its grants. */
void cw__shm_session_wake(struct cw__shm_session *session);

/* --------------------------------------------------------------------------------------------- peer.c */

/* A region of a peer. Its fields do not change between import_done and the end of the import, so copies read them
 * unlocked. */
struct cw__shm_import {
	struct cw__list node; /* of the peer: asking, ready or revoking; loop */
	struct cw__shm_peer *peer;
	struct cw_import *token; /* while asking */
	uint64_t number;         /* on the wire */
	uint64_t region, key, address, length;
	uint32_t access;
	int can_read, can_pull; /* by cross-memory attach: we from it, it from us */
	struct cw__shm_process process;
	struct cw__shm_mapping mapping; /* start NULL = not granted */
	enum { CW__SHM_ASKING, CW__SHM_READY, CW__SHM_REVOKING } state;
	int returned, closed; /* REVOKING: the core said so; unmapped and freed after both */
};

int cw__shm_peer_open(void *transport, struct cw_peer *core_peer, const void *description, size_t length,
		      void **peer_out);
void cw__shm_peer_close(void *transport, void *peer);
void cw__shm_peer_lost(void *transport, void *peer, int status);
int cw__shm_import_region(void *transport, void *peer, const struct cw_remote_view *remote, const void *blob,
			  size_t length, struct cw_import *token, void **import_out);
void cw__shm_import_close(void *transport, void *peer, void *import);
unsigned cw__shm_post(void *transport, void *peer, unsigned rail, struct cw_slice **slices, unsigned count);
void cw__shm_cancel(void *transport, void *peer, struct cw_slice *slice);
/* Why a region of this peer has no import, as static text. Any thread. */
const char *cw__shm_peer_why(void *peer);

#endif
