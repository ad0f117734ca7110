/* SPDX-License-Identifier: Apache-2.0 */
/* From Python's arguments to C's: one function for each kind of value, which names the argument when it is wrong. */
#include "face.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "addresses are as long as a long");

/* ------------------------------------------------------------------------------------------- scalars */

/* Says what is wrong with an integer that is not in [0, 2^64). */
static int wrong_integer(PyObject *integer, const char *name, long long row)
{
	PyObject *zero = PyLong_FromLong(0);
	int negative = zero ? PyObject_RichCompareBool(integer, zero, Py_LT) : -1;
	char place[64] = "";

	Py_XDECREF(zero);
	if (negative < 0)
		return 0;
	if (row >= 0)
		snprintf(place, sizeof(place), "[%lld]", row);
	if (negative)
		PyErr_Format(PyExc_ValueError, "%s%s: %R is negative", name, place, integer);
	else
		PyErr_Format(PyExc_OverflowError, "%s%s: %R is more than 2**64 - 1", name, place, integer);
	return 0;
}

static int take_integer(PyObject *object, const char *name, long long row, uint64_t *value_out)
{
	PyObject *integer;
	unsigned long long value;
	int ok = 1;

	if (PyLong_Check(object)) {
		integer = object;
		Py_INCREF(integer);
	} else {
		integer = PyNumber_Index(object);
		if (!integer) {
			if (!PyErr_ExceptionMatches(PyExc_TypeError))
				return 0;
			PyErr_Clear();
			PyErr_Format(PyExc_TypeError, "%s: an int is needed, not %R", name, Py_TYPE(object));
			return 0;
		}
	}
	value = PyLong_AsUnsignedLongLong(integer);
	if (value == (unsigned long long)-1 && PyErr_Occurred()) {
		PyErr_Clear();
		ok = wrong_integer(integer, name, row);
	}
	Py_DECREF(integer);
	if (ok)
		*value_out = value;
	return ok;
}

int to_u64(PyObject *object, const char *name, uint64_t *value_out)
{
	return take_integer(object, name, -1, value_out);
}

int to_duration(PyObject *object, const char *name, uint64_t none, uint64_t *ns_out)
{
	double seconds;

	if (!object || object == Py_None) {
		*ns_out = none;
		return 1;
	}
	seconds = PyFloat_AsDouble(object);
	if (seconds == -1.0 && PyErr_Occurred()) {
		if (!PyErr_ExceptionMatches(PyExc_TypeError))
			return 0;
		PyErr_Clear();
		PyErr_Format(PyExc_TypeError, "%s: seconds as int or float are needed, not %R", name, Py_TYPE(object));
		return 0;
	}
	if (isnan(seconds) || seconds < 0) {
		PyErr_Format(PyExc_ValueError, "%s: %R is not a time in seconds", name, object);
		return 0;
	}
	/* 2^64 ns are 584 years. */
	*ns_out = seconds >= 1.8e10 ? CW_FOREVER : (uint64_t)ceil(seconds * 1e9);
	return 1;
}

int to_text(PyObject *object, const char *name, int none_allowed, const char **text_out)
{
	Py_ssize_t length;
	const char *text;

	if (none_allowed && (!object || object == Py_None)) {
		*text_out = NULL;
		return 1;
	}
	if (!PyUnicode_Check(object)) {
		PyErr_Format(PyExc_TypeError, "%s: a str is needed, not %R", name, Py_TYPE(object));
		return 0;
	}
	text = PyUnicode_AsUTF8AndSize(object, &length);
	if (!text)
		return 0;
	if (strlen(text) != (size_t)length) {
		PyErr_Format(PyExc_ValueError, "%s: contains a NUL character", name);
		return 0;
	}
	*text_out = text;
	return 1;
}

/* ----------------------------------------------------------------------------------------- arguments */

static int place_of(const char *const *names, PyObject *key)
{
	for (int i = 0; names[i]; i++)
		if (!PyUnicode_CompareWithASCIIString(key, names[i]))
			return i;
	return -1;
}

