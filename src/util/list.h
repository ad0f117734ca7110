/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive doubly linked list. A head is a node that is linked to itself; a node that is in no list is linked to
 * itself too, so cw__list_remove() may be called twice.
 */
#ifndef CW_UTIL_LIST_H
#define CW_UTIL_LIST_H

#include <stddef.h>

struct cw__list {
	struct cw__list *prev, *next;
};

#define cw__container(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void cw__list_init(struct cw__list *node)
{
	node->prev = node;
	node->next = node;
}

static inline int cw__list_empty(const struct cw__list *head)
{
	return head->next == head;
}

static inline void cw__list_insert_before(struct cw__list *at, struct cw__list *node)
{
	node->prev = at->prev;
	node->next = at;
	at->prev->next = node;
	at->prev = node;
}

#define cw__list_push_back(head, node) cw__list_insert_before((head), (node))
#define cw__list_push_front(head, node) cw__list_insert_before((head)->next, (node))

static inline void cw__list_remove(struct cw__list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	cw__list_init(node);
}

static inline struct cw__list *cw__list_pop(struct cw__list *head)
{
	struct cw__list *node = head->next;

	if (node == head)
		return NULL;
	cw__list_remove(node);
	return node;
}

/* Moves all of from to the end of to. */
static inline void cw__list_splice(struct cw__list *to, struct cw__list *from)
{
	if (cw__list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	cw__list_init(from);
}

/* The body may remove `node`. */
#define cw__list_each(node, head)                                                                                      \
	for (struct cw__list *node = (head)->next, *node##_next = node->next; node != (head);                          \
	     node = node##_next, node##_next = node->next)

#endif
