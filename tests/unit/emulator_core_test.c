/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core of the emulated devices, through the Tang runtime: streams and events, fault rules, the timing of links,
 * what processes of a world share, traces, options, many threads.
 */
#include "emulator_child.h"
#include "support/sanitizers.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define MIB (1U << 20)
#define LINK_SPEED 40000000ULL

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static struct cw__tang_stream *stream_on(int device, unsigned flags)
{
	struct cw__tang_stream *stream = NULL;

	OK(tangSetDevice(device));
	OK(tangStreamCreateWithFlags(&stream, flags));
	return stream;
}

static struct cw__tang_event *event_on(int device)
{
	struct cw__tang_event *event = NULL;

	OK(tangSetDevice(device));
	OK(tangEventCreateWithFlags(&event, CW__TANG_EVENT_DISABLE_TIMING));
	return event;
}

/* A stream that the test holds up, by a host function that waits. */
static _Atomic int released, ran, refused;

static void hold_up(void *arg)
{
	int device;

	(void)arg;
	while (!atomic_load(&released))
		usleep(100);
	atomic_store(&refused, tangMalloc((void **)&device, 0));
	atomic_fetch_add(&ran, 1);
}

static unsigned char byte_at(void *address)
{
	unsigned char byte = 0;

	OK(tangMemcpy(&byte, address, 1, 2));
	return byte;
}

static void streams(void)
{
	struct cw__tang_stream *first = stream_on(0, 1), *second = stream_on(1, 1), *stale = first;
	struct cw__tang_event *event = event_on(0), *done = event_on(1), *never = event_on(0);
	unsigned char *a = device_memory(0, MIB), *b = device_memory(1, MIB);

	OK(tangSetDevice(0));
	OK(tangMemset(a, 0, MIB));
	OK(tangEventQuery(event));
	OK(tangLaunchHostFunc(first, hold_up, NULL));
	OK(tangMemsetAsync(a, 7, MIB, first));
	OK(tangEventRecord(event, first));
	RESULT(400, tangEventRecord(done, first));
	RESULT(600, tangEventQuery(event));
	RESULT(600, tangStreamQuery(first));
	CHECK(byte_at(a) == 0); /* the stream does not wait for the default one, nor the other way */

	/* What the other stream does afterwards waits for the event, and for nothing recorded later. */
	OK(tangStreamWaitEvent(second, event, 0));
	OK(tangStreamWaitEvent(second, never, 0));
	OK(tangMemcpyPeerAsync(b, 1, a, 0, MIB, second));
	OK(tangEventRecord(done, second));
	RESULT(600, tangEventQuery(done));
	OK(tangStreamDestroy(first));
	RESULT(400, tangStreamQuery(stale));
	RESULT(400, tangStreamDestroy(stale));
	RESULT(600, tangEventQuery(event));
	atomic_store(&released, 1);
	OK(tangEventSynchronize(done));
	OK(tangEventQuery(event));
	CHECK(atomic_load(&ran) == 1 && atomic_load(&refused) == 7);
	CHECK(byte_at(b + MIB - 1) == 7);
	OK(tangEventDestroy(event));
	RESULT(400, tangEventDestroy(event));
	RESULT(400, tangEventQuery(event));
	OK(tangStreamSynchronize(second));
	OK(tangStreamDestroy(second));
	OK(tangEventDestroy(done));
	OK(tangEventDestroy(never));
	CHECK(!causeway_emulator_count("live_streams") && !causeway_emulator_count("live_events"));
}

/* Blocking streams and the default one are in order with each other, by themselves. */
static void default_stream(void)
{
	struct cw__tang_stream *blocking = stream_on(0, 0);
	unsigned char *a = device_memory(0, MIB);

	OK(tangLaunchHostFunc(blocking, hold_up, NULL));
	OK(tangMemsetAsync(a, 1, MIB, blocking));
	OK(tangMemsetAsync(a, 2, MIB, NULL));
	OK(tangMemsetAsync(a, 3, MIB, blocking));
	RESULT(600, tangStreamQuery(NULL));
	atomic_store(&released, 1);
	CHECK(byte_at(a) == 3);
	OK(tangMemsetAsync(a, 4, MIB, blocking));
	OK(tangFree(a)); /* waits for the device */
	OK(tangStreamQuery(blocking));
}

