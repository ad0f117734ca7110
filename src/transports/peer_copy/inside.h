/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of peer_copy share. peer_copy.c: opening, regions as attached, reach; grant.c: the owner's side: who
 * holds our memory; import.c and mapping.c: the initiator's side, and the one mapping of a handle in this process;
 * peer.c: slices in and out; lane.c: the workers; device.c: one copy, the locks of devices, what a failure means.
 *
 * Locks, outermost first: a loop's, cw__peer_copy.lock, cw__pc_lane.lock; a device's lock is taken with no other one
 * held. No service of the host that locks is called under them, but for access_begin() and access_end(), and
 * slice_pieces() under a lane's.
 */
#ifndef CW_TRANSPORTS_PEER_COPY_INSIDE_H
#define CW_TRANSPORTS_PEER_COPY_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <transports/peer_copy/envelope.h>
#include <transports/peer_copy/peer_copy.h>
#include <util/clock.h>
#include <util/list.h>

#define CW__PC_RAIL_SYNC 0u     /* small: blocking calls on a lane of their own, waited for at once */
#define CW__PC_RAIL_BLOCKING 1u /* blocking calls on a lane's thread */
#define CW__PC_RAIL_ASYNC 2u    /* streams and events */
#define CW__PC_RAIL_LINKS 3u    /* and up: one for each link */
#define CW__PC_RAILS_MAX 64u
#define CW__PC_LINKS_MAX (CW__PC_RAILS_MAX - CW__PC_RAIL_LINKS)
#define CW__PC_SYNC_PIECES 16u                 /* more of them go to a lane */
#define CW__PC_JOBS 16u                        /* slices posted at once on rails 1 and 2 */
#define CW__PC_LINK_JOBS 4u                    /* and on each link */
#define CW__PC_QUICK_JOBS 32u                  /* small ones of one peer, in as many threads */
#define CW__PC_ENDS (CW__GPU_DEVICES_MAX + 1u) /* host memory is end 0, device n is end n + 1 */

/* Where the bytes of a copy come from and go to; constant for a slice. */
struct cw__pc_way {
	int to, from; /* devices, -1 = host memory */
	int mapped;   /* one side is memory of another process */
	int writes;   /* into that side */
	int link;     /* or -1 */
	int quick;    /* small: not behind large ones */
};

/* One side of a slice: where `address` of its region is really touched is address + shift. */
struct cw__pc_side {
	int device; /* -1 = host memory */
	int mapped;
	uint64_t shift;
};

/* Beside vendors' results: */
#define CW__PC_NOT_ARRIVED (-601) /* of a copy that succeeded and did nothing */
#define CW__PC_TOO_SHORT (-603)   /* what a handle opened is less than its owner said */

/* A device, as this transport has met it. */
struct cw__pc_device {
	_Atomic int lost;            /* a fatal result: nothing is started there any more */
	_Atomic unsigned stuck;      /* lanes in the middle of a copy that should have ended long ago */
	_Atomic int heard;           /* a write into a mapping of its own memory was seen to arrive */
	_Atomic uint64_t deaf_until; /* writes into mappings of its own memory were refused; another try then */
};

struct cw__pc_link {
	_Atomic int down;
	uint64_t look_at;  /* when to ask whether it works again; keeper's lock, as the next two */
	uint64_t pause;    /* before the first look after a failure */
	uint64_t up_since; /* 0 = it has never failed */
};

struct cw__peer_copy {
	struct cw_host *host;
	struct cw__peer_copy_kind kind;
	const struct cw__gpu *gpu; /* kind.gpu */
	unsigned link_count;       /* those that are rails */
	uint64_t grace;            /* ns: how long closing waits for copies */
	uint64_t timeout;          /* ns: how long registering waits for a call of the runtime */
	uint64_t start;            /* of this process, see cw__pc_message */
	struct cw_loop *loop;      /* where holders are watched */
	struct cw__list opened;    /* process-wide list of open transports, see grant.c */
	_Atomic unsigned orphans;  /* imports whose owner is to hear DETACH when it can be reached again */
	_Atomic unsigned leaked;   /* lanes given up for good */
	struct cw__pc_device devices[CW__GPU_DEVICES_MAX];
	struct cw__pc_link links[CW__PC_LINKS_MAX];
	_Atomic unsigned char warned[CW__PC_ENDS][CW__PC_ENDS]; /* by from, to: a failure was logged */
	pthread_mutex_t lock;                                   /* guards all below */
	struct cw__list regions[256];                           /* cw__pc_region.node, by id */
	struct cw__list exports;                                /* cw__pc_export.node */
	struct cw__list holders;                                /* cw__pc_holder.node */
	unsigned holder_count;
	struct cw__list peers;   /* cw__pc_peer.node */
	struct cw__list zombies; /* closed ones whose task is still in its loop's inbox */
	struct cw__list imports; /* cw__pc_import.node: all there are */
	struct cw__list lanes;   /* cw__pc_lane.node */
	_Atomic(struct cw__pc_lane *) table[2][CW__PC_ENDS][CW__PC_ENDS]; /* by quick, from, to; without a link */
	_Atomic(struct cw__pc_lane *) link_table[CW__PC_LINKS_MAX][2];    /* [1]: from the link's second device */
	struct cw__pc_keeper *keepers;                                    /* one for each device, then one for links */
};

