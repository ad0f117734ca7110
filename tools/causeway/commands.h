/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands of `causeway`: each takes its own argv (argv[0] is its name) and returns the exit status. */
#ifndef CAUSEWAY_COMMANDS_H
#define CAUSEWAY_COMMANDS_H

int command_bench(int argc, char **argv);
int command_replay(int argc, char **argv);
int command_transports(int argc, char **argv);
int command_path(int argc, char **argv);
int command_topology(int argc, char **argv);
int command_emulate(int argc, char **argv);
int command_config(int argc, char **argv);
int command_metadata_server(int argc, char **argv);
int command_doctor(int argc, char **argv);

/* `causeway config --mooncake`; file may be NULL. */
int config_mooncake(const char *command, const char *file);

#endif
