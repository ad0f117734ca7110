/* SPDX-License-Identifier: Apache-2.0 */
/* See progress_bar.h. */
#include "lib/progress_bar.h"

#include <stdio.h>
#include <unistd.h>

#include "lib/units.h"

#define CELLS 30
#define REDRAW_NS (NANOSECONDS / 10)

void progress_bar_begin(struct progress_bar *bar)
{
	bar->shown = isatty(STDERR_FILENO);
	bar->drawn_ns = 0;
}

void progress_bar_update(struct progress_bar *bar, const char *label, double fraction)
{
	static const char full[] = "##############################", empty[] = "..............................";
	uint64_t now = units_now();
	int cells;

	if (!bar->shown || now - bar->drawn_ns < REDRAW_NS)
		return;
	bar->drawn_ns = now;
	fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
	cells = (int)(fraction * CELLS);
	fprintf(stderr, "\r[%.*s%.*s] %3.0f%% %s\033[K", cells, full, CELLS - cells, empty, fraction * 100, label);
	fflush(stderr);
}

void progress_bar_clear(struct progress_bar *bar)
{
	if (bar->shown && bar->drawn_ns)
		fprintf(stderr, "\r\033[K");
	bar->drawn_ns = 0;
}
