/* SPDX-License-Identifier: Apache-2.0 */
/* TENT's interface: configuration, rights, single tasks that are canceled or time out, hints, records. */
#include <arpa/inet.h>
#include <dirent.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <tent/transfer_engine.h>
#include <transfer_engine_c.h>

#define LENGTH (1u << 20)
#define SECONDS 30

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct pair {
	tent_engine_t near, far;
	char near_name[256], far_name[256];
	unsigned char *local, *remote; /* allocated by the engines */
	uint64_t segment;
};

static tent_engine_t open_engine(char name[256], unsigned char **memory_out)
{
	tent_engine_t engine;
	void *memory;

	tent_set_config("local_segment_name", "127.0.0.1");
	engine = tent_create_engine();
	assert_non_null(engine);
	assert_int_equal(tent_segment_name(engine, name, 256), 0);
	assert_int_equal(tent_allocate_memory(engine, &memory, LENGTH, "cpu:0"), 0);
	*memory_out = memory;
	return engine;
}

static int pair_open(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	assert_non_null(pair);
	pair->near = open_engine(pair->near_name, &pair->local);
	pair->far = open_engine(pair->far_name, &pair->remote);
	assert_int_equal(tent_open_segment(pair->near, &pair->segment, pair->far_name), 0);
	*state = pair;
	return 0;
}

static int pair_close(void **state)
{
	struct pair *pair = *state;

	tent_destroy_engine(pair->near);
	tent_destroy_engine(pair->far);
	free(pair);
	return 0;
}

static tent_request_t request_of(const struct pair *pair, int opcode, const void *remote, size_t length)
{
	return (tent_request_t){ .opcode = opcode,
				 .source = pair->local,
				 .target_id = pair->segment,
				 .target_offset = (uint64_t)(uintptr_t)remote,
				 .length = length };
}

static tent_status_t wait_task(tent_engine_t engine, uint64_t batch, size_t task)
{
	double end = now() + SECONDS;
	tent_status_t status;

	do {
		assert_int_equal(tent_task_status(engine, batch, task, &status), 0);
		assert_true(now() < end);
	} while (status.status == STATUS_PENDING);
	return status;
}

/* One request in a batch of its own; how it ended. */
static int transfer(const struct pair *pair, tent_request_t request)
{
	uint64_t batch = tent_allocate_batch(pair->near, 1);
	int status;

	assert_int_equal(tent_submit(pair->near, batch, &request, 1), 0);
	status = wait_task(pair->near, batch, 0).status;
	assert_int_equal(tent_free_batch(pair->near, batch), 0);
	return status;
}

/* -------------------------------------------------------------------------------------- configuration */

