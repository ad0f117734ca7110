/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scanner for the JSON grammar that remembers nothing but which containers are open. It runs before json-c, which is
 * lenient about control characters, overlong UTF-8, lone surrogates and numbers out of range, and ends texts at NULs.
 */
#include <string.h>

#include "wire/json.h"

struct scanner {
	const unsigned char *at, *end;
	const char *fault; /* the first thing wrong; ends the scan */
	uint64_t members;
	unsigned depth;
	unsigned char closers[CW__JSON_DEPTH]; /* '}' or ']' of each open container */
};

/* What the grammar allows next. FIRST: just after an opening bracket, so that the closing one may follow. */
enum expected { VALUE, FIRST_VALUE, KEY, FIRST_KEY, AFTER_VALUE };

static int peek(const struct scanner *scanner)
{
	return scanner->at < scanner->end ? *scanner->at : -1;
}

static int take(struct scanner *scanner, int c)
{
	if (peek(scanner) != c)
		return 0;
	scanner->at++;
	return 1;
}

static int is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static void skip_space(struct scanner *scanner)
{
	while (take(scanner, ' ') || take(scanner, '\t') || take(scanner, '\n') || take(scanner, '\r'))
		;
}

/* The length of the well-formed UTF-8 sequence at `at` (Unicode, table 3-7), or 0. */
static size_t utf8_sequence(const unsigned char *at, size_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t length;

	if (at[0] < 0x80)
		return 1;
	if (at[0] >= 0xc2 && at[0] <= 0xdf)
		length = 2;
	else if ((at[0] & 0xf0) == 0xe0)
		length = 3;
	else if (at[0] >= 0xf0 && at[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (at[0] == 0xe0)
		low = 0xa0; /* shorter forms exist */
	else if (at[0] == 0xed)
		high = 0x9f; /* surrogates */
	else if (at[0] == 0xf0)
		low = 0x90; /* shorter forms exist */
	else if (at[0] == 0xf4)
		high = 0x8f; /* above U+10FFFF */
	if (left < length || at[1] < low || at[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	}
	return length;
}

int cw__utf8_check(const char *text, size_t length)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + length;

	while (at < end) {
		size_t step = *at ? utf8_sequence(at, (size_t)(end - at)) : 0;

		if (step == 0)
			return 0;
		at += step;
	}
	return 1;
}

/* Four hexadecimal digits; a number above 0xffff when they are not there. */
static unsigned scan_hex4(struct scanner *scanner)
{
	unsigned value = 0;

	for (int i = 0; i < 4; i++) {
		int c = peek(scanner);

		if (is_digit(c))
			value = value << 4 | (unsigned)(c - '0');
		else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
			value = value << 4 | (unsigned)((c | 0x20) - 'a' + 10);
		else
			return 0x10000;
		scanner->at++;
	}
	return value;
}

static void scan_escape(struct scanner *scanner)
{
	unsigned unit;

	if (peek(scanner) > 0 && strchr("\"\\/bfnrt", peek(scanner))) {
		scanner->at++;
		return;
	}
	if (!take(scanner, 'u') || (unit = scan_hex4(scanner)) > 0xffff) {
		scanner->fault = "bad escape in a string";
		return;
	}
	if (unit == 0)
		scanner->fault = "NUL in a string";
	if (unit < 0xd800 || unit > 0xdfff)
		return;
	if (unit <= 0xdbff && take(scanner, '\\') && take(scanner, 'u')) {
		unit = scan_hex4(scanner);
		if (unit >= 0xdc00 && unit <= 0xdfff)
			return;
	}
	scanner->fault = "half a surrogate pair in a string";
}

static void scan_string(struct scanner *scanner)
{
	if (!take(scanner, '"')) {
		scanner->fault = "a string is wanted";
		return;
	}
	while (!scanner->fault && !take(scanner, '"')) {
		size_t step;

		if (peek(scanner) < 0x20) {
			scanner->fault =
				scanner->at == scanner->end ? "unfinished string" : "control character in a string";
		} else if (take(scanner, '\\')) {
			scan_escape(scanner);
		} else {
			step = utf8_sequence(scanner->at, (size_t)(scanner->end - scanner->at));
			scanner->at += step;
			if (step == 0)
				scanner->fault = "not UTF-8";
		}
	}
}

static size_t scan_digits(struct scanner *scanner)
{
	const unsigned char *start = scanner->at;

	while (is_digit(peek(scanner)))
		scanner->at++;
	return (size_t)(scanner->at - start);
}

static void scan_number(struct scanner *scanner)
{
	const char *limit = take(scanner, '-') ? "9223372036854775808" : "18446744073709551615";
	const unsigned char *start = scanner->at;
	size_t digits = scan_digits(scanner);
	int whole = 1;

	if (digits == 0 || (digits > 1 && *start == '0')) {
		scanner->fault = "bad number";
		return;
	}
	if (take(scanner, '.')) {
		whole = 0;
		if (scan_digits(scanner) == 0)
			scanner->fault = "bad number";
	}
	if (take(scanner, 'e') || take(scanner, 'E')) {
		whole = 0;
		if (!take(scanner, '+'))
			take(scanner, '-');
		if (scan_digits(scanner) == 0)
			scanner->fault = "bad number";
	}
	if (whole && (digits > strlen(limit) || (digits == strlen(limit) && memcmp(start, limit, digits) > 0)))
		scanner->fault = "integer out of range";
}

static void scan_word(struct scanner *scanner, const char *word)
{
	for (const char *c = word; *c; c++) {
		if (!take(scanner, *c)) {
			scanner->fault = "unknown word";
			return;
		}
	}
}

static enum expected open_container(struct scanner *scanner, unsigned char closer)
{
	scanner->at++;
	if (scanner->depth == CW__JSON_DEPTH)
		scanner->fault = "nested too deep";
	else
		scanner->closers[scanner->depth++] = closer;
	return closer == '}' ? FIRST_KEY : FIRST_VALUE;
}

static enum expected scan_value(struct scanner *scanner)
{
	switch (peek(scanner)) {
	case '{':
		return open_container(scanner, '}');
	case '[':
		return open_container(scanner, ']');
	case '"':
		scan_string(scanner);
		break;
	case 't':
		scan_word(scanner, "true");
		break;
	case 'f':
		scan_word(scanner, "false");
		break;
	case 'n':
		scan_word(scanner, "null");
		break;
	default:
		if (peek(scanner) == '-' || is_digit(peek(scanner)))
			scan_number(scanner);
		else
			scanner->fault = "a value is wanted";
	}
	return AFTER_VALUE;
}

static enum expected scan_key(struct scanner *scanner)
{
	scan_string(scanner);
	skip_space(scanner);
	if (!scanner->fault && !take(scanner, ':'))
		scanner->fault = "a colon is wanted";
	scanner->members++;
	return VALUE;
}

/* Between two values of the innermost container, or at its end. */
static enum expected scan_separator(struct scanner *scanner)
{
	int closer = scanner->closers[scanner->depth - 1];

	if (take(scanner, closer)) {
		scanner->depth--;
		return AFTER_VALUE;
	}
	if (!take(scanner, ','))
		scanner->fault = "a comma or closing bracket is wanted";
	return closer == '}' ? KEY : VALUE;
}

const char *cw__json_scan(const char *text, size_t length, struct cw__json_scan *scan_out)
{
	const unsigned char *start = (const unsigned char *)text;
	struct scanner scanner = { .at = start, .end = start + length };
	enum expected expected = VALUE;

	skip_space(&scanner);
	scan_out->first = (char)(peek(&scanner) < 0 ? 0 : peek(&scanner));
	while (!scanner.fault && (expected != AFTER_VALUE || scanner.depth > 0)) {
		if ((expected == FIRST_VALUE || expected == FIRST_KEY) &&
		    take(&scanner, scanner.closers[scanner.depth - 1])) {
			scanner.depth--;
			expected = AFTER_VALUE;
		} else if (expected == AFTER_VALUE) {
			expected = scan_separator(&scanner);
		} else if (expected == KEY || expected == FIRST_KEY) {
			expected = scan_key(&scanner);
		} else {
			expected = scan_value(&scanner);
		}
		skip_space(&scanner);
	}
	if (!scanner.fault && scanner.at != scanner.end)
		scanner.fault = "text after the document";
	scan_out->members = scanner.members;
	return scanner.fault;
}
