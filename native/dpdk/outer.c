// SPDX-License-Identifier: Apache-2.0
//
// See outer.h. What is wrong with a tunnel is found here, once, and stands in `fault`.
#include "outer.h"

// Where things stand in a header slot of VXLAN over IPv4.
enum { SLOT_TOS = 1, SLOT_TTL = 8 };

static uint32_t outer_fill(struct fp_thread *t, struct outer *outer, fp_tunnel_word word);

void
outer_make(struct fp_thread *t, struct outer *outer, uint32_t tunnel, uint32_t hop)
{
	fp_tunnel_word word = 0;

	if (likely(tunnel != 0 && tunnel < t->view.tunnels))
		word = __atomic_load_n(&t->view.tunnel[tunnel], __ATOMIC_ACQUIRE);
	*outer = (struct outer){
		.generation = t->generation, .tunnel = tunnel, .hops = 1, .hop = (uint8_t)hop};
	outer->fault = (uint16_t)outer_fill(t, outer, word);
	if (outer->fault == 0 && outer->hops == 1)
		outer->usual = outer_name(t, tunnel);
}

static uint32_t
outer_fill(struct fp_thread *t, struct outer *outer, fp_tunnel_word word)
{
	uint32_t header_index = fp_tunnel_header(word), group_index = fp_tunnel_nexthops(word);
	const struct fp_nexthop_group *group;
	const struct fp_header *header;
	const struct fp_nexthop *hop;
	uint8_t *at;

	switch (fp_tunnel_state(word)) {
	case FP_TUNNEL_UP:
		break;
	case FP_TUNNEL_UNRESOLVED:
		return FP_DROP_tunnel_unresolved;
	case FP_TUNNEL_DOWN:
		return FP_DROP_tunnel_down;
	default:
		return FP_DROP_location_gone;
	}
	if (header_index == 0 || header_index >= t->view.headers)
		return FP_DROP_location_gone;
	if (group_index == 0 || group_index >= t->view.nexthop_groups)
		return FP_DROP_tunnel_unresolved;
	header = &t->view.header[header_index];
	group = &t->view.nexthops[group_index];
	if (header->len_bytes != VXLAN_IPV4_BYTES)
		return FP_DROP_not_supported;
	if (group->count == 0 || group->count > FP_NEXTHOPS_MAX)
		return FP_DROP_tunnel_unresolved;
	hop = &group->hop[outer->hop % group->count];
	if (!tx_possible(t, hop->port))
		return FP_DROP_tunnel_unresolved;
	outer->hops = group->count;
	outer->batch = &t->tx[hop->port];
	outer->inner_mtu_bytes =
		(uint16_t)(fp_tunnel_mtu(word) > VXLAN_IPV4_BYTES + ETHERNET_BYTES
				   ? fp_tunnel_mtu(word) - VXLAN_IPV4_BYTES - ETHERNET_BYTES
				   : 0);
	outer->checksum_base = header->checksum_base;
	outer->tos = header->bytes[SLOT_TOS];
	outer->tos_own = header->dscp_copy ? 0 : header->bytes[SLOT_TOS] & (uint8_t)~ECN_MASK;
	outer->tos_from_inner = header->dscp_copy ? 0xff : ECN_MASK;
	outer->ttl = header->bytes[SLOT_TTL];
	outer->len_bytes =
		(uint16_t)(ETHERNET_BYTES + (hop->vlan ? VLAN_BYTES : 0) + VXLAN_IPV4_BYTES);
	outer->way = tx_way(0, outer->tunnel, outer->len_bytes);
	at = outer->bytes + OUTER_ROOM - outer->len_bytes;
	memcpy(at, hop->destination_mac, 12); // and source_mac, which follows
	at += 12;
	if (hop->vlan) {
		store16_be(at, ETHERTYPE_VLAN);
		store16_be(at + 2, hop->vlan & 0xfff);
		at += VLAN_BYTES;
	}
	store16_be(at, ETHERTYPE_IPV4);
	memcpy(at + 2, header->bytes, VXLAN_IPV4_BYTES);
	return 0;
}

// The first that is up, or one of those that are up, by weight. None up: the first one, whose state
// says why.
uint32_t
outer_choose(const struct fp_thread *t, uint32_t set, uint32_t entropy)
{
	const struct fp_tunnel_set *s;
	uint32_t up = 0, total = 0, pick, i, tunnel;

	if (set == 0 || set >= t->view.tunnel_sets)
		return 0;
	s = &t->view.tunnel_set[set];
	if (s->count == 0 || s->count > FP_SET_MEMBERS_MAX)
		return 0;
	for (i = 0; i < s->count; i++) {
		tunnel = s->tunnel[i];
		if (tunnel == 0 || tunnel >= t->view.tunnels ||
		    fp_tunnel_state(__atomic_load_n(&t->view.tunnel[tunnel], __ATOMIC_ACQUIRE)) !=
			    FP_TUNNEL_UP)
			continue;
		if (s->mode == FP_SET_FIRST)
			return tunnel;
		up |= 1u << i;
		total += s->weight[i];
	}
	if (total == 0)
		return s->tunnel[up ? __builtin_ctz(up) : 0];
	// The upper bits, which say nothing of the lower ones that choose a next hop (outer_of).
	pick = (uint32_t)((uint64_t)entropy * total >> 32);
	for (i = 0; i < s->count; i++) {
		if (!(up & 1u << i))
			continue;
		if (pick < s->weight[i])
			break;
		pick -= s->weight[i];
	}
	return s->tunnel[i];
}
