/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine itself costs, with transports that move nothing (nothing.c): submit to complete for batches of 1, 32
 * and 128 requests between random regions, by 1 and by 8 threads, with the allocations and system calls of the
 * submitters; look-up among a million regions, by random keys and by keys that depend on the last answer, while a
 * thread registers and unregisters 1,000 regions a second; registration of 1 GiB, of 100,000 regions, and of one more.
 * Times of 1 and 8 threads are taken in turn, and so are the engine's and the kernel's shares of a registration.
 * Prints one object of JSON per figure; `nanoseconds` is the time per request, look-up or registration. Latencies are
 * of whole batches. At most one system call of each batch is counted: 0 means none, more is a lower bound.
 *
 *     engine_costs [--part overhead|lookup|register] [--seconds S] [--regions N]
 *                  [--way nothing_copy|nothing_post] [--batch N] [--threads N]
 */
#include <causeway/causeway.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#define DISPATCH_ON 1

#define SECOND 1000000000ull
#define PAGE 4096u
#define STRIDE (2 * PAGE) /* no two regions touch */
#define BYTES 64u         /* of a request */
#define BATCH_MAX 1024u
#define POOL 2048u /* requests of a thread; its batches begin anywhere among them */
#define THREADS_MAX 64u
#define SAMPLES 20000u /* latencies of one figure */
#define ROUNDS 7       /* of each kind, in turn */
#define FEW 1000u
#define MANY 100000u
#define MOST 1000000u
#define CHURN 1000u /* regions a second */
#define EXTRA 2000u /* registered one at a time with many there */

static struct {
	const char *part, *way;
	double seconds;
	unsigned regions, batch, threads;
} options = { .seconds = 0.2, .regions = MOST };

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "engine_costs: %s: %s\n", what, why);
	exit(1);
}

