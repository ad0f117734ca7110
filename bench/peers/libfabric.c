/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libfabric's providers, measured with the options, the memory and the figures of the bare program: bench/bare/bare.h.
 * A mode is a provider. Each block is a fi_read or fi_write of its own, or where the provider takes several in one
 * call, as many as it takes; a write has ended when it has been delivered at the target.
 */
#include "bare/bare.h"

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENTRIES 64
#define IDLE_MS 50     /* a target that sleeps looks so often whether it should end */
#define VECTORS_MAX 16 /* blocks of one call, at most */

const char bare_program[] = "libfabric";
const char bare_congestion[] = "";

/* What each side tells the other. */
struct greeting {
	char name[256];
	size_t length;
	uint64_t base, key;
};

/* A batch in flight. */
struct slot {
	uint64_t begun;
	size_t left; /* operations */
};

/* Of one call; the provider's until it has ended. */
struct operation {
	struct fi_context2 context;
	struct slot *slot;
	struct operation *next; /* a free one */
};

struct fabric {
	int ends[2]; /* a socket pair: the initiator's and the target's */
	struct fi_info *info;
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct fid_av *names;
	struct fid_cq *queue;
	struct fid_ep *endpoint;
	struct fid_mr *region;
	fi_addr_t peer;
	struct greeting theirs;
	void *descriptor;
	struct operation *operations, *free;
	struct slot *slots;
	size_t vectors;
	int sleeps; /* in the queue */
};

static void must(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "libfabric: %s: %s\n", what, fi_strerror((int)-result));
	exit(result == -FI_ENODATA || result == -FI_ENOSYS ? CANNOT : 1);
}

static struct fi_info *find(const struct bare_run *run)
{
	struct fi_info *hints = fi_allocinfo(), *found = NULL;

	if (!hints)
		bare_fail("fi_allocinfo");
	hints->caps = FI_MSG | FI_RMA;
	hints->mode = FI_CONTEXT | FI_CONTEXT2;
	hints->ep_attr->type = FI_EP_RDM;
	hints->tx_attr->op_flags = FI_DELIVERY_COMPLETE;
	hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
	hints->domain_attr->threading = FI_THREAD_DOMAIN;
	hints->fabric_attr->prov_name = strdup(run->mode->name);
	must(fi_getinfo(FI_VERSION(1, 17), run->options->via == VIA_TCP ? "127.0.0.1" : NULL, NULL,
			run->options->via == VIA_TCP ? FI_SOURCE : 0, hints, &found),
	     run->mode->name);
	fi_freeinfo(hints);
	return found;
}

static void fabric_bring_up(struct bare_run *run)
{
	const struct bare_layout *layout = run->initiator ? &run->near : &run->far;
	uint64_t access = FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;
	struct fabric *f = run->state;
	struct fi_av_attr names = { .type = FI_AV_TABLE, .count = 4 };
	struct fi_cq_attr queue = { .size = 1 << 14, .format = FI_CQ_FORMAT_CONTEXT };

	f->sleeps = run->initiator ? run->options->wait == WAIT_PARKED : run->options->wait >= WAIT_TARGET_PARKED;
	queue.wait_obj = f->sleeps ? FI_WAIT_UNSPEC : FI_WAIT_NONE;
	f->info = find(run);
	f->vectors = f->info->tx_attr->rma_iov_limit < f->info->tx_attr->iov_limit ? f->info->tx_attr->rma_iov_limit
										   : f->info->tx_attr->iov_limit;
	f->vectors = f->vectors > VECTORS_MAX ? VECTORS_MAX : f->vectors ? f->vectors : 1;
	must(fi_fabric(f->info->fabric_attr, &f->fabric, NULL), "fi_fabric");
	must(fi_domain(f->fabric, f->info, &f->domain, NULL), "fi_domain");
	must(fi_av_open(f->domain, &names, &f->names, NULL), "fi_av_open");
	must(fi_cq_open(f->domain, &queue, &f->queue, NULL), "fi_cq_open");
	must(fi_endpoint(f->domain, f->info, &f->endpoint, NULL), "fi_endpoint");
	must(fi_ep_bind(f->endpoint, &f->names->fid, 0), "fi_ep_bind");
	must(fi_ep_bind(f->endpoint, &f->queue->fid, FI_TRANSMIT | FI_RECV), "fi_ep_bind");
	must(fi_enable(f->endpoint), "fi_enable");
	must(fi_mr_reg(f->domain, layout->memory, layout->length, access, 0, 1 + (uint64_t)run->initiator, 0,
		       &f->region, NULL),
	     "fi_mr_reg");
	f->descriptor = fi_mr_desc(f->region);
}

