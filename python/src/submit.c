/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what Python gives to requests: single ranges, columns of addresses and lengths, pages by number, and iterables
 * of Request. Columns are read in C; above a few hundred rows without the GIL.
 */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#define FEW 512u /* requests that are built and submitted with the GIL held */

/* The local side of a call, and what its memory says about the length. */
struct side {
	struct column column;
	struct hold hold;
	uint64_t length; /* of a Region or buffer; 0 = not known */
};

struct call {
	const char *function;
	enum cw_op op;
	struct engine *engine;
	struct options options;
	struct cw_segment *segment;
	struct side local;
	struct column remote, length;
	struct request_list list;
};

static void call_free(struct call *call)
{
	column_free(&call->local.column);
	column_free(&call->remote);
	column_free(&call->length);
	hold_drop(&call->local.hold);
	options_free(&call->options);
	request_list_free(&call->list);
}

static PyObject *submitted(struct call *call, int status, struct cw_batch *raw)
{
	return status ? raise_status(status) : batch_wrap(call->engine, raw);
}

static PyObject *call_submit(struct call *call)
{
	struct cw_batch *raw = NULL;
	int status;

	if (call->list.count > FEW) {
		Py_BEGIN_ALLOW_THREADS
		status = cw_batch_submit(call->engine->raw, call->list.requests, call->list.count, &call->options.raw,
					 &raw);
		Py_END_ALLOW_THREADS
	} else {
		status = cw_batch_submit(call->engine->raw, call->list.requests, call->list.count, &call->options.raw,
					 &raw);
	}
	return submitted(call, status, raw);
}

static int call_room(struct call *call, size_t count)
{
	call->list.requests = calloc(count ? count : 1, sizeof(*call->list.requests));
	if (!call->list.requests)
		PyErr_NoMemory();
	return call->list.requests != NULL;
}

/* Addresses; or a Region, a buffer or a tensor, which is one address and a length. */
static int take_side(PyObject *object, int writable, struct side *side)
{
	if (PyObject_TypeCheck(object, region_type)) {
		side->column.count = 1;
		return region_range(object, &side->column.scalar, &side->length);
	}
	if (PyList_Check(object) || PyTuple_Check(object) || is_number(object) || is_integer_array(object))
		return to_column(object, "local", 0, &side->column);
	if (!PyObject_CheckBuffer(object) && PySequence_Check(object) && !PyObject_HasAttrString(object, "data_ptr") &&
	    !PyObject_HasAttrString(object, "__dlpack__"))
		return to_column(object, "local", 0, &side->column);
	if (!hold_memory(object, "local", writable, &side->hold))
		return 0;
	side->column.count = 1;
	side->column.scalar = side->hold.address;
	side->length = side->hold.length;
	return 1;
}

/* -------------------------------------------------------------------------------------------- columns */

/* Both sides have a row for each request; the length may be one for all. */
static int agree(const struct call *call, uint64_t *count_out)
{
	const struct column *local = &call->local.column, *remote = &call->remote, *length = &call->length;

	if (!local->data != !remote->data || local->count != remote->count) {
		PyErr_Format(PyExc_ValueError, "unequal: local has %llu rows, remote has %llu%s",
			     (unsigned long long)local->count, (unsigned long long)remote->count,
			     local->data && !remote->data
				     ? "; an array of 8-byte integers is addresses, give data as a Region or as bytes"
				     : "");
		return 0;
	}
	if (length->data && (!local->data || length->count != local->count)) {
		PyErr_Format(PyExc_ValueError, "unequal: local has %llu rows, length has %llu",
			     (unsigned long long)local->count, (unsigned long long)length->count);
		return 0;
	}
	*count_out = local->count;
	return 1;
}

static int build_and_submit(const struct rows *rows, struct call *call, struct cw_batch **raw_out)
{
	int status = rows_build(rows, &call->list);

	return status ? status
		      : cw_batch_submit(rows->engine, call->list.requests, call->list.count, &call->options.raw,
					raw_out);
}

static PyObject *submit_rows(struct call *call, uint64_t count)
{
	const struct rows rows = { call->engine->raw, call->segment, call->op, &call->local.column,
				   &call->remote,     &call->length, count };
	struct cw_batch *raw = NULL;
	int status;

	if (count > FEW) {
		Py_BEGIN_ALLOW_THREADS
		status = build_and_submit(&rows, call, &raw);
		Py_END_ALLOW_THREADS
	} else {
		status = build_and_submit(&rows, call, &raw);
	}
	return status == CW_ERR_NO_MEMORY && !call->list.requests ? PyErr_NoMemory() : submitted(call, status, raw);
}

