/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Causeway moves bytes between memories: on one machine or between many.
 *
 * This is the whole public interface. Objects: an engine owns everything; a region is registered local memory;
 * a segment is what a peer offers; a batch is a set of unordered requests; a queue is where ended batches,
 * notifications and peer events appear. docs/architecture.md explains them; examples/hello.c is the first program.
 *
 * Conventions. Functions return a cw_status: 0 is success, failures are negative. Outputs come last, end in
 * _out and are written only on success. Parameter structs start with their own size (use the CW_*_INIT macros)
 * and may otherwise be zero. Times are nanoseconds; a duration of CW_FOREVER never ends and 0 never waits.
 * Handles are opaque. In a process that was forked after cw_engine_open() every call returns CW_ERR_FORKED.
 */
#ifndef CAUSEWAY_CAUSEWAY_H
#define CAUSEWAY_CAUSEWAY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library is built with hidden visibility; what this header declares is its exception. */
#pragma GCC visibility push(default)

#define CW_VERSION_MAJOR 0
#define CW_VERSION_MINOR 1
#define CW_VERSION_PATCH 0

/* ------------------------------------------------------------------------------------------- statuses */

/* What cw_strerror() says about each, its scope and whether a retry can help: src/core/status.def. */
enum cw_status {
	CW_OK = 0,
	CW_ERR_INVALID = -1,
	CW_ERR_NO_MEMORY = -2,
	CW_ERR_NOT_FOUND = -3,
	CW_ERR_BUSY = -4,
	CW_ERR_AGAIN = -5,
	CW_ERR_OVERLAP = -6,
	CW_ERR_NOT_REGISTERED = -7,
	CW_ERR_ACCESS = -8,
	CW_ERR_STALE_REGION = -9,
	CW_ERR_NO_PATH = -10,
	CW_ERR_UNSUPPORTED = -11,
	CW_ERR_TIMED_OUT = -12,
	CW_ERR_CANCELED = -13,
	CW_ERR_PEER_DOWN = -14,
	CW_ERR_PEER_RESTARTED = -15,
	CW_ERR_PROTOCOL = -16,
	CW_ERR_IO = -17,
	CW_ERR_CONNECT = -18,
	CW_ERR_ADDRESS = -19,
	CW_ERR_FORKED = -20,
	CW_ERR_CLOSED = -21,
	CW_ERR_LIMIT = -22,
	CW_ERR_LOCATION = -23,
	CW_ERR_NOTIFY_UNKNOWN = -24,
	CW_ERR_CHECKSUM = -25,
	CW_ERR_PERMISSION = -26,
	CW_ERR_CONFIG = -27,
	CW_ERR_PREREQUISITE = -28,
	CW_ERR_INTERNAL = -29
};

/* The largest thing that a failure concerns, and so what has to be thrown away before trying again. */
enum cw_scope { CW_SCOPE_REQUEST = 0, CW_SCOPE_PATH = 1, CW_SCOPE_PEER = 2, CW_SCOPE_ENGINE = 3 };

/* One constant line of text for a status; never NULL, also for unknown numbers. Threads: any. */
const char *cw_strerror(int status);

/* The short name of a status, such as "ERR_BUSY". Threads: any. */
const char *cw_status_name(int status);

/* The scope of a status. Threads: any. */
enum cw_scope cw_status_scope(int status);

/* 1 when the same call may succeed later without a change by the caller, else 0. Threads: any. */
int cw_status_retryable(int status);

/* The text of the last failure of a call in this thread: one line that says what to do; "" when there was none. The
 * pointer is borrowed and valid until the next failing call of this thread. Threads: any (per thread). */
const char *cw_last_error(void);

/* The version of the loaded library, as "0.1.0". Threads: any. */
const char *cw_version(void);

/* --------------------------------------------------------------------------------------------- engine */

#define CW_FOREVER UINT64_MAX

struct cw_engine;
struct cw_region;
struct cw_segment;
struct cw_batch;
struct cw_queue;
struct cw_counter;

enum cw_log_level { CW_LOG_ERROR = 0, CW_LOG_WARN = 1, CW_LOG_INFO = 2, CW_LOG_DEBUG = 3, CW_LOG_TRACE = 4 };

/* Receives one line without a newline. Called from any thread, never under a lock of the engine. */
typedef void (*cw_log_fn)(void *arg, enum cw_log_level level, const char *line);

