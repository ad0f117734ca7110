/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the emulated CUDA driver share: the begin and end of every call, and contexts. */
#ifndef CW_EMULATORS_CUDA_FACE_H
#define CW_EMULATORS_CUDA_FACE_H

#include <core/core.h>

#pragma GCC visibility push(default)
#include <platforms/gpu/abi/cuda.h>

/* Not called by Causeway, so not among its declarations. */
int cuDeviceGetName(char *name, int size, int device);
int cuDeviceTotalMem_v2(size_t *bytes_out, int device);
int cuCtxDisablePeerAccess(struct cw__cu_context *peer);
int cuGetProcAddress(const char *name, void **function_out, int version, uint64_t flags);
int cuGetProcAddress_v2(const char *name, void **function_out, int version, uint64_t flags, int *found_out);
#pragma GCC visibility pop

#define CW__CUDA_VERSION 12080

enum cw__cuda_symbol {
#define CW__CUDA_SYMBOL(name, suffix, since, needs, copies) CW__CUDA_##name,
#include "symbols.def"
#undef CW__CUDA_SYMBOL
	CW__CUDA_SYMBOLS
};

/* The primary context of a device; there are no others. */
struct cw__cu_context {
	int device;
	_Atomic unsigned users; /* retained so often; 0 = it is destroyed */
};

struct cw__cuda_call {
	struct cw__emu_call call;
	int before; /* current device of the thread in the core */
};

/* Begins a call on the device of the current context. Anything but 0 is its status: go to end. */
int cw__cuda_begin(struct cw__cuda_call *call, enum cw__cuda_symbol symbol);
/* The CUresult. */
int cw__cuda_end(struct cw__cuda_call *call, int status);

/* The context of a device, NULL when there is no such device; and the one behind a handle of the application, NULL when
 * it is none or is destroyed. */
struct cw__cu_context *cw__cuda_context(int device);
struct cw__cu_context *cw__cuda_live(const struct cw__cu_context *context);
/* The current one of this thread, or NULL. */
struct cw__cu_context *cw__cuda_current(void);

#endif
