/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tebench: sweeps block sizes, batch sizes and thread counts between two processes, with the flags and the table that
 * users of Mooncake's program of that name know. This file has the flags and the target; initiator.c has the sweep and
 * point.c what is measured. Manual: man/tebench.1.
 */
#include "tebench.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/arguments.h"
#include "lib/engine.h"
#include "lib/named_engine.h"
#include "lib/own_host.h"
#include "lib/stop.h"

#define THREADS_MAX 1024u
#define BATCH_MAX 65536u
#define EVENTS 64
#define P2P 0 /* the first of --metadata_type */

static const char *const seg_types[] = { "DRAM", "VRAM" };

/* The list is that of one store's servers, as urls or as addresses. */
static int open_named_engine(const struct tebench_options *options, struct cw_engine **engine_out)
{
	static const char *const schemes[] = { "", "etcd", "redis", "http" };
	const char *list = options->metadata_url_list;
	char url[1024];

	snprintf(url, sizeof(url), "%s%s%s", strstr(list, "://") ? "" : schemes[options->metadata_type],
		 strstr(list, "://") ? "" : "://", list);
	return named_engine_start(COMMAND, url, options->seg_name, (unsigned)options->rpc_server_port, engine_out);
}

int tebench_open_engine(const struct tebench_options *options, struct cw_engine **engine_out)
{
	char host[OWN_HOST_MAX], name[OWN_HOST_MAX + 16];
	/* The range that firewalls of Mooncake's users know. */
	struct engine_arguments arguments = {
		.name = name,
		.settings = { .values = { "control/port_min=15000", "control/port_max=17000" }, .count = 2 }
	};

	if (options->metadata_type != P2P)
		return open_named_engine(options, engine_out);
	if (*options->seg_name)
		snprintf(host, sizeof(host), "%s", options->seg_name);
	else
		own_host_address(host, sizeof(host));
	if (options->rpc_server_port)
		snprintf(name, sizeof(name), "%s:%u", host, (unsigned)options->rpc_server_port);
	else
		snprintf(name, sizeof(name), "%s", host);
	return engine_start(COMMAND, &arguments, engine_out);
}

int tebench_open_buffers(const struct tebench_options *options, struct cw_engine *engine, struct buffers *buffers_out)
{
	if (options->seg_type == SEG_DRAM)
		return buffers_open_nodes(COMMAND, engine, options->total_buffer_size, buffers_out);
	return buffers_open_devices(COMMAND, engine, options->xport_type, options->local_gpu_id,
				    options->max_num_threads, options->total_buffer_size, buffers_out);
}

/* A notification carries the address that was written, as a decimal number. */
static int names_our_memory(const struct buffers *buffers, const struct cw_event *event)
{
	char text[32];
	char *end;
	unsigned long long address;

	if (event->length == 0 || event->length >= sizeof(text))
		return 0;
	snprintf(text, sizeof(text), "%.*s", (int)event->length, (const char *)event->data);
	address = strtoull(text, &end, 10);
	for (size_t i = 0; end != text && !*end && i < buffers->count; i++)
		if (address - (uintptr_t)buffers->list[i].address < buffers->length)
			return 1;
	return 0;
}

/* Until a signal comes; meanwhile takes the notifications, of which only so many may wait. */
static int serve(struct cw_engine *engine, const struct buffers *buffers)
{
	struct cw_queue *queue = cw_engine_queue(engine);
	struct pollfd ready[2] = { { .fd = stop_fd(), .events = POLLIN },
				   { .fd = cw_queue_fd(queue), .events = POLLIN } };
	unsigned long long good = 0, bad = 0;

	while (!stop_requested()) {
		struct cw_event events[EVENTS];
		int count = cw_queue_poll(queue, events, EVENTS);

		for (int i = 0; i < count; i++) {
			if (events[i].kind == CW_EVENT_NOTIFY)
				(*(names_our_memory(buffers, &events[i]) ? &good : &bad))++;
			cw_event_clear(&events[i]);
		}
		if (count <= 0 && cw_queue_arm(queue) == CW_OK)
			poll(ready, 2, -1);
	}
	if (good || bad)
		printf("%llu notifications, %llu of them wrong\n", good + bad, bad);
	return bad != 0;
}

static int run_target(const struct tebench_options *options)
{
	struct cw_engine *engine;
	struct buffers buffers;
	int failed = 1;

	if (tebench_open_engine(options, &engine) != 0)
		return 1;
	if (engine_transports_check(COMMAND, engine, options->xport_type) == 0 &&
	    tebench_open_buffers(options, engine, &buffers) == 0) {
		printf("Segment name: %s\n"
		       "To start initiators, run\n"
		       "  ./tebench --target_seg_name=%s --seg_type=%s --backend=%s%s%s\n"
		       "Press Ctrl-C to terminate\n",
		       cw_engine_name(engine), cw_engine_name(engine), seg_types[options->seg_type],
		       options->backend ? "classic" : "tent", options->xport_type ? " --xport_type=" : "",
		       options->xport_type ? options->xport_type : "");
		fflush(stdout);
		failed = serve(engine, &buffers);
		buffers_close(&buffers);
	}
	cw_engine_close(engine);
	return failed;
}

