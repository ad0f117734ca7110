/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two ways to compute cw__crc32c() of native.h, apart, so that tests can compare them.
 */
#ifndef CW_WIRE_CRC32C_H
#define CW_WIRE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* By table, on any machine. */
uint32_t cw__crc32c_table(uint32_t crc, const void *data, size_t length);

#endif
