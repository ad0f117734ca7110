/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process costs, as the kernel tells it below /proc: memory, descriptors, times that its threads were switched.
 */
#ifndef BENCH_PROCESS_COST_H
#define BENCH_PROCESS_COST_H

#include <dirent.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* What one process costs. KiB. */
struct cost {
	double resident, anonymous, heap, tables;
	unsigned descriptors;
	uint64_t switches;
};

/* The number behind a key in a file of /proc; 0 when it is not there. */
static inline double number_in(const char *path, const char *key)
{
	FILE *file = fopen(path, "r");
	char line[256];
	double value = 0;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key))) {
			value = strtod(line + strlen(key), NULL);
			break;
		}
	if (file)
		fclose(file);
	return value;
}

static inline unsigned entries_of(const char *path)
{
	DIR *folder = opendir(path);
	unsigned count = 0;

	while (folder && readdir(folder))
		count++;
	if (folder)
		closedir(folder);
	return count > 2 ? count - 2 : 0;
}

/* Of all threads. */
static inline uint64_t switches_of(pid_t pid)
{
	char path[320];
	DIR *folder;
	const struct dirent *entry;
	double sum = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/status", (int)pid, entry->d_name);
		sum += number_in(path, "voluntary_ctxt_switches:") + number_in(path, "nonvoluntary_ctxt_switches:");
	}
	if (folder)
		closedir(folder);
	return (uint64_t)sum;
}

static inline struct cost cost_of(pid_t pid)
{
	struct cost cost = { 0 };
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	cost.resident = number_in(path, "Rss:");
	cost.anonymous = number_in(path, "Anonymous:");
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	cost.tables = number_in(path, "VmPTE:");
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	cost.descriptors = entries_of(path);
	cost.switches = switches_of(pid);
	if (pid == getpid()) {
		struct mallinfo2 heap = mallinfo2();

		cost.heap = (double)(heap.uordblks + heap.hblkhd) / 1024;
	}
	return cost;
}

/* Of all sockets of this machine, both ends of ours among them. KiB. */
static inline double socket_buffers(void)
{
	FILE *file = fopen("/proc/net/sockstat", "r");
	char line[256];
	double pages = 0;

	while (file && fgets(line, sizeof(line), file)) {
		const char *mem = strncmp(line, "TCP:", 4) ? NULL : strstr(line, " mem ");

		if (mem)
			pages = strtod(mem + 5, NULL);
	}
	if (file)
		fclose(file);
	return pages * (double)sysconf(_SC_PAGESIZE) / 1024;
}

#endif