static void refuse_later(const struct command_line *line, const struct tebench_options *options)
{
	const struct {
		const char *flag, *value, *fallback, *instead;
	} rows[] = {
		{ "seg_type_mix", options->seg_type_mix, "", "use --seg_type" },
		{ "qos_classes", options->qos_classes, "", "use one initiator for each class" },
		{ "qos_classes_json", options->qos_classes_json, "", "use one initiator for each class" },
		{ "workload_classes_json", options->workload_classes_json, "", "use one initiator for each class" },
		{ "qos_output_jsonl", options->qos_output_jsonl, "", "the table is on standard output" },
		{ "tent_transport_hint", options->tent_transport_hint, "unspec", "use --xport_type" },
		{ "tent_intent_type", options->tent_intent_type, "unspec", "all requests are alike" },
		{ "qos_link_capacity_gbps", options->qos_link_capacity_gbps > 0 ? "set" : "", "",
		  "the table has the bandwidth" },
		{ "deadline_bw_arbitration", options->deadline_bw_arbitration ? "on" : "", "",
		  "use --deadline_us alone" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].value, rows[i].fallback) != 0)
			arguments_refuse(line, "--%s does not work yet; %s", rows[i].flag, rows[i].instead);
	if (options->metadata_type != P2P && !*options->metadata_url_list)
		arguments_refuse(line, "this metadata type needs the address of a server: --metadata_url_list");
}

static void check_options(const struct command_line *line, struct tebench_options *options)
{
	const uint64_t *const sizes[] = { &options->total_buffer_size, &options->start_block_size,
					  &options->start_batch_size, &options->start_num_threads };

	refuse_later(line, options);
	if (options->xport_type && !*options->xport_type)
		options->xport_type = NULL;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (*sizes[i] == 0)
			arguments_refuse(line, "sizes and numbers of threads must not be 0");
	if (options->max_block_size < options->start_block_size ||
	    options->max_batch_size < options->start_batch_size ||
	    options->max_num_threads < options->start_num_threads)
		arguments_refuse(line, "a sweep starts above its end");
	if (options->max_batch_size > BATCH_MAX || options->max_num_threads > THREADS_MAX ||
	    options->max_block_size > 1ull << 40 || options->total_buffer_size > 1ull << 46)
		arguments_refuse(line, "at most %u requests in a batch, %u threads, blocks of 1 TiB", BATCH_MAX,
				 THREADS_MAX);
	if (options->rpc_server_port > 65535)
		arguments_refuse(line, "--rpc_server_port is at most 65535");
	if (options->local_gpu_id < -1 || options->target_gpu_id < -1)
		arguments_refuse(line, "a GPU's number is at least 0; -1 stands for all");
	if (options->duration > 86400 || options->warmup > 3600 || options->deadline_us > 1ull << 40 ||
	    options->request_interval_us > 1ull << 40)
		arguments_refuse(line, "a time is out of range");
}

