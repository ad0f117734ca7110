/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shm transport between real engines: in one process where that is enough, in two where a process has to stop, to
 * die or to be forbidden something. Every segment is opened for shm alone, so nothing here can pass by another way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <causeway/causeway.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <util/clock.h>

#include <cmocka.h>

#define MIB (1024u * 1024)
#define LIMIT (20 * CW__SECOND) /* no step of a test takes longer */

/* ------------------------------------------------------------------------------------------ small parts */

static struct cw_engine *engine_open(void)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine = NULL;

	if (cw_engine_open(&options, &engine))
		fail_msg("engine: %s", cw_last_error());
	return engine;
}

static struct cw_segment *segment_open(struct cw_engine *engine, const char *name)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_segment *segment = NULL;

	options.transports = "shm";
	if (cw_segment_open(engine, name, &options, &segment))
		fail_msg("segment: %s", cw_last_error());
	return segment;
}

static void *memory(size_t length)
{
	void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(address, MAP_FAILED);
	return address;
}

static struct cw_region *region_register(struct cw_engine *engine, void *address, size_t length, uint32_t access)
{
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct cw_region *region = NULL;

	options.access = access;
	if (cw_region_register(engine, address, length, &options, &region))
		fail_msg("register: %s", cw_last_error());
	return region;
}

static void *allocate(struct cw_engine *engine, size_t length, uint32_t access, struct cw_region **region_out)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	void *address = NULL;

	options.access = access;
	if (cw_memory_allocate(engine, length, &options, &address, region_out))
		fail_msg("allocate: %s", cw_last_error());
	return address;
}

static struct cw_vec range(uint64_t base, uint64_t length)
{
	return (struct cw_vec){ .base = base, .page_size = length, .count = 1 };
}

static struct cw_batch_result run(struct cw_engine *engine, const struct cw_request *request, uint64_t deadline)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch = NULL;

	options.deadline_ns = deadline;
	if (cw_batch_submit(engine, request, 1, &options, &batch))
		fail_msg("submit: %s", cw_last_error());
	assert_int_equal(cw_batch_wait(batch, LIMIT), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	cw_batch_release(batch);
	return result;
}

static struct cw_batch_result move(struct cw_engine *engine, struct cw_segment *segment, enum cw_op op, void *local,
				   uint64_t remote, uint64_t length)
{
	struct cw_request request = { .segment = segment, .op = op };

	request.local = range((uintptr_t)local, length);
	request.remote = range(remote, length);
	return run(engine, &request, 0);
}

static void expect_completed(struct cw_batch_result result)
{
	if (result.state != CW_BATCH_COMPLETED)
		fail_msg("state %d: %s (%s)", result.state, result.text, cw_status_name(result.status));
}

static void fill(void *memory_to_fill, size_t length, unsigned seed)
{
	unsigned char *bytes = memory_to_fill;

	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)(seed + i * 31 + (i >> 8) * 7 + (i >> 16));
}

static void expect_filled(const void *filled, size_t length, unsigned seed)
{
	const unsigned char *bytes = filled;

	for (size_t i = 0; i < length; i++)
		if (bytes[i] != (unsigned char)(seed + i * 31 + (i >> 8) * 7 + (i >> 16)))
			fail_msg("byte %zu of %zu is wrong", i, length);
}

static struct cw_path_step path(struct cw_segment *segment, const void *local, uint64_t remote, enum cw_op op)
{
	struct cw_path_step steps[16];
	size_t count = 0;

	if (cw_path_explain(segment, local, remote, 1, op, steps, 16, &count))
		fail_msg("path: %s", cw_last_error());
	for (size_t i = 0; i < count; i++)
		if (!strcmp(steps[i].transport, "shm"))
			return steps[i];
	fail_msg("the path report does not mention shm");
	return steps[0];
}