static int take_length(PyObject *object, struct call *call)
{
	if (object && object != Py_None)
		return to_column(object, "length", 0, &call->length);
	if (!call->local.length) {
		PyErr_SetString(PyExc_TypeError, "length: needed when local is no Region, buffer or tensor");
		return 0;
	}
	call->length.count = 1;
	call->length.scalar = call->local.length;
	return 1;
}

static PyObject *move(PyObject *self, PyObject *args, PyObject *kwargs, enum cw_op op)
{
	static const char *const names[] = { "segment", "local", "remote", "length", NULL };
	const struct parameters parameters = { op == CW_OP_WRITE ? "write" : "read", names, 4, 3 };
	struct call call = { .function = parameters.function, .op = op, .engine = (struct engine *)self };
	PyObject *values[4], *rest = NULL, *batch = NULL;
	uint64_t count;

	if (!take_arguments(&parameters, args, kwargs, values, &rest))
		return NULL;
	if (options_take(call.function, rest, call.engine, &call.options) &&
	    (call.segment = options_enter(&call.options, values[0], segment_type, "segment")) != NULL &&
	    take_side(values[1], op == CW_OP_READ, &call.local) && to_column(values[2], "remote", 0, &call.remote) &&
	    take_length(values[3], &call) && agree(&call, &count))
		batch = submit_rows(&call, count);
	call_free(&call);
	Py_XDECREF(rest);
	return batch;
}

PyObject *engine_write(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move(self, args, kwargs, CW_OP_WRITE);
}

PyObject *engine_read(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move(self, args, kwargs, CW_OP_READ);
}

/* ---------------------------------------------------------------------------------------------- pages */

struct pages {
	struct column local, remote; /* of page numbers; no data = 0, 1, 2, ... */
};

static int take_pages(PyObject *object, const char *name, struct column *column)
{
	if (!object || object == Py_None)
		return 1;
	if (!to_column(object, name, 1, column))
		return 0;
	if (!column->data)
		PyErr_Format(PyExc_TypeError, "%s: an array or list of page numbers is needed", name);
	return column->data != NULL;
}

static int count_pages(const struct call *call, const struct pages *pages, uint64_t page, uint64_t *count_out)
{
	const struct column *local = &pages->local, *remote = &pages->remote;

	if (local->data && remote->data && local->count != remote->count) {
		PyErr_Format(PyExc_ValueError, "unequal: local_pages has %llu rows, remote_pages has %llu",
			     (unsigned long long)local->count, (unsigned long long)remote->count);
		return 0;
	}
	if (local->data || remote->data) {
		*count_out = local->data ? local->count : remote->count;
		return 1;
	}
	if (!call->local.length || call->local.length % page) {
		PyErr_SetString(PyExc_TypeError,
				"local_pages: page numbers are needed, or a local Region or buffer of whole pages");
		return 0;
	}
	*count_out = call->local.length / page;
	return 1;
}

static struct cw_vec vector(uint64_t base, uint64_t page, uint64_t stride, const struct column *column, uint64_t count)
{
	return (struct cw_vec){
		.base = base,
		.page_size = page,
		.stride = stride,
		.count = count,
		.indices = column->data,
		.index_bits = column->data ? column->bits : 0,
	};
}

/* The library reads index arrays twice, and others may write numpy's meanwhile: it gets a copy. */
static int own_rows(struct column *column)
{
	size_t bytes = (size_t)column->count * (column->bits / 8);
	void *copy;

	if (!column->data || column->owned)
		return 1;
	copy = malloc(bytes ? bytes : 1);
	if (!copy)
		return PyErr_NoMemory() != NULL;
	memcpy(copy, column->data, bytes);
	column->owned = copy;
	column->data = copy;
	return 1;
}

static PyObject *submit_pages(struct call *call, struct pages *pages, PyObject **values)
{
	uint64_t page, local_stride = 0, remote_stride = 0, count = 0;

	if (!to_u64(values[3], "page_size", &page) ||
	    (values[6] && !to_u64(values[6], "local_stride", &local_stride)) ||
	    (values[7] && !to_u64(values[7], "remote_stride", &remote_stride)))
		return NULL;
	if (!page || call->local.column.data || call->remote.data) {
		PyErr_SetString(PyExc_ValueError,
				page ? "local, remote: one base address each is needed" : "page_size: 0");
		return NULL;
	}
	if (!take_pages(values[4], "local_pages", &pages->local) ||
	    !take_pages(values[5], "remote_pages", &pages->remote) || !count_pages(call, pages, page, &count) ||
	    !own_rows(&pages->local) || !own_rows(&pages->remote) || !call_room(call, 1))
		return NULL;
	call->list.count = count != 0;
	call->list.requests[0] = (struct cw_request){
		.segment = call->segment,
		.local = vector(call->local.column.scalar, page, local_stride, &pages->local, count),
		.remote = vector(call->remote.scalar, page, remote_stride, &pages->remote, count),
		.op = (uint32_t)call->op,
	};
	return call_submit(call);
}

