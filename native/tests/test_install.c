// SPDX-License-Identifier: Apache-2.0
//
// The installer beside readers (TSan), under hostile bytes (ASan, UBSan), and stopped between a revocation and
// the end of its pass. What each record does is tested in Python against a model.
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fp_dump.h"
#include "fp_install.h"

#define RED 7001
#define NOW_NS (1000ull * 1000000000)

static uint64_t released, refused;

static void
on_release(void *, const struct fp_release *)
{
	released++;
}

static void
on_emit(void *, uint8_t, const struct fp_record *record)
{
	refused += record->head.type == FP_RECORD_REFUSED;
}

static int
on_port(void *, const char *name, uint16_t *mtu_bytes)
{
	*mtu_bytes = 1500;
	return strcmp(name, "rack") == 0 ? 0 : -1;
}

static void
on_send(void *, uint8_t, uint32_t, uint32_t, const uint8_t *frame, uint32_t len_bytes)
{
	assert(frame[0] == frame[len_bytes - 1] || len_bytes > 0); // reads both ends
}

static const struct fp_installer_hooks hooks = {
	.release = on_release, .emit = on_emit, .port_by_name = on_port, .send = on_send};

struct world {
	struct fp_arena *arena;
	struct fp_installer *in;
};

static int
apply(struct world *w, void *record, uint16_t type, uint32_t vni, uint64_t revision)
{
	struct fp_record *r = record;
	r->head = (struct fp_record_head){.type = type,
					  .version = FP_RECORD_VERSION,
					  .vni = vni,
					  .revision = revision,
					  .flags = FP_RECORD_FIRST | FP_RECORD_LAST};
	return fp_installer_apply(w->in, type == FP_RECORD_NEXTHOP_SET ? 0xff : 0, r, NOW_NS);
}

static int
location_set(struct world *w, uint64_t object, uint64_t tunnel, uint64_t revision)
{
	struct fp_record_location r = {.object_id = object,
				       .target_id = tunnel,
				       .node_id = tunnel,
				       .wire_id = RED,
				       .kind = FP_LOCATION_TUNNEL,
				       .mac = {2, 0, 0, 0, 0, (uint8_t)tunnel}};
	return apply(w, &r, FP_RECORD_LOCATION_SET, RED, revision);
}

