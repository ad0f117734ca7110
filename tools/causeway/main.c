/* SPDX-License-Identifier: Apache-2.0 */
/* The command `causeway`: a table of subcommands, see commands.h. Manual: man/causeway.1. */
#include <stdio.h>
#include <string.h>

#include <causeway/causeway.h>

#include "commands.h"
#include "lib/arguments.h"

static const struct subcommand {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} subcommands[] = {
	{ "bench", command_bench, "measure reads and writes to another process, or to itself" },
	{ "replay", command_replay, "send the KV cache of a request trace from a prefill to a decode process" },
	{ "transports", command_transports, "what is on, what is off and why" },
	{ "path", command_path, "which way bytes go to a segment, and why not another" },
	{ "topology", command_topology, "devices and the links between them, as tables, JSON or a drawing" },
	{ "emulate", command_emulate, "run a program on emulated devices" },
	{ "config", command_config, "every setting, its value and where it comes from" },
	{ "metadata-server", command_metadata_server, "the HTTP server where engines find each other" },
	{ "doctor", command_doctor, "check this machine; each line says ok or what to do" },
};
#define SUBCOMMANDS (sizeof(subcommands) / sizeof(subcommands[0]))

static void usage(FILE *out)
{
	fprintf(out, "usage: causeway COMMAND [options]\n\ncommands:\n");
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		fprintf(out, "  %-16s %s\n", subcommands[i].name, subcommands[i].help);
	fprintf(out, "\n'causeway COMMAND --help' lists the options of a command; --version prints the version.\n");
}

static int refuse(const char *word)
{
	const char *names[SUBCOMMANDS + 1] = { NULL }, *nearest;

	for (size_t i = 0; i < SUBCOMMANDS; i++)
		names[i] = subcommands[i].name;
	nearest = arguments_nearest(word, names);
	fprintf(stderr, "causeway: unknown command '%s'", word);
	if (nearest)
		fprintf(stderr, "; did you mean '%s'?", nearest);
	fprintf(stderr, "\nTry 'causeway --help'.\n");
	return 2;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("causeway %s\n", cw_version());
		return 0;
	}
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		if (strcmp(argv[1], subcommands[i].name) == 0)
			return subcommands[i].run(argc - 1, argv + 1);
	return refuse(argv[1]);
}
