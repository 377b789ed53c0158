// SPDX-License-Identifier: Apache-2.0
//
// The writer: V-nets come and go, what they share is made anew all the time, and what poll threads miss is decided.
// What is given out anew is looked at before anything leads there: its counters are zero.
#include "recycling_writer.h"

#include <sched.h>
#include <time.h>

#define CHANGES_A_LIFE 12
#define OUT_A_LIFE 24 // frames that have come out before a V-net may go
#define TUNNEL_ID 100

struct writer w;

static void shared_make(void);
static void change_something(void);
static void serve(void);

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int
put_flagged(void *record, uint16_t type, uint32_t vni, uint64_t revision, uint8_t flags)
{
	struct fp_record *r = record;

	r->head = (struct fp_record_head){
		.type = type, .version = FP_RECORD_VERSION, .flags = flags, .vni = vni, .revision = revision};
	return rig_apply(w.r->rig, r, now_ns());
}

void
put(void *record, uint16_t type, uint32_t vni, uint64_t revision)
{
	const int rc = put_flagged(record, type, vni, revision, FP_RECORD_FIRST | FP_RECORD_LAST);

	if (rc != 0)
		fprintf(stderr, "record of type %u: %s\n", type, strerror(-rc));
	assert(rc == 0);
}

void *
tables_main(void *recycling)
{
	w.r = recycling;
	w.seed = 1;
	shared_make();
	for (uint32_t number = 1; number <= w.r->lives; number++) {
		const uint32_t slot = slot_of(number), before = w.number[slot];

		while (before && __atomic_load_n(&w.r->life[before].came_out, __ATOMIC_ACQUIRE) < OUT_A_LIFE)
			serve();
		if (before)
			life_end(slot);
		life_begin(slot, number);
		for (int i = 0; i < CHANGES_A_LIFE; i++) {
			change_something();
			serve();
		}
	}
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		while (__atomic_load_n(&w.r->life[w.number[slot]].came_out, __ATOMIC_ACQUIRE) < OUT_A_LIFE)
			serve();
	__atomic_store_n(&w.r->written, true, __ATOMIC_RELEASE);
	return NULL;
}

// ---- what V-nets share -----------------------------------------------------------------------------------

static void
nexthops_make(uint32_t remote)
{
	struct fp_record_nexthop record = {.count = (uint8_t)(1 + random_below(&w.seed, FP_NEXTHOPS_MAX))};

	for (uint32_t i = 0; i < record.count; i++) {
		const uint32_t any = random_below(&w.seed, 256);
		record.hop[i] = (struct fp_nexthop){
			.destination_mac = {2, 0xee, (uint8_t)remote, 0, (uint8_t)i, (uint8_t)any},
			.port = PORT_UNDERLAY};
		memcpy(record.hop[i].source_mac, port_macs[PORT_UNDERLAY], 6);
	}
	memcpy(record.local + 12, local_address, 4);
	remote_address(record.remote + 12, remote);
	put(&record, FP_RECORD_NEXTHOP_SET, 0, 0);
	w.rehopped++;
}

static void
tunnel_put(uint32_t remote, uint64_t id)
{
	struct fp_record_tunnel record = {.object_id = id,
					  .profile_id = 1,
					  .node_id = NODE_ID + remote,
					  .udp_port = FRAME_VXLAN_PORT,
					  .mtu_bytes = 1500,
					  .protocol = FP_PROTOCOL_VXLAN,
					  .ttl = (uint8_t)(32 + random_below(&w.seed, 32)),
					  .dscp_copy = 1};

	memcpy(record.local + 12, local_address, 4);
	remote_address(record.remote + 12, remote);
	put(&record, FP_RECORD_TUNNEL_SET, 0, 0);
	w.reheaded++;
}

static uint32_t
tunnel_index(uint64_t id)
{
	const struct fp_tunnel_info *info;

	for (uint32_t i = 1; (info = fp_tunnel_info_at(rig_arena(w.r->rig), i)) != NULL; i++)
		if (info->object_id == id &&
		    fp_tunnel_state(fp_tunnel_at(rig_arena(w.r->rig), i)) != FP_TUNNEL_DYING)
			return i;
	abort();
}

static void
tunnel_make(uint32_t remote)
{
	const uint64_t id = TUNNEL_ID + w.tunnels_made++;

	tunnel_put(remote, id);
	counters_are_zero(FP_COUNTED_TUNNEL, tunnel_index(id));
	w.tunnel[remote] = id;
}

