/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of the vendor's runtime that cwpeer makes by itself, declared here from the vendor's documents, so that
 * nothing of the library under test is trusted. See peer_device.c.
 */
#ifndef TESTS_PROCESS_PEER_DEVICE_H
#define TESTS_PROCESS_PEER_DEVICE_H

#include "peer.h"

enum { KIND_H2D = 1, KIND_D2H = 2, KIND_D2D = 3 };

#define HOST_ALLOC_MAPPED 2u
#define STREAM_NON_BLOCKING 1u
#define EVENT_NO_TIMING 2u

/* Results: 0 = success. */
extern struct device_calls {
	int (*get_device_count)(int *count);
	int (*get_device)(int *device);
	int (*set_device)(int device);
	int (*allocate)(void **address, size_t size);
	int (*release)(void *address);
	int (*host_allocate)(void **address, size_t size, unsigned flags);
	int (*host_release)(void *address);
	int (*copy)(void *to, const void *from, size_t size, int kind);
	int (*copy_async)(void *to, const void *from, size_t size, int kind, void *stream);
	int (*set_async)(void *address, int value, size_t size, void *stream);
	int (*stream_create)(void **stream, unsigned flags);
	int (*stream_synchronize)(void *stream);
	int (*stream_wait_event)(void *stream, void *event, unsigned flags);
	int (*stream_destroy)(void *stream);
	int (*event_create)(void **event, unsigned flags);
	int (*event_record)(void *event, void *stream);
	int (*event_destroy)(void *event);
} tang;

/* Loads the runtime; a status, as a command's. */
int load(void);

/* A call's result as the status of a command. */
int done(int result, const char *call);

/* Makes a device current; leave() with what is returned here puts back what was. */
int enter(int device);
void leave(int before);

#endif
