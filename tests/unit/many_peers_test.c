/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many peers at once, over tcp and over shared memory: one engine that opens 256 others at the same moment and writes
 * to all of them, goes on with the rest when one process of them is killed, and 256 engines that come to one.
 */
#include <causeway/causeway.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/pair.h>
#include <support/sanitizers.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PROCESSES 4
#define EACH (SANITIZED ? 8 : 64) /* engines in a process; a sanitizer's threads cost much more */
#define PEERS_MAX (PROCESSES * 64)
#define OPENERS 16
#define BLOCK 65536u
#define PATIENCE_SECONDS 60 /* until a process that got stuck ends by itself */

struct offer {
	char name[64];
	uint64_t address;
};

struct child {
	pid_t pid;
	int from, to; /* pipes */
};

static unsigned peers(void)
{
	return PROCESSES * (unsigned)EACH;
}

/* Whole or not at all: 0 = the other end is gone. */
static int move_all(int fd, void *data, size_t length, int writing)
{
	for (size_t done = 0; done < length;) {
		ssize_t count = writing ? write(fd, (char *)data + done, length - done)
					: read(fd, (char *)data + done, length - done);

		if (count <= 0 && !(count < 0 && errno == EINTR))
			return 0;
		done += count > 0 ? (size_t)count : 0;
	}
	return 1;
}

/* Starts a process that runs `work` and ends with what that returns. Before any engine is opened here. */
static struct child start(int (*work)(unsigned number, int from, int to), unsigned number, const struct child *others)
{
	struct child child;
	int there[2], back[2];

	assert_int_equal(pipe(there), 0);
	assert_int_equal(pipe(back), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0) {
		for (unsigned i = 0; i < number; i++) { /* else they would not see the end of their input */
			close(others[i].from);
			close(others[i].to);
		}
		close(there[1]);
		close(back[0]);
		alarm(PATIENCE_SECONDS);
		_exit(work(number, there[0], back[1]));
	}
	close(there[0]);
	close(back[1]);
	child.from = back[0];
	child.to = there[1];
	return child;
}

static int stop(const struct child *child)
{
	int status = -1;

	close(child->to);
	close(child->from);
	assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
	return status;
}

static struct cw_segment *open_by(struct cw_engine *engine, const char *name, const char *way)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_segment *segment = NULL;

	options.transports = way;
	if (cw_segment_open(engine, name, &options, &segment))
		fprintf(stderr, "%s: %s\n", name, cw_last_error());
	return segment;
}

/* ----------------------------------------------------------------------------------------- 256 targets */

static int be_targets(unsigned number, int from, int to)
{
	struct cw_engine *engines[64];
	char byte;

	(void)number;
	for (int i = 0; i < EACH; i++) {
		struct cw_region *region;
		struct offer offer = { 0 };
		void *memory;

		if (cw_engine_open(NULL, &engines[i]) || cw_memory_allocate(engines[i], BLOCK, NULL, &memory, &region))
			return 1;
		snprintf(offer.name, sizeof(offer.name), "%s", cw_engine_name(engines[i]));
		offer.address = (uint64_t)(uintptr_t)memory;
		if (!move_all(to, &offer, sizeof(offer), 1))
			return 1;
	}
	(void)move_all(from, &byte, 1, 0);
	for (int i = 0; i < EACH; i++)
		cw_engine_close(engines[i]);
	return 0;
}

struct scene {
	struct child children[PROCESSES];
	struct offer offers[PEERS_MAX];
	struct cw_segment *segments[PEERS_MAX];
	struct cw_batch *batches[PEERS_MAX];
	struct cw_engine *engine;
	unsigned char *memory; /* a block for each peer */
	const char *way;
};

struct opener {
	struct scene *scene;
	pthread_t thread;
	unsigned first;
};

static void *open_some(void *arg)
{
	struct opener *opener = arg;
	struct scene *scene = opener->scene;

	for (unsigned i = opener->first; i < peers(); i += OPENERS)
		scene->segments[i] = open_by(scene->engine, scene->offers[i].name, scene->way);
	return NULL;
}

