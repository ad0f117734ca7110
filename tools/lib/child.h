/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second process of the same program: started by fork and exec of /proc/self/exe, says on the first line of its
 * standard output under which name its engine can be reached, and ends when it is told to or when its parent dies.
 */
#ifndef TOOLS_CHILD_H
#define TOOLS_CHILD_H

#include <sys/types.h>

#define CHILD_NAME_MAX 256
/* What a process that serves prints before its engine's name, alone on a line. */
#define CHILD_READY "listening on "

struct child {
	pid_t pid;
	char name[CHILD_NAME_MAX]; /* of its engine */
};

/* Starts `causeway arguments...` (NULL at the end) and waits for its name. 0, or -1 with a message on stderr. */
int child_start(struct child *child, const char *const *arguments);

/* Ends the child (SIGTERM, after 10 s SIGKILL) and returns its exit status, 128 + signal when a signal ended it. */
int child_stop(struct child *child);

#endif
