// SPDX-License-Identifier: Apache-2.0
//
// What a change forbids is not acted on from its record on, however many flows there are; the walk that takes it
// out goes in slices; nothing else is closed.
#include "closing_fixture.h"

static void
test_a_revocation_is_in_force_before_any_walk(void)
{
	struct world w = world_new(NULL, 200000);
	decide_many(&w, RED, 100000);
	decide_many(&w, BLUE, 10000);
	reader_begins(&w);
	assert(!pending(&w) && finds(&w, RED, 99998, 80));

	assert(forbid_port(&w, RED, 80, 5) == 0);
	assert(resident(&w) > 100000); // most are there still
	for (uint32_t i = 0; i < 100000; i++)
		assert(finds(&w, RED, i, 80 + i % 2) == (i % 2 == 1));
	for (uint32_t i = 0; i < 10000; i++)
		assert(finds(&w, BLUE, i, 80 + i % 2));

	assert(decide(&w, RED, 99998, 80, RED, 5) == 0); // decided after it: good at once,
	assert(finds(&w, RED, 99998, 80));
	const uint32_t most = pass_through(&w);
	assert(most > 0 && most <= REMOVED_A_SLICE);
	assert(resident(&w) == 60001 && !pending(&w));
	assert(finds(&w, RED, 99998, 80) && finds(&w, RED, 99999, 81)); // and when the walk has been there
	reader_ends(&w);
	world_close(&w);
}

// What a reader has found before the walk took it out is compared for as long as it may still be looking at it.
static void
test_a_closing_is_kept_for_whoever_found_a_flow_before(void)
{
	struct world w = world_new(NULL, 1000);
	struct fp_flow_key key = key_of(&w, RED, 1, 80);
	const struct fp_flow_key *keys = &key;
	uint64_t hash;
	fp_action_word word;
	uint32_t entry;
	assert(decide(&w, RED, 1, 80, RED, 1) == 0);
	reader_begins(&w);
	fp_flow_lookup_start(w.arena, &keys, 1, &hash, &entry);
	fp_flow_lookup_find(w.arena, 1, &hash, &entry);
	assert(forbid_port(&w, RED, 80, 5) == 0);
	for (int i = 0; i < 20; i++)
		fp_installer_tick(w.in, NOW_NS);
	assert(resident(&w) == 0);
	assert(fp_flow_lookup_finish(w.arena, &keys, 1, NOW_S, &hash, &word, &entry) == 0);
	fp_arena_reader_quiescent(w.arena, 0);
	fp_installer_sync(w.in);
	assert(!pending(&w));
	reader_ends(&w);
	world_close(&w);
}

// More scopes than its list takes: a V-net is closed as a whole. What another has closed meanwhile is one scope.
static void
test_more_scopes_than_its_list_takes_close_their_vnet_alone(void)
{
	struct world w = world_new(NULL, 1000);
	for (uint16_t port = 1; port <= 400; port++)
		assert(decide(&w, RED, 1, port, RED, 1) == 0 && decide(&w, BLUE, 1, port, BLUE, 1) == 0);
	reader_begins(&w);
	for (uint16_t port = 1; port <= 300; port++) {
		assert(forbid_port(&w, RED, port, 5) == 0);
		assert(!finds(&w, RED, 1, port));
		assert(finds(&w, BLUE, 1, port) && finds(&w, RED, 1, 400) == (port <= FP_CLOSINGS_MAX));
	}
	assert(forbid_port(&w, BLUE, 7, 5) == 0);
	assert(!finds(&w, BLUE, 1, 7) && finds(&w, BLUE, 1, 8));
	pass_through(&w);
	assert(!pending(&w) && resident(&w) == 399 && finds(&w, BLUE, 1, 400));
	reader_ends(&w);
	world_close(&w);
}

static void
test_a_pair_that_is_no_peering_any_more_is_closed_one_way(void)
{
	struct world w = world_new(NULL, 1000);
	struct fp_record_peering to_blue = {.to_vni = BLUE}, to_red = {.to_vni = RED};
	assert(apply(&w, &to_blue, FP_RECORD_PEERING_SET, RED, 0) == 0);
	assert(apply(&w, &to_red, FP_RECORD_PEERING_SET, BLUE, 0) == 0);
	assert(decide(&w, RED, 1, 80, BLUE, 1) == 0 && decide(&w, BLUE, 1, 80, RED, 1) == 0);
	assert(decide(&w, RED, 2, 80, RED, 1) == 0);
	reader_begins(&w);
	assert(apply(&w, &to_blue, FP_RECORD_PEERING_REMOVE, RED, 0) == 0);
	assert(!finds(&w, RED, 1, 80) && finds(&w, BLUE, 1, 80) && finds(&w, RED, 2, 80));
	reader_ends(&w);
	world_close(&w);
}

// The data plane ends while the walk is under way: whoever adopts the tables finishes it first.
static void
test_what_a_walk_had_not_reached_is_closed_after_a_restart(void)
{
	char path[] = "/tmp/fp-closing-XXXXXX";
	path_make(path);
	struct world w = world_new(path, 100000);
	decide_many(&w, RED, 50000);
	decide_many(&w, BLUE, 1000);
	assert(forbid_port(&w, RED, 80, 5) == 0 && resident(&w) > 40000);
	world_close(&w);
	w = tables_open(path, 100000);
	assert(resident(&w) == 26000 && !pending(&w));
	struct fp_record_snapshot other_store = {.incarnation = 2};
	assert(apply(&w, &other_store, FP_RECORD_SNAPSHOT_BEGIN, RED, 1) == 0);
	vnet_make(&w, RED);
	assert(apply(&w, &other_store, FP_RECORD_SNAPSHOT_END, RED, 1) == 0 && resident(&w) > 20000);
	assert(!finds(&w, RED, 1, 81));
	world_close(&w);
	w = tables_open(path, 100000);
	assert(resident(&w) == 1000 && !pending(&w));
	world_close(&w);
	remove(path);
}

int
main(void)
{
	test_a_revocation_is_in_force_before_any_walk();
	test_a_closing_is_kept_for_whoever_found_a_flow_before();
	test_more_scopes_than_its_list_takes_close_their_vnet_alone();
	test_a_pair_that_is_no_peering_any_more_is_closed_one_way();
	test_what_a_walk_had_not_reached_is_closed_after_a_restart();
	return 0;
}
