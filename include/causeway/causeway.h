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
 * and may otherwise be zero. Times are nanoseconds, sizes, lengths and offsets are bytes; a duration of CW_FOREVER
 * never ends and 0 never waits. Handles are opaque. Any call that returns a status may fail with CW_ERR_INVALID when a
 * handle is NULL or a struct's size is wrong. In a process that was forked after cw_engine_open() calls that need the
 * engine return CW_ERR_FORKED, and those that return nothing do nothing.
 *
 * Comments. What stands before a function is its manual page, made by scripts/man.py: the first sentence is its name
 * line; then come, in this order and where they apply, "Returns ...", "Errors: NAME (when), ..." and "Threads: ...".
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

/* Says what a status means. Returns one constant line of text; never NULL, also for unknown numbers. Threads: any. */
const char *cw_strerror(int status);

/* Names a status. Returns a constant text such as "ERR_BUSY"; "UNKNOWN" for unknown numbers. Threads: any. */
const char *cw_status_name(int status);

/* Tells how far a failure reaches. Returns the scope of the status; that of unknown numbers is ENGINE. Threads: any. */
enum cw_scope cw_status_scope(int status);

/* Tells whether a retry can help. Returns 1 when the same call may succeed later without a change by the caller, else
 * 0. Threads: any. */
int cw_status_retryable(int status);

/* Explains the last failure of a call in this thread. Success does not clear it. Returns one line that says what was
 * wrong or what to do; "" when no call of this thread failed yet. The text is borrowed and valid until the next failing
 * call of this thread. Threads: any; each has its own text. */
const char *cw_last_error(void);

/* Tells which library is loaded. Returns its version, such as "0.1.0". Threads: any. */
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

/* Receives one line without a newline; line is borrowed during the call. Called from any thread, possibly in the middle
 * of the engine's work: it should return soon and must not call the engine. */
typedef void (*cw_log_fn)(void *arg, enum cw_log_level level, const char *line);

struct cw_setting {
	const char *key;   /* such as "tcp/connections", see causeway-settings(7) */
	const char *value; /* as text */
};

struct cw_engine_options {
	size_t size;
	const char *name;        /* "host", "host:port" or "[v6]:port": where it listens; NULL = 127.0.0.1, any port */
	const char *config_file; /* JSON; NULL = none */
	const struct cw_setting *settings; /* override file and environment */
	size_t setting_count;
	cw_log_fn log; /* NULL = stderr; what is logged at all, the setting log/level says (default: warnings and
			  errors) */
	void *log_arg;
	int use_environment; /* 1 = read the CW_* variables too; they override the file */
};
#define CW_ENGINE_OPTIONS_INIT                                                                                         \
	{                                                                                                              \
		.size = sizeof(struct cw_engine_options)                                                               \
	}

/* Opens an engine. Reads its configuration, binds its port, starts its transports and progress threads. A transport
 * that cannot work here is left out; cw_engine_transports() says why. options may be NULL. The engine is the caller's
 * until cw_engine_close(). With a metadata store (the setting metadata/url) it publishes itself there, and waits for
 * that up to metadata/timeout: a store that cannot be reached is a warning, and the engine is published later, unless
 * metadata/required is on. Errors: CONFIG (unknown key, value out of range, plug-in that cannot be loaded), ADDRESS
 * (the name cannot be parsed or resolved, or cannot be published), PERMISSION (the store refuses us), IO (the port is
 * taken), LIMIT (open files), UNSUPPORTED (Linux before 4.14), NO_MEMORY. Threads: any; engines are independent of each
 * other. */
int cw_engine_open(const struct cw_engine_options *options, struct cw_engine **engine_out);

/* Closes an engine. Withdraws what it published in a metadata store, for which it waits up to the setting
 * metadata/timeout, ends every batch (CANCELED), says goodbye to peers and frees the engine with all regions, segments
 * and queues it still has, and the memory of cw_memory_allocate(). Handles of this engine are invalid afterwards,
 * except batches, which must still be released, and counters, which must have been closed before. NULL is allowed.
 * Threads: no other call may use the engine at the same time; not from a callback. */