static void fabric_meet(struct bare_run *run)
{
	const struct bare_layout *layout = run->initiator ? &run->near : &run->far;
	struct fabric *f = run->state;
	int end = f->ends[!run->initiator];
	struct greeting mine = { .length = sizeof(mine.name), .key = fi_mr_key(f->region) };

	mine.base = f->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR ? (uint64_t)(uintptr_t)layout->memory : 0;
	must(fi_getname(&f->endpoint->fid, mine.name, &mine.length), "fi_getname");
	if (write(end, &mine, sizeof(mine)) != sizeof(mine) ||
	    recv(end, &f->theirs, sizeof(f->theirs), MSG_WAITALL) != sizeof(f->theirs))
		bare_fail("greeting");
	must(fi_av_insert(f->names, f->theirs.name, 1, &f->peer, 0, NULL) == 1 ? 0 : -FI_EINVAL, "fi_av_insert");
}

static void fabric_open(struct bare_run *run)
{
	struct fabric *f = calloc(1, sizeof(*f));

	if (!f || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->ends))
		bare_fail("socketpair");
	run->state = f;
}

static void fabric_shut(struct fabric *f)
{
	fi_close(&f->endpoint->fid);
	fi_close(&f->region->fid);
	fi_close(&f->queue->fid);
	fi_close(&f->names->fid);
	fi_close(&f->domain->fid);
	fi_close(&f->fabric->fid);
	fi_freeinfo(f->info);
}

/* Ends of operations, waiting for one as this side waits; how many. */
static size_t ends_of(struct fabric *f, struct fi_cq_entry *entries)
{
	ssize_t count = f->sleeps ? fi_cq_sread(f->queue, entries, ENTRIES, NULL, IDLE_MS)
				  : fi_cq_read(f->queue, entries, ENTRIES);

	if (count == -FI_EAVAIL) {
		struct fi_cq_err_entry error = { 0 };

		fi_cq_readerr(f->queue, &error, 0);
		must(-error.err, "an operation failed");
	}
	if (count == -FI_EAGAIN || count == -FI_EINTR)
		return 0;
	must(count, "fi_cq_read");
	return (size_t)count;
}

static void fabric_serve(struct bare_run *run)
{
	struct fabric *f = run->state;
	struct fi_cq_entry entries[ENTRIES];

	close(f->ends[0]);
	fabric_bring_up(run);
	fabric_meet(run);
	while (!atomic_load_explicit(&run->shared->stop, memory_order_acquire))
		(void)ends_of(f, entries);
	fabric_shut(f);
}

/* Posts the pieces from `index` on, of which there are `count` left in the batch, as one operation; how many it has. */
static size_t post(struct bare_run *run, struct fabric *f, size_t index, size_t count, struct slot *slot)
{
	struct iovec *near = layout_ring(&run->near, run->options, 0, 0) + index;
	struct iovec *far = layout_ring(&run->far, run->options, 0, 0) + index;
	struct operation *operation = f->free;
	struct fi_rma_iov there[VECTORS_MAX];
	void *descriptors[VECTORS_MAX];
	struct fi_msg_rma message = { .msg_iov = near, .desc = descriptors, .addr = f->peer, .rma_iov = there };
	ssize_t result;

	count = count < f->vectors ? count : f->vectors;
	for (size_t i = 0; i < count; i++) {
		uint64_t offset = (uint64_t)((unsigned char *)far[i].iov_base - run->far.memory);

		there[i] = (struct fi_rma_iov){ f->theirs.base + offset, far[i].iov_len, f->theirs.key };
		descriptors[i] = f->descriptor;
	}
	message.iov_count = message.rma_iov_count = count;
	message.context = operation;
	if (run->options->write)
		result = fi_writemsg(f->endpoint, &message, FI_DELIVERY_COMPLETE | FI_COMPLETION);
	else
		result = fi_readmsg(f->endpoint, &message, FI_COMPLETION);
	if (result == -FI_EAGAIN)
		return 0;
	must(result, "fi_writemsg or fi_readmsg");
	f->free = operation->next;
	operation->slot = slot;
	slot->left++;
	return count;
}

