/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies: whether the vendor would do it, which lane carries it, and doing it. In a world with timing a copy occupies
 * its lane for bytes / bandwidth, after whatever occupies it already in any process, and ends at that moment plus the
 * latency.
 */
#include "state.h"

#include <string.h>

#define CHUNK (1U << 20)

void cw__emu_work_drop(struct cw__emu_work *work)
{
	cw__emu_memory_drop(work->to_memory);
	cw__emu_memory_drop(work->from_memory);
	work->to_memory = work->from_memory = NULL;
}

static int out_of_range(const struct cw__emu_memory *memory, uint64_t address, size_t size)
{
	const uint64_t offset = address - memory->address;

	/* What surrounds registered memory is the application's as well. */
	return memory->kind != CW__EMU_HOST_LENT && (size > memory->size || offset > memory->size - size);
}

/* One end of a copy: NULL for memory of the host that the emulator knows nothing about. */
static int check_end(struct cw__emu_memory *memory, const void *address, size_t size, int wants_device)
{
	const int is_device = memory ? cw__emu_memory_for_devices(memory) : cw__emu_memory_is_device(address);

	if (is_device && !memory)
		return CW__EMU_BAD_POINTER;
	if (memory && out_of_range(memory, (uint64_t)(uintptr_t)address, size))
		return CW__EMU_BAD_VALUE;
	return is_device == wants_device ? CW__EMU_OK : CW__EMU_BAD_KIND;
}

/* Where the emulator reaches an address. */
static char *reach(const struct cw__emu_memory *memory, const void *address)
{
	if (!memory)
		return (char *)(uintptr_t)address;
	return memory->alias + ((uint64_t)(uintptr_t)address - memory->address);
}

static void use_link(struct cw__emu_work *work, int link, int end)
{
	work->link = link;
	work->lane = &cw__emu.world->links[link].lane[end];
}

/* A copy from device to device over the first link that is up. */
static int route_across(struct cw__emu_work *work, int from, int to, int staged)
{
	int end, link = cw__emu_link_between(from, to, &end);

	if (link >= 0) {
		use_link(work, link, end);
		return CW__EMU_OK;
	}
	if (!staged)
		return link == -1 ? CW__EMU_LINK_DOWN : CW__EMU_UNLINKED;
	work->lane = &cw__emu.world->devices[from].to_host;
	return CW__EMU_OK;
}

static int route_between_devices(struct cw__emu_work *work, const struct cw__emu_order *order)
{
	struct cw__world *world = cw__emu.world;
	const struct cw__emu_memory *to = work->to_memory, *from = work->from_memory;
	const int staged = order->staged || cw__emu.options.peer_without_link;

	if (!order->peer && to->device != from->device && !cw__emu.options.d2d_across)
		return CW__EMU_BAD_VALUE;
	if (to->kind == CW__EMU_THROUGH_PORT)
		use_link(work, to->link, to->end);
	else if (from->kind == CW__EMU_THROUGH_PORT)
		use_link(work, from->link, 1 - from->end);
	else if (to->home < 0)
		work->lane = from->home < 0 ? NULL : &world->devices[from->home].to_host;
	else if (from->home < 0)
		work->lane = &world->devices[to->home].from_host;
	else if (to->home == from->home)
		work->lane = &world->devices[to->home].inside;
	else
		return route_across(work, from->home, to->home, staged);
	return CW__EMU_OK;
}

/* Which lane carries it, or why none can. */
static int route(struct cw__emu_work *work, const struct cw__emu_order *order, int kind)
{
	struct cw__world *world = cw__emu.world;
	const struct cw__emu_memory *to = work->to_memory, *from = work->from_memory;

	switch (kind) {
	case CW__EMU_D2D:
		return route_between_devices(work, order);
	case CW__EMU_H2D:
		if (to->kind == CW__EMU_THROUGH_PORT)
			use_link(work, to->link, to->end);
		else if (to->home >= 0)
			work->lane =
				order->fill ? &world->devices[to->home].inside : &world->devices[to->home].from_host;
		return CW__EMU_OK;
	case CW__EMU_D2H:
		if (from->kind == CW__EMU_THROUGH_PORT)
			use_link(work, from->link, 1 - from->end);
		else if (from->home >= 0)
			work->lane = &world->devices[from->home].to_host;
		return CW__EMU_OK;
	default:
		return CW__EMU_OK;
	}
}

