/* SPDX-License-Identifier: Apache-2.0 */
/* The target's side: what peers may touch, what they are told about this engine, and what they send to its parts. */
#include <core/device.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include <util/cursor.h>

/* -------------------------------------------------------------------------------------------- access */

static int find_claimed(struct cw_engine *engine, const struct cw_claim *claim, struct cw_region **region_out,
			uint64_t *id_out)
{
	struct cw_region *region;

	if (!claim->length || claim->address > UINT64_MAX - claim->length || claim->space)
		return CW_ERR_INVALID;
	if (claim->classic) {
		region = cw__region_lookup(engine, claim->address, claim->length, id_out);
		*region_out = region;
		return region ? CW_OK : CW_ERR_NOT_REGISTERED;
	}
	region = cw__region_by_id(engine, claim->region_id);
	*region_out = region;
	*id_out = claim->region_id;
	return region ? CW_OK : CW_ERR_STALE_REGION;
}

/* Pins, then checks key, bounds and rights on what cannot change any more. */
static int claim_pin(struct cw_engine *engine, const struct cw_claim *claim, struct cw_region **region_out,
		     int *counter_out)
{
	struct cw_region *region = NULL;
	uint64_t id = 0, need = claim->op == CW_OP_WRITE ? CW_ACCESS_REMOTE_WRITE : CW_ACCESS_REMOTE_READ;
	int status = find_claimed(engine, claim, &region, &id), counter;

	if (status)
		return status;
	counter = cw__region_pin(region, id, claim->address, claim->address + claim->length);
	if (counter < 0)
		return CW_ERR_STALE_REGION;
	if (!claim->classic && region->view.key != claim->key)
		status = CW_ERR_ACCESS;
	else if (claim->address < region->view.address || claim->address - region->view.address > region->view.length ||
		 claim->length > region->view.length - (claim->address - region->view.address))
		status = CW_ERR_NOT_REGISTERED;
	else if (!(region->view.access & need))
		status = CW_ERR_ACCESS;
	else if (!cw__region_is_there(region))
		status = CW_ERR_STALE_REGION;
	if (status) {
		cw__region_unpin(region, counter);
		return status;
	}
	*region_out = region;
	*counter_out = counter;
	return CW_OK;
}

/* Of a thread that holds a shard, as what submits and copies: then nothing that is found here goes away. */
static int claim_held(struct cw_engine *engine, const struct cw_claim *claim, struct cw_grant *grant_out)
{
	uint32_t need = claim->op == CW_OP_WRITE ? CW_ACCESS_REMOTE_WRITE : CW_ACCESS_REMOTE_READ;
	struct cw_region *region;
	uint64_t offset;

	if (!cw__shard_held(engine) || claim->classic || engine->verify_memory || !claim->length || claim->space ||
	    claim->length > UINT64_MAX - claim->address)
		return 0;
	region = cw__region_by_id(engine, claim->region_id);
	if (!region || !cw__region_is_live(region, claim->region_id, claim->address, claim->address + claim->length))
		return 0;
	offset = claim->address - region->view.address;
	if (region->view.key != claim->key || claim->address < region->view.address || offset > region->view.length ||
	    claim->length > region->view.length - offset || !(region->view.access & need) ||
	    region->view.kind != CW_MEMORY_HOST)
		return 0;
	*grant_out = (struct cw_grant){ (unsigned char *)(uintptr_t)claim->address, claim->length, NULL, NULL };
	return 1;
}

int cw__host_access_check(struct cw_host *host, const struct cw_claim *claim)
{
	struct cw_engine *engine = cw__engine_of(host);
	struct cw_region *region;
	int counter, status = claim_pin(engine, claim, &region, &counter);

	if (!status)
		cw__region_unpin(region, counter);
	else
		cw__count(engine, requests_refused, 1);
	return status;
}

int cw__host_access_begin(struct cw_host *host, const struct cw_claim *claim, struct cw_grant *grant_out)
{
	struct cw_engine *engine = cw__engine_of(host);
	struct cw_region *region;
	int counter, keeps = 0, status;

	if (claim_held(engine, claim, grant_out))
		return CW_OK;
	status = claim_pin(engine, claim, &region, &counter);
	if (status)
		return status;
	/* Regions are far more than 2-aligned: the pin counter's number fits beside the pointer. */
	*grant_out = (struct cw_grant){ (unsigned char *)(uintptr_t)claim->address, claim->length,
					(char *)region + counter, NULL };
	if (region->view.kind == CW_MEMORY_HOST || claim->direct)
		return CW_OK;
	status = claim->host_only ? CW_ERR_UNSUPPORTED
				  : cw__landing_begin(engine, region, counter, claim, grant_out, &keeps);
	if (status && !keeps)
		cw__region_unpin(region, counter);
	return status;
}

