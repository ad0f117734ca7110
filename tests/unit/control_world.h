/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small world for the tests of the control part: a host with one loop that the test turns itself, a core that is
 * defined here (so nothing of src/core but the statuses is linked), and raw sockets as peers. Included once by each
 * test program.
 */
#ifndef CW_TESTS_CONTROL_WORLD_H
#define CW_TESTS_CONTROL_WORLD_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
/* After the headers that it needs. */
#include <cmocka.h>

#include <core/control_ops.h>
#include <metadata/p2p/p2p.h>
#include <util/clock.h>
#include <util/list.h>

#define BYTES(text) (text), sizeof(text) - 1 /* of a literal that may hold NULs */
#define LIMIT (5 * CW__SECOND)               /* no step of a test waits longer */

/* ------------------------------------------------------------------------------- the host and its loop */

struct cw_loop {
	int epoll_fd;
	unsigned ios;
	unsigned adds, refused_add; /* the add of this number fails; 0 = none */
	struct cw_timer *timers[8192];
	size_t timer_count;
	struct cw_task *first, *last;
};

static struct cw_loop loop;

struct peer { /* one engine */
	struct cw_host host;
	struct cw__control *control;
	uint16_t port;
	unsigned char instance[16];
	char name[64];
	char called[32]; /* its name in its descriptor; "" = its address */
	const char *bind;
	uint64_t fixed_port, idle_timeout, unidentified_max;
	int native, classic_off;
	unsigned protocol_errors, notifications, full;
	char notified[64];
	int accepted_fd;
	unsigned char accepted[CW__HELLO_MAX];
	size_t accepted_length;
};

static struct peer *peer_of(struct cw_host *host)
{
	return cw__container(host, struct peer, host);
}

static void host_log(struct cw_host *host, enum cw_log_level level, const char *format, ...)
{
	(void)host;
	(void)level;
	(void)format;
}

static const char *host_setting(struct cw_host *host, const char *key)
{
	return !strcmp(key, "control/bind") ? peer_of(host)->bind : NULL;
}

static uint64_t host_number(struct cw_host *host, const char *key, uint64_t fallback)
{
	struct peer *peer = peer_of(host);

	if (!strcmp(key, "control/idle_timeout") && peer->idle_timeout)
		return peer->idle_timeout;
	if (!strcmp(key, "control/max_unidentified") && peer->unidentified_max)
		return peer->unidentified_max;
	if (!strcmp(key, "control/port") && peer->fixed_port)
		return peer->fixed_port;
	if (!strcmp(key, "control/classic"))
		return !peer->classic_off;
	return fallback;
}

static const unsigned char *host_instance(struct cw_host *host)
{
	return peer_of(host)->instance;
}

static const char *host_name(struct cw_host *host)
{
	return peer_of(host)->name;
}

static struct cw_loop *host_loop(struct cw_host *host)
{
	(void)host;
	return &loop;
}

static int host_io_add(struct cw_loop *at, struct cw_io *io)
{
	struct epoll_event event = { .events = io->events, .data.ptr = io };

	if (++at->adds == at->refused_add)
		return CW_ERR_NO_MEMORY;
	io->loop = at;
	assert_int_equal(epoll_ctl(at->epoll_fd, EPOLL_CTL_ADD, io->fd, &event), 0);
	at->ios++;
	return CW_OK;
}

static int host_io_modify(struct cw_io *io, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = io };

	io->events = events;
	assert_int_equal(epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &event), 0);
	return CW_OK;
}

static void host_io_remove(struct cw_io *io)
{
	assert_int_equal(epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL), 0);
	io->loop->ios--;
	io->loop = NULL;
}

static void host_timer_stop(struct cw_loop *at, struct cw_timer *timer)
{
	size_t slot = timer->heap_slot;

	if (!slot)
		return;
	timer->heap_slot = 0;
	at->timers[slot - 1] = at->timers[--at->timer_count];
	if (slot - 1 < at->timer_count)
		at->timers[slot - 1]->heap_slot = slot;
}

static void host_timer_set(struct cw_loop *in, struct cw_timer *timer, uint64_t at)
{
	host_timer_stop(in, timer);
	assert_true(in->timer_count < sizeof(in->timers) / sizeof(in->timers[0]));
	timer->at = at;
	in->timers[in->timer_count++] = timer;
	timer->heap_slot = in->timer_count;
}

static void host_task_post(struct cw_loop *at, struct cw_task *task)
{
	task->next = NULL;
	if (at->last)
		at->last->next = task;
	else
		at->first = task;
	at->last = task;
}

static void host_protocol_error(struct cw_host *host, const char *who, const char *what)
{
	assert_true(*who && *what);
	peer_of(host)->protocol_errors++;
}

static int host_append(struct cw_blob *blob, const void *data, size_t length)
{
	blob->data = realloc(blob->data, blob->length + length);
	assert_non_null(blob->data);
	memcpy(blob->data + blob->length, data, length);
	blob->length += length;
	return CW_OK;
}

static void host_blob_free(struct cw_blob *blob)
{
	free(blob->data);
	*blob = (struct cw_blob){ 0 };
}