void cw_engine_close(struct cw_engine *engine);

/* Tells the name by which peers open this engine. Returns the setting metadata/name where a metadata store knows names,
 * else "host:port", borrowed and valid while the engine is open; "" for NULL. Threads: any. */
const char *cw_engine_name(const struct cw_engine *engine);

/* Drives an engine once. Needed by engines with progress/threads = 0 only: handles what is ready and returns without
 * waiting. The fd of their default queue is readable when this is needed. Threads: any. */
int cw_engine_progress(struct cw_engine *engine);

/* Receives one setting: origin is "default", "file", "environment" or "options". Strings are borrowed during the call.
 */
typedef void (*cw_setting_fn)(void *arg, const char *key, const char *value, const char *origin, const char *help);

/* Visits every setting of an engine. Calls fn once for each, in the caller's thread. engine NULL = the defaults.
 * Threads: any. */
int cw_engine_settings(struct cw_engine *engine, cw_setting_fn fn, void *arg);

/* Receives one transport or platform: on is 1 or 0, why is one line that says what it does or why it is off. Strings
 * are borrowed. */
typedef void (*cw_transport_fn)(void *arg, const char *name, int on, const char *why);

/* Visits every transport of an engine. Calls fn once for each, in the caller's thread. Threads: any. */
int cw_engine_transports(struct cw_engine *engine, cw_transport_fn fn, void *arg);

/* Visits every platform of an engine: the kinds of memory that it knows, or why it does not. Calls fn once for each, in
 * the caller's thread, in the order in which they are asked whose memory an address is. Threads: any. */
int cw_engine_platforms(struct cw_engine *engine, cw_transport_fn fn, void *arg);

struct cw_engine_stats {
	size_t size;
	uint64_t batches_submitted, batches_completed, batches_failed, batches_canceled, batches_timed_out;
	uint64_t requests_submitted, requests_completed;
	uint64_t bytes_written, bytes_read; /* of requests that this engine submitted and that completed */
	uint64_t bytes_served;              /* moved by this engine on behalf of peers */
	uint64_t slices_retried;            /* pieces that went a second way */
	uint64_t notifications_sent, notifications_received, notifications_dropped;
	uint64_t requests_refused;           /* from peers: bad key, bounds, rights */
	uint64_t protocol_errors;            /* from peers: malformed frames */
	uint64_t regions, segments, batches; /* alive now */
	uint64_t wakeups;                    /* times a progress thread left its sleep */
};

/* Counts what an engine did. Fills stats_out, whose size must be set. All but regions, segments and batches only grow.
 * Each number is exact, but they are not read at one instant. Threads: any. */
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
	/* NULL or "*" = find out; "cpu:*" = host memory; "cpu:N" = host memory on NUMA node N, "sunrise:N", "cuda:N" =
	 * memory of device N (an error when it is not)
	 */
	const char *location;
	uint32_t access; /* enum cw_access; CW_REGION_OPTIONS_INIT gives CW_ACCESS_REMOTE */
	uint32_t flags;  /* none yet: 0 */
};
#define CW_REGION_OPTIONS_INIT                                                                                         \
	{                                                                                                              \
		.size = sizeof(struct cw_region_options), .access = CW_ACCESS_REMOTE                                   \
	}

/* Registers memory. Requests can use, and peers with a right can reach, [address, address + length). The identical
 * range with the same rights may be registered again and then needs as many unregister calls; the same handle is
 * returned. The memory must stay mapped until cw_region_unregister() or, for all of it, cw_region_revoke() returned
 * CW_OK. With a metadata store, it and cw_region_unregister() wait until the new list of regions is published there, up
 * to the setting metadata/timeout, and not at all while the store is out of reach; then it is published later. Errors:
 * OVERLAP (any other overlap, or other rights), LOCATION (it is not where options say), INVALID (length 0, wrap, NULL,
 * not mapped), UNSUPPORTED (the CPU cannot read it, and no platform knows it), NO_MEMORY. Threads: any.
 */
