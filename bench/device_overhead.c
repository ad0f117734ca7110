/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a copy between devices costs through the engine, against the one runtime call that does the same. Both sides are
 * in this program and take turns, a few copies each, so that what else the machine does hits both. Needs a Tang
 * runtime; run it on the emulated one:
 *
 *     causeway emulate --vendor sunrise --devices 2 -- device_overhead ROUNDS
 *
 * Prints an array of JSON. Memory of the same process is copied between the same two buffers by both sides. For memory
 * of another process each side has a buffer of its own there, since a runtime opens memory of a process only once.
 */
#include <causeway/causeway.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <platforms/gpu/abi/tang.h>

#define TRANSPORT "sunrise_link"
#define LARGE (8u << 20)
#define SMALL 4096u
#define DEVICES 2
#define ROUNDS_MAX 100
#define ITERATIONS_MAX 4000
#define RUN 10 /* copies of one side before the other has its turn */
#define LINE 512

extern char **environ;

static struct {
	__typeof__(&tangSetDevice) set_device;
	__typeof__(&tangMalloc) allocate;
	__typeof__(&tangMemcpy) copy;
	__typeof__(&tangMemcpyPeer) peer_copy;
	__typeof__(&tangIpcGetMemHandle) export_memory;
	__typeof__(&tangIpcOpenMemHandle) open_memory;
	__typeof__(&tangGetErrorString) error_text;
} tang;

static const struct {
	const char *name;
	size_t bytes;
	int to_device, other_process;
	unsigned iterations, warm_up;
} workloads[] = {
	{ "same device, 8 MiB", LARGE, 0, 0, 30, 5 },
	{ "two devices, 8 MiB", LARGE, 1, 0, 30, 5 },
	{ "same device, 4 KiB", SMALL, 0, 0, 2000, 200 },
	{ "two devices, 4 KiB", SMALL, 1, 0, 2000, 200 },
	{ "two processes, same device, 8 MiB", LARGE, 0, 1, 30, 5 },
	{ "two processes, two devices, 8 MiB", LARGE, 1, 1, 30, 5 },
	{ "two processes, same device, 4 KiB", SMALL, 0, 1, 2000, 200 },
	{ "two processes, two devices, 4 KiB", SMALL, 1, 1, 2000, 200 },
};
#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

/* What the other process tells: for each device the buffer for the engine and the handle of that for the bare call. */
struct offer {
	char name[128];
	uint64_t address[DEVICES];
	struct cw__tang_ipc_handle handle[DEVICES];
};

struct copy { /* from `from` on device 0 */
	struct cw_engine *engine;
	struct cw_segment *segment;
	void *from;
	void *bare_to; /* for the bare call */
	uint64_t to;   /* for the engine */
	int to_device;
	size_t bytes;
};

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "device_overhead: %s: %s\n", what, why);
	exit(1);
}

static void tang_check(const char *what, int result)
{
	if (result != 0)
		fail(what, tang.error_text(result));
}

static void check(const char *what, int status)
{
	if (status != CW_OK)
		fail(what, *cw_last_error() ? cw_last_error() : cw_strerror(status));
}

static void load_symbol(void *library, const char *name, void *function_out)
{
	void *symbol = dlsym(library, name);

	if (!symbol)
		fail(name, "not in the runtime");
	memcpy(function_out, &symbol, sizeof(symbol));
}

static void load_runtime(void)
{
	const char *folder = getenv("MC_TANGRT_LIB_DIR");
	char path[4096];
	void *library;

	snprintf(path, sizeof(path), "%s%slibtangrt_shared.so", folder ? folder : "", folder ? "/" : "");
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		fail("no Tang runtime", dlerror());
	load_symbol(library, "tangSetDevice", &tang.set_device);
	load_symbol(library, "tangMalloc", &tang.allocate);
	load_symbol(library, "tangMemcpy", &tang.copy);
	load_symbol(library, "tangMemcpyPeer", &tang.peer_copy);
	load_symbol(library, "tangIpcGetMemHandle", &tang.export_memory);
	load_symbol(library, "tangIpcOpenMemHandle", &tang.open_memory);
	load_symbol(library, "tangGetErrorString", &tang.error_text);
}

static struct cw_engine *open_engine(void)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine;

	options.use_environment = 1;
	check("engine", cw_engine_open(&options, &engine));
	return engine;
}

static void *allocate(int device)
{
	void *address;

	tang_check("tangSetDevice", tang.set_device(device));
	tang_check("tangMalloc", tang.allocate(&address, LARGE));
	return address;
}

static void *allocate_registered(struct cw_engine *engine, int device)
{
	void *address = allocate(device);
	struct cw_region *region;

	check("register", cw_region_register(engine, address, LARGE, NULL, &region));
	return address;
}

/* ------------------------------------------------------------------------------------ the other process */

