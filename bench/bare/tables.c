/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which ways the program named bare has. The programs of other engines in bench/peers/ have tables of their own and
 * share everything else, so that all are measured alike.
 */
#include "bare.h"

#include <stddef.h>

const char bare_program[] = "bare";
const char bare_congestion[] = "reno"; /* what Causeway sets within one host */
const struct bare_mode *const bare_tables[] = { bare_tcp_modes, bare_setup_modes, bare_copy_modes, bare_process_modes,
						NULL };
