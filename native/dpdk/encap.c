// SPDX-License-Identifier: Apache-2.0
//
// Into a tunnel: location -> tunnel -> header and next hop. The header slot is copied and patched:
// lengths, IPv4 checksum, DSCP, ECN, TTL, UDP source port, VNI. docs/architecture.md, "Acting", has
// the order of the checks.
#include "entropy.h"
#include "thread.h"

// Where things stand in a header slot of VXLAN over IPv4.
enum {
	OUTER_TOS = 1,
	OUTER_TOTAL = 2,
	OUTER_TTL = 8,
	OUTER_CHECKSUM = 10,
	OUTER_PORT = 20,
	OUTER_UDP_LENGTH = 24,
	OUTER_VNI = 32
};
#define ENTROPY_PORT_BASE 49152
#define ENTROPY_PORT_MASK 0x3fff

// A tunnel, followed to its end.
struct way {
	const struct fp_header *header;
	const struct fp_nexthop *hop;
	uint32_t tunnel;
	uint16_t mtu_bytes;
};

static uint32_t way_find(struct fp_thread *t, const struct fp_location_half *half, uint32_t entropy,
			 struct way *way);
static uint32_t set_choose(struct fp_thread *t, uint32_t set, uint32_t entropy);
static uint32_t outer_put(struct fp_thread *t, struct rte_mbuf *mbuf, const struct way *way,
			  uint32_t wire_id, uint32_t entropy, uint32_t ttl, bool is_ip);

void
encapsulate(struct fp_thread *t, struct packet *p, uint32_t vnet,
	    const struct fp_location_half *half, fp_action_word word, enum tx_kind kind)
{
	const uint8_t *frame = rte_pktmbuf_mtod(p->mbuf, const uint8_t *);
	bool transit = kind == TX_FORWARDED || kind == TX_RELAYED;
	uint32_t entropy = entropy_of(&t->secret, p, frame);
	uint32_t ttl = 255, inner_mtu, inner_bytes, rc;
	struct way way;

	if (kind == TX_RELAYED &&
	    unlikely(half->node == (uint32_t)t->view.ingress[p->key.ingress].node_id)) {
		drop_packet(t, p, FP_DROP_relay_loop);
		return;
	}
	rc = way_find(t, half, entropy, &way);
	if (unlikely(rc != 0)) {
		give_up(t, p, kind, rc);
		return;
	}
	if (transit) {
		inner_mtu = way.mtu_bytes > way.header->len_bytes + ETHERNET_BYTES
				    ? way.mtu_bytes - way.header->len_bytes - ETHERNET_BYTES
				    : 0;
		if (unlikely(p->length > inner_mtu)) {
			too_big(t, p, word, inner_mtu);
			return;
		}
		if (kind == TX_RELAYED) {
			if (unlikely(p->outer_ttl <= 1)) {
				drop_packet(t, p, FP_DROP_relay_hops);
				return;
			}
			ttl = p->outer_ttl - 1u;
		}
		rewrite_inner(t, p, vnet, half);
	}
	inner_bytes = p->mbuf->data_len;
	if (unlikely(outer_put(t, p->mbuf, &way, half->wire_id, entropy, ttl,
			       p->flags & PACKET_IP) != 0)) {
		give_up(t, p, kind, FP_DROP_no_buffer);
		return;
	}
	tx_put(t, way.hop->port, p->mbuf, kind, p->vnet, way.tunnel, inner_bytes);
}

// A frame of housekeeping's. The object is compared after the word has been read: a new tunnel's
// word is published after its object.
void
encapsulate_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct outgoing *out)
{
	struct fp_location_half half = {
		.kind = FP_LOCATION_TUNNEL, .target = out->target, .wire_id = out->wire_id};
	uint32_t inner_bytes = mbuf->data_len, rc;
	struct way way;

	rc = way_find(t, &half, 0, &way);
	if (rc == 0 && __atomic_load_n(&t->view.tunnel_info[out->target].object_id,
				       __ATOMIC_RELAXED) != out->object)
		rc = FP_DROP_location_gone;
	if (rc == 0 && outer_put(t, mbuf, &way, out->wire_id, 0, 255, false) != 0)
		rc = FP_DROP_no_buffer;
	if (rc != 0) {
		rte_pktmbuf_free(mbuf);
		return;
	}
	tx_put(t, way.hop->port, mbuf, TX_OWN, 0, way.tunnel, inner_bytes);
}

// What changes in the inner frame on its way to a location, whatever carries it there.
void
rewrite_inner(struct fp_thread *t, struct packet *p, uint32_t vnet,
	      const struct fp_location_half *half)
{
	uint8_t *frame = rte_pktmbuf_mtod(p->mbuf, uint8_t *);
	const struct fp_vnet *destination_vnet;
	uint8_t *ip = frame + ETHERNET_BYTES;
	uint16_t old;

	if (likely(load_mac(half->mac) != 0))
		memcpy(frame, half->mac, FP_MAC_BYTES);
	if (!(p->flags & PACKET_ROUTED))
		return;
	destination_vnet = vnet_at(t, vnet);
	if (likely(destination_vnet != NULL))
		memcpy(frame + 6, destination_vnet->gateway_mac, FP_MAC_BYTES);
	old = load16(ip + 8);
	ip[8]--;
	store16(ip + 10, checksum_update(load16(ip + 10), old, load16(ip + 8)));
}

