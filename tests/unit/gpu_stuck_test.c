/* SPDX-License-Identifier: Apache-2.0 */
/* A runtime that does not come back when it is asked about an event: the batch that waits ends in time, its engine
 * closes, and when the runtime works again so do the engines that are opened then. */
#include <fcntl.h>
#include <platforms/gpu/gpu.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/devices.h"
#include "support/pair.h"

static char folder[] = "/tmp/causeway-test-XXXXXX";
static char gate[64], faults[64];
static _Atomic int go_on;

/* Keeps a stream busy. */
static void hold(void *arg)
{
	uint64_t until = now_ns() + 30 * SECOND;

	(void)arg;
	while (!atomic_load(&go_on) && now_ns() < until)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
}

static enum cw_batch_state wait_for_device(struct cw_engine *engine, void *stream, uint64_t within)
{
	const struct cw_device_sync sync = { "sunrise:0", CW_DEVICE_STREAM, stream };
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	enum cw_batch_state state;
	struct cw_batch *batch;

	options.device_after = &sync;
	options.device_after_count = 1;
	options.deadline_ns = now_ns() + within;
	assert_int_equal(cw_batch_submit(engine, NULL, 0, &options, &batch), CW_OK);
	assert_int_equal(cw_batch_wait(batch, 20 * SECOND), CW_OK);
	state = cw_batch_poll(batch);
	cw_batch_release(batch);
	return state;
}

static void an_engine_closes_while_the_runtime_is_stuck(void **state)
{
	struct cw_engine *engine = engine_open(NULL, 0);
	const char *why;
	const struct cw__gpu *gpu = cw__gpu_load(CW__GPU_TANG, &why);
	struct cw__gpu_scope scope;
	uint64_t began;
	void *stream;

	(void)state;
	assert_non_null(gpu);
	assert_int_equal(gpu->enter(0, &scope), 0);
	assert_int_equal(gpu->stream_open(&stream), 0);
	assert_int_equal(gpu->call_host(stream, hold, NULL), 0);
	gpu->leave(&scope);
	assert_int_equal(wait_for_device(engine, stream, 200 * MS), CW_BATCH_TIMED_OUT);
	began = now_ns();
	cw_engine_close(engine);
	assert_true(now_ns() - began < 15 * SECOND);
	close(open(gate, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); /* the call returns */
	atomic_store(&go_on, 1);
	engine = engine_open(NULL, 0);
	assert_int_equal(wait_for_device(engine, stream, 10 * SECOND), CW_BATCH_COMPLETED);
	cw_engine_close(engine);
	assert_int_equal(gpu->enter(0, &scope), 0);
	assert_int_equal(gpu->stream_close(stream), 0);
	gpu->leave(&scope);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_engine_closes_while_the_runtime_is_stuck),
	};
	FILE *file;
	int failed;

	if (!emulated_devices()) {
		print_message("skipped: the emulated Tang runtime is not built\n");
		return 77;
	}
	if (!mkdtemp(folder))
		return 1;
	snprintf(gate, sizeof(gate), "%s/gate", folder);
	snprintf(faults, sizeof(faults), "%s/faults", folder);
	file = fopen(faults, "we");
	if (!file)
		return 1;
	/* The first question is the submitter's, the second one the watching thread's. */
	fprintf(file, "tangEventQuery call=2 hang %s\n", gate);
	fclose(file);
	setenv("CAUSEWAY_EMULATE_FAULTS", faults, 1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(gate);
	unlink(faults);
	rmdir(folder);
	return failed;
}
