/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: opening, closing and who may use it in between. Its methods are in the files of what they are about; the
 * class that users see is derived from this one in causeway/_engine.py.
 */
#include "face.h"

#include <docs.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

PyTypeObject *engine_type;

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

int engine_forked(const struct engine *engine)
{
	return engine->process && engine->process != getpid();
}

int engine_check(struct engine *engine)
{
	if (engine_forked(engine))
		raise_text(CW_ERR_FORKED, "this engine belongs to the parent process; open one after fork()");
	else if (engine->state != ENGINE_OPEN)
		raise_text(CW_ERR_CLOSED, "this engine is closed");
	else
		return 0;
	return -1;
}

int engine_enter(struct engine *engine)
{
	if (engine_check(engine))
		return -1;
	engine->users++;
	return 0;
}

void engine_leave(struct engine *engine)
{
	if (--engine->users == 0 && engine->state == ENGINE_CLOSING)
		sem_post(&engine->idle);
}

/* -------------------------------------------------------------------------------------------- opening */

struct settings {
	struct cw_setting *rows;
	PyObject *kept; /* the objects that rows borrow from */
};

static const char *setting_text(PyObject *key, PyObject *value, PyObject *kept)
{
	const char *text = NULL;
	PyObject *object;

	if (PyBool_Check(value))
		return value == Py_True ? "on" : "off";
	if (!PyLong_Check(value) && !PyUnicode_Check(value)) {
		PyErr_Format(PyExc_TypeError, "settings[%R]: a str, int or bool is needed, not %R", key,
			     Py_TYPE(value));
		return NULL;
	}
	object = PyObject_Str(value);
	if (object && !PyList_Append(kept, object))
		to_text(object, "settings", 0, &text);
	Py_XDECREF(object);
	return text;
}

static int take_settings(PyObject *mapping, struct settings *settings, size_t *count_out)
{
	PyObject *items = mapping && mapping != Py_None ? PyMapping_Items(mapping) : PyList_New(0);
	Py_ssize_t count = items ? PyList_Size(items) : -1;

	settings->kept = items;
	if (count < 0)
		return 0;
	settings->rows = calloc((size_t)count + 1, sizeof(*settings->rows));
	if (!settings->rows) {
		PyErr_NoMemory();
		return 0;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *key, *value, *pair = PyList_GetItem(items, i);

		if (!PyArg_ParseTuple(pair, "OO", &key, &value) ||
		    !to_text(key, "settings: key", 0, &settings->rows[i].key))
			return 0;
		settings->rows[i].value = setting_text(key, value, items);
		if (!settings->rows[i].value)
			return 0;
	}
	*count_out = (size_t)count;
	return 1;
}

/* Engine(name=None, *, settings=None, config=None, environment=False, log_key=0) */
static int engine_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "name", "settings", "config", "environment", "log_key", NULL };
	static const struct parameters parameters = { "Engine", names, 1, 0 };
	struct engine *engine = (struct engine *)self;
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct settings settings = { 0 };
	struct cw_engine *raw = NULL;
	PyObject *values[5], *path = NULL;
	uint64_t key = 0;
	int ok, status = CW_OK;

	if (engine->process || engine->raw) {
		PyErr_SetString(PyExc_RuntimeError, "this engine was opened before");
		return -1;
	}
	if (!take_arguments(&parameters, args, kwargs, values, NULL))
		return -1;
	ok = to_text(values[0], "name", 1, &options.name) &&
	     take_settings(values[1], &settings, &options.setting_count) &&
	     (!values[4] || to_u64(values[4], "log_key", &key));
	if (ok && values[2] && values[2] != Py_None)
		ok = PyUnicode_FSConverter(values[2], &path) && (options.config_file = PyBytes_AsString(path)) != NULL;
	if (ok && values[3])
		ok = (options.use_environment = PyObject_IsTrue(values[3])) >= 0;
	options.settings = settings.rows;
	options.log = key ? log_line : NULL;
	options.log_arg = (void *)(uintptr_t)key;
	if (ok) {
		Py_BEGIN_ALLOW_THREADS
		status = cw_engine_open(&options, &raw);
		Py_END_ALLOW_THREADS
		if (status)
			raise_status(status);
	}
	free(settings.rows);
	Py_XDECREF(settings.kept);
	Py_XDECREF(path);
	if (!raw)
		return -1;
	engine->raw = raw;
	engine->process = getpid();
	engine->state = ENGINE_OPEN;
	engine->name = PyUnicode_FromString(cw_engine_name(raw));
	return engine->name ? 0 : -1;
}

static PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct engine *engine = (struct engine *)allocate(type, 0);

	(void)args;
	(void)kwargs;
	if (!engine)
		return NULL;
	engine->state = ENGINE_CLOSED;
	sem_init(&engine->idle, 0, 0);
	link_init(&engine->handles);
	link_init(&engine->registrations);
	link_init(&engine->orphans);
	return (PyObject *)engine;
}

/* -------------------------------------------------------------------------------------------- closing */

/* Waits for calls in other threads, which notice soon. 0 = they are out, -1 = not by then. */
static int wait_for_users(struct engine *engine, uint64_t timeout)
{
	uint64_t until = timeout == CW_FOREVER ? CW_FOREVER : monotonic_ns() + timeout;

	while (engine->users) {
		struct timespec piece;

		if (monotonic_ns() >= until)
			return -1;
		clock_gettime(CLOCK_REALTIME, &piece);
		piece.tv_nsec += 50000000;
		piece.tv_sec += piece.tv_nsec / (long)SECOND_NS;
		piece.tv_nsec %= (long)SECOND_NS;
		Py_BEGIN_ALLOW_THREADS
		sem_timedwait(&engine->idle, &piece);
		Py_END_ALLOW_THREADS
	}
	return 0;
}

/* 0, or -1 when calls of other threads are still in the engine: it stays open. */
static int shut(struct engine *engine, uint64_t timeout)
{
	struct cw_engine *raw = engine->raw;

	engine->state = ENGINE_CLOSING;
	if (wait_for_users(engine, timeout)) {
		engine->state = ENGINE_OPEN;
		return -1;
	}
	handles_before_close(engine);
	Py_BEGIN_ALLOW_THREADS
	cw_engine_close(raw);
	Py_END_ALLOW_THREADS
	engine->raw = NULL;
	engine->state = ENGINE_CLOSED;
	handles_after_close(engine);
	registrations_after_close(engine);
	return 0;
}

/* close(timeout=None) */
static PyObject *engine_close(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "timeout", NULL };
	static const struct parameters parameters = { "close", names, 1, 0 };
	struct engine *engine = (struct engine *)self;
	size_t exported;
	PyObject *timeout;
	uint64_t ns;

	if (!take_arguments(&parameters, args, kwargs, &timeout, NULL) ||
	    !to_duration(timeout, "timeout", CW_FOREVER, &ns))
		return NULL;
	while (engine->state == ENGINE_CLOSING && !engine_forked(engine)) { /* another thread is at it */
		Py_BEGIN_ALLOW_THREADS
		usleep(1000);
		Py_END_ALLOW_THREADS
	}
	if (engine->state != ENGINE_OPEN || engine_forked(engine))
		Py_RETURN_NONE;
	exported = registrations_exported(engine);
	if (exported) {
		PyErr_Format(
			PyExc_BufferError,
			"cannot close the engine: %zu views of its memory exist, such as numpy arrays; delete them",
			exported);
		return NULL;
	}
	if (shut(engine, ns))
		return raise_text(CW_ERR_BUSY, "cannot close the engine: other threads are in calls of it");
	Py_RETURN_NONE;
}

