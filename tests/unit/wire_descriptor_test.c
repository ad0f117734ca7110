/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON documents: what real engines write is understood, what is wrong is refused with the member's name, and no
 * shortened document is taken for a whole one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/classic.h"
#include "wire/json.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* As a real engine answers a Metadata request. */
#define REAL                                                                                                           \
	"{\"buffers\":[{\"addr\":140207764537344,\"length\":100663296,\"name\":\"127.0.0.1:15594\"}],"                 \
	"\"name\":\"127.0.0.1:15594\",\"protocol\":\"tcp\",\"tcp_data_port\":16586,\"tcp_proto_version\":2,"           \
	"\"timestamp\":\"2026-11-20 20:51:04.311592\"}\n"
#define INSTANCE "000102030405060708090a0b0c0d0e0f"
#define HEAD "{\"name\":\"h:1\",\"protocol\":\"tcp\""

static void real_descriptor(void **state)
{
	struct cw__descriptor descriptor;
	char why[200] = "";
	char *text;
	size_t length;

	(void)state;
	assert_int_equal(cw__descriptor_decode(REAL, strlen(REAL), &descriptor, why, sizeof(why)), CW_OK);
	assert_string_equal(descriptor.name, "127.0.0.1:15594");
	assert_string_equal(descriptor.protocol, "tcp");
	assert_int_equal(descriptor.tcp_data_port, 16586);
	assert_int_equal(descriptor.tcp_proto_version, 2);
	assert_int_equal(descriptor.native, 0);
	assert_int_equal(descriptor.buffer_count, 1);
	assert_int_equal(descriptor.buffers[0].address, 140207764537344);
	assert_int_equal(descriptor.buffers[0].length, 100663296);
	text = cw__descriptor_encode(&descriptor, "2026-11-20 20:51:04.311592", &length);
	assert_non_null(text);
	assert_string_equal(text, REAL);
	assert_int_equal(length, strlen(REAL));
	free(text);
	cw__descriptor_free(&descriptor);
}

/* Every prefix but the one that lacks only the newline is refused. */
static void truncated_descriptors(void **state)
{
	(void)state;
	for (size_t length = 0; length + 1 < strlen(REAL); length++) {
		char *copy = malloc(length ? length : 1);
		struct cw__descriptor descriptor;
		char why[200] = "";

		assert_non_null(copy);
		memcpy(copy, REAL, length);
		assert_int_equal(cw__descriptor_decode(copy, length, &descriptor, why, sizeof(why)), CW_ERR_PROTOCOL);
		assert_string_not_equal(why, "");
		free(copy);
	}
}

static void announcement_round_trip(void **state)
{
	struct cw__classic_buffer buffers[] = { { UINT64_MAX, 1, "" }, { 1, UINT64_MAX, "sunrise:0" } };
	struct cw__descriptor descriptor = {
		.name = "[::1]:1",
		.protocol = "tcp",
		.tcp_data_port = 65535,
		.tcp_proto_version = 2,
		.native = 1,
		.native_version = 1,
		.addresses = { "[::1]:1", "10.0.0.1:1" },
		.address_count = 2,
		.buffers = buffers,
		.buffer_count = 2,
	};
	struct cw__descriptor back;
	char why[200];
	size_t length;
	char *text;

	(void)state;
	for (unsigned char i = 0; i < 16; i++)
		descriptor.instance[i] = i;
	text = cw__descriptor_encode(&descriptor, "now", &length);
	assert_string_equal(
		text, "{\"buffers\":[{\"addr\":18446744073709551615,\"length\":1,\"name\":\"[::1]:1\"},"
		      "{\"addr\":1,\"length\":18446744073709551615,\"name\":\"sunrise:0\"}],\"name\":\"[::1]:1\","
		      "\"protocol\":\"tcp\",\"tcp_data_port\":65535,\"tcp_proto_version\":2,\"timestamp\":\"now\","
		      "\"x_causeway\":{\"addresses\":[\"[::1]:1\",\"10.0.0.1:1\"],\"instance\":\"" INSTANCE
		      "\",\"version\":1}}\n");
	assert_int_equal(cw__descriptor_decode(text, length, &back, why, sizeof(why)), CW_OK);
	assert_int_equal(back.native, 1);
	assert_int_equal(back.native_version, 1);
	assert_memory_equal(back.instance, descriptor.instance, 16);
	assert_int_equal(back.address_count, 2);
	assert_string_equal(back.addresses[1], "10.0.0.1:1");
	assert_int_equal(back.buffer_count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(back.buffers[i].address, buffers[i].address);
		assert_int_equal(back.buffers[i].length, buffers[i].length);
	}
	cw__descriptor_free(&back);
	free(text);
}

