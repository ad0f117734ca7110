/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in whose own version is right but whose transport's is not. */
#include <causeway/plugin.h>

static const struct cw_transport_ops transport = { .abi = CW_PLUGIN_ABI + 1 };
static const struct cw_transport_ops *const transports[] = { &transport, NULL };

extern const struct cw_plugin cw_plugin;
__attribute__((visibility("default"))) const struct cw_plugin cw_plugin = {
	.abi = CW_PLUGIN_ABI,
	.name = "wrong_table",
	.transports = transports,
};
