/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the JSON gateway of etcd is asked and answers: requests are written into blobs, answers are checked and taken
 * apart. Keys and values are base64 in both; 64-bit numbers are strings.
 */
#ifndef CW_METADATA_ETCD_CODEC_H
#define CW_METADATA_ETCD_CODEC_H

#include <causeway/plugin.h>

#define CW__ETCD_ENDPOINTS_MAX 16
#define CW__ETCD_LEASE_BYTES 24
#define CW__ETCD_TOKEN_BYTES 2048

struct cw__etcd_endpoints {
	char addresses[CW__ETCD_ENDPOINTS_MAX][300]; /* HOST:PORT */
	unsigned count;
};

/* "etcd://HOST[:PORT][,HOST[:PORT]...]". NULL, or one constant line that says what is wrong. */
const char *cw__etcd_url_parse(const char *text, struct cw__etcd_endpoints *endpoints_out);

/* A request under construction; `bad` when memory ran out. */
struct cw__etcd_writer {
	const struct cw_host_ops *ops;
	struct cw_blob blob;
	int bad;
};

void cw__etcd_write(struct cw__etcd_writer *writer, const char *text);
void cw__etcd_write_base64(struct cw__etcd_writer *writer, const void *data, size_t length);
/* A JSON string with its quotes. */
void cw__etcd_write_string(struct cw__etcd_writer *writer, const char *text);

/* The value of one key is appended. CW_OK, NOT_FOUND, PROTOCOL with why, LIMIT or NO_MEMORY. */
int cw__etcd_read_range(const struct cw_host_ops *ops, const void *text, size_t length, const char *key,
			struct cw_blob *value_out, char *why, size_t why_size);
/* The id of a new lease. PROTOCOL with why. */
int cw__etcd_read_grant(const void *text, size_t length, char lease_out[CW__ETCD_LEASE_BYTES], char *why,
			size_t why_size);
/* CW_OK: the lease lives on; NOT_FOUND: it is gone; PROTOCOL with why. */
int cw__etcd_read_keepalive(const void *text, size_t length, char *why, size_t why_size);
int cw__etcd_read_token(const void *text, size_t length, char token_out[CW__ETCD_TOKEN_BYTES], char *why,
			size_t why_size);
/* Did a transaction's comparisons all hold? PROTOCOL with why. */
int cw__etcd_read_succeeded(const void *text, size_t length, int *succeeded_out, char *why, size_t why_size);

/* What an answer other than 200 says: gRPC's code (-1 when it is no answer of etcd) and etcd's words. */
struct cw__etcd_refusal {
	int code;
	char text[160];
};
void cw__etcd_read_refusal(const void *text, size_t length, struct cw__etcd_refusal *refusal_out);

#endif
