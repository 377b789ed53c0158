// SPDX-License-Identifier: Apache-2.0
//
// Into a tunnel: location -> set -> tunnel -> outer header and next hop. The outer header is copied
// and patched: lengths, IPv4 checksum, DSCP, ECN, TTL, UDP source port, VNI. docs/architecture.md,
// "Acting", has the order of the checks. Inlined into the loop that acts; what is not usual goes by
// leave.c.
#pragma once

#include "egress.h"
#include "entropy.h"
#include "thread.h"

// Where things stand in an outer IPv4 header, and in UDP and VXLAN behind it.
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

// In front of a frame of inner_bytes, whose headroom was checked. tos is the outer one.
static inline void
outer_put(struct rte_mbuf *mbuf, uint8_t *inner, const struct egress *egress, uint32_t inner_bytes,
	  uint32_t wire_id, uint32_t entropy, uint32_t tos, uint32_t ttl)
{
	uint8_t *ip = inner - VXLAN_IPV4_BYTES;
	uint16_t total = be16((uint16_t)(VXLAN_IPV4_BYTES + inner_bytes));
	uint32_t sum = egress->checksum_base + (tos << 8) + total, added = egress->added_bytes;

	memcpy(inner - EGRESS_ROOM, egress->bytes, EGRESS_ROOM);
	ip[OUTER_TOS] = (uint8_t)tos;
	store16(ip + OUTER_TOTAL, total);
	if (unlikely(ttl < egress->ttl)) {
		ip[OUTER_TTL] = (uint8_t)ttl;
		sum += (uint16_t)~egress->ttl;
		sum += ttl;
	}
	sum += sum << 16 | sum >> 16; // folds: what a rotated copy adds is the carry
	store16(ip + OUTER_CHECKSUM, (uint16_t)(~sum >> 16));
	store16_be(ip + OUTER_PORT, (uint16_t)(ENTROPY_PORT_BASE | (entropy & ENTROPY_PORT_MASK)));
	store16_be(ip + OUTER_UDP_LENGTH, (uint16_t)(VXLAN_IPV4_BYTES - IPV4_BYTES + inner_bytes));
	store32(ip + OUTER_VNI, be32(wire_id << 8));
	frame_push(mbuf, added);
}

// RFC 6040 section 4.1, normal mode.
static inline uint32_t
outer_tos(const struct egress *egress, const uint8_t *inner)
{
	return egress->tos_own | (inner[ETHERNET_BYTES + 1] & egress->tos_from_inner);
}

// What changes in the inner frame on its way to a location, whatever carries it there. With a tag
// its first 12 bytes move in front of it, by as many bytes as `tag_bytes` says.
static inline __attribute__((always_inline)) void
rewrite_inner(struct fp_thread *t, uint32_t flags, uint8_t *frame, const struct fp_location *location,
	      const struct fp_location_half *half, uint32_t tag_bytes)
{
	uint64_t mac = load64(half->mac); // and two bytes more
	uint64_t source = load64(frame + 6);
	const struct fp_vnet *destination_vnet;
	uint8_t *ip = frame + ETHERNET_BYTES, *to = frame - tag_bytes;
	uint32_t sum;

	if (unlikely(mac << 16 == 0))
		mac = load64(frame);
	if (tag_bytes != 0) {
		store32(to + 6, (uint32_t)source);
		store16(to + 10, (uint16_t)(source >> 32));
	}
	store32(to, (uint32_t)mac);
	store16(to + 4, (uint16_t)(mac >> 32));
	if (!(flags & PACKET_ROUTED))
		return;
	destination_vnet = vnet_at(t, location->vnet);
	if (likely(destination_vnet != NULL))
		memcpy(to + 6, destination_vnet->gateway_mac, FP_MAC_BYTES);
	// One less in the TTL is one more in the checksum (RFC 1141), whose 0xffff is written 0
	// (RFC 1624).
	ip[8]--;
	sum = load16(ip + 10) + 1u;
	store16(ip + 10, (uint16_t)(sum + (sum >= 0xffff)));
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
	rewrite_inner(t, flags, frame, location, half, 0);
	outer_put(mbuf, frame, egress, length + ETHERNET_BYTES, half->wire_id, entropy,
		  outer_tos(egress, frame), 255);
	tx_put(t, egress->batch, p, mbuf, egress->way);
	return true;
}
