/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: a thread for the copies from one device (or host memory) to another, by all links or by a certain one. A
 * lane's thread has its home device current for all its life, and its stream and events are made there: the home is the
 * source, or the destination when the source is host memory. Blocking jobs are copied in bounded chunks, one after the
 * other. Asynchronous ones are put on the stream in groups; an event after each group tells its end, and while one
 * group runs the next is put behind it.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <transports/peer_copy/inside.h>

#define CHUNK (8ull * 1024 * 1024) /* of one blocking call */
#define PIECES 16u                 /* put on their way under one hold of the locks */
#define GROUPS 4u                  /* on a stream at once */
#define GROUP_JOBS 4u
#define LINK_GROUP_JOBS 1u     /* links share a request evenly when each tells of every slice */
#define SPEED_MIN (64u * 1024) /* shorter calls say little about the speed */
#define SPIN_NS 50000ull       /* a lane that has worked looks for more for so long before it sleeps */
#define LOOKS 16u              /* between two at the clock */
#define GIVE_WAY_NS 200000ull  /* so long a lane lets its devices go for who waits for them */
#define LOCK_NS (50 * CW__MS)  /* between two looks whether a job that waits for its devices is still wanted */
#define RECORD_NS CW__SECOND   /* then an event is recorded although somebody holds the device */
#define SLOW_NS CW__MS         /* of one call: small copies go elsewhere */
#define LONG_NS CW__SECOND     /* of a job that somebody wants to end: its devices are stuck */
#define TOO_LONG_NS (5 * CW__SECOND)
#define PAUSE_FIRST 20000ull /* between two looks at an event */
#define PAUSE_LAST 1000000ull

struct group {
	void *event;
	struct cw__pc_job *jobs; /* by next */
	int recorded, blind;     /* the event tells the end; recording it failed: the result */
};

struct cw__pc_lane {
	struct cw__list node; /* cw__peer_copy.lanes */
	struct cw__peer_copy *pc;
	struct cw__pc_way way; /* to, from and link count */
	pthread_t thread;
	pthread_mutex_t lock; /* guards the next ones */
	pthread_cond_t work, gone;
	struct cw__pc_job *head, **tail; /* queue */
	int sleeping, stop, exited;
	_Atomic unsigned queued;
	_Atomic int poster;          /* processor on which the last job was posted */
	_Atomic int processor;       /* on which it began the last blocking job */
	_Atomic double bytes_per_ns; /* of blocking calls, lately; 0 = not known yet; the thread changes it */
	_Atomic uint64_t since;      /* when it began with what it is at, or waits for; 0 = nothing */
	_Atomic int stuck; /* that has lasted too long, and is counted in its devices; changes with the lock */
	/* The thread's own: */
	int entered;
	void *stream;
	struct group groups[GROUPS];
	unsigned first, count; /* of groups under way */
	uint64_t spin_until, waited_since;
};

/* ------------------------------------------------------------------------------------- what it is at now */

static void begins(struct cw__pc_lane *lane, uint64_t now)
{
	atomic_store_explicit(&lane->since, now, memory_order_relaxed);
}

static void count_stuck(struct cw__pc_lane *lane, unsigned by)
{
	struct cw__pc_device *devices = lane->pc->devices;

	if (lane->way.to >= 0)
		atomic_fetch_add_explicit(&devices[lane->way.to].stuck, by, memory_order_relaxed);
	if (lane->way.from >= 0 && lane->way.from != lane->way.to)
		atomic_fetch_add_explicit(&devices[lane->way.from].stuck, by, memory_order_relaxed);
}

/* With the lock: if it has been at the same thing for so long, nobody else is to try those devices. */
static void suspect(struct cw__pc_lane *lane, uint64_t limit)
{
	uint64_t since = atomic_load_explicit(&lane->since, memory_order_relaxed);

	if (!since || atomic_load_explicit(&lane->stuck, memory_order_relaxed) || cw__now() <= cw__after(since, limit))
		return;
	atomic_store_explicit(&lane->stuck, 1, memory_order_relaxed);
	count_stuck(lane, 1);
}

