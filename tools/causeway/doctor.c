/* SPDX-License-Identifier: Apache-2.0 */
/* The command behind doctor.h: runs every check and prints the lines. Manual: man/causeway-doctor.1. */
#include "doctor.h"

#include <stdarg.h>
#include <stdio.h>

#include "commands.h"
#include "lib/arguments.h"
#include "lib/table.h"

#define COMMAND "causeway doctor"

struct doctor {
	struct table table;
	struct engine_arguments engine;
	enum doctor_verdict worst;
};

static const struct table_column columns[] = {
	{ "subject", "subject", -18, 0 },
	{ "verdict", "verdict", -7, 0 },
	{ "text", "what was found, what to do", -1, 0 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void (*const checks[])(struct doctor *doctor) = {
	doctor_memory,    doctor_memlock, doctor_huge_pages, doctor_ptrace,
	doctor_addresses, doctor_port,    doctor_firewall,   doctor_congestion_control,
	doctor_nics,      doctor_rdma,    doctor_gpus,
};

void doctor_say(struct doctor *doctor, enum doctor_verdict verdict, const char *subject, const char *format, ...)
{
	static const char *const verdicts[] = { "ok", "warn", "BROKEN" };
	struct table_cell cells[COLUMNS] = { { subject, 0 }, { verdicts[verdict], 0 } };
	char text[512];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	cells[2].text = text;
	table_row(&doctor->table, cells);
	if (verdict > doctor->worst)
		doctor->worst = verdict;
}

const struct engine_arguments *doctor_engine_arguments(const struct doctor *doctor)
{
	return &doctor->engine;
}

int command_doctor(int argc, char **argv)
{
	struct doctor doctor = { .worst = DOCTOR_OK };
	int format = TABLE_TEXT;
	const struct argument arguments[] = {
		{ "format", ARGUMENT_CHOICE, &format, TABLE_FORMATS, "how to print (text)" },
		ENGINE_ARGUMENTS(&doctor.engine),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "",
		.summary =
			"Checks this machine. Each line says ok, or what to do. The exit status is 0 unless something\n"
			"is broken, so that an engine with these options cannot work here.",
		.arguments = arguments,
	};

	arguments_parse(&line, argc, argv, NULL);
	table_begin(&doctor.table, stdout, (enum table_format)format, columns, COLUMNS);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		checks[i](&doctor);
	table_end(&doctor.table);
	return doctor.worst == DOCTOR_BROKEN;
}
