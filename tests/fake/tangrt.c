/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest Tang runtime that the library takes: every required symbol, one device, no memory. Built several times,
 * each time with something missing or wrong; see cmake/tests.cmake and tests/unit/gpu_library_test.c.
 */
#include <platforms/gpu/abi/tang.h>
#include <stdio.h>

#define NOTHING                                                                                                        \
	{                                                                                                              \
		return CW__TANG_INVALID_VALUE;                                                                         \
	}

int tangGetDeviceCount(int *count_out)
{
#ifdef FAKE_NO_DEVICE
	*count_out = 0;
	return CW__TANG_NO_DEVICE;
#else
	*count_out = 1;
	return CW__TANG_SUCCESS;
#endif
}

int tangGetDevice(int *device_out)
{
	*device_out = 0;
	return CW__TANG_SUCCESS;
}

int tangSetDevice(int device)
{
	return device ? CW__TANG_INVALID_DEVICE : CW__TANG_SUCCESS;
}

int tangDeviceGetPCIBusId(char *text, int size, int device)
{
	(void)device;
	snprintf(text, (size_t)size, "0000:3B:00.0");
	return CW__TANG_SUCCESS;
}

const char *tangGetErrorString(int result)
{
	return result == CW__TANG_NO_DEVICE ? "no device" : "fake";
}

int tangGetLastError(void) NOTHING int tangDeviceCanAccessPeer(int *yes_out, int device, int peer) NOTHING
	int tangPointerGetAttributes(struct cw__tang_pointer_attributes *attributes_out, const void *address) NOTHING
	int tangMalloc(void **address_out, size_t size) NOTHING int tangFree(void *address) NOTHING
	int tangHostAlloc(void **address_out, size_t size, unsigned flags) NOTHING
	int tangFreeHost(void *address) NOTHING
	int tangMemcpy(void *to, const void *from, size_t size, int kind) NOTHING
	int tangMemcpyAsync(void *to, const void *from, size_t size, int kind, struct cw__tang_stream *stream) NOTHING
	int tangMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t size) NOTHING
	int tangStreamCreateWithFlags(struct cw__tang_stream **stream_out, unsigned flags) NOTHING
	int tangStreamDestroy(struct cw__tang_stream *stream) NOTHING
	int tangStreamWaitEvent(struct cw__tang_stream *stream, struct cw__tang_event *event, unsigned flags) NOTHING
	int tangEventCreateWithFlags(struct cw__tang_event **event_out, unsigned flags) NOTHING
	int tangEventRecord(struct cw__tang_event *event, struct cw__tang_stream *stream) NOTHING
	int tangEventQuery(struct cw__tang_event *event) NOTHING
#ifndef FAKE_LACKS_SYMBOL
	int tangEventSynchronize(struct cw__tang_event *event) NOTHING
#endif
	int tangEventDestroy(struct cw__tang_event *event) NOTHING
#ifdef FAKE_UNRESOLVED
	int not_there_at_all(void);
int tangDeviceSynchronize(void)
{
	return not_there_at_all();
}
#endif
