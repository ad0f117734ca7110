/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What processes use while a point is measured: processor time, context switches, system calls, memory. It works for
 * this process and for others of the same user. System calls are counted by the kernel (the tracepoint
 * raw_syscalls:sys_enter), which takes rights that few users have and costs a little for each call.
 */
#ifndef CAUSEWAY_BENCH_USAGE_H
#define CAUSEWAY_BENCH_USAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bench_usage {
	double cpu_seconds;
	uint64_t switches; /* context switches, wanted or not */
	uint64_t calls;    /* system calls; UINT64_MAX = they could not be counted */
	double resident_mib;
};

#define BENCH_PROCESSES_MAX 256
#define BENCH_THREADS_MAX 1024

struct bench_meter {
	pid_t pids[BENCH_PROCESSES_MAX];
	size_t count;
	int count_calls;
	struct bench_usage before;
	int counters[BENCH_THREADS_MAX];
	size_t counter_count;
};

/* Starts to count for all threads that the processes of meter->pids have now. */
void bench_meter_start(struct bench_meter *meter);

/* What they used since. Figures that cannot be had are 0, but for calls. */
void bench_meter_stop(struct bench_meter *meter, struct bench_usage *usage_out);

#endif
