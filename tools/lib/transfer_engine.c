/* SPDX-License-Identifier: Apache-2.0 */
/* See transfer_engine.h. */
#include "lib/transfer_engine.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/buffers.h"
#include "lib/named_engine.h"
#include "lib/own_host.h"
#include "lib/stop.h"
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
	struct buffers buffers;
	struct cw_remote_region remotes[BUFFERS_MAX];
	size_t remote_count;
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

static void check_protocol(const struct command_line *line, const char *protocol)
{
	static const char *const ours[] = { "tcp", "shm", "local", "sunrise_link", "nvlink_intra", NULL };
	static const char *const others[] = { "rdma", "barex", "efa", "nvlink",  "musa",
					      "hip",  "maca",  "ub",  "ubshmem", NULL };
	const char *const *name;

	for (name = ours; *name; name++)
		if (strcmp(*name, protocol) == 0)
			return;
	for (name = others; *name && strcmp(*name, protocol) != 0; name++)
		continue;
	arguments_refuse(line, "%s '%s': this version has tcp, shm, local, sunrise_link and nvlink_intra",
			 *name ? "there is no transport yet for the protocol" : "unknown protocol", protocol);
}

static void check_flags(const struct command_line *line, struct transfer_flags *flags)
{
	uint64_t needed;

	check_protocol(line, flags->protocol);
	if (strcmp(flags->backend, "classic") != 0 && strcmp(flags->backend, "tent") != 0)
		arguments_refuse(line, "'%s' is not a value for --backend: classic|tent", flags->backend);
	if (flags->gpu_id < -1)
		arguments_refuse(line, "a GPU's number is at least 0; -1 stands for all");
	if (flags->use_vram < 0)
		flags->use_vram = buffers_transport_is_for_devices(flags->protocol);
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
		own_host_name(host, length);
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
	char host[OWN_HOST_MAX];
	/* The range that firewalls of Mooncake's users know. */
	struct engine_arguments arguments = {
		.name = host,
		.settings = { .values = { "control/port_min=15000", "control/port_max=17000" }, .count = 2 }
	};

	if (named_engine_is_wanted(run->flags->metadata_server)) {
		const char *name = run->flags->local_server_name;

		/* A target without a name is found by that of its host. */
		own_host_name(host, sizeof(host));
		return named_engine_start(run->command, run->flags->metadata_server,
					  name || run->flags->mode == 0 ? name : host, 0, &run->engine);
	}
	host_of(run->flags->local_server_name, host, sizeof(host));
	return engine_start(run->command, &arguments, &run->engine);
}

/* Device memory has a known content from the start, as programs that measure real devices want it. */
static int fill_buffers(struct transfer_run *run)
{
	struct content content;
	int status = content_open(run->command, run->engine, 1, &content);

	if (status != 0)
		return -1;
	for (size_t i = 0; i < run->buffers.count && status == 0 && !stop_requested(); i++)
		status = content_fill(&content, run->buffers.list[i].address, run->buffers.length, i);
	content_close(&content);
	return status;
}

static int open_buffers(struct transfer_run *run)
{
	const struct transfer_flags *flags = run->flags;

	if (!flags->use_vram)
		return buffers_open_nodes(run->command, run->engine, flags->buffer_size, &run->buffers);
	if (buffers_open_devices(run->command, run->engine, flags->protocol, flags->gpu_id, 1, flags->buffer_size,
				 &run->buffers) != 0)
		return -1;
	return flags->init_mem ? fill_buffers(run) : 0;
}

static void close_run(struct transfer_run *run)
{
	if (run->segment)
		cw_segment_close(run->segment);
	buffers_close(&run->buffers);
	cw_engine_close(run->engine);
}

static void serve(struct transfer_run *run)
{
	if (named_engine_is_wanted(run->flags->metadata_server))
		transfer_log('I', "Transfer Engine is known to the metadata server as %s", cw_engine_name(run->engine));
	else
		transfer_log('I', "Transfer Engine RPC using P2P handshake, listening on %s",
			     cw_engine_name(run->engine));
	stop_wait();
}

