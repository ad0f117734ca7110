/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Platform `host`: ordinary memory. Which NUMA node a range is on (move_pages(2), asked for a sample of its pages),
 * whether it is mapped at all (mincore(2)) and can be touched, and allocation of memory that peers on this machine can
 * map: a memfd that is filled and sealed against shrinking before anybody else sees it, so that touching it can never
 * raise SIGBUS.
 */
#include <causeway/plugin.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <util/clock.h>

#define SAMPLES 64u        /* pages whose node is asked for */
#define PROBE_PAGES 16384u /* pages looked at by one mincore() */
#define HUGE_PAGE (2u << 20)

#define COLLAPSE_STEP (16u << 20)
#define COLLAPSE_PATIENCE (200 * CW__MS) /* for a step, which takes 10 ms where pages are to be had */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

struct host_platform {
	struct cw_host *host;
	uint64_t page;
};

static int host_open(struct cw_host *host, void **platform_out, const char **why_out)
{
	struct host_platform *platform = malloc(sizeof(*platform));

	if (!platform) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	platform->host = host;
	platform->page = (uint64_t)sysconf(_SC_PAGESIZE);
	*platform_out = platform;
	return CW_OK;
}

static void host_close(void *platform)
{
	free(platform);
}

/* ENOMEM from mincore() means that some page of the range is not mapped. */
static int is_mapped(const struct host_platform *platform, uint64_t from, uint64_t to)
{
	unsigned char resident[PROBE_PAGES];
	uint64_t step = PROBE_PAGES * platform->page;

	for (uint64_t at = from - from % platform->page; at < to; at += step) {
		uint64_t length = to - at < step ? to - at : step;

		if (mincore((void *)(uintptr_t)at, length, resident) && errno == ENOMEM)
			return 0;
		if (at > UINT64_MAX - step)
			break;
	}
	return 1;
}

/* Memory of a device whose runtime is not there looks like any other until it is touched. The system is asked to read
 * both ends of it, so that nobody is killed by it; where that is forbidden, nothing is known. */
static int is_readable(uint64_t first, uint64_t last)
{
	char bytes[2];
	struct iovec into = { bytes, 2 };
	struct iovec from[2] = { { (void *)(uintptr_t)first, 1 }, { (void *)(uintptr_t)last, 1 } };
	ssize_t count = process_vm_readv(getpid(), &into, 1, from, 2, 0);

	return count == 2 || (count < 0 && errno != EFAULT);
}

/* Nodes of a sample of the pages. Pages that were never touched have none yet. */
static void find_nodes(const struct host_platform *platform, uint64_t from, uint64_t to, struct cw_memory_info *info)
{
	void *pages[SAMPLES];
	int nodes[SAMPLES];
	uint64_t first = from - from % platform->page, count = (to - first + platform->page - 1) / platform->page;
	unsigned asked = count < SAMPLES ? (unsigned)count : SAMPLES;

	for (unsigned i = 0; i < asked; i++)
		pages[i] = (void *)(uintptr_t)(first + count * i / asked * platform->page);
	if (syscall(SYS_move_pages, 0, (unsigned long)asked, pages, NULL, nodes, 0))
		return;
	for (unsigned i = 0; i < asked; i++) {
		if (nodes[i] < 0)
			continue;
		if (info->numa_node < 0)
			info->numa_node = nodes[i];
		else if (nodes[i] != info->numa_node)
			info->mixed_nodes = 1;
	}
}

static int host_claim(void *state, const void *address, size_t length, struct cw_memory_info *info_out)
{
	const struct host_platform *platform = state;
	uint64_t from = (uint64_t)(uintptr_t)address;

	if (!is_mapped(platform, from, from + length))
		return CW_ERR_INVALID;
	*info_out = (struct cw_memory_info){
		.kind = CW_MEMORY_HOST, .device = -1, .numa_node = -1, .page_size = platform->page
	};
	find_nodes(platform, from, from + length, info_out);
	if (!is_readable(from, from + length - 1))
		return CW_ERR_UNSUPPORTED;
	if (info_out->numa_node < 0)
		snprintf(info_out->location, sizeof(info_out->location), "cpu:*");
	else
		snprintf(info_out->location, sizeof(info_out->location), "cpu:%d", info_out->numa_node);
	return CW_OK;
}