static void rules(void)
{
	unsigned char *a = device_memory(0, 1000), *b = device_memory(1, 1000), bytes[1000], back[1000];
	struct cw__tang_stream *stream = stream_on(0, 1);
	struct cw__tang_event *first = event_on(0), *second = event_on(0);
	int failed = 0;

	memset(bytes, 5, sizeof(bytes));
	RESULT(2, tangMallocHost((void **)&failed, 10)); /* times=1 */
	OK(tangMemset(a, 0, 1000));
	OK(tangMemcpy(a, bytes, 10, 1));
	RESULT(719, tangMemcpy(a, bytes, 900, 1)); /* bytes=500: the first that is long enough; partial */
	CHECK(byte_at(a + 299) == 5 && byte_at(a + 300) == 0);
	OK(tangMemcpy(a, bytes, 1000, 1)); /* corrupt */
	OK(tangMemcpy(back, a, 1000, 2));
	CHECK(memcmp(bytes, back, 1000));
	OK(tangSetDevice(1));
	for (int i = 0; i < 1000; i++)
		failed += tangMemset(b, 1, 1) == 801;
	CHECK(failed > 50 && failed < 150); /* chance=0.1 */
	OK(tangSetDevice(0));
	OK(tangMemcpyPeer(b, 1, a, 0, 10));
	RESULT(700, tangMemcpyPeer(a, 0, b, 1, 10)); /* device=1 peer=0 */
	RESULT(700, tangMemcpyPeer(a, 0, b, 1, 10));

	/* What fails later is reported by the events that were recorded by then, not by those recorded after the
	 * report. */
	OK(tangMemcpyAsync(a, bytes, 1000, 1, stream));
	OK(tangEventRecord(first, stream));
	OK(tangMemcpyAsync(a, bytes, 1000, 1, stream));
	OK(tangEventRecord(second, stream));
	RESULT(719, tangEventSynchronize(second));
	RESULT(719, tangEventQuery(first));
	OK(tangEventRecord(second, stream));
	OK(tangEventSynchronize(second));
	OK(tangStreamSynchronize(stream));

	OK(tangSetDevice(1));
	RESULT(5, tangMemGetInfo((size_t *)bytes, (size_t *)(bytes + 8)));
	RESULT(5, tangMalloc((void **)back, 10));
	OK(tangSetDevice(0));
	RESULT(5, tangMemcpyPeer(b, 1, a, 0, 10));
	OK(tangMemset(a, 0, 1000));
	CHECK(causeway_emulator_count("faults_fired") == 7U + (unsigned)failed);
}

static const char rules_text[] = "# comment\n"
				 "tangMallocHost times=1 fail 2\n"
				 "tangMemcpy call=1 bytes=500 partial 300 719\n"
				 "tangMemcpy call=1 bytes=1000 corrupt # of those that are left\n"
				 "tangMemset bytes=1 program=other* fail 801\n"
				 "tangMemset device=1 chance=0.1 seed=3 fail 801\n"
				 "tangMemcpyPeer device=1 peer=0 fail 700\n"
				 "tangMemcpyAsync call=1 partial 0 719\n"
				 "tangMemGetInfo removed 1\n";

