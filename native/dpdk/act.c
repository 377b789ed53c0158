// SPDX-License-Identifier: Apache-2.0
//
// What the action words say, for a burst: into a tunnel, out of an attachment, an answer, or the
// end. Each packet ends here or in a transmit batch, but for those whose policy wants ports.
#include "deliver.h"
#include "encap.h"
#include "thread.h"

static void forward(struct fp_thread *t, struct packet *p, fp_action_word word);
static void forward_seldom(struct fp_thread *t, struct packet *p, fp_action_word word,
			   const struct fp_location_half *half, const struct fp_location *location);
static void act_seldom(struct fp_thread *t, struct packet *p, fp_action_word word);
static void count_tunnel(struct fp_thread *t, const struct packet *p, fp_action_word word);

uint64_t
act(struct fp_thread *t, struct packet *packets, const fp_action_word *words, uint32_t n)
{
	uint64_t narrow = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct packet *p = &packets[i];
		const fp_action_word word = words[i];
		uint32_t action = fp_action_of(word);

		if (unlikely(action == FP_ACTION_NARROW)) {
			narrow |= 1ull << i;
			continue;
		}
		if (p->flags & PACKET_TUNNELED)
			count_tunnel(t, p, word);
		if (likely(action - FP_ACTION_ENCAPSULATE <=
			   (uint32_t)FP_ACTION_RELAY - FP_ACTION_ENCAPSULATE))
			forward(t, p, word);
		else
			act_seldom(t, p, word);
	}
	return narrow;
}

// Where the location is says how: an endpoint that has moved since the decision is one store in its
// location.
static inline __attribute__((always_inline)) void
forward(struct fp_thread *t, struct packet *p, fp_action_word word)
{
	uint32_t index = fp_action_destination(word);
	const struct fp_location_half *half = location_half(t, index);

	if (unlikely(half == NULL)) {
		drop_packet(t, p, FP_DROP_location_gone);
		return;
	}
	if (half->kind == FP_LOCATION_TUNNEL
		    ? usual_encapsulate(t, p, &t->view.location[index], half)
		    : usual_deliver(t, p, &t->view.location[index], half))
		return;
	forward_seldom(t, p, word, half, &t->view.location[index]);
}

static __attribute__((noinline)) void
forward_seldom(struct fp_thread *t, struct packet *p, fp_action_word word,
	       const struct fp_location_half *half, const struct fp_location *location)
{
	if (unlikely(p->key.key_class == FP_CLASS_NEIGHBOR)) {
		drop_packet(t, p, FP_DROP_not_supported);
		return;
	}
	switch (half->kind) {
	case FP_LOCATION_LOCAL:
		deliver(t, p, location, half, word);
		return;
	case FP_LOCATION_TUNNEL:
	case FP_LOCATION_SET:
		encapsulate(t, p, location, half, word,
			    p->flags & PACKET_TUNNELED ? TX_RELAYED : TX_FORWARDED);
		return;
	default:
		drop_packet(t, p, FP_DROP_location_gone);
	}
}

void
outlet_make(struct fp_thread *t, struct outlet *outlet, uint32_t ingress)
{
	const struct fp_ingress *attachment = ingress_at(t, ingress);

	*outlet = (struct outlet){.name = outer_name(t, ingress)};
	if (attachment == NULL || attachment->kind != FP_INGRESS_ATTACHMENT ||
	    !ingress_live(attachment) || attachment->vlan != 0 || !tx_possible(t, attachment->port))
		return;
	outlet->batch = &t->tx[attachment->port];
	outlet->usual_bytes = attachment->mtu_bytes != 0 ? attachment->mtu_bytes : UINT32_MAX;
}

static void
act_seldom(struct fp_thread *t, struct packet *p, fp_action_word word)
{
	uint32_t reason = fp_action_destination(word);

	if (fp_action_of(word) == FP_ACTION_ANSWER && p->key.key_class == FP_CLASS_NEIGHBOR) {
		neighbor_answer(t, p, word);
		return;
	}
	if (fp_action_of(word) != FP_ACTION_DROP || reason == 0 || reason >= FP_DROP_MAX)
		reason = FP_DROP_not_supported;
	drop_packet(t, p, reason);
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
			t->tunnel_of[p->key.ingress] = outer_name(t, tunnel);
	}
	counters = &t->counters.tunnel[tunnel];
	counters->rx_packets++;
	counters->rx_bytes += p->mbuf->data_len + TUNNEL_BYTES;
}

void
send_back(struct fp_thread *t, struct packet *p, fp_action_word word, enum tx_kind kind)
{
	const struct fp_location_half *half;

	if (!(p->flags & PACKET_TUNNELED)) {
		deliver_by(t, p, &t->view.ingress[p->key.ingress], kind);
		return;
	}
	half = location_half(t, fp_action_source(word));
	if (half == NULL || (half->kind != FP_LOCATION_TUNNEL && half->kind != FP_LOCATION_SET)) {
		give_up(t, p, kind, FP_DROP_location_gone);
		return;
	}
	encapsulate(t, p, &t->view.location[fp_action_source(word)], half, word, kind);
}

// A frame of housekeeping's. The object is compared after the word has been read: a new tunnel's
// word is published after its object, and what is made of the word is made again whenever a tunnel
// changes.
void
encapsulate_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct outgoing *out)
{
	const struct outer *outer = outer_of(t, out->target, 0);
	struct packet p = {.mbuf = mbuf, .length = (uint16_t)(mbuf->data_len - ETHERNET_BYTES)};

	if (outer->fault != 0 || mbuf->data_off < OUTER_ROOM || mbuf->data_len < ETHERNET_BYTES ||
	    __atomic_load_n(&t->view.tunnel_info[out->target].object_id, __ATOMIC_RELAXED) !=
		    out->object) {
		rte_pktmbuf_free(mbuf);
		return;
	}
	outer_put(mbuf, rte_pktmbuf_mtod(mbuf, uint8_t *), outer, mbuf->data_len, out->wire_id, 0,
		  outer->tos, 255);
	tx_put(t, outer->batch, &p, p.mbuf, tx_way(TX_OWN, 0, 0) | outer->way);
}

void
deliver_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct fp_ingress *attachment)
{
	struct packet p = {.mbuf = mbuf,
			   .vnet = attachment->vnet,
			   .length = (uint16_t)(mbuf->data_len - ETHERNET_BYTES)};

	deliver_by(t, &p, attachment, TX_OWN);
}
