/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Tang row on the emulated runtime: the current device is the caller's, no error is left behind, allocations are
 * found around an address in every way that a runtime may answer, blocking copies block.
 */
#include "gpu_world.h"
#include <platforms/gpu/abi/tang.h>
#include <pthread.h>
#include <stdint.h>

#define SIZE ((1u << 20) + 100)

static int current_device(void)
{
	const struct cw__gpu *gpu = gpu_load();
	struct cw__gpu_scope outer, inner;
	int device = -1;

	CHECK(gpu && gpu->device_count == 2);
	APPLICATION(gpu, SetDevice);
	APPLICATION(gpu, GetDevice);
	APPLICATION(gpu, PeekAtLastError);
	CHECK(!app_SetDevice(1));
	CHECK(!gpu->enter(0, &outer));
	CHECK(!app_GetDevice(&device) && device == 0);
	CHECK(!gpu->enter(1, &inner));
	CHECK(!app_GetDevice(&device) && device == 1);
	gpu->leave(&inner);
	CHECK(!app_GetDevice(&device) && device == 0);
	gpu->leave(&outer);
	CHECK(!app_GetDevice(&device) && device == 1);
	CHECK(gpu->enter(2, &outer) == CW__TANG_INVALID_DEVICE);
	CHECK(gpu->enter(-1, &outer) == CW__TANG_INVALID_DEVICE);
	CHECK(!app_GetDevice(&device) && device == 1);
	CHECK(!app_PeekAtLastError());
	return 0;
}

/* Every failing call of ours leaves the application without an error. */
static int no_error_left(void)
{
	const struct cw__gpu *gpu = gpu_load();
	struct cw__gpu_scope scope;
	struct cw__gpu_handle handle;
	struct cw__gpu_memory memory;
	void *seen, *base;
	int number;

	CHECK(gpu);
	APPLICATION(gpu, PeekAtLastError);
	CHECK(!gpu->enter(0, &scope));
	CHECK(gpu->release(&number) && !app_PeekAtLastError());
	CHECK(gpu->copy(&number, &memory, 4, CW__GPU_D2D) && !app_PeekAtLastError());
	CHECK(gpu->peer_copy(&number, 0, &memory, 0, 4) && !app_PeekAtLastError());
	CHECK(gpu->peer_address(0, 99, &number, &seen) && !app_PeekAtLastError());
	CHECK(gpu->export_memory(&number, &handle) && !app_PeekAtLastError());
	memset(&handle, 1, sizeof(handle));
	CHECK(gpu->open_memory(&handle, &base) && !app_PeekAtLastError());
	CHECK(gpu->close_memory(&number) && !app_PeekAtLastError());
	CHECK(gpu->can_reach(0, 99, &number) && !app_PeekAtLastError());
	CHECK(!gpu->query(&number, &memory) && !app_PeekAtLastError());
	CHECK(*gpu->error_text(CW__TANG_INVALID_VALUE));
	CHECK(gpu->is_fatal(CW__TANG_DEVICE_REMOVED) && gpu->is_fatal(CW__TANG_PCIE_FATAL));
	CHECK(!gpu->is_fatal(0) && !gpu->is_fatal(CW__TANG_INVALID_VALUE) && !gpu->is_fatal(CW__TANG_NOT_READY));
	gpu->leave(&scope);
	return 0;
}

/* What query() says of a place in the middle one of three allocations on device 1, while device 0 is current. */
static int ask(const struct cw__gpu *gpu, size_t offset, struct cw__gpu_memory *memory, uint64_t *start)
{
	void *blocks[3] = { NULL };
	struct cw__gpu_scope scope;
	int device;

	APPLICATION(gpu, SetDevice);
	APPLICATION(gpu, GetDevice);
	CHECK(!app_SetDevice(0));
	CHECK(!gpu->enter(1, &scope));
	for (unsigned i = 0; i < 3; i++)
		CHECK(!gpu->allocate(&blocks[i], SIZE));
	gpu->leave(&scope);
	*start = (uint64_t)(uintptr_t)blocks[1];
	CHECK(!gpu->query((char *)blocks[1] + offset, memory));
	CHECK(!app_GetDevice(&device) && device == 0);
	CHECK(!gpu->enter(1, &scope));
	for (unsigned i = 0; i < 3; i++)
		CHECK(!gpu->release(blocks[i]));
	gpu->leave(&scope);
	return 0;
}

