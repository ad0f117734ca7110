/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated devices of this process, as a vendor's face (emulators/tang, emulators/ptml, emulators/cuda) sees them.
 * A face is thin: it has the vendor's names and numbers, begins and ends each call here, and calls one function below.
 *
 * Device numbers are those of the application: indices among its visible devices. Results are 0, one of enum
 * cw__emu_status, which the face's table turns into the vendor's number, or a vendor's own number (positive), which a
 * fault rule asked for. Everything may be called from any thread. One libcauseway_emulator.so per process holds the
 * state, so that all faces agree. docs/emulators.md is the user's side.
 */
#ifndef CW_EMULATORS_CORE_H
#define CW_EMULATORS_CORE_H

#include "world.h"

#define CW__EMU_ARGUMENTS 8

enum cw__emu_status {
	CW__EMU_OK = 0,
	CW__EMU_BAD_VALUE = -1,
	CW__EMU_NO_MEMORY = -2,
	CW__EMU_NOT_INITIALIZED = -3, /* no world, a bad setting, or a child made by fork */
	CW__EMU_REMOVED = -4,         /* the device is lost */
	CW__EMU_BAD_POINTER = -5,     /* not an address of the kind that is needed */
	CW__EMU_BAD_KIND = -6,        /* the direction does not fit the addresses */
	CW__EMU_NO_DEVICE = -7,
	CW__EMU_BAD_DEVICE = -8,
	CW__EMU_BAD_HANDLE = -9, /* of a stream or an event */
	CW__EMU_NOT_READY = -10,
	CW__EMU_ILLEGAL_ADDRESS = -11, /* device memory that is not there any more */
	CW__EMU_PEER_ON = -12,
	CW__EMU_PEER_OFF = -13,
	CW__EMU_HOST_REGISTERED = -14,
	CW__EMU_HOST_NOT_REGISTERED = -15,
	CW__EMU_NOT_SUPPORTED = -16,
	CW__EMU_UNLINKED = -17,      /* no link between the two devices */
	CW__EMU_LINK_DOWN = -18,     /* it is down, or went down on the way */
	CW__EMU_GONE = -19,          /* the owner of exported memory freed it or is dead */
	CW__EMU_NOT_PERMITTED = -20, /* a call from inside a host function */
	CW__EMU_SYSTEM = -21,
	CW__EMU_STATUSES = 22
};

enum cw__emu_kind { CW__EMU_H2H = 0, CW__EMU_H2D = 1, CW__EMU_D2H = 2, CW__EMU_D2D = 3, CW__EMU_ANY = 4 };

/* What a fault rule wants to happen to one call. */
enum cw__emu_action {
	CW__EMU_NOTHING,
	CW__EMU_FAIL,
	CW__EMU_DELAY,
	CW__EMU_HANG,
	CW__EMU_PARTIAL,
	CW__EMU_CORRUPT,
	CW__EMU_REMOVE,
	CW__EMU_PORT_DOWN
};

struct cw__emu_fault {
	int action;
	int code;
	uint64_t amount;   /* microseconds to wait, or bytes to copy */
	const char *until; /* a file that ends the waiting; may be NULL */
};

struct cw__emu_rules; /* those that a symbol's name matches */

/* What a call does, for the faults and checks at its begin. */
enum cw__emu_symbol_flag {
	CW__EMU_ANY_TIME = 1, /* works on a lost device and inside a host function */
	CW__EMU_COPIES = 2    /* faults act on the copy, not on the call */
};

struct cw__emu_symbol {
	const char *name;
	unsigned flags;
	_Atomic uint64_t calls;
	struct cw__emu_rules *rules; /* fixed once the face is ready; NULL = none */
};

/* One vendor's library. Static; filled in by it, but for what is below the line. */
struct cw__emu_face {
	const char *name;
	uint32_t vendor;  /* enum cw__world_vendor */
	const int *codes; /* vendor's numbers, by -status */
	struct cw__emu_symbol *symbols;
	unsigned symbol_count;
	/* ---- */
	_Atomic int ready;
	int broken; /* vendor's number that every call gives: no world here, or none with devices of this vendor */
	struct cw__emu_face *next;
};

/* One call, on the caller's stack. */
struct cw__emu_call {
	struct cw__emu_face *face;
	struct cw__emu_symbol *symbol;
	int device, peer, port; /* for the filters of fault rules; -1 = not known; device: -1 = the current one */
	int current;            /* current device at its begin */
	uint64_t bytes;
	uint64_t begin; /* ns, when traced */
	int traced;
	unsigned argument_count;
	struct cw__emu_fault fault; /* for what the call starts */
	struct {
		const char *name;
		uint64_t value;
	} arguments[CW__EMU_ARGUMENTS];
};