/* What we must not send, because the other end would refuse all of it. */
static void unfit_for_sending(void **state)
{
	const struct {
		const char *name;
		struct cw__descriptor descriptor;
		const char *timestamp;
	} rows[] = {
		{ "other protocol", { .name = "h:1", .protocol = "rdma" }, "" },
		{ "no name", { .protocol = "tcp" }, "" },
		{ "name not UTF-8", { .name = "\xff", .protocol = "tcp" }, "" },
		{ "time not UTF-8", { .name = "h:1", .protocol = "tcp" }, "\xc0\x80" },
		{ "buffer at 0",
		  { .name = "h",
		    .protocol = "tcp",
		    .buffers = &(struct cw__classic_buffer){ 0, 1, "" },
		    .buffer_count = 1 },
		  "" },
		{ "empty buffer",
		  { .name = "h",
		    .protocol = "tcp",
		    .buffers = &(struct cw__classic_buffer){ 1, 0, "" },
		    .buffer_count = 1 },
		  "" },
		{ "location not UTF-8",
		  { .name = "h",
		    .protocol = "tcp",
		    .buffers = &(struct cw__classic_buffer){ 1, 1, "\xff" },
		    .buffer_count = 1 },
		  "" },
		{ "nobody", { .name = "h", .protocol = "tcp", .native = 1, .native_version = 1 }, "" },
		{ "version 0", { .name = "h", .protocol = "tcp", .native = 1, .instance = { 1 } }, "" },
		{ "address",
		  { .name = "h",
		    .protocol = "tcp",
		    .native = 1,
		    .native_version = 1,
		    .instance = { 1 },
		    .addresses = { "h" },
		    .address_count = 1 },
		  "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t length;

		errno = 0;
		if (cw__descriptor_encode(&rows[i].descriptor, rows[i].timestamp, &length) || errno != EINVAL)
			fail_msg("%s", rows[i].name);
	}
}

/* A document, a part of the line that refuses it (NULL = accepted), and the buffers that are listed. */
struct document {
	const char *name, *json, *why;
	size_t buffers;
};

static void check_documents(const struct document *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct cw__descriptor descriptor;
		char why[200] = "";
		int status = cw__descriptor_decode(rows[i].json, strlen(rows[i].json), &descriptor, why, sizeof(why));

		if (status != (rows[i].why ? CW_ERR_PROTOCOL : CW_OK) || (rows[i].why && !strstr(why, rows[i].why)))
			fail_msg("%s: %d, \"%s\"", rows[i].name, status, why);
		if (status == CW_OK) {
			assert_int_equal(descriptor.buffer_count, rows[i].buffers);
			assert_true(descriptor.address_count <= 8);
			cw__descriptor_free(&descriptor);
		}
	}
}

