// SPDX-License-Identifier: Apache-2.0
//
// A small arena with live V-nets, attachments and locations, made by hand (not by the installer), and keys
// that are told apart by a number. For tests of the tables.
#pragma once

#include "fixture.h"

#include "../core/arena_internal.h"

static inline struct fp_arena_config
small_config(uint32_t flows)
{
	return (struct fp_arena_config){.flows = flows,
					.locations = 64,
					.tunnels = 4,
					.vnets = 4,
					.ingresses = 8,
					.ports = 2,
					.threads = 4,
					.refusal_share_percent = 10};
}

static inline struct fp_arena *
arena_new(const char *path, const struct fp_arena_config *config)
{
	struct fp_arena *arena;
	const int rc = fp_arena_open(path, config, NOW_NS, &arena);
	if (rc)
		fprintf(stderr, "fp_arena_open(%s): %s\n", path ? path : "anonymous", strerror(-rc));
	assert(rc == 0);
	fp_arena_tick(arena, NOW_NS);
	return arena;
}

static inline uint32_t
vnet_new(struct fp_arena *arena, uint32_t vni, uint32_t quota_flows)
{
	uint32_t index;
	assert(fp_index_take(&arena->pool[FP_POOL_VNET], &index) == 0);
	struct fp_vnet *vnet = &arena->view.vnet[index];
	vnet->vni = vni;
	vnet->object_id = 1000 + vni;
	vnet->quota_flows = quota_flows;
	fp_store(&vnet->flags, (uint8_t)FP_VNET_LIVE);
	return index;
}

static inline uint32_t
attachment_new(struct fp_arena *arena, uint32_t vnet)
{
	uint32_t index;
	assert(fp_index_take(&arena->pool[FP_POOL_INGRESS], &index) == 0);
	struct fp_ingress *ingress = &arena->view.ingress[index];
	ingress->object_id = 2000 + index;
	ingress->vni = arena->view.vnet[vnet].vni;
	ingress->vnet = (uint16_t)vnet;
	ingress->kind = FP_INGRESS_ATTACHMENT;
	ingress->port = 0;
	ingress->vlan = (uint16_t)index;
	fp_store(&ingress->flags, (uint8_t)FP_INGRESS_LIVE);
	return index;
}

static inline uint32_t
location_new(struct fp_arena *arena, uint32_t vnet, uint32_t attachment)
{
	uint32_t index;
	assert(fp_index_take(&arena->pool[FP_POOL_LOCATION], &index) == 0);
	struct fp_location *location = &arena->view.location[index];
	*location = (struct fp_location){.object_id = 3000 + index, .vnet = (uint16_t)vnet};
	location->vni_way = arena->view.vnet[vnet].vni << 8;
	location->half[0].kind = FP_LOCATION_LOCAL;
	location->half[0].target = attachment;
	fp_index_hold(&arena->pool[FP_POOL_INGRESS], attachment);
	fp_store(&location->state, (uint8_t)FP_LOCATION_LIVE);
	return index;
}

// Takes what location_new made out of the table.
static inline void
location_retire(struct fp_arena *arena, uint32_t location)
{
	fp_store(&arena->view.location[location].state, (uint8_t)FP_LOCATION_DYING);
	fp_index_drop(&arena->pool[FP_POOL_INGRESS], arena->view.location[location].half[0].target);
	fp_index_retire(&arena->pool[FP_POOL_LOCATION], location);
}

static inline struct fp_flow_key
key_of(uint32_t ingress, uint32_t number)
{
	struct fp_flow_key key = {.key_class = FP_CLASS_BRIDGED, .ingress = ingress};
	memcpy(key.source + 12, &number, sizeof(number));
	key.destination[15] = 1;
	return key;
}

static inline bool
lookup(const struct fp_arena *arena, const struct fp_flow_key *key, uint32_t now_s, fp_action_word *word)
{
	uint64_t hash;
	uint32_t entry;
	return fp_flow_lookup_bulk(arena, &key, 1, now_s, &hash, word, &entry) == 1;
}
