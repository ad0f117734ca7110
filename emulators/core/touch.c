/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option touch=report: a load or store of the CPU in device memory is reported, with the process's report, before the
 * process dies of it. Not by default, because a signal handler belongs to the program.
 */
#include "state.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct sigaction before;
static const char *report_folder;

static void touched(int signal_number, siginfo_t *info, void *context)
{
	char line[128];
	int n;

	(void)signal_number;
	(void)context;
	if (cw__emu_memory_is_device(info->si_addr)) {
		cw__emu_gauge(CW__EMU_HOST_TOUCHES, 1);
		n = snprintf(line, sizeof(line), "causeway emulator: the CPU touched device memory at %p\n",
			     info->si_addr);
		if (write(STDERR_FILENO, line, (size_t)n) != n)
			n = 0; /* there is nobody to tell */
		if (cw__emu.tracing)
			cw__emu_trace_close(report_folder);
	}
	/* The access is made again, and has its usual end. */
	sigaction(SIGSEGV, &before, NULL);
}

void cw__emu_touch_watch(const char *folder)
{
	struct sigaction action;

	report_folder = folder;
	memset(&action, 0, sizeof(action));
	action.sa_sigaction = touched;
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGSEGV, &action, &before);
}