static const size_t offsets[] = { 0, 1, 255, 256, 4097, SIZE / 2, SIZE - 1 };
#define OFFSETS (sizeof(offsets) / sizeof(offsets[0]))

/* The runtime may round sizes up to its own unit. */
static int whole_allocation(void)
{
	const struct cw__gpu *gpu = gpu_load();

	CHECK(gpu);
	for (size_t i = 0; i < OFFSETS; i++) {
		struct cw__gpu_memory memory;
		uint64_t start;

		CHECK(!ask(gpu, offsets[i], &memory, &start));
		CHECK(memory.is_device && memory.device == 1);
		CHECK(memory.allocation_base == start);
		CHECK(memory.allocation_length >= SIZE && memory.allocation_length < SIZE + (1u << 16));
	}
	return 0;
}

/* The start is known, how long it is perhaps not. */
static int start_alone(void)
{
	const struct cw__gpu *gpu = gpu_load();

	CHECK(gpu);
	for (size_t i = 0; i < OFFSETS; i++) {
		struct cw__gpu_memory memory;
		uint64_t start;

		CHECK(!ask(gpu, offsets[i], &memory, &start));
		CHECK(memory.is_device && memory.device == 1);
		CHECK(memory.allocation_base == start);
		CHECK(!memory.allocation_length ||
		      (memory.allocation_length >= SIZE && memory.allocation_length < SIZE + (1u << 16)));
	}
	return 0;
}

/* What was asked about is all that can be exported; nothing beyond the allocation is claimed. */
static int address_alone(void)
{
	const struct cw__gpu *gpu = gpu_load();

	CHECK(gpu);
	for (size_t i = 0; i < OFFSETS; i++) {
		struct cw__gpu_memory memory;
		uint64_t start;

		CHECK(!ask(gpu, offsets[i], &memory, &start));
		CHECK(memory.is_device && memory.device == 1);
		CHECK(memory.allocation_base == start + offsets[i]);
		CHECK(memory.allocation_length == 0);
	}
	return 0;
}

static int host_memory(void)
{
	const struct cw__gpu *gpu = gpu_load();
	struct cw__gpu_memory memory;
	char stack[16], *heap = malloc(100);
	int status, device;

	CHECK(gpu && heap);
	APPLICATION(gpu, SetDevice);
	APPLICATION(gpu, GetDevice);
	CHECK(!app_SetDevice(1));
	CHECK(!gpu->query(stack, &memory) && !memory.is_device && memory.device == -1 && !memory.device_address);
	status = gpu->query(heap, &memory);
	free(heap);
	CHECK(!status && !memory.is_device && !memory.device_address);
	CHECK(!gpu->query((void *)(uintptr_t)0x1000, &memory) && !memory.is_device);
	CHECK(!app_GetDevice(&device) && device == 1);
	return 0;
}

/* Where devices see it, unless that is no address of a device: then it is copied like any host memory. */
static int mapped_host_memory(void)
{
	const struct cw__gpu *gpu = gpu_load();
	struct cw__gpu_memory memory;
	void *host = NULL, *seen = NULL;

	CHECK(gpu);
	APPLICATION(gpu, HostAlloc);
	APPLICATION(gpu, HostGetDevicePointer);
	APPLICATION(gpu, FreeHost);
	CHECK(!app_HostAlloc(&host, 8192, CW__TANG_HOST_ALLOC_MAPPED));
	CHECK(!app_HostGetDevicePointer(&seen, (char *)host + 100, 0));
	CHECK(!gpu->query((char *)host + 100, &memory));
	CHECK(!memory.is_device && memory.device_address == (seen == (char *)host + 100 ? NULL : seen));
	CHECK(!app_FreeHost(host));
	return 0;
}

