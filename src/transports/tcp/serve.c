/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of payload between sockets and granted memory. See serve.h. */
#include "serve.h"

#include <stdlib.h>

#define GRANTS_MAX 64u

/* The memory of one chunk, pinned: by one grant for all places, or by one for each. */
struct chunk {
	struct cw_grant grants[GRANTS_MAX];
	struct iovec places[CW__TCP_PLACES_MAX + 1]; /* [0] is free for a header */
	unsigned count, grant_count;
};

int cw__tcp_serving_reserve(struct cw__tcp_serving *serving, uint32_t count)
{
	struct cw__data_piece *grown;

	if (count <= serving->capacity)
		return CW_OK;
	grown = realloc(serving->pieces, count * sizeof(*grown));
	if (!grown)
		return CW_ERR_NO_MEMORY;
	serving->pieces = grown;
	serving->capacity = count;
	return CW_OK;
}

void cw__tcp_serving_free(struct cw__tcp_serving *serving)
{
	free(serving->pieces);
	serving->pieces = NULL;
	serving->capacity = 0;
}

void cw__tcp_serving_rewind(struct cw__tcp_serving *serving, uint64_t length)
{
	serving->index = 0;
	serving->offset = 0;
	serving->left = length;
	serving->crc = 0;
}

static struct cw_claim joint_claim(const struct cw__tcp_serving *serving)
{
	struct cw_claim claim = serving->claim;

	claim.address = serving->from;
	claim.length = serving->span;
	claim.host_only = 1;
	return claim;
}

/* Pages of one region are granted together where that is possible: a grant for each costs more than the system call
 * that fills them. What lies between them may be revoked; then each has to be looked at. */
static int may_touch_range(struct cw_host *host, struct cw__tcp_serving *serving)
{
	uint64_t from = UINT64_MAX, to = 0;
	struct cw_claim claim;
	struct cw_grant grant;

	for (uint32_t i = 0; i < serving->count; i++) {
		const struct cw__data_piece *piece = &serving->pieces[i];

		if (piece->address > UINT64_MAX - piece->length)
			return 0;
		from = piece->address < from ? piece->address : from;
		to = piece->address + piece->length > to ? piece->address + piece->length : to;
	}
	serving->from = from;
	serving->span = to - from;
	claim = joint_claim(serving);
	if (!host->ops->access_begin(host, &claim, &grant)) {
		(void)host->ops->access_end(host, &grant, 0);
		return 1;
	}
	serving->span = 0;
	return 0;
}

int cw__tcp_serving_check(struct cw_host *host, struct cw__tcp_serving *serving)
{
	struct cw_claim claim = serving->claim;

	serving->span = 0;
	if (serving->count > 1 && may_touch_range(host, serving))
		return CW_OK;
	for (uint32_t i = 0; i < serving->count; i++) {
		int status;

		claim.address = serving->pieces[i].address;
		claim.length = serving->pieces[i].length;
		status = host->ops->access_check(host, &claim);
		if (status)
			return status;
	}
	return CW_OK;
}

/* The places of the next `room` bytes, with one grant for all. 0 = that is not possible. */
static int begin_jointly(struct cw_host *host, const struct cw__tcp_serving *serving, uint64_t room,
			 struct chunk *chunk)
{
	const struct cw_claim claim = joint_claim(serving);
	uint64_t offset = serving->offset;

	if (!serving->span || host->ops->access_begin(host, &claim, &chunk->grants[0]))
		return 0;
	chunk->grant_count = 1;
	chunk->count = 0;
	for (uint32_t i = serving->index; room && chunk->count < CW__TCP_PLACES_MAX && i < serving->count; i++) {
		const struct cw__data_piece *piece = &serving->pieces[i];
		uint64_t length = piece->length - offset < room ? piece->length - offset : room;
		unsigned char *at = chunk->grants[0].pointer + (piece->address - serving->from) + offset;

		chunk->places[++chunk->count] = (struct iovec){ at, length };
		room -= length;
		offset = 0;
	}
	return 1;
}

/* Pins the next `room` bytes, or as much of them as is still there. The refusal of the very first piece is the result.
 */
