/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One copy and what it needs: the locks of devices, which are shared by all engines of the process because the runtime
 * is, the right call for the ends of the copy, and what a failure says about the devices.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <transports/peer_copy/inside.h>
#include <util/thread.h>

#define HELD_LONG CW__SECOND           /* by one call: small copies go to a lane */
#define HELD_TOO_LONG (5 * CW__SECOND) /* nothing new is given to the device */
#define PROOF_BYTES (256u * 1024)      /* looked at in one call */
#define DEAF_NS (10 * CW__SECOND)      /* how long a refused way is not tried again */

int cw__pc_thread(pthread_t *thread_out, void *(*main)(void *arg), void *arg)
{
	return cw__thread_start(thread_out, NULL, main, arg) ? CW_ERR_NO_MEMORY : CW_OK;
}

/* ----------------------------------------------------------------------------------------------- locks */

static struct {
	pthread_mutex_t lock;
	_Atomic uint64_t since; /* locked, 0 = it is not */
	_Atomic unsigned wanted;
} devices[CW__GPU_VENDORS][CW__GPU_DEVICES_MAX];

static pthread_once_t devices_once = PTHREAD_ONCE_INIT;

static void devices_init(void)
{
	for (unsigned vendor = 0; vendor < CW__GPU_VENDORS; vendor++)
		for (unsigned i = 0; i < CW__GPU_DEVICES_MAX; i++)
			pthread_mutex_init(&devices[vendor][i].lock, NULL);
}

/* By the clock that C libraries of ten years ago have for this; whoever sets it makes us wait longer or shorter once.
 */
static int lock_within(pthread_mutex_t *lock, uint64_t timeout)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_sec += (time_t)(timeout / CW__SECOND);
	at.tv_nsec += (long)(timeout % CW__SECOND);
	if (at.tv_nsec >= (long)CW__SECOND) {
		at.tv_nsec -= (long)CW__SECOND;
		at.tv_sec++;
	}
	return pthread_mutex_timedlock(lock, &at);
}

static int lock_one(uint32_t vendor, int device, uint64_t timeout)
{
	pthread_mutex_t *lock = &devices[vendor][device].lock;
	int busy = pthread_mutex_trylock(lock);

	if (busy) {
		atomic_fetch_add_explicit(&devices[vendor][device].wanted, 1, memory_order_relaxed);
		busy = lock_within(lock, timeout);
		atomic_fetch_sub_explicit(&devices[vendor][device].wanted, 1, memory_order_relaxed);
	}
	if (busy)
		return CW_ERR_BUSY;
	atomic_store_explicit(&devices[vendor][device].since, cw__now(), memory_order_relaxed);
	return CW_OK;
}

static void unlock_one(uint32_t vendor, int device)
{
	atomic_store_explicit(&devices[vendor][device].since, 0, memory_order_relaxed);
	pthread_mutex_unlock(&devices[vendor][device].lock);
}

int cw__pc_lock(uint32_t vendor, int to, int from, uint64_t timeout)
{
	int low = to < from ? to : from, high = to < from ? from : to;

	pthread_once(&devices_once, devices_init);
	if (low >= 0 && low != high && lock_one(vendor, low, timeout))
		return CW_ERR_BUSY;
	if (high < 0 || !lock_one(vendor, high, timeout))
		return CW_OK;
	if (low >= 0 && low != high)
		unlock_one(vendor, low);
	return CW_ERR_BUSY;
}

void cw__pc_unlock(uint32_t vendor, int to, int from)
{
	if (to >= 0)
		unlock_one(vendor, to);
	if (from >= 0 && from != to)
		unlock_one(vendor, from);
}

static int is_held(uint32_t vendor, int device, uint64_t limit)
{
	uint64_t since = device < 0 ? 0 : atomic_load_explicit(&devices[vendor][device].since, memory_order_relaxed);

	return since && cw__now() > cw__after(since, limit);
}

int cw__pc_is_held(uint32_t vendor, int to, int from)
{
	return is_held(vendor, to, HELD_LONG) || is_held(vendor, from, HELD_LONG);
}

