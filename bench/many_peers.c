/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to have many peers: one engine moves blocks to one peer and, in turns of equal length, to all of them,
 * round robin and with the same number of blocks in flight. Targets are engines in other processes, several in each.
 * Prints one JSON object a line: `{"program": ..., "workload": "peers-256", ...}` for throughput with each block size,
 * and one for memory, descriptors, kernel buffers, the time of connecting and the wake-ups while nothing is to do.
 *
 *     many_peers [--peers N] [--processes N] [--via tcp|shm] [--op read|write] [--sizes BYTES,BYTES] [--depth N]
 *                [--seconds S] [--rounds N] [--buffer BYTES] [--idle S] [--openers N] [--ordinary] [--set KEY=VALUE]
 *                [--set-here KEY=VALUE]
 *
 * Settings with --set are for all engines, those behind them with --set-here for the initiator's. The buffer is that of
 * the initiator; the one peer has as much, and all others share as much once more.
 */
#include <causeway/causeway.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "process_cost.h"

#define PEERS_MAX 4096
#define SIZES_MAX 8
#define SETTINGS_MAX 8
#define SAMPLES_MAX (1u << 20)
#define PATIENCE 20000000000ull /* for one block, before the run counts as stuck */

struct options {
	unsigned peers, processes, depth, rounds, openers;
	const char *via;
	enum cw_op op;
	int ordinary;
	size_t sizes[SIZES_MAX], size_count, buffer;
	double seconds, idle;
	struct cw_setting settings[SETTINGS_MAX];
	size_t setting_count, common_count; /* the targets have the first of them only */
};

/* One target engine, as its process tells of it. */
struct offer {
	char name[64];
	uint64_t address, length;
};

struct peer {
	struct offer offer;
	struct cw_segment *segment;
	uint64_t next, blocks;
};

struct slot {
	unsigned peer;
	uint64_t began;
};

struct run {
	const struct options *options;
	struct cw_engine *engine;
	struct cw_queue *queue;
	unsigned char *buffer;
	uint64_t buffer_next;
	struct peer *peers; /* [0] is the one; the rest are all */
	pid_t *children;
	int *ends; /* closing one ends that child */
	unsigned child_count;
	struct slot *slots;
	uint32_t *samples;
	size_t sample_count;
};

/* What the turns of one block size with one set of peers came to. */
struct sum {
	uint64_t blocks, began_bytes;
	double seconds, rates[64], initiator_cpu, target_cpu;
	unsigned rounds;
};

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "many_peers: %s: %s\n", what, why);
	exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* -------------------------------------------------------------------------------------- what things cost */

static struct cost cost_of_children(const struct run *run)
{
	struct cost sum = { 0 };

	for (unsigned i = 1; i < run->child_count; i++) {
		struct cost cost = cost_of(run->children[i]);

		sum.resident += cost.resident;
		sum.anonymous += cost.anonymous;
		sum.tables += cost.tables;
		sum.descriptors += cost.descriptors;
		sum.switches += cost.switches;
	}
	return sum;
}

static double children_cpu(const struct run *run)
{
	double sum = 0;

	for (unsigned i = 0; i < run->child_count; i++) {
		clockid_t clock;

		if (!clock_getcpuclockid(run->children[i], &clock))
			sum += (double)clock_ns(clock) / 1e9;
	}
	return sum;
}

/* --------------------------------------------------------------------------------------------- targets */

static struct cw_engine *open_engine(const struct options *options, size_t setting_count)
{
	struct cw_engine_options engine_options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine;

	engine_options.settings = options->settings;
	engine_options.setting_count = setting_count;
	if (cw_engine_open(&engine_options, &engine))
		fail("cannot open an engine", cw_last_error());
	return engine;
}

static unsigned char *memory_for(const struct options *options, struct cw_engine *engine, size_t length)
{
	struct cw_region *region;
	void *memory;

	if (options->ordinary) {
		memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED || cw_region_register(engine, memory, length, NULL, &region))
			fail("no memory", memory == MAP_FAILED ? strerror(errno) : cw_last_error());
	} else if (cw_memory_allocate(engine, length, NULL, &memory, &region)) {
		fail("no memory", cw_last_error());
	}
	memset(memory, 1, length);
	return memory;
}

