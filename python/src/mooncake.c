/* SPDX-License-Identifier: Apache-2.0 */
/* For causeway.mooncake: what Mooncake's variables, files, names and codes mean; see compat/mooncake/setup.h. */
#include "face.h"

#include <mooncake/setup.h>
#include <stdlib.h>
#include <string.h>

/* Appends a line to the list in arg. */
static void add_notice(void *arg, const char *line)
{
	PyObject *text = PyErr_Occurred() ? NULL : PyUnicode_DecodeUTF8(line, (Py_ssize_t)strlen(line), "replace");

	if (text)
		PyList_Append(arg, text);
	Py_XDECREF(text);
}

static PyObject *settings_dict(const struct setup *setup)
{
	PyObject *dict = PyDict_New();

	for (size_t i = 0; dict && i < setup->setting_count; i++) {
		PyObject *value = PyUnicode_FromString(setup->settings[i].value);

		if (!value || PyDict_SetItemString(dict, setup->settings[i].key, value))
			Py_CLEAR(dict);
		Py_XDECREF(value);
	}
	return dict;
}

static PyObject *to_dict(const struct setup *setup, const char *name, PyObject *notices)
{
	PyObject *settings = settings_dict(setup);

	if (!settings)
		return NULL;
	return Py_BuildValue("{ss sN sd sd sN sN sN ss ss ss ss sO}", "name", name, "settings", settings,
			     "transfer_timeout", (double)setup->transfer_timeout_ns / 1e9, "metric_interval",
			     setup->metric_interval, "force_tcp", PyBool_FromLong(setup->force_tcp), "force_mnnvl",
			     PyBool_FromLong(setup->force_mnnvl), "intranode_nvlink",
			     PyBool_FromLong(setup->intranode_nvlink), "protocol", setup->protocol, "device_name",
			     setup->device_name, "local_hostname", setup->local_hostname, "metadata_server",
			     setup->metadata_server, "notices", notices);
}

/* mooncake_setup(metadata_server, local_hostname, file=None) -> dict; None for a name or server that the environment or
 * the file says. ConfigError says what is wrong. */
PyObject *mooncake_setup(PyObject *module, PyObject *args)
{
	const char *server, *host, *file = NULL;
	PyObject *notices, *dict = NULL;
	struct setup *setup;
	char name[256] = "";
	int wrong;

	(void)module;
	if (!PyArg_ParseTuple(args, "zz|z:mooncake_setup", &server, &host, &file))
		return NULL;
	notices = PyList_New(0);
	setup = calloc(1, sizeof(*setup));
	if (!setup || !notices) {
		Py_XDECREF(notices);
		free(setup);
		return PyErr_NoMemory();
	}
	wrong = file ? setup_file(setup, file, add_notice, notices) : 0;
	if (!wrong)
		wrong = setup_environment(setup, add_notice, notices);
	if (!wrong) {
		Py_BEGIN_ALLOW_THREADS wrong = setup_identity(setup, server ? server : setup->metadata_server,
							      host ? host : setup->local_hostname, name, sizeof(name));
		Py_END_ALLOW_THREADS
	}
	if (wrong)
		raise_text(CW_ERR_CONFIG, "%s", setup->text);
	else if (!PyErr_Occurred())
		dict = to_dict(setup, name, notices);
	setup_free(setup);
	free(setup);
	Py_DECREF(notices);
	return dict;
}

/* mooncake_protocol(name) -> (transports or None, what is used instead or "") */
PyObject *mooncake_protocol(PyObject *module, PyObject *args)
{
	const char *name, *used = "", *transports;

	(void)module;
	if (!PyArg_ParseTuple(args, "s:mooncake_protocol", &name))
		return NULL;
	transports = setup_protocol(name, &used);
	return Py_BuildValue("(zs)", transports, transports ? used : "");
}

/* mooncake_code(status) -> the negative number that Mooncake's calls return for it; -1 for unknown ones. */
PyObject *mooncake_code(PyObject *module, PyObject *args)
{
	static const struct {
		int status, error;
	} rows[] = {
#define MOONCAKE_CODE(status, error, error_name, code, code_name, tent, tent_name) { CW_##status, error },
#include <mooncake/codes.def>
#undef MOONCAKE_CODE
	};
	int status;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:mooncake_code", &status))
		return NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].status == status)
			return PyLong_FromLong(rows[i].error);
	return PyLong_FromLong(-1);
}
