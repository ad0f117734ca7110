/* SPDX-License-Identifier: Apache-2.0 */
/* How a tool opens its engine: the options that all tools share, and messages that name the tool and the reason. */
#ifndef TOOLS_ENGINE_H
#define TOOLS_ENGINE_H

#include <causeway/causeway.h>

#include "lib/arguments.h"

struct engine_arguments {
	const char *name, *config_file;
	struct argument_list settings;
};

/* Rows for a table of struct argument. */
#define ENGINE_ARGUMENTS(engine_arguments)                                                                             \
	{ "name", ARGUMENT_TEXT, &(engine_arguments)->name, "HOST[:PORT]",                                             \
	  "the engine's own address (127.0.0.1, any free port)" },                                                     \
		{ "config", ARGUMENT_TEXT, &(engine_arguments)->config_file, "FILE", "settings, as JSON" },            \
	{                                                                                                              \
		"set", ARGUMENT_LIST, &(engine_arguments)->settings, "KEY=VALUE",                                      \
			"one setting, see 'causeway config'; may be repeated"                                          \
	}

/* The options that a second process of the same kind needs; returns how many entries of out (at most
 * ENGINE_CHILD_ARGUMENTS) it wrote. The strings are borrowed. */
#define ENGINE_CHILD_ARGUMENTS (2 + 2 * ARGUMENT_LIST_MAX)
size_t engine_child_arguments(const struct engine_arguments *arguments, const char **out);

/* Opens an engine; command starts the message on stderr when it cannot. 0 or -1. */
int engine_start(const char *command, const struct engine_arguments *arguments, struct cw_engine **engine_out);

/* Opens a segment; transports NULL = any, else a comma list and nothing else is used. 0, or -1 after a message. */
int engine_segment_open(const char *command, struct cw_engine *engine, const char *name, const char *transports,
			struct cw_segment **segment_out);

/* Makes sure that each transport of a comma list (NULL = none) can be used: 0, or -1 after one line that says which is
 * off and why, or that there is no such transport. */
int engine_transports_check(const char *command, struct cw_engine *engine, const char *transports);

/* Memory of a tool: engine-owned, or ordinary memory that is registered. 0, or -1 after a message. */
struct engine_memory {
	unsigned char *address;
	size_t length;
	struct cw_region *region;
	int ordinary;
};
int engine_memory_open(const char *command, struct cw_engine *engine, size_t length, int ordinary,
		       struct engine_memory *memory_out);
void engine_memory_close(struct engine_memory *memory);

/* The name of the transport that a request between these two would take; "none" when there is none. */
const char *engine_path_name(struct cw_segment *segment, const void *local, uint64_t remote, uint64_t length,
			     enum cw_op op, char *name, size_t name_length);

/* Prints "command: what: reason" with the last error of the library. */
void engine_report(const char *command, const char *what, int status);

#endif
