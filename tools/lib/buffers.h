/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that transfer programs offer and use: one buffer on each NUMA node, or one on each of some devices. The
 * CPU never touches what is on a device; content.h fills and checks it.
 */
#ifndef TOOLS_BUFFERS_H
#define TOOLS_BUFFERS_H

#include <causeway/causeway.h>

#define BUFFERS_MAX 64
#define BUFFERS_ALL_DEVICES (-1)

struct buffer {
	unsigned char *address;
	struct cw_region *region;
	int device; /* -1 for host memory */
};

struct buffers {
	struct buffer list[BUFFERS_MAX];
	size_t count;
	uint64_t length; /* of each */
};

/* One buffer on each NUMA node; a machine that does not tell its nodes has one. 0, or -1 after a message. */
int buffers_open_nodes(const char *command, struct cw_engine *engine, uint64_t length, struct buffers *buffers);

/* One buffer on each of count devices from device first on, round the devices there are; BUFFERS_ALL_DEVICES = on all.
 * The devices are those that the transport is for, or, when it is not bound to a vendor (NULL is allowed), those of the
 * first vendor that has any here. 0, or -1 after a message. */
int buffers_open_devices(const char *command, struct cw_engine *engine, const char *transport, int first,
			 uint64_t count, uint64_t length, struct buffers *buffers);

void buffers_close(struct buffers *buffers);

/* Device memory is what the transport is for. */
int buffers_transport_is_for_devices(const char *transport);

#endif
