/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated Tang runtime and PTML: they do what the vendor's documents say, and refuse what the vendor refuses.
 */
#include "emulator_child.h"

#define MIB (1U << 20)

static void devices(void)
{
	char text[32];
	int count = 0, device = -1, yes = -1;

	OK(tangGetDeviceCount(&count));
	CHECK(count == 2);
	OK(tangGetDevice(&device));
	CHECK(device == 0);
	RESULT(101, tangSetDevice(2));
	RESULT(101, tangSetDevice(-1));
	CHECK(tangPeekAtLastError() == 101);
	CHECK(tangGetLastError() == 101 && tangGetLastError() == 0);
	OK(tangSetDevice(1));
	OK(tangGetDevice(&device));
	CHECK(device == 1);
	OK(tangDeviceGetPCIBusId(text, sizeof(text), 1));
	OK(tangDeviceGetByPCIBusId(&device, text));
	CHECK(device == 1);
	RESULT(1, tangDeviceGetPCIBusId(text, 5, 1));
	OK(tangDeviceCanAccessPeer(&yes, 0, 1));
	CHECK(yes == 1);
	OK(tangDeviceCanAccessPeer(&yes, 0, 0));
	CHECK(yes == 0);
	OK(tangDeviceEnablePeerAccess(0, 0));
	RESULT(704, tangDeviceEnablePeerAccess(0, 0));
	OK(tangDeviceDisablePeerAccess(0));
	RESULT(705, tangDeviceDisablePeerAccess(0));
	RESULT(101, tangDeviceEnablePeerAccess(1, 0));
	CHECK(!strcmp(tangGetErrorName(600), "tangErrorNotReady"));
	CHECK(tangGetErrorString(-7) != NULL);
}

static void allocations(void)
{
	struct cw__tang_pointer_attributes attributes;
	size_t before = 0, after = 0, total = 0;
	void *none = &before, *a, *b, *again, *host, *seen = NULL;

	OK(tangMalloc(&none, 0));
	CHECK(!none);
	OK(tangFree(NULL));
	OK(tangMemGetInfo(&before, &total));
	a = device_memory(0, 1000);
	b = device_memory(0, 5000);
	OK(tangMemGetInfo(&after, &total));
	CHECK(before - after >= 6000 && (uintptr_t)a % 256 == 0);
	OK(tangPointerGetAttributes(&attributes, (char *)b + 4999));
	CHECK(attributes.type == 2 && attributes.device == 0 && attributes.device_pointer == (char *)b + 4999);
	RESULT(1, tangPointerGetAttributes(&attributes, (char *)b + 10000));
	RESULT(17, tangFree((char *)b + 1));
	OK(tangFree(a));
	RESULT(17, tangFree(a));
	RESULT(17, tangMemset(a, 1, 10));
	again = device_memory(0, 1000);
	CHECK(again == a);
	RESULT(2, tangMalloc(&none, (size_t)1 << 50));

	OK(tangHostAlloc(&host, 100, CW__TANG_HOST_ALLOC_MAPPED));
	memset(host, 3, 100);
	OK(tangHostGetDevicePointer(&seen, (char *)host + 50, 0));
	CHECK(seen && seen != (char *)host + 50);
	OK(tangPointerGetAttributes(&attributes, seen));
	CHECK(attributes.type == 2 && attributes.host_pointer == (char *)host + 50);
	OK(tangPointerGetAttributes(&attributes, (char *)host + 50));
	CHECK(attributes.type == 1 && attributes.device_pointer == seen);
	OK(tangPointerGetAttributes(&attributes, &total));
	CHECK(attributes.type == 0 && attributes.host_pointer == &total);
	RESULT(17, tangFree(host));
	RESULT(17, tangFreeHost(b));
	OK(tangFreeHost(host));
	RESULT(17, tangMemset(seen, 0, 1));
	OK(tangHostRegister(&before, sizeof(before), CW__TANG_HOST_REGISTER_MAPPED));
	RESULT(712, tangHostRegister(&before, sizeof(before), 0));
	OK(tangHostGetDevicePointer(&seen, &before, 0));
	OK(tangHostUnregister(&before));
	RESULT(713, tangHostUnregister(&before));
	OK(tangFree(b));
	OK(tangFree(again));
	OK(tangMemGetInfo(&after, &total));
	CHECK(causeway_emulator_count("live_allocations") == 0 && causeway_emulator_count("tangFree") == 7);
}

