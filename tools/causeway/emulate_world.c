/* SPDX-License-Identifier: Apache-2.0 */
/* A world from the options of `causeway emulate`, and whether one that is there already agrees with them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emulate.h"
#include "lib/units.h"

#define DEVICES_DEFAULT 8
#define TOPOLOGY_DEFAULT "mesh"
#define VALUE_MAX 160

static int refuse(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(char *why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, EMULATE_WHY, format, arguments);
	va_end(arguments);
	return -1;
}

/* ------------------------------------------------------------------------------------------- shapes */

static void link_pair(struct cw__world *world, unsigned a, unsigned b)
{
	cw__world_link(world, (int)a, -1, (int)b, -1, CW__WORLD_LINK_BANDWIDTH, 0);
}

static void link_all(struct cw__world *world, unsigned first, unsigned end)
{
	for (unsigned a = first; a < end; a++)
		for (unsigned b = a + 1; b < end; b++)
			link_pair(world, a, b);
}

static void make_mesh(struct cw__world *world)
{
	link_all(world, 0, world->device_count);
}

static void make_ring(struct cw__world *world)
{
	for (unsigned i = 0; i + 1 < world->device_count; i++)
		link_pair(world, i, i + 1);
	if (world->device_count > 2)
		link_pair(world, world->device_count - 1, 0);
}

static void make_islands(struct cw__world *world)
{
	unsigned half = (world->device_count + 1) / 2;

	link_all(world, 0, half);
	link_all(world, half, world->device_count);
}

static uint64_t mesh_neighbours(uint64_t devices)
{
	return devices - 1;
}

static uint64_t ring_neighbours(uint64_t devices)
{
	return devices > 2 ? 2 : devices - 1;
}

static uint64_t island_neighbours(uint64_t devices)
{
	return (devices + 1) / 2 - 1;
}

static const struct shape {
	const char *name;
	void (*make)(struct cw__world *world); /* one link a pair */
	uint64_t (*neighbours)(uint64_t devices);
} shapes[] = {
	{ "mesh", make_mesh, mesh_neighbours },
	{ "ring", make_ring, ring_neighbours },
	{ "islands", make_islands, island_neighbours },
};

/* The shape that text names, with the number of links a pair; NULL when it names a file. */
static const struct shape *find_shape(const char *text, uint64_t *links_out)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		size_t length = strlen(shapes[i].name);
		char *end;

		if (strncmp(text, shapes[i].name, length) != 0)
			continue;
		*links_out = 1;
		if (text[length] == '\0')
			return &shapes[i];
		if (text[length] != ':' || text[length + 1] < '1' || text[length + 1] > '9')
			continue;
		*links_out = strtoull(text + length + 1, &end, 10);
		if (*end == '\0')
			return &shapes[i];
	}
	return NULL;
}

static int make_shape(const struct shape *shape, const char *topology, uint64_t links, uint64_t devices,
		      struct cw__world *world, char *why)
{
	uint64_t neighbours;

	if (devices == EMULATE_NOT_GIVEN)
		devices = DEVICES_DEFAULT;
	if (devices < 1 || devices > CW__WORLD_DEVICES)
		return refuse(why, "a world has 1 to %d devices, not %llu", CW__WORLD_DEVICES,
			      (unsigned long long)devices);
	neighbours = shape->neighbours(devices);
	if (links > CW__WORLD_PORTS || neighbours * links > CW__WORLD_PORTS)
		return refuse(why,
			      "topology %s with %llu devices needs %llu ports a device, there are %d; take fewer "
			      "devices, fewer "
			      "links a pair, ring or islands",
			      topology, (unsigned long long)devices, (unsigned long long)(neighbours * links),
			      CW__WORLD_PORTS);
	cw__world_devices(world, (unsigned)devices);
	for (uint64_t i = 0; i < links; i++)
		shape->make(world);
	return 0;
}

/* ------------------------------------------------------------------------------------------- speeds */

enum speed_kind { SPEED_LINK, SPEED_HOST, SPEED_INSIDE, SPEED_KINDS };