/* A process of targets: tells what it offers, then waits for the end of its input. */
static void serve(const struct options *options, unsigned count, size_t length, int tell, int end)
{
	struct cw_engine **engines = calloc(count, sizeof(struct cw_engine *));
	char byte;

	for (unsigned i = 0; engines && i < count; i++) {
		struct offer offer = { .length = length };

		engines[i] = open_engine(options, options->common_count);
		offer.address = (uint64_t)(uintptr_t)memory_for(options, engines[i], length);
		snprintf(offer.name, sizeof(offer.name), "%s", cw_engine_name(engines[i]));
		if (write(tell, &offer, sizeof(offer)) != sizeof(offer))
			exit(1);
	}
	while (read(end, &byte, 1) < 0 && errno == EINTR)
		continue;
	for (unsigned i = 0; engines && i < count; i++)
		cw_engine_close(engines[i]);
	exit(0);
}

/* Starts a process with `count` targets and learns of them. */
static void start_child(struct run *run, unsigned count, size_t length, struct peer *peers)
{
	int tell[2], end[2];
	pid_t pid;

	if (pipe(tell) || pipe(end))
		fail("pipe", strerror(errno));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		fail("fork", strerror(errno));
	if (pid == 0) {
		close(end[1]);
		close(tell[0]);
		/* An end that another child keeps open would never come. */
		for (unsigned i = 0; i < run->child_count; i++)
			close(run->ends[i]);
		(void)prctl(PR_SET_NAME, "targets"); /* so that profiles tell the sides apart */
		serve(run->options, count, length, tell[1], end[0]);
	}
	close(end[0]);
	close(tell[1]);
	for (unsigned i = 0; i < count; i++)
		if (read(tell[0], &peers[i].offer, sizeof(peers[i].offer)) != sizeof(peers[i].offer))
			fail("targets", "a process of them ended early");
	close(tell[0]);
	run->children[run->child_count] = pid;
	run->ends[run->child_count++] = end[1];
}

static void start_targets(struct run *run)
{
	const struct options *options = run->options;
	unsigned processes = options->processes < options->peers ? options->processes : options->peers, first = 0;
	size_t share = options->buffer / options->peers, least = 2 * options->sizes[options->size_count - 1];

	share = (share > least ? share : least) + 4095;
	start_child(run, 1, options->buffer, run->peers);
	for (unsigned i = 0; i < processes; i++) {
		unsigned until = options->peers * (i + 1) / processes;

		start_child(run, until - first, share & ~(size_t)4095, run->peers + 1 + first);
		first = until;
	}
}

static void stop_targets(struct run *run)
{
	for (unsigned i = 0; i < run->child_count; i++) {
		close(run->ends[i]);
		waitpid(run->children[i], NULL, 0);
	}
}

/* -------------------------------------------------------------------------------------------- transfers */

static void submit(struct run *run, unsigned index, size_t size)
{
	struct slot *slot = &run->slots[index];
	struct peer *peer = &run->peers[slot->peer];
	uint64_t local = run->buffer_next++ % (run->options->buffer / size) * size;
	uint64_t remote = peer->next++ % (peer->offer.length / size) * size;
	struct cw_request request = {
		.segment = peer->segment,
		.op = run->options->op,
		.local = { .base = (uint64_t)(uintptr_t)run->buffer + local, .page_size = size, .count = 1 },
		.remote = { .base = peer->offer.address + remote, .page_size = size, .count = 1 },
	};
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch *batch;

	options.queue = run->queue;
	options.arg = slot;
	options.priority = CW_CLASS_BULK;
	slot->began = now();
	if (cw_batch_submit(run->engine, &request, 1, &options, &batch))
		fail("cannot submit", cw_last_error());
}

/* Takes one end of a batch; returns its slot. */
static void take(struct run *run, const struct cw_event *event)
{
	struct slot *slot = event->arg;
	struct cw_batch_result result = { .size = sizeof(result) };

	if (event->kind != CW_EVENT_BATCH)
		return;
	cw_batch_result_get(event->batch, &result);
	if (result.state != CW_BATCH_COMPLETED)
		fail("a block failed", result.text);
	if (run->sample_count < SAMPLES_MAX)
		run->samples[run->sample_count++] = (uint32_t)((now() - slot->began) / 10);
	run->peers[slot->peer].blocks++;
	cw_batch_release(event->batch);
}

