/* SPDX-License-Identifier: Apache-2.0 */
/* `causeway topology`: devices, their links and how fast these are, as tables, JSON or a drawing. The drawing is made
 * in topology_place.c and topology_draw.c. */
#include "topology.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "lib/arguments.h"
#include "lib/engine.h"
#include "lib/table.h"

#define COMMAND "causeway topology"

struct topology_options {
	struct engine_arguments engine;
	const char *svg;
	int json;
};

static void *grow(void *array, unsigned count, size_t size)
{
	/* At 0, 1, 2, 4, 8... entries there is no room for another. */
	void *grown = count & (count - 1) ? array : realloc(array, (count ? 2 * (size_t)count : 1) * size);

	if (!grown) {
		fprintf(stderr, COMMAND ": out of memory\n");
		exit(1);
	}
	return grown;
}

static unsigned add_node(struct topology *topology, const struct cw_topology_device *device)
{
	topology->nodes = grow(topology->nodes, topology->node_count, sizeof(*topology->nodes));
	topology->nodes[topology->node_count] = (struct topology_node){ .device = *device };
	return topology->node_count++;
}

/* The node of one end of a link; a device that this process does not see gets one of its own. */
static unsigned find_node(struct topology *topology, const struct cw_topology_link *link, int end)
{
	struct cw_topology_device unseen = { .device = -1, .chip = link->chip[end], .numa_node = -1 };

	for (unsigned i = 0; i < topology->node_count; i++) {
		const struct cw_topology_device *device = &topology->nodes[i].device;

		if (!strcmp(device->transport, link->transport) && device->device == link->device[end] &&
		    (device->device >= 0 || device->chip == link->chip[end]))
			return i;
	}
	memcpy(unseen.transport, link->transport, sizeof(unseen.transport));
	snprintf(unseen.location, sizeof(unseen.location), "chip %d", link->chip[end]);
	return add_node(topology, &unseen);
}

static void add_to_pair(struct topology *topology, const struct topology_link *link)
{
	unsigned low = link->end[0] < link->end[1] ? link->end[0] : link->end[1];
	unsigned high = link->end[0] < link->end[1] ? link->end[1] : link->end[0], i = 0;

	while (i < topology->pair_count && (topology->pairs[i].end[0] != low || topology->pairs[i].end[1] != high))
		i++;
	if (i == topology->pair_count) {
		topology->pairs = grow(topology->pairs, i, sizeof(*topology->pairs));
		topology->pairs[i] = (struct topology_pair){ .end = { low, high } };
		topology->pair_count++;
	}
	if (link->link.up) {
		topology->pairs[i].up++;
		topology->pairs[i].speed += link->link.gigabytes_per_second;
	} else {
		topology->pairs[i].down++;
	}
}

static void gather(void *arg, const struct cw_topology_device *device, const struct cw_topology_link *link)
{
	struct topology *topology = arg;
	struct topology_link *added;

	if (device) {
		add_node(topology, device);
		return;
	}
	topology->links = grow(topology->links, topology->link_count, sizeof(*topology->links));
	added = &topology->links[topology->link_count++];
	added->link = *link;
	for (int end = 0; end < 2; end++) {
		added->end[end] = find_node(topology, link, end);
		topology->nodes[added->end[end]].used++;
	}
	if (added->end[0] != added->end[1])
		add_to_pair(topology, added);
}

/* ----------------------------------------------------------------------------------------------- text */

static const char *number_text(char *text, size_t length, const char *format, double value, double unknown)
{
	if (value == unknown)
		return "-";
	snprintf(text, length, format, value);
	return text;
}

static void print_devices(const struct topology *topology)
{
	static const struct table_column columns[] = {
		{ "device", "device", -12, 0 },
		{ "chip", "chip", 4, 0 },
		{ "pci", "PCI", -12, 0 },
		{ "numa", "NUMA", 4, 0 },
		{ "ports", "ports", 5, 0 },
		{ "linked", "linked", 6, 0 },
		{ "transport", "transport", -1, 0 },
	};
	struct table table;

	table_begin(&table, stdout, TABLE_TEXT, columns, sizeof(columns) / sizeof(columns[0]));
	for (unsigned i = 0; i < topology->node_count; i++) {
		const struct topology_node *node = &topology->nodes[i];
		char chip[16], numa[16];
		const struct table_cell cells[] = {
			{ node->device.location, 0 },
			{ number_text(chip, sizeof(chip), "%.0f", node->device.chip, -1), 0 },
			{ node->device.pci[0] ? node->device.pci : "-", 0 },
			{ number_text(numa, sizeof(numa), "%.0f", node->device.numa_node, -1), 0 },
			{ node->device.device < 0 || !node->device.ports ? "-" : NULL, node->device.ports },
			{ NULL, node->used },
			{ node->device.device < 0 ? "not visible here" : node->device.transport, 0 },
		};

		table_row(&table, cells);
	}
	table_end(&table);
}

