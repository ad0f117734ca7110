/* SPDX-License-Identifier: Apache-2.0 */
/* What the etcd store writes and how it reads answers, hostile ones too. */
#include <core/core.h>
#include <metadata/etcd/codec.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void endpoints_are_listed(void **state)
{
	struct cw__etcd_endpoints endpoints;

	(void)state;
	assert_null(cw__etcd_url_parse("etcd://a", &endpoints));
	assert_int_equal(endpoints.count, 1);
	assert_string_equal(endpoints.addresses[0], "a:2379");
	assert_null(cw__etcd_url_parse("etcd://a:1,[::1]:2;10.0.0.1", &endpoints));
	assert_int_equal(endpoints.count, 3);
	assert_string_equal(endpoints.addresses[0], "a:1");
	assert_string_equal(endpoints.addresses[1], "[::1]:2");
	assert_string_equal(endpoints.addresses[2], "10.0.0.1:2379");
	assert_non_null(strstr(cw__etcd_url_parse("etcd", &endpoints), "no host"));
	assert_non_null(strstr(cw__etcd_url_parse("etcd:a:1", &endpoints), "no host"));
	assert_non_null(strstr(cw__etcd_url_parse("etcd://", &endpoints), "no host"));
	assert_non_null(strstr(cw__etcd_url_parse("etcd://a,,b", &endpoints), "etcd://HOST"));
	assert_non_null(strstr(cw__etcd_url_parse("etcd:///a", &endpoints), "etcd://HOST"));
	assert_non_null(strstr(cw__etcd_url_parse("etcd://a/b", &endpoints), "etcd://HOST"));
	assert_non_null(strstr(cw__etcd_url_parse("etcd://a:0", &endpoints), "etcd://HOST"));
	assert_non_null(strstr(cw__etcd_url_parse("etcd://u:p@a", &endpoints), "metadata/user"));
	assert_non_null(strstr(cw__etcd_url_parse("etcd://a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", &endpoints), "too many"));
}

static void write_and_compare(const void *data, size_t length, const char *expected)
{
	struct cw__etcd_writer writer = { .ops = &cw__host_ops };

	cw__etcd_write_base64(&writer, data, length);
	assert_false(writer.bad);
	assert_int_equal(writer.blob.length, strlen(expected));
	if (*expected)
		assert_memory_equal(writer.blob.data, expected, strlen(expected));
	cw__host_ops.blob_free(&writer.blob);
}

static void base64_is_written(void **state)
{
	(void)state;
	write_and_compare("", 0, "");
	write_and_compare("f", 1, "Zg==");
	write_and_compare("fo", 2, "Zm8=");
	write_and_compare("foo", 3, "Zm9v");
	write_and_compare("foob", 4, "Zm9vYg==");
	write_and_compare("\xff\xfe\0\xfb", 4, "//4A+w==");
}

static int read_range(const char *text, const char *key, struct cw_blob *value_out, char why[160])
{
	*why = '\0';
	return cw__etcd_read_range(&cw__host_ops, text, strlen(text), key, value_out, why, 160);
}

static void what_was_written_is_read_again(void **state)
{
	struct cw_blob value = { NULL, 0, 0 };
	unsigned char bytes[9001];
	char why[160];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 7 + i / 256);
	/* Around the sizes of the pieces in which both go. */
	for (size_t length = 0; length <= sizeof(bytes); length += length < 8 ? 1 : 1499) {
		struct cw__etcd_writer writer = { .ops = &cw__host_ops };

		cw__etcd_write(&writer, "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"");
		cw__etcd_write_base64(&writer, bytes, length);
		cw__etcd_write(&writer, "\"}]}");
		value.length = 0;
		assert_int_equal(cw__etcd_read_range(&cw__host_ops, writer.blob.data, writer.blob.length, "key", &value,
						     why, sizeof(why)),
				 CW_OK);
		assert_int_equal(value.length, length);
		if (length)
			assert_memory_equal(value.data, bytes, length);
		cw__host_ops.blob_free(&writer.blob);
	}
	cw__host_ops.blob_free(&value);
}

