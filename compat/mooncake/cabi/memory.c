/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory by address. The identical range is counted by the engine; every other overlap is refused. Memory that was
 * allocated through the engine is registered from the start, and may be registered again as a whole or in parts.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "face.h"

#define LOCATION_MAX 64

/* "segments:<page size>:<node>,<node>,...": pages in turn on these nodes. Regions find out about nodes themselves, so
 * only the form is looked at. */
static int is_interleaved(const char *location)
{
	const char *at = location + strspn(location, "0123456789");

	if (at == location || *at != ':')
		return 0;
	do {
		if (!isdigit((unsigned char)*++at))
			return 0;
		at += strspn(at, "0123456789");
	} while (*at == ',');
	return *at == '\0';
}

/* What the engine is told about a place; NULL = it finds out. */
static int place_of(const char *location, const char **place_out)
{
	*place_out = NULL;
	if (!location || !*location || strcmp(location, "*") == 0)
		return CW_OK;
	if (strlen(location) >= LOCATION_MAX)
		return CW_ERR_INVALID;
	if (strncmp(location, "segments:", 9) == 0)
		return is_interleaved(location + 9) ? CW_OK : CW_ERR_INVALID;
	*place_out = location;
	return CW_OK;
}

/* The region that holds all of a range. */
static int find(struct face *face, const void *address, size_t length, struct cw_region **region_out,
		struct cw_region_info *info_out)
{
	int status = cw_region_find(face->engine, address, length, region_out);

	*info_out = (struct cw_region_info){ .size = sizeof(*info_out) };
	return status == CW_OK ? cw_region_info_get(*region_out, info_out) : status;
}

/* Inside memory that the engine allocated everything is registered already, with the rights it was allocated with. */
static int is_allocated(struct face *face, const void *address, size_t length, uint32_t access)
{
	struct cw_region *region;
	struct cw_region_info info;

	if (find(face, address, length, &region, &info) != CW_OK || !info.engine_owned)
		return 0;
	if ((info.access & ~access) == 0)
		return 1;
	face_log(face, CW_LOG_ERROR,
		 "%p: allocated with more rights for peers than it is registered with; allocate it "
		 "with the permission that it shall have",
		 address);
	return 0;
}

int face_register(struct face *face, void *address, size_t length, const char *location, uint32_t access)
{
	struct cw_region_options options = CW_REGION_OPTIONS_INIT;
	struct cw_region *region;
	char why[200];
	int status = place_of(location, &options.location);

	if (status != CW_OK || !address || !length)
		return CW_ERR_INVALID;
	options.access = access;
	status = cw_region_register(face->engine, address, length, &options, &region);
	if (status == CW_ERR_LOCATION) { /* to Mooncake a location is advice */
		face_log(face, CW_LOG_WARN, "%p is not at %s, as was said; registered where it is", address, location);
		options.location = NULL;
		status = cw_region_register(face->engine, address, length, &options, &region);
	}
	snprintf(why, sizeof(why), "%s", status == CW_OK ? "" : cw_last_error());
	if (status == CW_ERR_OVERLAP && is_allocated(face, address, length, access))
		return CW_OK;
	if (status != CW_OK)
		face_log(face, CW_LOG_ERROR, "%p + %zu cannot be registered: %s", address, length, why);
	return status;
}

/* With memory_lock: memory that could not be given back before. */
static struct face_leaving **find_leaving(struct face *face, const void *address)
{
	struct face_leaving **at = &face->leaving;

	while (*at && (*at)->address != address)
		at = &(*at)->next;
	return at;
}

static int leave_again(struct face_leaving **at)
{
	struct face_leaving *gone = *at;
	int status = cw_region_unregister(gone->region);

	if (status != CW_OK)
		return status;
	*at = gone->next;
	free(gone);
	return CW_OK;
}

static void keep_leaving(struct face *face, void *address, struct cw_region *region)
{
	struct face_leaving *leaving = malloc(sizeof(*leaving));

	if (!leaving)
		return; /* the engine still has it; only another try is lost */
	*leaving = (struct face_leaving){ .address = address, .region = region, .next = face->leaving };
	face->leaving = leaving;
}

/* With memory_lock. */
static int unregister(struct face *face, void *address, size_t length)
{
	struct face_leaving **again = find_leaving(face, address);
	struct cw_region_info info;
	struct cw_region *region;
	int status;

	if (*again)
		return leave_again(again);
	status = find(face, address, length ? length : 1, &region, &info);
	if (status != CW_OK)
		return CW_ERR_NOT_REGISTERED;
	if (info.engine_owned && info.registrations <= 1)
		return CW_OK;
	if (info.address != (uint64_t)(uintptr_t)address || (length && length != info.length))
		return info.engine_owned ? CW_OK : CW_ERR_NOT_REGISTERED;
	status = cw_region_unregister(region);
	if (status == CW_ERR_BUSY)
		keep_leaving(face, address, region);
	return status;
}

int face_unregister(struct face *face, void *address, size_t length)
{
	int status;

	if (!address)
		return CW_ERR_INVALID;
	pthread_mutex_lock(&face->memory_lock);
	status = unregister(face, address, length);
	pthread_mutex_unlock(&face->memory_lock);
	if (status != CW_OK)
		face_log(face, CW_LOG_ERROR, "%p cannot be unregistered: %s", address,
			 status == CW_ERR_NOT_REGISTERED ? "nothing of that address and length is registered"
							 : cw_last_error());
	return status;
}

int face_allocate(struct face *face, size_t length, const char *location, uint32_t access, void **address_out)
{
	struct cw_memory_options options = CW_MEMORY_OPTIONS_INIT;
	struct cw_region *region;
	int status = place_of(location, &options.location);

	if (status != CW_OK || !length)
		return CW_ERR_INVALID;
	options.access = access;
	status = cw_memory_allocate(face->engine, length, &options, address_out, &region);
	if (status != CW_OK)
		face_log(face, CW_LOG_ERROR, "%zu bytes cannot be allocated: %s", length, cw_last_error());
	return status;
}

int face_free(struct face *face, void *address)
{
	struct cw_region_info info;
	struct cw_region *region;
	int status;

	pthread_mutex_lock(&face->memory_lock);
	status = find(face, address, 1, &region, &info);
	if (status == CW_OK && (!info.engine_owned || info.address != (uint64_t)(uintptr_t)address))
		status = CW_ERR_INVALID;
	/* What was registered again on top of it goes with it. */
	while (status == CW_OK && info.registrations > 1) {
		status = cw_region_unregister(region);
		info.registrations--;
	}
	if (status == CW_OK)
		status = cw_memory_free(region);
	pthread_mutex_unlock(&face->memory_lock);
	if (status != CW_OK)
		face_log(face, CW_LOG_ERROR, "%p cannot be freed: it was not allocated here, or is still used",
			 address);
	return status;
}

void face_memory_close(struct face *face)
{
	while (face->leaving) {
		struct face_leaving *gone = face->leaving;

		face->leaving = gone->next;
		free(gone);
	}
}
