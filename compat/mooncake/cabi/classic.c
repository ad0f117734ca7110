/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of transfer_engine_c.h. Each looks up what its numbers name, calls face.h, and translates the status:
 * on this interface every transfer that ended without success is FAILED, because programs look for nothing else.
 */
#include "transfer_engine_c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "face.h"

#define TRANSFERS_SMALL 16

static const int argument_error = -1, argument_code = 1;

/* ------------------------------------------------------------------------------------------- engines */

static int has_store(const struct setup *setup)
{
	for (size_t i = 0; i < setup->setting_count; i++)
		if (strcmp(setup->settings[i].key, "metadata/url") == 0)
			return strcmp(setup->settings[i].value, "p2p") != 0;
	return 0;
}

/* Where to listen with a store, when the caller and MC_LEGACY_RPC_PORT_BINDING say so; else setup chooses it. */
static int use_address(struct setup *setup, const char *host, uint64_t port, char *name, size_t length)
{
	int bare = strchr(host, ':') != NULL && host[0] != '[';

	if (port <= UINT16_MAX &&
	    snprintf(name, length, bare ? "[%s]:%u" : "%s:%u", host, (unsigned)port) < (int)length)
		return 0;
	snprintf(setup->text, sizeof(setup->text), "%.100s and %llu are not an address and a port", host,
		 (unsigned long long)port);
	return -1;
}

static int make_setup(struct setup *setup, const char *metadata, const char *local, const char *host, uint64_t port,
		      char *name, size_t length)
{
	int level = face_setup_level();
	int status = setup_environment(setup, face_notice, &level);

	if (status == 0)
		status = setup_identity(setup, metadata, local, name, length);
	if (status == 0 && setup->legacy_binding && has_store(setup) && host && *host)
		status = use_address(setup, host, port, name, length);
	if (status != 0)
		face_log_at(level, CW_LOG_ERROR, "the engine cannot be set up: %s", setup->text);
	return status;
}

transfer_engine_t createTransferEngine(const char *metadata_conn_string, const char *local_server_name,
				       const char *ip_or_host_name, uint64_t rpc_port, int auto_discover)
{
	struct setup setup = { 0 };
	struct face *face;
	char name[FACE_NAME_MAX];
	void *handle = NULL;

	(void)auto_discover; /* every transport that works here is on */
	if (!metadata_conn_string || !local_server_name)
		return NULL;
	if (make_setup(&setup, metadata_conn_string, local_server_name, ip_or_host_name, rpc_port, name,
		       sizeof(name)) == 0 &&
	    face_open(FACE_CLASSIC, &setup, name, &face) == CW_OK)
		handle = face_handle(face);
	setup_free(&setup);
	return handle;
}

void destroyTransferEngine(transfer_engine_t engine)
{
	face_close(FACE_CLASSIC, engine, CW_FOREVER);
}

/* Nothing is left to do once the number was looked at. */
static int checked(transfer_engine_t engine, int arguments_ok)
{
	struct face *face = face_get(FACE_CLASSIC, engine);

	if (!face)
		return argument_error;
	face_put(face);
	return arguments_ok ? 0 : argument_error;
}

int discoverTopology(transfer_engine_t engine)
{
	return checked(engine, 1);
}

int getLocalIpAndPort(transfer_engine_t engine, char *buf_out, size_t buf_len)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	char text[FACE_NAME_MAX + 16];
	int fits;

	if (!face)
		return argument_error;
	snprintf(text, sizeof(text), strchr(face->host, ':') ? "[%s]:%u" : "%s:%u", face->host, face->port);
	face_put(face);
	fits = buf_out && strlen(text) < buf_len;
	if (fits)
		memcpy(buf_out, text, strlen(text) + 1);
	return fits ? 0 : argument_error;
}

transport_t installTransport(transfer_engine_t engine, const char *proto, void **args)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	void *handle = NULL;

	(void)args; /* a matrix of network devices */
	if (!face)
		return NULL;
	if (proto && face_protocol(face, proto, 0) == CW_OK)
		handle = engine; /* a number like the others; no function takes it */
	face_put(face);
	return handle;
}

int uninstallTransport(transfer_engine_t engine, const char *proto)
{
	return checked(engine, proto != NULL);
}

/* ------------------------------------------------------------------------------------------ segments */

static int open_segment(transfer_engine_t engine, const char *name, int fresh, segment_id_t *id_out)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	uint64_t number;
	int status;

	if (!face)
		return CW_ERR_INVALID;
	status = name && *name ? face_segment_open(face, name, fresh, &number) : CW_ERR_INVALID;
	if (status == CW_OK)
		*id_out = (segment_id_t)number;
	else if (name)
		face_log(face, CW_LOG_WARN, "the segment %s cannot be opened: %s", name, cw_last_error());
	face_put(face);
	return status;
}

segment_id_t openSegment(transfer_engine_t engine, const char *segment_name)
{
	segment_id_t id;

	return open_segment(engine, segment_name, 0, &id) == CW_OK ? id : -1;
}

