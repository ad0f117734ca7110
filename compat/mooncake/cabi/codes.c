/* SPDX-License-Identifier: Apache-2.0 */
/* Statuses of Causeway in Mooncake's two families of numbers; codes.def has the table. */
#include "face.h"

static const struct code {
	int status, error, code;
} codes[] = {
#define MOONCAKE_CODE(status, error, error_name, code, code_name, tent, tent_name) { CW_##status, error, code },
#include "mooncake/codes.def"
#undef MOONCAKE_CODE
};

static const struct code *find(int status)
{
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i].status == status)
			return &codes[i];
	return find(CW_ERR_INTERNAL);
}

int face_error(int status)
{
	return find(status)->error;
}

int face_code(int status)
{
	return find(status)->code;
}
