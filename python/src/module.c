/* SPDX-License-Identifier: Apache-2.0 */
/* The extension module causeway._causeway over CPython's limited API: the module object and what belongs to no class.
 */
#include "face.h"

#include <docs.h>

static PyObject *status_name(PyObject *module, PyObject *status)
{
	long number = PyLong_AsLong(status);

	(void)module;
	if (number == -1 && PyErr_Occurred())
		return NULL;
	return PyUnicode_FromString(number >= INT_MIN && number <= INT_MAX ? cw_status_name((int)number) : "UNKNOWN");
}

static PyObject *status_text(PyObject *module, PyObject *status)
{
	long number = PyLong_AsLong(status);

	(void)module;
	if (number == -1 && PyErr_Occurred())
		return NULL;
	return PyUnicode_FromString(cw_strerror(number >= INT_MIN && number <= INT_MAX ? (int)number : 1));
}

/* The types are made once, also when Python forgets the module and imports it again. */
int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
	if (!*type)
		*type = (PyTypeObject *)PyType_FromSpec(spec);
	return *type ? PyModule_AddType(module, *type) : -1;
}

static PyMethodDef methods[] = {
	{ "status_name", status_name, METH_O, DOC_status_name },
	{ "status_text", status_text, METH_O, DOC_status_text },
	{ "bind", bind_name, METH_VARARGS, NULL },
	{ "log_wait", log_wait, METH_VARARGS, NULL },
	{ "log_stop", log_stop, METH_NOARGS, NULL },
	{ "log_reset", log_reset, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static int (*const parts[])(PyObject *module) = { add_engine,  add_region, add_segment, add_batch,
						  add_counter, add_queue,  add_mooncake };

static int fill(PyObject *module)
{
	static int64_t owner = -1;
	int64_t interpreter = PyInterpreterState_GetID(PyInterpreterState_Get());

	if (owner >= 0 && owner != interpreter) {
		PyErr_SetString(PyExc_ImportError, "causeway can be used by one interpreter of a process");
		return -1;
	}
	owner = interpreter;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (parts[i](module))
			return -1;
	return PyModule_AddStringConstant(module, "version", cw_version());
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, fill },
	{ 0, NULL },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "causeway._causeway",
	.m_methods = methods,
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__causeway(void);

PyMODINIT_FUNC PyInit__causeway(void)
{
	return PyModuleDef_Init(&definition);
}
