/* SPDX-License-Identifier: Apache-2.0 */
/* What src/metadata/redis/hiredis.c uses of hiredis 1.x, with the replies of that version. FAKE_UNKNOWN: those of a
 * version that does not exist. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reply {
	int kind;
	long long integer;
	double fraction;
#ifdef FAKE_UNKNOWN
	double more[2];
#endif
	size_t length;
	char *text;
};

struct reader {
	int error;
	char text[128];
	char *data;
	size_t length;
};

void *redisReaderCreate(void);
void redisReaderFree(void *arg);
int redisReaderFeed(void *arg, const char *data, size_t length);
int redisReaderGetReply(void *arg, void **reply_out);
void freeReplyObject(void *arg);
long long redisFormatCommandArgv(char **out, int count, const char **words, const size_t *lengths);
void redisFreeCommand(char *request);

void *redisReaderCreate(void)
{
	return calloc(1, sizeof(struct reader));
}

void redisReaderFree(void *arg)
{
	struct reader *reader = arg;

	free(reader->data);
	free(reader);
}

int redisReaderFeed(void *arg, const char *data, size_t length)
{
	struct reader *reader = arg;
	char *grown = realloc(reader->data, reader->length + length + 1);

	if (!grown)
		return -1;
	memcpy(grown + reader->length, data, length);
	reader->data = grown;
	reader->length += length;
	grown[reader->length] = '\0';
	return 0;
}

static struct reply *make(int kind, const char *text, size_t length)
{
	struct reply *reply = calloc(1, sizeof(*reply));

	reply->kind = kind;
	reply->text = calloc(1, length + 1);
	memcpy(reply->text, text, length);
	reply->length = length;
	return reply;
}

int redisReaderGetReply(void *arg, void **reply_out)
{
	struct reader *reader = arg;
	char *end = reader->length ? memmem(reader->data, reader->length, "\r\n", 2) : NULL, *start = reader->data;
	long length;

	*reply_out = NULL;
	if (!end)
		return 0;
	length = strtol(start + 1, NULL, 10);
	if (*start == '+' || *start == '-') {
		*reply_out = make(*start == '+' ? 5 : 6, start + 1, (size_t)(end - start - 1));
	} else if (*start == ':') {
		*reply_out = make(3, "", 0);
		((struct reply *)*reply_out)->integer = length;
	} else if (*start == '$' && length == -1) {
		*reply_out = make(4, "", 0);
	} else if (*start == '$' && length >= 0) {
		if (reader->length >= (size_t)(end + 4 - start) + (size_t)length)
			*reply_out = make(1, end + 2, (size_t)length);
	} else {
		snprintf(reader->text, sizeof(reader->text), "bad first byte");
		return -1;
	}
	return 0;
}

void freeReplyObject(void *arg)
{
	struct reply *reply = arg;

	free(reply->text);
	free(reply);
}

long long redisFormatCommandArgv(char **out, int count, const char **words, const size_t *lengths)
{
	size_t size = 32, used;

	for (int i = 0; i < count; i++)
		size += lengths[i] + 32;
	*out = malloc(size);
	used = (size_t)snprintf(*out, size, "*%d\r\n", count);
	for (int i = 0; i < count; i++) {
		used += (size_t)snprintf(*out + used, size - used, "$%zu\r\n", lengths[i]);
		memcpy(*out + used, words[i], lengths[i]);
		used += lengths[i];
		memcpy(*out + used, "\r\n", 2);
		used += 2;
	}
	return (long long)used;
}

void redisFreeCommand(char *request)
{
	free(request);
}
