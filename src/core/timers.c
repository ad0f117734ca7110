/* SPDX-License-Identifier: Apache-2.0 */
/* A loop's timers: a binary heap of embedded cw_timer, earliest first. heap_slot is the index + 1, 0 when not set. */
#include <core/core.h>
#include <stdlib.h>

static void place(struct cw__timers *timers, size_t at, struct cw_timer *timer)
{
	timers->heap[at] = timer;
	timer->heap_slot = at + 1;
}

static void sift_up(struct cw__timers *timers, size_t at, struct cw_timer *timer)
{
	while (at && timers->heap[(at - 1) / 2]->at > timer->at) {
		place(timers, at, timers->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	place(timers, at, timer);
}

static void sift_down(struct cw__timers *timers, size_t at, struct cw_timer *timer)
{
	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= timers->count)
			break;
		if (child + 1 < timers->count && timers->heap[child + 1]->at < timers->heap[child]->at)
			child++;
		if (timers->heap[child]->at >= timer->at)
			break;
		place(timers, at, timers->heap[child]);
		at = child;
	}
	place(timers, at, timer);
}

/* The heap grows when a timer joins; when there is no memory for it the timer fires at once rather than never. */
int cw__timers_make_room(struct cw__timers *timers)
{
	size_t capacity = timers->capacity ? 2 * timers->capacity : 64;
	struct cw_timer **grown;

	if (timers->count < timers->capacity)
		return 1;
	grown = realloc(timers->heap, capacity * sizeof(struct cw_timer *));
	if (!grown)
		return 0;
	timers->heap = grown;
	timers->capacity = capacity;
	return 1;
}

void cw__timer_set(struct cw_loop *loop, struct cw_timer *timer, uint64_t at)
{
	struct cw__timers *timers = &loop->timers;

	cw__timer_stop(loop, timer);
	timer->at = at;
	if (!cw__timers_make_room(timers)) {
		timer->fire(timer);
		return;
	}
	sift_up(timers, timers->count++, timer);
}

void cw__timer_stop(struct cw_loop *loop, struct cw_timer *timer)
{
	struct cw__timers *timers = &loop->timers;
	size_t at = timer->heap_slot;
	struct cw_timer *last;

	if (!at)
		return;
	at--;
	timer->heap_slot = 0;
	last = timers->heap[--timers->count];
	if (last == timer)
		return;
	if (at && timers->heap[(at - 1) / 2]->at > last->at)
		sift_up(timers, at, last);
	else
		sift_down(timers, at, last);
}
