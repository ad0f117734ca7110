/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ten promises, one test or two each, named after them. What conformance_test.c shows on every transport (rights,
 * bounds, cancellation, revocation, order of notifications) is not repeated here.
 */
#include <core/core.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <support/pair.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

#define LENGTH (32u << 20)
#define GRACE (1 * SECOND)

static const char *const ways[] = { "local", "shm", "tcp" };
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* --------------------------------------------------------------------------------- 1. one terminal state */

static void count_call(void *arg, struct cw_batch *batch)
{
	(void)batch;
	atomic_fetch_add((_Atomic int *)arg, 1);
}

static void one_terminal_state(void **state)
{
	enum { COUNT = 60 };
	static _Atomic int calls[COUNT];
	static struct cw_batch *batches[COUNT];
	int events[COUNT] = { 0 }, taken = 0;

	(void)state;
	for (size_t way = 0; way < WAYS; way++) {
		struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
		struct cw_queue *queue;
		struct cw_event event;
		struct pair pair;
		uint64_t began;

		pair_open(&pair, ways[way], LENGTH);
		assert_int_equal(cw_queue_open(pair.near, &queue), CW_OK);
		memset(events, 0, sizeof(events));
		taken = 0;
		began = now_ns();
		for (int i = 0; i < COUNT; i++) { /* ends of every kind, close together */
			struct cw_request request = pair_request(&pair, CW_OP_WRITE, 0, 0, i % 2 ? LENGTH : 5000);

			atomic_store(&calls[i], 0);
			options.deadline_ns = began + (i % 3 ? 10 * SECOND : (uint64_t)i * MS / 10 + 1);
			options.queue = queue;
			options.callback = count_call;
			options.arg = &calls[i];
			assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batches[i]), CW_OK);
			if (i % 5 == 0)
				cw_batch_cancel(batches[i]);
		}
		while (taken < COUNT) {
			assert_int_equal(cw_queue_wait(queue, &event, 1, 20 * SECOND), 1);
			assert_int_equal(event.kind, CW_EVENT_BATCH);
			events[(_Atomic int *)event.arg - calls]++;
			taken++;
		}
		for (int i = 0; i < COUNT; i++) {
			struct cw_batch_result result = { .size = sizeof(result) }, again = { .size = sizeof(again) };

			assert_int_equal(cw_batch_result_get(batches[i], &result), CW_OK);
			assert_in_range(result.state, CW_BATCH_COMPLETED, CW_BATCH_TIMED_OUT);
			assert_true(result.state == CW_BATCH_COMPLETED || *result.text);
			if (i % 3 == 0)
				assert_true(result.ended_ns <= began + (uint64_t)i * MS / 10 + GRACE + SECOND / 2);
			assert_int_equal(cw_batch_cancel(batches[i]), CW_OK); /* too late to change anything */
			assert_int_equal(cw_batch_result_get(batches[i], &again), CW_OK);
			assert_memory_equal(&result, &again, sizeof(result));
			assert_int_equal(events[i], 1);
			cw_batch_release(batches[i]);
		}
		assert_int_equal(cw_queue_poll(queue, &event, 1), 0);
		cw_queue_close(queue);
		pair_close(&pair);
		for (int i = 0; i < COUNT; i++)
			assert_int_equal(calls[i], 1);
	}
}

/* Ends must not pile up on the stack: each batch releases the next. */
static void one_terminal_state_for_long_chains(void **state)
{
	enum { COUNT = 100000 };
	struct cw_batch **chain = calloc(COUNT, sizeof(*chain));
	struct pair pair;

	(void)state;
	pair_open(&pair, "local", 4096);
	for (int cancel = 0; cancel < 2; cancel++) {
		struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
		struct cw_counter *counter;

		assert_int_equal(cw_counter_open(pair.near, 0, &counter), CW_OK);
		options.counter = counter;
		options.counter_value = 1;
		for (int i = 0; i < COUNT; i++) {
			assert_int_equal(cw_batch_submit(pair.near, NULL, 0, &options, &chain[i]), CW_OK);
			options.counter = NULL;
			options.after = &chain[i];
			options.after_count = 1;
		}
		if (cancel)
			cw_batch_cancel(chain[0]);
		else
			cw_counter_add(counter, 1);
		assert_int_equal(cw_batch_wait(chain[COUNT - 1], 20 * SECOND), CW_OK);
		assert_int_equal(cw_batch_poll(chain[COUNT - 1]), cancel ? CW_BATCH_FAILED : CW_BATCH_COMPLETED);
		for (int i = 0; i < COUNT; i++)
			cw_batch_release(chain[i]);
		cw_counter_close(counter);
	}
	pair_close(&pair);
	free(chain);
}

