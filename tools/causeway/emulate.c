/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway emulate`: runs a program on emulated devices. Programs that are started in one world share its devices; see
 * emulators/core/world.h for how a world comes and goes, docs/emulators.md for what is emulated.
 */
#include "emulate.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"
#include "lib/arguments.h"

#define COMMAND "causeway emulate"
#define FOLDER "/dev/shm"
#define NAME_DEFAULT "default"
#define NAME_MAX_LENGTH 40
#define EXIT_FAILED 125 /* as with env(1) and timeout(1): not the program's status */
#ifndef EMULATORS_INSTALLED
#define EMULATORS_INSTALLED "../lib/causeway/emulators"
#endif

/* The folders of emulated libraries, by the words of --vendor, and what tells programs of each. */
static const struct vendor {
	const char *name;
	const char *library;  /* that must be there */
	const char *variable; /* besides LD_LIBRARY_PATH; NULL = none */
} vendors[] = {
	{ "sunrise", "libtangrt_shared.so", "MC_TANGRT_LIB_DIR" },
	{ "cuda", "libcuda.so.1", NULL },
};
#define VENDORS "sunrise|cuda|all"
#define VENDOR_COUNT (sizeof(vendors) / sizeof(vendors[0]))

struct emulate_options {
	struct emulate_parameters parameters;
	const char *world, *faults, *options, *trace;
	int vendor; /* index in vendors; one more = all; -1 = not given */
};

static int fail(const char *what, const char *why)
{
	fprintf(stderr, COMMAND ": %s: %s\n", what, why);
	return -1;
}

/* ------------------------------------------------------------------------------------------ libraries */

/* The folder of our own program, so that a build tree and an installed one are both found. */
static int own_folder(char *folder)
{
	ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);

	if (length <= 0)
		return fail("/proc/self/exe", strerror(errno));
	folder[length] = '\0';
	*strrchr(folder, '/') = '\0';
	return 0;
}

static int find_libraries(const struct vendor *vendor, char *found)
{
	static const char *const places[] = { "../emulators", EMULATORS_INSTALLED };
	char folder[PATH_MAX], path[2 * PATH_MAX];

	if (own_folder(folder) != 0)
		return -1;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s/%s/%s", folder, places[i], vendor->name, vendor->library);
		if (access(path, R_OK) != 0)
			continue;
		*strrchr(path, '/') = '\0';
		if (realpath(path, found))
			return 0;
	}
	fprintf(stderr, COMMAND ": the emulated %s is neither in %s/%s/%s nor in %s/%s/%s\n", vendor->library, folder,
		places[0], vendor->name, folder, places[1], vendor->name);
	return -1;
}

static int set_variable(const char *name, const char *value)
{
	return setenv(name, value, 1) == 0 ? 0 : fail(name, strerror(errno));
}

static int set_libraries(const struct vendor *vendor)
{
	const char *before = getenv("LD_LIBRARY_PATH");
	char folder[PATH_MAX], *list;
	int status;

	if (find_libraries(vendor, folder) != 0)
		return -1;
	if (vendor->variable && set_variable(vendor->variable, folder) != 0)
		return -1;
	if (asprintf(&list, "%s%s%s", folder, before && *before ? ":" : "", before ? before : "") < 0)
		return fail("LD_LIBRARY_PATH", "out of memory");
	status = set_variable("LD_LIBRARY_PATH", list);
	free(list);
	return status;
}

/* -------------------------------------------------------------------------------------- environment */

/* A path that stays right when the program changes its folder. */
static int set_path(const char *name, const char *path)
{
	char absolute[PATH_MAX];

	if (!path)
		return unsetenv(name);
	if (!realpath(path, absolute))
		return fail(path, strerror(errno));
	return set_variable(name, absolute);
}

static int set_environment(const struct emulate_options *options, const char *world)
{
	char sysfs[PATH_MAX + 8];

	if (options->trace && mkdir(options->trace, 0777) != 0 && errno != EEXIST)
		return fail(options->trace, strerror(errno));
	if (options->faults && access(options->faults, R_OK) != 0)
		return fail(options->faults, strerror(errno));
	snprintf(sysfs, sizeof(sysfs), "%s~sys", world);
	if (set_variable("CAUSEWAY_EMULATE_WORLD", world) != 0 || set_variable("CW_ENGINE_SYSFS", sysfs) != 0 ||
	    set_path("CAUSEWAY_EMULATE_FAULTS", options->faults) != 0 ||
	    set_path("CAUSEWAY_EMULATE_TRACE", options->trace) != 0)
		return -1;
	if (options->options ? set_variable("CAUSEWAY_EMULATE_OPTIONS", options->options)
			     : unsetenv("CAUSEWAY_EMULATE_OPTIONS"))
		return -1;
	for (size_t i = 0; i < VENDOR_COUNT; i++)
		if ((options->vendor == (int)i || options->vendor == (int)VENDOR_COUNT) &&
		    set_libraries(&vendors[i]) != 0)
			return -1;
	return 0;
}

/* ------------------------------------------------------------------------------------------- rehearsal */

/* What options and faults mean only the emulated libraries know: one is loaded in a process of its own, as in programs.
 */
static _Noreturn void rehearse(const struct vendor *vendor)
{
	char folder[PATH_MAX], path[2 * PATH_MAX];
	int (*check)(void) = NULL;
	void *library, *symbol;

	unsetenv("CAUSEWAY_EMULATE_TRACE");
	if (find_libraries(vendor, folder) != 0)
		exit(1);
	snprintf(path, sizeof(path), "%s/%s", folder, vendor->library);
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	symbol = library ? dlsym(library, "causeway_emulator_check") : NULL;
	if (!symbol) {
		fail(path, dlerror());
		exit(1);
	}
	memcpy(&check, &symbol, sizeof(check));
	exit(check() == 0 ? 0 : 1);
}

static int check_environment(const struct emulate_options *options)
{
	int status = 0;
	pid_t child;

	if (!options->options && !options->faults)
		return 0;
	fflush(NULL);
	child = fork();
	if (child < 0)
		return fail("fork", strerror(errno));
	if (child == 0)
		rehearse(&vendors[options->vendor < (int)VENDOR_COUNT ? options->vendor : 0]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* --------------------------------------------------------------------------------------------- world */

static int name_is_valid(const char *name)
{
	if (!isalnum((unsigned char)*name) || strlen(name) > NAME_MAX_LENGTH)
		return 0;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return 0;
	return 1;
}

/* NULL with why; *made_out is 0 when somebody made one just before us. */
static struct cw__world *make_world(const struct emulate_options *options, const char *path, int *made_out, char *why)
{
	struct cw__world *wanted = calloc(1, sizeof(*wanted)), *world = NULL;

	if (wanted && emulate_build(&options->parameters, wanted, why) == 0) {
		snprintf(wanted->name, sizeof(wanted->name), "%s", options->world);
		world = cw__world_hold(path, wanted, made_out, why, EMULATE_WHY);
	}
	free(wanted);
	return world;
}

/* Joins the world, or makes it; its file's path goes to path. NULL after a message. */
static struct cw__world *open_world(const struct emulate_options *options, char *path)
{
	char why[EMULATE_WHY] = "out of memory", prefix[64];
	struct cw__world *world;
	int made = 0;

	/* What is left after this is in use. */
	snprintf(prefix, sizeof(prefix), "causeway-emulate-%u-", (unsigned)geteuid());
	cw__world_sweep_files(FOLDER, prefix);
	snprintf(path, PATH_MAX, FOLDER "/%s%s", prefix, options->world);
	world = cw__world_hold(path, NULL, &made, why, sizeof(why));
	if (!world)
		world = make_world(options, path, &made, why);
	if (world && !made && emulate_compare(&options->parameters, world, why) != 0) {
		cw__world_leave(world, NULL);
		world = NULL;
	}
	if (!world)
		fprintf(stderr, COMMAND ": %s\n", why);
	return world;
}

int command_emulate(int argc, char **argv)
{
	struct emulate_options options = {
		.parameters = { .devices = EMULATE_NOT_GIVEN, .memory = EMULATE_NOT_GIVEN },
		.world = NAME_DEFAULT,
		.vendor = -1,
	};
	const struct argument arguments[] = {
		{ "vendor", ARGUMENT_CHOICE, &options.vendor, VENDORS, "whose libraries the program finds" },
		{ "devices", ARGUMENT_NUMBER, &options.parameters.devices, "N", "how many (8)" },
		{ "world", ARGUMENT_TEXT, &options.world, "NAME", "programs in one world share its devices (default)" },
		{ "topology", ARGUMENT_TEXT, &options.parameters.topology, "mesh[:N]|ring[:N]|islands[:N]|FILE",
		  "how they are linked, N links a pair (mesh)" },
		{ "memory", ARGUMENT_NUMBER, &options.parameters.memory, "BYTES", "of each device (16g)" },
		{ "bandwidth", ARGUMENT_TEXT, &options.parameters.bandwidth, "[link=|host=|inside=]RATE,...",
		  "copies take their time: bytes a second, k, m, g are powers of 1000" },
		{ "latency", ARGUMENT_TEXT, &options.parameters.latency, "[link=|host=|inside=]TIME,...",
		  "and each so long more, such as 5us" },
		{ "faults", ARGUMENT_TEXT, &options.faults, "FILE", "what fails, and when" },
		{ "options", ARGUMENT_TEXT, &options.options, "LIST", "behaviours, see docs/emulators.md" },
		{ "trace", ARGUMENT_TEXT, &options.trace, "FOLDER", "where each process writes its calls" },
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "-- COMMAND [ARGUMENT...]",
		.summary =
			"Runs COMMAND on emulated devices. Its exit status is that of COMMAND; 125 when the emulator\n"
			"cannot be set up.",
		.arguments = arguments,
		.operands_min = 1,
		.operands_max = (size_t)argc,
	};
	char **program = calloc((size_t)argc + 1, sizeof(*program)), path[PATH_MAX];
	struct cw__world *world;
	int status = EXIT_FAILED;

	if (!program)
		return EXIT_FAILED;
	arguments_parse(&line, argc, argv, (const char **)program);
	if (options.vendor < 0)
		arguments_refuse(&line, "--vendor is missing: %s", VENDORS);
	if (!name_is_valid(options.world))
		arguments_refuse(&line, "'%s' is no name of a world: letters, digits, '.', '_', '-', at most %d",
				 options.world, NAME_MAX_LENGTH);
	if (!options.parameters.memory)
		arguments_refuse(&line, "--memory must not be 0");
	world = open_world(&options, path);
	if (world && set_environment(&options, path) == 0 && check_environment(&options) == 0)
		status = emulate_run(COMMAND, program);
	cw__world_leave(world, NULL);
	free(program);
	return status;
}