// The one that begins with this node: two tunnels, by weight.
static void
set_make(uint32_t remote)
{
	struct fp_record_tunnel_group record = {
		.object_id = SET_ID + remote,
		.tunnel = {w.tunnel[remote], w.tunnel[(remote + 1) % REMOTES]},
		.weight = {(uint8_t)(1 + random_below(&w.seed, 200)), 7},
		.mode = FP_SET_ENTROPY,
		.count = 2};

	put(&record, FP_RECORD_TUNNEL_GROUP_SET, 0, 0);
	w.sets_changed++;
}

static void
shared_make(void)
{
	for (uint32_t remote = 0; remote < REMOTES; remote++) {
		tunnel_make(remote);
		nexthops_make(remote);
	}
	for (uint32_t remote = 0; remote < REMOTES; remote++)
		set_make(remote);
}

// Another tunnel to a node takes the place of the one there was.
static void
tunnel_renew(uint32_t remote)
{
	struct fp_record_tunnel old = {.object_id = w.tunnel[remote]};

	tunnel_make(remote);
	set_make(remote);
	set_make((remote + REMOTES - 1) % REMOTES);
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		if (w.number[slot] != 0)
			members_reroute(slot);
	put(&old, FP_RECORD_TUNNEL_REMOVE, 0, 0);
}

static void
change_something(void)
{
	const uint32_t slot = random_below(&w.seed, SLOTS), remote = random_below(&w.seed, REMOTES);

	switch (random_below(&w.seed, 9)) {
	case 0:
		tunnel_renew(remote);
		return;
	case 1:
		nexthops_make(remote);
		return;
	case 2:
		tunnel_put(remote, w.tunnel[remote]);
		return;
	case 3:
		set_make(remote);
		return;
	default:
		break;
	}
	if (w.number[slot] != 0)
		life_change(slot);
}

// ---- what poll threads ask and hand over -----------------------------------------------------------------

static void
serve(void)
{
	static uint8_t buffer[RIG_FRAME_BYTES];
	struct fp_record record;
	uint32_t port, len_bytes;

	for (int i = 0; i < 64 && rig_record(w.r->rig, 0, &record); i++)
		if (record.head.type == FP_RECORD_MISS)
			answer((const struct fp_record_miss *)&record);
	while (rig_exception(w.r->rig, &port, buffer, &len_bytes)) {
		assert(port == PORT_UNDERLAY && frame_get16(buffer + 12) == FRAME_ETHERTYPE_ARP);
		w.r->exceptions++;
	}
	while (rig_emitted(w.r->rig, &record))
		;
	rig_maintain(w.r->rig, now_ns());
}

void
counters_are_zero(enum fp_counted what, uint32_t index)
{
	for (uint32_t i = 0; i < RIG_THREADS_MAX; i++) {
		const struct fp_counters *c = fp_thread_counters(rig_thread_at(w.r->rig, i));
		const struct fp_pair_counters *pair =
			what == FP_COUNTED_VNET ? &c->vnet[index] : &c->tunnel[index];
		assert(pair->rx_packets == 0 && pair->rx_bytes == 0 && pair->tx_packets == 0 &&
		       pair->tx_bytes == 0);
	}
}

void
tables_report(const struct recycling *r)
{
	const struct fp_arena_config *limits = fp_arena_limits(rig_arena(r->rig));

	printf("%u V-nets, %u tunnels, %u sets, %u headers, %u next hop groups, %u flows, %u moves, %u "
	       "removals, %u changes, %u peerings, %u answers\n",
	       r->lives, w.tunnels_made, w.sets_changed, w.reheaded, w.rehopped, w.churned + w.answers,
	       w.moves, w.removals, w.changes, w.peerings, w.answers);
	// Each index of each kind has had several owners.
	assert(r->lives >= 8 * limits->vnets && r->lives * 4 >= 8 * limits->ingresses);
	assert(w.tunnels_made >= 8 * limits->tunnels && w.sets_changed >= 8 * limits->tunnels);
	assert(w.reheaded >= 8 * 2 * limits->tunnels && w.rehopped >= 4 * 2 * limits->tunnels);
	assert(r->lives * 4 + w.removals >= 8 * limits->locations);
	assert(w.churned + w.answers >= 8 * limits->flows && w.peerings >= 8 * limits->vnets);
}
