// SPDX-License-Identifier: Apache-2.0
//
// Two V-nets with an attachment and a location each, flows among them, and what forbids some: for the tests of
// closing.
#pragma once

#include "installer_fixture.h"

#include "../core/flow_internal.h"
#include "../core/install_internal.h"

#define RED 7001
#define BLUE 7002
#define REMOVED_A_SLICE (FP_SLICE_NS / FP_REMOVE_NS + 2)

static inline uint16_t
vlan_of(uint32_t vni)
{
	return (uint16_t)(vni - RED + 1);
}

static inline uint64_t
object_of(uint32_t vni)
{
	return vni * 10ull;
}

static inline int
location_set(struct world *w, uint32_t vni, uint64_t object)
{
	struct fp_record_location l = {.object_id = object,
				       .target_id = object_of(vni),
				       .kind = FP_LOCATION_LOCAL,
				       .mac = {2, 0, 0, 0, 0, 9}};
	return apply(w, &l, FP_RECORD_LOCATION_SET, vni, 0);
}

static inline void
vnet_make(struct world *w, uint32_t vni)
{
	assert(vnet_set(w, vni, vni, 60) == 0 && attachment_set(w, vni, object_of(vni), vlan_of(vni)) == 0 &&
	       location_set(w, vni, 300) == 0);
}

static inline struct world
tables_open(const char *path, uint32_t flows)
{
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	config.flows = flows;
	config.vnets = 4;
	return world_open(path, &config, NOW_NS);
}

static inline struct world
world_new(const char *path, uint32_t flows)
{
	struct world w = tables_open(path, flows);
	vnet_make(&w, RED);
	vnet_make(&w, BLUE);
	return w;
}

static inline struct fp_flow_key
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

static inline int
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

static inline void
decide_many(struct world *w, uint32_t vni, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		while (decide(w, vni, i, 80 + i % 2, vni, 1) == -EAGAIN)
			fp_installer_tick(w->in, NOW_NS);
}

static inline int
forbid_port(struct world *w, uint32_t vni, uint16_t port, uint64_t revision)
{
	struct fp_record_change r = {.kind = FP_CHANGE_TIGHTEN,
				     .incarnation = 1,
				     .scope = {.protocol = 6, .port_low = port, .port_high = port}};
	return apply(w, &r, FP_RECORD_CHANGE, vni, revision);
}

static inline bool
finds(const struct world *w, uint32_t vni, uint32_t source, uint16_t port)
{
	const struct fp_flow_key key = key_of(w, vni, source, port);
	return found_at(w, &key, NOW_S);
}

static inline bool
pending(const struct world *w)
{
	return fp_closings_pending(w->arena->view.closings);
}

// Ticks until nothing is to be closed; returns how many flows one tick took out at most.
static inline uint32_t
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
