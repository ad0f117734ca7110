/* SPDX-License-Identifier: Apache-2.0 */
/* The dice of the transport `fault`. See luck.h. */
#include "luck.h"

/* The n-th number depends on the seed and n alone (splitmix64). Any thread. */
uint64_t cw__luck_draw(struct cw__luck *luck)
{
	uint64_t x = atomic_fetch_add_explicit(&luck->random, 0x9e3779b97f4a7c15u, memory_order_relaxed);

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

unsigned cw__luck_misfortunes(struct cw__luck *luck)
{
	unsigned found = 0;

	for (size_t i = 0; i < sizeof(luck->rates) / sizeof(luck->rates[0]); i++)
		if (luck->rates[i].of_1000 && cw__luck_draw(luck) % 1000 < luck->rates[i].of_1000)
			found |= luck->rates[i].what;
	return found;
}

void cw__luck_open(struct cw__luck *luck, struct cw_host *host)
{
	static const struct {
		const char *key;
		enum misfortune what[2];
	} rows[] = {
		{ "fault/drop", { DROP } },
		{ "fault/fail", { FAIL_FIRST, FAIL_LAST } },
		{ "fault/delay", { START_LATE, END_LATE } },
		{ "fault/duplicate", { DUPLICATE } },
		{ "fault/reorder", { REORDER } },
		{ "fault/refuse", { REFUSE } },
		{ "fault/down", { DOWN } },
		{ "fault/stick", { STICK } },
	};
	size_t count = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (unsigned j = 0; j < 2 && rows[i].what[j]; j++)
			luck->rates[count++] =
				(struct rate){ rows[i].what[j],
					       (unsigned)host->ops->setting_number(host, rows[i].key, 0) };
	atomic_init(&luck->random, host->ops->setting_number(host, "fault/seed", 1) * 0xd1342543de82ef95u);
}
