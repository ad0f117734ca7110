/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of tent/transfer_engine.h. Each looks up what its numbers name, calls face.h, and translates the
 * status. Every request is a batch of the engine, so that it can be canceled alone and has a priority of its own.
 */
#include "tent/transfer_engine.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "face.h"
#include "tent_config.h"

#define TRANSFERS_SMALL 16
#define RECORDS_MAX 1024 /* of one call; the next one has the rest */

/* Ends a call. -1 alone says nothing, so mistakes of the caller are named. */
static int answer(struct face *face, const char *function, int status)
{
	if (face) {
		if (status == CW_ERR_INVALID || status == CW_ERR_NOT_FOUND || status == CW_ERR_LIMIT)
			face_log(face, CW_LOG_WARN, "%s: %s", function, cw_strerror(status));
		face_put(face);
	}
	return status == CW_OK ? 0 : -1;
}

/* ------------------------------------------------------------------------------------------- engines */

static int make_setup(struct setup *setup, char *name, size_t length)
{
	const char *server, *local;
	char address[FACE_NAME_MAX];
	int level = face_setup_level(), status;

	status = tent_config_apply(setup, face_notice, &level);
	if (status == 0)
		status = setup_environment(setup, face_notice, &level);
	server = setup->metadata_server[0] || setup->metadata_backend[0] ? "" : "P2PHANDSHAKE";
	local = setup->local_hostname;
	if (!*local) { /* an engine without a name has that of its machine's address */
		setup_own_address(setup->use_ipv6, address, sizeof(address));
		local = address;
	}
	if (status == 0)
		status = setup_identity(setup, server, local, name, length);
	if (status != 0)
		face_log_at(level, CW_LOG_ERROR, "the engine cannot be set up: %s", setup->text);
	return status;
}

tent_engine_t tent_create_engine(void)
{
	struct setup setup = { 0 };
	struct face *face;
	char name[FACE_NAME_MAX];
	void *handle = NULL;

	if (make_setup(&setup, name, sizeof(name)) == 0 && face_open(FACE_TENT, &setup, name, &face) == CW_OK)
		handle = face_handle(face);
	setup_free(&setup);
	return handle;
}

void tent_destroy_engine(tent_engine_t engine)
{
	face_close(FACE_TENT, engine, CW_FOREVER);
}

int tent_available(tent_engine_t engine)
{
	struct face *face = face_get(FACE_TENT, engine);

	if (face)
		face_put(face);
	return face != NULL;
}

static int copy_text(const char *text, char *buf, size_t buf_len)
{
	if (!buf || strlen(text) >= buf_len)
		return CW_ERR_INVALID;
	memcpy(buf, text, strlen(text) + 1);
	return CW_OK;
}

int tent_segment_name(tent_engine_t engine, char *buf, size_t buf_len)
{
	struct face *face = face_get(FACE_TENT, engine);

	if (!face)
		return -1;
	return answer(face, "tent_segment_name", copy_text(face->name, buf, buf_len));
}

int tent_rpc_server_addr_port(tent_engine_t engine, char *addr_buf, size_t buf_len, uint16_t *port)
{
	struct face *face = face_get(FACE_TENT, engine);
	int status = CW_ERR_INVALID;

	if (!face)
		return -1;
	if (port)
		status = copy_text(face->host, addr_buf, buf_len);
	if (status == CW_OK)
		*port = face->port;
	return answer(face, "tent_rpc_server_addr_port", status);
}

/* ------------------------------------------------------------------------------------------ segments */

int tent_open_segment(tent_engine_t engine, tent_segment_id_t *handle, const char *segment_name)
{
	struct face *face = face_get(FACE_TENT, engine);
	uint64_t number;
	int status = CW_ERR_INVALID;

	if (!face)
		return -1;
	if (handle && segment_name && *segment_name) {
		status = face_segment_open(face, segment_name, 0, &number);
		if (status != CW_OK)
			face_log(face, CW_LOG_WARN, "the segment %s cannot be opened: %s", segment_name,
				 cw_last_error());
	}
	if (status == CW_OK)
		*handle = number;
	return answer(face, "tent_open_segment", status);
}

