/* SPDX-License-Identifier: Apache-2.0 */
/* `causeway emulate`: what a world is made from, and the program that runs in it. */
#ifndef CAUSEWAY_EMULATE_H
#define CAUSEWAY_EMULATE_H

#include <stddef.h>
#include <stdint.h>

#include <core/world.h>

#define EMULATE_WHY 400 /* room for a line that says what is wrong */
#define EMULATE_NOT_GIVEN UINT64_MAX

/* Parameters of a world as given, NULL or EMULATE_NOT_GIVEN when not. */
struct emulate_parameters {
	uint64_t devices, memory;
	const char *topology; /* mesh, ring or islands, with ":N" for N links a pair; or a file */
	const char *bandwidth, *latency;
};

/* Fills a zeroed world. 0, or -1 with why. */
int emulate_build(const struct emulate_parameters *parameters, struct cw__world *world, char *why);

/* Does a world that is there already have the parameters that were given? 0, or -1 with why. */
int emulate_compare(const struct emulate_parameters *parameters, const struct cw__world *there, char *why);

/* Reads a topology file into a zeroed world. 0, or -1 with why, which names the line. */
int emulate_read_file(const char *path, struct cw__world *world, char *why);

/* "25g" (powers of 1000; bytes a second) and "5us" (ns, us, ms, s; in nanoseconds). 0 or -1. */
int emulate_parse_bandwidth(const char *text, uint64_t *value_out);
int emulate_parse_time(const char *text, uint64_t *value_out);

/* Runs a program to its end, passing on signals that were sent to us. Its exit status, 128 + signal when one ended it,
 * 126 or 127 when it could not be started. */
int emulate_run(const char *command, char *const *arguments);

#endif
