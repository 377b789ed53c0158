// SPDX-License-Identifier: Apache-2.0
//
// The long way out, for packets that are not usual and for our own: into a tunnel (encap.h), out of
// an attachment (deliver.h), or back where it came from. What ends here ends with a name.
#include "deliver.h"
#include "encap.h"
#include "stages.h"
#include "tables.h"
#include "tx.h"

static void leave_by(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf,
		     const struct egress *egress, enum tx_kind kind);

void
encapsulate(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, const struct fp_location *location,
	    const struct fp_location_half *half, fp_action_word word, enum tx_kind kind)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	uint32_t entropy = entropy_of(t, p, frame), ttl = 255;
	const struct egress *egress;

	if (kind == TX_RELAYED && half->node == (uint32_t)t->view.ingress[p->key.ingress].node_id) {
		drop_packet(t, p, mbuf, FP_DROP_relay_loop);
		return;
	}
	egress = egress_of_tunnel(
		t, half->kind == FP_LOCATION_TUNNEL ? half->target : egress_member(t, half->target, entropy),
		entropy);
	if (egress->fault != 0) {
		give_up(t, p, mbuf, kind, egress->fault);
		return;
	}
	if (kind == TX_FORWARDED || kind == TX_RELAYED) { // not one of our own
		if (p->length > egress->mtu_bytes) {
			too_big(t, p, mbuf, word, egress->mtu_bytes);
			return;
		}
		if (kind == TX_RELAYED) {
			if (p->outer_ttl <= 1) {
				drop_packet(t, p, mbuf, FP_DROP_relay_hops);
				return;
			}
			ttl = p->outer_ttl - 1u;
		}
		rewrite_inner(t, p, frame, location, half, 0);
	}
	if (frame_room_bytes(mbuf) < EGRESS_ROOM) {
		give_up(t, p, mbuf, kind, FP_DROP_no_buffer);
		return;
	}
	outer_put(mbuf, frame, egress, mbuf->data_len, half->wire_id, entropy,
		  p->flags & PACKET_IP ? outer_traffic_class(egress, p, frame) : egress->class_bare, ttl);
	tx_put(t, egress->batch, p, mbuf, tx_tally_as(egress->tally, kind));
}

void
deliver(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, const struct fp_location *location,
	const struct fp_location_half *half, fp_action_word word)
{
	const struct egress *egress = egress_of_attachment(t, half->target);

	if (egress->fault != 0) {
		drop_packet(t, p, mbuf, egress->fault);
		return;
	}
	// Routed packets go back into the segment: its two ends do not reach each other by
	// themselves.
	if (half->target == p->key.ingress && !(p->flags & PACKET_ROUTED)) {
		drop_packet(t, p, mbuf, FP_DROP_hairpin);
		return;
	}
	if (p->length > egress->mtu_bytes) {
		too_big(t, p, mbuf, word, egress->mtu_bytes);
		return;
	}
	rewrite_inner(t, p, rte_pktmbuf_mtod(mbuf, uint8_t *), location, half, 0);
	leave_by(t, p, mbuf, egress, TX_DELIVERED);
}

void
send_back(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
	  enum tx_kind kind)
{
	const struct fp_location_half *half;

	if (!(p->flags & PACKET_TUNNELED)) {
		leave_by(t, p, mbuf, egress_of_attachment(t, p->key.ingress), kind);
		return;
	}
	half = location_half(t, fp_action_source(word));
	if (half == NULL || (half->kind != FP_LOCATION_TUNNEL && half->kind != FP_LOCATION_SET)) {
		give_up(t, p, mbuf, kind, FP_DROP_location_gone);
		return;
	}
	encapsulate(t, p, mbuf, &t->view.location[fp_action_source(word)], half, word, kind);
}

// A frame of housekeeping's. The object is compared after the word has been read: a new tunnel's
// word is published after its object, and what is made of the word is made again whenever a tunnel
// changes.
void
encapsulate_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct outgoing *out)
{
	const struct egress *egress = egress_of_tunnel(t, out->target, 0);
	struct packet p = {.length = (uint16_t)(mbuf->data_len - ETHERNET_BYTES)};

	if (egress->fault != 0 || frame_room_bytes(mbuf) < EGRESS_ROOM || mbuf->data_len < ETHERNET_BYTES ||
	    __atomic_load_n(&t->view.tunnel_info[out->target].object_id, __ATOMIC_RELAXED) != out->object) {
		rte_pktmbuf_free(mbuf);
		return;
	}
	outer_put(mbuf, rte_pktmbuf_mtod(mbuf, uint8_t *), egress, mbuf->data_len, out->wire_id, 0,
		  egress->class_bare, 255);
	tx_put(t, egress->batch, &p, mbuf, tx_tally_as(egress->tally, TX_OWN));
}

void
deliver_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct outgoing *out)
{
	struct packet p = {.vnet = (uint16_t)out->vnet,
			   .length = (uint16_t)(mbuf->data_len - ETHERNET_BYTES)};

	leave_by(t, &p, mbuf, egress_of_attachment(t, out->target), TX_OWN);
}

// Out of an attachment, with its tag.
static void
leave_by(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, const struct egress *egress,
	 enum tx_kind kind)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	if (egress->fault != 0) {
		give_up(t, p, mbuf, kind, egress->fault);
		return;
	}
	if (egress->tag != 0) {
		if (frame_room_bytes(mbuf) < VLAN_BYTES) {
			give_up(t, p, mbuf, kind, FP_DROP_no_buffer);
			return;
		}
		memmove(frame - VLAN_BYTES, frame, 12);
		tag_put(mbuf, frame, egress);
	}
	tx_put(t, egress->batch, p, mbuf, tx_tally_as(egress->tally, kind));
}