int cw_region_register(struct cw_engine *engine, void *address, size_t length, const struct cw_region_options *options,
		       struct cw_region **region_out);

/* Starts to register memory. As cw_region_register(), but returns at once and works in a thread of its own; the region
 * can be used when cw_region_ready() says CW_OK. A registration that failed must be unregistered too. Errors: OVERLAP,
 * INVALID (length 0, wrap, NULL), NO_MEMORY. Threads: any. */
int cw_region_register_async(struct cw_engine *engine, void *address, size_t length,
			     const struct cw_region_options *options, struct cw_region **region_out);

/* Waits for an asynchronous registration. Waits up to timeout nanoseconds. progress_out (may be NULL) gets 0 to 100.
 * Returns CW_OK when the region is ready, or else a negative status. Errors: AGAIN (not yet), STALE_REGION (it was
 * revoked), LOCATION (it is not where the options say), INVALID (not mapped), UNSUPPORTED (no platform knows this
 * memory). Threads: any. */
int cw_region_ready(struct cw_region *region, uint64_t timeout, unsigned *progress_out);

/* Takes back one registration. The last one revokes the whole region first, waits for that up to the setting
 * batch/grace, and so returns CW_OK only when nothing touches the memory any more; the handle is gone then. Errors:
 * BUSY (a request or a peer still holds it: it is quarantined, nobody new gets at it, the handle stays valid, try
 * again), NOT_FOUND (it is not registered), INVALID (memory of cw_memory_allocate(): use cw_memory_free()). Threads:
 * any. */
int cw_region_unregister(struct cw_region *region);

/* Ends all access to a part of a region. Nothing that this process executes or granted touches [offset, offset +
 * length) after this returned CW_OK, neither requests of this engine nor those of peers; length 0 = up to the end.
 * Offsets are bytes from the region's address. Peers get STALE_REGION, own requests that use the range fail. Waits up
 * to timeout nanoseconds. There is no way back but unregister. Errors: BUSY (a request or a peer that does not answer
 * still holds it; the range stays revoked, call again to wait on), INVALID (the range is not inside the region), LIMIT
 * (64 ranges are revoked already: revoke all of it), NO_MEMORY. Threads: any. */
int cw_region_revoke(struct cw_region *region, uint64_t offset, uint64_t length, uint64_t timeout);

struct cw_region_info {
	size_t size;
	uint64_t address, length;
	uint64_t allocation_base, allocation_length; /* 0, 0 when unknown */
	enum cw_memory_kind kind;
	int device;    /* -1 for host memory */
	int numa_node; /* of the first page; -1 unknown */
	uint32_t access;
	uint64_t page_size;     /* of the system; for host memory */
	char location[32];      /* "cpu:0"; "cpu:*" when no page has a node yet */
	unsigned registrations; /* that must be taken back */
	int engine_owned;       /* allocated by cw_memory_allocate() */
};

/* Describes a region. Fills info_out, whose size must be set; waits for an asynchronous registration. Errors:
 * STALE_REGION (it was revoked). Threads: any. */
int cw_region_info_get(struct cw_region *region, struct cw_region_info *info_out);

/* Finds the region of an address. region_out gets the live region that holds all of [address, address + length),
 * borrowed. Errors: NOT_REGISTERED (there is none). Threads: any. */
int cw_region_find(struct cw_engine *engine, const void *address, size_t length, struct cw_region **region_out);

enum cw_memory_flags {
	CW_MEMORY_SHAREABLE = 1, /* peers on this machine can map it: the fastest way between processes */
	CW_MEMORY_HUGE = 2       /* huge pages when there are any, else ordinary ones */
};

