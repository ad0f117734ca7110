/* SPDX-License-Identifier: Apache-2.0 */
/* `causeway transports`: what is on, and what is off and why, with this configuration on this machine. */
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

static void print_transport(void *arg, const char *name, int on, const char *why)
{
	const struct table_cell cells[COLUMNS] = { { name, 0 }, { on ? "on" : "off", 0 }, { why, 0 } };

	table_row(arg, cells);
}

int command_transports(int argc, char **argv)
{
	struct engine_arguments engine_arguments = { .name = NULL };
	int format = TABLE_TEXT, status;
	const struct argument arguments[] = {
		{ "format", ARGUMENT_CHOICE, &format, TABLE_FORMATS, "how to print (text)" },
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
	table_begin(&table, stdout, (enum table_format)format, columns, COLUMNS);
	status = cw_engine_transports(engine, print_transport, &table);
	table_end(&table);
	if (status != CW_OK)
		engine_report(COMMAND, "cannot list the transports", status);
	cw_engine_close(engine);
	return status == CW_OK ? 0 : 1;
}
