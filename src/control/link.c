/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a peer is reached. All its addresses race, a little apart; the first that gives its classic descriptor wins. When
 * the descriptor announces the native protocol, the advertised addresses race again with a hello, the one that answered
 * ahead of the rest. request.c takes over the greeted connection. There is no automatic reconnection: the core says
 * when. Where a store knows the peer its descriptor is given: the addresses of a classic one race with a Probe, those
 * of one of ours with the hello.
 */
#include <control/control.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STAGGER (50 * CW__MS) /* how much later the next best address starts */

static void race_next(struct cw__link *link);

/* ------------------------------------------------------------------------------------- lifetime */

static void link_free(struct cw__link *link)
{
	pthread_mutex_lock(&link->control->lock);
	cw__list_remove(&link->node);
	pthread_mutex_unlock(&link->control->lock);
	cw__control_stream_free(&link->stream);
	cw__requests_free(link);
	if (link->described)
		cw__descriptor_free(&link->descriptor);
	free(link->welcome_bytes.data);
	free(link);
}

void cw__link_leave(struct cw__link *link)
{
	if (--link->entered == 0 && link->closed && !link->start_posted)
		link_free(link);
}

void cw__links_free(struct cw__control *control)
{
	/* No loop runs any more, so the start task of a closed link will not either. */
	while (!cw__list_empty(&control->links)) {
		struct cw__link *link = cw__container(control->links.next, struct cw__link, node);

		if (!link->closed)
			cw__link_close(link);
		else
			link_free(link);
	}
}

/* ----------------------------------------------------------------------------------- the outcome */

static void race_stop(struct cw__link *link)
{
	struct cw__list *at;

	link->host->ops->timer_stop(link->loop, &link->stagger);
	link->race_next = link->race_count;
	while ((at = cw__list_pop(&link->dials))) {
		struct cw__dial *dial = cw__container(at, struct cw__dial, node);

		cw__dial_stop(dial);
		free(dial);
	}
}

/* The attempt is over without success. */
static void link_failed(struct cw__link *link, int status, const char *text)
{
	race_stop(link);
	link->host->ops->timer_stop(link->loop, &link->deadline);
	link->phase = CW__LINK_DOWN;
	if (link->was_up && (status == CW_ERR_CONNECT || status == CW_ERR_TIMED_OUT))
		status = CW_ERR_PEER_DOWN;
	cw__core_link_down(link->segment, status, text);
}

static void link_is_up(struct cw__link *link)
{
	race_stop(link);
	link->host->ops->timer_stop(link->loop, &link->deadline);
	link->phase = CW__LINK_UP;
	link->was_up = 1;
	link->info.descriptor = &link->descriptor;
	memcpy(link->info.address, link->target.host, sizeof(link->info.address));
	link->info.port = link->target.port;
	cw__core_link_up(link->segment, &link->info);
}

/* How much a failure tells: the address that got furthest speaks for all. */
static int failure_rank(int status)
{
	switch (status) {
	case CW_ERR_PEER_RESTARTED:
		return 4;
	case CW_ERR_PROTOCOL:
		return 3;
	case CW_ERR_PEER_DOWN:
		return 2;
	default:
		return status ? 1 : 0;
	}
}

__attribute__((format(printf, 4, 5))) static void failure_note(struct cw__link *link, int status,
							       const struct cw__target *target, const char *format, ...)
{
	va_list arguments;
	int used;

	if (status == CW_ERR_PROTOCOL)
		link->host->ops->protocol_error(link->host, target->text, "malformed answer to a new connection");
	if (failure_rank(status) <= failure_rank(link->failure))
		return;
	link->failure = status;
	used = snprintf(link->failure_text, sizeof(link->failure_text), "peer \"%.80s\" at %s: ", link->name,
			target->text);
	va_start(arguments, format);
	if (used > 0 && (size_t)used < sizeof(link->failure_text))
		vsnprintf(link->failure_text + used, sizeof(link->failure_text) - (size_t)used, format, arguments);
	va_end(arguments);
}

static void fetch_begin(struct cw__link *link);

