/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What crosses the wire between us and a Mooncake engine that runs TCP, as pure functions on bytes: control frames
 * (u64 length, type byte, JSON), the segment descriptor, and the 24-byte data header. docs/protocol.md, "Classic".
 */
#ifndef CW_WIRE_CLASSIC_H
#define CW_WIRE_CLASSIC_H

#include <causeway/causeway.h>

/* -------------------------------------------------------------------------------------- control frames */

enum cw__classic_type {
	CW__CLASSIC_CONNECTION = 0,
	CW__CLASSIC_METADATA = 1,
	CW__CLASSIC_NOTIFY = 2,
	CW__CLASSIC_PROBE = 3,
	CW__CLASSIC_OLD = 255 /* ours: a frame without a type byte; treated as CONNECTION, and so is its answer */
};
#define CW__CLASSIC_LENGTH_BYTES 8
#define CW__CLASSIC_MAX (1024u * 1024) /* default limit of a body */
#define CW__CLASSIC_MAX_HARD (128u * 1024 * 1024)

/* Body length from the first 8 bytes: 1 to max, else CW_ERR_PROTOCOL. */
int cw__classic_length_decode(const unsigned char data[CW__CLASSIC_LENGTH_BYTES], uint64_t max, size_t *length_out);

struct cw__classic_frame {
	enum cw__classic_type type;
	const char *json; /* borrowed from body; not NUL-terminated */
	size_t json_length;
};
/* Splits a body (what follows the length). First byte 0..3 = type; 4..127 = old-style frame, all of it JSON; else
 * CW_ERR_PROTOCOL. */
int cw__classic_body_decode(const void *body, size_t length, struct cw__classic_frame *frame_out);
/* Length, type byte (none for OLD) and json; the bytes needed when out is NULL, written otherwise; 0 = capacity too
 * small. */
size_t cw__classic_encode(enum cw__classic_type type, const char *json, size_t json_length, void *out, size_t capacity);

/* ------------------------------------------------------------------------------------------- documents */

/* All texts are malloc'ed JSON, compact, keys sorted, ending in one newline like the original's; freed with free().
 * NULL and errno: ENOMEM = no memory, EINVAL = a peer would refuse it (not UTF-8, empty name, unusable buffer, ...).
 * Decoders are strict: type, range, UTF-8, depth 32, duplicate keys, integers up to 2^64-1; CW_ERR_PROTOCOL with one
 * line in why (why_size bytes). Unknown members are passed over. */

struct cw__classic_buffer {
	uint64_t address, length;
	char location[32]; /* of device memory: what is written for its name; "" = the engine's name */
};

#define CW__CLASSIC_PROTOCOL "tcp" /* the one protocol of classic peers that we speak */

struct cw__descriptor {
	char name[256];             /* "host:port": the data host is taken from here */
	char protocol[32];          /* "tcp", "rdma", ... */
	char tcp_data_host[64];     /* numeric; "" when absent or a name: the host of the control port */
	uint16_t tcp_data_port;     /* 0 when none */
	unsigned tcp_proto_version; /* 1 when absent */
	/* Ours, in the member "x_causeway"; classic peers pass over it. */
	int native; /* 1 = the peer speaks the native protocol on its control port */
	unsigned native_version;
	unsigned char instance[16];
	char addresses[8][80]; /* advertised "address:port" candidates, best first */
	unsigned address_count;
	struct cw__classic_buffer *buffers; /* malloc'ed; cw__descriptor_free() */
	size_t buffer_count;
};
#define CW__DESCRIPTOR_BUFFERS_MAX 1000000u

/* A classic tcp descriptor with our member added. protocol other than "tcp" is refused on encoding. timestamp: the text
 * to put in. */
char *cw__descriptor_encode(const struct cw__descriptor *descriptor, const char *timestamp, size_t *length_out);
/* Buffers of protocols other than tcp are not listed; a tcp buffer with empty name, addr 0 or length 0 spoils the
 * whole. */
