/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both C interfaces stand on: engines, segments, memory, batches and notifications by number, over causeway.h.
 * classic.c and tent.c are thin layers over this: they check their arguments, and translate structs and statuses.
 *
 * All functions return a cw_status unless they say otherwise. Whoever works with a face, a segment or a batch holds it
 * with a get and a put around; nothing else is locked while the engine is called.
 */
#ifndef COMPAT_MOONCAKE_CABI_FACE_H
#define COMPAT_MOONCAKE_CABI_FACE_H

#include <causeway/causeway.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mooncake/setup.h"

#define FACE_SECOND 1000000000ull
#define FACE_NAME_MAX 256u
#define FACE_HINTS 13 /* TRANSPORT_UNSPEC to TRANSPORT_MPCOMM */
#define FACE_BATCH_MAX (1u << 24)
#define FACE_EXPORT __attribute__((visibility("default")))

enum face_kind { FACE_CLASSIC = 0, FACE_TENT = 1 };

/* One opening of a peer by the engine: without a wish, or with the transport that a hint asks for. */
struct face_link {
	struct cw_segment *segment;
	int hint;
	struct face_link *next;
};

/* A peer by name. Links only grow while it is open, so that requests may use what they found; the newest come first. */
struct face_segment {
	struct face *face;
	uint64_t number; /* LOCAL_SEGMENT is 0 */
	char name[FACE_NAME_MAX];
	unsigned opens;          /* face->lock */
	uint64_t looked_at;      /* face->lock; at the peer's state */
	struct face_link *links; /* face->lock */
	struct face_segment *next;
};

/* Memory that was unregistered but is still used: the handle is needed to try again. */
struct face_leaving {
	void *address;
	struct cw_region *region;
	struct face_leaving *next;
};

struct face_metric;

/* An engine, as a program of either interface sees it. Freed by face_close(). */
struct face {
	uint64_t number;
	enum face_kind kind;
	struct cw_engine *engine;
	pid_t pid; /* in a forked child there is nothing to close */
	int log_level;
	int graceful;                 /* closed when the process ends; shutdown.c */
	uint64_t transfer_timeout_ns; /* 0 = the engine's default deadline */
	char name[FACE_NAME_MAX];     /* as peers open it */
	char host[FACE_NAME_MAX];     /* where it listens, without brackets */
	uint16_t port;
	struct face_segment local;
	struct face_metric *metric; /* NULL = not asked for */

	pthread_mutex_t memory_lock; /* one unregistration at a time; guards leaving */
	struct face_leaving *leaving;

	pthread_mutex_t lock; /* what follows, and the openings and links of segments */
	struct face_segment *segments;
	struct face_batch *batches;
	uint64_t rate_bytes, rate_at; /* of the last look at the load */
	double rate;
};

/* ------------------------------------------------------------------------------------------- engines */

/* Opens an engine as setup says. What setup_identity() made goes into name. Frees nothing of setup. */
int face_open(enum face_kind kind, const struct setup *setup, const char *name, struct face **face_out);

/* Void pointers of the interfaces are numbers. */
void *face_handle(const struct face *face);
struct face *face_get(enum face_kind kind, void *handle); /* NULL = not an engine of this interface */
void face_put(struct face *face);

/* Waits for calls that are under way, at most so long; then closes. Those that come later find nothing. */
void face_close(enum face_kind kind, void *handle, uint64_t timeout);

/* Closes all engines that asked for it, in bounded time. For the end of the process. */
void face_close_graceful(void);

/* Sees that a protocol of Mooncake is named once when something else is used for it; what is not built was perhaps
 * named by setup already. NOT_FOUND = there is no such protocol. */
int face_protocol(struct face *face, const char *protocol, int named);
int face_is_listed(const char *list, const char *name); /* 1 = the comma list has the name */

