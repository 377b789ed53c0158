// SPDX-License-Identifier: Apache-2.0
//
// An IPv4 header (RFC 791): the only file that knows where things stand in one. Each function has its twin in
// any other layer-3 family (docs/architecture.md, "A layer-3 family"); `ip` points at the header, whose bytes
// were checked to be there. Addresses stay in wire order, numbers are in host order. Any thread.
#pragma once

#include "wire.h"

#define IPV4_BYTES 20
#define IPV4_DF 0x4000
#define IPV4_MF 0x2000
#define IPV4_OFFSET 0x1fff

enum {
	IPV4_TOS = 1,
	IPV4_TOTAL = 2,
	IPV4_ID = 4,
	IPV4_FRAGMENT = 6,
	IPV4_TTL = 8,
	IPV4_PROTOCOL = 9,
	IPV4_CHECKSUM = 10,
	IPV4_SOURCE = 12,
	IPV4_DESTINATION = 16,
};

static inline uint32_t
ipv4_version(const uint8_t *ip)
{
	return ip[0] >> 4;
}
static inline uint32_t
ipv4_header_bytes(const uint8_t *ip)
{
	return (ip[0] & 15) * 4u;
}
static inline uint32_t
ipv4_total_bytes(const uint8_t *ip)
{
	return load16_be(ip + IPV4_TOTAL);
}
// Flags and offset: IPV4_DF, IPV4_MF, IPV4_OFFSET.
static inline uint32_t
ipv4_fragment(const uint8_t *ip)
{
	return load16_be(ip + IPV4_FRAGMENT);
}
static inline bool
ipv4_is_whole(const uint8_t *ip)
{
	return (ipv4_fragment(ip) & (IPV4_MF | IPV4_OFFSET)) == 0;
}
// What all fragments of one datagram have in common, as it lies in the header.
static inline uint32_t
ipv4_datagram_id(const uint8_t *ip)
{
	return load16(ip + IPV4_ID);
}
static inline uint8_t
ipv4_protocol(const uint8_t *ip)
{
	return ip[IPV4_PROTOCOL];
}
static inline uint32_t
ipv4_hops_left(const uint8_t *ip)
{
	return ip[IPV4_TTL];
}
static inline uint32_t
ipv4_source(const uint8_t *ip)
{
	return load32(ip + IPV4_SOURCE);
}
static inline uint32_t
ipv4_destination(const uint8_t *ip)
{
	return load32(ip + IPV4_DESTINATION);
}
// Both addresses, to hash.
static inline uint64_t
ipv4_addresses(const uint8_t *ip)
{
	return load64(ip + IPV4_SOURCE);
}
// DSCP and ECN (RFC 2474, RFC 3168).
static inline uint32_t
ipv4_traffic_class(const uint8_t *ip)
{
	return ip[IPV4_TOS];
}

// Unicast in the sense of RFC 1122 3.2.1.3: not "this network", loopback, multicast or reserved.
static inline bool
ipv4_is_unicast(uint32_t address)
{
	uint8_t first = (uint8_t)(be32(address) >> 24);

	return first != 0 && first != 127 && first < 224;
}

// Whether a header of so many bytes has the right checksum. Nearly all have 20.
static inline bool
ipv4_checksum_is_right(const uint8_t *ip, uint32_t header_bytes)
{
	uint64_t sum =
		(uint64_t)load32(ip) + load32(ip + 4) + load32(ip + 8) + load32(ip + 12) + load32(ip + 16);

	if (__builtin_expect(header_bytes != IPV4_BYTES, 0))
		sum += checksum_sum32(ip + IPV4_BYTES, header_bytes - IPV4_BYTES);
	return checksum_fold(sum) == 0xffff;
}

// Of TCP and UDP: the sum that their checksum begins with (RFC 9293 section 3.1), not folded.
static inline uint64_t
ipv4_pseudo_sum(const uint8_t *ip, uint32_t l4_bytes)
{
	return checksum_sum32(ip + IPV4_SOURCE, 8) + be16(ip[IPV4_PROTOCOL]) + be16((uint16_t)l4_bytes);
}

// One less in the TTL is one more in the checksum (RFC 1141), whose 0xffff is written 0 (RFC 1624).
static inline void
ipv4_take_hop(uint8_t *ip)
{
	uint32_t sum = load16(ip + IPV4_CHECKSUM) + 1u;

	ip[IPV4_TTL]--;
	store16(ip + IPV4_CHECKSUM, (uint16_t)(sum + (sum >= 0xffff)));
}

static inline void
ipv4_ecn_set(uint8_t *ip, uint32_t ecn)
{
	uint16_t old = load16(ip);

	ip[IPV4_TOS] = (uint8_t)((ip[IPV4_TOS] & ~ECN_MASK) | ecn);
	store16(ip + IPV4_CHECKSUM, checksum_update(load16(ip + IPV4_CHECKSUM), old, load16(ip)));
}

// A whole header without options, its checksum right. Addresses in wire order. The packet is atomic, so its id
// may be 0 (RFC 6864 section 4.1).
static inline void
ipv4_write(uint8_t *ip, uint32_t traffic_class, uint32_t total_bytes, uint32_t ttl, uint32_t protocol,
	   uint32_t source, uint32_t destination)
{
	ip[0] = 0x45;
	ip[IPV4_TOS] = (uint8_t)traffic_class;
	store16_be(ip + IPV4_TOTAL, (uint16_t)total_bytes);
	store16(ip + IPV4_ID, 0);
	store16_be(ip + IPV4_FRAGMENT, IPV4_DF);
	ip[IPV4_TTL] = (uint8_t)ttl;
	ip[IPV4_PROTOCOL] = (uint8_t)protocol;
	store16(ip + IPV4_CHECKSUM, 0);
	store32(ip + IPV4_SOURCE, source);
	store32(ip + IPV4_DESTINATION, destination);
	store16(ip + IPV4_CHECKSUM, (uint16_t)~checksum_fold(checksum_sum32(ip, IPV4_BYTES)));
}

// An outer header is written once (ipv4_write) and patched for each packet. What of its sum is the same for all:
// all but traffic class, length and checksum.
static inline uint16_t
ipv4_outer_base(const uint8_t *ip)
{
	uint64_t sum = load16(ip) & 0xff;

	for (uint32_t i = IPV4_ID; i < IPV4_BYTES; i += 2)
		if (i != IPV4_CHECKSUM)
			sum += load16(ip + i);
	return checksum_fold(sum);
}

// Traffic class, length, a TTL below the header's own, and the checksum with them.
static inline void
ipv4_outer_patch(uint8_t *ip, uint32_t base, uint32_t traffic_class, uint32_t total_bytes, uint32_t ttl,
		 uint32_t own_ttl)
{
	const uint16_t total = be16((uint16_t)total_bytes);
	uint32_t sum = base + (traffic_class << 8) + total;

	ip[IPV4_TOS] = (uint8_t)traffic_class;
	store16(ip + IPV4_TOTAL, total);
	if (__builtin_expect(ttl < own_ttl, 0)) {
		ip[IPV4_TTL] = (uint8_t)ttl;
		sum += (uint16_t)~own_ttl;
		sum += ttl;
	}
	sum += sum << 16 | sum >> 16; // folds: what a rotated copy adds is the carry
	store16(ip + IPV4_CHECKSUM, (uint16_t)(~sum >> 16));
}
