/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of `causeway doctor` on the machine: memory, limits, rights between processes, accelerators. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor.h"
#include "lib/system_info.h"
#include "lib/units.h"

#define LOW_MEMORY (512ull << 20)
#define ATTACH_WORD                                                                                                    \
	0x9e3779b97f4a7c15ull /* only the child has it in memory                                                       \
			       */

static size_t count_paths(const char *pattern)
{
	glob_t found;
	size_t count = 0;

	if (glob(pattern, 0, NULL, &found) == 0) {
		count = found.gl_pathc;
		globfree(&found);
	}
	return count;
}

void doctor_memory(struct doctor *doctor)
{
	uint64_t total = system_meminfo("MemTotal"), available = system_meminfo("MemAvailable");
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char total_text[32], available_text[32], nodes[64] = "0";

	system_read_line("/sys/devices/system/node/online", nodes, sizeof(nodes));
	units_bytes(total, total_text, sizeof(total_text));
	units_bytes(available, available_text, sizeof(available_text));
	if (available < LOW_MEMORY)
		doctor_say(doctor, DOCTOR_WARN, "memory",
			   "only %s of %s are available: free some before registering more", available_text,
			   total_text);
	else
		doctor_say(doctor, DOCTOR_OK, "memory", "%s of %s are available", available_text, total_text);
	doctor_say(doctor, cpus < 2 ? DOCTOR_WARN : DOCTOR_OK, "cpus", "%ld online, NUMA nodes %s%s", cpus, nodes,
		   cpus < 2 ? "; a progress thread and the program share the one" : "");
}

void doctor_memlock(struct doctor *doctor)
{
	const int rdma = count_paths("/sys/class/infiniband/*") > 0;
	struct rlimit limit;
	char text[32];

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		return;
	if (limit.rlim_cur == RLIM_INFINITY)
		doctor_say(doctor, DOCTOR_OK, "memlock", "unlimited");
	else if (!rdma)
		doctor_say(doctor, DOCTOR_OK, "memlock", "%s; tcp and shm lock nothing, and there is no RDMA device",
			   units_bytes(limit.rlim_cur, text, sizeof(text)));
	else
		doctor_say(doctor, DOCTOR_WARN, "memlock",
			   "%s, but RDMA locks what is registered: set 'memlock unlimited' in "
			   "/etc/security/limits.conf, or LimitMEMLOCK=infinity, or --ulimit memlock=-1",
			   units_bytes(limit.rlim_cur, text, sizeof(text)));
}

void doctor_huge_pages(struct doctor *doctor)
{
	uint64_t total = system_meminfo("HugePages_Total"), available = system_meminfo("HugePages_Free");
	uint64_t size = system_meminfo("Hugepagesize");
	char transparent[64] = "unknown", text[32];

	system_read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", transparent, sizeof(transparent));
	if (total == 0)
		doctor_say(doctor, DOCTOR_OK, "huge pages",
			   "none reserved (memory with the huge flag uses ordinary pages); to reserve 1 GiB: sysctl "
			   "vm.nr_hugepages=512; transparent for shared memory: %s",
			   transparent);
	else
		doctor_say(doctor, available ? DOCTOR_OK : DOCTOR_WARN, "huge pages", "%llu of %llu free, %s each%s",
			   (unsigned long long)available, (unsigned long long)total,
			   units_bytes(size, text, sizeof(text)), available ? "" : ": raise vm.nr_hugepages");
}

/* The child shows where a word lies and waits to be ended. */
static _Noreturn void ptrace_child(int out, pid_t parent)
{
	static uint64_t word;
	const uint64_t *address = &word;

	word = ATTACH_WORD;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
	    write(out, &address, sizeof(address)) != (ssize_t)sizeof(address))
		_exit(1);
	for (;;)
		pause();
}

