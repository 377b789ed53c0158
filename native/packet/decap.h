// SPDX-License-Identifier: Apache-2.0
//
// Out of a tunnel: VXLAN over IPv4 (RFC 7348). The usual tunnel packet comes from a locator that
// was looked up before; all else goes the long way, decap(), where it gets its name. Inlined into
// the loop that parses.
#pragma once

#include "thread.h"
#include "usual.h"

// Locators that packets came from lately, with all that parsing wants to know of them. Good for one
// generation of the tables.
#define LOCATORS_SEEN 8192 // pairs of places: a locator stands in one of two
struct locator_seen {
	uint64_t addresses; // remote, local: as they lie in the outer header
	uint64_t vxlan;     // locator_vxlan()
	uint64_t current;   // generation << 32 | index of the port; 0: never used
	uint16_t udp_port;  // that it was sent to, as it lies in the packet
	uint16_t zero[3];
	struct inside inside;
};
static_assert(sizeof(struct locator_seen) == 64, "locator_seen");

#pragma GCC visibility push(hidden)
// The long way: a reason, 0 (the inner frame is what is left in the buffer) or PARSE_EXCEPTION.
uint32_t decap(struct fp_thread *t, struct parse_context *context, struct packet *p, struct rte_mbuf *mbuf,
	       uint32_t vlan, uint32_t l3, uint8_t *outer_ecn);
// RFC 6040 section 4.2: the two ECN fields become one.
uint32_t decap_ecn(struct rte_mbuf *mbuf, uint8_t outer_ecn);
#pragma GCC visibility pop

// The I flag and the id of a VXLAN header, as they lie in it.
static inline uint64_t
locator_vxlan(const uint8_t *vxlan)
{
	return load64(vxlan) & 0x00ffffff00000008;
}

// The first of its two places.
static inline struct locator_seen *
locator_seen_at(struct fp_thread *t, uint64_t addresses, uint64_t vxlan)
{
	static_assert(LOCATORS_SEEN == 1 << 13);
	// The id lies over the local address, of which there are few.
	return &t->locator_seen[(addresses ^ vxlan) * 0x9e3779b97f4a7c15ull >> 51 & ~1ull];
}

static inline bool
locator_is(const struct locator_seen *seen, uint64_t addresses, uint64_t vxlan, uint16_t udp_port,
	   uint64_t current)
{
	return seen->addresses == addresses && seen->vxlan == vxlan && seen->udp_port == udp_port &&
	       seen->current == current;
}

static inline uint64_t
locator_current(const struct fp_thread *t, const struct fp_port *port)
{
	return (uint64_t)t->generation << 32 | port->index;
}

// Fragment, TTL, protocol: whole UDP.
#define WHOLE_UDP (PROTOCOL_UDP << 24)
#define WHOLE_UDP_MASK (0xffu << 24 | FRAGMENT_MASK)

// Where the packet came in; the inner frame is what is left in the buffer, USUAL_BYTES at least.
// NULL: not usual, nothing has changed. Usual is what ends where its outer headers say, no trailer.
static inline const struct inside *
usual_decap(struct fp_thread *t, const struct parse_context *context, struct rte_mbuf *mbuf,
	    uint32_t *outer_tos, uint32_t *outer_ttl)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const uint32_t len = mbuf->data_len;
	const struct locator_seen *seen;
	struct usual_words w;
	uint64_t vxlan;

	if (unlikely(len < TUNNEL_BYTES + USUAL_BYTES))
		return NULL;
	w = usual_load(frame, 0);
	vxlan = locator_vxlan(frame + 42);
	seen = locator_seen_at(t, w.addresses, vxlan);
	if (unlikely(w.macs << 16 != context->port_mac || (w.head & IPV4_20_MASK) != IPV4_20 ||
		     ((uint32_t)w.middle & WHOLE_UDP_MASK) != WHOLE_UDP || !usual_sum(frame)))
		return NULL;
	if (unlikely(load16(frame + 16) != be16((uint16_t)(len - ETHERNET_BYTES)) ||
		     load16(frame + 38) != be16((uint16_t)(len - ETHERNET_BYTES - IPV4_BYTES))))
		return NULL;
	if (unlikely(!locator_is(seen, w.addresses, vxlan, load16(frame + 36), context->locators)) &&
	    !locator_is(++seen, w.addresses, vxlan, load16(frame + 36), context->locators))
		return NULL;
	frame_pull(mbuf, TUNNEL_BYTES);
	*outer_tos = usual_tos(&w);
	*outer_ttl = usual_ttl(&w);
	return &seen->inside;
}
