/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues: where ended batches, notifications and peer events wait for a program. The fd is level-triggered, but only
 * written from empty to not empty and only while armed, so a program that polls in a loop pays no system call.
 */
#include <core/core.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PENDING 1u /* in queue->pending, next to CW__BATCH_WAITED: something is there */

/* With the lock: the queue got something. */
static void pushed(struct cw_queue *queue)
{
	uint64_t one = 1;
	uint32_t before = atomic_fetch_or_explicit(&queue->pending, PENDING, memory_order_seq_cst);

	if (before & PENDING)
		return;
	if (before & CW__BATCH_WAITED) {
		atomic_fetch_and_explicit(&queue->pending, ~CW__BATCH_WAITED, memory_order_seq_cst);
		cw__futex_wake_all(&queue->pending);
	}
	if (queue->armed) {
		queue->armed = 0;
		if (write(queue->event_fd, &one, sizeof(one)) == sizeof(one))
			queue->signaled = 1;
	}
}

/* Who blocks in epoll_wait for this queue's loop must look at it again. */
static void wake_drivers(struct cw_engine *engine)
{
	for (unsigned i = 0; i < engine->loop_count; i++)
		if (atomic_load_explicit(&engine->loops[i].blocking_driver, memory_order_seq_cst))
			cw__loop_kick(&engine->loops[i]);
}

static void unlock_pushed(struct cw_queue *queue)
{
	struct cw_engine *engine = queue->engine; /* the queue may be closed as soon as its lock is free */

	pushed(queue);
	pthread_mutex_unlock(&queue->lock);
	wake_drivers(engine);
}

/* Who sees that the batch is over may close the queue, which waits for this lock. */
uint32_t cw__queue_push_end(struct cw_queue *queue, struct cw_batch *batch, uint32_t word)
{
	uint32_t before;

	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
	pthread_mutex_lock(&queue->lock);
	before = atomic_exchange_explicit(&batch->word, word, memory_order_seq_cst);
	cw__list_push_back(&queue->batches, &batch->queue_node);
	unlock_pushed(queue);
	return before;
}

static void push_entry(struct cw_queue *queue, struct cw__entry *entry)
{
	pthread_mutex_lock(&queue->lock);
	cw__list_push_back(&queue->entries, &entry->node);
	unlock_pushed(queue);
}

static char *copy_text(struct cw__text text)
{
	char *copy = malloc((size_t)text.length + 1);

	if (copy) {
		if (text.length)
			memcpy(copy, text.data, text.length);
		copy[text.length] = 0;
	}
	return copy;
}

static void entry_free(struct cw__entry *entry)
{
	if (!entry)
		return;
	free(entry->sender);
	free(entry->name);
	free(entry->data);
	free(entry);
}

int cw__queue_push_notify(struct cw_queue *queue, struct cw__text sender, struct cw__text name, const void *data,
			  size_t length, size_t limit)
{
	struct cw__entry *entry = calloc(1, sizeof(*entry));
	int full;

	if (!entry)
		return CW_ERR_NO_MEMORY;
	entry->kind = CW_EVENT_NOTIFY;
	entry->sender = copy_text(sender);
	entry->name = copy_text(name);
	entry->data = malloc(length ? length : 1);
	entry->length = length;
	if (!entry->sender || !entry->name || !entry->data) {
		entry_free(entry);
		return CW_ERR_NO_MEMORY;
	}
	if (length)
		memcpy(entry->data, data, length);
	pthread_mutex_lock(&queue->lock);
	full = queue->notifications >= limit;
	if (full) {
		pthread_mutex_unlock(&queue->lock);
		entry_free(entry);
		return CW_ERR_LIMIT;
	}
	queue->notifications++;
	cw__list_push_back(&queue->entries, &entry->node);
	unlock_pushed(queue);
	return CW_OK;
}

void cw__queue_push_peer(struct cw_queue *queue, struct cw_segment *segment, enum cw_peer_state state)
{
	struct cw__entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return; /* the state can still be asked for */
	entry->kind = CW_EVENT_PEER;
	entry->segment = segment;
	entry->state = state;
	push_entry(queue, entry);
}

