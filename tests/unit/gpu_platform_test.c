/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Platform `sunrise` on the emulated runtime: whose memory an address is, location strings, allocation, copies, and
 * waiting for work of a device in both directions. The caller's current device never changes.
 */
#include "gpu_world.h"
#include <platforms/gpu/abi/tang.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define SIZE (1u << 20)

extern const struct cw_platform_ops cw_platform_sunrise;
static const struct cw_platform_ops *const ops = &cw_platform_sunrise;

static void log_nothing(struct cw_host *host, enum cw_log_level level, const char *format, ...)
{
	(void)host;
	(void)level;
	(void)format;
}

static const char *no_setting(struct cw_host *host, const char *key)
{
	(void)host;
	(void)key;
	return NULL;
}

static uint64_t no_number(struct cw_host *host, const char *key, uint64_t fallback)
{
	(void)host;
	(void)key;
	return fallback;
}

static const struct cw_host_ops host_ops = {
	.abi = CW_PLUGIN_ABI, .log = log_nothing, .setting = no_setting, .setting_number = no_number
};
static struct cw_host host = { &host_ops, &host };

/* The platform, with device 1 current in this thread. */
static void *open_platform(void)
{
	const struct cw__gpu *gpu = gpu_load();
	const char *why = NULL;
	void *platform = NULL;

	if (!gpu || ops->open(&host, &platform, &why)) {
		fprintf(stderr, "platform: %s\n", why ? why : "");
		return NULL;
	}
	APPLICATION(gpu, SetDevice);
	return app_SetDevice(1) ? NULL : platform;
}

static int is_current(int expected)
{
	const struct cw__gpu *gpu = gpu_load();
	int device = -1;

	APPLICATION(gpu, GetDevice);
	APPLICATION(gpu, PeekAtLastError);
	return !app_GetDevice(&device) && device == expected && !app_PeekAtLastError();
}

static int allocate(void *platform, const char *location, size_t length, struct cw_allocation *allocation)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;

	options.location = location;
	return ops->allocate(platform, length, &options, allocation);
}

/* ------------------------------------------------------------------------------------------- memory */

static int claims(void)
{
	void *platform = open_platform();
	struct cw_allocation memory = { .share_fd = -1 };
	struct cw_memory_info info;
	char *at;

	CHECK(platform);
	CHECK(!allocate(platform, "sunrise:0", SIZE, &memory));
	at = memory.address;
	CHECK(!ops->claim(platform, at + 100, SIZE - 100, &info));
	CHECK(info.kind == CW_MEMORY_DEVICE && info.device == 0 && !strcmp(info.location, "sunrise:0"));
	CHECK(info.allocation_base == (uint64_t)(uintptr_t)at && info.allocation_length >= SIZE);
	CHECK(!ops->claim(platform, at, SIZE, &info));
	CHECK(ops->claim(platform, at, SIZE + (64u << 20), &info) == CW_ERR_INVALID);
	CHECK(ops->claim(platform, at + SIZE / 2, SIZE + (64u << 20), &info) == CW_ERR_INVALID);
	CHECK(ops->claim(platform, &info, sizeof(info), &info) == CW_ERR_NOT_FOUND);
	CHECK(is_current(1));
	ops->release(platform, &memory);
	CHECK(is_current(1));
	ops->close(platform);
	return 0;
}

