/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shm transport between two engines of one process. Every segment is opened for shm alone, so nothing here can pass
 * by another way. Processes that stop, die or may not: shm_process_test.c.
 */
#include "shm_world.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the application of the target does between its own accesses to memory and those of peers has to order them; here
 * one thread is both applications. Taking the target's turn once is enough. */
static void other_side(const struct pair *pair)
{
	assert_int_equal(cw_engine_progress(pair->target), CW_OK);
}

static void granted_memory_is_copied_once(void **state)
{
	struct pair pair = pair_open(3 * MIB);
	struct cw_region *region;
	unsigned char *remote = allocate(pair.target, 3 * MIB, CW_ACCESS_REMOTE, &region);
	struct cw_path_step step;

	(void)state;
	fill(pair.local, 3 * MIB, 1);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote, 3 * MIB));
	expect_filled(remote, 3 * MIB, 1);
	fill(remote + 5, 70001, 2);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_READ, pair.local + 3, (uintptr_t)remote + 5, 70001));
	expect_filled(pair.local + 3, 70001, 2);
	step = path(pair.segment, pair.local, (uintptr_t)remote, CW_OP_WRITE);
	assert_true(step.usable);
	assert_string_equal(step.checks, "page protection");
	assert_true(count_lines("/proc/self/maps", "memfd:") >= 2); /* the owner's and the peer's */
	assert_int_equal(cw_memory_free(region), CW_OK);
	assert_int_equal(count_lines("/proc/self/maps", "memfd:"), 0);
	pair_close(&pair);
}

static void ordinary_memory_is_only_read(void **state)
{
	struct pair pair = pair_open(8 * MIB);
	unsigned char *remote = memory(8 * MIB);
	struct cw_path_step step;

	(void)state;
	region_register(pair.target, remote, 8 * MIB, CW_ACCESS_REMOTE);
	fill(pair.local, 8 * MIB, 3);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote, 8 * MIB));
	other_side(&pair);
	expect_filled(remote, 8 * MIB, 3);
	fill(remote, 8 * MIB, 4);
	other_side(&pair);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_READ, pair.local, (uintptr_t)remote, 8 * MIB));
	expect_filled(pair.local, 8 * MIB, 4);
	fill(pair.local, 1, 9);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote + 77, 1));
	other_side(&pair);
	assert_int_equal(remote[77], pair.local[0]);
	step = path(pair.segment, pair.local, (uintptr_t)remote, CW_OP_WRITE);
	assert_string_equal(step.checks, "target cpu: bounds, rights, key, generation");
	step = path(pair.segment, pair.local, (uintptr_t)remote, CW_OP_READ);
	assert_string_equal(step.checks, "kernel ptrace rules, own bounds check");
	pair_close(&pair);
	munmap(remote, 8 * MIB);
}

/* Every second page of the one side to the pages of the other in reverse order. */
static void scattered_pages_find_their_places(void **state)
{
	enum { PAGES = 600, PAGE = 4096 };
	struct pair pair = pair_open(2 * PAGES * PAGE);
	unsigned char *remotes[2] = { memory(PAGES * PAGE), NULL };
	static uint32_t from[PAGES], to[PAGES];
	struct cw_region *region;

	(void)state;
	region_register(pair.target, remotes[0], PAGES * PAGE, CW_ACCESS_REMOTE);
	remotes[1] = allocate(pair.target, PAGES * PAGE, CW_ACCESS_REMOTE, &region);
	fill(pair.local, 2 * PAGES * PAGE, 5);
	for (uint32_t i = 0; i < PAGES; i++) {
		from[i] = 2 * i;
		to[i] = PAGES - 1 - i;
	}
	for (int kind = 0; kind < 2; kind++) {
		struct cw_request request = { .segment = pair.segment, .op = CW_OP_WRITE };

		request.local = (struct cw_vec){ (uintptr_t)pair.local, PAGE, 0, PAGES, from, 32, 0 };
		request.remote = (struct cw_vec){ (uintptr_t)remotes[kind], PAGE, 0, PAGES, to, 32, 0 };
		expect_completed(run(pair.initiator, &request, 0));
		other_side(&pair);
		for (uint32_t i = 0; i < PAGES; i++)
			assert_memory_equal(remotes[kind] + to[i] * PAGE, pair.local + from[i] * PAGE, PAGE);
		memset(pair.local, 0, 2 * PAGES * PAGE);
		request.op = CW_OP_READ;
		expect_completed(run(pair.initiator, &request, 0));
		for (uint32_t i = 0; i < PAGES; i++)
			assert_memory_equal(pair.local + from[i] * PAGE, remotes[kind] + to[i] * PAGE, PAGE);
		assert_int_equal(pair.local[PAGE], 0); /* an odd page was nobody's */
		fill(pair.local, 2 * PAGES * PAGE, 6);
	}
	assert_int_equal(cw_memory_free(region), CW_OK);
	pair_close(&pair);
	munmap(remotes[0], PAGES * PAGE);
}