static inline int cw__pc_is_end(const struct cw__peer_copy *pc, int device)
{
	return device >= -1 && device < (int)pc->gpu->device_count;
}

/* A thread with all signals blocked: the program's handlers run on the program's threads. */
int cw__pc_thread(pthread_t *thread_out, void *(*main)(void *arg), void *arg);

/* ------------------------------------------------------------------------------- regions, peer_copy.c */

/* The handle of an allocation, made once for all regions in it. Guarded by the transport's lock. */
struct cw__pc_export {
	struct cw__list node;
	unsigned refs;
	int device;
	uint64_t base;
	struct cw__gpu_handle handle;
};

/* One of our regions, as attached. What has no other guard is constant. */
struct cw__pc_region {
	struct cw__list node; /* cw__peer_copy.regions; lock */
	uint64_t id, address, length;
	struct cw__pc_side side;
	uint64_t base, size;          /* of the allocation as the runtime sees it; 0 = unknown */
	struct cw__pc_export *export; /* NULL = other processes cannot open it */
	struct cw__list grants;       /* cw__pc_grant.region_node; lock */
	struct cw__list waiters;      /* cw__pc_waiter.node: revocations that wait for the last grant; lock */
	int revoked;                  /* in part or whole: it is granted to nobody any more; lock */
};

/* With the lock. */
struct cw__pc_region *cw__pc_region_find(struct cw__peer_copy *pc, uint64_t id);

/* -------------------------------------------------------------------------------------------- grant.c */

/* One of our regions is in use by a holder. Guarded by the transport's lock. */
struct cw__pc_grant {
	struct cw__list region_node, holder_node;
	struct cw__pc_region *region; /* NULL when detached */
	uint64_t number;
};

struct cw__pc_waiter {
	struct cw__list node;
	struct cw_revocation *token;
};

void cw__pc_owner_open(struct cw__peer_copy *pc);
/* No loop runs any more. */
void cw__pc_owner_close(struct cw__peer_copy *pc);
/* Reports and frees revocations that have nothing to wait for any more. No lock. */
void cw__pc_waiters_report(struct cw__peer_copy *pc, struct cw__list *done);
/* When the process began (field 22 of its stat file); 0 = there is no such process, or none that we may look at. */
uint64_t cw__pc_process_start(pid_t pid);

/* ------------------------------------------------------------------------------------------ mapping.c */

/* Memory of another process, opened. Process-wide, counted: two engines that are given the same handle share it. */
struct cw__pc_mapping;
/* Both may take long. open gives a vendor's result, and *mapping_out when it is 0. */
int cw__pc_mapping_open(const struct cw__gpu *gpu, int device, const struct cw__pc_envelope *envelope,
			struct cw__pc_mapping **mapping_out);
void cw__pc_mapping_close(struct cw__pc_mapping *mapping);
uint64_t cw__pc_mapping_base(const struct cw__pc_mapping *mapping);

/* ------------------------------------------------------------------------------------------- import.c */

enum cw__pc_import_state {
	CW__PC_ASKING,  /* ATTACH was sent */
	CW__PC_OPENING, /* at the keeper's */
	CW__PC_LATE,    /* still there, but nobody waits for it any more: it is closed as soon as it is open */
	CW__PC_READY,
	CW__PC_CLOSING, /* at the keeper's */
	CW__PC_LEAVING  /* nothing of it is used here; the owner is to hear of it by DETACH */
};

/* A region of a peer. Its loop's, but for what copies read, which is constant while it is READY, and `keeper_*`. */
struct cw__pc_import {
	struct cw__list node;      /* cw__peer_copy.imports; lock */
	struct cw__list peer_node; /* cw__pc_peer.imports */
	struct cw__peer_copy *pc;
	struct cw_loop *loop;
	struct cw__pc_peer *peer; /* NULL when that is closed */
	struct cw_import *token;  /* until import_done() */
	enum cw__pc_import_state state;
	uint64_t number, region, key, address, length;
	unsigned char instance[CW__PC_INSTANCE_BYTES]; /* of the owner */
	struct cw__pc_side side;
	struct cw__pc_envelope envelope;
	struct cw__pc_mapping *mapping; /* NULL = the owner's addresses, in its own process */
	struct cw_timer timer;          /* OPENING: until when */
	int asked;                      /* answers that will come: 0, 1 or 2 */
	int taken_back;                 /* the core was told to stop using it */
	int left;                       /* its peer was closed, and nobody knows whether the owner has heard DETACH */
	int orphan;                  /* that, and nothing is under way: the next opening of its peer takes it; lock */
	int over;                    /* freed when neither asked nor keeper_task is under way */
	struct cw__list keeper_node; /* keeper's lock, as the next three */
	int keeper_busy, keeper_told, keeper_result;
	int task_posted; /* the keeper has it, or its word is on its way to the loop; loop */
	struct cw_task task;
};

