/* SPDX-License-Identifier: Apache-2.0 */
/* See transfer_engine.h. */
#include "lib/transfer_engine.h"

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/stop.h"
#include "lib/system_info.h"
#include "lib/units.h"

#define COMMAND_MAX 64
#define THREADS_MAX 1024u
#define BATCH_MAX 65536u
#define WAIT_NS (NANOSECONDS / 10)

struct transfer_run {
	const char *command;
	const struct transfer_flags *flags;
	struct cw_engine *engine;
	struct cw_segment *segment;
	struct cw_region *regions[TRANSFER_NODES_MAX];
	unsigned char *buffers[TRANSFER_NODES_MAX];
	size_t buffer_count;
	struct cw_remote_region remotes[TRANSFER_NODES_MAX];
	size_t remote_count;
	uint64_t buffer_size; /* of each buffer */
	uint64_t end_ns;
	transfer_worker_fn work;
};

struct thread {
	pthread_t id;
	struct transfer_worker worker;
};

void transfer_log(char level, const char *format, ...)
{
	char text[512];
	struct timespec now;
	struct tm local;
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	fprintf(stderr, "%c%02d%02d %02d:%02d:%02d.%06ld %5d transfer_engine] %s\n", level, local.tm_mon + 1,
		local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec, now.tv_nsec / 1000, (int)getpid(), text);
}

const struct transfer_flags *transfer_flags_of(const struct transfer_worker *worker)
{
	return worker->run->flags;
}

int transfer_stopped(const struct transfer_worker *worker)
{
	return stop_requested() || units_now() >= worker->run->end_ns;
}

int transfer_batch(struct transfer_worker *worker, enum cw_op op)
{
	struct cw_batch_result result = { .size = sizeof(result) };
	uint64_t count = worker->run->flags->batch_size;
	struct cw_batch *batch;

	for (uint64_t i = 0; i < count; i++)
		worker->requests[i].op = op;
	if (cw_batch_submit(worker->run->engine, worker->requests, count, NULL, &batch) != CW_OK) {
		transfer_log('E', "Submit failed: %s", cw_last_error());
		return -1;
	}
	while (cw_batch_wait(batch, WAIT_NS) == CW_ERR_AGAIN)
		if (stop_requested())
			cw_batch_cancel(batch);
	cw_batch_result_get(batch, &result);
	cw_batch_release(batch);
	if (result.state == CW_BATCH_COMPLETED)
		return 0;
	if (!stop_requested())
		transfer_log('E', "Transfer failed: %s", result.text);
	return -1;
}

static void check_flags(const struct command_line *line, struct transfer_flags *flags)
{
	static const char *const others[] = { "rdma", "barex", "efa",          "nvlink", "musa",    "nvlink_intra",
					      "hip",  "maca",  "sunrise_link", "ub",     "ubshmem", NULL };
	static const char *const ours[] = { "tcp", "shm", "local", NULL };
	const char *const *name;
	uint64_t needed;

	for (name = ours; *name && strcmp(*name, flags->protocol) != 0; name++)
		continue;
	if (!*name) {
		for (name = others; *name && strcmp(*name, flags->protocol) != 0; name++)
			continue;
		arguments_refuse(line, "%s '%s': this version has tcp, shm and local (--protocol=tcp)",
				 *name ? "there is no transport yet for the protocol" : "unknown protocol",
				 flags->protocol);
	}
	if (strcmp(flags->metadata_server, "P2PHANDSHAKE") != 0)
		arguments_refuse(line, "metadata server '%s': this version has --metadata_server=P2PHANDSHAKE only",
				 flags->metadata_server);
	if (strcmp(flags->backend, "classic") != 0 && strcmp(flags->backend, "tent") != 0)
		arguments_refuse(line, "'%s' is not a value for --backend: classic|tent", flags->backend);
	if (flags->use_vram)
		arguments_refuse(line, "this version moves host memory only (--use_vram=false)");
	if (flags->threads == 0 || flags->threads > THREADS_MAX || flags->batch_size == 0 ||
	    flags->batch_size > BATCH_MAX || flags->block_size == 0 || flags->buffer_size == 0 ||
	    flags->report_precision > 12 || flags->duration > 1e6)
		arguments_refuse(line, "threads, batch_size, block_size, buffer_size or duration is out of range");
	if (__builtin_mul_overflow(flags->block_size, flags->batch_size * flags->threads, &needed) ||
	    needed > 1ull << 46)
		arguments_refuse(line, "block_size * batch_size * threads is out of range");
	if (needed > flags->buffer_size)
		flags->buffer_size = needed;
}

