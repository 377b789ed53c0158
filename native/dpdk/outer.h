// SPDX-License-Identifier: Apache-2.0
//
// Outer headers as they stand in front of a packet, Ethernet and all: made once from a tunnel's
// word, header slot and next hop, kept by each poll thread for itself, made anew when the arena's
// generation says that something may have changed. So a packet costs two lines of these instead of
// five of the tables, and failing over stays one store of the writer's.
#pragma once

#include "thread.h"

#define OUTER_ROOM 64      // headroom that a packet needs to be encapsulated
#define OUTER_TUNNELS 1024 // sets; tunnels whose low bits are equal take turns

struct outer {
	uint8_t bytes[OUTER_ROOM]; // the header at the end, zeros before
	uint64_t usual;      // outer_name(), if this is all there is to know; 0: there is more
	uint32_t generation; // 0: never made
	uint32_t tunnel;
	struct tx_batch *batch; // of its port
	uint32_t way;           // tx_way(), without a kind
	uint16_t len_bytes;     // 50; 54 with a tag
	uint16_t inner_mtu_bytes;
	uint16_t checksum_base; // of the IPv4 header, without length, TOS and checksum
	uint8_t tos;            // of what is not IP
	uint8_t tos_own;        // of what is: own | inner & from_inner (RFC 6040 section 4.1)
	uint8_t tos_from_inner;
	uint8_t ttl;
	uint8_t hops;   // of the tunnel
	uint8_t hop;    // which one of them this is
	uint16_t fault; // enum fp_drop_reason: why nothing can be sent; else 0
	uint8_t zero[22];
};
static_assert(sizeof(struct outer) == 128, "outer");

static inline uint64_t
outer_name(const struct fp_thread *t, uint32_t tunnel)
{
	return (uint64_t)tunnel << 32 | t->generation;
}

#pragma GCC visibility push(hidden)
void outer_make(struct fp_thread *t, struct outer *outer, uint32_t tunnel, uint32_t hop);
// A tunnel of a set, for this packet. 0: there is no such set.
uint32_t outer_choose(const struct fp_thread *t, uint32_t set, uint32_t entropy);
#pragma GCC visibility pop

static inline struct outer *
outer_slot(const struct fp_thread *t, uint32_t tunnel)
{
	return &t->outer[tunnel % OUTER_TUNNELS * FP_NEXTHOPS_MAX];
}

static inline struct outer *
outer_at(struct fp_thread *t, uint32_t tunnel, uint32_t hop)
{
	struct outer *outer = outer_slot(t, tunnel) + hop;

	if (unlikely(outer->generation != t->generation || outer->tunnel != tunnel))
		outer_make(t, outer, tunnel, hop);
	return outer;
}

static inline const struct outer *
outer_of(struct fp_thread *t, uint32_t tunnel, uint32_t entropy)
{
	const struct outer *outer = outer_at(t, tunnel, 0);

	if (unlikely(outer->hops > 1))
		outer = outer_at(t, tunnel, (entropy >> 16) % outer->hops);
	return outer;
}
