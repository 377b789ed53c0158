// SPDX-License-Identifier: Apache-2.0
//
// What is not for a tunnel: frames for this gateway itself go to housekeeping, which hands them to
// the kernel; an outer source that nobody announced makes one question.
//
// What the underlay stands on (neighbours' addresses, routing, liveness, keys) has a rate and places
// of the ring of its own: whatever else anybody sends to this address cannot take them.
#include "../wire/l3_ipv4.h"
#include "../wire/l3_ipv6.h"
#include "stages.h"

enum { PROTOCOL_ICMPV6 = 58, PROTOCOL_OSPF = 89, PROTOCOL_VRRP = 112 };
enum {
	PORT_BGP = 179,
	PORT_IKE = 500,
	PORT_BFD = 3784,
	PORT_BFD_ECHO = 3785,
	PORT_IKE_NAT = 4500,
	PORT_BFD_MULTIHOP = 4784
};
enum { ND_FIRST = 133, ND_LAST = 137 }; // RFC 4861: router solicitation .. redirect

static bool is_control(const uint8_t *frame, uint32_t len);
static bool is_control_ipv4(const uint8_t *ip, uint32_t len);
static bool is_control_l4(uint8_t protocol, const uint8_t *l4, uint32_t len);

void
exception(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, ETHERNET_BYTES);
	uint32_t len = mbuf->data_len, header_bytes, total_bytes;
	bool control;

	if (port->partial_checksums && len >= ETHERNET_BYTES + IPV4_BYTES &&
	    load16_be(frame + 12) == ETHERTYPE_IPV4) {
		header_bytes = ipv4_header_bytes(ip);
		total_bytes = ipv4_total_bytes(ip);
		if (ipv4_version(ip) == 4 && header_bytes >= IPV4_BYTES && total_bytes >= header_bytes &&
		    total_bytes <= len - ETHERNET_BYTES && ipv4_is_whole(ip))
			checksum_complete(ip, total_bytes);
	}
	mbuf->port = port->index;
	control = is_control(frame, len);
	if ((!control && rte_ring_free_count(t->exceptions) <= EXCEPTION_SLOTS_CONTROL) ||
	    !rate_take(&t->exceptions_paid_ns[control], t->now_ns, t->exceptions_per_s) ||
	    rte_ring_sp_enqueue_elem(t->exceptions, &mbuf, sizeof(mbuf)) != 0) {
		drop(t, mbuf, 0, control ? FP_DROP_exception_control_full : FP_DROP_exception_full);
		return;
	}
	t->counters.exceptions++;
	t->counters.port[port->index].exceptions++;
}

// Ends of what cannot be read count as the rest.
static bool
is_control(const uint8_t *frame, uint32_t len)
{
	uint32_t at = ETHERNET_BYTES;
	uint16_t ethertype;

	if (len < at)
		return false;
	ethertype = load16_be(frame + 12);
	if (ethertype == ETHERTYPE_VLAN && len >= at + VLAN_BYTES) {
		ethertype = load16_be(frame + 16);
		at += VLAN_BYTES;
	}
	if (ethertype == ETHERTYPE_ARP)
		return true;
	if (ethertype == ETHERTYPE_IPV4)
		return is_control_ipv4(frame + at, len - at);
	return ethertype == ETHERTYPE_IPV6 && len - at >= IPV6_BYTES &&
	       is_control_l4(ipv6_next_header(frame + at), frame + at + IPV6_BYTES, len - at - IPV6_BYTES);
}

static bool
is_control_ipv4(const uint8_t *ip, uint32_t len)
{
	uint32_t header_bytes;

	if (len < IPV4_BYTES)
		return false;
	header_bytes = ipv4_header_bytes(ip);
	if (ipv4_version(ip) != 4 || header_bytes < IPV4_BYTES || header_bytes > len)
		return false;
	if (ipv4_fragment(ip) & IPV4_OFFSET) // no ports in it
		len = header_bytes;
	return is_control_l4(ipv4_protocol(ip), ip + header_bytes, len - header_bytes);
}

static bool
is_control_l4(uint8_t protocol, const uint8_t *l4, uint32_t len)
{
	if (protocol == PROTOCOL_OSPF || protocol == PROTOCOL_VRRP)
		return true;
	if (protocol == PROTOCOL_ICMPV6)
		return len > 0 && l4[0] >= ND_FIRST && l4[0] <= ND_LAST;
	if (len < 4)
		return false;
	if (protocol == PROTOCOL_TCP) // whichever end opened it
		return load16_be(l4) == PORT_BGP || load16_be(l4 + 2) == PORT_BGP;
	if (protocol != PROTOCOL_UDP)
		return false;
	switch (load16_be(l4 + 2)) {
	case PORT_IKE:
	case PORT_IKE_NAT:
	case PORT_BFD:
	case PORT_BFD_ECHO:
	case PORT_BFD_MULTIHOP:
		return true;
	default:
		return false;
	}
}

// One UNKNOWN_LOCATOR record, then silence about this locator for a while, and few in all.
void
locator_unknown(struct fp_thread *t, const struct fp_locator_key *key)
{
	struct locator_asked *asked;
	struct fp_record_locator record = {
		.head = {.type = FP_RECORD_UNKNOWN_LOCATOR, .version = FP_RECORD_VERSION},
		.key = *key,
	};

	asked = &t->locator[fp_hash_bytes(&t->secret, key, sizeof(*key)) % LOCATOR_SLOTS];
	if (asked->until_ns > t->now_ns && memcmp(&asked->key, key, sizeof(*key)) == 0)
		return;
	if (!rate_take(&t->locators_paid_ns, t->now_ns, LOCATORS_PER_S))
		return;
	if (!worker_write(t, 0, (const struct fp_record *)&record))
		return;
	asked->key = *key;
	asked->until_ns = t->now_ns + LOCATOR_QUIET_NS;
}
