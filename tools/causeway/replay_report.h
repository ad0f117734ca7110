/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what runs of `causeway replay` did: a column for each run as text, or JSON. */
#ifndef CAUSEWAY_REPLAY_REPORT_H
#define CAUSEWAY_REPLAY_REPORT_H

#include <stddef.h>

#include "replay.h"

/* Says at which scale the trace is replayed. */
void replay_print_scale(const struct replay_plan *plan, const char *model, int json);

/* label of each run: the transports that it was given. */
void replay_print_reports(const struct replay_report *reports, const char *const *labels, size_t count, int json);

#endif
