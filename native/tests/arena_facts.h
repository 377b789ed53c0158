// SPDX-License-Identifier: Apache-2.0
//
// What an arena says, as facts by the names that clients use: (kind, name, value). Two arenas that hold the
// same at other indexes have the same facts.
#pragma once

#include "arena_fixture.h"

#include "../core/install_internal.h"

#define FACTS_MAX 2048

enum kind {
	VNET,
	CHANGE,
	ATTACHMENT,
	LOCATOR,
	UDP_PORT,
	PEERING,
	TUNNEL,
	TUNNEL_SET,
	LOCATION,
	FLOW,
	FLOW_LIFE
};
static const char *const kind_names[] = {"vnet",     "change",  "attachment", "locator",
					 "udp port", "peering", "tunnel",     "tunnel set",
					 "location", "flow",    "flow life"};

struct fact {
	enum kind kind;
	uint64_t name, value; // value: hashed, but for a flow's life: the second at which it ends
};

struct facts {
	uint32_t count;
	struct fact fact[FACTS_MAX];
};

static const struct fp_secret fixed = {{11, 22}};

static void
fact_add(struct facts *facts, enum kind kind, uint64_t name, const void *value, uint32_t len_bytes)
{
	assert(facts->count < FACTS_MAX);
	facts->fact[facts->count++] = (struct fact){kind, name, fp_hash_bytes(&fixed, value, len_bytes)};
}

static const struct fact *
fact_find(const struct facts *facts, enum kind kind, uint64_t name)
{
	for (uint32_t i = 0; i < facts->count; i++)
		if (facts->fact[i].kind == kind && facts->fact[i].name == name)
			return &facts->fact[i];
	return NULL;
}

// Settings are stored one by one, so each byte is a fact of its own; counts and cursors are none.
static void
vnet_facts(struct facts *facts, const struct fp_arena *a, uint32_t index)
{
	const struct fp_vnet *vnet = &a->view.vnet[index];
	const uint8_t *bytes = (const uint8_t *)vnet;

	for (uint32_t at = 0; at < offsetof(struct fp_vnet, changes); at++) {
		// What is counted, and counts passes: opening is one.
		if ((at >= offsetof(struct fp_vnet, flows) && at <= offsetof(struct fp_vnet, closing)) ||
		    (at >= offsetof(struct fp_vnet, closings) && at < offsetof(struct fp_vnet, flags)))
			continue;
		fact_add(facts, VNET, vnet->object_id << 16 | at, &bytes[at], 1);
	}
	for (uint32_t i = 0; i < FP_CHANGES_KEPT; i++)
		if (vnet->changes[i].revision)
			fact_add(facts, CHANGE, vnet->object_id << 32 | vnet->changes[i].revision,
				 &vnet->changes[i], sizeof(vnet->changes[i]));
}

static void
ingress_facts(struct facts *facts, const struct fp_arena *a, uint32_t index)
{
	const struct fp_ingress *ingress = &a->view.ingress[index];
	const uint64_t value[4] = {ingress->vni, ingress->port, ingress->vlan, ingress->mtu_bytes};

	if (ingress->kind != FP_INGRESS_ATTACHMENT)
		return;
	assert(fp_ingress_by_vlan(a, ingress->port, ingress->vlan) == index);
	fact_add(facts, ATTACHMENT, ingress->object_id, value, sizeof(value));
}

static void
locator_facts(struct facts *facts, const struct fp_arena *a)
{
	for (uint32_t i = 0; i <= a->locator_mask; i++) {
		const struct fp_locator_slot *slot = &a->locators[i];
		if (slot->ingress == 0)
			continue;
		const struct fp_ingress *ingress = &a->view.ingress[slot->ingress];
		const uint64_t value[2] = {ingress->vni, ingress->object_id};
		assert(fp_ingress_by_locator(a, &slot->key) == slot->ingress);
		assert(fp_index_live(&a->pool[FP_POOL_INGRESS], slot->ingress));
		fact_add(facts, LOCATOR, fp_hash_bytes(&fixed, &slot->key, sizeof(slot->key)), value,
			 sizeof(value));
	}
	for (uint32_t port = 0; port < 65536; port++)
		if (a->udp_ports[port])
			fact_add(facts, UDP_PORT, port, &a->udp_ports[port], 1);
	for (uint32_t i = 0; i <= a->peering_mask; i++)
		if (a->peerings[i])
			fact_add(facts, PEERING, a->peerings[i], "", 0);
}

static void
tunnel_facts(struct facts *facts, const struct fp_arena *a, uint32_t index)
{
	static const struct fp_nexthop_group none;
	const fp_tunnel_word word = fp_tunnel_at(a, index);
	const uint32_t group = fp_tunnel_nexthops(word);
	struct {
		struct fp_header header;
		struct fp_nexthop_group nexthops;
		uint64_t mtu_bytes, state;
	} value = {*fp_header_at(a, fp_tunnel_header(word)), group ? *fp_nexthops_at(a, group) : none,
		   fp_tunnel_mtu(word), fp_tunnel_state(word)};

	fact_add(facts, TUNNEL, a->view.tunnel_info[index].object_id, &value, sizeof(value));
}

