/* SPDX-License-Identifier: Apache-2.0 */
/* Mooncake's names of protocols, protocols.def. */
#include "setup.h"

#include <string.h>

const char *setup_protocol(const char *protocol, const char **used_out)
{
	static const struct {
		const char *name, *transports, *used;
	} rows[] = {
#define MOONCAKE_PROTOCOL(name, transports, used) { name, transports, used },
#include "protocols.def"
#undef MOONCAKE_PROTOCOL
	};

	if (!protocol)
		return NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!strcmp(rows[i].name, protocol)) {
			if (used_out)
				*used_out = rows[i].used;
			return rows[i].transports;
		}
	}
	return NULL;
}
