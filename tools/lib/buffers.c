/* SPDX-License-Identifier: Apache-2.0 */
/* See buffers.h. */
#include "lib/buffers.h"

#include <stdio.h>
#include <string.h>

#include "lib/engine.h"
#include "lib/system_info.h"

#define LOCATION_MAX 32

/* What stands before the ':' in the locations of the devices that a transport is for. */
static const struct {
	const char *transport, *platform;
} device_transports[] = {
	{ "sunrise_link", "sunrise" },
	{ "nvlink_intra", "cuda" },
};
#define DEVICE_TRANSPORTS (sizeof(device_transports) / sizeof(device_transports[0]))

static const char *platform_of(const char *transport)
{
	for (size_t i = 0; transport && i < DEVICE_TRANSPORTS; i++)
		if (strcmp(device_transports[i].transport, transport) == 0)
			return device_transports[i].platform;
	return NULL;
}

int buffers_transport_is_for_devices(const char *transport)
{
	return platform_of(transport) != NULL;
}

static int add_buffer(const char *command, struct cw_engine *engine, const char *location, int device,
		      struct buffers *buffers)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct buffer *buffer = &buffers->list[buffers->count];
	char what[64];
	void *address;
	int status;

	options.location = location;
	status = cw_memory_allocate(engine, buffers->length, &options, &address, &buffer->region);
	if (status != CW_OK) {
		snprintf(what, sizeof(what), "cannot allocate a buffer%s%s", location ? " at " : "",
			 location ? location : "");
		engine_report(command, what, status);
		return -1;
	}
	buffer->address = address;
	buffer->device = device;
	buffers->count++;
	return 0;
}

int buffers_open_nodes(const char *command, struct cw_engine *engine, uint64_t length, struct buffers *buffers)
{
	unsigned first = 0, last = 0;
	char nodes[64] = "0";

	*buffers = (struct buffers){ .length = length };
	system_read_line("/sys/devices/system/node/online", nodes, sizeof(nodes));
	if (sscanf(nodes, "%u-%u", &first, &last) < 2)
		last = first;
	for (unsigned node = first; node <= last && buffers->count < BUFFERS_MAX; node++) {
		char location[LOCATION_MAX];

		snprintf(location, sizeof(location), "cpu:%u", node);
		if (add_buffer(command, engine, first == last ? NULL : location, -1, buffers) != 0) {
			buffers_close(buffers);
			return -1;
		}
	}
	return 0;
}

/* Asks for device after device. why_out tells about the first that there is not. */
static int count_devices(struct cw_engine *engine, const char *platform, char *why_out, size_t why_length)
{
	int count = 0;

	for (; count < BUFFERS_MAX; count++) {
		struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
		struct cw_memory_capabilities can = { .size = sizeof(can) };
		char location[LOCATION_MAX];

		snprintf(location, sizeof(location), "%s:%d", platform, count);
		options.location = location;
		if (cw_memory_query(engine, &options, &can) != CW_OK) {
			snprintf(why_out, why_length, "%s", cw_last_error());
			break;
		}
		if (!can.can_allocate) {
			snprintf(why_out, why_length, "%s", can.why_not);
			break;
		}
	}
	return count;
}

/* The platform and how many devices it has; NULL after a message when there are none. */
static const char *find_devices(const char *command, struct cw_engine *engine, const char *transport, int *count_out)
{
	const char *platform = platform_of(transport);
	char why[256] = "";

	if (platform) {
		*count_out = count_devices(engine, platform, why, sizeof(why));
		if (*count_out == 0)
			fprintf(stderr, "%s: no %s devices: %s\n", command, platform, why);
		return *count_out ? platform : NULL;
	}
	for (size_t i = 0; i < DEVICE_TRANSPORTS; i++) {
		*count_out = count_devices(engine, device_transports[i].platform, why, sizeof(why));
		if (*count_out)
			return device_transports[i].platform;
	}
	fprintf(stderr, "%s: no devices here: %s\n", command, why);
	return NULL;
}

int buffers_open_devices(const char *command, struct cw_engine *engine, const char *transport, int first,
			 uint64_t count, uint64_t length, struct buffers *buffers)
{
	int devices;
	const char *platform = find_devices(command, engine, transport, &devices);

	*buffers = (struct buffers){ .length = length };
	if (!platform)
		return -1;
	if (first >= devices) {
		fprintf(stderr, "%s: there is no GPU %d: %s has %d\n", command, first, platform, devices);
		return -1;
	}
	if (first < 0 || count > (uint64_t)devices)
		count = (uint64_t)devices;
	for (uint64_t i = 0; i < count; i++) {
		int device = ((first < 0 ? 0 : first) + (int)i) % devices;
		char location[LOCATION_MAX];

		snprintf(location, sizeof(location), "%s:%d", platform, device);
		if (add_buffer(command, engine, location, device, buffers) != 0) {
			buffers_close(buffers);
			return -1;
		}
	}
	return 0;
}

void buffers_close(struct buffers *buffers)
{
	for (size_t i = 0; i < buffers->count; i++)
		cw_memory_free(buffers->list[i].region);
	buffers->count = 0;
}
