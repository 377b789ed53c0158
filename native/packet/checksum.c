// SPDX-License-Identifier: Apache-2.0
//
// Checksums that a local kernel left to be completed (af_packet does not say which): the field of TCP
// or UDP then holds the folded sum of the pseudo-header, SCTP's is 0. They may stand in a tunnel of the
// sender's own: the kernel leaves only the innermost one, and has added up those around it as if it
// were complete.
//
// Completing one that was whole and equal to that sum by chance gives the same value again, so nothing
// can be spoiled; and what is taken for a tunnel has to be one in every length, with an IPv4 header
// whose checksum is right.
#include <nmmintrin.h>

#include "../wire/l3_ipv4.h"
#include "stages.h"

#define PROTOCOL_IPIP 4
#define PROTOCOL_GRE 47
#define TUNNELS_DEEP 2 // tunnels in tunnels that are looked into
#define TCP_CHECKSUM 16
#define SCTP_BYTES 12
#define SCTP_CHECKSUM 8
#define GRE_BYTES 4
#define GRE_CHECKSUM 0x8000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_KNOWN (GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE)
#define ETHERTYPE_BRIDGED 0x6558
#define GENEVE_OPTIONS 0x3f
#define VXLAN_ID 0x08
#define TUNNEL_BYTES 8 // of VXLAN and of Geneve without options
#define GPE 0x0c
#define GPE_IPV4 1

static void complete(uint8_t *ip, uint32_t len, uint32_t deep);
static void complete_inner(uint8_t *ip, uint32_t len, uint32_t deep);
static void complete_frame(uint8_t *frame, uint32_t len, uint32_t deep);
static void complete_gre(uint8_t *gre, uint32_t len, uint32_t deep);
static void complete_udp_tunnel(uint8_t *head, uint32_t len, uint32_t deep);
static void complete_sctp(uint8_t *sctp, uint32_t len);
static uint64_t sum_bytes(const uint8_t *p, uint32_t len);

// ip: an IPv4 packet of len bytes, header and L4 header checked, not a fragment.
void
checksum_complete(uint8_t *ip, uint32_t len)
{
	complete(ip, len, 0);
}

static void
complete(uint8_t *ip, uint32_t len, uint32_t deep)
{
	const uint32_t header_bytes = ipv4_header_bytes(ip), l4_bytes = len - header_bytes;
	const uint8_t protocol = ipv4_protocol(ip);
	uint8_t *l4 = ip + header_bytes, *field;
	uint16_t sum;

	switch (protocol) {
	case PROTOCOL_TCP:
		field = l4 + TCP_CHECKSUM;
		if (l4_bytes < TCP_BYTES)
			return;
		break;
	case PROTOCOL_UDP:
		field = l4 + UDP_CHECKSUM;
		if (l4_bytes < UDP_BYTES)
			return;
		complete_udp_tunnel(l4 + UDP_BYTES, l4_bytes - UDP_BYTES, deep); // innermost first
		break;
	case PROTOCOL_SCTP:
		complete_sctp(l4, l4_bytes);
		return;
	case PROTOCOL_IPIP:
		complete_inner(l4, l4_bytes, deep);
		return;
	case PROTOCOL_GRE:
		complete_gre(l4, l4_bytes, deep);
		return;
	default:
		return;
	}
	if (load16(field) != checksum_fold(ipv4_pseudo_sum(ip, l4_bytes)))
		return;
	sum = (uint16_t)~checksum_fold(sum_bytes(l4, l4_bytes));
	if (sum == 0 && protocol == PROTOCOL_UDP)
		sum = 0xffff; // 0 would say "none" (RFC 768)
	store16(field, sum);
}

// What may be an IPv4 packet of exactly len bytes.
static void
complete_inner(uint8_t *ip, uint32_t len, uint32_t deep)
{
	uint32_t header_bytes;

	if (deep == TUNNELS_DEEP || len < IPV4_BYTES || ipv4_version(ip) != 4)
		return;
	header_bytes = ipv4_header_bytes(ip);
	if (header_bytes < IPV4_BYTES || header_bytes > len || ipv4_total_bytes(ip) != len ||
	    !ipv4_is_whole(ip) || !ipv4_checksum_is_right(ip, header_bytes))
		return;
	complete(ip, len, deep + 1);
}

static void
complete_frame(uint8_t *frame, uint32_t len, uint32_t deep)
{
	uint32_t head = ETHERNET_BYTES;

	if (len >= ETHERNET_BYTES + VLAN_BYTES && load16_be(frame + 12) == ETHERTYPE_VLAN)
		head += VLAN_BYTES;
	if (len >= head + IPV4_BYTES && load16_be(frame + head - 2) == ETHERTYPE_IPV4)
		complete_inner(frame + head, len - head, deep);
}

static void
complete_gre(uint8_t *gre, uint32_t len, uint32_t deep)
{
	uint16_t flags, protocol;
	uint32_t head = GRE_BYTES;

	if (len < GRE_BYTES)
		return;
	flags = load16_be(gre);
	protocol = load16_be(gre + 2);
	if ((flags & ~GRE_KNOWN) != 0)
		return;
	for (uint32_t flag = GRE_KNOWN; flag != 0; flag &= flag - 1)
		head += flags & (flag & -flag) ? 4 : 0;
	if (len <= head)
		return;
	if (protocol == ETHERTYPE_IPV4)
		complete_inner(gre + head, len - head, deep);
	else if (protocol == ETHERTYPE_BRIDGED)
		complete_frame(gre + head, len - head, deep);
}

// Geneve with a frame, or VXLAN (GBP and GPE too), at any port.
static void
complete_udp_tunnel(uint8_t *head, uint32_t len, uint32_t deep)
{
	uint32_t bytes = TUNNEL_BYTES;

	if (len < TUNNEL_BYTES || head[7] != 0)
		return;
	if (head[0] >> 6 == 0 && load16_be(head + 2) == ETHERTYPE_BRIDGED)
		bytes += (head[0] & GENEVE_OPTIONS) * 4u;
	else if (!(head[0] & VXLAN_ID))
		return;
	if (len <= bytes)
		return;
	if ((head[0] & GPE) == GPE && head[3] == GPE_IPV4)
		complete_inner(head + bytes, len - bytes, deep);
	else
		complete_frame(head + bytes, len - bytes, deep);
}

// CRC-32C of it all with a checksum of 0 (RFC 9260 section 6.8), low byte first.
static void
complete_sctp(uint8_t *sctp, uint32_t len)
{
	uint64_t crc = UINT32_MAX;
	uint32_t at = 0;

	if (len < SCTP_BYTES || load32(sctp + SCTP_CHECKSUM) != 0)
		return;
	for (; at + 8 <= len; at += 8)
		crc = _mm_crc32_u64(crc, load64(sctp + at));
	for (; at < len; at++)
		crc = _mm_crc32_u8((uint32_t)crc, sctp[at]);
	store32(sctp + SCTP_CHECKSUM, ~(uint32_t)crc);
}

static uint64_t
sum_bytes(const uint8_t *p, uint32_t len)
{
	uint64_t sum = checksum_sum32(p, len & ~3u);

	p += len & ~3u;
	len &= 3;
	if (len >= 2) {
		sum += load16(p);
		p += 2;
	}
	if (len & 1)
		sum += be16((uint16_t)(*p << 8));
	return sum;
}