/* It is through with that; groups may still be under way on its stream. */
static void is_through(struct cw__pc_lane *lane)
{
	begins(lane, lane->count ? lane->waited_since : 0);
	if (!atomic_load_explicit(&lane->stuck, memory_order_relaxed))
		return;
	pthread_mutex_lock(&lane->lock);
	atomic_store_explicit(&lane->stuck, 0, memory_order_relaxed);
	pthread_mutex_unlock(&lane->lock);
	count_stuck(lane, -1u);
}

/* ----------------------------------------------------------------------------------------------- queue */

/* With the lock. */
static struct cw__pc_job *pop(struct cw__pc_lane *lane)
{
	struct cw__pc_job *job = lane->head;

	if (!job)
		return NULL;
	lane->head = job->next;
	if (!lane->head)
		lane->tail = &lane->head;
	atomic_fetch_sub_explicit(&lane->queued, 1, memory_order_relaxed);
	return job;
}

/* Waits for a job for a moment, but not on the processor of the one who would bring it. */
static void look_out(struct cw__pc_lane *lane)
{
	for (unsigned i = 0; !atomic_load_explicit(&lane->queued, memory_order_relaxed); i++) {
		if (i % LOOKS == 0 && (cw__now() >= lane->spin_until ||
				       atomic_load_explicit(&lane->poster, memory_order_relaxed) == sched_getcpu()))
			break;
		cw__pc_relax();
	}
}

/* The next job; NULL when the lane is to end, or there is none and wait is 0. */
static struct cw__pc_job *take(struct cw__pc_lane *lane, int wait)
{
	struct cw__pc_job *job;

	if (wait)
		look_out(lane);
	pthread_mutex_lock(&lane->lock);
	while (!(job = pop(lane)) && wait && !lane->stop) {
		lane->sleeping = 1;
		pthread_cond_wait(&lane->work, &lane->lock);
		lane->sleeping = 0;
	}
	pthread_mutex_unlock(&lane->lock);
	return job;
}

/* The next job if it is asynchronous too. */
static struct cw__pc_job *take_alike(struct cw__pc_lane *lane)
{
	struct cw__pc_job *job;

	pthread_mutex_lock(&lane->lock);
	job = lane->head && lane->head->async ? pop(lane) : NULL;
	pthread_mutex_unlock(&lane->lock);
	return job;
}

/* --------------------------------------------------------------------------------------------- one job */

/* The pieces of its slice from `offset` on; 0 = the slice was taken away. */
static unsigned job_pieces(struct cw__pc_lane *lane, const struct cw__pc_job *job, uint64_t offset,
			   struct cw_piece *pieces, unsigned max, uint64_t *length_out)
{
	unsigned count = 0;

	pthread_mutex_lock(&lane->lock);
	*length_out = job->slice ? job->slice->length : 0;
	if (job->slice && offset < *length_out)
		count = lane->pc->host->ops->slice_pieces(job->slice, offset, pieces, max);
	pthread_mutex_unlock(&lane->lock);
	return count;
}

/* A slice of our own region is checked as any peer's access would be. The pin of its first piece holds the region, and
 * is there before the other pieces are looked at: none of them can be revoked unnoticed. */
static int pin_piece(struct cw__pc_lane *lane, struct cw__pc_job *job, const struct cw_piece *piece)
{
	const struct cw_host_ops *ops = lane->pc->host->ops;
	int status;

	job->claim.address = piece->remote;
	job->claim.length = piece->length;
	status = job->pinned ? ops->access_check(lane->pc->host, &job->claim)
			     : ops->access_begin(lane->pc->host, &job->claim, &job->grant);
	job->pinned |= !status;
	return status;
}

static int pin_own(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	struct cw_piece pieces[PIECES];
	uint64_t offset = 0, length;
	unsigned count;
	int status = CW_OK;

	while (!status && (count = job_pieces(lane, job, offset, pieces, PIECES, &length)))
		for (unsigned i = 0; i < count && !status; i++) {
			status = pin_piece(lane, job, &pieces[i]);
			offset += pieces[i].length;
		}
	return status;
}

