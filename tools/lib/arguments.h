/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line options of all tools: one table of rows for each command, one parser. It takes --name VALUE,
 * --name=VALUE, --flag and --noflag, each with one dash or two, and "--" before operands. --help prints the table and
 * exits with 0; anything wrong is named on stderr, with the nearest option there is, and exits with 2.
 */
#ifndef TOOLS_ARGUMENTS_H
#define TOOLS_ARGUMENTS_H

#include <stddef.h>
#include <stdint.h>

enum argument_kind {
	ARGUMENT_END = 0,
	ARGUMENT_FLAG,    /* int: 1 for --name, 0 for --noname */
	ARGUMENT_TEXT,    /* const char * */
	ARGUMENT_NUMBER,  /* uint64_t, with an optional suffix k, m or g (powers of 1024) */
	ARGUMENT_INTEGER, /* int, which may be negative */
	ARGUMENT_DECIMAL, /* double, not negative */
	ARGUMENT_CHOICE,  /* int: the position in hint, which lists the words as "one|two|three" */
	ARGUMENT_RANGE,   /* struct argument_range: "4k" or "4k-64m" */
	ARGUMENT_LIST     /* struct argument_list: may be given several times */
};

struct argument_range {
	uint64_t first, last;
};

#define ARGUMENT_LIST_MAX 64
struct argument_list {
	const char *values[ARGUMENT_LIST_MAX];
	size_t count;
};

struct argument {
	const char *name; /* without dashes */
	enum argument_kind kind;
	void *value;      /* where it goes, of the type its kind says; holds the default before */
	const char *hint; /* what stands after the name in --help */
	const char *help;
};

struct command_line {
	const char *command;              /* "causeway bench": starts each message */
	const char *operands;             /* "SEGMENT", as --help shows it; "" = none */
	const char *summary;              /* one or more lines of what the command does */
	const struct argument *arguments; /* ends with a row of kind ARGUMENT_END */
	size_t operands_min, operands_max;
};

/* Parses all of argv[1..]. Operands go to operands_out (operands_max entries) and their number is returned. */
size_t arguments_parse(const struct command_line *line, int argc, char **argv, const char **operands_out);

/* Prints "COMMAND: message" and how to get help, and exits with 2. */
_Noreturn void arguments_refuse(const struct command_line *line, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The entry of names (NULL at its end) that word was probably meant to be; NULL when nothing is near. */
const char *arguments_nearest(const char *word, const char *const *names);

#endif