/* One line on stderr in the engine's format, at its level, a bounded number of lines a second. */
void face_log(const struct face *face, enum cw_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void face_log_at(int limit, enum cw_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void face_notice(void *limit, const char *line); /* a setup_notice_fn; limit is an int, the level */
int face_log_level(const struct setup *setup);
int face_setup_level(void); /* before there is an engine: what the environment says */

/* ------------------------------------------------------------------------------------------ segments */

int face_segment_open(struct face *face, const char *name, int fresh, uint64_t *number_out);
int face_segment_close(struct face *face, uint64_t number);
int face_segments_refresh(struct face *face);

/* With a use, until face_segment_put(); NULL when it is not one of this engine's. */
struct face_segment *face_segment_get(struct face *face, uint64_t number);
void face_segment_put(struct face_segment *segment);

/* What requests go to. A hint that cannot be followed is named once, and gives the ordinary one. */
struct cw_segment *face_segment_link(struct face_segment *segment, int hint);
uint64_t face_segment_number(struct face *face, const char *name); /* of an open one, or 0 */
void face_segments_close(struct face *face);
/* Each open one, with the lock: fn only looks. */
void face_segments_each(struct face *face, void (*fn)(void *arg, const char *name, struct cw_segment *segment),
			void *arg);

/* -------------------------------------------------------------------------------------------- memory */

int face_register(struct face *face, void *address, size_t length, const char *location, uint32_t access);
int face_unregister(struct face *face, void *address, size_t length); /* length 0 = whatever is there */
int face_allocate(struct face *face, size_t length, const char *location, uint32_t access, void **address_out);
int face_free(struct face *face, void *address);
void face_memory_close(struct face *face);

/* ------------------------------------------------------------------------------------------- batches */

struct face_batch;

/* One transfer of either interface, in neutral words. */
struct face_transfer {
	int opcode, priority, hint;
	void *source;
	uint64_t target, offset, length;
};

struct face_message {
	const char *name, *text;
	int all_targets; /* 0 = only that of the first transfer */
};

/* How a task stands. status: CW_ERR_AGAIN while it runs, CW_OK, or why it did not complete. */
struct face_progress {
	int status;
	uint64_t bytes;
};

int face_batch_open(struct face *face, size_t capacity, uint64_t *number_out);
struct face_batch *face_batch_get(struct face *face, uint64_t number);
void face_batch_put(struct face_batch *batch);
int face_batch_close(struct face_batch *batch); /* CW_ERR_BUSY while it runs */

/* Takes all transfers or none. separate: each can be canceled alone. message may be NULL. */
int face_batch_submit(struct face_batch *batch, const struct face_transfer *transfers, size_t count, int separate,
		      const struct face_message *message);
size_t face_batch_count(struct face_batch *batch);
size_t face_batch_room(struct face_batch *batch); /* for further tasks */
int face_batch_task(struct face_batch *batch, size_t task, struct face_progress *progress_out);
/* Fails when anything failed, else is AGAIN when anything runs. */
int face_batch_overall(struct face_batch *batch, struct face_progress *progress_out);
int face_batch_cancel(struct face_batch *batch, size_t task);
uint64_t face_batches_inflight(struct face *face); /* bytes */
void face_batches_close(struct face *face);

/* ------------------------------------------------------------------------------------- notifications */

int face_notify(struct face *face, uint64_t target, const char *name, const char *text);

/* One that came: name and text are allocated and free of NUL bytes inside. */
struct face_note {
	char *sender, *name, *text;
};
int face_note_next(struct face *face, struct face_note *note_out); /* CW_ERR_AGAIN = there is none */
void face_note_clear(struct face_note *note);

/* --------------------------------------------------------------------------------------------- state */

struct face_load {
	char device[64];
	uint64_t inflight_bytes;
	double bytes_per_second;
};
int face_load_get(struct face *face, struct face_load *load_out);

/* Text for people, or JSON; malloc'ed, NULL = no memory. */
char *face_links(struct face *face, int json);

int face_metric_start(struct face *face, double interval);
void face_metric_stop(struct face *face);

/* From now on SIGTERM, SIGINT and exit() close the engine. */
void face_graceful(struct face *face);

/* Mooncake's two families of numbers: errors are negative, codes positive. */
int face_error(int status);
int face_code(int status);

uint64_t face_now(void);

#endif
