/* SPDX-License-Identifier: Apache-2.0 */
/* See replay_report.h. The JSON is one object: {"scale": {...}, "runs": [...]}. */
#include "replay_report.h"

#include <stdio.h>

#include "lib/table.h"
#include "lib/units.h"

#define COLUMN 14

struct row {
	const char *key, *title;
	int decimals;
	double (*value)(const struct replay_report *report);
};

static double per_second(uint64_t bytes, uint64_t nanoseconds)
{
	return nanoseconds ? (double)bytes / (double)nanoseconds : 0;
}

static double seconds(uint64_t nanoseconds)
{
	return (double)nanoseconds / 1e9;
}

static double transfer_ms(const struct replay_report *report, double percent)
{
	return (double)histogram_percentile(&report->request_transfer, percent) / 1e6;
}

#define COUNT_ROW(field)                                                                                               \
	static double field##_of(const struct replay_report *report)                                                   \
	{                                                                                                              \
		return (double)report->field;                                                                          \
	}
#define SECONDS_ROW(field)                                                                                             \
	static double field##_of(const struct replay_report *report)                                                   \
	{                                                                                                              \
		return seconds(report->field);                                                                         \
	}
#define PERCENTILE_ROW(name, percent)                                                                                  \
	static double name##_of(const struct replay_report *report)                                                    \
	{                                                                                                              \
		return transfer_ms(report, percent);                                                                   \
	}

COUNT_ROW(requests)
COUNT_ROW(blocks)
COUNT_ROW(blocks_sent)
COUNT_ROW(blocks_evicted)
COUNT_ROW(bytes)
COUNT_ROW(pages)
COUNT_ROW(pages_verified)
COUNT_ROW(reused_checked)
COUNT_ROW(pages_wrong)
COUNT_ROW(rounds_failed)
SECONDS_ROW(transfer_ns)
SECONDS_ROW(generate_ns)
SECONDS_ROW(verify_ns)
SECONDS_ROW(wall_ns)
PERCENTILE_ROW(p50, 50)
PERCENTILE_ROW(p90, 90)
PERCENTILE_ROW(p99, 99)
PERCENTILE_ROW(maximum, 100)

static double reused_of(const struct replay_report *report)
{
	return (double)(report->blocks - report->blocks_sent);
}

static double speed_of(const struct replay_report *report)
{
	return per_second(report->bytes, report->transfer_ns);
}

static const struct row rows[] = {
	{ "requests", "requests", 0, requests_of },
	{ "blocks", "blocks asked for", 0, blocks_of },
	{ "blocks_sent", "blocks sent", 0, blocks_sent_of },
	{ "blocks_reused", "blocks reused", 0, reused_of },
	{ "blocks_evicted", "blocks evicted", 0, blocks_evicted_of },
	{ "bytes", "bytes sent", 0, bytes_of },
	{ "pages", "pages sent", 0, pages_of },
	{ "pages_verified", "pages verified", 0, pages_verified_of },
	{ "reused_pages_checked", "of them, in reused blocks", 0, reused_checked_of },
	{ "pages_wrong", "pages wrong", 0, pages_wrong_of },
	{ "transfers_failed", "transfers failed", 0, rounds_failed_of },
	{ "gigabytes_per_second", "GB/s while transferring", 3, speed_of },
	{ "transfer_seconds", "transfer s", 3, transfer_ns_of },
	{ "generate_seconds", "generate s", 3, generate_ns_of },
	{ "verify_seconds", "verify s", 3, verify_ns_of },
	{ "wall_seconds", "wall s", 3, wall_ns_of },
	{ "request_p50_ms", "transfer per request, p50 ms", 3, p50_of },
	{ "request_p90_ms", "transfer per request, p90 ms", 3, p90_of },
	{ "request_p99_ms", "transfer per request, p99 ms", 3, p99_of },
	{ "request_max_ms", "transfer per request, max ms", 3, maximum_of },
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

void replay_print_scale(const struct replay_plan *plan, const char *model, int json)
{
	const struct kv_geometry *geometry = &plan->geometry;
	char page[32], block[32], cache[32];

	if (json) {
		printf("{\"scale\": {\"model\": ");
		table_json_text(stdout, model);
		printf(", \"layers\": %u, \"kv_heads\": %u, \"head_size\": %u, \"element_bytes\": %u, "
		       "\"tokens_per_block\": %u, \"trace_tokens_per_block\": %u, \"pages_per_block\": %u, "
		       "\"page_bytes\": %llu, \"block_bytes\": %llu, \"capacity_blocks\": %u, \"speed\": %g},\n",
		       geometry->layers, geometry->kv_heads, geometry->head_size, geometry->element_bytes,
		       geometry->tokens_per_block, KV_TRACE_TOKENS, kv_planes(geometry),
		       (unsigned long long)kv_page_bytes(geometry), (unsigned long long)kv_block_bytes(geometry),
		       plan->capacity_blocks, plan->speed);
		return;
	}
	printf("model    %s: %u layers, %u KV heads of %u, %u bytes an element\n", model, geometry->layers,
	       geometry->kv_heads, geometry->head_size, geometry->element_bytes);
	printf("block    %u tokens of %u (1/%u): %u pages of %s = %s\n", geometry->tokens_per_block, KV_TRACE_TOKENS,
	       KV_TRACE_TOKENS / geometry->tokens_per_block, kv_planes(geometry),
	       units_bytes(kv_page_bytes(geometry), page, sizeof(page)),
	       units_bytes(kv_block_bytes(geometry), block, sizeof(block)));
	printf("decode   holds %u blocks, %s, and evicts the least recently used\n", plan->capacity_blocks,
	       units_bytes(kv_block_bytes(geometry) * plan->capacity_blocks, cache, sizeof(cache)));
	if (plan->speed > 0)
		printf("time     %g times as fast as recorded\n\n", plan->speed);
	else
		printf("time     flat out, time stamps ignored\n\n");
	fflush(stdout);
}

static void print_json(const struct replay_report *reports, const char *const *labels, size_t count)
{
	printf(" \"runs\": [");
	for (size_t run = 0; run < count; run++) {
		printf("%s\n  {\"transports\": ", run ? "," : "");
		table_json_text(stdout, labels[run]);
		printf(", \"path\": ");
		table_json_text(stdout, reports[run].path);
		for (size_t i = 0; i < ROWS; i++)
			printf(", \"%s\": %.*f", rows[i].key, rows[i].decimals, rows[i].value(&reports[run]));
		printf(", \"error\": ");
		table_json_text(stdout, reports[run].error);
		printf("}");
	}
	printf("\n ]}\n");
}

static void print_text_row(const char *title, const struct replay_report *reports, size_t count, size_t offset)
{
	printf("%-30s", title);
	for (size_t run = 0; run < count; run++)
		printf(" %*s", COLUMN, (const char *)&reports[run] + offset);
	printf("\n");
}

void replay_print_reports(const struct replay_report *reports, const char *const *labels, size_t count, int json)
{
	if (json) {
		print_json(reports, labels, count);
		return;
	}
	printf("%-30s", "transports");
	for (size_t run = 0; run < count; run++)
		printf(" %*s", COLUMN, labels[run]);
	printf("\n");
	print_text_row("path", reports, count, offsetof(struct replay_report, path));
	for (size_t i = 0; i < ROWS; i++) {
		printf("%-30s", rows[i].title);
		for (size_t run = 0; run < count; run++)
			printf(" %*.*f", COLUMN, rows[i].decimals, rows[i].value(&reports[run]));
		printf("\n");
	}
}
