// SPDX-License-Identifier: Apache-2.0
//
// Out of a tunnel: VXLAN over IPv4 (RFC 7348). What is not a tunnel packet to this gateway goes to
// the exception port; what pretends to be one ends with a name.
#include "decap.h"
#include "thread.h"

static uint32_t protocol_of(struct fp_thread *t, struct parse_context *context, uint16_t udp_port);
static uint32_t locator_ingress(struct fp_thread *t, const struct parse_context *context, const uint8_t *ip,
				const uint8_t *udp);

// The frame is IPv4 to this port's MAC, in this VLAN; the IP header stands at byte l3. Leaves the inner frame in
// the mbuf.
uint32_t
decap(struct fp_thread *t, struct parse_context *context, struct packet *p, struct rte_mbuf *mbuf,
      uint32_t vlan, uint32_t l3, uint8_t *outer_ecn)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, l3);
	uint32_t len = mbuf->data_len - l3;
	uint32_t header_bytes, total_bytes, udp_bytes, inner_bytes;
	const uint8_t *udp, *vxlan;
	uint16_t fragment;

	// Enough of it to know whether it is for a tunnel: the rest is the kernel's to judge.
	if (unlikely(len < IPV4_BYTES))
		return FP_DROP_frame_truncated;
	if (unlikely(ip[0] >> 4 != 4))
		return FP_DROP_ip_bad_version;
	header_bytes = (ip[0] & 15) * 4;
	if (unlikely(header_bytes < IPV4_BYTES))
		return FP_DROP_ip_bad_length;
	fragment = load16_be(ip + 6);
	if (ip[9] != PROTOCOL_UDP || (fragment & IPV4_OFFSET) || len < header_bytes + UDP_BYTES)
		return PARSE_EXCEPTION;
	udp = ip + header_bytes;
	if (protocol_of(t, context, load16_be(udp + 2)) != FP_PROTOCOL_VXLAN)
		return PARSE_EXCEPTION;

	if (unlikely(!fp_port_is_underlay_vlan(context->port, vlan)))
		return FP_DROP_underlay_vlan;
	if (unlikely(fragment & IPV4_MF))
		return FP_DROP_outer_fragment;
	total_bytes = load16_be(ip + 2);
	if (unlikely(total_bytes > len || total_bytes < header_bytes))
		return FP_DROP_ip_bad_length;
	if (unlikely(!checksum_is_right(ip, header_bytes)))
		return FP_DROP_ip_bad_checksum;
	if (unlikely(!ipv4_is_unicast(load32(ip + 12)) || !ipv4_is_unicast(load32(ip + 16))))
		return FP_DROP_ip_bad_address;
	udp_bytes = load16_be(udp + 4);
	if (unlikely(udp_bytes < UDP_BYTES + VXLAN_BYTES || udp_bytes > total_bytes - header_bytes))
		return FP_DROP_vxlan_malformed;
	vxlan = udp + UDP_BYTES;
	if (unlikely(!(vxlan[0] & 0x08))) // the I flag; what is reserved is ignored (RFC 7348 section 5)
		return FP_DROP_vxlan_malformed;

	p->key.ingress = locator_ingress(t, context, ip, udp);
	if (unlikely(p->key.ingress == 0))
		return FP_DROP_unknown_vtep;
	*outer_ecn = ip[1] & ECN_MASK;
	p->outer_ttl = ip[8];
	p->flags |= PACKET_TUNNELED;
	inner_bytes = udp_bytes - UDP_BYTES - VXLAN_BYTES;
	frame_pull(mbuf, l3 + header_bytes + UDP_BYTES + VXLAN_BYTES);
	frame_trim(mbuf, mbuf->data_len - inner_bytes);
	return 0;
}

// RFC 6040 section 4.2, figure 4: the two ECN fields become one. The inner header was checked.
uint32_t
decap_ecn(struct rte_mbuf *mbuf, uint8_t outer_ecn)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, ETHERNET_BYTES);
	uint8_t inner_ecn = ip[1] & ECN_MASK, ecn = inner_ecn;
	uint16_t old;

	if (likely(outer_ecn == inner_ecn || outer_ecn == ECN_NOT_ECT))
		return 0;
	if (outer_ecn == ECN_CE) {
		if (inner_ecn == ECN_NOT_ECT)
			return FP_DROP_ecn_congested;
		ecn = ECN_CE;
	} else if (outer_ecn == ECN_ECT1 && inner_ecn == ECN_ECT0) {
		ecn = ECN_ECT1;
	}
	if (ecn == inner_ecn)
		return 0;
	old = load16(ip);
	ip[1] = (uint8_t)((ip[1] & ~ECN_MASK) | ecn);
	store16(ip + 10, checksum_update(load16(ip + 10), old, load16(ip)));
	return 0;
}

static uint32_t
protocol_of(struct fp_thread *t, struct parse_context *context, uint16_t udp_port)
{
	if (unlikely(context->udp_port != udp_port || udp_port == 0)) {
		context->udp_port = udp_port;
		context->udp_protocol = fp_protocol_by_udp_port(t->arena, udp_port);
	}
	return context->udp_protocol;
}

// What is found is remembered for those that follow.
static uint32_t
locator_ingress(struct fp_thread *t, const struct parse_context *context, const uint8_t *ip,
		const uint8_t *udp)
{
	uint64_t addresses = load64(ip + 12), vxlan = locator_vxlan(udp + UDP_BYTES);
	struct fp_locator_key key = {.wire_id = be32(load32(udp + UDP_BYTES + 4)) >> 8,
				     .protocol = FP_PROTOCOL_VXLAN};
	const struct fp_ingress *ingress;
	struct locator_seen *seen;
	uint32_t i;

	memcpy(key.local + 12, ip + 16, 4);
	memcpy(key.remote + 12, ip + 12, 4);
	i = fp_ingress_by_locator(t->arena, &key);
	ingress = ingress_at(t, i);
	if (i == 0 || ingress == NULL || ingress->kind != FP_INGRESS_NODE || !ingress_live(ingress)) {
		locator_unknown(t, &key);
		return 0;
	}
	// The older one of the two goes.
	seen = locator_seen_at(t, addresses, vxlan);
	seen[1] = seen[0];
	seen[0] = (struct locator_seen){.addresses = addresses,
					.vxlan = vxlan,
					.udp_port = load16(udp + 2),
					.current = locator_current(t, context->port),
					.inside = inside_of(t, context->port, i, 0)};
	return i;
}
