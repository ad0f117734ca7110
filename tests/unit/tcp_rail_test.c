/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tcp transport between two hosts of the test's own: what arrives, what is refused, and what a slice's end says
 * about both memories when peers stop, connections break and processes are replaced.
 */
#include "tcp_host.h"

#define MEMORY (8u * 1024 * 1024)
#define SLICES 64

/* An initiator a and a target b with one region of b's. */
struct world {
	struct side a, b;
	struct cw_peer peer;
	void *opened;
	unsigned char *local, *remote;
	struct cw_region_view local_view;
	struct cw_remote_view remote_view;
	struct test_slice slices[SLICES];
};

static void run_both(struct world *world)
{
	loop_turn(&world->a.loop, 0);
	loop_turn(&world->b.loop, 0);
}

/* Runs both sides until the slice has ended. */
static void run_until_done(struct world *world, const struct test_slice *slice)
{
	uint64_t until = cw__now() + 10 * CW__SECOND;

	while (!slice->done && cw__now() < until)
		run_both(world);
	assert_true(slice->done);
}

/* Runs the initiator alone: the target is a stopped process. Returns how long it took. */
static uint64_t run_initiator_until_done(struct world *world, const struct test_slice *slice)
{
	uint64_t start = cw__now(), until = start + 10 * CW__SECOND;

	while (!slice->done && cw__now() < until)
		loop_turn(&world->a.loop, 1);
	assert_true(slice->done);
	return cw__now() - start;
}

static void fill(unsigned char *data, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		data[i] = (unsigned char)((i * 2654435761u + seed) >> 7);
}

static int all_bytes_are(const unsigned char *memory, unsigned char value)
{
	return memory[0] == value && memcmp(memory, memory + 1, MEMORY - 1) == 0;
}

static struct world *world_open(const char *connections, int classic, const char *version)
{
	struct world *world = calloc(1, sizeof(*world));
	struct cw_blob blob = { 0 };
	struct cw_rail_info rails[8];

	world->a.other = &world->b;
	world->b.other = &world->a;
	world->a.connections = connections;
	world->a.classic_protocol = version;
	side_open(&world->a, 0xaa);
	side_open(&world->b, 0xbb);
	world->local = malloc(MEMORY);
	world->remote = calloc(1, MEMORY);
	fill(world->local, MEMORY, 1);
	world->b.regions[0] = (struct held_region){
		.id = 7, .key = 77, .address = (uintptr_t)world->remote, .length = MEMORY, .access = CW_ACCESS_REMOTE
	};
	world->local_view.address = (uintptr_t)world->local;
	world->local_view.length = MEMORY;
	world->remote_view = (struct cw_remote_view){
		.id = 7, .key = 77, .address = (uintptr_t)world->remote, .length = MEMORY, .access = CW_ACCESS_REMOTE
	};
	assert_int_equal(cw_transport_tcp.describe(world->b.transport, &blob), CW_OK);
	world->peer = (struct cw_peer){ .loop = &world->a.loop,
					.name = "b",
					.address = "127.0.0.1",
					.port = world->b.port,
					.classic = classic,
					.classic_port = (uint16_t)(blob.data[0] | blob.data[1] << 8),
					.classic_version = 2 };
	memcpy(world->peer.instance, world->b.instance, sizeof(world->peer.instance));
	assert_int_equal(
		cw_transport_tcp.peer_open(world->a.transport, &world->peer, blob.data, blob.length, &world->opened),
		CW_OK);
	assert_int_equal(cw_transport_tcp.rails(world->a.transport, world->opened, rails, 8), atoi(connections));
	host_blob_free(&blob);
	return world;
}

static void world_close(struct world *world)
{
	cw_transport_tcp.peer_close(world->a.transport, world->opened);
	for (int i = 0; i < SLICES; i++) /* whoever still was posted has ended now */
		if (world->slices[i].count)
			assert_true(world->slices[i].done);
	for (int i = 0; i < 20; i++)
		run_both(world);
	side_close(&world->a);
	side_close(&world->b);
	free(world->local);
	free(world->remote);
	free(world);
}