static void print_links(const struct topology *topology)
{
	static const struct table_column columns[] = {
		{ "from", "from", -12, 0 },     { "port", "port", 4, 0 },    { "to", "to", -12, 0 },
		{ "to_port", "port", 4, 0 },    { "state", "state", -5, 0 }, { "speed", "GB/s", 6, 1 },
		{ "maximum", "of GB/s", 7, 1 },
	};
	struct table table;

	table_begin(&table, stdout, TABLE_TEXT, columns, sizeof(columns) / sizeof(columns[0]));
	for (unsigned i = 0; i < topology->link_count; i++) {
		const struct cw_topology_link *link = &topology->links[i].link;
		char speed[32], maximum[32];
		const struct table_cell cells[] = {
			{ topology->nodes[topology->links[i].end[0]].device.location, 0 },
			{ NULL, link->port[0] },
			{ topology->nodes[topology->links[i].end[1]].device.location, 0 },
			{ NULL, link->port[1] },
			{ link->up ? "up" : "down", 0 },
			{ number_text(speed, sizeof(speed), "%.1f", link->gigabytes_per_second, 0), 0 },
			{ number_text(maximum, sizeof(maximum), "%.1f", link->maximum, 0), 0 },
		};

		table_row(&table, cells);
	}
	table_end(&table);
}

/* ----------------------------------------------------------------------------------------------- JSON */

static void json_member(const char *before, const char *name, const char *text)
{
	printf("%s", before);
	table_json_text(stdout, name);
	printf(": ");
	table_json_text(stdout, text);
}

/* What is not known is null. */
static void json_number(const char *name, double value, double unknown)
{
	char text[32];

	if (value == unknown)
		snprintf(text, sizeof(text), "null");
	else
		snprintf(text, sizeof(text), "%.9g", value);
	printf(", \"%s\": %s", name, text);
}

static void print_json(const struct topology *topology)
{
	printf("{\"devices\": [");
	for (unsigned i = 0; i < topology->node_count; i++) {
		const struct cw_topology_device *device = &topology->nodes[i].device;

		json_member(i ? ",\n  {" : "\n  {", "device", device->location);
		json_member(", ", "transport", device->transport);
		json_number("number", device->device, -1);
		json_number("chip", device->chip, -1);
		json_member(", ", "pci", device->pci);
		json_number("numa_node", device->numa_node, -1);
		json_number("ports", device->ports, 0);
		json_number("linked", topology->nodes[i].used, -1);
		printf("}");
	}
	printf("%s],\n \"links\": [", topology->node_count ? "\n " : "");
	for (unsigned i = 0; i < topology->link_count; i++) {
		const struct cw_topology_link *link = &topology->links[i].link;

		json_member(i ? ",\n  {" : "\n  {", "from", topology->nodes[topology->links[i].end[0]].device.location);
		json_number("from_port", link->port[0], -1);
		json_member(", ", "to", topology->nodes[topology->links[i].end[1]].device.location);
		json_number("to_port", link->port[1], -1);
		json_member(", ", "transport", link->transport);
		printf(", \"up\": %s", link->up ? "true" : "false");
		json_number("gigabytes_per_second", link->gigabytes_per_second, 0);
		json_number("maximum_gigabytes_per_second", link->maximum, 0);
		printf("}");
	}
	printf("%s]}\n", topology->link_count ? "\n " : "");
}

/* -------------------------------------------------------------------------------------------- command */

static int write_drawing(struct topology *topology, const char *path)
{
	FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	int failed;

	if (!out) {
		fprintf(stderr, COMMAND ": %s: %s\n", path, strerror(errno));
		return 1;
	}
	topology_place(topology);
	topology_draw(topology, out);
	failed = ferror(out) || fflush(out) != 0;
	if (out != stdout)
		failed |= fclose(out) != 0;
	if (failed)
		fprintf(stderr, COMMAND ": %s: could not be written\n", path);
	return failed;
}

static void say_why_off(void *arg, const char *name, int on, const char *why)
{
	(void)arg;
	if (!on)
		fprintf(stderr, COMMAND ": %s is off: %s\n", name, why);
}

static int show(struct topology *topology, const struct topology_options *options, struct cw_engine *engine)
{
	if (options->json)
		print_json(topology);
	if (!topology->node_count) {
		fprintf(stderr, COMMAND ": no transport that is on knows devices with links\n");
		cw_engine_transports(engine, say_why_off, NULL);
		return 1;
	}
	if (options->svg)
		return write_drawing(topology, options->svg);
	if (!options->json) {
		print_devices(topology);
		printf("\n");
		print_links(topology);
	}
	return 0;
}

int command_topology(int argc, char **argv)
{
	struct topology_options options = { .json = 0 };
	const struct argument arguments[] = {
		{ "json", ARGUMENT_FLAG, &options.json, NULL, "print JSON" },
		{ "svg", ARGUMENT_TEXT, &options.svg, "FILE", "write a drawing; - = standard output" },
		ENGINE_ARGUMENTS(&options.engine),
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "",
		.summary = "Shows the devices that transports know, the links between them and how fast they are.",
		.arguments = arguments,
	};
	struct topology topology = { .node_count = 0 };
	struct cw_engine *engine;
	int status, failed;

	arguments_parse(&line, argc, argv, NULL);
	if (options.json && options.svg)
		arguments_refuse(&line, "--json and --svg exclude each other");
	if (engine_start(COMMAND, &options.engine, &engine) != 0)
		return 1;
	status = cw_engine_topology(engine, gather, &topology);
	if (status != CW_OK)
		engine_report(COMMAND, "the links cannot be read", status);
	failed = status != CW_OK || show(&topology, &options, engine) != 0;
	cw_engine_close(engine);
	free(topology.nodes);
	free(topology.links);
	free(topology.pairs);
	return failed;
}
