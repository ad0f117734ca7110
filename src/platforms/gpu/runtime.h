/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the runtime dialect share. */
#ifndef CW_PLATFORMS_GPU_RUNTIME_H
#define CW_PLATFORMS_GPU_RUNTIME_H

#include <platforms/gpu/dialect.h>

/* A result of the runtime as one of gpu.h; clears the thread's last error when it is one. */
int cw__runtime_settle(struct cw__gpu_library *library, int result);

#endif
