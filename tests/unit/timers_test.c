/* SPDX-License-Identifier: Apache-2.0 */
/* A loop's timers come in the order of their times, whatever was set, moved and stopped before. */
#include <core/core.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#define TIMERS 500

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* Takes all timers out, earliest first; returns how many there were. */
static size_t drain(struct cw_loop *loop)
{
	uint64_t last = 0;
	size_t count = 0;

	while (loop->timers) {
		struct cw_timer *first = loop->timers;

		assert_true(first->at >= last);
		last = first->at;
		cw__timer_stop(loop, first);
		assert_int_equal(first->heap_slot, 0);
		count++;
	}
	return count;
}

static void any_order_comes_out_sorted(void **unused)
{
	struct cw_loop *loop = calloc(1, sizeof(*loop));
	static struct cw_timer timers[TIMERS];

	(void)unused;
	assert_non_null(loop);
	for (int round = 0; round < 50; round++) {
		size_t set = 0;

		for (int step = 0; step < 3000; step++) {
			struct cw_timer *timer = &timers[next_random() % TIMERS];

			if (next_random() % 3) {
				set += !timer->heap_slot;
				cw__timer_set(loop, timer, next_random() % 1000);
			} else {
				set -= timer->heap_slot != 0;
				cw__timer_stop(loop, timer);
			}
		}
		assert_int_equal(drain(loop), set);
	}
	free(loop);
}

static void stopping_twice_is_harmless(void **unused)
{
	struct cw_loop *loop = calloc(1, sizeof(*loop));
	struct cw_timer timer = { 0 };

	(void)unused;
	assert_non_null(loop);
	cw__timer_stop(loop, &timer);
	cw__timer_set(loop, &timer, 5);
	cw__timer_set(loop, &timer, 7);
	assert_ptr_equal(loop->timers, &timer);
	assert_int_equal(loop->timers->at, 7);
	cw__timer_stop(loop, &timer);
	cw__timer_stop(loop, &timer);
	assert_null(loop->timers);
	free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_order_comes_out_sorted),
		cmocka_unit_test(stopping_twice_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
