/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sunrise's management library PTML (libptml_shared.so) as far as Causeway calls it: our own declarations, see tang.h.
 * Functions bear the vendor's names; types and constants are ours, with the vendor's values and layouts.
 *
 * Stands on the public ptml.h of the same release as tang.h (2026-01). Devices are indices. ASSUMED, because no public
 * text says it: the units of speeds and bandwidths in a port record (here GB/s for bandwidths, GT/s for speeds), that a
 * chip's id is unlike a device's index in general, and that a port with nothing behind it has link_status 0.
 */
#ifndef CW_PLATFORMS_GPU_ABI_PTML_H
#define CW_PLATFORMS_GPU_ABI_PTML_H

#include <stddef.h>
#include <stdint.h>

#define CW__PTML_PORTS 10 /* records that ptmlPtlinkPhytopoDetect fills for one device */

/* ptmlReturn_t, a 4-byte enum; functions here return it as int. */
enum cw__ptml_result {
	CW__PTML_SUCCESS = 0,
	CW__PTML_UNINITIALIZED = 1,
	CW__PTML_INVALID_ARGUMENT = 2,
	CW__PTML_ALREADY_INITIALIZED = 3,
	CW__PTML_INSUFFICIENT_SIZE = 4,
	CW__PTML_IN_USE = 5,
	CW__PTML_DRIVER_NOT_LOADED = 6,
	CW__PTML_DEVICE_NOT_FOUND = 7,
	CW__PTML_EVENT_TIMEOUT = 8,
	CW__PTML_UNKNOWN = 9
};

struct cw__ptml_port { /* ptPhyTopo_t: one port of a chip */
	uint8_t local_chip;
	uint8_t local_port;
	uint8_t remote_chip;
	uint8_t remote_port;
	uint8_t link_status; /* 0 = down */
	uint8_t is_bif;
	uint8_t max_speed;
	uint8_t current_speed;
	uint8_t max_bandwidth;
	uint8_t current_bandwidth;
};

struct cw__ptml_pci { /* ptPciInfo_t */
	int32_t domain;
	int32_t bus;
	int32_t device; /* device and function */
	int32_t vendor;
	int32_t subsystem;
	char bus_id[32];
	uint32_t max_link_speed; /* MT/s */
	uint32_t max_link_width;
	uint32_t max_bandwidth; /* MB/s */
	uint32_t current_link_speed;
	uint32_t current_link_width;
	uint32_t current_bandwidth;
};

_Static_assert(sizeof(struct cw__ptml_port) == 10, "ptPhyTopo_t");
_Static_assert(offsetof(struct cw__ptml_port, link_status) == 4, "ptPhyTopo_t");
_Static_assert(offsetof(struct cw__ptml_port, current_bandwidth) == 9, "ptPhyTopo_t");
_Static_assert(sizeof(struct cw__ptml_pci) == 76, "ptPciInfo_t");
_Static_assert(offsetof(struct cw__ptml_pci, bus_id) == 20, "ptPciInfo_t");
_Static_assert(offsetof(struct cw__ptml_pci, max_link_speed) == 52, "ptPciInfo_t");
_Static_assert(sizeof(enum cw__ptml_result) == 4, "ptmlReturn_t");

int ptmlInit(void); /* before anything else; 3 when it was called already */
void ptmlUninit(void);
int ptmlDeviceGetCount(int *count_out);
int ptmlDeviceGetPciInfo(int device, struct cw__ptml_pci *info_out);
int ptmlDeviceGetUUID(int device, char *text, unsigned size);
int ptmlPtlinkEnableAll(void); /* before the calls about links */
int ptmlPtlinkDisableAll(void);
int ptmlPtlinkPhytopoDetect(int device, uint32_t size, void *ports_out); /* CW__PTML_PORTS records */
int ptmlGetPtlinkStatus(int device, int port, int *status_out);
int ptmlGetPtlinkRemoteDevicePciInfo(int device, int port, struct cw__ptml_pci *info_out);
int ptmlPtlinkGetConnectRelation(int device, int peer, int *status_out);
const char *ptmlGetErrorCodeToDescription(int result);

#endif
