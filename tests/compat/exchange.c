/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that was written for Mooncake: one half serves memory, the other writes to it, reads it back and says so.
 * Built twice, once with the installed headers and once with declarations of its own; any two of them must understand
 * each other. The target prints "NAME ADDRESS LENGTH" and ends when it was told that all is there.
 *
 *     exchange target|tent-target
 *     exchange initiator|tent-initiator NAME ADDRESS LENGTH
 *
 * Without METADATA_SERVER in the environment names are addresses; with it, LOCAL_NAME is the program's own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "interfaces.h"

#define LENGTH (1u << 20)
#define PIECES 16u
#define SECONDS 30

static void check(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "exchange: %s\n", what);
	exit(1);
}

static unsigned char byte_at(size_t position)
{
	return (unsigned char)(position * 131 + position / 251 + 7);
}

static void fill(unsigned char *memory)
{
	for (size_t i = 0; i < LENGTH; i++)
		memory[i] = byte_at(i);
}

static int is_filled(const unsigned char *memory)
{
	for (size_t i = 0; i < LENGTH; i++)
		if (memory[i] != byte_at(i))
			return 0;
	return 1;
}

static unsigned char *allocate(void)
{
	unsigned char *memory = calloc(1, LENGTH);

	check(memory != NULL, "memory");
	return memory;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static void announce(const char *name, const void *memory)
{
	printf("%s %llu %u\n", name, (unsigned long long)(uintptr_t)memory, LENGTH);
	fflush(stdout);
}

/* -------------------------------------------------------------------------------------------- classic */

static transfer_engine_t classic_open(unsigned char *memory, char name[64])
{
	const char *store = getenv("METADATA_SERVER"), *own = getenv("LOCAL_NAME");
	transfer_engine_t engine =
		createTransferEngine(store ? store : "P2PHANDSHAKE", store ? own : "127.0.0.1", "", 0, 1);

	check(engine != NULL, "createTransferEngine");
	check(discoverTopology(engine) == 0, "discoverTopology");
	check(installTransport(engine, "tcp", NULL) != NULL, "installTransport");
	check(registerLocalMemory(engine, memory, LENGTH, "cpu:0", 1) == 0, "registerLocalMemory");
	check(getLocalIpAndPort(engine, name, 64) == 0, "getLocalIpAndPort");
	check(strncmp(name, "127.0.0.1:", 10) == 0 && atoi(name + 10) > 0, "the address");
	if (store) {
		snprintf(name, 64, "%s", own);
		check(openSegment(engine, own) == LOCAL_SEGMENT, "openSegment of its own name");
	}
	return engine;
}

/* Waits for a message of this name; its text, to be freed. */
static char *classic_message(transfer_engine_t engine, const char *name)
{
	char *text = NULL;
	time_t end = time(NULL) + SECONDS;

	while (!text) {
		int count = -1;
		notify_msg_t *list = getNotifsFromEngine(engine, &count);

		check((list == NULL) == (count == 0), "getNotifsFromEngine");
		for (int i = 0; i < count; i++)
			if (strcmp(list[i].name, name) == 0)
				text = strdup(list[i].msg);
		check(freeNotifsMsgBuf(list, count) == 0, "freeNotifsMsgBuf");
		check(text || time(NULL) < end, "no message came");
		nap();
	}
	return text;
}

static void classic_target(void)
{
	unsigned char *memory = allocate();
	char name[64], *peer;
	transfer_engine_t engine = classic_open(memory, name);
	notify_msg_t seen = { (char *)"seen", (char *)"all of it" };
	segment_id_t segment;

	announce(name, memory);
	peer = classic_message(engine, "done");
	check(is_filled(memory), "other bytes came than were sent");
	segment = openSegment(engine, peer);
	check(segment > 0, "openSegment of the sender");
	check(genNotifyInEngine(engine, (uint64_t)segment, seen) == 0, "genNotifyInEngine");
	free(peer);
	check(unregisterLocalMemory(engine, memory) == 0, "unregisterLocalMemory");
	destroyTransferEngine(engine);
	free(memory);
}

/* Waits for all tasks and frees the batch. */
static void classic_finish(transfer_engine_t engine, batch_id_t batch, size_t count)
{
	for (size_t task = 0; task < count; task++) {
		struct transfer_status status;

		do
			check(getTransferStatus(engine, batch, task, &status) == 0, "getTransferStatus");
		while (status.status == STATUS_WAITING);
		check(status.status == STATUS_COMPLETED, "a transfer failed");
		check(status.transferred_bytes == LENGTH / PIECES, "transferred_bytes");
	}
	check(freeBatchID(engine, batch) == 0, "freeBatchID");
}

static void classic_initiator(const char *peer, uint64_t remote)
{
	unsigned char *memory = allocate(), *back = allocate();
	struct transfer_request requests[PIECES];
	buffer_entry_t more = { back, LENGTH };
	char name[64], *text;
	transfer_engine_t engine = classic_open(memory, name);
	segment_id_t segment = openSegment(engine, peer);
	batch_id_t batch = allocateBatchID(engine, PIECES);
	notify_msg_t done = { (char *)"done", name };
	void *addresses[] = { back };

	fill(memory);
	check(segment > 0 && openSegmentNoCache(engine, peer) == segment, "openSegment");
	check(registerLocalMemoryBatch(engine, &more, 1, "*") == 0, "registerLocalMemoryBatch");
	check(batch != INVALID_BATCH, "allocateBatchID");
	for (size_t i = 0; i < PIECES; i++) {
		size_t at = i * (LENGTH / PIECES);

		requests[i] =
			(struct transfer_request){ OPCODE_WRITE, memory + at, segment, remote + at, LENGTH / PIECES };
	}
	check(submitTransfer(engine, batch, requests, PIECES / 2) == 0, "submitTransfer");
	check(submitTransfer(engine, batch, requests + PIECES / 2, PIECES / 2) == 0, "a second submitTransfer");
	classic_finish(engine, batch, PIECES);
	for (size_t i = 0; i < PIECES; i++) {
		requests[i].opcode = OPCODE_READ;
		requests[i].source = back + i * (LENGTH / PIECES);
	}
	batch = allocateBatchID(engine, PIECES);
	check(submitTransferWithNotify(engine, batch, requests, PIECES, done) == 0, "submitTransferWithNotify");
	classic_finish(engine, batch, PIECES);
	check(is_filled(back), "other bytes came back");
	text = classic_message(engine, "seen");
	check(strcmp(text, "all of it") == 0, "another text came back");
	free(text);
	check(unregisterLocalMemoryBatch(engine, addresses, 1) == 0, "unregisterLocalMemoryBatch");
	check(closeSegment(engine, segment) == 0, "closeSegment");
	destroyTransferEngine(engine);
	free(memory);
	free(back);
}

/* ----------------------------------------------------------------------------------------------- TENT */

static tent_engine_t tent_open(void **memory_out, char name[256])
{
	tent_engine_t engine;

	if (getenv("METADATA_SERVER")) {
		tent_set_config("metadata_servers", getenv("METADATA_SERVER"));
		tent_set_config("local_segment_name", getenv("LOCAL_NAME"));
	} else {
		tent_set_config("local_segment_name", "127.0.0.1");
	}
	engine = tent_create_engine();
	check(engine != NULL && tent_available(engine) == 1, "tent_create_engine");
	check(tent_segment_name(engine, name, 256) == 0, "tent_segment_name");
	check(tent_allocate_memory(engine, memory_out, LENGTH, "cpu:0") == 0, "tent_allocate_memory");
	check(tent_register_memory(engine, *memory_out, LENGTH) == 0, "tent_register_memory");
	return engine;
}

static void tent_message(tent_engine_t engine, const char *name, char text[4096])
{
	time_t end = time(NULL) + SECONDS;
	int found = 0;

	while (!found) {
		struct tent_notifi_info info;

		check(tent_recv_notifs(engine, &info) == 0, "tent_recv_notifs");
		for (int i = 0; i < info.num_records; i++)
			if (strcmp(info.records[i].name, name) == 0) {
				memcpy(text, info.records[i].msg, sizeof(info.records[i].msg));
				found = 1;
			}
		tent_free_notifs(&info);
		check(found || time(NULL) < end, "no message came");
		nap();
	}
}

static void tent_target(void)
{
	char name[256], text[4096];
	uint64_t segment;
	void *memory;
	tent_engine_t engine = tent_open(&memory, name);

	announce(name, memory);
	tent_message(engine, "done", text);
	check(is_filled(memory), "other bytes came than were sent");
	check(tent_open_segment(engine, &segment, text) == 0, "tent_open_segment of the sender");
	check(tent_send_notifs(engine, segment, "seen", "all of it") == 0, "tent_send_notifs");
	check(tent_unregister_memory(engine, memory, LENGTH) == 0, "tent_unregister_memory");
	check(tent_free_memory(engine, memory) == 0, "tent_free_memory");
	tent_destroy_engine(engine);
}

static void tent_finish(tent_engine_t engine, uint64_t batch)
{
	tent_status_t status, all[PIECES];
	size_t count = PIECES;

	do
		check(tent_overall_status(engine, batch, &status) == 0, "tent_overall_status");
	while (status.status == STATUS_PENDING);
	check(status.status == STATUS_COMPLETED && status.transferred_bytes == LENGTH, "a transfer failed");
	check(tent_task_status_list(engine, batch, all, &count) == 0 && count == PIECES, "tent_task_status_list");
	for (size_t i = 0; i < PIECES; i++)
		check(all[i].status == STATUS_COMPLETED, "a task failed");
	check(tent_free_batch(engine, batch) == 0, "tent_free_batch");
}

static void tent_initiator(const char *peer, uint64_t remote)
{
	tent_request_t requests[PIECES];
	tent_segment_info_t info;
	unsigned char *back = allocate();
	char name[256], text[4096];
	uint64_t segment, batch;
	void *memory;
	tent_engine_t engine = tent_open(&memory, name);

	fill(memory);
	check(tent_register_memory_with_perm(engine, back, LENGTH, PERM_LOCAL_READ_WRITE) == 0, "register");
	check(tent_open_segment(engine, &segment, peer) == 0 && segment != LOCAL_SEGMENT_ID, "tent_open_segment");
	check(tent_get_segment_info(engine, segment, &info) == 0, "tent_get_segment_info");
	check(info.type == TYPE_MEMORY && info.num_buffers == 1 && info.buffers[0].base == remote &&
		      info.buffers[0].length == LENGTH,
	      "the segment's buffers");
	tent_free_segment_info(&info);
	memset(requests, 0, sizeof(requests));
	for (size_t i = 0; i < PIECES; i++) {
		size_t at = i * (LENGTH / PIECES);

		requests[i].opcode = OPCODE_WRITE;
		requests[i].source = (unsigned char *)memory + at;
		requests[i].target_id = segment;
		requests[i].target_offset = remote + at;
		requests[i].length = LENGTH / PIECES;
		requests[i].priority = (int)(i % 3);
	}
	batch = tent_allocate_batch(engine, PIECES);
	check(batch != 0, "tent_allocate_batch");
	check(tent_submit(engine, batch, requests, PIECES) == 0, "tent_submit");
	tent_finish(engine, batch);
	for (size_t i = 0; i < PIECES; i++) {
		requests[i].opcode = OPCODE_READ;
		requests[i].source = back + i * (LENGTH / PIECES);
	}
	batch = tent_allocate_batch(engine, PIECES);
	check(tent_submit_notif(engine, batch, requests, PIECES, "done", name) == 0, "tent_submit_notif");
	tent_finish(engine, batch);
	check(is_filled(back), "other bytes came back");
	tent_message(engine, "seen", text);
	check(tent_close_segment(engine, segment) == 0, "tent_close_segment");
	check(tent_unregister_memory(engine, back, 0) == 0, "tent_unregister_memory");
	check(tent_free_memory(engine, memory) == 0, "tent_free_memory");
	tent_destroy_engine(engine);
	free(back);
}

int main(int argc, char **argv)
{
	const char *role = argc > 1 ? argv[1] : "";
	uint64_t remote = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;

	if (strcmp(role, "target") == 0)
		classic_target();
	else if (strcmp(role, "tent-target") == 0)
		tent_target();
	else if (strcmp(role, "initiator") == 0 && remote)
		classic_initiator(argv[2], remote);
	else if (strcmp(role, "tent-initiator") == 0 && remote)
		tent_initiator(argv[2], remote);
	else
		check(0, "target|tent-target, or initiator|tent-initiator NAME ADDRESS LENGTH");
	return 0;
}
