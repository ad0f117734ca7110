/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Towards a Mooncake engine: each rail is one connection ("lane"), each contiguous piece of a slice one request on it,
 * pipelined and answered in order. Version 2 acknowledges each write; after a version 1 write its last byte is read back on
 * the same connection, whose answer is the acknowledgement, because the peer serves a connection in order.
 *
 * A classic peer can be asked nothing: when a connection ends after bytes of a write went out, and the peer did not say
 * that it refused them, what happened over there is UNKNOWN.
 */
#include "stream.h"
#include "tcp.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <wire/classic.h>

#define INPUT_BYTES (64u * 1024)
#define DIRECT_BYTES (INPUT_BYTES / 2) /* a shorter piece is cheaper to copy than to ask for alone */
#define PARTS_MAX 32u                  /* pieces in one call */

enum lane_stage { LANE_DOWN, LANE_CONNECTING, LANE_UP };

/* One slice on its way; its requests are those of its pieces. */
struct transfer {
	struct cw_slice *slice; /* NULL: it was given up */
	int write, begun;       /* begun: bytes of it went out */
	uint64_t length;
	uint64_t sent;          /* requested, and for a WRITE sent: bytes from its start */
	uint64_t answered;      /* acknowledged or received */
	uint64_t drop;          /* bytes of answers that are still to come for a slice that was given up */
};

struct lanes;

struct lane {
	struct lanes *lanes;
	unsigned index;
	enum lane_stage stage;
	struct cw_io io;
	struct cw_timer timer; /* connecting takes too long, or connect again */
	struct cw__stream stream;
	struct cw__input input;
	unsigned tries;
	int reported_down, busy, hungry, blocked;

	/* Transfers [first, next) modulo the size of the ring are in flight; those before current are sent. */
	struct transfer ring[CW__TCP_FRAMES];
	unsigned first, current, next;
	size_t header_sent;     /* of the request that goes out */
	uint64_t piece_unsent;  /* payload of it, when its header is out */
	uint64_t piece_unread;  /* payload of the READ that comes in, when its status is in */
	int asked_back;         /* version 1: the header that goes out asks for the last byte of a WRITE */
};

/* All lanes of a peer. Freed by close. */
struct lanes {
	struct cw__tcp *tcp;
	struct cw_peer *peer;
	int closing;
	unsigned version;
	unsigned count;
	struct lane lanes[];
};

static const struct cw_host_ops *host_of(const struct lane *lane)
{
	return lane->lanes->tcp->host->ops;
}

static struct transfer *at(struct lane *lane, unsigned position)
{
	return &lane->ring[position % CW__TCP_FRAMES];
}

static int has_statuses(const struct lane *lane)
{
	return lane->lanes->version >= 2;
}

/* -------------------------------------------------------------------------------------------- sending */

/* What goes out in one call: for each piece a header (or what is left of it) and the payload of a WRITE. */
struct parcel {
	unsigned char headers[PARTS_MAX][CW__CLASSIC_HEADER_BYTES];
	struct iovec places[2 * PARTS_MAX];
	uint64_t lengths[PARTS_MAX]; /* of the pieces */
	unsigned parts;
	int count;
	int headless; /* the header of the first piece went out before */
};

static void add_header(const struct lane *lane, struct parcel *parcel, int write, uint64_t address, uint64_t length)
{
	struct cw__classic_header header = {
		.length = length,
		.address = address,
		.write = (uint8_t)write,
		.acknowledged = (uint8_t)has_statuses(lane),
	};
	unsigned char *bytes = parcel->headers[parcel->parts];
	size_t skip = parcel->parts == 0 ? lane->header_sent : 0;

	cw__classic_header_encode(&header, bytes);
	parcel->places[parcel->count++] = (struct iovec){ bytes + skip, CW__CLASSIC_HEADER_BYTES - skip };
}