static void check(const char *what, int status)
{
	if (status != CW_OK)
		fail(what, *cw_last_error() ? cw_last_error() : cw_strerror(status));
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* One of count, without a division. */
static uint32_t below(uint64_t random, uint32_t count)
{
	return (uint32_t)((random >> 32) * count >> 32);
}

/* ---------------------------------------------------------------------------- allocations, system calls */

static _Atomic long allocations;

void *__libc_malloc(size_t length);
void *__libc_calloc(size_t count, size_t length);
void *__libc_realloc(void *old, size_t length);

/* In the program, so that they come before libc's in every call of this process. */
void *malloc(size_t length)
{
	atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
	return __libc_malloc(length);
}

void *calloc(size_t count, size_t length)
{
	atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
	return __libc_calloc(count, length);
}

void *realloc(void *old, size_t length)
{
	atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
	return __libc_realloc(old, length);
}

/* The kernel raises SIGSYS at each system call of a thread while its selector says so (Linux 5.11). */
static _Thread_local volatile char selector;
static _Thread_local volatile long calls;

static void on_system_call(int number, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	long result;

	(void)number;
	selector = 0;
	calls++;
	result = syscall(info->si_syscall, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
			 registers[REG_R10], registers[REG_R8], registers[REG_R9]);
	registers[REG_RAX] = result == -1 ? -errno : result;
	/* This thread's calls are let through until its next batch: one is enough to know. */
}

static int can_count_calls(void)
{
	struct sigaction action = { .sa_sigaction = on_system_call, .sa_flags = SA_SIGINFO };

	return !sigaction(SIGSYS, &action, NULL) && !prctl(PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_ON, 0, 0, &selector);
}

/* ---------------------------------------------------------------------------------------------- figures */

struct figure {
	const char *setting, *workload;
	uint64_t bytes, operations;
	double seconds, nanoseconds; /* nanoseconds: of one operation, the median of the rounds */
	double p50, p99, p999;       /* microseconds; negative = not measured */
	double calls, allocations;   /* of one operation; negative = not counted */
	const char *more;            /* further members */
};

static double resident_mib(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long size = 0, pages = 0;

	if (file) {
		if (fscanf(file, "%lu %lu", &size, &pages) != 2)
			pages = 0;
		fclose(file);
	}
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void print(const struct figure *figure)
{
	printf("{\"program\":\"causeway\",\"setting\":\"%s\",\"workload\":\"%s\",\"bytes\":%llu,\"operations\":%llu,"
	       "\"seconds\":%.3f,\"gigabytes_per_second\":null,",
	       figure->setting, figure->workload, (unsigned long long)figure->bytes,
	       (unsigned long long)figure->operations, figure->seconds);
	if (figure->p50 >= 0)
		printf("\"latency_us\":{\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f},", figure->p50, figure->p99,
		       figure->p999);
	else
		printf("\"latency_us\":null,");
	printf("\"cpu_seconds_per_gigabyte\":null,");
	if (figure->calls >= 0)
		printf("\"system_calls_per_operation\":{\"initiator\":%.6g,\"target\":null},", figure->calls);
	else
		printf("\"system_calls_per_operation\":null,");
	if (figure->allocations >= 0)
		printf("\"allocations_per_operation\":%.6g,", figure->allocations);
	printf("\"resident_mib\":%.1f,\"nanoseconds\":%.1f%s}\n", resident_mib(), figure->nanoseconds,
	       figure->more ? figure->more : "");
	fflush(stdout);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

/* -------------------------------------------------------------------------------------- memory, engine */

static struct cw_engine *engine;
static struct cw_segment *segment;
static unsigned char *memory; /* pages, STRIDE apart */
static struct cw_region **regions;

static void *region_address(uint32_t i)
{
	return memory + (size_t)i * STRIDE;
}

/* Only page tables are needed for them: nothing is ever written. */
static void map_memory(uint32_t count)
{
	memory = mmap(NULL, (size_t)count * STRIDE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		      -1, 0);
	regions = calloc(count, sizeof(*regions));
	if (memory == MAP_FAILED || !regions)
		fail("memory", strerror(errno));
}

static void open_engine(void)
{
	struct cw_engine_options how = CW_ENGINE_OPTIONS_INIT;
	struct cw_setting settings[1] = { { "plugins/load", NULL } };
	char plugin[4096] = "";
	ssize_t length = readlink("/proc/self/exe", plugin, sizeof(plugin) - 32);
	char *slash = length > 0 ? strrchr(plugin, '/') : NULL;

	if (!slash)
		fail("/proc/self/exe", strerror(errno));
	strcpy(slash, "/nothing.so");
	settings[0].value = plugin;
	how.settings = settings;
	how.setting_count = 1;
	check("engine", cw_engine_open(&how, &engine));
}

/* In an order that has nothing to do with their addresses. */
static void register_regions(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t which = (uint32_t)((uint64_t)i * 7919 % count);

		check("register", cw_region_register(engine, region_address(which), PAGE, NULL, &regions[which]));
	}
}

/* ------------------------------------------------------------------------- (i) from submit to complete */

struct worker {
	pthread_t thread;
	uint64_t seed, requests, calls;
	struct cw_request pool[POOL + BATCH_MAX];
	unsigned batch;
	int counted;     /* counts system calls and takes latencies */
	double *samples; /* of counted: SAMPLES */
	unsigned sample_count;
};

static _Atomic int stop;

static void fill_request(struct cw_request *request, uint64_t *seed)
{
	*request = (struct cw_request){
		.segment = segment,
		.op = CW_OP_WRITE,
		.local = { .base = (uint64_t)(uintptr_t)region_address(below(next_random(seed), FEW)),
			   .page_size = BYTES,
			   .count = 1 },
		.remote = { .base = (uint64_t)(uintptr_t)region_address(below(next_random(seed), FEW)),
			    .page_size = BYTES,
			    .count = 1 },
	};
}

static void transfer(const struct cw_request *requests, unsigned count)
{
	struct cw_batch *batch;

	check("submit", cw_batch_submit(engine, requests, count, NULL, &batch));
	check("wait", cw_batch_wait(batch, 10 * SECOND));
	if (cw_batch_poll(batch) != CW_BATCH_COMPLETED)
		fail("a batch", "did not complete");
	cw_batch_release(batch);
}

static void transfer_counted(struct worker *worker, const struct cw_request *requests)
{
	uint64_t from = now();

	calls = 0;
	selector = 1;
	transfer(requests, worker->batch);
	selector = 0;
	worker->calls += (uint64_t)calls;
	if (worker->sample_count < SAMPLES)
		worker->samples[worker->sample_count++] = (double)(now() - from) / 1e3;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct cw_request *requests = worker->pool;

	for (unsigned i = 0; i < POOL + worker->batch; i++)
		fill_request(&requests[i], &worker->seed);
	if (worker->counted && !can_count_calls())
		worker->counted = 0;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		const struct cw_request *first = &requests[below(next_random(&worker->seed), POOL)];

		if (worker->counted)
			transfer_counted(worker, first);
		else
			transfer(first, worker->batch);
		worker->requests += worker->batch;
	}
	return NULL;
}

/* Lets threads submit for a while. Returns the wall-clock time per request of all together. */
static double run(unsigned threads, unsigned batch, double seconds, double *samples, struct figure *figure)
{
	static struct worker workers[THREADS_MAX];
	struct timespec pause = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
	uint64_t from, took, requests = 0, called = 0;
	long before;

	atomic_store(&stop, 0);
	from = now();
	before = atomic_load(&allocations);
	for (unsigned i = 0; i < threads; i++) {
		workers[i].seed = i + 1;
		workers[i].batch = batch;
		workers[i].requests = workers[i].calls = workers[i].sample_count = 0;
		workers[i].counted = samples != NULL;
		workers[i].samples = samples ? samples + (size_t)i * SAMPLES : NULL;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			fail("thread", strerror(errno));
	}
	before += (long)threads; /* glibc's thread-local memory of each */
	nanosleep(&pause, NULL);
	atomic_store(&stop, 1);
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		requests += workers[i].requests;
		called += workers[i].calls;
	}
	took = now() - from;
	if (samples) {
		unsigned count = workers[0].sample_count;

		before = atomic_load(&allocations) - before;
		figure->allocations = before > 0 ? (double)before / (double)requests : 0;
		figure->calls = workers[0].counted ? (double)called / (double)requests : -1;
		qsort(samples, count, sizeof(*samples), compare);
		figure->p50 = count ? samples[count / 2] : -1;
		figure->p99 = count ? samples[count * 99ull / 100] : -1;
		figure->p999 = count ? samples[count * 999ull / 1000] : -1;
	} else {
		figure->operations += requests;
		figure->seconds += (double)took / 1e9;
	}
	return (double)took / (double)requests;
}

