// SPDX-License-Identifier: Apache-2.0
//
// What a change forbids is not acted on from its record on, however many flows there are; the walk that takes it
// out goes in slices; nothing else is closed. Beside a reader too (TSan).
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/flow_internal.h"
#include "../core/install_internal.h"

#define RED 7001
#define BLUE 7002
#define NOW_NS (1000ull * 1000000000)
#define NOW_S 1000
#define REMOVED_A_SLICE (FP_SLICE_NS / FP_REMOVE_NS + 2)

static uint64_t synced;

static void
on_release(void *, const struct fp_release *)
{
}

static void
on_emit(void *, uint8_t, const struct fp_record *record)
{
	synced += record->head.type == FP_RECORD_SYNCED;
}

static int
on_port(void *, const char *, uint16_t *mtu_bytes)
{
	*mtu_bytes = 1500;
	return 0;
}

static void
on_send(void *, uint8_t, uint32_t, uint32_t, const uint8_t *, uint32_t)
{
}

static const struct fp_installer_hooks hooks = {
	.release = on_release, .emit = on_emit, .port_by_name = on_port, .send = on_send};

struct world {
	struct fp_arena *arena;
	struct fp_installer *in;
};

static int
apply_as(struct world *w, uint8_t client, void *record, uint16_t type, uint32_t vni, uint64_t revision)
{
	struct fp_record *r = record;
	r->head = (struct fp_record_head){.type = type,
					  .version = FP_RECORD_VERSION,
					  .vni = vni,
					  .revision = revision,
					  .flags = FP_RECORD_FIRST | FP_RECORD_LAST};
	return fp_installer_apply(w->in, client, r, NOW_NS);
}

static int
apply(struct world *w, void *record, uint16_t type, uint32_t vni, uint64_t revision)
{
	return apply_as(w, 0, record, type, vni, revision);
}

static uint16_t
vlan_of(uint32_t vni)
{
	return (uint16_t)(vni - RED + 1);
}

static uint64_t
object_of(uint32_t vni)
{
	return vni * 10ull;
}

static int
vnet_set(struct world *w, uint32_t vni, uint64_t object_id)
{
	struct fp_record_vnet v = {.object_id = object_id, .incarnation = 1, .stale_max_s = 60};
	return apply(w, &v, FP_RECORD_VNET_SET, vni, 0);
}

static int
attachment_set(struct world *w, uint32_t vni)
{
	struct fp_record_attachment a = {.object_id = object_of(vni), .port = "rack", .vlan = vlan_of(vni)};
	return apply(w, &a, FP_RECORD_ATTACHMENT_SET, vni, 0);
}

static int
location_set(struct world *w, uint32_t vni, uint64_t object)
{
	struct fp_record_location l = {.object_id = object,
				       .target_id = object_of(vni),
				       .kind = FP_LOCATION_LOCAL,
				       .mac = {2, 0, 0, 0, 0, 9}};
	return apply(w, &l, FP_RECORD_LOCATION_SET, vni, 0);
}

static void
vnet_make(struct world *w, uint32_t vni)
{
	assert(vnet_set(w, vni, vni) == 0 && attachment_set(w, vni) == 0 && location_set(w, vni, 300) == 0);
}

static struct world
world_open(const char *path, uint32_t flows)
{
	struct world w;
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	config.flows = flows;
	config.vnets = 4;
	assert(fp_arena_open(path, &config, NOW_NS, &w.arena) == 0);
	fp_arena_tick(w.arena, NOW_NS);
	assert(fp_installer_create(w.arena, &hooks, &w.in) == 0);
	return w;
}

static struct world
world_new(const char *path, uint32_t flows)
{
	struct world w = world_open(path, flows);
	vnet_make(&w, RED);
	vnet_make(&w, BLUE);
	return w;
}

static void
world_close(struct world *w)
{
	fp_installer_destroy(w->in);
	fp_arena_close(w->arena);
}

static struct fp_flow_key
key_of(const struct world *w, uint32_t vni, uint32_t source, uint16_t port)
{
	struct fp_flow_key key = {.key_class = FP_CLASS_ROUTED,
				  .flags = FP_KEY_CONNECTION,
				  .protocol = 6,
				  .destination_port = __builtin_bswap16(port),
				  .ingress = fp_ingress_by_vlan(w->arena, 0, vlan_of(vni))};
	source = __builtin_bswap32(source);
	memcpy(key.source + 12, &source, 4);
	key.destination[15] = 1;
	return key;
}

