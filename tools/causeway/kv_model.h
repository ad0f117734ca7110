/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a model's paged KV cache looks like, and what stands in it. A block is some tokens; in each layer it has a page
 * for K and one for V. A page is [token][head][element]. The cache is an array of pages for each of these 2 * layers
 * planes, so a block is one slot in all planes and its pages lie far apart. In place of values of a model there are
 * numbers that follow from (hash, plane, token, head, position), so a receiver can check every page by itself.
 */
#ifndef CAUSEWAY_KV_MODEL_H
#define CAUSEWAY_KV_MODEL_H

#include <stdint.h>

#define KV_MODELS "llama-8b|llama-70b"
#define KV_BLOCK_BYTES_MIN 32768u
#define KV_BLOCK_PAGES_MIN 64u
#define KV_TRACE_TOKENS 512u /* a block of the trace format */

struct kv_geometry {
	uint32_t layers, kv_heads, head_size, element_bytes, tokens_per_block, reserved;
};

/* The preset at this position of KV_MODELS, with KV_TRACE_TOKENS a block. */
struct kv_geometry kv_preset(int model);

/* Halves the tokens of a block until memory holds enough blocks for a cache to be worth the name, down to one token. */
uint32_t kv_tokens_for(const struct kv_geometry *geometry, uint64_t memory);

static inline uint32_t kv_planes(const struct kv_geometry *geometry)
{
	return geometry->layers * 2;
}

static inline uint64_t kv_page_bytes(const struct kv_geometry *geometry)
{
	return (uint64_t)geometry->tokens_per_block * geometry->kv_heads * geometry->head_size *
	       geometry->element_bytes;
}

static inline uint64_t kv_block_bytes(const struct kv_geometry *geometry)
{
	return kv_page_bytes(geometry) * kv_planes(geometry);
}

/* NULL, or what is wrong with it: also for geometries that come from a peer. */
const char *kv_geometry_check(const struct kv_geometry *geometry);

/* Writes the page of a block in one plane. */
void kv_page_fill(void *page, const struct kv_geometry *geometry, uint64_t hash, uint32_t plane);

/* 1 when the page is the one that kv_page_fill() writes. */
int kv_page_matches(const void *page, const struct kv_geometry *geometry, uint64_t hash, uint32_t plane);

#endif