/* A slice of `count` pieces of `length` bytes, `stride` apart from `offset` on at both ends. */
static struct test_slice *slice_make(struct world *world, unsigned number, enum cw_op op, uint64_t offset,
				     unsigned count, uint64_t length, uint64_t stride)
{
	struct test_slice *slice = &world->slices[number];

	*slice = (struct test_slice){ .base = { .id = number + 1,
						.not_after = cw__now() + 5 * CW__SECOND,
						.attempt = 1,
						.op = (uint8_t)op,
						.local = &world->local_view,
						.remote = &world->remote_view,
						.length = count * length } };
	slice->count = count;
	for (unsigned i = 0; i < count; i++)
		slice->pieces[i] = (struct cw_piece){ world->local + offset + i * stride,
						      (uintptr_t)world->remote + offset + i * stride, length };
	return slice;
}

static unsigned post(struct world *world, struct test_slice *slice)
{
	struct cw_slice *base = &slice->base;

	return cw_transport_tcp.post(world->a.transport, world->opened, 0, &base, 1);
}

static void do_slice(struct world *world, struct test_slice *slice, int status)
{
	assert_int_equal(post(world, slice), 1);
	run_until_done(world, slice);
	assert_int_equal(slice->status, status);
	assert_int_equal(slice->remote, CW_REMOTE_QUIET);
}

static void cancel(struct world *world, struct test_slice *slice)
{
	cw_transport_tcp.cancel(world->a.transport, world->opened, &slice->base);
}

/* ------------------------------------------------------------------------------------------ it arrives */

static const struct {
	unsigned count;
	uint64_t length, stride;
} shapes[] = {
	{ 1, 1, 1 },
	{ 1, 7, 7 },
	{ 1, 4096, 4096 },
	{ 1, 65537, 65537 },
	{ 1, 4 * 1024 * 1024 + 3, 4 * 1024 * 1024 + 3 },
	{ 2, 1, 5 },
	{ 250, 4096, 8192 },
	{ 255, 1, 3 },
	{ 31, 33333, 65536 },
};

static void move_all_shapes(struct world *world, uint32_t flags)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		uint64_t offset = 1 + i;
		struct test_slice *slice;

		memset(world->remote, 0, MEMORY);
		slice = slice_make(world, 0, CW_OP_WRITE, offset, shapes[i].count, shapes[i].length, shapes[i].stride);
		slice->base.flags = flags;
		do_slice(world, slice, CW_OK);
		for (uint64_t at = 0, k = 0; at < MEMORY; at++) {
			uint64_t start = offset + k * shapes[i].stride;
			int inside = k < shapes[i].count && at >= start && at < start + shapes[i].length;

			assert_int_equal(world->remote[at], inside ? world->local[at] : 0);
			if (k < shapes[i].count && at + 1 == start + shapes[i].length)
				k++;
		}
		fill(world->remote, MEMORY, (unsigned)i);
		slice = slice_make(world, 0, CW_OP_READ, offset, shapes[i].count, shapes[i].length, shapes[i].stride);
		slice->base.flags = flags;
		do_slice(world, slice, CW_OK);
		for (unsigned k = 0; k < shapes[i].count; k++)
			assert_memory_equal(world->local + offset + k * shapes[i].stride,
					    world->remote + offset + k * shapes[i].stride, shapes[i].length);
	}
}

static void test_native_moves_every_shape(void **state)
{
	struct world *world = world_open("1", 0, NULL);

	(void)state;
	move_all_shapes(world, 0);
	assert_int_equal(world->a.protocol_errors + world->b.protocol_errors, 0);
	world_close(world);
}

static void test_native_checksums(void **state)
{
	struct world *world = world_open("1", 0, NULL);

	(void)state;
	move_all_shapes(world, CW_SLICE_CHECKSUM);
	world_close(world);
}

static void test_classic_moves_every_shape(void **state)
{
	static const char *const versions[] = { "2", "1" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct world *world = world_open("1", 1, versions[i]);

		move_all_shapes(world, 0);
		world_close(world);
	}
}

/* More than a rail takes, reads and writes mixed, on two rails. */
static void many_slices(struct world *world)
{
	unsigned posted = 0, ended = 0;
	uint64_t until = cw__now() + 20 * CW__SECOND;
	uint64_t length = MEMORY / SLICES;

	fill(world->remote, MEMORY, 9);
	for (unsigned i = 0; i < SLICES; i++)
		slice_make(world, i, i % 3 ? CW_OP_WRITE : CW_OP_READ, i * length, 1, length, length);
	while (ended < SLICES && cw__now() < until) {
		for (unsigned rail = 0; rail < 2 && posted < SLICES; rail++) {
			struct cw_slice *base = &world->slices[posted].base;

			posted += cw_transport_tcp.post(world->a.transport, world->opened, rail, &base, 1);
		}
		run_both(world);
		ended = 0;
		for (unsigned i = 0; i < SLICES; i++)
			ended += (unsigned)world->slices[i].done;
	}
	assert_int_equal(ended, SLICES);
	for (unsigned i = 0; i < SLICES; i++)
		assert_int_equal(world->slices[i].status, CW_OK);
	assert_memory_equal(world->local, world->remote, MEMORY);
}

