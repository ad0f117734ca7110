/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TensorRT-LLM's transfer agent, as its calls are described: peer-to-peer mode, an address of at most 64 bytes, memory
 * counted by the agent itself, a batch of 1024 for each submission that is freed only after success, a busy loop in
 * which FAILED and nothing else is a failure, and messages in base64 because they are C strings.
 *
 *     tensorrt receiver HOST
 *     tensorrt sender HOST PEER ADDRESS
 *
 * The receiver prints its address and that of its memory, then each message that came, decoded. The sender does a
 * round for each empty line of its input and prints "ok", or "failed SECONDS" and what became of a message alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "interfaces.h"

#define BLOCKS 64u
#define BLOCK 65536u
#define LENGTH (BLOCKS * BLOCK)
#define BATCH 1024u
#define ADDRESS_MAX 64u
#define REGIONS_MAX 8

struct agent {
	transfer_engine_t engine;
	char address[ADDRESS_MAX];
	struct {
		void *memory;
		int references;
	} regions[REGIONS_MAX];
};

static void demand(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "tensorrt: %s\n", what);
	exit(1);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* --------------------------------------------------------------------------------------------- base64 */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode(const unsigned char *data, size_t length, char *text)
{
	for (size_t at = 0; at < length; at += 3) {
		size_t left = length - at;
		unsigned bits = (unsigned)data[at] << 16;

		bits |= left > 1 ? (unsigned)data[at + 1] << 8 : 0;
		bits |= left > 2 ? (unsigned)data[at + 2] : 0;
		for (int i = 0; i < 4; i++)
			*text++ = (size_t)i <= left ? digits[bits >> (18 - 6 * i) & 63] : '=';
	}
	*text = '\0';
}

static size_t decode(const char *text, unsigned char *data)
{
	size_t length = 0;
	unsigned bits = 0, count = 0;

	for (; *text && *text != '='; text++) {
		const char *digit = strchr(digits, *text);

		demand(digit != NULL, "a message is not base64");
		bits = bits << 6 | (unsigned)(digit - digits);
		count += 6;
		if (count >= 8) {
			count -= 8;
			data[length++] = (unsigned char)(bits >> count);
		}
	}
	return length;
}

/* ---------------------------------------------------------------------------------------------- agent */

static void agent_open(struct agent *agent, const char *host)
{
	memset(agent, 0, sizeof(*agent));
	agent->engine = createTransferEngine("P2PHANDSHAKE", host, "", 0, 1);
	demand(agent->engine != NULL, "createTransferEngine");
	demand(getLocalIpAndPort(agent->engine, agent->address, ADDRESS_MAX) == 0, "getLocalIpAndPort");
}

static void agent_register(struct agent *agent, void *memory, size_t length)
{
	int free_row = -1;

	for (int i = 0; i < REGIONS_MAX; i++) {
		if (agent->regions[i].references && agent->regions[i].memory == memory) {
			agent->regions[i].references++;
			return;
		}
		if (!agent->regions[i].references)
			free_row = i;
	}
	demand(free_row >= 0, "too many regions");
	demand(registerLocalMemory(agent->engine, memory, length, "*", 1) == 0, "registerLocalMemory");
	agent->regions[free_row].memory = memory;
	agent->regions[free_row].references = 1;
}

static void agent_unregister(struct agent *agent, void *memory)
{
	for (int i = 0; i < REGIONS_MAX; i++)
		if (agent->regions[i].memory == memory && agent->regions[i].references &&
		    --agent->regions[i].references == 0)
			demand(unregisterLocalMemory(agent->engine, memory) == 0, "unregisterLocalMemory");
}

