// SPDX-License-Identifier: Apache-2.0
//
// Into a tunnel: location -> tunnel -> outer header and next hop. The outer header is copied and
// patched: lengths, IPv4 checksum, DSCP, ECN, TTL, UDP source port, VNI. docs/architecture.md,
// "Acting", has the order of the checks. Inlined into the loop that acts.
#pragma once

#include "entropy.h"
#include "outer.h"
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
outer_put(struct rte_mbuf *mbuf, uint8_t *inner, const struct outer *outer, uint32_t inner_bytes,
	  uint32_t wire_id, uint32_t entropy, uint32_t tos, uint32_t ttl)
{
	uint8_t *ip = inner - VXLAN_IPV4_BYTES;
	uint16_t total = be16((uint16_t)(VXLAN_IPV4_BYTES + inner_bytes));
	uint32_t sum = outer->checksum_base + (tos << 8) + total, len_bytes = outer->len_bytes;

	memcpy(inner - OUTER_ROOM, outer->bytes, OUTER_ROOM);
	ip[OUTER_TOS] = (uint8_t)tos;
	store16(ip + OUTER_TOTAL, total);
	if (unlikely(ttl < outer->ttl)) {
		ip[OUTER_TTL] = (uint8_t)ttl;
		sum += (uint16_t)~outer->ttl;
		sum += ttl;
	}
	sum += sum << 16 | sum >> 16; // folds: what a rotated copy adds is the carry
	store16(ip + OUTER_CHECKSUM, (uint16_t)(~sum >> 16));
	store16_be(ip + OUTER_PORT, (uint16_t)(ENTROPY_PORT_BASE | (entropy & ENTROPY_PORT_MASK)));
	store16_be(ip + OUTER_UDP_LENGTH, (uint16_t)(VXLAN_IPV4_BYTES - IPV4_BYTES + inner_bytes));
	store32(ip + OUTER_VNI, be32(wire_id << 8));
	mbuf->data_off = (uint16_t)(mbuf->data_off - len_bytes);
	mbuf->data_len = (uint16_t)(inner_bytes + len_bytes);
	mbuf->pkt_len = inner_bytes + len_bytes;
}

// RFC 6040 section 4.1, normal mode.
static inline uint32_t
outer_tos(const struct outer *outer, const uint8_t *inner)
{
	return outer->tos_own | (inner[ETHERNET_BYTES + 1] & outer->tos_from_inner);
}

// What changes in the inner frame on its way to a location, whatever carries it there.
static inline void
rewrite_inner(struct fp_thread *t, uint32_t flags, uint8_t *frame,
	      const struct fp_location *location, const struct fp_location_half *half)
{
	uint64_t mac = load64(half->mac); // and two bytes more
	const struct fp_vnet *destination_vnet;
	uint8_t *ip = frame + ETHERNET_BYTES;
	uint32_t sum;

	if (likely(mac << 16 != 0)) {
		store32(frame, (uint32_t)mac);
		store16(frame + 4, (uint16_t)(mac >> 32));
	}
	if (!(flags & PACKET_ROUTED))
		return;
	destination_vnet = vnet_at(t, location->vnet);
	if (likely(destination_vnet != NULL))
		memcpy(frame + 6, destination_vnet->gateway_mac, FP_MAC_BYTES);
	// One less in the TTL is one more in the checksum (RFC 1141), whose 0xffff is written 0
	// (RFC 1624).
	ip[8]--;
	sum = load16(ip + 10) + 1u;
	store16(ip + 10, (uint16_t)(sum + (sum >= 0xffff)));
}

// The usual packet into the usual tunnel, in one go: whole IPv4 with ports that came in by an
// attachment, one next hop, everything up. false: nothing has changed, encapsulate() knows why.
static inline __attribute__((always_inline)) bool
usual_encapsulate(struct fp_thread *t, struct packet *p, const struct fp_location *location,
		  const struct fp_location_half *half)
{
	const uint32_t flags = p->flags, length = p->length;
	const struct outer *outer = outer_slot(t, half->target);
	struct rte_mbuf *mbuf = p->mbuf;
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	if (unlikely((flags & (PACKET_IP | PACKET_PORTS | PACKET_TUNNELED)) !=
			     (PACKET_IP | PACKET_PORTS) ||
		     outer->usual != outer_name(t, half->target) ||
		     length > outer->inner_mtu_bytes || mbuf->data_off < OUTER_ROOM))
		return false;
	rewrite_inner(t, flags, frame, location, half);
	outer_put(mbuf, frame, outer, length + ETHERNET_BYTES, half->wire_id,
		  entropy_of_ports(t, p, frame), outer_tos(outer, frame), 255);
	tx_put(t, outer->batch, p, mbuf, outer->way);
	return true;
}

static inline void
encapsulate(struct fp_thread *t, struct packet *p, const struct fp_location *location,
	    const struct fp_location_half *half, fp_action_word word, enum tx_kind kind)
{
	uint8_t *frame = rte_pktmbuf_mtod(p->mbuf, uint8_t *);
	uint32_t entropy = entropy_of(t, p, frame), ttl = 255;
	const struct outer *outer;

	if (kind == TX_RELAYED && half->node == (uint32_t)t->view.ingress[p->key.ingress].node_id) {
		drop_packet(t, p, FP_DROP_relay_loop);
		return;
	}
	outer = outer_of(t,
			 half->kind == FP_LOCATION_TUNNEL ? half->target
							  : outer_choose(t, half->target, entropy),
			 entropy);
	if (outer->fault != 0) {
		give_up(t, p, kind, outer->fault);
		return;
	}
	if (kind == TX_FORWARDED || kind == TX_RELAYED) { // not one of our own
		if (p->length > outer->inner_mtu_bytes) {
			too_big(t, p, word, outer->inner_mtu_bytes);
			return;
		}
		if (kind == TX_RELAYED) {
			if (p->outer_ttl <= 1) {
				drop_packet(t, p, FP_DROP_relay_hops);
				return;
			}
			ttl = p->outer_ttl - 1u;
		}
		rewrite_inner(t, p->flags, frame, location, half);
	}
	if (p->mbuf->data_off < OUTER_ROOM) {
		give_up(t, p, kind, FP_DROP_no_buffer);
		return;
	}
	outer_put(p->mbuf, frame, outer, p->mbuf->data_len, half->wire_id, entropy,
		  p->flags & PACKET_IP ? outer_tos(outer, frame) : outer->tos, ttl);
	tx_put(t, outer->batch, p, p->mbuf, tx_way(kind, 0, 0) | outer->way);
}