/* Takes what has ended; how many operations that were. */
static size_t reap(struct fabric *f)
{
	struct fi_cq_entry entries[ENTRIES];
	size_t count = ends_of(f, entries);

	for (size_t i = 0; i < count; i++) {
		struct operation *operation = entries[i].op_context;

		operation->slot->left--;
		operation->next = f->free;
		f->free = operation;
	}
	return count;
}

/* The provider connects at the first operation: that is not to be measured. */
static void fabric_warm_up(struct bare_run *run, struct fabric *f)
{
	struct slot slot = { 0 };

	while (!post(run, f, 0, 1, &slot))
		(void)reap(f);
	while (slot.left)
		(void)reap(f);
}

static void fabric_forked(struct bare_run *run)
{
	const struct bare_options *options = run->options;
	struct fabric *f = run->state;
	size_t count = options->depth * options->pages;

	close(f->ends[1]);
	fabric_bring_up(run);
	fabric_meet(run);
	f->operations = calloc(count, sizeof(*f->operations));
	f->slots = calloc(options->depth, sizeof(*f->slots));
	if (!f->operations || !f->slots)
		bare_fail("calloc");
	for (size_t i = 0; i < count; i++) {
		f->operations[i].next = f->free;
		f->free = &f->operations[i];
	}
	fabric_warm_up(run, f);
}

static void fabric_work(struct bare_run *run, size_t thread)
{
	size_t pages = run->options->pages, depth = run->options->depth, ring = run->near.batches * pages;
	struct fabric *f = run->state;
	uint64_t now = bare_now(), started = 0, posted = 0, completed = 0; /* batches, pieces, batches */

	for (;;) {
		while (started - completed < depth && !bare_time_is_up(run, now)) {
			/* It counts as an operation of its own until all of it has been posted. */
			f->slots[started % depth] = (struct slot){ .begun = now, .left = 1 };
			started++;
		}
		if (started == completed)
			break;
		while (posted < started * pages) {
			struct slot *slot = &f->slots[posted / pages % depth];
			size_t moved = post(run, f, (size_t)(posted % ring), pages - posted % pages, slot);

			if (!moved)
				break;
			posted += moved;
			slot->left -= posted % pages == 0;
		}
		(void)reap(f);
		/* Batches end in the order in which they were started, as far as this program is concerned. */
		for (; completed < started && !f->slots[completed % depth].left; completed++) {
			now = bare_now();
			bare_record(run, thread, 0, now - f->slots[completed % depth].begun, now);
		}
	}
}

static void fabric_close(struct bare_run *run)
{
	struct fabric *f = run->state;

	atomic_store(&run->shared->stop, 1);
	fabric_shut(f);
	close(f->ends[0]);
	free(f->operations);
	free(f->slots);
	free(f);
}

static const char *fabric_refuses(const struct bare_options *options)
{
	if (options->threads > 1 || options->peers > 1)
		return "one thread drives one endpoint";
	return NULL;
}

#define FABRIC                                                                                                         \
	.group = GENERAL | ORDINARY, .ordinary = 1, .has_target = 1, .lanes_max = 1, .refuses = fabric_refuses,        \
	.open = fabric_open, .forked = fabric_forked, .serve = fabric_serve, .work = fabric_work,                      \
	.close = fabric_close

static const struct bare_mode providers[] = {
	{ .name = "tcp", .what = "the provider for sockets", .via = VIA_TCP, FABRIC },
	{ .name = "net", .what = "its successor", .via = VIA_TCP, FABRIC },
	{ .name = "shm", .what = "the provider for processes of one machine", .via = VIA_SHM, FABRIC },
	{ .name = NULL },
};

const struct bare_mode *const bare_tables[] = { providers, NULL };
