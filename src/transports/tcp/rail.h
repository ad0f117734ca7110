/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A native rail: one data connection and the slices on it. rail.c sends frames and takes answers; initiator.c connects,
 * breaks, cancels and talks to the core. Everything is on the peer's loop.
 */
#ifndef CW_TCP_RAIL_H
#define CW_TCP_RAIL_H

#include "stream.h"
#include "tcp.h"

#define CW__RAIL_HEAD_MAX (CW__DATA_HEADER_BYTES + CW__TCP_PIECES_MAX * CW__DATA_PIECE_BYTES)

enum cw__tcp_rail_stage { RAIL_DOWN, RAIL_CONNECTING, RAIL_GREETING, RAIL_UP };
enum cw__tcp_frame_stage { FRAME_FREE, FRAME_QUEUED, FRAME_SENDING, FRAME_SENT, FRAME_SUSPECT };

/* One slice on its way. */
struct cw__tcp_frame {
	struct cw__list link;   /* in rail->queue while QUEUED */
	struct cw_slice *slice; /* NULL: it was given up; what still comes for it is dropped */
	enum cw__tcp_frame_stage stage;
	int write, fenced;
	uint64_t id; /* slot and a count: never reused on this rail */
	uint64_t length;
	uint64_t moved;  /* payload bytes sent or received */
	uint64_t hashed; /* payload bytes in crc, before a checksummed WRITE goes out */
	uint32_t crc;
	uint64_t give_up; /* canceled: when to stop waiting for the target; 0 = not canceled */
};

struct cw__tcp_rails;

struct cw__tcp_rail {
	struct cw__tcp_rails *rails;
	unsigned index;
	enum cw__tcp_rail_stage stage;
	struct cw_io io;
	struct cw_timer timer; /* the next of: connecting takes too long, connect again, a frame's give_up */
	struct cw__tcp_stream stream;
	struct cw__tcp_input input;
	uint64_t deadline; /* of connecting or greeting; when DOWN: when to connect again, or CW_FOREVER */
	unsigned tries;    /* connections in a row that carried no answer */
	uint64_t number;   /* of this connection */
	uint64_t replaces; /* the connection that suspects were sent on; 0 = none */
	int last_try;      /* the peer is said to be dead: the next failure is the end of trying */
	int reported_down;
	int busy;    /* inside an event: it will send and tell, no need to do it in post() */
	int hungry;  /* post() took fewer than offered */
	int blocked; /* the socket takes no more for now */

	struct cw__tcp_frame frames[CW__TCP_FRAMES];
	uint64_t frame_count;          /* ever */
	unsigned inflight, unanswered; /* frames in use, and those of them that were sent */
	uint64_t unanswered_bytes;
	uint64_t credits, credit_bytes; /* what the target allows of the latter */
	struct cw__list queue;
	struct cw__tcp_frame *sending, *receiving;
	struct cw__data_header answer;         /* of receiving */
	unsigned char head[CW__RAIL_HEAD_MAX]; /* of sending */
	size_t head_length, head_sent;
};

/* The clock of the peer minus ours, from below: each stamp was old when it came. The best of the last two windows
 * counts, so that an estimate does not outlive the drift of the clocks. */
struct cw__tcp_clock_offset {
	int known;
	int64_t best, best_before;
	uint64_t window;
};

/* All rails of a peer, and the cancels that wait for replies. Freed by close. */
struct cw__tcp_rails {
	struct cw__tcp *tcp;
	struct cw_peer *peer;
	struct cw__tcp_clock_offset offset;
	int dead; /* CW_OK, or why there is no way back */
	struct cw__list cancels;
	unsigned count;
	struct cw__tcp_rail rails[];
};

static inline const struct cw_host_ops *cw__tcp_rail_host(const struct cw__tcp_rail *rail)
{
	return rail->rails->tcp->host->ops;
}

void cw__tcp_clock_sample(struct cw__tcp_clock_offset *offset, uint64_t stamp, uint64_t now);

/* Queues a slice; NULL when all frames are in use. */
struct cw__tcp_frame *cw__tcp_frame_new(struct cw__tcp_rail *rail, struct cw_slice *slice);
struct cw__tcp_frame *cw__tcp_frame_find(struct cw__tcp_rail *rail, uint64_t id);
/* The end of the frame's slice, and of the frame. */
void cw__tcp_frame_end(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame, int status, enum cw_remote_state remote);
/* The end of its slice only: the frame stays until the target has answered it. */
void cw__tcp_frame_orphan(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame, int status,
			  enum cw_remote_state remote);

/* Sends while the socket takes it. CW_OK or ERR_IO: the connection is broken. */
int cw__tcp_rail_send(struct cw__tcp_rail *rail, int64_t *budget);
/* Is there anything that a writable socket would help to send? */
int cw__tcp_rail_wants_to_send(const struct cw__tcp_rail *rail);
/* Takes what has arrived. CW_OK: it waits for more, or for the next turn. Else the connection is broken: ERR_IO,
 * ERR_PROTOCOL. */
int cw__tcp_rail_receive(struct cw__tcp_rail *rail, int64_t *budget);

#endif
