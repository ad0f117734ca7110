/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: what a peer offers, and the ways to it. */
#include "face.h"

#include <docs.h>

#include <stdlib.h>
#include <string.h>

#define PROBE_NS (5 * SECOND_NS) /* when the caller names no time */

PyTypeObject *segment_type;

static void close_segment(void *raw)
{
	cw_segment_close(raw);
}

static const struct handle_kind kind = { "segment", GOES_WITH, close_segment };

/* A str, or several that are joined to a comma list. kept owns the text. */
static int take_transports(PyObject *object, PyObject **kept_out, const char **text_out)
{
	PyObject *comma;

	if (!object || object == Py_None || PyUnicode_Check(object))
		return to_text(object, "transports", 1, text_out);
	comma = PyUnicode_FromString(",");
	*kept_out = comma ? PyUnicode_Join(comma, object) : NULL;
	Py_XDECREF(comma);
	return *kept_out && to_text(*kept_out, "transports", 0, text_out);
}

PyObject *engine_open_segment(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "name", "timeout", "strict", "transports", NULL };
	static const struct parameters parameters = { "open", names, 1, 1 };
	struct engine *engine = (struct engine *)self;
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_segment *raw = NULL;
	PyObject *values[4], *kept = NULL, *segment = NULL;
	const char *name;
	int status;

	if (!take_arguments(&parameters, args, kwargs, values, NULL))
		return NULL;
	if (to_text(values[0], "name", 0, &name) && to_duration(values[1], "timeout", 0, &options.timeout) &&
	    (!values[2] || (options.strict = PyObject_IsTrue(values[2])) >= 0) &&
	    take_transports(values[3], &kept, &options.transports) && !engine_enter(engine)) {
		if (values[1] && values[1] != Py_None && !options.timeout)
			options.timeout = 1; /* 0 would mean the setting */
		Py_BEGIN_ALLOW_THREADS
		status = cw_segment_open(engine->raw, name, &options, &raw);
		Py_END_ALLOW_THREADS
		segment = status ? raise_status(status) : handle_new(segment_type, engine, &kind, raw);
		engine_leave(engine);
	}
	Py_XDECREF(kept);
	return segment;
}

/* 0, or -1 with an exception. Locks are taken that others may hold for long. */
static int get_info(PyObject *self, struct cw_segment_info *info)
{
	struct cw_segment *raw = handle_enter(self);
	int status;

	if (!raw)
		return -1;
	Py_BEGIN_ALLOW_THREADS
	status = cw_segment_info_get(raw, info);
	Py_END_ALLOW_THREADS
	handle_leave(self);
	if (status)
		raise_status(status);
	return status ? -1 : 0;
}

static PyObject *segment_info(PyObject *self, PyObject *unused)
{
	struct cw_segment_info info = { .size = sizeof(info) };

	(void)unused;
	if (get_info(self, &info))
		return NULL;
	return make("SegmentInfo", "(ssy#NNNNsn)", info.name, info.address, (const char *)info.instance,
		    (Py_ssize_t)sizeof(info.instance), PyBool_FromLong(info.classic), PyBool_FromLong(info.same_host),
		    PyBool_FromLong(info.same_process), make("PeerState", "(i)", (int)info.state), info.transports,
		    (Py_ssize_t)info.region_count);
}

static PyObject *segment_name(PyObject *self, void *unused)
{
	struct cw_segment_info info = { .size = sizeof(info) };

	(void)unused;
	return get_info(self, &info) ? NULL : PyUnicode_FromString(info.name);
}

static PyObject *region_rows(const struct cw_remote_region *rows, size_t count)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list && i < count; i++) {
		PyObject *row =
			make("RemoteRegion", "(KKNNis)", (unsigned long long)rows[i].address,
			     (unsigned long long)rows[i].length, make("Access", "(I)", (unsigned)rows[i].access),
			     make("MemoryKind", "(i)", (int)rows[i].kind), rows[i].device, rows[i].location);

		if (!row || PyList_Append(list, row))
			Py_CLEAR(list);
		Py_XDECREF(row);
	}
	return list;
}

static PyObject *segment_regions(PyObject *self, PyObject *unused)
{
	struct cw_remote_region *rows = NULL, *grown;
	size_t room = 256, count = 0;
	struct cw_segment *raw = handle_enter(self);
	PyObject *list;
	int status;

	(void)unused;
	if (!raw)
		return NULL;
	for (;;) {
		grown = realloc(rows, room * sizeof(*rows));
		if (!grown) {
			free(rows);
			handle_leave(self);
			return PyErr_NoMemory();
		}
		rows = grown;
		Py_BEGIN_ALLOW_THREADS
		status = cw_segment_regions(raw, rows, room, &count);
		Py_END_ALLOW_THREADS
		if (status || count <= room)
			break;
		room = count + 64;
	}
	handle_leave(self);
	list = status ? raise_status(status) : region_rows(rows, count);
	free(rows);
	return list;
}

