/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keepers: threads of an open transport for calls of the runtime that may take long and belong to no lane. Each device
 * has one that opens and closes mappings of other processes' memory there; another one asks about once a second after
 * links that failed.
 */
#include <stdlib.h>
#include <transports/peer_copy/inside.h>

#define LOOK_FIRST CW__SECOND
#define LOOK_LAST (32 * CW__SECOND)
#define UP_LONG (60 * CW__SECOND)
#define LINKS CW__GPU_DEVICES_MAX /* the keeper of links */
#define KEEPERS (CW__GPU_DEVICES_MAX + 1u)

struct cw__pc_keeper {
	struct cw__peer_copy *pc;
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t work, done;
	struct cw__list queue; /* cw__pc_import.keeper_node */
	int started, stop, exited;
};

static void monotonic_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
}

static void wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until)
{
	struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };

	if (until == UINT64_MAX)
		pthread_cond_wait(condition, lock);
	else
		pthread_cond_timedwait(condition, lock, &at);
}

/* ----------------------------------------------------------------------------------------------- links */

static void wake_peers(struct cw__peer_copy *pc)
{
	pthread_mutex_lock(&pc->lock);
	cw__list_each(node, &pc->peers) cw__pc_peer_wake(cw__container(node, struct cw__pc_peer, node));
	pthread_mutex_unlock(&pc->lock);
}

/* With the lock. 1 = it is time to look at a link that is down; else *next is when. */
static int is_due(struct cw__pc_link *link, uint64_t now, uint64_t *next)
{
	if (!atomic_load_explicit(&link->down, memory_order_acquire))
		return 0;
	if (link->look_at <= now) {
		link->look_at = now + LOOK_FIRST;
		return 1;
	}
	if (link->look_at < *next)
		*next = link->look_at;
	return 0;
}

/* With the lock, which is let go while a library is asked. Returns when to look again. */
static uint64_t look_at_links(struct cw__pc_keeper *keeper)
{
	struct cw__peer_copy *pc = keeper->pc;
	uint64_t next = UINT64_MAX;
	int changed = 0;

	for (unsigned i = 0; pc->kind.link_is_up && i < pc->link_count; i++) {
		const struct cw__peer_copy_link *ends = &pc->kind.links[i];
		struct cw__pc_link *link = &pc->links[i];
		int up;

		if (!is_due(link, cw__now(), &next))
			continue;
		pthread_mutex_unlock(&keeper->lock);
		up = pc->kind.link_is_up(pc->kind.own, i);
		pthread_mutex_lock(&keeper->lock);
		if (!up) {
			is_due(link, 0, &next);
			continue;
		}
		link->up_since = cw__now();
		atomic_store_explicit(&link->down, 0, memory_order_release);
		changed = 1;
		pc->host->ops->log(pc->host, CW_LOG_INFO,
				   "%s: the link between device %d port %d and device %d port %d works again",
				   pc->kind.name, ends->device[0], ends->port[0], ends->device[1], ends->port[1]);
	}
	if (changed) {
		pthread_mutex_unlock(&keeper->lock);
		wake_peers(pc);
		pthread_mutex_lock(&keeper->lock);
	}
	return next;
}

static void *keeper_main(void *arg);

/* With the lock. The thread is started when there is something to do for the first time. */
static int start(struct cw__pc_keeper *keeper)
{
	if (!keeper->started && !cw__pc_thread(&keeper->thread, keeper_main, keeper))
		keeper->started = 1;
	return keeper->started ? CW_OK : CW_ERR_NO_MEMORY;
}

void cw__pc_keeper_watch(struct cw__peer_copy *pc, unsigned number)
{
	struct cw__pc_keeper *keeper = &pc->keepers[LINKS];
	struct cw__pc_link *link = &pc->links[number];
	uint64_t now = cw__now();

	pthread_mutex_lock(&keeper->lock);
	/* One that says that it works and then fails again is believed later and later. */
	if (!link->up_since || now - link->up_since > UP_LONG)
		link->pause = LOOK_FIRST;
	else if (link->pause < LOOK_LAST)
		link->pause *= 2;
	link->look_at = now + link->pause;
	start(keeper); /* without a thread the link stays down */
	pthread_cond_signal(&keeper->work);
	pthread_mutex_unlock(&keeper->lock);
	wake_peers(pc);
}

/* -------------------------------------------------------------------------------------------- mappings */

/* Is that much there? The owner only said so. A runtime that knows nothing about opened memory cannot tell. */
static int is_long_enough(const struct cw__gpu *gpu, uint64_t base, const struct cw__pc_envelope *envelope)
{
	uint64_t from = base + envelope->offset, last = from + envelope->length - 1;
	struct cw__gpu_memory first, end;

	if (from < base || last < from)
		return 0;
	if (gpu->query((const void *)(uintptr_t)from, &first) || !first.is_device)
		return 1;
	if (first.allocation_length)
		return from >= first.allocation_base && last - first.allocation_base < first.allocation_length;
	return !gpu->query((const void *)(uintptr_t)last, &end) && end.is_device && end.device == first.device;
}

static int open_mapping(const struct cw__gpu *gpu, struct cw__pc_import *import)
{
	int result = cw__pc_mapping_open(gpu, import->side.device, &import->envelope, &import->mapping);

	if (result || is_long_enough(gpu, cw__pc_mapping_base(import->mapping), &import->envelope))
		return result;
	cw__pc_mapping_close(import->mapping);
	import->mapping = NULL;
	return CW__PC_TOO_SHORT;
}

