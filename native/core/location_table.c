// SPDX-License-Identifier: Apache-2.0
//
// Locations. A move fills the idle half and flips the selector. The idle half may still be read by a thread
// that took it before the last flip, so it is written only when a grace period has passed since then.
//
// Only the half that is selected holds its target (adoption counts likewise).
#include "install_internal.h"

#include <rte_rcu_qsbr.h>

// A V-net may have so many locations for each one that is free: alone it gets four fifths of the table, and
// however many V-nets want all of it, there is room left for the next.
#define SHARE_OF_FREE 4
#define SWEEP_NS 100 // one that is looked at
#define DROP_NS 1000
#define COLLECT_DROPS 32  // in one tick
#define UNUSED_S 300      // a location that no flow names is forgotten after this,
#define UNUSED_SHORT_S 10 // or after this when the table is three quarters full

static int target_find(const struct fp_installer *in, uint32_t vnet, const struct fp_record_location *record,
		       uint32_t *target);
static int set_leads_home(const struct fp_installer *in, uint32_t vnet, uint32_t index, uint32_t wire_id);
static int location_add(struct fp_installer *in, uint32_t vnet, const struct fp_record_location *record,
			const struct fp_location_half *half, uint32_t *added);
static int location_move(struct fp_installer *in, uint32_t index, const struct fp_location_half *half);
static bool location_settled(struct fp_installer *in, uint32_t index);
static void location_drop(struct fp_installer *in, uint32_t index);
static uint32_t *target_list(struct fp_installer *in, const struct fp_location_half *half);
static void target_hold(struct fp_installer *in, uint32_t index, const struct fp_location_half *half);
static void target_leave(struct fp_installer *in, uint32_t index, const struct fp_location_half *half);
static void target_drop(struct fp_installer *in, const struct fp_location_half *half);

static inline const struct fp_location_half *
half_now(const struct fp_installer *in, uint32_t index)
{
	const struct fp_location *location = &in->arena->view.location[index];
	return &location->half[location->selector & 1];
}

void
fp_locations_open(struct fp_installer *in)
{
	for (uint32_t i = 1; i < in->arena->view.locations; i++) {
		const struct fp_location *location = &in->arena->view.location[i];
		if (!fp_index_live(&in->arena->pool[FP_POOL_LOCATION], i))
			continue;
		fp_id_map_put(&in->locations, location->object_id, location->vni_way, i);
		in->vnet[location->vnet].locations++;
		in->location_high = i;
		in->location_seen_s[i] = in->arena->now_s;
		fp_chain_add(&in->location_chain, &in->vnet[location->vnet].location_first, i);
		uint32_t *list = target_list(in, half_now(in, i));
		if (list)
			fp_chain_add(&in->target_chain, list, i);
	}
}

uint32_t
fp_location_by_id(const struct fp_installer *in, uint64_t object_id, uint32_t vni, uint8_t way)
{
	return fp_id_map_find(&in->locations, object_id, vni << 8 | way);
}

void
fp_location_foresee(const struct fp_installer *in, uint64_t object_id, uint32_t vni, uint8_t way)
{
	fp_id_map_foresee(&in->locations, object_id, vni << 8 | way);
}

int
fp_location_leads_home(const struct fp_installer *in, uint32_t index)
{
	const struct fp_location *location = &in->arena->view.location[index];
	const struct fp_location_half *half = half_now(in, index);
	if (half->kind == FP_LOCATION_LOCAL || half->wire_id == location->vni_way >> 8)
		return 0; // nobody else's
	return half->kind == FP_LOCATION_SET
		       ? set_leads_home(in, location->vnet, half->target, half->wire_id)
		       : fp_leads_home(in, location->vnet, half->target, half->wire_id, 0);
}