int cw__host_access_end(struct cw_host *host, struct cw_grant *grant, uint64_t moved)
{
	uintptr_t tagged = (uintptr_t)grant->region;
	int counter = (int)(tagged & 1), status = CW_OK, keeps = 0;
	struct cw_region *region;

	if (!grant->region) {
		cw__shard_count(&cw__shard_held(cw__engine_of(host))->counters.bytes_served, moved);
		return CW_OK;
	}
	region = (struct cw_region *)(void *)((char *)grant->region - counter);
	if (grant->landing)
		status = cw__landing_end(cw__engine_of(host), grant, moved, &keeps);
	if (!keeps)
		cw__region_unpin(region, counter);
	grant->region = NULL;
	if (!status)
		cw__count(cw__engine_of(host), bytes_served, moved);
	return status;
}

const struct cw_region_view *cw__host_region_get(struct cw_host *host, uint64_t id, uint64_t key)
{
	struct cw_engine *engine = cw__engine_of(host);
	struct cw_region *region = cw__region_by_id(engine, id);
	int counter;

	if (!region)
		return NULL;
	counter = cw__region_pin(region, id, 0, 1); /* any range: the state and the id count */
	if (counter < 0)
		return NULL;
	if (region->view.key != key) {
		cw__region_unpin(region, counter);
		return NULL;
	}
	/* Short by contract, so that the other counter's turn does not matter: always hand out counter 0's pin. */
	if (counter) {
		atomic_fetch_add_explicit(&region->pins[0], 1, memory_order_seq_cst);
		cw__region_unpin(region, counter);
	}
	return &region->view;
}

void cw__host_region_put(struct cw_host *host, const struct cw_region_view *view)
{
	(void)host;
	cw__region_unpin(cw__container(view, struct cw_region, view), 0);
}

/* -------------------------------------------------------------------------------- what peers are told */

static unsigned classic_port(const struct cw_engine *engine)
{
	for (unsigned i = 0; i < engine->part_count; i++) {
		const struct cw__part *part = &engine->parts[i];

		/* A transport that classic peers can use begins its description with the port they connect to. */
		if (part->on && part->ops->flags & CW_TRANSPORT_CLASSIC && part->description.length >= 2)
			return part->description.data[0] | (unsigned)part->description.data[1] << 8;
	}
	return 0;
}

/* By transports that know nothing but host memory: what a device has must land somewhere first. */
static int peers_can_touch(const struct cw_engine *engine, const struct cw_region *region)
{
	return region->view.kind == CW_MEMORY_HOST || cw__device_reachable(engine, region);
}

static void list_buffers(struct cw_engine *engine, struct cw__descriptor *descriptor)
{
	uint32_t slots = atomic_load_explicit(&engine->slot_count, memory_order_acquire);
	size_t room = atomic_load_explicit(&engine->regions_alive, memory_order_relaxed) + 64;

	descriptor->buffers = calloc(room, sizeof(*descriptor->buffers));
	for (uint32_t slot = 0; descriptor->buffers && slot < slots && descriptor->buffer_count < room; slot++) {
		struct cw_region *region = cw__region_at(engine, slot);
		int counter = cw__region_pin_any(region);

		if (counter < 0)
			continue;
		if (region->view.access && peers_can_touch(engine, region)) {
			struct cw__classic_buffer *buffer = &descriptor->buffers[descriptor->buffer_count++];

			buffer->address = region->view.address;
			buffer->length = region->view.length;
			if (region->view.kind != CW_MEMORY_HOST)
				memcpy(buffer->location, region->memory.location, sizeof(buffer->location));
		}
		cw__region_unpin(region, counter);
	}
}

