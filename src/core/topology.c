/* SPDX-License-Identifier: Apache-2.0 */
/* What transports know about devices and the links between them, passed on with the name of who says so. */
#include <core/core.h>
#include <stdio.h>

struct visit {
	cw_topology_fn fn;
	void *arg;
	const char *transport;
};

static void visit_one(void *arg, const struct cw_topology_device *device, const struct cw_topology_link *link)
{
	struct visit *visit = arg;

	if (device) {
		struct cw_topology_device copy = *device;

		copy.size = sizeof(copy);
		snprintf(copy.transport, sizeof(copy.transport), "%s", visit->transport);
		visit->fn(visit->arg, &copy, NULL);
	} else if (link) {
		struct cw_topology_link copy = *link;

		copy.size = sizeof(copy);
		snprintf(copy.transport, sizeof(copy.transport), "%s", visit->transport);
		visit->fn(visit->arg, NULL, &copy);
	}
}

int cw_engine_topology(struct cw_engine *engine, cw_topology_fn fn, void *arg)
{
	int status = cw__engine_check(engine);

	if (!status && !fn)
		status = cw__fail(CW_ERR_INVALID, "no function to call");
	for (unsigned i = 0; !status && i < engine->part_count; i++) {
		const struct cw__part *part = &engine->parts[i];
		struct visit visit = { fn, arg, part->ops->name };

		if (!part->on || !part->ops->topology)
			continue;
		status = part->ops->topology(part->state, visit_one, &visit);
		if (status)
			cw__fail(status, "topology of %s: %s", part->ops->name, cw_strerror(status));
	}
	return status;
}