static int locations(void)
{
	static const struct {
		const char *text;
		int alone, of_device_1;
	} rows[] = {
		{ "sunrise:0", CW_OK, CW_ERR_LOCATION },
		{ "sunrise:1", CW_OK, CW_OK },
		{ "sunrise:01", CW_OK, CW_OK },
		{ "cuda:1", CW_OK, CW_OK },
		{ "npu:1", CW_OK, CW_OK },
		{ "cuda:0", CW_OK, CW_ERR_LOCATION },
		{ "sunrise:2", CW_ERR_NOT_FOUND, CW_ERR_LOCATION },
		{ "sunrise:", CW_ERR_LOCATION, CW_ERR_LOCATION },
		{ "sunrise:-1", CW_ERR_LOCATION, CW_ERR_LOCATION },
		{ "sunrise:+1", CW_ERR_LOCATION, CW_ERR_LOCATION },
		{ "sunrise: 1", CW_ERR_LOCATION, CW_ERR_LOCATION },
		{ "sunrise:1 ", CW_ERR_LOCATION, CW_ERR_LOCATION },
		{ "sunrise:1x", CW_ERR_LOCATION, CW_ERR_LOCATION },
		{ "sunrise:18446744073709551617", CW_ERR_LOCATION, CW_ERR_LOCATION },
		{ "sunrise", CW_ERR_NOT_FOUND, CW_ERR_LOCATION },
		{ "sunrises:1", CW_ERR_NOT_FOUND, CW_ERR_LOCATION },
		{ "cpu:1", CW_ERR_NOT_FOUND, CW_ERR_LOCATION },
		{ "", CW_ERR_NOT_FOUND, CW_ERR_LOCATION },
	};
	const struct cw_memory_info info = { .kind = CW_MEMORY_DEVICE, .device = 1 };
	void *platform = open_platform();
	const char *why;

	CHECK(platform);
	/* With a CUDA driver on this machine its devices have the name. */
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int taken = !strncmp(rows[i].text, "cuda:", 5) && cw__gpu_load(CW__GPU_CUDA, &why);

		if (ops->location(platform, rows[i].text, NULL) != (taken ? CW_ERR_NOT_FOUND : rows[i].alone) ||
		    ops->location(platform, rows[i].text, &info) != rows[i].of_device_1) {
			fprintf(stderr, "location '%s'\n", rows[i].text);
			return 1;
		}
	}
	ops->close(platform);
	return 0;
}

static int allocation(void)
{
	struct cw_memory_capabilities capabilities = { .size = sizeof(capabilities) };
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	void *platform = open_platform();
	static unsigned char back[SIZE];
	struct cw_allocation memory;

	CHECK(platform);
	options.location = "npu:0";
	CHECK(!ops->query(platform, &options, &capabilities));
	CHECK(capabilities.can_allocate && capabilities.shareable && !capabilities.huge_pages);
	CHECK(*capabilities.why_not);
	for (unsigned round = 0; round < 3; round++) {
		CHECK(!allocate(platform, round % 2 ? "sunrise:1" : "npu:0", SIZE, &memory));
		CHECK(memory.address && memory.length == SIZE && memory.share_fd == -1);
		memset(back, 0xee, sizeof(back));
		CHECK(!ops->copy_out(platform, round % 2, back, memory.address, SIZE));
		for (size_t i = 0; i < SIZE; i++)
			CHECK(back[i] == 0);
		memset(back, 0x11, sizeof(back));
		CHECK(!ops->copy_in(platform, round % 2, memory.address, back, SIZE));
		ops->release(platform, &memory);
		CHECK(is_current(1));
	}
	CHECK(gpu_count(gpu_load(), "tangMemsetAsync") == 3); /* fresh memory would be zero anyhow */
	CHECK(allocate(platform, "sunrise:1", SIZE_MAX / 4, &memory) == CW_ERR_NO_MEMORY);
	CHECK(allocate(platform, "sunrise:7", SIZE, &memory) == CW_ERR_LOCATION);
	CHECK(is_current(1));
	ops->close(platform);
	return 0;
}

struct copier {
	void *platform, *memory;
	unsigned number;
	int wrong;
};

/* Each has a part of the memory, at an odd offset. */
static void *copy_round(void *arg)
{
	struct copier *copier = arg;
	unsigned char out[10001], back[10001];
	char *at = (char *)copier->memory + copier->number * 20003u + 1;

	for (unsigned i = 0; i < 50 && !copier->wrong; i++) {
		memset(out, (int)(copier->number * 50 + i), sizeof(out));
		copier->wrong = ops->copy_in(copier->platform, 0, at, out, sizeof(out)) ||
				ops->copy_out(copier->platform, 0, back, at, sizeof(back)) ||
				memcmp(out, back, sizeof(out)) || !is_current(0);
	}
	return NULL;
}

