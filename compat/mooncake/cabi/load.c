/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine has in flight and how fast it was lately: one row, named by the network interface of its address. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "face.h"

#define MEMORY 0.7 /* of the earlier rate, for each second */

static int has_address(const struct sockaddr *address, const char *wanted)
{
	char text[INET6_ADDRSTRLEN];
	const void *bytes = NULL;

	if (address && address->sa_family == AF_INET)
		bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
	else if (address && address->sa_family == AF_INET6)
		bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	return bytes && inet_ntop(address->sa_family, bytes, text, sizeof(text)) && strcmp(text, wanted) == 0;
}

/* An engine that is named by a host name has no interface of its own: it stands for itself. */
static void find_device(const struct face *face, char device[64])
{
	struct ifaddrs *all = NULL;

	snprintf(device, 64, "%.63s", face->host);
	if (getifaddrs(&all) != 0)
		return;
	for (const struct ifaddrs *at = all; at; at = at->ifa_next)
		if (has_address(at->ifa_addr, face->host)) {
			snprintf(device, 64, "%.63s", at->ifa_name);
			break;
		}
	freeifaddrs(all);
}

/* With face->lock. The older the last look, the less its rate counts. */
static void measure(struct face *face, uint64_t bytes)
{
	uint64_t now = face_now();
	double seconds = (double)(now - face->rate_at) / 1e9, weight = 1;

	if (face->rate_at && seconds < 0.001)
		return;
	for (double left = seconds; left > 0 && weight > 1e-3; left -= 1)
		weight *= left < 1 ? 1 - (1 - MEMORY) * left : MEMORY;
	if (face->rate_at)
		face->rate = weight * face->rate + (1 - weight) * (double)(bytes - face->rate_bytes) / seconds;
	face->rate_bytes = bytes;
	face->rate_at = now;
}

int face_load_get(struct face *face, struct face_load *load_out)
{
	struct cw_engine_stats stats = { .size = sizeof(stats) };
	int status = cw_engine_stats_get(face->engine, &stats);

	if (status != CW_OK)
		return status;
	*load_out = (struct face_load){ .device = "" };
	find_device(face, load_out->device);
	pthread_mutex_lock(&face->lock);
	load_out->inflight_bytes = face_batches_inflight(face);
	measure(face, stats.bytes_written + stats.bytes_read + stats.bytes_served);
	load_out->bytes_per_second = face->rate;
	pthread_mutex_unlock(&face->lock);
	return CW_OK;
}
