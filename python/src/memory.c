/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of an object are: buffers, tensors of torch and the like by data_ptr(), the array interface of CUDA,
 * and DLPack. What is found stays where it is until hold_drop().
 */
#include "face.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------- DLPack */

/* The structures of DLPack 0.x, which capsules named "dltensor" hold. */
struct dl_device {
	int32_t type, id;
};

struct dl_tensor {
	void *data;
	struct dl_device device;
	int32_t dimensions;
	struct {
		uint8_t code, bits;
		uint16_t lanes;
	} type;
	int64_t *shape, *strides; /* strides in elements; NULL = rows follow each other */
	uint64_t byte_offset;
};

struct dl_managed {
	struct dl_tensor tensor;
	void *context;
	void (*deleter)(struct dl_managed *self);
};

/* Only what DLPack names without doubt; of other devices the engine finds out by itself. */
static const struct {
	int32_t type;
	const char *location;
	int numbered;
} devices[] = {
	{ 1, "cpu:*", 0 },
	{ 2, "cuda:", 1 },
};

static int contiguous(const struct dl_tensor *tensor, uint64_t *count_out)
{
	uint64_t count = 1;
	int expected = 1;

	for (int32_t i = tensor->dimensions; i-- > 0;) {
		if (tensor->shape[i] < 0)
			return 0;
		if (tensor->strides && tensor->shape[i] != 1 && (uint64_t)tensor->strides[i] != count)
			expected = 0;
		if (__builtin_mul_overflow(count, (uint64_t)tensor->shape[i], &count))
			return 0;
	}
	*count_out = count;
	return expected || !count;
}

static int read_dlpack(const struct dl_tensor *tensor, const char *name, struct hold *hold)
{
	uint64_t count, bits;

	if (!contiguous(tensor, &count)) {
		PyErr_Format(PyExc_ValueError, "%s: the tensor is not contiguous", name);
		return 0;
	}
	if (__builtin_mul_overflow(count, (uint64_t)tensor->type.bits * tensor->type.lanes, &bits)) {
		PyErr_Format(PyExc_ValueError, "%s: the tensor has an impossible size", name);
		return 0;
	}
	hold->address = (uint64_t)(uintptr_t)tensor->data + tensor->byte_offset;
	hold->length = bits / 8;
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		if (devices[i].type != tensor->device.type)
			continue;
		if (devices[i].numbered)
			snprintf(hold->location, sizeof(hold->location), "%s%d", devices[i].location,
				 tensor->device.id);
		else
			snprintf(hold->location, sizeof(hold->location), "%s", devices[i].location);
	}
	return 1;
}

/* The capsule of an object. Memory of a device is wanted as it is, without waiting for streams. */
static PyObject *dlpack_capsule(PyObject *object)
{
	PyObject *where = PyObject_CallMethod(object, "__dlpack_device__", NULL), *method, *args, *kwargs, *capsule;
	int type = 1, id = 0;

	if (!where || !PyArg_ParseTuple(where, "ii", &type, &id)) {
		Py_XDECREF(where);
		return NULL;
	}
	Py_DECREF(where);
	if (type == 1)
		return PyObject_CallMethod(object, "__dlpack__", NULL);
	method = PyObject_GetAttrString(object, "__dlpack__");
	args = PyTuple_New(0);
	kwargs = Py_BuildValue("{si}", "stream", -1);
	capsule = method && args && kwargs ? PyObject_Call(method, args, kwargs) : NULL;
	Py_XDECREF(method);
	Py_XDECREF(args);
	Py_XDECREF(kwargs);
	return capsule;
}

static int hold_dlpack(PyObject *object, const char *name, struct hold *hold)
{
	PyObject *capsule = dlpack_capsule(object);
	struct dl_managed *managed = capsule ? PyCapsule_GetPointer(capsule, "dltensor") : NULL;
	int ok = managed && read_dlpack(&managed->tensor, name, hold);

	/* A capsule whose name says "used" is no longer responsible for its tensor. */
	if (ok && PyCapsule_SetName(capsule, "used_dltensor"))
		ok = 0;
	if (ok)
		hold->tensor = managed;
	Py_XDECREF(capsule);
	return ok;
}

/* ------------------------------------------------------------------------------------------- tensors */

/* 1 = the attribute is a non-negative number, or a method that returns one; 0 = there is none; -1 = an error. */
static int number_of(PyObject *object, const char *attribute, const char *name, uint64_t *value_out)
{
	PyObject *value = PyObject_GetAttrString(object, attribute), *result;
	int ok;

	if (!value) {
		if (!PyErr_ExceptionMatches(PyExc_AttributeError))
			return -1;
		PyErr_Clear();
		return 0;
	}
	if (PyCallable_Check(value)) {
		result = PyObject_CallNoArgs(value);
		Py_DECREF(value);
		value = result;
	}
	ok = value && to_u64(value, name, value_out);
	Py_XDECREF(value);
	return ok ? 1 : -1;
}

