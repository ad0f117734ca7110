/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building, joining and leaving an emulated world; see world.h.
 */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PRIVATE_DEVICES 2
#define PRIVATE_PORTS 4
#define DEVICE_MEMORY (16ULL << 30)

int cw__world_link(struct cw__world *world, int device, int port, int peer, int peer_port, uint64_t bandwidth,
		   uint64_t latency)
{
	const int ends[2] = { device, peer };
	int chosen[2] = { port, peer_port };

	if (device == peer || world->link_count >= CW__WORLD_LINKS)
		return -1;
	for (int e = 0; e < 2; e++) {
		struct cw__world_port *ports;

		if (ends[e] < 0 || (uint32_t)ends[e] >= world->device_count)
			return -1;
		ports = world->devices[ends[e]].ports;
		if (chosen[e] < 0) {
			chosen[e] = 0;
			while (chosen[e] < CW__WORLD_PORTS && ports[chosen[e]].link >= 0)
				chosen[e]++;
		}
		if (chosen[e] >= CW__WORLD_PORTS || ports[chosen[e]].link >= 0)
			return -1;
	}

	const int index = (int)world->link_count++;
	struct cw__world_link *link = &world->links[index];

	atomic_init(&link->up, 1);
	for (int e = 0; e < 2; e++) {
		link->device[e] = ends[e];
		link->port[e] = chosen[e];
		link->lane[e].bandwidth = bandwidth;
		link->lane[e].latency = latency;
		world->devices[ends[e]].ports[chosen[e]] = (struct cw__world_port){
			.peer = ends[1 - e], .peer_port = chosen[1 - e], .link = index, .end = e
		};
	}
	return index;
}

void cw__world_fill(struct cw__world *world, unsigned devices, unsigned ports)
{
	if (devices > CW__WORLD_DEVICES)
		devices = CW__WORLD_DEVICES;
	world->magic = CW__WORLD_MAGIC;
	world->version = CW__WORLD_VERSION;
	world->size = sizeof(*world);
	world->device_count = devices;
	for (unsigned d = 0; d < devices; d++) {
		struct cw__world_device *device = &world->devices[d];

		device->chip = d;
		device->numa = -1;
		device->pci_bus = 0x10 + d;
		device->memory = DEVICE_MEMORY;
		memcpy(device->uuid, "causeway-device", 15);
		device->uuid[15] = (unsigned char)d;
		for (int p = 0; p < CW__WORLD_PORTS; p++)
			device->ports[p] = (struct cw__world_port){ -1, -1, -1, 0 };
	}
	for (unsigned p = 0; p < ports; p++) {
		for (unsigned a = 0; a < devices; a++) {
			for (unsigned b = a + 1; b < devices; b++)
				cw__world_link(world, (int)a, -1, (int)b, -1, 0, 0);
		}
	}
	snprintf(world->topology, sizeof(world->topology), "mesh");
}

uint64_t cw__world_start_time(int pid)
{
	char path[64], text[1024];
	unsigned long long start = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';

	/* The name may hold anything; the last ')' ends it. The start time is the 22nd field. */
	const char *at = strrchr(text, ')');

	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at || sscanf(at + 1, "%llu", &start) != 1)
		return 0;
	return start;
}

unsigned cw__world_sweep(struct cw__world *world)
{
	unsigned left = 0;

	for (int i = 0; i < CW__WORLD_PROCESSES; i++) {
		struct cw__world_seat *seat = &world->seats[i];
		int32_t pid = atomic_load_explicit(&seat->pid, memory_order_acquire);

		if (!pid)
			continue;

		/* One who has just sat down has not written its start time yet. */
		const uint64_t now = cw__world_start_time(pid);
		const uint64_t then = atomic_load_explicit(&seat->start, memory_order_acquire);

		if (now && (!then || now == then)) {
			left++;
			continue;
		}
		for (int d = 0; d < CW__WORLD_DEVICES; d++)
			atomic_store_explicit(&seat->used[d], 0, memory_order_relaxed);
		atomic_store_explicit(&seat->start, 0, memory_order_relaxed);
		atomic_compare_exchange_strong(&seat->pid, &pid, 0);
	}
	return left;
}

static struct cw__world_seat *take_seat(struct cw__world *world)
{
	const int32_t self = (int32_t)getpid();

	for (int i = 0; i < CW__WORLD_PROCESSES; i++) {
		int32_t nobody = 0;

		if (!atomic_compare_exchange_strong(&world->seats[i].pid, &nobody, self))
			continue;
		atomic_store_explicit(&world->seats[i].start, cw__world_start_time(self), memory_order_release);
		return &world->seats[i];
	}
	return NULL;
}

static struct cw__world *map_file(const char *path, char *why, size_t why_size)
{
	struct cw__world *world;
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st)) {
		snprintf(why, why_size, "the emulated world %s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	world = (size_t)st.st_size == sizeof(*world)
			? mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
			: MAP_FAILED;
	close(fd);
	if (world == MAP_FAILED) {
		snprintf(why, why_size, "the emulated world %s is of another version", path);
		return NULL;
	}
	if (world->magic != CW__WORLD_MAGIC || world->version != CW__WORLD_VERSION || world->size != sizeof(*world) ||
	    world->device_count > CW__WORLD_DEVICES || world->link_count > CW__WORLD_LINKS) {
		snprintf(why, why_size, "the emulated world %s is of another version", path);
		munmap(world, sizeof(*world));
		return NULL;
	}
	return world;
}

struct cw__world *cw__world_join(const char *path, struct cw__world_seat **seat_out, char *why, size_t why_size)
{
	struct cw__world *world;
	struct cw__world_seat *seat;

	if (path) {
		world = map_file(path, why, why_size);
		if (!world)
			return NULL;
		cw__world_sweep(world);
	} else {
		world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (world == MAP_FAILED) {
			snprintf(why, why_size, "no memory for an emulated world");
			return NULL;
		}
		cw__world_fill(world, PRIVATE_DEVICES, PRIVATE_PORTS);
	}
	seat = take_seat(world);
	if (!seat) {
		snprintf(why, why_size, "the emulated world %s is full", path ? path : "");
		munmap(world, sizeof(*world));
		return NULL;
	}
	*seat_out = seat;
	return world;
}

void cw__world_leave(struct cw__world *world, struct cw__world_seat *seat)
{
	for (int d = 0; d < CW__WORLD_DEVICES; d++)
		atomic_store_explicit(&seat->used[d], 0, memory_order_relaxed);
	atomic_store_explicit(&seat->start, 0, memory_order_relaxed);
	atomic_store_explicit(&seat->pid, 0, memory_order_release);
	munmap(world, sizeof(*world));
}
