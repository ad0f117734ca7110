/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine answers on its control port: good messages are answered, bad ones refused, slow ones hurt nobody. */
#include "control_world.h"

#include <sys/resource.h>

/* ------------------------------------------------------------------------------------ classic server */

static void test_classic_answers(void **state)
{
	static const struct {
		const char *name, *body;
		size_t length;
		int type; /* of the answer; -1 = none */
		const char *starts;
	} rows[] = {
		{ "metadata", BYTES("\1{}"), 1, "{\"buffers\":[]" },
		{ "metadata null", BYTES("\1null\n"), 1, "{\"buffers\":[]" },
		{ "metadata with a descriptor", BYTES("\1{\"name\":\"x\",\"protocol\":\"tcp\"}"), 1,
		  "{\"buffers\":[]" },
		{ "notify", BYTES("\2{\"name\":\"a\",\"notify_msg\":\"b\"}"), 2,
		  "{\"name\":\"\",\"notify_msg\":\"success\"}\n" },
		{ "probe", BYTES("\3{}"), 3, "{\"status\":\"success\"}\n" },
		{ "connection", BYTES("\0{\"qp_num\":[1]}"), 0, "{\"local_gid\":\"\"" },
		{ "old style", BYTES("{\"qp_num\":[1]}"), -1, "{\"local_gid\":\"\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char answer[4096];
		size_t count = classic(server.port, rows[i].body, rows[i].length, answer, sizeof(answer));
		size_t head = rows[i].type < 0 ? 8 : 9;
		uint64_t length;

		if (count <= head)
			fail_msg("%s: no answer", rows[i].name);
		memcpy(&length, answer, 8);
		assert_int_equal(length, count - 8);
		if (rows[i].type >= 0)
			assert_int_equal(answer[8], rows[i].type);
		if (strncmp(answer + head, rows[i].starts, strlen(rows[i].starts)))
			fail_msg("%s: %s", rows[i].name, answer + head);
		assert_int_equal(answer[count - 1], '\n');
	}
	assert_int_equal(server.protocol_errors, 0);
	assert_int_equal(server.notifications, 1);
	assert_string_equal(server.notified, "a=b");
	turn_until(loop.ios == 2);
}

static void test_classic_notify_refused(void **state)
{
	char answer[256];

	(void)state;
	server.full = 1;
	assert_true(classic(server.port, BYTES("\2{\"name\":\"a\",\"notify_msg\":\"b\"}"), answer, sizeof(answer)) > 9);
	assert_string_equal(answer + 9, "{\"name\":\"\",\"notify_msg\":\"\"}\n");
}

static void test_classic_off(void **state)
{
	char answer[256];
	int fd;

	(void)state;
	peer_close(&server);
	server.classic_off = 1;
	peer_open(&server, 1);
	fd = dial(server.port);
	put(fd, "\3\0\0\0\0\0\0\0", 8);
	assert_int_equal(get(fd, answer, sizeof(answer)), 0);
	close(fd);
}

static char *nested(size_t depth)
{
	char *text = malloc(depth + 2);

	assert_non_null(text);
	memset(text, '[', depth + 1);
	text[0] = 2;
	text[depth + 1] = 0;
	return text;
}

/* Raw bytes, each ended by the client's shutdown: no answer, and the connection goes. */
static void test_bad_bytes(void **state)
{
	static const struct {
		const char *name, *bytes;
		size_t length;
	} rows[] = {
		{ "nothing", BYTES("") },
		{ "half a length", BYTES("\3\0\0\0") },
		{ "length zero", BYTES("\0\0\0\0\0\0\0\0") },
		{ "length minus one", BYTES("\377\377\377\377\377\377\377\377") },
		{ "length of two GiB", BYTES("\0\0\0\200\0\0\0\0") },
		{ "length one above the limit", BYTES("\1\0\20\0\0\0\0\0") },
		{ "truncated body", BYTES("\100\0\0\0\0\0\0\0\3{}") },
		{ "unknown type 0x80", BYTES("\3\0\0\0\0\0\0\0\200{}") },
		{ "type without JSON", BYTES("\1\0\0\0\0\0\0\0\3") },
		{ "not JSON", BYTES("\4\0\0\0\0\0\0\0\3abc") },
		{ "two documents", BYTES("\5\0\0\0\0\0\0\0\3{}{}") },
		{ "an array", BYTES("\4\0\0\0\0\0\0\0\1[1]") },
		{ "notify with wrong types", BYTES("\15\0\0\0\0\0\0\0\2{\"name\":[1]}") },
		{ "duplicate keys", BYTES("\16\0\0\0\0\0\0\0\3{\"a\":1,\"a\":2}") },
		{ "invalid UTF-8", BYTES("\10\0\0\0\0\0\0\0\3{\"\377\":1}") },
		{ "connection with wrong types", BYTES("\17\0\0\0\0\0\0\0\0{\"payload\":{}}") },
		{ "old style, not JSON", BYTES("\3\0\0\0\0\0\0\0abc") },
		{ "unknown magic", BYTES("CWCTRL9\0\0\0\0\0") },
		{ "control hello of length zero", BYTES("CWCTRL1\0\0\0\0\0") },
		{ "control hello too long", BYTES("CWCTRL1\0\377\377\377\377") },
		{ "control hello, garbage", BYTES("CWCTRL1\0\4\0\0\0abcd") },
		{ "data hello of length zero", BYTES("CWDATA1\0\0\0\0\0") },
		{ "data hello too long", BYTES("CWDATA1\0\377\377\377\177") },
		{ "data hello, truncated", BYTES("CWDATA1\0\100\0\0\0ab") },
	};
	char answer[64], *deep;
	unsigned before;

	(void)state;
	before = descriptors();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int fd = dial(server.port);

		put(fd, rows[i].bytes, rows[i].length);
		shutdown(fd, SHUT_WR);
		if (get(fd, answer, sizeof(answer)) != 0)
			fail_msg("%s was answered", rows[i].name);
		close(fd);
	}
	deep = nested(200000);
	assert_int_equal(classic(server.port, deep, 200001, answer, sizeof(answer)), 0);
	free(deep);
	turn_until(loop.ios == 2);
	assert_int_equal(descriptors(), before);
	assert_true(server.protocol_errors > 15);
	assert_true(classic(server.port, BYTES("\3{}"), answer, sizeof(answer)) > 9);
}

