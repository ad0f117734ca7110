/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of one engine: a value for each row of settings.def, where it came from, and those of plug-ins. */
#ifndef CW_CORE_CONFIG_H
#define CW_CORE_CONFIG_H

#include <causeway/causeway.h>

enum cw__setting_type {
	CW__SETTING_TEXT,
	CW__SETTING_NUMBER,
	CW__SETTING_BYTES,
	CW__SETTING_BOOL,
	CW__SETTING_MS,
	CW__SETTING_SECRET
};

struct cw__setting {
	char *text;      /* as given; owned */
	uint64_t number; /* parsed; MS in ns */
	const char *origin;
};

struct cw__config {
	struct cw__setting *values; /* one for each row of settings.def */
	char **extra;               /* "key=value" of settings that belong to plug-ins; owned */
	size_t extra_count;
};

int cw__config_init(struct cw__config *config);
void cw__config_free(struct cw__config *config);
int cw__config_load(struct cw__config *config, const struct cw_engine_options *options);
size_t cw__config_count(void);
void cw__config_describe(size_t row, const char **key_out, const char **fallback_out, const char **help_out);
const char *cw__config_text(const struct cw__config *config, const char *key);
/* The value of a row as it may be shown: "***" for a secret. */
const char *cw__config_shown(const struct cw__config *config, size_t row);
/* fallback when there is no such key. */
uint64_t cw__config_number(const struct cw__config *config, const char *key, uint64_t fallback);

#endif
