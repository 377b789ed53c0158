// SPDX-License-Identifier: Apache-2.0
//
// The installer under hostile bytes (ASan, UBSan), and stopped between a revocation and the end of its pass. What each
// record does is tested in Python against a model.
#include "install_fixture.h"

#include <time.h>

#include "fp_dump.h"

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
	assert(said.refused > 100000);
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
	path_make(path);
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

	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	config.flows = 4096;
	w = world_open(path, &config, NOW_NS);
	assert(fp_arena_adoption(w.arena)->how == FP_ARENA_ADOPTED);
	assert(fp_flow_find(w.arena, &closed) == 0);
	assert(fp_flow_find(w.arena, &open) != 0);
	assert(flow_install(&w, 0x0a000002, 4) == -ESTALE);
	assert(flow_install(&w, 0x0a000002, 5) == 0);
	world_close(&w);
	remove(path);
}

static uint64_t
clock_ns(void)
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
	uint64_t began = clock_ns();
	assert(change(&w, FP_CHANGE_TIGHTEN, 0x0a000000, 24, 5) == 0);
	uint64_t took = clock_ns() - began;
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
	printf("%lu released, %lu refused\n", (unsigned long)said.released, (unsigned long)said.refused);
	return 0;
}