static const struct cw_host_ops host_ops = {
	.abi = CW_PLUGIN_ABI,
	.log = host_log,
	.setting = host_setting,
	.setting_number = host_number,
	.now = cw__now,
	.instance = host_instance,
	.engine_name = host_name,
	.loop_pick = host_loop,
	.io_add = host_io_add,
	.io_modify = host_io_modify,
	.io_remove = host_io_remove,
	.timer_set = host_timer_set,
	.timer_stop = host_timer_stop,
	.task_post = host_task_post,
	.protocol_error = host_protocol_error,
	.blob_append = host_append,
	.blob_free = host_blob_free,
};

/* Runs what is ready; sleeps a millisecond at most. */
static inline void turn(void)
{
	struct epoll_event event;
	struct cw_task *task = loop.first;
	int timeout = 1;

	loop.first = NULL;
	loop.last = NULL;
	while (task) {
		struct cw_task *next = task->next;

		task->run(task);
		task = next;
	}
	/* One event at a time: what one handler frees has no other event fetched. */
	for (int i = 0; i < 256 && epoll_wait(loop.epoll_fd, &event, 1, timeout) == 1; i++) {
		struct cw_io *io = event.data.ptr;

		io->ready(io, event.events);
		timeout = 0;
	}
	for (size_t i = 0; i < loop.timer_count;) {
		struct cw_timer *timer = loop.timers[i];

		if (timer->at > cw__now()) {
			i++;
			continue;
		}
		host_timer_stop(&loop, timer);
		timer->fire(timer);
		i = 0;
	}
}