/* How often a word occurs in a file of /proc/self; "" counts lines. */
static unsigned count_lines(const char *file, const char *word)
{
	FILE *stream = fopen(file, "r");
	char line[512];
	unsigned count = 0;

	assert_non_null(stream);
	while (fgets(line, sizeof(line), stream))
		count += strstr(line, word) != NULL;
	fclose(stream);
	return count;
}

static unsigned count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* ------------------------------------------------------------------------------------ two engines here */

struct pair {
	struct cw_engine *initiator, *target;
	struct cw_segment *segment;
	unsigned char *local;
	size_t length;
};

static struct pair pair_open(size_t length)
{
	struct pair pair = { engine_open(), engine_open(), NULL, memory(length), length };

	pair.segment = segment_open(pair.initiator, cw_engine_name(pair.target));
	region_register(pair.initiator, pair.local, length, CW_ACCESS_LOCAL);
	return pair;
}

static void pair_close(struct pair *pair)
{
	cw_segment_close(pair->segment);
	cw_engine_close(pair->initiator);
	cw_engine_close(pair->target);
	munmap(pair->local, pair->length);
}

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

/* -------------------------------------------------------------------------------- an engine in a child */

struct child {
	pid_t pid;
	int to, from; /* pipes */
};

struct offer {
	char name[80];
	uint64_t granted, plain;
};

/* What a child does; main() finds it by its name. */
static void target_main(int in, int out);
static void initiator_main(int in, int out);
static void forbidden_main(int in, int out);
static void stranger_main(int in, int out);

static const struct {
	const char *name;
	void (*run)(int in, int out);
} roles[] = { { "target", target_main },
	      { "initiator", initiator_main },
	      { "forbidden", forbidden_main },
	      { "stranger", stranger_main } };