/* Every address failed. */
static void race_lost(struct cw__link *link)
{
	int status = link->failure;
	char text[sizeof(link->failure_text)];

	/* Somebody is there who does not know our hello, or, before we knew the peer, is not whom the store means: its
	 * descriptor says who. */
	if (link->phase == CW__LINK_GREETING && !link->refetched && failure_rank(status) > 1 &&
	    (link->was_up ? status != CW_ERR_PEER_RESTARTED : link->named)) {
		link->refetched = 1;
		fetch_begin(link);
		return;
	}
	if (status == CW_ERR_PEER_DOWN && !link->was_up)
		status = CW_ERR_CONNECT;
	memcpy(text, link->failure_text, sizeof(text));
	link_failed(link, status, text);
}

static void link_late(struct cw_timer *timer)
{
	struct cw__link *link = cw__container(timer, struct cw__link, deadline);
	const char *at = link->race_count ? link->race[0].text : "?";
	char text[240];

	cw__link_enter(link);
	snprintf(text, sizeof(text), "peer \"%.80s\" at %s: no answer within %llu ms", link->name, at,
		 (unsigned long long)(link->timeout / CW__MS));
	link_failed(link, CW_ERR_TIMED_OUT, text);
	cw__link_leave(link);
}

/* ------------------------------------------------------------------------------------ the welcome */

/* What the welcome says; CW_OK = we are in. */
static int welcome_check(struct cw__link *link, const struct cw__dial *dial, const struct cw__welcome *welcome)
{
	int status = welcome->status;

	if (!status && memcmp(welcome->instance, link->descriptor.instance, CW__INSTANCE_BYTES))
		status = CW_ERR_PEER_RESTARTED;
	if (status == CW_ERR_PEER_RESTARTED) {
		failure_note(link, status, &dial->target, "another engine answers there now");
		return status;
	}
	if (!status && link->named &&
	    (welcome->name.length != strlen(link->name) ||
	     memcmp(welcome->name.data, link->name, welcome->name.length))) {
		failure_note(link, CW_ERR_CONNECT, &dial->target, "\"%.*s\" answers there",
			     welcome->name.length < 60 ? welcome->name.length : 60, welcome->name.data);
		return CW_ERR_CONNECT;
	}
	if (status || welcome->data_connection || welcome->version != CW__NATIVE_VERSION) {
		failure_note(link, CW_ERR_PROTOCOL, &dial->target, "the hello was refused: %s",
			     status ? cw_strerror(status) : "wrong kind or version of welcome");
		return CW_ERR_PROTOCOL;
	}
	return CW_OK;
}

/* The dial brought a whole welcome. CW_OK: the link lives on its connection. */
static int welcome_take(struct cw__link *link, struct cw__dial *dial)
{
	uint64_t received = link->host->ops->now();
	struct cw__welcome welcome;
	int status;

	if (cw__welcome_decode(cw__control_stream_data(&dial->stream), dial->wanted, &welcome)) {
		failure_note(link, CW_ERR_PROTOCOL, &dial->target, "malformed welcome");
		return CW_ERR_PROTOCOL;
	}
	status = welcome_check(link, dial, &welcome);
	if (status)
		return status;
	status = cw__link_adopt(link, cw__control_stream_release(&dial->stream));
	if (status) {
		failure_note(link, status, &dial->target, "%s", cw_strerror(status));
		return status;
	}
	/* The texts and blobs of the welcome lie in the bytes of the dial: keep them. */
	free(link->welcome_bytes.data);
	link->welcome_bytes = dial->stream.in;
	dial->stream.in = (struct cw__buffer){ 0 };
	link->welcome = welcome;
	link->info.classic = 0;
	link->info.welcome = &link->welcome;
	link->info.clock_offset = welcome.clock_ns - received;
	link->target = dial->target;
	return CW_OK;
}

static void greet_done(struct cw__link *link, struct cw__dial *dial, int status)
{
	if (status)
		failure_note(link, status, &dial->target, "%s", cw__dial_reason(dial, status));
	else
		status = welcome_take(link, dial);
	if (status)
		race_next(link);
	else
		link_is_up(link);
}

