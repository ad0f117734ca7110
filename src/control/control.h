/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structures of control, shared by the files of this folder only. Two halves:
 *   target     listener.c accepts and tells connections apart; classic_server.c and native_server.c answer them.
 *   initiator  link.c connects to a peer with dials (dial.c) and then speaks over the link (request.c).
 * Both stand on stream.c (buffered, non-blocking bytes) and socket.c (options, addresses).
 *
 * Threads: everything accepted lives on control->loop, everything of a link on the loop of the link. Only what says
 * "lock" may be touched from elsewhere.
 */
#ifndef CW_CONTROL_CONTROL_H
#define CW_CONTROL_CONTROL_H

#include <core/control_ops.h>
#include <pthread.h>
#include <sys/socket.h>
#include <util/clock.h>
#include <util/list.h>

#define CW__REPLIES_MAX (1024u * 1024)       /* unsent bytes of replies above which requests are not read */
#define CW__REQUESTS_MAX (64u * 1024 * 1024) /* unsent bytes of requests on one link */

/* ------------------------------------------------------------------------------------ stream.c */

/* Bytes [start, end) of data count. Grows as bytes really arrive, never by what a peer announces. */
struct cw__buffer {
	unsigned char *data;
	size_t start, end, capacity;
};

/* A non-blocking socket with a buffer for each direction. Its owner calls fill, send and flush from io.ready and then
 * update. */
struct cw__control_stream {
	struct cw_io io; /* fd -1 = closed */
	struct cw_host *host;
	struct cw__buffer in, out;
	int reading; /* 1 = the owner wants to know about input */
	int again;   /* 1 = call ready again soon although nothing happens at the socket */
};

/* Watches fd for `reading` and for a connect to end. The stream owns fd from now on, also on failure. */
int cw__control_stream_open(struct cw__control_stream *stream, struct cw_host *host, struct cw_loop *loop, int fd,
			    void (*ready)(struct cw_io *io, uint32_t events));
/* Closes the socket; the buffers stay readable until cw__control_stream_free(). Both may be called twice. */
void cw__control_stream_close(struct cw__control_stream *stream);
void cw__control_stream_free(struct cw__control_stream *stream);
/* Gives the socket away: it is no longer watched. */
int cw__control_stream_release(struct cw__control_stream *stream);

static inline size_t cw__control_stream_held(const struct cw__control_stream *stream)
{
	return stream->in.end - stream->in.start;
}

static inline const unsigned char *cw__control_stream_data(const struct cw__control_stream *stream)
{
	return stream->in.data + stream->in.start;
}

static inline size_t cw__control_stream_unsent(const struct cw__control_stream *stream)
{
	return stream->out.end - stream->out.start;
}

/* Reads until the input holds `until` bytes, or no more is there, or this turn's share is used up. The end of the
 * stream (ERR_CLOSED) and failures (ERR_IO, see errno; ERR_NO_MEMORY) are reported only when nothing came before them.
 */
int cw__control_stream_fill(struct cw__control_stream *stream, size_t until);
void cw__control_stream_consume(struct cw__control_stream *stream, size_t length);
/* Reads and drops what is there: CW_OK, ERR_CLOSED at the end, ERR_IO. */
int cw__control_stream_drain(struct cw__control_stream *stream);
/* Room for length bytes of output, to be filled by the caller; they count as written. NULL = no memory. */
unsigned char *cw__control_stream_room(struct cw__control_stream *stream, size_t length);
int cw__control_stream_write(struct cw__control_stream *stream, const void *data, size_t length);
/* Takes back the last length bytes of room, before any flush. */
void cw__control_stream_unwrite(struct cw__control_stream *stream, size_t length);
/* Sends what the socket takes, up to this turn's share. ERR_IO: the connection is broken, see errno. */
int cw__control_stream_flush(struct cw__control_stream *stream);
/* Watches for what the stream needs now. */
int cw__control_stream_update(struct cw__control_stream *stream);

/* ------------------------------------------------------------------------------------ socket.c */

#define CW__TARGETS_MAX 32

/* An address to connect to. */
struct cw__target {
	struct sockaddr_storage address;
	socklen_t length;
	uint16_t port;
	char host[64]; /* numeric */
	char text[80]; /* "host:port" */
};