/* 1 = the thread that waits for it takes the result, and the job is its own again. */
static int quick_finish(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	struct cw__peer_copy *pc = lane->pc;
	int waited = CW__PC_WAITED;

	if (!atomic_compare_exchange_strong_explicit(&job->wait, &waited, CW__PC_ENDING, memory_order_acquire,
						     memory_order_acquire))
		return 0;
	if (job->pinned)
		pc->host->ops->access_end(pc->host, &job->grant, job->status ? 0 : job->offset);
	atomic_store_explicit(&job->wait, CW__PC_ENDED, memory_order_release);
	return 1;
}

/* After this the job is its peer's again, and may be gone. */
static void job_finish(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	struct cw__peer_copy *pc = lane->pc;
	int abandoned;

	if (job->way.quick && quick_finish(lane, job))
		return;
	if (job->status && job->remote == CW_REMOTE_QUIET && atomic_load_explicit(&job->canceled, memory_order_relaxed))
		job->status = CW_ERR_CANCELED;
	pthread_mutex_lock(&lane->lock);
	abandoned = !job->slice;
	job->ending = 1;
	/* The engine of an abandoned one is closed, and its regions with it. */
	if (job->pinned && !abandoned)
		pc->host->ops->access_end(pc->host, &job->grant, job->status ? 0 : job->offset);
	pthread_mutex_unlock(&lane->lock);
	if (!abandoned) {
		cw__pc_job_finished(job);
		return;
	}
	atomic_fetch_sub_explicit(&pc->leaked, 1, memory_order_relaxed);
}

static void link_failed(struct cw__pc_lane *lane)
{
	struct cw__peer_copy *pc = lane->pc;
	const struct cw__peer_copy_link *link = &pc->kind.links[lane->way.link];

	if (atomic_exchange_explicit(&pc->links[lane->way.link].down, 1, memory_order_acq_rel))
		return;
	pc->host->ops->log(pc->host, CW_LOG_WARN,
			   "%s: the link between device %d port %d and device %d port %d failed; others take its share",
			   pc->kind.name, link->device[0], link->port[0], link->device[1], link->port[1]);
	cw__pc_keeper_watch(pc, (unsigned)lane->way.link);
}

/* A job's status from a vendor's result, once. Of one that was taken away nobody hears any more: its engine may be
 * closed.
 */
static void job_fail(struct cw__pc_lane *lane, struct cw__pc_job *job, int result, const char *what)
{
	int abandoned;

	pthread_mutex_lock(&lane->lock);
	abandoned = !job->slice;
	pthread_mutex_unlock(&lane->lock);
	if (abandoned) {
		job->status = CW_ERR_IO;
		return;
	}
	if (!job->status)
		job->status = cw__pc_failed(lane->pc, &job->way, result, what);
	if (job->way.link >= 0 && !lane->pc->gpu->is_fatal(result))
		link_failed(lane);
}

static int may_begin(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	const char *why;

	if (atomic_load_explicit(&job->canceled, memory_order_relaxed))
		job->status = CW_ERR_CANCELED;
	else if (cw__pc_way_check(lane->pc, &job->way, &why))
		job->status = CW_ERR_UNSUPPORTED;
	else if (!lane->entered)
		job->status = CW_ERR_IO;
	else if (job->peer->self)
		job->status = pin_own(lane, job);
	return !job->status;
}

/* 0 = it is not wanted any more. One that waits for devices which somebody else does not let go of touches nothing. */
static int lock_devices(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	while (!atomic_load_explicit(&job->canceled, memory_order_relaxed))
		if (!cw__pc_lock(lane->pc->gpu->vendor, job->way.to, job->way.from, LOCK_NS))
			return 1;
	job->status = CW_ERR_CANCELED;
	return 0;
}

