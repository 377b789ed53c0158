// SPDX-License-Identifier: Apache-2.0
//
// From the frame of a member to a key, one check after the other, with a name for each answer. What
// is usual does not come here (l3_ipv4_usual.h).
#include "l3.h"
#include "receive.h"
#include "stages.h"
#include "tables.h"

static bool llc_carries_ip(const uint8_t *llc, uint32_t len);

uint32_t
inner_parse(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, const struct fp_ingress *ingress,
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
		return ipv4_parse(p, mbuf, vnet, port, destination, mtu_bytes, ingress_believed(ingress));
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