struct cw_memory_options {
	size_t size;
	const char *location; /* "cpu:N" = on NUMA node N if possible; NULL = "cpu:*" = anywhere in host memory;
				 "sunrise:N", "cuda:N" = on device N */
	uint32_t flags;       /* enum cw_memory_flags; CW_MEMORY_OPTIONS_INIT gives CW_MEMORY_SHAREABLE */
	uint32_t access;      /* enum cw_access */
};
#define CW_MEMORY_OPTIONS_INIT                                                                                         \
	{                                                                                                              \
		.size = sizeof(struct cw_memory_options), .flags = CW_MEMORY_SHAREABLE, .access = CW_ACCESS_REMOTE     \
	}

/* What memory of a description could do: 1 or 0 in each field. */
struct cw_memory_capabilities {
	size_t size;
	int can_allocate, shareable, huge_pages;
	char why_not[160]; /* one line for the first 0 */
};

/* Asks what allocated memory could do. Fills capabilities_out, whose size must be set; allocates nothing. Threads: any.
 */
int cw_memory_query(struct cw_engine *engine, const struct cw_memory_options *options,
		    struct cw_memory_capabilities *capabilities_out);

/* Allocates memory and registers it. The memory is zeroed, host memory starts on a page, and it is the engine's;
 * cw_memory_free() takes both back. options may be NULL. Errors: UNSUPPORTED (no platform allocates at this location),
 * NO_MEMORY, INVALID (length 0). Threads: any. */
int cw_memory_allocate(struct cw_engine *engine, size_t length, const struct cw_memory_options *options,
		       void **address_out, struct cw_region **region_out);

/* Frees allocated memory. Revokes, unregisters and frees it as cw_region_unregister() does; NULL is allowed. Errors:
 * BUSY (as for cw_region_unregister(); nothing was freed), INVALID (the memory is the caller's). Threads: any. */
int cw_memory_free(struct cw_region *region);

/* -------------------------------------------------------------------------------------------- segment */

struct cw_segment_options {
	size_t size;
	uint64_t timeout;       /* nanoseconds, for the whole opening; 0 = the setting control/connect_timeout */
	int strict;             /* 1 = requests fail rather than change to another transport when theirs fails */
	const char *transports; /* comma list that may be used, in order of preference; NULL = all, the engine decides
				 */
};
#define CW_SEGMENT_OPTIONS_INIT                                                                                        \
	{                                                                                                              \
		.size = sizeof(struct cw_segment_options)                                                              \
	}

/* Opens what a peer offers. name is "host:port" or "[v6]:port" in peer-to-peer mode, else what the peer is called in
 * the metadata store; the engine's own name opens itself. Blocks up to the timeout and while the name is looked up, in
 * a store up to the setting metadata/timeout. Opening a name twice gives the same segment, counted, when both openings
 * are as strict and name no transports. options may be NULL. Errors: ADDRESS (the name cannot be parsed or resolved),
 * NOT_FOUND (the store does not know the name), CONNECT (the peer, or the store, cannot be reached), PROTOCOL,
 * PERMISSION (the store refuses us), TIMED_OUT, INVALID (a transport that does not exist is named), NO_PATH (a named
 * one is off), NO_MEMORY. Threads: any. */
int cw_segment_open(struct cw_engine *engine, const char *name, const struct cw_segment_options *options,
		    struct cw_segment **segment_out);

/* Gives back one opening of a segment. Requests in flight run on. NULL is allowed. Threads: any. */
void cw_segment_close(struct cw_segment *segment);

enum cw_peer_state { CW_PEER_UP = 0, CW_PEER_SUSPECT = 1, CW_PEER_DOWN = 2, CW_PEER_RESTARTED = 3 };

struct cw_segment_info {
	size_t size;
	char name[256];
	char address[80];           /* the one of the advertised addresses that answered */
	unsigned char instance[16]; /* all zero for a classic peer */
	int classic;                /* 1 = a Mooncake engine, 0 = Causeway */
	int same_host, same_process;
	enum cw_peer_state state;
	char transports[160]; /* what the peer offers, comma list; for the engine itself, what it uses */
	size_t region_count;  /* in a classic peer's last list, or of the engine itself; else 0 */
};

