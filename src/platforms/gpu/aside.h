/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of a runtime for threads that must come back: the program's, which registers memory or closes its engine. A
 * call of a runtime may never return, so each of these errands has a thread of its own, and whoever sent it waits for a
 * while only. Copies have threads already.
 */
#ifndef CW_PLATFORMS_GPU_ASIDE_H
#define CW_PLATFORMS_GPU_ASIDE_H

#include <platforms/gpu/gpu.h>
#include <pthread.h>

#define CW__GPU_NO_ANSWER (-602) /* beside vendors' results: the call has not come back */

/* At the beginning of a struct with what the errand needs and finds out, which was made by malloc(). */
struct cw__gpu_errand {
	int (*run)(struct cw__gpu_errand *errand); /* gives the result */
	/* It came back when nobody waited any more: takes back what it brought, on its own thread. Optional. */
	void (*undo)(struct cw__gpu_errand *errand);
	/* aside.c's: */
	pthread_mutex_t lock;
	pthread_cond_t over;
	int result, ended, left;
};

/* Runs the errand and waits for it, `within` ns. Its result, and it is the caller's again; or CW__GPU_NO_ANSWER: it is
 * not, and is freed when it comes back. While others have not come back nobody waits long. */
int cw__gpu_aside(struct cw__gpu_errand *errand, uint64_t within);

/* What an address is, as gpu->query(). */
int cw__gpu_query_aside(const struct cw__gpu *gpu, const void *address, uint64_t within,
			struct cw__gpu_memory *memory_out);

#endif