static void list_addresses(const struct cw_engine *engine, struct cw__descriptor *descriptor)
{
	const char *list = cw__config_text(&engine->config, "engine/advertise");

	while (*list && descriptor->address_count < 8) {
		size_t length = strcspn(list, ",");
		char one[80], host[64];
		uint16_t port;

		snprintf(one, sizeof(one), "%.*s", (int)length, list);
		if (!cw__address_parse(one, engine->port, host, sizeof(host), &port))
			cw__address_format(host, port, descriptor->addresses[descriptor->address_count++], 80);
		list += length + (list[length] == ',');
	}
}

char *cw__core_descriptor(struct cw_host *host, int with_buffers, size_t *length_out)
{
	struct cw_engine *engine = cw__engine_of(host);
	struct cw__descriptor descriptor = { .native = 1, .native_version = CW__NATIVE_VERSION };
	char timestamp[64], *text;
	struct timeval now;
	struct tm local;
	size_t length;

	snprintf(descriptor.name, sizeof(descriptor.name), "%s", engine->name);
	snprintf(descriptor.protocol, sizeof(descriptor.protocol), CW__CLASSIC_PROTOCOL);
	descriptor.tcp_data_port = (uint16_t)classic_port(engine);
	descriptor.tcp_proto_version = 2;
	memcpy(descriptor.instance, engine->instance, sizeof(descriptor.instance));
	list_addresses(engine, &descriptor);
	if (with_buffers)
		list_buffers(engine, &descriptor);
	gettimeofday(&now, NULL);
	localtime_r(&now.tv_sec, &local);
	length = strftime(timestamp, sizeof(timestamp), "%Y-%m-%d %H:%M:%S", &local);
	snprintf(timestamp + length, sizeof(timestamp) - length, ".%06ld", (long)now.tv_usec);
	text = cw__descriptor_encode(&descriptor, timestamp, length_out);
	cw__descriptor_free(&descriptor);
	return text;
}

void cw__core_welcome(struct cw_host *host, struct cw__welcome *welcome)
{
	struct cw_engine *engine = cw__engine_of(host);

	memcpy(welcome->instance, engine->instance, sizeof(welcome->instance));
	memcpy(welcome->machine, engine->machine, sizeof(welcome->machine));
	welcome->pid = (uint32_t)getpid();
	welcome->name = (struct cw__text){ engine->name, (uint16_t)strlen(engine->name) };
	welcome->transport_count = 0;
	for (unsigned i = 0; i < engine->part_count; i++) {
		const struct cw__part *part = &engine->parts[i];

		if (part->on && welcome->transport_count < CW__TRANSPORTS_MAX)
			welcome->transports[welcome->transport_count++] =
				(struct cw__transport_offer){ { part->ops->name, (uint16_t)strlen(part->ops->name) },
							      part->description.data,
							      (uint16_t)part->description.length };
	}
}

/* Encodes a pinned region. Parts of it that are revoked must not be reached by grants, so a region with holes has none.
 */
static int append_record(struct cw_engine *engine, struct cw_region *region, struct cw_blob *out)
{
	struct cw__region_record record = {
		.id = region->view.id,
		.key = region->view.key,
		.address = region->view.address,
		.length = region->view.length,
		.access = region->view.access,
		.kind = (uint32_t)region->view.kind,
		.device = region->view.device,
		.numa_node = region->view.numa_node,
		.location = { region->memory.location, (uint16_t)strlen(region->memory.location) },
	};
	struct cw_blob blobs[CW__PARTS_MAX] = { 0 };
	int holes = atomic_load_explicit(&region->revoked_count, memory_order_acquire) != 0;
	unsigned char *encoded = malloc(CW__TRANSPORTS_MAX * (CW__BLOB_MAX + 64u));
	size_t length = 0;
	int status;

	for (unsigned i = 0; i < engine->part_count; i++) {
		struct cw__part *part = &engine->parts[i];

		if (holes || !region->attached[i] || !part->ops->export_region ||
		    part->ops->export_region(part->state, &region->view, region->attachments[i], &blobs[i]) ||
		    blobs[i].length > CW__BLOB_MAX)
			continue;
		record.transports[record.transport_count++] = (struct cw__transport_offer){
			{ part->ops->name, (uint16_t)strlen(part->ops->name) }, blobs[i].data, (uint16_t)blobs[i].length
		};
	}
	if (encoded)
		length = cw__region_record_encode(&record, encoded, CW__TRANSPORTS_MAX * (CW__BLOB_MAX + 64u));
	status = length ? cw__host_ops.blob_append(out, encoded, length) : CW_ERR_NO_MEMORY;
	free(encoded);
	for (unsigned i = 0; i < engine->part_count; i++)
		cw__host_ops.blob_free(&blobs[i]);
	return status;
}