/* In peer-to-peer mode the port of the name is not used: peers learn the real one from the line that is printed. */
static void host_of(const char *name, char *host, size_t length)
{
	const char *end;

	if (!name) {
		if (gethostname(host, length - 1) != 0)
			snprintf(host, length, "127.0.0.1");
		host[length - 1] = '\0';
		return;
	}
	end = strrchr(name, name[0] == '[' ? ']' : ':');
	if (end && name[0] == '[')
		end++;
	else if (end && strchr(name, ':') != end)
		end = NULL; /* an IPv6 address without brackets */
	snprintf(host, length, "%.*s", end ? (int)(end - name) : (int)strlen(name), name);
}

static int open_engine(struct transfer_run *run)
{
	char host[HOST_NAME_MAX + 1];
	/* The range that firewalls of Mooncake's users know. */
	struct engine_arguments arguments = {
		.name = host,
		.settings = { .values = { "control/port_min=15000", "control/port_max=17000" }, .count = 2 }
	};

	host_of(run->flags->local_server_name, host, sizeof(host));
	return engine_start(run->command, &arguments, &run->engine);
}

/* One buffer on each NUMA node; a machine that does not tell its nodes has one. */
static int open_buffers(struct transfer_run *run)
{
	unsigned first = 0, last = 0;
	char nodes[64] = "0";

	system_read_line("/sys/devices/system/node/online", nodes, sizeof(nodes));
	if (sscanf(nodes, "%u-%u", &first, &last) < 2)
		last = first;
	for (unsigned node = first; node <= last && run->buffer_count < TRANSFER_NODES_MAX; node++) {
		struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
		size_t at = run->buffer_count;
		char location[32];
		void *address;
		int status;

		snprintf(location, sizeof(location), "cpu:%u", node);
		options.location = first == last ? NULL : location;
		status = cw_memory_allocate(run->engine, run->buffer_size, &options, &address, &run->regions[at]);
		if (status != CW_OK) {
			engine_report(run->command, "cannot allocate a buffer", status);
			return -1;
		}
		run->buffers[at] = address;
		run->buffer_count++;
	}
	return 0;
}

static void close_run(struct transfer_run *run)
{
	if (run->segment)
		cw_segment_close(run->segment);
	for (size_t i = 0; i < run->buffer_count; i++)
		cw_memory_free(run->regions[i]);
	cw_engine_close(run->engine);
}

static void serve(struct transfer_run *run)
{
	transfer_log('I', "Transfer Engine RPC using P2P handshake, listening on %s", cw_engine_name(run->engine));
	stop_wait();
}

static int open_target(struct transfer_run *run)
{
	const char *name = run->flags->segment_id;
	int status;

	if (engine_segment_open(run->command, run->engine, name, run->flags->protocol, &run->segment) != 0)
		return -1;
	status = cw_segment_regions(run->segment, run->remotes, TRANSFER_NODES_MAX, &run->remote_count);
	if (status != CW_OK) {
		engine_report(run->command, name, status);
		return -1;
	}
	if (run->remote_count > TRANSFER_NODES_MAX)
		run->remote_count = TRANSFER_NODES_MAX;
	if (run->remote_count == 0) {
		fprintf(stderr, "%s: %s offers no memory\n", run->command, name);
		return -1;
	}
	return 0;
}

