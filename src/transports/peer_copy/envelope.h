/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two engines of one machine say to each other about device memory, as pure functions on bytes: what a region
 * tells everybody (an offer), the two messages of an initiator to the owner (ATTACH, DETACH), and the answer to ATTACH:
 * a vendor's opaque handle in an envelope, so that a handle of one vendor or mode is never taken for another's.
 * Little-endian; docs/peer-copy.md describes each byte. Next: import.c (initiator) and grant.c (owner).
 */
#ifndef CW_TRANSPORTS_PEER_COPY_ENVELOPE_H
#define CW_TRANSPORTS_PEER_COPY_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#define CW__PC_VERSION 1u
#define CW__PC_OFFER_BYTES 8u
#define CW__PC_ATTACH_BYTES 48u
#define CW__PC_DETACH_BYTES 16u
#define CW__PC_ENVELOPE_BYTES 168u
#define CW__PC_INSTANCE_BYTES 16u
#define CW__PC_PCI_BYTES 32u
#define CW__PC_HANDLE_BYTES 64u

/* Flags of an offer. */
#define CW__PC_EXPORTED 1u /* other processes can open it; without it, only engines of the owner's process use it */

struct cw__pc_offer {
	uint16_t vendor; /* enum cw__gpu_vendor */
	uint32_t flags;
};

enum cw__pc_type {
	CW__PC_ATTACH = 1, /* "I am going to use this region": answered by an envelope, or refused */
	CW__PC_DETACH = 2  /* "I do not use it any more", for what ATTACH `number` gave */
};

struct cw__pc_message {
	uint16_t type;
	uint64_t number; /* the initiator's; never used again in the life of its engine */
	/* ATTACH: */
	uint64_t region, key;
	uint32_t pid;   /* of the initiator, and */
	uint64_t start; /* when that process began, in clock ticks since boot: its id may be given to another later */
};

enum cw__pc_mode {
	CW__PC_NONE = 0, /* no handle: the memory is used in the owner's process only */
	CW__PC_IPC = 1   /* of a whole allocation; what it opens is the allocation's start */
};

struct cw__pc_envelope {
	uint16_t vendor;
	uint16_t mode;                                 /* enum cw__pc_mode */
	int32_t device;                                /* the owner's number for it; others go by pci */
	char pci[CW__PC_PCI_BYTES];                    /* NUL-terminated; "" = the vendor does not tell */
	unsigned char instance[CW__PC_INSTANCE_BYTES]; /* of the owner */
	uint32_t pid;                                  /* of the owner */
	uint64_t base, size;     /* of the allocation in the owner's addresses; size 0 = unknown */
	uint64_t offset, length; /* of the region in it; length > 0 */
	unsigned char handle[CW__PC_HANDLE_BYTES];
};

/* All of these return the number of bytes written, or 0 when capacity is too small. */
size_t cw__pc_offer_encode(const struct cw__pc_offer *offer, void *out, size_t capacity);
size_t cw__pc_message_encode(const struct cw__pc_message *message, void *out, size_t capacity);
size_t cw__pc_envelope_encode(const struct cw__pc_envelope *envelope, void *out, size_t capacity);

/* CW_ERR_PROTOCOL for what no correct peer of this version sends: another magic, version, type, mode or length, bytes
 * that should be zero, a PCI id that is no text, a region that is not inside its allocation or wraps around. */
int cw__pc_offer_decode(const void *data, size_t length, struct cw__pc_offer *offer_out);
int cw__pc_message_decode(const void *data, size_t length, struct cw__pc_message *message_out);
int cw__pc_envelope_decode(const void *data, size_t length, struct cw__pc_envelope *envelope_out);

#endif
