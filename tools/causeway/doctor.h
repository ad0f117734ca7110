/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway doctor`: checks of this machine. A check looks at one subject and reports one or more lines, each "ok",
 * "warn" (works, but something is slower or needs care) or "broken" (an engine cannot work), and says what to do.
 */
#ifndef CAUSEWAY_DOCTOR_H
#define CAUSEWAY_DOCTOR_H

#include "lib/engine.h"

enum doctor_verdict { DOCTOR_OK = 0, DOCTOR_WARN = 1, DOCTOR_BROKEN = 2 };

struct doctor; /* collects the lines */

/* One line. */
void doctor_say(struct doctor *doctor, enum doctor_verdict verdict, const char *subject, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The options of the engine that is to work here. */
const struct engine_arguments *doctor_engine_arguments(const struct doctor *doctor);

/* doctor_network.c */
void doctor_addresses(struct doctor *doctor);
void doctor_port(struct doctor *doctor);
void doctor_firewall(struct doctor *doctor);
void doctor_congestion_control(struct doctor *doctor);
void doctor_nics(struct doctor *doctor);
void doctor_rdma(struct doctor *doctor);

/* doctor_machine.c */
void doctor_memory(struct doctor *doctor);
void doctor_memlock(struct doctor *doctor);
void doctor_huge_pages(struct doctor *doctor);
void doctor_ptrace(struct doctor *doctor);
void doctor_gpus(struct doctor *doctor);

#endif
