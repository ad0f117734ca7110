/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For builds that run on Python 3.9 and 3.10 too: what those export, but what became part of the limited API later. The
 * struct and the functions have been the same in every release of Python 3. tests/process/test_wheel.py runs the result
 * on each Python that it finds.
 */
#ifndef CAUSEWAY_PYTHON_OLDER_H
#define CAUSEWAY_PYTHON_OLDER_H

#if Py_LIMITED_API + 0 < 0x030a0000
PyAPI_FUNC(const char *) PyUnicode_AsUTF8AndSize(PyObject *text, Py_ssize_t *length_out);
#endif

#if Py_LIMITED_API + 0 < 0x030b0000

typedef struct {
	void *buf;
	PyObject *obj; /* owned */
	Py_ssize_t len, itemsize;
	int readonly, ndim;
	char *format;
	Py_ssize_t *shape, *strides, *suboffsets;
	void *internal;
} Py_buffer;

#define PyBUF_SIMPLE 0
#define PyBUF_WRITABLE 0x1
#define PyBUF_FORMAT 0x4
#define PyBUF_ND 0x8
#define PyBUF_STRIDES (0x10 | PyBUF_ND)
#define PyBUF_STRIDED_RO PyBUF_STRIDES
#define PyBUF_RECORDS_RO (PyBUF_STRIDES | PyBUF_FORMAT)

PyAPI_FUNC(int) PyObject_CheckBuffer(PyObject *object);
PyAPI_FUNC(int) PyObject_GetBuffer(PyObject *object, Py_buffer *view, int flags);
PyAPI_FUNC(int) PyBuffer_IsContiguous(const Py_buffer *view, char order);
PyAPI_FUNC(int)
	PyBuffer_FillInfo(Py_buffer *view, PyObject *object, void *bytes, Py_ssize_t length, int readonly, int flags);
PyAPI_FUNC(void) PyBuffer_Release(Py_buffer *view);

/* Slots of types. */
#ifndef Py_bf_getbuffer
#define Py_bf_getbuffer 1
#define Py_bf_releasebuffer 2
#endif

#endif
#endif
