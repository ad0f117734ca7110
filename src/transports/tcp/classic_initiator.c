/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Towards a Mooncake engine: each rail is one connection ("channel"), each contiguous piece of a slice one request on
 * it, pipelined and answered in order. Version 2 acknowledges each write; after a version 1 write its last byte is read
 * back on the same connection, whose answer is the acknowledgement, because the peer serves a connection in order.
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

enum channel_stage { CHANNEL_DOWN, CHANNEL_CONNECTING, CHANNEL_UP };

/* One slice on its way; its requests are those of its pieces. */
struct transfer {
	struct cw_slice *slice; /* NULL: it was given up */
	int write, begun;       /* begun: bytes of it went out */
	uint64_t length;
	uint64_t sent;     /* requested, and for a WRITE sent: bytes from its start */
	uint64_t answered; /* acknowledged or received */
	uint64_t drop;     /* bytes of answers that are still to come for a slice that was given up */
};

struct channels;

struct channel {
	struct channels *channels;
	unsigned index;
	enum channel_stage stage;
	struct cw_io io;
	struct cw_timer timer; /* connecting takes too long, or connect again */
	struct cw__tcp_stream stream;
	struct cw__tcp_input input;
	unsigned tries;
	int reported_down, busy, hungry, blocked;

	/* Transfers [first, next) modulo the size of the ring are in flight; those before current are sent. */
	struct transfer ring[CW__TCP_FRAMES];
	unsigned first, current, next;
	size_t header_sent;    /* of the request that goes out */
	uint64_t piece_unsent; /* payload of it, when its header is out */
	uint64_t piece_unread; /* payload of the READ that comes in, when its status is in */
	int asked_back;        /* version 1: the header that goes out asks for the last byte of a WRITE */
};

/* All channels of a peer. Freed by close. */
struct channels {
	struct cw__tcp *tcp;
	struct cw_peer *peer;
	int closing;
	unsigned version;
	unsigned count;
	struct channel channels[];
};

static const struct cw_host_ops *host_of(const struct channel *channel)
{
	return channel->channels->tcp->host->ops;
}

static struct transfer *at(struct channel *channel, unsigned position)
{
	return &channel->ring[position % CW__TCP_FRAMES];
}

