/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordered index of ranges that do not meet: a B+ tree whose nodes are a few cache lines each, laid out so that a
 * look-up among a million waits for main memory once. One writer at a time (the caller's lock); readers take no lock
 * but check a sequence number and look again when a writer was busy, and wait for it only when that happens many times.
 * Nodes are only given back when the index closes and never change their level, so a reader that is overtaken reads old
 * but valid words. Writers make what nodes they may need beforehand: nothing fails while readers are kept away.
 */
#include <core/core.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LEAF_MAX 10u  /* ranges in a leaf */
#define INNER_MAX 31u /* children of an inner node */
#define LEVELS 10u
#define TRIES 100             /* of a reader without the lock */
#define SLAB_FIRST 4096u      /* bytes of the first slab of nodes; each one is twice as large as the last, up to */
#define SLAB_LAST (2u << 20)  /* a huge page, which it then is where the system allows */
#define UNUSED_KEY UINT64_MAX /* behind the last key of a node */

struct node {
	_Atomic uint32_t count;
	uint32_t level; /* 0 = leaf; constant */
};

/* Sorted. Of each range `from`, `to` and `value`; behind them a key more, so that a search needs no exception. */
struct leaf {
	struct node node;
	_Atomic uint64_t words[3 * LEAF_MAX + 1];
};
#define FROM(leaf, i) ((leaf)->words[3 * (i)])
#define TO(leaf, i) ((leaf)->words[3 * (i) + 1])
#define VALUE(leaf, i) ((leaf)->words[3 * (i) + 2])

/* The key of a child is where the first range below it begins. */
struct inner {
	struct node node;
	struct {
		_Atomic uint64_t key;
		_Atomic(struct node *) node;
	} children[INNER_MAX];
	uint64_t unused;
};
_Static_assert(sizeof(struct leaf) == 256 && sizeof(struct inner) == 512, "whole cache lines");

struct slab {
	struct slab *older;
	size_t bytes;
};

struct cw__index {
	_Atomic uint32_t sequence; /* odd while a writer is at work */
	pthread_mutex_t writer;    /* held meanwhile */
	_Atomic(struct node *) root;
	/* The writer's: */
	struct slab *slabs;
	size_t slab_bytes, slab_used;
	struct node *unused[LEVELS]; /* linked by what next_unused() tells */
};

/* The way from the root to a leaf, for writers: children[at] of each inner node, and the leaf itself. */
struct way {
	struct {
		struct inner *node;
		uint32_t at;
	} steps[LEVELS]; /* by level; [0] is not used */
	struct leaf *leaf;
	uint32_t at;  /* ranges of the leaf that begin at or before the address */
	uint32_t top; /* level of the root */
};

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define put(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

static void write_begin(struct cw__index *index)
{
	pthread_mutex_lock(&index->writer);
	put(index->sequence, get(index->sequence) + 1);
	atomic_thread_fence(memory_order_release); /* pairs with the acquire fence of cw__index_find() */
}

static void write_end(struct cw__index *index)
{
	atomic_store_explicit(&index->sequence, get(index->sequence) + 1, memory_order_release);
	pthread_mutex_unlock(&index->writer);
}

/* ---------------------------------------------------------------------------------------------- nodes */

static struct inner *as_inner(struct node *node)
{
	return (struct inner *)(void *)node;
}

static struct leaf *as_leaf(struct node *node)
{
	return (struct leaf *)(void *)node;
}

/* Where a node that is not used keeps the next one: what is there in a node in use is read as a key only. */
static _Atomic uint64_t *next_unused(struct node *node)
{
	return node->level ? &as_inner(node)->children[0].key : &FROM(as_leaf(node), 0);
}

/* Memory for a node, zeroed. Large slabs are huge pages, as far as the system has some: look-ups go anywhere. */
static void *slab_take(struct cw__index *index, size_t bytes)
{
	struct slab *slab = index->slabs;

	if (!slab || slab->bytes - index->slab_used < bytes) {
		size_t length = slab ? 2 * slab->bytes : SLAB_FIRST;

		length = length > SLAB_LAST ? SLAB_LAST : length;
		slab = aligned_alloc(length, length);
		if (!slab)
			return NULL;
		if (length == SLAB_LAST)
			madvise(slab, length, MADV_HUGEPAGE);
		memset(slab, 0, length);
		*slab = (struct slab){ index->slabs, length };
		index->slabs = slab;
		index->slab_used = sizeof(struct leaf); /* nodes keep their alignment */
	}
	index->slab_used += bytes;
	return (unsigned char *)slab + index->slab_used - bytes;
}

/* Makes sure that there is a node to take for each level up to `top`. */
static int reserve(struct cw__index *index, uint32_t top)
{
	for (uint32_t level = 0; level <= top; level++) {
		size_t bytes = level ? sizeof(struct inner) : sizeof(struct leaf);
		struct node *node = index->unused[level] ? index->unused[level] : slab_take(index, bytes);

		if (!node)
			return CW_ERR_NO_MEMORY;
		if (index->unused[level])
			continue;
		node->level = level;
		index->unused[level] = node;
	}
	return CW_OK;
}

/* One that was reserved, without keys. */
static struct node *node_take(struct cw__index *index, uint32_t level)
{
	struct node *node = index->unused[level];

	index->unused[level] = (struct node *)(uintptr_t)get(*next_unused(node));
	put(node->count, 0);
	for (uint32_t i = 0; level && i < INNER_MAX; i++)
		put(as_inner(node)->children[i].key, UNUSED_KEY);
	for (uint32_t i = 0; !level && i <= LEAF_MAX; i++)
		put(FROM(as_leaf(node), i), UNUSED_KEY);
	return node;
}

static void node_give(struct cw__index *index, struct node *node)
{
	put(node->count, 0);
	put(*next_unused(node), (uint64_t)(uintptr_t)index->unused[node->level]);
	index->unused[node->level] = node;
}

static uint64_t first_key(struct node *node)
{
	return node->level ? get(as_inner(node)->children[0].key) : get(FROM(as_leaf(node), 0));
}

struct cw__index *cw__index_open(void)
{
	struct cw__index *index = calloc(1, sizeof(*index));

	if (index)
		pthread_mutex_init(&index->writer, NULL);
	return index;
}

void cw__index_close(struct cw__index *index)
{
	while (index && index->slabs) {
		struct slab *older = index->slabs->older;

		free(index->slabs);
		index->slabs = older;
	}
	if (index)
		pthread_mutex_destroy(&index->writer);
	free(index);
}

/* --------------------------------------------------------------------------------------------- finding */

/* Searches look at every n-th key at once, then at those before the first that is too high: no branch depends on what
 * they find, and only the second step waits for the first. Unused keys are higher than any address. Written out,
 * because the shorter this is, the more look-ups a processor has under way at once. */
static inline size_t child_at(struct inner *inner, uint64_t address)
{
#define AT(i) ((size_t)(get(inner->children[i].key) <= address))
	_Static_assert(INNER_MAX == 31, "seven groups of four, and three");
	size_t base = 4 * (AT(3) + AT(7) + AT(11) + AT(15) + AT(19) + AT(23) + AT(27));
	size_t at = base + AT(base) + AT(base + 1) + AT(base + 2);
#undef AT

	return at - (at != 0);
}

/* How many ranges begin at or before address. */
static inline size_t ranges_to(struct leaf *leaf, uint64_t address)
{
#define AT(i) ((size_t)(get(FROM(leaf, i)) <= address))
	_Static_assert(LEAF_MAX == 10, "three groups of three, one, and the key behind them");
	size_t base = 3 * (AT(2) + AT(5) + AT(8));

	return base + AT(base) + AT(base + 1);
#undef AT
}

static inline int find(struct cw__index *index, uint64_t address, struct cw__indexed *found_out)
{
	struct node *node = atomic_load_explicit(&index->root, memory_order_acquire);
	struct leaf *leaf;
	size_t at;

	while (node && node->level) {
		struct inner *inner = as_inner(node);

		node = atomic_load_explicit(&inner->children[child_at(inner, address)].node, memory_order_acquire);
	}
	if (!node)
		return 0;
	leaf = as_leaf(node);
	at = ranges_to(leaf, address);
	if (!at || at > LEAF_MAX)
		return 0;
	found_out->from = get(FROM(leaf, at - 1));
	found_out->to = get(TO(leaf, at - 1));
	found_out->value = get(VALUE(leaf, at - 1));
	return address < found_out->to;
}

int cw__index_find(struct cw__index *index, uint64_t address, struct cw__indexed *found_out)
{
	int found;

	for (int i = 0; i < TRIES; i++) {
		uint32_t before = atomic_load_explicit(&index->sequence, memory_order_acquire);

		if (before & 1)
			continue;
		found = find(index, address, found_out);
		atomic_thread_fence(memory_order_acquire);
		if (get(index->sequence) == before)
			return found;
	}
	/* A writer lost its processor in the middle: sleep until it is done, rather than keep it from getting one back.
	 */
	pthread_mutex_lock(&index->writer);
	found = find(index, address, found_out);
	pthread_mutex_unlock(&index->writer);
	return found;
}

/* ------------------------------------------------------------------------------------ the writer's look */

/* 0 = the index is empty. */
static int walk(struct cw__index *index, uint64_t address, struct way *way)
{
	struct node *node = get(index->root);

	if (!node)
		return 0;
	way->top = node->level;
	while (node->level) {
		uint32_t at = (uint32_t)child_at(as_inner(node), address);

		way->steps[node->level].node = as_inner(node);
		way->steps[node->level].at = at;
		node = get(as_inner(node)->children[at].node);
	}
	way->leaf = as_leaf(node);
	way->at = (uint32_t)ranges_to(way->leaf, address);
	return 1;
}

static struct cw__indexed range_at(struct leaf *leaf, uint32_t at)
{
	return (struct cw__indexed){ get(FROM(leaf, at)), get(TO(leaf, at)), get(VALUE(leaf, at)) };
}

/* The leaf after the one at the end of the way, or NULL. */
static struct leaf *next_leaf(const struct way *way)
{
	for (uint32_t level = 1; level <= way->top; level++) {
		struct node *node;

		if (way->steps[level].at + 1 >= get(way->steps[level].node->node.count))
			continue;
		node = get(way->steps[level].node->children[way->steps[level].at + 1].node);
		while (node->level)
			node = get(as_inner(node)->children[0].node);
		return as_leaf(node);
	}
	return NULL;
}

int cw__index_meet(struct cw__index *index, uint64_t from, uint64_t to, struct cw__indexed *found_out)
{
	struct way way;
	struct leaf *leaf;
	uint32_t at;

	if (!walk(index, from, &way))
		return 0;
	leaf = way.leaf;
	at = way.at;
	if (at && get(TO(leaf, at - 1)) > from) {
		*found_out = range_at(leaf, at - 1);
		return 1;
	}
	if (at == get(leaf->node.count)) {
		leaf = next_leaf(&way);
		at = 0;
	}
	if (!leaf || get(FROM(leaf, at)) >= to)
		return 0;
	*found_out = range_at(leaf, at);
	return 1;
}

/* -------------------------------------------------------------------------------------------- changing */

static void range_move(struct leaf *to, uint32_t to_at, struct leaf *from, uint32_t from_at)
{
	put(FROM(to, to_at), get(FROM(from, from_at)));
	put(TO(to, to_at), get(TO(from, from_at)));
	put(VALUE(to, to_at), get(VALUE(from, from_at)));
}

static void child_move(struct inner *to, uint32_t to_at, struct inner *from, uint32_t from_at)
{
	put(to->children[to_at].key, get(from->children[from_at].key));
	put(to->children[to_at].node, get(from->children[from_at].node));
}

/* Moves the upper half of a full node to a new one, which is returned. */
static struct node *split(struct cw__index *index, struct node *node)
{
	struct node *upper = node_take(index, node->level);
	uint32_t count = get(node->count), kept = count / 2;

	for (uint32_t i = kept; i < count; i++) {
		if (node->level) {
			child_move(as_inner(upper), i - kept, as_inner(node), i);
			put(as_inner(node)->children[i].key, UNUSED_KEY);
		} else {
			range_move(as_leaf(upper), i - kept, as_leaf(node), i);
			put(FROM(as_leaf(node), i), UNUSED_KEY);
		}
	}
	put(upper->count, count - kept);
	put(node->count, kept);
	return upper;
}

static void child_insert(struct inner *inner, uint32_t at, struct node *child)
{
	uint32_t count = get(inner->node.count);

	for (uint32_t i = count; i > at; i--)
		child_move(inner, i, inner, i - 1);
	put(inner->children[at].key, first_key(child));
	atomic_store_explicit(&inner->children[at].node, child, memory_order_release);
	put(inner->node.count, count + 1);
}

/* Puts a new node behind the one at the end of the way below `level`, splitting what is full on the way up. */
static void grow(struct cw__index *index, struct way *way, uint32_t level, struct node *lower, struct node *upper)
{
	while (level <= way->top) {
		struct inner *inner = way->steps[level].node;
		uint32_t at = way->steps[level].at + 1;
		struct node *half;

		if (get(inner->node.count) < INNER_MAX) {
			child_insert(inner, at, upper);
			return;
		}
		half = split(index, (struct node *)inner);
		if (at <= get(inner->node.count))
			child_insert(inner, at, upper);
		else
			child_insert(as_inner(half), at - get(inner->node.count), upper);
		lower = (struct node *)inner;
		upper = half;
		level++;
	}
	/* The root itself was split. */
	{
		struct inner *root = as_inner(node_take(index, level));

		child_insert(root, 0, lower);
		child_insert(root, 1, upper);
		atomic_store_explicit(&index->root, (struct node *)root, memory_order_release);
	}
}

static void range_insert(struct leaf *leaf, uint32_t at, const struct cw__indexed *range)
{
	uint32_t count = get(leaf->node.count);

	for (uint32_t i = count; i > at; i--)
		range_move(leaf, i, leaf, i - 1);
	put(FROM(leaf, at), range->from);
	put(TO(leaf, at), range->to);
	put(VALUE(leaf, at), range->value);
	put(leaf->node.count, count + 1);
}

/* The first key of the node below `level` on the way changed; so does the one that stands for it above. */
static void first_changed(struct way *way, uint32_t level, uint64_t key)
{
	for (; level <= way->top; level++) {
		put(way->steps[level].node->children[way->steps[level].at].key, key);
		if (way->steps[level].at)
			return;
	}
}

int cw__index_insert(struct cw__index *index, uint64_t from, uint64_t to, uint64_t value)
{
	const struct cw__indexed range = { from, to, value };
	struct node *root = get(index->root), *upper;
	struct way way;

	if (root && root->level + 2 > LEVELS)
		return CW_ERR_NO_MEMORY; /* more than fits into any memory */
	if (reserve(index, root ? root->level + 1 : 0))
		return CW_ERR_NO_MEMORY;
	write_begin(index);
	if (!walk(index, from, &way)) {
		struct leaf *leaf = as_leaf(node_take(index, 0));

		range_insert(leaf, 0, &range);
		atomic_store_explicit(&index->root, (struct node *)leaf, memory_order_release);
	} else if (get(way.leaf->node.count) < LEAF_MAX) {
		range_insert(way.leaf, way.at, &range);
		if (!way.at) /* before all others */
			first_changed(&way, 1, from);
	} else {
		if (!way.at)
			first_changed(&way, 1, from);
		upper = split(index, (struct node *)way.leaf);
		if (way.at <= get(way.leaf->node.count))
			range_insert(way.leaf, way.at, &range);
		else
			range_insert(as_leaf(upper), way.at - get(way.leaf->node.count), &range);
		grow(index, &way, 1, (struct node *)way.leaf, upper);
	}
	write_end(index);
	return CW_OK;
}

void cw__index_set(struct cw__index *index, uint64_t from, uint64_t value)
{
	struct way way;

	if (!walk(index, from, &way) || !way.at || get(FROM(way.leaf, way.at - 1)) != from)
		return;
	put(VALUE(way.leaf, way.at - 1), value); /* one word: readers see the old one or the new one */
}

/* Takes the node below `level` on the way, which is empty, out of the tree, and what gets empty by that. */
static void shrink(struct cw__index *index, struct way *way, struct node *empty)
{
	for (uint32_t level = 1; level <= way->top; level++) {
		struct inner *inner = way->steps[level].node;
		uint32_t at = way->steps[level].at, left = get(inner->node.count) - 1;

		node_give(index, empty);
		for (uint32_t i = at; i < left; i++)
			child_move(inner, i, inner, i + 1);
		put(inner->children[left].key, UNUSED_KEY);
		put(inner->node.count, left);
		if (left) {
			if (!at)
				first_changed(way, level + 1, get(inner->children[0].key));
			return;
		}
		empty = (struct node *)inner;
	}
	put(index->root, NULL);
	node_give(index, empty);
}

void cw__index_remove(struct cw__index *index, uint64_t from)
{
	struct way way;
	uint32_t left;

	if (!walk(index, from, &way) || !way.at || get(FROM(way.leaf, way.at - 1)) != from)
		return;
	write_begin(index);
	left = get(way.leaf->node.count) - 1;
	for (uint32_t i = way.at - 1; i < left; i++)
		range_move(way.leaf, i, way.leaf, i + 1);
	put(FROM(way.leaf, left), UNUSED_KEY);
	put(way.leaf->node.count, left);
	if (!left)
		shrink(index, &way, (struct node *)way.leaf);
	else if (way.at == 1)
		first_changed(&way, 1, get(FROM(way.leaf, 0)));
	write_end(index);
}
