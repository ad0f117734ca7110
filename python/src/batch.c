/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: looking at them, waiting for them, and what they ended with. Waiting in an event loop is Python's. */
#include "face.h"

#include <docs.h>

#include <string.h>
#include <time.h>

PyTypeObject *batch_type;

static void release_batch(void *raw)
{
	cw_batch_release(raw);
}

static const struct handle_kind kind = { "batch", OUTLIVES, release_batch };

PyObject *batch_wrap(struct engine *engine, struct cw_batch *raw)
{
	return handle_new(batch_type, engine, &kind, raw);
}

static PyObject *make_result(struct cw_batch *raw)
{
	struct cw_batch_result result = { .size = sizeof(result) };
	int status = cw_batch_result_get(raw, &result);

	if (status)
		return raise_status(status);
	return make(
		"BatchResult", "(NiNNNNKKKKKKN)", make("BatchState", "(i)", (int)result.state), result.status,
		make("Scope", "(i)", (int)result.scope), PyBool_FromLong(result.retryable),
		PyBool_FromLong(result.local_quiet), make("RemoteState", "(i)", (int)result.remote),
		(unsigned long long)result.fence_ns, (unsigned long long)result.requests_completed,
		(unsigned long long)result.requests_failed, (unsigned long long)result.bytes_completed,
		(unsigned long long)result.submitted_ns, (unsigned long long)result.ended_ns,
		PyUnicode_DecodeUTF8(result.text, (Py_ssize_t)strnlen(result.text, sizeof(result.text)), "replace"));
}

/* Steals the result: it is returned, or raised when it is a failure. */
static PyObject *or_raise(PyObject *result, struct cw_batch *raw)
{
	PyObject *error;

	if (!result || cw_batch_poll(raw) == CW_BATCH_COMPLETED)
		return result;
	error = make("failure", "(N)", result);
	if (error)
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	Py_XDECREF(error);
	return NULL;
}

/* ------------------------------------------------------------------------------------------- waiting */

/* Another thread is closing the engine, and the batch ends with that. */
static int is_closing(PyObject *self)
{
	struct handle *handle = (struct handle *)self;

	return handle->raw && !handle->closing && handle->engine->state == ENGINE_CLOSING &&
	       !engine_forked(handle->engine);
}

/* 1 = it ended, 0 = not in time, -1 = an exception. */
static int wait_for(PyObject *self, uint64_t timeout)
{
	uint64_t now = monotonic_ns(), until = timeout > CW_FOREVER - now ? CW_FOREVER : now + timeout;

	for (;;) {
		uint64_t left = until > now ? until - now : 0;
		struct cw_batch *raw;
		int status;

		if (is_closing(self)) {
			const struct timespec pause = { 0, 1000000 };

			Py_BEGIN_ALLOW_THREADS
			nanosleep(&pause, NULL);
			Py_END_ALLOW_THREADS
			continue;
		}
		raw = handle_enter(self);
		if (!raw)
			return -1;
		status = cw_batch_poll(raw) >= CW_BATCH_COMPLETED ? CW_OK : CW_ERR_AGAIN;
		if (status && left) {
			Py_BEGIN_ALLOW_THREADS
			status = cw_batch_wait(raw, left < WAIT_PIECE ? left : WAIT_PIECE);
			Py_END_ALLOW_THREADS
		}
		handle_leave(self);
		if (!status)
			return 1;
		if (status != CW_ERR_AGAIN) {
			raise_status(status);
			return -1;
		}
		if (PyErr_CheckSignals())
			return -1;
		now = monotonic_ns();
		if (now >= until)
			return 0;
	}
}

static const char *const timeout_names[] = { "timeout", NULL };

static int take_timeout(const char *function, PyObject *args, PyObject *kwargs, uint64_t *timeout_out)
{
	const struct parameters parameters = { function, timeout_names, 1, 0 };
	PyObject *value;

	return take_arguments(&parameters, args, kwargs, &value, NULL) &&
	       to_duration(value, "timeout", CW_FOREVER, timeout_out);
}

static PyObject *ended(PyObject *self, int raises)
{
	struct cw_batch *raw = handle_enter(self);
	PyObject *result;

	if (!raw)
		return NULL;
	result = make_result(raw);
	if (raises)
		result = or_raise(result, raw);
	handle_leave(self);
	return result;
}

static PyObject *batch_wait(PyObject *self, PyObject *args, PyObject *kwargs)
{
	uint64_t timeout;
	int over;

	if (!take_timeout("wait", args, kwargs, &timeout))
		return NULL;
	over = wait_for(self, timeout);
	if (!over)
		return raise_text(CW_ERR_AGAIN, "the batch still runs");
	return over < 0 ? NULL : ended(self, 1);
}

static PyObject *batch_finish(PyObject *self, PyObject *args, PyObject *kwargs)
{
	uint64_t timeout;
	int over;

	if (!take_timeout("finish", args, kwargs, &timeout))
		return NULL;
	over = wait_for(self, timeout);
	if (!over)
		Py_RETURN_NONE;
	return over < 0 ? NULL : ended(self, 0);
}

