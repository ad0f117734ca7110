/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Welcome: taken bytes are the only encoding of their meaning, except that later versions may append to it.
 */
#include "fuzz.h"

#include "wire/native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned char bytes[CW__WELCOME_MAX], again[CW__WELCOME_MAX];
	struct cw__welcome welcome;
	size_t length;

	if (cw__welcome_decode(data, size, &welcome))
		return 0;
	require(welcome.transport_count <= CW__TRANSPORTS_MAX);
	length = cw__welcome_encode(&welcome, bytes, sizeof(bytes));
	require(length > 0 && length <= size);
	require(welcome.version > CW__NATIVE_VERSION || (length == size && memcmp(bytes, data, size) == 0));
	require(cw__welcome_decode(bytes, length, &welcome) == CW_OK);
	require(cw__welcome_encode(&welcome, again, sizeof(again)) == length && memcmp(bytes, again, length) == 0);
	return 0;
}