static void ends(const struct cw__pc_job *job, const struct cw_piece *piece, uint64_t *to, uint64_t *from)
{
	uint64_t here = (uint64_t)(uintptr_t)piece->local + job->local_shift;
	uint64_t there = piece->remote + job->remote_shift;

	*to = job->way.writes ? there : here;
	*from = job->way.writes ? here : there;
}

/* --------------------------------------------------------------------------------------- blocking calls */

/* Until who waits for one of the devices has it: whoever looks only now and then would never find it free. */
static void give_way(uint32_t vendor, const struct cw__pc_way *way)
{
	uint64_t until = 0;

	while (cw__pc_is_wanted(vendor, way->to, way->from)) {
		if (!until)
			until = cw__now() + GIVE_WAY_NS;
		else if (cw__now() >= until)
			break;
		sched_yield();
	}
}

static void note_speed(struct cw__pc_lane *lane, uint64_t length, uint64_t took)
{
	double now = (double)length / (double)(took + 1);
	double before = atomic_load_explicit(&lane->bytes_per_ns, memory_order_relaxed);

	if (length >= SPEED_MIN)
		atomic_store_explicit(&lane->bytes_per_ns, before > 0 ? before + (now - before) / 4 : now,
				      memory_order_relaxed);
}

/* 0 = the job goes no further. */
static int copy_piece(struct cw__pc_lane *lane, struct cw__pc_job *job, const struct cw_piece *piece)
{
	uint32_t vendor = lane->pc->gpu->vendor;
	uint64_t to, from;

	ends(job, piece, &to, &from);
	for (uint64_t at = 0; at < piece->length;) {
		uint64_t left = piece->length - at, length = left < CHUNK ? left : CHUNK, begin;
		int result;

		if (!lock_devices(lane, job))
			return 0;
		begin = cw__now();
		begins(lane, begin);
		result = cw__pc_copy(lane->pc, &job->way, to + at, from + at, length, NULL);
		cw__pc_unlock(vendor, job->way.to, job->way.from);
		is_through(lane);
		if (result) {
			job_fail(lane, job, result, "copying");
			return 0;
		}
		note_speed(lane, length, cw__now() - begin);
		at += length;
		job->offset += length;
		give_way(vendor, &job->way);
	}
	return 1;
}

static void run_blocking(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	struct cw_piece pieces[PIECES];
	int going = may_begin(lane, job);
	uint64_t length;
	unsigned count;

	atomic_store_explicit(&lane->processor, sched_getcpu(), memory_order_relaxed);
	while (going && (count = job_pieces(lane, job, job->offset, pieces, PIECES, &length)))
		for (unsigned i = 0; i < count && going; i++)
			going = copy_piece(lane, job, &pieces[i]);
	job_finish(lane, job);
}

/* The devices were looked at when it was posted. */
static void run_quick(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	if (!lane->entered)
		job->status = CW_ERR_IO;
	for (unsigned i = 0; i < job->piece_count && job->peer->self && !job->status; i++)
		job->status = pin_piece(lane, job, &job->pieces[i]);
	for (unsigned i = 0; i < job->piece_count && !job->status; i++)
		copy_piece(lane, job, &job->pieces[i]);
	job_finish(lane, job);
}

/* ---------------------------------------------------------------------------------- streams and events */

static void close_stream(struct cw__pc_lane *lane)
{
	const struct cw__gpu *gpu = lane->pc->gpu;

	for (unsigned i = 0; i < GROUPS; i++) {
		if (lane->groups[i].event)
			gpu->event_close(lane->groups[i].event);
		lane->groups[i].event = NULL;
	}
	if (lane->stream)
		gpu->stream_close(lane->stream);
	lane->stream = NULL;
}

/* With the home locked. */
static int open_stream(struct cw__pc_lane *lane)
{
	const struct cw__gpu *gpu = lane->pc->gpu;
	int result = lane->stream ? 0 : gpu->stream_open(&lane->stream);

	for (unsigned i = 0; i < GROUPS && !result; i++)
		if (!lane->groups[i].event)
			result = gpu->event_open(&lane->groups[i].event);
	return result;
}

