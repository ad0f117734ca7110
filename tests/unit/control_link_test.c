/* SPDX-License-Identifier: Apache-2.0 */
/* How an engine reaches its peers: native and classic ones, gone and restarted ones, and ones that answer nonsense. */
#include "control_world.h"

/* --------------------------------------------------------------------------------------------- links */

static struct segment link_to(uint16_t port, uint64_t timeout, struct segment *segment)
{
	char address[32];
	const char *addresses[] = { address };
	struct cw__link_options options = { .loop = &loop, .name = "there", .addresses = addresses };

	snprintf(address, sizeof(address), "127.0.0.1:%u", port);
	options.address_count = 1;
	options.timeout = timeout;
	options.segment = segment;
	memset(segment, 0, sizeof(*segment));
	assert_int_equal(cw__control.link_open(client.control, &options, &segment->link), CW_OK);
	turn_until(segment->ups || segment->downs);
	return *segment;
}

static void test_link_native(void **state)
{
	struct segment segment;
	unsigned char request[64];
	struct cw__resolve resolve = { .address = 4096, .length = 1 };
	size_t length = cw__resolve_encode(&resolve, request, sizeof(request));

	(void)state;
	assert_int_equal(link_to(server.port, LIMIT, &segment).ups, 1);
	assert_int_equal(segment.classic, 0);
	assert_true(cw__control.initiator_alive(server.control, client.instance));
	assert_false(cw__control.initiator_alive(server.control, server.instance));
	assert_int_equal(
		cw__control.request(segment.link, CW__CONTROL_RESOLVE, request, length, LIMIT, answered, &segment),
		CW_OK);
	turn_until(segment.answered == 1);
	assert_int_equal(segment.answer_status, CW_OK);
	assert_memory_equal(segment.answer, "record", 6);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(
			cw__control.request(segment.link, CW__CONTROL_PROBE, NULL, 0, LIMIT, answered, &segment),
			CW_OK);
	turn_until(segment.answered == 1001);
	cw__control.region_gone(server.control, 0x123456789abcdef0u);
	turn_until(segment.gone == 1);
	assert_int_equal(segment.gone_id, 0x123456789abcdef0u);
	/* An answer may close the link. */
	segment.close_when_answered = 1;
	assert_int_equal(cw__control.request(segment.link, CW__CONTROL_PROBE, NULL, 0, LIMIT, answered, &segment),
			 CW_OK);
	assert_int_equal(cw__control.request(segment.link, CW__CONTROL_PROBE, NULL, 0, LIMIT, answered, &segment),
			 CW_OK);
	turn_until(segment.answered == 1003);
	assert_int_equal(segment.answer_status, CW_ERR_CLOSED);
	turn_until(!cw__control.initiator_alive(server.control, client.instance));
	assert_int_equal(segment.downs, 0);
	assert_int_equal(server.protocol_errors, 0);
	turn_until(loop.ios == 2);
}

static void test_link_itself(void **state)
{
	struct segment segment;

	(void)state;
	assert_int_equal(link_to(client.port, LIMIT, &segment).ups, 1);
	cw__control.link_close(segment.link);
}

static void test_link_classic(void **state)
{
	static const char json[] = "{\"name\":\"n\",\"notify_msg\":\"m\"}\n";
	struct segment segment;

	(void)state;
	server.native = 0;
	assert_int_equal(link_to(server.port, LIMIT, &segment).ups, 1);
	assert_int_equal(segment.classic, 1);
	assert_int_equal(cw__control.request(segment.link, CW__CONTROL_PROBE, NULL, 0, LIMIT, answered, &segment),
			 CW_ERR_UNSUPPORTED);
	assert_int_equal(cw__control.classic_request(segment.link, CW__CLASSIC_NOTIFY, json, strlen(json), LIMIT,
						     answered, &segment),
			 CW_OK);
	turn_until(segment.answered == 1);
	assert_int_equal(segment.answer_status, CW_OK);
	assert_string_equal(server.notified, "n=m");
	assert_memory_equal(segment.answer, "{\"name\":\"\",\"notify_msg\":\"success\"}\n", segment.answer_length);
	cw__control.link_retry(segment.link);
	turn_until(segment.ups == 2);
	peer_close(&server);
	assert_int_equal(
		cw__control.classic_request(segment.link, CW__CLASSIC_PROBE, "{}", 2, LIMIT, answered, &segment),
		CW_OK);
	turn_until(segment.answered == 2);
	assert_int_equal(segment.answer_status, CW_ERR_CONNECT);
	cw__control.link_close(segment.link);
}

