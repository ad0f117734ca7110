/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies between devices of one machine by their vendor's runtime: what sunrise_link, nvlink_intra and the like have in
 * common. A transport of this family is a cw_transport_ops made of the hooks below, an open() that fills in a kind, and
 * what is its own: how two devices are copied between, and its ports.
 *
 * Memory of another process is opened by its handle (see envelope.h), once per process. A copy runs in a lane: a worker
 * thread for one (source device, destination device) and perhaps one port. Requests of at most CW_CHUNK_MAX bytes are
 * waited for by the thread that submits them.
 */
#ifndef CW_TRANSPORTS_PEER_COPY_PEER_COPY_H
#define CW_TRANSPORTS_PEER_COPY_PEER_COPY_H

#include <causeway/plugin.h>
#include <platforms/gpu/gpu.h>

/* A link between two devices of this process's numbering. Both ends are known by the same rail. */
struct cw__peer_copy_link {
	int device[2]; /* [0] < [1] */
	int port[2];   /* of each of them */
	int up;
	double bytes_per_second; /* 0 = unknown */
};

/* One copy, contiguous on both sides. A device of -1 is host memory. */
struct cw__peer_copy_run {
	void *to;
	const void *from;
	uint64_t length;
	int to_device, from_device;
	int mapped;   /* one side is memory of another process */
	int link;     /* index of the link to use, or -1 */
	void *stream; /* NULL = block until it is done */
};

struct cw__peer_copy; /* an open transport */

/* What differs between the transports of the family. Constant for the life of the transport. */
struct cw__peer_copy_kind {
	const char *name; /* of the transport and its settings: "sunrise_link" */
	const struct cw__gpu *gpu;
	/* Puts one copy on its way between two different devices; the current device is the source's. A vendor's
	 * result. */
	int (*across)(void *own, const struct cw__peer_copy_run *run);
	/* Looks whether a link that failed works again. Optional. */
	int (*link_is_up)(void *own, unsigned link);
	void (*close)(void *own);
	void *own;
	uint64_t async_threshold; /* bytes; larger copies use streams; 0 = never */
	int stripe;               /* requests above stripe_from bytes go over all links of their pair */
	uint64_t stripe_from;
	const struct cw__peer_copy_link *links; /* sorted by device[0], device[1], port[0] */
	unsigned link_count;
};

/* Takes the kind over, also on failure. */
int cw__peer_copy_open(struct cw_host *host, const struct cw__peer_copy_kind *kind, void **transport_out,
		       const char **why_out);

/* kind.own of an open transport, for hooks of the transport's own. */
void *cw__peer_copy_own(void *transport);
/* Is this link in use now? */
int cw__peer_copy_link_is_up(void *transport, unsigned link);

/* The hooks of cw_transport_ops that are the same for all. */
#define CW__PEER_COPY_HOOKS                                                                                            \
	.close = cw__peer_copy_close, .describe = cw__peer_copy_describe, .attach = cw__peer_copy_attach,              \
	.detach = cw__peer_copy_detach, .export_region = cw__peer_copy_export, .revoke = cw__peer_copy_revoke,         \
	.peer_open = cw__peer_copy_peer_open, .peer_close = cw__peer_copy_peer_close,                                  \
	.peer_lost = cw__peer_copy_peer_lost, .rails = cw__peer_copy_rails, .import_region = cw__peer_copy_import,     \
	.import_close = cw__peer_copy_import_close, .reach = cw__peer_copy_reach, .post = cw__peer_copy_post,          \
	.copy = cw__peer_copy_copy, .cancel = cw__peer_copy_cancel, .message = cw__peer_copy_message

void cw__peer_copy_close(void *transport);
int cw__peer_copy_describe(void *transport, struct cw_blob *out);
int cw__peer_copy_attach(void *transport, const struct cw_region_view *region, void **attachment_out);
void cw__peer_copy_detach(void *transport, void *attachment);
int cw__peer_copy_export(void *transport, const struct cw_region_view *region, void *attachment, struct cw_blob *out);
int cw__peer_copy_revoke(void *transport, const struct cw_region_view *region, void *attachment, uint64_t address,
			 uint64_t length, struct cw_revocation *token);
int cw__peer_copy_peer_open(void *transport, struct cw_peer *peer, const void *description, size_t length,
			    void **peer_out);
void cw__peer_copy_peer_close(void *transport, void *peer);
void cw__peer_copy_peer_lost(void *transport, void *peer, int status);
unsigned cw__peer_copy_rails(void *transport, void *peer, struct cw_rail_info *rails_out, unsigned max);
int cw__peer_copy_import(void *transport, void *peer, const struct cw_remote_view *remote, const void *blob,
			 size_t length, struct cw_import *token, void **import_out);
void cw__peer_copy_import_close(void *transport, void *peer, void *import);
int cw__peer_copy_reach(void *transport, void *peer, const struct cw_reach_query *query, struct cw_reach *reach_out);
unsigned cw__peer_copy_post(void *transport, void *peer, unsigned rail, struct cw_slice **slices, unsigned count);
int cw__peer_copy_copy(void *transport, void *peer, struct cw_slice *slice);
void cw__peer_copy_cancel(void *transport, void *peer, struct cw_slice *slice);
int cw__peer_copy_message(void *transport, const unsigned char *instance, const void *data, size_t length,
			  struct cw_blob *reply);

#endif
