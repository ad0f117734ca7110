/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway config`: every setting, its value, where the value comes from, and what it does. With --mooncake: what
 * Mooncake's variables and files mean (config_mooncake.c).
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "lib/arguments.h"
#include "lib/engine.h"
#include "lib/table.h"

#define COMMAND "causeway config"

static const struct table_column columns[] = {
	{ "key", "setting", -26, 0 },
	{ "value", "value", -10, 0 },
	{ "origin", "origin", -11, 0 },
	{ "help", "what it does", -1, 0 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

struct print {
	struct table table;
	int changed_only;
};

static void print_setting(void *arg, const char *key, const char *value, const char *origin, const char *help)
{
	struct print *print = arg;
	const int empty = print->table.format == TABLE_TEXT && !value[0];
	const struct table_cell cells[COLUMNS] = {
		{ key, 0 }, { empty ? "\"\"" : value, 0 }, { origin, 0 }, { help, 0 }
	};

	if (!print->changed_only || strcmp(origin, "default") != 0)
		table_row(&print->table, cells);
}

int command_config(int argc, char **argv)
{
	struct engine_arguments engine_arguments = { .name = NULL };
	struct print print = { .changed_only = 0 };
	int format = TABLE_TEXT, mooncake = 0, status;
	const struct argument arguments[] = {
		{ "changed", ARGUMENT_FLAG, &print.changed_only, NULL, "only settings that somebody set" },
		{ "mooncake", ARGUMENT_FLAG, &mooncake, NULL,
		  "print what Mooncake's variables, and FILE of Mooncake or TENT, mean: JSON for --config" },
		{ "format", ARGUMENT_CHOICE, &format, TABLE_FORMATS, "how to print (text)" },
		ENGINE_ARGUMENTS(&engine_arguments),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "[--mooncake [FILE]]",
		.summary = "Prints every setting with its value and origin: default, file, environment or options.\n"
			   "In the environment engine/max_slices is called CW_ENGINE_MAX_SLICES.",
		.arguments = arguments,
		.operands_max = 1,
	};
	const char *file = NULL;
	struct cw_engine *engine;

	arguments_parse(&line, argc, argv, &file);
	if (mooncake)
		return config_mooncake(COMMAND, file);
	if (file)
		arguments_refuse(&line, "unexpected '%s'; a file of Mooncake goes with --mooncake", file);
	if (engine_start(COMMAND, &engine_arguments, &engine) != 0)
		return 1;
	table_begin(&print.table, stdout, (enum table_format)format, columns, COLUMNS);
	status = cw_engine_settings(engine, print_setting, &print);
	table_end(&print.table);
	if (status != CW_OK)
		engine_report(COMMAND, "cannot list the settings", status);
	cw_engine_close(engine);
	return status == CW_OK ? 0 : 1;
}
