/* SPDX-License-Identifier: Apache-2.0 */
/* Engines: opening in an order in which each step can be undone, closing in the reverse, and what users ask of one. */
#include <core/device.h>
#include <core/naming.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#define ALIVE 0xa5

/* The kernel shows a forked child zeroes in this page: the cheapest way to tell it from its parent. */
static int alive_page(struct cw_engine *engine)
{
	size_t length = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *page = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	if (madvise(page, length, MADV_WIPEONFORK)) {
		munmap(page, length);
		return cw__fail(CW_ERR_UNSUPPORTED, "MADV_WIPEONFORK: %s; Linux 4.14 or later is needed",
				strerror(errno));
	}
	*page = ALIVE;
	engine->alive = page;
	return CW_OK;
}

int cw__engine_check(const struct cw_engine *engine)
{
	if (!engine)
		return cw__fail(CW_ERR_INVALID, "no engine");
	if (*engine->alive != ALIVE)
		return cw__fail(CW_ERR_FORKED, "this engine belongs to the parent process; open one after fork()");
	return CW_OK;
}

struct cw_loop *cw__loop_choose(struct cw_engine *engine)
{
	return &engine->loops[atomic_fetch_add_explicit(&engine->loop_next, 1, memory_order_relaxed) %
			      engine->loop_count];
}

/* 16 bytes that are the same for all processes of this boot of this machine and container, and nowhere else. */
static void machine_id(unsigned char out[CW__INSTANCE_BYTES])
{
	static const char *const files[] = { "/proc/sys/kernel/random/boot_id", "/etc/machine-id" };
	uint64_t hash[2] = { UINT64_C(0xcbf29ce484222325), UINT64_C(0x84222325cbf29ce4) };

	for (size_t i = 0; i < 2; i++) {
		FILE *file = fopen(files[i], "re");
		int byte;

		while (file && (byte = fgetc(file)) != EOF) {
			hash[0] = (hash[0] ^ (uint64_t)byte) * UINT64_C(0x100000001b3);
			hash[1] = (hash[1] + (uint64_t)byte) * UINT64_C(0x9e3779b97f4a7c15);
		}
		if (file)
			fclose(file);
	}
	memcpy(out, hash, CW__INSTANCE_BYTES);
}

static int name_engine(struct cw_engine *engine, const char *name)
{
	uint16_t port = 0;

	if (!name)
		name = "127.0.0.1";
	if (cw__address_parse(name, 1, engine->bind_host, sizeof(engine->bind_host), &port))
		return cw__fail(CW_ERR_ADDRESS, "engine name '%s' is not host, host:port, [v6] or [v6]:port", name);
	snprintf(engine->name, sizeof(engine->name), "%s", name);
	return CW_OK;
}

/* With the port known, the name is what peers can open. */
static int finish_name(struct cw_engine *engine)
{
	return cw__address_format(engine->bind_host, engine->port, engine->name, sizeof(engine->name))
		       ? CW_OK
		       : cw__fail(CW_ERR_ADDRESS, "the engine's name is too long");
}

static int open_loops(struct cw_engine *engine)
{
	engine->thread_count = (unsigned)cw__config_number(&engine->config, "progress/threads", 1);
	engine->loops = calloc(engine->thread_count ? engine->thread_count : 1, sizeof(*engine->loops));
	if (!engine->loops)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	do {
		int status = cw__loop_open(&engine->loops[engine->loop_count], engine);

		if (status)
			return status;
		if (!engine->thread_count) /* nobody sleeps, but the fd must always be written */
			atomic_store_explicit(&engine->loops[0].sleeping, 1, memory_order_relaxed);
		engine->loop_count++;
	} while (engine->loop_count < engine->thread_count);
	return CW_OK;
}

static int init_engine(struct cw_engine *engine, const struct cw_engine_options *options)
{
	int status;

	engine->host = (struct cw__host){ { &cw__host_ops, &engine->host.base }, engine };
	cw__list_init(&engine->segments);
	cw__list_init(&engine->queues);
	cw__list_init(&engine->batches);
	pthread_mutex_init(&engine->lock, NULL);
	pthread_mutex_init(&engine->region_lock, NULL);
	pthread_mutex_init(&engine->batch_lock, NULL);
	pthread_mutex_init(&engine->sender_lock, NULL);
	engine->queue.event_fd = engine->queue.fd = -1;
	status = cw__config_init(&engine->config);
	if (!status)
		status = cw__config_load(&engine->config, options);
	if (status)
		return status;
	cw__log_init(&engine->log, options->log, options->log_arg, cw__config_text(&engine->config, "log/level"));
	engine->verify_memory = cw__config_number(&engine->config, "memory/verify", 0) != 0;
	engine->grace = cw__config_number(&engine->config, "batch/grace", 0);
	engine->spin = cw__config_number(&engine->config, "progress/spin_us", 0) * 1000;
	engine->retries = cw__config_number(&engine->config, "batch/retries", 0);
	engine->max_slices = cw__config_number(&engine->config, "engine/max_slices", 0);
	machine_id(engine->machine);
	if (getrandom(engine->instance, sizeof(engine->instance), 0) != sizeof(engine->instance))
		return cw__fail(CW_ERR_INTERNAL, "no random numbers: %s", strerror(errno));
	status = cw__staging_open(engine);
	if (!status && cw__shards_open(engine))
		status = cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	if (status)
		return status;
	engine->index = cw__index_open();
	engine->slots = calloc(65536, sizeof(*engine->slots));
	if (!engine->index || !engine->slots)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	return name_engine(engine, options->name);
}