static uint16_t free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void write_config(char *path, const char *text)
{
	int fd;

	strcpy(path, "/tmp/tent_test_XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* What the engine does shows that the file was read: it listens where the file says. */
static void configuration(void **state)
{
	char path[32], text[300], host[64];
	uint16_t wanted = free_port(), port;
	tent_engine_t engine;

	(void)state;
	snprintf(text, sizeof(text), "\n {\"local_segment_name\": \"no.such.name.invalid\", \"rpc_server_port\": %u}",
		 wanted);
	write_config(path, text);
	tent_load_config_from_file(path);
	unlink(path);
	tent_set_config("local_segment_name", "127.0.0.1"); /* overrides the file */
	engine = tent_create_engine();
	assert_non_null(engine);
	assert_int_equal(tent_rpc_server_addr_port(engine, host, sizeof(host), &port), 0);
	assert_string_equal(host, "127.0.0.1");
	assert_int_equal(port, wanted);
	assert_int_equal(tent_rpc_server_addr_port(engine, host, 9, &port), -1);
	assert_int_equal(tent_segment_name(engine, host, 9), -1);
	tent_destroy_engine(engine);

	tent_set_config("transports/tpc/enable", "true"); /* nobody knows it */
	assert_null(tent_create_engine());
	tent_set_config("transports/tpc/enable", NULL);
	tent_set_config(NULL, "x");
	tent_set_config("rpc_server_port", "many");
	assert_null(tent_create_engine());
	tent_set_config("rpc_server_port", "0");
	engine = tent_create_engine();
	assert_non_null(engine);
	tent_destroy_engine(engine);

	tent_load_config_from_file("/nonexistent/transfer-engine.json");
	assert_null(tent_create_engine());
	tent_load_config_from_file("/dev/zero");
	assert_null(tent_create_engine());
	tent_load_config_from_file(NULL);
	assert_null(tent_create_engine());
	write_config(path, "[1]");
	tent_load_config_from_file(path);
	assert_null(tent_create_engine());
	unlink(path);
	write_config(path, "{}");
	tent_load_config_from_file(path);
	unlink(path);
	engine = tent_create_engine();
	assert_non_null(engine);
	tent_destroy_engine(engine);
}

/* --------------------------------------------------------------------------------------------- memory */

static void rights(void **state)
{
	struct pair *pair = *state;
	static const struct {
		int permission, read, written;
	} rows[] = {
		{ PERM_LOCAL_READ_WRITE, STATUS_FAILED, STATUS_FAILED },
		{ PERM_GLOBAL_READ_ONLY, STATUS_COMPLETED, STATUS_FAILED },
		{ PERM_GLOBAL_READ_WRITE, STATUS_COMPLETED, STATUS_COMPLETED },
	};
	unsigned char *memory = calloc(3, 4096);
	tent_segment_info_t info;

	assert_non_null(memory);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(tent_register_memory_with_perm(pair->far, memory + i * 4096, 4096, rows[i].permission),
				 0);
	for (size_t i = 0; i < 3; i++) {
		void *remote = memory + i * 4096;

		assert_int_equal(transfer(pair, request_of(pair, OPCODE_READ, remote, 64)), rows[i].read);
		assert_int_equal(transfer(pair, request_of(pair, OPCODE_WRITE, remote, 64)), rows[i].written);
	}
	assert_int_equal(tent_get_segment_info(pair->near, pair->segment, &info), 0);
	assert_int_equal(info.type, TYPE_MEMORY);
	assert_int_equal(info.num_buffers, 3); /* and the one that the engine allocated */
	for (int i = 0; i < info.num_buffers; i++) {
		assert_true(info.buffers[i].base != (uint64_t)(uintptr_t)memory);
		assert_memory_equal(info.buffers[i].location, "cpu:", 4);
	}
	tent_free_segment_info(&info);
	tent_free_segment_info(&info);
	tent_free_segment_info(NULL);
	assert_int_equal(tent_get_segment_info(pair->far, LOCAL_SEGMENT_ID, &info), 0);
	assert_int_equal(info.num_buffers, 3);
	tent_free_segment_info(&info);
	assert_int_equal(tent_get_segment_info(pair->near, 4711, &info), -1);
	assert_int_equal(tent_get_segment_info(pair->near, pair->segment, NULL), -1);
	assert_int_equal(tent_register_memory_with_perm(pair->far, memory, 4096, 3), -1);
	assert_int_equal(tent_register_memory_with_perm(pair->far, memory, 4096, -1), -1);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(tent_unregister_memory(pair->far, memory + i * 4096, i ? 4096 : 0), 0);
	free(memory);
}

static void options_of(tent_memory_options_t *options, const char *location, int permission)
{
	memset(options, 0, sizeof(*options));
	memcpy(options->location, location, strnlen(location, sizeof(options->location)));
	options->permission = permission;
}

static void memory(void **state)
{
	struct pair *pair = *state;
	unsigned char *own = calloc(2, 4096);
	tent_memory_options_t options;
	void *addresses[] = { own, own + 4096, own + 4097 }, *allocated = NULL;
	size_t sizes[] = { 4096, 4096, 1 };
	char endless[65];

	memset(endless, 'a', sizeof(endless));
	endless[64] = '\0';
	/* Memory of the engine is registered already, and may be again, as a whole or in parts. */
	assert_int_equal(tent_register_memory(pair->near, pair->local, LENGTH), 0);
	assert_int_equal(tent_register_memory(pair->near, pair->local + 4096, 4096), 0);
	assert_int_equal(tent_register_memory(pair->near, pair->local + LENGTH - 1, 2), -1);
	assert_int_equal(tent_register_memory_with_perm(pair->near, pair->local, 4096, PERM_GLOBAL_READ_ONLY), -1);
	assert_int_equal(tent_unregister_memory(pair->near, pair->local + 4096, 4096), 0);
	assert_int_equal(tent_unregister_memory(pair->near, pair->local, LENGTH), 0);
	assert_int_equal(tent_unregister_memory(pair->near, pair->local, LENGTH), 0);
	assert_int_equal(transfer(pair, request_of(pair, OPCODE_WRITE, pair->remote, LENGTH)), STATUS_COMPLETED);

	options_of(&options, "cpu:0", PERM_GLOBAL_READ_ONLY);
	assert_int_equal(tent_allocate_memory_ex(pair->far, &allocated, 4096, &options), 0);
	assert_int_equal(transfer(pair, request_of(pair, OPCODE_READ, allocated, 64)), STATUS_COMPLETED);
	assert_int_equal(transfer(pair, request_of(pair, OPCODE_WRITE, allocated, 64)), STATUS_FAILED);
	assert_int_equal(tent_register_memory(pair->far, allocated, 4096), 0); /* never more than it was allocated with
										*/
	assert_int_equal(transfer(pair, request_of(pair, OPCODE_WRITE, allocated, 64)), STATUS_FAILED);
	assert_int_equal(tent_free_memory(pair->far, (char *)allocated + 1), -1);
	assert_int_equal(tent_free_memory(pair->far, allocated), 0);
	assert_int_equal(tent_free_memory(pair->far, allocated), -1);
	assert_int_equal(tent_free_memory(pair->far, NULL), -1);
	assert_int_equal(tent_free_memory(pair->far, own), -1);

	options_of(&options, endless, PERM_GLOBAL_READ_WRITE); /* without an end */
	assert_int_equal(tent_register_memory_ex(pair->near, own, 4096, &options), -1);
	assert_int_equal(tent_allocate_memory_ex(pair->near, &allocated, 4096, &options), -1);
	options_of(&options, "*", 17);
	assert_int_equal(tent_register_memory_ex(pair->near, own, 4096, &options), -1);
	assert_int_equal(tent_register_memory_ex(pair->near, own, 4096, NULL), -1);
	options_of(&options, "*", PERM_LOCAL_READ_WRITE);
	assert_int_equal(tent_register_memory_batch_ex(pair->near, addresses, sizes, 3, &options), -1);
	assert_int_equal(tent_unregister_memory(pair->near, own, 4096), -1); /* nothing was kept */
	assert_int_equal(tent_register_memory_batch_ex(pair->near, addresses, sizes, 2, &options), 0);
	assert_int_equal(tent_unregister_memory(pair->near, own, 4095), -1);
	assert_int_equal(tent_unregister_memory_batch(pair->near, addresses, NULL, 2), 0);
	assert_int_equal(tent_register_memory_batch(pair->near, addresses, sizes, 2, PERM_GLOBAL_READ_WRITE), 0);
	assert_int_equal(tent_unregister_memory_batch(pair->near, addresses, sizes, 2), 0);
	assert_int_equal(tent_register_memory_batch(pair->near, NULL, sizes, 2, 0), -1);
	assert_int_equal(tent_register_memory_batch(pair->near, addresses, NULL, 2, 0), -1);
	assert_int_equal(tent_register_memory_batch(pair->near, NULL, NULL, 0, 0), 0);
	assert_int_equal(tent_allocate_memory(pair->near, NULL, 4096, NULL), -1);
	assert_int_equal(tent_allocate_memory(pair->near, &allocated, 0, NULL), -1);
	assert_int_equal(tent_allocate_memory(pair->near, &allocated, 4096, "cuda:7777"), -1);
	free(own);
}

/* -------------------------------------------------------------------------------------------- batches */

static void statuses(void **state)
{
	struct pair *pair = *state;
	tent_request_t requests[4];
	tent_status_t status, list[8];
	uint64_t batch = tent_allocate_batch(pair->near, 4);
	size_t count;

	assert_true(batch != 0);
	assert_int_equal(tent_overall_status(pair->near, batch, &status), 0);
	assert_int_equal(status.status, STATUS_WAITING); /* nothing was submitted */
	for (int i = 0; i < 4; i++) {
		requests[i] = request_of(pair, OPCODE_WRITE, pair->remote, 64u << i);
		requests[i].priority = i % 3;
	}
	requests[2].target_offset = 64; /* nobody's memory */
	assert_int_equal(tent_submit(pair->near, batch, requests, 3), 0);
	assert_int_equal(tent_submit(pair->near, batch, requests, 2), -1);
	assert_int_equal(tent_submit(pair->near, batch, requests + 3, 1), 0);
	for (size_t i = 0; i < 4; i++) {
		status = wait_task(pair->near, batch, i);
		assert_int_equal(status.status, i == 2 ? STATUS_FAILED : STATUS_COMPLETED);
		assert_int_equal(status.transferred_bytes, i == 2 ? 0 : 64u << i);
	}
	assert_int_equal(tent_overall_status(pair->near, batch, &status), 0);
	assert_int_equal(status.status, STATUS_FAILED);
	assert_int_equal(status.transferred_bytes, 64 + 128 + 512);
	count = 8;
	assert_int_equal(tent_task_status_list(pair->near, batch, list, &count), 0);
	assert_int_equal(count, 4);
	assert_int_equal(list[2].status, STATUS_FAILED);
	count = 1;
	list[1].status = 99;
	assert_int_equal(tent_task_status_list(pair->near, batch, list, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(list[1].status, 99);
	assert_int_equal(tent_cancel_task(pair->near, batch, 0), 0); /* it stays as it is */
	assert_int_equal(tent_cancel_task(pair->near, batch, 4), -1);
	assert_int_equal(wait_task(pair->near, batch, 0).status, STATUS_COMPLETED);
	assert_int_equal(tent_task_status(pair->near, batch, 4, &status), -1);
	assert_int_equal(tent_task_status(pair->near, batch, 0, NULL), -1);
	assert_int_equal(tent_task_status_list(pair->near, batch, NULL, &count), -1);
	assert_int_equal(tent_task_status_list(pair->near, batch, list, NULL), -1);
	assert_int_equal(tent_overall_status(pair->near, batch, NULL), -1);
	assert_int_equal(tent_free_batch(pair->far, batch), -1);
	assert_int_equal(tent_free_batch(pair->near, batch), 0);
	assert_int_equal(tent_free_batch(pair->near, batch), -1);
}

static void bad_requests(void **state)
{
	struct pair *pair = *state;
	uint64_t batch = tent_allocate_batch(pair->near, 4);
	tent_request_t good = request_of(pair, OPCODE_WRITE, pair->remote, 64), requests[2];
	tent_status_t status;
	char stranger[64];

	for (int i = 0; i < 10; i++) {
		requests[0] = requests[1] = good;
		switch (i) {
		case 0:
			requests[1].priority = -1;
			break;
		case 1:
			requests[1].priority = 3;
			break;
		case 2:
			requests[1].transport_hint = -1;
			break;
		case 3:
			requests[1].transport_hint = TRANSPORT_MPCOMM + 1;
			break;
		case 4:
			requests[1].opcode = 7;
			break;
		case 5:
			requests[1].target_id = UINT64_MAX;
			break;
		case 6:
			requests[1].target_id = pair->segment + (1ull << 32);
			break;
		case 7:
			requests[1].source = stranger;
			break;
		case 8:
			requests[1].length = UINT64_MAX;
			break;
		default:
			requests[1].length = LENGTH + 1;
			break;
		}
		assert_int_equal(tent_submit(pair->near, batch, requests, 2), -1);
	}
	assert_int_equal(tent_submit(pair->near, batch, NULL, 1), -1);
	assert_int_equal(tent_task_status(pair->near, batch, 0, &status), -1); /* the good ones were not taken either */
	assert_int_equal(tent_free_batch(pair->near, batch), 0);
	assert_int_equal(tent_allocate_batch(pair->near, SIZE_MAX), 0);
}

static int slow_open(void **state)
{
	setenv("CW_TRANSPORTS_FAULT_ENABLE", "on", 1);
	setenv("CW_TRANSPORTS_SHM_ENABLE", "off", 1);
	setenv("CW_TRANSPORTS_TCP_ENABLE", "off", 1);
	setenv("CW_FAULT_STICK", "1000", 1);
	setenv("CW_FAULT_STICK_MS", *state ? *state : "600", 1);
	setenv("MC_TRANSFER_TIMEOUT", "5", 1);
	pair_open(state);
	unsetenv("CW_TRANSPORTS_FAULT_ENABLE");
	unsetenv("CW_TRANSPORTS_SHM_ENABLE");
	unsetenv("CW_TRANSPORTS_TCP_ENABLE");
	unsetenv("CW_FAULT_STICK");
	unsetenv("CW_FAULT_STICK_MS");
	unsetenv("MC_TRANSFER_TIMEOUT");
	return 0;
}

/* Only the task that was named ends; the message that should follow them all is not sent. */
static void cancel(void **state)
{
	struct pair *pair = *state;
	tent_request_t requests[2] = { request_of(pair, OPCODE_WRITE, pair->remote, 4096),
				       request_of(pair, OPCODE_WRITE, pair->remote + 4096, 4096) };
	uint64_t batch = tent_allocate_batch(pair->near, 2);
	tent_notifi_info info;
	tent_status_t status;

	assert_int_equal(tent_submit_notif(pair->near, batch, requests, 2, "never", "sent"), 0);
	assert_int_equal(tent_overall_status(pair->near, batch, &status), 0);
	assert_int_equal(status.status, STATUS_PENDING);
	assert_int_equal(tent_cancel_task(pair->near, batch, 0), 0);
	assert_int_equal(tent_free_batch(pair->near, batch), -1);
	assert_int_equal(wait_task(pair->near, batch, 0).status, STATUS_CANCELED);
	assert_int_equal(wait_task(pair->near, batch, 1).status, STATUS_COMPLETED);
	assert_int_equal(tent_overall_status(pair->near, batch, &status), 0);
	assert_int_equal(status.status, STATUS_CANCELED);
	assert_int_equal(tent_free_batch(pair->near, batch), 0);
	assert_int_equal(tent_recv_notifs(pair->far, &info), 0);
	assert_int_equal(info.num_records, 0);
	assert_null(info.records);
}

/* The deadline is told apart here; the classic interface calls it FAILED. */
static void timeout(void **state)
{
	struct pair *pair = *state;
	tent_request_t request = request_of(pair, OPCODE_WRITE, pair->remote, 4096);
	uint64_t batch = tent_allocate_batch(pair->near, 1);
	double begin = now();

	assert_int_equal(tent_submit(pair->near, batch, &request, 1), 0);
	assert_int_equal(wait_task(pair->near, batch, 0).status, STATUS_TIMEOUT);
	assert_true(now() - begin > 4.9 && now() - begin < 8);
	assert_int_equal(tent_free_batch(pair->near, batch), 0);
}

/* --------------------------------------------------------------------------------- hints and messages */

/* What all sockets of this process have sent so far. */
static uint64_t sent_over_tcp(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	uint64_t sum = 0;

	assert_non_null(folder);
	while ((entry = readdir(folder))) {
		struct tcp_info info = { 0 };
		socklen_t length = sizeof(info);

		if (getsockopt(atoi(entry->d_name), IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
			sum += info.tcpi_bytes_acked;
	}
	closedir(folder);
	return sum;
}

static void hints(void **state)
{
	struct pair *pair = *state;

	for (int hint = TRANSPORT_MPCOMM; hint >= TRANSPORT_UNSPEC; hint--) {
		tent_request_t request = request_of(pair, OPCODE_WRITE, pair->remote, LENGTH);
		uint64_t before = sent_over_tcp(), sent;

		request.transport_hint = hint;
		assert_int_equal(transfer(pair, request), STATUS_COMPLETED);
		sent = sent_over_tcp() - before;
		if (hint == TRANSPORT_TCP)
			assert_true(sent > LENGTH / 2);
		else
			assert_true(sent < LENGTH / 2);
	}
}

static int receive_one(tent_engine_t engine, tent_notifi_info *info)
{
	double end = now() + SECONDS;

	do {
		assert_int_equal(tent_recv_notifs(engine, info), 0);
		assert_true(now() < end);
	} while (!info->num_records);
	return info->num_records;
}

static void records(void **state)
{
	struct pair *pair = *state;
	tent_request_t request = request_of(pair, OPCODE_WRITE, pair->remote, 64);
	uint64_t batch = tent_allocate_batch(pair->near, 1), back;
	char name[257], text[4097], *large = calloc(1, 10001);
	transfer_engine_t classic = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "", 0, 1);
	notify_msg_t message = { (char *)"large", large };
	tent_notifi_info info;
	segment_id_t segment;

	memset(name, 'n', 256);
	name[256] = '\0';
	memset(text, 't', 4096);
	text[4096] = '\0';
	assert_int_equal(tent_send_notifs(pair->near, pair->segment, name, "x"), -1);
	assert_int_equal(tent_send_notifs(pair->near, pair->segment, "x", text), -1);
	assert_int_equal(tent_submit_notif(pair->near, batch, &request, 1, name, "x"), -1);
	assert_int_equal(tent_send_notifs(pair->near, 4711, "x", "x"), -1);
	assert_int_equal(tent_send_notifs(pair->near, pair->segment, name + 1, text + 1), 0);
	assert_int_equal(receive_one(pair->far, &info), 1);
	assert_int_equal(info.records[0].handle, 0); /* who sent it is not open here */
	assert_string_equal(info.records[0].name, name + 1);
	assert_string_equal(info.records[0].msg, text + 1);
	tent_free_notifs(&info);
	tent_free_notifs(&info);
	tent_free_notifs(NULL);
	assert_int_equal(tent_recv_notifs(pair->far, NULL), -1);

	assert_int_equal(tent_open_segment(pair->far, &back, pair->near_name), 0);
	assert_int_equal(tent_submit_notif(pair->near, batch, &request, 1, NULL, NULL), 0);
	assert_int_equal(receive_one(pair->far, &info), 1);
	assert_int_equal(info.records[0].handle, back);
	assert_string_equal(info.records[0].name, "");
	assert_string_equal(info.records[0].msg, "");
	tent_free_notifs(&info);
	assert_int_equal(wait_task(pair->near, batch, 0).status, STATUS_COMPLETED);
	assert_int_equal(tent_free_batch(pair->near, batch), 0);

	/* Longer than a record, from another interface: cut between characters. */
	for (int i = 0; i < 5000; i++)
		memcpy(large + 2 * i, "\xc3\xa4", 2);
	segment = openSegment(classic, pair->far_name);
	assert_true(segment > 0);
	assert_int_equal(genNotifyInEngine(classic, (uint64_t)segment, message), 0);
	assert_int_equal(receive_one(pair->far, &info), 1);
	assert_int_equal(strlen(info.records[0].msg), 4094);
	tent_free_notifs(&info);
	destroyTransferEngine(classic);
	free(large);
}

static void segments(void **state)
{
	struct pair *pair = *state;
	tent_nic_load_stat_t load;
	uint64_t handle = 77;
	size_t rows = 1;

	assert_int_equal(tent_open_segment(pair->near, &handle, pair->near_name), 0);
	assert_int_equal(handle, LOCAL_SEGMENT_ID);
	assert_int_equal(tent_open_segment(pair->near, NULL, pair->far_name), -1);
	assert_int_equal(tent_open_segment(pair->near, &handle, NULL), -1);
	assert_int_equal(tent_open_segment(pair->near, &handle, ""), -1);
	assert_int_equal(tent_open_segment(pair->near, &handle, "127.0.0.1:1"), -1);
	assert_int_equal(tent_open_segment(pair->near, &handle, pair->far_name), 0);
	assert_int_equal(handle, pair->segment);
	assert_int_equal(tent_close_segment(pair->near, handle), 0);
	assert_int_equal(tent_close_segment(pair->near, handle), 0);
	assert_int_equal(tent_close_segment(pair->near, handle), -1);
	assert_int_equal(tent_close_segment(pair->near, UINT64_MAX), -1);
	assert_int_equal(tent_get_nic_load_stats(pair->near, &load, &rows), 0);
	assert_int_equal(rows, 1);
	assert_string_equal(load.device_name, "lo");
	assert_int_equal(tent_get_nic_load_stats(pair->near, NULL, &rows), -1);
	assert_int_equal(tent_get_nic_load_stats(pair->near, &load, NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configuration),
		cmocka_unit_test_setup_teardown(rights, pair_open, pair_close),
		cmocka_unit_test_setup_teardown(memory, pair_open, pair_close),
		cmocka_unit_test_setup_teardown(statuses, pair_open, pair_close),
		cmocka_unit_test_setup_teardown(bad_requests, pair_open, pair_close),
		cmocka_unit_test_setup_teardown(cancel, slow_open, pair_close),
		{ "timeout", timeout, slow_open, pair_close, (void *)"6500" },
		cmocka_unit_test_setup_teardown(hints, pair_open, pair_close),
		cmocka_unit_test_setup_teardown(records, pair_open, pair_close),
		cmocka_unit_test_setup_teardown(segments, pair_open, pair_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
