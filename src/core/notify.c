/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notifications: sent when all requests of a batch are visible, or alone; received at most once, told apart by the
 * sender's instance and a sequence number. To a classic peer they are text in a classic control message.
 */
#include <core/core.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENCODED_MAX (CW_NOTIFY_MAX + 1024u)

/* ------------------------------------------------------------------------------------------- sending */

static int is_text(const void *data, size_t length)
{
	return !length || cw__classic_is_text(data, length);
}

static int check(const struct cw_engine *engine, const struct cw_notify *notify, const struct cw_segment *segment)
{
	if (!segment || segment->engine != engine)
		return cw__fail(CW_ERR_INVALID, "notification: its segment is missing or not one of this engine");
	if (notify->length > CW_NOTIFY_MAX || (notify->length && !notify->data))
		return cw__fail(CW_ERR_LIMIT, "notification: %zu bytes; at most %d are possible", notify->length,
				CW_NOTIFY_MAX);
	if (notify->name && strlen(notify->name) > CW__NAME_MAX)
		return cw__fail(CW_ERR_LIMIT, "notification: its name is longer than %d bytes", CW__NAME_MAX);
	if (segment->peer.classic &&
	    (!is_text(notify->data, notify->length) || (notify->name && !is_text(notify->name, strlen(notify->name)))))
		return cw__fail(CW_ERR_UNSUPPORTED, "notification: a classic peer takes UTF-8 text without NUL bytes");
	return CW_OK;
}

static int fill(struct cw__sending *sending, struct cw_batch *batch, const struct cw_notify *notify,
		struct cw_segment *segment)
{
	sending->data = malloc(notify->length + 1);
	if (!sending->data)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory for a notification");
	if (notify->length)
		memcpy(sending->data, notify->data, notify->length);
	((char *)sending->data)[notify->length] = 0;
	sending->length = notify->length;
	snprintf(sending->name, sizeof(sending->name), "%s", notify->name ? notify->name : "");
	sending->batch = batch;
	sending->segment = segment;
	atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
	return CW_OK;
}

/* The target of a notification that names none: the batch's only one. */
static struct cw_segment *only_target(const struct cw_batch *batch)
{
	for (size_t i = 1; i < batch->count; i++)
		if (batch->requests[i].segment != batch->requests[0].segment)
			return NULL;
	return batch->count ? batch->requests[0].segment : NULL;
}

int cw__notify_accept(struct cw_batch *batch, const struct cw_batch_options *options)
{
	batch->sendings = calloc(options->notify_count, sizeof(*batch->sendings));
	if (!batch->sendings)
		return cw__fail(CW_ERR_NO_MEMORY, "out of memory for notifications");
	for (uint32_t i = 0; i < options->notify_count; i++) {
		const struct cw_notify *notify = &options->notify[i];
		struct cw_segment *segment = notify->segment ? notify->segment : only_target(batch);
		int status = check(batch->engine, notify, segment);

		if (!status)
			status = fill(&batch->sendings[i], batch, notify, segment);
		if (status)
			return status;
		batch->sending_count++;
	}
	return CW_OK;
}

static void sent(void *arg, int status, const void *body, size_t length)
{
	struct cw__sending *sending = arg;
	struct cw_batch *batch = sending->batch;

	(void)body;
	(void)length;
	if (status == CW_ERR_PEER_DOWN || status == CW_ERR_TIMED_OUT)
		status = CW_ERR_NOTIFY_UNKNOWN;
	if (!status) {
		cw__count(batch->engine, notifications_sent, 1);
	} else {
		pthread_mutex_lock(&batch->lock);
		cw__batch_explain(batch, status, "notification to %s: %s", sending->segment->name, cw_strerror(status));
		pthread_mutex_unlock(&batch->lock);
	}
	cw__batch_notified(batch);
}

static void sent_classic(void *arg, int status, const void *body, size_t length)
{
	struct cw__classic_notify answer;
	char why[100];

	if (!status)
		status = cw__classic_notify_decode(body, length, &answer, why, sizeof(why));
	if (!status) {
		if (!*answer.message) /* the classic way to refuse */
			status = CW_ERR_LIMIT;
		cw__classic_notify_free(&answer);
	}
	sent(arg, status, NULL, 0);
}

static int send_classic(struct cw__sending *sending, uint64_t timeout)
{
	size_t length;
	char *json = cw__classic_notify_encode(sending->name, sending->data, &length);
	int status;

	if (!json)
		return CW_ERR_NO_MEMORY;
	status = cw__control.classic_request(sending->segment->link, CW__CLASSIC_NOTIFY, json, length, timeout,
					     sent_classic, sending);
	free(json);
	return status;
}

static struct cw__text text_of(const char *string)
{
	struct cw__text text = { string, (uint16_t)strlen(string) };

	return text;
}

static int send_native(struct cw__sending *sending, uint64_t timeout)
{
	struct cw_engine *engine = sending->batch->engine;
	struct cw__notify notify = {
		.sequence = atomic_fetch_add_explicit(&engine->next_notify, 1, memory_order_relaxed) + 1,
		.sender = text_of(engine->name),
		.name = text_of(sending->name),
		.data = sending->data,
		.length = (uint32_t)sending->length,
	};
	unsigned char *body;
	size_t length;
	int status;

	if (sending->segment->self)
		return cw__core_notify(&engine->host.base, engine->instance, notify.sequence, notify.sender,
				       notify.name, notify.data, notify.length);
	body = malloc(ENCODED_MAX);
	if (!body)
		return CW_ERR_NO_MEMORY;
	length = cw__notify_encode(&notify, body, ENCODED_MAX);
	status = cw__control.request(sending->segment->link, CW__CONTROL_NOTIFY, body, length, timeout, sent, sending);
	free(body);
	return status;
}

