/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices: the loop's pool of them, which bytes of a request one stands for, and the pins that keep both of its ends as
 * they are. What becomes of a slice is in schedule.c.
 */
#include <core/device.h>
#include <stdlib.h>

#define SLAB 64u
#define IDS 256u /* taken at once */

struct slab {
	struct cw__list node; /* first: cw__loop_close() frees what it pops */
	struct cw__slice slices[SLAB];
};

struct cw__slice *cw__slice_take(struct cw_loop *loop)
{
	struct cw__list *node = cw__list_pop(&loop->free_slices);
	struct slab *slab;

	if (node)
		return cw__container(node, struct cw__slice, node);
	if (loop->slice_count >= loop->engine->max_slices / loop->engine->loop_count)
		return NULL;
	slab = calloc(1, sizeof(*slab));
	if (!slab)
		return NULL;
	cw__list_push_back(&loop->slabs, &slab->node);
	loop->slice_count += SLAB;
	for (unsigned i = 0; i < SLAB; i++)
		cw__list_push_back(&loop->free_slices, &slab->slices[i].node);
	return cw__slice_take(loop);
}

void cw__slice_give(struct cw_loop *loop, struct cw__slice *slice)
{
	cw__list_remove(&slice->node);
	if (!slice->embedded)
		cw__list_push_front(&loop->free_slices, &slice->node);
}

static uint64_t index_at(const struct cw_vec *vec, uint64_t i)
{
	if (vec->index_bits == 32)
		return ((const uint32_t *)vec->indices)[i];
	if (vec->index_bits == 64)
		return ((const uint64_t *)vec->indices)[i];
	return i;
}

/* Where byte `at` of a vector is, and how many bytes follow it there without a break. */
struct place {
	const struct cw_vec *vec;
	uint64_t piece, inside, address;
};

static struct place place_at(const struct cw_vec *vec, uint64_t at)
{
	struct place place = { vec, 0, at, 0 };

	if (vec->count > 1) {
		place.piece = at / vec->page_size;
		place.inside = at % vec->page_size;
	}
	place.address = vec->base + index_at(vec, place.piece) * vec->stride + place.inside;
	return place;
}

static void place_advance(struct place *place, uint64_t length)
{
	place->inside += length;
	place->address += length;
	if (place->inside == place->vec->page_size && place->piece + 1 < place->vec->count) {
		place->piece++;
		place->inside = 0;
		place->address = place->vec->base + index_at(place->vec, place->piece) * place->vec->stride;
	}
}

/* The local side of a slice: a vector of its request from `at` on, or a buffer, which has no breaks. */
static struct place local_place(const struct cw__slice *slice, uint64_t at, struct cw_vec *flat)
{
	if (!slice->landing)
		return place_at(&slice->request->local, slice->offset + at);
	*flat = (struct cw_vec){ .base = slice->landing->view.address, .page_size = slice->base.length, .count = 1 };
	return place_at(flat, at);
}

unsigned cw__slice_walk(const struct cw__slice *slice, uint64_t offset, struct cw_piece *pieces_out, unsigned max)
{
	struct cw_vec flat;
	struct place local = local_place(slice, offset, &flat);
	struct place remote = place_at(&slice->request->remote, slice->offset + offset);
	uint64_t left = slice->base.length - offset;
	unsigned count = 0;

	while (left) {
		uint64_t run = local.vec->page_size - local.inside;
		struct cw_piece *last = count ? &pieces_out[count - 1] : NULL;

		if (remote.vec->page_size - remote.inside < run)
			run = remote.vec->page_size - remote.inside;
		if (left < run)
			run = left;
		if (last && (uint64_t)(uintptr_t)last->local + last->length == local.address &&
		    last->remote + last->length == remote.address) {
			last->length += run;
		} else {
			if (count == max)
				break;
			pieces_out[count++] =
				(struct cw_piece){ (unsigned char *)(uintptr_t)local.address, remote.address, run };
		}
		left -= run;
		place_advance(&local, run);
		place_advance(&remote, run);
	}
	return count;
}

unsigned cw__slice_pieces(const struct cw_slice *base, uint64_t offset, struct cw_piece *pieces_out, unsigned max)
{
	const struct cw__slice *slice = (const struct cw__slice *)base;

	return slice->handed ? cw__staging_pieces(slice, offset, pieces_out, max)
			     : cw__slice_walk(slice, offset, pieces_out, max);
}

uint64_t cw__slice_local_run(const struct cw__slice *slice, uint64_t at, uint64_t *address_out)
{
	struct place place = place_at(&slice->request->local, slice->offset + at);
	uint64_t left = slice->base.length - at, length = 0;

	*address_out = place.address;
	while (left && place.address == *address_out + length) {
		uint64_t run = place.vec->page_size - place.inside;

		if (left < run)
			run = left;
		length += run;
		left -= run;
		place_advance(&place, run);
	}
	return length;
}

