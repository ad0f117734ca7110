/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of etcd's JSON gateway: each of them is read as any of the things that we ask for. A value that is taken
 * comes back the same.
 */
#include "fuzz.h"

#include <core/core.h>
#include <metadata/etcd/codec.h>

static void read_as_value(const uint8_t *data, size_t size)
{
	struct cw__etcd_writer writer = { .ops = &cw__host_ops };
	struct cw_blob value = { NULL, 0, 0 }, again = { NULL, 0, 0 };
	char why[160] = "";
	int status = cw__etcd_read_range(&cw__host_ops, data, size, "key", &value, why, sizeof(why));

	require(status == CW_OK || status == CW_ERR_NOT_FOUND || (status == CW_ERR_PROTOCOL && why[0] != '\0'));
	require(status == CW_OK || value.length == 0);
	if (status == CW_OK) {
		cw__etcd_write(&writer, "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"");
		cw__etcd_write_base64(&writer, value.data, value.length);
		cw__etcd_write(&writer, "\"}]}");
		require(!writer.bad);
		require(!cw__etcd_read_range(&cw__host_ops, writer.blob.data, writer.blob.length, "key", &again, why,
					     sizeof(why)));
		require(again.length == value.length &&
			(!value.length || !memcmp(again.data, value.data, value.length)));
	}
	cw__host_ops.blob_free(&writer.blob);
	cw__host_ops.blob_free(&value);
	cw__host_ops.blob_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char lease[CW__ETCD_LEASE_BYTES] = "", token[CW__ETCD_TOKEN_BYTES] = "", why[160] = "";
	struct cw__etcd_refusal refusal;
	int succeeded = -1, status;

	read_as_value(data, size);
	status = cw__etcd_read_grant(data, size, lease, why, sizeof(why));
	require(status ? status == CW_ERR_PROTOCOL && why[0] : lease[0] && !lease[strspn(lease, "0123456789")]);
	status = cw__etcd_read_keepalive(data, size, why, sizeof(why));
	require(status == CW_OK || status == CW_ERR_NOT_FOUND || status == CW_ERR_PROTOCOL);
	status = cw__etcd_read_token(data, size, token, why, sizeof(why));
	require(status == CW_OK || status == CW_ERR_PROTOCOL);
	require(!strpbrk(token, "\r\n "));
	status = cw__etcd_read_succeeded(data, size, &succeeded, why, sizeof(why));
	require(status ? status == CW_ERR_PROTOCOL : succeeded == 0 || succeeded == 1);
	cw__etcd_read_refusal(data, size, &refusal);
	require(strlen(refusal.text) < sizeof(refusal.text) && refusal.code != 0);
	return 0;
}