static void open_all(struct scene *scene)
{
	struct opener openers[OPENERS];

	for (unsigned i = 0; i < OPENERS; i++) {
		openers[i] = (struct opener){ .scene = scene, .first = i };
		assert_int_equal(pthread_create(&openers[i].thread, NULL, open_some, &openers[i]), 0);
	}
	for (unsigned i = 0; i < OPENERS; i++)
		pthread_join(openers[i].thread, NULL);
	for (unsigned i = 0; i < peers(); i++)
		assert_non_null(scene->segments[i]);
}

static void submit(struct scene *scene, unsigned peer, enum cw_op op)
{
	struct cw_request request = {
		.segment = scene->segments[peer],
		.op = op,
		.local = { .base = (uint64_t)(uintptr_t)scene->memory + (uint64_t)peer * BLOCK,
			   .page_size = BLOCK,
			   .count = 1 },
		.remote = { .base = scene->offers[peer].address, .page_size = BLOCK, .count = 1 },
	};

	assert_int_equal(cw_batch_submit(scene->engine, &request, 1, NULL, &scene->batches[peer]), CW_OK);
}

static enum cw_batch_state end_of(struct scene *scene, unsigned peer)
{
	enum cw_batch_state state;

	assert_int_equal(cw_batch_wait(scene->batches[peer], 60 * SECOND), CW_OK);
	state = cw_batch_poll(scene->batches[peer]);
	cw_batch_release(scene->batches[peer]);
	return state;
}

/* Moves a block between here and each peer from `first` on, all at the same time. */
static void all_complete(struct scene *scene, unsigned first, enum cw_op op)
{
	for (unsigned i = first; i < peers(); i++)
		submit(scene, i, op);
	for (unsigned i = first; i < peers(); i++)
		assert_int_equal(end_of(scene, i), CW_BATCH_COMPLETED);
}

static void write_and_read_back(struct scene *scene, unsigned first, unsigned char seed)
{
	for (unsigned i = first; i < peers(); i++)
		memset(scene->memory + (size_t)i * BLOCK, (unsigned char)(i + seed), BLOCK);
	all_complete(scene, first, CW_OP_WRITE);
	memset(scene->memory, 0, (size_t)peers() * BLOCK);
	all_complete(scene, first, CW_OP_READ);
	for (size_t i = (size_t)first * BLOCK; i < (size_t)peers() * BLOCK; i++)
		if (scene->memory[i] != (unsigned char)(i / BLOCK + seed))
			fail_msg("byte %zu of peer %zu is wrong", i % BLOCK, i / BLOCK);
}

static void many_targets(const char *way)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	struct cw_region *region;
	void *memory;

	assert_non_null(scene);
	scene->way = way;
	for (unsigned i = 0; i < PROCESSES; i++)
		scene->children[i] = start(be_targets, i, scene->children);
	for (unsigned i = 0; i < peers(); i++)
		assert_true(move_all(scene->children[i / EACH].from, &scene->offers[i], sizeof(scene->offers[i]), 0));
	scene->engine = engine_open(NULL, 0);
	assert_int_equal(cw_memory_allocate(scene->engine, (size_t)peers() * BLOCK, NULL, &memory, &region), CW_OK);
	scene->memory = memory;

	open_all(scene);
	write_and_read_back(scene, 0, 1);
	/* One process dies under traffic. Its peers' batches end, whatever is said of them; the others' complete. */
	for (unsigned i = 0; i < peers(); i++)
		submit(scene, i, CW_OP_WRITE);
	kill(scene->children[0].pid, SIGKILL);
	for (unsigned i = 0; i < peers(); i++) {
		enum cw_batch_state state = end_of(scene, i);

		assert_true(i < (unsigned)EACH || state == CW_BATCH_COMPLETED);
	}
	write_and_read_back(scene, (unsigned)EACH, 7);
	for (unsigned i = 0; i < peers(); i++)
		cw_segment_close(scene->segments[i]);
	cw_engine_close(scene->engine);
	for (unsigned i = 0; i < PROCESSES; i++)
		assert_true(stop(&scene->children[i]) == 0 || i == 0);
	free(scene);
}

