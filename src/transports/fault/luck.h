/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong in the transport `fault`, and how often: a random generator whose n-th number follows from its seed.
 */
#ifndef CW_TRANSPORTS_FAULT_LUCK_H
#define CW_TRANSPORTS_FAULT_LUCK_H

#include <causeway/plugin.h>
#include <stdatomic.h>

enum misfortune {
	DROP = 1,       /* ends with an error and never starts */
	FAIL_FIRST = 2, /* the same, at once */
	FAIL_LAST = 4,  /* arrives, but ends with an error */
	START_LATE = 8,
	END_LATE = 16,
	DUPLICATE = 32,
	REORDER = 64,
	REFUSE = 128,
	DOWN = 256,
	STICK = 512 /* once it started, its end is late and nothing hastens it */
};

struct rate {
	enum misfortune what;
	unsigned of_1000;
};

struct cw__luck {
	struct rate rates[10];
	_Atomic uint64_t random;
};

/* Reads the settings fault/seed, fault/drop and so on. */
void cw__luck_open(struct cw__luck *luck, struct cw_host *host);
/* Any thread. */
uint64_t cw__luck_draw(struct cw__luck *luck);
/* enum misfortune, several of them or none. Any thread. */
unsigned cw__luck_misfortunes(struct cw__luck *luck);

#endif
