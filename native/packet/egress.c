// SPDX-License-Identifier: Apache-2.0
//
// See egress.h. What is wrong with a tunnel or an attachment is found here, once, and stands in
// `fault`.
#include "egress.h"
#include "tables.h"
#include "tx.h"
#include "../wire/tunnel_kind.h"

static uint32_t hop_fill(struct fp_thread *t, struct egress *egress, uint32_t tunnel, fp_tunnel_word word,
			 uint32_t hop);
static uint32_t tag_of(uint32_t vlan);

void
egress_make_tunnel(struct fp_thread *t, uint32_t tunnel)
{
	fp_tunnel_word word = 0;
	uint32_t hops = 1;

	if (likely(tunnel != 0 && tunnel < t->view.tunnels))
		word = __atomic_load_n(&t->view.tunnel[tunnel], __ATOMIC_ACQUIRE);
	for (uint32_t hop = 0; hop < hops; hop++) {
		struct egress *egress = egress_slot(t, tunnel, hop);

		*egress = (struct egress){.name = egress_name(t, tunnel), .hops = 1};
		egress->fault = (uint16_t)hop_fill(t, egress, tunnel, word, hop);
		if (egress->fault != 0)
			egress->mtu_bytes = 0;
		hops = egress->hops;
		if (hops == 1)
			egress->alone = egress->name;
	}
}

// Returns what is wrong with it, or 0.
static uint32_t
hop_fill(struct fp_thread *t, struct egress *egress, uint32_t tunnel, fp_tunnel_word word, uint32_t number)
{
	uint32_t header_index = fp_tunnel_header(word), group_index = fp_tunnel_nexthops(word), tag;
	const struct fp_nexthop_group *group;
	uint32_t own_class;
	const struct tunnel_kind *kind;
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
	kind = tunnel_kind(header->protocol);
	if (kind == NULL || header->len_bytes != IPV4_BYTES + kind->bytes ||
	    ETHERNET_BYTES + VLAN_BYTES + header->len_bytes > EGRESS_ROOM)
		return FP_DROP_not_supported;
	if (group->count == 0 || group->count > FP_NEXTHOPS_MAX)
		return FP_DROP_tunnel_unresolved;
	egress->hops = group->count;
	hop = &group->hop[number];
	if (!tx_possible(t, hop->port))
		return FP_DROP_tunnel_unresolved;
	egress->batch = &t->tx[hop->port];
	egress->protocol = header->protocol;
	egress->mtu_bytes = tunnel_inner_mtu_bytes(kind, fp_tunnel_mtu(word));
	own_class = ipv4_traffic_class(header->bytes);
	egress->checksum_base = header->checksum_base;
	egress->class_bare = (uint8_t)own_class;
	egress->class_own = header->dscp_copy ? 0 : (uint8_t)(own_class & ~ECN_MASK);
	egress->class_from_inner = header->dscp_copy ? 0xff : ECN_MASK;
	egress->ttl = (uint8_t)ipv4_hops_left(header->bytes);
	tag = tag_of(hop->vlan);
	egress->added_bytes = (uint16_t)(ETHERNET_BYTES + header->len_bytes + (tag != 0 ? VLAN_BYTES : 0));
	egress->tally = tx_tally(TX_FORWARDED, tunnel, egress->added_bytes);
	at = egress->bytes + EGRESS_ROOM - egress->added_bytes;
	memcpy(at, hop->destination_mac, 12); // and source_mac, which follows
	at += 12;
	if (tag != 0) {
		store32(at, tag);
		at += VLAN_BYTES;
	}
	store16_be(at, ETHERTYPE_IPV4);
	memcpy(at + 2, header->bytes, header->len_bytes);
	return 0;
}

void
egress_make_attachment(struct fp_thread *t, struct egress *egress, uint32_t ingress)
{
	const struct fp_ingress *attachment = ingress_at(t, ingress);

	*egress = (struct egress){.name = egress_name(t, ingress), .hops = 1};
	if (ingress == 0 || attachment == NULL || attachment->kind != FP_INGRESS_ATTACHMENT ||
	    !ingress_live(attachment) || !tx_possible(t, attachment->port)) {
		egress->fault = FP_DROP_location_gone;
		return;
	}
	egress->alone = egress->name;
	egress->batch = &t->tx[attachment->port];
	egress->mtu_bytes = attachment->mtu_bytes != 0 ? attachment->mtu_bytes : UINT16_MAX;
	egress->tag = tag_of(attachment->vlan);
	egress->added_bytes = egress->tag != 0 ? VLAN_BYTES : 0;
	egress->tally = tx_tally(TX_DELIVERED, 0, egress->added_bytes);
}

// The first that is up, or those that are up, by weight. None up: the first one, whose state says
// why.
void
egress_make_set(const struct fp_thread *t, struct egress_set *egress, uint32_t set)
{
	const struct fp_tunnel_set *s = &t->view.tunnel_set[set];
	uint32_t n = 0, tunnel;

	*egress =
		(struct egress_set){.name = egress_name(t, set), .alone = egress_name(t, set), .weights = 1};
	for (uint32_t i = 0; i < FP_SET_MEMBERS_MAX; i++)
		egress->last[i] = INT16_MAX;
	if (set == 0 || set >= t->view.tunnel_sets || s->count == 0 || s->count > FP_SET_MEMBERS_MAX)
		return;
	egress->tunnel[0] = s->tunnel[0];
	for (uint32_t i = 0; i < s->count; i++) {
		tunnel = s->tunnel[i];
		if (tunnel == 0 || tunnel >= t->view.tunnels || s->weight[i] == 0 ||
		    fp_tunnel_state(__atomic_load_n(&t->view.tunnel[tunnel], __ATOMIC_ACQUIRE)) !=
			    FP_TUNNEL_UP)
			continue;
		if (n == 0)
			egress->weights = 0;
		egress->weights += s->mode == FP_SET_FIRST ? 1 : s->weight[i];
		egress->last[n] = (int16_t)(egress->weights - 1);
		egress->tunnel[n++] = tunnel;
		if (s->mode == FP_SET_FIRST)
			break;
	}
	if (n > 1)
		egress->alone = 0;
}

// As it lies in a frame. 0: no tag.
static uint32_t
tag_of(uint32_t vlan)
{
	return vlan != 0 ? (uint32_t)be16(ETHERTYPE_VLAN) | (uint32_t)be16(vlan & 0xfff) << 16 : 0;
}