/* Describes a segment and the peer behind it. Fills info_out, whose size must be set; asks nobody. Threads: any. */
int cw_segment_info_get(struct cw_segment *segment, struct cw_segment_info *info_out);

struct cw_remote_region {
	uint64_t address, length;
	uint32_t access;
	enum cw_memory_kind kind;
	int device;
	char location[32];
};

/* Fetches the list of a peer's regions. Up to max rows go to regions_out, and how many there are, which may be more, to
 * count_out. Regions without a right for peers are not listed. Waits up to the setting control/connect_timeout. Errors:
 * TIMED_OUT, PEER_DOWN, PEER_RESTARTED, PROTOCOL. Threads: any. */
int cw_segment_regions(struct cw_segment *segment, struct cw_remote_region *regions_out, size_t max, size_t *count_out);

/* Asks a peer for a sign of life. Success within timeout nanoseconds means that its progress is alive and serving.
 * round_trip_out (may be NULL) gets nanoseconds. Errors: TIMED_OUT, PEER_DOWN, PEER_RESTARTED. Threads: any. */
int cw_segment_probe(struct cw_segment *segment, uint64_t timeout, uint64_t *round_trip_out);

/* -------------------------------------------------------------------------------------------- batches */

enum cw_op { CW_OP_READ = 0, CW_OP_WRITE = 1 };

/*
 * One side of a request. Piece i, for i in [0, count), is the range
 *     [base + index(i) * stride, base + index(i) * stride + page_size)
 * where index(i) is indices[i], or i when indices is NULL. stride 0 means page_size. Plain range: page_size = length,
 * count = 1. Local: base is an address in this process, and all pieces lie in one region. Remote: base is an offset in
 * the named space (space 0: addresses of the peer), and each piece lies in one region.
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
	CW_REQUEST_BORROW_INDICES = 1 /* the index arrays stay valid until local memory is quiet; else they are copied
				       */
};

/* Moves local to remote (WRITE) or remote to local (READ). Both sides must have the same total length. */
struct cw_request {
	struct cw_segment *segment;
	struct cw_vec local, remote;
	uint32_t op;    /* enum cw_op */
	uint32_t flags; /* enum cw_request_flags */
	uint64_t tag;   /* the caller's; not looked at */
};

enum cw_class { CW_CLASS_LATENCY = 0, CW_CLASS_BULK = 1, CW_CLASS_BACKGROUND = 2 };

/* When a write counts as COMPLETED. A transport may do more than was asked; today all of them do VISIBLE. */
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

/* A place in the work of a device. */
enum cw_device_sync_kind {
	CW_DEVICE_STREAM = 0, /* everything that is in the stream at the time of the call */
	CW_DEVICE_EVENT = 1   /* the event, as it was recorded last at the time of the call */
};
struct cw_device_sync {
	const char *location; /* the device whose stream or event it is: "sunrise:0", "cuda:1" */
	uint32_t kind;        /* enum cw_device_sync_kind */
	void *handle;         /* tangStream_t, tangEvent_t, CUstream, CUevent; NULL = the device's default stream */
};

enum cw_batch_flags {
	CW_BATCH_FAIL_FAST = 1, /* the first failing request ends the others */
	CW_BATCH_STRICT = 2,    /* do not change to another transport when the chosen one keeps failing */
	CW_BATCH_CHECKSUM = 4   /* verify the payload end to end where the transport can (tcp between two Causeway
				   engines) */
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
	int status; /* CW_OK, or that of the first request that failed */
	enum cw_scope scope;
	int retryable;
	int local_quiet; /* 0 = something may still touch local memory; a QUIET event tells when that is over */
	enum cw_remote_state remote; /* UNKNOWN while local_quiet is 0; from the QUIET event on, what is known then */
	uint64_t fence_ns;           /* for FENCED: CLOCK_MONOTONIC of this process after which nothing lands */
	uint64_t requests_completed, requests_failed, bytes_completed;
	uint64_t submitted_ns, ended_ns; /* CLOCK_MONOTONIC */
	char text[200];                  /* one line: peer, transport, cause; "" when COMPLETED */
};