/* Puts a job on the stream. What was put before a failure runs all the same: the job ends with its group. */
static void put_job(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	uint32_t vendor = lane->pc->gpu->vendor;
	struct cw_piece pieces[PIECES];
	uint64_t length, to, from;
	unsigned count;

	while (!job->status && (count = job_pieces(lane, job, job->offset, pieces, PIECES, &length))) {
		int result;

		if (!lock_devices(lane, job))
			return;
		begins(lane, cw__now());
		result = open_stream(lane);
		for (unsigned i = 0; i < count && !result; i++) {
			ends(job, &pieces[i], &to, &from);
			result = cw__pc_copy(lane->pc, &job->way, to, from, pieces[i].length, lane->stream);
			job->offset += result ? 0 : pieces[i].length;
		}
		cw__pc_unlock(vendor, job->way.to, job->way.from);
		is_through(lane);
		if (result)
			job_fail(lane, job, result, "starting a copy");
	}
}

static void group_end(struct cw__pc_lane *lane, struct group *group)
{
	while (group->jobs) {
		struct cw__pc_job *job = group->jobs;

		group->jobs = job->next;
		job_finish(lane, job);
	}
	lane->first = (lane->first + 1) % GROUPS;
	lane->count--;
}

static void group_start(struct cw__pc_lane *lane, struct cw__pc_job *job)
{
	const struct cw__gpu *gpu = lane->pc->gpu;
	struct group *group = &lane->groups[(lane->first + lane->count) % GROUPS];
	struct cw__pc_job **tail = &group->jobs;
	unsigned most = lane->way.link < 0 ? GROUP_JOBS : LINK_GROUP_JOBS;
	int home = cw__pc_home(&lane->way), put = 0, held, result;

	for (unsigned i = 0; job; job = ++i < most ? take_alike(lane) : NULL) {
		if (may_begin(lane, job))
			put_job(lane, job);
		put |= job->offset != 0;
		job->next = NULL;
		*tail = job;
		tail = &job->next;
	}
	group->recorded = group->blind = 0;
	if (put) {
		held = !cw__pc_lock(gpu->vendor, home, home, RECORD_NS);
		begins(lane, cw__now());
		result = gpu->event_record(group->event, lane->stream);
		if (held)
			cw__pc_unlock(gpu->vendor, home, home);
		group->recorded = !result;
		group->blind = result;
	}
	lane->count++;
	lane->waited_since = cw__now();
	is_through(lane);
}