segment_id_t openSegmentNoCache(transfer_engine_t engine, const char *segment_name)
{
	segment_id_t id;
	int status = open_segment(engine, segment_name, 1, &id);

	return status == CW_OK ? id : face_error(status);
}

int closeSegment(transfer_engine_t engine, segment_id_t segment_id)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	int status;

	if (!face)
		return argument_error;
	status = segment_id >= 0 ? face_segment_close(face, (uint64_t)segment_id) : CW_ERR_INVALID;
	face_put(face);
	return status == CW_OK ? 0 : argument_error;
}

int warmupEfaSegment(transfer_engine_t engine, const char *segment_name)
{
	return checked(engine, segment_name != NULL);
}

/* The name goes from the store when the engine is destroyed. */
int removeLocalSegment(transfer_engine_t engine, const char *segment_name)
{
	return checked(engine, segment_name != NULL);
}

int syncSegmentCache(transfer_engine_t engine)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	int status;

	if (!face)
		return argument_error;
	status = face_segments_refresh(face);
	face_put(face);
	return face_error(status);
}

/* -------------------------------------------------------------------------------------------- memory */

int registerLocalMemory(transfer_engine_t engine, void *addr, size_t length, const char *location,
			int remote_accessible)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	int status;

	if (!face)
		return argument_error;
	status = face_register(face, addr, length, location, remote_accessible ? CW_ACCESS_REMOTE : CW_ACCESS_LOCAL);
	face_put(face);
	return face_error(status);
}

int unregisterLocalMemory(transfer_engine_t engine, void *addr)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	int status;

	if (!face)
		return argument_error;
	status = face_unregister(face, addr, 0);
	face_put(face);
	return face_error(status);
}

int registerLocalMemoryBatch(transfer_engine_t engine, buffer_entry_t *buffer_list, size_t buffer_len,
			     const char *location)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	int status = buffer_list || !buffer_len ? CW_OK : CW_ERR_INVALID;
	size_t done = 0;

	if (!face)
		return argument_error;
	while (status == CW_OK && done < buffer_len) {
		status = face_register(face, buffer_list[done].addr, buffer_list[done].length, location,
				       CW_ACCESS_REMOTE);
		done += status == CW_OK;
	}
	while (status != CW_OK && done > 0)
		face_unregister(face, buffer_list[--done].addr, 0);
	face_put(face);
	return face_error(status);
}

int unregisterLocalMemoryBatch(transfer_engine_t engine, void **addr_list, size_t addr_len)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	int status = addr_list || !addr_len ? CW_OK : CW_ERR_INVALID;

	if (!face)
		return argument_error;
	for (size_t i = 0; addr_list && i < addr_len; i++) {
		int one = face_unregister(face, addr_list[i], 0);

		status = status == CW_OK ? one : status;
	}
	face_put(face);
	return face_error(status);
}

/* ------------------------------------------------------------------------------------------- batches */

batch_id_t allocateBatchID(transfer_engine_t engine, size_t batch_size)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	batch_id_t number = INVALID_BATCH;

	if (!face)
		return INVALID_BATCH;
	if (face_batch_open(face, batch_size, &number) != CW_OK)
		number = INVALID_BATCH;
	face_put(face);
	return number;
}

static int submit_entries(struct face_batch *batch, const struct transfer_request *entries, size_t count,
			  const struct face_message *message)
{
	struct face_transfer small[TRANSFERS_SMALL], *transfers = small;
	int status;

	if (count > face_batch_room(batch)) /* before an array is read that may be shorter */
		return CW_ERR_LIMIT;
	if (count > TRANSFERS_SMALL)
		transfers = malloc(count * sizeof(*transfers));
	if (!transfers)
		return CW_ERR_NO_MEMORY;
	transfers[0] = (struct face_transfer){ 0 };
	for (size_t i = 0; i < count; i++)
		/* A negative target becomes a number that no segment has. */
		transfers[i] = (struct face_transfer){ .opcode = entries[i].opcode,
						       .source = entries[i].source,
						       .target = (uint64_t)(int64_t)entries[i].target_id,
						       .offset = entries[i].target_offset,
						       .length = entries[i].length };
	status = face_batch_submit(batch, transfers, count, 0, message);
	if (transfers != small)
		free(transfers);
	return status;
}

static int submit(transfer_engine_t engine, batch_id_t batch_id, const struct transfer_request *entries, size_t count,
		  const struct face_message *message)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	struct face_batch *batch = face ? face_batch_get(face, batch_id) : NULL;
	int status = CW_ERR_INVALID;

	if (batch && (entries || !count))
		status = submit_entries(batch, entries, count, message);
	if (face && status != CW_OK)
		face_log(face, CW_LOG_WARN, "a submission was refused: %s",
			 !batch ? "there is no such batch" : cw_strerror(status));
	if (batch)
		face_batch_put(batch);
	if (face)
		face_put(face);
	return face_code(status);
}

int submitTransfer(transfer_engine_t engine, batch_id_t batch_id, struct transfer_request *entries, size_t count)
{
	return submit(engine, batch_id, entries, count, NULL);
}