struct cw_setting {
	const char *key;   /* such as "tcp/connections", see causeway-settings(7) */
	const char *value; /* as text */
};

struct cw_engine_options {
	size_t size;
	const char *name;        /* "host", "host:port" or "[v6]:port": what peers are told; NULL = 127.0.0.1 */
	const char *config_file; /* JSON; NULL = none */
	const struct cw_setting *settings; /* override file and environment */
	size_t setting_count;
	cw_log_fn log; /* NULL = warnings and errors go to stderr unless the setting log/level says "silent" */
	void *log_arg;
	int use_environment; /* 1 = read the CW_* variables too */
};
#define CW_ENGINE_OPTIONS_INIT { .size = sizeof(struct cw_engine_options) }

/* Opens an engine: reads its configuration, binds its port, starts its transports and progress threads. options may be
 * NULL. The engine is the caller's until cw_engine_close(). Errors: CONFIG (unknown key, value out of range), ADDRESS,
 * IO (the port is taken), NO_MEMORY. Threads: any; engines are independent of each other. */
int cw_engine_open(const struct cw_engine_options *options, struct cw_engine **engine_out);

/* Ends every batch (CANCELED), says goodbye to peers and frees the engine with all regions, segments and queues it
 * still has. Handles of this engine are invalid afterwards, except batches, which must still be released. NULL is
 * allowed. Threads: no other call may use the engine at the same time. */
void cw_engine_close(struct cw_engine *engine);

/* The name peers use to open this engine's segment, "host:port". Borrowed, valid while the engine is open. */
const char *cw_engine_name(const struct cw_engine *engine);

/* Drives progress once, for engines with progress/threads = 0: handles what is ready and returns. The default queue's fd
 * becomes readable when this is needed. Returns CW_OK. Threads: any. */
int cw_engine_progress(struct cw_engine *engine);

/* Visits every setting of the engine: key, value, origin ("default", "file", "environment", "options") and help.
 * engine NULL = the defaults. Strings are borrowed during the call. */
typedef void (*cw_setting_fn)(void *arg, const char *key, const char *value, const char *origin, const char *help);
int cw_engine_settings(struct cw_engine *engine, cw_setting_fn fn, void *arg);

/* Visits every transport: its name, 1 when it is on, and one line that says what it does or why it is off. */
typedef void (*cw_transport_fn)(void *arg, const char *name, int on, const char *why);
int cw_engine_transports(struct cw_engine *engine, cw_transport_fn fn, void *arg);

struct cw_engine_stats {
	size_t size;
	uint64_t batches_submitted, batches_completed, batches_failed, batches_canceled, batches_timed_out;
	uint64_t requests_submitted, requests_completed;
	uint64_t bytes_written, bytes_read;     /* completed by this engine as initiator */
	uint64_t bytes_served;                  /* moved by this engine on behalf of peers */
	uint64_t slices_retried;                /* pieces that went a second way */
	uint64_t notifications_sent, notifications_received, notifications_dropped;
	uint64_t requests_refused;              /* from peers: bad key, bounds, rights */
	uint64_t protocol_errors;               /* from peers: malformed frames */
	uint64_t regions, segments, batches;    /* alive now */
	uint64_t wakeups;                       /* times a progress thread left its sleep */
};

/* Fills stats_out (its size must be set). Counters only grow. Threads: any. */
int cw_engine_stats_get(struct cw_engine *engine, struct cw_engine_stats *stats_out);

/* --------------------------------------------------------------------------------------------- memory */

enum cw_access {
	CW_ACCESS_LOCAL = 0,        /* only this engine's own requests use it */
	CW_ACCESS_REMOTE_READ = 1,  /* peers may read it */
	CW_ACCESS_REMOTE_WRITE = 2, /* peers may write it */
	CW_ACCESS_REMOTE = 3        /* both */
};

enum cw_memory_kind { CW_MEMORY_HOST = 0, CW_MEMORY_DEVICE = 1, CW_MEMORY_FILE = 2, CW_MEMORY_POOL = 3 };

