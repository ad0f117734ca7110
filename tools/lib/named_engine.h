/* SPDX-License-Identifier: Apache-2.0 */
/* How the programs that Mooncake's users know open an engine that has a name in a metadata store. */
#ifndef TOOLS_NAMED_ENGINE_H
#define TOOLS_NAMED_ENGINE_H

#include <causeway/causeway.h>

/* Does this connection string mean a store? */
int named_engine_is_wanted(const char *metadata_server);

/* Opens an engine that is known to the store of a connection string ("etcd://...", "http://...", "redis://...",
 * "host:2379") by a name as those programs take it. name NULL or "" = the address of this machine with the port of the
 * engine. port 0 = any from the range that firewalls of Mooncake's users know. 0, or -1 after a message. */
int named_engine_start(const char *command, const char *metadata_server, const char *name, unsigned port,
		       struct cw_engine **engine_out);

#endif
