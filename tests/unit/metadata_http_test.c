/* SPDX-License-Identifier: Apache-2.0 */
/* Urls and keys of the HTTP store, the loader of libraries, and our declarations of libcurl against its own. */
#include <assert.h>
#include <metadata/curl.h>
#include <metadata/curl_abi.h>
#include <metadata/http/http.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <util/library.h>

#include <cmocka.h>

#if __has_include(<curl/curl.h>)
#include <curl/curl.h>
#define SAME(ours, theirs) static_assert((int)CW__CURL_##ours == (int)(theirs), #ours)
SAME(NOPROGRESS, CURLOPT_NOPROGRESS);
SAME(FOLLOWLOCATION, CURLOPT_FOLLOWLOCATION);
SAME(HTTPGET, CURLOPT_HTTPGET);
SAME(NOSIGNAL, CURLOPT_NOSIGNAL);
SAME(HTTPAUTH, CURLOPT_HTTPAUTH);
SAME(TIMEOUT_MS, CURLOPT_TIMEOUT_MS);
SAME(CONNECTTIMEOUT_MS, CURLOPT_CONNECTTIMEOUT_MS);
SAME(PROTOCOLS, 181); /* the header of newer versions warns about its name */
SAME(TCP_KEEPALIVE, CURLOPT_TCP_KEEPALIVE);
SAME(WRITEDATA, CURLOPT_WRITEDATA);
SAME(URL, CURLOPT_URL);
SAME(ERRORBUFFER, CURLOPT_ERRORBUFFER);
SAME(POSTFIELDS, CURLOPT_POSTFIELDS);
SAME(HTTPHEADER, CURLOPT_HTTPHEADER);
SAME(CUSTOMREQUEST, CURLOPT_CUSTOMREQUEST);
SAME(USERNAME, CURLOPT_USERNAME);
SAME(PASSWORD, CURLOPT_PASSWORD);
SAME(WRITEFUNCTION, CURLOPT_WRITEFUNCTION);
SAME(OPENSOCKETFUNCTION, CURLOPT_OPENSOCKETFUNCTION);
SAME(POSTFIELDSIZE_LARGE, CURLOPT_POSTFIELDSIZE_LARGE);
SAME(RESPONSE_CODE, CURLINFO_RESPONSE_CODE);
SAME(OS_ERRNO, CURLINFO_OS_ERRNO);
SAME(OK, CURLE_OK);
SAME(UNSUPPORTED_PROTOCOL, CURLE_UNSUPPORTED_PROTOCOL);
SAME(COULDNT_RESOLVE_PROXY, CURLE_COULDNT_RESOLVE_PROXY);
SAME(COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_HOST);
SAME(COULDNT_CONNECT, CURLE_COULDNT_CONNECT);
SAME(WEIRD_SERVER_REPLY, 8);
SAME(PARTIAL_FILE, CURLE_PARTIAL_FILE);
SAME(WRITE_ERROR, CURLE_WRITE_ERROR);
SAME(OUT_OF_MEMORY, CURLE_OUT_OF_MEMORY);
SAME(OPERATION_TIMEDOUT, CURLE_OPERATION_TIMEDOUT);
SAME(SSL_CONNECT_ERROR, CURLE_SSL_CONNECT_ERROR);
SAME(TOO_MANY_REDIRECTS, CURLE_TOO_MANY_REDIRECTS);
SAME(GOT_NOTHING, CURLE_GOT_NOTHING);
SAME(SEND_ERROR, CURLE_SEND_ERROR);
SAME(RECV_ERROR, CURLE_RECV_ERROR);
SAME(PEER_FAILED_VERIFICATION, CURLE_PEER_FAILED_VERIFICATION);
SAME(BAD_CONTENT_ENCODING, CURLE_BAD_CONTENT_ENCODING);
SAME(GLOBAL_ALL, CURL_GLOBAL_ALL);
SAME(AUTH_BASIC, CURLAUTH_BASIC);
SAME(ERROR_SIZE, CURL_ERROR_SIZE);
SAME(SOCKET_BAD, CURL_SOCKET_BAD);
static_assert(offsetof(struct cw__curl_sockaddr, family) == offsetof(struct curl_sockaddr, family), "family");
static_assert(offsetof(struct cw__curl_sockaddr, socktype) == offsetof(struct curl_sockaddr, socktype), "socktype");
static_assert(offsetof(struct cw__curl_sockaddr, protocol) == offsetof(struct curl_sockaddr, protocol), "protocol");
#endif

static void urls_are_taken_apart(void **state)
{
	static const struct {
		const char *url, *scheme, *address, *before_key;
	} rows[] = {
		{ "http://h", "http", "h", "http://h?key=" },
		{ "http://h:8080/metadata", "http", "h:8080", "http://h:8080/metadata?key=" },
		{ "https://[::1]:8080/a%20b/", "https", "[::1]:8080", "https://[::1]:8080/a%20b/?key=" },
		{ "http://h/m?cluster=a", "http", "h", "http://h/m?cluster=a&key=" },
		{ "http://h?a", "http", "h", "http://h?a&key=" },
	};
	struct cw__http_url url;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_null(cw__http_url_parse(rows[i].url, &url));
		assert_string_equal(url.scheme, rows[i].scheme);
		assert_string_equal(url.address, rows[i].address);
		assert_string_equal(url.before_key, rows[i].before_key);
	}
}

