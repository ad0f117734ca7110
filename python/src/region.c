/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions: memory that is registered, and what keeps it there. The engine keeps both, whether or not Python still has
 * a Region object; objects of the same registration share it.
 */
#include "face.h"

#include <docs.h>

#include <stdlib.h>
#include <string.h>

PyTypeObject *region_type;

static void registration_put(struct registration *registration)
{
	if (--registration->refs == 0)
		free(registration);
}

static void drop_hold(struct registration *registration)
{
	struct hold *hold = registration->holds;

	if (!hold)
		return;
	registration->holds = hold->next;
	hold_drop(hold);
	free(hold);
}

/* It is unregistered, or its engine is closed. */
static void registration_end(struct registration *registration)
{
	registration->raw = NULL;
	registration->engine = NULL;
	link_remove(&registration->link);
	while (registration->holds)
		drop_hold(registration);
	registration_put(registration);
}

static struct registration *registration_of(struct engine *engine, const struct cw_region *raw)
{
	for (struct link *link = engine->registrations.next; link != &engine->registrations; link = link->next) {
		struct registration *registration = container(link, struct registration, link);

		if (registration->raw == raw && registration->count)
			return registration;
	}
	return NULL;
}

static PyObject *region_wrap(struct engine *engine, struct registration *registration)
{
	allocfunc allocate = (allocfunc)PyType_GetSlot(region_type, Py_tp_alloc);
	struct region *region = (struct region *)allocate(region_type, 0);

	if (!region)
		return NULL;
	Py_INCREF((PyObject *)engine);
	region->engine = engine;
	region->registration = registration;
	registration->refs++;
	return (PyObject *)region;
}

/* A registration that just succeeded; takes the hold over. */
static PyObject *adopt(struct engine *engine, struct cw_region *raw, uint64_t address, uint64_t length, int allocated,
		       struct hold *hold)
{
	struct registration *registration = registration_of(engine, raw);

	if (!registration) {
		registration = calloc(1, sizeof(*registration));
		if (!registration)
			return PyErr_NoMemory();
		registration->engine = engine;
		registration->raw = raw;
		registration->refs = 1;
		registration->allocated = allocated;
		registration->address = address;
		registration->length = length;
		link_add(&engine->registrations, &registration->link);
	}
	registration->count++;
	if (hold) {
		hold->next = registration->holds;
		registration->holds = hold;
	}
	return region_wrap(engine, registration);
}

size_t registrations_exported(struct engine *engine)
{
	size_t count = 0;

	for (struct link *link = engine->registrations.next; link != &engine->registrations; link = link->next)
		count += (size_t)container(link, struct registration, link)->exports;
	return count;
}

void registrations_after_close(struct engine *engine)
{
	while (engine->registrations.next != &engine->registrations)
		registration_end(container(engine->registrations.next, struct registration, link));
}

/* ----------------------------------------------------------------------------------------- registering */

int to_access(PyObject *object, uint32_t *access_out)
{
	uint64_t value;

	if (!to_u64(object, "access", &value))
		return 0;
	if (value & ~(uint64_t)CW_ACCESS_REMOTE) {
		PyErr_Format(PyExc_ValueError, "access: %R is no Access", object);
		return 0;
	}
	*access_out = (uint32_t)value;
	return 1;
}

/* The range that the caller means, and how. */
static int take_memory(PyObject *memory, PyObject *length, struct hold *hold)
{
	uint64_t asked = 0;

	if (length == Py_None)
		length = NULL;
	if (length && !to_u64(length, "length", &asked))
		return 0;
	if (is_number(memory)) {
		if (!length) {
			PyErr_SetString(PyExc_TypeError, "length: needed with an address");
			return 0;
		}
		hold->length = asked;
		return to_u64(memory, "memory", &hold->address);
	}
	if (!hold_memory(memory, "memory", 0, hold))
		return 0;
	if (length && asked > hold->length) {
		PyErr_Format(PyExc_ValueError, "length: %llu is more than the %llu bytes of the memory",
			     (unsigned long long)asked, (unsigned long long)hold->length);
		return 0;
	}
	if (length)
		hold->length = asked;
	return 1;
}

