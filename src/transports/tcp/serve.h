/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payload of one request on its way between a socket and this engine's memory. A grant is held around one socket
 * call only, so that a revoke never waits for a peer: between two chunks the memory may go away, and the next chunk is
 * refused.
 */
#ifndef CW_TCP_SERVE_H
#define CW_TCP_SERVE_H

#include <causeway/plugin.h>
#include <wire/native.h>

#include "stream.h"

struct cw__tcp_serving {
	struct cw_claim claim;         /* all but address and length, which are those of each piece */
	struct cw__data_piece *pieces; /* owned; kept for the next request */
	uint32_t count, capacity;
	uint32_t index;  /* the piece that comes next, */
	uint64_t offset; /* and where in it */
	uint64_t left;   /* payload bytes still to move */
	uint32_t crc;    /* of what moved, when checksum is set */
	int checksum;
	uint64_t from, span; /* the range that all pieces lie in; span 0 = it cannot be claimed at once */
};

/* Makes room for count pieces. ERR_NO_MEMORY. */
int cw__tcp_serving_reserve(struct cw__tcp_serving *serving, uint32_t count);
void cw__tcp_serving_free(struct cw__tcp_serving *serving);
/* To the first byte of the payload. */
void cw__tcp_serving_rewind(struct cw__tcp_serving *serving, uint64_t length);
/* May the peer touch all pieces? */
int cw__tcp_serving_check(struct cw_host *host, struct cw__tcp_serving *serving);

/* Each moves at most one chunk and returns the bytes moved (> 0), or the status of the stream. *refused_out: CW_OK, or
 * why the memory could not be touched, with 0 bytes moved; for a WRITE also why bytes that were moved did not get where
 * they belong. */
int64_t cw__tcp_serving_receive(struct cw_host *host, struct cw__tcp_serving *serving, struct cw__tcp_input *input,
				struct cw__tcp_stream *stream, int *refused_out);
/* Sends what is left of head first; the result counts its bytes too. */
int64_t cw__tcp_serving_send(struct cw_host *host, struct cw__tcp_serving *serving, struct cw__tcp_stream *stream,
			     const unsigned char *head, size_t head_length, int *refused_out);
/* Moves nothing, but counts the crc. */
int64_t cw__tcp_serving_hash(struct cw_host *host, struct cw__tcp_serving *serving, int *refused_out);

#endif
