/* SPDX-License-Identifier: Apache-2.0 */
/* Two engines (or one, to itself) with the devices of tests/plugin/fake_device.c, and memory of either kind on each
 * side.
 */
#ifndef CW_TESTS_SUPPORT_FAKE_H
#define CW_TESTS_SUPPORT_FAKE_H

#include <causeway/causeway.h>
#include <plugin/fake_device.h>

struct fake_side {
	int device;             /* -1 = host memory */
	unsigned char *address; /* as requests name it */
	unsigned char *bytes;   /* as the test sees it */
	struct cw_region *region;
};

struct fake_world {
	const struct fake_device *devices;
	struct cw_engine *near, *far; /* the same one for "local" */
	struct cw_segment *segment;
	struct fake_side here, there;
	size_t length;
};

/* The plug-in's handle on its devices; plug-ins: the folder they are in. */
const struct fake_device *fake_load(const char *plugins);
/* An engine with the plug-in and count more settings (at most 8). */
struct cw_engine *fake_engine(const char *plugins, const struct cw_setting *settings, size_t count);
/* transports: "local" (one engine), or the list that the segment may use. here and there: a device, or -1 for host
 * memory. Ends the program with a text when it fails. */
void fake_world_open(struct fake_world *world, const char *plugins, const char *transports, int here, int there,
		     size_t length, const struct cw_setting *settings, size_t count);
/* Also frees the memory. */
void fake_world_close(struct fake_world *world);
struct cw_request fake_request(const struct fake_world *world, enum cw_op op, size_t here, size_t there, size_t length);
void fake_fill(unsigned char *bytes, size_t length, unsigned seed);

#endif
