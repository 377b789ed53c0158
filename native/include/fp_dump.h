// SPDX-License-Identifier: Apache-2.0
//
// What stands in the tables, row by row in bounded batches, for whoever wants to see it. Safe beside the writer
// and the poll threads: the caller is a registered reader of the arena and online only within a call, so it
// delays reuse by one batch. A row may mix the moments before and after a change of its record.
//
// One thread per reader number.
//
//	struct fp_dump_flow rows[512];
//	uint32_t cursor = 0;
//	while (cursor != FP_DUMP_END) {
//		uint32_t n = fp_dump_flows(arena, reader, &cursor, 0, rows, 512);   // may be 0 before the end
//		...
//	}
#pragma once

#include "fp_arena.h"

#define FP_DUMP_END UINT32_MAX

struct fp_dump_flow {
	struct fp_flow_key key;
	uint32_t vni;
	fp_action_word action;
	uint64_t revision;
	uint64_t source_object, destination_object; // 0: none
	uint64_t packets, bytes;                    // estimates
	uint32_t tunnel;                            // of the destination location as it stands, 0: none
	uint32_t idle_s;                            // since the last packet
	int32_t expires_in_s;                       // 0 and less: expired
	uint32_t zero;
};

struct fp_dump_location {
	uint64_t object_id;
	uint32_t location, vni;
	uint8_t way;
	struct fp_location_half half;
};

struct fp_dump_tunnel {
	uint32_t tunnel;
	uint16_t mtu_bytes;       // as in force
	uint16_t inner_mtu_bytes; // of inner IP packets
	uint8_t state;            // enum fp_tunnel_state
	const char *protocol;     // its kind's name
	struct fp_tunnel_info info;
	struct fp_nexthop_group nexthops;
};

struct fp_dump_vnet {
	uint32_t vnet, vni, quota_flows, quota_misses_per_s, stale_max_s, flows, drops_resident;
	uint64_t object_id, incarnation, revision, floor, in_force;
	uint8_t gateway_mac[FP_MAC_BYTES], gateway_address[FP_ADDRESS_BYTES], worker;
};

struct fp_dump_ingress {
	uint32_t ingress;
	struct fp_ingress record;
};

// Up to n rows (flows: n at least FP_BUCKET_SLOTS); *cursor is where to go on, FP_DUMP_END after the last. vni 0: all.
uint32_t fp_dump_flows(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
		       struct fp_dump_flow *rows, uint32_t n);
uint32_t fp_dump_locations(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
			   struct fp_dump_location *rows, uint32_t n);
uint32_t fp_dump_tunnels(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor,
			 struct fp_dump_tunnel *rows, uint32_t n);
uint32_t fp_dump_vnets(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor,
		       struct fp_dump_vnet *rows, uint32_t n);
uint32_t fp_dump_ingresses(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
			   struct fp_dump_ingress *rows, uint32_t n);