/* The header that reads the last byte of a version 1 WRITE back. */
static void pack_read_back(const struct lane *lane, const struct transfer *transfer, struct parcel *parcel)
{
	struct cw_piece piece;

	if (host_of(lane)->slice_pieces(transfer->slice, transfer->length - 1, &piece, 1) != 1)
		return;
	add_header(lane, parcel, 0, piece.remote, 1);
	parcel->parts = 1;
}

static void pack(const struct lane *lane, const struct transfer *transfer, struct parcel *parcel)
{
	struct cw_piece pieces[PARTS_MAX];
	uint64_t room = CW_CHUNK_MAX;
	unsigned found;

	parcel->parts = 0;
	parcel->count = 0;
	parcel->headless = lane->piece_unsent > 0;
	if (lane->asked_back) {
		pack_read_back(lane, transfer, parcel);
		return;
	}
	found = host_of(lane)->slice_pieces(transfer->slice, transfer->sent, pieces, PARTS_MAX);
	for (unsigned i = 0; i < found && room; i++) {
		uint64_t length = pieces[i].length < room ? pieces[i].length : room;

		if (i || !parcel->headless)
			add_header(lane, parcel, transfer->write, pieces[i].remote, pieces[i].length);
		if (transfer->write) {
			parcel->places[parcel->count++] = (struct iovec){ pieces[i].local, length };
			room -= length;
		}
		parcel->lengths[parcel->parts++] = pieces[i].length;
	}
}

/* Counts what the socket took of a parcel. */
static void count_sent(struct lane *lane, struct transfer *transfer, const struct parcel *parcel, uint64_t moved)
{
	for (unsigned i = 0; i < parcel->parts && moved; i++) {
		if (i || !parcel->headless) {
			size_t left = CW__CLASSIC_HEADER_BYTES - lane->header_sent;

			if (moved < left) {
				lane->header_sent += (size_t)moved;
				return;
			}
			moved -= left;
			lane->header_sent = 0;
			if (lane->asked_back) {
				lane->asked_back = 0;
				lane->current++;
				return;
			}
			if (transfer->write)
				lane->piece_unsent = parcel->lengths[i];
			else
				transfer->sent += parcel->lengths[i];
		}
		if (transfer->write) {
			uint64_t payload = moved < lane->piece_unsent ? moved : lane->piece_unsent;

			lane->piece_unsent -= payload;
			transfer->sent += payload;
			moved -= payload;
		}
	}
	if (transfer->sent < transfer->length)
		return;
	if (transfer->write && !has_statuses(lane))
		lane->asked_back = 1;
	else
		lane->current++;
}

static int lane_send(struct lane *lane, int64_t *budget)
{
	while (*budget > 0 && !lane->blocked && lane->current != lane->next) {
		struct transfer *transfer = at(lane, lane->current);
		struct parcel parcel;
		int64_t moved;

		if (!transfer->slice) {
			lane->current++;
			continue;
		}
		pack(lane, transfer, &parcel);
		if (!parcel.count)
			return CW_ERR_INTERNAL;
		moved = cw__stream_writev(&lane->stream, parcel.places, parcel.count);
		if (moved == CW_ERR_AGAIN) {
			lane->blocked = 1;
			return CW_OK;
		}
		if (moved < 0)
			return CW_ERR_IO;
		transfer->begun = 1;
		*budget -= moved;
		count_sent(lane, transfer, &parcel, (uint64_t)moved);
	}
	return CW_OK;
}

/* ------------------------------------------------------------------------------------------ receiving */

/* The end of the oldest transfer. */
static void finish_first(struct lane *lane, int status, enum cw_remote_state remote)
{
	struct cw_slice *slice = at(lane, lane->first)->slice;

	if (lane->current == lane->first)
		lane->current++;
	at(lane, lane->first)->slice = NULL;
	lane->first++;
	if (slice)
		host_of(lane)->slice_done(slice, status, remote);
}

