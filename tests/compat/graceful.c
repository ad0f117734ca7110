/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends of processes: an engine that asked to be closed with its process, and a program that has its own ideas about
 * signals. Prints its address, then waits for lines or signals.
 *
 *     graceful default|handler|ignore|off|fork
 *
 * handler: has a handler for SIGTERM from before, which prints whether the engine is still there when it runs.
 * ignore: ignores SIGINT. off: never asks for anything. fork: a child gets the signal, the parent's engine stays.
 * With METADATA_SERVER in the environment its name there is LOCAL_NAME. A line "exit" ends it by exit(), "state" prints
 * whether the engine is still there.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interfaces.h"

static transfer_engine_t engine;

static const char *state(void)
{
	char name[64];

	return getLocalIpAndPort(engine, name, sizeof(name)) == 0 ? "open\n" : "closed\n";
}

static void say(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		_exit(3);
}

static void on_signal(int number)
{
	(void)number;
	say("own handler: ");
	say(state());
}

/* The child has the parent's numbers and handlers, but not its engine; it may have one of its own. */
static int work_in_child(void)
{
	transfer_engine_t own;
	int bad;

	bad = registerLocalMemory(engine, &own, sizeof(own), "*", 1) >= 0 || openSegment(engine, "127.0.0.1:1") >= 0;
	destroyTransferEngine(engine);
	own = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "", 0, 1);
	bad |= !own || registerLocalMemory(own, &own, sizeof(own), "*", 1) != 0;
	destroyTransferEngine(own);
	return bad;
}

static void fork_and_signal(void)
{
	pid_t child = fork();
	int how;

	if (child == 0) {
		if (work_in_child())
			_exit(5);
		raise(SIGTERM);
		_exit(4);
	}
	if (child < 0 || waitpid(child, &how, 0) != child)
		exit(1);
	printf("child %d\n", WIFSIGNALED(how) ? WTERMSIG(how) : -WEXITSTATUS(how));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "", *store = getenv("METADATA_SERVER");
	char line[64];

	if (strcmp(mode, "handler") == 0)
		signal(SIGTERM, on_signal);
	if (strcmp(mode, "ignore") == 0)
		signal(SIGINT, SIG_IGN);
	engine = createTransferEngine(store ? store : "P2PHANDSHAKE", store ? getenv("LOCAL_NAME") : "127.0.0.1", "", 0,
				      1);
	if (!engine || getLocalIpAndPort(engine, line, sizeof(line)) != 0)
		return 1;
	if (strcmp(mode, "off") != 0) {
		enableGracefulShutdown(engine);
		enableGracefulShutdown(engine);
	}
	printf("%s\n", line);
	fflush(stdout);
	if (strcmp(mode, "fork") == 0)
		fork_and_signal();
	for (;;) {
		if (!fgets(line, sizeof(line), stdin)) {
			if (feof(stdin))
				return 0;
			clearerr(stdin);
		} else if (strcmp(line, "exit\n") == 0) {
			exit(0);
		} else {
			say(state());
		}
	}
}
