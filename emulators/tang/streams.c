/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated Tang runtime: streams and events. Their handles are the core's.
 */
#include "face.h"

static struct cw__emu_stream *stream_of(struct cw__tang_stream *stream)
{
	return (struct cw__emu_stream *)stream;
}

static struct cw__emu_event *event_of(struct cw__tang_event *event)
{
	return (struct cw__emu_event *)event;
}

static int stream_open(enum cw__tang_symbol symbol, struct cw__tang_stream **stream_out, unsigned flags)
{
	struct cw__emu_call call = cw__tang_call(symbol, 0);
	struct cw__emu_stream *stream = NULL;
	int status = cw__emu_begin(&call);

	if (!status && (!stream_out || flags & ~(unsigned)CW__TANG_STREAM_NON_BLOCKING))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		status = cw__emu_stream_open(&stream, (flags & CW__TANG_STREAM_NON_BLOCKING) != 0);
	if (!status) {
		cw__emu_stream_argument(&call, stream);
		*stream_out = (struct cw__tang_stream *)stream;
	}
	return cw__emu_end(&call, status);
}

int tangStreamCreate(struct cw__tang_stream **stream_out)
{
	return stream_open(CW__TANG_tangStreamCreate, stream_out, CW__TANG_STREAM_DEFAULT);
}

int tangStreamCreateWithFlags(struct cw__tang_stream **stream_out, unsigned flags)
{
	return stream_open(CW__TANG_tangStreamCreateWithFlags, stream_out, flags);
}

/* A call whose only argument is a stream. */
static int on_stream(enum cw__tang_symbol symbol, struct cw__tang_stream *stream,
		     int (*fn)(struct cw__emu_stream *stream))
{
	struct cw__emu_call call = cw__tang_call(symbol, 0);
	int status = cw__emu_begin(&call);

	if (!status) {
		cw__emu_stream_argument(&call, stream_of(stream));
		status = fn(stream_of(stream));
	}
	return cw__emu_end(&call, status);
}

int tangStreamDestroy(struct cw__tang_stream *stream)
{
	return on_stream(CW__TANG_tangStreamDestroy, stream, cw__emu_stream_close);
}

int tangStreamQuery(struct cw__tang_stream *stream)
{
	return on_stream(CW__TANG_tangStreamQuery, stream, cw__emu_stream_query);
}

int tangStreamSynchronize(struct cw__tang_stream *stream)
{
	return on_stream(CW__TANG_tangStreamSynchronize, stream, cw__emu_stream_wait);
}

int tangStreamWaitEvent(struct cw__tang_stream *stream, struct cw__tang_event *event, unsigned flags)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangStreamWaitEvent, 0);
	int status = cw__emu_begin(&call);

	if (!status) {
		cw__emu_stream_argument(&call, stream_of(stream));
		cw__emu_argument(&call, "event", cw__tang_number(event));
		status = flags ? CW__EMU_BAD_VALUE : cw__emu_stream_wait_event(stream_of(stream), event_of(event));
	}
	return cw__emu_end(&call, status);
}

int tangLaunchHostFunc(struct cw__tang_stream *stream, void (*fn)(void *arg), void *arg)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangLaunchHostFunc, 0);
	int status = cw__emu_begin(&call);

	if (!status) {
		cw__emu_stream_argument(&call, stream_of(stream));
		status = cw__emu_stream_call(&call, stream_of(stream), fn, arg);
	}
	return cw__emu_end(&call, status);
}

static int event_open(enum cw__tang_symbol symbol, struct cw__tang_event **event_out, unsigned flags)
{
	const unsigned known = CW__TANG_EVENT_BLOCKING_SYNC | CW__TANG_EVENT_DISABLE_TIMING;
	struct cw__emu_call call = cw__tang_call(symbol, 0);
	struct cw__emu_event *event = NULL;
	int status = cw__emu_begin(&call);

	if (!status && flags & CW__TANG_EVENT_INTERPROCESS)
		status = CW__EMU_NOT_SUPPORTED;
	else if (!status && (!event_out || flags & ~known))
		status = CW__EMU_BAD_VALUE;
	if (!status)
		status = cw__emu_event_open(&event);
	if (!status) {
		cw__emu_argument(&call, "event", cw__tang_number(event));
		*event_out = (struct cw__tang_event *)event;
	}
	return cw__emu_end(&call, status);
}

int tangEventCreate(struct cw__tang_event **event_out)
{
	return event_open(CW__TANG_tangEventCreate, event_out, CW__TANG_EVENT_DEFAULT);
}

int tangEventCreateWithFlags(struct cw__tang_event **event_out, unsigned flags)
{
	return event_open(CW__TANG_tangEventCreateWithFlags, event_out, flags);
}

int tangEventRecord(struct cw__tang_event *event, struct cw__tang_stream *stream)
{
	struct cw__emu_call call = cw__tang_call(CW__TANG_tangEventRecord, 0);
	int status = cw__emu_begin(&call);

	if (!status) {
		cw__emu_stream_argument(&call, stream_of(stream));
		cw__emu_argument(&call, "event", cw__tang_number(event));
		status = cw__emu_event_record(event_of(event), stream_of(stream));
	}
	return cw__emu_end(&call, status);
}

/* A call whose only argument is an event. */
static int on_event(enum cw__tang_symbol symbol, struct cw__tang_event *event, int (*fn)(struct cw__emu_event *event))
{
	struct cw__emu_call call = cw__tang_call(symbol, 0);
	int status = cw__emu_begin(&call);

	cw__emu_argument(&call, "event", cw__tang_number(event));
	if (!status)
		status = fn(event_of(event));
	return cw__emu_end(&call, status);
}

int tangEventQuery(struct cw__tang_event *event)
{
	return on_event(CW__TANG_tangEventQuery, event, cw__emu_event_query);
}

int tangEventSynchronize(struct cw__tang_event *event)
{
	return on_event(CW__TANG_tangEventSynchronize, event, cw__emu_event_wait);
}

int tangEventDestroy(struct cw__tang_event *event)
{
	return on_event(CW__TANG_tangEventDestroy, event, cw__emu_event_close);
}