static void late_producer(void)
{
	struct cw__tang_stream *producer = stream_on(0, 1), *consumer = stream_on(0, 1);
	struct cw__tang_event *written = event_on(0);
	unsigned char *a = device_memory(0, 64), *c = device_memory(0, 64), ones[64];
	int wrong = 0;

	memset(ones, 1, sizeof(ones));
	for (int i = 0; i < 20; i++) {
		OK(tangMemset(a, 0, 64));
		OK(tangMemcpyAsync(a, ones, 64, 1, producer));
		OK(tangEventRecord(written, producer));
		/* The thread sanitizer sees who has not waited, and is right. */
		if (i % 2 || THREAD_SANITIZED)
			OK(tangStreamWaitEvent(consumer, written, 0));
		OK(tangMemcpyAsync(c, a, 63, 3, consumer)); /* not of the rule */
		OK(tangStreamSynchronize(consumer));
		if (i % 2 || THREAD_SANITIZED)
			CHECK(byte_at(c) == 1);
		else
			wrong += byte_at(c) == 0;
		OK(tangStreamSynchronize(producer));
	}
	CHECK(wrong > 0 || THREAD_SANITIZED);
}

static void hanging(void)
{
	struct cw__tang_stream *stream = stream_on(0, 1);
	unsigned char *a = device_memory(0, 64), bytes[64] = { 1 };
	const double start = seconds();
	char *path = getenv("RELEASE");
	int fd;

	OK(tangMemcpy(a, bytes, 64, 1)); /* hang 50 */
	CHECK(seconds() - start >= 0.05);
	OK(tangMemcpyAsync(a, bytes, 64, 1, stream));
	usleep(20000);
	RESULT(600, tangStreamQuery(stream));
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	CHECK(fd >= 0);
	OK(tangStreamSynchronize(stream));
	unlink(path);
}

static void bad_rules(void)
{
	int count;

	fclose(stderr);
	RESULT(3, tangGetDeviceCount(&count));
	CHECK(!strcmp(tangGetErrorName(3), "tangErrorInitializationError"));
}

static void four_ports(struct cw__world *world)
{
	cw__world_devices(world, 2);
	for (int i = 0; i < 4; i++)
		cw__world_link(world, 0, -1, 1, -1, LINK_SPEED, 0);
	world->timing = 1;
	world->devices[0].inside.bandwidth = world->devices[1].inside.bandwidth = 0;
	world->devices[0].memory = 16 * MIB;
}

/* Copies `size` bytes in equal parts through so many ports at once; how long it took. */
static double through_ports(unsigned char *to, unsigned char *from, size_t size, int ports)
{
	struct cw__tang_stream *streams[4];
	const size_t part = size / (size_t)ports;
	double start;

	for (int i = 0; i < ports; i++)
		streams[i] = stream_on(0, 1);
	start = seconds();
	for (int i = 0; i < ports; i++) {
		void *seen;

		OK(tangDeviceGetPeerPointer(0, i, to + (size_t)i * part, &seen));
		OK(tangMemcpyAsync(seen, from + (size_t)i * part, part, 3, streams[i]));
	}
	for (int i = 0; i < ports; i++)
		OK(tangStreamSynchronize(streams[i]));
	return seconds() - start;
}

static void timing(void)
{
	const size_t size = 4 * MIB;
	unsigned char *a = device_memory(0, size), *b = device_memory(1, size);
	double one, four, start;

	OK(tangMemset(a, 1, size));
	OK(tangSetDevice(1));
	OK(tangMemset(b, 1, size));
	one = through_ports(b, a, size, 1);
	four = through_ports(b, a, size, 4);
	CHECK(one >= (double)size / LINK_SPEED);
	CHECK(one > 2 * four);
	start = seconds();
	OK(tangMemcpyPeer(b, 1, a, 0, size)); /* on one link */
	CHECK(seconds() - start >= (double)size / LINK_SPEED);
}

/* The fault takes port 1 of device 0 down after a megabyte. */
static void broken_port(void)
{
	struct cw__ptml_port ports[CW__PTML_PORTS];
	unsigned char *a = device_memory(0, 4 * MIB), *b = device_memory(1, 4 * MIB);
	void *seen, *other;

	OK(tangSetDevice(0));
	OK(tangMemset(a, 9, 4 * MIB));
	OK(tangSetDevice(0));
	OK(tangDeviceGetPeerPointer(0, 1, b, &seen));
	OK(tangDeviceGetPeerPointer(0, 2, b, &other));
	RESULT(999, tangMemcpy(seen, a, 4 * MIB, 3));
	RESULT(999, tangMemcpy(seen, a, 1, 3));
	RESULT(999, tangDeviceGetPeerPointer(0, 1, b, &seen));
	OK(tangMemcpy(other, a, 4 * MIB, 3));
	OK(tangMemcpyPeer(b, 1, a, 0, 4 * MIB));
	OK(ptmlInit());
	OK(ptmlPtlinkEnableAll());
	OK(ptmlPtlinkPhytopoDetect(1, sizeof(ports), ports));
	CHECK(ports[0].link_status && !ports[1].link_status && ports[1].remote_port == 1);
}

