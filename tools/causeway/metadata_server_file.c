/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of `causeway metadata-server`: 8 bytes of magic, then records of {header, key, value}, the newest last. A
 * record counts when it is whole and its checksum is right; what follows the first that is not is left out. See
 * metadata_server.h.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "metadata_server.h"

#define MAGIC "CWMETA1\n"
#define MAGIC_BYTES 8
#define DELETED 0xffffffffu
/* A log below this size is not worth being rewritten. */
#define SHORT_BYTES (1u << 20)

/* Little-endian. */
struct header {
	uint64_t checksum; /* of all that follows, see checksum() */
	uint64_t put_ms;
	uint32_t key_length, value_length; /* DELETED in value_length: there is no value */
};
_Static_assert(sizeof(struct header) == 24, "the file has no padding");

struct metadata_file {
	char path[PATH_MAX];
	int fd;          /* changed under both locks; it holds the lock of the file */
	uint64_t length; /* of the file; under the caller's lock */
	_Atomic uint64_t written;
	pthread_mutex_t sync_lock; /* guards synced */
	uint64_t synced;           /* positions grow for ever; the file may become shorter */
	uint64_t position;         /* where the file's end is in positions; under the caller's lock */
};

/* A text that is too long is cut: it is for people. Returns -1. */
__attribute__((format(printf, 2, 3))) static int refuse(char *text, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(text, METADATA_TEXT_MAX, format, list);
	va_end(list);
	return -1;
}

static int fail(char *text, const char *path, const char *what)
{
	return refuse(text, "%s %s: %s", what, path, strerror(errno));
}

/* FNV-1a of 64 bits: finds torn and overwritten records, which is all that it is for. */
static uint64_t checksum(uint64_t sum, const void *bytes, size_t length)
{
	const unsigned char *at = bytes;

	for (size_t i = 0; i < length; i++)
		sum = (sum ^ at[i]) * 0x100000001b3ull;
	return sum;
}

static uint64_t record_checksum(const struct header *header, const struct metadata_record *record)
{
	uint64_t sum = checksum(0xcbf29ce484222325ull, &header->put_ms, sizeof(*header) - sizeof(header->checksum));

	sum = checksum(sum, record->key.bytes, record->key.length);
	return record->value.bytes ? checksum(sum, record->value.bytes, record->value.length) : sum;
}

/* All of the three pieces at the end of the file. 0, or -1 with errno. */
static int write_all(int fd, struct iovec *pieces, int count)
{
	while (count > 0) {
		ssize_t written = writev(fd, pieces, count);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return -1;
		while (count > 0 && (size_t)written >= pieces->iov_len) {
			written -= (ssize_t)pieces->iov_len;
			pieces++;
			count--;
		}
		if (count > 0) {
			pieces->iov_base = (char *)pieces->iov_base + written;
			pieces->iov_len -= (size_t)written;
		}
	}
	return 0;
}

static uint64_t record_bytes(const struct metadata_record *record)
{
	return sizeof(struct header) + record->key.length + (record->value.bytes ? record->value.length : 0);
}

static int write_record(int fd, const struct metadata_record *record)
{
	struct header header = {
		.put_ms = htole64(record->put_ms),
		.key_length = htole32((uint32_t)record->key.length),
		.value_length = htole32(record->value.bytes ? (uint32_t)record->value.length : DELETED),
	};
	struct iovec pieces[] = {
		{ &header, sizeof(header) },
		{ record->key.bytes, record->key.length },
		{ record->value.bytes, record->value.bytes ? record->value.length : 0 },
	};

	header.checksum = htole64(record_checksum(&header, record));
	return write_all(fd, pieces, 3);
}

