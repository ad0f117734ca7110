/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. A target feeds bytes to one decoder and checks what must hold when they are taken:
 * what was decoded can be encoded, and means the same again. scripts/fuzz.sh runs them.
 */
#ifndef CW_TESTS_FUZZ_H
#define CW_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run as a finding; the fuzzer keeps the input. */
#define require(condition)                                                                                             \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			abort();                                                                                       \
	} while (0)

#endif