static int
decide(struct world *w, uint32_t vni, uint32_t source, uint16_t port, uint32_t to_vni, uint64_t revision)
{
	struct fp_record_flow r = {.key = key_of(w, vni, source, port),
				   .action = FP_ACTION_DELIVER,
				   .ingress_object = object_of(vni),
				   .destination_object = 300,
				   .destination_vni = to_vni == vni ? 0 : to_vni,
				   .lifetime_ms = 3600000,
				   .incarnation = 1};
	return apply(w, &r, FP_RECORD_FLOW_INSTALL, vni, revision);
}

static void
decide_many(struct world *w, uint32_t vni, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		while (decide(w, vni, i, 80 + i % 2, vni, 1) == -EAGAIN)
			fp_installer_tick(w->in, NOW_NS);
}

static int
forbid_port(struct world *w, uint32_t vni, uint16_t port, uint64_t revision)
{
	struct fp_record_change r = {.kind = FP_CHANGE_TIGHTEN,
				     .incarnation = 1,
				     .scope = {.protocol = 6, .port_low = port, .port_high = port}};
	return apply(w, &r, FP_RECORD_CHANGE, vni, revision);
}

static bool
finds(const struct world *w, uint32_t vni, uint32_t source, uint16_t port)
{
	struct fp_flow_key key = key_of(w, vni, source, port);
	const struct fp_flow_key *keys = &key;
	uint64_t hash;
	fp_action_word word;
	uint32_t entry;
	return fp_flow_lookup_bulk(w->arena, &keys, 1, NOW_S, &hash, &word, &entry) == 1;
}

static uint32_t
resident(const struct world *w)
{
	struct fp_flow_stats stats;
	fp_flow_stats(w->arena, &stats);
	return stats.resident;
}

static bool
pending(const struct world *w)
{
	return fp_closings_pending(w->arena->view.closings);
}

// Ticks until nothing is to be closed; returns how many flows one tick took out at most.
static uint32_t
pass_through(struct world *w)
{
	uint32_t most = 0;
	for (uint32_t before = resident(w); pending(w); before = resident(w)) {
		fp_installer_tick(w->in, NOW_NS);
		fp_arena_reader_quiescent(w->arena, 0);
		fp_installer_sync(w->in);
		if (before - resident(w) > most)
			most = before - resident(w);
	}
	return most;
}

static void
reader_begins(struct world *w)
{
	assert(fp_arena_reader_register(w->arena, 0) == 0);
	fp_arena_reader_online(w->arena, 0);
}

static void
reader_ends(struct world *w)
{
	fp_arena_reader_offline(w->arena, 0);
	fp_arena_reader_unregister(w->arena, 0);
}

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

// More scopes than the list takes: their V-net is closed as a whole, others' flows stay.
static void
test_more_scopes_than_the_list_takes_close_their_vnet_alone(void)
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
	pass_through(&w);
	assert(!pending(&w) && resident(&w) == 400 && finds(&w, BLUE, 1, 400));
	reader_ends(&w);
	world_close(&w);
}

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
		if (vnet_set(&w, vni, vni) == 0)
			assert(fp_vnet_by_vni(w.in, vni) != index);
	pass_through(&w);
	fp_arena_reader_quiescent(w.arena, 0);
	fp_installer_tick(w.in, NOW_NS);
	assert(resident(&w) == 1 && !pending(&w));
	assert(vnet_set(&w, BLUE + 2, BLUE + 2) == 0 || fp_vnet_by_vni(w.in, BLUE + 2));
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
	const int fd = mkstemp(path);
	assert(fd >= 0);
	close(fd);
	remove(path);
	struct world w = world_new(path, 100000);
	decide_many(&w, RED, 50000);
	decide_many(&w, BLUE, 1000);
	assert(forbid_port(&w, RED, 80, 5) == 0 && resident(&w) > 40000);
	world_close(&w);
	w = world_open(path, 100000);
	assert(resident(&w) == 26000 && !pending(&w));
	struct fp_record_snapshot other_store = {.incarnation = 2};
	assert(apply(&w, &other_store, FP_RECORD_SNAPSHOT_BEGIN, RED, 1) == 0);
	assert(vnet_set(&w, RED, RED) == 0 && attachment_set(&w, RED) == 0 &&
	       location_set(&w, RED, 300) == 0);
	assert(apply(&w, &other_store, FP_RECORD_SNAPSHOT_END, RED, 1) == 0 && resident(&w) > 20000);
	assert(!finds(&w, RED, 1, 81));
	world_close(&w);
	w = world_open(path, 100000);
	assert(resident(&w) == 1000 && !pending(&w));
	world_close(&w);
	remove(path);
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
	assert(attachment_set(&w, RED) == 0 && location_set(&w, RED, 300) == 0);
	uint32_t steps = 0;
	while (apply(&w, &snapshot, FP_RECORD_SNAPSHOT_END, RED, 2) == -EINPROGRESS)
		assert(++steps < 1000);
	assert(steps >= 10 && w.arena->pool[FP_POOL_LOCATION].live == 2);
	world_close(&w);
}

