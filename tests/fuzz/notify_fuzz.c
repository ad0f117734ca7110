/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classic notifications: both texts come back the same, whatever characters they have.
 */
#include "fuzz.h"

#include "wire/classic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cw__classic_notify notify, back;
	char why[160] = "", *text;
	size_t length;

	if (cw__classic_notify_decode((const char *)data, size, &notify, why, sizeof(why))) {
		require(why[0] != '\0');
		return 0;
	}
	text = cw__classic_notify_encode(notify.name, notify.message, &length);
	require(text && text[length - 1] == '\n' && strlen(text) == length);
	require(cw__classic_notify_decode(text, length, &back, why, sizeof(why)) == CW_OK);
	require(strcmp(back.name, notify.name) == 0 && strcmp(back.message, notify.message) == 0);
	cw__classic_notify_free(&back);
	cw__classic_notify_free(&notify);
	free(text);
	return 0;
}
