/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who an engine is and where names are looked up. Without a store the name is the address: its host is kept, the port
 * is chosen from the range, as Mooncake does. With a store the name is only a name, and the address is one of this
 * machine. A literal of this machine is listened on alone; for a host name, which may mean another address elsewhere,
 * the engine listens on all.
 */
#include "rows.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/classic.h"

#define HOST_MAX 253 /* characters of a name in DNS */

/* "host:port:npu_0" taken apart. */
struct identity {
	char host[256];
	uint16_t port; /* 0 = none */
	int literal;   /* an address, not a name */
};

/* ---------------------------------------------------------------------------------------------- names */

/* "npu_12": the device that Ascend's engines carry in their names. */
static int is_device(const char *text)
{
	size_t letters = strspn(text, "abcdefghijklmnopqrstuvwxyz");

	return letters > 0 && text[letters] == '_' && text[letters + 1] &&
	       !text[letters + 1 + strspn(text + letters + 1, "0123456789")];
}

static int is_literal(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	return strchr(host, ':') || inet_pton(AF_INET, host, address) == 1;
}

static int take_name(struct setup *setup, const char *name, struct identity *identity_out)
{
	char text[512];
	size_t length = strlen(name);
	char *colon;

	if (length >= sizeof(text))
		return setup__fail(setup, "the name '%.60s...' is longer than %zu bytes", name, sizeof(text) - 1);
	memcpy(text, name, length + 1);
	colon = strrchr(text, ':');
	if (colon && is_device(colon + 1))
		*colon = '\0';
	/* A port of 0 means none. */
	length = strlen(text);
	if (length > 2 && !strcmp(text + length - 2, ":0") &&
	    (text[length - 3] == ']' || strchr(text, ':') == text + length - 2))
		text[length - 2] = '\0';
	if (cw__address_parse(text, 0, identity_out->host, sizeof(identity_out->host), &identity_out->port))
		return setup__fail(setup, "the name '%.100s' is neither HOST, HOST:PORT, IPv6 nor [IPv6]:PORT", name);
	if (strlen(identity_out->host) > HOST_MAX)
		return setup__fail(setup, "the host in '%.60s...' is longer than %d characters", name, HOST_MAX);
	identity_out->literal = is_literal(identity_out->host);
	return 0;
}

/* ------------------------------------------------------------------------------------------- addresses */

/* Can something listen there? */
static int is_of_this_machine(const char *literal)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST }, *found = NULL;
	int fd = -1, ours;

	if (getaddrinfo(literal, "0", &hints, &found))
		return 0;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ours = fd >= 0 && !bind(fd, found->ai_addr, found->ai_addrlen);
	if (fd >= 0)
		close(fd);
	freeaddrinfo(found);
	return ours;
}

/* What Mooncake publishes: the first address of an interface that is up and not loopback. */
void setup_own_address(int ipv6, char *out, size_t size)
{
	struct ifaddrs *all = NULL;
	int wanted = ipv6 ? AF_INET6 : AF_INET;

	snprintf(out, size, "%s", ipv6 ? "::1" : "127.0.0.1");
	if (getifaddrs(&all))
		return;
	for (struct ifaddrs *at = all; at; at = at->ifa_next) {
		unsigned up = at->ifa_flags & (IFF_UP | IFF_RUNNING | IFF_LOOPBACK);
		socklen_t length = ipv6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

		if (!at->ifa_addr || at->ifa_addr->sa_family != wanted || up != (IFF_UP | IFF_RUNNING))
			continue;
		/* Another machine cannot do anything with the zone of a link-local address. */
		if (ipv6 && IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)(void *)at->ifa_addr)->sin6_addr))
			continue;
		if (!getnameinfo(at->ifa_addr, length, out, (socklen_t)size, NULL, 0, NI_NUMERICHOST))
			break;
	}
	freeifaddrs(all);
}

static const char *any_address(const struct setup *setup, const char *host)
{
	return setup->use_ipv6 || strchr(host, ':') ? "::" : "0.0.0.0";
}

/* Where the engine listens when peers use its host, and perhaps a second address. */
static int choose_binding(struct setup *setup, const struct identity *identity, const char *told)
{
	const char *place = any_address(setup, identity->host);
	int loopback = !strcasecmp(identity->host, "localhost");
	int alone = loopback || (identity->literal && is_of_this_machine(identity->host));

	if (alone && (!told[0] || !strcmp(told, identity->host)))
		place = ""; /* the engine's own */
	return setup_set(setup, "control/bind", place);
}

/* ---------------------------------------------------------------------------------------------- stores */

static int is_p2p(const char *text)
{
	return !strcasecmp(text, "P2PHANDSHAKE") || !strcasecmp(text, "p2p");
}

/* A connection string for a line: what stands before an '@' may be a password. */
static const char *shown(const char *text)
{
	const char *at = strrchr(text, '@');

	return at ? at + 1 : text;
}

