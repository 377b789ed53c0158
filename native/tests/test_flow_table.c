// SPDX-License-Identifier: Apache-2.0
#include "arena_fixture.h"

#define NOW_S 1000

struct world {
	struct fp_arena *arena;
	uint32_t vnet[2], ingress[2], location[2];
};

static struct world
world_new(uint32_t flows, uint32_t quota, uint32_t refusal_share_percent)
{
	struct fp_arena_config config = small_config(flows);
	struct world w;

	config.refusal_share_percent = refusal_share_percent;
	w.arena = arena_new(NULL, &config);
	for (uint32_t i = 0; i < 2; i++) {
		w.vnet[i] = vnet_new(w.arena, 100 + i, i == 0 ? quota : 0);
		w.ingress[i] = attachment_new(w.arena, w.vnet[i]);
		w.location[i] = location_new(w.arena, w.vnet[i], w.ingress[i]);
	}
	return w;
}

static fp_action_word
forward(const struct world *w, int who)
{
	return fp_action_make(FP_ACTION_DELIVER, 0, w->location[who], w->location[who]);
}

#define REFUSE fp_action_make(FP_ACTION_DROP, 0, 0, 7)

static int
put(const struct world *w, int who, uint32_t number, fp_action_word action, uint32_t expire_at_s)
{
	const struct fp_flow_key key = key_of(w->ingress[who], number);
	const struct fp_flow_value value = {
		.action = action, .revision = number, .expire_at_s = expire_at_s, .vnet = w->vnet[who]};
	return fp_flow_insert(w->arena, &key, &value);
}

static fp_action_word
get(const struct world *w, int who, uint32_t number, uint32_t now_s)
{
	const struct fp_flow_key key = key_of(w->ingress[who], number);
	fp_action_word word;
	return lookup(w->arena, &key, now_s, &word) ? word : 0;
}

static uint32_t
count_present(const struct world *w, int who, uint32_t from, uint32_t to)
{
	uint32_t present = 0;
	for (uint32_t n = from; n < to; n++)
		present += get(w, who, n, NOW_S) != 0;
	return present;
}

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
test_an_insert_that_has_to_wait_evicts_nobody(void)
{
	struct world w = world_new(64, 0, 10);
	struct fp_flow_stats stats;
	uint32_t n = 0;

	fp_arena_reader_register(w.arena, 0);
	fp_arena_reader_online(w.arena, 0); // and never quiescent
	while (put(&w, 0, n, forward(&w, 0), 2000) == 0)
		n++;
	assert(put(&w, 0, n, forward(&w, 0), 2000) == -EAGAIN);
	const uint32_t present = count_present(&w, 0, 0, n);
	fp_flow_stats(w.arena, &stats);
	assert(present == stats.resident && stats.free == 0 && stats.waited == 2);
	for (int i = 0; i < 10; i++)
		assert(put(&w, 0, n, forward(&w, 0), 2000) == -EAGAIN);
	assert(count_present(&w, 0, 0, n) == present);
	// what is there can be changed while new ones wait
	assert(put(&w, 0, n - 1, forward(&w, 0), 3000) == 0);
	fp_arena_reader_quiescent(w.arena, 0);
	assert(put(&w, 0, n, forward(&w, 0), 2000) == 0);
	fp_arena_reader_offline(w.arena, 0);
	fp_arena_close(w.arena);
}

static void
test_a_quota_evicts_only_its_own_vnet(void)
{
	struct world w = world_new(256, 20, 10);

	for (uint32_t n = 0; n < 100; n++)
		assert(put(&w, 1, n, forward(&w, 1), 2000) == 0);
	for (uint32_t n = 0; n < 100; n++)
		assert(put(&w, 0, n, forward(&w, 0), 2000) == 0);
	assert(fp_vnet_at(w.arena, w.vnet[0])->flows == 20);
	assert(count_present(&w, 0, 0, 100) == 20);
	assert(get(&w, 0, 99, NOW_S)); // the newest
	assert(fp_vnet_at(w.arena, w.vnet[1])->flows == 100);
	assert(count_present(&w, 1, 0, 100) == 100);
	fp_arena_close(w.arena);
}

static void
test_a_lowered_quota_is_reached(void)
{
	struct world w = world_new(256, 100, 10);

	for (uint32_t n = 0; n < 100; n++)
		put(&w, 0, n, forward(&w, 0), 2000);
	w.arena->view.vnet[w.vnet[0]].quota_flows = 10;
	for (uint32_t n = 100; n < 200; n++)
		put(&w, 0, n, forward(&w, 0), 2000);
	assert(fp_vnet_at(w.arena, w.vnet[0])->flows == 10);
	fp_arena_close(w.arena);
}

