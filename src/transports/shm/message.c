/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding of the messages between two engines on one machine; no input or output here. */
#include <causeway/causeway.h>
#include <transports/shm/message.h>
#include <util/cursor.h>

static size_t finish(const struct cw__writer *writer)
{
	return writer->bad ? 0 : cw__writer_used(writer);
}

/* ------------------------------------------------------------------------------ what everybody is told */

size_t cw__shm_description_encode(const struct cw__shm_description *description, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u16(&writer, description->version);
	cw__put_u16(&writer, description->flags);
	cw__put_u8(&writer, description->name_length);
	cw__put_bytes(&writer, description->name, description->name_length);
	return finish(&writer);
}

/* A later version may append fields, so bytes after the name are not looked at. */
int cw__shm_description_decode(const void *data, size_t length, struct cw__shm_description *description_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__shm_description description = { 0 };

	description.version = cw__get_u16(&reader);
	description.flags = cw__get_u16(&reader);
	description.name_length = cw__get_u8(&reader);
	description.name = cw__get_bytes(&reader, description.name_length);
	if (reader.bad || !description.version || !description.name_length ||
	    description.name_length > CW__SHM_NAME_MAX)
		return CW_ERR_PROTOCOL;
	*description_out = description;
	return CW_OK;
}

size_t cw__shm_region_encode(uint16_t flags, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u16(&writer, CW__SHM_VERSION);
	cw__put_u16(&writer, flags);
	return finish(&writer);
}

int cw__shm_region_decode(const void *data, size_t length, uint16_t *flags_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	uint16_t version = cw__get_u16(&reader), flags = cw__get_u16(&reader);

	if (reader.bad || !version)
		return CW_ERR_PROTOCOL;
	*flags_out = flags;
	return CW_OK;
}

/* -------------------------------------------------------------------------------------------- messages */

/* Header: u32 length of the whole message, u16 type, u16 zero, i32 status, u32 zero, u64 id. */
static void put_header(struct cw__writer *writer, const struct cw__shm_message *message, uint32_t length)
{
	cw__put_u32(writer, length);
	cw__put_u16(writer, message->type);
	cw__put_u16(writer, 0);
	cw__put_u32(writer, (uint32_t)message->status);
	cw__put_u32(writer, 0);
	cw__put_u64(writer, message->id);
}

static uint32_t body_bytes(const struct cw__shm_message *message)
{
	switch (message->type) {
	case CW__SHM_HELLO:
	case CW__SHM_WELCOME:
		return 56;
	case CW__SHM_IMPORT:
		return 16;
	case CW__SHM_IMPORTED:
		return 24;
	case CW__SHM_PULL:
		return 40 + message->pull.count * CW__SHM_PIECE_BYTES;
	default:
		return 0;
	}
}

static void put_body(struct cw__writer *writer, const struct cw__shm_message *message)
{
	switch (message->type) {
	case CW__SHM_HELLO:
	case CW__SHM_WELCOME:
		cw__put_u16(writer, message->hello.version);
		cw__put_u16(writer, message->hello.flags);
		cw__put_u32(writer, 0);
		cw__put_bytes(writer, message->hello.instance, CW__SHM_INSTANCE_BYTES);
		cw__put_bytes(writer, message->hello.expected, CW__SHM_INSTANCE_BYTES);
		cw__put_u64(writer, message->hello.proof);
		cw__put_u64(writer, message->hello.link);
		break;
	case CW__SHM_IMPORT:
		cw__put_u64(writer, message->import.region);
		cw__put_u64(writer, message->import.key);
		break;
	case CW__SHM_IMPORTED:
		cw__put_u32(writer, message->imported.flags);
		cw__put_u32(writer, 0);
		cw__put_u64(writer, message->imported.offset);
		cw__put_u64(writer, message->imported.length);
		break;
	case CW__SHM_PULL:
		cw__put_u64(writer, message->pull.region);
		cw__put_u64(writer, message->pull.key);
		cw__put_u64(writer, message->pull.not_after);
		cw__put_u64(writer, message->pull.length);
		cw__put_u32(writer, message->pull.count);
		cw__put_u32(writer, 0);
		break;
	default:
		break;
	}
}

size_t cw__shm_message_encode(const struct cw__shm_message *message, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	put_header(&writer, message, CW__SHM_HEADER_BYTES + body_bytes(message));
	put_body(&writer, message);
	return finish(&writer);
}

size_t cw__shm_piece_encode(const struct cw__shm_piece *piece, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u64(&writer, piece->source);
	cw__put_u64(&writer, piece->target);
	cw__put_u64(&writer, piece->length);
	return finish(&writer);
}

