/* SPDX-License-Identifier: Apache-2.0 */
/* Replies to the redis store over a socket pair, hostile ones too; and the list of keys that stores keep. */
#include <metadata/keys.h>
#include <metadata/redis/redis.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <util/clock.h>

#include <cmocka.h>

/* Sends one command; the server's bytes are already there. Returns the status. */
static int exchange(const char *reply, size_t length, int closed, struct cw__redis_reply *reply_out, char why[200])
{
	const char *words[] = { "GET", "k\0y" };
	const size_t lengths[] = { 3, 3 };
	static const char request[] = "*2\r\n$3\r\nGET\r\n$3\r\nk\0y\r\n";
	char sent[64];
	int pair[2], status;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(write(pair[1], reply, length), (ssize_t)length);
	if (closed)
		assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
	status = cw__redis_exchange(pair[0], 2, words, lengths, cw__now() + 50 * CW__MS, reply_out, why, 200);
	assert_int_equal(read(pair[1], sent, sizeof(sent)), sizeof(request) - 1);
	assert_memory_equal(sent, request, sizeof(request) - 1);
	close(pair[0]);
	close(pair[1]);
	return status;
}

static void replies_are_read(void **state)
{
	static const struct {
		const char *bytes;
		enum cw__redis_kind kind;
		const char *text;
		long long number;
	} rows[] = {
		{ "+OK\r\n", CW__REDIS_STATUS, "OK", 0 },    { "-NOAUTH x\r\n", CW__REDIS_ERROR, "NOAUTH x", 0 },
		{ ":-12\r\n", CW__REDIS_NUMBER, NULL, -12 }, { "$-1\r\n", CW__REDIS_NIL, NULL, 0 },
		{ "$0\r\n\r\n", CW__REDIS_TEXT, "", 0 },     { "$5\r\na\r\nb!\r\n", CW__REDIS_TEXT, "a\r\nb!", 0 },
	};
	char why[300];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw__redis_reply reply = { .raw = NULL };

		assert_int_equal(exchange(rows[i].bytes, strlen(rows[i].bytes), 0, &reply, why), CW_OK);
		assert_int_equal(reply.kind, rows[i].kind);
		if (rows[i].text) {
			assert_int_equal(reply.length, strlen(rows[i].text));
			assert_memory_equal(reply.text, rows[i].text, reply.length);
		} else {
			assert_true(reply.number == rows[i].number);
		}
		cw__hiredis_reply_free(&reply);
	}
}

static void strange_replies_are_refused(void **state)
{
	static const struct {
		const char *bytes;
		int closed, status;
		const char *why;
	} rows[] = {
		{ "", 1, CW_ERR_CONNECT, "closed the connection" },
		{ "", 0, CW_ERR_TIMED_OUT, "in time" },
		{ "$5\r\nab", 1, CW_ERR_IO, "closed the connection" },
		{ "$5\r\nab", 0, CW_ERR_TIMED_OUT, "in time" },
		{ "+no end", 0, CW_ERR_TIMED_OUT, "in time" },
		{ "HTTP/1.1 400 Bad Request\r\n\r\n", 1, CW_ERR_PROTOCOL, "does not speak redis" },
		{ "*2147483647\r\n", 0, CW_ERR_PROTOCOL, "does not speak redis" },
		{ "%1\r\n+a\r\n+b\r\n", 0, CW_ERR_PROTOCOL, "does not speak redis" },
		{ "$99999999999999999999\r\nx\r\n", 1, CW_ERR_PROTOCOL, "does not speak redis" },
		{ "$-7\r\n", 1, CW_ERR_PROTOCOL, "does not speak redis" },
		{ ":twelve\r\n", 1, CW_ERR_PROTOCOL, "does not speak redis" },
	};
	char why[300];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw__redis_reply reply = { .raw = NULL };
		int status = exchange(rows[i].bytes, strlen(rows[i].bytes), rows[i].closed, &reply, why);

		/* hiredis before 1.0 takes strange numbers for 0, -1 or what they begin with; that is harmless. */
		if (i >= 8 && status == CW_OK) {
			cw__hiredis_reply_free(&reply);
			continue;
		}
		if (i >= 8 && status == CW_ERR_IO)
			continue;
		assert_int_equal(status, rows[i].status);
		assert_non_null(strstr(why, rows[i].why));
	}
}

static void keys_are_remembered(void **state)
{
	char key[CW_METADATA_KEY_MAX + 1] = "", expected[16];
	struct cw__keys keys;

	(void)state;
	cw__keys_init(&keys);
	assert_true(cw__keys_are_none(&keys));
	assert_false(cw__keys_next(&keys, "", key));
	/* A put on its way counts, but is not there yet; one that failed is forgotten. */
	assert_int_equal(cw__keys_begin(&keys, "b"), CW_OK);
	assert_false(cw__keys_are_none(&keys));
	assert_false(cw__keys_next(&keys, "", key));
	cw__keys_end(&keys, "b", 0);
	assert_true(cw__keys_are_none(&keys));
	for (unsigned i = 100; i > 0; i--) {
		snprintf(expected, sizeof(expected), "k%03u", i);
		assert_int_equal(cw__keys_begin(&keys, expected), CW_OK);
		cw__keys_end(&keys, expected, 1);
	}
	for (unsigned i = 1; i <= 100; i++) {
		assert_true(cw__keys_next(&keys, key, key));
		snprintf(expected, sizeof(expected), "k%03u", i);
		assert_string_equal(key, expected);
	}
	assert_false(cw__keys_next(&keys, key, key));
	/* One that failed to be put again may still be there. */
	assert_int_equal(cw__keys_begin(&keys, "k001"), CW_OK);
	cw__keys_end(&keys, "k001", 0);
	assert_true(cw__keys_next(&keys, "", key));
	assert_string_equal(key, "k001");
	/* The place after one that was removed. */
	cw__keys_remove(&keys, "k001");
	assert_true(cw__keys_next(&keys, "k001", key));
	assert_string_equal(key, "k002");
	cw__keys_remove(&keys, "nobody");
	for (unsigned i = 2; i <= 100; i++) {
		snprintf(expected, sizeof(expected), "k%03u", i);
		cw__keys_remove(&keys, expected);
	}
	assert_true(cw__keys_are_none(&keys));
	/* Removed while a put is on its way: the put decides. */
	assert_int_equal(cw__keys_begin(&keys, "a"), CW_OK);
	cw__keys_remove(&keys, "a");
	cw__keys_end(&keys, "a", 1);
	assert_true(cw__keys_next(&keys, "", key));
	cw__keys_free(&keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies_are_read),
		cmocka_unit_test(strange_replies_are_refused),
		cmocka_unit_test(keys_are_remembered),
	};
	char why[200];

	if (cw__hiredis_load(why, sizeof(why))) {
		printf("skipped: %s\n", why);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
