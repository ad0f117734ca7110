/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata store without a store: a segment's name is the address of its engine. Nothing is published, nothing is
 * asked; peers find each other because callers hand names around. Read src/control/link.c next.
 */
#include <metadata/p2p/p2p.h>
#include <wire/classic.h>

#define DEFAULT_PORT 12001 /* what a Mooncake engine assumes for a name without a port */

/* The store is the host: there is no other state. */
static int p2p_open(struct cw_host *host, const char *url, void **store_out, const char **why_out)
{
	(void)url;
	(void)why_out;
	*store_out = host;
	return CW_OK;
}

static void p2p_close(void *store)
{
	(void)store;
}

static int p2p_addresses(void *store, const char *name, uint64_t timeout, struct cw_blob *addresses_out)
{
	struct cw_host *host = store;
	char name_host[256], line[300];
	uint16_t port;
	size_t length;
	int status;

	(void)timeout;
	status = cw__address_parse(name, (uint16_t)host->ops->setting_number(host, "control/peer_port", DEFAULT_PORT),
				   name_host, sizeof(name_host), &port);
	if (status)
		return status;
	length = cw__address_format(name_host, port, line, sizeof(line) - 1);
	if (!length)
		return CW_ERR_ADDRESS;
	line[length++] = '\n';
	return host->ops->blob_append(addresses_out, line, length);
}

const struct cw_metadata_ops cw_metadata_p2p = {
	.abi = CW_PLUGIN_ABI,
	.name = "p2p",
	.summary = "the name is the address",
	.open = p2p_open,
	.close = p2p_close,
	.addresses = p2p_addresses,
};
