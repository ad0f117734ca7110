/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on a native rail: how they are sent, and how their answers are taken. See rail.h; initiator.c drives it. */
#include "rail.h"

#include <util/clock.h>

#define CLOCK_WINDOW (10 * CW__SECOND)

/* ---------------------------------------------------------------------------------------------- clock */

void cw__tcp_clock_sample(struct cw__tcp_clock_offset *offset, uint64_t stamp, uint64_t now)
{
	int64_t sample = (int64_t)(stamp - now);

	if (!offset->known || now - offset->window > CLOCK_WINDOW) {
		offset->best_before = offset->known ? offset->best : sample;
		offset->best = sample;
		offset->window = now;
		offset->known = 1;
	} else if (sample > offset->best) {
		offset->best = sample;
	}
}

/* Our time in the peer's clock, rather too early than too late. */
static uint64_t to_peer_clock(const struct cw__tcp_clock_offset *offset, uint64_t when)
{
	int64_t best = offset->best > offset->best_before ? offset->best : offset->best_before;
	uint64_t there = when + (uint64_t)best;

	if (when == CW_FOREVER)
		return 0;
	return there ? there : 1;
}

/* --------------------------------------------------------------------------------------------- frames */

static void frame_free(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame)
{
	cw__list_remove(&frame->link);
	if (rail->sending == frame)
		rail->sending = NULL;
	if (rail->receiving == frame)
		rail->receiving = NULL;
	if (frame->stage == FRAME_SENDING || frame->stage == FRAME_SENT) {
		rail->unanswered--;
		rail->unanswered_bytes -= frame->length;
	}
	frame->slice = NULL;
	frame->stage = FRAME_FREE;
	rail->inflight--;
}

void cw__tcp_frame_end(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame, int status, enum cw_remote_state remote)
{
	struct cw_slice *slice = frame->slice;

	frame_free(rail, frame);
	if (slice)
		cw__tcp_rail_host(rail)->slice_done(slice, status, remote);
}

void cw__tcp_frame_orphan(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame, int status,
			  enum cw_remote_state remote)
{
	struct cw_slice *slice = frame->slice;

	frame->slice = NULL;
	frame->give_up = 0;
	if (slice)
		cw__tcp_rail_host(rail)->slice_done(slice, status, remote);
}

struct cw__tcp_frame *cw__tcp_frame_find(struct cw__tcp_rail *rail, uint64_t id)
{
	struct cw__tcp_frame *frame = &rail->frames[id % CW__TCP_FRAMES];

	return frame->stage != FRAME_FREE && frame->id == id ? frame : NULL;
}

struct cw__tcp_frame *cw__tcp_frame_new(struct cw__tcp_rail *rail, struct cw_slice *slice)
{
	for (unsigned i = 0; i < CW__TCP_FRAMES; i++) {
		struct cw__tcp_frame *frame = &rail->frames[i];

		if (frame->stage != FRAME_FREE)
			continue;
		*frame = (struct cw__tcp_frame){
			.slice = slice,
			.stage = FRAME_QUEUED,
			.write = slice->op == CW_OP_WRITE,
			.fenced = slice->not_after != CW_FOREVER,
			.id = ++rail->frame_count * CW__TCP_FRAMES + i,
			.length = slice->length,
		};
		cw__list_init(&frame->link);
		cw__list_push_back(&rail->queue, &frame->link);
		slice->scratch[0] = frame->id;
		slice->scratch[1] = (uintptr_t)rail;
		rail->inflight++;
		return frame;
	}
	return NULL;
}

/* --------------------------------------------------------------------------------------------- sending */

/* Header and pieces of the next queued frame. ERR_AGAIN: there is none. */
static int encode_head(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame)
{
	struct cw_piece pieces[CW__TCP_PIECES_MAX];
	const struct cw_slice *slice = frame->slice;
	unsigned count = cw__tcp_rail_host(rail)->slice_pieces(slice, 0, pieces, CW__TCP_PIECES_MAX);
	struct cw__data_header header = {
		.type = frame->write ? CW__DATA_WRITE : CW__DATA_READ,
		.flags = slice->flags & CW_SLICE_CHECKSUM ? CW__DATA_CHECKSUM : 0,
		.attempt = (uint16_t)slice->attempt,
		.piece_count = count,
		.id = frame->id,
		.length = frame->length,
		.checksum = frame->crc,
		.region = slice->remote->id,
		.key = slice->remote->key,
		.not_after = to_peer_clock(&rail->rails->offset, slice->not_after),
		.clock_ns = cw__tcp_rail_host(rail)->now(),
		.space = slice->remote->space,
	};
	uint64_t total = 0;

	for (unsigned i = 0; i < count; i++) {
		struct cw__data_piece piece = { pieces[i].remote, pieces[i].length };

		cw__data_piece_encode(&piece, rail->head + CW__DATA_HEADER_BYTES + i * CW__DATA_PIECE_BYTES);
		total += piece.length;
	}
	if (total != frame->length)
		return CW_ERR_INTERNAL;
	cw__data_header_encode(&header, rail->head);
	rail->head_length = CW__DATA_HEADER_BYTES + (size_t)count * CW__DATA_PIECE_BYTES;
	rail->head_sent = 0;
	return CW_OK;
}