/* ----------------------------------------------------------------------------------- slow and many */

static void test_silent_connections(void **state)
{
	int silent[100];
	uint64_t began;
	char answer[64];

	(void)state;
	peer_close(&server);
	server.idle_timeout = 300 * CW__MS;
	peer_open(&server, 1);
	for (int i = 0; i < 100; i++) {
		silent[i] = dial(server.port);
		if (i & 1)
			put(silent[i], "\3", 1);
	}
	began = cw__now();
	assert_true(classic(server.port, BYTES("\3{}"), answer, sizeof(answer)) > 9);
	assert_true(cw__now() - began < 100 * CW__MS);
	turn_until(loop.ios == 2);
	assert_true(cw__now() - began > 200 * CW__MS);
	for (int i = 0; i < 100; i++)
		close(silent[i]);
}

/* A byte now and then does not extend the deadline. */
static void test_dripping_connection(void **state)
{
	uint64_t began, next;
	int fd;

	(void)state;
	peer_close(&server);
	server.idle_timeout = 200 * CW__MS;
	peer_open(&server, 1);
	fd = dial(server.port);
	put(fd, "\100\0\0\0\0\0\0\0\3{", 10);
	began = next = cw__now();
	turn_until(loop.ios == 3);
	while (loop.ios == 3) {
		assert_true(cw__now() - began < LIMIT);
		if (cw__now() > next) {
			send(fd, " ", 1, MSG_NOSIGNAL);
			next = cw__now() + 10 * CW__MS;
		}
		turn();
	}
	assert_true(cw__now() - began > 150 * CW__MS);
	close(fd);
}