int submitTransferWithNotify(transfer_engine_t engine, batch_id_t batch_id, struct transfer_request *entries,
			     size_t count, notify_msg_t notify_msg)
{
	struct face_message message = { .name = notify_msg.name ? notify_msg.name : "",
					.text = notify_msg.msg ? notify_msg.msg : "" };

	return submit(engine, batch_id, entries, count, &message);
}

int getTransferStatus(transfer_engine_t engine, batch_id_t batch_id, size_t task_id, struct transfer_status *status)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	struct face_batch *batch = face ? face_batch_get(face, batch_id) : NULL;
	struct face_progress progress;
	int code = argument_code;

	if (batch && status && face_batch_task(batch, task_id, &progress) == CW_OK) {
		status->transferred_bytes = progress.bytes;
		status->status = progress.status == CW_OK          ? STATUS_COMPLETED
				 : progress.status == CW_ERR_AGAIN ? STATUS_WAITING
								   : STATUS_FAILED;
		code = 0;
	}
	if (batch)
		face_batch_put(batch);
	if (face)
		face_put(face);
	return code;
}

int freeBatchID(transfer_engine_t engine, batch_id_t batch_id)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	struct face_batch *batch = face ? face_batch_get(face, batch_id) : NULL;
	int code = argument_code;

	if (batch) {
		int status = face_batch_close(batch);

		code = status == CW_ERR_NOT_FOUND ? argument_code : face_code(status);
		face_batch_put(batch);
	}
	if (face)
		face_put(face);
	return code;
}

/* ------------------------------------------------------------------------------------- notifications */

/* Ends with an empty row, so that a wrong size does no harm. */
notify_msg_t *getNotifsFromEngine(transfer_engine_t engine, int *size)
{
	struct face *face = size ? face_get(FACE_CLASSIC, engine) : NULL;
	notify_msg_t *list = NULL;
	struct face_note note;
	int count = 0;

	if (size)
		*size = 0;
	if (!face)
		return NULL;
	while (face_note_next(face, &note) == CW_OK) {
		notify_msg_t *grown =
			(count & (count + 1)) == 0 ? realloc(list, (2 * (size_t)count + 3) * sizeof(*list)) : list;

		free(note.sender);
		note.sender = NULL;
		if (!grown) {
			face_log(face, CW_LOG_ERROR, "out of memory: a notification is lost");
			face_note_clear(&note);
			break;
		}
		list = grown;
		list[count++] = (notify_msg_t){ .name = note.name, .msg = note.text };
		list[count] = (notify_msg_t){ .name = NULL, .msg = NULL };
	}
	face_put(face);
	*size = count;
	return list;
}

int freeNotifsMsgBuf(notify_msg_t *msg, int size)
{
	if (size < 0)
		return argument_error;
	for (int i = 0; msg && msg[i].name; i++) {
		free(msg[i].name);
		free(msg[i].msg);
	}
	free(msg);
	return 0;
}

int genNotifyInEngine(transfer_engine_t engine, uint64_t target_id, notify_msg_t notify_msg)
{
	struct face *face = face_get(FACE_CLASSIC, engine);
	int status;

	if (!face)
		return argument_error;
	status = face_notify(face, target_id, notify_msg.name ? notify_msg.name : "",
			     notify_msg.msg ? notify_msg.msg : "");
	face_put(face);
	return face_error(status);
}

/* --------------------------------------------------------------------------------------------- state */

int getNicLoadStats(transfer_engine_t engine, nic_load_stat_t *stats, size_t *count)
{
	struct face *face = stats && count ? face_get(FACE_CLASSIC, engine) : NULL;
	struct face_load load;
	int status;

	if (!face)
		return argument_error;
	status = face_load_get(face, &load);
	face_put(face);
	if (status != CW_OK)
		return face_error(status);
	if (*count) {
		memcpy(stats[0].device_name, load.device, sizeof(stats[0].device_name));
		stats[0].inflight_bytes = load.inflight_bytes;
		stats[0].ewma_bandwidth_bps = load.bytes_per_second;
	}
	*count = 1;
	return 0;
}

void enableGracefulShutdown(transfer_engine_t engine)
{
	struct face *face = face_get(FACE_CLASSIC, engine);

	if (!face)
		return;
	face_graceful(face);
	face_put(face);
}

/* Text for people may be cut off; half of a JSON document is of no use. */
int showLinks(transfer_engine_t engine, char *buf_out, size_t buf_len, int json)
{
	struct face *face = buf_out && buf_len ? face_get(FACE_CLASSIC, engine) : NULL;
	char *text;
	int fits;

	if (!face)
		return argument_error;
	text = face_links(face, json);
	face_put(face);
	if (!text)
		return face_error(CW_ERR_NO_MEMORY);
	fits = strlen(text) < buf_len;
	snprintf(buf_out, buf_len, "%s", fits || !json ? text : "");
	free(text);
	return fits || !json ? 0 : argument_error;
}
