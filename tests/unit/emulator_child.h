/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the emulated runtimes: each case runs in a child of its own, because a process reads its settings once
 * and a child of a process that has used a runtime may not use it. In the child a failed CHECK ends it.
 */
#ifndef EMULATOR_CHILD_H
#define EMULATOR_CHILD_H

#include "core/core.h"
#include "platforms/gpu/abi/ptml.h"
#include "platforms/gpu/abi/tang.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka needs the above. */
#include <cmocka.h>

#define CHECK_FAILED 99

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
			_exit(CHECK_FAILED);                                                                           \
		}                                                                                                      \
	} while (0)

/* As CHECK for a result of the runtime; says what it was. */
#define RESULT(expected, call)                                                                                         \
	do {                                                                                                           \
		const int result_ = (call);                                                                            \
		if (result_ != (expected)) {                                                                           \
			fprintf(stderr, "%s:%d: %d, not %d: %s\n", __FILE__, __LINE__, result_, (int)(expected),       \
				#call);                                                                                \
			_exit(CHECK_FAILED);                                                                           \
		}                                                                                                      \
	} while (0)

#define OK(call) RESULT(0, call)

/* A file with a text, or a world, that is removed by the parent. */
static char child_path[64];

static inline const char *child_file(const char *text)
{
	int fd;

	snprintf(child_path, sizeof(child_path), "/tmp/causeway-emulator-XXXXXX");
	fd = mkstemp(child_path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	return child_path;
}

static inline void set_or_not(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

/* Runs the function in a child with these options, fault rules (text) and world (path), each of which may be NULL. The
 * child's exit status; a signal as 128 plus its number. */
static inline int run_child(void (*fn)(void), const char *options, const char *faults, const char *world)
{
	const char *path = faults ? child_file(faults) : NULL;
	const pid_t pid = fork();
	int status;

	if (!pid) {
		alarm(60);
		signal(SIGSEGV, SIG_DFL); /* cmocka, and sanitizers, take it */
		set_or_not("CAUSEWAY_EMULATE_OPTIONS", options);
		set_or_not("CAUSEWAY_EMULATE_FAULTS", path);
		set_or_not("CAUSEWAY_EMULATE_WORLD", world);
		fn();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (path)
		unlink(path);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* A world in a file: `fill` says what is in it. */
static inline const char *make_world(void (*fill)(struct cw__world *world))
{
	static char path[64];
	struct cw__world *world;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/causeway-test-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(*world)), 0);
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(world != MAP_FAILED);
	close(fd);
	fill(world);
	munmap(world, sizeof(*world));
	return path;
}

static inline void *device_memory(int device, size_t size)
{
	void *address = NULL;

	OK(tangSetDevice(device));
	OK(tangMalloc(&address, size));
	return address;
}

static inline void fill_pattern(unsigned char *bytes, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 7 + (i >> 8) + seed);
}

#endif
