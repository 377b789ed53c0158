// SPDX-License-Identifier: Apache-2.0
//
// What stages ask of an inner IP packet, whichever family it is of: the same verbs for each, here told apart by
// packet.l3. A family is a file of what stands where (wire/l3_*.h) and one of what is done seldom (l3_*.c).
#pragma once

#include "../wire/l3_ipv4.h"
#include "thread.h"

#pragma GCC visibility push(hidden)
// From a header to a key, one check after the other: a reason, or 0. mtu_bytes 0: any length will do. believed: a
// gateway of ours has checked what memory does not rest on.
uint32_t ipv4_parse(struct packet *p, struct rte_mbuf *mbuf, const struct fp_vnet *vnet,
		    const struct fp_port *port, uint64_t destination_mac, uint32_t mtu_bytes, bool believed);
// Whether the sender wants to hear that it is too big, and whether it may be told.
bool ipv4_wants_too_big(const uint8_t *ip);
bool ipv4_may_be_told(const struct packet *p, const uint8_t *frame);
// Makes the message of it, in its own buffer, in the V-net's gateway's name. false: no room.
bool ipv4_too_big(const struct fp_vnet *vnet, struct packet *p, struct rte_mbuf *mbuf, uint32_t mtu_bytes);
// RFC 6040 section 4.2: what the outer header saw of congestion goes into the inner one. A reason, or 0.
uint32_t ipv4_join_ecn(uint8_t *ip, uint32_t outer_ecn);

// l4.c: what stands behind an IP header. A reason, or 0.
uint32_t l4_parse(struct packet *p, const uint8_t *l4, uint32_t len);
#pragma GCC visibility pop

// In the functions below: of a packet with PACKET_IP.
#define L3_OF(p, verb, ...)                                                                                  \
	switch ((enum l3_kind)(p)->l3) {                                                                     \
	case L3_IPV4:                                                                                        \
		return ipv4_##verb(__VA_ARGS__);                                                             \
	default:                                                                                             \
		__builtin_unreachable();                                                                     \
	}

static inline void
l3_take_hop(const struct packet *p, uint8_t *ip)
{
	switch ((enum l3_kind)p->l3) {
	case L3_IPV4:
		ipv4_take_hop(ip);
		return;
	default:
		__builtin_unreachable();
	}
}

static inline uint32_t
l3_traffic_class(const struct packet *p, const uint8_t *ip)
{
	L3_OF(p, traffic_class, ip)
}

static inline uint64_t
l3_addresses(const struct packet *p, const uint8_t *ip)
{
	L3_OF(p, addresses, ip)
}

static inline uint32_t
l3_datagram_id(const struct packet *p, const uint8_t *ip)
{
	L3_OF(p, datagram_id, ip)
}

static inline uint32_t
l3_join_ecn(const struct packet *p, uint8_t *ip, uint32_t outer_ecn)
{
	L3_OF(p, join_ecn, ip, outer_ecn)
}

static inline bool
l3_wants_too_big(const struct packet *p, const uint8_t *ip)
{
	L3_OF(p, wants_too_big, ip)
}

static inline bool
l3_may_be_told(const struct packet *p, const uint8_t *frame)
{
	L3_OF(p, may_be_told, p, frame)
}

static inline bool
l3_too_big(const struct fp_vnet *vnet, struct packet *p, struct rte_mbuf *mbuf, uint32_t mtu_bytes)
{
	L3_OF(p, too_big, vnet, p, mbuf, mtu_bytes)
}
