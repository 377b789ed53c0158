// SPDX-License-Identifier: Apache-2.0
#include "flow_fixture.h"

static void
test_what_was_inserted_is_found_until_it_is_removed(void)
{
	struct world w = world_new(64, 0, 10);
	const struct fp_flow_key key = key_of(w.ingress[0], 5);

	assert(get(&w, 0, 5, NOW_S) == 0);
	assert(put(&w, 0, 5, forward(&w, 0), 2000) == 0);
	assert(get(&w, 0, 5, NOW_S) == forward(&w, 0));
	assert(get(&w, 1, 5, NOW_S) == 0); // the same addresses elsewhere
	assert(fp_flow_find(w.arena, &key) != 0);
	assert(fp_vnet_at(w.arena, w.vnet[0])->flows == 1);
	assert(fp_flow_remove(w.arena, &key) == 0);
	assert(get(&w, 0, 5, NOW_S) == 0);
	assert(fp_flow_remove(w.arena, &key) == -ENOENT);
	assert(fp_vnet_at(w.arena, w.vnet[0])->flows == 0);
	fp_arena_close(w.arena);
}

static void
test_an_entry_is_a_miss_from_the_second_it_expires(void)
{
	struct world w = world_new(64, 0, 10);
	uint32_t cursor = 0;

	put(&w, 0, 5, forward(&w, 0), 2000);
	assert(get(&w, 0, 5, 1999) && !get(&w, 0, 5, 2000));
	put(&w, 0, 5, forward(&w, 0), 1500);
	assert(get(&w, 0, 5, 1499) && !get(&w, 0, 5, 1500));
	put(&w, 0, 5, forward(&w, 0), 2500);
	assert(get(&w, 0, 5, 2499) && !get(&w, 0, 5, 2500));

	fp_arena_tick(w.arena, 2499ull * 1000000000);
	assert(fp_flow_expire(w.arena, &cursor, UINT32_MAX, 0));
	assert(get(&w, 0, 5, NOW_S));
	fp_arena_tick(w.arena, 2510ull * 1000000000);
	fp_flow_expire(w.arena, &cursor, UINT32_MAX, 11);
	assert(get(&w, 0, 5, NOW_S));
	fp_flow_expire(w.arena, &cursor, UINT32_MAX, 10);
	assert(!get(&w, 0, 5, NOW_S));
	struct fp_flow_stats stats;
	fp_flow_stats(w.arena, &stats);
	assert(stats.expired == 1 && stats.removed == 0 && stats.resident == 0);
	fp_arena_close(w.arena);
}

static void
test_what_names_nothing_live_is_refused(void)
{
	struct world w = world_new(64, 0, 10);
	const struct fp_flow_value good = {.action = forward(&w, 0), .expire_at_s = 2000, .vnet = w.vnet[0]};
	const struct fp_flow_key key = key_of(w.ingress[0], 1);
	struct fp_flow_value value;
	struct fp_flow_key bad;

#define REFUSED(member, with)                                                                                \
	value = good;                                                                                        \
	value.member = with;                                                                                 \
	assert(fp_flow_insert(w.arena, &key, &value) == -EINVAL)
	REFUSED(vnet, w.vnet[1]);
	REFUSED(vnet, 0);
	REFUSED(vnet, UINT32_MAX);
	REFUSED(action, 0);
	REFUSED(action, fp_action_make(FP_ACTION_MAX, 0, 0, 0));
	REFUSED(action, fp_action_make(FP_ACTION_SECURE, 0, 0, w.location[0]));
	REFUSED(action, fp_action_make(FP_ACTION_DELIVER, 0, 0, 0));
	REFUSED(action, fp_action_make(FP_ACTION_DELIVER, 0, 0, 63));
	REFUSED(action, fp_action_make(FP_ACTION_ENCAPSULATE, 0, 0, 0xffffff));
	REFUSED(action, fp_action_make(FP_ACTION_ENCAPSULATE, 0, 0xffffff, w.location[0]));
	REFUSED(action, fp_action_make(FP_ACTION_DROP, 0, 0, 0));
	REFUSED(action, fp_action_make(FP_ACTION_DROP, 0, 0, 200));
#undef REFUSED
	bad = key_of(UINT32_MAX, 1);
	assert(fp_flow_insert(w.arena, &bad, &good) == -EINVAL);
	bad = key_of(0, 1);
	assert(fp_flow_insert(w.arena, &bad, &good) == -EINVAL);
	bad = key;
	bad.key_class = 0;
	assert(fp_flow_insert(w.arena, &bad, &good) == -EINVAL);
	bad = key;
	bad.zero = 1;
	assert(fp_flow_insert(w.arena, &bad, &good) == -EINVAL);
	assert(fp_flow_insert(w.arena, &key, &good) == 0);
	fp_arena_close(w.arena);
}

