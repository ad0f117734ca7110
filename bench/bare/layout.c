/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes are moved: blocks in random order on both sides, a different one on each, so that neither side's
 * prefetcher or page tables help. Blocks of a batch of several never touch each other. The order is fixed, so a block
 * always goes to the same place, and what arrived can be compared with what should have.
 */
#include "bare.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE (2u << 20)

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* The distance of places for blocks: a gap of a block between those that must not touch. */
static size_t spacing(const struct bare_options *options)
{
	return options->pages > 1 ? 2 * options->size : options->size;
}

static uint32_t *shuffled(size_t count, uint64_t seed)
{
	uint32_t *order = malloc(count * sizeof(*order));

	if (!order)
		bare_fail("malloc");
	for (size_t i = 0; i < count; i++)
		order[i] = (uint32_t)i;
	for (size_t i = count; i > 1; i--) {
		size_t other = mix(seed + i) % i;
		uint32_t kept = order[i - 1];

		order[i - 1] = order[other];
		order[other] = kept;
	}
	return order;
}

/* One batch of single blocks is cut into equal parts, one of several blocks is dealt out. */
static void lay_out(struct bare_layout *layout, const struct bare_options *options, size_t channels,
		    const uint32_t *order)
{
	size_t lanes = options->lanes, at = 0;

	for (size_t channel = 0; channel < channels; channel++)
		for (size_t batch = 0; batch < layout->batches; batch++, at += options->pages)
			for (size_t lane = 0; lane < lanes; lane++) {
				struct iovec *part =
					layout_ring(layout, options, channel, lane) + batch * layout->per_part;
				size_t first = options->size / 64 * lane / lanes * 64;
				size_t last = options->size / 64 * (lane + 1) / lanes * 64;

				if (lane + 1 == lanes)
					last = options->size;
				if (options->pages == 1) {
					part->iov_base = layout->memory + order[at] * spacing(options) + first;
					part->iov_len = last - first;
					continue;
				}
				for (size_t i = 0; i < layout->per_part; i++)
					part[i] = (struct iovec){ layout->memory +
									  order[at + lane * layout->per_part + i] *
										  spacing(options),
								  options->size };
			}
}

static void map(struct bare_layout *layout, const struct bare_options *options, size_t length, int shared)
{
	if (layout->memory && layout->length == length && layout->shared == shared)
		return;
	if (layout->memory)
		munmap(layout->memory, layout->length);
	*layout = (struct bare_layout){ .length = length, .shared = shared };
	layout->memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
			      MAP_ANONYMOUS | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	if (layout->memory == MAP_FAILED)
		bare_fail("mmap");
	(void)madvise(layout->memory, length, options->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void layout_provide(struct bare_layout *layout, const struct bare_options *options, size_t channels, uint64_t seed,
		    int shared)
{
	size_t batch = spacing(options) * options->pages, places;
	size_t length = options->buffer > batch * channels ? options->buffer : batch * channels;
	uint32_t *order;

	free(layout->pieces);
	layout->pieces = NULL;
	map(layout, options, (length + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1), shared);
	layout->batches = options->buffer / batch / channels;
	if (!layout->batches)
		layout->batches = 1;
	layout->per_part = options->pages > 1 ? options->pages / options->lanes : 1;
	places = options->buffer / spacing(options);
	if (places < layout->batches * channels * options->pages)
		places = layout->batches * channels * options->pages;
	layout->pieces = malloc(channels * options->lanes * layout->batches * layout->per_part * sizeof(struct iovec));
	if (!layout->pieces)
		bare_fail("malloc");
	order = shuffled(places, seed);
	lay_out(layout, options, channels, order);
	free(order);
}

struct iovec *layout_ring(const struct bare_layout *layout, const struct bare_options *options, size_t channel,
			  size_t lane)
{
	return layout->pieces + (channel * options->lanes + lane) * layout->batches * layout->per_part;
}

static unsigned char expected(size_t offset)
{
	return (unsigned char)(mix(offset) | 1);
}

void layout_fill(struct bare_layout *layout, int source, int verify)
{
	if (layout->touched && !verify)
		return;
	memset(layout->memory, source, layout->length);
	layout->touched = 1;
	for (size_t i = 0; source && verify && i < layout->length; i++)
		layout->memory[i] = expected(i);
}

static int piece_arrived(unsigned char *to, size_t offset, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (to[i] != expected(offset + i))
			return 0;
	memset(to, 0, length);
	return 1;
}

int layout_arrived(struct bare_layout *to, const struct bare_layout *from, const struct bare_options *options,
		   const _Atomic uint64_t *completed, size_t channels)
{
	for (size_t channel = 0; channel < channels; channel++)
		for (size_t lane = 0; lane < options->lanes; lane++) {
			struct iovec *there = layout_ring(to, options, channel, lane);
			struct iovec *here = layout_ring(from, options, channel, lane);
			uint64_t batches = atomic_load(&completed[channel]);

			if (batches > to->batches)
				batches = to->batches;
			for (size_t i = 0; i < batches * to->per_part; i++)
				if (!piece_arrived(there[i].iov_base,
						   (size_t)((unsigned char *)here[i].iov_base - from->memory),
						   here[i].iov_len))
					return 0;
		}
	for (size_t i = 0; i < to->length; i++)
		if (to->memory[i])
			return 0;
	return 1;
}