static int take_options(PyObject *location, PyObject *access, const struct hold *hold,
			struct cw_region_options *options)
{
	if (!to_text(location, "location", 1, &options->location))
		return 0;
	if (!options->location && *hold->location)
		options->location = hold->location;
	if (hold->read_only)
		options->access = CW_ACCESS_REMOTE_READ;
	if (access && access != Py_None && !to_access(access, &options->access))
		return 0;
	if (hold->read_only && options->access & CW_ACCESS_REMOTE_WRITE) {
		PyErr_SetString(PyExc_ValueError, "access: peers must not write into a read-only buffer");
		return 0;
	}
	return 1;
}

PyObject *engine_register(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "memory", "length", "location", "access", NULL };
	static const struct parameters parameters = { "register", names, 2, 1 };
	struct engine *engine = (struct engine *)self;
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct cw_region *raw = NULL;
	PyObject *values[4], *region;
	struct hold *hold;
	int status;

	if (!take_arguments(&parameters, args, kwargs, values, NULL) || engine_check(engine))
		return NULL;
	hold = calloc(1, sizeof(*hold));
	if (!hold)
		return PyErr_NoMemory();
	if (!take_memory(values[0], values[1], hold) || !take_options(values[2], values[3], hold, &options) ||
	    engine_enter(engine))
		goto fail;
	Py_BEGIN_ALLOW_THREADS
	status = cw_region_register(engine->raw, (void *)(uintptr_t)hold->address, hold->length, &options, &raw);
	Py_END_ALLOW_THREADS
	if (!status)
		region = adopt(engine, raw, hold->address, hold->length, 0, hold);
	else
		region = raise_status(status);
	engine_leave(engine);
	if (!status)
		return region;
fail:
	hold_drop(hold);
	free(hold);
	return NULL;
}

PyObject *engine_allocate(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "length", "location", "shareable", "huge", "access", NULL };
	static const struct parameters parameters = { "allocate", names, 1, 1 };
	struct engine *engine = (struct engine *)self;
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw_region *raw = NULL;
	PyObject *values[5], *region;
	void *address = NULL;
	uint64_t length;
	int status, shareable = 1, huge = 0;

	if (!take_arguments(&parameters, args, kwargs, values, NULL) || !to_u64(values[0], "length", &length) ||
	    !to_text(values[1], "location", 1, &options.location) ||
	    (values[2] && (shareable = PyObject_IsTrue(values[2])) < 0) ||
	    (values[3] && (huge = PyObject_IsTrue(values[3])) < 0) ||
	    (values[4] && values[4] != Py_None && !to_access(values[4], &options.access)) || engine_enter(engine))
		return NULL;
	options.flags = (shareable ? (uint32_t)CW_MEMORY_SHAREABLE : 0) | (huge ? (uint32_t)CW_MEMORY_HUGE : 0);
	Py_BEGIN_ALLOW_THREADS
	status = cw_memory_allocate(engine->raw, length, &options, &address, &raw);
	Py_END_ALLOW_THREADS
	region = status ? raise_status(status) : adopt(engine, raw, (uint64_t)(uintptr_t)address, length, 1, NULL);
	engine_leave(engine);
	return region;
}

PyObject *engine_region_at(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "address", "length", NULL };
	static const struct parameters parameters = { "region_at", names, 2, 1 };
	struct engine *engine = (struct engine *)self;
	struct registration *registration;
	struct cw_region *raw = NULL;
	uint64_t address, length = 1;
	PyObject *values[2];
	int status;

	if (!take_arguments(&parameters, args, kwargs, values, NULL) || !to_u64(values[0], "address", &address) ||
	    (values[1] && !to_u64(values[1], "length", &length)) || engine_check(engine))
		return NULL;
	status = cw_region_find(engine->raw, (const void *)(uintptr_t)address, length, &raw);
	if (status)
		return raise_status(status);
	registration = registration_of(engine, raw);
	if (!registration) /* another thread is registering or unregistering it just now */
		return raise_text(CW_ERR_NOT_REGISTERED, "0x%llx is not inside a registered region",
				  (unsigned long long)address);
	return region_wrap(engine, registration);
}

/* --------------------------------------------------------------------------------------- the way back */

/* The registration, with the engine entered; or NULL with Closed. */
static struct registration *region_enter(PyObject *self)
{
	struct region *region = (struct region *)self;