/* Sleeps a little, less so if a job comes that could be put behind. */
static void pause_a_little(struct cw__pc_lane *lane)
{
	uint64_t now = cw__now(), waited = now - lane->waited_since, pause = PAUSE_FIRST, until;
	struct timespec at;

	if (waited < SPIN_NS) {
		cw__pc_relax();
		return;
	}
	if (waited / 16 > pause)
		pause = waited / 16 < PAUSE_LAST ? waited / 16 : PAUSE_LAST;
	until = now + pause;
	at = (struct timespec){ (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };
	pthread_mutex_lock(&lane->lock);
	if (!lane->head || lane->count == GROUPS) {
		lane->sleeping = lane->count < GROUPS;
		pthread_cond_timedwait(&lane->work, &lane->lock, &at);
		lane->sleeping = 0;
	}
	pthread_mutex_unlock(&lane->lock);
}

/* Looks once at the group that was started first. */
static void group_look(struct cw__pc_lane *lane)
{
	struct group *group = &lane->groups[lane->first];
	int result = group->recorded ? lane->pc->gpu->event_query(group->event) : group->blind, drained;

	if (result == CW__GPU_NOT_READY) {
		pause_a_little(lane);
		return;
	}
	/* The copies may still run, whatever went wrong with the question: their memory must not be given back yet. */
	drained = !result || cw__gpu_drain(lane->pc->gpu, lane->stream);
	for (struct cw__pc_job *job = group->jobs; result && job; job = job->next) {
		if (!drained && job->offset)
			job->remote = CW_REMOTE_UNKNOWN;
		job_fail(lane, job, result, group->blind ? "recording an event" : "copying");
	}
	group_end(lane, group);
	lane->waited_since = cw__now();
	if (result && !lane->count)
		close_stream(lane); /* the next one is not to suffer from it */
	is_through(lane);
}

/* ---------------------------------------------------------------------------------------------- thread */

static void *lane_main(void *arg)
{
	struct cw__pc_lane *lane = arg;
	const struct cw__gpu *gpu = lane->pc->gpu;
	struct cw__gpu_scope scope;
	int result;

	begins(lane, cw__now());
	result = gpu->enter(cw__pc_home(&lane->way), &scope);
	is_through(lane);
	lane->entered = !result;
	if (result)
		cw__pc_failed(lane->pc, &lane->way, result, "preparing copies");
	for (;;) {
		struct cw__pc_job *job = lane->count < GROUPS ? take(lane, !lane->count) : NULL;

		if (!job && !lane->count)
			break;
		if (job && job->async) {
			group_start(lane, job);
		} else if (job) {
			while (lane->count)
				group_look(lane);
			if (job->way.quick)
				run_quick(lane, job);
			else
				run_blocking(lane, job);
		} else {
			group_look(lane);
		}
		lane->spin_until = cw__now() + SPIN_NS;
	}
	if (lane->entered) {
		close_stream(lane);
		gpu->leave(&scope);
	}
	pthread_mutex_lock(&lane->lock);
	lane->exited = 1;
	pthread_cond_signal(&lane->gone);
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

static struct cw__pc_lane *lane_new(struct cw__peer_copy *pc, const struct cw__pc_way *way)
{
	struct cw__pc_lane *lane = calloc(1, sizeof(*lane));
	pthread_condattr_t attributes;

	if (!lane)
		return NULL;
	lane->pc = pc;
	lane->way = *way;
	lane->tail = &lane->head;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&lane->work, &attributes);
	pthread_cond_init(&lane->gone, &attributes);
	pthread_condattr_destroy(&attributes);
	if (!cw__pc_thread(&lane->thread, lane_main, lane))
		return lane;
	pthread_cond_destroy(&lane->work);
	pthread_cond_destroy(&lane->gone);
	pthread_mutex_destroy(&lane->lock);
	free(lane);
	return NULL;
}

static _Atomic(struct cw__pc_lane *) *slot_of(struct cw__peer_copy *pc, const struct cw__pc_way *way)
{
	return way->link < 0 ? &pc->table[way->quick][way->from + 1][way->to + 1]
			     : &pc->link_table[way->link][way->from > way->to];
}

static struct cw__pc_lane *lane_get(struct cw__peer_copy *pc, const struct cw__pc_way *way)
{
	_Atomic(struct cw__pc_lane *) *slot = slot_of(pc, way);
	struct cw__pc_lane *lane = atomic_load_explicit(slot, memory_order_acquire);

	if (lane)
		return lane;
	pthread_mutex_lock(&pc->lock);
	lane = atomic_load_explicit(slot, memory_order_relaxed);
	if (!lane) {
		lane = lane_new(pc, way);
		if (lane)
			cw__list_push_back(&pc->lanes, &lane->node);
		atomic_store_explicit(slot, lane, memory_order_release);
	}
	pthread_mutex_unlock(&pc->lock);
	return lane;
}

/* --------------------------------------------------------------------------------------- from the loop */

/* With the lock: how long a job that is to begin now will take, in ns; 0 = nobody knows. */
static uint64_t expected_time(struct cw__pc_lane *lane, const struct cw__pc_job *job)
{
	double speed = atomic_load_explicit(&lane->bytes_per_ns, memory_order_relaxed);

	if (lane->head || atomic_load_explicit(&lane->since, memory_order_relaxed) || job->async || job->way.quick)
		return 0;
	return speed > 0 ? (uint64_t)((double)job->slice->length / speed) : 0;
}

int cw__pc_lane_processor(const struct cw__pc_lane *lane)
{
	return atomic_load_explicit(&lane->processor, memory_order_relaxed);
}

int cw__pc_lane_post(struct cw__peer_copy *pc, struct cw__pc_job *job)
{
	struct cw__pc_lane *lane = lane_get(pc, &job->way);
	int wake;

	if (!lane)
		return CW_ERR_NO_MEMORY;
	job->lane = lane;
	job->next = NULL;
	atomic_store_explicit(&lane->poster, sched_getcpu(), memory_order_relaxed);
	pthread_mutex_lock(&lane->lock);
	suspect(lane, TOO_LONG_NS);
	job->expected = expected_time(lane, job);
	*lane->tail = job;
	lane->tail = &job->next;
	atomic_fetch_add_explicit(&lane->queued, 1, memory_order_relaxed);
	wake = lane->sleeping;
	pthread_mutex_unlock(&lane->lock);
	if (wake)
		pthread_cond_signal(&lane->work);
	return CW_OK;
}

int cw__pc_lane_cancel(struct cw__pc_job *job)
{
	struct cw__pc_lane *lane = job->lane;
	struct cw__pc_job **at;
	int found;

	atomic_store_explicit(&job->canceled, 1, memory_order_relaxed);
	pthread_mutex_lock(&lane->lock);
	suspect(lane, LONG_NS);
	for (at = &lane->head; *at && *at != job; at = &(*at)->next)
		;
	found = *at == job;
	if (found) {
		*at = job->next;
		if (!*at)
			lane->tail = at;
		atomic_fetch_sub_explicit(&lane->queued, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lane->lock);
	return found;
}

int cw__pc_lane_abandon(struct cw__pc_job *job)
{
	struct cw__pc_lane *lane = job->lane;
	struct cw__peer_copy *pc = lane->pc;
	int taken;

	pthread_mutex_lock(&lane->lock);
	taken = !job->ending;
	if (taken) {
		job->slice = NULL;
		atomic_fetch_add_explicit(&pc->leaked, 1, memory_order_relaxed);
		suspect(lane, 0);
	}
	pthread_mutex_unlock(&lane->lock);
	return taken;
}

int cw__pc_lane_is_slow(struct cw__peer_copy *pc, const struct cw__pc_way *way)
{
	const struct cw__pc_lane *lane = atomic_load_explicit(slot_of(pc, way), memory_order_acquire);
	uint64_t since = lane ? atomic_load_explicit(&lane->since, memory_order_relaxed) : 0;

	return since && cw__now() > since + SLOW_NS;
}

/* 1 = it has ended and is freed. */
static int lane_close(struct cw__pc_lane *lane, uint64_t until)
{
	struct timespec at = { (time_t)(until / CW__SECOND), (long)(until % CW__SECOND) };
	int exited;

	pthread_mutex_lock(&lane->lock);
	while (!lane->exited && cw__now() < until)
		pthread_cond_timedwait(&lane->gone, &lane->lock, &at);
	exited = lane->exited;
	pthread_mutex_unlock(&lane->lock);
	if (!exited) {
		pthread_detach(lane->thread);
		return 0;
	}
	pthread_join(lane->thread, NULL);
	pthread_cond_destroy(&lane->work);
	pthread_cond_destroy(&lane->gone);
	pthread_mutex_destroy(&lane->lock);
	free(lane);
	return 1;
}

unsigned cw__pc_lanes_close(struct cw__peer_copy *pc, uint64_t until)
{
	struct cw__list *node;
	unsigned left = 0;

	cw__list_each(stopping, &pc->lanes)
	{
		struct cw__pc_lane *lane = cw__container(stopping, struct cw__pc_lane, node);

		pthread_mutex_lock(&lane->lock);
		lane->stop = 1;
		pthread_cond_signal(&lane->work);
		pthread_mutex_unlock(&lane->lock);
	}
	while ((node = cw__list_pop(&pc->lanes)))
		left += !lane_close(cw__container(node, struct cw__pc_lane, node), until);
	return left;
}