/* A keyword that is no parameter. */
static int keep_rest(const struct parameters *parameters, PyObject *key, PyObject *value, PyObject **rest_out)
{
	if (!rest_out) {
		PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", parameters->function, key);
		return 0;
	}
	if (!*rest_out && !(*rest_out = PyDict_New()))
		return 0;
	return !PyDict_SetItem(*rest_out, key, value);
}

int take_arguments(const struct parameters *parameters, PyObject *args, PyObject *kwargs, PyObject **values,
		   PyObject **rest_out)
{
	const char *const *names = parameters->names;
	Py_ssize_t given = PyTuple_Size(args), at = 0;
	PyObject *key, *value;
	unsigned count = 0;

	while (names[count])
		values[count++] = NULL;
	if (rest_out)
		*rest_out = NULL;
	if (given > (Py_ssize_t)parameters->positional) {
		PyErr_Format(PyExc_TypeError, "%s() takes at most %u positional arguments (%zd given)",
			     parameters->function, parameters->positional, given);
		return 0;
	}
	for (Py_ssize_t i = 0; i < given; i++)
		values[i] = PyTuple_GetItem(args, i);
	while (kwargs && PyDict_Next(kwargs, &at, &key, &value)) {
		int place = place_of(names, key);

		if (place >= 0 && values[place]) {
			PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument %R", parameters->function,
				     key);
			goto fail;
		}
		if (place >= 0)
			values[place] = value;
		else if (!keep_rest(parameters, key, value, rest_out))
			goto fail;
	}
	for (unsigned i = 0; i < parameters->required; i++) {
		if (!values[i]) {
			PyErr_Format(PyExc_TypeError, "%s() missing argument '%s'", parameters->function, names[i]);
			goto fail;
		}
	}
	return 1;
fail:
	if (rest_out)
		Py_CLEAR(*rest_out);
	return 0;
}

/* ------------------------------------------------------------------------------------------- columns */

/* The bits of the integers that a buffer holds, 0 when it holds something else; *is_signed_out. */
static unsigned integer_bits(const Py_buffer *view, int *is_signed_out)
{
	const char *format = view->format ? view->format : "B";

	if (*format == '@' || *format == '=' || *format == '<')
		format++;
	if (!*format || format[1] || !strchr("qQlLnNiIP", *format) || (view->itemsize != 8 && view->itemsize != 4))
		return 0;
	*is_signed_out = strchr("qlni", *format) != NULL;
	return (unsigned)view->itemsize * 8;
}

int is_integer_array(PyObject *object)
{
	Py_buffer view;
	int is_signed, ok;

	if (!PyObject_CheckBuffer(object))
		return 0;
	if (PyObject_GetBuffer(object, &view, PyBUF_RECORDS_RO)) {
		PyErr_Clear();
		return 0;
	}
	ok = view.ndim == 1 && integer_bits(&view, &is_signed) == 64;
	PyBuffer_Release(&view);
	return ok;
}

/* The first negative number, or -1. */
static long long find_negative(const void *data, uint64_t count, unsigned bits)
{
	uint64_t all = 0;

	if (bits == 32) {
		for (uint64_t i = 0; i < count; i++)
			all |= (uint64_t)((const uint32_t *)data)[i] << 32;
	} else {
		for (uint64_t i = 0; i < count; i++)
			all |= ((const uint64_t *)data)[i];
	}
	if (!(all >> 63))
		return -1;
	for (uint64_t i = 0; i < count; i++)
		if (bits == 32 ? ((const int32_t *)data)[i] < 0 : ((const int64_t *)data)[i] < 0)
			return (long long)i;
	return -1; /* somebody changes it under us */
}

