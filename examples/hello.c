/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first program: two processes, one message. The child offers memory; the
 * parent writes into it, reads it back and compares. An engine belongs to the
 * process that opened it, so the fork comes first. The name of the child's
 * engine goes to the parent through a pipe; two programs on two machines would
 * use their configuration.
 */
#include <causeway/causeway.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 4096

static int complain(const char *what) {
  fprintf(stderr, "%s: %s\n", what, cw_last_error());
  return 1;
}

/* Offers memory until the parent closes its end of the pipe. */
static int serve(int to_parent, int from_parent) {
  struct cw_engine *engine;
  struct cw_region *region;
  void *memory;
  char end;

  if (cw_engine_open(NULL, &engine) != CW_OK)
    return complain("child: engine");
  if (cw_memory_allocate(engine, SIZE, NULL, &memory, &region) != CW_OK)
    return complain("child: memory");
  if (dprintf(to_parent, "%s", cw_engine_name(engine)) < 0)
    return 1;
  while (read(from_parent, &end, 1) > 0)
    continue;
  printf("child: found \"%s\"\n", (const char *)memory);
  cw_engine_close(engine);
  return 0;
}

/* Moves size bytes between local memory and the target, and waits for the end.
 */
static int move(struct cw_engine *engine, struct cw_segment *segment,
                enum cw_op op, void *local, uint64_t remote) {
  struct cw_request request = {
      .segment = segment,
      .op = op,
      .local = {.base = (uint64_t)(uintptr_t)local,
                .page_size = SIZE,
                .count = 1},
      .remote = {.base = remote, .page_size = SIZE, .count = 1},
  };
  struct cw_batch *batch;
  int done;

  if (cw_batch_submit(engine, &request, 1, NULL, &batch) != CW_OK)
    return complain("parent: submit");
  done = cw_batch_wait(batch, CW_FOREVER) == CW_OK &&
         cw_batch_poll(batch) == CW_BATCH_COMPLETED;
  cw_batch_release(batch);
  return done ? 0 : complain("parent: transfer");
}

static int greet(const char *child) {
  static char out[SIZE] = "hello, causeway", in[SIZE];
  struct cw_engine *engine;
  struct cw_region *out_region, *in_region;
  struct cw_segment *segment;
  struct cw_remote_region remote;
  size_t count;
  int failed;

  if (cw_engine_open(NULL, &engine) != CW_OK ||
      cw_region_register(engine, out, SIZE, NULL, &out_region) != CW_OK ||
      cw_region_register(engine, in, SIZE, NULL, &in_region) != CW_OK)
    return complain("parent: engine or memory");
  if (cw_segment_open(engine, child, NULL, &segment) != CW_OK ||
      cw_segment_regions(segment, &remote, 1, &count) != CW_OK || count == 0)
    return complain("parent: segment");
  failed = move(engine, segment, CW_OP_WRITE, out, remote.address) ||
           move(engine, segment, CW_OP_READ, in, remote.address) ||
           memcmp(in, out, SIZE) != 0;
  printf("parent: %s\n",
         failed ? "failed" : "wrote, read back, compared: equal");
  cw_engine_close(engine);
  return failed;
}

int main(void) {
  int up[2], down[2], status = 1;
  char name[256] = "";
  pid_t child;

  if (pipe(up) != 0 || pipe(down) != 0 || (child = fork()) < 0)
    return 1;
  if (child == 0)
    return close(down[1]) || serve(up[1], down[0]);
  if (read(up[0], name, sizeof(name) - 1) > 0)
    status = greet(name);
  close(down[1]);
  return waitpid(child, &(int){0}, 0) != child || status;
}