int cw__pc_is_wanted(uint32_t vendor, int to, int from)
{
	return (to >= 0 && atomic_load_explicit(&devices[vendor][to].wanted, memory_order_relaxed)) ||
	       (from >= 0 && atomic_load_explicit(&devices[vendor][from].wanted, memory_order_relaxed));
}

/* ------------------------------------------------------------------------------------------------ copy */

static int copy(struct cw__peer_copy *pc, const struct cw__pc_way *way, uint64_t to, uint64_t from, uint64_t length,
		void *stream)
{
	const struct cw__gpu *gpu = pc->gpu;
	enum cw__gpu_copy_kind kind = way->from < 0 ? CW__GPU_H2D : way->to < 0 ? CW__GPU_D2H : CW__GPU_D2D;
	struct cw__peer_copy_run run = {
		.to = (void *)(uintptr_t)to,
		.from = (const void *)(uintptr_t)from,
		.length = length,
		.to_device = way->to,
		.from_device = way->from,
		.mapped = way->mapped,
		.link = way->link,
		.stream = stream,
	};

	if (kind == CW__GPU_D2D && way->to != way->from)
		return pc->kind.across(pc->kind.own, &run);
	if (stream)
		return gpu->copy_async(run.to, run.from, length, kind, stream);
	return gpu->copy(run.to, run.from, length, kind);
}

/* --------------------------------------------------------------- what some runtimes do not do, and do not say */

int cw__pc_is_doubtful(const struct cw__peer_copy *pc, const struct cw__pc_way *way)
{
	return way->mapped && way->writes && way->to == way->from && way->to >= 0 &&
	       !atomic_load_explicit(&pc->devices[way->to].heard, memory_order_relaxed);
}

/* The first block in which both ends differ, of the source read to host memory; *at_out >= length when there is none.
 */
static int find_difference(const struct cw__gpu *gpu, uint64_t to, uint64_t from, uint64_t length, uint64_t *at_out,
			   unsigned char *source, unsigned char *target)
{
	int result = 0;

	for (*at_out = 0; *at_out < length && !result; *at_out += PROOF_BYTES) {
		uint64_t some = length - *at_out < PROOF_BYTES ? length - *at_out : PROOF_BYTES;

		result = gpu->copy(source, (const void *)(uintptr_t)(from + *at_out), some, CW__GPU_D2H);
		if (!result)
			result = gpu->copy(target, (const void *)(uintptr_t)(to + *at_out), some, CW__GPU_D2H);
		if (!result && memcmp(source, target, some))
			return 0;
	}
	return result;
}

/* Some runtimes give a process its neighbour's memory on the same device for reading only, and some of these may say
 * that a write into it has succeeded. So writes are looked at until one was seen to arrive. */
static int copy_in_doubt(struct cw__peer_copy *pc, const struct cw__pc_way *way, uint64_t to, uint64_t from,
			 uint64_t length)
{
	const struct cw__gpu *gpu = pc->gpu;
	unsigned char *source = malloc(2 * PROOF_BYTES), *target;
	uint64_t at = 0, some;
	int result;

	if (!source)
		return CW__PC_NOT_ARRIVED;
	target = source + PROOF_BYTES;
	result = find_difference(gpu, to, from, length, &at, source, target);
	if (result || at >= length) /* the bytes are there already */
		goto out;
	some = length - at < PROOF_BYTES ? length - at : PROOF_BYTES;
	result = copy(pc, way, to, from, length, NULL);
	if (!result)
		result = gpu->copy(target, (const void *)(uintptr_t)(to + at), some, CW__GPU_D2H);
	if (!result && memcmp(source, target, some))
		result = CW__PC_NOT_ARRIVED;
	if (!result)
		atomic_store_explicit(&pc->devices[way->to].heard, 1, memory_order_relaxed);
out:
	free(source);
	return result;
}

int cw__pc_copy(struct cw__peer_copy *pc, const struct cw__pc_way *way, uint64_t to, uint64_t from, uint64_t length,
		void *stream)
{
	if (!stream && cw__pc_is_doubtful(pc, way))
		return copy_in_doubt(pc, way, to, from, length);
	return copy(pc, way, to, from, length, stream);
}

