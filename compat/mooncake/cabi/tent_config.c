/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TENT's configuration of a process. The file is read when it is named, so it may go away afterwards; what is wrong
 * with it, or with a key, is said when an engine is created, which then fails: these functions return nothing.
 */
#include "tent_config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tent/transfer_engine.h"

#define FILE_MAX (1u << 20)

struct entry {
	char *key, *value;
	struct entry *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *entries; /* in the order in which they were set */
static char *text;            /* of the file, without white space before it */
static char trouble[SETUP_TEXT_MAX];

static void complain(const char *path, const char *why)
{
	snprintf(trouble, sizeof(trouble), "%s: %s", path, why);
}

/* All of a file, as long as it is a regular one of a size that makes sense; NULL = trouble says why. */
static char *read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat about;
	char *content = NULL;
	ssize_t got = 0;

	if (fd < 0 || fstat(fd, &about) != 0) {
		complain(path, strerror(errno));
	} else if (!S_ISREG(about.st_mode) || about.st_size > FILE_MAX) {
		complain(path, "not a regular file of at most 1 MiB");
	} else {
		content = calloc(1, FILE_MAX + 2);
		got = content ? read(fd, content, FILE_MAX + 1) : -1;
		if (got < 0)
			complain(path, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	if (content && (got < 0 || got > (ssize_t)FILE_MAX || strlen(content) != (size_t)got)) {
		if (got >= 0)
			complain(path, "not text of at most 1 MiB");
		free(content);
		content = NULL;
	}
	return content;
}

void tent_load_config_from_file(const char *path)
{
	char *content = NULL, *start;

	pthread_mutex_lock(&lock);
	trouble[0] = '\0';
	free(text);
	text = NULL;
	if (path && *path)
		content = read_file(path);
	else
		complain("the configuration file", "no name was given");
	start = content;
	while (start && isspace((unsigned char)*start))
		start++;
	if (start && *start != '{')
		complain(path, "not a JSON object");
	else if (start)
		text = strdup(start);
	if (start && !text && !trouble[0])
		complain(path, "out of memory");
	free(content);
	pthread_mutex_unlock(&lock);
}

/* The last one counts, and comes last. */
static void remove_key(const char *key)
{
	for (struct entry **at = &entries; *at; at = &(*at)->next) {
		struct entry *gone = *at;

		if (strcmp(gone->key, key) != 0)
			continue;
		*at = gone->next;
		free(gone->key);
		free(gone->value);
		free(gone);
		return;
	}
}

void tent_set_config(const char *key, const char *value)
{
	struct entry *entry, **at = &entries;

	if (!key || !*key)
		return;
	entry = calloc(1, sizeof(*entry));
	pthread_mutex_lock(&lock);
	if (entry)
		entry->key = strdup(key);
	if (entry && value)
		entry->value = strdup(value);
	if (!entry || !entry->key || (value && !entry->value)) {
		complain("tent_set_config", "out of memory");
		free(entry ? entry->key : NULL);
		free(entry);
		pthread_mutex_unlock(&lock);
		return;
	}
	remove_key(key);
	while (value && *at)
		at = &(*at)->next;
	if (value) {
		*at = entry;
	} else { /* as if it had never been set */
		free(entry->key);
		free(entry);
	}
	pthread_mutex_unlock(&lock);
}

int tent_config_apply(struct setup *setup, setup_notice_fn notice, void *arg)
{
	int status = 0;

	pthread_mutex_lock(&lock);
	if (trouble[0]) {
		snprintf(setup->text, sizeof(setup->text), "%s", trouble);
		status = -1;
	}
	if (status == 0 && text)
		status = setup_file(setup, text, notice, arg);
	for (const struct entry *at = entries; at && status == 0; at = at->next)
		status = setup_key(setup, at->key, at->value, notice, arg);
	pthread_mutex_unlock(&lock);
	return status;
}
