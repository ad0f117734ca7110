/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shm transport between processes: one that is stopped, one that dies, one that the kernel forbids something, one
 * of another user. The other process is this program again, in a role.
 */
#include "shm_world.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
		execl("/proc/self/exe", "shm_process_test", role, (char *)NULL);
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
	struct cw_batch *batches[2]; /* more messages than the target reads before it acts on some */

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
	for (int i = 0; i < 2; i++)
		assert_int_equal(cw_batch_submit(engine, &request, 1, &options, &batches[i]), CW_OK);
	assert_int_equal(cw_batch_wait(batches[0], 100 * CW__MS), CW_ERR_AGAIN);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(cw_batch_wait(batches[i], 5 * CW__SECOND), CW_OK);
		assert_int_equal(cw_batch_result_get(batches[i], &result), CW_OK);
		assert_int_equal(result.state, CW_BATCH_TIMED_OUT);
		assert_int_equal(result.remote, CW_REMOTE_FENCED);
		assert_true(result.local_quiet);
		cw_batch_release(batches[i]);
	}
	kill(child.pid, SIGCONT); /* after the fence: the target throws away what it was told before this: */
	fill(back, 4096, 21);
	expect_completed(move(engine, segment, CW_OP_WRITE, back, offer.plain, 4096));
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
