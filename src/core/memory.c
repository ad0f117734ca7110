/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that the engine owns: found a platform for, allocated, registered like any other, and freed. See region.c. */
#include <core/naming.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int memory_platform(struct cw_engine *engine, const struct cw_memory_options *options,
			   struct cw_memory_options *known_out, struct cw__platform_part **platform_out)
{
	static const struct cw_memory_options defaults = CW_MEMORY_OPTIONS_INIT;
	int status = cw__engine_check(engine);

	if (status)
		return status;
	*known_out = options ? *options : defaults;
	if (known_out->size != sizeof(*known_out) || known_out->access > CW_ACCESS_REMOTE ||
	    known_out->flags & ~(uint32_t)(CW_MEMORY_SHAREABLE | CW_MEMORY_HUGE))
		return cw__fail(CW_ERR_INVALID,
				"memory options: wrong size, rights or flags; use CW_MEMORY_OPTIONS_INIT");
	if (!known_out->location)
		known_out->location = "cpu:*";
	for (unsigned i = 0; i < engine->platform_count; i++) {
		struct cw__platform_part *platform = &engine->platforms[i];

		if (platform->on && platform->ops->allocate &&
		    !platform->ops->location(platform->state, known_out->location, NULL)) {
			*platform_out = platform;
			return CW_OK;
		}
	}
	return cw__fail(CW_ERR_UNSUPPORTED,
			"nobody can allocate memory at '%s'; see "
			"`causeway transports --memory` and `causeway doctor`",
			known_out->location);
}

int cw_memory_query(struct cw_engine *engine, const struct cw_memory_options *options,
		    struct cw_memory_capabilities *capabilities_out)
{
	struct cw__platform_part *platform;
	struct cw_memory_options known;
	int status;

	if (!capabilities_out || capabilities_out->size != sizeof(*capabilities_out))
		return cw__fail(CW_ERR_INVALID, "memory capabilities: set its size");
	status = memory_platform(engine, options, &known, &platform);
	if (status == CW_ERR_UNSUPPORTED) {
		*capabilities_out = (struct cw_memory_capabilities){ .size = sizeof(*capabilities_out) };
		snprintf(capabilities_out->why_not, sizeof(capabilities_out->why_not), "%.150s", cw_last_error());
		return CW_OK;
	}
	return status ? status : platform->ops->query(platform->state, &known, capabilities_out);
}

int cw_memory_allocate(struct cw_engine *engine, size_t length, const struct cw_memory_options *options,
		       void **address_out, struct cw_region **region_out)
{
	struct cw__platform_part *platform;
	struct cw_memory_options known;
	struct cw_allocation allocation = { .share_fd = -1 };
	struct cw_region *region = NULL;
	int fresh, status = memory_platform(engine, options, &known, &platform);

	if (!status && (!length || length > SIZE_MAX / 2))
		status = cw__fail(CW_ERR_INVALID, "cannot allocate %zu bytes", length);
	if (status)
		return status;
	status = platform->ops->allocate(platform->state, length, &known, &allocation);
	if (status)
		return cw__fail(status, "%zu bytes at '%s' cannot be allocated: %s", length, known.location,
				cw_strerror(status));
	status = cw__region_admit(engine, allocation.address, length, known.access, &fresh, &region);
	if (status)
		goto release;
	region->allocation = allocation;
	region->platform = (unsigned)(platform - engine->platforms);
	region->view.share_fd = allocation.share_fd;
	region->view.share_offset = 0;
	region->view.share_length = allocation.length;
	status = cw__region_establish(region, NULL);
	if (status)
		goto drop;
	cw__region_publish(region, CW_FOREVER);
	*address_out = allocation.address;
	*region_out = region;
	return CW_OK;
drop:
	cw__region_drop(region);
release:
	platform->ops->release(platform->state, &allocation);
	return status;
}

void cw__region_release_memory(struct cw_region *region)
{
	struct cw__platform_part *platform = &region->engine->platforms[region->platform];
	struct cw_allocation allocation = region->allocation;

	memset(&region->allocation, 0, sizeof(region->allocation));
	cw__region_drop(region);
	if (allocation.address)
		platform->ops->release(platform->state, &allocation);
}

int cw_memory_free(struct cw_region *region)
{
	int last, status;

	if (!region)
		return CW_OK;
	status = cw__engine_check(region->engine);
	if (!status)
		status = cw__region_take_back(region, 1, &last);
	if (!status && last)
		cw__region_release_memory(region);
	return status;
}
