/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hello: taken bytes are the only encoding of their meaning, except that later versions may append to it.
 */
#include "fuzz.h"

#include "wire/native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char bytes[CW__HELLO_MAX], again[CW__HELLO_MAX];
	struct cw__hello hello;
	size_t length;

	if (cw__hello_decode(data, size, &hello))
		return 0;
	length = cw__hello_encode(&hello, bytes, sizeof(bytes));
	require(length > 0 && length <= size);
	require(hello.version > CW__NATIVE_VERSION || (length == size && memcmp(bytes, data, size) == 0));
	require(cw__hello_decode(bytes, length, &hello) == CW_OK);
	require(cw__hello_encode(&hello, again, sizeof(again)) == length && memcmp(bytes, again, length) == 0);
	return 0;
}
