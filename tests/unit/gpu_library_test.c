/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where vendor libraries are looked for, and the one line that says why a runtime is off: nowhere, not a library, for
 * another processor, unresolved, lacking a symbol, without a device, a stub. Each case runs in a process of its own,
 * because a runtime is loaded once for each process.
 */
#include <platforms/gpu/gpu.h>
#include <dlfcn.h>
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TANGRT "libtangrt_shared.so"

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "line %d: %s; %s\n", __LINE__, #condition, why ? why : "");                    \
			return 1;                                                                                      \
		}                                                                                                      \
	} while (0)

static char folder[64]; /* a fresh one for each test */

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/causeway-gpu-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

/* Runs a case in a child with nothing of the environment that matters. */
static void run(int (*test)(void))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		unsetenv("MC_TANGRT_LIB_DIR");
		unsetenv("MC_TANGRT_ROOT");
		unsetenv("MC_TANGRT_LIB_ARCH");
		unsetenv("TANGRT_ROOT");
		alarm(30);
		_exit(test());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static const char *below(const char *rest)
{
	static char path[4][256];
	static unsigned turn;
	char *text = path[turn++ % 4];

	snprintf(text, sizeof(path[0]), "%s/%s", folder, rest);
	return text;
}

static void make_folders(const char *rest)
{
	char command[512];

	snprintf(command, sizeof(command), "mkdir -p '%s'", below(rest));
	if (system(command))
		abort();
}

/* One of the fakes as libtangrt_shared.so in a folder below ours. */
static void place(const char *fake, const char *rest)
{
	char from[512], to[512];

	make_folders(rest);
	snprintf(from, sizeof(from), "%s/%s/" TANGRT, FAKES, fake);
	snprintf(to, sizeof(to), "%s/" TANGRT, below(rest));
	if (access(from, R_OK) || symlink(from, to))
		abort();
}

static void write_file(const char *rest, const void *data, size_t length)
{
	FILE *file = fopen(below(rest), "w");

	if (!file || fwrite(data, 1, length, file) != length || fclose(file))
		abort();
}

/* -------------------------------------------------------------------------------------------- where */

static int nowhere(void)
{
	const char *why = NULL, *root = below("root");
	char first[300];

	setenv("MC_TANGRT_ROOT", root, 1);
	setenv("MC_TANGRT_LIB_ARCH", "linux-test", 1);
	CHECK(!cw__gpu_load(CW__GPU_TANG, &why));
	CHECK(strstr(why, TANGRT " is not in "));
	snprintf(first, sizeof(first), "%s/lib/linux-test, %s/lib, %s/targets/linux-test/lib or the loader's folders",
		 root, root, root);
	CHECK(strstr(why, first));
	CHECK(strstr(why, "MC_TANGRT_LIB_DIR or MC_TANGRT_ROOT"));
	CHECK(!strchr(why, '\n'));
	return 0;
}

static int default_root(void)
{
	const char *why = NULL;
	char line[768];

	CHECK(!cw__gpu_open_library(CW__GPU_TANG, "libcauseway_no_such.so", line, sizeof(line)));
	why = line;
	CHECK(strstr(why, "libcauseway_no_such.so is not in /"));
	CHECK(strstr(why, "/lib/linux-"));
	CHECK(strstr(why, "/targets/linux-"));
	return 0;
}

static int vendors_variable(void)
{
	const char *why = NULL;

	place("whole", "image/targets/linux-test/lib");
	setenv("TANGRT_ROOT", below("image"), 1);
	setenv("MC_TANGRT_LIB_ARCH", "linux-test", 1);
	CHECK(cw__gpu_load(CW__GPU_TANG, &why));
	return 0;
}

static int only_folder(void)
{
	const char *why = NULL;
	char tail[300];

	place("whole", "root/lib");
	make_folders("empty");
	setenv("MC_TANGRT_ROOT", below("root"), 1);
	snprintf(tail, sizeof(tail), "%s///", below("empty"));
	setenv("MC_TANGRT_LIB_DIR", tail, 1);
	CHECK(!cw__gpu_load(CW__GPU_TANG, &why));
	snprintf(tail, sizeof(tail), "%s (MC_TANGRT_LIB_DIR)", below("empty"));
	CHECK(strstr(why, tail));
	CHECK(!strstr(why, "root"));
	return 0;
}

