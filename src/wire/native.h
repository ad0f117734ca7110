/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native protocol, as pure functions on bytes: hello and welcome, control frames, data frames. Byte tables are in
 * docs/protocol.md. All integers are little-endian. Decoders never read past `length`, and give CW_ERR_PROTOCOL for
 * anything that no correct peer sends; strings and blobs they return are borrowed from the input.
 */
#ifndef CW_WIRE_NATIVE_H
#define CW_WIRE_NATIVE_H

#include <causeway/causeway.h>

#define CW__NATIVE_VERSION 1u
#define CW__MAGIC_BYTES 8
#define CW__MAGIC_CONTROL                                                                                              \
	"CWCTRL1\0"                /* first 8 bytes of a control connection; as a u64 far above any classic length     \
				    */
#define CW__MAGIC_DATA "CWDATA1\0" /* first 8 bytes of a data connection */
#define CW__INSTANCE_BYTES 16
#define CW__NAME_MAX 255
#define CW__HELLO_MAX 1024u    /* whole hello, magic and length included */
#define CW__WELCOME_MAX 65536u /* whole welcome */
#define CW__CONTROL_BODY_MAX (1024u * 1024)
#define CW__TRANSPORTS_MAX 32
#define CW__BLOB_MAX 4096u

/* Hello and welcome both start with: magic[8], u32 length of what follows. */
#define CW__PREFIX_BYTES 12

/* Reads the length that follows the magic, for a reader that has CW__PREFIX_BYTES: the bytes still to come.
 * CW_ERR_PROTOCOL when the magic is neither or the whole would be longer than max. */
int cw__prefix_decode(const void *data, size_t max, size_t *rest_out);

struct cw__text {
	const char *data; /* not NUL-terminated */
	uint16_t length;
};

/* The first message on a connection, initiator to target. */
struct cw__hello {
	int data_connection; /* which magic */
	uint16_t version;
	uint64_t features;
	unsigned char instance[CW__INSTANCE_BYTES]; /* of the sender */
	unsigned char expected[CW__INSTANCE_BYTES]; /* of the target as the sender knows it; zero = any */
	unsigned char machine[CW__INSTANCE_BYTES];  /* of the sender: hash of boot id and machine id */
	uint64_t clock_ns;                          /* sender's CLOCK_MONOTONIC */
	uint32_t pid;
	uint64_t connection;               /* data: the initiator's number for it, never reused; control: 0 */
	uint64_t replaces;                 /* data: a connection that the target must end before it answers; 0 none */
	uint32_t auth_method;              /* 0 = none; reserved */
	unsigned char channel_binding[32]; /* zero; reserved */
	struct cw__text name;              /* sender's engine name */
	struct cw__text transport;         /* data: which transport the connection is for; control: empty */
};

struct cw__transport_offer {
	struct cw__text name;
	const unsigned char *blob;
	uint16_t length;
};

/* The answer. status != 0: refused, and the target closes. */
struct cw__welcome {
	int data_connection;
	int32_t status;
	uint16_t version;
	uint64_t features;
	unsigned char instance[CW__INSTANCE_BYTES];
	unsigned char machine[CW__INSTANCE_BYTES];
	uint64_t clock_ns;
	uint32_t pid;
	uint32_t credits;      /* data frames that may be unanswered at once */
	uint64_t credit_bytes; /* and their payload */
	struct cw__text name;
	uint32_t transport_count;
	struct cw__transport_offer transports[CW__TRANSPORTS_MAX]; /* control only */
};

/* Encoders return the bytes written (magic included), or 0 when capacity is too small or a text too long. */
size_t cw__hello_encode(const struct cw__hello *hello, void *out, size_t capacity);
int cw__hello_decode(const void *data, size_t length, struct cw__hello *hello_out);
size_t cw__welcome_encode(const struct cw__welcome *welcome, void *out, size_t capacity);
int cw__welcome_decode(const void *data, size_t length, struct cw__welcome *welcome_out);

/* ---------------------------------------------------------------------------------- control frames */

/* Requests go from initiator to target and are answered with the same type and sequence, CW__CONTROL_REPLY set, in any
 * order. Pushes go from target to initiator, are not answered and have sequence 0. */
enum cw__control_type {
	CW__CONTROL_PROBE = 1,   /* empty -> empty */
	CW__CONTROL_RESOLVE = 2, /* cw__resolve -> cw__region_record */
	CW__CONTROL_LIST = 3,    /* u64 first region slot -> u32 count, u64 next (0 = end), count cw__region_record */
	CW__CONTROL_NOTIFY = 4,  /* cw__notify -> empty */
	CW__CONTROL_MESSAGE = 5, /* cw__message -> bytes */
	CW__CONTROL_CANCEL = 6,  /* cw__cancel -> empty: nothing of these frames lands from now on */
	CW__CONTROL_REGION_GONE = 7, /* push: u64 region id */
	CW__CONTROL_BYE = 8          /* push, either way: the sender closes in good order */
};
#define CW__CONTROL_REPLY 0x8000u