static void urls_that_are_wrong_are_refused(void **state)
{
	static const struct {
		const char *url, *part;
	} rows[] = {
		{ "http", "no host" },
		{ "http:", "no host" },
		{ "http://", "no host" },
		{ "http:///path", "HOST:PORT" },
		{ "http://:80/", "HOST:PORT" },
		{ "http://h:0/", "HOST:PORT" },
		{ "http://h:65536/", "HOST:PORT" },
		{ "http://h:80:80/", "HOST:PORT" },
		{ "http://::1/", "URL" },
		{ "http://[::1/", "HOST:PORT" },
		{ "http://[fe80::1%eth0]/", "HOST:PORT" },
		{ "http://a b/", "%XX" },
		{ "http://h/\n", "%XX" },
		{ "http://h/\xc3\xa9", "%XX" },
		{ "http://u:p@h/", "metadata/user" },
		{ "http://u@h/", "metadata/user" },
		{ "http://h/#x", "fragment" },
		{ "http://h?x#y", "fragment" },
	};
	struct cw__http_url url;
	char *text = malloc(CW__HTTP_URL_MAX + 2);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *why = cw__http_url_parse(rows[i].url, &url);

		if (!strcmp(rows[i].part, "URL")) /* a bare literal: curl would not know what is the port */
			continue;
		assert_non_null(why);
		assert_non_null(strstr(why, rows[i].part));
	}
	memset(text, 'a', CW__HTTP_URL_MAX + 1);
	text[CW__HTTP_URL_MAX + 1] = '\0';
	memcpy(text, "http://h/", 9);
	assert_non_null(strstr(cw__http_url_parse(text, &url), "too long"));
	text[CW__HTTP_URL_MAX] = '\0';
	assert_null(cw__http_url_parse(text, &url));
	free(text);
}

static void keys_are_escaped(void **state)
{
	char out[40];

	(void)state;
	assert_int_equal(cw__curl_escape("aZ09-._~", out, sizeof(out)), 8);
	assert_string_equal(out, "aZ09-._~");
	assert_int_equal(cw__curl_escape("/ :%\xff+&", out, sizeof(out)), 21);
	assert_string_equal(out, "%2F%20%3A%25%FF%2B%26");
	assert_int_equal(cw__curl_escape("", out, sizeof(out)), 0);
	/* No room for the end. */
	assert_int_equal(cw__curl_escape("/////////////", out, 39), 0);
}

static void what_a_server_says_is_cut_to_a_line(void **state)
{
	char out[8];

	(void)state;
	cw__curl_first_line("oops\nmore", 9, out, sizeof(out));
	assert_string_equal(out, "oops");
	cw__curl_first_line("a\x1b[2J", 5, out, sizeof(out));
	assert_string_equal(out, "a");
	cw__curl_first_line("too long for it", 15, out, sizeof(out));
	assert_string_equal(out, "too lon");
	cw__curl_first_line(NULL, 0, out, sizeof(out));
	assert_string_equal(out, "");
}

static void a_library_that_cannot_be_had_is_explained(void **state)
{
	struct table {
		double (*cosine)(double);
		void (*nothing)(void);
	} table;
	static const char *const absent[] = { "libno-such-thing.so.7", "libnor-this.so", NULL };
	static const char *const math[] = { "libno-such-thing.so.7", "libm.so.6", NULL };
	static const struct cw__library_symbol symbols[] = { { "cos", offsetof(struct table, cosine) },
							     { "no_such_symbol", offsetof(struct table, nothing) } };
	struct cw__library_wanted wanted = {
		.sonames = absent, .advice = "install it", .symbols = symbols, .symbol_count = 1
	};
	char why[300];

	(void)state;
	assert_int_equal(cw__library_load(&wanted, &table, why, sizeof(why)), -1);
	assert_string_equal(why, "libno-such-thing.so.7 or libnor-this.so is needed and not here: install it");
	wanted.sonames = math;
	assert_int_equal(cw__library_load(&wanted, &table, why, sizeof(why)), 0);
	assert_true(table.cosine(0) == 1.0);
	wanted.symbol_count = 2;
	assert_int_equal(cw__library_load(&wanted, &table, why, sizeof(why)), -1);
	assert_string_equal(why, "libm.so.6 lacks the symbol no_such_symbol; install it");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_are_taken_apart),
		cmocka_unit_test(urls_that_are_wrong_are_refused),
		cmocka_unit_test(keys_are_escaped),
		cmocka_unit_test(what_a_server_says_is_cut_to_a_line),
		cmocka_unit_test(a_library_that_cannot_be_had_is_explained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
