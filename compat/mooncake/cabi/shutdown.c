/* SPDX-License-Identifier: Apache-2.0 */
/*
 * enableGracefulShutdown(): the only place that touches signals, and only when a program asks for it. SIGTERM and
 * SIGINT wake a thread that closes the engines, so that their names leave the store, then puts the earlier action back
 * and sends the signal again. A second signal meanwhile has the earlier action at once. Ignored signals stay ignored.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "face.h"
#include "util/thread.h"

static const int signals[] = { SIGTERM, SIGINT };
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int pipe_ends[2] = { -1, -1 }; /* made once, before the first handler is set */
static pid_t owner;                   /* a forked child has the handlers, but nothing to close */
static struct sigaction earlier[SIGNALS];
static _Atomic int set[SIGNALS]; /* ours is in place, and earlier is what was there; release and acquire */

/* May run in any thread at any point: only calls that signal-safety(7) lists. */
static void on_signal(int number)
{
	int error = errno;
	unsigned char place = 0;

	while (place < SIGNALS && signals[place] != number)
		place++;
	if (place < SIGNALS && atomic_exchange_explicit(&set[place], 0, memory_order_acq_rel)) {
		sigaction(number, &earlier[place], NULL);
		if (owner != getpid() || write(pipe_ends[1], &place, 1) != 1)
			raise(number); /* comes when this handler has returned */
	}
	errno = error;
}

static void *run(void *unused)
{
	unsigned char place;

	(void)unused;
	for (;;) {
		ssize_t got = read(pipe_ends[0], &place, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got != 1 || place >= SIGNALS)
			return NULL;
		face_close_graceful();
		kill(getpid(), signals[place]); /* to any thread, as the first one was */
	}
}

static void at_exit(void)
{
	if (owner == getpid())
		face_close_graceful();
}

/* With the lock, once: the thread takes no signals, so that they go to the program's own. */
static int begin(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int failed;

	if (pipe2(pipe_ends, O_CLOEXEC) != 0)
		return -1;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	failed = cw__thread_start(&thread, &attributes, run, NULL);
	pthread_attr_destroy(&attributes);
	if (failed) {
		close(pipe_ends[0]);
		close(pipe_ends[1]);
		return -1;
	}
	owner = getpid();
	atexit(at_exit);
	return 0;
}

/* With the lock: also again, after a signal took ours away and the program went on. */
static void set_handlers(void)
{
	struct sigaction ours = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigemptyset(&ours.sa_mask);
	for (size_t i = 0; i < SIGNALS; i++) {
		struct sigaction now;

		if (atomic_load_explicit(&set[i], memory_order_acquire) || sigaction(signals[i], NULL, &now) != 0)
			continue;
		if (!(now.sa_flags & SA_SIGINFO) && (now.sa_handler == SIG_IGN || now.sa_handler == on_signal))
			continue;
		earlier[i] = now;
		atomic_store_explicit(&set[i], 1, memory_order_release);
		if (sigaction(signals[i], &ours, NULL) != 0)
			atomic_store_explicit(&set[i], 0, memory_order_release);
	}
}

void face_graceful(struct face *face)
{
	int ready;

	pthread_mutex_lock(&lock);
	ready = owner == getpid() || (!owner && begin() == 0);
	if (ready) {
		__atomic_store_n(&face->graceful, 1, __ATOMIC_RELEASE);
		set_handlers();
	}
	pthread_mutex_unlock(&lock);
	if (!ready)
		face_log(face, CW_LOG_WARN,
			 "the engine will not be closed by signals: no pipe or thread could be made");
}