#define CW__CONTROL_HEADER_BYTES 24
struct cw__control_header {
	uint16_t type;   /* with CW__CONTROL_REPLY in replies */
	uint16_t flags;  /* 0 */
	uint32_t length; /* of the body */
	uint64_t sequence;
	int32_t status; /* replies */
	uint32_t reserved;
};
void cw__control_header_encode(const struct cw__control_header *header, unsigned char out[CW__CONTROL_HEADER_BYTES]);
/* CW_ERR_PROTOCOL: unknown type, non-zero flags or reserved, length above CW__CONTROL_BODY_MAX. */
int cw__control_header_decode(const unsigned char data[CW__CONTROL_HEADER_BYTES],
			      struct cw__control_header *header_out);

struct cw__resolve {
	uint32_t space;
	uint64_t address, length;
};
size_t cw__resolve_encode(const struct cw__resolve *resolve, void *out, size_t capacity);
int cw__resolve_decode(const void *data, size_t length, struct cw__resolve *resolve_out);

struct cw__region_record {
	uint64_t id, key, address, length;
	uint32_t access, space;
	uint32_t kind; /* enum cw_memory_kind */
	int32_t device, numa_node;
	struct cw__text location;
	uint32_t transport_count;
	struct cw__transport_offer transports[CW__TRANSPORTS_MAX]; /* what export_region gave */
};
size_t cw__region_record_encode(const struct cw__region_record *record, void *out, size_t capacity);
/* used_out: bytes of this record, for lists; must be all of length when NULL. */
int cw__region_record_decode(const void *data, size_t length, struct cw__region_record *record_out, size_t *used_out);

struct cw__notify {
	uint64_t sequence; /* of the sending engine, for duplicates: at most once */
	struct cw__text sender, name;
	const unsigned char *data;
	uint32_t length; /* at most CW_NOTIFY_MAX */
};
size_t cw__notify_encode(const struct cw__notify *notify, void *out, size_t capacity);
int cw__notify_decode(const void *data, size_t length, struct cw__notify *notify_out);

struct cw__message {
	struct cw__text transport;
	const unsigned char *data;
	uint32_t length;
};
size_t cw__message_encode(const struct cw__message *message, void *out, size_t capacity);
int cw__message_decode(const void *data, size_t length, struct cw__message *message_out);

#define CW__CANCEL_MAX 256
struct cw__cancel {
	uint64_t connection; /* data connection of the same initiator */
	uint32_t count;
	uint64_t frames[CW__CANCEL_MAX]; /* ids of its data frames */
};
size_t cw__cancel_encode(const struct cw__cancel *cancel, void *out, size_t capacity);
int cw__cancel_decode(const void *data, size_t length, struct cw__cancel *cancel_out);

/* ------------------------------------------------------------------------------------- data frames */

/*
 * WRITE: header, pieces, payload -> DONE. READ: header, pieces -> DATA: header, payload (status 0), or header alone.
 * Frames are answered in any order by id. A target that refuses a WRITE reads and drops its payload, then answers.
 */
enum cw__data_type { CW__DATA_WRITE = 1, CW__DATA_READ = 2, CW__DATA_DONE = 3, CW__DATA_DATA = 4 };

#define CW__DATA_MAGIC 0x31465743u /* "CWF1" */
#define CW__DATA_HEADER_BYTES 80
#define CW__DATA_PIECE_BYTES 16
#define CW__DATA_PIECES_MAX 1024u
#define CW__DATA_PAYLOAD_MAX (64u * 1024 * 1024)
#define CW__DATA_CHECKSUM 1u /* flag: crc32c of the payload counts */

struct cw__data_header {
	uint8_t type, flags;
	uint16_t attempt;
	uint32_t piece_count; /* WRITE, READ: 1 to CW__DATA_PIECES_MAX; else 0 */
	uint64_t id;          /* the initiator's, unique on its connection */
	uint64_t length;      /* payload bytes: of the pieces together; DATA: what follows */
	int32_t status;       /* DONE, DATA */
	uint32_t checksum;    /* crc32c of the payload: WRITE, DATA */
	uint64_t region, key; /* WRITE, READ */
	uint64_t not_after;   /* target's clock: WRITE, READ; 0 = never ends */
	uint64_t clock_ns;    /* sender's clock now */
	uint32_t space;
	uint32_t reserved;
};
void cw__data_header_encode(const struct cw__data_header *header, unsigned char out[CW__DATA_HEADER_BYTES]);
/* CW_ERR_PROTOCOL: wrong magic, unknown type or flags, counts or lengths out of range for the type, reserved not 0. */
int cw__data_header_decode(const unsigned char data[CW__DATA_HEADER_BYTES], struct cw__data_header *header_out);

struct cw__data_piece {
	uint64_t address;
	uint64_t length; /* > 0 */
};
void cw__data_piece_encode(const struct cw__data_piece *piece, unsigned char out[CW__DATA_PIECE_BYTES]);
/* Decodes count pieces; their lengths must add up to total without wrapping, none may wrap the address space. */
int cw__data_pieces_decode(const void *data, uint32_t count, uint64_t total, struct cw__data_piece *pieces_out);

/* CRC-32C (Castagnoli) of data, continued from crc (0 to begin). */
uint32_t cw__crc32c(uint32_t crc, const void *data, size_t length);

#endif
