/* SPDX-License-Identifier: Apache-2.0 */
/* What the C interfaces say themselves: lines as the engine writes them, since numbers alone explain little. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "face.h"

#define LINES_A_SECOND 20

static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };

uint64_t face_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * FACE_SECOND + (uint64_t)time.tv_nsec;
}

/* A program that repeats a mistake in a loop does not fill its log with it. */
static int admit(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static uint64_t window;
	static unsigned lines;
	uint64_t now = face_now();
	int ok;

	pthread_mutex_lock(&lock);
	if (now - window >= FACE_SECOND) {
		window = now;
		lines = 0;
	}
	ok = lines < LINES_A_SECOND;
	lines += (unsigned)ok;
	pthread_mutex_unlock(&lock);
	return ok;
}

static void write_line(int limit, enum cw_log_level level, const char *format, va_list arguments)
{
	char line[512];

	if ((int)level > limit || !admit())
		return;
	vsnprintf(line, sizeof(line), format, arguments);
	fprintf(stderr, "causeway: %s: %s\n", level_names[level], line);
}

void face_log(const struct face *face, enum cw_log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(face->log_level, level, format, arguments);
	va_end(arguments);
}

void face_log_at(int limit, enum cw_log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(limit, level, format, arguments);
	va_end(arguments);
}

void face_notice(void *limit, const char *line)
{
	face_log_at(*(const int *)limit, CW_LOG_WARN, "%s", line);
}

int face_log_level(const struct setup *setup)
{
	const char *value = "warn";

	for (size_t i = 0; i < setup->setting_count; i++)
		if (strcmp(setup->settings[i].key, "log/level") == 0)
			value = setup->settings[i].value;
	for (int i = 0; i < 5; i++)
		if (strcmp(value, level_names[i]) == 0)
			return i;
	return -1;
}

int face_setup_level(void)
{
	struct setup setup = { 0 };
	int level = CW_LOG_WARN;

	if (setup_environment(&setup, NULL, NULL) == 0)
		level = face_log_level(&setup);
	setup_free(&setup);
	return level;
}
