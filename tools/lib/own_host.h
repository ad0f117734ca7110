/* SPDX-License-Identifier: Apache-2.0 */
/* Under which address a program without an address of its own can be reached. */
#ifndef TOOLS_OWN_HOST_H
#define TOOLS_OWN_HOST_H

#include <stddef.h>

#define OWN_HOST_MAX 256

/* The host's name when it leads to an address of this machine, else the first IPv4 address of an interface that is not
 * 127.x.y.z, else 127.0.0.1. */
void own_host_name(char *host, size_t length);

/* As above, but never the host's name: peers need not know it. */
void own_host_address(char *host, size_t length);

#endif
