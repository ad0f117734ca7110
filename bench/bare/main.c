/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare: what the machine can do without Causeway, the limit that `./do bench` compares with. See usage() for the
 * options and bare.h for how it is built. Where no mode is named, all that fit are tried in turn and the best is
 * measured.
 */
#include "bare.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FINALISTS 3
#define TRIAL_SECONDS 0.04
#define SMALL (256u << 10) /* batches below this are judged by their latency, others by their throughput */
#define NEAR_SEED 1
#define FAR_SEED (1u << 31)
#define MISMATCH 4 /* the exit status of a target that did not get what was sent */
#define CANDIDATES_MAX 64

struct candidate {
	const struct bare_mode *mode;
	size_t lanes;
	double score;
};

static const char *const vias[] = { "tcp", "shm", "local", NULL };
static const char *const waits[] = { "any", "spin", "target-parked", "parked", NULL };

void bare_fail(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", bare_program, what, strerror(errno));
	exit(1);
}

static _Noreturn void cannot(const char *mode, const char *why)
{
	fprintf(stderr, "%s: %s%s%s\n", bare_program, mode ? mode : "", mode ? ": " : "", why);
	exit(CANNOT);
}

static void usage(FILE *file)
{
	fprintf(file, "usage: %s [OPTION...]\n", bare_program);
	fputs("  --via tcp|shm|local --op write|read\n"
	      "  --size BYTES            of a block (1048576)\n"
	      "  --pages N               blocks of a batch, scattered, no two adjacent (1)\n"
	      "  --depth N               batches in flight (1)\n"
	      "  --threads N             each with batches of its own (1)\n"
	      "  --peers N               connections of a thread, each with batches of its own (1)\n"
	      "  --lanes N               connections or threads that share each batch (tcp: the best; others: 1)\n"
	      "  --wait any|spin|target-parked|parked\n"
	      "  --seconds S             (0.5)\n"
	      "  --buffer BYTES          memory on each side (268435456)\n"
	      "  --huge                  huge pages\n"
	      "  --ordinary              (shm) memory that only its own process maps\n"
	      "  --mode NAME             one way only; --list shows them\n"
	      "  --all                   one line for each way that fits, not the best one\n"
	      "  --vectors N             pieces named in one system call (128)\n"
	      "  --socket-buffer BYTES   (the system's choice)\n"
	      "  --congestion NAME       congestion control\n"
	      "  --workload TEXT         printed as it is\n"
	      "  --verify                compare what arrived with what was sent\n"
	      "  --spoil                 damage a byte of what arrived, to see that --verify sees it\n"
	      "Numbers may end in k, m or g. Exit status 3: this cannot be done.\n",
	      file);
}

static void list(void)
{
	for (size_t i = 0; bare_tables[i]; i++)
		for (const struct bare_mode *mode = bare_tables[i]; mode->name; mode++)
			printf("%-6s %-24s %-14s %s\n", vias[mode->via], mode->name, waits[mode->wait], mode->what);
}

/* ---------------------------------------------------------------------------------------- one measurement */

struct thread_start {
	struct bare_run *run;
	size_t thread;
	pthread_barrier_t *barrier;
};

static void *thread_main(void *argument)
{
	const struct thread_start *start = argument;

	pthread_barrier_wait(start->barrier);
	start->run->mode->work(start->run, start->thread);
	return NULL;
}

static double cpu_seconds(clockid_t clock)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void measure(struct bare_run *run, struct bare_figures *figures)
{
	struct thread_start starts[THREADS_MAX];
	pthread_t threads[THREADS_MAX];
	pthread_barrier_t barrier;
	clockid_t target = CLOCK_REALTIME;
	size_t count = run->options->threads;

	pthread_barrier_init(&barrier, NULL, (unsigned)count);
	for (size_t i = 0; i < count; i++) {
		starts[i] = (struct thread_start){ run, i, &barrier };
		if (i && pthread_create(&threads[i], NULL, thread_main, &starts[i]))
			bare_fail("pthread_create");
	}
	figures->has_target = run->target > 0 && !clock_getcpuclockid(run->target, &target);
	if (figures->has_target)
		figures->target_cpu = -cpu_seconds(target);
	figures->initiator_cpu = -cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
	atomic_store(&run->shared->target_calls, 0);
	recorder_start(run->recorder);
	thread_main(&starts[0]);
	for (size_t i = 1; i < count; i++)
		pthread_join(threads[i], NULL);
	figures->initiator_cpu += cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
	if (figures->has_target)
		figures->target_cpu += cpu_seconds(target);
	figures->target_calls = atomic_load(&run->shared->target_calls);
	pthread_barrier_destroy(&barrier);
	recorder_figures(run->recorder, figures);
}

