// SPDX-License-Identifier: Apache-2.0
//
// From the frame of a member to a key, one check after the other, with a name for each answer. What
// is usual does not come here (usual.h).
#include "parse.h"

static uint32_t parse_ipv4(struct packet *p, struct rte_mbuf *mbuf, const struct fp_vnet *vnet,
			   const struct fp_port *port, uint64_t destination_mac, uint32_t mtu_bytes,
			   bool believed);
static bool llc_carries_ip(const uint8_t *llc, uint32_t len);
static uint32_t parse_ports(struct packet *p, const uint8_t *l4, uint32_t len);

uint32_t
parse_frame(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, const struct fp_ingress *ingress,
	    const struct fp_port *port, uint32_t mtu_bytes)
{
	const struct fp_vnet *vnet = vnet_at(t, ingress->vnet);
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint32_t len = mbuf->data_len;
	uint64_t destination, source;
	uint16_t ethertype;

	if (unlikely(vnet == NULL || !vnet_live(vnet)))
		return FP_DROP_vnet_gone;
	p->vnet = ingress->vnet;
	if (unlikely(len < ETHERNET_BYTES))
		return FP_DROP_frame_truncated;
	ethertype = load16_be(frame + 12);
	if (unlikely(ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ))
		return p->flags & PACKET_TUNNELED ? FP_DROP_inner_vlan : FP_DROP_vlan_nested;
	destination = load_mac(frame);
	source = load_mac(frame + 6);
	if (unlikely((source == 0 && !ingress_believed(ingress)) || mac_is_group(source)))
		return FP_DROP_bad_source_mac;

	memset(p, 0, offsetof(struct packet, key) + offsetof(struct fp_flow_key, ingress));
	p->length = (uint16_t)RTE_MIN(len - ETHERNET_BYTES, 0xffffu);
	p->protocol = 0;
	p->source_port = p->destination_port = 0;
	if (unlikely(ethertype == ETHERTYPE_ARP))
		return neighbor_parse(p, mbuf);
	if (unlikely(mac_is_group(destination)))
		return destination == MAC_BROADCAST ? FP_DROP_broadcast_not_carried
						    : FP_DROP_multicast_not_carried;
	if (unlikely(ethertype == ETHERTYPE_IPV6))
		return FP_DROP_ipv6_not_carried;
	if (likely(ethertype == ETHERTYPE_IPV4))
		return parse_ipv4(p, mbuf, vnet, port, destination, mtu_bytes, ingress_believed(ingress));
	if ((ethertype < ETHERTYPE_LEAST || ethertype == ETHERTYPE_LLC) &&
	    llc_carries_ip(frame + ETHERNET_BYTES, len - ETHERNET_BYTES))
		return FP_DROP_llc_carries_ip;
	if (mtu_bytes != 0 && len - ETHERNET_BYTES > mtu_bytes)
		return FP_DROP_frame_oversized;
	p->key.key_class = FP_CLASS_MAC;
	memcpy(p->key.source + 10, frame + 6, FP_MAC_BYTES);
	memcpy(p->key.destination + 10, frame, FP_MAC_BYTES);
	return 0;
}