/* Device 0 has 16 MiB: what another process has is not there for us, until it dies. */
static void shared_memory(void)
{
	int status, pipes[2];
	size_t left, total;
	void *memory;
	pid_t child;
	char byte;

	CHECK(!pipe(pipes));
	child = fork();
	if (!child) {
		alarm(60);
		device_memory(0, 12 * MIB);
		CHECK(write(pipes[1], "x", 1) == 1);
		pause();
	}
	CHECK(read(pipes[0], &byte, 1) == 1);
	OK(tangMemGetInfo(&left, &total));
	CHECK(left == 4 * MIB && total == 16 * MIB);
	RESULT(2, tangMalloc(&memory, 8 * MIB));
	CHECK(!kill(child, SIGKILL) && waitpid(child, &status, 0) == child);
	OK(tangMalloc(&memory, 16 * MIB));
}

static void options_of_handles(void)
{
	unsigned char *a = device_memory(0, 10000), *c = device_memory(0, 10000);
	struct cw__tang_ipc_handle handle;
	void *base, *second;

	OK(tangIpcGetMemHandle(&handle, a + 5000));
	OK(tangIpcOpenMemHandle(&base, handle, 1));
	OK(tangIpcOpenMemHandle(&second, handle, 1));
	CHECK(base != second);
	OK(tangMemset(a + 5000, 8, 1));
	CHECK(byte_at(base) == 8 && byte_at(second) == 8);
	RESULT(1, tangMemcpy(base, c, 10, 3));
	OK(tangMemcpy(c, base, 10, 3));
	OK(tangIpcCloseMemHandle(base));
	OK(tangIpcCloseMemHandle(second));
}

static void *churn(void *arg)
{
	struct cw__tang_stream *stream = stream_on(0, 1);
	struct cw__tang_event *event = event_on(0);
	unsigned char *shared = arg, bytes[256], back[256];

	for (unsigned i = 0; i < 300; i++) {
		unsigned char *mine = device_memory(0, 256 + i);

		fill_pattern(bytes, sizeof(bytes), i);
		OK(tangMemcpyAsync(mine, bytes, sizeof(bytes), 1, stream));
		OK(tangEventRecord(event, stream));
		OK(tangMemcpy(shared, bytes, 64, 1));
		OK(tangEventSynchronize(event));
		OK(tangMemcpy(back, mine, sizeof(back), 2));
		CHECK(!memcmp(bytes, back, sizeof(back)));
		OK(tangFree(mine));
	}
	OK(tangEventDestroy(event));
	OK(tangStreamDestroy(stream));
	return NULL;
}

static void threads(void)
{
	pthread_t workers[4];
	unsigned char *shared[4];

	for (int i = 0; i < 4; i++) {
		shared[i] = device_memory(0, 64);
		CHECK(!pthread_create(&workers[i], NULL, churn, shared[i]));
	}
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_join(workers[i], NULL));
	CHECK(causeway_emulator_count("live_allocations") == 4);
	CHECK(causeway_emulator_count("tangMemcpyAsync") == 1200);
}

/* Leaves a thread's current device changed, a mapping open and a stream alive, for the report. */
static void *leaves_device(void *arg)
{
	OK(tangSetDevice(1));
	return arg;
}

