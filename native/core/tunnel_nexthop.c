// SPDX-License-Identifier: Apache-2.0
//
// The next hops of tunnels: told for a pair of addresses, they are every tunnel's between the two. A group never
// changes once a tunnel's word names it, and each tunnel has one of its own.
#include "tunnel_internal.h"

static uint64_t path_of(const struct fp_installer *in, const uint8_t *local, const uint8_t *remote);
static uint32_t path_first(const struct fp_installer *in, const uint8_t *local, const uint8_t *remote);
static bool group_valid(const struct fp_installer *in, const struct fp_record_nexthop *record);
static int tunnel_rehop(struct fp_installer *in, uint32_t index, const struct fp_nexthop_group *group,
			uint16_t route_mtu);
static void announce_up(struct fp_installer *in, uint32_t index);

int
fp_nexthop_set(struct fp_installer *in, const struct fp_record_nexthop *record)
{
	if (!group_valid(in, record))
		return FP_REFUSED_MALFORMED;
	struct fp_nexthop_group group = {.count = record->count};
	memcpy(group.hop, record->hop, record->count * sizeof(group.hop[0]));
	bool found = false;
	for (uint32_t i = path_first(in, record->local, record->remote); i; i = in->tunnel_chain.next[i]) {
		const struct fp_tunnel_info *info = &in->arena->view.tunnel_info[i];
		if (memcmp(info->local, record->local, sizeof(info->local)) != 0 ||
		    memcmp(info->remote, record->remote, sizeof(info->remote)) != 0)
			continue;
		found = true;
		int rc = tunnel_rehop(in, i, &group, record->mtu_bytes);
		if (rc != 0)
			return rc; // -EAGAIN: those before have it already and are passed over next time
	}
	return found ? 0 : FP_REFUSED_UNKNOWN_OBJECT;
}

int
fp_nexthops_take(struct fp_installer *in, const struct fp_nexthop_group *group, uint32_t *index)
{
	int rc = fp_take(in, FP_POOL_NEXTHOPS, index);
	if (rc == 0)
		fp_store_bytes(&in->arena->view.nexthops[*index], group, sizeof(*group));
	return rc;
}

uint32_t
fp_tunnel_sibling(const struct fp_installer *in, uint32_t index)
{
	const struct fp_tunnel_info *all = in->arena->view.tunnel_info;
	for (uint32_t i = path_first(in, all[index].local, all[index].remote); i;
	     i = in->tunnel_chain.next[i])
		if (i != index && fp_tunnel_nexthops(*fp_tunnel_word_at(in, i)) &&
		    memcmp(all[i].local, all[index].local, sizeof(all[i].local)) == 0 &&
		    memcmp(all[i].remote, all[index].remote, sizeof(all[i].remote)) == 0)
			return i;
	return 0;
}

// Tunnels are listed by the hash of their two addresses; whoever walks a list compares.
static uint64_t
path_of(const struct fp_installer *in, const uint8_t *local, const uint8_t *remote)
{
	uint8_t both[2 * FP_ADDRESS_BYTES];
	memcpy(both, local, FP_ADDRESS_BYTES);
	memcpy(both + FP_ADDRESS_BYTES, remote, FP_ADDRESS_BYTES);
	return fp_hash_bytes(&in->arena->view.secret, both, sizeof(both));
}

static uint32_t
path_first(const struct fp_installer *in, const uint8_t *local, const uint8_t *remote)
{
	return fp_id_map_find(&in->tunnel_paths, path_of(in, local, remote), 0);
}

void
fp_tunnel_path_add(struct fp_installer *in, uint32_t index)
{
	const struct fp_tunnel_info *info = &in->arena->view.tunnel_info[index];
	uint32_t first = path_first(in, info->local, info->remote);
	fp_chain_add(&in->tunnel_chain, &first, index);
	fp_id_map_put(&in->tunnel_paths, path_of(in, info->local, info->remote), 0, first);
}

void
fp_tunnel_path_remove(struct fp_installer *in, uint32_t index)
{
	const struct fp_tunnel_info *info = &in->arena->view.tunnel_info[index];
	const uint64_t path = path_of(in, info->local, info->remote);
	uint32_t first = fp_id_map_find(&in->tunnel_paths, path, 0);
	fp_chain_remove(&in->tunnel_chain, &first, index);
	if (first)
		fp_id_map_put(&in->tunnel_paths, path, 0, first);
	else
		fp_id_map_remove(&in->tunnel_paths, path, 0);
}

static bool
group_valid(const struct fp_installer *in, const struct fp_record_nexthop *record)
{
	if (record->count > FP_NEXTHOPS_MAX || !fp_is_ipv4(record->local) || !fp_is_ipv4(record->remote) ||
	    (record->mtu_bytes && record->mtu_bytes < MTU_BYTES_MIN))
		return false;
	for (uint8_t i = 0; i < record->count; i++) {
		const struct fp_nexthop *hop = &record->hop[i];
		if (hop->port >= in->arena->config.ports || hop->vlan > 4094 || hop->destination_mac[0] & 1 ||
		    hop->source_mac[0] & 1 || fp_bytes_zero(hop->destination_mac, FP_MAC_BYTES))
			return false;
	}
	return true;
}

static int
tunnel_rehop(struct fp_installer *in, uint32_t index, const struct fp_nexthop_group *group,
	     uint16_t route_mtu)
{
	fp_tunnel_word word = *fp_tunnel_word_at(in, index);
	uint32_t old = fp_tunnel_nexthops(word), nexthops = old;
	bool same = group->count == 0
			    ? old == 0
			    : old && memcmp(&in->arena->view.nexthops[old], group, sizeof(*group)) == 0;
	if (same && in->tunnel_route_mtu[index] == route_mtu)
		return 0;
	if (!same) {
		nexthops = 0;
		if (group->count) {
			int rc = fp_nexthops_take(in, group, &nexthops);
			if (rc != 0)
				return rc;
		}
	}
	in->tunnel_route_mtu[index] = route_mtu;
	fp_tunnel_word_store(in, index, fp_tunnel_header(word), nexthops);
	if (old && nexthops != old)
		fp_index_retire(&in->arena->pool[FP_POOL_NEXTHOPS], old);
	if (old == 0 && nexthops)
		announce_up(in, index);
	return 0;
}

// To the workers that name it, which have things to say to those at its other end.
static void
announce_up(struct fp_installer *in, uint32_t index)
{
	for (uint32_t left = in->tunnel_workers[index]; left; left &= left - 1)
		fp_tunnel_announce(in, (uint8_t)__builtin_ctz(left), index, FP_RECORD_TUNNEL_UP, 0);
}
