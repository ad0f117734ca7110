/* SPDX-License-Identifier: Apache-2.0 */
/* `causeway topology`: what cw_engine_topology() told, gathered, and where a drawing has it. */
#ifndef CAUSEWAY_TOPOLOGY_H
#define CAUSEWAY_TOPOLOGY_H

#include <stdio.h>

#include <causeway/causeway.h>

/* Of the boxes in the drawing, and of the letters of labels; pixels. */
#define TOPOLOGY_BOX_WIDTH 148.0
#define TOPOLOGY_BOX_HEIGHT 66.0
#define TOPOLOGY_LABEL_HEIGHT 15.0

struct topology_node {
	struct cw_topology_device device; /* device -1: only known as the far end of a link */
	unsigned used;                    /* ports with a link */
	unsigned island;                  /* nodes that links in use connect have the same number, counted from 0 */
	double x, y;                      /* centre of its box */
};

struct topology_link {
	struct cw_topology_link link;
	unsigned end[2]; /* nodes */
};

/* All links between two nodes. */
struct topology_pair {
	unsigned end[2];    /* [0] < [1] */
	unsigned up, down;  /* links */
	double speed;       /* of those in use, together; 10^9 bytes a second */
	char label[48];     /* in the drawing */
	double width, x, y; /* of the label: how wide, and its centre */
};

struct topology {
	struct topology_node *nodes;
	unsigned node_count;
	struct topology_link *links;
	unsigned link_count;
	struct topology_pair *pairs;
	unsigned pair_count, islands;
	double width, height; /* of the drawing's middle part, from 0, 0 */
};

/* Places boxes and labels so that no text lies on another. */
void topology_place(struct topology *topology);

/* Writes the drawing; topology_place() came before. */
void topology_draw(const struct topology *topology, FILE *out);

#endif
