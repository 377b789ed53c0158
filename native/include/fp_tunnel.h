// SPDX-License-Identifier: Apache-2.0
//
// Tunnels in the shared tables: a word for each, and what it leads to. A part of fp_types.h, whose rules hold here.
#pragma once

#include <assert.h>
#include <stdint.h>

enum fp_tunnel_state {
	FP_TUNNEL_FREE = 0,
	FP_TUNNEL_UP = 1,
	FP_TUNNEL_UNRESOLVED = 2, // no next hop yet
	FP_TUNNEL_DOWN = 3,       // probes unanswered, no backup (reserved)
	FP_TUNNEL_DYING = 4,
};

// {header slot 20, next-hop group 20, mtu_bytes 16, state 8}, high to low; one release-store is failover.
// mtu_bytes is the underlay's: the largest outer IP packet.
typedef uint64_t fp_tunnel_word;

static inline fp_tunnel_word
fp_tunnel_make(uint32_t header, uint32_t nexthops, uint16_t mtu_bytes, uint8_t state)
{
	return (uint64_t)(header & 0xfffff) << 44 | (uint64_t)(nexthops & 0xfffff) << 24 |
	       (uint64_t)mtu_bytes << 8 | state;
}
static inline uint32_t
fp_tunnel_header(fp_tunnel_word w)
{
	return (uint32_t)(w >> 44);
}
static inline uint32_t
fp_tunnel_nexthops(fp_tunnel_word w)
{
	return (uint32_t)(w >> 24) & 0xfffff;
}
static inline uint16_t
fp_tunnel_mtu(fp_tunnel_word w)
{
	return (uint16_t)(w >> 8);
}
static inline uint8_t
fp_tunnel_state(fp_tunnel_word w)
{
	return (uint8_t)w;
}

// Outer header of a tunnel, ready to copy. Immutable once published: a change takes a free slot.
#define FP_HEADER_BYTES_MAX 72
struct fp_header {
	uint8_t bytes[FP_HEADER_BYTES_MAX]; // outer IP, UDP, VXLAN; lengths, checksum, port, id are patched
	uint8_t len_bytes;                  // 36 for VXLAN over IPv4
	uint8_t protocol;                   // enum fp_protocol
	uint8_t dscp_copy;                  // take DSCP from the inner packet
	uint8_t ipv6;                       // reserved
	uint16_t checksum_base; // folded sum of the IPv4 header's words as in memory; length, TOS, checksum 0
	uint16_t zero;
	uint8_t pad[48];
};
static_assert(sizeof(struct fp_header) == 128, "fp_header");

// Immutable once published.
#define FP_NEXTHOPS_MAX 4
struct fp_nexthop {
	uint8_t destination_mac[6];
	uint8_t source_mac[6];
	uint16_t port; // index
	uint16_t vlan; // 0: untagged
};
static_assert(sizeof(struct fp_nexthop) == 16, "fp_nexthop");

struct fp_nexthop_group {
	struct fp_nexthop hop[FP_NEXTHOPS_MAX];
	uint8_t count;
	uint8_t zero[63];
};
static_assert(sizeof(struct fp_nexthop_group) == 128, "fp_nexthop_group");

// What housekeeping knows of a tunnel beside its word.
struct fp_tunnel_info {
	uint64_t object_id; // id under which clients name it
	uint64_t profile_id;
	uint8_t local[16];
	uint8_t remote[16];
	uint64_t node_id;
	uint64_t revision;
	uint16_t udp_port; // host order
	uint16_t mtu_bytes;
	uint8_t protocol;
	uint8_t ttl;
	uint8_t dscp;
	uint8_t dscp_copy;
	uint32_t references;  // locations and sets that name it
	uint64_t backup_id;   // reserved
	uint64_t incarnation; // store incarnation that the revision belongs to
	uint8_t zero[32];
};
static_assert(sizeof(struct fp_tunnel_info) == 128, "fp_tunnel_info");

enum fp_set_mode {
	FP_SET_ENTROPY = 1, // by entropy and weight
	FP_SET_FIRST = 2,   // the first that is up
	FP_SET_ALL = 3,     // reserved
};
#define FP_SET_MEMBERS_MAX 16
struct fp_tunnel_set { // immutable once published
	uint64_t object_id;
	uint32_t tunnel[FP_SET_MEMBERS_MAX];
	uint8_t weight[FP_SET_MEMBERS_MAX];
	uint8_t mode;
	uint8_t count;
	uint8_t zero[38];
};
static_assert(sizeof(struct fp_tunnel_set) == 128, "fp_tunnel_set");