static void test_many_slices(void **state)
{
	struct world *world = world_open("2", 0, NULL);

	(void)state;
	many_slices(world);
	world_close(world);
	world = world_open("2", 1, "2");
	many_slices(world);
	world_close(world);
	world = world_open("2", 1, "1");
	many_slices(world);
	world_close(world);
}

static void test_room_is_told(void **state)
{
	(void)state;
	for (int classic = 0; classic < 2; classic++) {
		struct world *world = world_open("1", classic, "2");
		unsigned taken = 0;

		while (post(world, slice_make(world, taken, CW_OP_WRITE, 0, 1, 100, 0)))
			taken++;
		world->slices[taken].count = 0; /* the core's still */
		assert_int_equal(taken, 16);
		assert_int_equal(world->a.readies, 0);
		run_until_done(world, &world->slices[taken - 1]);
		assert_true(world->a.readies > 0);
		world_close(world);
	}
}

/* ------------------------------------------------------------------------------------------ refusals */

static void test_refusals_leave_the_connection_usable(void **state)
{
	struct world *world = world_open("1", 0, NULL);
	struct test_slice *slice;

	(void)state;
	for (int op = 0; op < 2; op++) {
		world->remote_view.key = 78;
		do_slice(world, slice_make(world, 0, (enum cw_op)op, 0, 1, 1024 * 1024, 0), CW_ERR_NOT_REGISTERED);
		world->remote_view.key = 77;
		slice = slice_make(world, 0, (enum cw_op)op, 0, 2, 4096, 8192);
		slice->pieces[1].remote = (uintptr_t)world->remote + MEMORY - 4095;
		do_slice(world, slice, CW_ERR_NOT_REGISTERED);
		world->b.regions[0].access = op == CW_OP_WRITE ? CW_ACCESS_REMOTE_READ : CW_ACCESS_REMOTE_WRITE;
		do_slice(world, slice_make(world, 0, (enum cw_op)op, 0, 1, 100, 0), CW_ERR_ACCESS);
		world->b.regions[0].access = CW_ACCESS_REMOTE;
		world->b.regions[0].gone = 1;
		do_slice(world, slice_make(world, 0, (enum cw_op)op, 0, 1, 100, 0), CW_ERR_STALE_REGION);
		world->b.regions[0].gone = 0;
		slice = slice_make(world, 0, (enum cw_op)op, 0, 1, 100, 0);
		slice->base.not_after = cw__now() - 1;
		do_slice(world, slice, CW_ERR_TIMED_OUT);
	}
	assert_true(all_bytes_are(world->remote, 0));
	do_slice(world, slice_make(world, 0, CW_OP_WRITE, 0, 1, MEMORY, 0), CW_OK);
	assert_memory_equal(world->local, world->remote, MEMORY);
	assert_int_equal(world->a.rail_status[0], CW_OK);
	world_close(world);
}

static void test_revoked_in_the_middle(void **state)
{
	(void)state;
	for (int op = 0; op < 2; op++) {
		struct world *world = world_open("1", 0, NULL);
		struct test_slice *slice = slice_make(world, 0, (enum cw_op)op, 0, 1, MEMORY, 0);

		assert_int_equal(post(world, slice), 1);
		while (world->b.served < CW_CHUNK_MAX)
			run_both(world);
		assert_false(slice->done);
		world->b.regions[0].gone = 1;
		memset(world->remote, 0x55, MEMORY);
		run_until_done(world, slice);
		/* A READ's answer cannot be taken back: its connection ends, and another attempt is told why. */
		assert_int_equal(slice->status, op == CW_OP_WRITE ? CW_ERR_STALE_REGION : CW_ERR_IO);
		assert_int_equal(slice->remote, CW_REMOTE_QUIET);
		assert_true(all_bytes_are(world->remote, 0x55));
		world->b.regions[0].gone = 0;
		do_slice(world, slice_make(world, 0, CW_OP_WRITE, 0, 1, MEMORY, 0), CW_OK);
		world_close(world);
	}
}