int cw__descriptor_decode(const char *json, size_t length, struct cw__descriptor *descriptor_out, char *why,
			  size_t why_size);
void cw__descriptor_free(struct cw__descriptor *descriptor);

struct cw__classic_notify {
	char *name, *message; /* malloc'ed, NUL-terminated; cw__classic_notify_free() */
};
/* Whether a message can be sent: UTF-8 without NUL bytes. */
int cw__classic_is_text(const char *text, size_t length);
char *cw__classic_notify_encode(const char *name, const char *message, size_t *length_out);
int cw__classic_notify_decode(const char *json, size_t length, struct cw__classic_notify *notify_out, char *why,
			      size_t why_size);
void cw__classic_notify_free(struct cw__classic_notify *notify);

/* Where the engine of a name listens: what a metadata store keeps beside its descriptor. */
struct cw__rpc_meta {
	char host[256]; /* a name or a numeric address, without brackets */
	uint16_t port;
};
char *cw__rpc_meta_encode(const struct cw__rpc_meta *meta, size_t *length_out);
int cw__rpc_meta_decode(const char *json, size_t length, struct cw__rpc_meta *meta_out, char *why, size_t why_size);

/* Does this Metadata request come from one of us, who resolves regions one by one and wants no list of them? Such a
 * request is
 * {"x_causeway":{}}; classic peers ignore what a request says. Malformed documents are not. */
#define CW__CLASSIC_NATIVE_REQUEST "{\"x_causeway\":{}}\n"
int cw__classic_is_native_request(const char *json, size_t length);
/* Is this document well-formed by the strict rules, with an object (or null when allowed) at its top? */
int cw__classic_object_check(const char *json, size_t length, int null_allowed, char *why, size_t why_size);
/* A Connection request: only its form is checked (types of its members as far as present). */
int cw__classic_connection_check(const char *json, size_t length, char *why, size_t why_size);
/* The answer of an engine that has only TCP: all members empty, reply_msg as given. */
char *cw__classic_connection_reply(const char *reply_message, size_t *length_out);

/* ------------------------------------------------------------------------------------------ data frames */

#define CW__CLASSIC_HEADER_BYTES 24
#define CW__CLASSIC_STATUS_BYTES 8
enum { CW__CLASSIC_STATUS_OK = 0, CW__CLASSIC_STATUS_REJECTED = 1 };

struct cw__classic_header {
	uint64_t length, address;
	uint8_t write;        /* 1 = WRITE, 0 = READ (any other opcode is a READ) */
	uint8_t acknowledged; /* 1 = v2 */
};
void cw__classic_header_encode(const struct cw__classic_header *header, unsigned char out[CW__CLASSIC_HEADER_BYTES]);
void cw__classic_header_decode(const unsigned char data[CW__CLASSIC_HEADER_BYTES],
			       struct cw__classic_header *header_out);
void cw__classic_status_encode(uint32_t code, unsigned char out[CW__CLASSIC_STATUS_BYTES]);
/* CW_ERR_PROTOCOL when the tag is missing. */
int cw__classic_status_decode(const unsigned char data[CW__CLASSIC_STATUS_BYTES], uint32_t *code_out);

/* -------------------------------------------------------------------------------------------- addresses */

/* "host", "host:port", "[v6]", "[v6]:port", a bare v6 literal with two or more colons. A leading '/' is dropped.
 * port_out gets fallback_port when none is given. CW_ERR_ADDRESS: empty, host longer than host_size-1, port
 * not 1..65535, junk. */
int cw__address_parse(const char *text, uint16_t fallback_port, char *host_out, size_t host_size, uint16_t *port_out);
/* "host:port", brackets where needed; returns the length, 0 = does not fit. */
size_t cw__address_format(const char *host, uint16_t port, char *out, size_t size);

#endif