static PyObject *segment_probe(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "timeout", NULL };
	static const struct parameters parameters = { "probe", names, 1, 0 };
	struct cw_segment *raw;
	uint64_t timeout, ns = 0;
	PyObject *value;
	int status;

	if (!take_arguments(&parameters, args, kwargs, &value, NULL) ||
	    !to_duration(value, "timeout", PROBE_NS, &timeout))
		return NULL;
	raw = handle_enter(self);
	if (!raw)
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	status = cw_segment_probe(raw, timeout, &ns);
	Py_END_ALLOW_THREADS
	handle_leave(self);
	return status ? raise_status(status) : PyFloat_FromDouble((double)ns / 1e9);
}

static PyObject *step_rows(const struct cw_path_step *steps, size_t count)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list && i < count; i++) {
		const struct cw_path_step *step = &steps[i];
		PyObject *row =
			make("PathStep", "(sNNIINdss)", step->transport, PyBool_FromLong(step->chosen),
			     PyBool_FromLong(step->usable), step->rails, step->rails_down,
			     PyBool_FromLong(step->staged), step->gigabytes_per_second, step->checks, step->why);

		if (!row || PyList_Append(list, row))
			Py_CLEAR(list);
		Py_XDECREF(row);
	}
	return list;
}

static int take_op(PyObject *object, enum cw_op *op_out)
{
	if (!object || (PyUnicode_Check(object) && !PyUnicode_CompareWithASCIIString(object, "write")))
		*op_out = CW_OP_WRITE;
	else if (PyUnicode_Check(object) && !PyUnicode_CompareWithASCIIString(object, "read"))
		*op_out = CW_OP_READ;
	else
		PyErr_Format(PyExc_ValueError, "op: 'read' or 'write' is needed, not %R", object);
	return !PyErr_Occurred();
}

static PyObject *segment_path(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "local", "remote", "length", "op", NULL };
	static const struct parameters parameters = { "path", names, 4, 3 };
	struct cw_path_step steps[32];
	uint64_t local, remote, length, whole;
	struct cw_segment *raw;
	PyObject *values[4];
	enum cw_op op = CW_OP_WRITE;
	size_t count = 0;
	int status;

	if (!take_arguments(&parameters, args, kwargs, values, NULL) ||
	    !(PyObject_TypeCheck(values[0], region_type) ? region_range(values[0], &local, &whole)
							 : to_u64(values[0], "local", &local)) ||
	    !to_u64(values[1], "remote", &remote) || !to_u64(values[2], "length", &length) || !take_op(values[3], &op))
		return NULL;
	raw = handle_enter(self);
	if (!raw)
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	status = cw_path_explain(raw, (const void *)(uintptr_t)local, remote, length, op, steps,
				 sizeof(steps) / sizeof(steps[0]), &count);
	Py_END_ALLOW_THREADS
	handle_leave(self);
	if (count > sizeof(steps) / sizeof(steps[0]))
		count = sizeof(steps) / sizeof(steps[0]);
	return status ? raise_status(status) : step_rows(steps, count);
}

static PyMethodDef methods[] = {
	{ "info", segment_info, METH_NOARGS, DOC_Segment_info },
	{ "regions", segment_regions, METH_NOARGS, DOC_Segment_regions },
	{ "probe", CALL(segment_probe), METH_VARARGS | METH_KEYWORDS, DOC_Segment_probe },
	{ "path", CALL(segment_path), METH_VARARGS | METH_KEYWORDS, DOC_Segment_path },
	{ "close", handle_close, METH_NOARGS, DOC_Segment_close },
	{ "__enter__", enter_self, METH_NOARGS, NULL },
	{ "__exit__", handle_exit, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef getset[] = {
	{ "name", segment_name, NULL, DOC_Segment_name, NULL },
	{ "engine", handle_engine, NULL, DOC_Segment_engine, NULL },
	{ "closed", handle_closed, NULL, DOC_Segment_closed, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_new, no_new },      { Py_tp_doc, DOC_Segment }, { Py_tp_dealloc, handle_free },
	{ Py_tp_methods, methods }, { Py_tp_getset, getset },   { 0, NULL },
};

static PyType_Spec spec = { "causeway._causeway.Segment", sizeof(struct handle), 0, Py_TPFLAGS_DEFAULT, slots };

int add_segment(PyObject *module)
{
	return add_type(module, &spec, &segment_type);
}
