/* SPDX-License-Identifier: Apache-2.0 */
/* The index of ranges against a plain table of them, with ranges that come and go in any order. */
#include <core/core.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define PLACES 3000u /* each has a range or none */
#define WIDTH 64u
#define STEPS 200000u

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t address_of(uint64_t place)
{
	return 1000 + place * WIDTH;
}

struct model {
	struct cw__index *index;
	uint64_t length[PLACES], value[PLACES]; /* length 0 = none */
};

static void compare_at(const struct model *model, uint64_t place, uint64_t offset)
{
	struct cw__indexed found = { 0 };
	int there = offset < model->length[place];

	assert_int_equal(cw__index_find(model->index, address_of(place) + offset, &found), there);
	if (there) {
		assert_int_equal(found.from, address_of(place));
		assert_int_equal(found.to, address_of(place) + model->length[place]);
		assert_int_equal(found.value, model->value[place]);
	}
}

static void compare_meeting(const struct model *model, uint64_t place, uint64_t from, uint64_t to)
{
	struct cw__indexed found = { 0 };
	uint64_t first = place;

	while (first < PLACES && address_of(first) < to &&
	       !(model->length[first] && address_of(first) + model->length[first] > from))
		first++;
	if (first == PLACES || address_of(first) >= to) {
		assert_int_equal(cw__index_meet(model->index, from, to, &found), 0);
		return;
	}
	assert_int_equal(cw__index_meet(model->index, from, to, &found), 1);
	assert_int_equal(found.value, model->value[first]);
}

static void change(struct model *model, uint64_t place, uint64_t random)
{
	if (model->length[place] && random % 8 == 0) {
		model->value[place]++;
		cw__index_set(model->index, address_of(place), model->value[place]);
	} else if (model->length[place]) {
		model->length[place] = 0;
		cw__index_remove(model->index, address_of(place));
	} else {
		model->length[place] = 1 + random % WIDTH;
		model->value[place] = random;
		assert_int_equal(cw__index_insert(model->index, address_of(place),
						  address_of(place) + model->length[place], random),
				 CW_OK);
	}
}

/* fullness: of 16, how many changes of a random place are kept when they add a range. */
static void churn(struct model *model, uint64_t *state, unsigned fullness, uint64_t places)
{
	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t place = (next_random(state) >> 8) % places, other = (next_random(state) >> 8) % PLACES;
		uint64_t from = address_of(other) + *state % WIDTH;

		if ((next_random(state) >> 8) % 16 < (model->length[place] ? 16 - fullness : fullness))
			change(model, place, *state);
		compare_at(model, other, (*state >> 32) % WIDTH);
		compare_at(model, place, 0);
		compare_meeting(model, other, from, from + 1 + (*state >> 40) % (20 * WIDTH));
	}
}

static void finds_what_is_there(void **state)
{
	struct model *model = calloc(1, sizeof(*model));
	struct cw__indexed found;
	uint64_t random = 88172645463325252u;

	(void)state;
	assert_non_null(model);
	model->index = cw__index_open();
	assert_non_null(model->index);
	assert_int_equal(cw__index_find(model->index, 1, &found), 0);
	assert_int_equal(cw__index_meet(model->index, 0, UINT64_MAX, &found), 0);
	churn(model, &random, 8, PLACES);
	churn(model, &random, 15, PLACES); /* nearly full */
	churn(model, &random, 1, PLACES);  /* nearly empty: nodes go */
	churn(model, &random, 14, 40);
	churn(model, &random, 12, PLACES);
	for (uint64_t place = 0; place < PLACES; place++)
		if (model->length[place])
			change(model, place, 1);
	assert_int_equal(cw__index_meet(model->index, 0, UINT64_MAX, &found), 0);
	cw__index_close(model->index);
	free(model);
}

/* In order, as allocators give memory out, up and down. */
static void takes_what_comes_in_order(void **state)
{
	struct cw__index *index = cw__index_open();
	struct cw__indexed found;

	(void)state;
	for (uint64_t i = 0; i < 50000; i++)
		assert_int_equal(cw__index_insert(index, (1u << 30) + i * 16, (1u << 30) + i * 16 + 16, i), CW_OK);
	for (uint64_t i = 1; i < 50000; i++)
		assert_int_equal(cw__index_insert(index, (1u << 30) - i * 16, (1u << 30) - i * 16 + 16, 50000 + i),
				 CW_OK);
	for (uint64_t i = 0; i < 50000; i++) {
		assert_int_equal(cw__index_find(index, (1u << 30) + i * 16 + 15, &found), 1);
		assert_int_equal(found.value, i);
	}
	for (uint64_t i = 1; i < 50000; i++) {
		assert_int_equal(cw__index_find(index, (1u << 30) - i * 16, &found), 1);
		assert_int_equal(found.value, 50000 + i);
	}
	for (uint64_t i = 0; i < 50000; i++)
		cw__index_remove(index, (1u << 30) + i * 16);
	assert_int_equal(cw__index_meet(index, 1u << 30, UINT64_MAX, &found), 0);
	assert_int_equal(cw__index_meet(index, 0, (1u << 30) - 49999 * 16 + 1, &found), 1);
	assert_int_equal(found.value, 99999);
	cw__index_close(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_is_there),
		cmocka_unit_test(takes_what_comes_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
