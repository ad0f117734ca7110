/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract between the engine's core and its parts: transports (how bytes move), platforms (what memory is) and
 * metadata stores (what names mean). Parts inside and outside the tree use the same contract; read
 * src/transports/local/local.c first, then docs/adding-a-transport.md. ABI 0: must match exactly.
 *
 * Threads. An engine has one or more loops. A loop has a lock; whoever holds it drives: a progress thread or a
 * waiting caller. "On the loop" below means: with the lock of that loop held, so hooks of one peer never run at the
 * same time, and hooks must not block. A transport's state that is shared by several peers needs its own lock.
 */
#ifndef CAUSEWAY_PLUGIN_H
#define CAUSEWAY_PLUGIN_H

#include <causeway/causeway.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CW_PLUGIN_ABI 0u

struct cw_host; /* the engine as one part sees it */
struct cw_loop; /* where a peer's events are handled */

/* Grows by append(); freed by whoever made it (host->blob_free). */
struct cw_blob {
	unsigned char *data;
	size_t length;
	size_t capacity;
};

/* ------------------------------------------------------------------------------------- loop services */

/* A descriptor watched by a loop; embedded in the owner's struct. Level-triggered. */
struct cw_io {
	int fd;
	uint32_t events; /* EPOLLIN, EPOLLOUT */
	/* On the loop. May remove, modify or free any cw_io, its own too. */
	void (*ready)(struct cw_io *io, uint32_t events);
	struct cw_loop *loop; /* set by io_add */
	/* On the loop while somebody spins: takes what has come in the meantime, as ready does, without having been
	 * told that there is any. 1 = there was. Optional (NULL = only ready is called). */
	int (*poll)(struct cw_io *io);
};

/* A one-shot timer; embedded. Zero-initialise before first use. */
struct cw_timer {
	uint64_t at; /* CLOCK_MONOTONIC ns */
	/* On the loop. May set the timer again or free it. */
	void (*fire)(struct cw_timer *timer);
	size_t heap_slot;                         /* not 0 = set */
	struct cw_timer *child, *next, *previous; /* the loop's */
};

/* Work handed to a loop from any thread; embedded. */
struct cw_task {
	void (*run)(struct cw_task *task); /* on the loop */
	struct cw_task *next;              /* the loop's */
};

/* --------------------------------------------------------------------------------------- what moves */

/* A registered local region. Borrowed from the core for as long as it is attached. */
struct cw_region_view {
	uint64_t id; /* slot and generation; never reused */
	uint64_t key;
	uint64_t address, length;
	uint32_t access; /* enum cw_access */
	enum cw_memory_kind kind;
	int device, numa_node;
	const char *platform;                        /* name of the one that claimed it; NULL while registering */
	uint64_t allocation_base, allocation_length; /* what it is a part of; 0, 0 = unknown */
	int share_fd;                                /* sealed memfd that backs it, or -1; borrowed */
	uint64_t share_offset;                       /* of address in share_fd */
	uint64_t share_length;                       /* of the whole memfd */
};

/* A region of a peer, as resolved. Borrowed from the core for as long as it is imported. */
struct cw_remote_view {
	uint64_t id, key; /* 0 for a classic peer */
	uint64_t address, length;
	uint32_t access, space;
	enum cw_memory_kind kind;
	int device, numa_node;
};

/* The peer behind an open segment, initiator's side. Owned by the core; valid from peer_open to peer_close. */
struct cw_peer {
	struct cw_loop *loop;
	const char *name;           /* as opened */
	char address[64];           /* numeric host that answered */
	uint16_t port;              /* of the control listener */
	unsigned char instance[16]; /* of the engine behind it; zero for classic */
	int classic;                /* 1: classic_host, _port and _version count */
	char classic_host[64];      /* numeric; where classic_port is; "" = address */
	uint16_t classic_port;      /* tcp_data_port */
	unsigned classic_version;   /* tcp_proto_version, 1 when absent */
	int same_host, same_process;
	uint32_t pid; /* of the peer when same_host, else 0 */
};