static int arrived(struct bare_run *run)
{
	struct bare_layout *to = run->options->write ? &run->far : &run->near;
	struct bare_layout *from = run->options->write ? &run->near : &run->far;

	if (run->options->spoil)
		to->memory[to->length - 1] ^= 1;
	return layout_arrived(to, from, run->options, run->shared->completed, run->channels);
}

static _Noreturn void be_target(struct bare_run *run, int ready)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run->target = 0;
	run->initiator = 0;
	layout_fill(&run->far, !run->options->write, run->options->verify);
	(void)madvise(run->far.memory, run->far.length, MADV_POPULATE_WRITE);
	if (write(ready, "", 1) != 1)
		_exit(1);
	close(ready);
	run->mode->serve(run);
	_exit(run->options->write && run->options->verify && !arrived(run) ? MISMATCH : 0);
}

static void fork_target(struct bare_run *run)
{
	int ready[2];
	char byte;

	if (pipe(ready))
		bare_fail("pipe");
	run->target = fork();
	if (run->target < 0)
		bare_fail("fork");
	if (run->target == 0) {
		close(ready[0]);
		be_target(run, ready[1]);
	}
	close(ready[1]);
	if (run->mode->forked)
		run->mode->forked(run);
	if (read(ready[0], &byte, 1) != 1)
		bare_fail("the target does not start");
	close(ready[0]);
}

/* Whether what arrived is what was sent, as far as that was asked for. */
static int finish(struct bare_run *run)
{
	int status = 0;

	if (run->mode->close)
		run->mode->close(run);
	if (run->target > 0 && waitpid(run->target, &status, 0) != run->target)
		bare_fail("waitpid");
	if (run->target > 0 && (!WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != MISMATCH))) {
		fprintf(stderr, "%s: %s: the target died\n", bare_program, run->mode->name);
		exit(1);
	}
	if (run->target > 0 && run->options->write)
		return WEXITSTATUS(status) == 0;
	return !run->options->verify || arrived(run);
}