static void descriptors(void **state)
{
	static const struct document rows[] = {
		{ "least", HEAD "}", NULL, 0 },
		{ "unknown members", HEAD ",\"x\":[{\"y\":1.5e3}],\"z\":null}", NULL, 0 },
		{ "white space", " { \"name\" :\t\"h:1\" ,\r\n\"protocol\" : \"rdma\" } ", NULL, 0 },
		{ "v1", HEAD ",\"tcp_data_port\":1}", NULL, 0 },
		{ "empty list", HEAD ",\"buffers\":[]}", NULL, 0 },
		{ "rdma buffers", "{\"name\":\"h\",\"protocol\":\"rdma\",\"buffers\":[{\"addr\":0}]}", NULL, 0 },
		{ "mixed",
		  "{\"name\":\"h\",\"protocol\":[\"rdma\",\"tcp\"],\"buffers\":[{\"protocol\":\"rdma\"},"
		  "{\"protocol\":\"tcp\",\"name\":\"h\",\"addr\":1,\"length\":1}]}",
		  NULL, 1 },
		{ "mixed, no protocol", "{\"name\":\"h\",\"protocol\":[\"tcp\"],\"buffers\":[{}]}",
		  "buffers[].protocol", 0 },
		{ "mixed, none", "{\"name\":\"h\",\"protocol\":[]}", "\"protocol\"", 0 },
		{ "mixed, number", "{\"name\":\"h\",\"protocol\":[\"tcp\",1]}", "\"protocol\"", 0 },
		{ "empty", "", "a value is wanted", 0 },
		{ "array", "[1]", "not an object", 0 },
		{ "null", "null", "not an object", 0 },
		{ "no name", "{\"protocol\":\"tcp\"}", "\"name\"", 0 },
		{ "empty name", "{\"name\":\"\",\"protocol\":\"tcp\"}", "\"name\"", 0 },
		{ "number as name", "{\"name\":1,\"protocol\":\"tcp\"}", "\"name\" is int", 0 },
		{ "NUL in the name", "{\"name\":\"a\\u0000b\",\"protocol\":\"tcp\"}", "NUL", 0 },
		{ "no protocol", "{\"name\":\"h\"}", "\"protocol\"", 0 },
		{ "empty protocol", "{\"name\":\"h\",\"protocol\":\"\"}", "\"protocol\"", 0 },
		{ "long protocol", "{\"name\":\"h\",\"protocol\":\"12345678901234567890123456789012\"}", "31 bytes",
		  0 },
		{ "port as text", HEAD ",\"tcp_data_port\":\"x\"}", "\"tcp_data_port\" is string", 0 },
		{ "port too high", HEAD ",\"tcp_data_port\":65536}", "\"tcp_data_port\"", 0 },
		{ "port negative", HEAD ",\"tcp_data_port\":-1}", "\"tcp_data_port\"", 0 },
		{ "port with a point", HEAD ",\"tcp_data_port\":1.0}", "\"tcp_data_port\" is double", 0 },
		{ "port null", HEAD ",\"tcp_data_port\":null}", "\"tcp_data_port\" is null", 0 },
		{ "version true", HEAD ",\"tcp_proto_version\":true}", "\"tcp_proto_version\"", 0 },
		{ "buffers as object", HEAD ",\"buffers\":{}}", "\"buffers\" is object", 0 },
		{ "buffer as number", HEAD ",\"buffers\":[1]}", "\"buffers\"", 0 },
		{ "buffer without name", HEAD ",\"buffers\":[{\"addr\":1,\"length\":1}]}", "buffers[].name", 0 },
		{ "buffer, empty name", HEAD ",\"buffers\":[{\"name\":\"\",\"addr\":1,\"length\":1}]}",
		  "buffers[].name", 0 },
		{ "address as text", HEAD ",\"buffers\":[{\"name\":\"h\",\"addr\":\"abc\",\"length\":1}]}",
		  "buffers[].addr", 0 },
		{ "address 1.5", HEAD ",\"buffers\":[{\"name\":\"h\",\"addr\":1.5,\"length\":1}]}", "buffers[].addr",
		  0 },
		{ "address 0", HEAD ",\"buffers\":[{\"name\":\"h\",\"addr\":0,\"length\":1}]}", "buffers[].addr", 0 },
		{ "length 0", HEAD ",\"buffers\":[{\"name\":\"h\",\"addr\":1,\"length\":0}]}", "buffers[].length", 0 },
		{ "2^64", HEAD ",\"buffers\":[{\"name\":\"h\",\"addr\":18446744073709551616,\"length\":1}]}",
		  "out of range", 0 },
		{ "wrap", HEAD ",\"buffers\":[{\"name\":\"h\",\"addr\":18446744073709551615,\"length\":2}]}",
		  "past the last", 0 },
		{ "second buffer bad",
		  HEAD ",\"buffers\":[{\"name\":\"h\",\"addr\":1,\"length\":1},{\"name\":\"h\",\"addr\":1}]}",
		  "buffers[].length", 0 },
		{ "twice", HEAD ",\"name\":\"h\"}", "twice", 0 },
		{ "twice by escape", HEAD ",\"n\\u0061me\":\"h\"}", "twice", 0 },
		{ "twice inside", HEAD ",\"x\":[{\"a\":{\"b\":1},\"a\":2}]}", "twice", 0 },
	};

	(void)state;
	check_documents(rows, COUNT(rows));
}

