/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated CUDA driver: it does what the driver's documents say, and refuses what the driver refuses. */
#include "emulator_child.h"
#include "platforms/gpu/abi/cuda.h"

#include <pthread.h>

#define MIB (1U << 20)

/* Not called by Causeway, so not among its declarations. */
int cuDeviceGetName(char *name, int size, int device);
int cuDeviceTotalMem_v2(size_t *bytes_out, int device);
int cuCtxDisablePeerAccess(struct cw__cu_context *peer);
int cuGetProcAddress(const char *name, void **function_out, int version, uint64_t flags);
int cuGetProcAddress_v2(const char *name, void **function_out, int version, uint64_t flags, int *found_out);

static uint64_t number(const void *address)
{
	return (uint64_t)(uintptr_t)address;
}

/* Initialises, and makes the primary context of the device current. */
static struct cw__cu_context *use(int device)
{
	struct cw__cu_context *context = NULL;

	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&context, device));
	OK(cuCtxSetCurrent(context));
	return context;
}

static void nothing_works_before_init(void)
{
	struct cw__cu_context *context;
	const char *text = NULL;
	uint64_t address;
	int count, version = 0;

	RESULT(3, cuDeviceGetCount(&count));
	RESULT(3, cuDevicePrimaryCtxRetain(&context, 0));
	RESULT(3, cuCtxGetCurrent(&context));
	RESULT(3, cuMemAlloc_v2(&address, 1));
	OK(cuDriverGetVersion(&version));
	CHECK(version >= 12000);
	OK(cuGetErrorName(3, &text));
	CHECK(!strcmp(text, "CUDA_ERROR_NOT_INITIALIZED"));
	OK(cuGetErrorString(600, &text));
	CHECK(!strcmp(text, "device not ready"));
	RESULT(1, cuGetErrorString(123456, &text));
	RESULT(1, cuInit(1));
	OK(cuInit(0));
	OK(cuInit(0));
	OK(cuDeviceGetCount(&count));
	CHECK(count == 2);
}

static void devices(void)
{
	struct cw__cu_uuid first, second;
	char text[32], name[64];
	size_t bytes = 0;
	int device = -1, value = -1, yes = -1;

	OK(cuInit(0));
	OK(cuDeviceGet(&device, 1));
	CHECK(device == 1);
	RESULT(101, cuDeviceGet(&device, 2));
	RESULT(101, cuDeviceGet(&device, -1));
	OK(cuDeviceGetPCIBusId(text, sizeof(text), 1));
	CHECK(!strcmp(text, "0000:11:00.0"));
	RESULT(1, cuDeviceGetPCIBusId(text, 5, 1));
	OK(cuDeviceGetByPCIBusId(&device, "0000:10:00.0"));
	CHECK(device == 0);
	RESULT(101, cuDeviceGetByPCIBusId(&device, "0000:99:00.0"));
	OK(cuDeviceGetAttribute(&value, CW__CU_DEVICE_PCI_BUS, 1));
	CHECK(value == 0x11);
	OK(cuDeviceGetAttribute(&value, CW__CU_DEVICE_DMA_BUF, 1));
	CHECK(value == 0);
	RESULT(1, cuDeviceGetAttribute(&value, 100000, 1));
	RESULT(101, cuDeviceGetAttribute(&value, CW__CU_DEVICE_PCI_BUS, 7));
	OK(cuDeviceGetUuid_v2(&first, 0));
	OK(cuDeviceGetUuid_v2(&second, 1));
	CHECK(memcmp(&first, &second, sizeof(first)) != 0);
	OK(cuDeviceGetName(name, sizeof(name), 0));
	CHECK(name[0]);
	OK(cuDeviceTotalMem_v2(&bytes, 0));
	CHECK(bytes == (size_t)16 << 30);
	OK(cuDeviceCanAccessPeer(&yes, 0, 1));
	CHECK(yes == 1);
	OK(cuDeviceCanAccessPeer(&yes, 1, 1));
	CHECK(yes == 0);
	RESULT(101, cuDeviceCanAccessPeer(&yes, 0, 2));
}

static void *look_at_context(void *arg)
{
	struct cw__cu_context *current = arg;

	OK(cuCtxGetCurrent(&current));
	return current;
}

