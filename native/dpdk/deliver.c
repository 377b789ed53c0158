// SPDX-License-Identifier: Apache-2.0
//
// Out of an attachment: the VLAN tag, and the port.
#include "thread.h"

void
deliver(struct fp_thread *t, struct packet *p, uint32_t vnet, const struct fp_location_half *half,
	fp_action_word word)
{
	const struct fp_ingress *attachment = ingress_at(t, half->target);

	if (unlikely(half->target == 0 || attachment == NULL ||
		     attachment->kind != FP_INGRESS_ATTACHMENT ||
		     !ingress_live(attachment))) {
		drop_packet(t, p, FP_DROP_location_gone);
		return;
	}
	if (unlikely(half->target == p->key.ingress)) {
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
	rewrite_inner(t, p, vnet, half);
	deliver_by(t, p, attachment, TX_DELIVERED);
}

void
deliver_by(struct fp_thread *t, struct packet *p, const struct fp_ingress *attachment,
	   enum tx_kind kind)
{
	struct rte_mbuf *mbuf = p->mbuf;
	uint32_t inner_bytes = mbuf->data_len;
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
	tx_put(t, attachment->port, mbuf, kind, p->vnet, 0, inner_bytes);
}
