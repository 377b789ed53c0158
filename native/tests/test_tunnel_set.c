// SPDX-License-Identifier: Apache-2.0
//
// A tunnel set that very many locations lead to is replaced in steps, whatever comes and goes in between.
#include "install_fixture.h"

#include "../core/install_internal.h"

#define SET 700
#define LOCATIONS 20000u

static int
set_set(struct world *w, uint64_t tunnel)
{
	struct fp_record_tunnel_group r = {
		.object_id = SET, .count = 1, .mode = FP_SET_FIRST, .tunnel = {tunnel}, .weight = {1}};
	return apply(w, &r, FP_RECORD_TUNNEL_GROUP_SET, 0, 0);
}

static int
member_set(struct world *w, uint64_t object, uint32_t wire_id)
{
	struct fp_record_location r = {.object_id = object,
				       .target_id = SET,
				       .node_id = 50,
				       .wire_id = wire_id,
				       .kind = FP_LOCATION_SET,
				       .mac = {2, 0, 0, 0, 0, 9}};
	return apply(w, &r, FP_RECORD_LOCATION_SET, RED, 0);
}

static int
member_remove(struct world *w, uint64_t object)
{
	struct fp_record_location r = {.object_id = object};
	return apply(w, &r, FP_RECORD_LOCATION_REMOVE, RED, 0);
}

static struct world
many(void)
{
	struct world w = world_new(NULL, 1024);
	assert(set_set(&w, 50) == 0);
	for (uint32_t i = 0; i < LOCATIONS; i++)
		assert(member_set(&w, 1000 + i, RED) == 0);
	return w;
}

// How many locations lead to a set, by its list and by its references.
static uint32_t
led(const struct world *w, uint32_t set)
{
	uint32_t n = 0;
	for (uint32_t i = w->in->set_locations[set]; i; i = w->in->target_chain.next[i]) {
		const struct fp_location *location = &w->arena->view.location[i];
		n++;
		assert(location->half[location->selector & 1].target == set);
	}
	assert(fp_index_references(&w->arena->pool[FP_POOL_TUNNEL_SET], set) == n);
	return n;
}

static void
is_whole(const struct world *w, uint64_t tunnel, uint32_t locations)
{
	const uint32_t now = fp_tunnel_set_by_id(w->in, SET);
	assert(w->arena->view.tunnel_set[now].tunnel[0] == fp_tunnel_by_id(w->in, tunnel));
	assert(led(w, now) == locations && w->arena->pool[FP_POOL_TUNNEL_SET].live == 1);
	assert(w->in->set_turns == 0);
}

static void
test_locations_come_and_go_between_the_steps(void)
{
	struct world w = many();
	uint32_t steps = 0, come = 0, gone = 0;
	int rc;
	while ((rc = set_set(&w, 51)) == -EINPROGRESS || rc == -EAGAIN) {
		assert(++steps < 1000);
		// From both ends of the list: those that were looked at or moved, and those that were not.
		assert(member_remove(&w, 1000 + gone) == 0 &&
		       member_remove(&w, 1000 + LOCATIONS - ++gone) == 0);
		assert(member_set(&w, 100000 + come++, RED) == 0);
		const uint32_t next = w.in->set_turn[0].at; // that the next step would begin with
		if (next) {
			assert(member_remove(&w, w.arena->view.location[next].object_id) == 0);
			assert(member_set(&w, 200000 + come, RED) == 0);
		}
		fp_installer_tick(w.in, w.now_ns);
	}
	assert(rc == 0 && steps >= 2 * LOCATIONS * 100ull / FP_RECORD_NS / 2);
	is_whole(&w, 51, LOCATIONS - 2 * gone + come);
	world_close(&w);
}

static void
test_what_would_not_lead_home_is_refused_before_anything_moves(void)
{
	struct world w = many();
	assert(tunnel_set(&w, 52, 64) == 0); // nothing of red's comes from there
	assert(set_set(&w, 52) == -ENOENT);
	is_whole(&w, 50, LOCATIONS);
	world_close(&w);
}

static void
test_a_client_that_leaves_in_between_leaves_the_one_set_or_the_other(void)
{
	struct world w = many();
	assert(set_set(&w, 51) == -EINPROGRESS && !w.in->set_turn[0].looked);
	fp_installer_leave(w.in, 0);
	is_whole(&w, 50, LOCATIONS);
	while (!w.in->set_turn[0].looked)
		assert(set_set(&w, 51) == -EINPROGRESS);
	fp_installer_leave(w.in, 0);
	assert(set_set(&w, 50) == -EAGAIN); // the next client waits for it
	for (int ticks = 0; w.in->set_turns; ticks++) {
		assert(ticks < 1000);
		fp_installer_tick(w.in, w.now_ns);
	}
	is_whole(&w, 51, LOCATIONS);
	world_close(&w);
}

int
main(void)
{
	test_locations_come_and_go_between_the_steps();
	test_what_would_not_lead_home_is_refused_before_anything_moves();
	test_a_client_that_leaves_in_between_leaves_the_one_set_or_the_other();
	return 0;
}