static int no_folder(void)
{
	char line[768], path[600];
	const char *why = line;

	setenv("MC_TANGRT_LIB_DIR", below("nowhere"), 1);
	CHECK(!cw__gpu_open_library(CW__GPU_TANG, "libptml_shared.so", line, sizeof(line)));
	CHECK(strstr(line, "nowhere (MC_TANGRT_LIB_DIR, which is no folder)"));
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = 0;
	setenv("MC_TANGRT_LIB_DIR", path, 1);
	CHECK(!cw__gpu_open_library(CW__GPU_TANG, "libptml_shared.so", line, sizeof(line)));
	CHECK(strstr(line, "is not in a path that is too long (MC_TANGRT_LIB_DIR)"));
	return 0;
}

static int empty_variable(void)
{
	const char *why = NULL;
	const struct cw__gpu *gpu;

	place("whole", "root/lib");
	setenv("MC_TANGRT_LIB_DIR", "", 1);
	setenv("MC_TANGRT_ROOT", below("root//"), 1);
	gpu = cw__gpu_load(CW__GPU_TANG, &why);
	CHECK(gpu);
	CHECK(!strcmp(gpu->library, below("root/lib/" TANGRT)));
	return 0;
}

static int first_of_three(void)
{
	const char *why = NULL;
	const struct cw__gpu *gpu;

	place("no_device", "root/targets/linux-test/lib");
	place("no_device", "root/lib");
	place("whole", "root/lib/linux-test");
	setenv("MC_TANGRT_ROOT", below("root"), 1);
	setenv("TANGRT_ROOT", "/nowhere", 1);
	setenv("MC_TANGRT_LIB_ARCH", "linux-test", 1);
	gpu = cw__gpu_load(CW__GPU_TANG, &why);
	CHECK(gpu);
	CHECK(!strcmp(gpu->library, below("root/lib/linux-test/" TANGRT)));
	return 0;
}

/* What an application has loaded knows its memory; a second copy would not. */
static int in_the_process(void)
{
	const char *why = NULL;
	const struct cw__gpu *gpu;

	place("no_device", "root/lib");
	place("whole", "application");
	CHECK(dlopen(below("application/" TANGRT), RTLD_NOW | RTLD_LOCAL));
	setenv("MC_TANGRT_ROOT", below("root"), 1);
	gpu = cw__gpu_load(CW__GPU_TANG, &why);
	CHECK(gpu);
	CHECK(!strcmp(gpu->library, below("application/" TANGRT)));
	return 0;
}

static int after_a_broken_one(void)
{
	const char *why = NULL;

	make_folders("root/lib/linux-test");
	write_file("root/lib/linux-test/" TANGRT, "GROUP ( x )\n", 12);
	place("lacks_symbol", "root/lib");
	place("whole", "root/targets/linux-test/lib");
	setenv("MC_TANGRT_ROOT", below("root"), 1);
	setenv("MC_TANGRT_LIB_ARCH", "linux-test", 1);
	CHECK(cw__gpu_load(CW__GPU_TANG, &why));
	return 0;
}

/* --------------------------------------------------------------------------------------------- why */

static int expect_broken(const char *what)
{
	const char *why = NULL;

	setenv("MC_TANGRT_LIB_DIR", folder, 1);
	CHECK(!cw__gpu_load(CW__GPU_TANG, &why));
	CHECK(!strncmp(why, below(TANGRT), strlen(below(TANGRT))));
	CHECK(strstr(why, what));
	CHECK(!strchr(why, '\n'));
	return 0;
}

static int not_a_library(void)
{
	write_file(TANGRT, "this is text, and long enough to be read as a header; it says nothing of interest", 80);
	return expect_broken("not an ELF file");
}

static int cut_short(void)
{
	write_file(TANGRT, ELFMAG, SELFMAG);
	return expect_broken("not an ELF file");
}

static int other_processor(void)
{
	Elf64_Ehdr header = { .e_ident = ELFMAG, .e_type = ET_DYN, .e_version = EV_CURRENT };

	header.e_ident[EI_CLASS] = ELFCLASS64;
	header.e_ident[EI_DATA] = ELFDATA2LSB;
	header.e_ident[EI_VERSION] = EV_CURRENT;
	header.e_machine = EM_S390;
	write_file(TANGRT, &header, sizeof(header));
	return expect_broken("is for another processor");
}

static int other_word_size(void)
{
	Elf64_Ehdr header = { .e_ident = ELFMAG, .e_type = ET_DYN, .e_version = EV_CURRENT };

	header.e_ident[EI_CLASS] = ELFCLASS32;
	write_file(TANGRT, &header, sizeof(header));
	return expect_broken("is for another word size");
}

