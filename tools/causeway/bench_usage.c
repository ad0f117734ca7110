/* SPDX-License-Identifier: Apache-2.0 */
/* See bench_usage.h. */
#include "bench_usage.h"

#include <dirent.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Calls visit with the id of each thread of a process. */
static void each_thread(pid_t pid, void (*visit)(void *arg, pid_t pid, pid_t thread), void *arg)
{
	char path[64];
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	folder = opendir(path);
	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			visit(arg, pid, (pid_t)strtol(entry->d_name, NULL, 10));
	if (folder)
		closedir(folder);
}

/* The number behind each "KEY:" of a status file, added up over the keys. */
static uint64_t status_sum(const char *path, const char *const *keys)
{
	FILE *file = fopen(path, "re");
	uint64_t sum = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		for (size_t i = 0; keys[i]; i++)
			if (!strncmp(line, keys[i], strlen(keys[i])))
				sum += strtoull(line + strlen(keys[i]), NULL, 10);
	if (file)
		fclose(file);
	return sum;
}

static void add_switches(void *arg, pid_t pid, pid_t thread)
{
	static const char *const keys[] = { "voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:", NULL };
	struct bench_usage *usage = arg;
	char path[96];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)thread);
	usage->switches += status_sum(path, keys);
}

static struct bench_usage usage_now(const struct bench_meter *meter)
{
	static const char *const resident[] = { "VmRSS:", NULL };
	struct bench_usage usage = { .calls = 0 };

	for (size_t i = 0; i < meter->count; i++) {
		struct timespec used = { 0 };
		clockid_t clock;
		char path[64];

		if (clock_getcpuclockid(meter->pids[i], &clock) == 0 && clock_gettime(clock, &used) == 0)
			usage.cpu_seconds += (double)used.tv_sec + (double)used.tv_nsec / 1e9;
		each_thread(meter->pids[i], add_switches, &usage);
		snprintf(path, sizeof(path), "/proc/%d/status", (int)meter->pids[i]);
		usage.resident_mib += (double)status_sum(path, resident) / 1024;
	}
	return usage;
}

/* The kernel's number of the tracepoint; 0 when it will not tell. */
static uint64_t tracepoint(void)
{
	static const char *const paths[] = { "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
					     "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id" };
	char text[32] = "0";

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		FILE *file = fopen(paths[i], "re");

		if (!file)
			continue;
		if (!fgets(text, sizeof(text), file))
			text[0] = '\0';
		fclose(file);
		break;
	}
	return strtoull(text, NULL, 10);
}

static void open_counter(void *arg, pid_t pid, pid_t thread)
{
	struct bench_meter *meter = arg;
	struct perf_event_attr attributes = { .type = PERF_TYPE_TRACEPOINT,
					      .size = sizeof(attributes),
					      .config = tracepoint() };
	int counter = -1;

	(void)pid;
	if (attributes.config && meter->counter_count < BENCH_THREADS_MAX)
		counter = (int)syscall(SYS_perf_event_open, &attributes, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
	/* A thread that is not counted makes the sum worthless. */
	if (counter < 0)
		meter->count_calls = 0;
	else
		meter->counters[meter->counter_count++] = counter;
}

void bench_meter_start(struct bench_meter *meter)
{
	meter->counter_count = 0;
	for (size_t i = 0; i < meter->count && meter->count_calls; i++)
		each_thread(meter->pids[i], open_counter, meter);
	meter->before = usage_now(meter);
}

void bench_meter_stop(struct bench_meter *meter, struct bench_usage *usage_out)
{
	struct bench_usage usage;
	uint64_t calls = 0;

	for (size_t i = 0; i < meter->counter_count; i++) {
		uint64_t value;

		if (read(meter->counters[i], &value, sizeof(value)) == (ssize_t)sizeof(value))
			calls += value;
		else
			meter->count_calls = 0;
		close(meter->counters[i]);
	}
	meter->counter_count = 0;
	usage = usage_now(meter);
	usage.cpu_seconds -= meter->before.cpu_seconds;
	usage.switches -= meter->before.switches;
	usage.calls = meter->count_calls ? calls : UINT64_MAX;
	*usage_out = usage;
}