/* This program again, in a role, with a pipe each way as descriptors 3 and 4. */
static struct child child_start(const char *role)
{
	int to[2], from[2];
	struct child child = { 0 };

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (!child.pid) {
		int in = fcntl(to[0], F_DUPFD, 10), out = fcntl(from[1], F_DUPFD, 10);

		dup2(in, 3);
		dup2(out, 4);
		close(in);
		close(out);
		execl("/proc/self/exe", "shm_test", role, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	child.to = to[1];
	child.from = from[0];
	return child;
}

static int play(const char *role)
{
	alarm(60);
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (!strcmp(roles[i].name, role)) {
			roles[i].run(3, 4);
			return 0;
		}
	return 126;
}

/* Returns when every thread of it has stopped. */
static void child_stop(const struct child *child)
{
	int status;

	kill(child->pid, SIGSTOP);
	assert_int_equal(waitpid(child->pid, &status, WUNTRACED), child->pid);
	assert_true(WIFSTOPPED(status));
}

static void child_send(int fd, const void *data, size_t length)
{
	if (write(fd, data, length) != (ssize_t)length)
		fail_msg("pipe: %s", strerror(errno));
}

static void child_receive(int fd, void *data, size_t length)
{
	for (size_t got = 0; got < length;) {
		ssize_t n = read(fd, (char *)data + got, length - got);

		if (n <= 0)
			fail_msg("the child ended");
		got += (size_t)n;
	}
}

static int child_end(struct child *child, int signal_number)
{
	int status = 0;

	if (signal_number)
		kill(child->pid, signal_number);
	close(child->to);
	assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
	close(child->from);
	return status;
}

#define CHILD_BYTES (8 * MIB)

/* Offers granted and ordinary memory until its input ends. */
static void target_main(int in, int out)
{
	struct cw_engine *engine = engine_open();
	struct cw_region *region;
	struct offer offer = { 0 };
	unsigned char *plain = memory(CHILD_BYTES), *granted = allocate(engine, CHILD_BYTES, CW_ACCESS_REMOTE, &region);
	char byte;

	region_register(engine, plain, CHILD_BYTES, CW_ACCESS_REMOTE);
	fill(plain, CHILD_BYTES, 11);
	fill(granted, CHILD_BYTES, 12);
	snprintf(offer.name, sizeof(offer.name), "%s", cw_engine_name(engine));
	offer.granted = (uintptr_t)granted;
	offer.plain = (uintptr_t)plain;
	child_send(out, &offer, sizeof(offer));
	if (read(in, &byte, 1) > 0)
		_exit(1);
	cw_engine_close(engine);
}

static void another_process_is_read_and_written(void **state)
{
	struct child child = child_start("target");
	struct offer offer;
	struct cw_engine *engine;
	struct cw_segment *segment;
	unsigned char *local = memory(CHILD_BYTES), *back = memory(CHILD_BYTES);

	(void)state;
	child_receive(child.from, &offer, sizeof(offer));
	engine = engine_open();
	region_register(engine, local, CHILD_BYTES, CW_ACCESS_LOCAL);
	region_register(engine, back, CHILD_BYTES, CW_ACCESS_LOCAL);
	segment = segment_open(engine, offer.name);
	expect_completed(move(engine, segment, CW_OP_READ, local, offer.plain, CHILD_BYTES));
	expect_filled(local, CHILD_BYTES, 11);
	expect_completed(move(engine, segment, CW_OP_READ, local, offer.granted, CHILD_BYTES));
	expect_filled(local, CHILD_BYTES, 12);
	fill(local, CHILD_BYTES, 13);
	expect_completed(move(engine, segment, CW_OP_WRITE, local, offer.plain, CHILD_BYTES));
	expect_completed(move(engine, segment, CW_OP_READ, back, offer.plain, CHILD_BYTES));
	expect_filled(back, CHILD_BYTES, 13);
	fill(local, CHILD_BYTES, 14);
	expect_completed(move(engine, segment, CW_OP_WRITE, local, offer.granted, CHILD_BYTES));
	expect_completed(move(engine, segment, CW_OP_READ, back, offer.granted, CHILD_BYTES));
	expect_filled(back, CHILD_BYTES, 14);
	cw_segment_close(segment);
	cw_engine_close(engine);
	assert_int_equal(child_end(&child, 0), 0);
	munmap(local, CHILD_BYTES);
	munmap(back, CHILD_BYTES);
}

/* The target dies under a stream of writes: each batch ends, and nothing of it stays mapped. */
static void a_killed_target_ends_its_batches(void **state)
{
	enum { BATCHES = 64 };
	struct child child = child_start("target");
	struct offer offer;
	struct cw_engine *engine;
	struct cw_segment *segment;
	unsigned char *local = memory(BATCHES * (size_t)MIB);
	struct cw_batch *batches[BATCHES];
	unsigned failed = 0;

	(void)state;
	child_receive(child.from, &offer, sizeof(offer));
	engine = engine_open();
	region_register(engine, local, BATCHES * (size_t)MIB, CW_ACCESS_LOCAL);
	segment = segment_open(engine, offer.name);
	expect_completed(move(engine, segment, CW_OP_WRITE, local, offer.granted, 4096));
	for (unsigned i = 0; i < BATCHES; i++) {
		struct cw_request request = { .segment = segment, .op = i & 2 ? CW_OP_READ : CW_OP_WRITE };

		request.local = range((uintptr_t)local + i * (uint64_t)MIB, MIB);
		request.remote = range(i & 1 ? offer.granted : offer.plain, MIB);
		assert_int_equal(cw_batch_submit(engine, &request, 1, NULL, &batches[i]), CW_OK);
		if (i == BATCHES / 2)
			kill(child.pid, SIGKILL);
	}
	for (unsigned i = 0; i < BATCHES; i++) {
		assert_int_equal(cw_batch_wait(batches[i], LIMIT), CW_OK);
		failed += cw_batch_poll(batches[i]) != CW_BATCH_COMPLETED;
		cw_batch_release(batches[i]);
	}
	assert_true(failed > 0);
	child_end(&child, 0);
	cw_segment_close(segment);
	cw_engine_close(engine);
	assert_int_equal(count_lines("/proc/self/maps", "memfd:"), 0);
	munmap(local, BATCHES * (size_t)MIB);
}

/* A stopped target cannot say that it is quiet; what it may still do is fenced by the deadline. */
static void a_canceled_write_to_a_stopped_target_is_fenced(void **state)
{
	struct child child = child_start("target");
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch_result result = { .size = sizeof(result) };
	struct offer offer;
	struct cw_engine *engine;
	struct cw_segment *segment;
	struct cw_request request = { .op = CW_OP_WRITE };
	unsigned char *local = memory(CHILD_BYTES), *back = memory(CHILD_BYTES);
	struct cw_batch *batch;

	(void)state;
	child_receive(child.from, &offer, sizeof(offer));
	engine = engine_open();
	region_register(engine, local, CHILD_BYTES, CW_ACCESS_LOCAL);
	region_register(engine, back, CHILD_BYTES, CW_ACCESS_LOCAL);
	segment = segment_open(engine, offer.name);
	fill(local, CHILD_BYTES, 21);
	expect_completed(move(engine, segment, CW_OP_WRITE, local, offer.plain, CHILD_BYTES));
	child_stop(&child);
	memset(local, 0xee, CHILD_BYTES);
	request.segment = segment;
	request.local = range((uintptr_t)local, CHILD_BYTES);
	request.remote = range(offer.plain, CHILD_BYTES);
	options.deadline_ns = cw__now() + 300 * CW__MS;
	assert_int_equal(cw_batch_submit(engine, &request, 1, &options, &batch), CW_OK);
	assert_int_equal(cw_batch_wait(batch, 100 * CW__MS), CW_ERR_AGAIN);
	assert_int_equal(cw_batch_wait(batch, 5 * CW__SECOND), CW_OK);
	assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
	assert_int_equal(result.state, CW_BATCH_TIMED_OUT);
	assert_int_equal(result.remote, CW_REMOTE_FENCED);
	assert_true(result.local_quiet);
	cw_batch_release(batch);
	kill(child.pid, SIGCONT); /* after the fence: the target throws the rest away */
	expect_completed(move(engine, segment, CW_OP_READ, back, offer.plain, CHILD_BYTES));
	expect_filled(back, CHILD_BYTES, 21);
	cw_segment_close(segment);
	cw_engine_close(engine);
	assert_int_equal(child_end(&child, 0), 0);
	munmap(local, CHILD_BYTES);
	munmap(back, CHILD_BYTES);
}

/* ------------------------------------------------------------------------- an initiator in a child */

/* Writes and reads what it is offered, over and over, until a request fails; says with which status. */
static void initiator_main(int in, int out)
{
	struct cw_engine *engine = engine_open();
	struct cw_segment *segment;
	struct offer offer;
	unsigned char *local = memory(CHILD_BYTES);
	struct cw_batch_result result;
	int status;

	region_register(engine, local, CHILD_BYTES, CW_ACCESS_LOCAL);
	memset(local, 0xee, CHILD_BYTES);
	child_receive(in, &offer, sizeof(offer));
	segment = segment_open(engine, offer.name);
	expect_completed(move(engine, segment, CW_OP_WRITE, local, offer.granted, CHILD_BYTES));
	child_send(out, "r", 1);
	do {
		result = move(engine, segment, CW_OP_WRITE, local, offer.granted, CHILD_BYTES);
		if (result.state == CW_BATCH_COMPLETED)
			result = move(engine, segment, CW_OP_READ, local, offer.granted, CHILD_BYTES);
	} while (result.state == CW_BATCH_COMPLETED);
	status = result.status;
	child_send(out, &status, sizeof(status));
	cw_segment_close(segment);
	cw_engine_close(engine);
}

struct owner {
	struct cw_engine *engine;
	struct cw_region *region;
	unsigned char *address;
	struct child child;
};

static struct owner owner_start(int granted)
{
	struct owner owner = { .child = child_start("initiator") };
	struct offer offer = { 0 };
	char byte;

	owner.engine = engine_open();
	if (granted) {
		owner.address = allocate(owner.engine, CHILD_BYTES, CW_ACCESS_REMOTE, &owner.region);
	} else {
		owner.address = memory(CHILD_BYTES);
		owner.region = region_register(owner.engine, owner.address, CHILD_BYTES, CW_ACCESS_REMOTE);
	}
	snprintf(offer.name, sizeof(offer.name), "%s", cw_engine_name(owner.engine));
	offer.granted = (uintptr_t)owner.address;
	child_send(owner.child.to, &offer, sizeof(offer));
	child_receive(owner.child.from, &byte, 1);
	return owner;
}

static void revoke_under_traffic(int granted)
{
	struct owner owner = owner_start(granted);
	int status = 0;

	assert_int_equal(cw_region_revoke(owner.region, 0, 0, LIMIT), CW_OK);
	memset(owner.address, 0x11, CHILD_BYTES);
	child_receive(owner.child.from, &status, sizeof(status)); /* it has noticed, and tried again in vain */
	assert_true(status == CW_ERR_STALE_REGION || status == CW_ERR_NOT_REGISTERED);
	for (size_t i = 0; i < CHILD_BYTES; i++)
		assert_int_equal(owner.address[i], 0x11);
	assert_int_equal(child_end(&owner.child, 0), 0);
	if (granted) {
		assert_int_equal(cw_memory_free(owner.region), CW_OK);
	} else {
		assert_int_equal(cw_region_unregister(owner.region), CW_OK);
		munmap(owner.address, CHILD_BYTES);
	}
	cw_engine_close(owner.engine);
}

static void revoking_granted_memory_under_traffic(void **state)
{
	(void)state;
	revoke_under_traffic(1);
}

static void revoking_ordinary_memory_under_traffic(void **state)
{
	(void)state;
	revoke_under_traffic(0);
}

static void a_stopped_peer_holds_its_grant_until_it_answers(void **state)
{
	struct owner owner = owner_start(1);

	(void)state;
	child_stop(&owner.child);
	assert_int_equal(cw_region_revoke(owner.region, 0, 0, 300 * CW__MS), CW_ERR_BUSY);
	assert_int_equal(cw_region_revoke(owner.region, 0, 0, 300 * CW__MS), CW_ERR_BUSY);
	kill(owner.child.pid, SIGCONT);
	assert_int_equal(cw_region_revoke(owner.region, 0, 0, LIMIT), CW_OK);
	child_end(&owner.child, SIGKILL);
	assert_int_equal(cw_memory_free(owner.region), CW_OK);
	cw_engine_close(owner.engine);
}

static void a_killed_peer_gives_its_grant_back(void **state)
{
	struct owner owner = owner_start(1);

	(void)state;
	child_stop(&owner.child);
	assert_int_equal(cw_region_revoke(owner.region, 0, 0, 200 * CW__MS), CW_ERR_BUSY);
	kill(owner.child.pid, SIGKILL);
	assert_int_equal(cw_region_revoke(owner.region, 0, 0, LIMIT), CW_OK);
	child_end(&owner.child, 0);
	assert_int_equal(cw_memory_free(owner.region), CW_OK);
	cw_engine_close(owner.engine);
}

/* ------------------------------------------------------------------------------ a kernel that says no */

static void forbid_attach(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(77);
}

/* Both engines live under the filter. Granted memory still goes by shm; ordinary memory finds no way, and the report
 * says why. */
static void forbidden_main(int in, int out)
{
	struct pair pair;
	struct cw_region *region;
	struct cw_segment *any;
	unsigned char *granted, *plain = memory(MIB);
	struct cw_path_step step;

	(void)in;
	forbid_attach();
	pair = pair_open(MIB);
	granted = allocate(pair.target, MIB, CW_ACCESS_REMOTE, &region);
	region_register(pair.target, plain, MIB, CW_ACCESS_REMOTE);
	expect_completed(move(pair.initiator, pair.segment, CW_OP_WRITE, pair.local, (uintptr_t)granted, MIB));
	for (int op = CW_OP_READ; op <= CW_OP_WRITE; op++) {
		step = path(pair.segment, pair.local, (uintptr_t)plain, (enum cw_op)op);
		if (step.usable || !strstr(step.why, "kernel forbids"))
			_exit(2);
		if (move(pair.initiator, pair.segment, (enum cw_op)op, pair.local, (uintptr_t)plain, MIB).state !=
		    CW_BATCH_FAILED)
			_exit(3);
	}
	if (cw_segment_open(pair.initiator, cw_engine_name(pair.target), NULL, &any))
		_exit(4);
	fill(pair.local, MIB, 31);
	expect_completed(move(pair.initiator, any, CW_OP_WRITE, pair.local, (uintptr_t)plain, MIB));
	expect_filled(plain, MIB, 31);
	cw_segment_close(any);
	pair_close(&pair);
	child_send(out, "k", 1);
}

static void a_kernel_that_forbids_attach_is_named_in_the_report(void **state)
{
	struct child child = child_start("forbidden");
	int status = child_end(&child, 0);

	(void)state;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip(); /* no seccomp here */
	assert_int_equal(status, 0);
}

/* Another user's engine: not to be had by shm, whatever the kernel would allow us. */
static void stranger_main(int in, int out)
{
	if (setgid(65534) || setuid(65534))
		_exit(77);
	target_main(in, out);
}

static void another_user_is_not_served(void **state)
{
	struct child child;
	struct offer offer;
	struct cw_engine *engine;
	struct cw_segment *segment;
	unsigned char *local = memory(MIB);

	(void)state;
	if (geteuid() != 0)
		skip(); /* only root can become somebody else */
	child = child_start("stranger");
	child_receive(child.from, &offer, sizeof(offer));
	engine = engine_open();
	region_register(engine, local, MIB, CW_ACCESS_LOCAL);
	segment = segment_open(engine, offer.name);
	assert_int_equal(move(engine, segment, CW_OP_READ, local, offer.granted, MIB).state, CW_BATCH_FAILED);
	assert_int_equal(move(engine, segment, CW_OP_WRITE, local, offer.plain, MIB).state, CW_BATCH_FAILED);
	assert_non_null(strstr(path(segment, local, offer.plain, CW_OP_READ).why, "another user"));
	cw_segment_close(segment);
	cw_engine_close(engine);
	assert_int_equal(child_end(&child, 0), 0);
	munmap(local, MIB);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(granted_memory_is_copied_once),
		cmocka_unit_test(ordinary_memory_is_only_read),
		cmocka_unit_test(scattered_pages_find_their_places),
		cmocka_unit_test(a_read_only_region_is_mapped_read_only),
		cmocka_unit_test(pulled_writes_are_checked_by_the_target),
		cmocka_unit_test(revoked_memory_is_stale_and_unmapped),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(a_lost_session_is_opened_again),
		cmocka_unit_test(malformed_messages_are_refused),
		cmocka_unit_test(another_process_is_read_and_written),
		cmocka_unit_test(a_killed_target_ends_its_batches),
		cmocka_unit_test(a_canceled_write_to_a_stopped_target_is_fenced),
		cmocka_unit_test(revoking_granted_memory_under_traffic),
		cmocka_unit_test(revoking_ordinary_memory_under_traffic),
		cmocka_unit_test(a_stopped_peer_holds_its_grant_until_it_answers),
		cmocka_unit_test(a_killed_peer_gives_its_grant_back),
		cmocka_unit_test(a_kernel_that_forbids_attach_is_named_in_the_report),
		cmocka_unit_test(another_user_is_not_served),
	};

	return argc == 2 ? play(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
}