int cw__core_resolve(struct cw_host *host, const struct cw__resolve *resolve, struct cw_blob *out)
{
	struct cw_engine *engine = cw__engine_of(host);
	struct cw_region *region;
	uint64_t id;
	int counter, status;

	if (!resolve->length || resolve->address > UINT64_MAX - resolve->length || resolve->space)
		return CW_ERR_INVALID;
	region = cw__region_lookup(engine, resolve->address, resolve->length, &id);
	if (!region)
		return CW_ERR_NOT_REGISTERED;
	counter = cw__region_pin(region, id, resolve->address, resolve->address + resolve->length);
	if (counter < 0)
		return counter;
	status = region->view.access ? append_record(engine, region, out) : CW_ERR_ACCESS;
	cw__region_unpin(region, counter);
	return status;
}

int cw__core_list(struct cw_host *host, uint64_t first, struct cw_blob *out)
{
	struct cw_engine *engine = cw__engine_of(host);
	uint32_t slots = atomic_load_explicit(&engine->slot_count, memory_order_acquire), count = 0;
	size_t start = out->length;
	unsigned char head[12] = { 0 };
	struct cw__writer writer = cw__writer_init(head, sizeof(head));
	uint64_t slot;
	int status = cw__host_ops.blob_append(out, head, sizeof(head));

	for (slot = first; !status && slot < slots && out->length - start < CW__CONTROL_BODY_MAX / 2; slot++) {
		struct cw_region *region = cw__region_at(engine, (uint32_t)slot);
		int counter = cw__region_pin_any(region);

		if (counter < 0)
			continue;
		if (region->view.access) {
			status = append_record(engine, region, out);
			count++;
		}
		cw__region_unpin(region, counter);
	}
	if (status)
		return status;
	cw__put_u32(&writer, count);
	cw__put_u64(&writer, slot < slots ? slot : 0);
	memcpy(out->data + start, head, sizeof(head));
	return CW_OK;
}

/* --------------------------------------------------------------------------- messages for the parts */

static int is_called(const char *known, struct cw__text name)
{
	return known && strlen(known) == name.length && !memcmp(known, name.data, name.length);
}

/* A transport, or the part that wraps it where it is not on itself. */
static struct cw__part *part_by_text(struct cw_engine *engine, struct cw__text name)
{
	struct cw__part *wrapper = NULL;

	for (unsigned i = 0; i < engine->part_count; i++) {
		struct cw__part *part = &engine->parts[i];

		if (part->on && is_called(part->ops->name, name))
			return part;
		if (part->on && is_called(part->wraps, name))
			wrapper = part;
	}
	return wrapper;
}

int cw__core_message(struct cw_host *host, const unsigned char *instance, struct cw__text transport, const void *data,
		     size_t length, struct cw_blob *reply)
{
	struct cw__part *part = part_by_text(cw__engine_of(host), transport);

	if (!part || !part->ops->message)
		return CW_ERR_NOT_FOUND;
	return part->ops->message(part->state, instance, data, length, reply);
}

int cw__core_accept(struct cw_host *host, struct cw_loop *loop, struct cw__text transport, int fd, const void *first,
		    size_t length)
{
	struct cw__part *part = part_by_text(cw__engine_of(host), transport);

	if (!part || !part->ops->accept)
		return CW_ERR_NOT_FOUND;
	part->ops->accept(part->state, loop, fd, first, length);
	return CW_OK;
}

int cw__core_cancel(struct cw_host *host, const unsigned char *instance, const void *body, size_t length)
{
	struct cw_engine *engine = cw__engine_of(host);
	unsigned char *told = malloc(length + 1);

	if (!told)
		return CW_ERR_NO_MEMORY;
	told[0] = 0xca;
	memcpy(told + 1, body, length);
	for (unsigned i = 0; i < engine->part_count; i++) {
		struct cw_blob reply = { 0 };

		if (engine->parts[i].on && engine->parts[i].ops->message)
			engine->parts[i].ops->message(engine->parts[i].state, instance, told, length + 1, &reply);
		cw__host_ops.blob_free(&reply);
	}
	free(told);
	return CW_OK;
}
