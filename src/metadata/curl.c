/* SPDX-License-Identifier: Apache-2.0 */
/* See curl.h; the declarations of libcurl are in curl_abi.h. */
#include <metadata/curl.h>
#include <ctype.h>
#include <metadata/curl_abi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <util/clock.h>
#include <util/library.h>

#define IDLE_MAX 16 /* handles that are kept */

struct cw__curl_handle {
	void *easy;
	struct cw__curl_handle *next;
	struct cw__curl_list *headers;
	char error[CW__CURL_ERROR_SIZE];
};

/* ------------------------------------------------------------------------------------------ the library */

struct library {
	int (*global_init)(long flags);
	void *(*init)(void);
	void (*cleanup)(void *easy);
	void (*reset)(void *easy);
	int (*setopt)(void *easy, int option, ...);
	int (*perform)(void *easy);
	int (*getinfo)(void *easy, int info, ...);
	const char *(*strerror)(int code);
	struct cw__curl_list *(*list_append)(struct cw__curl_list *list, const char *text);
	void (*list_free)(struct cw__curl_list *list);
};

static const char *const sonames[] = { "libcurl.so.4", "libcurl-gnutls.so.4", "libcurl-nss.so.4", NULL };
static const struct cw__library_symbol symbols[] = {
	{ "curl_global_init", offsetof(struct library, global_init) },
	{ "curl_easy_init", offsetof(struct library, init) },
	{ "curl_easy_cleanup", offsetof(struct library, cleanup) },
	{ "curl_easy_reset", offsetof(struct library, reset) },
	{ "curl_easy_setopt", offsetof(struct library, setopt) },
	{ "curl_easy_perform", offsetof(struct library, perform) },
	{ "curl_easy_getinfo", offsetof(struct library, getinfo) },
	{ "curl_easy_strerror", offsetof(struct library, strerror) },
	{ "curl_slist_append", offsetof(struct library, list_append) },
	{ "curl_slist_free_all", offsetof(struct library, list_free) },
};
static const struct cw__library_wanted wanted = {
	.sonames = sonames,
	.advice = "install libcurl4",
	.symbols = symbols,
	.symbol_count = sizeof(symbols) / sizeof(symbols[0]),
};

/* Filled once, under the lock, before the first client exists; only read afterwards. */
static struct library curl;
static int loaded;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

static int load(char *why, size_t why_size)
{
	int failed = 0;

	pthread_mutex_lock(&loading);
	if (!loaded) {
		failed = cw__library_load(&wanted, &curl, why, why_size);
		if (!failed && curl.global_init(CW__CURL_GLOBAL_ALL)) {
			snprintf(why, why_size, "libcurl cannot be initialised");
			failed = 1;
		}
		loaded = !failed;
	}
	pthread_mutex_unlock(&loading);
	return failed ? CW_ERR_UNSUPPORTED : CW_OK;
}

/* ------------------------------------------------------------------------------------------ the handles */

static void handle_free(struct cw__curl_handle *handle)
{
	if (handle->easy)
		curl.cleanup(handle->easy);
	free(handle);
}

static struct cw__curl_handle *handle_get(struct cw__curl_client *client)
{
	struct cw__curl_handle *handle;

	pthread_mutex_lock(&client->lock);
	handle = client->idle;
	if (handle) {
		client->idle = handle->next;
		client->idle_count--;
	}
	pthread_mutex_unlock(&client->lock);
	if (handle)
		return handle;
	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return NULL;
	handle->easy = curl.init();
	if (!handle->easy) {
		free(handle);
		return NULL;
	}
	return handle;
}

/* The one used last is used next: its connection is the least likely to be closed by now. */
static void handle_put(struct cw__curl_client *client, struct cw__curl_handle *handle)
{
	int kept = 0;

	curl.reset(handle->easy);
	pthread_mutex_lock(&client->lock);
	if (client->idle_count < IDLE_MAX) {
		handle->next = client->idle;
		client->idle = handle;
		client->idle_count++;
		kept = 1;
	}
	pthread_mutex_unlock(&client->lock);
	if (!kept)
		handle_free(handle);
}

int cw__curl_init(struct cw__curl_client *client, struct cw_host *host, char *why, size_t why_size)
{
	int status = load(why, why_size);

	if (status)
		return status;
	client->host = host;
	client->idle = NULL;
	client->idle_count = 0;
	pthread_mutex_init(&client->lock, NULL);
	return CW_OK;
}

void cw__curl_free(struct cw__curl_client *client)
{
	while (client->idle) {
		struct cw__curl_handle *handle = client->idle;

		client->idle = handle->next;
		handle_free(handle);
	}
	pthread_mutex_destroy(&client->lock);
}

/* ----------------------------------------------------------------------------------------- one request */

struct reception {
	struct cw_host *host;
	struct cw_blob *answer;
	size_t left;
	int status;
};

