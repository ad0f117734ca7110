/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: one worker thread each, which does in order what was put in; so everything happens later than the call, and
 * streams run side by side. Everything that is put in gets the next number, and an event is the number that was the
 * last when it was recorded: asking it is one comparison. What fails later is reported by every event and question
 * about the stream that covers it, but not by events that are recorded after it was reported for the first time: what
 * comes later works again.
 *
 * The default stream of a device and its blocking streams wait for each other, as the vendors' legacy stream does.
 * Streams and events are never given back to malloc, so that a stale handle is recognised instead of followed.
 * Locks: device before stream; event before stream.
 */
#include "state.h"

#include <stdlib.h>

#define ERRORS 16
#define OF_STREAM (UINT64_MAX - 1) /* in place of a record's number: reports what nobody has reported */
#define DEFAULT_HANDLE ((struct cw__emu_stream *)1)

enum task_kind { COPY, WAIT, CALL };

struct task {
	struct task *next;
	int kind;
	struct cw__emu_work work;      /* COPY */
	struct cw__emu_stream *stream; /* WAIT: for number `until` of this one; held */
	uint64_t until;
	void (*fn)(void *arg); /* CALL */
	void *arg;
	struct cw__emu_fault fault;
};

struct cw__emu_stream {
	pthread_mutex_t lock;
	pthread_cond_t put, done_more;
	int device, blocking;
	uint32_t id;
	_Atomic int live; /* 0 = the application has destroyed it */
	_Atomic uint32_t refs;
	_Atomic uint64_t submitted, done; /* numbers; written under lock */
	/* Under lock: */
	struct task *head, **tail, *spare;
	int has_worker, idle;
	unsigned waiters;
	uint64_t records; /* how often an event was recorded */
	struct {
		uint64_t number;
		uint64_t last_record; /* that reports it; all, as long as nobody has reported it */
		int status;
	} errors[ERRORS];
	_Atomic unsigned error_count; /* written under lock */
	/* Under the device's lock: */
	struct cw__emu_stream *next;
	/* Under the pool's lock: */
	struct cw__emu_stream *free_next;
};

struct cw__emu_event {
	pthread_mutex_t lock;
	_Atomic int live;
	int device;
	struct cw__emu_stream *stream; /* where it was recorded last, held; NULL = nowhere yet */
	uint64_t until;                /* the last number that it stands for */
	uint64_t record;               /* which of the stream's records this is */
	struct cw__emu_event *free_next;
};

static struct device {
	pthread_mutex_t lock;
	struct cw__emu_stream *streams;          /* live ones, and destroyed ones that are not done */
	struct cw__emu_stream *_Atomic standard; /* the default stream, made when needed */
	_Atomic uint32_t pending;                /* tasks of blocking streams and the default one that are not done */
} devices[CW__WORLD_DEVICES];

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cw__emu_stream *free_streams;
static struct cw__emu_event *free_events;
static uint32_t last_id;

static void prepare_devices(void)
{
	for (int i = 0; i < CW__WORLD_DEVICES; i++)
		pthread_mutex_init(&devices[i].lock, NULL);
}

static struct device *device_of(int index)
{
	pthread_once(&once, prepare_devices);
	return &devices[index];
}

/* A new stream, with one reference, in its device's list. */
static struct cw__emu_stream *new_stream(int device, int blocking)
{
	struct device *owner = device_of(device);
	struct cw__emu_stream *stream;

	pthread_mutex_lock(&pool_lock);
	stream = free_streams;
	if (stream) {
		free_streams = stream->free_next;
	} else {
		stream = calloc(1, sizeof(*stream));
		if (stream) {
			pthread_mutex_init(&stream->lock, NULL);
			pthread_cond_init(&stream->put, NULL);
			pthread_cond_init(&stream->done_more, NULL);
			stream->tail = &stream->head;
		}
	}
	if (stream)
		stream->id = ++last_id;
	pthread_mutex_unlock(&pool_lock);
	if (!stream)
		return NULL;

	stream->device = device;
	stream->blocking = blocking;
	atomic_store(&stream->error_count, 0);
	atomic_store(&stream->refs, 1);
	atomic_store(&stream->live, 1);
	pthread_mutex_lock(&owner->lock);
	stream->next = owner->streams;
	owner->streams = stream;
	pthread_mutex_unlock(&owner->lock);
	return stream;
}