static int copies(void)
{
	enum { COPIERS = 4 };
	void *platform = open_platform();
	struct copier copiers[COPIERS];
	pthread_t threads[COPIERS];
	struct cw_allocation memory;
	char byte = 1;

	CHECK(platform);
	CHECK(!allocate(platform, "sunrise:0", SIZE, &memory));
	for (unsigned i = 0; i < COPIERS; i++) {
		copiers[i] = (struct copier){ platform, memory.address, i, 0 };
		CHECK(!pthread_create(&threads[i], NULL, copy_round, &copiers[i]));
	}
	for (unsigned i = 0; i < COPIERS; i++) {
		pthread_join(threads[i], NULL);
		CHECK(!copiers[i].wrong);
	}
	CHECK(ops->copy_in(platform, 9, memory.address, &byte, 1) == CW_ERR_IO);
	CHECK(ops->copy_in(platform, 0, &byte, &byte, 1) == CW_ERR_IO);
	CHECK(is_current(1));
	ops->release(platform, &memory);
	ops->close(platform);
	return 0;
}

/* --------------------------------------------------------------------------------- waiting for work */

static sem_t gate, passed;

static void wait_at_gate(void *arg)
{
	(void)arg;
	sem_wait(&gate);
}

struct result {
	_Atomic int count, status;
	sem_t called;
};

static void note(void *arg, int status)
{
	struct result *result = arg;

	atomic_store(&result->status, status);
	atomic_fetch_add(&result->count, 1);
	sem_post(&result->called);
}

static void begin(struct result *result)
{
	atomic_store(&result->count, 0);
	atomic_store(&result->status, 99);
	sem_init(&result->called, 0, 0);
}

static int comes(sem_t *what, unsigned seconds)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	return !sem_timedwait(what, &until);
}

/* Lets the watcher and the streams have time in which something wrong would happen: other watches come and go. */
static int turn_round(void *platform, void *stream)
{
	struct cw_device_sync sync = { .location = "sunrise:0", .kind = CW_DEVICE_STREAM, .handle = stream };
	struct result result;

	for (unsigned i = 0; i < 100; i++) {
		begin(&result);
		CHECK(!ops->watch(platform, &sync, note, &result));
		CHECK(comes(&result.called, 10) && atomic_load(&result.status) == CW_OK);
	}
	return 0;
}

/* A stream of the application on device 0 whose next work waits at the gate. */
static int blocked_stream(const struct cw__gpu *gpu, struct cw__tang_stream **stream)
{
	APPLICATION(gpu, SetDevice);
	APPLICATION(gpu, StreamCreateWithFlags);
	APPLICATION(gpu, LaunchHostFunc);
	sem_init(&gate, 0, 0);
	CHECK(!app_SetDevice(0));
	CHECK(!app_StreamCreateWithFlags(stream, CW__TANG_STREAM_NON_BLOCKING));
	CHECK(!app_LaunchHostFunc(*stream, wait_at_gate, NULL));
	CHECK(!app_SetDevice(1));
	return 0;
}

static int watch_stream(void)
{
	void *platform = open_platform();
	const struct cw__gpu *gpu = gpu_load();
	struct cw_device_sync sync = { .location = "cuda:0", .kind = CW_DEVICE_STREAM };
	struct cw__tang_stream *stream;
	struct result late, early;

	CHECK(platform);
	CHECK(!blocked_stream(gpu, &stream));
	begin(&late);
	begin(&early);
	sync.handle = stream;
	CHECK(!ops->watch(platform, &sync, note, &late));
	sync.handle = NULL;
	CHECK(!ops->watch(platform, &sync, note, &early));
	CHECK(comes(&early.called, 10) && atomic_load(&early.status) == CW_OK);
	CHECK(atomic_load(&late.count) == 0);
	CHECK(is_current(1));
	sem_post(&gate);
	CHECK(comes(&late.called, 10) && atomic_load(&late.status) == CW_OK);
	APPLICATION(gpu, StreamSynchronize);
	APPLICATION(gpu, StreamDestroy);
	CHECK(!app_StreamSynchronize(stream));
	CHECK(!app_StreamDestroy(stream));
	ops->close(platform);
	CHECK(atomic_load(&late.count) == 1 && atomic_load(&early.count) == 1);
	return 0;
}

