/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data frames: header and pieces come back the same, pieces stay within their total; both checksums agree.
 */
#include "fuzz.h"

#include "wire/crc32c.h"
#include "wire/native.h"

static void check_pieces(const struct cw__data_header *header, const uint8_t *data, size_t size)
{
	static struct cw__data_piece pieces[CW__DATA_PIECES_MAX];
	uint64_t total = 0;

	if (header->piece_count > size / CW__DATA_PIECE_BYTES ||
	    cw__data_pieces_decode(data, header->piece_count, header->length, pieces))
		return;
	for (uint32_t i = 0; i < header->piece_count; i++) {
		unsigned char bytes[CW__DATA_PIECE_BYTES];

		require(pieces[i].length > 0 && pieces[i].address + (pieces[i].length - 1) >= pieces[i].address);
		total += pieces[i].length;
		cw__data_piece_encode(&pieces[i], bytes);
		require(memcmp(bytes, data + i * sizeof(bytes), sizeof(bytes)) == 0);
	}
	require(total == header->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char bytes[CW__DATA_HEADER_BYTES];
	struct cw__data_header header;

	require(cw__crc32c(0, data, size) == cw__crc32c_table(0, data, size));
	if (size < sizeof(bytes) || cw__data_header_decode(data, &header))
		return 0;
	require(header.length <= CW__DATA_PAYLOAD_MAX && header.piece_count <= CW__DATA_PIECES_MAX);
	cw__data_header_encode(&header, bytes);
	require(memcmp(bytes, data, sizeof(bytes)) == 0);
	check_pieces(&header, data + sizeof(bytes), size - sizeof(bytes));
	return 0;
}
