/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one value of Mooncake's becomes. A row of the tables names a setting, or one of the functions of `fields` below
 * for what is more than a copy; both check the value first. See environment.c and file.c for where values come from.
 */
#include "rows.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/nearest.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TIMEOUT_LEAST 5u /* seconds; Mooncake takes no less either */
#define METRIC_EVERY 5.0 /* seconds */
#define PORT_MIN 15000u
#define PORT_MAX 17000u

const struct row setup__variables[] = {
#define MOONCAKE_VARIABLE(name, type, minimum, maximum, effect, target, note)                                          \
	{ name, ROW_##type, minimum, maximum, ROW_##effect, target, note },
#include "variables.def"
#undef MOONCAKE_VARIABLE
};
const size_t setup__variable_count = COUNT(setup__variables);

const struct row setup__keys[] = {
#define MOONCAKE_KEY(name, type, minimum, maximum, effect, target, note)                                               \
	{ name, ROW_##type, minimum, maximum, ROW_##effect, target, note },
#include "keys.def"
#undef MOONCAKE_KEY
};
const size_t setup__key_count = COUNT(setup__keys);

/* ------------------------------------------------------------------------------------------ settings */

int setup__fail(struct setup *setup, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(setup->text, sizeof(setup->text), format, arguments);
	va_end(arguments);
	return -1;
}

int setup_set(struct setup *setup, const char *key, const char *value)
{
	struct cw_setting *at = setup->settings, *end = at + setup->setting_count;
	char *copy;

	while (at < end && strcmp(at->key, key))
		at++;
	if (at == end && setup->setting_count == SETUP_SETTINGS_MAX)
		return setup__fail(setup, "%s: more than %d settings", key, SETUP_SETTINGS_MAX);
	copy = strdup(value);
	if (!copy)
		return setup__fail(setup, "out of memory");
	if (at < end) {
		free((void *)(uintptr_t)at->value);
		at->value = copy;
		return 0;
	}
	at->key = strdup(key);
	at->value = copy;
	if (!at->key) {
		free(copy);
		at->value = NULL;
		return setup__fail(setup, "out of memory");
	}
	setup->setting_count++;
	return 0;
}

void setup_free(struct setup *setup)
{
	for (size_t i = 0; i < setup->setting_count; i++) {
		free((void *)(uintptr_t)setup->settings[i].key);
		free((void *)(uintptr_t)setup->settings[i].value);
	}
	memset(setup, 0, sizeof(*setup));
}

/* ------------------------------------------------------------------------------------------- notices */

void setup__notice(const struct notices *notices, const char *format, ...)
{
	char line[SETUP_TEXT_MAX];
	va_list arguments;

	if (!notices->fn)
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	notices->fn(notices->arg, line);
}

/* What was said already, by a hash of the name: a collision costs a line, not memory for each stranger. */
int setup__first(const struct notices *notices, const char *name)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static uint64_t said[1024];
	uint64_t hash = 14695981039346656037u;
	size_t at;
	int first;

	if (!notices->fn)
		return 0;
	if (!notices->once)
		return 1;
	for (const char *c = name; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 1099511628211u;
	hash |= 1;
	pthread_mutex_lock(&lock);
	at = hash % COUNT(said);
	for (size_t tries = 0; tries < COUNT(said) && said[at] && said[at] != hash; tries++)
		at = (at + 1) % COUNT(said);
	first = said[at] != hash;
	said[at] = hash;
	pthread_mutex_unlock(&lock);
	return first;
}

/* -------------------------------------------------------------------------------------------- values */

/* 1, 0, or -1 for another word. */
static int on_or_off(const char *value)
{
	static const char *const words[] = { "0", "1", "off", "on", "false", "true", "no", "yes", "", "enable" };

	for (size_t i = 0; i < COUNT(words); i++)
		if (!strcasecmp(value, words[i]))
			return (int)(i & 1);
	return -1;
}

/* A decimal number, a whole one when the row wants that. */
static int parse_number(const struct row *row, const char *value, double *number_out)
{
	char *end;
	double number;

	if (strspn(value, row->type == ROW_NUMBER ? "-0123456789" : "-+.eE0123456789") != strlen(value))
		return -1;
	errno = 0;
	number = strtod(value, &end);
	if (end == value || *end || errno || !isfinite(number))
		return -1;
	*number_out = number;
	return 0;
}

static int inside(const struct row *row, double number)
{
	return number >= row->minimum && (row->maximum <= 0 || number <= row->maximum);
}

static void say_range(const struct row *row, char *text, size_t size)
{
	if (row->maximum > 0)
		snprintf(text, size, "from %.15g to %.15g", row->minimum, row->maximum);
	else
		snprintf(text, size, "at least %.15g", row->minimum);
}

/* What a checked value is: a number, or on and off. */
struct value {
	const char *text;
	double number;
	int on;
};

/* 0 = good, 1 = to be ignored, -1 = setup->text says what is wrong. */
static int check(struct setup *setup, const struct row *row, const char *label, struct value *value, int lenient,
		 const struct notices *notices)
{
	char range[64];

	switch (row->type) {
	case ROW_NUMBER:
	case ROW_REAL:
		if (parse_number(row, value->text, &value->number))
			return setup__fail(setup, "%s: '%.100s' is not a%s number", label, value->text,
					   row->type == ROW_NUMBER ? " whole" : "");
		if (inside(row, value->number))
			return 0;
		say_range(row, range, sizeof(range));
		if (!lenient)
			return setup__fail(setup, "%s: %.100s is not %s", label, value->text, range);
		if (setup__first(notices, label))
			setup__notice(notices, "%s is ignored: %.100s is not %s", label, value->text, range);
		return 1;
	case ROW_BOOL:
		value->on = on_or_off(value->text);
		if (value->on < 0)
			return setup__fail(setup, "%s: '%.100s' is neither on nor off", label, value->text);
		return 0;
	case ROW_SWITCH:
		value->on = on_or_off(value->text) != 0;
		if (!value->on && value->text[0] && setup__first(notices, label))
			setup__notice(notices,
				      "%s=%.20s is taken as off; Mooncake takes any value as on, unset it to be clear",
				      label, value->text);
		return 0;
	default:
		return 0;
	}
}

/* -------------------------------------------------------------------------------------------- fields */

/* One value that is more than a setting. */
struct field {
	const char *name;
	int (*take)(struct setup *setup, const char *label, const struct value *value, const struct notices *notices);
};

static int copy_text(struct setup *setup, const char *label, const char *text, char *out, size_t size)
{
	size_t length = strlen(text);

	if (length >= size)
		return setup__fail(setup, "%s: longer than %zu bytes", label, size - 1);
	memcpy(out, text, length + 1);
	return 0;
}

#define TEXT_FIELD(field)                                                                                              \
	static int take_##field(struct setup *setup, const char *label, const struct value *value,                     \
				const struct notices *notices)                                                         \
	{                                                                                                              \
		(void)notices;                                                                                         \
		return copy_text(setup, label, value->text, setup->field, sizeof(setup->field));                       \
	}
#define SWITCH_FIELD(field)                                                                                            \
	static int take_##field(struct setup *setup, const char *label, const struct value *value,                     \
				const struct notices *notices)                                                         \
	{                                                                                                              \
		(void)label;                                                                                           \
		(void)notices;                                                                                         \
		setup->field = value->on;                                                                              \
		return 0;                                                                                              \
	}
