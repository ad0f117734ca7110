/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns (pattern.h) in memory of any kind. What the CPU must not touch is written and read by requests of the engine
 * to itself, a piece at a time, through host memory that belongs to this struct. One thread at a time.
 */
#ifndef TOOLS_CONTENT_H
#define TOOLS_CONTENT_H

#include "lib/engine.h"

struct content {
	const char *command;
	struct cw_engine *engine;
	int on_device;
	/* For device memory: */
	struct cw_segment *self;
	struct cw_region *region;
	unsigned char *bounce;
};

/* 0, or -1 after a message. */
int content_open(const char *command, struct cw_engine *engine, int on_device, struct content *content_out);
void content_close(struct content *content);

/* Each returns 0, or -1 after a message; matches returns 1 when the bytes are what fill writes, 0 when not. */
int content_fill(struct content *content, unsigned char *address, uint64_t length, uint64_t key);
int content_clear(struct content *content, unsigned char *address, uint64_t length);
int content_matches(struct content *content, const unsigned char *address, uint64_t length, uint64_t key);

#endif
