/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from a peer on this machine: what is accepted must be sound, and encode to the same bytes again. */
#include "fuzz.h"

#include <transports/shm/message.h>

static void check_message(const uint8_t *data, size_t size)
{
	unsigned char again[CW__SHM_MESSAGE_MAX];
	struct cw__shm_message message;
	uint64_t total = 0;
	size_t used;

	if (cw__shm_message_decode(data, size, &message))
		return;
	require(size <= sizeof(again));
	used = cw__shm_message_encode(&message, again, sizeof(again));
	require(used > 0);
	if (message.type == CW__SHM_PULL) {
		require(message.pull.count > 0 && message.pull.count <= CW__SHM_PIECES_MAX);
		for (uint32_t i = 0; i < message.pull.count; i++) {
			struct cw__shm_piece piece = cw__shm_piece_at(message.pull.pieces, i);

			require(piece.length > 0 && piece.source + piece.length > piece.source);
			require(piece.target + piece.length > piece.target);
			total += piece.length;
			used += cw__shm_piece_encode(&piece, again + used, sizeof(again) - used);
		}
		require(total == message.pull.length);
	}
	require(used == size && !memcmp(again, data, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cw__shm_description description;
	uint16_t flags;

	check_message(data, size);
	if (!cw__shm_description_decode(data, size, &description))
		require(description.name_length > 0 && description.name + description.name_length <= data + size);
	(void)cw__shm_region_decode(data, size, &flags);
	return 0;
}