static void run_mode(const struct bare_options *options, const struct bare_mode *mode, struct bare_figures *figures)
{
	static struct bare_layout near, far;
	struct bare_run run = { .options = options, .mode = mode, .target = -1, .initiator = 1 };

	*figures = (struct bare_figures){ 0 };
	run.channels = options->threads * options->peers;
	run.shared = mmap(NULL, sizeof(*run.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.shared == MAP_FAILED)
		bare_fail("mmap");
	layout_provide(&near, options, run.channels, NEAR_SEED, !mode->ordinary);
	layout_provide(&far, options, run.channels, FAR_SEED, !mode->ordinary);
	run.recorder = recorder_new(options->threads, options->seconds);
	if (mode->open)
		mode->open(&run);
	/* The target shall not have a copy of it: then each page that is written to would be copied first. */
	if (mode->ordinary)
		(void)madvise(near.memory, near.length, MADV_DONTFORK);
	layout_fill(&near, options->write, options->verify);
	if (!mode->ordinary)
		layout_fill(&far, !options->write, options->verify);
	run.near = near;
	run.far = far;
	if (mode->has_target)
		fork_target(&run);
	measure(&run, figures);
	if (!finish(&run)) {
		fprintf(stderr, "%s: %s: what arrived is not what was sent\n", bare_program, mode->name);
		exit(1);
	}
	recorder_free(run.recorder);
	munmap(run.shared, sizeof(*run.shared));
}

/* ---------------------------------------------------------------------------------------- choosing */

static const char *refusal(const struct bare_options *options, const struct bare_mode *mode)
{
	if (mode->via != options->via)
		return "does not go this way (--via)";
	if (options->wait && mode->wait && mode->wait != options->wait)
		return "waits in another manner (--wait)";
	if (options->ordinary && options->via == VIA_SHM && !mode->ordinary)
		return "needs memory that both processes map (--ordinary)";
	if (options->lanes > mode->lanes_max)
		return "too many lanes";
	if (mode->kernel && !bare_kernels[mode->kernel - 1].runs_here())
		return "not on this processor";
	return mode->refuses ? mode->refuses(options) : NULL;
}

static size_t candidates(const struct bare_options *options, struct candidate *rows)
{
	static const size_t shares[] = { 1, 2 };
	static const char unknown[] = "no mode of this name (--list)";
	const char *why = unknown;
	unsigned wanted = options->ordinary && options->via == VIA_SHM ? ORDINARY : GENERAL;
	size_t count = 0, bytes = options->size * options->pages;

	for (size_t i = 0; bare_tables[i]; i++)
		for (const struct bare_mode *mode = bare_tables[i]; mode->name; mode++) {
			struct bare_options with = *options;
			const char *reason;

			if (options->mode ? strcmp(mode->name, options->mode) != 0 : !(mode->group & wanted))
				continue;
			for (size_t j = 0; j < sizeof(shares) / sizeof(*shares) && count < CANDIDATES_MAX; j++) {
				if (j && (options->lanes || options->via != VIA_TCP || bytes < SMALL ||
					  (options->pages > 1 && options->pages % shares[j])))
					break;
				with.lanes = options->lanes ? options->lanes : shares[j];
				reason = refusal(&with, mode);
				if (reason && !j && (mode->via == options->via || why == unknown))
					why = reason;
				if (!reason)
					rows[count++] = (struct candidate){ mode, with.lanes, 0 };
			}
		}
	if (!count)
		cannot(options->mode, why);
	return count;
}

static double score(const struct bare_options *options, const struct bare_figures *figures)
{
	if (options->size * options->pages < SMALL && options->depth == 1 && options->threads * options->peers == 1)
		return 1 / figures->p50_us;
	return (double)figures->operations / figures->seconds;
}

static void try_out(struct bare_options *options, struct candidate *row)
{
	struct bare_figures figures;
	double now;

	options->lanes = row->lanes;
	run_mode(options, row->mode, &figures);
	now = score(options, &figures);
	if (now > row->score)
		row->score = now;
}

static int better(const void *a, const void *b)
{
	double x = ((const struct candidate *)a)->score, y = ((const struct candidate *)b)->score;

	return (x < y) - (x > y);
}

static void measure_best(const struct bare_options *options)
{
	struct candidate rows[CANDIDATES_MAX];
	size_t count = candidates(options, rows);
	struct bare_options with = *options;
	struct bare_figures figures;

	for (size_t i = 0; i < count && options->all; i++) {
		with.lanes = rows[i].lanes;
		run_mode(&with, rows[i].mode, &figures);
		bare_print(&with, rows[i].mode, &figures);
	}
	if (options->all)
		return;
	with.seconds = options->seconds / 10 > TRIAL_SECONDS ? options->seconds / 10 : TRIAL_SECONDS;
	/* Each once, then the best of them once more: a single short trial says little. */
	for (size_t left = count; count > 1 && left; left = left > FINALISTS ? FINALISTS : 0) {
		for (size_t i = 0; i < left; i++)
			try_out(&with, &rows[i]);
		qsort(rows, left, sizeof(*rows), better);
	}
	with.seconds = options->seconds;
	with.lanes = rows->lanes;
	run_mode(&with, rows->mode, &figures);
	bare_print(&with, rows->mode, &figures);
}

/* ---------------------------------------------------------------------------------------- options */

static size_t number(const char *name, const char *text)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	for (const char *unit = "kmg"; *unit && end != text && *end; unit++)
		if (*end == *unit) {
			value <<= 10 * (unit - "kmg" + 1);
			end++;
			break;
		}
	if (errno || end == text || *end || *text == '-' || value > SIZE_MAX / 8) {
		fprintf(stderr, "%s: --%s: not a number: %s\n", bare_program, name, text);
		exit(2);
	}
	return (size_t)value;
}

