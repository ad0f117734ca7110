/* SPDX-License-Identifier: Apache-2.0 */
/* The program in an emulated world: a child whose signals and exit status are ours. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emulate.h"

#define EXIT_NOT_STARTED 126
#define EXIT_NOT_FOUND 127

static const int passed_on[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT };

static _Noreturn void become(char *const *arguments, const sigset_t *mask, pid_t parent)
{
	/* Were we killed, nobody would end the child any more; and the parent may be gone before that is asked for. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(EXIT_NOT_STARTED);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(arguments[0], arguments);
	fprintf(stderr, "causeway emulate: %s: %s\n", arguments[0], strerror(errno));
	_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_STARTED);
}

/* Passes on what comes until the child has ended; what the terminal sends, the child gets by itself. */
static int wait_for(pid_t child, const sigset_t *signals)
{
	for (;;) {
		siginfo_t info;
		int status, number;
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (ended == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (ended < 0 && errno != EINTR)
			return EXIT_NOT_STARTED;
		number = sigwaitinfo(signals, &info);
		if (number > 0 && number != SIGCHLD && info.si_code != SI_KERNEL)
			kill(child, number);
	}
}

int emulate_run(const char *command, char *const *arguments)
{
	sigset_t signals, mask;
	pid_t parent = getpid(), child;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(&signals, passed_on[i]);
	/* A SIGCHLD that is ignored would never come. */
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_BLOCK, &signals, &mask);
	fflush(NULL);
	child = fork();
	if (child == 0)
		become(arguments, &mask, parent);
	if (child < 0) {
		fprintf(stderr, "%s: cannot start a process: %s\n", command, strerror(errno));
		return EXIT_NOT_STARTED;
	}
	return wait_for(child, &signals);
}
