/* SPDX-License-Identifier: Apache-2.0 */
/* Engines opened with what Mooncake's names and variables mean: they open, and listen where Mooncake's would. */
#include "setup_world.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/classic.h"

static struct cw_engine *open_engine(struct setup *setup, const char *name)
{
	struct cw_engine_options options = CW_ENGINE_OPTIONS_INIT;
	struct cw_engine *engine = NULL;
	char engine_name[300];

	assert_int_equal(setup_identity(setup, "P2PHANDSHAKE", name, engine_name, sizeof(engine_name)), 0);
	options.name = engine_name;
	options.settings = setup->settings;
	options.setting_count = setup->setting_count;
	if (cw_engine_open(&options, &engine))
		fail_msg("%s", cw_last_error());
	return engine;
}

static unsigned port_of(const struct cw_engine *engine)
{
	return (unsigned)strtoul(strrchr(cw_engine_name(engine), ':') + 1, NULL, 10);
}

static void receive(int fd, void *data, size_t length)
{
	for (size_t got = 0; got < length;) {
		ssize_t n = recv(fd, (char *)data + got, length - got, 0);

		if (n <= 0)
			fail_msg("the engine did not answer");
		got += (size_t)n;
	}
}

/* Asks on the control port, as a Mooncake engine does. */
static void fetch_descriptor(unsigned port, struct cw__descriptor *descriptor_out)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct timeval limit = { .tv_sec = 10 };
	struct cw__classic_frame frame;
	unsigned char request[64], head[CW__CLASSIC_LENGTH_BYTES], *body;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char why[160];
	size_t length;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	length = cw__classic_encode(CW__CLASSIC_METADATA, "{}", 2, request, sizeof(request));
	assert_int_equal(send(fd, request, length, MSG_NOSIGNAL), length);
	receive(fd, head, sizeof(head));
	assert_int_equal(cw__classic_length_decode(head, CW__CLASSIC_MAX, &length), CW_OK);
	body = malloc(length);
	receive(fd, body, length);
	close(fd);
	assert_int_equal(cw__classic_body_decode(body, length, &frame), CW_OK);
	if (cw__descriptor_decode(frame.json, frame.json_length, descriptor_out, why, sizeof(why)))
		fail_msg("%s", why);
	free(body);
}

/* Both ports are where firewalls for Mooncake let connections through. */
static void ports(void **state)
{
	struct setup setup = { .setting_count = 0 };
	struct cw__descriptor descriptor;
	struct cw_engine *engine;

	(void)state;
	engine = open_engine(&setup, "127.0.0.1:80");
	assert_in_range(port_of(engine), 15000, 17000);
	fetch_descriptor(port_of(engine), &descriptor);
	assert_in_range(descriptor.tcp_data_port, 15000, 17000);
	assert_int_not_equal(descriptor.tcp_data_port, port_of(engine));
	assert_string_equal(descriptor.name, cw_engine_name(engine));
	cw__descriptor_free(&descriptor);
	cw_engine_close(engine);
	setup_free(&setup);
}

/* A peer's name without a port means the one of MC_HANDSHAKE_PORT. */
static void port_of_peers(void **state)
{
	struct setup setup = { .setting_count = 0 };
	struct cw_segment *segment = NULL;
	struct cw_engine *peer, *engine;
	char port[8];

	(void)state;
	clearenv();
	peer = open_engine(&setup, "127.0.0.1");
	snprintf(port, sizeof(port), "%u", port_of(peer));
	setenv("MC_HANDSHAKE_PORT", port, 1);
	assert_int_equal(setup_environment(&setup, NULL, NULL), 0);
	engine = open_engine(&setup, "127.0.0.1");
	if (cw_segment_open(engine, "127.0.0.1", NULL, &segment))
		fail_msg("%s", cw_last_error());
	cw_segment_close(segment);
	cw_engine_close(engine);
	cw_engine_close(peer);
	setup_free(&setup);
}

/* Many engines of one name in a process, as LMDeploy has them. */
static void many(void **state)
{
	struct cw_engine *engines[8];

	(void)state;
	for (size_t i = 0; i < COUNT(engines); i++) {
		struct setup setup = { .setting_count = 0 };

		engines[i] = open_engine(&setup, "127.0.0.1");
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(port_of(engines[i]), port_of(engines[j]));
		setup_free(&setup);
	}
	for (size_t i = 0; i < COUNT(engines); i++)
		cw_engine_close(engines[i]);
}

static void note_transport(void *arg, const char *name, int on, const char *why)
{
	char *list = arg;

	(void)why;
	if (on)
		snprintf(list + strlen(list), 200 - strlen(list), "%s ", name);
}

static void force_tcp(void **state)
{
	struct setup setup = { .setting_count = 0 };
	struct cw_engine *engine;
	char on[200] = "";

	(void)state;
	clearenv();
	setenv("MC_FORCE_TCP", "1", 1);
	assert_int_equal(setup_environment(&setup, NULL, NULL), 0);
	engine = open_engine(&setup, "localhost");
	assert_int_equal(cw_engine_transports(engine, note_transport, on), CW_OK);
	assert_string_equal(on, "local tcp ");
	cw_engine_close(engine);
	setup_free(&setup);
}

/* A name of nobody here: the engine opens, as Mooncake's does; who reaches it is the network's business. */
static void foreign_name(void **state)
{
	static const char *const names[] = { "a-name-that-nobody-has.invalid", "203.0.113.77:12345" };
	struct cw__descriptor descriptor;

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		struct setup setup = { .setting_count = 0 };
		struct cw_engine *engine = open_engine(&setup, names[i]);

		fetch_descriptor(port_of(engine), &descriptor);
		assert_int_equal(strncmp(descriptor.name, names[i], strcspn(names[i], ":")), 0);
		cw__descriptor_free(&descriptor);
		cw_engine_close(engine);
		setup_free(&setup);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports),     cmocka_unit_test(port_of_peers), cmocka_unit_test(many),
		cmocka_unit_test(force_tcp), cmocka_unit_test(foreign_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