/* Runs once when the batch is terminal, on a progress thread or on any thread that is in a call of this engine; no lock
 * is held. batch is valid during the call even when it was released. It must not close the engine. */
typedef void (*cw_batch_fn)(void *arg, struct cw_batch *batch);

struct cw_batch_options {
	size_t size;
	uint64_t deadline_ns; /* absolute, CLOCK_MONOTONIC; 0 = now + 30 s + 1 s for each GiB */
	uint32_t flags;       /* enum cw_batch_flags */
	uint32_t priority;    /* enum cw_class; 0 is LATENCY */
	uint32_t delivery;    /* enum cw_delivery */
	uint32_t notify_count;
	const struct cw_notify *notify; /* sent when all requests completed, and only then; copied */
	struct cw_batch *const *after;  /* batches that must be COMPLETED first; copied */
	size_t after_count;
	struct cw_counter *counter; /* and this counter must have reached counter_value; NULL = none */
	uint64_t counter_value;
	const struct cw_device_sync *device_after; /* and the devices must have come so far; copied, handles only used
						      during the call */
	size_t device_after_count;
	struct cw_queue *queue; /* where the end appears; NULL = nowhere */
	cw_batch_fn callback;   /* NULL = none */
	void *arg;              /* for the callback, and in the queue's event */
};
#define CW_BATCH_OPTIONS_INIT                                                                                          \
	{                                                                                                              \
		.size = sizeof(struct cw_batch_options)                                                                \
	}

/* Accepts requests to move bytes. Takes all count requests (0 is allowed: a batch that only notifies or waits) or,
 * on failure, none. They run in no particular order, and those that fail do not stop the others unless FAIL_FAST is
 * set. The request array is copied; options may be NULL. Does not wait for anything that has to come from a peer,
 * but up to 256 KiB may be copied before it returns, where a transport copies by CPU and no callback is set.
 * batch_out is the caller's until cw_batch_release(). Errors: INVALID (malformed vectors, sides of unequal length,
 * another engine's handle, a device prerequisite that does not exist), NOT_REGISTERED (local memory is in no region),
 * LIMIT (a notification is too long), UNSUPPORTED (a notification that a classic peer cannot take, a device that cannot
 * be waited for), NO_MEMORY. Threads: any. */
int cw_batch_submit(struct cw_engine *engine, const struct cw_request *requests, size_t count,
		    const struct cw_batch_options *options, struct cw_batch **batch_out);

/* Waits for the end of a batch. Waits up to timeout nanoseconds and helps with progress meanwhile. Returns CW_OK when
 * the batch is terminal, however it ended; see cw_batch_result_get(). Errors: AGAIN (timeout), CLOSED (the engine was
 * closed before the batch could end). Threads: any. */
int cw_batch_wait(struct cw_batch *batch, uint64_t timeout);

/* Looks at a batch. Never blocks and makes no system call. Returns its state now. Threads: any. */
enum cw_batch_state cw_batch_poll(const struct cw_batch *batch);

/* Tells how a batch ended. Fills result_out, whose size must be set; before the batch is terminal, with its counts so
 * far. Threads: any. */
int cw_batch_result_get(struct cw_batch *batch, struct cw_batch_result *result_out);

/* Tells how one request of a batch ended. index is its place in the array that was submitted. bytes_out (may be NULL)
 * gets the bytes that were moved, 0 while it runs. Returns CW_OK when it completed, or the status it failed with.
 * Errors: AGAIN (it runs), INVALID (there is no such request). Threads: any. */
int cw_batch_request_status(struct cw_batch *batch, size_t index, uint64_t *bytes_out);