/* Whether the device that is current, or the stream's, is one that the copy is about. */
static int check_devices(const struct cw__emu_work *work, const struct cw__emu_order *order, int kind)
{
	const struct cw__emu_memory *ends[2] = { NULL, NULL };
	int fits = 0, fits_stream = 0, device;

	if (kind == CW__EMU_H2H)
		return CW__EMU_OK;
	device = order->later ? cw__emu_stream_device(order->stream) : cw__emu_current();
	if (device < 0)
		return device;
	if (kind != CW__EMU_H2D)
		ends[0] = work->from_memory;
	if (kind != CW__EMU_D2H)
		ends[1] = work->to_memory;
	for (int i = 0; i < 2; i++) {
		fits |= ends[i] && ends[i]->device == cw__emu_current();
		fits_stream |= ends[i] && ends[i]->device == device;
	}
	if (!fits && !order->peer)
		cw__emu_gauge(CW__EMU_WRONG_DEVICE, 1);
	if (!fits_stream && order->later)
		cw__emu_gauge(CW__EMU_WRONG_STREAM, 1);
	if (!cw__emu.options.context_sensitive)
		return CW__EMU_OK;
	if (!fits && !order->peer)
		return CW__EMU_BAD_VALUE;
	return fits_stream || !order->later ? CW__EMU_OK : CW__EMU_BAD_HANDLE;
}

static int check_peer(const struct cw__emu_order *order)
{
	if (!cw__emu_device(order->to_device) || !cw__emu_device(order->from_device))
		return CW__EMU_BAD_DEVICE;
	return order->to_device == order->from_device ? CW__EMU_BAD_VALUE : CW__EMU_OK;
}

/* The two memories must belong to the devices that the call names. */
static int check_peer_memory(const struct cw__emu_work *work, const struct cw__emu_order *order)
{
	const struct cw__emu_memory *to = work->to_memory, *from = work->from_memory;

	if (to->kind == CW__EMU_THROUGH_PORT || from->kind == CW__EMU_THROUGH_PORT ||
	    to->device != cw__emu.visible[order->to_device] || from->device != cw__emu.visible[order->from_device])
		return CW__EMU_BAD_VALUE;
	return CW__EMU_OK;
}

static int check_ends(const struct cw__emu_work *work, const struct cw__emu_order *order, int *kind_out)
{
	int kind = order->kind, status;

	if (kind == CW__EMU_ANY) {
		kind = (cw__emu_memory_is_device(order->to) ? CW__EMU_H2D : 0) |
		       (cw__emu_memory_is_device(order->from) ? CW__EMU_D2H : 0);
	}
	*kind_out = kind;
	status = check_end(work->to_memory, order->to, order->size, kind & CW__EMU_H2D);
	if (status || order->fill)
		return status;
	return check_end(work->from_memory, order->from, order->size, (kind & CW__EMU_D2H) >> 1);
}

/* Looks everything up and checks it. What is in the work is held also when this fails. */
static int prepare(struct cw__emu_work *work, const struct cw__emu_order *order)
{
	int kind, status = order->peer ? check_peer(order) : CW__EMU_OK;

	*work = (struct cw__emu_work){ .size = order->size, .value = order->value, .link = -1, .devices = { -1, -1 } };
	if (status)
		return status;
	if (order->kind < 0 || order->kind > CW__EMU_ANY)
		return CW__EMU_BAD_KIND;
	if (!order->size)
		return CW__EMU_OK;
	if (!order->to || (!order->from && !order->fill))
		return CW__EMU_BAD_VALUE;
	cw__emu_memory_find_two(order->to, order->fill ? NULL : order->from, &work->to_memory, &work->from_memory);
	status = check_ends(work, order, &kind);
	if (status == CW__EMU_BAD_KIND && order->peer)
		return CW__EMU_BAD_POINTER;
	if (!status && order->peer)
		status = check_peer_memory(work, order);
	if (!status)
		status = check_devices(work, order, kind);
	if (!status)
		status = route(work, order, kind);
	if (status)
		return status;

	work->to = reach(work->to_memory, order->to);
	work->from = order->fill ? NULL : reach(work->from_memory, order->from);
	if (work->to_memory && kind != CW__EMU_D2H && kind != CW__EMU_H2H)
		work->devices[0] = work->to_memory->home;
	if (work->from_memory && kind >= CW__EMU_D2H)
		work->devices[1] = work->from_memory->home;
	if (cw__emu.options.same_device_ipc_write && kind == CW__EMU_D2D && !order->peer &&
	    work->to_memory->kind == CW__EMU_OPENED && work->devices[0] == work->devices[1]) {
		if (cw__emu.options.same_device_ipc_write == 1)
			return CW__EMU_BAD_VALUE;
		work->drop_bytes = 1;
	}
	return CW__EMU_OK;
}