#define PORT_FIELD(field)                                                                                              \
	static int take_##field(struct setup *setup, const char *label, const struct value *value,                     \
				const struct notices *notices)                                                         \
	{                                                                                                              \
		(void)label;                                                                                           \
		(void)notices;                                                                                         \
		setup->field = value->number < 1 ? 1 : (unsigned)value->number;                                        \
		return 0;                                                                                              \
	}

TEXT_FIELD(local_hostname)
TEXT_FIELD(metadata_server)
TEXT_FIELD(metadata_backend)
TEXT_FIELD(bind_address)
SWITCH_FIELD(force_tcp)
SWITCH_FIELD(use_ipv6)
SWITCH_FIELD(legacy_binding)
SWITCH_FIELD(metric)
SWITCH_FIELD(intranode_nvlink)
PORT_FIELD(port_min)
PORT_FIELD(port_max)

static int take_device_name(struct setup *setup, const char *label, const struct value *value,
			    const struct notices *notices)
{
	const char *text = strcasecmp(value->text, "auto-discovery") ? value->text : "";

	if (*text && setup__first(notices, label))
		setup__notice(notices, "%s has no effect: network devices are chosen for RDMA, which is not built yet",
			      label);
	return copy_text(setup, label, text, setup->device_name, sizeof(setup->device_name));
}

/* A variable is the framework's too, which may know more; a file is ours alone. */
static int take_protocol(struct setup *setup, const char *label, const struct value *value,
			 const struct notices *notices)
{
	static const char unknown[] = "there is no protocol";
	const char *used = "", *text = value->text;

	if (text[0] && !setup_protocol(text, &used)) {
		if (!notices->once)
			return setup__fail(setup, "%s: %s '%.40s'; tcp, rdma, nvlink_intra and sunrise_link are some",
					   label, unknown, text);
		if (setup__first(notices, label))
			setup__notice(notices, "%s is ignored: %s '%.40s'", label, unknown, text);
		return 0;
	}
	if (used[0] && setup__first(notices, label))
		setup__notice(notices, "%s: %.40s is not built yet, %s is used instead", label, text, used);
	return copy_text(setup, label, text, setup->protocol, sizeof(setup->protocol));
}