/* clang-format off */
#define TEBENCH_ARGUMENTS(o)                                                                                           \
	{ "target_seg_name", ARGUMENT_TEXT, &(o)->target_seg_name, "HOST:PORT", "the target; empty = be the target" }, \
	{ "seg_name", ARGUMENT_TEXT, &(o)->seg_name, "HOST", "own address (the first that is not 127.x.y.z)" },        \
	{ "rpc_server_port", ARGUMENT_NUMBER, &(o)->rpc_server_port, "PORT", "own port (0: from 15000 to 17000)" },    \
	{ "seg_type", ARGUMENT_CHOICE, &(o)->seg_type, SEG_TYPES, "own memory: host or device (DRAM)" },               \
	{ "total_buffer_size", ARGUMENT_NUMBER, &(o)->total_buffer_size, "BYTES", "of each own buffer (1g)" },         \
	{ "op_type", ARGUMENT_CHOICE, &(o)->op_type, OP_TYPES, "what to do (read)" },                                  \
	{ "check_consistency", ARGUMENT_FLAG, &(o)->check_consistency, NULL, "check every byte" },                     \
	{ "start_block_size", ARGUMENT_NUMBER, &(o)->start_block_size, "BYTES", "of a request, first (4k)" },          \
	{ "max_block_size", ARGUMENT_NUMBER, &(o)->max_block_size, "BYTES", "of a request, last (64m)" },              \
	{ "start_batch_size", ARGUMENT_NUMBER, &(o)->start_batch_size, "N", "requests in a batch, first (1)" },        \
	{ "max_batch_size", ARGUMENT_NUMBER, &(o)->max_batch_size, "N", "requests in a batch, last (1)" },             \
	{ "start_num_threads", ARGUMENT_NUMBER, &(o)->start_num_threads, "N", "threads, first (1)" },                  \
	{ "max_num_threads", ARGUMENT_NUMBER, &(o)->max_num_threads, "N", "threads, last (1)" },                       \
	{ "duration", ARGUMENT_DECIMAL, &(o)->duration, "SECONDS", "of each point (5)" },                              \
	{ "warmup", ARGUMENT_DECIMAL, &(o)->warmup, "SECONDS", "before each point, not measured (1)" },                \
	{ "target_offset", ARGUMENT_NUMBER, &(o)->target_offset, "BYTES", "start in each of its buffers (0)" },        \
	{ "target_range_size", ARGUMENT_NUMBER, &(o)->target_range_size, "BYTES", "how much from there (0 = all)" },   \
	{ "request_interval_us", ARGUMENT_NUMBER, &(o)->request_interval_us, "US", "between two batches (0)" },        \
	{ "deadline_us", ARGUMENT_NUMBER, &(o)->deadline_us, "US", "for each batch (0 = none)" },                      \
	{ "deadline_tight_threads", ARGUMENT_NUMBER, &(o)->deadline_tight_threads, "N",                                \
	  "only so many threads have it (0 = all)" },                                                                  \
	{ "deadline_bw_arbitration", ARGUMENT_FLAG, &(o)->deadline_bw_arbitration, NULL, "not yet" },                  \
	{ "notifi", ARGUMENT_FLAG, &(o)->notifi, NULL, "a notification after each batch" },                            \
	{ "local_gpu_id", ARGUMENT_INTEGER, &(o)->local_gpu_id, "N", "own device of thread 0 (0; -1 = all)" },         \
	{ "target_gpu_id", ARGUMENT_INTEGER, &(o)->target_gpu_id, "N", "the target's device of thread 0 (0)" },        \
	{ "xport_type", ARGUMENT_TEXT, &(o)->xport_type, "LIST", "use only these transports (any)" },                  \
	{ "backend", ARGUMENT_CHOICE, &(o)->backend, "tent|classic", "accepted; there is one engine here" },           \
	{ "metadata_type", ARGUMENT_CHOICE, &(o)->metadata_type, "p2p|etcd|redis|http",                                \
	  "who knows names (p2p)" },                                                                                   \
	{ "metadata_url_list", ARGUMENT_TEXT, &(o)->metadata_url_list, "LIST", "servers; not with p2p" },              \
	{ "seg_type_mix", ARGUMENT_TEXT, &(o)->seg_type_mix, "LIST", "not yet" },                                      \
	{ "qos_classes", ARGUMENT_TEXT, &(o)->qos_classes, "LIST", "not yet" },                                        \
	{ "qos_classes_json", ARGUMENT_TEXT, &(o)->qos_classes_json, "JSON", "not yet" },                              \
	{ "workload_classes_json", ARGUMENT_TEXT, &(o)->workload_classes_json, "JSON", "not yet" },                    \
	{ "qos_link_capacity_gbps", ARGUMENT_DECIMAL, &(o)->qos_link_capacity_gbps, "X", "not yet" },                  \
	{ "qos_output_jsonl", ARGUMENT_TEXT, &(o)->qos_output_jsonl, "FILE", "not yet" },                              \
	{ "tent_transport_hint", ARGUMENT_TEXT, &(o)->tent_transport_hint, "unspec", "not yet" },                      \
	{ "tent_intent_type", ARGUMENT_TEXT, &(o)->tent_intent_type, "unspec", "not yet" }
/* clang-format on */

int main(int argc, char **argv)
{
	struct tebench_options options = {
		.seg_name = "",
		.target_seg_name = "",
		.metadata_url_list = "",
		.total_buffer_size = 1u << 30,
		.start_block_size = 4096,
		.max_block_size = 1u << 26,
		.start_batch_size = 1,
		.max_batch_size = 1,
		.start_num_threads = 1,
		.max_num_threads = 1,
		.duration = 5,
		.warmup = 1,
		.seg_type_mix = "",
		.qos_classes = "",
		.qos_classes_json = "",
		.workload_classes_json = "",
		.qos_output_jsonl = "",
		.tent_transport_hint = "unspec",
		.tent_intent_type = "unspec",
	};
	const struct argument arguments[] = {
		TEBENCH_ARGUMENTS(&options),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "",
		.summary =
			"Measures reads and writes between two processes, for block sizes, batches and threads that\n"
			"double from first to last. Without --target_seg_name it is the target and prints its name.",
		.arguments = arguments,
	};

	arguments_parse(&line, argc, argv, NULL);
	check_options(&line, &options);
	if (stop_install() != 0) {
		perror(COMMAND);
		return 1;
	}
	return *options.target_seg_name ? tebench_initiate(&options) : run_target(&options);
}
