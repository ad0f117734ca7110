/* SPDX-License-Identifier: Apache-2.0 */
/* The options that every way to submit a batch takes: a table of names, and a function for each kind of value. */
#include "face.h"

#include <stdlib.h>
#include <string.h>

#define FIELD(name) offsetof(struct cw_batch_options, name)

struct option {
	const char *name;
	int (*take)(const struct option *option, PyObject *value, struct engine *engine, struct options *options);
	size_t field;
	uint32_t detail; /* of flags: the bit; of numbers: the largest */
};

void *options_enter(struct options *options, PyObject *object, PyTypeObject *type, const char *name)
{
	void *raw;

	if (!PyObject_TypeCheck(object, type)) {
		PyErr_Format(PyExc_TypeError, "%s: %R is needed, not %R", name, type, Py_TYPE(object));
		return NULL;
	}
	raw = handle_enter(object);
	if (raw && PyList_Append(options->entered, object)) {
		handle_leave(object);
		return NULL;
	}
	return raw;
}

/* A new list of what a sequence holds, kept until options_free(). */
static PyObject *list_of(struct options *options, PyObject *object)
{
	PyObject *list = PySequence_List(object);

	if (list && PyList_Append(options->kept, list))
		Py_CLEAR(list);
	Py_XDECREF(list); /* kept has it */
	return list;
}

static int take_deadline(const struct option *option, PyObject *value, struct engine *engine, struct options *options)
{
	uint64_t now = monotonic_ns(), left;

	(void)engine;
	if (!to_duration(value, option->name, CW_FOREVER, &left))
		return 0;
	options->raw.deadline_ns = left > CW_FOREVER - now ? CW_FOREVER : now + left;
	return 1;
}

static int take_flag(const struct option *option, PyObject *value, struct engine *engine, struct options *options)
{
	int on = PyObject_IsTrue(value);

	(void)engine;
	if (on > 0)
		options->raw.flags |= option->detail;
	return on >= 0;
}

static int take_number(const struct option *option, PyObject *value, struct engine *engine, struct options *options)
{
	uint64_t number;
	uint32_t narrow;

	(void)engine;
	if (!to_u64(value, option->name, &number))
		return 0;
	if (number > option->detail) {
		PyErr_Format(PyExc_ValueError, "%s: %R is more than %u", option->name, value, option->detail);
		return 0;
	}
	narrow = (uint32_t)number;
	memcpy((char *)&options->raw + option->field, &narrow, sizeof(narrow));
	return 1;
}

static int take_after(const struct option *option, PyObject *value, struct engine *engine, struct options *options)
{
	PyObject *list;
	Py_ssize_t count;

	(void)engine;
	if (PyObject_TypeCheck(value, batch_type)) {
		list = Py_BuildValue("[O]", value);
		value = list;
		list = list ? list_of(options, list) : NULL;
		Py_XDECREF(value);
	} else {
		list = list_of(options, value);
	}
	count = list ? PyList_Size(list) : -1;
	if (count < 0)
		return 0;
	options->after = calloc((size_t)count + 1, sizeof(struct cw_batch *));
	if (!options->after)
		return PyErr_NoMemory() != NULL;
	for (Py_ssize_t i = 0; i < count; i++)
		if (!(options->after[i] = options_enter(options, PyList_GetItem(list, i), batch_type, option->name)))
			return 0;
	options->raw.after = options->after;
	options->raw.after_count = (size_t)count;
	return 1;
}

static int take_counter(const struct option *option, PyObject *value, struct engine *engine, struct options *options)
{
	PyObject *counter, *number;

	(void)engine;
	if (!PyTuple_Check(value) || PyTuple_Size(value) != 2) {
		PyErr_Format(PyExc_TypeError, "%s: (Counter, value) is needed, not %R", option->name, Py_TYPE(value));
		return 0;
	}
	counter = PyTuple_GetItem(value, 0);
	number = PyTuple_GetItem(value, 1);
	options->raw.counter = options_enter(options, counter, counter_type, option->name);
	return options->raw.counter && to_u64(number, option->name, &options->raw.counter_value);
}

/* (name, data), (name, data, segment) or Notify, which is such a tuple. */
static int take_message(PyObject *value, struct options *options, struct cw_notify *notify)
{
	PyObject *name, *data, *segment = Py_None;

	if (!PyTuple_Check(value)) {
		PyErr_Format(PyExc_TypeError, "notify: Notify or (name, data) is needed, not %R", Py_TYPE(value));
		return 0;
	}
	if (!PyArg_ParseTuple(value, "OO|O;notify: (name, data) or (name, data, segment) is needed", &name, &data,
			      &segment))
		return 0;
	if (segment != Py_None && !(notify->segment = options_enter(options, segment, segment_type, "notify")))
		return 0;
	return to_message(name, data, options->kept, notify);
}

