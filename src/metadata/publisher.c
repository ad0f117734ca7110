/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps this engine's entries in the metadata store: a thread that publishes the list of regions whenever it changed,
 * several changes at once where they come quickly; that looks now and then whether the store still has the entries, and
 * puts them there again when not; that tries again, less and less often, while the store is out of reach; and that
 * withdraws the entries at the end.
 */
#include <metadata/directory.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_FIRST (100 * CW__MS)
#define PAUSE_LAST (5 * CW__SECOND)
#define CONTEST_LOOKS 2u

/* ----------------------------------------------------------------------------- the entries; no lock held */

static int put(struct cw__directory *directory, enum cw__entry_kind kind, const char *value, size_t length,
	       uint64_t until)
{
	char key[CW_METADATA_KEY_MAX];
	int status = cw__directory_key(directory, kind, directory->host->ops->engine_name(directory->host), key);

	if (!status)
		status = directory->ops->put(directory->store, key, value, length, cw__directory_left(until));
	return status;
}

static int put_listener(struct cw__directory *directory, uint64_t until)
{
	size_t length;
	char *text = cw__rpc_meta_encode(&directory->listener, &length);
	int status = text ? put(directory, CW__ENTRY_LISTENER, text, length, until)
			  : directory->host->ops->fail(CW_ERR_NO_MEMORY, "out of memory");

	free(text);
	return status;
}

static int put_list(struct cw__directory *directory, int with_buffers, uint64_t until)
{
	size_t length;
	char *text = cw__core_descriptor(directory->host, with_buffers, &length);
	int status = text ? put(directory, CW__ENTRY_DESCRIPTOR, text, length, until)
			  : directory->host->ops->fail(CW_ERR_NO_MEMORY, "out of memory for the list of regions");

	free(text);
	return status;
}

/* Without its buffers a descriptor still lets peers find us; only Mooncake engines miss the list. */
static int put_descriptor(struct cw__directory *directory, uint64_t until)
{
	int status = put_list(directory, 1, until);

	if (status != CW_ERR_LIMIT)
		return status;
	if (!directory->without_buffers)
		directory->host->ops->log(directory->host, CW_LOG_WARN,
					  "metadata: %s takes no list as long as that of this engine's regions: "
					  "published without it, so Mooncake engines cannot look it up",
					  directory->where);
	directory->without_buffers = 1;
	return put_list(directory, 0, until);
}

/* Who reads finds first the descriptor, then the listener: the listener is there first. */
static int put_all(struct cw__directory *directory, uint64_t until)
{
	int status = put_listener(directory, until);

	return status ? status : put_descriptor(directory, until);
}

static int is_ours(const struct cw__directory *directory, const struct cw__rpc_meta *listener)
{
	return listener->port == directory->listener.port && !strcmp(listener->host, directory->listener.host);
}

/* Of a name that two engines have, each may have written one entry last: looks at ours alone do not show that, so they
 * are put again for a while. */
static int is_contested(struct cw__directory *directory, const struct cw__rpc_meta *listener)
{
	if (is_ours(directory, listener))
		return directory->contest_looks && directory->contest_looks--;
	if (!directory->contested)
		directory->host->ops->log(directory->host, CW_LOG_WARN,
					  "metadata: another engine, at %.80s port %u, has published itself as '%s' "
					  "too; names must be unique",
					  listener->host, listener->port,
					  directory->host->ops->engine_name(directory->host));
	directory->contested = 1;
	directory->contest_looks = CONTEST_LOOKS;
	return 1;
}

/* Does the store still have what we put there? NOT_FOUND: not all of it, put it again. */
static int look(struct cw__directory *directory, uint64_t until)
{
	const struct cw_host_ops *host = directory->host->ops;
	struct cw__rpc_meta listener;
	int status = directory->ops->keep ? directory->ops->keep(directory->store, cw__directory_left(until)) : CW_OK;

	if (!status) /* keep() does not tell whose entries they are */
		status = cw__directory_get_listener(directory, host->engine_name(directory->host), until, &listener);
	if (!status && is_contested(directory, &listener))
		return CW_ERR_NOT_FOUND;
	if (status != CW_ERR_NOT_FOUND && status != CW_ERR_PROTOCOL)
		return status;
	host->log(directory->host, CW_LOG_INFO,
		  "metadata: %s has lost the entries of this engine; they are put there again", directory->where);
	return CW_ERR_NOT_FOUND;
}

/* Takes the entries away, unless they are another engine's by now. */
static void withdraw(struct cw__directory *directory, uint64_t until)
{
	static const enum cw__entry_kind kinds[] = { CW__ENTRY_DESCRIPTOR, CW__ENTRY_LISTENER };
	const char *name = directory->host->ops->engine_name(directory->host);
	struct cw__rpc_meta listener;
	char key[CW_METADATA_KEY_MAX];
	int status = cw__directory_get_listener(directory, name, until, &listener);

	if (!status && !is_ours(directory, &listener))
		return;
	for (size_t i = 0; !status && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		status = cw__directory_key(directory, kinds[i], name, key);
		if (!status && cw__now() >= until)
			status = directory->host->ops->fail(CW_ERR_TIMED_OUT, "%s is too slow", directory->where);
		if (!status)
			status = directory->ops->del(directory->store, key, cw__directory_left(until));
	}
	if (status && status != CW_ERR_NOT_FOUND)
		directory->host->ops->log(directory->host, CW_LOG_INFO,
					  "metadata: the entries of '%.60s' stay in the store: %s", name,
					  cw_last_error());
}

/* ------------------------------------------------------------------------------------------- the thread */

