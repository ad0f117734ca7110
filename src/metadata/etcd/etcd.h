/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this store share. */
#ifndef CW_METADATA_ETCD_ETCD_H
#define CW_METADATA_ETCD_ETCD_H

#include <metadata/curl.h>
#include <metadata/etcd/codec.h>
#include <metadata/keys.h>

extern const struct cw_metadata_ops cw_metadata_etcd;

struct cw__etcd {
	struct cw_host *host;
	struct cw__curl_client client;
	struct cw__etcd_endpoints endpoints;
	const char *user, *password; /* the engine's; user NULL = no authentication */
	uint64_t lease_seconds;      /* 0 = none */
	struct cw__keys keys;
	pthread_mutex_t lock;
	/* Guarded by lock. */
	unsigned preferred;               /* the endpoint that answered last */
	int lost;                         /* a lease ended with keys of ours */
	char lease[CW__ETCD_LEASE_BYTES]; /* "" = none yet */
	char token[CW__ETCD_TOKEN_BYTES];
};

/* Sends a request to the endpoints in turn until one answers; logs in when there is a user. The answer is appended. On
 * failure the line for cw_last_error() is set, and refusal_out->code is not 0 when etcd itself refused. */
int cw__etcd_ask(struct cw__etcd *etcd, const char *path, struct cw__etcd_writer *body, uint64_t deadline,
		 struct cw_blob *answer, struct cw__etcd_refusal *refusal_out);

/* The line for an answer that could not be read. Returns status. */
int cw__etcd_fail(struct cw__etcd *etcd, int status, const char *why);

#endif
