/* SPDX-License-Identifier: Apache-2.0 */
/* Finds libmicrohttpd: the tool runs without it, only `causeway metadata-server` does not. See metadata_server.h. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "metadata_server.h"

static const char *const sonames[] = { "libmicrohttpd.so.12" };

static const struct symbol {
	const char *name;
	size_t offset;
	int optional;
} symbols[] = {
	{ "MHD_start_daemon", offsetof(struct metadata_library, start_daemon), 0 },
	{ "MHD_stop_daemon", offsetof(struct metadata_library, stop_daemon), 0 },
	{ "MHD_get_daemon_info", offsetof(struct metadata_library, get_daemon_info), 0 },
	{ "MHD_lookup_connection_value", offsetof(struct metadata_library, lookup_value), 0 },
	{ "MHD_lookup_connection_value_n", offsetof(struct metadata_library, lookup_value_n), 1 },
	{ "MHD_create_response_from_buffer", offsetof(struct metadata_library, create_response), 0 },
	{ "MHD_add_response_header", offsetof(struct metadata_library, add_header), 0 },
	{ "MHD_queue_response", offsetof(struct metadata_library, queue_response), 0 },
	{ "MHD_destroy_response", offsetof(struct metadata_library, destroy_response), 0 },
};

const struct metadata_library *metadata_library(char *text)
{
	static struct metadata_library found;
	void *library = NULL;

	for (size_t i = 0; !library && i < sizeof(sonames) / sizeof(sonames[0]); i++)
		library = dlopen(sonames[i], RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		snprintf(text, METADATA_TEXT_MAX,
			 "libmicrohttpd is needed and cannot be loaded (%s); install it: package libmicrohttpd12 of "
			 "Debian and Ubuntu, libmicrohttpd elsewhere",
			 dlerror());
		return NULL;
	}
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *address = dlsym(library, symbols[i].name);

		if (!address && !symbols[i].optional) {
			snprintf(text, METADATA_TEXT_MAX, "%s has no %s; a newer release is needed", sonames[0],
				 symbols[i].name);
			return NULL;
		}
		memcpy((char *)&found + symbols[i].offset, &address, sizeof(address));
	}
	return &found;
}
