/* SPDX-License-Identifier: Apache-2.0 */
/* See devices.h. */
#include "devices.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void use_private_world(void)
{
	setenv("CAUSEWAY_EMULATE_OPTIONS", "strict=no", 1);
	unsetenv("CAUSEWAY_EMULATE_WORLD");
}

int emulated_devices(void)
{
	use_private_world();
	setenv("MC_TANGRT_LIB_DIR", EMULATORS "/sunrise", 1);
	return access(EMULATORS "/sunrise/libtangrt_shared.so", R_OK) == 0;
}

int emulated_cuda_devices(void)
{
	use_private_world();
	setenv("MC_TANGRT_LIB_DIR", EMULATORS "/cuda", 1);
	/* A library that is loaded is found by its name from then on. */
	return dlopen(EMULATORS "/cuda/libcuda.so.1", RTLD_NOW) != NULL;
}
