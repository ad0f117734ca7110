/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway replay`: options, the scale of the cache, starting or joining the decode process, one run for each list of
 * transports. The two sides are in replay_prefill.c and replay_decode.c. Manual: man/causeway-replay.1.
 */
#include "replay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "lib/arguments.h"
#include "lib/child.h"
#include "lib/stop.h"
#include "lib/system_info.h"
#include "lib/units.h"
#include "replay_protocol.h"
#include "replay_report.h"

#define MEMORY_MAX (2ull << 30) /* of the decode side, by default */
#define STAGING_PART 8          /* of that memory */
#define RUNS_MAX 8
#define DEMO_REQUESTS 400
#define DEMO_TRANSPORTS "shm,tcp"

struct replay_options {
	struct engine_arguments engine;
	const char *trace, *decode, *transport, *each;
	int serve, demo, model, ordinary, json;
	uint64_t memory, capacity, tokens, staging, in_flight, limit, generate, seed;
	double speed;
};

static const char *const model_names[] = { "llama-8b", "llama-70b" };

static uint64_t default_memory(void)
{
	uint64_t quarter = system_meminfo("MemAvailable") / 4;

	return quarter && quarter < MEMORY_MAX ? quarter : MEMORY_MAX;
}

/* Fills the plan from the options; what cannot be is refused. */
static void make_plan(const struct command_line *line, const struct replay_options *options, struct replay_plan *plan)
{
	uint64_t memory = options->memory ? options->memory : default_memory(), block, capacity, staging;
	const char *wrong;

	plan->geometry = kv_preset(options->model);
	plan->geometry.tokens_per_block =
		options->tokens ? (uint32_t)options->tokens : kv_tokens_for(&plan->geometry, memory);
	wrong = options->tokens > KV_TRACE_TOKENS ? "--tokens-per-block is at most 512"
						  : kv_geometry_check(&plan->geometry);
	if (wrong)
		arguments_refuse(line, "%s", wrong);
	block = kv_block_bytes(&plan->geometry);
	capacity = options->capacity ? options->capacity : memory / block;
	staging = options->staging ? options->staging : memory / STAGING_PART / block;
	if (capacity == 0 || capacity > UINT32_MAX / kv_planes(&plan->geometry))
		arguments_refuse(line, "--memory %llu holds no block of %llu bytes", (unsigned long long)memory,
				 (unsigned long long)block);
	if (options->in_flight == 0 || options->in_flight > REPLAY_ROUNDS_MAX)
		arguments_refuse(line, "--in-flight is from 1 to %u", REPLAY_ROUNDS_MAX);
	if (staging > UINT32_MAX / kv_planes(&plan->geometry))
		arguments_refuse(line, "--staging-blocks is out of range");
	plan->capacity_blocks = (uint32_t)capacity;
	plan->staging_blocks = staging ? (uint32_t)staging : 1;
	plan->in_flight = (uint32_t)options->in_flight;
	plan->speed = options->speed;
	plan->ordinary = options->ordinary;
}

static int run_prefill(const struct replay_options *options, const struct replay_plan *plan, const char *decode,
		       struct replay_report *report)
{
	struct cw_engine *engine;
	int status;

	if (engine_start(REPLAY_COMMAND, &options->engine, &engine) != 0) {
		snprintf(report->error, sizeof(report->error), "cannot open an engine");
		return -1;
	}
	status = replay_prefill(engine, decode, plan, report);
	cw_engine_close(engine);
	return status;
}

/* One run, with a decode process of its own unless one was named. */
static int run_once(const struct replay_options *options, const struct replay_plan *plan, struct replay_report *report)
{
	const char *arguments[ENGINE_CHILD_ARGUMENTS + 3] = { "replay", "--serve" };
	size_t count = 2;
	struct child decode;
	int status;

	if (options->decode)
		return run_prefill(options, plan, options->decode, report);
	count += engine_child_arguments(&options->engine, arguments + count);
	arguments[count] = NULL;
	if (child_start(&decode, arguments) != 0) {
		snprintf(report->error, sizeof(report->error), "cannot start the decode process");
		return -1;
	}
	status = run_prefill(options, plan, decode.name, report);
	if (child_stop(&decode) != 0 && status == 0) {
		snprintf(report->error, sizeof(report->error), "the decode process did not end well");
		status = -1;
	}
	return status;
}

/* Cuts a comma list in place; the number of its words, of which the first max are stored. */
static size_t split(char *list, const char **words, size_t max)
{
	size_t count = 0;
	char *rest = NULL;

	for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest), count++)
		if (count < max)
			words[count] = word;
	return count;
}

static int run_all(const struct command_line *line, const struct replay_options *options, struct replay_plan *plan)
{
	static struct replay_report reports[RUNS_MAX];
	const char *labels[RUNS_MAX] = { options->transport ? options->transport : "any" };
	char *each = options->each ? strdup(options->each) : NULL;
	size_t count = each ? split(each, labels, RUNS_MAX) : 1, done = 0;
	int failed = 0;

	if (count == 0 || count > RUNS_MAX)
		arguments_refuse(line, "--each names from 1 to %d transports", RUNS_MAX);
	replay_print_scale(plan, model_names[options->model], options->json);
	while (done < count && !stop_requested()) {
		plan->transport = each ? labels[done] : options->transport;
		if (run_once(options, plan, &reports[done]) != 0) {
			failed = 1;
			fprintf(stderr, "%s: %s\n", REPLAY_COMMAND, reports[done].error);
		}
		done++;
	}
	replay_print_reports(reports, labels, done, options->json);
	free(each);
	return failed;
}

static int serve(const struct replay_options *options)
{
	struct cw_engine *engine;
	int status;

	if (engine_start(REPLAY_COMMAND, &options->engine, &engine) != 0)
		return 1;
	status = replay_decode(engine, options->memory);
	cw_engine_close(engine);
	return status;
}

/* A file that is gone when it is closed, with the trace of the demonstration. */
static FILE *demo_trace(const struct replay_options *options)
{
	FILE *file = tmpfile();

	if (file && trace_generate(file, DEMO_REQUESTS, options->seed) == 0 && fseek(file, 0, SEEK_SET) == 0)
		return file;
	if (file)
		fclose(file);
	return NULL;
}

static FILE *open_trace(const struct replay_options *options)
{
	if (options->demo)
		return demo_trace(options);
	return strcmp(options->trace, "-") == 0 ? fdopen(STDIN_FILENO, "r") : fopen(options->trace, "re");
}

static int replay(const struct command_line *line, const struct replay_options *options)
{
	struct replay_plan plan = { .trace = NULL };
	const char *name = options->demo ? "demonstration" : options->trace;
	struct trace trace;
	char error[512];
	FILE *file;
	int failed;

	make_plan(line, options, &plan);
	file = open_trace(options);
	if (!file) {
		fprintf(stderr, "%s: %s: %s\n", REPLAY_COMMAND, name, strerror(errno));
		return 1;
	}
	failed = trace_read(file, name, options->limit, &trace, error, sizeof(error));
	fclose(file);
	if (failed) {
		fprintf(stderr, "%s: %s\n", REPLAY_COMMAND, error);
		return 1;
	}
	plan.trace = &trace;
	failed = run_all(line, options, &plan);
	trace_free(&trace);
	return failed;
}

int command_replay(int argc, char **argv)
{
	struct replay_options options = { .in_flight = 4, .seed = 1 };
	const struct argument arguments[] = {
		{ "model", ARGUMENT_CHOICE, &options.model, KV_MODELS, "whose cache (llama-8b)" },
		{ "memory", ARGUMENT_NUMBER, &options.memory, "BYTES",
		  "of the decode side (2g, or a quarter of what is free)" },
		{ "capacity-blocks", ARGUMENT_NUMBER, &options.capacity, "N",
		  "blocks the decode side holds (what fits)" },
		{ "tokens-per-block", ARGUMENT_NUMBER, &options.tokens, "N", "of 512 (what memory allows)" },
		{ "staging-blocks", ARGUMENT_NUMBER, &options.staging, "N",
		  "of the prefill side (an eighth of the memory)" },
		{ "in-flight", ARGUMENT_NUMBER, &options.in_flight, "N", "requests under way at once (4)" },
		{ "speed", ARGUMENT_DECIMAL, &options.speed, "X", "honour time stamps, X times as fast (0: flat out)" },
		{ "limit", ARGUMENT_NUMBER, &options.limit, "N", "only the first N requests" },
		{ "transport", ARGUMENT_TEXT, &options.transport, "LIST", "use only these, such as tcp or shm,tcp" },
		{ "each", ARGUMENT_TEXT, &options.each, "LIST", "one run for each of these transports" },
		{ "ordinary", ARGUMENT_FLAG, &options.ordinary, NULL, "ordinary memory, not the engine's" },
		{ "serve", ARGUMENT_FLAG, &options.serve, NULL, "be a decode process; --memory is its limit" },
		{ "decode", ARGUMENT_TEXT, &options.decode, "NAME", "join the decode process of this name" },
		{ "generate", ARGUMENT_NUMBER, &options.generate, "N", "print a synthetic trace of N requests" },
		{ "seed", ARGUMENT_NUMBER, &options.seed, "N", "of the synthetic trace (1)" },
		{ "demo", ARGUMENT_FLAG, &options.demo, NULL, "replay a synthetic trace over shm and over tcp" },
		{ "format", ARGUMENT_CHOICE, &options.json, "text|json", "how to print (text)" },
		ENGINE_ARGUMENTS(&options.engine),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = REPLAY_COMMAND,
		.operands = "TRACE",
		.summary = "Sends the KV blocks of a request trace to a decode process, which verifies every page.\n"
			   "It starts that process itself, or joins one (--decode). TRACE is a file of the public\n"
			   "Mooncake format, one JSON object a line; '-' is the standard input.",
		.arguments = arguments,
		.operands_max = 1,
	};
	size_t operands = arguments_parse(&line, argc, argv, &options.trace);

	if (options.serve + options.demo + (options.generate > 0) + (operands == 1) != 1)
		arguments_refuse(&line, "give one of TRACE, --demo, --serve or --generate");
	if (options.demo && !options.transport && !options.each)
		options.each = DEMO_TRANSPORTS;
	if (options.transport && options.each)
		arguments_refuse(&line, "--transport and --each exclude each other");
	if (options.generate)
		return trace_generate(stdout, options.generate, options.seed) == 0 ? 0 : 1;
	if (stop_install() != 0) {
		perror(REPLAY_COMMAND);
		return 1;
	}
	return options.serve ? serve(&options) : replay(&line, &options);
}