/* Reads device memory in a stream that waits for no other. */
static int read_aside(const struct cw__gpu *gpu, int device, void *to, const void *from, size_t length)
{
	struct cw__gpu_scope scope;
	void *stream, *event;

	CHECK(!gpu->enter(device, &scope));
	CHECK(!gpu->stream_open(&stream) && !gpu->event_open(&event));
	CHECK(!gpu->copy_async(to, from, length, CW__GPU_D2H, stream));
	CHECK(!gpu->event_record(event, stream) && !gpu->event_wait(event));
	CHECK(!gpu->event_close(event) && !gpu->stream_close(stream));
	gpu->leave(&scope);
	return 0;
}

/* Blocking copies and peer copies have arrived when they return, also when the runtime only queues them. */
static int copies_block(void)
{
	enum { LENGTH = 4 << 20 };
	const struct cw__gpu *gpu = gpu_load();
	struct cw__gpu_scope scope;
	unsigned char *host = malloc(LENGTH), *back = malloc(LENGTH);
	void *blocks[3];

	CHECK(gpu && host && back);
	for (unsigned i = 0; i < 3; i++) {
		CHECK(!gpu->enter(i == 2, &scope));
		CHECK(!gpu->allocate(&blocks[i], LENGTH));
		gpu->leave(&scope);
	}
	for (unsigned round = 0; round < 5; round++) {
		memset(host, (int)round + 1, LENGTH);
		for (unsigned i = 0; i < 3; i++) {
			CHECK(!gpu->enter(0, &scope));
			CHECK(!(i == 0   ? gpu->copy(blocks[0], host, LENGTH, CW__GPU_H2D)
				: i == 1 ? gpu->copy(blocks[1], blocks[0], LENGTH, CW__GPU_D2D)
					 : gpu->peer_copy(blocks[2], 1, blocks[1], 0, LENGTH)));
			gpu->leave(&scope);
			CHECK(!read_aside(gpu, i == 2, back, blocks[i], LENGTH));
			CHECK(!memcmp(host, back, LENGTH));
		}
		memset(back, 0, LENGTH);
		CHECK(!gpu->enter(1, &scope));
		CHECK(!gpu->copy(back, blocks[2], LENGTH, CW__GPU_D2H));
		gpu->leave(&scope);
		CHECK(!memcmp(host, back, LENGTH));
	}
	for (unsigned i = 0; i < 3; i++) {
		CHECK(!gpu->enter(i == 2, &scope));
		CHECK(!gpu->release(blocks[i]));
		gpu->leave(&scope);
	}
	free(host);
	free(back);
	return 0;
}

static const struct gpu_case cases[] = {
	{ "current device", current_device, "" },
	{ "current device, sensitive", current_device, "context_sensitive" },
	{ "no error left", no_error_left, "" },
	{ "allocation", whole_allocation, "" },
	{ "allocation, sensitive", whole_allocation, "context_sensitive" },
	{ "allocation, not strict", whole_allocation, "strict=no" },
	{ "allocation, base in attributes", start_alone, "attribute_base" },
	{ "allocation, base in attributes, sensitive", start_alone, "attribute_base,context_sensitive" },
	{ "allocation, base in attributes, no interior", start_alone, "attribute_base,ipc_interior=no" },
	{ "allocation, handles differ", address_alone, "ipc_interior=distinct" },
	{ "allocation, no interior", address_alone, "ipc_interior=no" },
	{ "host memory", host_memory, "" },
	{ "host memory is host", host_memory, "host_query=host" },
	{ "host memory is an error", host_memory, "host_query=error" },
	{ "host memory, sensitive", host_memory, "context_sensitive" },
	{ "mapped host memory", mapped_host_memory, "" },
	{ "mapped host memory, same address", mapped_host_memory, "mapped_address=same" },
	{ "copies block", copies_block, "" },
	{ "copies block, late", copies_block, "d2d=late" },
};

int main(void)
{
	return gpu_run_cases(cases, sizeof(cases) / sizeof(cases[0]), gpu_load);
}
