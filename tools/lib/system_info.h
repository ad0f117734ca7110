/* SPDX-License-Identifier: Apache-2.0 */
/* Small facts from /proc and /sys. */
#ifndef TOOLS_SYSTEM_INFO_H
#define TOOLS_SYSTEM_INFO_H

#include <stddef.h>
#include <stdint.h>

/* The value of a line of /proc/meminfo, such as "MemAvailable": bytes, or the plain number when the line has no unit. 0
 * when there is no such line. */
uint64_t system_meminfo(const char *name);

/* The first line of a small file without its newline. 0, or -1 when it cannot be read. */
int system_read_line(const char *path, char *line, size_t length);

#endif
