/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of addresses and lengths become requests. Those of one length whose local sides lie in one region go together,
 * as pages whose numbers are their addresses: moving them costs a small part of what as many single ranges cost, and
 * accepting them next to nothing. Runs without the GIL.
 */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#define GROUPS 256u    /* combinations of region and length at once; rows beyond are requests of their own */
#define TOGETHER 1024u /* rows in one request: several regions of a peer are then worked on side by side */
#define ALONE UINT16_MAX

struct group {
	uint64_t from, to; /* the region */
	uint64_t length;
	uint64_t count; /* rows */
	uint64_t place; /* where the next one goes in the columns of page numbers */
};

struct build {
	const struct rows *rows;
	struct group groups[GROUPS];
	unsigned group_count;
	uint64_t alone;
	uint16_t *group_of; /* by row */
	uint64_t *pages;    /* local, then remote: rows->count each */
	struct cw_request *requests;
	size_t request_count;
};

static int fits(const struct group *group, uint64_t address, uint64_t length)
{
	return length == group->length && address >= group->from && address - group->from <= group->to - group->from &&
	       length <= group->to - address;
}

/* A group for a row that fits into none yet; ALONE when the library is to say what is wrong with it. */
static unsigned open_group(struct build *build, uint64_t address, uint64_t length)
{
	struct cw_region_info info = { .size = sizeof(info) };
	struct group *group = &build->groups[build->group_count];
	struct cw_region *region;

	if (!length || build->group_count == GROUPS ||
	    cw_region_find(build->rows->engine, (const void *)(uintptr_t)address, length, &region) ||
	    cw_region_info_get(region, &info))
		return ALONE;
	*group = (struct group){ info.address, info.address + info.length, length, 0, 0 };
	return fits(group, address, length) ? build->group_count++ : ALONE;
}

static unsigned group_for(struct build *build, unsigned last, uint64_t address, uint64_t length)
{
	if (last != ALONE && fits(&build->groups[last], address, length))
		return last;
	for (unsigned i = 0; i < build->group_count; i++)
		if (fits(&build->groups[i], address, length))
			return i;
	return open_group(build, address, length);
}

static void sort_rows(struct build *build)
{
	const struct rows *rows = build->rows;
	unsigned last = ALONE;

	for (uint64_t i = 0; i < rows->count; i++) {
		last = group_for(build, last, column_at(rows->local, i), column_at(rows->length, i));
		build->group_of[i] = (uint16_t)last;
		if (last == ALONE)
			build->alone++;
		else
			build->groups[last].count++;
	}
}

static struct cw_request *next_request(struct build *build)
{
	struct cw_request *request = &build->requests[build->request_count++];

	request->segment = build->rows->segment;
	request->op = (uint32_t)build->rows->op;
	return request;
}

static void range(struct build *build, uint64_t local, uint64_t remote, uint64_t length)
{
	struct cw_request *request = next_request(build);

	request->local = (struct cw_vec){ .base = local, .page_size = length, .count = 1 };
	request->remote = (struct cw_vec){ .base = remote, .page_size = length, .count = 1 };
}

/* The columns are read once more: whoever changes them meanwhile gets what the library makes of it. */
static void place_rows(struct build *build)
{
	const struct rows *rows = build->rows;
	uint64_t *remote = build->pages + rows->count;

	for (uint64_t i = 0; i < rows->count; i++) {
		uint64_t here = column_at(rows->local, i), there = column_at(rows->remote, i);

		if (build->group_of[i] == ALONE) {
			range(build, here, there, column_at(rows->length, i));
		} else {
			struct group *group = &build->groups[build->group_of[i]];

			build->pages[group->place] = here;
			remote[group->place++] = there;
		}
	}
}

static struct cw_vec pages(const uint64_t *first, uint64_t length, uint64_t count)
{
	return (struct cw_vec){ .page_size = length, .stride = 1, .count = count, .indices = first, .index_bits = 64 };
}

static void make_requests(struct build *build)
{
	uint64_t start = 0;

	for (unsigned i = 0; i < build->group_count; i++) {
		build->groups[i].place = start;
		start += build->groups[i].count;
	}
	place_rows(build);
	for (unsigned i = 0; i < build->group_count; i++) {
		const struct group *group = &build->groups[i];

		for (uint64_t at = group->place - group->count; at < group->place; at += TOGETHER) {
			uint64_t count = group->place - at < TOGETHER ? group->place - at : TOGETHER;
			struct cw_request *request = next_request(build);

			request->local = pages(build->pages + at, group->length, count);
			request->remote = pages(build->pages + build->rows->count + at, group->length, count);
		}
	}
}

static int one_row(const struct rows *rows, struct request_list *list_out)
{
	struct build build = { .rows = rows };

	build.requests = calloc(1, sizeof(*build.requests));
	if (!build.requests)
		return CW_ERR_NO_MEMORY;
	range(&build, column_at(rows->local, 0), column_at(rows->remote, 0), column_at(rows->length, 0));
	*list_out = (struct request_list){ build.requests, 1, NULL };
	return CW_OK;
}

int rows_build(const struct rows *rows, struct request_list *list_out)
{
	struct build *build;
	int status = CW_ERR_NO_MEMORY;

	if (rows->count == 1)
		return one_row(rows, list_out);
	build = calloc(1, sizeof(*build));
	if (!build)
		return status;
	build->rows = rows;
	build->group_of = calloc(rows->count + 1, sizeof(*build->group_of));
	build->pages = calloc(2 * rows->count + 1, sizeof(*build->pages));
	if (build->group_of && build->pages) {
		sort_rows(build);
		build->requests = calloc(build->alone + build->group_count + rows->count / TOGETHER + 1,
					 sizeof(*build->requests));
	}
	if (build->requests) {
		make_requests(build);
		*list_out = (struct request_list){ build->requests, build->request_count, build->pages };
		build->pages = NULL;
		status = CW_OK;
	}
	free(build->group_of);
	free(build->pages);
	free(build);
	return status;
}

void request_list_free(struct request_list *list)
{
	free(list->requests);
	free(list->pages);
	*list = (struct request_list){ NULL, 0, NULL };
}
