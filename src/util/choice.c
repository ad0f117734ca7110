/* SPDX-License-Identifier: Apache-2.0 */
/* See choice.h. Who looks on while another thread holds the trial goes on without being counted: nobody waits here. */
#include <string.h>
#include <util/choice.h>

#define MIB (1024u * 1024u)
#define PERIOD_MIN (32u * MIB)
#define PERIOD_MAX (2048ull * MIB)
#define SETTLE (2u * MIB)  /* of each way before times count */
#define MEASURE (4u * MIB) /* and then counted */
#define OUTLIER 3          /* times more than usual: something else had the core */
#define SAME 0.97          /* what is not faster than that does not replace what is in use */

void cw__choice_init(struct cw__choice *choice, uint32_t way)
{
	memset(choice, 0, sizeof(*choice));
	atomic_init(&choice->way, way);
	atomic_init(&choice->trial, 0);
	atomic_init(&choice->left, PERIOD_MIN);
	atomic_init(&choice->held, 0);
	choice->best = way;
	choice->period = PERIOD_MIN;
}

static int hold(struct cw__choice *choice)
{
	return !atomic_exchange_explicit(&choice->held, 1, memory_order_acquire);
}

static void let_go(struct cw__choice *choice)
{
	atomic_store_explicit(&choice->held, 0, memory_order_release);
}

static void rest(struct cw__choice *choice, uint64_t bytes)
{
	choice->period = bytes;
	atomic_store_explicit(&choice->left, (int64_t)bytes, memory_order_relaxed);
	atomic_store_explicit(&choice->trial, 0, memory_order_relaxed);
}

static void try_way(struct cw__choice *choice, uint32_t way)
{
	choice->seen = choice->timed = 0;
	choice->spent = 0;
	atomic_store_explicit(&choice->way, way, memory_order_relaxed);
}

static uint32_t faster(const struct cw__choice *choice, uint32_t first)
{
	uint32_t second = first + 1, set = choice->ways >> first & 3;

	if (set != 3)
		return set == 2 ? second : first;
	if (choice->best == second)
		return choice->cost[first] < choice->cost[second] * SAME ? first : second;
	return choice->cost[second] < choice->cost[first] * SAME ? second : first;
}

/* The ways of the trial have all been tried. */
static void decide(struct cw__choice *choice)
{
	uint32_t before = choice->best, best = faster(choice, 0), costly = faster(choice, 2);
	uint64_t longer = choice->period < PERIOD_MAX ? choice->period * 2 : PERIOD_MAX;

	if (choice->ways >> costly & 1 && choice->cost[costly] * (1 + 1.0 / CW__CHOICE_GAIN) < choice->cost[best])
		best = costly;
	choice->best = best;
	atomic_store_explicit(&choice->way, best, memory_order_relaxed);
	rest(choice, best == before ? longer : PERIOD_MIN);
}

/* The next way of the trial after `way`; CW__WAYS_MAX when there is none. */
static uint32_t next_way(const struct cw__choice *choice, uint32_t way)
{
	while (way < CW__WAYS_MAX && !(choice->ways >> way & 1))
		way++;
	return way;
}

uint32_t cw__choice_take(struct cw__choice *choice, uint64_t bytes, uint32_t (*ways)(void *arg), void *arg,
			 int *timed_out)
{
	int on = atomic_load_explicit(&choice->trial, memory_order_relaxed) != 0;

	if (!on && atomic_fetch_sub_explicit(&choice->left, (int64_t)bytes, memory_order_relaxed) <= 0 &&
	    hold(choice)) {
		if (!atomic_load_explicit(&choice->trial, memory_order_relaxed)) {
			choice->ways = ways(arg);
			try_way(choice, next_way(choice, 0));
			atomic_store_explicit(&choice->trial, 1, memory_order_relaxed);
			on = 1;
		}
		let_go(choice);
	}
	*timed_out = on;
	return atomic_load_explicit(&choice->way, memory_order_relaxed);
}

void cw__choice_tell(struct cw__choice *choice, uint32_t way, uint64_t bytes, uint64_t nanoseconds)
{
	double took = (double)nanoseconds, usual;
	uint32_t next;

	if (!bytes || !hold(choice))
		return;
	if (atomic_load_explicit(&choice->trial, memory_order_relaxed) &&
	    atomic_load_explicit(&choice->way, memory_order_relaxed) == way) {
		choice->seen += bytes;
		if (choice->seen > SETTLE) {
			/* A worker that had to wait for its core is what such a way costs; else it is bad luck. */
			usual = choice->timed ? choice->spent / (double)choice->timed * (double)bytes : took;
			choice->spent += way < 2 && took > OUTLIER * usual ? OUTLIER * usual : took;
			choice->timed += bytes;
		}
		if (choice->timed >= MEASURE) {
			choice->cost[way] = choice->spent / (double)choice->timed;
			next = next_way(choice, way + 1);
			if (next < CW__WAYS_MAX)
				try_way(choice, next);
			else
				decide(choice);
		}
	}
	let_go(choice);
}

void cw__choice_drop(struct cw__choice *choice, uint32_t way, uint32_t instead)
{
	if (!hold(choice))
		return;
	if (!atomic_load_explicit(&choice->trial, memory_order_relaxed) && choice->best == way) {
		choice->best = instead;
		atomic_store_explicit(&choice->way, instead, memory_order_relaxed);
		rest(choice, choice->period);
	}
	let_go(choice);
}