/* The places of up to `room` bytes of payload. */
static int payload_places(const struct cw__tcp_rail *rail, const struct cw__tcp_frame *frame, uint64_t from,
			  uint64_t room, struct iovec *places)
{
	struct cw_piece pieces[CW__TCP_PIECES_MAX];
	unsigned found = cw__tcp_rail_host(rail)->slice_pieces(frame->slice, from, pieces, CW__TCP_PIECES_MAX);
	unsigned count = 0;

	for (; count < found && room; count++) {
		uint64_t length = pieces[count].length < room ? pieces[count].length : room;

		places[count] = (struct iovec){ pieces[count].local, length };
		room -= length;
	}
	return (int)count;
}

/* What is sent in place of a payload that was given up; the target drops it. */
static int filler_places(const struct cw__tcp_frame *frame, struct iovec *places)
{
	static const unsigned char zeros[4096];
	uint64_t left = frame->length - frame->moved;
	int count = 0;

	for (; left && count < 64; count++) {
		uint64_t length = left < sizeof(zeros) ? left : sizeof(zeros);

		places[count] = (struct iovec){ (void *)(uintptr_t)zeros, length };
		left -= length;
	}
	return count;
}

/* Counts the next chunk of payload into the checksum of a WRITE. */
static void hash_chunk(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame, int64_t *budget)
{
	struct iovec places[CW__TCP_PIECES_MAX];
	int count = payload_places(rail, frame, frame->hashed, CW_CHUNK_MAX, places);

	for (int i = 0; i < count; i++) {
		frame->crc = cw__crc32c(frame->crc, places[i].iov_base, places[i].iov_len);
		frame->hashed += places[i].iov_len;
		*budget -= (int64_t)places[i].iov_len;
	}
}

/* May the first queued frame be sent, by what the target allows? One frame always may, whatever its length. */
static int credit_left(const struct cw__tcp_rail *rail)
{
	const struct cw__tcp_frame *first = cw__container(rail->queue.next, struct cw__tcp_frame, link);

	if (rail->unanswered == 0)
		return 1;
	return rail->unanswered < rail->credits && rail->unanswered_bytes + first->length <= rail->credit_bytes;
}

/* Makes the next frame the one that is sent. 0 = there is none, or its checksum takes another turn. */
static int next_frame(struct cw__tcp_rail *rail, int64_t *budget)
{
	while (!cw__list_empty(&rail->queue) && credit_left(rail)) {
		struct cw__tcp_frame *frame = cw__container(rail->queue.next, struct cw__tcp_frame, link);
		int status;

		if (frame->write && (frame->slice->flags & CW_SLICE_CHECKSUM)) {
			while (frame->hashed<frame->length && * budget> 0)
				hash_chunk(rail, frame, budget);
			if (frame->hashed < frame->length)
				return 0;
		}
		status = encode_head(rail, frame);
		if (status) {
			cw__tcp_frame_end(rail, frame, status, CW_REMOTE_QUIET);
			continue;
		}
		cw__list_remove(&frame->link);
		rail->sending = frame;
		return 1;
	}
	return 0;
}

/* A canceled WRITE that was sent in part waits for the target's reply before its connection goes on. */
static int paused(const struct cw__tcp_rail *rail)
{
	return rail->sending && rail->sending->slice && rail->sending->give_up;
}

int cw__tcp_rail_wants_to_send(const struct cw__tcp_rail *rail)
{
	if (rail->sending)
		return !paused(rail);
	return !cw__list_empty(&rail->queue) && credit_left(rail);
}

/* Counts what the socket took; the frame is SENDING from its first byte on. */
static void count_sent(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame, uint64_t moved)
{
	size_t head_left = rail->head_length - rail->head_sent;
	size_t head = moved < head_left ? (size_t)moved : head_left;

	if (frame->stage == FRAME_QUEUED) {
		frame->stage = FRAME_SENDING;
		rail->unanswered++;
		rail->unanswered_bytes += frame->length;
	}
	rail->head_sent += head;
	if (frame->write)
		frame->moved += moved - head;
	if (rail->head_sent == rail->head_length && (!frame->write || frame->moved == frame->length)) {
		frame->stage = FRAME_SENT;
		rail->sending = NULL;
	}
}

int cw__tcp_rail_send(struct cw__tcp_rail *rail, int64_t *budget)
{
	struct iovec places[CW__TCP_PIECES_MAX + 1];

	while (*budget > 0 && !rail->blocked && !paused(rail)) {
		struct cw__tcp_frame *frame;
		size_t head_left;
		int64_t moved;
		int count = 0;

		if (!rail->sending && !next_frame(rail, budget))
			return CW_OK;
		frame = rail->sending;
		head_left = rail->head_length - rail->head_sent;
		if (head_left)
			places[count++] = (struct iovec){ rail->head + rail->head_sent, head_left };
		if (frame->write && frame->slice)
			count += payload_places(rail, frame, frame->moved, CW__TCP_SEND_MAX, places + count);
		else if (frame->write)
			count += filler_places(frame, places + count);
		moved = cw__tcp_stream_writev(&rail->stream, places, count);
		if (moved == CW_ERR_AGAIN) {
			rail->blocked = 1;
			return CW_OK;
		}
		if (moved < 0)
			return CW_ERR_IO;
		*budget -= moved;
		count_sent(rail, frame, (uint64_t)moved);
	}
	return CW_OK;
}