static void traced(void)
{
	pthread_t thread;
	unsigned char *a = device_memory(0, 100);

	OK(tangMemset(a, 1, 100));
	CHECK(!pthread_create(&thread, NULL, leaves_device, NULL));
	CHECK(!pthread_join(thread, NULL));
	RESULT(17, tangFree(a + 1));
	exit(0);
}

static int read_all(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");
	size_t n;

	if (!file)
		return -1;
	n = fread(text, 1, size - 1, file);
	text[n] = '\0';
	fclose(file);
	return 0;
}

static void trace_files(void **state)
{
	char folder[] = "/tmp/causeway-trace-XXXXXX", path[512], text[8192];
	int found = 0;
	DIR *files;

	(void)state;
	assert_non_null(mkdtemp(folder));
	setenv("CAUSEWAY_EMULATE_TRACE", folder, 1);
	assert_int_equal(run_child(traced, NULL, NULL, NULL), 0);
	unsetenv("CAUSEWAY_EMULATE_TRACE");
	files = opendir(folder);
	assert_non_null(files);
	for (struct dirent *entry = readdir(files); entry; entry = readdir(files)) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		assert_int_equal(read_all(path, text, sizeof(text)), 0);
		unlink(path);
		found++;
		if (!strncmp(entry->d_name, "trace-", 6)) {
			assert_non_null(strstr(text, "{\"symbol\":\"tangMalloc\",\"thread\":"));
			assert_non_null(strstr(text, ",\"device\":0,\"result\":17,\"address\":"));
		} else {
			assert_non_null(strstr(text, "\"tangMemset\": 1"));
			assert_non_null(strstr(text, "\"device_leaks\": 1"));
			assert_non_null(strstr(text, "\"live_allocations\": 1"));
		}
	}
	closedir(files);
	assert_int_equal(found, 2);
	rmdir(folder);
}

struct row {
	const char *name;
	void (*fn)(void);
	const char *options, *faults;
	void (*fill)(struct cw__world *world);
};

static const struct row rows[] = {
	{ "streams and events", streams, NULL, NULL, NULL },
	{ "default stream", default_stream, NULL, NULL, NULL },
	{ "fault rules", rules, NULL, rules_text, NULL },
	{ "a producer that is late", late_producer, NULL, "tangMemcpyAsync bytes=64 delay 3000\n", NULL },
	{ "bad fault rule", bad_rules, NULL, "tangMemcpy fail\n", NULL },
	{ "bad fault condition", bad_rules, NULL, "tangMemcpy calls=1 fail 1\n", NULL },
	{ "links take time", timing, NULL, NULL, four_ports },
	{ "a port goes down", broken_port, NULL, "tangMemset call=1 port_down 0 1 1048576\n", four_ports },
	{ "memory of a world", shared_memory, NULL, NULL, four_ports },
	{ "handles by option", options_of_handles,
	  "ipc_self,ipc_interior=distinct,reopen=second,same_device_ipc_write=fail", NULL, NULL },
	{ "many threads", threads, NULL, NULL, NULL },
};

static void each_row(void **state)
{
	const struct row *row = *state;
	const char *path = row->fill ? make_world(row->fill) : NULL;
	const int status = run_child(row->fn, row->options, row->faults, path);

	if (path)
		unlink(path);
	assert_int_equal(status, 0);
}

static void hangs(void **state)
{
	char path[64], text[256];

	(void)state;
	snprintf(path, sizeof(path), "/tmp/causeway-release-%d", (int)getpid());
	snprintf(text, sizeof(text), "tangMemcpy call=1 hang 50\ntangMemcpyAsync hang %s\n", path);
	setenv("RELEASE", path, 1);
	assert_int_equal(run_child(hanging, NULL, text, NULL), 0);
}

int main(void)
{
	enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
	struct CMUnitTest tests[ROWS + 2] = { cmocka_unit_test(trace_files), cmocka_unit_test(hangs) };

	for (size_t i = 0; i < ROWS; i++) {
		tests[i + 2] = (struct CMUnitTest){ .name = rows[i].name,
						    .test_func = each_row,
						    .initial_state = (void *)(uintptr_t)&rows[i] };
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