static void many_targets_over_tcp(void **state)
{
	(void)state;
	many_targets("tcp");
}

static void many_targets_over_shm(void **state)
{
	(void)state;
	many_targets("shm");
}

/* -------------------------------------------------------------------------------------- 256 initiators */

struct comer {
	const struct offer *target;
	pthread_t thread;
	unsigned number;
	int ok;
};

/* One engine that writes its number to its place at the target, and finds it there. */
static void *come(void *arg)
{
	struct comer *comer = arg;
	struct cw_engine *engine = engine_open(NULL, 0);
	struct cw_segment *segment;
	struct cw_region *region;
	void *memory = NULL;

	if (cw_memory_allocate(engine, BLOCK, NULL, &memory, &region))
		return NULL;
	segment = open_by(engine, comer->target->name, "tcp");
	if (!segment)
		return NULL;
	memset(memory, (int)(comer->number % 251 + 1), BLOCK);
	for (int op = CW_OP_WRITE; op >= CW_OP_READ; op--) {
		struct cw_batch *batch;
		struct cw_request request = {
			.segment = segment,
			.op = (uint32_t)op,
			.local = { .base = (uint64_t)(uintptr_t)memory, .page_size = BLOCK, .count = 1 },
			.remote = { .base = comer->target->address + (uint64_t)comer->number * BLOCK,
				    .page_size = BLOCK,
				    .count = 1 },
		};
		if (cw_batch_submit(engine, &request, 1, NULL, &batch) || cw_batch_wait(batch, 50 * SECOND) ||
		    cw_batch_poll(batch) != CW_BATCH_COMPLETED)
			return NULL;
		cw_batch_release(batch);
		if (op == CW_OP_WRITE)
			memset(memory, 0, BLOCK);
	}
	comer->ok = ((unsigned char *)memory)[0] == comer->number % 251 + 1 &&
		    !memcmp(memory, (char *)memory + 1, BLOCK - 1);
	cw_segment_close(segment);
	cw_engine_close(engine);
	return NULL;
}

static int be_initiators(unsigned number, int from, int to)
{
	struct comer comers[64];
	struct offer target;
	int ok = move_all(from, &target, sizeof(target), 0);

	(void)to;
	if (!ok)
		return 1;
	for (int i = 0; i < EACH; i++) {
		comers[i] = (struct comer){ .target = &target, .number = number * (unsigned)EACH + (unsigned)i };
		if (pthread_create(&comers[i].thread, NULL, come, &comers[i]))
			return 1;
	}
	for (int i = 0; i < EACH; i++) {
		pthread_join(comers[i].thread, NULL);
		ok &= comers[i].ok;
	}
	return !ok;
}

static void many_initiators(void **state)
{
	struct child children[PROCESSES];
	struct offer offer = { 0 };
	struct cw_engine *engine;
	struct cw_region *region;
	void *memory;

	(void)state;
	for (unsigned i = 0; i < PROCESSES; i++)
		children[i] = start(be_initiators, i, children);
	engine = engine_open(NULL, 0);
	assert_int_equal(cw_memory_allocate(engine, (size_t)peers() * BLOCK, NULL, &memory, &region), CW_OK);
	snprintf(offer.name, sizeof(offer.name), "%s", cw_engine_name(engine));
	offer.address = (uint64_t)(uintptr_t)memory;
	for (unsigned i = 0; i < PROCESSES; i++)
		assert_true(move_all(children[i].to, &offer, sizeof(offer), 1));
	for (unsigned i = 0; i < PROCESSES; i++)
		assert_int_equal(stop(&children[i]), 0);
	assert_int_equal(cw_region_revoke(region, 0, 0, UINT64_C(10000000000)), CW_OK);
	for (size_t i = 0; i < (size_t)peers() * BLOCK; i++)
		if (((unsigned char *)memory)[i] != i / BLOCK % 251 + 1)
			fail_msg("byte %zu of initiator %zu is wrong", i % BLOCK, i / BLOCK);
	cw_engine_close(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_targets_over_tcp),
		cmocka_unit_test(many_targets_over_shm),
		cmocka_unit_test(many_initiators),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