/* Blocks of the threads alternate in a buffer: block i of thread t is block i * threads + t. */
static int prepare_worker(struct transfer_run *run, struct transfer_worker *worker, uint64_t index)
{
	const struct transfer_flags *flags = run->flags;
	const struct cw_remote_region *remote = &run->remotes[index % run->remote_count];
	uint64_t offset = index * flags->block_size;

	*worker = (struct transfer_worker){ .run = run, .index = index, .stride = flags->threads * flags->block_size };
	if (remote->length < flags->block_size * flags->batch_size * flags->threads) {
		fprintf(stderr,
			"%s: the target's buffer has %llu bytes, too few for block_size * batch_size * threads\n",
			run->command, (unsigned long long)remote->length);
		return -1;
	}
	worker->local = run->buffers[index % run->buffer_count] + offset;
	worker->remote = remote->address + offset;
	worker->requests = calloc(flags->batch_size, sizeof(*worker->requests));
	if (!worker->requests)
		return -1;
	for (uint64_t i = 0; i < flags->batch_size; i++)
		worker->requests[i] = (struct cw_request){
			.segment = run->segment,
			.local = { .base = (uint64_t)(uintptr_t)worker->local + i * worker->stride,
				   .page_size = flags->block_size,
				   .count = 1 },
			.remote = { .base = worker->remote + i * worker->stride,
				    .page_size = flags->block_size,
				    .count = 1 },
		};
	return 0;
}

static void *thread_main(void *argument)
{
	struct transfer_worker *worker = argument;

	worker->run->work(worker);
	return NULL;
}

static double in_unit(int unit, double bytes)
{
	static const double sizes[] = { 1e9, 1ull << 30, 1e9 / 8, 1e6, 1 << 20, 1e6 / 8, 1e3, 1 << 10, 1e3 / 8 };

	return bytes / sizes[unit];
}

static void report(const struct transfer_run *run, double seconds, uint64_t batches)
{
	static const char *const units[] = { "GB", "GiB", "Gb", "MB", "MiB", "Mb", "KB", "KiB", "Kb" };
	const struct transfer_flags *flags = run->flags;
	double bytes = (double)batches * (double)flags->batch_size * (double)flags->block_size;

	transfer_log('I', "Test completed: duration %.2f, batch count %llu, throughput %.*f %s/s", seconds,
		     (unsigned long long)batches, (int)flags->report_precision,
		     in_unit(flags->report_unit, bytes / seconds), units[flags->report_unit]);
}

static int initiate(struct transfer_run *run)
{
	uint64_t threads = run->flags->threads, prepared = 0, started = 0, batches = 0, begin;
	struct thread *workers = calloc(threads, sizeof(*workers));
	int failed = 1;

	if (!workers || open_target(run) != 0)
		goto out;
	for (; prepared < threads; prepared++)
		if (prepare_worker(run, &workers[prepared].worker, prepared) != 0)
			goto out;
	begin = units_now();
	run->end_ns = begin + (uint64_t)(run->flags->duration * (double)NANOSECONDS);
	while (started < threads &&
	       pthread_create(&workers[started].id, NULL, thread_main, &workers[started].worker) == 0)
		started++;
	failed = started < threads;
	for (uint64_t i = 0; i < started; i++) {
		pthread_join(workers[i].id, NULL);
		batches += workers[i].worker.batches;
		failed |= workers[i].worker.failed;
	}
	report(run, (double)(units_now() - begin) / 1e9, batches);
out:
	for (uint64_t i = 0; i < prepared; i++)
		free(workers[i].worker.requests);
	free(workers);
	return failed;
}

int transfer_main(int argc, char **argv, const struct command_line *line, struct transfer_flags *flags,
		  transfer_worker_fn work)
{
	struct transfer_run run = { .command = line->command, .flags = flags, .work = work };
	int failed = 1;

	arguments_parse(line, argc, argv, NULL);
	check_flags(line, flags);
	run.buffer_size = flags->buffer_size;
	if (stop_install() != 0 || open_engine(&run) != 0)
		return 1;
	if (open_buffers(&run) == 0) {
		failed = 0;
		if (flags->mode == 1)
			serve(&run);
		else
			failed = initiate(&run);
	}
	close_run(&run);
	return failed;
}
