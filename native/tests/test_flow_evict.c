// SPDX-License-Identifier: Apache-2.0
//
// Who makes room in the flow table, for whom, and who never does.
#include "flow_fixture.h"

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

int
main(void)
{
	RUN(test_an_insert_that_has_to_wait_evicts_nobody);
	RUN(test_a_quota_evicts_only_its_own_vnet);
	RUN(test_a_lowered_quota_is_reached);
	RUN(test_a_scan_fills_its_own_budget_and_evicts_no_flow);
	RUN(test_refusals_use_free_room_up_to_their_share_and_give_it_back);
	RUN(test_without_a_share_refusals_are_not_cached_and_close_the_flow);
	RUN(test_a_flow_that_turns_into_a_refusal_changes_budgets);
	RUN(test_the_hand_takes_the_cold_ones);
	return 0;
}
