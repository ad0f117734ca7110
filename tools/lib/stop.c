/* SPDX-License-Identifier: Apache-2.0 */
/* See stop.h. The handler writes to an eventfd, because any thread may be the one that the signal interrupts. */
#include "lib/stop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static volatile sig_atomic_t requested;
static int wake_fd = -1;

static void on_signal(int number)
{
	static const uint64_t one = 1;
	int saved = errno;

	(void)number;
	requested = 1;
	/* It cannot fail in a way that matters: a full counter wakes too. */
	if (write(wake_fd, &one, sizeof(one)) < 0)
		requested = 1;
	errno = saved;
}

int stop_install(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0)
		return -1;
	sigemptyset(&action.sa_mask);
	return sigaction(SIGINT, &action, NULL) == 0 && sigaction(SIGTERM, &action, NULL) == 0 ? 0 : -1;
}

int stop_requested(void)
{
	return requested != 0;
}

void stop_wait(void)
{
	struct pollfd wake = { .fd = wake_fd, .events = POLLIN };

	while (!requested)
		poll(&wake, 1, -1);
}

int stop_fd(void)
{
	return wake_fd;
}