static void contexts(void)
{
	struct cw__cu_context *a, *b, *again, *current = NULL;
	uint64_t address;
	void *in_thread;
	pthread_t thread;
	unsigned flags = 9;
	int active = -1, device = -1;

	OK(cuInit(0));
	OK(cuCtxGetCurrent(&current));
	CHECK(!current);
	RESULT(201, cuMemAlloc_v2(&address, 1));
	RESULT(201, cuCtxGetDevice(&device));
	RESULT(201, cuCtxPopCurrent_v2(&current));
	OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
	CHECK(!active && !flags);
	RESULT(201, cuDevicePrimaryCtxRelease_v2(1));
	OK(cuDevicePrimaryCtxRetain(&a, 0));
	OK(cuDevicePrimaryCtxRetain(&b, 1));
	OK(cuDevicePrimaryCtxRetain(&again, 1));
	CHECK(a != b && b == again);
	OK(cuCtxGetCurrent(&current));
	CHECK(!current); /* retaining makes nothing current */
	RESULT(201, cuCtxSetCurrent((struct cw__cu_context *)&active));

	OK(cuCtxSetCurrent(b));
	OK(cuCtxGetDevice(&device));
	CHECK(device == 1);
	OK(cuCtxPushCurrent_v2(a));
	OK(cuCtxGetDevice(&device));
	CHECK(device == 0);
	/* Each thread has its own. */
	CHECK(!pthread_create(&thread, NULL, look_at_context, b) && !pthread_join(thread, &in_thread) && !in_thread);
	OK(cuCtxPopCurrent_v2(&current));
	CHECK(current == a);
	OK(cuCtxGetCurrent(&current));
	CHECK(current == b);

	OK(cuDevicePrimaryCtxRelease_v2(1));
	OK(cuCtxGetDevice(&device));
	OK(cuDevicePrimaryCtxRelease_v2(1));
	RESULT(709, cuCtxGetDevice(&device));
	RESULT(201, cuCtxSetCurrent(b));
	RESULT(201, cuDevicePrimaryCtxRelease_v2(1));
	OK(cuCtxSetCurrent(NULL));
	OK(cuCtxGetCurrent(&current));
	CHECK(!current);
}

static void peer_access(void)
{
	struct cw__cu_context *a = use(0), *b = NULL;

	OK(cuDevicePrimaryCtxRetain(&b, 1));
	RESULT(705, cuCtxDisablePeerAccess(b));
	OK(cuCtxEnablePeerAccess(b, 0));
	RESULT(704, cuCtxEnablePeerAccess(b, 0));
	RESULT(1, cuCtxEnablePeerAccess(b, 1));
	OK(cuCtxDisablePeerAccess(b));
	RESULT(101, cuCtxEnablePeerAccess(a, 0)); /* itself */
	RESULT(201, cuCtxEnablePeerAccess(NULL, 0));
}

static void allocations(void)
{
	uint64_t a, b, base = 0, none = 7;
	size_t before = 0, after = 0, total = 0, size = 0;
	void *host, *ours = malloc(8192);

	use(1);
	RESULT(1, cuMemAlloc_v2(&none, 0));
	RESULT(2, cuMemAlloc_v2(&none, (size_t)1 << 50));
	CHECK(none == 7);
	OK(cuMemFree_v2(0));
	OK(cuMemGetInfo_v2(&before, &total));
	OK(cuMemAlloc_v2(&a, 1000));
	OK(cuMemAlloc_v2(&b, 5000));
	OK(cuMemGetInfo_v2(&after, &total));
	CHECK(before - after >= 6000 && a % 256 == 0);
	OK(cuMemGetAddressRange_v2(&base, &size, b + 4999));
	CHECK(base == b && size == 5000);
	RESULT(500, cuMemGetAddressRange_v2(&base, &size, number(ours)));
	RESULT(1, cuMemFree_v2(b + 1));
	OK(cuMemFree_v2(a));
	RESULT(1, cuMemFree_v2(a));

	OK(cuMemHostAlloc(&host, 100, CW__CU_HOST_PORTABLE));
	memset(host, 3, 100);
	OK(cuMemHostGetDevicePointer_v2(&base, host, 0));
	CHECK(base == number(host));
	RESULT(1, cuMemHostGetDevicePointer_v2(&base, ours, 0));
	RESULT(1, cuMemFreeHost(ours));
	OK(cuMemFreeHost(host));
	RESULT(713, cuMemHostUnregister(ours));
	OK(cuMemHostRegister_v2(ours, 8192, 0));
	RESULT(712, cuMemHostRegister_v2(ours, 8192, 0));
	OK(cuMemHostUnregister(ours));
	free(ours);
}

