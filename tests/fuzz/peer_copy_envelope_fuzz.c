/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes about device memory from a peer on this machine: what is accepted must be sound, and encode to the same bytes
 * again. */
#include "fuzz.h"

#include <transports/peer_copy/envelope.h>

static void check_message(const uint8_t *data, size_t size)
{
	unsigned char again[CW__PC_ATTACH_BYTES];
	struct cw__pc_message message;

	if (cw__pc_message_decode(data, size, &message))
		return;
	require(message.type == CW__PC_ATTACH || message.type == CW__PC_DETACH);
	require(message.type == CW__PC_DETACH || (message.pid > 0 && message.pid <= INT32_MAX));
	require(cw__pc_message_encode(&message, again, sizeof(again)) == size && !memcmp(again, data, size));
}

static void check_envelope(const uint8_t *data, size_t size)
{
	unsigned char again[CW__PC_ENVELOPE_BYTES];
	struct cw__pc_envelope envelope;

	if (cw__pc_envelope_decode(data, size, &envelope))
		return;
	require(envelope.device >= 0 && envelope.length > 0 && memchr(envelope.pci, 0, sizeof(envelope.pci)));
	require(envelope.base + envelope.offset >= envelope.base);
	require(envelope.base + envelope.offset + envelope.length > envelope.base + envelope.offset);
	require(!envelope.size || envelope.offset + envelope.length <= envelope.size);
	require(cw__pc_envelope_encode(&envelope, again, sizeof(again)) == size && !memcmp(again, data, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cw__pc_offer offer;

	check_message(data, size);
	check_envelope(data, size);
	(void)cw__pc_offer_decode(data, size, &offer);
	return 0;
}
