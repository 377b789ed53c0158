// SPDX-License-Identifier: Apache-2.0
//
// Tunnel sets: 1 to 16 tunnels with a mode. Immutable once published: a change makes another one and turns
// the locations over to it. One that no location leads to is forgotten after a while, and lets go of its tunnels.
//
// A set is its worker's: two that have the same id are two sets. After an adoption it is whose V-nets' locations lead
// there, as it was told.
#include "install_internal.h"

#define MEMBERS_EACH 8 // per record
#define UNUSED_S 900   // a set that no location leads to is forgotten after this, as a tunnel is

static int set_build(const struct fp_installer *in, const struct fp_assembly *assembly,
		     struct fp_tunnel_set *set);
static int set_publish(struct fp_installer *in, const struct fp_tunnel_set *set, uint32_t *index);
static int set_replace(struct fp_installer *in, const struct fp_tunnel_set *set);
static int set_turn(struct fp_installer *in, uint32_t client);
static bool in_turn(const struct fp_installer *in, uint32_t index);
static void set_forget(struct fp_installer *in, uint32_t index);

void
fp_tunnel_sets_open(struct fp_installer *in)
{
	for (uint32_t i = 1; i < in->arena->view.tunnel_sets; i++) {
		if (!fp_index_live(&in->arena->pool[FP_POOL_TUNNEL_SET], i))
			continue;
		in->set_seen_s[i] = in->arena->now_s;
		uint64_t object_id = in->arena->view.tunnel_set[i].object_id;
		in->set_owner[i] = 0;
		uint32_t other = fp_id_map_find(&in->tunnel_sets, object_id, 0);
		if (other == 0) {
			fp_id_map_put(&in->tunnel_sets, object_id, 0, i);
			continue;
		}
		// The last data plane ended between publishing a change and forgetting what it replaces.
		struct fp_set_turn turn = {.from = i, .to = other, .at = in->set_locations[i]};
		int rc;
		while ((rc = fp_locations_look(in, &turn, FP_CLIENT_WORKERS)) == -EINPROGRESS)
			in->left_ns = UINT32_MAX; // nobody waits
		while (rc == 0 && (rc = fp_locations_retarget(in, i, other)) == -EINPROGRESS) {
			in->left_ns = UINT32_MAX;
			rc = 0;
		}
		if (rc == 0)
			set_forget(in, i);
	}
}

void
fp_tunnel_sets_collect(struct fp_installer *in, uint32_t count)
{
	const struct fp_index_pool *pool = &in->arena->pool[FP_POOL_TUNNEL_SET];
	for (; count; count--) {
		if (++in->collect_set >= in->arena->view.tunnel_sets)
			in->collect_set = 1;
		uint32_t i = in->collect_set;
		if (!fp_index_live(pool, i) || in_turn(in, i))
			continue;
		if (fp_index_references(pool, i)) {
			in->set_seen_s[i] = in->now_s;
		} else if (in->now_s - in->set_seen_s[i] > UNUSED_S) {
			fp_id_map_remove(&in->tunnel_sets, in->arena->view.tunnel_set[i].object_id,
					 in->set_owner[i]);
			set_forget(in, i);
		}
	}
}

uint32_t
fp_tunnel_set_by_id(const struct fp_installer *in, uint64_t object_id)
{
	const uint32_t own = fp_id_map_find(&in->tunnel_sets, object_id, in->client + 1u);
	return own ? own : fp_id_map_find(&in->tunnel_sets, object_id, 0);
}

int
fp_tunnel_set_apply(struct fp_installer *in, const struct fp_record_tunnel_group *record)
{
	struct fp_assembly *assembly = &in->assembly[in->client];
	struct fp_tunnel_set set;
	if (record->head.flags & FP_RECORD_FIRST) {
		assembly->group[0] = *record;
		assembly->group[1] = (struct fp_record_tunnel_group){0};
		assembly->group_open = true;
	} else {
		const struct fp_record_tunnel_group *first = &assembly->group[0];
		if (!assembly->group_open || first->object_id != record->object_id ||
		    first->count != record->count || first->mode != record->mode) {
			assembly->group_open = false;
			return FP_REFUSED_MALFORMED;
		}
		assembly->group[1] = *record;
	}
	if (!(record->head.flags & FP_RECORD_LAST))
		return 0;
	int rc = set_build(in, assembly, &set);
	if (rc == 0)
		rc = set_replace(in, &set);
	if (rc != -EAGAIN && rc != -EINPROGRESS)
		assembly->group_open = false;
	return rc;
}

void
fp_tunnel_sets_leave(struct fp_installer *in, uint32_t client)
{
	if (!(in->set_turns & 1u << client) || in->set_turn[client].looked)
		return; // what has begun to move is all moved, by ticks
	in->set_turns &= ~(1u << client);
	set_forget(in, in->set_turn[client].to);
}

void
fp_tunnel_sets_tick(struct fp_installer *in)
{
	const uint32_t left_ns = in->left_ns;
	const uint64_t until_ns = in->until_ns;
	for (uint32_t turns = in->set_turns; turns; turns &= turns - 1) {
		const uint32_t client = (uint32_t)__builtin_ctz(turns);
		in->left_ns = FP_SLICE_NS;
		in->until_ns = 0;
		if (in->set_turn[client].looked)
			(void)set_turn(in, client);
	}
	in->left_ns = left_ns;
	in->until_ns = until_ns;
}