static void pointers(void)
{
	int names[] = { CW__CU_POINTER_MEMORY_TYPE, CW__CU_POINTER_DEVICE_ORDINAL, CW__CU_POINTER_RANGE_START,
			CW__CU_POINTER_RANGE_SIZE,  CW__CU_POINTER_CONTEXT,        CW__CU_POINTER_IS_LEGACY_IPC_CAPABLE,
			CW__CU_POINTER_IS_MANAGED };
	unsigned type = 9, ipc = 9, managed = 9;
	struct cw__cu_context *context = use(1), *of = NULL;
	uint64_t address, start = 9, seen = 0;
	size_t size = 9;
	int device = 9;
	void *values[] = { &type, &device, &start, &size, &of, &ipc, &managed }, *host;

	OK(cuMemAlloc_v2(&address, MIB));
	OK(cuCtxSetCurrent(NULL)); /* needs no context */
	OK(cuPointerGetAttributes(7, names, values, address + 77));
	CHECK(type == CW__CU_MEMORY_DEVICE && device == 1 && start == address && size == MIB && of == context &&
	      ipc == 1 && managed == 0);
	OK(cuPointerGetAttribute(&seen, CW__CU_POINTER_DEVICE_POINTER, address + 77));
	CHECK(seen == address + 77);
	/* Ordinary host memory: the one refuses, the other says nothing. */
	RESULT(1, cuPointerGetAttribute(&type, CW__CU_POINTER_MEMORY_TYPE, number(&type)));
	OK(cuPointerGetAttributes(7, names, values, number(&type)));
	CHECK(type == 0 && device == 0 && start == 0 && size == 0 && !of && ipc == 0);
	names[0] = 1000;
	RESULT(1, cuPointerGetAttributes(1, names, values, address));
	RESULT(1, cuPointerGetAttributes(0, names, values, address));
	OK(cuCtxSetCurrent(context));
	OK(cuMemHostAlloc(&host, MIB, 0));
	OK(cuPointerGetAttribute(&type, CW__CU_POINTER_MEMORY_TYPE, number(host)));
	CHECK(type == CW__CU_MEMORY_HOST);
}

static void copies(void)
{
	static unsigned char in[MIB], out[MIB];
	struct cw__cu_context *a = use(0), *b = NULL;
	struct cw__cu_stream *stream = NULL;
	uint64_t first, second;

	OK(cuDevicePrimaryCtxRetain(&b, 1));
	fill_pattern(in, sizeof(in), 5);
	OK(cuMemAlloc_v2(&first, MIB));
	OK(cuStreamCreate(&stream, CW__CU_STREAM_NON_BLOCKING));
	OK(cuCtxPushCurrent_v2(b));
	OK(cuMemAlloc_v2(&second, MIB));
	OK(cuCtxPopCurrent_v2(NULL));

	OK(cuMemcpyAsync(first, number(in), MIB, stream));
	OK(cuMemcpyPeerAsync(second, b, first, a, MIB, stream));
	OK(cuMemcpyAsync(number(out), second + 100, MIB - 100, stream));
	OK(cuStreamSynchronize(stream));
	CHECK(!memcmp(out, in + 100, MIB - 100));

	/* The driver finds out by itself that these are on two devices; none of these need peer access. */
	OK(cuMemsetD8_v2(first, 0x5a, MIB));
	OK(cuMemcpy(second, first, MIB));
	OK(cuMemcpyPeer(second, b, first, a, 10));
	OK(cuMemcpyPeer(first + 16, a, first, a, 16)); /* one device twice is allowed */
	OK(cuMemcpy(number(out), second, MIB));
	for (size_t i = 0; i < MIB; i++)
		CHECK(out[i] == 0x5a);
	OK(cuMemcpy(number(out), number(in), MIB));
	CHECK(!memcmp(in, out, MIB));

	RESULT(1, cuMemcpy(first, number(in), MIB + 1));
	RESULT(1, cuMemcpyAsync(first + 1, second, MIB, stream));
	RESULT(201, cuMemcpyPeer(second, NULL, first, a, 10));
	OK(cuStreamDestroy_v2(stream));
	RESULT(400, cuMemcpyAsync(first, second, 1, stream));
	RESULT(400, cuStreamDestroy_v2(NULL));
}

