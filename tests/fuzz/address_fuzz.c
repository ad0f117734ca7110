/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses: what is parsed is formatted again, and parses to the same.
 */
#include "fuzz.h"

#include "wire/classic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), host[80], again[80], formatted[96];
	uint16_t port, port_again;

	require(text);
	memcpy(text, data, size);
	text[size] = '\0';
	if (cw__address_parse(text, 12001, host, sizeof(host), &port) == CW_OK) {
		require(host[0] != '\0' && port != 0);
		require(cw__address_format(host, port, formatted, sizeof(formatted)) == strlen(formatted));
		require(cw__address_parse(formatted, 1, again, sizeof(again), &port_again) == CW_OK);
		require(strcmp(host, again) == 0 && port == port_again);
	}
	free(text);
	return 0;
}
