/* SPDX-License-Identifier: Apache-2.0 */
/* The drawing of a topology as SVG: lines first, then boxes, then labels, so that nothing hides a text. */
#include <math.h>
#include <string.h>

#include "topology.h"

#define MARGIN 36.0
#define HEAD 74.0   /* title */
#define LEGEND 58.0 /* at the bottom */
#define NODES_MAX 8 /* NUMA nodes with a colour of their own */
#define WIDTH_MIN 640.0

/* Fill and border of a box, by NUMA node; the last is for an unknown one. */
static const char *const colours[NODES_MAX + 1][2] = {
	{ "#e3f0fb", "#2b6cb0" }, { "#fdf0dc", "#b7791f" }, { "#e5f6e8", "#2f855a" },
	{ "#f3e8fb", "#6b46c1" }, { "#e0f5f5", "#2c7a7b" }, { "#fbe6ef", "#b83280" },
	{ "#f1f5d8", "#5f6f12" }, { "#e8eaf0", "#434c5e" }, { "#f2f2f2", "#777777" },
};

static const char *const *colour_of(int numa_node)
{
	return colours[numa_node < 0 ? NODES_MAX : numa_node % NODES_MAX];
}

static void escaped(FILE *out, const char *text)
{
	static const char *const names[][2] = {
		{ "&", "&amp;" }, { "<", "&lt;" }, { ">", "&gt;" }, { "\"", "&quot;" }
	};

	for (; *text; text++) {
		size_t i = 0;

		while (i < 4 && *text != names[i][0][0])
			i++;
		if (i < 4)
			fputs(names[i][1], out);
		else if ((unsigned char)*text >= 0x20)
			fputc(*text, out);
	}
}

static void text_at(FILE *out, double x, double y, const char *attributes, const char *text)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
	escaped(out, text);
	fputs("</text>\n", out);
}

/* A line moved sideways by `aside`. */
static void line_between(FILE *out, const struct topology_node *from, const struct topology_node *to, double aside,
			 const char *attributes)
{
	double dx = to->x - from->x, dy = to->y - from->y, length = hypot(dx, dy);
	double x = length > 0 ? -dy / length * aside : 0, y = length > 0 ? dx / length * aside : 0;

	fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", from->x + x, from->y + y,
		to->x + x, to->y + y, attributes);
}

static double thickness(unsigned ports)
{
	return 1.2 + 0.8 * (ports > 6 ? 6 : ports);
}

static void draw_pair(const struct topology *topology, const struct topology_pair *pair, FILE *out)
{
	const struct topology_node *from = &topology->nodes[pair->end[0]], *to = &topology->nodes[pair->end[1]];
	double width = thickness(pair->up);
	char attributes[80];

	if (pair->up) {
		snprintf(attributes, sizeof(attributes), "class=\"up\" stroke-width=\"%.1f\"", width);
		line_between(out, from, to, 0, attributes);
	}
	if (pair->down)
		line_between(out, from, to, pair->up ? width / 2 + 3 : 0, "class=\"down\"");
}

static void draw_label(const struct topology_pair *pair, FILE *out)
{
	fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"4\" class=\"plate\"/>\n",
		pair->x - pair->width / 2, pair->y - TOPOLOGY_LABEL_HEIGHT / 2, pair->width, TOPOLOGY_LABEL_HEIGHT);
	text_at(out, pair->x, pair->y + 4, pair->up && !pair->down ? "class=\"label\"" : "class=\"label bad\"",
		pair->label);
}

static void draw_node(const struct topology_node *node, FILE *out)
{
	const char *const *colour = colour_of(node->device.numa_node);
	char line[64], chip[24] = "", numa[24] = "";

	fprintf(out,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"8\" fill=\"%s\" stroke=\"%s\" "
		"stroke-width=\"1.6\"%s/>\n",
		node->x - TOPOLOGY_BOX_WIDTH / 2, node->y - TOPOLOGY_BOX_HEIGHT / 2, TOPOLOGY_BOX_WIDTH,
		TOPOLOGY_BOX_HEIGHT, colour[0], colour[1], node->device.device < 0 ? " stroke-dasharray=\"4 3\"" : "");
	text_at(out, node->x, node->y - 12, "class=\"name\"", node->device.location);
	if (node->device.device < 0) {
		text_at(out, node->x, node->y + 6, "class=\"small\"", "not visible here");
		return;
	}
	if (node->device.chip >= 0)
		snprintf(chip, sizeof(chip), "chip %d", node->device.chip);
	if (node->device.numa_node >= 0)
		snprintf(numa, sizeof(numa), "NUMA %d", node->device.numa_node);
	snprintf(line, sizeof(line), "%s%s%s", chip, chip[0] && numa[0] ? " \xc2\xb7 " : "", numa);
	text_at(out, node->x, node->y + 6, "class=\"small\"", line);
	text_at(out, node->x, node->y + 23, "class=\"small mono\"", node->device.pci);
}