static PyObject *move_pages(PyObject *self, PyObject *args, PyObject *kwargs, enum cw_op op)
{
	static const char *const names[] = { "segment",      "local",         "remote",
					     "page_size",    "local_pages",   "remote_pages",
					     "local_stride", "remote_stride", NULL };
	const struct parameters parameters = { op == CW_OP_WRITE ? "write_pages" : "read_pages", names, 6, 4 };
	struct call call = { .function = parameters.function, .op = op, .engine = (struct engine *)self };
	struct pages pages = { .local = { .data = NULL } };
	PyObject *values[8], *rest = NULL, *batch = NULL;

	if (!take_arguments(&parameters, args, kwargs, values, &rest))
		return NULL;
	if (options_take(call.function, rest, call.engine, &call.options) &&
	    (call.segment = options_enter(&call.options, values[0], segment_type, "segment")) != NULL &&
	    take_side(values[1], op == CW_OP_READ, &call.local) && to_column(values[2], "remote", 0, &call.remote))
		batch = submit_pages(&call, &pages, values);
	column_free(&pages.local);
	column_free(&pages.remote);
	call_free(&call);
	Py_XDECREF(rest);
	return batch;
}

PyObject *engine_write_pages(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move_pages(self, args, kwargs, CW_OP_WRITE);
}

PyObject *engine_read_pages(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return move_pages(self, args, kwargs, CW_OP_READ);
}

/* ------------------------------------------------------------------------------------------- requests */

static int take_op(PyObject *object, uint32_t *op_out)
{
	uint64_t number;

	if (PyUnicode_Check(object)) {
		*op_out = PyUnicode_CompareWithASCIIString(object, "read") ? CW_OP_WRITE : CW_OP_READ;
		if (*op_out == CW_OP_READ || !PyUnicode_CompareWithASCIIString(object, "write"))
			return 1;
	} else if (!to_u64(object, "op", &number)) {
		return 0;
	} else if (number <= CW_OP_WRITE) {
		*op_out = (uint32_t)number;
		return 1;
	}
	PyErr_Format(PyExc_ValueError, "op: 'read', 'write' or Op is needed, not %R", object);
	return 0;
}

/* (op, segment, local, remote, length) */
static int take_request(struct call *call, PyObject *object, struct cw_request *request)
{
	PyObject *op, *segment, *local, *remote, *length;
	struct side side = { .length = 0 };
	uint64_t base, bytes;
	int ok;

	if (!PyTuple_Check(object)) {
		PyErr_Format(PyExc_TypeError, "requests: Request is needed, not %R", Py_TYPE(object));
		return 0;
	}
	if (!PyArg_ParseTuple(object, "OOOOO;requests: (op, segment, local, remote, length) is needed", &op, &segment,
			      &local, &remote, &length) ||
	    !take_op(op, &request->op) ||
	    !(request->segment = options_enter(&call->options, segment, segment_type, "segment")))
		return 0;
	ok = take_side(local, request->op == CW_OP_READ, &side);
	bytes = side.length;
	if (ok && side.column.data) {
		PyErr_SetString(PyExc_ValueError, "local: one address is needed in a Request");
		ok = 0;
	}
	ok = ok && to_u64(remote, "remote", &base) && (length == Py_None || to_u64(length, "length", &bytes));
	if (ok) {
		request->local = (struct cw_vec){ .base = side.column.scalar, .page_size = bytes, .count = 1 };
		request->remote = (struct cw_vec){ .base = base, .page_size = bytes, .count = 1 };
	}
	column_free(&side.column);
	hold_drop(&side.hold);
	return ok;
}

PyObject *engine_submit(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "requests", NULL };
	static const struct parameters parameters = { "submit", names, 1, 1 };
	struct call call = { .function = "submit", .engine = (struct engine *)self };
	PyObject *values[1], *rest = NULL, *list, *batch = NULL;
	Py_ssize_t count;
	int ok;

	if (!take_arguments(&parameters, args, kwargs, values, &rest))
		return NULL;
	list = PySequence_List(values[0]);
	count = list ? PyList_Size(list) : 0;
	ok = list && options_take("submit", rest, call.engine, &call.options) && call_room(&call, (size_t)count);
	for (Py_ssize_t i = 0; ok && i < count; i++)
		ok = take_request(&call, PyList_GetItem(list, i), &call.list.requests[i]);
	call.list.count = (size_t)count;
	if (ok)
		batch = call_submit(&call);
	call_free(&call);
	Py_XDECREF(list);
	Py_XDECREF(rest);
	return batch;
}
