/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control frames: a header, then the body that its type asks for. Taken bytes are the only encoding of their meaning.
 */
#include "fuzz.h"

#include "wire/native.h"

static void check_body(unsigned type, const uint8_t *data, size_t size)
{
	static unsigned char bytes[CW__CONTROL_BODY_MAX];
	size_t length = 0;

	switch (type) {
	case CW__CONTROL_RESOLVE: {
		struct cw__resolve resolve;

		if (cw__resolve_decode(data, size, &resolve))
			return;
		length = cw__resolve_encode(&resolve, bytes, sizeof(bytes));
		break;
	}
	case CW__CONTROL_NOTIFY: {
		struct cw__notify notify;

		if (cw__notify_decode(data, size, &notify))
			return;
		require(notify.length <= CW_NOTIFY_MAX);
		length = cw__notify_encode(&notify, bytes, sizeof(bytes));
		break;
	}
	case CW__CONTROL_MESSAGE: {
		struct cw__message message;

		if (cw__message_decode(data, size, &message))
			return;
		length = cw__message_encode(&message, bytes, sizeof(bytes));
		break;
	}
	case CW__CONTROL_CANCEL: {
		struct cw__cancel cancel;

		if (cw__cancel_decode(data, size, &cancel))
			return;
		require(cancel.count <= CW__CANCEL_MAX);
		length = cw__cancel_encode(&cancel, bytes, sizeof(bytes));
		break;
	}
	default:
		return;
	}
	require(length == size && memcmp(bytes, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char bytes[CW__CONTROL_HEADER_BYTES];
	struct cw__control_header header;

	if (size < sizeof(bytes) || cw__control_header_decode(data, &header))
		return 0;
	require(header.length <= CW__CONTROL_BODY_MAX);
	cw__control_header_encode(&header, bytes);
	require(memcmp(bytes, data, sizeof(bytes)) == 0);
	check_body(header.type, data + sizeof(bytes), size - sizeof(bytes));
	return 0;
}
