/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of variables.def and keys.def, and what is done with a row that somebody set: the value is checked against
 * its type, then it becomes a setting, a field of struct setup, or a line to the caller. Inside of setup.h only.
 */
#ifndef MOONCAKE_ROWS_H
#define MOONCAKE_ROWS_H

#include "setup.h"

enum row_type { ROW_ANY, ROW_TEXT, ROW_NUMBER, ROW_REAL, ROW_BOOL, ROW_SWITCH, ROW_LIST, ROW_OBJECT, ROW_TEXTS };

enum row_effect { ROW_SETTING, ROW_SECONDS, ROW_FIELD, ROW_NONE, ROW_ABSENT, ROW_STORE, ROW_ELSEWHERE };

struct row {
	const char *name;
	enum row_type type;
	double minimum, maximum; /* maximum 0 = any number that is not below minimum */
	enum row_effect effect;
	const char *target, *note;
};

extern const struct row setup__variables[], setup__keys[];
extern const size_t setup__variable_count, setup__key_count;

/* One call from outside: where its lines go. */
struct notices {
	setup_notice_fn fn; /* NULL = nobody wants them */
	void *arg;
	int once; /* each name is spoken of once per process */
};

__attribute__((format(printf, 2, 3))) int setup__fail(struct setup *setup, const char *format, ...); /* -1 */
__attribute__((format(printf, 2, 3))) void setup__notice(const struct notices *notices, const char *format, ...);
/* 1 the first time that this process says something about the name, or when it may be said again. */
int setup__first(const struct notices *notices, const char *name);

/* Does what a row says with a value; label is how the value is called in lines ("MC_RETRY_CNT", "file.json: key"). A
 * value that is no number of the wanted kind is -1; lenient = one outside of its range is named and ignored. */
int setup__apply(struct setup *setup, const struct row *row, const char *label, const char *value, int lenient,
		 const struct notices *notices);
/* What follows from several values together: ports, the two ways of NVLink, metrics. */
int setup__conclude(struct setup *setup, const struct notices *notices);

/* setup_file() inside of setup_environment(). */
int setup__load(struct setup *setup, const char *path_or_text, const char *label, const struct notices *notices);

/* The row of a name, or NULL. */
const struct row *setup__row(const struct row *rows, size_t count, const char *name);

/* What somebody probably meant: a row, or the first parts of one when the name has as few parts. */
struct nearest {
	char name[96];
	size_t distance;
};
void setup__nearest(const struct row *rows, size_t count, const char *name, struct nearest *nearest_out);

#endif
