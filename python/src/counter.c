/* SPDX-License-Identifier: Apache-2.0 */
/* Counters that batches wait for. */
#include "face.h"

#include <docs.h>

PyTypeObject *counter_type;

static void close_counter(void *raw)
{
	cw_counter_close(raw);
}

static const struct handle_kind kind = { "counter", CLOSED_BEFORE, close_counter };

/* Counter(engine, initial=0) */
static PyObject *counter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "engine", "initial", NULL };
	static const struct parameters parameters = { "Counter", names, 2, 1 };
	struct cw_counter *raw = NULL;
	struct engine *engine;
	PyObject *values[2];
	uint64_t initial = 0;
	int status;

	if (!take_arguments(&parameters, args, kwargs, values, NULL) ||
	    (values[1] && !to_u64(values[1], "initial", &initial)))
		return NULL;
	if (!PyObject_TypeCheck(values[0], engine_type)) {
		PyErr_Format(PyExc_TypeError, "engine: an Engine is needed, not %R", Py_TYPE(values[0]));
		return NULL;
	}
	engine = (struct engine *)values[0];
	if (engine_check(engine))
		return NULL;
	status = cw_counter_open(engine->raw, initial, &raw);
	return status ? raise_status(status) : handle_new(type, engine, &kind, raw);
}

static PyObject *counter_add(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "n", NULL };
	static const struct parameters parameters = { "add", names, 1, 0 };
	struct cw_counter *raw;
	PyObject *value;
	uint64_t n = 1;
	int status;

	if (!take_arguments(&parameters, args, kwargs, &value, NULL) || (value && !to_u64(value, "n", &n)))
		return NULL;
	raw = handle_enter(self);
	if (!raw)
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	status = cw_counter_add(raw, n);
	Py_END_ALLOW_THREADS
	handle_leave(self);
	if (status)
		return raise_status(status);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "add", CALL(counter_add), METH_VARARGS | METH_KEYWORDS, DOC_Counter_add },
	{ "close", handle_close, METH_NOARGS, DOC_Counter_close },
	{ "__enter__", enter_self, METH_NOARGS, NULL },
	{ "__exit__", handle_exit, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef getset[] = {
	{ "engine", handle_engine, NULL, DOC_Counter_engine, NULL },
	{ "closed", handle_closed, NULL, DOC_Counter_closed, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_new, counter_new }, { Py_tp_doc, DOC_Counter }, { Py_tp_dealloc, handle_free },
	{ Py_tp_methods, methods }, { Py_tp_getset, getset },   { 0, NULL },
};

static PyType_Spec spec = { "causeway._causeway.Counter", sizeof(struct handle), 0, Py_TPFLAGS_DEFAULT, slots };

int add_counter(PyObject *module)
{
	return add_type(module, &spec, &counter_type);
}
