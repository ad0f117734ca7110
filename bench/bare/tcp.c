/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes and TCP connections between them. There are no headers: both sides know which blocks come in which
 * order. A token, one byte, answers each part of a batch that has arrived in the target's memory (write), or asks for
 * the next one (read). Parts that lie behind each other in a stream are moved by one system call.
 *
 * The modes differ in how the two sides wait: in the call (blocking), in epoll, or not at all (spin).
 */
#include "bare.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SCAN_MAX 4 /* a thread with more connections asks epoll which of them is ready, also when it spins */

enum manner { SPIN, BLOCK, EPOLL };

#define MANNERS(initiator, target) ((uintptr_t)(initiator) | (uintptr_t)(target) << 4)
#define SPLICES 0x100u /* added to them: the sender lends its pages to the kernel instead of having them copied */
#define PIPE_BYTES (1 << 20)

struct lane {
	int fd;
	struct iovec *ring;
	uint64_t at;     /* pieces sent or received whole */
	size_t offset;   /* in the next one */
	uint64_t tokens; /* sent by the receiver of the data, received by its sender */
	int ready;       /* where epoll is asked: to be looked at */
	int pipe[2];     /* of a sender that splices */
	size_t piped;    /* bytes in it */
};

struct channel {
	uint64_t started, completed; /* batches; in the initiator */
	uint64_t *begun;             /* when; depth entries, used in turn */
	struct lane *lanes;
};

/* All of one thread of one process. */
struct side {
	struct bare_run *run;
	const struct bare_options *options;
	struct channel *channels;
	size_t count, first;
	size_t ring, per_part;
	int sends;   /* the data, not the tokens */
	int splices; /* it that way */
	enum manner manner;
	int epoll, closed;
	uint64_t calls;
};

struct ends {
	int near, far;
};

static void tune(int fd, const struct bare_options *options)
{
	int one = 1, bytes = (int)options->socket_buffer;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options->congestion, (socklen_t)strlen(options->congestion)))
		bare_fail(options->congestion);
	if (bytes)
		(void)(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) ||
		       setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)));
}

static int listen_here(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd < 0 || bind(fd, (struct sockaddr *)address, length) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)address, &length))
		bare_fail("listen");
	return fd;
}

static void tcp_open(struct bare_run *run)
{
	const struct bare_options *options = run->options;
	size_t count = run->channels * options->lanes;
	struct ends *ends = calloc(count, sizeof(*ends));
	struct sockaddr_in address;
	int listener = listen_here(&address);

	if (!ends)
		bare_fail("malloc");
	for (size_t i = 0; i < count; i++) {
		ends[i].near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (ends[i].near < 0 || connect(ends[i].near, (struct sockaddr *)&address, sizeof(address)))
			bare_fail("connect");
		ends[i].far = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (ends[i].far < 0)
			bare_fail("accept");
		tune(ends[i].near, options);
		tune(ends[i].far, options);
	}
	close(listener);
	run->state = ends;
}

static void side_open(struct side *side, struct bare_run *run, size_t thread)
{
	const struct bare_options *options = run->options;
	const struct bare_layout *layout = run->initiator ? &run->near : &run->far;
	const struct ends *ends = run->state;

	*side = (struct side){ .run = run, .options = options, .count = run->channels / options->threads };
	side->first = thread * side->count;
	side->per_part = layout->per_part;
	side->ring = layout->batches * layout->per_part;
	side->sends = run->initiator ? options->write : !options->write;
	side->manner = (enum manner)(run->mode->variant >> (run->initiator ? 0 : 4) & 15);
	side->splices = side->sends && (run->mode->variant & SPLICES);
	side->epoll = -1;
	if (side->manner == EPOLL || (side->manner == SPIN && side->count * options->lanes > SCAN_MAX))
		side->epoll = epoll_create1(EPOLL_CLOEXEC);
	side->channels = calloc(side->count, sizeof(*side->channels));
	for (size_t i = 0; i < side->count; i++) {
		struct channel *channel = &side->channels[i];

		channel->begun = calloc(options->depth, sizeof(uint64_t));
		channel->lanes = calloc(options->lanes, sizeof(struct lane));
		for (size_t j = 0; j < options->lanes; j++) {
			struct lane *lane = &channel->lanes[j];
			struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = lane };
			const struct ends *end = &ends[(side->first + i) * options->lanes + j];

			lane->fd = run->initiator ? end->near : end->far;
			lane->ring = layout_ring(layout, options, side->first + i, j);
			lane->ready = 1;
			if (side->splices && pipe2(lane->pipe, O_CLOEXEC))
				bare_fail("pipe2");
			if (side->splices)
				(void)fcntl(lane->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
			if (side->epoll >= 0)
				epoll_ctl(side->epoll, EPOLL_CTL_ADD, lane->fd, &event);
		}
	}
}