int cw__target_set(struct cw__target *target, const struct sockaddr *address, socklen_t length);
/* Appends what "host:port" stands for. Waits for a name server until then; 0 = never asks one (and so never blocks).
 * Returns the new count. */
size_t cw__targets_resolve(const char *text, uint64_t until, struct cw__target *targets, size_t count);
/* The numeric address of the other end, for messages. */
void cw__control_socket_peer(int fd, char *text, size_t size);
void cw__control_socket_nodelay(int fd);
/* The kernel ends the connection when the peer is silent on the network for timeout ns. */
void cw__control_socket_keepalive(int fd, uint64_t timeout);
/* A bound, listening, non-blocking socket; *why_out gets a line on failure. */
int cw__control_socket_listen(struct cw_host *host, int *fd_out, uint16_t *port_out, const char **why_out);

/* ---------------------------------------------------------------------------------- target side */

struct cw__control {
	struct cw_host *host;
	struct cw_loop *loop;
	struct cw_io listener;
	int listening;         /* the listener is watched */
	struct cw_timer pause; /* accepting stopped for lack of descriptors */
	struct cw_task start;
	struct cw__list connections;  /* cw__connection.node */
	struct cw__list unidentified; /* cw__connection.unidentified_node, oldest first */
	size_t connection_count, unidentified_count;
	size_t connections_max, unidentified_max, classic_max;
	uint64_t idle_timeout, peer_timeout; /* ns */
	int classic;
	pthread_mutex_t lock;       /* what follows; lists change on the loop only unless they say so */
	struct cw__list initiators; /* cw__connection.initiator_node */
	struct cw__list gone;       /* cw__gone.node; any thread */
	int gone_posted;
	struct cw_task gone_task;
	struct cw__list handovers; /* cw__handover.node */
	struct cw__list links;     /* cw__link.node; any thread */
};

/* An accepted connection. */
struct cw__connection {
	struct cw__control_stream stream;
	struct cw__control *control;
	struct cw__list node, unidentified_node, initiator_node;
	struct cw_timer deadline;
	/* Looks at the `wanted` bytes (at least) that the input holds and consumes them. A status other than CW_OK
	 * closes. */
	int (*parse)(struct cw__connection *connection);
	size_t wanted;
	size_t ahead;    /* read up to so many bytes even if fewer are wanted */
	int finishing;   /* the last answer is written: send it, then wait for the peer to close */
	int half_closed; /* our direction was shut down */
	int handed_over; /* the socket is somebody else's now */
	unsigned char instance[CW__INSTANCE_BYTES]; /* of a native initiator */
};

/* Ends the connection in good order once everything written is sent. */
void cw__connection_finish(struct cw__connection *connection);
/* It said what it wants: it does not count as unidentified any more. */
void cw__connection_identified(struct cw__connection *connection);
void cw__connection_close(struct cw__connection *connection);
/* Sends what was written outside of parse. May close. */
void cw__connection_push(struct cw__connection *connection);
/* Counts a malformed message; returns ERR_PROTOCOL. */
int cw__connection_bad(struct cw__connection *connection, const char *what);

/* The parsers that the first 8 bytes choose. */
int cw__classic_begin(struct cw__connection *connection);
int cw__native_begin(struct cw__connection *connection);
void cw__native_gone(struct cw_task *task);
void cw__native_forget(struct cw__control *control);
void cw__region_gone(struct cw__control *control, uint64_t region_id);
int cw__initiator_alive(struct cw__control *control, const unsigned char *instance);

/* -------------------------------------------------------------------------------------- dial.c */

/* One connection outwards: connects, sends one message, collects one reply. Embedded in its owner. */
struct cw__dial {
	struct cw__control_stream stream;
	struct cw__list node; /* the owner's */
	void *owner;          /* the owner's */
	struct cw__target target;
	int native; /* the reply starts with magic and length; else with a classic length */
	int connected;
	size_t reply_max, wanted;
	int error; /* errno behind a failure, or 0 */
	/* Once, on the loop; may free the dial. CW_OK: the whole reply is in the stream. ERR_CONNECT, ERR_PEER_DOWN
	 * (connected, but no reply came), ERR_PROTOCOL (a bad length), ERR_NO_MEMORY. */
	void (*done)(struct cw__dial *dial, int status);
};

/* Copies request. On failure done is not called, and the dial is stopped. target, native, reply_max and done are set.
 */
