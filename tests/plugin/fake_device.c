/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plug-in with a platform `fake` whose devices are under the control of a test, see fake_device.h. Memory of a device
 * is a memfd mapped twice: where the application sees it nobody may touch it, so that a transport that did would crash.
 */
#include "fake_device.h"

#include <causeway/plugin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ALLOCATIONS_MAX 64
#define WATCHES_MAX 256
#define HANDLES_MAX 256
#define BAD_HANDLE 255

struct allocation {
	unsigned char *address, *shadow;
	size_t length;
	int device;
};

struct watch {
	uintptr_t handle;
	cw_device_ready_fn ready;
	void *arg;
};

struct fence {
	void (*block)(void *arg);
	void *arg;
};

/* Of this process: every engine gets the same copy of the plug-in. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct allocation allocations[ALLOCATIONS_MAX];
	uint64_t copies[2], copied[2], longest, fail_first[2], fail_count[2], delay;
	int hang[FAKE_DEVICES];
	unsigned hanging, blocked, fences, watch_count;
	struct watch watches[WATCHES_MAX];
	int fired[HANDLES_MAX], fired_status[HANDLES_MAX];
} fake = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* With the lock. */
static const struct allocation *find(const void *address, size_t length)
{
	const unsigned char *at = address;

	for (int i = 0; i < ALLOCATIONS_MAX; i++) {
		const struct allocation *one = &fake.allocations[i];

		if (one->length && at >= one->address && (size_t)(at - one->address) <= one->length &&
		    length <= one->length - (size_t)(at - one->address))
			return one;
	}
	return NULL;
}

static int fake_open(struct cw_host *host, void **platform_out, const char **why_out)
{
	(void)why_out;
	*platform_out = host;
	return CW_OK;
}

static void fake_close(void *platform)
{
	(void)platform;
}

static int number_of(const char *location)
{
	if (strncmp(location, "fake:", 5) || location[5] < '0' || location[5] >= '0' + FAKE_DEVICES || location[6])
		return -1;
	return location[5] - '0';
}

static int fake_claim(void *platform, const void *address, size_t length, struct cw_memory_info *info_out)
{
	const struct allocation *found;
	int status = CW_ERR_NOT_FOUND;

	(void)platform;
	pthread_mutex_lock(&fake.lock);
	found = find(address, 1);
	if (found && !find(address, length))
		status = CW_ERR_INVALID;
	if (found && find(address, length)) {
		*info_out = (struct cw_memory_info){
			.kind = CW_MEMORY_DEVICE,
			.device = found->device,
			.numa_node = -1,
			.allocation_base = (uintptr_t)found->address,
			.allocation_length = found->length,
			.page_size = 4096,
			.location = "fake:0",
		};
		info_out->location[5] = (char)('0' + found->device);
		status = CW_OK;
	}
	pthread_mutex_unlock(&fake.lock);
	return status;
}

static int fake_location(void *platform, const char *location, const struct cw_memory_info *info)
{
	int device = number_of(location);

	(void)platform;
	if (device < 0)
		return CW_ERR_NOT_FOUND;
	return !info || info->device == device ? CW_OK : CW_ERR_LOCATION;
}

static void sleep_for(uint64_t ns)
{
	struct timespec pause = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

	nanosleep(&pause, NULL);
}

static int copy(int device, enum fake_copy way, void *device_address, void *host_address, size_t length)
{
	const struct allocation *found;
	unsigned char *shadow;
	uint64_t number, delay;
	int fails;

	pthread_mutex_lock(&fake.lock);
	found = find(device_address, length);
	shadow = found ? found->shadow + ((unsigned char *)device_address - found->address) : NULL;
	number = ++fake.copies[way];
	fake.copied[way] += length;
	if (length > fake.longest)
		fake.longest = length;
	delay = fake.delay;
	fails = number >= fake.fail_first[way] && number - fake.fail_first[way] < fake.fail_count[way];
	while (fake.hang[device] && !fails) {
		fake.hanging++;
		pthread_cond_broadcast(&fake.changed);
		pthread_cond_wait(&fake.changed, &fake.lock);
		fake.hanging--;
	}
	if (fails)
		shadow = NULL;
	pthread_mutex_unlock(&fake.lock);
	if (delay)
		sleep_for(delay);
	if (!shadow || !length || length > CW_CHUNK_MAX || found->device != device)
		return CW_ERR_IO;
	if (way == FAKE_IN)
		memcpy(shadow, host_address, length);
	else
		memcpy(host_address, shadow, length);
	return CW_OK;
}