static void announcements(void **state)
{
	static const struct document rows[] = {
		{ "announcement as text", HEAD ",\"x_causeway\":\"\"}", "\"x_causeway\"", 0 },
		{ "announcement empty", HEAD ",\"x_causeway\":{}}", "x_causeway.version", 0 },
		{ "announcement, version 0", HEAD ",\"x_causeway\":{\"version\":0}}", "x_causeway.version", 0 },
		{ "no instance", HEAD ",\"x_causeway\":{\"version\":1,\"addresses\":[]}}", "x_causeway.instance", 0 },
		{ "short instance", HEAD ",\"x_causeway\":{\"version\":1,\"instance\":\"00\",\"addresses\":[]}}",
		  "x_causeway.instance", 0 },
		{ "zero instance",
		  HEAD
		  ",\"x_causeway\":{\"version\":1,\"instance\":\"00000000000000000000000000000000\",\"addresses\":[]}}",
		  "zero", 0 },
		{ "instance not hex",
		  HEAD
		  ",\"x_causeway\":{\"version\":1,\"instance\":\"0001020304050607080g0a0b0c0d0e0f\",\"addresses\":[]}}",
		  "x_causeway.instance", 0 },
		{ "no addresses", HEAD ",\"x_causeway\":{\"version\":1,\"instance\":\"" INSTANCE "\"}}",
		  "x_causeway.addresses", 0 },
		{ "address without port",
		  HEAD ",\"x_causeway\":{\"version\":1,\"instance\":\"" INSTANCE "\",\"addresses\":[\"h\"]}}",
		  "x_causeway.addresses", 0 },
		{ "address as number",
		  HEAD ",\"x_causeway\":{\"version\":1,\"instance\":\"" INSTANCE "\",\"addresses\":[1]}}",
		  "x_causeway.addresses", 0 },
		{ "ten addresses",
		  HEAD ",\"x_causeway\":{\"version\":2,\"instance\":\"" INSTANCE
		       "\",\"addresses\":[\"a:1\",\"b:1\",\"c:1\",\"d:1\",\"e:1\",\"f:1\",\"g:1\",\"h:1\",\"i:1\",\"j:"
		       "1\"],\"new\":1}}",
		  NULL, 0 },
	};

	(void)state;
	check_documents(rows, COUNT(rows));
}

