// SPDX-License-Identifier: Apache-2.0
//
// Frames for tests, put together header by header; each call returns how many bytes it wrote. Multi-byte arguments
// are in host order, addresses as they stand on the wire.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FRAME_ETHERTYPE_IPV4 0x0800
#define FRAME_ETHERTYPE_ARP 0x0806
#define FRAME_VXLAN_PORT 4789

static inline void
frame_put16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static inline uint32_t
frame_get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

// RFC 1071, complemented.
static inline uint16_t
frame_sum(const uint8_t *p, size_t len_bytes)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < len_bytes; i += 2)
		sum += frame_get16(p + i);
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

// vlan 0: untagged.
static inline size_t
frame_ethernet(uint8_t *p, const uint8_t *to, const uint8_t *from, uint32_t vlan, uint32_t ethertype)
{
	size_t at = 12;

	memcpy(p, to, 6);
	memcpy(p + 6, from, 6);
	if (vlan != 0) {
		frame_put16(p + at, 0x8100);
		frame_put16(p + at + 2, vlan);
		at += 4;
	}
	frame_put16(p + at, ethertype);
	return at + 2;
}

// flags: the two bytes with DF, MF and the fragment's offset.
static inline size_t
frame_ipv4(uint8_t *p, const uint8_t *source, const uint8_t *destination, uint8_t protocol, uint32_t flags,
	   size_t payload_bytes)
{
	memset(p, 0, 20);
	p[0] = 0x45;
	frame_put16(p + 2, (uint32_t)(20 + payload_bytes));
	frame_put16(p + 4, 9);
	frame_put16(p + 6, flags);
	p[8] = 64;
	p[9] = protocol;
	memcpy(p + 12, source, 4);
	memcpy(p + 16, destination, 4);
	frame_put16(p + 10, frame_sum(p, 20));
	return 20;
}

static inline size_t
frame_udp(uint8_t *p, uint32_t source_port, uint32_t destination_port, size_t payload_bytes)
{
	memset(p, 0, 8);
	frame_put16(p, source_port);
	frame_put16(p + 2, destination_port);
	frame_put16(p + 4, (uint32_t)(8 + payload_bytes));
	return 8;
}

static inline size_t
frame_vxlan(uint8_t *p, uint32_t vni)
{
	memset(p, 0, 8);
	p[0] = 8;
	p[4] = (uint8_t)(vni >> 16);
	frame_put16(p + 5, vni);
	return 8;
}

// A request, with the padding of a shortest frame left to the caller.
static inline size_t
frame_arp_request(uint8_t *p, const uint8_t *asker_mac, const uint8_t *asker, const uint8_t *asked)
{
	memcpy(p, "\0\1\x08\0\6\4\0\1", 8);
	memcpy(p + 8, asker_mac, 6);
	memcpy(p + 14, asker, 4);
	memset(p + 18, 0, 6);
	memcpy(p + 24, asked, 4);
	return 28;
}