static void test_too_many_unidentified(void **state)
{
	char answer[64];
	int fds[6];

	(void)state;
	peer_close(&server);
	server.unidentified_max = 4;
	peer_open(&server, 1);
	for (int i = 0; i < 6; i++) {
		fds[i] = dial(server.port);
		turn();
	}
	turn_until(loop.ios == 2 + 4);
	assert_int_equal(get(fds[0], answer, 1), 0);
	assert_int_equal(get(fds[1], answer, 1), 0);
	put(fds[5], "\3\0\0\0\0\0\0\0\3{}", 11);
	assert_true(get(fds[5], answer, sizeof(answer)) > 9);
	for (int i = 0; i < 6; i++)
		close(fds[i]);
}

/* Without descriptors the listener rests, and then goes on. */
static void test_out_of_descriptors(void **state)
{
	struct rlimit limit, low;
	char answer[64];
	int fds[8];

	(void)state;
	for (int i = 0; i < 8; i++)
		fds[i] = dial(server.port);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)fds[7] + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(loop.ios, 2);
	assert_true(loop.timer_count >= 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	put(fds[7], "\3\0\0\0\0\0\0\0\3{}", 11);
	assert_true(get(fds[7], answer, sizeof(answer)) > 9);
	for (int i = 0; i < 8; i++)
		close(fds[i]);
}

/* ------------------------------------------------------------------------------------- native server */

static size_t hello_bytes(unsigned char *out, size_t size, int data, const char *transport, unsigned char expected)
{
	struct cw__hello hello = { .data_connection = data, .version = CW__NATIVE_VERSION, .pid = 1 };

	memset(hello.instance, 9, 16);
	memset(hello.expected, expected, 16);
	hello.connection = data ? 5 : 0;
	hello.name = (struct cw__text){ "raw", 3 };
	hello.transport = (struct cw__text){ transport, (uint16_t)strlen(transport) };
	return cw__hello_encode(&hello, out, size);
}

/* Greets and returns the status of the welcome. */
static int greet(int fd, unsigned char expected)
{
	unsigned char bytes[CW__WELCOME_MAX];
	struct cw__welcome welcome;
	size_t length = hello_bytes(bytes, sizeof(bytes), 0, "", expected), rest;

	put(fd, bytes, length);
	assert_int_equal(get(fd, bytes, CW__PREFIX_BYTES), CW__PREFIX_BYTES);
	assert_int_equal(cw__prefix_decode(bytes, sizeof(bytes), &rest), CW_OK);
	assert_int_equal(get(fd, bytes + CW__PREFIX_BYTES, rest), rest);
	assert_int_equal(cw__welcome_decode(bytes, CW__PREFIX_BYTES + rest, &welcome), CW_OK);
	return welcome.status;
}

static struct cw__control_header frame_get(int fd, void *body)
{
	unsigned char bytes[CW__CONTROL_HEADER_BYTES];
	struct cw__control_header header = { 0 };

	if (get(fd, bytes, sizeof(bytes)) < sizeof(bytes))
		return header;
	assert_int_equal(cw__control_header_decode(bytes, &header), CW_OK);
	assert_int_equal(get(fd, body, header.length), header.length);
	return header;
}

