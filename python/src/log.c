/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of the log on their way to Python. Engines log from any thread and with locks held, so nobody may wait for the
 * GIL there: lines are kept here, and one thread of Python (causeway/_log.py) fetches them.
 */
#include "face.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct line {
	struct line *next;
	uint64_t key;
	int level;
	char text[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct line *first, **last = &first; /* guarded by lock, as is the rest */
static int stopped;

void log_line(void *key, enum cw_log_level level, const char *text)
{
	size_t length = strlen(text) + 1;
	struct line *line = malloc(sizeof(*line) + length);

	if (!line)
		return;
	line->next = NULL;
	line->key = (uint64_t)(uintptr_t)key;
	line->level = (int)level;
	memcpy(line->text, text, length);
	pthread_mutex_lock(&lock);
	*last = line;
	last = &line->next;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
}

static PyObject *to_list(struct line *line)
{
	PyObject *list = PyList_New(0);

	while (line) {
		struct line *next = line->next;
		PyObject *row = list ? Py_BuildValue("(KiN)", (unsigned long long)line->key, line->level,
						     PyUnicode_DecodeUTF8(line->text, (Py_ssize_t)strlen(line->text),
									  "replace"))
				     : NULL;

		if (list && (!row || PyList_Append(list, row)))
			Py_CLEAR(list);
		Py_XDECREF(row);
		free(line);
		line = next;
	}
	return list;
}

/* log_wait(wait: bool) -> list of (key, level, text): what is there; waits for the first when told to, until
 * log_stop(). */
PyObject *log_wait(PyObject *module, PyObject *args)
{
	struct line *taken;
	int wait;

	(void)module;
	if (!PyArg_ParseTuple(args, "p:log_wait", &wait))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	pthread_mutex_lock(&lock);
	while (wait && !first && !stopped)
		pthread_cond_wait(&more, &lock);
	taken = first;
	first = NULL;
	last = &first;
	pthread_mutex_unlock(&lock);
	Py_END_ALLOW_THREADS
	return to_list(taken);
}

PyObject *log_stop(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	pthread_mutex_lock(&lock);
	stopped = 1;
	pthread_cond_broadcast(&more);
	pthread_mutex_unlock(&lock);
	Py_RETURN_NONE;
}

/* In a forked child: a thread that is no more may have held the lock, and the lines are the parent's. */
PyObject *log_reset(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&more, NULL);
	first = NULL;
	last = &first;
	stopped = 0;
	Py_RETURN_NONE;
}
