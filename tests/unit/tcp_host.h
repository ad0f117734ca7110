/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two small hosts for the tcp transport in one thread: each has a loop that runs only when the test says so (a peer
 * that is not run is a stopped process), regions, and a listener that reads hellos. Slices are filled by the test.
 */
#ifndef TCP_HOST_H
#define TCP_HOST_H

#include <arpa/inet.h>
#include <causeway/plugin.h>
#include <netinet/in.h>
#include <setjmp.h> /* cmocka wants it */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <util/clock.h>
#include <util/list.h>
#include <wire/native.h>
/* Needs what is above. */
#include <cmocka.h>

extern const struct cw_transport_ops cw_transport_tcp;

#define REGIONS_MAX 4
#define IOS_MAX 64
#define TIMERS_MAX 64

struct cw_loop {
	int epoll;
	struct cw_io *ios[IOS_MAX];
	struct cw_timer *timers[TIMERS_MAX];
	struct cw_task *tasks, **tasks_end;
};

struct held_region {
	uint64_t id, key, address, length;
	uint32_t access;
	int gone;
};

struct side {
	struct cw_host host; /* first */
	struct cw_loop loop;
	unsigned char instance[16];
	const char *classic_protocol, *connections;
	struct held_region regions[REGIONS_MAX];
	uint64_t served, refused, protocol_errors;
	int end_status; /* of the next access_end() */
	int listener;
	uint16_t port;
	struct cw_io listen_io;
	void *transport;
	struct side *other;
	int hold_messages; /* they are lost */
	unsigned readies;
	int rail_status[8];
	int peer_status;
};

/* What the initiator posts. */
struct test_slice {
	struct cw_slice base; /* first */
	struct cw_piece pieces[CW__DATA_PIECES_MAX];
	unsigned count;
	int done, status;
	enum cw_remote_state remote;
};

struct held_answer {
	struct cw_task task;
	void (*answered)(void *arg, int status, const void *reply, size_t reply_length);
	void *arg;
	int status;
};

/* ------------------------------------------------------------------------------------------------ loop */

static inline int loop_io_add(struct cw_loop *loop, struct cw_io *io)
{
	struct epoll_event event = { .events = io->events, .data.ptr = io };

	for (int i = 0; i < IOS_MAX; i++) {
		if (loop->ios[i])
			continue;
		loop->ios[i] = io;
		io->loop = loop;
		return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, io->fd, &event) ? CW_ERR_IO : CW_OK;
	}
	return CW_ERR_NO_MEMORY;
}

static inline int loop_io_modify(struct cw_io *io, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = io };

	io->events = events;
	return epoll_ctl(io->loop->epoll, EPOLL_CTL_MOD, io->fd, &event) ? CW_ERR_IO : CW_OK;
}

static inline void loop_io_remove(struct cw_io *io)
{
	for (int i = 0; i < IOS_MAX; i++)
		if (io->loop->ios[i] == io)
			io->loop->ios[i] = NULL;
	epoll_ctl(io->loop->epoll, EPOLL_CTL_DEL, io->fd, NULL);
	io->loop = NULL;
}

static inline void loop_timer_stop(struct cw_loop *loop, struct cw_timer *timer)
{
	if (timer->heap_slot)
		loop->timers[timer->heap_slot - 1] = NULL;
	timer->heap_slot = 0;
}

static inline void loop_timer_set(struct cw_loop *loop, struct cw_timer *timer, uint64_t at)
{
	timer->at = at;
	for (size_t i = 0; i < TIMERS_MAX && !timer->heap_slot; i++) {
		if (loop->timers[i])
			continue;
		loop->timers[i] = timer;
		timer->heap_slot = i + 1;
	}
	assert_int_not_equal(timer->heap_slot, 0);
}

static inline void loop_task_post(struct cw_loop *loop, struct cw_task *task)
{
	task->next = NULL;
	*loop->tasks_end = task;
	loop->tasks_end = &task->next;
}

static inline void loop_turn(struct cw_loop *loop, int wait_ms)
{
	struct cw_task *tasks = loop->tasks;
	struct epoll_event event;

	loop->tasks = NULL;
	loop->tasks_end = &loop->tasks;
	while (tasks) {
		struct cw_task *task = tasks;

		tasks = task->next;
		task->run(task);
	}
	/* One at a time, so that an event never outlives its io. */
	if (epoll_wait(loop->epoll, &event, 1, wait_ms) == 1) {
		struct cw_io *io = event.data.ptr;

		io->ready(io, event.events);
	}
	for (int i = 0; i < TIMERS_MAX; i++) {
		struct cw_timer *timer = loop->timers[i];

		if (timer && timer->at <= cw__now()) {
			loop_timer_stop(loop, timer);
			timer->fire(timer);
		}
	}
}

/* -------------------------------------------------------------------------------------------- services */

static inline struct side *side_of(struct cw_host *host)
{
	return (struct side *)host;
}

