// SPDX-License-Identifier: Apache-2.0
#include "arena_fixture.h"

#define THREADS 2

// An arena whose pools are used bare: headers are not counted, locations are.
static struct fp_arena *
arena_of(uint32_t locations, bool with_readers)
{
	struct fp_arena_config config = small_config(8);

	config.tunnels = 1; // two headers
	config.locations = locations;
	config.threads = THREADS;
	struct fp_arena *arena = arena_new(NULL, &config);
	for (uint32_t thread = 0; with_readers && thread < THREADS; thread++) {
		assert(fp_arena_reader_register(arena, thread) == 0);
		fp_arena_reader_online(arena, thread);
	}
	return arena;
}

static void
test_without_readers_an_index_comes_back_at_once(void)
{
	struct fp_arena *arena = arena_of(1, false);
	struct fp_index_pool *pool = &arena->pool[FP_POOL_HEADER];
	uint32_t first, second, third;

	assert(fp_index_take(pool, &first) == 0 && fp_index_take(pool, &second) == 0 && first != second);
	for (int i = 0; i < 3; i++) {
		assert(fp_index_take(pool, &third) == -ENOSPC);
		fp_index_retire(pool, first);
		assert(fp_index_take(pool, &third) == 0 && third == first);
	}
	fp_arena_close(arena);
}

static void
test_an_index_waits_for_every_reader(void)
{
	struct fp_arena *arena = arena_of(1, true);
	struct fp_index_pool *pool = &arena->pool[FP_POOL_LOCATION];
	uint32_t index;

	assert(fp_index_take(pool, &index) == 0);
	fp_index_retire(pool, index);
	assert(fp_index_take(pool, &index) == -EAGAIN);
	fp_arena_reader_quiescent(arena, 0);
	assert(fp_index_take(pool, &index) == -EAGAIN);
	fp_arena_reader_offline(arena, 1);
	assert(fp_index_take(pool, &index) == 0);
	fp_arena_close(arena);
}

static void
test_a_dead_index_waits_for_its_last_reference(void)
{
	struct fp_arena *arena = arena_of(1, false);
	struct fp_index_pool *pool = &arena->pool[FP_POOL_LOCATION];
	uint32_t index, other;

	assert(fp_index_take(pool, &index) == 0);
	fp_index_hold(pool, index);
	fp_index_hold(pool, index);
	fp_index_retire(pool, index);
	assert(!fp_index_live(pool, index));
	fp_index_drop(pool, index);
	assert(fp_index_take(pool, &other) == -ENOSPC && pool->dead == 1);
	fp_index_drop(pool, index);
	assert(fp_index_take(pool, &other) == 0 && other == index);
	fp_index_hold(pool, 0);
	fp_index_drop(pool, 0);
	fp_arena_close(arena);
}

static void
test_what_was_taken_by_mistake_goes_straight_back(void)
{
	struct fp_arena *arena = arena_of(1, true);
	struct fp_index_pool *pool = &arena->pool[FP_POOL_LOCATION];
	uint32_t index;

	assert(fp_index_take(pool, &index) == 0);
	fp_index_untake(pool, index);
	assert(fp_index_take(pool, &index) == 0);
	fp_arena_close(arena);
}

// Against a model that remembers, for each index, which readers have not passed since it was retired.
static void
test_random_use_never_gives_out_what_a_reader_may_see(void)
{
	enum { CAPACITY = 32, STEPS = 200000 };
	struct fp_arena *arena = arena_of(CAPACITY, true);
	struct fp_index_pool *pool = &arena->pool[FP_POOL_LOCATION];
	uint32_t seen_by[CAPACITY + 1] = {0}; // bit per reader
	uint32_t live = 0, references[CAPACITY + 1] = {0};
	bool is_live[CAPACITY + 1] = {0};
	uint64_t seed = 1;

	for (int step = 0; step < STEPS; step++) {
		const uint64_t random = random_next(&seed);
		const uint32_t some = 1 + (uint32_t)(random >> 32) % CAPACITY;
		uint32_t index;

		switch (random % 6) {
		case 0:
		case 1:
			if (fp_index_take(pool, &index) < 0)
				break;
			assert(!is_live[index] && references[index] == 0 && seen_by[index] == 0);
			is_live[index] = true;
			live++;
			break;
		case 2:
			if (!is_live[some])
				break;
			fp_index_retire(pool, some);
			is_live[some] = false;
			seen_by[some] = (1u << THREADS) - 1;
			live--;
			break;
		case 3:
			if (!is_live[some])
				break;
			fp_index_hold(pool, some);
			references[some]++;
			break;
		case 4:
			if (references[some] == 0)
				break;
			fp_index_drop(pool, some);
			if (--references[some] == 0 && !is_live[some])
				seen_by[some] = (1u << THREADS) - 1; // a reader may have come by it until now
			break;
		case 5:
			fp_arena_reader_quiescent(arena, some % THREADS);
			for (index = 1; index <= CAPACITY; index++)
				if (references[index] == 0)
					seen_by[index] &= ~(1u << some % THREADS);
			break;
		}
		assert(pool->live == live);
		assert(pool->live + pool->dead + pool->free.count + fp_index_waiting(pool) == CAPACITY);
	}
	fp_arena_close(arena);
}

// An index that is given back twice stands in no list twice: it would be given out twice.
static void
test_what_is_not_so_is_refused_and_counted(void)
{
	struct fp_arena *arena = arena_of(3, false);
	struct fp_index_pool *pool = &arena->pool[FP_POOL_LOCATION];
	uint32_t index, taken[3];

	assert(fp_index_take(pool, &index) == 0);
	fp_index_retire(pool, index);
	fp_index_retire(pool, index);
	fp_index_untake(pool, index);
	fp_index_drop(pool, index);
	fp_index_retire(pool, 99);
	fp_index_claim(pool, 0);
	assert(pool->misused == 5 && fp_arena_indexes_misused(arena) == 5);
	assert(pool->live == 0 && pool->free.count + fp_index_waiting(pool) == 3);
	for (int i = 0; i < 3; i++)
		assert(fp_index_take(pool, &taken[i]) == 0);
	assert(taken[0] != taken[1] && taken[1] != taken[2] && taken[0] != taken[2]);
	assert(fp_index_take(pool, &index) == -ENOSPC);
	fp_arena_close(arena);
}

int
main(void)
{
	RUN(test_without_readers_an_index_comes_back_at_once);
	RUN(test_an_index_waits_for_every_reader);
	RUN(test_a_dead_index_waits_for_its_last_reference);
	RUN(test_what_was_taken_by_mistake_goes_straight_back);
	RUN(test_what_is_not_so_is_refused_and_counted);
	RUN(test_random_use_never_gives_out_what_a_reader_may_see);
	return 0;
}