static void answers_to_a_get(void **state)
{
	static const struct {
		const char *text;
		int status;
		const char *value_or_why;
	} rows[] = {
		{ "{\"header\":{\"revision\":\"1\"}}", CW_ERR_NOT_FOUND, "" },
		{ "{\"kvs\":[]}", CW_ERR_NOT_FOUND, "" },
		{ "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"dmFs\"}],\"count\":\"1\"}", CW_OK, "val" },
		{ "{\"kvs\":[{\"key\":\"a2V5\"}]}", CW_OK, "" },
		{ "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"\"}]}", CW_OK, "" },
		{ "", CW_ERR_PROTOCOL, "empty" },
		{ "[]", CW_ERR_PROTOCOL, "object" },
		{ "null", CW_ERR_PROTOCOL, "object" },
		{ "<html>", CW_ERR_PROTOCOL, "JSON" },
		{ "{\"kvs\":{}}", CW_ERR_PROTOCOL, "kvs" },
		{ "{\"kvs\":[1]}", CW_ERR_PROTOCOL, "kvs" },
		{ "{\"kvs\":[null]}", CW_ERR_PROTOCOL, "kvs" },
		{ "{\"kvs\":[{\"value\":\"dmFs\"}]}", CW_ERR_PROTOCOL, "key" },
		{ "{\"kvs\":[{\"key\":\"a2V6\",\"value\":\"dmFs\"}]}", CW_ERR_PROTOCOL, "another key" },
		{ "{\"kvs\":[{\"key\":7,\"value\":\"dmFs\"}]}", CW_ERR_PROTOCOL, "key" },
		{ "{\"kvs\":[{\"key\":\"a2V5\",\"value\":7}]}", CW_ERR_PROTOCOL, "value" },
		{ "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"dmF\"}]}", CW_ERR_PROTOCOL, "base64" },
		{ "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"dm=s\"}]}", CW_ERR_PROTOCOL, "base64" },
		{ "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"dm==dmFs\"}]}", CW_ERR_PROTOCOL, "base64" },
		{ "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"====\"}]}", CW_ERR_PROTOCOL, "base64" },
		{ "{\"kvs\":[{\"key\":\"a2V5\",\"value\":\"dm-_\"}]}", CW_ERR_PROTOCOL, "base64" },
		{ "{\"kvs\":[{\"key\":\"a2V5\"},{\"key\":\"a2V5\"}]}", CW_ERR_PROTOCOL, "more than one" },
		{ "{\"kvs\":[],\"kvs\":[]}", CW_ERR_PROTOCOL, "twice" },
	};
	char why[160];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw_blob value = { NULL, 0, 0 };

		assert_int_equal(cw__host_ops.blob_append(&value, "before", 6), CW_OK);
		assert_int_equal(read_range(rows[i].text, "key", &value, why), rows[i].status);
		if (rows[i].status == CW_OK) {
			assert_int_equal(value.length, 6 + strlen(rows[i].value_or_why));
			assert_memory_equal(value.data + 6, rows[i].value_or_why, value.length - 6);
		} else {
			assert_int_equal(value.length, 6); /* nothing of it stays */
			assert_non_null(strstr(why, rows[i].value_or_why));
		}
		cw__host_ops.blob_free(&value);
	}
}