/* One contiguous run on both sides. */
struct cw_piece {
	unsigned char *local;
	uint64_t remote; /* address in the remote region's space */
	uint64_t length;
};

/*
 * What one rail carries at once. Filled by the core; the transport reads it and owns `scratch` and `link` between post
 * (or copy) and slice_done. Its pieces come from host->slice_pieces().
 */
struct cw_slice {
	uint64_t id;        /* unique in this engine's life */
	uint64_t length;    /* bytes, > 0 */
	uint64_t not_after; /* CLOCK_MONOTONIC of this process: nothing may land later */
	uint32_t attempt;   /* 1, 2, ... */
	uint16_t rail;
	uint8_t op;           /* enum cw_op */
	uint8_t delivery;     /* enum cw_delivery */
	uint32_t flags;       /* CW_SLICE_* */
	uint32_t piece_limit; /* slice_pieces() gives at most so many for the whole slice */
	const struct cw_region_view *local;
	void *attachment; /* this transport's, for local; may be NULL */
	const struct cw_remote_view *remote;
	void *import; /* this transport's, for remote; may be NULL */
	struct cw_slice *link;
	uint64_t scratch[6];
};
#define CW_SLICE_CHECKSUM 1u
#define CW_SLICE_STAYS 2u /* copy() may return before it is over, see there */

/* ------------------------------------------------------------------------------- serving (target side) */

/* What a peer wants to touch. Classic peers know no key: region_id and key are ignored then. */
struct cw_claim {
	uint64_t region_id, key;
	uint64_t address, length;
	uint32_t space;
	uint8_t op; /* as the peer sees it: CW_OP_WRITE changes our memory */
	uint8_t classic;
	uint8_t direct; /* the caller can touch device memory itself: no landing buffer, `pointer` is the address */
	/* ERR_UNSUPPORTED for device memory: the claim is a range of which only parts will be touched. */
	uint8_t host_only;
};

/* A pinned piece of local memory; access_end() must follow soon, in the same thread, at most one chunk of copying
 * later. For device memory, unless the claim was direct, `pointer` is a landing buffer: it holds the bytes to be read,
 * and what was written to it goes to the device in access_end(); `length` may then be less than what was claimed: claim
 * the rest when this grant has ended. */
struct cw_grant {
	unsigned char *pointer;
	uint64_t length;
	void *region;  /* the core's, as the next one */
	void *landing; /* NULL = pointer is the memory itself */
};

#define CW_CHUNK_MAX (256u * 1024) /* no copy on a loop without a pause is larger */

/* ------------------------------------------------------------------------------------------- the host */

struct cw_revocation;
struct cw_import;

/* What the core offers to parts. Every function takes the host it was opened with; any thread unless it says otherwise.
 */
struct cw_host_ops {
	uint32_t abi;

	/* Log one line; the arguments as for printf. Rate-limited by the core. */
	void (*log)(struct cw_host *host, enum cw_log_level level, const char *format, ...)
#ifdef __GNUC__
		__attribute__((format(printf, 3, 4)))
#endif
		;
	/* Sets what cw_last_error() says in this thread; the arguments as for printf. Returns status. */
	int (*fail)(int status, const char *format, ...)
#ifdef __GNUC__
		__attribute__((format(printf, 2, 3)))
#endif
		;
	/* The value of a setting as text / number (sizes and booleans too); NULL / fallback when there is none.
	 * Borrowed. */
	const char *(*setting)(struct cw_host *host, const char *key);
	uint64_t (*setting_number)(struct cw_host *host, const char *key, uint64_t fallback);
	uint64_t (*now)(void);                                  /* CLOCK_MONOTONIC ns */
	const unsigned char *(*instance)(struct cw_host *host); /* this engine's 16 bytes */
	const char *(*engine_name)(struct cw_host *host);

