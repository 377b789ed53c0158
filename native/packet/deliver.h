// SPDX-License-Identifier: Apache-2.0
//
// Out of an attachment: the VLAN tag, and the port. Inlined into the loop that acts; what is not
// usual goes by leave.c.
#pragma once

#include "encap.h"
#include "tx.h"

// Behind the MACs, which have moved already.
static inline void
tag_put(struct rte_mbuf *mbuf, uint8_t *frame, const struct egress *egress)
{
	store32(frame + 12 - VLAN_BYTES, egress->tag);
	frame_push(mbuf, VLAN_BYTES);
}

// The usual packet. false: nothing has changed, leave.c knows why.
static inline __attribute__((always_inline)) bool
usual_deliver(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf,
	      const struct fp_location *location, const struct fp_location_half *half)
{
	const struct egress *egress = egress_of_attachment(t, half->target);
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	if (unlikely(!(p->flags & PACKET_IP) || half->target == p->key.ingress ||
		     p->length > egress->mtu_bytes))
		return false;
	if (egress->tag == 0) {
		rewrite_inner(t, p, frame, location, half, 0);
	} else {
		if (unlikely(frame_room_bytes(mbuf) < VLAN_BYTES))
			return false;
		rewrite_inner(t, p, frame, location, half, VLAN_BYTES);
		tag_put(mbuf, frame, egress);
	}
	tx_put(t, egress->batch, p, mbuf, egress->tally);
	return true;
}