static void test_classic_refusals(void **state)
{
	struct world *world = world_open("1", 1, "2");

	(void)state;
	for (int op = 0; op < 2; op++) {
		struct test_slice *slice = slice_make(world, 0, (enum cw_op)op, 0, 1, 4096, 0);

		slice->pieces[0].remote = (uintptr_t)world->remote + MEMORY - 4095;
		do_slice(world, slice, CW_ERR_NOT_REGISTERED);
		/* The way to the peer still counts as good, and is. */
		assert_int_equal(world->a.rail_status[0], CW_OK);
		do_slice(world, slice_make(world, 0, (enum cw_op)op, 0, 1, 4096, 0), CW_OK);
	}
	world_close(world);
}

/* -------------------------------------------------------------------------------------------- cancels */

/* Posts a write that a stopped target has in part, and one behind it. */
static void begin_stuck_writes(struct world *world)
{
	do_slice(world, slice_make(world, 0, CW_OP_WRITE, 0, 1, 100, 0), CW_OK);
	memset(world->remote, 0, MEMORY);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(post(world, slice_make(world, i, CW_OP_WRITE, 0, 1, MEMORY, 0)), 1);
	for (int i = 0; i < 100; i++)
		loop_turn(&world->a.loop, 0);
}

static void test_cancel_of_what_was_not_sent(void **state)
{
	struct world *world = world_open("1", 0, NULL);

	(void)state;
	begin_stuck_writes(world);
	cancel(world, &world->slices[7]);
	assert_true(world->slices[7].done);
	assert_int_equal(world->slices[7].status, CW_ERR_CANCELED);
	assert_int_equal(world->slices[7].remote, CW_REMOTE_QUIET);
	run_until_done(world, &world->slices[6]);
	assert_int_equal(world->slices[6].status, CW_OK);
	world_close(world);
}

static void test_cancel_that_the_target_hears(void **state)
{
	struct world *world = world_open("1", 0, NULL);

	(void)state;
	begin_stuck_writes(world);
	for (int i = 0; i < 8; i++)
		cancel(world, &world->slices[i]);
	for (int i = 0; i < 8; i++) {
		run_initiator_until_done(world, &world->slices[i]);
		assert_int_equal(world->slices[i].status, CW_ERR_CANCELED);
		assert_int_equal(world->slices[i].remote, CW_REMOTE_QUIET);
	}
	/* It said that nothing lands, so nothing does, though the bytes are in its socket. The rail goes on on the same
	 * connection. */
	do_slice(world, slice_make(world, 9, CW_OP_READ, 0, 1, 100, 0), CW_OK);
	assert_true(all_bytes_are(world->remote, 0));
	assert_int_equal(world->a.rail_status[0], CW_OK);
	world_close(world);
}

/* A device of the target has a chunk and does not come back: the reply to a cancel is faster than the answer. */
static void test_cancel_of_what_may_land_yet(void **state)
{
	struct world *world = world_open("1", 0, NULL);

	(void)state;
	do_slice(world, slice_make(world, 0, CW_OP_WRITE, 0, 1, 100, 0), CW_OK);
	for (unsigned i = 1; i < 3; i++)
		assert_int_equal(post(world, slice_make(world, i, CW_OP_WRITE, 0, 1, 100, 0)), 1);
	world->b.end_status = CW_ERR_BUSY;
	for (int i = 0; i < 100 || world->b.end_status; i++)
		loop_turn(&world->b.loop, 1);
	for (unsigned i = 1; i < 3; i++)
		cancel(world, &world->slices[i]);
	loop_turn(&world->a.loop, 0);
	assert_int_equal(world->slices[1].status, CW_ERR_CANCELED);
	assert_int_equal(world->slices[1].remote, CW_REMOTE_UNKNOWN);
	assert_int_equal(world->slices[2].status, CW_ERR_CANCELED);
	assert_int_equal(world->slices[2].remote, CW_REMOTE_QUIET);
	do_slice(world, slice_make(world, 9, CW_OP_READ, 0, 1, 100, 0), CW_OK);
	world_close(world);
}

