/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the directory share: directory.c (the entries of a name: keys, reading, writing), publisher.c (the
 * thread that keeps this engine's own entries in the store) and finder.c (the thread that looks names up for those who
 * must not block).
 */
#ifndef CW_METADATA_DIRECTORY_H
#define CW_METADATA_DIRECTORY_H

#include <core/directory_ops.h>
#include <pthread.h>
#include <util/clock.h>
#include <util/list.h>

struct cw__directory {
	struct cw_host *host;
	const struct cw_metadata_ops *ops;
	void *store;
	char where[160];                  /* the store's url without user and password, for messages */
	char prefix[CW_METADATA_KEY_MAX]; /* of every key */
	uint64_t timeout;                 /* of one task, with as many questions to the store as it needs */

	pthread_mutex_t lock; /* guards the rest; not held while the store is asked */
	pthread_cond_t work;  /* there is something to do for the publisher or the finder */
	pthread_cond_t done;  /* the publisher tried */
	int stopping;
	uint64_t stop_by; /* the end of stop()'s time */

	/* publisher.c */
	pthread_t publisher;
	int has_publisher;
	uint64_t interval;                 /* between two looks whether the entries are still there */
	uint64_t wanted, tried, published; /* versions of the list of regions */
	uint64_t next;                     /* when to look, or to try again */
	uint64_t pause;                    /* before the next try; 0 = the last one succeeded */
	int announced;                     /* the store has our entries, as far as we know */
	int failure;                       /* of the last try */
	char failure_text[240];
	/* The publisher's own: */
	struct cw__rpc_meta listener;
	int without_buffers; /* the list is too long for this store, and that was said */
	int contested;       /* another engine has our name, and that was said */
	unsigned contest_looks;

	/* finder.c */
	pthread_t finder;
	int has_finder;
	struct cw__list questions;
};

/* directory.c; no lock held */
enum cw__entry_kind { CW__ENTRY_DESCRIPTOR, CW__ENTRY_LISTENER };
/* The key of an entry of name. ADDRESS: it cannot be in a key. */
int cw__directory_key(const struct cw__directory *directory, enum cw__entry_kind kind, const char *name,
		      char key_out[CW_METADATA_KEY_MAX]);
/* Fetches and decodes. Errors as those of find(). */
int cw__directory_get_listener(struct cw__directory *directory, const char *name, uint64_t until,
			       struct cw__rpc_meta *listener_out);
int cw__directory_find(struct cw__directory *directory, const char *name, uint64_t timeout,
		       struct cw__found *found_out);
/* What is left until then, at least a moment. */
uint64_t cw__directory_left(uint64_t until);
/* With the lock. */
void cw__directory_wait(struct cw__directory *directory, pthread_cond_t *condition, uint64_t until);
/* A thread of ours takes none of the program's signals. */
int cw__directory_thread(pthread_t *thread_out, void *(*main)(void *), void *arg);
/* Does it say that the store is out of reach, rather than what it holds? */
int cw__directory_is_down(int status);

/* publisher.c */
int cw__publisher_start(struct cw__directory *directory);
uint64_t cw__publisher_changed(struct cw__directory *directory);
int cw__publisher_await(struct cw__directory *directory, uint64_t ticket, uint64_t until);

/* finder.c */
int cw__finder_ask(struct cw__directory *directory, const char *name, cw__found_fn answer, void *arg);

#endif