/* Occupies the lane for the bytes; when they are through. 0 = at once. */
static uint64_t occupy(struct cw__world_lane *lane, size_t size)
{
	const uint64_t now = cw__emu_now();
	uint64_t busy, start, end;

	atomic_fetch_add_explicit(&lane->bytes, size, memory_order_relaxed);
	atomic_fetch_add_explicit(&lane->copies, 1, memory_order_relaxed);
	if (!cw__emu.world->timing || !lane->bandwidth)
		return 0;

	const uint64_t length = (uint64_t)((double)size / (double)lane->bandwidth * 1e9);

	busy = atomic_load_explicit(&lane->busy_until, memory_order_relaxed);
	do {
		start = busy > now ? busy : now;
		end = start + length;
	} while (!atomic_compare_exchange_weak_explicit(&lane->busy_until, &busy, end, memory_order_relaxed,
							memory_order_relaxed));
	return end + lane->latency;
}

static void move(const struct cw__emu_work *work, size_t at, size_t size)
{
	if (work->from)
		memmove(work->to + at, work->from + at, size);
	else
		memset(work->to + at, work->value, size);
}

static int link_is_up(const struct cw__emu_work *work)
{
	return work->link < 0 || atomic_load_explicit(&cw__emu.world->links[work->link].up, memory_order_relaxed) != 0;
}

/* Moves the bytes piece by piece, so that a link that goes down stops it. How many went through. */
static size_t move_through(const struct cw__emu_work *work, size_t size)
{
	size_t done = 0;

	while (done < size && link_is_up(work)) {
		const size_t piece = size - done < CHUNK ? size - done : CHUNK;

		move(work, done, piece);
		done += piece;
	}
	return done;
}

static int do_work(const struct cw__emu_work *work)
{
	size_t size = work->size;
	uint64_t end = 0;
	int last = 0;

	if (work->fault.action)
		cw__emu_fault_wait(&work->fault);
	if (cw__emu_removed(work->devices[0]) || cw__emu_removed(work->devices[1]))
		return CW__EMU_REMOVED;
	if (!link_is_up(work))
		return CW__EMU_LINK_DOWN;
	if (!size || work->drop_bytes)
		return CW__EMU_OK;
	if (work->fault.action == CW__EMU_PARTIAL && work->fault.amount < size)
		size = work->fault.amount;
	if (work->link >= 0)
		size = cw__emu_fault_link(work->link, size, &last);
	if (work->lane)
		end = occupy(work->lane, size);

	/* Without a link there is nothing to watch: the whole at once is what the bare copy would do. */
	if (work->link < 0)
		move(work, 0, size);
	else if (move_through(work, size) < size)
		return CW__EMU_LINK_DOWN;
	if (end)
		cw__emu_sleep_until(end);
	cw__emu_gauge(CW__EMU_COPIED_BYTES, (int64_t)size);
	if (end && !link_is_up(work))
		return CW__EMU_LINK_DOWN;
	if (last)
		atomic_store(&cw__emu.world->links[work->link].up, 0);
	if (work->fault.action == CW__EMU_PARTIAL)
		return work->fault.code;
	if (size < work->size)
		return CW__EMU_LINK_DOWN;
	if (work->fault.action == CW__EMU_CORRUPT)
		work->to[size / 2] = (char)(work->to[size / 2] ^ 0x40);
	return CW__EMU_OK;
}

int cw__emu_work_run(struct cw__emu_work *work)
{
	const int status = do_work(work);

	cw__emu_work_drop(work);
	return status;
}

int cw__emu_copy(struct cw__emu_call *call, const struct cw__emu_order *order)
{
	struct cw__emu_work work;
	int status = prepare(&work, order);

	work.fault = call->fault;
	if (!status && order->later) {
		status = cw__emu_stream_copy(order->stream, &work);
		if (!status)
			return CW__EMU_OK;
	}
	if (!status && cw__emu.options.d2d && work.devices[0] >= 0 && work.devices[0] == work.devices[1]) {
		status = cw__emu_stream_copy(NULL, &work);
		if (!status)
			return CW__EMU_OK;
	}
	if (status) {
		cw__emu_work_drop(&work);
		return status;
	}
	cw__emu_stream_before_copy(cw__emu_current());
	return cw__emu_work_run(&work);
}