static inline void __attribute__((format(printf, 3, 4)))
host_log(struct cw_host *host, enum cw_log_level level, const char *format, ...)
{
	(void)host;
	(void)level;
	(void)format;
}

static inline const char *host_setting(struct cw_host *host, const char *key)
{
	(void)host;
	(void)key;
	return NULL;
}

static inline uint64_t host_setting_number(struct cw_host *host, const char *key, uint64_t fallback)
{
	const struct side *side = side_of(host);

	if (strcmp(key, "tcp/classic_protocol") == 0 && side->classic_protocol)
		return (uint64_t)atoi(side->classic_protocol);
	if (strcmp(key, "tcp/connections") == 0)
		return side->connections ? (uint64_t)atoi(side->connections) : 1;
	if (strcmp(key, "tcp/stall_timeout") == 0)
		return 300 * CW__MS;
	return fallback;
}

static inline uint64_t host_now(void)
{
	return cw__now();
}

static inline const unsigned char *host_instance(struct cw_host *host)
{
	return side_of(host)->instance;
}

static inline const char *host_engine_name(struct cw_host *host)
{
	(void)host;
	return "127.0.0.1:1";
}

static inline struct cw_loop *host_loop_pick(struct cw_host *host)
{
	return &side_of(host)->loop;
}

static inline unsigned host_slice_pieces(const struct cw_slice *slice, uint64_t offset, struct cw_piece *out,
					 unsigned max)
{
	const struct test_slice *test = (const struct test_slice *)slice;
	unsigned count = 0;

	assert_false(test->done); /* nobody may look at a slice that has ended */
	for (unsigned i = 0; i < test->count && count < max; i++) {
		struct cw_piece piece = test->pieces[i];

		if (offset >= piece.length) {
			offset -= piece.length;
			continue;
		}
		out[count++] = (struct cw_piece){ piece.local + offset, piece.remote + offset, piece.length - offset };
		offset = 0;
	}
	return count;
}

static inline void host_slice_done(struct cw_slice *slice, int status, enum cw_remote_state remote)
{
	struct test_slice *test = (struct test_slice *)slice;

	assert_false(test->done); /* exactly once */
	test->done = 1;
	test->status = status;
	test->remote = remote;
}

static inline void host_rail_ready(struct cw_host *host, struct cw_peer *peer, unsigned rail)
{
	(void)peer;
	(void)rail;
	side_of(host)->readies++;
}

static inline void host_rail_state(struct cw_host *host, struct cw_peer *peer, unsigned rail, int status)
{
	(void)peer;
	side_of(host)->rail_status[rail] = status;
}

static inline void host_peer_failed(struct cw_host *host, struct cw_peer *peer, int status, const char *text)
{
	(void)peer;
	(void)text;
	side_of(host)->peer_status = status;
}

static inline int host_access_check(struct cw_host *host, const struct cw_claim *claim)
{
	struct side *side = side_of(host);

	for (int i = 0; i < REGIONS_MAX; i++) {
		const struct held_region *region = &side->regions[i];

		if (!region->length || (!claim->classic && region->id != claim->region_id))
			continue;
		if (claim->length == 0 || claim->address < region->address || claim->length > region->length ||
		    claim->address - region->address > region->length - claim->length)
			continue;
		if (region->gone)
			return CW_ERR_STALE_REGION;
		if (!claim->classic && claim->key != region->key)
			break;
		if (!(region->access & (claim->op == CW_OP_WRITE ? CW_ACCESS_REMOTE_WRITE : CW_ACCESS_REMOTE_READ)))
			return CW_ERR_ACCESS;
		return CW_OK;
	}
	side->refused++;
	return CW_ERR_NOT_REGISTERED;
}

static inline int host_access_begin(struct cw_host *host, const struct cw_claim *claim, struct cw_grant *grant_out)
{
	int status = host_access_check(host, claim);

	if (status)
		return status;
	*grant_out = (struct cw_grant){ (unsigned char *)(uintptr_t)claim->address, claim->length, NULL, NULL };
	return CW_OK;
}

static inline int host_access_end(struct cw_host *host, struct cw_grant *grant, uint64_t moved)
{
	struct side *side = side_of(host);
	int status = side->end_status;

	assert_true(moved <= grant->length);
	side->end_status = CW_OK;
	side->served += moved;
	return status;
}

static inline void host_protocol_error(struct cw_host *host, const char *who, const char *what)
{
	(void)who;
	(void)what;
	side_of(host)->protocol_errors++;
}

static inline void run_answer(struct cw_task *task)
{
	struct held_answer *answer = cw__container(task, struct held_answer, task);

	answer->answered(answer->arg, answer->status, NULL, 0);
	free(answer);
}