	if (engine_check(region->engine))
		return NULL;
	if (!region->registration->raw || !region->registration->count) {
		raise_text(CW_ERR_CLOSED, "this region is unregistered");
		return NULL;
	}
	region->engine->users++;
	return region->registration;
}

static PyObject *take_back(PyObject *self, int (*call)(struct cw_region *raw))
{
	struct engine *engine = ((struct region *)self)->engine;
	struct registration *registration = region_enter(self);
	struct cw_region *raw;
	int status;

	if (!registration)
		return NULL;
	raw = registration->raw;
	registration->count--; /* the engine's reference keeps it meanwhile */
	Py_BEGIN_ALLOW_THREADS
	status = call(raw);
	Py_END_ALLOW_THREADS
	if (status)
		registration->count++;
	else if (registration->count)
		drop_hold(registration);
	else
		registration_end(registration);
	engine_leave(engine);
	if (status)
		return raise_status(status);
	Py_RETURN_NONE;
}

static PyObject *region_unregister(PyObject *self, PyObject *unused)
{
	(void)unused;
	return take_back(self, cw_region_unregister);
}

static PyObject *region_free_memory(PyObject *self, PyObject *unused)
{
	struct registration *registration = ((struct region *)self)->registration;

	(void)unused;
	if (registration->exports) {
		PyErr_Format(PyExc_BufferError,
			     "cannot free the region: %zd views of it exist, such as numpy arrays; delete them",
			     registration->exports);
		return NULL;
	}
	return take_back(self, cw_memory_free);
}

static PyObject *region_exit(PyObject *self, PyObject *args)
{
	struct region *region = (struct region *)self;

	(void)args;
	if (region->engine->state != ENGINE_OPEN || !region->registration->raw || !region->registration->count)
		Py_RETURN_NONE;
	return region->registration->allocated ? region_free_memory(self, NULL) : region_unregister(self, NULL);
}

static PyObject *region_revoke(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "offset", "length", "timeout", NULL };
	static const struct parameters parameters = { "revoke", names, 3, 0 };
	uint64_t offset = 0, length = 0, timeout, until;
	struct registration *registration;
	PyObject *values[3];
	int status;

	if (!take_arguments(&parameters, args, kwargs, values, NULL) ||
	    (values[0] && !to_u64(values[0], "offset", &offset)) ||
	    (values[1] && !to_u64(values[1], "length", &length)) ||
	    !to_duration(values[2], "timeout", CW_FOREVER, &timeout))
		return NULL;
	until = timeout > CW_FOREVER - monotonic_ns() ? CW_FOREVER : monotonic_ns() + timeout;
	do {
		struct engine *engine = ((struct region *)self)->engine;
		uint64_t now = monotonic_ns(), left = until > now ? until - now : 0;
		struct cw_region *raw;

		registration = region_enter(self);
		if (!registration)
			return NULL;
		raw = registration->raw;
		Py_BEGIN_ALLOW_THREADS
		status = cw_region_revoke(raw, offset, length, left < WAIT_PIECE ? left : WAIT_PIECE);
		Py_END_ALLOW_THREADS
		engine_leave(engine);
		if (status == CW_ERR_BUSY && PyErr_CheckSignals())
			return NULL;
	} while (status == CW_ERR_BUSY && monotonic_ns() < until);
	if (status)
		return raise_status(status);
	Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------------------- what it tells */

int region_range(PyObject *object, uint64_t *address_out, uint64_t *length_out)
{
	struct region *region = (struct region *)object;

	if (engine_check(region->engine))
		return 0;
	if (!region->registration->raw || !region->registration->count) {
		raise_text(CW_ERR_CLOSED, "this region is unregistered");
		return 0;
	}
	*address_out = region->registration->address;
	*length_out = region->registration->length;
	return 1;
}

static PyObject *get_address(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct region *)self)->registration->address);
}

static PyObject *get_length(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct region *)self)->registration->length);
}

static PyObject *get_closed(PyObject *self, void *unused)
{
	const struct registration *registration = ((struct region *)self)->registration;

	(void)unused;
	return PyBool_FromLong(!registration->raw || !registration->count);
}

static PyObject *get_engine(PyObject *self, void *unused)
{
	PyObject *engine = (PyObject *)((struct region *)self)->engine;

	(void)unused;
	Py_INCREF((PyObject *)engine);
	return engine;
}