/* 0 when the child's word can be read and is right, else an errno. */
static int read_word(pid_t child, int in)
{
	uint64_t word = 0;
	void *address;
	struct iovec local = { &word, sizeof(word) }, remote = { NULL, sizeof(word) };

	if (read(in, &address, sizeof(address)) != (ssize_t)sizeof(address))
		return EIO;
	remote.iov_base = address;
	if (process_vm_readv(child, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(word))
		return errno;
	return word == ATTACH_WORD ? 0 : EIO;
}

/* What cross-memory attach can do from a parent to its child, by doing it; an errno. */
static int attach_test(void)
{
	pid_t parent = getpid(), child;
	int pipe_fds[2], error;

	if (pipe2(pipe_fds, O_CLOEXEC) != 0)
		return errno;
	fflush(NULL);
	child = fork();
	if (child == 0)
		ptrace_child(pipe_fds[1], parent);
	close(pipe_fds[1]);
	if (child < 0) {
		error = errno;
	} else {
		error = read_word(child, pipe_fds[0]);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	close(pipe_fds[0]);
	return error;
}

void doctor_ptrace(struct doctor *doctor)
{
	char scope[16] = "0";
	int error = attach_test();

	system_read_line("/proc/sys/kernel/yama/ptrace_scope", scope, sizeof(scope));
	if (error == ENOSYS || error == EPERM)
		doctor_say(doctor, DOCTOR_WARN, "ptrace",
			   "cross-memory attach is refused (%s): shm carries engine-owned memory only, other memory "
			   "goes by tcp; in a container add --cap-add SYS_PTRACE or allow process_vm_readv in seccomp",
			   strerror(error));
	else if (error)
		doctor_say(doctor, DOCTOR_WARN, "ptrace", "the self-test of cross-memory attach failed: %s",
			   strerror(error));
	else if (strcmp(scope, "0") != 0 && geteuid() != 0)
		doctor_say(doctor, DOCTOR_WARN, "ptrace",
			   "kernel.yama.ptrace_scope is %s: unrelated processes may not read each other's memory, shm "
			   "carries engine-owned memory only; sysctl kernel.yama.ptrace_scope=0 allows it",
			   scope);
	else
		doctor_say(doctor, DOCTOR_OK, "ptrace", "a process of the same user can be read (ptrace_scope %s)",
			   scope);
}

static int library_found(const char *const *patterns)
{
	for (; *patterns; patterns++)
		if (count_paths(*patterns))
			return 1;
	return 0;
}

void doctor_gpus(struct doctor *doctor)
{
	static const struct vendor {
		const char *subject, *devices;
		const char *libraries[6];
		const char *library_name;
	} vendors[] = {
		{ "NVIDIA GPUs",
		  "/dev/nvidia[0-9]*",
		  { "/usr/lib/*/libcuda.so.1", "/usr/lib64/libcuda.so.1", "/usr/local/cuda*/compat/libcuda.so.1",
		    "/usr/local/nvidia/lib64/libcuda.so.1", NULL },
		  "libcuda.so.1" },
		{ "AMD GPUs",
		  "/dev/kfd",
		  { "/opt/rocm*/lib/libamdhip64.so.*", "/usr/lib/*/libamdhip64.so.*", NULL },
		  "libamdhip64.so" },
	};
	size_t seen = 0;

	for (size_t i = 0; i < sizeof(vendors) / sizeof(vendors[0]); i++) {
		size_t devices = count_paths(vendors[i].devices);
		int library = library_found(vendors[i].libraries);

		seen += devices;
		if (devices && library)
			doctor_say(doctor, DOCTOR_OK, vendors[i].subject, "%zu device files, %s is installed", devices,
				   vendors[i].library_name);
		else if (devices)
			doctor_say(doctor, DOCTOR_WARN, vendors[i].subject,
				   "%zu device files, but %s was not found: install the vendor's user-space driver",
				   devices, vendors[i].library_name);
	}
	if (!seen)
		doctor_say(doctor, DOCTOR_OK, "GPUs", "no device files of a known vendor");
}