/* `first` and whatever else the peer said about itself. */
static void greet_begin(struct cw__link *link, const struct cw__target *first)
{
	struct cw__target proven = *first;

	race_stop(link);
	link->phase = CW__LINK_GREETING;
	link->race[0] = proven;
	link->race_count = 1;
	for (size_t i = 0; i < link->given_count && link->race_count < CW__TARGETS_MAX; i++)
		if (!link->was_up && strcmp(link->given[i].text, proven.text))
			link->race[link->race_count++] = link->given[i];
	for (unsigned i = 0; i < link->descriptor.address_count; i++)
		link->race_count = cw__targets_resolve(link->descriptor.addresses[i], 0, link->race, link->race_count);
	link->race_next = 0;
	link->failure = CW_OK;
	/* By the timer, so that no caller of this link is called back before its own call returned. */
	link->host->ops->timer_set(link->loop, &link->stagger, link->host->ops->now());
}

/* ---------------------------------------------------------------------------------- the descriptor */

/* Is this who we want, and, after the first time, still the one we had? */
static int descriptor_check(struct cw__link *link, const struct cw__dial *dial, const struct cw__descriptor *descriptor)
{
	if (link->named && strcmp(descriptor->name, link->name)) {
		failure_note(link, CW_ERR_CONNECT, &dial->target, "\"%.60s\" answers there", descriptor->name);
		return CW_ERR_CONNECT;
	}
	if (link->was_up && memcmp(descriptor->instance, link->descriptor.instance, CW__INSTANCE_BYTES)) {
		failure_note(link, CW_ERR_PEER_RESTARTED, &dial->target, "another engine answers there now");
		return CW_ERR_PEER_RESTARTED;
	}
	return CW_OK;
}

static int descriptor_take(struct cw__link *link, struct cw__dial *dial)
{
	static const unsigned char nobody[CW__INSTANCE_BYTES];
	struct cw__descriptor descriptor;
	const char *json;
	size_t length;
	char why[120];
	int status = cw__dial_classic_reply(dial, CW__CLASSIC_METADATA, &json, &length);

	if (status) {
		failure_note(link, status, &dial->target, "the reply is no descriptor");
		return status;
	}
	status = cw__descriptor_decode(json, length, &descriptor, why, sizeof(why));
	if (status) {
		failure_note(link, status, &dial->target, "bad descriptor: %s",
			     status == CW_ERR_PROTOCOL ? why : cw_strerror(status));
		return status;
	}
	if (!descriptor.native)
		memcpy(descriptor.instance, nobody, CW__INSTANCE_BYTES);
	status = descriptor_check(link, dial, &descriptor);
	if (status) {
		cw__descriptor_free(&descriptor);
		return status;
	}
	if (link->described)
		cw__descriptor_free(&link->descriptor);
	link->descriptor = descriptor;
	link->described = 1;
	return CW_OK;
}

static void fetch_done(struct cw__link *link, struct cw__dial *dial, int status)
{
	if (status)
		failure_note(link, status, &dial->target,
			     status == CW_ERR_PROTOCOL ? "%s (control/classic_max_length is the limit)" : "%s",
			     cw__dial_reason(dial, status));
	else
		status = descriptor_take(link, dial);
	if (status) {
		race_next(link);
		return;
	}
	link->target = dial->target;
	if (link->descriptor.native) {
		greet_begin(link, &dial->target);
		return;
	}
	link->info = (struct cw__link_info){ .classic = 1 };
	link_is_up(link);
}

/* Whatever it answers shows that somebody is there; engines from before the Probe just close. */
static void probe_done(struct cw__link *link, struct cw__dial *dial, int status)
{
	if (status && !dial->connected) {
		failure_note(link, status, &dial->target, "%s", cw__dial_reason(dial, status));
		race_next(link);
		return;
	}
	link->target = dial->target;
	link->info = (struct cw__link_info){ .classic = 1 };
	link_is_up(link);
}

/* Asks the given addresses: for the descriptor, or for a sign of life when that is given. */
static void fetch_begin(struct cw__link *link)
{
	race_stop(link);
	link->phase = link->given_descriptor ? CW__LINK_PROBING : CW__LINK_FETCHING;
	link->race_count = 0;
	if (link->was_up)
		link->race[link->race_count++] = link->target;
	for (size_t i = 0; i < link->given_count && link->race_count < CW__TARGETS_MAX; i++)
		if (!link->was_up || strcmp(link->given[i].text, link->target.text))
			link->race[link->race_count++] = link->given[i];
	link->race_next = 0;
	link->failure = CW_OK;
	link->host->ops->timer_set(link->loop, &link->stagger, link->host->ops->now());
}