static void copies(void)
{
	unsigned char from[3000], to[3000];
	char *a = device_memory(0, 3000), *c = device_memory(0, 3000), *b = device_memory(1, 3000);
	void *host, *seen;

	OK(tangSetDevice(0));
	fill_pattern(from, sizeof(from), 1);
	OK(tangMemcpy(a + 1, from, 2999, 1));
	OK(tangMemcpy(c, a, 3000, 3));
	OK(tangMemcpyPeer(b, 1, c, 0, 3000));
	OK(tangMemset(a, 0, 3000));
	OK(tangMemcpyPeer_v2(a, 0, b, 1, 3000));
	OK(tangMemcpy(to, a + 1, 2999, 2));
	CHECK(!memcmp(from, to, 2999));
	OK(tangMemcpy(to + 1, from, 100, 0));
	OK(tangMemcpy(NULL, NULL, 0, 1));

	RESULT(21, tangMemcpy(a, from, 10, 4));
	RESULT(21, tangMemcpy(a, from, 10, -1));
	RESULT(21, tangMemcpy(a, from, 10, 2));
	RESULT(21, tangMemcpy(a, from, 10, 3));
	RESULT(21, tangMemcpy(to, from, 10, 1));
	RESULT(21, tangMemcpy(a, c, 10, 0));
	RESULT(1, tangMemcpy(a, from, 3001, 1));
	RESULT(1, tangMemcpy(a + 2999, from, 2, 1));
	RESULT(1, tangMemcpy(a, NULL, 2, 1));
	RESULT(17, tangMemcpy(a + 4096, from, 2, 1));
	RESULT(1, tangMemcpy(a, b, 10, 3));
	RESULT(1, tangMemcpyPeer(a, 0, c, 0, 10));
	RESULT(1, tangMemcpyPeer(a, 1, b, 0, 10));
	RESULT(17, tangMemcpyPeer(a, 0, from, 1, 10));
	RESULT(101, tangMemcpyPeer(a, 0, b, 2, 10));

	OK(tangHostAlloc(&host, 3000, CW__TANG_HOST_ALLOC_MAPPED));
	OK(tangHostGetDevicePointer(&seen, host, 0));
	OK(tangMemcpy(seen, a + 1, 2999, 3));
	CHECK(!memcmp(host, from, 2999));
	RESULT(21, tangMemcpy(seen, a, 10, 2));
	OK(tangMemcpy(host, a, 10, 2));
	CHECK(causeway_emulator_count("wrong_device") == 0);
	OK(tangMemcpy(b, from, 10, 1));
	CHECK(causeway_emulator_count("wrong_device") == 1);
	/* The device's memory is not the CPU's. */
	*(volatile char *)a = 1;
}

static void peer_pointers(void)
{
	static unsigned char from[3 * MIB], to[3 * MIB];
	char *a = device_memory(0, 3 * MIB), *b = device_memory(1, 3 * MIB);
	struct cw__ptml_port ports[CW__PTML_PORTS];
	void *seen[2] = { NULL, NULL }, *again;
	int status = -1, count = 0;
	struct cw__ptml_pci pci;

	RESULT(1, ptmlDeviceGetCount(&count));
	OK(ptmlInit());
	RESULT(3, ptmlInit());
	OK(ptmlDeviceGetCount(&count));
	CHECK(count == 2);
	RESULT(1, ptmlPtlinkPhytopoDetect(0, sizeof(ports), ports));
	OK(ptmlPtlinkEnableAll());
	RESULT(4, ptmlPtlinkPhytopoDetect(0, 99, ports));
	RESULT(7, ptmlPtlinkPhytopoDetect(2, sizeof(ports), ports));
	OK(ptmlPtlinkPhytopoDetect(0, sizeof(ports), ports));
	CHECK(ports[0].local_chip == 0 && ports[0].remote_chip == 1 && ports[0].link_status && !ports[4].link_status);
	OK(ptmlGetPtlinkStatus(0, 3, &status));
	CHECK(status == 1);
	OK(ptmlGetPtlinkRemoteDevicePciInfo(0, 0, &pci));
	CHECK(!strcmp(pci.bus_id, "0000:11:00.0"));
	RESULT(7, ptmlGetPtlinkRemoteDevicePciInfo(0, 9, &pci));
	OK(ptmlPtlinkGetConnectRelation(0, 1, &status));
	CHECK(status == 4);

	OK(tangSetDevice(0));
	fill_pattern(from, sizeof(from), 2);
	OK(tangMemcpy(a, from, sizeof(from), 1));
	OK(tangDeviceGetPeerPointer(0, 0, b + 100, &seen[0]));
	OK(tangDeviceGetPeerPointer(0, 3, b, &seen[1]));
	OK(tangDeviceGetPeerPointer(0, 3, b, &again));
	CHECK(again == seen[1] && seen[0] != b + 100);
	OK(tangMemcpy(seen[1], a, sizeof(from), 3));
	OK(tangMemset(a, 0, sizeof(from)));
	OK(tangMemcpy(a, (char *)seen[0] - 100, sizeof(from), 3));
	OK(tangMemcpy(to, a, sizeof(to), 2));
	CHECK(!memcmp(from, to, sizeof(to)));
	RESULT(1, tangDeviceGetPeerPointer(0, 4, b, &again));
	RESULT(1, tangDeviceGetPeerPointer(0, 0, a, &again));
	RESULT(1, tangDeviceGetPeerPointer(0, 10, b, &again));
	RESULT(1, tangDeviceGetPeerPointer(0, 0, from, &again));
	OK(tangFree(b));
	RESULT(17, tangMemcpy(seen[1], a, 10, 3));
}

