/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway bench`: options, the target, and the sweep over sizes, batches and threads. What a point measures is in
 * bench_point.c. Manual: man/causeway-bench.1.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_point.h"
#include "commands.h"
#include "lib/arguments.h"
#include "lib/child.h"
#include "lib/engine.h"
#include "lib/progress_bar.h"
#include "lib/stop.h"
#include "lib/table.h"
#include "lib/units.h"

#define COMMAND "causeway bench"
#define REGIONS_MAX 256
#define BATCH_MAX 65536
#define DEPTH_MAX 1024
#define THREADS_MAX 256

/* Who sleeps while a batch is on its way. Spin: what the engines do by themselves, which is to spin while they are
 * busy. */
#define WAITS "spin|target-parked|parked"
enum bench_wait { WAIT_SPIN = 0, WAIT_TARGET_PARKED = 1, WAIT_PARKED = 2 };
#define PARK "progress/spin_us=0"

struct bench_options {
	struct engine_arguments engine;
	const char *segments[BENCH_PROCESSES_MAX], *transport;
	size_t segment_count;
	struct child *children; /* the targets that this run has started; NULL = it has not */
	int target, loopback, inside, verify, ordinary, op, format, wait, count_calls;
	struct argument_range size, batch, depth, threads;
	uint64_t pages, page_size, buffer, peers;
	double seconds;
};

static const struct table_column columns[] = {
	{ "op", "op", -5, 0 },
	{ "request_bytes", "request B", 10, 0 },
	{ "pages", "pages", 5, 0 },
	{ "batch", "batch", 5, 0 },
	{ "depth", "depth", 5, 0 },
	{ "threads", "threads", 7, 0 },
	{ "gigabytes_per_second", "GB/s", 8, 3 },
	{ "batches_per_second", "batch/s", 10, 0 },
	{ "p50_us", "p50 us", 10, 3 },
	{ "p99_us", "p99 us", 10, 3 },
	{ "p999_us", "p99.9 us", 10, 3 },
	{ "max_us", "max us", 10, 3 },
	{ "path", "path", -6, 0 },
	{ "verified", "verified", -8, 0 },
	/* Not in text, where lines have an end. */
	{ "batches", "batches", 10, 0 },
	{ "seconds", "seconds", 8, 6 },
	{ "cpu_s_per_gb", "CPU s/GB", 8, 6 },
	{ "cpu_us_per_batch", "CPU us", 8, 4 },
	{ "switches_per_batch", "switches", 8, 6 },
	{ "calls_per_batch", "calls", 8, 4 },
	{ "resident_mib", "MiB", 8, 1 },
	{ "target_cpu_s_per_gb", "target CPU s/GB", 8, 6 },
	{ "target_cpu_us_per_batch", "target CPU us", 8, 4 },
	{ "target_switches_per_batch", "target switches", 8, 6 },
	{ "target_calls_per_batch", "target calls", 8, 4 },
	{ "target_resident_mib", "target MiB", 8, 1 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))
#define TEXT_COLUMNS 14
#define USAGE_COLUMNS 5 /* of each side */

static int run_target(const struct bench_options *options)
{
	struct engine_memory memory;
	struct cw_engine *engine;

	if (engine_start(COMMAND, &options->engine, &engine) != 0)
		return 1;
	if (engine_memory_open(COMMAND, engine, options->buffer, options->ordinary, &memory) != 0) {
		cw_engine_close(engine);
		return 1;
	}
	printf("%s: " CHILD_READY "%s\n", COMMAND, cw_engine_name(engine));
	fflush(stdout);
	stop_wait();
	engine_memory_close(&memory);
	cw_engine_close(engine);
	return 0;
}

/* The largest region of a target that this run may use. */
static int find_remote(struct bench_peer *peer, enum bench_op op, uint64_t *length)
{
	static struct cw_remote_region regions[REGIONS_MAX];
	uint32_t needed = op == BENCH_READ ? CW_ACCESS_REMOTE_READ : CW_ACCESS_REMOTE;
	size_t count = 0;
	uint64_t best = 0;
	int status = cw_segment_regions(peer->segment, regions, REGIONS_MAX, &count);

	if (status != CW_OK) {
		engine_report(COMMAND, "cannot list the target's memory", status);
		return -1;
	}
	for (size_t i = 0; i < count && i < REGIONS_MAX; i++) {
		if ((regions[i].access & needed) != needed || regions[i].length <= best)
			continue;
		best = regions[i].length;
		peer->remote = regions[i].address;
	}
	*length = best < *length ? best : *length;
	if (!best)
		fprintf(stderr, "%s: the target offers no memory that can be used for this\n", COMMAND);
	return best ? 0 : -1;
}

static double microseconds(uint64_t nanoseconds)
{
	return (double)nanoseconds / 1e3;
}

/* One side's USAGE_COLUMNS cells. */
static void usage_cells(const struct bench_meter *meter, const struct bench_usage *usage, uint64_t bytes,
			uint64_t batches, struct table_cell *cells)
{
	double each = 1.0 / (double)(batches ? batches : 1);

	for (size_t i = 0; i < USAGE_COLUMNS; i++)
		cells[i] = (struct table_cell){ NULL, (double)NAN };
	if (!meter->count)
		return;
	cells[0].number = bytes ? usage->cpu_seconds / ((double)bytes / 1e9) : (double)NAN;
	cells[1].number = usage->cpu_seconds * 1e6 * each;
	cells[2].number = (double)usage->switches * each;
	if (usage->calls != UINT64_MAX)
		cells[3].number = (double)usage->calls * each;
	cells[4].number = usage->resident_mib;
}

static void print_result(struct table *table, const struct bench_place *place, const struct bench_point *point,
			 const struct bench_result *result, const char *path)
{
	static const char *const ops[] = { "read", "write", "mixed" };
	const struct histogram *latency = &result->latency;
	double seconds = (double)result->elapsed_ns / 1e9;
	const char *verified = result->verified ? "yes" : place->verify ? "no" : "-";
	struct table_cell cells[COLUMNS] = {
		{ ops[point->op], 0 },
		{ NULL, (double)(point->page_size * point->pages) },
		{ NULL, (double)point->pages },
		{ NULL, (double)point->batch },
		{ NULL, (double)point->depth },
		{ NULL, (double)point->threads },
		{ NULL, (double)result->bytes / 1e9 / seconds },
		{ NULL, (double)latency->count / seconds },
		{ NULL, microseconds(histogram_percentile(latency, 50)) },
		{ NULL, microseconds(histogram_percentile(latency, 99)) },
		{ NULL, microseconds(histogram_percentile(latency, 99.9)) },
		{ NULL, microseconds(latency->maximum) },
		{ path, 0 },
		{ verified, 0 },
		{ NULL, (double)latency->count },
		{ NULL, seconds },
	};

	usage_cells(&place->own, &result->own, result->bytes, latency->count, cells + COLUMNS - 2 * USAGE_COLUMNS);
	usage_cells(&place->theirs, &result->theirs, result->bytes, latency->count, cells + COLUMNS - USAGE_COLUMNS);
	table_row(table, cells);
}

static uint64_t steps_of(const struct argument_range *range)
{
	uint64_t steps = 1;

	for (uint64_t at = range->first; at <= range->last / 2; at *= 2)
		steps++;
	return steps;
}

/* Doubles *at within the range; 0 when the range is at its end. */
static int next_step(const struct argument_range *range, uint64_t *at)
{
	if (*at > range->last / 2)
		return 0;
	*at *= 2;
	return 1;
}

/* One point: 0, or -1 after a message. */
static int run_point(struct bench_place *place, const struct bench_point *point, struct table *table,
		     struct progress_bar *bar, double fraction)
{
	static struct bench_result result;
	enum cw_op op = point->op == BENCH_READ ? CW_OP_READ : CW_OP_WRITE;
	char path[32];
	int status;

	progress_bar_update(bar, "of the points", fraction);
	status = bench_point_run(place, point, &result);
	progress_bar_clear(bar);
	if (status != 0) {
		fprintf(stderr, "%s: %llu bytes x %llu x %llu threads: %s\n", COMMAND,
			(unsigned long long)(point->page_size * point->pages), (unsigned long long)point->batch,
			(unsigned long long)point->threads, result.error);
		return -1;
	}
	engine_path_name(place->peers[0].segment, place->local, place->peers[0].remote, point->page_size, op, path,
			 sizeof(path));
	print_result(table, place, point, &result, path);
	return 0;
}

static int sweep(const struct bench_options *options, struct bench_place *place)
{
	uint64_t done = 0, total = steps_of(&options->size) * steps_of(&options->batch) * steps_of(&options->depth) *
				   steps_of(&options->threads);
	struct bench_point point = { .op = (enum bench_op)options->op, .pages = options->pages };
	struct progress_bar bar;
	struct table table;
	int failed = 0;

	progress_bar_begin(&bar);
	table_begin(&table, stdout, (enum table_format)options->format, columns,
		    options->format == TABLE_TEXT ? TEXT_COLUMNS : COLUMNS);
	point.threads = options->threads.first;
	point.depth = options->depth.first;
	point.batch = options->batch.first;
	point.page_size = options->size.first;
	for (;;) {
		failed |= run_point(place, &point, &table, &bar, (double)done++ / (double)total) != 0;
		if (stop_requested())
			break;
		if (next_step(&options->size, &point.page_size))
			continue;
		point.page_size = options->size.first;
		if (next_step(&options->batch, &point.batch))
			continue;
		point.batch = options->batch.first;
		if (next_step(&options->depth, &point.depth))
			continue;
		point.depth = options->depth.first;
		if (!next_step(&options->threads, &point.threads))
			break;
	}
	table_end(&table);
	return failed;
}

static void know_processes(const struct bench_options *options, struct bench_place *place)
{
	place->own = (struct bench_meter){ .pids = { getpid() }, .count = 1, .count_calls = options->count_calls };
	place->theirs = (struct bench_meter){ .count_calls = options->count_calls };
	for (size_t i = 0; options->children && i < options->segment_count; i++)
		place->theirs.pids[place->theirs.count++] = options->children[i].pid;
}

static int run_initiator(struct bench_options *options)
{
	static struct bench_peer peers[BENCH_PROCESSES_MAX];
	static struct bench_place place;
	struct engine_memory memory, other = { .region = NULL };
	int failed = 1;

	place = (struct bench_place){
		.peers = peers, .length = options->buffer, .seconds = options->seconds, .verify = options->verify
	};
	know_processes(options, &place);
	if (engine_start(COMMAND, &options->engine, &place.engine) != 0)
		return 1;
	/* The engine itself is the target then, and so far it has this memory only. */
	if (options->inside) {
		options->segments[options->segment_count++] = cw_engine_name(place.engine);
		if (engine_memory_open(COMMAND, place.engine, options->buffer, options->ordinary, &other) != 0)
			goto close_segments;
	}
	for (; place.peer_count < options->segment_count; place.peer_count++) {
		struct bench_peer *peer = &peers[place.peer_count];

		if (engine_segment_open(COMMAND, place.engine, options->segments[place.peer_count], options->transport,
					&peer->segment) != 0)
			goto close_segments;
		if (find_remote(peer, (enum bench_op)options->op, &place.length) != 0) {
			cw_segment_close(peer->segment);
			goto close_segments;
		}
	}
	if (engine_memory_open(COMMAND, place.engine, options->buffer, options->ordinary, &memory) != 0)
		goto close_segments;
	place.local = memory.address;
	failed = sweep(options, &place);
	engine_memory_close(&memory);
close_segments:
	while (place.peer_count)
		cw_segment_close(peers[--place.peer_count].segment);
	engine_memory_close(&other);
	cw_engine_close(place.engine);
	return failed;
}

static int add_setting(struct engine_arguments *engine, const char *setting)
{
	if (engine->settings.count == ARGUMENT_LIST_MAX) {
		fprintf(stderr, "%s: too many settings\n", COMMAND);
		return -1;
	}
	engine->settings.values[engine->settings.count++] = setting;
	return 0;
}

static int start_target(const struct bench_options *options, struct child *child)
{
	const char *arguments[ENGINE_CHILD_ARGUMENTS + 8];
	char buffer[32];
	size_t count = 0;

	snprintf(buffer, sizeof(buffer), "%llu", (unsigned long long)options->buffer);
	arguments[count++] = "bench";
	arguments[count++] = "--target";
	arguments[count++] = "--buffer";
	arguments[count++] = buffer;
	if (options->ordinary)
		arguments[count++] = "--ordinary";
	count += engine_child_arguments(&options->engine, arguments + count);
	arguments[count] = NULL;
	return child_start(child, arguments);
}

/* Starts targets of the same kind, measures against them, ends them. */
static int run_loopback(struct bench_options *options)
{
	static struct child children[BENCH_PROCESSES_MAX];
	struct bench_options theirs = *options;
	int failed = 0;

	if (options->wait != WAIT_SPIN && add_setting(&theirs.engine, PARK) != 0)
		return 1;
	if (options->wait == WAIT_PARKED && add_setting(&options->engine, PARK) != 0)
		return 1;
	options->children = children;
	for (; !failed && options->segment_count < options->peers; options->segment_count += !failed) {
		failed = start_target(&theirs, &children[options->segment_count]) != 0;
		options->segments[options->segment_count] = children[options->segment_count].name;
	}
	failed = failed || run_initiator(options) != 0;
	for (size_t i = 0; i < options->segment_count; i++)
		if (child_stop(&children[i]) != 0) {
			fprintf(stderr, "%s: the target did not end well\n", COMMAND);
			failed = 1;
		}
	return failed;
}

static void check_options(const struct command_line *line, struct bench_options *options)
{
	if (options->target + options->loopback + options->inside + (options->segment_count > 0) != 1)
		arguments_refuse(line, "give one of SEGMENT, --target, --loopback or --inside");
	if (options->batch.last > BATCH_MAX || options->depth.last > DEPTH_MAX || options->threads.last > THREADS_MAX)
		arguments_refuse(line, "at most %d requests in a batch, %d batches in flight and %d threads", BATCH_MAX,
				 DEPTH_MAX, THREADS_MAX);
	if (options->peers == 0 || options->peers > BENCH_PROCESSES_MAX)
		arguments_refuse(line, "--peers: 1 to %d", BENCH_PROCESSES_MAX);
	if (!options->loopback && (options->peers != 1 || options->wait != WAIT_SPIN))
		arguments_refuse(line, "--peers and --wait need --loopback");
	if (options->buffer == 0 || options->pages == 0 || options->pages > UINT32_MAX || options->seconds > 86400)
		arguments_refuse(line, "--buffer and --pages must not be 0, --seconds at most a day");
	if (options->page_size)
		options->size = (struct argument_range){ options->page_size, options->page_size };
	if (options->size.last > options->buffer)
		options->size.last = options->buffer;
	if (options->size.first > options->size.last)
		arguments_refuse(line, "--size is larger than --buffer");
}

int command_bench(int argc, char **argv)
{
	struct bench_options options = { .size = { 4096, 64 << 20 },
					 .batch = { 1, 1 },
					 .depth = { 1, 1 },
					 .threads = { 1, 1 },
					 .pages = 1,
					 .peers = 1,
					 .buffer = 256 << 20,
					 .seconds = 1,
					 .op = BENCH_WRITE };
	const struct argument arguments[] = {
		{ "target", ARGUMENT_FLAG, &options.target, NULL, "offer memory until SIGINT or SIGTERM" },
		{ "loopback", ARGUMENT_FLAG, &options.loopback, NULL, "start a target of its own on this machine" },
		{ "inside", ARGUMENT_FLAG, &options.inside, NULL, "move between two buffers of this process" },
		{ "peers", ARGUMENT_NUMBER, &options.peers, "N", "so many, in turn (1)" },
		{ "wait", ARGUMENT_CHOICE, &options.wait, WAITS, "who sleeps while bytes move (spin)" },
		{ "op", ARGUMENT_CHOICE, &options.op, BENCH_OPS, "what to do (write)" },
		{ "size", ARGUMENT_RANGE, &options.size, "FIRST[-LAST]", "bytes a request, doubling (4k-64m)" },
		{ "batch", ARGUMENT_RANGE, &options.batch, "FIRST[-LAST]", "requests a batch, doubling (1)" },
		{ "depth", ARGUMENT_RANGE, &options.depth, "FIRST[-LAST]", "batches in flight a thread, doubling (1)" },
		{ "threads", ARGUMENT_RANGE, &options.threads, "FIRST[-LAST]", "threads, doubling (1)" },
		{ "pages", ARGUMENT_NUMBER, &options.pages, "N", "scattered pages a request (1)" },
		{ "page-size", ARGUMENT_NUMBER, &options.page_size, "BYTES", "size of a page, instead of --size" },
		{ "seconds", ARGUMENT_DECIMAL, &options.seconds, "S", "how long a point takes (1)" },
		{ "verify", ARGUMENT_FLAG, &options.verify, NULL, "fill with a pattern, check every byte" },
		{ "buffer", ARGUMENT_NUMBER, &options.buffer, "BYTES", "memory on each side (256m)" },
		{ "ordinary", ARGUMENT_FLAG, &options.ordinary, NULL, "ordinary memory, not the engine's" },
		{ "calls", ARGUMENT_FLAG, &options.count_calls, NULL, "count system calls, if the kernel lets us" },
		{ "transport", ARGUMENT_TEXT, &options.transport, "LIST", "use only these, such as tcp or shm,tcp" },
		{ "format", ARGUMENT_CHOICE, &options.format, TABLE_FORMATS, "how to print (text)" },
		ENGINE_ARGUMENTS(&options.engine),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "[SEGMENT...]",
		.summary = "Measures reads and writes to each SEGMENT, a name that 'causeway bench --target' prints, "
			   "in turn.\n"
			   "GB/s are 1e9 bytes a second; times are of a whole batch, from submit to its end.",
		.arguments = arguments,
		.operands_max = BENCH_PROCESSES_MAX,
	};

	options.segment_count = arguments_parse(&line, argc, argv, options.segments);
	check_options(&line, &options);
	if (stop_install() != 0) {
		perror(COMMAND);
		return 1;
	}
	if (options.target)
		return run_target(&options);
	return options.loopback ? run_loopback(&options) : run_initiator(&options);
}