static int serve(void)
{
	struct cw_engine *engine;
	char byte;

	load_runtime();
	engine = open_engine();
	printf("%s", cw_engine_name(engine));
	for (int device = 0; device < DEVICES; device++) {
		void *mine = allocate_registered(engine, device), *exported = allocate(device);
		struct cw__tang_ipc_handle handle;

		tang_check("tangIpcGetMemHandle", tang.export_memory(&handle, exported));
		printf(" %llx", (unsigned long long)(uintptr_t)mine);
		for (size_t i = 0; i < sizeof(handle.word) / sizeof(handle.word[0]); i++)
			printf(" %llx", (unsigned long long)handle.word[i]);
	}
	printf("\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		continue;
	cw_engine_close(engine);
	return 0;
}

static uint64_t next_number(char **text)
{
	char *end;
	unsigned long long value = strtoull(*text, &end, 16);

	if (end == *text)
		fail("the other process", "does not say what it has");
	*text = end;
	return value;
}

/* Starts it; it ends when this process closes *leash_out or dies. */
static pid_t start_server(struct offer *offer, int *leash_out)
{
	char *const arguments[] = { "device_overhead", "serve", NULL };
	posix_spawn_file_actions_t actions;
	int to_child[2], from_child[2];
	char line[2 * LINE], *at;
	FILE *in;
	pid_t pid;

	if (pipe2(to_child, O_CLOEXEC) || pipe2(from_child, O_CLOEXEC) || posix_spawn_file_actions_init(&actions))
		fail("pipe", strerror(errno));
	posix_spawn_file_actions_adddup2(&actions, to_child[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, from_child[1], STDOUT_FILENO);
	if (posix_spawn(&pid, "/proc/self/exe", &actions, NULL, arguments, environ))
		fail("spawn", strerror(errno));
	posix_spawn_file_actions_destroy(&actions);
	close(to_child[0]);
	close(from_child[1]);
	*leash_out = to_child[1];
	in = fdopen(from_child[0], "r");
	if (!in || !fgets(line, sizeof(line), in))
		fail("the other process", "did not start");
	fclose(in);
	at = line + strcspn(line, " ");
	snprintf(offer->name, sizeof(offer->name), "%.*s", (int)(at - line), line);
	for (int device = 0; device < DEVICES; device++) {
		offer->address[device] = next_number(&at);
		for (size_t i = 0; i < sizeof(offer->handle[0].word) / sizeof(uint64_t); i++)
			offer->handle[device].word[i] = next_number(&at);
	}
	return pid;
}

/* --------------------------------------------------------------------------------------- the two sides */

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t bare_copy(const struct copy *copy)
{
	uint64_t begin = now();
	int result;

	if (copy->to_device == 0)
		result = tang.copy(copy->bare_to, copy->from, copy->bytes, CW__TANG_DEVICE_TO_DEVICE);
	else
		result = tang.peer_copy(copy->bare_to, copy->to_device, copy->from, 0, copy->bytes);
	tang_check("bare copy", result);
	return now() - begin;
}

static uint64_t engine_copy(const struct copy *copy, enum cw_op op)
{
	uint64_t begin = now(), end;
	const struct cw_request request = {
		.segment = copy->segment,
		.local = { .base = (uintptr_t)copy->from, .page_size = copy->bytes, .count = 1 },
		.remote = { .base = copy->to, .page_size = copy->bytes, .count = 1 },
		.op = op,
	};
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch;

	check("submit", cw_batch_submit(copy->engine, &request, 1, NULL, &batch));
	check("wait", cw_batch_wait(batch, CW_FOREVER));
	if (cw_batch_poll(batch) != CW_BATCH_COMPLETED) {
		cw_batch_result_get(batch, &result);
		fail("engine copy", result.text);
	}
	cw_batch_release(batch);
	end = now();
	return end - begin;
}

/* That the engine really copied: a pattern goes there and comes back. */
static void prove(const struct copy *copy)
{
	unsigned char *pattern = malloc(copy->bytes), *back = calloc(1, copy->bytes);

	if (!pattern || !back)
		fail("malloc", strerror(errno));
	for (size_t i = 0; i < copy->bytes; i++)
		pattern[i] = (unsigned char)(i * 2654435761u >> 13);
	tang_check("fill", tang.copy(copy->from, pattern, copy->bytes, CW__TANG_HOST_TO_DEVICE));
	engine_copy(copy, CW_OP_WRITE);
	tang_check("clear", tang.copy(copy->from, back, copy->bytes, CW__TANG_HOST_TO_DEVICE));
	engine_copy(copy, CW_OP_READ);
	tang_check("look", tang.copy(back, copy->from, copy->bytes, CW__TANG_DEVICE_TO_HOST));
	if (memcmp(pattern, back, copy->bytes) != 0)
		fail("engine copy", "wrong bytes");
	free(pattern);
	free(back);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double sorted_median(const double *values, unsigned count)
{
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double median(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), by_value);
	return sorted_median(values, count);
}

/* Of the copies of one side in one round, in microseconds: the median, and the time that one in ten does not exceed,
 * which other work on the machine disturbs least. */
struct times {
	double median, undisturbed;
};

static struct times times_of(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), by_value);
	return (struct times){ .median = sorted_median(values, count), .undisturbed = values[count / 10] };
}

