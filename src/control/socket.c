/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets and addresses: options, names to addresses, and the binding of the listener. */
#include <control/control.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <util/resolve.h>

#define BACKLOG 512
#define BIND_TRIES 500u

int cw__target_set(struct cw__target *target, const struct sockaddr *address, socklen_t length)
{
	if (length > sizeof(target->address))
		return CW_ERR_ADDRESS;
	memcpy(&target->address, address, length);
	target->length = length;
	if (address->sa_family == AF_INET)
		target->port = ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
	else if (address->sa_family == AF_INET6)
		target->port = ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
	else
		return CW_ERR_ADDRESS;
	if (getnameinfo(address, length, target->host, sizeof(target->host), NULL, 0, NI_NUMERICHOST))
		return CW_ERR_ADDRESS;
	return cw__address_format(target->host, target->port, target->text, sizeof(target->text)) ? CW_OK
												  : CW_ERR_ADDRESS;
}

static int target_known(const struct cw__target *targets, size_t count, const struct cw__target *target)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(targets[i].text, target->text))
			return 1;
	return 0;
}

size_t cw__targets_resolve(const char *text, uint64_t until, struct cw__target *targets, size_t count)
{
	struct addrinfo *found = NULL;
	char host[256], service[8];
	uint16_t port;

	if (cw__address_parse(text, 12001, host, sizeof(host), &port))
		return count;
	snprintf(service, sizeof(service), "%u", port);
	if (cw__resolve(host, service, until, &found))
		return count;
	for (struct addrinfo *at = found; at && count < CW__TARGETS_MAX; at = at->ai_next)
		if (!cw__target_set(&targets[count], at->ai_addr, at->ai_addrlen) &&
		    !target_known(targets, count, &targets[count]))
			count++;
	freeaddrinfo(found);
	return count;
}

void cw__control_socket_peer(int fd, char *text, size_t size)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	struct cw__target target;

	if (getpeername(fd, (struct sockaddr *)&address, &length) ||
	    cw__target_set(&target, (struct sockaddr *)&address, length))
		snprintf(text, size, "unknown");
	else
		snprintf(text, size, "%s", target.text);
}

void cw__control_socket_nodelay(int fd)
{
	int on = 1;

	/* Only speed is lost when this fails. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void cw__control_socket_keepalive(int fd, uint64_t timeout)
{
	unsigned milliseconds = (unsigned)(timeout / CW__MS);
	int on = 1, idle = (int)(milliseconds / 2000), interval = (int)(milliseconds / 5000), count = 5;

	/* The kernel counts these in whole seconds; TCP_USER_TIMEOUT decides when it is over. */
	idle = idle > 0 ? idle : 1;
	interval = interval > 0 ? interval : 1;
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof(milliseconds));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* ------------------------------------------------------------------------------------ listening */

static _Thread_local char listen_why[200];

/* One socket at one address; -1 with errno. */
static int listen_once(const struct addrinfo *at, uint16_t port)
{
	struct sockaddr_storage address;
	int on = 1, off = 0, saved;
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	memcpy(&address, at->ai_addr, at->ai_addrlen);
	if (at->ai_family == AF_INET6) {
		struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address;

		six->sin6_port = htons(port);
		if (IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr) &&
		    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)))
			goto fail;
	} else {
		((struct sockaddr_in *)&address)->sin_port = htons(port);
	}
	/* Lets a restarted engine take its port back from connections in TIME_WAIT; a second listener is still refused.
	 * Set after bind when the kernel chooses, or it could choose a port that another engine has bound and not yet
	 * listens on. */
	if (port && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		goto fail;
	if (bind(fd, (struct sockaddr *)&address, at->ai_addrlen))
		goto fail;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) || listen(fd, BACKLOG))
		goto fail;
	return fd;
fail:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* Tries ports of [from, from + span) from a random one on, or just `from` when span is 1. */
static int listen_range(const struct addrinfo *at, unsigned from, unsigned span)
{
	unsigned random = 0, tries = span < BIND_TRIES ? span : BIND_TRIES;
	int fd = -1;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = (unsigned)cw__now();
	for (unsigned i = 0; i < tries && fd < 0; i++) {
		fd = listen_once(at, (uint16_t)(from + (random % span + i) % span));
		if (fd < 0 && errno != EADDRINUSE && errno != EACCES)
			break;
	}
	return fd;
}

/* Where the listener should be: a host and [*from, *from + *span). */
static int listen_place(struct cw_host *host, char *name, size_t size, unsigned *from, unsigned *span)
{
	const char *bind_to = host->ops->setting(host, "control/bind"), *own = host->ops->engine_name(host);
	unsigned port = (unsigned)host->ops->setting_number(host, "control/port", 0);
	unsigned least = (unsigned)host->ops->setting_number(host, "control/port_min", 0);
	unsigned most = (unsigned)host->ops->setting_number(host, "control/port_max", 0);
	uint16_t own_port = 0, bind_port = 0;

	if (!own || !*own)
		own = "127.0.0.1";
	if (cw__address_parse(own, 0, name, size, &own_port)) {
		snprintf(listen_why, sizeof(listen_why), "\"%.100s\" is not an address", own);
		return CW_ERR_ADDRESS;
	}
	if (bind_to && *bind_to) {
		if (cw__address_parse(bind_to, 0, name, size, &bind_port) || bind_port) {
			snprintf(listen_why, sizeof(listen_why),
				 "control/bind: \"%.100s\" is not an address without a port", bind_to);
			return CW_ERR_CONFIG;
		}
	}
	if (least > most) {
		snprintf(listen_why, sizeof(listen_why), "control/port_min %u is above control/port_max %u", least,
			 most);
		return CW_ERR_CONFIG;
	}
	*from = port ? port : own_port ? own_port : least;
	*span = port || own_port || !least ? 1 : most - least + 1;
	return CW_OK;
}

int cw__control_socket_listen(struct cw_host *host, int *fd_out, uint16_t *port_out, const char **why_out)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	struct cw__target bound;
	char name[256];
	unsigned from, span;
	int status, failed, cause = 0, fd = -1;

	*why_out = listen_why;
	status = listen_place(host, name, sizeof(name), &from, &span);
	if (status)
		return status;
	hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
	failed = getaddrinfo(name, "0", &hints, &found);
	if (failed) {
		snprintf(listen_why, sizeof(listen_why), "\"%.100s\": %s", name, gai_strerror(failed));
		return CW_ERR_ADDRESS;
	}
	for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
		fd = listen_range(at, from, span);
		cause = errno;
	}
	freeaddrinfo(found);
	if (fd < 0) {
		char text[80];

		snprintf(listen_why, sizeof(listen_why), "cannot listen on \"%.80s\" port %u to %u: %s", name, from,
			 from + span - 1, strerror_r(cause, text, sizeof(text)));
		return CW_ERR_IO;
	}
	if (getsockname(fd, (struct sockaddr *)&address, &length) ||
	    cw__target_set(&bound, (struct sockaddr *)&address, length)) {
		snprintf(listen_why, sizeof(listen_why), "the listener has no address");
		close(fd);
		return CW_ERR_IO;
	}
	*fd_out = fd;
	*port_out = bound.port;
	return CW_OK;
}
