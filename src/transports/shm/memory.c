/* SPDX-License-Identifier: Apache-2.0 */
/* The two ways to another process's memory: reading it through the kernel, and mapping what it granted. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <transports/shm/shm.h>
#include <unistd.h>

#define HUGE_PAGE (2u << 20)
#define UNIT (32u * 1024) /* of what two cores read together */
#define UNITS_MAX 64u

/* The identity comes first in each read: when it cannot be read, this is not the process we mean, and nothing else is.
 */
int cw__shm_read(const struct cw__shm_process *process, const struct iovec *local, const struct iovec *remote,
		 unsigned count, uint64_t *moved_out)
{
	unsigned char seen[CW__SHM_INSTANCE_BYTES];
	struct iovec into[CW__SHM_BATCH + 1], from[CW__SHM_BATCH + 1];
	size_t want = sizeof(seen);
	ssize_t got;

	*moved_out = 0;
	if (count > CW__SHM_BATCH)
		return CW_ERR_INVALID;
	into[0] = (struct iovec){ seen, sizeof(seen) };
	from[0] = (struct iovec){ (void *)(uintptr_t)process->proof, sizeof(seen) };
	for (unsigned i = 0; i < count; i++) {
		into[i + 1] = local[i];
		from[i + 1] = remote[i];
		want += local[i].iov_len;
	}
	got = process_vm_readv(process->pid, into, count + 1, from, count + 1, 0);
	if (got < 0)
		return errno == EPERM || errno == EACCES ? CW_ERR_PERMISSION
		       : errno == ENOSYS                 ? CW_ERR_UNSUPPORTED
		       : errno == ENOMEM                 ? CW_ERR_NO_MEMORY
							 : CW_ERR_PEER_DOWN;
	if ((size_t)got < sizeof(seen) || memcmp(seen, process->instance, sizeof(seen)) != 0)
		return CW_ERR_PEER_RESTARTED;
	*moved_out = (uint64_t)got - sizeof(seen);
	return (size_t)got == want ? CW_OK : CW_ERR_STALE_REGION;
}

/* A read in units, as two cores can share it. */
struct read_job {
	const struct cw__shm_process *process;
	const struct iovec *local, *remote;
	uint64_t total, unit;
	_Atomic uint64_t good; /* bytes before the first unit that failed */
	_Atomic int status;
};

static void read_units(void *arg, unsigned first, unsigned number)
{
	struct read_job *job = arg;
	struct iovec local[CW__SHM_BATCH], remote[CW__SHM_BATCH];
	uint64_t from = first * job->unit, skip = from, left = number * job->unit, moved, good;
	unsigned count = 0, i = 0;
	int status;

	if (left > job->total - from)
		left = job->total - from;
	while (skip >= job->local[i].iov_len)
		skip -= job->local[i++].iov_len;
	for (; left; i++, count++) {
		size_t length = job->local[i].iov_len - skip < left ? job->local[i].iov_len - skip : left;

		local[count] = (struct iovec){ (char *)job->local[i].iov_base + skip, length };
		remote[count] = (struct iovec){ (char *)job->remote[i].iov_base + skip, length };
		left -= length;
		skip = 0;
	}
	status = cw__shm_read(job->process, local, remote, count, &moved);
	if (!status)
		return;
	good = atomic_load_explicit(&job->good, memory_order_relaxed);
	while (from + moved < good &&
	       !atomic_compare_exchange_weak_explicit(&job->good, &good, from + moved, memory_order_relaxed,
						      memory_order_relaxed))
		;
	atomic_store_explicit(&job->status, status, memory_order_relaxed);
}

int cw__shm_read_fast(struct cw__copier *copier, const struct cw__shm_process *process, const struct iovec *local,
		      const struct iovec *remote, unsigned count, uint64_t *moved_out)
{
	struct read_job job = { .process = process, .local = local, .remote = remote, .unit = UNIT };

	for (unsigned i = 0; i < count; i++)
		job.total += local[i].iov_len;
	if (!job.total || count > CW__SHM_BATCH)
		return cw__shm_read(process, local, remote, count, moved_out);
	if (job.total > UNIT * UNITS_MAX)
		job.unit = (job.total + UNITS_MAX - 1) / UNITS_MAX;
	atomic_init(&job.good, job.total);
	atomic_init(&job.status, CW_OK);
	cw__copier_run(copier, read_units, &job, (unsigned)((job.total + job.unit - 1) / job.unit), job.total);
	*moved_out = atomic_load_explicit(&job.good, memory_order_relaxed);
	return atomic_load_explicit(&job.status, memory_order_relaxed);
}

int cw__shm_prove(const struct cw__shm_process *process)
{
	uint64_t moved;

	return process->pid > 0 ? cw__shm_read(process, NULL, NULL, 0, &moved) : CW_ERR_PEER_DOWN;
}

/* A mapping that begins as far into a huge page as the file's offset, so that huge pages of the file stay huge here. */
static void *map_aligned(size_t length, int protection, int fd, uint64_t offset)
{
	size_t span, skip;
	unsigned char *start;

	if (length < HUGE_PAGE || length > SIZE_MAX - 2 * HUGE_PAGE)
		return mmap(NULL, length, protection, MAP_SHARED, fd, (off_t)offset);
	span = length + HUGE_PAGE;
	start = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return MAP_FAILED;
	skip = (size_t)((offset - (uintptr_t)start) % HUGE_PAGE);
	if (mmap(start + skip, length, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED) {
		int cause = errno;

		munmap(start, span);
		errno = cause;
		return MAP_FAILED;
	}
	if (skip)
		munmap(start, skip);
	if (skip + length < span)
		munmap(start + skip + length, span - skip - length);
	return start + skip;
}

/* Only the region itself is mapped, out to whole pages, so that other regions in the same memfd stay out of reach. */
int cw__shm_map(int fd, uint64_t offset, uint64_t length, int writable, struct cw__shm_mapping *mapping_out)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat about;
	uint64_t page, from, to;
	void *start;

	/* Sealed against shrinking and long enough: no access of ours can ever meet a missing page. */
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &about) || about.st_size < 0 ||
	    offset > (uint64_t)about.st_size || length > (uint64_t)about.st_size - offset || !length)
		return CW_ERR_PROTOCOL;
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	if (about.st_blksize > 0 && (uint64_t)about.st_blksize > page)
		page = (uint64_t)about.st_blksize; /* huge pages */
	if (offset + length > UINT64_MAX - page)
		return CW_ERR_PROTOCOL;
	from = offset / page * page;
	to = (offset + length + page - 1) / page * page;
	start = map_aligned(to - from, PROT_READ | (writable ? PROT_WRITE : 0), fd, from);
	if (start == MAP_FAILED)
		return errno == ENOMEM ? CW_ERR_NO_MEMORY : CW_ERR_PROTOCOL;
	/* A forked child must not keep what we promise to give back. */
	madvise(start, to - from, MADV_DONTFORK);
	mapping_out->start = start;
	mapping_out->length = to - from;
	mapping_out->base = (unsigned char *)start + (offset - from);
	return CW_OK;
}

void cw__shm_unmap(struct cw__shm_mapping *mapping)
{
	if (mapping->start)
		munmap(mapping->start, mapping->length);
	mapping->start = NULL;
	mapping->base = NULL;
}