/* Ends all imports of a peer that closes, waiting for the keeper until `until`; leak: mappings are still copied from or
 * to, leave them open. On the loop. */
void cw__pc_imports_close(struct cw__pc_peer *peer, int leak, uint64_t until);
/* The peer is another process now, or cannot be reached: take back from the core what was imported. On the loop. */
void cw__pc_imports_lost(struct cw__pc_peer *peer, int restarted);
/* What an earlier opening of the same peer could not tell it. On the loop. */
void cw__pc_imports_adopt(struct cw__pc_peer *peer);
void cw__pc_leave_again(struct cw_timer *timer); /* of cw__pc_peer.leave_timer */
/* At the end, when no loop runs: those whose answers never came. */
void cw__pc_imports_free(struct cw__peer_copy *pc);

/* ------------------------------------------------------------------------------------------- keeper.c */

/* Threads for what may take long and belongs to no lane: opening and closing mappings, asking after links. */
int cw__pc_keepers_open(struct cw__peer_copy *pc);
/* Returns how many are stuck in calls and were left behind. */
unsigned cw__pc_keepers_close(struct cw__peer_copy *pc);
/* On the loop. Closes the import's mapping when it has one, else opens it; the import's task runs there when it is
 * done, with a vendor's keeper_result. ERR_NO_MEMORY: no thread. */
int cw__pc_keeper_give(struct cw__pc_import *import);
/* In the import's task: was it given to the keeper once more? Then the task comes again. */
int cw__pc_keeper_is_busy(struct cw__pc_import *import);
/* Waits until the keeper is done with it. ERR_AGAIN at `until`. */
int cw__pc_keeper_await(struct cw__pc_import *import, uint64_t until);
/* A link failed, or is down from the start: ask after it from now on, tell the peers. Any thread, no lock. */
void cw__pc_keeper_watch(struct cw__peer_copy *pc, unsigned link);

/* --------------------------------------------------------------------------------------------- peer.c */

/* Who ends a quick job. */
enum cw__pc_wait {
	CW__PC_FREE = 0,
	CW__PC_WAITED, /* for by the thread that posted it, which takes the result */
	CW__PC_ENDING, /* the lane is about to say so */
	CW__PC_ENDED,
	CW__PC_ADRIFT /* it waits no more: as any other job */
};

/* A slice in a lane, or on its way back. */
struct cw__pc_job {
	_Atomic int wait;        /* of quick ones: enum cw__pc_wait */
	struct cw__pc_job *next; /* of the free ones (loop), a lane's queue (its lock), or the finished ones (atomic) */
	struct cw__pc_peer *peer;
	struct cw_slice *slice;   /* NULL = given up; the lane's lock */
	struct cw__pc_lane *lane; /* NULL = free; loop */
	struct cw__pc_way way;
	uint64_t local_shift, remote_shift;
	int async;
	_Atomic int canceled;
	int ending;        /* the lane has done with it; the lane's lock */
	uint64_t expected; /* how long it will take from its posting on; 0 = nobody knows; loop */
	uint64_t offset;   /* of the slice: up to here it was copied or put on its way; the lane's thread */
	int status;        /* the lane's thread, then the loop */
	enum cw_remote_state remote;
	int pinned; /* grant counts */
	struct cw_grant grant;
	/* Of quick ones, from who posts them: */
	struct cw_claim claim;
	struct cw_piece pieces[CW__PC_SYNC_PIECES];
	unsigned piece_count;
};