	/* A loop for a connection that belongs to no peer yet (accepted ones). */
	struct cw_loop *(*loop_pick)(struct cw_host *host);
	/* On that loop only. io_remove also drops events already fetched. Errors: NO_MEMORY, IO. */
	int (*io_add)(struct cw_loop *loop, struct cw_io *io);
	int (*io_modify)(struct cw_io *io, uint32_t events);
	void (*io_remove)(struct cw_io *io);
	/* On that loop only. Setting a set timer moves it. */
	void (*timer_set)(struct cw_loop *loop, struct cw_timer *timer, uint64_t at);
	void (*timer_stop)(struct cw_loop *loop, struct cw_timer *timer);
	/* Any thread: runs task once on the loop, soon. */
	void (*task_post)(struct cw_loop *loop, struct cw_task *task);

	/* Initiator: the pieces of a slice from byte offset on, at most max; neighbours contiguous on both sides are
	 * one. Returns how many; their lengths add up to the rest of the slice when fewer than max are returned. */
	unsigned (*slice_pieces)(const struct cw_slice *slice, uint64_t offset, struct cw_piece *pieces_out,
				 unsigned max);
	/* On the peer's loop: the end of a posted slice, exactly once, when the transport will not touch its local
	 * memory again. remote: what can be said about the target's memory if status is not CW_OK. The slice belongs to
	 * the core afterwards. */
	void (*slice_done)(struct cw_slice *slice, int status, enum cw_remote_state remote);
	/* On the peer's loop: after post() took fewer than offered, room appeared. */
	void (*rail_ready)(struct cw_host *host, struct cw_peer *peer, unsigned rail);
	/* On the peer's loop: a rail went down (status says why) or came back (CW_OK). */
	void (*rail_state)(struct cw_host *host, struct cw_peer *peer, unsigned rail, int status);
	/* On the peer's loop: the transport learnt that the peer's process is gone or another one. */
	void (*peer_failed)(struct cw_host *host, struct cw_peer *peer, int status, const char *text);
	/* Ends an import that returned ERR_AGAIN. On the peer's loop. */
	void (*import_done)(struct cw_import *token, int status, void *import);
	/* A granted region went away at its owner: core stops using it; done(arg) runs when no copy uses it any more
	 * (possibly before the call returns), on the peer's loop. */
	void (*import_revoked)(struct cw_host *host, struct cw_peer *peer, uint64_t region_id, void (*done)(void *arg),
			       void *arg);

	/* Target: checks a claim against regions, bounds, rights, key and generation. Errors: NOT_REGISTERED,
	 * STALE_REGION, ACCESS, INVALID (wrap, length 0). access_check only checks and counts a refusal; begin also
	 * pins. For device memory begin may also fail with IO (it cannot be read), UNSUPPORTED, or AGAIN: only when
	 * this thread holds other grants, which have to end first. */
	int (*access_check)(struct cw_host *host, const struct cw_claim *claim);
	int (*access_begin)(struct cw_host *host, const struct cw_claim *claim, struct cw_grant *grant_out);
	/* moved: bytes that were really read or written, from the start of the grant. CW_OK, or ERR_IO or
	 * ERR_UNSUPPORTED (the device is lost): what was written could not be brought to the device. ERR_BUSY: the
	 * device does not come back from it, and nobody knows when and whether it is written. */
	int (*access_end)(struct cw_host *host, struct cw_grant *grant, uint64_t moved);
	/* Finds a live region by id for a part that grants it (shm); NULL when gone. Pinned until region_put. */
	const struct cw_region_view *(*region_get)(struct cw_host *host, uint64_t id, uint64_t key);
	void (*region_put)(struct cw_host *host, const struct cw_region_view *view);
	/* Ends a revoke that returned ERR_AGAIN. Any thread. */
	void (*revoke_done)(struct cw_revocation *token);