static int
tunnel_set(struct world *w, uint64_t object, uint8_t ttl)
{
	struct fp_record_tunnel r = {.object_id = object,
				     .profile_id = 1,
				     .udp_port = 4789,
				     .mtu_bytes = 1500,
				     .protocol = FP_PROTOCOL_VXLAN,
				     .ttl = ttl};
	memcpy(r.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
	memcpy(r.remote + 12, (uint8_t[]){192, 0, 2, (uint8_t)object}, 4);
	return apply(w, &r, FP_RECORD_TUNNEL_SET, 0, 0);
}

static int
nexthop_set(struct world *w, uint64_t tunnel, uint8_t last)
{
	struct fp_record_nexthop r = {.count = 1,
				      .hop = {{.destination_mac = {2, last, last, last, last, last},
					       .source_mac = {2, 0, 0, 0, 0, 1}}}};
	memcpy(r.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
	memcpy(r.remote + 12, (uint8_t[]){192, 0, 2, (uint8_t)tunnel}, 4);
	return apply(w, &r, FP_RECORD_NEXTHOP_SET, 0, 0);
}

static int
locator_set(struct world *w, uint8_t last, uint16_t type)
{
	struct fp_record_ingress r = {.node_id = 900u + last, .udp_port = 4789};
	r.key.wire_id = RED;
	r.key.protocol = FP_PROTOCOL_VXLAN;
	memcpy(r.key.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
	memcpy(r.key.remote + 12, (uint8_t[]){203, 0, 113, last}, 4);
	return apply(w, &r, type, RED, 0);
}

// What comes from the far end of a tunnel is red's, so red may send there.
static int
way_back(struct world *w, uint64_t tunnel)
{
	struct fp_record_ingress r = {.node_id = tunnel, .udp_port = 4789};
	r.key.wire_id = RED;
	r.key.protocol = FP_PROTOCOL_VXLAN;
	memcpy(r.key.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
	memcpy(r.key.remote + 12, (uint8_t[]){192, 0, 2, (uint8_t)tunnel}, 4);
	return apply(w, &r, FP_RECORD_INGRESS_SET, RED, 0);
}

static struct fp_flow_key
key_of(const struct world *w, uint32_t destination)
{
	struct fp_flow_key key = {.key_class = FP_CLASS_ROUTED,
				  .ingress = fp_ingress_by_vlan(w->arena, 0, 0)};
	memcpy(key.source + 12, (uint8_t[]){10, 0, 0, 1}, 4);
	destination = __builtin_bswap32(destination);
	memcpy(key.destination + 12, &destination, 4);
	return key;
}

static int
flow_install(struct world *w, uint32_t destination, uint64_t revision)
{
	struct fp_record_flow r = {.key = key_of(w, destination),
				   .action = FP_ACTION_ENCAPSULATE,
				   .ingress_object = 100,
				   .destination_object = 300,
				   .lifetime_ms = 3600000,
				   .incarnation = 1};
	return apply(w, &r, FP_RECORD_FLOW_INSTALL, RED, revision);
}

static int
change(struct world *w, uint8_t kind, uint32_t destination, uint8_t bits, uint64_t revision)
{
	struct fp_record_change r = {
		.kind = kind,
		.incarnation = 1,
		.scope = {.destination_bits = (uint8_t)(96 + bits), .port_high = 0xffff}};
	destination = __builtin_bswap32(destination);
	memcpy(r.scope.destination + 12, &destination, 4);
	return apply(w, &r, FP_RECORD_CHANGE, RED, revision);
}

static struct world
world_open(const char *path, uint32_t flows)
{
	struct world w;
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	config.flows = flows;
	assert(fp_arena_open(path, &config, NOW_NS, &w.arena) == 0);
	fp_arena_tick(w.arena, NOW_NS);
	assert(fp_installer_create(w.arena, &hooks, &w.in) == 0);
	return w;
}

static struct world
world_new(const char *path, uint32_t flows)
{
	struct world w = world_open(path, flows);
	struct fp_record_vnet v = {.object_id = 1, .incarnation = 1, .stale_max_s = 60};
	struct fp_record_attachment a = {.object_id = 100, .port = "rack"};
	assert(apply(&w, &v, FP_RECORD_VNET_SET, RED, 0) == 0);
	assert(apply(&w, &a, FP_RECORD_ATTACHMENT_SET, RED, 0) == 0);
	assert(tunnel_set(&w, 50, 64) == 0 && tunnel_set(&w, 51, 64) == 0);
	assert(way_back(&w, 50) == 0 && way_back(&w, 51) == 0);
	assert(location_set(&w, 300, 50, 0) == 0);
	return w;
}

static void
world_close(struct world *w)
{
	fp_installer_destroy(w->in);
	fp_arena_close(w->arena);
}

// ---- readers beside the writer ---------------------------------------------------------------

static int stop_readers;
static uint64_t reader_found;

// Follows what poll threads follow; every record it reaches must be whole.
static void *
read_on(void *p)
{
	struct world *w = p;
	struct fp_arena *arena = w->arena;
	struct fp_locator_key key = {.wire_id = RED, .protocol = FP_PROTOCOL_VXLAN};
	memcpy(key.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
	assert(fp_arena_reader_register(arena, 0) == 0);
	fp_arena_reader_online(arena, 0);
	for (uint32_t n = 0; !__atomic_load_n(&stop_readers, __ATOMIC_RELAXED); n++) {
		memcpy(key.remote + 12, (uint8_t[]){203, 0, 113, (uint8_t)(n % 64)}, 4);
		uint32_t ingress = fp_ingress_by_locator(arena, &key);
		if (ingress) {
			assert(fp_ingress_at(arena, ingress)->object_id == 900 + n % 64);
			__atomic_store_n(&reader_found, reader_found + 1, __ATOMIC_RELAXED);
		}
		for (uint32_t t = 1; t <= 4; t++) {
			fp_tunnel_word word = fp_tunnel_at(arena, t);
			if (fp_tunnel_state(word) != FP_TUNNEL_UP)
				continue;
			const struct fp_nexthop *hop =
				&fp_nexthops_at(arena, fp_tunnel_nexthops(word))->hop[0];
			for (int i = 2; i < 6; i++)
				assert(hop->destination_mac[i] == hop->destination_mac[1]);
			assert(fp_header_at(arena, fp_tunnel_header(word))->bytes[8] >= 64);
		}
		const struct fp_location *location = fp_location_at(arena, 1);
		assert(location != NULL);
		const struct fp_location_half *half = fp_location_now(location);
		assert(half->node == half->mac[5] && (half->node == 50 || half->node == 51));
		fp_arena_reader_quiescent(arena, 0);
	}
	fp_arena_reader_offline(arena, 0);
	fp_arena_reader_unregister(arena, 0);
	return NULL;
}

static void *
dump_on(void *p)
{
	struct world *w = p;
	static struct fp_dump_location rows[64];
	static struct fp_dump_ingress ingresses[128];
	assert(fp_arena_reader_register(w->arena, 1) == 0);
	fp_arena_reader_offline(w->arena, 1);
	while (!__atomic_load_n(&stop_readers, __ATOMIC_RELAXED)) {
		uint32_t cursor = 0;
		while (cursor != FP_DUMP_END)
			fp_dump_locations(w->arena, 1, &cursor, 0, rows, 64);
		for (cursor = 0; cursor != FP_DUMP_END;)
			fp_dump_ingresses(w->arena, 1, &cursor, 0, ingresses, 128);
	}
	fp_arena_reader_unregister(w->arena, 1);
	return NULL;
}

static void
test_readers_always_find_whole_records(void)
{
	struct world w = world_new(NULL, 4096);
	pthread_t reader, dumper;
	stop_readers = 0;
	assert(pthread_create(&reader, NULL, read_on, &w) == 0);
	assert(pthread_create(&dumper, NULL, dump_on, &w) == 0);
	uint32_t waited = 0, moved = 0;
	for (uint32_t n = 0; n < 20000 || moved < 100 || !__atomic_load_n(&reader_found, __ATOMIC_RELAXED);
	     n++) {
		int rc[] = {location_set(&w, 300, 50 + n % 2, n), tunnel_set(&w, 50, (uint8_t)(64 + n % 7)),
			    nexthop_set(&w, 50 + n % 2, (uint8_t)n),
			    locator_set(&w, (uint8_t)(n % 64),
					n / 64 % 3 ? FP_RECORD_INGRESS_SET : FP_RECORD_INGRESS_REMOVE)};
		for (int i = 0; i < 3; i++)
			assert(rc[i] == 0 || rc[i] == -EAGAIN);
		waited += rc[0] == -EAGAIN;
		moved += rc[0] == 0;
		if (n % 16 == 0)
			fp_installer_tick(w.in, NOW_NS);
	}
	__atomic_store_n(&stop_readers, 1, __ATOMIC_RELAXED);
	pthread_join(reader, NULL);
	pthread_join(dumper, NULL);
	printf("%u moves, %u waited for a grace period\n", moved, waited);
	world_close(&w);
}

// ---- hostile bytes ---------------------------------------------------------------------------

static void
test_random_records_are_refused_without_harm(void)
{
	struct world w = world_new(NULL, 4096);
	uint64_t x = 88172645463325252ull;
	for (int n = 0; n < 200000; n++) {
		struct fp_record r;
		for (size_t i = 0; i < sizeof(r) / 8; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			memcpy((uint8_t *)&r + 8 * i, &x, 8);
		}
		r.head.type = (uint16_t)(32 + r.head.type % 21);
		r.head.version = FP_RECORD_VERSION;
		if (n % 2)
			r.head.vni = RED;
		if (n % 3 == 0) // small numbers get further
			for (size_t i = 0; i < sizeof(r.body); i++)
				r.body[i] = r.body[i] % 5 ? 0 : r.body[i] & 3;
		fp_installer_foresee(w.in, &r, 1);
		fp_installer_apply(w.in, (uint8_t)(n % 18), &r, NOW_NS);
		if (n % 1000 == 0)
			fp_installer_tick(w.in, NOW_NS);
	}
	assert(refused > 100000);
	world_close(&w);
}

static void
test_a_record_that_nobody_knows_makes_nobody_prepare_anew(void)
{
	struct world w = world_new(NULL, 64);
	struct fp_record r = {0};
	const uint32_t before = fp_arena_generation(w.arena);
	for (uint16_t type = 100; type < 200; type++)
		assert(apply(&w, &r, type, RED, 0) == -EINVAL);
	assert(fp_arena_generation(w.arena) == before);
	assert(tunnel_set(&w, 50, 70) == 0 && fp_arena_generation(w.arena) != before);
	world_close(&w);
}

// What one client has begun is not ended by the one that takes its place.
static void
test_a_client_that_is_replaced_leaves_nothing_begun(void)
{
	struct world w = world_new(NULL, 64);
	struct fp_record_packet span = {.target_id = 100, .kind = FP_LOCATION_LOCAL, .frame_bytes = 100};
	const struct fp_record_head head = {
		.type = FP_RECORD_PACKET_OUT, .version = FP_RECORD_VERSION, .vni = RED};
	for (int replaced = 0; replaced < 2; replaced++) {
		span.head = head;
		span.head.flags = FP_RECORD_FIRST;
		span.span = 0;
		assert(fp_installer_apply(w.in, 0, (const struct fp_record *)&span, NOW_NS) == 0);
		if (replaced)
			fp_installer_leave(w.in, 0);
		span.head.flags = FP_RECORD_LAST;
		span.span = 1;
		assert(fp_installer_apply(w.in, 0, (const struct fp_record *)&span, NOW_NS) ==
		       (replaced ? -EINVAL : 0));
	}
	struct fp_record_tunnel_group group = {
		.object_id = 7, .tunnel = {50}, .weight = {1}, .count = 1, .mode = FP_SET_ENTROPY};
	group.head = (struct fp_record_head){
		.type = FP_RECORD_TUNNEL_GROUP_SET, .version = FP_RECORD_VERSION, .flags = FP_RECORD_FIRST};
	assert(fp_installer_apply(w.in, 0, (const struct fp_record *)&group, NOW_NS) == 0);
	fp_installer_leave(w.in, 0);
	group.head.flags = FP_RECORD_LAST;
	assert(fp_installer_apply(w.in, 0, (const struct fp_record *)&group, NOW_NS) == -EINVAL);
	world_close(&w);
}

// An estimate of more than 17 TB, at 4 KB a unit, is no small one.
static void
test_estimates_do_not_begin_anew(void)
{
	struct world w = world_new(NULL, 64);
	assert(flow_install(&w, 0x0a000002, 1) == 0);
	const struct fp_flow_key key = key_of(&w, 0x0a000002);
	struct fp_flow_side *side = fp_flow_side_at(w.arena, fp_flow_find(w.arena, &key));
	side->packets_sampled = side->kbytes_sampled = UINT32_MAX;
	side->packets_sampled++;
	side->kbytes_sampled++;
	struct fp_dump_flow rows[64];
	uint32_t cursor = 0, n = 0;
	assert(fp_arena_reader_register(w.arena, 0) == 0);
	while (n == 0 && cursor != FP_DUMP_END)
		n = fp_dump_flows(w.arena, 0, &cursor, 0, rows, 64);
	fp_arena_reader_unregister(w.arena, 0);
	assert(n == 1 && rows[0].packets == 1ull << 38 && rows[0].bytes == 1ull << 44);
	world_close(&w);
}

// ---- revocation ------------------------------------------------------------------------------

// A data plane that ends after keeping a change and before its pass must not forward for it when it is back.
static void
test_revocation_is_finished_after_a_restart(void)
{
	char path[] = "/tmp/fp-install-XXXXXX";
	int fd = mkstemp(path);
	assert(fd >= 0);
	remove(path);
	struct world w = world_new(path, 4096);
	assert(flow_install(&w, 0x0a000002, 1) == 0 && flow_install(&w, 0x0a000102, 1) == 0);
	struct fp_record_change r = {.kind = FP_CHANGE_TIGHTEN,
				     .incarnation = 1,
				     .scope = {.destination_bits = 96 + 24, .port_high = 0xffff}};
	memcpy(r.scope.destination + 12, (uint8_t[]){10, 0, 0, 0}, 4);
	r.head = (struct fp_record_head){
		.type = FP_RECORD_CHANGE, .version = FP_RECORD_VERSION, .vni = RED, .revision = 5};
	assert(fp_installer_apply(w.in, 0, (const struct fp_record *)&r, NOW_NS) ==
	       0); // no LAST: nothing taken out yet
	struct fp_flow_key closed = key_of(&w, 0x0a000002), open = key_of(&w, 0x0a000102);
	assert(fp_flow_find(w.arena, &closed) != 0);
	world_close(&w);

	w = world_open(path, 4096);
	assert(fp_arena_adoption(w.arena)->how == FP_ARENA_ADOPTED);
	assert(fp_flow_find(w.arena, &closed) == 0);
	assert(fp_flow_find(w.arena, &open) != 0);
	assert(flow_install(&w, 0x0a000002, 4) == -ESTALE);
	assert(flow_install(&w, 0x0a000002, 5) == 0);
	world_close(&w);
	remove(path);
}

static uint64_t
now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void
test_a_revocation_spares_what_it_does_not_cover(uint32_t flows)
{
	struct world w = world_new(NULL, flows * 5 / 4);
	for (uint32_t i = 0; i < flows; i++)
		while (flow_install(&w, 0x0a000000 + i, 1) == -EAGAIN)
			fp_installer_tick(w.in, NOW_NS);
	struct fp_flow_stats stats;
	fp_flow_stats(w.arena, &stats);
	uint32_t before = stats.resident;
	uint64_t began = now_ns();
	assert(change(&w, FP_CHANGE_TIGHTEN, 0x0a000000, 24, 5) == 0);
	uint64_t took = now_ns() - began;
	while (fp_installer_due(w.in))
		fp_installer_tick(w.in, NOW_NS);
	fp_flow_stats(w.arena, &stats);
	assert(before - stats.resident <= 256 && before - stats.resident > 200);
	printf("a revocation among %u flows: %.3f ms\n", before, (double)took / 1e6);
	world_close(&w);
}

int
main(int argc, char **argv)
{
	test_random_records_are_refused_without_harm();
	test_a_record_that_nobody_knows_makes_nobody_prepare_anew();
	test_a_client_that_is_replaced_leaves_nothing_begun();
	test_estimates_do_not_begin_anew();
	test_revocation_is_finished_after_a_restart();
	test_a_revocation_spares_what_it_does_not_cover(argc > 1 ? (uint32_t)atoi(argv[1]) : 20000);
	test_readers_always_find_whole_records();
	printf("%lu released, %lu refused\n", (unsigned long)released, (unsigned long)refused);
	return 0;
}
