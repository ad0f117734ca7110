/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA row on the emulated driver: contexts only on devices that are used, the caller's current context as before,
 * allocations, copies that never wait for the default stream; and the platforms of two vendors side by side.
 */
#include "gpu_world.h"
#include <platforms/gpu/abi/cuda.h>
#include <semaphore.h>
#include <stdint.h>

#define SIZE ((1u << 20) + 100)

static int active(const struct cw__gpu *gpu, int device)
{
	unsigned flags;
	int yes = -1;

	DRIVER(gpu, DevicePrimaryCtxGetState);
	return app_DevicePrimaryCtxGetState(device, &flags, &yes) ? -1 : yes;
}

static int contexts(void)
{
	const struct cw__gpu *gpu = gpu_load_cuda();
	struct cw__cu_context *own = NULL, *current = NULL;
	struct cw__gpu_scope outer, inner;
	struct cw__gpu_memory memory;
	int yes = -1;

	CHECK(gpu && gpu->device_count == 2 && !strcmp(gpu->name, "cuda") && gpu->vendor == CW__GPU_CUDA);
	CHECK(strlen(gpu->pci[0]) == 12 && strcmp(gpu->pci[0], gpu->pci[1]) != 0);
	CHECK(!gpu->can_reach(0, 1, &yes));
	CHECK(gpu->can_reach(0, 2, &yes));
	CHECK(!gpu->query(&yes, &memory) && !memory.is_device);
	CHECK(active(gpu, 0) == 0 && active(gpu, 1) == 0);

	DRIVER(gpu, CtxGetCurrent);
	DRIVER(gpu, CtxSetCurrent);
	DRIVER(gpu, DevicePrimaryCtxRetain);
	CHECK(!gpu->enter(1, &outer));
	CHECK(active(gpu, 0) == 0 && active(gpu, 1) == 1);
	CHECK(!app_CtxGetCurrent(&current) && current);
	gpu->leave(&outer);
	CHECK(!app_CtxGetCurrent(&current) && !current);

	CHECK(!app_DevicePrimaryCtxRetain(&own, 0) && !app_CtxSetCurrent(own));
	CHECK(!gpu->enter(1, &outer) && !gpu->enter(0, &inner));
	gpu->leave(&inner);
	gpu->leave(&outer);
	CHECK(!app_CtxGetCurrent(&current) && current == own);
	CHECK(gpu->enter(2, &outer) == CW__CU_INVALID_DEVICE && gpu->enter(-1, &outer) == CW__CU_INVALID_DEVICE);
	CHECK(!app_CtxGetCurrent(&current) && current == own);
	CHECK(gpu->is_fatal(CW__CU_ILLEGAL_ADDRESS) && !gpu->is_fatal(CW__CU_INVALID_VALUE) && !gpu->is_fatal(0));
	CHECK(*gpu->error_text(CW__CU_INVALID_VALUE) && *gpu->error_text(123456));
	return 0;
}

static int allocations(void)
{
	static const size_t offsets[] = { 0, 1, 255, 4097, SIZE - 1 };
	const struct cw__gpu *gpu = gpu_load_cuda();
	struct cw__gpu_memory memory;
	struct cw__gpu_scope scope;
	void *blocks[3], *host;

	CHECK(gpu);
	CHECK(!gpu->enter(1, &scope));
	for (unsigned i = 0; i < 3; i++)
		CHECK(!gpu->allocate(&blocks[i], SIZE));
	CHECK(!gpu->host_allocate(&host, 4096));
	gpu->leave(&scope);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		CHECK(!gpu->query((char *)blocks[1] + offsets[i], &memory));
		CHECK(memory.is_device && memory.device == 1);
		CHECK(memory.allocation_base == (uint64_t)(uintptr_t)blocks[1]);
		CHECK(memory.allocation_length >= SIZE && memory.allocation_length < SIZE + (1u << 16));
	}
	CHECK(!gpu->query(host, &memory) && !memory.is_device && memory.device_address);
	CHECK(active(gpu, 0) == 0);
	CHECK(!gpu->enter(1, &scope));
	for (unsigned i = 0; i < 3; i++)
		CHECK(!gpu->release(blocks[i]));
	CHECK(!gpu->host_release(host));
	CHECK(gpu->release(&memory) && gpu->allocate(&host, SIZE_MAX / 4) == CW__CU_OUT_OF_MEMORY);
	gpu->leave(&scope);
	return 0;
}

static sem_t gate;

static void wait_at_gate(void *arg)
{
	(void)arg;
	sem_wait(&gate);
}

