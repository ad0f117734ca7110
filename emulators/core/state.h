/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the core share: the state of the process, memory, copies and streams. Private to emulators/core;
 * the faces see core.h. Devices are numbered here as in the world, not as the application sees them.
 */
#ifndef CW_EMULATORS_STATE_H
#define CW_EMULATORS_STATE_H

#include "core.h"

#include <pthread.h>

struct cw__emu_options {
#define CW__EMU_OPTION(field, words, initial, text) int field;
#define CW__EMU_NUMBER(field, initial, text) int field;
#include "options.def"
#undef CW__EMU_OPTION
#undef CW__EMU_NUMBER
};

/* The state of the process. Fixed once it is started, but for what is atomic or has a lock of its own. */
struct cw__emu_state {
	struct cw__world *world; /* NULL: nothing works, why[] says so */
	struct cw__world_seat *seat;
	char why[256];
	uint32_t world_mark; /* tells worlds apart in handles */
	struct cw__emu_options options;
	int visible[CW__WORLD_DEVICES]; /* device of the world by the application's index */
	int index[CW__WORLD_DEVICES];   /* the other way; -1 = not visible */
	int device_count;
	int tracing;
	_Atomic int forked; /* this is a child made by fork */
	uint64_t start;     /* of this process, as in /proc */
};

extern struct cw__emu_state cw__emu;

/* Of the calling thread. */
struct cw__emu_thread {
	int device; /* of the application */
	int last_error;
	int in_host_function;
	int watched; /* its end will be noticed */
};

extern _Thread_local struct cw__emu_thread cw__emu_thread;

/* Things that are counted: row names are the names that causeway_emulator_count() takes. */
enum cw__emu_gauge {
	CW__EMU_LIVE_ALLOCATIONS,
	CW__EMU_LIVE_HOST_ALLOCATIONS,
	CW__EMU_OPEN_MAPPINGS,
	CW__EMU_LIVE_STREAMS,
	CW__EMU_LIVE_EVENTS,
	CW__EMU_HOST_TOUCHES,
	CW__EMU_DEVICE_LEAKS,
	CW__EMU_WRONG_DEVICE,
	CW__EMU_WRONG_STREAM,
	CW__EMU_FAULTS_FIRED,
	CW__EMU_COPIED_BYTES,
	CW__EMU_GAUGES
};

extern _Atomic uint64_t cw__emu_gauges[CW__EMU_GAUGES];

static inline void cw__emu_gauge(enum cw__emu_gauge gauge, int64_t by)
{
	atomic_fetch_add_explicit(&cw__emu_gauges[gauge], (uint64_t)by, memory_order_relaxed);
}

/* Clock. */
uint64_t cw__emu_now(void);                /* ns of CLOCK_MONOTONIC */
void cw__emu_sleep_until(uint64_t moment); /* exact to some microseconds */

/* The physical device that is current in this thread. */
int cw__emu_current(void);
int cw__emu_removed(int device);
/* A link of the world between two devices that is up; -1 when none is up, -2 when none is there at all. end_out: the
 * end at `device`. */
int cw__emu_link_between(int device, int peer, int *end_out);

/* options.c. 0, or -1 with a line in cw__emu.why. */
int cw__emu_options_read(const char *text);

/* fault.c */
int cw__emu_faults_read(const char *path); /* 0, or -1 with a line in cw__emu.why */
struct cw__emu_rules *cw__emu_faults_of(const char *symbol);
/* The first rule that fires for the call; 0 when none does. */
int cw__emu_fault(struct cw__emu_call *call, struct cw__emu_fault *fault_out);
void cw__emu_fault_wait(const struct cw__emu_fault *fault);
/* How many of `size` bytes may pass through a link; *last_out: a rule wants it down after them. */
size_t cw__emu_fault_link(int link, size_t size, int *last_out);

/* state.c: the faces in use. */
struct cw__emu_face *cw__emu_first_face(void);

/* trace.c */
void cw__emu_trace_open(const char *folder);
void cw__emu_trace_call(const struct cw__emu_call *call, int result, uint64_t end);
void cw__emu_trace_close(const char *folder);

/* touch.c */
void cw__emu_touch_watch(const char *folder);