static int take_force_mnnvl(struct setup *setup, const char *label, const struct value *value,
			    const struct notices *notices)
{
	setup->force_mnnvl = value->on;
	if (value->on && setup__first(notices, label))
		setup__notice(notices, "%s: NVLink between machines is not built yet, %s is used instead", label,
			      "nvlink_intra inside a machine and tcp between machines");
	return 0;
}

static int take_intra_nvlink(struct setup *setup, const char *label, const struct value *value,
			     const struct notices *notices)
{
	if (setup__first(notices, label))
		setup__notice(notices, "%s is taken as MC_INTRANODE_NVLINK, which is what Mooncake's engine reads",
			      label);
	setup->intranode_nvlink = value->on;
	return 0;
}

static int take_log_level(struct setup *setup, const char *label, const struct value *value,
			  const struct notices *notices)
{
	static const char *const levels[][2] = { { "trace", "trace" },    { "verbose", "trace" }, { "debug", "debug" },
						 { "info", "info" },      { "warn", "warn" },     { "warning", "warn" },
						 { "error", "error" },    { "fatal", "error" },   { "off", "silent" },
						 { "critical", "error" }, { "silent", "silent" } };

	(void)notices;
	for (size_t i = 0; i < COUNT(levels); i++)
		if (!strcasecmp(value->text, levels[i][0]))
			return setup_set(setup, "log/level", levels[i][1]);
	return setup__fail(setup, "%s: '%.40s' is not trace, debug, info, warning or error", label, value->text);
}

static int take_transfer_timeout(struct setup *setup, const char *label, const struct value *value,
				 const struct notices *notices)
{
	double seconds = value->number;

	if (seconds < TIMEOUT_LEAST) {
		if (setup__first(notices, "MC_TRANSFER_TIMEOUT"))
			setup__notice(notices, "%s: %g s is raised to the least there is, %u s", label, seconds,
				      TIMEOUT_LEAST);
		seconds = TIMEOUT_LEAST;
	}
	setup->transfer_timeout_ns = (uint64_t)seconds * 1000000000u;
	return 0;
}

static int take_metric_interval(struct setup *setup, const char *label, const struct value *value,
				const struct notices *notices)
{
	(void)label;
	(void)notices;
	setup->metric_every = value->number;
	return 0;
}

static int take_file(struct setup *setup, const char *label, const struct value *value, const struct notices *notices)
{
	return value->text[0] ? setup__load(setup, value->text, label, notices) : 0;
}

static const struct field fields[] = {
	{ "local_hostname", take_local_hostname },
	{ "metadata_server", take_metadata_server },
	{ "metadata_backend", take_metadata_backend },
	{ "protocol", take_protocol },
	{ "device_name", take_device_name },
	{ "bind_address", take_bind_address },
	{ "force_tcp", take_force_tcp },
	{ "force_mnnvl", take_force_mnnvl },
	{ "intra_nvlink", take_intra_nvlink },
	{ "intranode_nvlink", take_intranode_nvlink },
	{ "use_ipv6", take_use_ipv6 },
	{ "legacy_binding", take_legacy_binding },
	{ "metric", take_metric },
	{ "metric_interval", take_metric_interval },
	{ "port_min", take_port_min },
	{ "port_max", take_port_max },
	{ "log_level", take_log_level },
	{ "transfer_timeout", take_transfer_timeout },
	{ "file", take_file },
};

/* --------------------------------------------------------------------------------------------- rows */

static int set_from(struct setup *setup, const struct row *row, const struct value *value)
{
	char number[32];

	if (row->type == ROW_BOOL)
		return setup_set(setup, row->target, value->on ? "on" : "off");
	if (row->type == ROW_TEXT)
		return setup_set(setup, row->target, value->text);
	snprintf(number, sizeof(number), "%.0f", value->number * (row->effect == ROW_SECONDS ? 1000 : 1));
	return setup_set(setup, row->target, number);
}

