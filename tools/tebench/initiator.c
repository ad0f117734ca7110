/* SPDX-License-Identifier: Apache-2.0 */
/* The initiator: finds the target's memory, goes through the sweep, and prints one row for each point. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/engine.h"
#include "lib/stop.h"
#include "point.h"
#include "tebench.h"

#define REGIONS_MAX 1024
#define RULE 160 /* dashes below the head */

struct remotes {
	struct cw_remote_region list[REGIONS_MAX];
	size_t count;
};

static int by_device(const void *a, const void *b)
{
	const struct cw_remote_region *x = a, *y = b;

	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

static uint32_t needed_access(const struct tebench_options *options)
{
	if (options->op_type == OP_WRITE_SEED || (options->op_type == OP_WRITE && !options->check_consistency))
		return CW_ACCESS_REMOTE_WRITE;
	if (options->op_type == OP_READ_VERIFY || (options->op_type == OP_READ && !options->check_consistency))
		return CW_ACCESS_REMOTE_READ;
	return CW_ACCESS_REMOTE;
}

/* Keeps those that can be used: device memory when there is any, else host memory. */
static void choose_remotes(const struct tebench_options *options, struct remotes *remotes)
{
	uint32_t needed = needed_access(options);
	int devices = 0;
	size_t kept = 0;

	for (size_t i = 0; i < remotes->count; i++)
		if ((remotes->list[i].access & needed) == needed && remotes->list[i].kind == CW_MEMORY_DEVICE)
			devices = 1;
	for (size_t i = 0; i < remotes->count; i++)
		if ((remotes->list[i].access & needed) == needed &&
		    (remotes->list[i].kind == CW_MEMORY_DEVICE) == devices)
			remotes->list[kept++] = remotes->list[i];
	remotes->count = kept;
	if (devices)
		qsort(remotes->list, kept, sizeof(remotes->list[0]), by_device);
}

/* The region of thread 0: on the device that was asked for. */
static int first_remote(const struct tebench_options *options, const struct remotes *remotes, size_t *first_out)
{
	*first_out = 0;
	if (remotes->list[0].kind != CW_MEMORY_DEVICE || options->target_gpu_id < 0)
		return 0;
	for (size_t i = 0; i < remotes->count; i++) {
		if (remotes->list[i].device == options->target_gpu_id) {
			*first_out = i;
			return 0;
		}
	}
	fprintf(stderr, "%s: the target offers no memory of GPU %d; it has", COMMAND, options->target_gpu_id);
	for (size_t i = 0; i < remotes->count; i++)
		fprintf(stderr, "%s %s", i ? "," : "", remotes->list[i].location);
	fprintf(stderr, "\n");
	return -1;
}

static int use_remotes(struct initiator *initiator, const struct remotes *remotes)
{
	const struct tebench_options *options = initiator->options;
	size_t first;

	if (remotes->count == 0) {
		fprintf(stderr, "%s: the target offers no memory that can be used for this\n", COMMAND);
		return -1;
	}
	if (first_remote(options, remotes, &first) != 0)
		return -1;
	initiator->remote_count = remotes->count < BUFFERS_MAX ? remotes->count : BUFFERS_MAX;
	for (size_t i = 0; i < initiator->remote_count; i++) {
		const struct cw_remote_region *region = &remotes->list[(first + i) % remotes->count];
		uint64_t rest;

		if (options->target_offset >= region->length ||
		    options->target_range_size > region->length - options->target_offset) {
			fprintf(stderr,
				"%s: --target_offset and --target_range_size reach beyond a buffer of %llu bytes\n",
				COMMAND, (unsigned long long)region->length);
			return -1;
		}
		rest = options->target_range_size ? options->target_range_size
						  : region->length - options->target_offset;
		initiator->remotes[i] = region->address + options->target_offset;
		if (rest < initiator->window)
			initiator->window = rest;
	}
	return 0;
}

static int find_remotes(struct initiator *initiator)
{
	static struct remotes remotes;
	int status = cw_segment_regions(initiator->segment, remotes.list, REGIONS_MAX, &remotes.count);

	if (status != CW_OK) {
		engine_report(COMMAND, "cannot list the target's memory", status);
		return -1;
	}
	if (remotes.count > REGIONS_MAX)
		remotes.count = REGIONS_MAX;
	choose_remotes(initiator->options, &remotes);
	return use_remotes(initiator, &remotes);
}

/* ---------------------------------------------------------------------------------------------- the table */

static void print_head(void)
{
	printf("%-14s%-8s%-14s%-18s%-14s%-14s%-14s%-14s\n", "BlkSize (B)", "Batch", "BW (GB/s)", "Avg Inst GB/s",
	       "Avg Lat (us)", "Avg Tx (us)", "P99 Tx (us)", "P999 Tx (us)");
	for (int i = 0; i < RULE; i++)
		putchar('-');
	putchar('\n');
	fflush(stdout);
}

/* Between the two nearest of the sorted times. */
static double percentile_us(const struct point_result *result, double percent)
{
	double rank = percent / 100 * (double)(result->count - 1), whole = floor(rank);
	size_t at = (size_t)whole;
	double low = (double)result->times_ns[at];
	double high = (double)result->times_ns[at + 1 < result->count ? at + 1 : at];

	return (low + (rank - whole) * (high - low)) / 1e3;
}

static void print_group(const char *name, const struct point *point, uint64_t deadline_us, const struct group *group)
{
	double bytes = (double)(point->block * point->batch) * (double)group->operations;

	if (group->threads)
		printf("  [%s] threads=%llu deadline_us=%llu operations=%llu throughput=%.6f GB/s\n", name,
		       (unsigned long long)group->threads, (unsigned long long)deadline_us,
		       (unsigned long long)group->operations, bytes / 1e9 / (group->seconds / (double)group->threads));
}

static void print_row(const struct initiator *initiator, const struct point *point, const struct point_result *result)
{
	const struct tebench_options *options = initiator->options;
	double bytes = (double)(point->block * point->batch), count = (double)result->count;
	double mean_duration = result->thread_seconds / (double)point->threads;
	double sum_ns = 0, sum_speed = 0; /* bytes a nanosecond are GB/s */

	for (size_t i = 0; i < result->count; i++) {
		double time = result->times_ns[i] ? (double)result->times_ns[i] : 1;

		sum_ns += time;
		sum_speed += bytes / time;
	}
	printf("%-14llu%-8llu%-14.6f%-18.6f%-14.1f%-14.1f%-14.1f%-14.1f\n", (unsigned long long)point->block,
	       (unsigned long long)point->batch, bytes * count / 1e9 / mean_duration, sum_speed / count,
	       result->thread_seconds * 1e6 / count, sum_ns / count / 1e3, percentile_us(result, 99),
	       percentile_us(result, 99.9));
	if (options->deadline_us && options->deadline_tight_threads) {
		print_group("deadline-tight", point, options->deadline_us, &result->tight);
		print_group("deadline-loose", point, 0, &result->loose);
	}
	fflush(stdout);
	if (result->tight.missed)
		fprintf(stderr, "%s: %llu of %llu batches missed their deadline of %llu us and are not in this row\n",
			COMMAND, (unsigned long long)result->tight.missed,
			(unsigned long long)(result->tight.missed + result->tight.operations),
			(unsigned long long)options->deadline_us);
}

/* ---------------------------------------------------------------------------------------------- the sweep */

static int run_point(const struct initiator *initiator, const struct point *point)
{
	struct point_result result;
	int status = point_run(initiator, point, &result);

	if (status == 0 && result.count)
		print_row(initiator, point, &result);
	else if (result.error[0])
		fprintf(stderr, "%s: %llu bytes x %llu x %llu threads: %s\n", COMMAND, (unsigned long long)point->block,
			(unsigned long long)point->batch, (unsigned long long)point->threads, result.error);
	point_free(&result);
	return status;
}

static int fits(const struct initiator *initiator, const struct point *point)
{
	/* The options' limits keep this below 2^76, so it is compared in two steps. */
	uint64_t blocks = point->batch * point->threads;

	if (point->block <= initiator->window / blocks)
		return 1;
	fprintf(stderr, "%s: skipped: %llu bytes x %llu x %llu threads is more than the %llu bytes there are\n",
		COMMAND, (unsigned long long)point->block, (unsigned long long)point->batch,
		(unsigned long long)point->threads, (unsigned long long)initiator->window);
	return 0;
}

static int sweep(const struct initiator *initiator)
{
	const struct tebench_options *options = initiator->options;
	struct point point;
	int done = 0, failed = 0;

	print_head();
	for (point.threads = options->start_num_threads; point.threads <= options->max_num_threads;
	     point.threads *= 2) {
		if (options->start_num_threads != options->max_num_threads)
			fprintf(stderr, "%s: threads: %llu\n", COMMAND, (unsigned long long)point.threads);
		for (point.block = options->start_block_size; point.block <= options->max_block_size;
		     point.block *= 2) {
			for (point.batch = options->start_batch_size; point.batch <= options->max_batch_size;
			     point.batch *= 2) {
				if (stop_requested())
					return failed;
				if (!fits(initiator, &point))
					continue;
				failed |= run_point(initiator, &point) != 0;
				done = 1;
			}
		}
	}
	return failed || !done;
}

int tebench_initiate(const struct tebench_options *options)
{
	struct initiator initiator = { .options = options, .window = options->total_buffer_size };
	int failed = 1;

	if (tebench_open_engine(options, &initiator.engine) != 0)
		return 1;
	if (engine_transports_check(COMMAND, initiator.engine, options->xport_type) != 0)
		goto close_engine;
	if (engine_segment_open(COMMAND, initiator.engine, options->target_seg_name, options->xport_type,
				&initiator.segment) != 0)
		goto close_engine;
	if (find_remotes(&initiator) != 0 || tebench_open_buffers(options, initiator.engine, &initiator.local) != 0)
		goto close_segment;
	failed = sweep(&initiator);
	buffers_close(&initiator.local);
close_segment:
	cw_segment_close(initiator.segment);
close_engine:
	cw_engine_close(initiator.engine);
	return failed;
}
