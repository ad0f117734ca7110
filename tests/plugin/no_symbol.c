/* SPDX-License-Identifier: Apache-2.0 */
/* A library that is no plug-in. */
extern const int cw_no_plugin;
__attribute__((visibility("default"))) const int cw_no_plugin = 1;