int cw__dial_start(struct cw__dial *dial, struct cw_host *host, struct cw_loop *loop, const void *request,
		   size_t length);
void cw__dial_stop(struct cw__dial *dial);
/* What to say about a failure. */
const char *cw__dial_reason(const struct cw__dial *dial, int status);
/* The JSON of a whole classic reply, borrowed; ERR_PROTOCOL when its type is another. */
int cw__dial_classic_reply(const struct cw__dial *dial, enum cw__classic_type type, const char **json_out,
			   size_t *length_out);

/* ------------------------------------------------------------------------- link.c and request.c */

#define CW__PENDING_BUCKETS 64

enum cw__link_phase {
	CW__LINK_DOWN,
	CW__LINK_FETCHING, /* the descriptor, from several addresses */
	CW__LINK_GREETING, /* hello and welcome */
	CW__LINK_PROBING,  /* a sign of life of a classic peer whose descriptor is known */
	CW__LINK_UP
};

/* Everything on its loop. Memory: freed when it is closed, no callback of it is running and its start task ran. */
struct cw__link {
	struct cw__control *control;
	struct cw_host *host;
	struct cw_loop *loop;
	void *segment;
	char name[256];
	uint64_t timeout;
	struct cw__list node; /* control->links; control->lock */
	struct cw_task start;
	int start_posted; /* control->lock is not needed: cleared on the loop */
	unsigned entered; /* callbacks of this link that run now */
	int closed;

	enum cw__link_phase phase;
	int described;        /* descriptor counts */
	int named;            /* its name must be ours for the peer */
	int given_descriptor; /* it is a classic peer's, and not its to say */
	int was_up;           /* target and info count, too */
	int refetched;        /* this reconnection looked at the descriptor already */
	int failure;          /* the most telling failure of this attempt */
	char failure_text[200];
	struct cw__target given[CW__TARGETS_MAX]; /* from the name */
	size_t given_count;
	struct cw__target race[CW__TARGETS_MAX]; /* to be tried now, best first */
	size_t race_count, race_next;
	struct cw__list dials;    /* cw__dial.node: racing now */
	struct cw_timer stagger;  /* the next one starts */
	struct cw_timer deadline; /* of the attempt */

	struct cw__target target; /* the one that answered */
	struct cw__descriptor descriptor;
	struct cw__buffer welcome_bytes;
	struct cw__welcome welcome;
	struct cw__link_info info;

	struct cw__control_stream stream;             /* the native connection */
	uint64_t sequence;                            /* of the last request */
	struct cw__list pending[CW__PENDING_BUCKETS]; /* cw__pending.node, by sequence */
	struct cw__list spare;                        /* cw__pending.node: to be used again */
	unsigned spare_count;
	struct cw__list exchanges; /* cw__exchange.dial.node */
};

/* Around everything that may call the core: a link closed meanwhile stays readable until the last leave. */
static inline void cw__link_enter(struct cw__link *link)
{
	link->entered++;
}
void cw__link_leave(struct cw__link *link);

int cw__link_open(struct cw__control *control, const struct cw__link_options *options, struct cw__link **link_out);
void cw__link_close(struct cw__link *link);
void cw__link_retry(struct cw__link *link);
void cw__link_move(struct cw__link *link, const struct cw__link_options *options);
/* Frees links that were closed but whose start task will never run. */
void cw__links_free(struct cw__control *control);
/* The established connection ended: answers what is pending, then tells the core. */
void cw__link_lost(struct cw__link *link, int status, const char *why);

/* Takes over the greeted socket / gives it up in good order. */
int cw__link_adopt(struct cw__link *link, int fd);
void cw__link_goodbye(struct cw__link *link);
int cw__link_request(struct cw__link *link, uint16_t type, const void *body, size_t length, uint64_t timeout,
		     cw__answer_fn answer, void *arg);
int cw__link_classic_request(struct cw__link *link, enum cw__classic_type type, const char *json, size_t length,
			     uint64_t timeout, cw__answer_fn answer, void *arg);
void cw__requests_init(struct cw__link *link);
/* Answers every native request with status. */
void cw__requests_end(struct cw__link *link, int status);
/* Answers every classic exchange with status. */
void cw__exchanges_end(struct cw__link *link, int status);
void cw__requests_free(struct cw__link *link);

#endif
