/* SPDX-License-Identifier: Apache-2.0 */
/* See arguments.h. */
#include "lib/arguments.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/units.h"

#define WORD_MAX 64
#define NAMES_MAX 128

/* Levenshtein's distance, in one row; longer words than WORD_MAX are never near. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[WORD_MAX + 1];
	size_t a_length = strlen(a), b_length = strlen(b);

	if (a_length > WORD_MAX || b_length > WORD_MAX)
		return WORD_MAX;
	for (size_t j = 0; j <= b_length; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (row[j] + 1 < best)
				best = row[j] + 1;
			row[j] = best;
		}
	}
	return row[b_length];
}

const char *arguments_nearest(const char *word, const char *const *names)
{
	const char *nearest = NULL;
	unsigned best = (unsigned)strlen(word) / 2 + 1;

	for (; *names; names++) {
		unsigned distance = edit_distance(word, *names);

		if (distance < best) {
			best = distance;
			nearest = *names;
		}
	}
	return nearest;
}

_Noreturn void arguments_refuse(const struct command_line *line, const char *format, ...)
{
	va_list list;

	fprintf(stderr, "%s: ", line->command);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "\nTry '%s --help'.\n", line->command);
	exit(2);
}

static void print_help(const struct command_line *line)
{
	printf("usage: %s [options]%s%s\n\n%s\n", line->command, line->operands[0] ? " " : "", line->operands,
	       line->summary);
	if (line->arguments->kind != ARGUMENT_END)
		printf("\noptions:\n");
	for (const struct argument *row = line->arguments; row->kind != ARGUMENT_END; row++) {
		char left[80];

		snprintf(left, sizeof(left), "--%s %s", row->name, row->hint ? row->hint : "");
		printf("  %-30s %s\n", left, row->help);
	}
	printf("  %-30s %s\n", "--help", "print this and exit");
}

/* word, up to its end or '=', is the row's name. In names '-' and '_' are the same. */
static int name_matches(const struct argument *row, const char *word, size_t length)
{
	if (strlen(row->name) != length)
		return 0;
	for (size_t i = 0; i < length; i++) {
		char a = word[i] == '_' ? '-' : word[i], b = row->name[i] == '_' ? '-' : row->name[i];

		if (a != b)
			return 0;
	}
	return 1;
}

static const struct argument *find_argument(const struct command_line *line, const char *word, size_t length,
					    int *negated_out)
{
	*negated_out = 0;
	for (const struct argument *row = line->arguments; row->kind != ARGUMENT_END; row++)
		if (name_matches(row, word, length))
			return row;
	*negated_out = 1;
	if (length > 2 && strncmp(word, "no", 2) == 0)
		for (const struct argument *row = line->arguments; row->kind != ARGUMENT_END; row++)
			if (row->kind == ARGUMENT_FLAG && name_matches(row, word + 2, length - 2))
				return row;
	return NULL;
}

static _Noreturn void refuse_unknown(const struct command_line *line, const char *word, size_t length)
{
	const char *names[NAMES_MAX], *nearest;
	char name[WORD_MAX + 1];
	size_t count = 0;

	for (const struct argument *row = line->arguments; row->kind != ARGUMENT_END && count + 2 < NAMES_MAX; row++)
		names[count++] = row->name;
	names[count++] = "help";
	names[count] = NULL;
	snprintf(name, sizeof(name), "%.*s", (int)(length > WORD_MAX ? WORD_MAX : length), word);
	nearest = arguments_nearest(name, names);
	if (nearest)
		arguments_refuse(line, "unknown option --%s; did you mean --%s?", name, nearest);
	arguments_refuse(line, "unknown option --%s", name);
}

static int parse_choice(const char *words, const char *text)
{
	size_t length = strlen(text);

	for (int position = 0; *words; position++) {
		size_t word = strcspn(words, "|");

		if (word == length && strncmp(words, text, length) == 0)
			return position;
		words += word + (words[word] == '|');
	}
	return -1;
}

static int parse_flag(const char *text)
{
	static const char *const words[] = { "false", "true", "0", "1", "no", "yes", "off", "on" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text, words[i]) == 0)
			return (int)(i % 2);
	return -1;
}

