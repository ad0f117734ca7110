/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few things of libcurl's binary interface (soname version 4, stable since 2006) that we use, declared here so that
 * neither building nor linking needs libcurl. tests/unit/metadata_curl_test.c compares them with curl's own headers.
 */
#ifndef CW_METADATA_CURL_ABI_H
#define CW_METADATA_CURL_ABI_H

/* CURLoption: 0 + n take a long, 10000 + n a pointer, 20000 + n a function, 30000 + n a 64-bit offset. */
enum cw__curl_option {
	CW__CURL_NOPROGRESS = 43,
	CW__CURL_FOLLOWLOCATION = 52,
	CW__CURL_HTTPGET = 80,
	CW__CURL_NOSIGNAL = 99,
	CW__CURL_HTTPAUTH = 107,
	CW__CURL_TIMEOUT_MS = 155,
	CW__CURL_CONNECTTIMEOUT_MS = 156,
	CW__CURL_PROTOCOLS = 181,
	CW__CURL_TCP_KEEPALIVE = 213,
	CW__CURL_QUICK_EXIT = 322,
	CW__CURL_WRITEDATA = 10001,
	CW__CURL_URL = 10002,
	CW__CURL_ERRORBUFFER = 10010,
	CW__CURL_POSTFIELDS = 10015,
	CW__CURL_HTTPHEADER = 10023,
	CW__CURL_CUSTOMREQUEST = 10036,
	CW__CURL_USERNAME = 10173,
	CW__CURL_PASSWORD = 10174,
	CW__CURL_WRITEFUNCTION = 20011,
	CW__CURL_OPENSOCKETFUNCTION = 20163,
	CW__CURL_POSTFIELDSIZE_LARGE = 30120
};

enum cw__curl_info { CW__CURL_RESPONSE_CODE = 0x200002, CW__CURL_OS_ERRNO = 0x200019 };

/* CURLcode: those that are told apart. */
enum cw__curl_code {
	CW__CURL_OK = 0,
	CW__CURL_UNSUPPORTED_PROTOCOL = 1,
	CW__CURL_COULDNT_RESOLVE_PROXY = 5,
	CW__CURL_COULDNT_RESOLVE_HOST = 6,
	CW__CURL_COULDNT_CONNECT = 7,
	CW__CURL_WEIRD_SERVER_REPLY = 8,
	CW__CURL_PARTIAL_FILE = 18,
	CW__CURL_WRITE_ERROR = 23,
	CW__CURL_OUT_OF_MEMORY = 27,
	CW__CURL_OPERATION_TIMEDOUT = 28,
	CW__CURL_SSL_CONNECT_ERROR = 35,
	CW__CURL_TOO_MANY_REDIRECTS = 47,
	CW__CURL_GOT_NOTHING = 52,
	CW__CURL_SEND_ERROR = 55,
	CW__CURL_RECV_ERROR = 56,
	CW__CURL_PEER_FAILED_VERIFICATION = 60,
	CW__CURL_BAD_CONTENT_ENCODING = 61
};

#define CW__CURL_GLOBAL_ALL 3L
#define CW__CURL_PROTOCOL_HTTP 1L
#define CW__CURL_PROTOCOL_HTTPS 2L
#define CW__CURL_AUTH_BASIC 1L
#define CW__CURL_ERROR_SIZE 256
#define CW__CURL_SOCKET_BAD (-1)

/* How struct curl_sockaddr begins. */
struct cw__curl_sockaddr {
	int family, socktype, protocol;
};

struct cw__curl_list; /* struct curl_slist */

#endif
