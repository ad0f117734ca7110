/* SPDX-License-Identifier: Apache-2.0 */
/* The extension module causeway._causeway, over the limited API: the module and what belongs to no class. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <causeway/causeway.h>

static int fill(PyObject *module)
{
	return PyModule_AddStringConstant(module, "version", cw_version());
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, fill },
	{ 0, NULL },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "causeway._causeway",
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__causeway(void);

PyMODINIT_FUNC PyInit__causeway(void)
{
	return PyModuleDef_Init(&definition);
}