/* One submission with a message, waited for. 0, or -1 when it failed: the batch is then not freed. */
static int agent_send(struct agent *agent, segment_id_t segment, unsigned char *memory, uint64_t remote, char *message)
{
	static struct transfer_request requests[BLOCKS];
	batch_id_t batch = allocateBatchID(agent->engine, BATCH);
	notify_msg_t notify = { agent->address, message };

	demand(batch != INVALID_BATCH, "allocateBatchID");
	for (size_t i = 0; i < BLOCKS; i++)
		requests[i] = (struct transfer_request){ OPCODE_WRITE, memory + i * BLOCK, segment, remote + i * BLOCK,
							 BLOCK };
	if (submitTransferWithNotify(agent->engine, batch, requests, BLOCKS, notify) != 0)
		return -1;
	for (size_t task = 0; task < BLOCKS; task++) {
		struct transfer_status status;

		do {
			if (getTransferStatus(agent->engine, batch, task, &status) != 0 ||
			    status.status == STATUS_FAILED)
				return -1;
		} while (status.status == STATUS_WAITING || status.status == STATUS_PENDING);
		/* Whatever else it is counts as success there. */
		demand(status.status == STATUS_COMPLETED, "an end that this agent takes for success");
	}
	demand(freeBatchID(agent->engine, batch) == 0, "freeBatchID");
	return 0;
}

/* ---------------------------------------------------------------------------------------------- roles */

static unsigned char byte_of(unsigned round, size_t position)
{
	return (unsigned char)(round * 17 + position / 4096);
}

static void sender(const char *host, const char *peer, uint64_t remote)
{
	unsigned char *memory = malloc(LENGTH), plain[12];
	struct agent agent;
	segment_id_t segment;
	char message[64];

	demand(memory != NULL, "memory");
	agent_open(&agent, host);
	agent_register(&agent, memory, LENGTH);
	agent_register(&agent, memory, LENGTH);
	segment = openSegment(agent.engine, peer);
	demand(segment >= 0, "openSegment");
	for (unsigned round = 0; getchar() == '\n'; round++) {
		double begin = seconds();

		for (size_t i = 0; i < LENGTH; i++)
			memory[i] = byte_of(round, i);
		/* With NUL bytes inside: what base64 is for. */
		memcpy(plain, "round\0\0\0", 8);
		memcpy(plain + 8, &round, sizeof(round));
		encode(plain, sizeof(plain), message);
		if (agent_send(&agent, segment, memory, remote, message) == 0) {
			printf("ok\n");
		} else {
			notify_msg_t after = { agent.address, message };

			printf("failed %.3f\n", seconds() - begin);
			printf("%s\n",
			       genNotifyInEngine(agent.engine, (uint64_t)segment, after) < 0 ? "refused" : "sent");
		}
		fflush(stdout);
	}
	agent_unregister(&agent, memory);
	demand(agent.regions[REGIONS_MAX - 1].references == 1, "the agent's own count");
	agent_unregister(&agent, memory);
	destroyTransferEngine(agent.engine);
	free(memory);
}

static void receiver(const char *host)
{
	unsigned char *memory = calloc(1, LENGTH), plain[64];
	struct agent agent;
	unsigned round;

	demand(memory != NULL, "memory");
	agent_open(&agent, host);
	agent_register(&agent, memory, LENGTH);
	printf("%s %llu\n", agent.address, (unsigned long long)(uintptr_t)memory);
	fflush(stdout);
	for (;;) {
		int count;
		notify_msg_t *list = getNotifsFromEngine(agent.engine, &count);

		for (int i = 0; i < count; i++) {
			int whole = decode(list[i].msg, plain) == 12;

			memcpy(&round, plain + 8, sizeof(round));
			for (size_t at = 0; at < LENGTH; at++)
				whole &= memory[at] == byte_of(round, at);
			printf("%s %u %s\n", list[i].name, round, whole ? "whole" : "torn");
			fflush(stdout);
		}
		freeNotifsMsgBuf(list, count);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "receiver") == 0)
		receiver(argv[2]);
	demand(argc == 5 && strcmp(argv[1], "sender") == 0, "receiver HOST, or sender HOST PEER ADDRESS");
	sender(argv[2], argv[3], strtoull(argv[4], NULL, 10));
	return 0;
}
