/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary part of what Mooncake engines speak: the frame around control messages, and header and status of the data
 * connection. The JSON inside the frames is in descriptor.c. docs/protocol.md, "Classic".
 */
#include "wire/classic.h"

#include <assert.h>

#include "util/cursor.h"

#define OPCODE_READ 0x00u
#define OPCODE_WRITE 0x01u
#define OPCODE_MASK 0x7fu
#define OPCODE_ACKNOWLEDGED 0x80u
#define PADDING_BYTES 7
#define STATUS_TAG 0x4d435456u /* "MCTV" read as a number: the upper half of a status */

int cw__classic_length_decode(const unsigned char data[CW__CLASSIC_LENGTH_BYTES], uint64_t max, size_t *length_out)
{
	struct cw__reader reader = cw__reader_init(data, CW__CLASSIC_LENGTH_BYTES);
	uint64_t length = cw__get_u64(&reader);

	if (length == 0 || length > max || length > CW__CLASSIC_MAX_HARD)
		return CW_ERR_PROTOCOL;
	*length_out = (size_t)length;
	return CW_OK;
}

int cw__classic_body_decode(const void *body, size_t length, struct cw__classic_frame *frame_out)
{
	struct cw__reader reader = cw__reader_init(body, length);
	unsigned first = cw__get_u8(&reader);

	if (reader.bad || first > 127)
		return CW_ERR_PROTOCOL;
	if (first > CW__CLASSIC_PROBE) {
		frame_out->type = CW__CLASSIC_OLD;
		frame_out->json = (const char *)body;
		frame_out->json_length = length;
	} else {
		frame_out->type = (enum cw__classic_type)first;
		frame_out->json = (const char *)reader.at;
		frame_out->json_length = cw__reader_left(&reader);
	}
	return CW_OK;
}

size_t cw__classic_encode(enum cw__classic_type type, const char *json, size_t json_length, void *out, size_t capacity)
{
	size_t type_bytes = type == CW__CLASSIC_OLD ? 0 : 1;
	size_t needed = CW__CLASSIC_LENGTH_BYTES + type_bytes + json_length;
	struct cw__writer writer;

	if (json_length > CW__CLASSIC_MAX_HARD - type_bytes)
		return 0;
	if (!out)
		return needed;
	writer = cw__writer_init(out, capacity);
	cw__put_u64(&writer, type_bytes + json_length);
	if (type_bytes)
		cw__put_u8(&writer, (uint8_t)type);
	cw__put_bytes(&writer, json, json_length);
	return writer.bad ? 0 : needed;
}

void cw__classic_header_encode(const struct cw__classic_header *header, unsigned char out[CW__CLASSIC_HEADER_BYTES])
{
	struct cw__writer writer = cw__writer_init(out, CW__CLASSIC_HEADER_BYTES);
	unsigned opcode = header->write ? OPCODE_WRITE : OPCODE_READ;

	if (header->acknowledged)
		opcode |= OPCODE_ACKNOWLEDGED;
	cw__put_u64(&writer, header->length);
	cw__put_u64(&writer, header->address);
	cw__put_u8(&writer, (uint8_t)opcode);
	cw__put_uint(&writer, 0, PADDING_BYTES);
	assert(cw__writer_used(&writer) == CW__CLASSIC_HEADER_BYTES);
}

/* The padding is not looked at: deployed engines send whatever was in their memory. */
void cw__classic_header_decode(const unsigned char data[CW__CLASSIC_HEADER_BYTES],
			       struct cw__classic_header *header_out)
{
	struct cw__reader reader = cw__reader_init(data, CW__CLASSIC_HEADER_BYTES);
	unsigned opcode;

	header_out->length = cw__get_u64(&reader);
	header_out->address = cw__get_u64(&reader);
	opcode = cw__get_u8(&reader);
	header_out->write = (opcode & OPCODE_MASK) == OPCODE_WRITE;
	header_out->acknowledged = (opcode & OPCODE_ACKNOWLEDGED) != 0;
}

void cw__classic_status_encode(uint32_t code, unsigned char out[CW__CLASSIC_STATUS_BYTES])
{
	struct cw__writer writer = cw__writer_init(out, CW__CLASSIC_STATUS_BYTES);

	cw__put_u32(&writer, code);
	cw__put_u32(&writer, STATUS_TAG);
}

int cw__classic_status_decode(const unsigned char data[CW__CLASSIC_STATUS_BYTES], uint32_t *code_out)
{
	struct cw__reader reader = cw__reader_init(data, CW__CLASSIC_STATUS_BYTES);
	uint32_t code = cw__get_u32(&reader);

	if (cw__get_u32(&reader) != STATUS_TAG)
		return CW_ERR_PROTOCOL;
	*code_out = code;
	return CW_OK;
}