static int fake_copy_in(void *platform, int device, void *device_address, const void *host_address, size_t length)
{
	(void)platform;
	return copy(device, FAKE_IN, device_address, (void *)(uintptr_t)host_address, length);
}

static int fake_copy_out(void *platform, int device, void *host_address, const void *device_address, size_t length)
{
	(void)platform;
	return copy(device, FAKE_OUT, (void *)(uintptr_t)device_address, host_address, length);
}

static int fake_watch(void *platform, const struct cw_device_sync *sync, cw_device_ready_fn ready, void *arg)
{
	uintptr_t handle = (uintptr_t)sync->handle;
	int fired, status;

	(void)platform;
	if (!handle || handle >= BAD_HANDLE)
		return CW_ERR_INVALID;
	pthread_mutex_lock(&fake.lock);
	fired = fake.fired[handle];
	status = fake.fired_status[handle];
	if (!fired)
		fake.watches[fake.watch_count++] = (struct watch){ handle, ready, arg };
	pthread_mutex_unlock(&fake.lock);
	if (fired)
		ready(arg, status);
	return CW_OK;
}

static void *run_fence(void *arg)
{
	struct fence fence = *(struct fence *)arg;

	free(arg);
	fence.block(fence.arg);
	pthread_mutex_lock(&fake.lock);
	fake.blocked--;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
	return NULL;
}

static int fake_fence(void *platform, const struct cw_device_sync *stream, void (*block)(void *arg), void *arg)
{
	struct fence *fence;
	pthread_t thread;

	(void)platform;
	if ((uintptr_t)stream->handle >= BAD_HANDLE)
		return CW_ERR_INVALID;
	fence = malloc(sizeof(*fence));
	if (!fence)
		return CW_ERR_IO;
	*fence = (struct fence){ block, arg };
	pthread_mutex_lock(&fake.lock);
	fake.blocked++;
	fake.fences++;
	pthread_mutex_unlock(&fake.lock);
	if (pthread_create(&thread, NULL, run_fence, fence))
		abort();
	pthread_detach(thread);
	return CW_OK;
}

/* --------------------------------------------------------------------------------------- for the test */

static void *allocate(int device, size_t length)
{
	size_t whole = (length + 4095) & ~(size_t)4095;
	int fd = memfd_create("fake-device", MFD_CLOEXEC);
	struct allocation one = { .length = length, .device = device };
	void *address = MAP_FAILED, *shadow = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, (off_t)whole)) {
		address = mmap(NULL, whole, PROT_NONE, MAP_SHARED, fd, 0);
		shadow = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if (fd >= 0)
		close(fd);
	if (address == MAP_FAILED || shadow == MAP_FAILED)
		return NULL;
	one.address = address;
	one.shadow = shadow;
	pthread_mutex_lock(&fake.lock);
	for (int i = 0; i < ALLOCATIONS_MAX; i++) {
		if (fake.allocations[i].length)
			continue;
		fake.allocations[i] = one;
		pthread_mutex_unlock(&fake.lock);
		return address;
	}
	pthread_mutex_unlock(&fake.lock);
	return NULL;
}

static void release(void *address)
{
	pthread_mutex_lock(&fake.lock);
	for (int i = 0; i < ALLOCATIONS_MAX; i++) {
		struct allocation *one = &fake.allocations[i];

		if (!one->length || one->address != address)
			continue;
		munmap(one->address, (one->length + 4095) & ~(size_t)4095);
		munmap(one->shadow, (one->length + 4095) & ~(size_t)4095);
		one->length = 0;
	}
	pthread_mutex_unlock(&fake.lock);
}

static unsigned char *look(const void *address)
{
	const struct allocation *found;
	unsigned char *shadow = NULL;

	pthread_mutex_lock(&fake.lock);
	found = find(address, 0);
	if (found)
		shadow = found->shadow + ((const unsigned char *)address - found->address);
	pthread_mutex_unlock(&fake.lock);
	return shadow;
}