static void
test_a_scan_fills_its_own_budget_and_evicts_no_flow(void)
{
	struct world w = world_new(1000, 0, 10);

	for (uint32_t n = 0; n < 1000; n++)
		assert(put(&w, n % 2, n, forward(&w, n % 2), 2000) == 0);
	const uint32_t before = count_present(&w, 0, 0, 1000) + count_present(&w, 1, 0, 1000);
	assert(before >= 995);
	for (uint32_t n = 10000; n < 30000; n++) {
		const int rc = put(&w, 0, n, REFUSE, 2000);
		assert(rc == 0 || rc == -EDQUOT);
	}
	// V-net 0 may lose flows of its own to a full bucket, V-net 1 nothing
	assert(count_present(&w, 1, 0, 1000) >= before / 2 - 3);
	assert(count_present(&w, 0, 0, 1000) + count_present(&w, 1, 0, 1000) >= before - 12);
	const struct fp_vnet *vnet = fp_vnet_at(w.arena, w.vnet[0]);
	assert(vnet->drops_resident >= 15 && vnet->drops_resident <= 100);
	assert(count_present(&w, 0, 10000, 30000) == vnet->drops_resident);
	fp_arena_close(w.arena);
}

static void
test_refusals_use_free_room_up_to_their_share_and_give_it_back(void)
{
	struct world w = world_new(1000, 0, 10);

	for (uint32_t n = 0; n < 500; n++)
		assert(put(&w, 0, n, REFUSE, 2000) == 0);
	assert(fp_vnet_at(w.arena, w.vnet[0])->drops_resident == 100);
	assert(get(&w, 0, 499, NOW_S) == REFUSE);
	for (uint32_t n = 10000; n < 11000; n++)
		assert(put(&w, 1, n, forward(&w, 1), 2000) == 0);
	assert(count_present(&w, 1, 10000, 11000) >= 995);
	// what is left of them is the reserve that flows never take
	assert(fp_vnet_at(w.arena, w.vnet[0])->drops_resident >= 15);
	fp_arena_close(w.arena);
}

static void
test_without_a_share_refusals_are_not_cached_and_close_the_flow(void)
{
	struct world w = world_new(64, 0, 0);

	assert(put(&w, 0, 1, REFUSE, 2000) == -EDQUOT);
	assert(put(&w, 0, 1, forward(&w, 0), 2000) == 0);
	assert(put(&w, 0, 1, REFUSE, 2000) == -EDQUOT);
	assert(get(&w, 0, 1, NOW_S) == 0); // it must not go on forwarding
	fp_arena_close(w.arena);
}

static void
test_a_flow_that_turns_into_a_refusal_changes_budgets(void)
{
	struct world w = world_new(64, 0, 10);
	const struct fp_vnet *vnet = fp_vnet_at(w.arena, w.vnet[0]);
	const struct fp_flow_key key = key_of(w.ingress[0], 1);

	put(&w, 0, 1, forward(&w, 0), 2000);
	assert(vnet->flows == 1 && vnet->drops_resident == 0);
	put(&w, 0, 1, REFUSE, 2000);
	assert(get(&w, 0, 1, NOW_S) == REFUSE);
	assert(vnet->flows == 1 && vnet->drops_resident == 1);
	assert(fp_flow_change_at(w.arena, fp_flow_find(w.arena, &key), forward(&w, 0)) == 0);
	assert(get(&w, 0, 1, NOW_S) == forward(&w, 0));
	assert(vnet->flows == 1 && vnet->drops_resident == 0);
	fp_arena_close(w.arena);
}

static void
test_the_hand_takes_the_cold_ones(void)
{
	struct world w = world_new(4096, 0, 10);

	for (uint32_t n = 0; n < 4096; n++)
		put(&w, 0, n, forward(&w, 0), 5000);
	fp_arena_tick(w.arena, 1100ull * 1000000000);
	for (uint32_t n = 0; n < 4096; n += 2) { // every other one is in use
		const struct fp_flow_key key = key_of(w.ingress[0], n);
		const uint32_t entry = fp_flow_find(w.arena, &key);
		if (entry)
			fp_flow_used(fp_flow_at(w.arena, entry), 1100);
	}
	for (uint32_t n = 10000; n < 11024; n++) // a quarter anew
		assert(put(&w, 0, n, forward(&w, 0), 5000) == 0);
	uint32_t hot = 0, cold = 0;
	for (uint32_t n = 0; n < 4096; n++)
		*(n % 2 ? &cold : &hot) += get(&w, 0, n, NOW_S) != 0;
	assert(hot >= 2048 * 99 / 100);
	assert(cold <= 1060);
	assert(count_present(&w, 0, 10000, 11024) >= 1020);
	assert(fp_vnet_at(w.arena, w.vnet[0])->flows <= 4096);
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
	RUN(test_an_insert_that_has_to_wait_evicts_nobody);
	RUN(test_a_quota_evicts_only_its_own_vnet);
	RUN(test_a_lowered_quota_is_reached);
	RUN(test_a_scan_fills_its_own_budget_and_evicts_no_flow);
	RUN(test_refusals_use_free_room_up_to_their_share_and_give_it_back);
	RUN(test_without_a_share_refusals_are_not_cached_and_close_the_flow);
	RUN(test_a_flow_that_turns_into_a_refusal_changes_budgets);
	RUN(test_the_hand_takes_the_cold_ones);
	RUN(test_a_location_outlives_the_flows_that_name_it);
	RUN(test_a_walk_in_steps_visits_each_once_and_may_remove);
	RUN(test_a_burst_gives_each_key_its_own_answer);
	RUN(test_a_flow_that_comes_or_goes_during_a_look_up_is_seen_at_its_end);
	return 0;
}