static void answers_about_leases(void **state)
{
	char lease[CW__ETCD_LEASE_BYTES], why[160];
	static const struct {
		const char *text;
		int status;
	} grants[] = {
		{ "{\"ID\":\"7587848390190385668\",\"TTL\":\"60\"}", CW_OK },
		{ "{\"ID\":\"0\"}", CW_ERR_PROTOCOL },
		{ "{\"ID\":\"\"}", CW_ERR_PROTOCOL },
		{ "{\"ID\":\"12\\\",\\\"x\"}", CW_ERR_PROTOCOL },
		{ "{\"ID\":\"123456789012345678901234567890\"}", CW_ERR_PROTOCOL },
		{ "{\"ID\":12}", CW_ERR_PROTOCOL },
		{ "{}", CW_ERR_PROTOCOL },
	}, keepalives[] = {
		{ "{\"result\":{\"ID\":\"12\",\"TTL\":\"60\"}}\n", CW_OK },
		{ "{\"result\":{\"ID\":\"12\"}}", CW_ERR_NOT_FOUND },
		{ "{\"result\":{\"ID\":\"12\",\"TTL\":\"0\"}}", CW_ERR_NOT_FOUND },
		{ "{\"result\":{\"ID\":\"12\",\"TTL\":\"-1\"}}", CW_ERR_NOT_FOUND },
		{ "{\"result\":[]}", CW_ERR_PROTOCOL },
		{ "{}", CW_ERR_PROTOCOL },
		{ "", CW_ERR_PROTOCOL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(grants) / sizeof(grants[0]); i++)
		assert_int_equal(cw__etcd_read_grant(grants[i].text, strlen(grants[i].text), lease, why, sizeof(why)),
				 grants[i].status);
	assert_string_equal(lease, "7587848390190385668");
	for (size_t i = 0; i < sizeof(keepalives) / sizeof(keepalives[0]); i++)
		assert_int_equal(
			cw__etcd_read_keepalive(keepalives[i].text, strlen(keepalives[i].text), why, sizeof(why)),
			keepalives[i].status);
}

static void answers_about_users_and_transactions(void **state)
{
	char token[CW__ETCD_TOKEN_BYTES] = "", why[160], text[2 * CW__ETCD_TOKEN_BYTES];
	int succeeded = -1;

	(void)state;
	snprintf(text, sizeof(text), "{\"token\":\"abc.12\"}");
	assert_int_equal(cw__etcd_read_token(text, strlen(text), token, why, sizeof(why)), CW_OK);
	assert_string_equal(token, "abc.12");
	/* It becomes a header: a line break in it would be another header. */
	snprintf(text, sizeof(text), "{\"token\":\"abc\\r\\nX: y\"}");
	assert_int_equal(cw__etcd_read_token(text, strlen(text), token, why, sizeof(why)), CW_ERR_PROTOCOL);
	snprintf(text, sizeof(text), "{\"token\":\"%0*d\"}", CW__ETCD_TOKEN_BYTES, 1);
	assert_int_equal(cw__etcd_read_token(text, strlen(text), token, why, sizeof(why)), CW_ERR_PROTOCOL);
	assert_string_equal(token, "abc.12");

	snprintf(text, sizeof(text), "{\"succeeded\":true}");
	assert_int_equal(cw__etcd_read_succeeded(text, strlen(text), &succeeded, why, sizeof(why)), CW_OK);
	assert_int_equal(succeeded, 1);
	assert_int_equal(cw__etcd_read_succeeded("{}", 2, &succeeded, why, sizeof(why)), CW_OK);
	assert_int_equal(succeeded, 0);
	snprintf(text, sizeof(text), "{\"succeeded\":\"true\"}");
	assert_int_equal(cw__etcd_read_succeeded(text, strlen(text), &succeeded, why, sizeof(why)), CW_ERR_PROTOCOL);
}

static void refusals_of_all_versions_are_read(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *words;
	} rows[] = {
		{ "{\"error\":\"etcdserver: no\",\"message\":\"etcdserver: no\",\"code\":5}", 5, "etcdserver: no" },
		{ "{\"error\":\"etcdserver: no\",\"code\":5}", 5, "etcdserver: no" },
		{ "{\"code\":5,\"message\":\"etcdserver: no\",\"details\":[]}", 5, "etcdserver: no" },
		{ "{\"error\":{\"grpc_code\":14,\"message\":\"gone\"}}", 14, "gone" },
		{ "{\"code\":-3,\"message\":\"x\"}", -1, "x" },
		{ "{\"code\":\"5\",\"message\":[]}", -1, "" },
		{ "{\"code\":99999999999,\"message\":\"a\\nb\"}", -1, "a" },
		{ "404 page not found", -1, "" },
		{ "", -1, "" },
	};
	struct cw__etcd_refusal refusal;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cw__etcd_read_refusal(rows[i].text, strlen(rows[i].text), &refusal);
		assert_int_equal(refusal.code, rows[i].code);
		assert_string_equal(refusal.text, rows[i].words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endpoints_are_listed),
		cmocka_unit_test(base64_is_written),
		cmocka_unit_test(what_was_written_is_read_again),
		cmocka_unit_test(answers_to_a_get),
		cmocka_unit_test(answers_about_leases),
		cmocka_unit_test(answers_about_users_and_transactions),
		cmocka_unit_test(refusals_of_all_versions_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
