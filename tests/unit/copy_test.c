/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies by the CPU: every kernel at every alignment and at the sizes where it changes its ways, between pages that
 * must not be touched; copies and other work by two cores; and the choice between ways. The thread sanitizer runs it
 * too.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <util/choice.h>
#include <util/copier.h>

#include <cmocka.h>

#define PAGE 4096u
#define SPAN (8 * PAGE)

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 31 + (i >> 8) * 7 + 1);
}

/* SPAN bytes between two pages that nobody may touch. */
static unsigned char *fenced(void)
{
	unsigned char *start = mmap(NULL, SPAN + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(start, MAP_FAILED);
	assert_int_equal(mprotect(start + PAGE, SPAN, PROT_READ | PROT_WRITE), 0);
	return start + PAGE;
}

static void unfence(unsigned char *memory)
{
	munmap(memory - PAGE, SPAN + 2 * PAGE);
}

/* One copy; what is around the destination must stay as it is. */
static void try_copy(unsigned char *to, unsigned char *from, size_t length, size_t to_offset, size_t from_offset)
{
	struct cw__copy_part part = { to + to_offset, from + from_offset, length };

	memset(to, 0xee, SPAN);
	cw__copy_streamed(&part, 1);
	for (size_t i = 0; i < SPAN; i++) {
		int inside = i >= to_offset && i - to_offset < length;

		if (to[i] != (inside ? pattern(i - to_offset + from_offset) : 0xee))
			fail_msg("length %zu to %zu from %zu: byte %zu is wrong", length, to_offset, from_offset, i);
	}
}

static void every_alignment_and_size(void **state)
{
	static const size_t lengths[] = { 0,    1,    63,   64,   65,   255,  256,   257,   319,   320,  4095,
					  4096, 4097, 4160, 8192, 8193, 8500, 16383, 16384, 16385, 20000 };
	unsigned char *to = fenced(), *from = fenced();

	(void)state;
	for (size_t i = 0; i < SPAN; i++)
		from[i] = pattern(i);
	for (size_t n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++) {
		for (size_t offset = 0; offset<64; offset += lengths[n]> 512 ? 7 : 1) {
			try_copy(to, from, lengths[n], offset, 0);
			try_copy(to, from, lengths[n], 0, offset);
			try_copy(to, from, lengths[n], offset, 63 - offset);
		}
		try_copy(to, from, lengths[n], SPAN - lengths[n], SPAN - lengths[n]);
		try_copy(to, from, lengths[n], SPAN - lengths[n], 0);
		try_copy(to, from, lengths[n], 0, SPAN - lengths[n]);
	}
	unfence(to);
	unfence(from);
}

/* Parts of all lengths, from everywhere to everywhere. */
#define BUFFER (1u << 20)

struct buffers {
	unsigned char *to, *from;
};

static void fill_parts(struct cw__copy_part *parts, unsigned count, struct buffers *buffers, size_t length, size_t step,
		       size_t *total_out)
{
	*total_out = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t place = (i * 37u) % count * step;

		parts[i] = (struct cw__copy_part){ buffers->to + place, buffers->from + BUFFER / 2 - place, length };
		*total_out += length;
	}
}

static void check_parts(const struct cw__copy_part *parts, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_memory_equal(parts[i].to, parts[i].from, parts[i].length);
}

static void open_buffers(struct buffers *buffers)
{
	buffers->to = calloc(1, BUFFER);
	buffers->from = malloc(BUFFER + PAGE * 8);
	assert_non_null(buffers->to);
	assert_non_null(buffers->from);
	for (size_t i = 0; i < BUFFER + PAGE * 8; i++)
		buffers->from[i] = pattern(i);
}

static void close_buffers(struct buffers *buffers)
{
	free(buffers->to);
	free(buffers->from);
}

static void parts_of_many_sizes(void **state)
{
	static const size_t lengths[] = { 1, 100, 4096, 4097, 7000 };
	struct cw__copy_part parts[CW__COPIER_PARTS];
	struct buffers buffers;

	(void)state;
	open_buffers(&buffers);
	for (size_t n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++)
		for (unsigned count = 1; count <= CW__COPIER_PARTS; count += 3) {
			size_t total;

			memset(buffers.to, 0, BUFFER);
			fill_parts(parts, count, &buffers, lengths[n], lengths[n] + 5, &total);
			cw__copy_streamed(parts, count);
			check_parts(parts, count);
			assert_int_equal(buffers.to[count * (lengths[n] + 5)], 0);
		}
	close_buffers(&buffers);
}

/* ------------------------------------------------------------------------------------------- two cores */

#define UNITS 1000u

struct tally {
	unsigned seen[UNITS]; /* not atomic: the sanitizer shall see that each is one thread's */
	pthread_t by[UNITS];
};

static void count_units(void *arg, unsigned first, unsigned count)
{
	struct tally *tally = arg;

	for (unsigned unit = first; unit < first + count; unit++) {
		tally->seen[unit]++;
		tally->by[unit] = pthread_self();
	}
}