static void side_close(struct side *side)
{
	for (size_t i = 0; i < side->count; i++) {
		for (size_t j = 0; side->splices && j < side->options->lanes; j++) {
			close(side->channels[i].lanes[j].pipe[0]);
			close(side->channels[i].lanes[j].pipe[1]);
		}
		free(side->channels[i].begun);
		free(side->channels[i].lanes);
	}
	free(side->channels);
	if (side->epoll >= 0)
		close(side->epoll);
}

/* What a call returned: bytes moved, 0 = not now. Notes when the other side has gone. */
static size_t moved(struct side *side, ssize_t result)
{
	side->calls++;
	if (result > 0)
		return (size_t)result;
	if (result == 0 || (errno != EAGAIN && errno != EINTR))
		side->closed = 1;
	return 0;
}

/* Puts the pieces into the pipe when that is empty, then what is in the pipe into the socket. */
static size_t send_spliced(struct side *side, struct lane *lane, const struct iovec *pieces, size_t count)
{
	unsigned flags = side->manner == BLOCK ? 0 : SPLICE_F_NONBLOCK;
	size_t bytes;

	if (!lane->piped)
		lane->piped = moved(side, vmsplice(lane->pipe[1], pieces, count, SPLICE_F_NONBLOCK));
	if (!lane->piped)
		return 0;
	bytes = moved(side, splice(lane->pipe[0], NULL, lane->fd, NULL, lane->piped, SPLICE_F_MOVE | flags));
	lane->piped -= bytes;
	return bytes;
}

/* Moves up to `limit` of the pieces that come next; whether any byte moved. */
static int move_pieces(struct side *side, struct lane *lane, uint64_t limit)
{
	size_t index = lane->at % side->ring, count = side->ring - index;
	struct iovec *pieces = lane->ring + index;
	struct msghdr message = { .msg_iov = pieces };
	int flags = side->manner == BLOCK ? (side->sends ? 0 : MSG_WAITALL) : MSG_DONTWAIT;
	size_t bytes;

	if (count > limit)
		count = limit;
	if (count > side->options->vectors)
		count = side->options->vectors;
	message.msg_iovlen = count;
	pieces->iov_base = (unsigned char *)pieces->iov_base + lane->offset;
	pieces->iov_len -= lane->offset;
	if (side->splices)
		bytes = send_spliced(side, lane, pieces, count);
	else if (count == 1 && side->sends)
		bytes = moved(side, send(lane->fd, pieces->iov_base, pieces->iov_len, flags | MSG_NOSIGNAL));
	else if (count == 1)
		bytes = moved(side, recv(lane->fd, pieces->iov_base, pieces->iov_len, flags));
	else if (side->sends)
		bytes = moved(side, sendmsg(lane->fd, &message, flags | MSG_NOSIGNAL));
	else
		bytes = moved(side, recvmsg(lane->fd, &message, flags));
	pieces->iov_base = (unsigned char *)pieces->iov_base - lane->offset;
	pieces->iov_len += lane->offset;
	if (!bytes)
		return 0;
	for (bytes += lane->offset; count && bytes >= pieces->iov_len; count--, lane->at++)
		bytes -= pieces++->iov_len;
	lane->offset = bytes;
	return 1;
}