static int start_engine(struct cw_engine *engine)
{
	const char *why = NULL;
	int status = open_loops(engine);

	if (!status)
		status = cw__queue_init(&engine->queue, engine);
	if (!status)
		status = cw__control.open(&engine->host.base, &engine->control, &engine->port, &why);
	if (status)
		return why ? cw__fail(status, "%s", why) : status;
	status = finish_name(engine);
	if (!status)
		status = cw__parts_open(engine);
	if (!status)
		status = cw__naming_choose(engine);
	for (unsigned i = 0; !status && i < engine->thread_count; i++)
		status = cw__loop_start(&engine->loops[i]);
	return status ? status : cw__directory.start(engine->directory);
}

/* Turns every loop until pred, a count, is zero or the time is over. */
static void turn_until_zero(struct cw_engine *engine, _Atomic uint64_t *count, uint64_t until)
{
	do {
		for (unsigned i = 0; i < engine->loop_count; i++) {
			cw__loop_lock(&engine->loops[i]);
			cw__loop_turn(&engine->loops[i]);
			cw__loop_unlock(&engine->loops[i]);
		}
	} while (atomic_load_explicit(count, memory_order_acquire) && cw__now() < until);
}

/* Segments that requests still hold are let go by force: their transports end every slice. */
static void drop_segments(struct cw_engine *engine)
{
	for (unsigned i = 0; i < engine->loop_count; i++) {
		struct cw_loop *loop = &engine->loops[i];

		cw__loop_lock(loop);
		cw__list_each(node, &loop->segments)
			cw__segment_drop(cw__container(node, struct cw_segment, loop_node));
		cw__loop_unlock(loop);
	}
}

static void stop_engine(struct cw_engine *engine)
{
	if (!engine->loop_count)
		return;
	cw__batches_cancel(engine);
	atomic_store_explicit(&engine->stopping, 1, memory_order_release);
	for (unsigned i = 0; i < engine->loop_count; i++)
		cw__loop_stop(&engine->loops[i]);
	turn_until_zero(engine, &engine->batches_unfinished, cw__now() + engine->grace);
	cw__staging_stop(engine, cw__now() + CW__SECOND);
	drop_segments(engine);
	turn_until_zero(engine, &engine->batches_unfinished, cw__now() + CW__SECOND);
	cw__segments_close(engine);
	cw__batches_close(engine);
	turn_until_zero(engine, &engine->segments_alive, cw__now() + CW__SECOND);
}

/* What is left when nothing runs any more. */
static void free_rest(struct cw_engine *engine)
{
	cw__regions_close(engine);
	cw__parts_close(engine);
	cw__platforms_close(engine);
	while (!cw__list_empty(&engine->queues)) {
		struct cw_queue *queue = cw__container(cw__list_pop(&engine->queues), struct cw_queue, node);

		cw__queue_destroy(queue);
		free(queue);
	}
	if (engine->queue.engine)
		cw__queue_destroy(&engine->queue);
	cw__staging_close(engine);
	if (engine->kept)
		return;
	for (unsigned i = 0; i < engine->loop_count; i++)
		cw__loop_close(&engine->loops[i]);
	free(engine->loops);
	free(engine->senders);
	free(engine->shards);
	cw__config_free(&engine->config);
	if (engine->alive)
		munmap((void *)engine->alive, (size_t)sysconf(_SC_PAGESIZE));
	pthread_mutex_destroy(&engine->lock);
	pthread_mutex_destroy(&engine->region_lock);
	pthread_mutex_destroy(&engine->batch_lock);
	pthread_mutex_destroy(&engine->sender_lock);
	free(engine);
}

