/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the drawing of a topology has what: nodes that links in use connect form an island and stand on a circle,
 * islands stand in rows. The circles grow until no line passes through a foreign box and every label has a place of its
 * own.
 */
#include <math.h>
#include <stdlib.h>

#include "topology.h"

#define PI 3.14159265358979
#define LABEL_LETTER 6.6 /* at most so wide on average, at 11 pixels */
#define GAP 26.0         /* between boxes */
#define ISLAND_GAP 70.0
#define STEPS 40 /* places along a line that a label may have */
#define ATTEMPTS 60
#define MANY_PAIRS 12 /* more than these get short labels */

struct box {
	double left, top, right, bottom;
};

static struct box box_at(double x, double y, double width, double height)
{
	return (struct box){ x - width / 2, y - height / 2, x + width / 2, y + height / 2 };
}

static int boxes_meet(struct box a, struct box b, double margin)
{
	return a.left < b.right + margin && b.left < a.right + margin && a.top < b.bottom + margin &&
	       b.top < a.bottom + margin;
}

/* Cuts the line from (x, y) along (dx, dy) with the box, slab by slab. */
static int line_meets_box(double x, double y, double dx, double dy, struct box box)
{
	const double from[2] = { x, y }, way[2] = { dx, dy };
	const double low[2] = { box.left, box.top }, high[2] = { box.right, box.bottom };
	double first = 0, last = 1;

	for (int axis = 0; axis < 2; axis++) {
		double in, out;

		if (fabs(way[axis]) < 1e-9) {
			if (from[axis] < low[axis] || from[axis] > high[axis])
				return 0;
			continue;
		}
		in = (low[axis] - from[axis]) / way[axis];
		out = (high[axis] - from[axis]) / way[axis];
		first = fmax(first, fmin(in, out));
		last = fmin(last, fmax(in, out));
	}
	return first <= last;
}

static int pair_meets_box(const struct topology *topology, const struct topology_pair *pair, struct box box)
{
	const struct topology_node *from = &topology->nodes[pair->end[0]], *to = &topology->nodes[pair->end[1]];

	return line_meets_box(from->x, from->y, to->x - from->x, to->y - from->y, box);
}

static struct box node_box(const struct topology_node *node)
{
	return box_at(node->x, node->y, TOPOLOGY_BOX_WIDTH, TOPOLOGY_BOX_HEIGHT);
}

/* -------------------------------------------------------------------------------------------- islands */

static void find_islands(struct topology *topology)
{
	for (unsigned i = 0; i < topology->node_count; i++)
		topology->nodes[i].island = i;
	for (unsigned i = 0; i < topology->pair_count; i++) {
		const struct topology_pair *pair = &topology->pairs[i];
		unsigned a = topology->nodes[pair->end[0]].island, b = topology->nodes[pair->end[1]].island;

		for (unsigned node = 0; pair->up && node < topology->node_count; node++)
			if (topology->nodes[node].island == (a > b ? a : b))
				topology->nodes[node].island = a < b ? a : b;
	}
	/* Each is called after its first node so far; number them without holes. */
	topology->islands = 0;
	for (unsigned i = 0; i < topology->node_count; i++) {
		struct topology_node *node = &topology->nodes[i];

		node->island = node->island == i ? topology->islands++ : topology->nodes[node->island].island;
	}
}

static int are_linked(const struct topology *topology, unsigned a, unsigned b)
{
	for (unsigned i = 0; i < topology->pair_count; i++) {
		const struct topology_pair *pair = &topology->pairs[i];

		if (pair->up && ((pair->end[0] == a && pair->end[1] == b) || (pair->end[0] == b && pair->end[1] == a)))
			return 1;
	}
	return 0;
}