/* -------------------------------------------------------------------------------------------- failures */

static const char *end_name(int device, char *out, size_t size)
{
	if (device < 0)
		snprintf(out, size, "host memory");
	else
		snprintf(out, size, "device %d", device);
	return out;
}

/* Does anything work there any more? */
static int is_lost(const struct cw__gpu *gpu, int device)
{
	struct cw__gpu_scope scope;
	void *event = NULL;
	int result;

	if (device < 0)
		return 0;
	result = gpu->enter(device, &scope);
	if (result)
		return gpu->is_fatal(result);
	result = gpu->event_open(&event);
	if (!result)
		gpu->event_close(event);
	gpu->leave(&scope);
	return result && gpu->is_fatal(result);
}

static void mark_lost(struct cw__peer_copy *pc, int device, int result)
{
	if (device < 0 || atomic_exchange_explicit(&pc->devices[device].lost, 1, memory_order_relaxed))
		return;
	pc->host->ops->log(pc->host, CW_LOG_ERROR, "%s: device %d is lost: %s (%d); it is not used any more",
			   pc->kind.name, device, pc->gpu->error_text(result), result);
}

int cw__pc_failed(struct cw__peer_copy *pc, const struct cw__pc_way *way, int result, const char *what)
{
	_Atomic unsigned char *warned = &pc->warned[way->from + 1][way->to + 1];
	char from[24], to[24];

	if (!atomic_exchange_explicit(warned, 1, memory_order_relaxed))
		pc->host->ops->log(pc->host, CW_LOG_WARN, "%s: %s from %s to %s%s failed: %s (%d)", pc->kind.name, what,
				   end_name(way->from, from, sizeof(from)), end_name(way->to, to, sizeof(to)),
				   way->mapped ? ", memory of another process," : "",
				   result == CW__PC_NOT_ARRIVED
					   ? "the runtime says that it succeeded, but nothing arrived"
					   : pc->gpu->error_text(result),
				   result);
	if (result != CW__PC_NOT_ARRIVED && pc->gpu->is_fatal(result)) {
		int to_lost = is_lost(pc->gpu, way->to), from_lost = is_lost(pc->gpu, way->from);

		if (to_lost)
			mark_lost(pc, way->to, result);
		if (from_lost)
			mark_lost(pc, way->from, result);
		if (!to_lost && !from_lost)
			mark_lost(pc, cw__pc_home(way), result);
		return CW_ERR_IO;
	}
	/* Some runtimes give a process its neighbour's memory on the same device for reading only. */
	if (way->mapped && way->writes && way->to == way->from) {
		atomic_store_explicit(&pc->devices[way->to].deaf_until, cw__now() + DEAF_NS, memory_order_relaxed);
		return CW_ERR_UNSUPPORTED;
	}
	return CW_ERR_IO;
}

static const char *device_fault(const struct cw__peer_copy *pc, int device)
{
	if (device < 0)
		return NULL;
	if (atomic_load_explicit(&pc->devices[device].lost, memory_order_relaxed))
		return "off: the device is lost";
	if (atomic_load_explicit(&pc->devices[device].stuck, memory_order_relaxed) ||
	    is_held(pc->gpu->vendor, device, HELD_TOO_LONG))
		return "off: an earlier copy on the device does not end";
	return NULL;
}

int cw__pc_way_check(const struct cw__peer_copy *pc, const struct cw__pc_way *way, const char **why_out)
{
	const char *why = device_fault(pc, way->to);

	if (!why && way->from != way->to)
		why = device_fault(pc, way->from);
	if (!why && way->mapped && way->writes && way->to == way->from) {
		uint64_t until = atomic_load_explicit(&pc->devices[way->to].deaf_until, memory_order_relaxed);

		if (until && cw__now() < until)
			why = "the runtime refuses to write into a mapping of memory of the same device";
	}
	if (!why)
		return CW_OK;
	*why_out = why;
	return CW_ERR_UNSUPPORTED;
}