static void free_engine(struct cw_engine *engine)
{
	if (engine->directory) /* first of all, so that nobody finds what is about to go */
		cw__directory.stop(engine->directory);
	stop_engine(engine);
	if (engine->control)
		cw__control.close(engine->control);
	engine->control = NULL;
	engine->log.level = -1; /* the caller may take back what it logs to */
	/* A thread that a device holds will come back to all this, perhaps much later. */
	if (!cw__staging_leave(engine, free_rest))
		free_rest(engine);
}

int cw_engine_open(const struct cw_engine_options *options, struct cw_engine **engine_out)
{
	static const struct cw_engine_options defaults = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine;
	int status;

	if (!options)
		options = &defaults;
	if (options->size != sizeof(*options) || !engine_out || (options->setting_count && !options->settings))
		return cw__fail(CW_ERR_INVALID, "engine options: wrong size or incomplete; use CW_ENGINE_OPTIONS_INIT");
	engine = calloc(1, sizeof(*engine));
	if (!engine)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory");
	status = init_engine(engine, options);
	if (!status)
		status = alive_page(engine);
	if (!status)
		status = start_engine(engine);
	if (status) {
		char text[256];

		snprintf(text, sizeof(text), "%s", cw_last_error());
		free_engine(engine);
		return cw__fail(status, "%s", text);
	}
	*engine_out = engine;
	return CW_OK;
}

void cw_engine_close(struct cw_engine *engine)
{
	/* In a forked child the threads and sockets are the parent's: leave everything as it is. */
	if (engine && !cw__engine_check(engine))
		free_engine(engine);
}

const char *cw_engine_name(const struct cw_engine *engine)
{
	return engine ? engine->name : "";
}

int cw_engine_progress(struct cw_engine *engine)
{
	int status = cw__engine_check(engine);

	for (unsigned i = 0; !status && i < engine->loop_count; i++) {
		if (!cw__loop_trylock(&engine->loops[i]))
			continue;
		cw__loop_turn(&engine->loops[i]);
		cw__loop_unlock(&engine->loops[i]);
	}
	return status;
}

int cw_engine_settings(struct cw_engine *engine, cw_setting_fn fn, void *arg)
{
	int status = engine ? cw__engine_check(engine) : CW_OK;

	if (status || !fn)
		return status ? status : cw__fail(CW_ERR_INVALID, "no function to call");
	for (size_t i = 0; i < cw__config_count(); i++) {
		const char *key, *fallback, *help;

		cw__config_describe(i, &key, &fallback, &help);
		if (engine)
			fn(arg, key, cw__config_shown(&engine->config, i), engine->config.values[i].origin, help);
		else
			fn(arg, key, fallback, "default", help);
	}
	return CW_OK;
}

int cw_engine_transports(struct cw_engine *engine, cw_transport_fn fn, void *arg)
{
	int status = cw__engine_check(engine);

	if (!status && !fn)
		status = cw__fail(CW_ERR_INVALID, "no function to call");
	for (unsigned i = 0; !status && i < engine->part_count; i++)
		fn(arg, engine->parts[i].ops->name, engine->parts[i].on, engine->parts[i].why);
	return status;
}

int cw_engine_platforms(struct cw_engine *engine, cw_transport_fn fn, void *arg)
{
	int status = cw__engine_check(engine);

	if (!status && !fn)
		status = cw__fail(CW_ERR_INVALID, "no function to call");
	for (unsigned i = 0; !status && i < engine->platform_count; i++)
		fn(arg, engine->platforms[i].ops->name, engine->platforms[i].on, engine->platforms[i].why);
	return status;
}

int cw_engine_stats_get(struct cw_engine *engine, struct cw_engine_stats *stats_out)
{
	int status = cw__engine_check(engine);
	uint64_t batches;

	if (!status && (!stats_out || stats_out->size != sizeof(*stats_out)))
		status = cw__fail(CW_ERR_INVALID, "engine statistics: set its size");
	if (status)
		return status;
	batches = atomic_load_explicit(&engine->batches_alive, memory_order_relaxed);
#define COPY(name) stats_out->name = atomic_load_explicit(&engine->counters.name, memory_order_relaxed);
	CW__COUNTERS(COPY)
#undef COPY
	for (unsigned i = 0; i < CW__SHARDS; i++) {
		struct cw__shard *shard = &engine->shards[i];

#define ADD(name) stats_out->name += atomic_load_explicit(&shard->counters.name, memory_order_relaxed);
		CW__COUNTERS(ADD)
#undef ADD
		batches += atomic_load_explicit(&shard->batches_alive, memory_order_relaxed);
	}
	stats_out->regions = atomic_load_explicit(&engine->regions_alive, memory_order_relaxed);
	stats_out->segments = atomic_load_explicit(&engine->segments_alive, memory_order_relaxed);
	stats_out->batches = batches;
	return CW_OK;
}
