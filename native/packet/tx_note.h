// SPDX-License-Identifier: Apache-2.0
//
// What is to be counted of a frame once the device has taken it, and what waits for a port. One poll thread.
#pragma once

#include "fp_thread.h"
#include "packet.h"

// As what a sent frame is counted, once the device has taken it.
enum tx_kind { TX_FORWARDED, TX_DELIVERED, TX_RELAYED, TX_ANSWERED, TX_ICMP, TX_OWN };

// What to count when the device has taken a frame.
struct tx_note {
	uint16_t vnet;
	uint16_t length; // of what follows the inner Ethernet header
	uint32_t tally;  // tx_tally()
};
#define TX_TUNNEL_BITS 20 // as many as a tunnel word's indexes have
static inline uint32_t
tx_tally(enum tx_kind kind, uint32_t tunnel, uint32_t added_bytes)
{
	return (uint32_t)kind << 29 | added_bytes / 2 << TX_TUNNEL_BITS | tunnel;
}
// The same of another kind.
static inline uint32_t
tx_tally_as(uint32_t tally, enum tx_kind kind)
{
	return (tally & ~(7u << 29)) | (uint32_t)kind << 29;
}
// Whether they count the same but for tunnel and length.
static inline bool
tx_notes_alike(const struct tx_note *a, const struct tx_note *b)
{
	static_assert(sizeof(*a) == 8 && offsetof(struct tx_note, tally) == 4);
	return ((load64(a) ^ load64(b)) & (~0ull << (32 + TX_TUNNEL_BITS) | 0xffff)) == 0;
}
static inline enum tx_kind
tx_kind_of(uint32_t tally)
{
	return (enum tx_kind)(tally >> 29);
}
static inline uint32_t
tx_tunnel_of(uint32_t tally)
{
	return tally & ((1u << TX_TUNNEL_BITS) - 1);
}
static inline uint32_t
tx_added_of(uint32_t tally)
{
	return (tally >> TX_TUNNEL_BITS & 0x1ff) * 2;
}

struct tx_batch {
	struct rte_mbuf *mbuf[FP_BURST];
	struct tx_note note[FP_BURST];
	uint32_t n;
};
