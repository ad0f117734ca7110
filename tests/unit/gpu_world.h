/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of src/platforms/gpu: each case runs in a process of its own on the emulated runtime, with the options that
 * it states, because a runtime is loaded once for each process. A case returns 0, or says which check failed.
 */
#ifndef TESTS_UNIT_GPU_WORLD_H
#define TESTS_UNIT_GPU_WORLD_H

#include <platforms/gpu/gpu.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			return 1;                                                                                      \
		}                                                                                                      \
	} while (0)

/* NULL, and says why, when the emulated runtime is not there: then the case fails. */
static inline const struct cw__gpu *gpu_load(void)
{
	const char *why = NULL;
	const struct cw__gpu *gpu = cw__gpu_load(CW__GPU_TANG, &why);

	if (!gpu)
		fprintf(stderr, "the emulated runtime is not there: %s\n", why);
	return gpu;
}

/* The emulated CUDA driver; as if the application had loaded it, because LD_LIBRARY_PATH is read before main(). */
static inline const struct cw__gpu *gpu_load_cuda(void)
{
	const char *why = "it cannot be opened";
	const struct cw__gpu *gpu = NULL;

	if (dlopen(EMULATORS "/cuda/libcuda.so.1", RTLD_NOW | RTLD_LOCAL))
		gpu = cw__gpu_load(CW__GPU_CUDA, &why);
	if (!gpu)
		fprintf(stderr, "the emulated driver is not there: %s\n", why);
	return gpu;
}

/* A function of the runtime as the application calls it. */
static inline void *gpu_symbol(const struct cw__gpu *gpu, const char *name)
{
	void *library = dlopen(gpu->library, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD), *symbol = NULL;

	if (library)
		symbol = dlsym(library, name);
	if (!symbol) {
		fprintf(stderr, "the emulated runtime lacks %s\n", name);
		exit(1);
	}
	return symbol;
}

/* Calls of a symbol so far, or what is open now: see gauge_names in emulators/core/trace.c. */
static inline uint64_t gpu_count(const struct cw__gpu *gpu, const char *name)
{
	uint64_t (*count)(const char *of) =
		(uint64_t(*)(const char *))(uintptr_t)gpu_symbol(gpu, "causeway_emulator_count");

	return count(name);
}

/* At the end of a case: nothing is open, and nothing was done on the wrong device. */
static inline int gpu_left_behind(const struct cw__gpu *gpu)
{
	static const char *const gauges[] = { "live_allocations", "live_host_allocations", "open_mappings",
					      "live_streams",     "live_events",           "host_touches",
					      "wrong_device",     "wrong_stream" };
	int left = !gpu;

	for (size_t i = 0; gpu && i < sizeof(gauges) / sizeof(gauges[0]); i++)
		if (gpu_count(gpu, gauges[i])) {
			fprintf(stderr, "%s: %llu\n", gauges[i], (unsigned long long)gpu_count(gpu, gauges[i]));
			left = 1;
		}
	return left;
}

/* Runs a case with two devices of a private world; load is one of the above. A hanging one is ended by the alarm. */
static inline void gpu_run(int (*test)(void), const struct cw__gpu *(*load)(void), const char *options)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS };
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		setenv("MC_TANGRT_LIB_DIR", EMULATORS "/sunrise", 1);
		setenv("CAUSEWAY_EMULATE_OPTIONS", options, 1);
		unsetenv("CAUSEWAY_EMULATE_WORLD");
		unsetenv("CAUSEWAY_EMULATE_FAULTS");
		alarm(50);
		/* The test library's handlers would go on with the other tests in this child. */
		for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
			signal(fatal[i], SIG_DFL);
		/* _exit: the leak checker stumbles over threads that have thread-local memory of libraries opened late.
		 */
		_exit(test() || gpu_left_behind(load()));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("options '%s': status %#x", options, (unsigned)status);
}

struct gpu_case {
	const char *name;
	int (*test)(void);
	const char *options; /* of the emulator */
};

static const struct cw__gpu *(*gpu_cases_load)(void);

static inline void gpu_run_case(void **state)
{
	const struct gpu_case *one = *state;

	gpu_run(one->test, gpu_cases_load, one->options);
}

/* At most 32 of them, each a test of its own name. Returns how many failed. */
static inline int gpu_run_cases(const struct gpu_case *cases, size_t count, const struct cw__gpu *(*load)(void))
{
	struct CMUnitTest tests[32];

	gpu_cases_load = load;
	if (count > sizeof(tests) / sizeof(tests[0]))
		return 1;
	for (size_t i = 0; i < count; i++)
		tests[i] = (struct CMUnitTest){ cases[i].name, gpu_run_case, NULL, NULL, (void *)(uintptr_t)&cases[i] };
	return _cmocka_run_group_tests("cases", tests, count, NULL, NULL);
}

/* Declares app_<name> as a pointer to tang<name>; the next one to cu<name>. */
#define APPLICATION(gpu, name)                                                                                         \
	__typeof__(tang##name) *app_##name = (__typeof__(tang##name) *)(uintptr_t)gpu_symbol(gpu, "tang" #name)
#define DRIVER(gpu, name)                                                                                              \
	__typeof__(cu##name) *app_##name = (__typeof__(cu##name) *)(uintptr_t)gpu_symbol(gpu, "cu" #name)

#endif