/* The event as it was recorded when watch() was called, whatever the application does with it afterwards. */
static int watch_event(void)
{
	void *platform = open_platform();
	const struct cw__gpu *gpu = gpu_load();
	struct cw_device_sync sync = { .location = "sunrise:0", .kind = CW_DEVICE_EVENT };
	struct cw__tang_stream *stream, *other;
	struct cw__tang_event *event;
	struct result result;

	CHECK(platform);
	APPLICATION(gpu, SetDevice);
	APPLICATION(gpu, StreamCreateWithFlags);
	APPLICATION(gpu, EventCreateWithFlags);
	APPLICATION(gpu, EventRecord);
	APPLICATION(gpu, EventDestroy);
	APPLICATION(gpu, StreamDestroy);
	CHECK(!blocked_stream(gpu, &stream));
	CHECK(!app_SetDevice(0));
	CHECK(!app_StreamCreateWithFlags(&other, CW__TANG_STREAM_NON_BLOCKING));
	CHECK(!app_EventCreateWithFlags(&event, CW__TANG_EVENT_DISABLE_TIMING));
	CHECK(!app_EventRecord(event, stream));
	CHECK(!app_SetDevice(1));
	begin(&result);
	sync.handle = event;
	CHECK(!ops->watch(platform, &sync, note, &result));
	CHECK(is_current(1));
	CHECK(!app_SetDevice(0));
	CHECK(!app_EventRecord(event, other));
	CHECK(!app_EventDestroy(event));
	CHECK(!app_SetDevice(1));
	CHECK(!turn_round(platform, other));
	CHECK(atomic_load(&result.count) == 0);
	sem_post(&gate);
	CHECK(comes(&result.called, 10) && atomic_load(&result.status) == CW_OK);
	CHECK(!app_StreamDestroy(stream) && !app_StreamDestroy(other));
	ops->close(platform);
	CHECK(atomic_load(&result.count) == 1);
	return 0;
}

static int watch_refuses(void)
{
	void *platform = open_platform();
	struct cw_device_sync sync = { .location = "sunrise:9", .kind = CW_DEVICE_STREAM };
	struct result result;
	long nonsense[64] = { 0 };

	CHECK(platform);
	begin(&result);
	CHECK(ops->watch(platform, &sync, note, &result) == CW_ERR_INVALID);
	sync.location = NULL;
	CHECK(ops->watch(platform, &sync, note, &result) == CW_ERR_INVALID);
	sync.location = "sunrise:0";
	sync.kind = 7;
	CHECK(ops->watch(platform, &sync, note, &result) == CW_ERR_INVALID);
	sync.kind = CW_DEVICE_EVENT;
	CHECK(ops->watch(platform, &sync, note, &result) == CW_ERR_INVALID);
	sync.handle = nonsense;
	CHECK(ops->watch(platform, &sync, note, &result) == CW_ERR_INVALID);
	sync.kind = CW_DEVICE_STREAM;
	CHECK(ops->watch(platform, &sync, note, &result) == CW_ERR_INVALID);
	CHECK(ops->fence(platform, &sync, wait_at_gate, NULL) == CW_ERR_INVALID);
	CHECK(is_current(1));
	ops->close(platform);
	CHECK(atomic_load(&result.count) == 0);
	return 0;
}

/* Closing ends what is still watched, and nothing is called afterwards. */
static int close_while_watching(void)
{
	void *platform = open_platform(), *second = open_platform();
	const struct cw__gpu *gpu = gpu_load();
	struct cw_device_sync sync = { .location = "sunrise:0", .kind = CW_DEVICE_STREAM };
	struct cw__tang_stream *stream;
	struct result first_result, second_result;

	CHECK(platform && second);
	CHECK(!blocked_stream(gpu, &stream));
	sync.handle = stream;
	begin(&first_result);
	begin(&second_result);
	CHECK(!ops->watch(platform, &sync, note, &first_result));
	CHECK(!ops->watch(second, &sync, note, &second_result));
	ops->close(platform);
	CHECK(atomic_load(&first_result.count) == 1 && atomic_load(&first_result.status) == CW_ERR_IO);
	CHECK(atomic_load(&second_result.count) == 0);
	sem_post(&gate);
	CHECK(comes(&second_result.called, 10) && atomic_load(&second_result.status) == CW_OK);
	ops->close(second);
	CHECK(atomic_load(&first_result.count) == 1);
	/* And it starts again. */
	platform = open_platform();
	begin(&first_result);
	CHECK(!ops->watch(platform, &sync, note, &first_result));
	CHECK(comes(&first_result.called, 10) && atomic_load(&first_result.status) == CW_OK);
	APPLICATION(gpu, StreamDestroy);
	CHECK(!app_StreamDestroy(stream));
	ops->close(platform);
	return 0;
}