static void overhead_of(const char *way, unsigned batch)
{
	unsigned threads[2] = { 1, options.threads ? options.threads : 8 };
	double times[2][ROUNDS], ratios[ROUNDS], *samples = calloc(SAMPLES * threads[1], sizeof(double));
	struct figure figures[2] = { 0 };
	char workload[64], more[64];

	if (!samples)
		fail("memory", strerror(errno));
	for (unsigned i = 0; i < 2; i++)
		run(threads[i], batch, options.seconds / 4, NULL, &(struct figure){ 0 });
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < 2; i++)
			times[i][round] = run(threads[i], batch, options.seconds, NULL, &figures[i]);
		ratios[round] = times[0][round] / times[1][round];
	}
	for (unsigned i = 0; i < 2; i++) {
		run(threads[i], batch, options.seconds, samples, &figures[i]);
		figures[i].setting = way;
		figures[i].workload = workload;
		figures[i].bytes = BYTES;
		figures[i].nanoseconds = median(times[i], ROUNDS);
		figures[i].more = more;
		snprintf(workload, sizeof(workload), "overhead, batches of %u, %u thread%s", batch, threads[i],
			 threads[i] == 1 ? "" : "s");
		snprintf(more, sizeof(more), ",\"times_one_thread\":%.2f", i ? median(ratios, ROUNDS) : 1.0);
		print(&figures[i]);
	}
	free(samples);
}

static void overhead(void)
{
	static const char *const ways[] = { "nothing_copy", "nothing_post" };
	static const unsigned batches[] = { 1, 32, 128 };

	map_memory(FEW);
	open_engine();
	register_regions(FEW);
	for (size_t i = 0; i < 2; i++) {
		struct cw_segment_options by = CW_SEGMENT_OPTIONS_INIT;

		if (options.way && strcmp(options.way, ways[i]))
			continue;
		by.transports = ways[i];
		check("segment", cw_segment_open(engine, cw_engine_name(engine), &by, &segment));
		for (size_t j = 0; j < 3; j++)
			if (!options.batch || options.batch == batches[j])
				overhead_of(ways[i], batches[j]);
		cw_segment_close(segment);
	}
	cw_engine_close(engine);
}

/* -------------------------------------------------------------------------------------- (f) look-up */

static struct cw_region *come_and_go[CHURN], *more_regions[EXTRA];
static _Atomic uint64_t churned;

/* Between two regions that stay: `which` of count that lie evenly among them. */
static unsigned char *between(uint32_t which, uint32_t count)
{
	return (unsigned char *)region_address((uint32_t)((uint64_t)which * options.regions / count)) + PAGE + PAGE / 4;
}

/* Registers and unregisters CHURN regions a second, each of them alive for a second. */
static void *churn(void *arg)
{
	uint64_t at = now();

	(void)arg;
	for (uint32_t i = 0; !atomic_load(&stop); i++) {
		struct timespec until = { (time_t)(at / SECOND), (long)(at % SECOND) };
		uint32_t which = (uint32_t)((uint64_t)i * 7919 % CHURN);

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		at += SECOND / CHURN;
		if (come_and_go[which])
			check("unregister", cw_region_unregister(come_and_go[which]));
		check("register",
		      cw_region_register(engine, between(which, CHURN), PAGE / 8, NULL, &come_and_go[which]));
		atomic_fetch_add(&churned, 1);
	}
	return NULL;
}