/* await: causeway/_aio.py knows the event loop. */
static PyObject *batch_await(PyObject *self)
{
	return make("await_batch", "(O)", self);
}

/* ------------------------------------------------------------------------------------- looking at it */

static PyObject *batch_result(PyObject *self, PyObject *unused)
{
	(void)unused;
	return ended(self, 0);
}

/* The result of one that ended well; its exception when it did not. */
static PyObject *batch_check(PyObject *self, PyObject *unused)
{
	(void)unused;
	return ended(self, 1);
}

static int state_of(PyObject *self, enum cw_batch_state *state_out)
{
	struct cw_batch *raw = handle_enter(self);

	if (!raw)
		return -1;
	*state_out = cw_batch_poll(raw);
	handle_leave(self);
	return 0;
}

static PyObject *get_state(PyObject *self, void *unused)
{
	enum cw_batch_state state;

	(void)unused;
	return state_of(self, &state) ? NULL : make("BatchState", "(i)", (int)state);
}

static PyObject *get_done(PyObject *self, void *unused)
{
	enum cw_batch_state state;

	(void)unused;
	return state_of(self, &state) ? NULL : PyBool_FromLong(state >= CW_BATCH_COMPLETED);
}

static PyObject *batch_request_status(PyObject *self, PyObject *args)
{
	uint64_t index, bytes = 0;
	struct cw_batch *raw;
	PyObject *object;
	int status;

	if (!PyArg_ParseTuple(args, "O:request_status", &object) || !to_u64(object, "index", &index))
		return NULL;
	raw = handle_enter(self);
	if (!raw)
		return NULL;
	status = cw_batch_request_status(raw, index, &bytes);
	handle_leave(self);
	if (status == CW_ERR_INVALID) {
		PyErr_Format(PyExc_IndexError, "the batch has no request %llu", (unsigned long long)index);
		return NULL;
	}
	return Py_BuildValue("(iK)", status, (unsigned long long)bytes);
}

static PyObject *batch_cancel(PyObject *self, PyObject *unused)
{
	struct cw_batch *raw = handle_enter(self);
	int status;

	(void)unused;
	if (!raw)
		return NULL;
	status = cw_batch_cancel(raw);
	handle_leave(self);
	if (status)
		return raise_status(status);
	Py_RETURN_NONE;
}

static PyObject *batch_fence(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const names[] = { "location", "stream", NULL };
	static const struct parameters parameters = { "fence", names, 2, 1 };
	struct cw_device_sync sync = { .kind = CW_DEVICE_STREAM };
	struct cw_batch *raw;
	PyObject *values[2];
	uint64_t handle = 0;
	int status;

	if (!take_arguments(&parameters, args, kwargs, values, NULL) ||
	    !to_text(values[0], "location", 0, &sync.location) || (values[1] && !to_u64(values[1], "stream", &handle)))
		return NULL;
	raw = handle_enter(self);
	if (!raw)
		return NULL;
	sync.handle = (void *)(uintptr_t)handle;
	Py_BEGIN_ALLOW_THREADS
	status = cw_batch_fence(raw, &sync);
	Py_END_ALLOW_THREADS
	handle_leave(self);
	if (status)
		return raise_status(status);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "wait", CALL(batch_wait), METH_VARARGS | METH_KEYWORDS, DOC_Batch_wait },
	{ "finish", CALL(batch_finish), METH_VARARGS | METH_KEYWORDS, DOC_Batch_finish },
	{ "result", batch_result, METH_NOARGS, DOC_Batch_result },
	{ "_check", batch_check, METH_NOARGS, NULL },
	{ "request_status", batch_request_status, METH_VARARGS, DOC_Batch_request_status },
	{ "cancel", batch_cancel, METH_NOARGS, DOC_Batch_cancel },
	{ "release", handle_close, METH_NOARGS, DOC_Batch_release },
	{ "fence", CALL(batch_fence), METH_VARARGS | METH_KEYWORDS, DOC_Batch_fence },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef getset[] = {
	{ "state", get_state, NULL, DOC_Batch_state, NULL },
	{ "done", get_done, NULL, DOC_Batch_done, NULL },
	{ "engine", handle_engine, NULL, DOC_Batch_engine, NULL },
	{ "released", handle_closed, NULL, DOC_Batch_released, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_new, no_new },
	{ Py_tp_doc, DOC_Batch },
	{ Py_tp_dealloc, handle_free },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, getset },
	{ Py_am_await, batch_await },
	{ 0, NULL },
};

static PyType_Spec spec = { "causeway._causeway.Batch", sizeof(struct handle), 0, Py_TPFLAGS_DEFAULT, slots };

int add_batch(PyObject *module)
{
	return add_type(module, &spec, &batch_type);
}
