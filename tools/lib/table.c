/* SPDX-License-Identifier: Apache-2.0 */
/* See table.h. */
#include "lib/table.h"

#include <math.h>
#include <string.h>

void table_json_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		if (*at == '"' || *at == '\\')
			fprintf(out, "\\%c", *at);
		else if (*at < 0x20 || *at == 0x7f)
			fprintf(out, "\\u%04x", *at);
		else
			fputc(*at, out);
	}
	fputc('"', out);
}

static void csv_text(FILE *out, const char *text)
{
	if (!text[strcspn(text, ",\"\r\n")]) {
		fputs(text, out);
		return;
	}
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

/* The last column needs no blanks behind it. */
static void text_cell(const struct table *table, size_t column, const char *text)
{
	int width = table->columns[column].width;

	if (column + 1 == table->count && width < 0)
		width = 0;
	fprintf(table->out, "%s%*s", column ? "  " : "", width, text);
}

void table_begin(struct table *table, FILE *out, enum table_format format, const struct table_column *columns,
		 size_t count)
{
	*table = (struct table){ .out = out, .format = format, .columns = columns, .count = count };
	if (format == TABLE_JSON) {
		fputc('[', out);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (format == TABLE_TEXT)
			text_cell(table, i, columns[i].title);
		else
			fprintf(out, "%s%s", i ? "," : "", columns[i].key);
	}
	fputc('\n', out);
	fflush(out);
}

static void print_cell(const struct table *table, size_t column, const struct table_cell *cell)
{
	const struct table_column *description = &table->columns[column];
	char number[64];

	if (isnan(cell->number))
		snprintf(number, sizeof(number), "%s", table->format == TABLE_JSON ? "null" : "-");
	else
		snprintf(number, sizeof(number), "%.*f", description->decimals, cell->number);
	if (table->format == TABLE_TEXT) {
		text_cell(table, column, cell->text ? cell->text : number);
		return;
	}
	if (column)
		fputc(',', table->out);
	if (table->format == TABLE_CSV) {
		csv_text(table->out, cell->text ? cell->text : number);
		return;
	}
	fputc(column ? ' ' : '{', table->out);
	table_json_text(table->out, description->key);
	fputs(": ", table->out);
	if (cell->text)
		table_json_text(table->out, cell->text);
	else
		fputs(number, table->out);
}

void table_row(struct table *table, const struct table_cell *cells)
{
	if (table->format == TABLE_JSON)
		fputs(table->rows ? ",\n " : "\n ", table->out);
	for (size_t i = 0; i < table->count; i++)
		print_cell(table, i, &cells[i]);
	fputs(table->format == TABLE_JSON ? "}" : "\n", table->out);
	fflush(table->out);
	table->rows++;
}

void table_end(struct table *table)
{
	if (table->format == TABLE_JSON)
		fputs(table->rows ? "\n]\n" : "]\n", table->out);
	fflush(table->out);
}
