/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The platforms of GPU vendors, one for each line of vendors.def, all of them this code over the vendor's table in
 * gpu.h: whose memory an address is, device memory for the engine, copies between it and host memory for the core's
 * landing buffers, and waiting for the work of a device.
 *
 * Copies and waits run on streams of our own (track.h), never on the default stream, which waits for all others.
 */
#include <platforms/gpu/row.h>
#include <platforms/gpu/watch.h>
#include <util/clock.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 6 /* of a device in a location */
#define TIMEOUT (10 * CW__SECOND)
#define RELEASE_WITHIN CW__SECOND /* longer than this freeing memory is left to itself */

struct gpu_platform {
	struct cw_host *host;
	const struct cw__gpu *gpu;
	const struct cw__gpu_row *row;
	uint64_t timeout; /* ns, of a call that a caller waits for */
	int numa_nodes[CW__GPU_DEVICES_MAX];
};

int cw__gpu_numa_node(struct cw_host *host, const char *pci)
{
	const char *sysfs = host->ops->setting(host, "engine/sysfs");
	char path[512];
	FILE *file;
	int node;

	if (snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/numa_node", sysfs ? sysfs : "/sys", pci) >=
	    (int)sizeof(path))
		return -1;
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fscanf(file, "%d", &node) != 1)
		node = -1;
	fclose(file);
	return node;
}

static int platform_open(struct cw_host *host, enum cw__gpu_vendor vendor, void **platform_out, const char **why_out)
{
	const struct cw__gpu *gpu = cw__gpu_load_within(vendor, cw__gpu_patience(host), why_out);
	struct gpu_platform *platform;

	if (!gpu)
		return CW_ERR_UNSUPPORTED;
	platform = malloc(sizeof(*platform));
	if (!platform) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	platform->host = host;
	platform->gpu = gpu;
	platform->row = &cw__gpu_rows[vendor];
	platform->timeout = host->ops->setting_number(host, "engine/device_timeout", TIMEOUT);
	for (unsigned i = 0; i < gpu->device_count; i++)
		platform->numa_nodes[i] = cw__gpu_numa_node(host, gpu->pci[i]);
	cw__gpu_tracks_keep(gpu);
	cw__gpu_watch_open();
	*platform_out = platform;
	return CW_OK;
}

static void platform_close(void *state)
{
	struct gpu_platform *platform = state;

	cw__gpu_watch_close(platform);
	cw__gpu_tracks_let_go(platform->gpu);
	free(platform);
}

/* Says what a call of the runtime came to and gives the status for it. */
static int report(const struct gpu_platform *platform, const char *what, int device, int result)
{
	if (result == CW__GPU_NO_ANSWER) {
		platform->host->ops->log(platform->host, CW_LOG_ERROR, "%s:%d: %s: the runtime does not come back",
					 platform->gpu->name, device, what);
		return CW_ERR_TIMED_OUT;
	}
	platform->host->ops->log(platform->host, CW_LOG_WARN, "%s:%d: %s failed: %d, %s", platform->gpu->name, device,
				 what, result, platform->gpu->error_text(result));
	if (cw__gpu_code_in(platform->row->no_memory, result))
		return CW_ERR_NO_MEMORY;
	return cw__gpu_code_in(platform->row->is_invalid, result) ? CW_ERR_INVALID : CW_ERR_IO;
}

/* ------------------------------------------------------------------------------------ whose memory */

/* 1 when the last byte of a range is in the allocation that its first one is in. */
static int ends_inside(const struct gpu_platform *platform, const struct cw__gpu_memory *memory, uint64_t from,
		       uint64_t length)
{
	struct cw__gpu_memory last;

	if (memory->allocation_length)
		return length <= memory->allocation_length &&
		       from - memory->allocation_base <= memory->allocation_length - length;
	return !cw__gpu_query_aside(platform->gpu, (void *)(uintptr_t)(from + length - 1), platform->timeout, &last) &&
	       last.is_device && last.device == memory->device;
}