/* Sends as many tokens as are owed, or takes those that have come (in the call, if it may wait). */
static int move_tokens(struct side *side, struct lane *lane, uint64_t owed)
{
	unsigned char bytes[64] = { 0 };
	int flags = side->manner == BLOCK ? 0 : MSG_DONTWAIT;
	size_t count;

	if (side->sends)
		count = moved(side, recv(lane->fd, bytes, sizeof(bytes), flags));
	else
		count = moved(side,
			      send(lane->fd, bytes, owed < sizeof(bytes) ? owed : sizeof(bytes), flags | MSG_NOSIGNAL));
	lane->tokens += count;
	return count > 0;
}

/* One step of the side that sends the data; whether something moved. */
static int step_sender(struct side *side, struct channel *channel, struct lane *lane)
{
	int initiator = side->run->initiator, progress = 0;
	uint64_t may = (initiator ? channel->started : lane->tokens) * side->per_part;

	if (may > lane->at)
		progress = move_pieces(side, lane, may - lane->at);
	/* One that waits in the call asks for tokens when there is nothing else to do. */
	if (side->manner != BLOCK || may == lane->at) {
		if (!initiator || channel->started > lane->tokens)
			progress |= move_tokens(side, lane, 0);
	}
	return progress;
}

static int step_receiver(struct side *side, struct channel *channel, struct lane *lane)
{
	int initiator = side->run->initiator, progress = 0;
	uint64_t parts = lane->at / side->per_part, owed = (initiator ? channel->started : parts) - lane->tokens;
	uint64_t limit = (initiator ? channel->started : parts + side->options->depth) * side->per_part - lane->at;

	if (owed)
		progress = move_tokens(side, lane, owed);
	/* More than what has been asked for will not come: a call that waits for all of it asks for one part. */
	if (limit && side->manner == BLOCK)
		limit = (parts + 1) * side->per_part - lane->at;
	if (limit && (side->manner != BLOCK || !owed))
		progress |= move_pieces(side, lane, limit);
	return progress;
}

static int step(struct side *side, struct channel *channel)
{
	int progress = 0;

	for (size_t i = 0; i < side->options->lanes; i++) {
		struct lane *lane = &channel->lanes[i];
		int moves;

		if (side->epoll >= 0 && !lane->ready)
			continue;
		moves = side->sends ? step_sender(side, channel, lane) : step_receiver(side, channel, lane);
		lane->ready = moves;
		progress |= moves;
	}
	return progress;
}

/* Nothing moved on any connection: waits as the mode says. */
static void rest(struct side *side)
{
	struct epoll_event events[64];
	int count;

	if (side->epoll < 0) {
		bare_relax();
		return;
	}
	count = epoll_wait(side->epoll, events, 64, side->manner == EPOLL ? -1 : 0);
	side->calls++;
	for (int i = 0; i < count; i++)
		((struct lane *)events[i].data.ptr)->ready = 1;
}

static uint64_t ended(const struct side *side, const struct channel *channel)
{
	uint64_t least = UINT64_MAX;

	for (size_t i = 0; i < side->options->lanes; i++) {
		const struct lane *lane = &channel->lanes[i];
		uint64_t parts = side->sends ? lane->tokens : lane->at / side->per_part;

		least = parts < least ? parts : least;
	}
	return least;
}

/* Starts as many batches as may be in flight, at the time `now`. */
static void start(struct side *side, struct channel *channel, uint64_t now)
{
	size_t depth = side->options->depth;

	while (channel->started - channel->completed < depth && !bare_time_is_up(side->run, now)) {
		channel->begun[channel->started++ % depth] = now;
		for (size_t i = 0; i < side->options->lanes; i++)
			channel->lanes[i].ready = 1;
	}
}

static void tcp_work(struct bare_run *run, size_t thread)
{
	struct side side;
	uint64_t now;
	size_t busy;

	side_open(&side, run, thread);
	now = bare_now();
	do {
		int progress = 0;

		busy = 0;
		for (size_t i = 0; i < side.count; i++) {
			struct channel *channel = &side.channels[i];
			uint64_t done;

			start(&side, channel, now);
			if (channel->started == channel->completed)
				continue;
			busy++;
			progress |= step(&side, channel);
			done = ended(&side, channel);
			if (done == channel->completed)
				continue;
			now = bare_now();
			for (; channel->completed < done; channel->completed++)
				bare_record(run, thread, side.first + i,
					    now - channel->begun[channel->completed % side.options->depth], now);
		}
		if (busy && !progress)
			rest(&side);
	} while (busy && !side.closed);
	if (side.closed) {
		fprintf(stderr, "bare: the target has gone\n");
		_exit(1);
	}
	bare_count_calls(run, thread, side.calls);
	side_close(&side);
}

