/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Set-up time: how long it takes to open an engine, and how long until the first 4 KiB are in the memory of a peer that
 * was never spoken to: open its segment, connect, write. Beside it the bare way: connect a socket, send as much, wait
 * for one byte. Each in turn, while the peer, another process, sleeps.
 *
 *     first_byte [--rounds N] [--via tcp|shm]
 *
 * prints one line of JSON for each.
 */
#include <arpa/inet.h>
#include <causeway/causeway.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BYTES 4096u
#define ROUNDS_MAX 10000
#define REST_NS 3000000 /* between two rounds: long enough for everybody to fall asleep */

enum { ENGINE_OPEN, SEGMENT_OPEN, FIRST_BYTE, BARE, KINDS };

struct samples {
	const char *program, *workload;
	double *us;
	int count;
};

/* What the peer says about itself, through a pipe. */
struct peer {
	char name[256];
	uint64_t address;
	uint16_t bare_port;
};

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "first_byte: %s: %s\n", what, why);
	exit(1);
}

static void check(const char *what, int status)
{
	if (status)
		fail(what, cw_last_error());
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

/* ---------------------------------------------------------------------------------------------- peer */

static int listen_anywhere(uint16_t *port_out)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) || listen(fd, 16) ||
	    getsockname(fd, (struct sockaddr *)&address, &length))
		fail("listen", strerror(errno));
	*port_out = ntohs(address.sin_port);
	return fd;
}

static void serve_bare(int listener)
{
	static unsigned char bytes[BYTES];

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		size_t have = 0;

		while (fd >= 0 && have < BYTES) {
			ssize_t moved = recv(fd, bytes + have, BYTES - have, 0);

			if (moved <= 0)
				break;
			have += (size_t)moved;
		}
		if (have == BYTES)
			(void)send(fd, bytes, 1, MSG_NOSIGNAL);
		if (fd >= 0)
			close(fd);
	}
}

static void be_peer(int pipe_fd)
{
	struct cw_engine *engine;
	struct cw_region *region;
	struct peer self = { 0 };
	void *memory;
	int listener = listen_anywhere(&self.bare_port);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	check("cw_engine_open", cw_engine_open(NULL, &engine));
	check("cw_memory_allocate", cw_memory_allocate(engine, 1 << 20, NULL, &memory, &region));
	memset(memory, 1, 1 << 20);
	snprintf(self.name, sizeof(self.name), "%s", cw_engine_name(engine));
	self.address = (uint64_t)(uintptr_t)memory;
	if (write(pipe_fd, &self, sizeof(self)) != sizeof(self))
		exit(1);
	serve_bare(listener);
}

/* ------------------------------------------------------------------------------------------ initiator */

static void write_first(struct cw_engine *engine, struct cw_segment *segment, void *memory, const struct peer *peer)
{
	struct cw_request request = {
		.segment = segment,
		.op = CW_OP_WRITE,
		.local = { .base = (uint64_t)(uintptr_t)memory, .page_size = BYTES, .count = 1 },
		.remote = { .base = peer->address, .page_size = BYTES, .count = 1 },
	};
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch;

	check("cw_batch_submit", cw_batch_submit(engine, &request, 1, NULL, &batch));
	check("cw_batch_wait", cw_batch_wait(batch, CW_FOREVER));
	cw_batch_result_get(batch, &result);
	cw_batch_release(batch);
	if (result.state != CW_BATCH_COMPLETED)
		fail("write", result.text);
}

static void round_causeway(const struct peer *peer, const char *via, struct samples *samples)
{
	struct cw_segment_options options = CW_SEGMENT_OPTIONS_INIT;
	struct cw_engine *engine;
	struct cw_segment *segment;
	struct cw_region *region;
	void *memory;
	double began = now_us(), opened, reached;

	check("cw_engine_open", cw_engine_open(NULL, &engine));
	opened = now_us();
	samples[ENGINE_OPEN].us[samples[ENGINE_OPEN].count++] = opened - began;
	check("cw_memory_allocate", cw_memory_allocate(engine, BYTES, NULL, &memory, &region));
	memset(memory, 2, BYTES);
	usleep(REST_NS / 1000);
	options.transports = via;
	began = now_us();
	check("cw_segment_open", cw_segment_open(engine, peer->name, &options, &segment));
	reached = now_us();
	write_first(engine, segment, memory, peer);
	opened = now_us();
	samples[SEGMENT_OPEN].us[samples[SEGMENT_OPEN].count++] = reached - began;
	samples[FIRST_BYTE].us[samples[FIRST_BYTE].count++] = opened - began;
	cw_engine_close(engine);
}

static void round_bare(const struct peer *peer, struct samples *samples)
{
	static unsigned char bytes[BYTES];
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				       .sin_port = htons(peer->bare_port) };
	double began = now_us();
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("connect", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (send(fd, bytes, BYTES, MSG_NOSIGNAL) != BYTES || recv(fd, bytes, 1, 0) != 1)
		fail("send", strerror(errno));
	samples[BARE].us[samples[BARE].count++] = now_us() - began;
	close(fd);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(struct samples *samples, const char *via)
{
	double seconds = 0;
	int n = samples->count;

	for (int i = 0; i < n; i++)
		seconds += samples->us[i] / 1e6;
	qsort(samples->us, (size_t)n, sizeof(double), compare);
	printf("{\"program\": \"%s\", \"setting\": \"%s\", \"workload\": \"%s\", \"bytes\": %u, \"operations\": %d, "
	       "\"seconds\": %.6f, \"gigabytes_per_second\": null, \"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, "
	       "\"p999\": %.1f}, \"cpu_seconds_per_gigabyte\": null, \"system_calls_per_operation\": null, "
	       "\"resident_mib\": null}\n",
	       samples->program, via, samples->workload, BYTES, n, seconds, samples->us[n / 2],
	       samples->us[n * 99 / 100], samples->us[n * 999 / 1000]);
}

int main(int argc, char **argv)
{
	struct samples samples[KINDS] = { { "causeway", "engine open", NULL, 0 },
					  { "causeway", "segment open", NULL, 0 },
					  { "causeway", "first byte", NULL, 0 },
					  { "bare", "first byte", NULL, 0 } };
	const char *via = "tcp";
	int rounds = 50, ends[2], wrong = 0;
	struct peer peer;
	pid_t child = -1;

	for (int i = 1; i < argc; i += 2) {
		if (i + 1 < argc && !strcmp(argv[i], "--rounds"))
			rounds = atoi(argv[i + 1]);
		else if (i + 1 < argc && !strcmp(argv[i], "--via"))
			via = argv[i + 1];
		else
			wrong = 1;
	}
	if (wrong || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: first_byte [--rounds N] [--via tcp|shm]\n");
		return 2;
	}
	if (pipe(ends) || (child = fork()) < 0)
		fail("fork", strerror(errno));
	if (child == 0)
		be_peer(ends[1]);
	close(ends[1]);
	if (read(ends[0], &peer, sizeof(peer)) != sizeof(peer))
		fail("peer", "it did not start");
	for (int i = 0; i < KINDS; i++)
		if (!(samples[i].us = calloc((size_t)rounds, sizeof(double))))
			fail("memory", "there is none");
	for (int i = 0; i < rounds; i++) {
		round_causeway(&peer, via, samples);
		usleep(REST_NS / 1000);
		round_bare(&peer, samples);
	}
	kill(child, SIGTERM);
	waitpid(child, NULL, 0);
	for (int i = 0; i < KINDS; i++)
		report(&samples[i], via);
	return 0;
}