static _Atomic int blocks;

static void block(void *arg)
{
	(void)arg;
	atomic_fetch_add(&blocks, 1);
	sem_wait(&gate);
}

static void pass(void *arg)
{
	(void)arg;
	sem_post(&passed);
}

/* What is put into the stream behind a fence waits; copies and watches of ours do not. */
static int fence(void)
{
	void *platform = open_platform();
	const struct cw__gpu *gpu = gpu_load();
	struct cw_device_sync sync = { .location = "sunrise:0", .kind = CW_DEVICE_STREAM };
	struct cw__tang_stream *stream;
	struct cw_allocation memory;
	struct result behind;
	char byte = 1;

	CHECK(platform);
	APPLICATION(gpu, SetDevice);
	APPLICATION(gpu, LaunchHostFunc);
	APPLICATION(gpu, StreamCreateWithFlags);
	APPLICATION(gpu, StreamDestroy);
	sem_init(&gate, 0, 0);
	sem_init(&passed, 0, 0);
	begin(&behind);
	CHECK(!allocate(platform, "sunrise:0", SIZE, &memory));
	CHECK(!app_SetDevice(0));
	CHECK(!app_StreamCreateWithFlags(&stream, CW__TANG_STREAM_DEFAULT));
	CHECK(!app_SetDevice(1));
	sync.handle = stream;
	CHECK(!ops->fence(platform, &sync, block, NULL));
	CHECK(is_current(1));
	CHECK(!app_SetDevice(0));
	CHECK(!app_LaunchHostFunc(stream, pass, NULL));
	CHECK(!app_SetDevice(1));
	CHECK(!ops->watch(platform, &sync, note, &behind));
	CHECK(!ops->copy_in(platform, 0, memory.address, &byte, 1));
	CHECK(!ops->copy_out(platform, 0, &byte, memory.address, 1));
	CHECK(sem_trywait(&passed));
	CHECK(atomic_load(&behind.count) == 0);
	sem_post(&gate);
	CHECK(comes(&passed, 10));
	CHECK(comes(&behind.called, 10) && atomic_load(&behind.status) == CW_OK);
	CHECK(atomic_load(&blocks) == 1);
	sync.kind = CW_DEVICE_EVENT;
	CHECK(ops->fence(platform, &sync, block, NULL) == CW_ERR_INVALID);
	ops->release(platform, &memory);
	CHECK(!app_StreamDestroy(stream));
	ops->close(platform);
	return 0;
}