/* The type of curl's write callback. */
static size_t receive(char *data, size_t size, size_t count, void *arg)
{
	struct reception *reception = arg;
	size_t length = size * count; /* size is always 1 */

	if (length > reception->left)
		reception->status = CW_ERR_LIMIT;
	else
		reception->status = reception->host->ops->blob_append(reception->answer, data, length);
	if (reception->status)
		return length ? 0 : 1;
	reception->left -= length;
	return length;
}

static int open_socket(void *arg, int purpose, const struct cw__curl_sockaddr *address)
{
	(void)arg;
	(void)purpose;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int add_header(struct cw__curl_handle *handle, const char *line)
{
	struct cw__curl_list *grown = curl.list_append(handle->headers, line);

	if (!grown)
		return CW_ERR_NO_MEMORY;
	handle->headers = grown;
	return CW_OK;
}

/* Whole milliseconds, at least one: 0 would mean "for ever". */
static long milliseconds(uint64_t timeout)
{
	uint64_t count = timeout / CW__MS + (timeout % CW__MS != 0);

	return count == 0 ? 1 : count > 3600000 ? 3600000 : (long)count;
}

static int prepare(struct cw__curl_handle *handle, const struct cw__curl_request *request, struct reception *reception)
{
	static size_t (*const receive_fn)(char *data, size_t size, size_t count, void *arg) = receive;
	static int (*const socket_fn)(void *arg, int purpose, const struct cw__curl_sockaddr *address) = open_socket;
	void *easy = handle->easy;
	int failed = 0, status = CW_OK;

	failed |= curl.setopt(easy, CW__CURL_URL, request->url);
	failed |= curl.setopt(easy, CW__CURL_PROTOCOLS, CW__CURL_PROTOCOL_HTTP | CW__CURL_PROTOCOL_HTTPS);
	failed |= curl.setopt(easy, CW__CURL_NOSIGNAL, 1L);
	failed |= curl.setopt(easy, CW__CURL_NOPROGRESS, 1L);
	failed |= curl.setopt(easy, CW__CURL_FOLLOWLOCATION, 0L);
	failed |= curl.setopt(easy, CW__CURL_TCP_KEEPALIVE, 1L);
	failed |= curl.setopt(easy, CW__CURL_TIMEOUT_MS, milliseconds(request->timeout));
	failed |= curl.setopt(easy, CW__CURL_CONNECTTIMEOUT_MS, milliseconds(request->timeout));
	/* Else a request that is late waits for the thread that waits for a name server. Before 7.87 there is no way.
	 */
	curl.setopt(easy, CW__CURL_QUICK_EXIT, 1L);
	failed |= curl.setopt(easy, CW__CURL_WRITEFUNCTION, receive_fn);
	failed |= curl.setopt(easy, CW__CURL_WRITEDATA, (void *)reception);
	failed |= curl.setopt(easy, CW__CURL_OPENSOCKETFUNCTION, socket_fn);
	failed |= curl.setopt(easy, CW__CURL_ERRORBUFFER, handle->error);
	failed |= curl.setopt(easy, CW__CURL_CUSTOMREQUEST, request->method);
	if (request->body) {
		failed |= curl.setopt(easy, CW__CURL_POSTFIELDSIZE_LARGE, (int64_t)request->body_length);
		failed |= curl.setopt(easy, CW__CURL_POSTFIELDS, request->body);
		status = add_header(handle, "Content-Type: application/json");
		/* Otherwise curl waits a second for leave to send a large body, which simple servers never give. */
		if (!status)
			status = add_header(handle, "Expect:");
	} else {
		failed |= curl.setopt(easy, CW__CURL_HTTPGET, 1L);
		failed |= curl.setopt(easy, CW__CURL_CUSTOMREQUEST, request->method);
	}
	if (!status && request->authorization)
		status = add_header(handle, request->authorization);
	if (handle->headers)
		failed |= curl.setopt(easy, CW__CURL_HTTPHEADER, handle->headers);
	if (request->user || request->password) {
		failed |= curl.setopt(easy, CW__CURL_HTTPAUTH, CW__CURL_AUTH_BASIC);
		failed |= curl.setopt(easy, CW__CURL_USERNAME, request->user ? request->user : "");
		failed |= curl.setopt(easy, CW__CURL_PASSWORD, request->password ? request->password : "");
	}
	return status ? status : failed ? CW_ERR_NO_MEMORY : CW_OK;
}

/* The TLS library below curl may write to a closed socket without MSG_NOSIGNAL. The signal is kept from the process by
 * blocking it in this thread for the while and by taking away the one that arose. */
static int perform_without_sigpipe(void *easy)
{
	static const struct timespec at_once = { 0, 0 };
	sigset_t pipe, before, pending;
	int was_pending, code;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigpending(&pending);
	was_pending = sigismember(&pending, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &before);
	code = curl.perform(easy);
	if (!was_pending)
		sigtimedwait(&pipe, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

static const struct {
	int code, status;
	const char *why; /* NULL = curl's own words */
} failures[] = {
	{ CW__CURL_COULDNT_RESOLVE_HOST, CW_ERR_CONNECT, "the name of the host cannot be resolved" },
	{ CW__CURL_COULDNT_RESOLVE_PROXY, CW_ERR_CONNECT, "the name of the proxy cannot be resolved" },
	{ CW__CURL_COULDNT_CONNECT, CW_ERR_CONNECT, NULL },
	{ CW__CURL_SSL_CONNECT_ERROR, CW_ERR_CONNECT, NULL },
	{ CW__CURL_PEER_FAILED_VERIFICATION, CW_ERR_CONNECT, NULL },
	{ CW__CURL_OUT_OF_MEMORY, CW_ERR_NO_MEMORY, "out of memory, or a line of its answer is far too long" },
	{ CW__CURL_GOT_NOTHING, CW_ERR_IO, "closed the connection without an answer" },
	{ CW__CURL_PARTIAL_FILE, CW_ERR_IO, "closed the connection in the middle of its answer" },
	{ CW__CURL_SEND_ERROR, CW_ERR_IO, NULL },
	{ CW__CURL_RECV_ERROR, CW_ERR_IO, NULL },
	{ CW__CURL_UNSUPPORTED_PROTOCOL, CW_ERR_PROTOCOL, "does not speak HTTP" },
	{ CW__CURL_WEIRD_SERVER_REPLY, CW_ERR_PROTOCOL, "does not speak HTTP" },
	{ CW__CURL_BAD_CONTENT_ENCODING, CW_ERR_PROTOCOL, NULL },
};

/* Fills in request->why and returns the status. */
static int explain(const struct cw__curl_handle *handle, struct cw__curl_request *request,
		   const struct reception *reception, int code)
{
	const char *why = *handle->error ? handle->error : curl.strerror(code);
	size_t size = sizeof(request->why);
	int status = CW_ERR_IO;
	long error = 0;

	if (reception->status == CW_ERR_LIMIT) {
		snprintf(request->why, size, "its answer is longer than %zu bytes", request->limit);
		return CW_ERR_LIMIT;
	}
	if (reception->status) {
		snprintf(request->why, size, "out of memory");
		return CW_ERR_NO_MEMORY;
	}
	if (code == CW__CURL_OPERATION_TIMEDOUT) {
		snprintf(request->why, size, "no answer within %ld ms", milliseconds(request->timeout));
		return CW_ERR_TIMED_OUT;
	}
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		if (failures[i].code == code) {
			status = failures[i].status;
			why = failures[i].why ? failures[i].why : why;
		}
	if (code == CW__CURL_COULDNT_CONNECT && !curl.getinfo(handle->easy, CW__CURL_OS_ERRNO, &error) && error)
		why = strerror((int)error);
	cw__curl_first_line(why, strlen(why), request->why, size);
	*request->why = (char)tolower((unsigned char)*request->why);
	return status;
}

int cw__curl_perform(struct cw__curl_client *client, struct cw__curl_request *request)
{
	struct cw__curl_handle *handle = handle_get(client);
	struct reception reception = { client->host, request->answer, request->limit, CW_OK };
	size_t before = request->answer->length;
	int status, code;

	*request->why = '\0';
	request->code = 0;
	if (!handle) {
		snprintf(request->why, sizeof(request->why), "out of memory");
		return CW_ERR_NO_MEMORY;
	}
	*handle->error = '\0';
	handle->headers = NULL;
	status = prepare(handle, request, &reception);
	if (status) {
		snprintf(request->why, sizeof(request->why), "out of memory");
	} else {
		code = perform_without_sigpipe(handle->easy);
		if (code)
			status = explain(handle, request, &reception, code);
		else
			curl.getinfo(handle->easy, CW__CURL_RESPONSE_CODE, &request->code);
	}
	if (handle->headers)
		curl.list_free(handle->headers);
	handle_put(client, handle);
	if (status)
		request->answer->length = before;
	return status;
}

/* ------------------------------------------------------------------------------------------------- text */

size_t cw__curl_escape(const char *text, char *out, size_t size)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t used = 0;

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		int plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			    strchr("-._~", c) != NULL;

		if (size - used < 4)
			return 0;
		if (plain) {
			out[used++] = (char)c;
			continue;
		}
		out[used++] = '%';
		out[used++] = digits[c >> 4];
		out[used++] = digits[c & 15];
	}
	out[used] = '\0';
	return used;
}

void cw__curl_first_line(const void *text, size_t length, char *out, size_t size)
{
	const char *from = text;
	size_t used = 0;

	while (used < length && used + 1 < size && from[used] >= ' ' && from[used] < 0x7f) {
		out[used] = from[used];
		used++;
	}
	out[used] = '\0';
}
