/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the tcp transport share. It speaks two languages, on both sides:
 *     native:  initiator.c  -> target.c          scatter vectors, keys, answers by id; one port with control
 *     classic: classic_initiator.c -> classic_target.c     Mooncake's data protocol, on a second port
 * serve.c moves bytes between a socket and granted memory for both targets; socket.c opens sockets; stream.c is all
 * that touches them afterwards; tcp.c is the ops table.
 *
 * What describe() appends: u16 the port of the classic listener, little-endian, 0 = none. The core puts it into the
 * classic descriptor too.
 */
#ifndef CW_TCP_TCP_H
#define CW_TCP_TCP_H

#include <causeway/plugin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <util/list.h>
#include <wire/native.h>

#define CW__TCP_PIECES_MAX 256u     /* in one slice */
#define CW__TCP_FRAMES 16u          /* slices in flight on one rail */
#define CW__TCP_VISIT (1024 * 1024) /* bytes moved on one connection before others get their turn */
#define CW__TCP_RAILS_MAX 64u
#define CW__TCP_TRIES 6u /* connections that fail in a row before a rail waits for the next post() */

/* The first byte of a message between two tcp transports; an encoded cw__cancel follows. The core sends the first for a
 * CANCEL of the control protocol, an initiator the second. They mean the same. */
#define CW__TCP_CANCEL_CONTROL 0xCA
#define CW__TCP_CANCEL_RAIL 0xCB

/* Settings, read once at open. Times in ns. */
struct cw__tcp_settings {
	unsigned connections;
	uint64_t slice;
	uint64_t connect_timeout, peer_timeout, stall_timeout, idle_timeout;
	uint64_t max_connections;
	unsigned classic_protocol;
	const char *congestion_control; /* NULL = the system's */
};

struct cw__tcp_listener;

/* The transport of one engine. Freed by close. */
struct cw__tcp {
	struct cw_host *host;
	struct cw__tcp_settings settings;  /* constant */
	atomic_uint_fast64_t accepted;     /* connections alive, both languages */
	pthread_mutex_t lock;              /* guards the two lists and what target.c says it guards */
	struct cw__list served;            /* native connections, struct served */
	struct cw__list classic_served;    /* struct classic_served */
	struct cw__tcp_listener *listener; /* NULL = off */
	uint16_t classic_port;             /* 0 = off */
};

/* How to speak to a peer. All on the peer's loop; `rails` is the language's own. */
struct cw__tcp_language {
	int (*open)(struct cw__tcp *tcp, struct cw_peer *peer, void **rails_out);
	void (*close)(void *rails);
	void (*lost)(void *rails, int status);
	unsigned (*post)(void *rails, unsigned rail, struct cw_slice **slices, unsigned count);
	void (*cancel)(void *rails, struct cw_slice *slice);
	const char *checks, *why; /* for the path report */
};
extern const struct cw__tcp_language cw__tcp_native, cw__tcp_classic;

/* ---------------------------------------------------------------------------------------- socket.c */

/* Starts to connect a tuned non-blocking socket. CW_OK with *fd_out, which becomes writable when there is an outcome;
 * ERR_ADDRESS, ERR_CONNECT (refused at once), ERR_IO. */
int cw__tcp_dial(const struct cw__tcp *tcp, const char *address, uint16_t port, int *fd_out);
/* The outcome: CW_OK, and the socket is tuned for where it leads, or ERR_CONNECT. */
int cw__tcp_dial_result(const struct cw__tcp *tcp, int fd);
/* Listens on a numeric or resolvable host. CW_OK with *fd_out and *port_out; ERR_ADDRESS, ERR_IO. */
int cw__tcp_listen(const char *host, uint16_t port, int *fd_out, uint16_t *port_out);
/* Options of every data socket: no delay, keepalive, time until unacknowledged data means a dead peer, congestion
 * control. */
void cw__tcp_tune(const struct cw__tcp *tcp, int fd);
/* How long to wait before connecting again after `tries` failures in a row; CW_FOREVER = not any more. */
uint64_t cw__tcp_backoff(unsigned tries);

/* ---------------------------------------------------------------------------------------- target.c */

void cw__tcp_serve(struct cw__tcp *tcp, struct cw_loop *loop, int fd, const void *first, size_t length);
/* The initiator gave these frames up: when this returns nothing of them lands any more. Any thread. */
int cw__tcp_discard(struct cw__tcp *tcp, const unsigned char *instance, const struct cw__cancel *cancel);
/* Frees every native connection. No loop runs. */
void cw__tcp_serve_close(struct cw__tcp *tcp);

/* -------------------------------------------------------------------------------- classic_target.c */

/* Opens the second listener on the address the engine listens on. On failure *why_out gets one line. */
int cw__tcp_classic_listen(struct cw__tcp *tcp, const char **why_out);
/* Frees the listener and every classic connection. No loop runs. */
void cw__tcp_classic_serve_close(struct cw__tcp *tcp);

#endif
