/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of the process: joining the world at the first call, the begin and end of every call, current devices.
 */
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS 60000

struct cw__emu_state cw__emu;
_Thread_local struct cw__emu_thread cw__emu_thread;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t face_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cw__emu_face *_Atomic faces;
static pthread_key_t thread_key;
static const char *trace_folder;
/* By physical device: whose memory it may reach, a bit each. */
static _Atomic uint64_t peer_access[CW__WORLD_DEVICES];

uint64_t cw__emu_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void cw__emu_sleep_until(uint64_t moment)
{
	struct timespec wake;

	/* A sleeper is woken late by about this much, which would be the larger part of a short copy. */
	if (moment > cw__emu_now() + SPIN_NS) {
		wake.tv_sec = (time_t)((moment - SPIN_NS) / 1000000000);
		wake.tv_nsec = (long)((moment - SPIN_NS) % 1000000000);
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == EINTR)
			;
	}
	while (cw__emu_now() < moment)
		;
}

static void after_fork(void)
{
	atomic_store(&cw__emu.forked, 1);
}

/* A thread that changed its current device and ends without having put it back. */
static void thread_ended(void *unused)
{
	(void)unused;
	if (cw__emu_thread.device)
		cw__emu_gauge(CW__EMU_DEVICE_LEAKS, 1);
}

static void at_end(void)
{
	if (atomic_load(&cw__emu.forked))
		return;
	if (cw__emu_thread.device)
		cw__emu_gauge(CW__EMU_DEVICE_LEAKS, 1);
	if (cw__emu.tracing)
		cw__emu_trace_close(trace_folder);
	cw__world_leave(cw__emu.world, cw__emu.seat);
}

static void start(void)
{
	const char *path = getenv("CAUSEWAY_EMULATE_WORLD");
	struct cw__world *world;

	world = cw__world_join(path && *path ? path : NULL, &cw__emu.seat, cw__emu.why, sizeof(cw__emu.why));
	if (!world) {
		fprintf(stderr, "causeway emulator: %s\n", cw__emu.why);
		return;
	}
	cw__emu.world = world;
	cw__emu.start = cw__world_start_time((int)getpid());
	for (const char *c = path && *path ? path : ""; *c; c++)
		cw__emu.world_mark = cw__emu.world_mark * 31 + (unsigned char)*c;
	cw__emu.device_count = (int)world->device_count;
	for (int i = 0; i < CW__WORLD_DEVICES; i++)
		cw__emu.visible[i] = i;
	if (cw__emu_options_read(getenv("CAUSEWAY_EMULATE_OPTIONS")) ||
	    cw__emu_faults_read(getenv("CAUSEWAY_EMULATE_FAULTS")) || cw__emu_memory_start()) {
		fprintf(stderr, "causeway emulator: %s\n", cw__emu.why);
		cw__world_leave(world, cw__emu.seat);
		cw__emu.world = NULL;
		return;
	}
	for (int i = 0; i < CW__WORLD_DEVICES; i++)
		cw__emu.index[i] = -1;
	for (int i = 0; i < cw__emu.device_count; i++)
		cw__emu.index[cw__emu.visible[i]] = i;
	trace_folder = getenv("CAUSEWAY_EMULATE_TRACE");
	if (trace_folder && *trace_folder)
		cw__emu_trace_open(trace_folder);
	if (cw__emu.options.touch)
		cw__emu_touch_watch(trace_folder);
	pthread_key_create(&thread_key, thread_ended);
	pthread_atfork(NULL, NULL, after_fork);
	atexit(at_end);
}

struct cw__world *cw__emu_world(void)
{
	pthread_once(&once, start);
	return cw__emu.world;
}

int causeway_emulator_check(void)
{
	return cw__emu_world() ? 0 : -1;
}

/* The first call of a face: after it, its symbols know their rules. */
static void add_face(struct cw__emu_face *face)
{
	struct cw__world *world = cw__emu_world();

	pthread_mutex_lock(&face_lock);
	if (!atomic_load_explicit(&face->ready, memory_order_relaxed)) {
		if (!world)
			face->broken = face->codes[-CW__EMU_NOT_INITIALIZED];
		else if (!cw__emu.device_count || (world->vendors && !(world->vendors & face->vendor)))
			face->broken = face->codes[-CW__EMU_NO_DEVICE];
		for (unsigned i = 0; world && i < face->symbol_count; i++)
			face->symbols[i].rules = cw__emu_faults_of(face->symbols[i].name);
		face->next = atomic_load_explicit(&faces, memory_order_relaxed);
		atomic_store_explicit(&faces, face, memory_order_release);
		atomic_store_explicit(&face->ready, 1, memory_order_release);
	}
	pthread_mutex_unlock(&face_lock);
}

struct cw__emu_face *cw__emu_first_face(void)
{
	return atomic_load_explicit(&faces, memory_order_acquire);
}

static int begin_with_fault(struct cw__emu_call *call)
{
	struct cw__emu_fault fault = { 0 };

	if (!cw__emu_fault(call, &fault))
		return CW__EMU_OK;
	if (fault.action == CW__EMU_FAIL)
		return fault.code;
	if (fault.action == CW__EMU_REMOVE || fault.action == CW__EMU_PORT_DOWN)
		return CW__EMU_OK; /* it has happened; the call finds out itself */
	if (call->symbol->flags & CW__EMU_COPIES) {
		call->fault = fault;
		return CW__EMU_OK;
	}
	cw__emu_fault_wait(&fault);
	return fault.action == CW__EMU_PARTIAL ? fault.code : CW__EMU_OK;
}

