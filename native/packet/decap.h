// SPDX-License-Identifier: Apache-2.0
//
// Out of a tunnel. The usual tunnel packet comes from a locator that was looked up before; all else goes the
// long way, decap(), where it gets its name. Inlined into the loop that parses.
#pragma once

#include "../wire/tunnel_kind.h"
#include "inside.h"
#include "l3_ipv4_usual.h"
#include "receive.h"

// What outlives the outer header.
struct outer {
	uint32_t traffic_class, hops_left;
	uint32_t bytes; // taken off with it
};

// Locators that packets came from lately, with all that parsing wants to know of them. Good for one
// generation of the tables.
#define LOCATORS_SEEN 8192 // pairs of places: a locator stands in one of two
struct locator_seen {
	uint64_t addresses; // remote, local: as they lie in the outer header
	uint64_t name;      // tunnel_name()
	uint64_t current;   // generation << 32 | index of the port; 0: never used
	uint16_t udp_port;  // that it was sent to, as it lies in the packet; 0: its kind has none
	uint16_t zero[3];
	struct inside inside;
};
static_assert(sizeof(struct locator_seen) == 64, "locator_seen");

#pragma GCC visibility push(hidden)
// The long way: a reason, 0 (the inner frame is what is left in the buffer) or RECEIVE_EXCEPTION. The frame is IPv4 to
// this port's MAC, in this VLAN; its IP header stands at byte l3_at.
uint32_t decap(struct fp_thread *t, struct receive_context *context, struct packet *p, struct rte_mbuf *mbuf,
	       uint32_t vlan, uint32_t l3_at, struct outer *outer);
#pragma GCC visibility pop

// The first of its two places.
static inline struct locator_seen *
locator_seen_at(struct fp_thread *t, uint64_t addresses, uint64_t name)
{
	static_assert(LOCATORS_SEEN == 1 << 13);
	// The id lies over the local address, of which there are few.
	return &t->locator_seen[(addresses ^ name) * 0x9e3779b97f4a7c15ull >> 51 & ~1ull];
}

static inline bool
locator_is(const struct locator_seen *seen, uint64_t addresses, uint64_t name, uint16_t udp_port,
	   uint64_t current)
{
	return seen->addresses == addresses && seen->name == name && seen->udp_port == udp_port &&
	       seen->current == current;
}

static inline uint64_t
locator_current(const struct fp_thread *t, const struct fp_port *port)
{
	return (uint64_t)t->generation << 32 | port->index;
}

// VXLAN over IPv4 without options, no VLAN tag.
#define USUAL_OUTER_BYTES (ETHERNET_BYTES + IPV4_BYTES + VXLAN_BYTES)

// Where the packet came in; the inner frame is what is left in the buffer, USUAL_BYTES at least.
// NULL: not usual, nothing has changed. Usual is what ends where its outer headers say, no trailer.
static inline const struct inside *
usual_decap(struct fp_thread *t, const struct receive_context *context, struct rte_mbuf *mbuf,
	    struct outer *outer)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const uint8_t *l4 = frame + ETHERNET_BYTES + IPV4_BYTES;
	const uint32_t len = mbuf->data_len;
	const struct locator_seen *seen;
	struct usual_words w;
	uint64_t name;
	uint16_t port;

	if (unlikely(len < USUAL_OUTER_BYTES + USUAL_BYTES))
		return NULL;
	w = usual_load(frame, 0);
	name = vxlan_name(l4);
	seen = locator_seen_at(t, w.addresses, name);
	if (unlikely(w.macs << 16 != context->port_mac || !usual_whole_udp(&w) || !usual_sum(frame)))
		return NULL;
	if (unlikely(usual_total_bytes(&w) != len - ETHERNET_BYTES ||
		     !vxlan_fits(l4, len - ETHERNET_BYTES - IPV4_BYTES)))
		return NULL;
	port = load16(l4 + UDP_DESTINATION);
	if (unlikely(!locator_is(seen, w.addresses, name, port, context->locators)) &&
	    !locator_is(++seen, w.addresses, name, port, context->locators))
		return NULL;
	frame_pull(mbuf, USUAL_OUTER_BYTES);
	outer->traffic_class = usual_traffic_class(&w);
	outer->hops_left = usual_hops_left(&w);
	outer->bytes = USUAL_OUTER_BYTES;
	return &seen->inside;
}