/* FAIL_FAST ends the others too; a failure says whom and what it concerns. */
static void one_terminal_state_fail_fast(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_request requests[2];
	struct cw_batch_result result;
	struct pair pair;

	(void)state;
	pair_open(&pair, "tcp", LENGTH);
	options.flags = CW_BATCH_FAIL_FAST;
	requests[0] = pair_request(&pair, CW_OP_WRITE, 0, LENGTH - 9, 10);
	requests[1] = pair_request(&pair, CW_OP_WRITE, 0, 0, 1000);
	result = pair_run(&pair, requests, 2, &options);
	assert_int_equal(result.state, CW_BATCH_FAILED);
	assert_int_equal(result.status, CW_ERR_NOT_REGISTERED);
	assert_int_equal(result.scope, CW_SCOPE_REQUEST);
	assert_int_equal(result.retryable, 0);
	assert_non_null(strstr(result.text, cw_engine_name(pair.far)));
	assert_int_equal(result.requests_completed + result.requests_failed, 2);
	pair_close(&pair);
}

/* Nobody listens there: that is known at once, not after the timeout. */
static void one_terminal_state_of_an_opening(void **state)
{
	struct cw_engine *engine = engine_open(NULL, 0);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* bound, so that the port stays free, but not
								    listening */
	struct cw_segment *segment = NULL;
	uint64_t began = now_ns();
	char name[32];

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(address.sin_port));
	assert_int_equal(cw_segment_open(engine, name, NULL, &segment), CW_ERR_CONNECT);
	assert_null(segment);
	assert_non_null(strstr(cw_last_error(), name));
	assert_true(now_ns() - began < 2 * SECOND);
	close(fd);
	cw_engine_close(engine);
}

/* --------------------------------------------------------------------------------- 2, 3. quiet and visible */

static void terminal_means_quiet(void **state)
{
	(void)state;
	for (size_t way = 0; way < WAYS; way++) {
		struct cw_request requests[8];
		struct cw_batch_result result = { .size = sizeof(result) };
		struct cw_batch *batch;
		struct pair pair;

		pair_open(&pair, ways[way], LENGTH);
		memset(pair.there, 0x11, LENGTH);
		for (size_t i = 0; i < 8; i++)
			requests[i] = pair_request(&pair, CW_OP_READ, 0, 0, LENGTH);
		assert_int_equal(cw_batch_submit(pair.near, requests, 8, NULL, &batch), CW_OK);
		cw_batch_cancel(batch);
		assert_int_equal(cw_batch_wait(batch, 20 * SECOND), CW_OK);
		assert_int_equal(cw_batch_result_get(batch, &result), CW_OK);
		assert_int_equal(result.local_quiet, 1);
		memset(pair.here, 0x77, LENGTH); /* reads that were under way must not land here any more */
		cw_batch_release(batch);
		assert_int_equal(cw_segment_probe(pair.segment, 10 * SECOND, NULL), CW_OK);
		for (size_t i = 0; i < LENGTH; i++)
			if (pair.here[i] != 0x77)
				fail_msg("%s: byte %zu landed after the end", ways[way], i);
		pair_close(&pair);
	}
}

static void completed_means_visible(void **state)
{
	(void)state;
	for (size_t way = 0; way < WAYS; way++) {
		struct pair pair;

		pair_open(&pair, ways[way], 1u << 20);
		for (unsigned i = 0; i < 300; i++) {
			size_t length = 1 + i * 997 % 300000;
			struct cw_request request = pair_request(&pair, CW_OP_WRITE, 500000, i, length);

			memset(pair.here + 500000, (int)(i & 0xff), length);
			assert_int_equal(pair_run(&pair, &request, 1, NULL).state, CW_BATCH_COMPLETED);
			assert_memory_equal(pair.here + 500000, pair.there + i, length);
		}
		pair_close(&pair);
	}
}

/* ------------------------------------------------------------------------------------ 4. notifications */