struct cw_region_options {
	size_t size;
	const char *location; /* NULL or "*" = find out; "cpu:N" = host memory on NUMA node N (an error when it is not) */
	uint32_t access;      /* enum cw_access; CW_REGION_OPTIONS_INIT gives CW_ACCESS_REMOTE */
	uint32_t flags;       /* none yet */
};
#define CW_REGION_OPTIONS_INIT { .size = sizeof(struct cw_region_options), .access = CW_ACCESS_REMOTE }

/* Registers [address, address + length). The identical range with the same rights may be registered again and then needs as many
 * unregister calls; the same handle is returned. Errors: OVERLAP (any other overlap), LOCATION, INVALID (length 0, wrap, NULL).
 * The memory must stay mapped until cw_region_unregister() or cw_region_revoke() returned CW_OK. Threads: any. */
int cw_region_register(struct cw_engine *engine, void *address, size_t length, const struct cw_region_options *options,
		       struct cw_region **region_out);

/* As cw_region_register(), but returns at once; the region can be used when cw_region_ready() says CW_OK. */
int cw_region_register_async(struct cw_engine *engine, void *address, size_t length,
			     const struct cw_region_options *options, struct cw_region **region_out);

/* Waits up to timeout for an asynchronous registration. progress_out (may be NULL) gets 0 to 100. Returns CW_OK when the region
 * is ready, ERR_AGAIN when it is not yet, or the reason why the registration failed. Threads: any. */
int cw_region_ready(struct cw_region *region, uint64_t timeout, unsigned *progress_out);

/* Takes back one registration. The last one revokes the range first and so returns only when nothing touches it any more. BUSY:
 * a request or peer still holds it (it is quarantined: the handle stays valid, try again). Threads: any. */
int cw_region_unregister(struct cw_region *region);

/* Ends all access to [offset, offset + length) of the region, by requests of this engine and by peers; length 0 = up to the end.
 * Returns when no access that this process executes or granted can touch the range any more. Peers get STALE_REGION, own requests
 * that use it fail. BUSY after timeout: a peer that does not answer still maps it; the range stays revoked, call again to
 * wait on. There is no way back but unregister. Threads: any. */
int cw_region_revoke(struct cw_region *region, uint64_t offset, uint64_t length, uint64_t timeout);

struct cw_region_info {
	size_t size;
	uint64_t address, length;
	uint64_t allocation_base, allocation_length; /* 0, 0 when unknown */
	enum cw_memory_kind kind;
	int device;        /* -1 for host memory */
	int numa_node;     /* of the first page; -1 unknown */
	uint32_t access;
	uint64_t page_size; /* of the mapping */
	char location[32];  /* "cpu:0" */
	unsigned registrations;
	int engine_owned;   /* allocated by cw_memory_allocate() */
};

/* Describes a region. Threads: any. */
int cw_region_info_get(struct cw_region *region, struct cw_region_info *info_out);

/* Finds the live region that holds [address, address + length). Borrowed. ERR_NOT_REGISTERED when there is none. Threads: any. */
int cw_region_find(struct cw_engine *engine, const void *address, size_t length, struct cw_region **region_out);

enum cw_memory_flags {
	CW_MEMORY_SHAREABLE = 1, /* peers on this machine can map it: the fastest way between processes */
	CW_MEMORY_HUGE = 2       /* huge pages when there are any, else ordinary ones */
};

struct cw_memory_options {
	size_t size;
	const char *location; /* NULL = "cpu:*" */
	uint32_t flags;       /* enum cw_memory_flags; CW_MEMORY_OPTIONS_INIT gives CW_MEMORY_SHAREABLE */
	uint32_t access;      /* enum cw_access */
};
#define CW_MEMORY_OPTIONS_INIT                                                                                         \
	{ .size = sizeof(struct cw_memory_options), .flags = CW_MEMORY_SHAREABLE, .access = CW_ACCESS_REMOTE }

/* What memory of this description could do, before allocating any: 1 or 0 in each field. */
struct cw_memory_capabilities {
	size_t size;
	int can_allocate, shareable, huge_pages;
	char why_not[160]; /* one line for the first 0 */
};
int cw_memory_query(struct cw_engine *engine, const struct cw_memory_options *options,
		    struct cw_memory_capabilities *capabilities_out);

/* Allocates zeroed memory owned by the engine and registers it. cw_memory_free() takes both back. Threads: any. */
int cw_memory_allocate(struct cw_engine *engine, size_t length, const struct cw_memory_options *options,
		       void **address_out, struct cw_region **region_out);