void cw__queue_push_quiet(struct cw_queue *queue, struct cw_batch *batch)
{
	struct cw__entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return; /* the batch's result tells it too */
	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
	entry->kind = CW_EVENT_QUIET;
	entry->batch = batch;
	push_entry(queue, entry);
}

void cw__queue_forget(struct cw_queue *queue, struct cw_segment *segment)
{
	pthread_mutex_lock(&queue->lock);
	cw__list_each(node, &queue->entries)
	{
		struct cw__entry *entry = cw__container(node, struct cw__entry, node);

		if (entry->kind == CW_EVENT_PEER && entry->segment == segment) {
			cw__list_remove(node);
			entry_free(entry);
		}
	}
	pthread_mutex_unlock(&queue->lock);
}

/* -------------------------------------------------------------------------------------------- taking */

/* The queue gives its reference back. A batch that nobody else holds is gone then, and the event says so. */
static struct cw_batch *give_up(struct cw_batch *batch)
{
	int last = atomic_load_explicit(&batch->refs, memory_order_acquire) == 1;

	cw__batch_put(batch);
	return last ? NULL : batch;
}

static int take(struct cw_queue *queue, struct cw_event *event)
{
	struct cw__list *node = cw__list_pop(&queue->batches);
	struct cw__entry *entry;

	memset(event, 0, sizeof(*event));
	if (node) {
		struct cw_batch *batch = cw__container(node, struct cw_batch, queue_node);

		event->kind = CW_EVENT_BATCH;
		event->arg = batch->arg;
		event->batch = batch;
		return 1;
	}
	node = cw__list_pop(&queue->entries);
	if (!node)
		return 0;
	entry = cw__container(node, struct cw__entry, node);
	event->kind = entry->kind;
	event->batch = entry->batch;
	event->arg = entry->batch ? entry->batch->arg : NULL;
	event->sender = entry->sender;
	event->name = entry->name;
	event->data = entry->data;
	event->length = entry->length;
	event->segment = entry->segment;
	event->state = entry->state;
	if (entry->kind == CW_EVENT_NOTIFY) {
		queue->notifications--;
		event->storage = entry;
	} else {
		entry_free(entry);
	}
	return 1;
}

int cw_queue_poll(struct cw_queue *queue, struct cw_event *events_out, int max)
{
	int count = 0, status = queue ? cw__engine_check(queue->engine) : cw__fail(CW_ERR_INVALID, "no queue");
	uint64_t value;

	if (!status && (!events_out || max < 1))
		status = cw__fail(CW_ERR_INVALID, "room for at least one event is needed");
	if (status)
		return status;
	if (!queue->engine->thread_count && queue == &queue->engine->queue)
		cw_engine_progress(queue->engine);
	if (!(atomic_load_explicit(&queue->pending, memory_order_acquire) & PENDING))
		return 0;
	pthread_mutex_lock(&queue->lock);
	while (count < max && take(queue, &events_out[count]))
		count++;
	if (cw__list_empty(&queue->batches) && cw__list_empty(&queue->entries)) {
		atomic_fetch_and_explicit(&queue->pending, ~PENDING, memory_order_seq_cst);
		if (queue->signaled && read(queue->event_fd, &value, sizeof(value)) == sizeof(value))
			queue->signaled = 0;
	}
	pthread_mutex_unlock(&queue->lock);
	for (int i = 0; i < count; i++)
		if (events_out[i].batch)
			events_out[i].batch = give_up(events_out[i].batch);
	return count;
}

int cw_queue_wait(struct cw_queue *queue, struct cw_event *events_out, int max, uint64_t timeout)
{
	uint64_t until = timeout ? cw__after(cw__now(), timeout) : 0;

	for (;;) {
		int count = cw_queue_poll(queue, events_out, max);

		if (count)
			return count;
		if (cw__loop_wait(&queue->engine->loops[0], &queue->pending, PENDING, until))
			return 0;
	}
}