#define turn_until(condition)                                                                                          \
	do {                                                                                                           \
		uint64_t limit_ = cw__now() + LIMIT;                                                                   \
		while (!(condition)) {                                                                                 \
			if (cw__now() > limit_)                                                                        \
				fail_msg("%s did not come true", #condition);                                          \
			turn();                                                                                        \
		}                                                                                                      \
	} while (0)

/* -------------------------------------------------------------------------------------------- the core */

struct segment { /* what a link reports */
	unsigned ups, downs, gone;
	int status, classic, answered;
	char text[240];
	uint64_t gone_id;
	struct cw__link *link;
	int close_when_answered;
	int answer_status;
	size_t answer_length;
	unsigned char answer[256];
};

char *cw__core_descriptor(struct cw_host *host, int with_buffers, size_t *length_out)
{
	struct peer *peer = peer_of(host);
	struct cw__descriptor descriptor = { .protocol = "tcp", .tcp_proto_version = 2, .native = peer->native };

	(void)with_buffers;
	descriptor.native_version = CW__NATIVE_VERSION;
	memcpy(descriptor.instance, peer->instance, 16);
	snprintf(descriptor.name, sizeof(descriptor.name), "127.0.0.1:%u", peer->port);
	if (*peer->called)
		snprintf(descriptor.name, sizeof(descriptor.name), "%s", peer->called);
	snprintf(descriptor.addresses[0], sizeof(descriptor.addresses[0]), "127.0.0.1:%u", peer->port);
	descriptor.address_count = 1;
	return cw__descriptor_encode(&descriptor, "2026-01-01 00:00:00.000000", length_out);
}

void cw__core_welcome(struct cw_host *host, struct cw__welcome *welcome)
{
	memcpy(welcome->instance, peer_of(host)->instance, 16);
	welcome->pid = 7;
	welcome->name = (struct cw__text){ "engine", 6 };
}

int cw__core_resolve(struct cw_host *host, const struct cw__resolve *resolve, struct cw_blob *out)
{
	if (resolve->address != 4096)
		return CW_ERR_NOT_REGISTERED;
	return host->ops->blob_append(out, "record", 6);
}

int cw__core_list(struct cw_host *host, uint64_t first, struct cw_blob *out)
{
	static const unsigned char large[512 * 1024];

	/* 99: an answer large enough to fill every buffer on the way. */
	return host->ops->blob_append(out, large, first == 99 ? sizeof(large) : 12);
}

int cw__core_notify(struct cw_host *host, const unsigned char *instance, uint64_t sequence, struct cw__text sender,
		    struct cw__text name, const void *data, size_t length)
{
	struct peer *peer = peer_of(host);

	(void)instance;
	(void)sequence;
	(void)sender;
	if (peer->full)
		return CW_ERR_LIMIT;
	snprintf(peer->notified, sizeof(peer->notified), "%.*s=%.*s", name.length, name.data, (int)length,
		 (const char *)data);
	peer->notifications++;
	return CW_OK;
}

int cw__core_message(struct cw_host *host, const unsigned char *instance, struct cw__text transport, const void *data,
		     size_t length, struct cw_blob *reply)
{
	(void)instance;
	if (transport.length != 4 || memcmp(transport.data, "echo", 4))
		return CW_ERR_NOT_FOUND;
	return host->ops->blob_append(reply, data, length);
}

int cw__core_accept(struct cw_host *host, struct cw_loop *at, struct cw__text transport, int fd, const void *first,
		    size_t length)
{
	struct peer *peer = peer_of(host);

	assert_ptr_equal(at, &loop);
	if (transport.length != 3 || memcmp(transport.data, "tcp", 3))
		return CW_ERR_NOT_FOUND;
	peer->accepted_fd = fd;
	peer->accepted_length = length;
	memcpy(peer->accepted, first, length);
	return CW_OK;
}

int cw__core_cancel(struct cw_host *host, const unsigned char *instance, const void *body, size_t length)
{
	(void)host;
	(void)instance;
	(void)body;
	(void)length;
	return CW_OK;
}

void cw__core_link_up(void *at, const struct cw__link_info *info)
{
	struct segment *segment = at;

	segment->ups++;
	segment->classic = info->classic;
	assert_non_null(info->descriptor);
	assert_string_equal(info->address, "127.0.0.1");
	assert_true(info->port != 0);
	if (!info->classic) {
		assert_non_null(info->welcome);
		assert_memory_equal(info->welcome->name.data, "engine", 6);
		/* The peer's clock is ours here, and the welcome was sent before it was received. */
		assert_true((int64_t)info->clock_offset <= 0);
		assert_true((int64_t)info->clock_offset > -(int64_t)LIMIT);
	}
}

void cw__core_link_down(void *at, int status, const char *text)
{
	struct segment *segment = at;

	segment->downs++;
	segment->status = status;
	snprintf(segment->text, sizeof(segment->text), "%s", text);
	assert_true(*text);
}

void cw__core_region_gone(void *at, uint64_t region_id)
{
	struct segment *segment = at;

	segment->gone++;
	segment->gone_id = region_id;
}

static inline void answered(void *arg, int status, const void *body, size_t length)
{
	struct segment *segment = arg;

	segment->answered++;
	segment->answer_status = status;
	segment->answer_length = length;
	if (length && length <= sizeof(segment->answer))
		memcpy(segment->answer, body, length);
	if (segment->close_when_answered && segment->link) {
		struct cw__link *link = segment->link;

		segment->link = NULL;
		cw__control.link_close(link);
	}
}

/* ---------------------------------------------------------------------------------------- scaffolding */

static struct peer server, client;

static inline unsigned descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static inline void peer_open(struct peer *peer, unsigned char id)
{
	const char *why = "";

	peer->host.ops = &host_ops;
	memset(peer->instance, id, sizeof(peer->instance));
	if (!*peer->name)
		snprintf(peer->name, sizeof(peer->name), "127.0.0.1");
	peer->accepted_fd = -1;
	if (cw__control.open(&peer->host, &peer->control, &peer->port, &why))
		fail_msg("open: %s", why);
	assert_true(peer->port != 0);
	turn();
}

static inline void peer_close(struct peer *peer)
{
	if (peer->control)
		cw__control.close(peer->control);
	peer->control = NULL;
}

static inline int set_up(void **state)
{
	(void)state;
	memset(&loop, 0, sizeof(loop));
	memset(&server, 0, sizeof(server));
	memset(&client, 0, sizeof(client));
	loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	server.native = 1;
	client.native = 1;
	peer_open(&server, 1);
	peer_open(&client, 2);
	return 0;
}

/* Nothing may be left in the loop when everything is closed. */
static inline int tear_down(void **state)
{
	(void)state;
	peer_close(&server);
	peer_close(&client);
	assert_int_equal(loop.ios, 0);
	assert_int_equal(loop.timer_count, 0);
	close(loop.epoll_fd);
	return 0;
}

static inline int dial(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline void put(int fd, const void *data, size_t length)
{
	assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), length);
}

/* Reads until length bytes or the end of the stream; returns how many. The end without bytes is 0. */
static inline size_t get(int fd, void *data, size_t length)
{
	uint64_t limit = cw__now() + LIMIT;
	size_t total = 0;

	while (total < length) {
		ssize_t count = recv(fd, (char *)data + total, length - total, MSG_DONTWAIT);

		if (count == 0 || (count < 0 && errno == ECONNRESET))
			return total;
		if (count > 0)
			total += (size_t)count;
		else if (cw__now() > limit)
			fail_msg("no answer and no end");
		else
			turn();
	}
	return total;
}

/* Sends a classic body and returns the whole answer, length included; 0 = closed without one. */
static inline size_t classic(uint16_t port, const void *body, size_t length, char *answer, size_t size)
{
	uint64_t prefix = length;
	int fd = dial(port);
	size_t count;

	put(fd, &prefix, 8);
	put(fd, body, length);
	memset(answer, 0, size);
	count = get(fd, answer, size - 1);
	close(fd);
	return count;
}

static inline void frame(int fd, uint16_t type, uint64_t sequence, const void *body, size_t length)
{
	struct cw__control_header header = { .type = type, .length = (uint32_t)length, .sequence = sequence };
	unsigned char bytes[CW__CONTROL_HEADER_BYTES + 256];

	cw__control_header_encode(&header, bytes);
	memcpy(bytes + CW__CONTROL_HEADER_BYTES, body, length);
	put(fd, bytes, CW__CONTROL_HEADER_BYTES + length);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
