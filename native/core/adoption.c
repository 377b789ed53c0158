// SPDX-License-Identifier: Apache-2.0
//
// Takes over what the last data plane left. It may have ended between any two stores, so nothing is believed
// that is not published (see arena_internal.h) and whole: from V-nets to flows, each table is checked against
// those before it, because each record names only records of earlier tables. What passes goes into the pools
// with its references; what does not is taken out and counted by the check that it failed.
//
// Free lists, ages, quotas and quiescent states are never read from the arena: they are made here. There is
// no reader yet, so that order of stores and grace periods do not matter.
#include "flow_internal.h"

static bool
vnet_sound(const struct fp_arena *arena, uint32_t index)
{
	const struct fp_vnet *vnet = &arena->view.vnet[index];
	return vnet->vni < 1u << 24 && vnet->change_next < FP_CHANGES_KEPT && vnet->object_id;
}

static bool
left_out(const struct fp_arena *arena, uint32_t vni)
{
	for (uint32_t i = 0; i < arena->left_out.suspects; i++)
		if (arena->left_out.vni[i] == vni)
			return true;
	return false;
}

static void
adopt_vnets(struct fp_arena *arena)
{
	for (uint32_t i = 0; i < arena->view.vnets; i++) {
		struct fp_vnet *vnet = &arena->view.vnet[i];

		if (!(vnet->flags & FP_VNET_LIVE))
			continue;
		if (i == 0 || !vnet_sound(arena, i)) {
			fp_store(&vnet->flags, (uint8_t)0);
			arena->adoption.dropped_range++;
			continue;
		}
		if (left_out(arena, vnet->vni)) {
			fp_store(&vnet->flags, (uint8_t)0);
			continue;
		}
		fp_store(&vnet->flows, 0); // counted again
		fp_store(&vnet->drops_resident, 0);
		fp_index_claim(&arena->pool[FP_POOL_VNET], i);
		arena->adoption.vnets++;
	}
}

static bool
ingress_in_range(const struct fp_arena *arena, const struct fp_ingress *ingress)
{
	if (ingress->kind == FP_INGRESS_ATTACHMENT)
		return ingress->object_id && ingress->port < arena->config.ports && ingress->vlan < 4096;
	return ingress->object_id && ingress->kind == FP_INGRESS_NODE;
}

static bool
vnet_is(const struct fp_arena *arena, uint32_t vnet, uint32_t vni)
{
	return fp_index_live(&arena->pool[FP_POOL_VNET], vnet) && arena->view.vnet[vnet].vni == vni;
}

static void
adopt_ingresses(struct fp_arena *arena)
{
	for (uint32_t i = 0; i < arena->view.ingresses; i++) {
		struct fp_ingress *ingress = &arena->view.ingress[i];

		if (!(ingress->flags & FP_INGRESS_LIVE))
			continue;
		const bool in_range = i && ingress_in_range(arena, ingress);
		if (!in_range || !vnet_is(arena, ingress->vnet, ingress->vni)) {
			fp_store(&ingress->flags, (uint8_t)0);
			*(in_range ? &arena->adoption.dropped_vnet : &arena->adoption.dropped_range) += 1;
			continue;
		}
		fp_index_claim(&arena->pool[FP_POOL_INGRESS], i);
		arena->adoption.ingresses++;
	}
}

static bool
header_sound(const struct fp_arena *arena, uint32_t header)
{
	return header && header < arena->view.headers &&
	       !fp_index_live(&arena->pool[FP_POOL_HEADER], header) &&
	       arena->view.header[header].len_bytes <= FP_HEADER_BYTES_MAX;
}

static bool
nexthops_sound(const struct fp_arena *arena, uint32_t group, uint8_t state)
{
	if (group == 0)
		return state == FP_TUNNEL_UNRESOLVED;
	return group < arena->view.nexthop_groups && arena->view.nexthops[group].count >= 1 &&
	       arena->view.nexthops[group].count <= FP_NEXTHOPS_MAX;
}

static bool
tunnel_sound(const struct fp_arena *arena, uint32_t tunnel, fp_tunnel_word word)
{
	const uint8_t state = fp_tunnel_state(word);
	return tunnel && (state == FP_TUNNEL_UP || state == FP_TUNNEL_UNRESOLVED) &&
	       arena->view.tunnel_info[tunnel].object_id && header_sound(arena, fp_tunnel_header(word)) &&
	       nexthops_sound(arena, fp_tunnel_nexthops(word), state);
}