/* 1 = a whole record, 0 = the end, -1 = cut off, -2 = damaged, -3 = no memory. */
static int read_record(FILE *in, uint64_t left, struct metadata_record *record_out)
{
	struct metadata_record record = { .put_ms = 0 };
	struct header header;
	uint32_t value_length;
	int result = -3;

	if (left == 0)
		return 0;
	if (left < sizeof(header) || fread(&header, sizeof(header), 1, in) != 1)
		return -1;
	left -= sizeof(header);
	record.key.length = le32toh(header.key_length);
	value_length = le32toh(header.value_length);
	if (record.key.length > METADATA_KEY_MAX)
		return -2;
	record.value.length = value_length == DELETED ? 0 : value_length;
	if (record.key.length + record.value.length > left)
		return -1;
	record.put_ms = le64toh(header.put_ms);
	record.key.bytes = malloc(record.key.length + 1);
	record.value.bytes = malloc(record.value.length + 1);
	if (!record.key.bytes || !record.value.bytes)
		goto out;
	result = -1;
	if (fread(record.key.bytes, 1, record.key.length, in) != record.key.length ||
	    fread(record.value.bytes, 1, record.value.length, in) != record.value.length)
		goto out;
	if (value_length == DELETED) {
		free(record.value.bytes);
		record.value.bytes = NULL;
	}
	result = -2;
	if (le64toh(header.checksum) != record_checksum(&header, &record))
		goto out;
	*record_out = record;
	return 1;
out:
	free(record.key.bytes);
	free(record.value.bytes);
	return result;
}

/* The rest of the file is kept beside it when it may hold more than one write that was cut off. */
static void tell_damage(const struct metadata_file *file, uint64_t bytes, int how)
{
	char copy[PATH_MAX + 16];

	if (how == -1) {
		fprintf(stderr, "causeway metadata-server: %s: its last write was cut off; %llu bytes are left out\n",
			file->path, (unsigned long long)bytes);
		return;
	}
	snprintf(copy, sizeof(copy), "%s.damaged", file->path);
	unlink(copy);
	if (link(file->path, copy) != 0)
		snprintf(copy, sizeof(copy), "(not kept: %s)", strerror(errno));
	fprintf(stderr,
		"causeway metadata-server: %s: damaged; the last %llu bytes are left out. The file as it was: %s\n",
		file->path, (unsigned long long)bytes, copy);
}

/* Reads all records. 0, or -1 with text. */
static int load(struct metadata_file *file, void (*found)(void *arg, struct metadata_record *record), void *arg,
		int *damaged_out, char *text)
{
	FILE *in = fdopen(dup(file->fd), "rb");
	uint64_t at = MAGIC_BYTES;
	char magic[MAGIC_BYTES];
	int result = -1;

	if (!in)
		return fail(text, file->path, "cannot read");
	if (fread(magic, MAGIC_BYTES, 1, in) != 1 || memcmp(magic, MAGIC, MAGIC_BYTES) != 0) {
		refuse(text, "%s is not a file of causeway metadata-server; name another one", file->path);
		goto out;
	}
	for (;;) {
		struct metadata_record record;
		int how = read_record(in, file->length - at, &record);

		if (how == -3) {
			refuse(text, "no memory for what is in %s", file->path);
			goto out;
		}
		if (how <= 0) {
			*damaged_out = how < 0;
			if (how < 0)
				tell_damage(file, file->length - at, how);
			break;
		}
		at += record_bytes(&record);
		found(arg, &record);
	}
	result = 0;
out:
	fclose(in);
	return result;
}