/* "cpu:*" and "cpu:N". *node_out is -1 for any. */
static int parse_location(const char *location, int *node_out)
{
	char *end;
	long node;

	if (strncmp(location, "cpu:", 4))
		return CW_ERR_NOT_FOUND;
	*node_out = -1;
	if (!strcmp(location + 4, "*"))
		return CW_OK;
	errno = 0;
	node = strtol(location + 4, &end, 10);
	if (end == location + 4 || *end || errno || node < 0 || node > 1023)
		return CW_ERR_LOCATION;
	*node_out = (int)node;
	return CW_OK;
}

static int node_exists(int node)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
	return node == 0 || access(path, F_OK) == 0;
}

static int host_location(void *state, const char *location, const struct cw_memory_info *info)
{
	int node, status = parse_location(location, &node);

	(void)state;
	if (status == CW_ERR_NOT_FOUND && info)
		return CW_ERR_LOCATION;
	if (status || node < 0)
		return status;
	if (!info)
		return node_exists(node) ? CW_OK : CW_ERR_NOT_FOUND;
	/* Pages not touched yet will come from where they are used first: no contradiction. */
	return info->numa_node < 0 || info->numa_node == node || info->mixed_nodes ? CW_OK : CW_ERR_LOCATION;
}

static uint64_t free_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long long count = 0;

	if (file) {
		if (fscanf(file, "%llu", &count) != 1)
			count = 0;
		fclose(file);
	}
	return count;
}

static int host_query(void *state, const struct cw_memory_options *options, struct cw_memory_capabilities *out)
{
	uint64_t huge = free_huge_pages();

	(void)state;
	(void)options;
	*out = (struct cw_memory_capabilities){
		.size = sizeof(*out), .can_allocate = 1, .shareable = 1, .huge_pages = huge != 0
	};
	if (!huge)
		snprintf(out->why_not, sizeof(out->why_not), "no free huge pages; see /proc/sys/vm/nr_hugepages");
	return CW_OK;
}

/* What the machine could give, in bytes: memory that is free or can be freed, and free swap. UINT64_MAX = unknown. */
static uint64_t available_memory(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	uint64_t total = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		unsigned long long kib;

		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1 || sscanf(line, "SwapFree: %llu kB", &kib) == 1)
			total += kib * 1024;
	}
	if (file)
		fclose(file);
	return total ? total : UINT64_MAX;
}

/* A sealed memfd of at least length bytes; -1 and errno when it cannot be had. To fill one that is larger than what
 * there is would not fail: the system would kill a process for it, perhaps this one. */
static int make_memfd(size_t length, int huge)
{
	int fd = -1;

	if (huge || length <= available_memory())
		fd = memfd_create("causeway",
				  MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	else
		errno = ENOMEM;
	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)length) || fallocate(fd, 0, 0, (off_t)length) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int cause = errno;

		close(fd);
		errno = cause;
		return -1;
	}
	return fd;
}

static void bind_to_node(void *address, size_t length, int node)
{
	unsigned long mask[16] = { 0 };

	if (node < 0)
		return;
	mask[node / 64] = 1ul << node % 64;
	/* Best effort: on a machine without that much memory there, elsewhere is better than nowhere. */
	syscall(SYS_mbind, address, length, MPOL_BIND, mask, 1024ul, 0);
}

