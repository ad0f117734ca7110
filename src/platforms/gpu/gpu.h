/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA-like runtimes of this process, behind one table of operations. A vendor is a row in vendors.def: where its
 * library is looked for, what its symbols and constants are called, and its quirks. Rows come in two dialects: runtime
 * (a current device per thread, copies with a kind: Tang, later HIP and MUSA) and driver (contexts: CUDA).
 *
 * A runtime is loaded by dlopen(3) the first time somebody asks for it, once per process, and never unloaded, because
 * runtimes keep threads and thread-local destructors. Everything here may be called from any thread. Operations that
 * need a current device set it between enter() and leave(), which put back what the caller had.
 *
 * Used by the platforms here and by the transports over src/transports/peer_copy.
 */
#ifndef CW_PLATFORMS_GPU_GPU_H
#define CW_PLATFORMS_GPU_GPU_H

#include <causeway/plugin.h>
#include <pthread.h>

#define CW__GPU_DEVICES_MAX 64
#define CW__GPU_HANDLE_BYTES 64
#define CW__GPU_PCI_BYTES 32

/* Results are the vendor's own numbers, 0 = success, but this one, which stands for the vendor's "not ready yet". */
#define CW__GPU_NOT_READY (-600)

enum cw__gpu_copy_kind { CW__GPU_H2H = 0, CW__GPU_H2D = 1, CW__GPU_D2H = 2, CW__GPU_D2D = 3 };

enum cw__gpu_vendor { CW__GPU_CUDA, CW__GPU_TANG, CW__GPU_VENDORS };

/* What a pointer is. */
struct cw__gpu_memory {
	int is_device;                               /* 0 = host memory, or unknown to the runtime */
	int device;                                  /* -1 for host memory */
	uint64_t allocation_base, allocation_length; /* 0 = not known; the length may be unknown alone */
	void *device_address; /* for pinned host memory: where devices see it; NULL = they do not */
};

struct cw__gpu_handle { /* of exported memory; opaque */
	unsigned char bytes[CW__GPU_HANDLE_BYTES];
};

struct cw__gpu_scope { /* what enter() found */
	int device;
	void *context;
};

/* One runtime. Constant once loaded. The operations named optional are NULL when the library lacks their symbol. */
struct cw__gpu {
	const char *name;    /* of the platform: "sunrise", "cuda" */
	const char *library; /* path that was loaded */
	unsigned device_count;
	uint32_t vendor;                                  /* enum cw__gpu_vendor */
	char pci[CW__GPU_DEVICES_MAX][CW__GPU_PCI_BYTES]; /* lower case, "0000:3b:00.0" */

	/* Makes device current in this thread; leave() undoes it. They nest. */
	int (*enter)(int device, struct cw__gpu_scope *scope_out);
	void (*leave)(const struct cw__gpu_scope *scope);
	/* What an address is; only at registration. Needs no enter(). */
	int (*query)(const void *address, struct cw__gpu_memory *memory_out);
	int (*can_reach)(int device, int peer, int *yes_out); /* peer access between two devices */
	const char *(*error_text)(int result);
	int (*is_fatal)(int result); /* the device is lost: do not try again in this process */

	/* Need enter(device). Sizes are bytes. Blocking ones return when the copy is done. */
	int (*allocate)(void **address_out, size_t size);
	int (*release)(void *address);
	int (*host_allocate)(void **address_out, size_t size); /* pinned */
	int (*host_release)(void *address);
	int (*copy)(void *to, const void *from, size_t size, enum cw__gpu_copy_kind kind);
	int (*copy_async)(void *to, const void *from, size_t size, enum cw__gpu_copy_kind kind, void *stream);
	int (*fill_async)(void *address, int byte, size_t size, void *stream); /* optional */
	/* Between different devices; enter(source device). */
	int (*peer_copy)(void *to, int to_device, const void *from, int from_device, size_t size);
	int (*peer_copy_2)(void *to, int to_device, const void *from, int from_device, size_t size); /* optional */
	int (*peer_copy_async)(void *to, int to_device, const void *from, int from_device, size_t size,
			       void *stream); /* optional */
	int (*peer_copy_async_2)(void *to, int to_device, const void *from, int from_device, size_t size,
				 void *stream); /* optional */
	/* Where `device` sees memory of another device through its port. Optional. */
	int (*peer_address)(int device, int port, const void *address, void **seen_out);