/* Asks for the end of a batch. Does not wait for it: within the setting batch/grace the batch becomes CANCELED, or what
 * it was about to be, or TIMED_OUT when local memory could not be proved quiet. A terminal batch stays as it is.
 * Threads: any. */
int cw_batch_cancel(struct cw_batch *batch);

/* Gives back a batch. Always legal, also after cw_engine_close(); a batch that still runs runs on. NULL is allowed.
 * Threads: any. */
void cw_batch_release(struct cw_batch *batch);

/* Makes a stream wait for a batch. What is put into the stream after this call starts only when the batch is terminal,
 * however it ended: look at its result before the data is used. The batch may be released meanwhile. stream->kind must
 * be CW_DEVICE_STREAM. Does not block. Errors: INVALID (no such device or stream), UNSUPPORTED (this platform has no
 * such streams), IO (the device's runtime failed). Threads: any. */
int cw_batch_fence(struct cw_batch *batch, const struct cw_device_sync *stream);

/* Opens a counter that batches can wait for. It has 64 bits and begins with initial. It is the caller's until
 * cw_counter_close(), which must come before cw_engine_close(). Errors: NO_MEMORY. Threads: any. */
int cw_counter_open(struct cw_engine *engine, uint64_t initial, struct cw_counter **counter_out);

/* Adds to a counter. Batches that wait for a value that is reached now start. The counter stops at 2^64-1. Threads:
 * any. */
int cw_counter_add(struct cw_counter *counter, uint64_t n);

/* Closes a counter. Batches that still wait for it fail with CW_ERR_PREREQUISITE. NULL is allowed. Threads: no other
 * call may use the counter at the same time. */
void cw_counter_close(struct cw_counter *counter);

/* ------------------------------------------------------------------------------- queues, notifications */

enum cw_event_kind { CW_EVENT_BATCH = 0, CW_EVENT_NOTIFY = 1, CW_EVENT_PEER = 2, CW_EVENT_QUIET = 3 };

