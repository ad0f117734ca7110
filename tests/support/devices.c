/* SPDX-License-Identifier: Apache-2.0 */
/* See devices.h. */
#include "devices.h"

#include <stdlib.h>
#include <unistd.h>

int emulated_devices(void)
{
	setenv("MC_TANGRT_LIB_DIR", EMULATED_SUNRISE, 1);
	setenv("CAUSEWAY_EMULATE_OPTIONS", "strict=no", 1);
	unsetenv("CAUSEWAY_EMULATE_WORLD");
	return access(EMULATED_SUNRISE "/libtangrt_shared.so", R_OK) == 0;
}
