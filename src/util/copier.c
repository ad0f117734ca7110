/* SPDX-License-Identifier: Apache-2.0 */
/* See copier.h. */
#include <util/clock.h>
#include <util/copier.h>

#define UNIT (64u * 1024)   /* of a copy by two cores: smaller ones wait for their stores too often */
#define LARGE (256u * 1024) /* from here on two cores may be worth it, and a system call to wake the second */
#define LONG_WAIT 50000u    /* ns at the end of a copy: the worker has no core of its own */

enum { PLAIN, STREAMED, SPLIT /* added to the others */ };

struct job {
	const struct cw__copy_part *parts;
	unsigned count;
	size_t total;
	int streamed;
};

static uint32_t ways_alone(void *arg)
{
	(void)arg;
	return cw__copy_can_stream() ? 1u << PLAIN | 1u << STREAMED : 1u << PLAIN;
}

static uint32_t ways_of_copy(void *arg)
{
	struct cw__copier *copier = arg;
	uint32_t ways = ways_alone(NULL);

	return cw__crew_ready(&copier->crew) ? ways | ways << SPLIT : ways;
}

static uint32_t ways_of_run(void *arg)
{
	struct cw__copier *copier = arg;

	return cw__crew_ready(&copier->crew) ? 1u << PLAIN | 1u << SPLIT : 1u << PLAIN;
}

void cw__copier_init(struct cw__copier *copier)
{
	cw__crew_init(&copier->crew);
	cw__choice_init(&copier->middle, cw__copy_can_stream() ? STREAMED : PLAIN);
	cw__choice_init(&copier->large, cw__copy_can_stream() ? STREAMED : PLAIN);
	cw__choice_init(&copier->calls, PLAIN);
}

void cw__copier_close(struct cw__copier *copier)
{
	cw__crew_close(&copier->crew);
}

static void copy_parts(const struct cw__copy_part *parts, unsigned count, int streamed)
{
	if (streamed)
		cw__copy_streamed(parts, count);
	else
		cw__copy_plain(parts, count);
}

/* A range of bytes of all parts in a row. */
static void copy_units(void *arg, unsigned first, unsigned number)
{
	const struct job *job = arg;
	struct cw__copy_part parts[CW__COPIER_PARTS];
	size_t skip = (size_t)first * UNIT, most = (size_t)number * UNIT;
	size_t left = job->total - skip < most ? job->total - skip : most;
	unsigned count = 0, i = 0;

	while (skip >= job->parts[i].length)
		skip -= job->parts[i++].length;
	for (; left; i++, count++) {
		size_t length = job->parts[i].length - skip < left ? job->parts[i].length - skip : left;

		parts[count] = (struct cw__copy_part){ (char *)job->parts[i].to + skip,
						       (const char *)job->parts[i].from + skip, length };
		left -= length;
		skip = 0;
	}
	copy_parts(parts, count, job->streamed);
}

static void copy_in_way(struct cw__copier *copier, struct cw__choice *choice, uint32_t way, const struct job *job)
{
	uint64_t waited;

	if (way < SPLIT) {
		copy_parts(job->parts, job->count, job->streamed);
		return;
	}
	waited = cw__crew_run(&copier->crew, copy_units, (void *)(uintptr_t)job,
			      (unsigned)((job->total + UNIT - 1) / UNIT));
	if (waited > LONG_WAIT)
		cw__choice_drop(choice, way, way - SPLIT);
}

void cw__copier_copy(struct cw__copier *copier, const struct cw__copy_part *parts, unsigned count, size_t total)
{
	struct job job = { parts, count, total, 0 };
	struct cw__choice *choice = total < LARGE ? &copier->middle : &copier->large;
	uint64_t began;
	uint32_t way;
	int timed;

	if (total < CW__COPIER_SMALL) {
		cw__copy_plain(parts, count);
		return;
	}
	way = cw__choice_take(choice, total, total < LARGE ? ways_alone : ways_of_copy, copier, &timed);
	job.streamed = way & 1;
	if (!timed) {
		copy_in_way(copier, choice, way, &job);
		return;
	}
	began = cw__now();
	copy_in_way(copier, choice, way, &job);
	cw__choice_tell(choice, way, total, cw__now() - began);
}

static void run_in_way(struct cw__copier *copier, uint32_t way, cw__crew_fn run, void *arg, unsigned count)
{
	if (way < SPLIT)
		run(arg, 0, count);
	else if (cw__crew_run(&copier->crew, run, arg, count) > LONG_WAIT)
		cw__choice_drop(&copier->calls, way, way - SPLIT);
}

void cw__copier_run(struct cw__copier *copier, cw__crew_fn run, void *arg, unsigned count, size_t total)
{
	uint64_t began;
	uint32_t way = PLAIN;
	int timed = 0;

	if (total >= LARGE)
		way = cw__choice_take(&copier->calls, total, ways_of_run, copier, &timed);
	began = timed ? cw__now() : 0;
	run_in_way(copier, way, run, arg, count);
	if (timed)
		cw__choice_tell(&copier->calls, way, total, cw__now() - began);
}