static void
test_a_location_of_another_vnet_needs_a_peering(void)
{
	struct world w = world_new(64, 0, 10);

	assert(put(&w, 0, 1, forward(&w, 1), 2000) == -EINVAL);
	const uint32_t pair = w.vnet[0] << 16 | w.vnet[1];
	const uint32_t home = (uint32_t)fp_hash_bytes(fp_arena_secret(w.arena), &pair, sizeof(pair));
	w.arena->peerings[home & w.arena->peering_mask] = pair;
	assert(put(&w, 0, 1, forward(&w, 1), 2000) == 0);
	assert(put(&w, 1, 1, forward(&w, 0), 2000) == -EINVAL); // pairs are ordered
	fp_arena_close(w.arena);
}

static void
test_the_zero_key_never_hits(void)
{
	struct world w = world_new(64, 0, 10);
	const struct fp_flow_key zero = {0};
	fp_action_word word;

	assert(!lookup(w.arena, &zero, NOW_S, &word) && !lookup(w.arena, &zero, 0, &word));
	fp_arena_close(w.arena);
}

static void
test_a_removed_entry_stays_as_it_is_until_the_reader_has_passed(void)
{
	struct world w = world_new(64, 0, 10);
	const struct fp_flow_key key = key_of(w.ingress[0], 1);

	assert(fp_arena_reader_register(w.arena, 0) == 0);
	fp_arena_reader_online(w.arena, 0);
	put(&w, 0, 1, forward(&w, 0), 2000);
	const uint32_t entry = fp_flow_find(w.arena, &key);
	fp_flow_remove(w.arena, &key);
	for (uint32_t n = 2; n < 40; n++) {
		put(&w, 0, n, forward(&w, 0), 2000);
		assert(memcmp(&fp_flow_at(w.arena, entry)->key, &key, sizeof(key)) == 0);
	}
	assert(fp_flow_reclaim(w.arena) == 0);
	fp_arena_reader_quiescent(w.arena, 0);
	assert(fp_flow_reclaim(w.arena) >= 1);
	fp_arena_reader_offline(w.arena, 0);
	fp_arena_reader_unregister(w.arena, 0);
	fp_arena_close(w.arena);
}

static void
test_a_location_outlives_the_flows_that_name_it(void)
{
	struct world w = world_new(64, 0, 10);
	const struct fp_flow_key key = key_of(w.ingress[0], 1);
	struct fp_index_pool *pool = &w.arena->pool[FP_POOL_LOCATION];
	uint32_t other = location_new(w.arena, w.vnet[0], w.ingress[0]);

	put(&w, 0, 1, forward(&w, 0), 2000);
	location_retire(w.arena, w.location[0]);
	assert(pool->dead == 1);
	// changed to another location: the old one is free of references
	assert(fp_flow_change_at(w.arena, fp_flow_find(w.arena, &key),
				 fp_action_make(FP_ACTION_DELIVER, 0, 0, other)) == 0);
	assert(pool->dead == 0 && fp_index_references(pool, other) == 1);
	fp_flow_remove(w.arena, &key);
	assert(fp_index_references(pool, other) == 0);
	fp_arena_close(w.arena);
}

struct visits {
	uint32_t seen;
	struct fp_arena *arena;
};

static void
visit_and_remove(void *context, uint32_t index, struct fp_flow_entry *, struct fp_flow_side *side)
{
	struct visits *visits = context;

	assert(side == fp_flow_side_at(visits->arena, index));
	assert(fp_flow_vnet_at(visits->arena, index));
	visits->seen++;
	if (visits->seen % 2)
		fp_flow_remove_at(visits->arena, index);
}

