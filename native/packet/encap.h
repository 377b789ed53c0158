// SPDX-License-Identifier: Apache-2.0
//
// Into a tunnel: location -> set -> tunnel -> outer header and next hop. The outer header is copied and patched: by
// the outer family (lengths, checksum, traffic class, hops) and by the tunnel's kind (id, entropy). What is done is
// in docs/architecture.md, "Acting". Inlined into the loop that acts; what is not usual goes by leave.c.
#pragma once

#include "../wire/tunnel_kind.h"
#include "egress.h"
#include "entropy.h"
#include "l3.h"
#include "tables.h"
#include "tx.h"

// In front of a frame of inner_bytes, whose headroom was checked. traffic_class is the outer one.
static inline void
outer_put(struct rte_mbuf *mbuf, uint8_t *inner, const struct egress *egress, uint32_t inner_bytes,
	  uint32_t wire_id, uint32_t entropy, uint32_t traffic_class, uint32_t ttl)
{
	uint8_t *l4, *ip;

	memcpy(inner - EGRESS_ROOM, egress->bytes, EGRESS_ROOM);
	l4 = tunnel_patch(egress->protocol, inner, inner_bytes, wire_id, entropy);
	ip = l4 - IPV4_BYTES;
	ipv4_outer_patch(ip, egress->checksum_base, traffic_class, (uint32_t)(inner - ip) + inner_bytes, ttl,
			 egress->ttl);
	frame_push(mbuf, egress->added_bytes);
}

// RFC 6040 section 4.1, normal mode.
static inline uint32_t
outer_traffic_class(const struct egress *egress, const struct packet *p, const uint8_t *inner)
{
	return egress->class_own | (l3_traffic_class(p, inner + ETHERNET_BYTES) & egress->class_from_inner);
}

// What changes in the inner frame on its way to a location, whatever carries it there. With a tag
// its first 12 bytes move in front of it, by as many bytes as `tag_bytes` says.
static inline __attribute__((always_inline)) void
rewrite_inner(struct fp_thread *t, const struct packet *p, uint8_t *frame, const struct fp_location *location,
	      const struct fp_location_half *half, uint32_t tag_bytes)
{
	uint64_t mac = load64(half->mac); // and two bytes more
	uint64_t source = load64(frame + 6);
	uint8_t *to = frame - tag_bytes;

	if (unlikely(mac << 16 == 0))
		mac = load64(frame);
	if (tag_bytes != 0) {
		store32(to + 6, (uint32_t)source);
		store16(to + 10, (uint16_t)(source >> 32));
	}
	store32(to, (uint32_t)mac);
	store16(to + 4, (uint16_t)(mac >> 32));
	if (!(p->flags & PACKET_ROUTED))
		return;
	memcpy(to + 6, t->view.vnet[location->vnet].gateway_mac, FP_MAC_BYTES); // has one: act.c
	l3_take_hop(p, frame + ETHERNET_BYTES);
}

// The usual packet, in one go: whole IPv4 with ports that came in by an attachment, into a tunnel
// or a set of tunnels whose headers are prepared. false: nothing has changed, leave.c knows why.
static inline __attribute__((always_inline)) bool
usual_encapsulate(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf,
		  const struct fp_location *location, const struct fp_location_half *half)
{
	const uint32_t flags = p->flags, length = p->length;
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	uint32_t tunnel = half->target, entropy = entropy_of_ports(t, p, frame);
	const struct egress *egress;

	if (unlikely(half->kind != FP_LOCATION_TUNNEL)) {
		if (unlikely(half->kind != FP_LOCATION_SET))
			return false;
		tunnel = egress_member(t, tunnel, entropy);
	}
	egress = egress_of_tunnel(t, tunnel, entropy);
	if (unlikely((flags & (PACKET_IP | PACKET_PORTS | PACKET_TUNNELED)) != (PACKET_IP | PACKET_PORTS) ||
		     egress == NULL || length > egress->mtu_bytes || frame_room_bytes(mbuf) < EGRESS_ROOM))
		return false;
	rewrite_inner(t, p, frame, location, half, 0);
	outer_put(mbuf, frame, egress, length + ETHERNET_BYTES, half->wire_id, entropy,
		  outer_traffic_class(egress, p, frame), 255);
	tx_put(t, egress->batch, p, mbuf, egress->tally);
	return true;
}
