/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock, the latencies of single batches, and the line of JSON that every program of the benchmark prints.
 */
#include "bare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_MAX (1u << 20) /* of one thread; later ones take the place of the first */

struct thread_record {
	_Alignas(64) uint32_t *samples;
	size_t room;
	uint64_t count, calls, last;
};

struct bare_recorder {
	size_t threads;
	uint64_t begin, end, length;
	struct thread_record records[THREADS_MAX];
};

uint64_t bare_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct bare_recorder *recorder_new(size_t threads, double seconds)
{
	struct bare_recorder *recorder = aligned_alloc(64, sizeof(*recorder));

	if (!recorder)
		bare_fail("malloc");
	memset(recorder, 0, sizeof(*recorder));
	recorder->threads = threads;
	recorder->length = (uint64_t)(seconds * 1e9);
	for (size_t i = 0; i < threads; i++) {
		struct thread_record *record = &recorder->records[i];

		record->room = SAMPLES_MAX / threads;
		record->samples = malloc(record->room * sizeof(uint32_t));
		if (!record->samples)
			bare_fail("malloc");
		memset(record->samples, 0, record->room * sizeof(uint32_t));
	}
	return recorder;
}

void recorder_free(struct bare_recorder *recorder)
{
	for (size_t i = 0; i < recorder->threads; i++)
		free(recorder->records[i].samples);
	free(recorder);
}

uint64_t recorder_start(struct bare_recorder *recorder)
{
	recorder->begin = bare_now();
	recorder->end = recorder->begin + recorder->length;
	return recorder->begin;
}

int bare_time_is_up(const struct bare_run *run, uint64_t now)
{
	return now >= run->recorder->end;
}

void bare_record(struct bare_run *run, size_t thread, size_t channel, uint64_t nanoseconds, uint64_t last)
{
	struct thread_record *record = &run->recorder->records[thread];
	_Atomic uint64_t *completed = &run->shared->completed[channel];

	record->samples[record->count++ % record->room] =
		(uint32_t)(nanoseconds < UINT32_MAX ? nanoseconds : UINT32_MAX);
	record->last = last;
	/* Only this thread writes it. */
	atomic_store_explicit(completed, atomic_load_explicit(completed, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

void bare_count_calls(struct bare_run *run, size_t thread, uint64_t calls)
{
	run->recorder->records[thread].calls += calls;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double resident_mib(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (file && fscanf(file, "%*u %lu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

void recorder_figures(struct bare_recorder *recorder, struct bare_figures *figures)
{
	uint32_t *all = malloc(SAMPLES_MAX * sizeof(*all));
	uint64_t last = recorder->begin + 1;
	size_t count = 0;

	if (!all)
		bare_fail("malloc");
	for (size_t i = 0; i < recorder->threads; i++) {
		struct thread_record *record = &recorder->records[i];
		size_t kept = record->count < record->room ? record->count : record->room;

		memcpy(all + count, record->samples, kept * sizeof(*all));
		count += kept;
		figures->operations += record->count;
		figures->initiator_calls += record->calls;
		if (record->last > last)
			last = record->last;
	}
	qsort(all, count, sizeof(*all), compare);
	if (count) {
		figures->p50_us = all[count / 2] / 1e3;
		figures->p99_us = all[count * 99 / 100] / 1e3;
		figures->p999_us = all[count * 999 / 1000] / 1e3;
	}
	figures->seconds = (double)(last - recorder->begin) / 1e9;
	figures->resident_mib = resident_mib();
	free(all);
}

static void print_pair(const char *name, double initiator, double target, int has_target)
{
	printf(", \"%s\": {\"initiator\": %.6g, \"target\": ", name, initiator);
	if (has_target)
		printf("%.6g}", target);
	else
		printf("null}");
}

void bare_print(const struct bare_options *options, const struct bare_mode *mode, const struct bare_figures *figures)
{
	static const char *const ways[] = { "tcp", "shm", "local" };
	double bytes = (double)options->size * (double)options->pages;
	double operations = figures->operations ? (double)figures->operations : 1;
	double gigabytes = bytes * operations / 1e9;

	printf("{\"program\": \"%s\", \"setting\": \"%s", bare_program, mode->name);
	if (options->lanes > 1)
		printf(", %zu %s", options->lanes, options->via == VIA_TCP ? "connections" : "threads a copy");
	if (options->via == VIA_TCP && *options->congestion)
		printf(", %s", options->congestion);
	if (options->huge)
		printf(", huge pages");
	printf("\", \"workload\": \"");
	if (options->workload)
		printf("%s", options->workload);
	else
		printf("%s %s %zu x %zu", ways[options->via], options->write ? "write" : "read", options->pages,
		       options->size);
	printf("\", \"bytes\": %.0f, \"operations\": %llu, \"seconds\": %.6f, \"gigabytes_per_second\": %.4f", bytes,
	       (unsigned long long)figures->operations, figures->seconds,
	       bytes * (double)figures->operations / figures->seconds / 1e9);
	printf(", \"latency_us\": {\"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f}", figures->p50_us, figures->p99_us,
	       figures->p999_us);
	print_pair("cpu_seconds_per_gigabyte", figures->initiator_cpu / gigabytes, figures->target_cpu / gigabytes,
		   figures->has_target);
	print_pair("system_calls_per_operation", (double)figures->initiator_calls / operations,
		   (double)figures->target_calls / operations, figures->has_target);
	printf(", \"resident_mib\": %.1f}\n", figures->resident_mib);
	fflush(stdout);
}
