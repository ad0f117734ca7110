/* SPDX-License-Identifier: Apache-2.0 */
/* How a world is made, and what becomes of it while processes come, go and are killed. See world.h. */
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PRIVATE_DEVICES 2
#define PRIVATE_PORTS 4
#define LANE_SPEED 32 /* GT/s */
#define FIRST_BUS 0x10
#define RETRIES 1000 /* times that a file may vanish under us before we give up */

/* A world that this process is in. Freed by cw__world_leave(). */
struct membership {
	struct membership *next;
	struct cw__world *world;
	pid_t pid; /* who joined: not a child that was forked later */
	int fd;    /* holds the lock; -1 = a private world */
	char path[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards memberships */
static struct membership *memberships;

/* ------------------------------------------------------------------------------------------- building */

void cw__world_devices(struct cw__world *world, unsigned devices)
{
	world->magic = CW__WORLD_MAGIC;
	world->version = CW__WORLD_VERSION;
	world->size = sizeof(*world);
	world->device_count = devices < CW__WORLD_DEVICES ? devices : CW__WORLD_DEVICES;
	for (unsigned i = 0; i < world->device_count; i++) {
		struct cw__world_device *device = &world->devices[i];

		device->chip = i;
		device->numa = i < (world->device_count + 1) / 2 ? 0 : 1;
		device->pci_bus = FIRST_BUS + i;
		/* A random-looking but constant one, marked as version 4. */
		for (unsigned byte = 0; byte < sizeof(device->uuid); byte++)
			device->uuid[byte] = (unsigned char)((i + 1) * 0x9d + byte * 0x47);
		device->uuid[6] = (unsigned char)((device->uuid[6] & 0x0f) | 0x40);
		device->uuid[8] = (unsigned char)((device->uuid[8] & 0x3f) | 0x80);
		device->memory = CW__WORLD_MEMORY;
		device->inside.bandwidth = CW__WORLD_INSIDE_BANDWIDTH;
		device->from_host.bandwidth = CW__WORLD_HOST_BANDWIDTH;
		device->to_host.bandwidth = CW__WORLD_HOST_BANDWIDTH;
		for (unsigned port = 0; port < CW__WORLD_PORTS; port++)
			device->ports[port] = (struct cw__world_port){ -1, -1, -1, 0 };
	}
}

/* The port if it is free, or the lowest free one for -1; -1 when there is none. */
static int free_port(const struct cw__world_device *device, int port)
{
	for (int i = port < 0 ? 0 : port; i < CW__WORLD_PORTS; i++) {
		if (device->ports[i].link < 0)
			return i;
		if (port >= 0)
			break;
	}
	return -1;
}

int cw__world_link(struct cw__world *world, int device, int port, int peer, int peer_port, uint64_t bandwidth,
		   uint64_t latency)
{
	const int devices = (int)world->device_count, index = (int)world->link_count;
	struct cw__world_link *link;

	if (device < 0 || device >= devices || peer < 0 || peer >= devices || device == peer ||
	    index >= CW__WORLD_LINKS)
		return -1;
	port = free_port(&world->devices[device], port);
	peer_port = free_port(&world->devices[peer], peer_port);
	if (port < 0 || peer_port < 0)
		return -1;
	link = &world->links[world->link_count++];
	link->device[0] = device;
	link->device[1] = peer;
	link->port[0] = port;
	link->port[1] = peer_port;
	atomic_store_explicit(&link->up, 1, memory_order_relaxed);
	link->speed = LANE_SPEED;
	for (int end = 0; end < 2; end++) {
		link->lane[end].bandwidth = bandwidth;
		link->lane[end].latency = latency;
		world->devices[link->device[end]].access |= 1ULL << link->device[!end];
		world->devices[link->device[end]].ports[link->port[end]] =
			(struct cw__world_port){ link->device[!end], link->port[!end], index, end };
	}
	return index;
}

void cw__world_fill(struct cw__world *world, unsigned devices, unsigned ports)
{
	cw__world_devices(world, devices);
	for (unsigned round = 0; round < ports && round < CW__WORLD_PORTS; round++)
		for (int a = 0; a < (int)world->device_count; a++)
			for (int b = a + 1; b < (int)world->device_count; b++)
				cw__world_link(world, a, -1, b, -1, CW__WORLD_LINK_BANDWIDTH, 0);
	snprintf(world->topology, sizeof(world->topology), "mesh");
}

/* ---------------------------------------------------------------------------------------------- seats */

uint64_t cw__world_start_time(int pid)
{
	char path[32], text[1024], *at;
	unsigned long long start = 0;
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[length > 0 ? length : 0] = '\0';
	/* The name in parentheses may contain anything; the state after it is field 3, the start time field 22. */
	at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at || sscanf(at, " %llu", &start) != 1)
		return 0;
	return start;
}

/* A seat whose start time is 0 is being taken: its process counts as the one it was. */
static int seat_is_dead(const struct cw__world_seat *seat, int pid)
{
	uint64_t then = atomic_load_explicit(&seat->start, memory_order_acquire), now;

	if (kill(pid, 0) && errno == ESRCH)
		return 1;
	now = cw__world_start_time(pid);
	return now && then && now != then;
}

unsigned cw__world_sweep(struct cw__world *world)
{
	unsigned left = 0;

	for (unsigned i = 0; i < CW__WORLD_PROCESSES; i++) {
		struct cw__world_seat *seat = &world->seats[i];
		int32_t pid = atomic_load_explicit(&seat->pid, memory_order_acquire);

		if (!pid)
			continue;
		if (!seat_is_dead(seat, pid)) {
			left++;
			continue;
		}
		/* All of it before the seat is free, so that whoever takes it next is not measured by what the dead
		 * left. Should somebody have swept it and another one taken it just now, that one's bytes are counted
		 * short and its process is known by its number alone. */
		for (unsigned device = 0; device < CW__WORLD_DEVICES; device++)
			atomic_store_explicit(&seat->used[device], 0, memory_order_relaxed);
		atomic_store_explicit(&seat->start, 0, memory_order_release);
		atomic_compare_exchange_strong_explicit(&seat->pid, &pid, 0, memory_order_acq_rel,
							memory_order_acquire);
	}
	return left;
}

static struct cw__world_seat *take_seat(struct cw__world *world)
{
	for (unsigned i = 0; i < CW__WORLD_PROCESSES; i++) {
		struct cw__world_seat *seat = &world->seats[i];
		int32_t nobody = 0;

		if (!atomic_compare_exchange_strong_explicit(&seat->pid, &nobody, (int32_t)getpid(),
							     memory_order_acq_rel, memory_order_acquire))
			continue;
		for (unsigned device = 0; device < CW__WORLD_DEVICES; device++)
			atomic_store_explicit(&seat->used[device], 0, memory_order_relaxed);
		atomic_store_explicit(&seat->start, cw__world_start_time(getpid()), memory_order_release);
		return seat;
	}
	return NULL;
}

static void free_seat(struct cw__world_seat *seat)
{
	for (unsigned device = 0; device < CW__WORLD_DEVICES; device++)
		atomic_store_explicit(&seat->used[device], 0, memory_order_relaxed);
	atomic_store_explicit(&seat->start, 0, memory_order_relaxed);
	atomic_store_explicit(&seat->pid, 0, memory_order_release);
}

/* ----------------------------------------------------------------------------------------------- file */

static int lock_file(int fd, int how)
{
	int failed;

	do
		failed = flock(fd, how);
	while (failed && errno == EINTR);
	return failed;
}

/* Does the path still name the file that we opened? It may have been removed, and made anew, before we had the lock. */
static int is_named(int fd, const char *path)
{
	struct stat here, there;

	return fstat(fd, &here) == 0 && lstat(path, &there) == 0 && here.st_dev == there.st_dev &&
	       here.st_ino == there.st_ino;
}

static int is_ours(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid();
}

static int is_filled(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && status.st_size > 0;
}

static struct cw__world *map_file(int fd)
{
	void *mapped = mmap(NULL, sizeof(struct cw__world), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return mapped == MAP_FAILED ? NULL : mapped;
}

/* Maps a file that is locked, if it is a world that we understand. */
static struct cw__world *map_world(int fd, const char *path, char *why, size_t why_size)
{
	struct cw__world *world;
	struct stat status;

