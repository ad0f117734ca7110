/* SPDX-License-Identifier: Apache-2.0 */
/* How a test holds the devices of tests/plugin/fake_device.c: by the symbol `fake_device` of the plug-in. */
#ifndef CW_TESTS_PLUGIN_FAKE_DEVICE_H
#define CW_TESTS_PLUGIN_FAKE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#define FAKE_DEVICES 4 /* "fake:0" to "fake:3" */

enum fake_copy { FAKE_IN = 0, FAKE_OUT = 1 };

struct fake_device {
	/* Memory of a device, zeroed, that the CPU cannot touch at its address. NULL when there is none left. */
	void *(*allocate)(int device, size_t length);
	void (*release)(void *address);
	/* Where the test sees the byte at this address. */
	unsigned char *(*look)(const void *address);
	/* Everything as at the start; nothing may hang or wait. */
	void (*reset)(void);

	uint64_t (*copies)(enum fake_copy way); /* since reset() */
	uint64_t (*copied)(enum fake_copy way); /* bytes */
	uint64_t (*longest)(void);              /* bytes of one copy */
	/* From the copy number `first` (1 = the next) on, `count` copies of that way fail; count 0 = none. */
	void (*spoil)(enum fake_copy way, uint64_t first, uint64_t count);
	void (*delay)(uint64_t ns); /* each copy takes so long */
	/* Copies of that device that do not fail do not end before hang(device, 0); hanging() tells how many wait
	 * there. */
	void (*hang)(int device, int on);
	unsigned (*hanging)(void);

	/* A stream or event is a number from 1 on, as a handle. watch(): fires when fire(handle, status) is called, or
	 * at once when it was fired before. How many wait: watching(). */
	void (*fire)(uintptr_t handle, int status);
	unsigned (*watching)(void);
	/* Streams that fences block now; and how many fences there were. */
	unsigned (*blocked)(void);
	unsigned (*fences)(void);
	int bad_handle; /* this one does not exist: INVALID */
};

#endif
