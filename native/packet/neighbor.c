// SPDX-License-Identifier: Apache-2.0
//
// ARP (RFC 826, RFC 5227): requests become keys, answers come from the directory. Nothing that a
// host says about itself or others is believed.
#include "../wire/l3_ipv4.h"
#include "stages.h"
#include "tables.h"

// Where things stand in an ARP packet for IPv4 over Ethernet.
enum {
	ARP_HARDWARE = 0,
	ARP_PROTOCOL = 2,
	ARP_SIZES = 4,
	ARP_OPERATION = 6,
	ARP_SHA = 8,
	ARP_SPA = 14,
	ARP_THA = 18,
	ARP_TPA = 24
};
#define ARP_REQUEST 1
#define ARP_REPLY 2

uint32_t
neighbor_parse(struct packet *p, struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const uint8_t *arp = frame + ETHERNET_BYTES;
	uint32_t len = mbuf->data_len;
	uint64_t destination = load_mac(frame);
	uint16_t operation;

	if (len < ETHERNET_BYTES + ARP_BYTES || load16_be(arp + ARP_HARDWARE) != 1 ||
	    load16_be(arp + ARP_PROTOCOL) != ETHERTYPE_IPV4 || load16_be(arp + ARP_SIZES) != 0x0604)
		return FP_DROP_arp_malformed;
	operation = load16_be(arp + ARP_OPERATION);
	if ((operation != ARP_REQUEST && operation != ARP_REPLY) ||
	    load_mac(arp + ARP_SHA) != load_mac(frame + 6) ||
	    (mac_is_group(destination) && destination != MAC_BROADCAST))
		return FP_DROP_arp_malformed;
	if (operation == ARP_REPLY || load32(arp + ARP_SPA) == load32(arp + ARP_TPA))
		return FP_DROP_arp_unsolicited;
	if ((load32(arp + ARP_SPA) != 0 && !ipv4_is_unicast(load32(arp + ARP_SPA))) ||
	    !ipv4_is_unicast(load32(arp + ARP_TPA)))
		return FP_DROP_arp_malformed;
	p->key.key_class = FP_CLASS_NEIGHBOR;
	memcpy(p->key.source + 12, arp + ARP_SPA, 4);
	memcpy(p->key.destination + 12, arp + ARP_TPA, 4);
	p->length = ARP_BYTES;
	frame_trim(mbuf, len - ETHERNET_BYTES - ARP_BYTES); // padding
	return 0;
}

// Turns the question into its answer and sends it back the way it came. Who has the address asks for it
// to hear whether another one has it (RFC 5227 section 2.1.1): any answer would say so.
void
neighbor_answer(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	uint8_t *arp = frame + ETHERNET_BYTES;
	uint8_t mac[FP_MAC_BYTES];
	uint32_t asker, target;

	if (fp_action_destination(word) != 0) {
		const struct fp_location_half *half = location_half(t, fp_action_destination(word));

		if (unlikely(half == NULL)) {
			drop_packet(t, p, mbuf, FP_DROP_location_gone);
			return;
		}
		memcpy(mac, half->mac, sizeof(mac));
	} else {
		memcpy(mac, t->view.vnet[p->vnet].gateway_mac, sizeof(mac));
	}
	if (unlikely(load_mac(mac) == 0)) {
		drop_packet(t, p, mbuf,
			    fp_action_destination(word) != 0 ? FP_DROP_location_gone : FP_DROP_no_gateway);
		return;
	}
	if (unlikely(load_mac(mac) == load_mac(frame + 6))) {
		drop_packet(t, p, mbuf, FP_DROP_arp_own_address);
		return;
	}
	asker = load32(arp + ARP_SPA);
	target = load32(arp + ARP_TPA);
	memcpy(frame, frame + 6, FP_MAC_BYTES);
	memcpy(frame + 6, mac, FP_MAC_BYTES);
	store16_be(arp + ARP_OPERATION, ARP_REPLY);
	memcpy(arp + ARP_THA, arp + ARP_SHA, FP_MAC_BYTES);
	memcpy(arp + ARP_SHA, mac, FP_MAC_BYTES);
	store32(arp + ARP_SPA, target);
	store32(arp + ARP_TPA, asker);
	send_back(t, p, mbuf, word, TX_ANSWERED);
}