static int one_of(const char *name, const char *text, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(text, words[i]))
			return i;
	fprintf(stderr, "%s: --%s: unknown: %s\n", bare_program, name, text);
	exit(2);
}

static void check(const struct bare_options *options)
{
	size_t size = options->size, pages = options->pages, channels = options->threads * options->peers;

	if (!size || !pages || !options->depth || !options->threads || !options->peers || !options->vectors ||
	    options->vectors > IOV_MAX || !(options->seconds > 0 && options->seconds <= 600))
		cannot(NULL, "a number is out of range");
	if (options->threads > THREADS_MAX || options->peers > CHANNELS_MAX || channels > CHANNELS_MAX)
		cannot(NULL, "so many threads or peers");
	if (size > (1ull << 36) / pages / channels || options->buffer > 1ull << 36)
		cannot(NULL, "so much memory");
	if (options->lanes > LANES_MAX || (options->lanes > 1 && pages > 1 && pages % options->lanes) ||
	    (options->lanes > 1 && pages == 1 && size < 64 * options->lanes))
		cannot(NULL, "a batch cannot be split over so many lanes");
}

static void flag(struct bare_options *options, const char *name)
{
	if (!strcmp(name, "huge"))
		options->huge = 1;
	else if (!strcmp(name, "ordinary"))
		options->ordinary = 1;
	else if (!strcmp(name, "verify"))
		options->verify = 1;
	else if (!strcmp(name, "spoil"))
		options->spoil = 1;
	else if (!strcmp(name, "all"))
		options->all = 1;
	else if (!strcmp(name, "list"))
		list();
	else
		usage(stdout);
	if (!strcmp(name, "list") || !strcmp(name, "help"))
		exit(0);
}

static void parse(int argc, char **argv, struct bare_options *options)
{
	static const char *const ops[] = { "read", "write", NULL };
	static const char *const names[] = {
		"via",  "op",       "size",   "pages", "depth",   "threads",       "peers",    "lanes",
		"wait", "seconds",  "buffer", "mode",  "vectors", "socket-buffer", "workload", "congestion",
		"huge", "ordinary", "verify", "all",   "spoil",   "list",          "help",
	};
	enum { VALUES = 16, COUNT = sizeof(names) / sizeof(*names) };
	size_t *const numbers[VALUES] = {
		[2] = &options->size,    [3] = &options->pages,    [4] = &options->depth,
		[5] = &options->threads, [6] = &options->peers,    [7] = &options->lanes,
		[10] = &options->buffer, [12] = &options->vectors, [13] = &options->socket_buffer
	};
	const char **const texts[VALUES] = {
		[11] = &options->mode, [14] = &options->workload, [15] = &options->congestion
	};
	struct option rows[COUNT + 1] = { 0 };
	int which;

	for (int i = 0; i < COUNT; i++)
		rows[i] = (struct option){ names[i], i < VALUES ? required_argument : no_argument, NULL, i };
	while ((which = getopt_long(argc, argv, "", rows, NULL)) >= 0) {
		if (which == '?') {
			usage(stderr);
			exit(2);
		} else if (which >= VALUES) {
			flag(options, names[which]);
		} else if (which == 0) {
			options->via = (enum bare_via)one_of("via", optarg, vias);
		} else if (which == 1) {
			options->write = one_of("op", optarg, ops);
		} else if (which == 8) {
			options->wait = (enum bare_wait)one_of("wait", optarg, waits);
		} else if (which == 9) {
			options->seconds = strtod(optarg, NULL);
		} else if (texts[which]) {
			*texts[which] = optarg;
		} else {
			*numbers[which] = number(names[which], optarg);
		}
	}
	if (optind < argc) {
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct bare_options options = { .congestion = bare_congestion,
					.write = 1,
					.size = 1u << 20,
					.pages = 1,
					.depth = 1,
					.threads = 1,
					.peers = 1,
					.buffer = 256u << 20,
					.vectors = 128,
					.seconds = 0.5 };

	parse(argc, argv, &options);
	check(&options);
	measure_best(&options);
	return 0;
}
