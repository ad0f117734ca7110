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

/* Runs a case with two devices of a private world. A hanging one is ended by the alarm. */
static inline void gpu_run(int (*test)(void), const char *options)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		setenv("MC_TANGRT_LIB_DIR", EMULATORS "/sunrise", 1);
		setenv("CAUSEWAY_EMULATE_OPTIONS", options, 1);
		unsetenv("CAUSEWAY_EMULATE_WORLD");
		unsetenv("CAUSEWAY_EMULATE_FAULTS");
		alarm(50);
		/* exit: the emulator writes its report and checks at the end of the process. */
		exit(test());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("options '%s': status %#x", options, (unsigned)status);
}

/* NULL, and says why, when the emulated runtime is not there: then the case fails. */
static inline const struct cw__gpu *gpu_load(void)
{
	const char *why = NULL;
	const struct cw__gpu *gpu = cw__gpu_load(CW__GPU_TANG, &why);

	if (!gpu)
		fprintf(stderr, "the emulated runtime is not there: %s\n", why);
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

/* Declares app_<name> as a pointer to tang<name>. */
#define APPLICATION(gpu, name)                                                                                         \
	__typeof__(tang##name) *app_##name = (__typeof__(tang##name) *)(uintptr_t)gpu_symbol(gpu, "tang" #name)

#endif