/* -------------------------------------------------------------------------------------- the race */

static void race_dial_done(struct cw__dial *dial, int status)
{
	struct cw__link *link = dial->owner;

	cw__link_enter(link);
	cw__list_remove(&dial->node);
	if (link->phase == CW__LINK_FETCHING)
		fetch_done(link, dial, status);
	else if (link->phase == CW__LINK_PROBING)
		probe_done(link, dial, status);
	else
		greet_done(link, dial, status);
	cw__dial_stop(dial);
	free(dial);
	cw__link_leave(link);
}

/* The first message of a dial: a Metadata request or a hello. 0 = it does not fit, which cannot be. */
static size_t race_message(struct cw__link *link, unsigned char *out, size_t capacity)
{
	struct cw_host *host = link->host;
	struct cw__hello hello = { .version = CW__NATIVE_VERSION };
	struct cw__welcome own = { 0 };

	if (link->phase == CW__LINK_FETCHING)
		return cw__classic_encode(CW__CLASSIC_METADATA, CW__CLASSIC_NATIVE_REQUEST,
					  sizeof(CW__CLASSIC_NATIVE_REQUEST) - 1, out, capacity);
	if (link->phase == CW__LINK_PROBING)
		return cw__classic_encode(CW__CLASSIC_PROBE, "{}\n", 3, out, capacity);
	/* The core knows what this engine says about itself; a welcome and a hello say the same. */
	cw__core_welcome(host, &own);
	memcpy(hello.instance, own.instance, CW__INSTANCE_BYTES);
	memcpy(hello.machine, own.machine, CW__INSTANCE_BYTES);
	memcpy(hello.expected, link->descriptor.instance, CW__INSTANCE_BYTES);
	hello.pid = own.pid;
	hello.name = own.name;
	hello.clock_ns = host->ops->now();
	return cw__hello_encode(&hello, out, capacity);
}

static int race_start(struct cw__link *link, const struct cw__target *target)
{
	unsigned char message[CW__HELLO_MAX];
	size_t length = race_message(link, message, sizeof(message));
	struct cw__dial *dial = length ? calloc(1, sizeof(*dial)) : NULL;
	int status;

	if (!dial) {
		status = length ? CW_ERR_NO_MEMORY : CW_ERR_INTERNAL;
		failure_note(link, status, target, "%s", cw_strerror(status));
		return status;
	}
	dial->target = *target;
	dial->native = link->phase == CW__LINK_GREETING;
	dial->reply_max = dial->native ? CW__WELCOME_MAX : link->control->classic_max;
	dial->owner = link;
	dial->done = race_dial_done;
	status = cw__dial_start(dial, link->host, link->loop, message, length);
	if (status) {
		failure_note(link, status, target, "%s", cw__dial_reason(dial, status));
		free(dial);
		return status;
	}
	cw__list_push_back(&link->dials, &dial->node);
	return CW_OK;
}

/* Starts the next address. May end the attempt. */
static void race_next(struct cw__link *link)
{
	while (link->race_next < link->race_count) {
		if (race_start(link, &link->race[link->race_next++]))
			continue;
		if (link->race_next < link->race_count)
			link->host->ops->timer_set(link->loop, &link->stagger, link->host->ops->now() + STAGGER);
		return;
	}
	if (cw__list_empty(&link->dials))
		race_lost(link);
}

static void link_stagger(struct cw_timer *timer)
{
	struct cw__link *link = cw__container(timer, struct cw__link, stagger);

	cw__link_enter(link);
	race_next(link);
	cw__link_leave(link);
}

/* ------------------------------------------------------------------------- open, close and retry */

static void attempt_begin(struct cw__link *link)
{
	link->refetched = 0;
	link->host->ops->timer_set(link->loop, &link->deadline, cw__after(link->host->ops->now(), link->timeout));
	if (link->described && link->descriptor.native)
		greet_begin(link, link->was_up ? &link->target : &link->given[0]);
	else
		fetch_begin(link);
}

static void link_start(struct cw_task *task)
{
	struct cw__link *link = cw__container(task, struct cw__link, start);

	cw__link_enter(link);
	link->start_posted = 0;
	if (!link->closed)
		attempt_begin(link);
	cw__link_leave(link);
}