/* Maps fd, or nothing, at a multiple of a huge page, so that huge pages can be used at all. */
static void *map_aligned(size_t length, int flags, int fd)
{
	size_t span = length + HUGE_PAGE;
	unsigned char *start, *aligned, *end;

	if (length < HUGE_PAGE || length > SIZE_MAX - HUGE_PAGE)
		return mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
	start = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return MAP_FAILED;
	aligned = start + (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE;
	if (mmap(aligned, length, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
		munmap(start, span);
		return MAP_FAILED;
	}
	end = aligned + length;
	if (aligned != start)
		munmap(start, (size_t)(aligned - start));
	if (end != start + span)
		munmap(end, (size_t)(start + span - end));
	return aligned;
}

/* Asks for huge pages. Pages of a memfd that is filled already are exchanged, bit by bit, until the system has none
 * left or takes too long to find some. Best effort: what cannot be had is as good as before, only slower. */
static void use_huge_pages(unsigned char *address, size_t length, int shared)
{
	madvise(address, length, MADV_HUGEPAGE);
	for (size_t at = 0; shared && length - at >= HUGE_PAGE;) {
		size_t step = length - at < COLLAPSE_STEP ? (length - at) / HUGE_PAGE * HUGE_PAGE : COLLAPSE_STEP;
		uint64_t before = cw__now();

		if (madvise(address + at, step, MADV_COLLAPSE) || cw__now() - before > COLLAPSE_PATIENCE)
			return;
		at += step;
	}
}

static int try_allocate(size_t length, const struct cw_memory_options *options, int node, int huge,
			struct cw_allocation *allocation)
{
	size_t unit = huge ? HUGE_PAGE : (size_t)sysconf(_SC_PAGESIZE);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : 0), fd = -1;

	if (length > SIZE_MAX - unit)
		return CW_ERR_NO_MEMORY;
	length = (length + unit - 1) / unit * unit;
	if (options->flags & CW_MEMORY_SHAREABLE) {
		fd = make_memfd(length, huge);
		if (fd < 0)
			return CW_ERR_NO_MEMORY;
		flags = MAP_SHARED;
	}
	allocation->address =
		huge ? mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0) : map_aligned(length, flags, fd);
	if (allocation->address == MAP_FAILED) {
		allocation->address = NULL;
		if (fd >= 0)
			close(fd);
		return CW_ERR_NO_MEMORY;
	}
	bind_to_node(allocation->address, length, node);
	if (!huge && (fd >= 0 || options->flags & CW_MEMORY_HUGE))
		use_huge_pages(allocation->address, length, fd >= 0);
	allocation->length = length;
	allocation->share_fd = fd;
	return CW_OK;
}

static int host_allocate(void *state, size_t length, const struct cw_memory_options *options,
			 struct cw_allocation *allocation_out)
{
	struct host_platform *platform = state;
	struct cw_allocation allocation = { .share_fd = -1 };
	int node = -1, status = parse_location(options->location, &node);

	if (!status && options->flags & CW_MEMORY_HUGE && !try_allocate(length, options, node, 1, &allocation)) {
		*allocation_out = allocation;
		return CW_OK;
	}
	if (!status)
		status = try_allocate(length, options, node, 0, &allocation);
	if (status) {
		platform->host->ops->log(platform->host, CW_LOG_WARN, "cannot allocate %zu bytes at %s: %s", length,
					 options->location, strerror(errno));
		return status;
	}
	*allocation_out = allocation;
	return CW_OK;
}

static void host_release(void *state, struct cw_allocation *allocation)
{
	(void)state;
	munmap(allocation->address, allocation->length);
	if (allocation->share_fd >= 0)
		close(allocation->share_fd);
}

extern const struct cw_platform_ops cw_platform_host;
const struct cw_platform_ops cw_platform_host = {
	.abi = CW_PLUGIN_ABI,
	.name = "host",
	.summary = "ordinary memory",
	.open = host_open,
	.close = host_close,
	.claim = host_claim,
	.location = host_location,
	.query = host_query,
	.allocate = host_allocate,
	.release = host_release,
};
