/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries of the system that are loaded when they are there, so that ours needs libc alone. */
#ifndef CW_UTIL_LIBRARY_H
#define CW_UTIL_LIBRARY_H

#include <stddef.h>

struct cw__library_symbol {
	const char *name;
	size_t offset; /* of the function pointer in the caller's table */
};

struct cw__library_wanted {
	const char *const *sonames; /* any of them will do, best first; ends with NULL */
	const char *advice;         /* "install libcurl4" */
	const struct cw__library_symbol *symbols;
	size_t symbol_count;
};

/* Loads the first library that is there and has all symbols, and writes their addresses into the table. It stays for
 * the life of the process. 0, or -1 with one line in why. */
int cw__library_load(const struct cw__library_wanted *wanted, void *table, char *why, size_t why_size);

#endif