static int open_target(struct transfer_run *run)
{
	const char *name = run->flags->segment_id;
	int status;

	if (engine_segment_open(run->command, run->engine, name, run->flags->protocol, &run->segment) != 0)
		return -1;
	status = cw_segment_regions(run->segment, run->remotes, BUFFERS_MAX, &run->remote_count);
	if (status != CW_OK) {
		engine_report(run->command, name, status);
		return -1;
	}
	if (run->remote_count > BUFFERS_MAX)
		run->remote_count = BUFFERS_MAX;
	if (run->remote_count == 0) {
		fprintf(stderr, "%s: %s offers no memory\n", run->command, name);
		return -1;
	}
	return 0;
}

/* Where the blocks are in the target's buffer, as numbers of blocks. A buffer that is too small for all has several at
 * the same place, unless they are compared. */
static int count_places(const struct transfer_run *run, const struct cw_remote_region *remote, uint64_t *places_out)
{
	const struct transfer_flags *flags = run->flags;
	uint64_t places = remote->length / flags->block_size, blocks = flags->batch_size * flags->threads;

	if (places == 0 || (places < blocks && flags->compares)) {
		fprintf(stderr,
			"%s: the target's buffer has %llu bytes, too few for block_size * batch_size * threads\n",
			run->command, (unsigned long long)remote->length);
		return -1;
	}
	*places_out = places;
	return 0;
}

/* Blocks of the threads alternate in a buffer: block i of thread t is block i * threads + t. */
static int prepare_worker(struct transfer_run *run, struct transfer_worker *worker, uint64_t index)
{
	const struct transfer_flags *flags = run->flags;
	const struct cw_remote_region *remote = &run->remotes[index % run->remote_count];
	uint64_t places;

	*worker = (struct transfer_worker){ .run = run, .index = index, .stride = flags->threads * flags->block_size };
	if (count_places(run, remote, &places) != 0)
		return -1;
	worker->local = run->buffers.list[index % run->buffers.count].address + index * flags->block_size;
	worker->requests = calloc(flags->batch_size, sizeof(*worker->requests));
	if (!worker->requests)
		return -1;
	for (uint64_t i = 0; i < flags->batch_size; i++) {
		uint64_t place = (i * flags->threads + index) % places;

		worker->requests[i] = (struct cw_request){
			.segment = run->segment,
			.local = { .base = (uint64_t)(uintptr_t)worker->local + i * worker->stride,
				   .page_size = flags->block_size,
				   .count = 1 },
			.remote = { .base = remote->address + place * flags->block_size,
				    .page_size = flags->block_size,
				    .count = 1 },
		};
	}
	if (flags->compares && content_open(run->command, run->engine, flags->use_vram, &worker->content) != 0)
		return -1;
	return 0;
}

static void release_worker(struct transfer_worker *worker)
{
	content_close(&worker->content);
	free(worker->requests);
}

/* Says it once: the numbers are those of fewer different bytes. */
static void warn_of_overlap(const struct transfer_run *run)
{
	uint64_t blocks = run->flags->batch_size * run->flags->threads;

	for (size_t i = 0; i < run->remote_count; i++) {
		if (run->remotes[i].length / run->flags->block_size >= blocks)
			continue;
		transfer_log('W', "The target's buffer has room for %llu of %llu blocks: several use the same place",
			     (unsigned long long)(run->remotes[i].length / run->flags->block_size),
			     (unsigned long long)blocks);
		return;
	}
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
	while (prepared < threads) {
		uint64_t index = prepared++;

		if (prepare_worker(run, &workers[index].worker, index) != 0)
			goto out;
	}
	warn_of_overlap(run);
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
		release_worker(&workers[i].worker);
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
	if (stop_install() != 0 || open_engine(&run) != 0)
		return 1;
	if (engine_transports_check(line->command, run.engine, flags->protocol) == 0 && open_buffers(&run) == 0) {
		failed = 0;
		if (flags->mode == 1)
			serve(&run);
		else
			failed = initiate(&run);
	}
	close_run(&run);
	return failed;
}