static void
adopt_tunnels(struct fp_arena *arena)
{
	struct fp_index_pool *nexthops = &arena->pool[FP_POOL_NEXTHOPS];

	for (uint32_t i = 0; i < arena->view.tunnels; i++) {
		const fp_tunnel_word word = arena->view.tunnel[i];
		uint32_t group = fp_tunnel_nexthops(word);

		if (!tunnel_sound(arena, i, word)) {
			if (word)
				fp_store(&arena->view.tunnel[i], (fp_tunnel_word)0);
			if (word && fp_tunnel_state(word) != FP_TUNNEL_DYING)
				arena->adoption.dropped_range++;
			continue;
		}
		fp_store(&arena->view.tunnel_info[i].references, 0); // counted again
		fp_index_claim(&arena->pool[FP_POOL_TUNNEL], i);
		fp_index_claim(&arena->pool[FP_POOL_HEADER], fp_tunnel_header(word));
		if (group && fp_index_live(nexthops, group)) {
			// Each tunnel has a group of its own and retires it: of two that name one the second is
			// without, until it is told its next hops again.
			group = 0;
			fp_store(&arena->view.tunnel[i],
				 fp_tunnel_make(fp_tunnel_header(word), 0, fp_tunnel_mtu(word),
						FP_TUNNEL_UNRESOLVED));
			arena->adoption.dropped_twice++;
		}
		if (group)
			fp_index_claim(nexthops, group);
		arena->adoption.tunnels++;
	}
}

static bool
set_sound(const struct fp_arena *arena, uint32_t index)
{
	const struct fp_tunnel_set *set = &arena->view.tunnel_set[index];

	if (index == 0 || set->count < 1 || set->count > FP_SET_MEMBERS_MAX ||
	    (set->mode != FP_SET_ENTROPY && set->mode != FP_SET_FIRST))
		return false;
	for (uint8_t i = 0; i < set->count; i++)
		if (!fp_index_live(&arena->pool[FP_POOL_TUNNEL], set->tunnel[i]))
			return false;
	return true;
}

static void
tunnel_hold(struct fp_arena *arena, uint32_t tunnel)
{
	struct fp_tunnel_info *info = &arena->view.tunnel_info[tunnel];

	fp_index_hold(&arena->pool[FP_POOL_TUNNEL], tunnel);
	fp_store(&info->references, info->references + 1);
}

static void
adopt_tunnel_sets(struct fp_arena *arena)
{
	for (uint32_t i = 0; i < arena->view.tunnel_sets; i++) {
		struct fp_tunnel_set *set = &arena->view.tunnel_set[i];

		if (set->object_id == 0)
			continue;
		if (!set_sound(arena, i)) {
			fp_store(&set->object_id, (uint64_t)0);
			arena->adoption.dropped_tunnel++;
			continue;
		}
		for (uint8_t member = 0; member < set->count; member++)
			tunnel_hold(arena, set->tunnel[member]);
		fp_index_claim(&arena->pool[FP_POOL_TUNNEL_SET], i);
	}
}

static bool
target_sound(const struct fp_arena *arena, const struct fp_location *location,
	     const struct fp_location_half *half)
{
	switch (half->kind) {
	case FP_LOCATION_LOCAL:
		return fp_index_live(&arena->pool[FP_POOL_INGRESS], half->target) &&
		       arena->view.ingress[half->target].kind == FP_INGRESS_ATTACHMENT &&
		       arena->view.ingress[half->target].vnet == location->vnet;
	case FP_LOCATION_TUNNEL:
		return fp_index_live(&arena->pool[FP_POOL_TUNNEL], half->target);
	case FP_LOCATION_SET:
		return fp_index_live(&arena->pool[FP_POOL_TUNNEL_SET], half->target);
	default:
		return half->kind == FP_LOCATION_NONE && half->target == 0;
	}
}

static void
location_claim(struct fp_arena *arena, uint32_t index)
{
	struct fp_location *location = &arena->view.location[index];
	const struct fp_location_half *half = &location->half[location->selector];

	fp_store_zero(&location->half[location->selector ^ 1], sizeof(*half)); // holds nothing
	if (half->kind == FP_LOCATION_LOCAL)
		fp_index_hold(&arena->pool[FP_POOL_INGRESS], half->target);
	if (half->kind == FP_LOCATION_TUNNEL)
		tunnel_hold(arena, half->target);
	if (half->kind == FP_LOCATION_SET)
		fp_index_hold(&arena->pool[FP_POOL_TUNNEL_SET], half->target);
	fp_index_claim(&arena->pool[FP_POOL_LOCATION], index);
	arena->adoption.locations++;
}

static void
adopt_locations(struct fp_arena *arena)
{
	struct fp_adoption_report *report = &arena->adoption;

	for (uint32_t i = 0; i < arena->view.locations; i++) {
		struct fp_location *location = &arena->view.location[i];
		uint32_t *dropped = NULL;

		if (location->state == FP_LOCATION_FREE)
			continue;
		if (i == 0 || location->selector > 1 || location->state > FP_LOCATION_DYING ||
		    !location->object_id)
			dropped = &report->dropped_range;
		else if (!vnet_is(arena, location->vnet, location->vni_way >> 8))
			dropped = &report->dropped_vnet;
		else if (!target_sound(arena, location, &location->half[location->selector]))
			dropped = &report->dropped_tunnel;
		if (!dropped && location->state == FP_LOCATION_LIVE) {
			location_claim(arena, i);
			continue;
		}
		if (dropped && location->state == FP_LOCATION_LIVE)
			*dropped += 1;
		fp_store(&location->state, (uint8_t)FP_LOCATION_FREE);
	}
}

