/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two engines on one machine say to each other over their unix socket, as pure functions on bytes. One packet is
 * one message: a header of 24 bytes and a body that its type fixes, little-endian. Initiator to target: HELLO, IMPORT,
 * DROP, REVOKED, PULL, CANCEL; target to initiator: WELCOME, IMPORTED, REVOKE, PULLED. Read peer.c and serve.c next.
 */
#ifndef CW_TRANSPORTS_SHM_MESSAGE_H
#define CW_TRANSPORTS_SHM_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#define CW__SHM_VERSION 1u
#define CW__SHM_INSTANCE_BYTES 16
#define CW__SHM_HEADER_BYTES 24u
#define CW__SHM_PIECE_BYTES 24u
#define CW__SHM_PIECES_MAX 256u
#define CW__SHM_MESSAGE_MAX (CW__SHM_HEADER_BYTES + 40u + CW__SHM_PIECES_MAX * CW__SHM_PIECE_BYTES)
#define CW__SHM_NAME_MAX 100u
#define CW__SHM_DESCRIPTION_MAX (5u + CW__SHM_NAME_MAX)
#define CW__SHM_REGION_BYTES 4u

enum cw__shm_type {
	CW__SHM_HELLO = 1, /* the first message; answered by WELCOME */
	CW__SHM_WELCOME = 2,
	CW__SHM_IMPORT = 3, /* "may I use this region?"; id: the initiator's number for the import; answered by IMPORTED
			     */
	CW__SHM_IMPORTED = 4, /* with a descriptor when CW__SHM_GRANTED is set */
	CW__SHM_DROP = 5,     /* the initiator does not use import id any more */
	CW__SHM_REVOKE = 6,   /* the owner takes import id back; answered by REVOKED */
	CW__SHM_REVOKED = 7,  /* nothing reads or maps what import id named */
	CW__SHM_PULL = 8,     /* "please fetch these pieces from me"; id: the initiator's; answered by PULLED */
	CW__SHM_PULLED = 9,
	CW__SHM_CANCEL = 10 /* end pull id soon; its PULLED still comes */
};

/* Flags of a description, a hello and a welcome: what the sender allows or can do. */
#define CW__SHM_GRANT 1u    /* maps granted memory, or grants it */
#define CW__SHM_ATTACH 2u   /* allows that its memory is read by cross-memory attach */
#define CW__SHM_ATTACHED 4u /* WELCOME: the target could read the initiator's memory: it can pull */

/* Flags of IMPORTED. */
#define CW__SHM_GRANTED 1u  /* a descriptor of the memory comes along */
#define CW__SHM_READABLE 2u /* may be read by cross-memory attach */

/* What an engine tells everybody: where its socket is, in the abstract namespace. */
struct cw__shm_description {
	uint16_t version;
	uint16_t flags;
	uint8_t name_length;
	const unsigned char *name; /* borrowed, not NUL-terminated */
};
size_t cw__shm_description_encode(const struct cw__shm_description *description, void *out, size_t capacity);
int cw__shm_description_decode(const void *data, size_t length, struct cw__shm_description *description_out);

/* What a region tells everybody: whether it is worth asking for. */
size_t cw__shm_region_encode(uint16_t flags, void *out, size_t capacity);
int cw__shm_region_decode(const void *data, size_t length, uint16_t *flags_out);

struct cw__shm_piece {
	uint64_t source; /* in the initiator */
	uint64_t target; /* in the target's region */
	uint64_t length; /* > 0 */
};

struct cw__shm_message {
	uint16_t type;
	int32_t status; /* WELCOME, IMPORTED, PULLED: enum cw_status; else 0 */
	uint64_t id;
	union {
		struct { /* HELLO and WELCOME */
			uint16_t version;
			uint16_t flags;
			unsigned char instance[CW__SHM_INSTANCE_BYTES]; /* of the sender */
			unsigned char expected[CW__SHM_INSTANCE_BYTES]; /* HELLO: of the target */
			uint64_t proof; /* where the sender's 16 instance bytes are in its memory */
			uint64_t link;  /* HELLO: which peer object of the initiator this is; survives reconnection */
		} hello;
		struct {
			uint64_t region, key;
		} import;
		struct {
			uint32_t flags;
			uint64_t offset, length; /* of the region in the granted memory */
		} imported;
		struct {
			uint64_t region, key;
			uint64_t not_after; /* CLOCK_MONOTONIC, which is one for the whole machine; 0 = no end */
			uint64_t length;    /* of all pieces */
			uint32_t count;
			const unsigned char *pieces; /* encoded, borrowed; see cw__shm_piece_at() */
		} pull;
	};
};

/* Returns the bytes written, or 0 when capacity is too small. A PULL is encoded without its pieces; append them with
 * cw__shm_piece_encode(), count of them. */
size_t cw__shm_message_encode(const struct cw__shm_message *message, void *out, size_t capacity);
size_t cw__shm_piece_encode(const struct cw__shm_piece *piece, void *out, size_t capacity);

/* CW_ERR_PROTOCOL for anything that no correct peer sends: unknown types, lengths that are not those of the type, a
 * positive status, pieces that are empty, wrap around or do not add up. */
int cw__shm_message_decode(const void *data, size_t length, struct cw__shm_message *message_out);

/* Piece `index` of a decoded PULL. */
struct cw__shm_piece cw__shm_piece_at(const unsigned char *pieces, uint32_t index);

#endif
