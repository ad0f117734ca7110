/* SPDX-License-Identifier: Apache-2.0 */
/* See engine.h. */
#include "lib/engine.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define KEY_MAX 64
#define STEPS_MAX 16

void engine_report(const char *command, const char *what, int status)
{
	const char *text = cw_last_error();

	fprintf(stderr, "%s: %s: %s\n", command, what, text[0] ? text : cw_strerror(status));
}

size_t engine_child_arguments(const struct engine_arguments *arguments, const char **out)
{
	size_t count = 0;

	if (arguments->config_file) {
		out[count++] = "--config";
		out[count++] = arguments->config_file;
	}
	for (size_t i = 0; i < arguments->settings.count; i++) {
		out[count++] = "--set";
		out[count++] = arguments->settings.values[i];
	}
	return count;
}

int engine_start(const char *command, const struct engine_arguments *arguments, struct cw_engine **engine_out)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_setting settings[ARGUMENT_LIST_MAX];
	char keys[ARGUMENT_LIST_MAX][KEY_MAX];
	int status;

	for (size_t i = 0; i < arguments->settings.count; i++) {
		const char *text = arguments->settings.values[i], *value = strchr(text, '=');

		if (!value || (size_t)(value - text) >= KEY_MAX) {
			fprintf(stderr, "%s: --set wants KEY=VALUE, not '%s'\n", command, text);
			return -1;
		}
		snprintf(keys[i], KEY_MAX, "%.*s", (int)(value - text), text);
		settings[i] = (struct cw_setting){ .key = keys[i], .value = value + 1 };
	}
	options.name = arguments->name;
	options.config_file = arguments->config_file;
	options.settings = settings;
	options.setting_count = arguments->settings.count;
	options.use_environment = 1;
	status = cw_engine_open(&options, engine_out);
	if (status != CW_OK)
		engine_report(command, "cannot open an engine", status);
	return status == CW_OK ? 0 : -1;
}

int engine_segment_open(const char *command, struct cw_engine *engine, const char *name, const char *transports,
			struct cw_segment **segment_out)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	int status;

	options.transports = transports;
	options.strict = transports != NULL;
	status = cw_segment_open(engine, name, &options, segment_out);
	if (status != CW_OK)
		engine_report(command, name, status);
	return status == CW_OK ? 0 : -1;
}

struct transport_search {
	const char *command, *name;
	size_t length; /* of the name */
	int found, on;
	char others[256];
};

static void look_at_transport(void *arg, const char *name, int on, const char *why)
{
	struct transport_search *search = arg;
	size_t used = strlen(search->others);

	snprintf(search->others + used, sizeof(search->others) - used, "%s%s", used ? ", " : "", name);
	if (strlen(name) != search->length || strncmp(name, search->name, search->length) != 0)
		return;
	search->found = 1;
	search->on = on;
	if (!on)
		fprintf(stderr, "%s: %s is off: %s\n", search->command, name, why);
}

int engine_transports_check(const char *command, struct cw_engine *engine, const char *transports)
{
	while (transports && *transports) {
		struct transport_search search = { .command = command, .name = transports };

		search.length = strcspn(transports, ",");
		cw_engine_transports(engine, look_at_transport, &search);
		if (!search.found)
			fprintf(stderr, "%s: unknown transport '%.*s'; there are %s\n", command, (int)search.length,
				transports, search.others);
		if (!search.on)
			return -1;
		transports += search.length + (transports[search.length] == ',');
	}
	return 0;
}

static int open_ordinary(struct cw_engine *engine, struct engine_memory *memory)
{
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	int status;

	memory->address = mmap(NULL, memory->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory->address == MAP_FAILED)
		return CW_ERR_NO_MEMORY;
	status = cw_region_register(engine, memory->address, memory->length, &options, &memory->region);
	if (status != CW_OK)
		munmap(memory->address, memory->length);
	return status;
}

int engine_memory_open(const char *command, struct cw_engine *engine, size_t length, int ordinary,
		       struct engine_memory *memory_out)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct engine_memory memory = { .length = length, .ordinary = ordinary };
	void *address = NULL;
	int status;

	if (ordinary) {
		status = open_ordinary(engine, &memory);
	} else {
		status = cw_memory_allocate(engine, length, &options, &address, &memory.region);
		memory.address = address;
	}
	if (status != CW_OK) {
		engine_report(command, "cannot get memory", status);
		return -1;
	}
	*memory_out = memory;
	return 0;
}

void engine_memory_close(struct engine_memory *memory)
{
	if (!memory->region)
		return;
	/* While a peer still maps it the memory stays until the process ends. */
	if (!memory->ordinary)
		cw_memory_free(memory->region);
	else if (cw_region_unregister(memory->region) == CW_OK)
		munmap(memory->address, memory->length);
	memory->region = NULL;
}

const char *engine_path_name(struct cw_segment *segment, const void *local, uint64_t remote, uint64_t length,
			     enum cw_op op, char *name, size_t name_length)
{
	struct cw_path_step steps[STEPS_MAX];
	size_t count = 0;

	snprintf(name, name_length, "none");
	if (cw_path_explain(segment, local, remote, length, op, steps, STEPS_MAX, &count) != CW_OK)
		return name;
	for (size_t i = 0; i < count && i < STEPS_MAX; i++)
		if (steps[i].chosen)
			snprintf(name, name_length, "%s", steps[i].transport);
	return name;
}