static void test_cancel_towards_a_stopped_peer(void **state)
{
	struct world *world = world_open("1", 0, NULL);
	uint64_t took = 0;

	(void)state;
	begin_stuck_writes(world);
	memset(world->remote, 0x11, MEMORY);
	world->a.hold_messages = 1;
	for (int i = 0; i < 8; i++) {
		cancel(world, &world->slices[i]);
	}
	for (int i = 0; i < 8; i++) {
		took += run_initiator_until_done(world, &world->slices[i]);
		assert_int_equal(world->slices[i].status, CW_ERR_CANCELED);
	}
	assert_true(took < 800 * CW__MS); /* 200 ms and a busy machine */
	assert_int_equal(world->slices[0].remote, CW_REMOTE_FENCED);
	assert_int_equal(world->slices[7].remote, CW_REMOTE_QUIET);
	/* The broken connection is replaced when the target runs again. Until the fence our bytes may have landed, but
	 * no others. */
	memset(world->local, 0x22, MEMORY);
	do_slice(world, slice_make(world, 9, CW_OP_READ, 0, 1, 100, 0), CW_OK);
	fill(world->local, MEMORY, 1);
	for (size_t i = 0; i < MEMORY; i++)
		if (world->remote[i] != 0x11)
			assert_int_equal(world->remote[i], world->local[i]);
	world_close(world);
}

static void test_nothing_lands_after_the_fence(void **state)
{
	struct world *world = world_open("1", 0, NULL);
	struct test_slice *slice;

	(void)state;
	do_slice(world, slice_make(world, 0, CW_OP_WRITE, 0, 1, 100, 0), CW_OK);
	memset(world->remote, 0, MEMORY);
	slice = slice_make(world, 1, CW_OP_WRITE, 0, 1, 64 * 1024, 0);
	slice->base.not_after = cw__now() + 20 * CW__MS;
	assert_int_equal(post(world, slice), 1);
	while (cw__now() <= slice->base.not_after)
		loop_turn(&world->a.loop, 1);
	run_until_done(world, slice);
	assert_int_equal(slice->status, CW_ERR_TIMED_OUT);
	assert_true(all_bytes_are(world->remote, 0));
	world_close(world);
}

static void test_canceled_read_is_quiet_at_once(void **state)
{
	static const int classic[] = { 0, 1 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct world *world = world_open("1", classic[i], "2");
		struct test_slice *slice = slice_make(world, 1, CW_OP_READ, 0, 1, MEMORY, 0);

		do_slice(world, slice_make(world, 0, CW_OP_WRITE, 0, 1, 100, 0), CW_OK);
		fill(world->remote, MEMORY, 5);
		assert_int_equal(post(world, slice), 1);
		while (world->b.served < 100 + CW_CHUNK_MAX)
			run_both(world);
		assert_false(slice->done);
		cancel(world, slice);
		assert_true(slice->done);
		assert_int_equal(slice->status, CW_ERR_CANCELED);
		assert_int_equal(slice->remote, CW_REMOTE_QUIET);
		memset(world->local, 0x66, MEMORY);
		do_slice(world, slice_make(world, 2, CW_OP_READ, 0, 1, 1, 0), CW_OK);
		for (size_t k = 1; k < MEMORY; k++)
			assert_int_equal(world->local[k], 0x66);
		world_close(world);
	}
}

static void test_classic_cancel_says_unknown(void **state)
{
	struct world *world = world_open("1", 1, "2");

	(void)state;
	begin_stuck_writes(world);
	cancel(world, &world->slices[7]);
	assert_true(world->slices[7].done);
	assert_int_equal(world->slices[7].remote, CW_REMOTE_QUIET);
	cancel(world, &world->slices[0]);
	assert_true(world->slices[0].done);
	assert_int_equal(world->slices[0].status, CW_ERR_CANCELED);
	assert_int_equal(world->slices[0].remote, CW_REMOTE_UNKNOWN);
	do_slice(world, slice_make(world, 9, CW_OP_WRITE, 0, 1, 100, 0), CW_OK);
	world_close(world);
}

/* ------------------------------------------------------------------------------------------- failures */

static void test_broken_connection_is_replaced(void **state)
{
	(void)state;
	for (int at_target = 0; at_target < 2; at_target++) {
		struct world *world = world_open("1", 0, NULL);

		begin_stuck_writes(world);
		side_cut(at_target ? &world->b : &world->a);
		loop_turn(&world->a.loop, 100);
		for (int i = 0; i < 8; i++) {
			run_until_done(world, &world->slices[i]);
			assert_int_equal(world->slices[i].status, CW_ERR_IO);
			assert_int_equal(world->slices[i].remote, CW_REMOTE_QUIET);
		}
		/* Quiet means quiet, although the target's old socket was full. */
		memset(world->remote, 0x11, MEMORY);
		for (int i = 0; i < 50; i++)
			run_both(world);
		assert_true(all_bytes_are(world->remote, 0x11));
		assert_int_equal(world->a.rail_status[0], CW_OK);
		do_slice(world, slice_make(world, 9, CW_OP_WRITE, 0, 1, MEMORY, 0), CW_OK);
		world_close(world);
	}
}