/* ------------------------------------------------------------------------------------------- receiving */

/* One chunk of the payload of a READ. Bytes moved or a status of the stream. */
static int64_t receive_payload(struct cw__tcp_rail *rail)
{
	struct cw__tcp_frame *frame = rail->receiving;
	struct iovec places[CW__TCP_PIECES_MAX];
	uint64_t left;
	int64_t moved;
	int count;

	if (!frame->slice) {
		moved = cw__tcp_input_drop(&rail->input, &rail->stream, frame->length - frame->moved);
		if (moved > 0)
			frame->moved += (uint64_t)moved;
		return moved;
	}
	count = payload_places(rail, frame, frame->moved, CW_CHUNK_MAX, places);
	moved = cw__tcp_input_place(&rail->input, &rail->stream, places, count);
	if (moved <= 0)
		return moved;
	frame->moved += (uint64_t)moved;
	left = (uint64_t)moved;
	for (int i = 0; rail->answer.flags & CW__DATA_CHECKSUM && left; i++) {
		size_t length = left < places[i].iov_len ? (size_t)left : places[i].iov_len;

		frame->crc = cw__crc32c(frame->crc, places[i].iov_base, length);
		left -= length;
	}
	return moved;
}

static void answered(struct cw__tcp_rail *rail, struct cw__tcp_frame *frame, int status)
{
	rail->tries = 0;
	if (status == CW_ERR_BUSY) /* a device over there does not come back with the bytes, and may yet write them */
		cw__tcp_frame_end(rail, frame, CW_ERR_IO, CW_REMOTE_UNKNOWN);
	else
		cw__tcp_frame_end(rail, frame, status, CW_REMOTE_QUIET);
}

/* Takes the header of an answer from the buffer. CW_OK, ERR_AGAIN (not all there) or ERR_PROTOCOL. */
static int take_answer(struct cw__tcp_rail *rail)
{
	struct cw__data_header answer;
	struct cw__tcp_frame *frame;

	if (cw__tcp_input_have(&rail->input) < CW__DATA_HEADER_BYTES)
		return CW_ERR_AGAIN;
	if (cw__data_header_decode(cw__tcp_input_bytes(&rail->input), &answer))
		return CW_ERR_PROTOCOL;
	cw__tcp_input_consume(&rail->input, CW__DATA_HEADER_BYTES);
	frame = cw__tcp_frame_find(rail, answer.id);
	if (!frame || frame->stage != FRAME_SENT || answer.status > 0 ||
	    answer.type != (frame->write ? CW__DATA_DONE : CW__DATA_DATA))
		return CW_ERR_PROTOCOL;
	cw__tcp_clock_sample(&rail->rails->offset, answer.clock_ns, cw__tcp_rail_host(rail)->now());
	if (frame->write || answer.status) {
		rail->input.likely = 0;
		answered(rail, frame, answer.status);
		return CW_OK;
	}
	if (answer.length != frame->length)
		return CW_ERR_PROTOCOL;
	rail->input.likely = answer.length >= CW__TCP_DIRECT_BYTES ? CW__DATA_HEADER_BYTES : 0;
	rail->answer = answer;
	rail->receiving = frame;
	return CW_OK;
}

static int64_t take_payload(struct cw__tcp_rail *rail)
{
	struct cw__tcp_frame *frame = rail->receiving;
	int64_t moved = receive_payload(rail);
	int wrong;

	if (moved <= 0 || frame->moved < frame->length)
		return moved;
	wrong = frame->slice && rail->answer.flags & CW__DATA_CHECKSUM && frame->crc != rail->answer.checksum;
	answered(rail, frame, wrong ? CW_ERR_CHECKSUM : CW_OK);
	return moved;
}

int cw__tcp_rail_receive(struct cw__tcp_rail *rail, int64_t *budget)
{
	while (rail->stage == RAIL_UP) {
		int64_t moved;

		if (!rail->receiving) {
			int status = take_answer(rail);

			if (status == CW_OK)
				continue;
			if (status != CW_ERR_AGAIN)
				return status;
		}
		/* The buffer is always emptied: no event would come for what is in it. */
		if (*budget <= 0 && (!rail->receiving || !cw__tcp_input_have(&rail->input)))
			return CW_OK;
		moved = rail->receiving ? take_payload(rail) : cw__tcp_input_fill(&rail->input, &rail->stream);
		if (moved == CW_ERR_AGAIN)
			return CW_OK;
		if (moved < 0)
			return CW_ERR_IO;
		*budget -= moved;
	}
	return CW_OK;
}