/* Counts the call, applies fault rules and the checks that hold for all calls. Anything but 0 is the result: go to end.
 */
int cw__emu_begin(struct cw__emu_call *call);
/* Turns the status into the vendor's number, remembers it for the thread, writes the trace. */
int cw__emu_end(struct cw__emu_call *call, int status);
void cw__emu_argument(struct cw__emu_call *call, const char *name, uint64_t value);
int cw__emu_last_error(int forget);

/* The world, or NULL. For what only describes it. */
struct cw__world *cw__emu_world(void);
/* The options that faces need. */
int cw__emu_option_mapped_host(void); /* mapped host memory works */
int cw__emu_option_host_register(void);
int cw__emu_option_init_again(void); /* the second init is an error */

/* Calls so far of a symbol, or one of the gauges of report.c, by name; 0 for an unknown name. */
uint64_t causeway_emulator_count(const char *name);
/* Joins the world as any call does. 0; -1 when the environment says something wrong, and a line about it on stderr. */
int causeway_emulator_check(void);

/* Devices. */
int cw__emu_device_count(void);
int cw__emu_device_set(int device);
int cw__emu_device_get(void);
/* The device of the world behind an index of the application; NULL when there is none. */
struct cw__world_device *cw__emu_device(int device);
/* Its index among the visible ones, -1 when it is not visible. */
int cw__emu_device_index(const struct cw__world_device *device);
int cw__emu_device_wait(void);                /* for all work on the current device */
int cw__emu_can_access(int device, int peer); /* 1 when the world lets device access the memory of peer */
int cw__emu_peer_access(int peer, int on);
int cw__emu_memory_info(size_t *free_out, size_t *total_out);

/* Memory. */
enum cw__emu_memory_type { CW__EMU_UNREGISTERED, CW__EMU_HOST, CW__EMU_DEVICE };

struct cw__emu_attributes {
	int type;
	int device; /* -1 = none */
	void *device_pointer, *host_pointer;
	void *base; /* of the allocation */
	size_t size;
	int exportable;
};

int cw__emu_allocate(void **address_out, size_t size);
int cw__emu_free(void *address);
int cw__emu_host_allocate(void **address_out, size_t size, int mapped);
int cw__emu_host_free(void *address);
int cw__emu_host_register(void *address, size_t size, int mapped);
int cw__emu_host_unregister(void *address);
int cw__emu_host_device_pointer(void **address_out, void *host);
int cw__emu_attributes(const void *address, struct cw__emu_attributes *attributes_out);
int cw__emu_peer_pointer(int device, int port, void *address, void **seen_out);

/* Between processes. */
int cw__emu_export(unsigned char handle_out[64], void *address);
int cw__emu_open(const unsigned char handle[64], void **base_out);
int cw__emu_close(void *base);

/* Copies. A stream makes them asynchronous; without `later` they are done when the call returns. */
struct cw__emu_stream;
struct cw__emu_event;

struct cw__emu_order { /* a copy as the application wants it */
	void *to;
	const void *from;
	size_t size;
	int kind; /* enum cw__emu_kind */
	int peer; /* 1: between to_device and from_device, whatever the current one is */
	int to_device, from_device;
	int staged;      /* a peer copy that needs no link */
	int fill, value; /* 1: every byte of `to` becomes value */
	int later;
	struct cw__emu_stream *stream;
};

int cw__emu_copy(struct cw__emu_call *call, const struct cw__emu_order *order);

/* Streams and events. NULL is the default stream of the current device. */
int cw__emu_stream_open(struct cw__emu_stream **stream_out, int non_blocking);
int cw__emu_stream_close(struct cw__emu_stream *stream);
int cw__emu_stream_query(struct cw__emu_stream *stream);
int cw__emu_stream_wait(struct cw__emu_stream *stream);
int cw__emu_stream_wait_event(struct cw__emu_stream *stream, struct cw__emu_event *event);
int cw__emu_stream_call(struct cw__emu_call *call, struct cw__emu_stream *stream, void (*fn)(void *arg), void *arg);
/* For traces: its number and device. */
void cw__emu_stream_argument(struct cw__emu_call *call, struct cw__emu_stream *stream);
int cw__emu_event_open(struct cw__emu_event **event_out);
int cw__emu_event_close(struct cw__emu_event *event);
int cw__emu_event_record(struct cw__emu_event *event, struct cw__emu_stream *stream);
int cw__emu_event_query(struct cw__emu_event *event);
int cw__emu_event_wait(struct cw__emu_event *event);

#endif
