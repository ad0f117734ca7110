/* SPDX-License-Identifier: Apache-2.0 */
/* See fake.h. Failures here end the program: no test can go on without what it starts from. */
#include "fake.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SETTINGS_MAX 8

static void need(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, cw_last_error());
	exit(1);
}

const struct fake_device *fake_load(const char *plugins)
{
	static const struct fake_device *devices;
	char path[512];
	void *library;

	if (devices)
		return devices;
	snprintf(path, sizeof(path), "%s/fake_device.so", plugins);
	library = dlopen(path, RTLD_NOW); /* for good: engines come and go */
	need(library != NULL, "loading the devices");
	devices = dlsym(library, "fake_device");
	need(devices != NULL, "finding the devices");
	return devices;
}

struct cw_engine *fake_engine(const char *plugins, const struct cw_setting *settings, size_t count)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_setting all[SETTINGS_MAX + 1];
	struct cw_engine *engine = NULL;
	char path[512];

	need(count <= SETTINGS_MAX, "too many settings");
	snprintf(path, sizeof(path), "%s/fake_device.so", plugins);
	all[0] = (struct cw_setting){ "plugins/load", path };
	for (size_t i = 0; i < count; i++)
		all[i + 1] = settings[i];
	options.settings = all;
	options.setting_count = count + 1;
	need(!cw_engine_open(&options, &engine), "opening an engine");
	return engine;
}

static void side_open(struct fake_world *world, struct fake_side *side, struct cw_engine *engine, int device)
{
	side->device = device;
	if (device < 0) {
		side->address = mmap(NULL, world->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		need(side->address != MAP_FAILED, "host memory");
		side->bytes = side->address;
	} else {
		side->address = world->devices->allocate(device, world->length);
		need(side->address != NULL, "device memory");
		side->bytes = world->devices->look(side->address);
	}
	need(!cw_region_register(engine, side->address, world->length, NULL, &side->region), "registering");
}

static void side_close(struct fake_world *world, struct fake_side *side)
{
	if (side->device < 0)
		munmap(side->address, world->length);
	else
		world->devices->release(side->address);
}

void fake_world_open(struct fake_world *world, const char *plugins, const char *transports, int here, int there,
		     size_t length, const struct cw_setting *settings, size_t count)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;

	memset(world, 0, sizeof(*world));
	world->devices = fake_load(plugins);
	world->devices->reset();
	world->length = length;
	world->near = fake_engine(plugins, settings, count);
	world->far = strcmp(transports, "local") ? fake_engine(plugins, settings, count) : world->near;
	side_open(world, &world->here, world->near, here);
	side_open(world, &world->there, world->far, there);
	options.transports = transports;
	need(!cw_segment_open(world->near, cw_engine_name(world->far), &options, &world->segment), "opening a segment");
}

void fake_world_close(struct fake_world *world)
{
	cw_segment_close(world->segment);
	cw_engine_close(world->near);
	if (world->far != world->near)
		cw_engine_close(world->far);
	side_close(world, &world->here);
	side_close(world, &world->there);
}

struct cw_request fake_request(const struct fake_world *world, enum cw_op op, size_t here, size_t there, size_t length)
{
	return (struct cw_request){
		.segment = world->segment,
		.op = op,
		.local = { .base = (uint64_t)(uintptr_t)world->here.address + here, .page_size = length, .count = 1 },
		.remote = { .base = (uint64_t)(uintptr_t)world->there.address + there,
			    .page_size = length,
			    .count = 1 },
	};
}

void fake_fill(unsigned char *bytes, size_t length, unsigned seed)
{
	uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t i = 0; i < length; i += sizeof(state)) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		memcpy(bytes + i, &state, length - i < sizeof(state) ? length - i : sizeof(state));
	}
}
