// SPDX-License-Identifier: Apache-2.0
//
// What the action words say, for a burst: into a tunnel, out of an attachment, an answer, or the
// end. Each packet ends here or in a transmit batch, but for those whose policy wants ports.
#include "deliver.h"
#include "stages.h"
#include "tables.h"

static void forward(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word);
static void forward_seldom(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
			   const struct fp_location_half *half, const struct fp_location *location);
static void act_seldom(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word);
static uint32_t source_fault(const struct fp_thread *t, const struct packet *p, const struct rte_mbuf *mbuf,
			     fp_action_word word);
static void count_tunnel(struct fp_thread *t, const struct packet *p, fp_action_word word);

// A decision that names its source's location is for packets from that MAC.
static inline bool
source_fits(const struct fp_thread *t, const struct packet *p, const struct rte_mbuf *mbuf,
	    fp_action_word word)
{
	const uint32_t index = fp_action_source(word);
	const struct fp_location_half *half;

	if (index == 0)
		return true;
	half = location_half(t, index);
	return half != NULL &&
	       load64(half->mac) << 16 == load64(rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, 6)) << 16;
}

uint64_t
act(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs, const fp_action_word *words,
    uint32_t n)
{
	uint64_t again = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct packet *p = &packets[i];
		struct rte_mbuf *mbuf = mbufs[i];
		const fp_action_word word = words[i];
		uint32_t action = fp_action_of(word), reason;

		if (unlikely(action == FP_ACTION_NARROW)) {
			again |= 1ull << i;
			continue;
		}
		if (p->flags & PACKET_TUNNELED)
			count_tunnel(t, p, word);
		if (unlikely(!source_fits(t, p, mbuf, word)) &&
		    (reason = source_fault(t, p, mbuf, word)) != 0) {
			drop_packet(t, p, mbuf, reason);
			continue;
		}
		if (likely(action - FP_ACTION_ENCAPSULATE <=
			   (uint32_t)FP_ACTION_RELAY - FP_ACTION_ENCAPSULATE))
			forward(t, p, mbuf, word);
		else
			act_seldom(t, p, mbuf, word);
	}
	return again;
}

// What is routed leaves with the MAC of the gateway of the V-net that it goes into: never with none.
static inline bool
has_gateway(const struct fp_thread *t, const struct packet *p, const struct fp_location *location)
{
	const struct fp_vnet *vnet;

	if (!(p->flags & PACKET_ROUTED))
		return true;
	vnet = vnet_at(t, location->vnet);
	return vnet != NULL && load64(vnet->gateway_mac) << 16 != 0;
}

// Where the location is says how: an endpoint that has moved since the decision is one store in its
// location.
static inline __attribute__((always_inline)) void
forward(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word)
{
	const struct fp_location *location = location_at(t, fp_action_destination(word));
	const struct fp_location_half *half;

	if (unlikely(location == NULL)) {
		drop_packet(t, p, mbuf, FP_DROP_location_gone);
		return;
	}
	if (unlikely(!has_gateway(t, p, location))) {
		drop_packet(t, p, mbuf, FP_DROP_no_gateway);
		return;
	}
	half = location_now(location);
	__asm__("" : "+r"(half)); // computed once, not at each use
	if (half->kind == FP_LOCATION_LOCAL ? usual_deliver(t, p, mbuf, location, half)
					    : usual_encapsulate(t, p, mbuf, location, half))
		return;
	forward_seldom(t, p, mbuf, word, half, location);
}

static __attribute__((noinline)) void
forward_seldom(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
	       const struct fp_location_half *half, const struct fp_location *location)
{
	if (unlikely(p->key.key_class == FP_CLASS_NEIGHBOR)) {
		drop_packet(t, p, mbuf, FP_DROP_not_supported);
		return;
	}
	switch (half->kind) {
	case FP_LOCATION_LOCAL:
		deliver(t, p, mbuf, location, half, word);
		return;
	case FP_LOCATION_TUNNEL:
	case FP_LOCATION_SET:
		encapsulate(t, p, mbuf, location, half, word,
			    p->flags & PACKET_TUNNELED ? TX_RELAYED : TX_FORWARDED);
		return;
	default:
		drop_packet(t, p, mbuf, FP_DROP_location_gone);
	}
}

static void
act_seldom(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word)
{
	uint32_t reason = fp_action_destination(word);

	if (fp_action_of(word) == FP_ACTION_ANSWER && p->key.key_class == FP_CLASS_NEIGHBOR) {
		neighbor_answer(t, p, mbuf, word);
		return;
	}
	if (fp_action_of(word) != FP_ACTION_DROP || reason == 0 || reason >= FP_DROP_MAX)
		reason = FP_DROP_not_supported;
	drop_packet(t, p, mbuf, reason);
}

// Why a packet ends whose source has another MAC; 0: it goes on. A question out of a tunnel is answered
// into the tunnel, through that location: nobody here sees from whom it came.
static __attribute__((noinline)) uint32_t
source_fault(const struct fp_thread *t, const struct packet *p, const struct rte_mbuf *mbuf,
	     fp_action_word word)
{
	const struct fp_location_half *half = location_half(t, fp_action_source(word));

	if (p->key.key_class == FP_CLASS_NEIGHBOR && (p->flags & PACKET_TUNNELED))
		return 0;
	if (half == NULL)
		return FP_DROP_location_gone;
	return load_mac(half->mac) != 0 ? FP_DROP_spoofed : 0;
}

// Came out of a tunnel: which one, is told by the location that leads back to the source.
static inline void
count_tunnel(struct fp_thread *t, const struct packet *p, fp_action_word word)
{
	uint64_t name = t->tunnel_of[p->key.ingress];
	uint32_t tunnel = (uint32_t)(name >> 32);
	struct fp_pair_counters *counters;

	// Learnt again when a tunnel may have come or gone: the index may be another's by now.
	if (unlikely((uint32_t)name != t->generation)) {
		const struct fp_location_half *source = location_half(t, fp_action_source(word));

		tunnel = source != NULL && source->kind == FP_LOCATION_TUNNEL &&
					 source->target < t->view.tunnels
				 ? source->target
				 : 0;
		if (tunnel != 0)
			t->tunnel_of[p->key.ingress] = egress_name(t, tunnel);
	}
	counters = &t->counters.tunnel[tunnel];
	counters->rx_packets++;
	counters->rx_bytes += p->length + ETHERNET_BYTES + p->outer_bytes;
}