static void notification_comes_at_most_once(void **state)
{
	static const uint64_t sequences[] = { 5, 3, 5, 3, 4, 4, 200, 199, 5, 100, 200, 201 };
	static const int fresh[] = { 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1 };
	struct cw_engine *engine = engine_open(NULL, 0);
	unsigned char instance[CW__INSTANCE_BYTES] = { 1, 2, 3 };
	struct cw__text name = { "n", 1 };
	struct cw_event event;

	(void)state;
	for (int sender = 0; sender < 2; sender++) { /* another instance counts for itself */
		instance[15] = (unsigned char)sender;
		for (size_t i = 0; i < sizeof(fresh) / sizeof(fresh[0]); i++) {
			assert_int_equal(
				cw__core_notify(&engine->host.base, instance, sequences[i], name, name, "x", 1), CW_OK);
			assert_int_equal(cw_queue_poll(cw_engine_queue(engine), &event, 1), fresh[i]);
			if (fresh[i])
				cw_event_clear(&event);
		}
	}
	cw_engine_close(engine);
}

/* One that could not be kept was not received: when it is sent again it must come. */
static void notification_refused_may_come_again(void **state)
{
	const struct cw_setting one = { "notify/max_pending", "1" };
	struct cw_engine *engine = engine_open(&one, 1);
	unsigned char instance[CW__INSTANCE_BYTES] = { 9 };
	struct cw__text name = { "n", 1 };
	struct cw_event event;

	(void)state;
	assert_int_equal(cw__core_notify(&engine->host.base, instance, 1, name, name, "x", 1), CW_OK);
	assert_int_equal(cw__core_notify(&engine->host.base, instance, 2, name, name, "y", 1), CW_ERR_LIMIT);
	assert_int_equal(cw_queue_poll(cw_engine_queue(engine), &event, 1), 1);
	cw_event_clear(&event);
	assert_int_equal(cw__core_notify(&engine->host.base, instance, 2, name, name, "y", 1), CW_OK);
	assert_int_equal(cw_queue_poll(cw_engine_queue(engine), &event, 1), 1);
	assert_memory_equal(event.data, "y", 1);
	cw_event_clear(&event);
	cw_engine_close(engine);
}

/* ------------------------------------------------------------------------- 5, 6. regions and the target */

static void device_belongs_to_the_region(void **state)
{
	struct cw_engine *engine = engine_open(NULL, 0);
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct cw_region_info info = { .size = sizeof(info) };
	static unsigned char memory[8192];
	struct cw_region *region;
	char location[32];

	(void)state;
	memset(memory, 1, sizeof(memory));
	assert_int_equal(cw_region_register(engine, memory, sizeof(memory), NULL, &region), CW_OK);
	assert_int_equal(cw_region_info_get(region, &info), CW_OK);
	assert_int_equal(info.kind, CW_MEMORY_HOST);
	assert_int_equal(info.device, -1);
	assert_int_equal(info.page_size, sysconf(_SC_PAGESIZE));
	if (info.numa_node >= 0) {
		snprintf(location, sizeof(location), "cpu:%d", info.numa_node);
		assert_string_equal(info.location, location);
	}
	assert_int_equal(cw_region_unregister(region), CW_OK);
	snprintf(location, sizeof(location), "%s", info.location);
	options.location = location; /* what was found may be stated */
	assert_int_equal(cw_region_register(engine, memory, sizeof(memory), &options, &region), CW_OK);
	cw_engine_close(engine);
}

