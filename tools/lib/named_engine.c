/* SPDX-License-Identifier: Apache-2.0 */
/* See named_engine.h. */
#include "lib/named_engine.h"

#include <mooncake/setup.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/engine.h"

int named_engine_is_wanted(const char *metadata_server)
{
	return strcasecmp(metadata_server, "P2PHANDSHAKE") != 0 && strcasecmp(metadata_server, "p2p") != 0;
}

static int make_settings(struct setup *setup, const char *metadata_server, const char *name, unsigned port, char *host,
			 size_t size)
{
	char own[256], text[16];

	setup_own_address(0, own, sizeof(own));
	if (setup_identity(setup, metadata_server, name && *name ? name : own, host, size))
		return -1;
	snprintf(text, sizeof(text), "%u", port);
	if (port && setup_set(setup, "control/port", text))
		return -1;
	/* Without a name of its own it is known by its address, of which the port is not known yet. */
	return !(name && *name) && setup_set(setup, "metadata/name", "") ? -1 : 0;
}

int named_engine_start(const char *command, const char *metadata_server, const char *name, unsigned port,
		       struct cw_engine **engine_out)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct setup setup = { .setting_count = 0 };
	char host[300];
	int status;

	if (make_settings(&setup, metadata_server, name, port, host, sizeof(host))) {
		fprintf(stderr, "%s: %s\n", command, setup.text);
		setup_free(&setup);
		return -1;
	}
	options.name = host;
	options.settings = setup.settings;
	options.setting_count = setup.setting_count;
	options.use_environment = 1;
	status = cw_engine_open(&options, engine_out);
	if (status != CW_OK)
		engine_report(command, "cannot open an engine", status);
	setup_free(&setup);
	return status == CW_OK ? 0 : -1;
}