/* Revokes, unregisters and frees. BUSY as for cw_region_unregister(): nothing was freed then. Threads: any. */
int cw_memory_free(struct cw_region *region);

/* -------------------------------------------------------------------------------------------- segment */

struct cw_segment_options {
	size_t size;
	uint64_t timeout; /* for the whole opening; 0 = the setting control/connect_timeout */
	int strict;       /* 1 = see transports; requests fail rather than go another way */
	const char *transports; /* comma list that may be used, in order of preference; NULL = all, the engine decides */
};
#define CW_SEGMENT_OPTIONS_INIT { .size = sizeof(struct cw_segment_options) }

/* Opens what the peer called name offers; "host:port" or "[v6]:port" in peer-to-peer mode; the engine's own name opens itself.
 * Blocks up to the timeout. Opening the same peer twice gives the same segment, counted. Errors: ADDRESS, CONNECT, PROTOCOL,
 * TIMED_OUT. Threads: any. */
int cw_segment_open(struct cw_engine *engine, const char *name, const struct cw_segment_options *options,
		    struct cw_segment **segment_out);

/* Gives one opening back; requests in flight run on. Threads: any. */
void cw_segment_close(struct cw_segment *segment);

enum cw_peer_state { CW_PEER_UP = 0, CW_PEER_SUSPECT = 1, CW_PEER_DOWN = 2, CW_PEER_RESTARTED = 3 };

struct cw_segment_info {
	size_t size;
	char name[256];
	char address[80];        /* the one of the advertised addresses that answered */
	unsigned char instance[16]; /* all zero for a classic peer */
	int classic;             /* 1 = a Mooncake engine, 0 = Causeway */
	int same_host, same_process;
	enum cw_peer_state state;
	char transports[160];    /* what the peer offers, comma list */
	size_t region_count;     /* of the last listing */
};
int cw_segment_info_get(struct cw_segment *segment, struct cw_segment_info *info_out);

struct cw_remote_region {
	uint64_t address, length;
	uint32_t access;
	enum cw_memory_kind kind;
	int device;
	char location[32];
};

/* Fetches the peer's regions afresh: up to max rows to regions_out, how many there are to count_out. Threads: any. */
int cw_segment_regions(struct cw_segment *segment, struct cw_remote_region *regions_out, size_t max, size_t *count_out);

/* Asks the peer's progress for an answer. CW_OK within timeout means it is alive and serving. round_trip_out (may be NULL) in
 * nanoseconds. Errors: TIMED_OUT, PEER_DOWN, PEER_RESTARTED. Threads: any. */
int cw_segment_probe(struct cw_segment *segment, uint64_t timeout, uint64_t *round_trip_out);

/* -------------------------------------------------------------------------------------------- batches */

enum cw_op { CW_OP_READ = 0, CW_OP_WRITE = 1 };

/*
 * One side of a request. Piece i, for i in [0, count), is the range
 *     [base + index(i) * stride, base + index(i) * stride + page_size)
 * where index(i) is indices[i], or i when indices is NULL. stride 0 means page_size. Plain range: page_size = length, count = 1.
 * Local: base is an address in this process. Remote: base is an offset in the named space (space 0: addresses of the peer).
 */
struct cw_vec {
	uint64_t base;
	uint64_t page_size;
	uint64_t stride;
	uint64_t count;
	const void *indices; /* uint32_t or uint64_t array, see index_bits */
	uint32_t index_bits; /* 0 (no array), 32 or 64 */
	uint32_t space;      /* remote side only */
};

enum cw_request_flags {
	CW_REQUEST_BORROW_INDICES = 1 /* the index arrays stay valid until the batch is terminal; else they are copied */
};

/* Moves local to remote (WRITE) or remote to local (READ). Both sides must have the same total length. */
struct cw_request {
	struct cw_segment *segment;
	struct cw_vec local, remote;
	uint32_t op;    /* enum cw_op */
	uint32_t flags; /* enum cw_request_flags */
	uint64_t tag;   /* the caller's; reported back */
};

enum cw_class { CW_CLASS_LATENCY = 0, CW_CLASS_BULK = 1, CW_CLASS_BACKGROUND = 2 };

