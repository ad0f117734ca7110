/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of the library that belong to an engine: segments, batches, counters, queues. They may be dropped in any
 * order, while other threads use them, and after their engine was closed.
 */
#include "face.h"

#include <stdlib.h>

/* A batch whose last object went while its engine was being closed. */
struct orphan {
	struct link link;
	void (*close)(void *raw);
	void *raw;
};

PyObject *handle_new(PyTypeObject *type, struct engine *engine, const struct handle_kind *kind, void *raw)
{
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct handle *handle = (struct handle *)allocate(type, 0);

	if (!handle) {
		kind->close(raw);
		return NULL;
	}
	Py_INCREF((PyObject *)engine);
	handle->engine = engine;
	handle->kind = kind;
	handle->raw = raw;
	link_add(&engine->handles, &handle->link);
	return (PyObject *)handle;
}

static int alive(struct handle *handle)
{
	struct engine *engine = handle->engine;

	if (engine_forked(engine)) {
		raise_text(CW_ERR_FORKED, "this %s belongs to the parent process; open an engine after fork()",
			   handle->kind->what);
		return 0;
	}
	if (!handle->raw || handle->closing) {
		raise_text(CW_ERR_CLOSED, "this %s is closed", handle->kind->what);
		return 0;
	}
	if (engine->state == ENGINE_CLOSING || (engine->state == ENGINE_CLOSED && handle->kind->fate != OUTLIVES)) {
		raise_text(CW_ERR_CLOSED, "the engine of this %s is closed", handle->kind->what);
		return 0;
	}
	return 1;
}

void *handle_enter(PyObject *self)
{
	struct handle *handle = (struct handle *)self;

	if (!alive(handle))
		return NULL;
	handle->users++;
	handle->engine->users++;
	return handle->raw;
}

static void finish(struct handle *handle)
{
	struct engine *engine = handle->engine;
	void *raw = handle->raw;
	struct orphan *orphan;

	handle->raw = NULL;
	link_remove(&handle->link);
	if (!raw || engine_forked(engine))
		return; /* everything is the parent's */
	if (engine->state == ENGINE_OPEN && handle->kind->fate != OUTLIVES) {
		void (*close)(void *) = handle->kind->close;

		engine->users++; /* locks are taken that others may hold for long */
		Py_BEGIN_ALLOW_THREADS
		close(raw);
		Py_END_ALLOW_THREADS
		engine_leave(engine);
		return;
	}
	if (engine->state != ENGINE_CLOSING && handle->kind->fate == OUTLIVES) {
		handle->kind->close(raw);
		return;
	}
	if (handle->kind->fate != OUTLIVES)
		return; /* it goes with the engine */
	orphan = malloc(sizeof(*orphan));
	if (!orphan)
		return; /* better lost than freed under the engine's hands */
	orphan->close = handle->kind->close;
	orphan->raw = raw;
	link_add(&engine->orphans, &orphan->link);
}

void handle_leave(PyObject *self)
{
	struct handle *handle = (struct handle *)self;

	if (--handle->users == 0 && handle->closing)
		finish(handle);
	engine_leave(handle->engine);
}

void handle_end(struct handle *handle)
{
	if (handle->closing || !handle->raw)
		return;
	handle->closing = 1;
	if (!handle->users)
		finish(handle);
}

void handle_free(PyObject *self)
{
	struct handle *handle = (struct handle *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	if (handle->engine) {
		handle_end(handle);
		link_remove(&handle->link);
		Py_DECREF((PyObject *)handle->engine);
	}
	release(self);
	Py_DECREF(type);
}

PyObject *handle_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	handle_end((struct handle *)self);
	Py_RETURN_NONE;
}

PyObject *handle_exit(PyObject *self, PyObject *args)
{
	return handle_close(self, args);
}

PyObject *no_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	(void)args;
	(void)kwargs;
	return PyErr_Format(PyExc_TypeError, "%R is made by an engine", type);
}

PyObject *enter_self(PyObject *self, PyObject *unused)
{
	(void)unused;
	Py_INCREF(self);
	return self;
}

PyObject *handle_closed(PyObject *self, void *unused)
{
	struct handle *handle = (struct handle *)self;

	(void)unused;
	return PyBool_FromLong(!handle->raw || handle->closing ||
			       (handle->engine->state != ENGINE_OPEN && handle->kind->fate != OUTLIVES));
}

PyObject *handle_engine(PyObject *self, void *unused)
{
	PyObject *engine = (PyObject *)((struct handle *)self)->engine;

	(void)unused;
	Py_INCREF((PyObject *)engine);
	return engine;
}

static void each_of(struct engine *engine, enum handle_fate fate, int close)
{
	struct link *next;

	for (struct link *link = engine->handles.next; link != &engine->handles; link = next) {
		struct handle *handle = container(link, struct handle, link);

		next = link->next;
		if (handle->kind->fate != fate)
			continue;
		if (close && handle->raw)
			handle->kind->close(handle->raw);
		handle->raw = NULL;
		link_remove(link);
	}
}

void handles_before_close(struct engine *engine)
{
	each_of(engine, CLOSED_BEFORE, 1);
}

void handles_after_close(struct engine *engine)
{
	each_of(engine, GOES_WITH, 0);
	while (engine->orphans.next != &engine->orphans) {
		struct orphan *orphan = container(engine->orphans.next, struct orphan, link);

		link_remove(&orphan->link);
		orphan->close(orphan->raw);
		free(orphan);
	}
}
