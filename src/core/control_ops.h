/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between core and control. The core calls control through struct cw__control_ops (one instance,
 * cw__control, in src/control); control calls the core through the cw__core_* functions below and through the
 * host services of plugin.h (loops, io, timers, log, settings). Neither includes another header of the other.
 */
#ifndef CW_CORE_CONTROL_OPS_H
#define CW_CORE_CONTROL_OPS_H

#include <causeway/plugin.h>
#include <wire/classic.h>
#include <wire/native.h>

struct cw__control; /* control's state for one engine */
struct cw__link;    /* control's side of one open segment (initiator) */

/* How control asks for one segment to be connected. Strings are borrowed during the call. */
struct cw__link_options {
	struct cw_loop *loop;         /* where everything of this link happens */
	const char *name;             /* as the user gave it, for messages */
	const char *const *addresses; /* numeric or not, "host:port"; tried in parallel */
	size_t address_count;
	uint64_t timeout; /* ns, for the whole opening and for each reconnection */
	void *segment;    /* the core's; handed back in every callback */
	int named;        /* 1 = the engine that answers must call itself `name` */
	/* What somebody else knows of the peer: a classic one is not asked for it, only whether it is there; one of
	 * ours is greeted at once, and asked only if another instance answers. Copied. NULL = the peer is asked. */
	const struct cw__descriptor *descriptor;
};

/* What a connected link knows. Borrowed from the link. */
struct cw__link_info {
	int classic;
	char address[64]; /* numeric host that answered */
	uint16_t port;
	const struct cw__descriptor *descriptor; /* always there: the classic document is fetched first */
	const struct cw__welcome *welcome;       /* NULL when classic */
	uint64_t clock_offset; /* unused for classic: peer's clock minus ours, a lower bound, as two's complement */
};

/* The answer to a request; on the link's loop, once. body is borrowed. A lost connection gives ERR_PEER_DOWN. */
typedef void (*cw__answer_fn)(void *arg, int status, const void *body, size_t length);

struct cw__control_ops {
	/* Binds the listener (settings control/bind, control/port, control/port_min, control/port_max) and serves. The
	 * chosen port goes to *port_out. Caller's thread. host stays valid until close. */
	int (*open)(struct cw_host *host, struct cw__control **control_out, uint16_t *port_out, const char **why_out);
	/* Stops listening and closes every connection; says BYE where that is cheap. Caller's thread, no loop is
	 * running any more. */
	void (*close)(struct cw__control *control);

	/* Starts to connect; cw__core_link_up() or cw__core_link_down() follows on the loop, then, as the connection
	 * comes and goes, more of them. Caller's thread (resolves names there). Errors: ADDRESS, NO_MEMORY. */
	int (*link_open)(struct cw__control *control, const struct cw__link_options *options,
			 struct cw__link **link_out);
	/* On the loop. No callback comes afterwards; requests still open are answered with ERR_CLOSED first. */
	void (*link_close)(struct cw__link *link);
	/* On the loop: connect again now if the connection is down (else nothing). Link_up/link_down tells the outcome.
	 * The instance is checked: another one gives link_down with ERR_PEER_RESTARTED. */
	void (*link_retry)(struct cw__link *link);
	/* On the loop, for a link that was opened with a classic descriptor: the peer is elsewhere now, or another
	 * process. Connects to the new addresses, which are numeric, and goes on as after link_retry. */
	void (*link_move)(struct cw__link *link, const struct cw__link_options *options);

	/* Sends a native request (enum cw__control_type) and reports its answer; timeout in ns gives ERR_TIMED_OUT. On
	 * the loop. Errors (then no answer follows): PEER_DOWN, NO_MEMORY, UNSUPPORTED (classic). */
	int (*request)(struct cw__link *link, uint16_t type, const void *body, size_t length, uint64_t timeout,
		       cw__answer_fn answer, void *arg);
	/* One classic exchange on a connection of its own: METADATA, NOTIFY or PROBE; the answer's body is its JSON. On
	 * the loop. */
	int (*classic_request)(struct cw__link *link, enum cw__classic_type type, const char *json, size_t length,
			       uint64_t timeout, cw__answer_fn answer, void *arg);
	/* Pushes REGION_GONE to every connected native initiator. Any thread. */
	void (*region_gone)(struct cw__control *control, uint64_t region_id);
	/* 1 when a native control connection of this initiator is open now. Any thread. */
	int (*initiator_alive)(struct cw__control *control, const unsigned char *instance);
};

extern const struct cw__control_ops cw__control;

/* ------------------------------------------------------- what control calls in the core: initiator */

/* All on the link's loop. */
void cw__core_link_up(void *segment, const struct cw__link_info *info);
/* status: ERR_CONNECT, ERR_TIMED_OUT (first opening), ERR_PEER_DOWN, ERR_PEER_RESTARTED, ERR_PROTOCOL; text: one line.
 */
void cw__core_link_down(void *segment, int status, const char *text);
/* The peer pushed REGION_GONE. */
void cw__core_region_gone(void *segment, uint64_t region_id);

/* ---------------------------------------------------------- what control calls in the core: target */

/* On the loop of the connection. */

/* The engine's classic descriptor, malloc'ed JSON. */
char *cw__core_descriptor(struct cw_host *host, int with_buffers, size_t *length_out);
/* Fills the fields of a welcome that the core knows (instance, machine, pid, name, transports); blobs live until the
 * next call on this loop. */
void cw__core_welcome(struct cw_host *host, struct cw__welcome *welcome);
/* RESOLVE: appends an encoded region record. Errors: NOT_REGISTERED, ACCESS. */
int cw__core_resolve(struct cw_host *host, const struct cw__resolve *resolve, struct cw_blob *out);
/* LIST: appends the reply body of CW__CONTROL_LIST. */
int cw__core_list(struct cw_host *host, uint64_t first, struct cw_blob *out);
/* A notification arrived; instance is zero and sequence 0 for classic senders. Duplicates are dropped by instance and
 * sequence and answer CW_OK. ERR_LIMIT: too many wait unread (setting notify/max_pending). */
int cw__core_notify(struct cw_host *host, const unsigned char *instance, uint64_t sequence, struct cw__text sender,
		    struct cw__text name, const void *data, size_t length);
/* A transport's message; the reply is appended. ERR_NOT_FOUND: no such transport here. */
int cw__core_message(struct cw_host *host, const unsigned char *instance, struct cw__text transport, const void *data,
		     size_t length, struct cw_blob *reply);
/* A data connection began: hands it to the transport named in its hello (first: all bytes read so far, magic and
 * hello), which owns fd then. ERR_NOT_FOUND: nobody takes it; the caller closes. */
int cw__core_accept(struct cw_host *host, struct cw_loop *loop, struct cw__text transport, int fd, const void *first,
		    size_t length);
/* CANCEL from an initiator: told to every transport as a message {u8 0xCA} + encoded cancel through its message hook.
 */
int cw__core_cancel(struct cw_host *host, const unsigned char *instance, const void *body, size_t length);

#endif