/* With the lock, which is let go while the runtime is called. The import is the keeper's meanwhile. */
static void serve(struct cw__pc_keeper *keeper, struct cw__pc_import *import)
{
	struct cw__peer_copy *pc = keeper->pc;
	int result = 0;

	pthread_mutex_unlock(&keeper->lock);
	if (import->mapping) {
		cw__pc_mapping_close(import->mapping);
		import->mapping = NULL;
	} else {
		result = open_mapping(pc->gpu, import);
	}
	pthread_mutex_lock(&keeper->lock);
	import->keeper_result = result;
	import->keeper_busy = 0;
	if (!import->keeper_told) /* the import stays until that has run */
		pc->host->ops->task_post(import->loop, &import->task);
	import->keeper_told = 1;
	pthread_cond_broadcast(&keeper->done);
}

static void *keeper_main(void *arg)
{
	struct cw__pc_keeper *keeper = arg;

	pthread_mutex_lock(&keeper->lock);
	while (!keeper->stop || !cw__list_empty(&keeper->queue)) {
		struct cw__list *node = cw__list_pop(&keeper->queue);
		uint64_t next;

		if (node) {
			serve(keeper, cw__container(node, struct cw__pc_import, keeper_node));
			continue;
		}
		next = keeper == &keeper->pc->keepers[LINKS] ? look_at_links(keeper) : UINT64_MAX;
		if (cw__list_empty(&keeper->queue) && !keeper->stop)
			wait_until(&keeper->work, &keeper->lock, next);
	}
	keeper->exited = 1;
	pthread_cond_broadcast(&keeper->done);
	pthread_mutex_unlock(&keeper->lock);
	return NULL;
}

static struct cw__pc_keeper *keeper_of(const struct cw__pc_import *import)
{
	return &import->pc->keepers[import->side.device];
}

int cw__pc_keeper_give(struct cw__pc_import *import)
{
	struct cw__pc_keeper *keeper = keeper_of(import);
	int status;

	pthread_mutex_lock(&keeper->lock);
	status = start(keeper);
	if (!status) {
		import->keeper_busy = 1;
		import->task_posted = 1;
		cw__list_push_back(&keeper->queue, &import->keeper_node);
		pthread_cond_signal(&keeper->work);
	}
	pthread_mutex_unlock(&keeper->lock);
	return status;
}

int cw__pc_keeper_is_busy(struct cw__pc_import *import)
{
	struct cw__pc_keeper *keeper = keeper_of(import);
	int busy;

	pthread_mutex_lock(&keeper->lock);
	import->keeper_told = 0;
	busy = import->keeper_busy;
	pthread_mutex_unlock(&keeper->lock);
	return busy;
}

int cw__pc_keeper_await(struct cw__pc_import *import, uint64_t until)
{
	struct cw__pc_keeper *keeper = keeper_of(import);
	int busy;

	pthread_mutex_lock(&keeper->lock);
	while (import->keeper_busy && cw__now() < until)
		wait_until(&keeper->done, &keeper->lock, until);
	busy = import->keeper_busy;
	pthread_mutex_unlock(&keeper->lock);
	return busy ? CW_ERR_AGAIN : CW_OK;
}

int cw__pc_keepers_open(struct cw__peer_copy *pc)
{
	pc->keepers = calloc(KEEPERS, sizeof(*pc->keepers));
	if (!pc->keepers)
		return CW_ERR_NO_MEMORY;
	for (unsigned i = 0; i < KEEPERS; i++) {
		struct cw__pc_keeper *keeper = &pc->keepers[i];

		keeper->pc = pc;
		pthread_mutex_init(&keeper->lock, NULL);
		monotonic_condition(&keeper->work);
		monotonic_condition(&keeper->done);
		cw__list_init(&keeper->queue);
	}
	return CW_OK;
}

static void stop(struct cw__pc_keeper *keeper)
{
	pthread_mutex_lock(&keeper->lock);
	keeper->stop = 1;
	pthread_cond_signal(&keeper->work);
	pthread_mutex_unlock(&keeper->lock);
}

/* 1 = it is stuck. */
static unsigned end(struct cw__pc_keeper *keeper, uint64_t until)
{
	int stuck;

	pthread_mutex_lock(&keeper->lock);
	while (keeper->started && !keeper->exited && cw__now() < until)
		wait_until(&keeper->done, &keeper->lock, until);
	stuck = keeper->started && !keeper->exited;
	pthread_mutex_unlock(&keeper->lock);
	if (stuck)
		pthread_detach(keeper->thread);
	else if (keeper->started)
		pthread_join(keeper->thread, NULL);
	return stuck != 0;
}

unsigned cw__pc_keepers_close(struct cw__peer_copy *pc)
{
	uint64_t until = cw__after(cw__now(), pc->grace);
	unsigned left = 0;

	for (unsigned i = 0; i < KEEPERS; i++)
		stop(&pc->keepers[i]);
	for (unsigned i = 0; i < KEEPERS; i++)
		left += end(&pc->keepers[i], until);
	if (left)
		return left;
	for (unsigned i = 0; i < KEEPERS; i++) {
		pthread_cond_destroy(&pc->keepers[i].work);
		pthread_cond_destroy(&pc->keepers[i].done);
		pthread_mutex_destroy(&pc->keepers[i].lock);
	}
	free(pc->keepers);
	pc->keepers = NULL;
	return 0;
}