static void set_lane(struct cw__world_lane *lane, int is_latency, uint64_t value)
{
	if (is_latency)
		lane->latency = value;
	else
		lane->bandwidth = value;
}

static void set_speed(struct cw__world *world, enum speed_kind kind, int is_latency, uint64_t value)
{
	for (unsigned i = 0; kind == SPEED_LINK && i < world->link_count; i++) {
		set_lane(&world->links[i].lane[0], is_latency, value);
		set_lane(&world->links[i].lane[1], is_latency, value);
	}
	for (unsigned i = 0; i < world->device_count; i++) {
		if (kind == SPEED_HOST) {
			set_lane(&world->devices[i].from_host, is_latency, value);
			set_lane(&world->devices[i].to_host, is_latency, value);
		} else if (kind == SPEED_INSIDE) {
			set_lane(&world->devices[i].inside, is_latency, value);
		}
	}
}

/* "2g", or a list such as "link=2g,host=8g,inside=100g". */
static int read_speeds(struct cw__world *world, const char *list, int is_latency, char *why)
{
	static const char *const names[SPEED_KINDS] = { "link=", "host=", "inside=" };
	const char *option = is_latency ? "latency" : "bandwidth";

	for (; list && *list; list += strcspn(list, ","), list += *list == ',') {
		int kind = 0, length = (int)strcspn(list, ",");
		char value[32];
		const char *text = list;
		uint64_t number;

		while (kind < SPEED_KINDS && strncmp(list, names[kind], strlen(names[kind])) != 0)
			kind++;
		if (kind < SPEED_KINDS)
			text += strlen(names[kind]);
		else if (memchr(list, '=', (size_t)length))
			return refuse(why, "--%s: '%.*s' names neither link, host nor inside", option, length, list);
		snprintf(value, sizeof(value), "%.*s", length - (int)(text - list), text);
		if (is_latency ? emulate_parse_time(value, &number) : emulate_parse_bandwidth(value, &number))
			return refuse(why, "--%s: '%s' is no %s such as %s", option, value,
				      is_latency ? "time" : "number of bytes a second", is_latency ? "5us" : "2g");
		set_speed(world, kind < SPEED_KINDS ? (enum speed_kind)kind : SPEED_LINK, is_latency, number);
		world->timing = 1;
	}
	return 0;
}

/* ---------------------------------------------------------------------------------------- parameters */

static const char *const keys[] = { "devices", "topology", "memory", "bandwidth", "latency" };
#define KEYS (sizeof(keys) / sizeof(keys[0]))

/* What a file is called in the parameters: its name and what distinguishes it from other versions of it. */
static void name_file(const char *path, const struct cw__world *world, char *name)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	const unsigned char *bytes = (const unsigned char *)world->devices;
	uint64_t hash = 14695981039346656037ull ^ world->timing;

	/* FNV-1a over what was made from it, which is all that counts. */
	for (size_t i = 0; i < offsetof(struct cw__world, seats) - offsetof(struct cw__world, devices); i++)
		hash = (hash ^ bytes[i]) * 1099511628211ull;
	snprintf(name, CW__WORLD_NAME, "%.40s@%016llx", base, (unsigned long long)hash);
	for (; *name; name++)
		if (*name <= ' ')
			*name = '_';
}

/* The parameters as they were given, in the order of keys; "" = not given. topology: as a world says it. */
static void value_texts(const struct emulate_parameters *parameters, const char *topology, char values[KEYS][VALUE_MAX])
{
	memset(values, 0, KEYS * VALUE_MAX);
	if (parameters->devices != EMULATE_NOT_GIVEN)
		snprintf(values[0], VALUE_MAX, "%llu", (unsigned long long)parameters->devices);
	if (parameters->topology)
		snprintf(values[1], VALUE_MAX, "%s", topology);
	if (parameters->memory != EMULATE_NOT_GIVEN)
		snprintf(values[2], VALUE_MAX, "%llu", (unsigned long long)parameters->memory);
	if (parameters->bandwidth)
		snprintf(values[3], VALUE_MAX, "%s", parameters->bandwidth);
	if (parameters->latency)
		snprintf(values[4], VALUE_MAX, "%s", parameters->latency);
}

