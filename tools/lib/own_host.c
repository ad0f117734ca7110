/* SPDX-License-Identifier: Apache-2.0 */
/* See own_host.h. */
#include "lib/own_host.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An interface that is up and has this address (wanted != NULL) or, else, one outside 127.0.0.0/8. */
static int find_interface(const struct in_addr *wanted, struct in_addr *found_out)
{
	struct ifaddrs *interfaces;
	int found = 0;

	if (getifaddrs(&interfaces) != 0)
		return 0;
	for (const struct ifaddrs *at = interfaces; at && !found; at = at->ifa_next) {
		struct in_addr address;

		if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || !(at->ifa_flags & IFF_UP))
			continue;
		address = ((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr;
		found = wanted ? address.s_addr == wanted->s_addr : ntohl(address.s_addr) >> 24 != 127;
		if (found && found_out)
			*found_out = address;
	}
	freeifaddrs(interfaces);
	return found;
}

/* 1 when a program here can listen on the first address that the name leads to. */
static int leads_here(const char *name)
{
	const struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list;
	struct in_addr address;

	if (getaddrinfo(name, NULL, &hints, &list) != 0)
		return 0;
	address = ((const struct sockaddr_in *)(const void *)list->ai_addr)->sin_addr;
	freeaddrinfo(list);
	return ntohl(address.s_addr) >> 24 == 127 || find_interface(&address, NULL);
}

void own_host_address(char *host, size_t length)
{
	struct in_addr address;

	if (!find_interface(NULL, &address) || !inet_ntop(AF_INET, &address, host, (socklen_t)length))
		snprintf(host, length, "127.0.0.1");
}

void own_host_name(char *host, size_t length)
{
	int known = gethostname(host, length - 1) == 0;

	host[length - 1] = '\0';
	if (!known || !leads_here(host))
		own_host_address(host, length);
}