static int lacks_symbol(void)
{
	place("lacks_symbol", ".");
	return expect_broken("lacks the symbol tangEventSynchronize");
}

static int unresolved(void)
{
	place("unresolved", ".");
	return expect_broken("undefined symbol: not_there_at_all");
}

static int no_device(void)
{
	place("no_device", ".");
	return expect_broken("finds no device (100: no device)");
}

static int optional_symbols(void)
{
	const char *why = NULL;
	const struct cw__gpu *gpu;

	place("whole", ".");
	setenv("MC_TANGRT_LIB_DIR", folder, 1);
	gpu = cw__gpu_load(CW__GPU_TANG, &why);
	CHECK(gpu);
	CHECK(gpu == cw__gpu_load(CW__GPU_TANG, &why));
	CHECK(!strcmp(gpu->name, "sunrise") && gpu->vendor == CW__GPU_TANG && gpu->device_count == 1);
	CHECK(!strcmp(gpu->pci[0], "0000:3b:00.0"));
	CHECK(gpu->enter && gpu->leave && gpu->query && gpu->copy && gpu->peer_copy && gpu->is_fatal);
	CHECK(!gpu->peer_copy_2 && !gpu->peer_copy_async && !gpu->peer_copy_async_2 && !gpu->peer_address);
	CHECK(!gpu->call_host && !gpu->fill_async);
	CHECK(!gpu->export_memory && !gpu->open_memory && !gpu->close_memory);
	return 0;
}

/* Runtimes do not survive fork(); a child says so instead of calling one. */
static int forked(void)
{
	const char *why = NULL;
	int status;
	pid_t child;

	place("whole", ".");
	setenv("MC_TANGRT_LIB_DIR", folder, 1);
	CHECK(cw__gpu_load(CW__GPU_TANG, &why));
	child = fork();
	if (!child)
		_exit(!cw__gpu_load(CW__GPU_TANG, &why) && strstr(why, "forked from") ? 0 : 1);
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
	CHECK(cw__gpu_load(CW__GPU_TANG, &why));
	return 0;
}

/* The stub is in the process, so that it is the first one looked at. A machine may have a real driver after it. */
static int cuda_link_only(void)
{
	const char *why = NULL;
	const struct cw__gpu *gpu;

	CHECK(dlopen(FAKES "/cuda_link_only/libcuda.so.1", RTLD_NOW | RTLD_LOCAL));
	gpu = cw__gpu_load(CW__GPU_CUDA, &why);
	if (gpu)
		CHECK(strncmp(gpu->library, FAKES, strlen(FAKES)) != 0);
	else
		CHECK(strstr(why, "libcuda.so.1 is only for linking") || strstr(why, "finds no device"));
	return 0;
}

static int other_library(void)
{
	char line[768];
	const char *why = line;

	place("whole", ".");
	setenv("MC_TANGRT_LIB_DIR", folder, 1);
	CHECK(cw__gpu_open_library(CW__GPU_TANG, TANGRT, line, sizeof(line)));
	CHECK(!cw__gpu_open_library(CW__GPU_TANG, "libptml_shared.so", line, sizeof(line)));
	CHECK(strstr(line, "libptml_shared.so is not in ") && strstr(line, folder));
	return 0;
}

#define CASE(name)                                                                                                     \
	static void test_##name(void **state)                                                                          \
	{                                                                                                              \
		(void)state;                                                                                           \
		run(name);                                                                                             \
	}
CASE(nowhere)
CASE(default_root)
CASE(vendors_variable)
CASE(only_folder)
CASE(no_folder)
CASE(empty_variable)
CASE(first_of_three)
CASE(in_the_process)
CASE(after_a_broken_one)
CASE(not_a_library)
CASE(cut_short)
CASE(other_processor)
CASE(other_word_size)
CASE(lacks_symbol)
CASE(unresolved)
CASE(no_device)
CASE(optional_symbols)
CASE(forked)
CASE(cuda_link_only)
CASE(other_library)

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nowhere),         TEST(default_root),     TEST(vendors_variable),
		TEST(only_folder),     TEST(no_folder),        TEST(empty_variable),
		TEST(first_of_three),  TEST(in_the_process),   TEST(after_a_broken_one),
		TEST(not_a_library),   TEST(cut_short),        TEST(other_processor),
		TEST(other_word_size), TEST(lacks_symbol),     TEST(unresolved),
		TEST(no_device),       TEST(optional_symbols), TEST(forked),
		TEST(cuda_link_only),  TEST(other_library),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
