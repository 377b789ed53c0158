// SPDX-License-Identifier: Apache-2.0
//
// One V-net with an attachment, two tunnels, and a location behind one of them.
#pragma once

#include "installer_fixture.h"

#define RED 7001

static inline int
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

static inline int
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

// What comes from the far end of a tunnel is red's, so red may send there.
static inline int
way_back(struct world *w, uint64_t tunnel)
{
	struct fp_record_ingress r = {.node_id = tunnel, .udp_port = 4789};
	r.key.wire_id = RED;
	r.key.protocol = FP_PROTOCOL_VXLAN;
	memcpy(r.key.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
	memcpy(r.key.remote + 12, (uint8_t[]){192, 0, 2, (uint8_t)tunnel}, 4);
	return apply(w, &r, FP_RECORD_INGRESS_SET, RED, 0);
}

static inline struct world
world_new(const char *path, uint32_t flows)
{
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	config.flows = flows;
	struct world w = world_open(path, &config, NOW_NS);
	assert(vnet_set(&w, RED, 1, 60) == 0 && attachment_set(&w, RED, 100, 0) == 0);
	assert(tunnel_set(&w, 50, 64) == 0 && tunnel_set(&w, 51, 64) == 0);
	assert(way_back(&w, 50) == 0 && way_back(&w, 51) == 0);
	assert(location_set(&w, 300, 50, 0) == 0);
	return w;
}