int setup__apply(struct setup *setup, const struct row *row, const char *label, const char *text, int lenient,
		 const struct notices *notices)
{
	struct value value = { .text = text };
	int verdict = check(setup, row, label, &value, lenient, notices);

	if (verdict)
		return verdict < 0 ? -1 : 0;
	switch (row->effect) {
	case ROW_SETTING:
	case ROW_SECONDS:
		return set_from(setup, row, &value);
	case ROW_FIELD:
		for (size_t i = 0; i < COUNT(fields); i++)
			if (!strcmp(fields[i].name, row->target))
				return fields[i].take(setup, label, &value, notices);
		return setup__fail(setup, "%s: no field %s", label, row->target);
	case ROW_ABSENT:
		if (!value.on)
			return 0;
		/* fall through */
	case ROW_NONE:
		if (setup__first(notices, label))
			setup__notice(notices, "%s has no effect: %s", label, row->note);
		return 0;
	case ROW_STORE:
		if (setup__first(notices, label))
			setup__notice(notices, "%s belongs to Mooncake Store, an engine passes it over", label);
		return 0;
	case ROW_ELSEWHERE:
		return 0;
	}
	return 0;
}

const struct row *setup__row(const struct row *rows, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(rows[i].name);

		if (!strcmp(rows[i].name, name))
			return &rows[i];
		if (rows[i].name[length - 1] == '*' && !strncmp(rows[i].name, name, length - 1))
			return &rows[i];
	}
	return NULL;
}

/* The first parts of a path, as many as another one has: "transports/rdma" of "transports/rdma/enable". */
static void cut(const char *path, const char *like, char *out, size_t size)
{
	size_t length = 0;

	for (;;) {
		length += strcspn(path + length, "/");
		like += strcspn(like, "/");
		if (!*like || !path[length])
			break;
		like++;
		length++;
	}
	snprintf(out, size, "%.*s", (int)length, path);
}

void setup__nearest(const struct row *rows, size_t count, const char *name, struct nearest *nearest_out)
{
	nearest_out->distance = SIZE_MAX;
	for (size_t i = 0; i < count; i++) {
		char candidate[sizeof(nearest_out->name)];
		size_t distance;

		cut(rows[i].name, name, candidate, sizeof(candidate));
		distance = cw__edit_distance(name, candidate);
		if (distance < nearest_out->distance) {
			nearest_out->distance = distance;
			memcpy(nearest_out->name, candidate, sizeof(candidate));
		}
	}
}

/* ----------------------------------------------------------------------------------- what follows */

/* Ports that the kernel gives to outgoing connections would be taken now and then. */
static int port_range_is_good(unsigned least, unsigned most)
{
	return least >= 1024 && most <= 65535 && least <= most && !(least >= 32768 && least <= 60999) &&
	       !(most >= 32768 && most <= 60999);
}

static int conclude_ports(struct setup *setup, const struct notices *notices)
{
	unsigned least = setup->port_min ? setup->port_min : PORT_MIN;
	unsigned most = setup->port_max ? setup->port_max : PORT_MAX;
	char text[16];

	if (!setup->port_min && !setup->port_max)
		return 0;
	if (!port_range_is_good(least, most)) {
		if (setup__first(notices, "port range"))
			setup__notice(
				notices,
				"MC_MIN_RPC_PORT and MC_MAX_RPC_PORT are ignored: %u to %u is empty, below 1024 or "
				"touches 32768 to 60999; ports are %u to %u",
				least, most, PORT_MIN, PORT_MAX);
		setup->port_min = least = PORT_MIN;
		setup->port_max = most = PORT_MAX;
	}
	snprintf(text, sizeof(text), "%u", least);
	if (setup_set(setup, "control/port_min", text))
		return -1;
	snprintf(text, sizeof(text), "%u", most);
	return setup_set(setup, "control/port_max", text);
}

int setup__conclude(struct setup *setup, const struct notices *notices)
{
	static const char *const faster[] = { "transports/shm/enable", "transports/sunrise_link/enable",
					      "transports/nvlink_intra/enable" };

	if (setup->force_mnnvl && setup->intranode_nvlink)
		return setup__fail(setup,
				   "MC_FORCE_MNNVL and MC_INTRANODE_NVLINK exclude each other: unset one of them "
				   "(MC_INTRANODE_NVLINK is for GPUs of one machine)");
	if (setup->force_tcp && setup->intranode_nvlink &&
	    setup__first(notices, "MC_FORCE_TCP and MC_INTRANODE_NVLINK"))
		setup__notice(notices, "MC_INTRANODE_NVLINK has no effect: MC_FORCE_TCP is set");
	for (size_t i = 0; setup->force_tcp && i < COUNT(faster); i++)
		if (setup_set(setup, faster[i], "off"))
			return -1;
	if (setup->intranode_nvlink && !setup->force_tcp && setup_set(setup, "transports/nvlink_intra/enable", "on"))
		return -1;
	setup->metric_interval = !setup->metric ? 0 : setup->metric_every > 0 ? setup->metric_every : METRIC_EVERY;
	return conclude_ports(setup, notices);
}