static void test_link_refused(void **state)
{
	struct segment segment;
	uint16_t port = server.port;

	(void)state;
	peer_close(&server);
	assert_int_equal(link_to(port, LIMIT, &segment).downs, 1);
	assert_int_equal(segment.status, CW_ERR_CONNECT);
	assert_non_null(strstr(segment.text, "refused"));
	cw__control.link_close(segment.link);
}

/* The peer goes and comes: the same one is welcome, another one is told apart. */
static void test_link_restart(void **state)
{
	struct segment segment;

	(void)state;
	link_to(server.port, LIMIT, &segment);
	server.fixed_port = server.port;
	assert_int_equal(cw__control.request(segment.link, CW__CONTROL_PROBE, NULL, 0, LIMIT, answered, &segment),
			 CW_OK);
	peer_close(&server);
	turn_until(segment.downs == 1);
	assert_int_equal(segment.status, CW_ERR_PEER_DOWN);
	assert_int_equal(segment.answered, 1);
	assert_int_equal(segment.answer_status, CW_ERR_PEER_DOWN);
	assert_int_equal(cw__control.request(segment.link, CW__CONTROL_PROBE, NULL, 0, LIMIT, answered, &segment),
			 CW_ERR_PEER_DOWN);
	cw__control.link_retry(segment.link);
	turn_until(segment.downs == 2);
	assert_int_equal(segment.status, CW_ERR_PEER_DOWN);
	peer_open(&server, 1);
	cw__control.link_retry(segment.link);
	turn_until(segment.ups == 2);
	peer_close(&server);
	turn_until(segment.downs == 3);
	peer_open(&server, 3);
	cw__control.link_retry(segment.link);
	turn_until(segment.downs == 4);
	assert_int_equal(segment.status, CW_ERR_PEER_RESTARTED);
	peer_close(&server);
	server.native = 0;
	server.classic_off = 0;
	peer_open(&server, 3);
	cw__control.link_retry(segment.link);
	turn_until(segment.downs == 5);
	assert_int_equal(segment.status, CW_ERR_PEER_RESTARTED);
	cw__control.link_close(segment.link);
}

/* A peer whose answers the test writes: the n-th connection gets the n-th text. */
struct script {
	struct cw_io io;
	uint16_t port;
	unsigned count;
	struct {
		const void *data;
		size_t length;
	} answers[8];
	int fds[8];
};

static void script_ready(struct cw_io *io, uint32_t events)
{
	struct script *script = cw__container(io, struct script, io);
	int fd = accept(io->fd, NULL, NULL);
	unsigned at = script->count;

	(void)events;
	assert_true(fd >= 0 && at < 8);
	script->fds[at] = fd;
	if (script->answers[at].length)
		put(fd, script->answers[at].data, script->answers[at].length);
	script->count++;
}

static void script_open(struct script *script)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	script->io = (struct cw_io){ .events = EPOLLIN, .ready = script_ready };
	script->io.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(script->io.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(script->io.fd, 8), 0);
	assert_int_equal(getsockname(script->io.fd, (struct sockaddr *)&address, &length), 0);
	script->port = ntohs(address.sin_port);
	host_io_add(&loop, &script->io);
}

static void script_close(struct script *script)
{
	host_io_remove(&script->io);
	close(script->io.fd);
	for (unsigned i = 0; i < script->count; i++)
		close(script->fds[i]);
}

