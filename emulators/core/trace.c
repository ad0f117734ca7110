/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written down: one JSON line a call in trace-<pid>.jsonl, and at exit all counts in report-<pid>.json, both in
 * the folder that CAUSEWAY_EMULATE_TRACE names; and causeway_emulator_count(), which needs neither.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUFFER 65536
#define LINE 1024
/* A process that is killed loses no more than what it did in this time. */
#define FLUSH_NS 50000000

_Atomic uint64_t cw__emu_gauges[CW__EMU_GAUGES];

static const char *const gauge_names[CW__EMU_GAUGES] = {
	[CW__EMU_LIVE_ALLOCATIONS] = "live_allocations", [CW__EMU_LIVE_HOST_ALLOCATIONS] = "live_host_allocations",
	[CW__EMU_OPEN_MAPPINGS] = "open_mappings",       [CW__EMU_LIVE_STREAMS] = "live_streams",
	[CW__EMU_LIVE_EVENTS] = "live_events",           [CW__EMU_HOST_TOUCHES] = "host_touches",
	[CW__EMU_DEVICE_LEAKS] = "device_leaks",         [CW__EMU_WRONG_DEVICE] = "wrong_device",
	[CW__EMU_WRONG_STREAM] = "wrong_stream",         [CW__EMU_FAULTS_FIRED] = "faults_fired",
	[CW__EMU_COPIED_BYTES] = "copied_bytes",
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int file = -1;
static char buffer[BUFFER];
static size_t filled;
static uint64_t flushed;

uint64_t causeway_emulator_count(const char *name)
{
	for (int i = 0; i < CW__EMU_GAUGES; i++) {
		if (!strcmp(name, gauge_names[i]))
			return atomic_load_explicit(&cw__emu_gauges[i], memory_order_relaxed);
	}
	for (struct cw__emu_face *face = cw__emu_first_face(); face; face = face->next) {
		for (unsigned i = 0; i < face->symbol_count; i++) {
			if (!strcmp(name, face->symbols[i].name))
				return atomic_load_explicit(&face->symbols[i].calls, memory_order_relaxed);
		}
	}
	return 0;
}

static void flush(void)
{
	size_t done = 0;

	while (done < filled) {
		const ssize_t n = write(file, buffer + done, filled - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	filled = 0;
}

void cw__emu_trace_open(const char *folder)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/trace-%d.jsonl", folder, (int)getpid());
	file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (file < 0) {
		fprintf(stderr, "causeway emulator: %s: %s\n", path, strerror(errno));
		return;
	}
	cw__emu.tracing = 1;
}

void cw__emu_trace_call(const struct cw__emu_call *call, int result, uint64_t end)
{
	char line[LINE];
	int n;

	/* The numbers are few and the names short, so that a line always fits. */
	n = snprintf(line, sizeof(line),
		     "{\"symbol\":\"%s\",\"thread\":%d,\"begin\":%llu,\"end\":%llu,\"device\":%d,\"result\":%d",
		     call->symbol->name, (int)gettid(), (unsigned long long)call->begin, (unsigned long long)end,
		     call->current, result);
	for (unsigned i = 0; i < call->argument_count; i++) {
		n += snprintf(line + n, sizeof(line) - (size_t)n, ",\"%s\":%lld", call->arguments[i].name,
			      (long long)call->arguments[i].value);
	}
	n += snprintf(line + n, sizeof(line) - (size_t)n, "}\n");

	pthread_mutex_lock(&lock);
	if (file >= 0) {
		if (filled + (size_t)n > sizeof(buffer))
			flush();
		memcpy(buffer + filled, line, (size_t)n);
		filled += (size_t)n;
		if (end > flushed + FLUSH_NS) {
			flush();
			flushed = end;
		}
	}
	pthread_mutex_unlock(&lock);
}

static void report_lane(FILE *report, const char *name, const struct cw__world_lane *lane, const char **comma)
{
	const unsigned long long copies = atomic_load(&lane->copies), bytes = atomic_load(&lane->bytes);

	if (!copies)
		return;
	fprintf(report, "%s\n    \"%s\": {\"copies\": %llu, \"bytes\": %llu}", *comma, name, copies, bytes);
	*comma = ",";
}

/* What the lanes of the whole world carried, by every process in it. */
static void report_lanes(FILE *report)
{
	const struct cw__world *world = cw__emu.world;
	const char *comma = "";
	char name[64];

	fprintf(report, ",\n  \"lanes_of_the_world\": {");
	for (unsigned i = 0; i < world->device_count; i++) {
		const struct cw__world_device *device = &world->devices[i];

		snprintf(name, sizeof(name), "inside %u", i);
		report_lane(report, name, &device->inside, &comma);
		snprintf(name, sizeof(name), "host to %u", i);
		report_lane(report, name, &device->from_host, &comma);
		snprintf(name, sizeof(name), "%u to host", i);
		report_lane(report, name, &device->to_host, &comma);
	}
	for (unsigned i = 0; i < world->link_count; i++) {
		const struct cw__world_link *link = &world->links[i];

		for (int e = 0; e < 2; e++) {
			snprintf(name, sizeof(name), "%d.%d to %d.%d", link->device[e], link->port[e],
				 link->device[1 - e], link->port[1 - e]);
			report_lane(report, name, &link->lane[e], &comma);
		}
	}
	fprintf(report, "}");
}

void cw__emu_trace_close(const char *folder)
{
	char path[4096];
	const char *comma = "";
	FILE *report;

	pthread_mutex_lock(&lock);
	if (file >= 0) {
		flush();
		close(file);
		file = -1;
	}
	pthread_mutex_unlock(&lock);

	snprintf(path, sizeof(path), "%s/report-%d.json", folder, (int)getpid());
	report = fopen(path, "we");
	if (!report)
		return;
	fprintf(report, "{\n  \"pid\": %d,\n  \"program\": \"%s\",\n  \"calls\": {", (int)getpid(),
		program_invocation_short_name);
	for (struct cw__emu_face *face = cw__emu_first_face(); face; face = face->next) {
		for (unsigned i = 0; i < face->symbol_count; i++) {
			const unsigned long long calls = atomic_load(&face->symbols[i].calls);

			if (!calls)
				continue;
			fprintf(report, "%s\n    \"%s\": %llu", comma, face->symbols[i].name, calls);
			comma = ",";
		}
	}
	fprintf(report, "}");
	for (int i = 0; i < CW__EMU_GAUGES; i++) {
		fprintf(report, ",\n  \"%s\": %llu", gauge_names[i],
			(unsigned long long)atomic_load(&cw__emu_gauges[i]));
	}
	report_lanes(report);
	fprintf(report, "\n}\n");
	fclose(report);
}
