/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hiredis, loaded when the first redis store is opened. Only what is the same in 0.13, 0.14 and 1.x is used, and the
 * reply, whose layout changed in 1.0: which one it is, is seen by reading a reply that is known.
 */
#include <metadata/redis/redis.h>
#include <stdio.h>
#include <string.h>
#include <util/library.h>

/* The beginning of redisReader in all versions. */
struct reader {
	int error;
	char text[128];
};

enum raw_kind { RAW_STRING = 1, RAW_ARRAY, RAW_INTEGER, RAW_NIL, RAW_STATUS, RAW_ERROR };

/* redisReply before 1.0, and since then: a number with a fraction stands before the length. */
struct reply_0 {
	int kind;
	long long integer;
	size_t length;
	char *text;
};
struct reply_1 {
	int kind;
	long long integer;
	double fraction;
	size_t length;
	char *text;
};

/* format() gives a long long in newer versions; what is asked of it fits an int, in which both can be read. */
struct library {
	int (*format)(char **request_out, int count, const char **words, const size_t *lengths);
	void (*free_request)(char *request);
	void *(*reader_create)(void);
	void (*reader_free)(void *reader);
	int (*reader_feed)(void *reader, const char *data, size_t length);
	int (*reader_get)(void *reader, void **reply_out);
	void (*reply_free)(void *reply);
};

static const char *const sonames[] = { "libhiredis.so.1.1.0", "libhiredis.so.1.2.0",
				       "libhiredis.so.1.3.0", "libhiredis.so.1.0.0",
				       "libhiredis.so.1",     "libhiredis.so.0.14",
				       "libhiredis.so.0.13",  NULL };
static const struct cw__library_symbol symbols[] = {
	{ "redisFormatCommandArgv", offsetof(struct library, format) },
	{ "redisFreeCommand", offsetof(struct library, free_request) },
	{ "redisReaderCreate", offsetof(struct library, reader_create) },
	{ "redisReaderFree", offsetof(struct library, reader_free) },
	{ "redisReaderFeed", offsetof(struct library, reader_feed) },
	{ "redisReaderGetReply", offsetof(struct library, reader_get) },
	{ "freeReplyObject", offsetof(struct library, reply_free) },
};
static const struct cw__library_wanted wanted = {
	.sonames = sonames,
	.advice = "install libhiredis1.1.0 or libhiredis0.14",
	.symbols = symbols,
	.symbol_count = sizeof(symbols) / sizeof(symbols[0]),
};

/* Filled once under the lock, before the first store exists; only read afterwards. */
static struct library hiredis;
static int layout = -1;
static int loaded;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

/* 0 or 1, or -1 when it is neither. The length that has the wrong place is no 5: it is a pointer or a fraction of 0. */
static int find_layout(void)
{
	static const char known[] = "$5\r\nhello\r\n";
	void *reader = hiredis.reader_create(), *raw = NULL;
	int found = -1;

	if (reader && !hiredis.reader_feed(reader, known, sizeof(known) - 1) && !hiredis.reader_get(reader, &raw) &&
	    raw) {
		const struct reply_0 *old = raw;
		const struct reply_1 *new = raw;

		if (old->length == 5 && !memcmp(old->text, "hello", 5))
			found = 0;
		else if (new->length == 5 && !memcmp(new->text, "hello", 5))
			found = 1;
	}
	if (raw)
		hiredis.reply_free(raw);
	if (reader)
		hiredis.reader_free(reader);
	return found;
}

int cw__hiredis_load(char *why, size_t why_size)
{
	int failed = 0;

	pthread_mutex_lock(&loading);
	if (!loaded) {
		failed = cw__library_load(&wanted, &hiredis, why, why_size);
		layout = failed ? -1 : find_layout();
		if (!failed && layout < 0) {
			snprintf(why, why_size, "this version of libhiredis is not known; %s", wanted.advice);
			failed = -1;
		}
		loaded = !failed;
	}
	pthread_mutex_unlock(&loading);
	return failed;
}

char *cw__hiredis_format(int count, const char **words, const size_t *lengths, size_t *length_out)
{
	char *request = NULL;
	int length = hiredis.format(&request, count, words, lengths);

	if (length < 0)
		return NULL;
	*length_out = (size_t)length;
	return request;
}

void cw__hiredis_free(char *request)
{
	hiredis.free_request(request);
}

void *cw__hiredis_reader(void)
{
	return hiredis.reader_create();
}

void cw__hiredis_reader_free(void *reader)
{
	hiredis.reader_free(reader);
}

void cw__hiredis_reply_free(struct cw__redis_reply *reply)
{
	if (reply->raw)
		hiredis.reply_free(reply->raw);
	reply->raw = NULL;
}

static int understand(void *raw, struct cw__redis_reply *reply_out)
{
	static const struct {
		int raw;
		enum cw__redis_kind kind;
	} kinds[] = { { RAW_STRING, CW__REDIS_TEXT },
		      { RAW_INTEGER, CW__REDIS_NUMBER },
		      { RAW_NIL, CW__REDIS_NIL },
		      { RAW_STATUS, CW__REDIS_STATUS },
		      { RAW_ERROR, CW__REDIS_ERROR } };
	const struct reply_0 *old = raw; /* begins like the other */
	const struct reply_1 *new = raw;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].raw != old->kind)
			continue;
		*reply_out = (struct cw__redis_reply){ .kind = kinds[i].kind, .number = old->integer, .raw = raw };
		if (old->kind != RAW_INTEGER && old->kind != RAW_NIL) {
			reply_out->text = layout ? new->text : old->text;
			reply_out->length = layout ? new->length : old->length;
		}
		return CW_OK;
	}
	return CW_ERR_PROTOCOL;
}

int cw__hiredis_feed(void *reader, const void *data, size_t length, struct cw__redis_reply *reply_out, char *why,
		     size_t why_size)
{
	const struct reader *state = reader;
	void *raw = NULL;

	if (hiredis.reader_feed(reader, data, length) || hiredis.reader_get(reader, &raw)) {
		snprintf(why, why_size, "does not speak redis (%.*s)", (int)sizeof(state->text) - 1, state->text);
		return CW_ERR_PROTOCOL;
	}
	if (!raw)
		return CW_ERR_AGAIN;
	if (!understand(raw, reply_out))
		return CW_OK;
	hiredis.reply_free(raw);
	snprintf(why, why_size, "gave a reply of an unexpected kind");
	return CW_ERR_PROTOCOL;
}