/* The grammar itself, inside an object; NULL = accepted. */
static void grammar(void **state)
{
	static const struct {
		const char *json, *why;
	} rows[] = {
		{ "{}", NULL },
		{ "{\"a\":[],\"b\":{},\"c\":[[],{}],\"d\":true,\"e\":false,\"f\":null}", NULL },
		{ "{\"a\":[0,-0,-1,10,0.5,-0.5e1,1E+2,1e-2,9223372036854775807,-9223372036854775808]}", NULL },
		{ "{\"a\":18446744073709551615}", NULL },
		{ "{\"\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\ud83d\\ude00\x7f\"}", NULL },
		{ "{\"a\":\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"}", NULL },
		{ "{\"a\":-9223372036854775809}", "out of range" },
		{ "{\"a\":100000000000000000000}", "out of range" },
		{ "{\"a\":01}", "bad number" },
		{ "{\"a\":-}", "bad number" },
		{ "{\"a\":1.}", "bad number" },
		{ "{\"a\":1e}", "bad number" },
		{ "{\"a\":.5}", "a value is wanted" },
		{ "{\"a\":+1}", "a value is wanted" },
		{ "{\"a\":NaN}", "a value is wanted" },
		{ "{\"a\":Infinity}", "a value is wanted" },
		{ "{\"a\":0x10}", "comma" },
		{ "{\"a\":tru}", "unknown word" },
		{ "{\"a\":nulL}", "unknown word" },
		{ "{\"a\":True}", "a value is wanted" },
		{ "{'a':1}", "a string is wanted" },
		{ "{a:1}", "a string is wanted" },
		{ "{\"a\"}", "colon" },
		{ "{\"a\":1,}", "a string is wanted" },
		{ "{,}", "a string is wanted" },
		{ "{\"a\":[1,]}", "a value is wanted" },
		{ "{\"a\":[,]}", "a value is wanted" },
		{ "{\"a\":[1 2]}", "comma" },
		{ "{\"a\":[1}", "comma" },
		{ "{\"a\":1]", "comma" },
		{ "{\"a\":1}}", "after the document" },
		{ "{} {}", "after the document" },
		{ "{}\v", "after the document" },
		{ "{/* */}", "a string is wanted" },
		{ "{\"a\":\"\n\"}", "control character" },
		{ "{\"a\":\"", "unfinished" },
		{ "{\"a\":\"\\x\"}", "bad escape" },
		{ "{\"a\":\"\\u12g4\"}", "bad escape" },
		{ "{\"a\":\"\\u0000\"}", "NUL" },
		{ "{\"a\":\"\\ud83d\"}", "surrogate" },
		{ "{\"a\":\"\\ude00\"}", "surrogate" },
		{ "{\"a\":\"\\ud83d\\u0041\"}", "surrogate" },
		{ "{\"a\":\"\\ud83d\\n\"}", "surrogate" },
		{ "{\"a\":\"\xff\"}", "UTF-8" },
		{ "{\"a\":\"\x80\"}", "UTF-8" },
		{ "{\"a\":\"\xc0\x80\"}", "UTF-8" },
		{ "{\"a\":\"\xc3\"}", "UTF-8" },
		{ "{\"a\":\"\xe0\x9f\xbf\"}", "UTF-8" },
		{ "{\"a\":\"\xed\xa0\x80\"}", "UTF-8" },
		{ "{\"a\":\"\xf0\x8f\xbf\xbf\"}", "UTF-8" },
		{ "{\"a\":\"\xf4\x90\x80\x80\"}", "UTF-8" },
		{ "{\"a\":\"\xf5\x80\x80\x80\"}", "UTF-8" },
		{ "\xef\xbb\xbf{}", "a value is wanted" },
		{ "true", "not an object" },
		{ "\"text\"", "not an object" },
		{ "12", "not an object" },
	};
	char why[100];

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		int status = cw__classic_object_check(rows[i].json, strlen(rows[i].json), 0, why, sizeof(why));

		if (status != (rows[i].why ? CW_ERR_PROTOCOL : CW_OK) || (rows[i].why && !strstr(why, rows[i].why)))
			fail_msg("%s: %d, \"%s\"", rows[i].json, status, why);
	}
	assert_int_equal(cw__classic_object_check(" null\n", 6, 1, why, sizeof(why)), CW_OK);
	assert_int_equal(cw__classic_object_check("null", 4, 0, why, sizeof(why)), CW_ERR_PROTOCOL);
	assert_int_equal(cw__classic_object_check("{}\0", 3, 1, why, sizeof(why)), CW_ERR_PROTOCOL);
	assert_int_equal(cw__classic_object_check("", 0, 1, NULL, 0), CW_ERR_PROTOCOL);
}

static int check_depth(unsigned depth)
{
	static char text[400100];
	char why[100];
	size_t length = 0;

	length += (size_t)sprintf(text, "{\"a\":");
	for (unsigned i = 1; i < depth; i++)
		text[length++] = '[';
	for (unsigned i = 1; i < depth; i++)
		text[length++] = ']';
	text[length++] = '}';
	return cw__classic_object_check(text, length, 0, why, sizeof(why));
}

static void depth(void **state)
{
	(void)state;
	assert_int_equal(check_depth(CW__JSON_DEPTH), CW_OK);
	assert_int_equal(check_depth(CW__JSON_DEPTH + 1), CW_ERR_PROTOCOL);
	assert_int_equal(check_depth(200000), CW_ERR_PROTOCOL);
}