static void wait_for_byte(void *arg)
{
	char byte;

	CHECK(read(*(int *)arg, &byte, 1) == 1);
	RESULT(800, cuCtxSynchronize()); /* no calls from here */
}

static void streams_and_events(void)
{
	struct cw__cu_stream *stream = NULL, *other = NULL;
	struct cw__cu_event *event = NULL;
	int ends[2];

	use(0);
	CHECK(!pipe(ends));
	OK(cuStreamCreate(&stream, CW__CU_STREAM_NON_BLOCKING));
	OK(cuStreamCreate(&other, CW__CU_STREAM_NON_BLOCKING));
	RESULT(1, cuStreamCreate(&other, 2));
	RESULT(1, cuEventCreate(&event, CW__CU_EVENT_INTERPROCESS));
	OK(cuEventCreate(&event, CW__CU_EVENT_DISABLE_TIMING));
	OK(cuEventQuery(event)); /* never recorded */
	OK(cuLaunchHostFunc(stream, wait_for_byte, &ends[0]));
	OK(cuEventRecord(event, stream));
	RESULT(600, cuEventQuery(event));
	RESULT(600, cuStreamQuery(stream));
	OK(cuStreamWaitEvent(other, event, 0));
	RESULT(600, cuStreamQuery(other));
	RESULT(1, cuStreamWaitEvent(other, event, 1));
	CHECK(write(ends[1], "x", 1) == 1);
	OK(cuEventSynchronize(event));
	OK(cuStreamSynchronize(other));
	OK(cuStreamQuery(other));
	OK(cuStreamQuery(stream));
	OK(cuCtxSynchronize());
	OK(cuEventDestroy_v2(event));
	RESULT(400, cuEventQuery(event));
	RESULT(400, cuEventQuery(NULL));
	RESULT(1, cuLaunchHostFunc(stream, NULL, NULL));
}

static void by_name(void)
{
	int (*alloc)(uint64_t *, size_t), found = 9;
	void *function = NULL;

	OK(cuGetProcAddress("cuMemAlloc", &function, 12000, 0));
	alloc = cuMemAlloc_v2;
	CHECK(!memcmp(&function, &alloc, sizeof(function)));
	RESULT(500, cuGetProcAddress("cuNoSuchFunction", &function, 12000, 0));
	CHECK(!function);
	RESULT(500, cuGetProcAddress_v2("cuLaunchHostFunc", &function, 9000, 0, &found));
	CHECK(found == 2 && !function);
	OK(cuGetProcAddress_v2("cuGetProcAddress", &function, 12000, 0, &found));
	CHECK(found == 0 && function);
	RESULT(1, cuGetProcAddress(NULL, &function, 12000, 0));
}

/* ---------------------------------------------------------------------------------- two processes */

static void fill_two(struct cw__world *world)
{
	cw__world_fill(world, 2, 2);
}

/* The owner: exports, waits for the other to have written, looks, frees, waits for the end. */
static void own(int in, int out)
{
	static unsigned char bytes[MIB], expected[MIB];
	struct cw__cu_ipc_handle handle;
	uint64_t address;
	char byte;

	use(0);
	OK(cuMemAlloc_v2(&address, MIB));
	OK(cuMemsetD8_v2(address, 0x11, MIB));
	RESULT(1, cuIpcGetMemHandle(&handle, number(bytes)));
	OK(cuIpcGetMemHandle(&handle, address));
	RESULT(1, cuIpcOpenMemHandle_v2(&address, handle, 1)); /* not in the exporting process */
	CHECK(write(out, &handle, sizeof(handle)) == sizeof(handle));
	CHECK(read(in, &byte, 1) == 1);
	OK(cuMemcpy(number(bytes), address, MIB));
	fill_pattern(expected, MIB, 3);
	CHECK(!memcmp(bytes, expected, MIB));
	OK(cuMemFree_v2(address));
	CHECK(write(out, "f", 1) == 1);
	CHECK(read(in, &byte, 1) == 1);
}

