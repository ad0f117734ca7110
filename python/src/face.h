/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the extension module share: the objects that Python sees, how long what they hold lives, and the
 * conversions of arguments. Objects are guarded by the GIL; a call that may wait releases it between enter and leave,
 * and what it uses cannot be closed meanwhile. docs/python.md is for users.
 */
#ifndef CAUSEWAY_PYTHON_FACE_H
#define CAUSEWAY_PYTHON_FACE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "older.h"

#include <causeway/causeway.h>
#include <semaphore.h>
#include <sys/types.h>

#define SECOND_NS UINT64_C(1000000000)
#define CALL(name) ((PyCFunction)(void (*)(void))(name))

/* ------------------------------------------------------------------------------------------ errors.c */

/* Raises the exception of a status with the text of this thread's last failure. Returns NULL. */
PyObject *raise_status(int status);
PyObject *raise_text(int status, const char *format, ...);
/* What Python defines and C makes objects of: bound by name when causeway is imported. New references. */
PyObject *bind_name(PyObject *module, PyObject *args);
PyObject *make(const char *name, const char *format, ...); /* the class called with Py_BuildValue's tuple */

/* ------------------------------------------------------------------------------------------ engine.c */

struct link {
	struct link *prev, *next;
};

enum engine_state { ENGINE_OPEN, ENGINE_CLOSING, ENGINE_CLOSED };

struct engine {
	PyObject_HEAD struct cw_engine *raw;
	enum engine_state state;
	pid_t process;             /* that opened it */
	unsigned users;            /* calls that run without the GIL */
	sem_t idle;                /* posted by the last of them when somebody waits to close */
	struct link handles;       /* struct handle */
	struct link registrations; /* struct registration */
	struct link orphans;       /* handles that died while the engine was being closed */
	unsigned listeners;        /* event loops that want to hear of notifications: their queue stays armed */
	PyObject *name;
};

extern PyTypeObject *engine_type, *region_type, *segment_type, *batch_type, *counter_type, *queue_type;

/* 0, and the engine stays open until engine_leave(); or -1 with Closed or Forked. */
int engine_enter(struct engine *engine);
void engine_leave(struct engine *engine);
/* For calls that never release the GIL. */
int engine_check(struct engine *engine);
int engine_forked(const struct engine *engine);

/* ------------------------------------------------------------------------------------------ handle.c */

enum handle_fate {
	CLOSED_BEFORE, /* its engine */
	GOES_WITH,     /* the engine frees it */
	OUTLIVES       /* the engine; only its own end frees it */
};

struct handle_kind {
	const char *what;
	enum handle_fate fate;
	void (*close)(void *raw);
};

/* One object of the library that belongs to an engine. */
struct handle {
	PyObject_HEAD struct link link; /* engine->handles */
	struct engine *engine;
	const struct handle_kind *kind;
	void *raw; /* NULL = closed */
	unsigned users;
	int closing; /* closed by the last user */
};

/* Takes raw over, also on failure. */
PyObject *handle_new(PyTypeObject *type, struct engine *engine, const struct handle_kind *kind, void *raw);
/* The object, to be used without the GIL until handle_leave(); or NULL with Closed or Forked. */
void *handle_enter(PyObject *self);
void handle_leave(PyObject *self);
void handle_end(struct handle *handle);
void handle_free(PyObject *self);
PyObject *handle_close(PyObject *self, PyObject *unused);
PyObject *handle_exit(PyObject *self, PyObject *args);
/* tp_new of types whose objects are made by handle_new() and the like alone. */
PyObject *no_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
PyObject *enter_self(PyObject *self, PyObject *unused);
PyObject *handle_closed(PyObject *self, void *unused);
PyObject *handle_engine(PyObject *self, void *unused);
void handles_before_close(struct engine *engine);
void handles_after_close(struct engine *engine);

static inline void link_init(struct link *link)
{
	link->prev = link->next = link;
}