/* The nodes of an island in the order of a walk along links, so that a ring is drawn as one however it is numbered. */
static unsigned walk_island(const struct topology *topology, unsigned island, unsigned *order, char *taken)
{
	unsigned count = 0;

	for (;;) {
		unsigned next = topology->node_count;

		for (unsigned i = topology->node_count; i-- > 0;)
			if (!taken[i] && topology->nodes[i].island == island &&
			    (next == topology->node_count || !count || are_linked(topology, order[count - 1], i) ||
			     !are_linked(topology, order[count - 1], next)))
				next = i;
		if (next == topology->node_count)
			return count;
		taken[next] = 1;
		order[count++] = next;
	}
}

/* Puts the nodes of one island around 0, 0; stretch makes the circle larger than it must be for the boxes alone. */
static double place_island(struct topology *topology, const unsigned *order, unsigned count, double stretch)
{
	double radius = 0, need = count == 2 ? TOPOLOGY_BOX_WIDTH / 2 + 85 : 0;

	for (unsigned i = 1; i < count && count > 2; i++) {
		/* Two neighbours are apart when their boxes are, in either direction. */
		double a = 2 * PI * (i - 1) / count, b = 2 * PI * i / count;
		double dx = fabs(sin(b) - sin(a)), dy = fabs(cos(b) - cos(a));
		double by_width = dx > 1e-6 ? (TOPOLOGY_BOX_WIDTH + GAP) / dx : 1e9;
		double by_height = dy > 1e-6 ? (TOPOLOGY_BOX_HEIGHT + GAP) / dy : 1e9;

		need = fmax(need, fmin(by_width, by_height));
	}
	if (count > 1)
		radius = fmax(need, count == 2 ? 0 : 130) * stretch;
	for (unsigned i = 0; i < count; i++) {
		double angle = count == 2 ? PI * i - PI / 2 : 2 * PI * i / count;

		topology->nodes[order[i]].x = radius * sin(angle);
		topology->nodes[order[i]].y = -radius * cos(angle);
	}
	return radius;
}

static int place_nodes(struct topology *topology, double stretch)
{
	unsigned *order = calloc(topology->node_count, sizeof(*order));
	char *taken = calloc(topology->node_count, 1);
	unsigned columns = (unsigned)ceil(sqrt(topology->islands));
	double x = 0, y = 0, row = 0;

	topology->width = topology->height = 0;
	for (unsigned island = 0; order && taken && island < topology->islands; island++) {
		unsigned count = walk_island(topology, island, order, taken);
		double radius = place_island(topology, order, count, stretch);
		double width = 2 * radius + TOPOLOGY_BOX_WIDTH;
		double height = (count == 2 ? 0 : 2 * radius) + TOPOLOGY_BOX_HEIGHT;

		if (island && island % columns == 0) {
			x = 0;
			y += row + ISLAND_GAP;
			row = 0;
		}
		for (unsigned i = 0; i < count; i++) {
			topology->nodes[order[i]].x += x + width / 2;
			topology->nodes[order[i]].y += y + height / 2;
		}
		row = fmax(row, height);
		topology->width = fmax(topology->width, x + width);
		topology->height = fmax(topology->height, y + row);
		x += width + ISLAND_GAP;
	}
	free(order);
	free(taken);
	return order && taken ? 0 : -1;
}

/* --------------------------------------------------------------------------------------------- labels */

static void write_label(const struct topology *topology, struct topology_pair *pair)
{
	const char *down = pair->down && pair->up ? ", " : "";
	char speed[24] = "", up[40] = "", broken[24] = "";
	int is_short = topology->pair_count > MANY_PAIRS, length;

	if (pair->speed > 0)
		snprintf(speed, sizeof(speed), is_short ? " \xc2\xb7 %.4g" : " \xc2\xb7 %.4g GB/s", pair->speed);
	if (pair->up)
		snprintf(up, sizeof(up), is_short ? "%up%s" : "%u port%s%s", pair->up,
			 is_short        ? speed
			 : pair->up == 1 ? ""
					 : "s",
			 speed);
	if (pair->down)
		snprintf(broken, sizeof(broken), is_short || pair->up ? "%u down" : "%u port%s down", pair->down,
			 pair->down == 1 ? "" : "s");
	length = snprintf(pair->label, sizeof(pair->label), "%s%s%s", up, down, broken);
	/* The dot between is two bytes and one letter. */
	pair->width = (length - (speed[0] ? 1 : 0)) * LABEL_LETTER + 8;
}