void cw_event_clear(struct cw_event *event)
{
	if (!event || !event->storage)
		return;
	entry_free(event->storage);
	memset(event, 0, sizeof(*event));
}

int cw_queue_fd(struct cw_queue *queue)
{
	return queue ? queue->fd : -1;
}

int cw_queue_arm(struct cw_queue *queue)
{
	int status = queue ? cw__engine_check(queue->engine) : cw__fail(CW_ERR_INVALID, "no queue");

	if (status)
		return status;
	pthread_mutex_lock(&queue->lock);
	if (atomic_load_explicit(&queue->pending, memory_order_acquire) & PENDING)
		status = CW_ERR_BUSY;
	else
		queue->armed = 1;
	pthread_mutex_unlock(&queue->lock);
	return status;
}

/* ------------------------------------------------------------------------------------ opening, closing */

/* When the caller drives, the fd of the default queue also tells that a loop has something to do. */
static int nest_loops(struct cw_queue *queue)
{
	struct cw_engine *engine = queue->engine;
	struct epoll_event event = { .events = EPOLLIN };

	queue->fd = epoll_create1(EPOLL_CLOEXEC);
	if (queue->fd < 0 || epoll_ctl(queue->fd, EPOLL_CTL_ADD, queue->event_fd, &event))
		return CW_ERR_LIMIT;
	for (unsigned i = 0; i < engine->loop_count; i++)
		if (epoll_ctl(queue->fd, EPOLL_CTL_ADD, engine->loops[i].epoll_fd, &event))
			return CW_ERR_LIMIT;
	return CW_OK;
}

int cw__queue_init(struct cw_queue *queue, struct cw_engine *engine)
{
	int status = CW_OK;

	memset(queue, 0, sizeof(*queue));
	queue->engine = engine;
	cw__list_init(&queue->node);
	cw__list_init(&queue->batches);
	cw__list_init(&queue->entries);
	pthread_mutex_init(&queue->lock, NULL);
	queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->fd = queue->event_fd;
	if (queue->event_fd < 0)
		status = CW_ERR_LIMIT;
	else if (!engine->thread_count && queue == &engine->queue)
		status = nest_loops(queue);
	return status ? cw__fail(status, "cannot open a queue: %s; raise the limit of open files", strerror(errno))
		      : CW_OK;
}

void cw__queue_destroy(struct cw_queue *queue)
{
	struct cw_event event;

	while (take(queue, &event)) {
		if (event.batch)
			cw__batch_put(event.batch);
		cw_event_clear(&event);
	}
	if (queue->fd != queue->event_fd && queue->fd >= 0)
		close(queue->fd);
	if (queue->event_fd >= 0)
		close(queue->event_fd);
	pthread_mutex_destroy(&queue->lock);
}

struct cw_queue *cw_engine_queue(struct cw_engine *engine)
{
	return cw__engine_check(engine) ? NULL : &engine->queue;
}

int cw_queue_open(struct cw_engine *engine, struct cw_queue **queue_out)
{
	int status = cw__engine_check(engine);
	struct cw_queue *queue;

	if (status)
		return status;
	queue = malloc(sizeof(*queue));
	if (!queue)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	status = cw__queue_init(queue, engine);
	if (status) {
		cw__queue_destroy(queue);
		free(queue);
		return status;
	}
	pthread_mutex_lock(&engine->lock);
	cw__list_push_back(&engine->queues, &queue->node);
	pthread_mutex_unlock(&engine->lock);
	*queue_out = queue;
	return CW_OK;
}

void cw_queue_close(struct cw_queue *queue)
{
	if (!queue || cw__engine_check(queue->engine) || queue == &queue->engine->queue)
		return;
	pthread_mutex_lock(&queue->engine->lock);
	cw__list_remove(&queue->node);
	pthread_mutex_unlock(&queue->engine->lock);
	pthread_mutex_lock(&queue->lock); /* the last batch may still be telling its end */
	pthread_mutex_unlock(&queue->lock);
	cw__queue_destroy(queue);
	free(queue);
}