static void hold(struct cw__emu_stream *stream)
{
	atomic_fetch_add_explicit(&stream->refs, 1, memory_order_relaxed);
}

/* The last reference: nobody uses it, its worker is gone, it is in no list. Its numbers go on where they are. */
static void drop(struct cw__emu_stream *stream)
{
	if (atomic_fetch_sub_explicit(&stream->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_lock(&pool_lock);
	stream->free_next = free_streams;
	free_streams = stream;
	pthread_mutex_unlock(&pool_lock);
}

static void leave_device(struct cw__emu_stream *stream)
{
	struct device *owner = &devices[stream->device];
	struct cw__emu_stream **at = &owner->streams;

	pthread_mutex_lock(&owner->lock);
	while (*at && *at != stream)
		at = &(*at)->next;
	if (*at)
		*at = stream->next;
	pthread_mutex_unlock(&owner->lock);
}

static int is_done(struct cw__emu_stream *stream, uint64_t number)
{
	/* Pairs with the worker's store: what it wrote is visible to whoever sees the number. */
	return atomic_load_explicit(&stream->done, memory_order_acquire) >= number;
}

static void wait_for(struct cw__emu_stream *stream, uint64_t number)
{
	if (is_done(stream, number))
		return;
	pthread_mutex_lock(&stream->lock);
	stream->waiters++;
	while (!is_done(stream, number))
		pthread_cond_wait(&stream->done_more, &stream->lock);
	stream->waiters--;
	pthread_mutex_unlock(&stream->lock);
}

static int run(struct task *task)
{
	switch (task->kind) {
	case COPY:
		return cw__emu_work_run(&task->work);
	case WAIT:
		wait_for(task->stream, task->until);
		drop(task->stream);
		return CW__EMU_OK;
	default:
		if (task->fault.action)
			cw__emu_fault_wait(&task->fault);
		cw__emu_thread.in_host_function = 1;
		task->fn(task->arg);
		cw__emu_thread.in_host_function = 0;
		return CW__EMU_OK;
	}
}

/* After a task: its number is done. Under the stream's lock. */
static void finish(struct cw__emu_stream *stream, struct task *task, int status)
{
	const uint64_t number = atomic_load_explicit(&stream->done, memory_order_relaxed) + 1;

	if (status) {
		const unsigned i = atomic_fetch_add_explicit(&stream->error_count, 1, memory_order_relaxed) % ERRORS;

		stream->errors[i].number = number;
		stream->errors[i].last_record = UINT64_MAX;
		stream->errors[i].status = status;
	}
	task->next = stream->spare;
	stream->spare = task;
	if (stream->blocking)
		atomic_fetch_sub_explicit(&devices[stream->device].pending, 1, memory_order_release);
	atomic_store_explicit(&stream->done, number, memory_order_release);
	if (stream->waiters)
		pthread_cond_broadcast(&stream->done_more);
}

static void *worker(void *arg)
{
	struct cw__emu_stream *stream = arg;

	pthread_mutex_lock(&stream->lock);
	for (;;) {
		struct task *task = stream->head;
		int status;

		if (!task) {
			if (!atomic_load(&stream->live))
				break;
			stream->idle = 1;
			pthread_cond_wait(&stream->put, &stream->lock);
			continue;
		}
		stream->head = task->next;
		if (!stream->head)
			stream->tail = &stream->head;
		pthread_mutex_unlock(&stream->lock);
		status = run(task);
		pthread_mutex_lock(&stream->lock);
		finish(stream, task, status);
	}
	stream->has_worker = 0;
	while (stream->spare) {
		struct task *task = stream->spare;

		stream->spare = task->next;
		free(task);
	}
	pthread_mutex_unlock(&stream->lock);
	leave_device(stream);
	drop(stream);
	return NULL;
}

static int start_worker(struct cw__emu_stream *stream)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int failed;

	if (stream->has_worker)
		return 0;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	hold(stream);
	failed = pthread_create(&thread, &attributes, worker, stream);
	pthread_attr_destroy(&attributes);
	if (failed)
		drop(stream);
	else
		stream->has_worker = 1;
	return failed;
}

/* Puts a task in, under the stream's lock. */
static int put_locked(struct cw__emu_stream *stream, const struct task *filled)
{
	struct task *task = stream->spare;

	if (task)
		stream->spare = task->next;
	else
		task = malloc(sizeof(*task));
	if (!task || start_worker(stream)) {
		free(task);
		return CW__EMU_NO_MEMORY;
	}
	*task = *filled;
	task->next = NULL;
	*stream->tail = task;
	stream->tail = &task->next;
	if (stream->blocking)
		atomic_fetch_add_explicit(&devices[stream->device].pending, 1, memory_order_relaxed);
	atomic_store_explicit(&stream->submitted, atomic_load_explicit(&stream->submitted, memory_order_relaxed) + 1,
			      memory_order_release);
	if (stream->idle) {
		stream->idle = 0;
		pthread_cond_signal(&stream->put);
	}
	return CW__EMU_OK;
}

static int put(struct cw__emu_stream *stream, const struct task *filled)
{
	int status;

	pthread_mutex_lock(&stream->lock);
	status = put_locked(stream, filled);
	pthread_mutex_unlock(&stream->lock);
	return status;
}

/* Later tasks of the stream wait for the number of the other one. */
static int put_wait(struct cw__emu_stream *stream, struct cw__emu_stream *other, uint64_t number)
{
	const struct task task = { .kind = WAIT, .stream = other, .until = number };
	int status;

	if (stream == other || is_done(other, number))
		return CW__EMU_OK;
	hold(other);
	status = put(stream, &task);
	if (status)
		drop(other);
	return status;
}

static uint64_t last_of(struct cw__emu_stream *stream)
{
	return atomic_load_explicit(&stream->submitted, memory_order_acquire);
}

/* The default stream waits for all blocking ones, and they for it. Under the device's lock. */
static int put_legacy(struct device *device, struct cw__emu_stream *stream)
{
	struct cw__emu_stream *standard = atomic_load_explicit(&device->standard, memory_order_relaxed);
	int status = CW__EMU_OK;

	if (standard && stream != standard)
		return put_wait(stream, standard, last_of(standard));
	for (struct cw__emu_stream *other = device->streams; other && !status; other = other->next) {
		if (other->blocking)
			status = put_wait(stream, other, last_of(other));
	}
	return status;
}

static int put_ordered(struct cw__emu_stream *stream, const struct task *task)
{
	struct device *device = &devices[stream->device];
	int status;

	if (!stream->blocking)
		return put(stream, task);
	pthread_mutex_lock(&device->lock);
	status = put_legacy(device, stream);
	if (!status)
		status = put(stream, task);
	pthread_mutex_unlock(&device->lock);
	return status;
}

static struct cw__emu_stream *standard_of(int index)
{
	struct device *device = device_of(index);
	struct cw__emu_stream *stream = atomic_load_explicit(&device->standard, memory_order_acquire);
	struct cw__emu_stream *none = NULL;

	if (stream)
		return stream;
	stream = new_stream(index, 1);
	if (!stream || atomic_compare_exchange_strong(&device->standard, &none, stream))
		return stream;
	leave_device(stream);
	drop(stream);
	return none;
}

/* The stream behind a handle, or NULL. */
static struct cw__emu_stream *resolve(struct cw__emu_stream *stream)
{
	if (!stream || stream == DEFAULT_HANDLE)
		return standard_of(cw__emu_current());
	if ((uintptr_t)stream < 4096 || !atomic_load_explicit(&stream->live, memory_order_acquire))
		return NULL;
	return stream;
}

int cw__emu_stream_open(struct cw__emu_stream **stream_out, int non_blocking)
{
	struct cw__emu_stream *stream;

	if (!stream_out)
		return CW__EMU_BAD_VALUE;
	stream = new_stream(cw__emu_current(), !non_blocking);
	if (!stream)
		return CW__EMU_NO_MEMORY;
	cw__emu_gauge(CW__EMU_LIVE_STREAMS, 1);
	*stream_out = stream;
	return CW__EMU_OK;
}

/* What was put in is still done. */
int cw__emu_stream_close(struct cw__emu_stream *stream)
{
	int has_worker, live = 1;

	if (!stream || (uintptr_t)stream < 4096 || !atomic_compare_exchange_strong(&stream->live, &live, 0))
		return CW__EMU_BAD_HANDLE;
	cw__emu_gauge(CW__EMU_LIVE_STREAMS, -1);
	pthread_mutex_lock(&stream->lock);
	has_worker = stream->has_worker;
	stream->idle = 0;
	pthread_cond_signal(&stream->put);
	pthread_mutex_unlock(&stream->lock);
	if (!has_worker)
		leave_device(stream);
	drop(stream);
	return CW__EMU_OK;
}

/* The error that a record, or a question about the stream itself, has to report for what is done up to `until`. */
static int error_of(struct cw__emu_stream *stream, uint64_t until, uint64_t record)
{
	int status = CW__EMU_OK;

	if (cw__emu_removed(stream->device))
		return CW__EMU_REMOVED;
	if (!atomic_load_explicit(&stream->error_count, memory_order_relaxed))
		return CW__EMU_OK;
	pthread_mutex_lock(&stream->lock);
	for (unsigned i = 0; i < ERRORS && i < atomic_load_explicit(&stream->error_count, memory_order_relaxed); i++) {
		if (stream->errors[i].number > until || record > stream->errors[i].last_record)
			continue;
		if (stream->errors[i].last_record == UINT64_MAX)
			stream->errors[i].last_record = stream->records;
		if (!status)
			status = stream->errors[i].status;
	}
	pthread_mutex_unlock(&stream->lock);
	return status;
}

int cw__emu_stream_query(struct cw__emu_stream *stream)
{
	uint64_t last;

	stream = resolve(stream);
	if (!stream)
		return CW__EMU_BAD_HANDLE;
	last = last_of(stream);
	return is_done(stream, last) ? error_of(stream, last, OF_STREAM) : CW__EMU_NOT_READY;
}

int cw__emu_stream_wait(struct cw__emu_stream *stream)
{
	uint64_t last;

	stream = resolve(stream);
	if (!stream)
		return CW__EMU_BAD_HANDLE;
	hold(stream);
	last = last_of(stream);
	wait_for(stream, last);
	const int status = error_of(stream, last, OF_STREAM);

	drop(stream);
	return status;
}

int cw__emu_stream_device(struct cw__emu_stream *stream)
{
	stream = resolve(stream);
	return stream ? stream->device : CW__EMU_BAD_HANDLE;
}

void cw__emu_stream_argument(struct cw__emu_call *call, struct cw__emu_stream *stream)
{
	if (!call->traced)
		return;
	stream = resolve(stream);
	if (!stream)
		return;
	cw__emu_argument(call, "stream", stream->id);
	cw__emu_argument(call, "stream_device", (uint64_t)cw__emu.index[stream->device]);
}

int cw__emu_stream_copy(struct cw__emu_stream *stream, const struct cw__emu_work *work)
{
	const struct task task = { .kind = COPY, .work = *work };

	stream = resolve(stream);
	return stream ? put_ordered(stream, &task) : CW__EMU_BAD_HANDLE;
}

int cw__emu_stream_call(struct cw__emu_call *call, struct cw__emu_stream *stream, void (*fn)(void *arg), void *arg)
{
	const struct task task = { .kind = CALL, .fn = fn, .arg = arg, .fault = call->fault };

	if (!fn)
		return CW__EMU_BAD_VALUE;
	stream = resolve(stream);
	return stream ? put_ordered(stream, &task) : CW__EMU_BAD_HANDLE;
}

/* Waits for the streams of a device, all or the blocking ones only. */
static int wait_streams(int index, int blocking_only)
{
	struct device *device = device_of(index);
	uint64_t waited = 0;

	for (;;) {
		struct cw__emu_stream *stream;
		uint64_t last = 0;

		pthread_mutex_lock(&device->lock);
		for (stream = device->streams; stream; stream = stream->next) {
			last = last_of(stream);
			if ((stream->blocking || !blocking_only) && !is_done(stream, last))
				break;
		}
		if (stream)
			hold(stream);
		pthread_mutex_unlock(&device->lock);
		if (!stream)
			return CW__EMU_OK;
		wait_for(stream, last);
		drop(stream);
		/* Another thread that puts more and more in must not hold us for ever. */
		if (++waited == 1000)
			return CW__EMU_OK;
	}
}

int cw__emu_stream_wait_device(int device)
{
	wait_streams(device, 0);
	return cw__emu_removed(device) ? CW__EMU_REMOVED : CW__EMU_OK;
}

void cw__emu_stream_before_copy(int device)
{
	/* Pairs with finish(): what the streams did is visible when none has anything left. */
	if (atomic_load_explicit(&devices[device].pending, memory_order_acquire))
		wait_streams(device, 1);
}

int cw__emu_event_open(struct cw__emu_event **event_out)
{
	struct cw__emu_event *event;

	if (!event_out)
		return CW__EMU_BAD_VALUE;
	pthread_mutex_lock(&pool_lock);
	event = free_events;
	if (event) {
		free_events = event->free_next;
	} else {
		event = calloc(1, sizeof(*event));
		if (event)
			pthread_mutex_init(&event->lock, NULL);
	}
	pthread_mutex_unlock(&pool_lock);
	if (!event)
		return CW__EMU_NO_MEMORY;
	event->device = cw__emu_current();
	event->stream = NULL;
	event->until = 0;
	atomic_store(&event->live, 1);
	cw__emu_gauge(CW__EMU_LIVE_EVENTS, 1);
	*event_out = event;
	return CW__EMU_OK;
}

static int is_event(struct cw__emu_event *event)
{
	return (uintptr_t)event >= 4096 && atomic_load_explicit(&event->live, memory_order_acquire);
}

int cw__emu_event_close(struct cw__emu_event *event)
{
	struct cw__emu_stream *stream;
	int live = 1;

	if ((uintptr_t)event < 4096 || !atomic_compare_exchange_strong(&event->live, &live, 0))
		return CW__EMU_BAD_HANDLE;
	cw__emu_gauge(CW__EMU_LIVE_EVENTS, -1);
	pthread_mutex_lock(&event->lock);
	stream = event->stream;
	event->stream = NULL;
	pthread_mutex_unlock(&event->lock);
	if (stream)
		drop(stream);
	pthread_mutex_lock(&pool_lock);
	event->free_next = free_events;
	free_events = event;
	pthread_mutex_unlock(&pool_lock);
	return CW__EMU_OK;
}

int cw__emu_event_record(struct cw__emu_event *event, struct cw__emu_stream *stream)
{
	struct cw__emu_stream *before;

	stream = resolve(stream);
	if (!stream || !is_event(event) || event->device != stream->device)
		return CW__EMU_BAD_HANDLE;
	hold(stream);
	pthread_mutex_lock(&event->lock);
	before = event->stream;
	event->stream = stream;
	pthread_mutex_lock(&stream->lock);
	event->until = last_of(stream);
	event->record = ++stream->records;
	pthread_mutex_unlock(&stream->lock);
	pthread_mutex_unlock(&event->lock);
	if (before)
		drop(before);
	return CW__EMU_OK;
}

/* What the event stands for at this moment; the stream held. 0 = it was never recorded. */
static int look_at(struct cw__emu_event *event, struct cw__emu_stream **stream_out, uint64_t *until_out,
		   uint64_t *record_out)
{
	pthread_mutex_lock(&event->lock);
	*stream_out = event->stream;
	*until_out = event->until;
	*record_out = event->record;
	if (*stream_out)
		hold(*stream_out);
	pthread_mutex_unlock(&event->lock);
	return *stream_out != NULL;
}

static int ask_event(struct cw__emu_event *event, int wait)
{
	struct cw__emu_stream *stream;
	uint64_t until, record;
	int status = CW__EMU_NOT_READY;

	if (!is_event(event))
		return CW__EMU_BAD_HANDLE;
	if (!look_at(event, &stream, &until, &record))
		return CW__EMU_OK;
	if (wait)
		wait_for(stream, until);
	if (is_done(stream, until))
		status = error_of(stream, until, record);
	drop(stream);
	return status;
}

int cw__emu_event_query(struct cw__emu_event *event)
{
	return ask_event(event, 0);
}

int cw__emu_event_wait(struct cw__emu_event *event)
{
	return ask_event(event, 1);
}

int cw__emu_stream_wait_event(struct cw__emu_stream *stream, struct cw__emu_event *event)
{
	struct cw__emu_stream *other;
	uint64_t until, record;
	int status;

	stream = resolve(stream);
	if (!stream || !is_event(event))
		return CW__EMU_BAD_HANDLE;
	if (!look_at(event, &other, &until, &record))
		return CW__EMU_OK;
	status = put_wait(stream, other, until);
	drop(other);
	return status;
}
