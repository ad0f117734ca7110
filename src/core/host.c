/* SPDX-License-Identifier: Apache-2.0 */
/* What the core offers to its parts: the table of host services of plugin.h. Larger ones live beside their subject. */
#include <core/core.h>
#include <stdlib.h>
#include <string.h>

static void host_log(struct cw_host *host, enum cw_log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	cw__log_write(&cw__engine_of(host)->log, level, format, arguments);
	va_end(arguments);
}

static const char *host_setting(struct cw_host *host, const char *key)
{
	return cw__config_text(&cw__engine_of(host)->config, key);
}

static uint64_t host_setting_number(struct cw_host *host, const char *key, uint64_t fallback)
{
	return cw__config_number(&cw__engine_of(host)->config, key, fallback);
}

static uint64_t host_now(void)
{
	return cw__now();
}

static const unsigned char *host_instance(struct cw_host *host)
{
	return cw__engine_of(host)->instance;
}

static const char *host_engine_name(struct cw_host *host)
{
	return cw__engine_of(host)->name;
}

static struct cw_loop *host_loop_pick(struct cw_host *host)
{
	return cw__loop_choose(cw__engine_of(host));
}

static void host_protocol_error(struct cw_host *host, const char *who, const char *what)
{
	cw__count(cw__engine_of(host), protocol_errors, 1);
	cw__log(cw__engine_of(host), CW_LOG_INFO, "refused a message from %s: %s", who, what);
}

static int host_message(struct cw_host *host, struct cw_peer *peer, const void *data, size_t length,
			void (*answered)(void *arg, int status, const void *reply, size_t reply_length), void *arg)
{
	struct cw_segment *segment = (struct cw_segment *)peer;
	struct cw_engine *engine = cw__engine_of(host);
	struct cw__message message = { .data = data, .length = (uint32_t)length };
	unsigned char *body;
	size_t encoded;
	int status;

	if (!segment->link || peer->classic)
		return CW_ERR_UNSUPPORTED;
	for (unsigned i = 0; i < engine->part_count; i++) {
		const struct cw__part *part = &engine->parts[i];
		const char *name = part->wraps ? part->wraps : part->ops->name;

		if (&part->host.base == host->real)
			message.transport = (struct cw__text){ name, (uint16_t)strlen(name) };
	}
	body = malloc(length + 512);
	if (!body)
		return CW_ERR_NO_MEMORY;
	encoded = cw__message_encode(&message, body, length + 512);
	status = encoded ? cw__control.request(segment->link, CW__CONTROL_MESSAGE, body, encoded,
					       cw__config_number(&engine->config, "control/connect_timeout", 0),
					       answered, arg)
			 : CW_ERR_INVALID;
	free(body);
	return status;
}

static int host_blob_append(struct cw_blob *blob, const void *data, size_t length)
{
	if (length > blob->capacity - blob->length) {
		size_t capacity = blob->capacity ? blob->capacity : 64;
		unsigned char *grown;

		if (length > SIZE_MAX / 2 - blob->length)
			return CW_ERR_NO_MEMORY;
		while (capacity - blob->length < length)
			capacity *= 2;
		grown = realloc(blob->data, capacity);
		if (!grown)
			return CW_ERR_NO_MEMORY;
		blob->data = grown;
		blob->capacity = capacity;
	}
	if (length)
		memcpy(blob->data + blob->length, data, length);
	blob->length += length;
	return CW_OK;
}

static void host_blob_free(struct cw_blob *blob)
{
	free(blob->data);
	memset(blob, 0, sizeof(*blob));
}

static void host_keep(struct cw_host *host)
{
	cw__engine_of(host)->kept = 1;
}

const struct cw_host_ops cw__host_ops = {
	.abi = CW_PLUGIN_ABI,
	.log = host_log,
	.fail = cw__fail,
	.setting = host_setting,
	.setting_number = host_setting_number,
	.now = host_now,
	.instance = host_instance,
	.engine_name = host_engine_name,
	.loop_pick = host_loop_pick,
	.io_add = cw__io_add,
	.io_modify = cw__io_modify,
	.io_remove = cw__io_remove,
	.timer_set = cw__timer_set,
	.timer_stop = cw__timer_stop,
	.task_post = cw__task_post,
	.slice_pieces = cw__slice_pieces,
	.slice_done = cw__slice_done,
	.rail_ready = cw__host_rail_ready,
	.rail_state = cw__host_rail_state,
	.peer_failed = cw__host_peer_failed,
	.import_done = cw__host_import_done,
	.import_revoked = cw__host_import_revoked,
	.access_check = cw__host_access_check,
	.access_begin = cw__host_access_begin,
	.access_end = cw__host_access_end,
	.region_get = cw__host_region_get,
	.region_put = cw__host_region_put,
	.revoke_done = cw__host_revoke_done,
	.protocol_error = host_protocol_error,
	.message = host_message,
	.blob_append = host_blob_append,
	.blob_free = host_blob_free,
	.wrap = cw__host_wrap,
	.keep = host_keep,
};
