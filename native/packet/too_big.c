// SPDX-License-Identifier: Apache-2.0
//
// Too big for the path: who wants to know and may be told hears it, each V-net its share of what is told in all. The
// message is made in the packet's own buffer, by its family (l3.h).
#include "l3.h"
#include "stages.h"

void
too_big(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word, uint32_t mtu_bytes)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const struct fp_vnet *vnet = &t->view.vnet[p->vnet];
	struct packet answer;

	if (!(p->flags & PACKET_IP) || !l3_wants_too_big(p, frame + ETHERNET_BYTES)) {
		drop_packet(t, p, mbuf, FP_DROP_mtu_exceeded);
		return;
	}
	answer = *p;
	if (!l3_may_be_told(p, frame) ||
	    !shared_rate_take(&t->icmp_rate, p->vnet, vnet->object_id, t->now_ns, t->icmp_per_s) ||
	    !l3_too_big(vnet, &answer, mbuf, mtu_bytes)) {
		drop_packet(t, p, mbuf, FP_DROP_mtu_frag_needed);
		return;
	}
	// The packet ends here; its buffer goes on as the message.
	rte_mbuf_refcnt_update(mbuf, 1);
	drop_packet(t, p, mbuf, FP_DROP_mtu_frag_needed);
	send_back(t, &answer, mbuf, word, TX_ICMP);
}