int tent_close_segment(tent_engine_t engine, tent_segment_id_t handle)
{
	struct face *face = face_get(FACE_TENT, engine);

	return face ? answer(face, "tent_close_segment", face_segment_close(face, handle)) : -1;
}

/* The list may grow between two looks at it. */
static int fetch_regions(struct cw_segment *segment, struct cw_remote_region **rows_out, size_t *count_out)
{
	size_t room = 64, count;

	for (;;) {
		struct cw_remote_region *rows = calloc(room, sizeof(*rows));
		int status = rows ? cw_segment_regions(segment, rows, room, &count) : CW_ERR_NO_MEMORY;

		if (status == CW_OK && count <= room && count <= INT_MAX) {
			*rows_out = rows;
			*count_out = count;
			return CW_OK;
		}
		free(rows);
		if (status != CW_OK || count > INT_MAX)
			return status == CW_OK ? CW_ERR_LIMIT : status;
		room = count + 16;
	}
}

static int fill_info(struct cw_segment *segment, tent_segment_info_t *info)
{
	struct cw_remote_region *rows;
	size_t count;
	int status = fetch_regions(segment, &rows, &count);

	if (status != CW_OK)
		return status;
	info->buffers = calloc(count + 1, sizeof(*info->buffers));
	for (size_t i = 0; info->buffers && i < count; i++) {
		info->buffers[i].base = rows[i].address;
		info->buffers[i].length = rows[i].length;
		snprintf(info->buffers[i].location, sizeof(info->buffers[i].location), "%s", rows[i].location);
	}
	free(rows);
	if (!info->buffers)
		return CW_ERR_NO_MEMORY;
	info->type = TYPE_MEMORY;
	info->num_buffers = (int)count;
	return CW_OK;
}

int tent_get_segment_info(tent_engine_t engine, tent_segment_id_t handle, tent_segment_info_t *info)
{
	struct face *face = face_get(FACE_TENT, engine);
	struct face_segment *segment = face && info ? face_segment_get(face, handle) : NULL;
	int status = CW_ERR_INVALID;

	if (info)
		*info = (tent_segment_info_t){ .type = TYPE_MEMORY };
	if (segment) {
		status = fill_info(face_segment_link(segment, 0), info);
		face_segment_put(segment);
	}
	return answer(face, "tent_get_segment_info", status);
}

void tent_free_segment_info(tent_segment_info_t *info)
{
	if (!info)
		return;
	free(info->buffers);
	info->buffers = NULL;
	info->num_buffers = 0;
}

/* -------------------------------------------------------------------------------------------- memory */

static int access_of(int permission, uint32_t *access_out)
{
	static const uint32_t rights[] = { CW_ACCESS_LOCAL, CW_ACCESS_REMOTE_READ, CW_ACCESS_REMOTE };

	if (permission < 0 || permission > PERM_GLOBAL_READ_WRITE)
		return CW_ERR_INVALID;
	*access_out = rights[permission];
	return CW_OK;
}

/* Where and with which rights; texts of callers need not end. */
static int read_options(const tent_memory_options_t *opts, const char **location_out, uint32_t *access_out)
{
	if (!opts || !memchr(opts->location, 0, sizeof(opts->location)))
		return CW_ERR_INVALID;
	*location_out = opts->location;
	return access_of(opts->permission, access_out);
}

int tent_allocate_memory(tent_engine_t engine, void **addr, size_t size, const char *location)
{
	struct face *face = face_get(FACE_TENT, engine);
	int status = CW_ERR_INVALID;

	if (face && addr)
		status = face_allocate(face, size, location, CW_ACCESS_REMOTE, addr);
	return answer(face, "tent_allocate_memory", status);
}

int tent_allocate_memory_ex(tent_engine_t engine, void **addr, size_t size, tent_memory_options_t *opts)
{
	struct face *face = face_get(FACE_TENT, engine);
	const char *location;
	uint32_t access;
	int status = read_options(opts, &location, &access);

	if (face && status == CW_OK)
		status = addr ? face_allocate(face, size, location, access, addr) : CW_ERR_INVALID;
	return face ? answer(face, "tent_allocate_memory_ex", status) : -1;
}

