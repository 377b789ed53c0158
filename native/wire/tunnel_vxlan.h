// SPDX-License-Identifier: Apache-2.0
//
// VXLAN (RFC 7348 section 5): UDP, and eight bytes with the id of the V-net. All that is VXLAN's alone: the header
// that the writer makes once for each tunnel, what a poll thread patches in it for each packet, how a packet of it
// is recognized. `l4` points at the UDP header. Any thread.
#pragma once

#include "wire.h"

#define VXLAN_BYTES (UDP_BYTES + 8) // behind the outer IP header
#define VXLAN_ID_MAX 0xffffffu

enum { VXLAN_FLAGS = UDP_BYTES, VXLAN_ID = UDP_BYTES + 4 };
#define VXLAN_FLAG_ID 0x08

// The flag and the id, as they lie in the eight bytes of a header; what is reserved is ignored.
#define VXLAN_NAME_MASK 0x00ffffff00000008ull
// Entropy: the source port, out of the dynamic ones (RFC 7348 section 5).
#define VXLAN_PORT_BASE 49152
#define VXLAN_PORT_MASK 0x3fff

// What all packets of a tunnel have in common; lengths, source port and id are zero. No checksum: RFC 7348
// section 5.
static inline void
vxlan_write(uint8_t *l4, uint16_t udp_port)
{
	memset(l4, 0, VXLAN_BYTES);
	store16_be(l4 + UDP_DESTINATION, udp_port);
	l4[VXLAN_FLAGS] = VXLAN_FLAG_ID;
}

// In front of a frame of inner_bytes at `inner`. Returns its l4.
static inline uint8_t *
vxlan_patch(uint8_t *inner, uint32_t inner_bytes, uint32_t id, uint32_t entropy)
{
	uint8_t *l4 = inner - VXLAN_BYTES;

	store16_be(l4 + UDP_SOURCE, (uint16_t)(VXLAN_PORT_BASE | (entropy & VXLAN_PORT_MASK)));
	store16_be(l4 + UDP_LENGTH, (uint16_t)(VXLAN_BYTES + inner_bytes));
	store32(l4 + VXLAN_ID, be32(id << 8));
	return l4;
}

// Packets of one V-net from one peer are alike in this: the id and its flag, as they lie in the header.
static inline uint64_t
vxlan_name(const uint8_t *l4)
{
	return load64(l4 + VXLAN_FLAGS) & VXLAN_NAME_MASK;
}

// Whether a packet with so many bytes behind its IP header ends where it says.
static inline bool
vxlan_fits(const uint8_t *l4, uint32_t l4_bytes)
{
	return load16(l4 + UDP_LENGTH) == be16((uint16_t)l4_bytes);
}

// The id and the length of the frame behind the header, of a packet with so many bytes behind its IP header. false:
// it is none of VXLAN.
static inline bool
vxlan_read(const uint8_t *l4, uint32_t l4_bytes, uint32_t *id, uint32_t *inner_bytes)
{
	uint32_t udp_bytes = load16_be(l4 + UDP_LENGTH);

	if (udp_bytes < VXLAN_BYTES || udp_bytes > l4_bytes || !(l4[VXLAN_FLAGS] & VXLAN_FLAG_ID))
		return false;
	*id = be32(load32(l4 + VXLAN_ID)) >> 8;
	*inner_bytes = udp_bytes - VXLAN_BYTES;
	return true;
}