	if (fstat(fd, &status) || status.st_size != (off_t)sizeof(*world)) {
		snprintf(why, why_size, "%s is no emulated world, or one of another version", path);
		return NULL;
	}
	world = map_file(fd);
	if (!world) {
		snprintf(why, why_size, "%s: %s", path, strerror(errno));
		return NULL;
	}
	if (world->magic == CW__WORLD_MAGIC && world->version == CW__WORLD_VERSION && world->size == sizeof(*world) &&
	    world->device_count <= CW__WORLD_DEVICES && world->link_count <= CW__WORLD_LINKS)
		return world;
	munmap(world, sizeof(*world));
	snprintf(why, why_size, "%s is no emulated world, or one of another version", path);
	return NULL;
}

/* Opens and locks: exclusively when nobody uses it and that is asked for (*alone_out), else shared. -1 with why; -2 =
 * there is none, -3 = it vanished meanwhile: try again. */
static int open_locked(const char *path, int create, int *alone_out, char *why, size_t why_size)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);

	*alone_out = 0;
	if (fd < 0) {
		int missing = errno == ENOENT;

		snprintf(why, why_size, "%s: %s", path, missing ? "there is no such emulated world" : strerror(errno));
		return missing ? -2 : -1;
	}
	if (!is_ours(fd)) {
		snprintf(why, why_size, "%s belongs to somebody else", path);
		close(fd);
		return -1;
	}
	if (create && lock_file(fd, LOCK_EX | LOCK_NB) == 0) {
		*alone_out = 1;
	} else if (lock_file(fd, LOCK_SH)) {
		snprintf(why, why_size, "%s: cannot be locked: %s", path, strerror(errno));
		close(fd);
		return -1;
	}
	if (is_named(fd, path))
		return fd;
	close(fd);
	return -3;
}