/* Memory. */
enum cw__emu_memory_kind {
	CW__EMU_OWN,         /* allocated on a device */
	CW__EMU_OPENED,      /* another process's, through its handle */
	CW__EMU_HOST_OWN,    /* pinned host memory */
	CW__EMU_HOST_LENT,   /* registered host memory */
	CW__EMU_HOST_SEEN,   /* pinned or registered host memory as devices see it */
	CW__EMU_THROUGH_PORT /* OWN or OPENED as another device sees it through one of its ports */
};

/* A range of addresses. The registry, and whoever uses it at the moment, hold references; the last one unmaps it. */
struct cw__emu_memory {
	uint64_t address;
	size_t size, span; /* as asked for; in whole pages */
	char *alias;       /* where the emulator reaches it */
	int kind;
	int device;    /* that can use the address */
	int home;      /* that has the bytes; -1 = the host */
	int link, end; /* THROUGH_PORT: the link, and which end of it `device` is at */
	int port;
	int fd;                 /* OWN: of the memory file */
	unsigned opens;         /* OPENED; registry's lock */
	_Atomic unsigned views; /* how many others are views of it */
	int mapped;             /* HOST_OWN, HOST_LENT: devices see it */
	uint64_t serial;        /* OWN, OPENED */
	uint64_t offset;        /* OPENED: what the application got is this far from the start */
	int owner;
	uint64_t owner_start;
	struct cw__emu_memory *origin; /* HOST_SEEN, THROUGH_PORT: what it is a view of; held */
	_Atomic uint32_t refs;
};

int cw__emu_memory_start(void); /* 0, or -1 with a line in cw__emu.why */
/* The memory that holds the address, held; NULL when there is none. */
struct cw__emu_memory *cw__emu_memory_find(const void *address);
void cw__emu_memory_find_two(const void *a, const void *b, struct cw__emu_memory **a_out,
			     struct cw__emu_memory **b_out);
void cw__emu_memory_drop(struct cw__emu_memory *memory);
/* Whether an address is one that only devices use, live or not. */
int cw__emu_memory_is_device(const void *address);
/* Registers the memory, which becomes the registry's; one that devices use gets its addresses first. A status. */
int cw__emu_memory_add(struct cw__emu_memory *memory);
/* Takes it and all its views out of the registry. 0 when it was not there any more. */
int cw__emu_memory_remove(struct cw__emu_memory *memory);
struct cw__emu_memory *cw__emu_memory_new(int kind, size_t size, int device);
/* The first that fn wants, held; fn runs under the registry's lock for writing. */
struct cw__emu_memory *cw__emu_memory_first(int (*fn)(struct cw__emu_memory *memory, const void *arg), const void *arg);
/* One opening less of opened memory; how many are left. */
unsigned cw__emu_memory_unopen(struct cw__emu_memory *memory);

static inline int cw__emu_memory_for_devices(const struct cw__emu_memory *memory)
{
	return memory->kind != CW__EMU_HOST_OWN && memory->kind != CW__EMU_HOST_LENT;
}

/* registry.c keeps them by address; memory.c and ipc.c make them. */
extern const size_t cw__emu_page;
void cw__emu_memory_hold(struct cw__emu_memory *memory);

/* Copies, copy.c. What is in it is held. */
struct cw__emu_work {
	char *to;
	const char *from; /* NULL: fill with value */
	size_t size;
	int value;
	int drop_bytes; /* it succeeds without doing anything */
	struct cw__emu_memory *to_memory, *from_memory;
	struct cw__world_lane *lane; /* NULL = takes no time */
	int link;                    /* that it goes through, -1 = none */
	int devices[2];              /* that it touches, -1 = none */
	struct cw__emu_fault fault;
};

int cw__emu_work_run(struct cw__emu_work *work); /* does it and lets go of what it holds */
void cw__emu_work_drop(struct cw__emu_work *work);

/* Streams, stream.c. */
int cw__emu_stream_copy(struct cw__emu_stream *stream, const struct cw__emu_work *work);
/* The device of a stream, or of the default one; BAD_HANDLE when it is not one. */
int cw__emu_stream_device(struct cw__emu_stream *stream);
/* Waits until what a blocking call on the device has to wait for is done. */
void cw__emu_stream_before_copy(int device);
int cw__emu_stream_wait_device(int device);

#endif