static void the_target_decides(void **state)
{
	struct cw_engine *engine = engine_open(NULL, 0);
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	static unsigned char memory[8192];
	struct cw_engine_stats stats = { .size = sizeof(stats) };
	struct cw_region *region, *second;
	uint64_t at = (uint64_t)(uintptr_t)memory, old_key;
	struct cw_claim good;

	(void)state;
	options.access = CW_ACCESS_REMOTE_READ;
	assert_int_equal(cw_region_register(engine, memory, 4096, &options, &region), CW_OK);
	assert_int_equal(cw_region_register(engine, memory + 4096, 4096, &options, &second), CW_OK);
	assert_true(region->view.key != second->view.key);
	good = (struct cw_claim){
		.region_id = region->view.id, .key = region->view.key, .address = at, .length = 4096, .op = CW_OP_READ
	};
	const struct {
		const char *what;
		struct cw_claim claim;
		int status;
	} rows[] = {
#define CHANGED(field, value)                                                                                          \
	(__extension__({                                                                                               \
		struct cw_claim changed = good;                                                                        \
		changed.field = value;                                                                                 \
		changed;                                                                                               \
	}))
		{ "good", good, CW_OK },
		{ "key", CHANGED(key, good.key ^ 1), CW_ERR_ACCESS },
		{ "another region's key", CHANGED(key, second->view.key), CW_ERR_ACCESS },
		{ "generation", CHANGED(region_id, good.region_id + (UINT64_C(1) << 32)), CW_ERR_STALE_REGION },
		{ "slot", CHANGED(region_id, UINT64_C(0xffffffff)), CW_ERR_STALE_REGION },
		{ "one byte more", CHANGED(length, 4097), CW_ERR_NOT_REGISTERED },
		{ "one byte before", CHANGED(address, at - 1), CW_ERR_NOT_REGISTERED },
		{ "nothing", CHANGED(length, 0), CW_ERR_INVALID },
		{ "wrap", CHANGED(length, UINT64_MAX - at + 1), CW_ERR_INVALID },
		{ "right", CHANGED(op, CW_OP_WRITE), CW_ERR_ACCESS },
		{ "space", CHANGED(space, 1), CW_ERR_INVALID },
#undef CHANGED
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int status = cw__host_access_check(&engine->host.base, &rows[i].claim);

		if (status != rows[i].status)
			fail_msg("%s: %s", rows[i].what, cw_status_name(status));
	}
	assert_int_equal(cw_engine_stats_get(engine, &stats), CW_OK);
	assert_int_equal(stats.requests_refused, sizeof(rows) / sizeof(rows[0]) - 1);
	old_key = region->view.key;
	assert_int_equal(cw_region_unregister(region), CW_OK);
	assert_int_equal(cw__host_access_check(&engine->host.base, &good), CW_ERR_STALE_REGION);
	assert_int_equal(cw_region_register(engine, memory, 4096, &options, &region), CW_OK);
	assert_true(region->view.key != old_key && region->view.id != good.region_id);
	assert_int_equal(cw__host_access_check(&engine->host.base, &good), CW_ERR_STALE_REGION);
	cw_engine_close(engine);
}

/* ------------------------------------------------------------------------------------ 7. no surprises */

static uint64_t environment_hash(void)
{
	uint64_t hash = 1;

	for (char **at = environ; *at; at++)
		for (const char *c = *at; *c; c++)
			hash = hash * 31 + (unsigned char)*c;
	return hash;
}

/* Sockets of this process that listen on an address other than 127.0.0.1. */
static int foreign_listeners(void)
{
	unsigned entries = own_entries("fd") + 64;
	int count = 0;

	for (int fd = 0; fd < (int)entries + 64; fd++) {
		struct sockaddr_storage address;
		socklen_t length = sizeof(address), size = sizeof(int);
		int listening = 0;

		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) || !listening ||
		    getsockname(fd, (struct sockaddr *)&address, &length) || address.ss_family == AF_UNIX)
			continue;
		count += address.ss_family != AF_INET ||
			 ((struct sockaddr_in *)&address)->sin_addr.s_addr != htonl(INADDR_LOOPBACK);
	}
	return count;
}