static void send_on_loop(struct cw_task *task)
{
	struct cw__sending *sending = cw__container(task, struct cw__sending, task);
	struct cw_batch *batch = sending->batch;
	uint64_t now = cw__now(), timeout = batch->deadline > now ? batch->deadline - now : 1;
	int status = cw__segment_usable(sending->segment);

	if (status == CW_ERR_AGAIN)
		status = CW_ERR_PEER_DOWN; /* not sent, so not unknown; but the data has arrived */
	if (status) {
		pthread_mutex_lock(&batch->lock);
		cw__batch_explain(batch, status, "notification to %s: %s", sending->segment->name, cw_strerror(status));
		pthread_mutex_unlock(&batch->lock);
		cw__batch_notified(batch);
		return;
	}
	status = sending->segment->peer.classic ? send_classic(sending, timeout) : send_native(sending, timeout);
	if (status || sending->segment->self)
		sent(sending, status, NULL, 0);
}

void cw__notify_send_all(struct cw_batch *batch)
{
	size_t count = batch->sending_count;

	atomic_store_explicit(&batch->sendings_open, (uint32_t)count, memory_order_relaxed);
	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
	for (size_t i = 0; i < count; i++) {
		struct cw__sending *sending = &batch->sendings[i];

		sending->task.run = send_on_loop;
		if (cw__loop_current() == sending->segment->loop)
			send_on_loop(&sending->task);
		else
			cw__task_post(sending->segment->loop, &sending->task);
	}
	cw__batch_put(batch);
}

int cw_notify_send(struct cw_engine *engine, const struct cw_notify *notify, uint64_t timeout)
{
	struct cw_batch_options options = CW_BATCH_OPTIONS_INIT;
	struct cw_batch_result result = { .size = sizeof(result) };
	struct cw_batch *batch;
	int status;

	if (!notify)
		return cw__fail(CW_ERR_INVALID, "no notification");
	options.notify = notify;
	options.notify_count = 1;
	options.deadline_ns = cw__after(cw__now(), timeout);
	status = cw_batch_submit(engine, NULL, 0, &options, &batch);
	if (status)
		return status;
	status = cw_batch_wait(batch, CW_FOREVER);
	if (!status)
		status = cw_batch_result_get(batch, &result);
	cw_batch_release(batch);
	if (!status && result.status)
		status = cw__fail(result.status, "%s", result.text);
	return status;
}

/* ----------------------------------------------------------------------------------------- receiving */

/* 1 = this one was here before. With engine->sender_lock. A sequence older than the window counts as seen. */
static int is_duplicate(struct cw__sender *sender, const unsigned char *instance, uint64_t sequence)
{
	uint64_t behind;

	if (memcmp(sender->instance, instance, CW__INSTANCE_BYTES)) {
		memcpy(sender->instance, instance, CW__INSTANCE_BYTES);
		sender->newest = sequence;
		sender->seen = 1;
		return 0;
	}
	if (sequence > sender->newest) {
		uint64_t ahead = sequence - sender->newest;

		sender->seen = ahead < 64 ? sender->seen << ahead | 1 : 1;
		sender->newest = sequence;
		return 0;
	}
	behind = sender->newest - sequence;
	if (behind >= 64 || sender->seen & 1ull << behind)
		return 1;
	sender->seen |= 1ull << behind;
	return 0;
}

/* It was refused: when it is sent again it is no duplicate. */
static void forget(struct cw__sender *sender, uint64_t sequence)
{
	sender->seen &= ~(1ull << (sender->newest - sequence));
}

static struct cw__sender *sender_of(struct cw_engine *engine, const unsigned char *instance)
{
	uint32_t hash = 2166136261u;

	for (int i = 0; i < CW__INSTANCE_BYTES; i++)
		hash = (hash ^ instance[i]) * 16777619u;
	if (!engine->senders)
		engine->senders = calloc(CW__SENDERS, sizeof(*engine->senders));
	return engine->senders ? &engine->senders[hash % CW__SENDERS] : NULL;
}

int cw__core_notify(struct cw_host *host, const unsigned char *instance, uint64_t sequence, struct cw__text sender,
		    struct cw__text name, const void *data, size_t length)
{
	struct cw_engine *engine = cw__engine_of(host);
	uint64_t limit = cw__config_number(&engine->config, "notify/max_pending", 0);
	struct cw__sender *known = NULL;
	int status;

	pthread_mutex_lock(&engine->sender_lock);
	if (sequence)
		known = sender_of(engine, instance);
	if (known && is_duplicate(known, instance, sequence)) {
		pthread_mutex_unlock(&engine->sender_lock);
		return CW_OK;
	}
	status = cw__queue_push_notify(&engine->queue, sender, name, data, length, limit);
	if (status && known)
		forget(known, sequence);
	pthread_mutex_unlock(&engine->sender_lock);
	if (status)
		cw__count(engine, notifications_dropped, 1);
	else
		cw__count(engine, notifications_received, 1);
	return status;
}
