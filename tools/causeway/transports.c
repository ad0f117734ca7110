/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway transports`: what is on, and what is off and why, with this configuration on this machine. With --memory,
 * the same of the platforms: which kinds of memory can be registered.
 */
#include <stdio.h>

#include "commands.h"
#include "lib/arguments.h"
#include "lib/engine.h"
#include "lib/table.h"

#define COMMAND "causeway transports"

static const struct table_column columns[] = {
	{ "name", "transport", -16, 0 },
	{ "state", "state", -5, 0 },
	{ "why", "what it does, or why it is off", -1, 0 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static const struct table_column memory_columns[COLUMNS] = {
	{ "name", "memory", -16, 0 },
	{ "state", "state", -5, 0 },
	{ "why", "what it is, or why it is off", -1, 0 },
};

static void print_part(void *arg, const char *name, int on, const char *why)
{
	const struct table_cell cells[COLUMNS] = { { name, 0 }, { on ? "on" : "off", 0 }, { why, 0 } };

	table_row(arg, cells);
}

int command_transports(int argc, char **argv)
{
	struct engine_arguments engine_arguments = { .name = NULL };
	int format = TABLE_TEXT, memory = 0, status;
	const struct argument arguments[] = {
		{ "format", ARGUMENT_CHOICE, &format, TABLE_FORMATS, "how to print (text)" },
		{ "memory", ARGUMENT_FLAG, &memory, NULL, "list the kinds of memory instead" },
		ENGINE_ARGUMENTS(&engine_arguments),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "",
		.summary = "Lists the ways in which this engine could move bytes.",
		.arguments = arguments,
	};
	struct cw_engine *engine;
	struct table table;

	arguments_parse(&line, argc, argv, NULL);
	if (engine_start(COMMAND, &engine_arguments, &engine) != 0)
		return 1;
	table_begin(&table, stdout, (enum table_format)format, memory ? memory_columns : columns, COLUMNS);
	status = memory ? cw_engine_platforms(engine, print_part, &table)
			: cw_engine_transports(engine, print_part, &table);
	table_end(&table);
	if (status != CW_OK)
		engine_report(COMMAND, memory ? "cannot list the platforms" : "cannot list the transports", status);
	cw_engine_close(engine);
	return status == CW_OK ? 0 : 1;
}