static void test_native_frames(void **state)
{
	static unsigned char body[CW__CONTROL_BODY_MAX], request[256];
	struct cw__resolve resolve = { .address = 4096, .length = 1 };
	struct cw__message message = { .transport = { "echo", 4 }, .data = (const unsigned char *)"hi", .length = 2 };
	struct cw__notify notify = { .sequence = 1, .sender = { "s", 1 }, .name = { "n", 1 } };
	struct cw__control_header header;
	int fd = dial(server.port);

	(void)state;
	notify.data = (const unsigned char *)"d";
	notify.length = 1;
	assert_int_equal(greet(fd, 0), CW_OK);
	frame(fd, CW__CONTROL_PROBE, 1, "", 0);
	frame(fd, CW__CONTROL_RESOLVE, 2, request, cw__resolve_encode(&resolve, request, sizeof(request)));
	frame(fd, CW__CONTROL_MESSAGE, 3, request, cw__message_encode(&message, request, sizeof(request)));
	frame(fd, CW__CONTROL_NOTIFY, 4, request, cw__notify_encode(&notify, request, sizeof(request)));
	resolve.address = 1;
	frame(fd, CW__CONTROL_RESOLVE, 5, request, cw__resolve_encode(&resolve, request, sizeof(request)));
	header = frame_get(fd, body);
	assert_int_equal(header.type, CW__CONTROL_PROBE | CW__CONTROL_REPLY);
	assert_int_equal(header.sequence, 1);
	header = frame_get(fd, body);
	assert_int_equal(header.length, 6);
	assert_memory_equal(body, "record", 6);
	header = frame_get(fd, body);
	assert_int_equal(header.sequence, 3);
	assert_memory_equal(body, "hi", 2);
	header = frame_get(fd, body);
	assert_int_equal(header.status, CW_OK);
	assert_string_equal(server.notified, "n=d");
	header = frame_get(fd, body);
	assert_int_equal(header.status, CW_ERR_NOT_REGISTERED);
	assert_int_equal(header.length, 0);
	frame(fd, CW__CONTROL_BYE, 0, "", 0);
	assert_int_equal(get(fd, body, 1), 0);
	close(fd);
	assert_int_equal(server.protocol_errors, 0);
	turn_until(loop.ios == 2);
}

static void test_native_refusals(void **state)
{
	static const struct {
		const char *name;
		uint16_t type;
		size_t length;
	} rows[] = {
		{ "probe with a body", CW__CONTROL_PROBE, 1 },
		{ "resolve too short", CW__CONTROL_RESOLVE, 3 },
		{ "list too long", CW__CONTROL_LIST, 9 },
		{ "notify of zeros", CW__CONTROL_NOTIFY, 2 },
		{ "message of one byte", CW__CONTROL_MESSAGE, 1 },
		{ "cancel of one byte", CW__CONTROL_CANCEL, 1 },
		{ "a push to the target", CW__CONTROL_REGION_GONE, 8 },
		{ "a reply to the target", CW__CONTROL_PROBE | CW__CONTROL_REPLY, 0 },
	};
	static const unsigned char zeros[64];
	unsigned char byte;
	int fd = dial(server.port);

	(void)state;
	assert_int_equal(greet(fd, 77), CW_ERR_PEER_RESTARTED);
	assert_int_equal(get(fd, &byte, 1), 0);
	close(fd);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned before = server.protocol_errors;

		fd = dial(server.port);
		assert_int_equal(greet(fd, 1), CW_OK);
		frame(fd, rows[i].type, 1, zeros, rows[i].length);
		if (get(fd, &byte, 1) != 0)
			fail_msg("%s was answered", rows[i].name);
		if (server.protocol_errors != before + 1)
			fail_msg("%s was not counted", rows[i].name);
		close(fd);
	}
	fd = dial(server.port);
	assert_int_equal(greet(fd, 1), CW_OK);
	put(fd, "\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377", 24);
	assert_int_equal(get(fd, &byte, 1), 0);
	close(fd);
}

/* Whoever does not read its answers is not read either, and gets all of them in the end. */
static void test_native_backpressure(void **state)
{
	static unsigned char body[CW__CONTROL_BODY_MAX];
	unsigned char first[8] = { 99 }, probe[64];
	int fd = dial(server.port);
	struct cw__control_header header;

	(void)state;
	assert_int_equal(greet(fd, 0), CW_OK);
	for (unsigned i = 1; i <= 64; i++)
		frame(fd, CW__CONTROL_LIST, i, first, sizeof(first));
	for (int i = 0; i < 100; i++)
		turn();
	assert_true(classic(server.port, BYTES("\3{}"), (char *)probe, sizeof(probe)) > 9);
	for (unsigned i = 1; i <= 64; i++) {
		header = frame_get(fd, body);
		assert_int_equal(header.sequence, i);
		assert_int_equal(header.length, 512 * 1024);
	}
	close(fd);
}

