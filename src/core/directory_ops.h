/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between core and directory: where names are looked up, and where this engine's own name is published. The
 * core calls struct cw__directory_ops (one instance, cw__directory, in src/metadata/directory.c); the directory calls
 * the cw__core_* functions below, the host services of plugin.h, and a metadata store. docs/protocol.md, "Metadata
 * stores", says what is kept there.
 *
 * Where names are addresses (a store with `addresses`) nothing is published, and everything but find() does nothing.
 */
#ifndef CW_CORE_DIRECTORY_OPS_H
#define CW_CORE_DIRECTORY_OPS_H

#include <core/control_ops.h>

struct cw__directory;

/* What is known about a name; cw__found_free(). */
struct cw__found {
	struct cw_blob addresses; /* "address:port" lines with a NUL at the end, best first; numeric when described */
	int described;            /* a store had its descriptor */
	struct cw__descriptor descriptor;
};
void cw__found_free(struct cw__found *found);

/* The answer to ask(); on a thread of the directory, once. found is CW_OK's only, and the receiver's. text: one line
 * for a failure. */
typedef void (*cw__found_fn)(void *arg, int status, const char *text, struct cw__found *found);

struct cw__directory_ops {
	/* Asks nobody yet. ops and store stay valid until close. Errors: CONFIG (metadata/cluster, metadata/name),
	 * NO_MEMORY. */
	int (*open)(struct cw_host *host, const struct cw_metadata_ops *ops, void *store,
		    struct cw__directory **directory_out);
	/* Publishes the engine under host->engine_name() from now on, and waits up to metadata/timeout for the first
	 * time. A store that cannot be reached is a line in the log, or a failure when metadata/required is on; one
	 * that refuses us always is a failure. Errors: PERMISSION, ADDRESS (nothing to publish), NO_MEMORY, those of
	 * put(). */
	int (*start)(struct cw__directory *directory);
	/* Withdraws the engine's entries, within metadata/timeout in all. Later questions are refused. */
	void (*stop)(struct cw__directory *directory);
	/* After stop. */
	void (*close)(struct cw__directory *directory);

	/* Looks a name up in the caller's thread. Errors: NOT_FOUND (the store has no such key), ADDRESS (no name, or
	 * where it leads cannot be resolved), PROTOCOL (the store holds something else), those of get(). */
	int (*find)(struct cw__directory *directory, const char *name, uint64_t timeout, struct cw__found *found_out);
	/* The same without blocking, within metadata/timeout. Any thread. Errors, then no answer follows: CLOSED,
	 * NO_MEMORY, UNSUPPORTED (names are addresses). */
	int (*ask)(struct cw__directory *directory, const char *name, cw__found_fn answer, void *arg);

	/* The list of regions changed: publish it soon. Returns a ticket for await(); 0 when there is nothing to wait
	 * for. */
	uint64_t (*changed)(struct cw__directory *directory);
	/* Waits until what the ticket stands for is published, until the store is known to be out of reach (it is
	 * published later then), or for metadata/timeout, but not after `until`. ERR_AGAIN: not yet. */
	int (*await)(struct cw__directory *directory, uint64_t ticket, uint64_t until);
};

extern const struct cw__directory_ops cw__directory;

/* What is published as the place where the engine listens. ADDRESS: its name has none. */
int cw__core_listener(struct cw_host *host, struct cw__rpc_meta *listener_out);

#endif