int tent_free_memory(tent_engine_t engine, void *addr)
{
	struct face *face = face_get(FACE_TENT, engine);

	return face ? answer(face, "tent_free_memory", addr ? face_free(face, addr) : CW_ERR_INVALID) : -1;
}

/* Registers all or none. */
static int register_all(tent_engine_t engine, const char *function, void **addrs, const size_t *sizes, size_t count,
			const char *location, uint32_t access, int status)
{
	struct face *face = face_get(FACE_TENT, engine);
	size_t done = 0;

	if (!face)
		return -1;
	if ((!addrs || !sizes) && count)
		status = CW_ERR_INVALID;
	while (status == CW_OK && done < count) {
		status = face_register(face, addrs[done], sizes[done], location, access);
		done += status == CW_OK;
	}
	while (status != CW_OK && done > 0) {
		done--;
		face_unregister(face, addrs[done], sizes[done]);
	}
	return answer(face, function, status);
}

int tent_register_memory(tent_engine_t engine, void *addr, size_t size)
{
	return register_all(engine, "tent_register_memory", &addr, &size, 1, NULL, CW_ACCESS_REMOTE, CW_OK);
}

int tent_register_memory_with_perm(tent_engine_t engine, void *addr, size_t size, int permission)
{
	uint32_t access = 0;
	int status = access_of(permission, &access);

	return register_all(engine, "tent_register_memory_with_perm", &addr, &size, 1, NULL, access, status);
}

int tent_register_memory_ex(tent_engine_t engine, void *addr, size_t size, tent_memory_options_t *opts)
{
	const char *location = NULL;
	uint32_t access = 0;
	int status = read_options(opts, &location, &access);

	return register_all(engine, "tent_register_memory_ex", &addr, &size, 1, location, access, status);
}

int tent_register_memory_batch(tent_engine_t engine, void **addrs, size_t *sizes, size_t count, int permission)
{
	uint32_t access = 0;
	int status = access_of(permission, &access);

	return register_all(engine, "tent_register_memory_batch", addrs, sizes, count, NULL, access, status);
}

int tent_register_memory_batch_ex(tent_engine_t engine, void **addrs, size_t *sizes, size_t count,
				  tent_memory_options_t *opts)
{
	const char *location = NULL;
	uint32_t access = 0;
	int status = read_options(opts, &location, &access);

	return register_all(engine, "tent_register_memory_batch_ex", addrs, sizes, count, location, access, status);
}

int tent_unregister_memory(tent_engine_t engine, void *addr, size_t size)
{
	return tent_unregister_memory_batch(engine, &addr, &size, 1);
}

int tent_unregister_memory_batch(tent_engine_t engine, void **addrs, size_t *sizes, size_t count)
{
	struct face *face = face_get(FACE_TENT, engine);
	int status = addrs || !count ? CW_OK : CW_ERR_INVALID;

	if (!face)
		return -1;
	for (size_t i = 0; addrs && i < count; i++) {
		int one = face_unregister(face, addrs[i], sizes ? sizes[i] : 0);

		status = status == CW_OK ? one : status;
	}
	return answer(face, "tent_unregister_memory", status);
}

/* ------------------------------------------------------------------------------------------- batches */

/* A batch of an engine for one call. */
static struct face_batch *begin(tent_engine_t engine, uint64_t number, struct face **face_out)
{
	*face_out = face_get(FACE_TENT, engine);
	return *face_out ? face_batch_get(*face_out, number) : NULL;
}

static int end(struct face *face, struct face_batch *batch, const char *function, int status)
{
	if (batch)
		face_batch_put(batch);
	return answer(face, function, batch ? status : CW_ERR_NOT_FOUND);
}

tent_batch_id_t tent_allocate_batch(tent_engine_t engine, size_t batch_size)
{
	struct face *face = face_get(FACE_TENT, engine);
	uint64_t number = 0;
	int status = face ? face_batch_open(face, batch_size, &number) : CW_ERR_INVALID;

	return answer(face, "tent_allocate_batch", status) == 0 ? number : 0;
}

int tent_free_batch(tent_engine_t engine, tent_batch_id_t batch_id)
{
	struct face *face;
	struct face_batch *batch = begin(engine, batch_id, &face);

	return end(face, batch, "tent_free_batch", batch ? face_batch_close(batch) : CW_ERR_NOT_FOUND);
}

