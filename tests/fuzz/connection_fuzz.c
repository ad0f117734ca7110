/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection requests and documents of which only the form counts: a connection request is always an object.
 */
#include "fuzz.h"

#include "wire/classic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *json = (const char *)data;
	char why[160] = "", *copy, *reply;
	size_t length;
	int object, object_or_null, connection;

	object = cw__classic_object_check(json, size, 0, why, sizeof(why));
	object_or_null = cw__classic_object_check(json, size, 1, why, sizeof(why));
	connection = cw__classic_connection_check(json, size, why, sizeof(why));
	require(object == CW_OK ? object_or_null == CW_OK : connection != CW_OK);

	/* The reply quotes any text, and is itself a connection document, unless the text is not UTF-8. */
	copy = malloc(size + 1);
	require(copy);
	memcpy(copy, data, size);
	copy[size] = '\0';
	reply = cw__classic_connection_reply(copy, &length);
	if (reply)
		require(cw__classic_connection_check(reply, length, why, sizeof(why)) == CW_OK);
	require(reply || object != CW_OK);
	free(reply);
	free(copy);
	return 0;
}