/* When a write counts as COMPLETED. */
enum cw_delivery {
	CW_DELIVERY_VISIBLE = 0,   /* the target's CPU or device would see the bytes (default) */
	CW_DELIVERY_DELIVERED = 1, /* the target's transport has them */
	CW_DELIVERY_LOCAL = 2      /* the local memory may be reused */
};

enum cw_batch_state {
	CW_BATCH_WAITING = 0, /* for its prerequisites */
	CW_BATCH_ACTIVE = 1,
	CW_BATCH_COMPLETED = 2,
	CW_BATCH_FAILED = 3,
	CW_BATCH_CANCELED = 4,
	CW_BATCH_TIMED_OUT = 5
};

/* What can be said about the target's memory after an unsuccessful end. */
enum cw_remote_state {
	CW_REMOTE_QUIET = 0,  /* nothing of this batch will land any more: the target said so, or nothing was sent */
	CW_REMOTE_FENCED = 1, /* nothing lands after fence_ns: the target discards late chunks by its own clock */
	CW_REMOTE_UNKNOWN = 2 /* a classic or unreachable peer; what was sent may still land */
};

enum cw_batch_flags {
	CW_BATCH_FAIL_FAST = 1, /* the first failing request ends the others */
	CW_BATCH_STRICT = 2,    /* never fall back to a slower transport than the path report promises */
	CW_BATCH_CHECKSUM = 4   /* verify the payload end to end where the transport can */
};

/* A message that follows its data. At most CW_NOTIFY_MAX bytes; to a classic peer it must be text without NUL bytes. */
#define CW_NOTIFY_MAX 65536
struct cw_notify {
	struct cw_segment *segment; /* NULL = the batch's only target; a batch with several names each */
	const char *name;           /* NUL-terminated, at most 255 bytes; may be NULL */
	const void *data;
	size_t length;
};

struct cw_batch_result {
	size_t size;
	enum cw_batch_state state;
	int status;               /* CW_OK, or that of the first request that failed */
	enum cw_scope scope;
	int retryable;
	int local_quiet;          /* 0 = something may still touch local memory; an event clears it */
	enum cw_remote_state remote;
	uint64_t fence_ns;        /* for FENCED: CLOCK_MONOTONIC of this process after which nothing lands */
	uint64_t requests_completed, requests_failed, bytes_completed;
	uint64_t submitted_ns, ended_ns; /* CLOCK_MONOTONIC */
	char text[200];           /* one line: peer, transport, cause; "" when COMPLETED */
};

/* Runs once when the batch is terminal, on a progress thread or any thread that waits; no lock is held. */
typedef void (*cw_batch_fn)(void *arg, struct cw_batch *batch);

struct cw_batch_options {
	size_t size;
	uint64_t deadline_ns;  /* absolute, CLOCK_MONOTONIC; 0 = now + 30 s + 1 s for each GiB */
	uint32_t flags;        /* enum cw_batch_flags */
	uint32_t priority;     /* enum cw_class; 0 is LATENCY */
	uint32_t delivery;     /* enum cw_delivery */
	uint32_t notify_count;
	const struct cw_notify *notify; /* sent when all requests are visible; copied */
	struct cw_batch *const *after;  /* batches that must be COMPLETED first; copied */
	size_t after_count;
	struct cw_counter *counter;     /* and this counter must have reached counter_value */
	uint64_t counter_value;
	struct cw_queue *queue;         /* where the end appears; NULL = nowhere */
	cw_batch_fn callback;
	void *arg;                      /* for the callback, and in the queue's event */
};
#define CW_BATCH_OPTIONS_INIT { .size = sizeof(struct cw_batch_options) }

/* Accepts count requests (0 is allowed: a batch that only notifies or waits) or none at all. The request array is copied. Errors
 * before acceptance: INVALID, NOT_REGISTERED, OVERLAP never; LIMIT. batch_out is the caller's until cw_batch_release().
 * Never blocks; small copies may be executed at once. Threads: any. */
int cw_batch_submit(struct cw_engine *engine, const struct cw_request *requests, size_t count,
		    const struct cw_batch_options *options, struct cw_batch **batch_out);

/* Waits until the batch is terminal, helping with progress. CW_OK = it is terminal (see its result), ERR_AGAIN = timeout. */
int cw_batch_wait(struct cw_batch *batch, uint64_t timeout);

/* The state now; never blocks, makes no system call. Threads: any. */
enum cw_batch_state cw_batch_poll(const struct cw_batch *batch);