	int (*stream_open)(void **stream_out); /* non-blocking against the default stream */
	int (*stream_close)(void *stream);
	int (*stream_finish)(void *stream);            /* returns when all its work is done; optional */
	int (*stream_wait)(void *stream, void *event); /* later work of the stream waits for the event */
	int (*event_open)(void **event_out);
	int (*event_close)(void *event);
	int (*event_record)(void *event, void *stream);
	int (*event_query)(void *event); /* 0, CW__GPU_NOT_READY or an error */
	int (*event_wait)(void *event);
	/* fn runs on a thread of the runtime when the stream comes to it; no call of the runtime inside. Optional. */
	int (*call_host)(void *stream, void (*fn)(void *arg), void *arg);

	/* Memory between processes. Optional, all three. export: of the allocation that holds address. open:
	 * enter(device), the device that the memory is on; gives the start of the allocation. One that is open already
	 * in this process must not be opened again: peer_copy keeps the one mapping. close: enter(the same device). */
	int (*export_memory)(void *address, struct cw__gpu_handle *handle_out);
	int (*open_memory)(const struct cw__gpu_handle *handle, void **base_out);
	int (*close_memory)(void *base);
};

/* After a question about the work of a stream failed, which says nothing about that work: returns 1 when none of it
 * runs any more, or the device is lost; 0 = nobody can tell, asked for a second. May block as long as the work does.
 * Needs enter(). */
int cw__gpu_drain(const struct cw__gpu *gpu, void *stream);

/* The vendor's runtime, or NULL with *why_out: one line that says where it was looked for, or what it lacks. Both stay
 * valid for the life of the process. The first call loads it, and waits half a minute for that, or `within` ns; any
 * thread. */
const struct cw__gpu *cw__gpu_load(enum cw__gpu_vendor vendor, const char **why_out);
const struct cw__gpu *cw__gpu_load_within(enum cw__gpu_vendor vendor, uint64_t within, const char **why_out);
/* How long an engine waits for that: three times what it waits for other calls. */
uint64_t cw__gpu_patience(struct cw_host *host);

/* A library file of the vendor by name: the folders of the row in their order, then the loader's own search. NULL with
 * why_out filled in. The handle is never closed. */
void *cw__gpu_open_library(enum cw__gpu_vendor vendor, const char *soname, char *why_out, size_t why_size);

/* The NUMA node of a device by its PCI address, -1 when the system does not say. */
int cw__gpu_numa_node(struct cw_host *host, const char *pci);

/* ------------------------------------------------------------------------------------------- errands, aside.c */

/*
 * Calls for threads that must come back: the program's, which registers memory or closes its engine. A call of a
 * runtime may never return, so each of these errands has a thread of its own, and whoever sent it waits for a while
 * only. Copies have threads already.
 */
#define CW__GPU_NO_ANSWER (-602) /* beside vendors' results: the call has not come back */

/* At the beginning of a struct with what the errand needs and finds out, which was made by malloc(). */
struct cw__gpu_errand {
	int (*run)(struct cw__gpu_errand *errand); /* gives the result */
	const struct cw__gpu *gpu;                 /* whose; NULL = none's */
	int device;                                /* there; -1 = all */
	/* It came back when nobody waited any more: takes back what it brought, on its own thread. Optional. */
	void (*undo)(struct cw__gpu_errand *errand);
	/* aside.c's: */
	pthread_mutex_t lock;
	pthread_cond_t over;
	int result, ended, left;
};

/* Runs the errand and waits for it, `within` ns. Its result, and it is the caller's again; or CW__GPU_NO_ANSWER: it is
 * not, and is freed when it comes back. While another one there has not come back nobody waits long. */
int cw__gpu_aside(struct cw__gpu_errand *errand, uint64_t within);

/* What an address is, as gpu->query(). */
int cw__gpu_query_aside(const struct cw__gpu *gpu, const void *address, uint64_t within,
			struct cw__gpu_memory *memory_out);

#endif
