/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all processes of an emulated world share: its devices, the links between them, who is in it, and the clocks of
 * whatever can be busy. One file in /dev/shm, mapped by everybody, without locks: what is fixed at creation is plain,
 * what changes is atomic. Device memory itself is not here; it belongs to the process that allocated it (memory.h).
 *
 * CAUSEWAY_EMULATE_WORLD names the file. Without it a process has a private world of its own.
 */
#ifndef CW_EMULATORS_WORLD_H
#define CW_EMULATORS_WORLD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define CW__WORLD_MAGIC 0x444c524f57455743ULL /* "CWEWORLD" */
#define CW__WORLD_VERSION 1
#define CW__WORLD_DEVICES 64
#define CW__WORLD_PORTS 10 /* of one device; as many as PTML reports */
#define CW__WORLD_LINKS (CW__WORLD_DEVICES * CW__WORLD_PORTS / 2)
#define CW__WORLD_PROCESSES 256
#define CW__WORLD_NAME 64
#define CW__WORLD_PARAMETERS 512

/* Which runtimes see the devices of the world: bits of cw__world.vendors. */
enum cw__world_vendor { CW__WORLD_SUNRISE = 1, CW__WORLD_CUDA = 2 };

/* Something that carries one copy at a time, in turn. Bandwidths of 0 take no time. */
struct cw__world_lane {
	uint64_t bandwidth;             /* bytes per second */
	uint64_t latency;               /* ns, added to every copy */
	_Atomic uint64_t busy_until;    /* ns of CLOCK_MONOTONIC */
	_Atomic uint64_t bytes, copies; /* carried so far; counted with and without timing */
};

/* One end of a link, seen from its device. */
struct cw__world_port {
	int32_t peer; /* device at the other end; -1 = nothing is connected */
	int32_t peer_port;
	int32_t link; /* index in cw__world.links; -1 = nothing is connected */
	int32_t end;  /* which end of the link this is, 0 or 1 */
};

struct cw__world_link {
	int32_t device[2], port[2]; /* its two ends */
	_Atomic uint32_t up;
	uint32_t speed;                /* GT/s of one lane, for reports only */
	struct cw__world_lane lane[2]; /* lane[e] carries bytes away from end e */
};

struct cw__world_device {
	uint32_t chip; /* its id in the link topology; need not be its index; below 255 */
	int32_t numa;  /* -1 = unknown */
	uint32_t pci_domain, pci_bus, pci_device, pci_function;
	unsigned char uuid[16];
	uint64_t memory;          /* bytes */
	uint64_t access;          /* bit d: it may reach memory of device d, besides its own */
	_Atomic uint32_t removed; /* lost: every call on it fails from now on */
	uint32_t reserved;
	struct cw__world_lane inside, from_host, to_host; /* copies within it, from and to the host */
	struct cw__world_port ports[CW__WORLD_PORTS];
};

/* One process of the world. Free when pid is 0; whoever finds one whose process is dead may sweep it. */
struct cw__world_seat {
	_Atomic int32_t pid;
	uint32_t reserved;
	_Atomic uint64_t start;                   /* start time of the process as in /proc/<pid>/stat */
	_Atomic uint64_t used[CW__WORLD_DEVICES]; /* bytes that it has allocated on each device */
};

struct cw__world {
	uint64_t magic;
	uint32_t version, size; /* size of the file */
	uint32_t vendors;       /* 0 = all */
	uint32_t device_count, link_count;
	uint32_t timing; /* 1 = copies take the time that lanes say */
	char name[CW__WORLD_NAME], topology[CW__WORLD_NAME];
	char parameters[CW__WORLD_PARAMETERS]; /* what it was made from: "devices=8 topology=mesh", for people */
	_Atomic uint64_t serial;               /* the last serial number given to an allocation */
	struct cw__world_device devices[CW__WORLD_DEVICES];
	struct cw__world_link links[CW__WORLD_LINKS];
	struct cw__world_seat seats[CW__WORLD_PROCESSES];
};

_Static_assert(sizeof(struct cw__world_lane) == 40, "shared between builds");
_Static_assert(sizeof(struct cw__world_port) == 16, "shared between builds");
_Static_assert(sizeof(struct cw__world_link) == 104, "shared between builds");
_Static_assert(sizeof(struct cw__world_device) == 344, "shared between builds");

/* What devices and links are said to do when nobody says otherwise; bytes a second. */
#define CW__WORLD_LINK_BANDWIDTH 25000000000ULL
#define CW__WORLD_INSIDE_BANDWIDTH 400000000000ULL
#define CW__WORLD_HOST_BANDWIDTH 25000000000ULL
#define CW__WORLD_MEMORY (16ULL << 30)

/* Makes so many ordinary devices without links: chip = index, half of them on each of two NUMA nodes. The caller gives
 * zeroed room. For building a world, before it is shared; so are the next two. */
void cw__world_devices(struct cw__world *world, unsigned devices);

/* Links two free ports of two devices (the lowest free ones when port < 0), which may then access each other; both
 * lanes get the bandwidth and latency. The index of the link, or -1: no such device, or the port is not free. */
int cw__world_link(struct cw__world *world, int device, int port, int peer, int peer_port, uint64_t bandwidth,
		   uint64_t latency);

/* A world with so many devices, each of them linked to each other one by up to `ports` ports, without timing. The
 * caller gives zeroed room. */
void cw__world_fill(struct cw__world *world, unsigned devices, unsigned ports);

/* Maps the world and takes a seat in it; with path NULL, a private world in memory of this process. NULL with a line in
 * why when there is no such world, it is of another version, or it is full. Everybody who is in a world holds a shared
 * flock(2) on its file, so a world that can be locked exclusively is used by nobody. */
struct cw__world *cw__world_join(const char *path, struct cw__world_seat **seat_out, char *why, size_t why_size);
/* As join, but without a seat, and for the one who makes worlds: when nobody uses the one at path, or there is none, a
 * new one like `wanted` takes its place and *made_out is 1. What uses it already stays as it is. */
struct cw__world *cw__world_hold(const char *path, const struct cw__world *wanted, int *made_out, char *why,
				 size_t why_size);
/* Gives the seat (which may be NULL) back; removes the file when nobody is left. Does neither in a process that was
 * forked after joining. The mapping stays: threads of a process that is ending may still use it. */
void cw__world_leave(struct cw__world *world, struct cw__world_seat *seat);
/* Frees the seats of processes that are dead. How many are left. */
unsigned cw__world_sweep(struct cw__world *world);
/* Removes the files in folder whose name begins with prefix and that nobody uses: their processes were killed. */
void cw__world_sweep_files(const char *folder, const char *prefix);
/* The start time of a process, 0 when there is none. */
uint64_t cw__world_start_time(int pid);

#endif