	/* Counts a malformed frame of a peer. */
	void (*protocol_error)(struct cw_host *host, const char *who, const char *what);

	/* Sends bytes to the same transport of the peer over the control connection; answered(arg, status, reply) runs
	 * once on the peer's loop. Required of transports that need a handshake. */
	int (*message)(struct cw_host *host, struct cw_peer *peer, const void *data, size_t length,
		       void (*answered)(void *arg, int status, const void *reply, size_t reply_length), void *arg);

	int (*blob_append)(struct cw_blob *blob, const void *data, size_t length); /* ERR_NO_MEMORY */
	void (*blob_free)(struct cw_blob *blob);

	/* For a part that wraps another one, from its open(): the table of a transport of the tree, NULL when there is
	 * none of that name. What peers send to that transport comes to this part where the transport itself is not on,
	 * and this part's messages go out under that name. The wrapper opens it with a host of its own, see below. */
	const struct cw_transport_ops *(*wrap)(struct cw_host *host, const char *name);

	/* From close(), and from peer_close() when the engine closes: threads of this part are left in calls that do
	 * not end. The engine and the memory that it owns stay for good, so that they find this host, its loops and
	 * what they copy should they come back; what they log then is dropped, and their tasks never run. */
	void (*keep)(struct cw_host *host);
};

/* The engine as one part sees it. A part that wraps another one gives that one a host whose ops are a copy with some
 * replaced and whose `real` is that of its own host: the services of the core accept either. */
struct cw_host {
	const struct cw_host_ops *ops;
	struct cw_host *real; /* the one that the core made */
};

/* ----------------------------------------------------------------------------------------- transports */

enum cw_transport_flags {
	CW_TRANSPORT_BLOCKING = 1,  /* copy() may block longer than a chunk takes: the core gives it a worker */
	CW_TRANSPORT_ORDERED = 2,   /* notify() stays behind data of the same rail */
	CW_TRANSPORT_REVOCABLE = 4, /* revoke() can end access that a peer has without asking the core */
	CW_TRANSPORT_CLASSIC = 8,   /* can reach a classic peer */
	/* Touches device memory itself, on either side: nothing lands in buffers, and copy() may be called on a loop
	 * for it. Opened to the engine itself too, beside the first way that works there. */
	CW_TRANSPORT_DEVICE = 16
};

enum cw_rail_flags { CW_RAIL_SYNC = 1 /* slices go through copy(), not post() */ };

struct cw_rail_info {
	uint32_t flags;
	uint32_t max_pieces;   /* in one slice; 0 = any */
	uint64_t max_slice;    /* bytes in one slice */
	uint32_t max_inflight; /* slices posted at once */
	uint64_t max_inflight_bytes;
	double bytes_per_second; /* first estimate; measured later */
	uint32_t resource;       /* rails that share hardware share this number */
};

struct cw_reach_query {
	const struct cw_region_view *local;
	void *attachment;
	const struct cw_remote_view *remote;
	void *import;
	enum cw_op op;
	uint64_t length; /* bytes of the whole request */
	uint64_t page;   /* shortest run of it that is contiguous on both sides; = length for two plain ranges */
};

struct cw_reach {
	uint32_t cost;       /* lower is better: about ns per 64 KiB */
	uint32_t rail_first; /* the rails of this peer that serve the pair */
	uint32_t rail_count;
	const char *checks; /* static text: who checks the access, and what */
	const char *why;    /* static text: how it goes */
};

struct cw_transport_ops {
	uint32_t abi;     /* CW_PLUGIN_ABI */
	const char *name; /* lower case, digits, '_' */
	const char *summary;
	uint32_t flags; /* enum cw_transport_flags */

	/* Starts the transport for one engine. Caller's thread, no lock. On failure *why_out gets one line (static or
	 * thread-local) saying what is missing and what to do; the engine goes on without it. Required. */
	int (*open)(struct cw_host *host, void **transport_out, const char **why_out);
	/* All peers and attachments are gone. Caller's thread, no lock. Required. */
	void (*close)(void *transport);