static uint32_t
way_find(struct fp_thread *t, const struct fp_location_half *half, uint32_t entropy,
	 struct way *way)
{
	const struct fp_nexthop_group *group;
	uint32_t header, nexthops;
	fp_tunnel_word word;

	way->tunnel = likely(half->kind == FP_LOCATION_TUNNEL)
			      ? half->target
			      : set_choose(t, half->target, entropy);
	if (unlikely(way->tunnel == 0 || way->tunnel >= t->view.tunnels))
		return FP_DROP_location_gone;
	word = __atomic_load_n(&t->view.tunnel[way->tunnel], __ATOMIC_ACQUIRE);
	if (unlikely(fp_tunnel_state(word) != FP_TUNNEL_UP)) {
		if (fp_tunnel_state(word) == FP_TUNNEL_UNRESOLVED)
			return FP_DROP_tunnel_unresolved;
		return fp_tunnel_state(word) == FP_TUNNEL_DOWN ? FP_DROP_tunnel_down
							       : FP_DROP_location_gone;
	}
	header = fp_tunnel_header(word);
	nexthops = fp_tunnel_nexthops(word);
	if (unlikely(header == 0 || header >= t->view.headers))
		return FP_DROP_location_gone;
	if (unlikely(nexthops == 0 || nexthops >= t->view.nexthop_groups))
		return FP_DROP_tunnel_unresolved;
	way->header = &t->view.header[header];
	group = &t->view.nexthops[nexthops];
	if (unlikely(way->header->len_bytes != VXLAN_IPV4_BYTES))
		return FP_DROP_not_supported;
	if (unlikely(group->count == 0 || group->count > FP_NEXTHOPS_MAX))
		return FP_DROP_tunnel_unresolved;
	way->hop = likely(group->count == 1) ? &group->hop[0]
					     : &group->hop[(entropy >> 16) % group->count];
	if (unlikely(!tx_possible(t, way->hop->port)))
		return FP_DROP_tunnel_unresolved;
	way->mtu_bytes = fp_tunnel_mtu(word);
	return 0;
}

// A tunnel of a set: the first that is up, or one of those that are up, by weight. None up: the
// first one, whose state says why.
static uint32_t
set_choose(struct fp_thread *t, uint32_t set, uint32_t entropy)
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
	pick = (entropy >> 16) % total;
	for (i = 0; i < s->count; i++) {
		if (!(up & 1u << i))
			continue;
		if (pick < s->weight[i])
			break;
		pick -= s->weight[i];
	}
	return s->tunnel[i];
}

// 50 bytes in front (54 with a tag): Ethernet, then the header slot. -ENOBUFS: no headroom.
static uint32_t
outer_put(struct fp_thread *t, struct rte_mbuf *mbuf, const struct way *way, uint32_t wire_id,
	  uint32_t entropy, uint32_t ttl, bool is_ip)
{
	const uint8_t *inner_ip = rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, ETHERNET_BYTES);
	uint32_t inner_bytes = mbuf->data_len, tag_bytes = way->hop->vlan ? VLAN_BYTES : 0;
	const struct fp_header *header = way->header;
	uint8_t tos = header->bytes[OUTER_TOS], old_ttl = header->bytes[OUTER_TTL];
	uint64_t sum = header->checksum_base;
	uint8_t *outer;

	if (is_ip) { // RFC 6040 section 4.1, normal mode
		tos = header->dscp_copy ? inner_ip[1]
					: (uint8_t)((tos & ~ECN_MASK) | (inner_ip[1] & ECN_MASK));
	}
	outer = (uint8_t *)rte_pktmbuf_prepend(
		mbuf, (uint16_t)(ETHERNET_BYTES + tag_bytes + VXLAN_IPV4_BYTES));
	if (unlikely(outer == NULL))
		return 1;
	memcpy(outer, way->hop->destination_mac, 12); // and source_mac, which follows
	outer += 12;
	if (unlikely(tag_bytes != 0)) {
		store16_be(outer, ETHERTYPE_VLAN);
		store16_be(outer + 2, way->hop->vlan & 0xfff);
		outer += VLAN_BYTES;
	}
	store16_be(outer, ETHERTYPE_IPV4);
	outer += 2;
	memcpy(outer, header->bytes, VXLAN_IPV4_BYTES);
	outer[OUTER_TOS] = tos;
	store16_be(outer + OUTER_TOTAL, (uint16_t)(VXLAN_IPV4_BYTES + inner_bytes));
	sum += load16(outer + OUTER_TOTAL) + rte_cpu_to_be_16(tos);
	if (unlikely(ttl < old_ttl)) {
		outer[OUTER_TTL] = (uint8_t)ttl;
		sum += (uint16_t)~rte_cpu_to_be_16((uint16_t)(old_ttl << 8));
		sum += rte_cpu_to_be_16((uint16_t)(ttl << 8));
	}
	store16(outer + OUTER_CHECKSUM, (uint16_t)~checksum_fold(sum));
	store16_be(outer + OUTER_PORT,
		   (uint16_t)(ENTROPY_PORT_BASE + (entropy & ENTROPY_PORT_MASK)));
	store16_be(outer + OUTER_UDP_LENGTH,
		   (uint16_t)(VXLAN_IPV4_BYTES - IPV4_BYTES + inner_bytes));
	store32(outer + OUTER_VNI, rte_cpu_to_be_32(wire_id << 8));
	return 0;
}