static void
test_a_walk_in_steps_visits_each_once_and_may_remove(void)
{
	struct world w = world_new(64, 0, 10);
	struct visits visits = {0, w.arena};
	uint32_t cursor = 0, steps = 0;

	for (uint32_t n = 0; n < 40; n++)
		put(&w, 0, n, forward(&w, 0), 2000);
	const uint32_t resident = count_present(&w, 0, 0, 40);
	while (steps++, !fp_flow_walk(w.arena, &cursor, 7, visit_and_remove, &visits))
		;
	assert(visits.seen == resident && steps > 10 && cursor == 0);
	assert(count_present(&w, 0, 0, 40) == resident / 2);
	fp_arena_close(w.arena);
}

static void
test_a_burst_gives_each_key_its_own_answer(void)
{
	enum { KEYS = 64 };
	struct world w = world_new(256, 0, 10);
	struct fp_flow_key keys[KEYS];
	const struct fp_flow_key *pointers[KEYS];
	uint64_t hash[KEYS];
	fp_action_word word[KEYS];
	uint32_t entry[KEYS];

	for (uint32_t i = 0; i < KEYS; i++) {
		keys[i] = key_of(w.ingress[0], i / 2); // each twice
		pointers[i] = &keys[i];
		if (i % 4 < 2) // even numbers are there
			put(&w, 0, i / 2, fp_action_make(FP_ACTION_DROP, 0, 0, 1 + i / 2), 2000);
	}
	assert(fp_flow_lookup_bulk(w.arena, pointers, KEYS, NOW_S, hash, word, entry) == KEYS / 2);
	for (uint32_t i = 0; i < KEYS; i++) {
		assert(word[i] == (i % 4 < 2 ? fp_action_make(FP_ACTION_DROP, 0, 0, 1 + i / 2) : 0));
		assert(hash[i] == fp_hash_flow(fp_arena_secret(w.arena), &keys[i]));
		assert(entry[i] == (i % 4 < 2 ? fp_flow_find(w.arena, &keys[i]) : 0));
	}
	assert(fp_flow_lookup_bulk(w.arena, pointers, 0, NOW_S, hash, word, entry) == 0);
	fp_arena_close(w.arena);
}

// What happens to a table between two steps of a look-up.
static void
test_a_flow_that_comes_or_goes_during_a_look_up_is_seen_at_its_end(void)
{
	struct world w = world_new(256, 0, 10);
	const struct fp_flow_key keys[] = {key_of(w.ingress[0], 1), key_of(w.ingress[0], 2)};
	const struct fp_flow_key *pointers[] = {&keys[0], &keys[1]};
	uint64_t hash[2];
	fp_action_word word[2];
	uint32_t entry[2];

	put(&w, 0, 1, fp_action_make(FP_ACTION_DROP, 0, 0, 1), 2000);
	fp_flow_lookup_start(w.arena, pointers, 2, hash, entry);
	fp_flow_lookup_find(w.arena, 2, hash, entry);
	assert(entry[0] == fp_flow_find(w.arena, &keys[0]) && entry[1] == 0);
	assert(fp_flow_remove(w.arena, &keys[0]) == 0);
	put(&w, 0, 1, fp_action_make(FP_ACTION_DROP, 0, 0, 3), 2000); // at another place
	put(&w, 0, 2, fp_action_make(FP_ACTION_DROP, 0, 0, 2), 2000);
	assert(entry[0] != fp_flow_find(w.arena, &keys[0]));
	assert(fp_flow_lookup_finish(w.arena, pointers, 2, NOW_S, hash, word, entry) == 2);
	assert(word[1] == fp_action_make(FP_ACTION_DROP, 0, 0, 2));
	fp_arena_close(w.arena);
}

int
main(void)
{
	RUN(test_what_was_inserted_is_found_until_it_is_removed);
	RUN(test_an_entry_is_a_miss_from_the_second_it_expires);
	RUN(test_what_names_nothing_live_is_refused);
	RUN(test_a_location_of_another_vnet_needs_a_peering);
	RUN(test_the_zero_key_never_hits);
	RUN(test_a_removed_entry_stays_as_it_is_until_the_reader_has_passed);
	RUN(test_a_location_outlives_the_flows_that_name_it);
	RUN(test_a_walk_in_steps_visits_each_once_and_may_remove);
	RUN(test_a_burst_gives_each_key_its_own_answer);
	RUN(test_a_flow_that_comes_or_goes_during_a_look_up_is_seen_at_its_end);
	return 0;
}
