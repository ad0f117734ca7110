/* SPDX-License-Identifier: Apache-2.0 */
/* What tent_load_config_from_file() and tent_set_config() said in this process. */
#ifndef COMPAT_MOONCAKE_CABI_TENT_CONFIG_H
#define COMPAT_MOONCAKE_CABI_TENT_CONFIG_H

#include "mooncake/setup.h"

/* Adds it to a setup: the file first, then the keys in their order. 0, or -1 with setup->text. */
int tent_config_apply(struct setup *setup, setup_notice_fn notice, void *arg);

#endif
