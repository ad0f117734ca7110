/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PTLink as Sunrise's management library tells it: which port of which device leads where. Loaded once for the process,
 * before the Tang runtime is, because links are enabled first. Next: sunrise_link.c.
 */
#ifndef CW_TRANSPORTS_SUNRISE_LINK_PTML_H
#define CW_TRANSPORTS_SUNRISE_LINK_PTML_H

#include <platforms/gpu/abi/ptml.h>
#include <platforms/gpu/gpu.h>
#include <transports/peer_copy/peer_copy.h>

#define CW__PTLINKS_MAX (CW__GPU_DEVICES_MAX * CW__PTML_PORTS)

/* A link between two devices, once. A port of -1: that end does not list the link itself. */
struct cw__ptlink {
	struct cw__peer_copy_link link; /* device[1] -1 = one that this process does not see */
	int chip[2];
	int remote_port;                          /* of device[1], as device[0] tells it */
	double bytes_per_second, most_per_second; /* 0 = unknown */
};

struct cw__ptlink_map {
	unsigned device_count;
	struct {
		int known; /* its ports could be read */
		int index; /* in PTML's numbering */
		int chip;
	} devices[CW__GPU_DEVICES_MAX];
	unsigned link_count;
	struct cw__ptlink links[CW__PTLINKS_MAX]; /* sorted by device and port */
};

/* Loads the library, initialises it and enables the links, waiting `within` ns for that. NULL = fine; else why there is
 * no topology, one line that stays valid. */
const char *cw__ptml_load(uint64_t within);
/* Reads the links of all devices of the runtime. Nothing is found when the library is not there. Returns 0, or a result
 * of PTML when no device could be read, or CW__GPU_NO_ANSWER when it has not come back `within` ns. */
int cw__ptml_map(const struct cw__gpu *gpu, uint64_t within, struct cw__ptlink_map *map_out);
/* 1 = the port works, as far as anybody says. index: PTML's. */
int cw__ptml_port_is_up(int index, int port);

#endif