/* Opens and locks the file that has this name, also when a running server renames another one to it in between. */
static int open_locked(struct metadata_file *file, char *text)
{
	for (;;) {
		struct stat opened, named;

		file->fd = open(file->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (file->fd < 0)
			return fail(text, file->path, "cannot open");
		if (flock(file->fd, LOCK_EX | LOCK_NB) != 0) {
			return refuse(text, "%s is in use by another metadata-server", file->path);
		}
		if (fstat(file->fd, &opened) != 0)
			return fail(text, file->path, "cannot look at");
		if (!S_ISREG(opened.st_mode)) {
			return refuse(text, "%s is not a regular file", file->path);
		}
		if (stat(file->path, &named) == 0 && named.st_ino == opened.st_ino && named.st_dev == opened.st_dev) {
			file->length = (uint64_t)opened.st_size;
			return 0;
		}
		close(file->fd);
		file->fd = -1;
	}
}

static int sync_folder(const char *path)
{
	char copy[PATH_MAX];
	int fd, result;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	result = fsync(fd);
	close(fd);
	return result;
}

struct metadata_file *metadata_file_open(const char *path, void (*found)(void *arg, struct metadata_record *record),
					 void *arg, int *damaged_out, char *text)
{
	struct metadata_file *file = calloc(1, sizeof(*file));

	if (!file || strlen(path) + 16 > sizeof(file->path)) {
		refuse(text, "%s", file ? "the file's name is too long" : "no memory");
		free(file);
		return NULL;
	}
	file->fd = -1;
	snprintf(file->path, sizeof(file->path), "%s", path);
	pthread_mutex_init(&file->sync_lock, NULL);
	if (open_locked(file, text) != 0)
		goto fail;
	/* A file that is shorter than its magic was never finished, and nothing is lost with it. */
	if (file->length < MAGIC_BYTES) {
		char start[MAGIC_BYTES] = { 0 };

		if (pread(file->fd, start, file->length, 0) != (ssize_t)file->length ||
		    memcmp(start, MAGIC, file->length) != 0) {
			refuse(text, "%s is not a file of causeway metadata-server; name another one", path);
			goto fail;
		}
		if (ftruncate(file->fd, 0) != 0 || write(file->fd, MAGIC, MAGIC_BYTES) != MAGIC_BYTES ||
		    fsync(file->fd) != 0 || sync_folder(path) != 0) {
			fail(text, path, "cannot write");
			goto fail;
		}
		file->length = MAGIC_BYTES;
	} else if (load(file, found, arg, damaged_out, text) != 0) {
		goto fail;
	}
	return file;
fail:
	metadata_file_close(file);
	return NULL;
}

void metadata_file_close(struct metadata_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	pthread_mutex_destroy(&file->sync_lock);
	free(file);
}

int metadata_file_append(struct metadata_file *file, const struct metadata_record *record, uint64_t *position_out,
			 char *text)
{
	uint64_t bytes = record_bytes(record);

	if (write_record(file->fd, record) != 0) {
		fail(text, file->path, "cannot write");
		/* A half record would hide those that follow it. */
		if (ftruncate(file->fd, (off_t)file->length) != 0)
			fprintf(stderr, "causeway metadata-server: cannot shorten %s: %s\n", file->path,
				strerror(errno));
		return -1;
	}
	file->length += bytes;
	file->position += bytes;
	atomic_store_explicit(&file->written, file->position, memory_order_release);
	*position_out = file->position;
	return 0;
}

int metadata_file_sync(struct metadata_file *file, uint64_t position, char *text)
{
	uint64_t written;
	int result = 0;

	pthread_mutex_lock(&file->sync_lock);
	if (file->synced < position) {
		/* Everything that was written before the call is on the disk after it: other threads' records too. */
		written = atomic_load_explicit(&file->written, memory_order_acquire);
		if (fdatasync(file->fd) == 0)
			file->synced = written;
		else
			result = fail(text, file->path, "cannot write");
	}
	pthread_mutex_unlock(&file->sync_lock);
	return result;
}

int metadata_file_is_long(const struct metadata_file *file, uint64_t live_bytes, uint64_t live_keys)
{
	return file->length > SHORT_BYTES && file->length / 2 > live_bytes + live_keys * sizeof(struct header);
}

static int write_new(int fd, int (*next)(void *arg, struct metadata_record *record_out), void *arg,
		     uint64_t *length_out)
{
	struct metadata_record record;
	uint64_t length = MAGIC_BYTES;

	if (write(fd, MAGIC, MAGIC_BYTES) != MAGIC_BYTES)
		return -1;
	while (next(arg, &record)) {
		if (write_record(fd, &record) != 0)
			return -1;
		length += record_bytes(&record);
	}
	*length_out = length;
	return fsync(fd);
}

int metadata_file_rewrite(struct metadata_file *file, int (*next)(void *arg, struct metadata_record *record_out),
			  void *arg, char *text)
{
	char path[PATH_MAX + 8];
	uint64_t length;
	int fd;

	snprintf(path, sizeof(path), "%s.new", file->path);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(text, path, "cannot open");
	/* Locked before it gets the name, so that no other server ever finds it free. */
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 || write_new(fd, next, arg, &length) != 0 ||
	    rename(path, file->path) != 0) {
		fail(text, path, "cannot write");
		unlink(path);
		close(fd);
		return -1;
	}
	/* Both files hold the same, so it matters little which one a power failure leaves. */
	if (sync_folder(file->path) != 0)
		fprintf(stderr, "causeway metadata-server: cannot write the folder of %s: %s\n", file->path,
			strerror(errno));
	pthread_mutex_lock(&file->sync_lock);
	close(file->fd);
	file->fd = fd;
	file->synced = file->position;
	pthread_mutex_unlock(&file->sync_lock);
	file->length = length;
	return 0;
}

uint64_t metadata_file_bytes(struct metadata_file *file)
{
	return file->length;
}
