/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications, which come to the engine's default queue. Other events of that queue are passed over. */
#include "face.h"

#include <string.h>

#define NOTIFY_NS (5 * SECOND_NS) /* when the caller names no time */

int to_message(PyObject *name, PyObject *data, PyObject *kept, struct cw_notify *notify_out)
{
	PyObject *bytes;
	char *start;
	Py_ssize_t length;

	if (!to_text(name, "name", 1, &notify_out->name))
		return 0;
	if (PyUnicode_Check(data))
		bytes = PyUnicode_AsUTF8String(data);
	else if (PyObject_CheckBuffer(data))
		bytes = PyBytes_FromObject(data);
	else
		bytes = PyErr_Format(PyExc_TypeError, "data: bytes or str are needed, not %R", Py_TYPE(data));
	if (!bytes || PyList_Append(kept, bytes) || PyBytes_AsStringAndSize(bytes, &start, &length)) {
		Py_XDECREF(bytes);
		return 0;
	}
	Py_DECREF(bytes);
	notify_out->data = start;
	notify_out->length = (size_t)length;
	return 1;
}

PyObject *engine_notify(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "segment", "data", "name", "timeout", NULL };
	static const struct parameters parameters = { "notify", names, 2, 2 };
	struct engine *engine = (struct engine *)self;
	struct options options;
	struct cw_notify notify = { 0 };
	PyObject *values[4];
	uint64_t timeout;
	int status = -1, sent = 0;

	if (!take_arguments(&parameters, args, kwargs, values, NULL) ||
	    !to_duration(values[3], "timeout", NOTIFY_NS, &timeout))
		return NULL;
	if (options_take("notify", NULL, engine, &options) &&
	    (notify.segment = options_enter(&options, values[0], segment_type, "segment")) != NULL &&
	    to_message(values[2], values[1], options.kept, &notify)) {
		sent = 1;
		Py_BEGIN_ALLOW_THREADS
		status = cw_notify_send(engine->raw, &notify, timeout);
		Py_END_ALLOW_THREADS
		if (status)
			raise_status(status);
	}
	options_free(&options);
	if (!sent || status)
		return NULL;
	Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------------------------ receiving */

/* A new Notification; clears the event. */
static PyObject *make_notification(struct cw_event *event)
{
	PyObject *made = make("Notification", "(NNy#)",
			      PyUnicode_DecodeUTF8(event->sender, (Py_ssize_t)strlen(event->sender), "replace"),
			      PyUnicode_DecodeUTF8(event->name, (Py_ssize_t)strlen(event->name), "replace"),
			      event->length ? (const char *)event->data : "", (Py_ssize_t)event->length);

	cw_event_clear(event);
	return made;
}

/* Whoever finds the queue empty arms it for event loops. 1 = something came meanwhile. */
static int arm_again(struct engine *engine)
{
	return engine->listeners && cw_queue_arm(cw_engine_queue(engine->raw)) == CW_ERR_BUSY;
}

PyObject *engine_notifications(PyObject *self, PyObject *unused)
{
	struct engine *engine = (struct engine *)self;
	struct cw_event events[32];
	PyObject *list;
	int count = 0;

	(void)unused;
	if (engine_enter(engine))
		return NULL;
	list = PyList_New(0);
	while (list && ((count = cw_queue_poll(cw_engine_queue(engine->raw), events, 32)) > 0 || arm_again(engine))) {
		for (int i = 0; i < count; i++) {
			PyObject *made = NULL;

			if (events[i].kind != CW_EVENT_NOTIFY)
				continue;
			made = make_notification(&events[i]);
			if (list && (!made || PyList_Append(list, made)))
				Py_CLEAR(list);
			Py_XDECREF(made);
		}
	}
	engine_leave(engine);
	if (list && count < 0) {
		Py_DECREF(list);
		return raise_status(count);
	}
	return list;
}

/* _take_notification() -> the next one, or None; then the queue is armed for event loops, if there are any. */
PyObject *engine_take_notification(PyObject *self, PyObject *unused)
{
	struct engine *engine = (struct engine *)self;
	struct cw_event event;
	int count;

	(void)unused;
	if (engine_enter(engine))
		return NULL;
	do
		count = cw_queue_poll(cw_engine_queue(engine->raw), &event, 1);
	while (count > 0 ? event.kind != CW_EVENT_NOTIFY : !count && arm_again(engine));
	engine_leave(engine);
	if (count < 0)
		return raise_status(count);
	if (count)
		return make_notification(&event);
	Py_RETURN_NONE;
}

PyObject *engine_wait_notification(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "timeout", NULL };
	static const struct parameters parameters = { "wait_notification", names, 1, 0 };
	struct engine *engine = (struct engine *)self;
	struct cw_event event;
	PyObject *value;
	uint64_t timeout, now, until;

	if (!take_arguments(&parameters, args, kwargs, &value, NULL) ||
	    !to_duration(value, "timeout", CW_FOREVER, &timeout))
		return NULL;
	now = monotonic_ns();
	until = timeout > CW_FOREVER - now ? CW_FOREVER : now + timeout;
	for (;;) {
		uint64_t left = until > now ? until - now : 0;
		int count;

		if (engine_enter(engine))
			return NULL;
		Py_BEGIN_ALLOW_THREADS
		count = cw_queue_wait(cw_engine_queue(engine->raw), &event, 1, left < WAIT_PIECE ? left : WAIT_PIECE);
		Py_END_ALLOW_THREADS
		while (!count && arm_again(engine))
			count = cw_queue_poll(cw_engine_queue(engine->raw), &event, 1);
		engine_leave(engine);
		if (count < 0)
			return raise_status(count);
		if (count && event.kind == CW_EVENT_NOTIFY)
			return make_notification(&event);
		now = monotonic_ns();
		if (PyErr_CheckSignals())
			return NULL;
		if (!count && now >= until)
			Py_RETURN_NONE;
	}
}

PyObject *engine_notification_fd(PyObject *self, PyObject *unused)
{
	struct engine *engine = (struct engine *)self;

	(void)unused;
	return engine_check(engine) ? NULL : PyLong_FromLong(cw_queue_fd(cw_engine_queue(engine->raw)));
}

/* _listen(change): so many event loops more want to hear of notifications. */
PyObject *engine_listen(PyObject *self, PyObject *args)
{
	struct engine *engine = (struct engine *)self;
	int change;

	if (!PyArg_ParseTuple(args, "i:_listen", &change))
		return NULL;
	engine->listeners = (unsigned)((int)engine->listeners + change);
	Py_RETURN_NONE;
}
