/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP: the transport that always works. This file is its ops table: settings, the listener for classic peers, and which
 * language a peer is spoken to in. tcp.h says what is in the other files.
 */
#include "tcp.h"

#include <stdlib.h>
#include <util/clock.h>

extern const struct cw_transport_ops cw_transport_tcp;

#define COST_NS 60000u /* per 64 KiB: two copies by kernels and a round trip */
#define INFLIGHT_BYTES (8u * 1024 * 1024)
#define BYTES_PER_SECOND 2e9 /* until measured */

struct tcp_peer {
	const struct cw__tcp_language *language;
	void *rails;
};

static void read_settings(struct cw_host *host, struct cw__tcp_settings *settings)
{
	const char *algorithm = host->ops->setting(host, "tcp/congestion_control");

	settings->connections = (unsigned)host->ops->setting_number(host, "tcp/connections", 2);
	if (settings->connections > CW__TCP_RAILS_MAX)
		settings->connections = CW__TCP_RAILS_MAX;
	settings->slice = host->ops->setting_number(host, "tcp/slice", 1024 * 1024);
	settings->connect_timeout = host->ops->setting_number(host, "control/connect_timeout", 5000 * CW__MS);
	settings->peer_timeout = host->ops->setting_number(host, "control/peer_timeout", 5000 * CW__MS);
	settings->stall_timeout = host->ops->setting_number(host, "tcp/stall_timeout", 30000 * CW__MS);
	settings->idle_timeout = host->ops->setting_number(host, "tcp/idle_timeout", 0);
	settings->max_connections = host->ops->setting_number(host, "tcp/max_connections", 4096);
	settings->classic_protocol = (unsigned)host->ops->setting_number(host, "tcp/classic_protocol", 2);
	settings->congestion_control = algorithm && *algorithm ? algorithm : NULL;
}

static int tcp_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	struct cw__tcp *tcp = calloc(1, sizeof(*tcp));
	int status;

	if (!tcp) {
		*why_out = "out of memory";
		return CW_ERR_NO_MEMORY;
	}
	tcp->host = host;
	read_settings(host, &tcp->settings);
	atomic_init(&tcp->accepted, 0);
	pthread_mutex_init(&tcp->lock, NULL);
	cw__list_init(&tcp->served);
	cw__list_init(&tcp->classic_served);
	if (host->ops->setting_number(host, "tcp/classic", 1)) {
		status = cw__tcp_classic_listen(tcp, why_out);
		if (status) {
			pthread_mutex_destroy(&tcp->lock);
			free(tcp);
			return status;
		}
	}
	*transport_out = tcp;
	return CW_OK;
}

static void tcp_close(void *transport)
{
	struct cw__tcp *tcp = transport;

	cw__tcp_classic_serve_close(tcp);
	cw__tcp_serve_close(tcp);
	pthread_mutex_destroy(&tcp->lock);
	free(tcp);
}

static int tcp_describe(void *transport, struct cw_blob *out)
{
	const struct cw__tcp *tcp = transport;
	unsigned char port[2] = { (unsigned char)tcp->classic_port, (unsigned char)(tcp->classic_port >> 8) };

	return tcp->host->ops->blob_append(out, port, sizeof(port));
}

static int tcp_peer_open(void *transport, struct cw_peer *peer, const void *description, size_t length, void **peer_out)
{
	struct tcp_peer *opened = calloc(1, sizeof(*opened));
	int status;

	(void)description;
	(void)length;
	if (!opened)
		return CW_ERR_NO_MEMORY;
	opened->language = peer->classic ? &cw__tcp_classic : &cw__tcp_native;
	status = opened->language->open(transport, peer, &opened->rails);
	if (status) {
		free(opened);
		return status;
	}
	*peer_out = opened;
	return CW_OK;
}

static void tcp_peer_close(void *transport, void *peer)
{
	struct tcp_peer *opened = peer;

	(void)transport;
	opened->language->close(opened->rails);
	free(opened);
}

static void tcp_peer_lost(void *transport, void *peer, int status)
{
	struct tcp_peer *opened = peer;

	(void)transport;
	opened->language->lost(opened->rails, status);
}

static unsigned tcp_rails(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max)
{
	const struct cw__tcp *tcp = transport;
	unsigned count = tcp->settings.connections < max ? tcp->settings.connections : max;

	(void)peer;
	for (unsigned i = 0; i < count; i++)
		rails_out[i] = (struct cw_rail_info){
			.max_pieces = CW__TCP_PIECES_MAX,
			.max_slice = tcp->settings.slice,
			.max_inflight = CW__TCP_FRAMES,
			.max_inflight_bytes =
				tcp->settings.slice > INFLIGHT_BYTES ? tcp->settings.slice : INFLIGHT_BYTES,
			.bytes_per_second = BYTES_PER_SECOND,
		};
	return count;
}

static int tcp_reach(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out)
{
	const struct cw__tcp *tcp = transport;
	const struct tcp_peer *opened = peer;

	if (query->local->kind != CW_MEMORY_HOST) {
		*reach_out = (struct cw_reach){ .why = "sockets take and give host memory only" };
		return CW_ERR_UNSUPPORTED;
	}
	*reach_out = (struct cw_reach){
		.cost = COST_NS,
		.rail_count = tcp->settings.connections,
		.checks = opened->language->checks,
		.why = opened->language->why,
	};
	return CW_OK;
}

static unsigned tcp_post(void *transport, void *peer, unsigned rail, struct cw_slice **slices, unsigned count)
{
	struct tcp_peer *opened = peer;

	(void)transport;
	return opened->language->post(opened->rails, rail, slices, count);
}

static void tcp_cancel(void *transport, void *peer, struct cw_slice *slice)
{
	struct tcp_peer *opened = peer;

	(void)transport;
	opened->language->cancel(opened->rails, slice);
}

static int tcp_message(void *transport, const unsigned char *instance, const void *data, size_t length,
		       struct cw_blob *reply)
{
	const unsigned char *bytes = data;
	struct cw__cancel cancel;
	int status;

	(void)reply;
	if (length < 1 || (bytes[0] != CW__TCP_CANCEL_CONTROL && bytes[0] != CW__TCP_CANCEL_RAIL))
		return CW_ERR_PROTOCOL;
	status = cw__cancel_decode(bytes + 1, length - 1, &cancel);
	return status ? status : cw__tcp_discard(transport, instance, &cancel);
}

static void tcp_accept(void *transport, struct cw_loop *loop, int fd, const void *first, size_t length)
{
	cw__tcp_serve(transport, loop, fd, first, length);
}

const struct cw_transport_ops cw_transport_tcp = {
	.abi = CW_PLUGIN_ABI,
	.name = "tcp",
	.summary = "sockets, native and classic",
	.flags = CW_TRANSPORT_CLASSIC,
	.open = tcp_open,
	.close = tcp_close,
	.describe = tcp_describe,
	.peer_open = tcp_peer_open,
	.peer_close = tcp_peer_close,
	.peer_lost = tcp_peer_lost,
	.rails = tcp_rails,
	.reach = tcp_reach,
	.post = tcp_post,
	.cancel = tcp_cancel,
	.message = tcp_message,
	.accept = tcp_accept,
};
