/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment descriptors: what is taken and can be sent comes back the same.
 */
#include "fuzz.h"

#include "wire/classic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cw__descriptor descriptor, back;
	char why[160] = "", *text, *again;
	size_t length, again_length;

	if (cw__descriptor_decode((const char *)data, size, &descriptor, why, sizeof(why))) {
		require(why[0] != '\0' && strlen(why) < sizeof(why) && !strchr(why, '\n'));
		return 0;
	}
	require(descriptor.address_count <= 8 && descriptor.name[0] != '\0');
	text = cw__descriptor_encode(&descriptor, "2026-11-20 20:51:04.311592", &length);
	require((text != NULL) == (strcmp(descriptor.protocol, "tcp") == 0));
	if (text) {
		require(cw__descriptor_decode(text, length, &back, why, sizeof(why)) == CW_OK);
		require(back.buffer_count == descriptor.buffer_count && back.native == descriptor.native);
		again = cw__descriptor_encode(&back, "2026-11-20 20:51:04.311592", &again_length);
		require(again && again_length == length && memcmp(again, text, length) == 0);
		cw__descriptor_free(&back);
		free(again);
	}
	free(text);
	cw__descriptor_free(&descriptor);
	return 0;
}