enum fact { LOCATION, KIND, DEVICE, NUMA_NODE, ACCESS, REGISTRATIONS, ENGINE_OWNED };

static PyObject *get_fact(PyObject *self, void *which)
{
	struct cw_region_info info = { .size = sizeof(info) };
	struct registration *registration = region_enter(self);
	int status;

	if (!registration)
		return NULL;
	status = cw_region_info_get(registration->raw, &info);
	engine_leave(((struct region *)self)->engine);
	if (status)
		return raise_status(status);
	switch ((enum fact)(intptr_t)which) {
	case LOCATION:
		return PyUnicode_FromString(info.location);
	case KIND:
		return make("MemoryKind", "(i)", (int)info.kind);
	case ACCESS:
		return make("Access", "(I)", (unsigned)info.access);
	case ENGINE_OWNED:
		return PyBool_FromLong(info.engine_owned);
	case DEVICE:
		return PyLong_FromLong(info.device);
	case NUMA_NODE:
		return PyLong_FromLong(info.numa_node);
	default:
		return PyLong_FromUnsignedLong(info.registrations);
	}
}

static int region_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct region *region = (struct region *)self;
	struct registration *registration = region->registration;
	struct cw_region_info info = { .size = sizeof(info) };
	uint64_t address, length;

	view->obj = NULL;
	if (!region_range(self, &address, &length))
		return -1;
	if (!registration->allocated || cw_region_info_get(registration->raw, &info) || info.kind != CW_MEMORY_HOST) {
		PyErr_SetString(PyExc_BufferError, "only regions of allocate() in host memory are buffers");
		return -1;
	}
	if (PyBuffer_FillInfo(view, self, (void *)(uintptr_t)address, (Py_ssize_t)length, 0, flags))
		return -1;
	registration->exports++;
	return 0;
}

static void region_releasebuffer(PyObject *self, Py_buffer *view)
{
	(void)view;
	((struct region *)self)->registration->exports--;
}

static void region_free(PyObject *self)
{
	struct region *region = (struct region *)self;
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	if (region->registration)
		registration_put(region->registration);
	Py_XDECREF((PyObject *)region->engine);
	release(self);
	Py_DECREF(type);
}

static PyMethodDef methods[] = {
	{ "unregister", region_unregister, METH_NOARGS, DOC_Region_unregister },
	{ "free", region_free_memory, METH_NOARGS, DOC_Region_free },
	{ "revoke", CALL(region_revoke), METH_VARARGS | METH_KEYWORDS, DOC_Region_revoke },
	{ "__enter__", enter_self, METH_NOARGS, NULL },
	{ "__exit__", region_exit, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

#define FACT(name, doc, which)                                                                                         \
	{                                                                                                              \
		name, get_fact, NULL, doc, (void *)(intptr_t)(which)                                                   \
	}
static PyGetSetDef getset[] = {
	{ "address", get_address, NULL, DOC_Region_address, NULL },
	{ "length", get_length, NULL, DOC_Region_length, NULL },
	{ "closed", get_closed, NULL, DOC_Region_closed, NULL },
	{ "engine", get_engine, NULL, DOC_Region_engine, NULL },
	FACT("location", DOC_Region_location, LOCATION),
	FACT("kind", DOC_Region_kind, KIND),
	FACT("device", DOC_Region_device, DEVICE),
	FACT("numa_node", DOC_Region_numa_node, NUMA_NODE),
	FACT("access", DOC_Region_access, ACCESS),
	FACT("registrations", DOC_Region_registrations, REGISTRATIONS),
	FACT("engine_owned", DOC_Region_engine_owned, ENGINE_OWNED),
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_new, no_new },
	{ Py_tp_doc, DOC_Region },
	{ Py_tp_dealloc, region_free },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, getset },
	{ Py_bf_getbuffer, region_getbuffer },
	{ Py_bf_releasebuffer, region_releasebuffer },
	{ 0, NULL },
};

static PyType_Spec spec = { "causeway._causeway.Region", sizeof(struct region), 0, Py_TPFLAGS_DEFAULT, slots };

int add_region(PyObject *module)
{
	return add_type(module, &spec, &region_type);
}