static int platform_claim(void *state, const void *address, size_t length, struct cw_memory_info *info_out)
{
	const struct gpu_platform *platform = state;
	struct cw__gpu_memory memory;
	int result = cw__gpu_query_aside(platform->gpu, address, platform->timeout, &memory);

	if (result) {
		int status = report(platform, "asking about an address", 0, result);

		/* It may be memory of a device: nobody else is to take it for the host's. */
		return status == CW_ERR_TIMED_OUT ? status : CW_ERR_NOT_FOUND;
	}
	if (!memory.is_device)
		return CW_ERR_NOT_FOUND;
	if (!ends_inside(platform, &memory, (uint64_t)(uintptr_t)address, length))
		return CW_ERR_INVALID;
	*info_out = (struct cw_memory_info){
		.kind = CW_MEMORY_DEVICE,
		.device = memory.device,
		.numa_node = platform->numa_nodes[memory.device],
		.allocation_base = memory.allocation_base,
		.allocation_length = memory.allocation_length,
	};
	snprintf(info_out->location, sizeof(info_out->location), "%s:%d", platform->row->locations[0], memory.device);
	return CW_OK;
}

/* "name:N". 1 with the device; 0: another name; -1: the name, but what follows is no number. */
static int parse_location(const char *location, const char *name, int *device_out)
{
	size_t length = strlen(name), digits;

	if (strncmp(location, name, length) || location[length] != ':')
		return 0;
	location += length + 1;
	digits = strspn(location, "0123456789");
	if (!digits || digits > DIGITS_MAX || location[digits])
		return -1;
	*device_out = atoi(location);
	return 1;
}

/* A name that is first of all another vendor's: it means that vendor's devices where there are any. */
static int is_taken(const struct gpu_platform *platform, const char *name)
{
	const char *why;

	for (unsigned i = 0; i < CW__GPU_VENDORS; i++)
		if (&cw__gpu_rows[i] != platform->row && !strcmp(cw__gpu_rows[i].locations[0], name) &&
		    cw__gpu_load(i, &why))
			return 1;
	return 0;
}

static int platform_location(void *state, const char *location, const struct cw_memory_info *info)
{
	const struct gpu_platform *platform = state;

	for (unsigned i = 0; platform->row->locations[i]; i++) {
		const char *name = platform->row->locations[i];
		int device, match = parse_location(location, name, &device);

		if (!match || (!info && is_taken(platform, name)))
			continue;
		if (match < 0)
			return CW_ERR_LOCATION;
		if (info)
			return device == info->device ? CW_OK : CW_ERR_LOCATION;
		return device < (int)platform->gpu->device_count ? CW_OK : CW_ERR_NOT_FOUND;
	}
	return info ? CW_ERR_LOCATION : CW_ERR_NOT_FOUND;
}

/* The device of a location that location() accepted; -1 for another. */
static int device_of(const struct gpu_platform *platform, const char *location)
{
	int device;

	for (unsigned i = 0; location && platform->row->locations[i]; i++)
		if (parse_location(location, platform->row->locations[i], &device) == 1)
			return device < (int)platform->gpu->device_count ? device : -1;
	return -1;
}

/* ---------------------------------------------------------------------------------- work on a device */

/* What one call does on a stream; filled in by the caller of on_track(). */
struct errand {
	void *to;
	const void *from;
	size_t length;
	enum cw__gpu_copy_kind kind;
};

static int put_copy(const struct cw__gpu *gpu, const struct errand *errand, void *stream)
{
	return gpu->copy_async(errand->to, errand->from, errand->length, errand->kind, stream);
}

static int put_zeros(const struct cw__gpu *gpu, const struct errand *errand, void *stream)
{
	static const unsigned char zeros[64 * 1024];
	unsigned char *at = errand->to;
	int result = 0;

	if (gpu->fill_async)
		return gpu->fill_async(errand->to, 0, errand->length, stream);
	for (size_t left = errand->length, some; left && !result; left -= some, at += some) {
		some = left < sizeof(zeros) ? left : sizeof(zeros);
		result = gpu->copy_async(at, zeros, some, CW__GPU_H2D, stream);
	}
	return result;
}

