/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine tells about itself: counts, parts, settings, devices and their links. */
#include "face.h"

#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	size_t offset;
} counts[] = {
#define COUNT(name)                                                                                                    \
	{                                                                                                              \
#name, offsetof(struct cw_engine_stats, name)                                                          \
	}
	COUNT(batches_submitted),
	COUNT(batches_completed),
	COUNT(batches_failed),
	COUNT(batches_canceled),
	COUNT(batches_timed_out),
	COUNT(requests_submitted),
	COUNT(requests_completed),
	COUNT(bytes_written),
	COUNT(bytes_read),
	COUNT(bytes_served),
	COUNT(slices_retried),
	COUNT(notifications_sent),
	COUNT(notifications_received),
	COUNT(notifications_dropped),
	COUNT(requests_refused),
	COUNT(protocol_errors),
	COUNT(regions),
	COUNT(segments),
	COUNT(batches),
	COUNT(wakeups),
#undef COUNT
};

PyObject *engine_stats(PyObject *self, PyObject *unused)
{
	struct engine *engine = (struct engine *)self;
	struct cw_engine_stats stats = { .size = sizeof(stats) };
	PyObject *dict;
	int status;

	(void)unused;
	if (engine_check(engine))
		return NULL;
	status = cw_engine_stats_get(engine->raw, &stats);
	if (status)
		return raise_status(status);
	dict = PyDict_New();
	for (size_t i = 0; dict && i < sizeof(counts) / sizeof(counts[0]); i++) {
		const uint64_t *field = (const uint64_t *)(const void *)((const char *)&stats + counts[i].offset);
		PyObject *value = PyLong_FromUnsignedLongLong(*field);

		if (!value || PyDict_SetItemString(dict, counts[i].name, value))
			Py_CLEAR(dict);
		Py_XDECREF(value);
	}
	return dict;
}

/* Appends a new reference to the list, unless something failed before. */
static void append(PyObject *list, PyObject *row)
{
	if (row && !PyErr_Occurred())
		PyList_Append(list, row);
	Py_XDECREF(row);
}

static PyObject *visited(PyObject *list, int status)
{
	if (!status && !PyErr_Occurred())
		return list;
	Py_DECREF(list);
	return status && !PyErr_Occurred() ? raise_status(status) : NULL;
}

static void add_part(void *arg, const char *name, int on, const char *why)
{
	if (!PyErr_Occurred())
		append(arg, make("Part", "(sNs)", name, PyBool_FromLong(on), why));
}

static PyObject *parts(PyObject *self, int (*visit)(struct cw_engine *engine, cw_transport_fn fn, void *arg))
{
	struct engine *engine = (struct engine *)self;
	PyObject *list;

	if (engine_check(engine))
		return NULL;
	list = PyList_New(0);
	return list ? visited(list, visit(engine->raw, add_part, list)) : NULL;
}

PyObject *engine_transports(PyObject *self, PyObject *unused)
{
	(void)unused;
	return parts(self, cw_engine_transports);
}

PyObject *engine_platforms(PyObject *self, PyObject *unused)
{
	(void)unused;
	return parts(self, cw_engine_platforms);
}

static void add_setting(void *arg, const char *key, const char *value, const char *origin, const char *help)
{
	if (!PyErr_Occurred())
		append(arg, make("Setting", "(ssss)", key, value, origin, help));
}

PyObject *engine_settings(PyObject *self, PyObject *unused)
{
	struct engine *engine = (struct engine *)self;
	PyObject *list;

	(void)unused;
	if (engine_check(engine))
		return NULL;
	list = PyList_New(0);
	return list ? visited(list, cw_engine_settings(engine->raw, add_setting, list)) : NULL;
}

/* ------------------------------------------------------------------------------------------ topology */

/* Collected without the GIL, as a driver is asked. */
struct topology {
	struct cw_topology_device *devices;
	struct cw_topology_link *links;
	size_t device_count, link_count;
	int lost; /* out of memory */
};

static void *grow(void *rows, size_t count, size_t size, const void *row)
{
	char *grown = realloc(rows, (count + 1) * size);

	if (grown)
		memcpy(grown + count * size, row, size);
	return grown;
}

static void collect(void *arg, const struct cw_topology_device *device, const struct cw_topology_link *link)
{
	struct topology *topology = arg;
	void *grown;

	if (device) {
		grown = grow(topology->devices, topology->device_count, sizeof(*device), device);
		if (grown) {
			topology->devices = grown;
			topology->device_count++;
		}
	} else {
		grown = grow(topology->links, topology->link_count, sizeof(*link), link);
		if (grown) {
			topology->links = grown;
			topology->link_count++;
		}
	}
	topology->lost |= !grown;
}

static PyObject *topology_dict(const struct topology *topology)
{
	PyObject *devices = PyList_New(0), *links = PyList_New(0);

	for (size_t i = 0; devices && i < topology->device_count && !PyErr_Occurred(); i++) {
		const struct cw_topology_device *row = &topology->devices[i];

		append(devices, Py_BuildValue("{ss ss si si si ss sI}", "transport", row->transport, "location",
					      row->location, "device", row->device, "chip", row->chip, "numa_node",
					      row->numa_node, "pci", row->pci, "ports", row->ports));
	}
	for (size_t i = 0; links && i < topology->link_count && !PyErr_Occurred(); i++) {
		const struct cw_topology_link *row = &topology->links[i];

		append(links,
		       Py_BuildValue("{ss s(ii) s(ii) s(ii) sN sd sd}", "transport", row->transport, "device",
				     row->device[0], row->device[1], "chip", row->chip[0], row->chip[1], "port",
				     row->port[0], row->port[1], "up", PyBool_FromLong(row->up), "gigabytes_per_second",
				     row->gigabytes_per_second, "maximum", row->maximum));
	}
	if (!devices || !links || PyErr_Occurred()) {
		Py_XDECREF(devices);
		Py_XDECREF(links);
		return NULL;
	}
	return Py_BuildValue("{sN sN}", "devices", devices, "links", links);
}

PyObject *engine_topology(PyObject *self, PyObject *unused)
{
	struct engine *engine = (struct engine *)self;
	struct topology topology = { 0 };
	PyObject *dict;
	int status;

	(void)unused;
	if (engine_enter(engine))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	status = cw_engine_topology(engine->raw, collect, &topology);
	Py_END_ALLOW_THREADS
	engine_leave(engine);
	if (status)
		dict = raise_status(status);
	else
		dict = topology.lost ? PyErr_NoMemory() : topology_dict(&topology);
	free(topology.devices);
	free(topology.links);
	return dict;
}
