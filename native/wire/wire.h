// SPDX-License-Identifier: Apache-2.0
//
// Fields of packets, for who reads and who writes them: unaligned loads and stores, and the Internet checksum (RFC 1071, RFC 1624).
// Values stay in wire order unless a name says otherwise. Any thread.
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ETHERNET_BYTES 14
#define VLAN_BYTES 4
#define TCP_BYTES 20
#define UDP_BYTES 8
#define ICMP_BYTES 8
#define ARP_BYTES 28

#define ETHERTYPE_LEAST 0x0600 // below: the length of an LLC frame
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_LLC 0x8870 // an LLC frame whose length does not fit into the field

#define LLC_BYTES 3
#define SNAP_BYTES 8 // with the LLC header
#define LLC_SAP_SNAP 0xaa
#define LLC_SAP_IP 0x06
#define LLC_SAP_ARP 0x98

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_SCTP 132
#define PROTOCOL_UDPLITE 136

enum { UDP_SOURCE = 0, UDP_DESTINATION = 2, UDP_LENGTH = 4, UDP_CHECKSUM = 6 };

#define ECN_MASK 3
#define ECN_NOT_ECT 0
#define ECN_ECT1 1
#define ECN_ECT0 2
#define ECN_CE 3

// Wire order to host order and back. DPDK's are assembly that the compiler cannot see through.
static inline uint16_t
be16(uint16_t v)
{
	return __builtin_bswap16(v);
}
static inline uint32_t
be32(uint32_t v)
{
	return __builtin_bswap32(v);
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "x86, arm64");

static inline uint16_t
load16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t
load32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t
load64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void
store16(void *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void
store32(void *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void
store64(void *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline uint16_t
load16_be(const void *p)
{
	return be16(load16(p));
}
static inline void
store16_be(void *p, uint16_t v)
{
	store16(p, be16(v));
}

// The six bytes of a MAC in the low bits, to compare in one go. Reads 6 bytes, not 8.
static inline uint64_t
load_mac(const void *p)
{
	return (uint64_t)load32(p) | (uint64_t)load16((const uint8_t *)p + 4) << 32;
}

#define MAC_BROADCAST 0xffffffffffffull
static inline bool
mac_is_group(uint64_t mac)
{
	return mac & 1;
}

// Folds a sum of 16-bit words to 16 bits. Byte order does not matter (RFC 1071 section 2).
static inline uint16_t
checksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

// Sum of `len` bytes (a multiple of 4), in wire order, not folded.
static inline uint64_t
checksum_sum32(const void *p, uint32_t len)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < len; i += 4)
		sum += load32((const uint8_t *)p + i);
	return sum;
}

// RFC 1624 equation 3: a 16-bit word of the header changes from `old` to `new`. All in one byte
// order.
static inline uint16_t
checksum_update(uint16_t checksum, uint16_t old, uint16_t new)
{
	return (uint16_t)~checksum_fold((uint64_t)(uint16_t)~checksum + (uint16_t)~old + new);
}