static void test_link_bad_peer(void **state)
{
	static const struct {
		const char *name, *bytes;
		size_t length;
		int status;
	} rows[] = {
		{ "silence", BYTES(""), CW_ERR_TIMED_OUT },
		{ "half an answer", BYTES("\100\0\0\0\0\0\0\0\1"), CW_ERR_TIMED_OUT },
		{ "length minus one", BYTES("\377\377\377\377\377\377\377\377"), CW_ERR_PROTOCOL },
		{ "wrong type", BYTES("\3\0\0\0\0\0\0\0\2{}"), CW_ERR_PROTOCOL },
		{ "old style", BYTES("\2\0\0\0\0\0\0\0{}"), CW_ERR_PROTOCOL },
		{ "no JSON", BYTES("\4\0\0\0\0\0\0\0\1xyz"), CW_ERR_PROTOCOL },
		{ "null", BYTES("\5\0\0\0\0\0\0\0\1null"), CW_ERR_PROTOCOL },
		{ "array", BYTES("\4\0\0\0\0\0\0\0\1[1]"), CW_ERR_PROTOCOL },
		{ "wrong member types", BYTES("\26\0\0\0\0\0\0\0\1{\"tcp_data_port\":\"x\"}"), CW_ERR_PROTOCOL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct script script = { 0 };
		struct segment segment;

		script.answers[0].data = rows[i].bytes;
		script.answers[0].length = rows[i].length;
		script_open(&script);
		link_to(script.port, 100 * CW__MS, &segment);
		if (segment.ups || segment.status != rows[i].status)
			fail_msg("%s: %d, %s", rows[i].name, segment.status, segment.text);
		cw__control.link_close(segment.link);
		script_close(&script);
	}
}

/* A descriptor, a welcome, and then whatever `after` is. */
static void script_native(struct script *script, const void *after, size_t length)
{
	static char descriptor[1024];
	static unsigned char welcome_bytes[2048];
	struct cw__welcome welcome = { .version = CW__NATIVE_VERSION, .name = { "engine", 6 } };
	size_t json_length, used;
	char *json;

	memset(script, 0, sizeof(*script));
	script_open(script);
	memset(server.instance, 1, sizeof(server.instance));
	server.port = script->port;
	json = cw__core_descriptor(&server.host, 1, &json_length);
	script->answers[0].data = descriptor;
	script->answers[0].length =
		cw__classic_encode(CW__CLASSIC_METADATA, json, json_length, descriptor, sizeof(descriptor));
	free(json);
	memset(welcome.instance, 1, sizeof(welcome.instance));
	welcome.clock_ns = cw__now();
	used = cw__welcome_encode(&welcome, welcome_bytes, sizeof(welcome_bytes));
	assert_true(used != 0);
	memcpy(welcome_bytes + used, after, length);
	script->answers[1].data = welcome_bytes;
	script->answers[1].length = used + length;
}

static void test_link_request_ends(void **state)
{
	struct segment segment;
	struct script script;

	(void)state;
	peer_close(&server);
	script_native(&script, "", 0);
	assert_int_equal(link_to(script.port, LIMIT, &segment).ups, 1);
	assert_int_equal(cw__control.request(segment.link, CW__CONTROL_PROBE, NULL, 0, 50 * CW__MS, answered, &segment),
			 CW_OK);
	turn_until(segment.answered == 1);
	assert_int_equal(segment.answer_status, CW_ERR_TIMED_OUT);
	/* The late answer is dropped; one that nobody asked for ends the link. */
	frame(script.fds[1], CW__CONTROL_PROBE | CW__CONTROL_REPLY, 1, "", 0);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(segment.downs, 0);
	assert_int_equal(cw__control.request(segment.link, CW__CONTROL_PROBE, NULL, 0, LIMIT, answered, &segment),
			 CW_OK);
	frame(script.fds[1], CW__CONTROL_PROBE | CW__CONTROL_REPLY, 3, "", 0);
	turn_until(segment.downs == 1);
	assert_int_equal(segment.status, CW_ERR_PROTOCOL);
	assert_int_equal(segment.answered, 2);
	assert_int_equal(segment.answer_status, CW_ERR_PROTOCOL);
	cw__control.link_close(segment.link);
	script_close(&script);
}

static void test_link_bad_frames(void **state)
{
	static const struct {
		const char *name, *bytes;
		size_t length;
		int status;
	} rows[] = {
		{ "unknown type", BYTES("\x63\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), CW_ERR_PROTOCOL },
		{ "huge length", BYTES("\1\x80\0\0\377\377\377\377\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), CW_ERR_PROTOCOL },
		{ "a request", BYTES("\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), CW_ERR_PROTOCOL },
		{ "short push", BYTES("\7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), CW_ERR_PROTOCOL },
		{ "reply to nothing", BYTES("\1\x80\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), CW_ERR_PROTOCOL },
		{ "goodbye", BYTES("\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), CW_ERR_PEER_DOWN },
	};

	(void)state;
	peer_close(&server);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct segment segment;
		struct script script;

		script_native(&script, rows[i].bytes, rows[i].length);
		assert_int_equal(link_to(script.port, LIMIT, &segment).ups, 1);
		turn_until(segment.downs == 1);
		if (segment.status != rows[i].status)
			fail_msg("%s: %d, %s", rows[i].name, segment.status, segment.text);
		cw__control.link_close(segment.link);
		script_close(&script);
	}
}

/* Closing at any moment of the opening leaves nothing behind. */
static void test_link_closed_early(void **state)
{
	(void)state;
	for (int turns = 0; turns < 12; turns++) {
		const char *addresses[] = { NULL };
		char address[32];
		struct segment segment = { 0 };
		struct cw__link_options options = { .loop = &loop, .name = "there", .addresses = addresses };

		snprintf(address, sizeof(address), "127.0.0.1:%u", server.port);
		addresses[0] = address;
		options.address_count = 1;
		options.timeout = LIMIT;
		options.segment = &segment;
		assert_int_equal(cw__control.link_open(client.control, &options, &segment.link), CW_OK);
		for (int i = 0; i < turns; i++)
			turn();
		cw__control.link_close(segment.link);
		turn_until(loop.ios == 2);
	}
}

/* Whichever descriptor cannot be watched, on either side: the opening ends, and nothing is left behind. */
static void test_link_without_memory(void **state)
{
	unsigned ups = 0, before = descriptors();

	(void)state;
	for (unsigned n = 1; n <= 7; n++) {
		struct segment segment;

		loop.adds = 0;
		loop.refused_add = n;
		link_to(server.port, 200 * CW__MS, &segment);
		ups += segment.ups;
		cw__control.link_close(segment.link);
		turn_until(loop.ios == 2);
	}
	assert_int_equal(ups, 2); /* an opening needs five */
	assert_int_equal(descriptors(), before);
}

/* The first address swallows everything; the second answers well before the timeout. */
static void test_link_several_addresses(void **state)
{
	struct script script = { 0 };
	struct segment segment = { 0 };
	char silent[32], good[32];
	const char *addresses[] = { silent, good };
	struct cw__link_options options = { .loop = &loop, .name = "there", .addresses = addresses };
	uint64_t began = cw__now();

	(void)state;
	script_open(&script);
	snprintf(silent, sizeof(silent), "127.0.0.1:%u", script.port);
	snprintf(good, sizeof(good), "127.0.0.1:%u", server.port);
	options.address_count = 2;
	options.timeout = LIMIT;
	options.segment = &segment;
	assert_int_equal(cw__control.link_open(client.control, &options, &segment.link), CW_OK);
	turn_until(segment.ups == 1);
	assert_true(cw__now() - began < CW__SECOND);
	cw__control.link_close(segment.link);
	script_close(&script);
}

static void test_link_unresolvable(void **state)
{
	const char *addresses[] = { "host.invalid:1" };
	struct cw__link_options options = { .loop = &loop, .name = "x", .addresses = addresses, .address_count = 1 };
	struct cw__link *link;

	(void)state;
	addresses[0] = "[::1";
	assert_int_equal(cw__control.link_open(client.control, &options, &link), CW_ERR_ADDRESS);
}

/* ------------------------------------------------------------------------- peers that a store knows */

/* What a store says about a classic peer. */
static struct cw__descriptor known_descriptor(const char *name)
{
	struct cw__descriptor known = { .protocol = "tcp", .tcp_data_port = 4711, .tcp_proto_version = 2 };

	snprintf(known.name, sizeof(known.name), "%s", name);
	return known;
}

/* Opens a link by its options and the port of the one address. */
static void link_by(struct cw__link_options *options, uint16_t port, struct segment *segment)
{
	static char address[32];
	static const char *addresses[] = { address };

	snprintf(address, sizeof(address), "127.0.0.1:%u", port);
	options->loop = &loop;
	options->addresses = addresses;
	options->address_count = 1;
	options->segment = segment;
	if (!options->timeout)
		options->timeout = LIMIT;
	memset(segment, 0, sizeof(*segment));
	assert_int_equal(cw__control.link_open(client.control, options, &segment->link), CW_OK);
	turn_until(segment->ups || segment->downs);
}

/* Whoever answers under another name is not the peer. */
static void test_link_named(void **state)
{
	struct cw__link_options options = { .name = "engine", .named = 1 };
	struct segment segment;

	(void)state;
	snprintf(server.called, sizeof(server.called), "engine");
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.ups, 1);
	cw__control.link_close(segment.link);

	snprintf(server.called, sizeof(server.called), "other");
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.ups, 0);
	assert_int_equal(segment.status, CW_ERR_CONNECT);
	assert_non_null(strstr(segment.text, "\"other\" answers there"));
	cw__control.link_close(segment.link);

	snprintf(server.called, sizeof(server.called), "wrong"); /* in its descriptor; its welcome says "engine" */
	options.name = "wrong";
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.status, CW_ERR_CONNECT);
	assert_non_null(strstr(segment.text, "\"engine\" answers there"));
	cw__control.link_close(segment.link);
}

/* The hello goes out at once; only when another instance answers the peer is asked who it is. */
static void test_link_with_a_native_descriptor(void **state)
{
	struct cw__descriptor known = known_descriptor("engine");
	struct cw__link_options options = { .name = "engine", .named = 1, .descriptor = &known };
	struct segment segment;

	(void)state;
	known.native = 1;
	known.native_version = CW__NATIVE_VERSION;
	memcpy(known.instance, server.instance, sizeof(known.instance));
	server.classic_off = 1;
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.ups, 1);
	assert_int_equal(segment.classic, 0);
	cw__control.link_close(segment.link);
	peer_close(&server);

	memset(&server, 0, sizeof(server));
	server.native = 1;
	snprintf(server.called, sizeof(server.called), "engine");
	peer_open(&server, 9); /* restarted since the store was told */
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.ups, 1);
	cw__control.link_close(segment.link);

	snprintf(server.called, sizeof(server.called), "other");
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.status, CW_ERR_CONNECT);
	assert_non_null(strstr(segment.text, "\"other\" answers there"));
	cw__control.link_close(segment.link);
}

/* The descriptor is not fetched: one that could not be the peer's own is what the link knows. */
static void test_link_with_a_descriptor(void **state)
{
	struct cw__classic_buffer buffer = { 4096, 1, "" };
	struct cw__descriptor known = known_descriptor("known");
	struct cw__link_options options = { .name = "known", .named = 1, .descriptor = &known };
	struct segment segment;

	(void)state;
	known.buffers = &buffer;
	known.buffer_count = 1;
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.ups, 1);
	assert_int_equal(segment.classic, 1);
	cw__control.link_retry(segment.link);
	turn_until(segment.ups == 2);
	assert_int_equal(server.protocol_errors, 0);
	cw__control.link_close(segment.link);

	server.classic_off = 1; /* it closes without an answer, but it is there */
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.ups, 1);
	cw__control.link_close(segment.link);
}

static void test_link_with_a_descriptor_and_nobody_there(void **state)
{
	struct cw__descriptor known = known_descriptor("known");
	struct cw__link_options options = { .name = "known", .descriptor = &known };
	struct segment segment;
	struct script script = { 0 };
	uint16_t port = server.port;

	(void)state;
	peer_close(&server);
	link_by(&options, port, &segment);
	assert_int_equal(segment.status, CW_ERR_CONNECT);
	cw__control.link_close(segment.link);

	script_open(&script); /* swallows the Probe */
	options.timeout = 50 * CW__MS;
	link_by(&options, script.port, &segment);
	assert_int_equal(segment.status, CW_ERR_TIMED_OUT);
	cw__control.link_close(segment.link);
	script_close(&script);
}

static void test_link_moves(void **state)
{
	struct cw__descriptor known = known_descriptor("known");
	struct cw__link_options options = { .name = "known", .descriptor = &known };
	char address[32];
	const char *addresses[] = { address };
	struct segment segment;

	(void)state;
	link_by(&options, server.port, &segment);
	assert_int_equal(segment.ups, 1);
	peer_close(&server);
	cw__control.link_retry(segment.link);
	turn_until(segment.downs == 1);
	assert_int_equal(segment.status, CW_ERR_PEER_DOWN);

	snprintf(address, sizeof(address), "127.0.0.1:%u", client.port);
	options.addresses = addresses;
	cw__control.link_move(segment.link, &options);
	turn_until(segment.ups == 2);
	assert_int_equal(
		cw__control.classic_request(segment.link, CW__CLASSIC_PROBE, "{}", 2, LIMIT, answered, &segment),
		CW_OK);
	turn_until(segment.answered == 1);
	assert_int_equal(segment.answer_status, CW_OK);

	options.address_count = 0;
	cw__control.link_move(segment.link, &options);
	assert_int_equal(segment.downs, 2);
	cw__control.link_close(segment.link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_link_native),
		TEST(test_link_itself),
		TEST(test_link_classic),
		TEST(test_link_refused),
		TEST(test_link_restart),
		TEST(test_link_bad_peer),
		TEST(test_link_request_ends),
		TEST(test_link_bad_frames),
		TEST(test_link_closed_early),
		TEST(test_link_without_memory),
		TEST(test_link_several_addresses),
		TEST(test_link_unresolvable),
		TEST(test_link_named),
		TEST(test_link_with_a_native_descriptor),
		TEST(test_link_with_a_descriptor),
		TEST(test_link_with_a_descriptor_and_nobody_there),
		TEST(test_link_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
