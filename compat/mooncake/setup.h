/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Mooncake's environment variables and configuration files mean for a Causeway engine. Two tables (variables.def,
 * keys.def) say for each name which setting it becomes, or that it is named in a warning, or that it belongs to
 * Mooncake Store. The C ABIs, the Python drop-in and `causeway config --mooncake` use this; the native interface reads
 * none of it.
 */
#ifndef COMPAT_MOONCAKE_SETUP_H
#define COMPAT_MOONCAKE_SETUP_H

#include <causeway/causeway.h>
#include <stddef.h>
#include <stdint.h>

#define SETUP_SETTINGS_MAX 96
#define SETUP_TEXT_MAX 512

/* One engine to be opened. Zero-initialise; later calls override what earlier ones said. */
struct setup {
	struct cw_setting settings[SETUP_SETTINGS_MAX]; /* the texts are owned, setup_free() */
	size_t setting_count;
	/* What a file or MOONCAKE_* says and the caller would otherwise say itself; "" = nothing was said. */
	char local_hostname[256], metadata_server[SETUP_TEXT_MAX], protocol[32], device_name[SETUP_TEXT_MAX];
	uint64_t transfer_timeout_ns; /* MC_TRANSFER_TIMEOUT; 0 = not said */
	double metric_interval;       /* seconds between lines of MC_TE_METRIC; 0 = off */
	int force_tcp, force_mnnvl, intranode_nvlink, use_ipv6;
	int legacy_binding;        /* MC_LEGACY_RPC_PORT_BINDING: the port in the engine's name is listened on */
	char bind_address[256];    /* MC_TCP_BIND_ADDRESS */
	char metadata_backend[32]; /* of a metadata_server without a scheme */
	int metric;          /* MC_TE_METRIC and its interval as they were said; metric_interval is what follows */
	double metric_every; /* seconds; 0 = not said */
	unsigned port_min, port_max; /* MC_MIN_RPC_PORT, MC_MAX_RPC_PORT as they were said; 0 = not said */
	char text[SETUP_TEXT_MAX];   /* one line: why the last call failed, with what to do */
};

/* Receives one line about something that is known but cannot be used, or that belongs to Mooncake Store. */
typedef void (*setup_notice_fn)(void *arg, const char *line);

/* Reads the variables of the process. Lines about variables without effect come once per process and name. 0, or -1
 * with setup->text (a value that cannot be parsed; two that exclude each other). */
int setup_environment(struct setup *setup, setup_notice_fn notice, void *arg);

/* Reads a file, or text that begins with '{': the layout of mooncake.json (seed "Supported Communication Protocols") or
 * that of TENT's transfer-engine.json; which one it is follows from its keys. 0, or -1 with setup->text (cannot be
 * read, not JSON, a key that nobody knows, with the nearest name; a wrong type or a value out of range). */
int setup_file(struct setup *setup, const char *path_or_text, setup_notice_fn notice, void *arg);

/* One key as tent_set_config() gives it. */
int setup_key(struct setup *setup, const char *key, const char *value, setup_notice_fn notice, void *arg);

/* Turns Mooncake's connection string ("P2PHANDSHAKE", "etcd://...", "host:2379", "http://...", "redis://...") and local
 * server name ("host", "host:port", "[v6]:port", "v6", "host:port:npu_0") into settings and an engine name. In a
 * store's mode the name is also what is published. 0, or -1 with setup->text. */
int setup_identity(struct setup *setup, const char *metadata_server, const char *local_server_name,
		   char *engine_name_out, size_t length);

/* The address of this machine for an engine that was given no name: of an interface that is up, or else loopback. */
void setup_own_address(int ipv6, char *out, size_t size);

/* The transports in Causeway that a protocol name of Mooncake stands for, as a comma list, best first; NULL = an
 * unknown name. used_out gets "" or what is used instead of a transport that this build does not have ("tcp" for
 * "rdma"). */
const char *setup_protocol(const char *protocol, const char **used_out);

int setup_set(struct setup *setup, const char *key, const char *value); /* 0, or -1 (no memory, too many) */
void setup_free(struct setup *setup);

#endif
