/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "host:port" as users and peers write it. Nothing is resolved here: a host is a name, an IPv4 literal or an IPv6
 * literal, which is the only one that may hold colons.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "wire/classic.h"

/* 0 when all of [text, text + length) is a port in the usual notation. */
static int parse_port(const char *text, size_t length, uint16_t *port_out)
{
	unsigned port = 0;

	if (length == 0 || length > 5 || text[0] == '0')
		return CW_ERR_ADDRESS;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return CW_ERR_ADDRESS;
		port = port * 10 + (unsigned)(text[i] - '0');
	}
	if (port > UINT16_MAX)
		return CW_ERR_ADDRESS;
	*port_out = (uint16_t)port;
	return CW_OK;
}

/* Letters, digits and what else names and zone indices are made of; in particular nothing that could break a log line.
 */
static int plain_characters(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		char c = text[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
		      c == '-' || c == '_'))
			return 0;
	}
	return length > 0;
}

/* An IPv6 literal, perhaps with a zone: "fe80::1%eth0". */
static int ipv6_literal(const char *text, size_t length)
{
	char literal[INET6_ADDRSTRLEN];
	struct in6_addr address;
	const char *zone = memchr(text, '%', length);
	size_t digits = zone ? (size_t)(zone - text) : length;

	if (digits >= sizeof(literal))
		return 0;
	memcpy(literal, text, digits);
	literal[digits] = '\0';
	if (inet_pton(AF_INET6, literal, &address) != 1)
		return 0;
	return !zone || plain_characters(zone + 1, length - digits - 1);
}

static int copy_host(const char *text, size_t length, char *host_out, size_t host_size)
{
	if (length >= host_size)
		return CW_ERR_ADDRESS;
	memcpy(host_out, text, length);
	host_out[length] = '\0';
	return CW_OK;
}

int cw__address_parse(const char *text, uint16_t fallback_port, char *host_out, size_t host_size, uint16_t *port_out)
{
	const char *host = text, *host_end, *colon, *end;
	uint16_t port = fallback_port;

	if (!text)
		return CW_ERR_ADDRESS;
	if (*host == '/')
		host++;
	end = host + strlen(host);
	colon = strrchr(host, ':');
	if (*host == '[') {
		host++;
		host_end = strchr(host, ']');
		if (!host_end || !ipv6_literal(host, (size_t)(host_end - host)))
			return CW_ERR_ADDRESS;
		colon = host_end + 1;
		if (colon == end)
			colon = NULL;
		else if (*colon != ':')
			return CW_ERR_ADDRESS;
	} else if (colon && colon != strchr(host, ':')) {
		host_end = end;
		colon = NULL;
		if (!ipv6_literal(host, (size_t)(host_end - host)))
			return CW_ERR_ADDRESS;
	} else {
		host_end = colon ? colon : end;
		if (!plain_characters(host, (size_t)(host_end - host)))
			return CW_ERR_ADDRESS;
	}
	if (colon && parse_port(colon + 1, (size_t)(end - colon - 1), &port))
		return CW_ERR_ADDRESS;
	if (copy_host(host, (size_t)(host_end - host), host_out, host_size))
		return CW_ERR_ADDRESS;
	*port_out = port;
	return CW_OK;
}

size_t cw__address_format(const char *host, uint16_t port, char *out, size_t size)
{
	const char *form = strchr(host, ':') ? "[%s]:%u" : "%s:%u";
	int length = snprintf(out, size, form, host, (unsigned)port);

	return length < 0 || (size_t)length >= size ? 0 : (size_t)length;
}
