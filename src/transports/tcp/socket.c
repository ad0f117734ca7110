/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and tuning of TCP sockets. Everything here is non-blocking and close-on-exec. See tcp.h. */
#include "tcp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <util/clock.h>

static void set(int fd, int level, int option, int value)
{
	/* A kernel that does not know an option only makes us slower or later to notice a dead peer. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

/* The numeric address alone: the part of a socket address that tells hosts apart. NULL for other families. */
static const void *host_part(const struct sockaddr_storage *address, size_t *length_out)
{
	if (address->ss_family == AF_INET) {
		*length_out = sizeof(struct in_addr);
		return &((const struct sockaddr_in *)address)->sin_addr;
	}
	if (address->ss_family == AF_INET6) {
		*length_out = sizeof(struct in6_addr);
		return &((const struct sockaddr_in6 *)address)->sin6_addr;
	}
	return NULL;
}

/* Between two processes of one host there is no congestion to control, and an algorithm that paces, such as bbr, only
 * slows both down: measured here, 8 MiB blocks go twice as fast without. An explicit setting counts more. */
static void tune_within_host(const struct cw__tcp *tcp, int fd)
{
	struct sockaddr_storage near = { 0 }, far = { 0 };
	socklen_t near_length = sizeof(near), far_length = sizeof(far);
	const void *here, *there;
	size_t length = 0;

	if (tcp->settings.congestion_control || getsockname(fd, (struct sockaddr *)&near, &near_length) ||
	    getpeername(fd, (struct sockaddr *)&far, &far_length) || near.ss_family != far.ss_family)
		return;
	here = host_part(&near, &length);
	there = host_part(&far, &length);
	if (here && there && !memcmp(here, there, length))
		(void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4); /* the one that every kernel has */
}

void cw__tcp_tune(const struct cw__tcp *tcp, int fd)
{
	uint64_t timeout_ms = tcp->settings.peer_timeout / CW__MS;
	int seconds = (int)(timeout_ms / 1000);
	int idle = seconds / 2 > 0 ? seconds / 2 : 1;
	const char *algorithm = tcp->settings.congestion_control;

	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle);
	set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPCNT, seconds - idle > 0 ? seconds - idle : 1);
	set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)timeout_ms);
	if (algorithm && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, algorithm, (socklen_t)strlen(algorithm)) < 0)
		tcp->host->ops->log(tcp->host, CW_LOG_WARN, "tcp: tcp/congestion_control = %s: %s", algorithm,
				    strerror(errno));
	tune_within_host(tcp, fd);
}

static struct addrinfo *resolve(const char *host, uint16_t port, int flags)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV | flags };
	struct addrinfo *found = NULL;
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	return getaddrinfo(host, service, &hints, &found) == 0 ? found : NULL;
}

int cw__tcp_dial(const struct cw__tcp *tcp, const char *address, uint16_t port, int *fd_out)
{
	/* Numeric only: a name server must never hold up a loop. */
	struct addrinfo *target = resolve(address, port, AI_NUMERICHOST);
	int status = CW_OK;
	int fd;

	if (!target)
		return CW_ERR_ADDRESS;
	fd = socket(target->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		freeaddrinfo(target);
		return CW_ERR_IO;
	}
	cw__tcp_tune(tcp, fd);
	if (connect(fd, target->ai_addr, target->ai_addrlen) < 0 && errno != EINPROGRESS)
		status = CW_ERR_CONNECT;
	freeaddrinfo(target);
	if (status) {
		close(fd);
		return status;
	}
	*fd_out = fd;
	return CW_OK;
}

int cw__tcp_dial_result(const struct cw__tcp *tcp, int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error)
		return CW_ERR_CONNECT;
	tune_within_host(tcp, fd);
	return CW_OK;
}

static int bound_port(int fd, uint16_t *port_out)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return CW_ERR_IO;
	*port_out = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
							: ((struct sockaddr_in *)&address)->sin_port);
	return CW_OK;
}

int cw__tcp_listen(const char *host, uint16_t port, int *fd_out, uint16_t *port_out)
{
	struct addrinfo *local = resolve(host, port, AI_PASSIVE);
	int fd;

	if (!local)
		return CW_ERR_ADDRESS;
	fd = socket(local->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		freeaddrinfo(local);
		return CW_ERR_IO;
	}
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (local->ai_family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (bind(fd, local->ai_addr, local->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0 || bound_port(fd, port_out)) {
		freeaddrinfo(local);
		close(fd);
		return CW_ERR_IO;
	}
	freeaddrinfo(local);
	*fd_out = fd;
	return CW_OK;
}

uint64_t cw__tcp_backoff(unsigned tries)
{
	static const uint16_t delay_ms[CW__TCP_TRIES] = { 0, 10, 40, 160, 640, 1280 };

	return tries < CW__TCP_TRIES ? delay_ms[tries] * CW__MS : CW_FOREVER;
}