/* Moves blocks for a while, `depth` in flight, round robin over `count` peers from `first` on. */
static uint64_t move(struct run *run, unsigned first, unsigned count, unsigned depth, size_t size, double seconds)
{
	uint64_t end = now() + (uint64_t)(seconds * 1e9), blocks = 0;
	unsigned flying = 0;
	struct cw_event events[64];

	for (unsigned i = 0; i < depth; i++, flying++) {
		run->slots[i].peer = first + i % count;
		submit(run, i, size);
	}
	while (flying) {
		int taken = cw_queue_wait(run->queue, events, 64, PATIENCE);

		if (taken <= 0)
			fail("blocks", "none ended for a long time");
		for (int i = 0; i < taken; i++) {
			struct slot *slot = events[i].arg;

			take(run, &events[i]);
			blocks++;
			if (now() >= end) {
				flying--;
				continue;
			}
			/* The next peer of this slot: with fewer slots than peers, each visits its share of them. */
			slot->peer = first + (slot->peer - first + depth) % count;
			submit(run, (unsigned)(slot - run->slots), size);
		}
	}
	return blocks;
}

static void turn(struct run *run, unsigned first, unsigned count, unsigned depth, size_t size, struct sum *sum)
{
	double cpu = children_cpu(run), own = (double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
	uint64_t began = now(), blocks = move(run, first, count, depth, size, run->options->seconds);
	double seconds = (double)(now() - began) / 1e9;

	sum->initiator_cpu += (double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9 - own;
	sum->target_cpu += children_cpu(run) - cpu;
	sum->blocks += blocks;
	sum->seconds += seconds;
	if (sum->rounds < 64)
		sum->rates[sum->rounds++] = (double)(blocks * size) / 1e9 / seconds;
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int compare_rates(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(const uint32_t *samples, size_t count, double part)
{
	return count ? samples[(size_t)((double)(count - 1) * part)] / 100.0 : 0;
}

static double median(double *rates, unsigned count)
{
	qsort(rates, count, sizeof(*rates), compare_rates);
	return rates[count / 2];
}

/* Of the peers from `first` on: the blocks of the one with the fewest over those of the one with the most. */
static double fairness(const struct run *run, unsigned first, unsigned count)
{
	uint64_t least = UINT64_MAX, most = 0;

	for (unsigned i = first; i < first + count; i++) {
		uint64_t blocks = run->peers[i].blocks;

		least = blocks < least ? blocks : least;
		most = blocks > most ? blocks : most;
	}
	return most ? (double)least / (double)most : 0;
}

static void print_throughput(struct run *run, unsigned first, unsigned count, size_t size, struct sum *sum,
			     double ratio)
{
	const struct options *options = run->options;
	double gigabytes = (double)sum->blocks * (double)size / 1e9;

	qsort(run->samples, run->sample_count, sizeof(*run->samples), compare_samples);
	printf("{\"program\": \"causeway\", \"setting\": \"%s%s, depth %u\", \"workload\": \"peers-%u-%s-%s\", "
	       "\"bytes\": %zu, \"operations\": %llu, \"seconds\": %.3f, \"gigabytes_per_second\": %.3f, "
	       "\"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f}, "
	       "\"cpu_seconds_per_gigabyte\": {\"initiator\": %.4f, \"target\": %.4f}, "
	       "\"system_calls_per_operation\": null, \"resident_mib\": %.1f, "
	       "\"peers\": %u, \"slowest_to_fastest_peer\": %.3f, \"against_one_peer\": ",
	       options->via, options->ordinary ? ", ordinary memory" : "", options->depth, count, options->via,
	       options->op == CW_OP_READ ? "read" : "write", size, (unsigned long long)sum->blocks, sum->seconds,
	       median(sum->rates, sum->rounds), percentile(run->samples, run->sample_count, 0.5),
	       percentile(run->samples, run->sample_count, 0.99), percentile(run->samples, run->sample_count, 0.999),
	       sum->initiator_cpu / gigabytes, sum->target_cpu / gigabytes, cost_of(getpid()).resident / 1024, count,
	       fairness(run, first, count));
	printf(ratio > 0 ? "%.3f}\n" : "null}\n", ratio);
}

/* One peer and all peers in turns. */
static void measure_size(struct run *run, size_t size)
{
	const struct options *options = run->options;
	struct sum one = { 0 }, all = { 0 };
	double ratios[64];
	size_t kept;

	(void)move(run, 0, 1, options->depth, size, options->seconds / 4);
	(void)move(run, 1, options->peers, options->depth, size, options->seconds / 4);
	for (unsigned i = 0; i <= options->peers; i++)
		run->peers[i].blocks = 0;
	run->sample_count = 0;
	for (unsigned i = 0; i < options->rounds; i++) {
		kept = run->sample_count;
		turn(run, 0, 1, options->depth, size, &one);
		run->sample_count = kept; /* the times of all peers are those that are printed with their ratio */
		turn(run, 1, options->peers, options->depth, size, &all);
		ratios[i] = all.rates[i] / one.rates[i];
	}
	print_throughput(run, 1, options->peers, size, &all, median(ratios, options->rounds));
	run->sample_count = 0;
	(void)move(run, 0, 1, options->depth, size, options->seconds / 2);
	print_throughput(run, 0, 1, size, &one, 0);
	fflush(stdout);
}

/* ------------------------------------------------------------------------------------------- connecting */

struct opener {
	struct run *run;
	pthread_t thread;
	unsigned first, step;
};

static void *open_some(void *arg)
{
	const struct opener *opener = arg;
	const struct options *options = opener->run->options;
	struct cw_segment_options segment_options = CW_SEGMENT_OPTIONS_INIT;

	segment_options.transports = options->via;
	segment_options.strict = 1;
	for (unsigned i = opener->first; i <= options->peers; i += opener->step) {
		struct peer *peer = &opener->run->peers[i];

		if (cw_segment_open(opener->run->engine, peer->offer.name, &segment_options, &peer->segment))
			fail("cannot open a segment", cw_last_error());
	}
	return NULL;
}

/* All but [0], by several threads at the same time. */
static void connect_all(struct run *run)
{
	unsigned count = run->options->openers;
	struct opener *openers = calloc(count, sizeof(*openers));

	for (unsigned i = 0; openers && i < count; i++) {
		openers[i] = (struct opener){ .run = run, .first = 1 + i, .step = count };
		if (pthread_create(&openers[i].thread, NULL, open_some, &openers[i]))
			fail("pthread_create", "no thread");
	}
	for (unsigned i = 0; openers && i < count; i++)
		pthread_join(openers[i].thread, NULL);
	free(openers);
}

static void sleep_for(double seconds)
{
	struct timespec ts = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&ts, NULL);
}

static void print_cost(const char *who, const struct cost *before, const struct cost *after, unsigned peers)
{
	printf(", \"%s_per_peer\": {\"resident_kib\": %.1f, \"anonymous_kib\": %.1f, \"heap_kib\": %.1f, "
	       "\"page_table_kib\": %.2f, \"descriptors\": %.2f}",
	       who, (after->resident - before->resident) / peers, (after->anonymous - before->anonymous) / peers,
	       (after->heap - before->heap) / peers, (after->tables - before->tables) / peers,
	       (after->descriptors - (double)before->descriptors) / peers);
}

/* Connects, sends one small block to each peer, and then does nothing for a while. */
static void measure_connecting(struct run *run)
{
	const struct options *options = run->options;
	struct cost before = cost_of(getpid()), there = cost_of_children(run), opened, used, there_opened, there_used,
		    idle, there_idle;
	double sockets = socket_buffers(), sockets_opened;
	uint64_t began = now(), connected, first;

	connect_all(run);
	connected = now();
	sleep_for(0.3); /* further connections are made after the opening */
	opened = cost_of(getpid());
	there_opened = cost_of_children(run);
	sockets_opened = socket_buffers();
	first = now();
	(void)move(run, 1, options->peers, options->peers, 4096, 0);
	first = now() - first;
	sleep_for(0.3);
	used = cost_of(getpid());
	there_used = cost_of_children(run);
	printf("{\"program\": \"causeway\", \"setting\": \"%s\", \"workload\": \"connect-%u\", \"bytes\": 4096, "
	       "\"operations\": %u, \"seconds\": %.4f, \"first_block_seconds\": %.4f, \"openers\": %u, "
	       "\"resident_mib\": %.1f",
	       options->via, options->peers, options->peers, (double)(connected - began) / 1e9, (double)first / 1e9,
	       options->openers, used.resident / 1024);
	print_cost("opened", &before, &opened, options->peers);
	print_cost("used", &before, &used, options->peers);
	print_cost("target_opened", &there, &there_opened, options->peers);
	print_cost("target_used", &there, &there_used, options->peers);
	used = cost_of(getpid());
	there_used = cost_of_children(run);
	sleep_for(options->idle);
	idle = cost_of(getpid());
	there_idle = cost_of_children(run);
	printf(", \"socket_buffers_kib_per_peer\": {\"opened\": %.1f, \"used\": %.1f}, "
	       "\"wakeups_per_second\": {\"initiator\": %.2f, \"targets\": %.2f}}\n",
	       (sockets_opened - sockets) / options->peers, (socket_buffers() - sockets) / options->peers,
	       /* The call that slept here is a switch, too. */
	       options->idle > 0 ? ((double)(idle.switches - used.switches) - 1) / options->idle : 0,
	       options->idle > 0 ? (double)(there_idle.switches - there_used.switches) / options->idle : 0);
	fflush(stdout);
}

/* After blocks of every size were moved to all. */
static void print_after(struct run *run, const struct cost *before, const struct cost *there)
{
	struct cost after = cost_of(getpid()), there_after = cost_of_children(run);

	printf("{\"program\": \"causeway\", \"setting\": \"%s\", \"workload\": \"after-%u\", \"resident_mib\": %.1f",
	       run->options->via, run->options->peers, after.resident / 1024);
	print_cost("used", before, &after, run->options->peers);
	print_cost("target_used", there, &there_after, run->options->peers);
	printf(", \"socket_buffers_kib_per_peer\": %.1f}\n", socket_buffers() / run->options->peers);
}

/* An engine that nobody uses; opened a second time, because the first one loads code. */
static void measure_idle_engine(const struct options *options)
{
	struct cost before = cost_of(getpid()), after, later;
	struct cw_engine *engine = open_engine(options, options->setting_count);

	sleep_for(0.1);
	after = cost_of(getpid());
	sleep_for(options->idle);
	later = cost_of(getpid());
	printf("{\"program\": \"causeway\", \"setting\": \"%s\", \"workload\": \"idle-engine\", \"seconds\": %.1f, "
	       "\"resident_mib\": %.3f, \"anonymous_mib\": %.3f, \"heap_mib\": %.3f, \"descriptors\": %u, "
	       "\"wakeups_per_second\": %.2f}\n",
	       options->via, options->idle, (after.resident - before.resident) / 1024,
	       (after.anonymous - before.anonymous) / 1024, (after.heap - before.heap) / 1024,
	       after.descriptors - before.descriptors,
	       options->idle > 0 ? ((double)(later.switches - after.switches) - 1) / options->idle : 0);
	fflush(stdout);
	cw_engine_close(engine);
}

static void measure(struct run *run)
{
	const struct options *options = run->options;
	struct opener alone = { .run = run, .first = 0, .step = options->peers + 1 };
	struct cost before, there;

	run->engine = open_engine(options, options->setting_count);
	if (cw_queue_open(run->engine, &run->queue))
		fail("queue", cw_last_error());
	run->buffer = memory_for(options, run->engine, options->buffer);
	(void)open_some(&alone);
	(void)move(run, 0, 1, 1, 4096, 0);
	before = cost_of(getpid());
	there = cost_of_children(run);
	measure_connecting(run);
	for (size_t i = 0; i < options->size_count; i++)
		measure_size(run, options->sizes[i]);
	print_after(run, &before, &there);
	for (unsigned i = 0; i <= options->peers; i++)
		cw_segment_close(run->peers[i].segment);
	cw_queue_close(run->queue);
	cw_engine_close(run->engine);
}

/* ---------------------------------------------------------------------------------------------- options */

static size_t bytes_of(const char *text, char **end_out)
{
	size_t value = strtoull(text, end_out, 10);

	if (**end_out == 'k' || **end_out == 'm' || **end_out == 'g')
		value <<= *(*end_out)++ == 'k' ? 10 : (*end_out)[-1] == 'm' ? 20 : 30;
	return value;
}

static void add_setting(struct options *options, char *text)
{
	char *value = strchr(text, '=');

	if (!value || options->setting_count == SETTINGS_MAX)
		fail("--set", "KEY=VALUE, a few times");
	*value++ = 0;
	options->settings[options->setting_count++] = (struct cw_setting){ text, value };
}

static void add_sizes(struct options *options, const char *text)
{
	char *end;

	for (options->size_count = 0; *text && options->size_count < SIZES_MAX; text = *end == ',' ? end + 1 : end) {
		options->sizes[options->size_count] = bytes_of(text, &end);
		if (!options->sizes[options->size_count++] || end == text || (*end && *end != ','))
			fail("--sizes", "BYTES,BYTES");
	}
}

static void parse(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
		{ "peers", required_argument, NULL, 'p' },
		{ "processes", required_argument, NULL, 'P' },
		{ "via", required_argument, NULL, 'v' },
		{ "op", required_argument, NULL, 'o' },
		{ "sizes", required_argument, NULL, 's' },
		{ "depth", required_argument, NULL, 'd' },
		{ "seconds", required_argument, NULL, 't' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "buffer", required_argument, NULL, 'b' },
		{ "idle", required_argument, NULL, 'i' },
		{ "openers", required_argument, NULL, 'O' },
		{ "ordinary", no_argument, NULL, 'm' },
		{ "set", required_argument, NULL, 'S' },
		{ "set-here", required_argument, NULL, 'H' },
		{ NULL, 0, NULL, 0 },
	};
	int letter;
	char *end;

	while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (letter) {
		case 'p':
			options->peers = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'P':
			options->processes = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'v':
			options->via = optarg;
			break;
		case 'o':
			options->op = strcmp(optarg, "read") ? CW_OP_WRITE : CW_OP_READ;
			break;
		case 's':
			add_sizes(options, optarg);
			break;
		case 'd':
			options->depth = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 't':
			options->seconds = strtod(optarg, NULL);
			break;
		case 'r':
			options->rounds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'b':
			options->buffer = bytes_of(optarg, &end);
			break;
		case 'i':
			options->idle = strtod(optarg, NULL);
			break;
		case 'O':
			options->openers = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'm':
			options->ordinary = 1;
			break;
		case 'S':
		case 'H':
			add_setting(options, optarg);
			if (letter == 'S')
				options->common_count = options->setting_count;
			break;
		default:
			exit(2);
		}
	}
	if (!options->depth)
		options->depth = options->peers > 16 ? options->peers : 16;
	if (!options->peers || options->peers > PEERS_MAX || !options->processes || !options->openers ||
	    !options->rounds || options->rounds > 64 || options->depth > PEERS_MAX || optind != argc ||
	    (strcmp(options->via, "tcp") && strcmp(options->via, "shm")))
		fail("options", "see the top of bench/many_peers.c");
}

int main(int argc, char **argv)
{
	struct options options = {
		.peers = 256,
		.processes = 4,
		.rounds = 5,
		.openers = 1,
		.via = "tcp",
		.op = CW_OP_WRITE,
		.sizes = { 64 << 10, 1 << 20 },
		.size_count = 2,
		.buffer = 256 << 20,
		.seconds = 0.5,
		.idle = 5,
	};
	struct run run = { .options = &options };

	parse(argc, argv, &options);
	run.peers = calloc(options.peers + 1, sizeof(*run.peers));
	run.children = calloc(options.processes + 1, sizeof(*run.children));
	run.ends = calloc(options.processes + 1, sizeof(*run.ends));
	run.slots = calloc(options.depth > options.peers ? options.depth : options.peers, sizeof(*run.slots));
	run.samples = calloc(SAMPLES_MAX, sizeof(*run.samples));
	if (!run.peers || !run.children || !run.ends || !run.slots || !run.samples)
		fail("calloc", strerror(errno));
	start_targets(&run);
	if (options.idle > 0)
		measure_idle_engine(&options);
	measure(&run);
	stop_targets(&run);
	free(run.samples);
	free(run.slots);
	free(run.ends);
	free(run.children);
	free(run.peers);
	return 0;
}