static int parse_range(const char *text, struct argument_range *range_out)
{
	const char *dash = strchr(text, '-');
	char first[32];
	struct argument_range range;

	if (!dash) {
		if (units_parse(text, &range.first) != 0)
			return -1;
		range.last = range.first;
	} else {
		if ((size_t)(dash - text) >= sizeof(first))
			return -1;
		snprintf(first, sizeof(first), "%.*s", (int)(dash - text), text);
		if (units_parse(first, &range.first) != 0 || units_parse(dash + 1, &range.last) != 0)
			return -1;
	}
	if (range.first == 0 || range.last < range.first)
		return -1;
	*range_out = range;
	return 0;
}

static int parse_integer(const char *text, int *value_out)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || *end || errno || value < INT_MIN || value > INT_MAX)
		return -1;
	*value_out = (int)value;
	return 0;
}

static int parse_decimal(const char *text, double *value_out)
{
	char *end;
	double value;

	errno = 0;
	value = strtod(text, &end);
	/* The comparison is also false for not-a-number. */
	if (end == text || *end || errno || !(value >= 0 && value < 1e15))
		return -1;
	*value_out = value;
	return 0;
}

/* 0, or -1 when text is not a value of this kind. */
static int store(const struct argument *row, const char *text)
{
	struct argument_list *list;
	int number;

	switch (row->kind) {
	case ARGUMENT_FLAG:
	case ARGUMENT_CHOICE:
		number = row->kind == ARGUMENT_FLAG ? parse_flag(text) : parse_choice(row->hint, text);
		if (number < 0)
			return -1;
		*(int *)row->value = number;
		return 0;
	case ARGUMENT_TEXT:
		*(const char **)row->value = text;
		return 0;
	case ARGUMENT_NUMBER:
		return units_parse(text, row->value);
	case ARGUMENT_INTEGER:
		return parse_integer(text, row->value);
	case ARGUMENT_DECIMAL:
		return parse_decimal(text, row->value);
	case ARGUMENT_RANGE:
		return parse_range(text, row->value);
	case ARGUMENT_LIST:
		list = row->value;
		if (list->count == ARGUMENT_LIST_MAX)
			return -1;
		list->values[list->count++] = text;
		return 0;
	case ARGUMENT_END:
		break;
	}
	return -1;
}

/* Handles the option at argv[at] and returns how many entries it took. */
static int parse_option(const struct command_line *line, int argc, char **argv, int at)
{
	const char *word = argv[at] + (argv[at][1] == '-' ? 2 : 1);
	size_t length = strcspn(word, "=");
	const char *text = word[length] == '=' ? word + length + 1 : NULL;
	const struct argument *row;
	int negated, taken = 1;

	if ((length == 4 && strncmp(word, "help", 4) == 0) || strcmp(argv[at], "-h") == 0) {
		print_help(line);
		exit(0);
	}
	row = find_argument(line, word, length, &negated);
	if (!row)
		refuse_unknown(line, word, length);
	if (row->kind == ARGUMENT_FLAG && !text) {
		text = negated ? "false" : "true";
	} else if (negated) {
		arguments_refuse(line, "--%.*s takes no value", (int)length, word);
	} else if (!text) {
		if (at + 1 >= argc)
			arguments_refuse(line, "--%s needs a value: %s", row->name, row->hint);
		text = argv[at + 1];
		taken = 2;
	}
	if (store(row, text) != 0)
		arguments_refuse(line, "'%s' is not a value for --%s: %s", text, row->name,
				 row->hint ? row->hint : "true or false");
	return taken;
}

size_t arguments_parse(const struct command_line *line, int argc, char **argv, const char **operands_out)
{
	size_t count = 0;
	int options = 1;

	for (int at = 1; at < argc;) {
		if (options && strcmp(argv[at], "--") == 0) {
			options = 0;
			at++;
		} else if (options && argv[at][0] == '-' && argv[at][1]) {
			at += parse_option(line, argc, argv, at);
		} else {
			if (count == line->operands_max)
				arguments_refuse(line, "unexpected '%s'", argv[at]);
			operands_out[count++] = argv[at++];
		}
	}
	if (count < line->operands_min)
		arguments_refuse(line, "missing operand: %s", line->operands);
	return count;
}