/* How long the next slice may be so that it has at most `pieces` pieces. */
uint64_t cw__slice_limit(const struct cw__request *request, uint64_t length, uint32_t pieces)
{
	uint64_t page = UINT64_MAX, longest;

	if (!pieces || (request->local.count == 1 && request->remote.count == 1))
		return length;
	if (request->local.count > 1)
		page = request->local.page_size;
	if (request->remote.count > 1 && request->remote.page_size < page)
		page = request->remote.page_size;
	/* Unequal pages break at both sides' borders, and a slice may begin inside a page. */
	longest = request->local.page_size == request->remote.page_size ? pieces - 1 : (pieces - 2) / 2;
	if (longest < 1)
		longest = 1;
	if (page > length / longest)
		return length;
	return page * longest;
}

/* The length of the runs that one side consists of. */
static uint64_t run_length(const struct cw__request *request, const struct cw_vec *vec)
{
	return vec->indices || vec->stride != vec->page_size ? vec->page_size : request->length;
}

/* Pages of both sides begin together, so the shortest run is their greatest common divisor. */
uint64_t cw__request_run(const struct cw__request *request)
{
	uint64_t a = run_length(request, &request->local), b = run_length(request, &request->remote);

	while (a != b && b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static uint32_t piece_bound(const struct cw__request *request, uint64_t length)
{
	uint64_t bound = 1;

	if (request->local.count > 1)
		bound += length / request->local.page_size + 1;
	if (request->remote.count > 1 &&
	    (request->local.count == 1 || request->remote.page_size != request->local.page_size))
		bound += length / request->remote.page_size + 1;
	return bound > UINT32_MAX ? UINT32_MAX : (uint32_t)bound;
}

/* From a block that the loop, or the batch whose own slice it is, took from the engine. */
static uint64_t next_id(const struct cw__slice *slice, const struct cw__request *request)
{
	struct cw_loop *loop = request->segment->loop;
	uint64_t *next = slice->embedded ? &request->batch->id_next : &loop->id_next;
	uint64_t *end = slice->embedded ? &request->batch->id_end : &loop->id_end;

	if (*next == *end) {
		*next = atomic_fetch_add_explicit(&loop->engine->next_slice, IDS, memory_order_relaxed);
		*end = *next + IDS;
	}
	return (*next)++;
}

void cw__slice_fill(struct cw__slice *slice, struct cw__request *request, unsigned rail, uint64_t offset,
		    uint64_t length)
{
	struct cw_engine *engine = request->batch->engine;

	slice->engine = engine;
	slice->request = request;
	slice->offset = offset;
	slice->part = request->part;
	slice->landing = NULL;
	slice->handed = request->handed;
	slice->canceled = 0;
	slice->posted = CW__SLICE_OURS;
	slice->base = (struct cw_slice){
		.id = next_id(slice, request),
		.length = length,
		.not_after = request->batch->deadline,
		.attempt = 1,
		.rail = (uint16_t)rail,
		.op = request->op,
		.delivery = (uint8_t)request->batch->delivery,
		.flags = request->batch->flags & CW_BATCH_CHECKSUM ? CW_SLICE_CHECKSUM : 0,
		.piece_limit = piece_bound(request, length),
		.local = &request->region->view,
		.remote = &request->target->view,
	};
}

/* Both ends stay as they are while the slice is under way. */
int cw__slice_pin(struct cw__slice *slice)
{
	struct cw__request *request = slice->request;
	int status = cw__remote_pin(request->target);

	if (status)
		return status;
	slice->pin = cw__region_pin(request->region, request->region_id, request->local_from, request->local_to);
	if (slice->pin >= 0 && !cw__region_is_there(request->region)) {
		cw__region_unpin(request->region, slice->pin);
		slice->pin = -1;
	}
	if (slice->pin >= 0) {
		slice->base.attachment = slice->landing ? NULL : request->region->attachments[slice->part];
		slice->base.import = request->target->imports[slice->part];
		return CW_OK;
	}
	cw__remote_unpin(request->target);
	return CW_ERR_CANCELED; /* our own region went: no other way helps */
}

void cw__slice_unpin(struct cw__slice *slice)
{
	cw__region_unpin(slice->request->region, slice->pin);
	/* The slice may outlive the request's interest in this target, but holds it until here. */
	cw__remote_unpin(cw__container(slice->base.remote, struct cw__remote, view));
}

void cw__slice_unland(struct cw__slice *slice)
{
	if (slice->landing)
		cw__landing_give(slice->request->segment->loop, slice->landing);
	slice->landing = NULL;
}