/* How many other lines go through the label; -1 when it lies on a box or another label. */
static int label_trouble(const struct topology *topology, unsigned pair, struct box label, const char *placed)
{
	int crossed = 0;

	for (unsigned i = 0; i < topology->node_count; i++)
		if (boxes_meet(label, node_box(&topology->nodes[i]), 4))
			return -1;
	for (unsigned i = 0; i < topology->pair_count; i++) {
		const struct topology_pair *other = &topology->pairs[i];

		if (i == pair)
			continue;
		if (placed[i] && boxes_meet(label, box_at(other->x, other->y, other->width, TOPOLOGY_LABEL_HEIGHT), 3))
			return -1;
		crossed += pair_meets_box(topology, other, label);
	}
	return crossed;
}

/* The best place along the line: few other lines through the label, and near the middle. */
static int place_label(struct topology *topology, unsigned index, const char *placed)
{
	struct topology_pair *pair = &topology->pairs[index];
	const struct topology_node *from = &topology->nodes[pair->end[0]], *to = &topology->nodes[pair->end[1]];
	double best = -1;

	for (int step = 1; step < STEPS; step++) {
		double at = (double)step / STEPS, x = from->x + at * (to->x - from->x);
		double y = from->y + at * (to->y - from->y), cost;
		int crossed = label_trouble(topology, index, box_at(x, y, pair->width, TOPOLOGY_LABEL_HEIGHT), placed);

		if (crossed < 0)
			continue;
		cost = crossed + 2 * fabs(at - 0.5);
		if (best < 0 || cost < best) {
			best = cost;
			pair->x = x;
			pair->y = y;
		}
	}
	return best < 0 ? -1 : 0;
}

/* 0 when all labels found a place. Short lines choose first: they have the fewest places. */
static int place_labels(struct topology *topology)
{
	char *placed = calloc(topology->pair_count + 1, 1);
	int failed = !placed;

	for (unsigned done = 0; !failed && done < topology->pair_count; done++) {
		unsigned next = topology->pair_count;
		double shortest = 0;

		for (unsigned i = 0; i < topology->pair_count; i++) {
			const struct topology_node *from = &topology->nodes[topology->pairs[i].end[0]];
			const struct topology_node *to = &topology->nodes[topology->pairs[i].end[1]];
			double length = hypot(to->x - from->x, to->y - from->y);

			if (!placed[i] && (next == topology->pair_count || length < shortest - 1e-6)) {
				next = i;
				shortest = length;
			}
		}
		failed = place_label(topology, next, placed);
		placed[next] = 1;
	}
	free(placed);
	return failed ? -1 : 0;
}

/* Does a line within an island pass through a box that is not at its end? */
static int lines_are_hidden(const struct topology *topology)
{
	for (unsigned i = 0; i < topology->pair_count; i++) {
		const struct topology_pair *pair = &topology->pairs[i];

		if (topology->nodes[pair->end[0]].island != topology->nodes[pair->end[1]].island)
			continue;
		for (unsigned node = 0; node < topology->node_count; node++)
			if (node != pair->end[0] && node != pair->end[1] &&
			    pair_meets_box(topology, pair, node_box(&topology->nodes[node])))
				return 1;
	}
	return 0;
}

void topology_place(struct topology *topology)
{
	double stretch = 1;

	find_islands(topology);
	for (unsigned i = 0; i < topology->pair_count; i++)
		write_label(topology, &topology->pairs[i]);
	/* The last attempt stays, if ever none succeeds. */
	for (int attempt = 0; attempt < ATTEMPTS; attempt++, stretch *= 1.05) {
		if (place_nodes(topology, stretch) != 0)
			return;
		if (place_labels(topology) == 0 && !lines_are_hidden(topology))
			return;
	}
}