/* One process exports, another one opens; each tells the other one how far it is. */
static void say(int fd, const void *bytes, size_t size)
{
	CHECK(write(fd, bytes, size) == (ssize_t)size);
}

static void hear(int fd, void *bytes, size_t size)
{
	CHECK(read(fd, bytes, size) == (ssize_t)size);
}

static void importer(int in, int out)
{
	struct cw__tang_ipc_handle handle, wrong;
	static unsigned char bytes[2 * MIB], expected[2 * MIB];
	void *base, *again, *other;
	char *mine = device_memory(0, 2 * MIB);

	hear(in, &handle, sizeof(handle));
	wrong = handle;
	wrong.word[4] ^= 1;
	OK(tangSetDevice(1));
	RESULT(1, tangIpcOpenMemHandle(&base, wrong, 1));
	RESULT(1, tangIpcOpenMemHandle(&base, handle, 0));
	OK(tangIpcOpenMemHandle(&base, handle, 1));
	OK(tangIpcOpenMemHandle(&again, handle, 1));
	CHECK(again == base && causeway_emulator_count("open_mappings") == 2);
	fill_pattern(expected, sizeof(expected), 5);
	OK(tangMemcpy(bytes, base, sizeof(bytes), 2));
	CHECK(!memcmp(bytes, expected, sizeof(bytes)));
	OK(tangSetDevice(0));
	OK(tangMemcpyPeer(mine, 0, base, 1, sizeof(bytes)));
	OK(tangMemset(mine + 77, 9, 100));
	OK(tangMemcpyPeer(base, 1, mine, 0, sizeof(bytes)));
	RESULT(17, tangFree(base));
	RESULT(17, tangIpcGetMemHandle(&wrong, base));
	RESULT(17, tangIpcCloseMemHandle((char *)base + 1));
	OK(tangIpcCloseMemHandle(again));
	OK(tangIpcCloseMemHandle(base));
	RESULT(17, tangIpcCloseMemHandle(base));
	CHECK(causeway_emulator_count("open_mappings") == 0);
	say(out, "w", 1);

	/* It is freed, and something else is at its address. */
	hear(in, bytes, 1);
	OK(tangSetDevice(1));
	RESULT(3007, tangIpcOpenMemHandle(&base, handle, 1));
	say(out, "f", 1);
	hear(in, &handle, sizeof(handle));
	OK(tangIpcOpenMemHandle(&other, handle, 1));
	say(out, "o", 1);
	/* The other end of the pipe closes when the owner is dead. What is open stays readable. */
	CHECK(read(in, bytes, 1) == 0);
	OK(tangMemcpy(bytes, other, 16, 2));
	CHECK(bytes[0] == 42);
	OK(tangIpcCloseMemHandle(other));
	RESULT(3007, tangIpcOpenMemHandle(&base, handle, 1));
}

static void exporter(int in, int out)
{
	struct cw__tang_ipc_handle handle, interior;
	static unsigned char bytes[2 * MIB];
	void *base, *memory = device_memory(1, 2 * MIB), *again;
	char word;

	fill_pattern(bytes, sizeof(bytes), 5);
	OK(tangMemcpy(memory, bytes, sizeof(bytes), 1));
	OK(tangIpcGetMemHandle(&handle, memory));
	OK(tangIpcGetMemHandle(&interior, (char *)memory + 1000));
	CHECK(!memcmp(&handle, &interior, sizeof(handle)));
	RESULT(17, tangIpcGetMemHandle(&interior, bytes));
	RESULT(1, tangIpcOpenMemHandle(&base, handle, 1));
	say(out, &handle, sizeof(handle));
	hear(in, &word, 1);
	OK(tangMemcpy(bytes, (char *)memory + 77, 100, 2));
	CHECK(bytes[0] == 9 && bytes[99] == 9);
	OK(tangFree(memory));
	again = device_memory(1, 2 * MIB);
	CHECK(again == memory);
	OK(tangMemset(again, 42, 2 * MIB));
	say(out, "x", 1);
	hear(in, &word, 1);
	OK(tangIpcGetMemHandle(&handle, again));
	say(out, &handle, sizeof(handle));
	hear(in, &word, 1);
	_exit(0);
}

