/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes synthetic traces, see trace.h. Requests arrive at random with a mean distance. Half of them carry on one of
 * the recent conversations: they repeat its blocks and add some. The others begin with one of a few prompts that many
 * share.
 */
#include <math.h>
#include <stdlib.h>

#include "lib/pattern.h"
#include "trace.h"

#define ARRIVAL_MS 250.0
#define PROMPTS 8u
#define CONVERSATIONS 64u
#define BLOCKS_MAX 256u
#define NEW_BLOCKS 16.0 /* mean, for a first request */
#define MORE_BLOCKS 4.0 /* mean, for a later one */
#define OUTPUT_TOKENS 180.0

struct conversation {
	uint64_t hashes[BLOCKS_MAX];
	size_t count;
};

struct generator {
	uint64_t random, next_hash;
	struct conversation prompts[PROMPTS], conversations[CONVERSATIONS];
	size_t live;
};

static uint64_t random_next(struct generator *generator)
{
	generator->random += 0x9e3779b97f4a7c15ull;
	return pattern_mix(generator->random);
}

static double random_fraction(struct generator *generator)
{
	return (double)(random_next(generator) >> 11) / 9007199254740992.0;
}

/* Exponential with this mean. */
static double random_around(struct generator *generator, double mean)
{
	return -mean * log(1.0 - random_fraction(generator));
}

static void add_blocks(struct generator *generator, struct conversation *conversation, double mean)
{
	size_t count = 1 + (size_t)random_around(generator, mean);

	while (count-- && conversation->count < BLOCKS_MAX)
		conversation->hashes[conversation->count++] = generator->next_hash++;
}

static struct conversation *choose(struct generator *generator)
{
	uint64_t pick = random_next(generator);
	struct conversation *conversation;

	if (generator->live && pick & 1) {
		conversation = &generator->conversations[(pick >> 1) % generator->live];
		if (conversation->count < BLOCKS_MAX) {
			add_blocks(generator, conversation, MORE_BLOCKS);
			return conversation;
		}
	} else if (generator->live < CONVERSATIONS) {
		conversation = &generator->conversations[generator->live++];
	} else {
		conversation = &generator->conversations[(pick >> 1) % CONVERSATIONS];
	}
	*conversation = generator->prompts[(pick >> 32) % PROMPTS];
	add_blocks(generator, conversation, NEW_BLOCKS);
	return conversation;
}

static void write_request(FILE *out, double timestamp, size_t input, size_t output, const struct conversation *blocks)
{
	fprintf(out, "{\"timestamp\": %.0f, \"input_length\": %zu, \"output_length\": %zu, \"hash_ids\": [", timestamp,
		input, output);
	for (size_t i = 0; i < blocks->count; i++)
		fprintf(out, "%s%llu", i ? ", " : "", (unsigned long long)blocks->hashes[i]);
	fprintf(out, "]}\n");
}

int trace_generate(FILE *out, uint64_t requests, uint64_t seed)
{
	struct generator *generator = calloc(1, sizeof(*generator));
	double timestamp = 0;

	if (!generator)
		return -1;
	generator->random = pattern_mix(seed);
	for (size_t i = 0; i < PROMPTS; i++)
		add_blocks(generator, &generator->prompts[i], MORE_BLOCKS);
	while (requests--) {
		const struct conversation *conversation = choose(generator);
		size_t last_block = 1 + (size_t)(random_next(generator) % 512);
		size_t output = 1 + (size_t)random_around(generator, OUTPUT_TOKENS);

		write_request(out, timestamp, (conversation->count - 1) * 512 + last_block, output, conversation);
		timestamp += random_around(generator, ARRIVAL_MS);
	}
	free(generator);
	return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