static void notifications(void **state)
{
	static const struct {
		const char *json, *name, *message; /* name NULL = refused */
	} rows[] = {
		{ "{\"name\":\"\",\"notify_msg\":\"success\"}\n", "", "success" },
		{ "{\"notify_msg\":\"line\\n\\u00e4\",\"name\":\"n\",\"x\":[1]}", "n", "line\n\xc3\xa4" },
		{ "{\"name\":[1],\"notify_msg\":\"\"}", NULL, NULL },
		{ "{\"name\":\"\",\"notify_msg\":1}", NULL, NULL },
		{ "{\"name\":\"a\\u0000\",\"notify_msg\":\"\"}", NULL, NULL },
		{ "{\"name\":\"\"}", NULL, NULL },
		{ "[1]", NULL, NULL },
		{ "null", NULL, NULL },
	};
	struct cw__classic_notify notify;
	char why[100];
	size_t length;
	char *text;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		int status = cw__classic_notify_decode(rows[i].json, strlen(rows[i].json), &notify, why, sizeof(why));

		if (status != (rows[i].name ? CW_OK : CW_ERR_PROTOCOL))
			fail_msg("%s: %d", rows[i].json, status);
		if (status == CW_OK) {
			assert_string_equal(notify.name, rows[i].name);
			assert_string_equal(notify.message, rows[i].message);
			cw__classic_notify_free(&notify);
		}
	}
	text = cw__classic_notify_encode("", "success", &length);
	assert_string_equal(text, rows[0].json);
	assert_int_equal(length, strlen(text));
	free(text);
	text = cw__classic_notify_encode("a/\"b\"\x01", "\xc3\xa4\\", &length);
	assert_int_equal(cw__classic_notify_decode(text, length, &notify, why, sizeof(why)), CW_OK);
	assert_string_equal(notify.name, "a/\"b\"\x01");
	assert_string_equal(notify.message, "\xc3\xa4\\");
	cw__classic_notify_free(&notify);
	free(text);
	assert_null(cw__classic_notify_encode("\xff", "", &length));
	assert_null(cw__classic_notify_encode("", "\xff", &length));
}

static void connections(void **state)
{
	static const struct {
		const char *json;
		int expected;
	} rows[] = {
		{ "{}", CW_OK },
		{ "{\"local_gid\":\"\",\"local_lid\":0,\"local_nic_path\":\"\",\"payload\":\"\",\"peer_nic_path\":\"\","
		  "\"qp_num\":[],\"reply_msg\":\"\"}\n",
		  CW_OK },
		{ "{\"qp_num\":[1,4294967295],\"ready_ack\":true,\"local_lid\":65535}", CW_OK },
		{ "{\"qp_num\":[\"x\"]}", CW_ERR_PROTOCOL },
		{ "{\"qp_num\":[-1]}", CW_ERR_PROTOCOL },
		{ "{\"qp_num\":[4294967296]}", CW_ERR_PROTOCOL },
		{ "{\"qp_num\":[18446744073709551615]}", CW_ERR_PROTOCOL },
		{ "{\"qp_num\":{}}", CW_ERR_PROTOCOL },
		{ "{\"payload\":{}}", CW_ERR_PROTOCOL },
		{ "{\"local_lid\":65536}", CW_ERR_PROTOCOL },
		{ "{\"ready_ack\":1}", CW_ERR_PROTOCOL },
		{ "null", CW_ERR_PROTOCOL },
		{ "[1]", CW_ERR_PROTOCOL },
	};
	char why[100];
	size_t length;
	char *text;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (cw__classic_connection_check(rows[i].json, strlen(rows[i].json), why, sizeof(why)) !=
		    rows[i].expected)
			fail_msg("%s: %s", rows[i].json, why);
	}
	text = cw__classic_connection_reply("", &length);
	assert_string_equal(text, rows[1].json);
	assert_int_equal(length, strlen(text));
	free(text);
	assert_null(cw__classic_connection_reply("\xff", &length));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_descriptor),
		cmocka_unit_test(truncated_descriptors),
		cmocka_unit_test(announcement_round_trip),
		cmocka_unit_test(unfit_for_sending),
		cmocka_unit_test(descriptors),
		cmocka_unit_test(announcements),
		cmocka_unit_test(grammar),
		cmocka_unit_test(depth),
		cmocka_unit_test(notifications),
		cmocka_unit_test(connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