static void
tunnel_set_facts(struct facts *facts, const struct fp_arena *a, uint32_t index)
{
	const struct fp_tunnel_set *set = &a->view.tunnel_set[index];
	uint64_t value[2 * FP_SET_MEMBERS_MAX + 1] = {set->mode};

	for (uint8_t i = 0; i < set->count; i++) {
		value[2 * i + 1] = a->view.tunnel_info[set->tunnel[i]].object_id;
		value[2 * i + 2] = set->weight[i];
	}
	fact_add(facts, TUNNEL_SET, set->object_id, value, sizeof(value));
}

static uint64_t
target_object(const struct fp_arena *a, const struct fp_location_half *half)
{
	if (half->kind == FP_LOCATION_LOCAL)
		return a->view.ingress[half->target].object_id;
	if (half->kind == FP_LOCATION_TUNNEL)
		return a->view.tunnel_info[half->target].object_id;
	return half->kind == FP_LOCATION_SET ? a->view.tunnel_set[half->target].object_id : 0;
}

static void
location_facts(struct facts *facts, const struct fp_arena *a, uint32_t index)
{
	const struct fp_location *location = &a->view.location[index];
	struct fp_location_half half = *fp_location_now(location);
	const uint64_t target = target_object(a, &half);
	uint8_t value[sizeof(half) + sizeof(target)];

	assert(target != 0);
	half.target = 0;
	memcpy(value, &half, sizeof(half));
	memcpy(value + sizeof(half), &target, sizeof(target));
	fact_add(facts, LOCATION, location->object_id << 32 | location->vni_way, value, sizeof(value));
}

static uint64_t
location_object(const struct fp_arena *a, uint32_t location)
{
	return location ? a->view.location[location].object_id : 0;
}

// A small table's flows of what died are taken out before the next record is applied, and at adoption at once.
static bool
flow_leads_somewhere(const struct fp_arena *a, const struct fp_flow_entry *entry)
{
	const struct fp_index_pool *locations = &a->pool[FP_POOL_LOCATION];
	const uint32_t source = fp_action_source(entry->action),
		       destination = fp_action_destination(entry->action);

	if (!fp_index_live(&a->pool[FP_POOL_INGRESS], entry->key.ingress))
		return false;
	if (fp_action_of(entry->action) == FP_ACTION_DROP)
		return true;
	if ((source && !fp_index_live(locations, source)) ||
	    (destination && !fp_index_live(locations, destination)))
		return false;
	const uint32_t from = a->view.ingress[entry->key.ingress].vnet;
	const uint32_t to = destination ? a->view.location[destination].vnet : from;
	return from == to || fp_vnets_peered(a, from, to);
}

static void
flow_fact(void *context, uint32_t index, struct fp_flow_entry *entry, struct fp_flow_side *)
{
	struct {
		struct facts *facts;
		struct fp_arena *a;
		bool whole;
	} *walk = context;
	const struct fp_arena *a = walk->a;
	const bool refusal = fp_action_of(entry->action) == FP_ACTION_DROP;
	const uint64_t value[3] = {
		entry->action >> 48,
		refusal ? 0 : location_object(a, fp_action_source(entry->action)),
		refusal ? fp_action_destination(entry->action)
			: location_object(a, fp_action_destination(entry->action)),
	};
	// The index of an ingress is part of the key; its object says whether it is still the same.
	struct fp_flow_key key = entry->key;
	key.ingress = (uint32_t)a->view.ingress[key.ingress].object_id;
	const uint64_t name = fp_hash_bytes(&fixed, &key, sizeof(key));

	if (!flow_leads_somewhere(a, entry)) {
		assert(!walk->whole);
		return;
	}
	assert(fp_flow_find(a, &entry->key) == index);
	fact_add(walk->facts, FLOW, name, value, sizeof(value));
	fact_add(walk->facts, FLOW_LIFE, name, "", 0);
	walk->facts->fact[walk->facts->count - 1].value = entry->expire_at_s;
}

// whole: nothing waits to be closed, as after adoption.
static inline void
facts_gather(struct facts *facts, struct fp_arena *a, bool whole)
{
	struct {
		struct facts *facts;
		struct fp_arena *a;
		bool whole;
	} walk = {facts, a, whole};
	uint32_t cursor = 0;

	facts->count = 0;
	for (uint32_t i = 1; i < a->view.vnets; i++)
		if (fp_index_live(&a->pool[FP_POOL_VNET], i))
			vnet_facts(facts, a, i);
	for (uint32_t i = 1; i < a->view.ingresses; i++)
		if (fp_index_live(&a->pool[FP_POOL_INGRESS], i))
			ingress_facts(facts, a, i);
	locator_facts(facts, a);
	for (uint32_t i = 1; i < a->view.tunnels; i++)
		if (fp_index_live(&a->pool[FP_POOL_TUNNEL], i))
			tunnel_facts(facts, a, i);
	for (uint32_t i = 1; i < a->view.tunnel_sets; i++)
		if (fp_index_live(&a->pool[FP_POOL_TUNNEL_SET], i))
			tunnel_set_facts(facts, a, i);
	for (uint32_t i = 1; i < a->view.locations; i++)
		if (fp_index_live(&a->pool[FP_POOL_LOCATION], i))
			location_facts(facts, a, i);
	fp_flow_walk(a, &cursor, UINT32_MAX, flow_fact, &walk);
}