	/* Appends what peers need to know (at most 4 KiB); they get it in peer_open. Caller's thread. Optional (NULL =
	 * nothing). */
	int (*describe)(void *transport, struct cw_blob *out);

	/* A region was registered. Any thread, no lock; may take long. CW_OK with *attachment_out, or a status: the
	 * region is then not carried by this transport. Optional (NULL = no preparation is needed). */
	int (*attach)(void *transport, const struct cw_region_view *region, void **attachment_out);
	/* After revoke. Required with attach. */
	void (*detach)(void *transport, void *attachment);
	/* Appends what a peer needs to import the region (at most 4 KiB). Any thread. Optional. */
	int (*export_region)(void *transport, const struct cw_region_view *region, void *attachment,
			     struct cw_blob *out);
	/* Takes back what peers were given for [address, address + length) of the region. CW_OK: nobody can touch it
	 * now; ERR_AGAIN: host->revoke_done(token) follows. May be called again for the same range. Any thread, no
	 * lock. Optional. */
	int (*revoke)(void *transport, const struct cw_region_view *region, void *attachment, uint64_t address,
		      uint64_t length, struct cw_revocation *token);

	/* A segment was opened and its peer has this transport (or the peer is classic and the CLASSIC flag is set;
	 * description is empty then). On the peer's loop; connects in the background. Required. */
	int (*peer_open)(void *transport, struct cw_peer *peer, const void *description, size_t length,
			 void **peer_out);
	/* Ends every slice still posted (slice_done) before it returns. On the loop. Required. */
	void (*peer_close)(void *transport, void *peer);
	/* The control connection found the peer dead (ERR_PEER_DOWN) or restarted: end its slices soon. On the loop.
	 * Required. */
	void (*peer_lost)(void *transport, void *peer, int status);
	/* The peer's rails, at most max; constant for the life of the peer. Returns how many. Required. */
	unsigned (*rails)(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max);

	/* A region of the peer was resolved; blob is what its export_region gave. CW_OK, ERR_AGAIN (import_done(token)
	 * follows) or a status. On the loop. Optional (NULL = nothing to import). */
	int (*import_region)(void *transport, void *peer, const struct cw_remote_view *remote, const void *blob,
			     size_t length, struct cw_import *token, void **import_out);
	/* No slice uses it any more. On the loop. Required with import_region. */
	void (*import_close)(void *transport, void *peer, void *import);

	/* Can this pair be carried? CW_OK and *reach_out, or a status with reach_out->why set to a static line. A
	 * transport that reads and writes `local` by the CPU refuses when its kind is not HOST: the core then asks
	 * again with a view whose kind is HOST and no attachment, and stages the bytes in its own buffers. One whose
	 * target uses access_begin() need not look at the kind of `remote`: that lands them there. Any thread.
	 * Required. */
	int (*reach)(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out);

	/* Takes the first slices of count, returns how many; the rest stays with the core until rail_ready(). Never
	 * blocks. On the loop. slice_done() may be called before post returns. Required unless every rail is
	 * CW_RAIL_SYNC. */
	unsigned (*post)(void *transport, void *peer, unsigned rail, struct cw_slice **slices, unsigned count);
	/* Moves a slice of at most CW_CHUNK_MAX bytes now. Any thread, several at once, no lock. Returns its status;
	 * remote memory is quiet on return. ERR_BUSY: nothing was done, ask reach() again. One that calls what may
	 * never return does so on a thread of its own and, when the slice has CW_SLICE_STAYS, waits a moment only:
	 * ERR_AGAIN means that the slice counts as posted, perhaps ended already. Required for CW_RAIL_SYNC rails. */
	int (*copy)(void *transport, void *peer, struct cw_slice *slice);
	/* Please end this posted slice soon: slice_done() with CW_ERR_CANCELED or whatever it became. On the loop.
	 * Required with post. */
	void (*cancel)(void *transport, void *peer, struct cw_slice *slice);