static int read_requests(const tent_request_t *entries, size_t count, struct face_transfer *transfers)
{
	for (size_t i = 0; i < count; i++) {
		if (entries[i].priority < 0 || entries[i].priority > 2 || entries[i].transport_hint < 0 ||
		    entries[i].transport_hint >= FACE_HINTS)
			return CW_ERR_INVALID;
		transfers[i] = (struct face_transfer){ .opcode = entries[i].opcode,
						       .priority = entries[i].priority,
						       .hint = entries[i].transport_hint,
						       .source = entries[i].source,
						       .target = entries[i].target_id,
						       .offset = entries[i].target_offset,
						       .length = entries[i].length };
	}
	return CW_OK;
}

static int submit(struct face_batch *batch, const tent_request_t *entries, size_t count,
		  const struct face_message *message)
{
	struct face_transfer small[TRANSFERS_SMALL], *transfers = small;
	int status;

	if (!entries && count)
		return CW_ERR_INVALID;
	if (count > face_batch_room(batch)) /* before an array is read that may be shorter */
		return CW_ERR_LIMIT;
	if (count > TRANSFERS_SMALL)
		transfers = malloc(count * sizeof(*transfers));
	if (!transfers)
		return CW_ERR_NO_MEMORY;
	transfers[0] = (struct face_transfer){ 0 };
	status = read_requests(entries, count, transfers);
	if (status == CW_OK)
		status = face_batch_submit(batch, transfers, count, 1, message);
	if (transfers != small)
		free(transfers);
	return status;
}

int tent_submit(tent_engine_t engine, tent_batch_id_t batch_id, tent_request_t *entries, size_t count)
{
	struct face *face;
	struct face_batch *batch = begin(engine, batch_id, &face);

	return end(face, batch, "tent_submit", batch ? submit(batch, entries, count, NULL) : CW_ERR_NOT_FOUND);
}

/* What does not fit into the receiver's record would be cut off there. */
static int message_fits(const char *name, const char *text)
{
	return strlen(name) < sizeof(((struct tent_notifi_record *)0)->name) &&
	       strlen(text) < sizeof(((struct tent_notifi_record *)0)->msg);
}

int tent_submit_notif(tent_engine_t engine, tent_batch_id_t batch_id, tent_request_t *entries, size_t count,
		      const char *name, const char *message)
{
	struct face_message said = { .name = name ? name : "", .text = message ? message : "", .all_targets = 1 };
	struct face *face;
	struct face_batch *batch = begin(engine, batch_id, &face);
	int status = message_fits(said.name, said.text) ? CW_OK : CW_ERR_LIMIT;

	if (batch && status == CW_OK)
		status = submit(batch, entries, count, &said);
	return end(face, batch, "tent_submit_notif", status);
}

static void translate(const struct face_progress *progress, tent_status_t *status)
{
	static const int rows[][2] = { { CW_OK, STATUS_COMPLETED },
				       { CW_ERR_AGAIN, STATUS_PENDING },
				       { CW_ERR_CANCELED, STATUS_CANCELED },
				       { CW_ERR_TIMED_OUT, STATUS_TIMEOUT } };

	status->status = STATUS_FAILED;
	status->transferred_bytes = progress->bytes;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i][0] == progress->status)
			status->status = rows[i][1];
}

int tent_task_status(tent_engine_t engine, tent_batch_id_t batch_id, size_t task_id, tent_status_t *status)
{
	struct face *face;
	struct face_batch *batch = begin(engine, batch_id, &face);
	struct face_progress progress;
	int result = CW_ERR_INVALID;

	if (batch && status)
		result = face_batch_task(batch, task_id, &progress);
	if (result == CW_OK)
		translate(&progress, status);
	return end(face, batch, "tent_task_status", result);
}

int tent_overall_status(tent_engine_t engine, tent_batch_id_t batch_id, tent_status_t *status)
{
	struct face *face;
	struct face_batch *batch = begin(engine, batch_id, &face);
	struct face_progress progress;
	int result = CW_ERR_INVALID;

	if (batch && status) {
		size_t count = face_batch_count(batch);

		result = face_batch_overall(batch, &progress);
		translate(&progress, status);
		if (!count)
			status->status = STATUS_WAITING;
	}
	return end(face, batch, "tent_overall_status", result);
}

