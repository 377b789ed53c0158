// SPDX-License-Identifier: Apache-2.0
//
// IPv4 inside a V-net: what is not done for each packet (l3.h). What is usual is recognized in one go
// (l3_ipv4_usual.h) and does not come here.
#include "l3.h"
#include "stages.h"

#define QUOTED_BYTES 8
#define ANSWER_TTL 64
#define ANSWER_TOS 0xc0 // internetwork control (RFC 1812 section 4.3.2.5)

// ICMP messages about other packets.
enum {
	ICMP_UNREACHABLE = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_REDIRECT = 5,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
};
#define ICMP_FRAGMENTATION_NEEDED 4 // code of "unreachable"
#define ICMP_MTU 6

uint32_t
ipv4_parse(struct packet *p, struct rte_mbuf *mbuf, const struct fp_vnet *vnet, const struct fp_port *port,
	   uint64_t destination_mac, uint32_t mtu_bytes, bool believed)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, ETHERNET_BYTES);
	uint32_t len = mbuf->data_len - ETHERNET_BYTES;
	uint32_t header_bytes, total_bytes, fragment, rc;
	uint64_t gateway;

	if (unlikely(len < IPV4_BYTES))
		return FP_DROP_frame_truncated;
	if (unlikely(ipv4_version(ip) != 4))
		return FP_DROP_ip_bad_version;
	header_bytes = ipv4_header_bytes(ip);
	total_bytes = ipv4_total_bytes(ip);
	if (unlikely(header_bytes < IPV4_BYTES || total_bytes < header_bytes))
		return FP_DROP_ip_bad_length;
	if (unlikely(total_bytes > len))
		return mtu_bytes != 0 && total_bytes > mtu_bytes ? FP_DROP_ip_truncated_segment
								 : FP_DROP_ip_bad_length;
	if (unlikely(!believed && !ipv4_checksum_is_right(ip, header_bytes)))
		return FP_DROP_ip_bad_checksum;
	if (unlikely(!believed &&
		     (!ipv4_is_unicast(ipv4_source(ip)) || !ipv4_is_unicast(ipv4_destination(ip)))))
		return FP_DROP_ip_bad_address;
	if (unlikely(mtu_bytes != 0 && total_bytes > mtu_bytes))
		return FP_DROP_frame_oversized;
	frame_trim(mbuf, len - total_bytes); // padding
	p->l3 = L3_IPV4;
	p->l4_at = (uint16_t)(ETHERNET_BYTES + header_bytes);
	p->length = (uint16_t)total_bytes;
	p->protocol = ipv4_protocol(ip);
	p->flags |= PACKET_IP;

	fragment = ipv4_fragment(ip);
	if (unlikely(fragment & (IPV4_MF | IPV4_OFFSET))) {
		// The last byte would stand beyond the largest packet there is.
		if ((fragment & IPV4_OFFSET) * 8u + total_bytes - header_bytes > 65535u - header_bytes)
			return FP_DROP_ip_bad_length;
		p->flags |= fragment & IPV4_OFFSET ? PACKET_FRAGMENT | PACKET_LATER : PACKET_FRAGMENT;
	}
	if (likely(!(p->flags & PACKET_LATER))) {
		rc = l4_parse(p, ip + header_bytes, total_bytes - header_bytes);
		if (unlikely(rc != 0))
			return rc;
		if (unlikely(port->partial_checksums) && !(p->flags & PACKET_FRAGMENT))
			checksum_complete(ip, total_bytes);
	}

	gateway = load_mac(vnet->gateway_mac);
	if (destination_mac == gateway && gateway != 0) {
		if (unlikely(ipv4_hops_left(ip) <= 1))
			return FP_DROP_ttl_exceeded;
		p->flags |= PACKET_ROUTED;
		p->key.key_class = FP_CLASS_ROUTED;
	} else {
		p->key.key_class = FP_CLASS_BRIDGED;
	}
	store32(p->key.source + 12, ipv4_source(ip));
	store32(p->key.destination + 12, ipv4_destination(ip));
	return 0;
}

