/* SPDX-License-Identifier: Apache-2.0 */
/* SIGINT and SIGTERM as a question that loops can ask, so that a tool always ends in its own order. */
#ifndef TOOLS_STOP_H
#define TOOLS_STOP_H

/* Call once, before threads are started. 0, or -1 when the system refuses. */
int stop_install(void);

/* 1 once a signal has come. */
int stop_requested(void);

/* Sleeps until a signal comes. */
void stop_wait(void);

/* Readable once a signal has come; for poll(2), not to be read. */
int stop_fd(void);

#endif