/* With and without somebody holding the default streams of both devices. */
static int copies(void)
{
	const struct cw__gpu *gpu = gpu_load_cuda();
	struct cw__gpu_scope scopes[2], scope;
	unsigned char out[10000], back[10000];
	void *blocks[3];

	CHECK(gpu && gpu->peer_copy_async && gpu->call_host && gpu->fill_async && gpu->export_memory);
	CHECK(!gpu->peer_copy_2 && !gpu->peer_copy_async_2 && !gpu->peer_address);
	sem_init(&gate, 0, 0);
	for (unsigned i = 0; i < 3; i++) {
		CHECK(!gpu->enter(i == 2, &scope));
		CHECK(!gpu->allocate(&blocks[i], sizeof(out)));
		gpu->leave(&scope);
	}
	for (unsigned round = 0; round < 2; round++) {
		for (int device = 0; round && device < 2; device++) {
			CHECK(!gpu->enter(device, &scopes[device]));
			CHECK(!gpu->call_host(NULL, wait_at_gate, NULL));
			gpu->leave(&scopes[device]);
		}
		memset(out, (int)round + 1, sizeof(out));
		CHECK(!gpu->enter(0, &scope));
		CHECK(!gpu->copy(blocks[0], out, sizeof(out), CW__GPU_H2D));
		CHECK(!gpu->copy(blocks[1], blocks[0], sizeof(out), CW__GPU_D2D));
		CHECK(!gpu->peer_copy(blocks[2], 1, blocks[1], 0, sizeof(out)));
		gpu->leave(&scope);
		CHECK(!gpu->enter(1, &scope));
		CHECK(!gpu->copy(back, blocks[2], sizeof(back), CW__GPU_D2H));
		gpu->leave(&scope);
		CHECK(!memcmp(out, back, sizeof(out)));
		for (int device = 0; round && device < 2; device++)
			sem_post(&gate);
	}
	CHECK(gpu->copy(back, blocks[2], sizeof(back), CW__GPU_D2H) != 0); /* nothing is entered */
	for (unsigned i = 0; i < 3; i++) {
		CHECK(!gpu->enter(i == 2, &scope));
		CHECK(!gpu->release(blocks[i]));
		gpu->leave(&scope);
	}
	return 0;
}

/* ----------------------------------------------------------------------------------- the platform */

extern const struct cw_platform_ops cw_platform_cuda, cw_platform_sunrise;

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

struct result {
	int status;
	sem_t called;
};

static void note(void *arg, int status)
{
	struct result *result = arg;

	result->status = status;
	sem_post(&result->called);
}

static int platform(void)
{
	const struct cw_platform_ops *ops = &cw_platform_cuda;
	const struct cw__gpu *gpu = gpu_load_cuda();
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw_device_sync sync = { .location = "cuda:1", .kind = CW_DEVICE_STREAM };
	struct cw_allocation memory;
	struct cw_memory_info info;
	struct result result;
	unsigned char byte = 9, back = 0;
	const char *why = NULL;
	void *state;

	CHECK(gpu && !ops->open(&host, &state, &why));
	options.location = "cuda:1";
	CHECK(!ops->allocate(state, SIZE, &options, &memory));
	CHECK(!ops->claim(state, (char *)memory.address + 5, SIZE - 5, &info));
	CHECK(info.kind == CW_MEMORY_DEVICE && info.device == 1 && !strcmp(info.location, "cuda:1"));
	CHECK(info.allocation_base == (uint64_t)(uintptr_t)memory.address);
	CHECK(ops->claim(state, memory.address, SIZE + (64u << 20), &info) == CW_ERR_INVALID);
	CHECK(ops->claim(state, &info, sizeof(info), &info) == CW_ERR_NOT_FOUND);
	CHECK(ops->location(state, "sunrise:1", NULL) == CW_ERR_NOT_FOUND);
	CHECK(ops->location(state, "cuda:2", NULL) == CW_ERR_NOT_FOUND);

	/* Work of ours goes past a fence in the default stream, a watch of that stream does not. */
	sem_init(&gate, 0, 0);
	sem_init(&result.called, 0, 0);
	CHECK(!ops->fence(state, &sync, wait_at_gate, NULL));
	CHECK(!ops->watch(state, &sync, note, &result));
	CHECK(!ops->copy_in(state, 1, memory.address, &byte, 1));
	CHECK(!ops->copy_out(state, 1, &back, memory.address, 1) && back == 9);
	CHECK(sem_trywait(&result.called));
	sem_post(&gate);
	CHECK(!sem_wait(&result.called) && result.status == CW_OK);
	CHECK(active(gpu, 0) == 0);
	ops->release(state, &memory);
	ops->close(state);
	return 0;
}

/* "cuda:N" is the CUDA device's name where there is one, but whose a pointer is, its runtime says. */
static int two_vendors(void)
{
	const struct cw__gpu *gpu = gpu_load_cuda(), *tang = gpu_load();
	const struct cw_memory_info info = { .kind = CW_MEMORY_DEVICE, .device = 1 };
	const char *why = NULL;
	void *cuda, *sunrise;

	CHECK(gpu && tang);
	CHECK(!cw_platform_cuda.open(&host, &cuda, &why) && !cw_platform_sunrise.open(&host, &sunrise, &why));
	CHECK(!cw_platform_cuda.location(cuda, "cuda:1", NULL));
	CHECK(cw_platform_sunrise.location(sunrise, "cuda:1", NULL) == CW_ERR_NOT_FOUND);
	CHECK(!cw_platform_sunrise.location(sunrise, "npu:1", NULL));
	CHECK(!cw_platform_sunrise.location(sunrise, "cuda:1", &info));
	CHECK(cw_platform_cuda.location(cuda, "npu:1", &info) == CW_ERR_LOCATION);
	cw_platform_sunrise.close(sunrise);
	cw_platform_cuda.close(cuda);
	return 0;
}

static const struct gpu_case cases[] = {
	{ "contexts", contexts, "" }, { "allocations", allocations, "" }, { "copies", copies, "" },
	{ "platform", platform, "" }, { "two vendors", two_vendors, "" },
};

int main(void)
{
	return gpu_run_cases(cases, sizeof(cases) / sizeof(cases[0]), gpu_load_cuda);
}