/* One round: the sides take turns, RUN copies at a time, one behind the other as a program makes them. */
static void round_of_turns(const struct copy *copy, unsigned count, struct times *bare_out, struct times *engine_out)
{
	static double bare[ITERATIONS_MAX], engine[ITERATIONS_MAX];

	for (unsigned at = 0; at < count; at += RUN) {
		unsigned end = count - at < RUN ? count : at + RUN;

		for (unsigned i = at; i < end; i++)
			engine[i] = (double)engine_copy(copy, CW_OP_WRITE) / 1e3;
		for (unsigned i = at; i < end; i++)
			bare[i] = (double)bare_copy(copy) / 1e3;
	}
	*bare_out = times_of(bare, count);
	*engine_out = times_of(engine, count);
}

static void measure(size_t at, const struct copy *copy, unsigned rounds)
{
	enum { BARE, ENGINE, RATIO, DIFFERENCE, CALM_RATIO, CALM_DIFFERENCE, FIGURES };
	static double figures[FIGURES][ROUNDS_MAX];
	struct times bare, engine;

	prove(copy);
	round_of_turns(copy, workloads[at].warm_up, &bare, &engine);
	for (unsigned i = 0; i < rounds; i++) {
		round_of_turns(copy, workloads[at].iterations, &bare, &engine);
		figures[BARE][i] = bare.median;
		figures[ENGINE][i] = engine.median;
		figures[RATIO][i] = engine.median / bare.median;
		figures[DIFFERENCE][i] = engine.median - bare.median;
		figures[CALM_RATIO][i] = engine.undisturbed / bare.undisturbed;
		figures[CALM_DIFFERENCE][i] = engine.undisturbed - bare.undisturbed;
	}
	printf("%s{\"workload\": \"%s\", \"bytes\": %zu, \"bare_us\": %.3f, \"engine_us\": %.3f, \"ratio\": %.4f, "
	       "\"difference_us\": %.3f, \"undisturbed_ratio\": %.4f, \"undisturbed_difference_us\": %.3f}",
	       at ? ",\n " : "[", workloads[at].name, workloads[at].bytes, median(figures[BARE], rounds),
	       median(figures[ENGINE], rounds), median(figures[RATIO], rounds), median(figures[DIFFERENCE], rounds),
	       median(figures[CALM_RATIO], rounds), median(figures[CALM_DIFFERENCE], rounds));
	fflush(stdout);
}

static struct cw_segment *open_segment(struct cw_engine *engine, const char *name)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_segment *segment;

	options.transports = TRANSPORT;
	options.strict = 1;
	check("segment", cw_segment_open(engine, name, &options, &segment));
	return segment;
}

static void compare(unsigned rounds)
{
	void *to[DEVICES], *opened[DEVICES], *from;
	struct cw_segment *self, *peer;
	struct cw_engine *engine;
	struct offer offer;
	int leash, status;
	pid_t pid = start_server(&offer, &leash);

	load_runtime();
	engine = open_engine();
	for (int device = 0; device < DEVICES; device++) {
		to[device] = allocate_registered(engine, device);
		tang_check("tangIpcOpenMemHandle", tang.open_memory(&opened[device], offer.handle[device],
								    CW__TANG_IPC_LAZY_ENABLE_PEER_ACCESS));
	}
	from = allocate_registered(engine, 0); /* and device 0 stays current */
	self = open_segment(engine, cw_engine_name(engine));
	peer = open_segment(engine, offer.name);
	for (size_t i = 0; i < WORKLOADS; i++) {
		int other = workloads[i].other_process, device = workloads[i].to_device;
		const struct copy copy = { .engine = engine,
					   .segment = other ? peer : self,
					   .from = from,
					   .bare_to = other ? opened[device] : to[device],
					   .to = other ? offer.address[device] : (uintptr_t)to[device],
					   .to_device = device,
					   .bytes = workloads[i].bytes };

		measure(i, &copy, rounds);
	}
	printf("]\n");
	cw_segment_close(peer);
	cw_segment_close(self);
	cw_engine_close(engine);
	close(leash);
	waitpid(pid, &status, 0);
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;

	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		return serve();
	if (rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: device_overhead ROUNDS\n");
		return 2;
	}
	compare((unsigned)rounds);
	return 0;
}
