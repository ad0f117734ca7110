/* SPDX-License-Identifier: Apache-2.0 */
/* What is shared with tests: the reading of urls. */
#ifndef CW_METADATA_HTTP_HTTP_H
#define CW_METADATA_HTTP_HTTP_H

#include <causeway/plugin.h>

#define CW__HTTP_URL_MAX 2000 /* bytes of the user's url */

struct cw__http_url {
	char scheme[8];
	char address[300]; /* HOST:PORT as given */
	char before_key[CW__HTTP_URL_MAX + 8];
};

extern const struct cw_metadata_ops cw_metadata_http;

/* NULL, or one constant line that says what is wrong with the url. */
const char *cw__http_url_parse(const char *text, struct cw__http_url *url_out);

#endif
