// SPDX-License-Identifier: Apache-2.0
//
// Kinds of tunnels (enum fp_protocol), each in a file of its own: here they are told apart, and nowhere else. Who
// writes headers, sums up MTUs, counts bytes or recognizes packets asks the kind (docs/architecture.md, "A kind of
// tunnel"). Any thread.
#pragma once

#include "fp_types.h"
#include "l3_ipv4.h"
#include "tunnel_vxlan.h"

struct tunnel_kind {
	const char *name;
	uint8_t bytes;       // of its header, behind the outer IP header
	uint8_t ip_protocol; // by which that carries it
	bool udp_port;       // peers may choose one
	uint32_t id_max;     // of what V-nets are told apart by on the wire
};

// NULL: there is no such kind.
static inline const struct tunnel_kind *
tunnel_kind(uint32_t protocol)
{
	static const struct tunnel_kind vxlan = {.name = "vxlan",
						 .bytes = VXLAN_BYTES,
						 .ip_protocol = PROTOCOL_UDP,
						 .udp_port = true,
						 .id_max = VXLAN_ID_MAX};

	switch (protocol) {
	case FP_PROTOCOL_VXLAN:
		return &vxlan;
	default:
		return NULL;
	}
}

// The longest inner IP packet, of a tunnel whose IP packets may have mtu_bytes. 0: none fits.
static inline uint16_t
tunnel_inner_mtu_bytes(const struct tunnel_kind *kind, uint32_t mtu_bytes)
{
	const uint32_t around_bytes = IPV4_BYTES + kind->bytes + ETHERNET_BYTES;

	return mtu_bytes > around_bytes ? (uint16_t)(mtu_bytes - around_bytes) : 0;
}

// ---- of a kind that there is -------------------------------------------------------------------

// What all packets of a tunnel have in common behind the outer IP header.
static inline void
tunnel_write(uint32_t protocol, uint8_t *l4, const struct fp_tunnel_info *info)
{
	switch (protocol) {
	case FP_PROTOCOL_VXLAN:
		vxlan_write(l4, info->udp_port);
		return;
	default:
		__builtin_unreachable();
	}
}

// What differs, in front of a frame of inner_bytes at `inner`. Returns where the kind's header begins.
static inline uint8_t *
tunnel_patch(uint32_t protocol, uint8_t *inner, uint32_t inner_bytes, uint32_t id, uint32_t entropy)
{
	switch (protocol) {
	case FP_PROTOCOL_VXLAN:
		return vxlan_patch(inner, inner_bytes, id, entropy);
	default:
		__builtin_unreachable();
	}
}

// Packets of one V-net from one peer, whole and to one port, are alike in this.
static inline uint64_t
tunnel_name(uint32_t protocol, const uint8_t *l4)
{
	switch (protocol) {
	case FP_PROTOCOL_VXLAN:
		return vxlan_name(l4);
	default:
		__builtin_unreachable();
	}
}

// What a packet with so many bytes behind its IP header carries: its id and the length of its frame. The kind's header was found by
// as much as told it apart. false: it is none of
// this kind.
static inline bool
tunnel_read(uint32_t protocol, const uint8_t *l4, uint32_t l4_bytes, uint32_t *id, uint32_t *inner_bytes)
{
	switch (protocol) {
	case FP_PROTOCOL_VXLAN:
		return vxlan_read(l4, l4_bytes, id, inner_bytes);
	default:
		__builtin_unreachable();
	}
}