/* Puts the errand into a stream and waits for an event behind it, because nothing else proves that it is done. */
static int on_track(const struct cw__gpu *gpu, int device, const struct errand *errand,
		    int (*put)(const struct cw__gpu *gpu, const struct errand *errand, void *stream))
{
	struct cw__gpu_track *track;
	struct cw__gpu_scope scope;
	int result = gpu->enter(device, &scope);

	if (result)
		return result;
	result = cw__gpu_track_take(gpu, device, &track);
	if (!result) {
		result = put(gpu, errand, track->stream);
		if (!result)
			result = gpu->event_record(track->event, track->stream);
		if (!result)
			result = gpu->event_wait(track->event);
		if (result)
			cw__gpu_drain(gpu, track->stream);
		cw__gpu_track_give(track, result);
	}
	gpu->leave(&scope);
	return result;
}

static int copy(const struct gpu_platform *platform, int device, const struct errand *errand)
{
	int result = on_track(platform->gpu, device, errand, put_copy);

	if (!result)
		return CW_OK;
	report(platform, errand->kind == CW__GPU_H2D ? "copying to the device" : "copying from the device", device,
	       result);
	return platform->gpu->is_fatal(result) ? CW_ERR_UNSUPPORTED : CW_ERR_IO;
}

static int platform_copy_in(void *state, int device, void *device_address, const void *host_address, size_t length)
{
	const struct errand errand = { device_address, host_address, length, CW__GPU_H2D };

	return copy(state, device, &errand);
}

static int platform_copy_out(void *state, int device, void *host_address, const void *device_address, size_t length)
{
	const struct errand errand = { host_address, device_address, length, CW__GPU_D2H };

	return copy(state, device, &errand);
}

/* -------------------------------------------------------------------------------------- allocation */

static int platform_query(void *state, const struct cw_memory_options *options, struct cw_memory_capabilities *out)
{
	const struct gpu_platform *platform = state;

	(void)options;
	*out = (struct cw_memory_capabilities){ .size = sizeof(*out),
						.can_allocate = 1,
						.shareable = platform->gpu->export_memory != NULL };
	snprintf(out->why_not, sizeof(out->why_not), "%s",
		 out->shareable ? "device memory has no huge pages"
				: "this runtime cannot share memory between processes");
	return CW_OK;
}

struct memory_errand {
	struct cw__gpu_errand errand; /* first */
	size_t length;
	void *address;
};

static int allocate(struct cw__gpu_errand *errand)
{
	struct memory_errand *memory = (struct memory_errand *)errand;
	const struct cw__gpu *gpu = errand->gpu;
	struct errand zeros = { .length = memory->length };
	struct cw__gpu_scope scope;
	int result = gpu->enter(errand->device, &scope);

	if (result)
		return result;
	result = gpu->allocate(&memory->address, memory->length);
	if (!result && memory->address) {
		zeros.to = memory->address;
		result = on_track(gpu, errand->device, &zeros, put_zeros);
		if (result)
			gpu->release(memory->address);
	}
	if (result)
		memory->address = NULL;
	gpu->leave(&scope);
	return result;
}

static int release(struct cw__gpu_errand *errand)
{
	struct memory_errand *memory = (struct memory_errand *)errand;
	struct cw__gpu_scope scope;
	int result = memory->address ? errand->gpu->enter(errand->device, &scope) : 0;

	if (result || !memory->address)
		return result;
	result = errand->gpu->release(memory->address);
	errand->gpu->leave(&scope);
	return result;
}

static void allocated_late(struct cw__gpu_errand *errand)
{
	(void)release(errand);
}

static int platform_allocate(void *state, size_t length, const struct cw_memory_options *options,
			     struct cw_allocation *allocation_out)
{
	const struct gpu_platform *platform = state;
	int device = device_of(platform, options->location), result;
	struct memory_errand *memory;

	if (device < 0)
		return CW_ERR_LOCATION;
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return CW_ERR_NO_MEMORY;
	*memory = (struct memory_errand){
		.errand = { .run = allocate, .undo = allocated_late, .gpu = platform->gpu, .device = device },
		.length = length,
	};
	result = cw__gpu_aside(&memory->errand, platform->timeout);
	if (result == CW__GPU_NO_ANSWER || result || !memory->address) {
		if (result != CW__GPU_NO_ANSWER)
			free(memory);
		return report(platform, "allocating memory", device, result);
	}
	*allocation_out = (struct cw_allocation){
		.address = memory->address, .length = length, .share_fd = -1, .handle = (void *)(intptr_t)device
	};
	free(memory);
	return CW_OK;
}

