// SPDX-License-Identifier: Apache-2.0
//
// What waits for a poll thread's ring: in order, one for each place of its hold, nothing lost.
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "../run/release_backlog.h"

#define PLACES 5

static struct fp_release
release_of(uint32_t place, uint32_t generation, uint8_t action)
{
	return (struct fp_release){.token = (uint64_t)place << 32 | generation,
				   .action = fp_action_make(action, 0, 0, place)};
}

static void
put(struct release_backlog *backlog, uint32_t place, uint32_t generation, uint8_t action)
{
	const struct fp_release release = release_of(place, generation, action);
	release_backlog_put(backlog, &release);
}

static void
expect(struct release_backlog *backlog, uint32_t place, uint32_t generation, uint8_t action)
{
	struct fp_release release;
	assert(release_backlog_peek(backlog, &release, 1) == 1);
	assert(release.token == ((uint64_t)place << 32 | generation));
	assert(fp_action_of(release.action) == action);
	release_backlog_taken(backlog, 1);
}

static void
test_they_come_out_as_they_came_and_none_is_missing(void)
{
	struct release_backlog backlog;
	struct fp_release some[PLACES];
	assert(release_backlog_init(&backlog, PLACES) == 0);
	for (uint32_t round = 1; round < 10; round++) { // around the end of its arrays
		for (uint32_t place = PLACES; place > round % 2; place--)
			put(&backlog, place, round, FP_ACTION_DELIVER);
		assert(release_backlog_n(&backlog) == PLACES - round % 2);
		assert(release_backlog_peek(&backlog, some, 3) == 3 && (uint32_t)some[2].token == round);
		for (uint32_t place = PLACES; place > round % 2; place--)
			expect(&backlog, place, round, FP_ACTION_DELIVER);
		assert(release_backlog_n(&backlog) == 0 && release_backlog_peek(&backlog, some, 3) == 0);
	}
	release_backlog_free(&backlog);
}

static void
test_of_one_place_the_last_use_and_a_decision_stay(void)
{
	struct release_backlog backlog;
	assert(release_backlog_init(&backlog, PLACES) == 0);
	put(&backlog, 1, 7, FP_ACTION_NONE);
	put(&backlog, 2, 7, FP_ACTION_DELIVER);
	put(&backlog, 1, 7, FP_ACTION_DELIVER); // a decision after all
	put(&backlog, 2, 7, FP_ACTION_NONE);    // asked twice, the other answer came late
	put(&backlog, 3, UINT32_MAX, FP_ACTION_DELIVER);
	put(&backlog, 3, 1, FP_ACTION_DROP); // another key's by now,
	put(&backlog, 3, UINT32_MAX, FP_ACTION_DELIVER);
	expect(&backlog, 1, 7, FP_ACTION_DELIVER);
	expect(&backlog, 2, 7, FP_ACTION_DELIVER);
	expect(&backlog, 3, 1, FP_ACTION_DROP);
	assert(release_backlog_n(&backlog) == 0);
	release_backlog_free(&backlog);
}

static void
test_what_names_no_place_is_dropped(void)
{
	struct release_backlog backlog;
	assert(release_backlog_init(&backlog, PLACES) == 0);
	put(&backlog, 0, 1, FP_ACTION_DELIVER);
	put(&backlog, PLACES + 1, 1, FP_ACTION_DELIVER);
	assert(release_backlog_n(&backlog) == 0);
	release_backlog_free(&backlog);
}

int
main(void)
{
	test_they_come_out_as_they_came_and_none_is_missing();
	test_of_one_place_the_last_use_and_a_decision_stay();
	test_what_names_no_place_is_dropped();
	printf("what waits for a thread's ring comes out in order\n");
	return 0;
}
