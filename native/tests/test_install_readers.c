// SPDX-License-Identifier: Apache-2.0
//
// The installer beside readers (TSan): whatever they follow is whole.
#include "install_fixture.h"

#include <pthread.h>

#include "fp_dump.h"

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

int
main(void)
{
	test_readers_always_find_whole_records();
	return 0;
}
