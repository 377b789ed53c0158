// SPDX-License-Identifier: Apache-2.0
//
// From a frame to a key. Everything in a frame is hostile: every length is checked before the bytes
// behind it are read, and what is wrong ends with a name. The order of the checks is that of
// docs/architecture.md, "Journey of a packet".
#include "thread.h"

static uint32_t parse_inside(struct fp_thread *t, struct parse_context *context, struct packet *p,
			     uint32_t vlan, uint32_t tag_bytes);
static uint32_t parse_underlay(struct fp_thread *t, struct parse_context *context, struct packet *p,
			       uint16_t ethertype, uint32_t tag_bytes);
static uint32_t parse_ipv4(struct fp_thread *t, struct packet *p, const struct fp_vnet *vnet,
			   const struct fp_port *port, uint64_t destination_mac,
			   uint32_t mtu_bytes);
static uint32_t parse_ports(struct packet *p, const uint8_t *l4, uint32_t len);
static uint32_t attachment_of(struct fp_thread *t, struct parse_context *context, uint32_t vlan);

void
parse_begin(struct parse_context *context, const struct fp_port *port)
{
	*context = (struct parse_context){
		.port = port,
		.port_mac = load_mac(port->mac.addr_bytes),
		.vlan = UINT32_MAX,
	};
}

uint32_t
parse_port(struct fp_thread *t, struct parse_context *context, struct packet *p)
{
	const uint8_t *frame;
	uint32_t len, vlan = 0, tag_bytes = 0;
	uint16_t ethertype;

	p->flags = 0;
	p->vnet = 0;
	p->port = (uint8_t)context->port->index;
	if (unlikely(p->mbuf->nb_segs > 1) && rte_pktmbuf_linearize(p->mbuf) != 0)
		return FP_DROP_no_buffer;
	frame = rte_pktmbuf_mtod(p->mbuf, const uint8_t *);
	len = p->mbuf->data_len;
	if (unlikely(len < ETHERNET_BYTES))
		return FP_DROP_frame_truncated;
	ethertype = load16_be(frame + 12);
	if (ethertype == ETHERTYPE_VLAN) {
		if (unlikely(len < ETHERNET_BYTES + VLAN_BYTES))
			return FP_DROP_frame_truncated;
		vlan = load16_be(frame + 14) & 0xfff;
		ethertype = load16_be(frame + 16);
		tag_bytes = VLAN_BYTES;
	}
	if (context->port->role == FP_PORT_UNDERLAY)
		return parse_underlay(t, context, p, ethertype, tag_bytes);
	if (context->port->role == FP_PORT_BOTH && attachment_of(t, context, vlan) == 0)
		return parse_underlay(t, context, p, ethertype, tag_bytes);
	if (unlikely(ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ))
		return FP_DROP_vlan_nested;
	return parse_inside(t, context, p, vlan, tag_bytes);
}

static uint32_t
parse_inside(struct fp_thread *t, struct parse_context *context, struct packet *p, uint32_t vlan,
	     uint32_t tag_bytes)
{
	uint32_t ingress = attachment_of(t, context, vlan);

	if (unlikely(ingress == 0))
		return FP_DROP_no_attachment;
	if (tag_bytes != 0) {
		uint8_t *frame = rte_pktmbuf_mtod(p->mbuf, uint8_t *);

		memmove(frame + VLAN_BYTES, frame, 12);
		rte_pktmbuf_adj(p->mbuf, VLAN_BYTES);
	}
	p->key.ingress = ingress;
	return parse_frame(t, p, &t->view.ingress[ingress], context->port,
			   context->port->mtu_bytes);
}

static uint32_t
parse_underlay(struct fp_thread *t, struct parse_context *context, struct packet *p,
	       uint16_t ethertype, uint32_t tag_bytes)
{
	const uint8_t *frame = rte_pktmbuf_mtod(p->mbuf, const uint8_t *);
	uint64_t destination = load_mac(frame);
	uint8_t outer_ecn;
	uint32_t rc;

	if (destination != context->port_mac)
		return mac_is_group(destination) ? PARSE_EXCEPTION : FP_DROP_not_for_this_mac;
	if (ethertype != ETHERTYPE_IPV4)
		return PARSE_EXCEPTION;
	rc = decap(t, context, p, ETHERNET_BYTES + tag_bytes, &outer_ecn);
	if (unlikely(rc != 0))
		return rc;
	rc = parse_frame(t, p, &t->view.ingress[p->key.ingress], context->port, 0);
	if (unlikely(rc != 0))
		return rc;
	return p->flags & PACKET_IP ? decap_ecn(p, outer_ecn) : 0;
}

