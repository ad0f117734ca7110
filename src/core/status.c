/* SPDX-License-Identifier: Apache-2.0 */
/* Statuses as text, and the text of the last failure of each thread. The list is status.def. */
#include <core/core.h>
#include <stdio.h>

struct row {
	int value;
	enum cw_scope scope;
	int retryable;
	const char *name, *text;
};

static const struct row rows[] = {
#define CW_STATUS(name, value, scope, retryable, text) { value, CW_SCOPE_##scope, retryable, #name, text },
#include <core/status.def>
#undef CW_STATUS
};

/* The enum of the public header is written by hand for its readers; this keeps it equal to the list. */
#define CW_STATUS(name, value, scope, retryable, text)                                                                 \
	_Static_assert(CW_##name == (value), "status.def and causeway.h differ in " #name);
#include <core/status.def>
#undef CW_STATUS

static const struct row *find(int status)
{
	static const struct row unknown = { 0, CW_SCOPE_ENGINE, 0, "UNKNOWN", "unknown status" };
	size_t at = status <= 0 ? (size_t) - (long)status : SIZE_MAX;

	return at < sizeof(rows) / sizeof(rows[0]) ? &rows[at] : &unknown;
}

const char *cw_strerror(int status)
{
	return find(status)->text;
}

const char *cw_status_name(int status)
{
	return find(status)->name;
}

enum cw_scope cw_status_scope(int status)
{
	return find(status)->scope;
}

int cw_status_retryable(int status)
{
	return find(status)->retryable;
}

static _Thread_local char last_error[256];

const char *cw_last_error(void)
{
	return last_error;
}

int cw__fail(int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(last_error, sizeof(last_error), format, arguments);
	va_end(arguments);
	return status;
}

#define TEXT_OF(x) #x
#define VERSION_TEXT(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)

const char *cw_version(void)
{
	return VERSION_TEXT(CW_VERSION_MAJOR, CW_VERSION_MINOR, CW_VERSION_PATCH);
}