/* torch.Tensor and what looks like it. Its device is not believed: torch says "cuda" also for others' devices. */
static int hold_tensor(PyObject *object, const char *name, struct hold *hold)
{
	PyObject *answer;
	uint64_t count, size;
	int found, is_contiguous;

	if (PyObject_HasAttrString(object, "is_contiguous")) {
		answer = PyObject_CallMethod(object, "is_contiguous", NULL);
		is_contiguous = answer ? PyObject_IsTrue(answer) : -1;
		Py_XDECREF(answer);
		if (is_contiguous < 0)
			return 0;
		if (!is_contiguous) {
			PyErr_Format(PyExc_ValueError, "%s: the tensor is not contiguous", name);
			return 0;
		}
	}
	if (number_of(object, "data_ptr", name, &hold->address) != 1)
		return 0;
	found = number_of(object, "nbytes", name, &hold->length);
	if (!found) {
		found = number_of(object, "numel", name, &count);
		if (found == 1)
			found = number_of(object, "element_size", name, &size);
		if (found == 1)
			found = !__builtin_mul_overflow(count, size, &hold->length);
	}
	if (!found)
		PyErr_Format(PyExc_TypeError, "%s: %R has data_ptr() but neither nbytes nor numel() and element_size()",
			     name, Py_TYPE(object));
	if (found != 1)
		return 0;
	Py_INCREF(object);
	hold->owner = object;
	return 1;
}

/* {"data": (pointer, read_only), "shape": (...), "typestr": "<f4", "strides": None} */
static int read_array_interface(PyObject *interface, const char *name, struct hold *hold)
{
	PyObject *data = PyDict_GetItemString(interface, "data"), *shape = PyDict_GetItemString(interface, "shape"),
		 *type = PyDict_GetItemString(interface, "typestr"),
		 *strides = PyDict_GetItemString(interface, "strides");
	const char *text;
	uint64_t length, size;

	if (!data || !shape || !type || !PyTuple_Check(data) || PyTuple_Size(data) != 2 || !PyTuple_Check(shape) ||
	    !to_text(type, name, 0, &text) || strlen(text) < 3) {
		if (!PyErr_Occurred())
			PyErr_Format(PyExc_TypeError, "%s: __cuda_array_interface__ is malformed", name);
		return 0;
	}
	if (strides && strides != Py_None) {
		PyErr_Format(PyExc_ValueError, "%s: the array is not contiguous", name);
		return 0;
	}
	length = (uint64_t)strtoul(text + 2, NULL, 10);
	for (Py_ssize_t i = 0; i < PyTuple_Size(shape); i++) {
		if (!to_u64(PyTuple_GetItem(shape, i), name, &size))
			return 0;
		if (__builtin_mul_overflow(length, size, &length)) {
			PyErr_Format(PyExc_ValueError, "%s: the array has an impossible size", name);
			return 0;
		}
	}
	hold->length = length;
	hold->read_only = PyObject_IsTrue(PyTuple_GetItem(data, 1));
	return hold->read_only >= 0 && to_u64(PyTuple_GetItem(data, 0), name, &hold->address);
}

static int hold_array_interface(PyObject *object, const char *name, struct hold *hold)
{
	PyObject *interface = PyObject_GetAttrString(object, "__cuda_array_interface__");
	int ok = interface && PyDict_Check(interface) && read_array_interface(interface, name, hold);

	if (!ok && !PyErr_Occurred())
		PyErr_Format(PyExc_TypeError, "%s: __cuda_array_interface__ is not a dict", name);
	Py_XDECREF(interface);
	if (ok) {
		Py_INCREF(object);
		hold->owner = object;
	}
	return ok;
}

/* ------------------------------------------------------------------------------------------- buffers */

static int hold_buffer(PyObject *object, const char *name, struct hold *hold)
{
	if (PyObject_GetBuffer(object, &hold->view, PyBUF_STRIDES | PyBUF_FORMAT))
		return 0;
	hold->exported = 1;
	if (!PyBuffer_IsContiguous(&hold->view, 'A')) {
		PyErr_Format(PyExc_ValueError, "%s: the buffer is not contiguous", name);
		return 0;
	}
	hold->address = (uint64_t)(uintptr_t)hold->view.buf;
	hold->length = (uint64_t)hold->view.len;
	hold->read_only = hold->view.readonly;
	return 1;
}

/* In this order: numpy's arrays have __dlpack__ too, but only a buffer says that it must not be written. */
static const struct {
	const char *attribute;
	int (*hold)(PyObject *object, const char *name, struct hold *hold);
} faces[] = {
	{ "data_ptr", hold_tensor },
	{ NULL, hold_buffer },
	{ "__cuda_array_interface__", hold_array_interface },
	{ "__dlpack__", hold_dlpack },
};

int hold_memory(PyObject *object, const char *name, int writable, struct hold *hold_out)
{
	int ok = -1;

	memset(hold_out, 0, sizeof(*hold_out));
	for (size_t i = 0; ok < 0 && i < sizeof(faces) / sizeof(faces[0]); i++)
		if (faces[i].attribute ? PyObject_HasAttrString(object, faces[i].attribute)
				       : PyObject_CheckBuffer(object))
			ok = faces[i].hold(object, name, hold_out);
	if (ok < 0)
		PyErr_Format(PyExc_TypeError, "%s: an address, a buffer or a tensor is needed, not %R", name,
			     Py_TYPE(object));
	if (ok == 1 && writable && hold_out->read_only) {
		PyErr_Format(PyExc_ValueError, "%s: %R must not be written", name, Py_TYPE(object));
		ok = 0;
	}
	if (ok != 1)
		hold_drop(hold_out);
	return ok == 1;
}

void hold_drop(struct hold *hold)
{
	struct dl_managed *managed = hold->tensor;
	PyObject *error, *value, *trace;

	PyErr_Fetch(&error, &value, &trace); /* owners may run Python */
	hold->tensor = NULL;
	if (hold->exported)
		PyBuffer_Release(&hold->view);
	hold->exported = 0;
	Py_CLEAR(hold->owner);
	if (managed && managed->deleter)
		managed->deleter(managed);
	PyErr_Restore(error, value, trace);
}