static void reset(void)
{
	pthread_mutex_lock(&fake.lock);
	memset(fake.copies, 0, sizeof(fake.copies));
	memset(fake.copied, 0, sizeof(fake.copied));
	memset(fake.fail_count, 0, sizeof(fake.fail_count));
	memset(fake.hang, 0, sizeof(fake.hang));
	memset(fake.fired, 0, sizeof(fake.fired));
	fake.longest = fake.delay = 0;
	fake.watch_count = fake.fences = 0;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

static uint64_t copies(enum fake_copy way)
{
	uint64_t count;

	pthread_mutex_lock(&fake.lock);
	count = fake.copies[way];
	pthread_mutex_unlock(&fake.lock);
	return count;
}

static uint64_t copied(enum fake_copy way)
{
	uint64_t bytes;

	pthread_mutex_lock(&fake.lock);
	bytes = fake.copied[way];
	pthread_mutex_unlock(&fake.lock);
	return bytes;
}

static uint64_t longest(void)
{
	uint64_t bytes;

	pthread_mutex_lock(&fake.lock);
	bytes = fake.longest;
	pthread_mutex_unlock(&fake.lock);
	return bytes;
}

static void spoil(enum fake_copy way, uint64_t first, uint64_t count)
{
	pthread_mutex_lock(&fake.lock);
	fake.fail_first[way] = fake.copies[way] + first;
	fake.fail_count[way] = count;
	pthread_mutex_unlock(&fake.lock);
}

static void delay_copies(uint64_t ns)
{
	pthread_mutex_lock(&fake.lock);
	fake.delay = ns;
	pthread_mutex_unlock(&fake.lock);
}

static void hang(int device, int on)
{
	pthread_mutex_lock(&fake.lock);
	fake.hang[device] = on;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

static unsigned count_of(const unsigned *count)
{
	unsigned value;

	pthread_mutex_lock(&fake.lock);
	value = *count;
	pthread_mutex_unlock(&fake.lock);
	return value;
}

static unsigned hanging(void)
{
	return count_of(&fake.hanging);
}

static unsigned watching(void)
{
	return count_of(&fake.watch_count);
}

static unsigned blocked(void)
{
	return count_of(&fake.blocked);
}

static unsigned fences(void)
{
	return count_of(&fake.fences);
}

static void fire(uintptr_t handle, int status)
{
	struct watch due[WATCHES_MAX];
	unsigned count = 0, kept = 0;

	pthread_mutex_lock(&fake.lock);
	fake.fired[handle] = 1;
	fake.fired_status[handle] = status;
	for (unsigned i = 0; i < fake.watch_count; i++) {
		if (fake.watches[i].handle == handle)
			due[count++] = fake.watches[i];
		else
			fake.watches[kept++] = fake.watches[i];
	}
	fake.watch_count = kept;
	pthread_mutex_unlock(&fake.lock);
	for (unsigned i = 0; i < count; i++)
		due[i].ready(due[i].arg, status);
}

extern const struct fake_device fake_device;
__attribute__((visibility("default"))) const struct fake_device fake_device = {
	.allocate = allocate,
	.release = release,
	.look = look,
	.reset = reset,
	.copies = copies,
	.copied = copied,
	.longest = longest,
	.spoil = spoil,
	.delay = delay_copies,
	.hang = hang,
	.hanging = hanging,
	.fire = fire,
	.watching = watching,
	.blocked = blocked,
	.fences = fences,
	.bad_handle = BAD_HANDLE,
};

static const struct cw_platform_ops platform = {
	.abi = CW_PLUGIN_ABI,
	.name = "fake",
	.summary = "devices of a test",
	.open = fake_open,
	.close = fake_close,
	.claim = fake_claim,
	.location = fake_location,
	.copy_in = fake_copy_in,
	.copy_out = fake_copy_out,
	.watch = fake_watch,
	.fence = fake_fence,
};

static const struct cw_platform_ops *const platforms[] = { &platform, NULL };

extern const struct cw_plugin cw_plugin;
__attribute__((visibility("default"))) const struct cw_plugin cw_plugin = {
	.abi = CW_PLUGIN_ABI,
	.name = "fake_device",
	.platforms = platforms,
};
