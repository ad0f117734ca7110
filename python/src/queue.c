/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue for one event loop, used by causeway/_aio.py: it tells when batches end. A batch that is awaited is the
 * prerequisite of another, empty one that names the queue, so that any batch can be awaited in any loop, at any time.
 */
#include "face.h"

PyTypeObject *queue_type;

struct queue {
	struct handle base;
	unsigned watched; /* batches that name it and have not been polled */
};

static void close_queue(void *raw)
{
	cw_queue_close(raw);
}

static const struct handle_kind kind = { "queue", GOES_WITH, close_queue };

/* Queue(engine) */
static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct cw_queue *raw = NULL;
	struct engine *engine;
	PyObject *object;
	int status;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!:Queue", engine_type, &object))
		return NULL;
	engine = (struct engine *)object;
	if (engine_check(engine))
		return NULL;
	status = cw_queue_open(engine->raw, &raw);
	return status ? raise_status(status) : handle_new(type, engine, &kind, raw);
}

static PyObject *queue_fileno(PyObject *self, PyObject *unused)
{
	struct cw_queue *raw = handle_enter(self);
	int fd;

	(void)unused;
	if (!raw)
		return NULL;
	fd = cw_queue_fd(raw);
	handle_leave(self);
	return PyLong_FromLong(fd);
}

/* watch(batch, token) -> the empty batch that ends when batch has */
static PyObject *queue_watch(PyObject *self, PyObject *args)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct engine *engine = ((struct handle *)self)->engine;
	struct cw_batch *after, *raw = NULL;
	unsigned long long token;
	PyObject *batch, *watch = NULL;
	int status;

	if (!PyArg_ParseTuple(args, "O!K:watch", batch_type, &batch, &token))
		return NULL;
	options.queue = handle_enter(self);
	if (!options.queue)
		return NULL;
	after = handle_enter(batch);
	if (after) {
		options.after = &after;
		options.after_count = 1;
		options.deadline_ns = CW_FOREVER;
		options.arg = (void *)(uintptr_t)token;
		status = cw_batch_submit(engine->raw, NULL, 0, &options, &raw);
		handle_leave(batch);
		if (status) {
			raise_status(status);
		} else {
			((struct queue *)self)->watched++;
			watch = batch_wrap(engine, raw);
		}
	}
	handle_leave(self);
	return watch;
}

/* poll() -> tokens of ended batches. Arms the queue when there are no more. */
static PyObject *queue_poll(PyObject *self, PyObject *unused)
{
	struct cw_queue *raw = handle_enter(self);
	PyObject *list = raw ? PyList_New(0) : NULL;
	struct cw_event events[64];
	int count = 0;

	(void)unused;
	if (!raw)
		return NULL;
	while (list && ((count = cw_queue_poll(raw, events, 64)) > 0 || cw_queue_arm(raw) == CW_ERR_BUSY)) {
		for (int i = 0; i < count; i++) {
			PyObject *token = PyLong_FromUnsignedLongLong((uintptr_t)events[i].arg);

			cw_event_clear(&events[i]);
			((struct queue *)self)->watched--;
			if (list && (!token || PyList_Append(list, token)))
				Py_CLEAR(list);
			Py_XDECREF(token);
		}
	}
	handle_leave(self);
	return list;
}

/* An engine has its queues in its dict, and a queue its engine. */
static int queue_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT((PyObject *)((struct handle *)self)->engine);
	return 0;
}

/* The library must not lose a queue that batches name; then it goes with the engine. */
static void queue_free(PyObject *self)
{
	struct queue *queue = (struct queue *)self;

	PyObject_GC_UnTrack(self);
	if (queue->watched && queue->base.raw) {
		queue->base.raw = NULL;
		link_remove(&queue->base.link);
	}
	handle_free(self);
}

static PyMethodDef methods[] = {
	{ "fileno", queue_fileno, METH_NOARGS, NULL },
	{ "watch", queue_watch, METH_VARARGS, NULL },
	{ "poll", queue_poll, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef getset[] = {
	{ "closed", handle_closed, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_new, queue_new },   { Py_tp_dealloc, queue_free }, { Py_tp_traverse, queue_traverse },
	{ Py_tp_methods, methods }, { Py_tp_getset, getset },      { 0, NULL },
};

static PyType_Spec spec = { "causeway._causeway.Queue", sizeof(struct queue), 0,
			    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots };

int add_queue(PyObject *module)
{
	return add_type(module, &spec, &queue_type);
}