static void a_read_only_region_is_mapped_read_only(void **state)
{
	struct pair pair = pair_open(MIB);
	struct cw_region *region;
	unsigned char *remote = allocate(pair.target, MIB, CW_ACCESS_REMOTE_READ, &region);
	struct cw_batch_result result;
	FILE *maps;
	char line[512];
	unsigned read_only = 0;

	(void)state;
	fill(remote, MIB, 7);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_READ, pair.local, (uintptr_t)remote, MIB));
	expect_filled(pair.local, MIB, 7);
	result = move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote, MIB);
	assert_int_equal(result.state, CW_BATCH_FAILED);
	maps = fopen("/proc/self/maps", "r");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		read_only += strstr(line, "memfd:") && strstr(line, " r--s ");
	fclose(maps);
	assert_int_equal(read_only, 1);
	assert_int_equal(cw_memory_free(region), CW_OK);
	pair_close(&pair);
}

/* Writes go where the protocol says: one byte beyond, and a region that only may be read, are refused by the target. */
static void pulled_writes_are_checked_by_the_target(void **state)
{
	struct pair pair = pair_open(MIB);
	unsigned char *remote = memory(MIB);

	(void)state;
	region_register(pair.target, remote, MIB / 2, CW_ACCESS_REMOTE_READ);
	assert_int_equal(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote, 4096).state,
			 CW_BATCH_FAILED);
	assert_int_equal(
		move(pair.initiator, pair.segment, CW_OP_READ, pair.local, (uintptr_t)remote + 1, MIB / 2).state,
		CW_BATCH_FAILED);
	pair_close(&pair);
	munmap(remote, MIB);
}

static void revoked_memory_is_stale_and_unmapped(void **state)
{
	struct pair pair = pair_open(MIB);
	struct cw_region *granted, *ordinary;
	unsigned char *remote = allocate(pair.target, MIB, CW_ACCESS_REMOTE, &granted), *plain = memory(MIB);

	(void)state;
	ordinary = region_register(pair.target, plain, MIB, CW_ACCESS_REMOTE);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote, MIB));
	expect_completed(move(pair.initiator, pair.segment, CW_OP_READ, pair.local, (uintptr_t)plain, MIB));
	assert_int_equal(count_lines("/proc/self/maps", "memfd:"), 2);
	assert_int_equal(cw_region_revoke(granted, 0, 0, LIMIT), CW_OK);
	assert_int_equal(count_lines("/proc/self/maps", "memfd:"), 1);
	assert_int_equal(cw_region_revoke(ordinary, 0, 0, LIMIT), CW_OK);
	assert_int_equal(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote, MIB).state,
			 CW_BATCH_FAILED);
	assert_int_equal(move(pair.initiator, pair.segment, CW_OP_READ, pair.local, (uintptr_t)plain, MIB).state,
			 CW_BATCH_FAILED);
	assert_int_equal(cw_region_unregister(ordinary), CW_OK);
	assert_int_equal(cw_memory_free(granted), CW_OK);
	pair_close(&pair);
	munmap(plain, MIB);
}

static void nothing_is_left_behind(void **state)
{
	unsigned before, maps;

	(void)state;
	for (int round = 0; round < 2; round++) { /* the first one lets libraries open what they keep */
		struct pair pair;
		struct cw_region *region;
		unsigned char *remote;

		before = count_descriptors();
		maps = count_lines("/proc/self/maps", "memfd:");
		pair = pair_open(MIB);
		remote = allocate(pair.target, MIB, CW_ACCESS_REMOTE, &region);
		expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote, MIB));
		pair_close(&pair);
	}
	assert_int_equal(count_descriptors(), before);
	assert_int_equal(count_lines("/proc/self/maps", "memfd:"), maps);
}

/* A forked child inherits descriptors, but neither mappings nor the say in whether a session has ended. */
static void a_forked_child_holds_nothing_back(void **state)
{
	struct pair pair = pair_open(MIB);
	struct cw_region *region;
	unsigned char *remote = allocate(pair.target, MIB, CW_ACCESS_REMOTE, &region);
	pid_t pid;

	(void)state;
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)remote, MIB));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(60);
		pause();
		_exit(0);
	}
	cw_engine_close(pair.initiator); /* without any word to the target but the end of the session */
	assert_int_equal(cw_region_revoke(region, 0, 0, LIMIT), CW_OK);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(cw_memory_free(region), CW_OK);
	cw_engine_close(pair.target);
	munmap(pair.local, MIB);
}

/* ------------------------------------------------------------------------------------- broken sessions */