// ---- beside a reader -------------------------------------------------------------------------

#define PORTS 64
static struct {
	struct world *w;
	uint32_t stop, looks;
	uint32_t forbidden[PORTS]; // number of the revocation that is in force, 0: none
} shared;

static void *
look_on(void *)
{
	struct fp_arena *arena = shared.w->arena;
	struct fp_flow_key key[PORTS];
	const struct fp_flow_key *keys[PORTS];
	for (uint16_t i = 0; i < PORTS; i++) {
		key[i] = key_of(shared.w, RED, 1, i);
		keys[i] = &key[i];
	}
	assert(fp_arena_reader_register(arena, 0) == 0);
	fp_arena_reader_online(arena, 0);
	while (!__atomic_load_n(&shared.stop, __ATOMIC_ACQUIRE)) {
		uint32_t before[PORTS], entry[PORTS];
		uint64_t hash[PORTS];
		fp_action_word word[PORTS];
		for (uint32_t i = 0; i < PORTS; i++)
			before[i] = __atomic_load_n(&shared.forbidden[i], __ATOMIC_ACQUIRE);
		fp_flow_lookup_bulk(arena, keys, PORTS, NOW_S, hash, word, entry);
		for (uint32_t i = 0; i < PORTS; i++)
			assert(before[i] == 0 || entry[i] == 0 ||
			       __atomic_load_n(&shared.forbidden[i], __ATOMIC_ACQUIRE) != before[i]);
		__atomic_store_n(&shared.looks, shared.looks + 1, __ATOMIC_RELAXED);
		fp_arena_reader_quiescent(arena, 0);
	}
	reader_ends(shared.w);
	return NULL;
}

static void
test_no_reader_acts_on_what_is_confirmed_to_be_closed(void)
{
	struct world w = world_new(NULL, 30000);
	pthread_t reader;
	uint64_t revision = 1;
	shared.w = &w;
	decide_many(&w, BLUE, 20000); // so that the walk takes a while
	assert(pthread_create(&reader, NULL, look_on, NULL) == 0);
	for (uint32_t n = 1; n < 1000 || __atomic_load_n(&shared.looks, __ATOMIC_RELAXED) < 500; n++) {
		const uint16_t port = (uint16_t)(n % PORTS);
		__atomic_store_n(&shared.forbidden[port], 0, __ATOMIC_RELEASE);
		while (decide(&w, RED, 1, port, RED, revision) == -EAGAIN)
			fp_installer_tick(w.in, NOW_NS);
		assert(forbid_port(&w, RED, port, ++revision) == 0);
		struct fp_record_sync sync = {.number = n, .incarnation = 1, .workers = 1};
		const uint64_t before = synced;
		assert(apply(&w, &sync, FP_RECORD_SYNC, 0, revision) == 0);
		while (synced == before)
			fp_installer_sync(w.in);
		__atomic_store_n(&shared.forbidden[port], n, __ATOMIC_RELEASE);
		if (n % 8 == 0)
			fp_installer_tick(w.in, NOW_NS);
	}
	__atomic_store_n(&shared.stop, 1, __ATOMIC_RELEASE);
	pthread_join(reader, NULL);
	pass_through(&w);
	assert(resident(&w) == 20000);
	world_close(&w);
}

int
main(void)
{
	test_a_revocation_is_in_force_before_any_walk();
	test_a_closing_is_kept_for_whoever_found_a_flow_before();
	test_more_scopes_than_the_list_takes_close_their_vnet_alone();
	test_a_removed_vnet_and_its_number_rest_until_its_flows_are_out();
	test_a_pair_that_is_no_peering_any_more_is_closed_one_way();
	test_what_a_walk_had_not_reached_is_closed_after_a_restart();
	test_a_large_vnet_is_removed_in_steps();
	test_a_snapshot_sweeps_in_steps();
	test_no_reader_acts_on_what_is_confirmed_to_be_closed();
	return 0;
}
