/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bare limit that `./do bench` compares with: the same work as a workload of `causeway bench`, done by the simplest
 * program that can do it. Two processes over a TCP connection on loopback, each block acknowledged by one byte when it
 * is in the receiver's memory, or memcpy between two shared mappings.
 *
 *     bare tcp-write|tcp-read|memcpy BLOCK PIECES SECONDS
 *
 * moves BLOCK bytes in PIECES equal pieces that do not touch each other, again and again, spinning, and prints one line
 * of JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (256u << 20) /* far more than the caches: the blocks are cold, as in a KV cache */
#define PIECES_MAX 1024
#define SAMPLES_MAX (1u << 22)

struct work {
	const char *name;
	size_t block, pieces;
	double seconds;
};

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned char *buffer(void)
{
	unsigned char *memory =
		mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	memset(memory, 1, BUFFER);
	return memory;
}

/* The pieces of block number n: with a gap of a piece between them, so that they cannot be joined. */
static void lay_out(const struct work *work, unsigned char *memory, uint64_t n, struct iovec *pieces)
{
	size_t piece = work->block / work->pieces, span = work->pieces > 1 ? 2 * work->block : work->block;
	unsigned char *at = memory + n % (BUFFER / span) * span;

	for (size_t i = 0; i < work->pieces; i++)
		pieces[i] = (struct iovec){ at + (work->pieces > 1 ? 2 : 1) * i * piece, piece };
}

/* Sends or receives all pieces, spinning. */
static void move(int fd, struct iovec *pieces, size_t count, int sending)
{
	while (count) {
		struct msghdr message = { .msg_iov = pieces, .msg_iovlen = count };
		ssize_t moved = sending ? sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
					: recvmsg(fd, &message, MSG_DONTWAIT);
		size_t left;

		if (moved == 0)
			exit(0); /* the other process has ended */
		if (moved < 0 && errno != EAGAIN && errno != EINTR)
			exit(0);
		for (left = moved > 0 ? (size_t)moved : 0; count && left >= pieces->iov_len; count--, pieces++)
			left -= pieces->iov_len;
		if (count) {
			pieces->iov_base = (unsigned char *)pieces->iov_base + left;
			pieces->iov_len -= left;
		}
	}
}

static void move_byte(int fd, int sending)
{
	unsigned char byte = 1;
	struct iovec one = { &byte, 1 };

	move(fd, &one, 1, sending);
}

static void connect_pair(int *near_out, int *far_out)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		fail("listen");
	*near_out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(*near_out, (struct sockaddr *)&address, length))
		fail("connect");
	*far_out = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	setsockopt(*near_out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(*far_out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* As Causeway does within one host: without pacing the limit is higher. */
	setsockopt(*near_out, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
	setsockopt(*far_out, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

static void serve(const struct work *work, int fd, unsigned char *memory)
{
	struct iovec pieces[PIECES_MAX];

	for (uint64_t n = 0;; n++) {
		lay_out(work, memory, n, pieces);
		if (!strcmp(work->name, "tcp-write")) {
			move(fd, pieces, work->pieces, 0);
			move_byte(fd, 1);
		} else {
			move_byte(fd, 0);
			move(fd, pieces, work->pieces, 1);
		}
	}
}

static void one_block(const struct work *work, int fd, unsigned char *near, unsigned char *far, uint64_t n)
{
	struct iovec pieces[PIECES_MAX], others[PIECES_MAX];

	lay_out(work, near, n, pieces);
	if (!strcmp(work->name, "memcpy")) {
		lay_out(work, far, n, others);
		for (size_t i = 0; i < work->pieces; i++)
			memcpy(others[i].iov_base, pieces[i].iov_base, pieces[i].iov_len);
	} else if (!strcmp(work->name, "tcp-write")) {
		move(fd, pieces, work->pieces, 1);
		move_byte(fd, 0);
	} else {
		move_byte(fd, 1);
		move(fd, pieces, work->pieces, 0);
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void measure(const struct work *work, int fd, unsigned char *near, unsigned char *far)
{
	uint32_t *samples = malloc(SAMPLES_MAX * sizeof(*samples));
	uint64_t begin = now(), end = begin + (uint64_t)(work->seconds * 1e9), n = 0, at = begin;

	if (!samples)
		fail("malloc");
	while (at < end && n < SAMPLES_MAX) {
		uint64_t after;

		one_block(work, fd, near, far, n);
		after = now();
		samples[n++] = (uint32_t)(after - at);
		at = after;
	}
	qsort(samples, n, sizeof(*samples), compare);
	printf("{\"gigabytes_per_second\": %.3f, \"p50_us\": %.2f, \"p99_us\": %.2f}\n",
	       (double)n * (double)work->block / (double)(at - begin), samples[n / 2] / 1e3,
	       samples[n * 99 / 100] / 1e3);
	free(samples);
}

int main(int argc, char **argv)
{
	struct work work = { 0 };
	unsigned char *near, *far;
	int near_fd = -1, far_fd = -1;
	pid_t child = 0;

	if (argc == 5) {
		work = (struct work){ argv[1], strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10),
				      strtod(argv[4], NULL) };
	}
	if (argc != 5 ||
	    (strcmp(work.name, "tcp-write") && strcmp(work.name, "tcp-read") && strcmp(work.name, "memcpy")) ||
	    !work.pieces || work.pieces > PIECES_MAX || !work.block || work.block > BUFFER / 2 || work.seconds <= 0) {
		fprintf(stderr, "usage: bare tcp-write|tcp-read|memcpy BLOCK PIECES SECONDS\n");
		return 2;
	}
	near = buffer();
	far = buffer();
	if (strcmp(work.name, "memcpy")) {
		connect_pair(&near_fd, &far_fd);
		child = fork();
		if (child == 0) {
			close(near_fd);
			serve(&work, far_fd, far);
		}
		close(far_fd);
	}
	measure(&work, near_fd, near, far);
	if (child > 0) {
		kill(child, SIGTERM);
		waitpid(child, NULL, 0);
	}
	return 0;
}
