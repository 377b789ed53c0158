// SPDX-License-Identifier: Apache-2.0
//
// Too big for the way: ICMP "fragmentation needed" (RFC 792, RFC 1191) to whoever may be told, made
// in the packet's own buffer.
#include "thread.h"

#define ICMP_UNREACHABLE 3
#define ICMP_FRAGMENTATION_NEEDED 4
#define QUOTED_BYTES 8
#define ICMP_TTL 64
#define ICMP_TOS 0xc0 // internetwork control (RFC 1812 section 4.3.2.5)

static bool icmp_allowed(const struct packet *p, const uint8_t *frame);
static bool icmp_make(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint32_t mtu_bytes);

void
too_big(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word, uint32_t mtu_bytes)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, ETHERNET_BYTES);
	struct packet answer;

	if (!(p->flags & PACKET_IP) || !(load16_be(ip + 6) & IPV4_DF)) {
		drop_packet(t, p, mbuf, FP_DROP_mtu_exceeded);
		return;
	}
	answer = *p;
	if (!icmp_allowed(p, rte_pktmbuf_mtod(mbuf, const uint8_t *)) ||
	    !shared_rate_take(&t->icmp_rate, p->vnet, t->view.vnet[p->vnet].object_id, t->now_ns,
			      t->icmp_per_s) ||
	    !icmp_make(t, &answer, mbuf, mtu_bytes)) {
		drop_packet(t, p, mbuf, FP_DROP_mtu_frag_needed);
		return;
	}
	// The packet ends here; its buffer goes on as the message.
	rte_mbuf_refcnt_update(mbuf, 1);
	drop_packet(t, p, mbuf, FP_DROP_mtu_frag_needed);
	send_back(t, &answer, mbuf, word, TX_ICMP);
}

// RFC 1122 section 3.2.2: never about an ICMP error, nor about a fragment that is not the first.
static bool
icmp_allowed(const struct packet *p, const uint8_t *frame)
{
	uint8_t type;

	if (p->flags & PACKET_LATER)
		return false;
	if (p->protocol != PROTOCOL_ICMP)
		return true;
	type = frame[p->l4_at];
	return type != 3 && type != 4 && type != 5 && type != 11 && type != 12;
}

static bool
icmp_make(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint32_t mtu_bytes)
{
	const struct fp_vnet *vnet = &t->view.vnet[p->vnet];
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *), *ip, *icmp;
	uint32_t quoted = p->l4_at - ETHERNET_BYTES + QUOTED_BYTES;
	uint32_t source = load32(frame + ETHERNET_BYTES + 12),
		 destination = load32(frame + ETHERNET_BYTES + 16);
	uint8_t to[FP_MAC_BYTES], from[FP_MAC_BYTES];
	uint64_t sum;

	quoted = RTE_MIN(quoted, (uint32_t)p->length);
	memcpy(to, frame + 6, FP_MAC_BYTES);
	memcpy(from, load_mac(vnet->gateway_mac) != 0 ? vnet->gateway_mac : frame, FP_MAC_BYTES);
	if (load32(vnet->gateway_address + 12) != 0)
		destination = load32(vnet->gateway_address + 12);
	if (unlikely(frame_room_bytes(mbuf) < IPV4_BYTES + ICMP_BYTES))
		return false;
	frame_trim(mbuf, p->length - quoted);
	frame = frame_push(mbuf, IPV4_BYTES + ICMP_BYTES);
	p->length = (uint16_t)(IPV4_BYTES + ICMP_BYTES + quoted);
	memcpy(frame, to, FP_MAC_BYTES);
	memcpy(frame + 6, from, FP_MAC_BYTES);
	store16_be(frame + 12, ETHERTYPE_IPV4);

	ip = frame + ETHERNET_BYTES;
	ip[0] = 0x45;
	ip[1] = ICMP_TOS;
	store16_be(ip + 2, p->length);
	store16(ip + 4, 0);
	store16_be(ip + 6, IPV4_DF); // atomic, so the id may be 0 (RFC 6864)
	ip[8] = ICMP_TTL;
	ip[9] = PROTOCOL_ICMP;
	store16(ip + 10, 0);
	store32(ip + 12, destination);
	store32(ip + 16, source);
	store16(ip + 10, (uint16_t)~checksum_fold(checksum_sum32(ip, IPV4_BYTES)));

	icmp = ip + IPV4_BYTES;
	icmp[0] = ICMP_UNREACHABLE;
	icmp[1] = ICMP_FRAGMENTATION_NEEDED;
	store32(icmp + 2, 0);
	store16_be(icmp + 6, (uint16_t)mtu_bytes);
	sum = checksum_sum32(icmp, (ICMP_BYTES + quoted) & ~3u);
	for (uint32_t i = (ICMP_BYTES + quoted) & ~3u; i < ICMP_BYTES + quoted; i++)
		sum += be16((uint16_t)(icmp[i] << (i & 1 ? 0 : 8)));
	store16(icmp + 2, (uint16_t)~checksum_fold(sum));
	p->l4_at = ETHERNET_BYTES + IPV4_BYTES;
	p->protocol = PROTOCOL_ICMP;
	p->source_port = be16(ICMP_UNREACHABLE);
	p->destination_port = be16(ICMP_FRAGMENTATION_NEEDED);
	p->flags = (uint8_t)((p->flags & PACKET_TUNNELED) | PACKET_IP);
	return true;
}