/* Returns ns per look-up. dependent: the key comes from the answer to the one before. Compiled once for each, or else
 * keys that should not depend on answers would. */
static inline __attribute__((always_inline)) double look_up(int dependent, double seconds, uint64_t *operations)
{
	uint64_t from = now(), until = from + (uint64_t)(seconds * 1e9), state = from | 1, count = 0;

	while (now() < until) {
		for (unsigned i = 0; i < 1000; i++) {
			uint64_t random = next_random(&state);
			unsigned char *address = region_address(below(random, options.regions));
			struct cw_region *region;

			if (cw_region_find(engine, address + (random & 0xfc0), BYTES, &region))
				fail("look-up", cw_last_error());
			if (dependent)
				state += (uint64_t)(uintptr_t)region;
		}
		count += 1000;
	}
	*operations += count;
	return (double)(now() - from) / (double)count;
}

static void look_up_all(void)
{
	static const char *const names[] = { "random", "random and dependent" };
	char workload[96], setting[64], more[64];

	snprintf(setting, sizeof(setting), "%u regions", options.regions);
	for (int beside = 0; beside < 2; beside++) {
		struct figure figures[2] = { 0 };
		double times[2][ROUNDS];
		uint64_t from = now(), took;
		pthread_t thread;

		atomic_store(&stop, 0);
		atomic_store(&churned, 0);
		if (beside && pthread_create(&thread, NULL, churn, NULL))
			fail("thread", strerror(errno));
		for (unsigned round = 0; round < ROUNDS; round++) {
			times[0][round] = look_up(0, options.seconds, &figures[0].operations);
			times[1][round] = look_up(1, options.seconds, &figures[1].operations);
		}
		atomic_store(&stop, 1);
		took = now() - from;
		if (beside)
			pthread_join(thread, NULL);
		snprintf(more, sizeof(more), ",\"registrations_per_second\":%.0f",
			 (double)atomic_load(&churned) * 1e9 / (double)took);
		for (int dependent = 0; dependent < 2; dependent++) {
			snprintf(workload, sizeof(workload), "look-up, %s%s", names[dependent],
				 beside ? ", while regions come and go" : "");
			figures[dependent].setting = setting;
			figures[dependent].workload = workload;
			figures[dependent].bytes = BYTES;
			figures[dependent].seconds = options.seconds * ROUNDS;
			figures[dependent].nanoseconds = median(times[dependent], ROUNDS);
			figures[dependent].p50 = figures[dependent].calls = figures[dependent].allocations = -1;
			figures[dependent].more = more;
			print(&figures[dependent]);
		}
	}
}

/* -------------------------------------------------------------------------------- (f) registration */

static void print_registration(const char *workload, const char *setting, uint64_t bytes, uint64_t operations,
			       double seconds, double nanoseconds, const char *more)
{
	const struct figure figure = {
		.setting = setting,
		.workload = workload,
		.bytes = bytes,
		.operations = operations,
		.seconds = seconds,
		.nanoseconds = nanoseconds,
		.p50 = -1,
		.calls = -1,
		.allocations = -1,
		.more = more,
	};

	print(&figure);
}

/* What the kernel has to be asked about a range that lies in two pages at most: is it mapped, on which node, and can it
 * be read? */
static void ask_kernel(unsigned char *address, size_t length)
{
	uintptr_t page = (uintptr_t)address & ~(uintptr_t)(PAGE - 1);
	unsigned char resident[2];
	void *pages[1] = { (void *)page };
	char bytes[2];
	struct iovec into[2] = { { &bytes[0], 1 }, { &bytes[1], 1 } };
	struct iovec from[2] = { { address, 1 }, { address + length - 1, 1 } };
	int nodes[1];

	if (mincore(pages[0], (uintptr_t)address + length - page, resident) ||
	    syscall(SYS_move_pages, 0, 1ul, pages, NULL, nodes, 0) ||
	    process_vm_readv(getpid(), into, 2, from, 2, 0) != 2)
		fail("the kernel", strerror(errno));
}

#define TURN 50u /* registrations of the engine before it is the kernel's turn, and back */

