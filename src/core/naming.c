/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names: what this engine is called and what is published of it, and who is asked where a peer is. All of it goes
 * through the directory (directory_ops.h), which knows whether a name is an address or something in a store.
 */
#include <arpa/inet.h>
#include <core/naming.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cw__found_free(struct cw__found *found)
{
	cw__host_ops.blob_free(&found->addresses);
	free(found->descriptor.buffers);
	memset(found, 0, sizeof(*found));
}

int cw__in_store(const struct cw_engine *engine)
{
	return engine->metadata_ops && !engine->metadata_ops->addresses;
}

/* ------------------------------------------------------------------------------------------- our own name */

static int is_any(const char *host)
{
	static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
	struct in6_addr six;
	struct in_addr four;

	return (inet_pton(AF_INET, host, &four) == 1 && four.s_addr == INADDR_ANY) ||
	       (inet_pton(AF_INET6, host, &six) == 1 && !memcmp(&six, &any6, sizeof(six)));
}

int cw__core_listener(struct cw_host *host, struct cw__rpc_meta *listener_out)
{
	struct cw_engine *engine = cw__engine_of(host);
	const char *list = cw__config_text(&engine->config, "engine/advertise");
	char first[80];

	snprintf(first, sizeof(first), "%.*s", (int)strcspn(list, ","), list);
	if (*first && !cw__address_parse(first, engine->port, listener_out->host, sizeof(listener_out->host),
					 &listener_out->port))
		return CW_OK;
	if (is_any(engine->bind_host))
		return cw__fail(CW_ERR_ADDRESS,
				"%s is no address that peers could use; name the engine by one, or set "
				"engine/advertise",
				engine->bind_host);
	snprintf(listener_out->host, sizeof(listener_out->host), "%s", engine->bind_host);
	listener_out->port = engine->port;
	return CW_OK;
}

int cw__naming_choose(struct cw_engine *engine)
{
	const char *name = cw__config_text(&engine->config, "metadata/name");

	name += *name == '/';
	if (!*name || !cw__in_store(engine))
		return CW_OK;
	if (strlen(name) >= sizeof(engine->name))
		return cw__fail(CW_ERR_CONFIG, "metadata/name: it has more than %zu bytes", sizeof(engine->name) - 1);
	snprintf(engine->name, sizeof(engine->name), "%s", name);
	return CW_OK;
}

/* ------------------------------------------------------------------------------------------- our regions */

/* Peers that look regions up in a list have one in the store; what no peer may touch is not in it. */
static int is_listed(const struct cw_region *region)
{
	return cw__in_store(region->engine) && region->view.access;
}

void cw__region_changed(struct cw_region *region)
{
	if (is_listed(region))
		cw__directory.changed(region->engine->directory);
}

void cw__region_gone_publish(struct cw_region *region)
{
	struct cw_engine *engine = region->engine;

	if (is_listed(region))
		cw__directory.await(engine->directory, cw__directory.changed(engine->directory), CW_FOREVER);
}

int cw__region_publish(struct cw_region *region, uint64_t until)
{
	uint64_t ticket;

	if (!is_listed(region))
		return CW_OK;
	/* Whoever comes first, its worker or one who waits for it, says that the list changed; when both do, nothing is
	 * lost. */
	ticket = atomic_load_explicit(&region->ticket, memory_order_acquire);
	if (!ticket) {
		ticket = cw__directory.changed(region->engine->directory);
		atomic_store_explicit(&region->ticket, ticket, memory_order_release);
	}
	return cw__directory.await(region->engine->directory, ticket, until);
}

/* --------------------------------------------------------------------------------------- asking for peers */

static void run_answer(struct cw_task *task)
{
	struct cw__finding *finding = cw__container(task, struct cw__finding, task);
	struct cw_segment *segment = finding->segment;

	finding->answered(finding, finding->arg);
	cw__found_free(&finding->found);
	free(finding);
	cw__segment_put(segment);
}

static void take_answer(void *arg, int status, const char *text, struct cw__found *found)
{
	struct cw__finding *finding = arg;

	finding->status = status;
	snprintf(finding->text, sizeof(finding->text), "%s", text);
	if (!status)
		finding->found = *found;
	cw__task_post(finding->segment->loop, &finding->task);
}

int cw__segment_find(struct cw_segment *segment, void (*answered)(struct cw__finding *finding, void *arg), void *arg)
{
	struct cw__finding *finding = calloc(1, sizeof(*finding));
	int status;

	if (!finding)
		return CW_ERR_NO_MEMORY;
	if (!cw__segment_hold(segment)) {
		free(finding);
		return CW_ERR_CLOSED;
	}
	finding->segment = segment;
	finding->task.run = run_answer;
	finding->answered = answered;
	finding->arg = arg;
	status = cw__directory.ask(segment->engine->directory, segment->name, take_answer, finding);
	if (status) {
		free(finding);
		cw__segment_put(segment);
	}
	return status;
}

/* The lines of an answer as link options; they are cut apart in place. */
void cw__found_options(struct cw__found *found, struct cw__link_options *options, const char **addresses)
{
	options->addresses = addresses;
	options->address_count = 0;
	for (char *at = (char *)found->addresses.data; *at && options->address_count < CW__FOUND_MAX;) {
		size_t length = strcspn(at, "\n");

		addresses[options->address_count++] = at;
		at += length;
		if (*at)
			*at++ = 0;
	}
	options->named = found->described;
	options->descriptor = found->described ? &found->descriptor : NULL;
}

int cw__segment_connect(struct cw_segment *segment, uint64_t timeout)
{
	struct cw_engine *engine = segment->engine;
	const char *addresses[CW__FOUND_MAX];
	struct cw__link_options options = {
		.loop = segment->loop, .name = segment->name, .timeout = timeout, .segment = segment
	};
	struct cw__found found;
	int status = cw__directory.find(engine->directory, segment->name, timeout, &found);

	if (status)
		return status;
	cw__found_options(&found, &options, addresses);
	status = cw__control.link_open(engine->control, &options, &segment->link);
	if (status == CW_ERR_ADDRESS)
		cw__fail(status, "'%.100s' cannot be parsed or resolved; names look like host:port or [v6]:port",
			 segment->name);
	cw__found_free(&found);
	return status;
}