	/* A message of the same transport of a peer (instance: 16 bytes); the reply is appended. On a loop. Optional.
	 */
	int (*message)(void *transport, const unsigned char *instance, const void *data, size_t length,
		       struct cw_blob *reply);
	/* A connection that began with this transport's hello magic ("CWDATA"); first: the bytes already read. The
	 * transport owns fd from now on. On loop. Optional. */
	void (*accept)(void *transport, struct cw_loop *loop, int fd, const void *first, size_t length);

	/* For transports without descriptors: reap completions, returns how many. On each loop. Optional. */
	unsigned (*progress)(void *transport, struct cw_loop *loop);
	/* Before a loop sleeps: ERR_BUSY = call progress again now; else *poll_in_ns_out = when to call it next
	 * (CW_FOREVER = an io tells). Optional, with progress. */
	int (*arm)(void *transport, struct cw_loop *loop, uint64_t *poll_in_ns_out);

	/* Tells the devices that this transport knows, then the links between them, as they are now; see
	 * cw_engine_topology(). `size` and `transport` are filled in by the core. Any thread, several at once, no lock;
	 * may block. CW_OK, ERR_IO or ERR_NO_MEMORY. Optional. */
	int (*topology)(void *transport, cw_topology_fn visit, void *arg);
};

/* ------------------------------------------------------------------------------------------ platforms */

struct cw_memory_info {
	enum cw_memory_kind kind;
	int device;                                  /* -1 for host */
	int numa_node;                               /* of the first page, -1 unknown */
	int mixed_nodes;                             /* 1 = pages on several nodes */
	uint64_t allocation_base, allocation_length; /* 0 unknown */
	uint64_t page_size;
	char location[32];
};

/* How a platform that claims device memory lets the core and callers work with it. See struct cw_device_sync. */
typedef void (*cw_device_ready_fn)(void *arg, int status);

struct cw_allocation {
	void *address;
	size_t length;
	int share_fd; /* owned by the allocation; -1 */
	void *handle; /* the platform's */
};

struct cw_platform_ops {
	uint32_t abi;
	const char *name;
	const char *summary;

	/* As for transports. Required. */
	int (*open)(struct cw_host *host, void **platform_out, const char **why_out);
	void (*close)(void *platform);
	/* CW_OK and *info_out when this memory is the platform's; ERR_NOT_FOUND when not; other errors: it is, but
	 * broken (not mapped), or may be (TIMED_OUT). Any thread; called at registration only. Required. */
	int (*claim)(void *platform, const void *address, size_t length, struct cw_memory_info *info_out);
	/* Does a location string of a caller name this platform? CW_OK: and it agrees with info (NULL = only the
	 * syntax); ERR_NOT_FOUND: not ours; ERR_LOCATION: contradicts. Required. */
	int (*location)(void *platform, const char *location, const struct cw_memory_info *info);
	/* Optional, all three: allocation of engine-owned memory. options->location was accepted by location(). Any
	 * thread. */
	int (*query)(void *platform, const struct cw_memory_options *options, struct cw_memory_capabilities *out);
	int (*allocate)(void *platform, size_t length, const struct cw_memory_options *options,
			struct cw_allocation *allocation_out);
	void (*release)(void *platform, struct cw_allocation *allocation);
	/* Between host memory and memory of a device that claim() found; blocks until done; length is at most
	 * CW_CHUNK_MAX. Any thread, several at once; the caller's current device stays as it is. CW_OK, ERR_IO, or
	 * ERR_UNSUPPORTED: the device is lost, trying again does not help. Both are required when claim() ever gives
	 * another kind than HOST. */
	int (*copy_in)(void *platform, int device, void *device_address, const void *host_address, size_t length);
	int (*copy_out)(void *platform, int device, void *host_address, const void *device_address, size_t length);
	/* Calls ready(arg, status) once, on any thread and perhaps before it returns, when the event has happened, or
	 * when what is in the stream now is done; status is CW_OK or ERR_IO. A failure means that it is never called:
	 * INVALID (no such device or handle). location() accepted sync->location. Optional. */
	int (*watch)(void *platform, const struct cw_device_sync *sync, cw_device_ready_fn ready, void *arg);
	/* What is put into the stream from now on waits until block(arg) has returned. block is called once, on a
	 * thread of the runtime, where no call of the runtime is allowed; on failure never. Errors: INVALID,
	 * UNSUPPORTED, IO. Optional. */
	int (*fence)(void *platform, const struct cw_device_sync *stream, void (*block)(void *arg), void *arg);
};