/* ------------------------------------------------------------------------------------- head and legend */

static void draw_head(const struct topology *topology, double middle, FILE *out)
{
	unsigned down = 0;
	char title[80], below[120], names[64] = "";

	for (unsigned i = 0; i < topology->link_count; i++)
		down += !topology->links[i].link.up;
	for (unsigned i = 0; i < topology->node_count; i++) {
		const char *name = topology->nodes[i].device.transport;

		if (!strstr(names, name) && strlen(names) + strlen(name) + 3 < sizeof(names))
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", names[0] ? ", " : "",
				 name);
	}
	snprintf(title, sizeof(title), "%u device%s, %u link%s", topology->node_count,
		 topology->node_count == 1 ? "" : "s", topology->link_count, topology->link_count == 1 ? "" : "s");
	snprintf(below, sizeof(below), "%s", names);
	if (down)
		snprintf(below + strlen(below), sizeof(below) - strlen(below), " \xc2\xb7 %u down", down);
	if (topology->islands > 1)
		snprintf(below + strlen(below), sizeof(below) - strlen(below), " \xc2\xb7 %u islands",
			 topology->islands);
	text_at(out, middle, 34, "class=\"title\"", title);
	text_at(out, middle, 54, "class=\"small\"", below);
}

static void draw_legend(const struct topology *topology, double left, double y, FILE *out)
{
	double x = left;
	int seen[NODES_MAX + 1] = { 0 };
	/* Where labels have no room for words. */
	const char *explanation = topology->pair_count && !strstr(topology->pairs[0].label, "port")
					  ? "2p \xc2\xb7 50 = 2 ports, 50 GB/s together, one way"
					  : "links, and what they carry together, one way";

	for (unsigned i = 0; i < topology->node_count; i++) {
		int node = topology->nodes[i].device.numa_node;
		const char *const *colour = colour_of(node);
		char text[24];

		if (seen[node < 0 ? NODES_MAX : node % NODES_MAX]++)
			continue;
		snprintf(text, sizeof(text), node < 0 ? "NUMA ?" : "NUMA %d", node);
		fprintf(out,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"14\" rx=\"3\" fill=\"%s\" stroke=\"%s\"/>\n",
			x, y, colour[0], colour[1]);
		text_at(out, x + 20, y + 11, "class=\"legend\"", text);
		x += 88;
	}
	y += 24;
	fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"up\" stroke-width=\"2.8\"/>\n",
		left, y + 7, left + 30, y + 7);
	text_at(out, left + 38, y + 11, "class=\"legend\"", explanation);
	fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"down\"/>\n", left + 370, y + 7,
		left + 400, y + 7);
	text_at(out, left + 408, y + 11, "class=\"legend\"", "link that is down");
}

static const char style[] = "<style>text{font-family:'DejaVu Sans',Verdana,Helvetica,sans-serif;fill:#1a202c}"
			    ".title{font-size:20px;font-weight:bold;text-anchor:middle}"
			    ".name{font-size:14px;font-weight:bold;text-anchor:middle}"
			    ".small{font-size:11px;fill:#4a5568;text-anchor:middle}"
			    ".mono{font-family:'DejaVu Sans Mono',Menlo,monospace}"
			    ".label{font-size:11px;text-anchor:middle}.bad{fill:#c53030}"
			    ".legend{font-size:11px;fill:#4a5568}.plate{fill:#ffffff;fill-opacity:0.94}"
			    ".up{stroke:#718096;stroke-linecap:round}"
			    ".down{stroke:#e53e3e;stroke-width:2;stroke-dasharray:7 5}</style>\n";

void topology_draw(const struct topology *topology, FILE *out)
{
	double inner = topology->width > WIDTH_MIN ? topology->width : WIDTH_MIN;
	double width = inner + 2 * MARGIN, height = HEAD + topology->height + LEGEND + 2 * MARGIN;

	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n"
		"<title>Devices and the links between them</title>\n%s"
		"<rect width=\"%.0f\" height=\"%.0f\" fill=\"#ffffff\"/>\n",
		width, height, width, height, style, width, height);
	draw_head(topology, width / 2, out);
	fprintf(out, "<g transform=\"translate(%.1f %.1f)\">\n", MARGIN + (inner - topology->width) / 2,
		HEAD + MARGIN / 2);
	for (unsigned i = 0; i < topology->pair_count; i++)
		draw_pair(topology, &topology->pairs[i], out);
	for (unsigned i = 0; i < topology->node_count; i++)
		draw_node(&topology->nodes[i], out);
	for (unsigned i = 0; i < topology->pair_count; i++)
		draw_label(&topology->pairs[i], out);
	fprintf(out, "</g>\n");
	draw_legend(topology, MARGIN, height - LEGEND - MARGIN / 2 + 8, out);
	fprintf(out, "</svg>\n");
}
