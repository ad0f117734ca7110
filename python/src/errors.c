/* SPDX-License-Identifier: Apache-2.0 */
/* Statuses become exceptions. The classes are Python's (causeway/_errors.py, _records.py), bound here by name. */
#include "face.h"

#include <stdarg.h>
#include <string.h>

static PyObject *bound; /* name -> callable */

PyObject *bind_name(PyObject *module, PyObject *args)
{
	PyObject *name, *callable;

	(void)module;
	if (!PyArg_ParseTuple(args, "UO:bind", &name, &callable))
		return NULL;
	if (!bound && !(bound = PyDict_New()))
		return NULL;
	if (PyDict_SetItem(bound, name, callable))
		return NULL;
	Py_RETURN_NONE;
}

PyObject *make(const char *name, const char *format, ...)
{
	PyObject *callable = bound ? PyDict_GetItemString(bound, name) : NULL;
	PyObject *args, *result;
	va_list arguments;

	va_start(arguments, format);
	args = Py_VaBuildValue(format, arguments);
	va_end(arguments);
	if (!args)
		return NULL;
	/* What was made before for the same call may have failed, also by the handler of a signal. */
	if (PyErr_Occurred()) {
		Py_DECREF(args);
		return NULL;
	}
	if (!callable) {
		Py_DECREF(args);
		PyErr_Format(PyExc_RuntimeError, "causeway: %s is not bound", name);
		return NULL;
	}
	result = PyObject_CallObject(callable, args);
	Py_DECREF(args);
	return result;
}

/* Steals text. */
static PyObject *raise_object(int status, PyObject *text)
{
	PyObject *error =
		text ? make("error", "(iNii)", status, text, (int)cw_status_scope(status), cw_status_retryable(status))
		     : NULL;

	if (error) {
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
		Py_DECREF(error);
	}
	return NULL;
}

PyObject *raise_status(int status)
{
	const char *text = cw_last_error();

	/* Few failures leave no text. */
	if (!*text)
		text = cw_strerror(status);
	return raise_object(status, PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace"));
}

PyObject *raise_text(int status, const char *format, ...)
{
	va_list arguments;
	PyObject *text;

	va_start(arguments, format);
	text = PyUnicode_FromFormatV(format, arguments);
	va_end(arguments);
	return raise_object(status, text);
}