/* A fence holds the default stream, which waits for all others and all others for it: copies of ours go on. */
static int copies_beside_a_fence(void)
{
	void *platform = open_platform();
	const struct cw__gpu *gpu = gpu_load();
	struct cw_device_sync sync = { .location = "sunrise:0", .kind = CW_DEVICE_STREAM };
	struct cw_allocation memory[3];
	struct cw__gpu_scope scope;
	char out[1000], back[1000];

	CHECK(platform);
	sem_init(&gate, 0, 0);
	sem_init(&passed, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK(!allocate(platform, i == 2 ? "sunrise:1" : "sunrise:0", SIZE, &memory[i]));
	CHECK(!ops->fence(platform, &sync, block, NULL));
	memset(out, 7, sizeof(out));
	CHECK(!gpu->enter(0, &scope));
	CHECK(!gpu->copy(memory[0].address, out, sizeof(out), CW__GPU_H2D));
	CHECK(!gpu->copy(memory[1].address, memory[0].address, sizeof(out), CW__GPU_D2D));
	CHECK(!gpu->peer_copy(memory[2].address, 1, memory[1].address, 0, sizeof(out)));
	CHECK(!gpu->peer_copy_2(memory[2].address, 1, memory[1].address, 0, sizeof(out)));
	CHECK(!gpu->copy(back, memory[1].address, sizeof(back), CW__GPU_D2H));
	gpu->leave(&scope);
	CHECK(!memcmp(out, back, sizeof(out)));
	CHECK(!ops->copy_out(platform, 1, back, memory[2].address, sizeof(back)));
	CHECK(!memcmp(out, back, sizeof(out)));
	sem_post(&gate);
	APPLICATION(gpu, SetDevice);
	APPLICATION(gpu, DeviceSynchronize);
	CHECK(!app_SetDevice(0) && !app_DeviceSynchronize());
	for (unsigned i = 0; i < 3; i++)
		ops->release(platform, &memory[i]);
	ops->close(platform);
	return 0;
}

/* Many watches on two streams: each ends once, those of the open stream while the other one is blocked. */
static int many_watches(void)
{
	enum { WATCHES = 200 };
	static struct result results[WATCHES];
	void *platform = open_platform();
	const struct cw__gpu *gpu = gpu_load();
	struct cw_device_sync sync = { .location = "sunrise:0", .kind = CW_DEVICE_STREAM };
	struct cw__tang_stream *stream;

	CHECK(platform);
	CHECK(!blocked_stream(gpu, &stream));
	for (unsigned i = 0; i < WATCHES; i++) {
		begin(&results[i]);
		sync.handle = i % 2 ? stream : NULL;
		CHECK(!ops->watch(platform, &sync, note, &results[i]));
	}
	for (unsigned i = 0; i < WATCHES; i += 2)
		CHECK(comes(&results[i].called, 10));
	for (unsigned i = 1; i < WATCHES; i += 2)
		CHECK(!atomic_load(&results[i].count));
	sem_post(&gate);
	for (unsigned i = 1; i < WATCHES; i += 2)
		CHECK(comes(&results[i].called, 10));
	APPLICATION(gpu, StreamDestroy);
	CHECK(!app_StreamDestroy(stream));
	ops->close(platform);
	for (unsigned i = 0; i < WATCHES; i++)
		CHECK(atomic_load(&results[i].count) == 1 && atomic_load(&results[i].status) == CW_OK);
	return 0;
}

/* ---------------------------------------------------------------------------------- in an engine */

static int in_an_engine(void)
{
	struct cw_region_options stated = CW_REGION_OPTIONS_INIT;
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw_region_info info = { .size = sizeof(info) };
	const struct cw__gpu *gpu = gpu_load();
	struct cw_engine *engine;
	struct cw_region *region;
	void *address;

	CHECK(gpu);
	CHECK(!cw_engine_open(NULL, &engine));
	options.location = "sunrise:1";
	CHECK(!cw_memory_allocate(engine, SIZE, &options, &address, &region));
	CHECK(!cw_region_info_get(region, &info));
	CHECK(info.kind == CW_MEMORY_DEVICE && info.device == 1 && !strcmp(info.location, "sunrise:1"));
	CHECK(info.allocation_base == (uint64_t)(uintptr_t)address);
	CHECK(!cw_memory_free(region));

	APPLICATION(gpu, Malloc);
	APPLICATION(gpu, Free);
	CHECK(!app_Malloc(&address, SIZE));
	stated.location = "cuda:0";
	CHECK(!cw_region_register(engine, (char *)address + 512, SIZE - 512, &stated, &region));
	CHECK(!cw_region_info_get(region, &info));
	CHECK(info.device == 0 && info.allocation_base == (uint64_t)(uintptr_t)address);
	CHECK(!cw_region_unregister(region));
	stated.location = "sunrise:1";
	CHECK(cw_region_register(engine, address, SIZE, &stated, &region) == CW_ERR_LOCATION);
	stated.location = "cpu:0";
	CHECK(cw_region_register(engine, address, SIZE, &stated, &region) == CW_ERR_LOCATION);
	CHECK(!app_Free(address));
	cw_engine_close(engine);
	return 0;
}

static const struct gpu_case cases[] = {
	{ "claims", claims, "" },
	{ "claims, sensitive", claims, "context_sensitive" },
	{ "locations", locations, "" },
	{ "allocation", allocation, "" },
	{ "allocation, sensitive", allocation, "context_sensitive" },
	{ "copies", copies, "" },
	{ "copies, sensitive", copies, "context_sensitive" },
	{ "watch a stream", watch_stream, "" },
	{ "watch an event", watch_event, "" },
	{ "watch refuses", watch_refuses, "" },
	{ "close while watching", close_while_watching, "" },
	{ "fence", fence, "" },
	{ "copies beside a fence", copies_beside_a_fence, "" },
	{ "many watches", many_watches, "" },
	{ "in an engine", in_an_engine, "" },
};

int main(void)
{
	return gpu_run_cases(cases, sizeof(cases) / sizeof(cases[0]), gpu_load);
}