static void platform_release(void *state, struct cw_allocation *allocation)
{
	const struct gpu_platform *platform = state;
	int device = (int)(intptr_t)allocation->handle, result;
	struct memory_errand *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return; /* it stays, as other things will now */
	*memory = (struct memory_errand){ .errand = { .run = release, .gpu = platform->gpu, .device = device },
					  .address = allocation->address };
	result = cw__gpu_aside(&memory->errand, RELEASE_WITHIN);
	if (result != CW__GPU_NO_ANSWER)
		free(memory);
	if (result)
		report(platform, "freeing memory", device, result);
}

/* ------------------------------------------------------------------------- waiting for devices' work */

/* The place in the device's work as an event of our own: the caller may record or destroy theirs again. */
static int mark(const struct cw__gpu *gpu, struct cw__gpu_track *track, const struct cw_device_sync *sync)
{
	int result;

	if (sync->kind == CW_DEVICE_STREAM)
		return gpu->event_record(track->event, sync->handle);
	result = gpu->stream_wait(track->stream, sync->handle);
	return result ? result : gpu->event_record(track->event, track->stream);
}

static int platform_watch(void *state, const struct cw_device_sync *sync, cw_device_ready_fn ready, void *arg)
{
	const struct gpu_platform *platform = state;
	const struct cw__gpu *gpu = platform->gpu;
	int device = device_of(platform, sync->location), result, status = CW_OK;
	struct cw__gpu_track *track;
	struct cw__gpu_scope scope;

	if (device < 0 || sync->kind > CW_DEVICE_EVENT || (sync->kind == CW_DEVICE_EVENT && !sync->handle))
		return CW_ERR_INVALID;
	result = gpu->enter(device, &scope);
	if (result)
		return report(platform, "using the device", device, result);
	result = cw__gpu_track_take(gpu, device, &track);
	if (!result) {
		result = mark(gpu, track, sync);
		if (!result)
			status = cw__gpu_watch_add(platform, track, ready, arg);
		if (result || status)
			cw__gpu_track_give(track, CW__GPU_NOT_READY);
	}
	gpu->leave(&scope);
	if (result)
		status = report(platform,
				sync->kind == CW_DEVICE_STREAM ? "recording an event in a caller's stream"
							       : "waiting for a caller's event",
				device, result);
	return status;
}

static int platform_fence(void *state, const struct cw_device_sync *stream, void (*block)(void *arg), void *arg)
{
	const struct gpu_platform *platform = state;
	int device = device_of(platform, stream->location), result;
	struct cw__gpu_scope scope;

	if (device < 0 || stream->kind != CW_DEVICE_STREAM)
		return CW_ERR_INVALID;
	if (!platform->gpu->call_host)
		return CW_ERR_UNSUPPORTED;
	result = platform->gpu->enter(device, &scope);
	if (!result) {
		result = platform->gpu->call_host(stream->handle, block, arg);
		platform->gpu->leave(&scope);
	}
	return result ? report(platform, "putting a fence into a stream", device, result) : CW_OK;
}

#define CW_GPU_VENDOR(id, vendor_platform, dialect)                                                                    \
	static int vendor_platform##_open(struct cw_host *host, void **platform_out, const char **why_out)             \
	{                                                                                                              \
		return platform_open(host, CW__GPU_##id, platform_out, why_out);                                       \
	}                                                                                                              \
	extern const struct cw_platform_ops cw_platform_##vendor_platform;                                             \
	const struct cw_platform_ops cw_platform_##vendor_platform = {                                                 \
		.abi = CW_PLUGIN_ABI,                                                                                  \
		.name = #vendor_platform,                                                                              \
		.summary = "memory of " #vendor_platform " devices",                                                   \
		.open = vendor_platform##_open,                                                                        \
		.close = platform_close,                                                                               \
		.claim = platform_claim,                                                                               \
		.location = platform_location,                                                                         \
		.query = platform_query,                                                                               \
		.allocate = platform_allocate,                                                                         \
		.release = platform_release,                                                                           \
		.copy_in = platform_copy_in,                                                                           \
		.copy_out = platform_copy_out,                                                                         \
		.watch = platform_watch,                                                                               \
		.fence = platform_fence,                                                                               \
	};
#include <platforms/gpu/vendors.def>
#undef CW_GPU_VENDOR
