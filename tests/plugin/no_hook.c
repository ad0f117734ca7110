/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in whose transport lacks what is required: it must be off and say so, and the engine goes on. */
#include <causeway/plugin.h>
#include <stdlib.h>

static int never_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	(void)host;
	(void)transport_out;
	(void)why_out;
	abort(); /* a table with a fault is not opened */
}

static void never_close(void *transport)
{
	(void)transport;
	abort();
}

static const struct cw_transport_ops no_hook = {
	.abi = CW_PLUGIN_ABI,
	.name = "no_hook",
	.summary = "cannot work",
	.open = never_open,
	.close = never_close,
};
static const struct cw_transport_ops *const transports[] = { &no_hook, NULL };

extern const struct cw_plugin cw_plugin;
__attribute__((visibility("default"))) const struct cw_plugin cw_plugin = {
	.abi = CW_PLUGIN_ABI,
	.name = "no_hook",
	.transports = transports,
};
