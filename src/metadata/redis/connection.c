/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets to a redis server with a deadline for each call; see redis.h. */
#include <errno.h>
#include <metadata/redis/redis.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <util/clock.h>
#include <util/resolve.h>

#define REPLY_MAX ((size_t)CW_METADATA_VALUE_MAX + 4096)

/* One line about a system error, in lower case as all of ours. */
static int fail_errno(int status, int error, char *why, size_t why_size)
{
	snprintf(why, why_size, "%s", strerror(error));
	if (*why >= 'A' && *why <= 'Z')
		*why = (char)(*why - 'A' + 'a');
	return status;
}

static int fail_late(char *why, size_t why_size)
{
	snprintf(why, why_size, "no answer in time");
	return CW_ERR_TIMED_OUT;
}

/* Waits until the socket is ready. 0 when the deadline came first. */
static int wait_for(int fd, short events, uint64_t deadline)
{
	struct pollfd item = { fd, events, 0 };

	for (;;) {
		uint64_t now = cw__now(), left = deadline > now ? (deadline - now + CW__MS - 1) / CW__MS : 0;
		int ready = poll(&item, 1, left > 1000000 ? 1000000 : (int)left);

		if (ready > 0)
			return 1;
		if ((ready == 0 && left == 0) || (ready < 0 && errno != EINTR))
			return 0;
	}
}

/* ------------------------------------------------------------------------------------------ connections */

static int connect_one(const struct addrinfo *at, uint64_t deadline, int *fd_out, char *why, size_t why_size)
{
	int fd = socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol);
	int status = CW_OK, error = 0, on = 1;
	socklen_t size = sizeof(error);

	if (fd < 0)
		return fail_errno(CW_ERR_IO, errno, why, why_size);
	if (connect(fd, at->ai_addr, at->ai_addrlen) && errno != EINPROGRESS)
		status = fail_errno(CW_ERR_CONNECT, errno, why, why_size);
	else if (!wait_for(fd, POLLOUT, deadline))
		status = fail_late(why, why_size);
	else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) || error)
		status = fail_errno(CW_ERR_CONNECT, error, why, why_size);
	if (status) {
		close(fd);
		return status;
	}
	/* Only speed and the notice of a dead host are lost when these fail. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	*fd_out = fd;
	return CW_OK;
}

int cw__redis_dial(const char *host, uint16_t port, uint64_t deadline, int *fd_out, char *why, size_t why_size)
{
	struct addrinfo *found = NULL;
	char service[8];
	int status, failure;

	snprintf(service, sizeof(service), "%u", port);
	failure = cw__resolve(host, service, deadline, &found);
	if (failure) {
		snprintf(why, why_size, "the name of the host cannot be resolved (%s)", cw__resolve_why(failure));
		return failure == CW__RESOLVE_LATE ? CW_ERR_TIMED_OUT : CW_ERR_CONNECT;
	}
	status = CW_ERR_CONNECT;
	snprintf(why, why_size, "the host has no address");
	for (const struct addrinfo *at = found; at; at = at->ai_next) {
		uint64_t now = cw__now(), left = deadline > now ? deadline - now : 0;

		/* A silent address leaves half of the time for the next. */
		status = connect_one(at, at->ai_next ? now + left / 2 : deadline, fd_out, why, why_size);
		if (!status)
			break;
	}
	freeaddrinfo(found);
	return status;
}

int cw__redis_is_stale(int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static int send_all(int fd, const char *data, size_t length, uint64_t deadline, char *why, size_t why_size)
{
	while (length) {
		ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			if (!wait_for(fd, POLLOUT, deadline))
				return fail_late(why, why_size);
			continue;
		}
		if (sent < 0)
			return fail_errno(CW_ERR_CONNECT, errno, why, why_size);
		data += sent;
		length -= (size_t)sent;
	}
	return CW_OK;
}

/* The first byte says what kind of reply comes. Arrays and the kinds of newer protocols are never asked for; they would
 * make the reader reserve memory for as many elements as a server likes to announce. */
static int check_kind(char first, char *why, size_t why_size)
{
	if (strchr("+-:$", first) && first)
		return CW_OK;
	snprintf(why, why_size, "does not speak redis");
	return CW_ERR_PROTOCOL;
}

static int receive_reply(int fd, void *reader, uint64_t deadline, struct cw__redis_reply *reply_out, char *why,
			 size_t why_size)
{
	char data[65536];
	size_t total = 0;
	int status;

	for (;;) {
		ssize_t got = recv(fd, data, sizeof(data), 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			if (!wait_for(fd, POLLIN, deadline))
				return fail_late(why, why_size);
			continue;
		}
		if (got < 0)
			return fail_errno(total ? CW_ERR_IO : CW_ERR_CONNECT, errno, why, why_size);
		if (got == 0) {
			snprintf(why, why_size, "closed the connection");
			return total ? CW_ERR_IO : CW_ERR_CONNECT;
		}
		status = total ? CW_OK : check_kind(data[0], why, why_size);
		total += (size_t)got;
		if (!status && total > REPLY_MAX) {
			snprintf(why, why_size, "its answer is longer than %zu bytes", REPLY_MAX);
			status = CW_ERR_LIMIT;
		}
		if (!status)
			status = cw__hiredis_feed(reader, data, (size_t)got, reply_out, why, why_size);
		if (status != CW_ERR_AGAIN)
			return status;
		/* A server that trickles is no better than one that is silent. */
		if (cw__now() >= deadline)
			return fail_late(why, why_size);
	}
}

int cw__redis_exchange(int fd, int count, const char **words, const size_t *lengths, uint64_t deadline,
		       struct cw__redis_reply *reply_out, char *why, size_t why_size)
{
	size_t length = 0;
	char *request = cw__hiredis_format(count, words, lengths, &length);
	void *reader = cw__hiredis_reader();
	int status = CW_ERR_NO_MEMORY;

	snprintf(why, why_size, "out of memory");
	if (request && reader)
		status = send_all(fd, request, length, deadline, why, why_size);
	if (!status)
		status = receive_reply(fd, reader, deadline, reply_out, why, why_size);
	if (reader)
		cw__hiredis_reader_free(reader);
	if (request)
		cw__hiredis_free(request);
	return status;
}
