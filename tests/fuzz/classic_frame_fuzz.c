/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classic frames, and the data header and status that begin at the same byte.
 */
#include "fuzz.h"

#include "wire/classic.h"

static void check_frame(const uint8_t *data, size_t size)
{
	struct cw__classic_frame frame;
	unsigned char *bytes;
	size_t length;

	if (size < CW__CLASSIC_LENGTH_BYTES || cw__classic_length_decode(data, CW__CLASSIC_MAX, &length))
		return;
	require(length > 0 && length <= CW__CLASSIC_MAX);
	if (length > size - CW__CLASSIC_LENGTH_BYTES ||
	    cw__classic_body_decode(data + CW__CLASSIC_LENGTH_BYTES, length, &frame))
		return;
	bytes = malloc(length + CW__CLASSIC_LENGTH_BYTES);
	require(bytes);
	length += CW__CLASSIC_LENGTH_BYTES;
	require(cw__classic_encode(frame.type, frame.json, frame.json_length, NULL, 0) == length);
	require(cw__classic_encode(frame.type, frame.json, frame.json_length, bytes, length) == length);
	require(memcmp(bytes, data, length) == 0);
	free(bytes);
}

static void check_data(const uint8_t *data, size_t size)
{
	struct cw__classic_header header, back;
	unsigned char bytes[CW__CLASSIC_HEADER_BYTES];
	uint32_t code;

	if (size >= CW__CLASSIC_STATUS_BYTES && cw__classic_status_decode(data, &code) == CW_OK) {
		cw__classic_status_encode(code, bytes);
		require(memcmp(bytes, data, CW__CLASSIC_STATUS_BYTES) == 0);
	}
	if (size < CW__CLASSIC_HEADER_BYTES)
		return;
	cw__classic_header_decode(data, &header);
	cw__classic_header_encode(&header, bytes);
	cw__classic_header_decode(bytes, &back);
	require(back.length == header.length && back.address == header.address && back.write == header.write &&
		back.acknowledged == header.acknowledged);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_frame(data, size);
	check_data(data, size);
	return 0;
}