int tent_task_status_list(tent_engine_t engine, tent_batch_id_t batch_id, tent_status_t *statuses, size_t *count)
{
	struct face *face;
	struct face_batch *batch = begin(engine, batch_id, &face);
	int result = CW_ERR_INVALID;
	size_t written = 0;

	if (batch && statuses && count) {
		struct face_progress progress;

		while (written < *count && face_batch_task(batch, written, &progress) == CW_OK)
			translate(&progress, &statuses[written++]);
		*count = written;
		result = CW_OK;
	}
	return end(face, batch, "tent_task_status_list", result);
}

int tent_cancel_task(tent_engine_t engine, tent_batch_id_t batch_id, size_t task_id)
{
	struct face *face;
	struct face_batch *batch = begin(engine, batch_id, &face);

	return end(face, batch, "tent_cancel_task", batch ? face_batch_cancel(batch, task_id) : CW_ERR_NOT_FOUND);
}

/* ------------------------------------------------------------------------------------- notifications */

int tent_send_notifs(tent_engine_t engine, tent_segment_id_t handle, const char *name, const char *message)
{
	struct face *face = face_get(FACE_TENT, engine);
	int status = CW_ERR_LIMIT;

	name = name ? name : "";
	message = message ? message : "";
	if (face && message_fits(name, message))
		status = face_notify(face, handle, name, message);
	return answer(face, "tent_send_notifs", status);
}

/* Cuts between characters. 1 = something was cut off. */
static int fit(char *place, size_t size, const char *text)
{
	size_t length = strlen(text);
	int cut = length >= size;

	if (cut) {
		length = size - 1;
		while (length && ((unsigned char)text[length] & 0xc0) == 0x80)
			length--;
	}
	memcpy(place, text, length);
	place[length] = '\0';
	return cut;
}

static void fill_record(struct face *face, const struct face_note *note, tent_notifi_record_t *record)
{
	memset(record, 0, sizeof(*record));
	record->handle = face_segment_number(face, note->sender);
	if (fit(record->name, sizeof(record->name), note->name) + fit(record->msg, sizeof(record->msg), note->text))
		face_log(face, CW_LOG_WARN, "a notification of %s is longer than a record and was cut off",
			 note->sender);
}

int tent_recv_notifs(tent_engine_t engine, tent_notifi_info *info)
{
	struct face *face = info ? face_get(FACE_TENT, engine) : NULL;
	struct face_note note;
	int room = 0;

	if (info)
		*info = (tent_notifi_info){ 0 };
	if (!face)
		return -1;
	while (info->num_records < RECORDS_MAX) {
		if (info->num_records == room) { /* before one is taken: what was taken must not be lost */
			int more = room ? 2 * room : 4;
			tent_notifi_record_t *grown = realloc(info->records, (size_t)more * sizeof(*grown));

			if (!grown)
				break;
			info->records = grown;
			room = more;
		}
		if (face_note_next(face, &note) != CW_OK)
			break;
		fill_record(face, &note, &info->records[info->num_records++]);
		face_note_clear(&note);
	}
	if (!info->num_records) {
		free(info->records);
		info->records = NULL;
	}
	return answer(face, "tent_recv_notifs", CW_OK);
}

void tent_free_notifs(tent_notifi_info *info)
{
	if (!info)
		return;
	free(info->records);
	*info = (tent_notifi_info){ 0 };
}

/* --------------------------------------------------------------------------------------------- state */

int tent_get_nic_load_stats(tent_engine_t engine, tent_nic_load_stat_t *stats, size_t *count)
{
	struct face *face = stats && count ? face_get(FACE_TENT, engine) : NULL;
	struct face_load load;
	int status = face ? face_load_get(face, &load) : CW_ERR_INVALID;

	if (status == CW_OK) {
		if (*count) {
			memcpy(stats[0].device_name, load.device, sizeof(stats[0].device_name));
			stats[0].inflight_bytes = load.inflight_bytes;
			stats[0].ewma_bandwidth_bps = load.bytes_per_second;
		}
		*count = 1;
	}
	return answer(face, "tent_get_nic_load_stats", status);
}
