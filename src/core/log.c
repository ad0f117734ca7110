/* SPDX-License-Identifier: Apache-2.0 */
/* The log: one line at a time to the caller's function, or to stderr; at most LINES_A_SECOND, the rest is counted. */
#include <core/core.h>
#include <stdio.h>
#include <string.h>

#define LINES_A_SECOND 20

static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };

void cw__log_init(struct cw__log *log, cw_log_fn fn, void *arg, const char *level)
{
	pthread_mutex_init(&log->lock, NULL);
	log->fn = fn;
	log->arg = arg;
	log->level = -1;
	for (int i = 0; i < 5; i++)
		if (!strcmp(level, level_names[i]))
			log->level = i;
}

/* 1 = the line may go out; *dropped_out lines did not before it. */
static int admit(struct cw__log *log, unsigned *dropped_out)
{
	uint64_t now = cw__now();
	int ok;

	pthread_mutex_lock(&log->lock);
	*dropped_out = 0;
	if (now - log->window >= CW__SECOND) {
		log->window = now;
		log->lines = 0;
		*dropped_out = log->dropped;
		log->dropped = 0;
	}
	ok = log->lines < LINES_A_SECOND;
	if (ok)
		log->lines++;
	else
		log->dropped++;
	pthread_mutex_unlock(&log->lock);
	return ok;
}

static void emit(struct cw__log *log, enum cw_log_level level, const char *line)
{
	if (log->fn)
		log->fn(log->arg, level, line);
	else
		fprintf(stderr, "causeway: %s: %s\n", level_names[level], line);
}

void cw__log_write(struct cw__log *log, enum cw_log_level level, const char *format, va_list arguments)
{
	char line[512];
	unsigned dropped;

	if ((int)level > log->level || !admit(log, &dropped))
		return;
	if (dropped) {
		snprintf(line, sizeof(line), "%u lines were dropped", dropped);
		emit(log, CW_LOG_WARN, line);
	}
	vsnprintf(line, sizeof(line), format, arguments);
	emit(log, level, line);
}

void cw__log(struct cw_engine *engine, enum cw_log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	cw__log_write(&engine->log, level, format, arguments);
	va_end(arguments);
}