/* ------------------------------------------------------------------------------------- metadata stores */

#define CW_METADATA_KEY_MAX 512u                   /* bytes of a key */
#define CW_METADATA_VALUE_MAX (128u * 1024 * 1024) /* bytes of a value */

/*
 * Where names are looked up: either names are addresses (`addresses`), or there is a store of keys and values (`get`,
 * `put`, `del`). Which keys there are and what their values mean is not the store's business.
 *
 * A store that cannot be reached is not a reason to fail open(): it may come back. Calls connect when they need to,
 * wait for at most `timeout` nanoseconds in all, and reconnect by themselves; whoever calls them again and again waits
 * in between. Any number of threads call at the same time; one that waits for the store does not hold up the others.
 * Keys are NUL-terminated, printable, without spaces; values are any bytes. Failures leave one line that names the
 * store and the cause for cw_last_error() (host->ops->fail).
 */
struct cw_metadata_ops {
	uint32_t abi;
	const char *name; /* the scheme of its urls: "p2p", "http", ... */
	const char *also; /* another scheme that it takes: "https"; NULL = none */
	const char *summary;
	/* Checks the url and finds the libraries that are needed. Required. why_out: one line, constant or the store's
	 * until the next open of this thread. */
	int (*open)(struct cw_host *host, const char *url, void **store_out, const char **why_out);
	/* No call is in progress. Required. */
	void (*close)(void *store);
	/* Appends "address:port" lines, best first, for a name. Required where names are addresses, else NULL. */
	int (*addresses)(void *store, const char *name, uint64_t timeout, struct cw_blob *addresses_out);
	/* Appends the value of a key. NOT_FOUND (the store has no such key), CONNECT, TIMED_OUT, IO, PERMISSION (it
	 * wants a password, or another), PROTOCOL (it answered nonsense), LIMIT (too long), NO_MEMORY. */
	int (*get)(void *store, const char *key, uint64_t timeout, struct cw_blob *value_out);
	/* Sets a key, whatever was there. Where the store has leases or expiry the key goes away when neither put() nor
	 * keep() came for the setting metadata/lease. Errors as above. */
	int (*put)(void *store, const char *key, const void *value, size_t length, uint64_t timeout);
	/* Removes a key; success also when it was not there. Errors as above. */
	int (*del)(void *store, const char *key, uint64_t timeout);
	/* Prolongs the life of all keys that this store's put() set and nobody removed. NOT_FOUND: some are gone, all
	 * have to be put again. Optional: NULL = keys stay for ever. */
	int (*keep)(void *store, uint64_t timeout);
};

/* ------------------------------------------------------------------------------------ plug-in libraries */

/* A plug-in is a shared object with one exported symbol, `const struct cw_plugin cw_plugin`. Lists end with NULL. */
struct cw_plugin {
	uint32_t abi;
	const char *name;
	const struct cw_transport_ops *const *transports;
	const struct cw_platform_ops *const *platforms;
	const struct cw_metadata_ops *const *metadata;
};

#ifdef __cplusplus
}
#endif
#endif
