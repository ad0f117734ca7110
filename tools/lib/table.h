/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of results as aligned text, JSON (an array of objects) or CSV. A row is printed when it is given, so long sweeps
 * show their results as they come; what a column is called and how wide it is stands in one table.
 */
#ifndef TOOLS_TABLE_H
#define TOOLS_TABLE_H

#include <stddef.h>
#include <stdio.h>

enum table_format { TABLE_TEXT = 0, TABLE_JSON = 1, TABLE_CSV = 2 };
#define TABLE_FORMATS "text|json|csv" /* the hint of an ARGUMENT_CHOICE */

struct table_column {
	const char *key;   /* in JSON and CSV: unit included, such as "p50_us" */
	const char *title; /* in text: "p50 us" */
	int width;         /* at least; negative = to the left */
	int decimals;      /* for numbers */
};

/* text, when it is not NULL, else the number; NaN = unknown, which is shown as "-" and in JSON as null. */
struct table_cell {
	const char *text;
	double number;
};

struct table {
	FILE *out;
	enum table_format format;
	const struct table_column *columns;
	size_t count;
	size_t rows;
};

/* Prints the head. columns must outlive the table. */
void table_begin(struct table *table, FILE *out, enum table_format format, const struct table_column *columns,
		 size_t count);

/* Prints one row of count cells. */
void table_row(struct table *table, const struct table_cell *cells);

/* Prints the tail. */
void table_end(struct table *table);

/* Prints text as a JSON string with its quotes. */
void table_json_text(FILE *out, const char *text);

#endif
