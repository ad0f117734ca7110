/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Region records, one after the other as in a list. Taken bytes are the only encoding of their meaning.
 */
#include "fuzz.h"

#include "wire/native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned char bytes[CW__CONTROL_BODY_MAX];
	struct cw__region_record record;
	size_t used;

	if (cw__region_record_decode(data, size, &record, NULL) == CW_OK)
		require(cw__region_record_encode(&record, bytes, sizeof(bytes)) == size);
	while (size > 0 && cw__region_record_decode(data, size, &record, &used) == CW_OK) {
		require(used > 0 && used <= size && record.length > 0);
		require(cw__region_record_encode(&record, bytes, sizeof(bytes)) == used &&
			memcmp(bytes, data, used) == 0);
		data += used;
		size -= used;
	}
	return 0;
}