/* The url of a connection string; etcd is what a text without a scheme means. */
static int store_url(struct setup *setup, const char *text, char *url, size_t size)
{
	static const char *const schemes[] = { "etcd", "http", "https", "redis" };
	const char *rest = strstr(text, "://"), *scheme = setup->metadata_backend[0] ? setup->metadata_backend : "etcd";
	int known = 0, length;

	if (is_p2p(text) || (!rest && is_p2p(scheme))) {
		snprintf(url, size, "p2p");
		return 0;
	}
	for (const char *c = text; *c; c++)
		if (!isgraph((unsigned char)*c) || *c == '"' || *c == '\\')
			return setup__fail(setup, "the metadata server '%.100s' has a character that no url has",
					   shown(text));
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t scheme_length = rest ? (size_t)(rest - text) : strlen(scheme);

		known |= strlen(schemes[i]) == scheme_length &&
			 !strncmp(rest ? text : scheme, schemes[i], scheme_length);
	}
	if (!known)
		return setup__fail(setup,
				   "the metadata server '%.100s' has no scheme that is known: P2PHANDSHAKE, etcd://, "
				   "http://, https:// and redis:// are",
				   rest ? shown(text) : scheme);
	if (!(rest ? rest[3] : text[0]))
		return setup__fail(setup, "the metadata server '%.100s' names no host", shown(text));
	length = rest ? snprintf(url, size, "%s", text) : snprintf(url, size, "%s://%s", scheme, text);
	if (length < 0 || (size_t)length >= size)
		return setup__fail(setup, "the metadata server '%.60s...' is longer than %zu bytes", shown(text),
				   size - 1);
	for (char *c = url; !strncmp(url, "etcd:", 5) && *c; c++)
		if (*c == ';')
			*c = ',';
	return 0;
}

/* The engine's address is one of this machine; its name goes to the store as it was given. Programs of Mooncake expect
 * that they cannot start without their store. */
static int store_identity(struct setup *setup, const char *name, struct identity *identity)
{
	if (setup_set(setup, "metadata/name", name) || setup_set(setup, "metadata/required", "on"))
		return -1;
	if (setup->bind_address[0])
		return take_name(setup, setup->bind_address, identity);
	if (strcasecmp(identity->host, "localhost") && !(identity->literal && is_of_this_machine(identity->host)))
		setup_own_address(setup->use_ipv6, identity->host, sizeof(identity->host));
	identity->literal = is_literal(identity->host);
	return 0;
}

static int has_setting(const struct setup *setup, const char *key)
{
	for (size_t i = 0; i < setup->setting_count; i++)
		if (!strcmp(setup->settings[i].key, key))
			return 1;
	return 0;
}

int setup_identity(struct setup *setup, const char *metadata_server, const char *local_server_name,
		   char *engine_name_out, size_t length)
{
	const char *store = metadata_server && *metadata_server ? metadata_server : setup->metadata_server;
	const char *name = local_server_name && *local_server_name ? local_server_name : setup->local_hostname;
	struct identity identity = { .port = 0 };
	char url[SETUP_TEXT_MAX], engine_name[300];
	const char *told;
	uint16_t port;

	if (!*store && !is_p2p(setup->metadata_backend))
		return setup__fail(setup, "no metadata server is named; \"P2PHANDSHAKE\" needs none");
	if (!*name)
		return setup__fail(setup, "the engine has no name; give this machine's address or host name");
	if (store_url(setup, *store ? store : "P2PHANDSHAKE", url, sizeof(url)) || take_name(setup, name, &identity))
		return -1;
	port = setup->legacy_binding ? identity.port : 0;
	if (strcmp(url, "p2p") && store_identity(setup, name, &identity))
		return -1;
	told = setup->bind_address;
	if (setup_set(setup, "metadata/url", url) || choose_binding(setup, &identity, told) ||
	    (told[0] && setup_set(setup, "engine/advertise", told)))
		return -1;
	if (!has_setting(setup, "control/port_min") &&
	    (setup_set(setup, "control/port_min", "15000") || setup_set(setup, "control/port_max", "17000")))
		return -1;
	/* These programs know memory by its address only, and often free it before they unregister it. */
	if (!has_setting(setup, "memory/verify") && setup_set(setup, "memory/verify", "on"))
		return -1;
	snprintf(engine_name, sizeof(engine_name), strchr(identity.host, ':') ? "[%s]" : "%s", identity.host);
	if (port)
		cw__address_format(identity.host, port, engine_name, sizeof(engine_name));
	if (!engine_name_out || strlen(engine_name) >= length)
		return setup__fail(setup, "the engine's name '%.60s...' is longer than its buffer", engine_name);
	memcpy(engine_name_out, engine_name, strlen(engine_name) + 1);
	return 0;
}