static int take_notify(const struct option *option, PyObject *value, struct engine *engine, struct options *options)
{
	PyObject *list = NULL;
	Py_ssize_t count = 1;

	(void)option;
	(void)engine;
	/* One message is a tuple that begins with its name; several are a sequence of such. */
	if (!PyTuple_Check(value) || PyTuple_Size(value) == 0 || PyTuple_Check(PyTuple_GetItem(value, 0))) {
		list = list_of(options, value);
		count = list ? PyList_Size(list) : -1;
		if (count < 0)
			return 0;
	}
	options->notify = calloc((size_t)count + 1, sizeof(*options->notify));
	if (!options->notify)
		return PyErr_NoMemory() != NULL;
	for (Py_ssize_t i = 0; i < count; i++)
		if (!take_message(list ? PyList_GetItem(list, i) : value, options, &options->notify[i]))
			return 0;
	options->raw.notify = options->notify;
	options->raw.notify_count = (uint32_t)count;
	return 1;
}

/* (location, handle) or (location, handle, "stream" or "event") */
static int take_sync(PyObject *value, struct options *options, struct cw_device_sync *sync)
{
	PyObject *location, *handle, *kind = NULL;
	const char *text = "stream";
	uint64_t number = 0;

	if (!PyTuple_Check(value)) {
		PyErr_Format(PyExc_TypeError, "device_after: (location, handle, 'stream' or 'event') is needed, not %R",
			     Py_TYPE(value));
		return 0;
	}
	if (!PyArg_ParseTuple(value, "OO|O;device_after: (location, handle, 'stream' or 'event') is needed", &location,
			      &handle, &kind))
		return 0;
	if (PyList_Append(options->kept, value) || !to_text(location, "device_after", 0, &sync->location) ||
	    (handle != Py_None && !to_u64(handle, "device_after", &number)) ||
	    (kind && !to_text(kind, "device_after", 0, &text)))
		return 0;
	if (strcmp(text, "stream") && strcmp(text, "event")) {
		PyErr_Format(PyExc_ValueError, "device_after: 'stream' or 'event' is needed, not '%s'", text);
		return 0;
	}
	sync->handle = (void *)(uintptr_t)number;
	sync->kind = strcmp(text, "event") ? CW_DEVICE_STREAM : CW_DEVICE_EVENT;
	return 1;
}

static int take_device_after(const struct option *option, PyObject *value, struct engine *engine,
			     struct options *options)
{
	PyObject *list = list_of(options, value);
	Py_ssize_t count = list ? PyList_Size(list) : -1;

	(void)option;
	(void)engine;
	if (count < 0)
		return 0;
	options->device_after = calloc((size_t)count + 1, sizeof(*options->device_after));
	if (!options->device_after)
		return PyErr_NoMemory() != NULL;
	for (Py_ssize_t i = 0; i < count; i++)
		if (!take_sync(PyList_GetItem(list, i), options, &options->device_after[i]))
			return 0;
	options->raw.device_after = options->device_after;
	options->raw.device_after_count = (size_t)count;
	return 1;
}

static const struct option table[] = {
	{ "deadline", take_deadline, 0, 0 },
	{ "after", take_after, 0, 0 },
	{ "counter", take_counter, 0, 0 },
	{ "notify", take_notify, 0, 0 },
	{ "device_after", take_device_after, 0, 0 },
	{ "fail_fast", take_flag, 0, CW_BATCH_FAIL_FAST },
	{ "strict", take_flag, 0, CW_BATCH_STRICT },
	{ "checksum", take_flag, 0, CW_BATCH_CHECKSUM },
	{ "priority", take_number, FIELD(priority), CW_CLASS_BACKGROUND },
	{ "delivery", take_number, FIELD(delivery), CW_DELIVERY_LOCAL },
};

static const struct option *find(PyObject *key)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (!PyUnicode_CompareWithASCIIString(key, table[i].name))
			return &table[i];
	return NULL;
}

int options_take(const char *function, PyObject *given, struct engine *engine, struct options *options_out)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;

	memset(options_out, 0, sizeof(*options_out));
	options_out->raw = (struct cw_batch_options)CW_BATCH_OPTIONS_INIT;
	options_out->kept = PyList_New(0);
	options_out->entered = PyList_New(0);
	if (!options_out->kept || !options_out->entered || engine_enter(engine))
		return 0;
	options_out->engine = engine;
	while (given && PyDict_Next(given, &at, &key, &value)) {
		const struct option *option = find(key);

		if (!option) {
			PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", function, key);
			return 0;
		}
		if (value != Py_None && !option->take(option, value, engine, options_out))
			return 0;
	}
	return 1;
}

void options_free(struct options *options)
{
	for (Py_ssize_t i = 0; options->entered && i < PyList_Size(options->entered); i++)
		handle_leave(PyList_GetItem(options->entered, i));
	if (options->engine)
		engine_leave(options->engine);
	Py_XDECREF(options->entered);
	Py_XDECREF(options->kept);
	free(options->after);
	free(options->notify);
	free(options->device_after);
}