static int chunk_begin(struct cw_host *host, const struct cw__tcp_serving *serving, uint64_t room, struct chunk *chunk)
{
	uint64_t offset = serving->offset;
	struct cw_claim claim = serving->claim;

	if (room > serving->left)
		room = serving->left;
	if (begin_jointly(host, serving, room, chunk))
		return CW_OK;
	chunk->count = chunk->grant_count = 0;
	for (uint32_t i = serving->index; room && chunk->count < GRANTS_MAX && i < serving->count; i++, offset = 0) {
		struct cw_grant *grant = &chunk->grants[chunk->count];
		int status;

		claim.address = serving->pieces[i].address + offset;
		claim.length = serving->pieces[i].length - offset;
		if (claim.length > room)
			claim.length = room;
		status = host->ops->access_begin(host, &claim, grant);
		if (status)
			return chunk->count ? CW_OK : status;
		room -= grant->length;
		chunk->places[++chunk->count] = (struct iovec){ grant->pointer, grant->length };
		chunk->grant_count = chunk->count;
		if (grant->length < claim.length)
			break;
	}
	return chunk->count ? CW_OK : CW_ERR_INTERNAL;
}

/* Unpins the chunk, of which `moved` bytes were used, and goes on behind them. Hashing does not count as serving.
 * CW_OK, or the first failure to bring bytes where they belong; but ERR_BUSY, some may land yet, outweighs the others.
 */
static int chunk_end(struct cw_host *host, struct cw__tcp_serving *serving, struct chunk *chunk, uint64_t moved,
		     int served)
{
	int failure = CW_OK, jointly = chunk->grant_count < chunk->count;
	uint64_t all = moved;

	serving->left -= moved;
	for (unsigned i = 0; i < chunk->count && (moved || !jointly); i++) {
		const struct iovec *place = &chunk->places[i + 1];
		uint64_t here = moved < place->iov_len ? moved : place->iov_len;
		int status;

		if (serving->checksum && here)
			serving->crc = cw__crc32c(serving->crc, place->iov_base, here);
		status = jointly ? CW_OK : host->ops->access_end(host, &chunk->grants[i], served ? here : 0);
		if (!failure || status == CW_ERR_BUSY)
			failure = status;
		moved -= here;
		serving->offset += here;
		if (serving->index < serving->count && serving->offset == serving->pieces[serving->index].length) {
			serving->index++;
			serving->offset = 0;
		}
	}
	return jointly ? host->ops->access_end(host, &chunk->grants[0], served ? all : 0) : failure;
}

int64_t cw__tcp_serving_receive(struct cw_host *host, struct cw__tcp_serving *serving, struct cw__tcp_input *input,
				struct cw__tcp_stream *stream, int *refused_out)
{
	struct chunk chunk;
	int64_t moved;

	*refused_out = chunk_begin(host, serving, CW_CHUNK_MAX, &chunk);
	if (*refused_out)
		return 0;
	moved = cw__tcp_input_place(input, stream, chunk.places + 1, (int)chunk.count);
	*refused_out = chunk_end(host, serving, &chunk, moved > 0 ? (uint64_t)moved : 0, 1);
	return moved;
}

int64_t cw__tcp_serving_send(struct cw_host *host, struct cw__tcp_serving *serving, struct cw__tcp_stream *stream,
			     const unsigned char *head, size_t head_length, int *refused_out)
{
	struct chunk chunk;
	int with_head = head_length > 0;
	uint64_t payload;
	int64_t moved;

	*refused_out = chunk_begin(host, serving, CW__TCP_SEND_MAX, &chunk);
	if (*refused_out)
		return 0;
	chunk.places[0] = (struct iovec){ (void *)(uintptr_t)head, head_length };
	moved = cw__tcp_stream_writev(stream, chunk.places + !with_head, (int)chunk.count + with_head);
	payload = moved > (int64_t)head_length ? (uint64_t)moved - head_length : 0;
	(void)chunk_end(host, serving, &chunk, payload, 1); /* reading brings nothing back */
	return moved;
}

int64_t cw__tcp_serving_hash(struct cw_host *host, struct cw__tcp_serving *serving, int *refused_out)
{
	struct chunk chunk;
	uint64_t length = 0;

	*refused_out = chunk_begin(host, serving, CW_CHUNK_MAX, &chunk);
	if (*refused_out)
		return 0;
	for (unsigned i = 1; i <= chunk.count; i++)
		length += chunk.places[i].iov_len;
	(void)chunk_end(host, serving, &chunk, length, 0);
	return (int64_t)length;
}
