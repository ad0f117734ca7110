/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plug-in with two metadata stores that keep each key in a file of a folder: files://FOLDER and leased://FOLDER,
 * which has keep(). Tests look at the files, take them away, and turn the store off: without the folder nobody
 * answers, with a file named ".refuse" in it nobody may, and with ".short" values have at most 1024 bytes.
 */
#include <causeway/plugin.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS_MAX 64
#define SHORT_MAX 1024u

struct files {
	struct cw_host *host;
	char folder[256];
	char keys[KEYS_MAX][CW_METADATA_KEY_MAX]; /* put and not removed; for keep() */
};

static int files_open(struct cw_host *host, const char *url, void **store_out, const char **why_out)
{
	const char *folder = strstr(url, "://");
	struct files *files = calloc(1, sizeof(*files));

	if (!files || !folder || strlen(folder + 3) >= sizeof(files->folder)) {
		*why_out = "files://FOLDER is what it wants";
		free(files);
		return CW_ERR_INVALID;
	}
	files->host = host;
	strcpy(files->folder, folder + 3);
	*store_out = files;
	return CW_OK;
}

static void files_close(void *store)
{
	free(store);
}

static int has(const struct files *files, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", files->folder, name);
	return access(path, F_OK) == 0;
}

/* The file of a key: '/' becomes ','. */
static int path_of(struct files *files, const char *key, char *path, size_t size)
{
	size_t begin;

	if (!has(files, "."))
		return files->host->ops->fail(CW_ERR_CONNECT, "there is no folder %s", files->folder);
	if (has(files, ".refuse"))
		return files->host->ops->fail(CW_ERR_PERMISSION, "%s refuses", files->folder);
	begin = (size_t)snprintf(path, size, "%s/", files->folder);
	snprintf(path + begin, size - begin, "%s", key);
	for (char *at = path + begin; *at; at++)
		if (*at == '/')
			*at = ',';
	return CW_OK;
}

static int files_get(void *store, const char *key, uint64_t timeout, struct cw_blob *value_out)
{
	struct files *files = store;
	char path[1024], bytes[4096];
	int status = path_of(files, key, path, sizeof(path)), fd;
	ssize_t got = 0;

	(void)timeout;
	if (status)
		return status;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? CW_ERR_NOT_FOUND
				       : files->host->ops->fail(CW_ERR_IO, "%s: %s", path, strerror(errno));
	while (!status && (got = read(fd, bytes, sizeof(bytes))) > 0)
		status = files->host->ops->blob_append(value_out, bytes, (size_t)got);
	close(fd);
	return got < 0 ? CW_ERR_IO : status;
}

static int files_put(void *store, const char *key, const void *value, size_t length, uint64_t timeout)
{
	struct files *files = store;
	char path[1024], fresh[1040];
	int status = path_of(files, key, path, sizeof(path));
	FILE *file;

	(void)timeout;
	if (!status && length > SHORT_MAX && has(files, ".short"))
		status = files->host->ops->fail(CW_ERR_LIMIT, "%zu bytes are too many", length);
	if (status)
		return status;
	snprintf(fresh, sizeof(fresh), "%s.%d", path, (int)getpid());
	file = fopen(fresh, "we");
	if (!file || fwrite(value, 1, length, file) != length)
		status = CW_ERR_IO;
	if (file && fclose(file))
		status = CW_ERR_IO;
	if (status || rename(fresh, path))
		return files->host->ops->fail(CW_ERR_IO, "%s: %s", path, strerror(errno));
	for (int i = 0; i < KEYS_MAX && strcmp(files->keys[i], key); i++)
		if (!files->keys[i][0])
			snprintf(files->keys[i], sizeof(files->keys[i]), "%s", key);
	return CW_OK;
}

static int files_del(void *store, const char *key, uint64_t timeout)
{
	struct files *files = store;
	char path[1024];
	int status = path_of(files, key, path, sizeof(path));

	(void)timeout;
	if (status)
		return status;
	unlink(path);
	for (int i = 0; i < KEYS_MAX; i++)
		if (!strcmp(files->keys[i], key))
			strcpy(files->keys[i], "-");
	return CW_OK;
}

static int files_keep(void *store, uint64_t timeout)
{
	struct files *files = store;
	char path[1024];

	(void)timeout;
	for (int i = 0; i < KEYS_MAX && files->keys[i][0]; i++) {
		int status = path_of(files, files->keys[i], path, sizeof(path));

		if (status)
			return status;
		if (files->keys[i][0] != '-' && access(path, F_OK))
			return CW_ERR_NOT_FOUND;
	}
	return CW_OK;
}

#define FILES(scheme, keep_hook)                                                                                       \
	{                                                                                                              \
		.abi = CW_PLUGIN_ABI, .name = scheme, .summary = "files in a folder", .open = files_open,              \
		.close = files_close, .get = files_get, .put = files_put, .del = files_del, .keep = keep_hook,         \
	}

static const struct cw_metadata_ops plain = FILES("files", NULL);
static const struct cw_metadata_ops leased = FILES("leased", files_keep);
static const struct cw_metadata_ops *const stores[] = { &plain, &leased, NULL };

__attribute__((visibility("default"))) const struct cw_plugin cw_plugin = {
	.abi = CW_PLUGIN_ABI,
	.name = "files",
	.metadata = stores,
};
