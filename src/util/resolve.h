/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of hosts, by a deadline: a name server may take much longer than a caller has. */
#ifndef CW_UTIL_RESOLVE_H
#define CW_UTIL_RESOLVE_H

#include <netdb.h>
#include <stdint.h>

#define CW__RESOLVE_LATE 1

/* What getaddrinfo() finds for a stream: 0 and a list for freeaddrinfo(), an EAI_ code (all are negative), or
 * CW__RESOLVE_LATE. Addresses are converted at once; until 0 = names are not looked up (EAI_NONAME). service: a number
 * or NULL. Any thread, but no loop unless until is 0. */
int cw__resolve(const char *host, const char *service, uint64_t until, struct addrinfo **found_out);

/* One line, constant, in lower case where it is ours. */
const char *cw__resolve_why(int failure);

#endif
