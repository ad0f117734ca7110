/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pieces of `causeway metadata-server`: keys and values (metadata_server_store.c), the file that keeps them
 * (metadata_server_file.c), requests and answers over libmicrohttpd (metadata_server_http.c,
 * metadata_server_library.c), and the command itself (metadata_server.c). Any thread of the HTTP library may call the
 * store.
 */
#ifndef CAUSEWAY_METADATA_SERVER_H
#define CAUSEWAY_METADATA_SERVER_H

#include <microhttpd.h>
#include <stddef.h>
#include <stdint.h>

#define METADATA_KEY_MAX 4096
#define METADATA_TEXT_MAX 512

struct metadata_limits {
	uint64_t keys, value, memory; /* how many; bytes of one value; bytes of everything, unfinished bodies included
				       */
	uint64_t expire_ms;           /* an entry that is not put again for so long is gone; 0 = never */
	int allow_duplicate;          /* may an rpc_meta key that exists be put again? */
};

enum metadata_result {
	METADATA_OK,
	METADATA_MISSING,
	METADATA_DUPLICATE,
	METADATA_FULL,
	METADATA_UNWRITTEN /* the file cannot be written, or there is no memory; text says which */
};

/* A key or a value: bytes, which may be of any kind. */
struct metadata_bytes {
	char *bytes;
	size_t length;
};

struct metadata_store;
struct metadata_file;

/* file_path NULL = nothing is kept. Lines about a damaged file go to stderr. NULL with text: why not. */
struct metadata_store *metadata_store_open(const struct metadata_limits *limits, const char *file_path, char *text);
void metadata_store_close(struct metadata_store *store);

/* Memory for a body that is still arriving. 0, or -1 when the store is full. What was reserved is given back, or goes
 * with the value into metadata_store_put(). */
int metadata_store_reserve(struct metadata_store *store, size_t bytes);
void metadata_store_unreserve(struct metadata_store *store, size_t bytes);

/* Returns when the entry is in the file, too. The value's bytes (reserved before) are taken over, then *value is empty,
 * or are left to the caller. The text has METADATA_TEXT_MAX bytes and says why on FULL and UNWRITTEN. */
enum metadata_result metadata_store_put(struct metadata_store *store, const struct metadata_bytes *key,
					struct metadata_bytes *value, char *text);
/* *value_out is a copy, for free(3). */
enum metadata_result metadata_store_get(struct metadata_store *store, const struct metadata_bytes *key,
					struct metadata_bytes *value_out);
enum metadata_result metadata_store_delete(struct metadata_store *store, const struct metadata_bytes *key, char *text);

struct metadata_counts {
	uint64_t keys, bytes, file_bytes; /* bytes as the limit counts them */
};
void metadata_store_count(struct metadata_store *store, struct metadata_counts *counts_out);

/* One line of the file: a key and since when it has its value (milliseconds since 1970); no bytes = it was deleted. */
struct metadata_record {
	struct metadata_bytes key, value;
	uint64_t put_ms;
};

/*
 * The file is a log: each change is appended, and when more than half of it is history it is written anew beside the
 * old one and renamed. Calls need a lock around them, but not metadata_file_sync().
 */
/* Calls found() for each record, which takes over the bytes of both. *damaged_out: the log must be rewritten. */
struct metadata_file *metadata_file_open(const char *path, void (*found)(void *arg, struct metadata_record *record),
					 void *arg, int *damaged_out, char *text);
void metadata_file_close(struct metadata_file *file);
/* 0 and the position that metadata_file_sync() wants; or -1 with text, and the file is as it was. */
int metadata_file_append(struct metadata_file *file, const struct metadata_record *record, uint64_t *position_out,
			 char *text);
/* Returns when all up to position is on the disk; many threads share one write. 0, or -1 with text. */
int metadata_file_sync(struct metadata_file *file, uint64_t position, char *text);
/* Is the log so much longer than live_bytes (keys and values) that it is worth being rewritten? */
int metadata_file_is_long(const struct metadata_file *file, uint64_t live_bytes, uint64_t live_keys);
/* Writes the records that next() gives, which returns 0 after the last. 0, or -1 with text, and the file is as it was.
 */
int metadata_file_rewrite(struct metadata_file *file, int (*next)(void *arg, struct metadata_record *record_out),
			  void *arg, char *text);
uint64_t metadata_file_bytes(struct metadata_file *file);

/* The functions of libmicrohttpd, found at run time. */
struct metadata_library {
	__typeof__(&MHD_start_daemon) start_daemon;
	__typeof__(&MHD_stop_daemon) stop_daemon;
	__typeof__(&MHD_get_daemon_info) get_daemon_info;
	__typeof__(&MHD_lookup_connection_value) lookup_value;
	__typeof__(&MHD_lookup_connection_value_n) lookup_value_n; /* NULL in releases before 0.9.64 */
	__typeof__(&MHD_create_response_from_buffer) create_response;
	__typeof__(&MHD_add_response_header) add_header;
	__typeof__(&MHD_queue_response) queue_response;
	__typeof__(&MHD_destroy_response) destroy_response;
};

/* Looked up once. NULL with text: where it was looked for and what to install. */
const struct metadata_library *metadata_library(char *text);

struct metadata_http_options {
	const char *path;
	uint64_t value_max, connections;
	int listen_fd; /* taken over */
};

struct metadata_http;
struct metadata_http *metadata_http_start(const struct metadata_http_options *options, struct metadata_store *store,
					  char *text);
/* Ends connections; when it returns, nobody calls the store any more. */
void metadata_http_stop(struct metadata_http *http);

#endif