uint32_t
ipv4_join_ecn(uint8_t *ip, uint32_t outer_ecn)
{
	uint32_t inner_ecn = ipv4_traffic_class(ip) & ECN_MASK;

	if (likely(outer_ecn == inner_ecn || outer_ecn == ECN_NOT_ECT))
		return 0;
	if (outer_ecn == ECN_CE) {
		if (inner_ecn == ECN_NOT_ECT)
			return FP_DROP_ecn_congested;
		ipv4_ecn_set(ip, ECN_CE);
	} else if (outer_ecn == ECN_ECT1 && inner_ecn == ECN_ECT0) {
		ipv4_ecn_set(ip, ECN_ECT1);
	}
	return 0;
}

bool
ipv4_wants_too_big(const uint8_t *ip)
{
	return ipv4_fragment(ip) & IPV4_DF;
}

// RFC 1122 section 3.2.2: never about an ICMP error, nor about a fragment that is not the first.
bool
ipv4_may_be_told(const struct packet *p, const uint8_t *frame)
{
	if (p->flags & PACKET_LATER)
		return false;
	if (p->protocol != PROTOCOL_ICMP)
		return true;
	switch (frame[p->l4_at]) {
	case ICMP_UNREACHABLE:
	case ICMP_SOURCE_QUENCH:
	case ICMP_REDIRECT:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		return false;
	default:
		return true;
	}
}

// "Fragmentation needed" (RFC 792, RFC 1191 section 4).
bool
ipv4_too_big(const struct fp_vnet *vnet, struct packet *p, struct rte_mbuf *mbuf, uint32_t mtu_bytes)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *), *icmp;
	const uint8_t *ip = frame + ETHERNET_BYTES;
	uint32_t quoted = RTE_MIN((uint32_t)p->l4_at - ETHERNET_BYTES + QUOTED_BYTES, (uint32_t)p->length);
	uint32_t to = ipv4_source(ip), from = load32(vnet->gateway_address + 12);
	uint8_t to_mac[FP_MAC_BYTES], from_mac[FP_MAC_BYTES];
	uint64_t sum;

	if (from == 0)
		from = ipv4_destination(ip);
	memcpy(to_mac, frame + 6, FP_MAC_BYTES);
	memcpy(from_mac, load_mac(vnet->gateway_mac) != 0 ? vnet->gateway_mac : frame, FP_MAC_BYTES);
	if (unlikely(frame_room_bytes(mbuf) < IPV4_BYTES + ICMP_BYTES))
		return false;
	frame_trim(mbuf, p->length - quoted);
	frame = frame_push(mbuf, IPV4_BYTES + ICMP_BYTES);
	memcpy(frame, to_mac, FP_MAC_BYTES);
	memcpy(frame + 6, from_mac, FP_MAC_BYTES);
	store16_be(frame + 12, ETHERTYPE_IPV4);
	ipv4_write(frame + ETHERNET_BYTES, ANSWER_TOS, IPV4_BYTES + ICMP_BYTES + quoted, ANSWER_TTL,
		   PROTOCOL_ICMP, from, to);

	icmp = frame + ETHERNET_BYTES + IPV4_BYTES;
	icmp[0] = ICMP_UNREACHABLE;
	icmp[1] = ICMP_FRAGMENTATION_NEEDED;
	store32(icmp + 2, 0);
	store16_be(icmp + ICMP_MTU, (uint16_t)mtu_bytes);
	sum = checksum_sum32(icmp, (ICMP_BYTES + quoted) & ~3u);
	for (uint32_t i = (ICMP_BYTES + quoted) & ~3u; i < ICMP_BYTES + quoted; i++)
		sum += be16((uint16_t)(icmp[i] << (i & 1 ? 0 : 8)));
	store16(icmp + 2, (uint16_t)~checksum_fold(sum));
	p->length = (uint16_t)(IPV4_BYTES + ICMP_BYTES + quoted);
	p->l4_at = ETHERNET_BYTES + IPV4_BYTES;
	p->protocol = PROTOCOL_ICMP;
	p->source_port = be16(ICMP_UNREACHABLE);
	p->destination_port = be16(ICMP_FRAGMENTATION_NEEDED);
	p->flags = (uint8_t)((p->flags & PACKET_TUNNELED) | PACKET_IP);
	return true;
}