struct cw__shm_piece cw__shm_piece_at(const unsigned char *pieces, uint32_t index)
{
	struct cw__reader reader = cw__reader_init(pieces + (size_t)index * CW__SHM_PIECE_BYTES, CW__SHM_PIECE_BYTES);
	struct cw__shm_piece piece;

	piece.source = cw__get_u64(&reader);
	piece.target = cw__get_u64(&reader);
	piece.length = cw__get_u64(&reader);
	return piece;
}

static int pieces_are_sound(const struct cw__shm_message *message)
{
	uint64_t left = message->pull.length;

	for (uint32_t i = 0; i < message->pull.count; i++) {
		struct cw__shm_piece piece = cw__shm_piece_at(message->pull.pieces, i);

		if (!piece.length || piece.length > left || piece.length > UINT64_MAX - piece.source ||
		    piece.length > UINT64_MAX - piece.target)
			return 0;
		left -= piece.length;
	}
	return left == 0;
}

static int get_pull(struct cw__reader *reader, struct cw__shm_message *message)
{
	uint32_t reserved;

	message->pull.region = cw__get_u64(reader);
	message->pull.key = cw__get_u64(reader);
	message->pull.not_after = cw__get_u64(reader);
	message->pull.length = cw__get_u64(reader);
	message->pull.count = cw__get_u32(reader);
	reserved = cw__get_u32(reader);
	if (reader->bad || reserved || !message->pull.count || message->pull.count > CW__SHM_PIECES_MAX)
		return 0;
	message->pull.pieces = cw__get_bytes(reader, message->pull.count * (size_t)CW__SHM_PIECE_BYTES);
	return message->pull.pieces && pieces_are_sound(message);
}

static int get_hello(struct cw__reader *reader, struct cw__shm_message *message)
{
	const unsigned char *instance, *expected;
	uint32_t reserved;

	message->hello.version = cw__get_u16(reader);
	message->hello.flags = cw__get_u16(reader);
	reserved = cw__get_u32(reader);
	instance = cw__get_bytes(reader, CW__SHM_INSTANCE_BYTES);
	expected = cw__get_bytes(reader, CW__SHM_INSTANCE_BYTES);
	message->hello.proof = cw__get_u64(reader);
	message->hello.link = cw__get_u64(reader);
	if (reader->bad || reserved || !message->hello.version)
		return 0;
	memcpy(message->hello.instance, instance, CW__SHM_INSTANCE_BYTES);
	memcpy(message->hello.expected, expected, CW__SHM_INSTANCE_BYTES);
	return 1;
}

static int get_imported(struct cw__reader *reader, struct cw__shm_message *message)
{
	uint32_t reserved;

	message->imported.flags = cw__get_u32(reader);
	reserved = cw__get_u32(reader);
	message->imported.offset = cw__get_u64(reader);
	message->imported.length = cw__get_u64(reader);
	return !reader->bad && !reserved && message->imported.length <= UINT64_MAX - message->imported.offset;
}

static int get_body(struct cw__reader *reader, struct cw__shm_message *message)
{
	switch (message->type) {
	case CW__SHM_HELLO:
	case CW__SHM_WELCOME:
		return get_hello(reader, message);
	case CW__SHM_IMPORT:
		message->import.region = cw__get_u64(reader);
		message->import.key = cw__get_u64(reader);
		return 1;
	case CW__SHM_IMPORTED:
		return get_imported(reader, message);
	case CW__SHM_PULL:
		return get_pull(reader, message);
	case CW__SHM_DROP:
	case CW__SHM_REVOKE:
	case CW__SHM_REVOKED:
	case CW__SHM_PULLED:
	case CW__SHM_CANCEL:
		return 1;
	default:
		return 0;
	}
}

int cw__shm_message_decode(const void *data, size_t length, struct cw__shm_message *message_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	struct cw__shm_message message = { 0 };
	uint32_t stated = cw__get_u32(&reader), reserved;

	message.type = cw__get_u16(&reader);
	reserved = cw__get_u16(&reader);
	message.status = (int32_t)cw__get_u32(&reader);
	reserved |= cw__get_u32(&reader);
	message.id = cw__get_u64(&reader);
	if (reader.bad || stated != length || reserved || message.status > 0)
		return CW_ERR_PROTOCOL;
	if (!get_body(&reader, &message) || reader.bad || cw__reader_left(&reader))
		return CW_ERR_PROTOCOL;
	*message_out = message;
	return CW_OK;
}
