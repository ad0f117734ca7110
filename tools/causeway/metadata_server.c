/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway metadata-server`: the HTTP server where engines find each other, with the protocol of Mooncake's own ones.
 * This file reads the options, listens and waits for the end; see metadata_server.h for the rest. Manual:
 * man/causeway-metadata-server.1.
 */
#include "metadata_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "commands.h"
#include "lib/arguments.h"
#include "lib/stop.h"

#define COMMAND "causeway metadata-server"
#define BACKLOG 1024
/* Descriptors beside those of connections: the file, the pool's, the standard ones. */
#define OTHER_DESCRIPTORS 128

struct options {
	const char *host, *path, *persist;
	uint64_t port;
	double expire;
	int allow_duplicate;
	uint64_t connections;
	struct metadata_limits limits;
};

static void read_options(struct options *options, int argc, char **argv)
{
	const struct argument arguments[] = {
		{ "host", ARGUMENT_TEXT, &options->host, "ADDRESS",
		  "listen here (127.0.0.1); 0.0.0.0 or :: = everywhere" },
		{ "port", ARGUMENT_NUMBER, &options->port, "N", "(8080); 0 = any free one, which is printed" },
		{ "path", ARGUMENT_TEXT, &options->path, "PATH", "of the metadata (/metadata)" },
		{ "persist", ARGUMENT_TEXT, &options->persist, "FILE", "keep everything in this file, too" },
		{ "max-keys", ARGUMENT_NUMBER, &options->limits.keys, "N", "as many keys (100000)" },
		{ "max-value", ARGUMENT_NUMBER, &options->limits.value, "BYTES", "in one value (16m)" },
		{ "max-memory", ARGUMENT_NUMBER, &options->limits.memory, "BYTES", "in all keys and values (1g)" },
		{ "max-connections", ARGUMENT_NUMBER, &options->connections, "N", "at once (4096)" },
		{ "allow-duplicate", ARGUMENT_CHOICE, &options->allow_duplicate, "off|on",
		  "may an rpc_meta key be put again before it was deleted? (on)" },
		{ "expire", ARGUMENT_DECIMAL, &options->expire, "SECONDS",
		  "forget what was not put again for so long (0 = never)" },
		{ NULL, ARGUMENT_END, NULL, NULL, NULL },
	};
	const struct command_line line = {
		.command = COMMAND,
		.operands = "",
		.summary = "Serves the metadata of transfer engines over HTTP: GET, PUT and DELETE of PATH?key=KEY. "
			   "GET /metrics\n"
			   "gives counters for Prometheus, GET /health says ok. Ends with SIGINT or SIGTERM.",
		.arguments = arguments,
	};

	arguments_parse(&line, argc, argv, NULL);
	if (options->port > 65535)
		arguments_refuse(&line, "--port is from 0 to 65535");
	if (options->path[0] != '/' || strpbrk(options->path, "?# ") || strcmp(options->path, "/metrics") == 0 ||
	    strcmp(options->path, "/health") == 0)
		arguments_refuse(&line, "'%s' is not a value for --path: '/' and a name, not /metrics or /health",
				 options->path);
	/* The file has 32 bits for it. */
	if (options->limits.value < 1 || options->limits.value > INT32_MAX)
		arguments_refuse(&line, "--max-value is from 1 to 2147483647");
	if (options->limits.keys < 1 || options->connections < 1)
		arguments_refuse(&line, "--max-keys and --max-connections are at least 1");
	options->limits.expire_ms = (uint64_t)(options->expire * 1000);
	options->limits.allow_duplicate = options->allow_duplicate;
}

static int try_listen(const struct addrinfo *at)
{
	int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
	int on = 1, saved;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* The host without the brackets of an IPv6 address. The descriptor, or -1 after a line. */
static int listen_at(const char *host, uint64_t port)
{
	struct addrinfo wanted = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	char name[256], service[8];
	size_t length = strlen(host);
	int error, fd = -1;

	if (length > 2 && host[0] == '[' && host[length - 1] == ']')
		snprintf(name, sizeof(name), "%.*s", (int)(length - 2), host + 1);
	else
		snprintf(name, sizeof(name), "%s", host);
	snprintf(service, sizeof(service), "%u", (unsigned)port);
	error = getaddrinfo(name, service, &wanted, &found);
	if (error) {
		fprintf(stderr, "%s: --host %s: %s\n", COMMAND, host, gai_strerror(error));
		return -1;
	}
	for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
		fd = try_listen(at);
	if (fd < 0)
		fprintf(stderr, "%s: cannot listen on %s port %u: %s%s\n", COMMAND, host, (unsigned)port,
			strerror(errno), errno == EADDRINUSE ? "; --port names another one" : "");
	freeaddrinfo(found);
	return fd;
}

static void print_address(int fd, const char *path)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[NI_MAXHOST] = "?", service[NI_MAXSERV] = "?";

	if (getsockname(fd, (struct sockaddr *)&address, &length) == 0)
		getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), service, sizeof(service),
			    NI_NUMERICHOST | NI_NUMERICSERV);
	printf(strchr(host, ':') ? "metadata server: http://[%s]:%s%s\n" : "metadata server: http://%s:%s%s\n", host,
	       service, path);
	fflush(stdout);
}

/* As many descriptors as connections, as far as the system lets us. */
static void raise_descriptors(uint64_t connections)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= connections + OTHER_DESCRIPTORS)
		return;
	limit.rlim_cur =
		limit.rlim_max < connections + OTHER_DESCRIPTORS ? limit.rlim_max : connections + OTHER_DESCRIPTORS;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		fprintf(stderr, "%s: cannot raise the number of descriptors: %s\n", COMMAND, strerror(errno));
}

static int serve(const struct options *options, struct metadata_store *store, char *text)
{
	struct metadata_http_options http_options = {
		.path = options->path,
		.value_max = options->limits.value,
		.connections = options->connections,
	};
	struct metadata_http *http;
	int report;

	http_options.listen_fd = listen_at(options->host, options->port);
	if (http_options.listen_fd < 0)
		return 1;
	/* The address is printed when requests are answered, from a descriptor that the HTTP library does not close. */
	report = dup(http_options.listen_fd);
	http = metadata_http_start(&http_options, store, text);
	if (!http) {
		fprintf(stderr, "%s: %s\n", COMMAND, text);
		close(report);
		return 1;
	}
	print_address(report, options->path);
	close(report);
	stop_wait();
	metadata_http_stop(http);
	return 0;
}

int command_metadata_server(int argc, char **argv)
{
	struct options options = {
		.host = "127.0.0.1",
		.path = "/metadata",
		.port = 8080,
		.allow_duplicate = 1,
		.connections = 4096,
		.limits = { .keys = 100000, .value = 16u << 20, .memory = 1u << 30 },
	};
	char text[METADATA_TEXT_MAX];
	struct metadata_store *store;
	int status;

	read_options(&options, argc, argv);
	if (!metadata_library(text)) {
		fprintf(stderr, "%s: %s\n", COMMAND, text);
		return 1;
	}
	/* Both are told by the call that meets them. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (stop_install() != 0) {
		fprintf(stderr, "%s: signals cannot be handled: %s\n", COMMAND, strerror(errno));
		return 1;
	}
	raise_descriptors(options.connections);
	store = metadata_store_open(&options.limits, options.persist, text);
	if (!store) {
		fprintf(stderr, "%s: %s\n", COMMAND, text);
		return 1;
	}
	status = serve(&options, store, text);
	metadata_store_close(store);
	return status;
}