/* Every n-th element of something larger. */
static int gather(struct column *column)
{
	const char *from = column->view.buf;
	size_t size = column->bits / 8;
	char *to = malloc(column->count * size);

	if (!to) {
		PyErr_NoMemory();
		return 0;
	}
	for (uint64_t i = 0; i < column->count; i++)
		memcpy(to + i * size, from + (Py_ssize_t)i * column->view.strides[0], size);
	column->owned = to;
	column->data = to;
	return 1;
}

static int take_buffer(PyObject *object, const char *name, int narrow, struct column *column)
{
	int is_signed = 0;
	long long negative;

	if (PyObject_GetBuffer(object, &column->view, PyBUF_RECORDS_RO))
		return 0;
	column->exported = 1;
	column->bits = integer_bits(&column->view, &is_signed);
	if (column->view.ndim != 1 || (column->bits != 64 && !(narrow && column->bits == 32))) {
		PyErr_Format(PyExc_TypeError, "%s: one dimension of %s-byte integers is needed, not %d of format '%s'",
			     name, narrow ? "4- or 8" : "8", column->view.ndim,
			     column->view.format ? column->view.format : "B");
		return 0;
	}
	column->count = (uint64_t)column->view.shape[0];
	column->data = column->view.buf ? column->view.buf : "";
	if (column->count && column->view.strides && column->view.strides[0] != column->view.itemsize &&
	    !gather(column))
		return 0;
	negative = is_signed ? find_negative(column->data, column->count, column->bits) : -1;
	if (negative >= 0) {
		PyErr_Format(PyExc_ValueError, "%s[%lld]: negative", name, negative);
		return 0;
	}
	return 1;
}

static int take_list(PyObject *list, const char *name, struct column *column)
{
	Py_ssize_t count = PyList_Size(list);
	uint64_t *rows = malloc((size_t)(count ? count : 1) * sizeof(*rows));

	if (!rows) {
		PyErr_NoMemory();
		return 0;
	}
	column->owned = rows;
	column->data = rows;
	column->bits = 64;
	column->count = (uint64_t)count;
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *item = PyList_GetItem(list, i); /* NULL: somebody made it shorter */
		int ok;

		if (!item)
			return 0;
		if (PyLong_CheckExact(item)) { /* runs nobody's code; a long is converted faster than a long long */
			rows[i] = PyLong_AsUnsignedLong(item);
			if (rows[i] != ULONG_MAX || !PyErr_Occurred())
				continue;
			PyErr_Clear();
		}
		Py_INCREF(item);
		ok = take_integer(item, name, i, &rows[i]);
		Py_DECREF(item);
		if (!ok)
			return 0;
	}
	return 1;
}

static int take_sequence(PyObject *object, const char *name, struct column *column)
{
	PyObject *list;
	int ok;

	if (PyList_Check(object))
		return take_list(object, name, column);
	if (PyUnicode_Check(object) || !PySequence_Check(object)) {
		PyErr_Format(PyExc_TypeError, "%s: an int, an array of integers or a list of ints is needed, not %R",
			     name, Py_TYPE(object));
		return 0;
	}
	list = PySequence_List(object);
	ok = list && take_list(list, name, column);
	Py_XDECREF(list);
	return ok;
}

int is_number(PyObject *object)
{
	return PyLong_Check(object) ||
	       (PyIndex_Check(object) && !PySequence_Check(object) && !PyObject_HasAttrString(object, "data_ptr"));
}

int to_column(PyObject *object, const char *name, int narrow, struct column *column_out)
{
	int ok;

	memset(column_out, 0, sizeof(*column_out));
	if (is_number(object)) {
		column_out->count = 1;
		return to_u64(object, name, &column_out->scalar);
	}
	ok = PyObject_CheckBuffer(object) ? take_buffer(object, name, narrow, column_out)
					  : take_sequence(object, name, column_out);
	if (!ok)
		column_free(column_out);
	return ok;
}

void column_free(struct column *column)
{
	if (column->exported)
		PyBuffer_Release(&column->view);
	free(column->owned);
	column->exported = 0;
	column->owned = NULL;
	column->data = NULL;
}
