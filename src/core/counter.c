/* SPDX-License-Identifier: Apache-2.0 */
/* Counters that batches can wait for. */
#include <core/core.h>
#include <stdlib.h>
#include <unistd.h>

int cw_counter_open(struct cw_engine *engine, uint64_t initial, struct cw_counter **counter_out)
{
	int status = cw__engine_check(engine);
	struct cw_counter *counter;

	if (status)
		return status;
	counter = calloc(1, sizeof(*counter));
	if (!counter)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	counter->engine = engine;
	counter->process = getpid();
	counter->value = initial;
	pthread_mutex_init(&counter->lock, NULL);
	cw__list_init(&counter->dependents);
	*counter_out = counter;
	return CW_OK;
}

int cw_counter_add(struct cw_counter *counter, uint64_t n)
{
	struct cw__list ready;
	int status = counter ? cw__engine_check(counter->engine) : cw__fail(CW_ERR_INVALID, "no counter");

	if (status)
		return status;
	cw__list_init(&ready);
	pthread_mutex_lock(&counter->lock);
	counter->value = counter->value > UINT64_MAX - n ? UINT64_MAX : counter->value + n;
	cw__list_each(node, &counter->dependents)
	{
		if (cw__container(node, struct cw__dependency, node)->value > counter->value)
			continue;
		cw__list_remove(node);
		cw__list_push_back(&ready, node);
	}
	pthread_mutex_unlock(&counter->lock);
	cw__dependents_release(&ready, 1);
	return CW_OK;
}

void cw_counter_close(struct cw_counter *counter)
{
	struct cw__list waiting;

	/* The engine may be closed already, so it cannot tell whether this is a forked child. */
	if (!counter || counter->process != getpid())
		return;
	cw__list_init(&waiting);
	pthread_mutex_lock(&counter->lock);
	cw__list_splice(&waiting, &counter->dependents);
	pthread_mutex_unlock(&counter->lock);
	cw__dependents_release(&waiting, 0);
	pthread_mutex_destroy(&counter->lock);
	free(counter);
}