/* ---------------------------------------------------------------------------------------------- sysfs */

/* What sysfs would say about the devices is in a folder beside the file: "~" is in no name of a world. */
static int sysfs_of(const char *path, char *folder, size_t size)
{
	return snprintf(folder, size, "%s~sys", path) < (int)size ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	(void)status;
	(void)kind;
	(void)place;
	remove(path);
	return 0;
}

static void remove_sysfs(const char *path)
{
	char folder[512];

	if (sysfs_of(path, folder, sizeof(folder)) == 0)
		nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Nobody depends on it: what is not there is not known. */
static void make_sysfs(const char *path, const struct cw__world *world)
{
	static const char *const parents[] = { "", "/bus", "/bus/pci", "/bus/pci/devices" };
	char folder[512], name[600];

	if (sysfs_of(path, folder, sizeof(folder)))
		return;
	remove_sysfs(path);
	for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", folder, parents[i]);
		if (mkdir(name, 0700))
			return;
	}
	for (unsigned i = 0; i < world->device_count; i++) {
		const struct cw__world_device *device = &world->devices[i];
		size_t length =
			(size_t)snprintf(name, sizeof(name), "%s/bus/pci/devices/%04x:%02x:%02x.%x", folder,
					 device->pci_domain, device->pci_bus, device->pci_device, device->pci_function);
		FILE *file;

		mkdir(name, 0700);
		snprintf(name + length, sizeof(name) - length, "/numa_node");
		file = fopen(name, "we");
		if (!file)
			return;
		fprintf(file, "%d\n", device->numa);
		fclose(file);
	}
}

/* Writes a new world into a file that we have for ourselves; whatever was in it is of dead processes. */
static int fill_file(int fd, const char *path, const struct cw__world *wanted, char *why, size_t why_size)
{
	struct cw__world *world = NULL;

	if (ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)sizeof(*wanted)) == 0)
		world = map_file(fd);
	if (!world) {
		snprintf(why, why_size, "%s: %s", path, strerror(errno));
		return -1;
	}
	memcpy((void *)world, (const void *)wanted, sizeof(*wanted));
	munmap(world, sizeof(*world));
	make_sysfs(path, wanted);
	return 0;
}

/* -------------------------------------------------------------------------------------------- members */

/* Takes over fd and world. */
static struct cw__world *remember(struct cw__world *world, int fd, const char *path, char *why, size_t why_size)
{
	struct membership *membership = calloc(1, sizeof(*membership) + strlen(path) + 1);

