// SPDX-License-Identifier: Apache-2.0
//
// A V-net that goes takes with it what it has, step by step; its index and its number rest until its flows are out.
#include "closing_fixture.h"

static void
test_a_removed_vnet_and_its_number_rest_until_its_flows_are_out(void)
{
	struct world w = world_new(NULL, 200000);
	struct fp_record_peering p = {.to_vni = BLUE};
	struct fp_record_vnet v = {.object_id = BLUE};
	assert(apply(&w, &p, FP_RECORD_PEERING_SET, RED, 0) == 0);
	decide_many(&w, BLUE, 100000);
	assert(decide(&w, RED, 7, 80, BLUE, 1) == 0 && decide(&w, RED, 7, 80, BLUE, 1) == 0);
	assert(decide(&w, RED, 8, 80, RED, 1) == 0);
	reader_begins(&w);
	const uint32_t index = fp_vnet_by_vni(w.in, BLUE);
	while (apply(&w, &v, FP_RECORD_VNET_REMOVE, BLUE, 0) == -EINPROGRESS)
		assert(!finds(&w, RED, 7, 80)); // from its first step on
	assert(!finds(&w, RED, 7, 80) && finds(&w, RED, 8, 80));
	assert(resident(&w) > 50000);
	for (uint32_t vni = BLUE + 1; vni <= BLUE + 2;
	     vni++) // the table has four, index 0 and red's among them
		if (vnet_set(&w, vni, vni, 60) == 0)
			assert(fp_vnet_by_vni(w.in, vni) != index);
	pass_through(&w);
	fp_arena_reader_quiescent(w.arena, 0);
	fp_installer_tick(w.in, NOW_NS);
	assert(resident(&w) == 1 && !pending(&w));
	assert(vnet_set(&w, BLUE + 2, BLUE + 2, 60) == 0 || fp_vnet_by_vni(w.in, BLUE + 2));
	reader_ends(&w);
	world_close(&w);
}

// A V-net with very many locations goes step by step; what others send has its turn in between.
static void
test_a_large_vnet_is_removed_in_steps(void)
{
	struct world w = world_new(NULL, 1000);
	for (uint64_t i = 0; i < 20000; i++)
		assert(location_set(&w, RED, 1000 + i) == 0);
	struct fp_record_vnet v = {.object_id = RED};
	uint32_t steps = 0, blue = 0;
	while (apply(&w, &v, FP_RECORD_VNET_REMOVE, RED, 0) == -EINPROGRESS) {
		assert(decide(&w, BLUE, ++blue, 80, BLUE, 1) == 0);
		assert(++steps < 1000);
	}
	assert(steps >= 20000ull * 1000 / FP_RECORD_NS / 2);
	assert(fp_vnet_by_vni(w.in, RED) == 0 && finds(&w, BLUE, blue, 80));
	assert(w.arena->pool[FP_POOL_LOCATION].live == 1);
	world_close(&w);
}

// So does the end of a snapshot that does not name them any more.
static void
test_a_snapshot_sweeps_in_steps(void)
{
	struct world w = world_new(NULL, 1000);
	struct fp_record_snapshot snapshot = {.incarnation = 1};
	for (uint64_t i = 0; i < 20000; i++)
		assert(location_set(&w, RED, 1000 + i) == 0);
	assert(apply(&w, &snapshot, FP_RECORD_SNAPSHOT_BEGIN, RED, 2) == 0);
	assert(attachment_set(&w, RED, object_of(RED), vlan_of(RED)) == 0 && location_set(&w, RED, 300) == 0);
	uint32_t steps = 0;
	while (apply(&w, &snapshot, FP_RECORD_SNAPSHOT_END, RED, 2) == -EINPROGRESS)
		assert(++steps < 1000);
	assert(steps >= 10 && w.arena->pool[FP_POOL_LOCATION].live == 2);
	world_close(&w);
}

// A machine on which everything takes a hundred times what it is thought to take.
static uint64_t
slow_clock(void)
{
	static uint64_t now_ns;
	return now_ns += 100 * FP_CLOCK_EVERY_NS;
}

static void
test_a_slice_and_a_record_end_by_the_clock_too(void)
{
	struct world w = world_new(NULL, 20000);
	decide_many(&w, RED, 10000);
	for (uint64_t i = 0; i < 1000; i++)
		assert(location_set(&w, RED, 1000 + i) == 0);
	reader_begins(&w);
	w.arena->clock_ns = slow_clock;
	assert(forbid_port(&w, RED, 80, 5) == 0);
	const uint32_t most = pass_through(&w);
	assert(most > 0 && most <= 4 && resident(&w) == 5000);
	struct fp_record_vnet v = {.object_id = RED};
	uint32_t steps = 0;
	while (apply(&w, &v, FP_RECORD_VNET_REMOVE, RED, 0) == -EINPROGRESS)
		steps++;
	assert(steps > 200 && fp_vnet_by_vni(w.in, RED) == 0);
	pass_through(&w);
	assert(resident(&w) == 0);
	reader_ends(&w);
	world_close(&w);
}

int
main(void)
{
	test_a_slice_and_a_record_end_by_the_clock_too();
	test_a_removed_vnet_and_its_number_rest_until_its_flows_are_out();
	test_a_large_vnet_is_removed_in_steps();
	test_a_snapshot_sweeps_in_steps();
	return 0;
}
