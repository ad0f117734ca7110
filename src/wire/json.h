/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict reading of JSON from peers and files. The text is first scanned by us (json_scan.c), which refuses what json-c
 * would let pass; json-c then builds the tree, and the getters below check type and range of each member.
 */
#ifndef CW_WIRE_JSON_H
#define CW_WIRE_JSON_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#define CW__JSON_DEPTH 32

/* What a scan counts: the members of all objects, and the first byte of the outermost value. */
struct cw__json_scan {
	uint64_t members;
	char first;
};

/* NULL when the text is one JSON value by RFC 8259, and within our limits: valid UTF-8, at most CW__JSON_DEPTH deep, no
 * NUL in a string, integers from -2^63 to 2^64-1. Otherwise a constant line that says what is wrong. */
const char *cw__json_scan(const char *text, size_t length, struct cw__json_scan *scan_out);

/* Is the text well-formed UTF-8 without NUL bytes? */
int cw__utf8_check(const char *text, size_t length);

/* Where the line for a refusal goes, and the path that stands before the member's name in it ("" or "buffers[]."). */
struct cw__why {
	char *text;
	size_t size;
	const char *where;
};

/* Writes the line; returns CW_ERR_PROTOCOL. */
__attribute__((format(printf, 2, 3))) int cw__json_refuse(const struct cw__why *why, const char *format, ...);

/* Parses a document whose outermost value is an object, or null when that is allowed: then *root_out is NULL. The
 * caller gives the tree back with json_object_put(). CW_ERR_PROTOCOL with a line in why. */
int cw__json_parse(const char *text, size_t length, int null_allowed, struct json_object **root_out,
		   const struct cw__why *why);

/* The getters refuse another type than the wanted one. An absent member is refused when required; else *out stays as it
 * was. */
enum cw__json_presence { CW__JSON_OPTIONAL, CW__JSON_REQUIRED };

/* An object or array, borrowed from object. */
int cw__json_get(struct json_object *object, const char *name, enum json_type type, enum cw__json_presence presence,
		 struct json_object **member_out, const struct cw__why *why);
/* A whole number from 0 to max. */
int cw__json_get_number(struct json_object *object, const char *name, uint64_t max, enum cw__json_presence presence,
			uint64_t *number_out, const struct cw__why *why);
/* A string of at most size - 1 bytes, copied with its NUL. */
int cw__json_get_text(struct json_object *object, const char *name, enum cw__json_presence presence, char *out,
		      size_t size, const struct cw__why *why);

#endif
