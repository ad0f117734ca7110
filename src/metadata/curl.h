/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP requests through libcurl, for stores that speak HTTP. The library is loaded when the first such store is opened.
 * A client keeps the handles that are not in use, each with its connection, so that calls of many threads neither wait
 * for each other nor connect again each time.
 */
#ifndef CW_METADATA_CURL_H
#define CW_METADATA_CURL_H

#include <causeway/plugin.h>
#include <pthread.h>

struct cw__curl_client {
	struct cw_host *host;
	pthread_mutex_t lock;
	struct cw__curl_handle *idle; /* guarded by lock, as the next one */
	unsigned idle_count;
};

struct cw__curl_request {
	const char *method, *url;
	const void *body; /* NULL = none */
	size_t body_length;
	const char *authorization;   /* a whole header line, or NULL */
	const char *user, *password; /* basic authentication; NULL = none */
	uint64_t timeout;            /* ns, for everything */
	struct cw_blob *answer;      /* what the server sends is appended; cut again on failure */
	size_t limit;                /* bytes of the answer */
	long code;                   /* out: of the answer */
	char why[256];               /* out: the cause of a failure, one line without the server's name */
};

/* CW_ERR_UNSUPPORTED with one line in why when libcurl cannot be had. */
int cw__curl_init(struct cw__curl_client *client, struct cw_host *host, char *why, size_t why_size);
/* No request is in progress. */
void cw__curl_free(struct cw__curl_client *client);

/* CW_OK when there was an answer, whatever its code. Else CONNECT, TIMED_OUT, IO, PROTOCOL, LIMIT or NO_MEMORY with
 * request->why. Any thread, several at once. */
int cw__curl_perform(struct cw__curl_client *client, struct cw__curl_request *request);

/* Percent-escapes all but letters, digits and "-._~". Returns the length, or 0 when it does not fit or text is empty.
 */
size_t cw__curl_escape(const char *text, char *out, size_t size);

/* The first line of what a server sent, as far as it is plain text, for an error line. */
void cw__curl_first_line(const void *text, size_t length, char *out, size_t size);

#endif