static void write_parameters(const struct emulate_parameters *parameters, struct cw__world *world)
{
	char values[KEYS][VALUE_MAX];
	size_t used = 0;

	value_texts(parameters, world->topology, values);
	snprintf(values[0], VALUE_MAX, "%u", world->device_count);
	snprintf(values[1], VALUE_MAX, "%s", world->topology);
	for (size_t i = 0; i < KEYS && used < sizeof(world->parameters); i++)
		used += (size_t)snprintf(world->parameters + used, sizeof(world->parameters) - used, "%s%s=%.150s",
					 i ? " " : "", keys[i], values[i][0] ? values[i] : "default");
}

/* The value of a key in a line of parameters; "" when it is not there. */
static void parameter(const char *line, const char *key, char *value)
{
	size_t length = strlen(key);

	*value = '\0';
	for (; *line; line += strcspn(line, " "), line += *line == ' ')
		if (strncmp(line, key, length) == 0 && line[length] == '=')
			snprintf(value, VALUE_MAX, "%.*s", (int)strcspn(line + length + 1, " "), line + length + 1);
}

static int read_topology_file(const struct emulate_parameters *parameters, struct cw__world *world, char *why)
{
	const char *path = parameters->topology;

	/* A word that looks like no file is more likely a slip of the pen. */
	if (!strpbrk(path, "/.") && access(path, F_OK) != 0)
		return refuse(
			why,
			"topology '%s' is neither mesh, ring nor islands (with ':N' for N links a pair), nor a file",
			path);
	if (emulate_read_file(path, world, why) != 0)
		return -1;
	if (parameters->devices != EMULATE_NOT_GIVEN && parameters->devices != world->device_count)
		return refuse(why, "%s has %u devices, not the %llu of --devices", path, world->device_count,
			      (unsigned long long)parameters->devices);
	name_file(path, world, world->topology);
	return 0;
}

int emulate_build(const struct emulate_parameters *parameters, struct cw__world *world, char *why)
{
	const char *topology = parameters->topology ? parameters->topology : TOPOLOGY_DEFAULT;
	uint64_t links;
	const struct shape *shape = find_shape(topology, &links);

	if (shape) {
		if (make_shape(shape, topology, links, parameters->devices, world, why) != 0)
			return -1;
		snprintf(world->topology, sizeof(world->topology), "%s", topology);
	} else {
		if (read_topology_file(parameters, world, why) != 0)
			return -1;
	}
	for (unsigned i = 0; parameters->memory != EMULATE_NOT_GIVEN && i < world->device_count; i++)
		world->devices[i].memory = parameters->memory;
	if (read_speeds(world, parameters->bandwidth, 0, why) != 0 ||
	    read_speeds(world, parameters->latency, 1, why) != 0)
		return -1;
	write_parameters(parameters, world);
	return 0;
}

int emulate_compare(const struct emulate_parameters *parameters, const struct cw__world *there, char *why)
{
	char values[KEYS][VALUE_MAX];
	struct cw__world *from_file = NULL;
	uint64_t links;
	int status = 0;

	if (parameters->topology && !find_shape(parameters->topology, &links)) {
		from_file = calloc(1, sizeof(*from_file));
		status = from_file ? read_topology_file(parameters, from_file, why) : refuse(why, "out of memory");
	}
	if (!status)
		value_texts(parameters, from_file ? from_file->topology : parameters->topology, values);
	for (size_t i = 0; !status && i < KEYS; i++) {
		char has[VALUE_MAX];

		parameter(there->parameters, keys[i], has);
		if (values[i][0] && strcmp(values[i], has) != 0)
			status = refuse(why,
					"the world '%s' is in use and has %s=%s, not %s; leave that option out to join "
					"it, or name another one with --world",
					there->name, keys[i], has, values[i]);
	}
	free(from_file);
	return status;
}