/* With the lock. What became of a try to publish, or of a look. */
static void account(struct cw__directory *directory, int status, uint64_t version)
{
	const struct cw_host_ops *host = directory->host->ops;
	int failed_before = directory->failure;

	directory->tried = version;
	directory->failure = status;
	if (!status) {
		directory->published = version;
		directory->announced = 1;
		directory->pause = 0;
		directory->next = cw__after(cw__now(), directory->interval);
		if (failed_before)
			host->log(directory->host, CW_LOG_WARN, "metadata: %s works again; '%.100s' is published",
				  directory->where, host->engine_name(directory->host));
	} else {
		directory->announced = 0;
		directory->pause = directory->pause ? 2 * directory->pause : PAUSE_FIRST;
		if (directory->pause > PAUSE_LAST)
			directory->pause = PAUSE_LAST;
		directory->next = cw__after(cw__now(), directory->pause);
		snprintf(directory->failure_text, sizeof(directory->failure_text), "%s", cw_last_error());
		if (!failed_before)
			host->log(directory->host, CW_LOG_WARN,
				  "metadata: %s does not work: %s; peers that are known go on, and '%.100s' is "
				  "published as soon as it works again",
				  directory->where, directory->failure_text, host->engine_name(directory->host));
	}
	pthread_cond_broadcast(&directory->done);
}

static int is_due(const struct cw__directory *directory)
{
	if (directory->wanted != directory->published && !directory->pause)
		return 1;
	return cw__now() >= directory->next;
}

/* One visit to the store. No lock held. */
static int visit(struct cw__directory *directory, int announced, int changed)
{
	uint64_t until = cw__after(cw__now(), directory->timeout);
	int status;

	if (announced && changed)
		return put_descriptor(directory, until);
	if (announced) {
		status = look(directory, until);
		if (status != CW_ERR_NOT_FOUND)
			return status;
	}
	return put_all(directory, until);
}

static void *publisher_main(void *arg)
{
	struct cw__directory *directory = arg;
	int announced;

	pthread_mutex_lock(&directory->lock);
	while (!directory->stopping) {
		uint64_t version = directory->wanted;
		int changed = version != directory->published, status;

		if (!is_due(directory)) {
			cw__directory_wait(directory, &directory->work, directory->next);
			continue;
		}
		announced = directory->announced;
		pthread_mutex_unlock(&directory->lock);
		status = visit(directory, announced, changed);
		pthread_mutex_lock(&directory->lock);
		account(directory, status, version);
	}
	pthread_mutex_unlock(&directory->lock);
	/* Also after a failure: the store may have taken what it did not acknowledge. */
	if (cw__now() < directory->stop_by)
		withdraw(directory, directory->stop_by);
	return NULL;
}

/* ------------------------------------------------------------------------------------- what the core asks */

/* Is the failure of the first try one of the engine's opening? */
static int is_final(struct cw__directory *directory, int status)
{
	return status == CW_ERR_PERMISSION || status == CW_ERR_ADDRESS ||
	       (status && directory->host->ops->setting_number(directory->host, "metadata/required", 0));
}

int cw__publisher_start(struct cw__directory *directory)
{
	const struct cw_host_ops *host = directory->host->ops;
	uint64_t lease = host->setting_number(directory->host, "metadata/lease", 0);
	char key[CW_METADATA_KEY_MAX];
	int status;

	if (directory->ops->addresses)
		return CW_OK;
	/* A lease has to be prolonged well before it ends. */
	if (directory->ops->keep && lease && directory->interval > lease / 3)
		directory->interval = lease / 3;
	status = cw__core_listener(directory->host, &directory->listener);
	if (!status)
		status = cw__directory_key(directory, CW__ENTRY_LISTENER, host->engine_name(directory->host), key);
	if (status)
		return status;
	directory->wanted = 1;
	if (cw__directory_thread(&directory->publisher, publisher_main, directory))
		return host->fail(CW_ERR_NO_MEMORY, "cannot start the thread that publishes this engine");
	directory->has_publisher = 1;
	cw__publisher_await(directory, 1, CW_FOREVER);
	pthread_mutex_lock(&directory->lock);
	status = directory->published ? CW_OK : directory->failure;
	if (!status && !directory->published)
		status = CW_ERR_TIMED_OUT;
	if (is_final(directory, status))
		host->fail(status, "metadata store %.80s: %s", directory->where,
			   *directory->failure_text ? directory->failure_text : "no answer in time");
	else
		status = CW_OK;
	pthread_mutex_unlock(&directory->lock);
	return status;
}

uint64_t cw__publisher_changed(struct cw__directory *directory)
{
	uint64_t ticket;

	if (directory->ops->addresses)
		return 0;
	pthread_mutex_lock(&directory->lock);
	ticket = ++directory->wanted;
	pthread_cond_broadcast(&directory->work);
	pthread_mutex_unlock(&directory->lock);
	return ticket;
}

int cw__publisher_await(struct cw__directory *directory, uint64_t ticket, uint64_t until)
{
	uint64_t last = cw__after(cw__now(), directory->timeout);
	int status = CW_OK;

	pthread_mutex_lock(&directory->lock);
	while (directory->published < ticket && directory->tried < ticket && !directory->pause &&
	       !directory->stopping) {
		uint64_t now = cw__now();

		if (now >= until)
			status = CW_ERR_AGAIN;
		if (now >= until || now >= last)
			break;
		cw__directory_wait(directory, &directory->done, until < last ? until : last);
	}
	pthread_mutex_unlock(&directory->lock);
	return status;
}
