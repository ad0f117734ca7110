/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an engine listens, as a metadata store says it: what is taken can be written and means the same again.
 */
#include "fuzz.h"

#include "wire/classic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cw__rpc_meta meta, back;
	char why[160] = "", *text;
	size_t length;

	if (cw__rpc_meta_decode((const char *)data, size, &meta, why, sizeof(why))) {
		require(why[0] != '\0' && strlen(why) < sizeof(why) && !strchr(why, '\n'));
		return 0;
	}
	require(meta.host[0] != '\0' && meta.port != 0);
	text = cw__rpc_meta_encode(&meta, &length);
	require(text && text[length - 1] == '\n' && strlen(text) == length);
	require(cw__rpc_meta_decode(text, length, &back, why, sizeof(why)) == CW_OK);
	require(strcmp(back.host, meta.host) == 0 && back.port == meta.port);
	free(text);
	return 0;
}