/* The result, complete once the batch is terminal; before, its counts so far. Threads: any. */
int cw_batch_result_get(struct cw_batch *batch, struct cw_batch_result *result_out);

/* The end of one request of the batch: CW_OK, a failure, or ERR_AGAIN while it runs. bytes_out may be NULL. Threads: any. */
int cw_batch_request_status(struct cw_batch *batch, size_t index, uint64_t *bytes_out);

/* Asks for the end. The batch becomes CANCELED (or what it already was) within the grace time. Returns at once. Threads: any. */
int cw_batch_cancel(struct cw_batch *batch);

/* Gives the handle back; always legal. A batch that still runs runs on. NULL is allowed. Threads: any. */
void cw_batch_release(struct cw_batch *batch);

/* A 64-bit counter that batches can wait for. */
int cw_counter_open(struct cw_engine *engine, uint64_t initial, struct cw_counter **counter_out);
int cw_counter_add(struct cw_counter *counter, uint64_t n);
void cw_counter_close(struct cw_counter *counter);

/* ------------------------------------------------------------------------------- queues, notifications */

enum cw_event_kind { CW_EVENT_BATCH = 0, CW_EVENT_NOTIFY = 1, CW_EVENT_PEER = 2, CW_EVENT_QUIET = 3 };

struct cw_event {
	enum cw_event_kind kind;
	/* BATCH, QUIET: the batch (borrowed, still the submitter's to release) and its arg. */
	struct cw_batch *batch;
	void *arg;
	/* NOTIFY: who sent it, its name and data. The strings belong to the event until cw_event_clear(). */
	const char *sender;
	const char *name;
	const void *data;
	size_t length;
	/* PEER: the segment (borrowed), and its new state. */
	struct cw_segment *segment;
	enum cw_peer_state state;
	void *storage; /* the library's */
};

/* The engine's default queue; notifications from peers and peer events go here. Borrowed. */
struct cw_queue *cw_engine_queue(struct cw_engine *engine);

/* A queue of its own, for another event loop. Threads: any. */
int cw_queue_open(struct cw_engine *engine, struct cw_queue **queue_out);

/* Frees the queue; what is in it is dropped. No batch may still name it. */
void cw_queue_close(struct cw_queue *queue);

/* Takes up to max events without waiting; returns how many, or a negative status. Threads: any. */
int cw_queue_poll(struct cw_queue *queue, struct cw_event *events_out, int max);

/* As poll, but waits up to timeout for the first event, helping with progress. 0 = timeout. */
int cw_queue_wait(struct cw_queue *queue, struct cw_event *events_out, int max, uint64_t timeout);

/* Frees what a NOTIFY event carries; harmless for others. */
void cw_event_clear(struct cw_event *event);

/* A descriptor that is readable while the queue is armed and not empty; for poll, epoll and the like, owned by the queue. */
int cw_queue_fd(struct cw_queue *queue);

/* Arms the fd. CW_OK: it will become readable with the next event. ERR_BUSY: events are pending now, poll first. */
int cw_queue_arm(struct cw_queue *queue);

/* Sends a message without data and waits for the peer's acknowledgement. Errors: NOTIFY_UNKNOWN, TIMED_OUT, UNSUPPORTED,
 * LIMIT (the peer's queue is full). Threads: any. */
int cw_notify_send(struct cw_engine *engine, const struct cw_notify *notify, uint64_t timeout);

/* ----------------------------------------------------------------------------------------------- paths */

struct cw_path_step {
	char transport[24];
	int chosen;          /* 1 for the one that is used first */
	int usable;          /* 0 = see why */
	unsigned rails;
	double gigabytes_per_second; /* expected; measured once there was traffic */
	char checks[80];     /* what checks an access: "target cpu: bounds, rights, key, generation" */
	char why[120];       /* why it was not chosen, or how it goes */
};

/* For the two regions of a request: every transport, best first. Up to max rows to steps_out, their number to count_out. Errors:
 * NOT_REGISTERED, STALE_REGION, PEER_DOWN. May ask the peer. Threads: any. */
int cw_path_explain(struct cw_segment *segment, const void *local, uint64_t remote, uint64_t length, enum cw_op op,
		    struct cw_path_step *steps_out, size_t max, size_t *count_out);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
