/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A loop's timers: a pairing heap of embedded cw_timer, earliest first, so that setting one needs no memory and cannot
 * fail. The first child of a node has the node as `previous`, every other one its older sibling.
 */
#include <core/core.h>

/* Both are roots or NULL; the later one becomes the first child of the earlier one. */
static struct cw_timer *meld(struct cw_timer *a, struct cw_timer *b)
{
	if (!a || !b)
		return a ? a : b;
	if (b->at < a->at) {
		struct cw_timer *later = a;

		a = b;
		b = later;
	}
	b->next = a->child;
	if (b->next)
		b->next->previous = b;
	b->previous = a;
	a->child = b;
	return a;
}

/* Makes one heap of a list of siblings: in pairs from the left, then the pairs from the right. */
static struct cw_timer *meld_siblings(struct cw_timer *first)
{
	struct cw_timer *pairs = NULL, *root = NULL;

	while (first) {
		struct cw_timer *second = first->next, *rest = second ? second->next : NULL, *pair;

		first->next = first->previous = NULL;
		if (second)
			second->next = second->previous = NULL;
		pair = meld(first, second);
		pair->next = pairs;
		pairs = pair;
		first = rest;
	}
	while (pairs) {
		struct cw_timer *rest = pairs->next;

		pairs->next = NULL;
		root = meld(root, pairs);
		pairs = rest;
	}
	return root;
}

void cw__timer_set(struct cw_loop *loop, struct cw_timer *timer, uint64_t at)
{
	cw__timer_stop(loop, timer);
	timer->at = at;
	timer->heap_slot = 1;
	timer->child = timer->next = timer->previous = NULL;
	loop->timers = meld(loop->timers, timer);
}

void cw__timer_stop(struct cw_loop *loop, struct cw_timer *timer)
{
	struct cw_timer *children;

	if (!timer->heap_slot)
		return;
	timer->heap_slot = 0;
	children = meld_siblings(timer->child);
	timer->child = NULL;
	if (loop->timers == timer) {
		loop->timers = children;
		return;
	}
	if (timer->previous->child == timer)
		timer->previous->child = timer->next;
	else
		timer->previous->next = timer->next;
	if (timer->next)
		timer->next->previous = timer->previous;
	loop->timers = meld(loop->timers, children);
}
