/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounds-checked little-endian reading and writing of bytes. An access past the end sets `bad`, reads as 0 and writes
 * nothing, so a decoder checks once at its end. Lengths never wrap.
 */
#ifndef CW_UTIL_CURSOR_H
#define CW_UTIL_CURSOR_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

struct cw__reader {
	const unsigned char *at, *end;
	int bad;
};

struct cw__writer {
	unsigned char *start, *at, *end;
	int bad;
};

static inline struct cw__reader cw__reader_init(const void *data, size_t length)
{
	const unsigned char *start = (const unsigned char *)data;
	struct cw__reader reader = { start, start + length, 0 };

	return reader;
}

static inline size_t cw__reader_left(const struct cw__reader *reader)
{
	return (size_t)(reader->end - reader->at);
}

/* A borrowed view of the next length bytes; NULL when they are not there. */
static inline const unsigned char *cw__get_bytes(struct cw__reader *reader, size_t length)
{
	const unsigned char *at = reader->at;

	if (reader->bad || length > cw__reader_left(reader)) {
		reader->bad = 1;
		return NULL;
	}
	reader->at += length;
	return at;
}

static inline uint64_t cw__get_uint(struct cw__reader *reader, size_t bytes)
{
	const unsigned char *at = cw__get_bytes(reader, bytes);
	uint64_t value = 0;

	if (at)
		memcpy(&value, at, bytes); /* the low bytes come first */
	return le64toh(value);
}

static inline uint8_t cw__get_u8(struct cw__reader *reader)
{
	return (uint8_t)cw__get_uint(reader, 1);
}

static inline uint16_t cw__get_u16(struct cw__reader *reader)
{
	return (uint16_t)cw__get_uint(reader, 2);
}

static inline uint32_t cw__get_u32(struct cw__reader *reader)
{
	return (uint32_t)cw__get_uint(reader, 4);
}

static inline uint64_t cw__get_u64(struct cw__reader *reader)
{
	return cw__get_uint(reader, 8);
}

static inline struct cw__writer cw__writer_init(void *data, size_t length)
{
	unsigned char *start = (unsigned char *)data;
	struct cw__writer writer = { start, start, start + length, 0 };

	return writer;
}

static inline size_t cw__writer_used(const struct cw__writer *writer)
{
	return (size_t)(writer->at - writer->start);
}

static inline void cw__put_bytes(struct cw__writer *writer, const void *data, size_t length)
{
	if (writer->bad || length > (size_t)(writer->end - writer->at)) {
		writer->bad = 1;
		return;
	}
	if (length)
		memcpy(writer->at, data, length);
	writer->at += length;
}

static inline void cw__put_uint(struct cw__writer *writer, uint64_t value, size_t bytes)
{
	uint64_t low_first = htole64(value);

	cw__put_bytes(writer, &low_first, bytes);
}

static inline void cw__put_u8(struct cw__writer *writer, uint8_t value)
{
	cw__put_uint(writer, value, 1);
}

static inline void cw__put_u16(struct cw__writer *writer, uint16_t value)
{
	cw__put_uint(writer, value, 2);
}

static inline void cw__put_u32(struct cw__writer *writer, uint32_t value)
{
	cw__put_uint(writer, value, 4);
}

static inline void cw__put_u64(struct cw__writer *writer, uint64_t value)
{
	cw__put_uint(writer, value, 8);
}

#endif
