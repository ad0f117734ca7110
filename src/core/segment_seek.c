/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking about a peer again, once its segment is open: a classic peer for its list of buffers, and, where a store knows
 * names, the store for where a peer is that cannot be reached any more. Everything here runs on the segment's loop.
 */
#include <core/naming.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------- what the store says now */

/* For a classic peer, that is how it is reached. An engine of ours never moves: it would be another instance. */
static int has_moved(const struct cw_segment *segment, const struct cw__found *found)
{
	const struct cw_peer *peer = &segment->peer;
	const char *at = (const char *)found->addresses.data;
	char used[80];

	if (!peer->classic)
		return 0;
	if (strcmp(peer->classic_host, found->descriptor.tcp_data_host) ||
	    peer->classic_port != found->descriptor.tcp_data_port ||
	    peer->classic_version != found->descriptor.tcp_proto_version)
		return 1;
	cw__address_format(peer->address, peer->port, used, sizeof(used));
	while (*at) {
		size_t length = strcspn(at, "\n");

		if (length == strlen(used) && !memcmp(at, used, length))
			return 0;
		at += length + (at[length] == '\n');
	}
	return 1;
}

static int is_another(const struct cw_segment *segment, const struct cw__found *found)
{
	if (segment->peer.classic)
		return found->descriptor.native;
	return !found->descriptor.native ||
	       memcmp(found->descriptor.instance, segment->peer.instance, sizeof(segment->peer.instance)) != 0;
}

/* Connects to where the peer is now; link_up or link_down tells how that ends. */
static void move(struct cw_segment *segment, struct cw__found *found)
{
	struct cw__link_options options = { .loop = segment->loop, .name = segment->name, .segment = segment };
	const char *addresses[CW__FOUND_MAX];

	cw__found_options(found, &options, addresses);
	segment->linked = 0;
	segment->retrying = 1;
	cw__segment_set_state(segment, CW_PEER_SUSPECT);
	cw__control.link_move(segment->link, &options);
}

static void sought(struct cw__finding *finding, void *arg)
{
	struct cw_segment *segment = finding->segment;
	int held = segment->seek_holds;

	(void)arg;
	segment->seeking = segment->seek_holds = 0;
	if (!segment->link || (segment->linked && !segment->peer.classic))
		return; /* closed, or it came back by itself */
	if (!finding->status && is_another(segment, &finding->found))
		cw__core_link_down(segment, CW_ERR_PEER_RESTARTED, "another engine has its name now");
	else if (!finding->status && has_moved(segment, &finding->found))
		move(segment, &finding->found);
	else if (held)
		cw__segment_down(segment);
}

int cw__segment_seek(struct cw_segment *segment, int hold)
{
	if (!cw__in_store(segment->engine) || segment->self || !segment->link)
		return 0;
	if (!segment->seeking && cw__segment_find(segment, sought, NULL))
		return 0;
	segment->seeking = 1;
	segment->seek_holds |= hold;
	return 1;
}

/* ------------------------------------------------------------------------- the list of a classic peer */

struct refetch {
	struct cw_segment *segment;
	void (*answered)(void *arg, int status);
	void *arg;
};

static void take(struct cw_segment *segment, struct cw__descriptor *descriptor)
{
	free(segment->descriptor.buffers);
	segment->descriptor = *descriptor; /* with its buffers */
}

static void finish(struct refetch *refetch, int status)
{
	refetch->answered(refetch->arg, status);
	free(refetch);
}

static void peer_answered(void *arg, int status, const void *body, size_t length)
{
	struct refetch *refetch = arg;
	struct cw__descriptor fresh;
	char why[100];

	if (!status)
		status = cw__descriptor_decode(body, length, &fresh, why, sizeof(why));
	if (!status)
		take(refetch->segment, &fresh);
	finish(refetch, status);
}

static void store_answered(struct cw__finding *finding, void *arg)
{
	struct refetch *refetch = arg;
	struct cw_segment *segment = refetch->segment;
	int status = finding->status;

	if (!status && (!segment->link || is_another(segment, &finding->found)))
		status = CW_ERR_PEER_DOWN;
	if (!status && has_moved(segment, &finding->found))
		move(segment, &finding->found);
	if (!status) {
		take(segment, &finding->found.descriptor);
		finding->found.descriptor.buffers = NULL;
	}
	finish(refetch, status);
}

int cw__segment_refetch(struct cw_segment *segment, uint64_t timeout, void (*answered)(void *arg, int status),
			void *arg)
{
	struct refetch *refetch = malloc(sizeof(*refetch));
	int status;

	if (!refetch)
		return CW_ERR_NO_MEMORY;
	*refetch = (struct refetch){ segment, answered, arg };
	if (cw__in_store(segment->engine))
		status = cw__segment_find(segment, store_answered, refetch);
	else
		status = cw__control.classic_request(segment->link, CW__CLASSIC_METADATA, "{}\n", 3, timeout,
						     peer_answered, refetch);
	if (status)
		free(refetch);
	return status;
}
