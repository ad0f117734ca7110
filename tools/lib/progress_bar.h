/* SPDX-License-Identifier: Apache-2.0 */
/* A line on stderr that shows how far a long job is; nothing at all when stderr is not a terminal. */
#ifndef TOOLS_PROGRESS_BAR_H
#define TOOLS_PROGRESS_BAR_H

#include <stdint.h>

struct progress_bar {
	int shown;
	uint64_t drawn_ns;
};

void progress_bar_begin(struct progress_bar *bar);

/* Draws at most ten times a second. label says what is being done. */
void progress_bar_update(struct progress_bar *bar, const char *label, double fraction);

/* Removes the line, so that results can be printed. */
void progress_bar_clear(struct progress_bar *bar);

#endif