static int has_statuses(const struct channel *channel)
{
	return channel->channels->version >= 2;
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

static void add_header(const struct channel *channel, struct parcel *parcel, int write, uint64_t address,
		       uint64_t length)
{
	struct cw__classic_header header = {
		.length = length,
		.address = address,
		.write = (uint8_t)write,
		.acknowledged = (uint8_t)has_statuses(channel),
	};
	unsigned char *bytes = parcel->headers[parcel->parts];
	size_t skip = parcel->parts == 0 ? channel->header_sent : 0;

	cw__classic_header_encode(&header, bytes);
	parcel->places[parcel->count++] = (struct iovec){ bytes + skip, CW__CLASSIC_HEADER_BYTES - skip };
}

/* The header that reads the last byte of a version 1 WRITE back. */
static void pack_read_back(const struct channel *channel, const struct transfer *transfer, struct parcel *parcel)
{
	struct cw_piece piece;

	if (host_of(channel)->slice_pieces(transfer->slice, transfer->length - 1, &piece, 1) != 1)
		return;
	add_header(channel, parcel, 0, piece.remote, 1);
	parcel->parts = 1;
}

static void pack(const struct channel *channel, const struct transfer *transfer, struct parcel *parcel)
{
	struct cw_piece pieces[PARTS_MAX];
	uint64_t room = CW_CHUNK_MAX;
	unsigned found;

	parcel->parts = 0;
	parcel->count = 0;
	parcel->headless = channel->piece_unsent > 0;
	if (channel->asked_back) {
		pack_read_back(channel, transfer, parcel);
		return;
	}
	found = host_of(channel)->slice_pieces(transfer->slice, transfer->sent, pieces, PARTS_MAX);
	for (unsigned i = 0; i < found && room; i++) {
		uint64_t length = pieces[i].length < room ? pieces[i].length : room;

		if (i || !parcel->headless)
			add_header(channel, parcel, transfer->write, pieces[i].remote, pieces[i].length);
		if (transfer->write) {
			parcel->places[parcel->count++] = (struct iovec){ pieces[i].local, length };
			room -= length;
		}
		parcel->lengths[parcel->parts++] = pieces[i].length;
	}
}

/* Counts what the socket took of a parcel. */
static void count_sent(struct channel *channel, struct transfer *transfer, const struct parcel *parcel, uint64_t moved)
{
	for (unsigned i = 0; i < parcel->parts && moved; i++) {
		if (i || !parcel->headless) {
			size_t left = CW__CLASSIC_HEADER_BYTES - channel->header_sent;

			if (moved < left) {
				channel->header_sent += (size_t)moved;
				return;
			}
			moved -= left;
			channel->header_sent = 0;
			if (channel->asked_back) {
				channel->asked_back = 0;
				channel->current++;
				return;
			}
			if (transfer->write)
				channel->piece_unsent = parcel->lengths[i];
			else
				transfer->sent += parcel->lengths[i];
		}
		if (transfer->write) {
			uint64_t payload = moved < channel->piece_unsent ? moved : channel->piece_unsent;

			channel->piece_unsent -= payload;
			transfer->sent += payload;
			moved -= payload;
		}
	}
	if (transfer->sent < transfer->length)
		return;
	if (transfer->write && !has_statuses(channel))
		channel->asked_back = 1;
	else
		channel->current++;
}

static int channel_send(struct channel *channel, int64_t *budget)
{
	while (*budget > 0 && !channel->blocked && channel->current != channel->next) {
		struct transfer *transfer = at(channel, channel->current);
		struct parcel parcel;
		int64_t moved;

		if (!transfer->slice) {
			channel->current++;
			continue;
		}
		pack(channel, transfer, &parcel);
		if (!parcel.count)
			return CW_ERR_INTERNAL;
		moved = cw__tcp_stream_writev(&channel->stream, parcel.places, parcel.count);
		if (moved == CW_ERR_AGAIN) {
			channel->blocked = 1;
			return CW_OK;
		}
		if (moved < 0)
			return CW_ERR_IO;
		transfer->begun = 1;
		*budget -= moved;
		count_sent(channel, transfer, &parcel, (uint64_t)moved);
	}
	return CW_OK;
}

/* ------------------------------------------------------------------------------------------ receiving */

/* The end of the oldest transfer. */
static void finish_first(struct channel *channel, int status, enum cw_remote_state remote)
{
	struct cw_slice *slice = at(channel, channel->first)->slice;

	if (channel->current == channel->first)
		channel->current++;
	at(channel, channel->first)->slice = NULL;
	channel->first++;
	if (slice)
		host_of(channel)->slice_done(slice, status, remote);
}

static int take_status(struct channel *channel)
{
	uint32_t code;

	if (cw__tcp_input_have(&channel->input) < CW__CLASSIC_STATUS_BYTES)
		return CW_ERR_AGAIN;
	if (cw__classic_status_decode(cw__tcp_input_bytes(&channel->input), &code))
		return CW_ERR_PROTOCOL;
	cw__tcp_input_consume(&channel->input, CW__CLASSIC_STATUS_BYTES);
	return code == CW__CLASSIC_STATUS_OK ? CW_OK : CW_ERR_NOT_REGISTERED;
}

/* One acknowledgement of a WRITE. */
static int take_acknowledgement(struct channel *channel, struct transfer *transfer)
{
	struct cw_piece piece;
	int status;

	if (!has_statuses(channel)) {
		if (!cw__tcp_input_have(&channel->input))
			return CW_ERR_AGAIN;
		if (channel->current == channel->first)
			return CW_ERR_PROTOCOL;
		cw__tcp_input_consume(&channel->input, 1);
		transfer->answered = transfer->length;
		return CW_OK;
	}
	status = take_status(channel);
	if (status)
		return status;
	if (host_of(channel)->slice_pieces(transfer->slice, transfer->answered, &piece, 1) != 1)
		return CW_ERR_INTERNAL;
	transfer->answered += piece.length;
	return transfer->answered <= transfer->sent ? CW_OK : CW_ERR_PROTOCOL;
}

/* One step of a READ: a status, or payload. */
static int take_data(struct channel *channel, struct transfer *transfer, int64_t *budget)
{
	struct iovec place;
	struct cw_piece piece;
	int64_t moved;

	if (transfer->answered == transfer->sent)
		return cw__tcp_input_have(&channel->input) ? CW_ERR_PROTOCOL : CW_ERR_AGAIN;
	if (host_of(channel)->slice_pieces(transfer->slice, transfer->answered, &piece, 1) != 1)
		return CW_ERR_INTERNAL;
	if (!channel->piece_unread) {
		int status = has_statuses(channel) ? take_status(channel) : CW_OK;

		if (status)
			return status;
		channel->piece_unread = piece.length;
	}
	if (!cw__tcp_input_have(&channel->input) && (piece.length < DIRECT_BYTES || *budget <= 0))
		return CW_ERR_AGAIN;
	place = (struct iovec){ piece.local, piece.length < CW_CHUNK_MAX ? piece.length : CW_CHUNK_MAX };
	moved = cw__tcp_input_place(&channel->input, &channel->stream, &place, 1);
	if (moved < 0)
		return moved == CW_ERR_AGAIN ? CW_ERR_AGAIN : CW_ERR_IO;
	*budget -= moved;
	channel->piece_unread -= (uint64_t)moved;
	transfer->answered += (uint64_t)moved;
	return CW_OK;
}

/* Drops answers to a slice that was given up. */
static int take_dropped(struct channel *channel, struct transfer *transfer)
{
	size_t length = cw__tcp_input_have(&channel->input);

	if (!length)
		return CW_ERR_AGAIN;
	if (length > transfer->drop)
		length = (size_t)transfer->drop;
	cw__tcp_input_consume(&channel->input, length);
	transfer->drop -= length;
	return CW_OK;
}

/* Takes what has arrived. CW_OK: it waits for more, or for the next turn. Else the connection is of no use any more. */
static int channel_receive(struct channel *channel, int64_t *budget)
{
	while (channel->stage == CHANNEL_UP) {
		struct transfer *transfer = at(channel, channel->first);
		int64_t moved;
		int status;

		if (channel->first == channel->next)
			status = cw__tcp_input_have(&channel->input) ? CW_ERR_PROTOCOL : CW_ERR_AGAIN;
		else if (!transfer->slice)
			status = transfer->drop ? take_dropped(channel, transfer) : CW_OK;
		else if (transfer->write)
			status = take_acknowledgement(channel, transfer);
		else
			status = take_data(channel, transfer, budget);
		if (status && status != CW_ERR_AGAIN)
			return status;
		if (status == CW_OK) {
			channel->tries = 0;
			if (transfer->slice ? transfer->answered == transfer->length : transfer->drop == 0)
				finish_first(channel, CW_OK, CW_REMOTE_QUIET);
			continue;
		}
		/* The buffer is always emptied: no event would come for what is in it. */
		if (*budget <= 0)
			return CW_OK;
		moved = cw__tcp_input_fill(&channel->input, &channel->stream);
		if (moved == CW_ERR_AGAIN)
			return CW_OK;
		if (moved < 0)
			return CW_ERR_IO;
		*budget -= moved;
	}
	return CW_OK;
}

/* ------------------------------------------------------------------------- connecting and breaking */

static void set_events(struct channel *channel)
{
	int sending = channel->stage == CHANNEL_CONNECTING || channel->current != channel->next;
	uint32_t events = (channel->stage == CHANNEL_UP ? (uint32_t)EPOLLIN : 0u) | (sending ? (uint32_t)EPOLLOUT : 0u);

	if (channel->stage != CHANNEL_DOWN && channel->io.events != events)
		(void)host_of(channel)->io_modify(&channel->io, events);
}

static void close_connection(struct channel *channel)
{
	if (channel->io.loop) {
		host_of(channel)->io_remove(&channel->io);
		channel->io.loop = NULL;
	}
	cw__tcp_stream_close(&channel->stream);
	cw__tcp_input_reset(&channel->input);
	channel->stage = CHANNEL_DOWN;
	channel->blocked = 0;
	channel->header_sent = 0;
	channel->piece_unsent = 0;
	channel->piece_unread = 0;
	channel->asked_back = 0;
}

/* Ends all transfers. refused: the peer said so, and serves nothing more of what was sent. */
static void end_transfers(struct channel *channel, int status, int refused)
{
	unsigned last = channel->next;

	/* slice_done() may post new ones: only those that are here now are meant. */
	while (channel->first != last) {
		const struct transfer *transfer = at(channel, channel->first);
		int unknown = transfer->write && transfer->begun && !refused;

		finish_first(channel, status, unknown ? CW_REMOTE_UNKNOWN : CW_REMOTE_QUIET);
	}
}

/* Tells the core whether to use this rail. It may be used also when it is not connected: the next post() tries again.
 */
static void report(struct channel *channel, int status)
{
	struct channels *channels = channel->channels;

	if ((status != CW_OK) == channel->reported_down || channels->closing)
		return;
	channel->reported_down = status != CW_OK;
	host_of(channel)->rail_state(channels->tcp->host, channels->peer, channel->index, status);
}

static void channel_break(struct channel *channel, int status, int refused)
{
	struct channels *channels = channel->channels;
	const struct cw_host_ops *host = host_of(channel);
	uint64_t delay = cw__tcp_backoff(channel->tries++);

	close_connection(channel);
	if (delay == CW_FOREVER || channels->closing)
		host->timer_stop(channels->peer->loop, &channel->timer);
	else
		host->timer_set(channels->peer->loop, &channel->timer, host->now() + delay);
	/* A refusal is the end of a request, not of the way to the peer. */
	if (!refused)
		report(channel, status);
	end_transfers(channel, status, refused);
	if (delay == CW_FOREVER)
		report(channel, CW_OK);
}

/* Ends the connection for a reason that channel_send() or channel_receive() found. */
static void channel_fail(struct channel *channel, int status)
{
	struct channels *channels = channel->channels;
	int refused = status == CW_ERR_NOT_REGISTERED;

	if (refused)
		finish_first(channel, CW_ERR_NOT_REGISTERED, CW_REMOTE_QUIET);
	if (status == CW_ERR_PROTOCOL)
		host_of(channel)->protocol_error(channels->tcp->host, channels->peer->name, "malformed classic answer");
	if (channel->stage != CHANNEL_DOWN)
		channel_break(channel, refused ? CW_ERR_IO : status, refused);
}

static void channel_start(struct channel *channel)
{
	struct channels *channels = channel->channels;
	const struct cw_host_ops *host = host_of(channel);
	int fd;
	const struct cw_peer *peer = channels->peer;
	int status = cw__tcp_dial(channels->tcp, *peer->classic_host ? peer->classic_host : peer->address,
				  peer->classic_port, &fd);

	if (!status) {
		channel->stream = cw__tcp_stream_plain(fd);
		channel->io.fd = fd;
		channel->io.events = EPOLLOUT;
		channel->stage = CHANNEL_CONNECTING;
		host->timer_set(channels->peer->loop, &channel->timer,
				host->now() + channels->tcp->settings.connect_timeout);
		status = host->io_add(channels->peer->loop, &channel->io);
	}
	if (status)
		channel_break(channel, CW_ERR_CONNECT, 0);
}

static void channel_up(struct channel *channel)
{
	struct channels *channels = channel->channels;

	channel->stage = CHANNEL_UP;
	host_of(channel)->timer_stop(channels->peer->loop, &channel->timer);
	report(channel, CW_OK);
}

/* --------------------------------------------------------------------------------------------- events */

static void channel_io(struct cw_io *io, uint32_t events)
{
	struct channel *channel = cw__container(io, struct channel, io);
	struct channels *channels = channel->channels;
	int64_t budget = CW__TCP_VISIT;
	int status = CW_OK;

	if (events & ~(uint32_t)EPOLLIN)
		channel->blocked = 0;
	channel->input.dry = 0;
	channel->busy++;
	if (channel->stage == CHANNEL_CONNECTING) {
		status = cw__tcp_dial_result(channels->tcp, io->fd);
		if (!status && events & EPOLLOUT)
			channel_up(channel);
	}
	if (channel->stage == CHANNEL_UP)
		status = channel_receive(channel, &budget);
	if (!status && channel->stage == CHANNEL_UP && channel->hungry &&
	    channel->next - channel->first < CW__TCP_FRAMES) {
		channel->hungry = 0;
		channels->tcp->host->ops->rail_ready(channels->tcp->host, channels->peer, channel->index);
	}
	budget = CW__TCP_VISIT;
	if (!status && channel->stage == CHANNEL_UP)
		status = channel_send(channel, &budget);
	if (status)
		channel_fail(channel, status);
	set_events(channel);
	channel->busy--;
}

static void channel_timer(struct cw_timer *timer)
{
	struct channel *channel = cw__container(timer, struct channel, timer);

	channel->busy++;
	if (channel->stage == CHANNEL_DOWN)
		channel_start(channel);
	else if (channel->stage == CHANNEL_CONNECTING)
		channel_break(channel, CW_ERR_CONNECT, 0);
	channel->busy--;
}

/* ---------------------------------------------------------------------------------------------- hooks */

static int classic_open(struct cw__tcp *tcp, struct cw_peer *peer, void **rails_out)
{
	unsigned count = tcp->settings.connections;
	struct channels *channels;

	if (!peer->classic_port)
		return CW_ERR_UNSUPPORTED;
	channels = calloc(1, sizeof(*channels) + count * sizeof(channels->channels[0]));
	if (!channels)
		return CW_ERR_NO_MEMORY;
	channels->tcp = tcp;
	channels->peer = peer;
	channels->version = peer->classic_version < tcp->settings.classic_protocol ? peer->classic_version
										   : tcp->settings.classic_protocol;
	channels->count = count;
	for (unsigned i = 0; i < count; i++) {
		struct channel *channel = &channels->channels[i];

		channel->channels = channels;
		channel->index = i;
		channel->stream.fd = -1;
		channel->io.ready = channel_io;
		channel->timer.fire = channel_timer;
		if (cw__tcp_input_init(&channel->input, INPUT_BYTES)) {
			while (i--)
				cw__tcp_input_free(&channels->channels[i].input);
			free(channels);
			return CW_ERR_NO_MEMORY;
		}
	}
	/* The first attempt is due at once, but not before the core knows this peer. */
	for (unsigned i = 0; i < count; i++)
		tcp->host->ops->timer_set(peer->loop, &channels->channels[i].timer, 0);
	*rails_out = channels;
	return CW_OK;
}

static void classic_close(void *opened)
{
	struct channels *channels = opened;

	channels->closing = 1;
	for (unsigned i = 0; i < channels->count; i++) {
		struct channel *channel = &channels->channels[i];

		close_connection(channel);
		host_of(channel)->timer_stop(channels->peer->loop, &channel->timer);
		end_transfers(channel, CW_ERR_CANCELED, 0);
		cw__tcp_input_free(&channel->input);
	}
	free(channels);
}

static void classic_lost(void *opened, int status)
{
	struct channels *channels = opened;

	for (unsigned i = 0; i < channels->count; i++) {
		struct channel *channel = &channels->channels[i];

		channel->busy++;
		if (channel->stage != CHANNEL_DOWN)
			channel_break(channel, status, 0);
		channel->busy--;
	}
}

static unsigned classic_post(void *opened, unsigned index, struct cw_slice **slices, unsigned count)
{
	struct channels *channels = opened;
	struct channel *channel = &channels->channels[index];
	int64_t budget = CW__TCP_VISIT;
	unsigned taken = 0;
	int status;

	if (channels->closing) {
		for (; taken < count; taken++)
			host_of(channel)->slice_done(slices[taken], CW_ERR_CLOSED, CW_REMOTE_QUIET);
		return taken;
	}
	for (; taken < count && channel->next - channel->first < CW__TCP_FRAMES; taken++, channel->next++) {
		struct cw_slice *slice = slices[taken];

		*at(channel, channel->next) =
			(struct transfer){ .slice = slice, .write = slice->op == CW_OP_WRITE, .length = slice->length };
		slice->scratch[0] = channel->next;
		slice->scratch[1] = (uintptr_t)channel;
	}
	channel->hungry = taken < count;
	if (channel->stage == CHANNEL_DOWN && taken)
		host_of(channel)->timer_set(channels->peer->loop, &channel->timer, host_of(channel)->now());
	if (channel->busy || channel->stage != CHANNEL_UP)
		return taken;
	channel->busy++;
	status = channel_send(channel, &budget);
	if (status)
		channel_fail(channel, status);
	set_events(channel);
	channel->busy--;
	return taken;
}

/* Answers that are still to come for a transfer that was sent whole. */
static uint64_t unread_answers(const struct channel *channel, const struct transfer *transfer, int is_first)
{
	uint64_t offset = transfer->answered;
	uint64_t total = 0;
	struct cw_piece piece;

	if (transfer->write && !has_statuses(channel))
		return 1;
	if (!transfer->write && is_first && channel->piece_unread) {
		total += channel->piece_unread;
		offset += channel->piece_unread;
	}
	while (offset < transfer->length && host_of(channel)->slice_pieces(transfer->slice, offset, &piece, 1) == 1) {
		total += has_statuses(channel) ? CW__CLASSIC_STATUS_BYTES : 0;
		total += transfer->write ? 0 : piece.length;
		offset += piece.length;
	}
	return total;
}

static void classic_cancel(void *opened, struct cw_slice *slice)
{
	struct channel *channel = (struct channel *)(uintptr_t)slice->scratch[1];
	unsigned position = (unsigned)slice->scratch[0];
	struct transfer *transfer = at(channel, position);
	int unknown = transfer->write && transfer->begun;
	int sent_whole = (int)(channel->current - position) > 0;

	(void)opened;
	if (transfer->slice != slice)
		return;
	if (sent_whole) {
		transfer->drop = unread_answers(channel, transfer, position == channel->first);
		if (position == channel->first)
			channel->piece_unread = 0;
	}
	transfer->slice = NULL;
	channel->busy++;
	/* Half a request cannot be taken back, and the rest of it may not be read from memory any more. */
	if (transfer->begun && !sent_whole)
		channel_break(channel, CW_ERR_IO, 0);
	set_events(channel);
	channel->busy--;
	host_of(channel)->slice_done(slice, CW_ERR_CANCELED, unknown ? CW_REMOTE_UNKNOWN : CW_REMOTE_QUIET);
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
