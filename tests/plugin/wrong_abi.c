/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in for another version of the contract: it must be refused before anything else of it is looked at. */
#include <causeway/plugin.h>

extern const struct cw_plugin cw_plugin;
__attribute__((visibility("default"))) const struct cw_plugin cw_plugin = {
	.abi = CW_PLUGIN_ABI + 1, .name = "wrong_abi", .transports = (const struct cw_transport_ops *const *)16, /* not
														    to
														    be
														    read
														  */
};
