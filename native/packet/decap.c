// SPDX-License-Identifier: Apache-2.0
//
// Out of a tunnel, whatever kind it is of (wire/tunnel_kind.h). What is not a tunnel packet to this gateway goes to
// the exception port; what pretends to be one ends with a name.
#include "../wire/tunnel_kind.h"
#include "decap.h"
#include "inside.h"
#include "l3.h"
#include "receive.h"
#include "stages.h"
#include "tables.h"

static uint32_t protocol_of(struct fp_thread *t, struct receive_context *context, uint32_t ip_protocol,
			    const uint8_t *l4, uint32_t l4_bytes);
static uint32_t locator_ingress(struct fp_thread *t, const struct receive_context *context, uint32_t protocol,
				uint32_t id, const uint8_t *ip, const uint8_t *l4);

uint32_t
decap(struct fp_thread *t, struct receive_context *context, struct packet *p, struct rte_mbuf *mbuf,
      uint32_t vlan, uint32_t l3_at, struct outer *outer)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, l3_at), *l4;
	uint32_t len = mbuf->data_len - l3_at;
	uint32_t header_bytes, total_bytes, inner_bytes, protocol, id;

	// Enough of it to know whether it is for a tunnel: the rest is the kernel's to judge.
	if (unlikely(len < IPV4_BYTES))
		return FP_DROP_frame_truncated;
	if (unlikely(ipv4_version(ip) != 4))
		return FP_DROP_ip_bad_version;
	header_bytes = ipv4_header_bytes(ip);
	if (unlikely(header_bytes < IPV4_BYTES))
		return FP_DROP_ip_bad_length;
	if (unlikely((ipv4_fragment(ip) & IPV4_OFFSET) || len < header_bytes))
		return RECEIVE_EXCEPTION;
	l4 = ip + header_bytes;
	protocol = protocol_of(t, context, ipv4_protocol(ip), l4, len - header_bytes);
	if (protocol == 0)
		return RECEIVE_EXCEPTION;

	if (unlikely(!fp_port_is_underlay_vlan(context->port, vlan)))
		return FP_DROP_underlay_vlan;
	if (unlikely(!ipv4_is_whole(ip)))
		return FP_DROP_outer_fragment;
	total_bytes = ipv4_total_bytes(ip);
	if (unlikely(total_bytes > len || total_bytes < header_bytes))
		return FP_DROP_ip_bad_length;
	if (unlikely(!ipv4_checksum_is_right(ip, header_bytes)))
		return FP_DROP_ip_bad_checksum;
	if (unlikely(!ipv4_is_unicast(ipv4_source(ip)) || !ipv4_is_unicast(ipv4_destination(ip))))
		return FP_DROP_ip_bad_address;
	if (unlikely(!tunnel_read(protocol, l4, total_bytes - header_bytes, &id, &inner_bytes)))
		return FP_DROP_tunnel_malformed;

	p->key.ingress = locator_ingress(t, context, protocol, id, ip, l4);
	if (unlikely(p->key.ingress == 0))
		return FP_DROP_unknown_vtep;
	outer->traffic_class = ipv4_traffic_class(ip);
	outer->hops_left = ipv4_hops_left(ip);
	outer->bytes = l3_at + header_bytes + tunnel_kind(protocol)->bytes;
	p->flags |= PACKET_TUNNELED;
	frame_pull(mbuf, outer->bytes);
	frame_trim(mbuf, mbuf->data_len - inner_bytes);
	return 0;
}

// enum fp_protocol of what an IP header carries, for so many bytes; 0: no tunnel.
static uint32_t
protocol_of(struct fp_thread *t, struct receive_context *context, uint32_t ip_protocol, const uint8_t *l4,
	    uint32_t l4_bytes)
{
	uint16_t udp_port;

	if (ip_protocol != PROTOCOL_UDP || l4_bytes < UDP_BYTES)
		return 0;
	udp_port = load16_be(l4 + UDP_DESTINATION);
	if (unlikely(context->udp_port != udp_port || udp_port == 0)) {
		context->udp_port = udp_port;
		context->udp_protocol = fp_protocol_by_udp_port(t->arena, udp_port);
	}
	return context->udp_protocol;
}

// What is found is remembered for those that follow.
static uint32_t
locator_ingress(struct fp_thread *t, const struct receive_context *context, uint32_t protocol, uint32_t id,
		const uint8_t *ip, const uint8_t *l4)
{
	const uint64_t addresses = ipv4_addresses(ip), name = tunnel_name(protocol, l4);
	struct fp_locator_key key = {.wire_id = id, .protocol = (uint8_t)protocol};
	const struct fp_ingress *ingress;
	struct locator_seen *seen;
	uint32_t i;

	store32(key.local + 12, ipv4_destination(ip));
	store32(key.remote + 12, ipv4_source(ip));
	i = fp_ingress_by_locator(t->arena, &key);
	ingress = ingress_at(t, i);
	if (i == 0 || ingress == NULL || ingress->kind != FP_INGRESS_NODE || !ingress_live(ingress)) {
		locator_unknown(t, &key);
		return 0;
	}
	// The older one of the two goes.
	seen = locator_seen_at(t, addresses, name);
	seen[1] = seen[0];
	seen[0] = (struct locator_seen){
		.addresses = addresses,
		.name = name,
		.udp_port = tunnel_kind(protocol)->udp_port ? load16(l4 + UDP_DESTINATION) : 0,
		.current = locator_current(t, context->port),
		.inside = inside_of(t, context->port, i, 0)};
	return i;
}