static int take_status(struct lane *lane)
{
	uint32_t code;

	if (cw__input_have(&lane->input) < CW__CLASSIC_STATUS_BYTES)
		return CW_ERR_AGAIN;
	if (cw__classic_status_decode(cw__input_bytes(&lane->input), &code))
		return CW_ERR_PROTOCOL;
	cw__input_consume(&lane->input, CW__CLASSIC_STATUS_BYTES);
	return code == CW__CLASSIC_STATUS_OK ? CW_OK : CW_ERR_NOT_REGISTERED;
}

/* One acknowledgement of a WRITE. */
static int take_acknowledgement(struct lane *lane, struct transfer *transfer)
{
	struct cw_piece piece;
	int status;

	if (!has_statuses(lane)) {
		if (!cw__input_have(&lane->input))
			return CW_ERR_AGAIN;
		if (lane->current == lane->first)
			return CW_ERR_PROTOCOL;
		cw__input_consume(&lane->input, 1);
		transfer->answered = transfer->length;
		return CW_OK;
	}
	status = take_status(lane);
	if (status)
		return status;
	if (host_of(lane)->slice_pieces(transfer->slice, transfer->answered, &piece, 1) != 1)
		return CW_ERR_INTERNAL;
	transfer->answered += piece.length;
	return transfer->answered <= transfer->sent ? CW_OK : CW_ERR_PROTOCOL;
}

/* One step of a READ: a status, or payload. */
static int take_data(struct lane *lane, struct transfer *transfer, int64_t *budget)
{
	struct iovec place;
	struct cw_piece piece;
	int64_t moved;

	if (transfer->answered == transfer->sent)
		return cw__input_have(&lane->input) ? CW_ERR_PROTOCOL : CW_ERR_AGAIN;
	if (host_of(lane)->slice_pieces(transfer->slice, transfer->answered, &piece, 1) != 1)
		return CW_ERR_INTERNAL;
	if (!lane->piece_unread) {
		int status = has_statuses(lane) ? take_status(lane) : CW_OK;

		if (status)
			return status;
		lane->piece_unread = piece.length;
	}
	if (!cw__input_have(&lane->input) && (piece.length < DIRECT_BYTES || *budget <= 0))
		return CW_ERR_AGAIN;
	place = (struct iovec){ piece.local, piece.length < CW_CHUNK_MAX ? piece.length : CW_CHUNK_MAX };
	moved = cw__input_place(&lane->input, &lane->stream, &place, 1);
	if (moved < 0)
		return moved == CW_ERR_AGAIN ? CW_ERR_AGAIN : CW_ERR_IO;
	*budget -= moved;
	lane->piece_unread -= (uint64_t)moved;
	transfer->answered += (uint64_t)moved;
	return CW_OK;
}

/* Drops answers to a slice that was given up. */
static int take_dropped(struct lane *lane, struct transfer *transfer)
{
	size_t length = cw__input_have(&lane->input);

	if (!length)
		return CW_ERR_AGAIN;
	if (length > transfer->drop)
		length = (size_t)transfer->drop;
	cw__input_consume(&lane->input, length);
	transfer->drop -= length;
	return CW_OK;
}

/* Takes what has arrived. CW_OK: it waits for more, or for the next turn. Else the connection is of no use any more. */
static int lane_receive(struct lane *lane, int64_t *budget)
{
	while (lane->stage == LANE_UP) {
		struct transfer *transfer = at(lane, lane->first);
		int64_t moved;
		int status;

		if (lane->first == lane->next)
			status = cw__input_have(&lane->input) ? CW_ERR_PROTOCOL : CW_ERR_AGAIN;
		else if (!transfer->slice)
			status = transfer->drop ? take_dropped(lane, transfer) : CW_OK;
		else if (transfer->write)
			status = take_acknowledgement(lane, transfer);
		else
			status = take_data(lane, transfer, budget);
		if (status && status != CW_ERR_AGAIN)
			return status;
		if (status == CW_OK) {
			lane->tries = 0;
			if (transfer->slice ? transfer->answered == transfer->length : transfer->drop == 0)
				finish_first(lane, CW_OK, CW_REMOTE_QUIET);
			continue;
		}
		/* The buffer is always emptied: no event would come for what is in it. */
		if (*budget <= 0)
			return CW_OK;
		moved = cw__input_fill(&lane->input, &lane->stream);
		if (moved == CW_ERR_AGAIN)
			return CW_OK;
		if (moved < 0)
			return CW_ERR_IO;
		*budget -= moved;
	}
	return CW_OK;
}