static void engine_free(PyObject *self)
{
	struct engine *engine = (struct engine *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
	PyObject *error, *value, *trace;

	PyErr_Fetch(&error, &value, &trace);
	if (engine->state == ENGINE_OPEN && !engine_forked(engine))
		shut(engine, CW_FOREVER);
	else
		registrations_after_close(engine);
	PyErr_Restore(error, value, trace);
	sem_destroy(&engine->idle);
	Py_XDECREF(engine->name);
	release(self);
	Py_DECREF(type);
}

/* --------------------------------------------------------------------------------------- small things */

static PyObject *get_name(PyObject *self, void *unused)
{
	struct engine *engine = (struct engine *)self;

	(void)unused;
	if (!engine->name)
		return PyUnicode_FromString("");
	Py_INCREF(engine->name);
	return engine->name;
}

static PyObject *get_closed(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(((struct engine *)self)->state != ENGINE_OPEN);
}

static PyObject *engine_progress(PyObject *self, PyObject *unused)
{
	struct engine *engine = (struct engine *)self;
	int status;

	(void)unused;
	if (engine_enter(engine))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	status = cw_engine_progress(engine->raw);
	Py_END_ALLOW_THREADS
	engine_leave(engine);
	if (status)
		return raise_status(status);
	Py_RETURN_NONE;
}

#define KEYWORDS (METH_VARARGS | METH_KEYWORDS)
static PyMethodDef methods[] = {
	{ "close", CALL(engine_close), KEYWORDS, DOC_Engine_close },
	{ "progress", engine_progress, METH_NOARGS, DOC_Engine_progress },
	{ "register", CALL(engine_register), KEYWORDS, DOC_Engine_register },
	{ "region_at", CALL(engine_region_at), KEYWORDS, DOC_Engine_region_at },
	{ "allocate", CALL(engine_allocate), KEYWORDS, DOC_Engine_allocate },
	{ "open", CALL(engine_open_segment), KEYWORDS, DOC_Engine_open },
	{ "write", CALL(engine_write), KEYWORDS, DOC_Engine_write },
	{ "read", CALL(engine_read), KEYWORDS, DOC_Engine_read },
	{ "write_pages", CALL(engine_write_pages), KEYWORDS, DOC_Engine_write_pages },
	{ "read_pages", CALL(engine_read_pages), KEYWORDS, DOC_Engine_read_pages },
	{ "submit", CALL(engine_submit), KEYWORDS, DOC_Engine_submit },
	{ "notify", CALL(engine_notify), KEYWORDS, DOC_Engine_notify },
	{ "notifications", engine_notifications, METH_NOARGS, DOC_Engine_notifications },
	{ "wait_notification", CALL(engine_wait_notification), KEYWORDS, DOC_Engine_wait_notification },
	{ "_take_notification", engine_take_notification, METH_NOARGS, NULL },
	{ "_notification_fd", engine_notification_fd, METH_NOARGS, NULL },
	{ "_listen", engine_listen, METH_VARARGS, NULL },
	{ "stats", engine_stats, METH_NOARGS, DOC_Engine_stats },
	{ "transports", engine_transports, METH_NOARGS, DOC_Engine_transports },
	{ "platforms", engine_platforms, METH_NOARGS, DOC_Engine_platforms },
	{ "settings", engine_settings, METH_NOARGS, DOC_Engine_settings },
	{ "topology", engine_topology, METH_NOARGS, DOC_Engine_topology },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef getset[] = {
	{ "name", get_name, NULL, DOC_Engine_name, NULL },
	{ "closed", get_closed, NULL, DOC_Engine_closed, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_new, engine_new },  { Py_tp_init, engine_init }, { Py_tp_dealloc, engine_free },
	{ Py_tp_methods, methods }, { Py_tp_getset, getset },    { 0, NULL },
};

static PyType_Spec spec = { "causeway._causeway.Engine", sizeof(struct engine), 0,
			    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots };

int add_engine(PyObject *module)
{
	return add_type(module, &spec, &engine_type);
}