struct cw__pc_peer {
	struct cw__list node; /* cw__peer_copy.peers, or zombies; lock */
	struct cw__peer_copy *pc;
	struct cw_peer *core;
	int self;   /* this engine itself */
	int usable; /* it is on this machine and speaks our version */
	_Atomic(const char *) why;
	struct cw__list imports; /* cw__pc_import.peer_node; loop */
	struct cw_timer leave_timer;
	uint64_t leave_pause;
	struct cw__pc_job *jobs, *free_jobs;       /* loop */
	struct cw__pc_job *quick_jobs;             /* CW__PC_QUICK_JOBS; any thread */
	unsigned job_count;                        /* constant */
	uint64_t full;                             /* rails on which post() took fewer; loop */
	unsigned char told_down[CW__PC_LINKS_MAX]; /* what the core was told of links; loop */
	_Atomic(struct cw__pc_job *) finished;
	_Atomic unsigned reporters; /* lanes that are just handing over a job */
	_Atomic int posted;
	struct cw_timer end_timer;  /* a little before a job is expected to end, its loop is awake to see it; loop */
	struct cw__pc_lane *ending; /* the lane of that job; NULL = the timer is not set; loop */
	uint64_t end_until;
	struct cw_task task;
	int closed;         /* loop */
	unsigned abandoned; /* jobs that lanes have not given back; loop */
};

static inline struct cw__pc_way cw__pc_way(enum cw_op op, const struct cw__pc_side *local,
					   const struct cw__pc_side *remote)
{
	int writes = op == CW_OP_WRITE;

	return (struct cw__pc_way){
		.to = writes ? remote->device : local->device,
		.from = writes ? local->device : remote->device,
		.mapped = remote->mapped,
		.writes = writes,
		.link = -1,
	};
}

/* Where a remote region's bytes are. ERR_UNSUPPORTED: not here (any more). Any thread; remote is pinned, or its peer
 * ourselves.
 */
int cw__pc_remote_side(const struct cw__pc_peer *peer, const struct cw_remote_view *remote,
		       const struct cw__pc_import *import, struct cw__pc_side *side_out);
void cw__pc_peer_free(struct cw__pc_peer *peer);
/* A lane is done with a job. Any thread, no lock. */
void cw__pc_job_finished(struct cw__pc_job *job);
/* Makes the peer's loop look at what finished and at the state of links. Any thread. */
void cw__pc_peer_wake(struct cw__pc_peer *peer);

/* --------------------------------------------------------------------------------------------- lane.c */

/* Queues a job. On the loop; never blocks for long. ERR_NO_MEMORY: no thread. */
int cw__pc_lane_post(struct cw__peer_copy *pc, struct cw__pc_job *job);
/* The processor on which the lane works. Any thread. */
int cw__pc_lane_processor(const struct cw__pc_lane *lane);
/* Ends a job soon. 1 = it had not begun, and is the caller's again. On the loop. */
int cw__pc_lane_cancel(struct cw__pc_job *job);
/* Takes the slice away from a job that does not end: nobody can say what its lane still touches. 0 = it is ending just
 * now, wait for it. On the loop. */
int cw__pc_lane_abandon(struct cw__pc_job *job);
/* Has the lane of this way been at one thing for longer than small copies take? Any thread. */
int cw__pc_lane_is_slow(struct cw__peer_copy *pc, const struct cw__pc_way *way);
/* Stops all lanes, waiting until `until`. Returns how many did not stop. No loop runs any more. */
unsigned cw__pc_lanes_close(struct cw__peer_copy *pc, uint64_t until);

/* ------------------------------------------------------------------------------------------- device.c */

/* Between two looks at what another thread is about to change. */
static inline void cw__pc_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* The device whose context a copy needs: the source's, unless that is host memory. */
static inline int cw__pc_home(const struct cw__pc_way *way)
{
	return way->from >= 0 ? way->from : way->to;
}

/* CW_OK, or ERR_UNSUPPORTED and *why_out: a device of this way is lost or stuck. */
int cw__pc_way_check(const struct cw__peer_copy *pc, const struct cw__pc_way *way, const char **why_out);

/* Locks the devices of a way, in rising order; to be held only while calls are put on their way, and during blocking
 * ones. timeout: ns for each of them, ERR_BUSY when it is over. */
int cw__pc_lock(uint32_t vendor, int to, int from, uint64_t timeout);
void cw__pc_unlock(uint32_t vendor, int to, int from);
/* Somebody has held one of these devices for long. */
int cw__pc_is_held(uint32_t vendor, int to, int from);
/* Somebody waits for one of them: whoever copies much lets it go first. */
int cw__pc_is_wanted(uint32_t vendor, int to, int from);

/* A write into a mapping of memory of the same device, of which none was seen to arrive yet: not on a stream. */
int cw__pc_is_doubtful(const struct cw__peer_copy *pc, const struct cw__pc_way *way);
/* One copy, with the devices locked and the way's home current. stream NULL = blocks. Returns a vendor's result. */
int cw__pc_copy(struct cw__peer_copy *pc, const struct cw__pc_way *way, uint64_t to, uint64_t from, uint64_t length,
		void *stream);
/* What a result means: a status; the failure is logged and remembered. No lock. */
int cw__pc_failed(struct cw__peer_copy *pc, const struct cw__pc_way *way, int result, const char *what);

#endif
