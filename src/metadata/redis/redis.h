/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this store share: hiredis (hiredis.c), which knows the format of requests and replies, and
 * connections (connection.c), which are ours: hiredis's own would wait longer than a call may, and raise SIGPIPE.
 */
#ifndef CW_METADATA_REDIS_REDIS_H
#define CW_METADATA_REDIS_REDIS_H

#include <causeway/plugin.h>
#include <metadata/keys.h>
#include <pthread.h>
#include <stdint.h>

extern const struct cw_metadata_ops cw_metadata_redis;

/* --------------------------------------------------------------------------------------------- hiredis */

/* A reply; text is borrowed from it. */
enum cw__redis_kind { CW__REDIS_TEXT, CW__REDIS_NUMBER, CW__REDIS_NIL, CW__REDIS_STATUS, CW__REDIS_ERROR };

struct cw__redis_reply {
	enum cw__redis_kind kind;
	long long number;
	const char *text;
	size_t length;
	void *raw; /* hiredis's, for cw__hiredis_reply_free() */
};

/* Loads the library once. 0, or -1 with one line in why. */
int cw__hiredis_load(char *why, size_t why_size);
/* A request as bytes, for cw__hiredis_free(); NULL: out of memory. */
char *cw__hiredis_format(int count, const char **words, const size_t *lengths, size_t *length_out);
void cw__hiredis_free(char *request);
/* Takes replies apart, one after the other. */
void *cw__hiredis_reader(void);
void cw__hiredis_reader_free(void *reader);
/* Gives it more bytes. CW_OK with the reply; ERR_AGAIN: more are needed; PROTOCOL with a line in why; NO_MEMORY. */
int cw__hiredis_feed(void *reader, const void *data, size_t length, struct cw__redis_reply *reply_out, char *why,
		     size_t why_size);
void cw__hiredis_reply_free(struct cw__redis_reply *reply);

/* ----------------------------------------------------------------------------------------- connections */

/* Connects a socket (close-on-exec, non-blocking) by the deadline. CONNECT, TIMED_OUT or IO with a line in why. */
int cw__redis_dial(const char *host, uint16_t port, uint64_t deadline, int *fd_out, char *why, size_t why_size);
/* One request and its reply. CONNECT: the connection was closed before anything of the reply came; TIMED_OUT, IO,
 * PROTOCOL, LIMIT, NO_MEMORY. The line is in why. After a failure the connection is of no use any more. */
int cw__redis_exchange(int fd, int count, const char **words, const size_t *lengths, uint64_t deadline,
		       struct cw__redis_reply *reply_out, char *why, size_t why_size);
/* Has the server closed it, or said something that nobody asked for? */
int cw__redis_is_stale(int fd);

#endif