/* The link's own copy. Only those of classic peers need their buffers. */
static int descriptor_give(struct cw__link *link, const struct cw__descriptor *given)
{
	struct cw__descriptor copy = *given;

	copy.buffers = NULL;
	if (copy.native)
		copy.buffer_count = 0;
	if (copy.buffer_count) {
		copy.buffers = malloc(copy.buffer_count * sizeof(*copy.buffers));
		if (!copy.buffers)
			return CW_ERR_NO_MEMORY;
		memcpy(copy.buffers, given->buffers, copy.buffer_count * sizeof(*copy.buffers));
	}
	if (link->described)
		cw__descriptor_free(&link->descriptor);
	link->descriptor = copy;
	link->described = 1;
	link->given_descriptor = !copy.native;
	return CW_OK;
}

int cw__link_open(struct cw__control *control, const struct cw__link_options *options, struct cw__link **link_out)
{
	uint64_t until = cw__after(control->host->ops->now(), options->timeout);
	struct cw__link *link = calloc(1, sizeof(*link));

	if (!link || (options->descriptor && descriptor_give(link, options->descriptor))) {
		free(link);
		return CW_ERR_NO_MEMORY;
	}
	link->named = options->named;
	for (size_t i = 0; i < options->address_count; i++)
		link->given_count = cw__targets_resolve(options->addresses[i], until, link->given, link->given_count);
	if (!link->given_count) {
		control->host->ops->log(control->host, CW_LOG_INFO, "control: \"%s\" has no address", options->name);
		if (link->described)
			cw__descriptor_free(&link->descriptor);
		free(link);
		return CW_ERR_ADDRESS;
	}
	link->control = control;
	link->host = control->host;
	link->loop = options->loop;
	link->segment = options->segment;
	link->timeout = options->timeout;
	snprintf(link->name, sizeof(link->name), "%s", options->name);
	cw__list_init(&link->dials);
	cw__requests_init(link);
	link->stream.io.fd = -1;
	link->stagger.fire = link_stagger;
	link->deadline.fire = link_late;
	link->start.run = link_start;
	link->start_posted = 1;
	pthread_mutex_lock(&control->lock);
	cw__list_push_back(&control->links, &link->node);
	pthread_mutex_unlock(&control->lock);
	*link_out = link;
	link->host->ops->task_post(link->loop, &link->start);
	return CW_OK;
}

void cw__link_close(struct cw__link *link)
{
	cw__link_enter(link);
	link->closed = 1;
	link->phase = CW__LINK_DOWN;
	race_stop(link);
	link->host->ops->timer_stop(link->loop, &link->deadline);
	cw__requests_end(link, CW_ERR_CLOSED);
	cw__exchanges_end(link, CW_ERR_CLOSED);
	cw__link_goodbye(link);
	cw__link_leave(link);
}

void cw__link_retry(struct cw__link *link)
{
	if (link->closed || link->start_posted || (link->phase != CW__LINK_UP && link->phase != CW__LINK_DOWN))
		return;
	if (link->phase == CW__LINK_UP && !link->info.classic)
		return;
	attempt_begin(link);
}

void cw__link_move(struct cw__link *link, const struct cw__link_options *options)
{
	char text[200];

	if (link->closed)
		return;
	cw__link_enter(link);
	link->given_count = 0;
	for (size_t i = 0; i < options->address_count; i++)
		link->given_count = cw__targets_resolve(options->addresses[i], 0, link->given, link->given_count);
	if (link->given_count)
		link->target = link->given[0];
	if (!link->given_count || descriptor_give(link, options->descriptor)) {
		snprintf(text, sizeof(text), "peer \"%.80s\": it has no address, or memory ran out", link->name);
		link_failed(link, CW_ERR_PEER_DOWN, text);
	} else {
		attempt_begin(link);
	}
	cw__link_leave(link);
}

void cw__link_lost(struct cw__link *link, int status, const char *why)
{
	char text[200];

	cw__control_stream_close(&link->stream);
	link->phase = CW__LINK_DOWN;
	cw__requests_end(link, status);
	if (link->closed)
		return;
	snprintf(text, sizeof(text), "peer \"%.80s\" at %s: %s", link->name, link->target.text, why);
	cw__core_link_down(link->segment, status, text);
}