static uint32_t
parse_ipv4(struct packet *p, struct rte_mbuf *mbuf, const struct fp_vnet *vnet, const struct fp_port *port,
	   uint64_t destination_mac, uint32_t mtu_bytes, bool believed)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, ETHERNET_BYTES);
	uint32_t len = mbuf->data_len - ETHERNET_BYTES;
	uint32_t header_bytes, total_bytes, rc;
	uint16_t fragment;
	uint64_t gateway;

	if (unlikely(len < IPV4_BYTES))
		return FP_DROP_frame_truncated;
	if (unlikely(ip[0] >> 4 != 4))
		return FP_DROP_ip_bad_version;
	header_bytes = (ip[0] & 15) * 4;
	total_bytes = load16_be(ip + 2);
	if (unlikely(header_bytes < IPV4_BYTES || total_bytes < header_bytes))
		return FP_DROP_ip_bad_length;
	if (unlikely(total_bytes > len))
		return mtu_bytes != 0 && total_bytes > mtu_bytes ? FP_DROP_ip_truncated_segment
								 : FP_DROP_ip_bad_length;
	if (unlikely(!believed && !checksum_is_right(ip, header_bytes)))
		return FP_DROP_ip_bad_checksum;
	if (unlikely(!believed && (!ipv4_is_unicast(load32(ip + 12)) || !ipv4_is_unicast(load32(ip + 16)))))
		return FP_DROP_ip_bad_address;
	if (unlikely(mtu_bytes != 0 && total_bytes > mtu_bytes))
		return FP_DROP_frame_oversized;
	frame_trim(mbuf, len - total_bytes); // padding
	p->length = (uint16_t)total_bytes;
	p->protocol = ip[9];
	p->flags |= PACKET_IP;
	p->l4_at = (uint16_t)(ETHERNET_BYTES + header_bytes);

	fragment = load16_be(ip + 6);
	if (unlikely(fragment & (IPV4_MF | IPV4_OFFSET))) {
		// The last byte would stand beyond the largest packet there is.
		if ((fragment & IPV4_OFFSET) * 8u + total_bytes - header_bytes > 65535u - header_bytes)
			return FP_DROP_ip_bad_length;
		p->flags |= fragment & IPV4_OFFSET ? PACKET_FRAGMENT | PACKET_LATER : PACKET_FRAGMENT;
	}
	if (likely(!(p->flags & PACKET_LATER))) {
		rc = parse_ports(p, ip + header_bytes, total_bytes - header_bytes);
		if (unlikely(rc != 0))
			return rc;
		if (unlikely(port->partial_checksums) && !(p->flags & PACKET_FRAGMENT))
			checksum_complete(ip, total_bytes);
	}

	gateway = load_mac(vnet->gateway_mac);
	if (destination_mac == gateway && gateway != 0) {
		if (unlikely(ip[8] <= 1))
			return FP_DROP_ttl_exceeded;
		p->flags |= PACKET_ROUTED;
		p->key.key_class = FP_CLASS_ROUTED;
	} else {
		p->key.key_class = FP_CLASS_BRIDGED;
	}
	memcpy(p->key.source + 12, ip + 12, 4);
	memcpy(p->key.destination + 12, ip + 16, 4);
	return 0;
}

// IP, IPv6, ARP or a tag before them, by a second name (RFC 1042, RFC 948): there are receivers that
// take them so, whatever the length field, the control field or the organization code say.
static bool
llc_carries_ip(const uint8_t *llc, uint32_t len)
{
	if (len < LLC_BYTES)
		return false;
	if (llc[0] != LLC_SAP_SNAP)
		return llc[0] == LLC_SAP_IP || llc[0] == LLC_SAP_ARP;
	if (len < SNAP_BYTES)
		return false;
	switch (load16_be(llc + SNAP_BYTES - 2)) {
	case ETHERTYPE_IPV4:
	case ETHERTYPE_ARP:
	case ETHERTYPE_IPV6:
	case ETHERTYPE_VLAN:
	case ETHERTYPE_QINQ:
		return true;
	default:
		return false;
	}
}

static uint32_t
parse_ports(struct packet *p, const uint8_t *l4, uint32_t len)
{
	switch (p->protocol) {
	case PROTOCOL_TCP:
		if (unlikely(len < 20))
			return FP_DROP_l4_truncated;
		break;
	case PROTOCOL_SCTP:
		if (unlikely(len < 12))
			return FP_DROP_l4_truncated;
		break;
	case PROTOCOL_UDP:
	case PROTOCOL_UDPLITE:
		if (unlikely(len < UDP_BYTES))
			return FP_DROP_l4_truncated;
		break;
	case PROTOCOL_ICMP:
		if (unlikely(len < ICMP_BYTES))
			return FP_DROP_l4_truncated;
		p->source_port = be16(l4[0]);
		p->destination_port = be16(l4[1]);
		return 0;
	default:
		return 0;
	}
	p->source_port = load16(l4);
	p->destination_port = load16(l4 + 2);
	if (likely(!(p->flags & PACKET_FRAGMENT)))
		p->flags |= PACKET_PORTS;
	return 0;
}