static void test_data_handover(void **state)
{
	unsigned char bytes[CW__HELLO_MAX + 16], after[16];
	size_t length = hello_bytes(bytes, CW__HELLO_MAX, 1, "tcp", 0);
	struct cw__welcome welcome;
	int fd = dial(server.port);

	(void)state;
	memcpy(bytes + length, "data frames here", 16);
	put(fd, bytes, length + 16);
	turn_until(server.accepted_fd >= 0);
	assert_int_equal(server.accepted_length, length);
	assert_memory_equal(server.accepted, bytes, length);
	assert_int_equal(recv(server.accepted_fd, after, 16, 0), 16);
	assert_memory_equal(after, "data frames here", 16);
	assert_int_equal(loop.ios, 2);
	close(server.accepted_fd);
	close(fd);
	fd = dial(server.port);
	length = hello_bytes(bytes, CW__HELLO_MAX, 1, "none", 0);
	put(fd, bytes, length);
	assert_int_equal(get(fd, after, 1), 0);
	close(fd);
	/* One that is meant for an earlier engine on this port is told so. */
	fd = dial(server.port);
	length = hello_bytes(bytes, CW__HELLO_MAX, 1, "tcp", 77);
	put(fd, bytes, length);
	length = get(fd, bytes, sizeof(bytes));
	assert_int_equal(cw__welcome_decode(bytes, length, &welcome), CW_OK);
	assert_int_equal(welcome.data_connection, 1);
	assert_int_equal(welcome.status, CW_ERR_PEER_RESTARTED);
	close(fd);
}

/* --------------------------------------------------------------------------------- binding and names */

static void test_bind(void **state)
{
	struct peer other = { .name = "127.0.0.1", .native = 1 };
	const char *why = "";
	uint16_t port;

	(void)state;
	other.host.ops = &host_ops;
	other.fixed_port = server.port;
	assert_int_equal(cw__control.open(&other.host, &other.control, &port, &why), CW_ERR_IO);
	assert_non_null(strstr(why, "in use"));
	other.fixed_port = 0;
	other.bind = "127.0.0.1:5";
	assert_int_equal(cw__control.open(&other.host, &other.control, &port, &why), CW_ERR_CONFIG);
	other.bind = "::";
	peer_open(&other, 5);
	assert_true(classic(other.port, BYTES("\3{}"), (char[64]){ 0 }, 64) > 9);
	peer_close(&other);
}

static void test_p2p(void **state)
{
	static const struct {
		const char *name, *line;
	} rows[] = {
		{ "10.0.0.1:5", "10.0.0.1:5\n" },
		{ "/10.0.0.1:5", "10.0.0.1:5\n" },
		{ "node7", "node7:12001\n" },
		{ "[::1]:9", "[::1]:9\n" },
		{ "", NULL },
		{ "a:0", NULL },
	};
	void *store = NULL;
	const char *why = NULL;

	(void)state;
	assert_int_equal(cw_metadata_p2p.open(&server.host, "p2p", &store, &why), CW_OK);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw_blob blob = { 0 };
		int status = cw_metadata_p2p.addresses(store, rows[i].name, 0, &blob);

		assert_int_equal(status, rows[i].line ? CW_OK : CW_ERR_ADDRESS);
		if (rows[i].line) {
			assert_int_equal(blob.length, strlen(rows[i].line));
			assert_memory_equal(blob.data, rows[i].line, blob.length);
		}
		host_blob_free(&blob);
	}
	cw_metadata_p2p.close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_classic_answers),
		TEST(test_classic_notify_refused),
		TEST(test_classic_off),
		TEST(test_bad_bytes),
		TEST(test_silent_connections),
		TEST(test_dripping_connection),
		TEST(test_too_many_unidentified),
		TEST(test_out_of_descriptors),
		TEST(test_native_frames),
		TEST(test_native_refusals),
		TEST(test_native_backpressure),
		TEST(test_data_handover),
		TEST(test_bind),
		TEST(test_p2p),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
