/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers and pieces of native data frames. This runs for every frame, so it allocates nothing and touches each byte
 * once. docs/protocol.md, "Data frames", has the table.
 */
#include "wire/native.h"

#include <assert.h>

#include "util/cursor.h"

void cw__data_header_encode(const struct cw__data_header *header, unsigned char out[CW__DATA_HEADER_BYTES])
{
	struct cw__writer writer = cw__writer_init(out, CW__DATA_HEADER_BYTES);

	cw__put_u32(&writer, CW__DATA_MAGIC);
	cw__put_u8(&writer, header->type);
	cw__put_u8(&writer, header->flags);
	cw__put_u16(&writer, header->attempt);
	cw__put_u32(&writer, header->piece_count);
	cw__put_u32(&writer, header->space);
	cw__put_u64(&writer, header->id);
	cw__put_u64(&writer, header->length);
	cw__put_u32(&writer, (uint32_t)header->status);
	cw__put_u32(&writer, header->checksum);
	cw__put_u64(&writer, header->region);
	cw__put_u64(&writer, header->key);
	cw__put_u64(&writer, header->not_after);
	cw__put_u64(&writer, header->clock_ns);
	cw__put_u32(&writer, header->reserved);
	cw__put_u32(&writer, 0);
	assert(cw__writer_used(&writer) == CW__DATA_HEADER_BYTES);
}

static int data_coherent(const struct cw__data_header *header)
{
	int payload = header->length > 0 && header->length <= CW__DATA_PAYLOAD_MAX;

	switch (header->type) {
	case CW__DATA_WRITE:
	case CW__DATA_READ:
		return header->piece_count >= 1 && header->piece_count <= CW__DATA_PIECES_MAX && payload &&
		       header->status == 0;
	case CW__DATA_DONE:
		return header->piece_count == 0 && header->length == 0 && header->status <= 0;
	case CW__DATA_DATA:
		return header->piece_count == 0 && (header->status == 0 ? payload : header->length == 0) &&
		       header->status <= 0;
	default:
		return 0;
	}
}

int cw__data_header_decode(const unsigned char data[CW__DATA_HEADER_BYTES], struct cw__data_header *header_out)
{
	struct cw__reader reader = cw__reader_init(data, CW__DATA_HEADER_BYTES);
	struct cw__data_header header;
	uint32_t magic, padding;

	magic = cw__get_u32(&reader);
	header.type = cw__get_u8(&reader);
	header.flags = cw__get_u8(&reader);
	header.attempt = cw__get_u16(&reader);
	header.piece_count = cw__get_u32(&reader);
	header.space = cw__get_u32(&reader);
	header.id = cw__get_u64(&reader);
	header.length = cw__get_u64(&reader);
	header.status = (int32_t)cw__get_u32(&reader);
	header.checksum = cw__get_u32(&reader);
	header.region = cw__get_u64(&reader);
	header.key = cw__get_u64(&reader);
	header.not_after = cw__get_u64(&reader);
	header.clock_ns = cw__get_u64(&reader);
	header.reserved = cw__get_u32(&reader);
	padding = cw__get_u32(&reader);
	if (magic != CW__DATA_MAGIC || (header.flags & ~CW__DATA_CHECKSUM) != 0 || header.reserved != 0 ||
	    padding != 0 || !data_coherent(&header))
		return CW_ERR_PROTOCOL;
	*header_out = header;
	return CW_OK;
}

void cw__data_piece_encode(const struct cw__data_piece *piece, unsigned char out[CW__DATA_PIECE_BYTES])
{
	struct cw__writer writer = cw__writer_init(out, CW__DATA_PIECE_BYTES);

	cw__put_u64(&writer, piece->address);
	cw__put_u64(&writer, piece->length);
	assert(cw__writer_used(&writer) == CW__DATA_PIECE_BYTES);
}

int cw__data_pieces_decode(const void *data, uint32_t count, uint64_t total, struct cw__data_piece *pieces_out)
{
	struct cw__reader reader;
	uint64_t left = total;

	if (count == 0 || count > CW__DATA_PIECES_MAX)
		return CW_ERR_PROTOCOL;
	reader = cw__reader_init(data, (size_t)count * CW__DATA_PIECE_BYTES);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t address = cw__get_u64(&reader), length = cw__get_u64(&reader);

		if (length == 0 || length > left || length - 1 > UINT64_MAX - address)
			return CW_ERR_PROTOCOL;
		left -= length;
		pieces_out[i].address = address;
		pieces_out[i].length = length;
	}
	return left == 0 ? CW_OK : CW_ERR_PROTOCOL;
}
