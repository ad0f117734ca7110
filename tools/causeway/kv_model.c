/* SPDX-License-Identifier: Apache-2.0 */
/* See kv_model.h. */
#include "kv_model.h"

#include <stddef.h>

#include "lib/pattern.h"

#define BLOCKS_WANTED 8192u

struct kv_geometry kv_preset(int model)
{
	static const struct kv_geometry presets[] = {
		{ .layers = 32,
		  .kv_heads = 8,
		  .head_size = 128,
		  .element_bytes = 2,
		  .tokens_per_block = KV_TRACE_TOKENS },
		{ .layers = 80,
		  .kv_heads = 8,
		  .head_size = 128,
		  .element_bytes = 2,
		  .tokens_per_block = KV_TRACE_TOKENS },
	};

	return presets[model];
}

uint32_t kv_tokens_for(const struct kv_geometry *geometry, uint64_t memory)
{
	struct kv_geometry reduced = *geometry;

	while (reduced.tokens_per_block > 1 && memory / kv_block_bytes(&reduced) < BLOCKS_WANTED)
		reduced.tokens_per_block /= 2;
	return reduced.tokens_per_block;
}

const char *kv_geometry_check(const struct kv_geometry *geometry)
{
	if (geometry->layers == 0 || geometry->layers > 1024 || geometry->kv_heads == 0 || geometry->kv_heads > 1024 ||
	    geometry->head_size == 0 || geometry->head_size > 4096 || geometry->element_bytes == 0 ||
	    geometry->element_bytes > 8 || geometry->tokens_per_block == 0 ||
	    geometry->tokens_per_block > KV_TRACE_TOKENS)
		return "layers, heads, head size or tokens per block are out of range";
	if (kv_planes(geometry) < KV_BLOCK_PAGES_MIN)
		return "a block has fewer than 64 pages";
	if (kv_block_bytes(geometry) < KV_BLOCK_BYTES_MIN)
		return "a block has less than 32 KiB";
	return NULL;
}

static uint64_t row_key(uint64_t page_key, uint32_t token, uint32_t head)
{
	return pattern_mix(page_key + ((uint64_t)token << 32 | head));
}

static uint64_t page_key(uint64_t hash, uint32_t plane)
{
	return pattern_mix(pattern_mix(hash) + plane);
}

void kv_page_fill(void *page, const struct kv_geometry *geometry, uint64_t hash, uint32_t plane)
{
	size_t row_bytes = (size_t)geometry->head_size * geometry->element_bytes;
	uint64_t key = page_key(hash, plane);
	unsigned char *row = page;

	for (uint32_t token = 0; token < geometry->tokens_per_block; token++)
		for (uint32_t head = 0; head < geometry->kv_heads; head++, row += row_bytes)
			pattern_fill(row, row_bytes, row_key(key, token, head));
}

int kv_page_matches(const void *page, const struct kv_geometry *geometry, uint64_t hash, uint32_t plane)
{
	size_t row_bytes = (size_t)geometry->head_size * geometry->element_bytes;
	uint64_t key = page_key(hash, plane);
	const unsigned char *row = page;

	for (uint32_t token = 0; token < geometry->tokens_per_block; token++)
		for (uint32_t head = 0; head < geometry->kv_heads; head++, row += row_bytes)
			if (!pattern_matches(row, row_bytes, row_key(key, token, head)))
				return 0;
	return 1;
}