static void no_surprises_in_the_host_process(void **state)
{
	struct sigaction before[NSIG], after;
	uint64_t environment = environment_hash();
	int dumpable = prctl(PR_GET_DUMPABLE), out = dup(1), error = dup(2);
	char path[] = "/tmp/causeway-promises-XXXXXX";
	int file = mkstemp(path), foreign = 0;
	struct stat written;
	sigset_t mask, mask_after;

	(void)state;
	assert_true(file >= 0);
	unlink(path);
	for (int i = 1; i < NSIG; i++)
		sigaction(i, NULL, &before[i]);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	fflush(NULL);
	dup2(file, 1);
	dup2(file, 2);
	for (size_t way = 0; way < WAYS; way++) {
		struct pair pair, another;
		struct cw_request request;

		pair_open(&pair, ways[way], 65536);
		pair_open(&another, ways[way], 65536);
		request = pair_request(&pair, CW_OP_WRITE, 0, 0, 65536);
		pair_run(&pair, &request, 1, NULL);
		request = pair_request(&another, CW_OP_READ, 0, 1, 65536); /* fails: that is no reason to print */
		pair_run(&another, &request, 1, NULL);
		foreign += foreign_listeners();
		pair_close(&pair);
		pair_close(&another);
	}
	fflush(NULL);
	dup2(out, 1);
	dup2(error, 2);
	close(out);
	close(error);
	assert_int_equal(fstat(file, &written), 0);
	assert_int_equal(written.st_size, 0);
	close(file);
	assert_int_equal(foreign, 0);
	for (int i = 1; i < NSIG; i++)
		if (!sigaction(i, NULL, &after))
			assert_true(after.sa_handler == before[i].sa_handler && after.sa_flags == before[i].sa_flags);
	pthread_sigmask(SIG_BLOCK, NULL, &mask_after);
	for (int i = 1; i < NSIG; i++)
		assert_int_equal(sigismember(&mask, i), sigismember(&mask_after, i));
	assert_true(environment_hash() == environment);
	assert_int_equal(prctl(PR_GET_DUMPABLE), dumpable);
}

/* -------------------------------------------------------------------------------------- 8. no polling */

static int is_readable(int fd, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, timeout_ms) == 1;
}

static void no_polling_needed(void **state)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch *batches[3];
	struct cw_event events[4];
	struct cw_request request;
	struct cw_queue *queue;
	struct pair pair;
	int fd;

	(void)state;
	pair_open(&pair, "tcp", 65536);
	request = pair_request(&pair, CW_OP_WRITE, 0, 0, 65536);
	assert_int_equal(cw_queue_open(pair.near, &queue), CW_OK);
	fd = cw_queue_fd(queue);
	options.queue = queue;
	/* Not armed: an event, but no write. */
	assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batches[0]), CW_OK);
	assert_int_equal(cw_batch_wait(batches[0], 10 * SECOND), CW_OK);
	assert_false(is_readable(fd, 0));
	assert_int_equal(cw_queue_arm(queue), CW_ERR_BUSY);
	assert_int_equal(cw_queue_wait(queue, events, 4, SECOND), 1);
	/* Armed: readable with the first event, until the queue is empty. */
	assert_int_equal(cw_queue_arm(queue), CW_OK);
	assert_false(is_readable(fd, 0));
	assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batches[1]), CW_OK);
	assert_true(is_readable(fd, 10000));
	assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batches[2]), CW_OK);
	assert_int_equal(cw_batch_wait(batches[2], 10 * SECOND), CW_OK);
	assert_int_equal(cw_queue_poll(queue, events, 1), 1);
	assert_true(is_readable(fd, 0));
	assert_int_equal(cw_queue_wait(queue, events, 4, SECOND), 1);
	assert_false(is_readable(fd, 0));
	/* And disarmed by that. */
	for (int i = 0; i < 3; i++)
		cw_batch_release(batches[i]);
	assert_int_equal(cw_batch_submit(pair.near, &request, 1, &options, &batches[0]), CW_OK);
	assert_int_equal(cw_batch_wait(batches[0], 10 * SECOND), CW_OK);
	assert_int_equal(cw_queue_wait(queue, events, 4, SECOND), 1);
	assert_false(is_readable(fd, 0));
	cw_batch_release(batches[0]);
	cw_queue_close(queue);
	pair_close(&pair);
}

/* A program with poll() alone, without progress threads: the default queue's fd tells when to call progress. */
static void no_polling_needed_without_threads(void **state)
{
	const struct cw_setting none = { "progress/threads", "0" };
	struct cw_engine *near = engine_open(NULL, 0), *far = engine_open(&none, 1);
	struct cw_queue *queue = cw_engine_queue(far);
	struct cw_notify notify = { .name = "hello" };
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_segment *segment = NULL;
	struct cw_event event = { 0 };
	struct cw_batch *batch;
	uint64_t until = now_ns() + 10 * SECOND;
	int received = 0;

	(void)state;
	/* far opens near, so that the connection exists; the notification goes to itself by its own loop. */
	assert_int_equal(cw_segment_open(far, cw_engine_name(near), NULL, &segment), CW_OK);
	notify.segment = segment;
	options.notify = &notify;
	options.notify_count = 1;
	options.queue = queue;
	assert_int_equal(cw_batch_submit(far, NULL, 0, &options, &batch), CW_OK);
	while (!received && now_ns() < until) {
		if (cw_queue_arm(queue) == CW_OK)
			assert_true(is_readable(cw_queue_fd(queue), 10000));
		received = cw_queue_poll(queue, &event, 1);
	}
	assert_int_equal(received, 1);
	assert_int_equal(event.kind, CW_EVENT_BATCH);
	assert_int_equal(cw_batch_poll(batch), CW_BATCH_COMPLETED);
	cw_batch_release(batch);
	cw_engine_close(far);
	cw_engine_close(near);
}