static void borrow(int in, int out)
{
	static unsigned char bytes[MIB];
	struct cw__cu_ipc_handle handle, broken;
	uint64_t base = 0, again = 0, mine = 0;
	char byte;

	CHECK(read(in, &handle, sizeof(handle)) == sizeof(handle));
	broken = handle;
	broken.bytes[20] ^= 1;
	use(1); /* another device than that of the memory */
	RESULT(1, cuIpcOpenMemHandle_v2(&base, broken, 1));
	RESULT(1, cuIpcOpenMemHandle_v2(&base, handle, 7));
	OK(cuIpcOpenMemHandle_v2(&base, handle, CW__CU_IPC_LAZY_ENABLE_PEER_ACCESS));
	OK(cuIpcOpenMemHandle_v2(&again, handle, CW__CU_IPC_LAZY_ENABLE_PEER_ACCESS));
	CHECK(base == again);
	OK(cuIpcCloseMemHandle(again));
	OK(cuMemcpy(number(bytes), base, MIB));
	for (size_t i = 0; i < MIB; i++)
		CHECK(bytes[i] == 0x11);
	fill_pattern(bytes, MIB, 3);
	OK(cuMemAlloc_v2(&mine, MIB));
	OK(cuMemcpy(mine, number(bytes), MIB));
	OK(cuMemcpy(base, mine, MIB));
	RESULT(1, cuMemFree_v2(base)); /* somebody else's */
	OK(cuIpcCloseMemHandle(base));
	RESULT(1, cuIpcCloseMemHandle(base));
	CHECK(write(out, "w", 1) == 1);
	CHECK(read(in, &byte, 1) == 1);
	RESULT(205, cuIpcOpenMemHandle_v2(&base, handle, 1)); /* it is freed */
	CHECK(write(out, "e", 1) == 1);
}

static void between_processes(void)
{
	int there[2], back[2], status;
	pid_t owner;

	CHECK(!pipe(there) && !pipe(back));
	owner = fork();
	if (!owner) {
		alarm(60);
		own(back[0], there[1]);
		_exit(0);
	}
	borrow(there[0], back[1]);
	CHECK(waitpid(owner, &status, 0) == owner && WIFEXITED(status) && !WEXITSTATUS(status));
}

static void a_lost_device_stays_lost(void)
{
	uint64_t address;

	use(0);
	RESULT(46, cuMemAlloc_v2(&address, 1));
	RESULT(46, cuCtxSynchronize());
}

static void a_child_of_fork_may_not_call(void)
{
	int status;
	pid_t child;

	use(0);
	child = fork();
	if (!child)
		_exit(cuCtxSynchronize() == 3 ? 0 : 1);
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
}

/* The device of a thread is Tang's; what the CUDA driver makes current is another matter. */
static void leaves_the_other_runtime_alone(void)
{
	uint64_t address;
	int device = -1;

	OK(tangSetDevice(0));
	use(1);
	OK(cuMemAlloc_v2(&address, 100));
	OK(tangGetDevice(&device));
	CHECK(device == 0);
	OK(tangSetDevice(1));
	OK(cuCtxGetDevice(&device));
	CHECK(device == 1);
}

static const struct {
	const char *name;
	void (*fn)(void);
	const char *faults;
	int shared;
} cases[] = {
	{ "nothing works before init", nothing_works_before_init, NULL, 0 },
	{ "devices", devices, NULL, 0 },
	{ "contexts", contexts, NULL, 0 },
	{ "peer access", peer_access, NULL, 0 },
	{ "allocations", allocations, NULL, 0 },
	{ "pointers", pointers, NULL, 0 },
	{ "copies", copies, NULL, 0 },
	{ "streams and events", streams_and_events, NULL, 0 },
	{ "by name", by_name, NULL, 0 },
	{ "between processes", between_processes, NULL, 1 },
	{ "a lost device stays lost", a_lost_device_stays_lost, "cuMemAlloc_v2 removed\n", 0 },
	{ "a child of fork may not call", a_child_of_fork_may_not_call, NULL, 0 },
	{ "leaves the other runtime alone", leaves_the_other_runtime_alone, NULL, 0 },
};

static void run_case(void **state)
{
	size_t index = *(const size_t *)*state;
	const char *world = cases[index].shared ? make_world(fill_two) : NULL;

	assert_int_equal(run_child(cases[index].fn, NULL, cases[index].faults, world), 0);
	if (world)
		unlink(world);
}

int main(void)
{
	static size_t indices[sizeof(cases) / sizeof(cases[0])];
	struct CMUnitTest tests[sizeof(cases) / sizeof(cases[0])];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		indices[i] = i;
		tests[i] = (struct CMUnitTest){ cases[i].name, run_case, NULL, NULL, &indices[i] };
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
