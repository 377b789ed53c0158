// SPDX-License-Identifier: Apache-2.0
//
// Out of an attachment: the VLAN tag, and the port. Inlined into the loop that acts.
#pragma once

#include "encap.h"
#include "thread.h"

static inline void
deliver_by(struct fp_thread *t, struct packet *p, const struct fp_ingress *attachment,
	   enum tx_kind kind)
{
	struct rte_mbuf *mbuf = p->mbuf;
	uint8_t *frame;

	if (unlikely(!tx_possible(t, attachment->port))) {
		give_up(t, p, kind, FP_DROP_location_gone);
		return;
	}
	if (attachment->vlan != 0) {
		frame = (uint8_t *)rte_pktmbuf_prepend(mbuf, VLAN_BYTES);
		if (unlikely(frame == NULL)) {
			give_up(t, p, kind, FP_DROP_no_buffer);
			return;
		}
		memmove(frame, frame + VLAN_BYTES, 12);
		store16_be(frame + 12, ETHERTYPE_VLAN);
		store16_be(frame + 14, attachment->vlan & 0xfff);
	}
	tx_put(t, &t->tx[attachment->port], p, p->mbuf,
	       tx_way(kind, 0, attachment->vlan != 0 ? VLAN_BYTES : 0));
}

// What there is to know of an attachment that packets go out of, kept by each poll thread for one
// generation of the tables.
#define OUTLETS 256 // attachments whose low bits are equal take turns
struct outlet {
	uint64_t name; // outer_name() of the attachment's index
	struct tx_batch *batch;
	uint32_t usual_bytes; // longest IP packet that is usual; 0: none is
	uint32_t zero[3];
};
static_assert(sizeof(struct outlet) == 32, "outlet");

#pragma GCC visibility push(hidden)
void outlet_make(struct fp_thread *t, struct outlet *outlet, uint32_t ingress); // act.c
#pragma GCC visibility pop

// The usual packet out of the usual attachment: untagged, everything live. false: nothing has
// changed, deliver() knows why.
static inline __attribute__((always_inline)) bool
usual_deliver(struct fp_thread *t, struct packet *p, const struct fp_location *location,
	      const struct fp_location_half *half)
{
	struct outlet *outlet = &t->outlet[half->target % OUTLETS];

	if (unlikely(outlet->name != outer_name(t, half->target)))
		outlet_make(t, outlet, half->target);
	if (unlikely(half->kind != FP_LOCATION_LOCAL || !(p->flags & PACKET_IP) ||
		     half->target == p->key.ingress || p->length > outlet->usual_bytes))
		return false;
	rewrite_inner(t, p->flags, rte_pktmbuf_mtod(p->mbuf, uint8_t *), location, half);
	tx_put(t, outlet->batch, p, p->mbuf, tx_way(TX_DELIVERED, 0, 0));
	return true;
}

static inline void
deliver(struct fp_thread *t, struct packet *p, const struct fp_location *location,
	const struct fp_location_half *half, fp_action_word word)
{
	const struct fp_ingress *attachment = ingress_at(t, half->target);

	if (unlikely(half->target == 0 || attachment == NULL ||
		     attachment->kind != FP_INGRESS_ATTACHMENT || !ingress_live(attachment))) {
		drop_packet(t, p, FP_DROP_location_gone);
		return;
	}
	// Routed packets go back into the segment: its two ends do not reach each other by themselves.
	if (unlikely(half->target == p->key.ingress && !(p->flags & PACKET_ROUTED))) {
		drop_packet(t, p, FP_DROP_hairpin);
		return;
	}
	if (unlikely(!tx_possible(t, attachment->port))) {
		drop_packet(t, p, FP_DROP_location_gone);
		return;
	}
	if (unlikely(attachment->mtu_bytes != 0 && p->length > attachment->mtu_bytes)) {
		too_big(t, p, word, attachment->mtu_bytes);
		return;
	}
	rewrite_inner(t, p->flags, rte_pktmbuf_mtod(p->mbuf, uint8_t *), location, half);
	deliver_by(t, p, attachment, TX_DELIVERED);
}