/* ------------------------------------------------------------------------- connecting and breaking */

static void set_events(struct lane *lane)
{
	int sending = lane->stage == LANE_CONNECTING || lane->current != lane->next;
	uint32_t events = (lane->stage == LANE_UP ? (uint32_t)EPOLLIN : 0u) | (sending ? (uint32_t)EPOLLOUT : 0u);

	if (lane->stage != LANE_DOWN && lane->io.events != events)
		(void)host_of(lane)->io_modify(&lane->io, events);
}

static void close_connection(struct lane *lane)
{
	if (lane->io.loop) {
		host_of(lane)->io_remove(&lane->io);
		lane->io.loop = NULL;
	}
	cw__stream_close(&lane->stream);
	cw__input_reset(&lane->input);
	lane->stage = LANE_DOWN;
	lane->blocked = 0;
	lane->header_sent = 0;
	lane->piece_unsent = 0;
	lane->piece_unread = 0;
	lane->asked_back = 0;
}

/* Ends all transfers. refused: the peer said so, and serves nothing more of what was sent. */
static void end_transfers(struct lane *lane, int status, int refused)
{
	unsigned last = lane->next;

	/* slice_done() may post new ones: only those that are here now are meant. */
	while (lane->first != last) {
		const struct transfer *transfer = at(lane, lane->first);
		int unknown = transfer->write && transfer->begun && !refused;

		finish_first(lane, status, unknown ? CW_REMOTE_UNKNOWN : CW_REMOTE_QUIET);
	}
}

static void lane_break(struct lane *lane, int status, int refused)
{
	struct lanes *lanes = lane->lanes;
	const struct cw_host_ops *host = host_of(lane);
	uint64_t delay = cw__tcp_backoff(lane->tries++);

	close_connection(lane);
	if (delay == CW_FOREVER || lanes->closing)
		host->timer_stop(lanes->peer->loop, &lane->timer);
	else
		host->timer_set(lanes->peer->loop, &lane->timer, host->now() + delay);
	/* A refusal is the end of a request, not of the way to the peer. */
	if (!lane->reported_down && !refused && !lanes->closing) {
		lane->reported_down = 1;
		host->rail_state(lanes->tcp->host, lanes->peer, lane->index, status);
	}
	end_transfers(lane, status, refused);
}

/* Ends the connection for a reason that lane_send() or lane_receive() found. */
static void lane_fail(struct lane *lane, int status)
{
	struct lanes *lanes = lane->lanes;
	int refused = status == CW_ERR_NOT_REGISTERED;

	if (refused)
		finish_first(lane, CW_ERR_NOT_REGISTERED, CW_REMOTE_QUIET);
	if (status == CW_ERR_PROTOCOL)
		host_of(lane)->protocol_error(lanes->tcp->host, lanes->peer->name, "malformed classic answer");
	if (lane->stage != LANE_DOWN)
		lane_break(lane, refused ? CW_ERR_IO : status, refused);
}

static void lane_start(struct lane *lane)
{
	struct lanes *lanes = lane->lanes;
	const struct cw_host_ops *host = host_of(lane);
	int fd;
	int status = cw__tcp_dial(lanes->tcp, lanes->peer->address, lanes->peer->classic_port, &fd);

	if (!status) {
		lane->stream = cw__stream_plain(fd);
		lane->io.fd = fd;
		lane->io.events = EPOLLOUT;
		lane->stage = LANE_CONNECTING;
		host->timer_set(lanes->peer->loop, &lane->timer, host->now() + lanes->tcp->settings.connect_timeout);
		status = host->io_add(lanes->peer->loop, &lane->io);
	}
	if (status)
		lane_break(lane, CW_ERR_CONNECT, 0);
}