int cw__emu_begin(struct cw__emu_call *call)
{
	int status = CW__EMU_OK;

	if (!atomic_load_explicit(&call->face->ready, memory_order_acquire))
		add_face(call->face);
	atomic_fetch_add_explicit(&call->symbol->calls, 1, memory_order_relaxed);
	if (call->face->broken)
		return call->face->broken;
	if (atomic_load_explicit(&cw__emu.forked, memory_order_relaxed))
		return CW__EMU_NOT_INITIALIZED;
	call->current = cw__emu_thread.device;
	if (cw__emu.tracing) {
		call->traced = 1;
		call->begin = cw__emu_now();
	}
	if (call->symbol->rules)
		status = begin_with_fault(call);
	if (call->symbol->flags & CW__EMU_ANY_TIME || status)
		return status;
	if (cw__emu_thread.in_host_function)
		return CW__EMU_NOT_PERMITTED;
	return cw__emu_removed(cw__emu_current()) ? CW__EMU_REMOVED : CW__EMU_OK;
}

static int code_of(const struct cw__emu_face *face, int status)
{
	const struct {
		int status, code;
	} chosen[] = {
		{ CW__EMU_NO_MEMORY, cw__emu.options.full },
		{ CW__EMU_GONE, cw__emu.options.gone },
		{ CW__EMU_UNLINKED, cw__emu.options.unlinked },
		{ CW__EMU_LINK_DOWN, cw__emu.options.link_down },
	};

	if (status >= 0)
		return status;
	for (size_t i = 0; i < sizeof(chosen) / sizeof(chosen[0]); i++) {
		if (status == chosen[i].status && chosen[i].code)
			return chosen[i].code;
	}
	return face->codes[-status];
}

int cw__emu_end(struct cw__emu_call *call, int status)
{
	const int result = status ? code_of(call->face, status) : 0;

	if (result)
		cw__emu_thread.last_error = result;
	if (call->traced)
		cw__emu_trace_call(call, result, cw__emu_now());
	return result;
}

void cw__emu_argument(struct cw__emu_call *call, const char *name, uint64_t value)
{
	if (!call->traced || call->argument_count == CW__EMU_ARGUMENTS)
		return;
	call->arguments[call->argument_count].name = name;
	call->arguments[call->argument_count++].value = value;
}

int cw__emu_last_error(int forget)
{
	const int last = cw__emu_thread.last_error;

	if (forget)
		cw__emu_thread.last_error = 0;
	return last;
}

int cw__emu_option_mapped_host(void)
{
	return cw__emu.options.host_mapped;
}

int cw__emu_option_host_register(void)
{
	return cw__emu.options.host_register;
}

int cw__emu_option_init_again(void)
{
	return cw__emu.options.init_again == 0;
}

int cw__emu_device_count(void)
{
	return cw__emu.device_count;
}

struct cw__world_device *cw__emu_device(int device)
{
	if (device < 0 || device >= cw__emu.device_count)
		return NULL;
	return &cw__emu.world->devices[cw__emu.visible[device]];
}

int cw__emu_device_index(const struct cw__world_device *device)
{
	return cw__emu.index[device - cw__emu.world->devices];
}

int cw__emu_device_set(int device)
{
	if (!cw__emu_device(device))
		return CW__EMU_BAD_DEVICE;
	if (!cw__emu_thread.watched) {
		cw__emu_thread.watched = 1;
		pthread_setspecific(thread_key, &cw__emu_thread);
	}
	cw__emu_thread.device = device;
	return CW__EMU_OK;
}

int cw__emu_device_get(void)
{
	return cw__emu_thread.device;
}

int cw__emu_current(void)
{
	return cw__emu.visible[cw__emu_thread.device];
}

int cw__emu_removed(int device)
{
	return device >= 0 && atomic_load_explicit(&cw__emu.world->devices[device].removed, memory_order_relaxed);
}

int cw__emu_device_wait(void)
{
	return cw__emu_stream_wait_device(cw__emu_current());
}

int cw__emu_link_between(int device, int peer, int *end_out)
{
	int found = -2;

	for (int p = 0; p < CW__WORLD_PORTS; p++) {
		const struct cw__world_port *port = &cw__emu.world->devices[device].ports[p];

		if (port->link < 0 || port->peer != peer)
			continue;
		found = -1;
		if (atomic_load_explicit(&cw__emu.world->links[port->link].up, memory_order_relaxed)) {
			*end_out = port->end;
			return port->link;
		}
	}
	return found;
}

int cw__emu_can_access(int device, int peer)
{
	const struct cw__world_device *from = cw__emu_device(device);

	return from && cw__emu_device(peer) && device != peer && from->access >> cw__emu.visible[peer] & 1;
}

int cw__emu_peer_access(int peer, int on)
{
	uint64_t bit, before;

	if (!cw__emu_device(peer) || peer == cw__emu_thread.device)
		return CW__EMU_BAD_DEVICE;
	if (!cw__emu_can_access(cw__emu_thread.device, peer))
		return CW__EMU_UNLINKED;
	bit = 1ULL << cw__emu.visible[peer];
	if (on) {
		before = atomic_fetch_or(&peer_access[cw__emu_current()], bit);
		return before & bit ? CW__EMU_PEER_ON : CW__EMU_OK;
	}
	before = atomic_fetch_and(&peer_access[cw__emu_current()], ~bit);
	return before & bit ? CW__EMU_OK : CW__EMU_PEER_OFF;
}
