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

#define BLUE 7002
#define BLUE_TAKES 7 // an object

static int
as_worker(struct world *w, void *record, uint16_t type, uint32_t vni)
{
	return fp_installer_apply(w->in, (uint8_t)(vni % 2), headed(record, type, vni, 0), w->now_ns);
}

static int
member_of(struct world *w, uint32_t vni, uint64_t object)
{
	struct fp_record_location r = {.object_id = object,
				       .target_id = SET,
				       .node_id = 50,
				       .wire_id = vni,
				       .kind = FP_LOCATION_SET};
	return as_worker(w, &r, FP_RECORD_LOCATION_SET, vni);
}

// Red's worker replaces it.
static int
set_of_red(struct world *w)
{
	struct fp_record_tunnel_group r = {
		.object_id = SET, .count = 1, .mode = FP_SET_FIRST, .tunnel = {51}, .weight = {1}};
	return fp_installer_apply(w->in, RED % 2, headed(&r, FP_RECORD_TUNNEL_GROUP_SET, 0, 0), w->now_ns);
}

// What one worker told a data plane before, as two of them find it: the set is whose locations lead there.
static struct world
adopted(bool blue_leads_there)
{
	struct world w = many();
	struct fp_record_ingress r = {.node_id = 50, .udp_port = 4789};
	r.key.wire_id = BLUE;
	r.key.protocol = FP_PROTOCOL_VXLAN;
	memcpy(r.key.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
	for (uint8_t tunnel = 50; tunnel <= 51; tunnel++) {
		if (tunnel == 50)
			assert(vnet_set(&w, BLUE, 2, 60) == 0);
		memcpy(r.key.remote + 12, (uint8_t[]){192, 0, 2, tunnel}, 4);
		assert(apply(&w, &r, FP_RECORD_INGRESS_SET, BLUE, 0) == 0);
	}
	if (blue_leads_there)
		assert(member_of(&w, BLUE, BLUE_TAKES) == 0);
	fp_installer_destroy(w.in);
	assert(fp_installer_create(w.arena, &quiet_hooks, &w.in) == 0);
	fp_installer_share(w.in, 2);
	return w;
}

static void
test_an_adopted_set_of_one_worker_is_replaced_and_others_wait_for_it(void)
{
	struct world w = adopted(false);
	uint32_t steps = 0;
	int rc;
	while ((rc = set_of_red(&w)) == -EINPROGRESS || rc == -EAGAIN) {
		assert(++steps < 1000);
		if (!w.in->set_turn[RED % 2].looked)
			assert(member_of(&w, BLUE, BLUE_TAKES) == -EAGAIN);
		else
			assert(member_of(&w, BLUE, BLUE_TAKES) == -ENOENT); // it is red's by now
		fp_installer_tick(w.in, w.now_ns);
	}
	assert(rc == 0 && steps > 10);
	is_whole(&w, 51, LOCATIONS);
	world_close(&w);
}

static void
test_an_adopted_set_of_two_workers_stays_beside_the_new_one(void)
{
	struct world w = adopted(true);
	const uint32_t before = fp_tunnel_set_by_id(w.in, SET);
	int rc;
	while ((rc = set_of_red(&w)) == -EINPROGRESS)
		;
	assert(rc == 0 && w.in->set_turns == 0 && led(&w, before) == LOCATIONS + 1);
	assert(set_of_red(&w) == 0 && member_of(&w, RED, 1000) == 0); // told again, it leads to red's own
	assert(led(&w, before) == LOCATIONS && w.arena->pool[FP_POOL_TUNNEL_SET].live == 2);
	world_close(&w);
}

int
main(void)
{
	test_locations_come_and_go_between_the_steps();
	test_what_would_not_lead_home_is_refused_before_anything_moves();
	test_a_client_that_leaves_in_between_leaves_the_one_set_or_the_other();
	test_an_adopted_set_of_one_worker_is_replaced_and_others_wait_for_it();
	test_an_adopted_set_of_two_workers_stays_beside_the_new_one();
	return 0;
}