static void two_processes(void)
{
	int there[2], back[2], status;
	pid_t child;

	CHECK(!pipe2(there, O_CLOEXEC) && !pipe2(back, O_CLOEXEC));
	child = fork();
	if (!child) {
		alarm(60);
		close(there[1]);
		close(back[0]);
		exporter(there[0], back[1]);
	}
	close(there[0]);
	close(back[1]);
	importer(back[0], there[1]);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void options_that_refuse(void)
{
	struct cw__tang_pointer_attributes attributes;
	struct cw__tang_ipc_handle handle;
	char *a = device_memory(1, 5000);
	void *host;

	OK(tangPointerGetAttributes(&attributes, a + 7));
	CHECK(attributes.device_pointer == a);
	RESULT(17, tangIpcGetMemHandle(&handle, a + 7));
	OK(tangIpcGetMemHandle(&handle, a));
	OK(tangSetDevice(0));
	RESULT(1, tangPointerGetAttributes(&attributes, a));
	RESULT(1, tangPointerGetAttributes(&attributes, &host));
	RESULT(1, tangMemcpy(a, &handle, 4, 1));
	RESULT(1, tangIpcGetMemHandle(&handle, a));
	RESULT(801, tangHostAlloc(&host, 100, CW__TANG_HOST_ALLOC_MAPPED));
	RESULT(3006, tangMalloc(&host, (size_t)1 << 50));
	OK(ptmlInit());
	OK(ptmlInit());
}

/* The application's device 0 is the world's device 1. */
static void renumbered(void)
{
	char *a = device_memory(0, 100), *b = device_memory(1, 100);
	char text[32];

	OK(tangDeviceGetPCIBusId(text, sizeof(text), 0));
	CHECK(!strcmp(text, "0000:11:00.0"));
	OK(tangMemcpyPeer(a, 0, b, 1, 100));
	RESULT(1, tangMemcpyPeer(a, 1, b, 0, 100));
	*(volatile char *)a = 1; /* and not strict: the CPU may */
}

static void unknown_option(void)
{
	int count;

	fclose(stderr);
	RESULT(3, tangGetDeviceCount(&count));
}

static void forked(void)
{
	int status, device;
	pid_t child;

	OK(tangGetDevice(&device));
	child = fork();
	if (!child)
		_exit(tangGetDevice(&device));
	CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
}

/* With touch=report it is said before the process dies of it. */
static void reported_touch(void)
{
	char line[256] = "";
	int pipes[2], status;
	pid_t child;

	CHECK(!pipe(pipes));
	child = fork();
	if (!child) {
		volatile char *a = device_memory(1, 100);

		dup2(pipes[1], STDERR_FILENO);
		a[7] = 1;
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	CHECK(read(pipes[0], line, sizeof(line) - 1) > 0 && strstr(line, "touched device memory at 0x"));
}

struct row {
	const char *name;
	void (*fn)(void);
	const char *options;
	int expected;
};

static const struct row rows[] = {
	{ "devices", devices, NULL, 0 },
	{ "allocations", allocations, NULL, 0 },
	{ "copies, then a touch", copies, NULL, 128 + 11 },
	{ "peer pointers", peer_pointers, NULL, 0 },
	{ "two processes", two_processes, NULL, 0 },
	{ "refusals", options_that_refuse,
	  "attribute_base,ipc_interior=no,context_sensitive,host_query=error,host_mapped=no,full=3006,init_again=ok",
	  0 },
	{ "renumbered", renumbered, "visible=1:0,strict=no", 0 },
	{ "unknown option", unknown_option, "visible=1,nonsense", 0 },
	{ "after fork", forked, NULL, 0 },
	{ "reported touch", reported_touch, "touch=report", 0 },
};

static void each_row(void **state)
{
	const struct row *row = *state;
	const int status = run_child(row->fn, row->options, NULL, NULL);

	assert_int_equal(status, row->expected);
}

int main(void)
{
	struct CMUnitTest tests[sizeof(rows) / sizeof(rows[0])];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		tests[i] = (struct CMUnitTest){ .name = rows[i].name,
						.test_func = each_row,
						.initial_state = (void *)(uintptr_t)&rows[i] };
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