int
fp_location_set(struct fp_installer *in, const struct fp_record_location *record)
{
	uint32_t vnet = fp_vnet_by_vni(in, record->head.vni);
	if (vnet == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (record->object_id == 0 || record->way > 15 || record->mac[0] & 1 || record->wire_id > FP_VNI_MAX)
		return FP_REFUSED_MALFORMED;
	uint32_t index = fp_location_by_id(in, record->object_id, record->head.vni, record->way);
	if (index == 0 && record->head.flags & FP_RECORD_IF_PRESENT)
		return 0;
	struct fp_location_half half = {
		.node = (uint32_t)record->node_id,
		.wire_id = record->wire_id,
		.kind = record->kind,
	};
	memcpy(half.mac, record->mac, sizeof(half.mac));
	int rc = target_find(in, vnet, record, &half.target);
	if (rc != 0)
		return rc;
	if (index && in->location_era[index] == in->vnet[vnet].era &&
	    record->head.revision < in->location_revision[index])
		return FP_REFUSED_LATE;
	if (index == 0) {
		rc = location_add(in, vnet, record, &half, &index);
	} else if (memcmp(half_now(in, index), &half, sizeof(half)) != 0) {
		rc = location_move(in, index, &half);
	}
	if (rc != 0)
		return rc;
	in->location_revision[index] = record->head.revision;
	in->location_era[index] = in->vnet[vnet].era;
	in->location_snapshot[index] = in->vnet[vnet].snapshot_number;
	in->location_seen_s[index] = in->now_s;
	return 0;
}

int
fp_location_remove(struct fp_installer *in, const struct fp_record_location *record)
{
	uint32_t index = fp_location_by_id(in, record->object_id, record->head.vni, record->way);
	if (fp_vnet_by_vni(in, record->head.vni) == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (record->head.vni > FP_VNI_MAX || index == 0)
		return FP_REFUSED_UNKNOWN_OBJECT;
	location_drop(in, index);
	return 0;
}

int
fp_locations_sweep(struct fp_installer *in, uint32_t vnet, bool all)
{
	const struct fp_index_pool *pool = &in->arena->pool[FP_POOL_LOCATION];
	struct fp_vnet_state *state = &in->vnet[vnet];
	if (state->swept & FP_SWEPT_LOCATIONS)
		return 0;
	if (all)
		state->location_at = state->location_first;
	while (state->location_at) {
		const uint32_t i = state->location_at;
		if (in->left_ns == 0)
			return -EINPROGRESS;
		fp_spend(in, SWEEP_NS);
		state->location_at = in->location_chain.next[i];
		// What flows name stays until they have been asked again.
		if (all ||
		    (in->location_snapshot[i] != state->snapshot_number && fp_index_references(pool, i) == 0))
			location_drop(in, i);
	}
	state->swept |= FP_SWEPT_LOCATIONS;
	return 0;
}

int
fp_locations_leave(struct fp_installer *in, uint32_t ingress)
{
	while (in->ingress_locations[ingress]) {
		if (in->left_ns == 0)
			return -EINPROGRESS;
		location_drop(in, in->ingress_locations[ingress]);
	}
	return 0;
}

int
fp_locations_look(struct fp_installer *in, struct fp_set_turn *turn, uint32_t client)
{
	while (turn->at) {
		const uint32_t i = turn->at;
		if (in->left_ns == 0)
			return -EINPROGRESS;
		fp_spend(in, SWEEP_NS);
		if (in->workers && client < FP_CLIENT_WORKERS &&
		    (in->arena->view.location[i].vni_way >> 8) % in->workers != client)
			return FP_REFUSED_OTHER_CLIENT;
		const int rc = set_leads_home(in, in->arena->view.location[i].vnet, turn->to,
					      half_now(in, i)->wire_id);
		if (rc != 0)
			return rc;
		turn->at = in->target_chain.next[i];
	}
	return 0;
}

int
fp_locations_retarget(struct fp_installer *in, uint32_t old_set, uint32_t new_set)
{
	while (in->set_locations[old_set]) {
		const uint32_t i = in->set_locations[old_set];
		if (in->left_ns == 0)
			return -EINPROGRESS;
		fp_spend(in, SWEEP_NS);
		struct fp_location_half half = *half_now(in, i);
		half.target = new_set;
		const int rc = location_move(in, i, &half);
		if (rc != 0)
			return rc;
	}
	return 0;
}

void
fp_locations_collect(struct fp_installer *in, uint32_t count)
{
	struct fp_index_pool *pool = &in->arena->pool[FP_POOL_LOCATION];
	uint32_t unused_s = pool->live > pool->capacity / 4 * 3 ? UNUSED_SHORT_S : UNUSED_S;
	for (uint32_t drops = COLLECT_DROPS; count && drops; count--) {
		if (in->collect_location > in->location_high)
			in->collect_location = 1;
		uint32_t i = in->collect_location++;
		if (!fp_index_live(pool, i))
			continue;
		if (fp_index_references(pool, i))
			in->location_seen_s[i] = in->now_s;
		else if (in->now_s - in->location_seen_s[i] > unused_s)
			location_drop(in, i), drops--;
	}
}

static int
target_find(const struct fp_installer *in, uint32_t vnet, const struct fp_record_location *record,
	    uint32_t *target)
{
	switch (record->kind) {
	case FP_LOCATION_LOCAL:
		*target = fp_attachment_by_id(in, record->target_id);
		if (*target && in->arena->view.ingress[*target].vnet != vnet)
			return FP_REFUSED_OTHER_VNET;
		break;
	case FP_LOCATION_TUNNEL:
		*target = fp_tunnel_by_id(in, record->target_id);
		break;
	case FP_LOCATION_SET:
		*target = fp_tunnel_set_by_id(in, record->target_id);
		break;
	default:
		return FP_REFUSED_MALFORMED;
	}
	if (*target == 0)
		return FP_REFUSED_UNKNOWN_OBJECT;
	if (record->kind == FP_LOCATION_TUNNEL)
		return fp_leads_home(in, vnet, *target, record->wire_id, record->node_id);
	if (record->kind != FP_LOCATION_SET)
		return 0;
	int rc = set_leads_home(in, vnet, *target, record->wire_id);
	// The set may be about to be replaced, and those that led there before looked at already.
	for (uint32_t turns = in->set_turns; turns && rc == 0; turns &= turns - 1) {
		const uint32_t client = (uint32_t)__builtin_ctz(turns);
		const struct fp_set_turn *turn = &in->set_turn[client];
		if (turn->from == *target && client != in->client)
			return -EAGAIN; // an adopted one: is it another worker's alone?
		if (turn->from == *target)
			rc = set_leads_home(in, vnet, turn->to, record->wire_id);
	}
	return rc;
}

// A member may lead by another node of the V-net.
static int
set_leads_home(const struct fp_installer *in, uint32_t vnet, uint32_t index, uint32_t wire_id)
{
	const struct fp_tunnel_set *set = &in->arena->view.tunnel_set[index];
	for (uint8_t i = 0; i < set->count; i++) {
		int rc = fp_leads_home(in, vnet, set->tunnel[i], wire_id, 0);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
location_add(struct fp_installer *in, uint32_t vnet, const struct fp_record_location *record,
	     const struct fp_location_half *half, uint32_t *added)
{
	const struct fp_index_pool *pool = &in->arena->pool[FP_POOL_LOCATION];
	uint32_t index, free = pool->capacity - pool->live - pool->dead;
	if (free && in->vnet[vnet].locations >= (uint64_t)free * SHARE_OF_FREE)
		return FP_REFUSED_QUOTA;
	int rc = fp_take(in, FP_POOL_LOCATION, &index);
	if (rc != 0)
		return rc;
	in->vnet[vnet].locations++;
	struct fp_location *place = &in->arena->view.location[index];
	const struct fp_location location = {
		.object_id = record->object_id,
		.vni_way = record->head.vni << 8 | record->way,
		.vnet = (uint16_t)vnet,
		.half = {*half},
	};
	fp_store(&place->state, (uint8_t)FP_LOCATION_FREE);
	// All but the member that publishes it, which others may be looking at.
	fp_store_bytes(place, &location, offsetof(struct fp_location, state));
	fp_store_bytes(place->half, location.half, sizeof(location.half));
	target_hold(in, index, half);
	fp_chain_add(&in->location_chain, &in->vnet[vnet].location_first, index);
	fp_store(&place->state, (uint8_t)FP_LOCATION_LIVE);
	fp_id_map_put(&in->locations, location.object_id, location.vni_way, index);
	in->location_token[index] = 0;
	if (index > in->location_high)
		in->location_high = index;
	*added = index;
	return 0;
}

static int
location_move(struct fp_installer *in, uint32_t index, const struct fp_location_half *half)
{
	if (!location_settled(in, index))
		return -EAGAIN;
	struct fp_location *location = &in->arena->view.location[index];
	uint8_t idle = location->selector ^ 1;
	const struct fp_location_half before = *half_now(in, index);
	fp_store_bytes(&location->half[idle], half, sizeof(*half));
	target_leave(in, index, &before);
	target_hold(in, index, half);
	fp_store(&location->selector, idle);
	target_drop(in, &before);
	in->location_token[index] = rte_rcu_qsbr_start(in->arena->qsbr);
	return 0;
}

// Has every reader left the half that is idle now?
static bool
location_settled(struct fp_installer *in, uint32_t index)
{
	uint64_t token = in->location_token[index];
	if (token && rte_rcu_qsbr_check(in->arena->qsbr, token, false) != 1)
		return false;
	in->location_token[index] = 0;
	return true;
}

static void
location_drop(struct fp_installer *in, uint32_t index)
{
	struct fp_index_pool *pool = &in->arena->pool[FP_POOL_LOCATION];
	struct fp_location *location = &in->arena->view.location[index];
	fp_store(&location->state, (uint8_t)FP_LOCATION_DYING);
	fp_id_map_remove(&in->locations, location->object_id, location->vni_way);
	target_leave(in, index, half_now(in, index));
	target_drop(in, half_now(in, index));
	if (fp_index_references(pool, index))
		fp_close_dead(in->arena);
	struct fp_vnet_state *state = &in->vnet[location->vnet];
	if (state->location_at == index)
		state->location_at = in->location_chain.next[index];
	fp_chain_remove(&in->location_chain, &state->location_first, index);
	state->locations--;
	fp_spend(in, DROP_NS);
	fp_index_retire(pool, index);
}

// Locations that lead to the same attachment or set; NULL: to a tunnel, whose locations nobody looks for.
static uint32_t *
target_list(struct fp_installer *in, const struct fp_location_half *half)
{
	if (half->kind == FP_LOCATION_LOCAL)
		return &in->ingress_locations[half->target];
	return half->kind == FP_LOCATION_SET ? &in->set_locations[half->target] : NULL;
}

static void
target_leave(struct fp_installer *in, uint32_t index, const struct fp_location_half *half)
{
	uint32_t *list = target_list(in, half);
	for (uint32_t turns = in->set_turns; turns; turns &= turns - 1) {
		struct fp_set_turn *turn = &in->set_turn[__builtin_ctz(turns)];
		if (turn->at == index)
			turn->at = in->target_chain.next[index];
	}
	if (list)
		fp_chain_remove(&in->target_chain, list, index);
}

static void
target_hold(struct fp_installer *in, uint32_t index, const struct fp_location_half *half)
{
	uint32_t *list = target_list(in, half);
	if (list)
		fp_chain_add(&in->target_chain, list, index);
	if (half->kind == FP_LOCATION_LOCAL)
		fp_index_hold(&in->arena->pool[FP_POOL_INGRESS], half->target);
	else if (half->kind == FP_LOCATION_TUNNEL)
		fp_tunnel_hold(in, half->target);
	else if (half->kind == FP_LOCATION_SET)
		fp_index_hold(&in->arena->pool[FP_POOL_TUNNEL_SET], half->target);
}

static void
target_drop(struct fp_installer *in, const struct fp_location_half *half)
{
	if (half->kind == FP_LOCATION_LOCAL)
		fp_index_drop(&in->arena->pool[FP_POOL_INGRESS], half->target);
	else if (half->kind == FP_LOCATION_TUNNEL)
		fp_tunnel_drop(in, half->target);
	else if (half->kind == FP_LOCATION_SET)
		fp_index_drop(&in->arena->pool[FP_POOL_TUNNEL_SET], half->target);
}
