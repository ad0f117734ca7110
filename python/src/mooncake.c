/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What causeway.mooncake needs and the public interface does not have: what Mooncake's variables, names and protocols
 * mean for an engine (compat/mooncake/setup.h), and its numbers for statuses (compat/mooncake/codes.def).
 */
#include "face.h"

#include <string.h>

#include <mooncake/setup.h>
#include <string.h>

/* Lines are collected in a list; one that cannot be kept is dropped. */
static void keep_notice(void *arg, const char *line)
{
	PyObject *list = arg, *text = PyUnicode_DecodeUTF8(line, (Py_ssize_t)strlen(line), "replace");

	if (!text || PyList_Append(list, text))
		PyErr_Clear();
	Py_XDECREF(text);
}

static PyObject *settings_dict(const struct setup *setup)
{
	PyObject *dict = PyDict_New();

	for (size_t i = 0; dict && i < setup->setting_count; i++) {
		const char *text = setup->settings[i].value;
		PyObject *value = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "surrogateescape");

		if (!value || PyDict_SetItemString(dict, setup->settings[i].key, value))
			Py_CLEAR(dict);
		Py_XDECREF(value);
	}
	return dict;
}

/* mooncake_setup(metadata_server: str, local_hostname: str, file: str | None = None) -> dict. ValueError with one line
 * when something in it cannot be used. */
static PyObject *mooncake_setup(PyObject *module, PyObject *args)
{
	struct setup setup = { .setting_count = 0 };
	const char *metadata_server, *local_hostname, *file = NULL;
	PyObject *notices, *settings, *answer = NULL;
	char name[300];

	(void)module;
	if (!PyArg_ParseTuple(args, "ss|z:mooncake_setup", &metadata_server, &local_hostname, &file))
		return NULL;
	notices = PyList_New(0);
	if (!notices)
		return NULL;
	if ((file && setup_file(&setup, file, keep_notice, notices)) ||
	    setup_environment(&setup, keep_notice, notices) ||
	    setup_identity(&setup, metadata_server, local_hostname, name, sizeof(name))) {
		PyErr_SetString(PyExc_ValueError, setup.text);
		goto out;
	}
	settings = settings_dict(&setup);
	if (settings)
		answer = Py_BuildValue("{sssNsdsdsNsssssO}", "name", name, "settings", settings, "transfer_timeout",
				       (double)setup.transfer_timeout_ns / 1e9, "metric_interval",
				       setup.metric_interval, "force_tcp", PyBool_FromLong(setup.force_tcp), "protocol",
				       setup.protocol, "device_name", setup.device_name, "notices", notices);
out:
	Py_DECREF(notices);
	setup_free(&setup);
	return answer;
}

/* mooncake_protocol(name: str) -> (transports: str | None, used instead: str). */
static PyObject *mooncake_protocol(PyObject *module, PyObject *args)
{
	const char *name, *transports, *used = "";

	(void)module;
	if (!PyArg_ParseTuple(args, "s:mooncake_protocol", &name))
		return NULL;
	transports = setup_protocol(name, &used);
	return Py_BuildValue("(zs)", transports, transports ? used : "");
}

/* mooncake_code(status: int) -> int: the negative number that Mooncake's calls return for a status. */
static PyObject *mooncake_code(PyObject *module, PyObject *args)
{
	int status;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:mooncake_code", &status))
		return NULL;
#define MOONCAKE_CODE(name, error, error_name, code, code_name, tent, tent_name)                                       \
	if (status == CW_##name)                                                                                       \
		return PyLong_FromLong(error);
#include <mooncake/codes.def>
#undef MOONCAKE_CODE
	return PyLong_FromLong(-1);
}

static PyMethodDef functions[] = {
	{ "mooncake_setup", mooncake_setup, METH_VARARGS, NULL },
	{ "mooncake_protocol", mooncake_protocol, METH_VARARGS, NULL },
	{ "mooncake_code", mooncake_code, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

int add_mooncake(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