static int abstract_name(int fd, struct sockaddr_un *address)
{
	socklen_t length = sizeof(*address);

	memset(address, 0, sizeof(*address));
	return !getpeername(fd, (struct sockaddr *)address, &length) && address->sun_family == AF_UNIX &&
	       !strncmp(address->sun_path + 1, "causeway-", 9);
}

/* Cuts every session that an engine of this process has opened; returns how many. */
static unsigned cut_sessions(void)
{
	struct sockaddr_un address;
	unsigned count = 0;

	for (int fd = 3; fd < 256; fd++)
		if (abstract_name(fd, &address)) {
			shutdown(fd, SHUT_RD);
			count++;
		}
	return count;
}

/* What was granted is given back, what was sent is proved quiet, and then it goes on: never a wrong byte. */
static void a_lost_session_is_opened_again(void **state)
{
	struct pair pair = pair_open(8 * MIB);
	struct cw_region *region;
	unsigned char *plain = memory(8 * MIB), *granted = allocate(pair.target, 8 * MIB, CW_ACCESS_REMOTE, &region);
	unsigned completed = 0;

	(void)state;
	region_register(pair.target, plain, 8 * MIB, CW_ACCESS_REMOTE);
	for (unsigned round = 0; round < 12; round++) {
		struct cw_request request = { .segment = pair.segment, .op = CW_OP_WRITE };
		unsigned char *there = round & 1 ? plain : granted;
		struct cw_batch *batch;

		other_side(&pair);
		fill(pair.local, 8 * MIB, round);
		request.local = range((uintptr_t)pair.local, 8 * MIB);
		request.remote = range((uintptr_t)there, 8 * MIB);
		assert_int_equal(cw_batch_submit(pair.initiator, &request, 1, NULL, &batch), CW_OK);
		if (round)
			cut_sessions();
		assert_int_equal(cw_batch_wait(batch, LIMIT), CW_OK);
		if (cw_batch_poll(batch) == CW_BATCH_COMPLETED) {
			other_side(&pair);
			expect_filled(there, 8 * MIB, round);
			completed++;
		}
		cw_batch_release(batch);
	}
	assert_true(completed > 0);
	fill(pair.local, 8 * MIB, 77);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)granted, 8 * MIB));
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)plain, 8 * MIB));
	assert_int_equal(cut_sessions(), 1);
	assert_int_equal(cw_memory_free(region), CW_OK);
	assert_int_equal(count_lines("/proc/self/maps", "memfd:"), 0);
	pair_close(&pair);
	munmap(plain, 8 * MIB);
}

/* What a stranger of the same user sends is refused, counted, and disturbs nobody. */
static void malformed_messages_are_refused(void **state)
{
	static const unsigned char rows[][24] = {
		{ 1 },               /* of another length than it says */
		{ 24, 0, 0, 0, 5 },  /* DROP before HELLO */
		{ 24, 0, 0, 0, 99 }, /* of no known type */
	};
	struct pair pair = pair_open(MIB);
	struct cw_engine_stats before = { .size = sizeof(before) }, after = { .size = sizeof(after) };
	struct sockaddr_un address;
	struct cw_region *region;
	unsigned char *granted = allocate(pair.target, MIB, CW_ACCESS_REMOTE, &region), byte;
	socklen_t length;
	int session = 0;

	(void)state;
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)granted, MIB));
	while (session < 256 && !abstract_name(session, &address))
		session++;
	length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1));
	assert_int_equal(cw_engine_stats_get(pair.target, &before), CW_OK);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		struct timeval patience = { 10, 0 };

		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
		assert_int_equal(send(fd, rows[i], sizeof(rows[i]), MSG_NOSIGNAL), sizeof(rows[i]));
		assert_int_equal(recv(fd, &byte, 1, 0), 0); /* the end, not a timeout */
		close(fd);
	}
	assert_int_equal(cw_engine_stats_get(pair.target, &after), CW_OK);
	assert_int_equal(after.protocol_errors - before.protocol_errors, sizeof(rows) / sizeof(rows[0]));
	expect_completed(move(pair.initiator, pair.segment, CW_OP_READ, pair.local, (uintptr_t)granted, MIB));
	assert_int_equal(cw_memory_free(region), CW_OK);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(granted_memory_is_copied_once),
		cmocka_unit_test(ordinary_memory_is_only_read),
		cmocka_unit_test(scattered_pages_find_their_places),
		cmocka_unit_test(a_read_only_region_is_mapped_read_only),
		cmocka_unit_test(pulled_writes_are_checked_by_the_target),
		cmocka_unit_test(revoked_memory_is_stale_and_unmapped),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(a_forked_child_holds_nothing_back),
		cmocka_unit_test(a_lost_session_is_opened_again),
		cmocka_unit_test(malformed_messages_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