// The set is what the client says of its id from now on.
static int
set_replace(struct fp_installer *in, const struct fp_tunnel_set *set)
{
	struct fp_set_turn *turn = &in->set_turn[in->client];
	if (in->set_turns & 1u << in->client) // else it is of the one who was here before, and done soon
		return memcmp(&in->arena->view.tunnel_set[turn->to], set, sizeof(*set)) == 0
			       ? set_turn(in, in->client)
			       : -EAGAIN;
	const uint32_t old = fp_tunnel_set_by_id(in, set->object_id);
	uint32_t index;
	if (old && in_turn(in, old))
		return -EAGAIN; // an adopted one that another client replaces
	if (old)
		in->set_seen_s[old] = in->now_s;
	if (old && memcmp(&in->arena->view.tunnel_set[old], set, sizeof(*set)) == 0)
		return 0;
	const int rc = set_publish(in, set, &index);
	if (rc != 0)
		return rc;
	*turn = (struct fp_set_turn){.from = old, .to = index, .at = in->set_locations[old]};
	in->set_turns |= 1u << in->client;
	return set_turn(in, in->client);
}

// A refusal comes before anything has moved. From then on whatever comes leads to the new set.
static int
set_turn(struct fp_installer *in, uint32_t client)
{
	struct fp_set_turn *turn = &in->set_turn[client];
	const uint64_t object_id = in->arena->view.tunnel_set[turn->to].object_id;
	int rc = turn->looked ? 0 : fp_locations_look(in, turn, client);
	if (rc == FP_REFUSED_OTHER_CLIENT) { // adopted, and others' locations lead there, too: it stays
		turn->from = 0;
		rc = 0;
	}
	if (rc == 0 && !turn->looked) {
		turn->looked = true;
		if (turn->from)
			fp_id_map_remove(&in->tunnel_sets, object_id, in->set_owner[turn->from]);
		fp_id_map_put(&in->tunnel_sets, object_id, client + 1, turn->to);
	}
	if (rc == 0 && turn->from)
		rc = fp_locations_retarget(in, turn->from, turn->to);
	if (rc < 0)
		return rc;
	in->set_turns &= ~(1u << client);
	if (rc != 0)
		set_forget(in, turn->to);
	else if (turn->from)
		set_forget(in, turn->from);
	return rc;
}

static bool
in_turn(const struct fp_installer *in, uint32_t index)
{
	for (uint32_t turns = in->set_turns; turns; turns &= turns - 1) {
		const struct fp_set_turn *turn = &in->set_turn[__builtin_ctz(turns)];
		if (turn->from == index || turn->to == index)
			return true;
	}
	return false;
}

static int
set_build(const struct fp_installer *in, const struct fp_assembly *assembly, struct fp_tunnel_set *set)
{
	const struct fp_record_tunnel_group *first = &assembly->group[0];
	if (first->object_id == 0 || first->count < 1 || first->count > FP_SET_MEMBERS_MAX ||
	    (first->mode != FP_SET_ENTROPY && first->mode != FP_SET_FIRST))
		return FP_REFUSED_MALFORMED;
	*set = (struct fp_tunnel_set){
		.object_id = first->object_id, .mode = first->mode, .count = first->count};
	for (uint8_t i = 0; i < first->count; i++) {
		const struct fp_record_tunnel_group *part = &assembly->group[i / MEMBERS_EACH];
		set->tunnel[i] = fp_tunnel_by_id(in, part->tunnel[i % MEMBERS_EACH]);
		set->weight[i] = part->weight[i % MEMBERS_EACH];
		if (set->tunnel[i] == 0)
			return FP_REFUSED_UNKNOWN_OBJECT;
		if (set->weight[i] == 0)
			return FP_REFUSED_MALFORMED;
	}
	return 0;
}

static int
set_publish(struct fp_installer *in, const struct fp_tunnel_set *set, uint32_t *index)
{
	int rc = fp_take(in, FP_POOL_TUNNEL_SET, index);
	if (rc != 0)
		return rc;
	in->set_seen_s[*index] = in->now_s;
	in->set_owner[*index] = in->client + 1;
	struct fp_tunnel_set *place = &in->arena->view.tunnel_set[*index];
	struct fp_tunnel_set hidden = *set;
	hidden.object_id = 0;
	fp_store(&place->object_id, (uint64_t)0);
	fp_store_bytes(place, &hidden, sizeof(hidden));
	for (uint8_t i = 0; i < set->count; i++)
		fp_tunnel_hold(in, set->tunnel[i]);
	fp_store(&place->object_id, set->object_id);
	return 0;
}

static void
set_forget(struct fp_installer *in, uint32_t index)
{
	struct fp_tunnel_set *set = &in->arena->view.tunnel_set[index];
	fp_store(&set->object_id, (uint64_t)0);
	for (uint8_t i = 0; i < set->count; i++)
		fp_tunnel_drop(in, set->tunnel[i]);
	fp_index_retire(&in->arena->pool[FP_POOL_TUNNEL_SET], index);
}
