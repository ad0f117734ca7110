/* SPDX-License-Identifier: Apache-2.0 */
/* See child.h. */
#include "lib/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/units.h"

#define START_SECONDS 60
#define STOP_SECONDS 10
#define ARGUMENTS_MAX 256

static _Noreturn void run_child(int out, pid_t parent, const char *const *arguments)
{
	const char *argv[ARGUMENTS_MAX] = { "causeway" };
	size_t count = 1;

	/* The parent may have died before the request to be told about it. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent)
		_exit(127);
	while (*arguments && count + 1 < ARGUMENTS_MAX)
		argv[count++] = *arguments++;
	if (!*arguments && dup2(out, STDOUT_FILENO) >= 0)
		execv("/proc/self/exe", (char *const *)argv);
	_exit(127);
}

/* Reads up to the first newline; what comes after it is not for us. */
static int read_line(int in, char *line, size_t length)
{
	uint64_t end = units_now() + START_SECONDS * NANOSECONDS;
	size_t used = 0;

	while (used + 1 < length) {
		struct pollfd ready = { .fd = in, .events = POLLIN };
		uint64_t now = units_now();
		ssize_t got;

		if (now >= end || (poll(&ready, 1, (int)((end - now) / 1000000) + 1) < 0 && errno != EINTR))
			return -1;
		if (!ready.revents)
			continue;
		got = read(in, line + used, 1);
		if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
			return -1;
		if (got < 0)
			continue;
		if (line[used] == '\n') {
			line[used] = '\0';
			return 0;
		}
		used++;
	}
	return -1;
}

int child_start(struct child *child, const char *const *arguments)
{
	char line[CHILD_NAME_MAX + 64];
	const char *name;
	pid_t parent = getpid();
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
		perror("causeway: pipe");
		return -1;
	}
	fflush(NULL);
	child->pid = fork();
	if (child->pid == 0)
		run_child(pipe_fds[1], parent, arguments);
	close(pipe_fds[1]);
	if (child->pid < 0) {
		perror("causeway: fork");
		close(pipe_fds[0]);
		return -1;
	}
	name = read_line(pipe_fds[0], line, sizeof(line)) == 0 ? strstr(line, CHILD_READY) : NULL;
	close(pipe_fds[0]);
	if (!name || strlen(name + strlen(CHILD_READY)) >= CHILD_NAME_MAX) {
		fprintf(stderr, "causeway: the second process did not start\n");
		child_stop(child);
		return -1;
	}
	snprintf(child->name, sizeof(child->name), "%s", name + strlen(CHILD_READY));
	return 0;
}

int child_stop(struct child *child)
{
	uint64_t end = units_now() + STOP_SECONDS * NANOSECONDS;
	int status = 0;
	pid_t ended = 0;

	if (child->pid <= 0)
		return 0;
	kill(child->pid, SIGTERM);
	while ((ended = waitpid(child->pid, &status, WNOHANG)) == 0 && units_now() < end)
		poll(NULL, 0, 5);
	if (ended == 0) {
		kill(child->pid, SIGKILL);
		ended = waitpid(child->pid, &status, 0);
	}
	child->pid = 0;
	if (ended < 0)
		return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