static void each_unit_is_run_once(void **state)
{
	struct cw__crew crew;
	struct tally *tally = calloc(1, sizeof(*tally));
	unsigned helped = 0;

	(void)state;
	assert_non_null(tally);
	cw__crew_init(&crew);
	if (!cw__crew_ready(&crew)) {
		free(tally);
		skip(); /* one core */
	}
	for (int round = 1; round <= 300; round++) {
		if (round % 100 == 0)
			usleep(1000); /* the worker has gone to sleep */
		cw__crew_run(&crew, count_units, tally, UNITS);
		for (unsigned i = 0; i < UNITS; i++) {
			assert_int_equal(tally->seen[i], round);
			helped += !pthread_equal(tally->by[i], pthread_self());
		}
	}
	cw__crew_run(&crew, count_units, tally, 0);
	cw__crew_run(&crew, count_units, tally, 1);
	assert_int_equal(tally->seen[0], 301);
	cw__crew_close(&crew);
	print_message("the worker ran %u of %u units\n", helped, 300 * UNITS);
	free(tally);
}

static void a_worker_that_sleeps_ends(void **state)
{
	struct cw__crew crew;

	(void)state;
	cw__crew_init(&crew);
	cw__crew_close(&crew); /* never started */
	cw__crew_init(&crew);
	if (cw__crew_ready(&crew))
		usleep(2000);
	cw__crew_close(&crew);
}

struct sharer {
	pthread_t thread;
	struct cw__copier *copier;
	size_t length;
	int rounds;
};

static void *copy_often(void *arg)
{
	struct sharer *sharer = arg;
	struct cw__copy_part parts[CW__COPIER_PARTS];
	struct buffers buffers;
	unsigned count = (unsigned)(BUFFER / 2 / sharer->length);
	size_t total;

	if (count > CW__COPIER_PARTS)
		count = CW__COPIER_PARTS;
	open_buffers(&buffers);
	fill_parts(parts, count, &buffers, sharer->length, sharer->length, &total);
	for (int i = 0; i < sharer->rounds; i++) {
		memset(buffers.to, 0, BUFFER);
		cw__copier_copy(sharer->copier, parts, count, total);
		check_parts(parts, count);
	}
	close_buffers(&buffers);
	return NULL;
}

/* Enough bytes that all ways have been tried, more than once. */
static void copies_by_many_threads(void **state)
{
	struct sharer sharers[] = { { .length = 4096 }, { .length = 65536 }, { .length = 8000 }, { .length = 1000 } };
	struct cw__copier copier;

	(void)state;
	cw__copier_init(&copier);
	for (size_t i = 0; i < sizeof(sharers) / sizeof(sharers[0]); i++) {
		sharers[i].copier = &copier;
		sharers[i].rounds = 400;
		assert_int_equal(pthread_create(&sharers[i].thread, NULL, copy_often, &sharers[i]), 0);
	}
	for (size_t i = 0; i < sizeof(sharers) / sizeof(sharers[0]); i++)
		pthread_join(sharers[i].thread, NULL);
	cw__copier_close(&copier);
}

/* ---------------------------------------------------------------------------------------------- choice */

struct race {
	uint32_t ways;
	uint64_t cost[CW__WAYS_MAX]; /* ns for a chunk */
};

static uint32_t race_ways(void *arg)
{
	return ((struct race *)arg)->ways;
}

static uint32_t run_race(struct cw__choice *choice, struct race *race, unsigned chunks)
{
	uint32_t way = 0;

	for (unsigned i = 0; i < chunks; i++) {
		int timed;

		way = cw__choice_take(choice, 1u << 20, race_ways, race, &timed);
		assert_true(race->ways >> way & 1);
		if (timed)
			cw__choice_tell(choice, way, 1u << 20, race->cost[way]);
	}
	return way;
}

static void the_fastest_way_is_used(void **state)
{
	struct race race = { 0xf, { 1000, 900, 880, 850 } };
	struct cw__choice choice;

	(void)state;
	cw__choice_init(&choice, 0);
	/* Two cores gain too little. */
	run_race(&choice, &race, 64);
	assert_int_equal(choice.best, 1);
	race.cost[3] = 500;
	run_race(&choice, &race, 4096);
	assert_int_equal(choice.best, 3);
	/* No second core any more. */
	race.ways = 3;
	race.cost[0] = 100;
	cw__choice_drop(&choice, 3, 1);
	assert_int_equal(choice.best, 1);
	run_race(&choice, &race, 8192);
	assert_int_equal(choice.best, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_alignment_and_size), cmocka_unit_test(parts_of_many_sizes),
		cmocka_unit_test(each_unit_is_run_once),    cmocka_unit_test(a_worker_that_sleeps_ends),
		cmocka_unit_test(copies_by_many_threads),   cmocka_unit_test(the_fastest_way_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
