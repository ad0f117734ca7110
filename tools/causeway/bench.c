/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway bench`: options, the target, and the sweep over sizes, batches and threads. What a point measures is in
 * bench_point.c. Manual: man/causeway-bench.1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
#define THREADS_MAX 256

struct bench_options {
	struct engine_arguments engine;
	const char *segment, *transport;
	int target, loopback, verify, ordinary, op, format;
	struct argument_range size, batch, threads;
	uint64_t pages, page_size, buffer;
	double seconds;
};

static const struct table_column columns[] = {
	{ "op", "op", -5, 0 },
	{ "request_bytes", "request B", 10, 0 },
	{ "pages", "pages", 5, 0 },
	{ "batch", "batch", 5, 0 },
	{ "threads", "threads", 7, 0 },
	{ "gigabytes_per_second", "GB/s", 8, 3 },
	{ "batches_per_second", "batch/s", 10, 0 },
	{ "p50_us", "p50 us", 10, 2 },
	{ "p99_us", "p99 us", 10, 2 },
	{ "p999_us", "p99.9 us", 10, 2 },
	{ "max_us", "max us", 10, 2 },
	{ "path", "path", -6, 0 },
	{ "verified", "verified", -8, 0 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

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

/* The largest region of the target that this run may use. */
static int find_remote(struct cw_segment *segment, enum bench_op op, struct bench_place *place)
{
	static struct cw_remote_region regions[REGIONS_MAX];
	uint32_t needed = op == BENCH_READ ? CW_ACCESS_REMOTE_READ : CW_ACCESS_REMOTE;
	size_t count = 0;
	int status = cw_segment_regions(segment, regions, REGIONS_MAX, &count);

	if (status != CW_OK) {
		engine_report(COMMAND, "cannot list the target's memory", status);
		return -1;
	}
	place->remote = 0;
	for (size_t i = 0, best = 0; i < count && i < REGIONS_MAX; i++) {
		if ((regions[i].access & needed) != needed || regions[i].length <= best)
			continue;
		best = regions[i].length;
		place->remote = regions[i].address;
		place->length = regions[i].length < place->length ? regions[i].length : place->length;
	}
	if (!place->remote)
		fprintf(stderr, "%s: the target offers no memory that can be used for this\n", COMMAND);
	return place->remote ? 0 : -1;
}

static double microseconds(uint64_t nanoseconds)
{
	return (double)nanoseconds / 1e3;
}

static void print_result(struct table *table, const struct bench_point *point, const struct bench_result *result,
			 const char *path, int verify)
{
	static const char *const ops[] = { "read", "write", "mixed" };
	const struct histogram *latency = &result->latency;
	double seconds = (double)result->elapsed_ns / 1e9;
	const struct table_cell cells[COLUMNS] = {
		{ ops[point->op], 0 },
		{ NULL, (double)(point->page_size * point->pages) },
		{ NULL, (double)point->pages },
		{ NULL, (double)point->batch },
		{ NULL, (double)point->threads },
		{ NULL, (double)result->bytes / 1e9 / seconds },
		{ NULL, (double)latency->count / seconds },
		{ NULL, microseconds(histogram_percentile(latency, 50)) },
		{ NULL, microseconds(histogram_percentile(latency, 99)) },
		{ NULL, microseconds(histogram_percentile(latency, 99.9)) },
		{ NULL, microseconds(latency->maximum) },
		{ path, 0 },
		{ result->verified ? "yes"
		  : verify         ? "no"
				   : "-",
		  0 },
	};

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
static int run_point(const struct bench_options *options, struct bench_place *place, const struct bench_point *point,
		     struct table *table, struct progress_bar *bar, double fraction)
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
	engine_path_name(place->segment, place->local, place->remote, point->page_size, op, path, sizeof(path));
	print_result(table, point, &result, path, options->verify);
	return 0;
}

static int sweep(const struct bench_options *options, struct bench_place *place)
{
	uint64_t done = 0, total = steps_of(&options->size) * steps_of(&options->batch) * steps_of(&options->threads);
	struct bench_point point = { .op = (enum bench_op)options->op, .pages = options->pages };
	struct progress_bar bar;
	struct table table;
	int failed = 0;

	progress_bar_begin(&bar);
	table_begin(&table, stdout, (enum table_format)options->format, columns, COLUMNS);
	point.threads = options->threads.first;
	do {
		point.batch = options->batch.first;
		do {
			point.page_size = options->size.first;
			do {
				double fraction = (double)done++ / (double)total;

				failed |= run_point(options, place, &point, &table, &bar, fraction) != 0;
			} while (!stop_requested() && next_step(&options->size, &point.page_size));
		} while (!stop_requested() && next_step(&options->batch, &point.batch));
	} while (!stop_requested() && next_step(&options->threads, &point.threads));
	table_end(&table);
	return failed;
}

static int run_initiator(const struct bench_options *options)
{
	struct bench_place place = { .length = options->buffer,
				     .seconds = options->seconds,
				     .verify = options->verify };
	struct engine_memory memory;
	int failed = 1;

	if (engine_start(COMMAND, &options->engine, &place.engine) != 0)
		return 1;
	if (engine_segment_open(COMMAND, place.engine, options->segment, options->transport, &place.segment) != 0)
		goto close_engine;
	if (find_remote(place.segment, (enum bench_op)options->op, &place) != 0)
		goto close_segment;
	if (engine_memory_open(COMMAND, place.engine, options->buffer, options->ordinary, &memory) != 0)
		goto close_segment;
	place.local = memory.address;
	failed = sweep(options, &place);
	engine_memory_close(&memory);
close_segment:
	cw_segment_close(place.segment);
close_engine:
	cw_engine_close(place.engine);
	return failed;
}

/* Starts a target of the same kind, measures against it, ends it. */
static int run_loopback(struct bench_options *options)
{
	const char *arguments[ENGINE_CHILD_ARGUMENTS + 8];
	char buffer[32];
	struct child child;
	size_t count = 0;
	int failed;

	snprintf(buffer, sizeof(buffer), "%llu", (unsigned long long)options->buffer);
	arguments[count++] = "bench";
	arguments[count++] = "--target";
	arguments[count++] = "--buffer";
	arguments[count++] = buffer;
	if (options->ordinary)
		arguments[count++] = "--ordinary";
	count += engine_child_arguments(&options->engine, arguments + count);
	arguments[count] = NULL;
	if (child_start(&child, arguments) != 0)
		return 1;
	options->segment = child.name;
	failed = run_initiator(options);
	if (child_stop(&child) != 0) {
		fprintf(stderr, "%s: the target did not end well\n", COMMAND);
		failed = 1;
	}
	return failed;
}

static void check_options(const struct command_line *line, struct bench_options *options, size_t operands)
{
	if (options->target + options->loopback + (operands == 1) != 1)
		arguments_refuse(line, "give one of SEGMENT, --target or --loopback");
	if (options->batch.last > BATCH_MAX || options->threads.last > THREADS_MAX)
		arguments_refuse(line, "at most %d requests in a batch and %d threads", BATCH_MAX, THREADS_MAX);
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
					 .threads = { 1, 1 },
					 .pages = 1,
					 .buffer = 256 << 20,
					 .seconds = 1,
					 .op = BENCH_WRITE };
	const struct argument arguments[] = {
		{ "target", ARGUMENT_FLAG, &options.target, NULL, "offer memory until SIGINT or SIGTERM" },
		{ "loopback", ARGUMENT_FLAG, &options.loopback, NULL, "start a target of its own on this machine" },
		{ "op", ARGUMENT_CHOICE, &options.op, BENCH_OPS, "what to do (write)" },
		{ "size", ARGUMENT_RANGE, &options.size, "FIRST[-LAST]", "bytes a request, doubling (4k-64m)" },
		{ "batch", ARGUMENT_RANGE, &options.batch, "FIRST[-LAST]", "requests a batch, doubling (1)" },
		{ "threads", ARGUMENT_RANGE, &options.threads, "FIRST[-LAST]", "threads, doubling (1)" },
		{ "pages", ARGUMENT_NUMBER, &options.pages, "N", "scattered pages a request (1)" },
		{ "page-size", ARGUMENT_NUMBER, &options.page_size, "BYTES", "size of a page, instead of --size" },
		{ "seconds", ARGUMENT_DECIMAL, &options.seconds, "S", "how long a point takes (1)" },
		{ "verify", ARGUMENT_FLAG, &options.verify, NULL, "fill with a pattern, check every byte" },
		{ "buffer", ARGUMENT_NUMBER, &options.buffer, "BYTES", "memory on each side (256m)" },
		{ "ordinary", ARGUMENT_FLAG, &options.ordinary, NULL, "ordinary memory, not the engine's" },
		{ "transport", ARGUMENT_TEXT, &options.transport, "LIST", "use only these, such as tcp or shm,tcp" },
		{ "format", ARGUMENT_CHOICE, &options.format, TABLE_FORMATS, "how to print (text)" },
		ENGINE_ARGUMENTS(&options.engine),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "[SEGMENT]",
		.summary = "Measures reads and writes to SEGMENT, the name that 'causeway bench --target' prints.\n"
			   "GB/s are 1e9 bytes a second; times are of a whole batch, from submit to its end.",
		.arguments = arguments,
		.operands_max = 1,
	};
	size_t operands = arguments_parse(&line, argc, argv, &options.segment);

	check_options(&line, &options, operands);
	if (stop_install() != 0) {
		perror(COMMAND);
		return 1;
	}
	if (options.target)
		return run_target(&options);
	return options.loopback ? run_loopback(&options) : run_initiator(&options);
}