	if (!membership) {
		snprintf(why, why_size, "out of memory");
		munmap(world, sizeof(*world));
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	membership->world = world;
	membership->pid = getpid();
	membership->fd = fd;
	memcpy(membership->path, path, strlen(path) + 1);
	pthread_mutex_lock(&lock);
	membership->next = memberships;
	memberships = membership;
	pthread_mutex_unlock(&lock);
	return world;
}

static struct cw__world *make_private(char *why, size_t why_size)
{
	struct cw__world *world =
		mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (world == MAP_FAILED) {
		snprintf(why, why_size, "out of memory");
		return NULL;
	}
	cw__world_fill(world, PRIVATE_DEVICES, PRIVATE_PORTS);
	snprintf(world->name, sizeof(world->name), "private");
	return remember(world, -1, "", why, why_size);
}

/* One attempt: the world, or NULL with *status_out as from open_locked(). */
static struct cw__world *try_hold(const char *path, const struct cw__world *wanted, int *made_out, int *status_out,
				  char *why, size_t why_size)
{
	struct cw__world *world;
	int alone, fd = open_locked(path, wanted != NULL, &alone, why, why_size);

	*made_out = 0;
	*status_out = fd;
	if (fd < 0)
		return NULL;
	*status_out = -1;
	if (alone) {
		if (fill_file(fd, path, wanted, why, why_size)) {
			unlink(path);
			close(fd);
			return NULL;
		}
		*made_out = 1;
		/* The change of the lock is not atomic: somebody may remove the file in between, or even use it. */
		if (lock_file(fd, LOCK_SH) || !is_named(fd, path)) {
			*status_out = -3;
			close(fd);
			return NULL;
		}
	} else if (wanted && !is_filled(fd)) {
		/* Its maker died, or somebody looks whether it is used: nobody will fill it but we. */
		*status_out = -3;
		close(fd);
		return NULL;
	}
	world = map_world(fd, path, why, why_size);
	if (!world) {
		close(fd);
		return NULL;
	}
	return remember(world, fd, path, why, why_size);
}

struct cw__world *cw__world_hold(const char *path, const struct cw__world *wanted, int *made_out, char *why,
				 size_t why_size)
{
	for (int i = 0; i < RETRIES; i++) {
		int status;
		struct cw__world *world = try_hold(path, wanted, made_out, &status, why, why_size);

		if (world || status != -3)
			return world;
		sched_yield();
	}
	snprintf(why, why_size, "%s comes and goes", path);
	return NULL;
}

struct cw__world *cw__world_join(const char *path, struct cw__world_seat **seat_out, char *why, size_t why_size)
{
	int made;
	struct cw__world *world = path ? cw__world_hold(path, NULL, &made, why, why_size) : make_private(why, why_size);

	if (!world)
		return NULL;
	cw__world_sweep(world);
	*seat_out = take_seat(world);
	if (*seat_out)
		return world;
	snprintf(why, why_size, "%s: %d processes are in this world already", path, CW__WORLD_PROCESSES);
	cw__world_leave(world, NULL);
	return NULL;
}

/* Removes the file when it can be locked exclusively: then no one is in it, and who comes now finds that the path does
 * not name it any more. Our own lock is lost either way. */
static void remove_unused(int fd, const char *path)
{
	if (lock_file(fd, LOCK_EX | LOCK_NB) || !is_named(fd, path))
		return;
	remove_sysfs(path);
	unlink(path);
}

void cw__world_leave(struct cw__world *world, struct cw__world_seat *seat)
{
	struct membership **at = &memberships, *membership;
	int forked;

	if (!world)
		return;
	pthread_mutex_lock(&lock);
	while (*at && (*at)->world != world)
		at = &(*at)->next;
	membership = *at;
	if (membership)
		*at = membership->next;
	pthread_mutex_unlock(&lock);
	if (!membership)
		return;
	/* A forked child shares seat and lock with its parent, whose they are. */
	forked = membership->pid != getpid();
	if (seat && !forked)
		free_seat(seat);
	if (membership->fd >= 0) {
		if (!forked)
			remove_unused(membership->fd, membership->path);
		close(membership->fd);
	}
	free(membership);
}

void cw__world_sweep_files(const char *folder, const char *prefix)
{
	DIR *directory = opendir(folder);
	struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		char path[512];
		int fd;

		if (strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >= (int)sizeof(path))
			continue;
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (is_ours(fd))
			remove_unused(fd, path);
		close(fd);
	}
	if (directory)
		closedir(directory);
}
