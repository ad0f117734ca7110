/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the vendors in vendors.def. What the fields mean is in row.h. */
#include <platforms/gpu/row.h>
#include <platforms/gpu/abi/cuda.h>
#include <platforms/gpu/abi/tang.h>
#include <stddef.h>

#ifndef CW__TANGRT_ROOT /* -DMC_TANGRT_ROOT=... of the build */
#define CW__TANGRT_ROOT "/usr/local/tangrt"
#endif
#ifdef __aarch64__
#define LINUX_ARCH "linux-aarch64"
#else
#define LINUX_ARCH "linux-x86_64"
#endif

const struct cw__gpu_row cw__gpu_rows[CW__GPU_VENDORS] = {
	/* NVIDIA, by the driver library alone: the runtime library would bind to one major version of the toolkit. */
	[CW__GPU_CUDA] = {
		.sonames = { "libcuda.so.1" },
		.places = {
			.loader_first = 1,
#ifdef __aarch64__
			.folders = { "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/cuda/compat" },
#else
			.folders = { "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/cuda/compat" },
#endif
		},
		.prefix = "cu",
		.locations = { "cuda" },
		.not_ready = CW__CU_NOT_READY,
		.invalid_device = CW__CU_INVALID_DEVICE,
		.link_only = { { CW__CU_STUB_LIBRARY, CW__CU_STUB_LIBRARY } },
		.is_invalid = { { 1, 1 }, { 101, 101 }, { 201, 201 }, { 400, 400 } },
		.no_memory = { { 2, 2 } },
		/* Deinitialised, device gone, ECC, NVLink, and what a kernel can do to its context. */
		.is_fatal = { { 4, 4 }, { 46, 46 }, { 214, 214 }, { 220, 220 }, { 700, 700 }, { 702, 702 },
			      { 709, 710 }, { 714, 719 }, { 999, 999 } },
		.host_flags = CW__CU_HOST_PORTABLE,
		.stream_flags = CW__CU_STREAM_NON_BLOCKING,
		.event_flags = CW__CU_EVENT_DISABLE_TIMING,
		.ipc_flags = CW__CU_IPC_LAZY_ENABLE_PEER_ACCESS,
	},
	/* Sunrise, Tang runtime. */
	[CW__GPU_TANG] = {
		.sonames = { "libtangrt_shared.so" },
		.places = {
			.folder_variable = "MC_TANGRT_LIB_DIR",
			.root_variables = { "MC_TANGRT_ROOT", "TANGRT_ROOT" },
			.root = CW__TANGRT_ROOT,
			.arch_variable = "MC_TANGRT_LIB_ARCH",
			.arch = LINUX_ARCH,
			.below_root = { "lib/%s", "lib", "targets/%s/lib" },
		},
		.prefix = "tang",
		.locations = { "sunrise", "cuda", "npu" },
		.not_ready = CW__TANG_NOT_READY,
		.invalid_device = CW__TANG_INVALID_DEVICE,
		.is_invalid = { { 1, 1 }, { 101, 101 }, { 201, 201 }, { 400, 400 }, { 3000, 3005 } },
		.no_memory = { { 2, 2 }, { 3006, 3006 } },
		/* Deinitialised, removed, reset; a kernel broke its context; PCIe, firmware and engine failures. */
		.is_fatal = { { 4, 6 }, { 700, 700 }, { 702, 702 }, { 719, 719 }, { 3012, 3026 } },
		.host_flags = CW__TANG_HOST_ALLOC_DEFAULT,
		.stream_flags = CW__TANG_STREAM_NON_BLOCKING,
		.event_flags = CW__TANG_EVENT_DISABLE_TIMING,
		.ipc_flags = CW__TANG_IPC_LAZY_ENABLE_PEER_ACCESS,
		.kinds = { CW__TANG_HOST_TO_HOST, CW__TANG_HOST_TO_DEVICE, CW__TANG_DEVICE_TO_HOST,
			   CW__TANG_DEVICE_TO_DEVICE },
		.memory_host = CW__TANG_MEMORY_HOST,
		.memory_device = CW__TANG_MEMORY_DEVICE,
		.attributes = { .size = sizeof(struct cw__tang_pointer_attributes),
				.type = offsetof(struct cw__tang_pointer_attributes, type),
				.device = offsetof(struct cw__tang_pointer_attributes, device),
				.device_pointer = offsetof(struct cw__tang_pointer_attributes, device_pointer) },
		.attributes_by_device = 1,
		/* ASSUMED, after CUDA's legacy default stream: no public text says it. */
		.copies_in_default = 1,
	},
};

int cw__gpu_code_in(const struct cw__gpu_codes *codes, int code)
{
	for (; codes->first; codes++)
		if (code >= codes->first && code <= codes->last)
			return 1;
	return 0;
}
