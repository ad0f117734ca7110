/* SPDX-License-Identifier: Apache-2.0 */
/* Requests made of columns of addresses and lengths; rows.c. */
#ifndef CAUSEWAY_PYTHON_ROWS_H
#define CAUSEWAY_PYTHON_ROWS_H

#include "face.h"

struct rows {
	struct cw_engine *engine;
	struct cw_segment *segment;
	enum cw_op op;
	const struct column *local, *remote, *length;
	uint64_t count;
};

struct request_list {
	struct cw_request *requests;
	size_t count;
	uint64_t *pages; /* what requests point at */
};

/* CW_OK or CW_ERR_NO_MEMORY. Needs no GIL. */
int rows_build(const struct rows *rows, struct request_list *list_out);
void request_list_free(struct request_list *list);

#endif