struct serving {
	struct bare_run *run;
	size_t thread;
};

static void *serve_thread(void *argument)
{
	const struct serving *serving = argument;
	struct bare_run *run = serving->run;
	struct side side;

	side_open(&side, run, serving->thread);
	while (!side.closed) {
		uint64_t before = side.calls;
		int progress = 0;

		for (size_t i = 0; i < side.count && !side.closed; i++)
			progress |= step(&side, &side.channels[i]);
		if (!progress && !side.closed)
			rest(&side);
		atomic_fetch_add_explicit(&run->shared->target_calls, side.calls - before, memory_order_relaxed);
	}
	side_close(&side);
	return NULL;
}

static void tcp_serve(struct bare_run *run)
{
	struct ends *ends = run->state;
	struct serving serving[THREADS_MAX];
	pthread_t threads[THREADS_MAX];

	for (size_t i = 0; i < run->channels * run->options->lanes; i++)
		close(ends[i].near);
	for (size_t i = 0; i < run->options->threads; i++) {
		serving[i] = (struct serving){ run, i };
		if (i && pthread_create(&threads[i], NULL, serve_thread, &serving[i]))
			bare_fail("pthread_create");
	}
	serve_thread(&serving[0]);
	for (size_t i = 1; i < run->options->threads; i++)
		pthread_join(threads[i], NULL);
}

/* The target's ends are its own now: if it dies, the initiator sees that. */
static void tcp_forked(struct bare_run *run)
{
	struct ends *ends = run->state;

	for (size_t i = 0; i < run->channels * run->options->lanes; i++)
		close(ends[i].far);
}

static void tcp_close(struct bare_run *run)
{
	struct ends *ends = run->state;

	for (size_t i = 0; i < run->channels * run->options->lanes; i++)
		close(ends[i].near);
	free(ends);
}

static const char *blocking_refuses(const struct bare_options *options)
{
	if (options->lanes > 1 || options->peers > 1)
		return "a thread that waits in the call has one connection";
	return NULL;
}

#define TCP                                                                                                            \
	.via = VIA_TCP, .group = GENERAL, .has_target = 1, .open = tcp_open, .serve = tcp_serve, .forked = tcp_forked, \
	.work = tcp_work, .close = tcp_close

const struct bare_mode bare_tcp_modes[] = {
	{ "spin", "both sides spin on non-blocking sockets", TCP, .wait = WAIT_SPIN, .lanes_max = LANES_MAX,
	  .variant = MANNERS(SPIN, SPIN) },
	{ "blocking", "both sides wait in the call", TCP, .wait = WAIT_PARKED, .lanes_max = 1,
	  .refuses = blocking_refuses, .variant = MANNERS(BLOCK, BLOCK) },
	{ "epoll", "both sides wait in epoll_wait", TCP, .wait = WAIT_PARKED, .lanes_max = LANES_MAX,
	  .variant = MANNERS(EPOLL, EPOLL) },
	{ "spin-blocking", "the initiator spins, the target waits in the call", TCP, .wait = WAIT_TARGET_PARKED,
	  .lanes_max = 1, .refuses = blocking_refuses, .variant = MANNERS(SPIN, BLOCK) },
	{ "spin-epoll", "the initiator spins, the target waits in epoll_wait", TCP, .wait = WAIT_TARGET_PARKED,
	  .lanes_max = LANES_MAX, .variant = MANNERS(SPIN, EPOLL) },
	{ "splice", "both sides spin, the sender by vmsplice and splice", TCP, .wait = WAIT_SPIN, .lanes_max = 1,
	  .variant = MANNERS(SPIN, SPIN) | SPLICES },
	{ .name = NULL },
};
