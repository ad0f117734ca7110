/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated CUDA driver: functions and errors by name. */
#include "face.h"

#include <string.h>

enum found { FOUND = 0, NOT_FOUND = 1, TOO_NEW = 2 }; /* CUdriverProcAddressQueryResult */

typedef void (*any_function)(void);

static const struct function {
	const char *name;
	int since;
	any_function function;
} functions[CW__CUDA_SYMBOLS] = {
#define CW__CUDA_SYMBOL(name, suffix, since, needs, copies) { #name, since, (any_function)name##suffix },
#include "symbols.def"
#undef CW__CUDA_SYMBOL
};

/* cuGetProcAddress itself changed its parameters; who asks for an older CUDA gets the older one. */
static any_function find(const char *name, int version, int *found_out)
{
	*found_out = NOT_FOUND;
	for (size_t i = 0; i < CW__CUDA_SYMBOLS; i++) {
		if (strcmp(name, functions[i].name) != 0)
			continue;
		*found_out = FOUND;
		if (i == CW__CUDA_cuGetProcAddress && version < functions[i].since)
			return (any_function)cuGetProcAddress;
		if (version >= functions[i].since)
			return functions[i].function;
		*found_out = TOO_NEW;
	}
	return NULL;
}

int cuGetProcAddress_v2(const char *name, void **function_out, int version, uint64_t flags, int *found_out)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, CW__CUDA_cuGetProcAddress), found = NOT_FOUND;
	any_function function = NULL;

	if (!status && (!name || !function_out || flags > 2))
		status = CW__EMU_BAD_VALUE;
	if (!status) {
		function = find(name, version, &found);
		/* ISO C has no conversion from functions to data, POSIX promises that it works. */
		memcpy(function_out, &function, sizeof(function));
		status = function ? 0 : CW__CU_NOT_FOUND;
		if (found_out)
			*found_out = found;
	}
	return cw__cuda_end(&call, status);
}

int cuGetProcAddress(const char *name, void **function_out, int version, uint64_t flags)
{
	return cuGetProcAddress_v2(name, function_out, version, flags, NULL);
}

static const struct error {
	int code;
	const char *name, *text;
} errors[] = {
	{ CW__CU_SUCCESS, "CUDA_SUCCESS", "no error" },
	{ CW__CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
	{ CW__CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
	{ CW__CU_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error" },
	{ CW__CU_DEINITIALIZED, "CUDA_ERROR_DEINITIALIZED", "driver shutting down" },
	{ CW__CU_DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE", "the device is busy or unavailable" },
	{ CW__CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected" },
	{ CW__CU_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" },
	{ CW__CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
	{ CW__CU_MAP_FAILED, "CUDA_ERROR_MAP_FAILED", "mapping of buffer object failed" },
	{ CW__CU_ECC_UNCORRECTABLE, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered" },
	{ CW__CU_PEER_ACCESS_UNSUPPORTED, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED",
	  "peer access is not supported between these two devices" },
	{ CW__CU_NVLINK_UNCORRECTABLE, "CUDA_ERROR_NVLINK_UNCORRECTABLE", "uncorrectable NVLink error detected" },
	{ CW__CU_OPERATING_SYSTEM, "CUDA_ERROR_OPERATING_SYSTEM", "an operating system call failed" },
	{ CW__CU_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" },
	{ CW__CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found" },
	{ CW__CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready" },
	{ CW__CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered" },
	{ CW__CU_PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
	  "peer access is already enabled" },
	{ CW__CU_PEER_ACCESS_NOT_ENABLED, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", "peer access has not been enabled" },
	{ CW__CU_CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed" },
	{ CW__CU_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
	  "part or all of the requested memory range is already mapped" },
	{ CW__CU_HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
	  "pointer does not correspond to a registered memory region" },
	{ CW__CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
	{ CW__CU_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted" },
	{ CW__CU_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" },
	{ CW__CU_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error" },
};

static int describe(enum cw__cuda_symbol symbol, int result, const char **out, int wants_name)
{
	struct cw__cuda_call call;
	int status = cw__cuda_begin(&call, symbol);

	if (!status) {
		status = CW__EMU_BAD_VALUE;
		if (out)
			*out = NULL;
		for (size_t i = 0; out && i < sizeof(errors) / sizeof(errors[0]); i++) {
			if (errors[i].code == result) {
				*out = wants_name ? errors[i].name : errors[i].text;
				status = 0;
			}
		}
	}
	return cw__cuda_end(&call, status);
}

int cuGetErrorString(int result, const char **text_out)
{
	return describe(CW__CUDA_cuGetErrorString, result, text_out, 0);
}

int cuGetErrorName(int result, const char **text_out)
{
	return describe(CW__CUDA_cuGetErrorName, result, text_out, 1);
}