static void test_peer_that_is_gone(void **state)
{
	struct world *world = world_open("1", 0, NULL);

	(void)state;
	begin_stuck_writes(world);
	side_cut(&world->b);
	side_deafen(&world->b);
	cw_transport_tcp.peer_lost(world->a.transport, world->opened, CW_ERR_PEER_DOWN);
	for (int i = 0; i < 8; i++)
		assert_true(run_initiator_until_done(world, &world->slices[i]) < CW__SECOND);
	assert_int_equal(world->slices[0].status, CW_ERR_PEER_DOWN);
	assert_int_equal(world->slices[0].remote, CW_REMOTE_FENCED);
	assert_int_equal(world->slices[7].remote, CW_REMOTE_QUIET);
	/* Nobody there: fails soon. Back again: works. */
	post(world, slice_make(world, 9, CW_OP_WRITE, 0, 1, 100, 0));
	run_initiator_until_done(world, &world->slices[9]);
	assert_int_equal(world->slices[9].status, CW_ERR_CONNECT);
	assert_int_equal(world->slices[9].remote, CW_REMOTE_QUIET);
	side_listen(&world->b);
	do_slice(world, slice_make(world, 9, CW_OP_WRITE, 0, 1, 100, 0), CW_OK);
	world_close(world);
}

static void test_peer_that_was_replaced(void **state)
{
	struct world *world = world_open("1", 0, NULL);

	(void)state;
	begin_stuck_writes(world);
	world->b.instance[0] ^= 1;
	side_cut(&world->b);
	for (int i = 0; i < 8; i++) {
		run_until_done(world, &world->slices[i]);
		assert_int_equal(world->slices[i].remote, CW_REMOTE_QUIET);
	}
	assert_int_equal(world->slices[0].status, CW_ERR_PEER_RESTARTED);
	assert_int_equal(world->a.peer_status, CW_ERR_PEER_RESTARTED);
	post(world, slice_make(world, 9, CW_OP_WRITE, 0, 1, 100, 0));
	assert_int_equal(world->slices[9].status, CW_ERR_PEER_RESTARTED);
	world_close(world);
}

static void test_classic_broken_connection(void **state)
{
	struct world *world = world_open("1", 1, "2");

	(void)state;
	begin_stuck_writes(world);
	side_cut(&world->b);
	for (int i = 0; i < 8; i++) {
		run_initiator_until_done(world, &world->slices[i]);
		assert_int_equal(world->slices[i].status, CW_ERR_IO);
	}
	assert_int_equal(world->slices[0].remote, CW_REMOTE_UNKNOWN);
	assert_int_equal(world->slices[7].remote, CW_REMOTE_QUIET);
	do_slice(world, slice_make(world, 9, CW_OP_WRITE, 0, 1, 100, 0), CW_OK);
	world_close(world);
}

static void test_closing_ends_everything(void **state)
{
	(void)state;
	for (int classic = 0; classic < 2; classic++) {
		struct world *world = world_open("1", classic, "2");

		begin_stuck_writes(world);
		cancel(world, &world->slices[1]);
		world_close(world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_native_moves_every_shape),
		cmocka_unit_test(test_native_checksums),
		cmocka_unit_test(test_classic_moves_every_shape),
		cmocka_unit_test(test_many_slices),
		cmocka_unit_test(test_room_is_told),
		cmocka_unit_test(test_refusals_leave_the_connection_usable),
		cmocka_unit_test(test_revoked_in_the_middle),
		cmocka_unit_test(test_classic_refusals),
		cmocka_unit_test(test_cancel_of_what_was_not_sent),
		cmocka_unit_test(test_cancel_that_the_target_hears),
		cmocka_unit_test(test_cancel_of_what_may_land_yet),
		cmocka_unit_test(test_cancel_towards_a_stopped_peer),
		cmocka_unit_test(test_nothing_lands_after_the_fence),
		cmocka_unit_test(test_canceled_read_is_quiet_at_once),
		cmocka_unit_test(test_classic_cancel_says_unknown),
		cmocka_unit_test(test_broken_connection_is_replaced),
		cmocka_unit_test(test_peer_that_is_gone),
		cmocka_unit_test(test_peer_that_was_replaced),
		cmocka_unit_test(test_classic_broken_connection),
		cmocka_unit_test(test_closing_ends_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