uint32_t
parse_frame(struct fp_thread *t, struct packet *p, const struct fp_ingress *ingress,
	    const struct fp_port *port, uint32_t mtu_bytes)
{
	const struct fp_vnet *vnet = vnet_at(t, ingress->vnet);
	const uint8_t *frame = rte_pktmbuf_mtod(p->mbuf, const uint8_t *);
	uint32_t len = p->mbuf->data_len;
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
	if (unlikely(source == 0 || mac_is_group(source)))
		return FP_DROP_bad_source_mac;

	memset(p->key.source, 0, offsetof(struct fp_flow_key, ingress));
	p->length = (uint16_t)RTE_MIN(len - ETHERNET_BYTES, 0xffffu);
	p->protocol = 0;
	p->source_port = p->destination_port = 0;
	if (unlikely(ethertype == ETHERTYPE_ARP))
		return neighbor_parse(p, frame, len);
	if (unlikely(mac_is_group(destination)))
		return destination == MAC_BROADCAST ? FP_DROP_broadcast_not_carried
						    : FP_DROP_multicast_not_carried;
	if (unlikely(ethertype == ETHERTYPE_IPV6))
		return FP_DROP_ipv6_not_carried;
	if (likely(ethertype == ETHERTYPE_IPV4))
		return parse_ipv4(t, p, vnet, port, destination, mtu_bytes);
	if (mtu_bytes != 0 && len - ETHERNET_BYTES > mtu_bytes)
		return FP_DROP_frame_oversized;
	p->key.key_class = FP_CLASS_MAC;
	memcpy(p->key.source + 10, frame + 6, FP_MAC_BYTES);
	memcpy(p->key.destination + 10, frame, FP_MAC_BYTES);
	return 0;
}

static uint32_t
parse_ipv4(struct fp_thread *t, struct packet *p, const struct fp_vnet *vnet,
	   const struct fp_port *port, uint64_t destination_mac, uint32_t mtu_bytes)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(p->mbuf, uint8_t *, ETHERNET_BYTES);
	uint32_t len = p->mbuf->data_len - ETHERNET_BYTES;
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
	if (unlikely(!checksum_is_right(ip, header_bytes)))
		return FP_DROP_ip_bad_checksum;
	if (unlikely(!ipv4_is_unicast(load32(ip + 12)) || !ipv4_is_unicast(load32(ip + 16))))
		return FP_DROP_ip_bad_address;
	if (unlikely(mtu_bytes != 0 && total_bytes > mtu_bytes))
		return FP_DROP_frame_oversized;
	if (len != total_bytes) { // padding
		p->mbuf->data_len = (uint16_t)(total_bytes + ETHERNET_BYTES);
		p->mbuf->pkt_len = total_bytes + ETHERNET_BYTES;
	}
	p->length = (uint16_t)total_bytes;
	p->protocol = ip[9];
	p->flags |= PACKET_IP;

	fragment = load16_be(ip + 6);
	if (unlikely(fragment & (IPV4_MF | IPV4_OFFSET))) {
		// The last byte would stand beyond the largest packet there is.
		if ((fragment & IPV4_OFFSET) * 8u + total_bytes - header_bytes >
		    65535u - header_bytes)
			return FP_DROP_ip_bad_length;
		p->flags |=
			fragment & IPV4_OFFSET ? PACKET_FRAGMENT | PACKET_LATER : PACKET_FRAGMENT;
	}
	if (likely(!(p->flags & PACKET_LATER))) {
		rc = parse_ports(p, ip + header_bytes, total_bytes - header_bytes);
		if (unlikely(rc != 0))
			return rc;
		if (unlikely(p->flags & PACKET_FRAGMENT))
			fragment_remember(t, p, load16(ip + 4));
		else if (unlikely(port->partial_checksums))
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
		p->source_port = rte_cpu_to_be_16(l4[0]);
		p->destination_port = rte_cpu_to_be_16(l4[1]);
		return 0;
	default:
		return 0;
	}
	p->source_port = load16(l4);
	p->destination_port = load16(l4 + 2);
	return 0;
}

// Index of the live attachment of (port, VLAN), 0 if there is none.
static uint32_t
attachment_of(struct fp_thread *t, struct parse_context *context, uint32_t vlan)
{
	const struct fp_ingress *ingress;
	uint32_t i;

	if (context->vlan == vlan)
		return context->vlan_ingress;
	i = fp_ingress_by_vlan(t->arena, context->port->index, vlan);
	ingress = ingress_at(t, i);
	if (ingress == NULL || ingress->kind != FP_INGRESS_ATTACHMENT ||
	    !ingress_live(ingress))
		i = 0;
	context->vlan = vlan;
	context->vlan_ingress = i;
	return i;
}