static inline void link_add(struct link *head, struct link *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

static inline void link_remove(struct link *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	link_init(link);
}

#define container(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* ----------------------------------------------------------------------------------------- convert.c */

/* Each: 1 and the value, or 0 with an exception that names the argument. They fit PyArg_Parse's "O&" where only one
 * argument is of that type, and tables of options. */
int to_u64(PyObject *object, const char *name, uint64_t *value_out);
/* Seconds as int or float; None = none. Rounded up to nanoseconds; infinite = CW_FOREVER. */
int to_duration(PyObject *object, const char *name, uint64_t none, uint64_t *ns_out);
int to_text(PyObject *object, const char *name, int none_allowed, const char **text_out); /* borrowed */

/* The arguments of a call by name: the first `positional` may be given by position. Values are borrowed, NULL = not
 * given. Those that no parameter takes are left to `rest`, or are errors when it is NULL. */
struct parameters {
	const char *function;
	const char *const *names; /* NULL at the end */
	unsigned positional, required;
};
int take_arguments(const struct parameters *parameters, PyObject *args, PyObject *kwargs, PyObject **values,
		   PyObject **rest_out);

/* A column of unsigned integers: one for all rows, or one for each. */
struct column {
	const void *data; /* NULL = the scalar */
	uint64_t scalar;
	uint64_t count;
	unsigned bits; /* of data's elements: 32 or 64 */
	void *owned;
	Py_buffer view;
	int exported;
};
/* An int, a buffer of 8-byte integers (4-byte ones too where narrow is 1), or a sequence of ints. */
int to_column(PyObject *object, const char *name, int narrow, struct column *column_out);
void column_free(struct column *column);
/* One number, also one of numpy's, which are buffers as well. */
int is_number(PyObject *object);
int is_integer_array(PyObject *object); /* a buffer that to_column() takes as it is */
static inline uint64_t column_at(const struct column *column, uint64_t row)
{
	if (!column->data)
		return column->scalar;
	return column->bits == 32 ? ((const uint32_t *)column->data)[row] : ((const uint64_t *)column->data)[row];
}

/* ------------------------------------------------------------------------------------------ memory.c */

/* Where an object's bytes are, and what keeps them there until hold_drop(). */
struct hold {
	struct hold *next;
	uint64_t address, length;
	int read_only;
	char location[32]; /* what the object says; "" = nothing */
	Py_buffer view;
	int exported;
	PyObject *owner; /* of memory that is no buffer */
	void *tensor;    /* a struct DLManagedTensor to be given back */
};
/* Anything but a plain address. writable: an error for what must not be written. */
int hold_memory(PyObject *object, const char *name, int writable, struct hold *hold_out);
void hold_drop(struct hold *hold);
/* "read", ... as bits of enum cw_access; see Access. */
int to_access(PyObject *object, uint32_t *access_out);

/* ------------------------------------------------------------------------------------------ region.c */

/* Registered memory. It belongs to its engine, and stays registered when no Region object is left. */
struct registration {
	struct link link;      /* engine->registrations */
	struct engine *engine; /* NULL once it is closed; borrowed: the engine outlives it */
	struct cw_region *raw; /* NULL = unregistered */
	unsigned refs;         /* Region objects, and one of the engine */
	unsigned count;        /* registrations to take back; 0 = the last one is being taken back */
	int allocated;         /* the engine's own memory */
	Py_ssize_t exports;    /* buffers that Python has of it */
	uint64_t address, length;
	struct hold *holds;
};

struct region {
	PyObject_HEAD struct engine *engine;
	struct registration *registration;
};

PyObject *engine_register(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *engine_allocate(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *engine_region_at(PyObject *self, PyObject *args, PyObject *kwargs);
/* The range of a Region object, or 0 with Closed. */
int region_range(PyObject *region, uint64_t *address_out, uint64_t *length_out);
size_t registrations_exported(struct engine *engine);
void registrations_after_close(struct engine *engine);

/* ----------------------------------------------------------------------------------------- segment.c */

PyObject *engine_open_segment(PyObject *self, PyObject *args, PyObject *kwargs);

/* ------------------------------------------------------------------------------------------ submit.c */

PyObject *engine_write(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *engine_read(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *engine_write_pages(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *engine_read_pages(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *engine_submit(PyObject *self, PyObject *args, PyObject *kwargs);

/* ----------------------------------------------------------------------------------------- options.c */

/* Options of a batch, and what they point at until options_free(). */
struct options {
	struct cw_batch_options raw;
	struct engine *engine; /* entered; NULL = not yet */
	struct cw_batch **after;
	struct cw_notify *notify;
	struct cw_device_sync *device_after;
	PyObject *kept;    /* a list: whatever the above borrow from */
	PyObject *entered; /* a list: handles that are in use */
};
/* given: a dict of keyword arguments, or NULL. */
int options_take(const char *function, PyObject *given, struct engine *engine, struct options *options_out);
void options_free(struct options *options);
/* Uses a handle of a type until options_free(). */
void *options_enter(struct options *options, PyObject *object, PyTypeObject *type, const char *name);

/* ------------------------------------------------------------------------------------------- batch.c */

PyObject *batch_wrap(struct engine *engine, struct cw_batch *raw);

/* ------------------------------------------------------------------------------------------ notify.c */

PyObject *engine_notify(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *engine_notifications(PyObject *self, PyObject *unused);
PyObject *engine_wait_notification(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *engine_take_notification(PyObject *self, PyObject *unused);
PyObject *engine_notification_fd(PyObject *self, PyObject *unused);
PyObject *engine_listen(PyObject *self, PyObject *args);
/* A message; what it borrows from is appended to the list. */
int to_message(PyObject *name, PyObject *data, PyObject *kept, struct cw_notify *notify_out);

/* ----------------------------------------------------------------------------------------- inspect.c */

PyObject *engine_stats(PyObject *self, PyObject *unused);
PyObject *engine_transports(PyObject *self, PyObject *unused);
PyObject *engine_platforms(PyObject *self, PyObject *unused);
PyObject *engine_settings(PyObject *self, PyObject *unused);
PyObject *engine_topology(PyObject *self, PyObject *unused);

/* --------------------------------------------------------------------------------------------- log.c */

/* For struct cw_engine_options: lines are kept, under the key, until Python fetches them. No thread of the engine ever
 * needs the GIL for it. */
void log_line(void *key, enum cw_log_level level, const char *line);
PyObject *log_wait(PyObject *module, PyObject *args);
PyObject *log_stop(PyObject *module, PyObject *unused);
PyObject *log_reset(PyObject *module, PyObject *unused);

/* ---------------------------------------------------------------------------------------- waiting */

/* Waits are cut into pieces of this length, between which signals and the closing of the engine are looked at. */
#define WAIT_PIECE (SECOND_NS / 5)
uint64_t monotonic_ns(void);

/* Adds the types of one file to the module; 0 or -1. */
int add_engine(PyObject *module);
int add_region(PyObject *module);
int add_segment(PyObject *module);
int add_batch(PyObject *module);
int add_counter(PyObject *module);
int add_queue(PyObject *module);
int add_mooncake(PyObject *module);
int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type);

#endif