/* With all others there: EXTRA regions come, then go. */
static void register_more(void)
{
	double with[EXTRA / TURN], bare[EXTRA / TURN], beyond[EXTRA / TURN], away[EXTRA / TURN];
	char setting[64], more[160];

	for (uint32_t turn = 0; turn < EXTRA / TURN; turn++) {
		uint32_t first = turn * TURN;
		uint64_t from;

		for (uint32_t i = first; i < first + TURN; i++) /* the kernel's tables are filled beforehand */
			ask_kernel(between(i * 7919 % EXTRA, EXTRA) + PAGE / 4, PAGE / 8);
		from = now();
		for (uint32_t i = first; i < first + TURN; i++)
			check("register", cw_region_register(engine, between(i * 7919 % EXTRA, EXTRA) + PAGE / 4,
							     PAGE / 8, NULL, &more_regions[i]));
		with[turn] = (double)(now() - from) / TURN;
		from = now();
		for (uint32_t i = first; i < first + TURN; i++)
			ask_kernel(between(i * 7919 % EXTRA, EXTRA) + PAGE / 4, PAGE / 8);
		bare[turn] = (double)(now() - from) / TURN;
		beyond[turn] = with[turn] - bare[turn];
	}
	for (uint32_t turn = 0; turn < EXTRA / TURN; turn++) {
		uint64_t from = now();

		for (uint32_t i = turn * TURN; i < (turn + 1) * TURN; i++)
			check("unregister", cw_region_unregister(more_regions[i]));
		away[turn] = (double)(now() - from) / TURN;
	}
	snprintf(setting, sizeof(setting), "%u regions", options.regions);
	snprintf(more, sizeof(more),
		 ",\"kernel_nanoseconds\":%.1f,\"beyond_kernel_nanoseconds\":%.1f,"
		 "\"unregister_nanoseconds\":%.1f",
		 median(bare, EXTRA / TURN), median(beyond, EXTRA / TURN), median(away, EXTRA / TURN));
	print_registration("registration of one more", setting, PAGE / 8, EXTRA, 0, median(with, EXTRA / TURN), more);
}

static void register_gibibyte(void)
{
	size_t length = (size_t)1 << 30;
	void *block = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	double times[ROUNDS];

	if (block == MAP_FAILED)
		fail("1 GiB", strerror(errno));
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct cw_region *region;
		uint64_t from = now();

		check("register", cw_region_register(engine, block, length, NULL, &region));
		times[i] = (double)(now() - from);
		check("unregister", cw_region_unregister(region));
	}
	munmap(block, length);
	print_registration("registration of 1 GiB", "memory that was touched", length, ROUNDS, 0, median(times, ROUNDS),
			   NULL);
}

static double register_regions_timed(uint32_t count, const char *workload)
{
	uint64_t from = now();
	double took;

	register_regions(count);
	took = (double)(now() - from);
	print_registration(workload, "pages in no order", PAGE, count, took / 1e9, took / count, NULL);
	return took;
}

static void registration(void)
{
	map_memory(MANY);
	open_engine();
	register_gibibyte();
	register_regions_timed(MANY, "registration of 100,000 regions");
	cw_engine_close(engine);
}

static void many_regions(void)
{
	map_memory(options.regions);
	open_engine();
	register_regions_timed(options.regions, "registration of all regions");
	register_more();
	look_up_all();
	cw_engine_close(engine);
}

/* ------------------------------------------------------------------------------------------------ main */

static void parse(int argc, char **argv)
{
	static const struct option known[] = {
		{ "part", required_argument, NULL, 'p' },
		{ "seconds", required_argument, NULL, 's' },
		{ "regions", required_argument, NULL, 'r' },
		{ "way", required_argument, NULL, 'w' },
		{ "batch", required_argument, NULL, 'b' },
		{ "threads", required_argument, NULL, 't' },
		{ 0 },
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (letter == 'p')
			options.part = optarg;
		else if (letter == 's')
			options.seconds = strtod(optarg, NULL);
		else if (letter == 'r')
			options.regions = (unsigned)strtoul(optarg, NULL, 10);
		else if (letter == 'w')
			options.way = optarg;
		else if (letter == 'b')
			options.batch = (unsigned)strtoul(optarg, NULL, 10);
		else if (letter == 't')
			options.threads = (unsigned)strtoul(optarg, NULL, 10);
		else
			exit(2);
	}
	if (options.seconds <= 0 || options.seconds > 60 || options.regions < EXTRA || options.regions > 10 * MOST ||
	    options.batch > BATCH_MAX || options.threads > THREADS_MAX || optind < argc)
		fail("options", "a value is out of range");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = { { "overhead", overhead }, { "register", registration }, { "lookup", many_regions } };

	parse(argc, argv);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (!options.part || !strcmp(options.part, parts[i].name))
			parts[i].run();
	return 0;
}