// ---- flows -----------------------------------------------------------------------------------
//
// Two passes, each in the order of its table, since a million cache misses in a row would take most of the
// time: over the buckets, noting where each entry stands, then over the entries. The notes lie in the
// writer's own prev[], which the second pass fills.

static void
slot_clear(struct fp_arena *arena, uint32_t bucket_index, uint32_t slot)
{
	struct fp_flow_bucket *bucket = &arena->view.flow_bucket[bucket_index];

	if (bucket->slot[slot])
		fp_store(&bucket->slot[slot], 0);
}

// Counter of the check that this slot fails, NULL if it passes all that can be told from the bucket.
static uint32_t *
slot_fault(struct fp_arena *arena, const struct fp_flow_bucket *bucket, uint32_t slot)
{
	const struct fp_arena_view *view = &arena->view;
	const uint32_t index = bucket->slot[slot] & view->flow_index_mask;
	const uint32_t signature = bucket->slot[slot] & ~view->flow_index_mask;

	if (index == 0 || index >= view->flows)
		return &arena->adoption.dropped_range;
	if (arena->flow->kind[index])
		return &arena->adoption.dropped_twice;
	for (uint32_t other = 0; other < slot; other++)
		if (bucket->slot[other] && (bucket->slot[other] & ~view->flow_index_mask) == signature &&
		    fp_flow_key_equal(&view->flow_entry[bucket->slot[other] & view->flow_index_mask].key,
				      &view->flow_entry[index].key))
			return &arena->adoption.dropped_twice;
	return NULL;
}

static void
note_bucket(struct fp_arena *arena, uint32_t bucket_index)
{
	struct fp_flow_bucket *bucket = &arena->view.flow_bucket[bucket_index];

	for (uint32_t slot = 0; slot < FP_BUCKET_SLOTS; slot++) {
		const uint32_t index = fp_flow_slot_entry(arena, bucket, slot);
		uint32_t *dropped = bucket->slot[slot] ? slot_fault(arena, bucket, slot) : NULL;

		if (dropped) {
			*dropped += 1;
			slot_clear(arena, bucket_index, slot);
		} else if (index) {
			arena->flow->kind[index] = FP_FLOW_FORWARD; // noted
			arena->flow->prev[index] = bucket_index * FP_BUCKET_SLOTS + slot;
		}
	}
}

static uint32_t *
entry_fault(struct fp_arena *arena, uint32_t index, uint32_t bucket_index, uint32_t slot)
{
	struct fp_adoption_report *report = &arena->adoption;
	const struct fp_flow_entry *entry = &arena->view.flow_entry[index];
	const uint64_t hash = fp_hash_flow(&arena->view.secret, &entry->key);

	if (fp_flow_bucket_of(&arena->view, hash) != bucket_index ||
	    (fp_flow_signature_of(hash, arena->view.flow_index_mask) | index) !=
		    arena->view.flow_bucket[bucket_index].slot[slot])
		return &report->dropped_key;
	switch (fp_flow_check(arena, &entry->key, entry->action)) {
	case FP_FLOW_SOUND:
		return NULL;
	case FP_FLOW_BAD_VNET:
		return &report->dropped_vnet;
	case FP_FLOW_BAD_LOCATION:
		return &report->dropped_location;
	case FP_FLOW_BAD_RANGE:
		break;
	}
	return &report->dropped_range;
}

static void
adopt_entry(struct fp_arena *arena, uint32_t index)
{
	const uint32_t bucket_index = arena->flow->prev[index] / FP_BUCKET_SLOTS;
	const uint32_t slot = arena->flow->prev[index] % FP_BUCKET_SLOTS;
	uint32_t *dropped = entry_fault(arena, index, bucket_index, slot);

	if (dropped) {
		*dropped += 1;
		slot_clear(arena, bucket_index, slot);
		arena->flow->kind[index] = FP_FLOW_NONE;
		return;
	}
	fp_flow_claim(arena, index);
	arena->adoption.flows++;
}

static void
adopt_flows(struct fp_arena *arena)
{
	const struct fp_arena_view *view = &arena->view;

	fp_store_zero(&view->flow_entry[0], sizeof(view->flow_entry[0])); // what free slots lead to
	for (uint32_t i = 0; i < view->flow_buckets; i++)
		note_bucket(arena, i);
	for (uint32_t index = 1; index < view->flows; index++)
		if (arena->flow->kind[index])
			adopt_entry(arena, index);
	for (uint32_t vnet = 1; vnet < view->vnets; vnet++)
		fp_flow_publish_counts(arena, vnet);
}

void
fp_adopt(struct fp_arena *arena)
{
	adopt_vnets(arena);
	adopt_ingresses(arena);
	adopt_tunnels(arena);
	adopt_tunnel_sets(arena);
	adopt_locations(arena);
	adopt_flows(arena);
}
