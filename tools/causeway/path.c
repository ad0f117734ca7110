/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway path SEGMENT`: which way bytes between here and a segment go, for each kind of local memory, and why not
 * another.
 */
#include <stdio.h>

#include "commands.h"
#include "lib/arguments.h"
#include "lib/engine.h"
#include "lib/table.h"

#define COMMAND "causeway path"
#define SCRATCH (1u << 20)
#define STEPS_MAX 32

static const struct table_column columns[] = {
	{ "op", "op", -5, 0 },
	{ "local", "local memory", -12, 0 },
	{ "transport", "transport", -12, 0 },
	{ "use", "use", -8, 0 },
	{ "rails", "rails", 5, 0 },
	{ "gigabytes_per_second", "GB/s", 6, 1 },
	{ "checks", "an access is checked by", -48, 0 },
	{ "why", "why", -1, 0 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

struct path_options {
	struct engine_arguments engine;
	const char *segment, *transport;
	int format;
};

static int print_steps(struct table *table, struct cw_segment *segment, const struct engine_memory *scratch,
		       const struct cw_remote_region *remote, enum cw_op op)
{
	struct cw_path_step steps[STEPS_MAX];
	uint64_t length = remote->length < SCRATCH ? remote->length : SCRATCH;
	size_t count = 0;
	int status = cw_path_explain(segment, scratch->address, remote->address, length, op, steps, STEPS_MAX, &count);

	if (status != CW_OK) {
		engine_report(COMMAND, op == CW_OP_WRITE ? "no path for writes" : "no path for reads", status);
		return -1;
	}
	for (size_t i = 0; i < count && i < STEPS_MAX; i++) {
		const struct table_cell cells[COLUMNS] = {
			{ op == CW_OP_WRITE ? "write" : "read", 0 },
			{ scratch->ordinary ? "ordinary" : "engine's", 0 },
			{ steps[i].transport, 0 },
			{ steps[i].chosen   ? "chosen"
			  : steps[i].usable ? "possible"
					    : "no",
			  0 },
			{ NULL, (double)steps[i].rails },
			{ NULL, steps[i].gigabytes_per_second },
			{ steps[i].checks, 0 },
			{ steps[i].why, 0 },
		};

		table_row(table, cells);
	}
	return 0;
}

static int print_paths(struct cw_engine *engine, struct cw_segment *segment, const struct cw_remote_region *remote,
		       int format)
{
	struct table table;
	int failed = 0;

	table_begin(&table, stdout, (enum table_format)format, columns, COLUMNS);
	for (int ordinary = 0; ordinary <= 1; ordinary++) {
		struct engine_memory scratch;

		if (engine_memory_open(COMMAND, engine, SCRATCH, ordinary, &scratch) != 0) {
			failed = 1;
			continue;
		}
		failed |= print_steps(&table, segment, &scratch, remote, CW_OP_WRITE) != 0;
		failed |= print_steps(&table, segment, &scratch, remote, CW_OP_READ) != 0;
		engine_memory_close(&scratch);
	}
	table_end(&table);
	return failed;
}

static void print_segment(const struct cw_segment_info *info, const struct cw_remote_region *remote)
{
	printf("segment  %s at %s, %s, %s\n", info->name, info->address,
	       info->classic ? "a Mooncake engine" : "a Causeway engine",
	       info->same_process ? "this process"
	       : info->same_host  ? "this machine"
				  : "another machine");
	printf("offers   %s; %zu regions, the first has %llu bytes at %#llx, %s\n\n", info->transports,
	       info->region_count, (unsigned long long)remote->length, (unsigned long long)remote->address,
	       remote->location);
}

static int explain(const struct path_options *options, struct cw_engine *engine, struct cw_segment *segment)
{
	struct cw_segment_info info = { .size = sizeof(info) };
	struct cw_remote_region remote;
	size_t count = 0;
	int status = cw_segment_regions(segment, &remote, 1, &count);

	if (status == CW_OK)
		status = cw_segment_info_get(segment, &info);
	if (status != CW_OK) {
		engine_report(COMMAND, options->segment, status);
		return 1;
	}
	if (count == 0) {
		fprintf(stderr, "%s: %s offers no memory, so there is no path to explain\n", COMMAND, options->segment);
		return 1;
	}
	if (options->format == TABLE_TEXT)
		print_segment(&info, &remote);
	return print_paths(engine, segment, &remote, options->format);
}

int command_path(int argc, char **argv)
{
	struct path_options options = { .format = TABLE_TEXT };
	const struct argument arguments[] = {
		{ "transport", ARGUMENT_TEXT, &options.transport, "LIST", "as if only these might be used" },
		{ "format", ARGUMENT_CHOICE, &options.format, TABLE_FORMATS, "how to print (text)" },
		ENGINE_ARGUMENTS(&options.engine),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "SEGMENT",
		.summary = "Tells which transport carries bytes to and from SEGMENT (host:port), how fast it is\n"
			   "expected to be, who checks an access, and why each other transport is not chosen.",
		.arguments = arguments,
		.operands_min = 1,
		.operands_max = 1,
	};
	struct cw_segment *segment;
	struct cw_engine *engine;
	int failed = 1;

	arguments_parse(&line, argc, argv, &options.segment);
	if (engine_start(COMMAND, &options.engine, &engine) != 0)
		return 1;
	if (engine_segment_open(COMMAND, engine, options.segment, options.transport, &segment) == 0) {
		failed = explain(&options, engine, segment);
		cw_segment_close(segment);
	}
	cw_engine_close(engine);
	return failed;
}