static void lane_up(struct lane *lane)
{
	struct lanes *lanes = lane->lanes;
	const struct cw_host_ops *host = host_of(lane);

	lane->stage = LANE_UP;
	host->timer_stop(lanes->peer->loop, &lane->timer);
	if (lane->reported_down) {
		lane->reported_down = 0;
		host->rail_state(lanes->tcp->host, lanes->peer, lane->index, CW_OK);
	}
}

/* --------------------------------------------------------------------------------------------- events */

static void lane_io(struct cw_io *io, uint32_t events)
{
	struct lane *lane = cw__container(io, struct lane, io);
	struct lanes *lanes = lane->lanes;
	int64_t budget = CW__TCP_VISIT;
	int status = CW_OK;

	if (events & ~(uint32_t)EPOLLIN)
		lane->blocked = 0;
	lane->input.dry = 0;
	lane->busy++;
	if (lane->stage == LANE_CONNECTING) {
		status = cw__tcp_dial_result(io->fd);
		if (!status && events & EPOLLOUT)
			lane_up(lane);
	}
	if (lane->stage == LANE_UP)
		status = lane_receive(lane, &budget);
	if (!status && lane->stage == LANE_UP && lane->hungry && lane->next - lane->first < CW__TCP_FRAMES) {
		lane->hungry = 0;
		lanes->tcp->host->ops->rail_ready(lanes->tcp->host, lanes->peer, lane->index);
	}
	budget = CW__TCP_VISIT;
	if (!status && lane->stage == LANE_UP)
		status = lane_send(lane, &budget);
	if (status)
		lane_fail(lane, status);
	set_events(lane);
	lane->busy--;
}

static void lane_timer(struct cw_timer *timer)
{
	struct lane *lane = cw__container(timer, struct lane, timer);

	lane->busy++;
	if (lane->stage == LANE_DOWN)
		lane_start(lane);
	else if (lane->stage == LANE_CONNECTING)
		lane_break(lane, CW_ERR_CONNECT, 0);
	lane->busy--;
}

/* ---------------------------------------------------------------------------------------------- hooks */

static int classic_open(struct cw__tcp *tcp, struct cw_peer *peer, void **rails_out)
{
	unsigned count = tcp->settings.connections;
	struct lanes *lanes;

	if (!peer->classic_port)
		return CW_ERR_UNSUPPORTED;
	lanes = calloc(1, sizeof(*lanes) + count * sizeof(lanes->lanes[0]));
	if (!lanes)
		return CW_ERR_NO_MEMORY;
	lanes->tcp = tcp;
	lanes->peer = peer;
	lanes->version = peer->classic_version < tcp->settings.classic_protocol ? peer->classic_version
										: tcp->settings.classic_protocol;
	lanes->count = count;
	for (unsigned i = 0; i < count; i++) {
		struct lane *lane = &lanes->lanes[i];

		lane->lanes = lanes;
		lane->index = i;
		lane->stream.fd = -1;
		lane->io.ready = lane_io;
		lane->timer.fire = lane_timer;
		if (cw__input_init(&lane->input, INPUT_BYTES)) {
			while (i--)
				cw__input_free(&lanes->lanes[i].input);
			free(lanes);
			return CW_ERR_NO_MEMORY;
		}
	}
	/* The first attempt is due at once, but not before the core knows this peer. */
	for (unsigned i = 0; i < count; i++)
		tcp->host->ops->timer_set(peer->loop, &lanes->lanes[i].timer, 0);
	*rails_out = lanes;
	return CW_OK;
}

static void classic_close(void *opened)
{
	struct lanes *lanes = opened;

	lanes->closing = 1;
	for (unsigned i = 0; i < lanes->count; i++) {
		struct lane *lane = &lanes->lanes[i];

		close_connection(lane);
		host_of(lane)->timer_stop(lanes->peer->loop, &lane->timer);
		end_transfers(lane, CW_ERR_CANCELED, 0);
		cw__input_free(&lane->input);
	}
	free(lanes);
}

