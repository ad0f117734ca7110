/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory that other machines of an NVLink domain can map: allocated by the CUDA driver's virtual memory calls
 * with a fabric handle. Only CUDA has it. What is asked for here is looked up in the library that gpu.h has loaded.
 */
#ifndef COMPAT_MOONCAKE_FABRIC_H
#define COMPAT_MOONCAKE_FABRIC_H

#include <platforms/gpu/gpu.h>

struct fabric_block {
	uint64_t address;
	size_t length; /* rounded up to what the device maps */
	uint64_t handle;
};

/* 1 when the device can allocate such memory now: it says so, and an allocation succeeds. Keeps the current device. */
int fabric_is_supported(const struct cw__gpu *gpu, int device);

/* Both need gpu->enter(device). Results are the vendor's, 0 = success; what a failure leaves behind is nothing. */
int fabric_allocate(const struct cw__gpu *gpu, int device, size_t size, struct fabric_block *block_out);
int fabric_release(const struct cw__gpu *gpu, const struct fabric_block *block);

#endif
