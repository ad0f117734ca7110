/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to reach a new peer: connect, write one batch of one block, take the answer, close; again and again.
 */
#include "bare.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct meeting {
	struct sockaddr_in address;
	int listener;
	uint64_t calls;
};

static void setup_open(struct bare_run *run)
{
	struct meeting *meeting = calloc(1, sizeof(*meeting));
	socklen_t length = sizeof(meeting->address);
	int spins = run->mode->wait == WAIT_SPIN;

	if (!meeting)
		bare_fail("malloc");
	meeting->address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	meeting->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (spins ? SOCK_NONBLOCK : 0), 0);
	if (meeting->listener < 0 || bind(meeting->listener, (struct sockaddr *)&meeting->address, length) ||
	    listen(meeting->listener, 64) ||
	    getsockname(meeting->listener, (struct sockaddr *)&meeting->address, &length))
		bare_fail("listen");
	run->state = meeting;
}

static void tune(struct bare_run *run, int fd)
{
	const char *congestion = run->options->congestion;
	struct meeting *meeting = run->state;
	int one = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, (socklen_t)strlen(congestion)))
		bare_fail(congestion);
	meeting->calls += 2;
}

/* All of it, spinning or waiting in the call; 0 when the other side has gone. */
static int move(struct bare_run *run, int fd, unsigned char *bytes, size_t length, int sends)
{
	int flags = (run->mode->wait == WAIT_SPIN ? MSG_DONTWAIT : 0) | MSG_NOSIGNAL;
	struct meeting *meeting = run->state;

	while (length) {
		ssize_t moved = sends ? send(fd, bytes, length, flags) : recv(fd, bytes, length, flags);

		meeting->calls++;
		if (moved == 0 || (moved < 0 && errno != EAGAIN && errno != EINTR))
			return 0;
		if (moved > 0)
			bytes += moved, length -= (size_t)moved;
	}
	return 1;
}

/* Moves the batch between this side's memory and the socket, and a token the other way. */
static int exchange(struct bare_run *run, int fd, uint64_t batch)
{
	const struct bare_layout *layout = run->initiator ? &run->near : &run->far;
	const struct iovec *piece = layout_ring(layout, run->options, 0, 0) + batch % layout->batches;
	int sends = run->initiator ? run->options->write : !run->options->write;
	unsigned char token = 1;

	if (sends)
		return (run->initiator || move(run, fd, &token, 1, 0)) &&
		       move(run, fd, piece->iov_base, piece->iov_len, 1) &&
		       (!run->initiator || move(run, fd, &token, 1, 0));
	return (!run->initiator || move(run, fd, &token, 1, 1)) && move(run, fd, piece->iov_base, piece->iov_len, 0) &&
	       (run->initiator || move(run, fd, &token, 1, 1));
}

static void setup_serve(struct bare_run *run)
{
	struct meeting *meeting = run->state;

	for (uint64_t batch = 0; !atomic_load(&run->shared->stop);) {
		int fd = accept4(meeting->listener, NULL, NULL, SOCK_CLOEXEC);

		meeting->calls++;
		if (fd < 0)
			continue;
		tune(run, fd);
		batch += (uint64_t)exchange(run, fd, batch);
		close(fd);
		meeting->calls++;
		atomic_store_explicit(&run->shared->target_calls, meeting->calls, memory_order_relaxed);
	}
}

static int reach(struct bare_run *run)
{
	struct meeting *meeting = run->state;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&meeting->address, sizeof(meeting->address)))
		bare_fail("connect");
	meeting->calls += 2;
	return fd;
}

static void setup_work(struct bare_run *run, size_t thread)
{
	struct meeting *meeting = run->state;
	uint64_t before = bare_now();

	for (uint64_t batch = 0; !bare_time_is_up(run, before); batch++) {
		int fd = reach(run);
		uint64_t now;

		tune(run, fd);
		if (!exchange(run, fd, batch))
			bare_fail("exchange");
		now = bare_now();
		bare_record(run, thread, 0, now - before, now);
		close(fd);
		meeting->calls++;
		before = bare_now();
	}
	bare_count_calls(run, thread, meeting->calls);
}

static void setup_close(struct bare_run *run)
{
	struct meeting *meeting = run->state;

	atomic_store(&run->shared->stop, 1);
	close(reach(run));
	close(meeting->listener);
	free(meeting);
}

static const char *setup_refuses(const struct bare_options *options)
{
	if (options->pages > 1 || options->depth > 1 || options->threads > 1 || options->peers > 1)
		return "one block goes over one new connection at a time";
	return NULL;
}

#define SETUP                                                                                                          \
	.via = VIA_TCP, .has_target = 1, .lanes_max = 1, .refuses = setup_refuses, .open = setup_open,                 \
	.serve = setup_serve, .work = setup_work, .close = setup_close

const struct bare_mode bare_setup_modes[] = {
	{ .name = "setup",
	  .what = "a new connection for each block, both sides wait in the call",
	  SETUP,
	  .wait = WAIT_PARKED },
	{ .name = "setup-spin", .what = "a new connection for each block, both sides spin", SETUP, .wait = WAIT_SPIN },
	{ .name = NULL },
};
