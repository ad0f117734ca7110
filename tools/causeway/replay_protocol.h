/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the prefill and the decode process of `causeway replay` tell each other, as notifications of their engines. The
 * name of the notification says which; its data is the struct of that name, in some cases followed by an array. Both
 * ends are the same program on machines of the same byte order; the version in the first message keeps others out.
 *
 *     prefill                          decode
 *     hello: geometry, capacity   ->   allocates the cache
 *                                 <-   ready: where it lies
 *     need: hashes of a round     ->   looks them up, pins them, finds slots for what it lacks
 *                                 <-   slots
 *     data, then done             ->   verifies each page
 *                                 <-   ok, unless slots named none
 *     drop                        ->   (the data did not arrive) forgets the round
 *     bye                         ->   frees the cache
 *                                 <-   bye: something broke this order; the session is over
 */
#ifndef CAUSEWAY_REPLAY_PROTOCOL_H
#define CAUSEWAY_REPLAY_PROTOCOL_H

#include <assert.h>
#include <stdint.h>

#include <causeway/causeway.h>

#include "kv_model.h"

#define REPLAY_VERSION 1u
#define REPLAY_ROUNDS_MAX 64u /* at once */
#define REPLAY_ROUND_BLOCKS_MAX 4096u

#define REPLAY_HELLO "replay/hello"
#define REPLAY_READY "replay/ready"
#define REPLAY_NEED "replay/need"
#define REPLAY_SLOTS "replay/slots"
#define REPLAY_DONE "replay/done"
#define REPLAY_OK "replay/ok"
#define REPLAY_DROP "replay/drop"
#define REPLAY_BYE "replay/bye"

struct replay_hello {
	uint32_t version, capacity_blocks;
	struct kv_geometry geometry;
	uint32_t ordinary, reserved; /* ordinary = 1: not the engine's memory */
	char name[256];              /* of the prefill's engine */
};

struct replay_ready {
	uint64_t base;
	uint32_t ok, reserved;
	char text[256]; /* when it is not ok: why */
};

/* Since hello. */
struct replay_totals {
	uint64_t evicted, pages_verified, pages_wrong, verify_ns, reused_checked;
};

struct replay_need {
	uint32_t round, count;
	/* uint64_t hashes[count] */
};

struct replay_slot {
	uint32_t position; /* in the need's hashes */
	uint32_t slot;     /* in the cache */
};

struct replay_slots {
	uint32_t round, count;
	struct replay_totals totals;
	/* struct replay_slot slots[count]; none: the round is over */
};

/* Also drop. */
struct replay_done {
	uint32_t round, reserved;
};

struct replay_ok {
	uint32_t round, pages_wrong;
	struct replay_totals totals;
};

static_assert(sizeof(struct replay_need) + 8 * REPLAY_ROUND_BLOCKS_MAX <= CW_NOTIFY_MAX, "a need must fit");
static_assert(sizeof(struct replay_slots) + 8 * REPLAY_ROUND_BLOCKS_MAX <= CW_NOTIFY_MAX, "slots must fit");

#endif