static void classic_lost(void *opened, int status)
{
	struct lanes *lanes = opened;

	for (unsigned i = 0; i < lanes->count; i++) {
		struct lane *lane = &lanes->lanes[i];

		lane->busy++;
		if (lane->stage != LANE_DOWN)
			lane_break(lane, status, 0);
		lane->busy--;
	}
}

static unsigned classic_post(void *opened, unsigned index, struct cw_slice **slices, unsigned count)
{
	struct lanes *lanes = opened;
	struct lane *lane = &lanes->lanes[index];
	int64_t budget = CW__TCP_VISIT;
	unsigned taken = 0;
	int status;

	if (lanes->closing) {
		for (; taken < count; taken++)
			host_of(lane)->slice_done(slices[taken], CW_ERR_CLOSED, CW_REMOTE_QUIET);
		return taken;
	}
	for (; taken < count && lane->next - lane->first < CW__TCP_FRAMES; taken++, lane->next++) {
		struct cw_slice *slice = slices[taken];

		*at(lane, lane->next) = (struct transfer){
			.slice = slice, .write = slice->op == CW_OP_WRITE, .length = slice->length
		};
		slice->scratch[0] = lane->next;
		slice->scratch[1] = (uintptr_t)lane;
	}
	lane->hungry = taken < count;
	if (lane->stage == LANE_DOWN && taken)
		host_of(lane)->timer_set(lanes->peer->loop, &lane->timer, 0); /* try again now */
	if (lane->busy || lane->stage != LANE_UP)
		return taken;
	lane->busy++;
	status = lane_send(lane, &budget);
	if (status)
		lane_fail(lane, status);
	set_events(lane);
	lane->busy--;
	return taken;
}

/* Answers that are still to come for a transfer that was sent whole. */
static uint64_t unread_answers(const struct lane *lane, const struct transfer *transfer, int is_first)
{
	uint64_t offset = transfer->answered;
	uint64_t total = 0;
	struct cw_piece piece;

	if (transfer->write && !has_statuses(lane))
		return 1;
	if (!transfer->write && is_first && lane->piece_unread) {
		total += lane->piece_unread;
		offset += lane->piece_unread;
	}
	while (offset < transfer->length && host_of(lane)->slice_pieces(transfer->slice, offset, &piece, 1) == 1) {
		total += has_statuses(lane) ? CW__CLASSIC_STATUS_BYTES : 0;
		total += transfer->write ? 0 : piece.length;
		offset += piece.length;
	}
	return total;
}

static void classic_cancel(void *opened, struct cw_slice *slice)
{
	struct lane *lane = (struct lane *)(uintptr_t)slice->scratch[1];
	unsigned position = (unsigned)slice->scratch[0];
	struct transfer *transfer = at(lane, position);
	int unknown = transfer->write && transfer->begun;
	int sent_whole = (int)(lane->current - position) > 0;

	(void)opened;
	if (transfer->slice != slice)
		return;
	if (sent_whole) {
		transfer->drop = unread_answers(lane, transfer, position == lane->first);
		if (position == lane->first)
			lane->piece_unread = 0;
	}
	transfer->slice = NULL;
	lane->busy++;
	/* Half a request cannot be taken back, and the rest of it may not be read from memory any more. */
	if (transfer->begun && !sent_whole)
		lane_break(lane, CW_ERR_IO, 0);
	set_events(lane);
	lane->busy--;
	host_of(lane)->slice_done(slice, CW_ERR_CANCELED, unknown ? CW_REMOTE_UNKNOWN : CW_REMOTE_QUIET);
}

const struct cw__tcp_language cw__tcp_classic = {
	.open = classic_open,
	.close = classic_close,
	.lost = classic_lost,
	.post = classic_post,
	.cancel = classic_cancel,
	.checks = "target cpu: bounds",
	.why = "sockets, Mooncake's protocol",
};