/* ---------------------------------------------------------------------------- 9, 10. paths and one build */

static void the_path_can_be_seen_and_demanded(void **state)
{
	const struct cw_setting no_shm = { "transports/shm/enable", "off" };
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_path_step steps[8];
	struct cw_segment *segment = NULL;
	struct cw_engine *engine;
	struct cw_request request;
	struct pair pair;
	size_t count;

	(void)state;
	pair_open(&pair, "tcp", 65536);
	assert_int_equal(cw_path_explain(pair.segment, pair.here, (uint64_t)(uintptr_t)pair.there, 100, CW_OP_WRITE,
					 steps, 8, &count),
			 CW_OK);
	assert_string_equal(steps[0].transport, "tcp");
	assert_true(steps[0].chosen && steps[0].rails > 0 && steps[0].gigabytes_per_second > 0 && *steps[0].checks);
	for (size_t i = 1; i < count; i++)
		assert_true(!steps[i].chosen && *steps[i].why);
	/* Demanded, but it cannot carry this pair: that fails rather than goes another way. */
	options.transports = "local";
	options.strict = 1;
	if (!cw_segment_open(pair.near, cw_engine_name(pair.far), &options, &segment)) {
		struct pair strict = pair;

		strict.segment = segment;
		request = pair_request(&strict, CW_OP_WRITE, 0, 0, 100);
		assert_int_equal(pair_run(&strict, &request, 1, NULL).status, CW_ERR_NO_PATH);
		cw_segment_close(segment);
	}
	options.transports = "warp";
	assert_int_equal(cw_segment_open(pair.near, cw_engine_name(pair.far), &options, &segment), CW_ERR_INVALID);
	assert_non_null(strstr(cw_last_error(), "warp"));
	engine = engine_open(&no_shm, 1);
	options.transports = "shm";
	assert_int_equal(cw_segment_open(engine, cw_engine_name(pair.far), &options, &segment), CW_ERR_NO_PATH);
	assert_non_null(strstr(cw_last_error(), "shm"));
	cw_engine_close(engine);
	pair_close(&pair);
}

static void note_transport(void *arg, const char *name, int on, const char *why)
{
	int *seen = arg;

	assert_true(*name && *why);
	if (!strcmp(name, "shm") || !strcmp(name, "fault")) { /* the other one is off by default */
		assert_int_equal(on, 0);
		assert_non_null(strstr(why, "setting"));
	} else if (!strcmp(name, "local") || !strcmp(name, "tcp")) {
		assert_int_equal(on, 1);
	}
	++*seen;
}

static void one_build_for_every_machine(void **state)
{
	const struct cw_setting no_shm = { "transports/shm/enable", "off" };
	struct cw_engine *engine = engine_open(&no_shm, 1);
	int seen = 0;

	(void)state;
	assert_int_equal(cw_engine_transports(engine, note_transport, &seen), CW_OK);
	assert_true(seen >= 3);
	cw_engine_close(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_terminal_state),
		cmocka_unit_test(one_terminal_state_for_long_chains),
		cmocka_unit_test(one_terminal_state_fail_fast),
		cmocka_unit_test(one_terminal_state_of_an_opening),
		cmocka_unit_test(terminal_means_quiet),
		cmocka_unit_test(completed_means_visible),
		cmocka_unit_test(notification_comes_at_most_once),
		cmocka_unit_test(notification_refused_may_come_again),
		cmocka_unit_test(device_belongs_to_the_region),
		cmocka_unit_test(the_target_decides),
		cmocka_unit_test(no_surprises_in_the_host_process),
		cmocka_unit_test(no_polling_needed),
		cmocka_unit_test(no_polling_needed_without_threads),
		cmocka_unit_test(the_path_can_be_seen_and_demanded),
		cmocka_unit_test(one_build_for_every_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