struct cw_event {
	enum cw_event_kind kind;
	/* BATCH, QUIET: the batch (borrowed, still the submitter's to release; NULL when it was released) and its arg.
	 */
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

/* Finds an engine's default queue. Notifications from peers and peer events go there, and QUIET events of batches
 * without a queue. Returns it, borrowed; NULL on failure. Threads: any. */
struct cw_queue *cw_engine_queue(struct cw_engine *engine);

/* Opens another queue, for another event loop. Batches name it in their options. It is the caller's until
 * cw_queue_close(). Errors: LIMIT (open files), NO_MEMORY. Threads: any. */
int cw_queue_open(struct cw_engine *engine, struct cw_queue **queue_out);

/* Closes a queue. What is in it is dropped. No batch that runs may still name it. NULL is allowed; the default queue is
 * left alone. Threads: no other call may use the queue at the same time. */
void cw_queue_close(struct cw_queue *queue);

/* Takes events from a queue without waiting. Batches come before other events. Also drives an engine without progress
 * threads when it is its default queue. Returns how many events were taken, at most max, or a negative status. Threads:
 * any. */
int cw_queue_poll(struct cw_queue *queue, struct cw_event *events_out, int max);

/* Takes events from a queue and waits for the first. As cw_queue_poll(), but waits up to timeout nanoseconds when there
 * is none, and helps with progress meanwhile. Returns how many events were taken, at most max; 0 at the timeout; or a
 * negative status. Threads: any. */
int cw_queue_wait(struct cw_queue *queue, struct cw_event *events_out, int max, uint64_t timeout);

/* Frees what an event carries. Needed for NOTIFY events; harmless for others and for NULL. Threads: any. */
void cw_event_clear(struct cw_event *event);

/* Gives a descriptor for poll(2), epoll(7) and the like. It is the queue's: it must not be read or closed. It becomes
 * readable when an event comes to a queue that was armed and stays so until the queue was found empty by
 * cw_queue_poll(). That of the default queue of an engine without progress threads is also readable when
 * cw_engine_progress() is needed. Returns the descriptor, or -1 for NULL. Threads: any. */
int cw_queue_fd(struct cw_queue *queue);

/* Arms the descriptor of a queue. After CW_OK it becomes readable with the next event, once. Errors: BUSY (events are
 * pending now: poll first). Threads: any. */
int cw_queue_arm(struct cw_queue *queue);

/* Sends a notification alone. Waits up to timeout nanoseconds, and the setting batch/grace, for the peer's
 * acknowledgement. notify must name its segment. Errors: NOTIFY_UNKNOWN (it may have arrived or not), TIMED_OUT (it was
 * not sent), PEER_DOWN, PEER_RESTARTED, UNSUPPORTED (not text, to a classic peer), LIMIT (it is too long, or the peer's
 * queue is full), NO_MEMORY. Threads: any. */
int cw_notify_send(struct cw_engine *engine, const struct cw_notify *notify, uint64_t timeout);

/* ----------------------------------------------------------------------------------------------- paths */

struct cw_path_step {
	char transport[24];
	int chosen;                  /* 1 for the one that is used first */
	int usable;                  /* 0 = see why */
	unsigned rails;              /* that serve this pair of regions; 0 when not usable */
	unsigned rails_down;         /* how many of them are out of use now */
	int staged;                  /* 1 = device memory goes through buffers in host memory */
	double gigabytes_per_second; /* 10^9 bytes, expected; measured once there was traffic that went through post()
				      */
	char checks[80];             /* what checks an access: "target cpu: bounds, rights, key, generation" */
	char why[120];               /* why it was not chosen, or how it goes */
};

/* Explains which way a request would go. For the region of a local address and that of [remote, remote + length) in the
 * peer's space 0: one row for every transport of the engine, the one that would be used first. Up to max rows go to
 * steps_out, and how many there are to count_out. May ask the peer and waits for it up to the setting
 * control/connect_timeout. Errors: NOT_REGISTERED (on either side), STALE_REGION, PEER_DOWN, PEER_RESTARTED, TIMED_OUT,
 * ACCESS (the peer offers it to nobody). Threads: any. */
int cw_path_explain(struct cw_segment *segment, const void *local, uint64_t remote, uint64_t length, enum cw_op op,
		    struct cw_path_step *steps_out, size_t max, size_t *count_out);

/* -------------------------------------------------------------------------------------------- topology */

/* A device whose links some transport knows. */
struct cw_topology_device {
	size_t size;
	char transport[24]; /* that knows it */
	char location[32];  /* as regions name it: "sunrise:0" */
	int device;         /* its number in this process */
	int chip;           /* the number that the links' hardware gives it; need not be the same; -1 unknown */
	int numa_node;      /* -1 unknown */
	char pci[32];       /* "0000:3b:00.0"; "" unknown */
	unsigned ports;     /* for links, used or not; 0 unknown */
};

/* A link between two ports, reported once, from its lower end. */
struct cw_topology_link {
	size_t size;
	char transport[24];
	int device[2];               /* of the ends; -1 = a device that this process does not see */
	int chip[2];                 /* of the ends */
	int port[2];                 /* of the ends */
	int up;                      /* 0 = out of use */
	double gigabytes_per_second; /* 10^9 bytes, one way, at its present speed; 0 = unknown */
	double maximum;              /* what it could be; 0 = unknown */
};

/* Receives a device or a link: the other one is NULL. Both are borrowed during the call. */
typedef void (*cw_topology_fn)(void *arg, const struct cw_topology_device *device, const struct cw_topology_link *link);

/* Visits the devices that transports know, and the links between them. Calls fn in the caller's thread, for each
 * transport that is on: first for its devices in the order of their numbers, then for its links. What it tells is of
 * the time of the call. A transport without links has nothing to tell, and then fn may never be called. Errors: IO (the
 * device's library failed), NO_MEMORY. Threads: any. */
int cw_engine_topology(struct cw_engine *engine, cw_topology_fn fn, void *arg);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