static inline int host_message(struct cw_host *host, struct cw_peer *peer, const void *data, size_t length,
			       void (*answered)(void *arg, int status, const void *reply, size_t reply_length),
			       void *arg)
{
	struct side *side = side_of(host);
	struct held_answer *answer;
	struct cw_blob reply = { 0 };

	(void)peer;
	if (side->hold_messages)
		return CW_ERR_PEER_DOWN;
	answer = calloc(1, sizeof(*answer));
	answer->task.run = run_answer;
	answer->answered = answered;
	answer->arg = arg;
	answer->status = cw_transport_tcp.message(side->other->transport, side->instance, data, length, &reply);
	loop_task_post(&side->loop, &answer->task);
	return CW_OK;
}

static inline int host_blob_append(struct cw_blob *blob, const void *data, size_t length)
{
	unsigned char *grown = realloc(blob->data, blob->length + length);

	if (!grown)
		return CW_ERR_NO_MEMORY;
	blob->data = grown;
	memcpy(blob->data + blob->length, data, length);
	blob->length += length;
	return CW_OK;
}

static inline void host_blob_free(struct cw_blob *blob)
{
	free(blob->data);
	*blob = (struct cw_blob){ 0 };
}

static const struct cw_host_ops test_host_ops = {
	.abi = CW_PLUGIN_ABI,
	.log = host_log,
	.setting = host_setting,
	.setting_number = host_setting_number,
	.now = host_now,
	.instance = host_instance,
	.engine_name = host_engine_name,
	.loop_pick = host_loop_pick,
	.io_add = loop_io_add,
	.io_modify = loop_io_modify,
	.io_remove = loop_io_remove,
	.timer_set = loop_timer_set,
	.timer_stop = loop_timer_stop,
	.task_post = loop_task_post,
	.slice_pieces = host_slice_pieces,
	.slice_done = host_slice_done,
	.rail_ready = host_rail_ready,
	.rail_state = host_rail_state,
	.peer_failed = host_peer_failed,
	.access_check = host_access_check,
	.access_begin = host_access_begin,
	.access_end = host_access_end,
	.protocol_error = host_protocol_error,
	.message = host_message,
	.blob_append = host_blob_append,
	.blob_free = host_blob_free,
};

/* ---------------------------------------------------------------------------------------------- sides */

struct greeting {
	struct cw_io io;
	struct side *side;
};

/* What control does: the hello is small and comes at once. */
static inline void read_hello(struct cw_io *io, uint32_t events)
{
	struct greeting *greeting = cw__container(io, struct greeting, io);
	struct side *side = greeting->side;
	unsigned char hello[CW__HELLO_MAX];
	ssize_t length = recv(io->fd, hello, sizeof(hello), 0);
	int fd = io->fd;

	(void)events;
	loop_io_remove(io);
	free(greeting);
	if (length <= 0)
		close(fd);
	else
		cw_transport_tcp.accept(side->transport, &side->loop, fd, hello, (size_t)length);
}

static inline void accept_greeting(struct cw_io *io, uint32_t events)
{
	struct greeting *greeting = calloc(1, sizeof(*greeting));

	(void)events;
	greeting->side = cw__container(io, struct side, listen_io);
	greeting->io = (struct cw_io){ .fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC),
				       .events = EPOLLIN,
				       .ready = read_hello };
	assert_true(greeting->io.fd >= 0);
	assert_int_equal(loop_io_add(&greeting->side->loop, &greeting->io), CW_OK);
}

static inline void side_listen(struct side *side)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				       .sin_port = htons(side->port) };
	socklen_t length = sizeof(address);
	int on = 1;

	side->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(side->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(side->listener, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(side->listener, 64), 0);
	assert_int_equal(getsockname(side->listener, (struct sockaddr *)&address, &length), 0);
	side->port = ntohs(address.sin_port);
	side->listen_io = (struct cw_io){ .fd = side->listener, .events = EPOLLIN, .ready = accept_greeting };
	assert_int_equal(loop_io_add(&side->loop, &side->listen_io), CW_OK);
}

static inline void side_deafen(struct side *side)
{
	loop_io_remove(&side->listen_io);
	close(side->listener);
	side->listener = -1;
}

static inline void side_open(struct side *side, unsigned char number)
{
	const char *why = "";

	side->host.ops = &test_host_ops;
	memset(side->instance, number, sizeof(side->instance));
	side->loop.epoll = epoll_create1(EPOLL_CLOEXEC);
	side->loop.tasks_end = &side->loop.tasks;
	assert_int_equal(cw_transport_tcp.open(&side->host, &side->transport, &why), CW_OK);
	side_listen(side);
}

static inline void side_close(struct side *side)
{
	for (int i = 0; i < 4; i++)
		loop_turn(&side->loop, 0);
	cw_transport_tcp.close(side->transport);
	if (side->listener >= 0)
		side_deafen(side);
	close(side->loop.epoll);
}

/* Breaks every connection of a side, as a network would. */
static inline void side_cut(struct side *side)
{
	for (int i = 0; i < IOS_MAX; i++) {
		struct cw_io *io = side->loop.ios[i];
		int listening = 0;
		socklen_t length = sizeof(listening);

		if (!io)
			continue;
		getsockopt(io->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length);
		if (!listening)
			shutdown(io->fd, SHUT_RDWR);
	}
}

#endif
